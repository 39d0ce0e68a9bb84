"""Right candidates of other libraries pass; wrong ones, and what is no candidate, are found."""

import json
import warnings

import numpy as np
import pytest
from verification_support import small_case, small_config

import albert_np
from albert_np.verification import compare, draw_case, write_golden
from albert_np.verification.case import CLASSES
from albert_np.verification.of_torch import (
    run_module,
    transformers_checkpoint,
    transformers_module,
)

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
pytest.importorskip("transformers", reason="the extra `parity` is not installed")

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_passes(attention, dtype):
    sizes = {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}
    case = small_case(albert_np.AlbertForPreTraining, **sizes)
    tensors, could_not = run_module(case, transformers_module(case, attention, dtype))
    comparison = compare(case, tensors)
    assert (comparison.precision, comparison.could_not) == (dtype, {})
    assert comparison.status == 0, comparison.worst
    probabilities = [name for name in tensors if name.endswith("self.softmax")]
    assert len(probabilities) == (16 if attention == "eager" else 0)  # and their gradients
    assert bool(could_not) == (attention == "sdpa")


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_is_compared_forward_and_backward(name):
    settings = {"num_labels": 2, "hidden_act": "gelu"}
    case = draw_case(getattr(albert_np, name), small_config(**settings))
    tensors, _ = run_module(case, transformers_module(case, "eager", "float64"))
    comparison = compare(case, tensors)
    assert (comparison.status, comparison.could_not) == (0, {})
    compared = {row.name for row in comparison.rows}
    assert {f"gradients/{parameter}" for parameter in case.parameters} < compared
    assert any(row.name.startswith("backward/") for row in comparison.rows)


def test_a_checkpoint_is_loaded_by_the_library_itself(tmp_path):
    case = small_case()
    case.model("float32").save_pretrained(tmp_path)
    module = transformers_checkpoint(tmp_path, case)
    assert compare(case, run_module(case, module)[0]).status == 0


def test_a_wrong_activation_is_found_where_it_is():
    case = small_case()
    module = transformers_module(case, "eager")
    layer = module.albert.encoder.albert_layer_groups[0].albert_layers[0]
    layer.activation = torch.nn.GELU()
    comparison = compare(case, run_module(case, module)[0])
    assert comparison.first.name == "forward/albert.encoder.layers.0.activation.gelu_new"
    names = {name for row in comparison.wrong for name in row.alone.operations}
    assert names == {f"albert.encoder.layers.{i}.activation.gelu_new" for i in range(2)}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda self, **inputs: 1 / 0, "the module raises ZeroDivisionError"),
        (lambda self, **inputs: torch.zeros(1), "returns a Tensor; expected outputs by name"),
    ],
)
def test_a_module_that_is_no_candidate_is_one_error(broken, said):
    module = type("Broken", (torch.nn.Module,), {"forward": broken})()
    with pytest.raises(ValueError, match=said):
        run_module(small_case(), module)


def test_a_module_without_a_loss_says_what_is_missing():
    module = type("Bare", (torch.nn.Module,), {"forward": lambda self, **inputs: {}})()
    tensors, could_not = run_module(small_case(), module)
    assert tensors == {}
    assert any("returns no loss" in reason for reason in could_not)


@pytest.mark.filterwarnings("ignore")  # that a head is drawn
def test_what_the_library_cannot_make_is_one_error(tmp_path):
    case = small_case(albert_np.AlbertForSequenceClassification, classifier_dropout_prob=None)
    with pytest.raises(ValueError, match="transformers makes no such model: TypeError"):
        transformers_module(case)
    case.model("float32").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="transformers makes no such model: TypeError"):
        transformers_checkpoint(tmp_path, case)


def test_other_parameters_are_one_error():
    case = small_case()
    more = case._replace(parameters=case.parameters | {"more": np.zeros(2)})
    with pytest.raises(ValueError, match="only the case has a parameter more"):
        transformers_module(more)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A case without labels, and its model as an ONNX file, by torch's older exporter."""
    return export(tmp_path_factory.mktemp("onnx"), dynamo=False)


def export(directory, dynamo, **settings):
    pytest.importorskip("onnx", reason="the library onnx is not installed")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    case = small_case(num_hidden_groups=2, num_hidden_layers=4, **settings)
    case.inputs.pop("labels")
    path = directory / "model.onnx"
    module = transformers_module(case, "eager")

    class Exported(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = module

        def forward(self, *inputs):
            return self.model(**dict(zip(INPUTS, inputs, strict=True))).logits

    axes = None if dynamo else dict.fromkeys(INPUTS, {0: "B", 1: "S"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one exporter is the older one, and others
        torch.onnx.export(
            Exported(),
            tuple(torch.tensor(case.inputs[name]) for name in INPUTS),
            path,
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_axes=axes,
            dynamo=dynamo,
        )
    return case, path


def optimized(path, directory):
    from onnxruntime.transformers.optimizer import optimize_model

    model = optimize_model(str(path), model_type="bert", num_heads=2, hidden_size=8, opt_level=0)
    assert model.get_fused_operator_statistics()["SkipLayerNormalization"] > 0
    model.save_model_to_file(str(directory / "optimized.onnx"))
    return directory / "optimized.onnx"


@pytest.mark.parametrize("is_optimized", [False, True])
def test_an_onnx_file_passes(exported, is_optimized, tmp_path):
    from albert_np.verification.of_onnx import run_onnx

    case, path = exported
    path = optimized(path, tmp_path) if is_optimized else path
    tensors, could_not = run_onnx(case, path)
    comparison = compare(case, tensors)
    assert (comparison.status, comparison.could_not) == (0, {})
    names = {row.name for row in comparison.rows}
    for place in range(4):  # each repetition is told from the others
        assert f"forward/albert.encoder.layers.{place}.attention.output.layer_norm" in names
    assert could_not == ["gradients: ONNX Runtime computes none"]
    as_is, _ = run_onnx(case, path, as_is=True)
    assert list(as_is) == ["outputs/logits"]
    assert compare(case, as_is).status == 0


def test_a_wrong_onnx_file_is_found_where_it_is(exported, tmp_path):
    import onnx

    from albert_np.verification.of_onnx import run_onnx

    case, path = exported
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "LayerNormalization" and "albert_layers.0/full" in node.name:
            node.attribute[[a.name for a in node.attribute].index("epsilon")].f = 1e-2
    onnx.save(model, tmp_path / "wrong.onnx")
    comparison = compare(case, run_onnx(case, tmp_path / "wrong.onnx")[0])
    names = {name for row in comparison.wrong for name in row.alone.operations}
    assert names == {f"albert.encoder.layers.{i}.output.layer_norm" for i in range(4)}


def test_an_onnx_file_with_other_inputs_is_one_error(exported, tmp_path):
    from albert_np.verification.of_onnx import run_onnx

    case, path = exported
    inputs = dict(case.inputs)
    types = inputs.pop("token_type_ids")
    with pytest.raises(ValueError, match="takes an input 'token_type_ids'; the case has input_ids"):
        run_onnx(case._replace(inputs=inputs), path)
    inputs |= {"token_type_ids": types, "position_ids": case.inputs["position_ids"][:, ::-1]}
    with pytest.raises(ValueError, match="takes no position_ids, and the case has some"):
        run_onnx(case._replace(inputs=inputs), path)
    beyond = case.inputs | {"input_ids": case.inputs["input_ids"] + 1000}
    with pytest.raises(ValueError, match="fails on the case's inputs"):
        run_onnx(case._replace(inputs=beyond), path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        run_onnx(case, tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ValueError, match="cannot be run by ONNX Runtime"):
        run_onnx(case, tmp_path / "text.onnx")


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
@pytest.mark.parametrize("is_masked", [False, True])
def test_scores_of_relative_positions_are_compared(kind, is_masked):
    case = small_case(position_embedding_type=kind)
    if not is_masked:
        case.inputs["attention_mask"][...] = 1
    tensors, could_not = run_module(case, transformers_module(case, "eager"))
    comparison = compare(case, tensors)
    assert (comparison.status, comparison.could_not, could_not) == (0, {}, [])
    last = {"relative_key": "query", "relative_key_query": "key"}[kind]
    scores = "mask" if is_masked else f"add_{last}_distance_scores"
    names = {row.name for row in comparison.rows}
    assert f"forward/albert.encoder.layers.1.attention.self.{scores}" in names
    assert f"backward/albert.encoder.layers.1.attention.self.{scores}" in names


def test_dropout_is_refused():
    case = small_case(hidden_dropout_prob=0.5)
    case.inputs["seed"] = 3
    with pytest.raises(ValueError, match="the case has a seed for dropout, and this candidate"):
        run_module(case, transformers_module(case))


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (lambda w: {"loss": w.sum(), "logits": w}, None),
        (lambda w: {"loss": w, "logits": w}, "the module's loss is of shape (3,); expected ()"),
        (lambda w: {"loss": w.sum().detach()}, "the module's loss cannot be differentiated"),
        (lambda w: {"loss": (3 * w.sum()).long()}, "the module's loss cannot be differentiated"),
        (lambda w: {"logits": w}, "the module returns no loss"),
    ],
)
def test_outputs_without_gradients_say_why(outputs, reason):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, **inputs):
            return outputs(self.weight)

    tensors, could_not = run_module(small_case(), Own())
    assert ("gradients/weight" in tensors) == (reason is None)
    assert (f"gradients: {reason}" in could_not) == (reason is not None)


def test_an_output_of_another_shape_is_said_to_be():
    case = small_case(albert_np.AlbertModel)
    module = transformers_module(case)
    plain = module.forward
    module.forward = lambda **inputs: {
        name: value[:, :1] if name == "last_hidden_state" else value
        for name, value in plain(**inputs).items()
    }
    tensors, could_not = run_module(case, module)
    comparison = compare(case, tensors)
    assert comparison.status == 2
    assert comparison.could_not["outputs/last_hidden_state"].startswith("is of shape (2, 1, 8); ")
    assert any("last_hidden_state is of shape" in reason for reason in could_not)


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(small_config().to_dict()))
    return str(path)


def test_the_command_runs_transformers(run, config_file):
    def report(*arguments):
        status, out, _ = run(
            "verify", "run", "--transformers", "--config", config_file, "--json", *arguments
        )
        return status, json.loads(out)

    status, by_default = report()
    assert (status, by_default["precision"]) == (0, "float32")
    assert by_default["could_not"] == [
        "attention scores and probabilities: softmax was not called inside a layer"
    ]
    status, eager = report("--attention", "eager", "--dtype", "bfloat16", "--seed", "3")
    assert (status, eager["precision"], eager["could_not"]) == (0, "bfloat16", [])
    names = {row["name"] for row in eager["tensors"]}
    assert "backward/albert.encoder.layers.0.attention.self.softmax" in names


@pytest.mark.filterwarnings("ignore")  # that a head is drawn
def test_the_command_runs_a_checkpoint_and_a_head_that_it_lacks(run, tmp_path):
    small_case().model("float32").save_pretrained(tmp_path)
    arguments = ["verify", "run", "--transformers", "--model", str(tmp_path), "--shape", "1", "4"]
    status, out, _ = run(*arguments)
    assert (status, out.splitlines()[-1][:19]) == (0, "right, to rounding:")
    status, out, _ = run(*arguments, "--class", "AlbertForQuestionAnswering")
    assert status == 0, out


def test_a_function_may_return_a_module(run, config_file, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import transformers\n"
        "def module(parameters, inputs, config):\n"
        "    config = transformers.AlbertConfig(**config)\n"
        "    return transformers.AlbertForMaskedLM(config)\n"
    )
    arguments = ["--callable", f"{path}:module", "--config", config_file, "--dtype", "float64"]
    status, out, _ = run("verify", "run", *arguments, "--json")
    report = json.loads(out)
    assert (status, report["precision"]) == (0, "float64")
    assert "backward/albert.encoder.layers.0.ffn_output" not in {
        x["name"] for x in report["tensors"]
    }
    assert len([x for x in report["tensors"] if x["name"].startswith("gradients/")]) > 20


def test_the_command_runs_an_onnx_file(run, exported, tmp_path):
    case, path = exported
    write_golden(tmp_path / "golden.safetensors", case)
    arguments = [
        "verify",
        "run",
        "--onnx",
        str(path),
        "--golden",
        str(tmp_path / "golden.safetensors"),
    ]
    status, out, _ = run(*arguments)
    assert status == 0
    assert "could not compare gradients: ONNX Runtime computes none" in out.splitlines()
    status, out, _ = run(*arguments, "--as-is", "--json")
    report = json.loads(out)
    assert (status, [row["name"] for row in report["tensors"]]) == (0, ["outputs/logits"])


def test_an_onnx_file_has_no_dropout(exported):
    from albert_np.verification.of_onnx import run_onnx

    case, path = exported
    with pytest.raises(ValueError, match="the case has a seed for dropout, and this candidate"):
        run_onnx(case._replace(inputs=case.inputs | {"seed": 3}), path)


def test_an_onnx_file_of_the_newer_exporter_is_looked_into(exported, tmp_path):
    pytest.importorskip("onnxscript", reason="the library onnxscript is not installed")
    from albert_np.verification.of_onnx import run_onnx

    older, _ = run_onnx(*exported)
    tensors, could_not = run_onnx(*export(tmp_path, dynamo=True))
    comparison = compare(exported[0], tensors)
    assert (comparison.status, comparison.could_not) == (0, {})
    assert could_not == ["gradients: ONNX Runtime computes none"]
    assert older.keys() - tensors.keys() <= {"forward/albert.embeddings.position_embeddings"}


def test_a_file_in_the_runtimes_own_format_is_run_as_it_is(exported, tmp_path):
    import onnxruntime

    from albert_np.verification.of_onnx import run_onnx

    case, path = exported
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.log_severity_level = 4
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="runs, but cannot be looked into"):
        run_onnx(case, tmp_path / "model.ort")
    tensors, _ = run_onnx(case, tmp_path / "model.ort", as_is=True)
    assert compare(case, tensors).status == 0


def test_an_onnx_file_that_tells_nothing_gives_its_outputs(exported, tmp_path):
    import onnx

    from albert_np.verification.of_onnx import run_onnx

    case, path = exported
    model = onnx.load(path)
    names = {
        name: f"t{place}"
        for place, name in enumerate({o for node in model.graph.node for o in node.output})
        if name != "logits"
    }
    for node in model.graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "silent.onnx")
    tensors, could_not = run_onnx(case, tmp_path / "silent.onnx")
    assert list(tensors) == ["outputs/logits"]
    assert "intermediates: no node tells its module as torch's exporters do" in could_not


def test_a_module_is_left_as_it_was():
    case = small_case()
    module = transformers_module(case, "eager")
    run_module(case, module)
    for part in module.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks
