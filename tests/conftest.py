"""What several test files share."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """The directory of real test files that lies beside the checkout, where there is one."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no directory of real test files at {SHARED_DATA}")
    return SHARED_DATA
