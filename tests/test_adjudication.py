"""How many images to adjudicate: what is drawn, what is read off the draws, and that theory and draws agree."""

import numpy as np
import pandas as pd
import pytest

from cxrlib.statistics import accuracy, resampling
from cxrlib.studies import adjudication, adjudication_pages


@pytest.fixture(scope="module")
def case():
    """Return 500 patients with one to six images, two networks, and reports that miss half of a rare finding."""
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(500), rng.choice([1, 1, 2, 6], 500))
    shared = rng.normal(size=500)[patient]
    truth = (0.8 * shared + 0.6 * rng.normal(size=len(patient)) > 0.9).astype(float)
    report = rng.random(len(patient)) < np.where(truth == 1, 0.5, 0.08)
    scores = {name: 1.2 * truth + 0.4 * shared + rng.normal(size=len(patient)) for name in ("a", "b")}
    ids = np.array([f"{k:08d}" for k in patient])
    return adjudication.Case(truth, report.astype(float), ids, scores)


def test_a_question_is_of_the_images_that_radiologists_and_networks_share():
    found = adjudication.read_case(adjudication.QUESTIONS["pneumothorax, Google"])
    assert (len(found.truth), found.patient.max() + 1) == (935, 353)
    assert (found.truth.sum(), found.report.sum(), (found.truth * found.report).sum()) == (46, 57, 22)
    assert len(found.scores) == 5
    assert accuracy.auc(found.truth, found.scores["zech"]) == pytest.approx(0.9043, abs=1e-4)
    narrow, wide = (
        adjudication.read_case(adjudication.QUESTIONS[f"opacity, RSNA{w}"], ["zech"]) for w in (", narrow", "")
    )
    assert (narrow.report <= wide.report).all() and narrow.report.sum() == 2657 and wide.report.sum() == 3050


def test_abnormal_is_what_radiologists_do_not_call_normal(monkeypatch):
    """On a fake of RSNA's classes, which no package has."""
    reports = adjudication._labels("nih_reports")
    ids = reports.index[reports.index.str.startswith("00000013")][:3]
    fake = pd.DataFrame({"no_finding": [1.0, 0.0, np.nan]}, ids)
    monkeypatch.setattr(adjudication, "_labels", {"rsna_on_nih": fake, "nih_reports": reports}.get)
    table = pd.DataFrame(0.1, fake.index, reports.columns).assign(mass=[0.9, 0.2, 0.1])
    monkeypatch.setattr(adjudication.predictions, "read_predictions", lambda name: table)
    found = adjudication.read_case(adjudication.ABNORMAL, ["zech"])
    assert found.truth.tolist() == [0, 1] and set(found.patient_id) == {"00000013"}
    assert found.scores["zech"][0] == pytest.approx(1 - 0.1 * 0.9**13)


@pytest.mark.parametrize("design", adjudication.DESIGNS)
def test_draws_hold_as_many_as_asked_for_with_their_probability(case, design):
    mask, probability = adjudication.draws(case, design, 100, 400, np.random.default_rng(2))
    whole, halves = adjudication.DESIGNS[design]
    size, reported = case.units(whole)
    unit = case.patient if whole else np.arange(len(case.truth))
    drawn = np.array([np.bincount(unit, row) for row in mask])
    assert set(np.unique(drawn / size)) == {0, 1}  # whole units
    all_n = 100 if whole else round(100 * len(case.truth) / 500)
    assert ((drawn > 0).sum(1) == all_n).all()
    if halves:
        assert ((drawn > 0)[:, reported].sum(1) == all_n // 2).all()
    assert np.abs(mask.mean(0) - probability).max() < 5 * np.sqrt(0.25 / 400)
    every, _ = adjudication.draws(case, "patients, half reported", 450, 1, np.random.default_rng(2))
    assert every[0, case.units(True)[1][case.patient]].all()  # fewer reported patients than half: all of them


def test_a_summary_averages_errors_over_networks():
    rows = [
        ("a", 0.70, 0.6, 0.8, 0.1),
        ("a", 0.80, 0.76, 0.9, 0.1),
        ("b", 0.90, np.nan, np.nan, 0.3),
        ("b", 0.96, 0.9, 1, 0.3),
    ]
    table = pd.DataFrame(rows, columns=["network", "estimate", "low", "high", "se"]).assign(
        design="patients", patients_n=50, images_n=60, measure="auc", method="augmented", truth=[0.75, 0.75, 0.9, 0.9]
    )
    row = adjudication.summary(table).iloc[0]
    assert row["bias"] == pytest.approx((0 + 0.03) / 2)
    assert row["se"] == pytest.approx(np.sqrt((0.005 + 0.0018) / 2))
    assert row["rmse"] == pytest.approx(np.sqrt((0.005 + 0.0018 + 0.0009) / 2))
    assert row["coverage"] == pytest.approx((0.5 + 1) / 2) and row["covered_n"] == 1.5
    assert row["se_estimated"] == pytest.approx(np.sqrt((0.01 + 0.09) / 2)) and row["images_n"] == 60


def test_images_are_read_off_draws_without_replacement():
    """Estimates whose variance is 4 (1 / m - 1 / 1000): 0.05 is reached at 1 / (0.05^2 / 4 + 1 / 1000)."""
    noise = np.random.default_rng(3).normal(size=4000)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    parts = [
        pd.DataFrame({"draw": np.arange(4000), "estimate": np.sqrt(4 * (1 / m - 1 / 1000)) * noise}).assign(
            design="images", method="augmented", images_n=m, network="a"
        )
        for m in (100, 200, 400)
    ]
    found = adjudication.interpolated(pd.concat(parts), 1000, 0.05, np.random.default_rng(4)).iloc[0]
    assert found["images_n"] == pytest.approx(1 / (0.05**2 / 4 + 1 / 1000))
    assert found["low"] < found["images_n"] < found["high"]


def test_theory_and_draws_agree(case):
    resamples = resampling.patient_resamples(case.patient_id, 100, np.random.default_rng(5))
    needed = adjudication.needed(case, resamples, 0.01)
    designs = ("patients", "images")
    simulated = adjudication.simulate(case, (200,), 600, np.random.default_rng(6), designs)
    for (design, _, _, method), row in adjudication.summary(simulated).iterrows():
        plan = needed.loc[design, method]
        theory = 0.01 * np.sqrt(plan["images_n"] * (1 / row["images_n"] - 1 / len(case.truth)))
        assert row["se"] == pytest.approx(theory, rel=0.12), (design, method)
        assert plan["low"] < plan["images_n"] < plan["high"]
        assert plan["network_low"] <= plan["images_n"] <= plan["network_high"]
    assert needed.loc["images", "augmented"]["saved"] > 0.2  # clusters cost
    assert needed.loc["patients", "adjudicated"][["saved", "saved_by_model", "saved_by_share"]].tolist() == [0, 0, 0]
    assert needed.loc["patients, half reported", "augmented"]["share"] == 0.5


def test_strata_are_by_hand_what_they_are(case):
    """Half of the draws from each of two strata: twice the sum of their squared share times variance."""
    weight = np.ones((1, 500))
    values = np.random.default_rng(7).normal(size=500)
    size, reported = case.units(True)
    variance, cost, share = adjudication._per_unit(case, values, True, True, False, weight)
    share_1 = reported.mean()
    by_hand = 2 * (share_1**2 * values[reported].var() + (1 - share_1) ** 2 * values[~reported].var())
    assert variance[0] == pytest.approx(by_hand) and share[0] == 0.5
    assert cost[0] == pytest.approx((size[reported].mean() + size[~reported].mean()) / 2)
    best, best_cost, _ = adjudication._per_unit(case, values, True, True, True, weight)
    assert best[0] * best_cost[0] <= variance[0] * cost[0]
    plain, plain_cost, _ = adjudication._per_unit(case, values, True, False, False, weight)
    assert plain[0] == pytest.approx(values.var()) and plain_cost[0] == pytest.approx(size.mean())


def test_controls_gain_nothing(case):
    parts = adjudication.controls(case, 120, 400, 1)
    gains = {kind: adjudication.gained(part, np.random.default_rng(2)) for kind, part in parts.items()}
    assert gains["as they are"]["low"] > 0
    assert abs(gains["reports shuffled"]["estimate"] - gains["score alone"]["estimate"]) < 0.05
    assert -0.08 < gains["both shuffled"]["estimate"] < 0.03
    assert gains["both shuffled"]["low"] < gains["both shuffled"]["estimate"] < gains["both shuffled"]["high"]


@pytest.mark.parametrize("design", ["patients", "images"])
def test_intervals_for_patients_like_these_cover_over_resampled_archives(case, design):
    found = adjudication.other_archives(case, "a", design, 150, 200, np.random.default_rng(8))
    table = adjudication.summary(found, by=("method",))
    assert table["coverage"].between(0.91, 0.99).all() and (table["bias"].abs() < 0.01).all()
    assert (table["se_estimated"] / table["se"]).between(0.85, 1.2).all()


def test_headline_has_numbers_with_two_digits_that_count(case):
    resamples = resampling.patient_resamples(case.patient_id, 50, np.random.default_rng(9))
    labels, plan = adjudication.by_whose_labels(case, resamples), adjudication.needed(case, resamples, 0.01)
    row = adjudication_pages.headline({"x": (case, labels, plan)}, 0.01).iloc[0]
    assert row["images (patients)"] == f"{len(case.truth):,} (500)"
    area = np.mean([accuracy.auc(case.truth, score) for score in case.scores.values()])
    assert row["AUC by radiologists"].startswith(f"{area:.3f} (")
    assert adjudication_pages._images(1234.4, 987.6, 23456) == "1,200 (990 to 23,000)"
    assert adjudication.tuning(case)["saved"].between(0, 0.3).all()


def test_the_figure_has_a_column_for_each_question(case):
    simulated = adjudication.simulate(case, (50, 100), 5, np.random.default_rng(1), methods=("mixed", "augmented"))
    fig = adjudication_pages.error_panels({"one": (adjudication.summary(simulated), -0.02)}, 0.01)
    assert len(fig.axes) == 2 and fig.axes[0].get_title(loc="left") == "one"
