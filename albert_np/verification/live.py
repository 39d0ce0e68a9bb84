"""Live candidates of one's own: a function in a Python file, or a program with files.

Each is given a case's parameters and inputs, and returns tensors by the names of
`albert_np.verification.reference`; a name without a slash is that of an output, such as `logits`.
"""

import json
import os
import shlex
import signal
import subprocess
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from albert_np.errors import FileFormatError
from albert_np.verification.of_torch import candidate_library, run_module, set_parameters
from albert_np.verification.precision import get_precision
from albert_np.verification.user_code import described, load_function

KINDS = ("parameters", "inputs", "forward", "outputs", "backward", "gradients")
LAST_LINES = 3  # of what a program that failed said
PATIENCE = 60  # seconds, after which it is said that a program is still waited for


def run_callable(case, entry, dtype="float32"):
    """Run a function of a Python file on a case.

    Parameters
    ----------
    case : Case
    entry : str
        `path.py:function`. The function is given parameters and inputs, dictionaries of arrays, and
        the configuration, a dictionary. It returns a dictionary of arrays (of any library whose
        arrays NumPy can read), or a torch.nn.Module that is then called with the inputs by name;
        the module is given the parameters if it has them all.
    dtype : str, optional
        Of the floating parameters and inputs that it is given.

    Returns
    -------
    tensors : dict of str to array
    could_not : list of str

    Raises
    ------
    ValueError
        If there is no such function, it raises, or it returns something else.
    """
    path, module, name = load_function(entry)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{path} has no function {name}")
    parameters, inputs = given_to_candidates(case, dtype)
    try:
        result = function(parameters, inputs, case.config.to_dict())
    except (Exception, SystemExit) as error:  # whatever the user's function may raise
        raise ValueError(f"{name} of {path} raises {described(error)}") from error
    if type(result).__module__ != "builtins" and hasattr(result, "named_modules"):
        return _run_own_module(case, result, dtype)
    if not isinstance(result, dict):
        raise ValueError(
            f"{name} of {path} returns a {type(result).__name__}; expected a dict of arrays by name"
        )
    return named_arrays(result, f"{name} of {path}"), []


def _run_own_module(case, module, dtype):
    """Run a module of PyTorch that a function made."""
    torch = candidate_library("torch")
    if dict(module.named_parameters()).keys() == case.parameters.keys():
        set_parameters(module, case.parameters)
    return run_module(case, module.to(getattr(torch, dtype)).eval())


def given_to_candidates(case, dtype):
    """A case's parameters and inputs, as copies, in a candidate's precision."""
    dtype = get_precision(dtype).dtype

    def given(array):
        array = np.array(array)
        return array.astype(dtype) if array.dtype.kind == "f" else array

    parameters = {name: given(array) for name, array in case.parameters.items()}
    inputs = {name: given(x) for name, x in case.inputs.items() if x is not None}
    return parameters, inputs


def named_arrays(result, source):
    """What a candidate returned, as arrays by whole names.

    Raises
    ------
    ValueError
        If a name is no text, or a value no array of numbers.
    """
    tensors = {}
    for name, value in result.items():
        if not isinstance(name, str):
            raise ValueError(f"{source} returns a name {name!r}; expected text")
        try:
            array = np.asarray(value)
        except Exception as error:  # an array of another library may refuse
            raise ValueError(f"{source}: {name} is no array: {described(error)}") from error
        if array.dtype.kind not in "biufV" or array.dtype.names:
            raise ValueError(f"{source}: {name} is of dtype {array.dtype}; expected numbers")
        tensors[whole_name(name)] = array
    return tensors


def whole_name(name):
    """A candidate's name for a tensor: an output's, where it does not say of what kind it is."""
    return name if name.split("/")[0] in KINDS else f"outputs/{name}"


def run_command(case, command, read, dtype="float32", timeout=None):
    """Run a program that reads a case from one safetensors file and writes its tensors to another.

    Parameters
    ----------
    case : Case
    command : str
        The program and its arguments, split as a shell would, but run without one. {input} and
        {output} stand for the files. The first holds parameters/NAME and inputs/NAME, and in its
        header, as metadata, `config` (JSON) and `class`.
    read : callable
        `read(path)` reads what the program wrote: arrays by name.
    dtype : str, optional
        Of the floating parameters and inputs.
    timeout : float, optional
        Seconds after which the program is ended, with all that it started; by default never, but
        a warning says that it is waited for.

    Returns
    -------
    tensors : dict of str to array
    could_not : list of str

    Raises
    ------
    ValueError
        If the command lacks {input} or {output}, or cannot be run, fails, hangs or writes nothing.
    FileFormatError
        If what it wrote cannot be read.
    """
    words = _words(command)
    with tempfile.TemporaryDirectory() as directory:
        places = {"{input}": f"{directory}/case.safetensors"}
        places["{output}"] = f"{directory}/candidate.safetensors"
        write_case(case, places["{input}"], dtype)
        for place, path in places.items():
            words = [word.replace(place, path) for word in words]
        _finish(words, timeout)
        output = Path(places["{output}"])
        if not output.is_file():
            raise ValueError(f"{words[0]} ended without writing {{output}}")
        try:
            return named_arrays(read(output), words[0]), []
        except FileFormatError as error:
            what = str(error).replace(str(output), f"what {words[0]} wrote")
            raise FileFormatError(what) from error


def _words(command):
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"--command {command!r} cannot be split: {error}") from None
    for place in ("{input}", "{output}"):
        if not any(place in word for word in words):
            raise ValueError(
                f"--command {command!r} has no {place}; expected {{input}}, {{output}}"
            )
    return words


def write_case(case, path, dtype):
    """Write what a program is given, as a safetensors file."""
    from safetensors.numpy import save_file

    parameters, inputs = given_to_candidates(case, dtype)
    tensors = {f"parameters/{name}": array for name, array in parameters.items()}
    tensors |= {
        f"inputs/{name}": np.ascontiguousarray(array)
        for name, array in inputs.items()
        if array.dtype.kind in "biufV"
    }
    metadata = {"config": json.dumps(case.config.to_dict()), "class": case.model_class.__name__}
    save_file(tensors, path, metadata)


def _finish(words, timeout):
    """Run a program to its end, or end it and all that it started."""
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ValueError(f"{words[0]} cannot be run: {error.strerror}") from None
    try:
        said = _said(process, words[0], timeout)
    except BaseException as error:  # Ctrl-C, too
        # The program may have ended, and what it started not: the group is still there then.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise ValueError(f"{words[0]} was not done after {timeout:g} seconds") from None
        raise
    if process.returncode:
        raise ValueError(_failure(words[0], process.returncode, said))


def _said(process, program, timeout):
    """What a program said to its end."""
    if timeout is None:
        try:
            return process.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            warnings.warn(
                f"still waiting for {program} after {PATIENCE:g} seconds; a timeout would end it",
                stacklevel=4,
            )
    return process.communicate(timeout=timeout)[0]


def _failure(program, status, said):
    """One line about a program that failed, with the last that it said."""
    lines = said.decode("utf-8", "replace").split("\n")
    last = " / ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:])
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{program} {how}" + (f": {last[-300:]}" if last else "")
