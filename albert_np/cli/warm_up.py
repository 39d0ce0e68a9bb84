"""`albert-np warm-up`: compile the kernels ahead of their first use."""

from albert_np.cli.arguments import add_json
from albert_np.cli.output import new_table, print_json, print_tables

EXAMPLES = """\
examples:
  $ albert-np warm-up
  $ albert-np warm-up --json
"""


def add(commands):
    parser = commands.add_parser(
        "warm-up",
        help="compile the kernels for the CPU ahead of their first use",
        description="Compile the kernels of the back end numba, and keep them on disk, so that no\n"
        "call of a model has to. What is there already is not compiled again.",
        epilog=EXAMPLES,
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options):
    from time import perf_counter

    from albert_np.backend import get_backend
    from albert_np.warm_up import warm_up

    get_backend("numba")
    from albert_np.kernels.numba.compiling import compilations

    start = perf_counter()
    with compilations() as compiled:
        warm_up("numba")
    seconds = perf_counter() - start
    if options.json:
        print_json({"compiled": len(compiled), "seconds": seconds, "functions": compiled})
        return
    table = new_table("kernels compiled>", "seconds>")
    table.add_row(str(len(compiled)), f"{seconds:.1f}")
    print_tables([table])
