"""The `albert-np` command: what it prints, where, and how it ends."""

import io
import json
import os
import subprocess
import sys
from inspect import signature

import pytest
from cli_support import assert_one_error
from pipelines_support import MAX_LENGTH, save_small_model

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining, AlbertTokenizer, cli
from albert_np.checkpoint import TINY_DIRECTORY
from albert_np.cli.output import new_table, print_tables
from albert_np.pipelines import fill_mask
from albert_np.training.text import pretrain_text
from albert_np.training.tiny import pretrain_tiny

ONE = "The capital of [MASK] is Paris."
TWO = "A [MASK] is red, and so is a [MASK]."
COMMANDS = (
    "fill-mask",
    "embed",
    "classify",
    "tag",
    "answer",
    "info",
    "trace",
    "pretrain",
    "warm-up",
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return str(save_small_model(tmp_path_factory.mktemp("small")))


@pytest.fixture
def terminal_input(monkeypatch):
    """A terminal on standard input, on which nobody types."""
    stream = io.TextIOWrapper(io.BytesIO())
    stream.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", stream)


MAIN = "import sys; from albert_np.cli import main; sys.exit(main())"


def start(*arguments, code=MAIN, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
    """Start the command in a process of its own, its output buffered as it is by default."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=stdout,
        stderr=stderr,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "", "TERM": "xterm"},
    )


# ---------------------------------------------------------------------------- fill-mask


def test_fill_mask_prints_a_table(run, directory):
    status, out, err = run("fill-mask", ONE, "--model", directory, "--top-k", "3")
    header, line, *rows = out.splitlines()
    assert (status, err, len(rows)) == (0, "", 3)
    assert header.split() == ["word", "probability", "sentence"]
    model = AlbertForPreTraining.from_pretrained(directory)
    words = fill_mask(model, AlbertTokenizer.from_pretrained(directory), ONE, top_k=3)
    for row, word in zip(rows, words, strict=True):
        assert row.rstrip().split(maxsplit=2) == [
            word["token_str"], f"{word['score']:.2%}", word["sequence"],
        ]  # fmt: skip


def test_fill_mask_prints_each_mask(run, directory):
    _, out, _ = run("fill-mask", TWO, "--model", directory, "--top-k", "2")
    rows = [row.rstrip() for row in out.splitlines()[2:] if row.strip()]
    assert len(rows) == 4
    assert all(row.count("[MASK]") == 1 for row in rows)
    assert all("so is a [MASK]" in row for row in rows[:2])
    assert all("[CLS]" not in row and not row.endswith("[SEP]") for row in rows)


def test_fill_mask_as_json(run, directory):
    status, out, err = run("fill-mask", ONE, TWO, "--model", directory, "--json", "--top-k", "2")
    one, two = json.loads(out)
    assert (status, err) == (0, "")
    assert (one["text"], two["text"]) == (ONE, TWO)
    assert [len(words) for words in one["masks"]] == [2]
    assert [len(words) for words in two["masks"]] == [2, 2]
    assert list(one["masks"][0][0]) == ["score", "token", "token_str", "sequence"]


def test_dtype(run, directory):
    scores = [
        json.loads(run("fill-mask", ONE, "--model", directory, "--json", "--dtype", dtype)[1])
        for dtype in ("float32", "float64")
    ]
    first, second = (result[0]["masks"][0][0]["score"] for result in scores)
    assert first != second
    assert first == pytest.approx(second, rel=1e-3)  # of seven digits, some are lost on the way


def test_text_from_a_file(run, directory, tmp_path):
    path = tmp_path / "texts"
    path.write_bytes(b"\xef\xbb\xbf" + ONE.encode() + b"\r\n\n  \n" + TWO.encode())
    _, out, _ = run("fill-mask", "--file", str(path), "--model", directory, "--json")
    assert [result["text"] for result in json.loads(out)] == [ONE, TWO]


@pytest.mark.parametrize("arguments", [(), ("--file", "-")])
def test_text_from_standard_input(run, standard_input, directory, arguments):
    standard_input(f"{ONE}\n{TWO}\n".encode())
    _, out, _ = run("fill-mask", *arguments, "--model", directory, "--json")
    assert [result["text"] for result in json.loads(out)] == [ONE, TWO]


def test_markup_in_a_text_is_text(capsys):
    table = new_table("word")
    table.add_row("[bold]a[/bold] [MASK] :dog:")
    print_tables([table])
    assert "[bold]a[/bold] [MASK] :dog:" in capsys.readouterr().out


def test_long_words_are_not_cut_in_a_narrow_table(run, directory, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = f"{ONE} {'paris' * 15}"
    _, out, _ = run("fill-mask", text, "--model", directory, "--top-k", "1")
    header, _, *rows = out.splitlines()
    assert max(map(len, out.splitlines())) <= 60
    sentence = "".join(row[header.index("sentence") :].strip() for row in rows)
    assert sentence.endswith("paris" * 15)


@pytest.mark.skipif(not TINY_DIRECTORY.exists(), reason="the small model is not there yet")
def test_the_model_that_ships_knows_the_capital(run):
    _, out, _ = run("fill-mask", ONE)
    assert out.splitlines()[2].split()[0] == "france"


# ---------------------------------------------------------------------------- info


# Counted by hand: embeddings (V + 512 + 2 + 2) E, with layer norm's two rows of E; projection
# H E + H; attention 4 (H² + H); feed-forward 2 H I + H + I; layer norms 4 H; pooler H² + H; head
# H E + E + 2 E + V; order 2 H + 2.
BASE = {
    "embeddings": (30000 + 516) * 128,
    "encoder projection": 768 * 128 + 768,
    "group 0, layer 0: attention": 4 * (768 * 768 + 768),
    "group 0, layer 0: feed-forward": 2 * 768 * 3072 + 768 + 3072,
    "group 0, layer 0: layer norms": 4 * 768,
    "pooler": 768 * 768 + 768,
    "masked language modelling head": 768 * 128 + 3 * 128 + 30000,
    "sentence order head": 2 * 768 + 2,
}


def test_info_counts_a_published_model(run):
    status, out, err = run("info", "--config", "albert-base-v2", "--json")
    info = json.loads(out)
    assert (status, err) == (0, "")
    assert {module["module"]: module["parameters"] for module in info["modules"]} == BASE
    assert info["total"] == {"parameters": sum(BASE.values()), "bytes": 4 * sum(BASE.values())}
    layer = sum(count for module, count in BASE.items() if module.startswith("group"))
    assert info["unshared_total"]["parameters"] == sum(BASE.values()) + 11 * layer
    assert AlbertConfig.from_dict(info["config"]) == AlbertConfig.published("albert-base-v2")


def test_info_prints_tables(run):
    _, out, _ = run("info", "--config", "albert-base-v2")
    assert "vocab_size                     30000" in out
    assert "total                            11,813,810    47.3 MB" in out
    assert "sharing saves 86.8%              77,966,592   311.9 MB" in out


def test_info_counts_what_a_checkpoint_holds(run, directory):
    _, out, _ = run("info", "--model", directory, "--json")
    info = json.loads(out)
    model = AlbertForPreTraining.from_pretrained(directory)
    assert info["class"] == "AlbertForPreTraining"
    assert info["total"]["parameters"] == sum(a.size for a in model.parameters.values())
    config = AlbertConfig.from_dict(model.config.to_dict() | {"num_hidden_groups": 4})
    unshared = AlbertForPreTraining(config, seed=None)
    assert info["unshared_total"]["parameters"] == sum(a.size for a in unshared.parameters.values())
    groups = [module["module"] for module in info["modules"] if "group" in module["module"]]
    assert len(groups) == 6


def test_info_leaves_pruned_heads_out_of_unshared_layers_too(run, tmp_path):
    model = AlbertForPreTraining.from_pretrained("tiny")
    model.prune_heads({0: [1, 2]})
    model.save_pretrained(tmp_path)
    _, out, _ = run("info", "--model", str(tmp_path), "--json")
    info = json.loads(out)
    layer = sum(module["parameters"] for module in info["modules"] if "group" in module["module"])
    assert model.config.num_hidden_layers == 2
    assert info["unshared_total"]["parameters"] == info["total"]["parameters"] + layer


def test_info_of_a_model_without_an_order_head(run, directory, tmp_path):
    config = AlbertConfig.from_pretrained(directory)
    AlbertForMaskedLM(config).save_pretrained(tmp_path)
    _, out, _ = run("info", "--model", str(tmp_path), "--json")
    modules = [module["module"] for module in json.loads(out)["modules"]]
    assert "pooler" not in modules
    assert "sentence order head" not in modules


# ---------------------------------------------------------------------------- trace


def test_trace_lists_every_array(run, directory):
    status, out, err = run("trace", ONE, "--model", directory, "--json", "--dtype", "float64")
    (result,) = json.loads(out)
    assert (status, err, result["text"]) == (0, "", ONE)
    model = AlbertForPreTraining.from_pretrained(directory, dtype="float64")
    tokenizer = AlbertTokenizer.from_pretrained(directory)
    trace = model.trace(**tokenizer([ONE], return_tensors="np"))
    assert result["tokens"] == tokenizer.convert_ids_to_tokens(tokenizer.encode(ONE))
    arrays = [
        (operation, name, array) for operation in trace for name, array in operation.outputs.items()
    ]
    for row, (operation, name, array) in zip(result["operations"], arrays, strict=True):
        assert row["name"] in (operation.name, f"{operation.name}.{name}")
        assert operation.function.__name__ == f"{row['function']}_forward"
        assert row["shape"] == list(array.shape)
        statistics = [row[key] for key in ("mean", "standard_deviation", "min", "max")]
        assert statistics == [array.mean(), array.std(), array.min(), array.max()]


@pytest.mark.parametrize("columns", [None, "80"])
def test_trace_prints_whole_names(run, directory, monkeypatch, columns):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = run("trace", "a dog", "--model", directory)
    assert out.startswith("tokens: [CLS] ")
    name = "albert.encoder.layers.0.attention.self.split_heads.query"
    (line,) = [line for line in out.splitlines() if name in line]
    assert line.split()[1] == "split_heads"
    if columns:
        assert max(map(len, out.splitlines())) <= 80
    else:
        assert len(line.split()) == 7


def test_a_statistic_that_is_not_finite_is_null(run, directory, tmp_path):
    """In float32, weights of 3e38 overflow; JSON has no number for what they give."""
    model = AlbertForPreTraining.from_pretrained(directory)
    model.parameters["albert.encoder.embedding_hidden_mapping_in.weight"][...] = 3e38
    model.save_pretrained(tmp_path)
    AlbertTokenizer.from_pretrained(directory).save_pretrained(tmp_path)
    process = start("trace", "a dog", "--model", str(tmp_path), "--json")
    out, err = process.communicate()
    assert process.returncode == 0
    assert "NaN" not in out and "Infinity" not in out
    rows = json.loads(out)[0]["operations"]
    assert any(row["mean"] is None for row in rows)
    assert all(line.startswith("albert-np: warning: ") for line in err.splitlines())


# ---------------------------------------------------------------------------- the command itself


def test_help_and_version(run):
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    assert all(command in out for command in COMMANDS)
    assert run("--version")[:2] == (0, "albert-np 0.1.0\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_an_example(run, command):
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "")
    assert f"$ albert-np {command}" in out


def test_help_imports_nothing_that_takes_time():
    code = (
        "import sys; from albert_np.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted({'numpy', 'scipy', 'sentencepiece', 'rich'} & set(sys.modules)))"
    )
    process = start(code=code)
    out, err = process.communicate()
    assert (err, process.returncode) == ("", 0)
    assert out.splitlines()[-1] == ""


WRONG = [
    (
        (),
        "no command is given; the commands are fill-mask, embed, classify, tag, answer, info, "
        "trace, verify, pretrain, warm-up",
    ),
    (("fil-mask", "x"), "there is no command 'fil-mask'; did you mean fill-mask?"),
    (("xyz",), "there is no command 'xyz'; the commands are"),
    (("verify",), "no command is given; the commands are golden, compare, run, kernel"),
    (("verify", "comprae"), "there is no command 'comprae'; did you mean compare?"),
    (("fill-mask", "x", "--file", ""), "argument --file: it is empty; expected a name"),
    (("info", "--model", ""), "argument --model: it is empty"),
    (("pretrain", "--tiny", "--output", ""), "argument --output: it is empty"),
    (("pretrain", "--tiny", "--output", "o", "--vocabulary", ""), "argument --vocabulary: it is"),
    (("--verbose",), "--verbose"),
    (("fill-mask", "x", "--top", "3"), "unrecognized arguments: --top"),
    (("fill-mask", "x", "--top-k", "many"), "argument --top-k: invalid int value: 'many'"),
    (("fill-mask", "x", "--top-k"), "argument --top-k: expected one argument"),
    (("fill-mask", "x", "--dtype", "float16"), "argument --dtype: invalid choice: 'float16'"),
    (("fill-mask", "x", "--file", "y"), "both TEXT and --file are given"),
    (("fill-mask", "--file", "missing"), "missing: No such file or directory"),
    (("fill-mask", "--file", "two\nlines"), "two lines: No such file or directory"),
    (("fill-mask", "--file", "."), ".: "),
    (("fill-mask", ONE, "--model", "missing"), "'missing' is not a directory"),
    (("fill-mask", ONE, "--model", "."), "config.json"),
    (("info", "--config", "albert-small"), "'albert-small'; expected one of albert-base-v1"),
    (("info", "--config", "albert-base-v2", "--model", "x"), "not allowed with argument"),
    (("info", "x"), "unrecognized arguments: x"),
    (("pretrain", "--tiny"), "the following arguments are required: --output"),
    (("pretrain", "--output", "x"), "neither of FILE and --tiny given"),
    (("pretrain", "y", "--tiny", "--output", "x"), "both of FILE and --tiny given"),
    (("pretrain", "--tiny", "--vocabulary", "v", "--output", "x"), "both --tiny and --vocabulary"),
]
WRONG_WITH_MODEL = [
    (("fill-mask", "no mask"), "TEXT 1 has no [MASK]: 'no mask'"),
    (("fill-mask", "two\nlines"), "TEXT 1 has no [MASK]: 'two lines'"),
    (("fill-mask", ONE, "--top-k", "0"), "top_k is 0; expected 1 to"),
    (("fill-mask", ONE, "--top-k", "100000"), "top_k is 100000; expected 1 to"),
    (("fill-mask", "[MASK]" * MAX_LENGTH), f"max_position_embeddings is {MAX_LENGTH}"),
    (("trace", "[MASK]" * MAX_LENGTH), f"max_position_embeddings is {MAX_LENGTH}"),
    (("fill-mask", "\udcff [MASK]"), "lone surrogate"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_arguments(run, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert_one_error(run(*arguments), message)


@pytest.mark.parametrize(("arguments", "message"), WRONG_WITH_MODEL)
def test_wrong_texts(run, directory, arguments, message):
    assert_one_error(run(*arguments, "--model", directory), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a [MASK]\n\xff", "is not UTF-8: byte 0xff at offset 9"),
        (b"", "holds no text"),
        (b"\n \r\n", "holds no text"),
    ],
)
def test_wrong_files(run, standard_input, directory, tmp_path, content, message):
    path = tmp_path / "texts"
    path.write_bytes(content)
    result = run("fill-mask", "--file", str(path), "--model", directory)
    assert_one_error(result, f"{path} {message}")
    standard_input(content)
    assert_one_error(run("trace", "--model", directory), f"standard input {message}")


@pytest.mark.parametrize(
    ("command", "argument"),
    [("fill-mask", "TEXT"), ("trace", "TEXT"), ("answer", "QUESTION and --context")],
)
def test_no_text(run, terminal_input, command, argument):
    assert_one_error(run(command), f"no text is given; expected {argument}, --file, or lines")


def test_no_question(run, tmp_path):
    (tmp_path / "empty").write_text("\n")
    result = run("answer", "--file", str(tmp_path / "empty"))
    assert_one_error(result, 'no text; expected one {"question": …, "context": …} a line')


def test_a_damaged_checkpoint(run, directory, tmp_path):
    AlbertConfig.from_pretrained(directory).save_pretrained(tmp_path)
    AlbertTokenizer.from_pretrained(directory).save_pretrained(tmp_path)
    assert_one_error(run("fill-mask", ONE, "--model", str(tmp_path)), "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    assert_one_error(run("fill-mask", ONE, "--model", str(tmp_path)), "model.safetensors")
    (tmp_path / "spiece.model").write_bytes(b"no vocabulary")
    assert_one_error(run("fill-mask", ONE, "--model", str(tmp_path)), "spiece.model")
    (tmp_path / "config.json").write_text("{")
    for command in (["fill-mask", ONE], ["info"], ["trace", ONE]):
        assert_one_error(run(*command, "--model", str(tmp_path)), "config.json")


def test_warnings_are_lines_on_standard_error(directory, tmp_path):
    model = AlbertForPreTraining.from_pretrained(directory)
    model.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path, architectures=["AlbertForMaskedLM"])
    AlbertTokenizer.from_pretrained(directory).save_pretrained(tmp_path)
    process = start("fill-mask", ONE, "--model", str(tmp_path), "--json")
    out, err = process.communicate()
    assert process.returncode == 0
    json.loads(out)
    assert err.startswith("albert-np: warning: ")
    assert "sop_classifier" in err
    assert err.count("\n") == 1


def test_interrupted(run, monkeypatch):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.fill_mask, "texts_of", interrupt)
    assert run("fill-mask", ONE) == (130, "", "\nalbert-np: interrupted\n")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_progress_is_shown_on_a_terminal_alone(directory):
    terminal, end = os.openpty()
    process = start("fill-mask", ONE, "--model", directory, stderr=end)
    out, _ = process.communicate()
    os.close(end)
    shown = os.read(terminal, 2**16).decode()
    os.close(terminal)
    assert process.returncode == 0
    assert "filling in" in shown and "100%" in shown
    assert "filling in" not in out


def test_pretrain_says_its_defaults(run):
    _, out, _ = run("pretrain", "--help")
    text, tiny = (signature(recipe).parameters for recipe in (pretrain_text, pretrain_tiny))
    for name in ("steps", "batch_size", "learning_rate"):
        said = f"(default: {text[name].default}; {tiny[name].default} with --tiny)"
        assert said in " ".join(out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("trace", ONE),  # more than a buffer holds
        ("trace", ONE, "--json"),
        ("info", "--json"),  # less
    ],
)
def test_a_closed_pipe_ends_it_quietly(directory, arguments):
    process = start(*arguments, "--model", directory)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_full_disk_is_an_error(arguments):
    with open("/dev/full", "w") as full:
        process = start("info", "--config", "albert-base-v2", *arguments, stdout=full)
        _, err = process.communicate()
    assert_one_error((process.returncode, "", err), "standard output: No space left on device")


def test_closed_standard_output_is_an_error(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", None)
    assert cli.main(["info", "--config", "albert-base-v2"]) == 2
    assert capsys.readouterr().err.startswith("albert-np: error: standard output is closed")


def test_python_dash_m():
    process = subprocess.run(
        [sys.executable, "-m", "albert_np", "--version"], capture_output=True, text=True
    )
    assert (process.returncode, process.stdout) == (0, "albert-np 0.1.0\n")
