"""Every kernel compiles for GPUs, in every type; those that are tuned spill no registers."""

import contextlib
import re
from functools import partial
from pathlib import Path

import pytest
from cuda_support import BFLOAT16, DTYPES, FLOAT16, FLOAT32, sample

from albert_np.kernels.cuda import compiling, launcher
from albert_np.kernels.cuda.compiling import CompileError, compile_kernels, machine_code
from albert_np.kernels.cuda.launch import SOURCES

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
try:
    nvrtc.nvrtcVersion()
except RuntimeError:
    pytest.skip("nvidia-cuda-nvrtc is not installed", allow_module_level=True)

WIDTHS = sample((8, 256, 768, 1024, 2048, 4096, 8192, 16384), (768, 8192, 16384))
HEAD_SIZES = sample((64, 128), (64,))
HOPPER_S_VERSION = 4  # of attention: its instructions are those of sm_90a alone
ARCHITECTURES = ("sm_80", "sm_90a", "sm_100")
TENSOR_CORES = (("attention.cu", 3), ("attention.cu", 4))  # which old GPUs lack


def planned(dtype, plans, version):
    """The kernels that the launcher may choose for rows of any of the widths."""
    kernels = set()
    for columns in WIDTHS:
        problem = launcher.Problem(512, columns, dtype, True, 132, 232448)
        for plan in plans:
            try:
                kernels.add(plan(problem, version).kernel)
            except ValueError:  # too wide for this version
                continue
    return kernels


def kernels_of(file, dtype, version):
    type_name = launcher.TYPES[dtype.name]
    if file == "gelu_new.cu":
        names = planned(dtype, (launcher.gelu_new_forward, launcher.gelu_new_backward), version)
        return names | ({f"finish_sums<{type_name}>"} if version == 1 else set())
    if file == "linear.cu":
        return {f"sum_of_rows_1<{type_name}>"}
    if file == "cross_entropy.cu":
        plans = launcher.cross_entropy_forward, launcher.cross_entropy_backward
        loss = {f"cross_entropy_loss_1<{type_name}>"} if version == 1 else set()
        return planned(dtype, plans, version) | loss
    if file == "attention.cu":
        return attention_kernels(dtype, version)
    if file == "embedding.cu":
        return embedding_kernels(dtype, version)
    plans = launcher.layer_norm_forward, launcher.layer_norm_output, launcher.layer_norm_backward
    return planned(dtype, plans, version)


def attention_kernels(dtype, version, head_sizes=HEAD_SIZES):
    """Where the version is there for the type; float32 may be rounded to tf32."""
    kernels = {f"attention_delta_1<{launcher.TYPES[dtype.name]}>"}
    for head_size in head_sizes:
        problem = launcher.AttentionProblem(
            8, 512, 4096, 12, head_size, dtype, True, (9, 0), 232448, allow_tf32=True
        )
        with contextlib.suppress(ValueError):
            kernels.add(launcher.attention_forward(problem, version).kernel)
        with contextlib.suppress(ValueError):
            kernels |= {plan.kernel for plan in launcher.attention_backward(problem, version)}
    return kernels


def embedding_kernels(dtype, version):
    """What sums, and with version 2 what puts the positions in order before that."""
    problem = launcher.Problem(512, 128, dtype, True, 132, 232448)
    if version == 3:
        return {plan.kernel for plan in launcher.embedding_chunks(problem)}
    kernels = {launcher.embedding_columns(problem, version, 1).kernel}
    order = launcher.embedding_order(512) if version == 2 else ()
    return kernels | {plan.kernel for plan in order}


FILES = {
    "gelu_new.cu": (1, 2),
    "layer_norm.cu": (1, 2, 3),
    "attention.cu": (1, 2, 3, 4),
    "cross_entropy.cu": (1, 2),
    "linear.cu": (1,),
    "embedding.cu": (1, 2, 3),
}


@pytest.mark.parametrize("dtype", sample(DTYPES, [BFLOAT16]), ids=str)
@pytest.mark.parametrize("file", FILES)
def test_old_gpus(file, dtype):
    """All that the launcher may choose there: what needs no tensor cores."""
    versions = [version for version in FILES[file] if (file, version) not in TENSOR_CORES]
    kernels = sorted(set().union(*(kernels_of(file, dtype, version) for version in versions)))
    reports = compile_kernels(file, kernels, "sm_75")
    assert list(reports) == kernels
    assert all(0 < report.registers <= 255 for report in reports.values())


@pytest.mark.parametrize("architecture", sample(ARCHITECTURES, ["sm_90a"]))
@pytest.mark.parametrize("dtype", sample(DTYPES, [FLOAT16]), ids=str)
@pytest.mark.parametrize("file", FILES)
def test_tuned_versions_do_not_spill(file, dtype, architecture):
    versions = [v for v in FILES[file] if v < HOPPER_S_VERSION or architecture == "sm_90a"]
    kernels = sorted(set().union(*(kernels_of(file, dtype, version) for version in versions)))
    for kernel, report in compile_kernels(file, kernels, architecture).items():
        assert report.shared_bytes <= launcher.STATIC_SHARED
        if not re.match(r"\w+_1<", kernel):
            assert report.spill_bytes == 0 and report.stack_bytes == 0, (kernel, report)


@pytest.mark.parametrize("architecture", sample(["sm_80", "sm_90a"], ["sm_80"]))
def test_tf32_does_not_spill(architecture):
    """At both head sizes; two blocks of 128 threads share 65536 registers."""
    kernels = sorted(attention_kernels(FLOAT32, 3, (64, 128)) - {"attention_delta_1<float>"})
    assert len(kernels) == 6
    for kernel, report in compile_kernels("attention.cu", kernels, architecture).items():
        assert report.spill_bytes == 0 and report.stack_bytes == 0, (kernel, report)
        assert report.registers <= 65536 // 256 and report.shared_bytes <= launcher.STATIC_SHARED


@pytest.mark.parametrize("file", FILES)
def test_every_version_is_planned(file):
    """A kernel that no plan names would be compiled nowhere."""
    kernels = [kernels_of(file, dtype, version) for dtype in DTYPES for version in FILES[file]]
    named = {kernel.split("<")[0] for kernel in set().union(*kernels)}
    text = (SOURCES / file).read_text(encoding="utf-8")
    assert set(re.findall(r"\b(\w+_\d)\((?:const |T\*)", text)) == named - {"finish_sums"}


def test_every_file_is_compiled():
    assert {path.name for path in SOURCES.glob("*.cu")} == set(FILES)


def test_what_does_not_compile_is_said(tmp_path):
    (tmp_path / "wrong.cu").write_text("__global__ void wrong() { return 1; }")
    with pytest.raises(CompileError, match="wrong.cu for sm_90a"):
        compile_kernels("wrong.cu", ["wrong"], "sm_90a", tmp_path)


def test_spills_are_seen(tmp_path):
    """A kernel with an array that registers cannot hold; and shared memory, read off the report."""
    (tmp_path / "wide.cu").write_text(
        "__global__ void wide_array(float* x, int n) {\n"
        "    __shared__ float shared[64];\n"
        "    float own[512];\n"
        "    for (int i = 0; i < 512; i++) own[i] = x[i * n];\n"
        "    shared[threadIdx.x] = own[n];\n"
        "    __syncthreads();\n"
        "    x[threadIdx.x] = shared[63 - threadIdx.x] + own[n + 1];\n"
        "}\n"
    )
    report = compile_kernels("wide.cu", ["wide_array"], "sm_90a", tmp_path)["wide_array"]
    assert report.stack_bytes >= 2048 and report.shared_bytes == 256


def test_sums_that_are_read_too_early_are_seen(tmp_path):
    """The compiler would wait for them, and say so."""
    for header in SOURCES.glob("*.cuh"):
        (tmp_path / header.name).write_bytes(header.read_bytes())
    (tmp_path / "early.cu").write_text(
        '#include "device.cuh"\n'
        "__global__ void early(float* y) {\n"
        "    SHARED(Half, tile, [4096]);\n"
        "    float sums[8][4] = {};\n"
        "    multiply_begin();\n"
        "    multiply_async<Half>(sums, matrix_at(tile), matrix_at(tile), true);\n"
        "    multiply_commit();\n"
        "    y[threadIdx.x] = sums[0][0];\n"
        "    multiply_wait(sums);\n"
        "    y[threadIdx.x + 128] = sums[0][1];\n"
        "}\n"
    )
    with pytest.raises(CompileError, match="wgmma.wait_group is injected"):
        compile_kernels("early.cu", ["early"], "sm_90a", tmp_path)


TWICE = '#include "factor.cuh"\ntemplate <class T> __global__ void twice(T* x) { *x *= FACTOR; }\n'


@pytest.fixture
def compiled(monkeypatch):
    """Counts what the compiler is asked to compile."""
    asked = []

    def counted(*arguments):
        asked.append(arguments)
        return compile_program(*arguments)

    compile_program = nvrtc.nvrtcCompileProgram
    compiling.compiler_build()  # which is asked for once
    monkeypatch.setattr(nvrtc, "nvrtcCompileProgram", counted)
    return asked


def test_machine_code_is_kept_until_what_it_is_made_of_changes(tmp_path, monkeypatch, compiled):
    """The source, a header, the kernel, the options, or the compiler."""
    kept = tmp_path / "kept"
    monkeypatch.setenv("ALBERT_NP_CACHE", str(kept))
    (tmp_path / "twice.cu").write_text(TWICE)
    (tmp_path / "factor.cuh").write_text("#define FACTOR 2\n")
    ask = partial(machine_code, "twice.cu", "twice<float>", "sm_90a", tmp_path)
    first = ask()
    name, cubin = first
    assert cubin.startswith(b"\x7fELF") and name.encode() in cubin
    assert ask() == first and len(compiled) == 1
    assert len(list((kept / "cuda").iterdir())) == 1

    (tmp_path / "factor.cuh").write_text("#define FACTOR 3\n")
    assert ask() != first and len(compiled) == 2
    (tmp_path / "twice.cu").write_text(TWICE.replace("*=", "+="))
    ask()
    assert machine_code("twice.cu", "twice<double>", "sm_90a", tmp_path)[0] != name
    machine_code("twice.cu", "twice<float>", "sm_80", tmp_path)
    assert len(compiled) == 5
    monkeypatch.setattr(compiling, "compiler_build", lambda: "another")
    ask()
    assert len(compiled) == 6 == len(list((kept / "cuda").iterdir()))


def test_the_compiler_signs_with_its_build():
    _, *release = nvrtc.nvrtcVersion()
    assert f"V{'.'.join(map(str, release))}." in compiling.compiler_build()


def test_an_interrupted_compilation_keeps_nothing(tmp_path, monkeypatch):
    """Neither one that fails nor one whose result cannot be written."""
    monkeypatch.setenv("ALBERT_NP_CACHE", str(tmp_path / "kept"))
    (tmp_path / "twice.cu").write_text(TWICE)
    ask = partial(machine_code, "twice.cu", "twice<float>", "sm_90a", tmp_path)
    with pytest.raises(CompileError, match=r"factor\.cuh"):
        ask()
    (tmp_path / "factor.cuh").write_text("#define FACTOR 2\n")

    def interrupted(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_bytes", interrupted)
        ask()
    assert not list((tmp_path / "kept" / "cuda").iterdir())
    assert ask()[1].startswith(b"\x7fELF")
