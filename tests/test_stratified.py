"""Comparisons within strata: pairs by brute force, closed forms, and that knowledge of the stratum scores nothing."""

import numpy as np
import pytest

from cxrlib.statistics import accuracy, resampling, stratified


def by_pairs(label, score, strata):
    """Return the AUC within strata by looking at every pair."""
    won = [
        (score[i] > score[j]) + 0.5 * (score[i] == score[j])
        for i in np.flatnonzero(label)
        for j in np.flatnonzero(label == 0)
        if strata[i] == strata[j]
    ]
    return np.mean(won) if won else np.nan


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_share_of_pairs_of_one_stratum_in_order(seed):
    rng = np.random.default_rng(seed)
    label, score = rng.integers(0, 2, 60), rng.normal(size=60).round(1)
    strata = rng.choice(["a", "b", "c", "alone"], 60, p=[0.4, 0.3, 0.28, 0.02])
    assert stratified.auc_within(label, score, strata) == pytest.approx(by_pairs(label, score, strata))
    assert stratified.auc_within(label, score, np.zeros(60)) == pytest.approx(accuracy.auc(label, score))


def test_resamples_are_copies_of_images():
    rng = np.random.default_rng(2)
    label, score, strata = rng.integers(0, 2, 40), rng.random(40).round(1), rng.integers(0, 3, 40)
    resamples = resampling.patient_resamples(np.repeat(np.arange(20), 2), 15, rng)
    found = stratified.auc_within(label, score, strata, resamples)
    for counts, value in zip(resamples.counts, found, strict=True):
        copies = np.repeat(np.arange(40), counts[resamples.patient].astype(int))
        assert value == pytest.approx(by_pairs(label[copies], score[copies], strata[copies]))


def test_what_is_known_of_the_stratum_scores_nothing():
    """The label follows the stratum, the score is the stratum and noise: 0.83 over all pairs, 0.5 within strata."""
    rng = np.random.default_rng(4)
    strata = rng.integers(0, 2, 20000)
    label = rng.random(20000) < np.where(strata == 1, 0.9, 0.2)
    score = strata + 0.1 * rng.normal(size=20000)
    assert accuracy.auc(label, score) > 0.8
    assert stratified.auc_within(label, score, strata) == pytest.approx(0.5, abs=0.02)


def test_no_pair_is_undefined_and_a_missing_stratum_is_refused():
    assert np.isnan(stratified.auc_within([1, 1, 0], [1, 2, 3], ["a", "a", "b"]))
    with pytest.raises(ValueError, match="3 labels and 2 strata"):
        stratified.auc_within([1, 1, 0], [1, 2, 3], ["a", "a"])


def test_pairs_by_hand():
    label, strata = [1, 1, 0, 1, 0, 0], list("aaabbc")
    assert stratified.pairs_of(label, strata).tolist() == [1, 1, 2, 1, 1, 0]


def test_weights_balance_and_leave_out_what_has_one_class():
    rng = np.random.default_rng(6)
    strata = rng.integers(0, 4, 3000)
    label = rng.random(3000) < np.array([0.2, 0.5, 0.9, 1.0])[strata]
    weights = stratified.balancing_weights(label, strata, np.inf)
    assert stratified.imbalance(label, strata, np.ones(3000)) > 0.4
    assert stratified.imbalance(label, strata, weights) == pytest.approx(0, abs=1e-12)
    assert (weights[strata == 3] == 0).all() and (weights[strata < 3] > 0).all()
    kept = strata < 3
    assert np.average(label[kept], weights=weights[kept]) == pytest.approx(label[kept].mean())  # stabilised
    assert weights[kept].mean() == pytest.approx(1)
    assert stratified.balancing_weights(label, strata, 2.0).max() == 2
    assert not stratified.balancing_weights([1, 1], ["a", "b"], 2.0).any()


def test_effective_number_and_imbalance_by_hand():
    assert stratified.effective_n([1, 1, 1, 0]) == pytest.approx(3)
    assert stratified.effective_n([2, 1, 1]) == pytest.approx(16 / 6)
    assert stratified.effective_n([0, 0]) == 0
    assert stratified.imbalance([1, 0], ["a", "b"], [1, 1]) == 1
    assert np.isnan(stratified.imbalance([1, 1], ["a", "b"], [1, 1]))
