"""Self-attention that also sees how far apart query and key lie.

Each distance i − j has a vector, a row of an embedding. Queries meet it as they meet the keys
(`relative_key`, Shaw et al. 2018); or keys meet it too (`relative_key_query`, "method 4" of Huang
et al. 2020).
"""

from typing import NamedTuple

import numpy as np

from albert_np.functions import calling
from albert_np.functions.accumulate import add_gradients
from albert_np.functions.attention import (
    AttendCache,
    Heads,
    ScoresCache,
    attend_backward,
    attend_forward,
    attention_scores_backward,
    attention_scores_forward,
    split_heads_backward,
    split_heads_forward,
)
from albert_np.functions.bias import add_backward, add_forward
from albert_np.functions.embedding import embedding_backward, embedding_forward


class DistanceScoresCache(NamedTuple):
    x: object  # query or key, (B, A, S, D)
    distances: object  # (S, S, D)


class RelativeAttentionCache(NamedTuple):
    distances: object
    scores: ScoresCache
    query_distance_scores: DistanceScoresCache
    key_distance_scores: object  # None where keys do not meet the distances
    attend: AttendCache

    @property
    def probabilities(self):
        """The probabilities as they met the values, (B, A, S, S)."""
        return self.attend.context.probabilities


def distance_ids(sequence_length, max_position_embeddings, like=None):
    """The row of the distance embedding for each query i and key j.

        r_ij = i − j + max_position_embeddings − 1

    Parameters
    ----------
    sequence_length : int
        S, at most max_position_embeddings.
    max_position_embeddings : int
    like : array, optional
        Of the library that the result is to be of.

    Returns
    -------
    integer array, shape (S, S)
    """
    positions = np.arange(sequence_length, like=like)
    return positions[:, None] - positions + (max_position_embeddings - 1)


def query_distance_scores_forward(query, distances):
    """How well each query meets its distance to each key. Unlike q kᵀ, not divided by √D.

        s_ij = Σ_d q_id a_ijd

    Parameters
    ----------
    query : array, shape (B, A, S, D)
    distances : array, shape (S, S, D)

    Returns
    -------
    scores : array, shape (B, A, S, S)
    cache : DistanceScoresCache
    """
    return np.einsum("baid,ijd->baij", query, distances), DistanceScoresCache(query, distances)


def query_distance_scores_backward(dscores, cache):
    """Backward pass of `query_distance_scores_forward`.

        dq_id = Σ_j ds_ij a_ijd          da_ijd = Σ_ba ds_ij q_id

    Parameters
    ----------
    dscores : array, shape (B, A, S, S)
    cache : DistanceScoresCache

    Returns
    -------
    dquery : array, shape (B, A, S, D)
    ddistances : array, shape (S, S, D)
    """
    query, distances = cache
    dquery = np.einsum("baij,ijd->baid", dscores, distances)
    return dquery, np.einsum("baij,baid->ijd", dscores, query)


def key_distance_scores_forward(key, distances):
    """How well each key meets its distance to each query. Unlike q kᵀ, not divided by √D.

        s_ij = Σ_d k_jd a_ijd

    Parameters
    ----------
    key : array, shape (B, A, S, D)
    distances : array, shape (S, S, D)

    Returns
    -------
    scores : array, shape (B, A, S, S)
    cache : DistanceScoresCache
    """
    return np.einsum("bajd,ijd->baij", key, distances), DistanceScoresCache(key, distances)


def key_distance_scores_backward(dscores, cache):
    """Backward pass of `key_distance_scores_forward`.

        dk_jd = Σ_i ds_ij a_ijd          da_ijd = Σ_ba ds_ij k_jd

    Parameters
    ----------
    dscores : array, shape (B, A, S, S)
    cache : DistanceScoresCache

    Returns
    -------
    dkey : array, shape (B, A, S, D)
    ddistances : array, shape (S, S, D)
    """
    key, distances = cache
    dkey = np.einsum("baij,ijd->bajd", dscores, distances)
    return dkey, np.einsum("baij,bajd->ijd", dscores, key)


def relative_attention_forward(
    query_key_value,
    num_attention_heads,
    distance_embedding,
    keys_too,
    attention_mask=None,
    dropout=None,
    head_mask=None,
    call=calling.call,
):
    """Self-attention with scores for the distance between query and key.

        s_ij = q_i·k_j / √D + q_i·a_ij (+ k_j·a_ij),   a_ij = W[i − j + M − 1]

    then `attend_forward`. Only the first term is divided by √D, as in Hugging Face's class; Shaw
    et al. divide all.

    Parameters
    ----------
    query_key_value : array, shape (B, S, 3·A·D)
    num_attention_heads : int
        A.
    distance_embedding : array, shape (2M − 1, D)
        For the distances from 1 − M to M − 1, where M is max_position_embeddings, at least S.
    keys_too : bool
        Whether keys meet the distances too (`relative_key_query`), or queries alone
        (`relative_key`).
    attention_mask, dropout, head_mask, call
        See `attention_forward`.

    Returns
    -------
    context : array, shape (B, S, A·D)
    cache : RelativeAttentionCache
    """
    heads, _ = call("split_heads", split_heads_forward, query_key_value, num_attention_heads)
    ids = distance_ids(
        query_key_value.shape[1], (distance_embedding.shape[0] + 1) // 2, like=query_key_value
    )
    distances, distances_cache = call(
        "distance_embedding", embedding_forward, ids, distance_embedding
    )
    scores, scores_cache = call("scores", attention_scores_forward, heads.query, heads.key)
    by_query, query_cache = call(
        "query_distance_scores", query_distance_scores_forward, heads.query, distances
    )
    scores, _ = call("add_query_distance_scores", add_forward, scores, by_query)
    key_cache = None
    if keys_too:
        by_key, key_cache = call(
            "key_distance_scores", key_distance_scores_forward, heads.key, distances
        )
        scores, _ = call("add_key_distance_scores", add_forward, scores, by_key)
    context, attend_cache = attend_forward(
        scores, heads.value, attention_mask, dropout, head_mask, call
    )
    return context, RelativeAttentionCache(
        distances_cache, scores_cache, query_cache, key_cache, attend_cache
    )


def relative_attention_backward(
    dcontext,
    cache,
    dprobabilities=None,
    into=None,
    call=calling.call,
    add_up_distances=embedding_backward,
):
    """Backward pass of `relative_attention_forward`, bottom to top.

    Parameters
    ----------
    dcontext : array, shape (B, S, A·D)
    cache : RelativeAttentionCache
    dprobabilities : array, shape (B, A, S, S), optional
        A gradient that the probabilities, as they met the values, have from elsewhere.
    into : (array (2M − 1, D),), optional
        The slot that ddistance_embedding is added to, in place.
    call : callable, optional
    add_up_distances : callable, optional
        The backward pass of the lookup of distances: a back end's own embedding's.

    Returns
    -------
    dquery_key_value : array, shape (B, S, 3·A·D)
    ddistance_embedding : array, shape (2M − 1, D)
    """
    dscores, dvalue = attend_backward(dcontext, cache.attend, dprobabilities, call)
    dkey_by_distance = ddistances_by_key = None
    if cache.key_distance_scores is not None:
        dscores, dby_key = call("add_key_distance_scores", add_backward, dscores, None)
        dkey_by_distance, ddistances_by_key = call(
            "key_distance_scores", key_distance_scores_backward, dby_key, cache.key_distance_scores
        )
    dscores, dby_query = call("add_query_distance_scores", add_backward, dscores, None)
    dquery_by_distance, ddistances = call(
        "query_distance_scores",
        query_distance_scores_backward,
        dby_query,
        cache.query_distance_scores,
    )
    dquery, dkey = call("scores", attention_scores_backward, dscores, cache.scores)
    ddistance_embedding = call(
        "distance_embedding",
        add_up_distances,
        add_gradients(ddistances, ddistances_by_key),
        cache.distances,
        into=into,
    )
    dheads = Heads(dquery + dquery_by_distance, add_gradients(dkey, dkey_by_distance), dvalue)
    return call("split_heads", split_heads_backward, dheads, None), ddistance_embedding
