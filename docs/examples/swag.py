"""Fine-tune on SWAG: which of four endings goes on with a story?

$ python docs/examples/swag.py swag/train.json my-swag
"""

import json
import sys

import numpy as np

from albert_np import AlbertForMultipleChoice, AlbertTokenizer
from albert_np.training.fine_tuning import batches_in_order, fine_tune

CHOICES = 4
BATCH_SIZE = 4


def read(path, tokenizer):
    """JSON lines, as the inputs of a model, of shape (N, 4, S), and the labels, (N,)."""
    with open(path, encoding="utf-8") as file:
        stories = [json.loads(line) for line in file if line.strip()]
    rows = tokenizer(
        [story["sent1"] for story in stories for _ in range(CHOICES)],
        [f"{one['sent2']} {one[f'ending{i}']}" for one in stories for i in range(CHOICES)],
        padding=True,
        truncation=True,
        return_tensors="np",
    )
    rows = {name: array.reshape(-1, CHOICES, array.shape[-1]) for name, array in rows.items()}
    return rows | {"labels": np.array([story["label"] for story in stories])}


def main(data, output, pretrained="tiny", steps=50):
    """Train, save, and return the losses and the share of endings that are chosen right."""
    tokenizer = AlbertTokenizer.from_pretrained(pretrained)
    model = AlbertForMultipleChoice.from_pretrained(pretrained)
    rows = read(data, tokenizer)
    losses = fine_tune(model, rows, steps, BATCH_SIZE)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    right = [
        model(**batch).logits.argmax(axis=-1) == batch["labels"]
        for batch in batches_in_order(rows, BATCH_SIZE)
    ]
    return losses, np.concatenate(right).mean()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    losses, accuracy = main(*sys.argv[1:])
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}; right on the training rows: {accuracy:.1%}")
