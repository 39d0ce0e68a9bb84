"""The public classes: ALBERT, and ALBERT with each of its heads."""

from typing import NamedTuple

import numpy as np

from albert_np.albert import AlbertCache, albert_backward, albert_forward, albert_shapes
from albert_np.functions.bias import add_backward, add_forward
from albert_np.functions.cross_entropy import IGNORE_INDEX
from albert_np.heads import (
    NUM_ENDS,
    classifier_backward,
    classifier_forward,
    classifier_shapes,
    masked_lm_backward,
    masked_lm_forward,
    masked_lm_shapes,
    multiple_choice_backward,
    multiple_choice_forward,
    question_answering_backward,
    question_answering_forward,
    question_answering_shapes,
)
from albert_np.inputs import (
    check_classification_labels,
    check_labels,
    check_positions,
    merge_choices,
)
from albert_np.outputs import (
    AlbertForPreTrainingOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
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


class ClassificationModelCache(NamedTuple):
    albert: AlbertCache
    classifier: object


class MultipleChoiceModelCache(NamedTuple):
    albert: AlbertCache
    classifier: object
    num_choices: int


class QuestionAnsweringModelCache(NamedTuple):
    albert: AlbertCache
    qa_outputs: object


def _check_num_labels(config, expected, meaning):
    """Refuse a configuration that Hugging Face's class of the same name cannot run."""
    if config.num_labels != expected:
        raise ValueError(f"num_labels is {config.num_labels}; expected {expected}: {meaning}")


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

    Examples
    --------
    >>> from albert_np import AlbertModel, AlbertTokenizer
    >>> tokenizer = AlbertTokenizer.from_pretrained("tiny")
    >>> model = AlbertModel.from_pretrained("tiny")
    >>> inputs = tokenizer("Hello, my dog is cute", return_tensors="np")
    >>> outputs = model(**inputs)
    >>> outputs.last_hidden_state.shape == (*inputs.input_ids.shape, model.config.hidden_size)
    True
    """

    token_outputs = ("last_hidden_state",)

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

    Examples
    --------
    >>> import numpy as np
    >>> from albert_np import AlbertForMaskedLM, AlbertTokenizer
    >>> tokenizer = AlbertTokenizer.from_pretrained("tiny")
    >>> model = AlbertForMaskedLM.from_pretrained("tiny")

    The word at the mask token:

    >>> inputs = tokenizer("The capital of [MASK] is Paris.", return_tensors="np")
    >>> logits = model(**inputs).logits
    >>> mask_token_index = (inputs.input_ids == tokenizer.mask_token_id)[0].nonzero()[0]
    >>> predicted_token_id = logits[0, mask_token_index].argmax(axis=-1)
    >>> tokenizer.decode(predicted_token_id)
    'france'

    The five likeliest words, of which the small model, trained on other sentences, knows none:

    >>> prompt = "Plants create energy through a process known as [MASK]."
    >>> unknown = tokenizer(prompt, return_tensors="np")
    >>> (place,) = np.where(unknown["input_ids"][0] == tokenizer.mask_token_id)
    >>> top_k = np.argsort(-model(**unknown).logits[0, place], axis=-1)[:, :5]
    >>> predictions = [tokenizer.decode([token_id]) for token_id in top_k[0]]
    >>> len(predictions)
    5

    The loss at the mask token alone:

    >>> labels = tokenizer("The capital of France is Paris.", return_tensors="np")["input_ids"]
    >>> labels = np.where(inputs.input_ids == tokenizer.mask_token_id, labels, -100)
    >>> outputs = model(**inputs, labels=labels)
    >>> round(outputs.loss.item(), 2)
    0.04
    """

    label_names = ("labels",)
    token_labels = ("labels",)
    gathered_labels = "labels"
    token_outputs = ("logits",)

    @staticmethod
    def parameter_shapes(config):
        """The names and shapes of the parameters, in Hugging Face's order."""
        albert = albert_shapes(config, add_pooling_layer=False)
        return prefixed("albert", albert) | prefixed("predictions", masked_lm_shapes(config))

    def _check_labels(self, labels, batch):
        checked = check_labels(
            "labels", labels["labels"], batch.shape, self.config.vocab_size, batch.wrong
        )
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
    loss. The configuration's num_labels is 2, for the two orders. A call returns an
    `AlbertForPreTrainingOutput`, whose loss is there where both labels were given, and takes

    labels : array_like of int, shape (B, S), optional
        The words to predict, in [0, V), or −100 where nothing is to be predicted.
    sentence_order_label : array_like of int, shape (B,), optional
        0 where the two segments stand in their order, 1 where they were swapped, −100 to be
        ignored.

    Examples
    --------
    >>> import numpy as np
    >>> from albert_np import AlbertForPreTraining, AlbertTokenizer
    >>> tokenizer = AlbertTokenizer.from_pretrained("tiny")
    >>> model = AlbertForPreTraining.from_pretrained("tiny")
    >>> input_ids = np.array(tokenizer.encode("Hello, my dog is cute", add_special_tokens=True))
    >>> outputs = model(input_ids[None])  # a batch of 1
    >>> prediction_logits = outputs.prediction_logits
    >>> sop_logits = outputs.sop_logits
    >>> sop_logits.shape
    (1, 2)
    """

    label_names = ("labels", "sentence_order_label")
    token_labels = ("labels",)
    gathered_labels = "labels"
    token_outputs = ("prediction_logits",)

    @staticmethod
    def parameter_shapes(config):
        """The names and shapes of the parameters, in Hugging Face's order."""
        _check_num_labels(config, NUM_ORDERS, "the orders of two segments")
        return (
            prefixed("albert", albert_shapes(config, add_pooling_layer=True))
            | prefixed("predictions", masked_lm_shapes(config))
            | prefixed("sop_classifier", classifier_shapes(config, NUM_ORDERS))
        )

    def _check_labels(self, labels, batch):
        words, order = labels["labels"], labels["sentence_order_label"]
        return {
            "labels": check_labels(
                "labels", words, batch.shape, self.config.vocab_size, batch.wrong
            ),
            "sentence_order_label": check_labels(
                "sentence_order_label", order, batch.shape[:1], NUM_ORDERS, batch.wrong
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


class AlbertForSequenceClassification(AlbertPreTrainedModel):
    """ALBERT that classifies whole texts, or predicts numbers from them.

    Follows Hugging Face's class of that name: dropout and a linear map on the pooled output. The
    configuration's `problem_type` says which loss; where it is None, `num_labels` of 1 is a
    regression, and of several, integer labels are a single-label classification and floating ones
    a multi-label classification. A call returns a `SequenceClassifierOutput`, and takes

    labels : array_like, optional
        Of a regression, the numbers to predict, shape (B, num_labels), or (B,) for num_labels of
        1: mean squared error. Of a single-label classification, integers of shape (B,), in
        [0, num_labels), or −100 to be ignored: cross-entropy. Of a multi-label classification, 0
        or 1 or a probability between for each, shape (B, num_labels): binary cross-entropy.

    Examples
    --------
    Single-label classification, with a head that is drawn anew and yet to be trained:

    >>> import numpy as np
    >>> from albert_np import AlbertForSequenceClassification, AlbertTokenizer
    >>> tokenizer = AlbertTokenizer.from_pretrained("tiny")
    >>> model = AlbertForSequenceClassification.from_pretrained("tiny")
    >>> inputs = tokenizer("Hello, my dog is cute", return_tensors="np")
    >>> logits = model(**inputs).logits
    >>> predicted_class_id = logits.argmax().item()
    >>> model.config.id2label[predicted_class_id]
    'LABEL_1'

    To train on another number of classes, give it:

    >>> model = AlbertForSequenceClassification.from_pretrained("tiny", num_labels=3)
    >>> loss = model(**inputs, labels=np.array([1])).loss
    >>> round(loss.item(), 2)
    0.31

    Multi-label classification:

    >>> model = AlbertForSequenceClassification.from_pretrained(
    ...     "tiny", num_labels=3, problem_type="multi_label_classification"
    ... )
    >>> logits = model(**inputs).logits
    >>> labels = (logits > 0).astype(float)  # a probability above one half
    >>> loss = model(**inputs, labels=labels).loss
    >>> bool(loss < np.log(2))
    True
    """

    label_names = ("labels",)

    @staticmethod
    def parameter_shapes(config):
        """The names and shapes of the parameters, in Hugging Face's order."""
        albert = albert_shapes(config, add_pooling_layer=True)
        return prefixed("albert", albert) | classifier_shapes(config, config.num_labels)

    def _check_labels(self, labels, batch):
        B, _ = batch.shape
        checked, problem_type = check_classification_labels(
            labels["labels"], B, self.config, self.dtype, batch.wrong
        )
        return {"labels": checked, "problem_type": problem_type}

    def _forward(self, batch, labels, run):
        p = self.parameters
        albert, albert_cache = albert_forward(batch, under(p, "albert"), run.within("albert"))
        logits, loss, classifier_cache = classifier_forward(
            albert.pooler_output, labels["labels"], p, run, labels["problem_type"]
        )
        outputs = SequenceClassifierOutput(loss, logits, albert.hidden_states, albert.attentions)
        return outputs, ClassificationModelCache(albert_cache, classifier_cache)

    def _backward(self, gradients, cache, slots, run):
        dpooled = classifier_backward(
            gradients.get("logits"), gradients.get("loss"), cache.classifier, slots, run
        )
        gradients = gradients | {"pooler_output": dpooled}
        return albert_backward(
            gradients, cache.albert, under(slots, "albert"), run.within("albert")
        )


class AlbertForTokenClassification(AlbertPreTrainedModel):
    """ALBERT that classifies each token of a text.

    Follows Hugging Face's class of that name: dropout and a linear map on the last hidden state. A
    call returns a `TokenClassifierOutput`, and takes

    labels : array_like of int, shape (B, S), optional
        In [0, num_labels), or −100 to be ignored.

    Examples
    --------
    >>> import numpy as np
    >>> from albert_np import AlbertForTokenClassification, AlbertTokenizer
    >>> tokenizer = AlbertTokenizer.from_pretrained("tiny")
    >>> model = AlbertForTokenClassification.from_pretrained("tiny")
    >>> inputs = tokenizer(
    ...     "HuggingFace is a company based in Paris and New York",
    ...     add_special_tokens=False,
    ...     return_tensors="np",
    ... )
    >>> logits = model(**inputs).logits

    Tokens are classified, not words; a word may be of several.

    >>> predicted_token_class_ids = logits.argmax(-1)
    >>> classes = [model.config.id2label[i] for i in predicted_token_class_ids[0].tolist()]
    >>> len(classes) == len(tokenizer.convert_ids_to_tokens(inputs.input_ids[0]))
    True
    >>> loss = model(**inputs, labels=predicted_token_class_ids).loss
    >>> bool(loss < np.log(2))
    True
    """

    label_names = ("labels",)
    token_labels = ("labels",)
    token_outputs = ("logits",)

    @staticmethod
    def parameter_shapes(config):
        """The names and shapes of the parameters, in Hugging Face's order."""
        albert = albert_shapes(config, add_pooling_layer=False)
        return prefixed("albert", albert) | classifier_shapes(config, config.num_labels)

    def _check_labels(self, labels, batch):
        checked = check_labels(
            "labels", labels["labels"], batch.shape, self.config.num_labels, batch.wrong
        )
        return {"labels": checked}

    def _forward(self, batch, labels, run):
        p = self.parameters
        albert, albert_cache = albert_forward(batch, under(p, "albert"), run.within("albert"))
        logits, loss, classifier_cache = classifier_forward(
            albert.last_hidden_state, labels["labels"], p, run, packed=run.packed
        )
        outputs = TokenClassifierOutput(loss, logits, albert.hidden_states, albert.attentions)
        return outputs, ClassificationModelCache(albert_cache, classifier_cache)

    def _backward(self, gradients, cache, slots, run):
        dx = classifier_backward(
            gradients.get("logits"), gradients.get("loss"), cache.classifier, slots, run
        )
        gradients = gradients | {"last_hidden_state": dx}
        return albert_backward(
            gradients, cache.albert, under(slots, "albert"), run.within("albert")
        )


class AlbertForMultipleChoice(AlbertPreTrainedModel):
    """ALBERT that picks one of several choices.

    Follows Hugging Face's class of that name: each choice runs through the model as a text of its
    own, and its pooled output through dropout and a linear map to one logit. What other models take
    as (B, S), it takes as (B, C, S), one row for each of C choices, and inputs_embeds as
    (B, C, S, E). A call returns a `MultipleChoiceModelOutput`, and takes

    labels : array_like of int, shape (B,), optional
        The right choice, in [0, C), or −100 to be ignored.

    Examples
    --------
    >>> import numpy as np
    >>> from albert_np import AlbertForMultipleChoice, AlbertTokenizer
    >>> tokenizer = AlbertTokenizer.from_pretrained("tiny")
    >>> model = AlbertForMultipleChoice.from_pretrained("tiny")
    >>> prompt = "In Italy, pizza served in formal settings, such as at a restaurant, is unsliced."
    >>> choice0 = "It is eaten with a fork and a knife."
    >>> choice1 = "It is eaten while held in the hand."
    >>> labels = np.array([0])  # choice0 is right; a batch of 1
    >>> encoding = tokenizer(
    ...     [prompt, prompt], [choice0, choice1], return_tensors="np", padding=True
    ... )
    >>> outputs = model(**{name: array[None] for name, array in encoding.items()}, labels=labels)

    The linear classifier, which is drawn anew, still has to be trained.

    >>> loss = outputs.loss
    >>> logits = outputs.logits
    >>> logits.shape
    (1, 2)
    """

    label_names = ("labels",)

    @staticmethod
    def parameter_shapes(config):
        """The names and shapes of the parameters, in Hugging Face's order."""
        albert = albert_shapes(config, add_pooling_layer=True)
        return prefixed("albert", albert) | classifier_shapes(config, num_labels=1)

    def _check_batch(self, arguments):
        arguments, num_choices = merge_choices(arguments)
        return super()._check_batch(arguments)._replace(num_choices=num_choices)

    def _check_labels(self, labels, batch):
        C = batch.num_choices
        B = batch.shape[0] // C
        return {"labels": check_labels("labels", labels["labels"], (B,), C, batch.wrong)}

    def _forward(self, batch, labels, run):
        p = self.parameters
        albert, albert_cache = albert_forward(batch, under(p, "albert"), run.within("albert"))
        logits, loss, classifier_cache = multiple_choice_forward(
            albert.pooler_output, labels["labels"], batch.num_choices, p, run
        )
        outputs = MultipleChoiceModelOutput(loss, logits, albert.hidden_states, albert.attentions)
        return outputs, MultipleChoiceModelCache(albert_cache, classifier_cache, batch.num_choices)

    def _backward(self, gradients, cache, slots, run):
        dpooled = multiple_choice_backward(
            gradients.get("logits"), gradients.get("loss"), cache.classifier, slots, run
        )
        gradients = gradients | {"pooler_output": dpooled}
        dinputs_embeds = albert_backward(
            gradients, cache.albert, under(slots, "albert"), run.within("albert")
        )
        return dinputs_embeds.reshape(-1, cache.num_choices, *dinputs_embeds.shape[1:])


class AlbertForQuestionAnswering(AlbertPreTrainedModel):
    """ALBERT that finds the answer to a question in a text: where it starts, and where it ends.

    Follows Hugging Face's class of that name: a linear map of the last hidden state to two logits
    a token. The configuration's num_labels is 2, for the two ends. A call returns a
    `QuestionAnsweringModelOutput`, whose loss is there where both positions were given, and takes

    start_positions, end_positions : array_like of int, shape (B,), optional
        The answer's first and last token. Positions outside of the sequence are ignored.

    Examples
    --------
    >>> import numpy as np
    >>> from albert_np import AlbertForQuestionAnswering, AlbertTokenizer
    >>> tokenizer = AlbertTokenizer.from_pretrained("tiny")
    >>> model = AlbertForQuestionAnswering.from_pretrained("tiny")
    >>> question, text = "Who was Jim Henson?", "Jim Henson was a nice puppet"
    >>> inputs = tokenizer(question, text, return_tensors="np")
    >>> outputs = model(**inputs)

    The answer, by a head that is drawn anew and yet to be trained, is any span, or none:

    >>> answer_start_index = outputs.start_logits.argmax()
    >>> answer_end_index = outputs.end_logits.argmax()
    >>> predict_answer_tokens = inputs.input_ids[0, answer_start_index : answer_end_index + 1]
    >>> answer = tokenizer.decode(predict_answer_tokens, skip_special_tokens=True)

    The target is "nice puppet", tokens 14 and 15 of the published vocabulary:

    >>> target_start_index, target_end_index = np.array([14]), np.array([15])
    >>> outputs = model(
    ...     **inputs, start_positions=target_start_index, end_positions=target_end_index
    ... )
    >>> loss = outputs.loss
    >>> bool(np.isfinite(loss))
    True
    """

    label_names = ("start_positions", "end_positions")

    @staticmethod
    def parameter_shapes(config):
        """The names and shapes of the parameters, in Hugging Face's order."""
        _check_num_labels(config, NUM_ENDS, "the start and the end of an answer")
        albert = albert_shapes(config, add_pooling_layer=False)
        return prefixed("albert", albert) | prefixed(
            "qa_outputs", question_answering_shapes(config)
        )

    def _check_labels(self, labels, batch):
        return {
            name: check_positions(name, positions, batch.shape)
            for name, positions in labels.items()
        }

    def _needs_padding(self, labels, packed):
        return True  # its softmax spans the padding

    def _packed_labels(self, labels, packed):
        """Positions in the padding are outside of the sequence, and so ignored."""
        rows = np.arange(len(packed.real))
        checked = dict(labels)
        for name, positions in labels.items():
            if positions is not None:
                inside = packed.real[rows, np.maximum(positions, 0)]
                checked[name] = np.where(inside, positions, IGNORE_INDEX)
        return checked

    def _forward(self, batch, labels, run):
        p = self.parameters
        if any(positions is None for positions in labels.values()):
            labels = dict.fromkeys(labels)  # the loss is of both, or there is none
        albert, albert_cache = albert_forward(batch, under(p, "albert"), run.within("albert"))
        start_logits, end_logits, loss, qa_cache = question_answering_forward(
            albert.last_hidden_state,
            labels["start_positions"],
            labels["end_positions"],
            under(p, "qa_outputs"),
            run.within("qa_outputs"),
        )
        outputs = QuestionAnsweringModelOutput(
            loss, start_logits, end_logits, albert.hidden_states, albert.attentions
        )
        return outputs, QuestionAnsweringModelCache(albert_cache, qa_cache)

    def _backward(self, gradients, cache, slots, run):
        dx = question_answering_backward(
            gradients.get("start_logits"),
            gradients.get("end_logits"),
            gradients.get("loss"),
            cache.qa_outputs,
            under(slots, "qa_outputs"),
            run.within("qa_outputs"),
        )
        gradients = gradients | {"last_hidden_state": dx}
        return albert_backward(
            gradients, cache.albert, under(slots, "albert"), run.within("albert")
        )
