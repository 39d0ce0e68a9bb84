"""AlbertConfig, and the configurations that were published."""

import json
import math
import warnings
from inspect import signature
from numbers import Integral, Real
from pathlib import Path

from albert_np.checkpoint import resolve_directory
from albert_np.errors import FileFormatError
from albert_np.files import replacing

CONFIG_NAME = "config.json"
ACTIVATIONS = ("gelu_new", "gelu", "relu", "silu")
RELATIVE_POSITIONS = ("relative_key", "relative_key_query")

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
    hidden_act : {"gelu_new", "gelu", "relu", "silu"}, optional
        Activation of the feed-forward network and of the masked language modelling head.
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
    classifier_dropout_prob : float, optional
        Probability, in [0, 1], that dropout zeroes an input of a classifier.
    position_embedding_type : {"absolute"}, optional
        The documented "relative_key" and "relative_key_query" are not supported yet.
    pad_token_id : int or None, optional
        Padding token, whose row of the word embedding starts at zero and gets no gradient from
        the lookup; None if no row is to be treated so.
    bos_token_id, eos_token_id : int or None, optional
        First and last token of a sequence. The models make no use of them.
    **other
        What else a config.json holds, such as id2label: kept in `other`, and not used. A keyword
        that is not listed above gives a warning, since it may be misspelt.

    Attributes
    ----------
    other : dict
        Keys of config.json that are not parameters of this class, written back as they were.

    Raises
    ------
    TypeError, ValueError
        If a value is of the wrong type, or wrong.

    Notes
    -----
    Follows `AlbertConfig` of Hugging Face's documentation.
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
        self.hidden_act = _choice("hidden_act", hidden_act, ACTIVATIONS)
        self.hidden_dropout_prob = _probability("hidden_dropout_prob", hidden_dropout_prob)
        self.attention_probs_dropout_prob = _probability(
            "attention_probs_dropout_prob", attention_probs_dropout_prob
        )
        self.max_position_embeddings = _size("max_position_embeddings", max_position_embeddings)
        self.type_vocab_size = _size("type_vocab_size", type_vocab_size)
        self.initializer_range = _at_least_zero("initializer_range", initializer_range)
        self.layer_norm_eps = _at_least_zero("layer_norm_eps", layer_norm_eps)
        self.classifier_dropout_prob = _probability(
            "classifier_dropout_prob", classifier_dropout_prob
        )
        self.position_embedding_type = _position_embedding_type(position_embedding_type)
        self.pad_token_id = _token_id("pad_token_id", pad_token_id)
        self.bos_token_id = _token_id("bos_token_id", bos_token_id)
        self.eos_token_id = _token_id("eos_token_id", eos_token_id)
        self._check_together()
        self._keep(other)
        if self.other:
            warnings.warn(
                f"AlbertConfig keeps {', '.join(self.other)}, and makes no use of it", stacklevel=2
            )

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
    def from_pretrained(cls, path_or_name):
        """Read a config.json.

        Parameters
        ----------
        path_or_name : str or Path
            The file, the directory that holds it, or "tiny", the model that ships.

        Returns
        -------
        AlbertConfig

        Raises
        ------
        FileNotFoundError
            If there is no such directory, or no config.json in it.
        FileFormatError
            If the file is not JSON, or does not hold an ALBERT model's configuration.
        """
        path = Path(path_or_name)
        if path.suffix != ".json":
            path = resolve_directory(path_or_name) / CONFIG_NAME
        values = _read_object(path)
        try:
            return cls.from_dict(values)
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"{path}: {error}") from error

    def to_dict(self):
        """All parameters and other keys, and model_type, as config.json has them."""
        own = {name: getattr(self, name) for name in _parameter_names()}
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
        OSError
            If the directory or the file cannot be written. An older file is then left as it was.
        """
        values = self.to_dict()
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

    def __eq__(self, other):
        return isinstance(other, AlbertConfig) and self.to_dict() == other.to_dict()

    def __repr__(self):
        return f"AlbertConfig({json.dumps(self.to_dict(), indent=2, default=repr)})"


def _parameter_names():
    """The parameters of AlbertConfig, in order."""
    return tuple(signature(AlbertConfig).parameters)[:-1]  # all but **other


def _read_object(path):
    """The dictionary that a JSON file holds."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise FileFormatError(f"{path} is nested too deeply to be a configuration") from None
    except ValueError as error:  # JSON's and UTF-8's decoders both raise one
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise FileFormatError(f"{path} holds a JSON {type(values).__name__}; expected an object")
    return values


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


def _position_embedding_type(value):
    name = "position_embedding_type"
    if value in RELATIVE_POSITIONS:
        raise ValueError(f"{name} {value!r} is not supported yet; expected 'absolute'")
    return _choice(name, value, ("absolute",))


def _number(name, value):
    """A Python number, so that JSON can hold it; an int stays an int, as a default of 0 does."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a number")
    return int(value) if _is_integer(value) else float(value)


def _is_integer(value):
    """Whether a value is an integer, NumPy's included; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)
