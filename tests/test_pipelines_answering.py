"""Answers in a text: which spans are chosen, long contexts, none, wrong arguments."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pipelines_support import MAX_LENGTH, WORDS, save_answerer, save_small_model

pytest.importorskip("tokenizers", reason="the extra `fast` is not installed")

from albert_np import (  # noqa: E402
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertTokenizer,
    AlbertTokenizerFast,
)
from albert_np.pipelines import answer, predict_answers  # noqa: E402
from albert_np.pipelines.answering import best_spans  # noqa: E402

QUESTION = "What is the capital of France?"
CONTEXT = "The capital of Italy is Rome. The capital of France is Paris, and the sky is blue."
LONG = f"{'A cat is an animal. ' * 40}{CONTEXT}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_answerer(tmp_path_factory.mktemp("answerer"))


@pytest.fixture(scope="module")
def tokenizer(directory):
    return AlbertTokenizerFast.from_pretrained(directory)


@pytest.fixture(scope="module")
def model(directory):
    return AlbertForQuestionAnswering.from_pretrained(directory, dtype="float64")


# ------------------------------------------------------------------------------ spans


@st.composite
def logits(draw):
    """start_logits, end_logits, and which tokens are the context's; [CLS] is not."""
    size = draw(st.integers(2, 12))
    start, end = (
        draw(hnp.arrays(float, size, elements=st.floats(-20, 20, width=32))) for _ in range(2)
    )
    in_context = draw(hnp.arrays(bool, size))
    in_context[0] = False
    in_context[-1] = True
    return start, end, in_context


@given(logits=logits(), max_answer_len=st.integers(1, 12), count=st.integers(1, 100))
def test_best_spans_are_the_best_of_all_spans(logits, max_answer_len, count):
    start, end, in_context = logits
    spans, none_score = best_spans(start, end, in_context, max_answer_len, count)
    possible = in_context | (np.arange(len(start)) == 0)
    p_start, p_end = (np.exp(x) * possible / np.exp(x[possible]).sum() for x in (start, end))
    scores = {
        (first, last): p_start[first] * p_end[last]
        for first in np.flatnonzero(in_context)
        for last in np.flatnonzero(in_context)
        if first <= last < first + max_answer_len
    }
    assert len(spans) == min(count, len(scores))
    assert len({span[:2] for span in spans}) == len(spans)
    # Two softmaxes of sums of at most 12 terms, of exponents of at most 40.
    for first, last, score in spans:
        assert score == pytest.approx(scores[first, last], rel=1e-13)
    best = sorted(scores.values(), reverse=True)[: len(spans)]
    assert [score for *_, score in spans] == pytest.approx(best, rel=1e-13)
    assert none_score == pytest.approx(p_start[0] * p_end[0], rel=1e-13)


@given(logits=logits())
def test_all_spans_and_none_are_at_most_certain(logits):
    start, end, in_context = logits
    spans, none_score = best_spans(start, end, in_context, len(start), len(start) ** 2)
    assert sum(score for *_, score in spans) + none_score <= 1 + 1e-13


@given(logits=logits(), shift=st.floats(-1e5, 1e5))
def test_padding_and_the_question_have_no_say(logits, shift):
    start, end, in_context = logits
    elsewhere = ~in_context
    elsewhere[0] = False
    moved = (np.where(elsewhere, x + shift, x) for x in (start, end))
    assert best_spans(*moved, in_context, 5, 9) == best_spans(start, end, in_context, 5, 9)


# ------------------------------------------------------------------------------ answers


def test_an_answer_is_a_part_of_the_context_in_whole_words(model, tokenizer):
    for found in answer(model, tokenizer, QUESTION, CONTEXT, top_k=10):
        assert list(found) == ["score", "start", "end", "answer"]
        assert CONTEXT[found["start"] : found["end"]] == found["answer"]
        words = re.findall(r"\w+|[^\w\s]", found["answer"])
        assert set(words) <= set(re.findall(r"\w+|[^\w\s]", CONTEXT))


def test_shapes_of_results(model, tokenizer):
    one = answer(model, tokenizer, QUESTION, CONTEXT)
    assert isinstance(one, dict)
    assert answer(model, tokenizer, [QUESTION], [CONTEXT]) == one
    two = answer(model, tokenizer, [QUESTION, "What is red?"], CONTEXT)
    assert [type(found) for found in two] == [dict, dict]
    assert two == answer(model, tokenizer, [QUESTION, "What is red?"], [CONTEXT, CONTEXT])
    several = answer(model, tokenizer, [QUESTION, "What is red?"], CONTEXT, top_k=3)
    assert [len(found) for found in several] == [3, 3]


def test_answers_come_by_their_scores(model, tokenizer):
    answers = answer(model, tokenizer, QUESTION, CONTEXT, top_k=50)
    scores = [found["score"] for found in answers]
    assert scores == sorted(scores, reverse=True)
    texts = [found["answer"].lower() for found in answers]
    assert len(set(texts)) == len(texts) <= 50


def test_an_answer_that_is_found_twice_has_the_scores_of_both(model, tokenizer):
    context = "is Paris is paris"
    encoding = tokenizer([QUESTION], [context], return_tensors="np")
    outputs = model(**encoding)
    in_context = np.array([sequence == 1 for sequence in encoding.sequence_ids(0)])
    spans, _ = best_spans(outputs.start_logits[0], outputs.end_logits[0], in_context, 3, 100)
    _, first, _, last = np.flatnonzero(in_context)
    scores = [score for *span, score in spans if span in ([first, first], [last, last])]
    answers = answer(model, tokenizer, QUESTION, context, top_k=10)
    (found,) = (one for one in answers if one["answer"].strip().lower() == "paris")
    assert found["score"] == pytest.approx(sum(scores), rel=1e-12)


def test_a_stride_must_leave_a_part_of_the_context_something_new(model, tokenizer):
    room = 60 - 3 - len(tokenizer.tokenize(QUESTION))
    settings = {"max_seq_len": 60}
    assert answer(model, tokenizer, QUESTION, LONG, doc_stride=room - 1, **settings)
    with pytest.raises(ValueError, match=f"leaves room for {room} tokens"):
        answer(model, tokenizer, QUESTION, LONG, doc_stride=room, **settings)


def test_fewer_answers_than_asked_for(model, tokenizer):
    assert answer(model, tokenizer, QUESTION, "Paris", top_k=5)["answer"] == "Paris"


@given(max_answer_len=st.integers(1, 4))
def test_no_answer_is_too_long(model, tokenizer, max_answer_len):
    context = "a cat is red a dog is red the sky is red"  # each of these words is one token
    answers = answer(model, tokenizer, "What?", context, 100, max_answer_len=max_answer_len)
    tokens = [len(tokenizer.tokenize(found["answer"])) for found in answers]
    assert max(tokens) <= max(
        max_answer_len * len(tokenizer.tokenize(word)) for word in context.split()
    )


def test_there_may_be_none(model, tokenizer):
    none = {"score": pytest.approx(0, abs=1), "start": 0, "end": 0, "answer": ""}
    without = answer(model, tokenizer, QUESTION, CONTEXT, top_k=200)
    with_none = answer(
        model, tokenizer, QUESTION, CONTEXT, top_k=201, handle_impossible_answer=True
    )
    assert none in with_none
    assert [found for found in with_none if found["answer"]] == without
    encoding = tokenizer([QUESTION], [CONTEXT], return_tensors="np")
    outputs = model(**encoding)
    in_play = [
        place == 0 or sequence == 1 for place, sequence in enumerate(encoding.sequence_ids(0))
    ]
    start, end = (np.exp(x[0][in_play]) for x in (outputs.start_logits, outputs.end_logits))
    (found,) = (found for found in with_none if not found["answer"])
    assert found["score"] == pytest.approx(start[0] / start.sum() * end[0] / end.sum(), rel=1e-12)


def test_there_is_none_as_far_as_every_part_of_the_context_says(model, tokenizer):
    settings = {"top_k": 1000, "handle_impossible_answer": True, "max_seq_len": 60}
    encoding = tokenizer([QUESTION], [LONG], truncation="only_second", max_length=60, stride=20,
                         return_overflowing_tokens=True)  # fmt: skip
    scores = []
    for place, ids in enumerate(encoding.input_ids):
        types = encoding.token_type_ids[place]
        outputs = model([ids], token_type_ids=[types])
        in_context = np.array([sequence == 1 for sequence in encoding.sequence_ids(place)])
        logits = outputs.start_logits[0], outputs.end_logits[0]
        scores.append(best_spans(*logits, in_context, 1, 1)[1])
    answers = answer(model, tokenizer, QUESTION, LONG, doc_stride=20, **settings)
    (found,) = (found for found in answers if not found["answer"])
    assert min(scores) < max(scores) / 2
    assert found["score"] == pytest.approx(min(scores), rel=1e-9)


def test_a_long_context_is_read_to_its_end(model, tokenizer):
    found = answer(model, tokenizer, QUESTION, LONG, top_k=400, max_seq_len=60, doc_stride=20)
    ends = {one["end"] for one in found}
    assert max(ends) == len(LONG)
    assert all(LONG[one["start"] : one["end"]] == one["answer"] for one in found)


@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_a_question_does_not_depend_on_its_batch(model, tokenizer, words):
    contexts = [CONTEXT, " ".join(words), LONG]
    together = answer(model, tokenizer, [QUESTION] * 3, contexts)
    for found, context in zip(together, contexts, strict=True):
        alone = answer(model, tokenizer, QUESTION, context)
        assert found == alone | {"score": pytest.approx(alone["score"], rel=1e-9)}


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (("", CONTEXT), {}, ValueError, r"question\[0\] is empty"),
        ((QUESTION, " "), {}, ValueError, r"context\[0\] is empty"),
        ((QUESTION, "\u0301"), {}, ValueError, r"context\[0\] holds no token"),
        (([QUESTION, QUESTION], [CONTEXT, ""]), {}, ValueError, r"context\[1\] is empty"),
        (([], CONTEXT), {}, ValueError, "question is empty"),
        ((5, CONTEXT), {}, TypeError, "question is of type int"),
        ((QUESTION, None), {}, TypeError, "context is of type NoneType"),
        (([QUESTION, QUESTION], [CONTEXT]), {}, ValueError, "there are 2 questions and 1 contexts"),
        ((QUESTION, CONTEXT), {"top_k": 0}, ValueError, "top_k is 0; expected at least 1"),
        ((QUESTION, CONTEXT), {"top_k": 1.5}, TypeError, "top_k is 1.5"),
        ((QUESTION, CONTEXT), {"max_answer_len": 0}, ValueError, "max_answer_len is 0"),
        ((QUESTION, CONTEXT), {"max_seq_len": 4}, ValueError, "max_seq_len is 4; expected 5 to"),
        ((QUESTION, CONTEXT), {"max_seq_len": MAX_LENGTH + 1}, ValueError, "max_seq_len is 129"),
        ((QUESTION, CONTEXT), {"doc_stride": -1}, ValueError, "doc_stride is -1"),
        ((QUESTION, CONTEXT), {"doc_stride": 300}, ValueError, "doc_stride is 300; expected 0 to"),
        ((QUESTION, LONG), {"doc_stride": 120}, ValueError, "leaves room for"),
        (("dog " * 200, CONTEXT), {}, ValueError, r"question\[0\] leaves room for 0 tokens"),
    ],
)
def test_wrong_arguments(model, tokenizer, arguments, settings, error, message):
    with pytest.raises(error, match=message):
        answer(model, tokenizer, *arguments, **settings)


def test_a_model_without_the_head(tmp_path, tokenizer):
    model = AlbertForPreTraining.from_pretrained(save_small_model(tmp_path))
    with pytest.raises(TypeError, match="PreTraining; expected AlbertForQuestionAnswering"):
        answer(model, tokenizer, QUESTION, CONTEXT)


def test_a_tokenizer_without_places(model, directory):
    tokenizer = AlbertTokenizer.from_pretrained(directory)
    with pytest.raises(TypeError, match="AlbertTokenizer; expected AlbertTokenizerFast"):
        answer(model, tokenizer, QUESTION, CONTEXT)


def test_everything_is_checked_before_the_model_runs(model, tokenizer):
    with pytest.raises(ValueError, match=r"question\[1\] leaves room"):
        predict_answers(model, tokenizer, [QUESTION, "dog " * 200], [CONTEXT, CONTEXT])
