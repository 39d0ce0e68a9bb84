"""A model's word embeddings: given out, replaced, and resized with the decoder tied to them."""

from numbers import Integral

import numpy as np

from albert_np.arrays import as_array
from albert_np.inputs import check_seed

WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
DECODER_BIAS = "predictions.bias"
# Tables that are looked up in, which are no layers; the last is that of relative positions.
TABLES = (
    "word_embeddings.weight",
    "position_embeddings.weight",
    "token_type_embeddings.weight",
    "distance_embedding.weight",
)

# New rows are drawn so close to the mean of the old ones that they all but equal it, as there.
SHRINKAGE = 1e-9


class ResizableEmbeddings:
    """What `AlbertPreTrainedModel` does with its embeddings."""

    def get_input_embeddings(self):
        """The word embeddings.

        Returns
        -------
        array, shape (V, E)
            The parameter itself: to change it changes the model.
        """
        return self.parameters[self._word_embeddings]

    def set_input_embeddings(self, value):
        """Replace the word embeddings' values, and so those of the decoder that is tied to them.

        Parameters
        ----------
        value : array_like of float, shape (V, E)
            Copied. `resize_token_embeddings` changes V.

        Raises
        ------
        TypeError, ValueError
            If it is of another dtype or shape, or holds NaN or infinity.
        """
        arrays, embeddings = self.backend.arrays, self.get_input_embeddings()
        value = as_array(arrays.given("value", value))
        if value.dtype.kind not in "iuf":
            raise TypeError(f"value is of dtype {value.dtype}; expected real numbers")
        if value.shape != embeddings.shape:
            raise ValueError(f"value is of shape {value.shape}; expected {embeddings.shape}")
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            value = value.astype(embeddings.dtype)
        if not np.isfinite(value).all():
            raise ValueError(
                f"value holds NaN or infinity as {value.dtype}; expected finite numbers"
            )
        embeddings[...] = arrays.uploaded(value)

    def get_output_embeddings(self):
        """The weight of the decoder that scores every word.

        Returns
        -------
        array, shape (V, E), or None
            The word embeddings, which it is tied to; None where the class has no decoder.
        """
        return self.get_input_embeddings() if DECODER_BIAS in self.parameters else None

    def resize_token_embeddings(
        self, new_num_tokens=None, pad_to_multiple_of=None, mean_resizing=True, *, seed=0
    ):
        """Add words at the end of the vocabulary, or remove them there.

        The word embeddings, which the decoder is tied to, get new rows or lose their last ones, and
        the decoder's bias with them, whose new elements are 0. `config` becomes a copy with the new
        vocab_size; gradients and traces of earlier calls are of the old shapes.

            x ~ N(m, ε CᵀC/V),   m the mean of the old rows, C the old rows less m, ε = 1e-9

        is a new row x.

        Parameters
        ----------
        new_num_tokens : int, optional
            The new V; by default the old.
        pad_to_multiple_of : int, optional
            V is then the next multiple of this.
        mean_resizing : bool, optional
            False draws new rows as initial weights are: with mean 0 and standard deviation
            `config.initializer_range`.
        seed : int or None, optional
            Draws the new rows; None differently each time.

        Returns
        -------
        array, shape (V, E)
            The word embeddings: the parameter itself.

        Raises
        ------
        TypeError, ValueError
            If an argument is of another type, or not positive; or if the padding token would go.

        Notes
        -----
        Follows the documentation of `PreTrainedModel.resize_token_embeddings`, whose new rows are
        drawn from the same distribution, by another generator.
        """
        arrays, parameters = self.backend.arrays, self.parameters
        old = self.get_input_embeddings()
        size = _new_size(new_num_tokens, pad_to_multiple_of, len(old))
        if self.config.pad_token_id is not None and size <= self.config.pad_token_id:
            raise ValueError(
                f"new_num_tokens is {size}; expected more than pad_token_id, "
                f"{self.config.pad_token_id}, which would go"
            )
        generator = np.random.default_rng(check_seed(seed))
        if size == len(old):
            return old
        old, added = arrays.downloaded(old), max(size - len(old), 0)
        if mean_resizing:
            rows = _rows_like(old, added, generator)
        else:
            rows = generator.normal(0, self.config.initializer_range, (added, old.shape[1]))
        table = np.concatenate([old[:size], rows.astype(old.dtype)])
        parameters[self._word_embeddings] = arrays.uploaded(table)
        if DECODER_BIAS in parameters:
            bias = np.pad(arrays.downloaded(parameters[DECODER_BIAS])[:size], (0, added))
            parameters[DECODER_BIAS] = arrays.uploaded(bias)
        self.config = self.config.changed(vocab_size=size)
        return self.get_input_embeddings()

    def num_parameters(self, only_trainable=False, exclude_embeddings=False):
        """The number of parameters; one that is shared or tied counts once.

        Parameters
        ----------
        only_trainable : bool, optional
            Of no effect: all are.
        exclude_embeddings : bool, optional
            Whether to leave out the tables of words, positions and token types.

        Returns
        -------
        int
        """
        return sum(
            array.size
            for name, array in self.parameters.items()
            if not (exclude_embeddings and name.endswith(TABLES))
        )

    @property
    def _word_embeddings(self):
        """The name of the word embeddings, with or without `albert.`."""
        return next(name for name in self.parameters if name.endswith(WORD_EMBEDDINGS))


def _new_size(new_num_tokens, pad_to_multiple_of, old_size):
    size = old_size if new_num_tokens is None else new_num_tokens
    multiple = 1 if pad_to_multiple_of is None else pad_to_multiple_of
    for name, value in (("new_num_tokens", size), ("pad_to_multiple_of", multiple)):
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}; expected a positive integer")
        if value <= 0:
            raise ValueError(f"{name} is {value}; expected a positive integer")
    return -(-int(size) // int(multiple)) * int(multiple)


def _rows_like(old, added, generator):
    """New rows, shape (added, E), all but equal to the mean of the old ones, shape (V, E)."""
    mean = old.mean(axis=0, dtype=np.float64)
    centred = old - mean
    covariance = SHRINKAGE * centred.T @ centred / len(old)
    # It is positive semidefinite but for rounding, which need not be reported.
    return generator.multivariate_normal(
        mean, covariance, added, check_valid="ignore", method="eigh"
    )
