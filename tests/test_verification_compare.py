"""Comparison: right candidates pass; of wrong ones, the operations that are wrong are named."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models_support import CLASSES, configs, suited_to
from verification_support import outputs_and_gradients, small_case, small_config, with_mistakes

from albert_np import AlbertForMultipleChoice
from albert_np.functions.activations import gelu_forward
from albert_np.functions.embedding import embedding_backward
from albert_np.functions.layer_norm import LayerNormCache, layer_norm_output
from albert_np.functions.softmax import softmax_backward
from albert_np.verification.case import draw_case
from albert_np.verification.compare import compare
from albert_np.verification.noise import LIMIT, errors_between
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


def test_a_sum_that_is_zero_in_the_first_draws_has_noise():
    """Of two choices the gradients are −p and p, so that their bias has none but noise."""
    config = small_config(hidden_size=6, num_attention_heads=1, num_hidden_layers=1)
    for seed in range(30):
        case = draw_case(AlbertForMultipleChoice, config, seed, (2, 5))
        candidate = outputs_and_gradients(case)
        candidate["gradients/classifier.bias"] = np.array([2**-25], np.float32)  # a unit of ¼
        comparison = compare(case, candidate)
        assert comparison.status == 0, (seed, comparison.worst, comparison.wrong)


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
        ValueError, match=r"no tensor of the candidate.*outputs/logit the ref.*more"
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
