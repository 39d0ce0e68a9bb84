"""`albert-np answer`: the answer to a question, where a text holds it."""

from albert_np.cli.arguments import add_json, add_model
from albert_np.cli.loading import load
from albert_np.cli.output import new_table, print_json, print_tables, with_progress
from albert_np.cli.texts import decoded, lines_of, parsed

EXAMPLES = """\
examples:
  $ albert-np answer "Where is Paris?" --context "Paris is in France." --model my-squad
  $ albert-np answer "Who?" "When?" --context-file article.txt --model my-squad --top-k 3
  $ albert-np answer --file questions.jsonl --model my-squad --json
"""


def add(commands):
    parser = commands.add_parser(
        "answer",
        help="find the answer to a question in a text",
        description="Find the answers to questions in a text. A text that is too long for the\n"
        "model is read in parts that overlap.",
        epilog=EXAMPLES,
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="of the one context")
    context = parser.add_mutually_exclusive_group()
    context.add_argument("--context", metavar="TEXT", help="what holds the answers")
    context.add_argument("--context-file", metavar="FILE", help="a file that holds the answers")
    parser.add_argument(
        "--file",
        help='without QUESTION: a file of JSON lines {"question": …, "context": …}; - or nothing '
        "is standard input",
    )
    parser.add_argument(
        "--top-k", type=int, default=1, metavar="K", help="answers to give (default: 1)"
    )
    parser.add_argument(
        "--max-answer-len", type=int, default=15, metavar="N", help="in tokens (default: 15)"
    )
    parser.add_argument(
        "--max-seq-len", type=int, metavar="N", help="tokens that the model reads at a time"
    )
    parser.add_argument(
        "--doc-stride", type=int, metavar="N", help="tokens that two parts of a text share"
    )
    parser.add_argument(
        "--handle-impossible-answer",
        action="store_true",
        help="the answer may be that there is none: an empty one",
    )
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options):
    from albert_np.pipelines import predict_answers

    records = _records(options)
    model, tokenizer = load(options, "AlbertForQuestionAnswering", fast=True)
    predictions = predict_answers(
        model,
        tokenizer,
        [record["question"] for record in records],
        [record["context"] for record in records],
        top_k=options.top_k,
        doc_stride=options.doc_stride,
        max_answer_len=options.max_answer_len,
        max_seq_len=options.max_seq_len,
        handle_impossible_answer=options.handle_impossible_answer,
    )
    results = list(with_progress(predictions, "answering", len(records)))
    if options.json:
        print_json(
            [
                {"question": record["question"], "answers": answers}
                for record, answers in zip(records, results, strict=True)
            ]
        )
        return
    print_tables(map(_table, records, results))


def _records(options):
    """Questions with their contexts: arguments, or the lines of a file or of standard input."""
    context_given = options.context is not None or options.context_file is not None
    if bool(options.questions) != context_given:
        missing = "--context or --context-file" if options.questions else "QUESTION"
        raise ValueError(f"no {missing} is given; a question and a context go together")
    if options.questions and options.file is not None:
        raise ValueError("both QUESTION and --file are given; expected one of them")
    if options.questions:
        context = options.context
        if options.context_file is not None:
            with open(options.context_file, "rb") as file:
                context = decoded(options.context_file, file.read())
        options.places = [f"QUESTION {place}" for place in range(1, len(options.questions) + 1)]
        return [{"question": question, "context": context} for question in options.questions]
    line = '{"question": …, "context": …}'
    name, lines = lines_of(options.file, "QUESTION and --context", line)
    options.places = [f"{name}, line {number}" for number, _ in lines]
    return [parsed(name, number, line, ("question", "context")) for number, line in lines]


def _table(record, answers):
    table = new_table("answer", "score>", "start>", "end>", "question")
    for answer in answers:
        text = answer["answer"] or "(none)"
        start, end = str(answer["start"]), str(answer["end"])
        table.add_row(text, f"{answer['score']:.2%}", start, end, record["question"])
    return table
