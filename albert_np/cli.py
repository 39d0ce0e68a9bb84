"""The `albert-np` command: fill in masked words, look into a model, pretrain one.

What a command answers goes to standard output, what it says meanwhile (progress, warnings) to
standard error. An error is one line there, and the exit status 2. Imports that take time stand
where they are used, so that `--help` is quick.
"""

import argparse
import difflib
import json
import math
import os
import re
import sys
import warnings
from itertools import chain

PROGRAM = "albert-np"
DEFAULT_MODEL = "tiny"
INTERRUPTED = 130  # as a shell reports a command that Ctrl-C ended
UNLIMITED_WIDTH = 10_000  # columns, where nobody looks at a terminal: one row is one line
BYTES_PER_PARAMETER = 4  # float32
STATISTICS = ("mean", "standard_deviation", "min", "max")

# What `info` calls the modules beside the layers, by how the names of their parameters start.
MODULES = {
    "embeddings": "embeddings",
    "encoder.embedding_hidden_mapping_in": "encoder projection",
    "pooler": "pooler",
    "predictions": "masked language modelling head",
    "sop_classifier": "sentence order head",
}

FILL_MASK_EXAMPLES = """\
examples:
  $ albert-np fill-mask "The capital of [MASK] is Paris." --top-k 1
  $ albert-np fill-mask --file sentences.txt --model my-albert --json
"""
INFO_EXAMPLES = """\
examples:
  $ albert-np info --config albert-base-v2
  ...
  total                            11,813,810    47.3 MB
  total, if no layers shared       89,780,402   359.1 MB
  sharing saves 86.8%              77,966,592   311.9 MB

  $ albert-np info --model my-albert --json
"""
TRACE_EXAMPLES = """\
examples:
  $ albert-np trace "Paris is in France."
"""
PRETRAIN_EXAMPLES = """\
examples:
  $ albert-np pretrain --tiny --output my-tiny
  $ albert-np pretrain stories.txt --output my-albert --steps 2000
"""


def main(arguments=None):
    """Run the command.

    Parameters
    ----------
    arguments : list of str, optional
        Those of the command line by default.

    Returns
    -------
    int
        The exit status: 0; 1 if the reader of the output went away; 2 after an error; 130 after
        Ctrl-C.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            if sys.stdout is None:
                raise ValueError("standard output is closed; expected a place to print to")
            options = _parse(sys.argv[1:] if arguments is None else arguments)
            options.run(options)
            sys.stdout.flush()
        except BrokenPipeError:
            return 1
        except KeyboardInterrupt:
            print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
            return INTERRUPTED
        except (ImportError, MemoryError, OSError, ValueError) as error:
            print(f"{PROGRAM}: error: {_one_line(error)}", file=sys.stderr)
            return 2
        finally:
            _discard_unwritable_output()
    return 0


def _show_warning(message, *_where, **_more):
    print(f"{PROGRAM}: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(error):
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    return " ".join(text.split())


def _discard_unwritable_output():
    """Let what cannot be written go nowhere, so that the interpreter's exit does not try again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# -------------------------------------------------------------------------------- the arguments


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are raised, for `main` to print in its one line."""

    def __init__(self, **settings):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=formatter, allow_abbrev=False, **settings)

    def error(self, message):
        raise ValueError(message)


def _parse(arguments):
    parser, commands = _parsers()
    if not arguments:
        parser.error(f"no command is given; the commands are {', '.join(commands)}")
    command = arguments[0]
    if not command.startswith("-") and command not in commands:
        near = difflib.get_close_matches(command, commands, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(commands)}"
        parser.error(f"there is no command {command!r}; {hint}")
    return parser.parse_args(arguments)


def _parsers():
    """The parser, and those of the commands by name."""
    from albert_np import __version__

    parser = _Parser(prog=PROGRAM, description="ALBERT in NumPy, forward and backward.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (_add_fill_mask, _add_info, _add_trace, _add_pretrain):
        add(commands)
    return parser, commands.choices


def _add_fill_mask(commands):
    parser = commands.add_parser(
        "fill-mask",
        help="fill in the masked words of a text",
        description="Fill in the masked words of texts. Each [MASK] is filled on its own.",
        epilog=FILL_MASK_EXAMPLES,
    )
    _add_text(parser)
    parser.add_argument(
        "--top-k", type=int, default=5, metavar="K", help="words for each mask (default: 5)"
    )
    _add_model(parser)
    _add_json(parser)
    parser.set_defaults(run=_fill_mask)


def _add_info(commands):
    parser = commands.add_parser(
        "info",
        help="show a model's configuration and count its parameters",
        description="Show a model's configuration, its parameters by module (in float32), and\n"
        "what sharing them between layers saves.",
        epilog=INFO_EXAMPLES,
    )
    which = parser.add_mutually_exclusive_group()
    _add_model_directory(which)
    which.add_argument(
        "--config", metavar="NAME", help="a published size, such as albert-base-v2; no weights"
    )
    _add_json(parser)
    parser.set_defaults(run=_info)


def _add_trace(commands):
    parser = commands.add_parser(
        "trace",
        help="show every intermediate result of a text's way through the model",
        description="Show every intermediate result of a text's way through the model.",
        epilog=TRACE_EXAMPLES,
    )
    _add_text(parser)
    _add_model(parser)
    _add_json(parser)
    parser.set_defaults(run=_trace)


def _add_text(parser):
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="by default, standard input")
    parser.add_argument("--file", help="read texts from a file, one a line; - is standard input")


def _add_model_directory(parser):
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="DIR",
        help="a directory in Hugging Face's layout (default: the small model that ships)",
    )


def _add_model(parser):
    _add_model_directory(parser)
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="(default: float32)"
    )


def _add_json(parser):
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_pretrain(commands):
    parser = commands.add_parser(
        "pretrain",
        help="pretrain a model from nothing",
        description="Pretrain a model from nothing, by masked words and the order of sentences:\n"
        "the small model that ships (--tiny), or one on a text file of your own.",
        epilog=PRETRAIN_EXAMPLES,
    )
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="a text of one sentence a line, with blank lines between documents",
    )
    parser.add_argument("--tiny", action="store_true", help="rebuild the small model that ships")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the model is saved")
    parser.add_argument("--steps", type=int, metavar="N", help="batches to learn from")
    parser.add_argument("--batch-size", type=int, metavar="N", help="documents of a batch")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="the highest one")
    parser.add_argument("--seed", type=int, metavar="N", help="draws the weights and the batches")
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="a spiece.model; by default one is trained on the text",
    )
    parser.set_defaults(run=_pretrain)


# ------------------------------------------------------------------------------- the commands


def _fill_mask(options):
    from albert_np.pipelines import predict_masks

    texts = _texts(options)
    model, tokenizer = _load(options)
    predictions = predict_masks(model, tokenizer, texts, options.top_k)
    results = list(_with_progress(predictions, "filling in", len(texts)))
    if options.json:
        _print_json([{"text": text, "masks": m} for text, m in zip(texts, results, strict=True)])
        return
    _print_tables(_words_table(masks, tokenizer) for masks in results)


def _words_table(masks, tokenizer):
    """The words for each mask of one text."""
    table = _new_table("word", "probability>", "sentence")
    for words in masks:
        for word in words:
            sentence = word["sequence"]
            if len(masks) > 1:
                sentence = _without_frame(sentence, tokenizer)
            table.add_row(word["token_str"], f"{word['score']:.2%}", sentence)
        table.add_section()
    return table


def _without_frame(sentence, tokenizer):
    """A sentence whose special tokens were kept for its other masks: those masks alone."""
    mask = tokenizer.mask_token
    sentence = sentence.removeprefix(tokenizer.cls_token).removesuffix(tokenizer.sep_token)
    return sentence.replace(mask, f" {mask}").strip()


def _info(options):
    from albert_np import AlbertConfig, AlbertForPreTraining

    if options.config is not None:
        config, model_class = AlbertConfig.published(options.config), AlbertForPreTraining
    else:
        config = AlbertConfig.from_pretrained(options.model)
        model_class = _model_class(config)
    unshared = AlbertConfig.from_dict(
        config.to_dict() | {"num_hidden_groups": config.num_hidden_layers}
    )
    modules = _parameters_by_module(model_class, config)
    total = sum(modules.values())
    unshared_total = sum(_parameters_by_module(model_class, unshared).values())
    if options.json:
        _print_json(
            {
                "config": config.to_dict(),
                "class": model_class.__name__,
                "dtype": "float32",
                "modules": [{"module": m} | _size(count) for m, count in modules.items()],
                "total": _size(total),
                "unshared_total": _size(unshared_total),
            }
        )
        return
    settings = _new_table("setting", "value")
    for name, value in config.to_dict().items():
        settings.add_row(name, value if isinstance(value, str) else json.dumps(value))
    counts = _new_table(model_class.__name__, "parameters>", "float32>")
    for module, count in modules.items():
        _add_count(counts, module, count)
    counts.add_section()
    saved = unshared_total - total
    _add_count(counts, "total", total)
    _add_count(counts, "total, if no layers shared", unshared_total)
    _add_count(counts, f"sharing saves {saved / unshared_total:.1%}", saved)
    _print_tables([settings, counts])


def _add_count(table, name, count):
    from rich.filesize import decimal

    table.add_row(name, f"{count:,}", decimal(count * BYTES_PER_PARAMETER))


def _parameters_by_module(model_class, config):
    """How many parameters each module of a model has; none of them is allocated."""
    counts = {}
    for name, shape in model_class.parameter_shapes(config).items():
        module = _module_of(name)
        counts[module] = counts.get(module, 0) + math.prod(shape)
    return counts


def _module_of(name):
    """What `info` calls the module of a parameter."""
    name = name.removeprefix("albert.")
    layer = re.match(r"encoder\.albert_layer_groups\.(\d+)\.albert_layers\.(\d+)\.", name)
    if layer is None:
        return next(module for start, module in MODULES.items() if name.startswith(start))
    part = "feed-forward"
    if "norm" in name.lower():
        part = "layer norms"
    elif ".attention." in name:
        part = "attention"
    return f"group {layer[1]}, layer {layer[2]}: {part}"


def _size(count):
    return {"parameters": count, "bytes": count * BYTES_PER_PARAMETER}


def _trace(options):
    texts = _texts(options)
    model, tokenizer = _load(options)
    results = []
    for text in texts:
        encoding = tokenizer([text], return_tensors="np")
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
        _print_json(results)
        return
    console = _new_console()
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
    table = _new_table("name", "function", "shape>", "mean>", "deviation>", "min>", "max>")
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


def _pretrain(options):
    if options.tiny == (options.file is not None):
        given = "both" if options.tiny else "neither"
        raise ValueError(f"{given} of FILE and --tiny given; expected one of them")
    if options.tiny and options.vocabulary:
        raise ValueError("both --tiny and --vocabulary given; the tiny recipe trains its own")
    settings = {
        name: getattr(options, name)
        for name in ("steps", "batch_size", "learning_rate", "seed", "vocabulary")
        if getattr(options, name) is not None
    }
    if options.tiny:
        from albert_np.training.tiny import pretrain_tiny

        *_, accuracies = pretrain_tiny(options.output, **settings)
        print(f"held-out words filled in right: {accuracies['held_out']:.1%}")
        print(f"orders of sentences told right: {accuracies['sentence_order']:.1%}")
    else:
        from albert_np.training.text import pretrain_text

        pretrain_text(options.file, options.output, **settings)
    print(f"the model, its loss curve (loss.png) and its log are in {options.output}")


# --------------------------------------------------------------------------- what commands share


def _texts(options):
    """The texts that a command is given: arguments, or the lines of a file or standard input."""
    if options.texts and options.file:
        raise ValueError("both TEXT and --file are given; expected one of them")
    if options.texts:
        return options.texts
    if options.file not in (None, "-"):
        with open(options.file, "rb") as file:
            return _lines(options.file, file.read())
    if sys.stdin is None or (options.file is None and sys.stdin.isatty()):
        raise ValueError("no text is given; expected TEXT, --file, or lines on standard input")
    return _lines("standard input", sys.stdin.buffer.read())


def _lines(name, content):
    """The lines of a file that are not blank."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8: byte {content[error.start]:#04x} at offset {error.start}"
        ) from None
    lines = [line for line in re.split(r"\r?\n", text) if line.strip()]
    if not lines:
        raise ValueError(f"{name} holds no text; expected one text a line")
    return lines


def _model_class(config):
    """The class that a checkpoint was saved from, if it can fill masks; or else the one that does.

    A model of pretraining is loaded as such, so that no part of it is left out.
    """
    from albert_np import AlbertForMaskedLM, AlbertForPreTraining

    saved_from = config.other.get("architectures") or []
    return AlbertForPreTraining if "AlbertForPreTraining" in saved_from else AlbertForMaskedLM


def _load(options):
    """The model and its tokenizer."""
    from albert_np import AlbertConfig, AlbertTokenizer

    model_class = _model_class(AlbertConfig.from_pretrained(options.model))
    tokenizer = AlbertTokenizer.from_pretrained(options.model)
    return model_class.from_pretrained(options.model, dtype=options.dtype), tokenizer


def _print_json(value):
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _new_table(*columns):
    """A table with columns of these names; a name that ends in > is of a column of numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        is_number = column.endswith(">")
        table.add_column(
            column.rstrip(">"),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    return table


def _print_tables(tables):
    """Tables below each other, with a blank line between two."""
    console = _new_console()
    for place, table in enumerate(tables):
        if place:
            console.print()
        console.print(table)


def _new_console():
    """Standard output; its width is without limit where nobody looks at a terminal."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED_WIDTH
    return console


def _with_progress(items, description, total):
    """The items, with a progress bar on standard error if that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(
        items,
        description,
        total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
