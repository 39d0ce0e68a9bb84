"""`albert-np fill-mask`: fill in the masked words of a text."""

from albert_np.cli.arguments import add_json, add_model, add_text
from albert_np.cli.loading import load
from albert_np.cli.output import new_table, print_json, print_tables, with_progress
from albert_np.cli.texts import texts_of

EXAMPLES = """\
examples:
  $ albert-np fill-mask "The capital of [MASK] is Paris." --top-k 1
  $ albert-np fill-mask --file sentences.txt --model my-albert --json
"""


def add(commands):
    parser = commands.add_parser(
        "fill-mask",
        help="fill in the masked words of a text",
        description="Fill in the masked words of texts. Each [MASK] is filled on its own.",
        epilog=EXAMPLES,
    )
    add_text(parser)
    parser.add_argument(
        "--top-k", type=int, default=5, metavar="K", help="words for each mask (default: 5)"
    )
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options):
    from albert_np.pipelines import predict_masks

    texts = texts_of(options)
    model, tokenizer = load(options, "AlbertForMaskedLM", "AlbertForPreTraining")
    predictions = predict_masks(model, tokenizer, texts, options.top_k)
    results = list(with_progress(predictions, "filling in", len(texts)))
    if options.json:
        print_json([{"text": text, "masks": m} for text, m in zip(texts, results, strict=True)])
        return
    print_tables(_words_table(masks, tokenizer) for masks in results)


def _words_table(masks, tokenizer):
    """The words for each mask of one text."""
    table = new_table("word", "probability>", "sentence")
    for words in masks:
        for word in words:
            sentence = word["sequence"]
            if len(masks) > 1:
                sentence = _without_frame(sentence, tokenizer)
            table.add_row(word["token_str"], f"{word['score']:.2%}", sentence)
        table.add_section()
    return table


def _without_frame(sentence, tokenizer):
    """A sentence whose special tokens were kept for its other masks: those masks alone."""
    mask = tokenizer.mask_token
    sentence = sentence.removeprefix(tokenizer.cls_token).removesuffix(tokenizer.sep_token)
    return sentence.replace(mask, f" {mask}").strip()
