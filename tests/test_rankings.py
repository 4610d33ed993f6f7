"""Rankings of models: ties, turned pairs, the best model, and where readers lie among them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from cxrlib.releases import chexpert
from cxrlib.statistics import accuracy, resampling
from cxrlib.studies import rankings

MODELS = ["a", "b", "c", "d"]


def scored(areas, replicates=None, b=20):
    areas = np.array(areas, float)
    return rankings.Scored(areas, np.tile(areas, (b, 1)) if replicates is None else np.array(replicates, float))


# --- two rankings ---------------------------------------------------------------------------------------------


def test_ranks_of_tied_models_are_shared():
    assert rankings.ranks([0.9, 0.7, 0.8, 0.7]).tolist() == [1, 3.5, 2, 3.5]
    assert rankings.ranks([0.7, 0.1 + 0.6]).tolist() == [1.5, 1.5]  # 0.7 but for rounding


def test_concordance_by_hand():
    same = rankings.concordance([0.9, 0.8, 0.7], [0.6, 0.5, 0.4])
    assert (same.tau, same.pairs_n, same.discordant_n, same.tied_n) == (1, 3, 0, 0)
    turned = rankings.concordance([0.9, 0.8, 0.7], [0.4, 0.5, 0.6])
    assert (turned.tau, turned.discordant_n) == (-1, 3)
    # a and b have the same scores, so they are tied by both and only two pairs have an order
    tied = rankings.concordance([0.9, 0.9, 0.7], [0.5, 0.5, 0.6])
    assert (tied.tau, tied.pairs_n, tied.discordant_n, tied.tied_n) == (-1, 2, 2, 0)
    one = rankings.concordance([0.9, 0.9, 0.7], [0.5, 0.6, 0.4])  # tied by one truth alone
    assert (one.pairs_n, one.discordant_n, one.tied_n) == (3, 0, 1)
    assert one.tau == pytest.approx(2 / np.sqrt(2 * 3))
    assert np.isnan(rankings.concordance([0.5, 0.5], [0.6, 0.7]).tau)


def test_tau_is_scipys_in_every_resample():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, (2, 50, 8)) / 10  # many ties
    found = rankings.concordance(first, second).tau
    assert found == pytest.approx([kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)])


def test_best_and_what_choosing_by_another_truth_costs():
    assert rankings.best([0.9, 0.7, 0.9]).tolist() == [True, False, True]
    assert rankings.loss([0.9, 0.7, 0.8], [0.5, 0.4, 0.3]) == 0
    assert rankings.loss([0.9, 0.7, 0.8], [0.3, 0.4, 0.5]) == pytest.approx(0.1)
    assert rankings.loss([0.9, 0.7, 0.8], [0.3, 0.5, 0.5]) == pytest.approx(0.15)  # the mean of two tied for best
    assert rankings.loss([[0.9, 0.7], [0.6, 0.7]], [[0.1, 0.2], [0.1, 0.2]]) == pytest.approx([0.2, 0])


# --- pairs and changes ------------------------------------------------------------------------------------------


def test_pairs_of_the_same_scores_are_no_comparison():
    rng = np.random.default_rng(1)
    x = 0.8 + 0.01 * rng.standard_normal(999)
    one = rankings.Scored(np.array([0.8, 0.8, 0.6]), np.stack([x, x, x - 0.2], axis=1))
    table = rankings.pair_tests(one, ["a", "b", "c"])
    assert table[["first", "second"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert np.isnan(table["p"][0]) and np.isnan(table["p_holm"][0]) and table["estimate"][0] == 0
    assert table["p"][1:].tolist() == pytest.approx([2 / 1000] * 2)
    assert table["p_holm"][1:].tolist() == pytest.approx([4 / 1000] * 2)  # over two comparisons, not three


def test_changes_by_hand():
    rng = np.random.default_rng(2)
    noise = 0.001 * rng.standard_normal((999, 1))  # shared: every difference is certain
    truth = [0.9, 0.8, 0.7, 0.6]
    other = [0.8, 0.9, 0.7, 0.6]
    given = {
        ("x", "panel"): rankings.Scored(np.array(truth), np.array(truth) + noise),
        ("x", "labeler"): rankings.Scored(np.array(other), np.array(other) + noise),
    }
    table = rankings.changes(given, MODELS, "panel").set_index("truth")
    own, row = table.loc["panel, resampled"], table.loc["labeler"]
    assert (own["tau"], own["discordant_n"], own["best_same_frac"], own["loss"]) == (1, 0, 1, 0)
    assert pd.isna(own["best_same"]) and pd.isna(own["significant_n"])
    assert row["tau"] == row["tau_low"] == row["tau_high"] == pytest.approx(4 / 6)
    assert (row["pairs_n"], row["discordant_n"], row["tied_n"]) == (6, 1, 0)
    assert (row["best"], row["best_by_reference"], row["best_same"], row["best_same_frac"]) == ("b", "a", 0, 0)
    assert row["loss"] == pytest.approx(0.1)
    significant = ["significant_reference_n", "significant_n", "same_way_n", "opposite_n"]
    assert row[significant].tolist() == [6, 6, 5, 1]


def test_the_best_by_chance_is_counted_in_resamples():
    replicates = np.array([[0.9, 0.8], [0.7, 0.8], [0.9, 0.8], [0.9, 0.8]])
    given = {("x", "p"): scored([0.9, 0.8], replicates), ("x", "q"): scored([0.9, 0.8], b=4)}
    table = rankings.changes(given, ["a", "b"], "p").set_index("truth")
    assert table["best_same_frac"].tolist() == [0.75, 0.75] and table.loc["q", "best_same"] == 1
    assert table.loc["p, resampled", "loss"] == pytest.approx(0.1 / 4)


def test_how_many_more_pairs_a_truth_turns_than_others():
    same, turned, one = [0.9, 0.8, 0.7], [0.7, 0.8, 0.9], [0.8, 0.9, 0.7]
    given = {("x", name): scored(areas) for name, areas in (("p", same), ("q", turned), ("r", same), ("s", one))}
    given |= {("y", name): scored(same) for name in "pqrs"}
    found = rankings.turned_more(given, ["x"], "p", "q", ["r", "s"])
    assert found.estimate == found.low == found.high == pytest.approx(100 * (1 - 1 / 6))
    assert rankings.turned_more(given, ["x", "y"], "p", "q", ["r", "s"]).estimate == pytest.approx(250 / 6)
    assert rankings.turned_more(given, ["y"], "p", "q", ["r", "s"])[::3] == (0, 1)  # no difference, p = 1


# --- from labels and scores ---------------------------------------------------------------------------------------


@pytest.fixture
def test_set():
    rng = np.random.default_rng(3)
    images = pd.Index([f"i{k}" for k in range(300)])
    truth = pd.DataFrame({f: rng.random(300) < 0.3 for f in ("x", "y")}, index=images).astype(float)
    said = truth.where(rng.random(truth.shape) < 0.8, 1 - truth)
    scores = {}
    for finding in truth:
        good = truth[finding] + rng.normal(0, 0.7, 300)
        poor = truth[finding] + rng.normal(0, 3, 300)
        scores[finding] = pd.DataFrame({"good": good, "twin": good, "poor": poor})
    resamples = resampling.patient_resamples(images, 200, rng)
    return truth, said, scores, resamples


def test_score_gives_the_aucs_and_their_mean(test_set):
    truth, said, scores, resamples = test_set
    found = rankings.score({"panel": truth, "labeler": said}, scores, resamples)
    assert list(found) == [(f, t) for t in ("panel", "labeler") for f in ("x", "y", "mean")]
    one = found["y", "labeler"]
    assert one.areas[2] == accuracy.auc(said["y"], scores["y"]["poor"])
    assert one.replicates[:, 2] == pytest.approx(accuracy.auc(said["y"], scores["y"]["poor"], resamples))
    mean = found["mean", "panel"]
    assert mean.areas == pytest.approx((found["x", "panel"].areas + found["y", "panel"].areas) / 2)
    assert (mean.replicates[:, 0] == mean.replicates[:, 1]).all()
    table = rankings.table(found, list(scores["x"])).set_index(["finding", "truth", "model"])
    assert table.loc[("x", "panel", "good"), "rank"] == table.loc[("x", "panel", "twin"), "rank"] == 1.5
    assert table.loc[("mean", "panel", "poor"), "rank"] == 3 and (table["low"] < table["auc"]).all()


def test_score_refuses_another_order_of_images(test_set):
    truth, said, scores, resamples = test_set
    with pytest.raises(ValueError, match="'labeler' is not of the same images"):
        rankings.score({"panel": truth, "labeler": said[::-1]}, scores, resamples)


def test_points_lie_where_the_rates_say(test_set):
    truth, said, scores, resamples = test_set
    table = rankings.points(truth, {"perfect": truth, "labeler": said}, scores, resamples)
    table = table.set_index(["finding", "opinion"])
    perfect, labeler = table.loc[("x", "perfect")], table.loc[("x", "labeler")]
    assert (perfect["sensitivity"], perfect["specificity"], perfect["models_above_n"]) == (1, 1, 0)
    rates = accuracy.rates(truth["x"], said["x"])
    assert labeler["sensitivity"] == rates["sensitivity"] and labeler["specificity_low"] < rates["specificity"]
    assert labeler["models_n"] == 2, "models of the same scores count once"
    above = [
        accuracy.sensitivity_at_specificity(truth["x"], scores["x"][m], rates["specificity"]) > rates["sensitivity"]
        for m in ("good", "poor")
    ]
    assert labeler["models_above_n"] == sum(above)


def test_the_published_models_share_scores(label_tables):
    """What the catalogue's notes say, and why ties must be counted."""
    scores = chexpert.chexpert_test_models().pivot(index="image_id", columns=["finding", "model"], values="score")
    distinct = {finding: scores[finding].T.drop_duplicates().shape[0] for finding in scores.columns.levels[0]}
    assert distinct == {"atelectasis": 7, "cardiomegaly": 10, "consolidation": 7, "edema": 8, "effusion": 7}
