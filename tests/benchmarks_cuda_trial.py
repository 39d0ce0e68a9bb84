"""The process in which versions are tried, on the stand-in.

Its arguments are `FaultyExecutor`'s kernel and fault.
"""

import sys

from benchmarks_cuda_support import SMALL, FaultyExecutor, stand_in_machine

from benchmarks.cuda import measure, trial


def machine_of():
    print("what a library says is no answer")
    return stand_in_machine(FaultyExecutor())


FaultyExecutor.kernel, FaultyExecutor.fault = sys.argv[1:]
for module, name, value in (*SMALL, (measure, "ROUNDS", 2)):
    setattr(module, name, value)
trial.serve(machine_of)
