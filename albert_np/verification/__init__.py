"""Is another ALBERT right? Golden files, comparison to rounding, and what is wrong where."""

from albert_np.verification.candidate import map_names, read_candidate, read_mapping
from albert_np.verification.case import Case, case_of, draw_case
from albert_np.verification.compare import Comparison, compare
from albert_np.verification.diagnosis import Diagnosis, diagnose
from albert_np.verification.golden import Golden, read_golden, write_golden
from albert_np.verification.message import message
from albert_np.verification.reference import reference

__all__ = [
    "Case",
    "Comparison",
    "Diagnosis",
    "Golden",
    "assert_matches",
    "case_of",
    "compare",
    "diagnose",
    "draw_case",
    "map_names",
    "message",
    "read_candidate",
    "read_golden",
    "read_mapping",
    "reference",
    "write_golden",
]


def assert_matches(candidate, case, *, mapping=None, precision=None):
    """Assert that another ALBERT is right, to rounding.

    Parameters
    ----------
    candidate : dict of str to array, str or Path
        Its tensors, or the file or directory that holds them: see `read_candidate`.
    case : Case, Golden, str or Path
        What it was given; or a golden file.
    mapping : dict, optional
        See `map_names`.
    precision : {"float64", "float32", "float16", "bfloat16"}, optional
        See `compare`.

    Raises
    ------
    AssertionError
        If a tensor differs by more than noise, or could not be compared.
    FileNotFoundError, FileFormatError, ValueError
        If something is not as it should be: see `read_candidate`, `read_golden`, `map_names` and
        `compare`.
    """
    if not isinstance(case, Case | Golden):
        case = read_golden(case)
    if not isinstance(candidate, dict):
        candidate = read_candidate(candidate)
    if mapping is not None:
        candidate = map_names(candidate, mapping)
    comparison = compare(case, candidate, precision=precision)
    if comparison.status:
        diagnosis = diagnose(comparison, candidate)
        raise AssertionError("\n" + message(comparison, diagnosis.lines()))
