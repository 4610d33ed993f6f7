"""Label noise: measured as it is, and put back as it was measured."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

from cxrlib.releases import nih
from cxrlib.releases.google import read_google_four
from cxrlib.statistics import noise

NAN = float("nan")
CALIBRATION = pd.DataFrame(
    {
        "stratum": ["all", *noise.STRATA],
        "tp": [999, 63, 34],
        "fp": [999, 39, 64],
        "fn": [999, 52, 46],
        "tn": [999, 237, 1427],
    }  # `all` must not be used
)


@pytest.fixture(scope="module")
def cohort():
    """Return labels of 150,000 images, how conspicuous each is, and their patients, five images each."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(30_000), 5)
    reference = rng.random(patient.size) < rng.beta(0.3, 2, 30_000)[patient]
    return reference.astype(float), rng.random(patient.size), patient


def rates(reference, labels, patient):
    """Return misses and false alarms by stratum, each with its number of trials."""
    found = noise.calibrate(reference, labels, patient).set_index("stratum")
    return {
        (stratum, kind): (found.loc[stratum, wrong], found.loc[stratum, wrong] + found.loc[stratum, right])
        for stratum in noise.STRATA
        for kind, wrong, right in (("missed", "fn", "tp"), ("false alarm", "fp", "tn"))
    }


def test_other_positive_by_hand():
    patient = ["a", "a", "a", "b", "b", "c", "d", "d", "d"]
    reference = [1, 0, NAN, 1, 1, 1, 1, -1, 0]
    expected = [False, True, True, True, True, False, False, True, True]  # -1 takes nothing away
    assert noise.other_positive(reference, patient).tolist() == expected
    shuffled = np.random.default_rng(0).permutation(len(patient))
    got = noise.other_positive(np.array(reference)[shuffled], np.array(patient)[shuffled])
    assert got.tolist() == np.array(expected)[shuffled].tolist()


def test_confusion_by_hand():
    reference = [1, 1, 1, 0, 0, 0, 0, NAN, -1, 1, 0]
    other = [1, 0, 0, 1, 0, 0, 0, 1, 1, NAN, -1]
    assert noise.confusion(reference, other) == {"tp": 1, "fp": 1, "fn": 2, "tn": 3}


def test_strata_add_up(cohort):
    reference, conspicuity, patient = cohort
    table = noise.calibrate(reference, conspicuity > 0.7, patient).set_index("stratum")
    assert (table.loc[list(noise.STRATA)].sum() == table.loc["all"]).all()
    assert table.loc["all"].sum() == len(reference)


@pytest.mark.parametrize("tilt", [0, 3.0])
def test_scale_0_is_the_reference(cohort, tilt):
    reference, conspicuity, patient = cohort
    got = noise.corrupt(
        reference, patient, CALIBRATION, np.random.default_rng(1), scale=0, miss_log_odds=-tilt * conspicuity
    )
    assert got.dtype == np.float32 and (got == reference).all()


@pytest.mark.parametrize("scale", [1, 0.4])
@pytest.mark.parametrize("tilt", [0, 3.0])
def test_rates_are_the_calibrated_ones(cohort, tilt, scale):
    """Stratum by stratum, however much the errors lean to some images."""
    reference, conspicuity, patient = cohort
    labels = noise.corrupt(
        reference,
        patient,
        CALIBRATION,
        np.random.default_rng(2),
        scale=scale,
        miss_log_odds=-tilt * conspicuity,
        false_alarm_log_odds=tilt * (conspicuity > 0.9),
    )
    wanted = CALIBRATION.set_index("stratum")
    for (stratum, kind), (errors, trials) in rates(reference, labels, patient).items():
        wrong, right = ("fn", "tp") if kind == "missed" else ("fp", "tn")
        rate = scale * wanted.loc[stratum, wrong] / (wanted.loc[stratum, wrong] + wanted.loc[stratum, right])
        assert trials > 3000
        assert abs(errors / trials - rate) < 4 * np.sqrt(rate * (1 - rate) / trials), (stratum, kind)
    missed, called = (reference == 1) & (labels == 0), (reference == 0) & (labels == 1)
    lean = conspicuity[reference == 1].mean() - conspicuity[missed].mean()
    drawn_to = (conspicuity[called] > 0.9).mean() - 0.1
    assert (lean > 0.08 and drawn_to > 0.3) if tilt else (abs(lean) < 0.02 and abs(drawn_to) < 0.02)


@pytest.mark.parametrize("tilt", [0, 2.0])
def test_errors_grow_with_the_scale_and_none_goes_away(cohort, tilt):
    reference, conspicuity, patient = cohort
    wrong = [
        noise.corrupt(
            reference, patient, CALIBRATION, np.random.default_rng(3), scale=s, miss_log_odds=-tilt * conspicuity
        )
        != reference
        for s in (0, 0.25, 0.5, 1)
    ]
    for less, more in itertools.pairwise(wrong):
        assert not (less & ~more).any() and less.sum() < more.sum()


def test_errors_that_repeat_within_a_patient_are_as_often_as_before(cohort):
    """The rates stay, and how often two images of a patient err together is that of a bivariate normal."""
    reference, conspicuity, patient = cohort
    rho, found = 0.8, {}
    for correlation in (0.0, rho):
        labels = noise.corrupt(
            reference,
            patient,
            CALIBRATION,
            np.random.default_rng(4),
            miss_log_odds=-3 * conspicuity,
            correlation=correlation,
        )
        wanted = CALIBRATION.set_index("stratum")
        for (stratum, kind), (errors, trials) in rates(reference, labels, patient).items():
            wrong, right = ("fn", "tp") if kind == "missed" else ("fp", "tn")
            rate = wanted.loc[stratum, wrong] / (wanted.loc[stratum, wrong] + wanted.loc[stratum, right])
            tolerance = 5 * np.sqrt(rate * (1 - rate) / trials * (1 + 4 * correlation))  # five images a patient
            assert abs(errors / trials - rate) < tolerance, (correlation, stratum, kind)
        whole = (reference == 0).reshape(-1, 5).all(1)  # patients of five negatives: one stratum, no tilt
        alarms = labels.reshape(-1, 5)[whole] == 1
        found[correlation] = (alarms[:, 0] & alarms[:, 1]).mean(), whole.sum()
    rate = 64 / (64 + 1427)
    at = norm.ppf(rate)
    for correlation, (together, n) in found.items():
        expected = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]]).cdf([at, at])
        assert abs(together - expected) < 4 * np.sqrt(expected / n), correlation
    assert found[rho][0] > 8 * found[0.0][0]


def test_no_correlation_draws_as_ever_and_errors_of_a_patient_grow_with_the_scale(cohort):
    reference, _, patient = cohort
    plain, named = (
        noise.corrupt(reference, patient, CALIBRATION, np.random.default_rng(5), **how)
        for how in ({}, {"correlation": 0.0})
    )
    assert (plain == named).all()
    wrong = [
        reference
        != noise.corrupt(reference, patient, CALIBRATION, np.random.default_rng(5), scale=s, correlation=0.8)
        for s in (0, 0.5, 1)
    ]
    assert not wrong[0].any() and not (wrong[1] & ~wrong[2]).any() and wrong[1].sum() < wrong[2].sum()


@pytest.mark.parametrize("correlation", [-0.1, 1.0, NAN])
def test_correlation_out_of_range(correlation):
    with pytest.raises(ValueError, match=r"correlation .* is outside"):
        noise.corrupt([0, 1], [1, 2], CALIBRATION, np.random.default_rng(0), correlation=correlation)


def test_what_is_not_assessed_stays_so():
    reference = np.array([1, 0, NAN, -1] * 500)
    got = noise.corrupt(reference, np.arange(2000), CALIBRATION, np.random.default_rng(0))
    assert np.isnan(got[2::4]).all() and (got[3::4] == -1).all() and 0 < (got[::4] == 0).sum() < 500


@pytest.mark.parametrize(("counts", "flipped"), [((0, 5, 5, 0), True), ((5, 0, 0, 5), False)])
def test_rates_of_0_and_1(counts, flipped):
    table = pd.DataFrame([(s, *counts) for s in noise.STRATA], columns=["stratum", "tp", "fp", "fn", "tn"])
    reference = np.arange(200) % 2
    got = noise.corrupt(reference, np.arange(200) // 4, table, np.random.default_rng(0), miss_log_odds=np.arange(200))
    assert (got == (1 - reference if flipped else reference)).all()


@pytest.mark.parametrize("scale", [-0.1, 1.5, NAN])
def test_scale_out_of_range(scale):
    with pytest.raises(ValueError, match=r"noise scale .* is outside"):
        noise.corrupt([0, 1], [1, 2], CALIBRATION, np.random.default_rng(0), scale=scale)


def test_pneumothorax_calibration_of_real_report_labels():
    """On Google's 1,962 test images; the strata are those of notebook 02."""
    google = read_google_four("test")
    reports = nih.read_nih_entries().set_index("image_id")["pneumothorax"].loc[google["image_id"]]
    table = noise.calibrate(google["pneumothorax"], reports.to_numpy(), google["patient_id"]).set_index("stratum")
    assert table.loc["all"].to_dict() == {"tp": 97, "fp": 103, "fn": 98, "tn": 1664}
    pd.testing.assert_frame_equal(
        table.loc[list(noise.STRATA)], CALIBRATION.set_index("stratum").loc[list(noise.STRATA)]
    )
