"""Labels of texts and of pairs, and labels of one's own: scores, shapes, wrong arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pipelines_support import MAX_LENGTH, RELATIONS, save_classifier, save_small_model

from albert_np import AlbertForPreTraining, AlbertForSequenceClassification, AlbertTokenizer
from albert_np.pipelines import BATCH_SIZE, classify, classify_zero_shot, predict_labels
from albert_np.pipelines.classification import best_labels, label_scores
from albert_np.pipelines.zero_shot import entailment_index, entailment_scores

TEXT = "The capital of France is Paris."
PAIR = {"text": TEXT, "text_pair": "A cat is red."}
LOGITS = st.integers(1, 6).flatmap(
    lambda size: hnp.arrays(float, size, elements=st.floats(-50, 50))
)


class Config:
    """What the scores depend on."""

    def __init__(self, num_labels, problem_type=None):
        self.num_labels, self.problem_type = num_labels, problem_type


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def tokenizer(directory):
    return AlbertTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def model(directory):
    return AlbertForSequenceClassification.from_pretrained(directory, dtype="float64")


def shape(result):
    """The nesting of a result, a dictionary counting as a label."""
    return [shape(item) for item in result] if isinstance(result, list) else "label"


# ------------------------------------------------------------------------------ scores


@given(logits=LOGITS)
def test_several_labels_share_one_probability(logits):
    scores = label_scores(logits, Config(len(logits)))
    if len(logits) == 1:
        np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), rtol=1e-15)
    else:
        # Closed form: odds are exponentials of differences. Exponents of up to 100 are rounded
        # to 100 · 2⁻⁵³ each.
        np.testing.assert_allclose(
            scores, 1 / np.exp(logits[None, :] - logits[:, None]).sum(axis=1), rtol=1e-13
        )


@given(logits=LOGITS)
def test_each_of_many_labels_has_its_own_probability(logits):
    scores = label_scores(logits, Config(len(logits), "multi_label_classification"))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), rtol=1e-15)


@given(logits=LOGITS)
def test_a_regression_has_no_probability(logits):
    assert label_scores(logits, Config(len(logits), "regression")) is logits


@given(scores=LOGITS, top_k=st.none() | st.integers(1, 6))
def test_best_labels_are_those_of_the_highest_scores(scores, top_k):
    names = [f"label {index}" for index in range(len(scores))]
    labels = best_labels(scores, names, top_k)
    assert len(labels) == min(top_k or len(scores), len(scores))
    assert [label["score"] for label in labels] == sorted(scores, reverse=True)[: len(labels)]
    assert all(label["score"] == scores[names.index(label["label"])] for label in labels)
    assert len({label["label"] for label in labels}) == len(labels)


# ------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    ("texts", "settings", "expected"),
    [
        (TEXT, {}, ["label"]),
        (PAIR, {}, "label"),
        ([TEXT], {}, ["label"]),
        ([TEXT, PAIR], {}, ["label", "label"]),
        (TEXT, {"top_k": 1}, ["label"]),
        (PAIR, {"top_k": 2}, ["label", "label"]),
        ([TEXT], {"top_k": 1}, [["label"]]),
        ((TEXT, PAIR), {"top_k": None}, [["label"] * 3, ["label"] * 3]),
    ],
)
def test_shapes_of_results(model, tokenizer, texts, settings, expected):
    assert shape(classify(model, tokenizer, texts, **settings)) == expected


def test_scores_are_of_the_logits(model, tokenizer):
    inputs = tokenizer([PAIR["text"]], [PAIR["text_pair"]], return_tensors="np")
    expected = label_scores(model(**inputs).logits[0], model.config)
    labels = classify(model, tokenizer, PAIR, top_k=None)
    assert {label["label"]: label["score"] for label in labels} == dict(
        zip(RELATIONS, expected.tolist(), strict=True)
    )
    assert classify(model, tokenizer, PAIR) == labels[0]


def test_a_text_does_not_depend_on_its_batch(model, tokenizer):
    texts = [" ".join([TEXT] * (1 + place % 3)) for place in range(BATCH_SIZE + 3)]
    together = classify(model, tokenizer, texts)
    for text, label in zip(texts, together, strict=True):
        (alone,) = classify(model, tokenizer, text)
        assert label == alone | {"score": pytest.approx(alone["score"], rel=1e-12)}


@pytest.mark.parametrize(
    ("texts", "top_k", "error", "message"),
    [
        ("", 1, ValueError, r"texts\[0\] is empty: ''"),
        ([TEXT, " "], 1, ValueError, r"texts\[1\] is empty"),
        ([], 1, ValueError, "texts is empty"),
        (5, 1, TypeError, "texts is of type int"),
        ([TEXT, None], 1, TypeError, r"texts\[1\] is of type NoneType"),
        ({"text": TEXT, "text_pair": ""}, 1, ValueError, r"texts\[0\]\['text_pair'\] is empty"),
        ({"text": TEXT, "text_pair": 1}, 1, TypeError, r"texts\[0\]\['text_pair'\] is of type int"),
        ({"text_pair": TEXT}, 1, ValueError, r"texts\[0\] has the keys 'text_pair'; expected"),
        ({"text": TEXT, "pair": TEXT}, 1, ValueError, r"has the keys 'text', 'pair'"),
        ({}, 1, ValueError, r"texts\[0\] has the keys none"),
        (TEXT, 0, ValueError, r"top_k is 0; expected 1 to 3 \(num_labels\)"),
        (TEXT, 4, ValueError, "top_k is 4"),
        (TEXT, 1.0, TypeError, "top_k is 1.0; expected an integer"),
        ([TEXT, "dog " * 200], 1, ValueError, r"texts\[1\] has \d+ tokens; max_position_emb"),
    ],
)
def test_wrong_arguments(model, tokenizer, texts, top_k, error, message):
    with pytest.raises(error, match=message):
        predict_labels(model, tokenizer, texts if isinstance(texts, list | int) else [texts], top_k)
    with pytest.raises(error, match=message):
        classify(model, tokenizer, texts, top_k)


def test_a_model_without_the_head(tmp_path, tokenizer):
    model = AlbertForPreTraining.from_pretrained(save_small_model(tmp_path))
    with pytest.raises(TypeError, match="PreTraining; expected AlbertForSequenceClassification"):
        classify(model, tokenizer, TEXT)


def test_a_label_missing_from_id2label(directory, tokenizer):
    model = AlbertForSequenceClassification.from_pretrained(directory)
    model.config.id2label = {0: "no", 1: "maybe", 3: "yes"}
    with pytest.raises(ValueError, match=r"config.id2label lacks 2; expected a name for each of 3"):
        classify(model, tokenizer, TEXT)


# ------------------------------------------------------------------------------ zero-shot


@given(
    logits=hnp.arrays(float, st.tuples(st.integers(1, 5), st.just(3)), elements=st.floats(-50, 50)),
    entailment=st.integers(0, 2),
    multi_label=st.booleans(),
)
def test_entailment_against_contradiction_or_against_each_other(logits, entailment, multi_label):
    scores = entailment_scores(logits, entailment, multi_label)
    if multi_label or len(logits) == 1:
        contradiction = logits[:, 2 if entailment == 0 else 0]
        expected = 1 / (1 + np.exp(contradiction - logits[:, entailment]))
    else:
        column = logits[:, entailment]
        expected = 1 / np.exp(column[None, :] - column[:, None]).sum(axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-13)  # as above


@pytest.mark.parametrize(
    ("names", "expected"),
    [(RELATIONS, 2), (("ENTAILED", "not"), 0), (("no", "Entails", "entailment"), 1)],
)
def test_the_label_that_means_entailment(names, expected):
    assert entailment_index(names) == expected


def test_no_label_means_entailment():
    with pytest.raises(ValueError, match="id2label has yes, no; expected a label that starts with"):
        entailment_index(["yes", "no"])


@pytest.mark.parametrize("labels", ["red, blue ,a dog,", ["red", "blue", "a dog"]])
def test_zero_shot(model, tokenizer, labels):
    result = classify_zero_shot(model, tokenizer, TEXT, labels)
    assert list(result) == ["sequence", "labels", "scores"]
    assert result["sequence"] == TEXT
    assert sorted(result["labels"]) == ["a dog", "blue", "red"]
    assert result["scores"] == sorted(result["scores"], reverse=True)
    assert sum(result["scores"]) == pytest.approx(1, rel=1e-15)
    assert classify_zero_shot(model, tokenizer, [TEXT], labels) == [result]


def test_zero_shot_asks_what_the_template_says(model, tokenizer):
    result = classify_zero_shot(model, tokenizer, TEXT, "red, blue", "It is {}", multi_label=True)
    for label, score in zip(result["labels"], result["scores"], strict=True):
        inputs = tokenizer([TEXT], [f"It is {label}"], return_tensors="np")
        contradiction, _, entailment = model(**inputs).logits[0]
        assert score == pytest.approx(1 / (1 + np.exp(contradiction - entailment)), rel=1e-12)


def test_zero_shot_cuts_the_text_not_the_label(model, tokenizer):
    long = "dog " * 200
    result = classify_zero_shot(model, tokenizer, long, ["a cat"])
    inputs = tokenizer([long], ["This example is a cat."], truncation="only_first",
                       max_length=MAX_LENGTH, return_tensors="np")  # fmt: skip
    contradiction, _, entailment = model(**inputs).logits[0]
    assert result["scores"] == [pytest.approx(1 / (1 + np.exp(contradiction - entailment)))]


@pytest.mark.parametrize(
    ("texts", "settings", "error", "message"),
    [
        ("", {}, ValueError, r"texts\[0\] is empty"),
        ([], {}, ValueError, "texts is empty"),
        (TEXT, {"candidate_labels": []}, ValueError, "candidate_labels is empty"),
        (TEXT, {"candidate_labels": " , "}, ValueError, "candidate_labels is empty"),
        (TEXT, {"candidate_labels": ["a", ""]}, ValueError, r"candidate_labels\[1\] is empty"),
        (TEXT, {"candidate_labels": 5}, TypeError, "candidate_labels is of type int"),
        (TEXT, {"hypothesis_template": "It is."}, ValueError, "expected {} where the label goes"),
        (TEXT, {"hypothesis_template": "It is {0.x}"}, ValueError, "hypothesis_template is"),
        (TEXT, {"hypothesis_template": "It is {a}"}, ValueError, "hypothesis_template is"),
        (TEXT, {"hypothesis_template": "It is {"}, ValueError, "hypothesis_template is"),
        (TEXT, {"hypothesis_template": "{}" + "dog " * 200}, ValueError, "truncation"),
    ],
)
def test_wrong_arguments_of_zero_shot(model, tokenizer, texts, settings, error, message):
    with pytest.raises(error, match=message):
        classify_zero_shot(model, tokenizer, texts, **{"candidate_labels": ["a"], **settings})


def test_zero_shot_without_the_head(tmp_path, tokenizer):
    model = AlbertForPreTraining.from_pretrained(save_small_model(tmp_path))
    with pytest.raises(TypeError, match="PreTraining; expected AlbertForSequenceClassification"):
        classify_zero_shot(model, tokenizer, TEXT, "a, b")
