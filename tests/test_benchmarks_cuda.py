"""The measurements on a GPU, as far as they go without one; no time is looked at."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from benchmarks_cuda_support import (
    CONFIG,
    SETTINGS,
    SMALL,
    FakeEvents,
    FaultyExecutor,
    small_case,
    stand_in_machine,
)
from cuda_support import NEEDS_COMPILER
from strict_arrays import strict

import benchmarks.__main__ as command
from albert_np import AlbertModel
from albert_np.backend import NUMPY
from albert_np.kernels.cuda import host, launcher
from benchmarks import correct, difference, figures, picture, results, table
from benchmarks.cuda import cache, cases, contenders, machine, measure, raw, roofs, sanitize, trial
from benchmarks.cuda import model as cuda_model
from benchmarks.cuda import run as cuda_run
from benchmarks.cuda.cases import attention_case
from benchmarks.functions import FUNCTIONS

BFLOAT16 = np.dtype("bfloat16")

# What is accepted.


@pytest.mark.parametrize("error", [ImportError("needs the library cupy"), RuntimeError("no GPU")])
@pytest.mark.parametrize("option", ["", "--sanitize"])
def test_without_a_gpu_it_is_one_line_and_status_2(error, option, monkeypatch, capsys, tmp_path):
    def absent():
        raise error

    monkeypatch.setattr(machine, "CupyExecutor", absent)
    monkeypatch.chdir(tmp_path)
    assert command.main(["cuda", *option.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == f"benchmarks: nothing was measured: {error}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--add absent.cu:layer_norm", "there is no file absent.cu"),
        ("--add mine.cu:layer_norm", "mine.cu has no kernel layer_norm_forward"),
        ("--add mine.cu:linear", "mine.cu can hold one of attention, bias_gelu_new"),
        ("--add mine.cu", "expected path.py:function"),
        ("--json absent/a.json", "absent/a.json cannot be written"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.cu").write_text("template <class T> __global__ void gelu(T* y) {}\n")
    assert command.main(["cuda", *line.split()]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1


# What is measured, and counted.


def test_the_plan_has_every_function_type_and_direction_once():
    plan = cuda_run.plan()
    keys = [difference.key(case.named) for case in plan]
    assert len(set(keys)) == len(keys)
    functions = {(c.function, c.direction, c.precision) for c in plan if isinstance(c, cases.Case)}
    of_kernels = {"attention", "linear", "linear_cross_entropy", "embedding", *cases.ROW_FUNCTIONS}
    assert functions == {
        (function, direction, precision)
        for function in of_kernels
        for direction in ("forward", "backward")
        for precision in (*cases.DTYPES, *(["tf32"] if function in cases.PRODUCTS else []))
    }
    models = [c for c in plan if isinstance(c, cuda_model.ModelCase)]
    assert {(c.work_name, c.size) for c in models} == {
        ("forward", "base"),
        ("forward", "xxlarge"),
        ("training", "base"),
        ("training", "xxlarge"),
    }


def test_the_most_important_works_are_measured_first():
    plan = cuda_run.plan()
    models = [index for index, case in enumerate(plan) if not isinstance(case, cases.Case)]
    first, others = plan[: models[0]], plan[models[-1] + 1 :]
    assert models == [*range(models[0], models[-1] + 1)]
    kinds = [(case.function, case.direction, case.is_padded) for case in first]
    assert len(kinds) == len(set(kinds))
    assert {(case.function, case.direction, case.is_padded) for case in others} <= set(kinds)
    assert all(case.dtype == "bfloat16" for case in plan[: len(first) + len(models)])


def test_late_in_a_run_a_model_is_not_begun_and_a_function_is(small, tmp_path, monkeypatch):
    model_case = cuda_model.ModelCase("forward", "base", CONFIG, 2, 9, "float32")
    function_case = small_case("bias_gelu_new", "forward")
    monkeypatch.setattr(cuda_run, "plan", lambda entries: [model_case, function_case])
    monkeypatch.setattr(trial, "plan", lambda executor: [])
    monkeypatch.setattr(measure, "measure", lambda case, *others: case.named)
    now = iter([0.0])
    monkeypatch.setattr(cuda_run.time, "monotonic", lambda: next(now, cuda_run.SECONDS - 1.0))
    progressed = []
    found, left, failed = cuda_run.run(
        stand_in_machine(), tmp_path / "a.json", [], lambda *step: progressed.append(step)
    )
    assert [record["work"] for record in found["cuda"]] == ["bias_gelu_new_forward"]
    assert left == [model_case.named] and not failed
    assert progressed == [(1, 2, figures.title(function_case.named))]


@pytest.mark.parametrize("width", cases.WIDTHS)
def test_bytes_of_rows_are_what_is_read_and_written_once(width):
    numbers = cases.TOKENS * width
    arrays = {
        ("bias_gelu_new", "forward"): 2,  # x, y
        ("bias_gelu_new", "backward"): 3,  # dy, x, dx
        ("layer_norm", "forward"): 2,
        ("layer_norm", "backward"): 3,  # dy, x, dx
        ("bias_dropout_residual_layer_norm", "forward"): 3,  # x, residual, y
        ("bias_dropout_residual_layer_norm", "backward"): 3,  # dy, the sum, its gradient
    }
    for case in cases.function_cases(cases.ROW_FUNCTIONS):
        count = arrays.get((case.function, case.direction))
        if count is not None and f"{width} columns" == case.detail:
            assert case.work.bytes == count * numbers * np.dtype(case.dtype).itemsize


def test_attention_counts_the_real_tokens():
    for case in cases.function_cases({"attention"}):
        assert len(case.lengths) * case.sequence_length == cases.TOKENS
        assert case.is_padded == ("real" in case.detail)
        needed = case.work
        assert (needed.operations < needed.padded_operations) == case.is_padded
        A, D = case.sizes.A, case.sizes.D
        products = {"forward": 2, "backward": 4}[case.direction]
        squares = sum(length**2 for length in case.lengths)
        elementwise = {"forward": 5, "backward": 4}[case.direction]
        assert needed.operations == squares * A * (2 * products * D + elementwise)


def test_with_kernels_of_the_users_own_only_their_functions_are_measured(tmp_path):
    (tmp_path / "a.py").write_text("def layer_norm_forward(): ...\n")
    plan = cuda_run.plan([f"{tmp_path / 'a.py'}:layer_norm"])
    assert {case.function for case in plan} == {"layer_norm"}


# Correctness.


def test_a_single_wrong_row_is_found():
    reference = np.random.default_rng(0).standard_normal((5000, 8))
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    exact = reference.astype("float32")
    assert correct.farthest_row(exact, reference, "float32") <= 2**-24
    wrong = exact.copy()
    wrong[1234] *= 1.01
    # Over all rows it would be a seventieth of that.
    assert correct.farthest_row(wrong, reference, "float32") > 0.0099
    assert correct.largest_error({"y": wrong}, {"y": reference}, "float32") < 0.01 / 50


def test_a_small_row_is_judged_by_the_others_and_zeros_by_themselves():
    reference = np.array([[1.0, 0.0], [1e-9, 0.0]])
    off = reference + [[0.0, 0.0], [1e-8, 0.0]]
    assert correct.farthest_row(off, reference, "float64") < 2e-8
    assert correct.farthest_row(np.zeros(3), np.zeros(3), "float64") == 0
    assert correct.farthest_row(np.ones(3), np.zeros(3), "float64") == np.inf


@pytest.mark.parametrize(
    "output", [None, np.ones(2, "float32"), np.ones((1, 2)), np.array([1.0, np.nan])]
)
def test_what_is_missing_or_of_another_kind_is_infinitely_wrong(output):
    assert correct.farthest_row(output, np.ones(2), "float64") == np.inf


def test_the_rounding_backend_gives_what_the_type_has():
    backend = correct.rounding_backend("bfloat16")
    x, dy = np.random.default_rng(0).standard_normal((2, 3, 8)).astype("float32")
    bias, slot = x[0].copy(), np.full(8, 0.3, "float32")
    y, cache = backend.bias_gelu_new_forward(x, bias)
    dx, dbias = backend.bias_gelu_new_backward(dy, cache, into=(slot,))
    assert dbias is slot
    exact_y, _ = NUMPY.bias_gelu_new_forward(x, bias)
    for array in (y, dx, slot):
        assert array.dtype == "float32"
        np.testing.assert_array_equal(array, array.astype(BFLOAT16).astype("float32"))
    assert not np.array_equal(exact_y, y)
    np.testing.assert_allclose(y, exact_y, rtol=2**-8)
    assert correct.unit_roundoff("bfloat16") == float(ml_dtypes.finfo(BFLOAT16).eps) / 2


# The clock.


def test_a_turn_rotates_over_all_inputs_and_hides_the_launches(monkeypatch):
    events, order = FakeEvents(), []

    def call(name):
        def run():
            order.append(name)
            events.now += 0.0005  # of work

        return run

    now = iter(np.arange(0, 100, 3.5))  # the host takes 3.5 s to launch the calls
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(now))
    turn = machine.Clock(events).turn_of([call("a"), call("b")])
    order.clear()
    before = events.copies
    answer = turn("turn")
    # Two passes make 2 ms; launching them takes 7 s, and a copy keeps the GPU busy for one.
    assert order == ["a", "b"] * 2
    assert events.copies - before == np.ceil(1.5 * 7)
    np.testing.assert_allclose(answer["seconds"], 0.0005, rtol=1e-9)


def test_a_latency_is_that_of_calls_one_by_one():
    events = FakeEvents()

    def run():
        events.now += 0.25

    turn = machine.Clock(events).turn_of([run], hides_launches=False)
    copies = events.copies
    assert turn("turn")["seconds"] == 0.25 and events.copies == copies


def test_a_flushed_call_finds_a_copy_before_it(monkeypatch):
    events, order = FakeEvents(), []
    durations = iter(np.arange(1, 100) / 1024)

    def run():
        order.append(events.copies)
        events.now += next(durations)

    now = iter(np.arange(0, 100, 1.2))  # the host takes 1.2 s to launch a call
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(machine, "FLUSHED_CALLS", 3)
    turn = machine.Clock(events).flushed_turn_of(run)
    before, begun = events.copies, len(order)
    assert turn("turn")["seconds"] == (begun + 2) / 1024  # the mean of the three
    assert order[begun:] == [before + 2, before + 4, before + 6]  # two seconds' copies hide 1.2


def test_many_short_calls_have_an_end():
    calls = []
    turn = machine.Clock(FakeEvents()).turn_of([lambda: calls.append(1)] * 3)
    calls.clear()
    turn("turn")
    assert len(calls) == machine.MOST_CALLS // 3 * 3


def test_cudas_events_are_waited_for_and_count_milliseconds():
    waited = []

    class Event:
        def record(self):
            self.at = 1500.0 * len(waited)

        def synchronize(self):
            waited.append(self)

    fake = SimpleNamespace(
        uint8=np.uint8,
        zeros=lambda size, dtype: np.zeros(16, dtype),
        zeros_like=np.zeros_like,
        copyto=lambda target, source: waited.append("copy"),
        cuda=SimpleNamespace(Event=Event, get_elapsed_time=lambda start, end: end.at - start.at),
    )
    events = machine.CupyEvents(fake)
    start = events.record()
    events.copy()
    end = events.record()
    assert events.seconds(start, end) == 1.5
    assert waited == ["copy", end]


# A whole measurement, on the stand-in.


@pytest.fixture
def small(monkeypatch):
    """Roofs and rotation of a size for the stand-in, and no peers but those of a test."""
    for module, name, value in SMALL:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(contenders, "PEERS", {"torch": (None, ("no_such_package",))})


def measured(case, entries=()):
    stand_in = stand_in_machine()
    return measure.measure(case, stand_in, lambda dtype: roofs.turns(stand_in, dtype), entries)


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("function", "direction", "dtype", "lengths", "own"),
    [
        ("bias_gelu_new", "forward", "float32", (9, 9), ["cuda", "cuda version 1"]),
        ("bias_gelu_new", "backward", "bfloat16", (9, 9), ["cuda", "cuda version 1"]),
        ("attention", "backward", "float32", (9, 4), ["cuda", "cuda, packed", "cuda version 1"]),
        ("linear_cross_entropy", "forward", "float32", (9, 9), ["cuda", "cuda version 1"]),
        ("linear", "backward", "float32", (9, 9), ["cuda"]),
        ("embedding", "forward", "float32", (9, 9), ["cuda"]),
        (
            *("embedding", "backward", "bfloat16", (9, 9)),
            ["cuda", "cuda version 1", "cuda version 2"],
        ),
    ],
)
def test_each_version_is_checked_and_timed(function, direction, dtype, lengths, own, small):
    case = small_case(function, direction, dtype, lengths)
    record = measured(case)
    assert list(record["contenders"]) == [*own, "matmul", "copy"]
    for name, contender in record["contenders"].items():
        assert len(contender["seconds"]) == measure.ROUNDS
        if name in own:
            assert contender["correct"] and contender["error"] <= contender["limit"]
    assert record["left_out"] == {"torch": "no_such_package is not installed"}
    assert all(isinstance(name, str) for name in record["contenders"]["cuda"]["kernels"])
    floors = record["floors"]
    assert max(floors.values()) < 16 * correct.unit_roundoff(dtype)
    # The embedding copies, each number to another row.
    assert (max(floors.values()) > 0) == (function != "embedding")
    for name in own:
        errors = record["contenders"][name]["errors"]
        assert errors.keys() == floors.keys()
        assert max(errors.values()) == record["contenders"][name]["error"]
    assert json.loads(json.dumps(record, allow_nan=False)) == record


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("function", "direction", "lengths"),
    [
        ("attention", "backward", (9, 4)),
        ("linear", "backward", (9, 9)),
        ("linear_cross_entropy", "backward", (9, 9)),
    ],
)
def test_tf32_is_a_work_of_its_own(function, direction, lengths, small):
    """Named and judged by its own rounding; what float32 may be off by is less."""
    case = small_case(function, direction, "float32", lengths)._replace(allow_tf32=True)
    record = measured(case)
    packed = ["cuda, packed"] if case.is_padded else []
    assert list(record["contenders"]) == ["cuda", *packed, "matmul", "copy"]
    ours = record["contenders"]["cuda"]
    of_float32 = measured(case._replace(allow_tf32=False))["contenders"]["cuda"]
    assert of_float32["limit"] < ours["error"] <= ours["limit"]
    assert record["dtype"] == "tf32" and ", tf32, 32 columns" in figures.title(record)
    kernels = [name for name in ours["kernels"] if name.startswith("attention_")]
    assert all("_3<float, 64>" in name for name in kernels if "delta" not in name)
    assert correct.unit_roundoff("tf32") == 2**-11


@NEEDS_COMPILER
@pytest.mark.parametrize("work", ["forward", "training"])
def test_the_whole_model_is_checked_and_timed(work, small, monkeypatch):
    monkeypatch.setattr(contenders, "find_spec", lambda name: None)
    case = cuda_model.ModelCase(work, "base", CONFIG, 2, 9, cuda_model.DTYPE)
    record = measured(case)
    for name in ("cuda", "cuda, captured"):
        assert record["contenders"][name]["correct"]
        assert len(record["contenders"][name]["seconds"]) == measure.ROUNDS
    assert record["left_out"] == {"transformers": "torch is not installed"}
    assert figures.title(record).endswith("base, 2×9, bfloat16")
    assert json.loads(json.dumps(record, allow_nan=False)) == record


MINE = """\
import numpy as np
from albert_np.functions.fused import bias_gelu_new_backward, bias_gelu_new_forward
"""
WRONG = """\
from albert_np.functions import fused
def bias_gelu_new_forward(x, bias):
    y, cache = fused.bias_gelu_new_forward(x, bias)
    y[0, 3] *= 1.001
    return y, cache
"""
RAISES = "def bias_gelu_new_forward(x, bias):\n    raise ZeroDivisionError('mine')\n"
README = (Path(__file__).parents[1] / "benchmarks/README.md").read_text(encoding="utf-8")
(RAW,) = re.findall(r"^```cuda\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
BACKWARD = """
template <class T>
__global__ void bias_gelu_new_backward(const T* dy, const T* x, const T* bias, T* dx, float* dbias,
                                       int rows, int columns, int sequence_length) {
    int at = columns * blockIdx.x + threadIdx.x;
    if (threadIdx.x >= 32u) return;
    if (blockIdx.x == 0) dbias[threadIdx.x] += 2;
    dx[at] = dy[at];
}
"""


@NEEDS_COMPILER
def test_kernels_of_the_users_own_are_timed_if_they_are_right(small, tmp_path):
    sources = {
        "mine.py": MINE,
        "wrong.py": WRONG,
        "raises.py": RAISES,
        "mine.cu": RAW,
        "bound.cu": RAW.replace("i < columns", "i <= columns"),
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    entries = cuda_run.checked([f"{tmp_path / name}:bias_gelu_new" for name in sources])
    found = measured(small_case("bias_gelu_new", "forward"), entries)["contenders"]
    outcome = {name: found[f"{name}:bias_gelu_new"] for name in sources}
    assert "seconds" in outcome["mine.py"] and "seconds" in outcome["mine.cu"]
    for name in ("wrong.py", "raises.py", "bound.cu"):
        assert not outcome[name]["correct"] and "seconds" not in outcome[name]
    assert outcome["wrong.py"]["error"] > outcome["wrong.py"]["limit"]
    assert outcome["raises.py"]["raised"] == "mine"
    assert "bounds" in outcome["bound.cu"]["raised"]
    assert "seconds" in found["cuda"]


@NEEDS_COMPILER
def test_a_raw_kernel_adds_its_parameters_gradients_to_their_slots(tmp_path):
    path = tmp_path / "mine.cu"
    path.write_text(RAW + BACKWARD)
    _, backward = raw.pair(path, "bias_gelu_new", stand_in_machine().executor)
    dy, slot = strict(np.ones((1, 3, 32), "float32")), strict(np.ones(32, "float32"))
    dx, dbias = backward(dy, {"x": dy, "bias": slot.copy()}, into=(slot,))
    assert dbias is slot and (slot.host == 3).all() and (dx.host == 1).all()


def test_a_peer_that_raises_is_left_out_by_name(small, monkeypatch):
    def fails(given):
        raise RuntimeError("no such\nback end")

    case = small_case("bias_gelu_new", "forward")
    stand_in = stand_in_machine()
    pair = [getattr(NUMPY, f"bias_gelu_new_{each}") for each in ("forward", "backward")]
    own = {"cuda": lambda given: contenders.of_functions(case, pair, given)}
    monkeypatch.setattr(contenders, "ours", lambda case, given: own)
    monkeypatch.setattr(contenders, "launched", lambda case, given: [])
    monkeypatch.setattr(contenders, "peers", lambda case, machine: ({"flash": fails}, {}))
    record = measure.measure(case, stand_in, lambda dtype: roofs.turns(stand_in, dtype))
    assert record["left_out"] == {"flash": "no such back end"}
    assert "flash" not in record["contenders"] and "seconds" in record["contenders"]["cuda"]
    (line,) = table.left_out([record])
    assert line == "left out: flash, of 1 works: no such back end"

    def lost(*shape):
        raise RuntimeError("illegal address")

    monkeypatch.setattr(stand_in.executor, "zeros", lost)
    with pytest.raises(measure.Broken, match="after flash the GPU answers no more: no such"):
        measure.check_alive(stand_in, "flash", "no such")


def test_what_fills_the_memory_is_not_tried():
    case = cases.function_cases({"bias_gelu_new"})[0]
    tiny = stand_in_machine()._replace(free_bytes=lambda: case.work.bytes)
    record = measure.measure(case, tiny, None)
    assert record["contenders"] == {}
    assert "too large for this machine" in table.cuda_row(record)


# The command.


@pytest.fixture
def stand_in(small, monkeypatch):
    """The command, with the stand-in for its GPU, and two cases; nothing is to be tried."""
    plan = [small_case("bias_gelu_new", each) for each in ("forward", "backward")]
    monkeypatch.setattr(command, "gpu", stand_in_machine)
    monkeypatch.setattr(cuda_run, "plan", lambda entries: plan)
    monkeypatch.setattr(trial, "plan", lambda executor: [])
    return plan


@NEEDS_COMPILER
def test_the_command_goes_on_where_it_stopped(stand_in, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "a.json"
    line = ["cuda", "--json", str(path), "--plot", str(tmp_path / "a.png")]
    now = iter([0.0, 0.0, cuda_run.SECONDS + 1.0])
    monkeypatch.setattr(cuda_run.time, "monotonic", lambda: next(now, 0.0))
    assert command.main(line) == 0
    out = capsys.readouterr().out
    assert "1 works are left for want of time" in out
    assert "left for want of time: bias_gelu_new, backward, float32, 1 works" in out
    first = results.read(path)
    assert [record["work"] for record in first["cuda"]] == ["bias_gelu_new_forward"]
    assert command.main(line) == 0
    out = capsys.readouterr().out
    found = results.read(path)
    assert found["cuda"][0] == first["cuda"][0]  # not measured again
    assert [record["work"] for record in found["cuda"]][1:] == ["bias_gelu_new_backward"]
    assert "left for want" not in out and "the stand-in" in out and "cuda version 1" in out
    assert out.rindex("┃ works") > out.rindex("cuda version 1")  # the short one is last
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert command.main(["compare", str(path), str(path)]) == 0
    assert "bias_gelu_new, forward, 2×9, float32, 32 columns" in capsys.readouterr().out
    assert command.main(["table", str(path)]) == 0
    assert "| bias_gelu_new, forward | float32 | 1 |" in capsys.readouterr().out
    other = json.loads(path.read_text())
    other["environment"]["gpu"]["name"] = "another"
    path.write_text(json.dumps(other))
    assert command.main(line) == 2
    assert "was measured where gpu was {'name': 'another'" in capsys.readouterr().err


@NEEDS_COMPILER
def test_a_case_that_fails_does_not_stop_the_others(stand_in, tmp_path, monkeypatch, capsys):
    def fails(case, given):
        if case.direction == "forward":
            raise MemoryError("too little")
        return reference_of(case, given)

    reference_of = measure.reference_of
    monkeypatch.setattr(measure, "reference_of", fails)
    path = tmp_path / "a.json"
    assert command.main(["cuda", "--json", str(path)]) == 1
    assert "not measured: bias_gelu_new, forward, 2×9" in capsys.readouterr().out
    assert [record["work"] for record in results.read(path)["cuda"]] == ["bias_gelu_new_backward"]


# The cache.


def cache_case(dtype="float32"):
    return cache.CacheCase("base", SETTINGS, 1, 9, dtype)


def test_the_passes_differ_in_repetitions_and_in_who_has_the_weights():
    models = cache_case().models
    kinds = [(m.config.num_hidden_layers, m.config.num_hidden_groups) for m in models.values()]
    assert list(models) == [figures.ONE_REPETITION, cache.SHARED, figures.OWN_WEIGHTS]
    assert kinds == [(1, 1), (2, 1), (2, 2)]
    (measured_case,) = cache.cache_cases()
    base = measured_case.models[figures.OWN_WEIGHTS].config
    assert base.num_hidden_layers == base.num_hidden_groups == 12
    assert (measured_case.batch_size, measured_case.sequence_length) == (1, 128)


def test_operations_and_bytes_are_those_of_one_repetition():
    drawn = AlbertModel(CONFIG).parameters
    layer = sum(array.size for name, array in drawn.items() if ".albert_layers." in name)
    assert cache_case().named["weights_bytes"] == 4 * layer
    assert cache_case("bfloat16").named["weights_bytes"] == 2 * layer
    T, H = 9, 32  # the intermediate size is H too
    assert cache_case().named["operations"] == 2 * T * 6 * H * H + 2 * 2 * T * T * H


@NEEDS_COMPILER
def test_the_passes_are_checked_and_timed(small, monkeypatch):
    monkeypatch.setattr(machine, "FLUSHED_CALLS", 1)
    monkeypatch.setattr(cache, "ROUNDS", 2)
    stand_in = stand_in_machine()
    record = cache.measure(cache_case(), stand_in, lambda dtype: roofs.turns(stand_in, dtype))
    passes = {
        name: (part["repetitions"], part["flushed"])
        for name, part in record["parts"].items()
        if name != "copy"
    }
    assert passes == {
        figures.ONE_REPETITION: (1, True),
        cache.SHARED: (2, True),
        cache.WARM: (2, False),
        figures.OWN_WEIGHTS: (2, True),
    }
    assert all(len(part["seconds"]) == 2 for part in record["parts"].values())
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    # On that clock everything takes as long.
    assert [row[3] for row in table.cache_table([record])[1]] == [
        "",
        "too short to tell",
        "",
        "too short to tell",
    ]


@NEEDS_COMPILER
def test_a_wrong_pass_is_not_timed(monkeypatch):
    def off(*arguments, **settings):
        task = bind_ours(*arguments, **settings)

        def outputs(returned):
            return {name: 1.01 * array for name, array in task.outputs(returned).items()}

        return task._replace(outputs=outputs)

    bind_ours = cuda_model.bind_ours
    monkeypatch.setattr(cuda_model, "bind_ours", off)
    with pytest.raises(ValueError, match="the pass with one repetition is off by 1.0e-02"):
        cache.measure(cache_case(), stand_in_machine(), None)


def cache_record():
    """A record of a layer of 10⁹ bytes, that one copy in two seconds moves."""
    parts = {
        figures.ONE_REPETITION: {"repetitions": 1, "flushed": True, "seconds": [1.0, 1.5]},
        cache.SHARED: {"repetitions": 3, "flushed": True, "seconds": [3.0, 3.5]},
        cache.WARM: {"repetitions": 3, "flushed": False, "seconds": [2.0, 2.0]},
        figures.OWN_WEIGHTS: {"repetitions": 3, "flushed": True, "seconds": [7.0, 7.5]},
        "copy": {"bytes": 10**9, "seconds": [2.0, 2.0]},
    }
    needed = {"operations": 2 * 10**9, "weights_bytes": 10**9, "l2_bytes": 5 * 10**7}
    return cache_case().named | needed | {"parts": parts}


def test_a_later_repetition_is_what_is_added_to_the_first():
    columns, rows = table.cache_table([cache_record()])
    assert all(len(row) == len(columns) for row in rows)
    needed = ["2", "1000"]
    assert [row[1:] for row in rows] == [
        [figures.ONE_REPETITION, "1250 (1000–1500)", *[""] * 6, "50"],
        [
            cache.SHARED,
            "3250 (3000–3500)",
            "1000 (1000–1000)",
            *needed,
            "1 (1–1)",
            "2.00 (2.00–2.00)",
            "3.00 (3.00–3.00)",
            "50",
        ],
        [cache.WARM, "2000 (2000–2000)", *[""] * 6, "50"],
        [
            figures.OWN_WEIGHTS,
            "7250 (7000–7500)",
            "3000 (3000–3000)",
            *needed,
            "0 (0–0)",
            "0.67 (0.67–0.67)",
            "1.00 (1.00–1.00)",
            "50",
        ],
    ]


@NEEDS_COMPILER
def test_the_command_writes_and_prints_the_cache(stand_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cuda_run, "plan", lambda entries: [cache_case()])
    monkeypatch.setattr(cache, "measure", lambda *arguments: cache_record())
    path = tmp_path / "a.json"
    assert command.main(["cuda", "--json", str(path)]) == 0
    assert "times the copy" in capsys.readouterr().out
    found = results.read(path)
    assert found["cache"] == [cache_record()] and "cuda" not in found
    monkeypatch.setattr(cache, "measure", None)  # it is not measured again
    assert command.main(["cuda", "--json", str(path)]) == 0
    capsys.readouterr()
    assert command.main(["table", str(path)]) == 0
    assert "| repetitions, base, 1×9, float32 | shared weights |" in capsys.readouterr().out


@NEEDS_COMPILER
def test_every_kernel_is_run_for_the_sanitizer(monkeypatch):
    chosen = sanitize.small_cases()
    assert {case.function for case in chosen} == set(sanitize.FUNCTIONS) <= FUNCTIONS.keys()
    small = [small_case("bias_gelu_new", each) for each in ("forward", "backward")]
    assert sanitize.wrong_kernels(stand_in_machine(), small) == []
    pair = [getattr(NUMPY, f"bias_gelu_new_{each}") for each in ("forward", "backward")]
    broken = [lambda x, bias: (pair[0](1.01 * x, bias)[0], None), pair[1]]
    monkeypatch.setattr(
        contenders,
        "ours",
        lambda case, given: {"cuda": lambda given: contenders.of_functions(case, broken, given)},
    )
    assert sanitize.wrong_kernels(stand_in_machine(), small[:1]) == [
        "bias_gelu_new_forward, float32, cuda"
    ]


# What is not the default yet.


def test_what_is_tried_is_what_the_launcher_would_take_for_a_hopper_gpu(monkeypatch):
    executor = stand_in_machine().executor
    attempts = trial.plan(executor)
    kinds = {
        (
            attempt.case.direction,
            attempt.case.dtype,
            attempt.case.config.hidden_size // attempt.case.config.num_attention_heads,
            attempt.case.is_padded,
            attempt.is_small,
        )
        for attempt in attempts
    }
    every = itertools.product(
        ("forward", "backward"), ("bfloat16", "float16"), (64, 128), (False, True), (False, True)
    )
    assert kinds == set(every)
    assert {attempt.version for attempt in attempts} == {4}
    keys = [difference.key(attempt.named) for attempt in attempts]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & {difference.key(case.named) for case in cuda_run.plan()}
    small = [attempt.is_small for attempt in attempts]
    assert small == sorted(small, reverse=True)  # those first
    # Then one of each kind.
    assert len({trial.kind_of(each.case) for each in attempts[sum(small) :][:16]}) == 16
    monkeypatch.setattr(executor, "capability", (8, 0))
    assert trial.plan(executor) == []
    monkeypatch.setattr(executor, "capability", (9, 0))
    monkeypatch.setattr(launcher, "NOT_RUN_ON_A_GPU_YET", ())
    assert trial.plan(executor) == []


@pytest.fixture
def attempts(stand_in, monkeypatch):
    """The command, with nothing to measure but attempts: forward and backward, small and not."""
    attempts = [
        trial.Attempt(attention_case(direction, "float16", CONFIG, 9, lengths), 4, is_small)
        for lengths, is_small in (((9, 9), True), ((9, 4), False))
        for direction in ("forward", "backward")
    ]
    monkeypatch.setattr(cuda_run, "plan", lambda entries: [])
    monkeypatch.setattr(trial, "plan", lambda executor: attempts)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return attempts


@pytest.fixture
def tried(attempts, tmp_path, monkeypatch, capsys):
    """Run the command with a fault in a kernel; its status, the results, what it printed.

    None of its processes outlives it.
    """
    script = Path(__file__).parent / "benchmarks_cuda_trial.py"
    processes = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **settings):
            processes.append(self)
            super().__init__(*arguments, **settings)

    monkeypatch.setattr(trial.subprocess, "Popen", Recorded)

    def run(kernel="none", fault="", seconds=60):
        monkeypatch.setattr(trial, "COMMAND", [sys.executable, str(script), kernel, fault])
        monkeypatch.setattr(trial, "SILENCE", seconds)
        path = tmp_path / "a.json"
        status = command.main(["cuda", "--json", str(path)])
        assert all(process.poll() is not None for process in processes)
        return status, results.read(path)["trial"], capsys.readouterr().out

    return run


def outcomes(records):
    """The rows of the table without their type."""
    return [(work, *others) for work, _, *others in table.trial_table(records)[1]]


OF_FORWARD, OF_BACKWARD = "attention version 4, forward", "attention version 4, backward"
VERSION, PACKED = "cuda version 4", "cuda version 4, packed"
AS_FAST = "1.00 (1.00–1.00)"  # on that clock everything takes as long
RIGHT = [
    (work, *others)
    for work in (OF_FORWARD, OF_BACKWARD)
    for others in ((VERSION, "right", "2", AS_FAST), (PACKED, "right", "1", AS_FAST))
]


@NEEDS_COMPILER
def test_a_version_that_is_right_is_timed_beside_the_default(tried):
    status, records, out = tried()
    assert status == 0 and outcomes(records) == RIGHT
    small, timed = records[:2], records[2:]
    for record in small:
        assert list(record["contenders"]) == ["cuda", VERSION]
        assert not figures.timed(record)
    for record in timed:
        assert list(record["contenders"]) == [
            *("cuda", "cuda, packed", VERSION, PACKED),
            *figures.ROOFS,
        ]
        assert all(len(each["seconds"]) == 2 for each in record["contenders"].values())
        kernels = record["contenders"]["cuda"]["kernels"]
        assert kernels and not any("_4<" in name for name in kernels)
    assert "not timed" in out and "times as fast as the default" in out


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("is wrong", "wrong, at worst 1.0e+00 > "),
        ("raises", "raised: no such kernel"),
        ("breaks the machine", "after cuda version 4 the GPU answers no more: illegal address"),
        ("crashes", "its process ended with status 3 after its last step, cuda version 4, check"),
    ],
)
def test_a_version_that_fails_is_said_to_and_the_others_are_tried(fault, outcome, tried, attempts):
    del attempts[3]
    status, records, out = tried("attention_forward_4", fault)
    assert status == 1 and len(records) == 3
    rows = [row for row in outcomes(records) if row[0] == OF_FORWARD]
    in_the_kernel = fault in ("is wrong", "raises")  # and not in its process, which then ends
    assert [row[1] for row in rows] == ([VERSION, PACKED] if in_the_kernel else [VERSION])
    assert all(row[2].startswith(outcome) for row in rows) and rows[0][3:] == ("2", "")
    assert outcomes(records)[-1] == (OF_BACKWARD, VERSION, "right", "1", "")
    again = tried("attention_forward_4", fault)
    assert again[:2] == (status, records)  # nothing is tried again
    assert "".join(outcome.split()[:2]) in "".join(out.split())


@NEEDS_COMPILER
def test_a_version_that_never_ends_is_killed_and_not_tried_again(tried, attempts):
    for version in (3, 4):
        for kernel in ("forward", "backward_query", "backward_key"):  # which may take longer than
            name = f"attention_{kernel}_{version}<Half, 64>"  # the test waits
            host.kernel_library(host.SOURCES, "attention.cu", name)
    del attempts[3]
    status, records, out = tried("attention_forward_4", "never ends", seconds=10)
    became = "did not end within 10 seconds of its last step, cuda version 4, check: killed"
    assert status == 1 and outcomes(records)[0] == (OF_FORWARD, VERSION, became, "1", "")
    # Of forward nothing more is tried.
    assert outcomes(records)[1:] == [(OF_BACKWARD, VERSION, "right", "1", "")]
    assert "left for want of time" not in out
    assert tried(seconds=0)[:2] == (status, records)  # nor by another run


@NEEDS_COMPILER
def test_what_was_not_tried_for_want_of_time_is_tried_by_the_next_run(tried, attempts, monkeypatch):
    now = iter([0.0] * 4)  # the run's begin, its seconds for this, its begin, the first attempt
    monkeypatch.setattr(cuda_run.time, "monotonic", lambda: next(now, 2.0 * cuda_run.SECONDS))
    status, records, out = tried()
    assert status == 0 and len(records) == 1
    assert f"left for want of time: {OF_BACKWARD}, float16, 2 works" in out
    assert "3 works are left" in out
    monkeypatch.setattr(cuda_run.time, "monotonic", lambda: 0.0)
    status, found, out = tried()
    assert status == 0 and found[0] == records[0] and outcomes(found) == RIGHT


def test_the_last_minute_is_kept_for_what_is_to_be_tried(attempts, tmp_path, monkeypatch):
    case = small_case("bias_gelu_new", "forward")
    monkeypatch.setattr(cuda_run, "plan", lambda entries: [case])
    monkeypatch.setattr(measure, "measure", lambda case, *others: case.named)
    given = []
    monkeypatch.setattr(trial, "run", lambda *arguments: given.append(arguments[2]) or ([], []))
    here = stand_in_machine()._replace(tidy=lambda: given.append("tidy"))
    for late in (1, trial.SECONDS + 1):
        now = iter([0.0])
        at = cuda_run.SECONDS - late
        monkeypatch.setattr(cuda_run.time, "monotonic", lambda now=now, at=at: next(now, at))
        path = tmp_path / f"{late}.json"
        _, left, _ = cuda_run.run(here, path, [], lambda *step: None)
        assert left == ([case.named] if late == 1 else [])
    # What is left if that is more; and the memory, that of what was measured before, too.
    assert given == ["tidy", trial.SECONDS, "tidy", "tidy", trial.SECONDS + 1]


def test_with_kernels_of_the_users_own_nothing_is_tried(attempts, tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text(MINE)
    monkeypatch.setattr(trial, "run", None)
    entries = cuda_run.checked([f"{tmp_path / 'a.py'}:bias_gelu_new"])
    cuda_run.run(stand_in_machine(), tmp_path / "a.json", entries, None)


def test_where_its_process_does_not_start_nothing_is_said_of_a_version(
    attempts, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(trial, "COMMAND", [sys.executable, "-c", "raise SystemExit(5)"])
    assert command.main(["cuda", "--json", str(tmp_path / "a.json")]) == 1
    printed = capsys.readouterr().out
    assert (
        "not measured: what is not the default yet was not tried: its process ended with" in printed
    )
    assert not list(tmp_path.iterdir())


def test_the_table_of_trials_has_a_row_for_each_outcome():
    check = {"error": 1e-3, "limit": 2e-3, "correct": True}
    wrong = check | {"error": 3e-3, "correct": False}

    def record(batch_size, *contenders):
        names = "cuda", "cuda version 4", "cuda, packed", "cuda version 4, packed"
        named = small_case("attention", "backward").named | {"batch_size": batch_size, "version": 4}
        return named | {"contenders": dict(zip(names, contenders, strict=False))}

    def timing(*seconds):
        return check | {"seconds": seconds}

    records = [
        record(1, timing(3.0, 3.0), timing(2.0, 2.0), timing(1.0, 4.0), timing(2.0, 2.0)),
        record(2, timing(1.0, 1.0), timing(2.0, 2.0), timing(1.0, 1.0), wrong),
        record(3, check, check, check, wrong | {"error": 5e-3}),
        record(4, wrong, timing(1.0, 1.0), check, wrong | {"error": None}),
    ]
    work = "attention version 4, backward", "float32"
    assert table.trial_table(records)[1] == [
        [*work, VERSION, "right", "4", "1.00 (0.50–1.50)"],
        [*work, PACKED, "right", "1", "1.25 (1.25–1.25)"],
        [*work, PACKED, "wrong, at worst 5.0e-03 > 2.0e-03", "2", ""],
        [*work, PACKED, "raised, not finite, or of another shape or dtype", "1", ""],
    ]


@NEEDS_COMPILER
def test_every_version_that_is_tried_is_run_for_the_sanitizer(attempts, monkeypatch, capsys):
    memory = SimpleNamespace(cuda=SimpleNamespace(set_allocator=lambda allocator: None))
    here = stand_in_machine(FaultyExecutor())._replace(xp=memory)
    monkeypatch.setattr(machine, "gpu", lambda: here)
    monkeypatch.setattr(sanitize, "small_cases", list)
    assert sanitize.main(["trial"]) == 0
    monkeypatch.setattr(FaultyExecutor, "kernel", "attention_forward_4")
    monkeypatch.setattr(FaultyExecutor, "fault", "is wrong")
    assert sanitize.main(["trial"]) == 1 and sanitize.main([]) == 0
    right = "all kernels are right"
    wrong = "attention_forward, float16, cuda version 4"
    assert capsys.readouterr().out.splitlines() == [right, wrong, right]


SANITIZER = """\
#!/bin/sh
echo "$*" >> asked
case "$*" in
    *memcheck*trial) sleep 600 & echo $! > child; wait ;;
    *racecheck*trial) exit 9 ;;
esac
"""


def test_the_sanitizer_is_killed_with_what_it_runs(attempts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sanitizer").write_text(SANITIZER)
    (tmp_path / "sanitizer").chmod(0o700)
    monkeypatch.setattr(sanitize, "SANITIZER", str(tmp_path / "sanitizer"))
    monkeypatch.setattr(sanitize, "SECONDS_OF_TRIAL", 2)
    monkeypatch.setattr(machine, "gpu", stand_in_machine)
    assert command.main(["cuda", "--sanitize"]) == 1
    assert capsys.readouterr().out == (
        "faults found by: memcheck in what is not the default yet, which did not end within 2 "
        "seconds, racecheck in what is not the default yet\n"
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[1] for line in asked] == 2 * list(sanitize.TOOLS)
    assert [line.endswith(" trial") for line in asked] == [False] * 4 + [True] * 4
    process = Path("/proc") / (tmp_path / "child").read_text().strip()
    assert not process.exists() or "\nState:\tZ" in (process / "status").read_text()
    attempts.clear()
    assert command.main(["cuda", "--sanitize"]) == 0
    assert len((tmp_path / "asked").read_text().splitlines()) == 12


# What is printed.


def recorded():
    """A record: ours in two versions, two others, the roofs."""
    check = {"error": 1e-3, "errors": {"y": 1e-3}, "limit": 2e-3, "correct": True}
    check |= {"resident_bytes": None, "peak_bytes": None}
    return {
        **small_case("layer_norm", "forward", "bfloat16").named,
        "operations": 10**9,
        "bytes": 10**9,
        "floors": {"y": 2e-3},
        "left_out": {},
        "contenders": {
            "cuda": {**check, "seconds": [2.0, 2.0, 2.0]},
            "cuda version 1": {**check, "seconds": [4.0, 4.0, 4.0]},
            "torch": {**check, "seconds": [6.0, 6.0, 6.0]},
            "triton": {**check, "seconds": [3.0, 3.0, 3.0]},
            "matmul": {"operations": 10**12, "seconds": [1.0, 1.0, 1.0]},
            "copy": {"bytes": 10**9, "seconds": [1.0, 1.0, 1.0]},
        },
    }


def test_the_table_has_our_fastest_and_the_fastest_other():
    _, (row,) = table.cuda_table([recorded()])
    assert row == [
        "layer_norm, forward, 2×9, bfloat16, 32 columns",
        "cuda",
        "2000 (2000–2000)",
        "50% (50%–50%), memory",
        "triton",
        "3000 (3000–3000)",
        "1.50 (1.50–1.50)",
        "",  # none was made deterministic
        "0.26",  # of one rounding, 2⁻⁸, which is more than the floor
    ]
    wrong = recorded()
    for name in ("cuda", "cuda version 1"):
        wrong["contenders"][name] = {**wrong["contenders"][name], "correct": False}
        del wrong["contenders"][name]["seconds"]
    _, (row,) = table.cuda_table([wrong])
    assert row[2] == "wrong, not timed" and row[4] == "triton" and row[6:] == [""] * 3
    assert picture.comparisons(wrong) == []
    _, (row,) = table.cuda_summary([recorded(), recorded(), wrong])
    assert row == [
        "layer_norm, forward",
        "bfloat16",
        "2 of 3",
        "50% (50%–50%)",
        "1.50 (1.50–1.50)",
        "",  # none was made deterministic
        "0.26 (0.26–0.26)",
    ]
    _, (row,) = table.cuda_summary([wrong])
    assert row[2:] == ["0 of 1", "", "", "", ""]
    ((ours, other, ratio),) = picture.comparisons(recorded())
    assert (ours, other, ratio.median) == ("our fastest", "the fastest other", 1.5)
    assert figures.ours_and_peers(recorded()) == (["cuda", "cuda version 1"], ["torch", "triton"])


def test_the_tables_compare_with_the_fastest_deterministic_peer_too():
    record = recorded()
    check = record["contenders"]["torch"]
    record["contenders"]["sdpa flash, deterministic"] = check | {"seconds": [8.0, 8.0, 8.0]}
    record["contenders"]["varlen_attn, packed, deterministic"] = check | {"seconds": [5.0] * 3}
    _, (row,) = table.cuda_table([record])
    assert row[4] == "triton" and row[6:8] == ["1.50 (1.50–1.50)", "2.50 (2.50–2.50)"]
    _, (row,) = table.cuda_summary([record, recorded()])
    assert row[4:6] == ["1.50 (1.50–1.50)", "2.50 (2.50–2.50)"]


def test_the_error_is_that_of_the_output_with_the_most_floors():
    record = recorded()
    record["floors"] = {"dx": 1.0, "dbias": 0.25, "dweight": 0.0}
    ours = record["contenders"]["cuda"]
    ours["errors"] = {"dx": 0.5, "dbias": 0.375, "dweight": 0.0}
    assert table.error_in_floors(record, "cuda") == 1.5
    ours["errors"]["dweight"] = 2 * correct.unit_roundoff("bfloat16")
    assert table.error_in_floors(record, "cuda") == 2  # a floor is at least one rounding


def test_the_picture_is_not_written_over_the_results(capsys):
    pytest.importorskip("matplotlib")
    assert command.main(["cuda", "--json", "a.png"]) == 2
    assert "--json and --plot are both a.png" in capsys.readouterr().err
