"""A trace: every operation of a call, in order, with what went in and what came out."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from albert_np.functions.accumulate import accumulate


@dataclass
class Operation:
    """One call of one plain function, complete enough to be run again alone.

    Attributes
    ----------
    name : str
        Where it stands in the model, such as "albert.encoder.layers.3.attention.self.softmax".
    function : callable
        The forward function, such as `softmax_forward`.
    inputs : dict
        Its arguments by the names of its parameters: arrays and settings.
    outputs : dict of str to array
        {"y": array}; or, of a function with several outputs, each under its name, and the chunks
        of a sequence under "0", "1", ….
    output_gradients, input_gradients : dict of str to array, or None
        The gradients that came in from above and went out below: of each output, and of each
        floating input (this use of it alone, where a parameter is shared).
    """

    name: str
    function: Callable
    inputs: dict
    outputs: dict
    output_gradients: dict | None = None
    input_gradients: dict | None = None

    def run(self, **replaced):
        """Run the operation again, alone.

        Parameters
        ----------
        **replaced
            Inputs to use in place of those recorded.

        Returns
        -------
        outputs : dict of str to array
        """
        y, _ = self.function(**self._arguments(replaced))
        return _by_name(y)

    def pullback(self, output_gradients, **replaced):
        """Run the operation again, alone, forward and backward.

        Parameters
        ----------
        output_gradients : dict of str to array
            One for each output.
        **replaced
            Inputs to use in place of those recorded.

        Returns
        -------
        input_gradients : dict of str to array
        """
        if output_gradients.keys() != self.outputs.keys():
            raise TypeError(
                f"gradients of {list(output_gradients)} were given; "
                f"the outputs of {self.name} are {list(self.outputs)}"
            )
        arguments = self._arguments(replaced)
        y, cache = self.function(**arguments)
        dy = _like(y, output_gradients)
        return _gradients_by_name(arguments, backward_of(self.function)(dy, cache))

    def _arguments(self, replaced):
        unknown = replaced.keys() - self.inputs.keys()
        if unknown:
            raise TypeError(
                f"{self.name} has no input {min(unknown)!r}; it has {list(self.inputs)}"
            )
        return self.inputs | replaced


@dataclass
class Trace:
    """The operations of one call, in the order in which forward ran them.

    A trace is also read by name: `trace["albert.pooler.tanh"]`.

    Attributes
    ----------
    operations : list of Operation
    arguments : dict
        What the call was given, checked and completed: arrays by name.
    outputs : ModelOutput
        What the call returned.
    gradients : Gradients or None
        Of the whole model, where they were asked for.
    """

    operations: list = field(default_factory=list)
    arguments: dict = field(default_factory=dict)
    outputs: object = None
    gradients: object = None

    def __iter__(self):
        return iter(self.operations)

    def __len__(self):
        return len(self.operations)

    def __getitem__(self, name):
        for operation in self.operations:
            if operation.name == name:
                return operation
        raise KeyError(f"no operation is named {name!r}")

    def record(self, name, function, *arguments, **settings):
        """Run a function for a composition and write down what it did.

        This is a `call` in the sense of `albert_np.functions.calling`. A composition of plain
        pairs, which takes a `call` of its own, is looked into instead.
        """
        if "call" in signature_of(function).parameters:

            def call_inside(step, *args, **kwargs):
                return self.record(f"{name}.{step}", *args, **kwargs)

            return function(*arguments, **settings, call=call_inside)
        if function.__name__.endswith("_backward"):
            return self._record_backward(name, function, *arguments, **settings)
        bound = signature_of(function).bind(*arguments, **settings)
        bound.apply_defaults()
        y, cache = self.compute(name, function, *arguments, **settings)
        self.operations.append(Operation(name, function, bound.arguments, _by_name(y)))
        return y, cache

    def compute(self, name, function, *arguments, **settings):
        """Run a plain function, forward or backward; a kind of trace may do it differently."""
        return function(*arguments, **settings)

    def _record_backward(self, name, function, dy, cache, into=None):
        """Record gradients as one use makes them, then add them to their slots as asked."""
        gradients = self.compute(name, function, dy, cache)
        operation = self[name]
        operation.output_gradients = _by_name(dy)
        operation.input_gradients = _gradients_by_name(operation.inputs, gradients)
        if into is None:
            return gradients
        if not isinstance(gradients, tuple):
            return accumulate((gradients,), into)[0]
        first_parameter = len(gradients) - len(into)
        return gradients[:first_parameter] + accumulate(gradients[first_parameter:], into)


signature_of = cache(inspect.signature)  # which takes longer than many a small function


def backward_of(function):
    """The backward function that stands beside a forward function."""
    name = function.__name__.removesuffix("_forward") + "_backward"
    return getattr(sys.modules[function.__module__], name)


def _by_name(y):
    """{"y": array}, the fields of a named tuple of arrays, or the items of a list of arrays."""
    if isinstance(y, list):
        return {str(i): item for i, item in enumerate(y)}
    return y._asdict() if hasattr(y, "_asdict") else {"y": y}


def _like(y, named):
    """What `_by_name` named, put together again as `y` is."""
    if isinstance(y, list):
        return [named[name] for name in _by_name(y)]
    return type(y)(**named) if hasattr(y, "_asdict") else named["y"]


def _gradients_by_name(inputs, gradients):
    """Match a backward function's results with the floating inputs that they belong to."""
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    names = [name for name, value in inputs.items() if _is_floating_array(value)]
    present = [gradient for gradient in gradients if gradient is not None]
    return dict(zip(names, present, strict=True))


def _is_floating_array(value):
    if isinstance(value, list):  # the chunks of a sequence
        return all(map(_is_floating_array, value))
    return hasattr(value, "dtype") and value.dtype.kind in "fc"
