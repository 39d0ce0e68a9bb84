"""From text to answers: a model and its tokenizer at work.

Each task has two functions. One (`classify`, say) gives results nested as Hugging Face's pipeline
of the task nests them, which depends on how the texts were given; the other (`predict_labels`) is
an iterator over texts that gives every result in one shape, as the model gets to it.
"""

from albert_np.pipelines.answering import answer, predict_answers
from albert_np.pipelines.batches import BATCH_SIZE
from albert_np.pipelines.classification import classify, predict_labels
from albert_np.pipelines.embedding import embed, predict_embeddings
from albert_np.pipelines.masks import fill_mask, predict_masks
from albert_np.pipelines.tagging import predict_tags, tag
from albert_np.pipelines.zero_shot import classify_zero_shot, predict_choices

__all__ = [
    "BATCH_SIZE",
    "answer",
    "classify",
    "classify_zero_shot",
    "embed",
    "fill_mask",
    "predict_answers",
    "predict_choices",
    "predict_embeddings",
    "predict_labels",
    "predict_masks",
    "predict_tags",
    "tag",
]
