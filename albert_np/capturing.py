"""A call recorded as a CUDA graph, which runs again without Python, on other numbers."""

import numpy as np

from albert_np.arrays import as_array


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
        The arrays of the call, completed by `completed`.
    """

    def __init__(self, model, run, inputs):
        self._arrays = model.backend.arrays
        self._inputs = {
            name: self._arrays.copied(self._arrays.given(name, values))
            for name, values in inputs.items()
        }
        with self._arrays.computing():
            self._result, self._launch = self._arrays.captured(lambda: run(**self._inputs))

    def __call__(self, **inputs):
        """Run the call again.

        Parameters
        ----------
        **inputs : array_like
            Of those that were recorded, each that changes; of the same shape.

        Returns
        -------
        What the call returns. Where a value is out of range, no result is a number.

        Raises
        ------
        TypeError, ValueError
            If there is no such input, or it has another shape.
        """
        for name, values in inputs.items():
            if name not in self._inputs:
                raise TypeError(
                    f"{name!r} was not recorded; what was is {', '.join(sorted(self._inputs))}"
                )
            recorded, values = self._inputs[name], as_array(self._arrays.given(name, values))
            if values.shape != recorded.shape:
                raise ValueError(
                    f"{name} has shape {values.shape}; the call was recorded with {recorded.shape}"
                )
            self._arrays.write(recorded, values)
        self._launch()
        return self._result


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
