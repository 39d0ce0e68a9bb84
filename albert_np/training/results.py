"""What a training run is given and what it leaves: checks at the door, files at the end."""

import json
import math
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryFile

from albert_np.files import replacing
from albert_np.libraries import import_library

LOG_FILE = "training_log.json"
PICTURE_FILE = "loss.png"


def check_settings(steps, batch_size, learning_rate, seed):
    """Refuse settings of a training run that make no sense.

    Parameters
    ----------
    steps, batch_size : int
        1 or more.
    learning_rate : float
        Above 0.
    seed : int
        0 or more.

    Raises
    ------
    TypeError, ValueError
    """
    for name, value, least in (
        ("steps", steps, 1),
        ("batch_size", batch_size, 1),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"{name} is {value!r}; expected an integer")
        if value < least:
            raise ValueError(f"{name} is {value}; expected {least} or more")
    if isinstance(learning_rate, bool) or not isinstance(learning_rate, Real):
        raise TypeError(f"learning_rate is {learning_rate!r}; expected a number")
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ValueError(f"learning_rate is {learning_rate}; expected a number above 0")


def check_output(output_directory):
    """Make sure, before any work, that the results can be drawn and written.

    Parameters
    ----------
    output_directory : str or Path
        Created where it is not there.

    Raises
    ------
    ImportError
        If matplotlib, which draws the loss curve, is not installed.
    OSError
        If the directory cannot be made or written to.
    """
    import_library("matplotlib", "the loss curve", "albert-np[train]")
    directory = Path(output_directory)
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=directory):
        pass


def save_results(output_directory, model, tokenizer, phases, settings):
    """Write the model, its tokenizer, the log and the loss curve.

    Parameters
    ----------
    output_directory : str or Path
    model : AlbertPreTrainedModel
    tokenizer : AlbertTokenizer
    phases : dict of str to list of float
        The losses of each phase of training, in order.
    settings : dict
        What the run was given, for the log.
    """
    directory = Path(output_directory)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    log = {"settings": settings, "losses": phases}
    with replacing(directory / LOG_FILE) as path:
        path.write_text(json.dumps(log, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with replacing(directory / PICTURE_FILE) as path:
        draw_losses(phases, path)


def draw_losses(phases, path):
    """Draw the losses of a run, phase after phase, as a PNG picture.

    Parameters
    ----------
    phases : dict of str to list of float
    path : str or Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    start = 0
    for name, losses in phases.items():
        steps = range(start, start + len(losses))
        (line,) = axes.plot(steps, losses, linewidth=0.5, alpha=0.3)
        axes.plot(steps, smoothed(losses), color=line.get_color(), label=name)
        start += len(losses)
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
    axes.legend()
    figure.savefig(path, format="png", dpi=120)


def smoothed(losses, decay=0.98):
    """A running mean of the losses, each older one counting `decay` times as much."""
    means, total, weight = [], 0.0, 0.0
    for loss in losses:
        total, weight = decay * total + loss, decay * weight + 1
        means.append(total / weight)
    return means
