"""Candidates from files, names and layouts by a mapping, and the command that compares them."""

import json
import zipfile

import ml_dtypes
import numpy as np
import pytest
from cli_support import assert_one_error
from safetensors import safe_open
from safetensors.numpy import save_file
from verification_support import small_case, with_mistakes

from albert_np import AlbertModel
from albert_np.errors import FileFormatError
from albert_np.functions.activations import gelu_forward
from albert_np.verification import (
    assert_matches,
    map_names,
    read_candidate,
    read_golden,
    reference,
    write_golden,
)

LAYER = "encoder.albert_layer_groups.0.albert_layers.0.attention"
CONTEXT = "forward/encoder.layers.0.attention.self.context"
NAMES = ("outputs/last_hidden_state", "outputs/pooler_output", "gradients/pooler.weight", CONTEXT)


@pytest.fixture(scope="module")
def case():
    return small_case(AlbertModel)


@pytest.fixture(scope="module")
def golden(case, tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "golden.safetensors"
    write_golden(path, case)
    return path


def some(case, precision="float32"):
    tensors = reference(case, precision)
    return {name: tensors[name] for name in NAMES}


def written(candidate, kind, directory):
    path = directory / f"candidate{kind}"
    if kind == ".safetensors":
        save_file(candidate, path)
    elif kind == ".npz":
        np.savez(path, **candidate)
    else:
        for name, array in candidate.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(path / f"{name}.npy", array)
    return path


@pytest.mark.parametrize("kind", [".safetensors", ".npz", ""])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_every_kind_of_file_and_every_type_is_compared(case, golden, kind, dtype, tmp_path):
    numpy_type = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    candidate = {name: array.astype(numpy_type) for name, array in some(case, dtype).items()}
    path = written(candidate, kind, tmp_path)
    read = read_candidate(path)
    assert {name: array.dtype.name for name, array in read.items()} == dict.fromkeys(NAMES, dtype)
    for name, array in candidate.items():
        np.testing.assert_array_equal(read[name], array)
    assert_matches(path, golden)


@pytest.mark.parametrize("kind", [".safetensors", ".npz", ""])
def test_a_file_cut_short_or_missing_is_an_error(case, kind, tmp_path):
    path = written(some(case), kind, tmp_path)
    file = path if kind else path / f"{NAMES[0]}.npy"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(FileFormatError, match="is not a complete"):
        read_candidate(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_candidate(tmp_path / "absent.npz")


def test_other_files_are_refused_and_nothing_is_unpickled(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(FileFormatError, match="is no candidate"):
        read_candidate(tmp_path / "weights.bin")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileFormatError, match="has no .npy file"):
        read_candidate(tmp_path / "empty")
    np.savez(tmp_path / "objects.npz", x=np.array([print], dtype=object))
    with pytest.raises(FileFormatError, match="objects.npz is not a complete .npz file of numbers"):
        read_candidate(tmp_path / "objects.npz")


def test_a_mapping_gives_names_and_layouts(case):
    candidate = reference(case, "float32")
    weights = [candidate[f"parameters/{LAYER}.{part}.weight"] for part in ("query", "key", "value")]
    theirs = {
        "pooled": candidate["outputs/pooler_output"],
        "qkv": np.concatenate(weights).T,
        "context": candidate[CONTEXT].transpose(0, 2, 1, 3).reshape(2, 8, 8),
        "outputs/last_hidden_state": candidate["outputs/last_hidden_state"],
        "step": np.array(3),
    }
    mapping = {
        "pooled": "outputs/pooler_output",
        "qkv": {
            "name": [f"parameters/{LAYER}.{part}.weight" for part in ("query", "key", "value")],
            "layout": [{"transpose": [1, 0]}],
        },
        "context": {
            "name": CONTEXT,
            "layout": [{"reshape": [2, 8, 2, 4]}, {"transpose": [0, 2, 1, 3]}],
        },
        "step": None,
        "not there": "outputs/loss",
    }
    mapped = map_names(theirs, mapping)
    assert len(mapped) == 6
    for name, array in mapped.items():
        np.testing.assert_array_equal(array, candidate[name])
    assert_matches(theirs, case, mapping=mapping)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "the mapping names no tensor of the candidate; it has a, b"),
        ({"c": "outputs/loss"}, "names no tensor of the candidate; it has a, b"),
        ({"a": 3}, "the mapping of a is 3; expected a name"),
        ({"a": {"names": "b"}}, "the mapping of a is"),
        ({"a": {"name": "b", "layout": [{"flip": [0]}]}}, "the mapping of a is"),
        ({"a": {"name": "c", "layout": [{"reshape": [5]}]}}, "of a does not fit it: its shape"),
        ({"a": {"name": "c", "layout": [{"transpose": [3, 0]}]}}, "of a does not fit it"),
        ({"a": {"name": "c", "layout": [{"reshape": [10**30]}]}}, "of a does not fit it"),
        ({"a": {"name": "c", "layout": [{"transpose": [10**30, 0]}]}}, "of a does not fit it"),
        ({"a": {"name": "c", "layout": [{"reshape": [3.0, 2]}]}}, "the mapping of a is"),
        ({"a": {"name": []}}, "the mapping of a is"),
        ({"a": ["c", "d", "e"]}, "of a does not fit it"),
        ({"a": "b"}, "two tensors of the candidate are mapped to b"),
    ],
)
def test_a_mapping_that_is_wrong_is_an_error(mapping, message):
    with pytest.raises(ValueError, match=message):
        map_names({"a": np.zeros((2, 3)), "b": np.zeros(1)}, mapping)


def test_the_command_says_what_is_right_and_what_is_wrong(case, golden, run, tmp_path):
    right = written(some(case), ".npz", tmp_path)
    status, out, err = run("verify", "compare", str(right), "--golden", str(golden))
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith("right, to rounding: 4 of ")

    operation = "encoder.layers.1.activation.gelu_new"
    mistake = {(operation, "gelu_new_forward"): lambda x: (gelu_forward(x)[0], x)}
    wrong = written(with_mistakes(case, mistake), "", tmp_path)
    status, out, err = run("verify", "compare", str(wrong), "--golden", str(golden))
    assert (status, err) == (1, "")
    assert f"first to leave the noise: forward/{operation} (" in out
    assert f"forward/{operation}, by {operation}\n" in out
    with pytest.raises(AssertionError, match=f"first to leave the noise: forward/{operation}"):
        assert_matches(wrong, golden)

    odd = written(some(case) | {"outputs/loss": np.ones(2)}, ".safetensors", tmp_path)
    status, out, err = run("verify", "compare", str(odd), "--golden", str(golden))
    assert (status, err) == (2, "")
    assert "could not compare outputs/loss: the reference has no tensor of this name" in out

    names = tmp_path / "names.json"
    names.write_text(json.dumps({"x": "outputs/loss"}))
    arguments = ("--golden", str(golden), "--mapping", str(names))
    status, out, err = run("verify", "compare", str(right), *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("albert-np: error: the mapping names no tensor")


def test_the_command_writes_golden_files(run, tmp_path):
    path = str(tmp_path / "golden.safetensors")
    status, out, err = run("verify", "golden", path, "--text", "Paris.", "--text", "A dog runs.")
    assert (status, err) == (0, "")
    assert out.startswith(f"{path}: ")
    status, out, _ = run("verify", "compare", path, "--golden", path)
    assert status == 0
    config = tmp_path / "config.json"
    config.write_text(json.dumps(small_case().config.to_dict()))
    drawn = ("--config", str(config), "--seed", "3", "--shape", "1", "3")
    for name in ("AlbertModel", "AlbertForMultipleChoice"):
        assert run("verify", "golden", path, *drawn, "--class", name)[0] == 0
    for arguments, message in [
        (("--class", "Bert"), "--class is 'Bert'; expected one of AlbertModel"),
        ((*drawn, "--text", "x"), "--text needs a tokenizer"),
        (("--config", str(tmp_path / "absent.json")), "absent.json"),
    ]:
        status, out, err = run("verify", "golden", path, *arguments)
        assert (status, out) == (2, "")
        assert message in err


def corrupted(path):
    """Break the compressed numbers of an archive's first file."""
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)


def test_what_is_in_the_wrong_kind_of_file_is_one_error(tmp_path):
    one = tmp_path / "one.npz"
    with open(one, "wb") as file:
        np.save(file, np.ones(3))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("notes.txt", "text")
    np.savez_compressed(tmp_path / "broken.npz", x=np.arange(1000.0))
    corrupted(tmp_path / "broken.npz")
    for name in ("one", "text", "broken"):
        with pytest.raises(FileFormatError, match=f"{name}.npz is not a complete .npz file of num"):
            read_candidate(tmp_path / f"{name}.npz")
    (tmp_path / "header").mkdir()
    np.save(tmp_path / "header" / "x.npy", np.ones(3))
    header = (tmp_path / "header" / "x.npy").read_bytes()
    for wrong in (b" ", b"0"):
        (tmp_path / "header" / "x.npy").write_bytes(header.replace(b"}", wrong))
        with pytest.raises(FileFormatError, match="x.npy is not a complete .npy file of numbers"):
            read_candidate(tmp_path / "header")
    for name, array in (("objects", np.array([print], dtype=object)), ("archive", None)):
        (tmp_path / name).mkdir()
        with open(tmp_path / name / "x.npy", "wb") as file:
            np.savez(file, x=np.ones(2)) if array is None else np.save(file, array)
        with pytest.raises(FileFormatError, match="x.npy is not a complete .npy file of numbers"):
            read_candidate(tmp_path / name)


def test_a_type_that_cannot_be_read_is_one_error(tmp_path):
    path = tmp_path / "eight.safetensors"
    header = b'{"x":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(FileFormatError, match="eight.safetensors: x is of dtype F8_E4M3; expected"):
        read_candidate(path)


def test_integer_inputs_of_any_type_are_compared(case, golden, tmp_path):
    inputs = case.inputs
    candidate = some(case) | {
        "inputs/input_ids": inputs["input_ids"].astype(np.uint32),
        "inputs/token_type_ids": inputs["token_type_ids"].astype(np.uint8),
        "inputs/attention_mask": inputs["attention_mask"].astype(bool),
    }
    assert_matches(written(candidate, ".safetensors", tmp_path), golden)
    candidate["inputs/input_ids"] = candidate["inputs/input_ids"] + np.uint32(1)
    with pytest.raises(AssertionError, match="first to leave the noise: inputs/input_ids"):
        assert_matches(candidate, golden)


def test_a_mapping_that_is_no_object_is_one_error(case, golden, run, tmp_path):
    right = written(some(case), ".npz", tmp_path)
    for text, message in (("[1]", "holds a JSON list; expected an object"), ("{", "is not JSON")):
        names = tmp_path / "names.json"
        names.write_text(text)
        arguments = ("--golden", str(golden), "--mapping", str(names))
        assert_one_error(run("verify", "compare", str(right), *arguments), message)


def test_an_assertion_takes_a_golden_file_of_each_kind(case, golden):
    for given in (case, read_golden(golden), golden, str(golden)):
        assert_matches(some(case), given)
        with pytest.raises(AssertionError, match="first to leave the noise: parameters/pooler.bi"):
            assert_matches({"parameters/pooler.bias": np.ones(8, np.float32)}, given)


def test_the_precision_is_the_one_that_is_asked_for(case, golden, run, tmp_path):
    name = "parameters/pooler.weight"
    half = {name: case.parameters["pooler.weight"].astype(np.float16).astype(np.float64)}
    arguments = ("verify", "compare", str(written(half, ".npz", tmp_path)), "--golden", str(golden))
    status, out, _ = run(*arguments)
    assert (status, "in float64" in out) == (1, True)
    status, out, _ = run(*arguments, "--precision", "float16")
    assert (status, "in float16" in out) == (0, True)
    with pytest.raises(AssertionError):
        assert_matches(half, golden)
    assert_matches(half, golden, precision="float16")


def test_a_golden_file_whose_numbers_were_altered_is_noticed(case, golden, run, tmp_path):
    right = written(some(case), ".npz", tmp_path)
    with safe_open(golden, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    altered = tmp_path / "altered.safetensors"

    def compared_with(name, factor):
        save_file(tensors | {name: tensors[name] * factor}, altered, metadata)
        return run("verify", "compare", str(right), "--golden", str(altered))

    for name in ("forward/embeddings.LayerNorm", "gradients/pooler.bias", "outputs/pooler_output"):
        result = compared_with(name, 1 + 1e-12)
        assert_one_error(result, f"the golden file's {name} is not what its case gives, by ")
        status, out, _ = compared_with(name, 1 + 2**-52)  # as on another machine
        assert (status, out.splitlines()[-1][:5]) == (0, "right")
    result = compared_with("parameters/embeddings.LayerNorm.bias", 2)
    assert_one_error(result, "the golden file's forward/embeddings.LayerNorm is not what")
    with pytest.raises(FileFormatError, match="is not what its case gives"):
        assert_matches(some(case), altered)


def test_a_place_that_cannot_be_written_to_is_an_error_before_all_else(golden, run, tmp_path):
    absent = str(tmp_path / "absent" / "file")
    assert_one_error(run("verify", "golden", absent), "no directory ")
    assert_one_error(run("verify", "golden", str(tmp_path)), "is a directory; expected a file")
    arguments = ("verify", "compare", "absent.npz", "--golden", str(golden), "--html")
    assert_one_error(run(*arguments, absent), "no directory ")


def test_a_case_that_cannot_be_is_one_error(run, tmp_path):
    path = str(tmp_path / "golden.safetensors")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"hidden_size": "8"}))
    for arguments, message in [
        (("--config", str(config)), "config.json: hidden_size is '8'; expected a positive integer"),
        (("--seed", "-1"), "--seed is -1; expected 0 or more"),
        (("--shape", "0", "3"), "--shape is 0 3; expected 1 or more"),
        (("--shape", "1", "3", "--text", "x"), "--shape is of what is drawn"),
        (("--shape", "1", "129"), "--shape is 1 129; max_position_embeddings is 128"),
        (("--config", "albert-base-v3"), "no file albert-base-v3, nor a published size"),
        (("--config", "x", "--model", "y"), "not allowed with argument"),
    ]:
        assert_one_error(run("verify", "golden", path, *arguments), message)
