"""Contenders in processes of their own, and their turns: one works, all others sleep."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class ContenderEnded(Exception):
    """A contender's process ended before it answered."""


@contextmanager
def contender(settings):
    """Start a contender (`benchmarks.contenders`); it ends with the block.

    Parameters
    ----------
    settings : dict
        `implementation`, `work`; `warm_up` and `batch`, the files of its arrays; `threads` that
        its libraries may compute with; `keep_freed`, whether its turns keep the memory that they
        free (`benchmarks.resident.keep_freed`); and what the implementation needs.

    Yields
    ------
    callable
        `ask(command)` has it obey one command, and returns its answer, a dictionary. Raises
        ContenderEnded if it ends instead; its last words are then on standard error.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.contenders", json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            **dict.fromkeys(THREAD_VARIABLES, str(settings["threads"])),
            "TRANSFORMERS_VERBOSITY": "error",
        },
    )

    def ask(command):
        try:
            process.stdin.write(f"{command}\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; so has its output
        answer = process.stdout.readline()
        if not answer:
            name = f"{settings['implementation']}, {settings['work']}"
            raise ContenderEnded(f"{name}: the process ended with status {process.wait()}")
        return json.loads(answer)

    try:
        yield ask
    finally:
        process.kill()
        process.communicate()


def take_turns(contenders, rounds, progress):
    """Time the contenders, round after round.

    Parameters
    ----------
    contenders : dict of str to callable
        Name → `ask`.
    rounds : int
        Times that each has its turn, after one that is not counted.
    progress : callable
        Is told what happened, after each turn.

    Returns
    -------
    timings : dict of str to dict
        `seconds`: of each turn, in order. `idle_cpu_seconds`: the most computing time that the
        contender used between two of its turns.
    """
    timings = {name: {"seconds": [], "idle_cpu_seconds": 0.0} for name in contenders}
    for index in range(rounds + 1):
        for name, ask in contenders.items():
            answer = ask("turn")
            progress(name)
            if index > 0:
                timing = timings[name]
                timing["seconds"].append(answer["seconds"])
                timing["idle_cpu_seconds"] = max(
                    timing["idle_cpu_seconds"], answer["idle_cpu_seconds"]
                )
    return timings
