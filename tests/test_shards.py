"""Checkpoints of several files: how they are split, indexed, replaced and read."""

import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from albert_np.checkpoint import load_parameters, save_parameters
from albert_np.errors import FileFormatError
from albert_np.files import MAX_JSON_BYTES
from albert_np.shards import read_tensors

INDEX = "model.safetensors.index.json"
FIRST, SECOND = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))


def some_parameters(seed=0, count=4):
    """Arrays of 40, 80, 120, … bytes."""
    generator = np.random.default_rng(seed)
    return {f"part{i}.weight": generator.normal(size=(i + 1, 5)) for i in range(count)}


def load(directory, count=4):
    loaded = {name: np.zeros_like(array) for name, array in some_parameters(count=count).items()}
    load_parameters(directory, loaded)
    return loaded


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name, strict=True)


def write_sharded(directory):
    """Two shards; returns the index that they were written with."""
    save_parameters(directory, some_parameters(), 250)
    assert sorted(os.listdir(directory)) == [FIRST, SECOND, INDEX]
    return json.loads((directory / INDEX).read_text())


def write_index(directory, index):
    text = index if isinstance(index, str) else json.dumps(index)
    (directory / INDEX).write_text(text)


# Writing


def test_the_index(tmp_path):
    index = write_sharded(tmp_path)
    assert index == {
        "metadata": {"total_parameters": 50, "total_size": 400},
        "weight_map": {
            "part0.weight": FIRST,
            "part1.weight": FIRST,
            "part2.weight": FIRST,
            "part3.weight": SECOND,
        },
    }
    assert_same(load(tmp_path), some_parameters())


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    limit=st.integers(1, 1000),
)
def test_any_split(tmp_path_factory, sizes, limit):
    """Every shard keeps the limit, or is of one tensor; none would have fitted into the last."""
    directory = tmp_path_factory.mktemp("sharded")
    parameters = {f"p{i}.x": np.full(size, i + 0.5) for i, size in enumerate(sizes)}
    save_parameters(directory, parameters, limit)
    shards = [read_tensors(path) for path in sorted(directory.glob("*.safetensors"))]
    assert len(os.listdir(directory)) == (1 if len(shards) == 1 else len(shards) + 1)
    small = [shard for shard in shards if sum(a.nbytes for a in shard.values()) <= limit]
    assert all(len(shard) == 1 for shard in shards if not any(shard is one for one in small))
    for before, after in zip(small, small[1:], strict=False):
        first = min(after, key=list(parameters).index)
        assert sum(a.nbytes for a in before.values()) + parameters[first].nbytes > limit
    loaded = {name: np.zeros_like(array) for name, array in parameters.items()}
    assert load_parameters(directory, loaded) == []
    assert_same(loaded, parameters)


@pytest.mark.parametrize(
    ("size", "count"),
    [("5GB", 1), ("0.4KB", 1), (" 0.399 kb", 2), (399, 2), (np.int64(400), 1), ("1MB", 1)],
)
def test_sizes(tmp_path, size, count):
    save_parameters(tmp_path, some_parameters(), size)
    assert len(list(tmp_path.glob("*.safetensors"))) == count


@pytest.mark.parametrize("size", [0, -1, "5", "GB", "5GiB", "-5GB", "0MB", "5 5MB", "", "٥MB"])
def test_a_size_that_is_none(tmp_path, size):
    message = f"max_shard_size is {re.escape(repr(size))}; expected a positive number of bytes"
    with pytest.raises(ValueError, match=message):
        save_parameters(tmp_path / "new", some_parameters(), size)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [None, True, 5.0, b"5GB"])
def test_a_size_of_another_type(tmp_path, size):
    with pytest.raises(TypeError, match=f"max_shard_size is {size!r}; expected"):
        save_parameters(tmp_path / "new", some_parameters(), size)


@pytest.mark.parametrize("sizes", [(50, 250), (250, 50), (250, 10**4), (10**4, 250), (250, 250)])
def test_an_earlier_checkpoint_gives_way(tmp_path, sizes):
    kept = {"model-00001-of-00002.bin", "model-1-of-2.safetensors", "mymodel.safetensors"}
    for name in kept:
        (tmp_path / name).write_text("")
    save_parameters(tmp_path, some_parameters(0), sizes[0])
    save_parameters(tmp_path, some_parameters(1), sizes[1])
    assert_same(load(tmp_path), some_parameters(1))
    (tmp_path / "fresh").mkdir()
    save_parameters(tmp_path / "fresh", some_parameters(1), sizes[1])
    assert set(os.listdir(tmp_path)) == {*os.listdir(tmp_path / "fresh"), "fresh", *kept}


@pytest.mark.parametrize("sizes", [(10**4, 250), (250, 10**4), (50, 250), (250, 250), (250, 50)])
def test_interrupted_at_any_step(tmp_path_factory, monkeypatch, sizes):
    """The older checkpoint, or the newer one; or, for shards of the same names, neither."""
    replace, unlink = os.replace, Path.unlink
    seen = set()
    for steps in range(12):
        directory = tmp_path_factory.mktemp("interrupted")
        save_parameters(directory, some_parameters(0), sizes[0])
        left = [steps]

        def count(path, left=left):
            if not str(path).endswith(".partial"):
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1

        def counted_replace(source, target, count=count):
            count(target)
            replace(source, target)

        def counted_unlink(path, missing_ok=False, count=count):
            count(path)
            unlink(path, missing_ok)

        monkeypatch.setattr(os, "replace", counted_replace)
        monkeypatch.setattr(Path, "unlink", counted_unlink)
        try:
            save_parameters(directory, some_parameters(1), sizes[1])
            seen.add("complete")
        except KeyboardInterrupt:
            pass
        monkeypatch.undo()
        assert not list(directory.glob("*.partial"))
        try:
            loaded = load(directory)
        except FileNotFoundError as error:
            assert sizes == (250, 250)
            assert "model.safetensors" in str(error)
            seen.add("neither")
            continue
        one = next(iter(loaded))
        seed = 0 if np.array_equal(loaded[one], some_parameters(0)[one]) else 1
        assert_same(loaded, some_parameters(seed))
        seen.add(("older", "newer")[seed])
    assert seen == {"complete", "older", "newer"} | ({"neither"} if sizes == (250, 250) else set())


def test_a_full_disk_keeps_the_older_checkpoint(tmp_path):
    resource = pytest.importorskip("resource", reason="limits on file sizes are POSIX's")
    save_parameters(tmp_path, some_parameters(0), 250)
    before = sorted(os.listdir(tmp_path))
    old_limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = some_parameters(1) | {"part9.weight": np.ones(10_000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old_limits[1]))
    try:
        with pytest.raises(OSError, match="cannot write .*model-00002-of-00003.safetensors"):
            save_parameters(tmp_path, large, 250)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limits)
    assert sorted(os.listdir(tmp_path)) == before
    assert_same(load(tmp_path), some_parameters(0))


# Reading


def test_one_file_is_taken_before_an_index(tmp_path):
    write_sharded(tmp_path)
    save_file(some_parameters(1), tmp_path / "model.safetensors")
    assert_same(load(tmp_path), some_parameters(1))


def test_the_index_says_which_of_two_tensors_counts(tmp_path):
    index = write_sharded(tmp_path)
    first = read_tensors(tmp_path / FIRST)
    other = {name: array + 1 for name, array in first.items()}
    save_file(other | read_tensors(tmp_path / SECOND), tmp_path / SECOND)
    assert_same(load(tmp_path), some_parameters())
    index["weight_map"]["part0.weight"] = SECOND
    write_index(tmp_path, index)
    expected = some_parameters()
    expected["part0.weight"] += 1
    assert_same(load(tmp_path), expected)


def test_a_link_is_followed(tmp_path):
    """The hub's cache is made of links that lead out of the checkpoint's directory."""
    write_sharded(tmp_path)
    (tmp_path / "blobs").mkdir()
    for name in (FIRST, SECOND):
        (tmp_path / name).rename(tmp_path / "blobs" / name)
    (tmp_path / "snapshot").mkdir()
    (tmp_path / INDEX).rename(tmp_path / "snapshot" / INDEX)
    for name in (FIRST, SECOND):
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / name)
    assert_same(load(tmp_path / "snapshot"), some_parameters())


@pytest.mark.parametrize(
    "name",
    [
        "../{0}",
        "below/../../{0}",
        "{1}/{0}",
        "..",
        "..\\{0}",
        "C:\\{0}",
        "C:{0}",
        "\\\\host\\share\\{0}",
        "/{0}",
    ],
)
def test_a_path_that_leaves_the_directory(tmp_path, name):
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    index = write_sharded(directory)
    (directory / FIRST).rename(tmp_path / FIRST)  # a file that could be read
    name = name.format(FIRST, tmp_path)
    index["weight_map"]["part0.weight"] = name
    write_index(directory, index)
    message = f"{directory / INDEX} names {name!r}; expected a file in its own directory"
    with pytest.raises(FileFormatError, match=f"^{re.escape(message)}$"):
        load(directory)


@pytest.mark.parametrize("name", ["model-00003-of-00003.safetensors", "below", "", "a\0b"])
def test_a_shard_that_is_absent(tmp_path, name):
    index = write_sharded(tmp_path)
    (tmp_path / "below").mkdir()
    index["weight_map"]["part3.weight"] = name
    write_index(tmp_path, index)
    message = f"no file {tmp_path / name}, which {tmp_path / INDEX} names"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        load(tmp_path)


def test_a_shard_that_is_damaged(tmp_path):
    write_sharded(tmp_path)
    (tmp_path / SECOND).write_bytes((tmp_path / SECOND).read_bytes()[:-1])
    message = re.escape(f"{tmp_path / SECOND} is not a complete safetensors file")
    with pytest.raises(FileFormatError, match=message):
        load(tmp_path)


def test_a_tensor_that_is_not_in_its_shard(tmp_path):
    index = write_sharded(tmp_path)
    index["weight_map"]["part0.weight"] = SECOND
    write_index(tmp_path, index)
    message = f"{tmp_path / SECOND} lacks part0.weight, which {tmp_path / INDEX} says it holds"
    with pytest.raises(FileFormatError, match=re.escape(message)):
        load(tmp_path)


def test_a_tensor_that_the_index_does_not_name(tmp_path):
    index = write_sharded(tmp_path)
    del index["weight_map"]["part3.weight"]
    write_index(tmp_path, index)
    parameters = {"encoder.part.weight": np.zeros(3)} | some_parameters()
    with pytest.raises(FileFormatError, match=re.escape(f"{tmp_path / INDEX} lacks encoder.part")):
        load_parameters(tmp_path, parameters)
    assert load_parameters(tmp_path, some_parameters()) == ["part3.weight"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "holds a JSON list; expected an object"),
        ("{}", "has no weight_map"),
        ('{"weight_map": []}', "has no weight_map"),
        ('{"weight_map": {"a": 1}}', "has no weight_map"),
        ('{"weight_map": {"a": null}}', "has no weight_map"),
        ("[" * 1_000_000, "is nested too deeply"),
        ('{"a":' * 1_000_000, "is nested too deeply"),
    ],
)
def test_an_index_that_is_none(tmp_path, text, message):
    write_sharded(tmp_path)
    write_index(tmp_path, text)
    with pytest.raises(FileFormatError, match=re.escape(str(tmp_path / INDEX)) + f" {message}"):
        load(tmp_path)


def test_a_gigabyte_of_brackets(tmp_path):
    """Its size is what is looked at: of a file with a hole in it, which takes no space."""
    write_sharded(tmp_path)
    with open(tmp_path / INDEX, "wb") as file:
        file.write(b"[" * 1000)
        file.truncate(2**30)
    message = f"{tmp_path / INDEX} has more than {MAX_JSON_BYTES:,} bytes"
    with pytest.raises(FileFormatError, match=re.escape(message)):
        load(tmp_path)


def test_an_index_of_nothing(tmp_path):
    write_index(tmp_path, {"weight_map": {}})
    with pytest.raises(FileFormatError, match="lacks encoder.weight; expected"):
        load_parameters(tmp_path, {"encoder.weight": np.zeros(3)})


# bfloat16


def write_bfloat16(directory, **tensors):
    """A file of bfloat16 and other tensors; arrays of uint16 are the bits of bfloat16."""
    header, data = {}, b""
    for name, array in tensors.items():
        dtype = {"uint16": "BF16", "float32": "F32"}[array.dtype.name]
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path = directory / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def value_of_bfloat16(bits):
    """The value of finite bfloat16 numbers by definition: sign, exponent less 127, seven bits."""
    bits = bits.astype(np.int64)
    sign, exponent, fraction = bits >> 15, bits >> 7 & 0xFF, bits & 0x7F
    significand = np.where(exponent == 0, fraction / 128, 1 + fraction / 128)
    return (-1.0) ** sign * significand * 2.0 ** (np.maximum(exponent, 1) - 127)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_bfloat16_number(tmp_path, dtype):
    bits = np.arange(2**16, dtype=np.uint16)
    bits = bits[(bits >> 7 & 0xFF) != 0xFF].reshape(2, -1)
    other = np.arange(3, dtype=np.float32)
    path = write_bfloat16(tmp_path, before=other, a=bits, after=other)
    loaded = {"a": np.zeros(bits.shape, dtype), "after": np.zeros(3, dtype)}
    with pytest.warns(UserWarning, match="no use for before"):
        load_parameters(tmp_path, loaded)
    np.testing.assert_array_equal(loaded["a"], value_of_bfloat16(bits))
    np.testing.assert_array_equal(loaded["after"], other)
    read = read_tensors(path)["a"]
    np.testing.assert_array_equal(read, value_of_bfloat16(bits).astype(np.float32), strict=True)


def test_bfloat16_infinity(tmp_path):
    write_bfloat16(tmp_path, a=np.array([0x7F80, 0x7FC0, 0], np.uint16))
    with pytest.raises(FileFormatError, match="a holds NaN or infinity as float64 in 2 of 3"):
        load_parameters(tmp_path, {"a": np.zeros(3)})
