"""What noisy labels do to an AUC: the AUC by one label set that is expected from that by another.

If one label set errs without regard to the score, given what the other says, the AUC by it is pulled towards 0.5 by a
factor that has nothing to do with the network: PPV + NPV - 1, the markedness of its labels. An AUC above that means
that the score knows something of the label set's errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cxrlib.statistics import accuracy, resampling

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike


def markedness(reference: ArrayLike, label: ArrayLike, resamples: resampling.Resamples | None = None) -> Any:
    """Return PPV + NPV - 1 of a label for a reference: the share of the reference's AUC above 0.5 that is left.

    Parameters
    ----------
    reference, label : (n,) arrays of 0/1
    resamples : Resamples, optional

    Returns
    -------
    float, or (b,) float64 with resamples
        1 where they agree, 0 where they are unrelated; NaN where the label has one class.
    """
    rates = accuracy.rates(reference, label, resamples)
    return rates["ppv"] + rates["npv"] - 1


def attenuated(area: ArrayLike, share: ArrayLike) -> np.ndarray:
    """Return the AUC by a label that errs without regard to the score: 0.5 + share * (area - 0.5).

    A random image that the label calls present is truly so with probability PPV, one that it calls absent truly
    absent with NPV; of the four kinds of pairs, those of one true class are in order half of the time.

    Parameters
    ----------
    area : float or array
        AUC by the reference.
    share : float or array
        `markedness` of the label.
    """
    return 0.5 + np.asarray(share) * (np.asarray(area) - 0.5)


def expected_auc(
    label: ArrayLike, classes: ArrayLike, score: ArrayLike, resamples: resampling.Resamples | None = None
) -> Any:
    """Return the AUC by a label that is expected if the label is unrelated to the score within each class of images.

    It is the AUC of the score for a label that is drawn again for each image, with the share of positive labels in
    its class. With a reference's two classes it is `attenuated`; finer classes, such as the reference within views,
    keep what these explain.

    Parameters
    ----------
    label : (n,) array of 0/1
    classes : (n,) array
        Any values; images of one value are a class.
    score : (n,) array of float
    resamples : Resamples, optional

    Returns
    -------
    float, or (b,) float64 with resamples
    """
    label, score = resampling.clean_scores(label, score)
    _, group = np.unique(np.asarray(classes, dtype=object).astype(str), return_inverse=True)
    order = np.argsort(score, kind="stable")
    lower = np.searchsorted(score[order], score[order], "left")
    not_above = np.searchsorted(score[order], score[order], "right")
    member = np.eye(group.max() + 1)[group][order] if len(group) else np.zeros((0, 1))
    positive_of = member * label[order][:, None]

    def of_some(part: resampling.Resamples) -> np.ndarray:
        weight = part.weights(order)
        share = (weight @ positive_of) / np.maximum(weight @ member, 1e-300)
        of_image = share[:, group[order]]
        negative = resampling.cumulated(weight * (1 - of_image))
        positive = weight * of_image
        twice = np.take(negative, lower, axis=1) + np.take(negative, not_above, axis=1)
        return np.einsum("bi,bi->b", positive, twice) / (2 * positive.sum(1) * negative[:, -1])

    return resampling.in_each(resamples, len(label), of_some)
