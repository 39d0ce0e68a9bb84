"""`albert-np verify run`: a candidate that is run here."""

import sys
from contextlib import redirect_stdout

from albert_np.cli.arguments import filled
from albert_np.cli.verify_shared import (
    add_case,
    add_mapping,
    add_reports,
    case_of_options,
    case_options,
    check_reports,
    show,
    track,
)

ATTENTIONS = ("sdpa", "eager")
DTYPES = ("float32", "float64", "float16", "bfloat16")
LONGEST_TIMEOUT = 1_000_000  # seconds; the system cannot count many more
# Options that go with some kinds of candidates alone.
GO_WITH = {
    "attention": ("transformers",),
    "as_is": ("onnx",),
    "timeout": ("command",),
    "dtype": ("transformers", "callable", "command"),
}

DESCRIPTION = """\
Run another ALBERT, and compare all that can be seen of it. What it is given is a golden file's, or
what `albert-np verify golden` would have drawn from the same arguments.

--transformers   Hugging Face's class of the same name: it loads the checkpoint of --model, or is
                 given the parameters. Hooks give the intermediates, autograd the gradients.
--onnx           a file, by ONNX Runtime; intermediates are found by what torch's exporters tell.
--callable       function(parameters, inputs, config) returns a dictionary of arrays by the names of
                 a golden file (a name without a slash is an output's), or a torch.nn.Module, which
                 is called with the inputs by name, and looked into by the names of its modules.
--command        a program; {input} and {output} stand for safetensors files. The first holds
                 parameters/NAME and inputs/NAME, and the configuration (JSON) under `config` in its
                 metadata; the second is what it writes, by the names of a golden file.

A candidate with names of its own needs a --mapping, as `albert-np verify compare` does.
"""
EXAMPLES = """\
examples:
  $ albert-np verify run --transformers --attention eager --text "Paris is in France."
  $ albert-np verify run --onnx model.onnx --model DIR --html report.html
  $ albert-np verify run --callable mine.py:forward --golden golden.safetensors
  $ albert-np verify run --command "./albert {input} {output}" --timeout 60

exit status: 0 right, 1 differs, 2 could not be compared.
"""


def add(commands):
    parser = commands.add_parser(
        "run", help="run a candidate and compare it", description=DESCRIPTION, epilog=EXAMPLES
    )
    kinds = parser.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--transformers", action="store_true", help="Hugging Face's library")
    kinds.add_argument("--onnx", type=filled, metavar="FILE", help="an ONNX file")
    kinds.add_argument("--callable", type=filled, metavar="PATH.py:FUNCTION", help="a function")
    kinds.add_argument("--command", type=filled, metavar="COMMAND", help="a program")
    parser.add_argument("--golden", type=filled, metavar="FILE", help="what it is given")
    add_case(parser)
    add_mapping(parser)
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="what the candidate computes in, or is given (default: float32)",
    )
    parser.add_argument("--attention", choices=ATTENTIONS, help="of transformers (default: sdpa)")
    parser.add_argument(
        "--as-is",
        action="store_true",
        default=None,
        help="ONNX: do not look into the file; its outputs alone",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="end a program that is not done by then (default: wait for it)",
    )
    add_reports(parser)
    parser.set_defaults(run=run)


def run(options):
    from albert_np.verification import compare, map_names, read_golden, read_mapping
    from albert_np.verification.live import whole_name

    _check(options)
    check_reports(options)
    mapping = None if options.mapping is None else read_mapping(options.mapping)
    golden = None if options.golden is None else read_golden(options.golden)
    case = case_of_options(options) if golden is None else golden.case
    with redirect_stdout(sys.stderr):  # what a candidate prints is no part of the answer
        tensors, could_not = _candidate(options, case)
    if mapping is not None:
        mapping = {whole_name(name): entry for name, entry in mapping.items()}
        tensors = map_names(tensors, mapping)
    return show(options, compare(golden or case, tensors, track=track), tensors, could_not)


def _check(options):
    """Refuse options that would not be read."""
    if options.golden is not None and (given := case_options(options)):
        raise ValueError(f"--golden holds what is given; {given[0]} does not go with it")
    for name, kinds in GO_WITH.items():
        if getattr(options, name) is not None and not any(getattr(options, kind) for kind in kinds):
            named = " or ".join(f"--{kind}" for kind in kinds)
            raise ValueError(f"--{name.replace('_', '-')} goes with {named} alone")
    if options.timeout is not None and not 0 < options.timeout <= LONGEST_TIMEOUT:
        raise ValueError(
            f"--timeout is {options.timeout:g}; expected more than 0, at most {LONGEST_TIMEOUT:,}"
        )


def _candidate(options, case):
    """A candidate's tensors, and what it could not be asked for."""
    if options.onnx is not None:
        from albert_np.verification.of_onnx import run_onnx

        return run_onnx(case, options.onnx, options.as_is)
    from albert_np.verification import live, of_torch, read_candidate

    dtype = options.dtype or "float32"
    if options.callable is not None:
        return live.run_callable(case, options.callable, dtype)
    if options.command is not None:
        return live.run_command(case, options.command, read_candidate, dtype, options.timeout)
    attention = options.attention or "sdpa"
    if options.golden is None and options.config is None:
        from albert_np.checkpoint import resolve_directory

        directory = resolve_directory(options.model)
        module = of_torch.transformers_checkpoint(directory, case, attention, dtype)
    else:
        module = of_torch.transformers_module(case, attention, dtype)
    return of_torch.run_module(case, module)
