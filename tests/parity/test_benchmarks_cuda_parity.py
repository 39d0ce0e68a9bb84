"""The peers of the measurements on a GPU compute what the reference does; on the CPU, untimed."""

import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from benchmarks_cuda_support import CONFIG, KINDS, assert_right, mixing_machine, small_case

from benchmarks import correct
from benchmarks.contenders import Task
from benchmarks.cuda import contenders
from benchmarks.cuda import model as cuda_model
from benchmarks.cuda.measure import allowed_error

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
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
    case = small_case(function, "backward")._replace(allow_tf32=True)
    assert_right(case, {"torch": contenders.of_torch(case, mixing_machine())["torch"]})
    before, bound = torch.get_float32_matmul_precision(), []

    def bind(given):
        bound.append(torch.get_float32_matmul_precision())
        return Task(torch.get_float32_matmul_precision, None)

    assert contenders.bind_in_tf32(bind, None).run() == "high" and bound == ["high"]
    assert torch.get_float32_matmul_precision() == before == "highest"
    assert contenders.of_triton(case, None) == {}


def by_sequence(query, key, value, begins, key_begins, longest, longest_key):
    """What `varlen_attn` computes, one sequence after the other: (T, A, D) each."""
    assert begins is key_begins and begins.dtype == torch.int32
    assert longest == longest_key == begins.diff().max()
    parts = (each.tensor_split(begins[1:-1].long()) for each in (query, key, value))
    heads = (map(lambda part: part.transpose(0, 1), part) for part in parts)
    contexts = map(torch.nn.functional.scaled_dot_product_attention, *heads)
    return torch.cat([context.transpose(0, 1) for context in contexts])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # of its plain path
@pytest.mark.parametrize("call", [contenders.varlen_attention, contenders.nested_attention])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_torch_computes_attention_of_packed_sequences(direction, dtype, call, monkeypatch):
    # The real one runs on a GPU alone.
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_sequence)
    case = small_case("attention", direction, dtype, (9, 4))
    packed = partial(contenders.bind_torch_packed, case, call)
    deterministic = partial(contenders.bind_deterministic, packed)
    assert_right(case, {"packed": packed, "deterministic": deterministic})


def test_nested_tensors_are_told_the_lengths_that_pytorch_would_wait_for(monkeypatch):
    made, make = [], torch.nested.nested_tensor_from_jagged

    def recorded(values, offsets, **lengths):
        made.append(lengths)
        return make(values, offsets, **lengths)

    monkeypatch.setattr(torch.nested, "nested_tensor_from_jagged", recorded)
    offsets, query = torch.tensor([0, 9, 13], dtype=torch.int32), torch.zeros(13, 4)
    contenders.nested_attention(query, query, query, 2, offsets, shortest=4, longest=9)
    assert made == 3 * [{"min_seqlen": 4, "max_seqlen": 9}]


def test_what_is_deterministic_is_bound_as_such():
    """As PyTorch goes forward it chooses who goes backward; cuDNN would not be deterministic."""
    bound = []

    def bind(given):
        bound.append(torch.are_deterministic_algorithms_enabled())
        return Task(torch.are_deterministic_algorithms_enabled, None)

    assert contenders.bind_deterministic(bind, None).run() is True and bound == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_every_back_end_has_its_packed_and_deterministic_peers():
    def names(direction, lengths):
        case = small_case("attention", direction, "float16", lengths)
        return {name for name in contenders.of_torch(case, mixing_machine()) if "," in name}

    padded = {"sdpa flash", "sdpa cudnn", "sdpa efficient"}
    packed = {f"{name}, packed" for name in (*padded, "varlen_attn")}
    assert names("forward", (9, 9)) == set() and names("forward", (9, 4)) == packed
    deterministic = {f"{name}, deterministic" for name in padded | packed}
    assert names("backward", (9, 4)) == packed | deterministic


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_triton_computes_the_same_functions():
    # In a process of its own: Triton decides as it is imported whether its interpreter runs.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TRITON_TESTS]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_tritons_kernels_compile_for_a_gpu(tmp_path, monkeypatch):
    # In bfloat16, which its interpreter cannot multiply.
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget

    from benchmarks.cuda import of_triton

    kernels = [each for name, each in vars(of_triton).items() if name.endswith("_kernel")]
    assert len(kernels) >= 10
    for kernel in kernels:
        types = {name: triton_type(name) for name in kernel.arg_names}
        constants = {name: CONSTANTS[name] for name in types if name in CONSTANTS}
        source = triton.compiler.ASTSource(kernel, types, constexprs=constants)
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


CONSTANTS = {"MASKED": True, "FUSED": True, "BLOCK": 1024}
CONSTANTS |= {"D": 64, "QUERIES": 64, "KEYS": 32, "E": 128, "ROWS": 64, "WORDS": 64}
NUMBERS = ("S", "A", "V", "size", "rows", "columns", "rows_a_part", "words_a_part")
POINTED = {"labels": "i64", "mask": "u8", "log_sum_exp": "fp32", "delta": "fp32"}
POINTED |= {"partial": "fp32", "own": "fp32", "inverse": "fp32"}


def triton_type(name):
    """Of an argument of a kernel, by its name; arrays are of bfloat16."""
    if name in CONSTANTS:
        return "constexpr"
    if name in NUMBERS:
        return "i32"
    return "fp32" if name in ("scale", "eps") else f"*{POINTED.get(name, 'bf16')}"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("work", ["forward", "training"])
def test_transformers_computes_the_same_model(work, dtype):
    pytest.importorskip("transformers")
    case = cuda_model.ModelCase(work, "base", CONFIG, 2, 9, dtype)
    with cuda_model.files_of(case) as files:
        reference, floors = cuda_model.reference_of(case, files)
        task = cuda_model.bind_transformers(case, files, mixing_machine(), None)
        outputs = task.outputs(task.run())
    assert outputs.keys() >= reference.keys()
    assert correct.largest_error(outputs, reference, dtype) <= allowed_error(case, floors)
