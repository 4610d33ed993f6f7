"""Readers combined: by hand, on simulated readers whose accuracy is known, and where nobody knows the truth."""

import numpy as np
import pandas as pd
import pytest
from test_agreement import readings as simulated
from test_cleaning import make_case

from cxrlib.statistics import accuracy, resampling
from cxrlib.studies import cleaning, reader_models

FINDING = "mass"


def panel(prevalence, rng, n=500, sensitivity=(0.8, 0.75, 0.85), specificity=(0.97, 0.96, 0.98)):
    truth = rng.random(n) < prevalence
    return truth.astype(float), simulated(truth, np.array(sensitivity), np.array(specificity), rng)


def test_readings_of_each_reader_stand_in_columns():
    rows = pd.DataFrame(
        [("i1", "r1", 1.0), ("i1", "r2", 0.0), ("i2", "r1", np.nan), ("i2", "r2", 1.0)],
        columns=["image_id", "reader_id", FINDING],
    )
    wide = reader_models.by_reader(rows, FINDING)
    assert wide.loc["i1"].tolist() == [1, 0] and np.isnan(wide.loc["i2", "r1"]) and wide.loc["i2", "r2"] == 1


def test_every_consensus_of_readers_who_agree_is_what_they_say():
    rng = np.random.default_rng(0)
    truth, readings = panel(0.3, rng, sensitivity=(1, 1, 1), specificity=(1, 1, 1))
    found = reader_models.consensus(readings, FINDING, {"network": np.full((2, 500), 0.4)}, rng, draws_n=60)
    assert set(found) == {"majority", "Dawid-Skene", "CROWDLAB, network", "CROWDLAB, prevalence alone"}
    for one in found.values():
        assert (one.label == truth).all()
    assert found["CROWDLAB, network"].label.shape == (2, 500)


def test_models_gain_where_one_reader_is_far_better():
    rng = np.random.default_rng(1)
    truth, readings = panel(0.4, rng, n=900, sensitivity=(0.98, 0.6, 0.6), specificity=(0.98, 0.7, 0.7))
    found = reader_models.consensus(readings, FINDING, {}, rng, draws_n=150)
    wrong = {method: (one.label != truth).mean() for method, one in found.items()}
    assert wrong["Dawid-Skene"] < wrong["majority"] - 0.05


def test_crowdlab_gives_readers_of_a_rare_finding_no_say():
    """Readers of the same accuracy: with 4 in a hundred positive, disagreement is as frequent as the finding."""
    rng = np.random.default_rng(2)
    found = {}
    for prevalence in (0.4, 0.04):
        truth, readings = panel(prevalence, rng, n=1500, sensitivity=(0.7,) * 3, specificity=(0.95,) * 3)
        found[prevalence] = reader_models.consensus(readings, FINDING, {}, rng, draws_n=40), truth
    common, rare = (found[p][0]["CROWDLAB, prevalence alone"] for p in (0.4, 0.04))
    assert common.weightless_frac == 0 and rare.weightless_frac > 0.5
    both, truth = found[0.04]
    sensitivity = {
        m: accuracy.sensitivity(truth, both[m].label[0]) for m in ("majority", "CROWDLAB, prevalence alone")
    }
    assert sensitivity["CROWDLAB, prevalence alone"] < sensitivity["majority"] - 0.1


def test_a_network_that_knows_helps_crowdlab_and_a_shuffled_one_weighs_nothing():
    rng = np.random.default_rng(3)
    truth, readings = panel(0.4, rng, sensitivity=(0.7,) * 3, specificity=(0.75,) * 3)
    knows = np.clip(0.15 + 0.7 * truth + rng.normal(0, 0.1, len(truth)), 0.01, 0.99)[None]
    given = {"network": knows, "scores shuffled": rng.permutation(knows[0])[None]}
    found = reader_models.consensus(readings, FINDING, given, rng, draws_n=60)
    resamples = resampling.patient_resamples(np.arange(len(truth)), 100, rng)
    table = reader_models.consensus_table(found, truth, resamples).set_index(["method", "measure"])
    gap = table.loc[("CROWDLAB, network", "wrong less majority")]
    assert gap["estimate"] < -0.05 and gap["p"] < 0.05
    assert found["CROWDLAB, scores shuffled"].network_weight < 0.01 < found["CROWDLAB, network"].network_weight


def test_agreement_with_others_is_that_of_the_rates():
    rng = np.random.default_rng(4)
    truth, readings = panel(0.3, rng)
    found = reader_models.consensus(readings, FINDING, {}, rng, draws_n=40)
    resamples = resampling.patient_resamples(np.arange(500) // 2, 50, rng)
    table = reader_models.consensus_table(found, truth, resamples).set_index(["method", "measure"])
    rates = accuracy.rates(truth, found["majority"].label[0])
    assert table.loc[("majority", "kappa"), "estimate"] == pytest.approx(rates["kappa"])
    assert table.loc[("majority", "wrong"), "estimate"] == pytest.approx((found["majority"].label[0] != truth).mean())
    assert ("majority", "wrong less majority") not in table.index
    doubt = reader_models.doubt_table(found, truth, resamples).set_index("method")
    share = found["majority"].probability[0]
    own = accuracy.auc(found["majority"].label[0] != truth, np.minimum(share, 1 - share))
    assert doubt.loc["majority", "estimate"] == pytest.approx(own) and np.isnan(doubt.loc["majority", "p"])


def test_differences_count_labels_that_changed():
    label = np.array([[1.0, 1, 0, 0]])
    found = {
        "majority": reader_models.Consensus(label, label),
        "Dawid-Skene": reader_models.Consensus(np.array([[1.0, 0, 1, 0]]), np.array([[0.9, 0.4, 0.6, 0.1]])),
    }
    table = reader_models.label_differences(found, [3, 2, 1, 0]).set_index("method")
    assert table.loc["Dawid-Skene", ["present_n", "added_n", "removed_n"]].tolist() == [2, 1, 1]
    assert table.loc["Dawid-Skene", "rank_correlation"] == pytest.approx(1)


def test_one_reader_mends_and_spoils():
    one = make_case(np.random.default_rng(5))
    ids = one.images.index
    right = pd.DataFrame({"image_id": ids, "reader_id": "r1", one.finding: one.truth})
    table = reader_models.single_read_table(one, right, reads_n=60).set_index("strategy")
    assert (table["spoiled"] == 0).all() and table["estimate"].to_numpy() == pytest.approx(table["mended_by_panel"])
    wrong = right.assign(reader_id="r2", **{one.finding: 1 - one.truth})
    table = reader_models.single_read_table(one, pd.concat([right, wrong]), reads_n=60).set_index("strategy")
    assert (table["mended"] * 2).to_numpy() == pytest.approx(table["mended_by_panel"])
    assert (table["spoiled"] + table["mended"]).to_numpy() == pytest.approx(50)
    rate = 100 * (one.given != one.truth).mean()
    assert table.loc[cleaning.RANDOM_REVIEW, "mended_by_panel"] == pytest.approx(rate)
    with pytest.raises(ValueError, match=f"nobody has read image {ids[0]} for pneumothorax"):
        reader_models.single_read_table(one, right.iloc[1:])


def test_the_panel_lies_in_the_range_if_readers_err_independently_and_not_if_they_err_together():
    rng = np.random.default_rng(6)
    n = 4000
    truth = rng.random(n) < 0.3
    resamples = resampling.patient_resamples(np.arange(n), 100, rng)
    a, b = (np.where(truth, rng.random(n) < 0.7, rng.random(n) < 0.05).astype(float) for _ in range(2))
    apart = reader_models.bounds_table(a, b, truth.astype(float), resamples)
    part = apart[apart["assumption"] == "independent"].set_index("rate")
    assert (part["above"].dropna() > 0).all()
    assert part["by_panel"].between(part["lowest"] - 0.01, part["highest"] + 0.01).all()
    easy = rng.random(n) < 0.5  # half of what is there is seen by both, the rest by neither
    a, b = (np.where(truth, easy & (rng.random(n) < 0.95), rng.random(n) < 0.02).astype(float) for _ in range(2))
    together = reader_models.bounds_table(a, b, truth.astype(float), resamples)
    part = together[together["assumption"] == "independent"].set_index("rate")
    assert part.loc["sensitivity_a", "above_high"] < -0.2 and part.loc["sensitivity_a", "p"] < 0.05
    anyhow = together[together["assumption"] == "any"]
    assert anyhow["by_panel"].between(anyhow["lowest"], anyhow["highest"]).all()
    figure = reader_models.bounds_picture(together.assign(finding=FINDING))
    assert [axis.get_title(loc="left") for axis in figure.axes][2] == "prevalence"
