"""Fused kernels for NVIDIA GPUs: `.cu` sources, and the functions that launch them.

`functions(executor)` gives the functions of a back end by their names. Who runs the launches is the
executor's matter: `cupy_executor.CupyExecutor` on a GPU, `host.HostExecutor` on the CPU for tests.
"""

import functools

from albert_np.kernels.cuda import (
    attention,
    cross_entropy,
    embedding,
    gelu_new,
    layer_norm,
    linear,
)

FUNCTIONS = (
    linear.linear_forward,
    linear.linear_backward,
    embedding.embedding_backward,
    attention.attention_forward,
    attention.attention_backward,
    layer_norm.layer_norm_forward,
    layer_norm.layer_norm_backward,
    layer_norm.bias_dropout_residual_layer_norm_forward,
    layer_norm.bias_dropout_residual_layer_norm_backward,
    layer_norm.bias_dropout_residual_layer_norm_output,
    gelu_new.bias_gelu_new_forward,
    gelu_new.bias_gelu_new_backward,
    gelu_new.bias_gelu_new_output,
    cross_entropy.linear_cross_entropy_forward,
    cross_entropy.linear_cross_entropy_backward,
)


def functions(executor):
    """The functions of the back end, on one executor.

    Parameters
    ----------
    executor : HostExecutor or CupyExecutor

    Returns
    -------
    dict of str to callable
        By the names of `albert_np.backend.Backend`, whose signatures they have.
    """
    return {function.__name__: functools.partial(function, executor) for function in FUNCTIONS}
