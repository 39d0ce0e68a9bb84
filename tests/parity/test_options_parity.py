"""Every option against transformers 4.56.2 run live: outputs, and every gradient.

Where the peer cannot be asked for what the documentation has (a row of the head mask for each
layer, a mask for each query), its attention modules are handed it. Tolerances are those of
test_models_parity, and for gradients twice the noise of rounding the parameters, which is more
where a model is ill-conditioned: once for each implementation.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from models_support import (  # noqa: E402
    CLASSES,
    configs,
    random_batch,
    random_like,
    random_model,
    suited_to,
)
from options_support import (  # noqa: E402
    configs_with_options,
    gradient_noise,
    heads_to_prune,
    random_call,
)
from peer_support import (  # noqa: E402
    give_layer_masks,
    give_masks,
    peer_gradients,
    peer_of,
    to_tensors,
    weighted_sum,
)
from test_models_parity import TOLERANCE, assert_same_outputs  # noqa: E402

from albert_np import AlbertConfig, AlbertModel  # noqa: E402

pytestmark = pytest.mark.usefixtures("each_backend")

SEEDS = st.integers(0, 2**32 - 1)
OUTPUTS = {"output_hidden_states": True, "output_attentions": True}


def peer_with_options(model, attention="eager"):
    """The peer, whose name for our pair of functions is tanh."""
    hidden_act = model.config.hidden_act
    named = {} if isinstance(hidden_act, str) else {"hidden_act": "tanh"}
    return peer_of(model, attention, **named)


def assert_same(model, peer, call, peer_call, generator, seed=None):
    """Outputs and, along a random gradient of every output and the loss, every gradient."""
    outputs, pullback = model.vjp(**call, seed=seed)
    peer_outputs = peer(**to_tensors(peer_call))
    assert_same_outputs(outputs, peer_outputs)
    output_gradients = random_like(outputs, generator)
    if model.label_names:
        output_gradients["loss"] = generator.normal()
    weighted_sum(peer_outputs, output_gradients).backward()
    gradients, expected = pullback(output_gradients).parameters, peer_gradients(peer)
    assert gradients.keys() == expected.keys()
    scale = max(np.abs(gradient).max() for gradient in expected.values())
    noise = gradient_noise(model, call | {"seed": seed}, output_gradients)
    for name, gradient in expected.items():
        atol = (TOLERANCE + 2 * noise) * scale
        np.testing.assert_allclose(gradients[name], gradient, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs_with_options(), seed=SEEDS, drop=st.booleans())
def test_all_options_together(model_class, config, seed, drop):
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    peer = peer_with_options(model)
    call = random_call(model_class, config, generator) | OUTPUTS
    peer_call = {name: value for name, value in call.items() if not name.endswith("_mask")}
    mask = call["attention_mask"]
    mask = mask.reshape(-1, *mask.shape[call["token_type_ids"].ndim - 1 :])  # choices merged
    give_layer_masks(peer, config, mask, call.get("head_mask"))
    if drop:
        give_masks(peer, seed)
    assert_same(model, peer, call, peer_call, generator, seed if drop else None)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs_with_options(), seed=SEEDS)
def test_options_of_the_configuration_as_the_peer_takes_them(model_class, attention, config, seed):
    """Nothing handed to it: its own mask, its own head mask of one row, with its own attention."""
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    chunk = config.chunk_size_feed_forward or 1
    batch = random_batch(model_class, config, generator, (2, 2 * chunk))
    batch["output_attentions"] = attention == "eager"
    if attention == "eager" and not config.pruned_heads:
        batch["head_mask"] = generator.random(config.num_attention_heads)
    assert_same(model, peer_with_options(model, attention), batch, batch, generator)


@given(config=configs(), seed=SEEDS)
def test_head_mask_of_layers_that_share_nothing_as_the_peer_takes_it(config, seed):
    """With a group for each layer, and one inner layer, the peer reads each layer's row too."""
    options = {"num_hidden_groups": config.num_hidden_layers, "inner_group_num": 1}
    config = AlbertConfig(**(config.to_dict() | options))
    generator = np.random.default_rng(seed)
    model = random_model(AlbertModel, config, seed)
    batch = random_batch(AlbertModel, config, generator) | OUTPUTS
    batch["head_mask"] = generator.random((config.num_hidden_layers, config.num_attention_heads))
    assert_same(model, peer_of(model), batch, batch, generator)


def small_config(**options):
    sizes = {
        "vocab_size": 50,
        "embedding_size": 8,
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 16,
    }
    return AlbertConfig(**(sizes | options))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_departure_the_peer_reads_the_first_row_of_each_group(groups):
    """As docs/departures.md says: row group · layers per group, for each layer of a group."""
    config = small_config(num_hidden_groups=groups)
    model = random_model(AlbertModel, config)
    generator = np.random.default_rng(0)
    batch = random_batch(AlbertModel, config, generator, (2, 5))
    rows = generator.random((4, 4))
    per_group = 4 // groups
    read = rows[[layer // per_group * per_group for layer in range(4)]]
    peer_outputs = peer_of(model)(**to_tensors(batch | {"head_mask": rows}))
    assert_same_outputs(model(**batch, head_mask=read), peer_outputs)
    ours = model(**batch, head_mask=rows).last_hidden_state
    difference = np.abs(ours - peer_outputs.last_hidden_state.detach().numpy()).max()
    assert (difference > 1e-3) == (groups < 4)


def test_departure_the_peers_inner_layers_read_rows_of_their_own():
    """Row group · layers per group + inner layer: of layers, as if it counted repetitions."""
    config = small_config(inner_group_num=2)
    model = random_model(AlbertModel, config)
    generator = np.random.default_rng(0)
    batch = random_batch(AlbertModel, config, generator, (2, 5))
    rows = generator.random((4, 4))
    peer_outputs = peer_of(model)(**to_tensors(batch | {"head_mask": rows}))
    handed = peer_of(model)
    for inner, layer in enumerate(handed.encoder.albert_layer_groups[0].albert_layers):
        layer.attention.register_forward_pre_hook(
            lambda _, arguments, inner=inner: (
                *arguments[:2],
                torch.tensor(rows[inner])[:, None, None],
                arguments[3],
            )
        )
    outputs = handed(**to_tensors(batch))
    assert torch.equal(outputs.last_hidden_state, peer_outputs.last_hidden_state)
    with pytest.raises(IndexError):  # more inner layers than layers of a group, and no head mask
        peer_of(random_model(AlbertModel, small_config(num_hidden_layers=1, inner_group_num=2)))(
            **to_tensors({"input_ids": np.ones((1, 2), np.int64)})
        )


@pytest.mark.parametrize("options", [{}, {"position_embedding_type": "relative_key"}])
def test_departure_the_peers_sdpa_attention_reads_no_head_mask(options):
    model = random_model(AlbertModel, small_config(**options))
    batch = random_batch(AlbertModel, model.config, np.random.default_rng(0), (2, 5))
    none = np.zeros(4)
    for attentions in (False, True):
        tensors = to_tensors(batch | {"output_attentions": attentions})
        sdpa = peer_of(model, "sdpa")
        masked = sdpa(**tensors, head_mask=torch.tensor(none)).last_hidden_state
        plain = sdpa(**tensors).last_hidden_state
        assert np.abs((masked - plain).detach().numpy()).max() < 1e-11
        ours = model(**batch, head_mask=none).last_hidden_state
        assert np.abs(ours - masked.detach().numpy()).max() > 1e-3


@pytest.mark.parametrize("mask", [np.ones((2, 5, 5)), np.ones((2, 1, 5, 5))])
def test_departure_the_peer_takes_no_mask_for_each_query(mask):
    model = random_model(AlbertModel, small_config())
    batch = random_batch(AlbertModel, model.config, np.random.default_rng(0), (2, 5))
    with pytest.raises(RuntimeError):
        peer_of(model)(**to_tensors(batch | {"attention_mask": mask}))
    model(**(batch | {"attention_mask": mask}))


# prune_heads


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs_with_options(prune=False), seed=SEEDS, data=st.data())
def test_pruning_twice(model_class, config, seed, data):
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    for array in model.parameters.values():
        array[...] = array.astype(np.float32)  # which the peer makes of the weights that it prunes
    peer = peer_with_options(model)
    first, second = data.draw(heads_to_prune(config)), data.draw(heads_to_prune(config))
    for layer, heads in second.items():
        free = config.num_attention_heads - len({*heads, *first.get(layer, ())})
        second[layer] = heads if free else []  # both leave none where one would
    for heads in (first, second):
        model.prune_heads(heads)
        peer.prune_heads(heads)
    peer.double()
    for name, parameter in peer.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), model.parameters[name])
    recorded = {layer: sorted(heads) for layer, heads in peer.config.pruned_heads.items() if heads}
    assert model.config.pruned_heads == recorded
    chunk = config.chunk_size_feed_forward or 1
    batch = random_batch(model_class, config, generator, (2, 2 * chunk)) | OUTPUTS
    assert_same(model, peer, batch, batch, generator)


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("kind", ["absolute", "relative_key_query"])
def test_what_was_pruned_goes_both_ways(tmp_path, model_class, kind):
    config = small_config(num_hidden_groups=2, inner_group_num=2, position_embedding_type=kind)
    model = random_model(model_class, config, dtype="float32")
    model.prune_heads({0: [1], 3: [0, 2]})
    model.prune_heads({0: [3]})
    model.save_pretrained(tmp_path / "ours")
    peer_class = getattr(transformers, model_class.__name__)
    peer, loading = peer_class.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(loading.values())
    assert peer.config.pruned_heads == model.config.pruned_heads == {0: [1, 3], 3: [0, 2]}
    for name, parameter in peer.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), model.parameters[name])
    peer.prune_heads({1: [3], 0: [0]})
    peer.save_pretrained(tmp_path / "theirs")
    back = model_class.from_pretrained(tmp_path / "theirs")
    assert back.config.pruned_heads == {0: [0, 1, 3], 1: [3], 3: [0, 2]}
    for name, parameter in peer.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), back.parameters[name])


# The configuration's flags


@pytest.mark.parametrize("model_class", CLASSES)
@given(
    flags=st.tuples(*[st.booleans()] * 3),
    call=st.tuples(*[st.sampled_from([None, True, False])] * 3),
)
def test_flags(model_class, flags, call):
    names = ("output_attentions", "output_hidden_states", "return_dict")
    config = small_config(**dict(zip(names, flags, strict=True)))
    model = random_model(model_class, config)
    batch = random_batch(model_class, config, np.random.default_rng(0), (2, 3))
    batch |= dict(zip(names, call, strict=True))
    outputs, peer_outputs = model(**batch), peer_of(model)(**to_tensors(batch))
    assert isinstance(outputs, tuple) == isinstance(peer_outputs, tuple)
    if not isinstance(outputs, tuple):
        assert_same_outputs(outputs, peer_outputs)
        return
    assert len(outputs) == len(peer_outputs)
    for value, expected in zip(outputs, peer_outputs, strict=True):
        assert np.shape(value) == np.shape(
            [part.detach().numpy() for part in expected]
            if isinstance(expected, tuple)
            else expected.detach().numpy()
        )
