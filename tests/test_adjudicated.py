"""Adjudicated labels of some images: what is exact, what is unbiased over all draws, and what intervals cover."""

import itertools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cxrlib.statistics import accuracy, adjudicated, resampling

ALL = ("auc", *adjudicated.RATES)
CUT = 1.0


def population(rng, patients_n, clustered, independent):
    """Return scores, report labels, truth and patients: of one image or several correlated ones of a patient.

    Report labels err independently of the score given the truth, or more often call what the score calls.
    """
    images_n = rng.choice([1, 1, 2, 5], patients_n) if clustered else np.ones(patients_n, int)
    patient = np.repeat(np.arange(patients_n), images_n)
    shared = rng.normal(size=(2, patients_n))[:, patient] if clustered else np.zeros((2, len(patient)))
    truth = (0.7 * shared[0] + (0.7 if clustered else 1) * rng.normal(size=len(patient)) > 0.6).astype(float)
    score = 1.3 * truth + 0.5 * shared[1] + rng.normal(size=len(patient))
    leaning = 0.0 if independent else score - 0.5
    report = rng.random(len(patient)) < 1 / (1 + np.exp(2.2 - 2.6 * truth - leaning))
    return score, report.astype(float), truth, patient


def drawn(rng, patient, report, patients_n, how):
    """Return which images are adjudicated, with which probability: whole patients, of strata or not, or images."""
    if how == "images":
        keep = np.isin(np.arange(len(patient)), rng.choice(len(patient), patients_n, replace=False))
        return keep, np.full(len(patient), patients_n / len(patient))
    reported = np.bincount(patient, report) > 0
    parts = [(np.ones_like(reported), patients_n)]
    if how == "strata":
        parts = [(reported, patients_n // 2), (~reported, patients_n - patients_n // 2)]
    keep, probability = np.zeros(len(reported), bool), np.zeros(len(reported))
    for part, n in parts:
        keep[rng.choice(np.flatnonzero(part), n, replace=False)] = True
        probability[part] = n / part.sum()
    return keep[patient], probability[patient]


@pytest.fixture(scope="module")
def few():
    """Return 40 patients with 80 images, whose scores are tied."""
    score, report, truth, patient = population(np.random.default_rng(3), 40, True, False)
    return np.round(score, 1), report, truth, patient


# --- what is exact ------------------------------------------------------------------------------------------------


def test_everything_adjudicated_gives_the_plain_measures(few):
    score, report, truth, patient = few
    images = adjudicated.ScoredArchive(score, report, patient, cut=CUT)
    every = adjudicated.estimates(images, truth, np.ones(len(score), bool), np.ones(len(score)), measures=ALL)
    rates = accuracy.rates(truth, score >= CUT)
    plain = {"auc": accuracy.auc(truth, score), "prevalence": truth.mean(), **rates}
    for measure, method in itertools.product(ALL, ("mixed", "adjudicated", "augmented")):
        value = every[measure, method]
        assert value.estimate == pytest.approx(plain[measure]), (measure, method)
        assert value.se_archive == 0 and value.se > 0
    assert every["auc", "reports"].estimate == pytest.approx(accuracy.auc(report, score))
    by_report = accuracy.rates(report, score >= CUT)
    assert every["ppv", "reports"].estimate == pytest.approx(by_report["ppv"])
    noise = accuracy.rates(truth, report)
    gain = noise["ppv"] + noise["npv"] - 1
    corrected = 0.5 + (accuracy.auc(report, score) - 0.5) / gain
    assert every["auc", "independence"].estimate == pytest.approx(corrected)
    assert every["prevalence", "independence"].estimate == pytest.approx(truth.mean())


def test_the_standard_error_of_a_whole_archive_is_the_bootstraps():
    score, report, truth, patient = population(np.random.default_rng(4), 400, True, False)
    images = adjudicated.ScoredArchive(score, report, patient)
    value = adjudicated.estimates(images, truth, np.ones(len(score), bool), np.ones(len(score)))["auc", "adjudicated"]
    resamples = resampling.patient_resamples(patient, 2000, np.random.default_rng(5))
    assert value.se == pytest.approx(accuracy.auc(truth, score, resamples).std(), rel=0.05)


@pytest.mark.parametrize("method", ["adjudicated", "augmented"])
@pytest.mark.parametrize("whole_patients", [True, False])
def test_pair_sums_are_unbiased_over_all_draws(monkeypatch, method, whole_patients):
    """Every draw of six patients (or of nine images), each with a probability of its own, weighted by its chance."""
    rng = np.random.default_rng(6)
    patient = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5])
    unit = patient if whole_patients else np.arange(len(patient))
    truth, score = np.array([1, 0, 1, 1, 0, 0, 1, 0, 0.0]), np.round(rng.normal(size=9), 1)
    chance = rng.random((1, 9))
    monkeypatch.setattr(adjudicated, "chances", lambda images, truth, mask: np.repeat(chance, len(mask), 0))
    images = adjudicated.ScoredArchive(score, rng.integers(0, 2, 9), patient, whole_patients)
    each = rng.uniform(0.2, 0.9, unit.max() + 1)
    mask = np.array(list(itertools.product([False, True], repeat=len(each))))
    weight = np.where(mask, each, 1 - each).prod(1)
    order = images.order
    masses = adjudicated._masses(method, images, truth[order], mask[:, unit][:, order], each[unit][order])
    won, all_n, *_ = adjudicated._pair_sums(images, masses)
    pairs = truth.sum() * (1 - truth).sum()
    assert weight @ all_n == pytest.approx(pairs)
    assert weight @ won == pytest.approx(accuracy.auc(truth, score) * pairs)


def test_what_an_image_adds_is_the_derivative(few):
    score, report, _, patient = few
    images = adjudicated.ScoredArchive(score, report, patient)
    rng = np.random.default_rng(7)
    none = np.zeros((1, len(score)))
    positive, negative = rng.random((2, 1, len(score)))

    def area(more=0, less=0):
        masses = adjudicated._Masses(positive + more, negative + less, none, none, none, none)
        return adjudicated._auc(images, masses)

    step = 1e-6 * (np.arange(len(score)) == 11)
    _, more, less = area()
    assert (area(more=step)[0] - area()[0]) / 1e-6 == pytest.approx(more[:, 11], rel=1e-4)
    assert (area(less=step)[0] - area()[0]) / 1e-6 == pytest.approx(less[:, 11], rel=1e-4)


def test_many_draws_at_once_are_each_what_one_alone_is(monkeypatch):
    score, report, truth, patient = population(np.random.default_rng(8), 200, True, True)
    images = adjudicated.ScoredArchive(score, report, patient, cut=CUT)
    rng = np.random.default_rng(9)
    masks = np.stack([drawn(rng, patient, report, 80, "patients")[0] for _ in range(5)])
    probability = np.full(len(score), 0.4)
    monkeypatch.setattr(adjudicated, "_AT_ONCE", 2 * len(score))
    together = adjudicated.estimates(images, truth, masks, probability, measures=ALL)
    for k, mask in enumerate(masks):
        hidden = np.where(mask, truth, np.nan)  # labels of other images are not looked at
        alone = adjudicated.estimates(images, hidden, mask, probability, measures=ALL)
        for key, value in alone.items():
            np.testing.assert_allclose([part[0] for part in value], [part[k] for part in together[key]], err_msg=key)


# --- the chance of the finding --------------------------------------------------------------------------------------


def test_a_patients_labels_do_not_move_its_own_chance(few):
    score, report, truth, patient = few
    images = adjudicated.ScoredArchive(score, report, patient)
    mask = np.ones((1, len(score)), bool)
    before = adjudicated.chances(images, truth[images.order], mask)[0]
    flipped = np.where(patient == 7, 1 - truth, truth)
    after = adjudicated.chances(images, flipped[images.order], mask)[0]
    own = (patient == 7)[images.order]
    np.testing.assert_array_equal(before[own], after[own])
    assert (before != after).mean() > 0.5


def test_chances_are_those_of_a_logistic_regression():
    score, report, truth, patient = population(np.random.default_rng(10), 4000, False, False)
    images = adjudicated.ScoredArchive(score, report, patient)
    mask = np.ones((1, len(score)), bool)
    ours = adjudicated.chances(images, truth[images.order], mask)[0]
    features = np.c_[
        score, report, score * report
    ]  # scores are normal, so that their ranks' normal scores are linear
    theirs = LogisticRegression(C=1e6).fit(features, truth).predict_proba(features)[:, 1][images.order]
    assert np.abs(ours - theirs).mean() < 0.02
    assert adjudicated.contributions(images, truth).factor == pytest.approx(1, abs=0.1)


# --- simulated truth ----------------------------------------------------------------------------------------------


SCENARIOS = [
    (False, True, "patients"),
    (False, False, "patients"),
    (True, False, "patients"),
    (True, False, "strata"),
]


@pytest.fixture(scope="module")
def simulated():
    """Return, by scenario, the truth and each estimate in fresh populations, with whether its intervals cover."""
    out = {}
    for clustered, independent, how in SCENARIOS:
        score, _, truth, _ = population(np.random.default_rng(11), 300_000, clustered, independent)
        expected = {"auc": accuracy.auc(truth, score), "sensitivity": (score[truth == 1] >= CUT).mean()}
        expected |= {"ppv": truth[score >= CUT].mean(), "prevalence": truth.mean()}
        rng, rows = np.random.default_rng(20), []
        for _ in range(400):
            score, report, truth, patient = population(rng, 600, clustered, independent)
            images = adjudicated.ScoredArchive(score, report, patient, cut=CUT)
            mask, probability = drawn(rng, patient, report, 200, how)
            methods = ("adjudicated", "independence", "augmented")
            row, whole = {}, accuracy.auc(truth, score)
            for key, value in adjudicated.estimates(images, truth, mask, probability, methods, ALL).items():
                low, high = adjudicated.ends(value, value.se)
                row[key] = [value.estimate[0], low[0] <= expected[key[0]] <= high[0]]
                if key[0] == "auc":
                    low, high = adjudicated.ends(value, value.se_archive)
                    row[key] += [low[0] <= whole <= high[0]]
            rows.append(row)
        out[clustered, independent, how] = expected, {k: np.array([r[k] for r in rows], float).T for k in rows[0]}
    return out


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_augmented_and_adjudicated_alone_are_unbiased_and_cover(simulated, scenario):
    expected, found = simulated[scenario]
    for measure, method in itertools.product(ALL, ("adjudicated", "augmented")):
        estimate, covered, *of_archive = found[measure, method]
        assert abs(estimate.mean() - expected[measure]) < 0.15 * estimate.std() + 0.001, (measure, method)
        assert 0.93 <= covered.mean() <= (0.97 if measure == "auc" else 0.985), (measure, method, covered.mean())
        assert all(0.93 <= part.mean() <= 0.97 for part in of_archive), (method, of_archive[0].mean())
    assert found["auc", "augmented"][0].std() < found["auc", "adjudicated"][0].std()


def test_independence_holds_where_errors_ignore_the_score_and_fails_where_they_follow_it(simulated):
    expected, found = simulated[SCENARIOS[0]]
    for measure in ALL:
        estimate, covered, *_ = found[measure, "independence"]
        assert abs(np.median(estimate) - expected[measure]) < 0.15 * estimate.std(), measure
        assert 0.93 <= covered.mean() <= 0.975, measure
    expected, found = simulated[SCENARIOS[1]]
    estimate, covered, *_ = found["auc", "independence"]
    assert estimate.mean() > expected["auc"] + 0.1 and covered.mean() < 0.6
    assert 0.93 <= found["prevalence", "independence"][1].mean() <= 0.975  # it makes no use of the score


@pytest.mark.parametrize("how", ["patients", "strata", "images"])
def test_the_standard_error_for_an_archive_is_the_spread_over_its_draws(how):
    score, report, truth, patient = population(np.random.default_rng(13), 600, True, False)
    images = adjudicated.ScoredArchive(score, report, patient, how != "images")
    rng = np.random.default_rng(14)
    masks, (probability, *_) = zip(*(drawn(rng, patient, report, 250, how) for _ in range(600)), strict=True)
    every = adjudicated.estimates(images, truth, np.stack(masks), probability, ("adjudicated", "augmented"))
    for value in every.values():
        assert np.sqrt((value.se_archive**2).mean()) == pytest.approx(value.estimate.std(), rel=0.08)
        assert value.estimate.mean() == pytest.approx(accuracy.auc(truth, score), abs=0.003)


def test_labels_that_tell_nothing_gain_nothing_and_cost_little():
    """The negative control: scores and report labels are shuffled together, away from the truth."""
    score, report, truth, patient = population(np.random.default_rng(15), 1500, False, False)
    moved = np.random.default_rng(16).permutation(len(score))
    images = adjudicated.ScoredArchive(score[moved], report[moved], patient)
    rng = np.random.default_rng(17)
    masks = np.stack([drawn(rng, patient, report, 150, "patients")[0] for _ in range(800)])
    every = adjudicated.estimates(images, truth, masks, np.full(len(score), 0.1), ("adjudicated", "augmented"))
    spread = [every["auc", method].estimate.std() for method in ("adjudicated", "augmented")]
    assert spread[1] == pytest.approx(spread[0], rel=0.05)


# --- what is refused, and what gets no interval -------------------------------------------------------------------


def test_what_makes_no_sense_is_refused(few):
    score, report, truth, patient = few
    images = adjudicated.ScoredArchive(score, report, patient)
    mask, probability = patient < 20, np.full(len(score), 0.5)
    with pytest.raises(ValueError, match="No image is adjudicated"):
        adjudicated.estimates(images, truth, np.zeros(len(score), bool), probability)
    for wrong in (0, 1.2, np.nan):
        with pytest.raises(ValueError, match=r"probability 3 is .*: it must lie above 0 and not above 1"):
            adjudicated.estimates(images, truth, mask, np.where(np.arange(len(score)) == 3, wrong, 0.5))
    with pytest.raises(ValueError, match="adjudicated label 2 is -1: resolve uncertain"):
        adjudicated.estimates(images, np.where(np.arange(len(score)) == 2, -1, truth), mask, probability)
    several = np.flatnonzero(np.bincount(patient) > 1)[0]
    partly = mask & ~((patient == several) & np.r_[True, patient[1:] != patient[:-1]])
    with pytest.raises(ValueError, match="one is adjudicated in part or has several probabilities"):
        adjudicated.estimates(images, truth, partly, probability)
    with pytest.raises(ValueError, match="need a decision threshold"):
        adjudicated.estimates(images, truth, mask, probability, measures=("ppv",))
    single = adjudicated.ScoredArchive(score, report, patient, whole_patients=False)
    assert np.isfinite(adjudicated.estimates(single, truth, partly, probability)["auc", "augmented"].estimate)


def test_few_patients_of_a_class_give_no_interval_and_none_no_estimate():
    rng = np.random.default_rng(18)
    truth = np.repeat([1.0, 0.0], [40, 160])
    score, report, patient = truth + rng.normal(size=200), rng.integers(0, 2, 200), np.arange(200)
    images, probability = adjudicated.ScoredArchive(score, report, patient), np.full(200, 0.5)

    def shown(positives_n, method="augmented", p=probability):
        mask = np.r_[np.arange(40) < positives_n, np.arange(160) < 80]
        return adjudicated.as_interval(adjudicated.estimates(images, truth, mask, p)["auc", method])

    assert shown(0).reason == "undefined: all adjudicated images are of one class" and np.isnan(shown(0).estimate)
    assert shown(9).reason == "no interval: it rests on 9 adjudicated patients, fewer than 10"
    assert np.isfinite(shown(9).estimate) and np.isnan(shown(9).low)
    assert shown(12).reason == "" and 0 < shown(12).low < shown(12).estimate < shown(12).high < 1
    certain = np.where(np.arange(200) < 40, 1.0, 0.5)  # no positive where only some are adjudicated
    assert shown(40, p=certain).reason == "no interval: it rests on 0 adjudicated patients, fewer than 10"
    assert np.isfinite(shown(9, "reports").low)
