"""The one place where a back end is chosen."""

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Backend:
    """The functions that the model is composed of.

    Each default is the NumPy reference, so another back end names only what it does itself, and
    `dataclasses.replace` puts one function in the place of another. Where attention weights are
    asked for, attention is the reference's all the same, since a kernel need not hold them.
    """

    name: str
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

BACKENDS = {"numpy": NUMPY}


def get_backend(backend):
    """Return a back end by its name.

    Parameters
    ----------
    backend : str or Backend
        "numpy", the reference; or a Backend, which is returned as it is.

    Returns
    -------
    Backend

    Raises
    ------
    ValueError
        If there is no back end of that name.
    """
    if isinstance(backend, Backend):
        return backend
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not one of {', '.join(BACKENDS)}")
    return BACKENDS[backend]
