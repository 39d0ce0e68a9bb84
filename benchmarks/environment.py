"""What a figure depends on besides the code: versions, and the machine's kind, not its name."""

import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from albert_np.threads import cores

PACKAGES = ("numpy", "scipy", "numba", "torch", "triton", "transformers", "onnxruntime")


def environment(threads):
    """Versions, the BLAS, the processor, the date.

    Parameters
    ----------
    threads : int
        That each contender computes with.

    Returns
    -------
    dict
        Ready for JSON.
    """
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "blas": _blas(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": cores(),
        "threads": threads,
    }


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _blas():
    """The library that NumPy multiplies matrices with."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


def _cpu():
    """The processor's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
