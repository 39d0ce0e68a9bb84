"""What several test files share."""

import hashlib
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# No test asks the network: Hugging Face's library reads this when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

# The peer's threads sleep while ours compute; read when its library is loaded.
os.environ["OMP_WAIT_POLICY"] = "passive"

# Compiled kernels are kept apart for each state of their sources: Numba would not see that a
# function of another file, which a kernel has compiled into itself, has changed.
KERNELS = Path(__file__).resolve().parents[1] / "kernels" / "numba"
SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(KERNELS.glob("*.py"))))
os.environ["NUMBA_CACHE_DIR"] = str(
    Path(tempfile.gettempdir()) / f"albert-np-kernels-{SOURCES.hexdigest()[:16]}"
)

# Where CI runs the tests, they draw the same examples every time.
settings.register_profile(
    "albert-np", max_examples=40, deadline=None, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("albert-np")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """The directory of real test files that lies beside the checkout, where there is one."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no directory of real test files at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="module", params=["numpy", "numba"])
def each_backend(request):
    """Run a module's tests with random models of one back end after the other."""
    import models_support

    if request.param == "numba":
        pytest.importorskip("numba", reason="the extra `numba` is not installed")
    models_support.TESTED["backend"] = request.param
    yield request.param
    models_support.TESTED["backend"] = "numpy"


@pytest.fixture
def run(capsys):
    """Run the command in this process: its exit status, standard output and standard error."""
    from albert_np import cli

    def run_command(*arguments):
        try:
            status = cli.main(list(arguments))
        except SystemExit as exit:  # --help and --version
            status = exit.code
        return status, *capsys.readouterr()

    return run_command


@pytest.fixture
def standard_input(monkeypatch):
    """Put bytes on standard input."""

    def put(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put
