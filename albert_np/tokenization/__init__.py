"""From text to token ids and back.

`AlbertTokenizer` takes a text through five steps, which read best in this order:

1. cut out the special tokens, and the added ones, that the text itself spells: `The capital of
   [MASK] is Paris.` (`added_tokens.py`);
2. clean what lies between them: spaces, quotes, accents, capitals (`cleaning.py`);
3. cut that into pieces with SentencePiece's unigram model, and part a number from its comma
   (`pieces.py`);
4. look the pieces up: one id a piece (`albert.py`, where the steps are put together);
5. frame one text as `[CLS] A [SEP]` and two as `[CLS] A [SEP] B [SEP]`, cut them to length,
   pad them (`rows.py`).

`AlbertTokenizerFast` (`fast.py`) has all five done by the `tokenizers` library, which also knows
where in the text each token lies. It reads tokenizer.json, or makes the same thing out of
spiece.model (`conversion.py`).

What the two have in common is in `base.py`: the special tokens, the call and its options
(`options.py`), what it returns (`encoding.py`), and the files they are saved to (`files.py`).
`checks.py` stands at the door.

Ids, token types and masks are those of the classes of the same names in transformers 4.56.2
(Hugging Face's documentation), on any text. Where those log an error or a warning and hand back
something longer or shorter than what was asked for, these raise; and they pad an empty row, which
those leave empty.
"""

from albert_np.tokenization.added_tokens import AddedToken
from albert_np.tokenization.albert import AlbertTokenizer
from albert_np.tokenization.encoding import BatchEncoding
from albert_np.tokenization.fast import AlbertTokenizerFast
from albert_np.tokenization.options import NO_LIMIT

__all__ = ["NO_LIMIT", "AddedToken", "AlbertTokenizer", "AlbertTokenizerFast", "BatchEncoding"]
