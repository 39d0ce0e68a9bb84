"""A kernel of the user's own: functions in a Python file, named as the reference names them."""

import importlib.util
from pathlib import Path

from benchmarks.functions import DIRECTIONS, FUNCTIONS


def checked(entries, loading=None):
    """Check the user's entries before anything is measured.

    Parameters
    ----------
    entries : list of str
        `path.py:function`.
    loading : callable, optional
        In place of `load`: what else than Python files is understood.

    Returns
    -------
    entries : list of str
        With whole paths, as contenders run in another directory.

    Raises
    ------
    ValueError
        If one is wrong, or two have one name.
    """
    whole = [f"{path}:{function}" for path, function in map(parse, entries)]
    names = [name_of(entry) for entry in whole]
    for entry, name in zip(whole, names, strict=True):
        (loading or load)(entry)
        if names.count(name) > 1:
            raise ValueError(f"--add has more than one {name}; expected different names")
    return whole


def name_of(entry):
    """What an entry is called in the results: the file's name and the function's."""
    path, function = parse(entry)
    return f"{path.name}:{function}"


def parse(entry):
    """Take `path.py:function` apart.

    Parameters
    ----------
    entry : str

    Returns
    -------
    path : Path
    function : str
        Of FUNCTIONS.

    Raises
    ------
    ValueError
        If it is something else, or the function is none of those that are measured.
    """
    path, colon, name = entry.rpartition(":")
    if not colon or not path:
        raise ValueError(f"--add is {entry!r}; expected path.py:function")
    function = name.removesuffix("_forward")
    if function not in FUNCTIONS:
        raise ValueError(f"--add: {name!r} is not one of {', '.join(FUNCTIONS)}")
    if not Path(path).is_file():
        raise ValueError(f"--add: there is no file {path}")
    return Path(path).resolve(), function


def load(entry):
    """The pair that a file has for one of the fused functions, or its forward pass alone.

    Parameters
    ----------
    entry : str
        `path.py:function`.

    Returns
    -------
    functions : dict of str to callable
        By the names that they have in `albert_np.backend.Backend`.

    Raises
    ------
    ValueError
        If the file cannot be run, or has no forward pass of that name.
    """
    path, function = parse(entry)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None:
        raise ValueError(f"--add: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file may raise
        raise ValueError(f"--add: {path} cannot be run: {error!r}") from error
    names = [f"{function}_{direction}" for direction in DIRECTIONS]
    functions = {name: getattr(module, name) for name in names if hasattr(module, name)}
    if names[0] not in functions:
        raise ValueError(f"--add: {path} has no function {names[0]}")
    return functions
