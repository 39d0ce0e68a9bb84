"""The benchmarks, but for their timings: what they accept, count and print."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks_support import CASE, CHECK, CONFIG, MARKDOWN, NEEDED, ROOFS, recorded
from hypothesis import given
from hypothesis import strategies as st

import benchmarks.__main__ as command
from albert_np import AlbertForMaskedLM, AlbertModel, backend
from albert_np.threads import cores
from benchmarks import arguments, batches, correct, figures, readme, resident, scaling, table, work
from benchmarks.contenders.ours import task_of
from benchmarks.functions import DIRECTIONS, FUNCTIONS, function_work, inputs_of, sizes_of

# What the command accepts.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("fly", "invalid choice: 'fly'"),
        ("model --rounds 4", "--rounds is 4; expected at least 5"),
        ("model --threads 0", "--threads is 0; expected 1 to"),
        (f"model --threads {cores() + 1}", f"expected 1 to {cores()}, the cores there are"),
        ("model --peers tensorflow", "'tensorflow' is not one of transformers, onnxruntime"),
        ("training --back-ends fortran", "'fortran' is not one of numpy"),
        ("kernels --shapes 8y128", "'8y128'; expected B×S, such as 1x128,8x128"),
        ("kernels --shapes 0x128", "expected B×S"),
        ("kernels --shapes 1x128,", "expected B×S"),
        ("model --shapes 1x513", "--shapes has 1x513; max_position_embeddings is 512"),
        ("model --dtype float16", "invalid choice: 'float16'"),
        ("model --lengths absent.txt", "absent.txt"),
        ("model --lengths empty.txt", "empty.txt has no sentence"),
        ("model --lengths binary.txt", "binary.txt is not UTF-8"),
        ("model --lengths text.txt --vocabulary absent.model", "absent.model"),
        ("model --json absent/results.json", "absent/results.json cannot be written"),
        ("training --json .", ". cannot be written: it is a directory"),
        ("scaling --plot absent/a.png", "absent/a.png cannot be written"),
        ("memory --json absent/results.json", "absent/results.json cannot be written"),
        ("kernels --add mine.py", "expected path.py:function"),
        ("kernels --add absent.py:attention", "there is no file absent.py"),
        ("kernels --add mine.py:flash", "'flash' is not one of linear, attention"),
        ("kernels --add mine.py:attention", "has no function attention_forward"),
        ("kernels --add text.txt:linear", "text.txt is no Python file"),
        ("kernels --add broken.py:linear", "cannot be run: ZeroDivisionError"),
        ("kernels --add mine.py:linear --add mine.py:linear_forward", "more than one mine.py:lin"),
        ("table absent.json", "benchmarks: absent.json: No such file or directory"),
        ("compare absent.json absent.json", "absent.json"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "text.txt").write_text("A sentence.\n")
    (tmp_path / "mine.py").write_text("def linear_forward(x, weight, bias=None): ...\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    before = sorted(tmp_path.iterdir())
    assert command.main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err and printed.err.count("\n") == 1
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"model": {}}', '{"environment": {}}',
        '{"environment": {"packages": {}}, "memory": 3}',
        '{"environment": {}, "model": [{"work": "forward", "contenders": {"numpy": {}}}]}',
    ],
)  # fmt: skip
def test_a_file_without_results_is_named(text, tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text(text)
    for line in (["table", str(path)], ["compare", str(path), str(path)]):
        assert command.main(line) == 2
        printed = capsys.readouterr().err
        assert str(path) in printed and printed.count("\n") == 1


@pytest.mark.parametrize("peer", arguments.PACKAGES)
def test_an_absent_peer_is_one_line_and_status_2(peer, monkeypatch, capsys):
    monkeypatch.setattr(arguments, "find_spec", lambda name: None)
    assert command.main(["model", "--peers", peer]) == 2
    printed = capsys.readouterr().err
    assert f"the peer {peer} is not installed" in printed and printed.count("\n") == 1


def test_a_back_end_without_its_library_is_left_out_and_cannot_be_asked_for(monkeypatch, capsys):
    def absent():
        raise ImportError("the back end 'numba' needs the library numba")

    monkeypatch.setitem(backend.BACKENDS, "numba", absent)
    assert arguments.check_back_ends(None) == ("numpy",)
    assert command.main(["model", "--back-ends", "numpy,numba"]) == 2
    printed = capsys.readouterr().err
    assert "needs the library numba" in printed and printed.count("\n") == 1


# What is counted.


def traced_products(trace):
    """The factors of each matrix product that a trace ran."""
    for operation in trace:
        arguments = operation.inputs
        if operation.function.__name__ == "linear_forward":
            x, weight = arguments["x"], arguments["weight"]
            yield (x.size // x.shape[-1], x.shape[-1]), weight.T.shape
        elif operation.function.__name__ == "attention_scores_forward":
            B, A, S, D = arguments["query"].shape
            yield (B * A, S, D), (B * A, D, S)
        elif operation.function.__name__ == "attention_context_forward":
            B, A, S, D = arguments["value"].shape
            yield (B * A, S, S), (B * A, S, D)


@pytest.mark.parametrize("model_class", [AlbertModel, AlbertForMaskedLM])
def test_the_products_are_those_that_the_model_does(model_class):
    batch = batches.random_batch(CONFIG, 2, 8).arrays
    trace = model_class(CONFIG).trace(input_ids=batch["input_ids"])
    labelled = None if model_class is AlbertModel else batch["labels"].size  # trace: every logit
    products = work.forward_products(CONFIG, [8, 8], labelled)
    assert sorted(products) == sorted(traced_products(trace))


def test_backward_does_twice_the_operations_of_forward():
    products = work.forward_products(CONFIG, [8, 8], labelled=3)
    forward = work.product_operations(products)
    assert work.product_operations(work.backward_products(products)) == 2 * forward
    assert work.product_operations([((4, 2, 3), (4, 3, 5))]) == 2 * 4 * 2 * 3 * 5


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from([None, 2]))
def test_padding_adds_operations_and_no_more_than_its_own(lengths, labelled):
    longest = max(lengths)
    real = work.model_work(CONFIG, lengths, longest, "float32", labelled)
    full = work.model_work(CONFIG, [longest] * len(lengths), longest, "float32", labelled)
    assert real.padded_operations == full.operations == full.padded_operations
    assert (real.operations < full.operations) == (min(lengths) < longest)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_needs_work_in_proportion_to_its_bytes_and_tokens(function, direction):
    small, large = (sizes_of(CONFIG, B, 40) for B in (1, 10))
    one, ten = (function_work(function, direction, sizes, "float32") for sizes in (small, large))
    double = function_work(function, direction, large, "float64")
    assert 0 < one.operations < ten.operations <= 10 * one.operations
    assert 0 < one.bytes < ten.bytes <= 10 * one.bytes
    assert double.bytes == 2 * ten.bytes and double.operations == ten.operations


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_functions_bytes_are_those_of_what_it_reads_and_writes(function):
    sizes = sizes_of(CONFIG, 2, 8)
    given = inputs_of(function, sizes, seed=0)
    y = 4 * given["dy"].size
    read = {name: 4 * array.size for name, array in given.items() if name != "dy"}
    vectors = ("bias", "shift", "labels", "ids", "eps", "padding_idx", "num_attention_heads")
    if function == "embedding":
        read["weight"] = y  # the rows that are looked up
    elif function in ("layer_norm", "bias_dropout_residual_layer_norm"):
        vectors = (*vectors, "weight")
    elif function == "linear_cross_entropy":
        y = 0  # one number
    read = sum(size for name, size in read.items() if name not in vectors)
    assert function_work(function, "forward", sizes, "float32").bytes == read + y


@pytest.mark.parametrize("direction, kept", [("forward", [False]), ("backward", [True])])
def test_a_function_keeps_what_backward_needs_only_where_that_follows(direction, kept):
    """As PyTorch's does in inference mode; one that has no such argument is not given it."""
    asked = []

    def forward(x, bias, keep=True):
        asked.append(keep)
        return x, None

    def backward(dy, cache, into):
        return dy, *into

    for pair in ((forward, backward), (lambda x, bias: (x, None), backward)):
        task = task_of("bias_gelu_new", direction, pair, {"x": np.ones(3), "bias": np.ones(3)}, 1.0)
        task.run()
    assert asked == kept


# The batches.


@given(st.integers(1, 8), st.integers(1, 16), st.integers(0, 2**32))
def test_a_batch_is_labelled_in_part_and_never_padding(batch_size, sequence_length, seed):
    batch = batches.random_batch(CONFIG, batch_size, sequence_length, seed)
    words, labels = batch.arrays["input_ids"], batch.arrays["labels"]
    size = batch_size * sequence_length
    assert batch.labelled == max(1, round(0.15 * size))
    assert words.shape == labels.shape == batch.shape == (batch_size, sequence_length)
    assert (words > CONFIG.pad_token_id).all()
    assert (labels[labels != batches.IGNORED] == words[labels != batches.IGNORED]).all()


def test_text_is_padded_to_its_longest_sentence_and_labelled_where_it_is_real(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The sky is blue.\n\nIt is.\nThe capital of France is Paris.\n")
    batch = batches.text_batch(CONFIG, path, None)
    mask, labels = batch.arrays["attention_mask"], batch.arrays["labels"]
    assert batch.shape == (3, max(batch.lengths)) and min(batch.lengths) < max(batch.lengths)
    assert mask.sum(axis=1).tolist() == batch.lengths
    assert (mask[labels != batches.IGNORED] == 1).all()
    assert batch.labelled == round(0.15 * sum(batch.lengths))
    assert batch.text == {"file": "text.txt", "vocabulary": "the tiny model's"}


def test_a_vocabulary_larger_than_the_models_is_refused(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("A sentence.")
    with pytest.raises(ValueError, match="--vocabulary has .* the model's vocab_size is 10"):
        batches.text_batch(CONFIG.changed(vocab_size=10), path, None)


# Correctness.


@given(st.floats(1e-6, 1), st.sampled_from(["a", "b"]))
def test_the_error_is_that_of_the_worst_array(error, wrong):
    reference = {"a": np.full((2, 3), 5.0), "b": np.array(1e-3)}
    outputs = reference | {wrong: reference[wrong] * (1 + error)}
    # The sum 1 + error is rounded to one unit in the last place of 1.
    np.testing.assert_allclose(
        correct.largest_error(outputs, reference, "float64"),
        error,
        rtol=1e-12,
        atol=4 * np.finfo(float).eps,
    )


@pytest.mark.parametrize(
    "output", [None, np.ones(2, "float32"), np.ones((1, 2)), np.array([1.0, np.nan])]
)
def test_what_is_missing_or_of_another_kind_is_infinitely_wrong(output):
    outputs = {} if output is None else {"y": output}
    assert correct.largest_error(outputs, {"y": np.ones(2)}, "float64") == np.inf


def test_a_key_bias_is_judged_by_the_scale_of_the_querys():
    reference = {"query.bias": np.array([2.0]), "key.bias": np.array([1e-20])}
    outputs = reference | {"key.bias": np.array([1e-6])}
    error = correct.largest_error(outputs, reference, "float64")
    np.testing.assert_allclose(error, 5e-7, rtol=1e-12)


def test_others_are_held_to_the_noise_of_the_reference():
    names = ("numpy", "other")
    limits = correct.limits(names, floor=1e-6, limit=1e-5, dtype="float32")
    assert limits == {"numpy": 1e-5, "other": 4e-6}
    # Noise beyond rounding excuses nobody, and a lucky reference condemns nobody.
    assert correct.limits(names, floor=1e-3, limit=1e-5, dtype="float32")["other"] == 4e-5
    assert correct.limits(names, floor=0.0, limit=1e-5, dtype="float32")["other"] == 4 * 2**-24
    assert correct.limits(names, floor=0.0, limit=1e-14, dtype="float64")["numpy"] == 2e-14


def test_the_limit_is_far_below_a_lower_precision():
    needed = work.model_work(command.CONFIG, [128] * 8, 128, "float32", labelled=154)
    # float16 and TF32 keep 11 bits, so each operand alone is off by about 2⁻¹².
    assert correct.rounding_limit(needed.length, "float32") < 2**-12 / 4


# The figures.


def test_a_summary_is_median_minimum_and_maximum():
    assert figures.summary([3.0, 1.0, 2.0, 10.0, 2.5]) == (2.5, 1.0, 10.0)
    assert f"{figures.summary([3.0, 1.0, 2.0]):.1f}" == "2.0 (1.0–3.0)"
    assert [figures.three_digits(x) for x in (0.01234, 12.34, 1234.5)] == ["0.0123", "12.3", "1234"]


@given(
    theirs=st.lists(st.floats(0.1, 10), min_size=1, max_size=9),
    factor=st.floats(0.1, 10),
    data=st.data(),
)
def test_ratios_are_taken_round_by_round(theirs, factor, data):
    # Whatever a round costs both, a constant factor between them is the ratio of every round.
    theirs = data.draw(st.permutations(theirs))
    ours = [seconds / factor for seconds in theirs]
    ratios = figures.ratios(theirs, ours)
    np.testing.assert_allclose(ratios, factor, rtol=4 * np.finfo(float).eps)  # two of /


def test_ratios_refuse_unequal_rounds():
    with pytest.raises(ValueError):
        figures.ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("moved", "bound"), [(20_000_000, "matmul"), (40_000_000_000, "copy")])
def test_the_roof_is_what_binds(moved, bound):
    record = {**NEEDED, "bytes": moved, "contenders": ROOFS}
    seconds, binds = figures.roof_seconds(record)
    assert binds == bound
    # Twice the products' operations, or two thousand times the copy's bytes.
    assert seconds == ([0.5, 1.0, 1.5] if bound == "matmul" else [2.0, 4.0, 2.0])


# Scaling.


@given(st.sampled_from(scaling.WORKS), st.integers(1, 12), st.integers(1, 4))
def test_as_many_layers_as_fit_and_no_more(kind, layers, contenders):
    config = CONFIG.changed(num_hidden_layers=layers)
    needed = scaling.needed_bytes(kind, config, 4, 32, contenders)
    fit = scaling.layers_that_fit
    assert fit(kind, config, 4, 32, contenders, needed / scaling.SHARE * 1.001) == layers
    fewer = fit(kind, config, 4, 32, contenders, needed / scaling.SHARE * 0.999)
    # Forward keeps one layer's activations, however many there are.
    assert fewer == (layers - 1 if kind == "training" else 0)
    assert fit(kind, config, 4, 32, contenders, 0) == 0


def test_a_model_cut_short_says_so():
    record = {"work": "forward", "size": "xxlarge", "layers": 3, "layers_of_size": 12, **CASE}
    assert "xxlarge with 3 of its 12 layers, 8×128" in figures.title(record)
    record["layers"] = 12
    assert "layers" not in figures.title(record)


def test_what_fits_in_no_way_has_a_row_that_says_so():
    left_out = {"work": "forward", "size": "xxlarge", "layers": 0, "layers_of_size": 12, **CASE}
    columns, (row,) = table.timed_table([{**left_out, "contenders": {}}])
    assert row[1] == "too large for this machine" and len(row) == len(columns)


# What is printed and written.


@pytest.fixture
def written(tmp_path):
    """A file of recorded results."""
    path = tmp_path / "results.json"
    path.write_text(json.dumps(recorded()))
    return path


def test_the_markdown_table(written, capsys):
    assert command.main(["table", str(written)]) == 0
    assert capsys.readouterr().out == MARKDOWN + "\n"


def test_a_table_is_written_between_its_markers_and_again(written, tmp_path):
    document = tmp_path / "README.md"
    before = "<!-- benchmarks {} -->\n{}<!-- /benchmarks -->"
    document.write_text(f"A\n{before.format('model', 'old')}\nB {before.format('memory', '')} C")
    model, memory = table.markdown_tables(recorded()).values()
    after = "<!-- benchmarks {} -->\n\n{}\n\n<!-- /benchmarks -->"
    for _ in range(2):
        assert command.main(["table", str(written), "--into", str(document)]) == 0
        text = document.read_text()
        assert text == f"A\n{after.format('model', model)}\nB {after.format('memory', memory)} C"


def test_a_document_without_a_place_stays_as_it_was(written, tmp_path, capsys):
    document = tmp_path / "README.md"
    document.write_text("<!-- benchmarks model -->\n<!-- /benchmarks -->")
    assert command.main(["table", str(written), "--into", str(document)]) == 2
    assert "README.md has 0 places marked <!-- benchmarks memory" in capsys.readouterr().err
    assert document.read_text() == "<!-- benchmarks model -->\n<!-- /benchmarks -->"


def test_markers_may_hold_what_a_pattern_means():
    text = "<!-- benchmarks model -->\n<!-- /benchmarks -->"
    assert r"\1" in readme.with_tables(text, {"model": r"\1"})


def test_a_table_without_an_end_takes_nothing_from_the_next():
    text = (
        "<!-- benchmarks model -->\n\nprose\n\n<!-- benchmarks training -->\n<!-- /benchmarks -->\n"
    )
    with pytest.raises(ValueError, match="has 0 places marked <!-- benchmarks model -->"):
        readme.with_tables(text, {"model": "table"})
    assert "prose" in readme.with_tables(text, {"training": "table"})


def test_two_results_are_compared(written, tmp_path, capsys):
    after = recorded()
    for record in after["model"]:
        record["contenders"]["numpy"]["seconds"] = [0.5, 0.5, 0.5]
    after["memory"][0]["contenders"]["numpy"] = {"resident_bytes": 0, "peak_bytes": 7_000_000}
    path = tmp_path / "after.json"
    path.write_text(json.dumps(after))
    assert command.main(["compare", str(written), str(path)]) == 0
    out = capsys.readouterr().out
    assert "6.00" in out  # 3 s to 0.5 s
    assert "200%" in out  # of the roof's 1 s
    assert "before: 2026-01-02" in out and "after: 2026-01-02" in out


def test_results_of_other_works_are_not_compared(written, tmp_path, capsys):
    other = {"environment": recorded()["environment"], "threads": [{**CASE, "work": "threads"}]}
    other["threads"][0] |= {"dtype": "float32", "back_end": "numpy", "parts": {}}
    path = tmp_path / "other.json"
    path.write_text(json.dumps(other))
    assert command.main(["compare", str(written), str(path)]) == 2
    assert "have no work in common" in capsys.readouterr().err


FAULTS = """
import resource
import numpy as np
from benchmarks.resident import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(750_000, np.float32) for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = %s
if kept:
    keep_freed()
faults()
print(faults())
"""


@pytest.mark.skipif(not resident.is_counted(), reason="resident memory is not counted here")
def test_memory_that_is_kept_has_no_page_faults():
    given_back, kept = (
        int(
            subprocess.check_output(
                [sys.executable, "-c", FAULTS % keep], cwd=Path(__file__).parents[1]
            )
        )
        for keep in (False, True)
    )
    if given_back < 1000:
        pytest.skip("this C library keeps what is freed in any case")
    assert kept < 100


@pytest.mark.skipif(not resident.is_counted(), reason="resident memory is not counted here")
def test_the_peak_of_memory_is_seen_and_begins_anew():
    resident.reset_peak()
    before = resident.peak_bytes()
    np.ones(50_000_000, np.uint8)  # and gone again
    assert resident.peak_bytes() - before > 40_000_000
    resident.reset_peak()
    assert resident.peak_bytes() - before < 40_000_000
    assert resident.available_bytes() > 0


def test_memory_that_is_not_counted_is_not_made_up(monkeypatch):
    monkeypatch.setattr(resident, "is_counted", lambda: False)
    assert resident.resident_bytes() is None and resident.available_bytes() == float("inf")
    contender = CHECK | {"resident_bytes": None, "peak_bytes": None}
    assert table.megabytes(figures.above(contender)) == "not measured"
