"""Checkpoints to and from transformers 4.56.2: every class, no missing and no unexpected tensor."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")

from models_support import CLASSES, random_model  # noqa: E402

from albert_np import AlbertConfig  # noqa: E402

CONFIG = AlbertConfig(
    vocab_size=30,
    embedding_size=6,
    hidden_size=12,
    num_hidden_layers=4,
    num_hidden_groups=2,
    num_attention_heads=3,
    intermediate_size=20,
    inner_group_num=2,
    max_position_embeddings=10,
)


@pytest.mark.parametrize("model_class", CLASSES)
def test_what_we_save_they_load(model_class, tmp_path):
    model = random_model(model_class, CONFIG, dtype="float32")
    model.save_pretrained(tmp_path)
    peer, loading = getattr(transformers, model_class.__name__).from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(loading.values()), loading
    for name, parameter in peer.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), model.parameters[name])


@pytest.mark.parametrize("model_class", CLASSES)
def test_what_they_save_we_load(model_class, tmp_path):
    peer_class = getattr(transformers, model_class.__name__)
    peer = peer_class(transformers.AlbertConfig(**CONFIG.to_dict()))
    peer.save_pretrained(tmp_path)
    model = model_class.from_pretrained(tmp_path)  # any warning is an error
    assert set(model.parameters) == set(dict(peer.named_parameters()))
    for name, parameter in peer.named_parameters():
        np.testing.assert_array_equal(model.parameters[name], parameter.detach().numpy())
