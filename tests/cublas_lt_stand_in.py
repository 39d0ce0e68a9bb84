"""Stands in for CuPy's arrays, and for nvmath's bindings of cublasLt: it multiplies on the CPU.

It is told of pointers, layouts and attributes as cublasLt is, and knows nothing else.
"""

import ctypes
import sys
from enum import IntEnum
from types import ModuleType, SimpleNamespace

import ml_dtypes
import numpy as np

from albert_np.kernels.cuda.arrays import rounded_to_tf32

TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: ml_dtypes.bfloat16}
NONE, TRANSPOSED = 0, 1
TF32 = 77
COMPUTE_TYPES = {"COMPUTE_32F": 68, "COMPUTE_64F": 70, "COMPUTE_32F_FAST_TF32": TF32}


class DeviceArray(np.ndarray):
    """An array with the attributes of CuPy's that are read here."""

    @property
    def device(self):
        return SimpleNamespace(id=getattr(self, "gpu", 0))

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


def device_array(x, order=None):
    return np.asarray(x, order=order).view(DeviceArray)


def cupy_with(**more):
    """As much of CuPy as the products need."""
    cuda = SimpleNamespace(
        Device=lambda: SimpleNamespace(id=0), get_current_stream=lambda: SimpleNamespace(ptr=7)
    )
    return SimpleNamespace(
        cuda=cuda, empty=lambda shape, dtype: device_array(np.empty(shape, dtype)), **more
    )


def nvmath_with(lt, monkeypatch):
    """Put a stand-in in the place of nvmath's bindings; None is a library not installed."""
    if lt is None:
        monkeypatch.setitem(sys.modules, "nvmath", None)
        return
    nvmath, bindings = ModuleType("nvmath"), ModuleType("nvmath.bindings")
    names = {"CUDA_R_32F": 0, "CUDA_R_64F": 1, "CUDA_R_16F": 2, "CUDA_R_16BF": 14}
    nvmath.CudaDataType = IntEnum("CudaDataType", names)
    compute = IntEnum("ComputeType", COMPUTE_TYPES)
    bindings.cublas, bindings.cublasLt = SimpleNamespace(ComputeType=compute), lt
    monkeypatch.setitem(sys.modules, "nvmath", nvmath)
    monkeypatch.setitem(sys.modules, "nvmath.bindings", bindings)


def read(pointer, dtype, count=1):
    """Numbers at an address, as an array that is them."""
    dtype = np.dtype(dtype)
    held = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(held, dtype)


class CublasLt:
    """The bindings' names, with their signatures."""

    MatmulDescAttribute = IntEnum(
        "Desc", {"TRANSA": 3, "TRANSB": 4, "EPILOGUE": 7, "BIAS_POINTER": 8}
    )
    MatmulPreferenceAttribute = IntEnum(
        "Preference",
        {"MAX_WORKSPACE_BYTES": 1}
        | {f"MIN_ALIGNMENT_{x}_BYTES": 5 + i for i, x in enumerate("ABCD")},
    )
    Epilogue = IntEnum("Epilogue", {"DEFAULT": 1, "BIAS": 4})
    WIDTHS = {3: np.int32, 4: np.int32, 7: np.uint32, 8: np.int64}

    def __init__(self):
        self.things, self.planned, self.knows_a_way = [{}], 0, True

    def _new(self, **thing):
        self.things.append(thing)
        return len(self.things) - 1

    def create(self):
        return self._new()

    def matmul_desc_create(self, compute_type, scale_type):
        return self._new(compute=compute_type, scale=TYPES[scale_type], attributes={})

    def matmul_desc_set_attribute(self, description, attribute, pointer, size):
        dtype = np.dtype(self.WIDTHS[attribute])
        assert size == dtype.itemsize
        self.things[description]["attributes"][attribute] = int(read(pointer, dtype)[0])

    def matrix_layout_create(self, type_, rows, columns, leading):
        assert leading >= rows
        return self._new(dtype=TYPES[type_], rows=rows, columns=columns, leading=leading)

    def matmul_preference_create(self):
        return self._new(limits={})

    def matmul_preference_set_attribute(self, preference, attribute, pointer, size):
        dtype = np.dtype(np.uint64 if attribute == 1 else np.uint32)
        assert size == dtype.itemsize
        self.things[preference]["limits"][attribute] = int(read(pointer, dtype)[0])

    def matmul_preference_destroy(self, preference):
        pass

    def MatmulHeuristicResult(self, size):
        held = np.zeros(12 * size, np.int64)
        return SimpleNamespace(held=held, ptr=held.ctypes.data)

    def matmul_algo_get_heuristic(
        self, handle, desc, a, b, c, d, preference, asked, results, found
    ):
        self.planned += 1
        self.limits = self.things[preference]["limits"]
        read(found, np.int32)[0] = int(self.knows_a_way)
        read(results, np.int64)[0] = 4321

    def matmul(
        self, handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
        algo, workspace, workspace_size, stream,
    ):  # fmt: skip
        assert read(algo, np.int64)[0] == 4321 and stream == 7
        assert workspace_size <= self.limits[1]
        description = self.things[desc]
        attributes, scale = description["attributes"], description["scale"]
        for pointer, attribute in ((a, 5), (b, 6), (c, 7), (d, 8)):
            assert pointer % self.limits[attribute] == 0
        left, right = (
            self._matrix(pointer, layout).astype(scale)
            for pointer, layout in ((a, a_layout), (b, b_layout))
        )
        if description["compute"] == TF32:
            left, right = rounded_to_tf32(left), rounded_to_tf32(right)
        left = left.T if attributes[3] == TRANSPOSED else left
        right = right.T if attributes[4] == TRANSPOSED else right
        out = self._matrix(d, d_layout)
        # The transposes: the sums of the executor on the CPU, in its order.
        product = (np.ascontiguousarray(right.T) @ np.ascontiguousarray(left.T)).T
        product *= read(alpha, scale)[0]
        if read(beta, scale)[0]:
            product += self._matrix(c, c_layout)
        if attributes.get(7) == self.Epilogue.BIAS:
            product += read(attributes[8], out.dtype, len(out)).astype(scale)[:, None]
        out[...] = product.astype(out.dtype)

    def computed_in(self):
        """The kinds of sums that it was asked for."""
        return {thing["compute"] for thing in self.things if "compute" in thing}

    def _matrix(self, pointer, layout):
        """The matrix that lies there column by column."""
        dtype, rows, columns, leading = self.things[layout].values()
        return read(pointer, dtype, leading * columns).reshape(columns, leading)[:, :rows].T
