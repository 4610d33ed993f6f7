"""Labelers against people: F1 by hand, the better policy, what is left out, and pairing."""

import numpy as np
import pandas as pd
import pytest

from cxrlib.statistics import accuracy, resampling
from cxrlib.studies import labeler_agreement

N = 200


@pytest.fixture(scope="module")
def table():
    """Return a case table: effusion and mass (in four patients only), read by two labelers."""
    rng = np.random.default_rng(2)
    truth = (rng.random(N) < 0.4).astype(float)
    rules = np.where(rng.random(N) < 0.2, -1, truth)
    out = pd.DataFrame({"image_id": [f"i{k}" for k in range(N)], "patient_id": np.arange(N) // 2})
    out["label.panel.effusion"], out["label.rules.effusion"] = truth, rules
    out["label.bert.effusion"] = np.where(rng.random(N) < 0.3, 1 - truth, truth)
    out["label.panel.mass"] = (np.arange(N) < 8).astype(float)
    out["label.rules.mass"] = out["label.bert.mass"] = 0.0
    return out


def against(table, decided=None, label_sets=("rules", "bert", "nobody")):
    said = labeler_agreement.opinions(table, label_sets, ["effusion", "mass"], decided)
    truth = pd.DataFrame({f: table[f"label.panel.{f}"] for f in ("effusion", "mass")})
    return labeler_agreement.Against(
        truth, said, resampling.patient_resamples(table["patient_id"], 200, np.random.default_rng(0))
    )


def test_f1_by_policy_and_the_mean_of_the_better(table):
    found = against(table).table().set_index(["labeler", "finding", "policy", "measure"])
    truth, rules = table["label.panel.effusion"], table["label.rules.effusion"]
    by_policy = [accuracy.f1(truth, rules.replace(-1, value)) for value in (0, 1)]
    for policy, value in zip(labeler_agreement.COMPARED_POLICIES, by_policy, strict=True):
        row = found.loc["rules", "effusion", policy, "f1"]
        assert row["estimate"] == value and row["low"] < value < row["high"] and row["images_n"] == N
    best = found.loc["rules", "mean", labeler_agreement.BEST, "f1"]
    assert best["estimate"] == max(by_policy) and (best["findings_n"], best["left_out"]) == (1, "mass")
    mass = found.loc["rules", "mass", "u_zeros", "f1"]
    assert np.isnan(mass["low"]) and "rests on 4 patients" in mass["reason"]
    assert found.loc["rules", "effusion", "u_zeros", "kappa"]["estimate"] == accuracy.kappa(
        truth, rules.replace(-1, 0)
    )


def test_differences_are_paired(table):
    (row,) = against(table).differences().to_dict("records")
    assert (row["first"], row["second"]) == ("bert", "rules") and row["low"] < row["estimate"] < row["high"]
    assert row["p"] == row["p_holm"]
    same = table.assign(**{"label.bert.effusion": table["label.rules.effusion"]})
    (row,) = against(same).differences().to_dict("records")
    assert (row["estimate"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)
    (row,) = against(table).differences(findings=["mass"]).to_dict("records")
    assert np.isnan(row["estimate"]) and row["left_out"] == "mass" and row["reason"]


def test_labelers_without_a_label_set_are_read_from_their_file(table):
    decided = pd.DataFrame({"image_id": table["image_id"][::-1], "labeler": "visual", "mass": 0.0})
    decided["effusion"] = table["label.panel.effusion"][::-1].to_numpy()
    found = against(table, decided).table()
    row = found[(found["labeler"] == "visual") & (found["finding"] == "effusion") & (found["measure"] == "f1")]
    assert (row["estimate"] == 1).all()
    assert set(against(table, decided[1:]).said) == {"rules", "bert"}, "it does not know every image"
    assert against(table, None, ["nobody"]).table().empty and against(table, None, ["nobody"]).differences().empty
