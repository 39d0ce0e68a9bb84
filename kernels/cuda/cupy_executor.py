"""Runs launches on a GPU, through CuPy."""

import ctypes
import tempfile
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np

from albert_np.arrays import on_gpu
from albert_np.errors import GpuError
from albert_np.kernels.cuda.compiling import machine_code
from albert_np.kernels.cuda.cublas_lt import MatrixProducts
from albert_np.kernels.cuda.launch import SOURCES, Struct, TensorMap, program
from albert_np.kernels.cuda.launcher import STATIC_SHARED
from albert_np.libraries import import_library

# A kernel that wants more shared memory must be allowed to. Of the 48 KiB that any kernel may have,
# what it declares itself is part.
UNASKED_SHARED = 48 * 1024 - STATIC_SHARED
OLDEST = (7, 5)  # the oldest GPUs that the kernels are compiled for in the tests
# The first with bfloat16, with NumPy 2's rules for the dtype of a result, and with put_along_axis.
OLDEST_CUPY = 14
OPTIONS = ("-std=c++17",)
FIRST_WITH_MAPS = 12000  # the release of CUDA whose driver makes tensor maps
MAP_BYTES, MAP_ALIGNMENT = 128, 64
ENCODE_TILED = ctypes.CFUNCTYPE(
    ctypes.c_int,
    *(ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p),  # map, type, axes, address
    *[ctypes.POINTER(ctypes.c_uint64)] * 2,  # sizes, strides
    *[ctypes.POINTER(ctypes.c_uint32)] * 2,  # box, steps
    *[ctypes.c_int] * 4,  # interleave, swizzle, promotion, fill
)


def _launch(graph, _held):
    """Launch a graph; with it lives the memory that it uses."""
    graph.launch()


def encoded(address, dtype, tensor_map):
    """The driver's form of a map, as an array with one element.

    The driver writes to multiples of 64 bytes alone, which an object of cuda-bindings need not lie
    at: its function is called without theirs.

    Raises
    ------
    RuntimeError
        If the driver refuses.
    """
    from cuda.bindings import driver

    _, columns, row = tensor_map.shape
    strides = (columns * row * dtype.itemsize, row * dtype.itemsize)  # of all axes but the last
    status, encode, _ = driver.cuGetProcAddress(b"cuTensorMapEncodeTiled", FIRST_WITH_MAPS, 0)
    room = np.zeros(MAP_BYTES + MAP_ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % MAP_ALIGNMENT
    result = room[begin : begin + MAP_BYTES]
    if status == driver.CUresult.CUDA_SUCCESS:
        status = ENCODE_TILED(encode)(
            result.ctypes.data,
            getattr(driver.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{dtype.name.upper()}"),
            len(tensor_map.shape),
            address,
            *_inner_first(ctypes.c_uint64, tensor_map.shape, strides),
            *_inner_first(ctypes.c_uint32, tensor_map.box, (1, 1, 1)),
            driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
            driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
            driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(
            f"the driver makes no tensor map of shape {tensor_map.shape} and boxes "
            f"{tensor_map.box}: {driver.CUresult(status).name}"
        )
    return result.view([("opaque", np.uint64, MAP_BYTES // 8)])


def _inner_first(kind, *lists):
    """C arrays of numbers, the last axis's first."""
    return [(kind * len(numbers))(*reversed(numbers)) for numbers in lists]


def _need_bindings():
    """What goes around CuPy needs a library of its own."""
    import_library(
        "cuda-bindings",
        "version 4 of the CUDA kernels",
        "albert-np[cuda-compile]",
        module="cuda.bindings",
    )


class CupyExecutor:
    """Runs launches on CuPy arrays, on the current stream, without waiting for them.

    Each kernel is compiled when it is first launched, and kept on disk: by CuPy, in its own cache,
    what it compiles (before 14.2, it compiles most of that anew in each process: a few seconds);
    the others by `machine_code`.

    Parameters
    ----------
    sources : path, optional
        The directory of the kernels.
    allow_tf32 : bool, optional
        Whether what products of float32 multiply may be rounded to tf32 first: 11 significant bits.

    Raises
    ------
    ImportError
        If CuPy, 14 or later, or nvmath-python is not installed.
    GpuError
        If there is no driver, no GPU, or too old a one.
    """

    def __init__(self, sources=SOURCES, allow_tf32=False):
        self.cupy = cupy = import_library("cupy", "the back end 'cuda'", "albert-np[cuda]")
        if int(cupy.__version__.split(".")[0]) < OLDEST_CUPY:
            raise ImportError(
                f"the back end 'cuda' needs the library cupy, {OLDEST_CUPY} or later; "
                f"{cupy.__version__} is installed: python -m pip install 'albert-np[cuda]'"
            )
        self.sources = Path(sources)
        try:
            device = cupy.cuda.Device()
            attributes = device.attributes
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise GpuError(f"the back end 'cuda' found no GPU that it can use: {error}") from None
        self.capability = divmod(int(device.compute_capability), 10)
        if self.capability < OLDEST:
            raise GpuError(
                f"the GPU has compute capability {'.'.join(map(str, self.capability))}; "
                f"the back end 'cuda' needs {'.'.join(map(str, OLDEST))}"
            )
        self.multiprocessors = attributes["MultiProcessorCount"]
        self.shared_limit = attributes["MaxSharedMemoryPerBlockOptin"]
        self.allow_tf32 = allow_tf32
        self.products = MatrixProducts(cupy, allow_tf32)
        self._kernels = {}

    def __reduce__(self):
        """A copy of a model, or a pickled one, gets an executor with nothing compiled yet."""
        return type(self), (self.sources, self.allow_tf32)

    def given(self, name, values):
        """What a call was given: a view of what lies on a GPU, whoever's it is; else as it is.

        Raises
        ------
        ValueError
            If it is on another GPU than the current one, or its library does not share it.
        TypeError
            If its dtype is none of CuPy's.
        """
        if not isinstance(values, self.cupy.ndarray):
            if not on_gpu(values):
                return values
            values = self._shared(name, values)
        self.check(name, values)
        return values

    def _shared(self, name, values):
        """Another library's array on a GPU as one of CuPy's, without a copy."""
        if not hasattr(values, "__dlpack__"):
            return self.cupy.asarray(values)
        try:
            return self.cupy.from_dlpack(values)
        except (BufferError, NotImplementedError, TypeError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name} cannot be taken from where it lies: {error}") from None

    def copied(self, values):
        """Values in an array of their own on the GPU, that `write` may write to."""
        return self.cupy.array(values, order="C")

    def write(self, array, values):
        """Write values over an array's, of the same shape."""
        if isinstance(values, self.cupy.ndarray):
            array[...] = values
        else:
            array.set(np.ascontiguousarray(values, array.dtype))

    def downloaded(self, array):
        """An array of the GPU's as a NumPy array, which is to wait for it."""
        return self.cupy.asnumpy(array)

    def captured(self, function):
        """Record what a function launches, as a CUDA graph.

        The graph's arrays come from a pool of its own: nobody else is given the memory that it
        writes to. The function runs once before it is recorded, so that its kernels are compiled.

        Parameters
        ----------
        function : callable
            Must neither wait for the GPU nor copy from or to it.

        Returns
        -------
        result
            What the function returned: arrays that each launch writes to.
        launch : callable
            Launches the graph on the current stream.
        """
        self.cupy.cuda.get_current_stream().synchronize()
        stream = self.cupy.cuda.Stream(non_blocking=True)
        pool = self.cupy.cuda.MemoryPool()
        with stream, self.cupy.cuda.using_allocator(pool.malloc):
            function()
            stream.synchronize()
            stream.begin_capture()
            try:
                result = function()
            except BaseException:
                with suppress(Exception):  # that what was begun cannot be used
                    stream.end_capture()
                raise
            graph = stream.end_capture()
        return result, partial(_launch, graph, (pool, self.products.release(stream.ptr)))

    @contextmanager
    def computing(self):
        """A context in which a GPU that is full is said to be."""
        try:
            yield
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            raise MemoryError(
                f"the GPU is full: {error}; a smaller batch needs less, and so do packed=True "
                "and checkpoint_every"
            ) from None

    def multiply(self, a, b, out, bias=None, add=False):
        """out = a b + bias, or out += a b; a and b may be transposed."""
        self.products.multiply(a, b, out, bias, add)

    def check(self, name, array):
        """Raise unless the array is one that the kernels can run on."""
        if not isinstance(array, self.cupy.ndarray):
            raise TypeError(f"{name} is a {type(array).__name__}; expected a cupy.ndarray")
        current = self.cupy.cuda.Device().id
        if array.device.id != current:
            raise ValueError(f"{name} is on GPU {array.device.id}; the current one is {current}")

    def empty(self, shape, dtype):
        return self.cupy.empty(shape, dtype)

    def zeros(self, shape, dtype):
        return self.cupy.zeros(shape, dtype)

    def contiguous(self, array):
        return self.cupy.ascontiguousarray(array)

    def uploaded(self, array):
        """A NumPy array where the kernels can read it; a CuPy array is there already."""
        return self.cupy.asarray(array, order="C")  # ascontiguousarray gives a number an axis

    def pointer(self, array):
        return array.data.ptr

    def launch(self, launch):
        """Put one launch on the current stream."""
        device = self.cupy.cuda.Device().id
        key = (device, launch.file, launch.kernel)
        if key not in self._kernels:
            hopper = any(isinstance(argument, TensorMap) for argument in launch.arguments)
            compiled = self._compiled_for_hopper if hopper else self._compiled
            self._kernels[key] = compiled(launch.file, launch.kernel)
        kernel = self._kernels[key]
        if launch.shared_bytes > UNASKED_SHARED:
            kernel.max_dynamic_shared_size_bytes = launch.shared_bytes
        arguments = tuple(self._value(argument) for argument in launch.arguments)
        kernel(launch.grid, launch.block, arguments, shared_mem=launch.shared_bytes)

    def _compiled(self, file, kernel):
        module = self.cupy.RawModule(
            code=program(file, self.sources),
            options=(*OPTIONS, f"-I{self.sources}"),
            name_expressions=(kernel,),
        )
        return module.get_function(kernel)

    def _compiled_for_hopper(self, file, kernel):
        """CuPy compiles for sm_90 alone, which lacks what sm_90a has."""
        _need_bindings()
        name, cubin = machine_code(file, kernel, "sm_90a", self.sources)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "kernel.cubin"
            path.write_bytes(cubin)
            return self.cupy.RawModule(path=str(path)).get_function(name)

    def _value(self, argument):
        """What CuPy passes on as that parameter."""
        if isinstance(argument, TensorMap):
            _need_bindings()
            return encoded(self.pointer(argument.array), argument.array.dtype, argument)
        if argument is None:
            return np.uintp(0)
        if isinstance(argument, Struct):
            members = [
                np.uintp(0 if member is None else self.pointer(member))
                if member is None or np.ndim(member)
                else member
                for member in argument.members
            ]
            # CuPy passes an array of NumPy's with one element by value.
            return np.array(tuple(members), argument.dtype)
        return argument
