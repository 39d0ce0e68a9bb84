"""What README.md says: its code runs, its command prints what it shows, its figures are true."""

import re
import shlex
from pathlib import Path

import pytest

from albert_np import AlbertForPreTraining, AlbertTokenizer
from albert_np.cli import main
from albert_np.training.held_out import held_out_accuracy, sentence_order_accuracy
from albert_np.training.world import RELATIONS
from benchmarks import readme, results, table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """The README's blocks of code in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [code for each, code in found if each == language]


def test_its_python_runs():
    pytest.importorskip("numba", reason="the extra `numba` is not installed")
    with pytest.warns(UserWarning, match="the model has no use for .*sop_classifier"):
        exec(compile("".join(blocks("python")), "README.md", "exec"), {})


def test_its_first_command_prints_what_it_shows(capsys):
    (text,) = re.findall(r'fill-mask "(.*)"', blocks("sh")[0])
    assert main(["fill-mask", text]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    (shown,) = (block for block in blocks("") if block.startswith("word "))
    assert shown.splitlines() == printed


MINE = """
from albert_np import AlbertConfig, AlbertForPreTraining

def forward(parameters, inputs, config):
    config = AlbertConfig.from_dict(config | {"hidden_act": "gelu"})
    model = AlbertForPreTraining(config, seed=None)
    for name, array in parameters.items():
        model.parameters[name][...] = array
    return {"prediction_logits": model(**inputs).prediction_logits}
"""


def test_verify_says_what_it_shows(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE, encoding="utf-8")
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    golden, run = (
        next(line for line in commands if line.startswith(f"albert-np verify {start}"))
        for start in ("golden", "run --callable")
    )
    assert main(shlex.split(golden)[1:]) == 0
    assert main(shlex.split(run)[1:]) == 1
    printed = capsys.readouterr().out
    (shown,) = (block for block in blocks("") if block.startswith("differs: "))
    worst = r"worst [\d.]+ × noise"  # depends on how the machine rounds
    assert re.sub(worst, "", shown) in re.sub(worst, "", printed)


RESULTS = sorted((ROOT / "benchmarks/results").glob("*.json"))
LATEST = {path.stem.rpartition("-")[2]: path for path in RESULTS}  # names begin with the date
MEASURED = (ROOT / "benchmarks/results/README.md").read_text(encoding="utf-8")
PAGES = {"kernels": MEASURED, "scaling": MEASURED, "cuda": MEASURED}


@pytest.mark.parametrize("kind", LATEST)
def test_tables_are_those_of_the_latest_results(kind):
    tables = table.markdown_tables(results.read(LATEST[kind]))
    page = PAGES.get(kind, README)
    assert kind in tables and readme.with_tables(page, tables) == page


XEON = [path for path in RESULTS if "intel-xeon" in path.stem]


@pytest.mark.parametrize("path", XEON, ids=lambda path: path.stem)
def test_the_other_processor_has_a_page_of_its_own(path):
    page = (path.parent / "intel-xeon.md").read_text(encoding="utf-8")
    assert readme.with_tables(page, table.markdown_tables(results.read(path))) == page


@pytest.mark.parametrize("kind", ["cuda", "cache"])
def test_what_nobody_measured_says_so(kind):
    (shown,) = re.findall(
        f"<!-- benchmarks {kind} -->\n(.*?)<!-- /benchmarks -->", MEASURED, flags=re.DOTALL
    )
    assert "cuda" in LATEST or shown == "not measured yet\n"


def test_it_says_what_the_model_that_ships_knows():
    says = " ".join(README.split())
    facts = sum(len(relation.facts) for relation in RELATIONS.values())
    assert f"{facts} plain facts over {len(RELATIONS)} relations" in says
    tiny = AlbertForPreTraining.from_pretrained("tiny"), AlbertTokenizer.from_pretrained("tiny")
    assert f"it fills in {held_out_accuracy(*tiny):.1%};" in says
    assert f"it tells the order of {sentence_order_accuracy(*tiny):.1%}." in says
