"""Reports of a comparison: a table for the terminal, JSON, and one HTML page without a network."""

import math

from albert_np.files import replacing
from albert_np.verification.noise import DECADES, LIMIT

VERDICTS = ("right, to rounding", "differs from the reference", "could not be compared")
MOST_LINES = 20  # of the terminal's table; JSON and the page have them all


def summary(comparison, diagnosis=(), could_not=()):
    """What came of it, in a few lines of plain text.

    Parameters
    ----------
    comparison : Comparison
    diagnosis : sequence of str, optional
        Sentences that say what the mistake is.
    could_not : sequence of str, optional
        What the candidate could not be asked for.

    Returns
    -------
    list of str
    """
    compared = f"{len(comparison.rows)} tensors in {comparison.precision}"
    lines = [f"{compared}: {VERDICTS[comparison.status]}"]
    if comparison.rows and not comparison.differs:
        worst = comparison.worst
        lines.append(f"largest error: {times(worst.multiple)} the noise ({worst.name})")
    lines += diagnosis
    if comparison.first is not None:
        first = comparison.first
        lines.append(f"first to leave the noise: {first.name}, {times(first.multiple)} the noise")
    lines += [f"wrong by itself: {wrong_operation(row)}" for row in comparison.wrong]
    lines += [f"not compared: {name} {why}" for name, why in comparison.could_not.items()]
    return lines + [f"not compared: {reason}" for reason in could_not]


def wrong_operation(row):
    """The operations that are wrong by themselves, in words."""
    derivative = "derivative of " if row.name.startswith(("backward/", "gradients/")) else ""
    names = ", ".join(row.alone.operations) or row.name
    return f"{derivative}{names}, {times(row.alone_multiple)} its noise, at {row.name}"


def times(multiple):
    """A multiple of the noise, to be read."""
    if not math.isfinite(multiple):
        return "infinitely many times"
    return f"{multiple:.2g} times" if multiple < 1000 else f"{multiple:.1e} times"


def new_report_table(comparison, new_table):
    """The tensors that differ, or those with the largest errors, for the terminal.

    Parameters
    ----------
    comparison : Comparison
    new_table : callable
        Makes a table of columns of these names (`albert_np.cli.output.new_table`).

    Returns
    -------
    rich.table.Table
    """
    rows = [row for row in comparison.rows if row.differs or row.is_wrong]
    rows = rows or sorted(comparison.rows, key=lambda row: -row.multiple)[:5]
    table = new_table("tensor", "rms>", "largest>", "ulp>", "cosine>", "noise>", "alone>", "at>")
    for row in rows[:MOST_LINES]:
        table.add_row(
            row.name,
            f"{row.relative_rms:.2g}",
            f"{row.relative_largest:.2g}",
            f"{row.ulp_largest:.3g}",
            f"{row.errors.cosine:.9g}",
            f"×{row.multiple:.3g}",
            "" if row.alone is None else f"×{row.alone_multiple:.3g}",
            ",".join(map(str, row.errors.place)),
        )
    if len(rows) > MOST_LINES:
        table.add_row(f"… and {len(rows) - MOST_LINES} more", *[""] * 7)
    return table


def as_json(comparison, diagnosis=(), could_not=()):
    """All that came of it, as values that JSON has.

    Parameters
    ----------
    comparison, diagnosis, could_not
        See `summary`.

    Returns
    -------
    dict
    """
    return {
        "status": comparison.status,
        "verdict": VERDICTS[comparison.status],
        "class": comparison.case.model_class.__name__,
        "precision": comparison.precision,
        "limit": LIMIT,
        "diagnosis": list(diagnosis),
        "first": comparison.first and comparison.first.name,
        "wrong": [
            {"tensor": row.name, "operations": list(row.alone.operations)}
            for row in comparison.wrong
        ],
        "could_not": [*(f"{n} {why}" for n, why in comparison.could_not.items()), *could_not],
        "missing": comparison.missing,
        "histogram_edges": DECADES,
        "tensors": [_row_as_json(row) for row in comparison.rows],
    }


def _row_as_json(row):
    alone = row.alone
    return {
        "name": row.name,
        "verdict": "differs" if row.differs else "wrong by itself" if row.is_wrong else "right",
        "relative_rms": _finite(row.relative_rms),
        "relative_largest": _finite(row.relative_largest),
        "ulp_rms": _finite(row.ulp_rms),
        "ulp_largest": _finite(row.ulp_largest),
        "cosine": _finite(row.errors.cosine),
        "largest_at": list(row.errors.place),
        "noise_rms": _finite(row.floor.rms),
        "multiple": _finite(row.multiple),
        "alone": alone and {
            "operations": list(alone.operations),
            "multiple": _finite(row.alone_multiple),
        },
        "histogram": list(row.histogram),
    }  # fmt: skip


def _finite(number):
    """None for what JSON has no number for."""
    return float(number) if math.isfinite(number) else None


def write_html(path, comparison, diagnosis=(), could_not=()):
    """Write a page that stands alone: no script, and nothing that is fetched.

    Parameters
    ----------
    path : str or Path
    comparison, diagnosis, could_not
        See `summary`.

    Raises
    ------
    ImportError
        If jinja2 is not installed.
    """
    page = html(comparison, diagnosis, could_not)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def html(comparison, diagnosis=(), could_not=()):
    """The page that `write_html` writes.

    Returns
    -------
    str
    """
    try:
        import jinja2
    except ModuleNotFoundError:
        raise ImportError(
            "the HTML page needs the library jinja2, which is not installed: "
            "python -m pip install 'albert-np[verify]'"
        ) from None
    from albert_np.verification.picture import LEGEND, bars, colour, picture_of

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("albert_np.verification", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        bars=bars, colour=colour, times=times, wrong_operation=wrong_operation, LIMIT=LIMIT
    )
    return environment.get_template("report.html").render(
        comparison=comparison,
        verdict=VERDICTS[comparison.status],
        diagnosis=diagnosis,
        could_not=could_not,
        places={row.name: place for place, row in enumerate(comparison.rows)},
        picture=picture_of(comparison),
        legend=LEGEND,
    )
