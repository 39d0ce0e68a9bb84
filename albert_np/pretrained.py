"""What all models have in common: parameters, calls, derivatives, traces, loading and saving."""

from albert_np.backend import NUMPY, get_backend
from albert_np.checkpoint import load_parameters, resolve_directory, save_parameters
from albert_np.config import AlbertConfig
from albert_np.encoder import Run, layer_schedule
from albert_np.functions import calling
from albert_np.inputs import check_inputs, check_output_gradients, check_seed
from albert_np.outputs import Gradients
from albert_np.parameters import allocate, initialize, zeros_like
from albert_np.trace import Trace

DTYPES = ("float32", "float64")
BATCH = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds")
CALL_ARGUMENTS = (*BATCH, "output_attentions", "output_hidden_states", "seed")


class AlbertPreTrainedModel:
    """What all models have in common. A model holds no result of any call.

    Parameters
    ----------
    config : AlbertConfig
    seed : int or None, optional
        Draws the initial parameters; None leaves them all zero, to be filled.
    dtype : {"float32", "float64"}, optional
        Of parameters, activations and gradients.
    backend : str or Backend, optional
        "numpy", the reference.
    **structure
        What else the class says it is made with.

    Attributes
    ----------
    config : AlbertConfig
    parameters : dict of str to array
        By Hugging Face's names; a tied weight stands once. Change them in place.
    backend : Backend

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or value.
    """

    # A class adds what is its own: parameter_shapes(config); where it has labels,
    # _check_labels(labels, shape); _forward(batch, labels, run), which returns outputs and a cache;
    # and _backward(gradients, cache, slots, run), which returns dinputs_embeds.

    label_names = ()

    def _check_labels(self, labels, shape):
        """Check labels, name → value, against the batch's (B, S)."""
        return labels

    def __init__(self, config, *, seed=0, dtype="float32", backend="numpy", **structure):
        if not isinstance(config, AlbertConfig):
            raise TypeError(f"config is of type {type(config).__name__}; expected AlbertConfig")
        if getattr(dtype, "name", getattr(dtype, "__name__", dtype)) not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}; expected {' or '.join(DTYPES)}")
        self.config = config
        self.backend = get_backend(backend)
        self.parameters = allocate(self.parameter_shapes(config, **structure), dtype)
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

    def __call__(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        *,
        inputs_embeds=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        seed=None,
        **labels,
    ):
        """Run the model forward; nothing is kept.

        Parameters
        ----------
        input_ids : array_like of int, shape (B, S), optional
            This, or inputs_embeds.
        attention_mask : array_like, shape (B, S), optional
            1 for tokens to attend to, 0 for padding; by default all 1.
        token_type_ids : array_like of int, shape (B, S), optional
            0 for the first segment, 1 for the second; by default all 0.
        position_ids : array_like of int, shape (B, S) or (1, S), optional
            By default 0, 1, 2, …
        inputs_embeds : array_like, shape (B, S, E), optional
            In place of the word embeddings of input_ids.
        output_attentions, output_hidden_states : bool, optional
            Whether to return them; by default not.
        return_dict : bool, optional
            False returns a tuple.
        seed : int, optional
            Applies dropout, with masks drawn from this seed.
        **labels
            What the class says that it takes.

        Returns
        -------
        ModelOutput
            Of the kind that the class says.

        Raises
        ------
        ValueError, TypeError
            If an argument is of another shape or type, or out of range.
        """
        batch, labels, run = self._begin(
            {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
                "position_ids": position_ids,
                "inputs_embeds": inputs_embeds,
                "output_attentions": output_attentions,
                "output_hidden_states": output_hidden_states,
                "seed": seed,
                **labels,
            }
        )
        outputs, _ = self._forward(batch, labels, run)
        return outputs.to_tuple() if return_dict is False else outputs

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
            left out. May be called any number of times, as long as neither the parameters nor
            the outputs are changed. It raises ValueError or TypeError for a gradient of no output
            or of another shape.

        Raises
        ------
        ValueError, TypeError
            If an argument is of another shape or type, or out of range.
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
        loss : floating number
        gradients : Gradients

        Raises
        ------
        ValueError, TypeError
            If labels are missing, or an argument is of another shape or type, or out of range.
        """
        self._need_loss(inputs)
        batch, labels, run = self._begin(inputs, keep=True, loss_only=True)
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

        Raises
        ------
        ValueError, TypeError
            As `vjp` and its pullback do.
        """
        if gradients is True:
            self._need_loss(inputs)
        trace = Trace()
        batch, labels, run = self._begin(inputs, keep=True, backend=NUMPY, call=trace.record)
        trace.outputs, cache = self._forward(batch, labels, run)
        if gradients is not False:
            output_gradients = None if gradients is True else gradients
            trace.gradients = self._pull_back(output_gradients, trace.outputs, cache, run)
        return trace

    def _begin(self, arguments, *, backend=None, call=calling.call, keep=False, loss_only=False):
        """Check the arguments of a call: its batch, its labels, and how it is run."""
        known = {*CALL_ARGUMENTS, *self.label_names}
        for name in arguments:
            if name not in known:
                raise TypeError(
                    f"{type(self).__name__} takes no argument {name!r}; "
                    f"it takes {', '.join(sorted(known))}"
                )
        given = dict.fromkeys(known) | arguments
        labels = {name: given[name] for name in self.label_names}
        batch = check_inputs(self.config, self.dtype, **{name: given[name] for name in BATCH})
        run = Run(
            config=self.config,
            schedule=layer_schedule(self.config),
            backend=backend or self.backend,
            seed=check_seed(given["seed"]),
            output_attentions=bool(given["output_attentions"]),
            output_hidden_states=bool(given["output_hidden_states"]),
            keep=keep,
            loss_only=loss_only,
            call=call,
        )
        return batch, self._check_labels(labels, batch.shape), run

    def _need_loss(self, arguments):
        """Refuse arguments that give no loss."""
        missing = [name for name in self.label_names if arguments.get(name) is None]
        if missing or not self.label_names:
            raise ValueError(
                f"{type(self).__name__} has no loss without {' and '.join(missing) or 'a head'}"
            )

    def _pull_back(self, output_gradients, outputs, cache, run):
        gradients = check_output_gradients(output_gradients, outputs, self.dtype)
        slots = zeros_like(self.parameters)
        return Gradients(slots, self._backward(gradients, cache, slots, run))
