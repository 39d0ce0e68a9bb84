"""`albert-np pretrain`: a model from nothing."""

from albert_np.cli.arguments import filled

EXAMPLES = """\
examples:
  $ albert-np pretrain --tiny --output my-tiny
  $ albert-np pretrain stories.txt --output my-albert --steps 2000
"""


def add(commands):
    parser = commands.add_parser(
        "pretrain",
        help="pretrain a model from nothing",
        description="Pretrain a model from nothing, by masked words and the order of sentences:\n"
        "the small model that ships (--tiny), or one on a text file of your own.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "file",
        nargs="?",
        type=filled,
        metavar="FILE",
        help="a text of one sentence a line, with blank lines between documents",
    )
    parser.add_argument("--tiny", action="store_true", help="rebuild the small model that ships")
    parser.add_argument(
        "--output", type=filled, required=True, metavar="DIR", help="where the model is saved"
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="batches to learn from (default: 1000; 21000 with --tiny)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="sequences of a batch (default: 32; 16 with --tiny)",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="X",
        help="the highest one: it rises, then falls (default: 0.001; 0.0015 with --tiny)",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="draws the weights and the batches (default: 0)"
    )
    parser.add_argument(
        "--vocabulary",
        type=filled,
        metavar="FILE",
        help="a spiece.model; by default one is trained on the text",
    )
    parser.set_defaults(run=run)


def run(options):
    if options.tiny == (options.file is not None):
        given = "both" if options.tiny else "neither"
        raise ValueError(f"{given} of FILE and --tiny given; expected one of them")
    if options.tiny and options.vocabulary is not None:
        raise ValueError("both --tiny and --vocabulary given; the tiny recipe trains its own")
    settings = {
        name: getattr(options, name)
        for name in ("steps", "batch_size", "learning_rate", "seed", "vocabulary")
        if getattr(options, name) is not None
    }
    if options.tiny:
        from albert_np.training.tiny import pretrain_tiny

        *_, accuracies = pretrain_tiny(options.output, **settings)
        print(f"held-out words filled in right: {accuracies['held_out']:.1%}")
        print(f"orders of sentences told right: {accuracies['sentence_order']:.1%}")
    else:
        from albert_np.training.text import pretrain_text

        pretrain_text(options.file, options.output, **settings)
    print(f"the model, its loss curve (loss.png) and its log are in {options.output}")
