"""The arguments that commands share, and the parser that reads them."""

import argparse

DEFAULT_MODEL = "tiny"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are raised, for `main` to print in its one line."""

    commands = None  # their parsers by name, where it has some

    def __init__(self, **settings):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=formatter, allow_abbrev=False, **settings)

    def error(self, message):
        raise ValueError(message)


def filled(text):
    """The type of an argument that may not be empty."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; expected a name")
    return text


def add_text(parser, keys='{"text": …}'):
    """Texts: what `texts_of` and `records_of` read."""
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="by default, standard input")
    parser.add_argument(
        "--file", type=filled, help="read texts from a file, one a line; - is standard input"
    )
    parser.add_argument(
        "--json-lines",
        action="store_true",
        help=f"the lines of the file are JSON objects: {keys}; other keys are not read",
    )


def add_model_directory(parser):
    parser.add_argument(
        "--model",
        type=filled,
        default=DEFAULT_MODEL,
        metavar="DIR",
        help="a directory in Hugging Face's layout (default: the small model that ships)",
    )


def add_dtype(parser):
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="(default: float32)"
    )


def add_model(parser):
    """The model that a command runs, and how it runs it."""
    add_model_directory(parser)
    add_dtype(parser)
    parser.add_argument(
        "--backend",
        choices=("numpy", "numba", "cuda"),
        default="numpy",
        help="the reference, or fused kernels for the CPU or a GPU (default: numpy)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="how many threads BLAS and the kernels use (default: one for each core)",
    )


def add_json(parser):
    parser.add_argument("--json", action="store_true", help="print JSON")
