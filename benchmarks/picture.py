"""Results as a picture: a roofline, bars against the peers, and curves of scaling."""

from statistics import median

import numpy as np

from benchmarks import scaling
from benchmarks.figures import (
    OURS_ON_A_GPU,
    PEERS,
    above,
    batch_title,
    fastest,
    ours_and_peers,
    rates,
    ratios,
    roof_seconds,
    timed,
    title,
    work_title,
)

WIDTH, HEIGHT = 16, 7  # inches, of a roofline and its bars
BAR, BARS_MARGIN = 0.16, 2  # inches
FEWEST_BARS = 16  # of which a panel's height is at least
LEVELS = 4  # neighbours' numbers stand at so many heights, lest they lie on each other
NAMES = {"kernels": work_title, "cuda": title}  # of the bars, by the section
STYLES = {"forward": "-", "training": "--"}
LABELS = {
    "sequence_length": "sequence length (base, batch of 4)",
    "batch_size": "batch (base, of 128 tokens each)",
    "hidden_size": "hidden size (base to xxlarge, 1×128)",
}


def draw(results, path):
    """Draw all that was timed, as a PNG picture.

    Parameters
    ----------
    results : dict
    path : Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups, scaled = grouped(results), results.get("scaling", [])
    heights = [max(HEIGHT, bars_height(records)) for records in groups.values()]
    heights += [HEIGHT] * bool(scaled)
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(heights), height_ratios=heights, squeeze=False)[:, 0]
    for part, (name, records) in zip(parts, groups.items(), strict=False):
        part.suptitle(name)
        roofline, bars = part.subplots(1, 2)
        draw_roofline(roofline, records)
        draw_bars(bars, records, NAMES.get(name.partition(",")[0], batch_title))
    if scaled:
        draw_scaling(parts[-1], scaled)
    figure.savefig(path, format="png", dpi=100)


def grouped(results):
    """The records of one roofline each: kernels by the batch, models by the command."""
    groups = {}
    for record in results.get("kernels", []):
        groups.setdefault(f"kernels, {batch_title(record)}", []).append(record)
    groups |= {name: results[name] for name in ("model", "training") if results.get(name)}
    for record in results.get("cuda", []):
        if record["contenders"]:
            groups.setdefault(f"cuda, {record['dtype']}", []).append(record)
    return groups


def colours_of(records):
    """A colour for each contender."""
    names = dict.fromkeys(name for record in records for name in timed(record))
    return {name: f"C{index}" for index, name in enumerate(names)}


def comparisons(record):
    """Of our contenders against each peer: (ours, peer, ratios)."""
    contenders = timed(record)
    if OURS_ON_A_GPU in record["contenders"]:
        best, other = (fastest(record, names) for names in ours_and_peers(record))
        if best is None or other is None:
            return []
        seconds = (contenders[name]["seconds"] for name in (other, best))
        return [("our fastest", "the fastest other", ratios(*seconds))]
    return [
        (ours, peer, ratios(contenders[peer]["seconds"], contenders[ours]["seconds"]))
        for ours in contenders
        for peer in PEERS
        if ours not in PEERS and peer in contenders
    ]


def bars_height(records):
    return BARS_MARGIN + BAR * sum(1 + len(comparisons(record)) for record in records)


def draw_roofline(axes, records):
    """Operations a second over operations a byte.

    The line is the roof at the run's best rates; a dash is the work's own, at its own shapes. Each
    work has a number, as beside the bars.
    """
    intensities = [record["operations"] / record["bytes"] for record in records]
    products, copies = zip(*map(rates, records), strict=True)
    best_product, best_copy = (max(rate.median for rate in each) for each in (products, copies))
    x = np.geomspace(min(intensities) / 2, max(intensities) * 2, 200)
    axes.plot(x, np.minimum(best_product, x * best_copy), color="black", linewidth=1)
    colours = colours_of(records)
    for place, index in enumerate(np.argsort(intensities)):
        record, intensity = records[index], intensities[index]
        roof, _ = roof_seconds(record)
        operations = record["operations"] / 1e9
        axes.axvline(intensity, color="lightgrey", linewidth=0.6, zorder=0)
        axes.annotate(
            str(index + 1),
            (intensity, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -11 * (1 + place % LEVELS)),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )
        axes.plot(intensity, operations / median(roof), "_", color="black", markersize=11)
        for name, contender in timed(record).items():
            rate = operations / median(contender["seconds"])
            axes.plot(intensity, rate, "o", color=colours[name], markersize=5, alpha=0.8)
    for name, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=name)
    axes.plot([], [], "_", color="black", markersize=11, label="the work's own roof")
    axes.set(xscale="log", yscale="log", xlabel="operations a byte")
    axes.set_ylabel("10⁹ operations a second")
    axes.set_title(f"roofline: {best_product:.0f} GFLOP/s, {best_copy:.0f} GB/s", fontsize=10)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top * (top / bottom) ** 0.15)  # room for the numbers
    axes.legend(loc="lower right", fontsize=8)


def draw_bars(axes, records, name_of):
    """How many times as fast as each peer ours is, with minimum and maximum.

    Each record is called what `name_of(record)` returns.
    """
    position, ticks, names = 0, [], []
    pairs = dict.fromkeys(pair[:2] for record in records for pair in comparisons(record))
    colours = {pair: f"C{index}" for index, pair in enumerate(pairs)}
    for number, record in enumerate(records, 1):
        bars = comparisons(record)
        for ours, peer, ratio in bars:
            position -= 1
            error = [[ratio.median - ratio.minimum], [ratio.maximum - ratio.median]]
            axes.barh(
                position,
                ratio.median,
                xerr=error,
                color=colours[ours, peer],
                error_kw={"linewidth": 0.8},
            )
            axes.text(
                ratio.maximum * 1.05, position, f"{ratio.median:.2f}", va="center", fontsize=7
            )
        ticks.append(position + (len(bars) - 1) / 2)
        names.append(f"{number}  {name_of(record)}")
        position -= 1
    axes.set_yticks(ticks, names, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    for (ours, peer), colour in colours.items():
        axes.barh(0, 0, color=colour, label=f"{ours} against {peer}")
    axes.set(xscale="log", xlabel="times as fast (above 1: ours is faster)")
    axes.margins(x=0.12)
    axes.set_ylim(min(position, -FEWEST_BARS), 0)
    if pairs:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=2, fontsize=8)


def draw_scaling(part, records):
    """Time and memory, along each of the series."""
    colours = colours_of(records)
    cut = dict.fromkeys(
        f"{record['size']} with {record['layers']} of {record['layers_of_size']} layers"
        for record in records
        if record["layers"] < record["layers_of_size"]
    )
    part.suptitle(f"scaling{': ' if cut else ''}{', '.join(cut)}")
    grid = part.subplots(2, len(scaling.SERIES), squeeze=False)
    for column, (axis, points) in enumerate(scaling.SERIES.items()):
        chosen = [
            r for r in records if (r["size"], r["batch_size"], r["sequence_length"]) in points
        ]
        for row, figure_of in enumerate((milliseconds, above_in_megabytes)):
            axes = grid[row, column]
            for name, colour in colours.items():
                for work, style in STYLES.items():
                    line = [
                        (record[axis], figure_of(timed(record)[name]))
                        for record in chosen
                        if record["work"] == work and name in timed(record)
                    ]
                    if line:
                        axes.plot(*zip(*sorted(line), strict=True), style, marker=".", color=colour)
            axes.set(xscale="log", yscale="log", xlabel=LABELS[axis])
            axes.set_ylabel(("time, ms", "memory above the model, MB")[row])
            ticks = sorted({record[axis] for record in chosen})
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
    for name, colour in colours.items():
        grid[0, 0].plot([], [], color=colour, label=name)
    for work, style in STYLES.items():
        grid[0, 0].plot([], [], style, color="black", label=work)
    grid[0, 0].legend(fontsize=8)


def milliseconds(contender):
    return 1e3 * median(contender["seconds"])


def above_in_megabytes(contender):
    size = above(contender)
    return float("nan") if size is None else size / 1e6
