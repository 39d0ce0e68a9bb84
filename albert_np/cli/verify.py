"""`albert-np verify`: whether another ALBERT is right, and where it is wrong."""

from pathlib import Path

from albert_np.cli import verify_kernel, verify_run
from albert_np.cli.arguments import filled
from albert_np.cli.verify_shared import (
    add_case,
    add_mapping,
    add_reports,
    case_of_options,
    check_place,
    check_reports,
    show,
    track,
)

GOLDEN_EXAMPLES = """\
examples:
  $ albert-np verify golden tiny.safetensors --text "Paris is in France."
  $ albert-np verify golden base.safetensors --config albert-base-v2 --seed 1
"""
COMPARE_EXAMPLES = """\
the table:
  largest, rms  the error, in root mean squares of the tensor
  ulp           the largest one, in units in the last place
  place         where that is
  × noise       the error, in multiples of what rounding does to the tensor
  alone         the same of the operation alone, on the candidate's own inputs

examples:
  $ albert-np verify compare mine.npz --golden tiny.safetensors --mapping names.json
"""
DESCRIPTION = "Say whether another ALBERT is right to rounding and, if not, where it is wrong."


def add(commands):
    parser = commands.add_parser(
        "verify", help="say whether another ALBERT is right", description=DESCRIPTION
    )
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_golden(subcommands)
    add_compare(subcommands)
    verify_run.add(subcommands)
    verify_kernel.add(subcommands)
    parser.commands = subcommands.choices


def add_golden(subcommands):
    parser = subcommands.add_parser(
        "golden",
        help="write a golden file",
        description="Write a golden file: weights, inputs, every intermediate, and all gradients,\n"
        "in float64. Labels are drawn; so is all the rest with --config.",
        epilog=GOLDEN_EXAMPLES,
    )
    parser.add_argument("output", type=filled, metavar="OUT.safetensors")
    add_case(parser)
    parser.set_defaults(run=run_golden)


def add_compare(subcommands):
    parser = subcommands.add_parser(
        "compare",
        help="compare a candidate's tensors with a golden file",
        description="Compare a candidate's tensors, and each of its operations alone, with what a\n"
        "golden file's case should give. The exit status is 0 if it is right, 1 if\n"
        "it differs, 2 if something could not be compared.",
        epilog=COMPARE_EXAMPLES,
    )
    parser.add_argument(
        "candidate", type=filled, help="a .safetensors file, .npz file or directory of .npy files"
    )
    parser.add_argument(
        "--golden",
        type=filled,
        required=True,
        metavar="FILE",
        help="what `albert-np verify golden` wrote",
    )
    add_mapping(parser)
    parser.add_argument(
        "--precision",
        choices=("float64", "float32", "float16", "bfloat16"),
        help="what the candidate computes in (default: the coarsest type of its tensors)",
    )
    add_reports(parser)
    parser.set_defaults(run=run_compare)


def run_golden(options):
    from albert_np.verification import write_golden

    check_place(options.output)
    tensors = write_golden(options.output, case_of_options(options))
    size = Path(options.output).stat().st_size
    print(f"{options.output}: {len(tensors)} tensors, {size:,} bytes")


def run_compare(options):
    from albert_np.verification import (
        compare,
        map_names,
        read_candidate,
        read_golden,
        read_mapping,
    )

    check_reports(options)
    candidate = read_candidate(options.candidate)
    if options.mapping is not None:
        candidate = map_names(candidate, read_mapping(options.mapping))
    comparison = compare(
        read_golden(options.golden), candidate, precision=options.precision, track=track
    )
    return show(options, comparison, candidate)
