"""Matrix products by NVIDIA's cublasLt, called through the library nvmath-python.

CuPy refuses cuBLAS while a graph is captured, and its products know neither a bias nor a sum into
what is there. cublasLt's gelu is left alone: backward needs what enters it, which a product that
ends in gelu would write beside its result; `gelu_new.cu` reads it anyway.

cublasLt's matrices lie column by column. A matrix that lies row by row is its transpose there, so
what is asked of it is outᵀ = bᵀ aᵀ.
"""

import threading
from typing import NamedTuple

import numpy as np

from albert_np.libraries import import_library

WORKSPACE_BYTES = 32 * 1024 * 1024  # what NVIDIA advises for Hopper
LARGEST_ALIGNMENT = 256


class Operand(NamedTuple):
    """One matrix as cublasLt is told of it: of which numbers, how large, how it lies."""

    dtype: str
    rows: int
    columns: int
    leading: int
    transposed: bool
    alignment: int


class Plan(NamedTuple):
    """What cublasLt has decided for one kind of product."""

    description: int
    layouts: tuple
    algorithm: object  # whose memory `algorithm.ptr` points into
    scale: type


class MatrixProducts:
    """Matrix products on CuPy arrays, on the current stream, without waiting for them.

    Parameters
    ----------
    cupy : module
    allow_tf32 : bool, optional
        Whether what products of float32 multiply may be rounded to tf32 first.

    Raises
    ------
    ImportError
        If nvmath-python is not installed.
    """

    def __init__(self, cupy, allow_tf32=False):
        import_library("nvmath-python", "the back end 'cuda'", "albert-np[cuda]", module="nvmath")
        from nvmath import CudaDataType
        from nvmath.bindings import cublas, cublasLt

        self.cupy, self.lt = cupy, cublasLt
        types, compute = CudaDataType, cublas.ComputeType
        self.types = {
            "float16": types.CUDA_R_16F,
            "bfloat16": types.CUDA_R_16BF,
            "float32": types.CUDA_R_32F,
            "float64": types.CUDA_R_64F,
        }
        # What sums are formed in, and the numbers that scale them, by the type that is multiplied.
        wide = (compute.COMPUTE_32F, types.CUDA_R_32F, np.float32)
        tf32 = (compute.COMPUTE_32F_FAST_TF32, types.CUDA_R_32F, np.float32)
        self.sums = {
            "float16": wide,
            "bfloat16": wide,
            "float32": tf32 if allow_tf32 else wide,
            "float64": (compute.COMPUTE_64F, types.CUDA_R_64F, np.float64),
        }
        self._handles, self._plans, self._workspaces = {}, {}, {}
        self._one_at_a_time = threading.Lock()  # the bias is written into the plan

    def multiply(self, a, b, out, bias=None, add=False):
        """out = a b + bias, or out += a b.

        Parameters
        ----------
        a : array, shape (M, K)
        b : array, shape (K, N)
            Both C-contiguous, or the transpose of what is.
        out : array, shape (M, N)
            C-contiguous; of the dtype of both, or its sums' (float32).
        bias : array, shape (N,), optional
            Added to every row before it is rounded.
        add : bool, optional
        """
        if out.size == 0:
            return
        if a.shape[1] == 0:
            if not add:
                out[...] = 0 if bias is None else bias
            return
        device = self.cupy.cuda.Device().id
        stream = self.cupy.cuda.get_current_stream().ptr
        operands = operand(b), operand(a), operand(out)
        with self._one_at_a_time:
            if device not in self._handles:
                self._handles[device] = self.lt.create()
            handle = self._handles[device]
            key = device, *operands, bias is not None
            if key not in self._plans:
                self._plans[key] = self._planned(handle, *operands, bias is not None)
            description, layouts, algorithm, scale = self._plans[key]
            if bias is not None:
                self._set(description, "BIAS_POINTER", np.array(bias.data.ptr, np.int64))
            workspace = self._workspace(device, stream)
            one, beta = np.array(1, scale), np.array(int(add), scale)
            self.lt.matmul(
                handle,
                description,
                one.ctypes.data,
                b.data.ptr,
                layouts[0],
                a.data.ptr,
                layouts[1],
                beta.ctypes.data,
                out.data.ptr,
                layouts[2],
                out.data.ptr,
                layouts[2],
                algorithm.ptr,
                workspace.data.ptr,
                WORKSPACE_BYTES,
                stream,
            )

    def _workspace(self, device, stream):
        """Room for one product at a time: the products of one stream wait for each other."""
        key = device, stream
        if key not in self._workspaces:
            self._workspaces[key] = self.cupy.empty(WORKSPACE_BYTES, np.uint8)
        return self._workspaces[key]

    def release(self, stream):
        """Give up the workspace of a stream of the current device; None if it has none.

        Parameters
        ----------
        stream : int
            Its pointer.

        Returns
        -------
        workspace : array or None
            For whoever goes on using it: a graph that was recorded on that stream.
        """
        with self._one_at_a_time:
            return self._workspaces.pop((self.cupy.cuda.Device().id, stream), None)

    def _planned(self, handle, left, right, result, has_bias):
        """Ask cublasLt how to compute left · right, both as they lie column by column."""
        compute, scale_type, scale = self.sums[left.dtype]
        lt = self.lt
        description = lt.matmul_desc_create(int(compute), int(scale_type))
        self._set(description, "TRANSA", np.array(left.transposed, np.int32))
        self._set(description, "TRANSB", np.array(right.transposed, np.int32))
        if has_bias:
            self._set(description, "EPILOGUE", np.array(int(lt.Epilogue.BIAS), np.uint32))
        layouts = tuple(
            lt.matrix_layout_create(int(self.types[o.dtype]), o.rows, o.columns, o.leading)
            for o in (left, right, result)
        )
        preference = lt.matmul_preference_create()
        limits = {"MAX_WORKSPACE_BYTES": np.array(WORKSPACE_BYTES, np.uint64)}
        for letter, o in zip("ABCD", (left, right, result, result), strict=True):
            limits[f"MIN_ALIGNMENT_{letter}_BYTES"] = np.array(o.alignment, np.uint32)
        for name, value in limits.items():
            attribute = int(getattr(lt.MatmulPreferenceAttribute, name))
            lt.matmul_preference_set_attribute(
                preference, attribute, value.ctypes.data, value.nbytes
            )
        algorithm, found = lt.MatmulHeuristicResult(1), np.zeros(1, np.int32)
        lt.matmul_algo_get_heuristic(
            handle,
            description,
            *layouts,
            layouts[2],
            preference,
            1,
            algorithm.ptr,
            found.ctypes.data,
        )
        lt.matmul_preference_destroy(preference)
        if found[0] == 0:
            raise RuntimeError(f"cublasLt has no way to multiply {right} by {left}")
        return Plan(description, layouts, algorithm, scale)

    def _set(self, description, name, value):
        attribute = int(getattr(self.lt.MatmulDescAttribute, name))
        self.lt.matmul_desc_set_attribute(description, attribute, value.ctypes.data, value.nbytes)


def operand(matrix):
    """A matrix, C-contiguous or the transpose of what is, as its transpose lies column by column.

    Parameters
    ----------
    matrix : array, shape (rows, columns)

    Returns
    -------
    Operand
    """
    rows, columns = matrix.shape
    pointer = matrix.data.ptr
    alignment = min(LARGEST_ALIGNMENT, pointer & -pointer)
    # A matrix of one row or one column lies either way.
    if matrix.flags.c_contiguous:
        return Operand(matrix.dtype.name, columns, rows, columns, False, alignment)
    if matrix.flags.f_contiguous:
        return Operand(matrix.dtype.name, rows, columns, rows, True, alignment)
    raise ValueError(f"a matrix of shape {matrix.shape} lies neither by rows nor by columns")
