"""Which tensor is computed from which: a trace's operations, joined by the names of their arrays.

The names are those of `albert_np.verification.reference`.
"""

from typing import NamedTuple

import numpy as np

from albert_np.verification.reference import tensor_name

WORD_EMBEDDINGS = "embeddings.word_embeddings"


class Node(NamedTuple):
    """One operation, and where its arrays come from and go to.

    Attributes
    ----------
    operation : Operation
    sources : dict of str to tuple of str
        For each argument that is an array, the names of the tensors that it is: one; those of the
        chunks of a sequence; or the query, key and value weights, which are stacked.
    outputs : dict of str to str
        The name of the tensor that each output is.
    """

    operation: object
    sources: dict
    outputs: dict


class Graph(NamedTuple):
    """The operations of a trace, in order of computation.

    Attributes
    ----------
    nodes : list of Node
    aliases : dict of str to tuple of str
        The other names of a tensor: forward/OPERATION is outputs/NAME too.
    seeds : dict of str to array
        The gradients that the backward pass begins with, by the forward tensor that each is of.
    """

    nodes: list
    aliases: dict
    seeds: dict


def graph_of(case, trace):
    """Join the operations of a trace by the arrays that they share.

    Parameters
    ----------
    case : Case
    trace : RoundedTrace
        Of the case.

    Returns
    -------
    Graph
    """
    names = _entering(trace)
    nodes = []
    for operation in trace:
        sources = {}
        for argument, value in operation.inputs.items():
            items = value if isinstance(value, list) else [value]
            found = [_names_of(case, argument, item, names) for item in items]
            if all(found):
                sources[argument] = tuple(name for of_item in found for name in of_item)
        outputs = {
            output: f"forward/{tensor_name(operation, output)}" for output in operation.outputs
        }
        names |= {id(operation.outputs[output]): (name,) for output, name in outputs.items()}
        nodes.append(Node(operation, sources, outputs))
    outputs = {}
    for name in trace.outputs.keys():  # noqa: SIM118 (iterating gives the values)
        (outputs[f"outputs/{name}"],) = names[id(trace.outputs[name])]
    aliases = {forward: (name,) for name, forward in outputs.items()}
    for node in nodes:
        if node.operation.name.endswith(WORD_EMBEDDINGS):
            (name,) = node.outputs.values()
            aliases[gradient_name(name)] = ("gradients/inputs_embeds",)
    return Graph(nodes, aliases, _seeds(case, outputs))


def gradient_name(name):
    """The name of a tensor's gradient; None for a tensor that has none.

    Parameters
    ----------
    name : str

    Returns
    -------
    str or None
    """
    part, _, rest = name.partition("/")
    if name == "inputs/inputs_embeds":
        return "gradients/inputs_embeds"
    return {"forward": f"backward/{rest}", "parameters": f"gradients/{rest}"}.get(part)


def assemble(recorded, values):
    """An argument of an operation from the tensors that it is: see `Node.sources`."""
    if isinstance(recorded, list):
        return values
    return values[0] if len(values) == 1 else np.concatenate(values)


def take_apart(gradient, count):
    """The reverse of `assemble`, for the gradient of an argument that is so many tensors."""
    if isinstance(gradient, list):
        return gradient
    return [gradient] if count == 1 else np.split(gradient, count)


def _entering(trace):
    """The names of what enters the model, by the identity of the arrays."""
    names = {}
    stacked = {}
    for name, array in trace.parameters.items():
        names[id(array)] = (f"parameters/{name}",)
        if array.base is not None:
            stacked.setdefault(id(array.base), []).append(f"parameters/{name}")
    names |= {base: tuple(parts) for base, parts in stacked.items()}
    for name, value in trace.arguments.items():
        if hasattr(value, "dtype"):
            names[id(value)] = (f"inputs/{name}",)
    return names


def _names_of(case, argument, value, names):
    """The names of the tensors that a value is; none if it is a setting."""
    if not hasattr(value, "dtype"):  # which a number that NumPy has computed has too
        return ()
    found = names.get(id(value), ())
    if not found and argument in case.inputs:  # a part of an input, such as a layer's head mask
        found = (f"inputs/{argument}",)
    return tuple(
        name
        for name in found
        if not name.startswith("inputs/") or name.removeprefix("inputs/") in case.inputs
    )


def _seeds(case, outputs):
    if case.gradients is True:
        return {outputs["outputs/loss"]: np.ones(())}
    return {
        outputs[f"outputs/{name}"]: np.asarray(gradient, np.float64)
        for name, gradient in (case.gradients or {}).items()
    }
