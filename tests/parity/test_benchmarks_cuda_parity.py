"""The peers of the measurements on a GPU compute what the reference does; on the CPU, untimed."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from benchmarks_cuda_support import CONFIG, KINDS, assert_right, mixing_machine, small_case

from benchmarks import correct
from benchmarks.contenders import Task
from benchmarks.cuda import contenders
from benchmarks.cuda import model as cuda_model

pytest.importorskip("torch", reason="the extra `parity` is not installed")
# PyTorch's own, when its compiler is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ON_EVERY_CPU = ("torch", "sdpa flash", "sdpa flash, deterministic")
TRITON_TESTS = str(Path(__file__).with_name("triton_kernels.py"))


@pytest.mark.parametrize(("function", "direction", "dtype", "lengths"), KINDS)
def test_torch_computes_the_same_function(function, direction, dtype, lengths):
    case = small_case(function, direction, dtype, lengths)
    bound = contenders.of_torch(case, mixing_machine())
    assert_right(case, {name: bind for name, bind in bound.items() if name in ON_EVERY_CPU})


@pytest.mark.parametrize("function", ["attention", "linear"])
def test_torch_may_round_to_tf32_where_ours_may(function):
    """For as long as it is bound and runs; the setting is then as it was."""
    import torch

    case = small_case(function, "backward")._replace(allow_tf32=True)
    assert_right(case, {"torch": contenders.of_torch(case, mixing_machine())["torch"]})
    before, bound = torch.get_float32_matmul_precision(), []

    def bind(given):
        bound.append(torch.get_float32_matmul_precision())
        return Task(torch.get_float32_matmul_precision, None)

    assert contenders.bind_in_tf32(bind, None).run() == "high" and bound == ["high"]
    assert torch.get_float32_matmul_precision() == before == "highest"
    assert contenders.of_triton(case, None) == {}


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_triton_computes_the_same_functions():
    # In a process of its own: Triton decides as it is imported whether its interpreter runs.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TRITON_TESTS]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("work", ["forward", "training"])
def test_transformers_computes_the_same_model(work, dtype):
    pytest.importorskip("transformers")
    case = cuda_model.ModelCase(work, "base", CONFIG, 2, 9, dtype)
    with cuda_model.files_of(case) as files:
        reference, floor = cuda_model.reference_of(case, files)
        task = cuda_model.bind_transformers(case, files, mixing_machine(), None)
        outputs = task.outputs(task.run())
    assert outputs.keys() >= reference.keys()
    limit = correct.rounding_limit(case.work.length, dtype)
    allowed = correct.limits(["transformers"], floor, limit, dtype)["transformers"]
    assert correct.largest_error(outputs, reference, dtype) <= allowed
