"""The pipelines, against those of transformers 4.56.2 run live, in float64."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from pipelines_support import (  # noqa: E402
    RELATIONS,
    WORDS,
    save_answerer,
    save_classifier,
    save_small_model,
    save_tagger,
)

from albert_np import (  # noqa: E402
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertModel,
    AlbertTokenizer,
    AlbertTokenizerFast,
)
from albert_np.pipelines import (  # noqa: E402
    answer,
    classify,
    classify_zero_shot,
    embed,
    fill_mask,
    tag,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

# Both are float64, and the logits agree to 1e-11 of their largest (test_models_parity.py), which
# stays below 100; a softmax changes by at most that much.
TOLERANCE = 1e-9

# The peer's pipelines of whole texts turn logits to float32. They are below 100 here, so that each
# is off by 2⁻²⁴ of that, and what follows from the difference of two by twice as much.
FLOAT32_TOLERANCE = 2 * 100 * 2**-24

ODD_WORDS = ("Paris.", "É", "☃", "(red)", "is,", "9,5", "FRANCE", "ﬁne")
SENTENCES = st.lists(st.sampled_from([*WORDS, *ODD_WORDS]), min_size=1, max_size=12).map(" ".join)
TEXTS = st.lists(st.sampled_from([*WORDS, "[MASK]", "Paris.", "É"]), max_size=8).map(
    lambda words: " ".join([*words, "[MASK]"])
)


def load_peer(pipeline, model_class, directory, fast=False):
    """The peer's pipeline, on a checkpoint that we saved."""
    model = getattr(transformers, model_class).from_pretrained(directory, dtype=torch.float64)
    tokenizer_class = transformers.AlbertTokenizerFast if fast else transformers.AlbertTokenizer
    tokenizer = tokenizer_class.from_pretrained(directory)
    return getattr(transformers, pipeline)(
        model=model, tokenizer=tokenizer, framework="pt", device="cpu"
    )


def load_ours(model_class, tokenizer_class, directory):
    return (
        model_class.from_pretrained(directory, dtype="float64"),
        tokenizer_class.from_pretrained(directory),
    )


# ------------------------------------------------------------------------------ fill-mask


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def peer(directory):
    return load_peer("FillMaskPipeline", "AlbertForMaskedLM", directory)


@pytest.fixture(scope="module")
def ours(directory):
    return load_ours(AlbertForPreTraining, AlbertTokenizer, directory)


def assert_same(result, expected):
    """The same nesting, and in it the same words, whatever the order of those that tie."""
    assert type(result) is type(expected)
    assert len(result) == len(expected)
    if isinstance(expected[0], list):
        for item, expected_item in zip(result, expected, strict=True):
            assert_same(item, expected_item)
        return
    found = {word["token"]: word for word in result}
    for place, word in enumerate(expected):
        score = pytest.approx(word["score"], rel=0, abs=TOLERANCE)
        assert result[place]["score"] == score
        assert found[word["token"]] == word | {"score": score}


@given(texts=TEXTS | st.lists(TEXTS, min_size=1, max_size=4))
def test_same_results(ours, peer, texts):
    vocab_size = ours[0].config.vocab_size  # all words, so that ties at the end cannot differ
    assert_same(fill_mask(*ours, texts, top_k=vocab_size), peer(texts, top_k=vocab_size))


def test_same_default(ours, peer):
    text = "The capital of [MASK] is [MASK]."
    assert_same(fill_mask(*ours, text), peer(text))


# ------------------------------------------------------------------------------ embed


@pytest.fixture(scope="module")
def embedders(tmp_path_factory):
    directory = save_small_model(tmp_path_factory.mktemp("base"), AlbertModel)
    peer = load_peer("FeatureExtractionPipeline", "AlbertModel", directory)
    return load_ours(AlbertModel, AlbertTokenizer, directory), peer


@given(texts=st.lists(SENTENCES, min_size=1, max_size=4))
def test_same_vectors(embedders, texts):
    ours, peer = embedders
    features = [np.array(one[0]) for one in peer(texts)]
    cls, mean = (embed(*ours, texts, pooling) for pooling in ("cls", "mean"))
    np.testing.assert_allclose(cls, [one[0] for one in features], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(mean, [one.mean(axis=0) for one in features], rtol=0, atol=TOLERANCE)


# ------------------------------------------------------------------------------ classify


@pytest.fixture(scope="module", params=[("score",), RELATIONS], ids=["one label", "three labels"])
def classifiers(request, tmp_path_factory):
    directory = save_classifier(tmp_path_factory.mktemp("classifier"), request.param)
    peer = load_peer("TextClassificationPipeline", "AlbertForSequenceClassification", directory)
    return load_ours(AlbertForSequenceClassification, AlbertTokenizer, directory), peer


def assert_close(result, expected, tolerance):
    """The same nesting and labels, and scores within a tolerance."""
    if isinstance(expected, list):
        assert len(result) == len(expected)
        for item, expected_item in zip(result, expected, strict=True):
            assert_close(item, expected_item, tolerance)
    else:
        score = pytest.approx(expected["score"], rel=0, abs=tolerance)
        assert result == expected | {"score": score}


PAIRS = st.fixed_dictionaries({"text": SENTENCES}, optional={"text_pair": SENTENCES})


@given(
    texts=SENTENCES | PAIRS | st.lists(SENTENCES | PAIRS, min_size=1, max_size=4),
    problem_type=st.sampled_from(
        [None, "regression", "single_label_classification", "multi_label_classification"]
    ),
    options=st.fixed_dictionaries({}, optional={"top_k": st.sampled_from([1, 2, None])}),
)
def test_same_labels(classifiers, texts, problem_type, options):
    ours, peer = classifiers
    model, _ = ours
    model.config.problem_type = peer.model.config.problem_type = problem_type
    if options.get("top_k") is not None:  # more than there are: an error here, all there
        options["top_k"] = min(options["top_k"], model.config.num_labels)
    expected = peer(texts, **options)
    assert_close(classify(*ours, texts, **options), expected, FLOAT32_TOLERANCE)


# ------------------------------------------------------------------------------ zero-shot


@pytest.fixture(scope="module", params=[RELATIONS, ("Entailment", "other", "contradiction")])
def judges(request, tmp_path_factory):
    directory = save_classifier(tmp_path_factory.mktemp("judge"), request.param)
    peer = load_peer("ZeroShotClassificationPipeline", "AlbertForSequenceClassification", directory)
    return load_ours(AlbertForSequenceClassification, AlbertTokenizer, directory), peer


@given(
    texts=SENTENCES | st.lists(SENTENCES, min_size=1, max_size=3),
    labels=st.lists(st.sampled_from(WORDS[:-1]), min_size=1, max_size=4, unique=True),
    template=st.sampled_from(["This example is {}.", "{} the cat", "{}"]),
    multi_label=st.booleans(),
    joined=st.booleans(),
)
def test_same_choices(judges, texts, labels, template, multi_label, joined):
    ours, peer = judges
    labels = ", ".join(labels) if joined else labels
    expected = peer(
        texts, candidate_labels=labels, hypothesis_template=template, multi_label=multi_label
    )
    result = classify_zero_shot(*ours, texts, labels, template, multi_label)
    assert type(result) is type(expected)
    one = isinstance(texts, str)
    for item, expected_item in zip(
        [result] if one else result, [expected] if one else expected, strict=True
    ):
        assert item["sequence"] == expected_item["sequence"]
        np.testing.assert_allclose(
            item["scores"], expected_item["scores"], rtol=0, atol=FLOAT32_TOLERANCE
        )
        scores = dict(zip(item["labels"], item["scores"], strict=True))
        for label, score in zip(expected_item["labels"], expected_item["scores"], strict=True):
            assert scores[label] == pytest.approx(score, rel=0, abs=FLOAT32_TOLERANCE)


# ------------------------------------------------------------------------------ tag


@pytest.fixture(scope="module")
def taggers(tmp_path_factory):
    directory = save_tagger(tmp_path_factory.mktemp("tagger"))
    peer = load_peer(
        "TokenClassificationPipeline", "AlbertForTokenClassification", directory, fast=True
    )
    return load_ours(AlbertForTokenClassification, AlbertTokenizerFast, directory), peer


STRATEGIES = st.sampled_from(["none", "simple", "first", "average", "max"])


def assert_same_tags(result, expected, strategy):
    """The same parts; of whole words, the text as the part's own tokens spell it.

    The peer joins the words of a part without the spaces between them ("newyork").
    """
    for entity, expected_entity in zip(result, expected, strict=True):
        score = pytest.approx(float(expected_entity["score"]), rel=0, abs=TOLERANCE)
        assert entity["score"] == score
        if strategy in ("none", "simple"):
            assert entity == expected_entity | {"score": score}
        else:
            assert entity["word"].replace(" ", "") == expected_entity["word"].replace(" ", "")
            assert entity == expected_entity | {"score": score, "word": entity["word"]}


@given(
    texts=st.lists(SENTENCES, min_size=1, max_size=3),
    strategy=STRATEGIES,
    ignored=st.sampled_from([["O"], [], ["O", "B-PER", "LOC"]]),
)
def test_same_tags(taggers, texts, strategy, ignored):
    ours, peer = taggers
    options = {"aggregation_strategy": strategy, "ignore_labels": ignored}
    for text, result in zip(texts, tag(*ours, texts, **options), strict=True):
        assert_same_tags(result, peer(text, **options), strategy)


@given(text=st.lists(SENTENCES, min_size=12, max_size=20).map(" ".join), strategy=STRATEGIES,
       stride=st.integers(0, 60))  # fmt: skip
def test_same_tags_of_a_long_text(taggers, text, strategy, stride):
    ours, peer = taggers
    if strategy == "none":
        strategy = "simple"
    options = {"aggregation_strategy": strategy, "stride": stride, "ignore_labels": ["O"]}
    assert_same_tags(tag(*ours, text, **options), peer(text, **options), strategy)


@given(
    words=st.lists(st.sampled_from([*WORDS, *ODD_WORDS]), min_size=1, max_size=12),
    strategy=STRATEGIES,
)
def test_same_tags_of_words_given_apart(taggers, words, strategy):
    ours, peer = taggers
    options = {"aggregation_strategy": strategy, "is_split_into_words": True, "ignore_labels": []}
    (expected,) = peer([words], **options)
    assert_same_tags(tag(*ours, words, **options), expected, strategy)


# ------------------------------------------------------------------------------ answer


@pytest.fixture(scope="module")
def answerers(tmp_path_factory):
    directory = save_answerer(tmp_path_factory.mktemp("answerer"))
    peer = load_peer(
        "QuestionAnsweringPipeline", "AlbertForQuestionAnswering", directory, fast=True
    )
    return load_ours(AlbertForQuestionAnswering, AlbertTokenizerFast, directory), peer


def listed(answers):
    """A list of answers, without what the peer adds of probability 0: spans that end before they
    begin, where it is asked for more answers than there are."""
    answers = [answers] if isinstance(answers, dict) else answers
    return [found for found in answers if found["score"] > 0]


@given(
    question=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
    context=st.lists(SENTENCES, min_size=1, max_size=10).map(" ".join),
    options=st.fixed_dictionaries(
        {},
        optional={
            "top_k": st.sampled_from([1, 2, 3, 8, 400]),
            "max_answer_len": st.integers(1, 20),
            "handle_impossible_answer": st.booleans(),
            "max_seq_len": st.integers(60, 128),
            "doc_stride": st.integers(1, 25),
        },
    ),
)
def test_same_answers(answerers, question, context, options):
    ours, peer = answerers
    options = {"doc_stride": 20, **options}
    result = answer(*ours, question, context, **options)
    expected = peer(question=question, context=context, **options)
    assert_close(listed(result), listed(expected), TOLERANCE)


@given(context=st.lists(SENTENCES, min_size=10, max_size=20).map(" ".join))
@settings(max_examples=15)
def test_all_answers_in_a_long_context(answerers, context):
    ours, peer = answerers
    asked = {"top_k": 2000, "handle_impossible_answer": True, "max_seq_len": 60, "doc_stride": 20}
    result = answer(*ours, "what is red", context, **asked)
    expected = peer(question="what is red", context=context, **asked)
    assert_close(listed(result), listed(expected), TOLERANCE)


def test_same_shapes_of_answers(answerers):
    ours, peer = answerers
    for question in ("what", ["what"], ["what", "red"]):
        for top_k in (1, 2):
            result = answer(*ours, question, "the sky is red", top_k=top_k)
            expected = peer(question=question, context="the sky is red", top_k=top_k)
            assert type(result) is type(expected)
            assert_close(result, expected, TOLERANCE)
