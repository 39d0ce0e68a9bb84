"""What a call returns: Hugging Face's output classes, and gradients."""

from dataclasses import dataclass, fields
from typing import NamedTuple


class ModelOutput:
    """Base of the outputs: a dataclass that is also read by key, by index, and unpacked.

    What was not asked for is None, and is left out of everything but the attributes.
    """

    def keys(self):
        """The names of the fields that hold something."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def to_tuple(self):
        """The fields that hold something, in order."""
        return tuple(getattr(self, name) for name in self.keys())

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(f"{key!r} is not one of {', '.join(self.keys())}")
            return getattr(self, key)
        return self.to_tuple()[key]

    def __iter__(self):
        return iter(self.to_tuple())

    def __len__(self):
        return len(self.keys())


@dataclass(eq=False)
class BaseModelOutputWithPooling(ModelOutput):
    """Output of `AlbertModel`.

    Attributes
    ----------
    last_hidden_state : array, shape (B, S, H)
    pooler_output : array, shape (B, H), or None
    hidden_states : tuple of array, shape (B, S, H), or None
        What enters the first layer, and what each layer makes of it.
    attentions : tuple of array, shape (B, A, S, S), or None
        Of each repetition, after softmax (and dropout).
    """

    last_hidden_state: object = None
    pooler_output: object = None
    hidden_states: tuple | None = None
    attentions: tuple | None = None


@dataclass(eq=False)
class AlbertForPreTrainingOutput(ModelOutput):
    """Output of `AlbertForPreTraining`.

    Attributes
    ----------
    loss : array, shape (), or None
        Where both labels were given: the masked language modelling loss plus the sentence order
        loss.
    prediction_logits : array, shape (B, S, V)
    sop_logits : array, shape (B, 2)
        For "in order" and "swapped".
    hidden_states, attentions : see `BaseModelOutputWithPooling`
    """

    loss: object = None
    prediction_logits: object = None
    sop_logits: object = None
    hidden_states: tuple | None = None
    attentions: tuple | None = None


@dataclass(eq=False)
class MaskedLMOutput(ModelOutput):
    """Output of `AlbertForMaskedLM`.

    Attributes
    ----------
    loss : array, shape (), or None
        Where labels were given.
    logits : array, shape (B, S, V)
    hidden_states, attentions : see `BaseModelOutputWithPooling`
    """

    loss: object = None
    logits: object = None
    hidden_states: tuple | None = None
    attentions: tuple | None = None


@dataclass(eq=False)
class SequenceClassifierOutput(ModelOutput):
    """Output of `AlbertForSequenceClassification`.

    Attributes
    ----------
    loss : array, shape (), or None
        Where labels were given.
    logits : array, shape (B, num_labels)
        Of a regression, the numbers predicted.
    hidden_states, attentions : see `BaseModelOutputWithPooling`
    """

    loss: object = None
    logits: object = None
    hidden_states: tuple | None = None
    attentions: tuple | None = None


@dataclass(eq=False)
class MultipleChoiceModelOutput(ModelOutput):
    """Output of `AlbertForMultipleChoice`.

    Attributes
    ----------
    loss : array, shape (), or None
        Where labels were given.
    logits : array, shape (B, C)
        For each of C choices.
    hidden_states, attentions : see `BaseModelOutputWithPooling`
        With the B·C choices of all questions for a batch.
    """

    loss: object = None
    logits: object = None
    hidden_states: tuple | None = None
    attentions: tuple | None = None


@dataclass(eq=False)
class TokenClassifierOutput(ModelOutput):
    """Output of `AlbertForTokenClassification`.

    Attributes
    ----------
    loss : array, shape (), or None
        Where labels were given.
    logits : array, shape (B, S, num_labels)
    hidden_states, attentions : see `BaseModelOutputWithPooling`
    """

    loss: object = None
    logits: object = None
    hidden_states: tuple | None = None
    attentions: tuple | None = None


@dataclass(eq=False)
class QuestionAnsweringModelOutput(ModelOutput):
    """Output of `AlbertForQuestionAnswering`.

    Attributes
    ----------
    loss : array, shape (), or None
        Where both positions were given: the average of the start's loss and the end's.
    start_logits, end_logits : array, shape (B, S)
    hidden_states, attentions : see `BaseModelOutputWithPooling`
    """

    loss: object = None
    start_logits: object = None
    end_logits: object = None
    hidden_states: tuple | None = None
    attentions: tuple | None = None


class Gradients(NamedTuple):
    """What a pullback returns.

    Attributes
    ----------
    parameters : dict of str to array
        A gradient for every parameter of the model, under its name.
    inputs_embeds : array, shape (B, S, E), or (B, C, S, E) for multiple choice
        With respect to the word embeddings, looked up or given.
    """

    parameters: dict
    inputs_embeds: object
