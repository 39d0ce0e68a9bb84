"""A made-up release of TensorFlow's: every variable that google-research/albert writes."""

import json

import numpy as np


def release_arrays(config, generator, optimizer=True):
    """The variables of a pretrained model, by the names that modeling.py gives them."""
    E, H, I = config.embedding_size, config.hidden_size, config.intermediate_size  # noqa: E741
    shapes = {
        "bert/embeddings/word_embeddings": (config.vocab_size, E),
        "bert/embeddings/token_type_embeddings": (config.type_vocab_size, E),
        "bert/embeddings/position_embeddings": (config.max_position_embeddings, E),
        "bert/embeddings/LayerNorm/beta": (E,),
        "bert/embeddings/LayerNorm/gamma": (E,),
        "bert/encoder/embedding_hidden_mapping_in/kernel": (E, H),
        "bert/encoder/embedding_hidden_mapping_in/bias": (H,),
        "bert/pooler/dense/kernel": (H, H),
        "bert/pooler/dense/bias": (H,),
        "cls/predictions/transform/dense/kernel": (H, E),
        "cls/predictions/transform/dense/bias": (E,),
        "cls/predictions/transform/LayerNorm/beta": (E,),
        "cls/predictions/transform/LayerNorm/gamma": (E,),
        "cls/predictions/output_bias": (config.vocab_size,),
        "cls/seq_relationship/output_weights": (2, H),
        "cls/seq_relationship/output_bias": (2,),
    }
    for group in range(config.num_hidden_groups):
        for inner in range(config.inner_group_num):
            layer = f"bert/encoder/transformer/group_{group}/inner_group_{inner}"
            for dense, shape in {
                "attention_1/self/query": (H, H),
                "attention_1/self/key": (H, H),
                "attention_1/self/value": (H, H),
                "attention_1/output/dense": (H, H),
                "ffn_1/intermediate/dense": (H, I),
                "ffn_1/intermediate/output/dense": (I, H),
            }.items():
                shapes[f"{layer}/{dense}/kernel"] = shape
                shapes[f"{layer}/{dense}/bias"] = shape[1:]
            for norm in ("LayerNorm", "LayerNorm_1"):
                shapes[f"{layer}/{norm}/beta"] = shapes[f"{layer}/{norm}/gamma"] = (H,)
    if optimizer:
        for name, shape in list(shapes.items()):
            shapes[f"{name}/adam_m"] = shapes[f"{name}/adam_v"] = shape
        shapes["global_step"] = ()
    return {name: generator.normal(size=shape).astype("f4") for name, shape in shapes.items()}


CONFIG_NAMES = (
    "attention_probs_dropout_prob",
    "hidden_dropout_prob",
    "embedding_size",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_hidden_groups",
    "inner_group_num",
    "type_vocab_size",
    "vocab_size",
)


def write_config(directory, config, **changes):
    """albert_config.json, with the keys that the release has."""
    values = {name: getattr(config, name) for name in CONFIG_NAMES}
    values |= {
        "hidden_act": "gelu",
        "net_structure_type": 0,
        "layers_to_keep": [],
        "gap_size": 0,
        "num_memory_blocks": 0,
        "down_scale_factor": 1,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "albert_config.json").write_text(json.dumps(values | changes))


def write_directory(directory, arrays):
    for name, array in arrays.items():
        path = directory / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
    return directory


def write_archive(directory, arrays):
    path = directory / "arrays.npz"
    np.savez(path, **arrays)
    return path
