"""Golden files: a case and everything that the reference computes of it, in one safetensors file.

docs/golden-files.md states the format.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

import albert_np
from albert_np.config import AlbertConfig
from albert_np.errors import FileFormatError
from albert_np.files import replacing
from albert_np.verification.axes import axes_of
from albert_np.verification.case import CLASSES, Case
from albert_np.verification.graph import gradient_name, graph_of
from albert_np.verification.reference import tensors_of, traced

FORMAT = "albert-np golden"
VERSION = "1"


class Golden(NamedTuple):
    """What a golden file holds.

    Attributes
    ----------
    case : Case
    manifest : dict
        See docs/golden-files.md.
    tensors : dict of str to array
        Everything, the parameters and inputs too, in order of computation.
    """

    case: Case
    manifest: dict
    tensors: dict


def write_golden(path, case):
    """Write a golden file. The same case gives the same bytes on one machine.

    Parameters
    ----------
    path : str or Path
    case : Case

    Returns
    -------
    dict of str to array
        What was written.

    Raises
    ------
    ValueError, TypeError
        As a call of the model does.
    OSError
        If the file cannot be written.
    """
    trace = traced(case)
    tensors = {
        name: np.asarray(array, order="C") for name, array in tensors_of(case, trace).items()
    }
    manifest = manifest_of(case, trace, tensors)
    metadata = {"format": FORMAT, "version": VERSION, "manifest": _compact(manifest)}
    with replacing(path) as temporary:
        data = memoryview(save(tensors, metadata))  # a view, since it may be some gigabytes
        with open(temporary, "wb") as file:
            file.writelines(_in_order_of_keys(data))
    return tensors


def manifest_of(case, trace, tensors):
    """What a golden file says of its tensors: see docs/golden-files.md.

    Parameters
    ----------
    case : Case
    trace : RoundedTrace
        Of the case.
    tensors : dict of str to array

    Returns
    -------
    dict
        Of JSON's types.
    """
    made_by = _made_by(graph_of(case, trace), tensors)
    return {
        "class": case.model_class.__name__,
        "config": case.config.to_dict(),
        "structure": case.structure,
        "tensors": [
            {
                "name": name,
                "shape": list(array.shape),
                "axes": list(axes_of(case, name, array.ndim)),
            }
            | made_by.get(name, {})
            for name, array in tensors.items()
        ],
    }


def read_golden(path):
    """Read a golden file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Golden

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is cut short, is no golden file or one of another version, does not hold what its
        manifest says, or holds NaN. Whether its numbers are right `compare` finds.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            manifest = _read_manifest(path, file.metadata() or {})
            tensors = _read_tensors(path, file, manifest)
    except SafetensorError as error:
        raise FileFormatError(f"{path} is not a complete safetensors file: {error}") from error
    return Golden(_read_case(path, manifest, tensors), manifest, tensors)


def _made_by(graph, tensors):
    """For each tensor, the functions that make it, and the tensors that it is computed from."""
    made, readers = {}, {}
    for node in graph.nodes:
        operation = node.operation
        settings = {
            name: value
            for name, value in operation.inputs.items()
            if isinstance(value, bool | int | float) and name not in node.sources
        }
        for name in node.outputs.values():
            made[name] = {
                "functions": [operation.function.__name__],
                "from": _present(_sources(node), tensors),
            } | ({"settings": settings} if settings else {})
        for source in dict.fromkeys(_sources(node)):
            readers.setdefault(source, []).append(node)
    for name, nodes in readers.items():
        gradients = [gradient_name(output) for node in nodes for output in node.outputs.values()]
        values = [source for node in nodes for source in _sources(node)]
        made[gradient_name(name)] = {
            "functions": list(dict.fromkeys(_backward_name(node) for node in nodes)),
            "from": _present([*gradients, *values], tensors),
        }
    for name, others in graph.aliases.items():
        made |= {other: {"functions": [], "from": [name]} for other in others}
    return made


def _sources(node):
    return [name for names in node.sources.values() for name in names]


def _present(names, tensors):
    return [name for name in dict.fromkeys(names) if name in tensors]


def _backward_name(node):
    return node.operation.function.__name__.removesuffix("forward") + "backward"


def _in_order_of_keys(data):
    """A safetensors file, in parts, whose metadata stand in order: the library has them in any."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + length]))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = _compact(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little"), text, data[8 + length :]


def _compact(value):
    return json.dumps(value, separators=(",", ":"))


def _read_manifest(path, metadata):
    if metadata.get("format") != FORMAT:
        raise FileFormatError(
            f"{path} is no golden file: its format is {metadata.get('format')!r}; "
            f"expected {FORMAT!r}"
        )
    if metadata.get("version") != VERSION:
        raise FileFormatError(
            f"{path} is of version {metadata.get('version')!r}; expected {VERSION!r}"
        )
    try:
        manifest = json.loads(metadata["manifest"])
        names = [entry["name"] for entry in manifest["tensors"]]
        known = manifest["class"] in CLASSES and isinstance(manifest["config"], dict)
        known = known and len(set(names)) == len(names)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} has no manifest that can be read: {error!r}") from error
    if not known:
        raise FileFormatError(f"{path} has a manifest of no class that is known, or names twice")
    return manifest


def _read_tensors(path, file, manifest):
    held = set(file.keys())
    named = [entry["name"] for entry in manifest["tensors"]]
    if wrong := sorted(held.symmetric_difference(named)):
        where = "not in its manifest" if wrong[0] in held else "only in its manifest"
        raise FileFormatError(f"{path} has {wrong[0]} {where}; expected it in both")
    tensors = {}
    for entry in manifest["tensors"]:
        name = entry["name"]
        tensors[name] = array = file.get_tensor(name)
        if list(array.shape) != entry.get("shape"):
            raise FileFormatError(
                f"{path}: {name} is of shape {list(array.shape)}; "
                f"its manifest says {entry.get('shape')}"
            )
        if array.dtype.name not in ("float64", "int64") or not np.isfinite(array).all():
            raise FileFormatError(
                f"{path}: {name} is of dtype {array.dtype} or holds NaN or infinity; "
                "expected finite float64, or int64"
            )
    return tensors


def _read_case(path, manifest, tensors):
    model_class = getattr(albert_np, manifest["class"])
    try:
        config = AlbertConfig.from_dict(manifest["config"])
        structure = dict(manifest["structure"])
        _check_layers(config, tensors)
        shapes = model_class.parameter_shapes(config, **structure)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: its manifest makes no model: {error}") from error
    parameters, inputs = _part(tensors, "parameters"), _part(tensors, "inputs")
    for name, shape in shapes.items():
        if name not in parameters or parameters[name].shape != shape:
            raise FileFormatError(f"{path} lacks parameters/{name} of shape {list(shape)}")
    if "seed" in inputs:
        if inputs["seed"].shape != ():
            raise FileFormatError(
                f"{path}: inputs/seed is of shape {list(inputs['seed'].shape)}; expected []"
            )
        inputs["seed"] = int(inputs["seed"])
    case = Case(model_class, config, parameters, inputs, structure)
    try:
        case.check_inputs()
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: its inputs are none of the model's: {error}") from error
    return case


def _check_layers(config, tensors):
    """Refuse more layers than there are tensors: what each computes is in the file, too."""
    layers = config.num_hidden_layers * config.inner_group_num
    if layers > len(tensors):
        raise ValueError(
            f"num_hidden_layers {config.num_hidden_layers} and inner_group_num "
            f"{config.inner_group_num} are {layers} layers; the file has {len(tensors)} tensors"
        )


def _part(tensors, part):
    """The tensors of one part, such as "parameters", by the rest of their names."""
    return {
        name.removeprefix(f"{part}/"): array
        for name, array in tensors.items()
        if name.startswith(f"{part}/")
    }
