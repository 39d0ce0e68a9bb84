"""Live candidates in PyTorch: hooks give the intermediates, autograd the gradients.

Modules are known by the names of transformers' ALBERT, which its versions 4 and 5 share; softmax,
which is no module, by the function's name. So nothing here depends on the version, and a module of
one's own is looked into as far as it keeps the names.
"""

import re
from contextlib import ExitStack, contextmanager

import numpy as np

from albert_np.libraries import import_library
from albert_np.verification.precision import bfloat16_library
from albert_np.verification.user_code import described

# What each module is given, and what it returns, by the names of the reference's operations; None
# where the reference has no such tensor. ACTIVATION stands for the configuration's hidden_act.
PARTS = {
    "embeddings.word_embeddings": (None, "embeddings.word_embeddings"),
    "embeddings.token_type_embeddings": (None, "embeddings.token_type_embeddings"),
    "embeddings.position_embeddings": (None, "embeddings.position_embeddings"),
    "embeddings.LayerNorm": ("embeddings.SUM", "embeddings.LayerNorm"),
    "encoder.embedding_hidden_mapping_in": (None, "encoder.embedding_hidden_mapping_in"),
    "pooler": ("pooler.first_token", "pooler.linear"),
    "pooler_activation": (None, "pooler.tanh"),
    "predictions.dense": (None, "predictions.activation.bias"),
    "predictions.LayerNorm": ("predictions.activation.ACTIVATION", "predictions.LayerNorm"),
    "predictions.decoder": (None, "predictions.decoder"),
    "sop_classifier.classifier": (None, "sop_classifier.classifier"),
    "classifier": (None, "classifier"),
    "qa_outputs": (None, "qa_outputs.linear"),
}
# The same of a layer's modules, within the repetition that runs them.
LAYER_PARTS = {
    "attention.query": (None, "attention.query"),
    "attention.key": (None, "attention.key"),
    "attention.value": (None, "attention.value"),
    "attention.dense": ("attention.self.merge_heads", "attention.output.bias"),
    "attention.LayerNorm": ("attention.output.add", "attention.output.layer_norm"),
    "ffn": (None, "activation.bias"),
    "ffn_output": ("activation.ACTIVATION", "output.bias"),
    "full_layer_layer_norm": ("output.add", "output.layer_norm"),
}
LAYER = re.compile(r"(.*encoder\.)albert_layer_groups\.\d+\.albert_layers\.\d+(?:\.(.+))?")
JOINED = ("attention.query", "attention.key", "attention.value")
LAST_SCORES = {
    "absolute": "scores",
    "relative_key": "add_query_distance_scores",
    "relative_key_query": "add_key_distance_scores",
}


def candidate_library(name):
    """A library that live candidates need.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    return import_library(name, "this candidate", name)


def transformers_module(case, attention="sdpa", dtype="float32"):
    """The module of transformers of the same class, with the case's parameters.

    Parameters
    ----------
    case : Case
    attention : {"sdpa", "eager"}, optional
    dtype : str, optional
        "float32", "float64", "float16" or "bfloat16".

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ImportError
        If the libraries are not installed.
    ValueError
        If the library cannot make it, or its parameters have other names or shapes.
    """
    torch, transformers = candidate_library("torch"), candidate_library("transformers")
    settings = case.config.to_dict()
    settings.pop("transformers_version", None)
    with _of_transformers():
        config = transformers.AlbertConfig(**settings)
        config._attn_implementation = attention
        module = getattr(transformers, case.model_class.__name__)(config, **case.structure)
    set_parameters(module, case.parameters)
    return module.to(getattr(torch, dtype)).eval()


def transformers_checkpoint(directory, case, attention="sdpa", dtype="float32"):
    """A checkpoint as transformers loads it.

    Parameters
    ----------
    directory : str
        In Hugging Face's layout.
    case : Case
        Whose class is loaded. A head that the checkpoint lacks is the case's.
    attention, dtype
        See `transformers_module`.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ImportError
        If the libraries are not installed.
    ValueError
        If the library cannot load it.
    """
    torch, transformers = candidate_library("torch"), candidate_library("transformers")
    with _of_transformers():
        module, information = getattr(transformers, case.model_class.__name__).from_pretrained(
            str(directory),
            attn_implementation=attention,
            output_loading_info=True,
            **case.structure,
        )
    own = dict(module.named_parameters())
    with torch.no_grad():  # what neither library finds is drawn, by each on its own
        for name in own.keys() & case.parameters.keys() & set(information["missing_keys"]):
            own[name].copy_(torch.tensor(case.parameters[name]))
    return module.to(getattr(torch, dtype)).eval()


@contextmanager
def _of_transformers():
    """Whatever the library raises about a setting or a file is one error."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"transformers makes no such model: {described(error)}") from error


def set_parameters(module, parameters):
    """Give a module parameters by their names.

    Raises
    ------
    ValueError
        If it has others.
    """
    torch = candidate_library("torch")
    own = dict(module.named_parameters())
    if own.keys() != parameters.keys():
        unlike = min(own.keys() ^ parameters.keys())
        where = "the module" if unlike in own else "the case"
        raise ValueError(f"only {where} has a parameter {unlike}; expected the same in both")
    with torch.no_grad():
        for name, parameter in own.items():
            if tuple(parameter.shape) != parameters[name].shape:
                raise ValueError(
                    f"the module's {name} is of shape {tuple(parameter.shape)}; "
                    f"expected {parameters[name].shape}"
                )
            parameter.copy_(torch.tensor(parameters[name]))


def run_module(case, module):
    """Run a module of PyTorch on a case, forward and, where it gives a loss, backward.

    Parameters
    ----------
    case : Case
    module : torch.nn.Module
        Called with the case's inputs by name; returns outputs by name.

    Returns
    -------
    tensors : dict of str to array
        See `albert_np.verification.reference`; those that were found.
    could_not : list of str
        What was not, and why.

    Raises
    ------
    ValueError
        If the module raises, or returns something else.
    """
    torch = candidate_library("torch")
    refuse_dropout(case)
    module.zero_grad()
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    inputs = {
        name: _to_tensor(value, dtype)
        for name, value in case.arguments.items()
        if value is not None
    }
    recorder = Recorder(case)
    try:
        with recorder.watching(module):
            outputs = _named(module(**inputs))
    except (Exception, SystemExit) as error:  # whatever the module may raise
        raise ValueError(f"the module raises {described(error)}") from error
    could_not = recorder.could_not()
    tensors = {
        f"parameters/{name}": to_array(parameter) for name, parameter in module.named_parameters()
    }
    found = recorder.tensors()
    tensors |= {f"forward/{name}": _array(value) for name, value in found.items()}
    tensors |= {f"outputs/{name}": to_array(value) for name, value in outputs.items()}
    total = _differentiated(case, outputs)
    if isinstance(total, str):
        return tensors, [*could_not, total]
    try:
        total.backward()
    except Exception as error:  # whatever autograd may raise
        raise ValueError(f"backward raises {described(error)}") from error
    tensors |= recorder.gradients()
    for name in ("albert.embeddings.word_embeddings", "embeddings.word_embeddings"):
        if f"backward/{name}" in tensors and case.inputs.get("input_ids") is not None:
            shape = *np.shape(case.inputs["input_ids"]), -1  # of all choices, where there are some
            tensors["gradients/inputs_embeds"] = tensors[f"backward/{name}"].reshape(shape)
    tensors |= {
        f"gradients/{name}": to_array(parameter.grad)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return tensors, could_not


def refuse_dropout(case):
    """Refuse a case with dropout: no library draws its masks as the reference does.

    Raises
    ------
    ValueError
        If there is a seed for it.
    """
    if case.inputs.get("seed") is not None:
        raise ValueError(
            "the case has a seed for dropout, and this candidate would draw other masks; "
            "expected a case without it"
        )


def _to_tensor(value, dtype):
    torch = candidate_library("torch")
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.tensor(value)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _named(outputs):
    """The tensors that a module returned, by name."""
    torch = candidate_library("torch")
    if not hasattr(outputs, "items"):
        raise TypeError(f"it returns a {type(outputs).__name__}; expected outputs by name")
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def _differentiated(case, outputs):
    """What is differentiated, a number; or why there is nothing."""
    torch = candidate_library("torch")
    if case.gradients is False:
        return "gradients: the case has neither labels nor gradients of outputs"
    given = {"loss": np.ones(())} if case.gradients is True else case.gradients
    total = 0
    for name, gradient in given.items():
        output = outputs.get(name)
        if output is None:
            return f"gradients: the module returns no {name}"
        if not output.requires_grad:
            return f"gradients: the module's {name} cannot be differentiated"
        if tuple(output.shape) != gradient.shape:
            shape = tuple(output.shape)
            return f"gradients: the module's {name} is of shape {shape}; expected {gradient.shape}"
        total = total + (output * torch.tensor(gradient).to(output.dtype)).sum()
    return total


def scores_name(case):
    """What the reference calls the scores that softmax is given: the last sum before it."""
    mask = case.inputs.get("attention_mask")
    if mask is not None and np.any(np.asarray(mask) != 1):
        return "mask"
    return LAST_SCORES[case.config.position_embedding_type]


def to_array(tensor):
    """A tensor as an array of the same type; bfloat16 is that of the library ml_dtypes."""
    torch = candidate_library("torch")
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(bfloat16_library().bfloat16)
    return tensor.numpy()


class Recorder:
    """What a module computes on its way, by the names of the reference.

    Parameters
    ----------
    case : Case
    """

    def __init__(self, case):
        config = case.config
        self.activation = config.hidden_act if isinstance(config.hidden_act, str) else "given"
        is_absolute = config.position_embedding_type == "absolute"
        self.sum = "add_position" if is_absolute else "add_token_type"
        self.scores = scores_name(case)
        self.layer = None  # the name of the repetition that runs
        self.repetitions = 0
        self.found = {}

    @contextmanager
    def watching(self, module):
        """Watch all that runs inside."""
        from torch.overrides import TorchFunctionMode

        recorder = self

        class Softmaxes(TorchFunctionMode):
            def __torch_function__(self, function, types, arguments=(), settings=None):
                settings = settings or {}
                result = function(*arguments, **settings)
                if getattr(function, "__name__", "") == "softmax" and recorder.layer is not None:
                    prefix = f"{recorder.layer}.attention.self"
                    recorder.keep(f"{prefix}.{recorder.scores}", (*arguments, None)[0])
                    recorder.keep(f"{prefix}.softmax", result)
                return result

        with ExitStack() as stack:
            for path, part in module.named_modules():
                for hook in self._hooks(path, part):
                    stack.callback(hook.remove)
            stack.enter_context(Softmaxes())
            yield

    def _hooks(self, path, part):
        match = LAYER.fullmatch(path)
        if match and match[2] is None:
            yield part.register_forward_pre_hook(self._entering(f"{match[1]}layers"))
            yield part.register_forward_hook(self._leaving)
        names = LAYER_PARTS.get(match[2]) if match else PARTS.get(path.removeprefix("albert."))
        if names is None:
            return
        before, after = names
        prefix = "albert." if path.startswith("albert.") and not match else ""
        if before is not None:
            yield part.register_forward_pre_hook(self._keep_input(prefix + before, bool(match)))
        yield part.register_forward_hook(self._keep_output(prefix + after, bool(match)))

    def _entering(self, prefix):
        def hook(part, arguments):
            self.layer = f"{prefix}.{self.repetitions}"
            self.repetitions += 1

        return hook

    def _leaving(self, part, arguments, result):
        self.layer = None

    def _keep_input(self, name, in_layer):
        def hook(part, arguments):
            if arguments:
                self.keep(self._full(name, in_layer), arguments[0])

        return hook

    def _keep_output(self, name, in_layer):
        def hook(part, arguments, result):
            self.keep(self._full(name, in_layer), result)

        return hook

    def _full(self, name, in_layer):
        name = name.replace("ACTIVATION", self.activation).replace("SUM", self.sum)
        return f"{self.layer}.{name}" if in_layer else name

    def keep(self, name, tensor):
        """Keep a tensor, and ask for its gradient."""
        import torch

        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            if tensor.requires_grad:
                tensor.retain_grad()
            self.found[name] = tensor

    def tensors(self):
        """What was kept, by the names of the reference."""
        spread = {name: self._spread_positions(name, x) for name, x in self.found.items()}
        return joined_parts(spread)

    def gradients(self):
        """Its gradients, those of positions aside, which are of all sequences at once."""
        given = {name: x.grad for name, x in self.found.items() if x.grad is not None}
        named = {
            f"backward/{name}": _array(gradient)
            for name, gradient in joined_parts(given).items()
            if not self._is_shared_position(name)
        }
        return named

    def could_not(self):
        """What the reference has and was not found."""
        reasons = []
        if not any(name.endswith("self.softmax") for name in self.found):
            reasons.append(
                "attention scores and probabilities: softmax was not called inside a layer"
            )
        if not self.repetitions:
            reasons.append("layers: no module is named albert_layer_groups.N.albert_layers.N")
        return reasons

    def _is_shared_position(self, name):
        """Whether this is the one lookup of positions that serves all sequences."""
        if not name.endswith("embeddings.position_embeddings"):
            return False
        return len(self.found[name]) != self._batch_size(name)

    def _batch_size(self, name):
        words = self.found.get(name.replace("position", "word"))
        return len(self.found[name] if words is None else words)

    def _spread_positions(self, name, tensor):
        if not self._is_shared_position(name):
            return tensor
        return tensor.expand(self._batch_size(name), *tensor.shape[1:])


def joined_parts(found):
    """Tensors by name, with query, key and value end to end, as the reference has them.

    Parameters
    ----------
    found : dict of str to array or tensor

    Returns
    -------
    dict
    """
    tensors = {}
    for name, tensor in found.items():
        if not name.endswith(JOINED):
            tensors[name] = tensor
        elif name.endswith(JOINED[-1]):
            prefix = name.rpartition(".")[0]
            parts = [found.get(f"{prefix}.{part}") for part in ("query", "key", "value")]
            if all(part is not None for part in parts):
                joined = np.concatenate([_array(part) for part in parts], axis=-1)
                tensors[f"{prefix}.query_key_value"] = joined
    return tensors


def _array(value):
    return value if isinstance(value, np.ndarray) else to_array(value)
