"""ALBERT in NumPy, forward and backward, written out by hand."""

from albert_np.config import AlbertConfig
from albert_np.models import AlbertForMaskedLM, AlbertForPreTraining, AlbertModel
from albert_np.tokenization import AlbertTokenizer

__version__ = "0.1.0"

__all__ = [
    "AlbertConfig",
    "AlbertForMaskedLM",
    "AlbertForPreTraining",
    "AlbertModel",
    "AlbertTokenizer",
]
