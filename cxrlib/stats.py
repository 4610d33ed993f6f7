"""Statistics of labels and scores. The patient is the sampling unit.

Every estimate here can be weighted by image. A bootstrap resample of patients is a vector of weights (how
often each image's patient was drawn), so one set of resamples, made once, serves all models, label sets and
measures of a study: comparisons are paired by construction.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests


class Interval(NamedTuple):
    """An estimate with its 95 % interval; NaN with a reason where it is undefined."""

    estimate: float
    low: float
    high: float
    reason: str = ""


class Test(NamedTuple):
    """A difference with its 95 % interval and two-sided p-value."""

    estimate: float
    low: float
    high: float
    p: float
    reason: str = ""


def _clean(label, score):
    """Return label as bool and score as float64, or raise a ValueError saying what is wrong with them."""
    label, score = np.asarray(label, float), np.asarray(score, float)
    if label.shape != score.shape:
        raise ValueError(f"{label.shape[0]} labels and {score.shape[0]} scores: they must be of the same images.")
    if np.isnan(score).any():
        raise ValueError(f"score {int(np.flatnonzero(np.isnan(score))[0])} is NaN: every image needs a score.")
    if not np.isin(label, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(label, (0, 1)))[0])
        raise ValueError(f"label {row} is {label[row]}: resolve uncertain and missing labels first.")
    return label == 1, score


# --- measures -------------------------------------------------------------------------------------------------


def auc(label, score):
    """Return the area under the ROC curve, ties counted half; NaN where one class is absent.

    Parameters
    ----------
    label : (n,) array of 0/1
    score : (n,) array of float
    """
    return float(_weighted_auc(*_clean(label, score), np.ones((1, len(label)), np.float32))[0])


def _weighted_auc(label, score, weights):
    """Return the AUC under each row of weights, (b,) float64.

    Sorted once; per row of weights only products and cumulative sums.
    """
    if not len(score):
        return np.full(len(weights), np.nan)
    order = np.argsort(score, kind="stable")
    score, positive = score[order], label[order]
    starts = np.flatnonzero(np.r_[True, np.diff(score) > 0])
    out = np.empty(len(weights))
    for start in range(0, len(weights), 64):
        w = weights[start : start + 64, order].astype(np.float64)
        p = np.add.reduceat(np.where(positive, w, 0), starts, axis=1)
        n = np.add.reduceat(np.where(positive, 0, w), starts, axis=1)
        below = np.cumsum(n, axis=1) - n / 2
        pairs = p.sum(1) * n.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            out[start : start + 64] = np.where(pairs > 0, (p * below).sum(1) / pairs, np.nan)
    return out


def threshold_at_specificity(label, score, specificity):
    """Return the lowest threshold at which `score >= threshold` is that specific on these images.

    Choose it on validation images and carry it to the test set. It lies one float64 step above a score, and is
    a NumPy scalar, so that float32 scores are compared with it in float64.
    """
    label, score = _clean(label, score)
    negatives = np.sort(score[~label])
    if not len(negatives):
        return np.nan
    allowed = int(np.floor((1 - specificity) * len(negatives) + 1e-9))  # negatives that may be called
    if allowed >= len(negatives):
        return np.float64(-np.inf)
    return np.nextafter(negatives[len(negatives) - 1 - allowed], np.inf)


def rates(label, called):
    """Return sensitivity, specificity, PPV, NPV and kappa of a decision against labels.

    Parameters
    ----------
    label, called : (n,) arrays of 0/1

    Returns
    -------
    dict of float
        NaN where a denominator is 0.
    """
    return {name: float(value[0]) for name, value in _weighted_rates(label, called, np.ones((1, len(label)))).items()}


def _weighted_rates(label, called, weights):
    label, called = _clean(label, called)
    if not np.isin(called, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(called, (0, 1)))[0])
        raise ValueError(f"decision {row} is {called[row]}: it must be 1 (called) or 0 (not called).")
    called = called == 1
    tp, fp, fn, tn = (
        weights @ (cell).astype(np.float64)
        for cell in (label & called, ~label & called, label & ~called, ~label & ~called)
    )
    total = tp + fp + fn + tn
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = ((tp + fn) * (tp + fp) + (tn + fp) * (tn + fn)) / total**2
        return {
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "kappa": ((tp + tn) / total - chance) / (1 - chance),
        }


def mean_rates(label, called, resamples):
    """Return `rates` in each resample, averaged over several decisions (one per training seed).

    Parameters
    ----------
    label : (n,) array of 0/1
    called : sequence of (n,) arrays of 0/1
    resamples : Resamples

    Returns
    -------
    dict of (b,) float64
    """
    each = [_weighted_rates(label, c, resamples.weights) for c in called]
    return {name: np.mean([rates[name] for rates in each], axis=0) for name in each[0]}


def ppv_at_prevalence(sensitivity, specificity, prevalence):
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


def roc_on_grid(label, score, weights, specificities):
    """Return sensitivity at each specificity under each row of weights, (b, k): a band is its quantiles."""
    label, score = _clean(label, score)
    order = np.argsort(-score, kind="stable")
    positive = label[order]
    ends = np.flatnonzero(np.r_[np.diff(-score[order]) > 0, True])
    fpr_wanted = np.round(1 - np.asarray(specificities), 12)  # 1 - 0.9 is not 1/10: it would miss the step there
    out = np.empty((len(weights), len(fpr_wanted)))
    for b, w in enumerate(weights):
        w = w[order].astype(np.float64)
        tp, fp = np.cumsum(np.where(positive, w, 0))[ends], np.cumsum(np.where(positive, 0, w))[ends]
        if tp[-1] == 0 or fp[-1] == 0:
            out[b] = np.nan
            continue
        out[b] = np.interp(fpr_wanted, np.r_[0, np.round(fp / fp[-1], 12)], np.r_[0, tp / tp[-1]])
    return out


# --- resampling -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of patients, as image weights.

    Attributes
    ----------
    weights : (b, n) float32
        How often the patient of each image was drawn.
    """

    weights: np.ndarray

    def of(self, chosen):
        """Return the same resamples seen by a subset of the images (boolean mask)."""
        return Resamples(self.weights[:, np.asarray(chosen)])


def patient_resamples(patient_id, resamples_n, rng):
    """Return resamples with replacement of whole patients.

    Parameters
    ----------
    patient_id : (n,) array
    resamples_n : int
    rng : numpy.random.Generator
    """
    _, patient = np.unique(np.asarray(patient_id, dtype=object).astype(str), return_inverse=True)
    patients_n = patient.max() + 1
    counts = rng.multinomial(patients_n, np.full(patients_n, 1 / patients_n), size=resamples_n)
    return Resamples(counts.astype(np.float32)[:, patient])


def interval(estimate, replicates, reason=""):
    """Return the percentile interval of bootstrap replicates; NaN if more than half are undefined.

    Undefined replicates are left out, and `reason` says how many: the interval then holds given that both
    classes were drawn.
    """
    good = replicates[np.isfinite(replicates)]
    if not np.isfinite(estimate) or len(good) < 0.5 * len(replicates):
        return Interval(np.nan, np.nan, np.nan, reason or "undefined: one class only, or nothing called")
    low, high = np.quantile(good, (0.025, 0.975))
    return Interval(float(estimate), float(low), float(high), reason or _left_out(good, replicates))


def _left_out(good, replicates):
    """Return a note of how many resamples were undefined, if any."""
    lost = len(replicates) - len(good)
    return f"{lost} of {len(replicates)} resamples undefined, left out" if lost else ""


def auc_replicates(label, score, resamples):
    """Return the AUC in each resample, (b,)."""
    return _weighted_auc(*_clean(label, score), resamples.weights)


def auc_interval(label, score, resamples):
    """Return the AUC with its patient-clustered percentile interval."""
    return interval(auc(label, score), auc_replicates(label, score, resamples))


def rate_intervals(label, called, resamples):
    """Return `rates`, each with its patient-clustered percentile interval."""
    replicates = _weighted_rates(label, called, resamples.weights)
    return {name: interval(value, replicates[name]) for name, value in rates(label, called).items()}


def difference(estimate, replicates):
    """Return a paired difference with percentile interval and two-sided bootstrap p-value.

    The p-value is twice the smaller tail of replicates at or beyond 0, at least 2 / (b + 1). Where all
    replicates are exactly 0 the two sides are the same and p is 1.
    """
    good = replicates[np.isfinite(replicates)]
    if not np.isfinite(estimate) or len(good) < 0.5 * len(replicates):
        return Test(np.nan, np.nan, np.nan, np.nan, "undefined: one class only")
    tail = min((good <= 0).sum(), (good >= 0).sum())
    low, high = np.quantile(good, (0.025, 0.975))
    p = min(1, 2 * (tail + 1) / (len(good) + 1))
    return Test(float(estimate), float(low), float(high), float(p), _left_out(good, replicates))


def holm(p):
    """Return p-values adjusted by Holm's method, NaN left as NaN (statsmodels)."""
    p = np.asarray(p, float)
    adjusted = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = multipletests(p[known], method="holm")[1]
    return adjusted


# --- DeLong ---------------------------------------------------------------------------------------------------


def _midranks(x):
    return pd.Series(x).rank(method="average").to_numpy()


def delong(label, scores, patient_id=None):
    """Return AUCs and their covariance: DeLong 1988, or its clustered form, Obuchowski 1997.

    Parameters
    ----------
    label : (n,) array of 0/1
    scores : (k, n) array
        One row per model, on the same images.
    patient_id : (n,) array, optional
        Clusters. With one image per patient the clustered covariance is DeLong's.

    Returns
    -------
    auc : (k,) float64
    covariance : (k, k) float64
        NaN where one class has fewer than two images (then the AUCs too) or, clustered, two patients.
    """
    scores = np.atleast_2d(np.asarray(scores, float))
    cleaned = [_clean(label, score) for score in scores]
    label = cleaned[0][0]
    m, n = int(label.sum()), int((~label).sum())
    if m < 2 or n < 2:
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    v10, v01 = np.empty((len(scores), m)), np.empty((len(scores), n))
    for k, score in enumerate(scores):
        positives, negatives = score[label], score[~label]
        ranks = _midranks(np.r_[positives, negatives])
        v10[k] = (ranks[:m] - _midranks(positives)) / n
        v01[k] = 1 - (ranks[m:] - _midranks(negatives)) / m
    areas = v10.mean(1)
    if patient_id is None:
        return areas, np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    names, cluster = np.unique(np.asarray(patient_id, dtype=object).astype(str), return_inverse=True)
    clusters_n = len(names)
    a, b = np.zeros((2, len(scores), clusters_n))
    for k in range(len(scores)):
        np.add.at(a[k], cluster[label], v10[k] - areas[k])
        np.add.at(b[k], cluster[~label], v01[k] - areas[k])
    with_positive = len(np.unique(cluster[label]))
    with_negative = len(np.unique(cluster[~label]))
    if min(with_positive, with_negative) < 2:
        return areas, np.full((len(scores), len(scores)), np.nan)
    s10 = with_positive / ((with_positive - 1) * m) * (a @ a.T)
    s01 = with_negative / ((with_negative - 1) * n) * (b @ b.T)
    s11 = clusters_n / (clusters_n - 1) * (a @ b.T)
    return areas, s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def delong_test(label, score_a, score_b, patient_id=None):
    """Return the difference of two AUCs (a - b) on the same images, by `delong`."""
    areas, covariance = delong(label, np.stack([score_a, score_b]), patient_id)
    gap = areas[0] - areas[1]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if not np.isfinite(variance):
        return Test(np.nan, np.nan, np.nan, np.nan, "undefined: fewer than two images or patients of one class")
    if variance <= 1e-14 * (covariance[0, 0] + covariance[1, 1]):  # 0 but for rounding
        if abs(gap) < 1e-12:
            return Test(0.0, 0.0, 0.0, 1.0)
        return Test(float(gap), np.nan, np.nan, np.nan, "undefined: the scores leave the variance 0")
    error = np.sqrt(variance)
    reach = norm.ppf(0.975) * error
    return Test(float(gap), float(gap - reach), float(gap + reach), float(2 * norm.sf(abs(gap) / error)))


def standard_error_from_interval(low, high):
    """Return the standard error that a published symmetric 95 % interval implies."""
    return (high - low) / (2 * norm.ppf(0.975))


def two_sided_p(z):
    """Return the two-sided p-value of a z statistic."""
    return float(2 * norm.sf(abs(z)))
