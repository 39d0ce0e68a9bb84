"""Fused kernels for the CPU, compiled by Numba: the functions that `Backend` takes from here."""

from albert_np.kernels.numba.linear import linear_backward, linear_forward

__all__ = ["linear_backward", "linear_forward"]
