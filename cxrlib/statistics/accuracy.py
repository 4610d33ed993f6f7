"""Statistics of labels and scores. The patient is the sampling unit.

Every measure takes labels and scores (or decisions) of the same images and returns a number; given `resamples`
as well, it returns that number in each bootstrap resample of patients, (b,). One set of resamples, made once,
serves all models, label sets and measures of a study: comparisons are paired by construction.

    resamples = patient_resamples(patient_id, 2000, rng)
    estimate(auc, label, score, resamples)                    # Interval: estimate, low, high, reason
    paired(auc, label, score_a, score_b, resamples)           # Test: estimate, low, high, p, reason

What is undefined (one class only, nothing called) is NaN with its reason; what is wrong (NaN scores, labels other
than 0 and 1, probabilities outside [0, 1]) is a ValueError that names the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cxrlib.statistics import resampling

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike


def auc(label: ArrayLike, score: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return the area under the ROC curve, ties counted half; NaN where one class is absent.

    Parameters
    ----------
    label : (n,) array of 0/1
    score : (n,) array of float
        Any scale: only the order counts.
    resamples : Resamples, optional

    Returns
    -------
    float, or (b,) float64 with resamples
    """
    label, score = resampling.clean_scores(label, score)
    positives, negatives = np.flatnonzero(label), np.flatnonzero(~label)
    negatives = negatives[np.argsort(score[negatives], kind="stable")]
    beaten = np.searchsorted(score[negatives], score[positives], "left")
    not_above = np.searchsorted(score[negatives], score[positives], "right")

    def of_some(part: resampling.Resamples) -> np.ndarray:
        below = resampling.cumulated(part.weights(negatives))
        positive = part.weights(positives)
        twice = np.take(below, beaten, axis=1)
        twice += np.take(below, not_above, axis=1)
        return np.einsum("bi,bi->b", positive, twice) / (2 * positive.sum(1) * below[:, -1])

    return resampling.in_each(resamples, len(label), of_some)


def average_precision(label: ArrayLike, score: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return the area under the precision-recall curve as a step function (sklearn's); arguments as `auc`."""
    label, score = resampling.clean_scores(label, score)
    positives, negatives = np.flatnonzero(label), np.flatnonzero(~label)
    positives = positives[np.argsort(-score[positives], kind="stable")]
    negatives = negatives[np.argsort(-score[negatives], kind="stable")]
    true_n = np.searchsorted(-score[positives], -score[positives], "right")  # at or above each positive
    false_n = np.searchsorted(-score[negatives], -score[positives], "right")

    def of_some(part: resampling.Resamples) -> np.ndarray:
        positive = part.weights(positives)
        true = np.take(resampling.cumulated(positive), true_n, axis=1)
        false = np.take(resampling.cumulated(part.weights(negatives)), false_n, axis=1)
        gained = np.where(positive > 0, positive * true / (true + false), 0).sum(1)
        return gained / positive.sum(1)

    return resampling.in_each(resamples, len(label), of_some)


def sensitivity_at_specificity(
    label: ArrayLike, score: ArrayLike, specificity: float, resamples: resampling.Resamples | None = None
) -> Any:
    """Return the sensitivity at the lowest threshold that reaches a specificity on the same images.

    For operating points choose the threshold on validation images instead (`threshold_at_specificity`).
    """
    label, score = resampling.clean_scores(label, score)
    positives, negatives = np.flatnonzero(label), np.flatnonzero(~label)
    positives = positives[np.argsort(score[positives], kind="stable")]
    negatives = negatives[np.argsort(score[negatives], kind="stable")]
    last_of_tie = np.searchsorted(score[negatives], score[negatives], "right")
    missed_n = np.searchsorted(score[positives], score[negatives], "right")  # positives not above each negative

    def of_some(part: resampling.Resamples) -> np.ndarray:
        below, missed = resampling.cumulated(part.weights(negatives)), resampling.cumulated(part.weights(positives))
        reached = below[:, last_of_tie] >= specificity * below[:, -1:] - 1e-9
        at = np.argmax(reached, axis=1) if len(negatives) else np.zeros(len(part), int)
        each = np.arange(len(part))
        kept = 1 - missed[each, missed_n[at]] / missed[:, -1] if len(negatives) else np.full(len(part), np.nan)
        return np.where((below[:, -1] > 0) & (specificity > 0), kept, np.where(below[:, -1] > 0, 1.0, np.nan))

    return resampling.in_each(resamples, len(label), of_some)


def threshold_at_specificity(label: ArrayLike, score: ArrayLike, specificity: float) -> float:
    """Return the lowest threshold at which `score >= threshold` is that specific on these images.

    Choose it on validation images and carry it to the test set. It lies one float64 step above a score, and is
    a NumPy scalar, so that float32 scores are compared with it in float64.
    """
    label, score = resampling.clean_scores(label, score)
    negatives = np.sort(score[~label])
    if not len(negatives):
        return np.nan
    allowed = int(np.floor((1 - specificity) * len(negatives) + 1e-9))  # negatives that may be called
    if allowed >= len(negatives):
        return np.float64(-np.inf)
    return np.nextafter(negatives[len(negatives) - 1 - allowed], np.inf)


def roc_on_grid(
    label: ArrayLike, score: ArrayLike, resamples: resampling.Resamples, specificities: ArrayLike
) -> np.ndarray:
    """Return sensitivity at each specificity in each resample, (b, k): a band is its quantiles."""
    label, score = resampling.clean_scores(label, score)
    order = np.argsort(-score, kind="stable")
    positive = label[order]
    ends = np.flatnonzero(np.r_[np.diff(-score[order]) > 0, True])
    fpr_wanted = np.round(1 - np.asarray(specificities), 12)  # 1 - 0.9 is not 1/10: it would miss the step there
    out = np.empty((len(resamples), len(fpr_wanted)))
    for b in range(len(resamples)):
        w = resamples.with_counts(resamples.counts[b : b + 1]).weights(order)[0]
        tp, fp = np.cumsum(np.where(positive, w, 0))[ends], np.cumsum(np.where(positive, 0, w))[ends]
        if tp[-1] == 0 or fp[-1] == 0:
            out[b] = np.nan
            continue
        out[b] = np.interp(fpr_wanted, np.r_[0, np.round(fp / fp[-1], 12)], np.r_[0, tp / tp[-1]])
    return out


def rates(label: Any, called: Any, resamples: resampling.Resamples | None = None) -> dict[str, Any]:
    """Return sensitivity, specificity, PPV, NPV, F1 and kappa of a decision against labels.

    Parameters
    ----------
    label, called : (n,) arrays of 0/1
    resamples : Resamples, optional

    Returns
    -------
    dict of float, or of (b,) float64 with resamples
        NaN where a denominator is 0.
    """
    label, called = resampling.clean_scores(label, called)
    if not np.isin(called, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(called, (0, 1)))[0])
        raise ValueError(f"decision {row} is {called[row]}: it must be 1 (called) or 0 (not called).")
    called = called == 1
    each = resampling.whole(len(label)) if resamples is None else resamples
    cells = (label & called, ~label & called, label & ~called, ~label & ~called)
    out = _rates_from_counts(*(each.totals(cell) for cell in cells))
    return {name: float(value[0]) for name, value in out.items()} if resamples is None else out


def _rates_from_counts(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> dict[str, np.ndarray]:
    """Return the rates of a 2 x 2 table, each an array (or a number) of the shape of the counts."""
    tp, fp, fn, tn = (np.asarray(x, float) for x in (tp, fp, fn, tn))
    total = tp + fp + fn + tn
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = ((tp + fn) * (tp + fp) + (tn + fp) * (tn + fn)) / total**2
        return {
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "kappa": ((tp + tn) / total - chance) / (1 - chance),
        }


def sensitivity(label: ArrayLike, called: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return the fraction of positives that are called."""
    return rates(label, called, resamples)["sensitivity"]


def missed(label: ArrayLike, called: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return the fraction of positives that are not called: disease reported as 'no finding'."""
    found = sensitivity(label, called, resamples)
    return 1 - found


def f1(label: ArrayLike, called: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return the harmonic mean of PPV and sensitivity; 0 if nothing present is called, NaN without either."""
    return rates(label, called, resamples)["f1"]


def kappa(label: ArrayLike, called: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return Cohen's kappa of two readings."""
    return rates(label, called, resamples)["kappa"]


def ppv_at_prevalence(sensitivity: ArrayLike, specificity: ArrayLike, prevalence: float) -> np.ndarray:
    """Return the precision that a test with these rates has where this fraction is positive (Bayes).

    Parameters
    ----------
    sensitivity, specificity : float or array, in [0, 1]
    prevalence : float in [0, 1]
    """
    sensitivity, specificity = np.asarray(sensitivity, float), np.asarray(specificity, float)
    called = sensitivity * prevalence + (1 - specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(called > 0, sensitivity * prevalence / called, np.nan)


def npv_at_prevalence(sensitivity: ArrayLike, specificity: ArrayLike, prevalence: float) -> np.ndarray:
    """Return the negative predictive value where this fraction is positive; arguments as `ppv_at_prevalence`."""
    return ppv_at_prevalence(specificity, sensitivity, 1 - prevalence)
