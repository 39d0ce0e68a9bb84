"""What the tables and pictures say, computed from one record of results."""

from statistics import median
from typing import NamedTuple

import numpy as np

ROOFS = ("matmul", "copy")
PEERS = ("transformers", "onnxruntime")
OURS_ON_A_GPU = "cuda"  # the name, or how it begins, of what is ours in the section of that name
DETERMINISTIC = ", deterministic"  # ends the name of a peer that was made to be so
ONE_REPETITION, OWN_WEIGHTS = "one repetition", "weights of their own"  # in the section "cache"


class Summary(NamedTuple):
    """Of several measurements of one thing."""

    median: float
    minimum: float
    maximum: float

    def __format__(self, spec):
        return self.shown(lambda value: format(value, spec))

    def shown(self, as_text):
        """The three, each as `as_text(value)` has it."""
        middle, minimum, maximum = map(as_text, self)
        return f"{middle} ({minimum}–{maximum})"


def three_digits(value):
    """A number with three digits or, from 1000 on, as many as it has before the point."""
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def summary(values):
    """The median, minimum and maximum of a sequence of numbers."""
    values = [float(value) for value in values]
    return Summary(median(values), min(values), max(values))


def ratios(theirs, ours):
    """Time to time, round by round: what slows one round slows both.

    Parameters
    ----------
    theirs, ours : sequence of float
        Seconds. Above 1, ours is faster.

    Returns
    -------
    Summary
    """
    return summary(their / our for their, our in zip(theirs, ours, strict=True))


def roof_seconds(record, operations=None):
    """The least time that the work could take, in each round, and what binds it.

    Its operations at the rate of np.matmul, or its bytes at the rate of a copy: the longer one.

    Parameters
    ----------
    record : dict
        Of `measure.compare`.
    operations : int, optional
        In place of the record's.

    Returns
    -------
    seconds : list of float
    bound : {"matmul", "copy"}
        What binds it by the medians.
    """
    matmul, copy = (record["contenders"][name] for name in ROOFS)
    operations = record["operations"] if operations is None else operations
    computing = np.array(matmul["seconds"]) * (operations / matmul["operations"])
    moving = np.array(copy["seconds"]) * (record["bytes"] / copy["bytes"])
    bound = "matmul" if np.median(computing) >= np.median(moving) else "copy"
    return np.maximum(computing, moving).tolist(), bound


def rates(record):
    """What the roofs reached: 10⁹ operations, and 10⁹ bytes, a second; two summaries."""
    matmul, copy = (record["contenders"][name] for name in ROOFS)
    return (
        summary(matmul["operations"] / seconds / 1e9 for seconds in matmul["seconds"]),
        summary(copy["bytes"] / seconds / 1e9 for seconds in copy["seconds"]),
    )


def above(contender):
    """Bytes at the peak above those before; None where memory is not counted."""
    if contender["peak_bytes"] is None:
        return None
    return contender["peak_bytes"] - contender["resident_bytes"]


def timed(record):
    """Its contenders that have timings, the roofs left out."""
    return {
        name: contender
        for name, contender in record["contenders"].items()
        if name not in ROOFS and "seconds" in contender
    }


def fastest(record, names):
    """Of some of a record's timed contenders the fastest; None without any."""
    contenders = timed(record)
    found = [name for name in names if name in contenders]
    return min(found, key=lambda name: median(contenders[name]["seconds"]), default=None)


def ours_and_peers(record):
    """Of a record of a GPU: the names of what is ours, and of what is others'."""
    names = timed(record)
    ours = [name for name in names if name.startswith(OURS_ON_A_GPU)]
    return ours, [name for name in names if name not in ours]


def deterministic(names):
    """Those of the peers that were made to give the same bits each time, as ours always do."""
    return [name for name in names if name.endswith(DETERMINISTIC)]


def later_repetition(record, name):
    """How long a repetition of the layer takes that is not the first.

        (t_L − t_1) / (L − 1),   t_L the time of a pass of L repetitions

    Parameters
    ----------
    record : dict
        Of the section "cache".
    name : str
        Of its parts.

    Returns
    -------
    list of float or None
        Seconds, round by round; None of a part that is not to be compared with the first one.
    """
    part, first = (record["parts"][each] for each in (name, ONE_REPETITION))
    if part["repetitions"] == 1 or not part["flushed"]:
        return None
    return [
        (all_seconds - first_seconds) / (part["repetitions"] - 1)
        for all_seconds, first_seconds in zip(part["seconds"], first["seconds"], strict=True)
    ]


def work_title(record):
    """What was done."""
    work = record["work"]
    function, _, direction = work.rpartition("_")
    if "version" in record:  # of a kernel that is tried
        function += f" version {record['version']}"
    models = {
        "forward": "AlbertModel, forward",
        "training": "AlbertForMaskedLM, loss and gradients",
    }
    return models.get(work) or (f"{function}, {direction}" if function else work)


def batch_title(record):
    """On what: B×S, and which text."""
    shape = f"{record['batch_size']}×{record['sequence_length']}"
    if record.get("text"):
        tokens = record["batch_size"] * record["sequence_length"]
        shape += f" of {record['text']['file']}, {record['tokens']} of {tokens} tokens real"
    return shape


def title(record):
    """What was done, by which model if that varies, and on what."""
    size = ""
    if "size" in record:
        layers, all_layers = record["layers"], record["layers_of_size"]
        cut = f" with {layers} of its {all_layers} layers" if layers < all_layers else ""
        size = f", {record['size']}{cut}"
    detail = f", {record['detail']}" if "detail" in record else ""
    return f"{work_title(record)}{size}, {batch_title(record)}{detail}"
