"""Reports of a comparison as JSON, and as one HTML page; `message` is that of the terminal."""

import math

from albert_np.files import replacing
from albert_np.libraries import import_library
from albert_np.verification.message import VERDICTS, findings, not_compared, of_noise, summary
from albert_np.verification.noise import DECADES, LIMIT
from albert_np.verification.picture import LEGEND, MISSING, bars, colour, picture_of


def as_json(comparison, diagnosis=(), could_not=()):
    """All that came of it, as values that JSON has.

    Parameters
    ----------
    comparison : Comparison
    diagnosis : sequence of str, optional
        Sentences that say what the mistake is.
    could_not : sequence of str, optional
        What the candidate could not be asked for.

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
        "could_not": not_compared(comparison, could_not),
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
        See `as_json`.

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
    jinja2 = template_library()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("albert_np.verification", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        bars=bars, colour=colour, of_noise=of_noise, LIMIT=LIMIT, MISSING=MISSING
    )
    return environment.get_template("report.html").render(
        comparison=comparison,
        verdict=VERDICTS[comparison.status],
        diagnosis=diagnosis,
        findings=findings(comparison, could_not),
        summary=summary(comparison),
        places={row.name: place for place, row in enumerate(comparison.rows)},
        picture=picture_of(comparison),
        legend=LEGEND,
    )


def template_library():
    """The library jinja2, which makes the page.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    return import_library("jinja2", "the HTML page", "albert-np[verify]")
