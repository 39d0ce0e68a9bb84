"""A single kernel against the reference: right ones pass, each mistake is found and shown."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import albert_np.functions
from albert_np.verification.kernel import check_kernel, load_kernel

pytest.importorskip("hypothesis", reason="the extra `verify` is not installed")
FUNCTIONS = Path(albert_np.functions.__file__).parent
EXAMPLES = 40

RIGHT = """
import numpy as np

def gelu_new(x):
    u = np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (1 + np.tanh(u))

def layer_norm_forward(x, weight, bias, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + eps)
    normalized = centred / deviation
    return normalized * weight + bias, (normalized, deviation, weight)

def layer_norm_backward(dy, cache):
    normalized, deviation, weight = cache
    rows = tuple(range(dy.ndim - 1))
    g = dy * weight
    dweight, dbias = (dy * normalized).sum(axis=rows), dy.sum(axis=rows)
    g -= g.mean(axis=-1, keepdims=True) + normalized * (g * normalized).mean(axis=-1, keepdims=True)
    return g / deviation, dweight, dbias

def attend(query, key, value, attention_mask=None):
    s = query @ key.swapaxes(-1, -2) / np.float32(query.shape[-1] ** 0.5)
    if attention_mask is not None:
        s = s + np.where(attention_mask, np.float32(0), np.finfo("float32").min)[:, None, None]
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True) @ value

def loss(logits, labels):
    z = logits - logits.max(axis=-1, keepdims=True)
    own = z[np.arange(len(z)), np.maximum(labels, 0)]
    return (np.log(np.exp(z).sum(axis=-1)) - own)[labels >= 0].mean()

def loss_backward(dy, logits, labels):
    z = np.exp(logits - logits.max(axis=-1, keepdims=True))
    z /= z.sum(axis=-1, keepdims=True)
    z[np.arange(len(z)), np.maximum(labels, 0)] -= 1
    return z * (labels >= 0)[:, None] * dy / np.float32((labels >= 0).sum())
"""

# Mistakes: the function, the operation, what is changed, the direction, and what the message says.
MISTAKES = {
    "gelu_exact": ("gelu_new", "0.044715", "0.04", "forward", "times the noise floor"),
    "gelu_overflow": ("gelu_new", "(1 + np.tanh(u))", "(2 - 2 / (np.exp(2 * u) + 1)) + 0 * (x * x)",
                      "forward", "nan"),
    "variance": ("layer_norm", "centred).mean", "centred + x.mean() * 1e-3).mean", "forward",
                 "times"),
    "bound": ("layer_norm", "return normalized * weight + bias",
              "normalized[..., 512:] = 0\n    return normalized * weight + bias", "forward",
              "y[0, 0, 512]"),
    "bias": ("layer_norm", "dy.sum(axis=rows)", "dy.sum(axis=rows) * 1.001", "backward", "dbias"),
    "maximum": ("attend", "s - s.max(axis=-1, keepdims=True)", "s", "forward", "nan"),
    "mask": ("attend", 'np.finfo("float32").min', "np.float32(-1e4)", "forward", "expected"),
    "unmasked": ("attend", 'np.finfo("float32").min', "-np.float32(np.inf)", "forward", "nan"),
    "mean": ("loss", "[labels >= 0].mean()", ".mean()", "forward", "expected"),
    "labels": ("loss", " * (labels >= 0)[:, None]", "", "backward", "expected 0"),
    "raises": ("loss", "z /= ", "raise RuntimeError('no'); z /= ", "backward",
               "loss_backward raises RuntimeError: no"),
    "writes": ("loss", "z = logits - ", "logits[...] = 0; z = logits - ", "forward",
               "writes into its argument logits"),
    "dtype": ("gelu_new", "np.float32(0.5) * x", "0.5 * x.astype('float64')", "forward",
              "y is a float64 array"),
    "shape": ("gelu_new", "np.float32(0.5) * x * (1 + np.tanh(u))", "x.sum(axis=0)", "forward",
              "y is a float32 array of shape (1, 1); expected float32, (1, 1, 1)"),
    "few": ("layer_norm", "deviation, dweight, dbias", "deviation, dweight", "backward",
            "returns 2 gradients; expected 3: dx, dweight, dbias"),
    "random": ("gelu_new", "np.float32(0.044715)", "np.random.normal()", "forward", ""),
}  # fmt: skip
OPERATIONS = {"loss": "cross_entropy", "attend": "attention"}


def checked(directory, text, function, examples=EXAMPLES, **settings):
    path = directory / "mine.py"
    path.write_text(text)
    kernel = load_kernel(f"{path}:{function}", OPERATIONS.get(function, function))
    return check_kernel(kernel, examples=examples, **settings)


@pytest.mark.parametrize("function", ["gelu_new", "layer_norm", "attend", "loss"])
def test_right_kernels_pass(tmp_path, function):
    report = checked(tmp_path, RIGHT, function)
    assert report.is_right, report.results
    assert all(result.cases > EXAMPLES / 2 for result in report.results)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("file", "function"),
    [
        ("activations", "gelu_new"),
        ("layer_norm", "layer_norm"),
        ("cross_entropy", "cross_entropy"),
        ("attention", "attention"),
    ],
)
def test_the_reference_passes_forward_and_backward(file, function, dtype):
    kernel = load_kernel(f"{FUNCTIONS / file}.py:{function}", function)
    report = check_kernel(kernel, dtype, EXAMPLES)
    assert [result.failure for result in report.results] == [None, None]
    assert report.could_not == []


@pytest.mark.parametrize("function", ["attention", "layer_norm"])
def test_the_kernels_of_numba_pass(tmp_path, function):
    pytest.importorskip("numba", reason="the extra `numba` is not installed")
    names = f"{function}_forward, {function}_backward"
    text = f"from albert_np.kernels.numba.{function} import {names}\n"
    report = checked(tmp_path, text, function)
    assert [result.failure for result in report.results] == [None, None]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_and_its_program_shows_it(tmp_path, mistake):
    function, old, new, direction, message = MISTAKES[mistake]
    assert old in RIGHT
    report = checked(tmp_path, RIGHT.replace(old, new), function, examples=200)
    failures = {result.direction: result.failure for result in report.results}
    assert not report.is_right
    assert message in failures[direction].message
    if mistake != "random":
        assert "= np." in failures[direction].code


def test_the_program_runs_and_the_case_is_the_smallest(tmp_path):
    function, old, new, direction, _ = MISTAKES["bound"]
    report = checked(tmp_path, RIGHT.replace(old, new), function)
    code = report.results[0].failure.code
    assert "(1, 1, 513)" in code  # the first shape of which anything is wrong
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("given: ")
    assert "expected: y" in ran.stdout


def test_slots_are_added_to(tmp_path):
    text = RIGHT.replace("(dy, cache)", "(dy, cache, into)")
    report = checked(tmp_path, text, "layer_norm")
    assert "dweight" in report.results[1].failure.message  # what the slots held is lost
    add = "dweight, dbias = dweight + into[0], dbias + into[1]"
    added = text.replace("return g / deviation", f"{add}\n    return g / deviation")
    assert checked(tmp_path, added, "layer_norm").is_right


def test_what_is_not_compared_is_said(tmp_path):
    report = checked(tmp_path, RIGHT.replace(", attention_mask=None", ", other=None"), "attend")
    assert report.could_not == [
        "backward: mine.py has no function attend_backward",
        "masks: the function has no argument attention_mask",
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{}", "does not name a function; expected path.py:function"),
        ("{}.py:f", "there is no file"),
        ("{}:f", "has no function f"),
        ("{}:value", "has no function value"),
        ("{}:few", "few of .* takes \\(x\\); expected \\(x, weight, bias, eps\\)"),
    ],
)
def test_bad_entries_are_one_error(tmp_path, entry, message):
    path = tmp_path / "mine.py"
    path.write_text("value = 1\ndef few(x): pass\n")
    with pytest.raises(ValueError, match=message):
        load_kernel(entry.format(path), "layer_norm")


@pytest.mark.parametrize("text", ["raise RuntimeError('no')", "def (", "import sys; sys.exit(3)"])
def test_a_file_that_cannot_be_run_is_one_error(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match="mine.py cannot be run: "):
        load_kernel(f"{path}:f", "layer_norm")


@pytest.mark.parametrize(
    ("text", "function", "operation", "message"),
    [
        ("def f(query, key, value, attention_mask): pass", "f", "attention", "attention_mask=None"),
        ("def f(query, key, value, dropout=None, attention_mask=None): pass", "f", "attention",
         "expected \\(query, key, value, attention_mask=None\\) or \\(query_key_value, num_att"),
        ("def f(q, k, v): pass", "f", "attention", "f of .* takes \\(q, k, v\\); expected"),
        ("def f(x, approximate): pass", "f", "gelu_new", "expected \\(x\\)"),
        ("def f(x, weight, bias, axis=-1, eps=0): pass", "f", "layer_norm", "bias, eps\\)"),
    ],
)  # fmt: skip
def test_other_arguments_are_one_error(tmp_path, text, function, operation, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_kernel(f"{path}:{function}", operation)


def test_a_kernel_that_ends_python_is_wrong(tmp_path):
    report = checked(tmp_path, "import sys\ndef gelu_new(x): sys.exit(0)\n", "gelu_new")
    assert "gelu_new raises SystemExit: 0" in report.results[0].failure.message


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("gelu_new", "0.044715", "0.4"),
        ("layer_norm", "dy.sum(axis=rows)", "dy.sum(axis=rows) * 2"),
        ("loss", " * (labels >= 0)[:, None]", ""),
        ("attend", "/ p.sum(axis=-1, keepdims=True)", ""),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_program_of_each_operation_and_type_runs(tmp_path, function, old, new, dtype):
    text = f"import beside\n{RIGHT.replace(old, new)}"
    if dtype != "float32":
        text = text.replace("np.float32(", "(")
    if dtype in ("float16", "bfloat16"):
        pytest.importorskip("ml_dtypes", reason="the extra `verify` is not installed")
    (tmp_path / "beside.py").write_text("")
    report = checked(tmp_path, text, function, dtype=dtype)
    failure = next(result.failure for result in report.results if result.failure is not None)
    ran = subprocess.run(
        [sys.executable, "-c", failure.code], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("given: ")


def test_the_seed_and_the_number_of_examples_are_those_asked_for(tmp_path):
    def seen(seed):
        path = tmp_path / "mine.py"
        path.write_text("drawn = []\ndef gelu_new(x):\n    drawn.append(x.copy())\n    return x\n")
        kernel = load_kernel(f"{path}:gelu_new", "gelu_new")
        check_kernel(kernel, examples=5, seed=seed)
        return [x.tobytes() for x in kernel.functions["forward"].__globals__["drawn"]]

    assert seen(0) == seen(0) != seen(1)
    assert checked(tmp_path, RIGHT, "gelu_new", examples=7).results[0].cases <= 7
    with pytest.raises(ValueError, match="--examples is 0; expected 1 or more"):
        checked(tmp_path, RIGHT, "gelu_new", examples=0)


def test_hard_values_are_among_the_cases(tmp_path):
    """Huge, tiny and subnormal numbers, equal scores, one key, and masks that leave nothing."""
    text = RIGHT + "\nseen = []\nplain = attend\n" + (
        "def attend(query, key, value, attention_mask=None):\n"
        "    seen.append((query.copy(), value.copy(), attention_mask))\n"
        "    return plain(query, key, value, attention_mask)\n"
    )  # fmt: skip
    path = tmp_path / "mine.py"
    path.write_text(text)
    kernel = load_kernel(f"{path}:attend", "attention")
    assert check_kernel(kernel, examples=300).is_right
    seen = kernel.functions["forward"].__globals__["seen"]
    values = [np.abs(value[value != 0]).max(initial=0) for _, value, _ in seen]
    tiny = np.finfo(np.float32).tiny
    assert any(0 < value < tiny for value in values)  # subnormal
    assert any(tiny <= value < 1e-30 for value in values)
    assert any(value > 1e30 for value in values)
    assert any(query.shape[2] == 1 for query, _, _ in seen)
    assert any(query.size > 1 and np.ptp(query) == 0 for query, _, _ in seen)
    assert any(mask is not None and not mask.any(axis=-1).all() for _, _, mask in seen)
