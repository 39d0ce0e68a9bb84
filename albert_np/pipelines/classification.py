"""The labels of a text, or of a pair of texts."""

import numpy as np
from scipy.special import expit

from albert_np.functions.softmax import softmax_forward
from albert_np.models import AlbertForSequenceClassification
from albert_np.pipelines.batches import (
    check_integer,
    check_length,
    check_model,
    check_text,
    labels_of,
    predict,
)

NOT_GIVEN = object()


def classify(model, tokenizer, texts, top_k=NOT_GIVEN):
    """Tell the labels of texts, or of pairs of texts.

    Parameters
    ----------
    model : AlbertForSequenceClassification
    tokenizer : AlbertTokenizer or AlbertTokenizerFast
        The model's.
    texts : str, dict, or list of either
        A pair of texts is a dictionary: `{"text": …, "text_pair": …}`.
    top_k : int or None, optional
        How many labels to give for each text, the one of the highest score first; None for all.
        Not given, the first alone, without a list around it.

    Returns
    -------
    dict or list
        A label is a dictionary: `label`, its name; `score`. Of a text with `top_k` given, the list
        of its labels; without, its label (in a list of one, if the text is a str). Of a list of
        texts, the list of what each gives: its label, or the list of its labels.

        The score is a probability: of the softmax over labels, or, of each label by itself, of the
        sigmoid, if the configuration's problem_type is "multi_label_classification" or there is
        one label. For "regression" it is the model's output.

    Raises
    ------
    TypeError
        If the model has another head, or an argument is of the wrong type.
    ValueError
        If there are no texts, one is empty or has too many tokens, a dictionary has other keys,
        top_k is out of range, or config.id2label lacks a label.

    Notes
    -----
    The results are shaped as those of Hugging Face's `TextClassificationPipeline`.
    """
    one = isinstance(texts, str | dict)
    labels = predict_labels(
        model, tokenizer, [texts] if one else texts, 1 if top_k is NOT_GIVEN else top_k
    )
    results = [row[0] if top_k is NOT_GIVEN else row for row in labels]
    if isinstance(texts, str) and top_k is NOT_GIVEN:
        return results
    return results[0] if one else results


def predict_labels(model, tokenizer, texts, top_k=1):
    """Tell the labels of texts, or of pairs of texts, one by one, in one shape.

    Parameters
    ----------
    model, tokenizer
        As for `classify`.
    texts : list of str or dict
    top_k : int or None, optional
        How many labels to give for each text; None for all.

    Returns
    -------
    iterator of list of dict
        For each text its labels as `classify` gives them. The arguments are checked at once; the
        model runs as results are taken.

    Raises
    ------
    TypeError, ValueError
        As for `classify`.
    """
    check_model(model, AlbertForSequenceClassification)
    if not isinstance(texts, list | tuple):
        raise TypeError(f"texts is of type {type(texts).__name__}; expected str, dict or a list")
    if not texts:
        raise ValueError("texts is empty; expected at least one text")
    names = labels_of(model.config)
    if top_k is not None:
        check_integer("top_k", top_k, 1, len(names), " (num_labels)")
    pairs = [_pair(f"texts[{place}]", text) for place, text in enumerate(texts)]
    rows = [tokenizer(text, text_pair) for text, text_pair in pairs]
    for place, row in enumerate(rows):
        check_length(f"texts[{place}]", row, model)
    predictions = predict(model, tokenizer, rows, "logits")
    return (
        best_labels(label_scores(logits, model.config), names, top_k) for (logits,) in predictions
    )


def label_scores(logits, config):
    """Scores of logits, of shape (num_labels,) both, by the kind of the model's problem."""
    if config.problem_type == "regression":
        return logits
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return expit(logits)
    scores, _ = softmax_forward(logits)
    return scores


def best_labels(scores, names, top_k):
    """The top_k labels (None: all) of the highest scores, in their order."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": names[index], "score": float(scores[index])} for index in order]


def _pair(name, text):
    """A text and its second one, or None."""
    if not isinstance(text, dict):
        check_text(name, text)
        return text, None
    if not {"text"} <= set(text) <= {"text", "text_pair"}:
        keys = ", ".join(map(repr, text)) or "none"
        raise ValueError(f"{name} has the keys {keys}; expected 'text', or it and 'text_pair'")
    for key, value in text.items():
        check_text(f"{name}[{key!r}]", value)
    return text["text"], text.get("text_pair")
