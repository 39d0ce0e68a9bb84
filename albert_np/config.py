"""AlbertConfig, and the configurations that were published."""

import json
import math
import warnings
from contextlib import contextmanager
from inspect import signature
from numbers import Integral, Real
from pathlib import Path

from albert_np.checkpoint import resolve_directory
from albert_np.errors import FileFormatError
from albert_np.files import read_json_object, replacing

CONFIG_NAME = "config.json"
ACTIVATIONS = ("gelu_new", "gelu", "relu", "silu")
POSITIONS = ("absolute", "relative_key", "relative_key_query")

# What Hugging Face's library has for every kind of model, and writes into a config.json only where
# it is not the default; so do we.
OF_EVERY_MODEL = (
    "id2label",
    "label2id",
    "problem_type",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "chunk_size_feed_forward",
    "pruned_heads",
)

REGRESSION = "regression"
SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
PROBLEM_TYPES = (REGRESSION, SINGLE_LABEL, MULTI_LABEL)

SIZES = {
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "xlarge": {
        "hidden_size": 2048,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 8192,
    },
    "xxlarge": {
        "hidden_size": 4096,
        "num_hidden_layers": 12,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
    },
}

# Version 2 has the sizes of version 1. It was trained for longer, on more data, and:
# - without dropout, where version 1 has 0.1 (but for xxlarge, which never had any);
# - its config.json says gelu_new, the approximation by tanh that the authors' code computes,
#   where that of version 1 says gelu, the exact function, which differs from it by up to 5e-4.
# These are the values of the config.json files at huggingface.co/albert.
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
VERSION_1 = {"hidden_act": "gelu"}
PUBLISHED = {
    "albert-base-v1": SIZES["base"] | VERSION_1 | DROPOUT,
    "albert-large-v1": SIZES["large"] | VERSION_1 | DROPOUT,
    "albert-xlarge-v1": SIZES["xlarge"] | VERSION_1 | DROPOUT,
    "albert-xxlarge-v1": SIZES["xxlarge"] | VERSION_1,
    "albert-base-v2": SIZES["base"],
    "albert-large-v2": SIZES["large"],
    "albert-xlarge-v2": SIZES["xlarge"],
    "albert-xxlarge-v2": SIZES["xxlarge"],
}


class AlbertConfig:
    """The sizes and settings of an ALBERT model. The defaults are those of albert-xxlarge-v2.

    Parameters
    ----------
    vocab_size : int, optional
        Number of tokens, V.
    embedding_size : int, optional
        Width of the word, position and token type embeddings, E.
    hidden_size : int, optional
        Width of the hidden states, H; a multiple of `num_attention_heads`.
    num_hidden_layers : int, optional
        Number of layers, L. Each runs the inner layers of one group.
    num_hidden_groups : int, optional
        Number of groups, at most `num_hidden_layers`. The layers of one group share parameters.
    num_attention_heads : int, optional
        Number of attention heads, A.
    intermediate_size : int, optional
        Width of the feed-forward network's inner layer, I.
    inner_group_num : int, optional
        Number of inner layers of a group.
    hidden_act : {"gelu_new", "gelu", "relu", "silu"} or pair of callables, optional
        Activation of the feed-forward network and of the masked language modelling head. A pair
        is forward(x), which returns y, of the shape of x, and a cache; and backward(dy, cache),
        which returns dx. Such a configuration cannot be saved.
    hidden_dropout_prob : float, optional
        Probability, in [0, 1], that dropout zeroes an element of a hidden state.
    attention_probs_dropout_prob : float, optional
        Probability, in [0, 1], that dropout zeroes an attention weight.
    max_position_embeddings : int, optional
        Number of positions; the longest sequence.
    type_vocab_size : int, optional
        Number of token types.
    initializer_range : float, optional
        Standard deviation of initial weights.
    layer_norm_eps : float, optional
        What layer norm adds to the variance.
    classifier_dropout_prob : float or None, optional
        Probability, in [0, 1], that dropout zeroes an input of a classifier; None for that of
        `hidden_dropout_prob`.
    position_embedding_type : {"absolute", "relative_key", "relative_key_query"}, optional
        Whether positions are embedded like words; or attention sees the distance between query and
        key, by the query alone, or by both.
    pad_token_id : int or None, optional
        Padding token, whose row of the word embedding starts at zero and gets no gradient from
        the lookup; None if no row is to be treated so.
    bos_token_id, eos_token_id : int or None, optional
        First and last token of a sequence. The models make no use of them.
    num_labels : int, optional
        Number of labels of a classification, or of numbers of a regression; by default that of
        id2label, or 2.
    id2label : dict of int to str, optional
        A name for each label, 0 to num_labels − 1; by default LABEL_0, LABEL_1, …
    label2id : dict of str to int, optional
        The reverse of id2label, which follows from either.
    problem_type : str or None, optional
        What `AlbertForSequenceClassification` is for: "regression", "single_label_classification",
        "multi_label_classification", or None to infer it from the labels of each call.
    output_attentions, output_hidden_states : bool, optional
        Whether a call returns them where it does not say; by default not.
    return_dict : bool, optional
        Whether a call that does not say returns a `ModelOutput`, which is the default, or a tuple.
    chunk_size_feed_forward : int, optional
        Number of tokens of each sequence that run through the feed-forward network at a time; 0,
        the default, for all. A sequence's length must be a multiple of it.
    pruned_heads : dict of int to list of int, optional
        The attention heads that are not there, by layer; see `AlbertPreTrainedModel.prune_heads`.
    **other
        What else a config.json holds, such as architectures: kept in `other`, and not used. A
        keyword that is not listed above gives a warning, since it may be misspelt.

    Attributes
    ----------
    num_labels : int
        The length of id2label. Set to another number, it replaces id2label and label2id by the
        default.
    use_return_dict : bool
        The same as return_dict.
    other : dict
        Keys of config.json that are not parameters of this class, written back as they were.

    Raises
    ------
    TypeError, ValueError
        If a value is of the wrong type, or wrong.

    Notes
    -----
    Follows `AlbertConfig` of Hugging Face's documentation.

    Examples
    --------
    >>> from albert_np import AlbertConfig, AlbertModel

    The default is an ALBERT-xxlarge style configuration; this is an ALBERT-base style one:

    >>> albert_xxlarge_configuration = AlbertConfig()
    >>> albert_base_configuration = AlbertConfig(
    ...     hidden_size=768, num_attention_heads=12, intermediate_size=3072
    ... )

    A model with random weights, and its configuration:

    >>> model = AlbertModel(albert_base_configuration)
    >>> configuration = model.config
    >>> configuration.hidden_size
    768
    """

    model_type = "albert"

    def __init__(
        self,
        vocab_size=30000,
        embedding_size=128,
        hidden_size=4096,
        num_hidden_layers=12,
        num_hidden_groups=1,
        num_attention_heads=64,
        intermediate_size=16384,
        inner_group_num=1,
        hidden_act="gelu_new",
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
        max_position_embeddings=512,
        type_vocab_size=2,
        initializer_range=0.02,
        layer_norm_eps=1e-12,
        classifier_dropout_prob=0.1,
        position_embedding_type="absolute",
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        *,
        num_labels=None,
        id2label=None,
        label2id=None,
        problem_type=None,
        output_attentions=False,
        output_hidden_states=False,
        return_dict=True,
        chunk_size_feed_forward=0,
        pruned_heads=None,
        **other,
    ):
        self.vocab_size = _size("vocab_size", vocab_size)
        self.embedding_size = _size("embedding_size", embedding_size)
        self.hidden_size = _size("hidden_size", hidden_size)
        self.num_hidden_layers = _size("num_hidden_layers", num_hidden_layers)
        self.num_hidden_groups = _size("num_hidden_groups", num_hidden_groups)
        self.num_attention_heads = _size("num_attention_heads", num_attention_heads)
        self.intermediate_size = _size("intermediate_size", intermediate_size)
        self.inner_group_num = _size("inner_group_num", inner_group_num)
        self.hidden_act = _activation(hidden_act)
        self.hidden_dropout_prob = _probability("hidden_dropout_prob", hidden_dropout_prob)
        self.attention_probs_dropout_prob = _probability(
            "attention_probs_dropout_prob", attention_probs_dropout_prob
        )
        self.max_position_embeddings = _size("max_position_embeddings", max_position_embeddings)
        self.type_vocab_size = _size("type_vocab_size", type_vocab_size)
        self.initializer_range = _at_least_zero("initializer_range", initializer_range)
        self.layer_norm_eps = _at_least_zero("layer_norm_eps", layer_norm_eps)
        if classifier_dropout_prob is not None:
            classifier_dropout_prob = _probability(
                "classifier_dropout_prob", classifier_dropout_prob
            )
        self.classifier_dropout_prob = classifier_dropout_prob
        self.position_embedding_type = _choice(
            "position_embedding_type", position_embedding_type, POSITIONS
        )
        self.pad_token_id = _token_id("pad_token_id", pad_token_id)
        self.bos_token_id = _token_id("bos_token_id", bos_token_id)
        self.eos_token_id = _token_id("eos_token_id", eos_token_id)
        self.id2label, self.label2id = _label_maps(num_labels, id2label, label2id)
        if problem_type is not None:
            problem_type = _choice("problem_type", problem_type, PROBLEM_TYPES)
        self.problem_type = problem_type
        self.output_attentions = _flag("output_attentions", output_attentions)
        self.output_hidden_states = _flag("output_hidden_states", output_hidden_states)
        self.return_dict = _flag("return_dict", return_dict)
        self.chunk_size_feed_forward = _chunk_size(chunk_size_feed_forward)
        self.pruned_heads = self._checked_heads(
            "pruned_heads", {} if pruned_heads is None else pruned_heads
        )
        self._check_together()
        self._keep(other)
        if self.other:
            warnings.warn(
                f"AlbertConfig keeps {', '.join(self.other)}, and makes no use of it", stacklevel=2
            )

    @property
    def num_labels(self):
        """The number of labels."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, num_labels):
        if num_labels != self.num_labels:
            self.id2label, self.label2id = _label_maps(num_labels, None, None)

    def _check_together(self):
        """Check what no value can be checked for alone."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.num_hidden_groups > self.num_hidden_layers:
            raise ValueError(
                f"num_hidden_groups is {self.num_hidden_groups}; "
                f"expected at most num_hidden_layers, {self.num_hidden_layers}"
            )
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise ValueError(
                f"pad_token_id is {self.pad_token_id}; "
                f"expected an id below vocab_size, {self.vocab_size}"
            )

    def _keep(self, other):
        """Keep keys that are no parameters; refuse what would be another model."""
        _choice("model_type", other.pop("model_type", self.model_type), (self.model_type,))
        # A decoder with a weight of its own would be dropped when loaded, and its model would
        # give other numbers without an error.
        if other.get("tie_word_embeddings", True) is not True:
            raise ValueError(
                f"tie_word_embeddings is {other['tie_word_embeddings']!r}; expected True: "
                "the decoder shares the word embedding's weight"
            )
        self.other = other

    def _checked_heads(self, name, heads_by_layer):
        """Heads by layer, sorted, of layers and heads that are there, and never all of a layer."""
        if not isinstance(heads_by_layer, dict):
            raise TypeError(f"{name} is {heads_by_layer!r}; expected heads by layer, a dictionary")
        layers, A = self.num_hidden_groups * self.inner_group_num, self.num_attention_heads
        checked = {}
        for layer, heads in heads_by_layer.items():
            number = _layer_number(name, layer)
            if not 0 <= number < layers:
                raise ValueError(
                    f"{name} has the layer {layer}; expected 0 to {layers - 1} "
                    "(num_hidden_groups times inner_group_num, less 1)"
                )
            for head in _heads_of_layer(name, layer, heads):
                if not 0 <= head < A:
                    raise ValueError(
                        f"{name} has the head {head} of layer {layer}; "
                        f"expected 0 to {A - 1} (num_attention_heads is {A})"
                    )
            if len(set(heads)) == A:
                raise ValueError(
                    f"{name} has all {A} heads of layer {layer}; expected at least one to stay"
                )
            if len(heads):
                checked[number] = sorted({int(head) for head in heads})
        return dict(sorted(checked.items()))

    def with_pruned_heads(self, heads_to_prune):
        """This configuration with more attention heads pruned.

        Parameters
        ----------
        heads_to_prune : dict of int to list of int
            As `AlbertPreTrainedModel.prune_heads` takes them.

        Returns
        -------
        AlbertConfig

        Raises
        ------
        ValueError, TypeError
            If there is no such layer or head, or a layer would lose its last one.
        """
        more = self._checked_heads("heads_to_prune", heads_to_prune)
        union = {
            layer: [*self.pruned_heads.get(layer, ()), *more.get(layer, ())]
            for layer in {*self.pruned_heads, *more}
        }
        return self.changed(pruned_heads=self._checked_heads("heads_to_prune", union))

    @property
    def use_return_dict(self):
        """The same as return_dict."""
        return self.return_dict

    @classmethod
    def published(cls, name):
        """The configuration of a published model.

        Parameters
        ----------
        name : str
            albert-base-v1, or large, xlarge, xxlarge, and v2; with or without "albert/" before it.

        Returns
        -------
        AlbertConfig

        Raises
        ------
        ValueError
            If no model of that name was published.
        """
        return cls(**PUBLISHED[_choice("name", str(name).removeprefix("albert/"), PUBLISHED)])

    @classmethod
    def from_dict(cls, values):
        """The configuration of a dictionary such as `to_dict` returns.

        Parameters
        ----------
        values : dict
            By name; a parameter that is not there has its default. What is no parameter is kept
            in `other`, without a warning.

        Returns
        -------
        AlbertConfig
        """
        names = _parameter_names()
        config = cls(**{name: value for name, value in values.items() if name in names})
        config._keep({name: value for name, value in values.items() if name not in names})
        return config

    @classmethod
    def from_pretrained(
        cls, path_or_name, *, revision=None, cache_dir=None, local_files_only=False, **changes
    ):
        """Read a config.json.

        Parameters
        ----------
        path_or_name : str or Path
            The file, the directory that holds it, "tiny", the model that ships, or a name on
            Hugging Face's hub.
        revision, cache_dir, local_files_only
            For a name on the hub; see `hub.fetch`.
        **changes
            Values in place of those in the file.

        Returns
        -------
        AlbertConfig

        Raises
        ------
        FileNotFoundError
            If there is no such directory, or no config.json in it.
        FileFormatError
            If the file is not JSON, or does not hold an ALBERT model's configuration.
        TypeError, ValueError
            If a change is of a name that a configuration has not, or of a wrong type or value.
        """
        if str(path_or_name).endswith(".json"):
            path = Path(path_or_name)
        else:
            directory = resolve_directory(
                path_or_name,
                (CONFIG_NAME,),
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
            path = directory / CONFIG_NAME
        values = read_json_object(path)
        try:
            config = cls.from_dict(values)
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"{path}: {error}") from error
        return config.changed(**changes)

    def changed(self, **changes):
        """A copy with other values.

        Parameters
        ----------
        **changes
            By name.

        Returns
        -------
        AlbertConfig

        Raises
        ------
        TypeError, ValueError
            If a configuration has nothing of a name, or a value is of a wrong type, or wrong.
        """
        for name in changes:
            if name not in _parameter_names() and name not in self.other:
                raise TypeError(f"a configuration has no {name!r}; got {changes[name]!r}")
        kept = self.to_dict()
        other_number = changes.get("num_labels") not in (None, self.num_labels)
        if other_number or "id2label" in changes or "label2id" in changes:
            del kept["id2label"], kept["label2id"]  # the names of other labels
        return self.from_dict(kept | changes)

    def to_dict(self):
        """All parameters and other keys, and model_type; num_labels is the length of id2label."""
        names = [name for name in _parameter_names() if name != "num_labels"]
        own = {name: getattr(self, name) for name in names}
        return {**self.other, **own, "model_type": self.model_type}

    def save_pretrained(self, directory, *, architectures=None, dtype=None):
        """Write config.json, as Hugging Face's library reads it.

        Parameters
        ----------
        directory : str or Path
            Created if it is not there.
        architectures : list of str, optional
            The classes that the checkpoint beside it was saved from, such as AlbertForMaskedLM.
        dtype : str, optional
            The dtype of that checkpoint, such as float32.

        Raises
        ------
        ValueError
            If hidden_act is a pair of functions.
        OSError
            If the directory or the file cannot be written. An older file is then left as it was.
        """
        with self.written(directory, architectures=architectures, dtype=dtype):
            pass

    @contextmanager
    def written(self, directory, *, architectures=None, dtype=None):
        """Write config.json beside its final name, and rename it when the body has ended.

        Parameters
        ----------
        directory, architectures, dtype
            As for `save_pretrained`.
        """
        if not isinstance(self.hidden_act, str):
            raise ValueError(
                "hidden_act is a pair of functions, which config.json cannot hold; "
                f"to save, set it to one of {', '.join(ACTIVATIONS)}"
            )
        default = AlbertConfig()
        values = {
            name: value
            for name, value in self.to_dict().items()
            if name not in OF_EVERY_MODEL or value != getattr(default, name)
        }
        if architectures is not None:
            values["architectures"] = architectures
        if dtype is not None:
            values["dtype"] = dtype
            values.pop("torch_dtype", None)  # the key's older name
        text = json.dumps(dict(sorted(values.items())), indent=2) + "\n"
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        with replacing(directory / CONFIG_NAME) as temporary:
            temporary.write_text(text, encoding="utf-8")
            yield

    def __eq__(self, other):
        return isinstance(other, AlbertConfig) and self.to_dict() == other.to_dict()

    def __repr__(self):
        return f"AlbertConfig({json.dumps(self.to_dict(), indent=2, default=repr)})"


def _parameter_names():
    """The parameters of AlbertConfig, in order."""
    return tuple(signature(AlbertConfig).parameters)[:-1]  # all but **other


def _size(name, value):
    if not _is_integer(value):
        raise TypeError(f"{name} is {value!r}; expected a positive integer")
    if value <= 0:
        raise ValueError(f"{name} is {value!r}; expected a positive integer")
    return int(value)


def _token_id(name, value):
    if value is None:
        return None
    if not _is_integer(value):
        raise TypeError(f"{name} is {value!r}; expected a token id or None")
    if value < 0:
        raise ValueError(f"{name} is {value!r}; expected a token id, which is not negative")
    return int(value)


def _probability(name, value):
    value = _number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; expected a probability, from 0 to 1")
    return value


def _at_least_zero(name, value):
    value = _number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value!r}; expected a finite number, at least 0")
    return value


def _choice(name, value, choices):
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    return value


def _label_maps(num_labels, id2label, label2id):
    """id2label and label2id, from what is given of the three."""
    if num_labels is not None:
        num_labels = _size("num_labels", num_labels)
    if label2id is not None:
        label2id = _label2id(label2id)
    if id2label is not None:
        id2label = _id2label(id2label)
    elif label2id is not None:
        id2label = _id2label({i: label for label, i in label2id.items()})
    else:
        id2label = {i: f"LABEL_{i}" for i in range(2 if num_labels is None else num_labels)}
    if num_labels not in (None, len(id2label)):
        raise ValueError(f"num_labels is {num_labels}; id2label has {len(id2label)} labels")
    inverse = {label: i for i, label in id2label.items()}
    if label2id is not None:
        _check_inverse(label2id, id2label, inverse)
    return id2label, label2id or inverse


def _id2label(id2label):
    """id2label in the order of its ids, which are strings in JSON."""
    labels = {_label_id(i): label for i, label in _dictionary("id2label", id2label).items()}
    for i in range(len(id2label)):
        if i not in labels:
            raise ValueError(
                f"id2label has no label for {i}; expected one for each of 0 to {len(id2label) - 1}"
            )
        if not isinstance(labels[i], str):
            raise TypeError(f"id2label has the label {labels[i]!r} for {i}; expected a string")
    return dict(sorted(labels.items()))


def _label_id(value):
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if not _is_integer(value):
        raise TypeError(f"id2label has a label for {value!r}; expected an integer")
    return int(value)


def _label2id(label2id):
    for label, i in _dictionary("label2id", label2id).items():
        if not _is_integer(i):
            raise TypeError(f"label2id has {i!r} for {label!r}; expected an integer")
    return {label: int(i) for label, i in label2id.items()}


def _check_inverse(label2id, id2label, inverse):
    """Refuse a label2id that is not the inverse of id2label; one label may have several ids."""
    for label, i in label2id.items():
        if label not in inverse:
            raise ValueError(f"label2id has {label!r}, which is missing from id2label")
        if id2label.get(i) != label:
            raise ValueError(f"label2id has {i} for {label!r}; id2label has {inverse[label]}")
    for label in inverse:
        if label not in label2id:
            raise ValueError(f"id2label has {label!r}, which is missing from label2id")


def _dictionary(name, value):
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {value!r}; expected a dictionary")
    if not value:
        raise ValueError(f"{name} is empty; expected at least one label")
    return value


def _activation(value):
    """The name of an activation, or a pair of functions."""
    if isinstance(value, tuple) and len(value) == 2 and all(map(callable, value)):
        return value
    if not isinstance(value, str):
        raise TypeError(
            f"hidden_act is {value!r}; expected one of {', '.join(ACTIVATIONS)}, "
            "or a pair of functions, (forward, backward)"
        )
    return _choice("hidden_act", value, ACTIVATIONS)


def _flag(name, value):
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected True or False")
    return value


def _chunk_size(value):
    if not _is_integer(value):
        raise TypeError(f"chunk_size_feed_forward is {value!r}; expected a number of tokens, or 0")
    if value < 0:
        raise ValueError(f"chunk_size_feed_forward is {value!r}; expected a number of tokens, or 0")
    return int(value)


def _layer_number(name, layer):
    """The number of a layer; JSON has it as a string."""
    if isinstance(layer, str) and layer.isdecimal():
        return int(layer)
    if not _is_integer(layer):
        raise TypeError(f"{name} has the layer {layer!r}; expected an integer")
    return int(layer)


def _heads_of_layer(name, layer, heads):
    if not isinstance(heads, list | tuple | set) or not all(map(_is_integer, heads)):
        raise TypeError(f"{name} has {heads!r} for layer {layer}; expected a list of integers")
    return heads


def _number(name, value):
    """A Python number, so that JSON can hold it; an int stays an int, as a default of 0 does."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a number")
    return int(value) if _is_integer(value) else float(value)


def _is_integer(value):
    """Whether a value is an integer, NumPy's included; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)
