"""The model against its peer: ALBERT-base forward, and masked language modelling with gradients."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertModel
from benchmarks.contender import floating_point_operations, needed_products
from benchmarks.turns import contender, take_turns

BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
BATCH_SIZE, SEQUENCE_LENGTH = 8, 128
LABELLED = 0.15
SEED = 0
OURS, PEER, ROOF = "albert_np", "transformers", "matmul"
WORKS = {"forward": AlbertModel, "forward_backward": AlbertForMaskedLM}

# Two right float32 results of the same formulas differ from the float64 one by the same kind of
# noise, drawn twice. Sums in another order or an exp of another library make one noisier than the
# other by a small factor. A lower precision (bfloat16, TF32) or a wrong term is hundreds of times
# noisier.
NOISE_MULTIPLE = 4


def make_batch(config, batch_size, sequence_length, generator):
    """Random words, of which some are to be predicted.

    Returns
    -------
    batch : dict
        `input_ids` and `labels`, integer arrays of shape (B, S), without padding.
    """
    shape = (batch_size, sequence_length)
    words, predicted = generator.integers(config.pad_token_id + 1, config.vocab_size, (2, *shape))
    labels = np.full(shape, -100)
    places = generator.permutation(labels.size)[: max(1, round(LABELLED * labels.size))]
    labels.flat[places] = predicted.flat[places]
    return {"input_ids": words, "labels": labels}


def largest_error(outputs, reference):
    """How far outputs are from the reference, in the array where they are farthest.

    Parameters
    ----------
    outputs, reference : dict of str to array

    Returns
    -------
    error : float
        The largest ‖output − reference‖ / ‖reference‖. One wrong element of n would make it about
        1/√n.
    """

    def error(name):
        # A key's bias moves all scores of a query alike, which softmax does not see. Its gradient
        # is zero but for rounding, which is judged by the scale of the query's.
        scale = np.linalg.norm(reference[name.replace("key.bias", "query.bias")])
        return float(np.linalg.norm(outputs[name] - reference[name]) / scale)

    return max(error(name) for name in reference)


def rounding_limit(products, dtype):
    """The relative error that rounding may cause in the result of these matrix products.

        u √(Σ_products k),   u the unit roundoff, k the length of the product's sums

    Each addition rounds by at most u of what is summed, now up, now down: k of them add up like a
    random walk, to u √k (Higham, Mary 2019), and so do the products that follow each other.
    """
    lengths = sum(left[-1] for left, _ in products)
    return float(np.finfo(dtype).eps / 2 * np.sqrt(lengths))


def checked(errors, limit):
    """Which contenders are right.

    Parameters
    ----------
    errors : dict of str to float
        `largest_error` of each contender's float32, the NumPy reference among them.
    limit : float
        `rounding_limit`. The reference must keep within it; what it then makes use of is the noise
        floor, and the others must keep within NOISE_MULTIPLE of that.

    Returns
    -------
    checks : dict of str to dict
        `error`, `limit`, `correct`.
    """
    limits = dict.fromkeys(errors, NOISE_MULTIPLE * min(errors[OURS], limit)) | {OURS: limit}
    return {
        name: {"error": error, "limit": limits[name], "correct": bool(error <= limits[name])}
        for name, error in errors.items()
    }


def compare(work, model, batch, *, peers, rounds, threads, progress):
    """Check, then time, one piece of work: ours, the peers, and the roof.

    Parameters
    ----------
    work : {"forward", "forward_backward"}
    model : AlbertModel or AlbertForMaskedLM
        Its weights are everyone's.
    batch : dict
        Of `make_batch`.
    peers : tuple of str
        Implementations, besides ours, that `contender.WORK` knows.
    rounds, threads : int
    progress : callable
        Is told each step that is done; there are `steps(peers, rounds)` of them.

    Returns
    -------
    dict
        `floating_point_operations` of the needed products, and for each of the `contenders` its
        check, peak memory and timings; one that is wrong has no `seconds`.
    """
    products = needed_products(work, model.config, batch)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        directory = Path(directory)
        model.save_pretrained(directory)
        np.savez(directory / "batch.npz", **batch)
        settings = {
            "work": work,
            "directory": str(directory),
            "batch": str(directory / "batch.npz"),
            "threads": threads,
        }

        def results_of(ask, name):
            file = directory / f"{name}.npz"
            answer = ask(f"check {file}")
            with np.load(file) as arrays:
                outputs = dict(arrays)
            file.unlink()
            progress(f"{name}, check")
            return outputs, answer

        with contender(implementation=OURS, dtype="float64", **settings) as ask:
            reference, _ = results_of(ask, "reference")
        asks, errors, memory = {}, {}, {}
        for name in (OURS, *peers):
            ask = contender(implementation=name, dtype="float32", **settings)
            asks[name] = stack.enter_context(ask)
            outputs, answer = results_of(asks[name], name)
            errors[name] = largest_error(outputs, reference)
            memory[name] = {key: answer[key] for key in ("resident_bytes", "peak_bytes")}
        del reference, outputs
        checks = checked(errors, rounding_limit(products, "float32"))
        right = {name: asks[name] for name in asks if checks[name]["correct"]}
        roof = contender(implementation=ROOF, dtype="float32", **settings)
        timings = take_turns(right | {ROOF: stack.enter_context(roof)}, rounds, progress)
    contenders = {name: checks[name] | memory[name] | timings.get(name, {}) for name in asks}
    return {
        "floating_point_operations": floating_point_operations(products),
        "contenders": contenders | {ROOF: timings[ROOF]},
    }


def steps(peers, rounds):
    """How many steps `compare` reports, when all are right: checks, and turns."""
    return (2 + len(peers)) * (1 + rounds + 1)


def measure(config, batch_size, sequence_length, **settings):
    """All the works, one after the other.

    Parameters
    ----------
    config : AlbertConfig
    batch_size, sequence_length : int
    **settings
        Of `compare`.

    Returns
    -------
    dict
        Ready for JSON; `table.model_rows` reads it.
    """
    batch = make_batch(config, batch_size, sequence_length, np.random.default_rng(SEED))
    return {
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "dtype": "float32",
        "labelled": int((batch["labels"] >= 0).sum()),
        "works": {
            work: compare(work, model(config, seed=SEED), batch, **settings)
            for work, model in WORKS.items()
        },
    }


def measure_base(**settings):
    """What `python -m benchmarks model` measures."""
    return measure(AlbertConfig(**BASE), BATCH_SIZE, SEQUENCE_LENGTH, **settings)


def all_correct(results):
    """Whether every contender passed its check."""
    works = results["works"].values()
    return all(c.get("correct", True) for work in works for c in work["contenders"].values())
