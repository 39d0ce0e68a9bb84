"""The fused functions one by one: each back end's, torch's, ONNX Runtime's, the user's own."""

from contextlib import ExitStack

from benchmarks import added
from benchmarks.functions import DIRECTIONS, FUNCTIONS, function_work, inputs_of, sizes_of
from benchmarks.measure import compare, written
from benchmarks.turns import contender, take_turns

SEED = 0
NOT_IN_ONNXRUNTIME = ("linear_cross_entropy",)
PARTS = ("matmul", "kernel", "both")


def able_peers(function, direction, run):
    """Those of the run's peers that have a function: ONNX Runtime's run float32, and forward."""
    has_it = direction == "forward" and run.dtype == "float32"
    has_it = has_it and function not in NOT_IN_ONNXRUNTIME
    return [name for name in run.peers if name != "onnxruntime" or has_it]


def contenders_of(function, direction, run, entries):
    """Ours, the peers', and those of the user's entries that stand for this function."""
    own = {
        added.name_of(entry): {"implementation": "albert_np", "added": entry}
        for entry in entries
        if added.parse(entry)[1] == function and f"{function}_{direction}" in added.load(entry)
    }
    return run.contenders(able_peers(function, direction, run)) | own


def selected(entries):
    """The functions to measure: those that the user's entries stand for or, without any, all."""
    chosen = {added.parse(entry)[1] for entry in entries}
    return [name for name in FUNCTIONS if name in chosen or not entries]


def measure(config, batch, run, entries=()):
    """Every function, forward and backward, with the shapes of one batch.

    Parameters
    ----------
    config : AlbertConfig
    batch : Batch
        Attention looks at its sequences' real tokens alone; the others work on padding too.
    run : Run
    entries : list of str, optional
        The user's own, `path.py:function`.

    Yields
    ------
    dict
        Of `compare`, with the batch's sizes.
    """
    sizes = sizes_of(config, *batch.shape, batch.lengths)
    small = sizes_of(config, 1, 2, [1 if "attention_mask" in batch.arrays else 2])
    for function in selected(entries):
        arrays = inputs_of(function, sizes, SEED)
        with written(arrays, inputs_of(function, small, SEED)) as files:
            files = files | {"keep_freed": True}
            for direction in DIRECTIONS:
                contenders = contenders_of(function, direction, run, entries)
                needed = function_work(function, direction, sizes, run.dtype)
                work = f"{function}_{direction}"
                yield batch.case | compare(work, contenders, needed, files, arrays, run)


def measure_threads(config, batch, run):
    """For each back end: a product and a kernel, alone and back to back.

    Yields
    ------
    dict
        Under `parts`, the timings of each of PARTS.
    """
    arrays = inputs_of("linear", sizes_of(config, *batch.shape), SEED)
    for back_end in run.back_ends:
        with written(arrays, arrays) as files:
            common = files | {
                "implementation": "back_to_back",
                "work": "threads",
                "backend": back_end,
                "dtype": run.dtype,
                "threads": run.threads,
            }
            parts = timed_parts(common, run)
        named = {"work": "threads", "dtype": run.dtype, "back_end": back_end}
        yield batch.case | named | {"parts": parts}


def timed_parts(common, run):
    """The timings of PARTS, in turn."""
    with ExitStack() as stack:
        asks = {part: stack.enter_context(contender(common | {"part": part})) for part in PARTS}
        label = f"threads: {common['backend']}"
        return take_turns(asks, run.rounds, lambda part: run.progress(f"{label}, {part}"))


def steps(batches, run, entries=()):
    """How many steps `measure` and `measure_threads` report for so many batches."""
    contenders = (
        contenders_of(function, direction, run, entries)
        for function in selected(entries)
        for direction in DIRECTIONS
    )
    compared = sum(run.steps(len(each)) for each in contenders)
    threads = len(run.back_ends) * len(PARTS) * (run.rounds + 1)
    return batches * (compared + threads * (not entries))
