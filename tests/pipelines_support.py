"""Small models with a vocabulary of their own, saved as checkpoints are: what pipelines run on."""

import numpy as np

from albert_np import (
    AlbertConfig,
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertTokenizer,
)
from albert_np.training.vocabulary import train_vocabulary

SENTENCES = [
    "The capital of France is Paris.",
    "The capital of Italy is Rome.",
    "A cat is an animal, and so is a dog.",
    "What is red? An apple is red; the sky is blue.",
]
WORDS = ("the", "capital", "of", "france", "is", "paris", "a", "cat", "dog", "red", "sky", ".")
MAX_LENGTH = 128

RELATIONS = ("contradiction", "neutral", "entailment")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def save_small_model(directory, model_class=AlbertForPreTraining, labels=None, num_hidden_layers=4):
    """Save a random model and its vocabulary; weights are large, scores uneven.

    `labels` are the names of the labels, in the order of their indices. With four layers,
    hidden states differ from text to text, but hardly from token to token.
    """
    vocabulary = directory / "spiece.model"
    vocabulary.write_bytes(train_vocabulary(SENTENCES, vocab_size=120))
    tokenizer = AlbertTokenizer(vocabulary, model_max_length=MAX_LENGTH)
    config = AlbertConfig(
        vocab_size=len(tokenizer),
        embedding_size=8,
        hidden_size=12,
        num_hidden_layers=num_hidden_layers,
        num_hidden_groups=min(2, num_hidden_layers),
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.5,
        **({} if labels is None else {"id2label": dict(enumerate(labels))}),
    )
    tokenizer.save_pretrained(directory)
    model_class(config, seed=1).save_pretrained(directory)
    return directory


def save_classifier(directory, labels=RELATIONS):
    """A model that tells how one text relates to another."""
    save_small_model(directory, AlbertForSequenceClassification, labels)
    return _decided(directory, AlbertForSequenceClassification, "classifier", ("logits",))


def save_tagger(directory):
    """A model that finds people and places."""
    save_small_model(directory, AlbertForTokenClassification, TAGS, num_hidden_layers=1)
    return _decided(directory, AlbertForTokenClassification, "classifier", ("logits",))


def save_answerer(directory):
    """A model that answers questions."""
    save_small_model(directory, AlbertForQuestionAnswering, num_hidden_layers=1)
    names = ("start_logits", "end_logits")
    return _decided(directory, AlbertForQuestionAnswering, "qa_outputs", names)


def _decided(directory, model_class, head, names):
    """Save the model again with a head that is decided, and not always for one label.

    A random head prefers one label whatever it sees. Scaled and shifted, its logits have mean 0
    and deviation 2 over the sentences, or over the tokens of all of them in one text.
    """
    texts = SENTENCES if model_class is AlbertForSequenceClassification else [" ".join(SENTENCES)]
    model = model_class.from_pretrained(directory, dtype="float64")
    inputs = AlbertTokenizer.from_pretrained(directory)(texts, padding=True, return_tensors="np")
    outputs = model(**inputs)
    logits = np.stack([outputs[name] for name in names], axis=-1)
    logits = logits.reshape(-1, len(model.parameters[f"{head}.bias"]))
    scale = 2 / logits.std(axis=0)
    model.parameters[f"{head}.weight"] *= scale[:, None]
    model.parameters[f"{head}.bias"] -= logits.mean(axis=0)
    model.parameters[f"{head}.bias"] *= scale
    model.save_pretrained(directory)
    return directory
