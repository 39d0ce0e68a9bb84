"""The examples of fine-tuning: a few steps on made-up rows, and whole on real ones."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import albert_np
from albert_np import AlbertTokenizer, pipelines
from albert_np.checkpoint import TINY_DIRECTORY

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
MODELS = {
    "mrpc": "AlbertForSequenceClassification",
    "swag": "AlbertForMultipleChoice",
    "conll": "AlbertForTokenClassification",
    "squad": "AlbertForQuestionAnswering",
}
REAL = {
    "mrpc": "mrpc/train.tsv",
    "swag": "swag/sample.json",
    "conll": "conll/sample.json",
    "squad": "squad/sample.json",
}
FITTED = 0.95

MRPC = (
    "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    '1\t1\t2\tParis is in France .\t" Paris is a city in France .\n'
    "0\t3\t4\tRome is in Italy .\tA cat is red .\n"
)
SWAG = [
    {"sent1": "A cat is red.", "sent2": "It", "label": 2}
    | {
        f"ending{place}": f"is a {word}."
        for place, word in enumerate(("dog", "sky", "cat", "city"))
    }
]
CONLL = [
    {"words": ["Paris", "is", "in", "France", "."], "ner": ["B-LOC", "O", "O", "B-LOC", "O"]},
    {"words": ["Dr.", "Who"], "ner": ["B-PER", "I-PER"]},
]
CONTEXT = "A cat is an animal. " * 12 + "Paris is the capital of France."
SQUAD = {
    "data": [
        {
            "question": "What is the capital of France?",
            "context": CONTEXT,
            "answers": {"text": ["Paris"], "answer_start": [CONTEXT.index("Paris")]},
        },
        {
            "question": "What is red?",
            "context": "Paris is the capital of France.",
            "answers": {"text": [], "answer_start": []},
        },
    ]
}


def json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


MADE_UP = {
    "mrpc": MRPC, "swag": json_lines(SWAG), "conll": json_lines(CONLL), "squad": json.dumps(SQUAD),
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:.*albert_np/assets/tiny:UserWarning")


def example(name):
    """The module of an example, which is no part of a package."""
    if name in ("conll", "squad"):
        pytest.importorskip("tokenizers", reason="the extra `fast` is not installed")
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=MODELS)
def made_up(request, tmp_path):
    """An example's name, and a file of made-up rows for it."""
    path = tmp_path / "rows"
    path.write_text(MADE_UP[request.param], encoding="utf-8")
    return request.param, path


def run_example(name, data, output, vocabulary=TINY_DIRECTORY / "spiece.model", **settings):
    """What an example's `main` returns; one of them starts with a vocabulary alone."""
    arguments = (data, vocabulary, output) if name == "squad" else (data, output)
    return example(name).main(*arguments, **settings)


def test_a_few_steps_on_made_up_rows(made_up, tmp_path):
    name, path = made_up
    losses, accuracy = run_example(name, path, tmp_path / "model", steps=12)
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert 0 <= accuracy <= 1
    model = getattr(albert_np, MODELS[name]).from_pretrained(tmp_path / "model")
    assert model.config.id2label is not None
    AlbertTokenizer.from_pretrained(tmp_path / "model")


def test_what_was_fine_tuned_runs_in_its_pipeline(made_up, tmp_path):
    name, path = made_up
    if name == "swag":
        pytest.skip("multiple choice has no pipeline")
    run_example(name, path, tmp_path / "model", steps=40)
    model = getattr(albert_np, MODELS[name]).from_pretrained(tmp_path / "model")
    fast = "AlbertTokenizer" if name == "mrpc" else "AlbertTokenizerFast"
    tokenizer = getattr(albert_np, fast).from_pretrained(tmp_path / "model")
    if name == "mrpc":
        pair = {"text": "Rome is in Italy .", "text_pair": "A cat is red ."}
        assert pipelines.classify(model, tokenizer, pair)["label"] == "different"
    elif name == "conll":
        words = pipelines.tag(model, tokenizer, "Paris is in France", "first")
        assert [(word["entity_group"], word["word"]) for word in words] == [
            ("LOC", "paris"), ("LOC", "france"),
        ]  # fmt: skip
    else:
        found = pipelines.answer(model, tokenizer, SQUAD["data"][0]["question"], CONTEXT,
                                 max_seq_len=128, doc_stride=32)  # fmt: skip
        assert found["answer"].strip() == "Paris"


def test_an_answer_is_labelled_where_it_stands(tmp_path):
    """Of the rows of a long context, those that hold the answer are labelled with its tokens."""
    squad = example("squad")
    path = tmp_path / "rows"
    path.write_text(MADE_UP["squad"])
    tokenizer = albert_np.AlbertTokenizerFast.from_pretrained("tiny")
    rows = squad.read(path, tokenizer)
    assert len(rows["input_ids"]) > 2
    starts, ends = rows["start_positions"], rows["end_positions"]
    for ids, start, end in zip(rows["input_ids"], starts, ends, strict=True):
        piece = tokenizer.convert_ids_to_tokens([int(i) for i in ids[start : end + 1]])
        assert piece in (["▁paris"], ["[CLS]"])
    assert starts[-1] == 0 < starts.max()


@pytest.mark.parametrize("name", MODELS)
def test_an_example_is_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.parametrize("name", MODELS)
def test_real_rows_are_fitted(name, shared_data, tmp_path):
    data, vocabulary = shared_data / REAL[name], shared_data / "spiece.model"
    losses, accuracy = run_example(name, data, tmp_path / "model", vocabulary)
    assert losses[-1] < losses[0] / 5
    assert accuracy >= FITTED
