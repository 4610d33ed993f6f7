"""Retrieval: hand values, brute force over pools and tie orders, scikit-learn's nDCG, and what a resample is of."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from cxrlib.statistics import intervals, resampling, retrieval


def some(q=30, n=12, groups=8, levels=5, seed=1):
    """Scores with ties, and items of which some share a group."""
    rng = np.random.default_rng(seed)
    item_group = rng.integers(0, groups, n)
    own = rng.integers(0, n, q)
    return rng.integers(0, levels, (q, n)).astype(float), item_group[own], item_group, own


# --- ranks ----------------------------------------------------------------------------------------------------


def test_places_by_hand():
    score = np.array([[0.9, 0.5, 0.5, 0.1], [0.2, 0.2, 0.8, 0.3]])
    # item 1 and 3 are the same text; query 0 owns item 1, so item 3 does not count; query 1 owns item 0
    where = retrieval.own_places(score, [1, 0], [0, 1, 2, 1], [1, 0])
    assert where.above.tolist() == [1, 2] and where.tied.tolist() == [1, 1] and where.wrong_n.tolist() == [2, 3]
    assert retrieval.expected_rank(where).tolist() == [2.5, 3.5]
    assert retrieval.hit_probability(where, 2).tolist() == [0.5, 0.0]
    assert retrieval.hit_probability(where, 3).tolist() == [1.0, 0.5]


def brute_force(score, query_group, item_group, own, k, pool_n=None):
    """R@k by every pool and every order of ties."""
    out = []
    for row, group, mine in zip(score, query_group, own, strict=True):
        wrong = np.flatnonzero(item_group != group)
        pools = itertools.combinations(wrong, len(wrong) if pool_n is None else pool_n - 1)
        hits = []
        for pool in pools:
            others = row[list(pool)]
            first, last = (others > row[mine]).sum(), (others >= row[mine]).sum()
            hits.append(np.mean([place < k for place in range(first, last + 1)]))
        out.append(np.mean(hits))
    return np.array(out)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("pool_n", [None, 1, 3, 6])
def test_hit_probability_is_that_of_every_pool_and_every_order(k, pool_n):
    data = some()
    where = retrieval.own_places(*data)
    assert where.tied.max() > 1  # or the ties are not tested
    found = retrieval.hit_probability(where, k, pool_n)
    np.testing.assert_allclose(found, brute_force(*data, k, pool_n), atol=1e-12)


def test_a_score_that_knows_nothing_finds_k_of_p():
    _, query_group, item_group, own = some()
    where = retrieval.own_places(np.zeros((len(own), len(item_group))), query_group, item_group, own)
    for k, pool_n in ((1, 4), (2, 7), (5, 5)):
        np.testing.assert_allclose(retrieval.hit_probability(where, k, pool_n), k / pool_n)
    np.testing.assert_allclose(retrieval.hit_probability(where, 2), 2 / (where.wrong_n + 1))


def test_the_whole_pool_is_the_pool_of_its_size():
    score, query_group, item_group, own = some(groups=12)
    item_group, query_group = np.arange(12), own
    where = retrieval.own_places(score, query_group, item_group, own)
    np.testing.assert_allclose(retrieval.hit_probability(where, 3, 12), retrieval.hit_probability(where, 3))


def test_duplicates_do_not_compete():
    """The same text five times: counted as wrong it would push the own item down."""
    score = np.array([[0.5, 0.9, 0.9, 0.9, 0.9, 0.4]])
    merged = retrieval.own_places(score, [0], [0, 0, 0, 0, 0, 1], [0])
    apart = retrieval.own_places(score, [0], [0, 1, 2, 3, 4, 5], [0])
    assert retrieval.hit_probability(merged, 1) == 1 and retrieval.hit_probability(apart, 1) == 0


def test_vectors_give_what_their_scores_give():
    rng = np.random.default_rng(3)
    queries, items = rng.normal(size=(25, 4)), rng.normal(size=(12, 4))
    _, query_group, item_group, own = some(q=25)
    by_score = retrieval.own_places(queries @ items.T, query_group, item_group, own)
    by_vector = retrieval.own_places_of_vectors(queries, items, query_group, item_group, own, block_n=7)
    assert all((a == b).all() for a, b in zip(by_score, by_vector, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s, q, i, o: (s[:, 1:], q, i, o), "12 items"),
        (lambda s, q, i, o: (np.where(np.arange(len(s))[:, None] == 4, np.nan, s), q, i, o), "query 4 are not all"),
        (lambda s, q, i, o: (s, q + 99, i, o), "query 0 is not of the query's group"),
    ],
)
def test_what_is_wrong_is_said(change, words):
    with pytest.raises(ValueError, match=words):
        retrieval.own_places(*change(*some()))


def test_impossible_pools_are_refused():
    where = retrieval.own_places(*some())
    with pytest.raises(ValueError, match="cannot be drawn"):
        retrieval.hit_probability(where, 1, 13)
    with pytest.raises(ValueError, match="1 or more"):
        retrieval.hit_probability(where, 0)


# --- several right items --------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 4])
def test_any_hit_is_that_of_every_order_of_ties(k):
    rng = np.random.default_rng(5)
    score, right = rng.integers(0, 2, (12, 5)).astype(float), rng.random((12, 5)) < 0.4
    candidates = rng.random((12, 5)) < 0.8
    found = retrieval.any_hit_probability(score, right, k, candidates)
    for q in range(12):
        items = np.flatnonzero(candidates[q])
        orders = [sorted(p, key=lambda i: -score[q, i]) for p in itertools.permutations(items)]
        assert found[q] == pytest.approx(np.mean([right[q, order[:k]].any() for order in orders]) if orders else 0)


def test_any_hit_of_a_random_order_by_hand():
    right = np.zeros((1, 10), bool)
    right[0, :3] = True
    assert retrieval.any_hit_probability(np.zeros((1, 10)), right, 2)[0] == pytest.approx(1 - 7 / 10 * 6 / 9)
    assert retrieval.any_hit_probability(np.zeros((1, 10)), ~right & False, 2)[0] == 0


# --- graded relevance -----------------------------------------------------------------------------------------


def test_ndcg_by_hand():
    found = retrieval.ndcg([[3.0, 2.0, 1.0]], [[0.0, 1.0, 0.5]])[0]
    best = 1 + 0.5 / math.log2(3)
    assert found == pytest.approx((1 / math.log2(3) + 0.5 / 2) / best)
    assert np.isnan(retrieval.ndcg([[1.0, 2.0]], [[0.0, 0.0]])[0])


def test_ndcg_is_scikit_learns_with_ties():
    rng = np.random.default_rng(2)
    score, gain = rng.integers(0, 3, (20, 15)).astype(float), rng.random((20, 15))
    found = retrieval.ndcg(score, gain)
    for q in range(20):
        assert found[q] == pytest.approx(ndcg_score(gain[q : q + 1], score[q : q + 1]))


def test_label_overlap_by_hand():
    overlap = retrieval.label_overlap([[1, 1, 0], [0, 0, 0]], [[1, 0, 0], [0, 0, 0], [1, 1, 1]])
    np.testing.assert_allclose(overlap, [[1 / 2, 0, 2 / 3], [0, 1, 0]])


# --- texts ----------------------------------------------------------------------------------------------------


def test_duplicate_groups_see_through_case_space_and_punctuation():
    texts = ["No effusion.", "no  EFFUSION", "No, effusion!", "Small effusion.", "no effusion\n"]
    assert retrieval.duplicate_groups(texts).tolist() == [0, 0, 0, 1, 0]


def test_first_of_each():
    first, which = retrieval.first_of_each([7, 3, 7, 9, 3])
    assert first.tolist() == [0, 1, 3] and which.tolist() == [0, 1, 0, 2, 1]


# --- resamples ------------------------------------------------------------------------------------------------


def test_a_patients_queries_go_together():
    """Twenty patients of ten queries each, all alike: the interval is that of twenty patients, not of 200 images."""
    rng = np.random.default_rng(1)
    value = np.repeat(rng.integers(0, 2, 20), 10).astype(float)
    by_patient = resampling.patient_resamples(np.repeat(np.arange(20), 10), 2000, np.random.default_rng(1))
    by_query = resampling.patient_resamples(np.arange(200), 2000, np.random.default_rng(1))
    wide, narrow = (intervals.mean(value, r) for r in (by_patient, by_query))
    assert (wide.high - wide.low) > 2 * (narrow.high - narrow.low)


def test_median_in_resamples_is_numpys_lower_median():
    rng = np.random.default_rng(4)
    values = rng.integers(0, 30, 40).astype(float)
    resamples = resampling.patient_resamples(np.arange(40) // 2, 50, rng)
    found = retrieval.median(values, resamples)
    for b in range(50):
        drawn = np.repeat(values, resamples.counts[b][resamples.patient].astype(int))
        assert found[b] == np.percentile(drawn, 50, method="inverted_cdf")
    assert retrieval.median(values) == np.percentile(values, 50, method="inverted_cdf")
