"""The executor for GPUs, as far as it goes without one: a stand-in has CuPy's place."""

import copy
import ctypes
import pickle
import sys
import weakref
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cublas_lt_stand_in import COMPUTE_TYPES, CublasLt, DeviceArray, device_array, nvmath_with
from cuda_support import FLOAT32, random

from albert_np import AlbertConfig, AlbertForPreTraining
from albert_np.backend import NUMPY, Backend, get_backend
from albert_np.errors import GpuError
from albert_np.functions.dropout import Dropout
from albert_np.functions.embedding import EmbeddingCache
from albert_np.functions.packing import packed_batch
from albert_np.kernels import cuda
from albert_np.kernels.cuda.cublas_lt import WORKSPACE_BYTES
from albert_np.kernels.cuda.cupy_executor import ENCODE_TILED, CupyExecutor

TWO_HEADS = AlbertConfig(
    vocab_size=20,
    embedding_size=8,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=8,
)


class NoDriver(RuntimeError):
    """What CuPy raises where there is no driver."""


class OutOfMemoryError(MemoryError):
    """What CuPy raises where a GPU is full."""


class Stream:
    """Remembers what it was asked for, in the order of all that is asked of it and its graphs."""

    ptr = 7

    def __init__(self, asked):
        self.asked = asked

    def __enter__(self):
        self.asked.append("enter")

    def __exit__(self, *_):
        self.asked.append("exit")

    def synchronize(self):
        self.asked.append("synchronize")

    def begin_capture(self):
        self.asked.append("begin")

    def end_capture(self):
        self.asked.append("end")
        return SimpleNamespace(launch=lambda: self.asked.append("launch"))


class FakeCupy:
    """Compiles and runs nothing; remembers what it was asked for."""

    __version__ = "14.0.0"
    ndarray = DeviceArray

    def __init__(self, capability="90"):
        attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448}
        device = SimpleNamespace(id=0, attributes=attributes, compute_capability=capability)
        self.asked = []
        self.cuda = SimpleNamespace(
            Device=lambda: device,
            runtime=SimpleNamespace(CUDARuntimeError=NoDriver),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            get_current_stream=lambda: Stream(self.asked),
            Stream=lambda non_blocking: Stream(self.asked),
            MemoryPool=lambda: SimpleNamespace(malloc="a pool of its own"),
            using_allocator=self.using_allocator,
        )
        self.modules, self.launches = [], []

    @contextmanager
    def using_allocator(self, allocator):
        self.asked.append(allocator)
        yield

    def empty(self, shape, dtype):
        return device_array(np.zeros(shape, dtype))

    zeros = empty

    def ascontiguousarray(self, x):
        assert isinstance(x, DeviceArray)  # CuPy's takes no other
        return np.ascontiguousarray(x).view(DeviceArray)

    asarray = staticmethod(device_array)
    asnumpy = staticmethod(np.asarray)

    def from_dlpack(self, x):
        return device_array(np.from_dlpack(x.__dlpack__()))

    def RawModule(self, code=None, options=(), name_expressions=(), path=None):
        if path:
            code = Path(path).read_bytes()
        self.modules.append((code, options, name_expressions))
        return SimpleNamespace(get_function=lambda name: FakeKernel(self, name))


class FakeKernel:
    max_dynamic_shared_size_bytes = 0

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __call__(self, grid, block, arguments, shared_mem):
        for argument in arguments:  # what CuPy takes: its arrays, numbers, and structs as arrays
            struct = type(argument) is np.ndarray and argument.size == 1 and argument.dtype.names
            number = isinstance(argument, np.generic) and argument.dtype.char in "?bhilqBHILQefd"
            assert isinstance(argument, DeviceArray) or number or struct
        declared = 512  # at least: what the sums of a block stand in
        allowed = max(48 * 1024 - declared, self.max_dynamic_shared_size_bytes)
        assert shared_mem <= allowed
        self.owner.launches.append((self.name, grid, block, arguments, shared_mem))


@pytest.fixture(autouse=True)
def cublas_lt(monkeypatch):
    stand_in = CublasLt()
    nvmath_with(stand_in, monkeypatch)
    return stand_in


@pytest.fixture
def cupy(monkeypatch):
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


def test_compiles_once_and_passes_pointers_and_structs(cupy):
    functions = cuda.functions(CupyExecutor())
    rng = np.random.default_rng(0)
    x = device_array(random(rng, (2, 3, 64), FLOAT32))
    h = device_array(np.ones(64, np.float32))
    for _ in range(2):
        functions["layer_norm_forward"](x, h, h, 1e-5)
        functions["bias_dropout_residual_layer_norm_forward"](
            x, h, x, h, h, 1e-5, Dropout(0.5, 2**33 + 1, 9)
        )
    (module,) = cupy.modules
    assert '#include "layer_norm.cu"' in module[0] and "-std=c++17" in module[1]
    assert any(option.startswith("-I") for option in module[1])
    assert module[2] == ("layer_norm_forward_2<float, 1, 1>",)
    alone, fused = cupy.launches[:2]
    assert alone[3][1] == 0 and alone[3][2] == 0  # no bias, no residual
    dropout = fused[3][-1]
    assert dropout["seed"] == 2**33 + 1 and dropout["threshold"] == 2**31
    assert dropout["packed_columns"] == 0 and dropout["tokens"] == 3 and dropout["enabled"] == 1


def test_large_shared_memory_is_asked_for(cupy):
    functions = cuda.functions(CupyExecutor())
    functions["attention_forward"](device_array(np.zeros((1, 40, 384), np.float16)), 1)
    ((name, grid, block, _, shared_bytes),) = cupy.launches
    assert name == "attention_forward_3<Half, 128>" and block == (128,) and grid == (1, 1, 1)
    assert shared_bytes == 5 * 64 * 136 * 2


def test_hopper_s_kernels_go_around_cupy_s_compiler(cupy, monkeypatch):
    """Their machine code is CuPy's to load; the array's map is the driver's to make."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError:
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    from cuda.bindings import driver

    @ENCODE_TILED
    def encode(at, kind, rank, address, *numbers):
        lists = (n[:count] for n, count in zip(numbers[:4], (3, 2, 3, 3), strict=True))
        asked.append((at, kind, rank, address, *lists, *numbers[4:]))
        return status

    def found(name, version, flags):
        assert (name, version, flags) == (b"cuTensorMapEncodeTiled", 12000, 0)
        return driver.CUresult.CUDA_SUCCESS, ctypes.cast(encode, ctypes.c_void_p).value, None

    asked, status = [], driver.CUresult.CUDA_SUCCESS
    monkeypatch.setattr(driver, "cuGetProcAddress", found)
    forward = cuda.functions(CupyExecutor())["attention_forward"]
    x = device_array(np.zeros((2, 40, 2 * 3 * 72), np.float16))
    forward(x, 2, version=4)
    ((code, _, _),) = cupy.modules
    ((name, grid, block, (tensor_map, *_), shared_bytes),) = cupy.launches
    assert code.startswith(b"\x7fELF") and name.encode() in code
    assert grid == (1, 2, 2) and block == (288,) and shared_bytes == 6 * 2 * 8192 + 1024
    assert tensor_map.nbytes == 128
    (((at, kind, rank, address, sizes, strides, box, steps, _, swizzle, _, _)),) = asked
    assert at == tensor_map.ctypes.data and at % 64 == 0  # as the driver wants it
    assert kind == driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16
    assert rank == 3 and address == x.ctypes.data
    assert sizes == [72, 6, 80] and strides == [144, 6 * 144]
    assert box == [64, 1, 64] and steps == [1, 1, 1]
    assert swizzle == driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B
    status = driver.CUresult.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(RuntimeError, match=r"map of shape \(80, 6, 72\) .*: CUDA_ERROR_INV"):
        forward(x, 2, version=4)


def test_hopper_s_kernels_without_bindings(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    x = device_array(np.zeros((2, 40, 24), np.float16))
    with pytest.raises(ImportError, match=r"needs the library cuda-bindings, .*\[cuda-compile\]'"):
        cuda.functions(CupyExecutor())["attention_forward"](x, 1, version=4)


def test_what_a_kernel_declares_counts_as_shared_memory(cupy):
    """A row of 48 KiB − 64 bytes of scores, beside what the kernel has of its own."""
    x = device_array(np.zeros((1, 12 * 1024 - 16, 3), np.float32))
    cuda.functions(CupyExecutor())["attention_forward"](x, 1, version=1)
    assert cupy.launches[0][-1] == 48 * 1024 - 64


def test_the_launches_of_an_embedding_s_gradient(cupy):
    """In a slot, of rows of whole packs: nothing but kernels, on arrays and numbers of theirs."""
    ids, dy = device_array(np.arange(40) % 7), device_array(np.zeros((40, 16), np.float16))
    slot = device_array(np.zeros((7, 16), np.float16))
    backward = cuda.functions(CupyExecutor())["embedding_backward"]
    assert backward(dy, EmbeddingCache(ids, slot, 0), into=(slot,)) is slot
    assert [launch[:3] for launch in cupy.launches] == [
        ("sort_tiles_1", (1,), (512,)),
        ("merge_tiles_1", (1,), (512,)),
        ("embedding_backward_3<Half>", (1, 1), (2, 128)),
        ("embedding_finish_3<Half>", (3, 1), (2, 128)),
    ]


def test_where_a_packed_batch_lies_is_uploaded(cupy):
    packed = packed_batch(np.array([[True, True, False], [True, True, True]]))
    functions = cuda.functions(CupyExecutor())
    x = device_array(np.zeros((5, 24), np.float32))
    functions["attention_forward"](x, 2, dropout=Dropout(0.5, 1, 2), packed=packed)
    batch, dropout = cupy.launches[0][3][-2:]
    assert batch["offsets"] != 0 and dropout["packed_columns"] != 0


@pytest.mark.parametrize("kept_by", [np.asarray, device_array])
def test_what_is_uploaded_keeps_its_shape(cupy, kept_by):
    """A loss's gradient, a number, gets no axis; and what lies otherwise is laid out in C order."""
    for array in (np.array(2.0), np.zeros((3, 2)).T):
        uploaded = CupyExecutor().uploaded(kept_by(array))
        assert isinstance(uploaded, DeviceArray) and uploaded.flags.c_contiguous
        assert uploaded.shape == array.shape


def test_arrays_that_are_elsewhere(cupy):
    executor = CupyExecutor()
    h = device_array(np.ones(8, np.float32))
    layer_norm = cuda.functions(executor)["layer_norm_forward"]
    with pytest.raises(TypeError, match="x is a ndarray; expected a cupy.ndarray"):
        layer_norm(np.ones((2, 8), np.float32), h, h, 1e-5)
    x = device_array(np.ones((2, 8), np.float32))
    x.gpu = 1
    with pytest.raises(ValueError, match="x is on GPU 1; the current one is 0"):
        layer_norm(x, h, h, 1e-5)


def test_no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"needs the library cupy, .* 'albert-np\[cuda\]'"):
        CupyExecutor()


def test_no_driver(cupy):
    def no_device():
        raise NoDriver("cudaErrorInsufficientDriver")

    cupy.cuda.Device = no_device
    with pytest.raises(RuntimeError, match="found no GPU that it can use: cudaErrorInsuff"):
        CupyExecutor()


def test_old_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy("70"))
    with pytest.raises(RuntimeError, match="compute capability 7.0; the back end 'cuda' needs 7.5"):
        CupyExecutor()


# ---- what a model asks of it ------------------------------------------------------------------


class Tensor:
    """An array of another library, by DLPack; on a GPU or not."""

    def __init__(self, held, kind):
        self.held, self.kind = held, kind

    def __dlpack_device__(self):
        return self.kind, 0

    def __dlpack__(self):
        return self.held  # which NumPy can look into

    def __array__(self, *_, **__):
        return self.held


def test_what_lies_on_the_gpu_is_taken_as_it_lies(cupy):
    executor = CupyExecutor()
    ids = np.arange(6)
    taken = executor.given("input_ids", Tensor(ids, kind=2))
    assert isinstance(taken, DeviceArray) and np.shares_memory(taken, ids)
    for on_the_cpu in (ids, [1, 2], Tensor(ids, kind=1), None):
        assert executor.given("input_ids", on_the_cpu) is on_the_cpu
    elsewhere = device_array(ids)
    elsewhere.gpu = 1
    with pytest.raises(ValueError, match="input_ids is on GPU 1; the current one is 0"):
        executor.given("input_ids", elsewhere)


class RequiringGradients(Tensor):
    """As PyTorch's on a GPU are: they share nothing that gradients could be lost of."""

    def __dlpack__(self):
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")


def test_what_its_library_does_not_share_is_named(cupy):
    values = RequiringGradients(np.zeros((1, 2, 3)), kind=2)
    with pytest.raises(ValueError, match="inputs_embeds cannot be taken .* use tensor.detach"):
        CupyExecutor().given("inputs_embeds", values)


@pytest.mark.parametrize(
    ("given", "raised"),
    [
        (NotImplementedError("CuPy does not support bfloat16."), ValueError),
        (TypeError("Unsupported dtype. dtype code: 10"), TypeError),
    ],
)
def test_what_cupy_does_not_take_is_named(cupy, given, raised):
    def fails(values):
        raise given

    cupy.from_dlpack = fails
    with pytest.raises(raised, match=f"labels cannot be taken from where it lies: {given}"):
        CupyExecutor().given("labels", Tensor(np.zeros(3), kind=2))


def test_an_array_with_cuda_s_interface_alone(cupy):
    """As Numba's; CuPy reads that itself."""

    class Array:
        __cuda_array_interface__ = {}

        def __array__(self, *_, **__):
            return ids

    ids = np.arange(6)
    taken = CupyExecutor().given("input_ids", Array())
    assert isinstance(taken, DeviceArray) and np.shares_memory(taken, ids)


def test_a_full_gpu(cupy):
    with (
        pytest.raises(MemoryError, match="the GPU is full: 3 bytes; a smaller batch needs less"),
        CupyExecutor().computing(),
    ):
        raise OutOfMemoryError("3 bytes")


def test_products_run_on_the_current_stream(cupy, cublas_lt):
    rng = np.random.default_rng(0)
    x, weight = (device_array(random(rng, (3, 4), FLOAT32)) for _ in range(2))
    y, _ = cuda.functions(CupyExecutor())["linear_forward"](x, weight)
    np.testing.assert_allclose(np.asarray(y), np.asarray(x @ weight.T), rtol=1e-5)
    assert cublas_lt.planned == 1  # and it asserts which stream it is given


def test_a_graph_is_recorded_after_a_run_in_memory_of_its_own(cupy):
    ran = []

    def function():
        cupy.asked.append("run")
        ran.append(len(ran))
        return ran[-1]

    result, launch = CupyExecutor().captured(function)
    assert result == 1  # of the run that was recorded
    first = ["synchronize", "enter", "a pool of its own", "run", "synchronize"]
    assert cupy.asked == [*first, "begin", "run", "end", "exit"]
    launch()
    launch()
    assert cupy.asked[-2:] == ["launch", "launch"] and len(ran) == 2


def test_the_workspace_of_recorded_products_lives_as_long_as_the_graph(cupy, cublas_lt):
    executor = CupyExecutor()
    a, out = (device_array(np.ones((2, 2), np.float32)) for _ in range(2))
    _, launch = executor.captured(lambda: executor.multiply(a, a, out))
    _, (_, workspace) = launch.args
    assert workspace.nbytes == WORKSPACE_BYTES
    workspace = weakref.ref(workspace)
    launch()
    assert workspace() is not None
    del launch
    assert workspace() is None


def test_what_cannot_be_recorded_is_said_as_it_is(cupy):
    def function():
        if "begin" in cupy.asked:
            raise ValueError("no")

    with pytest.raises(ValueError, match="^no$"):
        CupyExecutor().captured(function)
    assert cupy.asked[-2:] == ["end", "exit"]


def test_the_back_end(cupy):
    backend = get_backend("cuda")
    assert backend.name == "cuda" and isinstance(backend.arrays, CupyExecutor)
    same = {f.name for f in fields(Backend) if getattr(backend, f.name) is getattr(NUMPY, f.name)}
    assert same == {"embedding_forward"}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_a_model_have_an_executor_of_their_own(cupy, copied):
    model = AlbertForPreTraining(TWO_HEADS).to("cuda", allow_tf32=True)
    backend = copied(model).backend
    executor = backend.arrays
    assert executor is not model.backend.arrays and executor.allow_tf32
    assert backend.linear_forward.args == backend.attention_forward.args == (executor,)


def test_tf32_is_allowed_by_one_switch(cupy, cublas_lt):
    """Of `to`: for the linear maps and for attention; and it is off unless it is given."""
    model = AlbertForPreTraining(TWO_HEADS, backend="cuda")
    assert not model.backend.arrays.allow_tf32
    x = device_array(np.zeros((1, 4, 96), np.float32))
    for settings, version, kind in (
        ({}, 2, "COMPUTE_32F"),
        ({"allow_tf32": True}, 3, "COMPUTE_32F_FAST_TF32"),
        ({}, 2, "COMPUTE_32F"),
    ):
        assert model.to("cuda", **settings) is model and model.backend.name == "cuda"
        cublas_lt.things, cupy.launches = [{}], []
        model.backend.linear_forward(x, device_array(np.zeros((3, 96), np.float32)))
        model.backend.attention_forward(x, 2)
        assert cublas_lt.computed_in() == {COMPUTE_TYPES[kind]}
        assert cupy.launches[0][0] == f"attention_forward_{version}<float, 64>"


@pytest.mark.parametrize("backend", ["numpy", "numba", NUMPY, "torch"], ids=lambda b: str(b)[:7])
def test_tf32_is_of_cuda_alone(backend):
    model = AlbertForPreTraining(TWO_HEADS)
    named = "made already" if backend is NUMPY else repr(backend)
    with pytest.raises(ValueError, match=f"an option of the back end 'cuda'; backend is {named}"):
        model.to(backend, allow_tf32=True)
    assert model.backend is NUMPY


ERRORS = {
    "no cupy": (ImportError, r"needs the library cupy.*albert-np\[cuda\]"),
    "old cupy": (ImportError, r"needs the library cupy, 14 or later; 13.6.0 is.*albert-np\[cuda\]"),
    "no nvmath": (ImportError, r"needs the library nvmath-python.*albert-np\[cuda\]"),
    "no driver": (GpuError, "found no GPU that it can use: cudaErrorInsufficientDriver"),
    "old GPU": (GpuError, "compute capability 7.0; the back end 'cuda' needs 7.5"),
    "full GPU": (MemoryError, "the GPU is full"),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_one_clear_error_each(fault, monkeypatch):
    """From `from_pretrained`, and from `to`, which leaves the model as it was."""
    fake = FakeCupy("70" if fault == "old GPU" else "90")

    def fails(error):
        def function(*_, **__):
            raise error

        return function

    if fault == "old cupy":
        fake.__version__ = "13.6.0"
    if fault == "no driver":
        fake.cuda.Device = fails(NoDriver("cudaErrorInsufficientDriver"))
    if fault == "full GPU":
        fake.asarray = fails(OutOfMemoryError("Out of memory allocating 512 bytes"))
    monkeypatch.setitem(sys.modules, "cupy", None if fault == "no cupy" else fake)
    if fault == "no nvmath":
        nvmath_with(None, monkeypatch)
    kind, message = ERRORS[fault]
    with pytest.raises(kind, match=message):
        AlbertForPreTraining.from_pretrained("tiny", backend="cuda")
    model = AlbertForPreTraining.from_pretrained("tiny")
    before = dict(model.parameters)
    with pytest.raises(kind, match=message):
        model.to("cuda")
    assert model.backend is NUMPY and model.parameters == before


def test_a_command_says_it_in_one_line(monkeypatch, run):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy("70"))
    status, _, err = run("fill-mask", "The sky is [MASK].", "--backend", "cuda")
    assert status == 2 and err.count("\n") == 1 and "compute capability 7.0" in err
