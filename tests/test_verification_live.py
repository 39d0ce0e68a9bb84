"""Live candidates of one's own, what can go wrong with them, and the reports."""

import json
import re
import sys
import time

import numpy as np
import pytest
from cli_support import assert_one_error
from safetensors import safe_open
from safetensors.numpy import save_file
from verification_support import small_case

from albert_np.verification import compare, live, message, read_candidate, write_golden
from albert_np.verification.live import run_callable, run_command

pytest.importorskip("ml_dtypes", reason="the extra `verify` is not installed")

# A candidate of two kinds: our own model, as a function and as a program.
CANDIDATE = """
import json, sys
import numpy as np
from albert_np import AlbertConfig, AlbertForMaskedLM

def forward(parameters, inputs, config):
    model = AlbertForMaskedLM(AlbertConfig.from_dict(config), seed=None, backend="numpy")
    for name, array in model.parameters.items():
        array[...] = parameters[name]
    loss, gradients = model.loss_and_gradients(**inputs)
    named = {f"gradients/{name}": array for name, array in gradients.parameters.items()}
    return {"loss": loss, "logits": model(**inputs).logits} | named

def wrong(*given):
    return {name: 1.001 * array for name, array in forward(*given).items()}

def misshapen(*given):
    return forward(*given) | {"logits": np.zeros(3, "float32")}

def of_other_names(*given):
    found = forward(*given)
    return {"y/1": found["logits"].T.copy(), "outputs/y": found["loss"], "step": np.ones(1)}

def misnamed(*given):
    return {"logit": np.zeros(3, "float32")}

def raises(*given):
    raise RuntimeError("no\\nsuch thing")

def a_list(*given):
    return []

def of_text(*given):
    return {"logits": ["text"]}

def exits(*given):
    sys.exit(0)

def prints(*given):
    print("not JSON")
    return forward(*given)

def of_numbers(*given):
    return {3: np.zeros(3)}

def refuses(*given):
    class Refusing:
        def __array__(self, *settings, **more):
            raise RuntimeError("on a GPU")
    return {"logits": Refusing()}

def given_types(parameters, inputs, config):
    return {f"parameters/{name}": x for name, x in parameters.items()} | {
        f"inputs/{name}": x for name, x in inputs.items()}

if __name__ == "__main__":
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file
    with safe_open(sys.argv[1], "np") as file:
        config = json.loads(file.metadata()["config"])
    tensors = load_file(sys.argv[1])
    def part(name):
        return {n.removeprefix(name): x for n, x in tensors.items() if n.startswith(name)}
    function = globals()[sys.argv[3]] if sys.argv[3:] else forward
    made = function(part("parameters/"), part("inputs/"), config)
    made = {n if "/" in n else f"outputs/{n}": np.asarray(x) for n, x in made.items()}
    save_file(made, sys.argv[2])
"""


@pytest.fixture(scope="module")
def case():
    return small_case()


@pytest.fixture
def candidate(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CANDIDATE)
    return path


@pytest.fixture
def golden(tmp_path, case):
    path = tmp_path / "golden.safetensors"
    write_golden(path, case)
    return str(path)


def program(*code):
    return f'{sys.executable} -c "{"; ".join(code)}" {{input}} {{output}}'


def test_a_function_is_compared(case, candidate):
    tensors, could_not = run_callable(case, f"{candidate}:forward")
    comparison = compare(case, tensors)
    assert (comparison.status, could_not) == (0, [])
    assert {"outputs/loss", "outputs/logits"} < {row.name for row in comparison.rows}
    assert compare(case, run_callable(case, f"{candidate}:wrong")[0]).status == 1


def test_a_function_is_given_copies(case, tmp_path):
    given = [*case.parameters.values(), *case.inputs.values()]
    before = [array.copy() for array in given]
    path = tmp_path / "mine.py"
    path.write_text(
        "def f(parameters, inputs, config):\n"
        "    for array in [*parameters.values(), *inputs.values()]:\n"
        "        array[...] = 7\n    return {}\n"
    )
    run_callable(case, f"{path}:f", "float64")
    for array, old in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_a_tensor_of_another_shape_is_reported(case, candidate):
    comparison = compare(case, run_callable(case, f"{candidate}:misshapen")[0])
    assert comparison.status == 2
    assert "outputs/logits" in message(comparison)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", "raises of .* raises RuntimeError: no such thing"),
        ("a_list", "returns a list; expected a dict"),
        ("of_text", "logits is of dtype <U4; expected numbers"),
        ("of_numbers", "returns a name 3; expected text"),
        ("refuses", "logits is no array: RuntimeError: on a GPU"),
        ("exits", "exits of .* raises SystemExit: 0"),
        ("nothing", "has no function nothing"),
    ],
)
def test_a_function_that_is_no_candidate_is_one_error(case, candidate, function, said):
    with pytest.raises(ValueError, match=said):
        run_callable(case, f"{candidate}:{function}")


def test_a_program_is_compared(case, candidate):
    command = f"{sys.executable} {candidate} {{input}} {{output}}"
    tensors, _ = run_command(case, command, read_candidate, timeout=120)
    assert compare(case, tensors).status == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (program("import sys", "print('why')", "sys.exit(3)"), "ended with status 3: why"),
        (program("import os", "os.abort()"), "was ended by signal 6"),
        (program("import sys", "sys.stderr.write('this')", "sys.exit(1)"), "status 1: this"),
        (program("pass"), "ended without writing {output}"),
        (program("import sys", "open(sys.argv[2], 'w').write('x')"), "what .* wrote"),
        ("true {input}", "has no {output}"),
        ("true {output}", "has no {input}"),
        ("'true {input} {output}", "cannot be split"),
        ("/no/such/program {input} {output}", "cannot be run: No such file"),
    ],
)
def test_a_program_that_is_no_candidate_is_one_error(case, command, said):
    with pytest.raises(ValueError, match=said):
        run_command(case, command, read_candidate, timeout=60)


def test_a_program_that_hangs_is_ended_with_all_that_it_started(case, tmp_path):
    alive = tmp_path / "alive"
    child = f"import time; time.sleep(2); open('{alive}', 'w')"
    code = (
        "import subprocess, sys, time",
        f"subprocess.Popen([sys.executable, '-c', '''{child}'''])",
        "time.sleep(100)",
    )
    with pytest.raises(ValueError, match="was not done after 1 seconds"):
        run_command(case, program(*code), read_candidate, timeout=1)
    time.sleep(2.5)
    assert not alive.exists()


def test_a_program_that_takes_long_is_said_to_be_waited_for(case, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    slow = program(
        "import time", "print('why', flush=True)", "time.sleep(1)", "raise SystemExit(3)"
    )
    with (
        pytest.warns(UserWarning, match="still waiting for .* after 0.2 seconds; a timeout would"),
        pytest.raises(ValueError, match="ended with status 3: why"),
    ):
        run_command(case, slow, read_candidate)


@pytest.mark.parametrize("kind", ["callable", "command"])
def test_a_candidate_of_other_names_is_mapped(run, candidate, golden, tmp_path, kind):
    names = tmp_path / "names.json"
    mapping = {
        "y/1": {"name": "outputs/logits", "layout": [{"transpose": [2, 1, 0]}]},
        "y": "outputs/loss",
        "step": None,
    }
    names.write_text(json.dumps(mapping), encoding="utf-8")
    entry = {
        "callable": f"{candidate}:of_other_names",
        "command": f"{sys.executable} {candidate} {{input}} {{output}} of_other_names",
    }[kind]
    arguments = ["verify", "run", f"--{kind}", entry, "--golden", golden]
    status, out, err = run(*arguments, "--mapping", str(names), "--json")
    report = json.loads(out)
    assert (status, err) == (0, "")
    assert {row["name"] for row in report["tensors"]} == {"outputs/logits", "outputs/loss"}
    assert run(*arguments)[0] == 2
    names.write_text("[]", encoding="utf-8")
    assert_one_error(run(*arguments, "--mapping", str(names)), "holds a JSON list")
    names.write_text('{"z": "outputs/loss"}', encoding="utf-8")
    result = run(*arguments, "--mapping", str(names))
    assert_one_error(result, "the mapping names no tensor of the candidate; it has outputs/")


def test_the_command_reports(run, candidate, golden, tmp_path):
    page = tmp_path / "report.html"
    entry = f"{candidate}:wrong"
    arguments = ["verify", "run", "--callable", entry, "--golden", golden, "--html", str(page)]
    status, out, err = run(*arguments, "--json")
    report = json.loads(out)
    assert (status, report["status"], err) == (1, 1, "")
    logits = next(row for row in report["tensors"] if row["name"] == "outputs/logits")
    assert logits["verdict"] == "differs"
    assert sum(logits["histogram"]) == 2 * 8 * 30
    assert report["first"] == "outputs/logits"
    html = page.read_text()
    assert "AlbertForMaskedLM in float32: differs" in html
    assert "outputs/logits" in html
    assert not re.search(r"https?:|<script|<link|@import|url\(", html)  # nothing is fetched
    assert run("verify", "run", "--callable", f"{candidate}:forward", "--golden", golden)[0] == 0


def test_bad_arguments_are_one_error(run, candidate, golden):
    entry = f"{candidate}:misnamed"
    result = run("verify", "run", "--callable", entry, "--golden", golden)
    assert_one_error(
        result, "no tensor of the candidate can be compared: outputs/logit: the reference has no"
    )
    assert_one_error(run("verify", "run"), "--transformers")
    command = ["verify", "run", "--command", "true {input} {output}", "--golden", golden]
    assert_one_error(run(*command, "--timeout", "0"), "--timeout is 0; expected more than 0")
    assert_one_error(run("verify", "kernel", "no.py:f", "--op", "gelu_new"), "there is no file")


def test_the_kernel_command_reports(run, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def gelu_new(x):\n    return x\n")
    arguments = ["verify", "kernel", f"{path}:gelu_new", "--op", "gelu_new", "--examples", "20"]
    status, out, _ = run(*arguments)
    assert status == 1
    assert "kernel = runpy.run_path" in out
    status, out, _ = run(*arguments, "--json")
    assert json.loads(out)["directions"][0]["failure"]["code"]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_what_is_given_is_of_the_type_that_is_asked_for(case, candidate, dtype):
    tensors, _ = run_callable(case, f"{candidate}:given_types", dtype)
    types = {name: array.dtype.name for name, array in tensors.items()}
    assert {types[name] for name in types if name.startswith("parameters/")} == {dtype}
    assert types["inputs/input_ids"] == "int64"
    comparison = compare(case, tensors)
    assert (comparison.status, comparison.precision) == (0, dtype)


COPYING = """
import json, sys
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
with safe_open(sys.argv[1], "np") as file:
    metadata = file.metadata()
assert metadata["class"] == "AlbertForMaskedLM"
assert json.loads(metadata["config"])["hidden_size"] == 8
save_file(load_file(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_program_is_given_the_case_and_its_class_and_configuration(case, dtype, tmp_path):
    path = tmp_path / "copying.py"
    text = COPYING if dtype != "bfloat16" else "import ml_dtypes\n" + COPYING
    path.write_text(text)
    command = f"{sys.executable} {path} {{input}} {{output}}"
    tensors, _ = run_command(case, command, read_candidate, dtype, timeout=60)
    assert tensors["parameters/predictions.bias"].dtype.name == dtype
    comparison = compare(case, tensors)
    assert comparison.status == 0
    assert {row.name for row in comparison.rows} == {
        *(f"parameters/{name}" for name in case.parameters),
        *(f"inputs/{name}" for name in case.inputs),
    }


def test_a_program_whose_child_does_not_end_is_ended_with_it(case, tmp_path):
    alive = tmp_path / "alive"
    child = f"import time; time.sleep(2); open('{alive}', 'w')"
    code = ("import subprocess, sys", f"subprocess.Popen([sys.executable, '-c', '''{child}'''])")
    with pytest.raises(ValueError, match="was not done after 1 seconds"):
        run_command(case, program(*code), read_candidate, timeout=1)
    time.sleep(2.5)
    assert not alive.exists()


def test_a_file_imports_what_lies_beside_it(case, tmp_path):
    (tmp_path / "lies_beside.py").write_text("def f(*given):\n    return {'logits': [1.5]}\n")
    (tmp_path / "its_neighbour.py").write_text("from lies_beside import f\n")
    tensors, _ = run_callable(case, f"{tmp_path / 'its_neighbour.py'}:f")
    np.testing.assert_array_equal(tensors["outputs/logits"], [1.5])


def test_what_a_candidate_prints_is_no_part_of_the_answer(run, candidate, golden, tmp_path):
    arguments = ["verify", "run", "--callable", f"{candidate}:prints", "--golden", golden, "--json"]
    status, out, err = run(*arguments)
    assert (status, json.loads(out)["verdict"], err) == (0, "right, to rounding", "not JSON\n")
    path = tmp_path / "mine.py"
    path.write_text("def gelu_new(x):\n    print('not JSON')\n    return 0\n")
    arguments = ["verify", "kernel", f"{path}:gelu_new", "--op", "gelu_new", "--json"]
    status, out, err = run(*arguments)
    assert (status, json.loads(out)["right"]) == (1, False)
    assert err.startswith("not JSON\n")


def test_options_that_would_not_be_read_are_one_error(run, candidate, golden):
    function = ["--callable", f"{candidate}:forward"]
    program = ["--command", "true {input} {output}"]
    for arguments, said in [
        ([*function, "--golden", golden, "--model", "x"], "--model does not go with it"),
        ([*function, "--golden", golden, "--shape", "2", "8"], "--shape does not go with it"),
        ([*function, "--golden", golden, "--class", "AlbertModel"], "--class does not go with it"),
        ([*function, "--attention", "eager"], "--attention goes with --transformers alone"),
        ([*function, "--as-is"], "--as-is goes with --onnx alone"),
        ([*function, "--timeout", "3"], "--timeout goes with --command alone"),
        (["--onnx", "x", "--dtype", "float64"], "--dtype goes with --transformers or --callable"),
        ([*program, "--timeout", "inf"], "--timeout is inf; expected more than 0, at most"),
        ([*program, "--timeout", "nan"], "--timeout is nan; expected more than 0, at most"),
        ([*function, "--html", "/absent/x.html"], "no directory /absent"),
    ]:
        assert_one_error(run("verify", "run", *arguments), said)


def test_a_golden_file_that_was_altered_is_noticed(run, candidate, golden):
    with safe_open(golden, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors["outputs/loss"] = np.array(tensors["outputs/loss"] * (1 + 1e-12))
    save_file(tensors, golden, metadata)
    result = run("verify", "run", "--callable", f"{candidate}:forward", "--golden", golden)
    assert_one_error(result, "the golden file's outputs/loss is not what its case gives")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kernel_command_tries_what_it_is_asked_to(run, tmp_path, dtype):
    path = tmp_path / "mine.py"
    path.write_text("from albert_np.functions.activations import gelu_new_forward as gelu_new\n")
    arguments = [f"{path}:gelu_new", "--op", "gelu_new", "--examples", "5", "--dtype", dtype]
    status, out, _ = run("verify", "kernel", *arguments, "--json")
    report = json.loads(out)
    assert (status, report["dtype"]) == (0, dtype)
    assert 0 < report["directions"][0]["cases"] <= 5
