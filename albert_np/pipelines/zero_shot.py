"""Labels of one's own for a text, by a model that was trained on entailment."""

from itertools import islice

import numpy as np

from albert_np.functions.softmax import softmax_forward
from albert_np.models import AlbertForSequenceClassification
from albert_np.pipelines.batches import (
    check_model,
    check_text,
    check_texts,
    labels_of,
    longest_row,
    predict,
)


def classify_zero_shot(
    model,
    tokenizer,
    texts,
    candidate_labels,
    hypothesis_template="This example is {}.",
    multi_label=False,
):
    """Choose among labels of one's own for texts.

    Each label makes a sentence, the hypothesis; the model tells how far the text entails it.

    Parameters
    ----------
    model : AlbertForSequenceClassification
        Trained on entailment: one of its labels starts with "entail", in any case.
    tokenizer : AlbertTokenizer or AlbertTokenizerFast
        The model's.
    texts : str or list of str
        One that is too long is cut, at its end.
    candidate_labels : str or list of str
        The labels; a str holds them with commas between.
    hypothesis_template : str, optional
        The sentence, with {} where the label goes.
    multi_label : bool, optional
        Judge each label on its own, entailment against contradiction; several may be right.
        Otherwise the scores of a text's labels sum to 1.

    Returns
    -------
    dict, or list of dict for a list of texts
        `sequence`, the text; `labels`, the most probable first; `scores`, their probabilities.

    Raises
    ------
    TypeError
        If the model has another head, or an argument is of the wrong type.
    ValueError
        If there are no texts or no labels, one of them is empty, the template has no place for a
        label, the sentence leaves no room for the text, or no label of the model is entailment.

    Notes
    -----
    The results are shaped as those of Hugging Face's `ZeroShotClassificationPipeline`.
    """
    several = not isinstance(texts, str)
    results = predict_choices(
        model,
        tokenizer,
        texts if several else [texts],
        candidate_labels,
        hypothesis_template,
        multi_label,
    )
    return list(results) if several else next(results)


def predict_choices(
    model,
    tokenizer,
    texts,
    candidate_labels,
    hypothesis_template="This example is {}.",
    multi_label=False,
):
    """Choose among labels of one's own for texts, text by text.

    Parameters
    ----------
    model, tokenizer, candidate_labels, hypothesis_template, multi_label
        As for `classify_zero_shot`.
    texts : list of str

    Returns
    -------
    iterator of dict
        As `classify_zero_shot` gives them. The arguments are checked at once; the model runs as
        results are taken.

    Raises
    ------
    TypeError, ValueError
        As for `classify_zero_shot`.
    """
    check_model(model, AlbertForSequenceClassification)
    check_texts("texts", texts)
    entailment = entailment_index(labels_of(model.config))
    labels = _labels(candidate_labels)
    hypotheses = _hypotheses(hypothesis_template, labels)
    rows = [
        tokenizer(
            text, hypothesis, truncation="only_first", max_length=longest_row(model, tokenizer)
        )
        for text in texts
        for hypothesis in hypotheses
    ]
    predictions = predict(model, tokenizer, rows, "logits")
    return (
        _choice(
            text,
            labels,
            np.stack([logits for (logits,) in islice(predictions, len(labels))]),
            entailment,
            multi_label,
        )
        for text in texts
    )


def entailment_index(names):
    """The index of the label that means entailment."""
    for index, name in enumerate(names):
        if name.lower().startswith("entail"):
            return index
    raise ValueError(
        f"config.id2label has {', '.join(names)}; expected a label that starts with 'entail'"
    )


def entailment_scores(logits, entailment, multi_label):
    """The probability of each of N hypotheses.

    Parameters
    ----------
    logits : array, shape (N, num_labels)
    entailment : int
        The index of the label that means it. Contradiction is the first label, or the last if
        entailment is the first.
    multi_label : bool
        The softmax runs over contradiction and entailment, for each hypothesis; otherwise, and
        unless there is one hypothesis alone, over the hypotheses' entailment.

    Returns
    -------
    array, shape (N,)
    """
    if multi_label or len(logits) == 1:
        contradiction = -1 if entailment == 0 else 0
        scores, _ = softmax_forward(logits[:, [contradiction, entailment]])
        return scores[:, 1]
    scores, _ = softmax_forward(logits[:, entailment])
    return scores


def _choice(text, labels, logits, entailment, multi_label):
    scores = entailment_scores(logits, entailment, multi_label)
    order = np.argsort(-scores, kind="stable")
    return {
        "sequence": text,
        "labels": [labels[index] for index in order],
        "scores": scores[order].tolist(),
    }


def _labels(candidate_labels):
    """The labels, from a list or from a str with commas."""
    if isinstance(candidate_labels, str):
        candidate_labels = [label.strip() for label in candidate_labels.split(",") if label.strip()]
    check_texts("candidate_labels", candidate_labels)
    return list(candidate_labels)


def _hypotheses(template, labels):
    """The sentence that each label makes."""
    check_text("hypothesis_template", template)
    try:
        hypotheses = [template.format(label) for label in labels]
    except (AttributeError, LookupError, ValueError) as error:
        raise ValueError(f"hypothesis_template is {template!r}: {error}") from None
    if hypotheses[0] == template:
        raise ValueError(f"hypothesis_template is {template!r}; expected {{}} where the label goes")
    return hypotheses
