"""The run: case after case, each written when it is measured, and continued where it stopped."""

import functools
import hashlib
import time

from albert_np.kernels.cuda.launch import SOURCES
from albert_np.threads import cores
from benchmarks import added, difference, figures, results
from benchmarks.cuda import cases, contenders, measure, roofs
from benchmarks.cuda.model import model_cases
from benchmarks.environment import environment

SECONDS = 6 * 60  # after which no case is begun: the last one, and the picture, have two minutes
DIFFERS = ("date",)  # of the environment, what a later run may have changed


def plan(entries=()):
    """All cases in order: the functions in bfloat16, the model, the other types, and tf32.

    With kernels of the user's own, the functions that they stand for.
    """
    if entries:
        return cases.function_cases({added.parse(entry)[1] for entry in entries})
    functions = cases.function_cases()
    first = [case for case in functions if case.dtype == cases.DTYPES[0]]
    return first + model_cases() + functions[len(first) :]


def environment_of(machine, entries):
    """What the figures depend on: the machine and the versions, the kernels and who was added."""
    return environment(cores()) | {
        "gpu": machine.facts,
        "kernels": digest([*SOURCES.glob("*.cu*"), *SOURCES.glob("*.py")]),
        "added": {added.name_of(entry): digest([added.parse(entry)[0]]) for entry in entries},
    }


def digest(paths):
    """A short hash of files' contents."""
    content = hashlib.sha256()
    for path in sorted(paths):
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:16]


def resumed(path, where):
    """The results that a file holds already; none if there is no such file.

    Parameters
    ----------
    path : Path
    where : dict
        Of `environment_of`.

    Returns
    -------
    dict

    Raises
    ------
    OSError, ValueError
        If the file is something else, or of another machine, version, or state of the kernels.
    """
    if not path.exists():
        return {"environment": where, "cuda": []}
    found = results.read(path)
    before = found["environment"]
    for name, now in where.items():
        if name not in DIFFERS and before.get(name) != now:
            raise ValueError(
                f"{path} was measured where {name} was {before.get(name)}; here it is {now}. "
                "Move it away, or give another --json"
            )
    return found


def run(machine, path, entries, progress):
    """Measure what the file does not hold yet, as far as the time goes.

    Parameters
    ----------
    machine : Machine
    path : Path
        Of the results; written after each case.
    entries : list of str
        The user's own kernels.
    progress : callable
        Is told how many cases are done, of how many, and what is measured.

    Returns
    -------
    found : dict
        The results.
    left : int
        Cases that are still to be measured, for want of time.
    failed : list of str
        What went wrong with cases that could not be measured at all.
    """
    end = time.monotonic() + SECONDS
    found = resumed(path, environment_of(machine, entries))
    records = {difference.key(record) for record in found["cuda"]}
    wanted = plan(entries)
    missing = [case for case in wanted if difference.key(case.named) not in records]
    turns = functools.cache(lambda precision: roofs.turns(machine, precision))
    failed = []
    for index, case in enumerate(missing):
        if time.monotonic() > end:
            return found, len(missing) - index, failed
        done = len(wanted) - len(missing) + index
        progress(done, len(wanted), figures.title(case.named))
        try:
            record = measure.measure(case, machine, turns, entries)
        except measure.Broken:
            raise
        except Exception as failure:  # the next case may do better
            measure.check_alive(machine, figures.title(case.named), measure.reason_of(failure))
            failed.append(f"{figures.title(case.named)}: {measure.reason_of(failure)}")
            continue
        found["cuda"].append(record)
        results.write(found, path)
        machine.tidy()
    return found, 0, failed


def checked(entries):
    """`added.checked`, which understands CUDA sources too."""
    return added.checked(entries, contenders.load_added)
