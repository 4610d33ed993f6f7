"""What noise alone leaves of an AUC, and the excess over it: closed forms, simulated truth, NIH's images."""

import numpy as np
import pandas as pd
import pytest

from cxrlib.releases import catalogue, predictions
from cxrlib.statistics import accuracy, attenuation, resampling
from cxrlib.studies import nih_questions, two_references


def simulated(rng, patients_n=150, images_n=3, knows=0.0, networks_n=5):
    """Return a question of correlated images: reports err at rates of 0.3 and 0.2; a score may know where."""
    patient = np.repeat(np.arange(patients_n), images_n)
    truth = rng.normal(size=patients_n)[patient] + rng.normal(size=len(patient)) > 0.3
    flipped = rng.random(len(patient)) < np.where(truth, 0.3, 0.2)
    reports = np.where(flipped, ~truth, truth)
    shared = truth + rng.normal(size=len(patient)) + knows * (reports.astype(float) - truth)
    scores = {f"n{k}": shared + 0.3 * rng.normal(size=len(patient)) for k in range(networks_n)}
    images = pd.DataFrame({"image_id": np.arange(len(patient)).astype(str), "patient_id": patient})
    images = images.assign(radiologists=truth.astype(float), reports=reports.astype(float))
    return two_references.Question("finding", "simulated", images, pd.DataFrame(scores))


def test_markedness_of_a_table_by_hand():
    """8 of 10 called are true, 15 of 20 not called are not: 0.8 + 0.75 - 1."""
    truth = np.r_[np.ones(8), np.zeros(2), np.ones(5), np.zeros(15)]
    label = np.r_[np.ones(10), np.zeros(20)]
    assert attenuation.markedness(truth, label) == pytest.approx(0.55)
    assert attenuation.attenuated(0.9, 0.55) == pytest.approx(0.72)
    assert attenuation.markedness(truth, truth) == 1 and attenuation.attenuated(0.9, 1) == pytest.approx(0.9)


def test_expected_auc_of_two_classes_is_the_formula_in_every_resample():
    rng = np.random.default_rng(3)
    question = simulated(rng)
    truth, reports = (question.images[side].to_numpy() for side in ("radiologists", "reports"))
    score = question.scores["n0"].round(1).to_numpy()  # with ties
    resamples = resampling.patient_resamples(question.images["patient_id"], 20, rng)
    for r in (None, resamples):
        formula = attenuation.attenuated(accuracy.auc(truth, score, r), attenuation.markedness(truth, reports, r))
        assert attenuation.expected_auc(reports, truth, score, r) == pytest.approx(formula, abs=1e-12)


def test_expected_auc_keeps_what_classes_explain():
    """If a class decides both label and score, nothing is left; if there is one class, nothing is explained."""
    score = np.r_[np.zeros(50), np.ones(50)]
    assert attenuation.expected_auc(score, score, score) == pytest.approx(accuracy.auc(score, score))
    assert attenuation.expected_auc(score, np.zeros(100), score) == pytest.approx(0.5)


def test_weights_are_copies_of_images():
    rng = np.random.default_rng(5)
    label, score, copies = rng.random(40) < 0.5, rng.random(40), rng.integers(1, 4, 40)
    patient = np.repeat(np.arange(10), 4)
    resamples = resampling.patient_resamples(patient, 30, rng)
    many = resampling.Resamples(resamples.counts, np.repeat(resamples.patient, copies))
    weighted = accuracy.auc(label, score, resamples.weighted(copies))
    assert weighted == pytest.approx(accuracy.auc(np.repeat(label, copies), np.repeat(score, copies), many))
    part = label | (score > 0.5)
    inside = resamples.weighted(copies).of(part)
    assert inside.totals(np.ones(part.sum())) == pytest.approx(resamples.of(part).totals(copies[part]))
    assert len(resamples.weighted(copies).first(7)) == 7 and resamples.weighted(copies).first(7).sampling is not None


def test_the_interval_of_the_excess_covers_0_where_reports_err_without_regard_to_the_image():
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(300):
        question = simulated(rng)
        resamples = resampling.patient_resamples(question.images["patient_id"], 120, rng)
        found = two_references.table(question, resamples).set_index("estimand")
        missed += not found.loc["excess", "low"] <= 0 <= found.loc["excess", "high"]
    assert 0.02 <= missed / 300 <= 0.085  # 0.05 and 2.8 standard errors


def test_a_score_that_knows_the_report_has_an_excess_and_none_is_left_by_shuffling():
    rng = np.random.default_rng(9)
    question = simulated(rng, knows=1.0)
    found = two_references.tables([question], 200, rng).set_index("estimand")
    assert found.loc["excess", "low"] > 0.05 and found.loc["among_positives", "low"] > 0.6
    before = question.images
    after = two_references.with_shuffled_reports(question, rng).images
    pd.testing.assert_series_equal(
        before.groupby("radiologists")["reports"].sum(), after.groupby("radiologists")["reports"].sum()
    )
    null = two_references.null([question], 20, 100, rng)
    assert abs(null.loc[0, "mean"]) < 4 * null.loc[0, "se"] and null.loc[0, "missed"] <= 0.25


def test_auc_of_a_mean_over_networks_ends_at_1_and_few_patients_get_no_interval():
    rng = np.random.default_rng(11)
    question = simulated(rng)
    perfect = two_references.Question(
        "finding",
        "simulated",
        question.images,
        pd.DataFrame({f"n{k}": question.images["reports"] + 1e-3 * rng.random(450) for k in range(5)}),
    )
    found = two_references.tables([perfect], 50, rng).set_index("estimand")
    assert found.loc["auc_reports", "high"] == 1
    few = question.part((question.images["patient_id"] < 8).to_numpy())
    found = two_references.tables([few], 50, rng).set_index("estimand")
    assert np.isnan(found.loc["excess", "low"]) and "fewer than 10" in found.loc["excess", "reason"]


def test_ask_takes_what_both_sides_have():
    about = pd.DataFrame({"patient_id": list("aabc")}, index=list("1234"))
    labels = pd.Series([1, 0, np.nan, 1], index=list("1234"))
    score = pd.Series([0.1, 0.2, 0.3], index=list("123"))
    question = two_references.ask("f", "who", labels, labels.fillna(0), {"n": score}, about)
    assert list(question.images["image_id"]) == ["1", "2"] and question.counts()["patients_n"] == 1
    with pytest.raises(ValueError, match="radiologists, f of 1 is -1: resolve uncertain"):
        two_references.ask("f", "who", labels.replace({1: -1}), labels, {"n": score}, about)
    with pytest.raises(ValueError, match="no image has both labels"):
        two_references.ask("f", "who", labels[labels.isna()], labels, {"n": score}, about)


# --- on NIH's images ----------------------------------------------------------------------------------------


def test_a_question_on_nih_images_recomputed_by_scikit_learn():
    from sklearn.metrics import roc_auc_score

    google = catalogue.read_release("google_adjudicated").table.set_index("image_id")["pneumothorax"]
    question = nih_questions.question("pneumothorax", "google", google, predictions.FIVE)
    assert question.counts()["images_n"] == 935
    whole = two_references.estimands(question, resampling.whole(935))
    for k, name in enumerate(predictions.FIVE):
        for side in ("radiologists", "reports"):
            area = roc_auc_score(question.images[side], question.scores[name])
            assert whole[f"auc_{side}"][k, 0] == pytest.approx(area)


def test_rsna_drew_by_the_report_and_not_by_the_view():
    read = catalogue.read_release("rsna_opacity_on_nih").table["image_id"]
    drawn = nih_questions.drawing(read)
    assert drawn["read_n"].sum() == 26_584 and drawn["images_n"].sum() == 112_120
    images = nih_questions.nih_table()
    inside = pd.Series(images.index.isin(set(read)), images.index)
    by_view = inside.groupby([images["drawn_as"], images["view"]]).mean().unstack()
    assert (by_view["AP"] - by_view["PA"]).abs().max() < 0.01


def test_metadata_learn_from_other_patients_alone(monkeypatch):
    """Patients of the question get an age that nobody has; no training row may have it."""
    google = catalogue.read_release("google_adjudicated").table.set_index("image_id")["pneumothorax"]
    question = nih_questions.question("pneumothorax", "google", google, predictions.FIVE)
    table = nih_questions.nih_table().copy()
    table.loc[table["patient_id"].isin(question.images["patient_id"]), "age"] = 999
    monkeypatch.setattr(nih_questions, "nih_table", lambda: table)
    fitted = []

    class Trees:
        def __init__(self, **settings):
            pass

        def fit(self, numbers, label):
            fitted.append(numbers)

        def predict_proba(self, numbers):
            assert (numbers[:, 0] == 999).all()
            return np.tile([0.4, 0.6], (len(numbers), 1))

    monkeypatch.setattr(nih_questions, "HistGradientBoostingClassifier", Trees)
    control = nih_questions.metadata_question(question, [1, 2])
    assert list(control.scores) == ["metadata_1", "metadata_2"] and len(control.scores) == 935
    assert all((numbers[:, 0] < 999).all() and len(numbers) > 40_000 for numbers in fitted)
    assert len(fitted[0]) != len(fitted[1])


def test_sensitivities_at_the_reports_specificity_are_those_of_a_threshold_by_hand():
    rng = np.random.default_rng(11)
    question = simulated(rng, networks_n=2)
    control = simulated(rng, networks_n=2)
    control = two_references.Question("finding", "simulated", question.images, control.scores)
    resamples = resampling.patient_resamples(question.images["patient_id"], 50, rng)
    found = two_references.at_reports_specificity(question, control, resamples).set_index("estimand")["estimate"]
    truth, reports = (question.images[side].to_numpy() == 1 for side in ("radiologists", "reports"))
    specificity = 1 - reports[~truth].mean()
    assert found["specificity"] == pytest.approx(specificity)
    assert found["sensitivity_reports"] == pytest.approx(reports[truth].mean())
    by_hand = []
    for score in question.scores.to_numpy().T:
        above = np.sort(score[~truth])
        threshold = above[int(np.ceil(specificity * len(above) - 1e-9)) - 1]
        by_hand.append((score[truth] > threshold).mean())
    assert found["sensitivity_network"] == pytest.approx(np.mean(by_hand), abs=0.01)
    assert found["ahead_of_control"] == pytest.approx(found["sensitivity_network"] - found["sensitivity_control"])
    copies = np.where(question.images["reports"] == 1, 2, 1)
    weighted = two_references.at_reports_specificity(question, control, resamples.weighted(copies))
    weighted = weighted.set_index("estimand")["estimate"]
    assert weighted["sensitivity_reports"] == pytest.approx(np.average(reports[truth], weights=copies[truth]))
    assert weighted["specificity"] == pytest.approx(1 - np.average(reports[~truth], weights=copies[~truth]))
    other = control.part(np.arange(len(truth)) > 0)
    with pytest.raises(ValueError, match="finding, simulated: the control is of other images"):
        two_references.at_reports_specificity(question, other, resamples)
