"""The `albert-np` command: one module for each of its commands, and what they share.

What a command answers goes to standard output, what it says meanwhile (progress, warnings) to
standard error. An error is one line there, and the exit status 2. Imports that take time stand
where they are used, so that `--help` is quick.
"""

import difflib
import os
import sys
import warnings

from albert_np.cli import (
    answer,
    classify,
    embed,
    fill_mask,
    info,
    pretrain,
    tag,
    trace,
    verify,
    warm_up,
)
from albert_np.cli.arguments import Parser
from albert_np.cli.texts import with_places
from albert_np.errors import GpuError

PROGRAM = "albert-np"
COMMANDS = (fill_mask, embed, classify, tag, answer, info, trace, verify, pretrain, warm_up)
INTERRUPTED = 130  # as a shell reports a command that Ctrl-C ended


def main(arguments=None):
    """Run the command.

    Parameters
    ----------
    arguments : list of str, optional
        Those of the command line by default.

    Returns
    -------
    int
        The exit status: 0, or what the command says; 1 if the reader of the output went away; 2
        after an error; 130 after Ctrl-C.
    """
    options = None
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            if sys.stdout is None:
                raise ValueError("standard output is closed; expected a place to print to")
            options = _parse(sys.argv[1:] if arguments is None else arguments)
            status = options.run(options) or 0
            sys.stdout.flush()
        except BrokenPipeError:
            return 1
        except KeyboardInterrupt:
            print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
            return INTERRUPTED
        except (GpuError, ImportError, MemoryError, OSError, ValueError) as error:
            message = with_places(_one_line(error), options)
            print(f"{PROGRAM}: error: {message}", file=sys.stderr)
            return 2
        finally:
            _discard_unwritable_output()
    return status


def _show_warning(message, *_where, **_more):
    print(f"{PROGRAM}: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(error):
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        # What is written to a file names it (`files.replacing`); what is printed names none.
        text = f"{error.filename or 'standard output'}: {error.strerror}"
    return " ".join(text.split())


def _discard_unwritable_output():
    """Let what cannot be written go nowhere, so that the interpreter's exit does not try again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(arguments):
    parser = _parser()
    _check_command(parser, arguments)
    return parser.parse_args(arguments)


def _check_command(parser, arguments):
    """Refuse what is no command of a parser, or of its command."""
    commands = parser.commands
    if not arguments:
        parser.error(f"no command is given; the commands are {', '.join(commands)}")
    command = arguments[0]
    if not command.startswith("-") and command not in commands:
        near = difflib.get_close_matches(command, commands, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(commands)}"
        parser.error(f"there is no command {command!r}; {hint}")
    if command in commands and commands[command].commands:
        _check_command(commands[command], arguments[1:])


def _parser():
    from albert_np import __version__

    parser = Parser(prog=PROGRAM, description="ALBERT in NumPy, forward and backward.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    parser.commands = commands.choices
    return parser
