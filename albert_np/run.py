"""How one call of a model is run."""

from collections.abc import Callable
from typing import NamedTuple

from albert_np.functions import calling
from albert_np.functions.dropout import Dropout
from albert_np.functions.packing import unpack_forward


class Run(NamedTuple):
    """How one call of a model is run: what every part of the composition needs to know.

    Attributes
    ----------
    config : AlbertConfig
    schedule : tuple of tuple of (int, int)
        The layer schedule.
    backend : Backend
        The functions to use.
    seed : int or None
        Draws the dropout masks; None for no dropout.
    output_attentions, output_hidden_states : bool
        Whether to keep these.
    plain_attention : bool
        Whether attention is the plain pairs'; see `needs_plain_attention`.
    packed : PackedBatch or None
        Where the tokens lie, if the batch is packed; arrays are then (T, …) where they would be
        (B, S, …).
    keep : bool
        Whether a backward pass will follow.
    checkpoint_every : int or None
        How many repetitions make a segment, of which only what entered it is kept, and backward
        computes the rest again; None to keep it all.
    loss_only : bool
        Whether heads may leave out what the loss does not need.
    labelled : tuple of integer array, or None
        The places of the labelled tokens, where `loss_only`; see `labelled_places`.
    call : callable
        Runs each function; see `albert_np.functions.calling`.
    """

    config: object
    schedule: tuple
    backend: object
    seed: object = None
    output_attentions: bool = False
    output_hidden_states: bool = False
    plain_attention: bool = False
    packed: object = None
    keep: bool = False
    checkpoint_every: object = None
    loss_only: bool = False
    labelled: object = None
    call: Callable = calling.call

    def within(self, name):
        """The same run, for a part of the model whose functions' names start with `name.`."""
        return self._replace(call=calling.within(self.call, name))

    def unpacked(self, x):
        """Tokens in their places, (B, S, …), whether the batch is packed or not."""
        if self.packed is None:
            return x
        y, _ = unpack_forward(x, self.packed)
        return y

    def dropout(self, probability, site, packed=None):
        """The dropout at one site, or None where nothing is to be dropped."""
        if self.seed is None or probability == 0:
            return None
        return Dropout(probability, self.seed, site, packed)
