"""The model that a command runs, and its tokenizer."""


def saved_class(config):
    """The class that a checkpoint was saved from; AlbertForMaskedLM where it does not say.

    It is the one that leaves no part of the checkpoint out, and invents none.
    """
    import albert_np

    names = [name for name in config.other.get("architectures") or [] if name in albert_np.__all__]
    return getattr(albert_np, names[0]) if names else albert_np.AlbertForMaskedLM


def load(options, *expected, base=False, fast=False):
    """A checkpoint's model and tokenizer.

    Parameters
    ----------
    options : argparse.Namespace
        With what `add_model` reads.
    *expected : str
        The classes that the command can use; none given, it can use all.
    base : bool
        Load the model without its head, whatever that is.
    fast : bool
        Load the tokenizer that knows where in the text its tokens stand.

    Raises
    ------
    ValueError
        If the checkpoint was saved from another class: its head would be made of random numbers.
    """
    import albert_np

    model_class = saved_class(albert_np.AlbertConfig.from_pretrained(options.model))
    if expected and model_class.__name__ not in expected:
        raise ValueError(
            f"{options.model} holds an {model_class.__name__}; this command needs the head of "
            f"{' or '.join(expected)}, in a checkpoint that --model names"
        )
    tokenizer_class = albert_np.AlbertTokenizerFast if fast else albert_np.AlbertTokenizer
    tokenizer = tokenizer_class.from_pretrained(options.model)
    if base:
        return _load_base(options), tokenizer
    return model_class.from_pretrained(options.model, **_how(options)), tokenizer


def _how(options):
    """How the model runs: by the reference, where a command has no choice of a back end."""
    from albert_np import set_threads

    if getattr(options, "threads", None) is not None:
        set_threads(options.threads)
    return {"dtype": options.dtype, "backend": getattr(options, "backend", "numpy")}


def _load_base(options):
    import warnings

    from albert_np import AlbertModel

    with warnings.catch_warnings():
        # That the head's weights are left out is what was asked for.
        warnings.filterwarnings("ignore", message=".*the model has no use for")
        return AlbertModel.from_pretrained(options.model, add_pooling_layer=False, **_how(options))
