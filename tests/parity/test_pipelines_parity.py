"""Filling in masks, against the `FillMaskPipeline` of transformers 4.56.2 run live, in float64."""

import pytest

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from pipelines_support import WORDS, save_small_model  # noqa: E402

from albert_np import AlbertForPreTraining, AlbertTokenizer  # noqa: E402
from albert_np.pipelines import fill_mask  # noqa: E402

# Both are float64, and the logits agree to 1e-11 of their largest (test_models_parity.py), which
# stays below 100; a softmax changes by at most that much.
TOLERANCE = 1e-9

TEXTS = st.lists(st.sampled_from([*WORDS, "[MASK]", "Paris.", "É"]), max_size=8).map(
    lambda words: " ".join([*words, "[MASK]"])
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def peer(directory):
    """The peer's pipeline, on the checkpoint that we saved."""
    model = transformers.AlbertForMaskedLM.from_pretrained(directory, dtype=torch.float64)
    tokenizer = transformers.AlbertTokenizer.from_pretrained(directory)
    return transformers.FillMaskPipeline(model, tokenizer, framework="pt", device="cpu")


@pytest.fixture(scope="module")
def ours(directory):
    return (
        AlbertForPreTraining.from_pretrained(directory, dtype="float64"),
        AlbertTokenizer.from_pretrained(directory),
    )


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@given(texts=TEXTS | st.lists(TEXTS, min_size=1, max_size=4))
def test_same_results(ours, peer, texts):
    vocab_size = ours[0].config.vocab_size  # all words, so that ties at the end cannot differ
    assert_same(fill_mask(*ours, texts, top_k=vocab_size), peer(texts, top_k=vocab_size))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_same_default(ours, peer):
    text = "The capital of [MASK] is [MASK]."
    assert_same(fill_mask(*ours, text), peer(text))
