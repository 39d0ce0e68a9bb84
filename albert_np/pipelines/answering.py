"""The answer to a question, where a text holds it."""

from itertools import islice
from typing import NamedTuple

import numpy as np

from albert_np.functions.softmax import softmax_forward
from albert_np.models import AlbertForQuestionAnswering
from albert_np.pipelines.batches import (
    check_integer,
    check_model,
    check_offsets,
    check_texts,
    longest_row,
    predict,
    row_of,
)

MAX_SEQ_LEN = 384
DOC_STRIDE = 128
FRAME = 3  # [CLS] question [SEP] context [SEP]


def answer(
    model,
    tokenizer,
    question,
    context,
    top_k=1,
    doc_stride=None,
    max_answer_len=15,
    max_seq_len=None,
    handle_impossible_answer=False,
):
    """Find the answers to questions in texts.

    Parameters
    ----------
    model : AlbertForQuestionAnswering
    tokenizer : AlbertTokenizerFast
        The model's.
    question : str or list of str
    context : str or list of str
        The text that holds the answer; one for all questions, or one each.
    top_k : int, optional
        How many answers to give, the likeliest first; there may be fewer.
    doc_stride : int, optional
        A context that is too long is read in parts that share this many tokens. 128 by default, or
        half of max_seq_len if that is less.
    max_answer_len : int, optional
        The most tokens of an answer, before it is extended to whole words.
    max_seq_len : int, optional
        The most tokens of a question and a part of its context, special ones included. 384 by
        default, or what model and tokenizer take if that is less.
    handle_impossible_answer : bool, optional
        Whether "there is none" is an answer. It is empty, and its score is that of `[CLS]`, the
        least over the context's parts.

    Returns
    -------
    dict or list of dict; for several questions, a list of what each gives
        `answer`, a part of the context in whole words; `start` and `end`, its place in the
        context; `score`, the product of the probabilities that it starts and that it ends there,
        among the tokens of the part of the context that it was found in. Of answers that differ in
        capitals alone, the first found is given, with the sum of their scores. A single answer is
        not in a list.

    Raises
    ------
    TypeError
        If the model has another head, the tokenizer does not know where its tokens stand, or an
        argument is of the wrong type.
    ValueError
        If there are no questions, a question or a context is empty or holds no token, their
        numbers differ, a number is out of range, or a question leaves no room for its context.

    Notes
    -----
    The results are shaped as those of Hugging Face's `QuestionAnsweringPipeline`.
    """
    several = not isinstance(question, str)
    questions = question if several else [question]
    check_texts("question", questions)
    contexts = [context] * len(questions) if isinstance(context, str) else context
    results = predict_answers(
        model, tokenizer, questions, contexts, top_k, doc_stride, max_answer_len, max_seq_len,
        handle_impossible_answer,
    )  # fmt: skip
    results = [answers[0] if len(answers) == 1 else answers for answers in results]
    return results if len(results) > 1 else results[0]


def predict_answers(
    model,
    tokenizer,
    questions,
    contexts,
    top_k=1,
    doc_stride=None,
    max_answer_len=15,
    max_seq_len=None,
    handle_impossible_answer=False,
):
    """Find the answers to questions in texts, question by question, in one shape.

    Parameters
    ----------
    model, tokenizer, top_k, doc_stride, max_answer_len, max_seq_len, handle_impossible_answer
        As for `answer`.
    questions : list of str
    contexts : list of str
        One for each question.

    Returns
    -------
    iterator of list of dict
        For each question, up to top_k answers as `answer` gives them. The arguments are checked at
        once; the model runs as results are taken.

    Raises
    ------
    TypeError, ValueError
        As for `answer`.
    """
    check_model(model, AlbertForQuestionAnswering)
    check_offsets(tokenizer)
    check_texts("question", questions)
    check_texts("context", contexts)
    if len(questions) != len(contexts):
        raise ValueError(f"there are {len(questions)} questions and {len(contexts)} contexts")
    check_integer("top_k", top_k, 1)
    check_integer("max_answer_len", max_answer_len, 1)
    longest = longest_row(model, tokenizer)
    if max_seq_len is None:
        max_seq_len = min(longest, MAX_SEQ_LEN)
    check_integer("max_seq_len", max_seq_len, FRAME + 2, longest, " (what the model takes)")
    if doc_stride is None:
        doc_stride = min(max_seq_len // 2, DOC_STRIDE)
    check_integer("doc_stride", doc_stride, 0, max_seq_len, " (max_seq_len)")
    pages = [
        _pages(tokenizer, place, question, context, max_seq_len, doc_stride)
        for place, (question, context) in enumerate(zip(questions, contexts, strict=True))
    ]
    predictions = predict(
        model,
        tokenizer,
        [page.row for one in pages for page in one],
        "start_logits",
        "end_logits",
    )
    return (
        _answers(
            context, one, [*islice(predictions, len(one))], top_k, max_answer_len,
            handle_impossible_answer,
        )
        for context, one in zip(contexts, pages, strict=True)
    )  # fmt: skip


# ------------------------------------------------------------------------------ text to rows


class Page(NamedTuple):
    """A question and a part of its context.

    Attributes
    ----------
    row : dict
        As `predict` takes it.
    in_context : array of bool, shape (S,)
        Which tokens are the context's.
    word_starts, word_ends : list of int
        Of each of the context's tokens, where the word that it is part of starts and ends in the
        context, in characters; 0 for other tokens.
    """

    row: dict
    in_context: np.ndarray
    word_starts: list
    word_ends: list


def _pages(tokenizer, place, question, context, max_seq_len, doc_stride):
    """A question and its context as rows of at most max_seq_len tokens."""
    room = max_seq_len - FRAME - len(tokenizer.tokenize(question))
    if room <= doc_stride:
        raise ValueError(
            f"question[{place}] leaves room for {max(room, 0)} tokens of its context; "
            f"expected more than doc_stride, {doc_stride}, within max_seq_len, {max_seq_len}"
        )
    encoding = tokenizer(
        [question],
        [context],
        truncation="only_second",
        max_length=max_seq_len,
        stride=doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    pages = [_page(encoding, index) for index in range(len(encoding["input_ids"]))]
    if not pages[0].in_context.any():
        raise ValueError(f"context[{place}] holds no token: {context!r}")
    return pages


def _page(encoding, index):
    in_context = np.array([sequence == 1 for sequence in encoding.sequence_ids(index)])
    words = encoding.word_ids(index)
    starts, ends = {}, {}
    for token in np.flatnonzero(in_context):
        start, end = encoding["offset_mapping"][index][token]
        starts.setdefault(words[token], start)
        ends[words[token]] = end
    of_context = [word if inside else None for word, inside in zip(words, in_context, strict=True)]
    return Page(
        row_of(encoding, index),
        in_context,
        [starts.get(word, 0) for word in of_context],
        [ends.get(word, 0) for word in of_context],
    )


# --------------------------------------------------------------------------- logits to answers


def _answers(context, pages, logits, top_k, max_answer_len, handle_impossible_answer):
    """The answers to one question, from what the model says of each part of its context."""
    answers, none_scores = {}, []
    for page, (start_logits, end_logits) in zip(pages, logits, strict=True):
        length = len(page.in_context)
        spans, none_score = best_spans(
            start_logits[:length],
            end_logits[:length],
            page.in_context,
            max_answer_len,
            count=2 * top_k + 10,  # more than asked for: several may be one in whole words
        )
        none_scores.append(none_score)
        for first, last, score in spans:
            start, end = page.word_starts[first], page.word_ends[last]
            text = context[start:end]
            same = answers.setdefault(
                text.lower(), {"score": 0.0, "start": start, "end": end, "answer": text}
            )
            same["score"] += score
    found = list(answers.values())
    if handle_impossible_answer:
        found.append({"score": min(none_scores), "start": 0, "end": 0, "answer": ""})
    return sorted(found, key=lambda one: one["score"], reverse=True)[:top_k]


def best_spans(start_logits, end_logits, in_context, max_answer_len, count):
    """The likeliest spans of tokens.

        p(first, last) = p_start(first) p_end(last),   first ≤ last < first + max_answer_len

    where p_start and p_end are softmaxes over the context's tokens and `[CLS]`, whose product is
    the probability that there is no answer.

    Parameters
    ----------
    start_logits, end_logits : array, shape (S,)
        `[CLS]` stands at 0.
    in_context : array of bool, shape (S,)
    max_answer_len : int
    count : int
        The most spans to give.

    Returns
    -------
    spans : list of (int, int, float)
        First token, last token and probability, the likeliest first.
    none_score : float
        The probability that there is no answer.
    """
    possible = in_context.copy()
    possible[0] = True
    start, _ = softmax_forward(np.where(possible, start_logits, -np.inf))
    end, _ = softmax_forward(np.where(possible, end_logits, -np.inf))
    allowed = np.tril(np.triu(np.outer(in_context, in_context)), max_answer_len - 1)
    firsts, lasts = allowed.nonzero()
    scores = start[firsts] * end[lasts]
    best = np.argsort(-scores, kind="stable")[:count]
    spans = [(int(firsts[i]), int(lasts[i]), float(scores[i])) for i in best]
    return spans, float(start[0] * end[0])
