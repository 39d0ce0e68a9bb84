"""Which parameters the encoder has, and which repetition of the layer uses which."""

from itertools import product
from typing import NamedTuple

from albert_np.parameters import prefixed, under, with_query_key_value

DISTANCE_EMBEDDING = "attention.distance_embedding.weight"


class Repetition(NamedTuple):
    """One run of a layer's parameters: their place, and which of all runs of the model it is."""

    place: tuple  # (group, inner layer)
    index: int
    layer: int
    is_first_of_layer: bool


def layer_schedule(config):
    """Which parameters each layer uses.

    Layers fall to the groups in equal, consecutive shares; each runs the inner layers of its group
    in order (section 3.1 of the paper shares all; groups are the general case). Each of these runs
    is a repetition; they are counted through the whole model.

    Parameters
    ----------
    config : AlbertConfig

    Returns
    -------
    schedule : tuple of tuple of (int, int)
        For each of num_hidden_layers layers, the (group, inner layer) of its repetitions.
    """
    # Divided in this order as Hugging Face divides: where the groups do not divide the layers,
    # rounding decides (with 18 layers in 14 groups, layer 9 falls to group 6, or else to 7).
    layers_per_group = config.num_hidden_layers / config.num_hidden_groups
    return tuple(
        tuple((int(layer / layers_per_group), inner) for inner in range(config.inner_group_num))
        for layer in range(config.num_hidden_layers)
    )


def repetitions_of(schedule):
    """The repetitions of a schedule, in order.

    Parameters
    ----------
    schedule : tuple of tuple of (int, int)

    Returns
    -------
    list of Repetition
    """
    runs = [
        (place, layer, inner == 0)
        for layer, places in enumerate(schedule)
        for inner, place in enumerate(places)
    ]
    return [Repetition(place, i, layer, first) for i, (place, layer, first) in enumerate(runs)]


def layer_places(config):
    """The (group, inner layer) of every set of a layer's parameters, in order."""
    return tuple(product(range(config.num_hidden_groups), range(config.inner_group_num)))


def layer_prefix(group, inner):
    """Where the parameters of one inner layer of one group lie within the encoder's."""
    return f"albert_layer_groups.{group}.albert_layers.{inner}"


def layer_parameters(parameters, schedule):
    """The parameters (or slots) of each layer that a schedule names, by (group, inner layer)."""
    places = {place for layer in schedule for place in layer}
    return {
        place: with_query_key_value(under(parameters, layer_prefix(*place))) for place in places
    }


def kept_heads(config, place):
    """The heads of one inner layer of one group that were not pruned, by their first numbers."""
    group, inner = place
    layer = group * config.inner_group_num + inner
    pruned = config.pruned_heads.get(layer, ())
    return [head for head in range(config.num_attention_heads) if head not in pruned]


def layer_shapes(config, place):
    """The names and shapes of the parameters of one inner layer of one group."""
    H, I = config.hidden_size, config.intermediate_size  # noqa: E741
    D = H // config.num_attention_heads
    heads = len(kept_heads(config, place)) * D
    shapes = {"full_layer_layer_norm.weight": (H,), "full_layer_layer_norm.bias": (H,)}
    for module in ("query", "key", "value"):
        shapes[f"attention.{module}.weight"] = (heads, H)
        shapes[f"attention.{module}.bias"] = (heads,)
    shapes |= {
        "attention.dense.weight": (H, heads),
        "attention.dense.bias": (H,),
        "attention.LayerNorm.weight": (H,),
        "attention.LayerNorm.bias": (H,),
    }
    if config.position_embedding_type != "absolute":
        shapes[DISTANCE_EMBEDDING] = (2 * config.max_position_embeddings - 1, D)
    return shapes | {
        "ffn.weight": (I, H),
        "ffn.bias": (I,),
        "ffn_output.weight": (H, I),
        "ffn_output.bias": (H,),
    }


def encoder_shapes(config):
    """The names and shapes of the encoder's parameters: one set for each layer of each group."""
    shapes = {
        "embedding_hidden_mapping_in.weight": (config.hidden_size, config.embedding_size),
        "embedding_hidden_mapping_in.bias": (config.hidden_size,),
    }
    for place in layer_places(config):
        shapes |= prefixed(layer_prefix(*place), layer_shapes(config, place))
    return shapes
