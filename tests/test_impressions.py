"""Labelers of impressions against human codes: by hand, against sklearn, and a labeler that knows nothing."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from cxrlib.statistics import resampling
from cxrlib.studies import impressions

NAN = float("nan")


def codes_of(n=400, seed=0):
    rng = np.random.default_rng(seed)
    codes = pd.DataFrame(rng.random((n, 3)) < [0.2, 0.1, 0.01], columns=["effusion", "nodule", "hernia"])
    return codes.astype(int).set_axis([f"CXR{k}" for k in range(n)])


def by_report(codes, seed=1):
    return resampling.patient_resamples(codes.index, 300, np.random.default_rng(seed))


def test_uncertain_counts_as_absent_or_as_present_and_what_is_not_mentioned_as_absent():
    table = pd.DataFrame({"effusion": [1, -1, 0, NAN]})
    for policy, expected in (("u_zeros", [1, 0, 0, 0]), ("u_ones", [1, 1, 0, 0])):
        assert impressions.called_present({"a": table}, policy)["a"]["effusion"].tolist() == expected


def test_scores_are_sklearns():
    codes = codes_of()
    read = codes.mask(np.random.default_rng(2).random(codes.shape) < 0.1, 1 - codes).astype(float)
    table = impressions.f1_table(codes, {"a": read}, ["u_zeros"], by_report(codes)).set_index("finding")
    for finding in ("effusion", "nodule"):
        assert table.at[finding, "estimate"] == pytest.approx(f1_score(codes[finding], read[finding]))
        assert table.at[finding, "low"] < table.at[finding, "estimate"] < table.at[finding, "high"]
    micro = f1_score(codes.to_numpy(), read.to_numpy(), average="micro")
    assert table.at[impressions.MICRO, "estimate"] == pytest.approx(micro)
    assert np.isnan(table.at["hernia", "low"]) and "fewer than 10" in table.at["hernia", "reason"]


def test_a_gap_is_paired_and_a_labeler_that_is_the_other_has_none():
    codes = codes_of()
    rng = np.random.default_rng(3)
    good, bad = (codes.mask(rng.random(codes.shape) < p, 1 - codes).astype(float) for p in (0.02, 0.2))
    readings = {"good": good, "bad": bad, "same": good}
    got = impressions.f1_gaps(codes, readings, [("good", "bad"), ("good", "same")], ["u_zeros"], by_report(codes))
    assert got["low"][0] > 0 and got["p_holm"][0] < 0.01
    assert got.loc[1, ["estimate", "low", "high", "p"]].tolist() == [0, 0, 0, 1]


def test_shuffled_labels_know_nothing():
    """F1 of a labeler that calls a share q at random, where p are present, is 2 p q / (p + q)."""
    codes = codes_of(4000)[["effusion"]]
    shuffled = codes.sample(frac=1, random_state=1).set_axis(codes.index).astype(float)
    table = impressions.f1_table(codes, {"a": shuffled}, ["u_zeros"], by_report(codes)).set_index("finding")
    p = codes["effusion"].mean()
    assert table.at["effusion", "low"] < p < table.at["effusion", "high"]
