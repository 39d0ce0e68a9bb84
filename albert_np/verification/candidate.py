"""A candidate's tensors: read from files, and given the reference's names and layouts."""

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from albert_np.errors import FileFormatError
from albert_np.files import read_json_object
from albert_np.shards import DTYPES, stored_tensors
from albert_np.verification.precision import bfloat16_library

STEPS = ("reshape", "transpose")
OTHER_DTYPES = ("BOOL", "U16", "U32", "U64")  # of masks and ids, as safetensors calls them
# What NumPy raises about a file that is not whole, or of another kind.
UNREADABLE = (
    EOFError,
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_candidate(path):
    """Read a candidate's tensors. Nothing is unpickled.

    Parameters
    ----------
    path : str or Path
        A .safetensors file; an .npz file; or a directory of .npy files, each named after its
        tensor, "/" and all: `forward/albert.pooler.tanh.npy`.

    Returns
    -------
    dict of str to array
        Of the types that they are stored in; bfloat16 is that of the library ml_dtypes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If one is cut short, is of another kind, or holds Python objects.
    ImportError
        If there is a bfloat16 tensor, and ml_dtypes is not installed.
    """
    path = Path(path)
    if path.is_dir():
        return _read_directory(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    raise FileFormatError(
        f"{path} is no candidate: expected a .safetensors file, an .npz file or a directory of .npy"
    )


def read_mapping(path):
    """Read a mapping: see `map_names` for what it holds.

    Raises
    ------
    FileNotFoundError, FileFormatError
        If there is no such file, or it is not a JSON object.
    """
    return read_json_object(path)


def map_names(candidate, mapping):
    """Give a candidate's tensors the reference's names and layouts.

    Parameters
    ----------
    candidate : dict of str to array
    mapping : dict
        From the candidate's names to a name of the reference; to None, for a tensor to be left
        out; or to {"name": …, "layout": […]}. The steps of a layout are carried out in turn:
        {"reshape": shape} or {"transpose": axes}, as NumPy means them. A name may be a list: the
        tensor is then cut along its first axis into as many equal parts, such as a fused weight
        into query, key and value. Names that are not in the mapping stay as they are.

    Returns
    -------
    dict of str to array

    Raises
    ------
    ValueError
        If no name of the mapping is one of the candidate's, two tensors get one name, or an entry
        is of another form or does not fit its tensor.
    """
    if not mapping.keys() & candidate.keys():
        some = ", ".join(list(candidate)[:3])
        raise ValueError(
            f"the mapping names no tensor of the candidate; it has {some or 'none'}"
            + (", …" if len(candidate) > 3 else "")
        )
    mapped = {}
    for name, array in candidate.items():
        for new_name, part in _mapped(name, array, mapping.get(name, name)):
            if new_name in mapped:
                raise ValueError(f"two tensors of the candidate are mapped to {new_name}")
            mapped[new_name] = part
    return mapped


def _mapped(name, array, entry):
    """The tensors that one of the candidate's becomes: pairs of name and array."""
    if entry is None:
        return
    whole = entry if isinstance(entry, dict) else {"name": entry}
    names = whole.get("name")
    names = [names] if isinstance(names, str) else names
    layout = whole.get("layout", [])
    if not _is_entry(whole, names, layout):
        raise ValueError(
            f"the mapping of {name} is {entry}; expected a name, null, or "
            '{"name": name or names, "layout": [{"reshape": […]} or {"transpose": […]}, …]}'
        )
    try:
        for step in layout:
            ((kind, numbers),) = step.items()
            array = array.reshape(numbers) if kind == "reshape" else array.transpose(numbers)
        parts = [array] if len(names) == 1 else np.split(array, len(names))
    except (IndexError, OverflowError, ValueError) as error:
        raise ValueError(
            f"the mapping of {name} does not fit it: its shape is {array.shape}: {error}"
        ) from error
    yield from zip(names, parts, strict=True)


def _is_entry(entry, names, layout):
    return (
        entry.keys() <= {"name", "layout"}
        and isinstance(names, list)
        and bool(names)
        and all(isinstance(name, str) for name in names)
        and isinstance(layout, list)
        and all(isinstance(step, dict) and len(step) == 1 for step in layout)
        and all(
            kind in STEPS and isinstance(numbers, list) and all(type(n) is int for n in numbers)
            for step in layout
            for kind, numbers in step.items()
        )
    )


def _read_safetensors(path):
    with stored_tensors(path) as stored:
        return {name: _stored_as(tensor) for name, tensor in stored.items()}


def _stored_as(tensor):
    """A tensor in its own type: bfloat16 is read as float32."""
    if tensor.dtype not in (*DTYPES.values(), *OTHER_DTYPES):
        raise FileFormatError(
            f"{tensor.where} is of dtype {tensor.dtype}; "
            f"expected one of {', '.join(DTYPES.values())}"
        )
    array = tensor.read()
    return array.astype(bfloat16_library().bfloat16) if tensor.dtype == "bfloat16" else array


def _read_npz(path):
    try:
        # Opened here, since NumPy leaves a file open that it cannot read.
        with open(path, "rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise ValueError("it holds one array, as an .npy file does")
            return {name: _as_numbers(file[name]) for name in file.files}
    except UNREADABLE as error:
        raise FileFormatError(f"{path} is not a complete .npz file of numbers: {error}") from error


def _read_directory(path):
    tensors = {}
    for file in sorted(path.rglob("*.npy")):
        name = file.relative_to(path).as_posix().removesuffix(".npy")
        try:
            with open(file, "rb") as opened:
                tensors[name] = _as_numbers(np.load(opened, allow_pickle=False))
        except UNREADABLE as error:
            raise FileFormatError(
                f"{file} is not a complete .npy file of numbers: {error}"
            ) from error
    if not tensors:
        raise FileFormatError(f"{path} has no .npy file; expected one for each tensor")
    return tensors


def _as_numbers(array):
    """An array that NumPy has read; it writes bfloat16 as two bytes of no type."""
    if not isinstance(array, np.ndarray):  # an archive, or a file in one that is no array
        raise ValueError("it holds what is no array")
    return array.view(bfloat16_library().bfloat16) if array.dtype == "V2" else array
