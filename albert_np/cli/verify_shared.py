"""What the commands of `albert-np verify` share: what is verified, and how it is reported."""

from pathlib import Path

from albert_np.cli.arguments import DEFAULT_MODEL, add_json, filled
from albert_np.cli.output import print_json, with_progress

# What is verified, by the options of `add_case`, where they are not given.
CASE = {
    "model": DEFAULT_MODEL,
    "config": None,
    "seed": 0,
    "class": None,
    "text": None,
    "shape": (2, 8),
}


def add_case(parser):
    """What is verified: the arguments that `case_of_options` reads."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        type=filled,
        metavar="DIR",
        help="a checkpoint (default: the small model that ships)",
    )
    which.add_argument(
        "--config",
        type=filled,
        metavar="FILE",
        help="a config.json, or a published size such as albert-base-v2: weights are drawn",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="the seed of what is drawn (default: 0)"
    )
    parser.add_argument("--class", metavar="CLASS", help="of the model (default: as saved)")
    parser.add_argument(
        "--text", action="append", metavar="TEXT", help="with --model; several are a batch"
    )
    parser.add_argument(
        "--shape",
        type=int,
        nargs=2,
        metavar=("B", "S"),
        help="of what is drawn where there is no text (default: 2 8)",
    )
    parser.set_defaults(**CASE)


def case_options(options):
    """Those options of `add_case` that are given."""
    return [f"--{name}" for name, default in CASE.items() if getattr(options, name) != default]


def add_mapping(parser):
    parser.add_argument(
        "--mapping", type=filled, metavar="FILE", help="JSON: names and layouts of the candidate's"
    )


def add_reports(parser):
    """How what came of it is told: the arguments that `show` reads."""
    add_json(parser)
    parser.add_argument(
        "--html", type=filled, metavar="FILE", help="write a page with the model's graph, too"
    )


def check_reports(options):
    """Refuse a page that cannot be written, before what it is to show is computed."""
    from albert_np.verification.report import template_library

    if options.html is not None:
        template_library()
        check_place(options.html)


def check_place(path):
    """Refuse a place that no file can be written to, before what is to be written is computed."""
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"no directory {Path(path).parent}, to write {path} to")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a directory; expected a file to write")


def show(options, comparison, candidate, could_not=()):
    """Look for the mistake, and tell what came of a comparison.

    Parameters
    ----------
    options : argparse.Namespace
        With what `add_reports` reads.
    comparison : Comparison
    candidate : dict of str to array
        What was compared.
    could_not : sequence of str, optional
        What the candidate could not be asked for.

    Returns
    -------
    int
        The exit status.
    """
    from albert_np.verification import message
    from albert_np.verification.diagnosis import diagnose
    from albert_np.verification.report import as_json, write_html

    diagnosis = diagnose(comparison, candidate, track=track).lines()
    if options.html is not None:
        write_html(options.html, comparison, diagnosis, could_not)
    if options.json:
        print_json(as_json(comparison, diagnosis, could_not))
    else:
        print(message(comparison, diagnosis, could_not))
    return comparison.status


def track(items, description):
    """The items, with a progress bar."""
    return with_progress(items, description, len(items))


def case_of_options(options):
    """The case that the arguments of `add_case` ask for."""
    from albert_np.verification.case import case_of, draw_case

    _check_case(options)
    config = _config(options)
    model_class = _class(options, config)
    if not options.text and options.shape[1] > config.max_position_embeddings:
        raise ValueError(
            f"--shape is {options.shape[0]} {options.shape[1]}; "
            f"max_position_embeddings is {config.max_position_embeddings}"
        )
    if options.config is not None:
        return draw_case(model_class, config, options.seed, tuple(options.shape))
    model = model_class.from_pretrained(options.model, dtype="float64", seed=options.seed)
    return case_of(model, _inputs(options, model))


def _check_case(options):
    if options.seed < 0:
        raise ValueError(f"--seed is {options.seed}; expected 0 or more")
    if min(options.shape) < 1:
        raise ValueError(f"--shape is {options.shape[0]} {options.shape[1]}; expected 1 or more")
    if options.text and options.config is not None:
        raise ValueError("--text needs a tokenizer, and so --model, not --config")
    if options.text and options.shape != CASE["shape"]:
        raise ValueError(
            "--shape is of what is drawn, and --text has its own; expected one of them"
        )


def _class(options, config):
    import albert_np
    from albert_np.cli.loading import saved_class
    from albert_np.verification.case import CLASSES

    name = getattr(options, "class")
    if name is None:
        return saved_class(config)
    if name not in CLASSES:
        raise ValueError(f"--class is {name!r}; expected one of {', '.join(CLASSES)}")
    return getattr(albert_np, name)


def _config(options):
    from albert_np import AlbertConfig
    from albert_np.config import PUBLISHED
    from albert_np.errors import FileFormatError
    from albert_np.files import read_json_object

    if options.config is None:
        return AlbertConfig.from_pretrained(options.model)
    if options.config.removeprefix("albert/") in PUBLISHED:
        return AlbertConfig.published(options.config)
    if not Path(options.config).is_file():
        raise FileNotFoundError(
            f"no file {options.config}, nor a published size; they are {', '.join(PUBLISHED)}"
        )
    values = read_json_object(Path(options.config))
    try:
        return AlbertConfig.from_dict(values)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{options.config}: {error}") from error


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
