"""`embed`, `classify`, `tag` and `answer`: what they print, and what they need."""

import json

import pytest
from cli_support import assert_one_error
from pipelines_support import save_answerer, save_classifier, save_small_model, save_tagger

import albert_np
from albert_np import pipelines

TEXT = "The capital of France is Paris."
OTHER = "A cat is red."
LONG = "dog " * 200


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The directory of a checkpoint with a head, by the command that needs it."""
    saved = {}

    def of(command):
        if command not in saved:
            save = {"embed": save_small_model, "classify": save_classifier,
                    "tag": save_tagger, "answer": save_answerer}[command]  # fmt: skip
            saved[command] = str(save(tmp_path_factory.mktemp(command)))
        return saved[command]

    return of


@pytest.fixture
def run_task(run, directory):
    """Run a command with a model that has the head for it."""

    def run_command(command, *arguments):
        if command in ("tag", "answer"):
            pytest.importorskip("tokenizers", reason="the extra `fast` is not installed")
        return run(command, *arguments, "--model", directory(command))

    return run_command


def load(directory, model_class, tokenizer_class="AlbertTokenizer", **settings):
    return (
        getattr(albert_np, model_class).from_pretrained(directory, **settings),
        getattr(albert_np, tokenizer_class).from_pretrained(directory),
    )


# ------------------------------------------------------------------------------ embed


@pytest.mark.filterwarnings("ignore:.*no use for")
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_embed_as_json(run_task, directory, pooling):
    status, out, err = run_task("embed", TEXT, OTHER, "--pooling", pooling, "--json")
    assert (status, err) == (0, "")
    ours = load(directory("embed"), "AlbertModel", add_pooling_layer=False)
    vectors = pipelines.embed(*ours, [TEXT, OTHER], pooling)
    assert json.loads(out) == [
        {"text": text, "embedding": vector.tolist()}
        for text, vector in zip([TEXT, OTHER], vectors, strict=True)
    ]


def test_embed_prints_a_table(run):
    status, out, err = run("embed", TEXT)
    header, _, row = out.splitlines()
    assert (status, err) == (0, "")
    assert header.split() == ["text", "first", "4", "of", "128", "numbers"]
    assert row.startswith(TEXT)
    assert len(row.removeprefix(TEXT).split()) == 4


def test_dtype(run_task):
    vectors = [
        json.loads(run_task("embed", TEXT, "--json", "--dtype", dtype)[1])[0]["embedding"]
        for dtype in ("float32", "float64")
    ]
    assert vectors[0] != vectors[1]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-3)  # of seven digits, some are lost


# ------------------------------------------------------------------------------ classify


def test_classify_as_json(run_task, directory):
    status, out, err = run_task("classify", TEXT, OTHER, "--json", "--top-k", "2")
    assert (status, err) == (0, "")
    ours = load(directory("classify"), "AlbertForSequenceClassification")
    labels = pipelines.classify(*ours, [TEXT, OTHER], top_k=2)
    assert json.loads(out) == [
        {"text": TEXT, "labels": labels[0]}, {"text": OTHER, "labels": labels[1]},
    ]  # fmt: skip


def test_classify_pairs(run_task, directory, tmp_path):
    path = tmp_path / "pairs"
    path.write_text(json.dumps({"text": TEXT, "text_pair": OTHER}))
    ours = load(directory("classify"), "AlbertForSequenceClassification")
    labels = pipelines.classify(*ours, {"text": TEXT, "text_pair": OTHER}, top_k=None)
    expected = [{"text": TEXT, "text_pair": OTHER, "labels": labels}]
    _, out, _ = run_task("classify", TEXT, "--text-pair", OTHER, "--json")
    assert json.loads(out) == expected
    _, out, _ = run_task("classify", "--file", str(path), "--json-lines", "--json")
    assert json.loads(out) == expected


def test_classify_prints_tables(run_task):
    _, out, _ = run_task("classify", TEXT, "--text-pair", OTHER)
    header, _, *rows = out.splitlines()
    assert header.split() == ["label", "score", "text"]
    assert {row.split()[0] for row in rows} == {"contradiction", "neutral", "entailment"}
    assert all(row.rstrip().endswith(f"{TEXT} / {OTHER}") for row in rows)


@pytest.mark.parametrize("multi_label", [False, True])
def test_classify_by_labels_of_ones_own(run_task, directory, multi_label):
    arguments = ["--multi-label"] * multi_label
    status, out, err = run_task(
        "classify", TEXT, "--candidate-labels", "red, blue", "--json", *arguments,
        "--hypothesis-template", "It is {}.",
    )  # fmt: skip
    assert (status, err) == (0, "")
    ours = load(directory("classify"), "AlbertForSequenceClassification")
    expected = pipelines.classify_zero_shot(*ours, TEXT, ["red", "blue"], "It is {}.", multi_label)
    (result,) = json.loads(out)
    assert result["text"] == TEXT
    assert [label["label"] for label in result["labels"]] == expected["labels"]
    assert [label["score"] for label in result["labels"]] == expected["scores"]


# ------------------------------------------------------------------------------ tag


def test_tag_as_json(run_task, directory):
    status, out, err = run_task("tag", TEXT, OTHER, "--json", "--aggregation-strategy", "first")
    assert (status, err) == (0, "")
    ours = load(directory("tag"), "AlbertForTokenClassification", "AlbertTokenizerFast")
    entities = pipelines.tag(*ours, [TEXT, OTHER], "first")
    assert any(entities)
    assert json.loads(out) == [
        {"text": TEXT, "entities": entities[0]}, {"text": OTHER, "entities": entities[1]},
    ]  # fmt: skip


@pytest.mark.parametrize("strategy", ["none", "simple"])
def test_tag_prints_tables(run_task, directory, strategy):
    _, out, _ = run_task("tag", TEXT, "--aggregation-strategy", strategy)
    header, _, *rows = out.splitlines()
    assert header.split() == ["label", "score", "start", "end", "text"]
    ours = load(directory("tag"), "AlbertForTokenClassification", "AlbertTokenizerFast")
    for row, entity in zip(rows, pipelines.tag(*ours, TEXT, strategy), strict=True):
        label = entity.get("entity_group", entity.get("entity"))
        assert row.split() == [
            label, f"{entity['score']:.2%}", str(entity["start"]), str(entity["end"]),
            *TEXT[entity["start"] : entity["end"]].split(),
        ]  # fmt: skip


def test_tag_a_long_text(run_task):
    status, out, _ = run_task("tag", LONG, "--stride", "10", "--json")
    assert status == 0
    assert json.loads(out)[0]["text"] == LONG


# ------------------------------------------------------------------------------ answer


def test_answer_as_json(run_task, directory):
    questions = ["What is red?", "Where is Paris?"]
    status, out, err = run_task(
        "answer", *questions, "--context", f"{TEXT} {OTHER}", "--top-k", "2", "--json",
        "--handle-impossible-answer", "--max-answer-len", "3", "--max-seq-len", "60",
        "--doc-stride", "10",
    )  # fmt: skip
    assert (status, err) == (0, "")
    ours = load(directory("answer"), "AlbertForQuestionAnswering", "AlbertTokenizerFast")
    answers = pipelines.answer(
        *ours, questions, f"{TEXT} {OTHER}", top_k=2, handle_impossible_answer=True,
        max_answer_len=3, max_seq_len=60, doc_stride=10,
    )  # fmt: skip
    assert json.loads(out) == [
        {"question": question, "answers": found}
        for question, found in zip(questions, answers, strict=True)
    ]


def test_answer_prints_tables(run_task):
    _, out, _ = run_task("answer", "What is red?", "--context", OTHER)
    header, _, row = out.splitlines()
    assert header.split() == ["answer", "score", "start", "end", "question"]
    assert row.rstrip().endswith("What is red?")


def test_contexts_from_files(run_task, standard_input, tmp_path):
    expected = json.loads(run_task("answer", "What?", "--context", OTHER, "--json")[1])
    path = tmp_path / "context"
    path.write_text(OTHER)
    _, out, _ = run_task("answer", "What?", "--context-file", str(path), "--json")
    assert json.loads(out) == expected
    content = json.dumps({"question": "What?", "context": OTHER, "answers": []})
    path.write_text(content)
    _, out, _ = run_task("answer", "--file", str(path), "--json")
    assert json.loads(out) == expected
    standard_input(content.encode())
    _, out, _ = run_task("answer", "--json")
    assert json.loads(out) == expected


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("command", "head"),
    [
        (("classify", TEXT), "AlbertForSequenceClassification"),
        (("classify", TEXT, "--candidate-labels", "a,b"), "AlbertForSequenceClassification"),
        (("tag", TEXT), "AlbertForTokenClassification"),
        (("answer", "What?", "--context", TEXT), "AlbertForQuestionAnswering"),
    ],
)
def test_the_model_that_ships_has_no_such_head(run, command, head):
    expected = f"tiny holds an AlbertForPreTraining; this command needs the head of {head}, in"
    assert_one_error(run(*command), expected)


def test_a_head_cannot_fill_masks(run, directory):
    expected = "this command needs the head of AlbertForMaskedLM or AlbertForPreTraining"
    assert_one_error(run("fill-mask", "[MASK]", "--model", directory("tag")), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed", ""), "TEXT 1 is empty: ''"),
        (("embed", LONG), "TEXT 1 has 202 tokens; max_position_embeddings is 128"),
        (("embed", TEXT, "--pooling", "max"), "argument --pooling: invalid choice: 'max'"),
        (("classify", " "), "TEXT 1, text is empty"),
        (("classify", TEXT, LONG), "TEXT 2 has 202 tokens"),
        (("classify", TEXT, "--text-pair", ""), "TEXT 1, text_pair is empty"),
        (("classify", TEXT, "--top-k", "4"), "top_k is 4; expected 1 to 3 (num_labels)"),
        (("classify", TEXT, "--top-k", "0"), "top_k is 0; expected 1 to 3"),
        (("classify", TEXT, "--multi-label"), "--multi-label has no meaning without --candidate"),
        (
            ("classify", TEXT, "--candidate-labels", "a", "--top-k", "1"),
            "--top-k has no meaning beside --candidate-labels",
        ),
        (("classify", TEXT, "--candidate-labels", ","), "candidate_labels is empty"),
        (
            ("classify", TEXT, "--candidate-labels", "a", "--hypothesis-template", "b"),
            "hypothesis_template is 'b'; expected {}",
        ),
        (("tag", ""), "TEXT 1 is empty"),
        (("tag", LONG), "tokens; max_position_embeddings is 128"),
        (("tag", LONG, "--stride", "126"), "stride is 126; expected 0 to 125"),
        (("tag", TEXT, "--stride", "1", "--aggregation-strategy", "none"), "stride needs an"),
        (("tag", TEXT, "--aggregation-strategy", "last"), "invalid choice: 'last'"),
        (("answer", "What?"), "no --context or --context-file is given"),
        (("answer", "--context", TEXT), "no QUESTION is given"),
        (("answer", "What?", "--context", TEXT, "--context-file", "x"), "not allowed with"),
        (("answer", "What?", "--context", TEXT, "--file", "x"), "both QUESTION and --file"),
        (("answer", "What?", "--context-file", "missing"), "missing: No such file"),
        (("answer", "What?", "--context", ""), "QUESTION 1, context is empty"),
        (("answer", "", "--context", TEXT), "QUESTION 1 is empty"),
        (("answer", LONG, "--context", TEXT), "QUESTION 1 leaves room for 0 tokens"),
        (("answer", "What?", "--context", TEXT, "--top-k", "0"), "top_k is 0; expected at least"),
        (("answer", "What?", "--context", TEXT, "--max-answer-len", "0"), "max_answer_len is 0"),
        (("answer", "What?", "--context", TEXT, "--max-seq-len", "512"), "max_seq_len is 512"),
        (("answer", "What?", "--context", TEXT, "--doc-stride", "999"), "doc_stride is 999"),
    ],
)
def test_wrong_arguments(run_task, monkeypatch, tmp_path, directory, arguments, message):
    directory(arguments[0])
    monkeypatch.chdir(tmp_path)
    assert_one_error(run_task(*arguments), message)


def test_a_question_line_without_a_context(run_task, tmp_path):
    path = tmp_path / "questions"
    path.write_text('{"question": "a", "context": "b"}\n{"question": "a"}\n')
    result = run_task("answer", "--file", str(path))
    assert_one_error(result, 'questions, line 2 has no "context"; it has question')


def test_a_label_missing_from_id2label(run, tmp_path):
    save_classifier(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["id2label"]["1"]
    path.write_text(json.dumps(config))
    assert_one_error(run("classify", TEXT, "--model", str(tmp_path)), "id2label")
