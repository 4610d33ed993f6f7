"""Scores from a CSV: rows are matched by image id, whatever their order, and every column is what it is called."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxrlib.statistics import accuracy, delong
from cxrlib.studies import scoring

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
