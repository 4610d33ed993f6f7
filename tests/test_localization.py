"""Maps scored against boxes and masks: small cases by hand, chance levels, and what was published."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrlib.cohorts import simulation
from cxrlib.cohorts.store import Store
from cxrlib.networks import localization, map_scores, trained_runs
from cxrlib.releases import nih

RNG = np.random.default_rng(7)
SCORES = ("pointing", "energy", "iou", "iobb")


def blob(shape, y, x, spread=2.0):
    yy, xx = np.indices(shape) + 0.5
    return np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / spread**2)


# --- regions ------------------------------------------------------------------------------------------------


def test_coverage_of_partial_pixels_is_exact():
    share = localization.coverage((0.5, 1.25, 2.25, 2.0), (3, 4))
    np.testing.assert_allclose(share, [[0, 0, 0, 0], [0.375, 0.75, 0.1875, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("shape", [(64, 64), (31, 47), (7, 1)])
def test_coverage_adds_up_to_the_area(shape):
    for _ in range(20):
        x0, y0 = RNG.uniform(0, shape[1] - 0.5), RNG.uniform(0, shape[0] - 0.5)
        x1, y1 = RNG.uniform(x0 + 0.1, shape[1]), RNG.uniform(y0 + 0.1, shape[0])
        assert localization.coverage((x0, y0, x1, y1), shape).sum() == pytest.approx((x1 - x0) * (y1 - y0))


def test_what_lies_outside_the_map_is_cut_off():
    np.testing.assert_array_equal(
        localization.coverage((-5, -5, 2, 1), (3, 4)), localization.coverage((0, 0, 2, 1), (3, 4))
    )


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ((3, 3, 3, 9), "no area"),
        ((9, 9, 4, 20), "x, y, width, height"),
        ((np.nan, 0, 1, 1), "not numbers"),
        ((0, 0, 5), "not four numbers"),
        ((0, 0, 5, 5, 5), "not four numbers"),
        (("a", 0, 5, 5), "not four numbers"),
        (7, "not four numbers"),
        ((40, 0, 50, 9), "outside the map of 30 x 20 px"),
    ],
)
def test_boxes_that_are_none(box, says):
    for function in (
        lambda: localization.coverage(box, (20, 30)),
        lambda: localization.score(np.ones((20, 30)), box),
    ):
        with pytest.raises(ValueError, match=says):
            function()


def test_a_box_smaller_than_half_a_pixel_still_has_a_region():
    assert np.argwhere(localization.region((2.1, 1.1, 2.4, 1.3), (4, 5))).tolist() == [[1, 2]]
    assert localization.region((0, 0, 2.5, 1), (3, 4)).sum() == 2  # half a pixel is not more than half


# --- scores -------------------------------------------------------------------------------------------------


def test_pointing():
    map_ = np.zeros((3, 4))
    inside = np.zeros((3, 4), bool)
    inside[1, 1:3] = True
    assert localization.pointing(map_, inside) == pytest.approx(2 / 12)  # it points nowhere
    map_[1, 2] = 0.3
    assert localization.pointing(map_, inside) == 1
    map_[0, 0] = 0.3
    assert localization.pointing(map_, inside) == 0.5
    map_[0, 0] = 0.3 * (1 + 5e-7)  # rounding
    assert localization.pointing(map_, inside) == 0.5
    assert np.argwhere(localization.highest(map_)).tolist() == [[0, 0], [1, 2]]
    map_[0, 0] = 0.3 * (1 + 2e-6)
    assert localization.pointing(map_, inside) == 0


def test_energy():
    map_ = np.array([[1.0, 0, 0], [0, 2, 1]])
    assert localization.energy(map_, np.array([[0, 0, 0], [0, 1, 1]], bool)) == 0.75
    assert localization.energy(map_, localization.coverage((1.5, 1, 3, 2), (2, 3))) == pytest.approx(
        (0.5 * 2 + 1) / 4
    )
    assert localization.energy(np.zeros((2, 3)), np.array([[1, 0, 0], [0, 0, 0]], bool)) == pytest.approx(1 / 6)


def test_proposals_box_the_isolated_regions_of_each_threshold():
    map_ = np.zeros((6, 8))
    map_[0:2, 1:4] = 100 / 255
    map_[1, 2] = 200 / 255
    map_[4, 6], map_[5, 7] = 1, 61 / 255  # touch by a corner: one region at 60, one pixel at 180
    assert sorted(map(tuple, localization.proposals(map_))) == [
        (1, 0, 4, 2),
        (2, 1, 3, 2),
        (6, 4, 7, 5),
        (6, 4, 8, 6),
    ]
    assert localization.proposals(np.zeros((6, 8))).shape == (0, 4)


def test_best_overlap():
    proposed = [(0, 0, 4, 4), (1, 1, 2, 2), (10, 10, 12, 12)]
    iou, iobb = localization.best_overlap(proposed, (0, 0, 2, 4))
    assert (iou, iobb) == (0.5, 1.0)  # the large one is best by IoU, the small one by IoBB
    assert localization.best_overlap(proposed, (5, 5, 6, 6)) == (0, 0)
    assert localization.best_overlap(np.zeros((0, 4)), (0, 0, 1, 1)) == (0, 0)


@pytest.mark.parametrize("shape", [(64, 64), (33, 50), (9, 7)])
def test_a_map_times_a_number_gets_the_same_scores(shape):
    map_ = RNG.random(shape) * blob(shape, shape[0] / 3, shape[1] / 2, 4)
    box = (shape[1] / 4, 1.3, shape[1] / 2 + 2.2, shape[0] / 2)
    for factor in (1e-6, 1 / 3, 255):
        assert localization.score(factor * map_, box) == pytest.approx(localization.score(map_, box))


def test_a_box_over_the_whole_image():
    map_ = blob((33, 21), 8, 6)
    found = localization.score(map_, (-3, -3, 21, 40))
    assert found["pointing"] == 1 and found["energy"] == pytest.approx(1) and found["iobb"] == 1


def test_a_perfect_map():
    box = (5, 8, 20, 30)
    perfect = localization.coverage(box, (64, 64))
    assert localization.score(perfect, box) == pytest.approx(dict.fromkeys(SCORES, 1))
    assert localization.score(perfect, mask=perfect > 0) == pytest.approx(dict.fromkeys(SCORES, 1))
    assert localization.score(perfect, (40, 40, 50, 50)) == dict.fromkeys(SCORES, 0)


def test_a_mask_is_not_its_box():
    mask = np.eye(10, dtype=bool)
    found = localization.score(np.ones((10, 10)), mask=mask)
    assert found == pytest.approx({"pointing": 0.1, "energy": 0.1, "iou": 1, "iobb": 1})


def test_score_needs_one_target_that_fits():
    map_ = np.ones((8, 8))
    for wrong in ({}, {"box": (0, 0, 1, 1), "mask": map_ > 0}):
        with pytest.raises(ValueError, match="either a box or a mask"):
            localization.score(map_, **wrong)
    with pytest.raises(ValueError, match="mask is empty"):
        localization.score(map_, mask=map_ > 1)
    with pytest.raises(ValueError, match="shape"):
        localization.score(map_, mask=np.ones((9, 8), bool))
    with pytest.raises(ValueError, match="0 or more"):
        localization.score(-map_, (0, 0, 2, 2))


# --- chance -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (65, 65), (20, 33)])
def test_centre_map_points_at_the_middle(shape):
    map_ = localization.centre_map(shape)
    assert map_.dtype == np.float32 and map_.max() == 1
    middle = (shape[1] / 2 - 1, shape[0] / 2 - 1, shape[1] / 2 + 1, shape[0] / 2 + 1)
    assert localization.score(map_, middle)["pointing"] == 1
    np.testing.assert_allclose(map_, map_[::-1, ::-1], atol=1e-7)


def boxes_of(*rows):
    return pd.DataFrame(rows, columns=["patient_id", "finding", *localization.BOX])


def test_mean_box_map_leaves_the_own_patient_out():
    table = boxes_of(
        ("a", "mass", 0, 0, 4, 4),
        ("a", "mass", 4, 4, 8, 8),
        ("b", "mass", 6, 0, 8, 2),
        ("c", "mass", 6, 0, 8, 1),
        ("a", "nodule", 1, 1, 2, 2),
        ("b", "nodule", 5, 5, 7.5, 7),
        ("d", "effusion", 0, 0, 1, 1),
    )
    found = localization.mean_box_map(table, (8, 8))
    assert found.shape == (7, 8, 8) and found.dtype == np.float32
    expected = localization.coverage((6, 0, 8, 2), (8, 8)) + localization.coverage((6, 0, 8, 1), (8, 8))
    np.testing.assert_allclose(found[0], expected / 2)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[4], localization.coverage((5, 5, 7.5, 7), (8, 8)))
    assert (found[6] == 1).all()  # nobody else has one


def test_mean_box_map_is_the_mean_of_coverages():
    corners = RNG.uniform(0, 20, (12, 2))
    table = boxes_of(*((f"p{k // 2}", "mass", *c, *(c + RNG.uniform(1, 9, 2))) for k, c in enumerate(corners)))
    found = localization.mean_box_map(table, (32, 32))
    for k in (0, 5):
        others = table[table["patient_id"] != table["patient_id"][k]]
        mean = np.mean([localization.coverage(box, (32, 32)) for box in others[localization.BOX].to_numpy()], 0)
        np.testing.assert_allclose(found[k], mean / mean.max(), atol=1e-6)


def test_mean_box_map_names_the_row_of_a_bad_box():
    with pytest.raises(ValueError, match=r"Row 1 of the boxes: Box .* not numbers"):
        localization.mean_box_map(boxes_of(("a", "mass", 0, 0, 1, 1), ("b", "mass", *(np.nan,) * 4)), (8, 8))


@pytest.mark.parametrize("size_px", [64, 101])
def test_lung_map_has_two_lungs(size_px):
    map_ = localization.lung_map((size_px, size_px))
    assert map_.max() == 1 and map_.min() == 0
    row = map_[int(0.45 * size_px)]
    half = size_px // 2
    assert row[half] < 0.5 * min(row[:half].max(), row[half:].max())
    assert map_[: int(0.1 * size_px)].max() == 0 and map_[int(0.8 * size_px) :].max() == 0


# --- published ----------------------------------------------------------------------------------------------

BOXES_N = {
    "atelectasis": 180,
    "cardiomegaly": 146,
    "effusion": 153,
    "infiltration": 123,
    "mass": 85,
    "nodule": 79,
    "pneumonia": 120,
    "pneumothorax": 98,
}


def test_published_accuracies_are_whole_boxes_of_those_released():
    """984 boxes: each accuracy must be a number of them over all of its finding, cut off after four digits."""
    table = localization.PUBLISHED
    assert len(table) == 8 * (len(localization.IOBB_THRESHOLDS) + len(localization.IOU_THRESHOLDS))
    for row in table.itertuples():
        boxes_n = BOXES_N[row.finding]
        hits = np.ceil(row.accuracy * boxes_n - 1e-9)
        assert np.floor(1e4 * hits / boxes_n + 1e-6) == round(1e4 * row.accuracy), row
    falling = table.sort_values("threshold").groupby(["measure", "finding"])["accuracy"]
    assert (falling.diff().dropna() <= 0).all()


def test_published_boxes_are_those_of_the_release():

    assert nih.read_nih_boxes()["finding"].value_counts().to_dict() == BOXES_N


# --- the maps of trained networks ---------------------------------------------------------------------------


def small_store(masks):
    """Two images of 8 x 8 pixels: `a` has an effusion above and a mass below, `b` an effusion that nobody located."""
    places = {"effusion": (0, 0, 8, 3), "mass": (2, 5, 4, 7)}
    boxes = [
        {"image_id": "a", "finding": f, **dict(zip(localization.BOX, b, strict=True))} for f, b in places.items()
    ]
    boxes.append({"image_id": "b", "finding": "effusion", **dict.fromkeys(localization.BOX, np.nan)})
    drawn = np.zeros((2, 8, 8), np.uint16)
    for finding, (x0, y0, x1, y1) in places.items():
        drawn[0, y0:y1, x0:x1] |= np.uint16(1 << simulation.DRAWN.index(finding))
    index = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["p", "q"]})
    images = np.zeros((2, 8, 8), np.uint8)
    return Store("small", index, images, pd.DataFrame(boxes), drawn if masks else None, pd.DataFrame())


def run_of(*findings):
    return trained_runs.Run(None, findings, 8, Path())


@pytest.mark.parametrize("masks", [True, False])
def test_maps_are_scored_against_their_own_finding_and_those_of_any_finding_against_all_together(masks):
    store = small_store(masks)
    of_mass = map_scores.targets_of(run_of("mass", "nodule"), store, ["a", "b"], 5, 1)
    assert of_mass[["image_id", "patient_id", "finding"]].to_numpy().tolist() == [["a", "p", "mass"]]
    assert map_scores.targets_of(run_of("mass"), store, ["b"], 5, 1).empty
    runs = {"one": run_of("mass", "nodule"), "any": run_of("abnormal")}
    targets = {name: map_scores.targets_of(run, store, ["a", "b"], 5, 1) for name, run in runs.items()}
    assert list(targets["any"]["finding"]) == ["effusion", "mass"] and list(targets["any"].index) == [0, 1]
    low = blob((8, 8), 6, 3, 0.5)
    maps = {(name, method): (t, [low] * len(t)) for name, t in targets.items() for method in ("cam", "mean box")}
    got = map_scores.score_maps(maps, runs, store).set_index(["network", "method", "finding"])["pointing"]
    assert got["one", "cam", "mass"] == got["any", "cam", "mass"] == got["any", "cam", "any"] == 1
    assert got["any", "cam", "effusion"] == 0 and ("one", "cam", "any") not in got.index
    assert (map_scores.image_under_map(store, "a") is None) == (not masks)


@pytest.mark.parametrize("masks", [True, False])
def test_a_pixel_at_random_hits_as_often_as_the_finding_covers_of_the_image(masks):
    store = small_store(masks)
    targets = {"one": map_scores.targets_of(run_of("mass"), store, ["a", "b"], 5, 1)}
    study = {"methods": [], "gradient_free_images_n": 1}
    maps = map_scores.draw_maps({"one": run_of("mass")}, store, targets, study, 1)
    got = map_scores.score_maps(maps, {"one": run_of("mass")}, store).set_index("method")
    if masks:
        area = ((store.masks[store.rows(["a"])[0]] >> simulation.DRAWN.index("mass")) & 1).mean()
    else:
        x0, y0, x1, y1 = targets["one"].loc[0, localization.BOX].astype(float)
        area = (x1 - x0) * (y1 - y0) / store.images[0].size
    assert got.at["chance", "pointing"] == got.at["chance", "energy"] == pytest.approx(area)


def test_how_often_a_pixel_at_random_hits_nihs_boxes(cxr_data):
    """What docs/maps.md says of the boxes on the images of `nih_mini`, and of two findings among all 984."""
    boxes = nih.read_nih_boxes()
    area = (boxes["x1_frac"] - boxes["x0_frac"]) * (boxes["y1_frac"] - boxes["y0_frac"])
    here = boxes["image_id"].isin([path.name for path in (cxr_data / "nih" / "images").iterdir()])
    assert here.sum() == 826 and round(area[here].mean(), 3) == 0.075
    by_finding = area.groupby(boxes["finding"]).mean()
    assert round(by_finding["cardiomegaly"], 2) == 0.18 and round(by_finding["nodule"], 3) == 0.005


def test_without_networks_the_table_of_drains_is_empty_and_has_its_columns():
    table = map_scores.score_drains({}, small_store(False), ["a"], {}, 1)
    assert table.empty and {"target", "seed", "at", "energy", "area_frac"} <= set(table)
