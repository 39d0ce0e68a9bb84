"""The benchmarks, but for their timings: what they accept, check, compute and print."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import benchmarks.__main__ as command
from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertModel
from benchmarks import contender, memory, model, resident, table, turns
from benchmarks.environment import cores, environment

CONFIG = AlbertConfig(
    vocab_size=100,
    embedding_size=16,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=16,
)
PEERS = (model.PEER,) if find_spec("torch") and find_spec("transformers") else ()

CHECK = {"error": 1e-6, "limit": 2e-6, "correct": True}
MEMORY = {"resident_bytes": 50_000_000, "peak_bytes": 80_000_000}
RECORDED = {
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
    "model": {
        "works": {
            "forward": {
                "floating_point_operations": 3_000_000_000,
                "contenders": {
                    "albert_np": {**CHECK, **MEMORY, "seconds": [1.0, 4.0, 3.0]},
                    "transformers": {**CHECK, **MEMORY, "seconds": [1.0, 2.0, 2.0]},
                    "matmul": {"seconds": [0.5, 1.0, 1.5]},
                },
            },
            "forward_backward": {
                "floating_point_operations": 9_000_000_000,
                "contenders": {
                    "albert_np": {**CHECK, **MEMORY, "seconds": [9.0, 9.0, 9.0]},
                    "transformers": {"error": 3e-3, "limit": 4e-6, "correct": False, **MEMORY},
                    "matmul": {"seconds": [4.5, 4.5, 4.5]},
                },
            },
        }
    },
    "memory": {"sequence_length": 128, "dtype": "float32", "weights_bytes": 900_000_000, **MEMORY},
}
MARKDOWN = """\
| ALBERT-base | time, s | albert_np's time to its | matrix-multiply time to its | \
memory above the model, MB | error |
| --- | ---: | ---: | ---: | ---: | ---: |
| AlbertModel, forward: albert_np | 3.000 (1.000–4.000) |  | 0.50 (0.25–0.50) | 30 | \
1.0e-06 (at most 2.0e-06) |
| AlbertModel, forward: transformers | 2.000 (1.000–2.000) | \
1.50 (1.00–2.00); goal: at most 1.6 | 0.50 (0.50–0.75) | 30 | 1.0e-06 (at most 2.0e-06) |
| AlbertModel, forward: matmul | 1.000 (0.500–1.500) |  | 3 (2–6) GFLOP/s |  |  |
| AlbertForMaskedLM, loss and gradients: albert_np | 9.000 (9.000–9.000) |  | \
0.50 (0.50–0.50) | 30 | 1.0e-06 (at most 2.0e-06) |
| AlbertForMaskedLM, loss and gradients: transformers | wrong, not timed |  |  |  | \
3.0e-03 (at most 4.0e-06) |
| AlbertForMaskedLM, loss and gradients: matmul | 4.500 (4.500–4.500) |  | 2 (2–2) GFLOP/s |  |  |

| ALBERT-xxlarge | MB |
| --- | ---: |
| weights | 900 |
| one sentence of 128 tokens, forward, float32: above the weights | 30 |
| goal: at most | 1500 |

2026-01-02: Example CPU, 2 cores; threads: 2; Python 3.11.7, numpy 2.4.6; openblas 0.3"""


def silent(step):
    """Progress that nobody watches."""


# What the command accepts.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", "--rounds", "4"], "--rounds is 4; expected at least 5"),
        (["model", "--threads", "0"], "--threads is 0; expected 1 to"),
        (["model", "--threads", str(cores() + 1)], f"expected 1 to {cores()}, the cores there are"),
        (["model", "--json", "absent/results.json"], "absent/results.json cannot be written"),
        (["memory", "--json", "absent/results.json"], "absent/results.json cannot be written"),
        (["memory", "--json", "."], ". cannot be written: it is a directory"),
        (["table", "absent.json"], "absent.json"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err and printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"model": {}}', '{"environment": {}}',
        '{"environment": {"packages": {}}, "memory": 3}',
    ],
)  # fmt: skip
def test_a_file_without_results_is_named(text, tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text(text)
    assert command.main(["table", str(path)]) == 2
    printed = capsys.readouterr().err
    assert str(path) in printed and printed.count("\n") == 1


def test_an_absent_peer_is_one_line_and_status_2(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.main(["model"]) == 2
    printed = capsys.readouterr().err
    assert "the peer is not installed" in printed and printed.count("\n") == 1


# What is computed.


def test_a_summary_is_median_minimum_and_maximum():
    assert table.summary([3.0, 1.0, 2.0, 10.0, 2.5]) == (2.5, 1.0, 10.0)
    assert f"{table.summary([3.0, 1.0, 2.0]):.1f}" == "2.0 (1.0–3.0)"


@given(
    theirs=st.lists(st.floats(0.1, 10), min_size=1, max_size=9),
    factor=st.floats(0.1, 10),
    data=st.data(),
)
def test_ratios_are_taken_round_by_round(theirs, factor, data):
    # Whatever a round costs both, a constant factor between them is the ratio of every round.
    theirs = data.draw(st.permutations(theirs))
    ours = [factor * seconds for seconds in theirs]
    ratios = table.ratios({"seconds": ours}, {"seconds": theirs})
    np.testing.assert_allclose(ratios, factor, rtol=4 * np.finfo(float).eps)  # one *, one /


def test_ratios_refuse_unequal_rounds():
    with pytest.raises(ValueError):
        table.ratios({"seconds": [1.0, 2.0]}, {"seconds": [1.0]})


@given(st.floats(1e-6, 1), st.sampled_from(["a", "b"]))
def test_the_error_is_that_of_the_worst_array(error, wrong):
    reference = {"a": np.full((2, 3), 5.0), "b": np.array(1e-3)}
    outputs = reference | {wrong: reference[wrong] * (1 + error)}
    # The sum 1 + error is rounded to one unit in the last place of 1.
    np.testing.assert_allclose(
        model.largest_error(outputs, reference), error, rtol=1e-12, atol=4 * np.finfo(float).eps
    )


def test_a_key_bias_is_judged_by_the_scale_of_the_querys():
    reference = {"query.bias": np.array([2.0]), "key.bias": np.array([1e-20])}
    outputs = reference | {"key.bias": np.array([1e-6])}
    np.testing.assert_allclose(model.largest_error(outputs, reference), 5e-7, rtol=1e-12)


def test_others_are_held_to_the_noise_of_ours():
    checks = model.checked({"albert_np": 1e-6, "near": 4e-6, "far": 5e-6}, limit=1e-5)
    assert {name: check["correct"] for name, check in checks.items()} == {
        "albert_np": True,
        "near": True,
        "far": False,
    }


def test_noise_of_ours_beyond_rounding_is_wrong_and_excuses_nobody():
    checks = model.checked({"albert_np": 1e-3, "other": 1e-3}, limit=1e-5)
    assert not checks["albert_np"]["correct"] and not checks["other"]["correct"]


def test_the_limit_is_far_below_a_lower_precision():
    forward = contender.forward_products(AlbertConfig(**model.BASE), 8, 128, labelled=154)
    products = [*forward, *contender.backward_products(forward)]
    # float16 and TF32 keep 11 bits, so each operand alone is off by about 2⁻¹².
    assert model.rounding_limit(products, "float32") < 2**-12 / 4


def products_of(trace):
    """The factors of each matrix product that a trace ran."""
    for operation in trace:
        arguments = operation.inputs
        if operation.function.__name__ == "linear_forward":
            x, weight = arguments["x"], arguments["weight"]
            yield (x.size // x.shape[-1], x.shape[-1]), weight.T.shape
        elif operation.function.__name__ == "attention_scores_forward":
            B, A, S, D = arguments["query"].shape
            yield (B * A, S, D), (B * A, D, S)
        elif operation.function.__name__ == "attention_context_forward":
            B, A, S, D = arguments["value"].shape
            yield (B * A, S, S), (B * A, S, D)


@pytest.mark.parametrize("model_class", [AlbertModel, AlbertForMaskedLM])
def test_the_roof_does_the_products_that_the_model_does(model_class):
    batch = model.make_batch(CONFIG, 2, 8, np.random.default_rng(0))
    trace = model_class(CONFIG).trace(input_ids=batch["input_ids"])
    labelled = None if model_class is AlbertModel else batch["labels"].size  # trace: every logit
    products = contender.forward_products(CONFIG, 2, 8, labelled)
    assert sorted(products) == sorted(products_of(trace))


def test_backward_does_twice_the_operations_of_forward():
    products = contender.forward_products(CONFIG, 2, 8, labelled=3)
    forward = contender.floating_point_operations(products)
    backward = contender.floating_point_operations(contender.backward_products(products))
    assert backward == 2 * forward
    assert contender.floating_point_operations([((4, 2, 3), (4, 3, 5))]) == 2 * 4 * 2 * 3 * 5


@given(st.integers(1, 8), st.integers(1, 16), st.integers(0, 2**32))
def test_a_batch_is_labelled_in_part_and_never_padding(batch_size, sequence_length, seed):
    generator = np.random.default_rng(seed)
    batch = model.make_batch(CONFIG, batch_size, sequence_length, generator)
    size = batch_size * sequence_length
    assert (batch["labels"] != -100).sum() == max(1, round(0.15 * size))
    assert batch["input_ids"].shape == batch["labels"].shape == (batch_size, sequence_length)
    assert (batch["input_ids"] > CONFIG.pad_token_id).all()


@pytest.mark.skipif(not resident.is_counted(), reason="resident memory is not counted here")
def test_the_peak_of_memory_is_seen_and_begins_anew():
    resident.reset_peak()
    before = resident.peak_bytes()
    np.ones(50_000_000, np.uint8)  # and gone again
    assert resident.peak_bytes() - before > 40_000_000
    resident.reset_peak()
    assert resident.peak_bytes() - before < 40_000_000


# Whole runs, of a tiny model.


@pytest.fixture(scope="module")
def measured():
    steps = []
    results = model.measure(CONFIG, 2, 8, peers=PEERS, rounds=1, threads=1, progress=steps.append)
    return results, steps


def test_a_run_checks_then_times_every_contender(measured):
    results, steps = measured
    assert len(steps) == len(model.WORKS) * model.steps(PEERS, rounds=1)
    assert model.all_correct(results)
    for work in model.WORKS:
        contenders = results["works"][work]["contenders"]
        assert list(contenders) == ["albert_np", *PEERS, "matmul"]
        for name, result in contenders.items():
            assert len(result["seconds"]) == 1 and result["seconds"][0] > 0
            assert result["idle_cpu_seconds"] >= 0
            if name != "matmul":
                assert 0 < result["error"] <= result["limit"]
                assert {"resident_bytes", "peak_bytes"} <= result.keys()


def test_a_run_becomes_json_and_a_table(measured):
    results, _ = measured
    document = {"environment": environment(threads=1), "model": results}
    assert json.loads(json.dumps(document)) == document
    rows = table.model_rows(document)
    assert len(rows) == len(model.WORKS) * (2 + len(PEERS))
    assert all(len(row) == len(table.MODEL_COLUMNS) for row in rows)


def test_a_wrong_contender_is_reported_and_not_timed(monkeypatch):
    monkeypatch.setattr(model, "largest_error", lambda outputs, reference: 1.0)
    batch = model.make_batch(CONFIG, 2, 8, np.random.default_rng(0))
    result = model.compare(
        "forward", AlbertModel(CONFIG), batch, peers=(), rounds=1, threads=1, progress=silent
    )
    ours = result["contenders"]["albert_np"]
    assert not ours["correct"] and "seconds" not in ours
    assert not model.all_correct({"works": {"forward": result}})


def test_a_contender_that_ends_is_named(capfd):
    with (
        turns.contender(1, implementation="albert_np", work="forward", batch="absent.npz") as ask,
        pytest.raises(turns.ContenderEnded, match="albert_np, forward: .* ended with status 1"),
    ):
        ask("turn")
    assert "Error" in capfd.readouterr().err  # its own last words


@pytest.mark.skipif(not resident.is_counted(), reason="resident memory is not counted here")
def test_memory_of_a_tiny_model():
    result = memory.measure(CONFIG, 8)
    arrays = AlbertModel(CONFIG).parameters.values()
    assert result["weights_bytes"] == sum(4 * array.size for array in arrays)
    assert result["peak_bytes"] >= result["resident_bytes"] > 0


# What is printed and written.


def test_the_markdown_table(tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RECORDED))
    assert command.main(["table", str(path)]) == 0
    assert capsys.readouterr().out == MARKDOWN + "\n"


@pytest.mark.skipif(not resident.is_counted(), reason="resident memory is not counted here")
def test_the_memory_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "measure_xxlarge", lambda: RECORDED["memory"])
    path = tmp_path / "results.json"
    assert command.main(["memory", "--json", str(path)]) == 0
    assert "above the weights" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert written["memory"] == RECORDED["memory"]
    assert written["environment"].keys() == environment(1).keys()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("works", "status"), [(["forward"], 0), (["forward_backward"], 1)])
def test_the_model_command_prints_writes_and_tells_a_wrong_result(
    works, status, tmp_path, monkeypatch, capsys
):
    recorded = {"works": {work: RECORDED["model"]["works"][work] for work in works}}
    monkeypatch.setattr(command, "find_spec", lambda name: True)
    monkeypatch.setattr(model, "measure_base", lambda **settings: recorded)
    path = tmp_path / "results.json"
    assert command.main(["model", "--threads", "1", "--json", str(path)]) == status
    assert "matmul" in capsys.readouterr().out
    assert json.loads(path.read_text())["model"] == recorded
