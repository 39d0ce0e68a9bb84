"""What all models have in common: parameters, calls, derivatives, traces, loading and saving."""

import inspect

import numpy as np

from albert_np.backend import NUMPY, get_backend
from albert_np.checkpoint import load_parameters, resolve_directory, save_parameters
from albert_np.config import AlbertConfig
from albert_np.encoder import Run, layer_schedule
from albert_np.inputs import check_inputs, check_output_gradients, check_seed
from albert_np.outputs import Gradients
from albert_np.parameters import allocate, initialize, zeros_like
from albert_np.trace import Trace


class AlbertPreTrainedModel:
    """What all models have in common. A model holds no result of any call.

    Parameters
    ----------
    config : AlbertConfig
    seed : int or None, optional
        Draws the initial parameters; None leaves them all zero, to be filled.
    dtype : {"float32", "float64", "float16"} or dtype, optional
        Of parameters, activations and gradients.
    backend : str or Backend, optional
        "numpy", the reference.

    Attributes
    ----------
    config : AlbertConfig
    parameters : dict of str to array
        By Hugging Face's names; a tied weight stands once. Change them in place.
    backend : Backend
    """

    def __init__(self, config, *, seed=0, dtype="float32", backend="numpy"):
        if np.dtype(dtype).kind != "f":
            raise ValueError(f"dtype is {dtype!r}; expected float32, float64 or float16")
        self.config = config
        self.backend = get_backend(backend)
        self.parameters = allocate(self.parameter_shapes(), dtype)
        if seed is not None:
            initialize(self.parameters, config, seed)

    @classmethod
    def from_pretrained(cls, path_or_name, *, dtype="float32", backend="numpy", **settings):
        """Load a model from a directory in Hugging Face's layout.

        Parameters
        ----------
        path_or_name : str or Path
            A directory with config.json and model.safetensors; or "tiny", the model that ships.
        dtype, backend
            See the class.
        **settings
            What else the class is made with, such as `add_pooling_layer`.

        Raises
        ------
        FileNotFoundError
            If there is no such directory, or a file is missing.
        FileFormatError
            If a file does not hold what it should.
        """
        directory = resolve_directory(path_or_name)
        config = AlbertConfig.from_pretrained(directory)
        model = cls(config, seed=None, dtype=dtype, backend=backend, **settings)
        load_parameters(directory, model.parameters)
        return model

    def save_pretrained(self, directory):
        """Write config.json and model.safetensors, as Hugging Face's library reads them.

        Parameters
        ----------
        directory : str or Path
            Created where it is not there.
        """
        save_parameters(directory, self.parameters)
        self.config.save_pretrained(
            directory, architectures=[type(self).__name__], dtype=self.dtype.name
        )

    @property
    def dtype(self):
        """The dtype of the parameters."""
        return next(iter(self.parameters.values())).dtype

    def vjp(self, **inputs):
        """Run the model forward, and return its vector–Jacobian product.

        Parameters
        ----------
        **inputs
            As for a call.

        Returns
        -------
        outputs : ModelOutput
        pullback : callable
            `pullback()` returns the `Gradients` of outputs.loss; `pullback({name: gradient})`
            those of the sum over the named outputs of output ∘ gradient. A gradient has the shape
            of its output; for hidden_states and attentions it is a sequence with None for those
            left out. May be called any number of times, before parameters are changed.
        """
        batch, labels, run = self._begin(inputs, keep=True)
        outputs, cache = self._forward(batch, labels, run)

        def pullback(output_gradients=None):
            return self._pull_back(output_gradients, outputs, cache, run)

        return outputs, pullback

    def loss_and_gradients(self, **inputs):
        """The loss and its gradients, without what the loss does not need.

        Parameters
        ----------
        **inputs
            As for a call, labels included.

        Returns
        -------
        loss : array, shape ()
        gradients : Gradients
        """
        batch, labels, run = self._begin(inputs, keep=True, loss_only=True)
        missing = [name for name, value in labels.items() if value is None]
        if missing or not labels:
            raise ValueError(
                f"{type(self).__name__} has no loss without {' and '.join(missing) or 'a head'}"
            )
        outputs, cache = self._forward(batch, labels, run)
        return outputs.loss, self._pull_back(None, outputs, cache, run)

    def trace(self, *, gradients=False, **inputs):
        """Run the model through the plain pairs, and write down every operation.

        Parameters
        ----------
        gradients : bool or dict, optional
            True: also the gradients of the loss, of every intermediate. A dictionary: those of
            the outputs that it names, as for the pullback of `vjp`.
        **inputs
            As for a call.

        Returns
        -------
        Trace
        """
        trace = Trace()
        batch, labels, run = self._begin(inputs, keep=True, backend=NUMPY, call=trace.record)
        trace.outputs, cache = self._forward(batch, labels, run)
        if gradients:
            output_gradients = None if gradients is True else gradients
            trace.gradients = self._pull_back(output_gradients, trace.outputs, cache, run)
        return trace

    def _call(self, *, return_dict=None, **arguments):
        """Run forward only; nothing is kept."""
        batch, labels, run = self._begin(arguments)
        outputs, _ = self._forward(batch, labels, run)
        return outputs.to_tuple() if return_dict is False else outputs

    def _begin(self, arguments, **how):
        """Check the arguments of a call: its batch, its labels, and how it is run."""
        known = inspect.signature(type(self).__call__).parameters
        for name in arguments:
            if name not in known or name in ("self", "return_dict"):
                raise TypeError(f"{type(self).__name__} takes no argument {name!r}")
        arguments = dict(arguments)
        run = Run(
            config=self.config,
            schedule=layer_schedule(self.config),
            backend=how.pop("backend", self.backend),
            seed=check_seed(arguments.pop("seed", None)),
            output_attentions=bool(arguments.pop("output_attentions", False)),
            output_hidden_states=bool(arguments.pop("output_hidden_states", False)),
            **how,
        )
        labels = {name: arguments.pop(name, None) for name in self.label_names}
        batch = check_inputs(self.config, self.dtype, **arguments)
        return batch, self._check_labels(labels, batch.position_ids.shape), run

    def _pull_back(self, output_gradients, outputs, cache, run):
        gradients = check_output_gradients(output_gradients, outputs, self.dtype)
        slots = zeros_like(self.parameters)
        return Gradients(slots, self._backward(gradients, cache, slots, run))

    # A class adds what is its own: __call__, whose parameters are the arguments that the other
    # methods take too; parameter_shapes(); _forward(batch, labels, run), which returns outputs
    # and a cache; _backward(gradients, cache, slots, run), which returns dinputs_embeds.

    label_names = ()

    def _check_labels(self, labels, batch_shape):
        """Check labels, name → value, against the batch's (B, S)."""
        return labels
