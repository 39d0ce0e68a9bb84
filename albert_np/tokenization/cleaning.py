"""Step 2: a text is cleaned the way the texts were that the vocabulary was learnt from."""

import unicodedata


def cleaned(text, do_lower_case=True, remove_space=True, keep_accents=False):
    """Clean a text without special tokens.

    The two quotes of TeX become one character. NFKD takes a letter apart from its accents (é is e
    and a combining mark), so that they can be dropped, and folds forms that differ in looks alone
    (full width, ligatures, mathematical letters) into plain ones; those bring new capitals, so
    lowering comes last.
    """
    if remove_space:
        text = " ".join(text.split())
    text = text.replace("``", '"').replace("''", '"')
    if not keep_accents:
        text = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in text if not unicodedata.combining(letter))
    if do_lower_case:
        text = text.lower()
    return text


# What decoding can tidy in English: the space before a mark, and contractions taken apart.
UNTIDY = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def tidied(text):
    """A decoded text without the spaces that English does not have."""
    for untidy, tidy in UNTIDY:
        text = text.replace(untidy, tidy)
    return text
