"""`albert-np trace`: every intermediate result of a text's way through the model."""

import math
from itertools import chain

from albert_np.cli.arguments import add_dtype, add_json, add_model_directory, add_text
from albert_np.cli.loading import load
from albert_np.cli.output import UNLIMITED_WIDTH, new_console, new_table, print_json
from albert_np.cli.texts import texts_of

STATISTICS = ("mean", "standard_deviation", "min", "max")

EXAMPLES = """\
examples:
  $ albert-np trace "Paris is in France."
"""


def add(commands):
    parser = commands.add_parser(
        "trace",
        help="show every intermediate result of a text's way through the model",
        description="Show every intermediate result of a text's way through the model.",
        epilog=EXAMPLES,
    )
    add_text(parser)
    add_model_directory(parser)
    add_dtype(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options):
    from albert_np.pipelines.batches import check_length

    texts = texts_of(options)
    model, tokenizer = load(options)
    rows = [tokenizer([text], return_tensors="np") for text in texts]
    for place, row in enumerate(rows):
        check_length(f"texts[{place}]", {"input_ids": row.input_ids[0]}, model)
    results = []
    for text, encoding in zip(texts, rows, strict=True):
        results.append(
            {
                "text": text,
                "tokens": tokenizer.convert_ids_to_tokens(encoding.input_ids[0]),
                "operations": list(_summaries(model.trace(**encoding))),
            }
        )
    if options.json:
        for operation in chain.from_iterable(result["operations"] for result in results):
            operation.update(_finite_statistics(operation))
        print_json(results)
        return
    console = new_console()
    for result in results:
        console.print("tokens:", *result["tokens"])
        _print_operations(console, result["operations"])


def _finite_statistics(operation):
    """The statistics of an operation, None where one is not finite: JSON has no such number."""
    return {
        name: operation[name] if math.isfinite(operation[name]) else None for name in STATISTICS
    }


def _print_operations(console, operations):
    """A table of operations; where it is too wide, the names stand above the numbers."""
    table = new_table("name", "function", "shape>", "mean>", "deviation>", "min>", "max>")
    for operation in operations:
        table.add_row(operation["name"], operation["function"], *_numbers(operation))
    unlimited = console.options.update(width=UNLIMITED_WIDTH)
    if console.measure(table, options=unlimited).maximum <= console.width:
        console.print(table)
        return
    in_columns = "{:>19}{:>13}{:>13}{:>13}{:>13}".format
    console.print(in_columns("shape", "mean", "deviation", "min", "max"))
    for operation in operations:
        console.print(f"{operation['name']}  {operation['function']}")
        console.print(in_columns(*_numbers(operation)))


def _numbers(operation):
    """The shape and the statistics of an operation's array, to be read."""
    statistics = (f"{operation[name]:.3g}" for name in STATISTICS)
    return "×".join(map(str, operation["shape"])), *statistics


def _summaries(trace):
    """Each array of a trace by its shape and its statistics, computed in float64."""
    for operation in trace:
        for output, array in operation.outputs.items():
            yield {
                "name": operation.name if output == "y" else f"{operation.name}.{output}",
                "function": operation.function.__name__.removesuffix("_forward"),
                "shape": list(array.shape),
                "mean": float(array.mean(dtype="float64")),
                "standard_deviation": float(array.std(dtype="float64")),
                "min": float(array.min()),
                "max": float(array.max()),
            }
