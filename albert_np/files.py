"""Reading JSON, and writing files so that an interrupted run loses nothing."""

import json
import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from albert_np.errors import FileFormatError

# More than any file of a checkpoint needs; what is parsed can take fifty times the memory.
MAX_JSON_BYTES = 16 * 2**20


@contextmanager
def replacing(path):
    """Write a file beside its final name, flush it, then rename it into place.

    Parameters
    ----------
    path : str or Path
        The final name. A file of that name stays as it was until the new one is complete.

    Yields
    ------
    Path
        The temporary name to write to, in the same directory. It is removed if the body raises.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        # The system names no file where writing fails, and the temporary one where opening does.
        if error.errno is not None and str(error.filename) in ("None", str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def flush(path):
    """Wait until what was written to a file lies on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def read_json_object(path):
    """The dictionary that a JSON file holds.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is longer than `MAX_JSON_BYTES`, is not JSON or not an object, or is nested too
        deeply.
    """
    with open(path, "rb") as file:
        text = file.read(MAX_JSON_BYTES + 1)
    if len(text) > MAX_JSON_BYTES:
        raise FileFormatError(f"{path} has more than {MAX_JSON_BYTES:,} bytes; expected fewer")
    try:
        values = json.loads(text.decode("utf-8"))
    except RecursionError:
        raise FileFormatError(f"{path} is nested too deeply to be read") from None
    except ValueError as error:  # JSON's and UTF-8's decoders both raise one
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise FileFormatError(f"{path} holds a JSON {type(values).__name__}; expected an object")
    return values
