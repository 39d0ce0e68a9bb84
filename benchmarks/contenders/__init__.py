"""Contenders: what is timed, each in a process of its own.

    python -m benchmarks.contenders '{"implementation": "albert_np", "work": "forward", ...}'

A module for each implementation: ours, the peers, the roofs. Each has a function
`load(settings)`, which prepares what every batch has in common and returns `bind`; `bind(batch)`,
of arrays by name, returns a `Task`.
"""

from collections.abc import Callable
from typing import NamedTuple


class Task(NamedTuple):
    """A piece of work, ready to run.

    `run()` does it, and returns what it likes; `outputs` makes of that arrays by name, which are
    compared and not timed. A run does the work `count` times.
    """

    run: Callable
    outputs: Callable
    count: int = 1
