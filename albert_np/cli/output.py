"""What commands print: JSON, tables, and how far they are."""

import json
import os

UNLIMITED_WIDTH = 10_000  # columns, where nobody looks at a terminal: one row is one line


def print_json(value):
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def new_table(*columns):
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


def print_tables(tables):
    """Tables below each other, with a blank line between two."""
    console = new_console()
    for place, table in enumerate(tables):
        if place:
            console.print()
        console.print(table)


def new_console():
    """Standard output; its width is without limit where nobody looks at a terminal."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED_WIDTH
    return console


def with_progress(items, description, total):
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
