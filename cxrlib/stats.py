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

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import multivariate_normal, norm, rankdata
from scipy.stats import t as student
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


FEW_PATIENTS = 10  # a group of fewer gets no interval and no test: its resamples hardly differ


def too_few(patients):
    """Return the reason why something gets no interval, or an empty text.

    Parameters
    ----------
    patients : sequence of arrays
        The patients of each part that it rests on, one entry an image.
    """
    least = min(len(np.unique(part)) for part in patients)
    return f"no interval: it rests on {least} patients, fewer than {FEW_PATIENTS}" if least < FEW_PATIENTS else ""


def too_few_of_either(label, resamples):
    """Return why a measure of both classes gets no interval, or an empty text.

    Parameters
    ----------
    label : (n,) array of 0/1
    resamples : Resamples
        Of the same images.
    """
    label = np.asarray(label, float)
    return too_few([resamples.patient[label == 1], resamples.patient[label == 0]])


def exact_interval(estimate, patients):
    """Return the interval of a rate of exactly 0 or 1, of which resamples can say nothing: Clopper and Pearson's.

    Parameters
    ----------
    estimate : float
        0 or 1.
    patients : (k,) array
        Of the images in the denominator; each patient counts once, which is on the safe side.
    """
    n = len(np.unique(patients))
    reach = 0.025 ** (1 / n)
    low, high = (0.0, 1 - reach) if estimate == 0 else (reach, 1.0)
    return Interval(float(estimate), float(low), float(high), f"exact, {n} patients: every resample gives the same")


def text(estimate, low, high):
    """Return an estimate with its interval to read, three decimals."""
    if np.isnan(estimate):
        return "undefined"
    return f"{estimate:.3f}" if np.isnan(low) else f"{estimate:.3f} ({low:.3f} to {high:.3f})"


def _clean(label, score, probabilities=False):
    """Return label as bool and score as float64, or raise a ValueError saying what is wrong with them."""
    label, score = np.asarray(label, float), np.asarray(score, float)
    if label.shape != score.shape or label.ndim != 1:
        raise ValueError(f"{label.size} labels and {score.size} scores: they must be one each of the same images.")
    if np.isnan(score).any():
        raise ValueError(f"score {int(np.flatnonzero(np.isnan(score))[0])} is NaN: every image needs a score.")
    if not np.isin(label, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(label, (0, 1)))[0])
        raise ValueError(f"label {row} is {label[row]}: resolve uncertain and missing labels first.")
    outside = (score < 0) | (score > 1)
    if probabilities and outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"score {row} is {score[row]:g}: a probability lies in [0, 1] (only AUC, average precision and "
            "sensitivity at a specificity take any score)."
        )
    return label == 1, score


# --- resampling -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of patients.

    Attributes
    ----------
    counts : (b, patients_n) array
        How often each patient was drawn.
    patient : (n,) int
        Which patient each image is of.
    """

    counts: np.ndarray
    patient: np.ndarray

    def __len__(self):
        return len(self.counts)

    def of(self, chosen):
        """Return the same resamples seen by a subset of the images (boolean mask)."""
        return Resamples(self.counts, self.patient[np.asarray(chosen)])

    def first(self, b):
        """Return the first `b` resamples."""
        return Resamples(self.counts[:b], self.patient)

    def weights(self, images=slice(None)):
        """Return how often each image (or each of some, by position) is in each resample, (b, k) float64."""
        return np.take(self.counts, self.patient[images], axis=1).astype(np.float64)

    def totals(self, values):
        """Return the sum of a per-image value in each resample, (b,) float64."""
        by_patient = np.bincount(self.patient, np.asarray(values, np.float64), minlength=self.counts.shape[1])
        return self.counts @ by_patient

    def jackknife(self, groups_n=1000):
        """Return resamples that each leave out one patient, or one of `groups_n` groups of patients if fewer."""
        patients_n = self.counts.shape[1]
        group = np.arange(patients_n) % min(groups_n, patients_n)
        return Resamples((np.arange(group.max() + 1)[:, None] != group).astype(np.float32), self.patient)


def patient_resamples(patient_id, resamples_n, rng):
    """Return resamples with replacement of whole patients.

    Parameters
    ----------
    patient_id : (n,) array
    resamples_n : int
    rng : numpy.random.Generator
    """
    missing = np.flatnonzero(pd.isna(np.asarray(patient_id, dtype=object)))
    if len(missing):
        raise ValueError(f"the patient of image {missing[0]} is missing: images can be resampled by patient only.")
    _, patient = np.unique(np.asarray(patient_id, dtype=object).astype(str), return_inverse=True)
    patients_n = patient.max() + 1 if len(patient) else 1
    counts = rng.multinomial(patients_n, np.full(patients_n, 1 / patients_n), size=resamples_n)
    return Resamples(counts.astype(np.float32), patient)


def whole(images_n):
    """Return the one 'resample' that holds every image once."""
    return Resamples(np.ones((1, 1), np.float32), np.zeros(images_n, int))


def _in_each(resamples, images_n, of_some):
    """Return `of_some(part of the resamples)` for all of them, (b,), or as a float without resamples.

    Parts are small enough for a processor's cache; threads take them in turn. The result does not depend on
    how many there are.
    """
    if resamples is None:
        return float(_quiet(of_some, whole(images_n))[0])
    if len(resamples.patient) != images_n:
        raise ValueError(f"{images_n} labels and resamples of {len(resamples.patient)} images.")
    step = max(1, (1 << 18) // max(1, images_n))
    parts = [Resamples(resamples.counts[k : k + step], resamples.patient) for k in range(0, len(resamples), step)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        done = list(pool.map(lambda part: _quiet(of_some, part), parts))
    return np.concatenate(done) if done else np.empty(0)


def _quiet(of_some, part):
    with np.errstate(invalid="ignore", divide="ignore"):
        return of_some(part)


# --- measures of scores ---------------------------------------------------------------------------------------


def _cumulated(weights):
    """Return cumulative sums along axis 1, with a 0 before them."""
    out = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=out[:, 1:])
    return out


def auc(label, score, resamples=None):
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
    label, score = _clean(label, score)
    positives, negatives = np.flatnonzero(label), np.flatnonzero(~label)
    negatives = negatives[np.argsort(score[negatives], kind="stable")]
    beaten = np.searchsorted(score[negatives], score[positives], "left")
    not_above = np.searchsorted(score[negatives], score[positives], "right")

    def of_some(part):
        below = _cumulated(part.weights(negatives))
        positive = part.weights(positives)
        twice = np.take(below, beaten, axis=1)
        twice += np.take(below, not_above, axis=1)
        return np.einsum("bi,bi->b", positive, twice) / (2 * positive.sum(1) * below[:, -1])

    return _in_each(resamples, len(label), of_some)


def average_precision(label, score, resamples=None):
    """Return the area under the precision-recall curve as a step function (sklearn's); arguments as `auc`."""
    label, score = _clean(label, score)
    positives, negatives = np.flatnonzero(label), np.flatnonzero(~label)
    positives = positives[np.argsort(-score[positives], kind="stable")]
    negatives = negatives[np.argsort(-score[negatives], kind="stable")]
    true_n = np.searchsorted(-score[positives], -score[positives], "right")  # at or above each positive
    false_n = np.searchsorted(-score[negatives], -score[positives], "right")

    def of_some(part):
        positive = part.weights(positives)
        true = np.take(_cumulated(positive), true_n, axis=1)
        false = np.take(_cumulated(part.weights(negatives)), false_n, axis=1)
        gained = np.where(positive > 0, positive * true / (true + false), 0).sum(1)
        return gained / positive.sum(1)

    return _in_each(resamples, len(label), of_some)


def sensitivity_at_specificity(label, score, specificity, resamples=None):
    """Return the sensitivity at the lowest threshold that reaches a specificity on the same images.

    For operating points choose the threshold on validation images instead (`threshold_at_specificity`).
    """
    label, score = _clean(label, score)
    positives, negatives = np.flatnonzero(label), np.flatnonzero(~label)
    positives = positives[np.argsort(score[positives], kind="stable")]
    negatives = negatives[np.argsort(score[negatives], kind="stable")]
    last_of_tie = np.searchsorted(score[negatives], score[negatives], "right")
    missed_n = np.searchsorted(score[positives], score[negatives], "right")  # positives not above each negative

    def of_some(part):
        below, missed = _cumulated(part.weights(negatives)), _cumulated(part.weights(positives))
        reached = below[:, last_of_tie] >= specificity * below[:, -1:] - 1e-9
        at = np.argmax(reached, axis=1) if len(negatives) else np.zeros(len(part), int)
        each = np.arange(len(part))
        kept = 1 - missed[each, missed_n[at]] / missed[:, -1] if len(negatives) else np.full(len(part), np.nan)
        return np.where((below[:, -1] > 0) & (specificity > 0), kept, np.where(below[:, -1] > 0, 1.0, np.nan))

    return _in_each(resamples, len(label), of_some)


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


def roc_on_grid(label, score, resamples, specificities):
    """Return sensitivity at each specificity in each resample, (b, k): a band is its quantiles."""
    label, score = _clean(label, score)
    order = np.argsort(-score, kind="stable")
    positive = label[order]
    ends = np.flatnonzero(np.r_[np.diff(-score[order]) > 0, True])
    fpr_wanted = np.round(1 - np.asarray(specificities), 12)  # 1 - 0.9 is not 1/10: it would miss the step there
    out = np.empty((len(resamples), len(fpr_wanted)))
    for b in range(len(resamples)):
        w = Resamples(resamples.counts[b : b + 1], resamples.patient).weights(order)[0]
        tp, fp = np.cumsum(np.where(positive, w, 0))[ends], np.cumsum(np.where(positive, 0, w))[ends]
        if tp[-1] == 0 or fp[-1] == 0:
            out[b] = np.nan
            continue
        out[b] = np.interp(fpr_wanted, np.r_[0, np.round(fp / fp[-1], 12)], np.r_[0, tp / tp[-1]])
    return out


# --- measures of probabilities ---------------------------------------------------------------------------------


def brier(label, probability, resamples=None):
    """Return the mean squared difference between probability and label (Brier 1950); 0 is best."""
    label, probability = _clean(label, probability, probabilities=True)
    squared = (probability - label) ** 2
    return _in_each(resamples, len(label), lambda part: part.totals(squared) / part.totals(np.ones(len(label))))


LOGIT_BOUND = 1e-7  # probabilities nearer to 0 or 1 are taken as this near, since their logit is infinite


def calibration_intercept(label, probability, resamples=None):
    """Return calibration-in-the-large: the intercept of label on logit(probability) with slope 1.

    0 is best; above 0 the probabilities are too low. Cox 1958; Van Calster et al., BMC Med 2019;17:230.
    """
    return _recalibration(label, probability, resamples, with_slope=False)


def calibration_slope(label, probability, resamples=None):
    """Return the slope of label on logit(probability); 1 is best, below 1 the probabilities are too extreme."""
    return _recalibration(label, probability, resamples, with_slope=True)


def _recalibration(label, probability, resamples, with_slope):
    """Fit the logistic regression of labels on logits by Newton's method, in each resample."""
    label, probability = _clean(label, probability, probabilities=True)
    x = logit(np.clip(probability, LOGIT_BOUND, 1 - LOGIT_BOUND))
    start = (0.0, 1.0)

    def of_some(part, wanted=int(with_slope)):
        w = part.weights()
        wy = w * label
        a, b = np.full(len(w), start[0]), np.full(len(w), start[1])
        both = (wy.sum(1) > 0) & ((w - wy).sum(1) > 0)
        for _ in range(50):
            p = expit(a[:, None] + b[:, None] * x)
            v = w * p * (1 - p)
            residual = wy - w * p
            ga, haa = residual.sum(1), v.sum(1)
            if with_slope:
                vx = v * x
                gb, hab, hbb = residual @ x, vx.sum(1), vx @ x
                det = haa * hbb - hab**2
                da, db = (hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det
            else:
                da, db = ga / haa, np.zeros(len(w))
            limit = np.maximum(1, np.maximum(np.abs(da), np.abs(db)))  # no step longer than 1
            a, b = a + da / limit, b + db / limit
            if not (np.abs(da[both]) + np.abs(db[both]) > 1e-8).any():  # the next step would be below 1e-15
                break
        settled = both & (np.abs(da) + np.abs(db) < 1e-6)  # separated classes have no finite slope
        found = np.where(settled, a, np.nan), np.where(settled, b, np.nan)
        return found if wanted is None else found[wanted]

    if resamples is not None:  # resamples start from the whole sample's solution, which is near
        at = [float(value[0]) for value in _quiet(lambda part: of_some(part, None), whole(len(label)))]
        start = tuple(at) if np.isfinite(at).all() else start
    return _in_each(resamples, len(label), of_some)


def calibration_error(label, probability, resamples=None):
    """Return the Kolmogorov-Smirnov calibration error: no bins; 0 is best, in [0, 1].

    The greatest distance between the cumulative fraction of positives and the cumulative mean probability,
    images in the order of their probability (Gupta et al., ICLR 2021; ECCE-MAD of Arrieta-Ibarra et al., JMLR
    2022;23:351). A perfect model's error is not 0 but falls as 1/sqrt(n).
    """
    label, probability = _clean(label, probability, probabilities=True)
    order = np.argsort(probability, kind="stable")
    gap = label[order] - probability[order]
    ends = np.flatnonzero(np.r_[np.diff(probability[order]) > 0, True]) if len(order) else np.zeros(0, int)

    def of_some(part):
        w = part.weights(order)
        distance = np.abs(np.cumsum(w * gap, axis=1)[:, ends])
        return distance.max(1, initial=0) / w.sum(1)

    return _in_each(resamples, len(label), of_some)


def reliability(label, probability, bins_n=10):
    """Return mean probability and share of positives in bins of equally many images, for a reliability diagram.

    Returns
    -------
    predicted, observed : (k,) float64
        k <= bins_n: images of one probability are never divided.
    """
    label, probability = _clean(label, probability, probabilities=True)
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins_n + 1)[1:-1]))
    group = np.searchsorted(edges, probability, side="right")
    inside = np.bincount(group)
    there = inside > 0
    sums = (np.bincount(group, weights) for weights in (probability, label))
    return tuple(total[there] / inside[there] for total in sums)


# --- measures of decisions --------------------------------------------------------------------------------------


def rates(label, called, resamples=None):
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
    label, called = _clean(label, called)
    if not np.isin(called, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(called, (0, 1)))[0])
        raise ValueError(f"decision {row} is {called[row]}: it must be 1 (called) or 0 (not called).")
    called = called == 1
    each = whole(len(label)) if resamples is None else resamples
    cells = (label & called, ~label & called, label & ~called, ~label & ~called)
    out = rates_from_counts(*(each.totals(cell) for cell in cells))
    return {name: float(value[0]) for name, value in out.items()} if resamples is None else out


def rates_from_counts(tp, fp, fn, tn):
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


def sensitivity(label, called, resamples=None):
    """Return the fraction of positives that are called."""
    return rates(label, called, resamples)["sensitivity"]


def missed(label, called, resamples=None):
    """Return the fraction of positives that are not called: disease reported as 'no finding'."""
    found = sensitivity(label, called, resamples)
    return 1 - found


def f1(label, called, resamples=None):
    """Return the harmonic mean of PPV and sensitivity; 0 if nothing present is called, NaN without either."""
    return rates(label, called, resamples)["f1"]


def kappa(label, called, resamples=None):
    """Return Cohen's kappa of two readings."""
    return rates(label, called, resamples)["kappa"]


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


def npv_at_prevalence(sensitivity, specificity, prevalence):
    """Return the negative predictive value where this fraction is positive; arguments as `ppv_at_prevalence`."""
    return ppv_at_prevalence(specificity, sensitivity, 1 - prevalence)


# --- intervals and tests ------------------------------------------------------------------------------------------


def estimate(measure, label, score, resamples, method="percentile", **options):
    """Return a measure with its 95 % interval over patients.

    Parameters
    ----------
    measure : Callable
        One of this module, or any with its signature.
    label, score : (n,) arrays
    resamples : Resamples
        Of the same images.
    method : {"percentile", "bca"}
        BCa corrects for bias and skewness (Efron 1987), with a jackknife over patients.
    **options
        Further arguments of the measure.
    """
    value = measure(label, score, **options)
    replicates = measure(label, score, resamples=resamples, **options)
    if method == "percentile":
        return interval(value, replicates)
    return bca_interval(value, replicates, measure(label, score, resamples=resamples.jackknife(), **options))


def paired(measure, label, score_a, score_b, resamples, method="percentile", **options):
    """Return the difference a - b of a measure between two models on the same images and resamples.

    The p-value is that of the percentile bootstrap by either method: a BCa interval may just disagree with it.
    """
    values = [measure(label, score, **options) for score in (score_a, score_b)]
    each = [measure(label, score, resamples=resamples, **options) for score in (score_a, score_b)]
    test = difference(values[0] - values[1], each[0] - each[1])
    if method == "percentile":
        return test
    left = [measure(label, score, resamples=resamples.jackknife(), **options) for score in (score_a, score_b)]
    low_high = bca_interval(values[0] - values[1], each[0] - each[1], left[0] - left[1])
    return test._replace(low=low_high.low, high=low_high.high)


def interval(estimate, replicates, few=""):
    """Return the percentile interval of bootstrap replicates; NaN if more than half are undefined.

    Undefined replicates are left out, and `reason` says how many: the interval then holds given that both
    classes were drawn.

    Parameters
    ----------
    estimate : float
    replicates : (b,) array
    few : str
        Why the estimate gets no interval (`too_few`), or an empty text.
    """
    if few:
        return Interval(float(estimate), np.nan, np.nan, few)
    good = replicates[np.isfinite(replicates)]
    if not np.isfinite(estimate) or len(good) < 0.5 * len(replicates):
        return Interval(np.nan, np.nan, np.nan, "undefined: one class only, or nothing called")
    low, high = np.quantile(good, (0.025, 0.975))
    return Interval(float(estimate), float(low), float(high), _left_out(good, replicates))


def mean(values, resamples):
    """Return the mean of one value an image, with its interval.

    Parameters
    ----------
    values : (n,) float
    resamples : Resamples
        Of the same images. Of fewer than `FEW_PATIENTS` patients there is no interval, nor where every value is
        the same; where every value is 0, or every value 1, it is the exact one.
    """
    values = np.asarray(values, float)
    if len(values) == 0:
        return Interval(np.nan, np.nan, np.nan, "there is no image")
    estimate, few = float(values.mean()), too_few([resamples.patient])
    if few:
        return Interval(estimate, np.nan, np.nan, few)
    if np.isin(values, (0, 1)).all() and estimate in (0, 1):
        return exact_interval(estimate, resamples.patient)
    if np.ptp(values) == 0:
        return Interval(estimate, np.nan, np.nan, "no interval: every value is the same")
    with np.errstate(invalid="ignore"):
        return interval(estimate, resamples.totals(values) / resamples.totals(np.ones(len(values))))


def rate_intervals(label, called, resamples):
    """Return `rates`, each with its percentile interval over patients."""
    replicates = rates(label, called, resamples)
    return {name: interval(value, replicates[name]) for name, value in rates(label, called).items()}


def bca_interval(estimate, replicates, left_out):
    """Return the BCa interval (Efron, JASA 1987;82:171).

    Parameters
    ----------
    estimate : float
    replicates : (b,) array
        Bootstrap.
    left_out : (k,) array
        The estimate without each patient, or without each of k groups of patients.
    """
    plain = interval(estimate, replicates)
    if not np.isfinite(plain.low):
        return plain
    good = replicates[np.isfinite(replicates)]
    share = (np.sum(good < estimate) + 0.5 * np.sum(good == estimate)) / len(good)
    spread = np.nanmean(left_out) - left_out[np.isfinite(left_out)]
    scale = np.sum(spread**2) ** 1.5
    if scale == 0 or not 0 < share < 1:
        return plain._replace(reason=plain.reason or "percentile: the estimate lies outside its resamples")
    bias, skew = norm.ppf(share), np.sum(spread**3) / (6 * scale)
    ends = bias + norm.ppf((0.025, 0.975))
    low, high = np.quantile(good, norm.cdf(bias + ends / (1 - skew * ends)))
    return plain._replace(low=float(low), high=float(high))


def _left_out(good, replicates):
    """Return a note of how many resamples were undefined, if any."""
    lost = len(replicates) - len(good)
    return f"{lost} of {len(replicates)} resamples undefined, left out" if lost else ""


def difference(estimate, replicates):
    """Return a paired difference with percentile interval and two-sided bootstrap p-value.

    The p-value is twice the smaller tail of replicates at or beyond 0. If no replicate is, it is that of a normal
    distribution with the replicates' spread, at most 2 / (b + 1), so that corrections for many tests are not stopped
    by the number of resamples. Where all replicates are exactly 0 the two sides are the same and p is 1.
    """
    good = replicates[np.isfinite(replicates)]
    if not np.isfinite(estimate) or len(good) < 0.5 * len(replicates):
        return Test(np.nan, np.nan, np.nan, np.nan, "undefined: one class only")
    tail = min((good <= 0).sum(), (good >= 0).sum())
    low, high = np.quantile(good, (0.025, 0.975))
    p = min(1, 2 * (tail + 1) / (len(good) + 1))
    if tail == 0 and np.ptp(good) > 0:
        p = min(p, two_sided_p(estimate / np.std(good, ddof=1)))
    return Test(float(estimate), float(low), float(high), float(p), _left_out(good, replicates))


def compared(estimate, replicates, few=""):
    """Return a paired difference as a row of a table: its `Test`, and what this test set shows with 80 % power.

    Parameters
    ----------
    estimate : float
    replicates : (b,) array
        Bootstrap.
    few : str
        Why it gets no interval and no test (`too_few`), or an empty text.

    Returns
    -------
    dict
        `estimate, low, high, p, reason, smallest`.
    """
    value = Test(float(estimate), np.nan, np.nan, np.nan, few) if few else difference(estimate, replicates)
    return {**value._asdict(), "smallest": smallest_difference(float(np.nanstd(replicates, ddof=1)))}


ONE_SEED = "one training seed: what training moves is not known"


def over_seeds(each, replicates, few=""):
    """Return the mean over training seeds with an interval that holds for other patients and other seeds.

    Two sources of chance: which patients were tested, and which seeds were trained. The standard error is the root of
    the bootstrap variance of the mean and of the seeds' variance over their number, the interval Student's, with the
    degrees of freedom of Welch and Satterthwaite (those of the patients' part are taken as infinite).

    Parameters
    ----------
    each : (seeds_n,) array
        The estimate, such as a paired difference, of each seed on the same test images.
    replicates : (b,) array
        Its mean over the seeds in each bootstrap resample of patients.
    few : str
        Why it gets no interval and no test (`too_few`), or an empty text.

    Returns
    -------
    dict
        `estimate, low, high, p, reason, smallest`, as `compared`, but with one seed the estimate alone, and the
        reason; `low_patients, high_patients`: the percentile interval over patients alone, which holds for the
        networks that were trained.
    """
    each, replicates = np.asarray(each, float), np.asarray(replicates, float)
    estimate = float(each.mean()) if len(each) else np.nan
    alone = interval(estimate, replicates, few)
    value, smallest = Test(estimate, np.nan, np.nan, np.nan, few), np.nan
    if not few:
        value, smallest = _over_seeds(each, replicates)
    return {**value._asdict(), "smallest": smallest, "low_patients": alone.low, "high_patients": alone.high}


def _over_seeds(each, replicates):
    good = replicates[np.isfinite(replicates)]
    if not np.isfinite(each).all() or not len(each) or len(good) < 0.5 * len(replicates):
        return Test(np.nan, np.nan, np.nan, np.nan, "undefined: one class only"), np.nan
    mean = float(each.mean())
    if len(each) == 1:
        return Test(mean, np.nan, np.nan, np.nan, ONE_SEED), np.nan
    of_patients, of_seeds = np.var(good, ddof=1), np.var(each, ddof=1) / len(each)
    error = float(np.sqrt(of_patients + of_seeds))
    if error < 1e-12:  # the two sides are the same, whoever is tested
        return Test(mean, mean, mean, 1.0 if abs(mean) < 1e-12 else 0.0, _left_out(good, replicates)), 0.0
    freedom = (len(each) - 1) * (error**2 / of_seeds) ** 2 if of_seeds > 0 else np.inf
    reach = float(student.ppf(0.975, freedom)) * error
    p = float(2 * student.sf(abs(mean) / error, freedom))
    test = Test(mean, mean - reach, mean + reach, p, _left_out(good, replicates))
    return test, smallest_difference(error, freedom=freedom)


def _adjusted(p, method):
    """Return p-values adjusted by a method of statsmodels, NaN left as NaN."""
    p = np.asarray(p, float)
    adjusted = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = multipletests(p[known], method=method)[1]
    return adjusted


def holm(p):
    """Return p-values adjusted by Holm's method (family-wise error), NaN left as NaN."""
    return _adjusted(p, "holm")


def benjamini_hochberg(p):
    """Return p-values adjusted by Benjamini and Hochberg's method (false discovery rate), NaN left as NaN."""
    return _adjusted(p, "fdr_bh")


def by_subgroup(measure, label, score, group, resamples, **options):
    """Return a measure in each subgroup, and its difference from the largest one.

    Parameters
    ----------
    measure : Callable
    label, score : (n,) arrays
    group : (n,) array
        Missing values are a group of their own, `not stated`.
    resamples : Resamples

    Returns
    -------
    pandas.DataFrame
        `group, images_n, patients_n, positives_n, estimate, low, high, reason, difference, difference_low,
        difference_high, p, p_holm`; the difference is from the first row, the largest group, which has none. A group
        of fewer than `FEW_PATIENTS` patients with the finding gets no interval and no test.
    """
    label, score = np.asarray(label, float), np.asarray(score, float)
    group = pd.Series(np.asarray(group, dtype=object)).fillna("not stated").astype(str).to_numpy()
    rows, first = [], None
    for name in pd.Series(group).value_counts(sort=True).index:
        inside = group == name
        value = measure(label[inside], score[inside], **options)
        replicates = measure(label[inside], score[inside], resamples=resamples.of(inside), **options)
        few = too_few([resamples.patient[inside & (label == 1)]])
        if not few and np.isfinite(value) and np.nanmax(replicates) == np.nanmin(replicates):
            few = "no interval: every resample gives the same"
        row = {
            "group": name,
            "images_n": int(inside.sum()),
            "patients_n": len(np.unique(resamples.patient[inside])),
            "positives_n": int((label[inside] == 1).sum()),
            **interval(value, replicates, few)._asdict(),
        }
        if few:
            pass
        elif first is None:
            first = value, replicates
        else:
            test = difference(value - first[0], replicates - first[1])
            row |= dict(zip(("difference", "difference_low", "difference_high", "p"), test, strict=False))
        rows.append(row)
    table = pd.DataFrame(rows)
    for column in ("difference", "difference_low", "difference_high", "p"):
        table[column] = table.get(column, pd.Series(np.nan, table.index)).astype(float)
    return table.assign(p_holm=holm(table["p"]))


# --- power ---------------------------------------------------------------------------------------------------


def smallest_difference(standard_error, power=0.8, freedom=np.inf):
    """Return the smallest true difference that a two-sided test at 0.05 finds with this probability.

    Parameters
    ----------
    standard_error : float
        Of the paired difference: of its bootstrap replicates, or planned (`planned_standard_error`).
    power : float in (0, 1)
    freedom : float
        Degrees of freedom of the standard error, if it is from few seeds (`over_seeds`).
    """
    if np.isinf(freedom):
        return (norm.ppf(0.975) + norm.ppf(power)) * standard_error
    return float(student.ppf(0.975, freedom) + student.ppf(power, freedom)) * standard_error


def planned_standard_error(area, positives_n, negatives_n, correlation, design_effect=1.0):
    """Return the standard error of a paired AUC difference, before any image is scored.

    The variance of one AUC from the probabilities that one image beats two (Bamber 1975; Hanley and McNeil,
    Radiology 1982;143:29), these taken from normal scores of equal variance; two such AUCs with this correlation
    (Radiology 1983;148:839); times a design effect for several images of a patient (`design_effect`).

    Parameters
    ----------
    area : float in (0.5, 1)
    positives_n, negatives_n : int
        Images.
    correlation : float in [0, 1)
        Between the two AUC estimates; networks on the same images have about 0.5 to 0.8.
    design_effect : float
        Clustered over unclustered variance.
    """
    at = norm.ppf(area)
    beats_two = multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]]).cdf([at, at])
    variance = area * (1 - area) + (positives_n + negatives_n - 2) * (beats_two - area**2)
    variance /= positives_n * negatives_n
    return float(np.sqrt(2 * variance * (1 - correlation) * design_effect))


def design_effect(patient_id, intraclass_correlation):
    """Return 1 + (m - 1) * correlation, with m the mean size of the patient that an image belongs to (Kish)."""
    sizes = pd.Series(np.asarray(patient_id, dtype=object)).value_counts().to_numpy()
    return float(1 + ((sizes**2).sum() / sizes.sum() - 1) * intraclass_correlation)


# --- DeLong ---------------------------------------------------------------------------------------------------


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
        ranks = rankdata(np.r_[positives, negatives])
        v10[k] = (ranks[:m] - rankdata(positives)) / n
        v01[k] = 1 - (ranks[m:] - rankdata(negatives)) / m
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
