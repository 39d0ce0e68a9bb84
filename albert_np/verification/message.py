"""What a comparison came to, in words: for the terminal and for a test's failure."""

from io import StringIO

from albert_np.verification.noise import LIMIT

MOST_ROWS = 20
MOST_NAMES = 5
WIDTH = 10_000  # without limit: one row is one line

VERDICTS = {0: "right, to rounding", 1: "differs", 2: "could not be compared in full"}


def message(comparison, diagnosis=()):
    """A table of the rows that are wrong, or else of the worst ones, the verdict, the mistake.

    Parameters
    ----------
    comparison : Comparison
    diagnosis : sequence of str, optional
        Sentences that say what the mistake is: see `diagnosis.diagnose`.

    Returns
    -------
    str
    """
    lines = [_table(_shown(comparison))]
    lines += [f"could not compare {name}: {why}" for name, why in comparison.could_not.items()]
    if comparison.first is not None:
        lines.append(f"first to leave the noise: {comparison.first.name}")
    for row in comparison.wrong[:MOST_ROWS]:
        by = operations_in_words(row.alone.operations)
        lines.append(f"wrong alone ({row.alone_multiple:.3g} × noise): {row.name}, by {by}")
    compared = f"{len(comparison.rows)} of {len(comparison.rows) + len(comparison.missing)} tensors"
    lines.append(
        f"{VERDICTS[comparison.status]}: {compared}, in {comparison.precision}; worst "
        f"{comparison.worst.multiple:.3g} × noise, at most {LIMIT} is right"
    )
    return "\n".join([*lines, *diagnosis])


def operations_in_words(names):
    """The operations that a tensor comes from: all or, of many, the last and their number."""
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{names[0]}, or one of {len(names) - 1} operations before it"


def _shown(comparison):
    """The rows that differ, in order; the worst five, where none does."""
    wrong = [row for row in comparison.rows if row.differs or row.is_wrong]
    worst = sorted(comparison.rows, key=lambda row: row.multiple, reverse=True)[:5]
    return wrong[:MOST_ROWS] or worst


def _table(rows):
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("tensor")
    for column in ("largest", "rms", "ulp", "cosine", "place", "× noise", "alone"):
        table.add_column(column, justify="right")
    for row in rows:
        alone = "" if row.alone is None else f"{row.alone_multiple:.3g}"
        table.add_row(
            row.name,
            f"{row.relative_largest:.2e}",
            f"{row.relative_rms:.2e}",
            f"{row.ulp_rms:.3g}",
            f"{row.errors.cosine:.9f}",
            ",".join(map(str, row.errors.place)),
            f"{row.multiple:.3g}",
            alone,
        )
    text = StringIO()
    Console(file=text, width=WIDTH, markup=False, highlight=False, emoji=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
