"""The CPU in the place of a GPU, for the tests of its benchmarks."""

import os
import time

import ml_dtypes  # noqa: F401  NumPy knows bfloat16 from then on
import numpy as np
from strict_arrays import StrictExecutor

from albert_np import AlbertConfig
from albert_np.backend import Backend
from albert_np.kernels import cuda
from albert_np.kernels.cuda.host import HostExecutor
from benchmarks.cuda import measure, roofs
from benchmarks.cuda.cases import ROW_FUNCTIONS, Case
from benchmarks.cuda.contenders import Given
from benchmarks.cuda.machine import Clock, Machine
from benchmarks.cuda.measure import allowed_error, errors_of, reference_of
from benchmarks.functions import DIRECTIONS, inputs_of

SETTINGS = {
    "vocab_size": 100,
    "embedding_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
CONFIG = AlbertConfig(**SETTINGS)
# Roofs and rotation of a size for the stand-in.
SMALL = (
    (roofs, "COPIED", 2**10),
    (roofs, "SIDE", {}),
    (roofs, "LARGE_SIDE", 4),
    (measure, "MOST_SETS", 2),
)


class FakeEvents:
    """A clock that goes on by one second a copy, and by as much as a call says."""

    def __init__(self):
        self.now, self.copies = 0.0, 0

    def record(self):
        return self.now

    def seconds(self, start, end):
        return end - start

    def copy(self):
        self.copies += 1
        self.now += 1.0


class SteadyEvents(FakeEvents):
    """Events a second apart, for work that does not touch the clock."""

    def record(self):
        self.now += 1.0
        return self.now


def stand_in_machine(executor=None):
    """A machine whose kernels run on the CPU; its arrays, by default, mix with none of NumPy's."""
    executor = executor or StrictExecutor()
    return Machine(
        executor=executor,
        tf32_executor=type(executor)(allow_tf32=True),
        xp=np,
        clock=Clock(SteadyEvents()),
        torch_device="cpu",
        facts={"name": "the stand-in", "l2_bytes": 1},
        free_bytes=lambda: 2**40,
        tidy=lambda: None,
        backend=lambda: Backend("cuda", executor, **cuda.functions(executor)),
    )


class FaultyExecutor(StrictExecutor):
    """Has a fault in the kernels whose names begin so."""

    kernel, fault = "none", ""

    def launch(self, launch):
        if not launch.kernel.startswith(self.kernel):
            super().launch(launch)
        elif self.fault == "is wrong":
            super().launch(launch)
            launch.arguments[1].host[...] *= 2  # the context
        elif self.fault == "raises":
            raise RuntimeError("no such\nkernel")
        elif self.fault == "breaks the machine":
            self.zeros = None
            raise RuntimeError("illegal address")
        elif self.fault == "crashes":
            os._exit(3)
        else:
            time.sleep(600)


def small_case(function, direction, dtype="float32", lengths=(9, 9)):
    """A case of two sequences."""
    return Case(function, direction, dtype, CONFIG, 9, lengths, "32 columns")


FUNCTIONS = (*ROW_FUNCTIONS, "attention", "linear", "linear_cross_entropy", "embedding")
KINDS = [
    (function, direction, dtype, lengths)
    for function in FUNCTIONS
    for direction in DIRECTIONS
    for dtype, lengths in (("float32", (9, 4)), ("bfloat16", (9, 9)), ("float16", (9, 4)))
]


def mixing_machine():
    """A machine whose arrays are NumPy's, which PyTorch's tensors become without a copy."""
    return stand_in_machine(HostExecutor())


def assert_right(case, bound):
    """That each contender is as near as the benchmarks want it to be."""
    given = Given(inputs_of(case.function, case.sizes, seed=0), case, mixing_machine())
    reference, floors = reference_of(case, given)
    allowed = allowed_error(case, floors)
    for name, bind in bound.items():
        task = bind(given)
        error = max(errors_of(task.outputs(task.run()), reference, case.dtype).values())
        assert error <= allowed, name
