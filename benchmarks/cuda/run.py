"""The run: case after case, each written when it is measured, and continued where it stopped."""

import functools
import hashlib
import time

from albert_np.kernels.cuda.launch import SOURCES
from albert_np.threads import cores
from benchmarks import added, difference, figures, results
from benchmarks.cuda import cache, cases, contenders, measure, roofs, trial
from benchmarks.cuda.model import model_cases
from benchmarks.environment import environment

# Seconds after which nothing is begun: what is then at work, and the picture, have what is left of
# eight minutes. A model is compiled twice, and its reference is computed on the CPU. Where versions
# are to be tried that are not the default yet, the last `trial.SECONDS` are theirs.
SECONDS, SECONDS_OF_MODELS = 6 * 60, 4 * 60
MEASURED = ("cuda", "cache")  # the sections of the results
DIFFERS = ("date",)  # of the environment, what a later run may have changed


def plan(entries=()):
    """All cases, the most important first: one of each function, the model, and the others.

    With kernels of the user's own, the functions that they stand for.
    """
    if entries:
        return cases.function_cases({added.parse(entry)[1] for entry in entries})
    first, others = cases.first_of_each(
        cases.function_cases(), lambda case: (case.function, case.direction, case.is_padded)
    )
    return [*first, *model_cases(), *cache.cache_cases(), *others]


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
        return {"environment": where}
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
    left : list of dict
        What is said of cases that are still to be measured, for want of time.
    failed : list of str
        What went wrong with cases that could not be measured at all.
    """
    begin = time.monotonic()
    found = resumed(path, environment_of(machine, entries))
    wanted, left, failed = plan(entries), [], []
    records = {difference.key(record) for name in MEASURED for record in found.get(name, ())}
    missing = [case for case in wanted if difference.key(case.named) not in records]
    attempts = [] if entries else trial.plan(machine.executor)
    attempts = trial.missing(attempts, found.get(trial.SECTION, ()))
    turns = functools.cache(lambda precision: roofs.turns(machine, precision))
    for index, case in enumerate(missing):
        if time.monotonic() - begin > begun_within(case, bool(attempts)):
            left.append(case.named)
            continue
        done = len(wanted) - len(missing) + index
        progress(done, len(wanted), figures.title(case.named))
        try:
            section, record = measured(case, machine, turns, entries)
        except measure.Broken:
            raise
        except Exception as failure:  # the next case may do better
            measure.check_alive(machine, figures.title(case.named), measure.reason_of(failure))
            failed.append(f"{figures.title(case.named)}: {measure.reason_of(failure)}")
            continue
        found.setdefault(section, []).append(record)
        results.write(found, path)
        machine.tidy()
    if attempts:
        turns.cache_clear()
        machine.tidy()  # they are tried by another process, which is to have the memory
        seconds = max(trial.SECONDS, begin + SECONDS - time.monotonic())
        tried = found.setdefault(trial.SECTION, [])
        write = functools.partial(results.write, found, path)
        not_tried, not_measured = trial.run(attempts, tried, seconds, write, progress)
        left += not_tried
        failed += not_measured
    return found, left, failed


def begun_within(case, is_trial_to_come):
    """Seconds of a run after which a case is not begun any more."""
    seconds = SECONDS - trial.SECONDS * is_trial_to_come
    return seconds if isinstance(case, cases.Case) else min(seconds, SECONDS_OF_MODELS)


def measured(case, machine, turns, entries):
    """The section of the results that a case belongs to, and its record."""
    if isinstance(case, cache.CacheCase):
        return "cache", cache.measure(case, machine, turns)
    return "cuda", measure.measure(case, machine, turns, entries)


def checked(entries):
    """`added.checked`, which understands CUDA sources too."""
    return added.checked(entries, contenders.load_added)
