"""The roofs: NumPy's rate of matrix products, and the rate at which memory is copied."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.contenders import Task

COPIED_AT_ONCE = 2**28  # bytes read and written by a run, so that starting threads costs nothing


def load(settings):
    """The roof that `settings["implementation"]` names."""
    load_roof = {"matmul": load_matmul, "copy": load_copy}[settings["implementation"]]
    return load_roof(settings)


def load_matmul(settings):
    """`settings["products"]` and nothing else, into memory that is already there."""

    def bind(_):
        generator = np.random.default_rng(0)
        prepared = []
        for left, right in settings["products"]:
            a, b = (
                generator.standard_normal(shape).astype(settings["dtype"])
                for shape in (left, right)
            )
            prepared.append((a, b, a @ b))

        def run():
            for a, b, out in prepared:
                np.matmul(a, b, out=out)

        return Task(run, lambda _: {})

    return bind


def load_copy(settings):
    """Copy half of `settings["bytes"]`: so many are read and written. Each thread has its part."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    size = max(1, settings["bytes"] // (2 * threads))
    count = max(1, COPIED_AT_ONCE // settings["bytes"])

    def bind(_):
        parts = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]
        pool = ThreadPoolExecutor(threads)

        def copy(part):
            source, target = part
            for _ in range(count):
                np.copyto(target, source)

        return Task(lambda: list(pool.map(copy, parts)), lambda _: {}, count)

    return bind
