"""Every kernel under compute-sanitizer, NVIDIA's checker of accesses, races and barriers.

    compute-sanitizer python -m benchmarks.cuda.sanitize

runs each version of each kernel once, at sizes of several tiles, and compares with float64.
"""

import shutil
import subprocess
import sys

from albert_np import AlbertConfig
from benchmarks.arguments import NotAvailable
from benchmarks.cuda import cases, contenders, machine
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
LENGTHS = (150, 77)  # of two sequences: several tiles, the last one not full
CONFIG = AlbertConfig(
    vocab_size=1000,
    embedding_size=128,
    hidden_size=256,
    num_attention_heads=2,
    intermediate_size=1024,
    num_hidden_layers=1,
)
FUNCTIONS = (*cases.ROW_FUNCTIONS, "attention", "linear", "linear_cross_entropy")


def small_cases():
    """Each function, forward and backward, in each type."""
    return [
        cases.Case(function, direction, dtype, CONFIG, max(LENGTHS), LENGTHS, "")
        for function in FUNCTIONS
        for direction in DIRECTIONS
        for dtype in cases.DTYPES
    ]


def wrong_kernels(machine, chosen):
    """Run our kernels of some cases once; the name of each that is wrong."""
    wrong = []
    for case in chosen:
        given = contenders.Given(inputs_of(case.function, case.sizes, SEED), case, machine)
        reference, floors = reference_of(case, given)
        allowed = allowed_error(case, floors)
        for name, bind in contenders.ours(case, given).items():
            try:
                task = bind(given)
                errors = errors_of(task.outputs(task.run()), reference, case.dtype)
            except ValueError as failure:
                if DOES_NOT_FIT in str(failure):
                    continue
                raise
            if not max(errors.values()) <= allowed:
                wrong.append(f"{case.function}_{case.direction}, {case.dtype}, {name}")
    return wrong


def run():
    """Run this module under each of the sanitizer's tools, which print what they find.

    Returns
    -------
    list of str
        The tools that found something.

    Raises
    ------
    NotAvailable
        If there is no GPU, or the sanitizer is not installed.
    """
    machine.gpu()
    if shutil.which(SANITIZER) is None:
        raise NotAvailable(f"{SANITIZER} is not installed; it comes with CUDA's toolkit")
    module = [sys.executable, "-m", "benchmarks.cuda.sanitize"]
    return [
        tool
        for tool in TOOLS
        if subprocess.run(
            [SANITIZER, "--tool", tool, "--error-exitcode", str(FOUND), *module], check=False
        ).returncode
    ]


def main():
    gpu = machine.gpu()
    gpu.xp.cuda.set_allocator(None)  # each array by itself, so that no access beyond it is missed
    wrong = wrong_kernels(gpu, small_cases())
    print("\n".join(wrong) or "all kernels are right")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
