"""Train a small model, from nothing, on SQuAD: where does a text answer a question?

$ python docs/examples/squad.py squad/train.json spiece.model my-squad
$ albert-np answer "Where is Paris?" --context "Paris is in France." --model my-squad
"""

import json
import sys
from pathlib import Path

import numpy as np

from albert_np import AlbertConfig, AlbertForQuestionAnswering, AlbertTokenizerFast
from albert_np.training.fine_tuning import batches_in_order, fine_tune


def read(path, tokenizer):
    """Questions with every part of their contexts, and where in it the answer starts and ends."""
    asked = json.loads(Path(path).read_text(encoding="utf-8"))["data"]
    rows = tokenizer([one["question"] for one in asked], [one["context"] for one in asked],
                     truncation="only_second", stride=32, padding=True,
                     return_overflowing_tokens=True, return_tensors="np")  # fmt: skip
    of = rows.pop("overflow_to_sample_mapping")
    spans = np.array([span(rows, i, asked[k]["answers"]) for i, k in enumerate(of)])
    return rows | {"start_positions": spans[:, 0], "end_positions": spans[:, 1]}


def span(rows, i, answers):
    """An answer's first and last token in a row; (0, 0), [CLS], where the row has no answer."""
    for start, text in zip(answers["answer_start"], answers["text"], strict=True):
        tokens = [rows.char_to_token(i, c, 1) for c in (start, start + len(text) - 1)]
        if None not in tokens:
            return tokens
    return 0, 0


def main(data, vocabulary, output, steps=120):
    """Train, save, and return the losses and the share of parts whose span is told right."""
    tokenizer = AlbertTokenizerFast(vocabulary, model_max_length=128)
    config = AlbertConfig.from_pretrained("tiny", vocab_size=len(tokenizer))
    model = AlbertForQuestionAnswering(config)
    rows = read(data, tokenizer)
    losses = fine_tune(model, rows, steps, batch_size=16)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    right = []
    for batch in batches_in_order(rows, batch_size=16):
        _, *logits = model(**batch)
        found = np.argmax(logits, axis=-1) == [batch["start_positions"], batch["end_positions"]]
        right.append(found.all(axis=0))
    return losses, np.concatenate(right).mean()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    losses, accuracy = main(*sys.argv[1:])
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}; right on the training rows: {accuracy:.1%}")
