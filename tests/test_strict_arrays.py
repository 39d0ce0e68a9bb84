"""The composition on arrays that do not mix with NumPy's: it makes none of its own."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from cuda_support import BFLOAT16, FLOAT16, NEEDS_COMPILER
from hypothesis import given
from hypothesis import strategies as st
from models_support import (
    CLASSES,
    WITH_A_LOSS,
    random_batch,
    random_like,
    random_model,
    suited_to,
)
from strict_arrays import (
    RECORDING,
    StrictArray,
    StrictArrays,
    StrictExecutor,
    no_waiting,
    recording,
    strict,
)

from albert_np import (
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertModel,
    AlbertTokenizer,
)
from albert_np.backend import NUMPY, Backend
from albert_np.inputs import labelled_places
from albert_np.kernels import cuda
from albert_np.pipelines import fill_mask
from albert_np.training.optimizers import AdamW, clip_gradients

PLAIN = replace(NUMPY, name="strict", arrays=StrictArrays())
SETTINGS = {
    "vocab_size": 30,
    "embedding_size": 5,
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_hidden_groups": 2,
    "num_attention_heads": 3,
    "intermediate_size": 10,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.2,
    "initializer_range": 0.5,
    "num_labels": 3,
}


def both(model_class, **changes):
    """A model of NumPy's arrays, and the same with the stand-in's."""
    config = suited_to(model_class, AlbertConfig(**SETTINGS | changes))
    return random_model(model_class, config), random_model(model_class, config).to(PLAIN)


def assert_same(ours, expected):
    assert isinstance(ours, StrictArray)
    np.testing.assert_array_equal(ours.host, expected)


def assert_same_outputs(ours, expected):
    assert ours.keys() == expected.keys()
    for name in ours.keys():  # noqa: SIM118 (iterating gives the values)
        pairs = [(ours[name], expected[name])]
        if isinstance(ours[name], tuple):
            pairs = zip(ours[name], expected[name], strict=True)
        for one, other in pairs:
            assert_same(one, other)


def assert_same_gradients(ours, expected):
    assert_same(ours.inputs_embeds, expected.inputs_embeds)
    for name, gradient in expected.parameters.items():
        assert_same(ours.parameters[name], gradient)


def batch_of(model, shape=(3, 8), **settings):
    return random_batch(type(model), model.config, np.random.default_rng(1), shape, **settings)


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("packed", [None, True])
@pytest.mark.parametrize("from_embeds", [False, True])
def test_outputs_and_gradients(model_class, packed, from_embeds):
    """Every output and gradient has the bits of NumPy's."""
    reference, model = both(model_class)
    call = batch_of(reference, from_embeds=from_embeds) | {"seed": 3, "packed": packed}
    call |= {"output_attentions": True, "output_hidden_states": True}
    expected, expected_pullback = reference.vjp(**call)
    outputs, pullback = model.vjp(**call)
    assert_same_outputs(outputs, expected)
    assert_same_outputs(model(**call), expected)
    gradients = random_like(expected, np.random.default_rng(2))
    assert_same_gradients(pullback(gradients), expected_pullback(gradients))


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_loss_and_gradients(model_class, checkpoint_every):
    reference, model = both(model_class)
    call = batch_of(reference) | {"seed": 3, "checkpoint_every": checkpoint_every}
    (expected, expected_gradients), (loss, gradients) = (
        each.loss_and_gradients(**call) for each in (reference, model)
    )
    assert_same(loss, expected)
    assert_same_gradients(gradients, expected_gradients)


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
def test_labels_that_are_numbers(problem_type):
    (model_class,) = (c for c in WITH_A_LOSS if c.__name__.endswith("SequenceClassification"))
    reference, model = both(model_class, problem_type=problem_type)
    call = batch_of(reference)
    expected, loss = (each.loss_and_gradients(**call)[0] for each in (reference, model))
    assert_same(loss, expected)


OPTIONS = (
    {"position_embedding_type": "relative_key"},
    {"position_embedding_type": "relative_key_query"},
    {"hidden_act": "gelu"},
    {"hidden_act": "relu"},
    {"hidden_act": "silu"},
    {"chunk_size_feed_forward": 2},
    {"pruned_heads": {0: [1], 1: [0, 2]}},
    {"hidden_dropout_prob": 1.0},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(options):
    reference, model = both(AlbertForMaskedLM, **options)
    generator = np.random.default_rng(4)
    call = batch_of(reference) | {
        "seed": 5,
        "head_mask": generator.random((3, 3)),
        "attention_mask": generator.random((3, 3, 8, 8)) < 0.7,
    }
    (expected, expected_pullback), (outputs, pullback) = (
        each.vjp(**call) for each in (reference, model)
    )
    assert_same_outputs(outputs, expected)
    assert_same_gradients(pullback(), expected_pullback())


def test_a_trace():
    reference, model = both(AlbertForMaskedLM)
    call = batch_of(reference)
    expected, trace = (each.trace(**call, gradients=True) for each in (reference, model))
    assert [step.name for step in trace] == [step.name for step in expected]
    assert_same_gradients(trace.gradients, expected.gradients)


def test_moved_there_and_back(tmp_path):
    """Parameters keep their values, and the three projections of a layer stay one array."""
    reference, model = both(AlbertModel)
    model.save_pretrained(tmp_path)
    loaded = AlbertModel.from_pretrained(tmp_path, dtype="float64", backend=PLAIN)
    assert loaded.backend is PLAIN
    for name, array in reference.parameters.items():
        assert_same(model.parameters[name], array)
        assert_same(loaded.parameters[name], array)
    layer = "encoder.albert_layer_groups.0.albert_layers.0.attention."
    assert (
        model.parameters[f"{layer}query.weight"].base
        is model.parameters[f"{layer}value.weight"].base
    )
    model.prune_heads({0: [1]})
    reference.prune_heads({0: [1]})
    assert model.to("numpy") is model
    assert model.backend is NUMPY
    for name, array in reference.parameters.items():
        np.testing.assert_array_equal(model.parameters[name], array)


def test_embeddings_replaced_and_resized():
    reference, model = both(AlbertForMaskedLM)
    table = np.random.default_rng(4).normal(size=(30, 5))
    reference.set_input_embeddings(table)
    for value in (table, strict(table)):
        model.get_input_embeddings().fill(0)
        model.set_input_embeddings(value)
        assert_same(model.get_input_embeddings(), table)
    for size in (33, 20):
        expected = reference.resize_token_embeddings(size)
        assert_same(model.resize_token_embeddings(size), expected)
        bias = "predictions.bias"
        assert_same(model.parameters[bias], reference.parameters[bias])


def test_a_training_step():
    reference, model = both(AlbertForMaskedLM)
    call = batch_of(reference)
    for each in (reference, model):
        optimizer = AdamW(each.parameters)
        for _ in range(2):
            _, gradients = each.loss_and_gradients(**call)
            clip_gradients(gradients.parameters, 1e-3)
            optimizer.step(gradients.parameters, 0.1)
    for name, array in reference.parameters.items():
        assert_same(model.parameters[name], array)


def test_a_pipeline():
    """What it is given back lies on the CPU."""
    text, tokenizer = "The sky is [MASK].", AlbertTokenizer.from_pretrained("tiny")
    reference, model = (AlbertForPreTraining.from_pretrained("tiny") for _ in range(2))
    expected, masks = (fill_mask(m, tokenizer, text) for m in (reference, model.to(PLAIN)))
    assert masks == expected


# ---- arguments that are there already ---------------------------------------------------------


def there(call):
    return {name: strict(v) if isinstance(v, np.ndarray) else v for name, v in call.items()}


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
def test_nobody_waits(model_class):
    """With ids, masks and labels on the GPU, no value is looked at from call to gradients."""
    reference, model = both(model_class)
    call = batch_of(reference) | {"seed": 3, "packed": False}
    expected, expected_pullback = reference.vjp(**call)
    expected_gradients = expected_pullback()
    moved = there(call) | {"packed": None}
    with no_waiting():
        outputs, pullback = model.vjp(**moved)
        gradients = pullback()
        loss, _ = model.loss_and_gradients(**moved)
    assert_same_outputs(outputs, expected)
    assert_same_gradients(gradients, expected_gradients)
    np.testing.assert_allclose(loss.host, expected.loss, rtol=1e-14)


def test_packed_when_asked():
    reference, model = both(AlbertForMaskedLM)
    call = batch_of(reference) | {"packed": True}
    outputs = model(**there(call))
    assert_same_outputs(outputs, reference(**call))


WRONG = {
    "input_ids": 30,
    "token_type_ids": -1,
    "position_ids": 12,
    "attention_mask": 2,
    "labels": 30,
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", WRONG)
def test_a_value_out_of_range_is_seen_in_every_result(name):
    """The ids are there already: nobody waits for the check, and no result is a number."""
    reference, model = both(AlbertForMaskedLM)
    call = batch_of(reference)
    call[name] = call[name].copy()
    call[name][0, 0] = WRONG[name]
    with pytest.raises(ValueError, match=f"{name} has the value"):
        model(**call)
    outputs, pullback = model.vjp(**there(call))
    assert np.isnan(outputs.logits.host).all() and np.isnan(outputs.loss.host)
    assert all(np.isnan(g.host).any() for g in pullback().parameters.values())


def test_shapes_and_types_are_refused_there_too():
    _, model = both(AlbertForMaskedLM)
    with pytest.raises(ValueError, match=r"input_ids has shape \(3,\); expected"):
        model(strict(np.zeros(3, int)))
    with pytest.raises(TypeError, match="input_ids has dtype float64; expected integers"):
        model(strict(np.zeros((2, 3))))


class OnAGpu:
    """What CuPy's arrays, and PyTorch's tensors on a GPU, have."""

    __cuda_array_interface__ = {}


class RequiringGradients:
    """A tensor of PyTorch's on a GPU, which does not show where it lies to all who ask."""

    def __dlpack_device__(self):
        return 2, 0

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")


@pytest.mark.parametrize("there", [OnAGpu(), RequiringGradients()], ids=lambda t: type(t).__name__)
def test_arrays_of_a_gpu_for_a_model_on_the_cpu(there):
    model, _ = both(AlbertForMaskedLM)
    with pytest.raises(TypeError, match="input_ids is on a GPU, and the model is not"):
        model(there)
    _, pullback = model.vjp(input_ids=np.zeros((1, 2), int))
    with pytest.raises(TypeError, match="the gradient of logits is on a GPU"):
        pullback({"logits": OnAGpu()})


# ---- the same through the kernels -------------------------------------------------------------


@NEEDS_COMPILER
@pytest.mark.parametrize("model_class", WITH_A_LOSS)
@pytest.mark.parametrize("packed", [False, True])
def test_kernels(model_class, packed):
    """Every class on the CUDA kernels, with arrays that do not mix: as the reference has it.

    To the roundings of a chain of 3 repetitions, forward and backward, of sums of 12 terms.
    """
    executor = StrictExecutor(seed=1)
    reference, _ = both(model_class)
    model = random_model(model_class, reference.config)
    model.to(Backend("cuda", executor, **cuda.functions(executor)))
    call = batch_of(reference) | {"seed": 3, "packed": packed}
    expected, expected_gradients = reference.loss_and_gradients(**call)
    loss, gradients = model.loss_and_gradients(**call)
    np.testing.assert_allclose(loss.host, expected, rtol=1e-11)
    scale = max(np.abs(gradient).max() for gradient in expected_gradients.parameters.values())
    for name, gradient in expected_gradients.parameters.items():
        np.testing.assert_allclose(
            gradients.parameters[name].host, gradient, rtol=0, atol=1e-11 * scale, err_msg=name
        )


@NEEDS_COMPILER
@pytest.mark.parametrize("model_class", WITH_A_LOSS)
@pytest.mark.parametrize("gradients", [False, True])
def test_a_recorded_call(model_class, gradients):
    """Recorded on one batch and run on another, it gives what a call gives; nobody waits.

    To the roundings of the chain, as above: the reference runs neither the same sums nor places.
    """
    executor = StrictExecutor(seed=1)
    reference, _ = both(model_class)
    model = random_model(model_class, reference.config)
    model.to(Backend("cuda", executor, **cuda.functions(executor)))
    first = random_batch(model_class, reference.config, np.random.default_rng(6), (2, 6))
    second = {name: np.roll(array, 1, axis=-1) for name, array in first.items()}
    captured = model.capture(gradients=gradients, **first)
    for call in (first, second):
        if gradients:
            loss, gradient = captured(**call)
            expected, expected_gradient = reference.loss_and_gradients(**call)
            name = "albert.embeddings.word_embeddings.weight"
            scale = np.abs(expected_gradient.parameters[name]).max()
            np.testing.assert_allclose(
                gradient.parameters[name].host,
                expected_gradient.parameters[name],
                rtol=0,
                atol=1e-10 * scale,
            )
        else:
            loss, expected = captured(**call).loss, reference(**call, packed=False).loss
        np.testing.assert_allclose(loss.host, expected, rtol=1e-11)


class Decoded(StrictExecutor):
    """Runs the kernels, and writes down at how many rows the loss of masked words is computed."""

    def __init__(self):
        super().__init__(seed=1)
        self.rows = set()

    def launch(self, launch):
        if launch.kernel.startswith("cross_entropy_forward"):
            self.rows.add(launch.grid[0])
        super().launch(launch)


def with_labels(call, labelled, seed):
    """The batch with so many tokens labelled, anywhere."""
    generator = np.random.default_rng(seed)
    labels = np.full(call["input_ids"].shape, -100)
    places = generator.permutation(labels.size)[:labelled]
    labels.flat[places] = generator.integers(0, SETTINGS["vocab_size"], labelled)
    return call | {"labels": labels}


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("model_class", "on_gpu"), [(AlbertForMaskedLM, False), (AlbertForPreTraining, True)]
)
def test_a_recorded_step_runs_the_decoder_at_labelled_tokens(model_class, on_gpu):
    """At as many as were recorded; of as many, it has the bits of the call that is not recorded."""
    executor = Decoded()
    reference, _ = both(model_class)
    model = random_model(model_class, reference.config)
    model.to(Backend("cuda", executor, **cuda.functions(executor)))
    call = random_batch(model_class, reference.config, np.random.default_rng(7), (2, 6))
    moved = there if on_gpu else lambda call: call
    captured = model.capture(gradients=True, **moved(with_labels(call, 5, seed=0)))
    for seed in (0, 1):
        others = with_labels(call, 5, seed)
        loss, gradients = captured(**moved(others))
        assert executor.rows == {5}
        expected, expected_gradients = model.loss_and_gradients(**others, packed=False)
        assert_same(loss, expected.host)
        for name, gradient in expected_gradients.parameters.items():
            assert_same(gradients.parameters[name], gradient.host)
    for labelled in (1, 4):
        fewer = with_labels(call, labelled, seed=2)
        loss, gradients = captured(**moved(fewer))
        assert executor.rows == {5}
        expected, expected_gradients = reference.loss_and_gradients(**fewer, packed=False)
        # To the roundings of the chain, as for a recorded call above.
        np.testing.assert_allclose(loss.host, expected, rtol=1e-11)
        scale = max(np.abs(gradient).max() for gradient in expected_gradients.parameters.values())
        for name, gradient in expected_gradients.parameters.items():
            ours = gradients.parameters[name].host
            np.testing.assert_allclose(ours, gradient, rtol=0, atol=1e-11 * scale, err_msg=name)


class Named(StrictExecutor):
    """Writes down which kernels it runs while a graph is recorded, or runs again."""

    def __init__(self, **settings):
        super().__init__(seed=1, **settings)
        self.recorded = set()

    def launch(self, launch):
        if RECORDING["on"]:
            self.recorded.add(launch.kernel.split("<")[0])
        super().launch(launch)


@NEEDS_COMPILER
def test_a_recorded_step_in_tf32():
    """It has the bits of the call that is not recorded, which are others than without tf32."""
    config = suited_to(AlbertForPreTraining, AlbertConfig(**SETTINGS))
    call = random_batch(AlbertForPreTraining, config, np.random.default_rng(7), (2, 6))
    calls = [with_labels(call, 5, seed) for seed in (0, 1)]
    results = {}
    for allow_tf32 in (False, True):
        executor = Named(allow_tf32=allow_tf32)
        model = random_model(AlbertForPreTraining, config)
        model.to(Backend("cuda", executor, **cuda.functions(executor)), "float32")
        captured = model.capture(gradients=True, **calls[0])
        for each in calls:
            loss, gradients = captured(**each)
            expected, expected_gradients = model.loss_and_gradients(**each, packed=False)
            assert_same(loss, expected.host)
            for name, gradient in expected_gradients.parameters.items():
                assert_same(gradients.parameters[name], gradient.host)
        results[allow_tf32] = gradients.parameters
        in_tf32 = {"attention_forward_3", "attention_backward_key_3", "attention_backward_query_3"}
        assert in_tf32 & executor.recorded == (in_tf32 if allow_tf32 else set())
    name = "albert.embeddings.word_embeddings.weight"
    assert np.any(results[True][name].host != results[False][name].host)


@NEEDS_COMPILER
@pytest.mark.filterwarnings("ignore:invalid value")
def test_more_labelled_tokens_than_were_recorded():
    """Refused where they can be counted; on the GPU, no result is a number."""
    executor = StrictExecutor()
    model = both(AlbertForMaskedLM)[0]
    model.to(Backend("cuda", executor, **cuda.functions(executor)))
    call = with_labels({"input_ids": np.arange(12).reshape(2, 6)}, 5, seed=0)
    captured = model.capture(gradients=True, **call)
    before = captured(**call)[0].host.copy()
    more = with_labels({"input_ids": call["input_ids"] + 1}, 6, seed=1)
    with pytest.raises(ValueError, match="labels has 6 labelled tokens; the call was recorded wi"):
        captured(**more)
    assert_same(captured()[0], before)  # nothing of it was written
    loss, gradients = captured(**there(more))
    assert np.isnan(loss.host)
    assert all(np.isnan(g.host).any() for g in gradients.parameters.values())
    assert_same(captured(**call)[0], before)
    none = with_labels(call, 0, seed=0)
    with pytest.raises(ValueError, match="labels has no labelled token; a recorded call takes no"):
        model.capture(gradients=True, **none)


@given(
    labelled=st.lists(st.booleans(), min_size=1, max_size=40),
    columns=st.integers(1, 5),
    most=st.integers(1, 40),
)
def test_places_of_as_many_tokens_as_may_be_labelled(labelled, columns, most):
    """The labelled ones as NumPy finds them, then others, each once; whether more are is noted."""
    labels = np.where(np.repeat(labelled, columns).reshape(-1, columns), 3, -100)
    labels[::2, ::2] = -100
    most, wrong = min(most, labels.size), []
    with no_waiting():
        places = labelled_places(strict(labels), most, wrong)
    places = np.ravel_multi_index([place.host for place in places], labels.shape)
    expected = np.flatnonzero(labels.ravel() != -100)
    assert len(places) == len(set(places)) == most
    np.testing.assert_array_equal(places[: len(expected)], expected[:most])
    (more,) = wrong
    assert bool(more) == (len(expected) > most)


@pytest.mark.parametrize(
    "what",
    [
        lambda x, mask: x[mask],
        lambda x, mask: x[mask, 0],
        lambda x, mask: x.__setitem__(mask, 0),
        lambda x, mask: x[[0, 1]],
        lambda x, mask: x.__setitem__([0, 1], 0),
        lambda x, mask: x @ x,
        lambda x, mask: np.einsum("ij,jk", x, x),
        lambda x, mask: float(x[0, 0]),
    ],
)
def test_what_cupy_refuses_while_a_graph_is_recorded(what):
    x, mask = strict(np.ones((2, 2))), strict(np.array([True, False]))
    what(x, mask)
    with recording(), pytest.raises(AssertionError, match="waits for the GPU|cuBLAS is called"):
        what(x, mask)


def test_what_is_not_recorded():
    reference, model = both(AlbertForMaskedLM)
    ids = np.zeros((2, 6), int)
    with pytest.raises(ValueError, match="the model is on the CPU; capture records"):
        reference.capture(input_ids=ids)
    with pytest.raises(ValueError, match="asks for what there is no kernel for"):
        model.capture(input_ids=ids)
    for seed in (0, 3):
        with pytest.raises(ValueError, match=f"seed is {seed}; a recorded call takes none"):
            model.capture(input_ids=ids, seed=seed)
    with pytest.raises(ValueError, match="packed is True; a recorded call takes none"):
        model.capture(input_ids=ids, packed=True)
    with pytest.raises(ValueError, match="expected gradients=True with it"):
        model.capture(input_ids=ids, checkpoint_every=1)
    with pytest.raises(ValueError, match="has no loss without labels"):
        model.capture(input_ids=ids, gradients=True)
    with pytest.raises(ValueError, match="input_ids has the value 30"):
        model.capture(input_ids=ids + 30)


@NEEDS_COMPILER
def test_other_inputs_than_were_recorded():
    executor = StrictExecutor()
    model = both(AlbertForMaskedLM)[0]
    model.to(Backend("cuda", executor, **cuda.functions(executor)))
    captured = model.capture(input_ids=[[1, 2, 3]])
    with pytest.raises(TypeError, match="'labels' was not recorded; what was is input_ids, posi"):
        captured(labels=[[1, 2, 3]])
    with pytest.raises(ValueError, match=r"input_ids has shape \(1, 2\); the call was recorded"):
        captured(input_ids=[[1, 2]])
    with pytest.raises(TypeError, match="input_ids has dtype float64; the call was recorded with"):
        captured(input_ids=[[3.5, 2, 1]])
    again = captured(input_ids=strict([[3, 2, 1]])).logits.host.copy()
    np.testing.assert_array_equal(again, captured(input_ids=[[3, 2, 1]]).logits.host)


class Tensor:
    """An array of a third library, on the GPU: NumPy cannot read it."""

    def __init__(self, host):
        self.held = strict(host)

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


class Sharing(StrictExecutor):
    """Takes such arrays as they lie."""

    def given(self, name, values):
        return values.held if isinstance(values, Tensor) else values


@NEEDS_COMPILER
def test_a_call_recorded_on_another_library_s_arrays():
    executor = Sharing()
    model = both(AlbertForMaskedLM)[0]
    model.to(Backend("cuda", executor, **cuda.functions(executor)))
    first, second = np.array([[1, 2, 3]]), np.array([[3, 2, 1]])
    captured = model.capture(input_ids=Tensor(first))
    for ids in (first, second):
        assert_same(captured(input_ids=Tensor(ids)).logits, model(strict(ids)).logits.host)


@NEEDS_COMPILER
@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_narrow_types(dtype):
    """Of the kernels alone."""
    assert_near_reference(dtype, {}, {})


@NEEDS_COMPILER
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("positions", ["absolute", "relative_key_query"])
def test_a_narrow_type_by_the_plain_pairs(packed, positions):
    """What the kernels of attention lack is computed in float32, and rounded."""
    head_mask = np.array([[1, 0.5, 0], [0.25, 1, 1], [0, 1, 1]])
    more = {"head_mask": head_mask, "packed": packed}
    model, call = assert_near_reference(FLOAT16, {"position_embedding_type": positions}, more)
    attentions = model(**call, output_attentions=True).attentions
    assert {attention.dtype for attention in attentions} == {FLOAT16}
    with pytest.raises(ValueError, match="dtype is float16; a trace .* float32 or float64"):
        model.trace(**call)
    assert model.to("numpy").dtype == np.float32


def assert_near_reference(dtype, changes, more):
    """About 12 roundings a repetition and pass, each of half a unit.

    A gradient may be off by their sum, on its own scale: eps · 12 · 3 repetitions · 2 passes.
    """
    reference, _ = both(AlbertForMaskedLM, **changes)
    executor = StrictExecutor()
    backend = Backend("cuda", executor, **cuda.functions(executor))
    model = random_model(AlbertForMaskedLM, reference.config, dtype="float32").to(backend, dtype)
    for name, array in reference.parameters.items():
        assert model.parameters[name].dtype == dtype
        array[...] = model.parameters[name].host.astype(float)
    call = batch_of(reference) | {"seed": 3} | more
    expected, expected_gradients = reference.loss_and_gradients(**call)
    loss, gradients = model.loss_and_gradients(**call)
    bound = float(ml_dtypes.finfo(dtype).eps) * 12 * 3 * 2
    assert loss.dtype == dtype and abs(float(loss) - expected) <= bound * expected
    for name, gradient in expected_gradients.parameters.items():
        ours = gradients.parameters[name]
        assert ours.dtype == dtype
        if not name.endswith("key.bias"):  # 0 but for rounding
            error = np.linalg.norm(ours.host.astype(float) - gradient)
            assert error <= bound * np.linalg.norm(gradient), name
    return model, call


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("model_class", "packed", "changes"),
    [
        *((model_class, False, {}) for model_class in WITH_A_LOSS),
        (AlbertForQuestionAnswering, True, {}),
        (AlbertForSequenceClassification, False, {"problem_type": "multi_label_classification"}),
        (AlbertForMaskedLM, False, {"hidden_act": "relu"}),
        (AlbertForMaskedLM, False, {"position_embedding_type": "relative_key_query"}),
        (AlbertForMaskedLM, True, {"position_embedding_type": "relative_key"}),
    ],
)
def test_bfloat16_stays_bfloat16(model_class, packed, changes):
    """In every class, with arguments on the GPU, whose library's functions do not all know it."""
    reference, _ = both(model_class, num_hidden_layers=1, num_hidden_groups=1, **changes)
    executor = StrictExecutor()
    backend = Backend("cuda", executor, **cuda.functions(executor))
    model = random_model(model_class, reference.config, dtype="float32").to(backend, BFLOAT16)
    call = there(batch_of(reference, (2, 4))) | {"seed": 3, "packed": packed}
    loss, gradients = model.loss_and_gradients(**call)
    for array in (loss, *gradients.parameters.values()):
        assert array.dtype == BFLOAT16 and np.isfinite(array.host.astype(float)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types_are_refused_on_the_cpu(dtype):
    with pytest.raises(ValueError, match=f"dtype is '{dtype}'; expected float32 or float64"):
        AlbertModel(AlbertConfig(**SETTINGS), dtype=dtype)
    with pytest.raises(ValueError, match=f"dtype is '{dtype}'; expected float32 or float64"):
        AlbertModel.from_pretrained("tiny", dtype=dtype)
