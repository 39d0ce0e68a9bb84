"""What the heads promise beyond what holds for every model: their labels, losses and shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_support import random_batch, random_model

from albert_np import (
    AlbertConfig,
    AlbertForMultipleChoice,
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    outputs,
)
from albert_np.functions.binary_cross_entropy import binary_cross_entropy_forward
from albert_np.functions.cross_entropy import cross_entropy_forward
from albert_np.functions.mean_squared_error import mean_squared_error_forward

pytestmark = pytest.mark.usefixtures("each_backend")

IDS = [[1, 2, 3], [4, 5, 6]]
SEEDS = st.integers(0, 2**32 - 1)


def small_config(**settings):
    return AlbertConfig(
        vocab_size=20,
        embedding_size=5,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=9,
        max_position_embeddings=8,
        **settings,
    )


def classifier(**settings):
    return random_model(AlbertForSequenceClassification, small_config(**settings))


def test_outputs_have_the_documented_kinds_names_and_shapes():
    generator = np.random.default_rng(0)
    for model_class, kind, names, shapes in [
        (
            AlbertForSequenceClassification,
            outputs.SequenceClassifierOutput,
            ["loss", "logits"],
            [(), (2, 3)],
        ),
        (
            AlbertForTokenClassification,
            outputs.TokenClassifierOutput,
            ["loss", "logits"],
            [(), (2, 5, 3)],
        ),
        (
            AlbertForMultipleChoice,
            outputs.MultipleChoiceModelOutput,
            ["loss", "logits"],
            [(), (2, 4)],
        ),
        (
            AlbertForQuestionAnswering,
            outputs.QuestionAnsweringModelOutput,
            ["loss", "start_logits", "end_logits"],
            [(), (2, 5), (2, 5)],
        ),
    ]:
        num_labels = 2 if model_class is AlbertForQuestionAnswering else 3
        model = random_model(model_class, small_config(num_labels=num_labels))
        batch = random_batch(model_class, model.config, generator, (2, 5))
        if model_class is AlbertForMultipleChoice:
            batch = {"input_ids": generator.integers(0, 20, (2, 4, 5)), "labels": [0, 3]}
        output = model(**batch, output_hidden_states=True, output_attentions=True)
        assert type(output) is kind
        assert output.keys() == [*names, "hidden_states", "attentions"]
        assert [value.shape for value in output[: len(names)]] == shapes
        rows = 8 if model_class is AlbertForMultipleChoice else 2
        assert [x.shape for x in output.hidden_states] == [(rows, 5, 8)] * 3
        assert [x.shape for x in output.attentions] == [(rows, 2, 5, 5)] * 2


# Texts


@pytest.mark.parametrize(
    ("settings", "labels", "loss"),
    [
        ({"num_labels": 1}, [0.5, -2.0], "regression"),
        ({"num_labels": 1}, [[0.5], [-2.0]], "regression"),
        ({"num_labels": 1}, [1, -2], "regression"),
        ({"num_labels": 3}, [2, 0], "single"),
        ({"num_labels": 3}, [-100, 0], "single"),
        ({"num_labels": 3}, [[1.0, 0.0, 1.0], [0.0, 0.25, 0.0]], "multi"),
        ({"num_labels": 3, "problem_type": "regression"}, [[1, 2, 3], [4, 5, 6]], "regression"),
        ({"problem_type": "single_label_classification", "num_labels": 1}, [0, 0], "single"),
        ({"problem_type": "multi_label_classification"}, [[1, 0], [1, 1]], "multi"),
        ({"problem_type": "multi_label_classification", "num_labels": 1}, [[1], [0]], "multi"),
    ],
)
def test_which_loss_labels_have(settings, labels, loss):
    """By the problem_type that the configuration names; else by num_labels and the labels' kind."""
    model = classifier(**settings)
    output = model(IDS, labels=labels)
    labels, logits = np.array(labels), output.logits
    expected = {
        "regression": lambda: mean_squared_error_forward(logits, labels.reshape(logits.shape)),
        "single": lambda: cross_entropy_forward(logits, labels),
        "multi": lambda: binary_cross_entropy_forward(logits, labels),
    }[loss]
    assert output.loss == expected()[0]


def test_a_problem_type_that_was_inferred_holds_for_that_call_alone():
    model = classifier(num_labels=3)
    before = model.config.to_dict()
    several = model(IDS, labels=[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).loss
    one = model(IDS, labels=[2, 0]).loss
    assert model.config.to_dict() == before and model.config.problem_type is None
    assert several == classifier(num_labels=3)(IDS, labels=[[1.0, 0, 1], [0, 1, 0]]).loss
    assert one == classifier(num_labels=3)(IDS, labels=[2, 0]).loss


@pytest.mark.parametrize(
    ("settings", "labels", "message"),
    [
        ({}, [0, 2], "has the value 2; expected -100, or 0 to 1"),
        ({}, [0, -1], "has the value -1; expected -100, or 0 to 1"),
        ({}, [0], r"labels \(single_label_classification\) has shape \(1,\); expected \(2,\)"),
        ({}, [[0], [1]], r"has shape \(2, 1\); expected \(2,\)"),
        ({}, [0.0, 1.0], r"labels \(multi_label_classification\) has shape \(2,\); .*\(2, 2\)"),
        ({}, [[0.0, 1.5], [0, 0]], "has the value 1.5; expected 0 to 1"),
        ({}, [[0.0, np.nan], [0, 0]], "has the value nan; expected 0 to 1"),
        ({}, [[0.0, 1.0], [1.0]], "labels is ragged"),
        ({"num_labels": 1}, [1.0], r"labels \(regression\) has shape \(1,\); expected \(2,\)"),
        ({"num_labels": 1}, [1.0, np.inf], "has the value inf; expected finite numbers"),
        ({"problem_type": "regression"}, [1.0, 2.0], r"has shape \(2,\); expected \(2, 2\)"),
    ],
)
def test_wrong_labels_of_texts(settings, labels, message):
    model = classifier(**settings)
    for run in (model, model.vjp, model.loss_and_gradients):
        with pytest.raises(ValueError, match=message):
            run(input_ids=IDS, labels=labels)


@pytest.mark.parametrize(
    ("settings", "labels", "message"),
    [
        ({}, ["yes", "no"], "labels has dtype <U3; expected integers or floating numbers"),
        ({"num_labels": 1}, [True, False], "labels has dtype bool; expected integers or floating"),
        ({}, [1j, 0], "labels has dtype complex128; expected integers or floating"),
        (
            {"problem_type": "single_label_classification"},
            [0.0, 1.0],
            r"labels \(single_label_classification\) has dtype float64; expected integers",
        ),
    ],
)
def test_labels_of_texts_of_wrong_types(settings, labels, message):
    with pytest.raises(TypeError, match=message):
        classifier(**settings)(IDS, labels=labels)


def test_a_number_too_large_for_the_model_is_refused():
    model = AlbertForSequenceClassification(small_config(num_labels=1), dtype="float32")
    with pytest.raises(ValueError, match="has the value inf; expected finite numbers"):
        model(IDS, labels=[1e300, 0.0])


def test_a_classifier_without_a_dropout_of_its_own_has_that_of_the_hidden_states():
    """With no other dropout, the mask is all that tells the two apart."""
    rates = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0}
    for model_class in (AlbertForTokenClassification, AlbertForSequenceClassification):
        none, same, zero = (
            random_model(model_class, small_config(**rates, classifier_dropout_prob=p))
            for p in (None, 0.5, 0)
        )
        logits = none(IDS, seed=1).logits
        np.testing.assert_array_equal(logits, same(IDS, seed=1).logits)
        assert (logits != zero(IDS, seed=1).logits).any()


# Tokens


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([[0, 1, 2], [0, 0, 0]], ValueError, "labels has the value 2; expected -100, or 0 to 1"),
        ([0, 1], ValueError, r"labels has shape \(2,\); expected \(2, 3\)"),
        ([[0.0, 1.0, 1.0]] * 2, TypeError, "labels has dtype float64; expected integers"),
    ],
)
def test_wrong_labels_of_tokens(labels, error, message):
    with pytest.raises(error, match=message):
        AlbertForTokenClassification(small_config())(IDS, labels=labels)


# Choices

CHOICES = [[[1, 2, 3], [4, 5, 6]]]


@given(seed=SEEDS)
def test_choices_do_not_see_each_other(seed):
    """Each choice scores as it does alone, whatever else there is to choose."""
    generator = np.random.default_rng(seed)
    model = random_model(AlbertForMultipleChoice, small_config(), seed)
    batch = random_batch(AlbertForMultipleChoice, model.config, generator, from_embeds=True)
    del batch["labels"]
    logits = model(**batch).logits
    B, C, *_ = batch["inputs_embeds"].shape
    assert logits.shape == (B, C)
    for question, choice in np.ndindex(B, C):
        alone = {
            name: value[question : question + 1, choice : choice + 1]
            for name, value in batch.items()
        }
        np.testing.assert_allclose(
            model(**alone).logits, [[logits[question, choice]]], rtol=0, atol=1e-13
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither of input_ids and inputs_embeds given"),
        ({"attention_mask": np.ones((1, 2, 3))}, "neither of input_ids and inputs_embeds given"),
        (
            {"input_ids": IDS},
            r"input_ids has shape \(2, 3\); expected \(batch, choices, sequence\)",
        ),
        (
            {"inputs_embeds": np.zeros((2, 3, 5))},
            r"inputs_embeds has shape \(2, 3, 5\); expected \(batch, choices, sequence, embedding",
        ),
        ({"input_ids": np.zeros((1, 0, 3), int)}, "input_ids is empty"),
        ({"input_ids": [[[1, 2], [3]]]}, "input_ids is ragged"),
        (
            {"input_ids": CHOICES, "attention_mask": np.ones((2, 3))},
            r"attention_mask has shape \(2, 3\); expected \(1, 2, 3\)",
        ),
        (
            {"input_ids": CHOICES, "token_type_ids": np.zeros((1, 2, 4), int)},
            r"token_type_ids has shape \(1, 2, 4\); expected \(1, 2, 3\)",
        ),
        (
            {"input_ids": CHOICES, "position_ids": [[0, 1, 2]]},
            r"position_ids has shape \(1, 3\); expected \(1, 2, 3\)",
        ),
        ({"input_ids": CHOICES, "labels": [2]}, "labels has the value 2; expected -100, or 0 to 1"),
        ({"input_ids": CHOICES, "labels": [0, 1]}, r"labels has shape \(2,\); expected \(1,\)"),
    ],
)
def test_wrong_choices(arguments, message):
    model = AlbertForMultipleChoice(small_config())
    for run in (lambda **a: model(**a), model.vjp, model.trace):
        with pytest.raises(ValueError, match=message):
            run(**arguments)


def test_choices_of_floating_numbers():
    model = AlbertForMultipleChoice(small_config())
    with pytest.raises(TypeError, match="input_ids has dtype float64; expected integers"):
        model(np.zeros((1, 2, 3)))
    with pytest.raises(TypeError, match="labels has dtype float64; expected integers"):
        model(CHOICES, labels=[1.0])


# Answers


def answering(ids=IDS, **positions):
    return random_model(AlbertForQuestionAnswering, small_config()).vjp(input_ids=ids, **positions)


def test_the_loss_of_an_answer_is_the_average_of_its_ends():
    output, _ = answering(start_positions=[0, 2], end_positions=[1, 2])
    start, _ = cross_entropy_forward(output.start_logits, np.array([0, 2]))
    end, _ = cross_entropy_forward(output.end_logits, np.array([1, 2]))
    np.testing.assert_allclose(output.loss, (start + end) / 2, rtol=1e-15)


@pytest.mark.parametrize("outside", [3, 4, 2**40, -1, -100, -(2**40)])
def test_positions_outside_of_the_sequence_are_not_taken_into_account(outside):
    """Behind the end or before the start: the other row's loss is all there is."""
    output, pullback = answering(start_positions=[0, outside], end_positions=[1, outside])
    alone, _ = answering(IDS[:1], start_positions=[0], end_positions=[1])
    np.testing.assert_allclose(output.loss, alone.loss, rtol=1e-13)
    gradients = pullback()
    assert gradients.inputs_embeds[0].any() and not gradients.inputs_embeds[1].any()


def test_without_a_position_inside_there_is_no_loss_and_no_gradient():
    """The mean of nothing is not a number, as everywhere where all labels are ignored."""
    output, pullback = answering(start_positions=[3, 3], end_positions=[3, 3])
    assert np.isnan(output.loss)
    assert not any(gradient.any() for gradient in pullback().parameters.values())
    for model_class, labels in [
        (AlbertForSequenceClassification, [-100, -100]),
        (AlbertForTokenClassification, [[-100] * 3] * 2),
    ]:
        loss, gradients = random_model(model_class, small_config()).loss_and_gradients(
            input_ids=IDS, labels=labels
        )
        assert np.isnan(loss)
        assert not any(gradient.any() for gradient in gradients.parameters.values())


def test_the_loss_of_an_answer_needs_both_of_its_ends():
    model = AlbertForQuestionAnswering(small_config())
    assert model(IDS, start_positions=[0, 1]).loss is None
    assert model(IDS, end_positions=[0, 1]).loss is None
    with pytest.raises(ValueError, match="has no loss without end_positions"):
        model.loss_and_gradients(input_ids=IDS, start_positions=[0, 1])


@pytest.mark.parametrize(
    ("positions", "error", "message"),
    [
        ([0], ValueError, r"start_positions has shape \(1,\); expected \(2,\)"),
        ([[0], [1]], ValueError, r"start_positions has shape \(2, 1\); expected \(2,\)"),
        ([0.0, 1.0], TypeError, "start_positions has dtype float64; expected integers"),
    ],
)
def test_wrong_positions(positions, error, message):
    model = AlbertForQuestionAnswering(small_config())
    with pytest.raises(error, match=message):
        model(IDS, start_positions=positions, end_positions=[0, 0])


# Two labels, whatever they are called


@pytest.mark.parametrize("num_labels", [1, 3])
@pytest.mark.parametrize(
    ("model_class", "meaning"),
    [
        (AlbertForQuestionAnswering, "the start and the end of an answer"),
        (AlbertForPreTraining, "the orders of two segments"),
    ],
)
def test_num_labels_is_two(model_class, meaning, num_labels):
    message = f"num_labels is {num_labels}; expected 2: {meaning}"
    with pytest.raises(ValueError, match=message):
        model_class(small_config(num_labels=num_labels))
    model_class(small_config(id2label={0: "one", 1: "another"}))
