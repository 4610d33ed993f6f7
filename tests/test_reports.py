"""Simulated reports: what they say is what was in mind, at the measured rates, and they repeat by seed."""

import numpy as np
import pandas as pd
import pytest

from cxrlib.cohorts import simulation
from cxrlib.reports import simulated_reports
from cxrlib.statistics import noise


@pytest.fixture(scope="module")
def cohort():
    index = simulation.admissions(simulation.HOSPITALS["internal"], 3000, np.random.default_rng(3))
    truth = index[list(simulated_reports.REPORTED_FINDINGS)].astype(float)
    rows = []
    for finding in ("pneumothorax", "airspace_opacity", "nodule_or_mass"):
        for stratum in noise.STRATA:
            rates = {"missed_frac": 0.5, "false_alarm_frac": 0.06}
            rows.append({"finding": finding, "stratum": stratum, "tp": 50, "fp": 60, "fn": 50, "tn": 940, **rates})
    return index, truth, pd.DataFrame(rows)


def test_omissions_and_false_alarms_are_those_measured(cohort):
    index, truth, measured = cohort
    _, said = simulated_reports.simulated(index, truth, measured, 1)
    for finding in simulated_reports.REPORTED_FINDINGS:
        there = truth[finding] == 1
        assert 1 - said[finding][there].mean() == pytest.approx(0.5, abs=0.1), finding
        assert said[finding][~there].mean() == pytest.approx(0.06, abs=0.02), finding
    drains = index["chest_drain"] == 1
    wrong = (said["pneumothorax"] == 1) & (truth["pneumothorax"] == 0)
    assert wrong[drains].mean() > wrong[~drains].mean(), "false pneumothoraces lean to drains"


def test_same_seed_same_reports(cohort):
    index, truth, measured = cohort
    first, _ = simulated_reports.simulated(index[:50], truth[:50], measured, 5)
    again, _ = simulated_reports.simulated(index[:50], truth[:50], measured, 5)
    other, _ = simulated_reports.simulated(index[:50], truth[:50], measured, 6)
    assert first == again != other


def test_without_errors_typos_and_doubt_the_text_says_the_truth(cohort):
    index, truth, _ = cohort
    plain = simulated_reports.Style(hedged=0, followed=0, denied=1, typo=0)
    rng = np.random.default_rng(0)
    for k in range(200):
        row, said = index.iloc[k].to_dict(), truth.iloc[k].to_dict()
        text = simulated_reports.compose(row, said, rng, plain)
        assert text.startswith("INDICATION: ") and "\nFINDINGS: " in text and "\nIMPRESSION: " in text
        denied = [n for f, n in simulated_reports.NAMES.items() if not said[f]]
        body = text.split("FINDINGS: ")[1].lower()
        assert all(name in body for name in denied)
        if not any(said.values()):
            assert "No acute cardiopulmonary abnormality" in text
        elif said["cardiomegaly"]:
            assert "enlarged" in body or "cardiomegaly" in body


def test_every_habit_occurs(cohort):
    index, truth, measured = cohort
    texts, _ = simulated_reports.simulated(index, truth, measured, 2)
    whole = "\n".join(texts)
    for words in ("cannot be excluded", "is unchanged", "No evidence of", "chest tube in place", "rule out", "or "):
        assert words.lower() in whole.lower(), words
    assert sum("pneumothorx" in t or "pnuemothorax" in t or "efusion" in t for t in texts) > 0, "typing errors"


@pytest.fixture(scope="module")
def alone():
    """Return images of one patient each, so that within the measured rates only conspicuity and drains decide."""
    rng = np.random.default_rng(8)
    n = 6000
    index = pd.DataFrame({"patient_id": np.arange(n).astype(str), "chest_drain": rng.integers(0, 2, n)})
    truth = pd.DataFrame({f: (rng.random(n) < 0.5) * 1.0 for f in simulated_reports.REPORTED_FINDINGS})
    for finding in truth:
        index[f"{finding}_conspicuity"] = rng.random(n)
    rows = [
        {"finding": finding, "stratum": stratum, "tp": 60, "fp": 10, "fn": 40, "tn": 90}
        for finding in ("pneumothorax", "airspace_opacity", "nodule_or_mass")
        for stratum in noise.STRATA
    ]
    return index, truth, pd.DataFrame(rows)


def shares(index, truth, said, finding):
    """Return the share missed among faint and among plain findings, and called falsely with and without a drain."""
    present, plain, drained = truth[finding] == 1, index[f"{finding}_conspicuity"] > 0.5, index["chest_drain"] == 1
    missed = [(said[finding] == 0)[present & chosen].mean() for chosen in (~plain, plain)]
    called = [(said[finding] == 1)[~present & chosen].mean() for chosen in (drained, ~drained)]
    return *missed, *called


@pytest.mark.parametrize("finding", simulated_reports.REPORTED_FINDINGS)
def test_faint_findings_are_omitted_more_often_and_drains_called_pneumothorax(alone, finding):
    index, truth, measured = alone
    rng = np.random.default_rng(1)
    said = simulated_reports.in_mind(index, truth, measured, rng, drain_log_odds=2.0, faint_log_odds=3.0)
    faint, plain, drained, without = shares(index, truth, said, finding)
    assert faint > plain + 0.2
    if finding == "pneumothorax":
        assert drained > 2 * without
    else:
        assert abs(drained - without) < 0.04
    said = simulated_reports.in_mind(index, truth, measured, rng, drain_log_odds=0.0, faint_log_odds=0.0)
    faint, plain, drained, without = shares(index, truth, said, finding)
    assert abs(faint - plain) < 0.06 and abs(drained - without) < 0.04, "without log-odds nothing leans"
