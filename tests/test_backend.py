"""Choosing a back end, its threads, and compiling it ahead."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from models_support import random_batch, random_model
from threadpoolctl import threadpool_info

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertModel, set_threads, threads
from albert_np.backend import NUMPY, Backend, get_backend


@pytest.mark.parametrize("name", ["torch", "", None, 3])
def test_an_unknown_back_end(name):
    with pytest.raises(ValueError, match="is not one of numpy, numba"):
        get_backend(name)


def test_a_back_end_is_itself():
    assert get_backend("numpy") is NUMPY
    mine = Backend("mine")
    assert get_backend(mine) is mine


def test_a_library_that_is_not_installed(monkeypatch):
    """The error of the back end says how to install it."""
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"needs the library numba.*albert-np\[numba\]"):
        get_backend("numba")


def in_a_process(code, **environment):
    """The finished process of a Python with such an environment."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_kernels_that_may_not_be_compiled():
    numba()
    code = "from albert_np.cli import main; main(['fill-mask', '--backend', 'numba', '[MASK]'])"
    process = in_a_process(code, NUMBA_DISABLE_JIT="1")
    expected = "albert-np: error: the kernels must be compiled, and NUMBA_DISABLE_JIT is set\n"
    assert process.stderr == expected


@pytest.mark.parametrize("given, expected", [({}, "18"), ({"OPENBLAS_THREAD_TIMEOUT": "9"}, "9")])
def test_threads_of_blas_soon_sleep_unless_told_otherwise(given, expected, monkeypatch):
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    code = "import os, albert_np; print(os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    assert in_a_process(code, **given).stdout.strip() == expected


@pytest.mark.parametrize(
    "number, error, message",
    [
        (0, ValueError, "threads is 0; expected 1 to"),
        (10_000, ValueError, "threads is 10000; expected 1 to"),
        (1.0, TypeError, "threads is 1.0; expected an integer"),
        (True, TypeError, "threads is True; expected an integer"),
    ],
)
def test_threads_of_a_wrong_number(number, error, message):
    with pytest.raises(error, match=message):
        set_threads(number)


def numba():
    return pytest.importorskip("numba", reason="the extra `numba` is not installed")


def test_one_setting_rules_all_threads():
    for number in {1, np.int64(threads.cores())}:
        set_threads(number)
        blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        assert set(blas) == {number}
        assert numba().get_num_threads() == number


def test_there_is_a_kernel_for_everything_but_a_lookup():
    numba()
    backend = get_backend("numba")
    same = {f.name for f in fields(Backend) if getattr(backend, f.name) is getattr(NUMPY, f.name)}
    assert same == {"arrays", "embedding_forward"}


def test_distances_are_added_up_by_the_back_end():
    """Those of relative positions, as words are: on a GPU, so that the bits are always the same."""
    tables = []

    def backward(dy, cache, into=None):
        tables.append(len(cache.weight))
        return NUMPY.embedding_backward(dy, cache, into)

    backend = replace(NUMPY, embedding_backward=backward)
    config = AlbertConfig(
        vocab_size=9,
        embedding_size=4,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=6,
        position_embedding_type="relative_key",
    )
    ids = np.arange(6)[None]
    model = random_model(AlbertForMaskedLM, config, backend=backend)
    model.loss_and_gradients(input_ids=ids, labels=ids)
    assert tables == [11, 11, 2, 9]  # of each repetition; of token types and words


def small_model(**settings):
    config = AlbertConfig(
        vocab_size=50,
        embedding_size=16,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=100,
        max_position_embeddings=64,
    )
    return random_model(AlbertForMaskedLM, config, **settings)


COUNT_COMPILATIONS = """
from albert_np import cli
cli.main(["warm-up", "--json"])
from albert_np.kernels.numba.compiling import compilations
with compilations() as compiled:
    {call}
print(len(compiled))
"""


def test_warm_up_compiles_all_that_a_model_needs(tmp_path):
    numba()
    call = (
        "from albert_np import AlbertForMaskedLM as M; import numpy as np; "
        "m = M.from_pretrained('tiny', backend='numba'); ids = np.arange(24).reshape(2, 12); "
        "m(ids); m(ids, attention_mask=ids < 20, packed=True, seed=3); "
        "m.loss_and_gradients(input_ids=ids, labels=ids, attention_mask=ids < 20, "
        "checkpoint_every=1)"
    )
    code = COUNT_COMPILATIONS.format(call=call)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    report, _, compiled = result.stdout.rpartition("}")
    assert json.loads(report + "}").keys() == {"compiled", "seconds", "functions"}
    assert compiled.strip() == "0"


def test_the_first_compilation_is_reported(tmp_path, monkeypatch):
    numba()
    code = (
        "import numpy as np; from albert_np.backend import get_backend; b = get_backend('numba')\n"
        "for _ in range(2): b.bias_gelu_new_forward(np.ones((2, 3), 'f'), np.ones(3, 'f'))"
    )
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    heard = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
        for _ in range(2)
    ]
    assert heard[0].count("compiling kernels") == 1
    assert heard[1] == ""


def test_kernels_run_where_they_cannot_be_kept(monkeypatch, caplog):
    numba()
    from numba.core.caching import FunctionCache

    from albert_np.kernels.numba import compiling

    def no_place(*_):
        raise RuntimeError("cannot cache function 'double': no locator available")

    monkeypatch.setattr(FunctionCache, "__init__", no_place)
    compiling.announce_no_place.cache_clear()
    for _ in range(2):
        assert compiling.kernel(lambda x: 2 * x)(3) == 6
    assert caplog.text.count("NUMBA_CACHE_DIR") == 1


def test_commands_take_a_back_end_and_a_number_of_threads(run):
    numba()
    text = "The capital of [MASK] is Paris."
    outputs = [
        json.loads(run("fill-mask", text, "--json", "--top-k", "1", *arguments)[1])
        for arguments in ((), ("--backend", "numba"), ("--threads", "1"))
    ]
    words = [output[0]["masks"][0][0] for output in outputs]
    assert [word["token_str"] for word in words] == ["france"] * 3
    np.testing.assert_allclose([word["score"] for word in words], words[0]["score"], rtol=1e-4)
    status, _, err = run("fill-mask", text, "--threads", "0")
    assert status == 2 and "threads is 0; expected 1 to" in err
    status, _, err = run("fill-mask", text, "--backend", "torch")
    assert status == 2 and "argument --backend: invalid choice: 'torch'" in err


def noise_multiple(value, double, single):
    """The error of a value in float32, in units of the reference's own error in float32."""
    floor = np.sqrt(np.mean(np.square(single - double)))
    return np.sqrt(np.mean(np.square(value - double))) / floor


@pytest.mark.parametrize("packed", [False, True])
def test_float32_is_as_near_to_float64_as_the_reference(packed):
    """Within twice the noise floor: sums of the same length, in another order of the same errors.

    The root of the mean square over an output of hundreds of numbers, which varies by some tens of
    per cent between two orders of summation.
    """
    numba()
    generator = np.random.default_rng(0)
    single, double = small_model(dtype="float32"), small_model(dtype="float64")
    for name, array in double.parameters.items():
        array[...] = single.parameters[name]
    batch = random_batch(AlbertForMaskedLM, single.config, generator, (4, 33)) | {"packed": packed}
    results = {}
    for name, model in (("double", double), ("single", single), ("numba", single)):
        model.backend = get_backend("numba" if name == "numba" else "numpy")
        outputs, pullback = model.vjp(**batch)
        gradients = pullback({"loss": 1.0})
        flat = [gradient.ravel() for gradient in gradients.parameters.values()]
        results[name] = outputs.logits, np.concatenate(flat)
    for value, expected, reference in zip(
        results["numba"], results["double"], results["single"], strict=True
    ):
        assert noise_multiple(value, expected, reference) <= 2


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_the_same_bits_on_every_call(name):
    if name == "numba":
        numba()
    model = small_model(dtype="float32", backend=name)
    batch = random_batch(AlbertForMaskedLM, model.config, np.random.default_rng(0), (3, 40))
    loss, gradients = model.loss_and_gradients(**batch, seed=5)
    for _ in range(3):
        again, gradients_again = model.loss_and_gradients(**batch, seed=5)
        assert again == loss
        for parameter, gradient in gradients.parameters.items():
            np.testing.assert_array_equal(gradients_again.parameters[parameter], gradient)


@pytest.mark.parametrize("length", [1, 2, 63, 64])
def test_one_real_token_in_a_row_of_padding_and_rows_of_padding_alone(length):
    numba()
    models = small_model(), small_model(backend="numba")
    ids = np.arange(3 * length).reshape(3, length) % 50
    mask = np.zeros((3, length), int)
    mask[0] = 1
    mask[1, length // 2] = 1
    for packed in (False, True):
        batch = {"attention_mask": mask, "packed": packed}
        expected, logits = (model(ids, **batch).logits for model in models)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-12 * scale)


def test_two_threads_calling_one_model_get_what_they_get_alone():
    from concurrent.futures import ThreadPoolExecutor

    numba()
    config = AlbertConfig.published("albert-base-v2").changed(num_hidden_layers=2)
    model = AlbertModel(config, backend="numba")
    batches = np.random.default_rng(0).integers(0, config.vocab_size, (4, 2, 40))
    alone = [model(ids).last_hidden_state for ids in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda ids: model(ids).last_hidden_state, [*batches] * 3))
    for value, expected in zip(together, alone * 3, strict=True):
        np.testing.assert_array_equal(value, expected)
