"""ALBERT once more, in PyTorch, to be verified: right, or with exactly the mistakes asked for.

Written from the formulas, with nothing of `albert_np`: autograd gives the gradients. What it
computes is kept under the names that the reference has for it.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)

ORDERS = {
    "query_key_exchanged": "kqv",
    "key_value_exchanged": "qvk",
    "query_value_exchanged": "vkq",
}


def candidate_of(case, mistakes=(), dtype="float32"):
    """The tensors of a candidate, forward and backward, by name.

    Parameters
    ----------
    case : Case
    mistakes : sequence of str
        Names of `albert_np.verification.mistakes.MISTAKES`.
    dtype : {"float32", "float16", "bfloat16"}, optional
        What it computes in.

    Returns
    -------
    dict of str to float32 array
    """
    return TorchAlbert(case, mistakes, getattr(torch, dtype)).tensors()


class TorchAlbert:
    def __init__(self, case, mistakes, dtype):
        self.dtype = dtype
        self.case, self.config, self.mistakes = case, case.config, set(mistakes)
        self.head = case.model_class.__name__
        self.prefix = "" if self.head == "AlbertModel" else "albert."
        self.parameters = {
            name: torch.tensor(array, dtype=dtype, requires_grad=True)
            for name, array in case.parameters.items()
        }
        self.kept, self.outputs, self.repetitions = {}, {}, {}
        self.inputs = {name: torch.tensor(np.asarray(value)) for name, value in case.inputs.items()}
        ids = self.inputs["input_ids"]
        for name in ("input_ids", "attention_mask", "token_type_ids", "position_ids"):
            if name in self.inputs:
                self.inputs[name] = self.inputs[name].reshape(-1, ids.shape[-1])
        self.ids = self.inputs["input_ids"]
        self.mask = self.inputs.get("attention_mask", torch.ones_like(self.ids)).bool()

    def has(self, mistake, *places):
        """Whether a mistake is made: everywhere, or in one of these places."""
        return bool(self.mistakes & {mistake, *(f"{mistake}_{place}" for place in places)})

    def keep(self, name, x):
        self.kept[name] = x
        if x.requires_grad:
            x.retain_grad()
        return x

    def tensors(self):
        """Run forward and backward."""
        loss = self.forward()
        if loss is None:
            loss = sum(
                (self.outputs[name].float() * gradient.float()).sum()
                for name, gradient in (
                    (key.removeprefix("gradient_of."), value)
                    for key, value in self.inputs.items()
                    if key.startswith("gradient_of.")
                )
            )
        else:
            self.outputs["loss"] = loss
        loss.backward()
        tensors = {f"forward/{name}": x for name, x in self.kept.items()}
        tensors |= {f"outputs/{name}": x for name, x in self.outputs.items()}
        tensors |= {
            f"backward/{name}": x.grad for name, x in self.kept.items() if x.grad is not None
        }
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                tensors[f"gradients/{name}"] = self.shared(name, parameter.grad)
        return {name: x.detach().float().numpy() for name, x in tensors.items()}

    def shared(self, name, gradient):
        if "albert_layer_groups" in name and "shared_gradient_averaged" in self.mistakes:
            place = name.partition("albert_layer_groups.")[2].split(".")
            return gradient / self.repetitions[int(place[0]), int(place[2])]
        return gradient

    # ── parts ───────────────────────────────────────────────────────────────────────────────────

    def linear(self, name, x, parameter, mistake, use=lambda p: p, bias=True):
        weight = use(self.parameters[f"{parameter}.weight"])
        square = weight.shape[0] == weight.shape[1]
        if f"{mistake}_weight_transposed" in self.mistakes and square:
            weight = weight.T
        y = x @ weight.T
        if bias and f"{mistake}_bias_missing" not in self.mistakes:
            y = y + use(self.parameters[f"{parameter}.bias"])
        return self.keep(name, y)

    def bias(self, name, x, parameter, mistake, use=lambda p: p):
        if f"{mistake}_bias_missing" in self.mistakes:
            return self.keep(name, x * 1)
        return self.keep(name, x + use(self.parameters[parameter]))

    def layer_norm(self, name, x, parameter, *places, use=lambda p: p):
        places = [f"in_{place}" for place in places]
        if self.has("layer_norm_missing", *places):
            return self.keep(name, x * 1)
        eps = self.config.layer_norm_eps
        for digits in ("1e-3", "1e-5", "1e-6", "1e-7", "1e-8", "1e-12"):
            if self.has(f"layer_norm_eps_{digits}", *places):
                eps = float(digits)
        centred = x - x.mean(-1, keepdim=True)
        unbiased = self.has("layer_norm_sample_variance", *places)
        variance = x.var(-1, keepdim=True, unbiased=unbiased)
        if self.has("layer_norm_eps_on_deviation", *places):
            normalized = centred / (variance.sqrt() + eps)
        else:
            normalized = centred / (variance + eps).sqrt()
        weight, bias = (use(self.parameters[f"{parameter}.{kind}"]) for kind in ("weight", "bias"))
        return self.keep(name, normalized * weight + bias)

    def activation(self, name, x, place):
        place, act = f"in_{place}", self.config.hidden_act
        name = f"{name}.{act}"
        if self.has("activation_missing", place):
            return self.keep(name, x * 1)
        if self.has("activation_gelu_exact", place):
            act = "gelu"
        if self.has("activation_gelu_tanh", place):
            act = "gelu_new"
        if self.has("activation_relu", place):
            act = "relu"
        functions = {
            "gelu": F.gelu,
            "gelu_new": lambda z: F.gelu(z, approximate="tanh"),
            "relu": F.relu,
            "silu": F.silu,
        }
        return self.keep(name, functions[act](x))

    # ── embeddings ──────────────────────────────────────────────────────────────────────────────

    def positions(self, ids):
        real = self.mask.long()
        rows = self.config.max_position_embeddings
        padding = self.config.pad_token_id or 0
        for mistake, changed in (
            ("positions_all_0", ids * 0),
            ("positions_without_padding", real.cumsum(1) - 1),
            ("positions_after_padding_id", real.cumsum(1) * real + padding),
            ("positions_from_1", ids + 1),
            ("positions_from_2", ids + 2),
        ):
            if mistake in self.mistakes:
                ids = changed.clamp(0, rows - 1)
        return ids

    def embeddings(self):
        p, at, m = self.parameters, f"{self.prefix}embeddings", self.mistakes
        words = p[f"{at}.word_embeddings.weight"]
        if "word_lookup_without_gradient" in m:
            words = words.detach()
        padding = None if "padding_row_gradient" in m else self.config.pad_token_id
        x = F.embedding(self.ids, words, padding_idx=padding)
        if "word_embeddings_scaled" in m:
            x = x * math.sqrt(self.config.embedding_size)
        x = self.keep(f"{at}.word_embeddings", x)
        types = self.inputs.get("token_type_ids", torch.zeros_like(self.ids))
        if "token_types_all_0" in m:
            types = types * 0
        types = self.keep(
            f"{at}.token_type_embeddings", p[f"{at}.token_type_embeddings.weight"][types]
        )
        x = self.keep(f"{at}.add_token_type", x * 1 if "token_types_ignored" in m else x + types)
        if self.config.position_embedding_type == "absolute":
            ids = self.inputs.get("position_ids", torch.arange(x.shape[1])[None])
            ids = self.positions(ids.expand(self.ids.shape))
            position = p[f"{at}.position_embeddings.weight"][ids]
            position = self.keep(f"{at}.position_embeddings", position)
            x = x * 1 if "positions_ignored" in m else x + position
            x = self.keep(f"{at}.add_position", x)
        return self.layer_norm(f"{at}.LayerNorm", x, f"{at}.LayerNorm", "embeddings")

    # ── layers ──────────────────────────────────────────────────────────────────────────────────

    def schedule(self):
        """The (group, inner layer) of the repetitions of each layer."""
        L, G = self.config.num_hidden_layers, self.config.num_hidden_groups
        inner, m = range(self.config.inner_group_num), self.mistakes
        groups = [int(layer / (L / G)) for layer in range(L)]
        if "groups_in_turn" in m:
            groups = [layer % G for layer in range(L)]
        if "groups_reversed" in m:
            groups = [G - 1 - layer * G // L for layer in range(L)]
        if "first_group_only" in m:
            groups = [0] * L
        if "inner_layers_reversed" in m:
            inner = inner[::-1]
        if "first_inner_layer_only" in m:
            inner = [0]
        layers = [[(group, i) for i in inner] for group in groups]
        if "inner_layers_of_each_in_turn" in m:
            flat = [(group, i) for i in inner for group in groups]
            layers = [flat[k : k + len(inner)] for k in range(0, len(flat), len(inner))]
        if "one_repetition_too_few" in m:
            layers = layers[:-1]
        if "one_repetition_too_many" in m:
            layers = [*layers, layers[-1]]
        return layers

    def user(self, places, index):
        """How one repetition uses its parameters: with a gradient, or without."""
        turns = [i for i, place in enumerate(places) if place == places[index]]
        self.repetitions[places[index]] = len(turns)
        last = "shared_gradient_of_last_repetition" in self.mistakes and index != turns[-1]
        first = "shared_gradient_of_first_repetition" in self.mistakes and index != turns[0]
        return (lambda p: p.detach()) if first or last else (lambda p: p)

    def encoder(self, x):
        at = f"{self.prefix}encoder"
        mapping = f"{at}.embedding_hidden_mapping_in"
        x = self.linear(mapping, x, mapping, "embedding_projection")
        schedule = self.schedule()
        places = [place for layer in schedule for place in layer]
        index = 0
        for number, layer in enumerate(schedule):
            for place in layer:
                p = f"{at}.albert_layer_groups.{place[0]}.albert_layers.{place[1]}"
                use = self.user(places, index)
                x = self.layer(f"{at}.layers.{index}", x, p, use, self.heads_of(number, place))
                index += 1
        return x

    def heads_of(self, layer, place):
        """The head mask of a repetition, (A,), or None."""
        if "head_mask" not in self.inputs:
            return None
        A, L = self.config.num_attention_heads, self.config.num_hidden_layers
        rows = self.inputs["head_mask"].to(self.dtype).expand(L, A)
        if "head_mask_by_group" in self.mistakes:
            return rows[place[0] * int(L / self.config.num_hidden_groups) + place[1]]
        return rows[min(layer, L - 1)]

    def layer(self, at, x, p, use, head_mask):
        first = "layer_norm_before" in self.mistakes
        norms = (
            (f"{at}.attention.output.layer_norm", f"{p}.attention.LayerNorm", "attention"),
            (f"{at}.output.layer_norm", f"{p}.full_layer_layer_norm", "feed_forward"),
        )

        def norm(number, y):
            name, parameter, place = norms[number]
            return self.layer_norm(name, y, parameter, "layers", place, use=use)

        y = self.attention(at, norm(0, x) if first else x, p, use, head_mask)
        y = self.bias(
            f"{at}.attention.output.bias", y, f"{p}.attention.dense.bias", "attention_dense", use
        )
        attended = self.end(f"{at}.attention.output", x, y, lambda z: norm(0, z), "attention")
        y = norm(1, attended) if first else attended
        y = self.linear(f"{at}.ffn", y, f"{p}.ffn", "ffn", use, bias=False)
        y = self.bias(f"{at}.activation.bias", y, f"{p}.ffn.bias", "ffn", use)
        y = self.activation(f"{at}.activation", y, "layers")
        y = self.linear(f"{at}.ffn_output", y, f"{p}.ffn_output", "ffn_output", use, bias=False)
        y = self.bias(f"{at}.output.bias", y, f"{p}.ffn_output.bias", "ffn_output", use)
        return self.end(f"{at}.output", attended, y, lambda z: norm(1, z), "feed_forward")

    def end(self, at, x, y, norm, place):
        """Residual and layer norm, in the order that is right or mistaken."""
        if "residual_after_layer_norm" in self.mistakes:
            return self.keep(f"{at}.add", x + norm(y))
        missing = f"{place}_residual_missing" in self.mistakes
        total = self.keep(f"{at}.add", y * 1 if missing else x + y)
        return total if "layer_norm_before" in self.mistakes else norm(total)

    def projections(self, at, x, p, use):
        """Query, key and value end to end, (B, S, 3H)."""
        thirds = []
        for part in ("query", "key", "value"):
            weight = use(self.parameters[f"{p}.attention.{part}.weight"])
            if f"{part}_weight_transposed" in self.mistakes:
                weight = weight.T
            y = x @ weight.T
            if "query_key_value_bias_missing" not in self.mistakes:
                y = y + use(self.parameters[f"{p}.attention.{part}.bias"])
            thirds.append(y)
        return self.keep(f"{at}.attention.query_key_value", torch.cat(thirds, -1))

    def split(self, at, x):
        """Query, key and value, each (B, A, S, D)."""
        A, m = self.config.num_attention_heads, self.mistakes
        parts = dict(zip("qkv", x.chunk(3, -1), strict=True))
        for mistake, order in ORDERS.items():
            if mistake in m:
                parts = {name: parts[place] for name, place in zip("qkv", order, strict=True)}
        B, S, H = parts["q"].shape
        for part, y in parts.items():
            if m & {"heads_interleaved", "heads_interleaved_throughout"}:
                parts[part] = y.reshape(B, S, H // A, A).permute(0, 3, 1, 2)
            else:
                parts[part] = y.reshape(B, S, A, H // A).transpose(1, 2)
        names = {"q": "query", "k": "key", "v": "value"}
        return [self.keep(f"{at}.split_heads.{names[n]}", y) for n, y in parts.items()]

    def scores(self, at, query, key, p, use):
        H, D = self.config.hidden_size, query.shape[-1]
        divisor = math.sqrt(D)
        if "scores_unscaled" in self.mistakes:
            divisor = 1
        if "scores_scaled_by_hidden_size" in self.mistakes:
            divisor = math.sqrt(H)
        if "scores_scaled_by_head_size" in self.mistakes:
            divisor = D
        scores = self.keep(f"{at}.scores", query @ key.mT / divisor)
        kind = self.config.position_embedding_type
        if kind == "absolute":
            return scores
        return self.relative_scores(at, scores, query, key, kind, p, use)

    def relative_scores(self, at, scores, query, key, kind, p, use):
        (*_, S, D), m = query.shape, self.mistakes
        table = use(self.parameters[f"{p}.attention.distance_embedding.weight"])
        i = torch.arange(S)
        distance = i[:, None] - i[None, :]
        if "distances_reversed" in m:
            distance = -distance
        vectors = table[distance + self.config.max_position_embeddings - 1]
        vectors = self.keep(f"{at}.distance_embedding", vectors)
        factor = 1 / math.sqrt(D) if "distance_scores_scaled" in m else 1
        by = torch.einsum("baid,ijd->baij", query, vectors) * factor
        by = self.keep(f"{at}.query_distance_scores", by)
        ignored = "distance_scores_ignored" in m
        scores = scores * 1 if ignored else scores + by
        scores = self.keep(f"{at}.add_query_distance_scores", scores)
        if kind == "relative_key_query":
            by = torch.einsum("bajd,ijd->baij", key, vectors) * factor
            by = self.keep(f"{at}.key_distance_scores", by)
            ignored = ignored or "key_distance_scores_ignored" in m
            scores = scores * 1 if ignored else scores + by
            scores = self.keep(f"{at}.add_key_distance_scores", scores)
        return scores

    def masked(self, at, scores):
        """Scores as the softmax sees them."""
        m, mask = self.mistakes, self.mask[:, None, None, :]
        if m & {"mask_added_after_softmax", "mask_multiplied_after_softmax"}:
            return scores
        if "mask_inverted" in m:
            mask = ~mask
        lowest = torch.finfo(self.dtype).min
        if "mask_of_minus_1" in m:
            lowest = -1.0
        if "mask_of_minus_10000" in m:
            lowest = -10_000.0
        y = scores + torch.where(mask, 0.0, lowest).to(self.dtype)
        if "mask_ignored" in m:
            y = scores * 1
        if "mask_multiplied" in m:
            y = scores * mask
        if "mask_not_converted" in m:
            y = scores + mask.to(self.dtype)
        return self.keep(f"{at}.mask", y)

    def attention(self, at, x, p, use, head_mask):
        projections = self.projections(at, x, p, use)
        name = f"{at}.attention.self"
        query, key, value = self.split(name, projections)
        scores = self.scores(name, query, key, p, use)
        has_mask = "attention_mask" in self.inputs and not self.mask.all()
        if has_mask:
            scores = self.masked(name, scores)
        axis = -2 if "softmax_over_queries" in self.mistakes else -1
        probabilities = self.keep(f"{name}.softmax", scores.softmax(axis))
        mask = self.mask[:, None, None, :]
        if has_mask and "mask_added_after_softmax" in self.mistakes:
            added = torch.where(mask, 0.0, -10_000.0).to(self.dtype)
            probabilities = self.keep(f"{name}.mask", probabilities + added)
        if has_mask and "mask_multiplied_after_softmax" in self.mistakes:
            probabilities = self.keep(f"{name}.mask", probabilities * mask)
        if head_mask is not None:
            ignored = "head_mask_ignored" in self.mistakes
            factor = torch.ones_like(head_mask) if ignored else head_mask
            probabilities = self.keep(f"{name}.mask_heads", probabilities * factor[:, None, None])
        context = self.keep(f"{name}.context", probabilities @ value)
        B, _, S, _ = context.shape
        merged = context.transpose(1, 2)
        if "heads_interleaved_throughout" in self.mistakes:
            merged = context.permute(0, 2, 3, 1)
        if "heads_merged_untransposed" in self.mistakes:
            merged = context
        merged = self.keep(f"{name}.merge_heads", merged.reshape(B, S, -1))
        dense = f"{p}.attention.dense"
        return self.linear(f"{at}.attention.dense", merged, dense, "attention_dense", use, False)

    # ── heads ───────────────────────────────────────────────────────────────────────────────────

    def pooler(self, x):
        at, m = f"{self.prefix}pooler", self.mistakes
        first = x[:, 0] * 1
        if "pooler_of_last_token" in m:
            first = x[:, -1] * 1
        if "pooler_of_mean" in m:
            first = x.mean(1)
        first = self.keep(f"{at}.first_token", first)
        if "pooler_skipped" in m:
            y = self.keep(f"{at}.linear", first * 1)
            return self.keep(f"{at}.tanh", y * 1)
        y = self.linear(f"{at}.linear", first, at, "pooler")
        return self.keep(f"{at}.tanh", y * 1 if "pooler_tanh_missing" in m else y.tanh())

    def cross_entropy(self, name, logits, labels, place="labels"):
        place, labels = f"of_{place}", labels.clone()
        if self.has("loss_with_ignored_labels", place):
            labels[labels == -100] = 0
        if self.has("loss_of_the_next_labels", place) and labels.ndim > 1:
            labels = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], 1)
        flat = F.cross_entropy(
            logits.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=-100
        )
        counted = (labels != -100).sum()
        losses = flat.reshape(labels.shape)
        loss = losses.sum() / counted
        if self.has("loss_mean_of_sentences", place) and labels.ndim > 1:
            rows = [(row, one) for row, one in zip(losses, labels, strict=True)]
            means = [row.sum() / (one != -100).sum() for row, one in rows if (one != -100).any()]
            loss = sum(means) / len(means)
        return self.keep(name, self.reduced(loss, counted, labels, place))

    def reduced(self, loss, counted, labels, place):
        """A mean loss, reduced otherwise."""
        if self.has("loss_over_all_positions", place):
            return loss * (counted / labels.numel())
        if self.has("loss_over_sentences", place):
            return loss * (counted / len(labels))
        if self.has("loss_summed", place):
            return loss * counted
        return loss

    def words(self, x):
        """The scores of all words."""
        at = "predictions"
        y = self.linear(f"{at}.dense", x, f"{at}.dense", "head_dense", bias=False)
        y = self.bias(f"{at}.activation.bias", y, f"{at}.dense.bias", "head_dense")
        y = self.activation(f"{at}.activation", y, "head")
        y = self.layer_norm(f"{at}.LayerNorm", y, f"{at}.LayerNorm", "head")
        weight = self.parameters["albert.embeddings.word_embeddings.weight"]
        y = y @ (weight.detach() if "decoder_untied" in self.mistakes else weight).T
        if "decoder_bias_missing" not in self.mistakes:
            y = y + self.parameters[f"{at}.bias"]
        return self.keep(f"{at}.decoder", y)

    def classification_loss(self, logits):
        labels = self.inputs["labels"]
        if self.config.problem_type == "multi_label_classification":
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(self.dtype))
        elif self.config.num_labels == 1:
            loss = F.mse_loss(logits, labels.to(self.dtype).reshape(logits.shape))
        else:
            return self.cross_entropy("loss", logits, labels)
        return self.keep("loss", self.reduced(loss, logits.numel(), labels, "of_labels"))

    def answers(self, x):
        logits = self.linear("qa_outputs.linear", x, "qa_outputs", "classifier")
        losses = []
        for column, end in enumerate(("start", "end")):
            exchanged = "answer_ends_exchanged" in self.mistakes
            one = logits[..., 1 - column if exchanged else column] * 1
            one = self.keep(f"qa_outputs.{end}.select", one)
            self.outputs[f"{end}_logits"] = one
            positions = self.inputs[f"{end}_positions"].clone()
            outside = (positions < 0) | (positions >= x.shape[1])
            if "answer_positions_clamped" in self.mistakes:
                outside &= positions >= 0
                positions = positions.clamp(min=0)
            positions[outside] = -100
            losses.append(self.cross_entropy(f"qa_outputs.{end}.loss", one, positions))
        total = losses[0] + losses[1]
        return self.keep(
            "qa_outputs.loss", total if "answer_losses_summed" in self.mistakes else total / 2
        )

    def forward(self):
        """The loss; None where the class has none."""
        x = self.encoder(self.embeddings())
        match self.head:
            case "AlbertModel":
                self.outputs["last_hidden_state"] = x
                if "pooler.weight" in self.parameters:
                    self.outputs["pooler_output"] = self.pooler(x)
                return None
            case "AlbertForMaskedLM":
                self.outputs["logits"] = logits = self.words(x)
                return self.cross_entropy(
                    "predictions.loss", logits, self.inputs["labels"], "words"
                )
            case "AlbertForPreTraining":
                return self.pretraining(x)
            case "AlbertForQuestionAnswering":
                return self.answers(x)
        if self.head != "AlbertForTokenClassification":
            x = self.pooler(x)
        logits = self.linear("classifier", x, "classifier", "classifier")
        if self.head == "AlbertForMultipleChoice":
            B, C, _ = self.case.inputs["input_ids"].shape
            another = "choices_in_another_order" in self.mistakes
            # Another order of the questions too, as a reshape of the wrong axes gives it.
            logits = logits.reshape(B, C) if not another else logits.reshape(C, B).T
            logits = self.keep("reshape", logits)
        self.outputs["logits"] = logits
        return self.classification_loss(logits)

    def pretraining(self, x):
        pooled = self.pooler(x)
        words = self.outputs["prediction_logits"] = self.words(x)
        loss = self.cross_entropy("predictions.loss", words, self.inputs["labels"], "words")
        at = "sop_classifier"
        order = self.linear(f"{at}.classifier", pooled, f"{at}.classifier", "classifier")
        self.outputs["sop_logits"] = order
        order = self.cross_entropy(
            f"{at}.loss", order, self.inputs["sentence_order_label"], "order"
        )
        if "sentence_order_loss_missing" in self.mistakes:
            return self.keep("loss", loss * 1)
        total = loss + order
        return self.keep("loss", total / 2 if "losses_averaged" in self.mistakes else total)
