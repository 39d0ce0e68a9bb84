"""Triton's kernels in Triton's interpreter; run by test_benchmarks_cuda_parity.py.

TRITON_INTERPRET=1 python -m pytest tests/parity/triton_kernels.py
"""

import pytest
from benchmarks_cuda_support import KINDS, assert_right, mixing_machine, small_case

from benchmarks.cuda import contenders, of_triton

# The interpreter has no products of bfloat16.
RUN = [kind for kind in KINDS if kind[0] in of_triton.FUNCTIONS and kind[2] != "bfloat16"]


@pytest.fixture(autouse=True)
def several_parts(monkeypatch):
    monkeypatch.setattr(of_triton, "PARTS", 8)  # of several rows each
    for name, size in (("ROWS", 16), ("WORDS", 32), ("VOCABULARY_PARTS", 2)):  # two tiles of each
        monkeypatch.setattr(of_triton, name, size)


@pytest.mark.parametrize(("function", "direction", "dtype", "lengths"), RUN)
def test_triton_computes_the_same_function(function, direction, dtype, lengths):
    lengths = (90, 90 - 33 * (min(lengths) < max(lengths)))  # several tiles of queries and keys
    case = small_case(function, direction, dtype, lengths)._replace(sequence_length=90)
    bound = contenders.of_triton(case, mixing_machine())
    assert list(bound) == ["triton"]
    assert_right(case, bound)
