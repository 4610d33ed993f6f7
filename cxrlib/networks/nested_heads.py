"""Penalised logistic heads by nested cross-validation by patient: no image is scored by a head that saw its patient.

A `Partition` holds what does not depend on labels: outer and inner folds of patients, and in each the features,
standardised and reduced on the training part alone. One partition serves every label set, so that heads of two label
sets are trained and tested on the same images:

    partition = partitioned(features, patient_id, seed=1)
    scores, weights = out_of_fold(partition, label, weigh)
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from cxrlib.statistics import weighting

OUTER_N, INNER_N = 5, 3
COMPONENTS_N = 96  # at most, of the training part's principal components
# Inverse penalties of features that are scaled to a mean square of one over all columns together.
INVERSE_PENALTIES = (0.003, 0.03, 0.3, 3.0, 30.0)


@dataclass(frozen=True)
class Fold:
    """One part of the images to train on, and one to test.

    Attributes
    ----------
    train, test : (k,) int
        Rows.
    x_train, x_test : (k, components) float64
        Reduced features.
    basis : (features, components) float64
        Reduced features are `(features - mean) @ basis`.
    """

    train: np.ndarray
    test: np.ndarray
    x_train: np.ndarray
    x_test: np.ndarray
    basis: np.ndarray


@dataclass(frozen=True)
class Partition:
    """Outer folds with their inner folds, and in which outer fold each image is tested, (n,) int."""

    outer: tuple
    inner: tuple
    tested_in: np.ndarray


def reduced(features, train, test):
    """Return a `Fold`: features standardised, then rotated to principal components, both by the training rows."""
    mean, spread = features[train].mean(0), features[train].std(0)
    varied = spread > 1e-9
    scale = np.where(varied, 1 / np.where(varied, spread, 1), 0) / np.sqrt(max(1, varied.sum()))
    centred = (features - mean) * scale
    squares, left = np.linalg.eigh(centred[train] @ centred[train].T)  # quicker than a decomposition of all features
    kept = np.flatnonzero(squares > 1e-9 * max(squares[-1], 1e-300))[::-1][:COMPONENTS_N]
    directions = centred[train].T @ (left[:, kept] / np.sqrt(squares[kept]))
    return Fold(train, test, centred[train] @ directions, centred[test] @ directions, scale[:, None] * directions)


def partitioned(features, patient_id, seed):
    """Return a `Partition` of `OUTER_N` outer and in each `INNER_N` inner folds of patients.

    Parameters
    ----------
    features : (n, k) float
    patient_id : (n,) array
    seed : int
        Two sets of features of the same images get the same folds from the same seed.
    """
    features, rng = np.asarray(features, float), np.random.default_rng(seed)
    tested_in = weighting.patient_folds(patient_id, rng, OUTER_N)
    outer, inner = [], []
    for k in range(OUTER_N):
        train = np.flatnonzero(tested_in != k)
        outer.append(reduced(features, train, np.flatnonzero(tested_in == k)))
        part = weighting.patient_folds(np.asarray(patient_id)[train], rng, INNER_N)
        inner.append(tuple(reduced(features, train[part != j], train[part == j]) for j in range(INNER_N)))
    return Partition(tuple(outer), tuple(inner), tested_in)


def out_of_fold(partition, label, weigh):
    """Return each image's score by the head of its outer fold, and these heads.

    The penalty of each outer fold is the one with the least weighted log loss on its inner folds.

    Parameters
    ----------
    partition : Partition
    label : (n,) array of 0/1
        What is learned; labels of tested images are not looked at.
    weigh : Callable
        Rows -> their training weights, (k,) float of 0 or more; it sees the rows of one training part at a time.

    Returns
    -------
    scores : (n,) float64
        Logits. Comparable within an outer fold only (`partition.tested_in`): each has a head of its own.
    heads : (OUTER_N, features) float64
        Weights of the features as they were given.

    Raises
    ------
    ValueError
        If a training part has one class only among the images that have a weight.
    """
    label = np.asarray(label, float)
    scores, heads = np.empty(len(label)), []
    for fold, inner in zip(partition.outer, partition.inner, strict=True):
        losses = np.zeros(len(INVERSE_PENALTIES))
        whole = np.zeros(len(label))
        whole[fold.train] = weigh(fold.train)
        for part in inner:
            weights = weigh(part.train)
            for k, inverse in enumerate(INVERSE_PENALTIES):
                logit = _fitted(part, label, weights, inverse).decision_function(part.x_test)
                loss = np.logaddexp(0, np.where(label[part.test] == 1, -logit, logit))
                losses[k] += loss @ whole[part.test]
        head = _fitted(fold, label, whole[fold.train], INVERSE_PENALTIES[int(np.argmin(losses))])
        scores[fold.test] = head.decision_function(fold.x_test)
        heads.append(fold.basis @ head.coef_[0])
    return scores, np.stack(heads)


def _fitted(fold, label, weights, inverse):
    """Return the logistic head of one training part; weights are scaled to a mean of 1 over the images with one."""
    used = weights > 0
    if len(np.unique(label[fold.train][used])) < 2:
        raise ValueError("A training part has images of one class only: use fewer folds, or another label.")
    head = LogisticRegression(C=inverse, solver="newton-cholesky", max_iter=200)
    weights = weights[used] / weights[used].mean()
    return head.fit(fold.x_train[used], label[fold.train][used], sample_weight=weights)
