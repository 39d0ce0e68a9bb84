"""`albert-np classify`: the labels of a text, or of a pair of texts."""

from albert_np.cli.arguments import add_json, add_model, add_text
from albert_np.cli.loading import load
from albert_np.cli.output import new_table, print_json, print_tables, with_progress
from albert_np.cli.texts import records_of

EXAMPLES = """\
examples:
  $ albert-np classify "He sold it." --text-pair "It was sold." --model my-mrpc
  $ albert-np classify --file pairs.jsonl --json-lines --model my-mrpc --json
  $ albert-np classify "A new phone." --candidate-labels "politics, technology" --model my-mnli
"""


def add(commands):
    parser = commands.add_parser(
        "classify",
        help="tell a text's label",
        description="Tell the label of each text or pair of texts, with a model whose head was\n"
        "trained for it; or, with one trained on entailment, choose among labels of your own.",
        epilog=EXAMPLES,
    )
    add_text(parser, '{"text": …} or {"text": …, "text_pair": …}')
    parser.add_argument("--text-pair", metavar="TEXT", help="the second text of every pair")
    parser.add_argument(
        "--top-k", type=int, metavar="K", help="labels for each text (default: all)"
    )
    zero_shot = parser.add_argument_group("labels of your own (zero-shot)")
    zero_shot.add_argument("--candidate-labels", metavar="A,B,…", help="the labels, with commas")
    zero_shot.add_argument(
        "--hypothesis-template",
        metavar="TEXT",
        help='what a label is put in, for {} (default: "This example is {}.")',
    )
    zero_shot.add_argument("--multi-label", action="store_true", help="judge each label on its own")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options):
    _check(options)
    records = records_of(options, optional=("text_pair",))
    if options.text_pair is not None:
        records = [record | {"text_pair": options.text_pair} for record in records]
    model, tokenizer = load(options, "AlbertForSequenceClassification")
    predict = _label if options.candidate_labels is None else _choose
    predictions = predict(options, model, tokenizer, records)
    results = list(with_progress(predictions, "classifying", len(records)))
    if options.json:
        print_json(results)
        return
    print_tables(map(_table, results))


def _check(options):
    """Refuse options that one of the two ways to classify would not read."""
    zero_shot = {
        "--hypothesis-template": options.hypothesis_template is not None,
        "--multi-label": options.multi_label,
    }
    labels = {"--top-k": options.top_k is not None, "--text-pair": options.text_pair is not None}
    without = options.candidate_labels is None
    for name, given in (zero_shot if without else labels).items():
        if given:
            how = "without" if without else "beside"
            raise ValueError(f"{name} has no meaning {how} --candidate-labels")


def _label(options, model, tokenizer, records):
    """Each record, with its labels and their scores."""
    from albert_np.pipelines import predict_labels

    results = predict_labels(model, tokenizer, records, options.top_k)
    return (record | {"labels": labels} for record, labels in zip(records, results, strict=True))


def _choose(options, model, tokenizer, records):
    """Each record, with the labels of one's own and their scores."""
    from albert_np.pipelines import predict_choices

    settings = {}
    if options.hypothesis_template is not None:
        settings["hypothesis_template"] = options.hypothesis_template
    results = predict_choices(
        model,
        tokenizer,
        [record["text"] for record in records],
        options.candidate_labels,
        multi_label=options.multi_label,
        **settings,
    )
    for result in results:
        pairs = zip(result["labels"], result["scores"], strict=True)
        labels = [{"label": label, "score": score} for label, score in pairs]
        yield {"text": result["sequence"], "labels": labels}


def _table(result):
    table = new_table("label", "score>", "text")
    text = " / ".join(result[key] for key in ("text", "text_pair") if key in result)
    for label in result["labels"]:
        table.add_row(label["label"], f"{label['score']:.4f}", text)
    return table
