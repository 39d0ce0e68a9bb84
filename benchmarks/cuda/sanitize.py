"""Every kernel under compute-sanitizer, NVIDIA's checker of accesses, races and barriers.

    compute-sanitizer python -m benchmarks.cuda.sanitize

runs each version of each kernel once, at sizes of several tiles, and compares with float64; with
the word `trial`, those that are not the default yet.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

from albert_np import AlbertConfig
from benchmarks.arguments import NotAvailable
from benchmarks.cuda import cases, contenders, machine, trial
from benchmarks.cuda.measure import (
    DOES_NOT_FIT,
    SEED,
    allowed_error,
    errors_of,
    reference_of,
)
from benchmarks.functions import DIRECTIONS, inputs_of

SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
FOUND = 9  # the status that it ends with where it found something
# A version that is not the default yet may never end. What is tried takes seconds, most of them to
# start and to compute the reference; racecheck, the slowest tool, takes many times as long.
SECONDS_OF_TRIAL = 5 * 60
LENGTHS = (150, 77)  # of two sequences: several tiles, the last one not full
CONFIG = AlbertConfig(
    vocab_size=1000,
    embedding_size=128,
    hidden_size=256,
    num_attention_heads=2,
    intermediate_size=1024,
    num_hidden_layers=1,
)
FUNCTIONS = (*cases.ROW_FUNCTIONS, *cases.PRODUCTS, "embedding")


def small_cases():
    """Each function, forward and backward, in each type; and with tf32, where that is of use."""
    every = [
        cases.Case(function, direction, dtype, CONFIG, max(LENGTHS), LENGTHS, "")
        for function in FUNCTIONS
        for direction in DIRECTIONS
        for dtype in cases.DTYPES
    ]
    in_tf32 = [
        case._replace(allow_tf32=True)
        for case in every
        if case.dtype == "float32" and case.function in cases.PRODUCTS
    ]
    return every + in_tf32


def wrong_kernels(machine, chosen):
    """Run our kernels of some cases once; the name of each that is wrong."""
    return [name for case in chosen for name in wrong_of(machine, case, contenders.ours)]


def wrong_versions(machine):
    """The same of the versions that are not the default yet."""
    return [
        name
        for attempt in trial.plan(machine.executor)
        if attempt.is_small
        for name in wrong_of(machine, attempt.case, attempt.contenders)
    ]


def wrong_of(machine, case, contenders_of):
    """Of `contenders_of(case, given)`, each run once, the name of each that is wrong."""
    given = contenders.Given(inputs_of(case.function, case.sizes, SEED), case, machine)
    reference, floors = reference_of(case, given)
    allowed = allowed_error(case, floors)
    wrong = []
    for name, bind in contenders_of(case, given).items():
        try:
            task = bind(given)
            errors = errors_of(task.outputs(task.run()), reference, case.dtype)
        except ValueError as failure:
            if DOES_NOT_FIT in str(failure):
                continue
            raise
        if not max(errors.values()) <= allowed:
            wrong.append(f"{case.function}_{case.direction}, {case.precision}, {name}")
    return wrong


def run():
    """Run this module under each of the sanitizer's tools, which print what they find.

    Returns
    -------
    list of str
        The tools that found something, or did not end.

    Raises
    ------
    NotAvailable
        If there is no GPU, or the sanitizer is not installed.
    """
    executor = machine.gpu().executor
    if shutil.which(SANITIZER) is None:
        raise NotAvailable(f"{SANITIZER} is not installed; it comes with CUDA's toolkit")
    found = [tool for tool in TOOLS if sanitized(tool)]
    if trial.plan(executor):
        outcomes = {tool: sanitized(tool, "trial", seconds=SECONDS_OF_TRIAL) for tool in TOOLS}
        found += [
            f"{tool} in what is not the default yet"
            + (f", which did not end within {SECONDS_OF_TRIAL} seconds" if status is None else "")
            for tool, status in outcomes.items()
            if status != 0
        ]
    return found


def sanitized(tool, *words, seconds=None):
    """Run this module under a tool: its status, or None where it had to be killed."""
    module = [sys.executable, "-m", "benchmarks.cuda.sanitize", *words]
    process = subprocess.Popen(
        [SANITIZER, "--tool", tool, "--error-exitcode", str(FOUND), *module],
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # of the session is the process of Python, too
            with suppress(subprocess.TimeoutExpired):
                process.wait(trial.TO_DIE)


def main(words):
    gpu = machine.gpu()
    gpu.xp.cuda.set_allocator(None)  # each array by itself, so that no access beyond it is missed
    wrong = wrong_versions(gpu) if words else wrong_kernels(gpu, small_cases())
    print("\n".join(wrong) or "all kernels are right")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
