"""Models by a name on the hub: from a cache made by hand, without a connection."""

import os
import re
import sys

import pytest

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertModel, hub
from albert_np.checkpoint import MODEL_FILES, resolve_directory
from albert_np.errors import FileFormatError

NAME = "someone/some-albert"
COMMITS = {"main": "0123456789abcdef0123456789abcdef01234567", "small": "f" * 40}
CONFIG = AlbertConfig(
    vocab_size=20,
    embedding_size=4,
    hidden_size=6,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=5,
    max_position_embeddings=8,
)


@pytest.fixture
def cache(tmp_path):
    """A cache as huggingface_hub lays it out, with two revisions of one model."""
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    repository = tmp_path / "cache" / "models--someone--some-albert"
    (repository / "refs").mkdir(parents=True)
    for i, (revision, commit) in enumerate(COMMITS.items()):
        (repository / "refs" / revision).write_text(commit)
        blobs = repository / "blobs" / commit
        AlbertForMaskedLM(CONFIG, seed=i).save_pretrained(blobs, max_shard_size=300)
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for blob in blobs.iterdir():
            (snapshot / blob.name).symlink_to(os.path.relpath(blob, snapshot))
    return tmp_path / "cache"


def assert_seed(model, seed):
    expected = AlbertForMaskedLM(CONFIG, seed=seed)
    for name, array in expected.parameters.items():
        assert (model.parameters[name] == array).all()


def test_a_model_from_the_cache(cache):
    for settings in ({}, {"local_files_only": True}, {"revision": "main"}):
        assert_seed(AlbertForMaskedLM.from_pretrained(NAME, cache_dir=cache, **settings), 0)


def test_a_revision(cache):
    for revision in ("small", "f" * 40):
        model = AlbertForMaskedLM.from_pretrained(NAME, cache_dir=cache, revision=revision)
        assert_seed(model, 1)


def test_a_configuration_from_the_cache(cache):
    config = AlbertConfig.from_pretrained(NAME, cache_dir=cache, local_files_only=True)
    assert config.hidden_size == 6


def test_a_directory_is_taken_before_the_hub(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    AlbertForMaskedLM(CONFIG, seed=5).save_pretrained(tmp_path / NAME)
    assert_seed(AlbertForMaskedLM.from_pretrained(NAME, cache_dir=cache, revision="small"), 5)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        (NAME, {"revision": "none"}, ["on the hub, revision 'none'"]),
        ("someone/other", {}, ["'someone/other' is not a directory (looked for ", "on the hub;"]),
        ("someone/other", {"local_files_only": True}, ["in the cache of Hugging Face's hub;"]),
        ("albert-base-v2", {}, ["'albert-base-v2' is not a directory", "tiny"]),
        ("a--b", {}, ["'a--b' is not a directory", "'a--b'"]),
    ],
)
def test_what_is_not_found(cache, name, settings, words):
    with pytest.raises(FileNotFoundError) as caught:
        AlbertModel.from_pretrained(name, cache_dir=cache, **settings)
    for part in words:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_snapshot_without_weights(cache):
    for path in cache.rglob("snapshots/*/model*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no file .*snapshots.*model.safetensors"):
        AlbertForMaskedLM.from_pretrained(NAME, cache_dir=cache)
    for path in cache.rglob("snapshots/*/config.json"):
        (path.parent / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileFormatError, match="never read"):
        AlbertForMaskedLM.from_pretrained(NAME, cache_dir=cache)


def test_only_what_is_needed_is_asked_for(tmp_path, monkeypatch):
    library = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    asked = {}

    def snapshot_download(name, **settings):
        asked.update(settings, name=name)
        return str(tmp_path)

    monkeypatch.setattr(library, "snapshot_download", snapshot_download)
    assert resolve_directory("albert/albert-base-v2", revision="v", cache_dir="c") == tmp_path
    assert asked == {
        "name": "albert/albert-base-v2",
        "revision": "v",
        "cache_dir": "c",
        "local_files_only": False,
        "allow_patterns": list(MODEL_FILES),
    }
    assert not any("bin" in pattern for pattern in MODEL_FILES)
    resolve_directory("albert/albert-base-v2", ("spiece.model",))
    assert asked["allow_patterns"] == ["spiece.model"]


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = (
        "'albert/albert-base-v2' is not a directory .*name on Hugging Face's hub, "
        "for which huggingface_hub is needed: python -m pip install huggingface_hub"
    )
    with pytest.raises(FileNotFoundError, match=message):
        AlbertModel.from_pretrained("albert/albert-base-v2")


@pytest.mark.parametrize("name", ["albert/albert-base-v2", "albert-base-v2", "A.b_c/d-e"])
def test_names(name):
    assert hub.is_hub_name(name)


@pytest.mark.parametrize("name", ["a/b/c", "/a", "a/", "./a", "../a", "a b", "a\\b", "a/b\n"])
def test_what_is_no_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert not hub.is_hub_name(name)
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(repr(name))} is not a directory"):
        resolve_directory(name)
