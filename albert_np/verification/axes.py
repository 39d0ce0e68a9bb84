"""What the axes of each tensor are, in words."""

from fnmatch import fnmatchcase

TOKENS = ("batch", "sequence")
SCORES = ("batch", "head", "query", "key")
HEADS = ("batch", "head", "sequence", "head_size")

# By the names of operations; the first pattern that fits counts.
FORWARD = (
    ("*chunks.*.ffn", ("batch", "chunk", "intermediate_size")),
    ("*chunks.*.activation*", ("batch", "chunk", "intermediate_size")),
    ("*chunks.*.ffn_output", ("batch", "chunk", "hidden_size")),
    ("*layers.*.split.*", ("batch", "chunk", "hidden_size")),
    ("*embeddings.*", (*TOKENS, "embedding_size")),
    ("*layers.*.attention.query_key_value", (*TOKENS, "query_key_value")),
    ("*attention.self.split_heads.*", HEADS),
    ("*attention.self.context", HEADS),
    ("*attention.self.merge_heads", (*TOKENS, "head_and_head_size")),
    ("*attention.self.distance_embedding", ("query", "key", "head_size")),
    ("*attention.self.*", SCORES),
    ("*layers.*.ffn", (*TOKENS, "intermediate_size")),
    ("*layers.*.activation*", (*TOKENS, "intermediate_size")),
    ("*encoder.*", (*TOKENS, "hidden_size")),
    ("*pooler.*", ("batch", "hidden_size")),
    ("predictions.decoder", (*TOKENS, "vocab_size")),
    ("*loss", ()),
    ("predictions.*", (*TOKENS, "embedding_size")),
    ("sop_classifier.classifier", ("batch", "order")),
    ("qa_outputs.linear", (*TOKENS, "end")),
    ("qa_outputs.*", TOKENS),
    ("reshape", ("question", "choice")),
)
# What classifies tokens has their axis; what classifies texts or choices has not.
CLASSIFIER = {"classifier": "label", "dropout": "hidden_size"}

PARAMETERS = (
    ("*word_embeddings.weight", ("vocab_size", "embedding_size")),
    ("*position_embeddings.weight", ("position", "embedding_size")),
    ("*token_type_embeddings.weight", ("token_type", "embedding_size")),
    ("*embeddings.LayerNorm.*", ("embedding_size",)),
    ("*embedding_hidden_mapping_in.weight", ("hidden_size", "embedding_size")),
    ("*attention.distance_embedding.weight", ("distance", "head_size")),
    ("*attention.dense.weight", ("hidden_size", "head_and_head_size")),
    ("*attention.dense.bias", ("hidden_size",)),
    ("*attention.LayerNorm.*", ("hidden_size",)),
    ("*attention.*.weight", ("head_and_head_size", "hidden_size")),
    ("*attention.*.bias", ("head_and_head_size",)),
    ("*ffn.weight", ("intermediate_size", "hidden_size")),
    ("*ffn.bias", ("intermediate_size",)),
    ("*ffn_output.weight", ("hidden_size", "intermediate_size")),
    ("*pooler.weight", ("hidden_size_out", "hidden_size")),
    ("predictions.bias", ("vocab_size",)),
    ("predictions.dense.weight", ("embedding_size", "hidden_size")),
    ("predictions.*", ("embedding_size",)),
    ("sop_classifier.classifier.weight", ("order", "hidden_size")),
    ("sop_classifier.classifier.bias", ("order",)),
    ("classifier.weight", ("label", "hidden_size")),
    ("classifier.bias", ("label",)),
    ("qa_outputs.weight", ("end", "hidden_size")),
    ("qa_outputs.bias", ("end",)),
    ("*", ("hidden_size",)),
)

OUTPUTS = {
    "loss": (),
    "last_hidden_state": (*TOKENS, "hidden_size"),
    "pooler_output": ("batch", "hidden_size"),
    "prediction_logits": (*TOKENS, "vocab_size"),
    "sop_logits": ("batch", "order"),
    "start_logits": TOKENS,
    "end_logits": TOKENS,
}
LOGITS = {
    "AlbertForMaskedLM": (*TOKENS, "vocab_size"),
    "AlbertForSequenceClassification": ("batch", "label"),
    "AlbertForTokenClassification": (*TOKENS, "label"),
    "AlbertForMultipleChoice": ("question", "choice"),
}
LABELS = {
    "AlbertForMaskedLM": TOKENS,
    "AlbertForPreTraining": TOKENS,
    "AlbertForTokenClassification": TOKENS,
    "AlbertForMultipleChoice": ("question",),
}


def axes_of(case, name, ndim):
    """The axes of a tensor, in words.

    A word stands for one size throughout a case, but for "batch": with several choices for each
    question, the rows of the batch are the choices, one question's after another's.

    Parameters
    ----------
    case : Case
    name : str
        One of the names of `albert_np.verification.reference`.
    ndim : int
        How many axes it has.

    Returns
    -------
    tuple of str
    """
    part, _, rest = name.partition("/")
    if name == "gradients/inputs_embeds":
        return (*_of_tokens(case), "embedding_size")
    if part in ("parameters", "gradients"):
        return _first(PARAMETERS, rest)
    if part in ("forward", "backward"):
        return _of_operation(case, rest, ndim)
    if part == "outputs" or rest.startswith("gradient_of."):
        output = rest.removeprefix("gradient_of.")
        return OUTPUTS.get(output) or (() if output == "loss" else LOGITS[_class(case)])
    return _of_input(case, rest, ndim)


def _of_operation(case, name, ndim):
    if name in CLASSIFIER or name.startswith("sop_classifier.dropout"):
        last = CLASSIFIER.get(name.removeprefix("sop_classifier."))
        return (*TOKENS, last) if ndim == 3 else ("batch", last)
    return _first(FORWARD, name)


def _of_input(case, name, ndim):
    if name == "seed":
        return ()
    if name == "head_mask":
        return ("layer", "head")[-ndim:]
    if name == "inputs_embeds":
        return (*_of_tokens(case), "embedding_size")
    if name == "labels":
        return LABELS.get(_class(case), ("batch", "label")[:ndim])
    if name in ("sentence_order_label", "start_positions", "end_positions"):
        return ("batch",)
    if name == "position_ids" and ndim == 2:
        return TOKENS
    leading = _of_tokens(case)[:-1]
    if name == "attention_mask" and ndim > len(leading) + 1:
        return (*leading, *("head", "query", "key")[len(leading) - ndim :])
    return _of_tokens(case)


def _of_tokens(case):
    if _class(case) == "AlbertForMultipleChoice":
        return ("question", "choice", "sequence")
    return TOKENS


def _class(case):
    return case.model_class.__name__


def _first(patterns, name):
    return next(axes for pattern, axes in patterns if fnmatchcase(name, pattern))
