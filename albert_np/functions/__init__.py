"""The mathematics of ALBERT: each function a forward pass beside its backward pass.

    y, cache           = layer_norm_forward(x, weight, bias, eps)
    dx, dweight, dbias = layer_norm_backward(dy, cache)

No function has state. `cache` is what backward needs of forward and nothing more. `dx` is the
gradient of the loss with respect to `x`. Any leading shape is accepted where a docstring writes
`...`; floating dtypes are kept. Forward passes are analytic functions of their floating inputs, so
that complex input gives derivatives by the complex step.
"""
