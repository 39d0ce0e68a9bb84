"""Peak memory: the largest size's forward pass, and a training step of base at full length."""

from albert_np import AlbertConfig
from albert_np.config import SIZES
from benchmarks.batches import random_batch
from benchmarks.measure import first_results, written
from benchmarks.model import CLASSES, SEED, able_peers, without_labels
from benchmarks.turns import contender

CASES = (
    ("forward", AlbertConfig(**SIZES["xxlarge"]), 1, 128),
    ("training", AlbertConfig(**SIZES["base"]), 8, 512),
)
CHECKPOINT_EVERY = 1


def contenders_of(work, run):
    """Ours and the peers; of training, ours also with what it keeps cut down."""
    plain = run.contenders(able_peers(work, run) if work == "training" else ())
    if work == "forward":
        return plain
    ours = run.contenders((), checkpoint_every=CHECKPOINT_EVERY)
    return plain | {f"{name}, checkpoint_every={CHECKPOINT_EVERY}": ours[name] for name in ours}


def measure(work, config, batch_size, sequence_length, contenders, run):
    """The memory that one call takes in each contender's process. Nothing is timed.

    Parameters
    ----------
    work : {"forward", "training"}
    config : AlbertConfig
    batch_size, sequence_length : int
    contenders : dict of str to dict
        Of `contenders_of`.
    run : Run

    Returns
    -------
    dict
        `weights_bytes`; and for each of the `contenders` `resident_bytes` before the call, and
        `peak_bytes` during it.
    """
    batch = random_batch(config, batch_size, sequence_length).arrays
    warm_up = random_batch(config, 1, 2).arrays
    if work == "forward":
        batch, warm_up = without_labels(batch), without_labels(warm_up)
    model = CLASSES[work](config, seed=SEED, dtype=run.dtype)
    weights_bytes = sum(array.nbytes for array in model.parameters.values())
    results = {}
    with written(batch, warm_up, model) as files:
        del model
        common = files | {"work": work, "dtype": run.dtype, "threads": run.threads}
        for name, own in contenders.items():
            with contender(common | own) as ask:
                _, results[name] = first_results(ask, files["directory"])
            run.progress(f"{work}: {name}")
    return {
        "work": work,
        "hidden_size": config.hidden_size,
        "layers": config.num_hidden_layers,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "tokens": batch_size * sequence_length,
        "dtype": run.dtype,
        "weights_bytes": weights_bytes,
        "contenders": results,
    }
