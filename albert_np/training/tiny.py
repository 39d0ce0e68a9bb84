"""The recipe of the small model that ships: a closed world of facts, learnt from nothing.

Two phases, short sequences before long ones:

1. single sentences, masked, about ever more facts (`corpus.sentences` says why);
2. pairs of segments with their order to tell, and single sentences still, so that neither is
   forgotten.
"""

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
GROWTH_SHARE = 0.75  # of the first phase: until all facts are there
SINGLE_SHARE = 0.7  # of the sequences of the second phase
# Twice the paper's 0.15, of sequences fifty times as short: 0.15 of ten tokens is one, and most
# often a word such as "the", which teaches no fact.
MASKED_SHARE = 0.3


def pretrain_tiny(output_directory, steps=12_000, batch_size=32, learning_rate=2e-3, seed=0):
    """Train the small model on the closed world, and save it with its loss curve and its log.

    Parameters
    ----------
    output_directory : str or Path
        Gets config.json, model.safetensors, spiece.model, the tokenizer's two files,
        training_log.json and loss.png.
    steps : int, optional
        Of both phases together.
    batch_size : int, optional
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
        If a setting makes no sense.
    ImportError
        If matplotlib is not installed.
    OSError
        If the output cannot be written. All of these come before training.
    """
    check_settings(steps, batch_size, learning_rate, seed)
    check_output(output_directory)
    chosen = pairings(held_out=False)
    tokenizer = tokenizer_of(
        train_vocabulary([pairing.sentence for pairing in chosen], VOCABULARY_SIZE), MAX_LENGTH
    )
    model = AlbertForPreTraining(AlbertConfig(vocab_size=len(tokenizer), **SIZES), seed=seed)
    rng = np.random.default_rng(seed)
    first_steps = round(SENTENCE_SHARE * steps)
    growth = max(1, round(GROWTH_SHARE * first_steps * batch_size))
    learning_rates = linear_schedule(learning_rate, steps, round(WARMUP_SHARE * steps))
    phases = {
        "sentences": _train(
            _without_sentence_order(model),
            sentence_batches(
                sentences(chosen, rng, growth), tokenizer, batch_size, MAX_LENGTH, rng, MASKED_SHARE
            ),
            learning_rates[:first_steps],
            "sentences",
        ),
        "documents": _train(
            model,
            document_batches(
                _mixed(chosen, rng), tokenizer, batch_size, MAX_LENGTH, rng, MASKED_SHARE
            ),
            learning_rates[first_steps:],
            "documents",
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


def _without_sentence_order(model):
    """The same parameters, in the same memory, as a model of masked words alone."""
    masked_lm = AlbertForMaskedLM(model.config, seed=None)
    masked_lm.parameters = {name: model.parameters[name] for name in masked_lm.parameters}
    return masked_lm


def _train(model, batches, learning_rates, description):
    optimizer = AdamW(
        model.parameters, betas=BETAS, undecayed=biases_and_layer_norms(model.parameters)
    )
    return train(model, optimizer, batches, learning_rates, description)


def _mixed(chosen, rng):
    """Endless documents, a share of which is a single sentence."""
    singles, whole = sentences(chosen, rng, growth=1), documents(chosen, rng)
    while True:
        yield [next(singles)] if rng.random() < SINGLE_SHARE else next(whole)
