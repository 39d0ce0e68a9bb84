"""Writing files so that an interrupted run loses nothing."""

import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path


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
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()
