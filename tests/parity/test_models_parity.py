"""Our models against transformers 4.56.2 run live, in float64: outputs, losses, gradients.

Errors are measured against the largest value of an output, and gradients against the largest of
the model's gradients: one that is zero in exact arithmetic, such as the key bias's, is only
rounding. 1e-11 leaves some ten thousand units in the last place to two orders of summation.
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
from peer_support import (  # noqa: E402
    give_masks,
    peer_gradients,
    peer_of,
    to_tensors,
    weighted_sum,
)

from albert_np import (  # noqa: E402
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
)
from albert_np.schedule import layer_schedule  # noqa: E402
from albert_np.training.optimizers import AdamW  # noqa: E402

pytestmark = pytest.mark.usefixtures("each_backend")

TOLERANCE = 1e-11
SEEDS = st.integers(0, 2**32 - 1)


def assert_near(value, expected, scale=None):
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    scale = np.abs(expected).max() if scale is None else scale
    np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE * scale)


def assert_same_outputs(outputs, peer_outputs):
    assert list(outputs.keys()) == list(peer_outputs.keys())
    for name in outputs.keys():  # noqa: SIM118 (iterating gives the values)
        if not isinstance(outputs[name], tuple):
            assert_near(outputs[name], peer_outputs[name])
            continue
        for value, expected in zip(outputs[name], peer_outputs[name], strict=True):
            assert_near(value, expected)


def assert_same_gradients(gradients, expected):
    scale = max(np.abs(gradient).max() for gradient in expected.values())
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_near(gradients[name], gradient, scale)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs(), seed=SEEDS, from_embeds=st.booleans())
def test_outputs_and_gradients(model_class, attention, config, seed, from_embeds):
    """Every output and, along a random gradient of every output and the loss, every gradient."""
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    peer = peer_of(model, attention)
    batch = random_batch(model_class, config, generator, from_embeds=from_embeds)
    batch["output_hidden_states"] = True
    batch["output_attentions"] = attention == "eager"

    outputs, pullback = model.vjp(**batch)
    tensors = to_tensors(batch)
    peer_outputs = peer(**tensors)
    assert_same_outputs(outputs, peer_outputs)

    output_gradients = random_like(outputs, generator)
    if model_class.label_names:
        output_gradients["loss"] = generator.normal()
    weighted_sum(peer_outputs, output_gradients).backward()
    gradients = pullback(output_gradients)
    assert_same_gradients(gradients.parameters, peer_gradients(peer))
    if from_embeds:
        assert_near(gradients.inputs_embeds, tensors["inputs_embeds"].grad)


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs(dropout=True), seed=SEEDS)
def test_dropout_with_our_masks_handed_to_the_peer(model_class, config, seed):
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    peer = peer_of(model)
    give_masks(peer, seed)
    batch = random_batch(model_class, config, generator)
    batch |= {"output_hidden_states": True, "output_attentions": True}
    outputs, pullback = model.vjp(**batch, seed=seed)
    peer_outputs = peer(**to_tensors(batch))
    assert_same_outputs(outputs, peer_outputs)
    output_gradients = random_like(outputs, generator)
    weighted_sum(peer_outputs, output_gradients).backward()
    gradients = pullback(output_gradients)
    assert_same_gradients(gradients.parameters, peer_gradients(peer))


def small_config(**settings):
    return AlbertConfig(
        vocab_size=50,
        embedding_size=8,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
        **settings,
    )


def test_rows_with_every_key_masked():
    """The peer's eager attention makes them the mean of all values; so do we."""
    model = random_model(AlbertForMaskedLM, small_config())
    generator = np.random.default_rng(0)
    batch = random_batch(AlbertForMaskedLM, model.config, generator, (3, 7))
    batch["attention_mask"][1] = 0
    outputs, pullback = model.vjp(**batch)
    peer = peer_of(model)
    peer_outputs = peer(**to_tensors(batch))
    assert_same_outputs(outputs, peer_outputs)
    peer_outputs.loss.backward()
    gradients = pullback().parameters
    assert_same_gradients(gradients, peer_gradients(peer))


@pytest.mark.parametrize(
    ("model_class", "ignored"),
    [
        (AlbertForMaskedLM, {"labels": np.full((2, 4), -100)}),
        (AlbertForTokenClassification, {"labels": np.full((2, 4), -100)}),
        (AlbertForSequenceClassification, {"labels": np.full(2, -100)}),
        (
            AlbertForQuestionAnswering,
            {"start_positions": np.full(2, 4), "end_positions": np.array([1, 9])},
        ),
    ],
)
def test_a_batch_without_labels_has_the_loss_and_gradients_of_the_peer(model_class, ignored):
    """Not a number, the mean of nothing; and gradients of zero, or of the other end alone."""
    model = random_model(model_class, small_config())
    batch = {"input_ids": np.ones((2, 4), np.int64), **ignored}
    loss, gradients = model.loss_and_gradients(**batch)
    peer = peer_of(model)
    peer_loss = peer(**to_tensors(batch)).loss
    assert np.isnan(loss) and torch.isnan(peer_loss)
    peer_loss.backward()
    expected = peer_gradients(peer)
    has_a_label = model_class is AlbertForQuestionAnswering
    assert any(gradient.any() for gradient in expected.values()) == has_a_label
    scale = max(np.abs(gradient).max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert_near(gradients.parameters[name], gradient, scale)


@given(config=configs(dropout=True), seed=SEEDS)
def test_dropout_of_a_token_classifier_without_one_of_its_own(config, seed):
    values = config.to_dict() | {"classifier_dropout_prob": None}
    model = random_model(AlbertForTokenClassification, AlbertConfig(**values), seed)
    peer = peer_of(model)
    give_masks(peer, seed)
    batch = random_batch(AlbertForTokenClassification, config, np.random.default_rng(seed))
    assert_same_outputs(model(**batch, seed=seed), peer(**to_tensors(batch)))


def test_positions_before_the_start_are_its_first_token_to_the_peer():
    """A departure: the documentation says that they are not taken into account, so we do not."""
    model = random_model(AlbertForQuestionAnswering, small_config(initializer_range=0.5))
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    batch = {"input_ids": ids, "end_positions": np.array([1, 2])}
    peer_loss, as_first, without = (
        peer_of(model)(**to_tensors(batch | {"start_positions": np.array([1, start])})).loss
        for start in (-1, 0, 3)
    )
    assert_near(as_first.item(), peer_loss)
    assert abs(without - as_first) > 1e6 * TOLERANCE  # or the two could not be told apart
    assert_near(model(**batch, start_positions=[1, -1]).loss, without)


@pytest.mark.parametrize("model_class", CLASSES)
def test_tuples_are_those_of_the_peer(model_class):
    model = random_model(model_class, small_config())
    batch = random_batch(model_class, model.config, np.random.default_rng(0), (2, 5))
    batch |= {"return_dict": False, "output_hidden_states": True}
    outputs = model(**batch)
    peer_outputs = peer_of(model)(**to_tensors(batch))
    assert len(outputs) == len(peer_outputs)
    for value, expected in zip(outputs, peer_outputs, strict=True):
        assert isinstance(value, tuple) == isinstance(expected, tuple)
        if not isinstance(value, tuple):
            assert_near(value, expected)


@pytest.mark.parametrize("layers", range(1, 19))
def test_layer_schedule_is_the_one_that_the_peer_follows(layers):
    """Which group runs when, watched on the peer, for every number of groups."""
    for groups in range(1, layers + 1):
        config = AlbertConfig(
            vocab_size=4,
            embedding_size=2,
            hidden_size=2,
            num_hidden_layers=layers,
            num_hidden_groups=groups,
            num_attention_heads=1,
            intermediate_size=2,
        )
        peer = transformers.AlbertModel(transformers.AlbertConfig(**config.to_dict()))
        ran = []
        for group, module in enumerate(peer.encoder.albert_layer_groups):
            module.register_forward_hook(lambda *_, group=group, ran=ran: ran.append(group))
        peer(torch.tensor([[1]]))
        assert ran == [group for ((group, _),) in layer_schedule(config)]


def test_fifty_steps_of_adamw_follow_the_same_losses():
    """From the same start on the same batches; the losses agree to 1e-9."""
    model = AlbertForPreTraining(small_config(), seed=3, dtype="float64")
    peer = peer_of(model)
    optimizer = AdamW(model.parameters, weight_decay=0.01)
    peer_optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-3, weight_decay=0.01)
    generator = np.random.default_rng(4)
    for _ in range(50):
        batch = random_batch(AlbertForPreTraining, model.config, generator, (4, 9))
        loss, gradients = model.loss_and_gradients(**batch)
        optimizer.step(gradients.parameters, lr=1e-3)
        peer_optimizer.zero_grad()
        peer_loss = peer(**to_tensors(batch)).loss
        peer_loss.backward()
        peer_optimizer.step()
        np.testing.assert_allclose(loss, peer_loss.item(), rtol=0, atol=1e-9)
    for name, parameter in peer.named_parameters():
        assert np.abs(model.parameters[name] - parameter.detach().numpy()).max() < 1e-6, name
