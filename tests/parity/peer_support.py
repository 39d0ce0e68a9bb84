"""The peer: Hugging Face's ALBERT in PyTorch, given our configuration and our parameters."""

import numpy as np
import torch
import transformers

from albert_np.functions.dropout import (
    CLASSIFIER_SITE,
    EMBEDDINGS_SITE,
    Dropout,
    attention_output_site,
    attention_probabilities_site,
    keep_mask,
)
from albert_np.schedule import kept_heads, layer_schedule


def peer_of(model, attention="eager", **settings):
    """The peer's model of the same class, with the same parameters, in float64.

    `settings` go before those of our configuration.
    """
    settings = model.config.to_dict() | settings
    config = transformers.AlbertConfig(**settings, attn_implementation=attention)
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


def attentions_of(peer):
    """The peer's attention modules: (group, inner layer), module, repetitions that it is run in."""
    repetitions = [place for layer in layer_schedule(peer.config) for place in layer]
    groups = getattr(peer, "albert", peer).encoder.albert_layer_groups
    for group, layers in enumerate(groups):
        for inner, layer in enumerate(layers.albert_layers):
            turns = [turn for turn, place in enumerate(repetitions) if place == (group, inner)]
            yield (group, inner), layer.attention, turns


def give_layer_masks(peer, config, attention_mask=None, head_mask=None):
    """Hand the peer's attention our masks: of any shape, and each layer its own row."""
    for place, attention, turns in attentions_of(peer):
        kept = kept_heads(config, place)
        added = None
        if attention_mask is not None:
            hidden = torch.tensor(np.asarray(attention_mask) == 0)
            hidden = hidden[:, None, None] if hidden.ndim == 2 else hidden
            hidden = hidden[:, None] if hidden.ndim == 3 else hidden
            hidden = hidden[:, kept] if hidden.shape[1] > len(kept) else hidden
            added = hidden.double() * torch.finfo(torch.float64).min
        rows = [None] * len(turns)
        if head_mask is not None:
            by_layer = np.broadcast_to(head_mask, (config.num_hidden_layers, len(head_mask.T)))
            rows = [by_layer[turn // config.inner_group_num][kept] for turn in turns]
            rows = [torch.tensor(row)[:, None, None] for row in rows]

        def replace(module, arguments, added=added, rows=iter(rows)):  # noqa: B008
            hidden_states, _, _, output_attentions = arguments
            return hidden_states, added, next(rows), output_attentions

        attention.register_forward_pre_hook(replace)


def give_masks(peer, seed):
    """Put our dropout in the place of each of the peer's."""
    config = peer.config
    hidden, probabilities = config.hidden_dropout_prob, config.attention_probs_dropout_prob
    albert = getattr(peer, "albert", peer)
    albert.embeddings.dropout = OurDropout(hidden, seed, [EMBEDDINGS_SITE])
    for _, attention, turns in attentions_of(peer):
        attention.attention_dropout = OurDropout(
            probabilities, seed, [attention_probabilities_site(turn) for turn in turns]
        )
        attention.output_dropout = OurDropout(
            hidden, seed, [attention_output_site(turn) for turn in turns]
        )
    head = getattr(peer, "sop_classifier", peer)
    if hasattr(head, "dropout"):
        head.dropout = OurDropout(head.dropout.p, seed, [CLASSIFIER_SITE])
