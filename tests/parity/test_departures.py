"""docs/departures.md: each of its snippets shows what it says, with the peer run live."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra `parity` is not installed")
pytest.importorskip("transformers", reason="the extra `parity` is not installed")

PAGE = (Path(__file__).parents[2] / "docs/departures.md").read_text(encoding="utf-8")
BEGINNING, *SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore")  # of the peer's, which are part of what it does
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet(snippet):
    exec(compile(f"{BEGINNING}\n\n{snippet}", "departures.md", "exec"), {})
