"""A model's directory in Hugging Face's layout: its model.safetensors, read and written."""

import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from albert_np.errors import FileFormatError
from albert_np.files import replacing

WEIGHTS_NAME = "model.safetensors"
TINY_DIRECTORY = Path(__file__).parent / "assets" / "tiny"

# What safetensors calls the dtypes that are read here.
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16"}
INTEGERS = {"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8"}

# One parameter under two names. Where a file has both, transformers keeps the word embedding of
# the first pair and the decoder's bias of the second; so does `load_parameters`.
WORD_EMBEDDING = "albert.embeddings.word_embeddings.weight"
DECODER_WEIGHT = "predictions.decoder.weight"
BIAS = "predictions.bias"
DECODER_BIAS = "predictions.decoder.bias"


def resolve_directory(path_or_name):
    """The directory of a checkpoint.

    Parameters
    ----------
    path_or_name : str or Path
        A directory; or "tiny", the model that ships with the package (a directory of that name
        is "./tiny").

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If it is neither. Nothing is downloaded.
    """
    if path_or_name == "tiny":
        return TINY_DIRECTORY
    directory = Path(path_or_name)
    if not directory.is_dir():
        raise FileNotFoundError(
            f"{str(path_or_name)!r} is not a directory (looked for {directory.absolute()}); "
            'expected one that holds a checkpoint, or "tiny", the model that ships'
        )
    return directory


def read_tensors(path):
    """Every tensor of a .safetensors file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict of str to array
        Of the dtype that they are stored in: a float of 16, 32 or 64 bits, or an integer.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is truncated or corrupted, or holds a tensor of another dtype.
    """
    with _opened(path) as file:
        names = file.keys()
        for name in names:
            _check_dtype(path, file, name, FLOATS | INTEGERS)
        return {name: file.get_tensor(name) for name in names}


def load_parameters(directory, parameters):
    """Fill a model's parameters from its directory's model.safetensors.

    The whole file's names, shapes and dtypes are checked first; then its tensors are read one by
    one. A file of the model without heads, whose names lack the prefix `albert.`, fills a model
    with heads, and the reverse.

    Parameters
    ----------
    directory : str or Path
    parameters : dict of str to array
        Filled in place, whatever their dtype, so that an array may be a view of a larger one.

    Warns
    -----
    UserWarning
        If the file holds tensors that the model has no use for, or a decoder that differs from
        what it is tied to.

    Raises
    ------
    FileNotFoundError
        If there is no model.safetensors.
    FileFormatError
        If the file is truncated or corrupted; lacks a tensor, or has one of another shape or
        dtype (nothing is filled then); or holds NaN or infinity (some are filled then).
    """
    path = _weights_path(directory)
    with _opened(path) as file:
        stored = set(file.keys())
        stored_names = {name: _stored_name(name, stored) for name in parameters}
        tied = _tied_names(stored_names, stored)
        _check_names(path, stored_names)
        for name in [*stored_names.values(), *tied]:
            _check_dtype(path, file, name, FLOATS)
        for name, array in parameters.items():
            _check_shape(path, file, stored_names[name], array.shape)
        for name, array in parameters.items():
            # A float64 that is too large becomes infinite in float32, and is refused as such.
            with np.errstate(over="ignore"):
                array[...] = file.get_tensor(stored_names[name])
            _check_finite(path, stored_names[name], array)
        _warn_if_tied_differ(path, file, tied)
    _warn_if_unused(path, stored - set(stored_names.values()) - set(tied))


def save_parameters(directory, parameters):
    """Write a model's parameters to its directory's model.safetensors.

    Parameters
    ----------
    directory : str or Path
        Created if it is not there.
    parameters : dict of str to array
        Float16, float32 or float64. A view is written as a tensor of its own.

    Raises
    ------
    OSError
        If the directory or the file cannot be written. An older file is then left as it was.
    """
    path = Path(directory) / WEIGHTS_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    # The library writes memory as it lies, so that a transposed view would come out wrong.
    tensors = {name: np.asarray(array, order="C") for name, array in parameters.items()}
    with replacing(path) as temporary:
        # The library's files are readable by their owner alone; ours as any new file is.
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            # transformers marks its own files so.
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, for one
            raise OSError(f"cannot write {path}: {error}") from error
        temporary.chmod(mode)


@contextmanager
def _opened(path):
    """Open a .safetensors file; what the library finds wrong with it names the file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise FileFormatError(f"{path} is not a complete safetensors file: {error}") from error


def _weights_path(directory):
    """The directory's model.safetensors; pickled weights in its place are refused."""
    path = Path(directory) / WEIGHTS_NAME
    pickled = path.with_name("pytorch_model.bin")
    if not path.exists() and pickled.exists():
        raise FileFormatError(
            f"{pickled} is pickled, and is never read: unpickling can run any code. Convert it "
            "with transformers: model.save_pretrained(directory, safe_serialization=True)"
        )
    return path


def _stored_name(name, stored):
    """The name of a parameter in the file, with or without the prefix; None if it is not there."""
    candidates = [name, f"albert.{name}", name.removeprefix("albert.")]
    if name == BIAS:
        candidates.insert(0, DECODER_BIAS)
    return next((candidate for candidate in candidates if candidate in stored), None)


def _tied_names(stored_names, stored):
    """The tensors in the file that repeat one that was read: repeated name → name that was read."""
    repeated = {DECODER_WEIGHT: stored_names.get(WORD_EMBEDDING), BIAS: stored_names.get(BIAS)}
    return {
        name: kept
        for name, kept in repeated.items()
        if name in stored and kept is not None and kept != name
    }


def _check_names(path, stored_names):
    missing = [name for name, stored_name in stored_names.items() if stored_name is None]
    if missing:
        raise FileFormatError(f"{path} lacks {', '.join(missing)}; expected a tensor of each name")


def _check_dtype(path, file, name, expected):
    dtype = file.get_slice(name).get_dtype()
    if dtype not in expected:
        raise FileFormatError(
            f"{path}: {name} is of dtype {dtype}; expected one of {', '.join(expected.values())}"
        )


def _check_shape(path, file, name, expected):
    shape = tuple(file.get_slice(name).get_shape())
    if shape != expected:
        raise FileFormatError(f"{path}: {name} is of shape {shape}; expected {expected}")


def _check_finite(path, name, array):
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise FileFormatError(
            f"{path}: {name} holds NaN or infinity as {array.dtype} in {wrong} of {array.size} "
            "places; expected finite numbers"
        )


def _warn_if_tied_differ(path, file, tied):
    for name, kept in tied.items():
        if not np.array_equal(file.get_tensor(name), file.get_tensor(kept)):
            warnings.warn(
                f"{path}: {name} differs from {kept}, which it is tied to and which is used",
                stacklevel=4,
            )


def _warn_if_unused(path, names):
    if names:
        warnings.warn(f"{path}: the model has no use for {', '.join(sorted(names))}", stacklevel=4)
