"""A small model with a vocabulary of its own, saved as checkpoints are: what pipelines run on."""

from albert_np import AlbertConfig, AlbertForPreTraining, AlbertTokenizer
from albert_np.training.vocabulary import train_vocabulary

SENTENCES = [
    "The capital of France is Paris.",
    "The capital of Italy is Rome.",
    "A cat is an animal, and so is a dog.",
    "What is red? An apple is red; the sky is blue.",
]
WORDS = ("the", "capital", "of", "france", "is", "paris", "a", "cat", "dog", "red", "sky", ".")
MAX_LENGTH = 128


def save_small_model(directory):
    """Save a random model of pretraining and its vocabulary; weights are large, scores uneven."""
    vocabulary = directory / "spiece.model"
    vocabulary.write_bytes(train_vocabulary(SENTENCES, vocab_size=120))
    tokenizer = AlbertTokenizer(vocabulary)
    config = AlbertConfig(
        vocab_size=len(tokenizer),
        embedding_size=8,
        hidden_size=12,
        num_hidden_layers=4,
        num_hidden_groups=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.5,
    )
    tokenizer.save_pretrained(directory)
    AlbertForPreTraining(config, seed=1).save_pretrained(directory)
    return directory
