"""What a comparison came to, in words: for the terminal, a test's failure and the HTML page."""

import math
from io import StringIO

from albert_np.verification.noise import LIMIT

MOST_ROWS = 20
MOST_NAMES = 5
WIDTH = 10_000  # without limit: one row is one line

VERDICTS = ("right, to rounding", "differs", "could not be compared in full")  # by status


def message(comparison, diagnosis=(), could_not=()):
    """A table of the rows that are wrong, or else of the worst ones, the verdict, the mistake.

    Parameters
    ----------
    comparison : Comparison
    diagnosis : sequence of str, optional
        Sentences that say what the mistake is: see `diagnosis.diagnose`.
    could_not : sequence of str, optional
        What the candidate could not be asked for.

    Returns
    -------
    str
    """
    wrong = [row for row in comparison.rows if row.differs or row.is_wrong]
    worst = sorted(comparison.rows, key=lambda row: row.multiple, reverse=True)[:5]
    lines = [_table(wrong[:MOST_ROWS] or worst)]
    if len(wrong) > MOST_ROWS:
        lines.append(f"… and {len(wrong) - MOST_ROWS} more tensors that are wrong")
    lines += [sentence for sentence, _ in findings(comparison, could_not)]
    return "\n".join([*lines, summary(comparison), *diagnosis])


def findings(comparison, could_not=()):
    """Where the candidate is wrong, and what was not compared.

    Parameters
    ----------
    comparison, could_not
        See `message`.

    Returns
    -------
    list of (str, Row or None)
        A sentence, and the row that it is about.
    """
    found, first, wrong = [], comparison.first, comparison.wrong
    if first is not None:
        found.append(
            (f"first to leave the noise: {first.name} ({of_noise(first.multiple)})", first)
        )
    found += [(_wrong_by_itself(row), row) for row in wrong[:MOST_ROWS]]
    if len(wrong) > MOST_ROWS:
        found.append((f"{len(wrong) - MOST_ROWS} more are wrong by themselves", None))
    reasons = not_compared(comparison, could_not)
    found += [(f"could not compare {reason}", None) for reason in reasons[:MOST_ROWS]]
    if len(reasons) > MOST_ROWS:
        found.append((f"could not compare {len(reasons) - MOST_ROWS} more", None))
    return found


def not_compared(comparison, could_not=()):
    """What was not compared, each with its reason.

    Returns
    -------
    list of str
    """
    return [*(f"{name}: {why}" for name, why in comparison.could_not.items()), *could_not]


def summary(comparison):
    """The verdict, what it rests on, and the largest error."""
    given, all_of_them = len(comparison.rows), len(comparison.rows) + len(comparison.missing)
    return (
        f"{VERDICTS[comparison.status]}: {given} of {all_of_them} tensors compared, in "
        f"{comparison.precision}; worst {of_noise(comparison.worst.multiple)}, "
        f"at most {LIMIT} is right"
    )


def of_noise(multiple):
    """A multiple of the noise, to be read."""
    return f"{multiple:.3g} × noise" if math.isfinite(multiple) else "∞ × noise"


def _wrong_by_itself(row):
    names = operations_in_words(row.alone.operations) or row.name
    if row.name.startswith(("backward/", "gradients/")):
        names = f"the derivative of {names}"
    return f"wrong by itself ({of_noise(row.alone_multiple)}): {row.name}, by {names}"


def operations_in_words(names):
    """The operations that a tensor comes from: all or, of many, the last and their number."""
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{names[0]}, or one of {len(names) - 1} operations before it"


def _table(rows):
    """Errors relative to the root mean square of the tensor; `ulp` is the largest in such units."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("tensor")
    for column in ("largest", "ulp", "rms", "cosine", "place", "× noise", "alone"):
        table.add_column(column, justify="right")
    for row in rows:
        alone = "" if row.alone is None else f"{row.alone_multiple:.3g}"
        table.add_row(
            row.name,
            f"{row.relative_largest:.2e}",
            f"{row.ulp_largest:.3g}",
            f"{row.relative_rms:.2e}",
            f"{row.errors.cosine:.9f}",
            ",".join(map(str, row.errors.place)),
            f"{row.multiple:.3g}",
            alone,
        )
    text = StringIO()
    Console(file=text, width=WIDTH, markup=False, highlight=False, emoji=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
