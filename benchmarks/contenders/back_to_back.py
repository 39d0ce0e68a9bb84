"""Whether the threads of matrix products and of kernels get in each other's way.

A matrix product of the feed-forward part and the kernel behind it, each alone, and one after the
other as the model runs them.
"""

import numpy as np

from albert_np.backend import get_backend
from benchmarks.contenders import Task

PARTS = ("matmul", "kernel", "both")


def load(settings):
    """Of PARTS, that which `settings["part"]` names."""
    forward = get_backend(settings["backend"]).bias_gelu_new_forward

    def bind(batch):
        names = ("x", "weight", "bias", "dy")  # of `linear`; the product takes dy's place
        x, weight, bias, product = (batch[name].astype(settings["dtype"]) for name in names)
        x = x.reshape(-1, x.shape[-1])  # (T, H)
        product = product.reshape(-1, product.shape[-1])  # (T, I)

        def matmul():
            np.matmul(x, weight.T, out=product)

        def kernel():
            forward(product, bias)

        def both():
            matmul()
            kernel()

        run = {"matmul": matmul, "kernel": kernel, "both": both}[settings["part"]]
        return Task(run, lambda _: {})

    return bind
