"""A candidate's tensors against the reference: how wrong, and where."""

import difflib
from dataclasses import dataclass, field

import numpy as np

from albert_np.errors import FileFormatError
from albert_np.verification.alone import Walk
from albert_np.verification.golden import Golden
from albert_np.verification.graph import graph_of
from albert_np.verification.noise import (
    DRAWS,
    LIMIT,
    MOST_DRAWS,
    combined,
    deviation,
    errors_between,
    has_masked_scores,
    histogram,
    is_hidden,
)
from albert_np.verification.precision import PRECISIONS, get_precision
from albert_np.verification.reference import tensors_of, traced

GIVEN = ("parameters/", "inputs/")  # what a model is given; it computes all the rest


@dataclass
class Row:
    """One tensor of the candidate.

    Attributes
    ----------
    name : str
        See `albert_np.verification.reference`.
    errors : Errors
        From the reference in float64.
    floor : Floor
        The noise of the candidate's precision.
    alone : Alone or None
        The error of the operations alone that lie between this tensor and the candidate's tensors
        before it; None where nothing is computed, as for a parameter.
    unit_roundoff : float
        Of the candidate's precision.
    histogram : tuple of int
        How many elements have an error in each bin of `noise.DECADES`.
    """

    name: str
    errors: object
    floor: object
    unit_roundoff: float
    alone: object = None
    histogram: tuple = ()

    @property
    def multiple(self):
        """The error as a multiple of the noise."""
        return self.floor.multiple(self.errors)

    @property
    def alone_multiple(self):
        """The operations' own error as a multiple of their own noise; 0 where there are none.

        Where their own noise does not show, of the noise of all that the tensor comes from.
        """
        if self.alone is None:
            return 0.0
        return (self.alone.floor or self.floor).multiple(self.alone.errors)

    @property
    def differs(self):
        """Whether the tensor differs from the reference by more than noise."""
        return not self.multiple <= LIMIT

    @property
    def is_wrong(self):
        """Whether the operations that it comes from are wrong by themselves."""
        return not self.alone_multiple <= LIMIT

    @property
    def relative_rms(self):
        """The root mean square of the error, in that of the tensor."""
        return relative(self.errors.rms, self.errors.scale)

    @property
    def relative_largest(self):
        """The largest error, in the root mean square of the tensor."""
        return relative(self.errors.largest, self.errors.scale)

    @property
    def ulp_rms(self):
        """`relative_rms` in units in the last place of a number in [1, 2)."""
        return self.relative_rms / (2 * self.unit_roundoff)

    @property
    def ulp_largest(self):
        """`relative_largest` in the same units."""
        return self.relative_largest / (2 * self.unit_roundoff)


@dataclass
class Comparison:
    """What came of comparing a candidate with the reference.

    Attributes
    ----------
    case : Case
    precision : str
        What the candidate computes in.
    rows : list of Row
        The candidate's tensors, in order of computation.
    could_not : dict of str to str
        The tensors of the candidate that could not be compared, and why.
    missing : list of str
        The tensors of the reference that the candidate does not have.
    sources : dict of str to tuple of str
        The tensors that each tensor of the forward pass is computed from, in order of computation.
    aliases : dict of str to tuple of str
        The other names of a tensor: forward/OPERATION is outputs/NAME too.
    """

    case: object
    precision: str
    rows: list = field(default_factory=list)
    could_not: dict = field(default_factory=dict)
    missing: list = field(default_factory=list)
    sources: dict = field(default_factory=dict)
    aliases: dict = field(default_factory=dict)

    @property
    def first(self):
        """The first row, in order of computation, that leaves the noise; None where none does."""
        return next((row for row in self.rows if row.differs), None)

    @property
    def wrong(self):
        """The rows whose operations are wrong by themselves."""
        return [row for row in self.rows if row.is_wrong]

    @property
    def worst(self):
        """The row with the largest error, as a multiple of its noise."""
        return max(self.rows, key=lambda row: row.multiple, default=None)

    @property
    def differs(self):
        """Whether anything that was compared differs by more than noise."""
        return any(row.differs or row.is_wrong for row in self.rows)

    @property
    def status(self):
        """0: right, to rounding. 1: differs. 2: something given could not be compared."""
        if self.differs:
            return 1
        return 2 if self.could_not or not self.rows else 0


def compare(case, candidate, *, precision=None, track=None):
    """Compare a candidate's tensors with the reference.

    Parameters
    ----------
    case : Case or Golden
        The numbers of a golden file are held to those of its case first.
    candidate : dict of str to array
        Any of the names that `reference` gives; floating arrays, of the shapes there.
    precision : {"float64", "float32", "float16", "bfloat16"}, optional
        What the candidate computes in; by default the coarsest type of its arrays.
    track : callable, optional
        `track(iterable, description)` returns an iterable of the same, and shows how far it is.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If the candidate has no tensor that can be compared, or the case has no results that are
        numbers.
    FileFormatError
        If a golden file does not hold what its case gives.
    """
    track = track or (lambda items, description: items)
    case, stored = (case.case, case.tensors) if isinstance(case, Golden) else (case, {})
    trace = traced(case)
    exact = tensors_of(case, trace)
    _check_is_finite(exact)
    check_stored(case, stored, exact, track)
    del stored
    given, could_not = comparable(candidate, exact)
    if not given:
        raise ValueError(_nothing(could_not))
    precision = get_precision(precision or coarsest(given))
    given = {name: readable(array) for name, array in given.items()}
    judged = errors_and_floors(
        lambda generator: tensors_of(case, traced(case, precision.name, generator)),
        exact,
        given,
        precision,
        track,
    )
    rows = {}
    for name, (errors, floor) in judged.items():
        rows[name] = Row(name, errors, floor, precision.unit_roundoff)
        rows[name].histogram = histogram(given[name], exact[name], floor)
    usable = {name: x for name, x in given.items() if _is_usable(x, exact[name])}
    missing = [name for name in exact if name not in given]
    graph = graph_of(case, trace)
    del exact
    _forget_results(trace)
    walk = Walk(graph, case.parameters, usable, precision)
    with np.errstate(over="ignore", invalid="ignore"):
        for alone in walk.forward(lambda nodes: track(nodes, "each operation alone")):
            rows[alone.name].alone = alone
        if case.gradients is not False:
            for alone in walk.backward(lambda nodes: track(nodes, "each derivative alone")):
                rows[alone.name].alone = alone
    rows = list(rows.values())
    return Comparison(
        case, precision.name, rows, could_not, missing, graph.sources(), graph.aliases
    )


def check_stored(case, stored, exact, track):
    """Hold what a golden file stores to what is computed of its case.

    On the machine that wrote it they are equal; on another, to the noise of float64, for which the
    reference is then run again.

    Parameters
    ----------
    case : Case
    stored, exact : dict of str to array
        The file's tensors, and the reference's.
    track : callable
        See `compare`.

    Raises
    ------
    FileFormatError
        If they are not: some were altered, or the file is of a version that computes otherwise.
    """
    unlike = {}
    for name, array in stored.items():
        if name not in exact or array.shape != exact[name].shape:
            raise FileFormatError(
                f"the golden file holds {name} of shape {array.shape}, which its case does not "
                "give: it was altered, or written by another version"
            )
        if not np.array_equal(array, exact[name]):
            unlike[name] = array
    if not unlike:
        return
    judged = errors_and_floors(
        lambda generator: tensors_of(case, traced(case, "float64", generator)),
        exact,
        unlike,
        PRECISIONS["float64"],
        track,
    )
    for name, (errors, floor) in judged.items():
        if not floor.multiple(errors) <= LIMIT:
            raise FileFormatError(
                f"the golden file's {name} is not what its case gives, by "
                f"{floor.multiple(errors):.3g} × noise in float64: it was altered, or written by "
                "another version"
            )


def comparable(candidate, exact):
    """Part a candidate's tensors into those that can be compared, and why others cannot.

    Parameters
    ----------
    candidate : dict of str to array
    exact : dict of str to array
        The reference's.

    Returns
    -------
    given : dict of str to array
    could_not : dict of str to str
    """
    given, could_not = {}, {}
    for name, array in candidate.items():
        array = np.asarray(array)
        if name not in exact:
            near = difflib.get_close_matches(name, exact, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            could_not[name] = f"the reference has no tensor of this name{hint}"
        elif array.shape != exact[name].shape:
            could_not[name] = f"is of shape {array.shape}; expected {exact[name].shape}"
        elif not is_floating(array.dtype) and (
            exact[name].dtype.kind == "f" or array.dtype.kind not in "iub"
        ):
            could_not[name] = f"is of dtype {array.dtype}; expected a floating type"
        else:
            given[name] = array
    return given, could_not


def is_floating(dtype):
    """Whether a dtype is one of the floating types that candidates may have."""
    return dtype.name in PRECISIONS


def coarsest(tensors):
    """The name of the coarsest floating type of several arrays; float64 where there is none.

    Parameters
    ----------
    tensors : dict of str to array

    Returns
    -------
    str
    """
    names = {array.dtype.name for array in tensors.values() if is_floating(array.dtype)}
    return max(names, key=lambda name: PRECISIONS[name].unit_roundoff, default="float64")


def errors_and_floors(run, exact, given, precision, track):
    """How far each of a candidate's tensors is from the reference, and how far noise would be.

    Parameters
    ----------
    run : callable
        generator → the reference's tensors, in the candidate's precision: see `traced`.
    exact : dict of str to array
        The reference's tensors, in float64.
    given : dict of str to array
        The candidate's.
    precision : Precision
    track : callable

    Returns
    -------
    dict of str to (Errors, Floor)
        In the order of the reference. See `albert_np.verification.noise`.
    """
    errors = {name: errors_between(given[name], exact[name]) for name in exact if name in given}
    draws = {name: [] for name in errors}
    computed = [name for name in errors if not name.startswith(GIVEN)]

    def add(draw):
        # In float64 a first run without a generator would be the reference itself.
        first = draw == 0 and precision.name != "float64"
        tensors = run(None if first else np.random.default_rng(draw))
        for name, floors in draws.items():
            floors.append(deviation(tensors[name], exact[name]))

    for draw in track(range(DRAWS), "the reference in the candidate's precision"):
        add(draw)
    for draw in range(DRAWS, MOST_DRAWS):
        if not any(is_hidden(draws[name], errors[name], exact[name].size) for name in computed):
            break
        add(draw)
    return {
        name: (of_name, combined(draws[name]).at_least(precision.unit_roundoff, of_name))
        for name, of_name in errors.items()
    }


def relative(error, scale):
    """An error in units of a scale; of nothing, 0 if there is none."""
    return error / scale if scale > 0 else (0.0 if error == 0 else np.inf)


def _forget_results(trace):
    """Let go of what the operations alone do not need."""
    trace.gradients = None
    for operation in trace:
        operation.output_gradients = operation.input_gradients = None


def readable(array):
    """An array that can be computed with: NumPy has no arithmetic for bfloat16, nor for all ids."""
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _is_usable(array, exact):
    """Whether operations can be run on it: it is finite, but for masked scores of −∞."""
    if has_masked_scores(exact):
        return not (np.isnan(array).any() or np.isposinf(array).any())
    return bool(np.isfinite(array).all())


def _check_is_finite(exact):
    """A loss without a label is not a number, and nothing equals it."""
    for name, array in exact.items():
        if name.startswith("outputs/") and not np.isfinite(array).all():
            raise ValueError(f"the reference's own {name} is not finite; is anything labelled?")


def _nothing(could_not):
    if not could_not:
        return "the candidate has no tensors; expected some with the names of the reference"
    name, reason = next(iter(could_not.items()))
    more = f" (and {len(could_not) - 1} more)" if len(could_not) > 1 else ""
    return f"no tensor of the candidate can be compared: {name}: {reason}{more}"
