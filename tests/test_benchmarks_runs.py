"""Whole runs of the benchmarks, of a tiny model; no time is looked at."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from benchmarks_support import CONFIG, PEERS, one_round

import benchmarks.__main__ as command
from albert_np.config import SIZES
from benchmarks import (
    arguments,
    batches,
    correct,
    kernels,
    measure,
    memory,
    model,
    resident,
    results,
    scaling,
    table,
    turns,
)
from benchmarks.contenders.__main__ import MODULES
from benchmarks.functions import DIRECTIONS, FUNCTIONS, function_work, inputs_of, sizes_of

ROOFS = ["matmul", "copy"]
SHAPES = {name: CONFIG.to_dict()[name] for name in SIZES["base"]}


def check_timed(record, names):
    """Every contender was checked, then timed; the roofs were timed."""
    assert list(record["contenders"]) == [*names, *ROOFS]
    for name, contender in record["contenders"].items():
        assert len(contender["seconds"]) == 1 and contender["seconds"][0] > 0
        assert contender["idle_cpu_seconds"] >= 0
        if name in names:
            assert contender["correct"] and 0 <= contender["error"] <= contender["limit"]
            assert {"resident_bytes", "peak_bytes"} <= contender.keys()


# The parts.


@pytest.mark.parametrize("work", model.CLASSES)
def test_padded_text_is_timed_by_its_real_tokens_too(work, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The sky is blue.\nIt is.\n")
    steps = []
    run = one_round(steps, peers=())
    record = model.measure(work, CONFIG, batches.text_batch(CONFIG, path, None), run)
    check_timed(record, ["numpy"])
    assert len(steps) == model.steps(work, 1, run)
    assert record["operations"] < record["padded_operations"]
    columns, rows = table.timed_table([record])
    assert "padding counted" in columns and all(len(row) == len(columns) for row in rows)


@pytest.mark.parametrize("lengths", [[8, 8], [8, 5]], ids=["full", "padded"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_peer_computes_the_same_function(function, direction, lengths):
    sizes = sizes_of(CONFIG, 2, 8, lengths)
    batch = inputs_of(function, sizes, seed=0)

    def outputs(name, dtype):
        # In this process, since here it matters what is computed, and not how long it takes.
        module = import_module(f"benchmarks.contenders.{MODULES[name]}")
        settings = {"work": f"{function}_{direction}", "dtype": dtype, "threads": 1}
        task = module.load(settings | {"backend": "numpy"})(batch)
        return measure.real_rows(task.outputs(task.run()), batch)

    reference = outputs("albert_np", "float64")
    floor = correct.largest_error(outputs("albert_np", "float32"), reference, "float32")
    length = function_work(function, direction, sizes, "float32").length
    limit = correct.rounding_limit(length, "float32")
    assert floor <= limit
    peers = kernels.able_peers(function, direction, one_round([]))
    limits = correct.limits(peers, floor, limit, "float32")
    for name in peers:
        found = outputs(name, "float32")
        assert found.keys() == reference.keys()
        assert correct.largest_error(found, reference, "float32") <= limits[name]


@pytest.mark.skipif("onnxruntime" not in PEERS, reason="wants ONNX Runtime")
def test_a_model_that_is_not_optimised_is_refused(tmp_path):
    from benchmarks.contenders import of_onnxruntime

    model.CLASSES["forward"](CONFIG).save_pretrained(tmp_path)
    path = tmp_path / "model.onnx"
    config = of_onnxruntime.export(tmp_path, path)
    config.num_hidden_layers += 1  # more than there are to be fused
    with pytest.raises(of_onnxruntime.NotOptimized, match="'Attention': 2.*expected.*: 3"):
        of_onnxruntime.optimize(path, config)


def test_a_contender_that_ends_is_named(capfd):
    settings = {"implementation": "albert_np", "work": "forward", "threads": 1}
    with (
        turns.contender(settings | {"warm_up": "absent.npz"}) as ask,
        pytest.raises(turns.ContenderEnded, match="albert_np, forward: .* ended with status 1"),
    ):
        ask("turn")
    assert "Error" in capfd.readouterr().err  # its own last words


# The commands.


@pytest.fixture
def tiny(monkeypatch):
    """Each command with a tiny model, one round, and no peers but those that it is given."""
    monkeypatch.setattr(command, "CONFIG", CONFIG)
    monkeypatch.setattr(arguments, "FEWEST_ROUNDS", 1)
    monkeypatch.setattr(arguments, "PEERS", ())


def run_and_read(line, path):
    """Run a command; its status, and the results that it wrote."""
    line = [*line.split(), "--back-ends", "numpy", "--threads", "1", "--json", str(path)]
    status = command.main(line)
    assert {each.name for each in path.parent.iterdir()} <= {
        path.name,
        "a.png",
        "mine.py",
        "wrong.py",
        "raises.py",
    }
    return status, results.read(path)


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "work"), [("model", "forward"), ("training", "training")])
def test_the_model_commands(name, work, tiny, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(arguments, "PEERS", PEERS)
    line = f"{name} --rounds 1 --shapes 2x3 --plot {tmp_path / 'a.png'}"
    status, written = run_and_read(line, tmp_path / "a.json")
    assert status == 0 and is_picture(tmp_path / "a.png")
    (record,) = written[name]
    check_timed(record, ["numpy", *model.able_peers(work, one_round([]))])
    assert record["work"] == work and record["padded_operations"] == record["operations"]
    assert "2×3" in capsys.readouterr().out


def test_the_kernels_command(tiny, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(kernels, "FUNCTIONS", {"embedding": FUNCTIONS["embedding"]})
    line = f"kernels --rounds 1 --shapes 1x2 --plot {tmp_path / 'a.png'}"
    status, written = run_and_read(line, tmp_path / "a.json")
    assert status == 0 and is_picture(tmp_path / "a.png")
    works = [record["work"] for record in written["kernels"]]
    assert works == ["embedding_forward", "embedding_backward"]
    assert list(written["threads"][0]["parts"]) == list(kernels.PARTS)
    assert "both to sum" in capsys.readouterr().out


def test_a_kernel_of_the_users_own_is_timed_if_it_is_right(tiny, tmp_path, capfd):
    (tmp_path / "mine.py").write_text(
        "from albert_np.functions.layer_norm import layer_norm_backward, layer_norm_forward\n"
    )
    (tmp_path / "wrong.py").write_text(
        "def layer_norm_forward(x, weight, bias, eps):\n    return 1.001 * x, None\n"
    )
    (tmp_path / "raises.py").write_text(
        "def layer_norm_forward(x, weight, bias, eps):\n    raise ZeroDivisionError('mine')\n"
    )
    files = ("raises.py", "mine.py", "wrong.py")
    added = " ".join(f"--add {tmp_path / name}:layer_norm" for name in files)
    line = f"kernels --rounds 1 --shapes 1x2 {added}"
    status, written = run_and_read(line, tmp_path / "a.json")
    assert status == 1
    forward, backward = (record["contenders"] for record in written["kernels"])
    right, wrong, raises = (f"{name}.py:layer_norm" for name in ("mine", "wrong", "raises"))
    assert "seconds" in forward[right] and "seconds" in backward[right]
    assert not forward[wrong]["correct"] and "seconds" not in forward[wrong]
    assert not forward[raises]["correct"] and "seconds" not in forward[raises]
    assert "seconds" in forward["numpy"] and wrong not in backward  # which the file lacks
    assert "ZeroDivisionError: mine" in capfd.readouterr().err


@pytest.mark.skipif(not resident.is_counted(), reason="resident memory is not counted here")
def test_the_memory_command(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "CASES", (("training", CONFIG, 1, 4),))
    status, written = run_and_read("memory", tmp_path / "a.json")
    assert status == 0
    (record,) = written["memory"]
    weights = model.CLASSES["training"](CONFIG).parameters.values()
    assert record["weights_bytes"] == sum(4 * array.size for array in weights)
    assert list(record["contenders"]) == ["numpy", "numpy, checkpoint_every=1"]
    for measured in record["contenders"].values():
        assert measured["peak_bytes"] >= measured["resident_bytes"] > 0
    assert "peak above them" in capsys.readouterr().out


def test_forward_packs_what_is_padded_and_training_is_left_to():
    padded = SimpleNamespace(arrays={"attention_mask": None})
    run = one_round([])
    assert model.contenders_of("forward", padded, run)["numpy"]["arguments"] == {"packed": True}
    assert model.contenders_of("training", padded, run)["numpy"]["arguments"] == {}
    full = SimpleNamespace(arrays={})
    assert model.contenders_of("forward", full, run)["numpy"]["arguments"] == {}


def test_the_scaling_command(tiny, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(scaling, "SIZES", {"base": SHAPES})
    series = {"sequence_length": [("base", 1, 2), ("base", 1, 3)]}
    monkeypatch.setattr(scaling, "SERIES", series)
    monkeypatch.setattr(scaling, "WORKS", ("forward",))
    line = f"scaling --rounds 1 --plot {tmp_path / 'a.png'}"
    status, written = run_and_read(line, tmp_path / "a.json")
    assert status == 0 and is_picture(tmp_path / "a.png")
    assert [record["sequence_length"] for record in written["scaling"]] == [2, 3]
    assert "base" in capsys.readouterr().out
