"""Candidates for the verification tool: right ones, and ones with a mistake."""

from dataclasses import dataclass, field

from albert_np import AlbertConfig, AlbertForMaskedLM
from albert_np.verification.case import draw_case
from albert_np.verification.precision import PRECISIONS, RoundedTrace
from albert_np.verification.reference import tensors_of


def small_config(**settings):
    sizes = {
        "vocab_size": 30,
        "embedding_size": 6,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 8,
        "initializer_range": 0.3,
    }
    return AlbertConfig(**sizes | settings)


def small_case(model_class=AlbertForMaskedLM, **settings):
    return draw_case(model_class, small_config(**settings))


@dataclass
class ReplacingTrace(RoundedTrace):
    """A trace in which functions are replaced: name of an operation, and of a function → other."""

    replaced: dict = field(default_factory=dict)

    def compute(self, name, function, *arguments, **settings):
        other = self.replaced.get((name, function.__name__), function)
        other.__name__ = function.__name__  # which says whether it is a backward function
        return super().compute(name, other, *arguments, **settings)


def with_mistakes(case, replaced, precision="float32"):
    """A candidate's tensors, some of its functions replaced; see `ReplacingTrace`."""
    trace = ReplacingTrace(precision=PRECISIONS[precision], replaced=replaced)
    model = case.model(PRECISIONS[precision].computed_in)
    trace.parameters = model.parameters
    model._record(trace, case.gradients, case.arguments)
    return tensors_of(case, trace)


def outputs_and_gradients(case, dtype="float32", backend="numpy"):
    """A candidate's tensors: what the public calls of a model return."""
    outputs, pullback = case.model(dtype, backend).vjp(**case.arguments)
    gradients = pullback(None if case.gradients is True else case.gradients)
    tensors = {f"outputs/{name}": outputs[name] for name in outputs.keys()}  # noqa: SIM118
    tensors |= {f"gradients/{name}": array for name, array in gradients.parameters.items()}
    return tensors | {"gradients/inputs_embeds": gradients.inputs_embeds}
