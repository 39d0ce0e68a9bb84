"""TensorFlow's release: its names, transposes, groups and inner groups; and what is refused."""

import re
import struct
import zipfile

import numpy as np
import pytest
from tensorflow_support import release_arrays, write_archive, write_config, write_directory

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining, AlbertModel
from albert_np.errors import FileFormatError

CONFIG = AlbertConfig(
    vocab_size=20,
    embedding_size=4,
    hidden_size=6,
    num_hidden_layers=4,
    num_hidden_groups=2,
    inner_group_num=2,
    num_attention_heads=2,
    intermediate_size=5,
    max_position_embeddings=8,
)
WRITERS = pytest.mark.parametrize("write", [write_directory, write_archive])


@pytest.fixture
def arrays(tmp_path):
    write_config(tmp_path, CONFIG)
    return release_arrays(CONFIG, np.random.default_rng(0))


class Release:
    """The authors' modeling.py on a release's arrays: hidden states and scores, from their names.

    Written from the names alone, with y = x @ kernel + bias, so that a wrong transpose or a wrong
    group gives other numbers.
    """

    def __init__(self, arrays, config):
        self.arrays, self.config = arrays, config

    def dense(self, x, name):
        return x @ self.arrays[f"{name}/kernel"] + self.arrays[f"{name}/bias"]

    def norm(self, x, name):
        deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        normal = (x - x.mean(-1, keepdims=True)) / deviation
        return normal * self.arrays[f"{name}/gamma"] + self.arrays[f"{name}/beta"]

    @staticmethod
    def gelu(x):
        return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def heads(self, x, name):
        return self.dense(x, name).reshape(len(x), self.config.num_attention_heads, -1)

    def layer(self, x, name):
        query, key, value = (
            self.heads(x, f"{name}/attention_1/self/{part}") for part in ("query", "key", "value")
        )
        scores = np.einsum("sad,tad->ast", query, key) / np.sqrt(query.shape[-1])
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        context = np.einsum("ast,tad->sad", weights, value).reshape(len(x), -1)
        x = self.norm(
            x + self.dense(context, f"{name}/attention_1/output/dense"), f"{name}/LayerNorm"
        )
        y = self.gelu(self.dense(x, f"{name}/ffn_1/intermediate/dense"))
        return self.norm(
            x + self.dense(y, f"{name}/ffn_1/intermediate/output/dense"), f"{name}/LayerNorm_1"
        )

    def __call__(self, ids):
        tables = "bert/embeddings/{}_embeddings"
        words = self.arrays[tables.format("word")]
        x = words[ids] + self.arrays[tables.format("token_type")][0]
        x = self.norm(
            x + self.arrays[tables.format("position")][: len(ids)], "bert/embeddings/LayerNorm"
        )
        x = self.dense(x, "bert/encoder/embedding_hidden_mapping_in")
        layers, groups = self.config.num_hidden_layers, self.config.num_hidden_groups
        for layer in range(layers):
            for inner in range(self.config.inner_group_num):
                group = layer * groups // layers
                x = self.layer(x, f"bert/encoder/transformer/group_{group}/inner_group_{inner}")
        pooled = np.tanh(self.dense(x[0], "bert/pooler/dense"))
        order = pooled @ self.arrays["cls/seq_relationship/output_weights"].T
        y = self.gelu(self.dense(x, "cls/predictions/transform/dense"))
        y = self.norm(y, "cls/predictions/transform/LayerNorm")
        return (
            y @ words.T + self.arrays["cls/predictions/output_bias"],
            order + self.arrays["cls/seq_relationship/output_bias"],
        )


@WRITERS
@pytest.mark.parametrize("prefix", ["", "module/"])
def test_it_computes_what_the_release_computes(tmp_path, arrays, write, prefix):
    path = write(tmp_path, {prefix + name: array for name, array in arrays.items()})
    model = AlbertForPreTraining.from_tensorflow(path, dtype="float64")
    ids = np.array([3, 1, 4, 1, 5])
    outputs = model([ids])
    exact = {name: array.astype("float64") for name, array in arrays.items()}
    words, order = Release(exact, CONFIG)(ids)
    # Both are sums of some ten terms of size 10, in another order; a few hundred roundings.
    np.testing.assert_allclose(outputs.prediction_logits[0], words, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(outputs.sop_logits[0], order, rtol=1e-11, atol=1e-11)


def test_its_configuration(tmp_path, arrays):
    model = AlbertForPreTraining.from_tensorflow(write_archive(tmp_path, arrays))
    assert model.config.hidden_act == "gelu_new"  # their gelu is computed by tanh
    assert model.config.other["net_structure_type"] == 0
    ours = CONFIG.to_dict()
    assert model.config.to_dict() == ours | model.config.other
    assert model.dtype == np.float32


def test_other_values_than_those_of_its_configuration(tmp_path, arrays):
    path = write_archive(tmp_path, arrays)
    assert AlbertForPreTraining.from_tensorflow(path, hidden_act="relu").config.hidden_act == "relu"
    (tmp_path / "albert_config.json").unlink()
    assert AlbertForPreTraining.from_tensorflow(path, config=CONFIG).config is CONFIG
    with pytest.raises(TypeError, match="config is given, and hidden_act"):
        AlbertForPreTraining.from_tensorflow(path, config=CONFIG, hidden_act="relu")


@WRITERS
def test_a_model_of_fewer_parts(tmp_path, arrays, write):
    path = write(tmp_path, arrays)
    with pytest.warns(UserWarning, match="no use for bert/pooler/dense/bias, bert/pooler.*cls/seq"):
        masked = AlbertForMaskedLM.from_tensorflow(path)
    with pytest.warns(UserWarning, match="no use for cls/predictions/"):
        base = AlbertModel.from_tensorflow(path)
    name = "embeddings.word_embeddings.weight"
    words = arrays["bert/embeddings/word_embeddings"]
    np.testing.assert_array_equal(base.parameters[name], words)
    np.testing.assert_array_equal(masked.parameters[f"albert.{name}"], words)


@WRITERS
def test_a_release_without_a_head(tmp_path, arrays, write):
    path = write(tmp_path, {n: a for n, a in arrays.items() if not n.startswith("cls/pred")})
    with pytest.warns(UserWarning, match="lacks predictions.bias, .*newly initialized"):
        AlbertForPreTraining.from_tensorflow(path)


@WRITERS
def test_missing_arrays_are_named(tmp_path, arrays, write):
    del arrays["bert/encoder/transformer/group_1/inner_group_0/ffn_1/intermediate/dense/kernel"]
    path = write(tmp_path, arrays)
    name = "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn.weight"
    with pytest.raises(FileFormatError, match=re.escape(f"{path} lacks {name}; expected")):
        AlbertForPreTraining.from_tensorflow(path)


@WRITERS
@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("bert/embeddings/word_embeddings", np.ones((4, 20), "f4"), r" is of shape \(4, 20\); exp"),
        ("bert/pooler/dense/kernel", np.ones((6, 7), "f4"), r" .transposed. is of shape \(7, 6\)"),
        ("bert/pooler/dense/bias", np.ones(6, int), " is of dtype int64; expected one of float64"),
        ("bert/pooler/dense/bias", np.array(["a"] * 6), " is of dtype str"),
        ("bert/pooler/dense/bias", np.full(6, np.nan, "f4"), " holds NaN or infinity"),
    ],
)
def test_wrong_arrays(tmp_path, arrays, write, name, array, message):
    path = write(tmp_path, arrays | {name: array})
    with pytest.raises(FileFormatError, match=re.escape(f"{path}: {name}") + message):
        AlbertForPreTraining.from_tensorflow(path)


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2"])
def test_other_floats(tmp_path, arrays, dtype):
    path = write_archive(tmp_path, {name: array.astype(dtype) for name, array in arrays.items()})
    model = AlbertForPreTraining.from_tensorflow(path)
    expected = arrays["bert/pooler/dense/kernel"].T.astype(dtype)
    np.testing.assert_array_equal(model.parameters["albert.pooler.weight"], expected)


class Trap:
    """What is run when this is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@WRITERS
def test_nothing_is_unpickled(tmp_path, arrays, write):
    name = "bert/pooler/dense/bias"
    path = write(tmp_path, arrays | {name: np.array([Trap()], object)})
    with pytest.raises(FileFormatError, match=f"{name}.* is no array of numbers"):
        AlbertForPreTraining.from_tensorflow(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:50],
        lambda data: b"\x80\x04N.",
        lambda data: data.replace(b"(6,)", b"(9,)"),
        lambda data: data.replace(b"(6,), }" + b" " * 9, b"(6000000000000,)"),
        lambda data: data.replace(b"'descr'", b"'desc' "),
        lambda data: data[:8] + struct.pack("<H", 9000) + data[10:11] + b"(" * 9000,
        lambda data: data[:8] + struct.pack("<H", 9000) + b"{" + b"-" * 9000,
    ],
)
@WRITERS
def test_damaged_arrays(tmp_path, arrays, write, damage):
    name = "bert/pooler/dense/bias"
    directory = write_directory(tmp_path / "arrays", {name: arrays[name]})
    file = directory / f"{name}.npy"
    damaged = damage(file.read_bytes())
    assert damaged != file.read_bytes()
    path = write(tmp_path, arrays)
    if path.is_dir():
        (path / f"{name}.npy").write_bytes(damaged)
    else:
        with zipfile.ZipFile(path) as archive:
            entries = {entry: archive.read(entry) for entry in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for entry, data in (entries | {f"{name}.npy": damaged}).items():
                archive.writestr(entry, data)
    with pytest.raises(FileFormatError, match=f"{name}(.npy)? is no array of numbers"):
        AlbertForPreTraining.from_tensorflow(path)


def test_a_damaged_archive(tmp_path, arrays):
    path = write_archive(tmp_path, arrays)
    whole = path.read_bytes()
    for data in (b"", whole[:-30], whole[: len(whole) // 2], b"\x80\x04N."):
        path.write_bytes(data)
        with pytest.raises(FileFormatError, match=f"^{re.escape(str(path))} is not an .npz file"):
            AlbertForPreTraining.from_tensorflow(path)
    name = "bert/pooler/dense/bias"
    flipped = bytearray(whole)
    flipped[whole.index(arrays[name].tobytes())] ^= 1  # which the archive's checksum tells
    path.write_bytes(flipped)
    with pytest.raises(FileFormatError, match=f"^{re.escape(f'{path}: {name}')} is no array of nu"):
        AlbertForPreTraining.from_tensorflow(path)


def test_an_entry_that_is_no_array(tmp_path, arrays):
    path = write_archive(tmp_path, arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme", "text")
    with pytest.raises(FileFormatError, match="readme is no array of numbers: it is not in the f"):
        AlbertForPreTraining.from_tensorflow(path)


def test_no_such_release(tmp_path, arrays):
    with pytest.raises(FileNotFoundError, match="no directory or .npz file .*nowhere"):
        AlbertModel.from_tensorflow(tmp_path / "nowhere")
    (tmp_path / "model.ckpt-best.index").write_text("")
    with pytest.raises(FileFormatError, match=r"holds no .npy file.*tf.train.load_checkpoint"):
        AlbertModel.from_tensorflow(tmp_path)
    (tmp_path / "albert_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="albert_config.json"):
        AlbertModel.from_tensorflow(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hidden_size": 7}, "hidden_size 7 is not a multiple"), ({"hidden_act": "tanh"}, "tanh")],
)
def test_a_wrong_configuration_is_named(tmp_path, arrays, changes, message):
    write_config(tmp_path, CONFIG, **changes)
    path = write_archive(tmp_path, arrays)
    with pytest.raises(FileFormatError, match=f"albert_config.json: .*{message}"):
        AlbertModel.from_tensorflow(path)
