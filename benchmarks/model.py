"""The model against its peers: AlbertModel forward; AlbertForMaskedLM, loss and gradients."""

from albert_np import AlbertForMaskedLM, AlbertModel
from benchmarks.batches import random_batch
from benchmarks.measure import compare, written
from benchmarks.work import model_work

CLASSES = {"forward": AlbertModel, "training": AlbertForMaskedLM}
# What each peer can do, and in which dtypes.
PEERS_OF = {"forward": ("transformers", "onnxruntime"), "training": ("transformers",)}
SEED = 0


def able_peers(work, run):
    """Those of the run's peers that can do a work: ONNX Runtime runs float32, and forward."""
    able = PEERS_OF[work] if run.dtype == "float32" else ("transformers",)
    return [name for name in run.peers if name in able]


def contenders_of(work, batch, run):
    """Ours and the peers. Forward's padding rows are in nobody's interest: ours packs them away.

    A loss does not depend on them, so ours packs a batch for `training` unasked.
    """
    is_padded = "attention_mask" in batch.arrays
    arguments = {"packed": True} if is_padded and work == "forward" else {}
    return run.contenders(able_peers(work, run), **arguments)


def measure(work, config, batch, run):
    """One work on one batch.

    Parameters
    ----------
    work : {"forward", "training"}
    config : AlbertConfig
    batch : Batch
    run : Run

    Returns
    -------
    dict
        Of `compare`, with the model's and the batch's sizes.
    """
    _, sequence_length = batch.shape
    labelled = batch.labelled if work == "training" else None
    needed = model_work(config, batch.lengths, sequence_length, run.dtype, labelled)
    model = CLASSES[work](config, seed=SEED)
    arrays = batch.arrays if work == "training" else without_labels(batch.arrays)
    small = random_batch(config, 1, 2).arrays
    warm_up = small if work == "training" else without_labels(small)
    with written(arrays, warm_up, model) as files:
        contenders = contenders_of(work, batch, run)
        results = compare(work, contenders, needed, files, arrays, run)
    return {
        "hidden_size": config.hidden_size,
        "layers": config.num_hidden_layers,
        **batch.case,
        **results,
    }


def without_labels(arrays):
    return {name: array for name, array in arrays.items() if name != "labels"}


def steps(work, batches, run):
    """How many steps `measure` reports for so many batches."""
    return batches * run.steps(len(run.back_ends) + len(able_peers(work, run)))
