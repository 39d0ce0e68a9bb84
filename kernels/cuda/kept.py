"""Compiled kernels that are kept on disk, for the next process."""

import hashlib
import os
from pathlib import Path


def kept_directory(kind):
    """Where compiled kernels of a kind are: in $ALBERT_NP_CACHE, or albert-np in the user's cache.

    Parameters
    ----------
    kind : str
        The name of the directory.

    Returns
    -------
    Path
    """
    user = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return Path(os.environ.get("ALBERT_NP_CACHE", user / "albert-np")) / kind


def kept_file(kind, name, parts):
    """Where something compiled is kept, whether it is there already or not.

    Parameters
    ----------
    kind : str
    name : str
        What the file's name ends with.
    parts : iterable of str
        All that it is made of: another text, option or compiler is another file.

    Returns
    -------
    Path
        In a directory that is there.
    """
    directory = kept_directory(kind)
    directory.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return directory / f"{content[:32]}-{name}"
