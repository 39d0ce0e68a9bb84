"""The whole model on a GPU: ours, and transformers' on PyTorch, eager and compiled."""

from functools import partial
from typing import NamedTuple

import numpy as np

from albert_np import AlbertConfig
from albert_np.config import SIZES
from benchmarks import model
from benchmarks.batches import random_batch
from benchmarks.contenders import ours
from benchmarks.correct import errors_of, rounding_backend
from benchmarks.cuda.contenders import OURS, missing
from benchmarks.measure import written
from benchmarks.work import model_work

# The latency of one sentence; batches that fill the GPU; the largest size.
CASES = (
    ("forward", "base", 1, 128),
    ("forward", "base", 32, 512),
    ("forward", "xxlarge", 1, 128),
    ("training", "base", 8, 512),
    ("training", "xxlarge", 2, 128),
)
DTYPE = "bfloat16"
COMPILED = {
    "transformers": None,
    "transformers, compiled": "default",
    "transformers, compiled to graphs": "reduce-overhead",
}


class ModelCase(NamedTuple):
    """`AlbertModel` forward, or the loss of `AlbertForMaskedLM` with all its gradients."""

    work_name: str
    size: str
    config: AlbertConfig
    batch_size: int
    sequence_length: int
    dtype: str

    @property
    def batch(self):
        return random_batch(self.config, self.batch_size, self.sequence_length)

    @property
    def work(self):
        """`benchmarks.work.Work`, what one call needs."""
        batch = self.batch
        labelled = batch.labelled if self.work_name == "training" else None
        return model_work(self.config, batch.lengths, self.sequence_length, self.dtype, labelled)

    @property
    def named(self):
        """What a record of results says of the case."""
        needed = self.work
        return {
            "work": self.work_name,
            "detail": self.dtype,
            "dtype": self.dtype,
            "size": self.size,
            "layers": self.config.num_hidden_layers,
            "layers_of_size": self.config.num_hidden_layers,
            "hidden_size": self.config.hidden_size,
            **self.batch.case,
            "operations": needed.operations,
            "padded_operations": needed.padded_operations,
            "bytes": needed.bytes,
        }


def model_cases():
    """The cases, in the order of measurement."""
    return [
        ModelCase(work, size, AlbertConfig(**SIZES[size]), *shape, DTYPE)
        for work, size, *shape in CASES
    ]


def rounded(weights, dtype):
    """The weights' values as the type has them, so that everyone is given the same ones."""
    for array in weights.values():
        array[...] = array.astype(dtype)


def settings_of(case, files, **own):
    return files | {"work": case.work_name, "dtype": case.dtype, "arguments": {}} | own


def host_task(case, files, **own):
    """The model on the CPU."""
    return ours.load(settings_of(case, files, **own))(inputs(case))


def inputs(case):
    arrays = case.batch.arrays
    return arrays if case.work_name == "training" else model.without_labels(arrays)


def bind_ours(case, files, machine, captured=False):
    """Our model on the machine's back end, the ids already there; or recorded as a CUDA graph."""
    backend = machine.backend()
    arrays = backend.arrays
    batch = {name: arrays.uploaded(array) for name, array in inputs(case).items()}
    settings = settings_of(case, files, backend=backend)
    task = ours.load(settings)(batch)
    if captured:
        loaded = ours.load_model(model.CLASSES[case.work_name], settings)
        recorded = loaded.capture(gradients=case.work_name == "training", **batch)
        task = task._replace(run=recorded)

    def outputs(returned):
        return {name: arrays.downloaded(each) for name, each in task.outputs(returned).items()}

    return task._replace(outputs=outputs)


def bind_transformers(case, files, machine, mode):
    from benchmarks.contenders import of_transformers

    settings = settings_of(case, files, device=machine.torch_device, compile=mode)
    return of_transformers.WORKS[case.work_name](settings)(inputs(case))


def contenders_of(case, files, machine):
    """Ours, the peers', each bound when it is called; and who of these is left out, and why."""
    own = {
        OURS: partial(bind_ours, case, files, machine),
        f"{OURS}, captured": partial(bind_ours, case, files, machine, captured=True),
    }
    absent = missing("torch", "transformers")
    if absent is not None:
        return own, {}, {"transformers": f"{absent} is not installed"}
    peers = {
        name: partial(bind_transformers, case, files, machine, mode)
        for name, mode in COMPILED.items()
    }
    return own, peers, {}


def reference_of(case, files):
    """The outputs of the reference in float64, and the noise floor of the type for each."""
    task = host_task(case, files, dtype="float64", backend="numpy")
    reference = {name: np.asarray(each) for name, each in task.outputs(task.run()).items()}
    backend = rounding_backend(case.dtype)
    task = host_task(case, files, dtype="float32", backend=backend)
    floor = {
        name: np.asarray(each).astype(case.dtype) for name, each in task.outputs(task.run()).items()
    }
    return reference, errors_of(floor, reference, case.dtype)


def files_of(case):
    """A context: the files that contenders read the same weights from."""
    drawn = model.CLASSES[case.work_name](case.config, seed=model.SEED)
    rounded(drawn.parameters, case.dtype)
    return written({}, {}, drawn)
