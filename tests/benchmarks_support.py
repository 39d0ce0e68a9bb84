"""What the benchmarks' tests share: a tiny model, and results as they are written."""

from importlib.util import find_spec

from albert_np import AlbertConfig
from benchmarks.arguments import PACKAGES
from benchmarks.measure import Run

CONFIG = AlbertConfig(
    vocab_size=1000,
    embedding_size=16,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
)
PEERS = tuple(name for name, packages in PACKAGES.items() if all(map(find_spec, packages)))
MEMORY = {"resident_bytes": 50_000_000, "peak_bytes": 80_000_000}
CHECK = {"error": 1e-6, "limit": 2e-6, "correct": True, **MEMORY}
CASE = {"batch_size": 8, "sequence_length": 128, "tokens": 1024, "text": None}
NEEDED = {
    "dtype": "float32",
    "operations": 3_000_000_000,
    "padded_operations": 3_000_000_000,
    "bytes": 20_000_000,
}
ROOFS = {
    "matmul": {"operations": 1_500_000_000, "seconds": [0.25, 0.5, 0.75]},
    "copy": {"bytes": 20_000_000, "seconds": [0.001, 0.002, 0.001]},
}


def one_round(reported, peers=PEERS):
    """A run of one round on one thread, of the reference; what it reports is appended."""
    return Run(
        dtype="float32",
        threads=1,
        rounds=1,
        back_ends=("numpy",),
        peers=peers,
        progress=reported.append,
    )


def recorded():
    """Results of `model`, with a peer that is wrong; and of `memory`."""
    return {
        "environment": {
            "date": "2026-01-02",
            "python": "3.11.7",
            "packages": {"numpy": "2.4.6", "torch": None},
            "blas": "openblas 0.3",
            "system": "Linux x86_64",
            "cpu": "Example CPU",
            "cores": 2,
            "threads": 2,
        },
        "model": [
            {
                "work": "forward",
                **CASE,
                **NEEDED,
                "contenders": {
                    "numpy": {**CHECK, "seconds": [1.0, 4.0, 3.0]},
                    "transformers": {**CHECK, "seconds": [1.0, 2.0, 2.0]},
                    "onnxruntime": {**CHECK, "error": 3e-3, "correct": False},
                    **ROOFS,
                },
            },
            {
                "work": "forward",
                **CASE,
                "text": {"file": "a.txt", "vocabulary": "spiece.model"},
                "tokens": 512,
                **NEEDED,
                "padded_operations": 6_000_000_000,
                "contenders": {
                    "numpy": {**CHECK, "seconds": [2.0, 2.0, 2.0]},
                    "transformers": {**CHECK, "seconds": [4.0, 4.0, 4.0]},
                    **ROOFS,
                },
            },
        ],
        "memory": [
            {
                "work": "training",
                "hidden_size": 768,
                "layers": 12,
                **CASE,
                "dtype": "float32",
                "weights_bytes": 900_000_000,
                "contenders": {"numpy": MEMORY},
            }
        ],
    }


MARKDOWN = """\
| work | by | GFLOP | MB | ms | × transformers | × onnxruntime | of the roof | padding counted | \
peak MB | error |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| AlbertModel, forward, 8×128 | numpy | 3 | 20 | 3000 (1000–4000) | 0.67 (0.50–1.00) |  | \
50% (25%–50%), products |  | 30 | 1.0e-06 ≤ 2.0e-06 |
| AlbertModel, forward, 8×128 | transformers | 3 | 20 | 2000 (1000–2000) |  |  | \
50% (50%–75%), products |  | 30 | 1.0e-06 ≤ 2.0e-06 |
| AlbertModel, forward, 8×128 | onnxruntime | 3 | 20 | wrong, not timed |  |  |  |  |  | \
3.0e-03 > 2.0e-06 |
| AlbertModel, forward, 8×128 | matmul | 3 | 20 | 3 (2–6) GFLOP/s |  |  |  |  |  |  |
| AlbertModel, forward, 8×128 | copy | 3 | 20 | 20 (10–20) GB/s |  |  |  |  |  |  |
| AlbertModel, forward, 8×128 of a.txt, 512 of 1024 tokens real | numpy | 3 | 20 | \
2000 (2000–2000) | 2.00 (2.00–2.00) |  | 50% (25%–75%), products | 100% (50%–150%) | 30 | \
1.0e-06 ≤ 2.0e-06 |
| AlbertModel, forward, 8×128 of a.txt, 512 of 1024 tokens real | transformers | 3 | 20 | \
4000 (4000–4000) |  |  | 25% (12%–38%), products | 50% (25%–75%) | 30 | 1.0e-06 ≤ 2.0e-06 |
| AlbertModel, forward, 8×128 of a.txt, 512 of 1024 tokens real | matmul | 3 | 20 | \
3 (2–6) GFLOP/s |  |  |  |  |  |  |
| AlbertModel, forward, 8×128 of a.txt, 512 of 1024 tokens real | copy | 3 | 20 | \
20 (10–20) GB/s |  |  |  |  |  |  |

2026-01-02: Example CPU, 2 cores; threads: 2; Python 3.11.7, numpy 2.4.6; openblas 0.3

| work | by | weights, MB | peak above them, MB | the process's peak, MB |
| --- | --- | ---: | ---: | ---: |
| AlbertForMaskedLM, loss and gradients, 8×128 | numpy | 900 | 30 | 80 |

2026-01-02: Example CPU, 2 cores; threads: 2; Python 3.11.7, numpy 2.4.6; openblas 0.3"""
