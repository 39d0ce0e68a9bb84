"""Results as tables: the same rows on the screen and in Markdown."""

from typing import NamedTuple

import numpy as np
from rich.table import Column, Table

MEGABYTE = 10**6
# What each of the works may take, as a multiple of the peer's time.
GOALS = {"forward": 1.6, "forward_backward": 2.0}
MEMORY_GOAL = 1.5e9  # bytes above the weights
TITLES = {
    "forward": "AlbertModel, forward",
    "forward_backward": "AlbertForMaskedLM, loss and gradients",
}
MODEL_COLUMNS = (
    "ALBERT-base",
    "time, s",
    "albert_np's time to its",
    "matrix-multiply time to its",
    "memory above the model, MB",
    "error",
)
MEMORY_COLUMNS = ("ALBERT-xxlarge", "MB")


class Summary(NamedTuple):
    """Of several measurements of one thing."""

    median: float
    minimum: float
    maximum: float

    def __format__(self, spec):
        median, minimum, maximum = (format(value, spec) for value in self)
        return f"{median} ({minimum}–{maximum})"


def summary(values):
    """The median, minimum and maximum of a sequence of numbers."""
    return Summary(float(np.median(values)), float(np.min(values)), float(np.max(values)))


def ratios(ours, theirs):
    """Time to time, round by round: what slows one round slows both.

    Parameters
    ----------
    ours, theirs : dict
        Contenders, with their `seconds`.

    Returns
    -------
    Summary
    """
    pairs = zip(ours["seconds"], theirs["seconds"], strict=True)
    return summary([our / their for our, their in pairs])


def model_rows(results):
    """The table of `python -m benchmarks model`.

    Parameters
    ----------
    results : dict
        `model.measure`'s, under "model", with the environment beside it.

    Returns
    -------
    list of list of str
        Under MODEL_COLUMNS.
    """
    rows = []
    for work, result in results["model"]["works"].items():
        contenders = result["contenders"]
        for name, contender in contenders.items():
            if name == "matmul":
                cells = _roof_cells(contender, result["floating_point_operations"])
            else:
                cells = _contender_cells(work, contender, contenders)
            rows.append([f"{TITLES[work]}: {name}", *cells])
    return rows


def _roof_cells(roof, floating_point_operations):
    rate = floating_point_operations / np.array(roof["seconds"]) / 1e9
    return [f"{summary(roof['seconds']):.3f}", "", f"{summary(rate):.0f} GFLOP/s", "", ""]


def _contender_cells(work, contender, contenders):
    ours, roof = contenders["albert_np"], contenders["matmul"]
    error = f"{contender['error']:.1e} (at most {contender['limit']:.1e})"
    if not contender["correct"]:
        return ["wrong, not timed", "", "", "", error]
    ratio = ""
    if contender is not ours and ours["correct"]:
        ratio = f"{ratios(ours, contender):.2f}; goal: at most {GOALS[work]}"
    return [
        f"{summary(contender['seconds']):.3f}",
        ratio,
        f"{ratios(roof, contender):.2f}",
        megabytes(above(contender)),
        error,
    ]


def memory_rows(results):
    """The table of `python -m benchmarks memory`, under MEMORY_COLUMNS."""
    memory = results["memory"]
    sentence = f"one sentence of {memory['sequence_length']} tokens, forward, {memory['dtype']}"
    return [
        ["weights", megabytes(memory["weights_bytes"])],
        [f"{sentence}: above the weights", megabytes(above(memory))],
        ["goal: at most", megabytes(MEMORY_GOAL)],
    ]


def above(measured):
    """Bytes at the peak above those before; None where memory is not counted."""
    if measured["peak_bytes"] is None:
        return None
    return measured["peak_bytes"] - measured["resident_bytes"]


def megabytes(size):
    """A number of bytes, in megabytes."""
    return "not measured" if size is None else f"{size / MEGABYTE:.0f}"


TABLES = {"model": (MODEL_COLUMNS, model_rows), "memory": (MEMORY_COLUMNS, memory_rows)}


def caption(results):
    """Where and when: one line."""
    where = results["environment"]
    packages = ", ".join(f"{name} {number}" for name, number in where["packages"].items() if number)
    return (
        f"{where['date']}: {where['cpu']}, {where['cores']} cores; threads: {where['threads']}; "
        f"Python {where['python']}, {packages}; {where['blas']}"
    )


def markdown(results):
    """The tables of a results file, as Markdown."""
    blocks = []
    for columns, rows in _tables(results):
        lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
        blocks.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*blocks, caption(results)])


def rich_tables(results):
    """The tables of a results file, for the screen."""
    for columns, rows in _tables(results):
        # On a narrow screen cells go on in a further line: a figure is never cut off.
        table = Table(*(Column(name, overflow="fold") for name in columns))
        for row in rows:
            table.add_row(*row)
        yield table


def _tables(results):
    return [(columns, rows(results)) for name, (columns, rows) in TABLES.items() if name in results]
