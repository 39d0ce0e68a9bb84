"""Measurements: how fast, against whom, how far from the limit."""

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from albert_np import AlbertConfig
from albert_np.config import SIZES
from albert_np.errors import FileFormatError
from albert_np.files import replacing
from benchmarks import (
    added,
    difference,
    kernels,
    memory,
    model,
    picture,
    readme,
    resident,
    results,
    scaling,
    table,
)
from benchmarks.arguments import (
    NotAvailable,
    Parser,
    add_batches,
    add_contenders,
    add_plot,
    check_back_ends,
    check_numbers,
    check_peers,
)
from benchmarks.batches import random_batch, text_batch
from benchmarks.cuda import run as cuda_run
from benchmarks.cuda import sanitize
from benchmarks.cuda.machine import gpu
from benchmarks.environment import environment
from benchmarks.measure import Run
from benchmarks.turns import ContenderEnded

CONFIG = AlbertConfig(**SIZES["base"])
WRONG_RESULT, BAD_INPUT = 1, 2
WIDE = 180  # columns


def run_kernels(options):
    """Time the fused functions one by one."""
    entries = added.checked(options.add)
    run, batches = prepared(options)
    with progress(run, kernels.steps(len(batches), run, entries)) as run:
        measured, threads = [], []
        for batch in batches:
            measured += kernels.measure(CONFIG, batch, run, entries)
            if not entries:
                threads += kernels.measure_threads(CONFIG, batch, run)
    return report({"kernels": measured, "threads": threads}, options)


def run_model(options):
    """Time AlbertModel forward."""
    return run_works("model", "forward", options)


def run_training(options):
    """Time the loss of AlbertForMaskedLM with all its gradients."""
    return run_works("training", "training", options)


def run_works(section, work, options):
    run, batches = prepared(options)
    with progress(run, model.steps(work, len(batches), run)) as run:
        measured = [model.measure(work, CONFIG, batch, run) for batch in batches]
    return report({section: measured}, options)


def run_scaling(options):
    """Time and memory as the sequence, the batch and the model grow."""
    run = prepared_run(options)
    with progress(run, scaling.steps(run)) as run:
        measured = [scaling.measure(*case, run) for case in scaling.cases()]
    return report({"scaling": measured}, options)


def run_memory(options):
    """Peak memory: xxlarge forward, and a training step of base, 8×512."""
    if not resident.is_counted():
        raise NotAvailable("peak memory is read from /proc/self, which this system does not have")
    run = prepared_run(options)
    cases = [(case, memory.contenders_of(case[0], run)) for case in memory.CASES]
    with progress(run, sum(len(contenders) for _, contenders in cases)) as run:
        measured = [memory.measure(*case, contenders, run) for case, contenders in cases]
    return report({"memory": measured}, options)


def run_cuda(options):
    """Check and time the CUDA kernels and the model on a GPU, against PyTorch's and Triton's."""
    if options.sanitize:
        failed = sanitize.run()
        print(f"faults found by: {', '.join(failed) or 'none'}")
        return WRONG_RESULT if failed else 0
    entries = cuda_run.checked(options.add)
    if options.plot is None and find_spec("matplotlib") is not None:
        options.plot = options.json.with_suffix(".png")
    check_outputs(options)
    machine = gpu()
    with progress_bar() as bar:
        task = bar.add_task("")

        def progress(done, of, description):
            bar.update(task, completed=done, total=of, description=description, refresh=True)

        found, left, failed = cuda_run.run(machine, options.json, entries, progress)
    return report_cuda(found, left, failed, options)


def report_cuda(found, left, failed, options):
    """Print all contenders, what was left out, each work, and last the short table; draw."""
    console, records, passes = screen(), found.get("cuda", []), found.get("cache", [])
    tried = found.get("trial", [])
    for each in (records, tried):
        if each:
            console.print(table.for_the_screen(*table.timed_table(each)))
    lines = (
        *table.left_out(records),
        *(f"not measured: {each}" for each in failed),
        *table.left_for_want_of_time(left),
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    if any(record["contenders"] for record in records):
        draw(found, options.plot)
    if options.plot is None:
        console.print("no picture: matplotlib is not installed")
    console.print(table.for_the_screen(*table.cuda_table(records)))
    if passes:
        console.print(table.for_the_screen(*table.cache_table(passes)))
    if tried:
        console.print(table.for_the_screen(*table.trial_table(tried)))
    console.print(table.for_the_screen(*table.cuda_summary(records)))
    console.print(table.caption(found), soft_wrap=True)
    if left:
        console.print(
            f"{len(left)} works are left for want of time: the same command goes on with them"
        )
    return 0 if results.all_correct(found) and not failed else WRONG_RESULT


def run_table(options):
    """Print the Markdown tables of results files, or write them into a document."""
    tables = {}
    for path in options.results:
        found = results.read(path)
        with whole(path):
            tables |= table.markdown_tables(found)
    if options.into is None:
        print("\n\n".join(tables.values()))
    else:
        readme.write_tables(options.into, tables)
    return 0


def run_compare(options):
    """Compare two results files."""
    before, after = results.read(options.before), results.read(options.after)
    with whole(options.before, options.after):
        rows = difference.rows(before, after)
    if not rows:
        raise ValueError(f"{options.before} and {options.after} have no work in common")
    console = screen()
    console.print(table.for_the_screen(difference.COLUMNS, rows))
    for name, each in (("before", before), ("after", after)):
        console.print(f"{name}: {table.caption(each)}", soft_wrap=True)
    return 0


@contextmanager
def whole(*paths):
    """Read results; where something is missing from them, say of which files."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        names = " or ".join(map(str, paths))
        raise FileFormatError(f"{names} holds no whole results: {error!r}") from error


def prepared(options):
    """How to measure, and on which batches."""
    run = prepared_run(options)
    given = options.default_shapes if options.lengths is None else []
    batches = [random_batch(CONFIG, *shape) for shape in options.shapes or given]
    if options.lengths is not None:
        batches.append(text_batch(CONFIG, options.lengths, options.vocabulary))
    return run, batches


def prepared_run(options):
    """Check all that can be checked before anything is measured; how to measure."""
    check_numbers(options, CONFIG)
    check_outputs(options)
    return Run(
        dtype=options.dtype,
        threads=options.threads,
        rounds=options.rounds,
        back_ends=check_back_ends(options.back_ends),
        peers=check_peers(options.peers),
        progress=None,
    )


def check_outputs(options):
    """Refuse outputs that cannot be written or drawn."""
    if options.plot is not None and options.plot == options.json:
        raise ValueError(f"--json and --plot are both {options.plot}")
    for path in (options.json, options.plot):
        results.check_writable(path)
    if options.plot is not None and find_spec("matplotlib") is None:
        raise NotAvailable(
            "--plot draws with matplotlib, which is not installed: "
            "python -m pip install '.[benchmark]'"
        )


@contextmanager
def progress(run, steps):
    """Show a bar of so many steps; the run that moves it."""
    with progress_bar() as bar:
        task = bar.add_task("", total=steps)

        def step(description):
            bar.update(task, advance=1, description=description, refresh=True)

        yield run._replace(progress=step)


def progress_bar():
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        auto_refresh=False,  # between turns only: nothing else runs while a contender is timed
    )


def screen():
    """Standard output: as wide as the terminal or, where it is none, as the widest table."""
    return Console(width=None if sys.stdout.isatty() else WIDE)


def report(sections, options):
    """Print the tables, write and draw what was asked for; the exit status."""
    found = {"environment": environment(options.threads)} | sections
    console = screen()
    for name, columns, rows in table.tables(found):
        console.print(name)
        console.print(table.for_the_screen(columns, rows))
    console.print(table.caption(found), soft_wrap=True)
    if options.json is not None:
        results.write(found, options.json)
    draw(found, options.plot)
    return 0 if results.all_correct(found) else WRONG_RESULT


def draw(found, path):
    """Draw what was found, if that was asked for."""
    if path is not None:
        with replacing(path) as temporary:
            picture.draw(found, temporary)


def parse(arguments):
    parser = Parser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, run, example):
        command = commands.add_parser(
            name,
            help=run.__doc__,
            description=run.__doc__,
            epilog=f"example: python -m benchmarks {name} {example}",
        )
        command.set_defaults(run=run)
        return command

    command = add("kernels", run_kernels, "--add mine.py:attention --plot kernels.png")
    add_contenders(command, rounds=7)
    add_batches(command, "1x128,8x128")
    add_plot(command)
    command.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="PATH.py:FUNCTION",
        help="a kernel of your own; only the functions that are added are measured then",
    )
    command = add("model", run_model, "--json model.json --plot model.png")
    add_contenders(command, rounds=11)
    add_batches(command, "1x128,8x128,4x512")
    add_plot(command)
    command = add("training", run_training, "--lengths sentences.txt --json training.json")
    add_contenders(command, rounds=7)
    add_batches(command, "8x128")
    add_plot(command)
    add_contenders(add("memory", run_memory, "--json memory.json"), rounds=None)
    command = add("scaling", run_scaling, "--json scaling.json --plot scaling.png")
    add_contenders(command, rounds=5)
    add_plot(command)
    command = add("cuda", run_cuda, "--add mine.cu:layer_norm --json mine.json")
    command.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="FILE:FUNCTION",
        help="a kernel of your own, CUDA or Python; only the functions that are added are measured",
    )
    command.add_argument(
        "--json",
        type=Path,
        default=Path("cuda.json"),
        metavar="OUT.json",
        help="write the results there; one that is there is continued (default: cuda.json)",
    )
    command.add_argument(
        "--plot",
        type=Path,
        metavar="OUT.png",
        help="draw them there (default: beside the results, if matplotlib is installed)",
    )
    command.add_argument(
        "--sanitize",
        action="store_true",
        help="time nothing: run every kernel under NVIDIA's compute-sanitizer",
    )
    command = add("compare", run_compare, "before.json after.json")
    command.add_argument("before", type=Path, metavar="A.json", help="what --json wrote")
    command.add_argument("after", type=Path, metavar="B.json")
    command = add("table", run_table, "model.json training.json --into README.md")
    command.add_argument("results", nargs="+", type=Path, metavar="FILE", help="what --json wrote")
    command.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        help="write each table between its markers there: <!-- benchmarks model --> and "
        "<!-- /benchmarks -->",
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command; returns its exit status."""
    try:
        options = parse(arguments)
        return options.run(options)
    except (NotAvailable, ContenderEnded, ImportError, ValueError, OSError) as error:
        is_of_file = isinstance(error, OSError) and error.filename is not None
        said = f"{error.filename}: {error.strerror}" if is_of_file else str(error)
        print(f"benchmarks: {' '.join(said.split())}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
