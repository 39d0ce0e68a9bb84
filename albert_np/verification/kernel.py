"""One function against the float64 reference, over drawn cases, shrunk to the smallest that fails.

The noise floor of a case is the largest error of the reference itself, in the candidate's
precision (of a half precision, in float32 and rounded), in terms of each number
(`kernel_operations`). By chance it may be nothing in a small case, so it is at least

    u √k,   u the unit roundoff, k the roundings that follow each other

as k roundings of at most u add up like a random walk. A candidate may be off by NOISE_MULTIPLE
times as much. A case that the reference itself cannot compute to NOISE_MULTIPLE · u √k in that
precision (products that overflow, scores whose rounding decides which of them is the largest) is
left out: nobody's result would be right.
"""

import inspect
import math
import random
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from albert_np.libraries import import_library
from albert_np.verification.kernel_operations import (
    OPERATIONS,
    in_dtype,
    largest_score_terms,
    rounding_of,
)
from albert_np.verification.precision import get_precision
from albert_np.verification.user_code import described, load_function

# Sums in another order, or the exponential of another library, draw the noise anew. One that is
# uniform in ±u has a deviation of u/√3, so this is seven deviations of the random walk.
NOISE_MULTIPLE = 4
NAMES = ("attention", "gelu_new", "layer_norm", "cross_entropy")
DIRECTIONS = ("forward", "backward")


class Kernel(NamedTuple):
    """A candidate.

    Attributes
    ----------
    path : Path
    names : dict of str to str
        The functions' names in the file, by direction.
    functions : dict of str to callable
        "forward", and "backward" where the file has one.
    operation : str
        Of `kernel_operations.OPERATIONS`.
    arguments : tuple of str
        Those that forward is given.
    takes_slots : bool
        Backward has a parameter `into`.
    """

    path: Path
    names: dict
    functions: dict
    operation: str
    arguments: tuple
    takes_slots: bool


class KernelFailure(NamedTuple):
    """The smallest case that fails.

    Attributes
    ----------
    message : str
        What is wrong.
    code : str
        A program that shows it.
    multiple : float or None
        The error as a multiple of the noise floor, where there is one.
    """

    message: str
    code: str
    multiple: float | None


class KernelResult(NamedTuple):
    """What came of one direction.

    Attributes
    ----------
    direction : {"forward", "backward"}
    cases : int
        How many were tried.
    multiple : float
        The largest error among those that pass, as a multiple of the noise floor.
    failure : KernelFailure or None
    """

    direction: str
    cases: int
    multiple: float
    failure: KernelFailure | None


class KernelReport(NamedTuple):
    """What came of a kernel.

    Attributes
    ----------
    kernel : Kernel
    dtype : str
    results : list of KernelResult
    could_not : list of str
        What was not compared, and why.
    """

    kernel: Kernel
    dtype: str
    results: list
    could_not: list

    @property
    def is_right(self):
        return not any(result.failure for result in self.results)


class _Wrong(Exception):
    def __init__(self, message, multiple=None):
        super().__init__(message)
        self.multiple = multiple


def load_kernel(entry, operation):
    """Find a kernel in a Python file, and the backward function beside it.

    Parameters
    ----------
    entry : str
        `path.py:function`; `function_forward` is found too. Backward is `function_backward`.
    operation : str
        Of NAMES.

    Returns
    -------
    Kernel

    Raises
    ------
    ValueError
        If there is no such file or function, or it does not take the arguments of the operation.
    """
    if operation not in NAMES:
        raise ValueError(f"--op is {operation!r}; expected one of {', '.join(NAMES)}")
    path, module, name = load_function(entry)
    base = name.removesuffix("_forward")
    forward_name = name if hasattr(module, name) else f"{base}_forward"
    forward = getattr(module, forward_name, None)
    if not callable(forward):
        raise ValueError(f"{path} has no function {name}")
    backward = getattr(module, f"{base}_backward", None)
    if operation == "attention" and _parameters(forward)[:1] != ["query"]:
        operation = "joined_attention"
    names, functions = {"forward": forward_name}, {"forward": forward}
    if backward is not None:
        names["backward"], functions["backward"] = f"{base}_backward", backward
    arguments = _taken(path, forward_name, operation, forward)
    takes_slots = backward is not None and "into" in _parameters(backward)
    return Kernel(path, names, functions, operation, arguments, takes_slots)


def _signature(function):
    """A function's signature; None where it does not tell."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _parameters(function):
    """The names of a function's parameters; none where it does not tell."""
    signature = _signature(function)
    return [] if signature is None else list(signature.parameters)


def _taken(path, name, operation, function):
    """The arguments of an operation that a function takes."""
    expected = OPERATIONS[operation].arguments
    parameters = _parameters(function)
    optional = [argument for argument in expected if argument in ("attention_mask", "eps")]
    required = [argument for argument in expected if argument not in optional]
    present = [argument for argument in optional if not parameters or argument in parameters]
    taken = (*required, *present)
    if parameters and not _can_be_called(function, taken, present):
        raise ValueError(
            f"{name} of {path} takes ({', '.join(parameters)}); expected {_expected(operation)}"
        )
    return taken


def _expected(operation):
    """The arguments of an operation in words, of both kinds of attention."""
    is_attention = operation.endswith("attention")
    kinds = ("attention", "joined_attention") if is_attention else (operation,)
    words = " or ".join(f"({', '.join(OPERATIONS[kind].arguments)})" for kind in kinds)
    return words.replace("attention_mask", "attention_mask=None")


def _can_be_called(function, taken, optional):
    """Whether a function can be called with arguments in this order, with a mask and without."""
    signature = _signature(function)
    parameters = list(signature.parameters)
    try:
        signature.bind(*taken)
        signature.bind(*(argument for argument in taken if argument != "attention_mask"))
    except TypeError:
        return False
    return all(parameters.index(argument) == taken.index(argument) for argument in optional)


def check_kernel(kernel, dtype="float32", examples=200, seed=0):
    """Check a kernel over drawn cases.

    Parameters
    ----------
    kernel : Kernel
    dtype : str
        Of `precision.PRECISIONS`.
    examples : int
        How many cases each direction is tried with.
    seed : int
        Of the drawing.

    Returns
    -------
    KernelReport

    Raises
    ------
    ImportError
        If Hypothesis is not installed, or ml_dtypes is needed and is not.
    """
    if examples < 1:
        raise ValueError(f"--examples is {examples}; expected 1 or more")
    dtype = get_precision(dtype).dtype
    results, could_not = [], []
    for direction in DIRECTIONS:
        if direction in kernel.functions:
            results.append(_check_direction(kernel, direction, dtype, examples, seed))
        else:
            base = kernel.names["forward"].removesuffix("_forward")
            could_not.append(f"backward: {kernel.path.name} has no function {base}_backward")
    missing = set(OPERATIONS[kernel.operation].arguments) - set(kernel.arguments)
    if "attention_mask" in missing:
        could_not.append("masks: the function has no argument attention_mask")
    if "eps" in missing:
        could_not.append("other eps than 1e-12: the function has no argument eps")
    return KernelReport(kernel, dtype.name, results, could_not)


def _check_direction(kernel, direction, dtype, examples, seed):
    """Try cases until one fails, then smaller ones."""
    hypothesis = import_library("hypothesis", "this", "albert-np[verify]")
    from albert_np.verification.kernel_cases import cases

    passed = []

    def fails(case):
        try:
            multiple = _multiple(kernel, direction, dtype, case.values())
        except _Wrong:
            return True
        if multiple is not None:
            passed.append(multiple)
        return False

    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    strategy = cases(kernel.operation, dtype, kernel.arguments)
    try:
        case = hypothesis.find(strategy, fails, settings=settings, random=random.Random(seed))
        failure = _failure(kernel, direction, dtype, case)
    except hypothesis.errors.NoSuchExample:
        failure = None
    except hypothesis.errors.Flaky:
        failure = KernelFailure("it gives another result each time for the same input", "", None)
    if failure is None and not passed:
        raise ValueError(f"no case of {kernel.operation} could be computed in {dtype}")
    return KernelResult(direction, len(passed), max(passed, default=0.0), failure)


def _multiple(kernel, direction, dtype, values):
    """The largest error of one case as a multiple of its noise floor; None if it is left out.

    Raises
    ------
    _Wrong
        If the candidate is.
    """
    operation, rounding = OPERATIONS[kernel.operation], rounding_of(dtype)
    values = _with_defaults(operation, kernel, values)
    slots = _slots(operation, kernel)
    with np.errstate(all="ignore"):
        exact = operation.reference(**in_dtype(values, np.float64))
        terms = operation.terms(rounding, **in_dtype(values, np.float64))
        working = in_dtype(values, np.promote_types(dtype, np.float32))
        near = {name: x.astype(dtype) for name, x in operation.reference(**working).items()}
        roundings = operation.roundings(**values)[direction]
        for name in slots:
            for result in (exact, terms):
                result[f"d{name}"] = result[f"d{name}"] + 1
            near[f"d{name}"] = (near[f"d{name}"] + 1).astype(dtype)
        names = _results(operation, direction)
        walk = rounding.unit_roundoff * math.sqrt(roundings)
        # That scores are rounded may not decide which of them is the largest.
        if 2 * NOISE_MULTIPLE * walk * largest_score_terms(in_dtype(values, np.float64)) > 1:
            return None
        noise = max(_error(near[name], exact[name], terms[name])[0] for name in names)
        if not noise <= NOISE_MULTIPLE * walk:
            return None
    floor = max(noise, walk)
    got = _run(kernel, direction, values, slots)
    worst = 0.0
    for name in names:
        result = _checked_array(name, got[name], exact[name].shape, dtype)
        error, index = _error(result, exact[name], terms[name])
        if not error <= NOISE_MULTIPLE * floor:
            where = f"{name}[{', '.join(map(str, index))}]" if index else name
            raise _Wrong(
                f"{where} is {float(result[index]):.9g}; expected {exact[name][index] + 0.0:.9g}: "
                f"{_times(error / floor)} the noise floor, at most {NOISE_MULTIPLE} are rounding",
                error / floor,
            )
        worst = max(worst, error / floor)
    return worst


def _times(multiple):
    return f"{multiple:.3g} times" if np.isfinite(multiple) else "infinitely many times"


def _with_defaults(operation, kernel, values):
    """The values that forward gets: eps is 1e-12 for one that does not take it."""
    known = {name: values[name] for name in (*operation.arguments, "dy") if name in values}
    return known | {"eps": 1e-12} if "eps" in known and "eps" not in kernel.arguments else known


def _slots(operation, kernel):
    """Names of the gradients that are added to slots; the slots hold ones."""
    return operation.parameters if kernel.takes_slots else ()


def _results(operation, direction):
    if direction == "forward":
        return ["y"]
    return [f"d{name}" for name in operation.gradients]


def _error(result, exact, terms):
    """The largest error in terms, and where; of an array that is not finite, infinite."""
    with np.errstate(all="ignore"):
        difference = np.abs(np.asarray(result, dtype=np.float64) - exact)
        errors = np.where(difference == 0, 0, difference / terms)
        errors = np.where(np.isfinite(difference), errors, np.inf)
    index = np.unravel_index(np.argmax(errors), errors.shape)
    return float(errors[index]), tuple(map(int, index))


def _run(kernel, direction, values, slots):
    """The candidate's results by name."""
    operation = OPERATIONS[kernel.operation]
    arguments = [values[name] for name in kernel.arguments if name in values]
    before = [np.copy(argument) for argument in arguments]
    with _raising(kernel.names["forward"]):
        result = kernel.functions["forward"](*arguments)
    y, *cache = result if isinstance(result, tuple) else (result, *arguments)
    got = {"y": y}
    if direction == "backward":
        into = {"into": tuple(np.ones_like(values[name]) for name in slots)} if slots else {}
        name = kernel.names["backward"]
        with _raising(name):
            gradients = kernel.functions["backward"](values["dy"].copy(), *cache, **into)
        gradients = gradients if isinstance(gradients, tuple | list) else (gradients,)
        names = _results(operation, direction)
        if len(gradients) != len(names):
            raise _Wrong(
                f"{name} returns {len(gradients)} gradients; expected {len(names)}: "
                f"{', '.join(names)}"
            )
        got.update(zip(names, gradients, strict=True))
    for argument, old, name in zip(arguments, before, kernel.arguments, strict=False):
        if not np.array_equal(argument, old):
            raise _Wrong(f"it writes into its argument {name}")
    return got


@contextmanager
def _raising(name):
    """What the user's function raises is a finding, what it warns of is not."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except (Exception, SystemExit) as error:  # whatever it may raise
        raise _Wrong(f"{name} raises {described(error)}") from error


def _checked_array(name, result, shape, dtype):
    try:
        array = np.asarray(result)
    except Exception as error:  # an array of another library may refuse
        raise _Wrong(f"{name} is no array: {described(error)}") from error
    if array.shape != shape or array.dtype != dtype:
        raise _Wrong(
            f"{name} is a {array.dtype} array of shape {array.shape}; "
            f"expected {dtype.name}, {shape}"
        )
    return array


def _failure(kernel, direction, dtype, case):
    """Run the smallest case once more, for its message."""
    try:
        _multiple(kernel, direction, dtype, case.values())
    except _Wrong as wrong:
        return KernelFailure(str(wrong), _program(kernel, direction, case), wrong.multiple)
    return KernelFailure("it gives another result each time for the same input", "", None)


def _program(kernel, direction, case):
    """A program that runs the kernel on a case, beside the reference."""
    operation, made = OPERATIONS[kernel.operation], case.values()
    arguments = [name for name in kernel.arguments if name in made]
    named = [name for name in (*operation.arguments, "dy") if name in made]
    lines = [
        "import runpy",
        "import sys",
        "",
        "import numpy as np",
        "",
        "from albert_np.verification.kernel_operations import OPERATIONS, in_dtype",
        "",
        f"sys.path.append({str(kernel.path.parent)!r})",
        f"kernel = runpy.run_path({str(kernel.path)!r})",
        *case.lines,
        f'result = kernel["{kernel.names["forward"]}"]({", ".join(arguments)})',
    ]
    if direction == "backward":
        lines += _backward_lines(kernel, arguments, _slots(operation, kernel))
    lines += [
        f"values = dict({', '.join(f'{name}={name}' for name in named)})",
        f'expected = OPERATIONS["{kernel.operation}"].reference(**in_dtype(values, "float64"))',
        'print("given:", result)',
        f"for name in {_results(operation, direction)}:",
        '    print("expected:", name, expected[name])',
    ]
    return "\n".join(lines) + "\n"


def _backward_lines(kernel, arguments, slots):
    name = kernel.names["backward"]
    into = f", into=({', '.join(f'np.ones_like({name})' for name in slots)})" if slots else ""
    lines = [f"cache = result[1:] if isinstance(result, tuple) else ({', '.join(arguments)},)"]
    lines.append(f'result = kernel["{name}"](dy, *cache{into})')
    return [*lines, "# the slots hold ones, which are not in what is expected"] if slots else lines
