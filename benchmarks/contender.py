"""A contender: a process of its own, which does one piece of work each time it is told to.

    python -m benchmarks.contender '{"implementation": "albert_np", "work": "forward", ...}'

It reads one command a line (`check FILE`, `turn`), answers each with a line of JSON, and ends with
its input. `turns.py` holds the other end.
"""

import json
import os
import sys
import time
from collections import Counter
from functools import partial

import numpy as np

from benchmarks.resident import peak_bytes, reset_peak, resident_bytes

# OpenBLAS's threads keep their cores busy for up to 0.1 s after a product, waiting for the next
# (torch's for 2 ms; both measured). A turn ends when they sleep, lest they disturb the next one's.
SETTLING_SECONDS = 0.3


def albert_np_forward(directory, batch, dtype):
    """AlbertModel of this project: returns the work, a function without arguments."""
    from albert_np import AlbertModel

    model = AlbertModel.from_pretrained(directory, dtype=dtype)

    def work():
        outputs = model(input_ids=batch["input_ids"])
        return dict(zip(outputs.keys(), outputs.to_tuple(), strict=True))

    return work


def albert_np_forward_backward(directory, batch, dtype):
    """AlbertForMaskedLM of this project, its loss and gradients."""
    from albert_np import AlbertForMaskedLM

    model = AlbertForMaskedLM.from_pretrained(directory, dtype=dtype)

    def work():
        loss, gradients = model.loss_and_gradients(**batch)
        return {"loss": loss, **gradients.parameters}

    return work


def transformers_forward(directory, batch, dtype):
    """AlbertModel of transformers, with its default attention."""
    import torch
    from transformers import AlbertModel

    model = AlbertModel.from_pretrained(directory, dtype=getattr(torch, dtype)).eval()
    input_ids = torch.from_numpy(batch["input_ids"])

    def work():
        with torch.no_grad():
            outputs = model(input_ids=input_ids)
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return work


def transformers_forward_backward(directory, batch, dtype):
    """AlbertForMaskedLM of transformers: zero_grad, forward, backward."""
    import torch
    from transformers import AlbertForMaskedLM

    model = AlbertForMaskedLM.from_pretrained(directory, dtype=getattr(torch, dtype)).eval()
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}

    def work():
        model.zero_grad()
        loss = model(**tensors).loss
        loss.backward()
        gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
        return {"loss": loss.detach().numpy(), **gradients}

    return work


def forward_products(config, batch_size, sequence_length, labelled=None):
    """The matrix products of one forward pass: the shapes of their factors.

    Parameters
    ----------
    config : AlbertConfig
    batch_size, sequence_length : int
    labelled : int, optional
        Of AlbertForMaskedLM with this many labelled positions, as far as its loss needs them; by
        default of AlbertModel.

    Returns
    -------
    products : list of (shape, shape)
    """
    B, S, V = batch_size, sequence_length, config.vocab_size
    E, H, I = config.embedding_size, config.hidden_size, config.intermediate_size  # noqa: E741
    A = config.num_attention_heads
    T, D = B * S, H // A
    layer = [
        ((T, H), (H, 3 * H)),  # query, key and value
        ((B * A, S, D), (B * A, D, S)),  # scores
        ((B * A, S, S), (B * A, S, D)),  # context
        ((T, H), (H, H)),
        ((T, H), (H, I)),
        ((T, I), (I, H)),
    ]
    pooler = [((B, H), (H, H))]
    head = [((labelled, H), (H, E)), ((labelled, E), (E, V))]
    repetitions = config.num_hidden_layers * config.inner_group_num
    return [((T, E), (E, H))] + layer * repetitions + (pooler if labelled is None else head)


def backward_products(products):
    """Each product y = a b has two in its backward pass: da = dy bᵀ and db = aᵀ dy."""
    for (*batch, m, k), (*_, n) in products:
        yield (*batch, m, n), (*batch, n, k)
        yield (*batch, k, m), (*batch, m, n)


def floating_point_operations(products):
    """Multiplications and additions, counted apart: 2 m k n for (m, k) @ (k, n)."""
    return sum(2 * int(np.prod(left)) * right[-1] for left, right in products)


def needed_products(work, config, batch):
    """The matrix products that a piece of work cannot do without."""
    B, S = batch["input_ids"].shape
    if work == "forward":
        return forward_products(config, B, S)
    forward = forward_products(config, B, S, labelled=int((batch["labels"] >= 0).sum()))
    return [*forward, *backward_products(forward)]


def matmul(work, directory, batch, dtype):
    """The roof: the needed products and nothing else, into memory that is already there."""
    from albert_np import AlbertConfig

    products = needed_products(work, AlbertConfig.from_pretrained(directory), batch)
    generator = np.random.default_rng(0)
    operations = floating_point_operations(products)
    prepared = []
    for (left, right), count in Counter(products).items():
        a, b = (generator.standard_normal(shape).astype(dtype) for shape in (left, right))
        prepared.append((a, b, a @ b, count))

    def work():
        for a, b, out, count in prepared:
            for _ in range(count):
                np.matmul(a, b, out=out)
        return {"floating_point_operations": np.array(operations)}

    return work


WORK = {
    ("albert_np", "forward"): albert_np_forward,
    ("albert_np", "forward_backward"): albert_np_forward_backward,
    ("transformers", "forward"): transformers_forward,
    ("transformers", "forward_backward"): transformers_forward_backward,
    ("matmul", "forward"): partial(matmul, "forward"),
    ("matmul", "forward_backward"): partial(matmul, "forward_backward"),
}


def prepare(implementation, work, directory, batch, dtype):
    """Load what a piece of work needs, and return it as a function without arguments."""
    with np.load(batch) as arrays:
        batch = dict(arrays)
    return WORK[implementation, work](directory, batch, dtype)


def check(work, file):
    """Do the work for the first time, watch its memory, and write what it returns to `file`."""
    reset_peak()
    resident = resident_bytes()
    outputs = work()
    answer = {"resident_bytes": resident, "peak_bytes": peak_bytes()}
    np.savez(file, **outputs)
    return answer


def turn(work):
    """Do the work once. In seconds: how long it took."""
    start = time.perf_counter()
    outputs = work()
    seconds = time.perf_counter() - start
    del outputs
    time.sleep(SETTLING_SECONDS)
    return {"seconds": seconds}


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes elsewhere
    settings = json.loads(sys.argv[1])
    threads = settings.pop("threads")
    if settings["implementation"] == "transformers":
        import torch

        torch.set_num_threads(threads)
    work = prepare(**settings)
    idle_since = time.process_time()
    for command in sys.stdin:
        name, *arguments = command.rstrip("\n").split(" ", 1)
        idle_cpu_seconds = time.process_time() - idle_since
        answer = {"check": check, "turn": turn}[name](work, *arguments)
        print(json.dumps(answer | {"idle_cpu_seconds": idle_cpu_seconds}), file=answers)
        idle_since = time.process_time()


if __name__ == "__main__":
    main()
