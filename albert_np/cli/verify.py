"""`albert-np verify`: whether another ALBERT is right, and where it is wrong."""

from albert_np.cli.arguments import filled
from albert_np.cli.output import with_progress

GOLDEN_EXAMPLES = """\
examples:
  $ albert-np verify golden tiny.safetensors --text "Paris is in France."
  $ albert-np verify golden base.safetensors --config albert-base-v2 --seed 1
"""
COMPARE_EXAMPLES = """\
examples:
  $ albert-np verify compare mine.npz --golden tiny.safetensors --mapping names.json
"""
DESCRIPTION = "Say whether another ALBERT is right to rounding and, if not, where it is wrong."


def add(commands):
    parser = commands.add_parser(
        "verify", help="say whether another ALBERT is right", description=DESCRIPTION
    )
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_golden(subcommands)
    add_compare(subcommands)


def add_golden(subcommands):
    parser = subcommands.add_parser(
        "golden",
        help="write a golden file",
        description="Write a golden file: weights, inputs, every intermediate, and all gradients,\n"
        "in float64. Labels are drawn; so is all the rest with --config.",
        epilog=GOLDEN_EXAMPLES,
    )
    parser.add_argument("output", type=filled, metavar="OUT.safetensors")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        type=filled,
        default="tiny",
        metavar="DIR",
        help="a checkpoint (default: the small model that ships)",
    )
    which.add_argument(
        "--config",
        type=filled,
        metavar="FILE",
        help="a config.json, or a published size such as albert-base-v2: weights are drawn",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws (default: 0)")
    parser.add_argument("--class", dest="model_class", metavar="CLASS", help="(default: as saved)")
    parser.add_argument(
        "--text", action="append", metavar="TEXT", help="with --model; several are a batch"
    )
    parser.add_argument(
        "--shape",
        type=int,
        nargs=2,
        default=(2, 8),
        metavar=("B", "S"),
        help="of what is drawn where there is no text (default: 2 8)",
    )
    parser.set_defaults(run=run_golden)


def add_compare(subcommands):
    parser = subcommands.add_parser(
        "compare",
        help="compare a candidate's tensors with a golden file",
        description="Compare a candidate's tensors, and each of its operations alone, with what a\n"
        "golden file's case should give. The exit status is 0 if it is right, 1 if\n"
        "it differs, 2 if something could not be compared.",
        epilog=COMPARE_EXAMPLES,
    )
    parser.add_argument(
        "candidate", type=filled, help="a .safetensors file, .npz file or directory of .npy files"
    )
    parser.add_argument("--golden", type=filled, required=True, metavar="GOLDEN")
    parser.add_argument(
        "--mapping", type=filled, metavar="FILE", help="JSON: names and layouts of the candidate's"
    )
    parser.add_argument(
        "--precision",
        choices=("float64", "float32", "float16", "bfloat16"),
        help="what the candidate computes in (default: the coarsest type of its tensors)",
    )
    parser.set_defaults(run=run_compare)


def run_golden(options):
    from albert_np.verification import write_golden

    tensors = write_golden(options.output, _case(options))
    size = sum(array.nbytes for array in tensors.values())
    print(f"{options.output}: {len(tensors)} tensors, {size:,} bytes")


def run_compare(options):
    from albert_np.verification import compare, map_names, message, read_candidate, read_golden
    from albert_np.verification.candidate import read_mapping

    candidate = read_candidate(options.candidate)
    if options.mapping is not None:
        candidate = map_names(candidate, read_mapping(options.mapping))
    comparison = compare(
        read_golden(options.golden).case, candidate, precision=options.precision, track=_track
    )
    print(message(comparison))
    return comparison.status


def _track(items, description):
    return with_progress(items, description, len(items))


def _case(options):
    """The case that a golden file is to hold."""
    import albert_np
    from albert_np.cli.loading import saved_class
    from albert_np.verification.case import CLASSES, case_of, draw_case

    if options.seed < 0 or min(options.shape) < 1:
        raise ValueError(f"--seed {options.seed} --shape {options.shape}: expected no less than 1")
    if options.model_class not in (None, *CLASSES):
        raise ValueError(
            f"--class is {options.model_class!r}; expected one of {', '.join(CLASSES)}"
        )
    config = _config(options)
    model_class = saved_class(config)
    if options.model_class is not None:
        model_class = getattr(albert_np, options.model_class)
    if options.config is not None:
        if options.text:
            raise ValueError("--text needs a tokenizer, and so --model, not --config")
        return draw_case(model_class, config, options.seed, tuple(options.shape))
    model = model_class.from_pretrained(options.model, dtype="float64", seed=options.seed)
    return case_of(model, _inputs(options, model))


def _config(options):
    from pathlib import Path

    from albert_np import AlbertConfig
    from albert_np.config import PUBLISHED
    from albert_np.files import read_json_object

    if options.config is None:
        return AlbertConfig.from_pretrained(options.model)
    if options.config.removeprefix("albert/") in PUBLISHED:
        return AlbertConfig.published(options.config)
    return AlbertConfig.from_dict(read_json_object(Path(options.config)))


def _inputs(options, model):
    """Texts, or what is drawn, with labels; or with gradients of the outputs."""
    import numpy as np

    from albert_np import AlbertForMultipleChoice, AlbertTokenizer
    from albert_np.verification.case import draw_inputs, draw_labels, draw_output_gradients

    generator = np.random.default_rng(options.seed)
    if options.text:
        tokenizer = AlbertTokenizer.from_pretrained(options.model)
        inputs = dict(tokenizer(options.text, padding=True, return_tensors="np"))
        if isinstance(model, AlbertForMultipleChoice):
            inputs = {name: array[None] for name, array in inputs.items()}  # one question's choices
        shape = inputs["input_ids"].shape
        inputs["position_ids"] = np.tile(np.arange(shape[-1]), (*shape[:-1], 1))
        inputs |= draw_labels(type(model), model.config, generator, inputs)
    else:
        inputs = draw_inputs(type(model), model.config, generator, tuple(options.shape))
    if not model.label_names:
        inputs |= draw_output_gradients(model, inputs, generator)
    return inputs
