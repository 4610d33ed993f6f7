"""Simulated radiographs: fixed by their seed, and what the masks and boxes say is what was drawn."""

import multiprocessing
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from cxrlib.base import paths
from cxrlib.cohorts import simulation, sources
from cxrlib.labels import simulated_labels
from cxrlib.reports import simulated_reports
from cxrlib.statistics import noise

N, SEED = 400, 5
PNEUMOTHORAX = np.uint16(1 << simulation.DRAWN.index("pneumothorax"))


def admitted(name, n=N, seed=SEED):
    hospital = simulation.HOSPITALS[name]
    return simulation.admissions(hospital, n, np.random.default_rng(seed))


@pytest.fixture(scope="module", params=[64, 128])
def painted(request):
    """Images that show everything several times, at one size: rows, images, masks."""
    size_px = request.param
    table = admitted("internal")
    chosen = sorted({i for name in simulation.DRAWN for i in table.index[table[name] == 1][:5]})
    painter = simulation.Painter(simulation.HOSPITALS["internal"], size_px, SEED)
    rows = table.loc[chosen].to_dict("records")
    drawn = [painter.draw(row, i) for i, row in zip(chosen, rows, strict=True)]
    assert table.loc[chosen, list(simulation.DRAWN)].sum().min() >= 3
    return rows, np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn])


def seen(masks):
    """Which things have a mask, (n, len(DRAWN)) bool."""
    bits = masks[..., None] >> np.arange(len(simulation.DRAWN)) & 1
    return bits.any((1, 2)).astype(bool)


# --- who is imaged -----------------------------------------------------------------------------------------


def test_admissions_follow_from_the_seed():
    first, again, other = admitted("internal"), admitted("internal"), admitted("internal", seed=SEED + 1)
    assert first.equals(again) and not first.equals(other)
    assert first.iloc[:100].equals(admitted("internal", n=100))  # a longer cohort begins with the shorter one


@pytest.mark.parametrize("name", simulation.HOSPITALS)
def test_admissions(name):
    table = admitted(name)
    assert len(table) == N and table["image_id"].is_unique and table["patient_id"].nunique() > N / 6
    for _, course in table.groupby("patient_id"):
        assert course["follow_up_number"].tolist() == list(range(len(course)))
        assert course["sex"].nunique() == course["age"].nunique() == 1
    assert set(table["view"]) == {"PA", "AP"} and set(table["sex"]) == {"F", "M"}
    assert not (table["supine"] & (table["view"] == "PA")).any()
    for finding in simulation.SIMULATED_FINDINGS:
        present = table[finding] == 1
        for extent in (table[f"{finding}_size"], table[f"{finding}_conspicuity"]):
            assert (extent[present] > 0).all() and (extent <= 1).all() and (extent[~present] == 0).all()


def test_hospitals_differ_as_they_say():
    internal, external = (admitted(name, 3000) for name in ("internal", "external"))
    for table, name in ((internal, "internal"), (external, "external")):
        assert (table["view"] == "AP").mean() == pytest.approx(simulation.HOSPITALS[name].ap_frac, abs=0.06)
    assert (external["view"] == "AP").mean() > (internal["view"] == "AP").mean() + 0.2
    for finding in ("cardiomegaly", "airspace_opacity", "edema"):
        assert external[finding].mean() > internal[finding].mean() + 0.02
    assert external.groupby("patient_id").size().mean() < internal.groupby("patient_id").size().mean() - 0.5


def test_drains_go_with_pneumothorax_and_outlast_it():
    table = admitted("internal", 3000)
    drained = table[table["chest_drain"] == 1]
    ever = table.groupby("patient_id")["pneumothorax"].transform("max") == 1
    assert ever[drained.index].mean() > 0.7  # of drains, most lie in patients who have or had one
    with_one, without = (table.loc[table["pneumothorax"] == k, "chest_drain"].mean() for k in (1, 0))
    assert with_one > 0.45 and without < 0.15
    lung_up = drained[(drained["pneumothorax"] == 0) & ever[drained.index]]
    assert len(lung_up) > 20
    assert (drained["chest_drain_side"] == drained["pneumothorax_side"]).all()
    external = admitted("external", 3000)
    assert external.loc[external["pneumothorax"] == 1, "chest_drain"].mean() < with_one - 0.15


# --- what is drawn -----------------------------------------------------------------------------------------


def draw(task):
    painter, row, i = task
    return painter.draw(row, i)


def test_an_image_is_fixed_by_seed_and_row_alone():
    """Not by which process draws it, nor by what was drawn before."""
    rows = admitted("external", 12).to_dict("records")
    painter = simulation.Painter(simulation.HOSPITALS["external"], 64, SEED)
    forward = [painter.draw(row, i) for i, row in enumerate(rows)]
    backward = [painter.draw(rows[i], i) for i in reversed(range(12))][::-1]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        elsewhere = pool.map_async(draw, [(painter, row, i) for i, row in enumerate(rows)], 1).get(60)
    for other in (backward, elsewhere):
        for (image, masks), (image_too, masks_too) in zip(forward, other, strict=True):
            assert np.array_equal(image, image_too) and np.array_equal(masks, masks_too)
    assert not np.array_equal(forward[0][0], painter.draw(rows[0], 1)[0])
    other_seed = simulation.Painter(simulation.HOSPITALS["external"], 64, SEED + 1)
    assert not np.array_equal(forward[0][0], other_seed.draw(rows[0], 0)[0])


def test_a_row_of_a_source_is_that_image():
    source = sources.simulated(size_px=64, hospital="internal", images_n=N, seed=SEED)
    image, masks = simulation.Painter(simulation.HOSPITALS["internal"], 64, SEED).draw(
        admitted("internal").to_dict("records")[7], 7
    )
    read = source.read(7)
    assert np.array_equal(read.square, image) and np.array_equal(read.masks, masks)


def test_images_look_like_something(painted):
    _, images, masks = painted
    size_px = images.shape[1]
    assert images.shape == (len(images), size_px, size_px) == masks.shape
    assert images.dtype == np.uint8 and masks.dtype == np.uint16
    assert (images.reshape(len(images), -1).std(1) > 20).all()
    spine, lung = images[:, size_px // 2, size_px // 2 - 2 : size_px // 2 + 2], images[:, size_px // 3, size_px // 4]
    assert (spine.mean(1) > lung).mean() > 0.9  # bone white


def test_masks_show_what_the_row_says(painted):
    """Nothing that is not in the row, and nearly everything that is; the rest is too small to be seen."""
    rows, _, masks = painted
    said = np.array([[row[name] for name in simulation.DRAWN] for row in rows], bool)
    shown = seen(masks)
    assert not (shown & ~said).any()
    assert shown[said].mean() > 0.9
    small = {"pneumothorax", "atelectasis", "airspace_opacity", "effusion"}
    for k, name in enumerate(simulation.DRAWN):
        assert name in small or shown[said[:, k], k].all(), name


def test_findings_leave_the_rest_of_the_image_alone(painted):
    """Without its pneumothorax, an image differs inside one half of the thorax only."""
    rows, images, masks = painted
    size_px = images.shape[1]
    table = admitted("internal")
    numbers = {row: i for i, row in enumerate(table["image_id"])}
    painter = simulation.Painter(simulation.HOSPITALS["internal"], size_px, SEED)
    tried = 0
    for row, image, mask in zip(rows, images, masks, strict=True):
        if not row["pneumothorax"] or not (mask & PNEUMOTHORAX).any():
            continue
        tried += 1
        healthy, mask_too = painter.draw({**row, "pneumothorax": 0}, numbers[row["image_id"]])
        assert not (mask_too & PNEUMOTHORAX).any() and np.array_equal(mask_too, mask & ~PNEUMOTHORAX)
        changed = np.nonzero(np.abs(image.astype(int) - healthy) > 2)[1]
        same_half = changed > size_px / 2 if row["pneumothorax_side"] else changed < size_px / 2
        assert same_half.mean() > 0.95
    assert tried >= 3


@pytest.mark.parametrize("size_px", [64, 128])
def test_a_pneumothorax_lies_inside_one_lung_at_the_top_or_supine_at_the_base(size_px, monkeypatch):
    lungs = []  # as sampled while painting: the first two, image-left and image-right

    def spy(*arguments, sample=ndimage.map_coordinates, **keywords):
        lungs.append(sample(*arguments, **keywords))
        return lungs[-1]

    monkeypatch.setattr(simulation.ndimage, "map_coordinates", spy)
    table = admitted("internal")
    painter = simulation.Painter(simulation.HOSPITALS["internal"], size_px, SEED)
    heights = {False: [], True: []}
    for i in table.index[(table["pneumothorax"] == 1) & (table["pneumothorax_size"] > 0.15)][:12]:
        for supine in heights:
            lungs.clear()
            row = {**table.loc[i], "view": "AP", "supine": supine}
            _, mask = painter.draw(row, i)
            there = (mask & PNEUMOTHORAX) > 0
            lung = lungs[row["pneumothorax_side"]] > 0.5
            assert there.any() and lung[there].all()
            assert there.sum() < 0.8 * lung.sum()
            heights[supine].append(np.nonzero(there)[0].mean() / size_px)
    upright, supine = np.array(heights[False]), np.array(heights[True])
    assert len(upright) == 12 and (upright < supine).all()


def test_boxes_hold_the_masks_exactly(painted):
    rows, images, masks = painted
    size_px = images.shape[1]
    for row, mask in zip(rows, masks, strict=True):
        boxes = simulation.boxes(mask, row)
        assert [b["finding"] for b in boxes] == [name for name in simulation.DRAWN if row[name]]
        for box in boxes:
            bit = (mask >> simulation.DRAWN.index(box["finding"])) & 1
            assert box["area_frac"] == bit.mean()
            sides = [box[k] for k in ("x0_px", "y0_px", "x1_px", "y1_px")]
            if not bit.any():
                assert np.isnan(sides).all()
                continue
            x0, y0, x1, y1 = map(int, sides)
            assert 0 <= x0 < x1 <= size_px and 0 <= y0 < y1 <= size_px
            assert bit[y0:y1, x0:x1].sum() == bit.sum()
            for edge in (bit[y0, x0:x1], bit[y1 - 1, x0:x1], bit[y0:y1, x0], bit[y0:y1, x1 - 1]):
                assert edge.any()


def test_the_same_patient_at_two_sizes():
    """A larger image shows the same, only finer: sizes can be compared."""
    rows = admitted("internal", 30).to_dict("records")
    small, large = (simulation.Painter(simulation.HOSPITALS["internal"], size, SEED) for size in (64, 128))
    alike = []
    for i, row in enumerate(rows):
        if any(row[name] for name in ("airspace_opacity", "nodule", "mass")):  # these draw per pixel
            continue
        coarse = large.draw(row, i)[0].reshape(64, 2, 64, 2).mean((1, 3))
        alike.append(np.corrcoef(coarse.ravel(), small.draw(row, i)[0].ravel())[0, 1])
    assert len(alike) > 10 and min(alike) > 0.93


def test_lung_shapes_are_a_left_and_a_right_lung():
    shapes = simulation.lung_shapes()
    assert len(shapes) > 300 and shapes.shape[1:] == (2, 96, 96)
    assert shapes.min() == 0 and shapes.max() == 1
    centre = (shapes * np.arange(96)).sum((2, 3)) / shapes.sum((2, 3))
    assert (centre[:, 0] < 48).all() and (centre[:, 1] > 48).all()
    assert np.minimum(shapes[:, 0], shapes[:, 1]).max() < 0.75  # they do not lie on each other


# --- what simulated reports and their labels miss ------------------------------------------------------------


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Return a store and its truth: one image a patient, so that only conspicuity and drains decide within a rate."""
    rng = np.random.default_rng(4)
    table = simulation.admissions(simulation.HOSPITALS["internal"], 6000, rng)
    table["patient_id"] = [f"p{k}" for k in range(len(table))]
    findings = sorted({*simulated_reports.REPORTED_FINDINGS, *simulated_labels.NOISE_MEASURED_AS})
    truth = table[["image_id"]].assign(**{f: (rng.random(len(table)) < 0.5).astype("float32") for f in findings})
    table = table.assign(**{f"{f}_conspicuity": rng.random(len(table)) for f in findings})
    table["chest_drain"] = rng.integers(0, 2, len(table))
    rows = [
        {"finding": finding, "stratum": stratum, "tp": 60, "fp": 10, "fn": 40, "tn": 90}
        for finding in ("pneumothorax", "airspace_opacity", "nodule_or_mass")
        for stratum in noise.STRATA
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "noise.csv", index=False)
    monkeypatch.setattr(paths, "label_noise_path", lambda: tmp_path / "noise.csv")
    return SimpleNamespace(index=table, labels=truth), truth


def leaning(store, truth, said, finding):
    """Return by how much more often faint findings are missed, and drained images called falsely."""
    present = (truth[finding] == 1).to_numpy()
    plain = store.index[f"{finding}_conspicuity"].to_numpy() > 0.5
    drained = store.index["chest_drain"].to_numpy() == 1
    said = said[finding].to_numpy()
    missed = [(said == 0)[present & chosen].mean() for chosen in (~plain, plain)]
    called = [(said == 1)[~present & chosen].mean() for chosen in (drained, ~drained)]
    return missed[0] - missed[1], called[0] - called[1]


def check_leaning(store, truth, said, findings):
    for finding in findings:
        faint, drain = leaning(store, truth, said, finding)
        assert faint > 0.2, f"faint {finding} is missed more often"
        assert drain > 0.05 if finding == "pneumothorax" else abs(drain) < 0.04, finding


def test_simulated_report_labels_miss_what_is_faint_and_call_drains_pneumothorax(alone):
    store, truth = alone
    table, card = simulated_labels.simulated_reports(store, "drawn", 1.0, 2.0, 3.0, 1, {"drawn": truth})
    check_leaning(store, truth, table, simulated_labels.NOISE_MEASURED_AS)
    assert "misses lean to faint findings by 3 and false pneumothoraces to chest drains by 2" in card["how"]
    table, _ = simulated_labels.simulated_reports(store, "drawn", 1.0, 0.0, 0.0, 1, {"drawn": truth})
    for finding in simulated_labels.NOISE_MEASURED_AS:
        assert np.abs(leaning(store, truth, table, finding)).max() < 0.06, "without log-odds nothing leans"


def test_simulated_report_texts_miss_what_is_faint_and_call_drains_pneumothorax(alone):
    store, truth = alone
    shuffled = truth.sample(frac=1, random_state=0)  # the reference's own order does not matter
    _, said = simulated_labels.simulated_report_texts(store, shuffled, 1, drain_log_odds=2.0, faint_log_odds=3.0)
    check_leaning(store, truth, said, simulated_reports.REPORTED_FINDINGS)
    _, said = simulated_labels.simulated_report_texts(store, truth, 1, drain_log_odds=0.0, faint_log_odds=0.0)
    for finding in simulated_reports.REPORTED_FINDINGS:
        assert np.abs(leaning(store, truth, said, finding)).max() < 0.06, "without log-odds nothing leans"
