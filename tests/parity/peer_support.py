"""The peer: Hugging Face's ALBERT in PyTorch, given our configuration and our parameters."""

import numpy as np
import torch
import transformers

from albert_np.encoder import layer_schedule
from albert_np.functions.dropout import (
    CLASSIFIER_SITE,
    EMBEDDINGS_SITE,
    Dropout,
    attention_output_site,
    attention_probabilities_site,
    keep_mask,
)


def peer_of(model, attention="eager"):
    """The peer's model of the same class, with the same parameters, in float64."""
    config = transformers.AlbertConfig(**model.config.to_dict(), attn_implementation=attention)
    peer = getattr(transformers, type(model).__name__)(config).double().eval()
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            parameter.copy_(torch.tensor(model.parameters[name]))
    assert set(dict(peer.named_parameters())) == set(model.parameters)
    return peer


def to_tensors(batch):
    """Our arguments as the peer takes them; embeddings ask for their gradient."""
    tensors = {
        name: torch.tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in batch.items()
    }
    if "inputs_embeds" in tensors:
        tensors["inputs_embeds"].requires_grad_()
    return tensors


def peer_gradients(peer):
    """The peer's gradients after a backward pass, by name."""
    return {
        name: np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
        for name, parameter in peer.named_parameters()
    }


class OurDropout(torch.nn.Module):
    """Dropout with the masks that our generator draws, one site a call, in order."""

    def __init__(self, probability, seed, sites):
        super().__init__()
        self.probability, self.seed, self.sites = probability, seed, iter(sites)

    def forward(self, x):
        site = next(self.sites)
        if self.probability == 0:
            return x
        keep = keep_mask(tuple(x.shape), Dropout(self.probability, self.seed, site))
        return x * torch.tensor(keep) / (1 - self.probability)


def weighted_sum(outputs, gradients):
    """The sum of output ∘ gradient over the named outputs, to be differentiated."""
    total = 0
    for name, gradient in gradients.items():
        if isinstance(gradient, tuple):
            pairs = zip(outputs[name], gradient, strict=True)
        else:
            pairs = [(outputs[name], gradient)]
        total = total + sum((value * torch.tensor(np.asarray(g))).sum() for value, g in pairs)
    return total


def give_masks(peer, seed):
    """Put our dropout in the place of each of the peer's."""
    config = peer.config
    hidden, attention = config.hidden_dropout_prob, config.attention_probs_dropout_prob
    albert = getattr(peer, "albert", peer)
    albert.embeddings.dropout = OurDropout(hidden, seed, [EMBEDDINGS_SITE])
    repetitions = [place for layer in layer_schedule(config) for place in layer]
    for group, layers in enumerate(albert.encoder.albert_layer_groups):
        for inner, layer in enumerate(layers.albert_layers):
            turns = [turn for turn, place in enumerate(repetitions) if place == (group, inner)]
            layer.attention.attention_dropout = OurDropout(
                attention, seed, [attention_probabilities_site(turn) for turn in turns]
            )
            layer.attention.output_dropout = OurDropout(
                hidden, seed, [attention_output_site(turn) for turn in turns]
            )
    if hasattr(peer, "sop_classifier"):
        peer.sop_classifier.dropout = OurDropout(
            config.classifier_dropout_prob, seed, [CLASSIFIER_SITE]
        )
