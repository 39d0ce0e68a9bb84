"""The closed world: its size, its sentences, what is held out, which blanks have one answer."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from albert_np.training.corpus import Pairing, documents, pairings, sentences, unique_blanks
from albert_np.training.world import ENTITY_TOPICS, RELATIONS, SERIES_TOPICS

TRAINING, HELD_OUT = pairings(held_out=False), pairings(held_out=True)
CAPITAL = RELATIONS["capital"].forms[0]


def test_the_world_is_large_enough():
    assert len(RELATIONS) >= 10
    assert sum(len(relation.facts) for relation in RELATIONS.values()) >= 400
    assert CAPITAL == "The capital of {country} is {capital}."


@pytest.mark.parametrize("name", RELATIONS)
def test_a_relation_has_eight_forms_with_every_slot_and_no_fact_twice(name):
    relation = RELATIONS[name]
    assert len(set(relation.forms)) == 8
    for form in relation.forms:
        assert all(f"{{{slot}}}" in form for slot in relation.slots)
    assert len(set(relation.facts)) == len(relation.facts)
    assert all(len(fact) == len(relation.slots) and all(fact) for fact in relation.facts)


def test_no_sentence_comes_of_two_pairings():
    counts = Counter(pairing.sentence.lower() for pairing in TRAINING + HELD_OUT)
    assert counts.most_common(1)[0][1] == 1


def test_sentences_are_written_as_sentences():
    for pairing in TRAINING + HELD_OUT:
        text = pairing.sentence
        assert text[0].isupper() and text.endswith(".") and "  " not in text and "{" not in text
        words = text.lower().replace(".", "").replace(",", "").split()
        for article, word in zip(words, words[1:], strict=False):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), text


def test_an_article_stays_that_of_the_true_word_where_the_word_is_masked():
    pairing = Pairing("class", ("owl", "bird"), "If you see a {animal}, you see a {class}.")
    assert pairing.sentence == "If you see an owl, you see a bird."
    assert pairing.with_slot_as("animal", "[MASK]") == "If you see an [MASK], you see a bird."


def test_training_and_held_out_are_a_partition_and_a_fifth_is_held_out():
    every = {
        (name, fact, form)
        for name, relation in RELATIONS.items()
        for fact in relation.facts
        for form in relation.forms
    }
    assert set(TRAINING).isdisjoint(HELD_OUT)
    assert {tuple(pairing) for pairing in TRAINING + HELD_OUT} == every
    assert abs(len(HELD_OUT) / len(every) - 1 / 5) < 0.01


def test_a_fact_loses_one_or_two_forms_and_a_form_a_fifth_of_its_facts():
    by_fact = Counter((pairing.relation, pairing.fact) for pairing in HELD_OUT)
    facts = [(name, fact) for name, relation in RELATIONS.items() for fact in relation.facts]
    assert all(by_fact[fact] in (1, 2) for fact in facts)
    by_form = Counter((pairing.relation, pairing.form) for pairing in HELD_OUT)
    for name, relation in RELATIONS.items():
        for form in relation.forms:
            # Runs of five facts lose one each; the rows of what is left over may lose one more.
            assert abs(by_form[name, form] - len(relation.facts) / 5) <= 2


def test_blanks_of_both_sides_of_a_capital_have_one_answer():
    pairing = Pairing("capital", ("France", "Paris"), CAPITAL)
    assert [slot for _, slot in unique_blanks([pairing])] == ["country", "capital"]


def test_a_blank_that_several_facts_fill_is_left_out():
    form = "A {young} grows up to be a {animal}."
    cub = Pairing("young", ("lion", "cub"), form)
    kitten = Pairing("young", ("cat", "kitten"), form)
    assert [slot for _, slot in unique_blanks([cub])] == ["young"]
    assert [slot for _, slot in unique_blanks([kitten])] == ["animal", "young"]


def test_unique_blanks_agree_with_a_search_through_all_sentences():
    scored = set(unique_blanks(HELD_OUT))
    texts = [pairing.sentence for pairing in TRAINING + HELD_OUT]
    for pairing in HELD_OUT[::40]:
        for slot in RELATIONS[pairing.relation].slots:
            before, after = pairing.with_slot_as(slot, "\0").split("\0")
            fits = [text for text in texts if text.startswith(before) and text.endswith(after)]
            # The sentences around it that differ in this slot alone, whatever stands there.
            others = {text for text in fits if _same_form(text, pairing, slot)}
            assert ((pairing, slot) in scored) == (others == {pairing.sentence})


def _same_form(text, pairing, slot):
    """Whether `text` is the pairing's sentence with another filler of the world in `slot`."""
    position = RELATIONS[pairing.relation].slots.index(slot)
    fillers = {
        fact[position] for relation in RELATIONS.values() if len(relation.slots) > position
        for fact in relation.facts
    }  # fmt: skip
    return text in {pairing.with_slot_as(slot, filler) for filler in fillers}


def test_sentences_begin_with_few_facts_and_end_with_all():
    growth = 4000
    drawn = list(islice(sentences(TRAINING, np.random.default_rng(0), growth), 20_000))
    fact_of = {pairing.sentence: (pairing.relation, pairing.fact) for pairing in TRAINING}
    early = {fact_of[text] for text in drawn[: growth // 10]}
    for name, fact in early:  # (1/10)² of a relation's facts, and the first two
        assert RELATIONS[name].facts.index(fact) <= 1 + len(RELATIONS[name].facts) / 100
    assert len({fact_of[text] for text in drawn}) == len({*fact_of.values()})


@pytest.mark.parametrize("draw", [lambda rng: sentences(TRAINING, rng, 100),
                                  lambda rng: documents(TRAINING, rng)])  # fmt: skip
def test_the_same_seed_draws_the_same(draw):
    first, again, other = (
        list(islice(draw(np.random.default_rng(seed)), 50)) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_documents_hold_training_sentences_only_and_two_to_four_of_them():
    known = {pairing.sentence for pairing in TRAINING}
    for document in islice(documents(TRAINING, np.random.default_rng(0)), 500):
        assert 2 <= len(document) <= 4
        assert known.issuperset(document)


def test_documents_keep_their_order():
    relation_of = {pairing.sentence: pairing for pairing in TRAINING}
    series = entities = 0
    for document in islice(documents(TRAINING, np.random.default_rng(1)), 500):
        told = [relation_of[sentence] for sentence in document]
        names = [pairing.relation for pairing in told]
        for topic in ENTITY_TOPICS:
            if set(names) <= set(topic):
                entities += 1
                assert names == [name for name in topic if name in names]
                assert len({pairing.fact[0] for pairing in told}) == 1
        if names[0] in SERIES_TOPICS:
            series += 1
            places = [RELATIONS[names[0]].facts.index(pairing.fact) for pairing in told]
            assert set(names) == {names[0]}
            assert places == list(range(places[0], places[0] + len(places)))
    assert series and entities
