"""A file is replaced whole or not at all."""

import os

import pytest

from albert_np.files import replacing


def test_writes_a_new_file(tmp_path):
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path  # a rename must not cross file systems
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_replaces_an_old_file_at_the_end(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(str(path)) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half of what was to be wri")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
def test_the_error_of_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(OSError) as caught, replacing(path), open("/dev/full", "w") as full:
        full.write("new")
    assert caught.value.filename == str(path)


def test_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_failing_rename_leaves_no_partial_file(tmp_path):
    (tmp_path / "directory" / "inner").mkdir(parents=True)
    with pytest.raises(OSError) as caught, replacing(tmp_path / "directory") as temporary:
        temporary.write_text("new")
    assert caught.value.filename == str(tmp_path / "directory")
    assert ".partial" not in str(caught.value)
    assert os.listdir(tmp_path) == ["directory"]


def test_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_unwritable_place_is_an_os_error(tmp_path, parent):
    (tmp_path / "file").write_text("")
    path = tmp_path / parent / "name"
    with pytest.raises(OSError) as caught, replacing(path) as temporary:
        temporary.write_text("new")
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["file"]
