"""Step 1: the tokens that are found in the raw text, before it is cleaned and cut into pieces."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in the raw text.

    Attributes
    ----------
    content : str
        Its text.
    single_word : bool
        Only where it stands alone: not beside anything but a space.
    lstrip, rstrip : bool
        Whether it swallows the white space on its left, and on its right.
    normalized : bool or None
        Whether it is looked for in the cleaned text, so that `New` is found where `new` is
        written. None: if it is not special when it is added.
    special : bool
        Whether it stands for no text: decoding can leave it out.

    Notes
    -----
    Follows `AddedToken` of Hugging Face's documentation.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False

    def __str__(self):
        return self.content

    def resolved(self):
        """The same token, with `normalized` decided."""
        normalized = not self.special if self.normalized is None else self.normalized
        return replace(self, normalized=normalized)


def lower_around(text, spared):
    """Lower a text's letters, except for the tokens that stand there as they are written.

    `[MASK]` is the token, `[mask]` is four letters in brackets, `<PAD>` becomes the token.
    Each letter is lowered alone, so that Σ becomes σ even where a word ends in it.

    Parameters
    ----------
    text : str
    spared : tuple of str
        The tokens. Where two could begin at one place, the earlier is spared.
    """
    chunks = _any_of(spared).split(text)  # text, token, text, token, ..., text
    chunks[::2] = ("".join(map(str.lower, chunk)) for chunk in chunks[::2])
    return "".join(chunks)


def cut_out(text, tokens):
    """A text as a list of chunks, each either an added token or free of them.

    Of two tokens that begin at one place, the longer is found.

    Parameters
    ----------
    text : str
    tokens : dict of str to AddedToken
        By content.
    """
    longest_first = tuple(sorted(tokens, key=len, reverse=True))
    chunks = [chunk for chunk in _any_of(longest_first).split(text) if chunk]
    for place in range(len(chunks)):
        if chunks[place] in tokens:
            _fit(tokens[chunks[place]], chunks, place)
    return [chunk for chunk in chunks if chunk]


def _fit(token, chunks, place):
    """Let the token at a place swallow space, or fall back into the text if it is not alone."""
    left = chunks[place - 1] if place > 0 else ""
    right = chunks[place + 1] if place + 1 < len(chunks) else ""
    if left and token.lstrip:
        chunks[place - 1] = left.rstrip()
    if right and token.rstrip:
        chunks[place + 1] = right.lstrip()
    if token.single_word and left and left[-1] != " ":
        chunks[place - 1 : place + 1] = chunks[place - 1] + token.content, ""
    elif token.single_word and right and right[0] != " ":
        chunks[place : place + 2] = "", token.content + chunks[place + 1]


@lru_cache(maxsize=64)
def _any_of(contents):
    """The pattern that finds these strings, the earlier in the list before the later."""
    return re.compile(f"({'|'.join(map(re.escape, contents))})" if contents else "((?!))")
