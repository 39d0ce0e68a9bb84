"""The .safetensors files of a checkpoint: one, or several with an index."""

import json
import re
import struct
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from albert_np.errors import FileFormatError
from albert_np.files import flush, read_json_object, replacing

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
SHARD_NAME = "model-{number:05d}-of-{count:05d}.safetensors"
SHARD = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")
PICKLED_NAMES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

# What safetensors calls the dtypes that are read here.
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
}
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class StoredTensor(NamedTuple):
    """A tensor in a file: what is known before it is read, and how it is read."""

    where: str  # the file, and the name in it: for messages
    dtype: str  # NumPy's name; bfloat16, which is read as float32; else the file's own
    shape: tuple
    read: Callable


def weights_path(directory):
    """The file that says where a checkpoint's tensors lie: model.safetensors, or the index.

    Parameters
    ----------
    directory : str or Path

    Returns
    -------
    Path
        Where both are there model.safetensors, as transformers takes it.

    Raises
    ------
    FileNotFoundError
        If neither is there.
    FileFormatError
        If there are pickled weights in their place.
    """
    path = Path(directory) / WEIGHTS_NAME
    index = path.with_name(INDEX_NAME)
    if path.is_file() or index.is_file():
        return path if path.is_file() else index
    for pickled in map(path.with_name, PICKLED_NAMES):
        if pickled.exists():
            raise FileFormatError(
                f"{pickled} stands for pickled weights, which are never read: unpickling can run "
                "any code. Convert them with transformers: "
                "model.save_pretrained(directory, safe_serialization=True)"
            )
    raise FileNotFoundError(f"no file {path}, nor {INDEX_NAME} beside it")


@contextmanager
def stored_tensors(path):
    """The tensors of a checkpoint's files, which stay open meanwhile; nothing is read yet.

    Parameters
    ----------
    path : Path
        A .safetensors file, or the index of several. Where two hold a tensor of one name, the
        index says which one counts; what it does not name is not there.

    Yields
    ------
    dict of str to StoredTensor

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    FileFormatError
        If a file is truncated or corrupted, or does not hold what the index says.
    """
    index = _read_index(path) if path.name.endswith(".json") else {path: None}
    with ExitStack() as stack:
        tensors = {}
        for shard, names in index.items():
            file = stack.enter_context(_open(shard))
            held = set(file.keys())
            for name in names or sorted(held):
                if name not in held:
                    raise FileFormatError(f"{shard} lacks {name}, which {path} says it holds")
                tensors[name] = _stored_tensor(shard, file, name)
        yield tensors


def read_tensors(path):
    """Every tensor of a .safetensors file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict of str to array
        Of the dtype that they are stored in, but for bfloat16, which is read as float32.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is truncated or corrupted, or holds a tensor of a dtype that NumPy has not.
    """
    with stored_tensors(Path(path)) as tensors:
        for tensor in tensors.values():
            if tensor.dtype not in DTYPES.values():
                raise FileFormatError(
                    f"{tensor.where} is of dtype {tensor.dtype}; "
                    f"expected one of {', '.join(DTYPES.values())}"
                )
        return {name: tensor.read() for name, tensor in tensors.items()}


def write_tensors(directory, tensors, max_shard_size):
    """Write a checkpoint's tensors: one file, or several and their index; older ones give way.

    Every file is complete beside its final name before the first is renamed, and the file that
    says which others count is renamed after them. So an interrupted run leaves the older
    checkpoint, or the new one; or, where an older one has shards of the same names, for the moment
    of the renaming none that can be loaded: never a mixture.

    Parameters
    ----------
    directory : Path
        Created if it is not there.
    tensors : dict of str to array
        Float16, float32 or float64.
    max_shard_size : int or str
        In bytes, or such as "200MB"; a tensor that is larger has a file of its own.

    Raises
    ------
    TypeError, ValueError
        If `max_shard_size` is no size.
    OSError
        If the directory or a file cannot be written.
    """
    shards = _split(tensors, _size_in_bytes(max_shard_size))
    names = [SHARD_NAME.format(number=i + 1, count=len(shards)) for i in range(len(shards))]
    if len(shards) == 1:
        names = [WEIGHTS_NAME]
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as renamed_last_to_first:
        if len(shards) > 1:
            index = renamed_last_to_first.enter_context(replacing(directory / INDEX_NAME))
            index.write_text(_index(dict(zip(names, shards, strict=True))), encoding="utf-8")
        for name, shard in zip(names, shards, strict=True):
            path = directory / name
            _write(path, renamed_last_to_first.enter_context(replacing(path)), shard)
        if len(shards) > 1 and any((directory / name).exists() for name in names):
            (directory / INDEX_NAME).unlink(missing_ok=True)  # it would name old and new ones
    _remove_older(directory, {*names, *([INDEX_NAME] if len(shards) > 1 else [])})


def _read_index(path):
    """Which tensors lie in which file: path → names."""
    names = read_json_object(path).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise FileFormatError(
            f"{path} has no weight_map from the names of tensors to the names of files"
        )
    files = {}
    for name, shard in names.items():
        files.setdefault(_shard_path(path, shard), []).append(name)
    for shard in files:
        if not shard.is_file():
            raise FileNotFoundError(f"no file {shard}, which {path} names")
    return files


def _shard_path(index, name):
    """The path of a shard; a name that leads out of the index's directory is refused.

    A link is followed: the hub's cache is made of links.
    """
    path = PureWindowsPath(name)  # which knows both systems' separators, and drives
    if path.anchor or ".." in path.parts:
        raise FileFormatError(f"{index} names {name!r}; expected a file in its own directory")
    return index.parent / name


def _open(path):
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise FileFormatError(f"{path} is not a complete safetensors file: {error}") from error


def _stored_tensor(path, file, name):
    view = file.get_slice(name)
    dtype, shape = view.get_dtype(), tuple(view.get_shape())

    def read():
        if dtype == "BF16":
            return _read_bfloat16(path, name, shape)
        return file.get_tensor(name)

    return StoredTensor(f"{path}: {name}", DTYPES.get(dtype, dtype), shape, read)


def _read_bfloat16(path, name, shape):
    """A bfloat16 tensor as float32, of whose bits it is the upper half.

    The header, which says where the bits lie, has been checked by the library.
    """
    with open(path, "rb") as file:
        (header_length,) = struct.unpack("<Q", file.read(8))
        start, end = json.loads(file.read(header_length))[name]["data_offsets"]
        file.seek(8 + header_length + start)
        upper = np.frombuffer(file.read(end - start), "<u2")
    return (upper.astype(np.uint32) << 16).view(np.float32).reshape(shape)


def _size_in_bytes(max_shard_size):
    expected = 'expected a positive number of bytes, or such as "200MB" (KB, MB, GB, TB)'
    size = max_shard_size
    if isinstance(size, str):
        parts = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]B)", size.strip().upper())
        size = int(float(parts[1]) * UNITS[parts[2]]) if parts else 0
    elif isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"max_shard_size is {max_shard_size!r}; {expected}")
    if size <= 0:
        raise ValueError(f"max_shard_size is {max_shard_size!r}; {expected}")
    return size


def _split(tensors, size):
    """The tensors in parts of at most `size` bytes each, in their order, as transformers does it.

    A tensor that is larger has a part of its own.
    """
    parts, part, room = [], {}, size
    for name, tensor in tensors.items():
        if tensor.nbytes > size:
            parts.append({name: tensor})
            continue
        if tensor.nbytes > room:
            parts.append(part)
            part, room = {}, size
        part[name] = tensor
        room -= tensor.nbytes
    return [*parts, part] if part else parts


def _index(shards):
    """The text of the index, in transformers' layout."""
    tensors = [tensor for shard in shards.values() for tensor in shard.values()]
    index = {
        "metadata": {
            "total_parameters": sum(tensor.size for tensor in tensors),
            "total_size": sum(tensor.nbytes for tensor in tensors),
        },
        "weight_map": {name: file for file, shard in shards.items() for name in shard},
    }
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


def _write(path, temporary, tensors):
    """Write a .safetensors file under its temporary name."""
    # The library's files are readable by their owner alone; ours as any new file is.
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        # The library writes memory as it lies, so that a transposed view would come out wrong.
        contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
        # transformers marks its own files so.
        save_file(contiguous, temporary, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, for one
        raise OSError(f"cannot write {path}: {error}") from error
    temporary.chmod(mode)
    flush(temporary)  # now, since the moment of the renaming is to be short


def _remove_older(directory, written):
    """Remove an earlier checkpoint's files, by their names."""
    for path in directory.iterdir():
        is_ours = path.name in (WEIGHTS_NAME, INDEX_NAME) or SHARD.fullmatch(path.name)
        if is_ours and path.name not in written and path.is_file():
            path.unlink()
