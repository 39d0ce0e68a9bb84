"""One piece of work: every contender checked, then timed, beside the roofs."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.correct import judged, largest_error, limits, rounding_limit
from benchmarks.turns import ContenderEnded, contender, take_turns
from benchmarks.work import product_operations

REFERENCE = {"implementation": "albert_np", "backend": "numpy", "arguments": {}}
PROCESSES_BESIDES = 2  # the float64 reference, and the noise floor
MEMORY = ("resident_bytes", "peak_bytes")
# A user's kernel that raised: it is wrong, and the others are measured all the same.
ENDED = {"error": None, "correct": False, "resident_bytes": None, "peak_bytes": None}
OF_TOKENS = ("last_hidden_state", "y", "query_key_value")  # outputs that have a row for each


class Run(NamedTuple):
    """How a command measures: `dtype`, `threads`, `rounds`, the names of the `back_ends` and
    `peers`, and `progress`, which is told each step that is done."""

    dtype: str
    threads: int
    rounds: int
    back_ends: tuple
    peers: tuple
    progress: Callable

    def contenders(self, peers=None, **arguments):
        """Our back ends and the peers: by name, their settings of `benchmarks.contenders`.

        Parameters
        ----------
        peers : iterable of str, optional
            Those of the peers that can do the work; by default all.
        **arguments
            That our model is called with besides the batch.
        """
        ours = {"implementation": "albert_np", "arguments": arguments}
        return {name: ours | {"backend": name} for name in self.back_ends} | {
            name: {"implementation": name} for name in (self.peers if peers is None else peers)
        }

    def steps(self, contenders, roofs=2):
        """How many steps a measurement of so many contenders is, if all of them are right."""
        checks = PROCESSES_BESIDES + contenders
        return checks + (contenders + roofs) * (self.rounds + 1)


@contextmanager
def written(batch, warm_up, model=None):
    """Write what contenders read; the settings that say where, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as directory:
        files = {"batch": f"{directory}/batch.npz", "warm_up": f"{directory}/warm_up.npz"}
        np.savez(files["batch"], **batch)
        np.savez(files["warm_up"], **warm_up)
        if model is not None:
            model.save_pretrained(directory)
        yield files | {"directory": directory}


def first_results(ask, directory):
    """A contender's first run: its arrays, and its memory."""
    file = Path(directory) / "results.npz"
    answer = ask(f"check {file}")
    with np.load(file) as arrays:
        outputs = dict(arrays)
    file.unlink()
    return outputs, {key: answer[key] for key in MEMORY}


def real_rows(outputs, batch):
    """Outputs without the rows of padding: what stands there, nobody may use."""
    if "attention_mask" not in batch:
        return outputs
    is_real = batch["attention_mask"].astype(bool)  # (B, S)
    return {name: array[is_real] if name in OF_TOKENS else array for name, array in outputs.items()}


def compare(work, contenders, needed, files, batch, run):
    """Check, then time, one piece of work.

    Parameters
    ----------
    work : str
        "forward" or "training"; or a function and its direction, such as "attention_forward".
    contenders : dict of str to dict
        Of `Run.contenders`, or a user's own.
    needed : Work
    files : dict
        Of `written`.
    batch : dict of str to array
        What everyone is given.
    run : Run

    Returns
    -------
    dict
        What is needed; and for each of the `contenders` its check, peak memory and timings. One
        that is wrong has no `seconds`. The roofs, `matmul` and `copy`, are among them.
    """
    common = files | {"work": work, "dtype": run.dtype, "threads": run.threads}

    def checked(ask, name):
        outputs, memory = first_results(ask, files["directory"])
        run.progress(f"{work}: {name}, check")
        return real_rows(outputs, batch), memory

    with ExitStack() as stack:
        with contender(common | REFERENCE | {"dtype": "float64"}) as ask:
            reference, _ = checked(ask, "float64")
        with contender(common | REFERENCE) as ask:
            outputs, _ = checked(ask, "noise floor")
        floor = largest_error(outputs, reference, run.dtype)
        limit = rounding_limit(needed.length, run.dtype)
        limit_of = limits(contenders, floor, limit, run.dtype)
        asks, results = {}, {}
        for name, own in contenders.items():
            ask = stack.enter_context(contender(common | own))
            try:
                outputs, memory = checked(ask, name)
            except ContenderEnded:
                if "added" not in own:
                    raise
                results[name] = ENDED | {"limit": limit_of[name]}
                continue
            error = largest_error(outputs, reference, run.dtype)
            results[name] = judged(error, limit_of[name]) | memory
            if results[name]["correct"]:
                asks[name] = ask
        del reference, outputs
        roofs = {
            "matmul": {"products": needed.products},
            "copy": {"bytes": needed.bytes},
        }
        for name, own in roofs.items():
            own |= {"implementation": name}
            asks[name] = stack.enter_context(contender(common | own))
        timings = take_turns(asks, run.rounds, lambda name: run.progress(f"{work}: {name}"))
    for name, timing in timings.items():
        results[name] = results.get(name, {}) | timing
    results["matmul"]["operations"] = product_operations(needed.products)
    results["copy"]["bytes"] = needed.bytes
    return {
        "work": work,
        "dtype": run.dtype,
        "operations": needed.operations,
        "padded_operations": needed.padded_operations,
        "bytes": needed.bytes,
        "contenders": results,
    }
