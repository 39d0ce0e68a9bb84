"""A call recorded as a CUDA graph, which runs again without Python, on other numbers."""

import numpy as np

from albert_np.arrays import as_array, on_host
from albert_np.functions.cross_entropy import IGNORE_INDEX


class CapturedCall:
    """A call of a model that is run again by launching one graph.

    `captured(**inputs)` writes the arrays that it is given over those of the call before, runs the
    call, and returns what it returns: the same arrays each time, overwritten by the next run. Made
    by `AlbertPreTrainedModel.capture`.

    Parameters
    ----------
    model : AlbertPreTrainedModel
        Its parameters are read where they lie at each run: change them in place.
    run : callable
        What is recorded: takes the inputs, and returns arrays of the GPU.
    inputs : dict of str to array_like
        The arrays of the call, completed by `completed`, on the CPU or the model's GPU.
    most_labelled : int, optional
        How many tokens a later batch may label, where the loss is computed at those alone.
    """

    def __init__(self, model, run, inputs, most_labelled=None):
        self._arrays = model.backend.arrays
        self._gathered_labels, self._most_labelled = model.gathered_labels, most_labelled
        self._inputs = {name: self._arrays.copied(values) for name, values in inputs.items()}
        with self._arrays.computing():
            self._result, self._launch = self._arrays.captured(lambda: run(**self._inputs))

    def __call__(self, **inputs):
        """Run the call again.

        Parameters
        ----------
        **inputs : array_like
            Of those that were recorded, each that changes; of the same shape, and with no more
            labelled tokens where the gradients of a loss of masked words were recorded.

        Returns
        -------
        What the call returns. Where a value is out of range, or labels that are on the GPU label
        too many tokens, no result is a number.

        Raises
        ------
        TypeError, ValueError
            If there is no such input, it has another shape, or a dtype that does not become the
            recorded one, or labels too many tokens. Nothing is written then.
        """
        checked = {name: self._checked(name, values) for name, values in inputs.items()}
        for name, values in checked.items():
            self._arrays.write(self._inputs[name], values)
        self._launch()
        return self._result

    def _checked(self, name, values):
        """An input as an array; refused where the graph cannot take it."""
        if name not in self._inputs:
            raise TypeError(
                f"{name!r} was not recorded; what was is {', '.join(sorted(self._inputs))}"
            )
        values, recorded = as_array(self._arrays.given(name, values)), self._inputs[name]
        if values.shape != recorded.shape:
            raise ValueError(
                f"{name} has shape {values.shape}; the call was recorded with {recorded.shape}"
            )
        if not np.can_cast(values.dtype, recorded.dtype, "same_kind"):
            raise TypeError(
                f"{name} has dtype {values.dtype}; the call was recorded with {recorded.dtype}"
            )
        most = self._most_labelled if name == self._gathered_labels else None
        if most is not None and on_host(values):
            labelled = (values != IGNORE_INDEX).sum()
            if labelled > most:
                raise ValueError(
                    f"{name} has {labelled} labelled tokens; the call was recorded with {most}, "
                    "and takes no more"
                )
        return values


def completed(inputs):
    """The inputs of a call with the ids that it would make, so that they are not made anew.

    Parameters
    ----------
    inputs : dict of str to array_like
        By name, `input_ids` or `inputs_embeds` among them; None is left out.

    Returns
    -------
    dict of str to array_like
    """
    inputs = {name: as_array(values) for name, values in inputs.items() if values is not None}
    of_tokens = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"][..., 0]
    shape = of_tokens.shape
    inputs.setdefault("token_type_ids", np.zeros(shape, np.int64))
    inputs.setdefault("position_ids", np.broadcast_to(np.arange(shape[-1]), shape))
    return inputs
