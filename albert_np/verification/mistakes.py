"""The known mistakes, as data: what each is, and what it puts in the place of which operations.

A new one is a few lines: a name, a sentence, and

- `at`, a regular expression for the end of the operations' names, and `change`, which is given the
  `Site` of each and runs something else there; or
- `schedule`, which changes the layer schedule; or
- `uses`, which changes what the gradient of a parameter is the sum of.

Gradients follow from forward by themselves (`rewriting.py`).
"""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from albert_np.functions.activations import gelu_forward, gelu_new_forward, relu_forward
from albert_np.functions.attention import attention_context_forward, mask_scores_forward
from albert_np.functions.bias import add_forward, bias_forward
from albert_np.functions.cross_entropy import IGNORE_INDEX, cross_entropy_forward
from albert_np.functions.layer_norm import layer_norm_forward
from albert_np.functions.select import select_forward
from albert_np.functions.softmax import softmax_forward
from albert_np.schedule import kept_heads
from albert_np.verification.pairs import (
    layer_norm_by_deviation_forward,
    rearrange_forward,
    scale_forward,
    shift_forward,
)


class Mistake(NamedTuple):
    """One known mistake.

    Attributes
    ----------
    name : str
    sentence : str
        What is wrong, for a reader who has made it.
    at : str
        A regular expression: the operations whose names end so are changed; "" for none.
    change : callable, optional
        Site → (y, cache).
    schedule : callable, optional
        Layer schedule → layer schedule.
    uses : callable, optional
        (name of a parameter, [(operation, gradient), …] in forward order) → what is summed.
    """

    name: str
    sentence: str
    at: str = ""
    change: Callable = None
    schedule: Callable = None
    uses: Callable = None

    def is_at(self, name):
        """Whether the mistake is made at the operation of this name."""
        return bool(self.at) and re.search(rf"(^|\.)({self.at})$", name) is not None

    def touches(self, name):
        """Whether the mistake changes the operation of this name, or one that it is a part of."""
        parts = name.split(".")
        return any(self.is_at(".".join(parts[:i])) for i in range(1, len(parts) + 1))


LAYER = r"layers\.\d+"
SCORES = r"attention\.self\.scores"
MASK = r"attention\.self\.mask"
SPLIT = r"attention\.self\.split_heads"
QUERY_KEY_VALUE = r"attention\.query_key_value"

LAYER_NORMS = {
    "": ("", r"LayerNorm|layer_norm"),
    "_in_embeddings": (" of the embeddings", r"embeddings\.LayerNorm"),
    "_in_layers": (" of the layers", rf"{LAYER}\.(attention\.)?output\.layer_norm"),
    "_in_attention": (" after attention", rf"{LAYER}\.attention\.output\.layer_norm"),
    "_in_feed_forward": (" after the feed-forward network", rf"{LAYER}\.output\.layer_norm"),
    "_in_head": (" of the head", r"predictions\.LayerNorm"),
}
ACTIVATIONS = {
    "": ("", r"activation\.\w+(?<!bias)"),
    "_in_layers": (" in the layers", rf"{LAYER}\.(.+\.)?activation\.\w+(?<!bias)"),
    "_in_head": (" in the head", r"predictions\.activation\.\w+(?<!bias)"),
}
# Of each linear map, where its bias is added, and where its weight is used if it may be square.
LINEAR_MAPS = {
    "embedding_projection": (
        "the embedding projection",
        r"embedding_hidden_mapping_in",
        r"embedding_hidden_mapping_in",
    ),
    "query_key_value": ("query, key and value", QUERY_KEY_VALUE, None),  # each weight has its own
    "attention_dense": (
        "attention's dense layer",
        r"attention\.output\.bias",
        r"attention\.dense",
    ),
    "ffn": (
        "the feed-forward network's first layer",
        rf"{LAYER}\.(.+\.)?activation\.bias",
        r"ffn",
    ),
    "ffn_output": (
        "the feed-forward network's second layer",
        rf"{LAYER}\.output\.bias",
        r"ffn_output",
    ),
    "pooler": ("the pooler", r"pooler\.linear", r"pooler\.linear"),
    "head_dense": (
        "the head's dense layer",
        r"predictions\.activation\.bias",
        r"predictions\.dense",
    ),
    "decoder": ("the decoder", r"predictions\.decoder", None),
    "classifier": ("the classifier", r"classifier|qa_outputs\.linear", None),
}
LOSSES = {
    "": ("loss", r"loss"),
    "_of_words": ("loss of the masked words", r"predictions\.loss"),
    "_of_order": ("loss of the sentences' order", r"sop_classifier\.loss"),
}
EPSILONS = ("1e-3", "1e-5", "1e-6", "1e-7", "1e-8", "1e-12")


# ── activations and layer norms ─────────────────────────────────────────────────────────────────


def activation_of(forward):
    """Another activation."""
    return lambda site: site.replace(forward, site.arguments["x"])


def layer_norm_with(eps):
    """Another eps."""
    return lambda site: site.run(eps=eps)


def layer_norm_of_sample_variance(site):
    """The variance divided by N − 1: as if eps and the weight squared were (N − 1)/N of theirs."""
    N = site.arguments["weight"].size
    share = (N - 1) / N
    weight = site.step("weight", scale_forward, site.arguments["weight"], math.sqrt(share))
    return site.run(weight=weight, eps=site.arguments["eps"] * share)


def layer_norm_by_deviation(site):
    return site.replace(layer_norm_by_deviation_forward, **site.arguments)


def without_input(name):
    """The operation is left out, and its input of that name goes through."""
    return lambda site: site.keep(site.arguments[name])


def normalized_first(site):
    """Layer norm of what enters attention and the feed-forward network, not of what leaves them."""
    if site.name.endswith("query_key_value"):
        return site.run(x=_norm_before(site, "attention.output", "attention.LayerNorm"))
    if site.name.endswith("ffn"):
        return site.run(x=_norm_before(site, "output", "full_layer_layer_norm"))
    return site.arguments["x"], None


def _norm_before(site, name, parameter):
    p = site.layer
    prefix = re.search(rf"^.*{LAYER}", site.name)[0]
    y, _ = site.whole.record_as_it_is(
        f"{prefix}.{name}.layer_norm",
        layer_norm_forward,
        site.arguments["x"],
        p[f"{parameter}.weight"],
        p[f"{parameter}.bias"],
        site.whole.config.layer_norm_eps,
    )
    return y


def residual_after_norm(site):
    """y = x + layer_norm(f(x) + b), where y = layer_norm(x + f(x) + b) should be."""
    a = site.arguments
    record = site.whole.record
    biased, _ = record(f"{site.name}.bias", bias_forward, a["x"], a["bias"])
    normed, _ = record(
        f"{site.name}.layer_norm", layer_norm_forward, biased, a["weight"], a["shift"], a["eps"]
    )
    return record(f"{site.name}.add", add_forward, a["residual"], normed)


def without_bias(site):
    """A linear map, or the sum with a bias that stands for the end of one, without its bias."""
    if site.function is bias_forward:
        return site.keep(site.arguments["x"])
    return site.run(bias=None)


def transposed_weight(site):
    """A square weight, stored as it should be, is used the other way round."""
    M, N = site.arguments["weight"].shape
    return site.moved(weight=np.transpose) if M == N else site.run()


def third_moved(index, how):
    """One third of the stacked weight of query, key and value, moved by a function."""

    def moved(weight):
        thirds = np.split(weight, 3)
        thirds[index] = how(thirds[index])
        return np.concatenate(thirds)

    return moved


def transposed_third(index):
    return lambda site: site.moved(weight=third_moved(index, np.transpose))


# ── attention ───────────────────────────────────────────────────────────────────────────────────


def scores_times(factor_of):
    """Scores multiplied by a function of H and D, on top of their 1/√D."""

    def change(site):
        _, heads, _, D = site.arguments["query"].shape
        H = site.whole.config.hidden_size
        return site.scaled(factor_of(H, D))

    return change


def _over_scores(attention_mask):
    """A mask, (B, S) or with more axes, as it broadcasts against scores, (B, A, S, S)."""
    return attention_mask[:, None, None, :] if attention_mask.ndim == 2 else attention_mask


def mask_multiplied(site):
    mask = _over_scores(site.arguments["attention_mask"])
    return site.replace(scale_forward, site.arguments["scores"], (mask,))


def mask_added(site, attended, masked):
    """Constants added to the scores of keys that are attended to, and of those that are masked."""
    mask = _over_scores(site.arguments["attention_mask"])
    constant = np.where(mask, float(attended), float(masked))
    return site.replace(shift_forward, site.arguments["scores"], (constant,))


def mask_after_softmax(change):
    """The mask is no part of the scores, and meets the probabilities."""

    def after(site):
        whole = site.whole
        if site.function is mask_scores_forward:
            whole.pending_mask = _over_scores(site.arguments["attention_mask"])
            return site.arguments["scores"], None
        if whole.pending_mask is None:
            return site.run()
        probabilities, _ = site.run()
        name = f"{site.name.removesuffix('softmax')}mask"
        return whole.record_as_it_is(name, *change(probabilities, whole.pending_mask))

    return after


def softmax_over_queries(site):
    """Probabilities that sum to 1 over the queries of a key, not over the keys of a query."""
    x = site.step("moved_x", rearrange_forward, site.arguments["x"], _swapped)
    y = site.step("over_queries", softmax_forward, x)
    return site.replace(rearrange_forward, y, _swapped)


def _swapped(x):
    return x.swapaxes(-1, -2)


def heads_interleaved(query_key_value, num_attention_heads):
    """Entry d of head a is taken from place d·A + a of a projection, where a·D + d is right."""
    B, S, width = query_key_value.shape
    A = num_attention_heads
    return query_key_value.reshape(B, S, 3, width // 3 // A, A).swapaxes(3, 4).reshape(B, S, width)


def split_interleaved(site):
    A = site.arguments["num_attention_heads"]
    return site.moved(query_key_value=lambda x: heads_interleaved(x, A))


def merge_interleaved(site):
    """Context (B, A, S, D) → (B, S, D·A)."""
    return site.replace(rearrange_forward, site.arguments["x"], _merged_interleaved)


def _merged_interleaved(x):
    B, A, S, D = x.shape
    return x.transpose(0, 2, 3, 1).reshape(B, S, D * A)


def merge_without_transpose(site):
    return site.replace(rearrange_forward, site.arguments["x"], _merged_as_it_lies)


def _merged_as_it_lies(x):
    B, A, S, D = x.shape
    return x.reshape(B, S, A * D)


def interleaved_throughout(site):
    return merge_interleaved(site) if "x" in site.arguments else split_interleaved(site)


def projections_in_order(order):
    """The three projections taken in another order."""

    def taken(x):
        thirds = np.split(x, 3, axis=-1)
        return np.concatenate([thirds[i] for i in order], axis=-1)

    return lambda site: site.moved(query_key_value=taken)


def head_mask_row(row_of):
    """The head mask's row of another layer: (config, repetition) → its number, None for no mask."""

    def change(site):
        row = row_of(site.whole.config, site.repetition)
        if row is None:
            return site.keep(site.arguments["probabilities"])
        rows = site.whole.batch.head_mask
        if row >= len(rows):  # which no implementation can take
            return site.run()
        return site.run(head_mask=rows[row, kept_heads(site.whole.config, site.repetition.place)])

    return change


def row_of_group(config, repetition):
    """The inner layer's row of the rows that a group begins with."""
    group, inner = repetition.place
    layers_per_group = int(config.num_hidden_layers / config.num_hidden_groups)
    return group * layers_per_group + inner


def distances_reversed(site):
    return site.run(ids=site.arguments["ids"].T)


def divided_by_root_of_head_size(site):
    *_, D = site.arguments["distances"].shape
    return site.scaled(1 / math.sqrt(D))


# ── embeddings ──────────────────────────────────────────────────────────────────────────────────


def ids_of(function):
    """Other rows looked up: (ids, attention mask, config) → ids."""

    def change(site):
        ids = site.arguments["ids"]
        mask = site.whole.batch.attention_mask
        mask = np.ones(ids.shape, bool) if mask is None or mask.ndim > 2 else mask
        rows, _ = site.arguments["weight"].shape
        return site.run(ids=np.clip(function(ids, mask, site.whole.config), 0, rows - 1))

    return change


def words_scaled(site):
    _, E = site.arguments["weight"].shape
    return site.scaled(math.sqrt(E))


# ── structure ───────────────────────────────────────────────────────────────────────────────────


def groups_by(group_of):
    """Another group for each layer: (layer, number of layers, number of groups) → group."""

    def schedule(layers):
        groups = 1 + max(group for layer in layers for group, _ in layer)
        return tuple(
            tuple((group_of(i, len(layers), groups), inner) for _, inner in layer)
            for i, layer in enumerate(layers)
        )

    return schedule


def inner_layers_of_each_in_turn(layers):
    """All layers by their first inner layer, then all by their second, and so on."""
    flat = [place for turn in zip(*layers, strict=True) for place in turn]
    return tuple(
        tuple(flat[i * len(layer) : (i + 1) * len(layer)]) for i, layer in enumerate(layers)
    )


# ── heads ───────────────────────────────────────────────────────────────────────────────────────


def mean_of_tokens(site):
    """The mean of all tokens, where the first one is right."""
    x = site.arguments["x"]
    B, S, _ = x.shape
    weights = np.full_like(x, 1 / S, shape=(B, 1, S))
    mean = site.step("mean", attention_context_forward, weights, x)  # (B, 1, H)
    return site.replace(select_forward, mean, (slice(None), 0))


def ends_exchanged(site):
    ellipsis, column = site.arguments["index"]
    return site.run(index=(ellipsis, 1 - column))


def positions_clamped(site):
    end = site.name.split(".")[-2]
    positions = np.asarray(site.whole.inputs[f"{end}_positions"])
    return site.run(labels=np.where(positions < 0, 0, site.arguments["labels"]))


def choices_in_another_order(site):
    _, C = site.arguments["shape"]
    return site.output_moved(lambda y: y.reshape(C, -1).T)


def _count(labels):
    return int((labels != IGNORE_INDEX).sum())


def loss_times(factor_of):
    """A loss of labels multiplied by a function of them."""

    def change(site):
        if "labels" not in site.arguments:  # a sum or a mean of losses
            return site.run()
        return site.scaled(factor_of(site.arguments["labels"]))

    return change


def mean_of_means(site):
    """The mean over sentences of the mean over each one's labelled positions."""
    if site.function is not cross_entropy_forward or site.arguments["labels"].ndim < 2:
        return site.run()
    logits, labels = site.arguments["logits"], site.arguments["labels"]
    sentences = [s for s in range(len(labels)) if _count(labels[s])]
    total = None
    for s in sentences:
        row = site.step(f"rows.{s}", select_forward, logits, (s,))
        loss = site.step(f"losses.{s}", cross_entropy_forward, row, labels[s])
        total = loss if total is None else site.step(f"sums.{s}", add_forward, total, loss)
    return site.replace(scale_forward, total, 1 / len(sentences))


def labels_changed(function):
    """Other labels of a cross-entropy: labels → labels."""

    def change(site):
        if site.function is not cross_entropy_forward:
            return site.run()
        return site.run(labels=function(site.arguments["labels"]))

    return change


def labels_of_the_next(labels):
    """Each position is asked for the label of the next one, as a causal model is."""
    if labels.ndim < 2:
        return labels
    nothing = np.full_like(labels[:, :1], IGNORE_INDEX)
    return np.concatenate([labels[:, 1:], nothing], axis=1)


def total_loss(change):
    """A change of the sum of two losses; a loss of another function stays."""
    return lambda site: change(site) if site.function is add_forward else site.run()


# ── gradients ───────────────────────────────────────────────────────────────────────────────────


def of_repetitions(combine):
    """A shared parameter's gradient made otherwise of what its repetitions contribute."""

    def uses_of(parameter, uses):
        if "albert_layer_groups" not in parameter:
            return uses
        by_repetition = {}
        for name, gradient in uses:
            repetition = re.search(LAYER, name)[0]
            by_repetition[repetition] = by_repetition.get(repetition, 0) + gradient
        return list(combine(list(by_repetition.items())))

    return uses_of


def averaged(uses):
    return [(name, gradient / len(uses)) for name, gradient in uses]


def words_without(end):
    """What the operations whose names end so add to the word embedding's gradient is left out."""

    def uses_of(parameter, uses):
        if not parameter.endswith("word_embeddings.weight"):
            return uses
        return [use for use in uses if not use[0].endswith(end)]

    return uses_of


def _families():
    """The mistakes that are made alike at several places."""
    for place, (words, at) in LAYER_NORMS.items():
        for eps in EPSILONS:
            yield Mistake(
                f"layer_norm_eps_{eps}{place}",
                f"The layer norm{words} has eps {eps}.",
                at,
                layer_norm_with(float(eps)),
            )
        yield Mistake(
            f"layer_norm_sample_variance{place}",
            f"The variance of the layer norm{words} is divided by n − 1, not by n.",
            at,
            layer_norm_of_sample_variance,
        )
        yield Mistake(
            f"layer_norm_eps_on_deviation{place}",
            f"The eps of the layer norm{words} is added to the deviation, not to the variance.",
            at,
            layer_norm_by_deviation,
        )
        yield Mistake(
            f"layer_norm_missing{place}",
            f"The layer norm{words} is missing.",
            at,
            without_input("x"),
        )
    for place, (words, at) in ACTIVATIONS.items():
        for name, what, forward in (
            ("gelu_exact", "gelu by the error function", gelu_forward),
            ("gelu_tanh", "gelu by tanh", gelu_new_forward),
            ("relu", "relu", relu_forward),
        ):
            yield Mistake(
                f"activation_{name}{place}",
                f"The activation{words} is {what}.",
                at,
                activation_of(forward),
            )
        yield Mistake(
            f"activation_missing{place}",
            f"The activation{words} is missing.",
            at,
            without_input("x"),
        )
    for place, (words, of_bias, of_weight) in LINEAR_MAPS.items():
        yield Mistake(
            f"{place}_bias_missing", f"The bias of {words} is missing.", of_bias, without_bias
        )
        if of_weight is not None:
            yield Mistake(
                f"{place}_weight_transposed",
                f"The weight of {words} is transposed.",
                of_weight,
                transposed_weight,
            )
    for place, (words, at) in LOSSES.items():
        for name, what, change in (
            (
                "over_all_positions",
                "averaged over all positions, not over the labelled ones",
                loss_times(lambda labels: _count(labels) / labels.size),
            ),
            (
                "over_sentences",
                "a sum divided by the number of sentences, not of labelled positions",
                loss_times(lambda labels: _count(labels) / len(labels)),
            ),
            (
                "mean_of_sentences",
                "averaged over each sentence's labelled positions, then over sentences",
                mean_of_means,
            ),
            ("summed", "a sum, not a mean", loss_times(_count)),
            (
                "with_ignored_labels",
                "that of positions labelled −100 too, which are taken for labelled 0",
                labels_changed(lambda labels: np.where(labels == IGNORE_INDEX, 0, labels)),
            ),
            (
                "of_the_next_labels",
                "that of the next position's labels, as a causal model's is",
                labels_changed(labels_of_the_next),
            ),
        ):
            yield Mistake(f"loss_{name}{place}", f"The {words} is {what}.", at, change)
    for index, part in enumerate(("query", "key", "value")):
        yield Mistake(
            f"{part}_weight_transposed",
            f"The weight of the {part} is transposed.",
            QUERY_KEY_VALUE,
            transposed_third(index),
        )


MISTAKES = (
    *_families(),
    Mistake(
        "layer_norm_before",
        "Layer norm stands before attention and the feed-forward network, not after them.",
        rf"{QUERY_KEY_VALUE}|{LAYER}\.ffn|{LAYER}\.(attention\.)?output\.layer_norm",
        normalized_first,
    ),
    Mistake(
        "residual_after_layer_norm",
        "The residual is added to the output of the layer norm, not to its input.",
        rf"{LAYER}\.(attention\.)?output",
        residual_after_norm,
    ),
    Mistake(
        "attention_residual_missing",
        "Attention has no residual connection.",
        rf"{LAYER}\.attention\.output\.add",
        without_input("b"),
    ),
    Mistake(
        "feed_forward_residual_missing",
        "The feed-forward network has no residual connection.",
        rf"{LAYER}\.output\.add",
        without_input("b"),
    ),
    Mistake(
        "scores_unscaled",
        "The scores are not divided by the root of the head size.",
        SCORES,
        scores_times(lambda H, D: math.sqrt(D)),
    ),
    Mistake(
        "scores_scaled_by_hidden_size",
        "The scores are divided by the root of the hidden size, not of the head size.",
        SCORES,
        scores_times(lambda H, D: math.sqrt(D / H)),
    ),
    Mistake(
        "scores_scaled_by_head_size",
        "The scores are divided by the head size, not by its root.",
        SCORES,
        scores_times(lambda H, D: 1 / math.sqrt(D)),
    ),
    Mistake(
        "query_key_exchanged",
        "Query and key are exchanged.",
        SPLIT,
        projections_in_order((1, 0, 2)),
    ),
    Mistake(
        "key_value_exchanged",
        "Key and value are exchanged.",
        SPLIT,
        projections_in_order((0, 2, 1)),
    ),
    Mistake(
        "query_value_exchanged",
        "Query and value are exchanged.",
        SPLIT,
        projections_in_order((2, 1, 0)),
    ),
    Mistake(
        "heads_interleaved",
        "The heads are split interleaved (entry d of head a at d·A + a), and merged end to end.",
        SPLIT,
        split_interleaved,
    ),
    Mistake(
        "heads_interleaved_throughout",
        "The heads are split and merged interleaved (entry d of head a at d·A + a).",
        r"attention\.self\.(split_heads|merge_heads)",
        interleaved_throughout,
    ),
    Mistake(
        "heads_merged_untransposed",
        "The heads' outputs are reshaped without being brought side by side first.",
        r"attention\.self\.merge_heads",
        merge_without_transpose,
    ),
    Mistake(
        "mask_ignored",
        "The attention mask is ignored.",
        MASK,
        without_input("scores"),
    ),
    Mistake(
        "mask_inverted",
        "The attention mask is inverted.",
        MASK,
        lambda site: site.run(attention_mask=~site.arguments["attention_mask"]),
    ),
    Mistake(
        "mask_multiplied",
        "The scores are multiplied by the attention mask.",
        MASK,
        mask_multiplied,
    ),
    Mistake(
        "mask_not_converted",
        "The attention mask of 1 and 0 is itself added to the scores.",
        MASK,
        partial(mask_added, attended=1, masked=0),
    ),
    Mistake(
        "mask_of_minus_1",
        "Masked scores are lowered by 1.",
        MASK,
        partial(mask_added, attended=0, masked=-1),
    ),
    Mistake(
        "mask_of_minus_10000",
        "Masked scores are lowered by 10 000, not by the lowest number.",
        MASK,
        partial(mask_added, attended=0, masked=-10_000),
    ),
    Mistake(
        "mask_added_after_softmax",
        "The attention mask, of −10 000, is added to the probabilities, after the softmax.",
        r"attention\.self\.(mask|softmax)",
        mask_after_softmax(lambda p, mask: (shift_forward, p, (np.where(mask, 0.0, -10_000.0),))),
    ),
    Mistake(
        "mask_multiplied_after_softmax",
        "The probabilities are multiplied by the attention mask, and no longer sum to 1.",
        r"attention\.self\.(mask|softmax)",
        mask_after_softmax(lambda p, mask: (scale_forward, p, (mask,))),
    ),
    Mistake(
        "softmax_over_queries",
        "The softmax is taken over the queries, not over the keys.",
        r"attention\.self\.softmax",
        softmax_over_queries,
    ),
    Mistake(
        "head_mask_ignored",
        "The head mask is ignored.",
        r"attention\.self\.mask_heads",
        head_mask_row(lambda config, repetition: None),
    ),
    Mistake(
        "head_mask_by_group",
        "A layer meets the head mask's row of its group's first layer, not its own.",
        r"attention\.self\.mask_heads",
        head_mask_row(row_of_group),
    ),
    Mistake(
        "distances_reversed",
        "Relative positions are those of key to query, j − i, not i − j.",
        r"attention\.self\.distance_embedding",
        distances_reversed,
    ),
    Mistake(
        "distance_scores_scaled",
        "The scores of relative positions are divided by the root of the head size too.",
        r"attention\.self\.(query|key)_distance_scores",
        divided_by_root_of_head_size,
    ),
    Mistake(
        "distance_scores_ignored",
        "The scores of relative positions are ignored.",
        r"attention\.self\.add_(query|key)_distance_scores",
        without_input("a"),
    ),
    Mistake(
        "key_distance_scores_ignored",
        "Keys do not meet the relative positions, though they should as queries do.",
        r"attention\.self\.add_key_distance_scores",
        without_input("a"),
    ),
    Mistake(
        "token_types_ignored",
        "The token type embeddings are not added.",
        r"embeddings\.add_token_type",
        without_input("a"),
    ),
    Mistake(
        "token_types_all_0",
        "All token types are taken for 0.",
        r"embeddings\.token_type_embeddings",
        ids_of(lambda ids, mask, config: 0 * ids),
    ),
    Mistake(
        "positions_ignored",
        "The position embeddings are not added.",
        r"embeddings\.add_position",
        without_input("a"),
    ),
    Mistake(
        "positions_all_0",
        "All positions are taken for 0.",
        r"embeddings\.position_embeddings",
        ids_of(lambda ids, mask, config: 0 * ids),
    ),
    Mistake(
        "positions_without_padding",
        "Positions are counted over real tokens, so that left padding moves them.",
        r"embeddings\.position_embeddings",
        ids_of(lambda ids, mask, config: mask.cumsum(axis=1) - 1),
    ),
    Mistake(
        "positions_after_padding_id",
        "Positions are counted over real tokens from pad_token_id + 1, as RoBERTa's are.",
        r"embeddings\.position_embeddings",
        ids_of(lambda ids, mask, config: mask.cumsum(axis=1) * mask + (config.pad_token_id or 0)),
    ),
    Mistake(
        "positions_from_1",
        "Positions are counted from 1, not from 0.",
        r"embeddings\.position_embeddings",
        ids_of(lambda ids, mask, config: ids + 1),
    ),
    Mistake(
        "positions_from_2",
        "Positions are counted from 2, not from 0.",
        r"embeddings\.position_embeddings",
        ids_of(lambda ids, mask, config: ids + 2),
    ),
    Mistake(
        "word_embeddings_scaled",
        "The word embeddings are multiplied by the root of their width.",
        r"embeddings\.word_embeddings",
        words_scaled,
    ),
    Mistake(
        "groups_in_turn",
        "Layers fall to the groups in turn, not in consecutive shares.",
        schedule=groups_by(lambda i, layers, groups: i % groups),
    ),
    Mistake(
        "groups_reversed",
        "The groups run in reverse order.",
        schedule=groups_by(lambda i, layers, groups: groups - 1 - i * groups // layers),
    ),
    Mistake(
        "first_group_only",
        "All layers are of the first group.",
        schedule=groups_by(lambda i, layers, groups: 0),
    ),
    Mistake(
        "inner_layers_reversed",
        "The inner layers of a group run in reverse order.",
        schedule=lambda layers: tuple(layer[::-1] for layer in layers),
    ),
    Mistake(
        "first_inner_layer_only",
        "Only the first inner layer of each group runs.",
        schedule=lambda layers: tuple(layer[:1] for layer in layers),
    ),
    Mistake(
        "inner_layers_of_each_in_turn",
        "All layers run by their first inner layer, then all by their second, and so on.",
        schedule=inner_layers_of_each_in_turn,
    ),
    Mistake(
        "one_repetition_too_few",
        "The last repetition of the layer is missing.",
        schedule=lambda layers: layers[:-1] or layers,
    ),
    Mistake(
        "one_repetition_too_many",
        "The last repetition of the layer runs once more.",
        schedule=lambda layers: (*layers, layers[-1]),
    ),
    Mistake(
        "pooler_tanh_missing",
        "The pooler has no tanh.",
        r"pooler\.tanh",
        without_input("x"),
    ),
    Mistake(
        "pooler_skipped",
        "The first token's hidden state is taken for the pooled output.",
        r"pooler\.(linear|tanh)",
        without_input("x"),
    ),
    Mistake(
        "pooler_of_last_token",
        "The pooler takes the last token, not the first.",
        r"pooler\.first_token",
        lambda site: site.run(index=(slice(None), -1)),
    ),
    Mistake(
        "pooler_of_mean",
        "The pooler takes the mean of all tokens, not the first.",
        r"pooler\.first_token",
        mean_of_tokens,
    ),
    Mistake(
        "answer_losses_summed",
        "The losses of an answer's start and end are summed, not averaged.",
        r"qa_outputs\.loss",
        lambda site: site.replace(add_forward, site.arguments["a"], site.arguments["b"]),
    ),
    Mistake(
        "answer_ends_exchanged",
        "The logits of an answer's start and end are exchanged.",
        r"qa_outputs\.(start|end)\.select",
        ends_exchanged,
    ),
    Mistake(
        "answer_positions_clamped",
        "A negative position of an answer is taken for 0; it should be ignored.",
        r"qa_outputs\.(start|end)\.loss",
        positions_clamped,
    ),
    Mistake(
        "choices_in_another_order",
        "The choices' logits are laid out by choice, then by question.",
        r"reshape",
        choices_in_another_order,
    ),
    Mistake(
        "sentence_order_loss_missing",
        "The loss is that of the masked words alone.",
        r"(?<!\.)loss",
        total_loss(lambda site: site.keep(site.arguments["a"])),
    ),
    Mistake(
        "losses_averaged",
        "The losses of the masked words and of the sentences' order are averaged, not summed.",
        r"(?<!\.)loss",
        total_loss(lambda site: site.scaled(0.5)),
    ),
    Mistake(
        "shared_gradient_of_last_repetition",
        "A shared parameter's gradient is that of the last repetition alone.",
        uses=of_repetitions(lambda uses: uses[-1:]),
    ),
    Mistake(
        "shared_gradient_of_first_repetition",
        "A shared parameter's gradient is that of the first repetition alone.",
        uses=of_repetitions(lambda uses: uses[:1]),
    ),
    Mistake(
        "shared_gradient_averaged",
        "A shared parameter's gradient is the mean over its repetitions, not the sum.",
        uses=of_repetitions(averaged),
    ),
    Mistake(
        "padding_row_gradient",
        "The gradient of the padding token's row is not zeroed.",
        r"embeddings\.word_embeddings",
        lambda site: site.run(padding_idx=None),
    ),
    Mistake(
        "decoder_untied",
        "The decoder's weight is not the word embedding: its gradient is not added there.",
        uses=words_without("predictions.decoder"),
    ),
    Mistake(
        "word_lookup_without_gradient",
        "The word embedding's gradient is the decoder's part alone.",
        uses=words_without("embeddings.word_embeddings"),
    ),
)
