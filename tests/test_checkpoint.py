"""Reading and writing model.safetensors, and what is refused."""

import json
import os
import re
import stat
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

import albert_np
from albert_np import AlbertConfig, AlbertModel, AlbertTokenizer
from albert_np.checkpoint import (
    BIAS,
    DECODER_BIAS,
    DECODER_WEIGHT,
    WORD_EMBEDDING,
    load_parameters,
    resolve_directory,
    save_parameters,
)
from albert_np.errors import FileFormatError
from albert_np.shards import read_tensors

LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"
PARTS = ("query", "key", "value")
KEY = f"{LAYER}.attention.key.weight"


def small_parameters(dtype="float32", filled=True):
    """A made-up model: three views of one array, and a tied decoder that stands once."""
    stacked = np.zeros((6, 2), dtype)
    parameters = {
        WORD_EMBEDDING: np.zeros((5, 2), dtype),
        **{
            f"{LAYER}.attention.{part}.weight": third
            for part, third in zip(PARTS, np.split(stacked, 3), strict=True)
        },
        BIAS: np.zeros(5, dtype),
    }
    if filled:
        generator = np.random.default_rng(0)
        for array in parameters.values():
            array[...] = generator.normal(size=array.shape)
    return parameters


def write(directory, tensors):
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory / "model.safetensors"


def write_raw(directory, header, data=b""):
    """A file with a header of one's own: 8 bytes of length, the JSON text, the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = directory / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name, strict=True)


# Directories


def test_tiny_is_the_directory_that_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_directory("tiny") == albert_np_directory() / "assets" / "tiny"
    (tmp_path / "tiny").mkdir()
    assert resolve_directory("tiny") == albert_np_directory() / "assets" / "tiny"
    assert resolve_directory("./tiny").resolve() == tmp_path / "tiny"


def albert_np_directory():
    return resolve_directory(os.path.dirname(albert_np.__file__))


def test_an_existing_directory(tmp_path):
    assert resolve_directory(tmp_path) == tmp_path
    assert resolve_directory(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["albert-base-v2", "file", "a/b/c", "../albert", "\0"])
def test_no_such_directory(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    message = f'^{re.escape(repr(name))} is not a directory .looked for .*"tiny"'
    with pytest.raises(FileNotFoundError, match=message):
        resolve_directory(name)


@pytest.mark.parametrize("load", [AlbertModel, AlbertConfig, AlbertTokenizer])
def test_what_is_no_path_at_all(load):
    for value in (None, 5, ["tiny"]):
        with pytest.raises(TypeError, match=f"path_or_name is of type {type(value).__name__};"):
            load.from_pretrained(value)


def test_a_path_is_no_name_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("albert_np.hub.fetch", None)
    with pytest.raises(FileNotFoundError, match="'albert/albert-base-v2' is not a directory"):
        resolve_directory(Path("albert/albert-base-v2"))


# Round trips


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_saved_is_loaded(tmp_path, dtype):
    saved = small_parameters(dtype)
    save_parameters(tmp_path / "new" / "directory", saved)
    assert os.listdir(tmp_path / "new" / "directory") == ["model.safetensors"]
    assert_same(read_tensors(tmp_path / "new" / "directory" / "model.safetensors"), saved)
    loaded = small_parameters(dtype, filled=False)
    load_parameters(str(tmp_path / "new" / "directory"), loaded)
    assert_same(loaded, saved)


@given(
    parameters=st.dictionaries(
        st.text(min_size=1).filter(lambda name: name != "__metadata__"),
        hnp.arrays(
            st.sampled_from(["float16", "float32", "float64"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
            elements={"allow_nan": False, "allow_infinity": False},
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_names_and_arrays_come_back(tmp_path_factory, parameters):
    directory = tmp_path_factory.mktemp("checkpoint")
    save_parameters(directory, parameters)
    assert_same(read_tensors(directory / "model.safetensors"), parameters)
    loaded = {name: np.full_like(array, 7) for name, array in parameters.items()}
    load_parameters(directory, loaded)
    assert_same(loaded, parameters)


def test_views_are_filled_in_place(tmp_path):
    save_parameters(tmp_path, small_parameters())
    loaded = small_parameters(filled=False)
    views = dict(loaded)
    load_parameters(tmp_path, loaded)
    for name, view in views.items():
        assert loaded[name] is view
    names = [f"{LAYER}.attention.{part}.weight" for part in PARTS]
    base = loaded[names[0]].base
    np.testing.assert_array_equal(base, np.concatenate([small_parameters()[n] for n in names]))


def test_views_that_are_not_contiguous_are_saved_as_they_read(tmp_path):
    matrix = np.arange(12.0).reshape(3, 4)
    views = {"transposed": matrix.T, "column": matrix[:, 1], "reversed": matrix[::-1]}
    save_parameters(tmp_path, views)
    assert_same(read_tensors(tmp_path / "model.safetensors"), views)


@pytest.mark.parametrize("stored", ["float16", "float32", "float64"])
@pytest.mark.parametrize("wanted", ["float16", "float32", "float64"])
def test_dtypes_are_converted(tmp_path, stored, wanted):
    tensors = small_parameters(stored)
    save_parameters(tmp_path, tensors)
    loaded = small_parameters(wanted, filled=False)
    load_parameters(tmp_path, loaded)
    assert_same(loaded, {name: tensor.astype(wanted) for name, tensor in tensors.items()})


def test_names_without_the_prefix(tmp_path):
    """The model without heads saves its names without `albert.`; each loads the other's file."""
    with_prefix = {WORD_EMBEDDING: small_parameters()[WORD_EMBEDDING]}
    without = {WORD_EMBEDDING.removeprefix("albert."): with_prefix[WORD_EMBEDDING]}
    for saved, wanted in ((with_prefix, without), (without, with_prefix)):
        save_parameters(tmp_path, saved)
        loaded = {name: np.zeros_like(array) for name, array in wanted.items()}
        load_parameters(tmp_path, loaded)
        assert_same(loaded, wanted)


def test_the_file_is_marked_and_as_readable_as_any(tmp_path):
    save_parameters(tmp_path, small_parameters())
    path = tmp_path / "model.safetensors"
    length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    assert json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"] == {"format": "pt"}
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_integers_are_read_but_are_no_parameters(tmp_path):
    tensors = {WORD_EMBEDDING: np.arange(10).reshape(5, 2)}
    path = write(tmp_path, tensors)
    assert_same(read_tensors(path), tensors)
    message = f"{re.escape(str(path))}: {WORD_EMBEDDING} is of dtype int64; expected.*float32"
    with pytest.raises(FileFormatError, match=message):
        load_parameters(tmp_path, {WORD_EMBEDDING: np.zeros((5, 2))})


# The tied decoder


def test_decoder_that_repeats_what_it_is_tied_to_is_accepted(tmp_path):
    parameters = small_parameters()
    repeated = {DECODER_WEIGHT: parameters[WORD_EMBEDDING], DECODER_BIAS: parameters[BIAS]}
    write(tmp_path, parameters | repeated)
    loaded = small_parameters(filled=False)
    load_parameters(tmp_path, loaded)  # a warning is an error here
    assert_same(loaded, parameters)


def test_decoder_weight_that_differs_gives_a_warning(tmp_path):
    parameters = small_parameters()
    write(tmp_path, parameters | {DECODER_WEIGHT: parameters[WORD_EMBEDDING] + 1})
    loaded = small_parameters(filled=False)
    with pytest.warns(UserWarning, match=f"{DECODER_WEIGHT} differs from {WORD_EMBEDDING}, which"):
        load_parameters(tmp_path, loaded)
    assert_same(loaded, parameters)


def test_decoder_bias_that_differs_is_used_with_a_warning(tmp_path):
    parameters = small_parameters()
    write(tmp_path, parameters | {DECODER_BIAS: parameters[BIAS] + 1})
    loaded = small_parameters(filled=False)
    with pytest.warns(UserWarning, match=f"{BIAS} differs from {DECODER_BIAS}, which"):
        load_parameters(tmp_path, loaded)
    assert_same(loaded, parameters | {BIAS: parameters[BIAS] + 1})


def test_decoder_bias_alone(tmp_path):
    parameters = small_parameters()
    without = {name: array for name, array in parameters.items() if name != BIAS}
    write(tmp_path, without | {DECODER_BIAS: parameters[BIAS]})
    loaded = small_parameters(filled=False)
    load_parameters(tmp_path, loaded)
    assert_same(loaded, parameters)


def test_tensors_of_no_use_are_listed_in_one_warning(tmp_path):
    parameters = {WORD_EMBEDDING: small_parameters()[WORD_EMBEDDING]}
    unused = {
        "albert.pooler.weight": np.ones((2, 2)),
        "predictions.dense.bias": np.full(2, np.nan),
        "count": np.array(3),
    }
    write(tmp_path, parameters | unused)
    loaded = {WORD_EMBEDDING: np.zeros((5, 2), "float32")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_parameters(tmp_path, loaded)
    assert_same(loaded, parameters)
    (warning,) = caught
    path = tmp_path / "model.safetensors"
    assert str(warning.message) == (
        f"{path}: the model has no use for albert.pooler.weight, count, predictions.dense.bias"
    )


def test_decoder_is_of_no_use_to_a_model_without_one(tmp_path):
    embedding = small_parameters()[WORD_EMBEDDING]
    write(tmp_path, {WORD_EMBEDDING: embedding, DECODER_WEIGHT: embedding, BIAS: np.ones(5)})
    loaded = {WORD_EMBEDDING.removeprefix("albert."): np.zeros_like(embedding)}
    with pytest.warns(UserWarning, match=f"no use for {BIAS}, {DECODER_WEIGHT}$"):
        load_parameters(tmp_path, loaded)


# Wrong files


def test_missing_tensors_of_the_trunk_are_named(tmp_path):
    parameters = small_parameters()
    missing = [WORD_EMBEDDING, KEY]
    path = write(tmp_path, {n: array for n, array in parameters.items() if n not in missing})
    loaded = small_parameters(filled=False)
    with pytest.raises(FileFormatError, match=re.escape(f"{path} lacks {', '.join(missing)}; ")):
        load_parameters(tmp_path, loaded)
    assert_same(loaded, small_parameters(filled=False))


def test_a_head_that_is_missing_is_returned_and_not_filled(tmp_path):
    parameters = small_parameters()
    head = {"classifier.weight": np.ones((3, 2)), "classifier.bias": np.ones(3)}
    write(tmp_path, parameters)
    loaded = small_parameters(filled=False) | head
    assert load_parameters(tmp_path, loaded) == list(head)
    assert_same(loaded, parameters | head)


def test_a_head_of_which_a_part_is_missing_is_damaged(tmp_path):
    path = write(tmp_path, small_parameters() | {"classifier.weight": np.ones((3, 2))})
    loaded = small_parameters(filled=False) | {
        "classifier.weight": np.zeros((3, 2)),
        "classifier.bias": np.zeros(3),
    }
    with pytest.raises(FileFormatError, match=re.escape(f"{path} lacks classifier.bias; ")):
        load_parameters(tmp_path, loaded)
    assert not loaded[WORD_EMBEDDING].any()


def test_layer_norms_older_names(tmp_path):
    names = [f"{LAYER}.attention.LayerNorm", f"{LAYER}.full_layer_layer_norm"]
    kinds = {"weight": "gamma", "bias": "beta"}
    generator = np.random.default_rng(0)
    wanted = {f"{name}.{kind}": generator.normal(size=2) for name in names for kind in kinds}
    write(
        tmp_path,
        {f"{name}.{old}": wanted[f"{name}.{new}"] for name in names for new, old in kinds.items()},
    )
    loaded = {name: np.zeros(2) for name in wanted}
    assert load_parameters(tmp_path, loaded) == []
    assert_same(loaded, wanted)


def test_the_present_name_counts_where_the_older_one_is_there_too(tmp_path):
    name = f"{LAYER}.attention.LayerNorm"
    write(tmp_path, {f"{name}.weight": np.ones(2), f"{name}.gamma": np.zeros(2)})
    loaded = {f"{name}.weight": np.zeros(2)}
    with pytest.warns(UserWarning, match=f"no use for {name}.gamma"):
        load_parameters(tmp_path, loaded)
    np.testing.assert_array_equal(loaded[f"{name}.weight"], 1)


@pytest.mark.parametrize("prefix", ["", "albert."])
def test_stray_constants_are_passed_over(tmp_path, prefix):
    parameters = small_parameters()
    constants = {
        f"{prefix}embeddings.position_ids": np.arange(7)[None],
        f"{prefix}embeddings.token_type_ids": np.zeros((1, 7), int),
    }
    write(tmp_path, parameters | constants)
    loaded = small_parameters(filled=False)
    load_parameters(tmp_path, loaded)  # a warning is an error here
    assert_same(loaded, parameters)


@pytest.mark.parametrize("shape", [(5, 3), (2, 5), (10,), (5, 2, 1), (1, 2), (), (0, 2)])
def test_misshapen_tensor_fills_nothing(tmp_path, shape):
    path = write(tmp_path, small_parameters() | {WORD_EMBEDDING: np.ones(shape)})
    loaded = small_parameters(filled=False)
    message = f"{path}: {WORD_EMBEDDING} is of shape {shape}; expected (5, 2)"
    with pytest.raises(FileFormatError, match=re.escape(message)):
        load_parameters(tmp_path, loaded)
    assert_same(loaded, small_parameters(filled=False))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", list(small_parameters()))
def test_nan_or_infinity(tmp_path, name, value):
    tensors = small_parameters()
    tensors[name].flat[-1] = value
    path = write(tmp_path, {name: tensor.copy() for name, tensor in tensors.items()})
    message = f"{path}: {name} holds NaN or infinity as float32 in 1 of {tensors[name].size} places"
    with pytest.raises(FileFormatError, match=re.escape(message)):
        load_parameters(tmp_path, small_parameters(filled=False))


def test_number_too_large_for_the_dtype_asked_for(tmp_path):
    tensors = small_parameters("float64")
    tensors[BIAS][:2] = 1e300
    write(tmp_path, tensors)
    load_parameters(tmp_path, small_parameters("float64"))
    with pytest.raises(FileFormatError, match=f"{BIAS} holds NaN or infinity as float32 in 2 of 5"):
        load_parameters(tmp_path, small_parameters("float32"))


@pytest.mark.parametrize(("dtype", "size"), [("F8_E4M3", 1), ("C64", 8), ("BOOL", 1)])
def test_dtype_that_is_not_read(tmp_path, dtype, size):
    header = {BIAS: {"dtype": dtype, "shape": [3], "data_offsets": [0, 3 * size]}}
    path = write_raw(tmp_path, header, bytes(3 * size))
    message = f"{re.escape(str(path))}: {BIAS} is of dtype {dtype}; expected one of float64"
    with pytest.raises(FileFormatError, match=message):
        load_parameters(tmp_path, {BIAS: np.zeros(3)})
    with pytest.raises(FileFormatError, match=message):
        read_tensors(path)


def test_decoder_of_a_dtype_that_is_not_read(tmp_path):
    header = {
        WORD_EMBEDDING: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        DECODER_WEIGHT: {"dtype": "BOOL", "shape": [1], "data_offsets": [4, 5]},
    }
    write_raw(tmp_path, header, bytes(5))
    with pytest.raises(FileFormatError, match=f"{DECODER_WEIGHT} is of dtype BOOL"):
        load_parameters(tmp_path, {WORD_EMBEDDING: np.zeros(1)})


def test_file_truncated_anywhere(tmp_path):
    path = write(tmp_path, small_parameters())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        for read in (read_tensors, lambda _: load_parameters(tmp_path, small_parameters())):
            with pytest.raises(FileFormatError, match=f"^{re.escape(str(path))} is not a complete"):
                read(path)


def test_file_with_something_after_it(tmp_path):
    path = write(tmp_path, small_parameters())
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(FileFormatError, match="is not a complete safetensors file"):
        read_tensors(path)


def test_any_bit_of_the_header_flipped(tmp_path):
    """It is an error of ours, or in what is not read, such as the metadata: nothing else comes."""
    parameters = {name: small_parameters()[name] for name in (WORD_EMBEDDING, KEY)}
    path = write(tmp_path, {name: array.copy() for name, array in parameters.items()})
    whole = path.read_bytes()
    header_length = 8 + struct.unpack("<Q", whole[:8])[0]
    refused = 0
    for place in range(header_length):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            loaded = {name: np.zeros_like(array) for name, array in parameters.items()}
            try:
                load_parameters(tmp_path, loaded)
            except FileFormatError as error:
                assert str(error).startswith(str(path))
                refused += 1
            else:
                assert_same(loaded, parameters)
    assert refused > 0.8 * 8 * header_length


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        {BIAS: {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}},
        {BIAS: {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 4]}},
        {BIAS: {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {BIAS: {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
        {BIAS: {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}},
        {BIAS: {"shape": [1]}},
        {
            BIAS: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "overlapping": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
    ],
)
def test_corrupted_header(tmp_path, header):
    path = write_raw(tmp_path, header, bytes(4))
    with pytest.raises(FileFormatError, match=f"^{re.escape(str(path))} is not a complete"):
        load_parameters(tmp_path, {BIAS: np.zeros(1)})


def test_header_longer_than_any_file(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 2**64 - 1) + b"{}")
    with pytest.raises(FileFormatError, match="is not a complete safetensors file"):
        read_tensors(tmp_path / "model.safetensors")


def test_no_file(tmp_path):
    path = tmp_path / "model.safetensors"
    for read in (read_tensors, lambda _: load_parameters(tmp_path, {})):
        with pytest.raises(FileNotFoundError, match=re.escape(f"no file {path}")):
            read(path)
    path.mkdir()
    with pytest.raises(FileNotFoundError, match=re.escape(f"no file {path}")):
        read_tensors(path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickled_weights_are_never_read(tmp_path, name):
    pickled = tmp_path / name
    pickled.write_bytes(b"\x80\x04N.")
    message = f"{re.escape(str(pickled))} stands for pickled.*never read.*safe_serialization=True"
    with pytest.raises(FileFormatError, match=message):
        load_parameters(tmp_path, small_parameters())
    parameters = small_parameters()
    save_parameters(tmp_path, parameters)
    load_parameters(tmp_path, parameters)  # beside a model.safetensors it is nobody's business


# Unwritable output


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_could_not_be_loaded_is_not_saved(tmp_path, value):
    save_parameters(tmp_path, small_parameters())
    diverged = small_parameters()
    diverged[BIAS][1:3] = value
    with pytest.raises(ValueError, match=f"^{BIAS} holds NaN or infinity in 2 of 5 places"):
        save_parameters(tmp_path, diverged)
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert_same(read_tensors(tmp_path / "model.safetensors"), small_parameters())


def test_unwritable_output(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/directory"):
        with pytest.raises(OSError, match="file"):
            save_parameters(tmp_path / place, small_parameters())
    (tmp_path / "directory" / "model.safetensors" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="model.safetensors"):
        save_parameters(tmp_path / "directory", small_parameters())
    assert os.listdir(tmp_path / "directory") == ["model.safetensors"]


def test_interrupted_writing_keeps_the_old_file(tmp_path, monkeypatch):
    save_parameters(tmp_path, small_parameters())

    def interrupt(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_parameters(tmp_path, {BIAS: np.ones(3)})
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert_same(read_tensors(tmp_path / "model.safetensors"), small_parameters())


def test_disk_that_is_full_keeps_the_old_file(tmp_path):
    resource = pytest.importorskip("resource", reason="limits on file sizes are POSIX's")
    save_parameters(tmp_path, small_parameters())
    old_limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old_limits[1]))
    try:
        message = f"cannot write {re.escape(str(tmp_path / 'model.safetensors'))}"
        with pytest.raises(OSError, match=message):
            save_parameters(tmp_path, {BIAS: np.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limits)
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert_same(read_tensors(tmp_path / "model.safetensors"), small_parameters())
