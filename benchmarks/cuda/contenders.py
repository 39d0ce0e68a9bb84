"""Who is measured: each version of our kernels, PyTorch's functions, Triton's, the user's own.

A contender is a function `bind(given)`, that makes a `Task` of one set of inputs. One that cannot
do a case raises, and is left out by name with what it said.
"""

import inspect
import re
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.util import find_spec

import numpy as np

from albert_np.backend import Backend
from albert_np.functions.packing import packed_batch
from albert_np.kernels import cuda
from albert_np.kernels.cuda.arrays import rounded_to_tf32
from benchmarks import added
from benchmarks.contenders.arguments import arguments_of
from benchmarks.contenders.ours import task_of
from benchmarks.cuda import raw
from benchmarks.figures import DETERMINISTIC
from benchmarks.functions import DIRECTIONS
from benchmarks.measure import real_rows

OURS = "cuda"
SDPA = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
VERSION = re.compile(r"_(\d+)(?:<|$)")  # in the name of a kernel


class Given:
    """One set of a case's inputs, in memory of its own.

    Parameters
    ----------
    host : dict of str to array
        Of `benchmarks.functions.inputs_of`.
    case : Case
    machine : Machine
    """

    def __init__(self, host, case, machine):
        self.host, self.case, self.machine = host, case, machine

    @cached_property
    def arrays(self):
        """Forward's arguments and dy as arrays of the machine, floating ones in the case's type."""
        executor = self.machine.executor
        arrays = {
            name: array if array.ndim == 0 and name != "dy" else executor.uploaded(array)
            for name, array in self.host.items()
        }
        dy = arrays.pop("dy").astype(self.case.dtype).reshape(self.host["dy"].shape)
        return arguments_of(arrays, self.case.dtype), dy

    def arrays_in(self, dtype):
        """The same numbers in another type."""
        arguments, dy = self.arrays
        changed = {
            name: value.astype(dtype) if getattr(value, "dtype", None) == self.case.dtype else value
            for name, value in arguments.items()
        }
        return changed, dy.astype(dtype)

    def arrays_in_tf32(self):
        """The same numbers, those of matrices as products multiply them where tf32 is allowed."""
        arguments, dy = self.arrays_in("float32")
        every = {name: tf32_matrix(value) for name, value in (arguments | {"dy": dy}).items()}
        dy = every.pop("dy")
        return every, dy

    @property
    def executor(self):
        """What runs our functions."""
        machine = self.machine
        return machine.tf32_executor if self.case.allow_tf32 else machine.executor

    @cached_property
    def tensors(self):
        """The same as PyTorch's tensors."""
        import torch

        def tensor(value):
            value = torch.from_numpy(np.asarray(value)).to(self.machine.torch_device)
            return value.to(getattr(torch, self.case.dtype)) if value.is_floating_point() else value

        arguments = arguments_of(
            {name: array for name, array in self.host.items() if name != "dy"}, "float32"
        )
        tensors = {
            name: tensor(value) if isinstance(value, np.ndarray) else value
            for name, value in arguments.items()
        }
        return tensors, tensor(self.host["dy"])

    def real(self, outputs):
        """Arrays of the machine without the rows of padding."""
        arguments, _ = self.arrays
        return real_rows(outputs, arguments)

    def of_torch(self, tensors):
        """Tensors as arrays of the machine, without the rows of padding."""
        return self.real({name: array_of(tensor, self.machine) for name, tensor in tensors.items()})


def tf32_matrix(value):
    """A matrix of float32 rounded to tf32; anything else as it is."""
    is_matrix = getattr(value, "dtype", None) == "float32" and value.ndim > 1
    return rounded_to_tf32(value) if is_matrix else value


def array_of(tensor, machine):
    """A tensor's memory, as an array of the machine."""
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:  # which is no type of the exchange between libraries
        return machine.xp.from_dlpack(tensor.view(torch.int16)).view(np.dtype("bfloat16"))
    return machine.xp.from_dlpack(tensor)


class Recording:
    """An executor, and the names of the kernels that it launched."""

    def __init__(self, executor):
        self._executor, self.kernels = executor, []

    def __getattr__(self, name):
        return getattr(self._executor, name)

    def launch(self, launch):
        self.kernels.append(launch.kernel)
        self._executor.launch(launch)


def of_functions(case, pair, given, outputs_of=None):
    """A pair of functions on arrays of the machine."""
    task = task_of(case.function, case.direction, pair, *given.arrays)
    real = given.real if outputs_of is None else outputs_of
    return task._replace(outputs=lambda returned: real(task.outputs(returned)))


def our_function(case, executor, direction):
    """A function of our back end: the reference's on its arrays, where there is no kernel."""
    backend = Backend("cuda", executor, **cuda.functions(executor))
    return getattr(backend, f"{case.function}_{direction}")


def our_pair(case, executor, version=None):
    """Our functions; of the direction that is measured, a version of the kernel."""
    pair = {each: our_function(case, executor, each) for each in DIRECTIONS}
    if version is not None:
        pair[case.direction] = partial(pair[case.direction], version=version)
    return list(pair.values())


def launched(case, given):
    """The kernels that our functions launch in one call."""
    executor = Recording(given.executor)
    task = of_functions(case, our_pair(case, executor), given)
    executor.kernels.clear()  # those of a forward pass that backward follows
    task.run()
    return list(executor.kernels)


def ours(case, given):
    """Our kernels: as they are launched unasked, and each version of the type before that one."""
    executor = given.executor
    bound = of_version(case, executor)
    function = our_function(case, executor, case.direction)
    if "version" in inspect.signature(function).parameters and not case.allow_tf32:
        numbers = [
            int(VERSION.search(name)[1]) for name in launched(case, given) if VERSION.search(name)
        ]
        for version in range(1, max(numbers, default=1)):
            pair = our_pair(case, executor, version)
            bound[f"{OURS} version {version}"] = partial(of_functions, case, pair)
    return bound


def of_version(case, executor, version=None):
    """Our kernel as it is launched unasked, or a version; of padded batches also packed."""
    name = OURS if version is None else f"{OURS} version {version}"
    pair = our_pair(case, executor, version)
    bound = {name: partial(of_functions, case, pair)}
    if case.function == "attention" and case.is_padded:
        bound[f"{name}, packed"] = partial(bind_packed, case, pair)
    return bound


def bind_packed(case, pair, given):
    """Attention of the real tokens alone, end to end."""
    tokens, dy = of_real_tokens(*given.arrays)
    packed = packed_batch(given.host["attention_mask"])
    offsets = given.machine.executor.uploaded(packed.offsets)
    tokens["packed"] = packed._replace(offsets=offsets)
    return task_of(case.function, case.direction, pair, tokens, dy)


def of_real_tokens(arguments, dy):
    """Attention's arguments, arrays or tensors, without the padding; and dy."""
    mask = arguments["attention_mask"]
    tokens = {
        "query_key_value": arguments["query_key_value"][mask],
        "num_attention_heads": arguments["num_attention_heads"],
    }
    return tokens, dy[mask]


def missing(*packages):
    """Which of them is not installed; None if all are."""
    return next((package for package in packages if find_spec(package) is None), None)


def of_torch(case, machine):
    """PyTorch's functions: eager, compiled, and attention by each of its back ends."""
    import torch
    from torch._functorch import config

    from benchmarks.contenders import of_transformers

    call = of_transformers.CALLS[case.function]
    config.donated_buffer = False  # a graph that is kept for the next call keeps its memory
    torch._dynamo.reset()  # each case is compiled for its own shapes
    bound = {
        "torch": partial(bind_torch, case, call),
        "torch.compile": partial(bind_torch, case, torch.compile(call, dynamic=False)),
    }
    if case.function == "attention":
        bound |= attention_of_torch(case, call)
    if case.allow_tf32:
        bound = {name: partial(bind_in_tf32, bind) for name, bind in bound.items()}
    return bound


def attention_of_torch(case, call):
    """Each back end of `scaled_dot_product_attention`, padded and packed; `varlen_attn`, packed.

    Of the backward pass, also where PyTorch may use nothing that gives other bits each time.
    """
    bound = {}
    for name, backend in SDPA.items():
        bound[f"sdpa {name}"] = partial(bind_torch, case, by_backend(call, backend))
        if case.is_padded:
            packed = by_backend(nested_attention, backend)
            bound[f"sdpa {name}, packed"] = partial(bind_torch_packed, case, packed)
    if case.is_padded:
        bound["varlen_attn, packed"] = partial(bind_torch_packed, case, varlen_attention)
    if case.direction == "backward":
        bound |= {
            f"{name}{DETERMINISTIC}": partial(bind_deterministic, bind)
            for name, bind in bound.items()
        }
    return bound


def separated(arguments):
    """The tensors with query, key and value apart, as `scaled_dot_product_attention` has them."""
    if "query_key_value" not in arguments:
        return arguments
    parts = (part.contiguous() for part in arguments["query_key_value"].chunk(3, dim=-1))
    others = {name: value for name, value in arguments.items() if name != "query_key_value"}
    return dict(zip(("query", "key", "value"), parts, strict=True)) | others


def bind_torch(case, call, given):
    from benchmarks.contenders import of_transformers

    arguments, dy = given.tensors
    task = of_transformers.task_of(case.function, case.direction, call, separated(arguments), dy)
    return task._replace(outputs=lambda returned: given.of_torch(task.outputs(returned)))


def bind_torch_packed(case, call, given):
    """The real tokens alone, end to end, by a call that is told where each sequence begins."""
    import torch

    from benchmarks.contenders import of_transformers

    tokens, dy = of_real_tokens(*given.tensors)
    offsets = packed_batch(given.host["attention_mask"]).offsets.astype(np.int32)
    call = partial(
        call,
        offsets=torch.from_numpy(offsets).to(given.machine.torch_device),
        shortest=min(case.lengths),
        longest=max(case.lengths),
    )
    task = of_transformers.task_of(case.function, case.direction, call, separated(tokens), dy)

    def outputs(returned):
        tensors = task.outputs(returned)
        return {name: array_of(tensor, given.machine) for name, tensor in tensors.items()}

    return task._replace(outputs=outputs)


def varlen_attention(query, key, value, num_attention_heads, offsets, shortest, longest):
    """PyTorch's attention of packed sequences, (T, A, D); since 2.10."""
    from torch.nn.attention.varlen import varlen_attn

    heads = (each.unflatten(-1, (num_attention_heads, -1)) for each in (query, key, value))
    return varlen_attn(*heads, offsets, offsets, longest, longest).flatten(1)


def nested_attention(query, key, value, num_attention_heads, offsets, shortest, longest):
    """`scaled_dot_product_attention` of nested tensors, whose sequences lie end to end.

    What is not said of the lengths, PyTorch waits for the GPU to learn, in each call.
    """
    import torch

    def heads(values):
        values = values.unflatten(-1, (num_attention_heads, -1))
        nested = torch.nested.nested_tensor_from_jagged(
            values, offsets, min_seqlen=shortest, max_seqlen=longest
        )
        return nested.transpose(1, 2)

    with torch.inference_mode(False):  # nested tensors of values refuse it
        parts = (heads(each) for each in (query, key, value))
        context = torch.nn.functional.scaled_dot_product_attention(*parts)
        return context.transpose(1, 2).values().flatten(1)


def by_backend(call, backend):
    """The call with one back end of `scaled_dot_product_attention`, or none."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def call_by_backend(**arguments):
        with sdpa_kernel([getattr(SDPBackend, backend)]):
            return call(**arguments)

    return call_by_backend


def bind_deterministic(bind, given):
    """The same, where PyTorch may use nothing that gives other bits each time."""
    with deterministic():  # in which the back end is chosen: cuDNN's gradients are not
        task = bind(given)

    def run():
        with deterministic():
            return task.run()

    return task._replace(run=run)


@contextmanager
def deterministic():
    """A context in which PyTorch refuses what gives other bits each time."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.utils.deterministic.fill_uninitialized_memory = False  # which takes time
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def bind_in_tf32(bind, given):
    """The same, where PyTorch may round what products of float32 multiply to tf32."""
    with tf32_allowed():
        task = bind(given)

    def run():
        with tf32_allowed():
            return task.run()

    return task._replace(run=run)


@contextmanager
def tf32_allowed():
    """A context in which PyTorch's products of float32 may round to tf32."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def of_triton(case, machine):
    """The Triton kernels of `of_triton`, none of which rounds to tf32."""
    if case.allow_tf32:
        return {}
    from benchmarks.cuda import of_triton

    pair = of_triton.FUNCTIONS.get(case.function)
    return {} if pair is None else {"triton": partial(bind_tensors, case, pair)}


def bind_tensors(case, pair, given):
    """A pair of functions of the reference's names and arguments, on tensors."""
    import torch

    arguments, dy = given.tensors
    task = task_of(case.function, case.direction, pair, arguments, dy, torch.zeros_like)
    return task._replace(outputs=lambda returned: given.of_torch(task.outputs(returned)))


def load_added(entry):
    """What a file of the user's has for one of the functions; `added.load` with CUDA sources."""
    path, function = added.parse(entry)
    if path.suffix == ".cu":
        return raw.directions(path, function)
    return added.load(entry)


def of_user(case, machine, entries):
    """The user's own kernels of this function and direction."""
    bound = {}
    for entry in entries:
        path, function = added.parse(entry)
        found = load_added(entry)
        if function != case.function or f"{function}_{case.direction}" not in found:
            continue
        if path.suffix == ".cu":
            pair = raw.pair(path, function, machine.executor)
            bind = partial(of_functions, case, pair)
        else:
            pair = [found.get(f"{function}_{direction}") for direction in DIRECTIONS]
            # A file that names PyTorch wants its tensors; any other, arrays.
            on_tensors = "torch" in pair[0].__globals__
            bind = partial(bind_tensors if on_tensors else of_functions, case, pair)
        bound[added.name_of(entry)] = bind
    return bound


PEERS = {"torch": (of_torch, ("torch",)), "triton": (of_triton, ("torch", "triton"))}


def peers(case, machine):
    """The peers that are installed, and why each of the others is left out.

    Returns
    -------
    bound : dict of str to callable
    left_out : dict of str to str
    """
    bound, left_out = {}, {}
    for name, (contenders, packages) in PEERS.items():
        absent = missing(*packages)
        if absent is None:
            bound |= contenders(case, machine)
        else:
            left_out[name] = f"{absent} is not installed"
    return bound, left_out
