"""`albert-np info`: a model's configuration, and its parameters counted."""

import json
import math
import re

from albert_np.cli.arguments import add_json, add_model_directory
from albert_np.cli.loading import saved_class
from albert_np.cli.output import new_table, print_json, print_tables

BYTES_PER_PARAMETER = 4  # float32

# What `info` calls the modules beside the layers, by how the names of their parameters start.
MODULES = {
    "embeddings": "embeddings",
    "encoder.embedding_hidden_mapping_in": "encoder projection",
    "pooler": "pooler",
    "predictions": "masked language modelling head",
    "sop_classifier": "sentence order head",
    "classifier": "classifier",
    "qa_outputs": "question answering head",
}

EXAMPLES = """\
examples:
  $ albert-np info --config albert-base-v2
  ...
  total                            11,813,810    47.3 MB
  total, if no layers shared       89,780,402   359.1 MB
  sharing saves 86.8%              77,966,592   311.9 MB

  $ albert-np info --model my-albert --json
"""


def add(commands):
    parser = commands.add_parser(
        "info",
        help="show a model's configuration and count its parameters",
        description="Show a model's configuration, its parameters by module (in float32), and\n"
        "what sharing them between layers saves.",
        epilog=EXAMPLES,
    )
    which = parser.add_mutually_exclusive_group()
    add_model_directory(which)
    which.add_argument(
        "--config", metavar="NAME", help="a published size, such as albert-base-v2; no weights"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options):
    from albert_np import AlbertConfig, AlbertForPreTraining
    from albert_np.schedule import layer_places, layer_schedule

    if options.config is not None:
        config, model_class = AlbertConfig.published(options.config), AlbertForPreTraining
    else:
        config = AlbertConfig.from_pretrained(options.model)
        model_class = saved_class(config)
    modules = _parameters_by_module(model_class, config)
    total = sum(modules.values())
    runs = [place for layer in layer_schedule(config) for place in layer]
    unshared_total = (
        total - _layer_parameters(config, layer_places(config)) + _layer_parameters(config, runs)
    )
    if options.json:
        print_json(
            {
                "config": config.to_dict(),
                "class": model_class.__name__,
                "dtype": "float32",
                "modules": [{"module": m} | _size(count) for m, count in modules.items()],
                "total": _size(total),
                "unshared_total": _size(unshared_total),
            }
        )
        return
    settings = new_table("setting", "value")
    for name, value in config.to_dict().items():
        settings.add_row(name, value if isinstance(value, str) else json.dumps(value))
    counts = new_table(model_class.__name__, "parameters>", "float32>")
    for module, count in modules.items():
        _add_count(counts, module, count)
    counts.add_section()
    saved = unshared_total - total
    _add_count(counts, "total", total)
    _add_count(counts, "total, if no layers shared", unshared_total)
    _add_count(counts, f"sharing saves {saved / unshared_total:.1%}", saved)
    print_tables([settings, counts])


def _add_count(table, name, count):
    from rich.filesize import decimal

    table.add_row(name, f"{count:,}", decimal(count * BYTES_PER_PARAMETER))


def _parameters_by_module(model_class, config):
    """How many parameters each module of a model has; none of them is allocated."""
    counts = {}
    for name, shape in model_class.parameter_shapes(config).items():
        module = _module_of(name)
        counts[module] = counts.get(module, 0) + math.prod(shape)
    return counts


def _layer_parameters(config, places):
    """How many parameters the layers at some (group, inner layer) have, one for each mention."""
    from albert_np.schedule import layer_shapes

    return sum(
        math.prod(shape) for place in places for shape in layer_shapes(config, place).values()
    )


def _module_of(name):
    """What `info` calls the module of a parameter."""
    name = name.removeprefix("albert.")
    layer = re.match(r"encoder\.albert_layer_groups\.(\d+)\.albert_layers\.(\d+)\.", name)
    if layer is None:
        return next(module for start, module in MODULES.items() if name.startswith(start))
    part = "feed-forward"
    if "norm" in name.lower():
        part = "layer norms"
    elif ".attention." in name:
        part = "attention"
    return f"group {layer[1]}, layer {layer[2]}: {part}"


def _size(count):
    return {"parameters": count, "bytes": count * BYTES_PER_PARAMETER}
