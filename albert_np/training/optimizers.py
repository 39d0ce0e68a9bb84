"""AdamW, clipping of gradients, and the learning rate's course."""

import numpy as np

from albert_np.arrays import wide


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

        p ← p − lr · λ · p
        m ← m + (1 − β₁)(g − m)         v ← β₂ v + (1 − β₂) g²
        p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)

    in this order of operations, which is that of `torch.optim.AdamW`.

    In float16, g² and eps are 0 before they meet, and in bfloat16 most steps are smaller than the
    last digit of what they are added to: for such parameters all of this is computed in float32.

    Parameters
    ----------
    parameters : dict of str to array
        Changed in place by `step`; of float16 or bfloat16 each is then the rounded copy of one in
        float32, which is taken from it here, once.
    betas : (float, float), optional
        Decay of the running means of the gradient and of its square.
    eps : float, optional
    weight_decay : float, optional
        λ.
    undecayed : collection of str, optional
        Names of the parameters that λ leaves alone; `biases_and_layer_norms` gives the usual ones.

    Attributes
    ----------
    steps : dict of str to int
        Steps that each parameter has taken so far, t.
    """

    def __init__(self, parameters, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, undecayed=()):
        self.parameters = parameters
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.undecayed = frozenset(undecayed)
        self.steps = dict.fromkeys(parameters, 0)
        self.exact = {name: wide(array) for name, array in parameters.items()}
        self.means = {name: np.zeros_like(array) for name, array in self.exact.items()}
        self.squares = {name: np.zeros_like(array) for name, array in self.exact.items()}

    def step(self, gradients, lr):
        """Move the parameters against the gradients.

        Parameters
        ----------
        gradients : dict of str to array
            A parameter that has none stays as it is, and so do its running means.
        lr : float
            The learning rate of this step.
        """
        beta1, beta2 = self.betas
        for name, gradient in gradients.items():
            parameter, mean, square = self.exact[name], self.means[name], self.squares[name]
            gradient = wide(gradient)
            self.steps[name] += 1
            step_size = lr / (1 - beta1 ** self.steps[name])
            root_correction = (1 - beta2 ** self.steps[name]) ** 0.5
            if name not in self.undecayed:
                parameter *= 1 - lr * self.weight_decay
            mean += (1 - beta1) * (gradient - mean)
            square *= beta2
            square += (1 - beta2) * gradient * gradient
            parameter -= step_size * mean / (np.sqrt(square) / root_correction + self.eps)
            if parameter is not self.parameters[name]:
                self.parameters[name][...] = parameter


def biases_and_layer_norms(parameters):
    """The names of the parameters that weight decay usually leaves alone: those of one axis."""
    return {name for name, array in parameters.items() if array.ndim == 1}


def clip_gradients(gradients, max_norm):
    """Scale the gradients in place so that their common norm is at most `max_norm`.

    Of float16 and bfloat16, the sums and products are float32's. On a GPU there is one wait, for
    the norm.

    Parameters
    ----------
    gradients : dict of str to array
    max_norm : float

    Returns
    -------
    float
        The norm before.
    """
    norm = float(sum(_sum_of_squares(wide(gradient)) for gradient in gradients.values())) ** 0.5
    if norm > max_norm:
        for gradient in gradients.values():
            gradient[...] = wide(gradient) * (max_norm / norm)
    return norm


def _sum_of_squares(array):
    return np.vdot(array, array).astype(np.float64)


def linear_schedule(lr, steps, warmup_steps):
    """Learning rates that rise linearly to `lr`, then fall linearly towards 0.

    Parameters
    ----------
    lr : float
        The highest rate, at step `warmup_steps` (just below it at step 1 where that is 0).
    steps, warmup_steps : int

    Returns
    -------
    array, shape (steps,)
    """
    step = np.arange(1, steps + 1)
    return lr * np.minimum(
        step / max(warmup_steps, 1), (steps + 1 - step) / (steps + 1 - warmup_steps)
    )
