"""Arrays that behave as those of a GPU's library do, on the CPU.

They answer NumPy's functions and operators, refuse to mix with NumPy's arrays and to become one
unasked, as CuPy's do. Where nobody may wait for them (`no_waiting`), they refuse to show a value;
where a graph is recorded, to be multiplied as matrices too.
"""

import contextlib
import operator
from functools import wraps

import numpy as np

from albert_np.kernels.cuda.cupy_executor import CupyExecutor
from albert_np.kernels.cuda.host import HostExecutor
from albert_np.kernels.cuda.launch import TensorMap

WAITING = {"allowed": True}
RECORDING = {"on": False}
PRODUCTS = (np.matmul, np.dot, np.einsum)  # for which CuPy calls cuBLAS
ANSWERED = set()  # the names of the functions that were called


@contextlib.contextmanager
def no_waiting():
    """A context in which to look at a value is an error: it would wait for the GPU."""
    WAITING["allowed"] = False
    try:
        yield
    finally:
        WAITING["allowed"] = True


@contextlib.contextmanager
def recording():
    """A context in which what CuPy refuses while a graph is recorded is an error."""
    RECORDING["on"] = True
    try:
        with no_waiting():
            yield
    finally:
        RECORDING["on"] = False


def refuse_products(function):
    assert not (RECORDING["on"] and function in PRODUCTS), "cuBLAS is called, and not recorded"


def wait():
    assert WAITING["allowed"], "a value is looked at, which waits for the GPU"


def strict(x):
    return StrictArray(np.asarray(x))


def unwrapped(value):
    """What NumPy is given in the place of an argument."""
    if isinstance(value, StrictArray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: an array of NumPy's among the GPU's")
    if isinstance(value, list | tuple):
        return type(value)(map(unwrapped, value))
    return value


def wait_for(index):
    """Wait where CuPy must: for how many a mask lets through, or to copy a list to the GPU."""
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, list) or (isinstance(part, StrictArray) and part.dtype == bool):
            wait()


def in_range(index, size):
    """Row numbers as CuPy takes them: it wraps round what NumPy refuses."""
    looked_up = isinstance(index, StrictArray) and index.dtype != bool
    return index.host % size if looked_up else unwrapped(index)


def wrapped(value):
    if isinstance(value, np.ndarray | np.generic):
        return strict(value)
    return [wrapped(part) for part in value] if isinstance(value, list) else value


def method(name):
    @wraps(getattr(np.ndarray, name))
    def call(self, *arguments, **settings):
        if name in ("nonzero", "item", "tolist"):
            wait()
        arguments, settings = unwrapped(arguments), {k: unwrapped(v) for k, v in settings.items()}
        result = getattr(self.host, name)(*arguments, **settings)
        return tuple(map(wrapped, result)) if isinstance(result, tuple) else wrapped(result)

    return call


class StrictArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of a GPU, which lies on the CPU."""

    def __init__(self, host, base=None):
        self.host, self._base = host, base

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, how, *inputs, out=None, **settings):
        ANSWERED.add(ufunc.__name__)
        refuse_products(ufunc)
        if how == "at":
            array, index, *values = inputs
            return ufunc.at(array.host, in_range(index, len(array)), *unwrapped(values))
        inputs, settings = unwrapped(inputs), {k: unwrapped(v) for k, v in settings.items()}
        if out is None:
            return wrapped(getattr(ufunc, how)(*inputs, **settings))
        getattr(ufunc, how)(*inputs, out=unwrapped(out), **settings)
        return out[0]

    def __array_function__(self, function, types, arguments, settings):
        ANSWERED.add(function.__name__)
        refuse_products(function)
        if not all(issubclass(one, StrictArray) for one in types):
            raise TypeError(f"{function.__name__}: an array of NumPy's among the GPU's")
        if function is np.split:  # whose parts know what they are views of
            whole = arguments[0]
            parts = np.split(whole.host, *unwrapped(arguments[1:]))
            return [StrictArray(part, whole) for part in parts]
        settings = {name: unwrapped(value) for name, value in settings.items()}
        if function in (np.take_along_axis, np.put_along_axis):
            array, index, *arguments = arguments
            arguments = (array, strict(index.host % array.shape[settings["axis"]]), *arguments)
        result = function(*unwrapped(tuple(arguments)), **settings)
        if function is np.where and arguments[1:] and result.dtype.name == "bfloat16":
            result = result.astype(np.float32)  # CuPy's has no bfloat16
        if isinstance(result, tuple):
            return tuple(map(wrapped, result))
        return wrapped(result)

    def __getitem__(self, index):
        wait_for(index)
        return wrapped(self.host[in_range(index, len(self.host)) if self.ndim else index])

    def __setitem__(self, index, value):
        wait_for(index)
        self.host[unwrapped(index)] = unwrapped(value)

    def __iter__(self):
        return (wrapped(part) for part in self.host)

    def __len__(self):
        return len(self.host)

    def __bool__(self):
        wait()
        return bool(self.host)

    def __float__(self):
        wait()
        return float(self.host)

    def __int__(self):
        wait()
        return int(self.host)

    @property
    def base(self):
        return self._base

    real = property(lambda self: strict(self.host.real))
    T = property(lambda self: strict(self.host.T))


ATTRIBUTES = ("dtype", "shape", "ndim", "size", "itemsize", "nbytes", "strides", "flags")
METHODS = (
    *("all", "any", "argmax", "astype", "copy", "cumsum", "fill", "item", "max", "mean", "min"),
    *("nonzero", "ravel", "reshape", "sum", "swapaxes", "tolist", "transpose", "view"),
)
for name in ATTRIBUTES:
    setattr(StrictArray, name, property(operator.attrgetter(f"host.{name}")))
for name in METHODS:
    setattr(StrictArray, name, method(name))


def arrays_in(result):
    """The arrays of outputs, or of a loss with its gradients."""
    if isinstance(result, StrictArray):
        return [result]
    parts = result.values() if isinstance(result, dict) else result
    return [array for part in parts for array in arrays_in(part)]


class StrictCupy:
    """What the executor for GPUs asks CuPy for to make an array of another."""

    @staticmethod
    def asarray(values, order=None):
        if not isinstance(values, StrictArray):
            wait()  # as a copy from the CPU may
            values = strict(np.array(values))
        return _of(values, np.asarray(values.host, order=order))

    @staticmethod
    def ascontiguousarray(array):
        return _of(array, np.ascontiguousarray(array.host))  # of one axis or more, as CuPy's


def _of(array, host):
    """The stand-in's array itself where it is made of that, or another that is."""
    return array if host is array.host else strict(host)


class StrictArrays:
    """Where the arrays of the stand-in lie."""

    cupy = StrictCupy
    uploaded = CupyExecutor.uploaded

    def given(self, name, values):
        return values

    def copied(self, values):
        return strict(np.array(values.host if isinstance(values, StrictArray) else values))

    def write(self, array, values):
        array.host[...] = values.host if isinstance(values, StrictArray) else values

    def captured(self, function):
        """Runs the function again, and writes what it returns over what it returned."""
        with recording():
            result = function()

        def launch():
            with recording():
                for array, again in zip(arrays_in(result), arrays_in(function()), strict=True):
                    array.host[...] = again.host

        return result, launch

    def downloaded(self, array):
        wait()
        return array.host if isinstance(array, StrictArray) else array

    def computing(self):
        return contextlib.nullcontext()


class StrictExecutor(StrictArrays, HostExecutor):
    """Runs the kernels on the stand-in's arrays."""

    contiguous = CupyExecutor.contiguous

    def check(self, name, array):
        if not isinstance(array, StrictArray):
            raise TypeError(f"{name} is a {type(array).__name__}; expected a StrictArray")

    def empty(self, shape, dtype):
        return strict(super().empty(shape, dtype))

    def zeros(self, shape, dtype):
        return strict(super().zeros(shape, dtype))

    def pointer(self, array):
        return array.host.ctypes.data

    def multiply(self, a, b, out, bias=None, add=False):
        super().multiply(a.host, b.host, out.host, None if bias is None else bias.host, add)

    def launch(self, launch):
        super().launch(launch._replace(arguments=tuple(map(_of_launch, launch.arguments))))


def _of_launch(argument):
    """The stand-in's arrays as NumPy's, in structs too."""
    if hasattr(argument, "members"):
        return argument._replace(members=tuple(map(_of_launch, argument.members)))
    if isinstance(argument, TensorMap):
        return argument._replace(array=argument.array.host)
    return argument.host if isinstance(argument, StrictArray) else argument
