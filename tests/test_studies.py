"""What the studies' notebooks call: which side is less which, which images count, and what a sentence concludes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from cxrlib.statistics import intervals, resampling
from cxrlib.studies import crossing, displays, finding_answers, finding_study, labeler_study, saliency_study

ARM = crossing.Arm("finding_reports", "net", "finding_reports", "abnormal", (1, 2))
N = 400


def interval_rows(*rows):
    """Return a table of estimates with intervals; each row is `(estimate, low, high)` and further columns."""
    return pd.DataFrame([dict(zip(("estimate", "low", "high"), row[:3], strict=True)) | row[3] for row in rows])


# --- Displays -----------------------------------------------------------------------------------------------------


def test_tests_are_named_by_the_cohort_trained_on():
    assert displays.places(["nih", "nih_other", "chexpert"], "nih") == {
        "nih": "internal",
        "nih_other": "other",
        "chexpert": "chexpert",
    }


def test_a_caption_counts_images_and_patients_once():
    twice = pd.DataFrame({"image_id": ["a", "a", "b"], "patient_id": ["p", "p", "p"]})
    assert displays.caption("real labels", twice) == "real labels: 2 of 1 patients; no intervals"
    several = {"internal": twice, "external": pd.DataFrame({"patient_id": range(1500)})}
    assert displays.caption("simulated images", several, "patients", "a note") == (
        "simulated images: 2 of 1 patients (internal), 1,500 of 1,500 patients (external); "
        "95 % intervals over patients; a note"
    )


def test_estimates_as_text_keep_their_row_and_column():
    table = interval_rows((0.1, 0, 0.2, {"a": "x", "b": "p"}), (0.3, np.nan, np.nan, {"a": "y", "b": "q"}))
    got = displays.wide(table, "a", "b")
    assert got.at["x", "p"] == "0.100 (0.000 to 0.200)" and got.at["y", "q"] == "0.300"
    assert pd.isna(got.at["x", "q"]) and "text" not in table
    lines = displays.forest_lines(table, ["one", "two"], ["red", "blue"])
    assert lines[0] == {"name": "one", "estimate": 0.1, "low": 0, "high": 0.2, "colour": "red"}


def test_a_table_to_read_has_words_whole_counts_and_no_zero_for_a_p_value():
    table = pd.DataFrame(
        {
            "images_n": [12.0, np.nan],
            "estimate": [0.12345, np.nan],
            "low": [-0.1, np.nan],
            "high": [0.2, np.nan],
            "low_patients": [0.0, 0.1],
            "high_patients": [0.25, 0.3],
            "p_holm": [0.0004, 1.0],
            "delong_p": [0.04999, np.nan],
            "chosen": [True, False],
            "tau": [0.5, 0.25],
            "tau_low": [0.1, np.nan],
            "tau_high": [1.0, np.nan],
            "reason": ["", "too few"],
        },
        index=pd.MultiIndex.from_tuples(
            [("airspace_opacity", "test_resnet"), ("nodule", "b")], names=["finding", "network"]
        ),
    )
    before = table.copy()
    got = displays.readable(table)
    pd.testing.assert_frame_equal(table, before)
    assert got.to_dict("list") == {
        "images": ["12", "–"],
        "estimate (95 % interval)": ["0.123 (-0.100 to 0.200)", "–"],
        "95 % interval, other patients alone": ["0.000 to 0.250", "0.100 to 0.300"],
        "p (Holm)": ["< 0.001", "1.000"],
        "p (DeLong, by image)": ["0.050", "–"],
        "chosen": ["yes", "no"],
        "tau (95 % interval)": ["0.500 (0.100 to 1.000)", "0.250"],
        "reason": ["", "too few"],
    }
    assert list(got.index) == [("airspace opacity", "test_resnet"), ("nodule", "b")]
    assert "&lt; 0.001" in got.to_html()


def test_headings_in_levels_are_read_too_and_rows_that_are_only_numbered_have_no_name():
    columns = pd.MultiIndex.from_product([["f1"], ["rules_u_zeros", "grad_cam"]], names=["measure", "trained_on"])
    got = displays.readable(pd.DataFrame([[0.5, 2]], columns=columns), digits=1)
    assert list(got.columns) == [("F1", "rules (uncertain absent)"), ("F1", "Grad-CAM")]
    assert list(got.columns.names) == ["measure", "trained on"] and list(got.index) == [""]
    assert got.iloc[0].tolist() == ["0.5", "2"]
    assert displays.readable(pd.DataFrame({"a_n": []})).empty


# --- Finding or no finding ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images():
    """Return 400 images of 200 patients: radiologists' labels, reports that miss some, a curated part, two seeds."""
    rng = np.random.default_rng(5)
    truth = (rng.random(N) < 0.4).astype(float)
    reports = np.where(rng.random(N) < 0.2, 1 - truth, truth)
    reports[::9] = -1
    radiologist = truth.copy()
    radiologist[::7] = np.nan
    out = pd.DataFrame({"image_id": [f"i{k}" for k in range(N)], "patient_id": np.arange(N) // 2})
    out["label.finding_reports.abnormal"], out["label.finding_radiologist.abnormal"] = reports, radiologist
    out["label.finding_clear.abnormal"] = np.where(reports == radiologist, radiologist, np.nan)
    out["label.panel.nodule"], out["label.panel.mass"] = (np.arange(N) < 20) * 1.0, (np.arange(N) % 40 == 0) * 1.0
    for seed in ARM.seeds:
        score = 1 / (1 + np.exp(-(2 * truth - 1 + rng.normal(0, 1, N))))
        out[f"probability.finding_reports-net-{seed}.abnormal"] = score
    return out


@pytest.fixture(scope="module")
def cells(images):
    drawn = resampling.patient_resamples(images["patient_id"], 200, np.random.default_rng(0))
    return crossing.Cells({"home": images}, {"home": drawn})


PLACES = {"home": "internal"}


def by_hand(images, label_set, seed=1, among=None):
    """Return labels and scores of the images that a label set (or every one of several) is certain of."""
    keep = np.all([images[f"label.{s}.abnormal"].isin((0, 1)) for s in among or [label_set]], axis=0)
    score = images[f"probability.finding_reports-net-{seed}.abnormal"]
    return images[f"label.{label_set}.abnormal"][keep], score[keep]


def test_the_published_numbers_leave_one_confusion_matrix():
    got = finding_study.implied_counts()
    assert got == {"TP": 914, "FN": 104, "TN": 876, "FP": 119}
    assert round(got["TP"] / (got["TP"] + got["FP"]), 3) == finding_study.PUBLISHED["finding", "precision"]
    vague = {key: 0.5 for key in finding_study.PUBLISHED}
    with pytest.raises(ValueError, match=r"^0 confusion matrices"):
        finding_study.implied_counts(vague, {"finding": 3, "no finding": 4})


def test_twins_share_their_test_images_and_the_split_by_patient_does_not_leak():
    apart = pd.DataFrame({"image_id": ["a", "b", "v"], "split": ["test", "test", "valid"], "by_patient": [1, 2, 3]})
    apart["patient_trained_on"] = False
    mixed = apart.rename(columns={"by_patient": "by_image"}).assign(patient_trained_on=True)
    got = finding_study.twin_test(mixed, apart)
    assert list(got["image_id"]) == ["a", "b"] and {"by_image", "by_patient"} <= set(got)
    assert not got["patient_trained_on"].any()
    with pytest.raises(ValueError, match="different test images"):
        finding_study.twin_test(mixed[1:], apart)
    with pytest.raises(ValueError, match="'a' was trained on"):
        finding_study.twin_test(mixed, apart.assign(patient_trained_on=True))


def test_shares_leave_out_who_is_uncertain(images):
    got = finding_study.shares(images)
    label, _ = by_hand(images, "finding_reports")
    assert got.at["finding_reports", "images_n"] == len(label) and "panel" not in got.index
    assert got.at["finding_reports", "abnormal_frac"] == pytest.approx(label.mean())


def test_at_equal_counts_each_class_is_scored_as_the_one_looked_for(images, cells):
    """The threshold comes of validation images by the labels trained on, the rates of the test's own labels."""
    valid = images.iloc[::-1].assign(**{"label.finding_radiologist.abnormal": 1.0})
    got, counts = finding_study.as_published(
        {"by_patient": ARM}, {"by_patient": valid}, cells, "home", "finding_radiologist"
    )
    rates = []
    for seed in ARM.seeds:
        own, score = by_hand(images, "finding_reports", seed)
        threshold = np.quantile(score, 1 - own.mean())
        assert (score >= threshold).sum() == own.sum()
        label, score = by_hand(images, "finding_radiologist", seed)
        called = score >= threshold
        rates.append(
            {
                (name, said): measure(label, called, pos_label=value)
                for name, value in (("finding", 1), ("no finding", 0))
                for said, measure in (("precision", precision_score), ("recall", recall_score), ("F1", f1_score))
            }
            | {("both", "auc"): roc_auc_score(label, score)}
        )
        if seed == 1:
            assert counts["by_patient"]["TP"] == (called & (label == 1)).sum()
            assert counts["by_patient"]["FP"] == (called & (label == 0)).sum()
            assert sum(counts["by_patient"].values()) == len(label)
    assert len(got) == 7 and (got["split"] == "by_patient").all()
    for r in got.itertuples():
        assert r.estimate == pytest.approx(np.mean([each[r[2], r.measure] for each in rates]))
        assert r.low < r.estimate < r.high
    assert finding_study.published_values(got)[-1] == 0.96


def test_the_leak_sentence_says_which_interval_and_whether_it_excludes_nothing():
    leak = pd.DataFrame(
        {"estimate": [0.0, -0.1], "low": [0, -0.2], "high": [0, -0.05], "low_patients": [0, -0.3]}
    ).assign(high_patients=[0, 0.01], reason="")
    seen = np.array([True, True, True, False])
    says = finding_study.leak_sentence(leak, seen)
    assert "-0.100 in AUC (-0.200 to -0.050, other patients and other seeds): the interval excludes 0. 75%" in says
    one_seed = finding_study.leak_sentence(leak.assign(low=np.nan, high=np.nan), seen)
    assert "(-0.300 to 0.010, other patients, these networks): the interval does not exclude 0." in one_seed
    ends = ["low", "high", "low_patients", "high_patients"]
    none = finding_study.leak_sentence(leak.assign(**dict.fromkeys(ends, np.nan), reason="too few"), seen)
    assert "): too few." in none


def test_rescoring_keeps_the_images_and_curating_keeps_the_labels(images, cells):
    sets = ("finding_reports", "finding_radiologist")
    (row,) = finding_study.rescored_table(cells, [ARM], PLACES, *sets).to_dict("records")
    areas = [np.mean([roc_auc_score(*by_hand(images, s, seed, sets)) for seed in ARM.seeds]) for s in sets]
    assert (row["by"], row["less_by"], row["test"]) == (*sets, "internal")
    assert [row["by_first"], row["by_second"]] == pytest.approx(areas)
    assert row["estimate"] == pytest.approx(areas[0] - areas[1]) and row["estimate"] < 0
    assert row["first_n"] == row["second_n"] == len(by_hand(images, sets[0], among=sets)[0])

    origin = {"finding_clear": "finding_radiologist"}
    (row,) = finding_study.curated_table(cells, [ARM], PLACES, origin).to_dict("records")
    areas = [np.mean([roc_auc_score(*by_hand(images, s, seed)) for seed in ARM.seeds]) for s in (*origin, sets[1])]
    assert row["estimate"] == pytest.approx(areas[0] - areas[1]) and row["first_n"] < row["second_n"]
    (said,) = finding_study.curated_sentences(pd.DataFrame([row]), "finding_reports")
    assert said.startswith(f"finding_clear ({row['first_n']} images) less finding_radiologist ({row['second_n']})")
    assert finding_study.rescored_table(cells, [ARM], PLACES, "finding_reports", "nobody").empty


def test_the_rarer_class_is_counted_on_images_that_every_side_could_train_on():
    valid = pd.DataFrame({"label.a.abnormal": [1, 1, 0, 0, 0, -1], "label.b.abnormal": [1, np.nan, 0, 1, np.nan, 0]})
    target = {"label_set": "a", "same_images_as": ["b"], "policy": "u_ones", "split": "by_patient"}
    assert finding_study.rarer_class_n(target, {"by_patient": valid}) == 2  # two of each: rows 0 and 5, 2 and 3
    assert finding_study.rarer_class_n({**target, "same_images_as": []}, {"by_patient": valid}) == 3
    assert finding_study.rarer_class_n({**target, "policy": "u_zeros"}, {"by_patient": valid}) == 1


def test_recalibration_undoes_a_stretch_and_leaves_uncertain_images_out(images, cells):
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 2, 4000)
    label = (rng.random(4000) < 1 / (1 + np.exp(-log_odds))).astype(float)
    many = pd.DataFrame({"label.finding_reports.abnormal": label})
    many["probability.finding_reports-net-1.abnormal"] = 1 / (1 + np.exp(-(2 * log_odds + 1)))
    doubtful = many.assign(**{"label.finding_reports.abnormal": -1.0})
    fitted = finding_study.recalibration(ARM, pd.concat([many, doubtful], ignore_index=True))
    assert fitted.coef_[0, 0] == pytest.approx(0.5, abs=0.05)
    assert fitted.intercept_[0] == pytest.approx(-0.5, abs=0.1)

    got = finding_study.calibration_table(cells, ARM, fitted, PLACES, ["finding_radiologist", "nobody"])
    got = got.set_index(["probabilities", "measure"])
    label, score = by_hand(images, "finding_radiologist")
    assert got.at[("as it comes", "brier"), "estimate"] == pytest.approx(((score - label) ** 2).mean())
    slopes = got["estimate"].xs("calibration_slope", level="measure")
    assert slopes["recalibrated"] == pytest.approx(slopes["as it comes"] / fitted.coef_[0, 0], rel=1e-4)
    assert got.xs("calibration_error", level="measure")["low"].isna().all()


def test_ruling_out_carries_the_threshold_from_the_labels_trained_on(images, cells):
    threshold = finding_study.rule_out_threshold(ARM, images, 0.9)
    own, score = by_hand(images, "finding_reports")
    assert (score[own == 1] >= threshold).mean() == pytest.approx(0.9, abs=0.01)
    study = {"scored_against": ["finding_radiologist", "nobody"], "prevalences": [0.3]}
    got = finding_study.rule_out_table(cells, ARM, threshold, PLACES, study)
    label, score = by_hand(images, "finding_radiologist")
    got = got.set_index("measure")
    assert got.at["specificity", "estimate"] == pytest.approx((score[label == 0] < threshold).mean())
    assert (got["scored_against"] == "finding_radiologist").all() and (got["threshold"] == threshold).all()


def test_an_image_is_critical_by_any_of_the_findings(images):
    study = {"critical": ["nodule", "mass"], "critical_by": "panel"}
    study["desk"] = {"images_n": 10, "abnormal_frac": 0.3, "critical_frac": 0.1, "minutes": 1.0, "lists_n": 50}
    study["desk"]["resamples_n"] = 5
    critical = finding_study.critical(images, study)
    assert critical.sum() == 20 + 9  # the first 20, and every fortieth of the others
    got = finding_study.reading_table(images, ARM, 0.2, study, 1)
    assert set(got["order"]) == {"as they came", "highest score first", "ruled out last"}


def test_the_short_table_takes_the_internal_test_and_says_what_validation_could_not_choose():
    alone = {"low_patients": 0.1, "high_patients": 0.3, "comparison": "a - b"}
    differences = interval_rows(
        (0.2, np.nan, np.nan, {"test": "internal", "scored_against": "finding_x", "validation_rarer_n": 10, **alone}),
        (0.2, 0.15, 0.25, {"test": "internal", "scored_against": "finding_x", "validation_rarer_n": 9, **alone}),
        (0.9, 0.8, 1.0, {"test": "external", "scored_against": "finding_x", "validation_rarer_n": 10, **alone}),
        (0.9, 0.8, 1.0, {"test": "internal", "scored_against": "finding_y", "validation_rarer_n": 10, **alone}),
    )
    got = finding_answers.about_training(differences, ["finding_x"])
    assert list(got["answer"]) == [
        "0.200 (0.100 to 0.300)",
        "not told: validation has 9 of the rarer class to choose an epoch by",
    ]
    assert got["question"][0] == "trained on the same images, a - b, scored by x: gain in AUC"
    work = {"measure": "work saved at prevalence 0.3", "scored_against": "finding_x"}
    rule_out = interval_rows(
        (0.5, 0.4, 0.6, {"test": "internal", **work}), (0.1, 0, 0.2, {"test": "external", **work})
    )
    wait = {"order": "highest score first", "measure": "gain, minutes to the first critical image"}
    study = {"desk": {"abnormal_frac": 0.3}, "rule_out_sensitivity": 0.95, "critical": ["pneumothorax"]}
    got = finding_answers.about_triage(
        rule_out, interval_rows((18.43, 11, 24, wait)), ["finding_x"], {**study, "critical_by": "panel"}
    )
    assert list(got["answer"]) == ["0.500 (0.400 to 0.600)", "18.4 (11.0 to 24.0)"]


# --- Report labelers ----------------------------------------------------------------------------------------------


def test_findings_with_borrowed_error_rates_stand_apart_in_simulated_reports_alone():
    findings = ["pneumothorax", "effusion", "airspace_opacity"]
    assert labeler_study.finding_groups(findings, simulated=False) == {"all": findings}
    groups = labeler_study.finding_groups(findings, simulated=True)
    assert groups["pneumothorax"] == ["pneumothorax"] and groups["borrowed rates"] == ["effusion"]
    assert next(iter(groups)) == "all"


def test_a_test_without_labels_of_both_sides_is_not_compared(images):
    drawn = resampling.patient_resamples(images["patient_id"], 50, np.random.default_rng(0))
    images = images.assign(**{"label.worse.abnormal": np.arange(N) % 2.0})
    tests = {"home": images, "unread": images.drop(columns="label.finding_radiologist.abnormal")}
    given = tests, dict.fromkeys(tests, drawn), ["abnormal"], "finding_radiologist"
    assert labeler_study.against(*given, ["nobody"]) == {}
    assert labeler_study.label_table({}, {}).empty and labeler_study.label_difference_table({}, {}, {"all": []}).empty
    compared = labeler_study.against(*given, ["worse", "finding_reports"])
    assert list(compared) == ["home"]
    assert set(labeler_study.label_table(compared, PLACES)["test"]) == {"internal"}
    groups = {"all": ["abnormal"], "some": ["abnormal"]}
    table = labeler_study.label_difference_table(compared, PLACES, groups).set_index("findings")
    assert table.at["all", "difference"] == "finding_reports - worse" and table.at["all", "estimate"] > 0
    assert table.at["all", "p_holm"] == table.at["all", "p"] and np.isnan(table.at["some", "p_holm"])


def test_each_seed_is_scored_by_itself(images, cells):
    arm = replace(ARM, target="labelers_rules")
    renamed = images.rename(columns=lambda c: c.replace("finding_reports-net", "labelers_rules-net"))
    got = labeler_study.seed_table(
        crossing.Cells({"home": renamed}, cells.resamples), [arm], PLACES, "finding_radiologist"
    )
    for seed in ARM.seeds:
        expected = roc_auc_score(*by_hand(images, "finding_radiologist", seed))
        assert got.at[("rules", "internal"), seed] == pytest.approx(expected)


def test_a_difference_is_called_more_than_chance_by_holms_p():
    rest = {"test": "internal", "reason": "too few", "smallest": 0.123}
    table = interval_rows(
        (0.1, 0.05, 0.15, {"comparison": "a - b", "p_holm": 0.049, "p": 0.01, **rest}),
        (0.1, 0.05, 0.15, {"comparison": "b - c", "p_holm": 0.051, "p": 0.01, **rest}),
        (0.1, np.nan, np.nan, {"comparison": "c - d", "p_holm": np.nan, "p": np.nan, **rest}),
    )
    first, second, third = labeler_study.difference_sentences(table)
    assert first.endswith("Holm's p 0.049: more than chance")
    assert second.endswith(
        "indistinguishable from 0, and a difference below 0.123 would hardly show"
    ) and third.endswith("; too few")


def test_p_values_below_what_resamples_resolve_are_written_as_smaller():
    table = pd.DataFrame({"p": [1e-29, 1e-4, 0.25, np.nan], "p_holm": [0.0002, 1, 0.3, np.nan], "prevalence": 1e-9})
    got = displays.written(table)
    assert got["p"].tolist()[:3] == ["< 0.0001", "0.0001", "0.25"] and got["p"].isna()[3]
    assert got["p_holm"].equals(table["p_holm"]) and got["prevalence"].equals(table["prevalence"])
    lines = got.to_csv(index=False, float_format="%.6g").splitlines()
    assert lines[1:] == ["< 0.0001,0.0002,1e-09", "0.0001,1,1e-09", "0.25,0.3,1e-09", ",,1e-09"]
    assert table["p"][0] == 1e-29, "the table itself keeps what Holm's correction multiplies"


# --- Saliency maps ------------------------------------------------------------------------------------------------


def map_scores(grad_cam, mean_box, occlusion=(), finding="nodule", network="n"):
    """Return scores of one box an image and patient; `occlusion` is there for the first images alone."""
    each = {"grad_cam": grad_cam, "mean box": mean_box, "occlusion": occlusion, "chance": [0.1] * len(mean_box)}
    parts = [
        pd.DataFrame({"method": method, "pointing": values, "patient_id": range(len(values))})
        for method, values in each.items()
    ]
    table = pd.concat(parts, ignore_index=True).assign(network=network, finding=finding)
    table = table.assign(energy=table["pointing"] / 2, iou=table["pointing"] / 2, iobb=table["pointing"] / 2)
    return table.assign(image_id="i" + table["patient_id"].astype(str))


def test_boxes_of_one_finding_on_one_image_are_distinguished():
    table = pd.DataFrame({"image_id": ["i", "i", "i", "i"], "finding": ["mass", "mass", "nodule", "mass"]})
    got = saliency_study.numbered(table.assign(method=["a", "a", "a", "b"]), ["method"])
    assert list(got["box"]) == ["mass0", "mass1", "nodule0", "mass0"]


def test_a_gain_is_the_maps_less_the_mean_boxs_on_the_same_boxes():
    scores = map_scores([1.0] * 9 + [0.0] * 11, [0.0] * 10 + [1.0] * 10, occlusion=[1.0] * 12 + [0.0] * 3)
    scores = saliency_study.numbered(scores, ["network", "method"])
    got = saliency_study.hit_table(scores, ["grad_cam", "occlusion"], 200, 1)
    at = got.set_index(["method", "what"])
    assert at.at[("grad_cam", "pointing"), "estimate"] == 9 / 20
    assert at.at[("grad_cam", "pointing, gain"), "estimate"] == pytest.approx(-1 / 20)
    assert at.at[("occlusion", "pointing, gain"), "estimate"] == pytest.approx(12 / 15 - 5 / 15)
    assert at.at[("occlusion", "pointing, gain"), "boxes_n"] == 15
    assert ("mean box", "pointing, gain") not in at.index and set(got["finding"]) == {"nodule"}
    most = saliency_study.of_most_boxes(got)
    assert set(got["method"][most]) == {"grad_cam", "mean box", "chance"}
    assert at.at[("chance", "pointing"), "estimate"] == pytest.approx(0.1)
    known = pd.DataFrame({"network": ["n"], "estimate": [0.7]})
    (short,) = saliency_study.headline(got, known, {"n": "nodule"}, "grad_cam").to_dict("records")
    assert short["chance hits"] == "0.100" and short["mean box hits"].startswith("0.500 (")


def test_a_network_of_several_findings_is_also_scored_on_all_and_one_of_any_on_any():
    both = [map_scores([1.0] * 12, [0.0] * 12, finding=f) for f in ("nodule", "mass")]
    one_of_any = map_scores([1.0] * 12, [0.0] * 12, finding="any", network="m")
    scores = saliency_study.numbered(
        pd.concat([*both, one_of_any, *[s.assign(network="m") for s in both]]), ["method"]
    )
    assert saliency_study.scopes(scores) == {"n": "all", "m": "any"}
    got = saliency_study.hit_table(scores, ["grad_cam"], 50, 1)
    whole = got[(got["finding"] == "all") & (got["what"] == "pointing")]
    assert set(whole["network"]) == {"n"} and (whole["boxes_n"] == 24).all()


def test_each_stage_is_compared_with_the_mean_box_of_the_findings_it_was_drawn_for():
    scores = pd.concat([map_scores([0.0] * 12, [0.0] * 12), map_scores([0.0] * 12, [1.0] * 12, finding="mass")])
    scores = saliency_study.numbered(scores, ["network", "method"])
    maps = map_scores([1.0] * 12, []).drop(columns="method")
    layers = pd.concat(
        [maps.assign(layer="deep", cells=4, chosen=False), maps.assign(layer="mid", cells=8, chosen=True)]
    )
    layers.loc[layers["layer"] == "mid", "pointing"] = [1.0] * 9 + [0.0] * 3
    got = saliency_study.layer_table(layers, scores, 200, 1)
    at = got.set_index(["layer", "what"])
    assert "mean box" not in set(got["layer"]) and at.at[("mid", "pointing, gain"), "estimate"] == 0.75
    assert at.at[("mid", "pointing"), "cells"] == 8 and at.at[("chance", "pointing"), "cells"] == 1
    assert ("chance", "pointing, gain") not in at.index
    (said,) = saliency_study.layer_sentences(got)
    assert said == "n: ahead of the mean box are deep, mid. deep hits most (1.000), and the chosen mid hits 0.750."


def test_located_means_more_overlap_than_the_threshold():
    scores = map_scores([0.2] * 6 + [0.4] * 6, [0.0] * 12, finding="atelectasis")  # an overlap of 0.1 and 0.2
    got = saliency_study.located_table(pd.concat([scores, scores.assign(finding="any")]), 50, 1)
    assert set(got["finding"]) == {"atelectasis"}
    own = got[(got["method"] == "grad_cam") & (got["measure"] == "iou")].set_index("threshold")["estimate"]
    assert own[0.1] == 0.5 and (own[own.index >= 0.2] == 0).all()
    side = saliency_study.beside_published(saliency_study.with_published(got), "n", ["grad_cam"])
    assert side.loc[("iou", 0.1), ("atelectasis", "published")] > 0
    assert side.loc[("iou", 0.1), ("atelectasis", "grad_cam")] == 0.5


def likeness_of(size_again, size_permuted, n=20):
    """Return sanity rows of two other networks: rank correlations with the trained one's maps, one an image."""
    parts = [
        pd.DataFrame({"against": name, "rank_correlation": size, "patient_id": range(n)})
        for name, size in (("same labels, trained again", size_again), ("labels permuted", size_permuted))
    ]
    table = pd.concat(parts, ignore_index=True).assign(method="grad_cam", step=0, block="all", draw=0)
    table = table.assign(unrelated=-0.1, structural_similarity=0.5)
    return table.assign(image_id="i" + table["patient_id"].astype(str))


def test_a_map_and_its_negative_are_alike():
    got = saliency_study.likeness(likeness_of(-0.6, 0.2))
    assert got["size"][0] == 0.6 and got["unrelated"][0] == 0.1 and got["beyond"][0] == pytest.approx(0.5)


def test_images_whose_map_is_constant_in_a_draw_are_counted_and_left_out():
    rows = likeness_of(0.8, 0.2)
    drawn = pd.concat([rows.assign(draw=k, rank_correlation=rows["rank_correlation"] - 0.1 * k) for k in range(2)])
    drawn = drawn.reset_index(drop=True)
    first = drawn.index[drawn["against"] == "same labels, trained again"][0]
    drawn.loc[first, "rank_correlation"] = np.nan
    got = saliency_study.likeness_table(saliency_study.likeness(drawn), 50, 1)
    at = got.set_index(["against", "measure"]).loc[("same labels, trained again", "size")]
    assert (at["images_n"], at["constant_n"], at["draws_n"]) == (19, 1, 2)
    assert at["estimate"] == pytest.approx(0.75)
    assert (at["least_draw"], at["greatest_draw"]) == (pytest.approx(0.7), pytest.approx(0.8))


def test_maps_differ_from_those_of_shuffled_labels_only_if_they_resemble_the_same_labels_more():
    noise = np.linspace(-0.05, 0.05, 20)
    for again, permuted, says in ((0.8, 0.2, "distinguishes them"), (0.2, 0.8, "does not distinguish them")):
        alike = saliency_study.likeness(likeness_of(again + noise, permuted))
        (said,) = saliency_study.permuted_sentences(alike, 200, 1)
        assert (
            said.startswith(f"grad_cam: trained again less permuted {again - permuted:.3f}") and f": {says} (" in said
        )
    alone = saliency_study.likeness(likeness_of(0.8, 0.2)).query("against == 'labels permuted'")
    (said,) = saliency_study.permuted_sentences(alone, 200, 1)
    assert said == "grad_cam: permuted labels 0.200; the same labels were not trained twice."


def drain_rows(second_at_drain):
    """Return shares of maps at drain and pleura: the first target looks at both alike, in two seeds."""
    rng = np.random.default_rng(0)
    rows = [
        {"target": target, "seed": seed, "patient_id": k, "image_id": f"i{k}", "at": at, "energy": energy}
        for target, at_drain in (("people", 0.1), ("reports", second_at_drain))
        for seed in (1, 2)
        for k in range(15)
        for at, energy in (("chest_drain", at_drain * rng.uniform(0.9, 1.1)), ("pneumothorax", 0.1))
    ]
    return pd.DataFrame(rows).assign(method="grad_cam", pneumothorax=1, area_frac=0.05)


@pytest.mark.parametrize(("at_drain", "says"), [(0.3, "rather at the drain"), (0.02, "rather at the pleura")])
def test_the_second_network_less_the_first_at_the_drain(at_drain, says):
    shares, cold_n, both_n = saliency_study.drain_shares(drain_rows(at_drain))
    assert (cold_n, both_n) == (0, 60)
    pleura = shares[shares["at"] == "pneumothorax"]["value"]
    assert pleura.to_numpy() == pytest.approx(2.0)
    table = saliency_study.drain_table(shares, ["people", "reports"], 200, 1)
    at = table.set_index(["at", "network"])["estimate"]
    share = at["drain rather than pleura"]
    assert share["difference"] == pytest.approx(share["reports"] - share["people"])
    assert share["people"] == pytest.approx(0.5, abs=0.02) and set(table["pneumothorax"]) == {"there"}
    (said,) = saliency_study.drain_sentences(table)
    assert said.startswith("grad_cam: trained on reports less trained on radiologists") and said.endswith(f"{says}.")


def test_maps_cold_on_both_places_have_no_preference():
    rows = drain_rows(0.3)
    rows.loc[(rows["image_id"] == "i0") & (rows["seed"] == 1), "energy"] = 0.0
    shares, cold_n, both_n = saliency_study.drain_shares(rows)
    assert (cold_n, both_n) == (2, 60) and shares["value"].notna().all()
    table = saliency_study.drain_table(shares, ["people", "reports"], 50, 1).set_index("at")
    assert (table.loc["drain rather than pleura", "images_n"] == 14).all()
    assert (table.loc["chest_drain", "images_n"] == 15).all()


def test_where_no_cohort_shows_drains_the_table_is_empty():
    shares, _, both_n = saliency_study.drain_shares(drain_rows(0.3)[:0])
    table = saliency_study.drain_table(shares, ["people", "reports"], 50, 1)
    assert table.empty and both_n == 0 and saliency_study.drain_sentences(table) == []
    assert displays.wide(table, ["method", "at", "pneumothorax"], "network").empty


def test_what_a_network_knows_is_scored_by_the_labels_it_was_trained_on(images):
    study = {"runs": {"n": {"target": "finding_reports", "architecture": "net", "seed": 2, "split": "by_patient"}}}
    targets = {"finding_reports": {"label_set": "finding_reports", "findings": ["abnormal"]}}
    tables = {"by_patient": images.assign(split=["test"] * (N // 2) + ["valid"] * (N // 2))}
    (row,) = saliency_study.knowledge(tables, study, targets, 100, 1).to_dict("records")
    label, score = by_hand(images[: N // 2], "finding_reports", seed=2)
    assert row["estimate"] == pytest.approx(roc_auc_score(label, score)) and row["images_n"] == len(label)
    assert row["positives_n"] == label.sum() and intervals.text(row["estimate"], row["low"], row["high"])
