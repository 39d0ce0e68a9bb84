"""Cases that show mistakes, and how many mistakes are found in candidates that make them.

    python tests/parity/mistakes_support.py singles 1
    python tests/parity/mistakes_support.py pairs 42

prints the figures: of each known mistake (or of each third, with 3), in the first case that shows
it; and of 42 pairs of those that one case shows, drawn for each case in turn.
"""

import sys

import numpy as np
from torch_support import candidate_of

import albert_np
from albert_np.verification.case import draw_case
from albert_np.verification.compare import compare
from albert_np.verification.diagnosis import Bench, diagnose
from albert_np.verification.mistakes import MISTAKES

SIZES = {
    "vocab_size": 24,
    "embedding_size": 8,
    "hidden_size": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 12,
    "num_hidden_groups": 2,
    "initializer_range": 0.3,
    "num_labels": 2,
}
# Of the absolute positions and of the relative ones, of several inner layers and of one, of either
# gelu, of square weights, and of every head.
SETTINGS = {
    "AlbertForPreTraining": {"inner_group_num": 2},
    "AlbertForMaskedLM": {
        "hidden_act": "gelu",
        "intermediate_size": 8,
        "num_hidden_layers": 2,
        "layer_norm_eps": 1e-3,
    },
    "AlbertForTokenClassification": {"position_embedding_type": "relative_key_query"},
    "AlbertForQuestionAnswering": {"num_hidden_layers": 2},
    "AlbertForMultipleChoice": {"num_hidden_layers": 2},
    "AlbertForSequenceClassification": {"num_hidden_layers": 2, "num_labels": 1},
    "AlbertModel": {"num_hidden_groups": 1},
}


def telling_case(name):
    """A case of a class in which no token is without a meaning for something.

    There is padding on the left and on the right, the padding token attended to, a sequence with
    every token masked, and a head mask that differs from layer to layer.
    """
    config = albert_np.AlbertConfig(**SIZES | SETTINGS[name])
    case = draw_case(getattr(albert_np, name), config, shape=(4, 6))
    inputs = {key: np.array(value) for key, value in case.inputs.items()}
    generator = np.random.default_rng(1)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    mask[...] = 1
    mask[0, ..., :2] = 0
    mask[1, ..., 4:] = 0
    mask[2] = 0
    ids[...] = generator.integers(1, config.vocab_size, ids.shape)
    ids[mask == 0] = ids[0, ..., 3] = ids[3, ..., 0] = config.pad_token_id
    if "start_positions" in inputs:
        inputs["start_positions"][1] = -1  # before the start; and one behind the end
        inputs["end_positions"][0] = ids.shape[-1] + 1
    shape = (config.num_hidden_layers, config.num_attention_heads)
    inputs["head_mask"] = generator.uniform(0.5, 1, shape)
    return case._replace(inputs=inputs)


def visible_mistakes(case):
    """The mistakes that change a tensor of a case by more than float32's noise."""
    right = candidate_of(case)
    bench = Bench(compare(case, right), right)
    bench.candidate = bench.tensors(())
    everything = bench.try_out(()).met
    return [one for one in MISTAKES if bench.try_out((one,)).met < everything]


def verdict_on(case, names, dtype="float32"):
    """How a candidate with exactly these mistakes is diagnosed.

    Returns
    -------
    verdict : {"found", "alike", "elsewhere", "not found"}
        It is found too where others are named that compute the same on these inputs; alike where
        others are named whose difference from it drowns in noise; and elsewhere where the mistakes
        are named, but an operation that they change is not.
    diagnosis : Diagnosis
    """
    candidate = candidate_of(case, names, dtype)
    comparison = compare(case, candidate, precision=dtype)
    diagnosis = diagnose(comparison, candidate)
    if diagnosis.explanation is None:
        return "not found", diagnosis
    made = tuple(mistake for mistake in MISTAKES if mistake.name in names)
    named = diagnosis.explanation.mistakes
    if set(made) == set(named) or Bench(comparison, candidate).same(made, named):
        where = operations_named(comparison)
        are_there = all(any(map(one.touches, where)) for one in made if one.at)
        return "found" if are_there else "elsewhere", diagnosis
    alike = [set(other.mistakes) for other in diagnosis.alike]
    return "alike" if set(made) in alike else "not found", diagnosis


def operations_named(comparison):
    """The operations that are named as wrong by themselves."""
    return {name for row in comparison.wrong for name in row.alone.operations}


def singles(step):
    """Each mistake that a case shows, or each so many-th, once: (case, [name])."""
    seen = set()
    for name in SETTINGS:
        case = telling_case(name)
        for mistake in visible_mistakes(case):
            if mistake.name not in seen:
                if len(seen) % step == 0:
                    yield case, [mistake.name]
                seen.add(mistake.name)


def pairs(number):
    """Pairs of mistakes, drawn: (case, [name, name])."""
    generator = np.random.default_rng(0)
    cases = [telling_case(name) for name in SETTINGS]
    visible = [[one.name for one in visible_mistakes(case)] for case in cases]
    for i in range(number):
        k = i % len(cases)
        yield cases[k], [str(one) for one in generator.choice(visible[k], 2, replace=False)]


def main():
    what, number = sys.argv[1:]
    counts = dict.fromkeys(("found", "alike", "elsewhere", "not found"), 0)
    for case, names in {"singles": singles, "pairs": pairs}[what](int(number)):
        verdict, diagnosis = verdict_on(case, names)
        counts[verdict] += 1
        why = "" if verdict == "found" else " ".join(diagnosis.lines())
        print(f"{what} {counts}: {' and '.join(names)}: {verdict} {why}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
