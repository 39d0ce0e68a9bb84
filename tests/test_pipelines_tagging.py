"""Parts of a text that a label fits: how tokens are joined, where they stand, wrong arguments."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines_support import MAX_LENGTH, TAGS, WORDS, save_small_model, save_tagger

pytest.importorskip("tokenizers", reason="the extra `fast` is not installed")

from albert_np import (  # noqa: E402
    AlbertForPreTraining,
    AlbertForTokenClassification,
    AlbertTokenizer,
    AlbertTokenizerFast,
)
from albert_np.pipelines import BATCH_SIZE, predict_tags, tag  # noqa: E402
from albert_np.pipelines.tagging import (  # noqa: E402
    STRATEGIES,
    Token,
    _read,
    _tokens,
    aggregate,
    bare,
    in_groups,
    in_words,
    labelled,
    without_overlaps,
)

TEXT = "The capital of France is Paris."
LONG = "a cat is red. " * 40
WORD_STRATEGIES = ("first", "average", "max")


class Joiner:
    """A tokenizer whose tokens make up the text as they are."""

    @staticmethod
    def convert_tokens_to_string(tokens):
        return "".join(tokens)


@st.composite
def tokens(draw):
    """The tokens of a text, one character each."""
    size = draw(st.integers(1, 8))
    logits = draw(
        st.lists(
            st.lists(st.floats(-5, 5), min_size=len(TAGS), max_size=len(TAGS)),
            min_size=size,
            max_size=size,
        )
    )
    scores = np.exp(logits)
    scores /= scores.sum(axis=1, keepdims=True)
    return [
        Token("abcdefgh"[place], scores[place], place, place + 1, place + 1, draw(st.booleans()))
        for place in range(size)
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_tagger(tmp_path_factory.mktemp("tagger"))


@pytest.fixture(scope="module")
def tokenizer(directory):
    return AlbertTokenizerFast.from_pretrained(directory)


@pytest.fixture(scope="module")
def model(directory):
    return AlbertForTokenClassification.from_pretrained(directory, dtype="float64")


# ------------------------------------------------------------------------------ aggregation


@given(tokens=tokens())
def test_none_gives_each_token_its_label(tokens):
    for token, entity in zip(tokens, aggregate(tokens, "none", TAGS, Joiner), strict=True):
        assert entity == {
            "entity": TAGS[int(np.argmax(token.scores))],
            "score": token.scores.max(),
            "index": token.index,
            "word": token.piece,
            "start": token.start,
            "end": token.end,
        }


@given(tokens=tokens(), strategy=st.sampled_from(STRATEGIES[1:]))
def test_groups_make_up_the_text(tokens, strategy):
    groups = aggregate(tokens, strategy, TAGS, Joiner)
    assert "".join(group["word"] for group in groups) == "".join(token.piece for token in tokens)
    assert groups[0]["start"] == 0
    assert groups[-1]["end"] == len(tokens)
    assert all(group["end"] == following["start"] for group, following in pairwise(groups))
    assert all(0 < group["score"] <= 1 for group in groups)


@given(tokens=tokens())
def test_a_word_begins_where_a_token_does_not_continue(tokens):
    words = in_words(tokens)
    assert [token for word in words for token in word] == tokens
    assert all(not word[0].continues for word in words[1:])
    assert all(token.continues for word in words for token in word[1:])


def test_which_tokens_go_on_with_a_word(tokenizer):
    """Those that no space parts from the one before; an unknown one begins a word of its own."""
    reading = _read(tokenizer, "a red☃dog", False, {})
    scores = np.zeros((len(reading.spans[0]), len(TAGS)))
    found = _tokens(reading.text, reading.rows[0]["input_ids"], reading.spans[0], scores, tokenizer)
    assert [(token.piece, token.continues) for token in found] == [
        ("▁a", False), ("▁red", False), ("☃", False), ("d", True), ("o", True), ("g", True),
    ]  # fmt: skip


@given(tokens=tokens())
def test_the_three_ways_to_label_a_word(tokens):
    scores = np.array([token.scores for token in tokens])
    first, average, surest = (labelled(tokens, way, TAGS) for way in WORD_STRATEGIES)
    assert (first.label, first.score) == (TAGS[scores[0].argmax()], scores[0].max())
    assert average.score == scores.mean(axis=0).max()
    assert average.label == TAGS[scores.mean(axis=0).argmax()]
    assert surest.score == scores.max()
    assert surest.label == TAGS[np.unravel_index(scores.argmax(), scores.shape)[1]]


@given(tokens=tokens())
def test_words_of_one_token_are_labelled_alike(tokens):
    tokens = [token._replace(continues=False) for token in tokens]
    simple, *others = (aggregate(tokens, way, TAGS, Joiner) for way in STRATEGIES[1:])
    assert all(other == simple for other in others)


@given(labels=st.lists(st.sampled_from(TAGS), min_size=1, max_size=8))
def test_a_group_ends_where_the_label_changes_or_begins_anew(labels):
    token = Token("a", np.eye(len(TAGS)), 0, 1, 1, False)
    words = [
        labelled([token._replace(scores=token.scores[TAGS.index(label)])], "first", TAGS)
        for label in labels
    ]
    groups = [[word.label for word in group] for group in in_groups(words)]
    assert sum(groups, []) == labels
    for group in groups:
        assert len({bare(label) for label in group}) == 1
        assert not any(label.startswith("B-") for label in group[1:])
    for group, following in pairwise(groups):
        assert following[0].startswith("B-") or bare(following[0]) != bare(group[0])


SPANS = st.tuples(st.integers(0, 20), st.integers(1, 6), st.floats(0, 1)).map(
    lambda span: {"start": span[0], "end": span[0] + span[1], "score": span[2]}
)


@given(found=st.lists(SPANS, max_size=8))
def test_findings_do_not_overlap(found):
    kept = without_overlaps(found)
    assert all(entity in found for entity in kept)
    assert all(entity["end"] <= following["start"] for entity, following in pairwise(kept))
    if found:  # the longest, or the likeliest of the longest, beats whatever it meets
        best = max(found, key=lambda one: (one["end"] - one["start"], one["score"]))
        assert any(one["end"] > best["start"] and one["start"] < best["end"] for one in kept)


def test_of_two_that_overlap_the_longer_is_kept():
    short, long = {"start": 0, "end": 3, "score": 0.9}, {"start": 2, "end": 6, "score": 0.1}
    likelier = {"start": 3, "end": 7, "score": 0.2}
    assert without_overlaps([long, short]) == [long]
    assert without_overlaps([short, long, likelier]) == [likelier]
    assert without_overlaps([likelier, short]) == [short, likelier]


# ------------------------------------------------------------------------------ texts


def test_tokens_stand_where_they_say(model, tokenizer):
    entities = tag(model, tokenizer, TEXT, ignore_labels=())
    inputs = tokenizer([TEXT], return_tensors="np")
    (logits,) = model(**inputs).logits
    ids = inputs.input_ids[0]
    assert [entity["index"] for entity in entities] == list(range(1, len(ids) - 1))
    for entity in entities:
        exponentials = np.exp(logits[entity["index"]])
        assert entity["entity"] == TAGS[exponentials.argmax()]
        # A quotient of a sum of five terms: a few units in the last place.
        assert entity["score"] == pytest.approx(
            exponentials.max() / exponentials.sum(), rel=8 * 2**-53
        )
        assert entity["word"] == tokenizer.convert_ids_to_tokens(int(ids[entity["index"]]))
        place = TEXT[entity["start"] : entity["end"]].lower()
        assert place.strip() == entity["word"].strip("▁")


def test_shapes_of_results(model, tokenizer):
    one = tag(model, tokenizer, TEXT, ignore_labels=())
    assert isinstance(one[0], dict)
    assert tag(model, tokenizer, [TEXT], ignore_labels=()) == [one]
    assert len(tag(model, tokenizer, (TEXT, "a cat"))) == 2
    keys = [list(tag(model, tokenizer, TEXT, way, ())[0]) for way in STRATEGIES]
    assert keys[0] == ["entity", "score", "index", "word", "start", "end"]
    assert keys[1:] == [["entity_group", "score", "word", "start", "end"]] * 4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_labels_that_are_left_out(model, tokenizer, strategy):
    key = "entity" if strategy == "none" else "entity_group"
    everything = tag(model, tokenizer, TEXT, strategy, ignore_labels=())
    labels = {entity[key] for entity in everything}
    for label in labels:
        left = tag(model, tokenizer, TEXT, strategy, ignore_labels=[label])
        assert left == [entity for entity in everything if entity[key] != label]


@given(texts=st.lists(st.lists(st.sampled_from(WORDS), min_size=1).map(" ".join), min_size=1))
def test_a_text_does_not_depend_on_its_batch(model, tokenizer, texts):
    together = tag(model, tokenizer, texts, ignore_labels=())
    for text, entities in zip(texts, together, strict=True):
        for entity, alone in zip(
            entities, tag(model, tokenizer, text, ignore_labels=()), strict=True
        ):
            assert entity == alone | {"score": pytest.approx(alone["score"], rel=1e-10)}


def test_words_given_apart(model, tokenizer):
    words = ["Paris", "is", "red", "."]
    entities = tag(model, tokenizer, words, "first", ignore_labels=(), is_split_into_words=True)
    assert tag(model, tokenizer, [words], "first", ignore_labels=(), is_split_into_words=True) == [
        entities
    ]
    text = " ".join(words)
    covered = "".join(text[entity["start"] : entity["end"]] for entity in entities)
    assert covered.replace(" ", "") == "".join(words)


def test_a_long_text_by_stride(model, tokenizer):
    text = " ".join(WORDS * 12)
    entities = tag(model, tokenizer, text, "first", ignore_labels=(), stride=20)
    assert entities[0]["start"] == 0
    assert entities[-1]["end"] == len(text)
    assert all(one["end"] <= following["start"] for one, following in pairwise(entities))
    assert len(tokenizer.tokenize(text)) > MAX_LENGTH


@pytest.mark.parametrize(
    ("texts", "settings", "error", "message"),
    [
        ("", {}, ValueError, r"texts\[0\] is empty: ''"),
        ([TEXT, " "], {}, ValueError, r"texts\[1\] is empty"),
        ([], {}, ValueError, "texts is empty"),
        (5, {}, TypeError, "texts is of type int"),
        ([TEXT, 5], {}, TypeError, r"texts\[1\] is of type int"),
        (TEXT, {"aggregation_strategy": "last"}, ValueError, "aggregation_strategy is 'last'; exp"),
        ([TEXT, LONG], {}, ValueError, r"texts\[1\] has \d+ tokens; max_position_embeddings is"),
        (LONG, {"stride": 5}, ValueError, "stride needs an aggregation_strategy"),
        (LONG, {"aggregation_strategy": "max", "stride": -1}, ValueError, "stride is -1"),
        (LONG, {"aggregation_strategy": "max", "stride": 126}, ValueError, "stride is 126; exp"),
        (LONG, {"aggregation_strategy": "max", "stride": 1.0}, TypeError, "stride is 1.0"),
        ([], {"is_split_into_words": True}, ValueError, "empty"),
        ([["a"], []], {"is_split_into_words": True}, ValueError, r"texts\[1\] is empty"),
        (["a", " "], {"is_split_into_words": True}, ValueError, r"texts\[0\]\[1\] is empty"),
        (TEXT, {"is_split_into_words": True}, TypeError, r"texts\[0\] is of type str"),
        (5, {"is_split_into_words": True}, TypeError, "texts is of type int"),
    ],
)
def test_wrong_arguments(model, tokenizer, texts, settings, error, message):
    with pytest.raises(error, match=message):
        tag(model, tokenizer, texts, **settings)


def test_a_model_without_the_head(tmp_path, tokenizer):
    model = AlbertForPreTraining.from_pretrained(save_small_model(tmp_path))
    with pytest.raises(TypeError, match="PreTraining; expected AlbertForTokenClassification"):
        tag(model, tokenizer, TEXT)


def test_a_tokenizer_without_places(model, directory):
    tokenizer = AlbertTokenizer.from_pretrained(directory)
    with pytest.raises(TypeError, match="AlbertTokenizer; expected AlbertTokenizerFast"):
        tag(model, tokenizer, TEXT)


def test_a_label_missing_from_id2label(directory, tokenizer):
    model = AlbertForTokenClassification.from_pretrained(directory)
    model.config.id2label = {index: label for index, label in enumerate(TAGS, start=1)}
    with pytest.raises(ValueError, match="config.id2label lacks 0"):
        tag(model, tokenizer, TEXT)


def test_everything_is_checked_before_the_model_runs(model, tokenizer):
    with pytest.raises(ValueError, match=rf"texts\[{2 * BATCH_SIZE}\] has"):
        predict_tags(model, tokenizer, [TEXT] * 2 * BATCH_SIZE + [LONG])
