"""What a command works on: arguments, or the lines of a file or of standard input.

A line is a text; or, with --json-lines, a JSON object that holds texts by name, a record.
"""

import json
import re
import sys


def texts_of(options):
    """The texts that a command is given, a list of str."""
    return [record["text"] for record in records_of(options)]


def records_of(options, optional=()):
    """The texts that a command is given, each under "text", with the optional keys it has.

    Parameters
    ----------
    options : argparse.Namespace
        With what `add_text` reads.
    optional : tuple of str
        Keys that a JSON line may have besides "text".

    Returns
    -------
    list of dict of str to str
        Where each comes from is in `options.places` then, for `with_places`.
    """
    if options.texts and options.file is not None:
        raise ValueError("both TEXT and --file are given; expected one of them")
    if options.texts and options.json_lines:
        raise ValueError("both TEXT and --json-lines are given; JSON lines come from a file")
    if options.texts:
        options.places = [f"TEXT {place}" for place in range(1, len(options.texts) + 1)]
        return [{"text": text} for text in options.texts]
    name, lines = lines_of(options.file)
    options.places = [f"{name}, line {number}" for number, _ in lines]
    if options.json_lines:
        return [parsed(name, number, line, ("text",), optional) for number, line in lines]
    return [{"text": line} for _, line in lines]


def with_places(message, options):
    """A message about `texts[3]`, as a function has it, about where that text comes from."""
    found = re.match(r"(texts|question|context)\[(\d+)\](?:\['(\w+)'\])?", message)
    places = getattr(options, "places", None)
    if not found or not places:
        return message
    name, place, key = found.groups()
    part = "context" if name == "context" else key
    return places[int(place)] + (f", {part}" if part else "") + message[found.end() :]


def lines_of(file_name, argument="TEXT", line="text"):
    """The lines of a file (- or None: of standard input) that are not blank.

    Parameters
    ----------
    file_name : str or None
    argument, line : str
        What might have been given instead, and what a line holds, for messages.

    Returns
    -------
    name : str
        What to call the file.
    lines : list of (int, str)
        With their numbers in the file, from 1.
    """
    if file_name not in (None, "-"):
        with open(file_name, "rb") as file:
            return file_name, _lines(file_name, file.read(), line)
    if sys.stdin is None or (file_name is None and sys.stdin.isatty()):
        raise ValueError(
            f"no text is given; expected {argument}, --file, or lines on standard input"
        )
    return "standard input", _lines("standard input", sys.stdin.buffer.read(), line)


def _lines(name, content, line):
    numbered = enumerate(re.split(r"\r?\n", decoded(name, content)), start=1)
    lines = [(number, text) for number, text in numbered if text.strip()]
    if not lines:
        raise ValueError(f"{name} holds no text; expected one {line} a line")
    return lines


def decoded(name, content):
    """The text of a file's bytes."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8: byte {content[error.start]:#04x} at offset {error.start}"
        ) from None


def parsed(name, number, line, required, optional=()):
    """The record on a JSON line: its required keys, and those optional ones that it has.

    Parameters
    ----------
    name, number : str, int
        Of the file and of the line, for messages.
    line : str
    required, optional : tuple of str

    Returns
    -------
    dict of str to str
    """
    where = f"{name}, line {number}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:  # the latter of thousands of open brackets
        raise ValueError(f"{where} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where} is of type {type(value).__name__}; expected a JSON object")
    for key in required:
        if key not in value:
            raise ValueError(f'{where} has no "{key}"; it has {", ".join(value) or "no key"}')
    record = {key: value[key] for key in (*required, *optional) if key in value}
    for key, text in record.items():
        if not isinstance(text, str):
            raise ValueError(f'{where}: "{key}" is of type {type(text).__name__}; expected str')
    return record
