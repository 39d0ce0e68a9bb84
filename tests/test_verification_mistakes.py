"""The known mistakes: what they are made of, and that the reference makes them as asked."""

import re

import numpy as np
import pytest
from verification_support import outputs_and_gradients, small_case, small_config

import albert_np
from albert_np.verification.case import draw_case
from albert_np.verification.compare import compare
from albert_np.verification.diagnosis import Bench, diagnose
from albert_np.verification.mistakes import MISTAKES, Mistake
from albert_np.verification.noise import LIMIT
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
    return made(case, [BY_NAME[name] for name in names], dtype)


def made(case, mistakes, dtype="float64"):
    trace = rewritten_trace(case, mistakes, dtype)
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


def test_an_explanation_meets_every_tensor_by_the_noise_of_all_draws():
    case = small_case()
    wrong = mistaken(case, "scores_unscaled", dtype="float32")
    bench = Bench(compare(case, wrong), wrong)
    assert bench.explain(()) is None
    assert bench.explain((BY_NAME["scores_scaled_by_head_size"],)) is None
    assert bench.explain((BY_NAME["scores_unscaled"],)).compared == len(bench.candidate)


@pytest.mark.parametrize(("name", "group"), [("last", 1), ("first", 0)])
def test_the_gradient_of_one_repetition_is_that_of_a_layer_of_its_own(name, group):
    case = small_case()
    layers = "albert.encoder.albert_layer_groups"
    shared = {key: x for key, x in case.parameters.items() if key.startswith(f"{layers}.0.")}
    copies = {key.replace(f"{layers}.0.", f"{layers}.1."): x for key, x in shared.items()}
    unshared = case._replace(
        config=case.config.changed(num_hidden_groups=2), parameters=case.parameters | copies
    )
    right = reference(unshared)
    wrong = mistaken(case, f"shared_gradient_of_{name}_repetition")
    for key in shared:
        of_layer = right[f"gradients/{key}".replace(f"{layers}.0.", f"{layers}.{group}.")]
        largest = np.abs(of_layer).max()
        np.testing.assert_allclose(
            wrong[f"gradients/{key}"], of_layer, atol=1e-12 * largest + 1e-15
        )


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


@pytest.fixture(scope="module")
def right_run():
    """A case with groups, choices and a head mask, and its run without mistakes."""
    case = small_case(albert_np.AlbertForPreTraining, num_hidden_groups=2)
    case.inputs["head_mask"] = np.array([[1.0, 0.5], [0.25, 1.0]])
    return case, rewritten_trace(case, ())


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_what_is_taken_from_the_run_without_mistakes_is_what_would_be_computed(mistake, right_run):
    case, right = right_run
    before = {name: array.copy() for name, array in tensors_of(case, right).items()}
    with np.errstate(all="ignore"):
        one, other = rewritten_trace(case, [mistake]), rewritten_trace(case, [mistake], like=right)
        differentiate(case, other)
    taken = tensors_of(case, other)
    for name, array in tensors_of(case, one).items():
        np.testing.assert_array_equal(taken[name], array, err_msg=name)
    for name, array in tensors_of(case, right).items():
        np.testing.assert_array_equal(before[name], array, err_msg=name)


def test_what_a_mistake_leaves_as_it_is_is_not_computed_again(right_run):
    case, right = right_run
    changed = {
        operation.name
        for operation in rewritten_trace(case, [BY_NAME["pooler_tanh_missing"]], like=right)
        if operation.outputs["y" if "y" in operation.outputs else "key"]
        is not right[operation.name].outputs["y" if "y" in operation.outputs else "key"]
    }
    at = "sop_classifier"
    assert changed == {"albert.pooler.tanh", f"{at}.classifier", f"{at}.loss", "loss"}


def test_mistakes_that_drown_in_the_noise_are_listed_and_the_nearest_is_named():
    case = small_case(layer_norm_eps=1e-3, initializer_range=0.15)
    right, other = "layer_norm_eps_1e-12_in_head", "layer_norm_eps_1e-8_in_head"
    diagnosis = diagnosis_of(case, mistaken(case, right, dtype="float32"))
    assert diagnosis.explanation.name == right
    # It stands before the other in the list, and is met as well, if not as closely.
    assert [one.name for one in diagnosis.alike] == [other]
    assert diagnosis.same == []
    assert other in diagnosis.lines()[-1]


def test_a_mistake_that_hardly_shows_is_named():
    """Without it the reference meets the candidate too, where noise is taken a little larger."""
    case = small_case()
    name = "layer_norm_eps_1e-6_in_embeddings"
    diagnosis = diagnosis_of(case, mistaken(case, name, dtype="float32"))
    assert diagnosis.before[1] < 2 * LIMIT
    assert diagnosis.explanation.name == name


@pytest.mark.parametrize(
    "name", ["scores_unscaled", "token_types_ignored", "decoder_bias_missing", "loss_summed"]
)
def test_outputs_alone_name_a_mistake_and_no_gradient_is_computed(name, monkeypatch):
    case = small_case()
    wrong = mistaken(case, name, dtype="float32")
    monkeypatch.setattr("albert_np.verification.diagnosis.differentiate", None)
    outputs = {key: x for key, x in wrong.items() if key.startswith("outputs/")}
    diagnosis = diagnosis_of(case, outputs)
    assert name in [found.name for found in (diagnosis.explanation, *diagnosis.same)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["scores_unscaled", "mask_inverted", "one_repetition_too_few"])
def test_a_mistake_is_named_in_low_precision(name, dtype):
    pytest.importorskip("ml_dtypes", reason="the extra `verify` is not installed")
    case = small_case()
    candidate = mistaken(case, name, dtype=dtype)
    comparison = compare(case, candidate, precision=dtype)
    assert diagnose(comparison, candidate).explanation.name == name


@pytest.mark.parametrize(("dtype", "deviation"), [("float16", 0.3), ("bfloat16", 0.02)])
def test_low_precision_is_not_taken_for_dropout(dtype, deviation):
    """In y = residual + 2 x, rounding may leave nothing of a small x, as if it were dropped."""
    pytest.importorskip("ml_dtypes", reason="the extra `verify` is not installed")
    case = small_case(hidden_size=32, initializer_range=deviation)
    twice = Mistake("twice", "It is doubled.", r"attention\.output\.add", _with_twice_the_input)
    candidate = made(case, [twice], dtype)
    del candidate["forward/albert.encoder.layers.0.attention.output.add"]  # the next one shows it
    comparison = compare(case, candidate, precision=dtype)
    assert diagnose(comparison, candidate, mistakes=[]).explanation is None
    # A mistake of one's own is known as those of the list are.
    assert diagnose(comparison, candidate, mistakes=[twice]).explanation.name == "twice"


def _with_twice_the_input(site):
    doubled = site.step("doubled", scale_forward, site.arguments["b"], 2)
    return site.run(b=doubled)


def test_a_decoder_of_another_weight_is_known_by_being_linear():
    case = small_case()
    other = np.random.default_rng(3).normal(size=(30, 6))
    untied = Mistake("untied", "", r"predictions\.decoder", lambda site: site.run(weight=other))
    with np.errstate(over="ignore"):  # the masked scores are float64's lowest number
        wrong = {name: x.astype(np.float32) for name, x in made(case, [untied]).items()}
    for parts in (("forward/", "outputs/", "gradients/"), ("outputs/",)):
        candidate = {name: x for name, x in wrong.items() if name.startswith(parts)}
        diagnosis = diagnosis_of(case, candidate)
        assert diagnosis.explanation.name == "decoder_of_another_weight"
        assert "16 tokens" in diagnosis.lines()[1]
    short = draw_case(albert_np.AlbertForMaskedLM, small_config(), shape=(1, 6))  # no more than E
    diagnosis = diagnosis_of(short, made(short, [untied], "float32"))
    assert diagnosis.explanation is None


@pytest.mark.parametrize("parts", [("outputs/", "gradients/"), ("outputs/logits",)])
def test_what_is_scaled_by_one_factor_is_said_to_be(parts):
    case = small_case()
    right = outputs_and_gradients(case)
    scaled = {name: np.float32(1.001) * x for name, x in right.items() if name.startswith(parts)}
    lines = diagnosis_of(case, scaled).lines()
    assert re.fullmatch(
        r"What differs is 1\.001 times what it should be, in (\d+) of \1 tensors; "
        r"outputs/logits is the first\. \[scaled_by_one_factor\]",
        lines[0],
    )
    logits = {"outputs/logits": 1.001 * right["outputs/logits"] + np.eye(8, 30)}
    logits = {name: x.astype(np.float32) for name, x in logits.items()}
    assert diagnosis_of(case, logits).explanation is None


def test_what_cannot_be_compared_does_not_hide_the_mistake():
    case = small_case()
    wrong = mistaken(case, "scores_unscaled", dtype="float32")
    wrong["outputs/loss"] = wrong["outputs/loss"].reshape(1)
    wrong["forward/note"] = np.array("hello")
    assert diagnosis_of(case, wrong).explanation.name == "scores_unscaled"


def test_numpy_s_own_warnings_are_left_as_they_were():
    case = small_case()
    before = np.geterr()
    diagnosis_of(case, mistaken(case, "layer_norm_sample_variance_in_head", dtype="float32"))
    assert np.geterr() == before


def test_what_is_not_finite_is_said_and_no_mistake_is_tried():
    case = small_case()
    wrong = mistaken(case, "scores_unscaled", dtype="float32")
    wrong["outputs/logits"] = np.full_like(wrong["outputs/logits"], np.nan)
    diagnosis = diagnosis_of(case, wrong)
    assert diagnosis.lines() == ["No known mistake was tried: not finite are outputs/logits."]


def test_other_parameters_are_said_and_pairs_are_not_tried():
    case = small_case()
    name = "predictions.dense.bias"
    other = case._replace(parameters=case.parameters | {name: case.parameters[name] + 0.01})
    candidate = reference(other, "float32")
    diagnosis = diagnose(compare(case, candidate), candidate)
    assert diagnosis.explanation is None
    assert diagnosis.tried <= len(MISTAKES)
    assert diagnosis.lines()[0].endswith(f"what the reference is given: parameters/{name}.")
    alone = {f"parameters/{name}": candidate[f"parameters/{name}"]}
    diagnosis = diagnose(compare(case, alone), alone)
    assert diagnosis.tried == 0 and name in diagnosis.lines()[0]


def test_few_mistakes_are_tried_where_one_operation_is_wrong_and_few_pairs_where_all_may_be(
    monkeypatch,
):
    monkeypatch.setattr("albert_np.verification.diagnosis.MOST_PAIRS", 5)
    case = small_case()
    wrong = mistaken(case, "decoder_bias_missing", dtype="float32")
    assert diagnosis_of(case, wrong).tried < 30
    noise = np.random.default_rng(0).normal(size=wrong["outputs/logits"].shape)
    unknown = {"outputs/logits": wrong["outputs/logits"] + noise.astype(np.float32)}
    diagnosis = diagnosis_of(case, unknown)
    assert diagnosis.explanation is None
    at_them = [mistake for mistake in MISTAKES if not mistake.at or "eps" in mistake.name]
    assert len(at_them) + 5 < diagnosis.tried <= len(MISTAKES) + 5


def test_a_loss_that_is_wrong_behind_right_logits_accuses_no_decoder():
    case = small_case()
    right = reference(case, "float32")
    candidate = {name: right[name] for name in ("outputs/loss", "outputs/logits")}
    candidate["outputs/loss"] = np.float32(1.37) * candidate["outputs/loss"]
    diagnosis = diagnosis_of(case, candidate)
    assert diagnosis.before[0] == "outputs/loss"
    assert diagnosis.explanation is None
