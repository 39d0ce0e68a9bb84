"""Runs launches on the CPU: the kernels' own sources, compiled by g++ against `stand_in/`.

For tests. What a kernel does wrong (a race, a read of what nothing wrote, an access out of bounds,
a barrier that some threads miss) raises `KernelError` and says where.
"""

import ctypes
import functools
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np

from albert_np.files import replacing
from albert_np.kernels.cuda.arrays import wide
from albert_np.kernels.cuda.kept import kept_file
from albert_np.kernels.cuda.launch import SOURCES, Struct, TensorMap, program

COMPILER = "g++"
OPTIONS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-Wall", "-Werror")
KERNEL_OPTIONS = (
    "-O1",
    "-fsanitize=thread",
    "--param=tsan-instrument-func-entry-exit=0",
    "-fno-strict-aliasing",  # 16 bytes at once are read as another type
    "-Wno-unknown-pragmas",  # unroll
)
RUNTIME_OPTIONS = ("-O2",)


class KernelError(Exception):
    """A kernel did what no kernel may do."""


class _Array(ctypes.Structure):
    _fields_ = [
        ("begin", ctypes.c_void_p),
        ("size", ctypes.c_ulong),
        ("item_size", ctypes.c_ulong),
        ("writable", ctypes.c_int),
        ("argument", ctypes.c_int),
    ]


# `TensorMap` of stand_in/cuda_on_cpu.h.
TENSOR_MAP = np.dtype(
    {
        "names": ["array", "shape", "box", "item_size"],
        "formats": [np.uintp, (np.int32, 3), (np.int32, 3), np.int32],
        "itemsize": 128,
    }
)


class HostExecutor:
    """Runs launches on NumPy arrays.

    Parameters
    ----------
    seed : int, optional
        Which order the warps go in, and when asynchronous copies arrive. 0 is first things first.
    sources : path, optional
        The directory of the kernels.

    Attributes
    ----------
    multiprocessors : int
        How many a launcher is told there are: few, so that blocks have several rounds to go.
    capability : (int, int)
        Of the GPU that the launcher plans for.
    shared_limit : int
        Bytes of shared memory that a block may have.
    """

    multiprocessors = 2
    capability = (9, 0)
    shared_limit = 227 * 1024

    def __init__(self, seed=0, sources=SOURCES):
        self.seed = seed
        self.sources = Path(sources)

    def check(self, name, array):
        """Raise TypeError unless the array is one that the kernels can run on."""
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} is a {type(array).__name__}; expected a numpy.ndarray")

    def empty(self, shape, dtype):
        """An array that nothing was written to: not a number anywhere, or the largest integer."""
        is_integer = np.dtype(dtype).kind in "iu"
        return np.full(shape, np.iinfo(dtype).max if is_integer else np.nan, dtype)

    def zeros(self, shape, dtype):
        return np.zeros(shape, dtype)

    def contiguous(self, array):
        return np.ascontiguousarray(array)

    def uploaded(self, array):
        """A NumPy array where the kernels can read it."""
        return np.ascontiguousarray(array)

    def multiply(self, a, b, out, bias=None, add=False):
        """out = a b + bias, or out += a b, in wide numbers; a and b may be transposed."""
        product = a.astype(wide(a.dtype)) @ b.astype(wide(b.dtype))
        if bias is not None:
            product += bias
        if add:
            product += out
        out[...] = product.astype(out.dtype)

    def pointer(self, array):
        return array.ctypes.data

    def launch(self, launch):
        """Run one launch to its end.

        Raises
        ------
        KernelError
        """
        library = kernel_library(self.sources, launch.file, launch.kernel)
        arrays, values = [], []
        for position, argument in enumerate(launch.arguments):
            values.append(_value(argument, position, arrays))
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        message = ctypes.create_string_buffer(512)
        with _one_at_a_time:
            failed = library.stand_in_launch(
                _three(launch.grid),
                _three(launch.block),
                ctypes.c_uint(launch.shared_bytes),
                pointers,
                (_Array * len(arrays))(*arrays),
                len(arrays),
                ctypes.c_uint(self.seed),
                message,
                len(message),
            )
        if failed:
            raise KernelError(f"{launch.kernel}: {message.value.decode()}")


_one_at_a_time = threading.Lock()  # the stand-in has one machine


def _three(shape):
    return (ctypes.c_uint * 3)(*shape, *(1,) * (3 - len(shape)))


def _value(argument, position, arrays):
    """The bytes of one argument, as an array; arrays that it points to are listed in `arrays`."""
    if isinstance(argument, Struct):
        members = [
            _value(member, position, arrays)[()] if member is None or np.ndim(member) else member
            for member in argument.members
        ]
        return np.array(tuple(members), argument.dtype)
    if isinstance(argument, TensorMap):
        address = _value(argument.array, position, arrays)[()]
        members = address, argument.shape, argument.box, argument.array.itemsize
        return np.array(members, TENSOR_MAP)
    if argument is None:
        return np.array(0, np.uintp)
    if np.ndim(argument) == 0:
        return np.array(argument)
    if not argument.flags.c_contiguous:
        raise ValueError(f"argument {position} is not C-contiguous")
    arrays.append(
        _Array(
            argument.ctypes.data,
            argument.nbytes,
            argument.itemsize,
            argument.flags.writeable,
            position,
        )
    )
    return np.array(argument.ctypes.data, np.uintp)


@functools.cache
def kernel_library(sources, file, kernel):
    """A kernel's library, compiled unless it was before.

    Parameters
    ----------
    sources : Path
    file, kernel : str

    Returns
    -------
    ctypes.CDLL
    """
    text = program(file, sources)
    text += f"UNWATCHED void stand_in_kernel(void** values) {{ call({kernel}, values); }}\n"
    runtime = program("stand_in/runtime.cpp", sources)
    runtime_object = _built("runtime.o", runtime, (*RUNTIME_OPTIONS, f"-I{sources}", "-c"))
    kernel_object = _built("kernel.o", text, (*KERNEL_OPTIONS, f"-I{sources}", "-c"))
    library = kernel_object.with_name(f"{kernel_object.stem}-{runtime_object.stem}.so")
    if not library.exists():
        _compile(library, (OPTIONS[1], "-shared", str(kernel_object), str(runtime_object)))
    return ctypes.CDLL(str(library))


def _built(name, text, options):
    """The object file of a program."""
    parts = (text, *OPTIONS, *(option for option in options if not option.startswith("-I")))
    built = kept_file("cuda-on-cpu", name, parts)
    if not built.exists():
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory) / "program.cpp"
            source.write_text(text, encoding="utf-8")
            _compile(built, (*OPTIONS, *options, str(source)))
    return built


def _compile(output, arguments):
    """Run the compiler; its output appears whole or not at all."""
    with replacing(output) as unfinished:
        command = [COMPILER, *arguments, "-o", str(unfinished)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise RuntimeError(f"{COMPILER} failed:\n{finished.stderr}")
