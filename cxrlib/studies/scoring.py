"""Scores of a network, from a plain CSV, by any label set, and by two label sets on the same images.

    cxr score predictions.csv --labels nih_reports --by sex age_band
    cxr score mine.csv --labels labels.csv --compare theirs.csv --out scores/
    cxr score predictions.csv --labels google_adjudicated nih_reports

Predictions: a row per image, `image_id` and a column per finding with its probability (docs/data.md).
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import norm

from cxrlib.base import progress, vocabulary
from cxrlib.statistics import accuracy, calibration, delong, intervals, resampling
from cxrlib.studies import auditing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    Measured = tuple[dict[str, dict], dict[str, np.ndarray]]

ANY_SCORE = ("auc", "average_precision", "sensitivity_at_specificity")


PROBABILITIES = ("brier", "calibration_intercept", "calibration_slope", "calibration_error")


def measures(specificity: float) -> dict[str, Callable]:
    """Return the measures of scores by name."""
    found = {name: getattr(accuracy, name) for name in ANY_SCORE}
    found |= {name: getattr(calibration, name) for name in PROBABILITIES}
    return found | {"sensitivity_at_specificity": partial(_sensitivity, specificity)}


def _sensitivity(
    specificity: float, label: np.ndarray, score: np.ndarray, resamples: resampling.Resamples | None = None
) -> Any:
    return accuracy.sensitivity_at_specificity(label, score, specificity, resamples)


def _prepared(
    label: pd.DataFrame, score: pd.DataFrame, images: pd.DataFrame, finding: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, pd.Index]:
    """Return labels, scores and patients of the images that have both, in the order of the scores."""
    there = score[finding].dropna()
    truth = label[finding].reindex(there.index)
    keep = truth.notna().to_numpy()
    patient = auditing.patients(images, there.index[keep])
    return truth.to_numpy()[keep], there.to_numpy()[keep], patient, there.index[keep]


@contextlib.contextmanager
def _bar(steps_n: int, desc: str) -> Iterator[Callable]:
    """Give a function that is to be called after each step; a bar is shown where a person looks at the terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with progress.bar(None, total=steps_n, desc=desc) as bar:
        yield bar.update


def derived(score: pd.DataFrame, label: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return scores with those findings added that stand for several, where the labels have one and the scores none.

    Its score is the highest among its parts (`vocabulary.ANY_OF`), as its label is present if any part's is. An image
    without a score of every part has none.

    Parameters
    ----------
    score, label : pandas.DataFrame
        Findings as columns.

    Returns
    -------
    score : pandas.DataFrame
    notes : list of str
        A sentence for each finding that was derived, and for each that lacks only some of its parts.
    """
    score, notes = score.copy(), []
    for finding, parts in vocabulary.ANY_OF.items():
        lacking = [part for part in parts if part not in score]
        if finding in score or finding not in label or len(lacking) == len(parts):
            continue
        if lacking:
            notes.append(f"{finding} is not derived from its parts: there is no score of {', '.join(lacking)}.")
            continue
        score[finding] = score[list(parts)].max(axis=1, skipna=False)
        notes.append(
            f"{finding} is derived: its score is the highest of {', '.join(parts)}, which ranks images but is no "
            "calibrated probability."
        )
    return score, notes


def _measured(
    truth: np.ndarray,
    scores: np.ndarray,
    resamples: resampling.Resamples,
    named: Mapping[str, Callable],
    tick: Callable,
) -> Measured:
    """Return each measure's estimate with its interval and standard error, and its replicates, by name."""
    few = intervals.too_few_of_either(truth, resamples)
    outside = bool(((scores < 0) | (scores > 1)).any())
    rows: dict[str, dict]
    replicates: dict[str, np.ndarray]
    rows, replicates = {}, {}
    for name, measure in named.items():
        row: dict[str, Any] = {"measure": name, "se": np.nan}
        if outside and name in PROBABILITIES:
            row |= intervals.Interval(np.nan, np.nan, np.nan, "scores lie outside [0, 1]")._asdict()
        elif few and name != "brier":
            row |= intervals.Interval(measure(truth, scores), np.nan, np.nan, few)._asdict()
        else:
            replicates[name] = measure(truth, scores, resamples=resamples)
            row |= intervals.interval(measure(truth, scores), replicates[name])._asdict()
            if np.isfinite(row["low"]):
                row["se"] = float(np.nanstd(replicates[name], ddof=1))
        if name == "auc":
            areas, covariance = delong.delong(truth, scores)
            reach = norm.ppf(0.975) * np.sqrt(covariance[0, 0])
            row |= {"delong_low": areas[0] - reach, "delong_high": areas[0] + reach}
        rows[name] = row
        tick()
    return rows, replicates


def _counted(truth: np.ndarray, resamples: resampling.Resamples) -> dict[str, int]:
    return {
        "images_n": len(truth),
        "patients_n": len(np.unique(resamples.patient)),
        "positives_n": int(truth.sum()),
    }


def _grouped(
    truth: np.ndarray,
    scores: np.ndarray,
    ids: pd.Index,
    grouped: Any,
    by: Sequence[str],
    resamples: resampling.Resamples,
) -> list[dict]:
    """Return the AUC in each group of images, a row each."""
    rows = []
    for name in by:
        found = intervals.by_subgroup(accuracy.auc, truth, scores, grouped[name].reindex(ids), resamples)
        rows += found.drop(columns="p_holm").assign(by=name, measure="auc").to_dict("records")
    return rows


def _finished(rows: list[dict], specificity: float, by: Sequence[str]) -> pd.DataFrame:
    """Return rows as a table, with the specificity where it applies and, with groups, Holm's p-values."""
    out = pd.DataFrame(rows)
    out["specificity"] = np.where(out["measure"] == "sensitivity_at_specificity", specificity, np.nan)
    if by:
        out["p_holm"] = intervals.holm(out["p"])
    return out


def table(
    label: pd.DataFrame,
    score: pd.DataFrame,
    images: pd.DataFrame,
    resamples_n: int,
    rng: np.random.Generator,
    specificity: float = 0.9,
    by: Sequence[str] = (),
) -> pd.DataFrame:
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
        Attributes of `auditing.groups`: the AUC in each group too.

    Returns
    -------
    pandas.DataFrame
        `finding, by, group, images_n, patients_n, positives_n, measure, se, estimate, low, high, reason, difference,
        difference_low, difference_high, p, p_holm`, `se` being the standard deviation over resamples; for the AUC
        also DeLong's interval by image, `delong_low, delong_high`; and the `specificity` of the sensitivity at it.
        Calibration is left out (NaN, with the reason) where scores leave [0, 1].
    """
    rows, named, unscored = [], measures(specificity), []
    grouped = auditing.groups(images).set_index(images["image_id"]) if by else None
    findings = auditing.shared_findings(label, score)
    with _bar(len(findings) * len(named), "scoring") as tick:
        for finding in findings:
            truth, scores, patient, ids = _prepared(label, score, images, finding)
            if not len(truth):
                unscored.append(finding)
                continue
            resamples = resampling.patient_resamples(patient, resamples_n, rng)
            found, _ = _measured(truth, scores, resamples, named, tick)
            counts = {"finding": finding, "by": "all", "group": "all", **_counted(truth, resamples)}
            rows += [{**counts, **row} for row in found.values()]
            rows += [{"finding": finding, **row} for row in _grouped(truth, scores, ids, grouped, by, resamples)]
    for finding in unscored:
        print(f"{finding}: no image has both a score and a label; it is left out")
    if not rows:
        raise ValueError("No finding has a score and a label on the same image.")
    return _finished(rows, specificity, by)


def by_two_label_sets(
    labels: Mapping[str, pd.DataFrame],
    score: pd.DataFrame,
    images: pd.DataFrame,
    resamples_n: int,
    rng: np.random.Generator,
    specificity: float = 0.9,
    by: Sequence[str] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores of one network by two label sets on the same images, and their paired differences.

    Of each finding, the images are those with a score and a label of both sets. Both sides are resampled with the
    same patients.

    Parameters
    ----------
    labels : dict of str to pandas.DataFrame
        Two label sets by name, as `table` takes one.
    score, images, resamples_n, rng, specificity, by
        As in `table`.

    Returns
    -------
    scores : pandas.DataFrame
        As `table` returns them, with the label set in `labels`.
    differences : pandas.DataFrame
        `finding, measure, specificity, images_n, patients_n, positives_a_n, positives_b_n, estimate_a, estimate_b,
        estimate, low, high, p, reason, smallest, p_holm`: the first label set's minus the second's; `smallest` is
        what this test set shows with 80 % power, and Holm's family is the findings of a measure.
    """
    (name_a, label_a), (name_b, label_b) = labels.items()
    findings = [f for f in auditing.shared_findings(label_a, score) if f in label_b]
    if not findings:
        raise ValueError(f"No finding is in {name_a}, in {name_b} and in the predictions.")
    rows, differences, unscored, named = [], [], [], measures(specificity)
    grouped = auditing.groups(images).set_index(images["image_id"]) if by else None
    with _bar(2 * len(findings) * len(named), "scoring") as tick:
        for finding in findings:
            truth_b = label_b[finding].dropna()
            both = label_a[finding].where(truth_b.reindex(label_a.index).notna()).to_frame()
            truth_a, scores, patient, ids = _prepared(both, score, images, finding)
            if not len(truth_a):
                unscored.append(finding)
                continue
            resamples = resampling.patient_resamples(patient, resamples_n, rng)
            sides = []
            for name, truth in ((name_a, truth_a), (name_b, truth_b.reindex(ids).to_numpy())):
                found, replicates = _measured(truth, scores, resamples, named, tick)
                counts = {"finding": finding, "by": "all", "group": "all", **_counted(truth, resamples)}
                rows += [{"labels": name, **counts, **row} for row in found.values()]
                groups = _grouped(truth, scores, ids, grouped, by, resamples)
                rows += [{"labels": name, "finding": finding, **row} for row in groups]
                sides.append((counts, found, replicates))
            differences += _differences(finding, *sides)
    for finding in unscored:
        print(f"{finding}: no image has a score and a label of both sets; it is left out")
    if not rows:
        raise ValueError("No finding has a score and a label of both sets on the same image.")
    out = _finished(differences, specificity, ())
    out["p_holm"] = out.groupby("measure")["p"].transform(intervals.holm)
    return _finished(rows, specificity, by), out


def _differences(finding: str, side_a: tuple, side_b: tuple) -> list[dict]:
    """Return the rows of one finding: each measure by the first label set minus the same by the second."""
    (counts_a, found_a, replicates_a), (counts_b, found_b, replicates_b) = side_a, side_b
    rows = []
    for name, a in found_a.items():
        b = found_b[name]
        row = {
            "finding": finding,
            "measure": name,
            "images_n": counts_a["images_n"],
            "patients_n": counts_a["patients_n"],
            "positives_a_n": counts_a["positives_n"],
            "positives_b_n": counts_b["positives_n"],
            "estimate_a": a["estimate"],
            "estimate_b": b["estimate"],
        }
        gap = a["estimate"] - b["estimate"]
        if np.isfinite(a["low"]) and np.isfinite(b["low"]):
            row |= intervals.compared(gap, replicates_a[name] - replicates_b[name])
        else:
            row |= intervals.Test(gap, np.nan, np.nan, np.nan, a["reason"] or b["reason"])._asdict()
            row |= {"smallest": np.nan}
        rows.append(row)
    return rows


def compared(
    label: pd.DataFrame,
    score_a: pd.DataFrame,
    score_b: pd.DataFrame,
    images: pd.DataFrame,
    resamples_n: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return paired AUC differences a - b by finding, on the images that both models scored.

    Returns
    -------
    pandas.DataFrame
        `finding, images_n, patients_n, positives_n, auc_a, auc_b, estimate, low, high, p, reason, p_holm,
        smallest, delong_p, delong_clustered_p`; `smallest` is what this test set shows with 80 % power.
    """
    rows, unscored = [], []
    findings = [finding for finding in auditing.shared_findings(label, score_a) if finding in score_b]
    with _bar(len(findings), "comparing") as tick:
        for finding in findings:
            both = score_a[finding].dropna().index.intersection(score_b[finding].dropna().index)
            truth, a, patient, ids = _prepared(label, score_a.loc[both], images, finding)
            b = score_b.loc[ids, finding].to_numpy()
            if not len(truth):
                unscored.append(finding)
                continue
            resamples = resampling.patient_resamples(patient, resamples_n, rng)
            few = intervals.too_few_of_either(truth, resamples)
            each = accuracy.auc(truth, a, resamples) - accuracy.auc(truth, b, resamples)
            areas = accuracy.auc(truth, a), accuracy.auc(truth, b)
            with warnings.catch_warnings(
                action="ignore", category=RuntimeWarning
            ):  # of resamples with one class only
                gap = intervals.compared(areas[0] - areas[1], each, few)
            rows.append(
                {
                    "finding": finding,
                    **_counted(truth, resamples),
                    "auc_a": areas[0],
                    "auc_b": areas[1],
                    **gap,
                    "delong_p": np.nan if few else delong.delong_test(truth, a, b).p,
                    "delong_clustered_p": np.nan if few else delong.delong_test(truth, a, b, patient).p,
                }
            )
            tick()
    for finding in unscored:
        print(f"{finding}: no image has a label and both scores; it is left out")
    if not rows:
        raise ValueError("No finding is in the labels and in both models' predictions.")
    out = pd.DataFrame(rows)
    return out.assign(p_holm=intervals.holm(out["p"]))
