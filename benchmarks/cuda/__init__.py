"""The CUDA kernels on a GPU: checked, then timed beside PyTorch's, Triton's and the user's own.

Contenders work in one process here, since the GPU is what they share. `machine` is the one module
that names CuPy; the tests put the CPU in its place.
"""
