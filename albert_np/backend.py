"""The one place where a back end is chosen."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from albert_np.arrays import HOST
from albert_np.functions.attention import attention_backward, attention_forward
from albert_np.functions.embedding import embedding_backward, embedding_forward
from albert_np.functions.fused import (
    bias_dropout_residual_layer_norm_backward,
    bias_dropout_residual_layer_norm_forward,
    bias_dropout_residual_layer_norm_output,
    bias_gelu_new_backward,
    bias_gelu_new_forward,
    bias_gelu_new_output,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
)
from albert_np.functions.layer_norm import layer_norm_backward, layer_norm_forward
from albert_np.functions.linear import linear_backward, linear_forward
from albert_np.libraries import import_library


@dataclass(frozen=True)
class Backend:
    """The functions that the model is composed of.

    Each default is the NumPy reference, so another back end names only what it does itself, and
    `dataclasses.replace` puts one function in the place of another. Those that share a cache
    (forward, backward, and output where there is one) are replaced together. Where a call asks for
    what a kernel need not know (`encoder.needs_plain_attention`), attention is the reference's all
    the same. `arrays` says where its arrays lie, and how others get there.
    """

    name: str
    arrays: object = HOST
    linear_forward: Callable = linear_forward
    linear_backward: Callable = linear_backward
    embedding_forward: Callable = embedding_forward
    embedding_backward: Callable = embedding_backward
    layer_norm_forward: Callable = layer_norm_forward
    layer_norm_backward: Callable = layer_norm_backward
    attention_forward: Callable = attention_forward
    attention_backward: Callable = attention_backward
    bias_gelu_new_forward: Callable = bias_gelu_new_forward
    bias_gelu_new_backward: Callable = bias_gelu_new_backward
    bias_gelu_new_output: Callable = bias_gelu_new_output
    bias_dropout_residual_layer_norm_forward: Callable = bias_dropout_residual_layer_norm_forward
    bias_dropout_residual_layer_norm_backward: Callable = bias_dropout_residual_layer_norm_backward
    bias_dropout_residual_layer_norm_output: Callable = bias_dropout_residual_layer_norm_output
    linear_cross_entropy_forward: Callable = linear_cross_entropy_forward
    linear_cross_entropy_backward: Callable = linear_cross_entropy_backward


NUMPY = Backend("numpy")


def numba_backend():
    """Fused kernels for the CPU, by the library numba (the extra `numba`).

    Raises
    ------
    ImportError
        If the library is not installed, or the environment keeps it from compiling.
    """
    import_library("numba", "the back end 'numba'", "albert-np[numba]")
    from albert_np.kernels import numba as kernels

    names = [field.name for field in fields(Backend) if hasattr(kernels, field.name)]
    return Backend("numba", **{name: getattr(kernels, name) for name in names if name != "name"})


def cuda_backend(allow_tf32=False):
    """Fused kernels for NVIDIA GPUs, by the library CuPy (the extra `cuda`).

    Parameters
    ----------
    allow_tf32 : bool, optional
        As for `get_backend`.

    Raises
    ------
    ImportError
        If the library is not installed.
    GpuError
        If there is no driver, no GPU, or too old a one.
    """
    from albert_np.kernels import cuda
    from albert_np.kernels.cuda.cupy_executor import CupyExecutor

    executor = CupyExecutor(allow_tf32=allow_tf32)
    return Backend("cuda", executor, **cuda.functions(executor))


BACKENDS = {"numpy": lambda: NUMPY, "numba": numba_backend, "cuda": cuda_backend}


def get_backend(backend, allow_tf32=False):
    """Return a back end by its name.

    Parameters
    ----------
    backend : str or Backend
        "numpy", the reference; "numba", fused kernels for the CPU; "cuda", for NVIDIA GPUs; or
        a Backend, which is returned as it is.
    allow_tf32 : bool, optional
        Of "cuda", whether products of float32 (the linear maps' and attention's) may round what
        they multiply to tf32, as the tensor cores of GPUs from compute capability 8.0 on take it:
        11 significant bits of 24. The sums stay in float32. Other types, and what runs through the
        plain pairs, are as without it.

    Returns
    -------
    Backend

    Raises
    ------
    ValueError
        If there is no back end of that name, or `allow_tf32` is for another than "cuda".
    ImportError
        If the library that it needs is not installed.
    GpuError
        If it needs a GPU, and finds none that it can use.
    """
    if allow_tf32 and backend != "cuda":
        given = "made already" if isinstance(backend, Backend) else repr(backend)
        raise ValueError(f"allow_tf32 is an option of the back end 'cuda'; backend is {given}")
    if isinstance(backend, Backend):
        return backend
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not one of {', '.join(BACKENDS)}")
    return cuda_backend(allow_tf32) if allow_tf32 else BACKENDS[backend]()
