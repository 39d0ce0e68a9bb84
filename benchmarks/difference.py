"""Two results files beside each other: what became faster, and what needs less memory."""

from statistics import median

from benchmarks.figures import ROOFS, above, ratios, roof_seconds, three_digits, timed, title
from benchmarks.results import SECTIONS
from benchmarks.table import megabytes

COLUMNS = [
    "work",
    "by",
    "time before, ms",
    "after, ms",
    "times as fast",
    "of the roof before",
    "after",
    "memory before, MB",
    "after, MB",
]


def rows(before, after):
    """What both files have, row by row.

    Parameters
    ----------
    before, after : dict
        Results.

    Returns
    -------
    list of list of str
        Under COLUMNS. Times are of two runs, so what slowed one of them does not cancel; fractions
        of the roof are each of its own run.
    """
    found = []
    for section in SECTIONS:
        records = {key(record): record for record in before.get(section, ())}
        for new in after.get(section, ()):
            old = records.get(key(new))
            if old is not None:
                found += record_rows(old, new)
    return found


def key(record):
    """What makes two records the same work."""
    return title(record), record["dtype"], record.get("hidden_size"), record.get("back_end")


def record_rows(old, new):
    before, after = old.get("contenders", {}), new.get("contenders", {})
    for name in before:
        if name in after and name not in ROOFS:
            yield [title(new), name, *times(old, new, name), *memories(before[name], after[name])]


def times(old, new, name):
    if name not in timed(old) or name not in timed(new):
        return [""] * 5
    old_seconds, new_seconds = (timed(record)[name]["seconds"] for record in (old, new))
    return [
        three_digits(1e3 * median(old_seconds)),
        three_digits(1e3 * median(new_seconds)),
        f"{median(old_seconds) / median(new_seconds):.2f}",
        *(f"{of_roof(record, name).median:.0%}" for record in (old, new)),
    ]


def of_roof(record, name):
    seconds, _ = roof_seconds(record)
    return ratios(seconds, timed(record)[name]["seconds"])


def memories(*contenders):
    return [megabytes(above(contender)) for contender in contenders]
