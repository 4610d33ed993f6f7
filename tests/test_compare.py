"""Case tables and the comparisons made from them, on a table small enough to do by sklearn."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxrlib.base import runs
from cxrlib.statistics import accuracy, delong, intervals, resampling
from cxrlib.studies import case_tables, comparisons, crossing

SEEDS = (1, 2, 3)
PTX = "pneumothorax"
ARMS = {
    t: crossing.Arm(t, "resnet", label_set, PTX, SEEDS)
    for t, label_set in (("rad", "reader"), ("nlp", "report"), ("same", "reader"))
}


@pytest.fixture(scope="module")
def table():
    """Return 300 test and 200 validation images of 90 patients; `same` predicts what `rad` does."""
    rng = np.random.default_rng(4)
    n = 500
    index = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "patient_id": rng.integers(0, 90, n).astype(str)})
    index = index.assign(view="PA", sex="F", age=50, follow_up_number=0, chest_drain=rng.integers(0, 2, n), kept="x")
    truth = (rng.random(n) < 0.3).astype(np.float32)
    reader, report = truth.copy(), np.where(rng.random(n) < 0.15, 1 - truth, truth)
    reader[::10], reader[5::50] = np.nan, -1
    label_sets = {
        "reader": pd.DataFrame({PTX: reader}, index=index["image_id"]),
        "report": pd.DataFrame({PTX: report, "mass": 0.0}, index=index["image_id"]),
        "truth": pd.DataFrame({PTX: truth}, index=index["image_id"]),
        "one_class": pd.DataFrame({PTX: np.ones(n)}, index=index["image_id"]),
    }
    split = index[["image_id", "patient_id"]].assign(split=["test"] * 300 + ["valid"] * 200)
    split = split.sample(frac=1, random_state=0)
    out = case_tables.assemble(index, split, label_sets, [PTX, "mass"], ["chest_drain"])
    assert "kept" not in out and "label.reader.mass" not in out and len(out) == n
    for seed in SEEDS:
        base = truth + rng.normal(size=n)
        for target, scores in (("rad", base), ("nlp", base + 0.8 * rng.normal(size=n)), ("same", base)):
            said = pd.DataFrame({"image_id": index["image_id"], "finding": PTX, "probability": scores})
            out = case_tables.add_predictions(
                out, runs.key(target, "resnet", seed), said.sample(frac=1, random_state=seed)
            )
    return out


@pytest.fixture(scope="module")
def held_out(table):
    return table[table["split"] == "test"].reset_index(drop=True)


@pytest.fixture(scope="module")
def cells(held_out):
    resamples = resampling.patient_resamples(held_out["patient_id"], 300, np.random.default_rng(0))
    return crossing.Cells({"home": held_out}, {"home": resamples})


def by_sklearn(rows, arm, labels):
    """Return labels and scores of the images that can be scored, and each seed's AUC."""
    rows = rows[rows[f"label.{labels}.{PTX}"].isin([0, 1])]
    scores = [rows[f"probability.{arm.target}-resnet-{seed}.{PTX}"] for seed in SEEDS]
    label = rows[f"label.{labels}.{PTX}"]
    return rows, label, scores, [roc_auc_score(label, s) for s in scores]


def test_a_patient_counts_as_trained_on_only_by_images_of_the_training_part():
    parts = {
        "both": ["train", "test"],
        "seen": ["valid", "test"],
        "tuned": ["train", "valid"],
        "new": ["test", "test"],
    }
    split = pd.DataFrame(
        [(f"{patient}{k}", patient, part) for patient, two in parts.items() for k, part in enumerate(two)],
        columns=["image_id", "patient_id", "split"],
    )
    index = split[["image_id", "patient_id"]].assign(view="PA", sex="F", age=50, follow_up_number=0)
    got = case_tables.assemble(index[::-1], split, {}, []).set_index("image_id")
    assert set(got.index) == {"both1", "seen0", "seen1", "tuned1", "new0", "new1"}
    assert set(got.index[got["patient_trained_on"]]) == {"both1", "tuned1"}


@pytest.mark.parametrize("labels", ["reader", "report"])
@pytest.mark.parametrize("target", ["rad", "nlp"])
def test_auc_is_the_mean_over_seeds(cells, held_out, target, labels):
    rows, label, _, areas = by_sklearn(held_out, ARMS[target], labels)
    got = cells.auc(ARMS[target], "home", labels)
    assert got["estimate"] == pytest.approx(np.mean(areas)) and got["low"] < got["estimate"] < got["high"]
    assert got["seed_range"] == pytest.approx(max(areas) - min(areas)) and got["seeds_n"] == 3
    assert (got["images_n"], got["patients_n"]) == (len(rows), rows["patient_id"].nunique())
    assert got["positives_n"] == (label == 1).sum() and (got["images_n"] < 300) == (labels == "reader")


@pytest.mark.parametrize("labels", ["reader", "report"])
def test_identical_arms_do_not_differ(cells, labels):
    got = cells.difference(ARMS["rad"], ARMS["same"], "home", labels)
    assert [got[k] for k in ("estimate", "low", "high", "delong_first_seed")] == [0] * 4
    assert [got[k] for k in ("p", "delong_p", "delong_clustered_p")] == [1] * 3


def test_difference_is_paired(cells, held_out):
    _, label, scores, areas = by_sklearn(held_out, ARMS["rad"], "reader")
    rows, _, others, other_areas = by_sklearn(held_out, ARMS["nlp"], "reader")
    got = cells.difference(ARMS["rad"], ARMS["nlp"], "home", "reader")
    assert got["estimate"] == pytest.approx(np.mean(areas) - np.mean(other_areas))
    assert got["delong_first_seed"] == pytest.approx(areas[0] - other_areas[0])
    assert got["delong_p"] == delong.delong_test(label, scores[0], others[0]).p
    assert got["delong_clustered_p"] == delong.delong_test(label, scores[0], others[0], rows["patient_id"]).p
    back = cells.difference(ARMS["nlp"], ARMS["rad"], "home", "reader")
    assert (back["estimate"], back["low"], back["p"]) == pytest.approx((-got["estimate"], -got["high"], got["p"]))
    alone = [cells.auc(ARMS[t], "home", "reader") for t in ("rad", "nlp")]
    apart = np.hypot(*[a["high"] - a["low"] for a in alone])
    assert got["high"] - got["low"] < 0.9 * apart  # the same images on both sides: narrower than unpaired


def test_intervals_hold_other_seeds_too(cells):
    """Wider than over patients alone; with one seed they are over patients, and the reason says so."""
    got = cells.difference(ARMS["rad"], ARMS["nlp"], "home", "reader")
    assert got["low"] < got["low_patients"] < got["high_patients"] < got["high"] and got["seeds_n"] == 3
    one = cells.auc(replace(ARMS["rad"], seeds=(1,)), "home", "reader")
    assert one["reason"] == intervals.ONE_SEED_PATIENTS and one["low"] < one["estimate"] < one["high"]
    alone = cells.difference(*(replace(ARMS[t], seeds=(1,)) for t in ("rad", "nlp")), "home", "reader")
    assert np.isnan(alone["low"]) and alone["reason"] == intervals.ONE_SEED


def test_what_is_left_of_a_lead(cells, held_out):
    """The share that noise leaves is PPV + NPV - 1; by the reference itself all is left."""
    pair = ARMS["rad"], ARMS["nlp"]
    got = cells.lead_left(*pair, "home", "reader", "report")
    columns = [f"label.{name}.{PTX}" for name in ("reader", "report")]
    rows = held_out[held_out[columns].isin([0, 1]).all(axis=1)]
    share = accuracy.rates(rows[columns[0]], rows[columns[1]])
    share = share["ppv"] + share["npv"] - 1
    assert got["expected_share"] == pytest.approx(share) and got["images_n"] == len(rows)
    leads = []
    for column in columns:
        areas = [
            [roc_auc_score(rows[column], rows[f"probability.{t}-resnet-{seed}.{PTX}"]) for seed in SEEDS]
            for t in ("rad", "nlp")
        ]
        leads.append(np.mean(areas[0]) - np.mean(areas[1]))
    assert (got["by_reference"], got["by_other"]) == pytest.approx(leads)
    assert (
        got["estimate"] == pytest.approx(leads[1] - share * leads[0]) and got["low"] < got["estimate"] < got["high"]
    )
    same = cells.lead_left(*pair, "home", "reader", "reader")
    assert (same["expected_share"], same["observed_share"]) == (1, 1) and same["estimate"] == pytest.approx(0)
    assert cells.lead_left(*pair, "home", "reader", "nobody") is None


def test_labels_that_cannot_score_give_nothing(cells):
    for labels in ("nobody", "one_class"):
        assert not cells.has(ARMS["rad"], "home", labels)
        assert cells.auc(ARMS["rad"], "home", labels) is None
        assert cells.difference(ARMS["rad"], ARMS["nlp"], "home", labels) is None
        assert cells.operating_point(ARMS["rad"], [0] * 3, "home", labels, [0.1]) == []


def test_operating_point(cells, table, held_out):
    valid = table[table["split"] == "valid"]
    for target, labels in (("rad", "reader"), ("nlp", "report")):
        arm = ARMS[target]
        thresholds = cells.thresholds(arm, valid, 0.8)
        _, label, scores, _ = by_sklearn(valid, arm, labels)
        for score, threshold in zip(scores, thresholds, strict=True):
            reached = (score[label == 0].astype(float) < threshold).mean()
            assert 0.8 - 1e-9 <= reached < 0.8 + 1 / (label == 0).sum()
        _, label, scores, _ = by_sklearn(held_out, arm, "reader")
        seeds = pd.DataFrame([accuracy.rates(label, s >= t) for s, t in zip(scores, thresholds, strict=True)])
        got = {m["measure"]: m for m in cells.operating_point(arm, thresholds, "home", "reader", [0.03, 1])}
        assert set(got) == {*seeds, "ppv at prevalence 0.03", "ppv at prevalence 1"} - {"kappa"}
        for measure in set(seeds) - {"kappa"}:
            assert got[measure]["estimate"] == pytest.approx(seeds[measure].mean())
            assert got[measure]["low"] < got[measure]["estimate"] < got[measure]["high"]
        bayes = accuracy.ppv_at_prevalence(seeds["sensitivity"], seeds["specificity"], 0.03)
        assert got["ppv at prevalence 0.03"]["estimate"] == pytest.approx(float(bayes.mean()))
        assert got["ppv at prevalence 1"]["estimate"] == 1


def test_by_drain(cells, held_out):
    rows, label, scores, _ = by_sklearn(held_out, ARMS["rad"], "reader")
    drain, positive = rows["chest_drain"] == 1, label == 1
    got = cells.by_drain(ARMS["rad"], "home", "reader")
    subsets = (~positive | drain, ~positive | ~drain, drain, ~drain)
    for (name, cell), chosen in zip(got.items(), subsets, strict=True):
        assert cell["estimate"] == pytest.approx(
            np.mean([roc_auc_score(label[chosen], s[chosen]) for s in scores])
        ), name
        assert (cell["images_n"], cell["positives_n"]) == (chosen.sum(), label[chosen].sum())


def test_each_drain_subset_holds_what_its_name_says(cells, held_out):
    rows, label, _, _ = by_sklearn(held_out, ARMS["rad"], "reader")
    drain, positive = rows["chest_drain"] == 1, label == 1
    got = cells.by_drain(ARMS["rad"], "home", "reader")
    counts = {name: (cell["images_n"], cell["positives_n"]) for name, cell in got.items()}
    assert counts == {
        "positives with a drain, all negatives": ((~positive | drain).sum(), (positive & drain).sum()),
        "positives without a drain, all negatives": ((~positive | ~drain).sum(), (positive & ~drain).sum()),
        "images with a drain": (drain.sum(), (positive & drain).sum()),
        "images without a drain": ((~drain).sum(), (positive & ~drain).sum()),
    }
    assert (positive & drain).sum() != (positive & ~drain).sum(), "otherwise names could be swapped unnoticed"


def test_drains_are_asked_about_for_pneumothorax_alone(held_out):
    rows = held_out.assign(**{"label.reader.mass": held_out[f"label.reader.{PTX}"]})
    for seed in SEEDS:
        rows[f"probability.rad-resnet-{seed}.mass"] = rows[f"probability.rad-resnet-{seed}.{PTX}"]
    resamples = resampling.patient_resamples(rows["patient_id"], 20, np.random.default_rng(0))
    cells = crossing.Cells({"home": rows}, {"home": resamples})
    arms = [ARMS["rad"], replace(ARMS["rad"], finding="mass")]
    table = comparisons.drain_table(cells, arms, {"home": "internal"}, "reader")
    assert set(table["finding"]) == {PTX} and len(table) == 4


def test_by_drain_where_nobody_has_one(held_out):
    resamples = resampling.patient_resamples(held_out["patient_id"], 20, np.random.default_rng(0))
    cells = crossing.Cells({"home": held_out.assign(chest_drain=0)}, {"home": resamples})
    got = cells.by_drain(ARMS["rad"], "home", "reader")
    assert got["images with a drain"]["images_n"] == 0 and np.isnan(got["images with a drain"]["estimate"])
    assert got["images without a drain"]["estimate"] == pytest.approx(
        cells.auc(ARMS["rad"], "home", "reader")["estimate"]
    )


def test_roc_is_a_band_around_the_mean_over_seeds(cells):
    grid = np.linspace(0, 1, 501)
    mean, low, high = cells.roc(ARMS["rad"], "home", "reader", grid)
    assert (
        (low <= mean + 1e-9).mean() > 0.95 and (mean <= high + 1e-9).mean() > 0.95 and (np.diff(mean) <= 1e-12).all()
    )
    area = ((mean[1:] + mean[:-1]) / 2 * np.diff(grid)).sum()
    assert area == pytest.approx(cells.auc(ARMS["rad"], "home", "reader")["estimate"], abs=0.003)


def test_a_roc_band_holds_95_of_100_resamples_at_every_specificity(cells, held_out):
    grid = np.array([0.2, 0.5, 0.8, 0.9])
    mean, low, high = cells.roc(ARMS["nlp"], "home", "reader", grid)
    rows, label, scores, _ = by_sklearn(held_out, ARMS["nlp"], "reader")
    whole = resampling.whole(len(rows))
    np.testing.assert_allclose(
        mean, np.mean([accuracy.roc_on_grid(label, s, whole, grid)[0] for s in scores], axis=0)
    )
    drawn = cells.resamples["home"].of(held_out["label.reader.pneumothorax"].isin([0, 1]))
    curves = np.sort(np.mean([accuracy.roc_on_grid(label, s, drawn, grid) for s in scores], axis=0), axis=0)
    below, above = int(0.025 * (len(curves) - 1)), int(np.ceil(0.975 * (len(curves) - 1)))
    assert len(curves) == 300 and (curves[above] - curves[below] > 0.05).all()
    assert ((curves[below] <= low) & (low <= curves[below + 1])).all()
    assert ((curves[above - 1] <= high) & (high <= curves[above])).all()
    assert (low < mean).all() and (mean < high).all()


def test_arms_and_pairs():
    targets = {"a": {"label_set": "x", "findings": ["mass", PTX]}, "b": {"label_set": "y", "findings": [PTX]}}
    targets["c"] = {"label_set": "z", "findings": [PTX]}
    groups = {
        "many": {"targets": ["a", "b"], "architectures": ["r", "d"], "seeds": [1, 2]},
        "few": {"targets": ["c"], "architectures": ["r"], "seeds": [2]},
    }
    settings = {"targets": targets, "runs": groups}
    every = crossing.arms(settings, ["many"])
    assert len(every) == 6 and every[0] == crossing.Arm("a", "r", "x", "mass", (1, 2))
    assert every[0].runs() == ["a-r-1", "a-r-2"] and len(crossing.arms(settings)) == 7
    assert [
        (a.target, b.target, a.architecture, a.finding, b.finding) for a, b in crossing.pairs(every, "a", "b")
    ] == [
        ("a", "b", "r", PTX, PTX),
        ("a", "b", "d", PTX, PTX),
    ]
    assert {arm.seeds for pair in crossing.pairs(every, "a", "b") for arm in pair} == {(1, 2)}, "none is dropped"
    assert crossing.pairs(every, "a", "c") == []
    (pair,) = crossing.pairs(crossing.arms(settings), "a", "c")
    assert {(arm.architecture, arm.seeds) for arm in pair} == {("r", (2,))}, "what both were run with"


STUDY = {
    "comparisons": {"reader - report": ["rad", "nlp"]},
    "controls": {"reader - again": ["rad", "same"]},
    "scored_against": ["reader", "report"],
    "specificity": 0.8,
    "prevalences": [0.1],
}
SCORED = ["reader", "report", "truth", "one_class"]  # more than the study asks for


def test_tables_hold_the_cells(cells, table):
    arms, places = list(ARMS.values()), {"home": "internal"}
    areas = comparisons.auc_table(cells, arms, places, SCORED)
    assert len(areas) == 3 * 3, "three arms, three label sets of both classes"
    for row in areas.itertuples():
        arm = next(a for a in arms if a.label_set == row.trained_on)  # `same` predicts as `rad` does
        assert row.estimate == cells.auc(arm, "home", row.scored_against)["estimate"] and row.test == "internal"
    found = comparisons.difference_table(cells, arms, STUDY, places, SCORED)
    assert found.groupby("role").size().to_dict() == {"comparison": 3, "control": 3}
    asked = (found["role"] == "comparison") & found["scored_against"].isin(["reader", "report"])
    assert (found["p_holm"].notna() == asked).all(), "two comparisons are corrected, not the controls, nor by truth"
    np.testing.assert_allclose(found["p_holm"][asked], intervals.holm(found["p"][asked]))
    assert (found["estimate"][found["role"] == "control"] == 0).all()
    rates = comparisons.operating_table(cells, arms, table[table["split"] == "valid"], STUDY, places)
    assert len(rates) == 3 * 2 * 6 and rates["estimate"].between(0, 1).all()
    drains = comparisons.drain_table(cells, arms, places, "reader")
    assert len(drains) == 3 * 4
    ids = ["network", "finding", "test", "scored_against", "trained_on"]
    assert all(list(t.columns[:5]) == ids for t in (areas, rates, drains))


GROUPS = {"all": [PTX, "mass"], "mass alone": ["mass"]}


def test_mean_differences_hold_patients_and_seeds(cells, held_out):
    arms, places = list(ARMS.values()), {"home": "internal"}
    pair = [(ARMS["rad"], ARMS["nlp"])]
    got = cells.mean_difference(pair, "home", "reader")
    areas = [by_sklearn(held_out, ARMS[t], "reader")[3] for t in ("rad", "nlp")]
    each = np.subtract(*areas)
    assert got["estimate"] == pytest.approx(each.mean()) and got["seed_sd"] == pytest.approx(np.std(each, ddof=1))
    assert got["low"] < got["low_patients"] < got["estimate"] < got["high_patients"] < got["high"]
    assert (got["seeds_n"], got["findings_n"], got["left_out"]) == (3, 1, "")
    alone = cells.difference(*pair[0], "home", "reader")
    assert (got["low_patients"], got["high_patients"]) == pytest.approx(
        (alone["low_patients"], alone["high_patients"])
    )
    assert got["smallest"] == pytest.approx(alone["smallest"])
    table = comparisons.mean_difference_table(
        cells, arms, {"reader - report": ["rad", "nlp"], "again": ["rad", "same"]}, places, ["reader"], GROUPS
    )
    assert len(table) == 4 and (table["p_holm"].notna() == (table["findings"] == "all")).all()
    assert table["estimate"][2] == 0 and table["p"][2] == 1
    means = comparisons.mean_table(cells, arms, places, ["reader", "one_class"], GROUPS)
    assert len(means) == 3 * 2 * 2, "every row is there"
    first = means.iloc[0]
    assert first["estimate"] == pytest.approx(np.mean(areas[0])) and first["low"] < first["low_patients"]
    empty = means[(means["scored_against"] == "one_class") | (means["findings"] == "mass alone")]
    assert empty["estimate"].isna().all() and empty["reason"].str.startswith("no finding has 10 patients").all()
    with pytest.raises(ValueError, match="no two of its targets share a network"):
        comparisons.mean_difference_table(cells, arms, {}, places, ["reader"], GROUPS)


def test_mean_differences_are_corrected_over_the_first_group_alone(cells):
    """Both groups can be scored; the rows of the second are neither corrected nor counted."""
    arms, groups = list(ARMS.values()), {"all": [PTX, "mass"], "again": [PTX]}
    asked = {"reader - report": ["rad", "nlp"], "report - reader": ["nlp", "rad"], "again": ["rad", "same"]}
    table = comparisons.mean_difference_table(cells, arms, asked, {"home": "internal"}, ["reader", "report"], groups)
    first = table["findings"] == "all"
    assert first.sum() == 6 and table["p"].notna().all() and table["p_holm"][~first].isna().all()
    np.testing.assert_allclose(table["p_holm"][first], intervals.holm(table["p"][first]))
    assert not np.allclose(table["p_holm"][first], intervals.holm(table["p"])[first]), "otherwise it says nothing"
    both = table.set_index(["comparison", "scored_against", "findings"])["estimate"]
    there, back = both["reader - report"], both["report - reader"]
    np.testing.assert_allclose(there, -back)
    assert there["reader", "all"] > 0


def test_a_finding_with_few_patients_is_left_out_by_name(held_out):
    rows = held_out.assign(**{"label.reader.mass": (np.arange(len(held_out)) < 5).astype(float)})
    for seed in SEEDS:
        for target in ("rad", "nlp"):
            rows[f"probability.{target}-resnet-{seed}.mass"] = 0.5
    resamples = resampling.patient_resamples(rows["patient_id"], 50, np.random.default_rng(0))
    cells = crossing.Cells({"home": rows}, {"home": resamples})
    both = [[replace(ARMS[t], finding=f) for t in ("rad", "nlp")] for f in (PTX, "mass")]
    got = cells.mean_difference(both, "home", "reader")
    assert (got["left_out"], got["findings_n"]) == ("mass", 1)
    assert got["estimate"] == pytest.approx(cells.difference(*both[0], "home", "reader")["estimate"])
    none = cells.mean_difference(both[1:], "home", "reader")
    assert np.isnan(none["estimate"]) and none["left_out"] == "mass" and none["reason"]


def test_one_seed_gets_no_interval_and_different_seeds_none_at_all(cells):
    one = [tuple(replace(ARMS[t], seeds=(1,)) for t in ("rad", "nlp"))]
    got = cells.mean_difference(one, "home", "reader")
    assert np.isfinite(got["estimate"]) and np.isnan([got["low"], got["p"], got["seed_sd"]]).all()
    assert got["reason"] == intervals.ONE_SEED and np.isfinite(got["low_patients"])
    with pytest.raises(ValueError, match="Arms of different seeds"):
        cells.mean_difference([(ARMS["rad"], one[0][1])], "home", "reader")


def test_no_drains_known_gives_an_empty_table(held_out):
    rows = held_out.drop(columns="chest_drain")
    cells = crossing.Cells(
        {"home": rows}, {"home": resampling.patient_resamples(rows["patient_id"], 5, np.random.default_rng(0))}
    )
    empty = comparisons.drain_table(cells, list(ARMS.values()), {"home": "home"}, "reader")
    assert empty.empty and {"subset", "estimate"} <= set(empty)


def test_headline(cells):
    arms, places = [ARMS["rad"], ARMS["nlp"]], {"home": "internal"}
    areas = comparisons.auc_table(cells, arms, places, SCORED)
    found = comparisons.difference_table(cells, arms, STUDY, places, SCORED)
    rows = comparisons.headline(areas, found).to_dict("records")
    assert [row["scored against"] for row in rows] == ["reader", "report"]
    for row in rows:
        for target, name in (("rad", "reader"), ("nlp", "report")):
            cell = cells.auc(ARMS[target], "home", row["scored against"])
            expected = f"{cell['estimate']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})"
            assert row[f"trained on {name}"] == expected
        gap = cells.difference(*arms, "home", row["scored against"])
        assert row["difference"].startswith(f"{gap['estimate']:.3f} (")


def test_crossed_keeps_each_estimate_in_its_own_row_and_column(cells):
    areas = comparisons.auc_table(cells, [ARMS["nlp"], ARMS["rad"]], {"home": "internal"}, SCORED)
    wide = comparisons.crossed(areas)
    assert list(wide.columns) == ["report", "reader"] and len(wide) == 3
    for row in areas.itertuples():
        place = (row.finding, row.network, row.test, row.scored_against, row.positives_n)
        assert wide.loc[place, row.trained_on] == f"{row.estimate:.3f} ({row.low:.3f} to {row.high:.3f})"


def test_seed_floor():
    rows = pd.DataFrame(
        {"network": "r", "trained_on": ["reader", "report"] * 2, "seed_range": [0.01, 0.02, 0.03, 0.08]}
    )
    assert comparisons.seed_floor(rows).loc[("r", "report")].tolist() == pytest.approx([0.05, 0.08])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.iloc[1:], "no prediction of mass for image 'a'"),
        (lambda p: pd.concat([p, p[1:]]), "'b' is predicted twice"),
    ],
)
def test_predictions_must_be_whole(change, message):
    said = pd.DataFrame({"image_id": ["a", "b"], "finding": "mass", "probability": [0.1, 0.2]})
    rows = pd.DataFrame({"image_id": ["b", "a"]})
    assert case_tables.add_predictions(rows, "t-r-1", said)["probability.t-r-1.mass"].tolist() == pytest.approx(
        [0.2, 0.1]
    )
    assert case_tables.runs_in(case_tables.add_predictions(rows, "t-r-1", said)) == [("t-r-1", "mass")]
    with pytest.raises(ValueError, match=message):
        case_tables.add_predictions(rows, "t-r-1", change(said))


def test_a_split_of_other_images_is_refused():
    index = pd.DataFrame(
        {"image_id": ["a"], "patient_id": ["p"], "view": "PA", "sex": "F", "age": 1, "follow_up_number": 0}
    )
    with pytest.raises(ValueError, match="1 images of the split are not in the cohort"):
        case_tables.assemble(
            index, pd.DataFrame({"image_id": ["a", "b"], "patient_id": "p", "split": "test"}), {}, []
        )


def test_leak_is_the_gain_on_seen_patients_less_that_on_others():
    rng = np.random.default_rng(5)
    n, patient = 600, np.repeat(np.arange(200), 3)
    label = (rng.random(n) < 0.4).astype(float)
    seen = patient < 100
    noise = rng.normal(size=n)
    table = pd.DataFrame({"patient_id": patient.astype(str), case_tables.label("reader", PTX): label})
    arms = [crossing.Arm(target, "resnet", "reader", PTX, (1, 2)) for target in ("image", "patient")]
    for seed in (1, 2):
        known = label * (0.4 + 1.2 * seen) + noise + 0.1 * rng.normal(size=n)  # knows the patients it has seen
        table[case_tables.probability(runs.key("image", "resnet", seed), PTX)] = known
        table[case_tables.probability(runs.key("patient", "resnet", seed), PTX)] = 0.4 * label + noise
    resamples = resampling.patient_resamples(table["patient_id"], 300, rng)
    got = comparisons.leak_table(table, *arms, "reader", seen, resamples).set_index("test_images")
    whole = got.loc["leak: seen less others"]
    inside, outside = got["estimate"]["patients trained on"], got["estimate"]["other patients"]
    assert whole["estimate"] == pytest.approx(inside - outside) and whole["low"] > 0
    assert abs(outside) < 0.02 < inside
    for name, chosen in (("all", patient >= 0), ("patients trained on", seen), ("other patients", ~seen)):
        for column, arm in zip(("by_image", "by_patient"), arms, strict=True):
            scores = [table[case_tables.probability(key, PTX)][chosen] for key in arm.runs()]
            expected = np.mean([roc_auc_score(label[chosen], s) for s in scores])
            assert got[column][name] == pytest.approx(expected), (name, column)
        assert got["estimate"][name] == pytest.approx(got["by_image"][name] - got["by_patient"][name])
        assert got["images_n"][name] == chosen.sum()
    few = comparisons.leak_table(table, *arms, "reader", patient < 5, resamples).set_index("test_images")
    assert np.isnan(few["low"]["leak: seen less others"]) and "patients" in few["reason"]["leak: seen less others"]
    assert np.isfinite(few["low"]["all"])


def test_one_arm_by_a_part_of_a_label_set():
    rng = np.random.default_rng(6)
    n = 400
    label = (rng.random(n) < 0.5).astype(float)
    hard = rng.random(n) < 0.5
    score = np.where(hard, rng.normal(size=n), 2 * label + rng.normal(size=n))
    arm = crossing.Arm("t", "resnet", "reader", PTX, (1,))
    table = pd.DataFrame({"patient_id": np.arange(n).astype(str), case_tables.label("reader", PTX): label})
    table[case_tables.label("clear", PTX)] = np.where(hard, np.nan, label)
    table[case_tables.probability(arm.runs()[0], PTX)] = score
    cells = crossing.Cells({"c": table}, {"c": resampling.patient_resamples(table["patient_id"], 200, rng)})
    got = cells.between_labels(arm, "c", "clear", "reader")
    gap = roc_auc_score(label[~hard], score[~hard]) - roc_auc_score(label, score)
    assert got["estimate"] == pytest.approx(gap) and gap > 0.05
    assert got["low_patients"] > 0 and got["first_n"] == (~hard).sum() and got["second_n"] == n
    assert "one training seed" in got["reason"] and np.isnan(got["low"])
    assert cells.between_labels(arm, "c", "nobody", "reader") is None
