"""The parts of a text that a label fits: names, places, parts of speech."""

from itertools import islice
from typing import NamedTuple

import numpy as np

from albert_np.functions.softmax import softmax_forward
from albert_np.models import AlbertForTokenClassification
from albert_np.pipelines.batches import (
    check_integer,
    check_length,
    check_model,
    check_offsets,
    check_texts,
    labels_of,
    longest_row,
    predict,
    row_of,
)

STRATEGIES = ("none", "simple", "first", "average", "max")
FRAME = 2  # [CLS] … [SEP]


class Token(NamedTuple):
    """A token of a text, and what the model says of it.

    Attributes
    ----------
    piece : str
        The token; where it is unknown, the text that it stands for.
    scores : array, shape (num_labels,)
        The probabilities of the labels.
    start, end : int
        Where the token stands in the text, in characters.
    index : int
        Where it stands in its row.
    continues : bool
        Whether it goes on with the word that the token before it belongs to.
    """

    piece: str
    scores: np.ndarray
    start: int
    end: int
    index: int
    continues: bool


class Word(NamedTuple):
    """Tokens that have one label in common, and its probability."""

    label: str
    score: float
    tokens: list


def tag(
    model,
    tokenizer,
    texts,
    aggregation_strategy="none",
    ignore_labels=("O",),
    stride=None,
    is_split_into_words=False,
):
    """Find the parts of texts that a label fits.

    Parameters
    ----------
    model : AlbertForTokenClassification
    tokenizer : AlbertTokenizerFast
        The model's.
    texts : str or list of str
        With is_split_into_words, a list of words or a list of such lists.
    aggregation_strategy : {"none", "simple", "first", "average", "max"}, optional
        "none" gives the tokens one by one. The others join neighbours that have one label but for
        `B-` and `I-` before it; a `B-` begins a new part. "simple" joins tokens; the rest join
        words, whose label is that of their first token, that of the highest mean of probabilities,
        or that of the token that is surest of its own.
    ignore_labels : collection of str, optional
        What these labels fit is left out.
    stride : int, optional
        Read a text that is too long for the model in parts that share this many tokens. Of two
        findings that overlap, the longer is kept. Needs an aggregation strategy.
    is_split_into_words : bool, optional
        Texts are given as lists of words; places are those in the words joined by spaces.

    Returns
    -------
    list of dict, or a list of such lists for several texts
        Of "none", for each token: `entity`, its label; `score`, its probability; `index`, the
        token's place in the row; `word`, the token; `start` and `end`, its place in the text. Of
        the others, for each part: `entity_group`, the label without `B-` and `I-`; `score`, the
        mean of its words' probabilities; `word`, its tokens as text; `start` and `end`.

    Raises
    ------
    TypeError
        If the model has another head, the tokenizer does not know where its tokens stand, or an
        argument is of the wrong type.
    ValueError
        If there are no texts, one is empty, one has too many tokens and there is no stride, there
        is no such strategy, stride is out of range, or config.id2label lacks a label.

    Notes
    -----
    The results are shaped as those of Hugging Face's `TokenClassificationPipeline`.
    """
    one = isinstance(texts, str)
    if is_split_into_words and isinstance(texts, list | tuple):
        one = len(texts) > 0 and all(isinstance(text, str) for text in texts)
    results = predict_tags(
        model,
        tokenizer,
        [texts] if one else texts,
        aggregation_strategy,
        ignore_labels,
        stride,
        is_split_into_words,
    )
    return next(results) if one else list(results)


def predict_tags(
    model,
    tokenizer,
    texts,
    aggregation_strategy="none",
    ignore_labels=("O",),
    stride=None,
    is_split_into_words=False,
):
    """Find the parts of texts that a label fits, text by text.

    Parameters
    ----------
    model, tokenizer, aggregation_strategy, ignore_labels, stride, is_split_into_words
        As for `tag`.
    texts : list of str or list of list of str

    Returns
    -------
    iterator of list of dict
        For each text, what `tag` gives. The arguments are checked at once; the model runs as
        results are taken.

    Raises
    ------
    TypeError, ValueError
        As for `tag`.
    """
    check_model(model, AlbertForTokenClassification)
    check_offsets(tokenizer)
    _check_texts(texts, is_split_into_words)
    if aggregation_strategy not in STRATEGIES:
        raise ValueError(
            f"aggregation_strategy is {aggregation_strategy!r}; "
            f"expected one of {', '.join(STRATEGIES)}"
        )
    names = labels_of(model.config)
    cut = _cut(stride, aggregation_strategy, longest_row(model, tokenizer))
    readings = [_read(tokenizer, text, is_split_into_words, cut) for text in texts]
    for place, reading in enumerate(readings):
        for row in reading.rows:
            check_length(f"texts[{place}]", row, model)
    predictions = predict(
        model, tokenizer, [row for reading in readings for row in reading.rows], "logits"
    )
    return (
        _tags(
            reading,
            [logits for (logits,) in islice(predictions, len(reading.rows))],
            aggregation_strategy, ignore_labels, names, tokenizer,
        )
        for reading in readings
    )  # fmt: skip


# --------------------------------------------------------------------------- text to tokens


class Reading(NamedTuple):
    """A text as the model reads it: in one row, or in several that overlap.

    Attributes
    ----------
    text : str
    rows : list of dict
        As `predict` takes them.
    spans : list of list of (int, int) or None
        Of each row, where its tokens stand in the text; None for those that frame it.
    """

    text: str
    rows: list
    spans: list


def _check_texts(texts, is_split_into_words):
    if not is_split_into_words:
        check_texts("texts", texts)
        return
    if not isinstance(texts, list | tuple):
        raise TypeError(f"texts is of type {type(texts).__name__}; expected lists of words")
    if not texts:
        raise ValueError("texts is empty; expected at least one text")
    for place, words in enumerate(texts):
        check_texts(f"texts[{place}]", words)


def _cut(stride, aggregation_strategy, longest):
    """What to tell the tokenizer of texts that are too long."""
    if stride is None:
        return {}
    if aggregation_strategy == "none":
        raise ValueError("stride needs an aggregation_strategy; it is 'none'")
    check_integer("stride", stride, 0, longest - FRAME - 1, " (below the tokens of a row)")
    return {
        "truncation": True,
        "max_length": longest,
        "stride": stride,
        "return_overflowing_tokens": True,
    }


def _read(tokenizer, text, is_split_into_words, cut):
    """A text, or a list of words, as rows of tokens that know where they stand."""
    encoding = tokenizer(
        [text],
        is_split_into_words=is_split_into_words,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        **cut,
    )
    rows = [row_of(encoding, place) for place in range(len(encoding["input_ids"]))]
    shifts = None
    if is_split_into_words:
        shifts = np.cumsum([0, *(len(word) + 1 for word in text)]).tolist()
        text = " ".join(text)
    spans = [_spans(encoding, place, shifts) for place in range(len(rows))]
    return Reading(text, rows, spans)


def _spans(encoding, place, shifts):
    """Where the tokens of a row stand in the text; None for those that frame it.

    `shifts` says where in the text each word starts, if places are given within words.
    """
    spans = encoding["offset_mapping"][place]
    if shifts is not None:
        words = encoding.word_ids(place)
        spans = [
            None if word is None else (shifts[word] + start, shifts[word] + end)
            for word, (start, end) in zip(words, spans, strict=True)
        ]
    special = encoding["special_tokens_mask"][place]
    return [None if frames else span for frames, span in zip(special, spans, strict=True)]


def _tokens(text, ids, spans, scores, tokenizer):
    """The tokens of a row, without those that frame it."""
    tokens = []
    for index, (token, span) in enumerate(zip(ids, spans, strict=True)):
        if span is None:
            continue
        start, end = span
        unknown = token == tokenizer.unk_token_id
        tokens.append(
            Token(
                piece=text[start:end] if unknown else tokenizer.convert_ids_to_tokens(token),
                scores=scores[index],
                start=start,
                end=end,
                index=index,
                continues=not unknown and start > 0 and " " not in text[start - 1 : start + 1],
            )
        )
    return tokens


# --------------------------------------------------------------------------- tokens to parts


def _tags(reading, logits, aggregation_strategy, ignore_labels, names, tokenizer):
    """What is found in one text."""
    found = []
    for row, spans, row_logits in zip(reading.rows, reading.spans, logits, strict=True):
        scores, _ = softmax_forward(row_logits)
        tokens = _tokens(reading.text, row["input_ids"], spans, scores, tokenizer)
        found += aggregate(tokens, aggregation_strategy, names, tokenizer)
    label = "entity" if aggregation_strategy == "none" else "entity_group"
    found = [entity for entity in found if entity[label] not in ignore_labels]
    return found if len(reading.rows) == 1 else without_overlaps(found)


def aggregate(tokens, aggregation_strategy, names, tokenizer):
    """Label tokens, and join those that belong together.

    Parameters
    ----------
    tokens : list of Token
        Of one row.
    aggregation_strategy : {"none", "simple", "first", "average", "max"}
        See `tag`.
    names : list of str
        The labels, in the order of a token's scores.
    tokenizer : AlbertTokenizerFast
        Turns tokens into text.

    Returns
    -------
    list of dict
        As `tag` gives them, no label left out.
    """
    if aggregation_strategy in ("none", "simple"):
        words = [labelled([token], "first", names) for token in tokens]
    else:
        words = [labelled(word, aggregation_strategy, names) for word in in_words(tokens)]
    if aggregation_strategy == "none":
        return [_entity(word) for word in words]
    return [_entity_group(group, tokenizer) for group in in_groups(words)]


def in_words(tokens):
    """The tokens of each word, as lists."""
    words = []
    for token in tokens:
        if token.continues and words:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def labelled(tokens, aggregation_strategy, names):
    """A word under the one label that its tokens get: a `Word`.

    "first" takes the first token's probabilities, "average" the mean of all tokens', "max" those
    of the token that has the highest.
    """
    if aggregation_strategy == "first":
        scores = tokens[0].scores
    elif aggregation_strategy == "average":
        scores = np.mean([token.scores for token in tokens], axis=0)
    else:
        scores = max((token.scores for token in tokens), key=np.max)
    best = scores.argmax()
    return Word(names[best], scores[best], tokens)


def in_groups(words):
    """Neighbouring words of one label, as lists; a label that starts with `B-` begins anew."""
    groups = []
    for word in words:
        if (
            groups
            and not word.label.startswith("B-")
            and bare(word.label) == bare(groups[-1][-1].label)
        ):
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def bare(label):
    """A label without the `B-` or `I-` before it."""
    return label.removeprefix("B-") if label.startswith("B-") else label.removeprefix("I-")


def without_overlaps(found):
    """Of findings that overlap the longest, or of two as long the likeliest, in their order."""
    kept = []
    for entity in sorted(found, key=lambda entity: entity["start"]):
        if kept and entity["start"] < kept[-1]["end"]:
            kept[-1] = max(kept[-1], entity, key=_length_and_score)
        else:
            kept.append(entity)
    return kept


def _length_and_score(entity):
    return entity["end"] - entity["start"], entity["score"]


def _entity(word):
    (token,) = word.tokens
    return {
        "entity": word.label,
        "score": float(word.score),
        "index": token.index,
        "word": token.piece,
        "start": token.start,
        "end": token.end,
    }


def _entity_group(words, tokenizer):
    tokens = [token for word in words for token in word.tokens]
    return {
        "entity_group": bare(words[0].label),
        "score": float(np.mean([word.score for word in words])),
        "word": tokenizer.convert_tokens_to_string([token.piece for token in tokens]),
        "start": tokens[0].start,
        "end": tokens[-1].end,
    }
