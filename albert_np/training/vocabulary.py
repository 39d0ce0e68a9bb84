"""Training a SentencePiece vocabulary with ALBERT's special pieces."""

import io
import re
import string
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import sentencepiece

from albert_np.tokenization import AlbertTokenizer

# Each is a piece of its own wherever it stands: "Paris." is the piece of "Paris" and a full stop.
PUNCTUATION = "().,;:!?\"'-"


def train_vocabulary(sentences, vocab_size):
    """Train a unigram vocabulary (Kudo 2018), lower-cased and without accents, as ALBERT's is.

    The pieces <pad>, <unk>, [CLS], [SEP] and [MASK] have the ids 0 to 4. Every letter of English,
    every digit and the common punctuation has a piece, whether the sentences use it or not.

    Parameters
    ----------
    sentences : list of str
    vocab_size : int
        The most pieces there may be; there are fewer if the sentences do not give so many.

    Returns
    -------
    bytes
        The content of a `spiece.model`. The same sentences give the same bytes.
    """
    sentences = [_plain(sentence) for sentence in sentences]
    words = sorted(set(re.findall(r"[^\W\d_]+", " ".join(sentences))))
    # The trainer considers a piece only if it occurs in two different words, so it would cut most
    # words up. No piece joins a letter and a digit: "paris0" is a second word that holds "paris".
    sentences += [f"{word}0" for word in words]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=0.9995,
        required_chars=string.ascii_lowercase + string.digits,
        normalization_rule_name="nmt_nfkc",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        pad_piece="<pad>",
        unk_piece="<unk>",
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        user_defined_symbols=list(PUNCTUATION),
        num_threads=1,  # sums over several threads would differ in their last digits
        minloglevel=2,
    )
    return model.getvalue()


def _plain(text):
    """The text in lower case, without accents."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char)).lower()


def tokenizer_of(vocabulary, model_max_length):
    """A tokenizer on a vocabulary that is not in a file yet.

    Parameters
    ----------
    vocabulary : bytes
        The content of a `spiece.model`.
    model_max_length : int

    Returns
    -------
    AlbertTokenizer
    """
    with TemporaryDirectory() as directory:
        path = Path(directory) / "spiece.model"
        path.write_bytes(vocabulary)
        return AlbertTokenizer(path, model_max_length=model_max_length)
