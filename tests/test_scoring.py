"""Scores from a CSV: rows are matched by image id, whatever their order, and every column is what it is called."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxrlib.commands import score as command
from cxrlib.statistics import accuracy, adjudicated, delong
from cxrlib.studies import adjudicated_scoring, scoring

FINDINGS = ["mass", "hernia"]


@pytest.fixture(scope="module")
def world():
    """Return labels, a better and a worse model's scores, and the images, four of a patient; ids are not sorted."""
    rng = np.random.default_rng(1)
    n = 600
    ids = [f"i{k:03d}" for k in rng.permutation(n)]
    images = pd.DataFrame({"image_id": ids, "patient_id": [f"p{k // 4:03d}" for k in range(n)]})
    images = images.assign(view="PA", sex=rng.choice(["M", "F"], n), age=50, follow_up_number=0)
    truth = rng.random((n, 2)) < (0.4, 0.25)
    base = truth + rng.normal(size=(n, 2))
    scores = (1 / (1 + np.exp(-base)), 1 / (1 + np.exp(-base - 1.5 * rng.normal(size=(n, 2)))))
    tables = [
        pd.DataFrame(values, ids, FINDINGS).rename_axis("image_id") for values in (truth.astype(float), *scores)
    ]
    return *tables, images


def shuffled(table, seed=0):
    return table.sample(frac=1, random_state=seed)


def compared(label, a, b, images):
    return scoring.compared(label, a, b, images, 200, np.random.default_rng(3))


@pytest.mark.parametrize("which", ["labels", "first model", "second model", "images", "all"])
def test_models_are_compared_image_by_image_whatever_the_order_of_rows(world, which):
    expected = compared(*world)
    moved = [
        shuffled(table, seed) if which in (name, "all") else table
        for seed, (name, table) in enumerate(
            zip(("labels", "first model", "second model", "images"), world, strict=True)
        )
    ]
    moved[3] = moved[3].reset_index(drop=True)
    got = compared(*moved)
    pd.testing.assert_frame_equal(got, expected, rtol=1e-9)
    assert expected["images_n"].tolist() == [600, 600]


def test_a_comparison_is_the_first_model_less_the_second(world):
    label, a, b, images = world
    there = compared(*world).set_index("finding")
    for finding in FINDINGS:
        areas = [roc_auc_score(label[finding], model[finding]) for model in (a, b)]
        row = there.loc[finding]
        assert [row["auc_a"], row["auc_b"]] == pytest.approx(areas) and areas[0] > areas[1]
        assert row["estimate"] == pytest.approx(areas[0] - areas[1]) and row["low"] > 0
        by_hand = [label[finding].to_numpy(), a[finding].to_numpy(), b[finding].to_numpy()]
        assert row["delong_p"] == pytest.approx(delong.delong_test(*by_hand).p)
        assert row["delong_clustered_p"] == pytest.approx(
            delong.delong_test(*by_hand, images["patient_id"].to_numpy()).p
        )
    back = compared(label, b, a, images).set_index("finding")
    for column, mirrored in (("estimate", "estimate"), ("low", "high"), ("high", "low")):
        np.testing.assert_allclose(back[column], -there[mirrored])
    np.testing.assert_allclose(back["p"], there["p"])


def test_only_images_that_both_scored_and_somebody_labelled_are_compared(world):
    label, a, b, images = world
    label, a, b = label.copy(), shuffled(a).copy(), b.copy()
    unlabelled, unscored = images["image_id"][:50], images["image_id"][30:90]
    label.loc[unlabelled, "mass"] = np.nan
    a.loc[unscored, "mass"] = np.nan
    rest = images["image_id"][90:]
    got = compared(label, a, b.drop(index=rest[-10:]), images).set_index("finding").loc["mass"]
    kept = rest[:-10]
    areas = [roc_auc_score(label["mass"][kept], model["mass"][kept]) for model in (a, b)]
    assert got["images_n"] == len(kept) and got["estimate"] == pytest.approx(areas[0] - areas[1])


def test_scores_do_not_hang_on_the_order_of_rows(world):
    label, a, _, images = world
    expected = scoring.table(label, a, images, 50, np.random.default_rng(0), by=["sex"])
    again = scoring.table(
        shuffled(label, 1),
        shuffled(a, 2),
        shuffled(images, 3).reset_index(drop=True),
        50,
        np.random.default_rng(0),
        by=["sex"],
    )
    pd.testing.assert_frame_equal(again, expected, rtol=1e-9)


@pytest.mark.parametrize("specificity", [0.6, 0.9])
def test_sensitivity_is_at_the_specificity_asked_for_and_delongs_interval_holds_the_auc(world, specificity):
    label, a, _, images = world
    found = scoring.table(label, a, images, 50, np.random.default_rng(0), specificity=specificity)
    rows = found[found["finding"] == "mass"].set_index("measure")
    expected = accuracy.sensitivity_at_specificity(label["mass"], a["mass"], specificity)
    assert rows["estimate"]["sensitivity_at_specificity"] == pytest.approx(expected)
    areas, covariance = delong.delong(label["mass"].to_numpy(), a["mass"].to_numpy())
    reach = 1.959964 * np.sqrt(covariance[0, 0])
    ends = [rows["delong_low"]["auc"], rows["delong_high"]["auc"]]
    assert ends == pytest.approx([areas[0] - reach, areas[0] + reach]) and ends[0] < areas[0] < ends[1]
    assert rows["delong_low"].drop("auc").isna().all()


# --- adjudicated labels of some images ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reports(world):
    """Return report labels: the truth, of which a fifth is wrong."""
    label = world[0]
    return label.where(np.random.default_rng(5).random(label.shape) < 0.8, 1 - label)


def by_method(table, finding="mass"):
    return table[table["finding"] == finding].set_index("method")


@pytest.mark.parametrize("drawn", ["patients", "images"])
def test_a_corrected_auc_is_that_of_the_images_whatever_the_order_of_rows(world, reports, drawn):
    label, a, _, images = world
    pick = images["image_id"][:200] if drawn == "patients" else images["image_id"].sample(200, random_state=1)
    mine = shuffled(label.loc[pick], 3)
    scored = shuffled(reports, 1), shuffled(a, 2), shuffled(images, 4).reset_index(drop=True)
    table, notes = adjudicated_scoring.by_adjudicated(*scored, mine)
    rows = by_method(table)
    assert not notes and set(rows["drawn"]) == {drawn} and list(rows.index) == list(adjudicated.METHODS)
    assert (rows["adjudicated_n"] == 200).all() and (rows["positives_n"] == label.loc[pick, "mass"].sum()).all()
    assert rows["estimate"]["reports"] == pytest.approx(roc_auc_score(reports["mass"], a["mass"]))
    assert rows["estimate"]["adjudicated"] == pytest.approx(
        roc_auc_score(label["mass"][pick], a["mass"][pick]), abs=0.01
    )
    ids = images["image_id"]
    archive = adjudicated.ScoredArchive(
        a["mass"][ids], reports["mass"][ids], images["patient_id"], drawn == "patients"
    )
    mask, probability = ids.isin(pick).to_numpy(), np.full(len(ids), 200 / 600)
    value = adjudicated.estimates(archive, label["mass"][ids], mask, probability)["auc", "augmented"]
    expected = adjudicated.as_interval(value)
    for name in ("estimate", "low", "high"):
        assert rows[name]["augmented"] == pytest.approx(getattr(expected, name)), name
    assert rows["low"]["augmented"] < roc_auc_score(label["mass"], a["mass"]) < rows["high"]["augmented"]
    assert rows["high"]["reports"] < roc_auc_score(label["mass"], a["mass"])


def test_known_probabilities_undo_how_images_were_picked(world, reports):
    """All images that a report calls, and a quarter of the others: alone they are no random images."""
    label, a, _, images = world
    reported = reports["mass"] == 1
    rest = reported[~reported].sample(frac=0.25, random_state=2).index
    mine = label[["mass"]].loc[reported[reported].index.union(rest)]
    chance = pd.Series(np.where(reported[mine.index], 1, 0.25), mine.index)
    table, notes = adjudicated_scoring.by_adjudicated(reports, a, images, mine, chance)
    rows = by_method(table)
    assert not notes and set(rows["drawn"]) == {"images"}
    for method in ("adjudicated", "augmented"):
        assert rows["low"][method] < roc_auc_score(label["mass"], a["mass"]) < rows["high"][method]
    _, notes = adjudicated_scoring.by_adjudicated(reports, a, images, mine, chance / 2)
    assert "mass: the sampling probabilities imply 1," in notes[0] and "the predictions have 600" in notes[0]


def test_blank_labels_count_as_not_adjudicated_unless_probabilities_are_given(world, reports):
    label, a, _, images = world
    mine = label.loc[images["image_id"][:240]].copy()
    mine.iloc[::4, 0] = np.nan
    table, notes = adjudicated_scoring.by_adjudicated(reports, a, images, mine)
    assert notes == ["mass: 60 images of the adjudicated have no label and count as not adjudicated"]
    assert set(by_method(table)["adjudicated_n"]) == {180} and set(by_method(table)["drawn"]) == {"images"}
    assert set(by_method(table, "hernia")["drawn"]) == {"patients"}
    with pytest.raises(
        ValueError, match="is empty: with sampling_probability, every adjudicated image needs a label"
    ):
        adjudicated_scoring.by_adjudicated(reports, a, images, mine, pd.Series(0.4, mine.index))


def test_too_few_adjudicated_patients_of_one_finding_leave_the_other(world, reports):
    label, a, _, images = world
    positives = label.index[label["hernia"] == 1]
    mine = label.loc[images["image_id"][:200]]
    mine = mine.assign(hernia=mine["hernia"].where(~mine.index.isin(positives[9:]), 0))
    table, _ = adjudicated_scoring.by_adjudicated(reports, a, images, mine)
    rows = by_method(table, "hernia")
    assert np.isnan(rows["low"]["augmented"]) and "fewer than 10" in rows["reason"]["augmented"]
    assert np.isfinite(by_method(table)["low"]["augmented"])
    with pytest.raises(ValueError, match=r"Too few images are adjudicated \(hernia: no interval: it rests on"):
        adjudicated_scoring.by_adjudicated(reports, a, images, mine[["hernia"]])


def test_the_command_prints_three_aucs_and_what_it_assumes(world, reports, tmp_path, capsys):
    label, a, _, images = world
    patients = images.set_index("image_id")[["patient_id"]]
    reports.join(patients).to_csv(tmp_path / "reports.csv")
    a.to_csv(tmp_path / "scores.csv")
    mine = label.loc[images["image_id"].sample(200, random_state=1)]
    mine.assign(hernia=-1).to_csv(tmp_path / "mine.csv")
    mine[["mass"]].assign(sampling_probability=1 / 3).to_csv(tmp_path / "known.csv")
    files = [str(tmp_path / name) for name in ("scores.csv", "reports.csv", "mine.csv", "known.csv", "out")]
    command.main(
        [files[0], "--labels", files[1], "--adjudicated", files[2], "--out", files[4], "--policy", "u_ignore"]
    )
    said = capsys.readouterr().out
    table, _ = adjudicated_scoring.by_adjudicated(reports, a, images, mine[["mass"]])
    rows = by_method(table)
    for method in ("reports", "adjudicated", "augmented"):
        assert f"{rows['estimate'][method]:.3f} ({rows['low'][method]:.3f} to {rows['high'][method]:.3f})" in said
    assert "It assumes that these images were picked at random from the predictions" in said
    assert "hernia: no adjudicated image has a score" in said
    written = pd.read_csv(tmp_path / "out" / "adjudicated.csv").set_index("method")
    np.testing.assert_allclose(written["estimate"], rows["estimate"])
    command.main([files[0], "--labels", files[1], "--adjudicated", files[3]])
    said = capsys.readouterr().out
    assert "It assumes that the column sampling_probability is right." in said and "not read" not in said
