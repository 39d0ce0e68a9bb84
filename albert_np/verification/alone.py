"""Each operation alone: its inputs taken from the candidate, so that only its own error is left.

What the candidate does not have is computed from what it has. So the error of a tensor is that of
the operations which lie between it and the candidate's nearest tensors before it. Masked scores
are always computed, since they may be as low as one likes: how low the candidate's are shows in
the softmax, which is judged together with the mask.

Backward, the gradient of a tensor is the sum of what the operations that read it give back, each
from the candidate's gradients of its outputs and the candidate's values of its inputs.
"""

from typing import NamedTuple

import numpy as np

from albert_np.verification.graph import assemble, gradient_name, take_apart
from albert_np.verification.noise import (
    DRAWS,
    SMALL,
    combined,
    deviation,
    errors_between,
    has_masked_scores,
    is_hidden,
)
from albert_np.verification.precision import CONTEXT, SOFTMAX, map_arrays


class Alone(NamedTuple):
    """The error of the operations between a tensor and the candidate's tensors before it.

    Attributes
    ----------
    name : str
        The tensor.
    errors : Errors
    floor : Floor or None
        The noise of these operations alone, on the candidate's inputs; None where the draws do not
        show it (`is_hidden`).
    operations : tuple of str
        Forward, those that lie between. Backward, those whose derivatives do.
    """

    name: str
    errors: object
    floor: object
    operations: tuple


class Value(NamedTuple):
    """A tensor as the operations after it read it.

    Attributes
    ----------
    exact : array
        The candidate's; or computed, in float64, from the candidate's.
    draws : list of array, or None
        The same with the rounding errors of the candidate's precision; None for the candidate's
        own.
    operations : tuple of str
        Those that lie between it and the candidate's; none for the candidate's own.
    """

    exact: object
    draws: object
    operations: tuple


class Walk:
    """The operations of a graph, run one by one on the candidate's tensors.

    Parameters
    ----------
    graph : Graph
    parameters : dict of str to array
        Those of the case, by their names there, for what the candidate does not have.
    candidate : dict of str to array
        Finite arrays by the names of the reference, of the shapes there.
    precision : Precision
    """

    def __init__(self, graph, parameters, candidate, precision):
        self.graph = graph
        self.candidate = candidate
        self.precision = precision
        self.generator = np.random.default_rng(0)
        self.dcontext = {}  # by the name of the operation
        self.values = {}
        for name, array in parameters.items():
            full_name = f"parameters/{name}"
            exact = candidate.get(full_name, array)
            self.values[full_name] = Value(exact, [precision.rounded(exact)] * DRAWS, ())

    def forward(self, track):
        """Run the operations in order.

        Parameters
        ----------
        track : callable
            Wraps an iterable, to show how far it is.

        Yields
        ------
        Alone
            For each tensor that the candidate has.
        """
        for node in track(self.graph.nodes):
            operation = node.operation
            sources = self._sources(node)
            sizes = [array.size for array in _arrays(operation.outputs.values())]
            between = _between(operation.name, sources)
            exact = operation.run(**self._inputs(node))
            draws = [
                operation.run(**self._inputs(node, draw))
                for draw in range(self._count(sources, sizes, node.outputs.values()))
            ]
            for output, name in node.outputs.items():
                of_output = _repeated([self._result(one[output]) for one in draws])
                yield from self._meet(name, Value(exact[output], of_output, between))

    def backward(self, track):
        """Run their derivatives in reverse order; after `forward`.

        Parameters
        ----------
        track : callable

        Yields
        ------
        Alone
            For each gradient that the candidate has.
        """
        sums = {
            name: Value(seed, [self.precision.rounded(seed)] * DRAWS, ())
            for name, seed in self.graph.seeds.items()
        }
        for node in track(self.graph.nodes[::-1]):
            incoming = {}
            for output, name in node.outputs.items():
                if name in sums:
                    gradient = gradient_name(name)
                    yield from self._meet(gradient, sums.pop(name))
                    incoming[output] = self.values.pop(gradient)
            if incoming:
                for name, value in self._given_back(node, incoming):
                    sums[name] = _added(sums[name], value) if name in sums else value
        for name, value in sums.items():
            yield from self._meet(gradient_name(name), value)

    def _given_back(self, node, incoming):
        """What an operation gives back to the tensors that it reads: pairs of name and Value."""
        operation = node.operation
        targets = {
            argument: names for argument, names in node.sources.items() if gradient_name(names[0])
        }
        if not targets:
            return
        sizes = [
            part.size
            for argument, names in targets.items()
            for part in take_apart(operation.inputs[argument], len(names))
        ]
        between = _between(operation.name, incoming.values())
        gradients = [gradient_name(name) for names in targets.values() for name in names]
        count = self._count([*self._sources(node), *incoming.values()], sizes, gradients)
        exact = operation.pullback(
            {output: _exact(value) for output, value in incoming.items()}, **self._inputs(node)
        )
        draws = [
            operation.pullback(
                {output: self._draw(value, draw) for output, value in incoming.items()},
                **self._inputs(node, draw),
            )
            for draw in range(count)
        ]
        if operation.name.endswith(CONTEXT):
            self.dcontext[operation.name] = _exact(incoming["y"])
        elif operation.name.endswith(SOFTMAX):
            draws = [self._with_another_row_sum(node, one) for one in draws]
        for argument, names in targets.items():
            parts = take_apart(exact[argument], len(names))
            parts_of_draws = [take_apart(one[argument], len(names)) for one in draws]
            for place, name in enumerate(names):
                of_part = _repeated([self._result(one[place]) for one in parts_of_draws])
                yield name, Value(parts[place], of_part, between)

    def _with_another_row_sum(self, node, gradients):
        """A softmax's gradients with the errors of another sum, if its context has a gradient."""
        context = node.operation.name.replace(SOFTMAX, CONTEXT)
        if context not in self.dcontext:
            return gradients
        (argument,) = gradients
        dscores = self.precision.with_another_row_sum(
            gradients[argument],
            _exact(self.values[node.outputs["y"]]),
            _exact(self.values[f"forward/{context}"]),
            self.dcontext[context],
            self.generator,
        )
        return {argument: dscores}

    def _meet(self, name, value):
        """Keep a tensor: the candidate's, which is compared with it, where it has one."""
        names = [name, *self.graph.aliases.get(name, ())]
        kept = value
        for given_name in names:
            if given_name in self.candidate:
                given = self.candidate[given_name].reshape(np.shape(value.exact))
                errors = errors_between(given, value.exact)
                floor = self._floor(value, errors)
                yield Alone(given_name, errors, floor, value.operations)
                if not has_masked_scores(value.exact):
                    kept = Value(given, None, ())
        self.values[name] = kept

    def _floor(self, value, errors):
        floors = [deviation(draw, value.exact) for draw in _distinct(value.draws)]
        if is_hidden(floors, errors, np.size(value.exact)):
            return None
        return combined(floors).at_least(self.precision.unit_roundoff, errors)

    def _sources(self, node):
        names = [name for names in node.sources.values() for name in names]
        return [self.values[name] for name in names if name in self.values]

    def _inputs(self, node, draw=None):
        """What an operation is given: exactly, or in one draw of the candidate's precision."""
        inputs = {}
        for argument, recorded in node.operation.inputs.items():
            names = node.sources.get(argument, ())
            if names and names[0] in self.values:
                values = [self.values[name] for name in names]
                items = [_exact(v) if draw is None else self._draw(v, draw) for v in values]
                inputs[argument] = assemble(recorded, items)
            elif draw is not None:
                inputs[argument] = map_arrays(self.precision.rounded, recorded)
        return inputs

    def _draw(self, value, draw):
        if value.draws is not None:
            return value.draws[draw]
        rounded = self.precision.rounded(value.exact)
        return self.precision.rounded(self.precision.with_another_error(rounded, self.generator))

    def _result(self, array):
        """A result with one more rounding error, so that results in float64 have one at all."""
        rounded = self.precision.rounded(np.asarray(array))
        return self.precision.rounded(self.precision.with_another_error(rounded, self.generator))

    def _count(self, sources, sizes, names):
        """How many draws an operation needs: one, if large and all taken from the candidate."""
        own = all(not value.operations for value in sources)
        has_all = all(self._has(name) for name in names)
        return 1 if own and has_all and min(sizes) >= SMALL else DRAWS

    def _has(self, name):
        return any(given in self.candidate for given in (name, *self.graph.aliases.get(name, ())))


def _between(name, sources):
    """The operations between a result and the candidate's tensors, the last one first."""
    return tuple(dict.fromkeys([name, *(other for v in sources for other in v.operations)]))


def _exact(value):
    """In float64, masked scores finite, as the reference has them."""
    largest = np.finfo(np.float64).max
    return np.clip(np.asarray(value.exact, np.float64), -largest, largest)


def _arrays(values):
    for value in values:
        yield from value if isinstance(value, list) else [value]


def _repeated(draws):
    return draws * (DRAWS // len(draws))


def _distinct(draws):
    return list({id(draw): draw for draw in draws}.values())


def _added(one, other):
    """The sum of two contributions to one gradient; draws that are the same are added once."""
    draws, known = [], {}
    for a, b in zip(one.draws, other.draws, strict=True):
        if (id(a), id(b)) not in known:
            known[id(a), id(b)] = a + b
        draws.append(known[id(a), id(b)])
    operations = tuple(dict.fromkeys([*one.operations, *other.operations]))
    return Value(one.exact + other.exact, draws, operations)
