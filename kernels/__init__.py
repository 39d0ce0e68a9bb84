"""Fused kernels, imported as `albert_np.kernels`: NumPy's reference is what they are held to."""
