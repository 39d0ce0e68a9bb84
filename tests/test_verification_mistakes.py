"""The known mistakes: what they are made of, and that the reference makes them as asked."""

import numpy as np
import pytest
from verification_support import small_case

import albert_np
from albert_np.verification.compare import compare
from albert_np.verification.diagnosis import diagnose
from albert_np.verification.mistakes import MISTAKES
from albert_np.verification.pairs import (
    layer_norm_by_deviation_backward,
    layer_norm_by_deviation_forward,
    rearrange_backward,
    rearrange_forward,
    scale_backward,
    scale_forward,
)
from albert_np.verification.reference import reference, tensors_of
from albert_np.verification.rewriting import differentiate, rewritten_trace

BY_NAME = {mistake.name: mistake for mistake in MISTAKES}


def mistaken(case, *names, dtype="float64"):
    trace = rewritten_trace(case, [BY_NAME[name] for name in names], dtype)
    differentiate(case, trace)
    return tensors_of(case, trace)


def diagnosis_of(case, candidate):
    """Of a float32 candidate, given only what it computes."""
    computed = ("forward/", "outputs/", "backward/", "gradients/")
    candidate = {name: x for name, x in candidate.items() if name.startswith(computed)}
    return diagnose(compare(case, candidate), candidate)


def test_every_mistake_has_a_name_of_its_own_and_says_what_it_changes():
    assert len(BY_NAME) == len(MISTAKES)
    for mistake in MISTAKES:
        assert mistake.sentence.endswith(".")
        changes = [bool(mistake.at), mistake.schedule is not None, mistake.uses is not None]
        assert sum(changes) == 1
        assert (mistake.change is not None) == bool(mistake.at)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("AlbertModel", {"num_hidden_groups": 2, "inner_group_num": 2}),
        ("AlbertForPreTraining", {"position_embedding_type": "relative_key_query"}),
        ("AlbertForQuestionAnswering", {"chunk_size_feed_forward": 2}),
        ("AlbertForMultipleChoice", {"hidden_act": "gelu"}),
    ],
)
def test_without_a_mistake_it_is_the_reference(name, settings):
    case = small_case(getattr(albert_np, name), **settings)
    right, same = reference(case), mistaken(case)
    assert list(right) == list(same)
    for key, exact in right.items():
        # Sums of the same few terms, in another order: a few roundings of the largest.
        largest = np.abs(exact).max()
        np.testing.assert_allclose(same[key], exact, rtol=0, atol=1e-14 * largest, err_msg=key)


def derivative(function, x, v, h=1e-30):
    """By the complex step: exact to rounding."""
    return (function(x + 1j * h * v)).imag / h


@pytest.mark.parametrize(
    ("forward", "backward", "settings"),
    [
        (scale_forward, scale_backward, (1.5,)),
        (rearrange_forward, rearrange_backward, (lambda x: x[:, [0, 0, 2]].T,)),
        (
            layer_norm_by_deviation_forward,
            layer_norm_by_deviation_backward,
            (np.array([1.0, -2.0, 0.5, 3.0]), np.arange(4.0), 0.1),
        ),
    ],
)
def test_backward_is_the_derivative_of_forward(forward, backward, settings):
    generator = np.random.default_rng(0)
    x, v = generator.normal(size=(2, 3, 4))
    y, cache = forward(x, *settings)
    dy = generator.normal(size=y.shape)
    dx = backward(dy, cache)
    dx = dx[0] if isinstance(dx, tuple) else dx
    expected = (derivative(lambda z: forward(z, *settings)[0], x, v) * dy).sum()
    np.testing.assert_allclose((dx * v).sum(), expected, rtol=1e-12)


def test_a_right_candidate_is_not_accused():
    case = small_case()
    diagnosis = diagnosis_of(case, reference(case, "float32"))
    assert diagnosis.mistakes == () and diagnosis.lines() == []


@pytest.mark.parametrize(
    "names",
    [
        ("scores_unscaled",),
        ("layer_norm_sample_variance_in_head",),
        ("one_repetition_too_few",),
        ("shared_gradient_of_last_repetition",),
        ("positions_from_1", "decoder_bias_missing"),
    ],
)
def test_a_mistake_is_named_with_its_evidence(names):
    case = small_case()
    diagnosis = diagnosis_of(case, mistaken(case, *names, dtype="float32"))
    assert {mistake.name for mistake in diagnosis.mistakes} == set(names)
    found = diagnosis.explanation
    assert found.multiple <= 16 < diagnosis.before[1]
    assert all(name in " ".join(diagnosis.lines()) for name in names)


def test_what_computes_the_same_on_the_given_inputs_is_listed():
    case = small_case(num_hidden_groups=2)  # of two layers: groups in turn are groups in order
    wrong = mistaken(case, "first_group_only", dtype="float32")
    assert diagnosis_of(case, wrong).explanation.name == "first_group_only"
    model = small_case(albert_np.AlbertModel)
    diagnosis = diagnosis_of(model, mistaken(model, "activation_relu", dtype="float32"))
    assert diagnosis.explanation.name == "activation_relu"
    assert [one.name for one in diagnosis.same] == ["activation_relu_in_layers"]


def test_an_unknown_mistake_is_said_to_be_unknown():
    case = small_case()
    wrong = reference(case, "float32")
    name = "forward/predictions.decoder"
    generator = np.random.default_rng(0)
    wrong[name] = wrong[name] + generator.normal(size=wrong[name].shape).astype(np.float32)
    diagnosis = diagnosis_of(case, wrong)
    assert diagnosis.mistakes == () and diagnosis.tried > 0
    assert diagnosis.lines()[0].startswith("No known mistake explains this")


def test_dropout_left_on_is_known_by_what_it_leaves():
    case = small_case(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    dropped = reference(case._replace(inputs=case.inputs | {"seed": 3}), "float32")
    wrong = {name: x for name, x in dropped.items() if not name.endswith("dropout")}
    diagnosis = diagnosis_of(case, wrong)
    assert [mistake.name for mistake in diagnosis.mistakes] == ["dropout_left_on"]
    scaled = mistaken(case, "attention_dense_bias_missing", dtype="float32")
    assert diagnosis_of(case, scaled).explanation.name == "attention_dense_bias_missing"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_every_mistake_can_be_made_where_it_changes_nothing(mistake):
    """Without masks, groups or a head that it is of: nothing fails, and all is finite."""
    case = small_case(albert_np.AlbertModel, num_hidden_layers=1)
    inputs = {name: x for name, x in case.inputs.items() if name != "attention_mask"}
    tensors = mistaken(case._replace(inputs=inputs), mistake.name)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
