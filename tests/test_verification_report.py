"""What a report says: the table, JSON, the page and its picture."""

import json
import re
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
from verification_support import small_case, with_mistakes

from albert_np import AlbertModel
from albert_np.functions.activations import gelu_forward
from albert_np.verification import compare, message, reference
from albert_np.verification.noise import LIMIT
from albert_np.verification.picture import LEGEND, MISSING, bars, colour, picture_of
from albert_np.verification.report import as_json, html, write_html

GELU = "albert.encoder.layers.1.activation.gelu_new"
SENTENCE = "The activation is <wrong>. [activation]"
REASON = "gradients: nobody asked"


@pytest.fixture(scope="module")
def comparison():
    """Of a candidate with one wrong operation, one tensor too many, and one that it lacks."""
    case = small_case()
    mistake = {(GELU, "gelu_new_forward"): lambda x: (gelu_forward(x)[0], x)}
    candidate = with_mistakes(case, mistake)
    del candidate["outputs/logits"]
    return compare(case, candidate | {"outputs/logit": np.zeros(3)})


@pytest.fixture(scope="module")
def all_wrong():
    case = small_case()
    tensors = reference(case, "float32")
    return compare(case, {name: 0.99 * x for name, x in tensors.items() if x.dtype.kind == "f"})


def test_the_table_shows_how_wrong_each_tensor_is(comparison):
    header, _, *lines = message(comparison).splitlines()
    assert header.split() == [
        "tensor", "largest", "ulp", "rms", "cosine", "place", "×", "noise", "alone",
    ]  # fmt: skip
    row = comparison.first
    name, largest, ulp, rms, cosine, place, multiple, alone = lines[0].split()
    assert (name, place) == (row.name, ",".join(map(str, row.errors.place)))
    shown = [float(text) for text in (largest, ulp, rms, cosine, multiple, alone)]
    assert shown == pytest.approx(
        [row.relative_largest, row.ulp_largest, row.relative_rms, row.errors.cosine, row.multiple,
         row.alone_multiple],
        rel=0.01,
    )  # fmt: skip


def test_the_verdict_is_in_words(comparison):
    lines = message(comparison, [SENTENCE], [REASON]).splitlines()
    assert "could not compare outputs/logit: the reference has no tensor of this name; " in str(
        lines
    )
    assert f"could not compare {REASON}" in lines
    assert any(line.startswith(f"first to leave the noise: forward/{GELU} (") for line in lines)
    found = [line for line in lines if line.startswith("wrong by itself (")]
    assert len(found) == len(comparison.wrong)
    assert found[0].endswith(f" × noise): forward/{GELU}, by {GELU}")
    count = len(comparison.rows)
    assert lines[-2].startswith(
        f"differs: {count} of {count + 1} tensors compared, in float32; worst "
    )
    assert lines[-1] == SENTENCE


def test_the_derivative_that_is_wrong_is_called_one():
    case = small_case(AlbertModel)
    mistake = {("pooler.tanh", "tanh_backward"): lambda dy, cache: 2 * dy}
    text = message(compare(case, with_mistakes(case, mistake)))
    assert ": backward/pooler.linear, by the derivative of pooler.tanh" in text


def test_a_right_candidate_shows_its_worst_tensors():
    case = small_case()
    comparison = compare(case, reference(case, "float32"))
    lines = message(comparison).splitlines()
    assert len(lines) == 2 + 5 + 1
    assert lines[2].split()[0] == comparison.worst.name
    assert lines[-1].startswith("right, to rounding: ")


def test_what_is_too_long_is_cut_and_counted(all_wrong):
    wrong = [row for row in all_wrong.rows if row.differs or row.is_wrong]
    text = message(all_wrong, (), [f"reason {i}" for i in range(25)])
    assert f"… and {len(wrong) - 20} more tensors that are wrong\n" in text
    assert f"\n{len(all_wrong.wrong) - 20} more are wrong by themselves\n" in text
    assert "\ncould not compare 5 more\n" in text
    assert text.count("wrong by itself (") == 20


def test_json_has_all_of_it(comparison):
    report = as_json(comparison, [SENTENCE], [REASON])
    json.dumps(report, allow_nan=False)
    assert (report["status"], report["verdict"]) == (1, "differs")
    assert (report["class"], report["precision"]) == ("AlbertForMaskedLM", "float32")
    assert report["limit"] == LIMIT
    assert report["diagnosis"] == [SENTENCE]
    assert report["first"] == f"forward/{GELU}"
    assert report["wrong"][0] == {"tensor": f"forward/{GELU}", "operations": [GELU]}
    assert len(report["could_not"]) == 2
    assert report["missing"] == ["outputs/logits"]
    rows = {row["name"]: row for row in report["tensors"]}
    assert list(rows) == [row.name for row in comparison.rows]
    assert rows[f"forward/{GELU}"]["verdict"] == "differs"
    assert rows["forward/albert.embeddings.LayerNorm"]["verdict"] == "right"
    for row in comparison.rows:
        shown = rows[row.name]
        assert shown["multiple"] == row.multiple
        assert shown["largest_at"] == list(row.errors.place)
        assert shown["relative_largest"] == row.relative_largest
        assert shown["ulp_rms"] == row.ulp_rms
        assert shown["noise_rms"] == row.floor.rms
        assert len(shown["histogram"]) == len(report["histogram_edges"]) + 1


def test_json_has_no_infinite_number():
    case = small_case()
    comparison = compare(case, {"outputs/logits": np.full((2, 8, 30), np.nan, np.float32)})
    report = as_json(comparison)
    json.dumps(report, allow_nan=False)
    assert report["tensors"][0]["multiple"] is None
    assert "∞ × noise" in message(comparison)


def test_the_page_has_all_of_it(comparison):
    page = html(comparison, [SENTENCE], [REASON])
    assert "&lt;wrong&gt;" in page
    text = unescape(page)
    for line in message(comparison, [SENTENCE], [REASON]).splitlines():
        if not re.match(r"(tensor|─|forward/|outputs/|backward/|gradients/|…)", line.strip()):
            assert line in text
    assert "<title>AlbertForMaskedLM: differs</title>" in page
    columns = page.count("<th>")
    table = page[page.index("<table>") :]
    rows = table.split("<tr id=")[1:]
    assert len(rows) == len(comparison.rows)
    for row, html_row in zip(comparison.rows, rows, strict=True):
        assert html_row.count("<td") == columns
        assert f"<code>{row.name}</code>" in html_row
        assert f">{row.multiple:.3g}</td>" in html_row
        assert (' class="differs"' in html_row) == (row.differs or row.is_wrong)
    for words in ("at most the noise", "not compared", "wrong by itself"):
        assert words in page
    place = [row.name for row in comparison.rows].index(f"forward/{GELU}")
    assert f'<a href="#t{place}">first to leave the noise' in page


def test_the_picture_shows_every_tensor_and_what_it_comes_from(comparison):
    picture = picture_of(comparison)
    boxes = {box.name: box for box in picture.boxes}
    assert list(boxes) == list(comparison.sources)
    assert len({(box.x, box.y) for box in picture.boxes}) == len(boxes)
    assert [title for _, title in picture.titles] == ["embeddings", "layer 0", "layer 1", "head"]
    inner = [source for names in comparison.sources.values() for source in names if source in boxes]
    assert len(picture.lines) == len(inner)
    gelu = boxes[f"forward/{GELU}"]
    assert (gelu.forward.name, gelu.backward.name) == (f"forward/{GELU}", f"backward/{GELU}")
    shown = [row for box in picture.boxes for row in (box.forward, box.backward) if row is not None]
    outlined = html(comparison).count('class="itself"')
    assert outlined == sum(row.is_wrong for row in shown) > 0


def test_an_output_is_shown_where_it_is_computed():
    case = small_case()
    names = ("outputs/logits", "gradients/inputs_embeds")
    right = reference(case, "float32")
    picture = picture_of(compare(case, {name: right[name] for name in names}))
    boxes = {box.name: box for box in picture.boxes}
    assert boxes["forward/predictions.decoder"].forward.name == "outputs/logits"
    words = boxes["forward/albert.embeddings.word_embeddings"]
    assert words.backward.name == "gradients/inputs_embeds"
    assert (
        sum(row is not None for box in boxes.values() for row in (box.forward, box.backward)) == 2
    )


def test_colours_and_bars():
    shades = [colour(SimpleNamespace(multiple=x)) for x in (0, 1, LIMIT, LIMIT + 1, 1e6, np.inf)]
    assert shades == [LEGEND[0][1], *(shade for _, shade, _ in LEGEND)]
    assert colour(None) == MISSING not in shades
    assert bars((0, 4, 1)) == [(0, 18, 0), (9, 0, 18), (18, 9, 9)]
    assert bars((0, 0)) == []


def test_a_page_is_written_whole(comparison, tmp_path):
    path = tmp_path / "report.html"
    write_html(path, comparison, [SENTENCE], [REASON])
    assert path.read_text(encoding="utf-8") == html(comparison, [SENTENCE], [REASON])
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
