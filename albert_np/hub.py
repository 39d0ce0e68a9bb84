"""Checkpoints by their names on Hugging Face's hub, through the library huggingface_hub."""

import re
from functools import partial
from pathlib import Path

# "albert/albert-base-v2", or without its owner, as "albert-base-v2".
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def is_hub_name(text):
    """Whether a text can be the name of a repository of the hub."""
    return NAME.fullmatch(text) is not None


def fetch(name, files, *, revision=None, cache_dir=None, local_files_only=False):
    """The directory, in the library's cache, of a repository's files.

    Parameters
    ----------
    name : str
        Such as "albert/albert-base-v2".
    files : sequence of str
        The names of the files that are needed, in which * stands for anything. No other is
        fetched; those that the repository has not are not there.
    revision : str, optional
        A branch, a tag or a commit; by default the branch "main".
    cache_dir : str or Path, optional
        By default the library's.
    local_files_only : bool, optional
        Whether to take only what is in the cache. Without a connection that is done anyway.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If the library is not installed, or does not find the repository.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(
            f"{name!r} is not a directory (looked for {Path(name).absolute()}); expected one that "
            'holds a checkpoint, "tiny", the model that ships, or a name on Hugging Face\'s hub, '
            "for which huggingface_hub is needed: python -m pip install huggingface_hub"
        ) from error
    download = partial(
        snapshot_download,
        name,
        revision=revision,
        cache_dir=cache_dir,
        allow_patterns=list(files),
    )
    try:
        directory = _fetched(download, local_files_only)
    except (OSError, ValueError) as error:  # no connection, no such name or revision, no access
        found = "in the cache of Hugging Face's hub" if local_files_only else "on the hub"
        raise FileNotFoundError(
            f"{name!r} is not a directory (looked for {Path(name).absolute()}), and "
            f"huggingface_hub does not find it {found}"
            f"{'' if revision is None else f', revision {revision!r}'}; expected a directory that "
            f'holds a checkpoint, "tiny", the model that ships, or a name on the hub, fetched '
            f"before where there is no connection. It says: {' '.join(str(error).split())}"
        ) from error
    return Path(directory)


def _fetched(download, local_files_only):
    """The directory that is downloaded, or else found in the cache.

    Without a connection some releases of the library look there for branches and tags alone, and
    not for a commit.
    """
    try:
        return download(local_files_only=local_files_only)
    except (OSError, ValueError) as error:
        try:
            return download(local_files_only=True)
        except (OSError, ValueError):
            raise error from None
