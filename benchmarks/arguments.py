"""The command line's values, read and checked."""

import argparse
import re
from importlib.util import find_spec
from pathlib import Path

from albert_np.backend import BACKENDS, get_backend
from albert_np.threads import cores
from benchmarks.figures import PEERS

FEWEST_ROUNDS = 5
DTYPES = ("float32", "float64")
ON_THE_CPU = tuple(name for name in BACKENDS if name != "cuda")  # which has a command of its own
PACKAGES = {
    "transformers": ("torch", "transformers"),
    "onnxruntime": ("onnxruntime", "onnx", "torch", "transformers"),
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are raised, for the command to print in its one line."""

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message):
        raise ValueError(message)


class NotAvailable(Exception):
    """Something that a measurement needs is not there; the message says what."""


def shapes(text):
    """Batches' shapes, such as 1x128,8x128: a list of (B, S)."""
    found = [re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", part) for part in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r}; expected B×S, such as 1x128,8x128")
    return [(int(match[1]), int(match[2])) for match in found]


def chosen(known):
    """The type of an argument that names some of those that are known."""

    def choose(text):
        names = tuple(dict.fromkeys(text.split(",")))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return choose


def is_available(back_end):
    """Whether the library that a back end needs is installed."""
    try:
        get_backend(back_end)
    except ImportError:
        return False
    return True


def check_back_ends(names):
    """Our back ends to measure: those asked for, or those that are available.

    Raises
    ------
    ImportError
        If one that was asked for is not available.
    """
    for name in names or ():
        get_backend(name)
    return tuple(filter(is_available, ON_THE_CPU)) if names is None else names


def is_installed(peer):
    return all(find_spec(package) for package in PACKAGES[peer])


def check_peers(names):
    """The peers to measure against: those asked for, or those that are installed.

    Raises
    ------
    NotAvailable
        If one that was asked for is not installed.
    """
    for name in names or ():
        if not is_installed(name):
            packages = ", ".join(PACKAGES[name])
            raise NotAvailable(
                f"the peer {name} is not installed ({packages}): "
                "python -m pip install '.[benchmark]'"
            )
    return tuple(filter(is_installed, PEERS)) if names is None else names


def check_numbers(options, config):
    """Refuse numbers out of their range.

    Raises
    ------
    ValueError
    """
    if not 1 <= options.threads <= cores():
        raise ValueError(
            f"--threads is {options.threads}; expected 1 to {cores()}, the cores there are"
        )
    if options.rounds is not None and options.rounds < FEWEST_ROUNDS:
        raise ValueError(f"--rounds is {options.rounds}; expected at least {FEWEST_ROUNDS}")
    for batch_size, length in getattr(options, "shapes", None) or ():
        if length > config.max_position_embeddings:
            raise ValueError(
                f"--shapes has {batch_size}x{length}; "
                f"max_position_embeddings is {config.max_position_embeddings}"
            )


def add_contenders(command, rounds):
    """Who is measured, how often, and where it is written."""
    command.add_argument(
        "--back-ends",
        type=chosen(ON_THE_CPU),
        metavar="NAMES",
        help=f"ours, of {','.join(ON_THE_CPU)} (default: those that are available)",
    )
    command.add_argument(
        "--peers",
        type=chosen(PEERS),
        metavar="NAMES",
        help=f"of {','.join(PEERS)} (default: those that are installed)",
    )
    command.add_argument("--dtype", choices=DTYPES, default="float32", help="(default: float32)")
    command.add_argument(
        "--threads",
        type=int,
        default=cores(),
        metavar="N",
        help="that each computes with, in BLAS, Numba and the peers (default: every core)",
    )
    command.set_defaults(rounds=None, plot=None)
    if rounds is not None:
        command.add_argument(
            "--rounds",
            type=int,
            default=rounds,
            metavar="N",
            help=f"times each has its turn (default: {rounds})",
        )
    command.add_argument(
        "--json", type=Path, metavar="OUT.json", help="also write the results there"
    )


def add_plot(command):
    command.add_argument("--plot", type=Path, metavar="OUT.png", help="also draw them there")


def add_batches(command, default):
    """On what it is measured."""
    command.add_argument(
        "--shapes",
        type=shapes,
        metavar="BxS,…",
        help=f"batches of random words (default: {default}; with --lengths none)",
    )
    command.set_defaults(default_shapes=shapes(default))
    command.add_argument(
        "--lengths",
        type=Path,
        metavar="FILE",
        help="a batch of real text: its first 32 lines, padded to the longest",
    )
    command.add_argument(
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help="SentencePiece, that cuts the text into tokens (default: the shipped model's)",
    )
