"""Comparison: right candidates pass; of wrong ones, the operations that are wrong are named."""

import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models_support import CLASSES, configs, suited_to
from verification_support import outputs_and_gradients, small_case, small_config, with_mistakes

from albert_np import AlbertForMultipleChoice, AlbertModel
from albert_np.functions.activations import gelu_forward, gelu_new_forward
from albert_np.functions.embedding import embedding_backward
from albert_np.functions.layer_norm import LayerNormCache, layer_norm_backward, layer_norm_output
from albert_np.functions.softmax import softmax_backward, softmax_forward
from albert_np.verification.case import case_of, draw_case
from albert_np.verification.compare import compare
from albert_np.verification.noise import DRAWS, LIMIT, Floor, errors_between, histogram
from albert_np.verification.precision import PRECISIONS
from albert_np.verification.reference import reference, tensors_of, traced

SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@given(
    config=configs(dropout=True),
    model_class=st.sampled_from(CLASSES),
    seed=SEEDS,
    drop=st.booleans(),
)
@settings(max_examples=100)
def test_our_back_ends_are_right(backend, config, model_class, seed, drop):
    case = draw_case(model_class, suited_to(model_class, config), seed, (2, 5))
    case = case._replace(inputs=case.inputs | {"seed": seed if drop else None})
    comparison = compare(case, outputs_and_gradients(case, backend=backend))
    assert comparison.status == 0, (comparison.worst, comparison.wrong)
    assert not comparison.could_not


@pytest.mark.parametrize("precision", PRECISIONS)
@given(config=configs(dropout=True), model_class=st.sampled_from(CLASSES), seed=SEEDS)
@settings(max_examples=10)
def test_every_tensor_with_other_rounding_errors_is_right(precision, config, model_class, seed):
    # Where numbers have few digits, one beside relu's step may fall to the other side of it.
    assume(config.hidden_act != "relu" or precision in ("float32", "float64"))
    case = draw_case(model_class, suited_to(model_class, config), seed, (2, 5))
    candidate = tensors_of(case, traced(case, precision, np.random.default_rng(99)))
    comparison = compare(case, candidate, precision=precision)
    assert comparison.status == 0, (comparison.worst, comparison.wrong)
    assert not comparison.missing
    alone = {row.name for row in comparison.rows if row.alone is not None}
    assert {name.partition("/")[0] for name in alone} == {
        "forward",
        "outputs",
        "backward",
        "gradients",
    }


@pytest.mark.parametrize("seed", [65535, 65563, 65577])
def test_a_kernel_that_sums_rows_of_scores_in_another_way_is_right(seed):
    """All keys are nearly equal: the gradients of query and key are that sum's rounding errors."""
    config = small_config(
        vocab_size=12,
        embedding_size=4,
        hidden_size=6,
        num_hidden_layers=4,
        num_attention_heads=1,
        max_position_embeddings=12,
        type_vocab_size=1,
    )
    case = draw_case(AlbertForMultipleChoice, config, seed, (2, 5))
    comparison = compare(case, outputs_and_gradients(case, "float64", "numba"), precision="float64")
    assert comparison.status == 0, (comparison.worst, comparison.wrong)


def test_a_sum_that_is_zero_in_the_first_draws_has_noise():
    """Of two choices the gradients are −p and p, so that their bias has none but noise."""
    config = small_config(hidden_size=6, num_attention_heads=1, num_hidden_layers=1)
    for seed in range(30):
        case = draw_case(AlbertForMultipleChoice, config, seed, (2, 5))
        candidate = outputs_and_gradients(case)
        candidate["gradients/classifier.bias"] = np.array([2**-25], np.float32)  # a unit of ¼
        comparison = compare(case, candidate)
        assert comparison.status == 0, (seed, comparison.worst, comparison.wrong)


def test_there_are_more_draws_where_one_shows_no_noise(monkeypatch):
    monkeypatch.setattr(sys.modules[compare.__module__], "DRAWS", 1)
    name = "gradients/classifier.bias"
    cases = (draw_case(AlbertForMultipleChoice, small_config(), i, (2, 5)) for i in range(20))
    case = next(case for case in cases if reference(case, "float32")[name] == 0)  # as it should be
    row = compare(case, {name: np.array([2**-25], np.float32)}).rows[0]
    assert row.floor.largest > 2**-40
    assert not row.differs


def layer_norm_of_sample(x, weight, bias, eps):
    """The variance divides by N − 1."""
    centred = x - x.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(centred.var(axis=-1, ddof=1, keepdims=True) + eps)
    cache = LayerNormCache(centred * inverse, inverse, weight, bias)
    return layer_norm_output(cache), cache


GELU = "albert.encoder.layers.0.activation.gelu_new"
NORM = "albert.encoder.layers.1.output.layer_norm"
SOFTMAX = "albert.encoder.layers.1.attention.self.softmax"
WORDS = "albert.embeddings.word_embeddings"


def test_every_wrong_operation_is_named_in_one_run():
    case = small_case()
    candidate = with_mistakes(
        case,
        {
            (GELU, "gelu_new_forward"): lambda x: (gelu_forward(x)[0], x),
            (NORM, "layer_norm_forward"): layer_norm_of_sample,
            (SOFTMAX, "softmax_backward"): lambda dy, cache: 2 * softmax_backward(dy, cache),
        },
    )
    comparison = compare(case, candidate)
    assert comparison.status == 1
    assert comparison.first.name == f"forward/{GELU}"
    forward = [row.name for row in comparison.wrong if row.name.startswith("forward/")]
    assert forward == [f"forward/{GELU}", f"forward/{NORM}"]
    # The backward pass of gelu_new is right for what it is given; that of the other layer norm not.
    backward = [row.name for row in comparison.wrong if row.name.startswith("backward/")]
    assert backward == [
        f"backward/{NORM.replace('layer_norm', 'add')}",
        f"backward/{SOFTMAX.replace('softmax', 'mask')}",
    ]


def test_a_wrong_gradient_of_a_parameter_is_named():
    """The padding row's gradient is to be zero."""
    case = small_case()
    ids = case.inputs["input_ids"].copy()
    ids[0, :2] = case.config.pad_token_id
    case = case._replace(inputs=case.inputs | {"input_ids": ids})

    def without_padding(dy, cache, into=None):
        return embedding_backward(dy, cache._replace(padding_idx=None), into)

    candidate = with_mistakes(case, {(WORDS, "embedding_backward"): without_padding})
    comparison = compare(case, candidate)
    name = "gradients/albert.embeddings.word_embeddings.weight"
    assert [row.name for row in comparison.wrong] == [comparison.first.name] == [name]
    assert comparison.first.errors.place[0] == case.config.pad_token_id
    assert WORDS in comparison.wrong[0].alone.operations


def test_what_lies_between_the_candidates_tensors_is_named():
    case = small_case()
    mistake = {(GELU, "gelu_new_forward"): lambda x: (gelu_forward(x)[0], x)}
    candidate = with_mistakes(case, mistake)
    few = ["forward/albert.encoder.layers.0.ffn", "forward/albert.encoder.layers.0.ffn_output"]
    few += ["outputs/logits"]
    comparison = compare(case, {name: candidate[name] for name in few})
    assert [row.name for row in comparison.wrong] == [few[1]]
    assert comparison.wrong[0].alone.operations == (
        "albert.encoder.layers.0.ffn_output",
        GELU,
        "albert.encoder.layers.0.activation.bias",
    )
    assert [row.name for row in comparison.rows if row.differs] == few[1:]


def test_a_wrong_parameter_is_the_first_that_differs_and_the_operations_are_right():
    case = small_case()
    name = "predictions.dense.bias"
    other = case._replace(parameters=case.parameters | {name: case.parameters[name] + 0.01})
    comparison = compare(case, reference(other, "float32"))
    assert comparison.first.name == f"parameters/{name}"
    assert comparison.wrong == []
    assert comparison.status == 1


def test_the_error_of_one_place_is_found_and_measured():
    case = small_case()
    candidate = {"outputs/logits": reference(case)["outputs/logits"].astype(np.float32)}
    candidate["outputs/logits"][1, 2, 3] += 0.5
    row = compare(case, candidate).first
    assert row.errors.place == (1, 2, 3)
    assert row.errors.largest == pytest.approx(0.5)
    assert row.errors.rms == pytest.approx(0.5 / candidate["outputs/logits"].size ** 0.5, rel=1e-5)
    assert row.relative_largest == pytest.approx(0.5 / row.errors.scale)
    assert row.ulp_largest == pytest.approx(row.relative_largest * 2**23)
    assert row.multiple > LIMIT


def test_masked_scores_are_compared_after_the_softmax():
    case = small_case()
    candidate = reference(case, "float32")
    name = "forward/albert.encoder.layers.0.attention.self.mask"
    assert (candidate[name] < -1e38).any()
    candidate[name] = np.where(candidate[name] < -1e38, -np.inf, candidate[name])
    assert compare(case, candidate).status == 0


@pytest.mark.parametrize("penalty", [-5, -10_000])
def test_a_mask_that_is_not_low_enough_is_wrong_together_with_the_softmax(penalty):
    """−10 000 is low enough but where all keys are masked: the mean of all values is then due."""
    case = small_case()
    mask = case.inputs["attention_mask"].copy()
    mask[1] = penalty == -5
    mask[1, -2:] = 0
    case = case._replace(inputs=case.inputs | {"attention_mask": mask})
    operation = "albert.encoder.layers.0.attention.self.mask"

    def shallow(scores, attention_mask):
        return scores + np.where(attention_mask, 0, penalty)[:, None, None], None

    comparison = compare(case, with_mistakes(case, {(operation, "mask_scores_forward"): shallow}))
    softmax = operation.replace("mask", "softmax")
    forward = [row for row in comparison.wrong if row.name.startswith("forward/")]
    assert [row.name for row in forward] == [f"forward/{softmax}"]
    assert forward[0].alone.operations == (softmax, operation)


def test_not_a_number_is_wrong_and_what_follows_is_computed_without_it():
    case = small_case()
    candidate = reference(case, "float32")
    name = "forward/albert.encoder.embedding_hidden_mapping_in"
    candidate[name] = np.full_like(candidate[name], np.nan)
    comparison = compare(case, candidate)
    assert [row.name for row in comparison.rows if row.differs] == [name]
    assert comparison.first.multiple == np.inf


def test_what_cannot_be_compared_is_said():
    case = small_case()
    good = reference(case, "float32")
    logits = good["outputs/logits"]
    comparison = compare(
        case,
        {
            "outputs/logits": logits,
            "outputs/logit": logits,
            "outputs/loss": np.ones(1),
            f"forward/{GELU}": np.ones((2, 8, 16), np.int64),
        },
    )
    assert comparison.could_not == {
        "outputs/logit": "the reference has no tensor of this name; did you mean outputs/logits?",
        "outputs/loss": "is of shape (1,); expected ()",
        f"forward/{GELU}": "is of dtype int64; expected a floating type",
    }
    assert comparison.status == 2
    assert "parameters/predictions.bias" in comparison.missing
    with pytest.raises(
        ValueError, match=r"no tensor of the candidate.*outputs/logit: the ref.*more"
    ):
        compare(case, {"outputs/logit": logits, "x": logits})
    with pytest.raises(ValueError, match="the candidate has no tensors"):
        compare(case, {})
    with pytest.raises(ValueError, match="precision is 'float8'"):
        compare(case, good, precision="float8")


def test_errors_of_constant_and_empty_signals():
    zero, one = np.zeros(3), np.ones(3)
    errors = errors_between(zero, zero)
    assert (errors.rms, errors.largest) == (0, 0)
    assert np.isnan(errors.cosine)
    assert errors_between(one, -one).cosine == -1
    assert errors_between(1e-200 * one, 2e-200 * one).rms == 1e-200


def test_ids_and_masks_of_any_type_are_compared():
    case = small_case()
    mask = case.inputs["attention_mask"]
    for array in (mask.astype(bool), mask.astype(np.uint8), mask.astype(np.float16)):
        assert compare(case, {"inputs/attention_mask": array}, precision="float32").status == 0
    wrong = compare(case, {"inputs/attention_mask": mask == 0})
    assert [row.name for row in wrong.rows if row.differs] == ["inputs/attention_mask"]
    words = np.full(mask.shape, "yes")
    with pytest.raises(ValueError, match="attention_mask: is of dtype <U3; expected"):
        compare(case, {"inputs/attention_mask": words})


def test_what_is_infinite_is_wrong_and_what_follows_is_computed_without_it():
    case = small_case()
    candidate = reference(case, "float32")
    name = "forward/albert.encoder.layers.0.ffn"
    candidate[name] = np.full_like(candidate[name], -np.inf)
    comparison = compare(case, candidate)
    assert [row.name for row in comparison.rows if row.differs or row.is_wrong] == [name]


def test_a_loss_of_nothing_is_refused():
    case = small_case()
    labels = np.full_like(case.inputs["labels"], -100)
    case = case._replace(inputs=case.inputs | {"labels": labels})
    with pytest.raises(ValueError, match="outputs/loss is not finite; is anything labelled"):
        compare(case, {"outputs/loss": np.float32(np.nan)})


@pytest.mark.parametrize("name", ["packed", "output_attentions", "output_hidden_states"])
def test_settings_of_a_call_are_refused(name):
    case = small_case()
    with pytest.raises(ValueError, match=f"{name} is True; the reference takes none"):
        reference(case._replace(inputs=case.inputs | {name: True}))


@pytest.mark.parametrize("model_class", [AlbertForMultipleChoice, AlbertModel])
def test_a_checkpoint_that_returns_more_is_compared_all_the_same(model_class):
    flags = {"output_attentions": True, "output_hidden_states": True, "return_dict": False}
    drawn = small_case(model_class, **flags)
    model = model_class(small_config(**flags), dtype="float32")
    for case in (drawn, case_of(model, drawn.inputs)):
        assert compare(case, reference(case, "float32")).status == 0


def test_a_case_without_a_parameter_is_refused():
    case = small_case()
    name = "predictions.dense.bias"
    for parameters, has in (
        ({n: x for n, x in case.parameters.items() if n != name}, "no such parameter"),
        (case.parameters | {name: np.zeros(1)}, r"one of shape \(1,\)"),
    ):
        with pytest.raises(ValueError, match=rf"has {has}: {name}; expected shape \(6,\)"):
            reference(case._replace(parameters=parameters))


def test_a_wrong_parameter_asks_for_no_more_draws(monkeypatch):
    """It has no noise but that of rounding it, however often it is drawn."""
    runs = []

    def counted(*arguments):
        runs.append(arguments)
        return traced(*arguments)

    monkeypatch.setattr(sys.modules[compare.__module__], "traced", counted)
    case = small_case()
    name = "parameters/predictions.dense.bias"
    wrong = case.parameters["predictions.dense.bias"].astype(np.float32) + 1
    assert compare(case, {name: wrong}).status == 1
    assert len(runs) == 1 + DRAWS


def test_a_parameter_may_be_rounded_once():
    """The reference's are float32's own numbers, so that no draw shows any noise of theirs."""
    case = small_case()
    name = "predictions.dense.weight"
    parameter = case.parameters[name].astype(np.float32)
    candidate = {f"parameters/{name}": np.nextafter(parameter, np.float32(np.inf))}
    assert compare(case, candidate).status == 0


@pytest.mark.parametrize("part", ["query.weight", "key.bias", "dense.weight", "LayerNorm.bias"])
def test_operations_are_run_on_the_candidates_own_parameters(part):
    case = small_case()
    name = f"albert.encoder.albert_layer_groups.0.albert_layers.0.attention.{part}"
    other = case._replace(parameters=case.parameters | {name: 2 * case.parameters[name]})
    comparison = compare(case, reference(other, "float32"))
    assert comparison.first.name == f"parameters/{name}"
    assert comparison.wrong == []


def test_every_computed_tensor_is_judged_by_its_operations_alone():
    case = small_case()
    comparison = compare(case, reference(case, "float32"))
    alone = [row.name for row in comparison.rows if row.alone is not None]
    given = ("parameters/", "inputs/")
    assert alone == [row.name for row in comparison.rows if not row.name.startswith(given)]


@pytest.mark.parametrize(("roundings", "wrong"), [(4, False), (200, True)])
@pytest.mark.parametrize(
    ("name", "right"),
    [(GELU, gelu_new_forward), (NORM, layer_norm_backward), (SOFTMAX, softmax_forward)],
)
def test_an_operation_may_be_off_by_a_few_roundings_only(name, right, roundings, wrong):
    case = small_case()

    def scaled(value):
        return value * np.float32(1 + roundings * 2**-24)

    def off(*arguments, **settings):
        first, *rest = right(*arguments, **settings)
        return scaled(first), *rest

    comparison = compare(case, with_mistakes(case, {(name, right.__name__): off}))
    assert bool(comparison.wrong) == wrong, comparison.wrong
    if wrong:
        assert name in comparison.wrong[0].alone.operations


@pytest.mark.parametrize(
    "name",
    [
        "backward/albert.encoder.layers.0.attention.output.layer_norm",
        "gradients/albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight",
        "gradients/albert.embeddings.word_embeddings.weight",
    ],
)
def test_a_gradient_that_is_a_sum_is_judged_by_the_noise_of_the_sum(name):
    """Of a residual and the network; of two repetitions; of the decoder and the lookup."""
    case = small_case()
    candidate = reference(case, "float32")
    candidate[name] = candidate[name] * np.float32(1.001)
    wrong = [row.name for row in compare(case, candidate).wrong]
    assert name in wrong


def test_the_precision_is_the_coarsest_of_the_candidates_types():
    case = small_case()
    right = reference(case, "float32")
    names = ("outputs/logits", "outputs/loss")
    candidate = {name: right[name].astype(np.float32) for name in names}
    assert compare(case, candidate).precision == "float32"
    candidate["outputs/loss"] = right["outputs/loss"].astype(np.float16)
    assert compare(case, candidate).precision == "float16"
    # Whoever computes in float64 and stores float32 is told what that costs.
    assert compare(case, right, precision="float64").status == 1


def test_a_histogram_counts_errors_in_decades_of_the_noise():
    exact = np.zeros(6)
    given = np.array([0, 1e-4, 0.5, 5, 5e7, np.nan])
    counts = histogram(given, exact, Floor(1.0, 1.0))
    assert counts == (2, 0, 0, 1, 1, 0, 0, 0, 0, 0, 2)
    assert histogram(given, exact, Floor(0.0, 0.0)) == (1, *9 * (0,), 5)
    assert sum(histogram(given, np.full(6, -1e300), Floor(1.0, 1.0))) == 0
