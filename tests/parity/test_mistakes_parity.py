"""Candidates in PyTorch, right or with known mistakes, as the verification tool sees them.

Each run takes a sample; `python tests/parity/mistakes_support.py singles 1` tries all.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
pytest.importorskip("transformers", reason="the extra `parity` is not installed")

from mistakes_support import SETTINGS, telling_case, verdict_on  # noqa: E402
from peer_support import peer_gradients, peer_of, to_tensors  # noqa: E402
from torch_support import candidate_of  # noqa: E402

from albert_np.verification.compare import compare  # noqa: E402
from albert_np.verification.diagnosis import diagnose  # noqa: E402


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


def peer_tensors(case, attention):
    """What transformers' model computes: outputs, gradients and attention's projections."""
    peer = peer_of(case.model(), attention)
    projections = []
    for module in peer.modules():
        if type(module).__name__ == "AlbertAttention":
            module.dense.register_forward_hook(lambda _, x, y: projections.append(y.detach()))
    outputs = peer(**to_tensors(case.arguments))
    outputs.loss.backward()
    tensors = {
        f"outputs/{name}": value.detach().numpy()
        for name, value in outputs.items()
        if isinstance(value, torch.Tensor)
    }
    tensors |= {f"gradients/{name}": array for name, array in peer_gradients(peer).items()}
    return tensors | {
        f"forward/albert.encoder.layers.{i}.attention.output.bias": y.numpy()
        for i, y in enumerate(projections)
    }


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
    candidate = peer_tensors(case, attention)
    diagnosis = diagnose(compare(case, candidate), candidate)
    assert [mistake.name for mistake in diagnosis.mistakes] == [departure]


def test_the_peers_negative_positions_are_found():
    case = telling_case("AlbertForQuestionAnswering")
    inputs = {name: value for name, value in case.inputs.items() if name != "head_mask"}
    inputs["attention_mask"] = np.ones_like(inputs["attention_mask"])
    case = case._replace(inputs=inputs)
    candidate = peer_tensors(case, "eager")
    diagnosis = diagnose(compare(case, candidate), candidate)
    assert [mistake.name for mistake in diagnosis.mistakes] == ["answer_positions_clamped"]
