"""Pretraining on a text of one's own."""

import re
from pathlib import Path

import numpy as np

from albert_np.config import AlbertConfig
from albert_np.errors import FileFormatError
from albert_np.models import AlbertForPreTraining
from albert_np.tokenization import AlbertTokenizer
from albert_np.training.batches import document_batches
from albert_np.training.loop import train
from albert_np.training.optimizers import AdamW, biases_and_layer_norms, linear_schedule
from albert_np.training.results import check_output, check_settings, save_results
from albert_np.training.sentence_order import split_to_fit
from albert_np.training.vocabulary import tokenizer_of, train_vocabulary

VOCABULARY_SIZE = 8000
MAX_LENGTH = 128
PAIR_OVERHEAD = 3  # [CLS] … [SEP] … [SEP]
WARMUP_SHARE = 0.1

# A small model, for a text of a few megabytes on a laptop.
SIZES = {
    "embedding_size": 128,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "max_position_embeddings": MAX_LENGTH,
}


def pretrain_text(
    text_file,
    output_directory,
    vocabulary=None,
    config=None,
    steps=1000,
    batch_size=32,
    learning_rate=1e-3,
    seed=0,
):
    """Pretrain a model on a text file, and save it with its loss curve and its log.

    Parameters
    ----------
    text_file : str or Path
        UTF-8, one sentence a line, blank lines between documents; two documents or more, one of
        which has two sentences or more.
    output_directory : str or Path
        Gets config.json, model.safetensors, spiece.model, the tokenizer's two files,
        training_log.json and loss.png.
    vocabulary : str or Path, optional
        A `spiece.model`; by default one is trained on the text.
    config : AlbertConfig, optional
        By default that of a small model.
    steps, batch_size : int, optional
    learning_rate : float, optional
        The highest one: it rises for the first tenth of the steps, then falls to 0.
    seed : int, optional
        Draws the weights and the batches.

    Returns
    -------
    model : AlbertForPreTraining
    tokenizer : AlbertTokenizer

    Raises
    ------
    TypeError, ValueError
        If a setting makes no sense, the configuration has fewer ids than the vocabulary or
        another padding token, or the loss does not stay finite.
    FileFormatError
        If the text or the vocabulary does not hold what it should.
    ImportError
        If matplotlib is not installed.
    OSError
        If a file cannot be read, or the output cannot be written. All of these but the loss
        come before training, and all leave an older model in the output as it was.
    """
    check_settings(steps, batch_size, learning_rate, seed)
    documents = read_documents(text_file)
    tokenizer = _tokenizer(text_file, documents, vocabulary, config)
    if config is None:
        config = AlbertConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **SIZES,
        )
    if config.vocab_size < len(tokenizer):
        raise ValueError(
            f"config.vocab_size is {config.vocab_size}; the vocabulary has {len(tokenizer)} pieces"
        )
    if config.pad_token_id != tokenizer.pad_token_id:
        raise ValueError(
            f"config.pad_token_id is {config.pad_token_id}; "
            f"the vocabulary's is {tokenizer.pad_token_id}"
        )
    max_length = min(MAX_LENGTH, config.max_position_embeddings)
    runs = fitting(documents, tokenizer, max_length)
    if all(len(run) == 1 for run in runs):
        raise FileFormatError(
            f"{text_file} has no two neighbouring sentences that fit in {max_length} tokens"
        )
    check_output(output_directory)
    rng = np.random.default_rng(seed)
    model = AlbertForPreTraining(config, seed=seed)
    batches = document_batches(shuffled(runs, rng), tokenizer, batch_size, max_length, rng)
    losses = train(
        AdamW(model.parameters, undecayed=biases_and_layer_norms(model.parameters)),
        ((model, batch) for batch in batches),
        linear_schedule(learning_rate, steps, round(WARMUP_SHARE * steps)),
    )
    settings = {
        "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed,
    }  # fmt: skip
    save_results(output_directory, model, tokenizer, {"loss": losses}, settings)
    return model, tokenizer


def read_documents(text_file):
    """The documents of a text file, each a list of its sentences.

    Parameters
    ----------
    text_file : str or Path

    Returns
    -------
    list of list of str

    Raises
    ------
    OSError
        If the file cannot be read.
    FileFormatError
        If it is empty, not UTF-8, or has no order of sentences to learn from.
    """
    try:
        text = Path(text_file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{text_file} is not UTF-8: byte {error.start} is wrong") from error
    documents = [[]]
    for line in re.split(r"\r?\n", text):
        if line.strip():
            documents[-1].append(line.strip())
        elif documents[-1]:
            documents.append([])
    documents = [document for document in documents if document]
    if not documents:
        raise FileFormatError(f"{text_file} is empty; expected one sentence a line")
    if len(documents) == 1:
        raise FileFormatError(
            f"{text_file} has 1 document; expected 2 or more, with a blank line between them"
        )
    if all(len(document) == 1 for document in documents):
        raise FileFormatError(
            f"{text_file} has 1 sentence in each document; expected one document or more of "
            "2 sentences, one a line, whose order can be learnt"
        )
    return documents


def _tokenizer(text_file, documents, vocabulary, config):
    """The tokenizer on the given vocabulary, or on one trained on the documents."""
    max_length = MAX_LENGTH if config is None else config.max_position_embeddings
    if vocabulary is not None:
        return AlbertTokenizer(vocabulary, model_max_length=max_length)
    size = VOCABULARY_SIZE if config is None else config.vocab_size
    sentences = [sentence for document in documents for sentence in document]
    try:
        return tokenizer_of(train_vocabulary(sentences, size), max_length)
    except RuntimeError as error:  # what SentencePiece raises
        raise FileFormatError(f"{text_file}: no vocabulary comes of it: {error}") from error


def fitting(documents, tokenizer, max_length):
    """The documents, cut where they are longer than a sequence.

    Parameters
    ----------
    documents : list of list of str
    tokenizer : AlbertTokenizer
    max_length : int
        Tokens, special ones included.

    Returns
    -------
    list of list of str
    """
    runs = []
    for document in documents:
        lengths = [len(tokenizer.tokenize(sentence)) for sentence in document]
        runs += split_to_fit(document, lengths, max_length - PAIR_OVERHEAD)
    return runs


def shuffled(documents, rng):
    """The documents without end, each once a round, every round in another order."""
    while True:
        for i in rng.permutation(len(documents)):
            yield documents[i]
