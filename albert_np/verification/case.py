"""What is verified: a model with its parameters, and what it is given."""

from typing import NamedTuple

import numpy as np

import albert_np
from albert_np.config import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from albert_np.functions.cross_entropy import IGNORE_INDEX

# How the names of those inputs start that are gradients of the outputs of a class without a loss.
GRADIENT_OF = "gradient_of."

CLASSES = (
    "AlbertModel",
    "AlbertForPreTraining",
    "AlbertForMaskedLM",
    "AlbertForSequenceClassification",
    "AlbertForTokenClassification",
    "AlbertForMultipleChoice",
    "AlbertForQuestionAnswering",
)

NUM_CHOICES = 2
LABELLED = 0.4  # the share of positions that are labelled; the first always is


class Case(NamedTuple):
    """What is verified.

    Attributes
    ----------
    model_class : type
        AlbertModel … AlbertForQuestionAnswering.
    config : AlbertConfig
    parameters : dict of str to float64 array
        By Hugging Face's names; a tied weight stands once.
    inputs : dict
        What a call takes: input_ids, attention_mask, …, labels, and a seed for dropout. Where
        there is no loss, `gradient_of.OUTPUT` is the gradient that the backward pass begins with,
        for each of several outputs.
    structure : dict
        What else the class is made with, such as {"add_pooling_layer": False}.
    """

    model_class: type
    config: object
    parameters: dict
    inputs: dict
    structure: dict = {}  # noqa: RUF012 (never changed)

    def model(self, dtype="float64", backend="numpy"):
        """A model with the case's parameters, rounded to a dtype.

        Parameters
        ----------
        dtype : {"float64", "float32"}, optional
        backend : str or Backend, optional

        Returns
        -------
        AlbertPreTrainedModel

        Raises
        ------
        ValueError
            If the case lacks a parameter, or has it of another shape.
        """
        model = self.model_class(
            self.config, seed=None, dtype=dtype, backend=backend, **self.structure
        )
        for name, array in model.parameters.items():
            given = self.parameters.get(name)
            if np.shape(given) != array.shape:
                has = "no such parameter" if given is None else f"one of shape {np.shape(given)}"
                raise ValueError(f"the case has {has}: {name}; expected shape {array.shape}")
            array[...] = given
        return model

    def check_inputs(self):
        """Raise what a call of the model would raise about its inputs."""
        self.model()._begin({"packed": False} | self.arguments)

    @property
    def arguments(self):
        """The inputs that a call of the model takes."""
        return {
            name: value for name, value in self.inputs.items() if not name.startswith(GRADIENT_OF)
        }

    @property
    def gradients(self):
        """What the backward pass begins with: see the argument of `AlbertPreTrainedModel.trace`.

        True for the loss; a gradient for each of several outputs; or False, for no backward pass,
        where there is neither.
        """
        labels = self.model_class.label_names
        if labels and all(self.inputs.get(name) is not None for name in labels):
            return True
        given = {
            name.removeprefix(GRADIENT_OF): value
            for name, value in self.inputs.items()
            if name.startswith(GRADIENT_OF)
        }
        return given or False


def case_of(model, inputs):
    """The case of a model, of any dtype, that is given inputs.

    Parameters
    ----------
    model : AlbertPreTrainedModel
    inputs : dict

    Returns
    -------
    Case
        With the parameters as float64, and a configuration that asks for no more outputs than the
        class always has.
    """
    parameters = {name: array.astype(np.float64) for name, array in model.parameters.items()}
    has_pooler = any("pooler.weight" in name for name in parameters)
    structure = {}
    if type(model) is albert_np.AlbertModel and not has_pooler:
        structure = {"add_pooling_layer": False}
    config = model.config.changed(output_attentions=False, output_hidden_states=False)
    return Case(type(model), config, parameters, inputs, structure)


def draw_case(model_class, config, seed=0, shape=(2, 8), **structure):
    """Draw a case: parameters none of which is 0 or 1, and inputs with padding.

    Parameters
    ----------
    model_class : type
    config : AlbertConfig
    seed : int, optional
        The same seed draws the same numbers.
    shape : (int, int), optional
        (B, S); multiple choice has `NUM_CHOICES` choices for each of B.
    **structure
        What else the class is made with.

    Returns
    -------
    Case
        Its numbers are float32's, so that rounding them to float32 loses nothing.
    """
    model = model_class(config, seed=seed, dtype="float32", **structure)
    generator = np.random.default_rng(seed)
    for name, array in model.parameters.items():
        if array.ndim == 1:
            array += generator.normal(0, config.initializer_range, array.shape)
        elif "word_embeddings" in name and config.pad_token_id is not None:
            row = generator.normal(0, config.initializer_range, array.shape[1])
            array[config.pad_token_id] = row
    inputs = draw_inputs(model_class, config, generator, shape)
    if not model_class.label_names:
        inputs |= draw_output_gradients(model, inputs, generator)
    return case_of(model, inputs)


def draw_inputs(model_class, config, generator, shape):
    """Draw what a call takes: ids, a mask with padding at the end, token types, positions, labels.

    Parameters
    ----------
    model_class : type
    config : AlbertConfig
    generator : numpy.random.Generator
    shape : (int, int)
        (B, S).

    Returns
    -------
    dict of str to array
    """
    B, S = shape
    if model_class is albert_np.AlbertForMultipleChoice:
        shape = (B, NUM_CHOICES, S)
    lengths = generator.integers(1, S + 1, shape[:-1])
    lengths.flat[0] = S
    mask = (np.arange(S) < lengths[..., None]).astype(np.int64)
    ids = generator.integers(0, config.vocab_size, shape)
    if config.pad_token_id is not None:
        ids = np.where(mask == 1, ids, config.pad_token_id)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": generator.integers(0, config.type_vocab_size, shape),
        "position_ids": np.tile(np.arange(S), (*shape[:-1], 1)),
    }
    return inputs | draw_labels(model_class, config, generator, inputs)


def draw_labels(model_class, config, generator, inputs):
    """Draw the labels that a class takes; some positions are to be ignored, but not the first.

    Parameters
    ----------
    model_class : type
    config : AlbertConfig
    generator : numpy.random.Generator
    inputs : dict
        With input_ids.

    Returns
    -------
    dict of str to array
        Empty for `AlbertModel`.
    """
    ids = np.asarray(inputs["input_ids"])
    B, S = ids.shape[0], ids.shape[-1]
    match model_class.__name__:
        case "AlbertForMaskedLM":
            return {"labels": _some_ignored(ids, generator)}
        case "AlbertForPreTraining":
            words = _some_ignored(ids, generator)
            return {"labels": words, "sentence_order_label": generator.integers(0, 2, B)}
        case "AlbertForSequenceClassification":
            return {"labels": _classification_labels(config, generator, B)}
        case "AlbertForTokenClassification":
            labels = generator.integers(0, config.num_labels, ids.shape)
            return {"labels": _some_ignored(labels, generator)}
        case "AlbertForMultipleChoice":
            return {"labels": generator.integers(0, ids.shape[1], B)}
        case "AlbertForQuestionAnswering":
            start, end = generator.integers(0, S, (2, B))
            return {"start_positions": start, "end_positions": end}
    return {}


def draw_output_gradients(model, inputs, generator):
    """Draw a gradient for each output of a model without a loss.

    Parameters
    ----------
    model : AlbertPreTrainedModel
    inputs : dict
    generator : numpy.random.Generator

    Returns
    -------
    dict of str to array
        Under `gradient_of.OUTPUT`.
    """
    outputs = model(**inputs, return_dict=True, output_attentions=False, output_hidden_states=False)
    return {
        f"{GRADIENT_OF}{name}": _float32_numbers(generator, outputs[name].shape)
        for name in outputs.keys()  # noqa: SIM118 (iterating gives the values)
    }


def _some_ignored(labels, generator):
    kept = np.where(generator.random(labels.shape) < LABELLED, labels, IGNORE_INDEX)
    kept.flat[0] = labels.flat[0]
    return kept


def _classification_labels(config, generator, B):
    n = config.num_labels
    problem_type = config.problem_type or (REGRESSION if n == 1 else SINGLE_LABEL)
    if problem_type == SINGLE_LABEL:
        return generator.integers(0, n, B)
    if problem_type == MULTI_LABEL:
        return generator.integers(0, 2, (B, n)).astype(np.float64)
    return _float32_numbers(generator, (B, n))


def _float32_numbers(generator, shape):
    return generator.normal(size=shape).astype(np.float32).astype(np.float64)
