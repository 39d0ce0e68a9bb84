"""Pretraining on a text file: what it learns from, what it refuses, what it leaves."""

import json
from itertools import islice

import numpy as np
import pytest
import sentencepiece

from albert_np import AlbertConfig, AlbertForPreTraining, AlbertTokenizer
from albert_np.errors import FileFormatError
from albert_np.training.text import fitting, pretrain_text, read_documents, shuffled
from albert_np.training.vocabulary import tokenizer_of, train_vocabulary

STORY = """The sun rose over the hill.
A boy walked to the river.
He sat down and waited for the fish.

The train left the town at noon.
It was late when it came to the sea.
"""
SMALL = {
    "embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 96,
}  # fmt: skip


@pytest.fixture
def story(tmp_path):
    path = tmp_path / "story.txt"
    path.write_text(STORY, encoding="utf-8")
    return path


def test_a_text_is_pretrained_on_and_saved(story, tmp_path):
    pytest.importorskip("matplotlib")
    config = AlbertConfig(vocab_size=400, **SMALL)
    model, tokenizer = pretrain_text(
        story, tmp_path / "model", config=config, steps=30, batch_size=4, learning_rate=5e-3
    )
    losses = json.loads((tmp_path / "model/training_log.json").read_text())["losses"]["loss"]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert (tmp_path / "model/loss.png").exists()
    loaded = AlbertForPreTraining.from_pretrained(tmp_path / "model")
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], array)
    assert AlbertTokenizer.from_pretrained(tmp_path / "model").tokenize("the boy") == (
        tokenizer.tokenize("the boy")
    )


def test_a_vocabulary_of_ones_own_is_kept(story, tmp_path):
    pytest.importorskip("matplotlib")
    vocabulary = tmp_path / "own.model"
    vocabulary.write_bytes(train_vocabulary(["the sun and the river and the train"], 400))
    pretrain_text(
        story, tmp_path / "model", vocabulary, AlbertConfig(vocab_size=400, **SMALL), 2, 2
    )
    assert (tmp_path / "model/spiece.model").read_bytes() == vocabulary.read_bytes()


def test_special_tokens_are_those_of_the_vocabulary(story, tmp_path):
    """SentencePiece's own defaults give <unk>, <s>, </s> the ids 0, 1, 2, and nothing else."""
    pytest.importorskip("matplotlib")
    vocabulary = tmp_path / "own.model"
    with vocabulary.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(STORY.split("\n")), model_writer=file, vocab_size=40,
            hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
    model, tokenizer = pretrain_text(story, tmp_path / "model", vocabulary, steps=1, batch_size=2)
    assert tokenizer.pad_token_id > 2
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        assert getattr(model.config, name) == getattr(tokenizer, name)


def test_a_configuration_with_another_padding_token_is_refused(story, tmp_path):
    config = AlbertConfig(vocab_size=400, pad_token_id=1, **SMALL)
    with pytest.raises(ValueError, match="config.pad_token_id is 1; the vocabulary's is 0"):
        pretrain_text(story, tmp_path / "model", config=config)


def test_a_run_that_diverges_leaves_the_older_model_alone(story, tmp_path):
    pytest.importorskip("matplotlib")
    config = AlbertConfig(vocab_size=400, **SMALL)
    pretrain_text(story, tmp_path / "model", config=config, steps=1, batch_size=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    with (
        np.errstate(all="ignore"),
        pytest.raises(ValueError, match="the loss is nan at step .* try a lower one"),
    ):
        pretrain_text(
            story, tmp_path / "model", config=config, steps=20, batch_size=2, learning_rate=1e30
        )
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def test_only_ends_of_lines_part_sentences(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("One\u2028and on.\nTwo.\n\nThree\x0c.\n", encoding="utf-8")
    assert read_documents(path) == [["One\u2028and on.", "Two."], ["Three\x0c."]]


def test_documents_are_parted_by_blank_lines(story):
    documents = read_documents(story)
    assert [len(document) for document in documents] == [3, 2]
    assert documents[1][0] == "The train left the town at noon."


def test_a_byte_order_mark_and_the_line_ends_of_windows_are_no_part_of_the_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfOne.\r\nTwo.\r\n \r\n\r\nThree.\r\n")
    assert read_documents(path) == [["One.", "Two."], ["Three."]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected one sentence a line"),
        (b"\n \n\n", "is empty; expected one sentence a line"),
        (b"caf\xe9", "is not UTF-8: byte 3 is wrong"),
        (b"One.\nTwo.\n", "has 1 document; expected 2 or more"),
        (b"One.\n\nTwo.\n", "has 1 sentence in each document"),
        (b"a " * 500 + b"\n" + b"b " * 500 + b"\n\nc\n", "no two neighbouring sentences that fit"),
    ],
)
def test_a_text_that_nothing_can_be_learnt_from_is_refused(tmp_path, content, message):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as error:
        pretrain_text(path, tmp_path / "model")
    assert str(path) in str(error.value)
    assert not (tmp_path / "model").exists()


def test_a_missing_text_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pretrain_text(tmp_path / "nowhere.txt", tmp_path / "model")


def test_an_output_that_cannot_be_made_is_refused_before_training(story):
    pytest.importorskip("matplotlib")
    with pytest.raises(OSError, match="story.txt"):
        pretrain_text(story, story / "model", steps=10**9)


def test_a_configuration_with_too_few_ids_is_refused(story, tmp_path):
    vocabulary = tmp_path / "own.model"
    vocabulary.write_bytes(train_vocabulary(["words of another text"], 400))
    with pytest.raises(ValueError, match="config.vocab_size is 5; the vocabulary has"):
        pretrain_text(story, tmp_path / "model", vocabulary, AlbertConfig(vocab_size=5, **SMALL))


def test_a_vocabulary_that_cannot_be_trained_is_refused_by_the_texts_name(story, tmp_path):
    with pytest.raises(FileFormatError, match="story.txt: no vocabulary comes of it"):
        pretrain_text(story, tmp_path / "model", config=AlbertConfig(vocab_size=5, **SMALL))


def test_long_documents_are_cut_between_sentences(story):
    tokenizer = tokenizer_of(train_vocabulary(STORY.split("\n"), 400), 48)
    documents = read_documents(story)
    length = [len(tokenizer.tokenize(sentence)) for sentence in documents[0]]
    runs = fitting(documents, tokenizer, length[0] + length[1] + 3)
    assert runs[:2] == [documents[0][:2], documents[0][2:]]
    # One token less, and the two do not fit any more beside [CLS] and two [SEP].
    runs = fitting(documents, tokenizer, length[0] + length[1] + 2)
    assert runs[0] == documents[0][:1]


def test_each_round_holds_every_document_once():
    drawn = list(islice(shuffled(["a", "b", "c"], np.random.default_rng(0)), 9))
    assert [sorted(drawn[i : i + 3]) for i in (0, 3, 6)] == [["a", "b", "c"]] * 3
