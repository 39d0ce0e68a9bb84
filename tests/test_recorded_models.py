"""Outputs and gradients against recorded ones of transformers 4.56.2; see record_models.py.

Errors as in parity/test_models_parity.py: against the largest value of an output, and for
gradients of the model's gradients.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import albert_np
from albert_np import AlbertConfig

RECORDED = sorted(Path(__file__).parent.glob("recorded/models_*.safetensors"))
TOLERANCE = 1e-11


def read(path):
    """The metadata; and group → name → array, or tuple of arrays."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        groups = {}
        for key in sorted(file.keys(), key=lambda key: [part.zfill(3) for part in key.split("/")]):
            group, name, *numbered = key.split("/")
            array = file.get_tensor(key)
            values = groups.setdefault(group, {})
            values[name] = (*values.get(name, ()), array) if numbered else array
    return metadata, groups


def assert_near(value, expected, scale):
    np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE * scale)


def test_there_is_a_recording_for_each_class():
    assert [path.stem for path in RECORDED] == [
        "models_base",
        "models_masked_lm",
        "models_multi_label",
        "models_multiple_choice",
        "models_pretraining",
        "models_question_answering",
        "models_regression",
        "models_single_label",
        "models_token_classification",
    ]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded(path):
    metadata, groups = read(path)
    config = AlbertConfig.from_dict(json.loads(metadata["config"]))
    model = getattr(albert_np, metadata["class"])(config, seed=None, dtype="float64")
    assert model.parameters.keys() == groups["parameters"].keys()
    for name, array in groups["parameters"].items():
        model.parameters[name][...] = array

    outputs, pullback = model.vjp(
        **groups["arguments"], output_hidden_states=True, output_attentions=True
    )
    assert set(outputs.keys()) == groups["outputs"].keys()
    for name, expected in groups["outputs"].items():
        if not isinstance(expected, tuple):
            assert_near(outputs[name], expected, np.abs(expected).max())
            continue
        assert len(outputs[name]) == len(expected)
        for value, entry in zip(outputs[name], expected, strict=True):
            assert_near(value, entry, np.abs(entry).max())

    gradients = pullback(groups["weights"]).parameters
    scale = max(np.abs(gradient).max() for gradient in groups["gradients"].values())
    for name, expected in groups["gradients"].items():
        assert_near(gradients[name], expected, scale)
