"""The recipe of the small model that ships: a closed world of facts, learnt from nothing.

Two phases, short sequences before long ones:

1. single sentences, masked, about ever more facts (`corpus.sentences` says why);
2. batches of segment pairs, with their order to tell, between batches of single sentences, so
   that neither is forgotten.
"""

from itertools import count

import numpy as np

from albert_np.config import AlbertConfig
from albert_np.models import AlbertForMaskedLM, AlbertForPreTraining
from albert_np.training.batches import document_batches, sentence_batches
from albert_np.training.corpus import documents, pairings, sentences
from albert_np.training.held_out import held_out_accuracy, sentence_order_accuracy
from albert_np.training.loop import train
from albert_np.training.optimizers import AdamW, biases_and_layer_norms, linear_schedule
from albert_np.training.results import check_output, check_settings, save_results
from albert_np.training.vocabulary import tokenizer_of, train_vocabulary

VOCABULARY_SIZE = 2000  # more than the world's words need, so that each is a piece
MAX_LENGTH = 128

# Weights start larger than BERT's 0.02, which suits a width of 768: what a sum over H inputs
# scales with is H · initializer_range².
SIZES = {
    "embedding_size": 128,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": MAX_LENGTH,
    "initializer_range": 0.08,
}
BETAS = (0.9, 0.98)
WARMUP_SHARE = 0.05  # of all steps
SENTENCE_SHARE = 0.75  # of all steps: the first phase
GROWTH_SHARE = 0.6  # of the first phase: until all facts are there
DOCUMENT_SHARE = 0.4  # of the batches of the second phase
# Twice the paper's 0.15, of sequences fifty times as short: 0.15 of ten tokens is one, and most
# often a word such as "the", which teaches no fact.
MASKED_SHARE = 0.3


def pretrain_tiny(output_directory, steps=21_000, batch_size=16, learning_rate=1.5e-3, seed=0):
    """Train the small model on the closed world, and save it with its loss curve and its log.

    Parameters
    ----------
    output_directory : str or Path
        Gets config.json, model.safetensors, spiece.model, the tokenizer's two files,
        training_log.json and loss.png.
    steps : int, optional
        Of both phases together.
    batch_size : int, optional
        Sequences of a batch.
    learning_rate : float, optional
        The highest one.
    seed : int, optional
        Draws the weights and the batches.

    Returns
    -------
    model : AlbertForPreTraining
    tokenizer : AlbertTokenizer
    accuracies : dict of str to float
        `held_out` and `sentence_order`, also in the log.

    Raises
    ------
    TypeError, ValueError
        If a setting makes no sense, or the loss does not stay finite.
    ImportError
        If matplotlib is not installed.
    OSError
        If the output cannot be written. All of these but the loss come before training, and all
        leave an older model in the output as it was.
    """
    check_settings(steps, batch_size, learning_rate, seed)
    check_output(output_directory)
    chosen = pairings(held_out=False)
    tokenizer = tokenizer_of(
        train_vocabulary([pairing.sentence for pairing in chosen], VOCABULARY_SIZE), MAX_LENGTH
    )
    model = AlbertForPreTraining(AlbertConfig(vocab_size=len(tokenizer), **SIZES), seed=seed)
    optimizer = AdamW(
        model.parameters, betas=BETAS, undecayed=biases_and_layer_norms(model.parameters)
    )
    rng = np.random.default_rng(seed)
    first_steps = round(SENTENCE_SHARE * steps)
    growth = max(1, round(GROWTH_SHARE * first_steps * batch_size))
    single = _turns_of_sentences(model, sentences(chosen, rng, growth), tokenizer, batch_size, rng)
    paired = _turns_of_documents(model, documents(chosen, rng), tokenizer, batch_size, rng)
    learning_rates = linear_schedule(learning_rate, steps, round(WARMUP_SHARE * steps))
    phases = {
        "sentences": train(optimizer, single, learning_rates[:first_steps], "sentences"),
        "sentences and documents": train(
            optimizer,
            (next(paired if rng.random() < DOCUMENT_SHARE else single) for _ in count()),
            learning_rates[first_steps:],
            "sentences and documents",
        ),
    }
    accuracies = {
        "held_out": held_out_accuracy(model, tokenizer),
        "sentence_order": sentence_order_accuracy(model, tokenizer),
    }
    settings = {
        "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed,
    }  # fmt: skip
    save_results(output_directory, model, tokenizer, phases, settings | accuracies)
    return model, tokenizer, accuracies


def _turns_of_sentences(model, source, tokenizer, batch_size, rng):
    """Turns of masked words alone, on the same parameters in the same memory."""
    masked_lm = AlbertForMaskedLM(model.config, seed=None)
    masked_lm.parameters = {name: model.parameters[name] for name in masked_lm.parameters}
    for batch in sentence_batches(source, tokenizer, batch_size, MAX_LENGTH, rng, MASKED_SHARE):
        yield masked_lm, batch


def _turns_of_documents(model, source, tokenizer, batch_size, rng):
    """Turns of masked words and the order of segments."""
    for batch in document_batches(source, tokenizer, batch_size, MAX_LENGTH, rng, MASKED_SHARE):
        yield model, batch
