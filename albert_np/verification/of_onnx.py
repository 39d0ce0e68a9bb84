"""Live candidates in ONNX, run by ONNX Runtime; intermediates are made outputs.

An operation that is fused into another has no output of its own, so those that are watched are not
fused: `as_is` runs the file as its users do, and gives its outputs alone. Intermediates are found
by what torch's exporters tell of the module that computes them: the older one by names such as
`/albert/encoder/albert_layer_groups.0/albert_layers.0/ffn_1/Add_output_0`, where `_1` is the second
call of a module; the newer one (`dynamo=True`) by the metadata of nodes.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np

from albert_np.errors import FileFormatError
from albert_np.schedule import layer_schedule
from albert_np.verification.of_torch import (
    LAYER_PARTS,
    PARTS,
    candidate_library,
    joined_parts,
    refuse_dropout,
    scores_name,
)
from albert_np.verification.user_code import described

OUTPUT = re.compile(r"(?:/(.+))?/([A-Za-z]+)(?:_(\d+))?_output_0")
SCOPES = re.compile(r".*'([^']+)', '[^']*'\]")  # the last but one of a list
CALL = re.compile(r"(.+?)(?:_(\d+))?")
LAYER = re.compile(r"encoder\.albert_layer_groups\.(\d+)\.albert_layers\.(\d+)\.(.+)")
ROOTS = tuple(sorted({part.split(".")[0] for part in PARTS} | {"encoder"}))
# What a linear map is without its bias, which the reference adds by an operation of its own.
WITHOUT_BIAS = {
    "attention.dense": "attention.dense",
    "ffn": "ffn",
    "ffn_output": "ffn_output",
    "predictions.dense": "predictions.dense",
}
LAST = ("Add", "Gemm", "Gather", "Tanh", "LayerNormalization", "SkipLayerNormalization")
LINEAR = ("MatMul", "Gemm")
LAYER_NORMS = ("LayerNormalization",)  # the skipping one is given two arrays to be added


def run_onnx(case, path, as_is=False):
    """Run an ONNX file on a case, forward, with every optimisation of graphs.

    Parameters
    ----------
    case : Case
    path : str or Path
    as_is : bool, optional
        Whether to leave intermediates alone, and what is fused fused.

    Returns
    -------
    tensors : dict of str to array
        See `albert_np.verification.reference`; those that were found.
    could_not : list of str
        What was not, and why.

    Raises
    ------
    ImportError
        If onnx or onnxruntime is not installed.
    FileNotFoundError, FileFormatError
        If there is no such file, or it cannot be read.
    ValueError
        If it takes other inputs than the case has, or cannot be run on them.
    """
    onnx, runtime = candidate_library("onnx"), candidate_library("onnxruntime")
    refuse_dropout(case)
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    session = _session(runtime, path, str(path))
    feeds = inputs_for(case, session, path)
    outputs = [output.name for output in session.get_outputs()]
    could_not = ["gradients: ONNX Runtime computes none"]
    names = {}
    if not as_is:
        model = _loaded(onnx, path)
        names = intermediates(case, model.graph)
        new = set(names.values()) - set(outputs)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(new))
        session = _session(runtime, path, model.SerializeToString())
        if not names:
            could_not.append("intermediates: no node tells its module as torch's exporters do")
    arrays = _run(session, [*outputs, *sorted(set(names.values()) - set(outputs))], feeds, path)
    tensors = {f"outputs/{name}": arrays[name] for name in outputs}
    found = joined_parts({name: arrays[tensor] for name, tensor in names.items()})
    spread_positions(found)
    return tensors | {f"forward/{name}": array for name, array in found.items()}, could_not


def spread_positions(found):
    """Give one lookup of positions that serves all sequences the batch's shape, in place."""
    for name, array in found.items():
        words = found.get(name.replace("position_embeddings", "word_embeddings"))
        if name.endswith("position_embeddings") and words is not None:
            found[name] = np.broadcast_to(array, words.shape)


def _session(runtime, path, model):
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of a class of its own for each status
        raise FileFormatError(f"{path} cannot be run by ONNX Runtime: {described(error)}") from None


def _loaded(onnx, path):
    try:
        return onnx.load(path)
    except Exception as error:  # of a class of protobuf's
        raise FileFormatError(
            f"{path} runs, but cannot be looked into (--as-is does not): {described(error)}"
        ) from None


def _run(session, names, feeds, path):
    try:
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:  # of a class of its own for each status
        raise ValueError(f"{path} fails on the case's inputs: {described(error)}") from None


def inputs_for(case, session, path):
    """The case's inputs that a file takes.

    Raises
    ------
    ValueError
        If it takes one that the case has not, or the case has one that matters and it has not.
    """
    given = {name: x for name, x in case.arguments.items() if isinstance(x, np.ndarray)}
    expected = {node.name: node.type for node in session.get_inputs()}
    for name in expected:
        if name not in given:
            raise ValueError(f"{path} takes an input {name!r}; the case has {', '.join(given)}")
    labels = (*case.model_class.label_names, *(n for n in given if _is_default(n, given[n])))
    for name in given:
        if name not in expected and name not in labels:
            raise ValueError(
                f"{path} takes no {name}, and the case has some that are not the default; "
                f"it takes {', '.join(expected)}"
            )
    return {name: given[name].astype(_dtype(path, name, kind)) for name, kind in expected.items()}


def _is_default(name, value):
    """Whether an input is what it is taken for where it is not given."""
    if name == "position_ids":
        return bool(np.all(value == np.arange(value.shape[-1])))
    return name in ("attention_mask", "token_type_ids") and bool(
        np.all(value == (name == "attention_mask"))
    )


def _dtype(path, name, kind):
    """NumPy's dtype of an input of a file."""
    dtype = kind.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    try:
        return np.dtype(dtype)
    except TypeError:
        raise ValueError(f"{path} takes a {kind} as {name}; expected numbers of NumPy's") from None


def intermediates(case, graph):
    """The reference's names of a graph's intermediates, and theirs in the graph.

    Parameters
    ----------
    case : Case
    graph : onnx.GraphProto

    Returns
    -------
    dict of str to str
    """
    names, calls = {}, Counter()
    for node in graph.node:
        path, call = _module_of(node)
        if path is None:
            continue
        for name, tensor in _node_tensors(case, node, path):
            before = calls[path, name]  # how many nodes of this kind the module has had
            full = _full_name(case, path, before if call is None else call, name)
            calls[path, name] += 1
            if full is not None:
                names[full] = tensor
    return names


def _module_of(node):
    """The path of the module that a node is of, from its root on, and which of its calls this is.

    None for each that is not known. torch's newer exporter writes the path into the metadata, and
    does not tell calls apart; the older one makes names of both.
    """
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes" and (match := SCOPES.fullmatch(entry.value)):
            return _from_root(match[1].split(".")), None
    match = OUTPUT.fullmatch(node.output[0]) if node.output else None
    if match is None or match[1] is None:
        return None, None
    *parts, last = match[1].split("/")
    name, call = CALL.fullmatch(last).groups()
    return _from_root([*map(_without_call, parts), name]), int(call or 0)


def _from_root(parts):
    """A path with dots from the first of a model's own modules on; None where there is none."""
    start = next((i for i, part in enumerate(parts) if part in ROOTS), None)
    return None if start is None else ".".join(parts[start:])


def _without_call(part):
    """`attention_1` is the second call of `attention`; `full_layer_layer_norm` has no number."""
    return CALL.fullmatch(part)[1]


def _node_tensors(case, node, path):
    """What a node is given and returns, by the reference's names within its layer."""
    operator, layer = node.op_type, LAYER.fullmatch(path)
    part = layer[3] if layer else path
    if layer and part == "attention" and operator == "Softmax":
        yield f"attention.self.{scores_name(case)}", node.input[0]
        yield "attention.self.softmax", node.output[0]
    before, after = (LAYER_PARTS if layer else PARTS).get(part, (None, None))
    if before is not None and operator in (*LINEAR, *LAYER_NORMS):
        yield before, node.input[0]
    if operator == "MatMul" and part in WITHOUT_BIAS:
        yield WITHOUT_BIAS[part], node.output[0]
    if after is not None and operator in LAST:
        yield after, node.output[0]


def _full_name(case, path, call, name):
    """A name within its layer, or of a part of the model, as the reference has it."""
    config = case.config
    is_absolute = config.position_embedding_type == "absolute"
    name = name.replace("ACTIVATION", str(config.hidden_act))
    name = name.replace("SUM", "add_position" if is_absolute else "add_token_type")
    is_head = path.split(".")[0] not in ("embeddings", "encoder", "pooler", "pooler_activation")
    prefix = "" if is_head or case.model_class.__name__ == "AlbertModel" else "albert."
    layer = LAYER.fullmatch(path)
    if layer is None:
        return prefix + name
    places = [place for layers in layer_schedule(config) for place in layers]
    own = [i for i, place in enumerate(places) if place == (int(layer[1]), int(layer[2]))]
    return f"{prefix}encoder.layers.{own[call]}.{name}" if call < len(own) else None
