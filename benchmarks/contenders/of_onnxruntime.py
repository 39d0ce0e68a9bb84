"""ONNX Runtime: transformers' model, exported and put through its transformer optimiser.

Of single functions, those of its fused operators (domain com.microsoft) that compute the same.
Forward and float32 only.
"""

import logging
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.contenders import Task
from benchmarks.contenders.arguments import arguments_of, split_work, with_separate_heads
from benchmarks.functions import FUNCTIONS

CONTRIBUTED = "com.microsoft"
OUTPUTS = ("last_hidden_state", "pooler_output")


class NotOptimized(Exception):
    """The optimiser did not fuse what it fuses in such a model."""


def load(settings):
    """AlbertModel's forward pass or a function's, as `settings["work"]` says."""
    if settings["work"] == "forward":
        return load_forward(settings)
    return partial(bind_function, settings)


def session(model, threads):
    """An inference session on the CPU with every optimisation of graphs.

    Parameters
    ----------
    model : str or bytes
        A file, or the model itself.
    threads : int
    """
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load_forward(settings):
    """AlbertModel, exported and optimised."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        config = export(settings["directory"], path)
        optimize(path, config)
        running = session(str(path), settings["threads"])
    names = [node.name for node in running.get_inputs()]

    def bind(batch):
        given = {"attention_mask": np.ones_like(batch["input_ids"]), **batch}
        feeds = {name: given[name] for name in names}
        return Task(
            lambda: running.run(None, feeds),
            lambda outputs: dict(zip(OUTPUTS, outputs, strict=True)),
        )

    return bind


def export(directory, path):
    """Write transformers' AlbertModel as ONNX, for any batch; returns its configuration."""
    import torch
    from transformers import AlbertModel

    class Exported(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            outputs = self.model(input_ids=input_ids, attention_mask=attention_mask)
            return outputs.last_hidden_state, outputs.pooler_output

    model = AlbertModel.from_pretrained(directory, dtype=torch.float32).eval()
    input_ids, attention_mask = torch.ones(2, 2, 4, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one: it needs no package
        torch.onnx.export(
            Exported(model),
            (input_ids, attention_mask),
            path,
            input_names=["input_ids", "attention_mask"],
            output_names=list(OUTPUTS),
            dynamic_axes=dict.fromkeys(("input_ids", "attention_mask"), {0: "B", 1: "S"}),
            dynamo=False,
        )
    return model.config


def optimize(path, config):
    """Put an exported model through the transformer optimiser, in place.

    Raises
    ------
    NotOptimized
        If one layer or more was left as it was.
    """
    from onnxruntime.transformers.optimizer import optimize_model

    model = onnx.load(path)
    swap_residuals(model.graph)
    onnx.save(model, path)
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    optimized = optimize_model(
        str(path),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,  # the session does those of level 1 and 2
    )
    fused = optimized.get_fused_operator_statistics()
    layers = config.num_hidden_layers * config.inner_group_num
    expected = {"Attention": layers, "FastGelu": layers, "SkipLayerNormalization": 2 * layers}
    if any(fused[name] != number for name, number in expected.items()):
        raise NotOptimized(f"fused: {fused}; expected {expected}")
    optimized.save_model_to_file(str(path), use_external_data_format=True)


def swap_residuals(graph):
    """Let sums of two sums begin with the other one.

    The optimiser looks for a layer's attention behind the first sum that enters its residual sum.
    The first layer's own input is one too, from the mapping of embeddings, and it stands first.
    """
    sums = {node.output[0] for node in graph.node if node.op_type == "Add"}
    for node in graph.node:
        if node.op_type == "Add" and sums.issuperset(node.input):
            first, second = node.input
            node.input[:] = [second, first]


def linear_node(arguments):
    return helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=1)


def attention_node(arguments):
    mask = ["", "attention_mask"] if "attention_mask" in arguments else []
    return helper.make_node(
        "MultiHeadAttention",
        ["query", "key", "value", *mask],
        ["y"],
        domain=CONTRIBUTED,
        num_heads=arguments["num_attention_heads"],
    )


def bias_gelu_new_node(arguments):
    return helper.make_node("FastGelu", ["x", "bias"], ["y"], domain=CONTRIBUTED)


def bias_dropout_residual_layer_norm_node(arguments):
    return helper.make_node(
        "SkipLayerNormalization",
        ["x", "residual", "weight", "shift", "bias"],
        ["y"],
        domain=CONTRIBUTED,
        epsilon=arguments["eps"],
    )


def embedding_node(arguments):
    return helper.make_node("Gather", ["weight", "ids"], ["y"])


def layer_norm_node(arguments):
    return helper.make_node(
        "LayerNormalization", ["x", "weight", "bias"], ["y"], epsilon=arguments["eps"]
    )


NODES = {
    "linear": linear_node,
    "attention": attention_node,
    "bias_gelu_new": bias_gelu_new_node,
    "bias_dropout_residual_layer_norm": bias_dropout_residual_layer_norm_node,
    "embedding": embedding_node,
    "layer_norm": layer_norm_node,
}


def bind_function(settings, batch):
    """One function, forward, as a model of its own; its parameters are constants of the model."""
    function, _ = split_work(settings["work"])
    output_shape = batch["dy"].shape
    arguments = with_separate_heads(arguments_of(batch, settings["dtype"]))
    node = NODES[function](arguments)
    if function == "linear":  # Gemm's x is a matrix
        arguments["x"] = arguments["x"].reshape(-1, arguments["x"].shape[-1])
    if "attention_mask" in arguments:
        arguments["attention_mask"] = arguments["attention_mask"].astype(np.int32)
    parameters = FUNCTIONS[function].parameters
    feeds = {
        name: array
        for name, array in arguments.items()
        if isinstance(array, np.ndarray) and name not in parameters
    }
    graph = helper.make_graph(
        [node],
        function,
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in feeds.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(arguments[name], name) for name in parameters],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIBUTED, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    running = session(model.SerializeToString(), settings["threads"])
    return Task(
        lambda: running.run(None, feeds),
        lambda outputs: {"y": outputs[0].reshape(output_shape)},
    )
