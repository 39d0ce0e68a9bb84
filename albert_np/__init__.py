"""ALBERT in NumPy, forward and backward, written out by hand."""

import os
from importlib import import_module

# After a matrix product OpenBLAS's threads wait for the next one by spinning, for 0.1 s unless told
# otherwise, and a kernel that runs then has half of the machine. 2¹⁸ cycles, 0.1 ms, cover the gaps
# between products. Read when NumPy is imported; of no effect if it was before.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")

__version__ = "0.1.0"

# Each public name and the module that it lives in, imported when the name is first used:
# `albert-np --help` needs none of them, and they take a second.
_MODULES = {
    "AlbertConfig": "config",
    "AlbertForMaskedLM": "models",
    "AlbertForMultipleChoice": "models",
    "AlbertForPreTraining": "models",
    "AlbertForQuestionAnswering": "models",
    "AlbertForSequenceClassification": "models",
    "AlbertForTokenClassification": "models",
    "AlbertModel": "models",
    "AlbertTokenizer": "tokenization",
    "AlbertTokenizerFast": "tokenization",
    "set_threads": "threads",
}

__all__ = list(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return [*globals(), *_MODULES]
