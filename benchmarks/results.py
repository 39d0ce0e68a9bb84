"""Results files: what `--json` writes, and what `table` and `compare` read."""

import json
import os

from albert_np.errors import FileFormatError
from albert_np.files import replacing

SECTIONS = (
    *("kernels", "threads", "model", "training", "memory", "scaling"),
    *("cuda", "cache", "trial"),  # of a GPU
)


def check_writable(path):
    """Refuse an output that cannot be written, before anything is measured.

    Raises
    ------
    OSError
        If its directory is not there or not writable, or it is a directory.
    """
    if path is not None and not os.access(path.resolve().parent, os.W_OK):
        raise OSError(f"{path} cannot be written: its directory is not there, or not writable")
    if path is not None and path.is_dir():
        raise OSError(f"{path} cannot be written: it is a directory")


def write(results, path):
    """Write results, all or nothing."""
    with replacing(path) as temporary:
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read(path):
    """Read what `write` wrote.

    Raises
    ------
    OSError, FileFormatError
        If there is no such file, or it is something else.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(results, dict) or "environment" not in results:
        raise FileFormatError(f"{path} holds no results: it was not written by --json")
    if not any(results.get(section) for section in SECTIONS):
        raise FileFormatError(f"{path} holds none of {', '.join(SECTIONS)}")
    return results


def all_correct(results):
    """Whether every contender passed its check."""
    return all(
        contender.get("correct", True)
        for section in SECTIONS
        for record in results.get(section, ())
        for contender in record.get("contenders", {}).values()
    )
