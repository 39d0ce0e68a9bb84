"""Resident memory of this process, as the Linux kernel counts it."""

from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
KIBIBYTE = 1024


def is_counted():
    """Whether this system keeps these counts."""
    return CLEAR_REFS.exists()


def resident_bytes():
    """Resident memory now; None where it is not counted."""
    return _status("VmRSS")


def peak_bytes():
    """The most since the process began, or since `reset_peak`; None where it is not counted."""
    return _status("VmHWM")


def reset_peak():
    """Let the peak begin anew from what is resident now (proc(5), clear_refs)."""
    if is_counted():
        CLEAR_REFS.write_text("5")


def _status(key):
    if not is_counted():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields[key].split()[0]) * KIBIBYTE
