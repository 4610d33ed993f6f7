"""Scores of a network, from a plain CSV, against any label set.

    python -m cxrlib.score predictions.csv --labels nih_reports --by sex age_band
    python -m cxrlib.score ours.csv --labels labels.csv --compare theirs.csv --out scores/

Predictions: a row per image, `image_id` and a column per finding with its probability (docs/data.md).
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib import audit, labelsets, stats

ANY_SCORE = ("auc", "average_precision", "sensitivity_at_specificity")
PROBABILITIES = ("brier", "calibration_intercept", "calibration_slope", "calibration_error")


def measures(specificity):
    """Return the measures of scores by name."""
    found = {name: getattr(stats, name) for name in (*ANY_SCORE, *PROBABILITIES)}
    return found | {"sensitivity_at_specificity": partial(_sensitivity, specificity)}


def _sensitivity(specificity, label, score, resamples=None):
    return stats.sensitivity_at_specificity(label, score, specificity, resamples)


def _prepared(label, score, images, finding):
    """Return labels, scores and patients of the images that have both, in the order of the scores."""
    there = score[finding].dropna()
    truth = label[finding].reindex(there.index)
    keep = truth.notna().to_numpy()
    patient = audit.patients(images, there.index[keep])
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
    grouped = audit.groups(images).set_index(images["image_id"]) if by else None
    for finding in audit.shared_findings(label, score):
        truth, scores, patient, ids = _prepared(label, score, images, finding)
        if not len(truth):
            print(f"{finding}: no image has both a score and a label; it is left out")
            continue
        resamples = stats.patient_resamples(patient, resamples_n, rng)
        counts = {
            "images_n": len(truth),
            "patients_n": len(np.unique(resamples.patient)),
            "positives_n": int(truth.sum()),
        }
        few = stats.too_few_of_either(truth, resamples)
        outside = bool(((scores < 0) | (scores > 1)).any())
        for name, measure in measures(specificity).items():
            row = {"finding": finding, "by": "all", "group": "all", **counts, "measure": name}
            if outside and name in PROBABILITIES:
                row |= stats.Interval(np.nan, np.nan, np.nan, "scores lie outside [0, 1]")._asdict()
            elif few and name != "brier":
                row |= stats.Interval(measure(truth, scores), np.nan, np.nan, few)._asdict()
            else:
                row |= stats.estimate(measure, truth, scores, resamples)._asdict()
            if name == "auc":
                areas, covariance = stats.delong(truth, scores)
                reach = 1.959963984540054 * np.sqrt(covariance[0, 0])
                row |= {"delong_low": areas[0] - reach, "delong_high": areas[0] + reach}
            rows.append(row)
        for name in by:
            found = stats.by_subgroup(stats.auc, truth, scores, grouped[name].reindex(ids), resamples)
            rows += found.drop(columns="p_holm").assign(finding=finding, by=name, measure="auc").to_dict("records")
    if not rows:
        raise ValueError("No finding has a score and a label on the same image.")
    out = pd.DataFrame(rows)
    if by:
        out["p_holm"] = stats.holm(out["p"])
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
    for finding in audit.shared_findings(label, score_a):
        if finding not in score_b:
            continue
        both = score_a[finding].dropna().index.intersection(score_b[finding].dropna().index)
        truth, a, patient, ids = _prepared(label, score_a.loc[both], images, finding)
        b = score_b.loc[ids, finding].to_numpy()
        if not len(truth):
            print(f"{finding}: no image has a label and both scores; it is left out")
            continue
        resamples = stats.patient_resamples(patient, resamples_n, rng)
        few = stats.too_few_of_either(truth, resamples)
        each = stats.auc(truth, a, resamples) - stats.auc(truth, b, resamples)
        areas = stats.auc(truth, a), stats.auc(truth, b)
        rows.append(
            {
                "finding": finding,
                "images_n": len(truth),
                "patients_n": len(np.unique(resamples.patient)),
                "positives_n": int(truth.sum()),
                "auc_a": areas[0],
                "auc_b": areas[1],
                **stats.compared(areas[0] - areas[1], each, few),
                "delong_p": np.nan if few else stats.delong_test(truth, a, b).p,
                "delong_clustered_p": np.nan if few else stats.delong_test(truth, a, b, patient).p,
            }
        )
    if not rows:
        raise ValueError("No finding is in the labels and in both models' predictions.")
    out = pd.DataFrame(rows)
    return out.assign(p_holm=stats.holm(out["p"]))


# --- command line ---------------------------------------------------------------------------------------------------


def _read(path, label, what):
    """Return scores of the images that have a label, and what the file knows of the images."""
    score, images, notes = labelsets.read_own(path, scores=True)
    print(*notes, sep="\n", end="\n" if notes else "")
    all_n = len(score)
    score = audit.matched(score.set_index("image_id"), label.index)
    images = audit.matched(images.set_index("image_id"), label.index).reset_index()
    score = score[score.index.isin(label.index)]
    print(f"{all_n} images in {path}, {all_n - len(score)} of them without a label and left out")
    unknown = [f for f in score.columns if f not in label.columns]
    if unknown:
        print(f"Not in {what}, so not scored: {', '.join(unknown)}")
    return score, images[images["image_id"].isin(label.index)]


def _specificity(text):
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no fraction between 0 and 1")
    return value


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m cxrlib.score", description=__doc__.splitlines()[0])
    parser.add_argument("predictions", type=Path, help="CSV: image_id and a probability per finding")
    parser.add_argument("--labels", required=True, help="a name of the catalogue, or a CSV")
    parser.add_argument("--compare", type=Path, help="another model's predictions: paired differences")
    parser.add_argument("--specificity", type=_specificity, default=0.9, help="a fraction, 0.9 by default")
    audit.common_options(parser)
    parser.add_argument("--out", type=Path, help="folder to write scores.csv and differences.csv into")
    chosen = parser.parse_args(arguments)
    try:
        label, images = audit.opened(chosen.labels, chosen.policy, chosen.blank)
        score, own = _read(chosen.predictions, label, chosen.labels)
        images = audit.merged(own, images)
        rng = np.random.default_rng(chosen.seed)
        found = table(label, score, images, chosen.resamples, rng, chosen.specificity, chosen.by)
        audit.tell(found, images, chosen.by)
        both = None
        if chosen.compare:
            other, _ = _read(chosen.compare, label, chosen.labels)
            both = compared(label, score, other, images, chosen.resamples, rng)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    with pd.option_context("display.width", 250, "display.max_columns", 20, "display.max_rows", 500):
        whole = found[found["by"] == "all"]
        shown = whole.assign(text=[stats.text(r.estimate, r.low, r.high) for r in whole.itertuples()])
        keys = ["finding", "images_n", "patients_n", "positives_n"]
        print(shown.pivot(index=keys, columns="measure", values="text")[list(measures(0.9))].to_string())
        if chosen.by:
            hidden = ["measure", "reason", "delong_low", "delong_high"]
            print(found[found["by"] != "all"].drop(columns=hidden).round(3).to_string(index=False))
        if both is not None:
            print(both.drop(columns="reason").round(4).to_string(index=False))
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        found.to_csv(chosen.out / "scores.csv", index=False)
        if both is not None:
            both.to_csv(chosen.out / "differences.csv", index=False)


if __name__ == "__main__":
    main()
