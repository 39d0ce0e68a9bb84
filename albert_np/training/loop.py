"""The training loop: batches in, losses out."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from albert_np.training.optimizers import clip_gradients

MAX_NORM = 1.0


def train(model, optimizer, batches, learning_rates, description="training"):
    """Train a model in place, with a progress bar on standard error.

    Parameters
    ----------
    model : AlbertPreTrainedModel
    optimizer : AdamW
        Of the model's parameters.
    batches : iterator of dict
        Arguments of `model.loss_and_gradients`; one is taken for each learning rate.
    learning_rates : sequence of float
    description : str
        Stands before the bar.

    Returns
    -------
    list of float
        The loss of each step, before the step.
    """
    losses = []
    with _progress() as progress:
        task = progress.add_task(description, total=len(learning_rates), loss=float("nan"))
        for lr in learning_rates:
            loss, gradients = model.loss_and_gradients(**next(batches))
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
