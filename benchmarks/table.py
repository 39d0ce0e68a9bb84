"""Results as tables: the same rows on the screen and in Markdown."""

from collections import Counter

from rich.table import Column, Table

from benchmarks.correct import unit_roundoff
from benchmarks.figures import (
    OWN_WEIGHTS,
    PEERS,
    ROOFS,
    above,
    batch_title,
    deterministic,
    fastest,
    later_repetition,
    ours_and_peers,
    rates,
    ratios,
    roof_seconds,
    summary,
    three_digits,
    timed,
    title,
    work_title,
)

MEGABYTE = 10**6
BINDS = {"matmul": "products", "copy": "memory"}


def timed_table(records):
    """The table of contenders that were timed.

    Parameters
    ----------
    records : list of dict
        Of `measure.compare`.

    Returns
    -------
    columns : list of str
    rows : list of list of str
    """
    peers = [name for name in PEERS if any(name in record["contenders"] for record in records)]
    has_padding = any(r["operations"] != r["padded_operations"] for r in records if r["contenders"])
    columns = [
        "work",
        "by",
        "GFLOP",
        "MB",
        "ms",
        *(f"× {name}" for name in peers),
        "of the roof",
        *(["padding counted"] if has_padding else []),
        "peak MB",
        "error",
    ]
    rows = []
    for record in records:
        if not record["contenders"]:
            cells = ["too large for this machine", *[""] * (len(columns) - 2)]
            rows.append([title(record), *cells])
            continue
        needed = [three_digits(record["operations"] / 1e9), megabytes(record["bytes"])]
        for name, contender in record["contenders"].items():
            if name in ROOFS:
                cells = [roof_cell(name, record), *[""] * (len(columns) - 5)]
            else:
                cells = contender_cells(record, name, contender, peers, has_padding)
            rows.append([title(record), name, *needed, *cells])
    return columns, rows


def roof_cell(name, record):
    """A roof's rate."""
    operations, moved = rates(record)
    rate, unit = (operations, "GFLOP/s") if name == "matmul" else (moved, "GB/s")
    return f"{rate:.0f} {unit}"


def contender_cells(record, name, contender, peers, has_padding):
    error = error_cell(contender)
    if "seconds" not in contender:
        said = "not timed" if contender["correct"] else "wrong, not timed"
        return [said, *[""] * (len(peers) + 2 + has_padding), error]
    seconds = contender["seconds"]
    against = [
        f"{ratios(timed(record)[peer]['seconds'], seconds):.2f}"
        if peer in timed(record) and name not in PEERS
        else ""
        for peer in peers
    ]
    roof, bound = roof_seconds(record)
    cells = [f"{ratios(roof, seconds):.0%}, {BINDS[bound]}"]
    if has_padding:
        padded, _ = roof_seconds(record, record["padded_operations"])
        is_padded = record["operations"] != record["padded_operations"]
        cells.append(f"{ratios(padded, seconds):.0%}" if is_padded else "")
    return [milliseconds(seconds), *against, *cells, megabytes(above(contender)), error]


def error_cell(contender):
    """How far from float64 it was, and may be."""
    if contender["error"] is not None:
        sign = "≤" if contender["correct"] else ">"
        return f"{contender['error']:.1e} {sign} {contender['limit']:.1e}"
    if "raised" in contender:
        return f"raised: {contender['raised']}"
    return contender.get("ended", "raised, not finite, or of another shape or dtype")


def cuda_table(records):
    """Of each work on a GPU our fastest, and the fastest of the others."""
    columns = [
        "work",
        "by",
        "ms",
        "of the roof",
        "the fastest other",
        "its ms",
        "times as fast",
        "as the fastest deterministic other",
        "error, of the noise floor",
    ]
    return columns, [cuda_row(record) for record in records]


def cuda_row(record):
    contenders = record["contenders"]
    ours, others = ours_and_peers(record)
    best, other = fastest(record, ours), fastest(record, others)
    if best is None:
        said = "wrong, not timed" if contenders else "too large for this machine"
        cells = ["", said, ""]
    else:
        roof, bound = roof_seconds(record)
        seconds = contenders[best]["seconds"]
        cells = [best, milliseconds(seconds), f"{ratios(roof, seconds):.0%}, {BINDS[bound]}"]
    against = ["", ""] if other is None else [other, milliseconds(contenders[other]["seconds"])]
    compared = [f"{each:.2f}" if each else "" for each in times_as_fast(record)]
    error = "" if best is None else f"{error_in_floors(record, best):.2f}"
    return [title(record), *cells, *against, *compared, error]


def times_as_fast(record):
    """Our fastest against the fastest other, and against the fastest deterministic one.

    Returns
    -------
    list of Summary or None
    """
    ours, others = ours_and_peers(record)
    best, contenders = fastest(record, ours), record["contenders"]
    return [
        ratios(contenders[other]["seconds"], contenders[best]["seconds"])
        if best is not None and other is not None
        else None
        for other in (fastest(record, others), fastest(record, deterministic(others)))
    ]


def cuda_summary(records):
    """The short table of a GPU: a row for each function, direction and type.

    Of its works, the median, minimum and maximum of what `cuda_table` says of each.
    """
    columns = [
        "work",
        "type",
        "works",
        "of the roof",
        "times as fast as the fastest other",
        "as the fastest deterministic other",
        "error, of the noise floor",
    ]
    formats = (".0%", ".2f", ".2f", ".2f")
    groups = {}
    for record in records:
        groups.setdefault(group_title(record), []).append(record)
    rows = []
    for group, of in groups.items():
        found = [figures for figures in map(best_figures, of) if figures is not None]
        count = f"{len(found)}" if len(found) == len(of) else f"{len(found)} of {len(of)}"
        columns_found = zip(*found, strict=True) if found else [()] * len(formats)
        pairs = zip(columns_found, formats, strict=True)
        cells = [summary_cell(each, spec) for each, spec in pairs]
        rows.append([*group, count, *cells])
    return columns, rows


def group_title(record):
    """The work and its type, without the shape."""
    size = f", {record['size']}" if "size" in record else ""
    return f"{work_title(record)}{size}", record["dtype"]


def summary_cell(values, spec):
    """Several numbers, of which some may be missing."""
    values = [value for value in values if value is not None]
    return format(summary(values), spec) if values else ""


def best_figures(record):
    """Of our fastest: the fraction of the roof, times as fast as others, the error; or None."""
    best = fastest(record, ours_and_peers(record)[0])
    if best is None:
        return None
    roof, _ = roof_seconds(record)
    compared = [each and each.median for each in times_as_fast(record)]
    fraction = ratios(roof, record["contenders"][best]["seconds"]).median
    return fraction, *compared, error_in_floors(record, best)


def error_in_floors(record, name):
    """A contender's error over the noise floor, at least one rounding: of the worst output."""
    least = unit_roundoff(record["dtype"])
    errors = record["contenders"][name]["errors"]
    return max(error / max(record["floors"][output], least) for output, error in errors.items())


def cache_table(records):
    """Whether a shared layer's weights stay in the L2 cache from one repetition to the next."""
    columns = [
        "work",
        "by",
        "the pass, ms",
        "a later repetition, ms",
        "its GFLOP",
        "its weights, MB",
        "read at, GB/s",
        "times the copy",
        "times as fast as with weights of its own",
        "L2 cache, MB",
    ]
    return columns, [row for record in records for row in cache_rows(record)]


def cache_rows(record):
    for name, part in record["parts"].items():
        if name not in ROOFS:
            cells = repetition_cells(record, name)
            cache = megabytes(record["l2_bytes"])
            yield [title(record), name, milliseconds(part["seconds"]), *cells, cache]


def repetition_cells(record, name):
    """Of the repetitions after the first: the time of one, and how fast it reads its weights."""
    parts, weights = record["parts"], record["weights_bytes"]
    seconds, others = (later_repetition(record, each) for each in (name, OWN_WEIGHTS))
    if seconds is None:
        return [""] * 6
    needed = [three_digits(record["operations"] / 1e9), megabytes(weights)]
    if min(*seconds, *others) <= 0:
        return ["too short to tell", *needed, "", "", ""]
    copied = [each * weights / parts["copy"]["bytes"] for each in parts["copy"]["seconds"]]
    return [
        milliseconds(seconds),
        *needed,
        f"{summary(weights / each / 1e9 for each in seconds):.0f}",
        f"{ratios(copied, seconds):.2f}",
        f"{ratios(others, seconds):.2f}",
    ]


def trial_table(records):
    """What became of each version that is not the default yet: a row for each outcome."""
    columns = ["work", "type", "by", "outcome", "works", "times as fast as the default"]
    groups = {}
    for record in records:
        for name, contender in record["contenders"].items():
            if default_of(name, record) != name:
                group = *group_title(record), name, outcome(contender)
                groups.setdefault(group, []).append(record)
    rows = []
    for (*group, name, became), of in groups.items():
        if became == "wrong":
            worst = max((each["contenders"][name] for each in of), key=lambda each: each["error"])
            became = f"wrong, at worst {error_cell(worst)}"
        rows.append([*group, name, became, f"{len(of)}", times_as_fast_as_default(name, of)])
    works = [*dict.fromkeys(row[0] for row in rows)]
    return columns, sorted(rows, key=lambda row: works.index(row[0]))


def default_of(name, record):
    """With what a version that is tried is compared; of anyone else, the name itself."""
    return name.replace(f" version {record['version']}", "")


def outcome(contender):
    """Right, wrong, or what happened instead."""
    if contender["error"] is None:
        return error_cell(contender)
    return "right" if contender["correct"] else "wrong"


def times_as_fast_as_default(name, records):
    """Of the works in which both were timed, the median, minimum and maximum."""
    pairs = [(timed(record), default_of(name, record)) for record in records]
    return summary_cell(
        [
            ratios(found[default]["seconds"], found[name]["seconds"]).median
            for found, default in pairs
            if name in found and default in found
        ],
        ".2f",
    )


def left_for_want_of_time(records):
    """Works that were not begun, named without their shapes: a line for each kind."""
    counts = Counter(", ".join(group_title(record)) for record in records)
    return [f"left for want of time: {name}, {count} works" for name, count in counts.items()]


def left_out(records):
    """Who could not do a work, and why: a line for each reason."""
    works = {}
    for record in records:
        for name, reason in record.get("left_out", {}).items():
            works.setdefault((name, reason), []).append(record)
    return [
        f"left out: {name}, of {len(of)} works: {reason}" for (name, reason), of in works.items()
    ]


def threads_table(records):
    """Products and kernels back to back, against the sum of each alone."""
    columns = [
        "a product and bias_gelu_new",
        "by",
        "product, ms",
        "kernel, ms",
        "both, ms",
        "both to sum",
    ]
    rows = []
    for record in records:
        parts = {name: timing["seconds"] for name, timing in record["parts"].items()}
        alone = [a + b for a, b in zip(parts["matmul"], parts["kernel"], strict=True)]
        cells = [milliseconds(seconds) for seconds in parts.values()]
        rows.append(
            [batch_title(record), record["back_end"], *cells, f"{ratios(parts['both'], alone):.2f}"]
        )
    return columns, rows


def memory_table(records):
    """Peak memory, of what was not timed."""
    columns = ["work", "by", "weights, MB", "peak above them, MB", "the process's peak, MB"]
    rows = [
        [
            title(record),
            name,
            megabytes(record["weights_bytes"]),
            megabytes(above(contender)),
            megabytes(contender["peak_bytes"]),
        ]
        for record in records
        for name, contender in record["contenders"].items()
    ]
    return columns, rows


TABLES = {
    "kernels": timed_table,
    "threads": threads_table,
    "model": timed_table,
    "training": timed_table,
    "memory": memory_table,
    "scaling": timed_table,
    "cuda": cuda_summary,
    "cache": cache_table,
    "trial": trial_table,
}


def megabytes(size):
    """A number of bytes, in megabytes."""
    if size is None:
        return "not measured"
    return three_digits(size / MEGABYTE)


def milliseconds(seconds):
    """The median, minimum and maximum of several times."""
    return summary(1e3 * each for each in seconds).shown(three_digits)


def caption(results):
    """Where and when: one line."""
    where = results["environment"]
    packages = ", ".join(f"{name} {number}" for name, number in where["packages"].items() if number)
    gpu = f"{where['gpu']['name']}, " if "gpu" in where else ""
    return (
        f"{where['date']}: {gpu}{where['cpu']}, {where['cores']} cores; "
        f"threads: {where['threads']}; Python {where['python']}, {packages}; {where['blas']}"
    )


def tables(results):
    """Of each section that the results have: its name, the columns, the rows."""
    return [(name, *table(results[name])) for name, table in TABLES.items() if results.get(name)]


def markdown(columns, rows):
    """A table as Markdown."""
    lines = [columns, ["---", "---", *["---:"] * (len(columns) - 2)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_tables(results):
    """Of each section that the results have, its table and the caption, as Markdown."""
    return {
        name: f"{markdown(columns, rows)}\n\n{caption(results)}"
        for name, columns, rows in tables(results)
    }


def for_the_screen(columns, rows):
    """A table on the screen."""
    # On a narrow screen cells go on in a further line: a figure is never cut off.
    table = Table(*(Column(name, overflow="fold") for name in columns))
    previous = None
    for row in rows:
        if previous is not None and row[0] != previous:
            table.add_section()
        table.add_row(*(["" if row[0] == previous else row[0], *row[1:]]))
        previous = row[0]
    return table
