"""Calibration of probabilities: Brier score, intercept, slope, error, reliability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from cxrlib.statistics import resampling

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike


def brier(label: ArrayLike, probability: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return the mean squared difference between probability and label (Brier 1950); 0 is best."""
    label, probability = resampling.clean_scores(label, probability, probabilities=True)
    squared = (probability - label) ** 2
    return resampling.in_each(
        resamples, len(label), lambda part: part.totals(squared) / part.totals(np.ones(len(label)))
    )


LOGIT_BOUND = 1e-7  # probabilities nearer to 0 or 1 are taken as this near, since their logit is infinite


def calibration_intercept(
    label: ArrayLike, probability: ArrayLike, resamples: resampling.Resamples | None = None
) -> Any:
    """Return calibration-in-the-large: the intercept of label on logit(probability) with slope 1.

    0 is best; above 0 the probabilities are too low. Cox 1958; Van Calster et al., BMC Med 2019;17:230.
    """
    return _recalibration(label, probability, resamples, with_slope=False)


def calibration_slope(label: ArrayLike, probability: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return the slope of label on logit(probability); 1 is best, below 1 the probabilities are too extreme."""
    return _recalibration(label, probability, resamples, with_slope=True)


def _recalibration(
    label: ArrayLike, probability: ArrayLike, resamples: resampling.Resamples | None, with_slope: bool
) -> Any:
    """Fit the logistic regression of labels on logits by Newton's method, in each resample."""
    label, probability = resampling.clean_scores(label, probability, probabilities=True)
    x = logit(np.clip(probability, LOGIT_BOUND, 1 - LOGIT_BOUND))
    start: tuple[float, ...] = (0.0, 1.0)

    def of_some(part: resampling.Resamples, wanted: int | None = int(with_slope)) -> Any:
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
        at = [
            float(value[0])
            for value in resampling.quiet(lambda part: of_some(part, None), resampling.whole(len(label)))
        ]
        start = tuple(at) if np.isfinite(at).all() else start
    return resampling.in_each(resamples, len(label), of_some)


def calibration_error(label: ArrayLike, probability: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return the Kolmogorov-Smirnov calibration error: no bins; 0 is best, in [0, 1].

    The greatest distance between the cumulative fraction of positives and the cumulative mean probability,
    images in the order of their probability (Gupta et al., ICLR 2021; ECCE-MAD of Arrieta-Ibarra et al., JMLR
    2022;23:351). A perfect model's error is not 0 but falls as 1/sqrt(n).
    """
    label, probability = resampling.clean_scores(label, probability, probabilities=True)
    order = np.argsort(probability, kind="stable")
    gap = label[order] - probability[order]
    ends = np.flatnonzero(np.r_[np.diff(probability[order]) > 0, True]) if len(order) else np.zeros(0, int)

    def of_some(part: resampling.Resamples) -> np.ndarray:
        w = part.weights(order)
        distance = np.abs(np.cumsum(w * gap, axis=1)[:, ends])
        return distance.max(1, initial=0) / w.sum(1)

    return resampling.in_each(resamples, len(label), of_some)


def reliability(label: ArrayLike, probability: ArrayLike, bins_n: int = 10) -> tuple[np.ndarray, ...]:
    """Return mean probability and share of positives in bins of equally many images, for a reliability diagram.

    Returns
    -------
    predicted, observed : (k,) float64
        k <= bins_n: images of one probability are never divided.
    """
    label, probability = resampling.clean_scores(label, probability, probabilities=True)
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins_n + 1)[1:-1]))
    group = np.searchsorted(edges, probability, side="right")
    inside = np.bincount(group)
    there = inside > 0
    sums = (np.bincount(group, weights) for weights in (probability, label))
    return tuple(total[there] / inside[there] for total in sums)


def platt_scaling(label: ArrayLike, probability: ArrayLike) -> np.ndarray:
    """Return Platt's scaling of each finding, (f, 2) float64: intercept and slope of the label on the logit.

    Platt 1999. Fitted on images that had no part in training. A finding with one class alone keeps its probabilities.

    Parameters
    ----------
    label : (n, f) float
        1, 0, NaN.
    probability : (n, f) float in [0, 1]
    """
    x, label = logit(np.clip(np.asarray(probability, float), 1e-6, 1 - 1e-6)), np.asarray(label, float)
    out = np.tile([0.0, 1.0], (label.shape[1], 1))
    for k in range(label.shape[1]):
        known = np.isin(label[:, k], (0, 1))
        if len(np.unique(label[known, k])) == 2:
            fitted = LogisticRegression(C=1e6).fit(x[known, k : k + 1], label[known, k])
            out[k] = fitted.intercept_[0], fitted.coef_[0, 0]
    return out


def platt_scaled(probability: ArrayLike, scaling: np.ndarray) -> np.ndarray:
    """Return probabilities after `platt_scaling`, (n, f) float64 in [0, 1]."""
    x = logit(np.clip(np.asarray(probability, float), 1e-6, 1 - 1e-6))
    return expit(scaling[:, 0] + scaling[:, 1] * x)
