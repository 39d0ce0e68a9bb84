"""What the mistake is: the known ones are tried in turn on the reference, singly, then in pairs.

A mistake explains a candidate if the reference with that mistake in it meets every tensor of the
candidate to noise, the noise being that of the reference with the mistake. To try all of them so
would take long, so

- a mistake is tried only if it changes one of the operations that lie before the first tensor that
  is wrong by itself, or the layer schedule, or how gradients are summed;
- what a mistake leaves as it is, is not computed again (`rewriting.py`);
- a trial ends at the first tensor that it does not meet, and that is how far it came: most end in
  float32, far from the candidate, and only the others are run in float64, and then with noise;
- what came furthest, and is not `FAR` from what it does not meet, is compared in full, with the
  noise of the reference with that mistake;
- where no single mistake explains the candidate, those that came furthest are tried with each of
  those that change an operation which is wrong by itself; `MOST_PAIRS` at most.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from albert_np.verification.compare import GIVEN, errors_and_floors, is_floating, readable
from albert_np.verification.mistakes import MISTAKES, Mistake
from albert_np.verification.noise import DRAWS, LIMIT, Floor, errors_between, root_mean_square
from albert_np.verification.precision import PRECISIONS, get_precision
from albert_np.verification.reference import tensor_name, tensors_of
from albert_np.verification.rewriting import differentiate, rewritten_trace

FLOAT64 = PRECISIONS["float64"]
FINALISTS = 6  # of those that came furthest, how many are tried in full, or in pairs
MOST_PAIRS = 1000
MOST_NAMES = 5

# A mistake may make rounding errors larger than they are in the reference: few do so by more than
# `LIMIT`. So what is this far from the candidate, in the reference's noise, is not its mistake.
FAR = LIMIT**2

# Two explanations whose errors, as multiples of the noise, are within this factor on average are
# alike: a root mean square over `DRAWS` draws is itself uncertain by about that.
ALIKE = 1 + 1 / DRAWS**0.5


# Its masks are random, so that no reference can make it; but it leaves a trace: see `_dropout`.
DROPOUT = Mistake("dropout_left_on", "Dropout is on, though nothing asked for it.")
# Its weight may be any, so that no reference can make it either: see `_other_decoder`.
OTHER_DECODER = Mistake(
    "decoder_of_another_weight",
    "The decoder is not tied to the word embedding: it has other values.",
)
# The factor may be any: see `_scaled`.
SCALED = "scaled_by_one_factor"
DECODED = ("forward/predictions.decoder", "outputs/logits", "outputs/prediction_logits")


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
    not_finite : list of str
        Tensors with NaN or infinity. Where there are any, no mistake is tried.
    given_others : list of str
        Parameters and inputs that are not the reference's, where every operation is right for the
        candidate's own.
    """

    explanation: object = None
    same: list = field(default_factory=list)
    alike: list = field(default_factory=list)
    tried: int = 0
    before: tuple = ("", 0.0)
    not_finite: list = field(default_factory=list)
    given_others: list = field(default_factory=list)

    @property
    def mistakes(self):
        """The mistakes that were found; none where there is no explanation."""
        return () if self.explanation is None else self.explanation.mistakes

    def lines(self):
        """The diagnosis in words: a list of lines; none where nothing is wrong."""
        if self.explanation is None:
            return self._lines_without_explanation()
        lines = [f"{mistake.sentence} [{mistake.name}]" for mistake in self.mistakes]
        found, (worst, multiple) = self.explanation, self.before
        if found.mistakes == (DROPOUT,):
            return [
                *lines,
                f"In {found.compared} sums of a residual and attention's output, each number lacks "
                f"the latter, or has it enlarged by one factor, to {found.multiple:.3g} times the "
                "rounding. As the masks are random, no other mistake was tried.",
            ]
        if found.name == SCALED:
            return [
                *lines,
                f"So scaled, the reference meets each to {found.multiple:.3g} times the noise or "
                f"less. No known mistake scales it so; {self.tried}, and pairs, were tried.",
            ]
        if found.mistakes == (OTHER_DECODER,):
            return [
                *lines,
                f"For {found.compared} tokens, {found.worst} is a linear map of what it should be "
                f"one of, to {found.multiple:.3g} times the noise. What follows it was not judged.",
            ]
        lines.append(
            f"With that in the reference, every tensor meets it, {found.compared} in all: the "
            f"largest error is {found.multiple:.3g} times the noise ({found.worst}); without it, "
            f"{multiple:.3g} times ({worst}). {self.tried} mistakes and pairs were tried."
        )
        for what, others in (
            ("Computes the same on these inputs", self.same),
            ("Cannot be told from it in this precision", self.alike),
        ):
            if others:
                lines.append(f"{what}: {', '.join(other.name for other in others)}.")
        return lines

    def _lines_without_explanation(self):
        lines = []
        if self.not_finite:
            lines.append(f"No known mistake was tried: not finite are {_some(self.not_finite)}.")
        if self.given_others:
            lines.append(
                "Every operation is right by itself for what the candidate is given; that is not "
                f"what the reference is given: {_some(self.given_others)}."
            )
        if self.tried:
            lines.append(f"No known mistake explains this; {self.tried}, and pairs, were tried.")
        return lines


class Trial(NamedTuple):
    """How far the reference with some mistakes in it meets a candidate.

    Attributes
    ----------
    mistakes : tuple of Mistake
    met : int
        How many tensors before the first that is not met; all of them, where all are.
    distance : float
        How far the first that is not met is, as a multiple of the noise; where all are met, the
        root mean square of all of them.
    """

    mistakes: tuple
    met: int
    distance: float


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
        # What has no floor is of a repetition that the reference does not have, or of another
        # shape or type than there, and is then missing.
        self.candidate = {
            name: readable(array)
            for name, array in ((name, np.asarray(array)) for name, array in candidate.items())
            if name.startswith(("forward/", "outputs/", "backward/", "gradients/"))
            and name not in comparison.missing
            and is_floating(array.dtype)
        }
        self._right = {}

    def right(self, precision):
        """The run without mistakes, forward, in a precision: kept, as what others are like."""
        if precision not in self._right:
            with np.errstate(all="ignore"):
                self._right[precision] = rewritten_trace(self.case, (), precision)
        return self._right[precision]

    def forget(self):
        """Let go of what is kept, where memory is needed for something else."""
        self._right.clear()

    def try_out(self, mistakes):
        """Try mistakes, up to the first tensor that is not met.

        Parameters
        ----------
        mistakes : tuple of Mistake

        Returns
        -------
        Trial
        """
        return self._far_off(mistakes) or self._tried(mistakes)

    def _far_off(self, mistakes):
        """The trial, where it ends far from a tensor of the forward pass; else None.

        It is run in float32, in which the candidate's noise shows well enough, and takes half as
        long; in float64 for a candidate in float64.
        """
        met = 0
        self.right(self.precision.computed_in)
        for name, array in next(self._by_pass(mistakes, self.precision.computed_in)).items():
            if name in self.candidate:
                multiple = self._multiple(name, array)
                if not multiple <= LIMIT:
                    return Trial(mistakes, met, multiple) if multiple > FAR else None
                met += 1
        return None

    def _tried(self, mistakes):
        """The trial, run in float64, and with noise where that of the reference is too little."""
        met, draw = {}, {}
        self.right("float64")
        draws = self._by_pass(mistakes, self.precision.name, np.random.default_rng(0))
        for exact in self._by_pass(mistakes):
            for name, array in exact.items():
                if name not in self.candidate or name in met:
                    continue
                met[name] = self._multiple(name, array)
                if not met[name] <= LIMIT:
                    while name not in draw:
                        draw = next(draws)
                    met[name] = self._multiple(name, array, draw[name])
                    if not met[name] <= LIMIT:
                        return Trial(mistakes, len(met) - 1, met[name])
        return Trial(mistakes, len(met), root_mean_square(np.array([*met.values()])))

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
            floor = floor.times(share)
            if not floor.at_least(FLOAT64.unit_roundoff, errors).multiple(errors) <= LIMIT:
                return False
        return True

    def _by_pass(self, mistakes, precision="float64", generator=None):
        """The tensors of the forward pass; then, if the candidate has gradients, all of them."""
        like = self._right.get(precision) if generator is None else None
        # A mistake may well overflow. What stays within `errstate` at a yield is the caller's, too.
        with np.errstate(all="ignore"):
            trace = rewritten_trace(self.case, mistakes, precision, generator, like)
        yield tensors_of(self.case, trace)
        if any(name.startswith(("backward/", "gradients/")) for name in self.candidate):
            with np.errstate(all="ignore"):
                differentiate(self.case, trace)
            yield tensors_of(self.case, trace)

    def _multiple(self, name, exact, draw=None):
        """How far a tensor is, in multiples of the reference's noise, or what a draw shows."""
        given = self.candidate[name]
        if given.shape != exact.shape:
            return np.inf
        if name not in self.floors:  # of a repetition that the reference does not have
            return 0.0
        errors = errors_between(given, exact)
        floor = self.floors[name]
        if draw is not None:
            noise = errors_between(np.asarray(draw, np.float64), exact)
            floor = Floor(max(floor.rms, noise.rms), max(floor.largest, noise.largest))
        return floor.at_least(self.precision.unit_roundoff, errors).multiple(errors)


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
    worst = comparison.worst
    diagnosis = Diagnosis(before=(worst.name, worst.multiple))
    diagnosis.not_finite = [
        row.name for row in comparison.rows if not np.isfinite(row.errors.largest)
    ]
    if not comparison.wrong:
        diagnosis.given_others = [
            row.name for row in comparison.rows if row.differs and row.name.startswith(GIVEN)
        ]
    bench = Bench(comparison, candidate)
    if diagnosis.not_finite or not bench.candidate:
        return diagnosis
    diagnosis.explanation = _dropout(bench)
    if diagnosis.explanation is not None:
        diagnosis.tried = 1
        return diagnosis
    suspects = _suspects(mistakes, comparison.wrong[:1] or comparison.rows)
    start = bench.try_out(())
    singles = [bench.try_out((one,)) for one in track(suspects, "known mistakes")]
    diagnosis.tried = len(singles)
    further = _furthest(one for one in singles if _by_nearness(one) < _by_nearness(start))
    if _conclude(diagnosis, bench, further, mistakes) or not comparison.wrong:
        return diagnosis
    seconds = _suspects(mistakes, comparison.wrong)
    firsts = [trial.mistakes[0] for trial in further if trial.met > start.met]
    nearest = [trial.mistakes[0] for trial in sorted(singles, key=_by_nearness)]
    pairs = (_pairs(firsts, seconds) or _pairs(nearest, nearest))[:MOST_PAIRS]
    trials = [bench.try_out(pair) for pair in track(pairs, "pairs of known mistakes")]
    diagnosis.tried += len(trials)
    if not _conclude(diagnosis, bench, _furthest(trials), mistakes):
        diagnosis.explanation = _scaled(bench, comparison) or _other_decoder(bench, comparison)
    return diagnosis


def _dropout(bench):
    """Whether dropout is on: an explanation, or None.

    Each number of residual + dropout(x) is then the residual, or the residual + c x, c > 1.
    """
    trace = bench.right("float64")
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
        y, residual, x = (bench.candidate[one].astype(np.float64) for one in (name, *needed))
        multiple = _kept_or_dropped(y, residual, x, bench.precision)
        if not multiple <= LIMIT:
            return None
        compared += 1
        worst, largest = (name, multiple) if multiple > largest else (worst, largest)
    return Explanation((DROPOUT,), compared, worst, largest, largest) if compared else None


def _kept_or_dropped(y, residual, x, precision):
    """How far y − residual is from 0 or c x, c > 1, in roundings; infinite if it is only one.

    Numbers that rounding blurs too much to tell which, are left out.
    """
    with np.errstate(all="ignore"):
        ratio = (y - residual) / x
        rounding = precision.unit_roundoff * (np.abs(y) + np.abs(residual)) / np.abs(x)
    is_clear = rounding * LIMIT < 1 / 4
    ratio, rounding = ratio[is_clear], rounding[is_clear]
    kept = ratio > 1 / 2
    if kept.all() or not kept.any():
        return np.inf
    best = np.where(kept, rounding, np.inf).argmin()
    factor, of_factor = ratio[best], rounding[best]
    if not factor - 1 > LIMIT * of_factor:
        return np.inf
    error = np.abs(np.where(kept, ratio - factor, ratio))
    return float((error / (rounding + of_factor + precision.unit_roundoff)).max())


def _scaled(bench, comparison):
    """Whether tensors are scaled by one factor: an explanation, or None.

    The first that differs, of those of several numbers, says by which. That a map of it, such as
    the decoder, is then a linear one all the same would say less.
    """
    exact = bench.tensors(())
    rows = [row for row in comparison.rows if row.differs and row.name in bench.candidate]
    first = next((row for row in rows if exact[row.name].size > 1), None)
    if first is None or not root_mean_square(exact[first.name]) > 0:
        return None
    right = np.ravel(exact[first.name])
    factor = float(right @ np.ravel(bench.candidate[first.name]) / (right @ right))
    multiples = {}
    for row in rows:
        errors = errors_between(bench.candidate[row.name], factor * exact[row.name])
        multiples[row.name] = row.floor.times(max(1.0, abs(factor))).multiple(errors)
    if not multiples[first.name] <= LIMIT:
        return None
    met = {name: multiple for name, multiple in multiples.items() if multiple <= LIMIT}
    sentence = (
        f"What differs is {factor:.6g} times what it should be, in {len(met)} of {len(rows)} "
        f"tensors; {first.name} is the first."
    )
    worst = max(met, key=met.get)
    average = root_mean_square(np.array([*met.values()]))
    return Explanation((Mistake(SCALED, sentence),), len(met), worst, met[worst], average)


def _other_decoder(bench, comparison):
    """Whether the decoder has another weight: an explanation, or None.

    Its output is then a linear map of its input all the same, which least squares find. With no
    more tokens than inputs any output would be.
    """
    decoders = [one for one in bench.right("float64") if one.name == "predictions.decoder"]
    first = comparison.first
    if not decoders or first is None or first.name not in DECODED:
        return None
    (decoder,) = decoders
    y, x, bias = decoder.outputs["y"], decoder.inputs["x"], decoder.inputs["bias"]
    given = np.asarray(bench.candidate[first.name], np.float64)
    x = bench.candidate.get("forward/predictions.LayerNorm", x).reshape(-1, x.shape[-1])
    weight, _, rank, _ = np.linalg.lstsq(x, (given - bias).reshape(len(x), -1), rcond=None)
    if rank == len(x):
        return None
    errors = errors_between((x @ weight).reshape(given.shape) + bias, given)
    share = max(1.0, root_mean_square(given) / root_mean_square(y))  # of what the noise is of
    multiple = first.floor.times(share).multiple(errors)
    if not multiple <= LIMIT:
        return None
    return Explanation((OTHER_DECODER,), len(x), first.name, multiple, multiple)


def _suspects(mistakes, rows):
    """The mistakes that change an operation before one of several tensors, or no operation."""
    operations = {name for row in rows if row.alone is not None for name in row.alone.operations}
    return [
        mistake for mistake in mistakes if not mistake.at or any(map(mistake.touches, operations))
    ]


def _by_nearness(trial):
    """The order of trials: those that came furthest first, and of these the nearest."""
    return -trial.met, trial.distance


def _furthest(trials):
    """The trials that came furthest: all that came as far as the first, and a few more."""
    trials = sorted(trials, key=_by_nearness)
    level = sum(one.met == trials[0].met for one in trials)
    return trials[: max(level, FINALISTS)]


def _pairs(firsts, seconds):
    """Each of the first with each of the second, once."""
    pairs = {frozenset((a.name, b.name)): (a, b) for a in firsts for b in seconds if a is not b}
    return list(pairs.values())


def _conclude(diagnosis, bench, trials, known):
    """Put those trials that explain the candidate into a diagnosis; return whether any does."""
    bench.forget()
    near = [trial for trial in trials if trial.distance <= FAR]
    explained = [found for trial in near if (found := bench.explain(trial.mistakes))]
    if not explained:
        return False
    best = min(explained, key=lambda one: one.average)
    near = [one for one in explained if one.average <= ALIKE * best.average]
    diagnosis.explanation = found = min(near, key=lambda one: _place(one.mistakes, known))
    for other in explained:
        if other is not found:
            (
                diagnosis.same if bench.same(found.mistakes, other.mistakes) else diagnosis.alike
            ).append(other)
    return True


def _place(mistakes, known):
    """Where mistakes stand in the list: of those that compute the same, the first is named."""
    return [known.index(mistake) for mistake in mistakes]


def _some(names):
    """The first few of many names."""
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"
