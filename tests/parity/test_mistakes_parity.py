"""Candidates in PyTorch, right or with known mistakes, as the verification tool sees them.

Each run takes a sample; `python tests/parity/mistakes_support.py singles 1` tries all.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
pytest.importorskip("transformers", reason="the extra `parity` is not installed")

from mistakes_support import (  # noqa: E402
    SETTINGS,
    operations_named,
    telling_case,
    verdict_on,
)
from torch_support import candidate_of  # noqa: E402

from albert_np.verification.compare import compare  # noqa: E402
from albert_np.verification.diagnosis import diagnose  # noqa: E402
from albert_np.verification.of_torch import run_module, transformers_module  # noqa: E402


@pytest.mark.parametrize("name", SETTINGS)
def test_a_right_candidate_is_not_accused(name):
    case = telling_case(name)
    candidate = candidate_of(case)
    comparison = compare(case, candidate)
    assert not comparison.differs and not comparison.could_not
    assert diagnose(comparison, candidate).mistakes == ()


@pytest.mark.parametrize(
    ("name", "mistakes"),
    [
        ("AlbertForPreTraining", ["mask_inverted"]),
        ("AlbertForPreTraining", ["heads_interleaved"]),
        ("AlbertForPreTraining", ["shared_gradient_averaged"]),
        ("AlbertForMaskedLM", ["activation_gelu_tanh_in_head"]),
        ("AlbertForTokenClassification", ["distance_scores_scaled"]),
        ("AlbertForQuestionAnswering", ["answer_ends_exchanged"]),
        ("AlbertForMultipleChoice", ["choices_in_another_order"]),
        ("AlbertForSequenceClassification", ["pooler_tanh_missing"]),
        ("AlbertModel", ["layer_norm_before"]),
        ("AlbertForQuestionAnswering", ["query_key_exchanged", "layer_norm_sample_variance"]),
    ],
)
def test_mistakes_are_named(name, mistakes):
    verdict, diagnosis = verdict_on(telling_case(name), mistakes)
    assert verdict == "found", diagnosis.lines()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_low_precision_a_right_candidate_is_not_accused_and_mistakes_are_named(dtype):
    case = telling_case("AlbertForPreTraining")
    assert not compare(case, candidate_of(case, (), dtype), precision=dtype).differs
    for mistake in ("heads_interleaved", "shared_gradient_averaged"):
        verdict, diagnosis = verdict_on(case, [mistake], dtype)
        assert verdict == "found", diagnosis.lines()


def diagnosis_of_the_peer(case, attention):
    """What the tool says of transformers' own model, run as `albert-np verify run` does."""
    candidate, _ = run_module(case, transformers_module(case, attention))
    comparison = compare(case, candidate)
    return comparison, diagnose(comparison, candidate)


@pytest.mark.parametrize(
    ("attention", "departure"), [("eager", "head_mask_by_group"), ("sdpa", "head_mask_ignored")]
)
def test_the_peers_head_masks_are_found(attention, departure):
    case = telling_case("AlbertForQuestionAnswering")
    inputs = case.inputs | {"start_positions": np.abs(case.inputs["start_positions"])}
    inputs["attention_mask"] = np.ones_like(inputs["attention_mask"])
    # One group of both layers, as in every published model.
    config = case.config.changed(num_hidden_groups=1)
    parameters = {name: a for name, a in case.parameters.items() if "layer_groups.1" not in name}
    case = case._replace(inputs=inputs, config=config, parameters=parameters)
    comparison, diagnosis = diagnosis_of_the_peer(case, attention)
    assert "albert.encoder.layers.1.attention.self.mask_heads" in operations_named(comparison)
    assert [mistake.name for mistake in diagnosis.mistakes] == [departure]


def test_the_peers_negative_positions_are_found():
    case = telling_case("AlbertForQuestionAnswering")
    inputs = {name: value for name, value in case.inputs.items() if name != "head_mask"}
    inputs["attention_mask"] = np.ones_like(inputs["attention_mask"])
    case = case._replace(inputs=inputs)
    comparison, diagnosis = diagnosis_of_the_peer(case, "eager")
    assert "qa_outputs.start.loss" in operations_named(comparison)
    assert [mistake.name for mistake in diagnosis.mistakes] == ["answer_positions_clamped"]
