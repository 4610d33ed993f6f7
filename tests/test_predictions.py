"""Published predictions: what is committed is what the owners published, and scores of what stands for several."""

import gzip

import numpy as np
import pandas as pd
import pytest

from cxrlib.base import paths, vocabulary
from cxrlib.releases import nih, predictions
from cxrlib.statistics import accuracy

FINDINGS = list(vocabulary.NIH_FINDINGS.values())


def test_five_networks_are_of_the_same_images_and_score_what_their_owners_say():
    """`pretrained/aucs.csv` of reproduce-chexnet: pneumothorax 0.878, hernia 0.917, infiltration 0.716."""
    five = [predictions.read_predictions(name) for name in predictions.FIVE]
    for scores in five:
        assert scores.shape == (22_433, 14) and scores.index.equals(five[0].index) and scores.index.is_unique
        assert scores.stack().between(0, 1).all()
    labels = nih.read_nih_entries().set_index("image_id").loc[five[0].index]
    for finding, area in {"pneumothorax": 0.8776, "hernia": 0.9175, "infiltration": 0.7156}.items():
        assert accuracy.auc(labels[finding], five[0][finding]) == pytest.approx(area, abs=6e-5)


def test_half_precision_moves_no_auc(cxr_data):
    """Against the owners' numbers, of every network and finding."""
    labels = nih.read_nih_entries().set_index("image_id")
    for name, file in predictions.OWNERS_FILES.items():
        raw = pd.read_csv(cxr_data / file).rename(columns=lambda column: column.removeprefix("prob_"))
        raw = raw.rename(columns={"Image Index": "image_id", **vocabulary.NIH_FINDINGS}).set_index("image_id")
        ours = predictions.read_predictions(name)
        truth = labels.loc[ours.index]
        for finding in FINDINGS:
            gap = accuracy.auc(truth[finding], ours[finding]) - accuracy.auc(
                truth[finding], raw.loc[ours.index, finding]
            )
            assert abs(gap) < 1e-4, (name, finding)


def seeds_file(folder, rows):
    """Write a table as the group of the five seeds wrote theirs."""
    columns = ["path", *(f"prob_{name}" for name in (*vocabulary.NIH_FINDINGS, "No Finding"))]
    (folder / "predictions").mkdir(exist_ok=True)
    text = ",".join(columns) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    (folder / "predictions" / "underdiagnosis_seed11.csv.gz").write_bytes(gzip.compress(text.encode()))


def test_a_network_with_an_output_for_no_finding(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_DATA", str(tmp_path))
    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")
    name = "seyyed_kalantari_11"
    with pytest.raises(
        FileNotFoundError, match=r"underdiagnosis_seed11\.csv\.gz below .CXR_DATA .`cxr fetch nih_networks`"
    ):
        predictions.read_predictions(name)
    seeds_file(tmp_path, [["00000002_000.png", *[0.1] * 14, 0.7], ["00000001_000.png", *[0.2] * 14, 0.4]])
    scores = predictions.read_predictions(name)
    assert list(scores.index) == ["00000001_000.png", "00000002_000.png"]
    assert predictions.abnormal_score(scores) == pytest.approx([0.6, 0.3])
    seeds_file(tmp_path, [["00000001_000.png", *[0.1] * 14, 1.7]])
    with pytest.raises(ValueError, match="no probability"):
        predictions.read_predictions(name)
    seeds_file(tmp_path, [["images/1.png", *[0.1] * 15]])
    with pytest.raises(ValueError, match=r"line 2: 'images/1\.png' is no image id of ChestX-ray14"):
        predictions.read_predictions(name)
    with pytest.raises(ValueError, match="no published network 'mine'; there are zech"):
        predictions.read_predictions("mine")


def test_scores_of_what_stands_for_several():
    scores = pd.DataFrame([np.arange(14) / 20, np.full(14, 0.5)], columns=FINDINGS)
    assert predictions.abnormal_score(scores) == pytest.approx([1 - np.prod(1 - np.arange(14) / 20), 1 - 0.5**14])
    opacity = predictions.of_finding(scores, "airspace_opacity")
    assert opacity == pytest.approx(scores[list(vocabulary.ANY_OF["airspace_opacity"])].max(axis=1))
    assert predictions.of_finding(scores, "hernia") == pytest.approx(scores["hernia"])
    with pytest.raises(ValueError, match="No output of the network stands for fracture"):
        predictions.of_finding(scores, "fracture")
