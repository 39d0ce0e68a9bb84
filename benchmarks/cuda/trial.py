"""Versions of our kernels that are not the default yet, tried in a process of their own.

    python -m benchmarks.cuda.trial

is that process. It reads attempts, tells each step, and answers with what it measured. The other
end kills it when nothing is heard of it any more, as a kernel that never ends can only be stopped;
and asks nothing more of the GPU itself, which it might wait for.
"""

import functools
import json
import os
import pickle
import subprocess
import sys
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

import numpy as np

from albert_np import AlbertConfig
from albert_np.kernels.cuda import launcher
from benchmarks import difference, figures
from benchmarks.cuda import measure, roofs
from benchmarks.cuda.cases import DTYPES, Case, attention_case, attention_cases, first_of_each
from benchmarks.cuda.contenders import OURS, of_version
from benchmarks.cuda.machine import gpu
from benchmarks.functions import DIRECTIONS
from benchmarks.measure import ENDED
from benchmarks.turns import ROOT, ContenderEnded

SECTION = "trial"  # of the results
COMMAND = [sys.executable, "-m", "benchmarks.cuda.trial"]
SECONDS = 60  # that are kept for it at the end of a run
# Seconds of silence after which it is killed. The longest steps are to draw inputs on the CPU, with
# the reference in float64, and to compile kernels: a few seconds each.
SILENCE = 30
TO_DIE = 10  # seconds; the driver may hold a process back
# Of the small cases: each of a kernel's two stages is used three times, so that both parities of
# its barriers are waited for, and the last tile is not full.
LENGTHS = (330, 77)
HEADS = ((4, 64), (2, 128))  # how many, and how large


class Attempt(NamedTuple):
    """A version, on one case of its function; small ones are checked, and not timed."""

    case: Case
    version: int
    is_small: bool

    @property
    def named(self):
        """What a record of results says of it."""
        return self.case.named | {"version": self.version}

    @property
    def contender(self):
        return f"{OURS} version {self.version}"

    def contenders(self, case, given):
        """Of the case, by name; of padded batches also packed."""
        return of_version(case, given.executor, self.version)


def plan(executor):
    """What is to be tried on a GPU: nothing, where no version would be the default but for that.

    Small cases come first, then one of each kind, and the others.
    """
    every = [case for dtype in DTYPES for case in attention_cases(dtype)]
    first, others = first_of_each(every, kind_of)
    return [
        Attempt(case, version, is_small)
        for cases, is_small in ((small_cases(), True), (first + others, False))
        for case in cases
        for version in versions(case, executor)
    ]


def small_cases():
    """Attention of two sequences, without padding and with it, for each size of heads."""
    for direction in DIRECTIONS:
        for dtype in DTYPES:
            for heads, head_size in HEADS:
                config = AlbertConfig(hidden_size=heads * head_size, num_attention_heads=heads)
                for lengths in ((max(LENGTHS),) * 2, LENGTHS):
                    yield attention_case(direction, dtype, config, max(LENGTHS), lengths)


def kind_of(case):
    heads = case.config.num_attention_heads
    return case.direction, case.dtype, case.is_padded, case.config.hidden_size // heads


def versions(case, executor):
    """Those that the launcher has for a case, and does not choose yet."""
    sequences, heads = len(case.lengths), case.config.num_attention_heads
    problem = launcher.AttentionProblem(
        sequences=sequences,
        longest=case.sequence_length,
        tokens=sequences * case.sequence_length,
        heads=heads,
        head_size=case.config.hidden_size // heads,
        dtype=np.dtype(case.dtype),
        aligned=True,
        capability=executor.capability,
        shared_limit=executor.shared_limit,
        allow_tf32=case.allow_tf32,
    )
    return launcher.tentative(getattr(launcher, case.named["work"]), problem)


def missing(attempts, records):
    """The attempts that no record is of, but those of a kernel that does not end."""
    done = {difference.key(record) for record in records}
    return [
        attempt
        for attempt in attempts
        if difference.key(attempt.named) not in done and not is_given_up(attempt, records)
    ]


def is_given_up(attempt, records):
    """Whether its kernel did not end when it was tried before, on whatever case."""
    kernel = attempt.named["work"], attempt.version
    return any(
        (record["work"], record["version"]) == kernel
        and record["contenders"].get(attempt.contender, {}).get("never_ended")
        for record in records
    )


def run(attempts, records, seconds, write, progress):
    """Try one after the other, as far as the time goes.

    Parameters
    ----------
    attempts : list of Attempt
    records : list of dict
        Those that there are; more are added.
    seconds : float
        After which none is begun.
    write : callable
        Is called when a record was added.
    progress : callable
        Is told how many are done, of how many, and what is tried.

    Returns
    -------
    left : list of dict
        What is said of attempts that are still to be made, for want of time.
    failed : list of str
        What could not be measured, and why.
    """
    begin, left, failed, process = time.monotonic(), [], [], None
    try:
        for index, attempt in enumerate(attempts):
            if is_given_up(attempt, records):
                continue
            if time.monotonic() - begin > seconds:
                left.append(attempt.named)
                continue
            progress(index, len(attempts), figures.title(attempt.named))
            process = process or Process()
            answer = process.ask(attempt)
            if "failed" in answer:
                failed.append(f"{figures.title(attempt.named)}: {answer['failed']}")
                continue
            if "ended" in answer:
                process = None
                answer["record"] = ended(attempt, answer)
            records.append(answer["record"])
            write()
    except ContenderEnded as failure:  # before it tried anything
        failed.append(f"{failure}")
    finally:
        if process is not None:
            process.end()
    return left, failed


def ended(attempt, answer):
    """The record of an attempt that its process did not outlive."""
    contenders = {attempt.contender: ENDED | {"limit": None} | answer}
    return attempt.named | {"floors": None, "left_out": {}, "contenders": contenders}


class Process:
    """The process in which versions are tried.

    Raises
    ------
    ContenderEnded
        If it ends, or says nothing, before it is ready.
    """

    def __init__(self):
        self._process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        self._lines = SimpleQueue()
        Thread(target=self._listen, daemon=True).start()
        answer = self._answer()
        if "ended" in answer:
            raise ContenderEnded(f"what is not the default yet was not tried: {answer['ended']}")

    def _listen(self):
        try:
            with self._process.stdout as lines:
                for line in lines:
                    self._lines.put(json.loads(line))
        finally:
            self._lines.put(None)

    def ask(self, attempt):
        """Have it try something.

        Returns
        -------
        dict
            `record`; or why it `failed` to measure at all; or how the process `ended`, and whether
            the attempt never did (`never_ended`).
        """
        with suppress(BrokenPipeError):  # it has ended; so has its output
            pickle.dump(attempt, self._process.stdin)
            self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        step = "start"
        while True:
            try:
                told = self._lines.get(timeout=SILENCE)
            except Empty:
                self.end()
                reason = f"did not end within {SILENCE} seconds of its last step, {step}: killed"
                return {"ended": reason, "never_ended": True}
            if told is None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(TO_DIE)
                reason = f"its process ended with status {self.end()} after its last step, {step}"
                return {"ended": reason, "never_ended": False}
            if "ended" in told:
                self.end()
            if "step" not in told:
                return told
            step = told["step"]

    def end(self):
        """Kill it; its status, None where the driver holds it back."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.kill()
        try:
            return self._process.wait(TO_DIE)
        except subprocess.TimeoutExpired:
            return None


def serve(machine_of):
    """Try what is asked for, until nothing is any more, on a Machine: `machine_of()`."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes elsewhere

    def say(**answer):
        print(json.dumps(answer), file=answers)

    machine = machine_of()
    turns = functools.cache(lambda precision: roofs.turns(machine, precision))
    say(ready=True)
    while True:
        try:
            attempt = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            say(record=tried(attempt, machine, turns, lambda step: say(step=step)))
        except measure.Broken as failure:
            say(ended=f"{failure}", never_ended=False)
            return
        except Exception as failure:
            say(failed=measure.reason_of(failure))
        machine.tidy()


def tried(attempt, machine, turns, progress):
    """The record of an attempt: the default and the version checked, then timed in turn."""
    case = attempt.case

    def both(given):
        return of_version(case, given.executor) | attempt.contenders(case, given), {}, {}

    progress("inputs")
    turns = None if attempt.is_small else turns
    return measure.measure_contenders(case, machine, turns, both, progress) | attempt.named


if __name__ == "__main__":
    serve(gpu)
