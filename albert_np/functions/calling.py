"""The one way in which a composition runs a function, so that it can be watched.

Every composition of plain pairs takes an optional `call` and runs each of its steps through it:

    y, cache = call("attention.dense", linear_forward, x, weight, bias)

`call` is free to do more than that (record the step, run another function in its place); the
composition neither knows nor cares. That is how `model.trace` sees every intermediate of the
model, with no second copy of the model.
"""


def call(name, function, *arguments, **settings):
    """Run `function`, and do nothing else: the default for every composition."""
    return function(*arguments, **settings)


def within(outer_call, prefix):
    """Return a `call` whose names are `prefix.name`."""

    def inner_call(name, function, *arguments, **settings):
        return outer_call(f"{prefix}.{name}", function, *arguments, **settings)

    return inner_call
