"""The command: `python -m benchmarks model | memory | table`."""

import argparse
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from albert_np.errors import FileFormatError
from albert_np.files import replacing
from benchmarks import memory, model, resident, table
from benchmarks.environment import cores, environment
from benchmarks.turns import ContenderEnded

FEWEST_ROUNDS = 5
WRONG_RESULT, BAD_INPUT = 1, 2


class NotAvailable(Exception):
    """Something that a measurement needs is not there; the message says what."""


def run_model(options):
    """Time the model against transformers."""
    threads = cores() if options.threads is None else options.threads
    if not 1 <= threads <= cores():
        raise ValueError(f"--threads is {threads}; expected 1 to {cores()}, the cores there are")
    if options.rounds < FEWEST_ROUNDS:
        raise ValueError(f"--rounds is {options.rounds}; expected at least {FEWEST_ROUNDS}")
    check_writable(options.json)
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise NotAvailable(
            "the peer is not installed, transformers on torch: python -m pip install '.[benchmark]'"
        )
    peers = (model.PEER,)
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        auto_refresh=False,  # between turns only: nothing else runs while a contender is timed
    ) as bar:
        task = bar.add_task("", total=len(model.WORKS) * model.steps(peers, options.rounds))

        def progress(step):
            bar.update(task, advance=1, description=step, refresh=True)

        measured = model.measure_base(
            peers=peers, rounds=options.rounds, threads=threads, progress=progress
        )
    report({"environment": environment(threads), "model": measured}, options.json)
    return 0 if model.all_correct(measured) else WRONG_RESULT


def run_memory(options):
    """Measure the memory of ALBERT-xxlarge's forward pass."""
    if not resident.is_counted():
        raise NotAvailable("peak memory is read from /proc/self, which this system does not have")
    check_writable(options.json)
    with Console(stderr=True).status("drawing weights, then one sentence forward"):
        measured = memory.measure_xxlarge()
    report({"environment": environment(cores()), "memory": measured}, options.json)
    return 0


def run_table(options):
    """Print the Markdown tables of results files."""
    print("\n\n".join(markdown(path) for path in options.results))
    return 0


def markdown(path):
    """The Markdown tables of a results file.

    Raises
    ------
    FileFormatError
        If the file is something else.
    """
    results = read_results(path)
    try:
        return table.markdown(results)
    except (KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{path} holds no whole results: {error!r}") from error


def check_writable(path):
    """Refuse an output that cannot be written, before anything is measured."""
    if path is not None and not os.access(path.resolve().parent, os.W_OK):
        raise OSError(f"{path} cannot be written: its directory is not there, or not writable")
    if path is not None and path.is_dir():
        raise OSError(f"{path} cannot be written: it is a directory")


def report(results, path):
    """Print the tables, and write the results where they were asked for."""
    console = Console()
    for each in table.rich_tables(results):
        console.print(each)
    console.print(table.caption(results), soft_wrap=True)
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def read_results(path):
    """Read what `--json` wrote.

    Raises
    ------
    FileFormatError
        If the file is something else.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(results, dict) or "environment" not in results:
        raise FileFormatError(f"{path} holds no results: it was not written by --json")
    return results


def parse(arguments):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, run, example):
        command = commands.add_parser(
            name, help=run.__doc__, description=run.__doc__, epilog=f"example: {example}"
        )
        command.set_defaults(run=run)
        return command

    command = add("model", run_model, "python -m benchmarks model --json results.json")
    command.add_argument(
        "--rounds", type=int, default=11, metavar="N", help="times each has its turn (default 11)"
    )
    command.add_argument(
        "--threads", type=int, metavar="N", help="that each computes with (default: every core)"
    )
    add_json(command)
    add_json(add("memory", run_memory, "python -m benchmarks memory --json results.json"))
    command = add("table", run_table, "python -m benchmarks table results.json")
    command.add_argument("results", nargs="+", type=Path, metavar="FILE", help="what --json wrote")
    return parser.parse_args(arguments)


def add_json(command):
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")


def main(arguments=None):
    """Run the command; returns its exit status."""
    options = parse(arguments)
    try:
        return options.run(options)
    except (NotAvailable, ContenderEnded, ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
