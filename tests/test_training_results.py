"""Checks before training, and what is written after it."""

import json
import sys

import pytest

from albert_np.training.results import check_output, check_settings, draw_losses, smoothed

GOOD = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "seed": 0}


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("steps", 0, ValueError, "steps is 0; expected 1 or more"),
        ("steps", 1.5, TypeError, "steps is 1.5; expected an integer"),
        ("batch_size", -3, ValueError, "batch_size is -3; expected 1 or more"),
        ("batch_size", True, TypeError, "batch_size is True; expected an integer"),
        ("seed", -1, ValueError, "seed is -1; expected 0 or more"),
        ("learning_rate", 0, ValueError, "learning_rate is 0; expected a number above 0"),
        ("learning_rate", float("nan"), ValueError, "learning_rate is nan"),
        ("learning_rate", float("inf"), ValueError, "learning_rate is inf"),
        ("learning_rate", "fast", TypeError, "learning_rate is 'fast'; expected a number"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name, value, error, message):
    with pytest.raises(error, match=message):
        check_settings(**GOOD | {name: value})


def test_good_settings_pass():
    check_settings(**GOOD)


def test_an_output_that_cannot_be_made_is_refused(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        check_output(tmp_path / "file" / "model")


def test_checking_an_output_leaves_what_is_there_alone(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "training_log.json").write_text("[]")
    check_output(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["training_log.json"]
    assert json.loads((tmp_path / "training_log.json").read_text()) == []


def test_the_missing_extra_is_named_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"albert-np\[train\]"):
        check_output(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_loss_curve_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    draw_losses({"one": [3.0, 2.0], "two": [1.0]}, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_smoothing_starts_at_the_first_loss_and_keeps_a_constant():
    assert smoothed([4.0, 0.0], decay=0.5) == [4.0, pytest.approx(4 / 3, rel=1e-15)]
    assert smoothed([2.0] * 5) == pytest.approx([2.0] * 5, rel=1e-14)
