"""A C program reads a golden file, and computes parts of it again, with no Python in it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from record_golden import DIRECTORY
from safetensors import safe_open
from safetensors.numpy import save_file

COMPILER = shutil.which("cc")
GOLDEN = DIRECTORY / "default.safetensors"

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler is installed as cc")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "check_golden"
    source = Path(__file__).with_name("check_golden.c")
    options = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-O1"]
    subprocess.run([COMPILER, *options, source, "-o", path, "-lm"], check=True)
    return path


def status_of(program, path):
    return subprocess.run([program, path], capture_output=True, text=True, check=False).returncode


def test_what_it_computes_is_what_the_file_holds(program):
    assert status_of(program, GOLDEN) == 0
    assert status_of(program, DIRECTORY / "several-groups.safetensors") == 0


@pytest.mark.parametrize(
    "name",
    [
        "forward/embeddings.LayerNorm",
        "forward/encoder.embedding_hidden_mapping_in",
        "gradients/encoder.embedding_hidden_mapping_in.weight",
    ],
)
def test_it_sees_a_number_that_is_wrong_in_its_twelfth_digit(program, name, tmp_path):
    with safe_open(GOLDEN, framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors[name] = tensors[name].copy()
    place = np.abs(tensors[name]).argmax()
    tensors[name].flat[place] *= 1 + 1e-12
    save_file(tensors, tmp_path / "wrong.safetensors", metadata)
    assert status_of(program, tmp_path / "wrong.safetensors") == 1


def test_what_it_cannot_read_is_an_error(program, tmp_path):
    (tmp_path / "short").write_bytes(GOLDEN.read_bytes()[:1000])
    assert status_of(program, tmp_path / "short") == 2
    assert status_of(program, tmp_path / "absent") == 2
    assert status_of(program, DIRECTORY / "masked-lm.safetensors") == 2  # other names
