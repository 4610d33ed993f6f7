"""Scores of a network, from a plain CSV, against any label set.

    cxr score predictions.csv --labels nih_reports --by sex age_band
    cxr score ours.csv --labels labels.csv --compare theirs.csv --out scores/

Predictions: a row per image, `image_id` and a column per finding with its probability (docs/data.md).
"""

from functools import partial

import numpy as np
import pandas as pd

from cxrlib.statistics import accuracy, calibration, delong, intervals, resampling
from cxrlib.studies import auditing

ANY_SCORE = ("auc", "average_precision", "sensitivity_at_specificity")


PROBABILITIES = ("brier", "calibration_intercept", "calibration_slope", "calibration_error")


def measures(specificity):
    """Return the measures of scores by name."""
    found = {name: getattr(accuracy, name) for name in ANY_SCORE}
    found |= {name: getattr(calibration, name) for name in PROBABILITIES}
    return found | {"sensitivity_at_specificity": partial(_sensitivity, specificity)}


def _sensitivity(specificity, label, score, resamples=None):
    return accuracy.sensitivity_at_specificity(label, score, specificity, resamples)


def _prepared(label, score, images, finding):
    """Return labels, scores and patients of the images that have both, in the order of the scores."""
    there = score[finding].dropna()
    truth = label[finding].reindex(there.index)
    keep = truth.notna().to_numpy()
    patient = auditing.patients(images, there.index[keep])
    return truth.to_numpy()[keep], there.to_numpy()[keep], patient, there.index[keep]


def table(label, score, images, resamples_n, rng, specificity=0.9, by=()):
    """Return every measure of every finding, with 95 % intervals over patients.

    Parameters
    ----------
    label : pandas.DataFrame
        Indexed by `image_id`: 1, 0, NaN.
    score : pandas.DataFrame
        Indexed by `image_id`; NaN where an image has no score of a finding.
    images : pandas.DataFrame
        `image_id`, `patient_id` and attributes.
    resamples_n : int
    rng : numpy.random.Generator
    specificity : float
        For `sensitivity_at_specificity`, on these same images.
    by : sequence of str
        Attributes of `audit.groups`: the AUC in each group beside.

    Returns
    -------
    pandas.DataFrame
        `finding, by, group, images_n, patients_n, positives_n, measure, estimate, low, high, reason, difference,
        difference_low, difference_high, p, p_holm` and, for the AUC, DeLong's interval by image,
        `delong_low, delong_high`. Calibration is left out (NaN, with the reason) where scores leave [0, 1].
    """
    rows = []
    grouped = auditing.groups(images).set_index(images["image_id"]) if by else None
    for finding in auditing.shared_findings(label, score):
        truth, scores, patient, ids = _prepared(label, score, images, finding)
        if not len(truth):
            print(f"{finding}: no image has both a score and a label; it is left out")
            continue
        resamples = resampling.patient_resamples(patient, resamples_n, rng)
        counts = {
            "images_n": len(truth),
            "patients_n": len(np.unique(resamples.patient)),
            "positives_n": int(truth.sum()),
        }
        few = intervals.too_few_of_either(truth, resamples)
        outside = bool(((scores < 0) | (scores > 1)).any())
        for name, measure in measures(specificity).items():
            row = {"finding": finding, "by": "all", "group": "all", **counts, "measure": name}
            if outside and name in PROBABILITIES:
                row |= intervals.Interval(np.nan, np.nan, np.nan, "scores lie outside [0, 1]")._asdict()
            elif few and name != "brier":
                row |= intervals.Interval(measure(truth, scores), np.nan, np.nan, few)._asdict()
            else:
                row |= intervals.estimate(measure, truth, scores, resamples)._asdict()
            if name == "auc":
                areas, covariance = delong.delong(truth, scores)
                reach = 1.959963984540054 * np.sqrt(covariance[0, 0])
                row |= {"delong_low": areas[0] - reach, "delong_high": areas[0] + reach}
            rows.append(row)
        for name in by:
            found = intervals.by_subgroup(accuracy.auc, truth, scores, grouped[name].reindex(ids), resamples)
            rows += found.drop(columns="p_holm").assign(finding=finding, by=name, measure="auc").to_dict("records")
    if not rows:
        raise ValueError("No finding has a score and a label on the same image.")
    out = pd.DataFrame(rows)
    if by:
        out["p_holm"] = intervals.holm(out["p"])
    return out


def compared(label, score_a, score_b, images, resamples_n, rng):
    """Return paired AUC differences a - b by finding, on the images that both models scored.

    Returns
    -------
    pandas.DataFrame
        `finding, images_n, patients_n, positives_n, auc_a, auc_b, estimate, low, high, p, reason, p_holm,
        smallest, delong_p, delong_clustered_p`; `smallest` is what this test set shows with 80 % power.
    """
    rows = []
    for finding in auditing.shared_findings(label, score_a):
        if finding not in score_b:
            continue
        both = score_a[finding].dropna().index.intersection(score_b[finding].dropna().index)
        truth, a, patient, ids = _prepared(label, score_a.loc[both], images, finding)
        b = score_b.loc[ids, finding].to_numpy()
        if not len(truth):
            print(f"{finding}: no image has a label and both scores; it is left out")
            continue
        resamples = resampling.patient_resamples(patient, resamples_n, rng)
        few = intervals.too_few_of_either(truth, resamples)
        each = accuracy.auc(truth, a, resamples) - accuracy.auc(truth, b, resamples)
        areas = accuracy.auc(truth, a), accuracy.auc(truth, b)
        rows.append(
            {
                "finding": finding,
                "images_n": len(truth),
                "patients_n": len(np.unique(resamples.patient)),
                "positives_n": int(truth.sum()),
                "auc_a": areas[0],
                "auc_b": areas[1],
                **intervals.compared(areas[0] - areas[1], each, few),
                "delong_p": np.nan if few else delong.delong_test(truth, a, b).p,
                "delong_clustered_p": np.nan if few else delong.delong_test(truth, a, b, patient).p,
            }
        )
    if not rows:
        raise ValueError("No finding is in the labels and in both models' predictions.")
    out = pd.DataFrame(rows)
    return out.assign(p_holm=intervals.holm(out["p"]))
