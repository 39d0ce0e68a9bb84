"""The graph of the model as a drawing: a column for each part, a box for each tensor.

The left half of a box is the tensor, the right half its gradient, each coloured by its error over
the noise. Lines lead from a tensor to those that are computed from it.
"""

import math
import re
from typing import NamedTuple

from albert_np.verification.graph import gradient_name
from albert_np.verification.noise import LIMIT

COLUMN, WIDTH, ROW, HEIGHT, TOP, LEFT = 172, 136, 34, 22, 34, 10
MISSING = "#e4e6eb"
# Up to how many times the noise, the colour, and the words for it; told apart by the colour-blind.
LEGEND = (
    (1, "#c6dbef", "at most the noise"),
    (LIMIT, "#6baed6", f"up to {LIMIT} times: rounding"),
    (1e3, "#fdae6b", "up to 1000 times"),
    (1e6, "#e6550d", "up to a million times"),
    (math.inf, "#8c1d04", "more"),
)
PART = re.compile(r"(?:albert\.)?(?:(embeddings)|encoder\.layers\.(\d+)|(encoder|pooler))\.(.*)")


class Box(NamedTuple):
    """A tensor of the forward pass in the drawing."""

    name: str
    label: str
    x: int
    y: int
    forward: object  # Row, or None
    backward: object


class Picture(NamedTuple):
    """What is drawn: boxes, lines (paths of SVG), and the columns' titles, (x, text)."""

    boxes: list
    lines: list
    titles: list
    width: int
    height: int


def colour(row):
    """The colour of a tensor's error; grey where the candidate has none."""
    if row is None:
        return MISSING
    multiple = max(row.multiple, 0)
    return next((shade for limit, shade, _ in LEGEND if multiple <= limit), LEGEND[-1][1])


def picture_of(comparison):
    """Lay out the model's graph.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    Picture
    """
    rows = {row.name: row for row in comparison.rows}

    def row_of(name):
        names = (name, *comparison.aliases.get(name, ()))
        return next((rows[one] for one in names if one in rows), None)

    columns = {}
    for name in comparison.sources:
        column, label = column_of(name.removeprefix("forward/"))
        columns.setdefault(column, []).append((name, label))
    boxes = {}
    for i, members in enumerate(columns.values()):
        for j, (name, label) in enumerate(members):
            x, y = LEFT + i * COLUMN, TOP + j * ROW
            forward, backward = row_of(name), row_of(gradient_name(name))
            boxes[name] = Box(name, label, x, y, forward, backward)
    lines = [
        line_between(boxes[source], boxes[name])
        for name, sources in comparison.sources.items()
        for source in sources
        if source in boxes
    ]
    titles = [(LEFT + i * COLUMN, title) for i, title in enumerate(columns)]
    longest = max(map(len, columns.values()), default=0)
    return Picture(
        list(boxes.values()), lines, titles, LEFT + len(columns) * COLUMN, TOP + longest * ROW
    )


def column_of(operation):
    """The part of the model that an operation belongs to, and its name there."""
    match = PART.fullmatch(operation)
    if match is None:
        return "head", operation
    embeddings, layer, other, rest = match.groups()
    if layer is not None:
        return f"layer {layer}", rest.replace("attention.self.", "").replace("attention.", "att. ")
    if embeddings or other == "encoder":
        return "embeddings", rest
    return "head", f"pooler.{rest}"


def line_between(source, target):
    """A line from one box to another: straight down, around what lies between, or across."""
    x, y = source.x + WIDTH // 2, source.y + HEIGHT
    if source.x == target.x and target.y - source.y == ROW:
        return f"M{x},{y} V{target.y}"
    if source.x == target.x:
        edge, bend = source.x + WIDTH, source.x + WIDTH + 18
        start, end = source.y + HEIGHT // 2, target.y + HEIGHT // 2
        return f"M{edge},{start} C{bend},{start} {bend},{end} {edge},{end}"
    edge, end = source.x + WIDTH, target.y + HEIGHT // 2
    start, middle = source.y + HEIGHT // 2, (edge + target.x) // 2
    return f"M{edge},{start} C{middle},{start} {middle},{end} {target.x},{end}"


def bars(histogram, height=18, width=9):
    """The bars of a histogram, (x, y, height): how many elements, as a root, so that few show."""
    most = max(histogram, default=0)
    if not most:
        return []
    drawn = [math.ceil(height * math.sqrt(count / most)) for count in histogram]
    return [(i * width, height - size, size) for i, size in enumerate(drawn)]
