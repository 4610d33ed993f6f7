"""Weights that give one sample of images the case mix of another, with what shows whether they can."""

import numpy as np
from scipy.special import expit

from cxrlib.statistics import stratified

_FARTHEST = 30.0  # log odds beyond make no difference
_RIDGE = 1.0  # on standardised covariates; the intercept is not shrunk
_STEPS = 25  # of Newton's method from nothing, and of resamples from the whole sample's coefficients
_STEPS_FROM_NEAR = 4
FOLDS_N = 5


def with_intercept(x):
    """Return covariates with mean 0 and standard deviation 1, and a first column of ones, (n, p + 1) float64.

    Columns that are the same everywhere are left out.
    """
    x = np.asarray(x, float)
    spread = x.std(0)
    kept = spread > 1e-12
    return np.column_stack([np.ones(len(x)), (x[:, kept] - x[:, kept].mean(0)) / spread[kept]])


def ridge_logistic(x, y, weights, start=None):
    """Return coefficients of a logistic regression for each of several weightings of the images.

    Newton's method with a ridge penalty of half the sum of the squared coefficients (le Cessie and van Houwelingen,
    Appl Stat 1992;41:191), so that classes that covariates separate have finite coefficients.

    Parameters
    ----------
    x : (n, p) float
        Of `with_intercept`.
    y : (n,) of 0/1
    weights : (b, n) float
        How often each image counts, such as of resamples.
    start : (p,) float, optional
        From near which to begin; nothing is near otherwise.

    Returns
    -------
    (b, p) float64
    """
    p = x.shape[1]
    first, second = np.triu_indices(p)
    products = x[:, first] * x[:, second]
    penalty = np.r_[0.0, np.full(p - 1, _RIDGE)]
    beta = np.zeros((len(weights), p)) if start is None else np.tile(start, (len(weights), 1))
    for _ in range(_STEPS if start is None else _STEPS_FROM_NEAR):
        fitted = expit(beta @ x.T)
        gradient = (weights * (y - fitted)) @ x - penalty * beta
        curvature = (weights * fitted * (1 - fitted)) @ products
        hessian = np.empty((len(weights), p, p))
        hessian[:, first, second] = hessian[:, second, first] = curvature
        hessian[:, np.arange(p), np.arange(p)] += penalty + 1e-9
        beta = beta + np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return beta


def patient_folds(patient, rng, folds_n=FOLDS_N):
    """Return in which fold each image is, (n,) int: all images of a patient in one, patients at random.

    Parameters
    ----------
    patient : (n,) array
        Any values; images of one value are a patient's.
    rng : numpy.random.Generator
    folds_n : int

    Raises
    ------
    ValueError
        If there are fewer patients than folds.
    """
    names, number = np.unique(np.asarray(patient, dtype=object).astype(str), return_inverse=True)
    if len(names) < folds_n:
        raise ValueError(f"{len(names)} patients cannot be in {folds_n} folds: use fewer folds.")
    return (rng.permutation(len(names)) % folds_n)[number]


def cross_fitted(x, y, weights, fold, within=None):
    """Return the log odds of y that the images of the other folds give each image, for each weighting.

    Parameters
    ----------
    x, y, weights
        As of `ridge_logistic`.
    fold : (n,) int
        Of `patient_folds`.
    within : (n,) bool, optional
        The images to fit on; all of them otherwise.

    Returns
    -------
    whole : (n,) float64
        With every image once.
    each : (b, n) float64
    """
    n = len(y)
    fit_on = np.ones(n, bool) if within is None else within
    whole, each = np.empty(n), np.empty((len(weights), n))
    for part in range(FOLDS_N):
        inside, learn = fold == part, (fold != part) & fit_on
        start = ridge_logistic(x[learn], y[learn], np.ones((1, learn.sum())))[0]
        whole[inside] = x[inside] @ start
        each[:, inside] = ridge_logistic(x[learn], y[learn], weights[:, learn], start) @ x[inside].T
    return np.clip(whole, -_FARTHEST, _FARTHEST), np.clip(each, -_FARTHEST, _FARTHEST)


def effective_patients(weights, patient):
    """Return how many equally weighted patients some weights are worth (`stratified.effective_n` of patients)."""
    _, number = np.unique(np.asarray(patient, dtype=object).astype(str), return_inverse=True)
    return stratified.effective_n(np.bincount(number, weights))


def imbalance(x, weights, target):
    """Return the largest standardised mean difference of a covariate between weighted images and a target's images.

    Parameters
    ----------
    x : (n, p) float
        Of the weighted images.
    weights : (n,) float
    target : (m, p) float
        Of the target's images; the standard deviation is that of both, each half (Austin, Stat Med 2009;28:3083).
    """
    spread = np.sqrt((x.var(0) + target.var(0)) / 2)
    gap = np.abs(np.average(x, axis=0, weights=weights) - target.mean(0))
    known = spread > 1e-12
    return float((gap[known] / spread[known]).max()) if known.any() else 0.0
