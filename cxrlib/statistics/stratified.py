"""Comparisons within strata: an AUC that no knowledge of the stratum can raise, and weights that balance strata.

Strata are what two classes of images must not be told apart by, such as the holder of a file, the view and the width.
`auc_within` compares pairs of images of one stratum only. `balancing_weights` make a label independent of the stratum
in what a network is trained on.
"""

import numpy as np

from cxrlib.statistics import resampling


def auc_within(label, score, strata, resamples=None):
    """Return the area under the ROC curve over pairs of images of the same stratum; NaN if there is no such pair.

    It is the probability that of two random images of one stratum, one with the finding and one without, the former
    has the higher score, ties counted half. Every such pair weighs the same, so that a stratum weighs as the product
    of its positives and negatives. With one stratum it is `accuracy.auc`.

    Parameters
    ----------
    label : (n,) array of 0/1
    score : (n,) array of float
        Any scale, which may differ between strata: only the order within a stratum counts.
    strata : (n,) array
        Any values; images of one value are a stratum.
    resamples : Resamples, optional

    Returns
    -------
    float, or (b,) float64 with resamples
    """
    label, score = resampling.clean_scores(label, score)
    group = codes(strata, len(label))
    rank = np.unique(score, return_inverse=True)[1]
    place = group * (rank.max(initial=0) + 1) + rank  # by stratum, and within it by score
    first = group * (rank.max(initial=0) + 1)
    positives, negatives = np.flatnonzero(label), np.flatnonzero(~label)
    negatives = negatives[np.argsort(place[negatives], kind="stable")]
    known = place[negatives]
    beaten = np.searchsorted(known, place[positives], "left")
    not_above = np.searchsorted(known, place[positives], "right")
    start = np.searchsorted(known, first[positives], "left")
    end = np.searchsorted(known, first[positives] + rank.max(initial=0), "right")

    def of_some(part):
        below = resampling.cumulated(part.weights(negatives))
        positive = part.weights(positives)
        before = np.take(below, start, axis=1)
        twice = np.take(below, beaten, axis=1) + np.take(below, not_above, axis=1) - 2 * before
        pairs = np.einsum("bi,bi->b", positive, np.take(below, end, axis=1) - before)
        return np.einsum("bi,bi->b", positive, twice) / (2 * pairs)

    return resampling.in_each(resamples, len(label), of_some)


def codes(strata, images_n):
    """Return strata as whole numbers from 0, (n,) int.

    Raises
    ------
    ValueError
        If there are not as many as images.
    """
    strata = np.asarray(strata, dtype=object).astype(str)
    if strata.shape != (images_n,):
        raise ValueError(f"{images_n} labels and {strata.size} strata: they must be one each of the same images.")
    return np.unique(strata, return_inverse=True)[1]


def pairs_of(label, strata):
    """Return how many pairs each image is in with images of the other class and its own stratum, (n,) int.

    Parameters
    ----------
    label : (n,) array of 0/1
    strata : (n,) array
    """
    label = np.asarray(label, float) == 1
    group = codes(strata, len(label))
    positives_n, negatives_n = np.bincount(group, label), np.bincount(group, ~label)
    return np.where(label, negatives_n[group], positives_n[group]).astype(int)


def balancing_weights(label, strata, most):
    """Return weights that make a label independent of the stratum, (n,) float64 of 0 or more.

    Stabilised inverse probability weights, P(label) / P(label | stratum) (Robins, Hernán and Brumback, Epidemiology
    2000;11:550), which equal P(stratum) / P(stratum | label). A stratum in which every image has one label cannot be
    balanced: its images get 0, and the probabilities are those of the others.

    Parameters
    ----------
    label : (n,) array of 0/1
    strata : (n,) array
    most : float
        Larger weights are cut to it.
    """
    label = np.asarray(label, float) == 1
    kept = pairs_of(label, strata) > 0
    weights = np.zeros(len(label))
    if kept.any():
        label, group = label[kept], codes(strata, len(kept))[kept]
        share = np.bincount(group, label) / np.maximum(np.bincount(group), 1)
        of_own = np.where(label, share[group], 1 - share[group])
        weights[kept] = np.minimum(np.where(label, label.mean(), 1 - label.mean()) / of_own, most)
    return weights


def effective_n(weights):
    """Return how many equally weighted images are worth as much: (sum w)^2 / sum w^2 (Kish 1965), 0 of none."""
    weights = np.asarray(weights, float)
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def imbalance(label, strata, weights):
    """Return how differently the two classes are spread over strata, in [0, 1]: the total variation distance.

    Parameters
    ----------
    label : (n,) array of 0/1
    strata : (n,) array
    weights : (n,) array
        Of 0 or more; 0 leaves an image out.

    Returns
    -------
    float
        0 where the label is independent of the stratum, 1 where no stratum has both; NaN if a class has no weight.
    """
    label, weights = np.asarray(label, float) == 1, np.asarray(weights, float)
    group = codes(strata, len(label))
    sides = [np.bincount(group, weights * side) for side in (label, ~label)]
    if not all(side.any() for side in sides):
        return float("nan")
    return float(np.abs(sides[0] / sides[0].sum() - sides[1] / sides[1].sum()).sum() / 2)
