"""`albert-np tag`: the names, places and other parts that a text speaks of."""

from albert_np.cli.arguments import add_json, add_model, add_text
from albert_np.cli.loading import load
from albert_np.cli.output import new_table, print_json, print_tables, with_progress
from albert_np.cli.texts import texts_of

STRATEGIES = ("none", "simple", "first", "average", "max")

EXAMPLES = """\
examples:
  $ albert-np tag "CHICAGO AT ATLANTA" --model my-conll
  $ albert-np tag --file news.txt --model my-conll --aggregation-strategy first --json
"""


def add(commands):
    parser = commands.add_parser(
        "tag",
        help="find the parts of a text that a label fits",
        description="Find the parts of a text that a label other than O fits.",
        epilog=EXAMPLES,
    )
    add_text(parser)
    parser.add_argument(
        "--aggregation-strategy",
        choices=STRATEGIES,
        default="simple",
        help="none: every token on its own; simple: neighbours of one label; first, average, max:\n"
        "whole words, by their first token, the mean, or the surest (default: simple)",
    )
    parser.add_argument(
        "--stride", type=int, metavar="N", help="cut long texts into parts that share N tokens"
    )
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options):
    from albert_np.pipelines import predict_tags

    texts = texts_of(options)
    model, tokenizer = load(options, "AlbertForTokenClassification", fast=True)
    predictions = predict_tags(
        model, tokenizer, texts, options.aggregation_strategy, stride=options.stride
    )
    results = list(with_progress(predictions, "tagging", len(texts)))
    if options.json:
        print_json([{"text": text, "entities": e} for text, e in zip(texts, results, strict=True)])
        return
    print_tables(map(_table, texts, results))


def _table(text, entities):
    table = new_table("label", "score>", "start>", "end>", "text")
    for entity in entities:
        start, end = entity["start"], entity["end"]
        label = entity.get("entity_group", entity.get("entity"))
        table.add_row(label, f"{entity['score']:.2%}", str(start), str(end), text[start:end])
    return table
