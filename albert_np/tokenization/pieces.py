"""Step 3: a clean text is cut into the pieces of a SentencePiece vocabulary."""

from pathlib import Path

from sentencepiece import SentencePieceProcessor

from albert_np.errors import FileFormatError

# SentencePiece writes a space as this character, so that pieces can be joined without loss.
SPACE = "▁"


def cut_into_pieces(processor, text):
    """The pieces of a clean text.

    Parameters
    ----------
    processor : SentencePieceProcessor
    text : str

    Returns
    -------
    list of str
    """
    pieces = []
    for piece in processor.encode(text, out_type=str):
        pieces.extend(_part_comma(processor, piece) if ends_in_digit_comma(piece) else [piece])
    return pieces


def ends_in_digit_comma(piece):
    return len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()


def _part_comma(processor, piece):
    """`▁9,` as `▁9` and `,`: the number is split again, without its comma.

    The vocabulary holds pieces such as `▁9,` since they are frequent, but a comma after a number
    is punctuation, and a span of text that ends in the number (an answer, a name's date) should
    not carry it. The original ALBERT does the same.
    """
    number = processor.encode(piece[:-1].replace(SPACE, ""), out_type=str)
    if not piece.startswith(SPACE):
        # SentencePiece puts a space before whatever it is given; here there was none.
        number[0] = number[0].removeprefix(SPACE)
    return [part for part in number if part] + [","]


# ---------------------------------------------------------------------- the vocabulary's file


def read_vocabulary(vocab_file, sp_model_kwargs):
    """The bytes of a SentencePiece model, and the processor made from them.

    Parameters
    ----------
    vocab_file : str or Path
    sp_model_kwargs : dict
        What else the processor is made with.

    Raises
    ------
    OSError
        If the file cannot be read.
    FileFormatError
        If it is not a whole SentencePiece model.
    """
    serialized = Path(vocab_file).read_bytes()
    # A model that was cut off between two pieces still parses: as a shorter vocabulary, without
    # its normaliser. The parts after the pieces (2, the trainer's settings, and 3, the normaliser)
    # tell that it is whole.
    if not {1, 2, 3} <= _message_fields(serialized):
        raise FileFormatError(f"{vocab_file} is not a whole SentencePiece model")
    if sp_model_kwargs.get("nbest_size") in (0, 1):
        # Nothing to choose from, as it is documented; the library refuses to sample then.
        sp_model_kwargs = sp_model_kwargs | {"enable_sampling": False}
    processor = SentencePieceProcessor(**sp_model_kwargs)
    try:
        processor.LoadFromSerializedProto(serialized)
    except RuntimeError as error:
        raise FileFormatError(f"{vocab_file} is not a SentencePiece model: {error}") from error
    return serialized, processor


def _message_fields(serialized):
    """The numbers of a protocol buffer's outermost fields, as far as it can be read as one.

    Each is a tag (number · 8 + wire type), a length and that many bytes; of the wire types only 2,
    bytes of a given length, occurs at the outermost level of a SentencePiece model.
    """
    fields, position = set(), 0
    while position < len(serialized):
        tag, position = _read_varint(serialized, position)
        length, position = _read_varint(serialized, position)
        if tag % 8 != 2:
            break
        fields.add(tag // 8)
        position += length
    return fields


def _read_varint(serialized, position):
    """An integer in groups of 7 bits, lowest first, and the position after it."""
    value = shift = 0
    for byte in serialized[position : position + 10]:
        value |= (byte & 127) << shift
        shift += 7
        position += 1
        if byte < 128:
            break
    return value, position
