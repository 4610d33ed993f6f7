"""The matched study on fakes: what knows the source alone scores nothing, what knows the image does by its label."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cxrlib.networks import frozen_features, nested_heads
from cxrlib.releases import catalogue
from cxrlib.statistics import resampling, stratified, weighting
from cxrlib.studies import matched, matched_images, matched_maps

LABELS = {"reports": 0, "radiologists": 1}


def fake(rng, patients_n=150, signal=2.0):
    """Return a study of two images a patient: a true feature for each side, and a source that both labels follow."""
    patient = np.repeat(np.arange(patients_n), 2)
    n = len(patient)
    source = rng.integers(0, 2, patients_n)[patient]
    truth = rng.normal(size=(n, 2))
    labels = {
        ("f", side): (signal * truth[:, k] + 2 * source - 1 + rng.normal(size=n) > 0) * 1.0
        for side, k in LABELS.items()
    }
    features = np.c_[truth, source, rng.normal(size=(n, 5))]
    holder = matched.squared(pd.DataFrame({"source": source}))
    images = pd.DataFrame({"patient_id": patient, "stratum": np.where(source == 1, "a", "b")})
    images["finer"] = images["stratum"] + (patient % 2).astype(str)
    return matched.Study(images, labels, {matched.NETWORK: features, "holder": holder})


@pytest.fixture(scope="module")
def studied():
    rng = np.random.default_rng(1)
    study = fake(rng)
    scores, folds, heads = matched.learn(study, [1, 2], 10)
    resamples = resampling.patient_resamples(study.images["patient_id"], 100, rng)
    return study, scores, folds, heads, matched.areas(study, scores, folds, resamples), resamples


def test_folds_keep_patients_together_and_use_all():
    patient = np.repeat(np.arange(23), 3)
    folds = weighting.patient_folds(patient, np.random.default_rng(0))
    assert pd.Series(folds).groupby(patient).nunique().eq(1).all() and set(folds) == set(range(5))
    with pytest.raises(ValueError, match="3 patients cannot be in 5 folds"):
        weighting.patient_folds([1, 2, 3], np.random.default_rng(0))


def test_reduced_features_are_principal_components_of_the_training_rows():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    features[:, 5] = 1.0  # a constant column is left out
    fold = nested_heads.reduced(features, np.arange(30), np.arange(30, 40))
    covariance = fold.x_train.T @ fold.x_train
    assert covariance == pytest.approx(np.diag(np.diag(covariance)), abs=1e-8) and fold.x_train.shape == (30, 5)
    standard = (features[:30, :5] - features[:30, :5].mean(0)) / features[:30, :5].std(0) / np.sqrt(5)
    assert fold.x_train @ fold.x_train.T == pytest.approx(standard @ standard.T, abs=1e-8)
    assert fold.x_test == pytest.approx((features[30:] - features[:30].mean(0)) @ fold.basis, abs=1e-8)


def test_heads_score_by_the_head_of_their_fold_and_never_see_the_tested_label():
    rng = np.random.default_rng(4)
    features, patient = rng.normal(size=(120, 4)), np.repeat(np.arange(60), 2)
    label = (features[:, 0] + rng.normal(size=120) > 0) * 1.0
    partition = nested_heads.partitioned(features, patient, 1)
    scores, heads = nested_heads.out_of_fold(partition, label, lambda rows: np.ones(len(rows)))
    for k, fold in enumerate(partition.outer):
        assert not set(patient[fold.train]) & set(patient[fold.test])
        inside = features[fold.test] @ heads[k]
        assert scores[fold.test] - inside == pytest.approx(np.full(len(inside), scores[fold.test][0] - inside[0]))
    test = partition.outer[0].test
    altered = label.copy()
    altered[test] = 1 - altered[test]
    again, _ = nested_heads.out_of_fold(partition, altered, lambda rows: np.ones(len(rows)))
    assert again[test] == pytest.approx(scores[test])
    with pytest.raises(ValueError, match="one class only"):
        nested_heads.out_of_fold(partition, np.ones(120), lambda rows: np.ones(len(rows)))


def test_a_head_is_sklearns_on_the_same_images():
    rng = np.random.default_rng(5)
    features, label = rng.normal(size=(80, 3)), rng.integers(0, 2, 80) * 1.0
    fold = nested_heads.reduced(features, np.arange(60), np.arange(60, 80))
    weights = np.r_[np.zeros(10), np.full(50, 3.0)]
    head = nested_heads._fitted(fold, label, weights, 0.3)
    same = LogisticRegression(C=0.3, tol=1e-9).fit(fold.x_train[10:], label[10:60])
    assert head.coef_ == pytest.approx(same.coef_, abs=1e-3)


def test_the_source_scores_over_all_pairs_and_nothing_within_it(studied):
    *_, found, _ = studied
    table = matched.table(found).set_index(list(matched.CELL))["estimate"]
    assert table["f", "holder", "unweighted", "reports", "reports", "all pairs"] > 0.65
    for training in matched.TRAININGS:
        assert table["f", "holder", training, "reports", "reports", "same source"] == 0.5
        assert table["f", matched.NETWORK, training, "reports", "reports", "same source"] > 0.85


def test_the_network_gains_by_its_own_label_and_the_controls_do_not(studied):
    *_, found, _ = studied
    gains = matched.crossing(found).query("training == 'weighted' and pairs == 'same source'")
    both = gains[gains["scored_by"] == "both"].set_index("predictor")
    assert both.loc[matched.NETWORK, "low"] > 0.1 and both.loc["holder", "estimate"] == 0
    sides = gains[gains["predictor"] == matched.NETWORK].set_index("scored_by")["estimate"]
    assert sides["both"] == pytest.approx((sides["reports"] + sides["radiologists"]) / 2)


def test_shuffled_labels_score_half_over_many_studies():
    """Within folds; over all images at once the intercepts of heads would pull it below."""
    rng, means = np.random.default_rng(7), []
    for _ in range(12):
        study = fake(rng, 40)
        scores, folds, _ = matched.learn(study, [1], 10)
        key = "f", matched.SHUFFLED_LABELS, "unweighted", "reports"
        means += [stratified.auc_within(study.labels["f", "reports"], s, folds[0]) for s in scores[key]]
    assert np.mean(means) == pytest.approx(0.5, abs=3 * np.std(means) / np.sqrt(len(means)))


def test_the_conclusion_follows_from_the_numbers(studied):
    *_, found, _ = studied
    tables = matched.table(found), matched.over_controls(found), matched.crossing(found)
    assert "exceeds every control, and gains" in matched.conclusion("f", *tables)
    worse = tables[1].assign(p_holm=1.0)
    said = matched.conclusion("f", tables[0], worse, tables[2])
    assert said.startswith("For the finding f these images can show nothing about labels: by reports the network")
    assert "does not significantly exceed holder" in said
    null = tables[0].assign(p_null_holm=0.01)
    assert "shuffled labels do not score 0.5" in matched.conclusion("f", null, *tables[1:])
    alike = tables[2].assign(estimate=0.1)
    assert "the gain of holder, 0.100, is not smaller" in matched.conclusion("f", *tables[:2], alike)
    unsure = tables[2].assign(p_holm=0.3)
    assert "has p = 0.300 after Holm's correction" in matched.conclusion("f", *tables[:2], unsure)


def test_tables_say_what_matching_leaves_and_what_reports_are_worth(studied):
    study, *_, found, resamples = studied
    left = matched.weighing(study, 10).set_index("side").loc["reports"]
    assert left["imbalance_before"] > 0.3 and left["imbalance_after"] < 1e-9
    assert left["effective_positives"] <= left["positives_n"] and left["weighted_n"] == len(study.images)
    readers = matched.reports_as_readers(study, resamples).set_index("measure")
    reports, truth = (study.labels["f", side] for side in matched.SIDES)
    assert readers.loc["sensitivity", "estimate"] == pytest.approx(reports[truth == 1].mean())
    assert readers.loc["AUC, all pairs", "estimate"] > readers.loc["AUC, same source", "estimate"]
    head = matched.headline(matched.table(found))
    assert list(head.index.names) == ["finding", "predictor"] and head.shape == (3, 4)


def test_missing_values_are_columns_and_squares_are_there():
    table = matched.squared(pd.DataFrame({"age": [1.0, 2.0, np.nan, 4.0]}))
    assert table.shape == (4, 5) and np.isfinite(table).all()  # age, no age, and three products
    both = matched.with_all({"a": pd.DataFrame({"x": [1.0, 2.0]}), "b": pd.DataFrame({"x": [0.0, 1.0]})})
    assert list(both) == ["a", "b", matched.ALL_CONTROLS] and both[matched.ALL_CONTROLS].shape == (2, 5)
    assert matched.width_class([2500, 2048, 2992]).tolist() == ["2,500 px", "below", "above"]


def test_frozen_maps_pool_to_features_and_are_kept_by_content(tmp_path, monkeypatch):
    monkeypatch.setattr(frozen_features.paths, "ROOT", tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    maps = frozen_features.frozen_maps(images)
    assert maps.shape == (3, 2, 2, 1280)
    monkeypatch.setattr(frozen_features, "computed_maps", None)  # a second call computes nothing
    assert np.array_equal(frozen_features.frozen_maps(images), maps)


@pytest.mark.parametrize("damage", ["bit", "cut", "checksum", "no checksum", "no text"])
def test_frozen_maps_that_are_not_as_they_were_kept_are_computed_anew_with_a_word(
    tmp_path, monkeypatch, capfd, damage
):
    monkeypatch.setattr(frozen_features.paths, "ROOT", tmp_path)
    computed = []
    monkeypatch.setattr(
        frozen_features, "computed_maps", lambda _, images: computed.append(1) or images[:, :2, :2, None] / 255
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    maps = frozen_features.frozen_maps(images)
    (file,) = (tmp_path / "data" / "partial" / "frozen_features").glob("*.npy")
    told = file.with_suffix(".json")
    content, checksum = file.read_bytes(), told.read_bytes()
    if damage == "bit":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if damage == "cut":
        file.write_bytes(content[:-3])
    if damage == "checksum":
        told.write_bytes(checksum[: len(checksum) // 2])
    if damage == "no checksum":
        told.unlink()
    if damage == "no text":
        told.write_bytes(b"\xff" + checksum)
    assert np.array_equal(frozen_features.frozen_maps(images), maps) and len(computed) == 2
    said = capfd.readouterr().err
    assert str(tmp_path) in said and said.endswith(": its maps are computed anew.\n") and said.count("\n") == 1
    assert file.read_bytes() == content and told.read_bytes() == checksum
    frozen_features.frozen_maps(images)
    assert len(computed) == 2 and not capfd.readouterr().err


def test_a_mirrored_image_has_mirrored_maps():
    network, _ = frozen_features.architectures.create_network("tf_efficientnet_lite0", 1, "auto")
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 64), dtype=np.uint8)
    maps, mirrored = (frozen_features.computed_maps(network, x) for x in (image, image[:, :, ::-1]))
    assert mirrored[:, :, ::-1] == pytest.approx(maps, abs=1e-4)


def test_the_images_are_those_that_radiologists_read(cxr_data):
    if not catalogue.available("rsna_on_nih") or not (cxr_data / "nih" / "images").is_dir():
        pytest.skip("the real radiographs or RSNA's classes are not here")
    index, pixels, labels = matched_images.read_images(32)
    assert len(index) == len(pixels) == 775 and index["patient_id"].nunique() == 676
    assert {label.shape for label in labels.values()} == {(775,)}
    assert not index[["holder", "view", "width"]].isna().any().any()
    controls = matched_images.controls(index, pixels)
    study = matched.Study(index, labels, {})
    assert matched_images.strata(study)["images_n"].sum() == 775
    assert all(len(table) == 775 for table in controls.values()) and controls["file size"]["bytes"].nunique() > 700


def test_boxes_on_a_grid_by_hand():
    boxes = pd.DataFrame({"image_id": ["a", "a"], "x0": [0, 0], "y0": [0, 0], "x1": [0.5, 0.25], "y1": [0.25, 0.25]})
    found = matched_maps.covered(boxes, ["a", "b"], (2, 2))
    assert found[0] == pytest.approx(np.array([[0.5, 0], [0, 0]])) and not found[1].any()
    cam = np.array([[[1.0, 0], [0, 0]], [[0, 0], [0, 2.0]]])
    assert matched_maps.at_peak(cam, found).tolist() == [0.5, 0]


def test_an_activation_map_averages_to_the_score_of_its_fold():
    rng = np.random.default_rng(2)
    maps, heads, tested_in = rng.normal(size=(6, 2, 2, 5)), rng.normal(size=(3, 5)), np.array([0, 1, 2, 0, 1, 2])
    cam = matched_maps.activation(maps, heads, tested_in)
    score = [maps[k].mean((0, 1)) @ heads[tested_in[k]] for k in range(6)]
    assert cam.mean((1, 2)) == pytest.approx(np.array(score))


def test_boxes_of_others_leave_out_all_images_of_the_patient():
    coverage = np.arange(4.0)[:, None, None] * np.ones((4, 1, 1))
    found = matched_maps.of_others(coverage, np.array(["p", "p", "q", "r"]))[:, 0, 0]
    assert found.tolist() == [2.5, 2.5, pytest.approx(4 / 3), 1]


def test_maps_of_heads_that_see_the_box_point_into_it(monkeypatch):
    rng, n = np.random.default_rng(3), 60
    cell = rng.integers(0, 4, n)
    ids = [f"i{k}" for k in range(n)]
    corner = np.c_[cell % 2, cell // 2] / 2
    boxes = pd.DataFrame({"image_id": ids, "x0": corner[:, 0], "y0": corner[:, 1]})
    boxes = boxes.assign(x1=boxes["x0"] + 0.5, y1=boxes["y0"] + 0.5)
    monkeypatch.setattr(matched_maps, "rsna_boxes", lambda: boxes)
    maps = rng.normal(size=(n, 2, 2, 3))
    maps[np.arange(n), cell // 2, cell % 2, 0] = 9
    images = pd.DataFrame({"image_id": ids, "patient_id": ids})
    study = matched.Study(images, {("airspace_opacity", "radiologists"): np.ones(n)}, {})
    seeing, blind = np.tile([1.0, 0, 0], (5, 5, 1)), np.tile([0, 1.0, 0], (5, 5, 1))
    heads = {
        ("airspace_opacity", name, "weighted", side): head
        for name, head in ((matched.NETWORK, seeing), (matched.SHUFFLED_LABELS, np.concatenate([blind, blind])))
        for side in matched.SIDES
    }
    resamples = resampling.patient_resamples(ids, 200, rng)
    folds = np.zeros((5, n), int)
    found = matched_maps.in_boxes(study, maps, heads, folds, resamples).set_index("map")
    assert found.loc["network, trained on reports", "estimate"] == 1 and found["images_n"].eq(n).all()
    assert found.loc["a random cell", "estimate"] == pytest.approx(0.25)
    assert found.loc["network, trained on reports", "p_others_holm"] < 0.001
    assert found.loc["network, shuffled labels, trained on reports", "p_others_holm"] > 0.05
