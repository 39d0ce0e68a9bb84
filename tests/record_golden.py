"""Make the golden files in tests/recorded/golden: python tests/record_golden.py"""

from pathlib import Path

import albert_np
from albert_np.verification import draw_case, write_golden

DIRECTORY = Path(__file__).parent / "recorded" / "golden"

SIZES = {
    "vocab_size": 16,
    "embedding_size": 4,
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 6,
    "initializer_range": 0.3,
    "num_labels": 2,
}

ONE_LAYER = {"num_hidden_layers": 1}

# By the name of the file: the class, and what differs from the sizes above.
FILES = {
    "default": ("AlbertModel", {}),
    "several-groups": ("AlbertModel", {"num_hidden_layers": 3, "num_hidden_groups": 2}),
    "relative-positions": (
        "AlbertModel",
        {"position_embedding_type": "relative_key_query", "num_hidden_layers": 1},
    ),
    "masked-lm": ("AlbertForMaskedLM", ONE_LAYER),
    "pretraining": ("AlbertForPreTraining", ONE_LAYER),
    "sequence-classification": ("AlbertForSequenceClassification", ONE_LAYER),
    "token-classification": ("AlbertForTokenClassification", ONE_LAYER),
    "multiple-choice": ("AlbertForMultipleChoice", ONE_LAYER),
    "question-answering": ("AlbertForQuestionAnswering", ONE_LAYER),
}
SHAPE = (2, 4)  # the second sequence has padding


def recorded_case(name):
    """The case that a file holds."""
    class_name, changes = FILES[name]
    config = albert_np.AlbertConfig(**SIZES | changes)
    return draw_case(getattr(albert_np, class_name), config, seed=1, shape=SHAPE)


if __name__ == "__main__":
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        write_golden(DIRECTORY / f"{name}.safetensors", recorded_case(name))
