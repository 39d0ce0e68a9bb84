"""Fused kernels for the CPU, compiled by Numba: the functions that `Backend` takes from here."""

from albert_np.kernels.numba.attention import attention_backward, attention_forward
from albert_np.kernels.numba.bias_gelu_new import (
    bias_gelu_new_backward,
    bias_gelu_new_forward,
    bias_gelu_new_output,
)
from albert_np.kernels.numba.embedding import embedding_backward
from albert_np.kernels.numba.layer_norm import (
    bias_dropout_residual_layer_norm_backward,
    bias_dropout_residual_layer_norm_forward,
    bias_dropout_residual_layer_norm_output,
    layer_norm_backward,
    layer_norm_forward,
)
from albert_np.kernels.numba.linear import linear_backward, linear_forward
from albert_np.kernels.numba.linear_cross_entropy import (
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
)

__all__ = [
    "attention_backward",
    "attention_forward",
    "bias_dropout_residual_layer_norm_backward",
    "bias_dropout_residual_layer_norm_forward",
    "bias_dropout_residual_layer_norm_output",
    "bias_gelu_new_backward",
    "bias_gelu_new_forward",
    "bias_gelu_new_output",
    "embedding_backward",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_backward",
    "linear_cross_entropy_backward",
    "linear_cross_entropy_forward",
    "linear_forward",
]
