"""DeLong's interval and test of AUCs, by image and clustered by patient (Obuchowski 1997)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm, rankdata

from cxrlib.statistics import intervals, resampling

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def delong(label: ArrayLike, scores: ArrayLike, patient_id: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
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
    cleaned = [resampling.clean_scores(label, score) for score in scores]
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


def delong_test(
    label: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, patient_id: ArrayLike | None = None
) -> intervals.Test:
    """Return the difference of two AUCs (a - b) on the same images, by `delong`."""
    areas, covariance = delong(label, np.stack([score_a, score_b]), patient_id)
    gap = areas[0] - areas[1]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if not np.isfinite(variance):
        return intervals.Test(
            np.nan, np.nan, np.nan, np.nan, "undefined: fewer than two images or patients of one class"
        )
    if variance <= 1e-14 * (covariance[0, 0] + covariance[1, 1]):  # 0 but for rounding
        if abs(gap) < 1e-12:
            return intervals.Test(0.0, 0.0, 0.0, 1.0)
        return intervals.Test(float(gap), np.nan, np.nan, np.nan, "undefined: the scores leave the variance 0")
    error = np.sqrt(variance)
    reach = norm.ppf(0.975) * error
    return intervals.Test(float(gap), float(gap - reach), float(gap + reach), float(2 * norm.sf(abs(gap) / error)))
