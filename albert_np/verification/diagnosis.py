"""What the mistake is: the known ones are tried in turn on the reference, singly, then in pairs.

A mistake explains a candidate if the reference with that mistake in it meets every tensor of the
candidate to noise, the noise being that of the reference with the mistake. To try all of them so
would take long, so

- a mistake is tried only if it changes one of the operations that lie before the first tensor that
  is wrong by itself, or the layer schedule, or how gradients are summed;
- a trial ends at the first tensor that it does not meet, and that is how far it came;
- what came furthest is then compared in full, with the noise of the reference with that mistake;
- where no single mistake explains the candidate, those that came furthest are tried with each of
  those that change an operation which is wrong by itself.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from albert_np.verification.compare import errors_and_floors
from albert_np.verification.mistakes import MISTAKES, Mistake
from albert_np.verification.noise import DRAWS, LIMIT, Floor, errors_between
from albert_np.verification.precision import PRECISIONS, get_precision
from albert_np.verification.reference import tensor_name, tensors_of
from albert_np.verification.rewriting import differentiate, rewritten_trace

FLOAT64 = PRECISIONS["float64"]
FINALISTS = 6  # of those that came furthest, how many are tried in full, or in pairs

# Two explanations whose errors, as multiples of the noise, are within this factor on average are
# alike: a root mean square over `DRAWS` draws is itself uncertain by about that.
ALIKE = 1 + 1 / DRAWS**0.5


# Its masks are random, so that no reference can make it; but it leaves a trace: see `_dropout`.
DROPOUT = Mistake("dropout_left_on", "Dropout is on, though nothing asked for it.")


class Explanation(NamedTuple):
    """Mistakes under which the reference meets the candidate.

    Attributes
    ----------
    mistakes : tuple of Mistake
    compared : int
        The tensors that were compared.
    worst : str
        The one with the largest error, as a multiple of its noise.
    multiple : float
        That multiple.
    average : float
        The root mean square of all of them.
    """

    mistakes: tuple
    compared: int
    worst: str
    multiple: float
    average: float

    @property
    def name(self):
        """The names of the mistakes."""
        return " and ".join(mistake.name for mistake in self.mistakes)


@dataclass
class Diagnosis:
    """What came of looking for known mistakes.

    Attributes
    ----------
    explanation : Explanation or None
        None where nothing is wrong, or no known mistake, nor two of them, explain it.
    same : list of Explanation
        Others that compute the same on this case, to float64's rounding: nothing that a candidate
        does with these inputs can tell them apart.
    alike : list of Explanation
        Others that the candidate meets too; their difference drowns in its precision's noise.
    tried : int
        How many mistakes, and pairs of them, were tried.
    before : (str, float)
        The tensor with the largest error without any mistake, and its multiple.
    """

    explanation: object = None
    same: list = field(default_factory=list)
    alike: list = field(default_factory=list)
    tried: int = 0
    before: tuple = ("", 0.0)

    @property
    def mistakes(self):
        """The mistakes that were found; none where there is no explanation."""
        return () if self.explanation is None else self.explanation.mistakes

    def lines(self):
        """The diagnosis in words: a list of lines; none where nothing is wrong."""
        if self.explanation is None:
            if not self.tried:
                return []
            return [
                f"No known mistake explains this, nor two of them together ({self.tried} tried)."
            ]
        lines = [f"{mistake.sentence} [{mistake.name}]" for mistake in self.mistakes]
        found, (worst, multiple) = self.explanation, self.before
        if found.mistakes == (DROPOUT,):
            return [
                *lines,
                f"In {found.compared} sums of a residual and attention's output, each number lacks "
                f"the latter, or has it enlarged by one factor, to {found.multiple:.3g} times the "
                "rounding. As the masks are random, no other mistake was tried.",
            ]
        lines.append(
            f"With that in the reference, all {found.compared} tensors meet it: the largest error "
            f"is {found.multiple:.3g} times the noise ({found.worst}); without it, "
            f"{multiple:.3g} times ({worst}). {self.tried} mistakes and pairs were tried."
        )
        for what, others in (
            ("Computes the same on these inputs", self.same),
            ("Cannot be told from it in this precision", self.alike),
        ):
            if others:
                lines.append(f"{what}: {', '.join(other.name for other in others)}.")
        return lines


class Trial(NamedTuple):
    """How far the reference with some mistakes in it meets a candidate.

    Attributes
    ----------
    mistakes : tuple of Mistake
    met : int
        How many tensors before the first that is not met; all of them, where all are.
    """

    mistakes: tuple
    met: int


class Bench:
    """A candidate, and what is needed to try mistakes on it.

    Parameters
    ----------
    comparison : Comparison
        Of the candidate with the reference.
    candidate : dict of str to array
    """

    def __init__(self, comparison, candidate):
        self.case = comparison.case
        self.precision = get_precision(comparison.precision)
        self.floors = {row.name: row.floor for row in comparison.rows}
        self.candidate = {
            name: np.asarray(array, np.float64)
            for name, array in candidate.items()
            if name.startswith(("forward/", "outputs/", "backward/", "gradients/"))
            and np.asarray(array).dtype.kind not in "iub"
        }

    def try_out(self, mistakes):
        """Try mistakes, up to the first tensor that is not met.

        Parameters
        ----------
        mistakes : tuple of Mistake

        Returns
        -------
        Trial
        """
        met, draw = set(), {}
        draws = self._by_pass(mistakes, self.precision.name, np.random.default_rng(0))
        for exact in self._by_pass(mistakes):
            for name, array in exact.items():
                if name not in self.candidate or name in met:
                    continue
                if not self._meets(name, array):
                    while name not in draw:
                        draw = next(draws)
                    if not self._meets(name, array, draw[name]):
                        return Trial(mistakes, len(met))
                met.add(name)
        return Trial(mistakes, len(met))

    def explain(self, mistakes):
        """Compare every tensor with the reference with mistakes in it, and with its own noise.

        Parameters
        ----------
        mistakes : tuple of Mistake

        Returns
        -------
        Explanation or None
            None where a tensor is not met.
        """
        exact = self.tensors(mistakes)
        if not self.floors.keys() <= exact.keys():
            return None
        given = {name: self.candidate[name] for name in exact if name in self.candidate}
        if any(array.shape != exact[name].shape for name, array in given.items()):
            return None
        judged = errors_and_floors(
            lambda generator: self.tensors(mistakes, self.precision.name, generator),
            exact,
            given,
            self.precision,
            lambda items, description: items,
        )
        multiples = {name: floor.multiple(errors) for name, (errors, floor) in judged.items()}
        worst = max(multiples, key=multiples.get)
        if not multiples[worst] <= LIMIT:
            return None
        average = float(np.sqrt(np.mean(np.square(list(multiples.values())))))
        return Explanation(mistakes, len(given), worst, multiples[worst], average)

    def tensors(self, mistakes, precision="float64", generator=None):
        """All tensors of the reference with mistakes in it."""
        *_, tensors = self._by_pass(mistakes, precision, generator)
        return tensors

    def same(self, first, second):
        """Whether mistakes and others compute the same, to float64's rounding."""
        ours, others = self.tensors(first), self.tensors(second)
        share = FLOAT64.unit_roundoff / self.precision.unit_roundoff
        for name, floor in self.floors.items():
            errors = errors_between(others[name], ours[name])
            floor = Floor(floor.rms * share, floor.largest * share)
            if not floor.at_least(FLOAT64.unit_roundoff, errors).multiple(errors) <= LIMIT:
                return False
        return True

    def _by_pass(self, mistakes, precision="float64", generator=None):
        """The tensors of the forward pass; then, where there is a backward pass, all of them."""
        with np.errstate(all="ignore"):  # a mistake may well overflow
            trace = rewritten_trace(self.case, mistakes, precision, generator)
            yield tensors_of(self.case, trace)
            if self.case.gradients is not False:
                differentiate(self.case, trace)
                yield tensors_of(self.case, trace)

    def _meets(self, name, exact, draw=None):
        """Whether a tensor is met, by the reference's noise, or what a draw of it shows."""
        given = self.candidate[name]
        if given.shape != exact.shape:
            return False
        if name not in self.floors:  # of a repetition that the reference does not have
            return True
        errors = errors_between(given, exact)
        floor = self.floors[name]
        if draw is not None:
            noise = errors_between(np.asarray(draw, np.float64), exact)
            floor = Floor(max(floor.rms, noise.rms), max(floor.largest, noise.largest))
        return floor.at_least(self.precision.unit_roundoff, errors).multiple(errors) <= LIMIT


def diagnose(comparison, candidate, *, mistakes=MISTAKES, track=None):
    """Find the known mistake, or two of them, that explain how a candidate differs.

    Parameters
    ----------
    comparison : Comparison
        Of the candidate with the reference.
    candidate : dict of str to array
        What was compared.
    mistakes : sequence of Mistake, optional
    track : callable, optional
        As for `compare`.

    Returns
    -------
    Diagnosis
    """
    if not comparison.differs:
        return Diagnosis()
    track = track or (lambda items, description: items)
    bench = Bench(comparison, candidate)
    worst = comparison.worst
    diagnosis = Diagnosis(before=(worst.name, worst.multiple))
    diagnosis.explanation = _dropout(bench)
    if diagnosis.explanation is not None:
        diagnosis.tried = 1
        return diagnosis
    suspects = _suspects(mistakes, comparison.wrong[:1] or comparison.rows)
    start = bench.try_out(()).met
    singles = [bench.try_out((one,)) for one in track(suspects, "known mistakes")]
    diagnosis.tried = len(singles)
    further = _furthest(one for one in singles if one.met > start)
    if _conclude(diagnosis, bench, further):
        return diagnosis
    seconds = _suspects(mistakes, comparison.wrong or comparison.rows)
    firsts = [trial.mistakes[0] for trial in further]
    pairs = _pairs(firsts, seconds) or _pairs(suspects, suspects)
    trials = [bench.try_out(pair) for pair in track(pairs, "pairs of known mistakes")]
    diagnosis.tried += len(trials)
    _conclude(diagnosis, bench, _furthest(trials))
    return diagnosis


def _dropout(bench):
    """Whether dropout is on: an explanation, or None.

    Each number of residual + dropout(x) is then the residual, or the residual + c x, c > 1.
    """
    trace = rewritten_trace(bench.case, ())
    names = {
        id(array): f"forward/{tensor_name(operation, output)}"
        for operation in trace
        for output, array in operation.outputs.items()
    }
    compared, worst, largest = 0, "", 0.0
    for operation in trace:
        name = f"forward/{operation.name}"
        needed = [names.get(id(operation.inputs.get(x))) for x in ("a", "b")]
        if not name.endswith("attention.output.add") or not bench.candidate.keys() >= {
            name,
            *needed,
        }:
            continue
        residual, x = (bench.candidate[one] for one in needed)
        multiple = _kept_or_dropped(bench.candidate[name], residual, x, bench.precision)
        if not multiple <= LIMIT:
            return None
        compared += 1
        worst, largest = (name, multiple) if multiple > largest else (worst, largest)
    return Explanation((DROPOUT,), compared, worst, largest, largest) if compared else None


def _kept_or_dropped(y, residual, x, precision):
    """How far y − residual is from 0 or c x, c > 1, in roundings; infinite if it is only one."""
    with np.errstate(all="ignore"):
        ratio = (y - residual) / x
        rounding = precision.unit_roundoff * (np.abs(y) + np.abs(residual)) / np.abs(x)
    kept = ratio > 1 / 2
    if kept.all() or not kept.any():
        return np.inf
    best = np.where(kept, rounding, np.inf).argmin()
    factor, of_factor = ratio.flat[best], rounding.flat[best]
    if not factor - 1 > LIMIT * of_factor:
        return np.inf
    error = np.abs(np.where(kept, ratio - factor, ratio))
    return float((error / (rounding + of_factor + precision.unit_roundoff)).max())


def _suspects(mistakes, rows):
    """The mistakes that change an operation before one of several tensors, or no operation."""
    operations = {name for row in rows if row.alone is not None for name in row.alone.operations}
    return [
        mistake for mistake in mistakes if not mistake.at or any(map(mistake.touches, operations))
    ]


def _furthest(trials):
    """The trials that came furthest: all that came as far as the first, and a few more."""
    trials = sorted(trials, key=lambda one: -one.met)
    level = sum(one.met == trials[0].met for one in trials)
    return trials[: max(level, FINALISTS)]


def _pairs(firsts, seconds):
    """Each of the first with each of the second, once."""
    pairs = {frozenset((a.name, b.name)): (a, b) for a in firsts for b in seconds if a is not b}
    return list(pairs.values())


def _conclude(diagnosis, bench, trials):
    """Put those trials that explain the candidate into a diagnosis; return whether any does."""
    explained = [found for trial in trials if (found := bench.explain(trial.mistakes))]
    if not explained:
        return False
    best = min(explained, key=lambda one: one.average)
    near = [one for one in explained if one.average <= ALIKE * best.average]
    diagnosis.explanation = found = min(near, key=lambda one: _place(one.mistakes))
    for other in explained:
        if other is not found:
            (
                diagnosis.same if bench.same(found.mistakes, other.mistakes) else diagnosis.alike
            ).append(other)
    return True


def _place(mistakes):
    """Where mistakes stand in the list: of those that compute the same, the first is named."""
    return [MISTAKES.index(mistake) for mistake in mistakes]
