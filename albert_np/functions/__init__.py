"""The mathematics of ALBERT: each function a forward pass beside its backward pass.

    y, cache           = layer_norm_forward(x, weight, bias, eps)
    dx, dweight, dbias = layer_norm_backward(dy, cache)

No function has state. `cache` is what backward needs of forward and nothing more. `dx` is the
gradient of the loss with respect to `x`. Any leading shape is accepted where a docstring writes
`...`; float32 and float64 are kept. With `into`, a backward pass adds to slots it is given, and
returns those sums in the place of the gradients of parameters.

The shapes in docstrings and comments, everywhere in the package, are of these letters:

    B  batch              A  attention heads        E  embedding
    S  sequence length    D  head size, H / A       H  hidden
    T  tokens of a        V  vocabulary             I  intermediate
       packed batch       M, N  any other size      L  layers

Forward passes are analytic functions of their floating inputs, so that complex input (parameters
and all) gives derivatives by the complex step, as long as no exponential overflows.
"""
