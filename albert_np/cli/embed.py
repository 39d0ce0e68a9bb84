"""`albert-np embed`: a vector for each text."""

from albert_np.cli.arguments import add_json, add_model, add_text
from albert_np.cli.loading import load
from albert_np.cli.output import new_table, print_json, print_tables, with_progress
from albert_np.cli.texts import texts_of

SHOWN = 4  # numbers of a vector in a table

EXAMPLES = """\
examples:
  $ albert-np embed "Paris is in France." "Rome is in Italy." --pooling mean
  $ albert-np embed --file sentences.txt --json > vectors.json
"""


def add(commands):
    parser = commands.add_parser(
        "embed",
        help="turn texts into vectors",
        description="Turn each text into a vector: the last hidden state of its [CLS], or the\n"
        "mean over its tokens.",
        epilog=EXAMPLES,
    )
    add_text(parser)
    parser.add_argument("--pooling", choices=("cls", "mean"), default="cls", help="(default: cls)")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options):
    from albert_np.pipelines import predict_embeddings

    texts = texts_of(options)
    model, tokenizer = load(options, base=True)
    predictions = predict_embeddings(model, tokenizer, texts, options.pooling)
    vectors = [vector.tolist() for vector in with_progress(predictions, "embedding", len(texts))]
    if options.json:
        print_json([{"text": text, "embedding": v} for text, v in zip(texts, vectors, strict=True)])
        return
    table = new_table("text", f"first {SHOWN} of {len(vectors[0])} numbers>")
    for text, vector in zip(texts, vectors, strict=True):
        table.add_row(text, "".join(f"{number:>10.4f}" for number in vector[:SHOWN]))
    print_tables([table])
