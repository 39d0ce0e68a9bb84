"""Step 5: ids are framed, cut to length and padded."""


def framed(first, second, cls_token_id, sep_token_id):
    """`[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]`, as a list of ids."""
    ids = [cls_token_id, *first, sep_token_id]
    if second is not None:
        ids += [*second, sep_token_id]
    return ids


def token_types(first, second):
    """0 for `[CLS] A [SEP]`, 1 for `B [SEP]`."""
    types = [0] * (len(first) + 2)
    if second is not None:
        types += [1] * (len(second) + 1)
    return types


def frame_mask(first, second):
    """1 for a special token of the frame, 0 for a token of a text."""
    mask = [1] + [0] * len(first) + [1]
    if second is not None:
        mask += [0] * len(second) + [1]
    return mask


def truncated(first, second, room, truncation):
    """Cut two sequences of ids to `room` ids in all.

    Parameters
    ----------
    first : list of int
    second : list of int or None
    room : int
    truncation : Truncation

    Returns
    -------
    first, second : list of int
    overflowing : list of int
        What was cut off, and `stride` ids beside it that stay.

    Raises
    ------
    ValueError
        If the text that is to give way would have nothing left.
    """
    excess = len(first) + len(second or []) - room
    if excess <= 0:
        return first, second, []
    side, kept_side = truncation.side, "left" if truncation.side == "right" else "right"
    if truncation.strategy == "longest_first" and second is not None:
        # The longer gives way until both are equally long, then both do, in turn; the first keeps
        # the odd one.
        keep = min(len(second), max(room // 2, room - len(first)))
        return _end(first, room - keep, kept_side), _end(second, keep, kept_side), []
    is_second = truncation.strategy == "only_second"
    shortened = (second or []) if is_second else first
    keep = len(shortened) - excess
    if keep <= 0:
        raise ValueError(
            f"truncation would have to remove {excess} tokens from the "
            f"{'second' if is_second else 'first'} text, "
            f"which has {len(shortened)}, and must leave one"
        )
    overflowing = _end(shortened, min(len(shortened), excess + truncation.stride), side)
    kept = _end(shortened, keep, kept_side)
    return (first, kept, overflowing) if is_second else (kept, second, overflowing)


def _end(ids, count, side):
    """The first or the last `count` ids."""
    return ids[:count] if side == "left" else ids[len(ids) - count :]


def padded(rows, length, side, pad_token_id):
    """Fill rows up to a length.

    Parameters
    ----------
    rows : dict of str to list of list of int
        Those of other names than a model's inputs are left as they are.
    length : int
        Longer rows are left as they are too.
    side : {"right", "left"}
    pad_token_id : int
    """
    fill = {
        "input_ids": pad_token_id,
        "token_type_ids": 0,
        "attention_mask": 0,
        "special_tokens_mask": 1,
    }
    return {
        name: [_filled(row, length, side, fill[name]) for row in values] if name in fill else values
        for name, values in rows.items()
    }


def _filled(row, length, side, value):
    filling = [value] * (length - len(row))
    return row + filling if side == "right" else filling + row
