"""What the knobs of notebook 01_play show is what pandas and scikit-learn compute from the same case tables."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cxrlib.base import paths
from cxrlib.cohorts import pictures, simulation
from cxrlib.networks import architectures, run_maps
from cxrlib.studies import play

ARM = "pneumothorax_radiologist, test_resnet"


@pytest.fixture(scope="module")
def choices():
    return play.read_choices("quick")


@pytest.fixture(scope="module")
def cases():
    """The internal case table of the main split, read without the library."""
    return pd.read_parquet(paths.to_read(paths.cases_path("quick", "simulated")))


def by_measure(table):
    return table.set_index("measure")["estimate"]


def test_there_is_something_to_choose(choices):
    assert choices.tests == ["internal", "external"] and choices.cohort("external") == "simulated_external"
    assert {"pneumothorax", "effusion", "abnormal"} <= set(choices.findings)
    assert choices.scorers("pneumothorax", "internal")[:3] == ["drawn", "radiologist", "nlp"]
    assert choices.scorers("abnormal", "external") == ["finding_radiologist"]
    assert choices.targets("abnormal")[0] == "finding_reports_by_image"
    assert choices.architectures("pneumothorax") == ["test_resnet", "test_efficientnet"]
    assert choices.sizes().loc[("internal", "main"), "images_n"] == 2312


@pytest.mark.parametrize(("seed", "specificity", "prevalence"), [(1, 0.9, 0.1), (4, 0.6, 0.5), (5, 0.97, 0.02)])
def test_operating_point(choices, cases, seed, specificity, prevalence):
    arm = choices.networks("pneumothorax")[ARM]
    table = play.chosen_point(choices, arm, seed, "internal", "nlp", specificity, prevalence)
    column = f"probability.pneumothorax_radiologist-test_resnet-{seed}.pneumothorax"
    valid, test = (cases[cases["split"] == part] for part in ("valid", "test"))
    normal = valid.loc[valid["label.radiologist.pneumothorax"] == 0, column].to_numpy(float)
    at = play.threshold(choices, arm, seed, specificity)
    assert (normal < at).mean() >= specificity > (normal < normal[normal < at].max()).mean()
    truth = test["label.nlp.pneumothorax"].to_numpy() == 1
    called = test[column].to_numpy(float) >= at
    found, right = called[truth].mean(), (~called[~truth]).mean()
    share = prevalence * found + (1 - prevalence) * (1 - right)
    values = by_measure(table)
    assert values["auc"] == pytest.approx(roc_auc_score(truth, test[column]))
    assert values["sensitivity"] == pytest.approx(found) and values["specificity"] == pytest.approx(right)
    assert values["ppv"] == pytest.approx(truth[called].mean()) and values["npv"] == pytest.approx(
        1 - truth[~called].mean()
    )
    assert values[f"ppv at prevalence {prevalence:.2f}"] == pytest.approx(prevalence * found / share)
    assert values[f"npv at prevalence {prevalence:.2f}"] == pytest.approx((1 - prevalence) * right / (1 - share))
    assert values[f"share called at prevalence {prevalence:.2f}"] == pytest.approx(share)
    assert values[f"share not called at prevalence {prevalence:.2f}"] == pytest.approx(1 - share)
    assert ((table["low"] <= table["estimate"]) & (table["estimate"] <= table["high"])).all()


def test_empty_columns_are_not_shown():
    table = pd.DataFrame({"estimate": [0.5, np.nan], "reason": ["", ""], "left_out": ["", "mass"]})
    assert list(play.without_empty(table)) == ["estimate", "left_out"]


def test_a_threshold_without_the_labels_of_its_training_is_set_by_the_reference(choices, cases):
    arm = choices.networks("effusion")["labelers_visual, test_resnet"]
    valid = cases[cases["split"] == "valid"]
    normal = valid.loc[valid["label.radiologist.effusion"] == 0, "probability.labelers_visual-test_resnet-2.effusion"]
    assert (normal < play.threshold(choices, arm, 2, 0.8)).mean() == pytest.approx(0.8, abs=1.5 / len(normal))


def test_labels_that_train_crossed_with_labels_that_score(choices, cases):
    targets, label_sets = ["pneumothorax_nlp", "pneumothorax_radiologist"], ["radiologist", "nlp"]
    table = play.crossed_table(choices, "pneumothorax", "test_resnet", targets, "internal", label_sets)
    assert len(table) == 4 and set(table["seeds_n"]) == {5}
    test = cases[cases["split"] == "test"]
    for row in table.itertuples():
        scores = [test[f"probability.{row.target}-test_resnet-{seed}.pneumothorax"] for seed in range(1, 6)]
        label = test[f"label.{row.scored_against}.pneumothorax"]
        assert row.estimate == pytest.approx(np.mean([roc_auc_score(label, score) for score in scores]))
    fig = play.crossed_figure(table, "pneumothorax", "internal")
    assert [axis.get_title(loc="left") or axis.get_title() for axis in fig.axes] == [
        f"scored by {n}" for n in label_sets
    ]
    assert play.crossed_table(choices, "edema", "test_efficientnet", targets, "internal", label_sets).empty


def test_two_label_sets(choices, cases):
    table = play.paired_opinions(choices, "effusion", "internal", "rules", "radiologist")
    pair = cases[["label.rules.effusion", "label.radiologist.effusion"]].to_numpy()
    pair = pair[np.isin(pair, (0, 1)).all(axis=1)]
    counts = {
        cell: int((pair == value).all(axis=1).sum())
        for cell, value in zip(play.CELLS, [(1, 1), (1, 0), (0, 1), (0, 0)], strict=True)
    }
    assert table["cell"].value_counts().to_dict() == counts and min(counts.values()) > 0
    agreement = play.opinions_table(table, "rules", "radiologist").set_index("measure")
    assert agreement["images_n"].dropna().to_dict() == counts
    found = counts["both present"] / (counts["both present"] + counts["only the second"])
    assert agreement["estimate"]["rules finds of what radiologist calls present"] == pytest.approx(found)
    ids = play.parted(choices, "effusion", "internal", "rules", "radiologist", "only the first")
    rows = cases.set_index("image_id").loc[ids]
    assert len(ids) == counts["only the first"]
    assert (rows["label.rules.effusion"] == 1).all() and (rows["label.radiologist.effusion"] == 0).all()
    assert play.parted(choices, "abnormal", "internal", "rules", "radiologist", "only the first") == []


def test_one_image(choices, cases):
    uncertain = cases.loc[cases["label.rules.effusion"] == -1, "image_id"].iloc[0]
    row = cases.set_index("image_id").loc[uncertain]
    labels = play.labels_table(choices, "internal", uncertain)
    assert labels.loc["effusion", "rules"] == "uncertain" and labels.loc["effusion", "nlp"] == "not assessed"
    truth = {1: "present", 0: "absent"}[int(row["label.drawn.effusion"])]
    assert labels.loc["effusion", "drawn"] == truth
    table = play.probabilities_table(choices, "internal", uncertain, "effusion")
    assert len(table) == sum("probability" in c and c.endswith(".effusion") for c in cases)
    for entry in table.itertuples():
        assert entry.probability == row[f"probability.{entry.target}-{entry.architecture}-{entry.seed}.effusion"]
    fig = play.image_figure(np.zeros((8, 8), np.uint8), table, uncertain, np.zeros((8, 8)))
    drawn = {tuple(np.round(line.get_xdata(), 6)) for line in fig.axes[-1].lines}
    assert drawn == {tuple(np.round(part, 6)) for _, part in table.groupby(["target"])["probability"]}


def test_what_cannot_be_shown_is_said_in_a_sentence(choices, capsys):
    arm = choices.networks("pneumothorax")["pneumothorax_nlp_noise_free, test_resnet"]
    shown = play.in_words(play.chosen_point)
    shown(choices, arm, 3, "internal", "radiologist", 0.9, 0.1)
    assert capsys.readouterr().out == "pneumothorax_nlp_noise_free was trained with the seeds 1, not 3.\n"
    shown(choices, arm, 1, "external", "rules", 0.9, 0.1)
    assert "choose one of drawn, radiologist, nlp" in capsys.readouterr().out
    play.in_words(play.paired_opinions)(choices, "abnormal", "external", "rules", "bert")
    assert "there are finding_radiologist." in capsys.readouterr().out
    play.in_words(play.labels_table)(choices, "internal", "P99999_000")
    assert capsys.readouterr().out.startswith("P99999_000 is no validation or test image")
    with pytest.raises(TypeError):  # a mistake of the code stays one
        shown()


def test_an_image_is_painted_again_or_taken_from_the_packed_cohort(choices, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    again = pictures.pixels_of(choices.settings, "simulated", "P00003_000")
    hospital = simulation.HOSPITALS["internal"]
    rows = simulation.admissions(hospital, 4000, np.random.default_rng(1))
    (i,) = np.flatnonzero(rows["image_id"] == "P00003_000")
    assert (again == simulation.Painter(hospital, 64, 1).draw(rows.iloc[i], int(i))[0]).all()
    with pytest.raises(KeyError, match="no image 'P1'"):
        pictures.pixels_of(choices.settings, "simulated", "P1")
    real = {**choices.settings, "cohorts": {"nih": {"source": "nih", "folder": "nih"}}}
    with pytest.raises(FileNotFoundError, match=r"data/cohorts/nih is not here, .* `make repro STAGES=cohort` first"):
        pictures.pixels_of(real, "nih", "00000001_000.png")
    (paths.cohort_dir("packed")).mkdir(parents=True)
    (paths.cohort_dir("packed") / "images.parquet").touch()
    stored = type(
        "Packed", (), {"images": np.arange(8).reshape(2, 2, 2), "rows": lambda self, ids: [ids.index("b") + 1]}
    )
    monkeypatch.setattr(pictures, "_opened", lambda cohort: stored())
    assert pictures.pixels_of(choices.settings, "packed", "b").tolist() == [[4, 5], [6, 7]]


def test_a_map_of_one_image(tmp_path):
    torch.manual_seed(0)
    architectures.save_network(architectures.create_network("test_resnet", 2)[0], tmp_path / "model.safetensors")
    parameters = {"architecture": "test_resnet", "findings": ["effusion", "mass"], "cohort": "none", "size_px": 64}
    (tmp_path / "run.json").write_text(json.dumps({"parameters": parameters, "data_sha256": {"images": "0"}}))
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64)).astype(np.uint8)
    maps = [run_maps.run_map(tmp_path, finding, pixels) for finding in ("effusion", "mass")]
    assert all(m.shape == (64, 64) and 0 <= m.min() and m.max() <= 1 for m in maps)
    assert not np.array_equal(*maps)
    with pytest.raises(ValueError, match=r"does not predict edema; it predicts effusion, mass\."):
        run_maps.run_map(tmp_path, "edema", pixels)
