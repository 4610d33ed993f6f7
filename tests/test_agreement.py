"""Agreement against statsmodels, published examples and slow formulas; latent truth against simulated readers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from cxrlib.statistics import agreement, resampling


def readings(truth, sensitivity, specificity, rng, missing=0.0):
    """Return simulated readings of every image by every reader."""
    said = np.where(truth[:, None], rng.random((len(truth), len(sensitivity))) < sensitivity, 0)
    said = np.where(truth[:, None], said, rng.random(said.shape) > specificity).astype(float)
    said[rng.random(said.shape) < missing] = np.nan
    n, r = said.shape
    return pd.DataFrame(
        {
            "image_id": np.repeat([f"i{k:04d}" for k in range(n)], r),
            "reader_id": np.tile([f"r{k}" for k in range(r)], n),
            "mass": said.ravel(),
        }
    )


@pytest.fixture
def panel():
    rng = np.random.default_rng(0)
    return readings(rng.random(300) < 0.3, np.array([0.9, 0.8, 0.7, 0.85]), np.array([0.95, 0.9, 0.99, 0.9]), rng)


def test_fleiss_is_statsmodels(panel):
    counts = agreement.tally(panel, "mass")
    table = np.c_[counts["positives_n"], counts["readings_n"] - counts["positives_n"]]
    assert agreement.fleiss_kappa(counts) == pytest.approx(fleiss_kappa(table), abs=1e-12)


def slow_alpha(panel, finding):
    """Krippendorff's coincidence matrix, pair by pair."""
    matrix = np.zeros((2, 2))
    for _, values in panel.dropna(subset=[finding]).groupby("image_id")[finding]:
        v = values.astype(int).to_list()
        if len(v) > 1:
            for i in range(len(v)):
                for j in range(len(v)):
                    if i != j:
                        matrix[v[i], v[j]] += 1 / (len(v) - 1)
    each, n = matrix.sum(1), matrix.sum()
    return 1 - (n - 1) * matrix[0, 1] / (each[0] * each[1])


@pytest.mark.parametrize("missing", [0, 0.3])
def test_alpha_is_the_slow_one(missing):
    rng = np.random.default_rng(1)
    panel = readings(rng.random(80) < 0.4, np.full(5, 0.8), np.full(5, 0.85), rng, missing)
    assert agreement.krippendorff_alpha(agreement.tally(panel, "mass")) == pytest.approx(slow_alpha(panel, "mass"))


def test_alpha_of_krippendorffs_own_example():
    """Two observers, binary, ten units: alpha = 0.095 (Computing Krippendorff's Alpha-Reliability, 2011)."""
    a = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    b = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    rows = [(str(k), r, float(v)) for r, values in (("a", a), ("b", b)) for k, v in enumerate(values)]
    panel = pd.DataFrame(rows, columns=["image_id", "reader_id", "mass"])
    assert agreement.krippendorff_alpha(agreement.tally(panel, "mass")) == pytest.approx(0.095, abs=5e-4)


def test_pairwise_kappa_is_sklearns(panel):
    table = agreement.pairwise_kappa(panel, "mass")
    assert len(table) == 6 and (table["images_n"] == 300).all()
    wide = panel.pivot(index="image_id", columns="reader_id", values="mass")
    for row in table.itertuples():
        assert row.kappa == pytest.approx(cohen_kappa_score(wide[row.reader_a], wide[row.reader_b]))
    assert agreement.pairwise_kappa(panel, "mass", at_least=301).empty


def test_replicates_are_what_repeated_images_give(panel):
    counts = agreement.tally(panel, "mass")
    resamples = resampling.patient_resamples(np.arange(300) // 3, 10, np.random.default_rng(0))
    for measure in (agreement.krippendorff_alpha, agreement.fleiss_kappa):
        got = measure(counts, resamples)
        for b, weights in enumerate(resamples.weights()):
            again = counts.iloc[np.repeat(np.arange(300), weights.astype(int))]
            assert got[b] == pytest.approx(measure(again))


def test_positive_agreement_by_hand():
    counts = pd.DataFrame({"readings_n": [3, 3, 2], "positives_n": [3, 1, 1]})
    # first readers who say yes: three who all find two others agreeing, one whom none follows, one whom none follows
    assert agreement.positive_agreement(counts) == pytest.approx(3 / 5)


def test_majority(panel):
    got = agreement.majority(panel, ["mass"], 3).set_index("image_id")["mass"]
    sums = panel.groupby("image_id")["mass"].sum()
    assert (got == (sums >= 3)).all() and set(got) == {0, 1}
    nobody = panel.assign(mass=panel["mass"].where(panel["image_id"] != "i0000"))
    assert np.isnan(agreement.majority(nobody, ["mass"], 3).set_index("image_id")["mass"]["i0000"])


def test_latent_truth_finds_the_readers_and_covers_them():
    sensitivity, specificity = np.array([0.95, 0.8, 0.6, 0.85, 0.75]), np.array([0.9, 0.97, 0.99, 0.85, 0.95])
    inside, right = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        truth = rng.random(600) < 0.25
        found = agreement.latent_truth(readings(truth, sensitivity, specificity, rng, 0.2), "mass", rng, 400, 150)
        table = found.readers()
        inside += list(table["sensitivity_low"].le(sensitivity) & table["sensitivity_high"].ge(sensitivity))
        inside += list(table["specificity_low"].le(specificity) & table["specificity_high"].ge(specificity))
        right.append(np.mean((found.probability > 0.5) == truth[[int(i[1:]) for i in found.image_id]]))
        assert np.median(found.prevalence) == pytest.approx(0.25, abs=0.08)
    assert np.mean(inside) > 0.87, "95 % intervals of 120 rates"
    assert np.mean(right) > 0.93


def test_readers_that_miss_the_same_images_look_better_than_they_are():
    rng = np.random.default_rng(3)
    truth = rng.random(800) < 0.3
    seen = truth & (rng.random(800) < 0.6)  # the rest no reader can see
    panel = readings(seen, np.full(4, 0.9), np.full(4, 0.97), rng)
    table = agreement.latent_truth(panel, "mass", rng, 300, 150).readers()
    said = panel.pivot(index="image_id", columns="reader_id", values="mass").to_numpy()
    assert (said[truth].mean(0) < 0.6).all() and (table["sensitivity_low"] > 0.75).all()


def test_bad_readings_are_named(panel):
    with pytest.raises(ValueError, match="reader r0 has two rows for image i0000"):
        agreement.tally(pd.concat([panel, panel.head(1)]), "mass")
    with pytest.raises(ValueError, match="image i0000 is -1: resolve"):
        agreement.tally(panel.assign(mass=[-1.0, *panel["mass"][1:]]), "mass")
    with pytest.raises(ValueError, match="4 readings: Fleiss' kappa needs as many"):
        agreement.fleiss_kappa(agreement.tally(panel.iloc[1:], "mass"))
    with pytest.raises(ValueError, match="no image has two readings"):
        agreement.latent_truth(panel.drop_duplicates("image_id"), "mass", np.random.default_rng(0))
