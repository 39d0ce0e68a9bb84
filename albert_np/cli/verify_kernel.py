"""`albert-np verify kernel`: a single function against the float64 reference."""

import sys
from contextlib import redirect_stdout

from albert_np.cli.arguments import add_json
from albert_np.cli.output import new_console, new_table, print_json

OPERATIONS = ("attention", "gelu_new", "layer_norm", "cross_entropy")
DTYPES = ("float32", "float64", "float16", "bfloat16")

DESCRIPTION = """\
Check one function, forward and (where the file has it beside) backward, against the float64
reference, over shapes and values drawn by Hypothesis: ordinary, equal, huge, tiny and subnormal
numbers, one key, masks that leave nothing. The smallest case that fails is printed as a program.

arrays are NumPy's; they are given in this order:
  gelu_new        x (B, S, N)                                          -> y
  layer_norm      x (B, S, N), weight (N,), bias (N,), eps             -> y
  cross_entropy   logits (T, V), labels (T,), -100 where there is none -> mean loss, ()
  attention       query, key, value (B, A, S, D), attention_mask       -> context (B, A, S, D)
              or  query_key_value (B, S, 3H), num_attention_heads, attention_mask -> (B, S, H)
attention_mask is bool, (B, S), True where a key is attended to; it is left out where all are. A row
without any is the mean of all values. Attention is the first kind if its first parameter is named
query. A function that has no parameter eps or attention_mask is not given it, and this is said.

the function FUNCTION (or FUNCTION_forward) returns its result, or its result and a cache.
FUNCTION_backward is given the gradient of the result, then the cache if there is one, else
forward's arguments; and slots, `into`, that the gradients of weight and bias are added to, if it
has a parameter of that name. It returns the gradients of x, weight, bias (layer_norm), logits
(cross_entropy), query, key, value or query_key_value (attention).
"""

EXAMPLES = """\
examples:
  $ albert-np verify kernel mine.py:layer_norm --op layer_norm
  $ albert-np verify kernel mine.py:attention --op attention --dtype float16 --examples 1000

exit status: 0 right, 1 wrong, 2 could not be checked.
"""


def add(commands):
    parser = commands.add_parser(
        "kernel",
        help="check a single function",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    parser.add_argument("kernel", metavar="PATH.py:FUNCTION")
    parser.add_argument("--op", choices=OPERATIONS, required=True, help="what it computes")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="(default: float32)")
    parser.add_argument(
        "--examples",
        type=int,
        default=200,
        metavar="N",
        help="how many cases each direction is tried with (default: 200)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default: 0)")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options):
    from albert_np.verification.kernel import check_kernel, load_kernel

    with redirect_stdout(sys.stderr):  # what the function prints is no part of the answer
        kernel = load_kernel(options.kernel, options.op)
        report = check_kernel(kernel, options.dtype, options.examples, options.seed)
    if options.json:
        print_json(as_json(report, options.op))
    else:
        print_report(new_console(), report, options.op)
    return 0 if report.is_right else 1


def as_json(report, operation):
    return {
        "kernel": str(report.kernel.path),
        "operation": operation,
        "dtype": report.dtype,
        "right": report.is_right,
        "directions": [
            {
                "direction": result.direction,
                "function": report.kernel.names[result.direction],
                "cases": result.cases,
                "largest_multiple_of_noise": result.multiple,
                "failure": result.failure and _failure_as_json(result.failure),
            }
            for result in report.results
        ],
        "could_not": report.could_not,
    }


def _failure_as_json(failure):
    finite = failure.multiple is not None and failure.multiple < float("inf")
    return failure._asdict() | {"multiple": failure.multiple if finite else None}


def print_report(console, report, operation):
    table = new_table("function", "cases>", "error / noise>", "verdict")
    for result in report.results:
        verdict = "right" if result.failure is None else "wrong"
        name = report.kernel.names[result.direction]
        multiple = result.multiple if result.failure is None else result.failure.multiple
        error = "" if multiple is None else f"{multiple:.3g}"
        table.add_row(name, str(result.cases), error, verdict)
    console.print(f"{report.kernel.path.name} as {operation} in {report.dtype}")
    console.print(table)
    for reason in report.could_not:
        console.print(f"not compared: {reason}")
    for result in report.results:
        if result.failure is not None:
            name = report.kernel.names[result.direction]
            console.print(f"\n{name}: {result.failure.message}")
            if result.failure.code:
                console.print(f"the smallest case:\n\n{result.failure.code}", soft_wrap=True)
