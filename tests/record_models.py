"""Record what transformers 4.56.2 computes, for test_recorded_models.py to hold us to without it.

    python tests/record_models.py

writes tests/recorded/models_*.safetensors: for each class a configuration (in the metadata), its
parameters, the arguments of a call, its outputs, and the gradient of a weighted sum of the outputs,
all in float64.
"""

import json
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "parity")]

from models_support import random_batch, random_like, random_model  # noqa: E402
from peer_support import peer_gradients, peer_of, to_tensors, weighted_sum  # noqa: E402

from albert_np import (  # noqa: E402
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForMultipleChoice,
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertModel,
)

SIZES = {
    "vocab_size": 20,
    "embedding_size": 6,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "max_position_embeddings": 8,
    "initializer_range": 0.5,
}
SMALLEST = {
    "vocab_size": 8,
    "embedding_size": 3,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 5,
}
CASES = {
    "base": (AlbertModel, {"num_hidden_layers": 3, "hidden_act": "gelu"}),
    "masked_lm": (AlbertForMaskedLM, {"num_hidden_layers": 3}),
    "pretraining": (
        AlbertForPreTraining,
        {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    ),
    "regression": (AlbertForSequenceClassification, SMALLEST | {"num_labels": 1}),
    "single_label": (
        AlbertForSequenceClassification,
        SMALLEST | {"num_labels": 3, "problem_type": "single_label_classification"},
    ),
    "multi_label": (
        AlbertForSequenceClassification,
        SMALLEST | {"num_labels": 3, "problem_type": "multi_label_classification"},
    ),
    "token_classification": (AlbertForTokenClassification, SMALLEST | {"num_labels": 3}),
    "multiple_choice": (AlbertForMultipleChoice, SMALLEST),
    "question_answering": (AlbertForQuestionAnswering, SMALLEST),
}


def record(name, model_class, settings):
    config = AlbertConfig(**(SIZES | settings))
    generator = np.random.default_rng(0)
    model = random_model(model_class, config)
    peer = peer_of(model)
    batch = random_batch(model_class, config, generator, (2, 5))
    flags = {"output_hidden_states": True, "output_attentions": True}
    outputs = peer(**to_tensors(batch), **flags)
    weights = random_like(model(**batch, **flags), generator)
    if model_class.label_names:
        weights["loss"] = np.array(generator.normal())
    weighted_sum(outputs, weights).backward()
    arrays = (
        _flat("parameters", model.parameters)
        | _flat("arguments", batch)
        | _flat("outputs", {key: outputs[key] for key in weights})
        | _flat("weights", weights)
        | _flat("gradients", peer_gradients(peer))
    )
    arrays = {key: np.array(array, order="C") for key, array in arrays.items()}
    metadata = {"class": model_class.__name__, "config": json.dumps(config.to_dict())}
    path = HERE / "recorded" / f"models_{name}.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata)
    print(path.name, path.stat().st_size, "bytes")


def _flat(group, values):
    """name → array, a tuple's entries numbered."""
    arrays = {}
    for name, value in values.items():
        entries = value if isinstance(value, tuple) else (value,)
        for index, entry in enumerate(entries):
            suffix = f"/{index}" if isinstance(value, tuple) else ""
            entry = entry.detach().numpy() if hasattr(entry, "detach") else entry
            arrays[f"{group}/{name}{suffix}"] = np.asarray(entry)
    return arrays


if __name__ == "__main__":
    for name, (model_class, settings) in CASES.items():
        record(name, model_class, settings)
