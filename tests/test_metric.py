"""Study 5: rare findings in targets, vectors and heads of a small cohort, and the tables made of what they store."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrlib.base import label_tables, paths
from cxrlib.cohorts import packing, shortcuts, sources, splits
from cxrlib.cohorts.store import open_store
from cxrlib.labels import targets
from cxrlib.networks import (
    architectures,
    heads,
    losses,
    map_layers,
    metric_runs,
    metric_scores,
    name_vectors,
    run,
    training,
)
from cxrlib.statistics import intervals
from cxrlib.studies import metric_space, metric_study

FINDINGS = ["pneumothorax", "effusion", "cardiomegaly", "airspace_opacity"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A cohort of 400 simulated images at 32 px."""
    folder = tmp_path_factory.mktemp("cohort")
    settings = {"source": "simulated", "hospital": "internal", "images_n": 400, "seed": 5, "size_px": 32}
    packing.pack(sources.open_source(settings), folder / "store", folder / "work", size_px=32, workers=1)
    return open_store(folder / "store")


@pytest.fixture(scope="module")
def split(packed):
    return splits.by_patient(packed.index, {"train": 0.5, "valid": 0.2, "test": 0.3}, 1)


def target(packed, split, **options):
    return targets.target_table(
        split, {"drawn": packed.labels.set_index("image_id")}, FINDINGS, "drawn", "u_zeros", **options
    )


THINNED = {"by": "drawn", "findings": FINDINGS, "imbalance": 4, "seed": 1}


def test_thinning_makes_findings_rare_step_by_step_and_leaves_other_parts(packed, split):
    whole, thin = target(packed, split), target(packed, split, thinned=THINNED)
    assert thin[thin["split"] == "valid"].equals(
        whole[whole["split"] == "valid"].set_axis(thin[thin["split"] == "valid"].index)
    )
    before, after = (table[FINDINGS][table["split"] == "train"].sum() for table in (whole, thin))
    order = before.sort_values(ascending=False, kind="stable").index
    for k, finding in enumerate(order):
        assert after[finding] <= max(1, round(before[order[0]] * 4 ** (-k / 3))), finding
    none = (whole[FINDINGS] == 0).all(axis=1) & (whole["split"] == "train")
    assert set(whole["image_id"][none]) <= set(thin["image_id"]), "an image without a finding is never left out"


def test_thinning_keeps_few_patients_and_repeats_itself():
    present = pd.DataFrame({"a": [True] * 12, "b": [True] * 8 + [False] * 4})
    patient = np.repeat(list("pqrs"), 3)
    keep = targets.long_tailed(present, patient, 4, 3)
    assert np.array_equal(keep, targets.long_tailed(present, patient, 4, 3))
    assert (present["b"] & keep).sum() == 3 and len(set(patient[present["b"] & keep])) <= 2
    assert targets.long_tailed(present, patient, 1, 3).all()
    with pytest.raises(ValueError, match="1 or more"):
        targets.long_tailed(present, patient, 0.5, 3)


def test_a_target_without_a_finding_has_no_image_with_it(packed, split):
    table = target(packed, split, without=["nodule", "mass"])
    truth = packed.labels.set_index("image_id").loc[table["image_id"]]
    assert (truth[["nodule", "mass"]] == 0).all(axis=None) and len(table) < len(target(packed, split))


def test_a_finding_that_cannot_be_left_out_is_said(packed, split):
    with pytest.raises(ValueError, match="'edema', named in without; it has"):
        labels = {"drawn": packed.labels.set_index("image_id")[FINDINGS]}
        targets.target_table(split, labels, FINDINGS, "drawn", "u_zeros", without=["edema"])
    with pytest.raises(ValueError, match="stands in findings and in without"):
        target(packed, split, without=[FINDINGS[0]])


def test_pixel_statistics_know_grey_levels_and_sharpness():
    rng = np.random.default_rng(0)
    flat, rough = np.full((20, 20), 51, np.uint8), rng.integers(0, 256, (20, 20), np.uint8)
    table = shortcuts.pixel_statistics(np.stack([flat, rough]), [0, 1])
    assert table.iloc[0].tolist() == pytest.approx([0.2, 0, 0.2, 0.2, 0.2, 0, 0, 0.2], abs=1e-6)
    assert table["gradient"][1] > 0.2 and table["laplacian"][1] > 0.5


def test_metadata_keep_what_is_missing_missing():
    index = pd.DataFrame(
        {"view": ["AP", "PA", None], "sex": ["M", None, "F"], "age": [50, None, 7], "follow_up_number": [0, 1, None]}
    )
    table = shortcuts.metadata(index)
    assert table["ap"].tolist()[:2] == [1, 0] and np.isnan(table["ap"][2]) and np.isnan(table["male"][1])
    assert table["age"].tolist()[::2] == [50, 7]


def test_files_and_holders_of_real_images(cxr_data):
    settings = {"source": "nih", "folder": "nih"}
    index = sources.open_source({**settings, "size_px": 32}).table.head(5)
    index = index.assign(source_height_px=256, source_width_px=256)
    table, holders = shortcuts.files(settings, 32, index), shortcuts.holders(settings, index)
    assert (table["bytes"] > 1000).all() and (holders.sum(axis=1) == 1).all()
    assert shortcuts.files({"source": "simulated"}, 32, index) is None


def settings_of(**changes):
    base = {"architecture": "test_convnext", "pretrained": "none", "epochs": 1, "batch_size": 16}
    base |= {"learning_rate": 2e-3, "weight_decay": 0.05, "positive_weight": "sqrt", "flip": False, "seed": 1}
    return training.TrainingSettings(**base | changes)


@pytest.mark.parametrize("loss", ["dual_weighted", "ranking_hinge", "ldam_drw"])
def test_any_network_is_trained_with_a_metric_loss_saved_and_loaded(packed, split, loss, tmp_path):
    table = target(packed, split)
    trained = training.train(packed, table, FINDINGS, settings_of(loss=loss, train_px=64), tmp_path / "work")
    rows = np.arange(6)
    before = training.predict(trained.network, packed, rows, size_px=64)
    architectures.save_network(trained.network, tmp_path / "model.safetensors")
    network = architectures.load_network(tmp_path / "model.safetensors", "test_convnext", len(FINDINGS))
    assert before.shape == (6, 4) and np.isfinite(before).all() and trained.positive_weight is None
    assert training.predict(network, packed, rows, size_px=64) == pytest.approx(before, abs=1e-6)
    assert map_layers.find_layer(network, 64).name.startswith("body.stages"), "maps can be drawn of it"


def test_a_loss_that_learns_numbers_of_its_own_trains_heads_alone():
    with pytest.raises(ValueError, match=r"auc_margin.*heads on vectors alone"):
        training.loss_of(settings_of(loss="auc_margin"), np.eye(4, dtype=np.float32))
    with pytest.raises(ValueError, match="none of bce"):
        training.untrained_network(settings_of(loss="triplet"), FINDINGS)


def test_images_are_brought_to_another_size_on_the_device(packed):
    network, _ = architectures.create_network("test_convnext", 3)
    large = heads.image_vectors(network, packed.images, [0, 1], size_px=64)
    own = heads.image_vectors(network, packed.images, [0, 1])
    assert large.shape == own.shape == (2, 64) and not np.allclose(large, own)


def test_vectors_are_what_the_classifier_sees(packed):
    network, _ = architectures.create_network("test_convnext", 3)
    x = heads.image_vectors(network, packed.images, [0, 3])
    with torch.no_grad():
        logit = network.get_classifier()(torch.tensor(x))
    assert torch.sigmoid(logit).numpy() == pytest.approx(training.predict(network, packed, [0, 3]), abs=1e-5)


SETS = "radiologist", "reports"


def stored(n=240, seeds=(1, 2, 3), signal=1.2):
    """Tables as notebook 18 stores them, of a made-up test set."""
    rng = np.random.default_rng(11)
    ids, patient = np.array([f"i{k}" for k in range(n)], object), [f"p{k // 2}" for k in range(n)]
    truth = rng.random((n, 4)) < [0.4, 0.3, 0.2, 0.15]
    images = pd.DataFrame({"image_id": ids, "patient_id": patient})
    for k, finding in enumerate(FINDINGS):
        images[f"radiologist.{finding}"] = np.float32(truth[:, k])
        images[f"reports.{finding}"] = np.float32(truth[:, k] ^ (rng.random(n) < 0.2))

    def scores(lead, **where):
        parts = []
        for seed in seeds:
            for k, finding in enumerate(FINDINGS):
                value = rng.normal(size=n) + lead * truth[:, k]
                parts.append(
                    pd.DataFrame({**where, "seed": seed, "finding": finding, "image_id": ids, "score": value})
                )
        return pd.concat(parts)

    leads = {"prototype": signal, "image_weights": 0.6, "disease_weights": signal, "dual_weighted": 0.6}
    leads |= dict.fromkeys(metric_scores.TWO_BY_TWO["linear"], signal)
    tables = {
        "images": images,
        "training": pd.DataFrame(
            {
                "target": "t",
                "trained_on": "radiologist",
                "finding": FINDINGS,
                "positives_n": [90, 60, 20, 9],
                "negatives_n": 200,
            }
        ),
        "losses": pd.concat([scores(lead, trained_on="radiologist", loss=name) for name, lead in leads.items()]),
        "scaling": pd.DataFrame(
            [("radiologist", name, s, f, 0.1, 0.5) for name in leads for s in seeds for f in FINDINGS],
            columns=["trained_on", "loss", "seed", "finding", "intercept", "slope"],
        ),
        "prototypes": pd.concat(
            [
                scores(lead, prototypes=name)
                for name, lead in (("names", 1), ("shuffled names", 1), ("shuffled after training", 0))
            ]
        ),
        "shortcuts": scores(0.2, known="grey levels and sharpness"),
        "shuffled_labels": pd.DataFrame(
            {
                "loss": "bce",
                "seed": 1,
                "permutation": range(41),
                "scored_against": "radiologist",
                "mean_auc": np.linspace(0.4, 0.6, 41),
            }
        ),
        "end_to_end": pd.concat([scores(lead, loss=name) for name, lead in (("bce", 1.0), ("dual_weighted", 0.3))]),
        "unseen": pd.concat(
            [
                scores(0.0, target="u", prototypes=name, normals=normals).assign(
                    seen=lambda t: t["finding"].isin(FINDINGS[:2])
                )
                for name in ("names", "shuffled names")
                for normals in (True, False)
            ]
        ),
    }
    near = []
    for model, p in (("metric space", 0.5), ("network's own vectors", 0.5), (metric_scores.ANY, 0.2)):
        for seed in seeds:
            drawn = {name: np.float32(rng.random(n) < p) for name in ("shared_frac", "present")}
            near.append(pd.DataFrame({"model": model, "seed": seed, "image_id": ids, **drawn}))
            near[-1].loc[near[-1]["model"] == "network's own vectors", "present"] = np.nan
    tables["nearest"] = pd.concat(near)
    points = {f"x{k}": np.float32(rng.normal(size=n + 4)) for k in range(4)}
    tables["space"] = pd.DataFrame(
        {"seed": 1, "what": ["prototype"] * 4 + ["image"] * n, "name": [*FINDINGS, *ids], **points}
    )
    return tables


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    tables = stored()
    root = tmp_path_factory.mktemp("stored")
    patch = pytest.MonkeyPatch()
    patch.setattr(paths, "ROOT", root)
    for name, table in tables.items():
        path = metric_scores.metric_table_path("quick", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False)
    yield metric_study.open_metric_scores("quick", 300, 1)
    patch.undo()


def mean_by_hand(scores, measure, label_set="radiologist", **where):
    """The mean over findings and seeds of a measure, straight from the stored table."""
    table = scores.table("losses")
    for name, value in where.items():
        table = table[table[name] == value]
    found = []
    for (finding, _), part in table.groupby(["finding", "seed"]):
        label = scores.images.set_index("image_id")[f"{label_set}.{finding}"].loc[part["image_id"]]
        found.append(measure(label, part["score"]))
    return np.mean(found)


def test_the_table_of_losses_is_what_its_predictions_say(scores):
    table, gains = metric_study.loss_tables(scores)
    all_of = table[(table["findings"] == metric_study.ALL)].set_index(["scored_against", "loss", "measure"])
    for label_set in SETS:
        measures = {metric_study.AUC: roc_auc_score, metric_study.AP: average_precision_score}
        for name, measure in list(measures.items())[: 2 if label_set == SETS[0] else 1]:
            expected = mean_by_hand(scores, measure, label_set, loss="image_weights")
            assert all_of.loc[(label_set, "image_weights", name), "estimate"] == pytest.approx(expected)
    row = gains[
        (gains["loss"] == "image_weights") & (gains["scored_against"] == "radiologist") & (gains["measure"] == "AUC")
    ]
    row = row.set_index("findings").loc[metric_study.ALL]
    expected = mean_by_hand(scores, roc_auc_score, loss="image_weights") - mean_by_hand(
        scores, roc_auc_score, loss="bce"
    )
    assert row["estimate"] == pytest.approx(expected) and row["high"] < 0 and row["p_holm"] < 0.05
    family = gains[
        (gains["scored_against"] == "radiologist")
        & (gains["findings"] == metric_study.ALL)
        & (gains["measure"] == "AUC")
    ]
    assert family["p_holm"].tolist() == pytest.approx(intervals.holm(family["p"].to_numpy()).tolist())
    assert "bce" not in set(gains["loss"])


def test_rare_and_frequent_are_halves_by_training(scores):
    groups = scores.groups("radiologist")
    assert (
        set(groups[metric_study.RARE]) == {"cardiomegaly", "airspace_opacity"}
        and len(groups[metric_study.FREQUENT]) == 2
    )


def test_effects_of_the_ablation_add_up(scores):
    table = metric_study.ablation_table(scores)
    part = table[(table["scored_against"] == "radiologist") & (table["findings"] == metric_study.ALL)]
    assert set(part["head"]) == {"prototypes", "linear"}
    part = part[part["head"] == "prototypes"].set_index("what")["estimate"]
    none, image, disease, both = (part[k] for k in ("neither weight", "image weights", "disease weights", "both"))
    assert part["effect of image weights"] == pytest.approx((image - none + both - disease) / 2)
    assert part["effect of disease weights"] == pytest.approx((disease - none + both - image) / 2)
    assert part["interaction"] == pytest.approx(both - image - disease + none)
    assert part["effect of image weights"] < -0.05


def test_another_seed_lies_where_it_is_said_to():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        low, high = metric_study.another_seed(rng.normal(0.7, 0.02, 5))
        inside += low < rng.normal(0.7, 0.02) < high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)
    assert np.isnan(metric_study.another_seed([0.7])).all()


def test_calibration_is_of_the_sigmoid_and_of_the_scaled_logit(scores):
    table = metric_study.calibration_table(scores, "radiologist", ["bce"])
    blind = table[table["loss"] == "prevalence"].set_index(["measure", "probabilities"])
    table = table[table["loss"] == "bce"].set_index(["measure", "probabilities"])
    shares = scores.images.filter(like="radiologist.").mean()
    assert blind.loc[("Brier score", "scaled"), "estimate"] == pytest.approx((shares * (1 - shares)).mean())
    assert (table["low"] >= 0).all() and blind["low"].isna().all()
    stored = scores.table("losses")
    part = stored[stored["loss"] == "bce"]
    y = np.concatenate(
        [
            scores.images.set_index("image_id")[f"radiologist.{f}"].loc[p["image_id"]]
            for (f, _), p in part.groupby(["finding", "seed"], sort=False)
        ]
    )
    z = np.concatenate([p["score"] for _, p in part.groupby(["finding", "seed"], sort=False)])
    assert table.loc[("Brier score", "as trained"), "estimate"] == pytest.approx(np.mean((expit(z) - y) ** 2))
    assert table.loc[("Brier score", "scaled"), "estimate"] == pytest.approx(np.mean((expit(0.1 + 0.5 * z) - y) ** 2))


def test_controls_and_prototypes_are_compared_on_the_same_images(scores):
    prototypes = metric_space.prototype_table(scores, "radiologist").set_index("prototypes")
    assert (
        np.isnan(prototypes.loc["names", "difference"])
        and prototypes.loc["shuffled after training", "difference_high"] < 0
    )
    assert abs(prototypes.loc["shuffled after training", "estimate"] - 0.5) < 0.05
    known, by_finding = metric_space.shortcut_tables(scores, "radiologist", "radiologist")
    assert (
        by_finding["finding"].tolist() == FINDINGS
        and (by_finding["bce"] > by_finding["grey levels and sharpness"]).all()
    )
    known = known.iloc[0]
    assert known["bce less known_low"] > 0 and known["bce_p_holm"] < 0.05 and known["findings_n"] == 4
    assert metric_space.shortcut_sentence(known.to_frame().T).startswith("bce lies above everything")
    blind = known.to_frame().T.assign(bce_p_holm=0.3)
    assert "does not lie above grey levels and sharpness" in metric_space.shortcut_sentence(blind)
    start = metric_space.end_to_end_table(scores, "radiologist").set_index("loss")
    assert start.loc["dual_weighted", "difference_high"] < 0
    said = metric_space.sentences_of_differences(start.reset_index(), "bce")
    assert len(said) == 1 and said[0].startswith("dual_weighted less bce: -") and said[0].endswith("worse.")


def test_unseen_findings_are_scored_with_and_without_normal_images(scores):
    table, gains = metric_space.unseen_tables(scores, "radiologist")
    mean = table[(table["finding"] == "mean of unseen findings") & (table["prototypes"] == "names")].set_index(
        "normals"
    )
    stored = scores.table("unseen")
    part = stored[(stored["prototypes"] == "names") & ~stored["normals"] & ~stored["seen"]]
    truth = scores.images.set_index("image_id").filter(like="radiologist.")
    some = truth.index[truth.any(axis=1)]
    found = []
    for (finding, _), one in part.groupby(["finding", "seed"]):
        score = one.set_index("image_id")["score"].loc[some]
        found.append(roc_auc_score(truth.loc[some, f"radiologist.{finding}"], score))
    assert mean.loc["left out", "estimate"] == pytest.approx(np.mean(found))
    assert set(gains["comparison"]) == {"names - shuffled names", "names - chance"}
    chance = gains[gains["comparison"] == "names - chance"].set_index("normals")["estimate"]
    assert chance["left out"] == pytest.approx(np.mean(found) - 0.5)


def test_neighbours_are_compared_with_the_networks_own(scores):
    table = metric_space.nearest_table(scores).set_index(["near", "model"])
    images, finding = table.loc["images"], table.loc["finding"]
    assert images.loc[metric_scores.ANY, "difference_high"] < 0 < images.loc["metric space", "difference_high"]
    assert np.isnan(images.loc["network's own vectors", "p"]) and "network's own vectors" not in finding.index
    assert finding.loc["metric space", "difference_low"] > 0
    stored = scores.table("nearest")
    part = stored[stored["model"] == "metric space"]
    assert finding.loc["metric space", "estimate"] == pytest.approx(part["present"].mean())


def test_a_finding_with_few_patients_has_a_reason_and_no_number(scores):
    images = scores.images.copy()
    images["radiologist.airspace_opacity"] = np.float32(np.arange(len(images)) < 6)
    few = dataclasses.replace(scores, images=images, _cells={}, _arrays={})
    table = metric_study.finding_table(few, "radiologist", "radiologist").set_index("finding")
    assert (
        np.isnan(table.loc["airspace_opacity", "bce"])
        and "fewer than 10 patients" in table.loc["airspace_opacity", "reason"]
    )
    losses_of, _ = metric_study.loss_tables(few)
    first = losses_of[(losses_of["findings"] == metric_study.ALL) & (losses_of["scored_against"] == "radiologist")]
    assert (first["findings_n"] == 3).all()


def test_scores_of_other_images_are_refused(scores):
    other = dataclasses.replace(scores, images=scores.images.iloc[::-1], _cells={}, _arrays={})
    with pytest.raises(ValueError, match=r"losses.parquet has other images.*run notebook 18 again"):
        other.arrays("losses", ["trained_on", "loss"])
    with pytest.raises(ValueError, match=r"unseen.parquet has other images"):
        metric_space.unseen_tables(other, "radiologist")


def test_figures_are_drawn(scores):
    _, gains = metric_study.loss_tables(scores)
    figure = metric_study.gain_figure(gains, "radiologist", "bce")
    assert next(text.get_text() for text in figure.axes[0].get_yticklabels()) == "prototype"
    figure = metric_space.space_figure(scores, "radiologist", 1)
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["no finding", *(f.replace("_", " ") for f in FINDINGS)]


def test_permuted_prototypes_give_a_finding_the_scores_of_another():
    """What notebook 18 says of prototypes that change places after training."""
    torch.manual_seed(0)
    head = heads.create_head("prototype", 6, 4, name_vectors.space(np.random.default_rng(0).normal(size=(4, 20))))
    x = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    order = name_vectors.control("shuffled", np.arange(4), 2)
    moved = heads.create_head("prototype", 6, 4, head.prototypes.numpy()[order])
    moved.load_state_dict({**head.state_dict(), "prototypes": head.prototypes[order], "radius": head.radius[order]})
    assert heads.scores(moved, x) == pytest.approx(heads.scores(head, x)[:, order], abs=1e-5)
    assert not (order == np.arange(4)).any()


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    """Study 5 on 600 simulated images: two seeds of a network for each target, trained for an epoch."""
    patch = pytest.MonkeyPatch()
    patch.setattr(paths, "ROOT", tmp_path_factory.mktemp("study"))
    cohort = {"source": "simulated", "hospital": "internal", "images_n": 600, "seed": 6}
    source = sources.open_source({**cohort, "size_px": 32})
    packing.pack(source, paths.cohort_dir("simulated"), paths.partial_dir("cohort"), size_px=32, workers=1)
    packed = open_store("simulated")
    labels = packed.labels[["image_id", *FINDINGS]]
    card = dict.fromkeys(label_tables.CARD_FIELDS, "test")
    for name in ("drawn", "other"):
        label_tables.save(labels, card, "simulated", name)
    split = splits.by_patient(packed.index, {"train": 0.5, "valid": 0.2, "test": 0.3}, 1)
    of = {"label_set": "drawn", "policy": "u_zeros", "same_images_as": [], "training": {"train_px": 64}}
    planned = {
        "metric": {**of, "findings": FINDINGS},
        "metric_dual": {**of, "findings": FINDINGS, "training": {"train_px": 64, "loss": "dual_weighted"}},
        "metric_unseen": {**of, "findings": FINDINGS[1:], "without": FINDINGS[:1]},
    }
    study = {
        "targets": ["metric"],
        "zero_shot": ["metric_unseen"],
        "end_to_end": {"bce": "metric", "dual_weighted": "metric_dual"},
        "architecture": "test_convnext",
        "seeds": [1, 2],
        "encoder": "minilm",
        "prompt": "name",
        "policy": "u_zeros",
        "scored_against": ["drawn", "other"],
        "fit": {"epochs": 3, "batch_size": 64, "weight_decay": 0.01},
        "learning_rates": [0.01, 0.1],
        "permutations_n": 2,
    }
    paths.split_path("tiny").parent.mkdir(parents=True)
    split.to_parquet(paths.split_path("tiny"), index=False)
    paths.targets_dir("tiny").mkdir(parents=True)
    for name, options in planned.items():
        options = {k: v for k, v in options.items() if k != "training"}
        table = targets.target_table(split, {"drawn": labels.set_index("image_id")}, **options)
        table.to_parquet(paths.target_path("tiny", name), index=False)
        for seed in study["seeds"]:
            run.run("tiny", "simulated", name, settings_of(seed=seed, **planned[name]["training"]))
    settings = {"metric": study, "targets": planned, "cohorts": {"simulated": cohort}, "size_px": 32}
    yield metric_runs.MetricRuns("tiny", "simulated", settings), settings
    patch.undo()


@pytest.fixture(scope="module")
def trained(small_study):
    trainings, _ = small_study
    tables = {"images": trainings.images(), "training": trainings.training()}
    tables["losses"], tables["search"], tables["scaling"] = trainings.compare()
    for name in ("end_to_end", "prototypes", "shortcuts", "shuffled_labels", "unseen", "space", "nearest"):
        tables[name] = getattr(trainings, name)()
    for name, table in tables.items():
        path = metric_scores.metric_table_path("tiny", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False)
    return tables


def test_notebook_18_stores_every_table_of_every_test_image(trained, small_study):
    assert set(trained) == set(metric_scores.METRIC_TABLES)
    n = len(trained["images"])
    assert len(trained["losses"]) == n * len(FINDINGS) * len(losses.LOSSES) * 2
    assert trained["search"].groupby(["loss", "seed"])["chosen"].sum().eq(1).all()
    assert set(trained["prototypes"]["prototypes"]) == set(metric_scores.PROTOTYPES)
    known = {metric_scores.GREY_LEVELS, metric_scores.METADATA}
    assert len(trained["shuffled_labels"]) == 2 * 2 * 2 * 2
    assert trained["shuffled_labels"]["mean_auc"].between(0.2, 0.8).all()
    assert set(trained["shortcuts"]["known"]) == known, "simulated images have no file and no holder"
    assert set(trained["nearest"]["model"]) == {
        "metric space",
        "space of shuffled names",
        "network's own vectors",
        metric_scores.ANY,
    }
    for name in ("losses", "prototypes", "shortcuts", "unseen", "end_to_end"):
        assert np.isfinite(trained[name]["score"]).all(), name


def test_the_search_picks_the_rate_that_is_best_on_validation(trained):
    for _, part in trained["search"].groupby(["loss", "seed"]):
        chosen = part.loc[part["chosen"], "valid_auc"].iloc[0]
        assert chosen == part["valid_auc"].max()


def test_heads_and_vectors_of_unseen_findings_never_saw_them(trained, small_study):
    _trainings, _settings = small_study
    table = pd.read_parquet(paths.target_path("tiny", "metric_unseen"))
    assert FINDINGS[0] not in table
    truth = open_store("simulated").labels.set_index("image_id").loc[table["image_id"], FINDINGS[0]]
    assert (truth == 0).all()
    unseen = trained["unseen"]
    assert set(unseen["finding"][~unseen["seen"]]) == {FINDINGS[0]}
    assert set(unseen["prototypes"][unseen["seen"]]) == {metric_scores.BY_NAME}


def test_an_encoder_that_has_no_definitions_leaves_out_that_row_and_says_why(small_study, trained, monkeypatch):
    trainings, _ = small_study

    def names_alone(findings, encoder, prompt):
        raise ValueError("the encoder is not to be had")

    monkeypatch.setattr(name_vectors, "name_vectors", names_alone)
    table = trainings.prototypes()
    assert set(table["prototypes"]) == set(metric_scores.PROTOTYPES) - {metric_scores.DEFINED}
    assert trainings.left_out == {metric_scores.DEFINED: "the encoder is not to be had"}


def test_shuffling_after_training_moves_the_scores_of_the_true_names(trained):
    table = trained["prototypes"]
    for seed in (1, 2):
        named, moved = (
            table[(table["prototypes"] == name) & (table["seed"] == seed)].pivot(
                index="image_id", columns="finding", values="score"
            )[FINDINGS]
            for name in (metric_scores.BY_NAME, metric_scores.AFTERWARDS)
        )
        order = name_vectors.control("shuffled", np.arange(4), seed)
        assert np.array_equal(moved.to_numpy(), named.to_numpy()[:, order])


def test_stored_vectors_give_back_what_heads_saw(small_study, trained):
    trainings, _ = small_study
    found = trainings.vectors("metric", 1)
    kept = np.load(metric_scores.vectors_path("tiny", "metric-test_convnext-1"))
    assert {part: len(kept[part]) for part in ("train", "valid", "test")} == {k: len(v) for k, v in found.x.items()}
    assert abs(found.x["train"].mean(0)).max() < 1e-4 and found.x["train"].std(0).max() == pytest.approx(1, abs=1e-4)


def test_the_study_reads_what_notebook_18_stored(trained):
    scores = metric_study.open_metric_scores("tiny", 50, 1)
    table, gains = metric_study.loss_tables(scores)
    assert set(table["loss"]) == set(losses.LOSSES) and set(table["scored_against"]) == {"drawn", "other"}
    start = metric_space.end_to_end_table(scores, "drawn")
    assert set(start["loss"]) == {"bce", "dual_weighted"}
    unseen, gaps = metric_space.unseen_tables(scores, "drawn")
    assert len(unseen) and len(gaps) == 2 * 4
    known, _ = metric_space.shortcut_tables(scores, "drawn", "drawn")
    found = [metric_study.ablation_table(scores), metric_space.prototype_table(scores, "drawn"), known, unseen]
    short = metric_space.short_answers(gains, *found, metric_space.nearest_table(scores), "drawn", "drawn")
    assert short["question"].is_unique and len(short) == 2 + 4 + 3 + 2 + 2 + 2
    assert short["answer"].str.contains(r"^-?\d\.\d{3}").all()


def test_an_edition_without_unseen_findings_says_so(small_study):
    _trainings, settings = small_study
    bare = {**settings, "metric": {**settings["metric"], "zero_shot": [], "end_to_end": {}}}
    other = metric_runs.MetricRuns("tiny", "simulated", bare)
    assert other.unseen().empty and other.end_to_end().empty
