"""Code of the user's: a Python file that is run, a function in it, and what it raises."""

import importlib.util
import sys
import textwrap
from pathlib import Path

LONGEST_MESSAGE = 300  # characters of what the user's code raised


def load_function(entry):
    """What `path.py:function` names: the file's whole path, its module, and the name.

    Parameters
    ----------
    entry : str

    Returns
    -------
    path : Path
    module : module
    name : str

    Raises
    ------
    ValueError
        If it is something else, there is no such file, or it cannot be run.
    """
    path, colon, name = entry.rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise ValueError(f"{entry!r} does not name a function; expected path.py:function")
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    path = Path(path).resolve()
    return path, _run_file(path), name


def described(error):
    """An exception of the user's code, or of a library that runs it, in one line."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", LONGEST_MESSAGE)


def _run_file(path):
    """The module that a Python file is."""
    # Under the name that `import` would give it: compilers that cache (Numba) look for it there.
    name = path.stem
    if getattr(sys.modules.get(name), "__file__", str(path)) != str(path):
        name = f"{path.stem}_to_verify"
    if str(path.parent) not in sys.path:  # for what it imports from beside it
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ValueError(f"{path} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's file may raise
        del sys.modules[name]
        raise ValueError(f"{path} cannot be run: {described(error)}") from error
    return module
