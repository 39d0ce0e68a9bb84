"""The linear map in CUDA: the bias's gradient on the CPU; how cublasLt is told of its products."""

import ml_dtypes
import numpy as np
import pytest
from cublas_lt_stand_in import COMPUTE_TYPES, CublasLt, cupy_with, device_array, nvmath_with
from cuda_support import (
    DTYPES,
    FEW_UNITS,
    FLOAT32,
    FLOAT64,
    NEEDS_COMPILER,
    TF32_ROUNDOFF,
    assert_rounded,
    check_linear,
    random,
)

from albert_np.kernels import cuda
from albert_np.kernels.cuda.arrays import rounded_to_tf32
from albert_np.kernels.cuda.cublas_lt import MatrixProducts
from albert_np.kernels.cuda.host import HostExecutor


@NEEDS_COMPILER
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [70, 1, 0])
def test_against_the_reference(dtype, rows):
    check_linear(HostExecutor(1), dtype, rows)


@NEEDS_COMPILER
@pytest.mark.parametrize(("rows", "outputs", "size"), [(70, 0, 12), (70, 140, 0), (0, 0, 0)])
def test_no_outputs_and_no_inputs(rows, outputs, size):
    """Of no inputs, y is the bias."""
    check_linear(HostExecutor(), FLOAT32, rows, outputs, size)


@NEEDS_COMPILER
def test_without_a_bias():
    functions = cuda.functions(HostExecutor())
    rng = np.random.default_rng(0)
    x, weight = random(rng, (2, 5, 4), FLOAT32), random(rng, (3, 4), FLOAT32)
    y, cache = functions["linear_forward"](x, weight)
    np.testing.assert_allclose(y, x @ weight.T, rtol=1e-6)
    slot = np.ones((3, 4), FLOAT32)
    dx, dweight, dbias = functions["linear_backward"](y, cache, into=(slot, None))
    assert dx.shape == x.shape and dweight is slot and dbias is None


def test_bad_input():
    functions = cuda.functions(HostExecutor())
    x, weight = np.zeros((2, 4), FLOAT32), np.zeros((3, 4), FLOAT32)
    with pytest.raises(ValueError, match=r"weight has shape \(3, 4\); expected \(3, 2\)"):
        functions["linear_forward"](x[:, :2], weight)
    with pytest.raises(ValueError, match=r"bias has shape \(2,\); expected \(3,\)"):
        functions["linear_forward"](x, weight, np.zeros(2, FLOAT32))
    with pytest.raises(ValueError, match="weight has dtype float64; x has float32"):
        functions["linear_forward"](x, weight.astype(float))
    with pytest.raises(TypeError, match="x has dtype int64"):
        functions["linear_forward"](x.astype(int), weight)


def test_bad_slots():
    functions = cuda.functions(HostExecutor())
    x, weight, bias = (np.zeros(shape, FLOAT32) for shape in ((2, 4), (3, 4), 3))
    y, cache = functions["linear_forward"](x, weight, bias)
    backward = functions["linear_backward"]
    with pytest.raises(ValueError, match="into has 1 slots; expected 2: dweight, dbias"):
        backward(y, cache, into=(weight,))
    with pytest.raises(ValueError, match=r"slot for dweight has shape \(4, 3\); expected \(3, 4\)"):
        backward(y, cache, into=(weight.T.copy(), bias))
    with pytest.raises(ValueError, match="slot for dweight is not C-contiguous"):
        backward(y, cache, into=(np.asfortranarray(weight), bias))
    with pytest.raises(ValueError, match="slot for dbias has dtype float64; expected float32"):
        backward(y, cache, into=(weight, bias.astype(float)))


# ---- what cublasLt is told --------------------------------------------------------------------


@pytest.fixture
def lt(monkeypatch):
    """A stand-in that multiplies what it is told to, as it would lie on a GPU."""
    stand_in = CublasLt()
    nvmath_with(stand_in, monkeypatch)
    return stand_in


def products(lt, allow_tf32=False):
    return MatrixProducts(cupy_with(), allow_tf32)


def matrix(rng, rows, columns, transposed, dtype):
    shape = (columns, rows) if transposed else (rows, columns)
    x = device_array(random(rng, shape, dtype))
    return x.T if transposed else x


@pytest.mark.parametrize("sizes", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
def test_products(lt, sizes, dtype, a_transposed, b_transposed):
    """With a bias, added to what is there, or neither: as exact as sums of K terms are."""
    rng = np.random.default_rng(0)
    M, K, N = sizes
    a = matrix(rng, M, K, a_transposed, dtype)
    b = matrix(rng, K, N, b_transposed, dtype)
    bias = device_array(random(rng, N, dtype))
    a64, b64, bias64 = (np.asarray(array).astype(float) for array in (a, b, bias))
    for settings in ({}, {"bias": bias}, {"add": True}):
        out = device_array(random(rng, (M, N), dtype).copy())
        more = bias64 if "bias" in settings else np.asarray(out).astype(float) * len(settings)
        products(lt).multiply(a, b, out, **settings)
        terms = np.abs(a64) @ np.abs(b64) + np.abs(more)
        assert_rounded(np.asarray(out), a64 @ b64 + more, dtype, 0, FEW_UNITS + K, terms)


def test_a_product_is_planned_once_and_each_bias_is_its_own(lt):
    rng, multiplier = np.random.default_rng(0), products(lt)
    a, b = matrix(rng, 3, 4, False, FLOAT32), matrix(rng, 4, 5, True, FLOAT32)
    out = device_array(np.zeros((3, 5), FLOAT32))
    for _ in range(3):
        bias = device_array(random(rng, 5, FLOAT32))
        multiplier.multiply(a, b, out, bias)
        np.testing.assert_allclose(np.asarray(out), np.asarray(a @ b + bias), rtol=1e-6)
    assert lt.planned == 1 and len(multiplier._workspaces) == 1


def test_sums_of_half_numbers_may_be_wide(lt):
    """What the decoder's blocks add up in."""
    rng = np.random.default_rng(0)
    a, b = matrix(rng, 3, 4, False, np.float16), matrix(rng, 4, 5, False, np.float16)
    out = device_array(np.ones((3, 5), FLOAT32))
    products(lt).multiply(a, b, out, add=True)
    a64, b64 = np.asarray(a, np.float64), np.asarray(b, np.float64)
    terms = np.abs(a64) @ np.abs(b64) + 1
    assert_rounded(np.asarray(out), a64 @ b64 + 1, FLOAT32, 0, FEW_UNITS, terms)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("allow_tf32", [False, True])
def test_tf32_where_it_is_allowed(lt, dtype, allow_tf32):
    """In float32 alone. What is multiplied is rounded by u = 2⁻¹¹: each term is off by 2u + u²."""
    rng = np.random.default_rng(0)
    a, b = matrix(rng, 3, 40, False, dtype), matrix(rng, 40, 5, True, dtype)
    bias = device_array(random(rng, 5, dtype))
    out, wide_out = device_array(np.zeros((3, 5), dtype)), device_array(np.zeros((3, 5), FLOAT32))
    products(lt, allow_tf32).multiply(a, b, out, bias)
    if dtype.itemsize == 2:  # the sums of half numbers that are wide are no products of float32
        products(lt, allow_tf32).multiply(a, b, wide_out)
    kind = "COMPUTE_32F" if dtype != FLOAT64 else "COMPUTE_64F"
    u = 0.0
    if allow_tf32 and dtype == FLOAT32:
        kind, u = "COMPUTE_32F_FAST_TF32", TF32_ROUNDOFF
    assert lt.computed_in() == {COMPUTE_TYPES[kind]}
    a64, b64, bias64 = (np.asarray(array).astype(float) for array in (a, b, bias))
    products_alone = np.abs(a64) @ np.abs(b64)
    kept = (2 * u + u * u) * products_alone / (float(ml_dtypes.finfo(dtype).eps) / 2)
    terms = products_alone + np.abs(bias64)
    assert_rounded(np.asarray(out), a64 @ b64 + bias64, dtype, kept, FEW_UNITS + 40, terms)


def test_the_kinds_of_sums_have_nvidia_s_numbers():
    cublas = pytest.importorskip("nvmath.bindings.cublas", reason="nvmath-python is not installed")
    assert {name: int(cublas.ComputeType[name]) for name in COMPUTE_TYPES} == COMPUTE_TYPES


def test_the_executor_on_the_cpu_rounds_as_it_is_allowed():
    """A product of one term, which is exact but for what is done to its sides."""
    rng = np.random.default_rng(0)
    a, b = random(rng, (3, 1), FLOAT32), random(rng, (1, 5), FLOAT32)
    for allowed, multiplied in ((False, np.copy), (True, rounded_to_tf32)):
        out = np.empty((3, 5), FLOAT32)
        HostExecutor(allow_tf32=allowed).multiply(a, b, out)
        np.testing.assert_array_equal(out, multiplied(a) * multiplied(b))


def test_nothing_to_sum(lt):
    """Of no rows, cublasLt is not asked."""
    for add, expected in ((False, 0), (True, 1)):
        out = device_array(np.ones((2, 3), FLOAT32))
        a, b = device_array(np.ones((2, 0), FLOAT32)), device_array(np.ones((0, 3), FLOAT32))
        products(lt).multiply(a, b, out, add=add)
        assert (np.asarray(out) == expected).all()
    products(lt).multiply(a, b[:, :0], out[:, :0])
    assert lt.planned == 0


def test_no_way_to_multiply(lt):
    lt.knows_a_way = False
    a = device_array(np.ones((2, 2), FLOAT32))
    with pytest.raises(RuntimeError, match="cublasLt has no way to multiply"):
        products(lt).multiply(a, a, device_array(np.ones((2, 2), FLOAT32)))


def test_gaps(lt):
    a = device_array(np.ones((4, 6), FLOAT32))
    with pytest.raises(ValueError, match="lies neither by rows nor by columns"):
        products(lt).multiply(a[:, ::2], a[:3], device_array(np.ones((4, 6), FLOAT32)))


def test_no_nvmath(monkeypatch):
    nvmath_with(None, monkeypatch)
    with pytest.raises(
        ImportError, match=r"needs the library nvmath-python, .* 'albert-np\[cuda\]"
    ):
        MatrixProducts(cupy_with())
