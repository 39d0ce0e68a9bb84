"""What all models have in common: parameters, calls, derivatives, traces, loading and saving."""

import warnings
from dataclasses import replace
from inspect import signature

import numpy as np

from albert_np import tensorflow
from albert_np.arrays import HOST, on_host
from albert_np.backend import NUMPY, get_backend
from albert_np.capturing import CapturedCall, completed
from albert_np.checkpoint import load_parameters, resolve_directory, save_parameters
from albert_np.config import AlbertConfig
from albert_np.functions.cross_entropy import IGNORE_INDEX
from albert_np.functions.packing import packed_batch
from albert_np.inputs import (
    check_checkpoint_every,
    check_inputs,
    check_output_gradients,
    check_packed,
    check_seed,
    labelled_places,
    uploaded,
)
from albert_np.outputs import Gradients
from albert_np.parameters import allocate, initialize, moved, without_heads, zeros_like
from albert_np.resizing import ResizableEmbeddings
from albert_np.run import Run
from albert_np.schedule import kept_heads, layer_places, layer_prefix, layer_schedule
from albert_np.self_attention import needs_plain_attention
from albert_np.trace import Trace

DTYPES = ("float32", "float64")
HALVES = ("float16", "bfloat16")  # too narrow for the reference; the kernels of a GPU take them
BATCH = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
)
CALL_ARGUMENTS = (*BATCH, "output_attentions", "output_hidden_states", "seed", "packed")


def dtype_of(name):
    """The dtype of a name, bfloat16 too, which is not one of NumPy's own."""
    if name == "bfloat16":
        import ml_dtypes  # CuPy needs it for the same arrays

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


class AlbertPreTrainedModel(ResizableEmbeddings):
    """What all models have in common. A model holds no result of any call.

    Parameters
    ----------
    config : AlbertConfig
    seed : int or None, optional
        Draws the initial parameters; None leaves them all zero, to be filled.
    dtype : {"float32", "float64", "float16", "bfloat16"}, optional
        Of parameters, activations and gradients; the last two on the back end "cuda" alone.
    backend : str or Backend, optional
        "numpy", the reference; "numba", fused kernels for the CPU; or "cuda", fused kernels for
        NVIDIA GPUs, whose arrays are CuPy's.
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
    ImportError, GpuError
        If the back end lacks the library or the GPU that it needs.
    """

    # A class adds what is its own: parameter_shapes(config); where it has labels,
    # _check_labels(labels, batch); _forward(batch, labels, run), which returns outputs and a cache;
    # and _backward(gradients, cache, slots, run), which returns dinputs_embeds. Labels and outputs
    # that it names as those of tokens are packed where the batch is. `gathered_labels` names those
    # at whose tokens alone the loss is computed.

    label_names = ()
    token_labels = ()
    gathered_labels = None
    token_outputs = ()

    def _check_batch(self, arguments):
        """Check the arguments that every model takes, name → value."""
        return check_inputs(self.config, self.dtype, **arguments)

    def _check_labels(self, labels, batch):
        """Check labels, name → value, against the checked batch."""
        return labels

    def __init__(self, config, *, seed=0, dtype="float32", backend="numpy", **structure):
        if not isinstance(config, AlbertConfig):
            raise TypeError(f"config is of type {type(config).__name__}; expected AlbertConfig")
        backend = get_backend(backend)
        dtype = self._checked_dtype(dtype, backend)
        self.config = config
        self.backend = NUMPY
        on_host = "float32" if dtype in HALVES else dtype
        self.parameters = allocate(self.parameter_shapes(config, **structure), on_host)
        if seed is not None:
            initialize(self.parameters, config, seed)
        self.to(backend, dtype)

    @staticmethod
    def _checked_dtype(dtype, backend):
        """The name of a dtype that the back end has."""
        name = getattr(dtype, "name", getattr(dtype, "__name__", dtype))
        known = DTYPES if backend.arrays is HOST else (*DTYPES, *HALVES)
        if name not in known:
            raise ValueError(f"dtype is {dtype!r}; expected {' or '.join(known)}")
        return name

    def to(self, backend, dtype=None, *, allow_tf32=False):
        """Move the model to another back end, its parameters with it.

        Parameters
        ----------
        backend : str or Backend
            See the class.
        dtype : str or dtype, optional
            See the class. By default as it is; but on the CPU what is narrower becomes float32.
        allow_tf32 : bool, optional
            Of "cuda", whether products of float32 may round what they multiply to tf32, 11
            significant bits of 24, for the tensor cores. See `albert_np.backend.get_backend`.

        Returns
        -------
        The model itself. Between the CPU and a GPU, the arrays in `parameters` are replaced.

        Raises
        ------
        ValueError, ImportError, GpuError
            If there is no such back end or dtype, it lacks the library or the GPU that it needs, or
            `allow_tf32` is for another than "cuda".
        MemoryError
            If the GPU has no room.
        """
        backend = get_backend(backend, allow_tf32)
        origin, destination = self.backend.arrays, backend.arrays
        if dtype is None:
            narrow = self.dtype.name in HALVES and destination is HOST
            dtype = "float32" if narrow else self.dtype.name
        dtype = self._checked_dtype(dtype, backend)
        if destination is not origin or dtype != self.dtype.name:
            with destination.computing():
                self.parameters = moved(self.parameters, origin, destination, dtype_of(dtype))
        self.backend = backend
        return self

    @classmethod
    def from_pretrained(
        cls,
        path_or_name,
        *,
        config=None,
        dtype="float32",
        backend="numpy",
        seed=0,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        **settings,
    ):
        """Load a model in Hugging Face's layout.

        A checkpoint of another class is loaded too: tensors that this one has no use for are left
        out, and a head that it lacks is drawn as initial parameters are, each with a warning.

        Parameters
        ----------
        path_or_name : str or Path
            A directory with config.json and model.safetensors, or shards and their index; "tiny",
            the model that ships; or a name on Hugging Face's hub, such as
            "albert/albert-base-v2".
        config : AlbertConfig, optional
            In place of config.json.
        dtype, backend
            See the class. A file of another dtype, bfloat16 and float16 among them, is converted.
        seed : int or None, optional
            Draws the heads that the checkpoint lacks; None differently each time.
        revision, cache_dir, local_files_only
            For a name on the hub; see `hub.fetch`.
        **settings
            What else the class is made with, such as `add_pooling_layer`; or values in place of
            those in config.json.

        Raises
        ------
        FileNotFoundError
            If there is no such directory or name, or a file is missing.
        FileFormatError
            If a file does not hold what it should.
        TypeError, ValueError
            If an argument is of another type or value.
        """
        seed = check_seed(seed)
        structure, changes = cls._split_settings(config, settings)
        directory = resolve_directory(
            path_or_name,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        if config is None:
            config = AlbertConfig.from_pretrained(directory, **changes)
        backend = get_backend(backend)
        dtype = cls._checked_dtype(dtype, backend)
        model = cls(config, seed=None, dtype="float32" if dtype in HALVES else dtype, **structure)
        missing = load_parameters(directory, model.parameters)
        model._initialize_missing(missing, seed, directory)
        return model.to(backend, dtype)

    @classmethod
    def from_tensorflow(
        cls, path, *, config=None, dtype="float32", backend="numpy", seed=0, **settings
    ):
        """Load the authors' own release of ALBERT, made with TensorFlow, from its arrays.

        Parameters
        ----------
        path : str or Path
            An .npz file of the checkpoint's variables by their names, such as
            bert/embeddings/word_embeddings; or a directory with an .npy file of each, such as
            bert/embeddings/word_embeddings.npy. The release's albert_config.json lies in the
            directory, or beside the .npz file. Nothing is unpickled.
        config : AlbertConfig, optional
            In place of albert_config.json.
        dtype, backend, seed, **settings
            As for `from_pretrained`.

        Raises
        ------
        FileNotFoundError, FileFormatError, TypeError, ValueError
            As `from_pretrained` does.

        Examples
        --------
        With TensorFlow installed, a release's variables become such a file by

            reader = tf.train.load_checkpoint("albert_base/model.ckpt-best")
            names = reader.get_variable_to_shape_map()
            np.savez("albert_base/arrays.npz", **{name: reader.get_tensor(name) for name in names})
        """
        seed = check_seed(seed)
        structure, changes = cls._split_settings(config, settings)
        if config is None:
            config = tensorflow.read_config(path).changed(**changes)
        backend = get_backend(backend)
        dtype = cls._checked_dtype(dtype, backend)
        model = cls(config, seed=None, dtype="float32" if dtype in HALVES else dtype, **structure)
        missing = tensorflow.load_arrays(path, model.parameters)
        model._initialize_missing(missing, seed, path)
        return model.to(backend, dtype)

    @classmethod
    def _split_settings(cls, config, settings):
        """What the class is made with, and changes of the configuration."""
        own = signature(cls.parameter_shapes).parameters
        structure = {name: value for name, value in settings.items() if name in own}
        changes = {name: value for name, value in settings.items() if name not in own}
        if config is not None and changes:
            raise TypeError(f"config is given, and {', '.join(changes)}; expected one or the other")
        return structure, changes

    def _initialize_missing(self, missing, seed, source):
        """Draw the parameters of heads that a checkpoint lacks, and say so."""
        if not missing:
            return
        initialize({name: self.parameters[name] for name in missing}, self.config, seed)
        hint = " (without it: add_pooling_layer=False)" if "pooler.weight" in missing else ""
        warnings.warn(
            f"{source} lacks {', '.join(missing)}: newly initialized{hint}, and of no meaning "
            "before training",
            stacklevel=3,
        )

    def save_pretrained(self, directory, *, max_shard_size="5GB"):
        """Write config.json and model.safetensors, as Hugging Face's library reads them.

        An interrupted run leaves what an earlier one has written there; see
        `shards.write_tensors`.

        Parameters
        ----------
        directory : str or Path
            Created where it is not there.
        max_shard_size : int or str, optional
            In bytes, or such as "200MB". If the parameters are larger, they are written to several
            files, model-00001-of-00003.safetensors and so on, and an index; one that is larger by
            itself has a file of its own.

        Raises
        ------
        TypeError, ValueError
            If `max_shard_size` is no size, a parameter holds NaN or infinity, or the
            configuration's hidden_act is a pair of functions.
        OSError
            If the directory or a file cannot be written.
        """
        architectures = [type(self).__name__]
        dtype = "float32" if self.dtype.name in HALVES else self.dtype.name
        with self.config.written(directory, architectures=architectures, dtype=dtype):
            downloaded = self.backend.arrays.downloaded
            parameters = {
                name: downloaded(array).astype(dtype, copy=False)
                for name, array in self.parameters.items()
            }
            save_parameters(directory, parameters, max_shard_size)

    def prune_heads(self, heads_to_prune):
        """Remove attention heads, and their parameters.

        The arrays in `parameters` are replaced by smaller ones, and `config` by one that records
        the heads in `pruned_heads`.

        Parameters
        ----------
        heads_to_prune : dict of int to list of int
            By layer, the heads to remove. As layers share parameters, a layer here is an inner
            layer of a group, group · inner_group_num + inner; it loses the heads wherever it
            runs. Heads keep their first numbers, however many were pruned before; one that was is
            passed over.

        Raises
        ------
        ValueError, TypeError
            If there is no such layer or head, or a layer would lose its last one. Nothing is
            changed then.
        """
        config = self.config.with_pruned_heads(heads_to_prune)
        head_size = config.hidden_size // config.num_attention_heads
        for place in layer_places(config):
            before, after = kept_heads(self.config, place), kept_heads(config, place)
            if after != before:
                here = f"{layer_prefix(*place)}.attention."
                attention = {name: a for name, a in self.parameters.items() if here in name}
                stay = [head in after for head in before]
                self.parameters.update(without_heads(attention, stay, head_size))
        self.config = config

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
        head_mask=None,
        inputs_embeds=None,
        *,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        seed=None,
        packed=None,
        **labels,
    ):
        """Run the model forward; nothing is kept.

        Parameters
        ----------
        input_ids : array_like of int, shape (B, S), optional
            This, or inputs_embeds.
        attention_mask : array_like, optional
            1 for tokens to attend to, 0 for padding; by default all 1. Of shape (B, S); or, for
            each query its own, (B, S, S) or (B, 1, S, S); or for each head too, (B, A, S, S). A
            query that may attend to nothing gets the mean of all values.
        token_type_ids : array_like of int, shape (B, S), optional
            0 for the first segment, 1 for the second; by default all 0.
        position_ids : array_like of int, shape (B, S) or (1, S), optional
            By default 0, 1, 2, …
        head_mask : array_like, shape (A,) or (L, A), optional
            What the attention probabilities of each head, or of each head of each layer, are
            multiplied by, from 0 to 1; by default 1. Pruned heads are counted.
        inputs_embeds : array_like, shape (B, S, E), optional
            In place of the word embeddings of input_ids.
        output_attentions, output_hidden_states : bool, optional
            Whether to return them; by default as the configuration says.
        return_dict : bool, optional
            False returns a tuple; by default as the configuration says.
        seed : int, optional
            Applies dropout, with masks drawn from this seed.
        packed : bool, optional
            Whether to do no work on padding: what attention_mask, of shape (B, S), leaves out.
            Outputs are then 0 there, and a pooled output is that of the first token that is not
            padding. By default, where no output that is asked for can tell the difference.
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
                "head_mask": head_mask,
                "inputs_embeds": inputs_embeds,
                "output_attentions": output_attentions,
                "output_hidden_states": output_hidden_states,
                "seed": seed,
                "packed": packed,
                **labels,
            }
        )
        outputs, _ = self._run_forward(batch, labels, run)
        if return_dict is None:
            return_dict = self.config.use_return_dict
        return outputs if return_dict else outputs.to_tuple()

    def vjp(self, *, checkpoint_every=None, **inputs):
        """Run the model forward, and return its vector–Jacobian product.

        Parameters
        ----------
        checkpoint_every : int, optional
            Keep only what enters every so many repetitions of the layer, and compute the rest
            again in the pullback: the same gradients, to the last bit, in less memory and more
            time. By default, all that the pullback needs is kept.
        **inputs
            As for a call.

        Returns
        -------
        outputs : ModelOutput
            Whatever the configuration's return_dict.
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
        batch, labels, run = self._begin(inputs, keep=True, checkpoint_every=checkpoint_every)
        outputs, cache = self._run_forward(batch, labels, run)

        def pullback(output_gradients=None):
            return self._pull_back(output_gradients, outputs, cache, run)

        return outputs, pullback

    def loss_and_gradients(self, *, checkpoint_every=None, **inputs):
        """The loss and its gradients, without what the loss does not need.

        Parameters
        ----------
        checkpoint_every : int, optional
            As for `vjp`.
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
        return self._run_loss(inputs, checkpoint_every=checkpoint_every)

    def _run_loss(self, inputs, **how):
        """The loss and its gradients; `how` is that of `_begin`."""
        batch, labels, run = self._begin(inputs, keep=True, loss_only=True, **how)
        outputs, cache = self._run_forward(batch, labels, run)
        return outputs.loss, self._pull_back(None, outputs, cache, run)

    def capture(self, *, gradients=False, checkpoint_every=None, **inputs):
        """Record a call as a CUDA graph, which runs again without Python.

        A graph has one number of rows. Where the loss is that of masked words, its gradients are
        recorded for as many labelled tokens as these labels have: the decoder runs at no more. A
        later batch may label fewer tokens, so record one that labels as many as any.

        Parameters
        ----------
        gradients : bool, optional
            Record `loss_and_gradients`; a call by default.
        checkpoint_every : int, optional
            As for `vjp`, with `gradients`.
        **inputs
            As for a call, but for `seed`, since each run would drop the same elements, and for
            `packed`, since a graph has one number of tokens.

        Returns
        -------
        CapturedCall
            `captured(**inputs)` runs it on other numbers.

        Raises
        ------
        ValueError, TypeError
            If the model is not on a GPU, an argument is of another shape or type, or out of range,
            or asks for what there is no kernel for: attention by the plain pairs, or a feed-forward
            network in chunks; or if the loss is that of masked words, and none is labelled.
        """
        if self.backend.arrays is HOST:
            raise ValueError("the model is on the CPU; capture records what a GPU does")
        for name, not_given in (("seed", None), ("packed", False)):
            if inputs.get(name) not in (None, not_given):
                raise ValueError(f"{name} is {inputs[name]!r}; a recorded call takes none")
        if checkpoint_every is not None and not gradients:
            raise ValueError("checkpoint_every was given; expected gradients=True with it")
        if gradients:
            self._need_loss(inputs)
        inputs = {name: values for name, values in inputs.items() if values is not None}
        _, labels, run = self._begin({**inputs, "packed": False})
        if run.plain_attention or self.config.chunk_size_feed_forward:
            raise ValueError("the call asks for what there is no kernel for; it is not recorded")
        arrays = {*BATCH, *self.label_names}
        settings = {name: value for name, value in inputs.items() if name not in arrays}
        most_labelled = self._count_labelled(labels) if gradients else None

        def run_again(**given):
            if not gradients:
                return self(**given, **settings)
            how = {"checkpoint_every": checkpoint_every, "most_labelled": most_labelled}
            return self._run_loss(given | settings, **how)

        return CapturedCall(
            self,
            run_again,
            completed(
                {
                    name: self.backend.arrays.given(name, value)
                    for name, value in inputs.items()
                    if name in arrays
                }
            ),
            most_labelled,
        )

    def _count_labelled(self, labels):
        """How many tokens are labelled, where the loss is computed at those alone; else None.

        Raises
        ------
        ValueError
            If it is none.
        """
        if self.gathered_labels is None:
            return None
        of_tokens = self.backend.arrays.downloaded(labels[self.gathered_labels])
        count = int((of_tokens != IGNORE_INDEX).sum())
        if count == 0:
            raise ValueError(
                f"{self.gathered_labels} has no labelled token; a recorded call takes no more of "
                "them than it was recorded with"
            )
        return count

    def trace(self, *, gradients=False, **inputs):
        """Run the model through the plain pairs, and write down every operation.

        Parameters
        ----------
        gradients : bool or dict, optional
            True: also the gradients of the loss, of every intermediate. A dictionary: those of
            the outputs that it names, as for the pullback of `vjp`.
        **inputs
            As for a call; the batch is packed only if `packed` is True.

        Returns
        -------
        Trace

        Raises
        ------
        ValueError, TypeError
            As `vjp` and its pullback do; and where the model's dtype is float16 or bfloat16.
        """
        if self.dtype.name in HALVES:
            raise ValueError(
                f"the model's dtype is {self.dtype}; a trace runs the plain pairs, which take "
                "float32 or float64"
            )
        return self._record(Trace(), gradients, inputs)

    def _record(self, trace, gradients, inputs):
        """Run the model through the plain pairs, each of them by an empty trace's `record`."""
        if gradients is True:
            self._need_loss(inputs)
        batch, labels, run = self._begin(
            {"packed": False} | inputs, keep=True, backend=NUMPY, call=trace.record
        )
        trace.arguments = batch._asdict() | labels
        trace.outputs, cache = self._run_forward(batch, labels, run)
        if gradients is not False:
            output_gradients = None if gradients is True else gradients
            trace.gradients = self._pull_back(output_gradients, trace.outputs, cache, run)
        return trace

    def _begin(self, arguments, *, backend=None, most_labelled=None, **how):
        """Check the arguments of a call: its batch, its labels, and how it is run.

        `most_labelled` is how many tokens labels on a GPU may label; see `labelled_places`.
        """
        known = {*CALL_ARGUMENTS, *self.label_names}
        for name in arguments:
            if name not in known:
                raise TypeError(
                    f"{type(self).__name__} takes no argument {name!r}; "
                    f"it takes {', '.join(sorted(known))}"
                )
        arrays = self.backend.arrays
        given = dict.fromkeys(known) | arguments
        for name in (*BATCH, *self.label_names):
            given[name] = arrays.given(name, given[name])
        labels = {name: given[name] for name in self.label_names}
        batch = self._check_batch({name: given[name] for name in BATCH})
        output_attentions = self._asked_for("output_attentions", given)
        backend = backend or self.backend
        run = Run(
            config=self.config,
            schedule=layer_schedule(self.config),
            backend=backend,
            seed=check_seed(given["seed"]),
            output_attentions=output_attentions,
            output_hidden_states=self._asked_for("output_hidden_states", given),
            plain_attention=needs_plain_attention(self.config, batch, output_attentions, backend),
            **how,
        )
        check_checkpoint_every(run.checkpoint_every)
        labels = self._check_labels(labels, batch)
        asked = check_packed(given["packed"])
        packed = self._packed(asked, batch, labels, run)
        if packed is not None:
            labels = self._packed_labels(self._moved(labels, arrays.downloaded), packed)
        labelled = None
        if run.loss_only and self.gathered_labels is not None:
            labelled = labelled_places(labels[self.gathered_labels], most_labelled, batch.wrong)
        with arrays.computing():
            if packed is not None:
                packed = packed._replace(**self._moved(packed._asdict(), arrays.uploaded))
            if labelled is not None:
                labelled = tuple(map(arrays.uploaded, labelled))
            labels = self._moved(labels, arrays.uploaded)
            batch = uploaded(batch, arrays)
        return batch, labels, run._replace(packed=packed, labelled=labelled)

    def _packed(self, asked, batch, labels, run):
        """Where the tokens of the batch lie once it is packed; None if it is to stay as it is.

        It is on the CPU that tokens are counted. What lies on a GPU is fetched only if `asked`.
        """
        mask, downloaded = batch.attention_mask, self.backend.arrays.downloaded
        if asked is False or mask is None or mask.ndim > 2:
            return None
        if asked:
            return packed_batch(downloaded(mask))
        if not all(on_host(array) for array in (mask, *labels.values()) if hasattr(array, "dtype")):
            return None
        packed = packed_batch(mask)
        if self._shows_padding(run) or self._needs_padding(labels, packed):
            return None
        return packed

    def _moved(self, values, move):
        """The values, name → value, with those that are arrays moved."""
        return {name: move(v) if hasattr(v, "dtype") else v for name, v in values.items()}

    def _shows_padding(self, run):
        """Whether an output that is asked for has a place for each token."""
        shown = self.token_outputs or run.output_hidden_states or run.output_attentions
        return bool(shown) and not run.loss_only

    def _needs_padding(self, labels, packed):
        """Whether the other outputs depend on padding: it is labelled, or it comes first."""
        labelled = any(
            labels[name] is not None and (labels[name][~packed.real] != IGNORE_INDEX).any()
            for name in self.token_labels
        )
        has_pooler = "albert.pooler.weight" in self.parameters
        return labelled or (has_pooler and not packed.real[:, 0].all())

    def _packed_labels(self, labels, packed):
        """The labels, those of tokens packed."""
        return {
            name: value[packed.places] if name in self.token_labels and value is not None else value
            for name, value in labels.items()
        }

    def _run_forward(self, batch, labels, run):
        """What the class's forward pass returns, its outputs in their places."""
        with self.backend.arrays.computing():
            outputs, cache = self._forward(batch, labels, run)
            unpacked = {
                name: run.unpacked(getattr(outputs, name))
                for name in self.token_outputs
                if getattr(outputs, name) is not None
            }
        return replace(outputs, **unpacked), cache

    def _asked_for(self, name, arguments):
        """Whether an output is asked for: by the call or, where it does not say, by the config."""
        value = arguments[name]
        return bool(getattr(self.config, name) if value is None else value)

    def _need_loss(self, arguments):
        """Refuse arguments that give no loss."""
        missing = [name for name in self.label_names if arguments.get(name) is None]
        if missing or not self.label_names:
            raise ValueError(
                f"{type(self).__name__} has no loss without {' and '.join(missing) or 'a head'}"
            )

    def _pull_back(self, output_gradients, outputs, cache, run):
        arrays = self.backend.arrays
        with arrays.computing():
            gradients = check_output_gradients(output_gradients, outputs, self.dtype, arrays)
            if run.packed is not None:
                for name in self.token_outputs:
                    if name in gradients:
                        gradients[name] = gradients[name][run.packed.places]
            slots = zeros_like(self.parameters)
            return Gradients(slots, self._backward(gradients, cache, slots, run))
