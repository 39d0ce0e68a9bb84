"""Sentence-order prediction, as section 3.1 of the ALBERT paper has it.

Two segments that follow each other in a document are shown in order (label 0) or swapped (label 1),
each half of the time.
"""

IN_ORDER, SWAPPED = 0, 1


def segment_pair(document, rng):
    """Cut a document in two segments, and swap them half of the time.

    Parameters
    ----------
    document : list of str
        Two sentences or more.
    rng : numpy.random.Generator

    Returns
    -------
    first, second : str
    sentence_order_label : {0, 1}
        0 in order, 1 swapped.
    """
    cut = rng.integers(1, len(document))
    segments = " ".join(document[:cut]), " ".join(document[cut:])
    if rng.random() < 0.5:
        return *segments, IN_ORDER
    return *reversed(segments), SWAPPED


def split_to_fit(document, lengths, room):
    """Cut a document into runs of sentences that fit together in one sequence.

    Parameters
    ----------
    document : list of str
    lengths : list of int
        Tokens of each sentence.
    room : int
        The most tokens of a run. A sentence that is longer than that is a run of its own.

    Returns
    -------
    list of list of str
    """
    runs, left = [], 0
    for sentence, length in zip(document, lengths, strict=True):
        if not runs or length > left:
            runs.append([])
            left = room
        runs[-1].append(sentence)
        left -= length
    return runs
