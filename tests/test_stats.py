"""Statistics against sklearn, slow implementations from the formulas, numbers worked by hand, and simulation."""

import itertools

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score, roc_auc_score, roc_curve

from cxrlib import stats

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
    assert stats.auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-14)
    assert stats.auc(label, -score) == pytest.approx(1 - stats.auc(label, score), abs=1e-14)


def test_auc_by_hand():
    # of the 2 x 3 pairs: 0.8 beats all three; 0.4 beats one, ties one, loses one
    assert stats.auc([1, 1, 0, 0, 0], [0.8, 0.4, 0.1, 0.4, 0.5]) == pytest.approx(4.5 / 6)


@pytest.mark.parametrize("label", [[], [0, 0, 0], [1, 1]])
def test_auc_of_one_class_is_undefined(label):
    assert np.isnan(stats.auc(label, np.arange(len(label))))


@pytest.mark.parametrize("levels", [None, 1])
def test_a_replicate_is_what_repeated_rows_give(levels):
    """A bootstrap resample, row by row: the AUC, every rate and the ROC curve."""
    label, (score, _), patient = sample(levels=levels)
    called = score > 0.6
    resamples = stats.patient_resamples(patient, 40, np.random.default_rng(1))
    areas = stats.auc_replicates(label, score, resamples)
    rates = stats.mean_rates(label, [called], resamples)
    grid = np.linspace(0, 1, 21)
    curves = stats.roc_on_grid(label, score, resamples.weights, grid)
    for b, weights in enumerate(resamples.weights):
        rows = np.repeat(np.arange(len(label)), weights.astype(int))
        assert areas[b] == pytest.approx(roc_auc_score(label[rows], score[rows]), abs=1e-13)
        for name, value in stats.rates(label[rows], called[rows]).items():
            assert rates[name][b] == pytest.approx(value, abs=1e-13)
        plain = stats.roc_on_grid(label[rows], score[rows], np.ones((1, len(rows))), grid)
        np.testing.assert_allclose(curves[b], plain[0], atol=1e-12)


def test_resamples_draw_whole_patients():
    _, _, patient = sample()
    resamples = stats.patient_resamples(patient, 300, np.random.default_rng(0))
    _, first, which = np.unique(patient, return_index=True, return_inverse=True)
    drawn = resamples.weights[:, first]
    assert (resamples.weights == drawn[:, which]).all() and (drawn == drawn.astype(int)).all()
    assert (drawn.sum(1) == len(first)).all()
    assert drawn.var() == pytest.approx(1 - 1 / len(first), abs=0.05)  # multinomial
    again = stats.patient_resamples([f"p{p:02d}" for p in patient], 300, np.random.default_rng(0))
    in_order = stats.patient_resamples(np.char.zfill(patient.astype(str), 2), 300, np.random.default_rng(0))
    assert (again.weights == in_order.weights).all()
    chosen = patient < 5
    assert (resamples.of(chosen).weights == resamples.weights[:, chosen]).all()


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_sklearns(seed):
    label, (score, _), _ = sample(seed=seed)
    called = (score > 0.7).astype(int)
    got = stats.rates(label, called)
    assert got == pytest.approx(
        {
            "sensitivity": recall_score(label, called),
            "specificity": recall_score(1 - label, 1 - called),
            "ppv": precision_score(label, called),
            "npv": precision_score(1 - label, 1 - called),
            "kappa": cohen_kappa_score(label, called),
        }
    )


@pytest.mark.parametrize(
    ("label", "called", "undefined"),
    [
        ([0, 0, 1], [0, 0, 0], {"ppv"}),
        ([0, 0, 1], [1, 1, 1], {"npv"}),
        ([0, 0, 0], [0, 1, 0], {"sensitivity"}),
        ([0, 0, 0], [0, 0, 0], {"sensitivity", "ppv", "kappa"}),
    ],
)
def test_rates_without_a_denominator_are_undefined(label, called, undefined):
    assert {name for name, value in stats.rates(label, called).items() if np.isnan(value)} == undefined


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("specificity", [0, 0.5, 0.8, 0.9, 0.95, 1])
def test_threshold_reaches_the_specificity_and_is_the_lowest_that_does(specificity, levels, dtype):
    for n in (10, 11, 137):
        label = np.r_[np.zeros(n, int), np.ones(20, int)]
        score = sample(n + 20, seed=n, levels=levels)[1][0].astype(dtype)
        threshold = stats.threshold_at_specificity(label, score, specificity)
        below = (score[label == 0] < threshold).sum()
        assert below >= specificity * n - 1e-6
        lower = np.nextafter(threshold, -np.inf)
        if specificity == 0:
            assert threshold == -np.inf
        else:
            assert (score[label == 0].astype(float) < lower).sum() < specificity * n - 1e-6


def test_threshold_counts_negatives_not_rounding():
    label, score = np.r_[np.zeros(10, int), 1], np.r_[np.arange(10.0), 5]
    threshold = stats.threshold_at_specificity(label, score, 0.9)  # 1 - 0.9 is a little less than 1/10
    assert 8 < threshold < 8.001
    assert np.isnan(stats.threshold_at_specificity([1, 1], [0.2, 0.3], 0.9))


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
    assert stats.ppv_at_prevalence(sensitivity, specificity, prevalence) == pytest.approx(expected, nan_ok=True)


def test_ppv_at_its_own_prevalence_is_the_ppv():
    label, (score, _), _ = sample()
    rates = stats.rates(label, score > 0.5)
    at_home = stats.ppv_at_prevalence(rates["sensitivity"], rates["specificity"], label.mean())
    assert at_home == pytest.approx(rates["ppv"])


@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roc_on_grid_is_sklearns_curve(levels, dtype):
    label, (score, _), _ = sample(n=400, levels=levels)
    weights = np.ones((1, len(label)), dtype)
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    reached = {f: tpr[fpr == f].max() for f in fpr}  # the upper end of each step
    got = stats.roc_on_grid(label, score, weights, 1 - np.array(list(reached)))[0]
    np.testing.assert_allclose(got, list(reached.values()), atol=1e-9)
    grid = np.linspace(0, 1, 4001)
    curve = stats.roc_on_grid(label, score, weights, grid)[0]
    assert (np.diff(curve) <= 0).all() and curve[0] == 1
    area = ((curve[1:] + curve[:-1]) / 2 * np.diff(grid)).sum()
    assert area == pytest.approx(stats.auc(label, score), abs=5e-4)


@pytest.mark.parametrize("negatives_n", [10, 100, 700])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roc_on_grid_takes_the_step_that_lies_on_the_grid(negatives_n, dtype):
    """At specificity k / n the step is reached, whatever 1 - k / n is in floating point."""
    grid = np.linspace(0, 1, 11)
    label = np.r_[np.zeros(negatives_n, int), np.ones(negatives_n, int)]
    score = np.r_[np.arange(negatives_n), np.arange(negatives_n) - 0.5]
    got = stats.roc_on_grid(label, score, np.ones((1, len(label)), dtype), grid)[0]
    # a score of k - 0.5 is above the k lowest negatives, so specificity and sensitivity add up to 1
    expected = [(np.arange(negatives_n) - 0.5 > round(s * negatives_n) - 1).mean() for s in grid]
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert np.isnan(
        stats.roc_on_grid(label, score, np.r_[np.zeros(negatives_n), np.ones(negatives_n)][None], grid)
    ).all()


# --- intervals and p-values --------------------------------------------------------------------------------


def test_intervals_are_percentiles_and_say_when_there_is_none():
    replicates = np.arange(1001) / 1000
    assert stats.interval(0.5, replicates) == pytest.approx((0.5, 0.025, 0.975, ""))
    some = np.r_[replicates, np.full(900, NAN)]
    assert stats.interval(0.5, some)[:3] == pytest.approx((0.5, 0.025, 0.975))
    for nothing in (stats.interval(0.5, np.r_[replicates, np.full(1100, NAN)]), stats.interval(NAN, replicates)):
        assert np.isnan(nothing[:3]).all() and nothing.reason
    label, (score, _), patient = sample()
    resamples = stats.patient_resamples(patient, 500, np.random.default_rng(0))
    whole = stats.auc_interval(label, score, resamples)
    assert whole.low < whole.estimate == stats.auc(label, score) < whole.high
    kappa = stats.rate_intervals(label, score > 0.5, resamples)["kappa"]
    assert kappa.low < kappa.estimate == stats.rates(label, score > 0.5)["kappa"] < kappa.high


@pytest.mark.parametrize(
    ("replicates", "p"),
    [
        (np.zeros(200), 1),  # the two sides are the same
        (np.full(199, 0.125), 2 / 200),  # never below 2 / (b + 1)
        (np.r_[np.full(190, 0.125), np.full(9, -0.125)], 2 * 10 / 200),
        (np.r_[np.full(190, -0.125), np.full(9, 0.125)], 2 * 10 / 200),
        (np.r_[np.full(190, 0.125), np.zeros(9)], 2 * 10 / 200),  # a replicate of exactly 0 is no evidence
        (np.r_[np.full(199, 0.125), np.full(50, NAN)], 2 / 200),
        (np.r_[np.full(100, 0.125), np.full(100, -0.125)], 1),
    ],
)
def test_difference_p(replicates, p):
    got = stats.difference(np.nanmean(replicates), replicates)
    assert got.p == pytest.approx(p) and got.low <= got.estimate <= got.high


def test_difference_of_nothing_is_undefined():
    got = stats.difference(NAN, np.zeros(10))
    assert np.isnan(got[:4]).all() and got.reason


def test_holm_by_hand():
    # sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 x 1, raised to the one before it
    got = stats.holm([0.01, 0.04, NAN, 0.03, 0.005])
    np.testing.assert_allclose(got, [0.03, 0.06, NAN, 0.06, 0.02])
    assert np.isnan(stats.holm([NAN, NAN])).all() and stats.holm([0.7, 0.9]).tolist() == [1, 1]


def test_normal_theory_by_hand():
    assert stats.two_sided_p(-1.959963985) == pytest.approx(0.05)
    assert stats.standard_error_from_interval(0.830, 0.846) == pytest.approx(0.00408, abs=5e-6)


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
        (stats.delong(label, scores), slow_delong(label, scores)),
        (stats.delong(label, scores, patient), slow_obuchowski(label, scores, patient)),
    ):
        np.testing.assert_allclose(got[0], expected[0], atol=1e-13)
        np.testing.assert_allclose(got[1], expected[1], atol=1e-13)
        assert got[1][0, 1] > 0 and (got[1] == got[1].T).all()
    alone = np.random.default_rng(seed).permutation(len(label))  # one image per patient, in any order
    np.testing.assert_allclose(stats.delong(label, scores, alone)[1], stats.delong(label, scores)[1], atol=1e-12)


def test_doubling_every_image_changes_only_the_unclustered_error():
    """Copies of an image are no new evidence: the clustered error stays, DeLong's shrinks by root two."""
    label, scores, _ = sample(n=200)
    patient = np.arange(len(label))
    twice = np.repeat(patient, 2)
    before, after = stats.delong(label, scores), stats.delong(label[twice], scores[:, twice])
    clustered = stats.delong(label[twice], scores[:, twice], twice)
    np.testing.assert_allclose(after[1], before[1] / 2, rtol=0.02)
    np.testing.assert_allclose(clustered[1], before[1], rtol=1e-9)


@pytest.mark.parametrize("clustered", [False, True])
def test_delong_test(clustered):
    label, (a, b), patient = sample(levels=4)
    patient = patient if clustered else None
    areas, covariance = slow_delong(label, [a, b]) if patient is None else slow_obuchowski(label, [a, b], patient)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    got = stats.delong_test(label, a, b, patient)
    assert got.estimate == pytest.approx(areas[0] - areas[1])
    assert (got.high - got.low) / 2 == pytest.approx(1.959964 * error)
    assert got.p == pytest.approx(2 * (1 - norm.cdf(abs(got.estimate) / error)))
    back = stats.delong_test(label, b, a, patient)
    assert (back.estimate, back.low, back.p) == pytest.approx((-got.estimate, -got.high, got.p))
    for same in (a, 2 * a + 1, np.exp(a)):
        assert stats.delong_test(label, a, same, patient) == (0, 0, 0, 1, "")


@pytest.mark.parametrize(
    ("label", "a", "b", "patient"),
    [
        ([0, 0, 0, 1], [1, 2, 3, 4], [1, 3, 2, 4], None),  # one positive
        ([0, 0, 1, 1], [1, 2, 3, 4], [1, 3, 2, 4], [1, 2, 3, 3]),  # positives of one patient
        ([0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1], None),  # AUC 1 against 0: four images are not p = 0
    ],
)
def test_delong_test_says_when_it_cannot_tell(label, a, b, patient):
    got = stats.delong_test(label, a, b, patient)
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
        stats.auc,
        stats.rates,
        stats.delong,
        lambda label, score: stats.delong_test(label, [0.1, 0.2, 0.3][: len(score)], score),
        lambda label, score: stats.threshold_at_specificity(label, score, 0.9),
        lambda label, score: stats.roc_on_grid(label, score, np.ones((1, len(score))), [0.9]),
        lambda label, score: stats.auc_replicates(label, score, stats.Resamples(np.ones((1, len(score))))),
    ],
)
def test_bad_input_is_named(call, label, score, message):
    with pytest.raises(ValueError, match=message):
        call(label, score)


def test_a_decision_is_0_or_1():
    with pytest.raises(ValueError, match=r"decision 1 is 0\.4"):
        stats.rates([0, 1], [1, 0.4])


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
        resamples = stats.patient_resamples(patient, 300, rng)
        low, high = stats.auc_interval(ill, a, resamples)[1:3]
        covered["bootstrap"] += low <= truth <= high
        replicates = stats.auc_replicates(ill, a, resamples) - stats.auc_replicates(ill, b, resamples)
        gap = stats.auc(ill, a) - stats.auc(ill, b)
        rejected["bootstrap"] += stats.difference(gap, replicates).p <= 0.05
        for name, clusters in (("clustered", patient), ("by image", None)):
            areas, covariance = stats.delong(ill, a, clusters)
            covered[name] += abs(areas[0] - truth) <= 1.96 * np.sqrt(covariance[0, 0])
            rejected[name] += stats.delong_test(ill, a, b, clusters).p <= 0.05
    covered, rejected = ({k: v / repetitions for k, v in d.items()} for d in (covered, rejected))
    assert min(covered["bootstrap"], covered["clustered"]) >= 0.9 and covered["by image"] < 0.85, covered
    assert max(rejected["bootstrap"], rejected["clustered"]) <= 0.1 and rejected["by image"] > 0.15, rejected
