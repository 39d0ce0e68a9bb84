"""Whether the shared layer's weights stay in the L2 cache from one repetition to the next.

Recorded forward passes of one repetition and of all: their difference is what the later ones take,
without the embeddings, the launch and the first reading of the weights. The same pass with weights
of its own for each repetition, together larger than the cache, reads them from memory every time
and is otherwise the same. Weights that are read faster than memory is copied, or faster than that
pass reads its own, come from the cache.
"""

from typing import NamedTuple

import numpy as np

from albert_np import AlbertConfig
from albert_np.config import SIZES
from benchmarks.correct import errors_of
from benchmarks.cuda import model
from benchmarks.cuda.measure import ROUNDS, allowed_error
from benchmarks.figures import ONE_REPETITION, OWN_WEIGHTS
from benchmarks.turns import take_turns
from benchmarks.work import attention_products, layer_products, product_operations

SHARED, WARM = "shared weights", "shared weights, cache not flushed"
SIZE, SHAPE = "base", (1, 128)  # the case of the lowest latency


class CacheCase(NamedTuple):
    """Recorded forward passes of `AlbertModel`; `settings` are those of its configuration."""

    size: str
    settings: dict
    batch_size: int
    sequence_length: int
    dtype: str

    @property
    def models(self):
        """The models whose passes are compared: `ModelCase`s by name."""
        changes = {
            ONE_REPETITION: {"num_hidden_layers": 1},
            SHARED: {},
            OWN_WEIGHTS: {"num_hidden_groups": self.settings["num_hidden_layers"]},
        }
        shape = self.batch_size, self.sequence_length
        return {
            name: model.ModelCase(
                "forward", self.size, AlbertConfig(**self.settings | change), *shape, self.dtype
            )
            for name, change in changes.items()
        }

    @property
    def named(self):
        """What a record of results says of the case: of one repetition, operations and bytes."""
        case = self.models[SHARED]
        config, lengths = case.config, case.batch.lengths
        products = layer_products(config, sum(lengths)) + attention_products(config, lengths)
        operations = product_operations(products)
        return case.named | {
            "work": "repetitions",
            "operations": operations,
            "padded_operations": operations,
            "weights_bytes": layer_weights(config) * np.dtype(self.dtype).itemsize,
        }


def layer_weights(config):
    """How many parameters one repetition reads: those of the products, biases and layer norms."""
    H, I = config.hidden_size, config.intermediate_size  # noqa: E741
    return 4 * H * H + 2 * H * I + 9 * H + I


def cache_cases():
    """The one case."""
    return [CacheCase(SIZE, SIZES[SIZE], *SHAPE, model.DTYPE)]


def measure(case, machine, roofs, progress=lambda name: None):
    """Check each pass, then time it behind a copy that fills the cache; the shared one warm too.

    Parameters
    ----------
    case : CacheCase
    machine, roofs, progress
        As for `benchmarks.cuda.measure.measure`.

    Returns
    -------
    dict
        What is needed, the size of the cache, and the `parts`: of each pass how many `repetitions`
        it has, whether the cache was `flushed` before it, and its `seconds`; and a copy.

    Raises
    ------
    ValueError
        If a pass is wrong.
    """
    parts, turns = {}, {}
    for name, each in case.models.items():
        progress(f"{name}, check")
        run = checked_pass(name, each, machine)
        turns[name] = machine.clock.flushed_turn_of(run)
        parts[name] = {"repetitions": each.config.num_hidden_layers, "flushed": True}
        if name == SHARED:
            turns[WARM] = machine.clock.turn_of([run])
            parts[WARM] = parts[SHARED] | {"flushed": False}
    roof_turns, needed = roofs(case.dtype)
    turns["copy"], parts["copy"] = roof_turns["copy"], needed["copy"]
    timings = take_turns(turns, ROUNDS, progress)
    return case.named | {
        "l2_bytes": machine.facts["l2_bytes"],
        "parts": {name: part | timings[name] for name, part in parts.items()},
    }


def checked_pass(name, case, machine):
    """The recorded pass of a model, once it is as near to float64 as rounding allows."""
    with model.files_of(case) as files:
        reference, floors = model.reference_of(case, files)
        task = model.bind_ours(case, files, machine, captured=True)
    error = max(errors_of(task.outputs(task.run()), reference, case.dtype).values())
    allowed = allowed_error(case, floors)
    if not error <= allowed:
        raise ValueError(f"the pass with {name} is off by {error:.1e}; {allowed:.1e} is rounding")
    return task.run
