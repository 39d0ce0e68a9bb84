"""The authors' own release of ALBERT, which is TensorFlow's, as arrays: names and transposes.

Follows the names of github.com/google-research/albert (modeling.py).
"""

import re
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from albert_np.checkpoint import OLDER_KINDS, fill_parameters
from albert_np.config import AlbertConfig
from albert_np.errors import FileFormatError
from albert_np.files import read_json_object
from albert_np.shards import StoredTensor

CONFIG_NAME = "albert_config.json"
HOW_TO_DUMP = (
    "With TensorFlow: reader = tf.train.load_checkpoint(prefix); numpy.savez(path, "
    "**{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})"
)

# Modules with a weight and a bias: Hugging Face's name (without `albert.`) → TensorFlow's.
MODULES = {
    "embeddings.LayerNorm": "bert/embeddings/LayerNorm",
    "encoder.embedding_hidden_mapping_in": "bert/encoder/embedding_hidden_mapping_in",
    "pooler": "bert/pooler/dense",
    "predictions.dense": "cls/predictions/transform/dense",
    "predictions.LayerNorm": "cls/predictions/transform/LayerNorm",
}
# The same, inside a layer.
LAYER = re.compile(r"encoder\.albert_layer_groups\.(\d+)\.albert_layers\.(\d+)\.(.+)")
LAYER_MODULES = {
    "attention.query": "attention_1/self/query",
    "attention.key": "attention_1/self/key",
    "attention.value": "attention_1/self/value",
    "attention.dense": "attention_1/output/dense",
    "attention.LayerNorm": "LayerNorm",
    "ffn": "ffn_1/intermediate/dense",
    "ffn_output": "ffn_1/intermediate/output/dense",
    "full_layer_layer_norm": "LayerNorm_1",
}
DENSE_KINDS = {"weight": "kernel", "bias": "bias"}
# Arrays that are named whole, and are not transposed.
ARRAYS = {
    "embeddings.word_embeddings.weight": "bert/embeddings/word_embeddings",
    "embeddings.position_embeddings.weight": "bert/embeddings/position_embeddings",
    "embeddings.token_type_embeddings.weight": "bert/embeddings/token_type_embeddings",
    "predictions.bias": "cls/predictions/output_bias",
    "sop_classifier.classifier.weight": "cls/seq_relationship/output_weights",
    "sop_classifier.classifier.bias": "cls/seq_relationship/output_bias",
    "classifier.weight": "output_weights",
    "classifier.bias": "output_bias",
    "qa_outputs.weight": "cls/squad/output_weights",
    "qa_outputs.bias": "cls/squad/output_bias",
}

# What training leaves beside the parameters: the optimizers' moments, and the count of steps.
NO_PARAMETER = re.compile(r"(.*/)?(adam_m|adam_v|AdamWeightDecayOptimizer(_\d+)?|global_step)")


def read_config(path):
    """The configuration beside a release's arrays.

    Parameters
    ----------
    path : str or Path
        The directory of arrays, or the .npz file; albert_config.json lies in it, or beside it.

    Returns
    -------
    AlbertConfig
        Its hidden_act is "gelu_new" where the file says "gelu", since the authors' code computes
        gelu by tanh.

    Raises
    ------
    FileNotFoundError, FileFormatError
        If there is no such file, or it does not hold an ALBERT model's configuration.
    """
    path = Path(path)
    path = (path if path.is_dir() else path.parent) / CONFIG_NAME
    values = read_json_object(path)
    if values.get("hidden_act") == "gelu":
        values["hidden_act"] = "gelu_new"
    try:
        return AlbertConfig.from_dict(values)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: {error}") from error


def load_arrays(path, parameters):
    """Fill a model's parameters from the arrays of a release.

    Parameters
    ----------
    path : str or Path
        An .npz file, or a directory in which bert/embeddings/word_embeddings.npy holds the array
        of that name. Nothing is unpickled.
    parameters : dict of str to array
        By Hugging Face's names; filled in place.

    Returns
    -------
    list of str
        The parameters of heads that are not there, which were not filled.

    Warns
    -----
    UserWarning
        If there are arrays that the model has no use for.

    Raises
    ------
    FileNotFoundError
        If there is no such file or directory.
    FileFormatError
        If an array is missing, damaged or pickled, or of another shape or dtype.
    """
    path = Path(path)
    arrays = {
        name.removeprefix("module/"): array  # a prefix of TensorFlow's hub
        for name, array in (_read_directory if path.is_dir() else _read_archive)(path).items()
    }
    stored = {}
    for parameter in parameters:
        name, transposed = tensorflow_name(parameter)
        if name in arrays:
            stored[parameter] = _stored_tensor(path, name, arrays.pop(name), transposed)
    unused = {name: _stored_tensor(path, name, array, False) for name, array in arrays.items()}
    return fill_parameters(parameters, stored | unused, path)


def tensorflow_name(parameter):
    """The name that a release has for a parameter, and whether its array is transposed.

    Parameters
    ----------
    parameter : str
        Hugging Face's name, with or without `albert.`.

    Returns
    -------
    name : str or None
        None if a release has no such parameter.
    transposed : bool
        A dense layer's kernel is: there y = x W + b, here y = x Wᵀ + b.
    """
    parameter = parameter.removeprefix("albert.")
    if parameter in ARRAYS:
        return ARRAYS[parameter], False
    module, _, kind = parameter.rpartition(".")
    if in_layer := LAYER.fullmatch(module):
        group, inner, module = in_layer.groups()
        prefix = f"bert/encoder/transformer/group_{group}/inner_group_{inner}/"
        path = LAYER_MODULES.get(module)
    else:
        prefix, path = "", MODULES.get(module)
    if path is None:
        return None, False
    if module.lower().endswith("norm"):
        return f"{prefix}{path}/{OLDER_KINDS[kind]}", False
    return f"{prefix}{path}/{DENSE_KINDS[kind]}", kind == "weight"


def _stored_tensor(path, name, array, transposed):
    if transposed:
        name, array = f"{name} (transposed)", array.T
    return StoredTensor(f"{path}: {name}", array.dtype.name, array.shape, lambda: array)


def _read_directory(path):
    """The arrays of a directory, mapped: one that claims to be longer than its file is refused."""
    arrays = {}
    for file in sorted(path.rglob("*.npy")):
        name = file.relative_to(path).with_suffix("").as_posix()
        if not NO_PARAMETER.fullmatch(name):
            with _reading(file):
                arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
    if not arrays:
        raise FileFormatError(f"{path} holds no .npy file with a parameter. {HOW_TO_DUMP}")
    return arrays


def _read_archive(path):
    """The arrays of an .npz file."""
    if not path.is_file():
        raise FileNotFoundError(f"no directory or .npz file {path}")
    if not zipfile.is_zipfile(path):
        raise FileFormatError(f"{path} is not an .npz file. {HOW_TO_DUMP}")
    arrays = {}
    with _reading(path):
        archive = np.load(path, allow_pickle=False)
    with archive:
        for name in archive.files:
            if not NO_PARAMETER.fullmatch(name):
                with _reading(f"{path}: {name}"):
                    arrays[name] = _as_array(archive[name])
    return arrays


def _as_array(entry):
    if not isinstance(entry, np.ndarray):
        raise ValueError("it is not in the format of .npy")
    return entry


@contextmanager
def _reading(where):
    """Whatever the readers raise, for what is damaged, pickled or made to harm, names the file."""
    try:
        yield
    except Exception as error:
        raise FileFormatError(f"{where} is no array of numbers: {error}") from error
