"""Fine-tune on MRPC: do two sentences say the same?

$ python docs/examples/mrpc.py mrpc/train.tsv my-mrpc
$ albert-np classify "He sold the car." --text-pair "The car was sold." --model my-mrpc
"""

import csv
import sys

import numpy as np

from albert_np import AlbertForSequenceClassification, AlbertTokenizer
from albert_np.training.fine_tuning import batches_in_order, fine_tune

LABELS = {0: "different", 1: "same"}
BATCH_SIZE = 8


def read(path, tokenizer):
    """GLUE's table, as the inputs of a model and their labels: N pairs in all."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        pairs = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = tokenizer(
        [pair["#1 String"] for pair in pairs],
        [pair["#2 String"] for pair in pairs],
        padding=True,
        truncation=True,
        return_tensors="np",
    )
    return rows | {"labels": np.array([int(pair["Quality"]) for pair in pairs])}


def main(data, output, pretrained="tiny", steps=50):
    """Train, save, and return the losses and the share of rows whose label is told right."""
    tokenizer = AlbertTokenizer.from_pretrained(pretrained)
    model = AlbertForSequenceClassification.from_pretrained(pretrained, id2label=LABELS)
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
