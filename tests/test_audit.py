"""The audit and the scores from a CSV: by sklearn on small tables, on wrong input, and as commands."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, cohen_kappa_score, roc_auc_score

from cxrlib.base import own_tables, vocabulary
from cxrlib.commands import audit, score
from cxrlib.releases import catalogue
from cxrlib.statistics import intervals
from cxrlib.studies import auditing, scoring


@pytest.fixture(scope="module")
def world():
    """Return a reference, reports that miss more on AP images, two models' scores, and the images."""
    rng = np.random.default_rng(0)
    n = 900
    ids = [f"i{k:03d}" for k in range(n)]
    images = pd.DataFrame({"image_id": ids, "patient_id": rng.integers(0, 250, n).astype(str)})
    images = images.assign(
        view=rng.choice(["PA", "AP"], n), sex=rng.choice(["M", "F"], n), age=rng.integers(1, 99, n)
    )
    images["follow_up_number"] = rng.integers(0, 14, n)
    truth = rng.random((n, 2)) < (0.4, 0.2)
    misses = np.where(images["view"] == "AP", 0.6, 0.1)[:, None]
    said = (truth & (rng.random((n, 2)) > misses)) | (rng.random((n, 2)) < 0.05)
    reference = pd.DataFrame(truth.astype(float), ids, ["mass", "hernia"]).rename_axis("image_id")
    reports = pd.DataFrame(said.astype(float), ids, ["mass", "hernia"]).rename_axis("image_id")
    base = truth + rng.normal(size=(n, 2))
    scores = [1 / (1 + np.exp(-base)), 1 / (1 + np.exp(-base - rng.normal(size=(n, 2))))]
    scores = [pd.DataFrame(s, ids, ["mass", "hernia"]).rename_axis("image_id") for s in scores]
    return reference, reports, scores, images


def test_rates_are_those_of_the_shared_images(world):
    reference, reports, _, images = world
    reference = reference.copy()
    reference.loc["i000":"i009", "mass"] = np.nan
    table = auditing.against(reference, reports[50:], images, 200, np.random.default_rng(0))
    mass = table[table["finding"] == "mass"].set_index("measure")
    a, b = reference["mass"][50:], reports["mass"][50:]
    assert mass["estimate"]["kappa"] == pytest.approx(cohen_kappa_score(a, b))
    assert mass["estimate"]["sensitivity"] == pytest.approx(b[a == 1].mean())
    assert mass["estimate"]["auc_of_reference"] == pytest.approx(roc_auc_score(b, a)), (
        "the reference, scored by the other"
    )
    assert mass.iloc[0][["tp", "fn"]].tolist() == [int((a * b).sum()), int((a * (1 - b)).sum())]
    assert (mass["low"] < mass["estimate"]).all() and (mass["estimate"] < mass["high"]).all()
    assert mass["patients_n"].iloc[0] == images["patient_id"][50:].nunique()


def test_a_group_that_differs_is_found_and_tiny_groups_get_no_interval(world):
    reference, reports, _, images = world
    images = images.assign(view=np.where(np.arange(900) < 8, "LL", images["view"]))
    table = auditing.against(reference, reports, images, 400, np.random.default_rng(0), by=["view", "sex"])
    found = table[(table["finding"] == "mass") & (table["measure"] == "sensitivity")].set_index(["by", "group"])
    assert found.loc[("view",), "p_holm"].min() < 0.05 < found.loc[("sex",), "p_holm"].min()
    tiny = found.loc["view", "LL"]
    assert np.isnan([tiny["low"], tiny["p"]]).all() and re.search(r"fewer than 10", tiny["reason"])
    assert np.isfinite(tiny["estimate"]) and table.groupby(["finding", "by"])["group"].nunique()["mass", "view"] == 3


def test_groups():
    images = pd.DataFrame({"age": [0, 17, 18, 74, 75, 101, None], "follow_up_number": [0, 1, 4, 5, 10, 99, None]})
    found = auditing.groups(images)
    assert found["age_band"].fillna("").tolist() == ["0-17", "0-17", "18-39", "60-74", "75+", "75+", ""]
    assert found["follow_up"].fillna("").tolist()[:6] == ["first", "2nd-5th", "2nd-5th", "6th-10th", "later", "later"]
    assert found["view"].isna().all()


def test_scores_are_sklearns(world):
    reference, _, (s, _), images = world
    table = scoring.table(reference, s, images, 100, np.random.default_rng(0), by=["sex"])
    whole = table[(table["finding"] == "mass") & (table["by"] == "all")].set_index("measure")["estimate"]
    y, p = reference["mass"], s["mass"]
    assert whole["auc"] == pytest.approx(roc_auc_score(y, p))
    assert whole["average_precision"] == pytest.approx(average_precision_score(y, p))
    assert whole["brier"] == pytest.approx(brier_score_loss(y, p))
    assert set(whole.index) == set(scoring.measures(0.9))
    women = table[(table["finding"] == "mass") & (table["group"] == "F")].iloc[0]
    inside = (images["sex"] == "F").to_numpy()
    assert women["estimate"] == pytest.approx(roc_auc_score(y[inside], p[inside]))
    raw = scoring.table(reference, s * 3 - 1, images, 50, np.random.default_rng(0))
    raw = raw[raw["finding"] == "mass"].set_index("measure")
    assert raw["estimate"]["auc"] == whole["auc"] and np.isnan(raw["estimate"]["brier"])
    assert raw["reason"]["brier"] == "scores lie outside [0, 1]"


def test_models_are_compared_on_the_images_that_both_scored(world):
    reference, _, (a, b), images = world
    found = scoring.compared(reference, a, b[100:], images, 200, np.random.default_rng(0)).set_index("finding")
    y = reference["mass"][100:]
    gap = roc_auc_score(y, a["mass"][100:]) - roc_auc_score(y, b["mass"][100:])
    assert found["estimate"]["mass"] == pytest.approx(gap) and found["images_n"]["mass"] == 800
    assert found["p"]["mass"] < 0.05 and 0 < found["smallest"]["mass"] < 0.2
    np.testing.assert_allclose(found["p_holm"], intervals.holm(found["p"]))


# --- CSVs -----------------------------------------------------------------------------------------------------


def test_a_csv_in_anyones_spelling(tmp_path):
    path = tmp_path / "preds.csv"
    path.write_text(
        "Image Index,Patient ID,prob_Pleural_Thickening,Prob_Mass,Mass,note\na.png,7,0.25,,1,x\nb.png,8,0.5,1.5,0,y\n"
    )
    table, images, notes = own_tables.read_own(path, scores=True)
    assert list(table) == ["image_id", "pleural_thickening", "mass"] and np.isnan(table["mass"][0])
    assert images["patient_id"].tolist() == ["7", "8"] and notes == [
        f"columns of {path} that are not read: Mass, note"
    ]
    assert vocabulary.finding_named("Pleural Effusion") == vocabulary.finding_named("Effusion") == "effusion"
    assert (
        vocabulary.finding_named("Nodule/Mass") == "nodule_or_mass" and vocabulary.finding_named("nonsense") is None
    )


@pytest.mark.parametrize(
    ("text", "scores", "message"),
    [
        ("patient_id,mass\n1,1\n", False, "has no column image_id"),
        ("image_id,mass\na,1\na,0\n", False, "line 3 has an image id that occurs twice"),
        ("image_id,mass\na,1\n,0\n", False, "line 3 has no image id"),
        ("image_id,mass\na,2\n", False, "line 2: mass is '2'; labels are 1"),
        ("image_id,mass\na,high\n", True, "line 2: mass is 'high'; a score is a number"),
        ("image_id,mass\na,inf\n", True, "a score is a number"),
        ("image_id,masses\na,1\n", False, "has no column of a finding; it has masses"),
        ("image_id,Mass,mass\na,1,1\n", False, "both mean mass"),
        ("", False, "is empty"),
    ],
)
def test_a_wrong_csv_is_named(tmp_path, text, scores, message):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        own_tables.read_own(path, scores)


def run(command, *arguments):
    command.main([str(a) for a in arguments])


def test_the_commands(world, tmp_path, capsys):
    reference, reports, (a, b), images = world
    images = images.set_index("image_id")
    for name, table in (("reference", reference), ("reports", reports), ("a", a), ("b", b)):
        table.join(images).to_csv(tmp_path / f"{name}.csv")
    run(
        audit,
        tmp_path / "reference.csv",
        tmp_path / "reports.csv",
        "--by",
        "view",
        "--resamples",
        50,
        "--out",
        tmp_path,
    )
    assert set(pd.read_csv(tmp_path / "audit.csv")["by"]) == {"all", "view"}
    options = ["--labels", tmp_path / "reference.csv", "--compare", tmp_path / "b.csv", "--resamples", 50]
    run(score, tmp_path / "a.csv", *options, "--by", "sex", "--out", tmp_path)
    assert len(pd.read_csv(tmp_path / "differences.csv")) == 2
    assert roc_auc_score(reference["mass"], a["mass"]) == pytest.approx(
        pd.read_csv(tmp_path / "scores.csv")
        .query("finding == 'mass' and measure == 'auc' and by == 'all'")["estimate"]
        .item()
    )
    shown = capsys.readouterr().out
    assert "900 images in" in shown and "sensitivity" in shown and "auc" in shown


def test_the_commands_say_what_is_wrong(world, tmp_path):
    reference, _, (a, _), _ = world
    reference.to_csv(tmp_path / "reference.csv")
    a.set_axis([f"x{k}" for k in range(900)]).rename_axis("image_id").to_csv(tmp_path / "others.csv")
    with pytest.raises(SystemExit, match="neither a CSV"):
        run(audit, "nonsense", tmp_path / "reference.csv")
    with pytest.raises(SystemExit, match="No image id is on both sides"):
        run(score, tmp_path / "others.csv", "--labels", tmp_path / "reference.csv")
    with pytest.raises(SystemExit, match="several readers"):
        run(audit, "vindr_readers", tmp_path / "reference.csv")
    with pytest.raises(SystemExit, match="No image id is on both sides"):
        run(audit, "google_adjudicated", "siim", "--resamples", 20)


# --- published numbers ----------------------------------------------------------------------------------------


def test_google_test_against_the_reports():
    google, reports = catalogue.read_release("google_adjudicated"), catalogue.read_release("nih_reports")
    truth = google.table.set_index("image_id")[(google.images["part"] == "test").to_numpy()]
    images = google.images[google.images["image_id"].isin(truth.index)]
    table = auditing.against(
        truth, reports.table.set_index("image_id"), images, 100, np.random.default_rng(0), ["pneumothorax"]
    ).set_index("measure")
    assert table.iloc[0][["tp", "fp", "fn", "tn"]].tolist() == [97, 103, 98, 1664]
    got = table["estimate"][["sensitivity", "ppv", "kappa", "auc_of_reference"]].round(3).tolist()
    assert got == [0.497, 0.485, 0.434, 0.715]


def test_a_rate_of_nothing_gets_an_exact_interval_and_no_test():
    """0 of 31 against 41 of 679: resamples of nothing never differ, which is no evidence."""
    n = 710
    images = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "patient_id": np.arange(n).astype(str)})
    images["sex"] = np.where(np.arange(n) < 31, "F", "M")
    called = np.zeros(n)
    called[100:141] = 1
    truth = np.zeros(n)
    truth[600:] = 1
    frames = [pd.DataFrame({"mass": x}, images["image_id"]) for x in (truth, called)]
    table = auditing.against(*frames, images, 200, np.random.default_rng(0), by=["sex"])
    row = table[(table["group"] == "F") & (table["measure"] == "specificity")].iloc[0]
    assert row["estimate"] == row["high"] == 1 and row["low"] == pytest.approx(0.025 ** (1 / 31))
    assert np.isnan(row["p"]) and "every resample" in row["reason"]


def test_scores_on_few_positives_get_no_interval(world):
    reference, _, (a, b), images = world
    rare = reference.assign(hernia=0.0)
    rare.loc[["i000", "i001", "i002"], "hernia"] = 1
    found = scoring.table(rare, a, images, 50, np.random.default_rng(0)).set_index(["finding", "measure"])
    assert np.isnan(found["low"]["hernia", "auc"]) and "3 patients" in found["reason"]["hernia", "auc"]
    assert np.isfinite(found["low"]["hernia", "brier"])
    both = scoring.compared(rare, a, b, images, 50, np.random.default_rng(0)).set_index("finding")
    assert np.isnan(both.loc["hernia", ["p", "p_holm", "delong_p"]].astype(float)).all()
    assert np.isfinite(both.loc["mass", "p"])


def test_what_both_sides_know_of_images_is_put_together():
    mine = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["1", "2"], "view": pd.NA, "sex": pd.NA, "age": pd.NA})
    theirs = mine.assign(patient_id="9", view="PA")
    got = auditing.merged(mine.assign(follow_up_number=pd.NA), theirs.assign(follow_up_number=pd.NA))
    assert got["patient_id"].tolist() == ["1", "2"] and got["view"].tolist() == ["PA", "PA"]
    more = theirs.assign(part=["val", "test"])
    for both in (auditing.merged(mine, more), auditing.merged(mine.assign(part=["val", "test"]), theirs)):
        assert list(both) == [*mine.columns, "part"] and both["part"].tolist() == ["val", "test"]


def test_a_part_of_the_references_release(tmp_path, capsys):
    options = ["--resamples", 20, "--out", tmp_path]
    run(audit, "google_adjudicated", "nih_reports", "--part", "test", "--by", "view", "sex", *options)
    assert "1962 images in google_adjudicated (part test), 112120 in nih_reports" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "audit.csv")
    row = table.query("finding == 'pneumothorax' and measure == 'sensitivity' and by == 'all'").iloc[0]
    assert row["images_n"] == 1962 and round(row["estimate"], 3) == 0.497
    assert set(table["by"]) == {"all", "view", "sex"}
    with pytest.raises(SystemExit, match=r"^google_adjudicated has no part 'train'; it has test and val\.$"):
        run(audit, "google_adjudicated", "nih_reports", "--part", "train")
    with pytest.raises(SystemExit, match=r"^nih_reports is not divided into parts: leave out --part\.$"):
        run(audit, "nih_reports", "google_adjudicated", "--part", "test")


def test_a_release_with_parts_and_a_csv_without(tmp_path, capsys):
    google = catalogue.read_release("google_adjudicated").table
    google[["image_id", "pneumothorax"]][:300].to_csv(tmp_path / "my_labels.csv", index=False)
    run(audit, "google_adjudicated", tmp_path / "my_labels.csv", "--resamples", 20)
    assert "300 in both" in capsys.readouterr().out
    run(audit, tmp_path / "my_labels.csv", "google_adjudicated", "--resamples", 20)
    assert "300 in both" in capsys.readouterr().out


def test_two_label_sets_are_compared_on_the_same_images(world):
    reference, reports, (s, _), images = world
    reference, reports = reference.copy(), reports.copy()
    reference.loc["i000":"i049", "mass"] = np.nan
    reports.loc["i040":"i099", "mass"] = np.nan
    labels = {"readers": reference, "reports": reports}
    rng = np.random.default_rng(0)
    found, gaps = scoring.by_two_label_sets(labels, s, images, 20, rng, by=["sex"])
    y, z, p = reference["mass"][100:], reports["mass"][100:], s["mass"][100:]
    row = gaps[(gaps["finding"] == "mass") & (gaps["measure"] == "auc")].iloc[0]
    assert row["images_n"] == 800 and [row["positives_a_n"], row["positives_b_n"]] == [y.sum(), z.sum()]
    assert row["estimate"] == pytest.approx(roc_auc_score(y, p) - roc_auc_score(z, p))
    assert row["low"] < row["estimate"] < row["high"] and row["p"] <= row["p_holm"] and row["smallest"] > 0
    assert set(gaps["measure"]) == set(scoring.measures(0.9)) and len(gaps) == 2 * len(scoring.measures(0.9))
    whole = found[(found["finding"] == "mass") & (found["by"] == "all")]
    assert set(whole["images_n"]) == {800} and set(whole["labels"]) == {"readers", "reports"}
    assert set(found["by"]) == {"all", "sex"}
    same, none = scoring.by_two_label_sets({"a": reference, "b": reference}, s, images, 20, np.random.default_rng(0))
    assert (
        (none["estimate"] == 0).all()
        and (none["p"] == 1).all()
        and same.groupby("labels")["estimate"].sum().nunique() == 1
    )


def test_two_label_sets_are_resampled_by_the_same_patients(world):
    """The interval of the difference is that of paired resamples, which one label set's own scores share."""
    reference, _, (s, _), images = world
    nearly = reference.copy()
    nearly.iloc[0] = 1 - nearly.iloc[0]
    _, gaps = scoring.by_two_label_sets({"a": reference, "b": nearly}, s, images, 40, np.random.default_rng(0))
    alone = scoring.table(reference, s, images, 40, np.random.default_rng(0))
    gap = gaps[gaps["measure"] == "auc"].set_index("finding").loc["mass"]
    auc = alone[alone["measure"] == "auc"].set_index("finding").loc["mass"]
    assert gap["high"] - gap["low"] < 0.2 * (auc["high"] - auc["low"])


def test_a_rare_finding_of_one_label_set_gets_no_test(world):
    reference, reports, (s, _), images = world
    rare = reports.assign(hernia=0.0)
    rare.loc[["i000", "i001", "i002"], "hernia"] = 1
    _, gaps = scoring.by_two_label_sets({"a": reference, "b": rare}, s, images, 20, np.random.default_rng(0))
    row = gaps.set_index(["finding", "measure"]).loc[("hernia", "auc")]
    assert np.isnan([row["low"], row["p"], row["p_holm"]]).all() and "3 patients" in row["reason"]
    with pytest.raises(ValueError, match="No finding is in a, in b and in the predictions"):
        labels = {"a": reference[["mass"]], "b": reports[["hernia"]]}
        scoring.by_two_label_sets(labels, s, images, 20, np.random.default_rng(0))


def test_standard_errors_and_delongs_interval(world):
    reference, _, (s, _), images = world
    table = scoring.table(reference, s, images, 400, np.random.default_rng(0), specificity=0.8)
    rows = table[table["finding"] == "mass"].set_index("measure")
    auc = rows.loc["auc"]
    assert auc["se"] == pytest.approx((auc["high"] - auc["low"]) / 3.92, rel=0.2)
    assert auc["delong_low"] < auc["estimate"] < auc["delong_high"]
    assert rows["se"].notna().all()
    assert rows["specificity"].dropna().to_dict() == {"sensitivity_at_specificity": 0.8}


def test_findings_that_stand_for_several_are_derived():
    ids = pd.Index(["a", "b", "c"], name="image_id")
    score = pd.DataFrame({"nodule": [0.1, 0.6, 0.2], "mass": [0.3, 0.4, np.nan], "edema": 0.5}, ids)
    label = pd.DataFrame({"nodule_or_mass": [0, 1, 1], "airspace_opacity": 1}, ids)
    got, notes = scoring.derived(score, label)
    assert got["nodule_or_mass"][:2].tolist() == [0.3, 0.6] and np.isnan(got["nodule_or_mass"]["c"])
    assert "airspace_opacity" not in got and "nodule_or_mass" not in score
    assert notes[0].startswith("airspace_opacity is not derived from its parts: there is no score of atelectasis, ")
    assert notes[1].startswith("nodule_or_mass is derived: its score is the highest of nodule, mass")
    own = score.assign(nodule_or_mass=0.9)
    assert scoring.derived(own, label[["nodule_or_mass"]])[1] == []
    assert scoring.derived(score, label.set_axis(["hernia", "pneumonia"], axis=1))[1] == []


def test_score_by_two_label_sets_as_a_command(world, tmp_path, capsys):
    reference, reports, (a, _), images = world
    images = images.set_index("image_id")
    for name, table in (("readers", reference), ("reports", reports), ("a", a)):
        table.join(images).to_csv(tmp_path / f"{name}.csv")
    labels = ["--labels", tmp_path / "readers.csv", tmp_path / "reports.csv"]
    run(score, tmp_path / "a.csv", *labels, "--resamples", 20, "--specificity", 0.8, "--out", tmp_path / "out")
    shown = capsys.readouterr().out
    for words in ("SE (bootstrap)", "DeLong's interval", "sensitivity at specificity 0.8", "the same images"):
        assert words in shown
    assert len(pd.read_csv(tmp_path / "out" / "label_differences.csv")) == 14
    found = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert found["labels"].nunique() == 2 and found["specificity"].dropna().unique().tolist() == [0.8]
    with pytest.raises(SystemExit, match="2"):
        run(score, tmp_path / "a.csv", *labels, "third.csv")
    assert "--labels takes one label set, or two different ones" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(score, tmp_path / "a.csv", *labels, "--compare", tmp_path / "a.csv")
    assert "--compare takes one label set" in capsys.readouterr().err


def test_ids_match_without_their_ending(world):
    table = pd.DataFrame({"mass": [1.0, 0.0]}, pd.Index(["x1", "x3"], name="image_id"))
    assert auditing.matched(table, ["x1.png", "x2.png"]).index.tolist() == ["x1.png"]
    with pytest.raises(ValueError, match="No image id is on both sides"):
        auditing.matched(table, ["y.png"])


def test_blanks_count_as_asked(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("image_id,mass\n" + "".join(f"i{k},{k % 2}\n" for k in range(60)))
    (tmp_path / "b.csv").write_text(
        "image_id,mass\n" + "".join(f"i{k},{'1' if k % 4 == 1 else ''}\n" for k in range(60))
    )
    run(audit, tmp_path / "a.csv", tmp_path / "b.csv", "--resamples", 20)
    assert "45 of 60 images have no label" in capsys.readouterr().out
    run(audit, tmp_path / "a.csv", tmp_path / "b.csv", "--resamples", 20, "--blank", "absent", "--out", tmp_path)
    assert pd.read_csv(tmp_path / "audit.csv")["images_n"].iloc[0] == 60


@pytest.mark.parametrize(
    ("option", "message"), [(["--specificity", "90"], "no fraction"), (["--resamples", "0"], "too few")]
)
def test_wrong_options_are_refused(tmp_path, capsys, option, message):
    (tmp_path / "a.csv").write_text("image_id,mass\na,0.4\n")
    with pytest.raises(SystemExit):
        run(score, tmp_path / "a.csv", "--labels", "nih_reports", *option)
    assert message in capsys.readouterr().err


def test_ages_and_sexes_as_others_write_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image_id,Patient Age,Patient Gender,mass\na,058Y,Male,1\nb,7,F,0\n")
    _, images, _ = own_tables.read_own(path)
    assert images["age"].tolist() == [58, 7] and images["sex"].tolist() == ["M", "F"]
    path.write_text("image_id,age,mass\na,old,1\n")
    with pytest.raises(ValueError, match="line 2: age is 'old'"):
        own_tables.read_own(path)
