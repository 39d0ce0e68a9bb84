"""The reference with a mistake in it: forward is rewritten, and gradients follow.

A composition runs each function through its `call`, by name. Here `call` runs what a mistake puts
in the place of some of these functions, and writes down what was run, as a trace. The gradients
are then found from the trace alone, by each operation's own pullback in reverse order: so a
mistake says how it changes forward, and never how that changes backward.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from albert_np.backend import NUMPY
from albert_np.outputs import Gradients
from albert_np.parameters import QUERY_KEY_VALUE, under
from albert_np.schedule import layer_prefix, repetitions_of
from albert_np.trace import signature_of
from albert_np.verification.pairs import rearrange_forward, scale_forward
from albert_np.verification.precision import RoundedTrace, get_precision
from albert_np.verification.reference import rounded_model


class Site:
    """One call of one function, where a mistake is made.

    Attributes
    ----------
    name : str
        Of the operation.
    function : callable
        What the reference runs there.
    arguments : dict
        By the names of its parameters.
    whole : RewrittenTrace
        The run that the call is of: its config, batch, schedule and parameters.
    """

    def __init__(self, whole, below, name, function, arguments):
        self.whole, self._below = whole, below
        self.name, self.function, self.arguments = name, function, arguments

    def run(self, **changed):
        """The reference's function, some of its arguments changed: other mistakes see that."""
        return self._below(self.name, self.function, **self.arguments | changed)

    def replace(self, function, *arguments, **settings):
        """Another function in its place, whose output takes the operation's name."""
        return self.whole.record_as_it_is(self.name, function, *arguments, **settings)

    def step(self, name, function, *arguments, **settings):
        """The output of a function that stands at this place too, under a name of its own."""
        step = f"{self.name}.{name}"
        y, _ = self.whole.record_as_it_is(step, function, *arguments, **settings)
        return y

    def before(self, **changed):
        """The reference's output, where the mistake lies in what is done with it then."""
        y, _ = self.run(**changed)
        for operation in self.whole:
            if operation.name == self.name:
                operation.name = f"{self.name}.before"
        return y

    def keep(self, x):
        """Nothing is computed: x goes through."""
        return self.replace(scale_forward, x, 1)

    def scaled(self, factor):
        """The operation, its output multiplied by a constant."""
        return self.replace(scale_forward, self.before(), factor)

    def moved(self, **how):
        """The operation, with the entries of some arguments moved, each by a function."""
        moved = {
            name: self.step(f"moved_{name}", rearrange_forward, self.arguments[name], one)
            for name, one in how.items()
        }
        return self.run(**moved)

    def output_moved(self, how):
        """The operation, with the entries of its output moved."""
        return self.replace(rearrange_forward, self.before(), how)

    @property
    def repetition(self):
        """Which repetition of the layer this is in."""
        index = int(re.search(r"layers\.(\d+)\.", self.name)[1])
        return repetitions_of(self.whole.schedule)[index]

    @property
    def layer(self):
        """The parameters of the layer that this is in."""
        prefix = self.name.partition("encoder.")[0] + "encoder"
        return under(self.whole.parameters, f"{prefix}.{layer_prefix(*self.repetition.place)}")


class Known(NamedTuple):
    """One call of a plain function: what it was given, by name, and what it returned."""

    function: object
    arguments: dict
    returned: tuple

    def is_of(self, function, arguments):
        """Whether a call would be the same again: of the same arrays, or of equal settings."""
        return self.function is function and all(
            _is_same(value, arguments[name]) for name, value in self.arguments.items()
        )


@dataclass
class RewrittenTrace(RoundedTrace):
    """A trace of a model that makes mistakes.

    Attributes
    ----------
    model : AlbertPreTrainedModel
        Its parameters are those of the trace.
    like : RewrittenTrace or None
        A run of the same model without mistakes. What is called there with the same arguments is
        not run again.
    known : dict of str to Known
        What such a run has called, by the names of its operations.
    mistakes : sequence of Mistake
    config : AlbertConfig
    inputs : dict
        What the call is given, as it is given.
    batch : Inputs
        The same, checked and completed.
    schedule : tuple
        The layer schedule that is run.
    pending_mask : bool array, or None
        An attention mask that a mistake has not made use of yet.
    """

    model: object = None
    like: object = None
    known: dict = field(default_factory=dict)
    mistakes: tuple = ()
    config: object = None
    inputs: dict = field(default_factory=dict)
    batch: object = None
    schedule: tuple = ()
    pending_mask: object = None

    def record(self, name, function, *arguments, **settings):
        """Run a function, or what the mistakes put in its place, and write down what was run."""
        return self._record_below(len(self.mistakes), name, function, *arguments, **settings)

    def _record_below(self, level, name, function, *arguments, **settings):
        """The same, by the first so many mistakes: what one puts in place, those before see."""
        if level == 0:
            return self.record_as_it_is(name, function, *arguments, **settings)
        mistake = self.mistakes[level - 1]

        def below(*args, **kwargs):
            return self._record_below(level - 1, *args, **kwargs)

        if not mistake.is_at(name):
            return below(name, function, *arguments, **settings)
        bound = signature_of(function).bind(*arguments, **settings)
        bound.apply_defaults()
        bound.arguments.pop("call", None)
        return mistake.change(Site(self, below, name, function, bound.arguments))

    def record_as_it_is(self, name, function, *arguments, **settings):
        """Run a function with no mistake made at it, and write it down."""
        return super().record(name, function, *arguments, **settings)

    def compute(self, name, function, *arguments, **settings):
        """Run a function, or find what it returned when it was given the same."""
        if self.mistakes and self.like is None:
            return super().compute(name, function, *arguments, **settings)
        bound = signature_of(function).bind(*arguments, **settings)
        bound.apply_defaults()
        known = None if self.like is None else self.like.known.get(name)
        if known is not None and known.is_of(function, bound.arguments):
            return known.returned
        returned = super().compute(name, function, *arguments, **settings)
        if not self.mistakes:
            self.known[name] = Known(function, bound.arguments, returned)
        return returned

    def pull_back(self, output_gradients):
        """Find the gradients of every operation and parameter, from the last operation up.

        Parameters
        ----------
        output_gradients : list of (array, array)
            Each an output of the trace, and its gradient.

        Returns
        -------
        gradients : dict of int to array
            By the identity of every array that the trace knows.
        """
        parameters = {id(array): name for name, array in self.parameters.items()}
        for name, array in self.parameters.items():
            if _is_third(name):
                parameters[id(array.base)] = name
        gradients, uses = {}, {}
        for y, dy in output_gradients:
            gradients[id(y)] = gradients.get(id(y), 0) + dy
        for operation in reversed(self.operations):
            if not any(id(y) in gradients for y in operation.outputs.values()):
                continue
            operation.output_gradients = {
                name: self._rounded(gradients.get(id(y), np.zeros_like(y)))
                for name, y in operation.outputs.items()
            }
            pulled_back = operation.pullback(operation.output_gradients)
            for x, dx in _with_inputs(operation, self._given_back(operation.name, pulled_back)):
                if id(x) in parameters:
                    uses.setdefault(id(x), []).insert(0, (operation.name, dx))
                else:
                    gradients[id(x)] = gradients.get(id(x), 0) + dx
        for key, of_parameter in uses.items():
            for mistake in self.mistakes:
                if mistake.uses is not None:
                    of_parameter = mistake.uses(parameters[key], of_parameter)
            if of_parameter:
                gradients[key] = self._rounded(sum(gradient for _, gradient in of_parameter))
        return gradients


def _is_third(name):
    """Whether a parameter is one of those that lie end to end, as views of one array."""
    return name.split(".")[-2] in QUERY_KEY_VALUE


def _with_inputs(operation, gradients):
    """Each floating input of an operation with its gradient; of the chunks of a sequence, each."""
    for name, gradient in gradients.items():
        x = operation.inputs[name]
        yield from zip(x, gradient, strict=True) if isinstance(x, list) else [(x, gradient)]


def _is_same(one, other):
    """Whether two arguments are one array, or equal ids, masks or settings."""
    if one is other:
        return True
    if hasattr(one, "dtype") and hasattr(other, "dtype"):
        is_made_anew = one.dtype.kind in "iub" or one.ndim == 1  # ids, and a row of the head mask
        return is_made_anew and one.dtype == other.dtype and np.array_equal(one, other)
    return isinstance(one, bool | int | float) and type(one) is type(other) and one == other


def rewritten_trace(case, mistakes, dtype="float64", generator=None, like=None):
    """Run a model forward with mistakes in it; `differentiate` then finds the gradients.

    Parameters
    ----------
    case : Case
    mistakes : sequence of Mistake
    dtype : str, optional
        What is computed in; see `reference`.
    generator : numpy.random.Generator, optional
        See `RoundedTrace`.
    like : RewrittenTrace, optional
        A run of the same case without mistakes, of the same dtype and without a generator: what
        the mistakes leave as it is, is taken from it.

    Returns
    -------
    RewrittenTrace
    """
    precision = get_precision(dtype)
    model = like.model if like is not None else rounded_model(case, precision)
    trace = RewrittenTrace(
        precision=precision,
        generator=generator,
        model=model,
        like=like,
        parameters=model.parameters,
        mistakes=tuple(mistakes),
        config=case.config,
        inputs=case.arguments,
    )
    batch, labels, run = model._begin(
        {"packed": False} | case.arguments, backend=NUMPY, call=trace.record
    )
    for mistake in mistakes:
        if mistake.schedule is not None:
            run = run._replace(schedule=mistake.schedule(run.schedule))
    if batch.head_mask is not None:
        more = max(0, len(run.schedule) - len(batch.head_mask))  # layers than the model has
        batch = batch._replace(head_mask=np.pad(batch.head_mask, ((0, more), (0, 0)), "edge"))
    trace.batch, trace.schedule = batch, run.schedule
    trace.outputs, _ = model._run_forward(batch, labels, run)
    return trace


def differentiate(case, trace):
    """Find the gradients of a rewritten trace, where the case says with which they begin.

    Parameters
    ----------
    case : Case
    trace : RewrittenTrace
        Its operations and its `gradients` are filled in.
    """
    outputs = trace.outputs
    if case.gradients is False:
        return
    if case.gradients is True:
        begin = [(outputs.loss, np.ones_like(outputs.loss))]
    else:
        begin = [
            (outputs[name], np.asarray(gradient, outputs[name].dtype))
            for name, gradient in case.gradients.items()
        ]
    by_array = trace.pull_back(begin)
    parameters = {}
    for name, array in trace.parameters.items():
        gradient = by_array.get(id(array))
        if gradient is None and _is_third(name) and id(array.base) in by_array:
            third = QUERY_KEY_VALUE.index(name.split(".")[-2])
            gradient = np.split(by_array[id(array.base)], 3)[third]
        parameters[name] = np.zeros_like(array) if gradient is None else gradient
    words = trace.batch.inputs_embeds
    if words is None:
        words = next(
            operation.outputs["y"]
            for operation in trace
            if operation.name.endswith("embeddings.word_embeddings")
        )
    given = case.arguments.get("input_ids", case.arguments.get("inputs_embeds"))
    shape = (*np.shape(given)[: 3 if trace.batch.num_choices else 2], words.shape[-1])
    dwords = by_array.get(id(words), np.zeros_like(words))
    trace.gradients = Gradients(parameters, dwords.reshape(shape))
