"""The files that a tokenizer is saved to, in Hugging Face's layout.

| file | what it holds |
| --- | --- |
| spiece.model | the vocabulary, SentencePiece's |
| tokenizer.json | all of a fast tokenizer, in the layout of the `tokenizers` library |
| tokenizer_config.json | what the class was made with, and every added token |
| special_tokens_map.json | the special tokens once more; versions before 4.34 read them here |
| added_tokens.json | the ids of the tokens after the vocabulary; those versions read them here |
"""

import json
from dataclasses import asdict
from pathlib import Path

from albert_np.errors import FileFormatError
from albert_np.files import read_json_object, replacing
from albert_np.tokenization.checks import checked_token

VOCABULARY_FILE = "spiece.model"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"

# In this order, tokens that the vocabulary lacks get the ids after it.
SPECIAL_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
ADDITIONAL = "additional_special_tokens"
SETTINGS = (
    "do_lower_case", "remove_space", "keep_accents", "model_max_length", "padding_side",
    "truncation_side", "clean_up_tokenization_spaces", "split_special_tokens", *SPECIAL_TOKENS,
    ADDITIONAL,
)  # fmt: skip
# All of them: what is fetched where they lie on the hub.
TOKENIZER_FILES = (
    VOCABULARY_FILE, TOKENIZER_FILE, CONFIG_FILE, SPECIAL_TOKENS_FILE, ADDED_TOKENS_FILE,
)  # fmt: skip


def read_settings(directory, names, given):
    """What a tokenizer's class is to be made with, by name.

    Parameters
    ----------
    directory : Path
    names : sequence of str
        The settings that the class has.
    given : dict
        Settings that outweigh the files.

    Returns
    -------
    dict
        Those of `names` that the files have, and `added_tokens_decoder`, id → AddedToken.

    Raises
    ------
    FileFormatError
        If a file is not a JSON object, is too large, or describes no tokens.
    """
    config = read_if_there(directory / CONFIG_FILE)
    if config.get("extra_special_tokens"):
        raise FileFormatError(
            f"settings in {directory}: extra_special_tokens is "
            f"{config['extra_special_tokens']!r}; tokens with names of their own are not read"
        )
    if "added_tokens_decoder" in config:
        # transformers 4.34 and later describe every added token in the configuration ...
        added_tokens = _described(directory / CONFIG_FILE, config["added_tokens_decoder"])
    else:
        # ... before, the special tokens' own file outweighed it.
        config |= _read_special_tokens(directory, config, given)
        added_tokens = _read_added_tokens(directory, config | given)
    by_content = {token.content: token for token in added_tokens.values()}
    settings = {name: config[name] for name in names if name in config}
    for name in SPECIAL_TOKENS:
        content = _content(settings.get(name))
        if isinstance(content, str) and content in by_content:
            settings[name] = by_content[content]
    return settings | {"added_tokens_decoder": added_tokens}


def _read_special_tokens(directory, config, given):
    special_tokens = read_if_there(directory / SPECIAL_TOKENS_FILE)
    tokens = {
        name: token | {"special": True} if isinstance(token, dict) else token
        for name, token in special_tokens.items()
        if not given.get(name)
    }
    if _additional(tokens):
        known = _additional(config)
        new = [t | {"special": True} if isinstance(t, dict) else t for t in tokens[ADDITIONAL]]
        tokens[ADDITIONAL] = known + [token for token in new if token not in known]
    return tokens


def _additional(config):
    """The special tokens without a name; what is no list is refused later, with the rest."""
    tokens = config.get(ADDITIONAL)
    return tokens if isinstance(tokens, list) else []


def _read_added_tokens(directory, config):
    """The added tokens, id → AddedToken, as transformers before 4.34 saved them."""
    path = directory / ADDED_TOKENS_FILE
    special = [_content(config.get(name)) for name in SPECIAL_TOKENS]
    special += map(_content, _additional(config))
    added_tokens = _described(
        path,
        {
            index: {"content": content, "special": content in special}
            for content, index in read_if_there(path).items()
        },
    )
    path = directory / TOKENIZER_FILE
    described = read_if_there(path).get("added_tokens", [])
    try:
        return added_tokens | _described(path, {token["id"]: token for token in described})
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"the added tokens in {path} are not readable") from error


def _described(path, descriptions):
    """Id → AddedToken, of the dictionaries that a file describes them with."""
    try:
        return {
            int(index): checked_token("content", dict(description))
            for index, description in descriptions.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise FileFormatError(f"the added tokens in {path} are not readable: {error}") from error


def _content(token):
    return token.get("content") if isinstance(token, dict) else token


def read_if_there(path):
    """The object in a JSON file, or an empty one where there is no file."""
    return read_json_object(path) if path.exists() else {}


# ---------------------------------------------------------------------- writing


def saved_path(save_directory, filename_prefix, name):
    """Where a file of this name is saved, as `prefix-name` if there is a prefix."""
    return Path(save_directory) / (f"{filename_prefix}-{name}" if filename_prefix else name)


def write_bytes(path, content):
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def as_json(content):
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()


def described(token):
    """A token as special_tokens_map.json has it."""
    if isinstance(token, str):
        return token
    return {field: value for field, value in asdict(token.resolved()).items() if field != "special"}
