"""Checkpoints in Hugging Face's layout: which stored tensor fills which parameter."""

import os
import warnings
from pathlib import Path

import numpy as np

from albert_np import hub
from albert_np.errors import FileFormatError
from albert_np.shards import stored_tensors, weights_path, write_tensors

TINY_DIRECTORY = Path(__file__).parent / "assets" / "tiny"

# The files of the hub that a model is read from: never pickled ones.
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)

FLOATS = ("float64", "float32", "float16", "bfloat16")

# One parameter under two names. Where a file has both, transformers keeps the word embedding of
# the first pair and the decoder's bias of the second; so does `fill_parameters`.
WORD_EMBEDDING = "albert.embeddings.word_embeddings.weight"
DECODER_WEIGHT = "predictions.decoder.weight"
BIAS = "predictions.bias"
DECODER_BIAS = "predictions.decoder.bias"

OLDER_KINDS = {"weight": "gamma", "bias": "beta"}  # of layer norm

# The parts of a model without which it is none; the others are heads, and may be new.
TRUNK = ("embeddings", "encoder")
# 0, 1, 2, … and zeros, which older checkpoints hold.
CONSTANTS = ("embeddings.position_ids", "embeddings.token_type_ids")


def resolve_directory(
    path_or_name, files=MODEL_FILES, *, revision=None, cache_dir=None, local_files_only=False
):
    """The directory of a checkpoint.

    Parameters
    ----------
    path_or_name : str or Path
        A directory; "tiny", the model that ships with the package (a directory of that name is
        "./tiny"); or, where there is no such directory, a str that names a repository of Hugging
        Face's hub, such as "albert/albert-base-v2".
    files : sequence of str, optional
        The files that are needed, and fetched, if it is a repository.
    revision, cache_dir, local_files_only
        See `hub.fetch`; of no effect on a directory.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If it is none of these.
    TypeError
        If it is neither str nor Path.
    """
    if not isinstance(path_or_name, str | os.PathLike):
        raise TypeError(
            f"path_or_name is of type {type(path_or_name).__name__}; expected str or Path"
        )
    if path_or_name == "tiny":
        return TINY_DIRECTORY
    directory = Path(path_or_name)
    if directory.is_dir():
        return directory
    if isinstance(path_or_name, str) and hub.is_hub_name(path_or_name) and not directory.exists():
        return hub.fetch(
            path_or_name,
            files,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
    raise FileNotFoundError(
        f"{str(path_or_name)!r} is not a directory (looked for {directory.absolute()}); "
        'expected one that holds a checkpoint, "tiny", the model that ships, or a name on '
        "Hugging Face's hub"
    )


def load_parameters(directory, parameters):
    """Fill a model's parameters from its directory's model.safetensors, or from several shards.

    Parameters
    ----------
    directory : str or Path
    parameters : dict of str to array
        Filled in place, whatever their dtype, so that an array may be a view of a larger one.

    Returns
    -------
    list of str
        The parameters of heads that the checkpoint lacks, which were not filled.

    Warns
    -----
    UserWarning
        See `fill_parameters`.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    FileFormatError
        If a file is truncated or corrupted, or does not hold what it should.
    """
    path = weights_path(directory)
    with stored_tensors(path) as stored:
        return fill_parameters(parameters, stored, path)


def fill_parameters(parameters, stored, source):
    """Fill a model's parameters from stored tensors.

    All names, shapes and dtypes are checked first; then the tensors are read one by one. A
    checkpoint of the model without heads, whose names lack the prefix `albert.`, fills a model
    with heads, and the reverse; layer norm's parameters may have their older names, gamma and
    beta.

    Parameters
    ----------
    parameters : dict of str to array
        Filled in place.
    stored : dict of str to StoredTensor
    source : Path
        What messages name.

    Returns
    -------
    list of str
        The parameters that are not there, which are all those of a head, or of several.

    Warns
    -----
    UserWarning
        If there are tensors that the model has no use for, or a decoder that differs from what it
        is tied to.

    Raises
    ------
    FileFormatError
        If a tensor of the embeddings or the encoder is missing, or only some of a head; if one is
        of another shape or dtype (nothing is filled then); or if one holds NaN or infinity (some
        are filled then).
    """
    found = {name: _stored_name(name, stored) for name in parameters}
    missing = [name for name, stored_name in found.items() if stored_name is None]
    found = {name: stored_name for name, stored_name in found.items() if stored_name is not None}
    _check_missing(source, missing, {_part(name) for name in found})
    tied = _tied_names(found, stored)
    for name in [*found.values(), *tied]:
        _check_dtype(stored[name])
    for name, stored_name in found.items():
        _check_shape(stored[stored_name], parameters[name].shape)
    for name, stored_name in found.items():
        # A float64 that is too large becomes infinite in float32, and is refused as such.
        with np.errstate(over="ignore"):
            parameters[name][...] = stored[stored_name].read()
        _check_finite(stored[stored_name], parameters[name])
    _warn_if_tied_differ(stored, tied)
    _warn_if_unused(source, set(stored) - set(found.values()) - set(tied))
    return missing


def save_parameters(directory, parameters, max_shard_size="5GB"):
    """Write a model's parameters to its directory's model.safetensors, or to several shards.

    Parameters
    ----------
    directory : str or Path
        Created if it is not there.
    parameters : dict of str to array
        Float16, float32 or float64. A view is written as a tensor of its own.
    max_shard_size : int or str, optional
        The size of a file, in bytes or such as "200MB", above which there are several.

    Raises
    ------
    TypeError, ValueError
        If `max_shard_size` is no size, or a parameter holds NaN or infinity, and so could not be
        loaded again.
    OSError
        If the directory or a file cannot be written. An older checkpoint is then left as it was.
    """
    for name, array in parameters.items():
        if wrong := _count_not_finite(array):
            raise ValueError(
                f"{name} holds NaN or infinity in {wrong} of {array.size} places; "
                "expected finite numbers: nothing is written"
            )
    write_tensors(Path(directory), parameters, max_shard_size)


def _stored_name(name, stored):
    """The name that a parameter is stored under; None if it is not there."""
    candidates = [name, f"albert.{name}", name.removeprefix("albert.")]
    if name == BIAS:
        candidates.insert(0, DECODER_BIAS)
    candidates += [_older_name(candidate) for candidate in candidates]
    return next((candidate for candidate in candidates if candidate in stored), None)


def _older_name(name):
    """The name that layer norm's parameters had: gamma for weight, beta for bias."""
    module, _, kind = name.rpartition(".")
    is_norm = module.lower().endswith("norm")
    return f"{module}.{OLDER_KINDS.get(kind, kind)}" if is_norm else name


def _part(name):
    """The part of a model that a parameter belongs to: embeddings, encoder, or a head."""
    return name.removeprefix("albert.").partition(".")[0]


def _tied_names(found, stored):
    """The tensors in the file that repeat one that is read: repeated name → name that is read."""
    repeated = {DECODER_WEIGHT: found.get(WORD_EMBEDDING), BIAS: found.get(BIAS)}
    return {
        name: kept
        for name, kept in repeated.items()
        if name in stored and kept is not None and kept != name
    }


def _check_missing(source, missing, found_parts):
    wrong = [name for name in missing if _part(name) in {*TRUNK, *found_parts}]
    if wrong:
        raise FileFormatError(f"{source} lacks {', '.join(wrong)}; expected a tensor of each name")


def _check_dtype(tensor):
    if tensor.dtype not in FLOATS:
        raise FileFormatError(
            f"{tensor.where} is of dtype {tensor.dtype}; expected one of {', '.join(FLOATS)}"
        )


def _check_shape(tensor, expected):
    if tensor.shape != expected:
        raise FileFormatError(f"{tensor.where} is of shape {tensor.shape}; expected {expected}")


def _check_finite(tensor, array):
    if wrong := _count_not_finite(array):
        raise FileFormatError(
            f"{tensor.where} holds NaN or infinity as {array.dtype} in {wrong} of {array.size} "
            "places; expected finite numbers"
        )


def _count_not_finite(array):
    return array.size - np.count_nonzero(np.isfinite(array))


def _warn_if_tied_differ(stored, tied):
    for name, kept in tied.items():
        if not np.array_equal(stored[name].read(), stored[kept].read()):
            warnings.warn(
                f"{stored[name].where} differs from {kept}, which it is tied to and which is used",
                stacklevel=5,
            )


def _warn_if_unused(source, names):
    names = [name for name in sorted(names) if name.removeprefix("albert.") not in CONSTANTS]
    if names:
        warnings.warn(f"{source}: the model has no use for {', '.join(names)}", stacklevel=5)
