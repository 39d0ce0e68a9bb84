"""Fine-tune on CoNLL-2003: which words name a person, a place, an organisation?

$ python docs/examples/conll.py conll/train.json my-conll
$ albert-np tag "CHICAGO AT ATLANTA" --aggregation-strategy first --model my-conll
"""

import json
import sys

import numpy as np

from albert_np import AlbertForTokenClassification, AlbertTokenizerFast
from albert_np.training.fine_tuning import batches_in_order, fine_tune

BATCH_SIZE = 8
NO_LABEL = -100


def read(path, tokenizer):
    """JSON lines, as the inputs of a model, the labels of tokens, (N, S), and their names."""
    with open(path, encoding="utf-8") as file:
        sentences = [json.loads(line) for line in file if line.strip()]
    names = sorted({name for sentence in sentences for name in sentence["ner"]})
    rows = tokenizer(
        [sentence["words"] for sentence in sentences],
        is_split_into_words=True, padding=True, truncation=True, return_tensors="np",
    )  # fmt: skip
    labels = np.full(rows.input_ids.shape, NO_LABEL)
    for row, sentence in enumerate(sentences):
        words = rows.word_ids(row)
        for word, name in enumerate(sentence["ner"]):
            if word in words:  # its first token has its label
                labels[row, words.index(word)] = names.index(name)
    return {**rows, "labels": labels}, names


def main(data, output, pretrained="tiny", steps=80):
    """Train, save, and return the losses and the share of words whose label is told right."""
    tokenizer = AlbertTokenizerFast.from_pretrained(pretrained)
    rows, names = read(data, tokenizer)
    labels = dict(enumerate(names))
    model = AlbertForTokenClassification.from_pretrained(pretrained, id2label=labels)
    losses = fine_tune(model, rows, steps, BATCH_SIZE)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    right = [
        (model(**batch).logits.argmax(axis=-1) == batch["labels"])[batch["labels"] != NO_LABEL]
        for batch in batches_in_order(rows, BATCH_SIZE)
    ]
    return losses, np.concatenate(right).mean()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    losses, accuracy = main(*sys.argv[1:])
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}; right on the training rows: {accuracy:.1%}")
