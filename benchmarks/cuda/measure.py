"""One case on a GPU: every contender checked against float64, then timed beside the roofs."""

import math

import numpy as np

from albert_np.backend import NUMPY
from benchmarks import correct
from benchmarks.arguments import NotAvailable
from benchmarks.contenders.ours import task_of
from benchmarks.correct import farthest_row, judged, limits, rounding_limit
from benchmarks.cuda import contenders, model
from benchmarks.functions import DIRECTIONS, inputs_of
from benchmarks.measure import ENDED
from benchmarks.turns import take_turns

SEED = 0
ROUNDS = 7
CACHES = 2  # the sets of inputs together are so many times as large as the L2 cache
MOST_SETS = 32
HELD = 12  # arrays in float64, about, that the reference holds at the same time
DOES_NOT_FIT = "does not fit"  # says the launcher of a version that a shape is too large for
UNKNOWN = {"resident_bytes": None, "peak_bytes": None}  # memory is not measured here


class Broken(NotAvailable):
    """The GPU answers no more; the message says after what."""


def is_too_large(case, machine):
    """Whether the arrays of a case would fill the memory."""
    numbers = case.work.bytes // np.dtype(case.dtype).itemsize // 2  # read; and as many written
    if case.function == "attention":
        numbers += case.sizes.A * case.sizes.B * case.sizes.S**2 // 2  # scores
    return 8 * HELD * numbers > machine.free_bytes()


def reference_of(case, given):
    """What the reference gives in float64; and how far rounding alone takes it from there.

    Returns
    -------
    reference : dict of str to array
    floors : dict of str to float
        The error of each output of the reference in float32 with its results rounded to the type:
        the noise floor. With tf32, of the reference in float32 from matrices that
        are rounded to it.
    """
    pair = [getattr(NUMPY, f"{case.function}_{direction}") for direction in DIRECTIONS]

    def outputs(arguments, dy):
        task = task_of(case.function, case.direction, pair, arguments, dy)
        return given.real(task.outputs(task.run()))

    reference = outputs(*given.arrays_in("float64"))
    inputs = given.arrays_in_tf32() if case.allow_tf32 else given.arrays_in("float32")
    rounded = {name: array.astype(case.dtype) for name, array in outputs(*inputs).items()}
    return reference, errors_of(rounded, reference, case.dtype)


def errors_of(outputs, reference, dtype):
    """How far each output is from the reference, in the row where it is farthest."""
    return {name: farthest_row(outputs.get(name), reference[name], dtype) for name in reference}


def allowed_error(case, floors):
    """How far from float64 a contender may be, given the noise floor of each output."""
    limit = rounding_limit(case.work.length, case.precision)
    return limits([contenders.OURS], max(floors.values()), limit, case.precision)[contenders.OURS]


def sets_of(case, machine):
    """How many sets of inputs it takes to be beyond the L2 cache."""
    needed = CACHES * machine.facts["l2_bytes"] / case.work.bytes
    return min(1 + math.ceil(needed), MOST_SETS)


def measure(case, machine, roofs, entries=(), progress=lambda name: None):
    """Check, then time, one case.

    Parameters
    ----------
    case : Case or ModelCase
    machine : Machine
    roofs : callable
        `roofs(precision)`: what `roofs.turns` gives.
    entries : list of str, optional
        The user's own kernels.
    progress : callable, optional
        Is told each step.

    Returns
    -------
    dict
        As of `benchmarks.measure.compare`, with the noise `floors` and the `errors` of each output,
        and who was `left_out`, and why.
    """
    if isinstance(case, model.ModelCase):
        return measure_model(case, machine, roofs, progress)
    return measure_function(case, machine, roofs, entries, progress)


def measure_function(case, machine, roofs, entries, progress):
    """One fused function: ours, the user's, and the peers'."""

    def everyone(given):
        peers, left_out = contenders.peers(case, machine)
        own = contenders.ours(case, given) | contenders.of_user(case, machine, entries)
        return own, peers, left_out

    return measure_contenders(case, machine, roofs, everyone, progress)


def measure_contenders(case, machine, roofs, contenders_of, progress):
    """Some contenders of one fused function, on several sets of inputs.

    `contenders_of(given)` are `own` and `peers`, as for `compare`, and who is left out, and why.
    """
    if is_too_large(case, machine):
        return case.named | {"floors": None, "left_out": {}, "contenders": {}}
    host = inputs_of(case.function, case.sizes, SEED)
    given = [contenders.Given(host, case, machine) for _ in range(sets_of(case, machine))]
    reference, floors = reference_of(case, given[0])
    own, peers, left_out = contenders_of(given[0])

    def first_errors(bind):
        task = bind(given[0])
        return errors_of(task.outputs(task.run()), reference, case.dtype)

    def turn(bind):
        return machine.clock.turn_of([bind(each).run for each in given])

    record = compare(case, own, peers, floors, first_errors, turn, machine, roofs, progress)
    record["contenders"][contenders.OURS]["kernels"] = contenders.launched(case, given[0])
    record["left_out"] |= left_out
    return record


def measure_model(case, machine, roofs, progress):
    """The whole model: its latency, from an idle GPU."""
    with model.files_of(case) as files:
        reference, floors = model.reference_of(case, files)
        own, peers, left_out = model.contenders_of(case, files, machine)

        def first_errors(bind):
            task = bind()
            return correct.errors_of(task.outputs(task.run()), reference, case.dtype)

        def turn(bind):
            return machine.clock.turn_of([bind().run], hides_launches=False)

        record = compare(case, own, peers, floors, first_errors, turn, machine, roofs, progress)
    record["left_out"] |= left_out
    return record


def compare(case, own, peers, floors, first_errors, turn, machine, roofs, progress):
    """Check each contender, then time those that are right, in turn, beside the roofs.

    Parameters
    ----------
    case : Case or ModelCase
    own, peers : dict of str to callable
        Contenders. What `own` raise is an error of theirs; a peer that raises is left out.
    floors : dict of str to float
        The noise floor of each output.
    first_errors, turn : callable
        `first_errors(bind)`, of a contender's first run; `turn(bind)`, for `take_turns`.
    machine, roofs, progress
        As for `measure`; without roofs nothing is timed.

    Returns
    -------
    dict
    """
    results, right, left_out, turns = {}, {}, {}, {}
    allowed = allowed_error(case, floors)
    for name, bind in (own | peers).items():
        progress(f"{name}, check")
        try:
            errors = first_errors(bind)
        except Exception as failure:  # whatever a library, or the user's file, may raise
            reason = reason_of(failure)
            check_alive(machine, name, reason)
            if name in own and DOES_NOT_FIT not in reason:
                results[name] = ENDED | {"limit": allowed, "raised": reason}
            else:
                left_out[name] = reason
            continue
        results[name] = judged(max(errors.values()), allowed) | UNKNOWN
        results[name]["errors"] = {
            output: error if math.isfinite(error) else None for output, error in errors.items()
        }
        if results[name]["correct"]:
            right[name] = bind
    record = case.named | {"floors": floors, "left_out": left_out, "contenders": results}
    machine.tidy()
    if roofs is None:
        return record
    for name, bind in right.items():
        try:
            turns[name] = turn(bind)
        except Exception as failure:  # too little memory for all the sets, above all
            check_alive(machine, name, reason_of(failure))
            left_out[name] = reason_of(failure)
            del results[name]
    roof_turns, needed = roofs(case.precision)
    timings = take_turns(turns | roof_turns, ROUNDS, progress)
    for name, timing in timings.items():
        results[name] = results.get(name, {}) | timing | needed.get(name, {})
    return record


def reason_of(failure):
    """What was raised, in one line."""
    text = " ".join(str(failure).split())
    return text[:200] or type(failure).__name__


def check_alive(machine, name, reason):
    """Go on after a failure, unless it left the GPU unusable.

    Raises
    ------
    Broken
    """
    try:
        float(machine.executor.zeros((1,), np.dtype("float32")).sum())
    except Exception as failure:
        raise Broken(f"after {name} the GPU answers no more: {reason}") from failure
