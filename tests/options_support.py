"""Configurations and calls with every option, drawn at random."""

import copy
import math

import numpy as np
from hypothesis import strategies as st
from models_support import configs, random_batch

from albert_np import AlbertConfig
from albert_np.functions.activations import tanh_backward, tanh_forward
from albert_np.schedule import layer_places

POSITIONS = ("absolute", "relative_key", "relative_key_query")
ACTIVATIONS = ("gelu_new", "gelu", "silu", (tanh_forward, tanh_backward))


@st.composite
def heads_to_prune(draw, config):
    """Heads by layer, of which each layer keeps at least one."""
    A, layers = config.num_attention_heads, len(layer_places(config))
    heads = st.lists(st.integers(0, A - 1), max_size=A - 1, unique=True)
    return draw(st.dictionaries(st.integers(0, layers - 1), heads))


@st.composite
def configs_with_options(draw, positions=POSITIONS, activations=ACTIVATIONS, prune=True):
    """Draw a configuration of `configs`, with dropouts, and every option of attention and layer."""
    config = draw(configs(dropout=True))
    options = {
        "position_embedding_type": draw(st.sampled_from(positions)),
        "hidden_act": draw(st.sampled_from(activations)),
        "chunk_size_feed_forward": draw(st.integers(0, 3)),
    }
    if prune:
        options["pruned_heads"] = draw(heads_to_prune(config))
    return AlbertConfig(**(config.to_dict() | options))


def random_masks(config, generator, shape, head_rows=None):
    """An attention mask of any shape, some of its rows empty; and a head mask of either, or none.

    `head_rows` is the head mask's number of axes, where it is not to be drawn.
    """
    B, S = shape
    A, L = config.num_attention_heads, config.num_hidden_layers
    shapes = [(B, S), (B, S, S), (B, 1, S, S), (B, A, S, S)]
    mask = generator.random(shapes[generator.integers(4)]) < 0.7
    kind = generator.choice([bool, np.int64, np.float32])
    masks = {"attention_mask": mask.astype(kind)}
    axes = generator.integers(3) if head_rows is None else head_rows
    if axes:
        head_mask = generator.random([(A,), (L, A)][axes - 1])
        masks["head_mask"] = np.where(generator.random(head_mask.shape) < 0.3, 0, head_mask)
    return masks


def random_call(model_class, config, generator, from_embeds=False, head_rows=None):
    """A batch whose length the chunks divide, with masks of any shape."""
    chunk = config.chunk_size_feed_forward or 1
    S = chunk * int(generator.integers(1, config.max_position_embeddings // chunk + 1))
    B = int(generator.integers(1, 4))
    batch = random_batch(model_class, config, generator, (B, S), from_embeds)
    rows = batch["token_type_ids"].shape[:-1]  # with an axis of choices, where the class has one
    masks = random_masks(config, generator, (math.prod(rows), S), head_rows)
    mask = masks["attention_mask"]
    return batch | masks | {"attention_mask": mask.reshape(*rows, *mask.shape[1:])}


def gradient_noise(model, call, output_gradients):
    """How far the gradients move, on the scale of the largest, if every parameter is rounded anew.

    Each parameter is moved by one unit in its last place, at most. Up to eight repetitions with
    weights of deviation 0.5 can be so ill-conditioned that this is 1e-10; two right ways to add
    up may then differ by as much, each by its own roundings.
    """
    moved = copy.deepcopy(model)
    generator = np.random.default_rng(0)
    for array in moved.parameters.values():
        array *= 1 + generator.choice([-1, 0, 1], array.shape) * np.finfo(np.float64).eps
    _, pullback = model.vjp(**call)
    _, moved_pullback = moved.vjp(**call)
    gradients = pullback(output_gradients).parameters
    moved_gradients = moved_pullback(output_gradients).parameters
    scale = max(np.abs(gradient).max() for gradient in gradients.values())
    return max(np.abs(gradients[name] - moved_gradients[name]).max() for name in gradients) / scale
