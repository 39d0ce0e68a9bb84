"""The public classes: ALBERT, and ALBERT with each of its heads."""

from typing import NamedTuple

from albert_np.albert import AlbertCache, albert_backward, albert_forward, albert_shapes
from albert_np.functions.bias import add_backward, add_forward
from albert_np.heads import (
    classifier_backward,
    classifier_forward,
    classifier_shapes,
    masked_lm_backward,
    masked_lm_forward,
    masked_lm_shapes,
)
from albert_np.inputs import check_labels
from albert_np.outputs import AlbertForPreTrainingOutput, MaskedLMOutput
from albert_np.parameters import prefixed, under
from albert_np.pretrained import AlbertPreTrainedModel

WORD_EMBEDDINGS = "albert.embeddings.word_embeddings.weight"
NUM_ORDERS = 2  # the segments of a pair: in order, or swapped


class MaskedLMModelCache(NamedTuple):
    albert: AlbertCache
    predictions: object


class PreTrainingModelCache(NamedTuple):
    albert: AlbertCache
    predictions: object
    sop_classifier: object


class AlbertModel(AlbertPreTrainedModel):
    """ALBERT without a head: hidden states, and the pooled first token.

    Follows Hugging Face's class of that name; section 3.1 of the paper. A call returns a
    `BaseModelOutputWithPooling`.

    Parameters
    ----------
    config : AlbertConfig
    add_pooling_layer : bool, optional
    seed, dtype, backend
        See `AlbertPreTrainedModel`.
    """

    def __init__(self, config, add_pooling_layer=True, **settings):
        super().__init__(config, add_pooling_layer=add_pooling_layer, **settings)

    @staticmethod
    def parameter_shapes(config, add_pooling_layer=True):
        """The names and shapes of the parameters, in Hugging Face's order."""
        return albert_shapes(config, add_pooling_layer)

    def _forward(self, batch, labels, run):
        return albert_forward(batch, self.parameters, run)

    def _backward(self, gradients, cache, slots, run):
        return albert_backward(gradients, cache, slots, run)


class AlbertForMaskedLM(AlbertPreTrainedModel):
    """ALBERT that fills in masked words.

    Follows Hugging Face's class of that name. The decoder is tied to the word embeddings. A call
    returns a `MaskedLMOutput`, and takes

    labels : array_like of int, shape (B, S), optional
        The words to predict, in [0, V), or −100 where nothing is to be predicted.
    """

    label_names = ("labels",)

    @staticmethod
    def parameter_shapes(config):
        """The names and shapes of the parameters, in Hugging Face's order."""
        albert = albert_shapes(config, add_pooling_layer=False)
        return prefixed("albert", albert) | prefixed("predictions", masked_lm_shapes(config))

    def _check_labels(self, labels, shape):
        checked = check_labels("labels", labels["labels"], shape, self.config.vocab_size)
        return {"labels": checked}

    def _forward(self, batch, labels, run):
        p = self.parameters
        albert, albert_cache = albert_forward(batch, under(p, "albert"), run.within("albert"))
        logits, loss, predictions_cache = masked_lm_forward(
            albert.last_hidden_state,
            labels["labels"],
            under(p, "predictions"),
            p[WORD_EMBEDDINGS],
            run.within("predictions"),
        )
        outputs = MaskedLMOutput(loss, logits, albert.hidden_states, albert.attentions)
        return outputs, MaskedLMModelCache(albert_cache, predictions_cache)

    def _backward(self, gradients, cache, slots, run):
        dx = masked_lm_backward(
            gradients.get("logits"),
            gradients.get("loss"),
            cache.predictions,
            under(slots, "predictions"),
            slots[WORD_EMBEDDINGS],
            run.within("predictions"),
        )
        gradients = gradients | {"last_hidden_state": dx}
        return albert_backward(
            gradients, cache.albert, under(slots, "albert"), run.within("albert")
        )


class AlbertForPreTraining(AlbertPreTrainedModel):
    """ALBERT as it is pretrained: masked words, and the order of two segments.

    Follows Hugging Face's class of that name; section 3.1 of the paper for the sentence order
    loss. A call returns an `AlbertForPreTrainingOutput`, whose loss is there where both labels
    were given, and takes

    labels : array_like of int, shape (B, S), optional
        The words to predict, in [0, V), or −100 where nothing is to be predicted.
    sentence_order_label : array_like of int, shape (B,), optional
        0 where the two segments stand in their order, 1 where they were swapped, −100 to be
        ignored.
    """

    label_names = ("labels", "sentence_order_label")

    @staticmethod
    def parameter_shapes(config):
        """The names and shapes of the parameters, in Hugging Face's order."""
        return (
            prefixed("albert", albert_shapes(config, add_pooling_layer=True))
            | prefixed("predictions", masked_lm_shapes(config))
            | prefixed("sop_classifier", classifier_shapes(config, NUM_ORDERS))
        )

    def _check_labels(self, labels, shape):
        order = labels["sentence_order_label"]
        return {
            "labels": check_labels("labels", labels["labels"], shape, self.config.vocab_size),
            "sentence_order_label": check_labels(
                "sentence_order_label", order, shape[:1], NUM_ORDERS
            ),
        }

    def _forward(self, batch, labels, run):
        p = self.parameters
        if any(label is None for label in labels.values()):
            labels = dict.fromkeys(labels)  # the loss is of both, or there is none
        albert, albert_cache = albert_forward(batch, under(p, "albert"), run.within("albert"))
        prediction_logits, masked_lm_loss, predictions_cache = masked_lm_forward(
            albert.last_hidden_state,
            labels["labels"],
            under(p, "predictions"),
            p[WORD_EMBEDDINGS],
            run.within("predictions"),
        )
        sop_logits, sop_loss, sop_cache = classifier_forward(
            albert.pooler_output,
            labels["sentence_order_label"],
            under(p, "sop_classifier"),
            run.within("sop_classifier"),
        )
        loss = None
        if masked_lm_loss is not None:
            loss, _ = run.call("loss", add_forward, masked_lm_loss, sop_loss)
        outputs = AlbertForPreTrainingOutput(
            loss, prediction_logits, sop_logits, albert.hidden_states, albert.attentions
        )
        return outputs, PreTrainingModelCache(albert_cache, predictions_cache, sop_cache)

    def _backward(self, gradients, cache, slots, run):
        dmasked_lm_loss = dsop_loss = None
        if gradients.get("loss") is not None:
            dmasked_lm_loss, dsop_loss = run.call("loss", add_backward, gradients["loss"], None)
        dpooled = classifier_backward(
            gradients.get("sop_logits"),
            dsop_loss,
            cache.sop_classifier,
            under(slots, "sop_classifier"),
            run.within("sop_classifier"),
        )
        dx = masked_lm_backward(
            gradients.get("prediction_logits"),
            dmasked_lm_loss,
            cache.predictions,
            under(slots, "predictions"),
            slots[WORD_EMBEDDINGS],
            run.within("predictions"),
        )
        gradients = gradients | {"last_hidden_state": dx, "pooler_output": dpooled}
        return albert_backward(
            gradients, cache.albert, under(slots, "albert"), run.within("albert")
        )
