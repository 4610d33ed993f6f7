"""Reviews of labels within a budget: by hand, by repeated images, and by random orders."""

import numpy as np
import pytest

from cxrlib.statistics import accuracy, intervals, resampling, review

GIVEN = np.array([1, 1, 0, 0, 0, 0, 1, 0, 0, 0])
TRUTH = np.array([0, 1, 1, 0, 0, 0, 0, 1, 0, 0])  # images 0, 2, 6, 7 are wrong
PRIORITY = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])


def test_by_hand():
    first = review.within(GIVEN, TRUTH, PRIORITY, [0.1, 0.3, 0.7, 1])
    assert first.precision == pytest.approx([1, 2 / 3, 3 / 7, 0.4])
    assert first.missed == pytest.approx([0, 0.1, 0.1, 0.2]) and first.overcalls == pytest.approx(
        [0.1, 0.1, 0.2, 0.2]
    )
    assert first.called == pytest.approx([0.1, 0.2, 0.3, 0.3])
    assert first.ceiling == pytest.approx([1, 1, 4 / 7, 0.4])
    assert first.sensitivity == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert first.ppv == pytest.approx([1 / 2, 2 / 3, 1, 1])
    # of 3 labelled present 2 are wrong, of 7 labelled absent 2
    assert first.same_labels_at_random == pytest.approx([2 / 3, (2 * 2 / 3 + 2 / 7) / 3, (2 + 4 * 2 / 7) / 7, 0.4])


def test_labels_after_a_review_are_those_of_the_mended_labels():
    rng = np.random.default_rng(0)
    given, truth, priority = rng.random(200) < 0.3, rng.random(200) < 0.4, rng.random(200)
    for reads in (10, 50, 200):
        first = review.within(given, truth, priority, [reads / 200])
        again = np.argsort(-priority)[:reads]
        mended = given.copy()
        mended[again] = truth[again]
        rates = accuracy.rates(truth, mended)
        assert first.sensitivity[0] == pytest.approx(rates["sensitivity"])
        assert first.ppv[0] == pytest.approx(rates["ppv"])
        assert first.precision[0] == pytest.approx((given != truth)[again].mean())


def test_equal_priorities_are_the_mean_over_random_orders():
    rng = np.random.default_rng(1)
    priority = np.array([2, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    budgets = [0.2, 0.4, 0.8]
    broken = [review.within(GIVEN, TRUTH, priority + 0.1 * rng.random(10), budgets).precision for _ in range(4000)]
    assert review.within(GIVEN, TRUTH, priority, budgets).precision == pytest.approx(np.mean(broken, 0), abs=0.02)
    assert review.within(GIVEN, TRUTH, np.zeros(10), budgets).precision == pytest.approx([0.4] * 3)
    known = review.within(GIVEN, TRUTH, GIVEN != TRUTH, budgets)
    assert known.precision == pytest.approx(known.ceiling)


def test_replicates_are_what_repeated_images_give():
    rng = np.random.default_rng(2)
    n = 120
    given, truth = rng.random(n) < 0.3, rng.random(n) < 0.3
    priority = rng.integers(0, 40, n).astype(float)
    resamples = resampling.patient_resamples(np.arange(n) // 3, 40, rng)
    budgets = [0.013, 0.25, 0.5, 1]
    got = review.within(given, truth, priority, budgets, resamples)
    for b, weights in enumerate(resamples.weights()):
        again = np.repeat(np.arange(n), weights.astype(int))
        one = review.within(given[again], truth[again], priority[again], budgets)
        for name in ("precision", "missed", "called", "ceiling", "same_labels_at_random", "sensitivity", "ppv"):
            assert getattr(got, name)[b] == pytest.approx(getattr(one, name)), name


def test_intervals_of_precision_cover():
    """40 patients of up to eight images whose errors go together; the truth is that of many patients."""
    rng = np.random.default_rng(3)

    def sample(patients_n):
        size = rng.integers(1, 9, patients_n)
        rate = np.repeat(rng.beta(1, 3, patients_n), size)
        wrong = rng.random(len(rate)) < rate
        given = rng.random(len(rate)) < 0.4
        return given, given ^ wrong, wrong + rng.normal(0, 1, len(rate)), np.repeat(np.arange(patients_n), size)

    given, truth, priority, _ = sample(60_000)
    exact = review.within(given, truth, priority, [0.2]).precision[0]
    inside = 0
    for _ in range(150):
        given, truth, priority, patient = sample(80)
        resamples = resampling.patient_resamples(patient, 200, rng)
        value = review.within(given, truth, priority, [0.2]).precision[0]
        each = review.within(given, truth, priority, [0.2], resamples).precision[:, 0]
        found = intervals.interval(value, each)
        inside += found.low <= exact <= found.high
    assert 0.88 < inside / 150 <= 1


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="fraction of all images"):
        review.within(GIVEN, TRUTH, PRIORITY, [100])
    with pytest.raises(ValueError, match=r"label 0 is -1"):
        review.within(-GIVEN, TRUTH, PRIORITY, [0.5])
    with pytest.raises(ValueError, match="score 0 is NaN"):
        review.within(GIVEN, TRUTH, np.full(10, np.nan), [0.5])
