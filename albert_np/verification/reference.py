"""The reference: every tensor of a case, by name, in order of computation."""

import numpy as np

from albert_np.verification.precision import RoundedTrace, get_precision, map_arrays

# Arguments of a call that would change what it returns, not what is right.
SETTINGS = ("packed", "output_attentions", "output_hidden_states")


def reference(case, dtype="float64"):
    """Run the model, and give everything that it is made of and computes.

    Parameters
    ----------
    case : Case
    dtype : {"float64", "float32", "float16", "bfloat16"}, optional
        What is computed in; the result of every operation is rounded to it.

    Returns
    -------
    tensors : dict of str to array
        parameters/NAME, inputs/NAME, forward/OPERATION, outputs/NAME, backward/OPERATION (the
        gradient of the loss with respect to what the operation returns) and gradients/NAME; in this
        order, and in order of computation. Of an operation with several outputs each is there,
        forward/OPERATION.OUTPUT.

    Raises
    ------
    ValueError, TypeError
        As a call of the model does.
    """
    return tensors_of(case, traced(case, dtype))


def traced(case, dtype="float64", generator=None):
    """Run the model, forward and, where the case says with which gradient, backward.

    Parameters
    ----------
    case : Case
    dtype : {"float64", "float32", "float16", "bfloat16"}, optional
    generator : numpy.random.Generator, optional
        See `RoundedTrace`.

    Returns
    -------
    RoundedTrace

    Raises
    ------
    ValueError
        If the case asks for something else than the outputs of a padded batch.
    """
    for name in SETTINGS:
        if case.inputs.get(name):
            raise ValueError(f"{name} is {case.inputs[name]!r}; the reference takes none")
    precision = get_precision(dtype)
    trace = RoundedTrace(precision=precision, generator=generator)
    model = rounded_model(case, precision)
    trace.parameters = model.parameters
    model._record(trace, case.gradients, case.arguments)
    trace.gradients = map_arrays(precision.rounded, trace.gradients)
    return trace


def rounded_model(case, precision):
    """The model of a case, its parameters rounded to a precision.

    Parameters
    ----------
    case : Case
    precision : Precision

    Returns
    -------
    AlbertPreTrainedModel
    """
    model = case.model(precision.computed_in)
    for array in model.parameters.values():
        array[...] = precision.rounded(array)
    return model


def tensors_of(case, trace):
    """Everything in a trace, by name: see `reference`.

    Parameters
    ----------
    case : Case
    trace : Trace
        Of the case.

    Returns
    -------
    dict of str to array
    """
    tensors = {f"parameters/{name}": array for name, array in trace.parameters.items()}
    for name, value in case.inputs.items():
        if value is not None:
            tensors[f"inputs/{name}"] = np.asarray(value)
    for operation in trace:
        for output, array in operation.outputs.items():
            tensors[f"forward/{tensor_name(operation, output)}"] = array
    for name in _outputs_in_order(trace):
        tensors[f"outputs/{name}"] = trace.outputs[name]
    if trace.gradients is None:
        return tensors
    for operation in reversed(trace.operations):
        for output, array in (operation.output_gradients or {}).items():
            tensors[f"backward/{tensor_name(operation, output)}"] = array
    tensors["gradients/inputs_embeds"] = trace.gradients.inputs_embeds
    for name, array in trace.gradients.parameters.items():
        tensors[f"gradients/{name}"] = array
    return tensors


def _outputs_in_order(trace):
    """The names of the outputs as they are computed: a call returns the loss first."""
    places = {
        id(array): place
        for place, operation in enumerate(trace)
        for array in operation.outputs.values()
    }
    return sorted(trace.outputs.keys(), key=lambda name: places[id(trace.outputs[name])])


def tensor_name(operation, output):
    """The name of an operation's output; the operation's own, where there is but one."""
    return operation.name if output == "y" else f"{operation.name}.{output}"
