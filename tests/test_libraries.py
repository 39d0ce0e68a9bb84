"""A library that is not there is one clear error."""

import sys

import pytest

from albert_np.libraries import import_library


def test_gives_the_module():
    assert import_library("math", "this", "math") is sys.modules["math"]
    assert import_library("python", "this", "python", module="os.path") is sys.modules["os.path"]


@pytest.mark.parametrize("absent", ["xml", "xml.dom"])
def test_says_who_needs_what_and_how_to_install_it(monkeypatch, absent):
    for name in [name for name in sys.modules if name.partition(".")[0] == "xml"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ImportError) as caught:
        import_library("some-xml", "the page", "albert-np[page]", module="xml.dom")
    assert str(caught.value) == (
        "the page needs the library some-xml, which is not installed: "
        "python -m pip install 'albert-np[page]'"
    )


def test_what_a_library_lacks_is_not_said_of_the_library(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text("import one_other_that_nobody_has\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="one_other_that_nobody_has"):
        import_library("one", "this", "one")
