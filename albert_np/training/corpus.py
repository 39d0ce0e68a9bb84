"""Sentences and documents from the closed world, and which of them training may not see."""

import re
from bisect import bisect_right
from collections import defaultdict
from itertools import count
from typing import NamedTuple

from albert_np.training.world import ENTITY_TOPICS, LESSON_TOPICS, RELATIONS, SERIES_TOPICS

HELD_OUT_PERIOD = 5  # one pairing in five is held out
LESSON_SHARE = 0.3  # of the documents


class Pairing(NamedTuple):
    """A fact and a form: one sentence."""

    relation: str
    fact: tuple
    form: str

    @property
    def fillers(self):
        """The fact's words by slot."""
        return dict(zip(RELATIONS[self.relation].slots, self.fact, strict=True))

    @property
    def sentence(self):
        """The sentence, with a capital and a full stop."""
        return self.with_slot_as(None, None)

    def with_slot_as(self, slot, words):
        """The sentence with other words in one slot; articles stay those of the true filler."""
        fillers = self.fillers
        form = re.sub(
            r"\b([Aa]) {(\w+)}",
            lambda found: f"{_article(found[1], fillers[found[2]])} {{{found[2]}}}",
            self.form,
        )
        text = form.format(**{**fillers, slot: words} if slot else fillers)
        return text[0].upper() + text[1:]


def _article(article, word):
    """ "a" or "an", by the word's first letter (the world has no hour and no unit)."""
    return f"{article}n" if word[0].lower() in "aeiou" else article


def pairings(held_out):
    """Every pairing of a fact and a form, held out or not.

    Fact i and form j are held out if (i + ⌊i / 5⌋ + j) mod 5 = 0: each fact loses one or two of
    its eight forms, each form loses a fifth of its facts. The floor moves the pattern on after
    every five facts, so that facts listed in groups of five do not all lose the same form.

    Parameters
    ----------
    held_out : bool

    Returns
    -------
    list of Pairing
    """
    return [
        Pairing(name, fact, form)
        for name, relation in RELATIONS.items()
        for i, fact in enumerate(relation.facts)
        for j, form in enumerate(relation.forms)
        if ((i + i // HELD_OUT_PERIOD + j) % HELD_OUT_PERIOD == 0) == held_out
    ]


def unique_blanks(chosen):
    """The blanks that have one answer only.

    A blank is a pairing with one slot left open. It has one answer if, among all true sentences of
    the world, the rest of the sentence occurs with one filler only.

    Parameters
    ----------
    chosen : iterable of Pairing

    Yields
    ------
    pairing : Pairing
    slot : str
    """
    answers = defaultdict(set)
    for pairing in pairings(held_out=False) + pairings(held_out=True):
        for slot, filler in pairing.fillers.items():
            answers[pairing.with_slot_as(slot, "_")].add(filler)
    for pairing in chosen:
        for slot in pairing.fillers:
            if len(answers[pairing.with_slot_as(slot, "_")]) == 1:
                yield pairing, slot


def sentences(chosen, rng, growth):
    """Endless single sentences, about ever more facts.

    A model that meets all facts at once learns what such sentences look like, and then learns
    nothing for long: no fact comes often enough to teach it that facts can be looked up. The
    length of that plateau grows with the number of facts, so one starts with few of them (Zucchet
    et al. 2025, "How do language models learn facts?"). Here the first two facts of each relation
    come first, and after n sentences the share (n / growth)² of them, up to all.

    Parameters
    ----------
    chosen : iterable of Pairing
    rng : numpy.random.Generator
    growth : int
        Sentences until all facts are there.

    Yields
    ------
    str
        Uniform over the facts that are there, and over the sentences of the fact.
    """
    by_fact = _sentences_by_fact(chosen)
    ranked = sorted(
        (max(0, i - 1) / len(relation.facts), name, fact)
        for name, relation in RELATIONS.items()
        for i, fact in enumerate(relation.facts)
    )
    shares = [share for share, _, _ in ranked]
    for drawn in count():
        known = bisect_right(shares, (drawn / growth) ** 2)
        _, *fact = ranked[rng.integers(known)]
        yield _draw(by_fact[tuple(fact)], rng)


def documents(chosen, rng):
    """Endless documents of two to four sentences that have an order.

    An entity's document tells its relations in a fixed order (continent, capital, language), a
    lesson states one fact of each of its relations in a fixed order, and a series goes on by one
    (Tuesday, Wednesday). The facts and the forms are drawn at random.

    Parameters
    ----------
    chosen : iterable of Pairing
        The sentences that documents may hold.
    rng : numpy.random.Generator

    Yields
    ------
    list of str
    """
    by_fact = _sentences_by_fact(chosen)
    outlines = _entity_outlines() + _series_outlines()
    while True:
        if rng.random() < LESSON_SHARE:
            topic = _draw(LESSON_TOPICS, rng)
            outline = [(name, _draw(RELATIONS[name].facts, rng)) for name in topic]
        else:
            outline = _draw(outlines, rng)
        yield [_draw(by_fact[fact], rng) for fact in outline]


def _sentences_by_fact(chosen):
    """The chosen sentences of each (relation, fact)."""
    by_fact = defaultdict(list)
    for pairing in chosen:
        by_fact[pairing.relation, pairing.fact].append(pairing.sentence)
    return by_fact


def _draw(items, rng):
    return items[rng.integers(len(items))]


def _entity_outlines():
    """For each entity of which two relations or more tell something, its (relation, fact)s."""
    outlines = []
    for topic in ENTITY_TOPICS:
        known = defaultdict(list)
        for name in topic:
            for fact in RELATIONS[name].facts:
                known[fact[0]].append((name, fact))
        outlines += [outline for outline in known.values() if len(outline) > 1]
    return outlines


def _series_outlines():
    """Runs of two, three and four facts that follow each other, as (relation, fact)s."""
    outlines = []
    for name in SERIES_TOPICS:
        facts = [(name, fact) for fact in RELATIONS[name].facts]
        for length in (2, 3, 4):
            outlines += [facts[i : i + length] for i in range(len(facts) - length + 1)]
    return outlines
