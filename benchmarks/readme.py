"""Tables in a document, between markers: written by a command, never by hand."""

import re

from albert_np.files import replacing


def with_tables(text, tables):
    """A document with its tables made new.

    Parameters
    ----------
    text : str
        Where it has `<!-- benchmarks NAME -->` and `<!-- /benchmarks -->`, what stands between the
        two is replaced.
    tables : dict of str to str
        By NAME.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If a table has no place there, or more than one.
    """
    for name, table in tables.items():
        begin, end = f"<!-- benchmarks {name} -->", "<!-- /benchmarks -->"
        pattern = f"({re.escape(begin)}\n).*?({re.escape(end)})"
        found = re.findall(pattern, text, flags=re.DOTALL)
        if len(found) != 1:
            raise ValueError(f"has {len(found)} places marked {begin} … {end}; expected 1")
        # A function as the replacement: a backslash in the table is no group's number.
        text = re.sub(
            pattern,
            lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


def write_tables(path, tables):
    """Put tables between the markers of a file, all or none.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read or written, or has no place for one of them.
    """
    try:
        text = with_tables(path.read_text(encoding="utf-8"), tables)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
