"""Golden files: what they hold, that they are read again as they were, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_support import CLASSES, configs, suited_to
from record_golden import DIRECTORY, FILES, recorded_case
from safetensors import safe_open
from safetensors.numpy import load, save_file
from verification_support import small_case

from albert_np.errors import FileFormatError
from albert_np.verification.case import draw_case
from albert_np.verification.compare import compare
from albert_np.verification.golden import read_golden, write_golden
from albert_np.verification.reference import reference


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs(dropout=True), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=3)
def test_a_golden_file_holds_the_case_and_the_reference(
    model_class, config, seed, tmp_path_factory
):
    case = draw_case(model_class, suited_to(model_class, config), seed, (2, 5))
    path = tmp_path_factory.mktemp("golden") / "golden.safetensors"
    write_golden(path, case)
    golden = read_golden(path)
    expected = reference(case)
    assert list(golden.tensors) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(golden.tensors[name], array)
    assert golden.case.model_class is model_class
    assert golden.case.config == case.config
    for name, array in reference(golden.case).items():
        np.testing.assert_array_equal(golden.tensors[name], array)


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"position_embedding_type": "relative_key_query"},
        {"chunk_size_feed_forward": 4},
        {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5},
    ],
)
def test_the_manifest_tells_the_axes_and_where_each_tensor_comes_from(
    model_class, changes, tmp_path
):
    case = small_case(model_class, hidden_act="gelu", **changes)
    case = case._replace(inputs=case.inputs | {"seed": 1})
    write_golden(tmp_path / "golden.safetensors", case)
    sizes = {}
    seen = set()
    for entry in read_golden(tmp_path / "golden.safetensors").manifest["tensors"]:
        assert len(entry["axes"]) == len(entry["shape"]), entry
        for axis, size in zip(entry["axes"], entry["shape"], strict=True):
            assert sizes.setdefault(axis, size) == size, entry
        assert seen.issuperset(entry.get("from", ())), entry
        seen.add(entry["name"])
        if not entry["name"].startswith(("parameters/", "inputs/")):
            unused = entry["name"].endswith(".position_embeddings.weight") and bool(changes)
            seeds = "outputs/" in str(entry) or entry["name"].startswith("backward/")
            assert entry.get("from") or unused or seeds, entry
        if entry["name"].startswith("forward/") and entry["name"].endswith("LayerNorm"):
            assert entry["settings"] == {"eps": case.config.layer_norm_eps}
            assert entry["functions"] == ["layer_norm_forward"]
    assert sizes["hidden_size"] == 8
    assert sizes["sequence"] == 8


def test_the_same_case_gives_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        write_golden(tmp_path / name, small_case())
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "other").read_bytes()
    assert set(load(data)) == set(reference(small_case()))


def rewritten(path, tensors=None, **changes):
    """A golden file with other tensors or metadata."""
    with safe_open(path, framework="numpy") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file(held | (tensors or {}), path, metadata | changes)


@pytest.fixture
def path(tmp_path):
    write_golden(tmp_path / "golden.safetensors", small_case())
    return tmp_path / "golden.safetensors"


def test_what_is_no_golden_file_is_refused(path):
    with pytest.raises(FileNotFoundError, match="no file .*absent"):
        read_golden(path.with_name("absent"))
    data = path.read_bytes()
    for length in (0, 4, 1000, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(FileFormatError, match="is not a complete safetensors file"):
            read_golden(path)
    path.write_bytes(data)
    rewritten(path, version="2")
    with pytest.raises(FileFormatError, match="is of version '2'; expected '1'"):
        read_golden(path)
    rewritten(path, version="1", format="pt")
    with pytest.raises(FileFormatError, match="its format is 'pt'"):
        read_golden(path)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_golden_file_with_not_a_number_is_refused(path, number):
    loss = np.array(number)
    rewritten(path, {"outputs/loss": loss})
    with pytest.raises(FileFormatError, match="outputs/loss .* holds NaN or infinity"):
        read_golden(path)


def test_a_golden_file_that_is_not_what_its_manifest_says_is_refused(path):
    good = path.read_bytes()
    rewritten(path, {"outputs/loss": np.ones(1)})
    with pytest.raises(FileFormatError, match=r"outputs/loss is of shape \[1\]; its manifest says"):
        read_golden(path)
    path.write_bytes(good)
    rewritten(path, {"outputs/more": np.ones(1)})
    with pytest.raises(FileFormatError, match="outputs/more not in its manifest"):
        read_golden(path)
    path.write_bytes(good)
    manifest = read_golden(path).manifest
    for name, wrong in [("class", "Bert"), ("config", {"hidden_size": -1}), ("tensors", 3)]:
        path.write_bytes(good)
        rewritten(path, manifest=json.dumps(manifest | {name: wrong}))
        with pytest.raises(FileFormatError, match="manifest"):
            read_golden(path)
    path.write_bytes(good)
    rewritten(path, manifest="{")
    with pytest.raises(FileFormatError, match="no manifest that can be read"):
        read_golden(path)


@pytest.mark.parametrize("name", FILES)
def test_the_recorded_files_are_those_that_the_reference_gives_today(name):
    """Their bytes are this machine's; on another one the values are equal to rounding."""
    golden = read_golden(DIRECTORY / f"{name}.safetensors")
    case = recorded_case(name)
    assert golden.case.config == case.config
    for part, arrays in (("parameters", case.parameters), ("inputs", case.inputs)):
        for key, array in arrays.items():
            np.testing.assert_array_equal(golden.tensors[f"{part}/{key}"], array)
    comparison = compare(case, golden.tensors)
    assert comparison.status == 0, comparison.worst
    assert not comparison.missing


def test_the_recorded_files_are_small():
    assert {path.stem for path in DIRECTORY.iterdir()} == set(FILES)
    assert sum(path.stat().st_size for path in DIRECTORY.iterdir()) < 1_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors": [{"name": ["x"]}]}, "no manifest that can be read"),
        ({"tensors": [3]}, "no manifest that can be read"),
        ({"class": ["AlbertModel"]}, "a manifest of no class that is known"),
        ({"structure": 3}, "its manifest makes no model"),
        ({"structure": {"heads": 3}}, "its manifest makes no model"),
        ({"config": {"vocab_size": 31}}, "lacks parameters/.* of shape"),
        ({"config": {"num_hidden_layers": 10**6}}, "are 1000000 layers; the file has"),
        ({"config": {"inner_group_num": 10**5}}, "are .* layers; the file has"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_one_error(path, change, message):
    manifest = read_golden(path).manifest
    if "config" in change:
        change = {"config": manifest["config"] | change["config"]}
    rewritten(path, manifest=json.dumps(manifest | change))
    with pytest.raises(FileFormatError, match=message):
        read_golden(path)


def test_a_manifest_that_is_nested_too_deeply_is_one_error(path):
    rewritten(path, manifest="[" * 100_000)
    with pytest.raises(FileFormatError, match="no manifest that can be read"):
        read_golden(path)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_golden_file_of_other_types_is_refused(path, dtype):
    name = "outputs/logits" if dtype == "float32" else "inputs/input_ids"
    rewritten(path, {name: read_golden(path).tensors[name].astype(dtype)})
    with pytest.raises(FileFormatError, match=f"{name} is of dtype {dtype}"):
        read_golden(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("more", np.ones(3), "AlbertForMaskedLM takes no argument 'more'"),
        ("input_ids", np.ones((2, 8)), "input_ids has dtype float64; expected integers"),
        ("input_ids", np.full((2, 8), 99), "input_ids has the value 99"),
        ("labels", np.ones((2, 8)), "labels has dtype float64; expected integers"),
    ],
)
def test_a_golden_file_with_inputs_that_no_call_takes_is_refused(path, name, value, message):
    golden = read_golden(path)
    entries = golden.manifest["tensors"]
    if name not in golden.case.inputs:
        entries.append({"name": f"inputs/{name}", "shape": list(value.shape), "axes": []})
    rewritten(path, {f"inputs/{name}": value}, manifest=json.dumps(golden.manifest))
    with pytest.raises(FileFormatError, match=f"its inputs are none of the model's: {message}"):
        read_golden(path)
