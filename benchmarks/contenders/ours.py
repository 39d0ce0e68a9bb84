"""albert_np: its models, and the functions of its back ends or of a file of the user's own."""

import inspect
from dataclasses import replace
from functools import partial

import numpy as np

from albert_np import AlbertForMaskedLM, AlbertModel
from albert_np.backend import NUMPY, get_backend
from benchmarks import added
from benchmarks.contenders import Task
from benchmarks.contenders.arguments import arguments_of, split_work
from benchmarks.functions import DIRECTIONS, FUNCTIONS


def load(settings):
    """A model's work or a function's, as `settings["work"]` says."""
    if settings["work"] in WORKS:
        return WORKS[settings["work"]](settings)
    return partial(bind_function, settings)


def load_forward(settings):
    """AlbertModel, forward."""
    model = load_model(AlbertModel, settings)

    def bind(batch):
        inputs = {name: array for name, array in batch.items() if name != "labels"}
        return Task(lambda: model(**inputs, **settings["arguments"]), dict)

    return bind


def load_training(settings):
    """AlbertForMaskedLM, its loss and gradients."""
    model = load_model(AlbertForMaskedLM, settings)

    def bind(batch):
        return Task(
            lambda: model.loss_and_gradients(**batch, **settings["arguments"]),
            lambda returned: {"loss": returned[0], **returned[1].parameters},
        )

    return bind


WORKS = {"forward": load_forward, "training": load_training}


def load_model(model_class, settings):
    return model_class.from_pretrained(
        settings["directory"], dtype=settings["dtype"], backend=settings["backend"]
    )


def backend_of(settings):
    """The back end or, of the reference's functions, those that a file of the user's replaces."""
    if "added" in settings:
        return replace(NUMPY, **added.load(settings["added"]))
    return get_backend(settings["backend"])


def bind_function(settings, batch):
    """One function, forward or backward, alone."""
    function, direction = split_work(settings["work"])
    backend = backend_of(settings)
    pair = [getattr(backend, f"{function}_{each}") for each in DIRECTIONS]
    dy = batch["dy"].astype(settings["dtype"])
    return task_of(function, direction, pair, arguments_of(batch, settings["dtype"]), dy)


def task_of(function, direction, pair, arguments, dy, zeros_like=np.zeros_like):
    """One direction of a pair of functions, on arrays of whatever library they are from.

    Parameters
    ----------
    function : str
        Of FUNCTIONS.
    direction : {"forward", "backward"}
    pair : (callable, callable)
        Of the names and arguments of the reference.
    arguments : dict
        Forward's.
    dy : array
        What backward is given.
    zeros_like : callable, optional
        Of the arrays' library, where that does not answer NumPy's functions.

    Returns
    -------
    Task
    """
    forward, backward = pair
    if direction == "forward":
        if "keep" in inspect.signature(forward).parameters:
            forward = partial(forward, keep=False)  # as PyTorch's, in inference mode
        return Task(lambda: forward(**arguments), lambda returned: {"y": returned[0]})
    described = FUNCTIONS[function]
    _, cache = forward(**arguments)
    slots = tuple(zeros_like(arguments[name]) for name in described.parameters)
    into = {"into": slots} if slots else {}

    def outputs(returned):
        gradients = (returned,) if len(described.gradients) == 1 else returned
        return dict(zip(described.gradients, gradients, strict=True))

    return Task(lambda: backward(dy, cache, **into), outputs)
