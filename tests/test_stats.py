"""Statistics against sklearn, slow implementations from the formulas, numbers worked by hand, and simulation."""

import io
import itertools
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from cxrlib.releases import nih, predictions
from cxrlib.statistics import (
    accuracy,
    calibration,
    clustering,
    delong,
    intervals,
    planning,
    resampling,
    seed_coverage,
)

NAN = float("nan")


def sample(n=120, seed=0, levels=None, patients=25):
    """Return labels, two related scores (rounded to so many levels: ties) and patients with several images."""
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.35
    common = rng.normal(size=n) + label
    scores = common + rng.normal(size=(2, n)) * [[0.4], [0.9]]
    if levels:
        scores = np.round(scores * levels) / levels
    return label.astype(int), scores, rng.integers(0, patients, n)


# --- AUC, rates, thresholds --------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [None, 2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_auc_is_sklearns(seed, levels):
    label, (score, _), _ = sample(seed=seed, levels=levels)
    assert accuracy.auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-14)
    assert accuracy.auc(label, -score) == pytest.approx(1 - accuracy.auc(label, score), abs=1e-14)


def test_auc_by_hand():
    # of the 2 x 3 pairs: 0.8 beats all three; 0.4 beats one, ties one, loses one
    assert accuracy.auc([1, 1, 0, 0, 0], [0.8, 0.4, 0.1, 0.4, 0.5]) == pytest.approx(4.5 / 6)


@pytest.mark.parametrize("label", [[], [0, 0, 0], [1, 1]])
def test_auc_of_one_class_is_undefined(label):
    assert np.isnan(accuracy.auc(label, np.arange(len(label))))


@pytest.mark.parametrize("levels", [None, 1])
def test_a_replicate_is_what_repeated_rows_give(levels):
    """A bootstrap resample, row by row: the AUC, every rate and the ROC curve."""
    label, (score, _), patient = sample(levels=levels)
    called = score > 0.6
    resamples = resampling.patient_resamples(patient, 40, np.random.default_rng(1))
    areas = accuracy.auc(label, score, resamples)
    rates = accuracy.rates(label, called, resamples)
    grid = np.linspace(0, 1, 21)
    curves = accuracy.roc_on_grid(label, score, resamples, grid)
    for b, weights in enumerate(resamples.weights()):
        rows = np.repeat(np.arange(len(label)), weights.astype(int))
        assert areas[b] == pytest.approx(roc_auc_score(label[rows], score[rows]), abs=1e-13)
        for name, value in accuracy.rates(label[rows], called[rows]).items():
            assert rates[name][b] == pytest.approx(value, abs=1e-13)
        plain = accuracy.roc_on_grid(label[rows], score[rows], resampling.whole(len(rows)), grid)
        np.testing.assert_allclose(curves[b], plain[0], atol=1e-12)


def test_resamples_draw_whole_patients():
    _, _, patient = sample()
    resamples = resampling.patient_resamples(patient, 300, np.random.default_rng(0))
    _, first, which = np.unique(patient, return_index=True, return_inverse=True)
    drawn = resamples.weights()[:, first]
    assert (resamples.weights() == drawn[:, which]).all() and (drawn == drawn.astype(int)).all()
    assert (drawn.sum(1) == len(first)).all()
    assert drawn.var() == pytest.approx(1 - 1 / len(first), abs=0.05)  # multinomial
    again = resampling.patient_resamples([f"p{p:02d}" for p in patient], 300, np.random.default_rng(0))
    in_order = resampling.patient_resamples(np.char.zfill(patient.astype(str), 2), 300, np.random.default_rng(0))
    assert (again.weights() == in_order.weights()).all()
    chosen = patient < 5
    assert (resamples.of(chosen).weights() == resamples.weights()[:, chosen]).all()


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_sklearns(seed):
    label, (score, _), _ = sample(seed=seed)
    called = (score > 0.7).astype(int)
    got = accuracy.rates(label, called)
    assert got == pytest.approx(
        {
            "sensitivity": recall_score(label, called),
            "specificity": recall_score(1 - label, 1 - called),
            "ppv": precision_score(label, called),
            "npv": precision_score(1 - label, 1 - called),
            "f1": f1_score(label, called),
            "kappa": cohen_kappa_score(label, called),
        }
    )


@pytest.mark.parametrize(
    ("label", "called", "undefined"),
    [
        ([0, 0, 1], [0, 0, 0], {"ppv"}),
        ([0, 0, 1], [1, 1, 1], {"npv"}),
        ([0, 0, 0], [0, 1, 0], {"sensitivity"}),
        ([0, 0, 0], [0, 0, 0], {"sensitivity", "ppv", "f1", "kappa"}),
    ],
)
def test_rates_without_a_denominator_are_undefined(label, called, undefined):
    assert {name for name, value in accuracy.rates(label, called).items() if np.isnan(value)} == undefined


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("specificity", [0, 0.5, 0.8, 0.9, 0.95, 1])
def test_threshold_reaches_the_specificity_and_is_the_lowest_that_does(specificity, levels, dtype):
    for n in (10, 11, 137):
        label = np.r_[np.zeros(n, int), np.ones(20, int)]
        score = sample(n + 20, seed=n, levels=levels)[1][0].astype(dtype)
        threshold = accuracy.threshold_at_specificity(label, score, specificity)
        below = (score[label == 0] < threshold).sum()
        assert below >= specificity * n - 1e-6
        lower = np.nextafter(threshold, -np.inf)
        if specificity == 0:
            assert threshold == -np.inf
        else:
            assert (score[label == 0].astype(float) < lower).sum() < specificity * n - 1e-6


def test_threshold_counts_negatives_not_rounding():
    label, score = np.r_[np.zeros(10, int), 1], np.r_[np.arange(10.0), 5]
    threshold = accuracy.threshold_at_specificity(label, score, 0.9)  # 1 - 0.9 is a little less than 1/10
    assert 8 < threshold < 8.001
    assert np.isnan(accuracy.threshold_at_specificity([1, 1], [0.2, 0.3], 0.9))


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "prevalence", "expected"),
    [
        (0.5, 0.9, 0.1, 0.05 / (0.05 + 0.09)),
        (0.97, 0.98, 0.01, 0.0097 / (0.0097 + 0.0198)),
        (0.8, 0.7, 0, 0),
        (0.8, 0.7, 1, 1),
        (0, 1, 0.2, NAN),
    ],
)
def test_ppv_at_prevalence_is_bayes(sensitivity, specificity, prevalence, expected):
    assert accuracy.ppv_at_prevalence(sensitivity, specificity, prevalence) == pytest.approx(expected, nan_ok=True)


def test_ppv_at_its_own_prevalence_is_the_ppv():
    label, (score, _), _ = sample()
    rates = accuracy.rates(label, score > 0.5)
    at_home = accuracy.ppv_at_prevalence(rates["sensitivity"], rates["specificity"], label.mean())
    assert at_home == pytest.approx(rates["ppv"])


@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roc_on_grid_is_sklearns_curve(levels, dtype):
    label, (score, _), _ = sample(n=400, levels=levels)
    score = score.astype(dtype)
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    reached = {f: tpr[fpr == f].max() for f in fpr}  # the upper end of each step
    got = accuracy.roc_on_grid(label, score, resampling.whole(len(label)), 1 - np.array(list(reached)))[0]
    np.testing.assert_allclose(got, list(reached.values()), atol=1e-9)
    grid = np.linspace(0, 1, 4001)
    curve = accuracy.roc_on_grid(label, score, resampling.whole(len(label)), grid)[0]
    assert (np.diff(curve) <= 0).all() and curve[0] == 1
    area = ((curve[1:] + curve[:-1]) / 2 * np.diff(grid)).sum()
    assert area == pytest.approx(accuracy.auc(label, score), abs=5e-4)


@pytest.mark.parametrize("negatives_n", [10, 100, 700])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roc_on_grid_takes_the_step_that_lies_on_the_grid(negatives_n, dtype):
    """At specificity k / n the step is reached, whatever 1 - k / n is in floating point."""
    grid = np.linspace(0, 1, 11)
    label = np.r_[np.zeros(negatives_n, int), np.ones(negatives_n, int)]
    score = np.r_[np.arange(negatives_n), np.arange(negatives_n) - 0.5].astype(dtype)
    got = accuracy.roc_on_grid(label, score, resampling.whole(len(label)), grid)[0]
    # a score of k - 0.5 is above the k lowest negatives, so specificity and sensitivity add up to 1
    expected = [(np.arange(negatives_n) - 0.5 > round(s * negatives_n) - 1).mean() for s in grid]
    np.testing.assert_allclose(got, expected, atol=1e-12)
    no_negatives = resampling.Resamples(np.array([[0, 1]]), label)
    assert np.isnan(accuracy.roc_on_grid(label, score, no_negatives, grid)).all()


# --- probabilities ------------------------------------------------------------------------------------------


def probabilities(seed=0, n=400, patients=60, levels=None):
    """Return labels, probabilities that are too extreme and too high, and patients."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, patients, n)
    x = rng.normal(size=n) + rng.normal(size=patients)[patient] - 0.8
    label = (rng.random(n) < expit(0.6 * x - 0.3)).astype(int)
    probability = expit(x)
    return label, np.round(probability * levels) / levels if levels else probability, patient


@pytest.mark.parametrize("levels", [None, 20])
@pytest.mark.parametrize("seed", range(3))
def test_average_precision_and_brier_are_sklearns(seed, levels):
    label, probability, _ = probabilities(seed, levels=levels)
    assert accuracy.average_precision(label, probability) == pytest.approx(
        average_precision_score(label, probability), abs=1e-13
    )
    assert calibration.brier(label, probability) == pytest.approx(brier_score_loss(label, probability), abs=1e-14)


def slow_calibration_error(label, probability):
    gaps = [
        abs(np.sum(label[probability <= p]) - np.sum(probability[probability <= p])) for p in np.unique(probability)
    ]
    return max(gaps) / len(label)


def slow_sensitivity(label, score, specificity):
    best = 0.0
    for threshold in [*np.unique(score), np.inf]:
        if np.mean(score[label == 0] < threshold) >= specificity - 1e-12:
            best = max(best, np.mean(score[label == 1] >= threshold))
    return best


def glm(label, probability, slope):
    """Return statsmodels' logistic recalibration."""
    x = logit(np.clip(probability, calibration.LOGIT_BOUND, 1 - calibration.LOGIT_BOUND))
    design, offset = (sm.add_constant(x), None) if slope else (np.ones((len(x), 1)), x)
    return sm.GLM(label, design, family=sm.families.Binomial(), offset=offset).fit(tol=1e-12).params[-1]


@pytest.mark.parametrize("levels", [None, 20])
@pytest.mark.parametrize("seed", range(3))
def test_calibration_is_that_of_slow_references(seed, levels):
    label, probability, _ = probabilities(seed, levels=levels)
    assert calibration.calibration_intercept(label, probability) == pytest.approx(
        glm(label, probability, False), abs=1e-7
    )
    assert calibration.calibration_slope(label, probability) == pytest.approx(glm(label, probability, True), abs=1e-7)
    assert calibration.calibration_error(label, probability) == pytest.approx(
        slow_calibration_error(label, probability)
    )
    for specificity in (0, 0.5, 0.8, 0.95, 1):
        assert accuracy.sensitivity_at_specificity(label, probability, specificity) == pytest.approx(
            slow_sensitivity(label, probability, specificity)
        ), specificity


def test_calibration_of_a_calibrated_model():
    rng = np.random.default_rng(0)
    probability = rng.random(200_000)
    label = (rng.random(200_000) < probability).astype(int)
    assert abs(calibration.calibration_intercept(label, probability)) < 0.02
    assert calibration.calibration_slope(label, probability) == pytest.approx(1, abs=0.02)
    assert (
        calibration.calibration_error(label, probability)
        < 0.004
        < calibration.calibration_error(label, probability**2)
    )


MEASURES = [
    accuracy.auc,
    accuracy.average_precision,
    calibration.brier,
    calibration.calibration_intercept,
    calibration.calibration_slope,
    calibration.calibration_error,
    lambda *a, **k: accuracy.sensitivity_at_specificity(*a[:2], 0.8, *a[2:], **k),
]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("levels", [None, 20])
def test_a_replicate_of_every_measure_is_what_repeated_rows_give(measure, levels):
    label, probability, patient = probabilities(levels=levels)
    resamples = resampling.patient_resamples(patient, 25, np.random.default_rng(2))
    got = measure(label, probability, resamples)
    for b, weights in enumerate(resamples.weights()):
        rows = np.repeat(np.arange(len(label)), weights.astype(int))
        assert got[b] == pytest.approx(measure(label[rows], probability[rows]), abs=1e-9), b


@pytest.mark.parametrize(
    "measure", [m for m in MEASURES if m is not calibration.brier and m is not calibration.calibration_error]
)
def test_one_class_is_undefined(measure):
    for label in (np.zeros(4), np.ones(4)) if measure is not accuracy.average_precision else (np.zeros(4),):
        assert np.isnan(measure(label, np.array([0.1, 0.2, 0.2, 0.9])))
    resamples = resampling.patient_resamples(np.arange(4), 30, np.random.default_rng(0))
    replicates = measure(np.array([0, 0, 0, 1]), np.array([0.1, 0.2, 0.2, 0.9]), resamples)
    drawn = resamples.weights()[:, 3] > 0
    assert np.isnan(replicates[~drawn]).all()


@pytest.mark.parametrize(
    "measure", [calibration.brier, calibration.calibration_intercept, calibration.calibration_error]
)
def test_a_probability_lies_in_0_1(measure):
    with pytest.raises(ValueError, match=r"score 1 is 1\.2: a probability lies in \[0, 1\]"):
        measure([0, 1], [0.3, 1.2])
    assert accuracy.auc([0, 1], [0.3, 1.2]) == 1


def test_the_result_does_not_depend_on_how_resamples_are_parted(monkeypatch):
    label, probability, patient = probabilities()
    resamples = resampling.patient_resamples(patient, 700, np.random.default_rng(2))
    many = accuracy.auc(label, probability, resamples)
    monkeypatch.setattr(resampling.os, "sched_getaffinity", lambda _: {0})
    assert (accuracy.auc(label, probability, resamples) == many).all()
    assert (accuracy.auc(label, probability, resamples.first(40)) == many[:40]).all()


# --- intervals and p-values --------------------------------------------------------------------------------


def test_intervals_are_percentiles_and_say_when_there_is_none():
    replicates = np.arange(1001) / 1000
    assert intervals.interval(0.5, replicates) == pytest.approx((0.5, 0.025, 0.975, ""))
    some = np.r_[replicates, np.full(900, NAN)]
    assert intervals.interval(0.5, some)[:3] == pytest.approx((0.5, 0.025, 0.975))
    for nothing in (
        intervals.interval(0.5, np.r_[replicates, np.full(1100, NAN)]),
        intervals.interval(NAN, replicates),
    ):
        assert np.isnan(nothing[:3]).all() and nothing.reason
    label, (score, _), patient = sample()
    resamples = resampling.patient_resamples(patient, 500, np.random.default_rng(0))
    whole = intervals.estimate(accuracy.auc, label, score, resamples)
    assert whole.low < whole.estimate == accuracy.auc(label, score) < whole.high
    kappa = intervals.rate_intervals(label, score > 0.5, resamples)["kappa"]
    assert kappa.low < kappa.estimate == accuracy.rates(label, score > 0.5)["kappa"] < kappa.high


@pytest.mark.parametrize(
    ("replicates", "p"),
    [
        (np.zeros(200), 1),  # the two sides are the same
        (np.full(199, 0.125), 2 / 200),  # never below 2 / (b + 1)
        (np.r_[np.full(190, 0.125), np.full(9, -0.125)], 2 * 10 / 200),
        (np.r_[np.full(190, -0.125), np.full(9, 0.125)], 2 * 10 / 200),
        (np.r_[np.full(190, 0.125), np.zeros(9)], 2 * 10 / 200),  # a replicate of exactly 0 is no evidence
        (np.r_[np.full(199, 0.125), np.full(50, NAN)], 2 / 200),
        (np.r_[np.full(100, 0.3), np.full(100, 0.2)], 2 * norm.sf(0.25 / np.std([0.3, 0.2] * 100, ddof=1))),
        (np.r_[np.full(100, 0.125), np.full(100, -0.125)], 1),
    ],
)
def test_difference_p(replicates, p):
    got = intervals.difference(np.nanmean(replicates), replicates)
    assert got.p == pytest.approx(p) and got.low <= got.estimate <= got.high


def test_difference_of_nothing_is_undefined():
    got = intervals.difference(NAN, np.zeros(10))
    assert np.isnan(got[:4]).all() and got.reason


def test_holm_by_hand():
    # sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 x 1, raised to the one before it
    got = intervals.holm([0.01, 0.04, NAN, 0.03, 0.005])
    np.testing.assert_allclose(got, [0.03, 0.06, NAN, 0.06, 0.02])
    assert np.isnan(intervals.holm([NAN, NAN])).all() and intervals.holm([0.7, 0.9]).tolist() == [1, 1]


def test_bca_is_scipys():
    x = np.random.default_rng(3).gamma(1, size=40)
    theirs = scipy.stats.bootstrap((x,), np.mean, n_resamples=1999, method="BCa", rng=np.random.default_rng(0))
    left_out = np.array([np.delete(x, k).mean() for k in range(len(x))])
    ours = intervals.bca_interval(x.mean(), theirs.bootstrap_distribution, left_out)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval))
    plain = intervals.interval(x.mean(), theirs.bootstrap_distribution)
    assert ours.low > plain.low and ours.high > plain.high, "a skewed mean's interval moves up"


def test_bca_leaves_out_whole_patients():
    label, probability, patient = probabilities()
    resamples = resampling.patient_resamples([f"{p:02d}" for p in patient], 400, np.random.default_rng(0))
    left = resamples.jackknife()
    assert len(left) == len(np.unique(patient))
    for k, w in enumerate(left.weights()[:5]):
        assert (w == (patient != k)).all()
    assert len(resamples.jackknife(groups_n=10)) == 10
    got = intervals.estimate(accuracy.auc, label, probability, resamples, "bca")
    by_hand = intervals.bca_interval(
        accuracy.auc(label, probability),
        accuracy.auc(label, probability, resamples),
        np.array([accuracy.auc(label[patient != k], probability[patient != k]) for k in range(60)]),
    )
    assert (
        got == pytest.approx(by_hand)
        and got.low != intervals.estimate(accuracy.auc, label, probability, resamples).low
    )


def test_paired_is_the_difference_on_the_same_resamples():
    label, (a, b), patient = sample(300)
    resamples = resampling.patient_resamples(patient, 200, np.random.default_rng(0))
    got = intervals.paired(accuracy.auc, label, a, b, resamples)
    each = accuracy.auc(label, a, resamples) - accuracy.auc(label, b, resamples)
    assert got == intervals.difference(accuracy.auc(label, a) - accuracy.auc(label, b), each)
    assert intervals.paired(accuracy.auc, label, a, a, resamples)[:4] == (0, 0, 0, 1)
    bca = intervals.paired(accuracy.auc, label, a, b, resamples, "bca")
    assert bca.estimate == got.estimate and bca.p == got.p and bca.low != got.low


def test_benjamini_hochberg_by_hand():
    got = intervals.benjamini_hochberg([0.01, 0.04, NAN, 0.03, 0.005])
    np.testing.assert_allclose(got, [0.02, 0.04, NAN, 0.04, 0.02])


def test_subgroups():
    label, (score, _), patient = sample(600, patients=80)
    group = np.where(patient % 3 == 0, "F", "M").astype(object)
    group[::50] = None
    resamples = resampling.patient_resamples(patient, 200, np.random.default_rng(0))
    table = intervals.by_subgroup(accuracy.auc, label, score, group, resamples).set_index("group")
    assert list(table.index) == ["M", "F", "not stated"] and table["images_n"].sum() == 600
    inside = group == "F"
    assert table.loc["F", "estimate"] == pytest.approx(roc_auc_score(label[inside], score[inside]))
    assert table.loc["F", "positives_n"] == label[inside].sum()
    assert table.loc["F", "patients_n"] == len(np.unique(patient[inside]))
    gap = table.loc["F", "estimate"] - table.loc["M", "estimate"]
    assert table.loc["F", "difference"] == pytest.approx(gap)
    assert table.loc["F", "difference_low"] < gap < table.loc["F", "difference_high"]
    assert np.isnan(table.loc["M", ["difference", "p", "p_holm"]].astype(float)).all()
    called = score > 0.8
    missed = intervals.by_subgroup(accuracy.missed, label, called, group, resamples).set_index("group")
    assert missed.loc["F", "estimate"] == pytest.approx(1 - recall_score(label[inside], called[inside]))


def test_ten_patients_are_enough_and_nine_are_not():
    patients = np.repeat(np.arange(intervals.FEW_PATIENTS), 3)
    assert intervals.FEW_PATIENTS == 10 and intervals.too_few([patients]) == ""
    assert "rests on 9 patients" in intervals.too_few([np.arange(50), patients[3:]])
    label = np.r_[np.ones(10), np.zeros(30)]
    resamples = resampling.patient_resamples(np.arange(40), 5, np.random.default_rng(0))
    assert intervals.too_few_of_either(label, resamples) == ""


@pytest.mark.parametrize("estimate", [0, 1])
def test_the_exact_interval_of_a_rate_of_0_or_1_is_clopper_and_pearsons(estimate):
    got = intervals.exact_interval(estimate, np.repeat(np.arange(30), 2))
    theirs = scipy.stats.binomtest(30 * estimate, 30).proportion_ci(method="exact")
    assert (got.low, got.high) == pytest.approx((theirs.low, theirs.high))
    assert got.estimate == estimate and "30 patients" in got.reason


def test_subgroups_compare_with_the_largest_on_the_same_resamples():
    """Each difference is a group less the largest, with the interval of the paired replicates and Holm's p."""
    label, (score, _), patient = sample(900, patients=150)
    group = np.select([np.arange(900) % 10 < 5, np.arange(900) % 10 < 8], ["big", "middle"], "small")
    resamples = resampling.patient_resamples(patient, 200, np.random.default_rng(0))
    table = intervals.by_subgroup(accuracy.auc, label, score, group, resamples).set_index("group")
    assert list(table.index) == ["big", "middle", "small"]
    each = {g: accuracy.auc(label[group == g], score[group == g], resamples.of(group == g)) for g in table.index}
    for name in ("middle", "small"):
        row = table.loc[name]
        expected = intervals.difference(row["estimate"] - table["estimate"]["big"], each[name] - each["big"])
        got = row[["difference", "difference_low", "difference_high", "p"]].astype(float)
        assert tuple(got) == pytest.approx(expected[:4])
    np.testing.assert_allclose(table["p_holm"], intervals.holm(table["p"]))


def test_a_subgroup_that_differs_is_found_and_one_that_does_not_is_not():
    rng = np.random.default_rng(5)
    n = 4000
    patient, label = np.arange(n), rng.random(n) < 0.4
    group = rng.choice(["a", "b", "c"], n, p=[0.4, 0.3, 0.3])
    score = label * np.where(group == "c", 0.3, 1.5) + rng.normal(size=n)
    resamples = resampling.patient_resamples(patient, 400, rng)
    table = intervals.by_subgroup(accuracy.auc, label, score, group, resamples).set_index("group")
    assert table.loc["c", "p_holm"] < 0.02 and table.loc["c", "difference"] < -0.2 and table.loc["b", "p_holm"] > 0.05


# --- power ---------------------------------------------------------------------------------------------------


def test_the_smallest_difference_is_found_four_times_in_five():
    """Paired DeLong on simulated pairs whose true difference is the planned smallest one."""
    rng = np.random.default_rng(7)
    positives_n, negatives_n, area = 150, 350, 0.85
    label = np.r_[np.ones(positives_n), np.zeros(negatives_n)]
    shared = 0.6
    found, errors, correlations = [], [], []

    def scores(area_a, area_b):
        common = rng.normal(size=label.size) * np.sqrt(shared)
        noise = rng.normal(size=(2, label.size)) * np.sqrt(1 - shared)
        return common + noise + label * norm.ppf([[area_a], [area_b]]) * np.sqrt(2)

    for _ in range(100):
        covariance = delong.delong(label, scores(area, area))[1]
        correlations.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
        errors.append(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    planned = planning.planned_standard_error(area, positives_n, negatives_n, np.mean(correlations))
    assert planned == pytest.approx(np.mean(errors), rel=0.05)
    gap = planning.smallest_difference(planned)
    for _ in range(300):
        found.append(delong.delong_test(label, *scores(area + gap / 2, area - gap / 2)).p < 0.05)
    assert 0.7 < np.mean(found) < 0.9


def test_power_by_hand():
    assert planning.smallest_difference(1) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert planning.design_effect(list("aaabbbccc"), 0.5) == pytest.approx(2)
    assert planning.design_effect(list("abc"), 0.9) == 1 and planning.design_effect(list("aaab"), 1) == pytest.approx(
        2.5
    )
    single = planning.planned_standard_error(0.8, 100, 200, 0.5)
    assert planning.planned_standard_error(0.8, 100, 200, 0.5, 4) == pytest.approx(2 * single)


def test_normal_theory_by_hand():
    assert intervals.two_sided_p(-1.959963985) == pytest.approx(0.05)
    assert intervals.standard_error_from_interval(0.830, 0.846) == pytest.approx(0.00408, abs=5e-6)


# --- DeLong ------------------------------------------------------------------------------------------------


def components(label, scores):
    """Return psi-bar over negatives for each positive, and over positives for each negative, pair by pair."""
    positives, negatives = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    v10, v01 = [], []
    for score in scores:
        psi = {
            (i, j): 1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
            for i, j in itertools.product(positives, negatives)
        }
        v10.append({i: sum(psi[i, j] for j in negatives) / len(negatives) for i in positives})
        v01.append({j: sum(psi[i, j] for i in positives) / len(positives) for j in negatives})
    return v10, v01


def slow_delong(label, scores):
    """Return AUCs and covariance as in DeLong 1988, equations 4 to 6."""
    v10, v01 = components(label, scores)
    m, n = len(v10[0]), len(v01[0])
    area = [sum(v.values()) / m for v in v10]
    covariance = np.empty((len(scores), len(scores)))
    for r, s in np.ndindex(*covariance.shape):
        s10 = sum((v10[r][i] - area[r]) * (v10[s][i] - area[s]) for i in v10[0]) / (m - 1)
        s01 = sum((v01[r][j] - area[r]) * (v01[s][j] - area[s]) for j in v01[0]) / (n - 1)
        covariance[r, s] = s10 / m + s01 / n
    return np.array(area), covariance


def slow_obuchowski(label, scores, patient):
    """Return AUCs and covariance as in Obuchowski 1997: sums over clusters, then over their images."""
    v10, v01 = components(label, scores)
    m, n = len(v10[0]), len(v01[0])
    area = [sum(v.values()) / m for v in v10]
    clusters = sorted(set(patient))
    i10 = len({patient[i] for i in v10[0]})
    i01 = len({patient[j] for j in v01[0]})

    def about_mean(v, k, cluster):
        mine = [v[k][i] for i in v[k] if patient[i] == cluster]
        return sum(mine) - len(mine) * area[k]

    covariance = np.empty((len(scores), len(scores)))
    for r, s in np.ndindex(*covariance.shape):
        s10 = i10 / ((i10 - 1) * m) * sum(about_mean(v10, r, c) * about_mean(v10, s, c) for c in clusters)
        s01 = i01 / ((i01 - 1) * n) * sum(about_mean(v01, r, c) * about_mean(v01, s, c) for c in clusters)
        factor = len(clusters) / (len(clusters) - 1)
        s11_rs = factor * sum(about_mean(v10, r, c) * about_mean(v01, s, c) for c in clusters)
        s11_sr = factor * sum(about_mean(v10, s, c) * about_mean(v01, r, c) for c in clusters)
        covariance[r, s] = s10 / m + s01 / n + s11_rs / (m * n) + s11_sr / (m * n)
    return np.array(area), covariance


@pytest.mark.parametrize("levels", [None, 2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_delong_is_the_slow_one(seed, levels):
    label, scores, patient = sample(n=70, seed=seed, levels=levels, patients=12)
    for got, expected in (
        (delong.delong(label, scores), slow_delong(label, scores)),
        (delong.delong(label, scores, patient), slow_obuchowski(label, scores, patient)),
    ):
        np.testing.assert_allclose(got[0], expected[0], atol=1e-13)
        np.testing.assert_allclose(got[1], expected[1], atol=1e-13)
        assert got[1][0, 1] > 0 and (got[1] == got[1].T).all()
    alone = np.random.default_rng(seed).permutation(len(label))  # one image per patient, in any order
    np.testing.assert_allclose(delong.delong(label, scores, alone)[1], delong.delong(label, scores)[1], atol=1e-12)


PROC = [
    0.7000000000000,
    0.8431250000000,
    0.0718866005259,
    -0.2989835933842,
    0.0127335933842,
    0.5601991982303,
    0.8398008017697,
]


def test_delong_is_procs():
    """R, pROC 1.18.0: roc.test(roc(y, a), roc(y, b), method="delong", paired=TRUE), ci.auc(roc(y, a))."""
    k = np.arange(60)
    y = (k * 7 % 3 == 0).astype(int)
    a, b = k * 37 % 60 + 15 * y, k * 11 % 60 // 4 + 7 * y
    areas, covariance = delong.delong(y, [a, b])
    got = delong.delong_test(y, a, b)
    reach = 1.959963984540054 * np.sqrt(covariance[0, 0])
    assert [*areas, got.p, got.low, got.high, areas[0] - reach, areas[0] + reach] == pytest.approx(PROC, abs=1e-11)


def test_delong_on_procs_own_data():
    """Published interval of S100B - WFNS on aSAH: -0.17421442 to -0.01040618 (xrobin/pROC issue 73)."""
    if shutil.which("Rscript") is None:
        pytest.skip("needs R (apt-get install r-cran-proc): the data belong to the R package pROC")
    code = "library(pROC); a = aSAH; write.csv(data.frame(y=a$outcome=='Poor', s=a$s100b, w=as.integer(a$wfns)))"
    done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs R's package pROC (apt-get install r-cran-proc)")
    table = pd.read_csv(io.StringIO(done.stdout))
    got = delong.delong_test(table["y"], table["s"], table["w"])
    assert (got.low, got.high) == pytest.approx((-0.17421442, -0.01040618), abs=5e-9)


def test_doubling_every_image_changes_only_the_unclustered_error():
    """Copies of an image are no new evidence: the clustered error stays, DeLong's shrinks by root two."""
    label, scores, _ = sample(n=200)
    patient = np.arange(len(label))
    twice = np.repeat(patient, 2)
    before, after = delong.delong(label, scores), delong.delong(label[twice], scores[:, twice])
    clustered = delong.delong(label[twice], scores[:, twice], twice)
    np.testing.assert_allclose(after[1], before[1] / 2, rtol=0.02)
    np.testing.assert_allclose(clustered[1], before[1], rtol=1e-9)


@pytest.mark.parametrize("clustered", [False, True])
def test_delong_test(clustered):
    label, (a, b), patient = sample(levels=4)
    patient = patient if clustered else None
    areas, covariance = slow_delong(label, [a, b]) if patient is None else slow_obuchowski(label, [a, b], patient)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    got = delong.delong_test(label, a, b, patient)
    assert got.estimate == pytest.approx(areas[0] - areas[1])
    assert (got.high - got.low) / 2 == pytest.approx(1.959964 * error)
    assert got.p == pytest.approx(2 * (1 - norm.cdf(abs(got.estimate) / error)))
    back = delong.delong_test(label, b, a, patient)
    assert (back.estimate, back.low, back.p) == pytest.approx((-got.estimate, -got.high, got.p))
    for same in (a, 2 * a + 1, np.exp(a)):
        assert delong.delong_test(label, a, same, patient) == (0, 0, 0, 1, "")


@pytest.mark.parametrize(
    ("label", "a", "b", "patient"),
    [
        ([0, 0, 0, 1], [1, 2, 3, 4], [1, 3, 2, 4], None),  # one positive
        ([0, 0, 1, 1], [1, 2, 3, 4], [1, 3, 2, 4], [1, 2, 3, 3]),  # positives of one patient
        ([0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1], None),  # AUC 1 against 0: four images are not p = 0
    ],
)
def test_delong_test_says_when_it_cannot_tell(label, a, b, patient):
    got = delong.delong_test(label, a, b, patient)
    assert np.isnan([got.low, got.high, got.p]).all() and got.reason.startswith("undefined")


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [
        ([0, 1, 1], [0.1, NAN, 0.3], "score 1 is NaN"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "label 2 is 2.0"),
        ([0, NAN, 1], [0.1, 0.2, 0.3], "label 1 is nan"),
        ([0, -1, 1], [0.1, 0.2, 0.3], "label 1 is -1.0"),
        ([0, 1], [0.1, 0.2, 0.3], "2 labels and 3 scores"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        accuracy.auc,
        accuracy.rates,
        delong.delong,
        lambda label, score: delong.delong_test(label, [0.1, 0.2, 0.3][: len(score)], score),
        lambda label, score: accuracy.threshold_at_specificity(label, score, 0.9),
        lambda label, score: accuracy.roc_on_grid(label, score, resampling.whole(len(score)), [0.9]),
        accuracy.average_precision,
        calibration.brier,
        calibration.calibration_slope,
        calibration.calibration_error,
        lambda label, score: accuracy.sensitivity_at_specificity(label, score, 0.9),
    ],
)
def test_bad_input_is_named(call, label, score, message):
    with pytest.raises(ValueError, match=message):
        call(label, score)


def test_a_decision_is_0_or_1():
    with pytest.raises(ValueError, match=r"decision 1 is 0\.4"):
        accuracy.rates([0, 1], [1, 0.4])


# --- coverage ----------------------------------------------------------------------------------------------


def test_coverage_with_nine_correlated_images_a_patient():
    """Intervals that know the patients cover; DeLong's by image does not. Paired tests keep their level."""
    rng = np.random.default_rng(20)
    repetitions, patients_n, images_n = 200, 60, 9
    patient = np.repeat(np.arange(patients_n), images_n)
    truth = norm.cdf(1 / np.sqrt(2))
    covered = {"bootstrap": 0, "clustered": 0, "by image": 0}
    rejected = {"bootstrap": 0, "clustered": 0, "by image": 0}
    for _ in range(repetitions):
        ill = (
            rng.normal(size=patients_n)[patient] * np.sqrt(0.7) + rng.normal(size=patient.size) * np.sqrt(0.3)
        ) > 0.5
        own = rng.normal(size=(2, patients_n))[:, patient] * np.sqrt(0.6)  # what a patient's images share
        a, b = ill + own + rng.normal(size=(2, patient.size)) * np.sqrt(0.4)
        resamples = resampling.patient_resamples(patient, 300, rng)
        low, high = intervals.estimate(accuracy.auc, ill, a, resamples)[1:3]
        covered["bootstrap"] += low <= truth <= high
        rejected["bootstrap"] += intervals.paired(accuracy.auc, ill, a, b, resamples).p <= 0.05
        for name, clusters in (("clustered", patient), ("by image", None)):
            areas, covariance = delong.delong(ill, a, clusters)
            covered[name] += abs(areas[0] - truth) <= 1.96 * np.sqrt(covariance[0, 0])
            rejected[name] += delong.delong_test(ill, a, b, clusters).p <= 0.05
    covered, rejected = ({k: v / repetitions for k, v in d.items()} for d in (covered, rejected))
    assert min(covered["bootstrap"], covered["clustered"]) >= 0.9 and covered["by image"] < 0.85, covered
    assert max(rejected["bootstrap"], rejected["clustered"]) <= 0.1 and rejected["by image"] > 0.15, rejected


# --- means and reliability -----------------------------------------------------------------------------------


def test_mean_of_values_is_by_patient():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 5)
    values = np.repeat(rng.normal(size=60), 5)  # what a patient has once says no more five times
    got = intervals.mean(values, resampling.patient_resamples(patient, 4000, np.random.default_rng(1)))
    single = values[::5]
    assert got.estimate == pytest.approx(values.mean())
    expected = 1.96 * single.std() / np.sqrt(60)
    assert got.high - got.estimate == pytest.approx(expected, rel=0.1)


def test_mean_of_few_and_of_all_alike():
    few = intervals.mean([0.1, 0.2], resampling.patient_resamples([1, 2], 10, np.random.default_rng(1)))
    assert few.estimate == pytest.approx(0.15) and np.isnan(few.low) and "fewer than" in few.reason
    hits = intervals.mean(np.ones(50), resampling.patient_resamples(np.arange(50), 10, np.random.default_rng(1)))
    assert hits.low == pytest.approx(0.025 ** (1 / 50)) and hits.high == 1 and "exact" in hits.reason
    assert np.isnan(intervals.mean([], resampling.whole(0)).estimate)
    same = intervals.mean(
        np.full(50, -1.0), resampling.patient_resamples(np.arange(50), 10, np.random.default_rng(1))
    )
    assert same.estimate == -1 and np.isnan(same.low) and "every value is the same" in same.reason


def test_reliability_bins_hold_all_images_and_ties_stay_together():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    label = (rng.random(20_000) < p).astype(float)
    predicted, observed = calibration.reliability(label, p)
    assert len(predicted) == 10 and np.abs(predicted - observed).max() < 0.03
    assert predicted.mean() == pytest.approx(p.mean(), abs=1e-3)
    predicted, observed = calibration.reliability([0, 1, 0, 1], [0.3, 0.3, 0.3, 0.8])
    assert predicted.tolist() == pytest.approx([0.3, 0.8]) and observed.tolist() == pytest.approx([1 / 3, 1])


# --- training seeds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_seeds", [0.0, 0.5, 2.0])
def test_interval_over_seeds_covers_with_three(of_seeds):
    """Other patients and other seeds each time: the truth, 0, is inside as often as it should be."""
    rng = np.random.default_rng(3)
    inside, conditional, n = 0, 0, 1500
    for _ in range(n):
        each = rng.normal() + of_seeds * rng.normal(size=3)
        replicates = each.mean() + rng.normal(size=300)
        got = intervals.over_seeds(each, replicates)
        inside += got["low"] <= 0 <= got["high"]
        assert (got["p"] < 0.05) == (not got["low"] <= 0 <= got["high"])
        low, high = np.quantile(replicates, (0.025, 0.975))
        conditional += low <= 0 <= high
    assert 0.93 < inside / n < 0.98
    assert conditional / n < 0.85 or of_seeds < 2, "what holds for the trained networks alone does not cover"


def test_interval_over_seeds_by_hand():
    replicates = np.random.default_rng(0).normal(0.2, 0.03, 5000)
    got = intervals.over_seeds([0.1, 0.2, 0.3], replicates)
    of_patients, of_seeds = np.var(replicates, ddof=1), 0.01 / 3
    error = np.sqrt(of_patients + of_seeds)
    t = scipy.stats.t(2 * (of_patients + of_seeds) ** 2 / of_seeds**2)
    assert got["estimate"] == pytest.approx(0.2) and got["high"] - 0.2 == pytest.approx(t.ppf(0.975) * error)
    assert got["p"] == pytest.approx(2 * t.sf(0.2 / error))
    assert got["smallest"] == pytest.approx((t.ppf(0.975) + t.ppf(0.8)) * error)
    same = intervals.over_seeds([0.2] * 3, replicates)  # seeds move nothing: the patients' normal interval
    assert same["high"] - 0.2 == pytest.approx(1.959964 * np.sqrt(of_patients))
    assert same["smallest"] == pytest.approx(planning.smallest_difference(np.sqrt(of_patients)))


def test_interval_over_seeds_that_cannot_be_given():
    one = intervals.over_seeds([0.2], np.random.default_rng(0).normal(size=50))
    assert one["estimate"] == 0.2 and np.isnan([one[k] for k in ("low", "high", "p", "smallest")]).all()
    assert one["reason"] == "one training seed: what training moves is not known"
    none = intervals.over_seeds([0.2, 0.1], np.full(50, np.nan))
    assert np.isnan(none["estimate"]) and none["reason"].startswith("undefined")
    zero = intervals.over_seeds([0.0, 0.0], np.zeros(50))
    assert [zero[k] for k in ("estimate", "low", "high", "p", "smallest")] == [0, 0, 0, 1, 0]


def test_an_interval_over_few_seeds_says_that_it_covers_too_seldom():
    replicates = np.random.default_rng(0).normal(0.2, 0.03, 500)
    assert intervals.over_seeds([0.1, 0.2, 0.3, 0.2], replicates)["reason"] == intervals.FEW_SEEDS_NOTE
    assert intervals.over_seeds([0.1, 0.2, 0.3, 0.2, 0.2], replicates)["reason"] == ""
    replicates[:3] = np.nan
    both = f"{intervals.FEW_SEEDS_NOTE}; 3 of 500 resamples undefined, left out"
    assert intervals.over_seeds([0.1, 0.3], replicates)["reason"] == both
    assert intervals.over_seeds([0.1, 0.3], replicates, "too few")["reason"] == "too few"


def test_coverage_over_seeds_uses_the_auc_and_the_resamples_of_this_library():
    rng = np.random.default_rng(5)
    label, score, patient = seed_coverage.test_set(3, rng)
    moved = rng.normal(0, 0.1, (2, 3))
    resamples = resampling.patient_resamples(patient, 7, rng)
    counts = resamples.weights()
    each, replicates = seed_coverage.differences(label, score, moved, (2, 3), counts)
    scores = score + moved[..., None].astype(np.float32) * label
    areas = np.array([[accuracy.auc(label, s.astype(float)) for s in side] for side in scores])
    assert each == pytest.approx(areas[0] - areas[1])
    drawn = np.array([[accuracy.auc(label, s.astype(float), resamples) for s in side] for side in scores])
    assert replicates[2] == pytest.approx((drawn[0] - drawn[1])[:2].mean(0))
    assert replicates[3] == pytest.approx((drawn[0] - drawn[1]).mean(0))


def test_seeds_spread_an_auc_as_far_as_they_are_told():
    """Separate networks of a large test set: the difference of two varies by the ratio times the patients' error."""
    rng, error, ratio = np.random.default_rng(6), 0.01, 2.0
    spread = seed_coverage.spread_of_seeds(ratio, error) * rng.standard_normal((2, 20_000))
    areas = norm.cdf((seed_coverage.SEPARATION + spread) / np.sqrt(2))
    assert (areas[0] - areas[1]).std() == pytest.approx(ratio * error, rel=0.03)


def test_coverage_over_seeds_is_what_it_should_be():
    found = seed_coverage.seed_coverage([3.0], [2, 5], 150, np.random.default_rng(7))
    covered = found.set_index(["interval", "seeds_n"])["covered"]
    assert covered["patients", 2] < 0.75 < 0.85 < covered["patients and seeds", 2]
    assert covered["patients and seeds", 5] > 0.9 and covered["squares added", 2] > 0.93
    width = found.set_index(["interval", "seeds_n"])["width"]
    assert width["squares added", 2] > width["patients and seeds", 2] > width["patients and seeds", 5]


def test_compared_is_a_difference_with_its_smallest():
    replicates = np.random.default_rng(0).normal(0.1, 0.02, 500)
    row = intervals.compared(0.1, replicates)
    assert row["p"] == intervals.difference(0.1, replicates).p
    assert row["smallest"] == planning.smallest_difference(np.std(replicates, ddof=1))
    few = intervals.compared(0.1, replicates, "too few")
    assert few["estimate"] == 0.1 and np.isnan(few["p"]) and few["reason"] == "too few"
    resamples = resampling.patient_resamples(np.arange(40), 5, np.random.default_rng(0))
    label = np.r_[np.ones(9), np.zeros(31)]
    assert "rests on 9 patients" in intervals.too_few_of_either(label, resamples)
    assert "rests on 9 patients" in intervals.too_few_of_either(1 - label, resamples)
    assert not intervals.too_few_of_either(np.tile([0, 1], 20), resamples)


@pytest.mark.parametrize("n", [1, 2, 45])
def test_adjusted_p_values_are_those_of_statsmodels(n):
    p = np.random.default_rng(n).random(n + 2) ** 3
    p[: n // 2] = p[0]  # ties
    p[-2] = np.nan
    known = np.isfinite(p)
    for found, method in ((intervals.holm(p), "holm"), (intervals.benjamini_hochberg(p), "fdr_bh")):
        expected = sm.stats.multipletests(p[known], method=method)[1]
        assert (found[known] == expected).all() and np.isnan(found[-2])
    assert np.isnan(intervals.holm([np.nan])).all()


# --- images of one patient -----------------------------------------------------------------------------------------


def test_copies_of_an_image_have_the_design_effect_of_their_number():
    """Every patient has the same image m times: variances by patient are m times those by image, correlation 1."""
    rng = np.random.default_rng(8)
    label, scores = rng.random(400) < 0.3, rng.normal(size=(3, 400))
    patient, m = np.repeat(np.arange(400), 5), 5
    effects = clustering.design_effects(np.repeat(label, m), np.repeat(scores + label, m, axis=1), patient)
    assert effects[clustering.ONE] == pytest.approx(m, rel=0.02)
    assert effects[clustering.DIFFERENCE] == pytest.approx(m, rel=0.02)
    found = clustering.intraclass_correlations(np.repeat(label, m), np.repeat(scores + label, m, axis=1), patient)
    assert found[clustering.ONE].estimate == pytest.approx(1, abs=0.02)


def test_what_networks_share_cancels_in_their_difference():
    """Patients are easy or hard for both networks alike: AUCs are clustered by patient, and differences are not."""
    rng = np.random.default_rng(9)
    patient = np.repeat(np.arange(400), 6)
    sick = rng.normal(size=400)[patient]
    label = sick + rng.normal(size=patient.size) > 0.7
    scores = label + sick + rng.normal(size=(2, patient.size))
    found = clustering.intraclass_correlations(label, scores, patient)
    one, gap = (found[name] for name in (clustering.ONE, clustering.DIFFERENCE))
    assert gap.low < 0 < gap.high and one.low > 0.05
    apart = [label + rng.normal(size=(2, patient.size)) for _ in range(8)]  # images of a patient share nothing
    none = [clustering.intraclass_correlations(label, scores, patient) for scores in apart]
    for name in found:
        assert abs(np.mean([each[name].estimate for each in none])) < 0.015
        assert np.sum([each[name].low < 0 < each[name].high for each in none]) >= 6


def test_no_correlation_within_nine_patients():
    label, scores = np.tile([1, 0], 9), np.random.default_rng(0).normal(size=(2, 18))
    found = clustering.intraclass_correlations(label, scores, np.repeat(np.arange(9), 2))
    assert np.isnan(found[clustering.DIFFERENCE].estimate) and "9 patients" in found[clustering.ONE].reason


def test_patients_like_are_larger_or_smaller_ones():
    patient = np.repeat(np.arange(60), np.r_[np.ones(20), np.full(20, 5), np.full(20, 30)].astype(int))
    assert planning.own_patient_size(patient) == pytest.approx((20 + 500 + 18_000) / 720)
    large = clustering.patients_like(patient, 29)
    assert set(patient[large]) == set(range(20, 60)) or set(patient[large]) == set(range(40, 60))
    assert set(patient[clustering.patients_like(patient, 4.4)]) == set(range(40))
    assert set(patient[clustering.patients_like(patient, 1)]) == set(range(20))


def test_patients_of_the_official_test_list(cxr_data):
    patients = nih.read_test_list_patients()
    assert len(patients) == 25_596 and len(np.unique(patients)) == 2_797
    listed = pd.Series((cxr_data / "nih" / "test_list.txt").read_text().split()).str[:8]
    assert sorted(listed.value_counts()) == sorted(np.bincount(patients))
    assert planning.design_effect(patients, 0.13) == pytest.approx(6.285, abs=1e-3)


def test_published_seeds_spread_as_far_as_the_simulation_lets_them(cxr_data):
    entries = nih.read_nih_entries().set_index("image_id")
    scored = [predictions.read_predictions(name) for name in predictions.SEEDS]
    labels = entries.loc[scored[0].index]
    for finding in ("pneumothorax", "effusion", "nodule", "cardiomegaly", "mass", "atelectasis", "infiltration"):
        scores = np.stack([each[finding].reindex(labels.index) for each in scored])
        areas, covariance = delong.delong(labels[finding], scores, labels["patient_id"])
        first, second = np.triu_indices(len(areas), 1)
        of_patients = (covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]).mean()
        assert 0.5 < np.sqrt(2 * areas.var(ddof=1) / of_patients) < 2, finding
