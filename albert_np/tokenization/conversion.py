"""spiece.model as a tokenizer of the `tokenizers` library.

The library's parts do what the five steps of `AlbertTokenizer` do, nearly:

1. Added tokens. The vocabulary's own symbols, such as `(`, are cut out of the raw text too.
2. Normalizer. Other white space than runs of spaces is left to the vocabulary's own rules.
3. Pre-tokenizer and model. Words are cut one at a time. `▁9,` is not taken apart: it is made so
   unlikely that it is chosen only where nothing else fits.
4. The model again.
5. Post-processor. It frames with [CLS] and [SEP], whatever `cls_token` and `sep_token` are.

The differences are those between transformers' two classes, and are kept.
"""

from albert_np.errors import FileFormatError
from albert_np.libraries import import_library
from albert_np.tokenization.pieces import SPACE, ends_in_digit_comma

# What SentencePiece's file calls its kinds of model and of pieces.
UNIGRAM = 1
CONTROL, USER_DEFINED = 3, 4

# Subtracted from a piece's log probability, so that any other way to cut a text is likelier.
UNLIKELY = 100


def import_tokenizers():
    """The `tokenizers` library.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    return import_library("tokenizers", "AlbertTokenizerFast", "albert-np[fast]")


def converted(slow):
    """An AlbertTokenizer's vocabulary and settings as a tokenizer of the library.

    Parameters
    ----------
    slow : AlbertTokenizer

    Returns
    -------
    tokenizers.Tokenizer

    Raises
    ------
    FileFormatError
        If its vocabulary is not a unigram model.
    ImportError
        If a library that the extra `fast` names is not installed.
    """
    library = import_tokenizers()
    vocabulary = _parsed(slow)
    tokenizer = library.Tokenizer(
        library.models.Unigram(_scored(vocabulary), unk_id=vocabulary.trainer_spec.unk_id)
    )
    tokenizer.add_tokens(_symbols(library, vocabulary))
    tokenizer.normalizer = _normalizer(library, vocabulary, slow)
    tokenizer.pre_tokenizer = library.pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    tokenizer.decoder = library.decoders.Metaspace(SPACE, prepend_scheme="always")
    tokenizer.post_processor = _frame(library, slow)
    return tokenizer


def _parsed(slow):
    """The vocabulary's file, field by field."""
    import_library("protobuf", "AlbertTokenizerFast", "albert-np[fast]", module="google.protobuf")
    from sentencepiece import sentencepiece_model_pb2

    vocabulary = sentencepiece_model_pb2.ModelProto.FromString(slow._serialized_vocabulary)
    if vocabulary.trainer_spec.model_type != UNIGRAM:
        raise FileFormatError(
            f"{slow.vocab_file} holds no unigram model; AlbertTokenizerFast reads no other"
        )
    return vocabulary


def _scored(vocabulary):
    """Each piece and its logarithmic probability, those such as `9,` made unlikely."""
    return [
        (piece.piece, piece.score - UNLIKELY * ends_in_digit_comma(piece.piece))
        for piece in vocabulary.pieces
    ]


def _symbols(library, vocabulary):
    """The pieces that are never cut, nor made of smaller ones."""
    return [
        library.AddedToken(piece.piece, normalized=False, special=piece.type == CONTROL)
        for piece in vocabulary.pieces
        if piece.type in (CONTROL, USER_DEFINED)
    ]


def _normalizer(library, vocabulary, slow):
    normalizers = library.normalizers
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not slow.keep_accents:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if slow.do_lower_case:
        steps.append(normalizers.Lowercase())
    if vocabulary.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(vocabulary.normalizer_spec.precompiled_charsmap))
    steps.append(normalizers.Replace(library.Regex(" {2,}"), " "))
    return normalizers.Sequence(steps)


def _frame(library, slow):
    return library.processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, slow.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")],
    )
