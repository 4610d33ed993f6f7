"""The study of finding or no finding (notebook 22): its published numbers, and its tables, figures and answers.

`twins` are two arms trained on splits with the same test images, one by image and one by patient.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from cxrlib.base import figures, label_tables
from cxrlib.statistics import accuracy, calibration, intervals
from cxrlib.studies import case_tables, crossing, displays, triage

FINDING = "abnormal"  # the name of "any finding" in label sets and targets

# Zhang et al. 2019, on as many test images of either class as `PUBLISHED_N` says.
PUBLISHED = {
    ("finding", "precision"): 0.885,
    ("finding", "recall"): 0.898,
    ("finding", "F1"): 0.891,
    ("no finding", "precision"): 0.894,
    ("no finding", "recall"): 0.880,
    ("no finding", "F1"): 0.887,
    ("both", "auc"): 0.96,
}
PUBLISHED_N = {"finding": 1018, "no finding": 995}

_MEASURES = {"ppv": "precision", "sensitivity": "recall", "f1": "F1"}  # name in `accuracy.rates` -> in the paper
_CALIBRATION = (
    calibration.brier,
    calibration.calibration_intercept,
    calibration.calibration_slope,
    calibration.calibration_error,
)
_AS_IT_COMES, _RECALIBRATED = "as it comes", "recalibrated"


def implied_counts(published=PUBLISHED, sizes=PUBLISHED_N):
    """Return the one confusion matrix that rounded precision and recall of both classes leave, a dict of TP to FP.

    Parameters
    ----------
    published : Mapping of (class, measure) to float
        Three decimals.
    sizes : Mapping of class to int
        Test images of each class.

    Raises
    ------
    ValueError
        If no matrix fits the numbers, or more than one does.
    """
    with_n, without_n = sizes["finding"], sizes["no finding"]
    found, free = (
        [n for n in range(size + 1) if round(n / size, 3) == published[name, "recall"]]
        for name, size in (("finding", with_n), ("no finding", without_n))
    )
    fitting = [
        {"TP": tp, "FN": with_n - tp, "TN": tn, "FP": without_n - tn}
        for tp in found
        for tn in free
        if round(tp / max(tp + without_n - tn, 1), 3) == published["finding", "precision"]
        and round(tn / max(tn + with_n - tp, 1), 3) == published["no finding", "precision"]
    ]
    if len(fitting) != 1:
        raise ValueError(f"{len(fitting)} confusion matrices give the published numbers: check them for misprints.")
    return fitting[0]


def twin_test(by_image, by_patient):
    """Return the case table of the test images that two splits share, with the predictions of both.

    Parameters
    ----------
    by_image, by_patient : pandas.DataFrame
        Case tables of the two splits.

    Returns
    -------
    pandas.DataFrame
        What both have is taken from `by_patient`, so `patient_trained_on` is False throughout.

    Raises
    ------
    ValueError
        If their test images differ, or the split by patient leaks.
    """
    mixed, apart = (t.query("split == 'test'").reset_index(drop=True) for t in (by_image, by_patient))
    if not mixed["image_id"].equals(apart["image_id"]):
        raise ValueError("The twin splits have different test images: make both splits and their case tables again.")
    if apart["patient_trained_on"].any():
        image = apart["image_id"][apart["patient_trained_on"]].iloc[0]
        raise ValueError(f"The split by patient leaks: the patient of test image {image!r} was trained on.")
    return pd.concat([apart, mixed[mixed.columns.difference(apart.columns)]], axis=1)


def shares(test):
    """Return how many images of a case table each label set calls abnormal, and of how many it says anything."""
    said = [c for c in test if c.startswith("label.") and c.endswith(f".{FINDING}")]
    return pd.DataFrame(
        {
            c.split(".")[1]: {
                "images_n": int(test[c].isin((0, 1)).sum()),
                "abnormal_frac": test[c].where(test[c] >= 0).mean(),
            }
            for c in said
        }
    ).T


def _labelled(table, label_set):
    """Return a label set's word on finding or none (n,), and which images it is certain of (n,)."""
    label = table[case_tables.label(label_set, FINDING)].to_numpy(float)
    return label, np.isin(label, (0, 1))


def _probability(table, run):
    return table[case_tables.probability(run, FINDING)]


def equal_count_threshold(label, scores):
    """Return the threshold at which as many images are called as have a finding.

    Parameters
    ----------
    label : (n,) array
        1 finding, 0 none; others are left out.
    scores : (n,) array
    """
    keep = np.isin(label, (0, 1))
    return np.quantile(np.asarray(scores)[keep], 1 - (label == 1).sum() / keep.sum())


def at_equal_counts(arm, valid, test, scored_by, resamples):
    """Return rates of both classes at validation's threshold of equal counts, and the first seed's counts.

    Parameters
    ----------
    arm : crossing.Arm
    valid, test : pandas.DataFrame
        Case tables; the threshold is chosen on `valid`, by the labels that the arm was trained on.
    scored_by : str
        Label set of the test images.
    resamples : resampling.Resamples
        Of the test images.

    Returns
    -------
    table : pandas.DataFrame
        `class, measure, estimate, low, high, reason`: precision, recall and F1, means over seeds.
    counts : dict
        TP, FN, TN, FP of the first seed.
    """
    own, _ = _labelled(valid, arm.label_set)
    label, keep = _labelled(test, scored_by)
    label, part = label[keep], resamples.of(keep)
    few, found, counts = intervals.too_few_of_either(label, part), {"finding": [], "no finding": []}, {}
    for key in arm.runs():
        threshold = equal_count_threshold(own, _probability(valid, key))
        called = (_probability(test, key).to_numpy(float)[keep] >= threshold).astype(float)
        for name, (y, c) in {"finding": (label, called), "no finding": (1 - label, 1 - called)}.items():
            found[name].append((accuracy.rates(y, c), accuracy.rates(y, c, part)))
        counts = counts or {
            name: int(((label == y) & (called == c)).sum())
            for name, y, c in (("TP", 1, 1), ("FN", 1, 0), ("TN", 0, 0), ("FP", 0, 1))
        }
    rows = []
    for name, each in found.items():
        for measure, said in _MEASURES.items():
            drawn = np.mean([replicates[measure] for _, replicates in each], 0)
            value = intervals.area_over_seeds([rates[measure] for rates, _ in each], drawn, few)
            rows.append({"class": name, "measure": said, **value._asdict()})
    return pd.DataFrame(rows), counts


def as_published(twins, valid, cells, cohort, scored_by):
    """Return what the paper reports, for each split: rates of both classes, AUC, and the first seed's counts.

    Parameters
    ----------
    twins : Mapping of str to crossing.Arm
        By split.
    valid : Mapping of str to pandas.DataFrame
        Case tables of validation images, by split.
    cells : crossing.Cells
    cohort, scored_by : str

    Returns
    -------
    table : pandas.DataFrame
        `split, class, measure, estimate, low, high, reason`.
    counts : dict of dict
        As `at_equal_counts`, by split.
    """
    parts, counts = [], {}
    for split, arm in twins.items():
        given = cells.tests[cohort], scored_by, cells.resamples[cohort]
        rates, counts[split] = at_equal_counts(arm, valid[split], *given)
        area = cells.auc(arm, cohort, scored_by)
        area = {"class": "both", "measure": "auc", **{k: area[k] for k in intervals.Interval._fields}}
        part = pd.concat([rates, pd.DataFrame([area])], ignore_index=True)
        part.insert(0, "split", split)
        parts.append(part)
    return pd.concat(parts, ignore_index=True), counts


def published_values(table):
    """Return the published number for each row of `as_published`, a list."""
    return [PUBLISHED[key] for key in zip(table["class"], table["measure"], strict=True)]


def leak_sentence(leak, seen):
    """Return what it is worth to have seen a patient, in words.

    Parameters
    ----------
    leak : pandas.DataFrame
        Of `comparisons.leak_table`; its last row is the leak.
    seen : (n,) bool
        Test images of patients trained on.
    """
    whole = leak.iloc[-1]
    both = np.isfinite(whole["low"])
    low, high = whole[["low", "high"]] if both else whole[["low_patients", "high_patients"]]
    says = f"the interval {'excludes' if low > 0 or high < 0 else 'does not exclude'} 0"
    who = "other patients and other seeds" if both else "other patients, these networks"
    return (
        f"To have seen a patient is worth {whole['estimate']:+.3f} in AUC ({low:.3f} to {high:.3f}, {who}): "
        f"{says if np.isfinite(low) else whole['reason']}. "
        f"{seen.mean():.0%} of the test images are of patients whom the by-image network was trained on."
    )


def normals_figure(table, scored_against):
    """Return a figure of AUCs, a panel a test, coloured by who scored it; the network of shuffled labels is left out.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `comparisons.auc_table`.
    scored_against : sequence of str
        All label sets, in the order of their colours.
    """
    panels = list(table[table["trained_on"] != "permuted"].groupby("test", sort=False))
    height = 1.2 + 0.24 * max(len(part) for _, part in panels)
    shape = {"width": 5.5 * len(panels), "height": height, "squeeze": False, "sharex": True}
    fig, axes = figures.figure(1, len(panels), **shape)
    for axis, (place, part) in zip(axes.flat, panels, strict=True):
        part = part.sort_values("scored_against", kind="stable")
        by = part["scored_against"]
        names = "scored by " + by.str.removeprefix("finding_") + "; trained on " + part["trained_on"]
        colours = [figures.shade(name, scored_against) for name in by]
        figures.forest(axis, displays.forest_lines(part, names, colours), reference=0.5)
        axis.set_title(f"AUC, {place} test")
    return fig


def _relabelled(cells, arm, cohort, first, second):
    """Return one network's AUC by one label set less that by another, on the images that both assess, or None."""
    columns = [case_tables.label(name, FINDING) for name in (first, second)]
    table = cells.tests[cohort]
    if not set(columns) <= set(table):
        return None
    both = table[columns].isin((0, 1)).all(axis=1)
    shared = crossing.Cells({cohort: table[both].reset_index(drop=True)}, {cohort: cells.resamples[cohort].of(both)})
    found = shared.between_labels(arm, cohort, first, second)
    areas = [shared.auc(arm, cohort, name) for name in (first, second)] if found else []
    return found and {"by_first": areas[0]["estimate"], "by_second": areas[1]["estimate"], **found}


def rescored_table(cells, arms, places, first, second):
    """Return what the choice of labels does: AUC by one label set less that by another, on images that both assess.

    Parameters
    ----------
    cells : crossing.Cells
    arms : sequence of crossing.Arm
    places : Mapping of str to str
        Test cohort -> what to call it; one where a label set is missing has no row.
    first, second : str
        Label sets.

    Returns
    -------
    pandas.DataFrame
        `test, by, less_by, trained_on, by_first, by_second`, then as `crossing.Cells.between_labels`.
    """
    return pd.DataFrame(
        {"test": place, "by": first, "less_by": second, "trained_on": arm.label_set, **value}
        for arm in arms
        for cohort, place in places.items()
        if (value := _relabelled(cells, arm, cohort, first, second)) is not None
    )


def curated_table(cells, arms, places, curated):
    """Return what the choice of cases does: AUC on a curated label set's images less that on all of its origin's.

    Parameters
    ----------
    cells, arms, places
        See `rescored_table`.
    curated : Mapping of str to str
        Label set -> the one that it is a part of.

    Returns
    -------
    pandas.DataFrame
        `test, curated, part_of, trained_on`, then as `crossing.Cells.between_labels`.
    """
    return pd.DataFrame(
        {"test": place, "curated": part, "part_of": origin, "trained_on": arm.label_set, **value}
        for part, origin in curated.items()
        for arm in arms
        for cohort, place in places.items()
        if (value := cells.between_labels(arm, cohort, part, origin)) is not None
    )


def curated_sentences(table, trained_on):
    """Return a sentence for each row of `curated_table` about the network of those training labels, a list."""
    out = []
    for r in table[table["trained_on"] == trained_on].itertuples():
        ends = f"({r.low:.3f} to {r.high:.3f}, other patients and seeds)"
        if not np.isfinite(r.low):
            ends = f"({r.low_patients:.3f} to {r.high_patients:.3f}, these networks)"
        if not np.isfinite(r.low_patients):
            ends = f"({r.reason})"
        sets = f"{r.curated} ({r.first_n} images) less {r.part_of} ({r.second_n})"
        out.append(f"{sets}: AUC {r.estimate:+.3f} {ends}")
    return out


def rarer_class_n(target, valid):
    """Return how many validation images a target has of its rarer class: its best epoch was chosen on them.

    Parameters
    ----------
    target : Mapping
        An entry of `targets` in `params.yaml`.
    valid : Mapping of str to pandas.DataFrame
        Case tables of validation images, by split.
    """
    own, names = valid[target.get("split", "main")], [target["label_set"], *target["same_images_as"]]
    labels = [label_tables.apply_policy(own[case_tables.label(n, FINDING)], target["policy"]) for n in names]
    there = ~np.isnan(labels).any(axis=0)
    return int(min((labels[0][there] == value).sum() for value in (0, 1)))


def _logit(p):
    """Return log odds as one column, (n, 1); probabilities of 0 and 1 are moved inward."""
    p = p.clip(calibration.LOGIT_BOUND, 1 - calibration.LOGIT_BOUND)
    return np.log(p / (1 - p)).to_numpy()[:, None]


def recalibration(arm, valid):
    """Return the logistic regression of the labels trained on over the first seed's log odds, fitted.

    Parameters
    ----------
    arm : crossing.Arm
    valid : pandas.DataFrame
        Case table of validation images; uncertain labels are left out.
    """
    label, keep = _labelled(valid, arm.label_set)
    logits = _logit(_probability(valid, arm.runs()[0])[keep]).astype(float)  # in float32 processors differ visibly
    return LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(logits, label[keep].astype(int))


def _probabilities(table, arm, fitted):
    """Return the first seed's probabilities, as they come and recalibrated, a dict of (n,) arrays."""
    p = _probability(table, arm.runs()[0])
    return {_AS_IT_COMES: p.to_numpy(float), _RECALIBRATED: fitted.predict_proba(_logit(p))[:, 1]}


def calibration_table(cells, arm, fitted, places, scored_against):
    """Return measures of calibration on every test, by every label set that assesses it, before and after.

    Parameters
    ----------
    cells : crossing.Cells
    arm : crossing.Arm
        Its first seed is taken.
    fitted : sklearn.linear_model.LogisticRegression
        Of `recalibration`.
    places : Mapping of str to str
    scored_against : sequence of str

    Returns
    -------
    pandas.DataFrame
        `test, scored_against, probabilities, measure, estimate, low, high, reason`.
    """
    rows = []
    for cohort, place in places.items():
        for name, p in _probabilities(cells.tests[cohort], arm, fitted).items():
            for scored_by in (s for s in scored_against if cells.has(arm, cohort, s)):
                label, keep = _labelled(cells.tests[cohort], scored_by)
                part = cells.resamples[cohort].of(keep).first(500)
                few = intervals.too_few_of_either(label[keep], part)
                for measure in _CALIBRATION:
                    value = intervals.estimate(measure, label[keep], p[keep], part)
                    if few or measure is calibration.calibration_error:
                        value = intervals.Interval(value.estimate, np.nan, np.nan, few or "resampling raises it")
                    where = {"test": place, "scored_against": scored_by, "probabilities": name}
                    rows.append({**where, "measure": measure.__name__, **value._asdict()})
    return pd.DataFrame(rows)


def reliability_figure(cells, arm, fitted, cohort, scored_against):
    """Return a figure of the share with a finding by probability, before and after; one line a label set.

    Label sets of too few patients are left out; for the arguments see `calibration_table`.
    """
    table = cells.tests[cohort]
    fig, axes = figures.figure(1, 2, width=9.5, height=4)
    for axis, (kind, p) in zip(axes, _probabilities(table, arm, fitted).items(), strict=True):
        axis.plot([0, 1], [0, 1], ":", color="#bbbbbb", linewidth=0.8)
        for scored_by in (s for s in scored_against if cells.has(arm, cohort, s)):
            label, keep = _labelled(table, scored_by)
            if not intervals.too_few_of_either(label[keep], cells.resamples[cohort].of(keep)):
                curve, shade = calibration.reliability(label[keep], p[keep]), figures.shade(scored_by, scored_against)
                axis.plot(*curve, "o-", color=shade, markersize=4, label=scored_by)
        axis.set(xlabel="mean probability", ylabel="share with a finding", title=kind, xlim=(0, 1), ylim=(0, 1))
    axes[1].legend(fontsize=8, title="scored by", loc="center left", bbox_to_anchor=(1.02, 0.5))
    return fig


def rule_out_threshold(arm, valid, sensitivity):
    """Return the first seed's threshold of that sensitivity on validation images, by the labels trained on."""
    label, keep = _labelled(valid, arm.label_set)
    return triage.threshold_at_sensitivity(label[keep], _probability(valid, arm.runs()[0])[keep], sensitivity)


def rule_out_table(cells, arm, threshold, places, study):
    """Return what ruling out below a threshold does on every test, by every label set that assesses it.

    Parameters
    ----------
    cells : crossing.Cells
    arm : crossing.Arm
        Its first seed is taken.
    threshold : float
    places : Mapping of str to str
    study : Mapping
        `scored_against`, `prevalences`.

    Returns
    -------
    pandas.DataFrame
        As `triage.rule_out`, and `test, scored_against, threshold`.
    """
    parts = []
    for cohort, place in places.items():
        table, resamples = cells.tests[cohort], cells.resamples[cohort]
        for scored_by in (s for s in study["scored_against"] if cells.has(arm, cohort, s)):
            label, keep = _labelled(table, scored_by)
            given = label[keep], _probability(table, arm.runs()[0])[keep], threshold, study["prevalences"]
            part = triage.rule_out(*given, resamples.of(keep))
            parts.append(part.assign(test=place, scored_against=scored_by, threshold=threshold))
    return pd.concat(parts, ignore_index=True)


def critical(test, study):
    """Return which images of a case table have a critical finding, (n,) Series of bool.

    Parameters
    ----------
    test : pandas.DataFrame
    study : Mapping
        `critical` (findings) and `critical_by` (a label set).
    """
    return test[[case_tables.label(study["critical_by"], f) for f in study["critical"]]].eq(1).any(axis=1)


def reading_table(test, arm, threshold, study, seed):
    """Return how long critical images wait in lists of test images, as `triage.reading_list`.

    Parameters
    ----------
    test : pandas.DataFrame
        Case table.
    arm : crossing.Arm
        Its first seed's scores, and the labels that it was trained on.
    threshold : float
        Of ruling out.
    study : Mapping
        `critical`, `critical_by`, `desk`.
    seed : int
    """
    desk = {name: value for name, value in study["desk"].items() if name != "resamples_n"}
    return triage.reading_list(
        _labelled(test, arm.label_set)[0],
        critical(test, study),
        _probability(test, arm.runs()[0]),
        threshold,
        test["patient_id"],
        triage.Desk(**desk),
        study["desk"]["resamples_n"],
        np.random.default_rng(seed),
    )
