"""What several test files share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
