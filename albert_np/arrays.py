"""Where a back end's arrays lie: in the memory of the CPU; the CUDA back end has its own answer.

NumPy's functions take arrays of a GPU (CuPy's) as they take NumPy's, so the composition is one. But
the two never mix: what a call is given is moved at the door, and no function makes an array but
from one that it was given.
"""

from contextlib import nullcontext

import numpy as np

ON_GPU = (2, 13)  # DLPack's numbers for CUDA's memory, and for memory that CPU and GPU share


def on_host(array):
    """Whether an array lies in the memory of the CPU, where to look at a value costs no wait."""
    return isinstance(array, np.ndarray)


def on_gpu(values):
    """Whether values are an array on a GPU, whoever's: by DLPack or CUDA's array interface.

    DLPack is asked first, since a tensor of PyTorch's that requires gradients raises if it is asked
    for the other.
    """
    if hasattr(values, "__dlpack_device__"):
        return values.__dlpack_device__()[0] in ON_GPU
    return hasattr(values, "__cuda_array_interface__")


def as_array(values):
    """Values as an array: NumPy's, unless they are one of a library for GPUs."""
    elsewhere = hasattr(values, "__array_function__") and not on_host(values)
    return values if elsewhere else np.asarray(values)


class HostArrays:
    """Arrays in the memory of the CPU: NumPy's."""

    def given(self, name, values):
        """What a call was given, as it is; refused where it lies on a GPU.

        Raises
        ------
        TypeError
        """
        if on_gpu(values):
            raise TypeError(f"{name} is on a GPU, and the model is not: model.to('cuda') moves it")
        return values

    def uploaded(self, array):
        """A NumPy array, or one that is here already, as an array of this kind."""
        return array

    def downloaded(self, array):
        """An array of this kind as a NumPy array."""
        return array

    def computing(self):
        """A context in which errors of the arrays' library become ours."""
        return nullcontext()


HOST = HostArrays()


def wide(array):
    """float16 and bfloat16 in float32; other arrays, and None, as they are."""
    if array is None or array.dtype.itemsize > 2:
        return array
    return array.astype("float32")
