"""Resident memory of this process, as the Linux kernel counts it, and what is kept of it."""

import ctypes
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
MEMORY = Path("/proc/meminfo")
KIBIBYTE = 1024
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


def is_counted():
    """Whether this system keeps these counts."""
    return CLEAR_REFS.exists()


def resident_bytes():
    """Resident memory now; None where it is not counted."""
    return _read(STATUS, "VmRSS")


def peak_bytes():
    """The most since the process began, or since `reset_peak`; None where it is not counted."""
    return _read(STATUS, "VmHWM")


def available_bytes():
    """Memory that new processes may use without swapping; without a bound if not counted."""
    available = _read(MEMORY, "MemAvailable")
    return float("inf") if available is None else available


def reset_peak():
    """Let the peak begin anew from what is resident now (proc(5), clear_refs)."""
    if is_counted():
        CLEAR_REFS.write_text("5")


def keep_freed():
    """Have the C library keep what is freed, for the next array, where it lets itself be told.

    glibc gives large arrays back to the system, and a call that then gets the same memory anew has
    a page fault for every 4 KiB of it. It calls large what is larger than any that the process has
    freed: in a model nothing is given back, and so nothing should be where a function runs alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if is_counted() else None
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the most that it takes
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _read(file, key):
    if not is_counted():
        return None
    fields = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(fields[key].split()[0]) * KIBIBYTE
