"""Libraries that only some of the package needs: imported when needed, or asked for by name."""

import shlex
from importlib import import_module


def import_library(library, user, requirement, module=None):
    """Import a library that may not be installed.

    Parameters
    ----------
    library : str
        Its name, as the error says it.
    user : str
        What needs it, as the error's first words.
    requirement : str
        What `pip install` is to be given, such as "albert-np[numba]".
    module : str, optional
        The module to import, where its name is another.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed. What an installed library itself lacks is its own error.
    """
    module = module or library
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f"{user} needs the library {library}, which is not installed: "
            f"python -m pip install {shlex.quote(requirement)}"
        ) from None
