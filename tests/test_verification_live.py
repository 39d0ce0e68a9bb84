"""Live candidates of one's own, what can go wrong with them, and the reports."""

import json
import re
import sys
import time

import numpy as np
import pytest
from cli_support import assert_one_error
from verification_support import small_case

from albert_np.verification import compare, message, read_candidate, write_golden
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

def misnamed(*given):
    return {"logit": np.zeros(3, "float32")}

def raises(*given):
    raise RuntimeError("no\\nsuch thing")

def a_list(*given):
    return []

def of_text(*given):
    return {"logits": ["text"]}

if __name__ == "__main__":
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file
    with safe_open(sys.argv[1], "np") as file:
        config = json.loads(file.metadata()["config"])
    tensors = load_file(sys.argv[1])
    def part(name):
        return {n.removeprefix(name): x for n, x in tensors.items() if n.startswith(name)}
    made = forward(part("parameters/"), part("inputs/"), config)
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
    before = {name: array.copy() for name, array in case.parameters.items()}
    path = tmp_path / "mine.py"
    path.write_text(
        "def f(parameters, inputs, config):\n"
        "    for array in parameters.values():\n        array[...] = 7\n    return {}\n"
    )
    run_callable(case, f"{path}:f", "float64")
    for name, array in before.items():
        np.testing.assert_array_equal(case.parameters[name], array)


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
        (program("pass"), "ended without writing {output}"),
        (program("import sys", "open(sys.argv[2], 'w').write('x')"), "what .* wrote"),
        ("true {input}", "has no {output}"),
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
    assert report["first"] == "outputs/loss"
    html = page.read_text()
    assert "differs from the reference" in html
    assert "outputs/logits" in html
    assert not re.search(r"https?:|<script|<link|@import|url\(", html)  # nothing is fetched
    assert run("verify", "run", "--callable", f"{candidate}:forward", "--golden", golden)[0] == 0


def test_bad_arguments_are_one_error(run, candidate, golden):
    entry = f"{candidate}:misnamed"
    result = run("verify", "run", "--callable", entry, "--golden", golden)
    assert_one_error(result, "no tensor of the candidate can be compared: outputs/logit")
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
