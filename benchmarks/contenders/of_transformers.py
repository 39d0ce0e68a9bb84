"""transformers on torch: its models as a user has them, and the functions of torch they call.

Forward runs in inference mode. Where torch has a fused function for what transformers does in
several steps (gelu_new), it is torch's that is measured.
"""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.contenders import Task
from benchmarks.contenders.arguments import arguments_of, split_work, with_separate_heads
from benchmarks.functions import FUNCTIONS


def load(settings):
    """A model's work or a function's, as `settings["work"]` says."""
    torch.set_num_threads(settings["threads"])
    if settings["work"] in WORKS:
        return WORKS[settings["work"]](settings)
    return partial(bind_function, settings)


def load_forward(settings):
    """AlbertModel with its default attention, in eval mode."""
    model = load_model("AlbertModel", settings)

    def bind(batch):
        words = {name: array for name, array in batch.items() if name != "labels"}
        inputs, call = tensors(words, settings), compiled(model, settings)

        def run():
            with torch.inference_mode():
                return call(**inputs)

        return Task(run, lambda outputs: arrays(dict(outputs)))

    return bind


def load_training(settings):
    """AlbertForMaskedLM: zero_grad, forward, backward."""
    model = load_model("AlbertForMaskedLM", settings)

    def bind(batch):
        inputs, call = tensors(batch, settings), compiled(model, settings)

        def run():
            model.zero_grad()
            loss = call(**inputs).loss
            loss.backward()
            return loss

        def outputs(loss):
            gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
            return arrays({"loss": loss, **gradients})

        return Task(run, outputs)

    return bind


WORKS = {"forward": load_forward, "training": load_training}


def load_model(class_name, settings):
    import transformers  # takes seconds, which a function alone need not wait for

    model_class = getattr(transformers, class_name)
    dtype = getattr(torch, settings["dtype"])
    model = model_class.from_pretrained(settings["directory"], dtype=dtype).eval()
    return model.to(settings.get("device", "cpu"))


def compiled(model, settings):
    """The model as it is called: compiled, where the settings have a mode of `torch.compile`."""
    mode = settings.get("compile")
    return model if mode is None else torch.compile(model, mode=mode, dynamic=False)


def tensors(batch, settings):
    device = settings.get("device", "cpu")
    return {name: torch.from_numpy(array).to(device) for name, array in batch.items()}


def arrays(by_name):
    return {name: array_of(tensor) for name, tensor in by_name.items()}


def array_of(tensor):
    """A tensor's values as an array of NumPy's."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # which NumPy itself does not know
        return tensor.contiguous().view(torch.int16).numpy().view("bfloat16")
    return tensor.numpy()


def linear(x, weight, bias):
    return F.linear(x, weight, bias)


def attention(query, key, value, num_attention_heads, attention_mask=None):
    B, S, H = query.shape
    heads = (x.view(B, S, num_attention_heads, -1).transpose(1, 2) for x in (query, key, value))
    mask = None if attention_mask is None else attention_mask[:, None, None, :]
    context = F.scaled_dot_product_attention(*heads, attn_mask=mask)
    return context.transpose(1, 2).reshape(B, S, H)


def bias_gelu_new(x, bias):
    return F.gelu(x + bias, approximate="tanh")


def bias_dropout_residual_layer_norm(x, bias, residual, weight, shift, eps):
    return F.layer_norm(residual + (x + bias), weight.shape, weight, shift, eps)


def linear_cross_entropy(x, weight, bias, labels):
    return F.cross_entropy(F.linear(x, weight, bias), labels)


def embedding(ids, weight, padding_idx):
    return F.embedding(ids, weight, padding_idx)


def layer_norm(x, weight, bias, eps):
    return F.layer_norm(x, weight.shape, weight, bias, eps)


CALLS = {
    "linear": linear,
    "attention": attention,
    "bias_gelu_new": bias_gelu_new,
    "bias_dropout_residual_layer_norm": bias_dropout_residual_layer_norm,
    "linear_cross_entropy": linear_cross_entropy,
    "embedding": embedding,
    "layer_norm": layer_norm,
}


def bind_function(settings, batch):
    """One function, forward or backward, alone."""
    function, direction = split_work(settings["work"])
    dy = torch.from_numpy(batch["dy"].astype(settings["dtype"]))
    arguments = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in with_separate_heads(arguments_of(batch, settings["dtype"])).items()
    }
    task = task_of(function, direction, CALLS[function], arguments, dy)
    return task._replace(outputs=lambda returned: arrays(task.outputs(returned)))


def task_of(function, direction, call, arguments, dy):
    """One direction of a function of torch's; its outputs are tensors.

    Parameters
    ----------
    function : str
        Of FUNCTIONS.
    direction : {"forward", "backward"}
    call : callable
        Of the names and arguments of CALLS.
    arguments : dict
        Of `with_separate_heads`, tensors for arrays.
    dy : tensor

    Returns
    -------
    Task
    """
    if direction == "forward":

        def run():
            with torch.inference_mode():
                return call(**arguments)

        return Task(run, lambda y: {"y": y})

    leaves = {
        name: tensor.detach().requires_grad_()
        for name, tensor in arguments.items()
        if torch.is_tensor(tensor) and tensor.is_floating_point()
    }
    inputs = [leaf for name, leaf in leaves.items() if name not in FUNCTIONS[function].parameters]
    y = call(**(arguments | leaves))

    def run():
        for leaf in inputs:  # those of parameters add up, as ours do
            leaf.grad = None
        y.backward(dy, retain_graph=True)

    return Task(run, lambda _: named_gradients({name: leaf.grad for name, leaf in leaves.items()}))


def named_gradients(gradients):
    """The same; those of query, key and value end to end, as ours are."""
    if "query" in gradients:
        return {"query_key_value": torch.cat([*gradients.values()], dim=-1)}
    return gradients
