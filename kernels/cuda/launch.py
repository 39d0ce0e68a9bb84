"""What a launch is made of, whoever runs it: no library for GPUs is named here."""

import hashlib
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).parent

# How the four types are called in the sources. By name, since bfloat16 is no type of NumPy's own.
TYPES = {"float16": "Half", "bfloat16": "BFloat16", "float32": "float", "float64": "double"}


class Launch(NamedTuple):
    """One kernel on one grid.

    Attributes
    ----------
    file : str
        The source, relative to `SOURCES`.
    kernel : str
        The kernel with its template arguments, as C++ writes it.
    grid, block : tuple of int
        Three numbers or fewer; those left out are 1.
    arguments : tuple
        Arrays, NumPy scalars of the very type of the parameter, `Struct`s, `TensorMap`s, and None
        for a null pointer.
    shared_bytes : int
        Dynamic shared memory.
    """

    file: str
    kernel: str
    grid: tuple
    block: tuple
    arguments: tuple
    shared_bytes: int = 0


class Struct(NamedTuple):
    """A struct passed by value: its NumPy dtype, and its members, an array for a pointer."""

    dtype: object
    members: tuple


class TensorMap(NamedTuple):
    """An array that is copied box by box: its shape is taken to be (z, y, x), and a box's is `box`.

    Boxes' rows are 128 bytes of shared memory, whose 16-byte pieces are mixed (`copy_box` of
    device.cuh).
    """

    array: object
    shape: tuple
    box: tuple


def ceil_div(numerator, denominator):
    """The quotient, rounded up."""
    return -(-numerator // denominator)


def program(file, sources=SOURCES):
    """What a compiler is given: a line that includes the file, below a hash of all it includes.

    Compilers' caches look at the text alone; the hash tells them that a header has changed.
    """
    content = hashlib.sha256()
    for path in (sources / file, *sorted(sources.glob("*.cuh")), *sorted(sources.glob("*/*.h"))):
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    return f'// {content.hexdigest()}\n#include "{file}"\n'
