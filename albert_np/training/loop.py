"""The training loop: batches in, losses out."""

import math

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from albert_np.training.optimizers import clip_gradients

MAX_NORM = 1.0


def train(optimizer, turns, learning_rates, description="training"):
    """Train parameters in place, with a progress bar on standard error.

    Parameters
    ----------
    optimizer : AdamW
        Of the parameters.
    turns : iterator of (AlbertPreTrainedModel, dict)
        A model on those parameters, or on some of them, and the arguments of its
        `loss_and_gradients`; one turn is taken for each learning rate.
    learning_rates : sequence of float
    description : str
        Stands before the bar.

    Returns
    -------
    list of float
        The loss of each step, before the step.

    Raises
    ------
    ValueError
        If a loss is not finite: the rate was too high for these parameters, which are lost.
    """
    losses = []
    with _progress() as progress:
        task = progress.add_task(description, total=len(learning_rates), loss=float("nan"))
        for lr in learning_rates:
            model, batch = next(turns)
            loss, gradients = model.loss_and_gradients(**batch)
            if not math.isfinite(loss):
                raise ValueError(
                    f"the loss is {loss} at step {len(losses) + 1} of {description}; the highest "
                    f"learning rate so far is {max(learning_rates[: len(losses) + 1]):.3g}: "
                    "try a lower one"
                )
            clip_gradients(gradients.parameters, MAX_NORM)
            optimizer.step(gradients.parameters, lr)
            losses.append(float(loss))
            progress.update(task, advance=1, loss=losses[-1])
    return losses


def _progress():
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps, loss {task.fields[loss]:.3f},"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
    )
