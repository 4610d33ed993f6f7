"""Retrieval: where the right item stands among all, and what follows from it, query by query.

A query has one item of its own: an image its report, a report its image. Items of the query's group (the same text
after normalisation) are as right as its own and do not compete with it: they are left out of its pool, which holds
the query's own item and every item of another group. Ties are counted in expectation over a random order of the tied
items. So a score that knows nothing finds the item among the first K of p with a probability of exactly K / p.

    where = own_places(score, query_group, item_group, own)
    hit_probability(where, 5)                 # (q,), of each query: R@5 is the mean
    hit_probability(where, 5, pool_n=50)      # expected over random pools of 50, exact

All measures return one value a query, so that intervals resample patients, each with all of its queries
(`intervals.mean`). The pool stays as it is: such an interval holds for other patients who ask the same pool, and
`pool_n` says what another pool, smaller, would do on average.
"""

import re
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln
from scipy.stats import hypergeom

_NOT_WORD = re.compile(r"[^\w]+")


class Places(NamedTuple):
    """Where each query's own item stands in its pool.

    Attributes
    ----------
    above : (q,) int64
        Wrong items with a higher score.
    tied : (q,) int64
        Wrong items with the same score.
    wrong_n : (q,) int64
        Wrong items in the pool.
    """

    above: np.ndarray
    tied: np.ndarray
    wrong_n: np.ndarray


def duplicate_groups(texts):
    """Return which texts are the same after normalisation, (n,) int64, numbered in the order of appearance.

    Normalised is the text in lower case with every run of white space and punctuation as one space.
    """
    seen = {}
    return np.array([seen.setdefault(_NOT_WORD.sub(" ", t.lower()).strip(), len(seen)) for t in texts], np.int64)


def first_of_each(group):
    """Return the position of the first member of each group, and of which of those each member is, both int64.

    With `duplicate_groups` the first are the distinct texts: the items of a pool in which each text stands once.
    """
    _, first, which = np.unique(np.asarray(group), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return first[order].astype(np.int64), back[which]


def own_places(score, query_group, item_group, own):
    """Return where each query's own item stands.

    Parameters
    ----------
    score : (q, n) float
        Higher is nearer.
    query_group, item_group : (q,), (n,) array
        A query's own item has the query's group; other items of that group are left out of its pool.
    own : (q,) int
        Which item is the query's own.

    Returns
    -------
    Places

    Raises
    ------
    ValueError
        If shapes disagree, a score is NaN, or an own item is of another group.
    """
    score = np.asarray(score)
    query_group, item_group, own = np.asarray(query_group), np.asarray(item_group), np.asarray(own)
    if score.shape != (len(query_group), len(item_group)) or len(own) != len(query_group):
        raise ValueError(f"Scores {score.shape} of {len(query_group)} queries and {len(item_group)} items.")
    if np.isnan(score).any():
        raise ValueError(f"The scores of query {int(np.isnan(score).any(1).argmax())} are not all numbers.")
    other = item_group[own] != query_group
    if other.any():
        raise ValueError(f"The own item of query {int(other.argmax())} is not of the query's group.")
    wrong = item_group[None, :] != query_group[:, None]
    at = np.take_along_axis(score, own[:, None], axis=1)
    return Places((wrong & (score > at)).sum(1), (wrong & (score == at)).sum(1), wrong.sum(1))


def own_places_of_vectors(queries, items, query_group, item_group, own, block_n=1024):
    """Return `own_places` by the inner product of vectors, `block_n` queries at a time.

    Parameters
    ----------
    queries, items : (q, d), (n, d) float
        Of length 1 for the cosine.
    query_group, item_group, own
        As in `own_places`.
    block_n : int
        Memory holds a block of `block_n` by n scores.
    """
    query_group, own = np.asarray(query_group), np.asarray(own)
    parts = [
        own_places(queries[k : k + block_n] @ items.T, query_group[k : k + block_n], item_group, own[k : k + block_n])
        for k in range(0, len(queries), block_n)
    ]
    return Places(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def expected_rank(where):
    """Return the expected rank of each query's own item, (q,) float64, 1 is first: ties stand at their mean."""
    return 1.0 + where.above + where.tied / 2


def hit_probability(where, k, pool_n=None):
    """Return the probability that each query's own item is among the first k, (q,) float64 in [0, 1].

    Of the whole pool it is over the order of ties. Of random pools, that hold the own item and `pool_n - 1` of the
    wrong ones drawn without replacement, the number of drawn items above it is hypergeometric, so that

        R@k(p) = 1 / (t + 1) * sum_{j=0..t} P(X_j < k),  X_j ~ Hypergeometric(w, a + j, p - 1)

    with a items above, t tied and w wrong ones in all.

    Parameters
    ----------
    where : Places
    k : int
        1 or more.
    pool_n : int, optional
        The whole pool if not given.

    Raises
    ------
    ValueError
        If k is below 1, or a pool has fewer than `pool_n` items.
    """
    if k < 1:
        raise ValueError(f"k is {k}: the first 1 or more are looked at.")
    above, tied, wrong_n = (np.asarray(part, np.int64) for part in where)
    if pool_n is None:
        return np.clip(k - above, 0, tied + 1) / (tied + 1)
    if pool_n < 1 or (len(wrong_n) and pool_n > wrong_n.min() + 1):
        raise ValueError(f"A pool of {pool_n} items cannot be drawn: the smallest pool has {wrong_n.min() + 1}.")
    out = np.empty(len(above))
    for w in np.unique(wrong_n):
        chosen = wrong_n == w
        hit = hypergeom.cdf(k - 1, w, np.arange(w + 1), pool_n - 1) if w else np.ones(1)
        summed = np.r_[0.0, np.cumsum(hit)]
        a, t = above[chosen], tied[chosen]
        out[chosen] = (summed[a + t + 1] - summed[a]) / (t + 1)
    return np.clip(out, 0.0, 1.0)


def any_hit_probability(score, right, k, candidates=None):
    """Return the probability that any right item is among the first k of each query, (q,) float64 in [0, 1].

    For items of which several can be right, such as words. Of tied items r right and w wrong ones in a random order
    the first m hold none that is right with probability C(w, m) / C(w + r, m).

    Parameters
    ----------
    score : (q, n) float
    right : (q, n) bool
    k : int
    candidates : (q, n) bool, optional
        Which items a query may find; all if not given. Without a right one the probability is 0.
    """
    score, right = np.asarray(score, float), np.asarray(right, bool)
    candidates = np.ones(score.shape, bool) if candidates is None else np.asarray(candidates, bool)
    right = right & candidates
    best = np.where(right, score, -np.inf).max(1)
    tied = candidates & (score == best[:, None])
    above = (candidates & (score > best[:, None])).sum(1)
    all_n, wrong_n = tied.sum(1), (tied & ~right).sum(1)
    left = np.clip(k - above, 0, all_n)
    with np.errstate(invalid="ignore"):
        none = np.exp(_log_choose(wrong_n, left) - _log_choose(all_n, left))
    none = np.where(left > wrong_n, 0.0, none)
    return np.where(right.any(1), 1 - none, 0.0)


def _log_choose(n, m):
    return gammaln(n + 1) - gammaln(m + 1) - gammaln(np.maximum(n - m, 0) + 1)


def ndcg(score, gain):
    """Return the normalised discounted cumulative gain of each query's whole ranking, (q,) float64 in [0, 1].

    Järvelin and Kekäläinen, ACM TOIS 2002;20:422, with linear gain and the discount 1 / log2(rank + 1); tied items
    share the mean of their discounts (McSherry and Najork, ECIR 2008). NaN where no item has any gain.

    Parameters
    ----------
    score : (q, n) float
    gain : (q, n) float
        How relevant each item is, 0 or more.
    """
    score, gain = np.asarray(score, float), np.asarray(gain, float)
    discount = 1 / np.log2(np.arange(2, score.shape[1] + 2))
    summed = np.r_[0.0, np.cumsum(discount)]
    best = np.sort(gain, axis=1)[:, ::-1] @ discount
    gained = np.empty(len(score))
    for q, (row, relevant) in enumerate(zip(score, gain, strict=True)):
        order = np.argsort(-row)
        starts = np.r_[0, np.flatnonzero(np.diff(row[order])) + 1]
        if len(starts) == len(row):  # no ties
            gained[q] = relevant[order] @ discount
            continue
        ends = np.r_[starts[1:], len(row)]
        shared = (summed[ends] - summed[starts]) / (ends - starts)
        gained[q] = np.add.reduceat(relevant[order], starts) @ shared
    with np.errstate(invalid="ignore", divide="ignore"):
        return gained / best


def label_overlap(first, second):
    """Return the Jaccard index of every two sets of findings, (q, n) float64 in [0, 1]; 1 where both are empty.

    Parameters
    ----------
    first, second : (q, f), (n, f) bool
        Which findings are in each set.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    both = first @ second.T
    either = first.sum(1)[:, None] + second.sum(1)[None, :] - both
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def median(values, resamples=None):
    """Return the median of one value a query, or in each resample of patients, (b,) float64.

    The lower median: the smallest value that at least half of the queries do not exceed.

    Parameters
    ----------
    values : (q,) float
    resamples : Resamples, optional
        Of the same queries.
    """
    values = np.asarray(values, float)
    order = np.argsort(values, kind="stable")
    if resamples is None:
        return float(values[order[(len(values) - 1) // 2]])
    weight = np.cumsum(resamples.weights(order), axis=1)
    return values[order[np.argmax(weight >= weight[:, -1:] / 2, axis=1)]]
