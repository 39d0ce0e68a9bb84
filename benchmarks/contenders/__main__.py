"""The process of one contender.

It reads one command a line (`check FILE`, `turn`), answers each with a line of JSON, and ends with
its input. `benchmarks/turns.py` holds the other end.
"""

import json
import os
import sys
import time
from importlib import import_module

import numpy as np

from benchmarks.resident import keep_freed, peak_bytes, reset_peak, resident_bytes

MODULES = {
    "albert_np": "ours",
    "transformers": "of_transformers",
    "onnxruntime": "of_onnxruntime",
    "matmul": "roofs",
    "copy": "roofs",
    "back_to_back": "back_to_back",
}

# A work that takes less than LONG is done again and again for AGAIN, after a first time that wakes
# threads and fills caches and is not counted.
LONG, AGAIN = 0.5, 0.1
# A library's threads keep their cores busy after a product, waiting for the next: OpenBLAS's for up
# to 0.1 s where the environment says nothing else, torch's for 2 ms (both measured). A turn ends
# when they sleep, lest they disturb the next one's.
LOOK_EVERY, SETTLED, PATIENCE = 0.03, 0.001, 1.0


def read(path):
    """The arrays of an .npz file."""
    with np.load(path) as arrays:
        return dict(arrays)


def check(task, file):
    """Do the work for the first time, watch its memory, and write what it returns to `file`."""
    reset_peak()
    resident = resident_bytes()
    returned = task.run()
    answer = {"resident_bytes": resident, "peak_bytes": peak_bytes()}
    np.savez(file, **task.outputs(returned))
    return answer


def turn(task):
    """Do the work: once or, if it is short, many times. In seconds: how long one takes."""
    seconds = timed(task.run, 1)
    if seconds < LONG:
        seconds = timed(task.run, max(1, round(AGAIN / seconds)))
    settle()
    return {"seconds": seconds / task.count}


def timed(run, calls):
    """The seconds of one of so many calls."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def settle():
    """Wait until no thread of this process computes any more."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        computed = time.process_time()
        time.sleep(LOOK_EVERY)
        if time.process_time() - computed < SETTLED:
            return


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes elsewhere
    settings = json.loads(sys.argv[1])
    module = import_module(f"benchmarks.contenders.{MODULES[settings['implementation']]}")
    bind = module.load(settings)
    bind(read(settings["warm_up"])).run()  # compiles, and allocates what the library keeps
    task = bind(read(settings["batch"]))
    idle_since = time.process_time()
    for command in sys.stdin:
        name, *arguments = command.rstrip("\n").split(" ", 1)
        if name == "turn" and settings.get("keep_freed"):
            keep_freed()
        idle_cpu_seconds = time.process_time() - idle_since
        answer = {"check": check, "turn": turn}[name](task, *arguments)
        print(json.dumps(answer | {"idle_cpu_seconds": idle_cpu_seconds}), file=answers)
        idle_since = time.process_time()


if __name__ == "__main__":
    main()
