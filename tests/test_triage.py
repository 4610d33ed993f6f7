"""Ruling out and reading lists: known answers, ties, and what cannot be drawn."""

import numpy as np
import pytest

from cxrlib.statistics import accuracy, resampling
from cxrlib.studies import triage

DESK = triage.Desk(images_n=20, abnormal_frac=0.4, critical_frac=0.1, minutes=2.0, lists_n=20_000)


def lists(score, desk=DESK, threshold=0.5, resamples_n=20, seed=0, **changes):
    n = 600
    rng = np.random.default_rng(seed)
    label = (np.arange(n) < 240).astype(float)
    critical = (np.arange(n) < 60).astype(float)
    given = {"label": label, "critical": critical, "patient_id": np.arange(n) // 2, **changes}
    scores, of = score(label, critical, rng), [given[name] for name in ("label", "critical", "patient_id")]
    table = triage.reading_list(of[0], of[1], scores, threshold, of[2], desk, resamples_n, rng)
    return table.set_index(["order", "measure"])


def noise(label, critical, rng):
    return rng.random(len(label))


def perfect(label, critical, rng):
    return critical + 0.1 * label + 0.01 * rng.random(len(label))


FIRST, MEAN = "minutes to the first critical image", "mean minutes to a critical image"


def test_in_random_order_the_wait_is_what_the_binomial_says():
    got = lists(noise)["estimate"]
    # the first of a list of Bernoulli(0.1) images, given that there is one
    k = np.arange(1, 21)
    p = 0.1 * 0.9 ** (k - 1)
    expected = 2 * (k * p).sum() / p.sum()
    assert got["as they came", FIRST] == pytest.approx(expected)
    assert got["highest score first", FIRST] == pytest.approx(expected, rel=0.03)  # a score that knows nothing
    assert got["as they came", MEAN] == 2 * 10.5


def test_a_perfect_score_puts_critical_images_first():
    got = lists(perfect)
    assert got["estimate"]["highest score first", FIRST] == 2.0
    gain = got.loc[("highest score first", "gain, " + FIRST)]
    assert gain["low"] > 0
    assert gain["estimate"] == pytest.approx(got["estimate"]["as they came", FIRST] - 2.0)


def test_a_perfect_score_reads_all_critical_images_before_the_rest():
    """With K critical images of 20, each 0.1 likely, they stand on places 1 to K: E[K(K + 1)] / 2 E[K] on average."""
    got = lists(perfect)["estimate"]
    k_mean, k_variance = 2.0, 1.8
    expected = 2 * (k_variance + k_mean**2 + k_mean) / (2 * k_mean)
    assert got["highest score first", MEAN] == pytest.approx(expected, rel=0.02)
    assert got["highest score first", "gain, " + MEAN] == pytest.approx(
        got["as they came", MEAN] - expected, rel=0.01
    )


def test_an_image_at_the_threshold_is_not_ruled_out():
    label, score = np.tile([0.0, 1.0], 50), np.tile([0.2, 0.5], 50)
    resamples = resampling.patient_resamples(np.arange(100), 20, np.random.default_rng(0))
    got = triage.rule_out(label, score, 0.5, [], resamples).set_index("measure")["estimate"]
    assert got["sensitivity"] == 1 and got["specificity"] == 1


def test_ruling_out_moves_only_what_is_below_the_threshold():
    unchanged = lists(noise, threshold=-1)["estimate"]
    assert unchanged["ruled out last", FIRST] == pytest.approx(unchanged["as they came", FIRST], rel=0.02)
    ruled = lists(perfect, threshold=0.05)["estimate"]  # all normal ones go last
    assert ruled["highest score first", FIRST] < ruled["ruled out last", FIRST] < ruled["as they came", FIRST]


def test_lists_without_a_critical_image_are_counted():
    assert lists(noise)["lists_without_critical_frac"].iloc[0] == pytest.approx(0.9**20)


def test_few_critical_patients_give_no_interval():
    critical = (np.arange(600) < 8).astype(float)
    got = lists(noise, critical=critical)
    drawn = got.drop("as they came")
    assert drawn["low"].isna().all() and drawn["reason"].str.contains("patients").all()


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="no critical image"):
        lists(noise, critical=np.zeros(600))
    with pytest.raises(ValueError, match="critical images are some"):
        triage.Desk(20, 0.1, 0.2, 1, 10)


def test_work_saved_counts_missed_findings_too():
    assert triage.work_saved(0.95, 0.4, 0.25) == pytest.approx(0.25 * 0.05 + 0.75 * 0.4)


@pytest.mark.parametrize("wanted", (0.5, 0.8, 0.9, 0.95, 1.0))
def test_threshold_reaches_the_sensitivity_and_no_higher_one_does(wanted):
    rng = np.random.default_rng(3)
    label = (rng.random(300) < 0.3).astype(float)
    score = np.round(rng.random(300), 2)  # with ties
    at = triage.threshold_at_sensitivity(label, score, wanted)
    assert accuracy.sensitivity(label, (score >= at).astype(float)) >= wanted - 1e-9
    higher = np.nextafter(at, 2)
    assert accuracy.sensitivity(label, (score >= higher).astype(float)) < wanted


def test_no_finding_no_threshold():
    with pytest.raises(ValueError, match="there is none"):
        triage.threshold_at_sensitivity([0, 0], [0.1, 0.2], 0.9)


def test_rule_out_rates_and_where_too_few_are_ruled_out():
    rng = np.random.default_rng(0)
    label = (np.arange(400) < 160).astype(float)
    score = label + rng.normal(0, 0.7, 400)
    resamples = resampling.patient_resamples(np.arange(400), 200, rng)
    at = triage.threshold_at_sensitivity(label, score, 0.95)
    got = triage.rule_out(label, score, at, [0.1], resamples).set_index("measure")
    assert got.at["sensitivity", "estimate"] == pytest.approx(0.95, abs=0.005)
    expected = 0.1 * 0.05 + 0.9 * got.at["specificity", "estimate"]
    assert got.at["work saved at prevalence 0.1", "estimate"] == pytest.approx(expected, abs=0.001)
    assert got["low"].notna().all() and (got["low"] <= got["estimate"]).all()
    none = triage.rule_out(label, score, np.sort(score)[3], [0.1], resamples).set_index("measure")
    npv = none.loc["npv at prevalence 0.1"]
    assert np.isnan(npv["low"]) and "3 patients" in npv["reason"]
    assert np.isfinite(none.at["specificity", "low"])
