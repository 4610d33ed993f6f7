"""What a review of labels finds within a budget: how many of the labels that are read again first are wrong.

A review reads images again in the order of a *priority* and stops when a budget, a fraction of all images, is spent.
Images of equal priority are read in random order, and what is returned is the mean over those orders: a priority that
is the same for all images is random review, and its precision is the fraction of labels that are wrong.

    first = review.within(given, truth, priority, budgets)     # Within: precision, missed, overcalls
    first.precision                                            # (k,), or (b, k) with resamples of patients
"""

from dataclasses import dataclass

import numpy as np

from cxrlib.statistics import resampling


@dataclass(frozen=True)
class Within:
    """What the images of the highest priority hold, each as a fraction of all images.

    Attributes
    ----------
    budgets : (k,) float64 in (0, 1]
    missed : (..., k) float64
        Labelled absent and truly present, among the images that are read within each budget.
    overcalls : (..., k) float64
        Labelled present and truly absent.
    called : (..., k) float64
        Labelled present, rightly or wrongly.
    whole : (..., 4) float64
        Among all images: missed, overcalls, labelled present, truly present.
    """

    budgets: np.ndarray
    missed: np.ndarray
    overcalls: np.ndarray
    called: np.ndarray
    whole: np.ndarray

    @property
    def precision(self):
        """Return what fraction of the labels that are read again is wrong, (..., k)."""
        return (self.missed + self.overcalls) / self.budgets

    @property
    def ceiling(self):
        """Return the precision of a review that knows which labels are wrong, (..., k)."""
        return np.minimum(1, self.whole[..., :2].sum(-1, keepdims=True) / self.budgets)

    @property
    def same_labels_at_random(self):
        """Return the precision of reading as many images labelled present, and absent, but any of them, (..., k).

        What a review owes to which labels it reads, and not to which images among them.
        """
        missed, overcalls, called, _ = (self.whole[..., k : k + 1] for k in range(4))
        with np.errstate(invalid="ignore", divide="ignore"):
            of_called = np.where(called > 0, overcalls / called, 0)
            of_others = np.where(called < 1, missed / (1 - called), 0)
        return (self.called * of_called + (self.budgets - self.called) * of_others) / self.budgets

    @property
    def sensitivity(self):
        """Return the sensitivity of the labels once those that are wrong within the budget are mended, (..., k)."""
        missed, _, _, present = (self.whole[..., k : k + 1] for k in range(4))
        with np.errstate(invalid="ignore", divide="ignore"):
            return (present - missed + self.missed) / present

    @property
    def ppv(self):
        """Return the positive predictive value of the labels once those within the budget are mended, (..., k)."""
        missed, overcalls, _, present = (self.whole[..., k : k + 1] for k in range(4))
        true = present - missed + self.missed
        with np.errstate(invalid="ignore", divide="ignore"):
            return true / (true + overcalls - self.overcalls)


def within(given, truth, priority, budgets, resamples=None):
    """Return what a review finds that reads images again from the highest priority down, until a budget is spent.

    The estimand is that of a budget as a fraction of the images. A resample of patients that has more images is given
    as many more reads.

    Parameters
    ----------
    given, truth : (n,) array of 0/1
        The label as it is, and as a judge has it.
    priority : (n,) array of float
        Only the order counts; equal ones are read in random order.
    budgets : (k,) array of float in (0, 1]
    resamples : Resamples, optional
        Of the same images.

    Returns
    -------
    Within
        Arrays of shape (k,), or (b, k) with resamples.

    Raises
    ------
    ValueError
        If labels are no 0 or 1, a priority is NaN, or a budget lies outside (0, 1].
    """
    given, priority = resampling.clean_scores(given, priority)
    truth, _ = resampling.clean_scores(truth, priority)
    budgets = np.asarray(budgets, float)
    if not ((budgets > 0) & (budgets <= 1)).all():
        raise ValueError(f"the budgets are {budgets.tolist()}: each is a fraction of all images, above 0, at most 1.")
    order = np.argsort(-priority, kind="stable")
    ends = np.flatnonzero(np.r_[True, np.diff(-priority[order]) > 0, True])  # before the first image, after each tie
    cells = [cell[order].astype(float) for cell in (~given & truth, given & ~truth, given, truth)]

    def of_some(part):
        weights = part.weights(order)
        reads = resampling.cumulated(weights)[:, ends]
        row, before, fraction = _places(reads, budgets * reads[:, -1:])
        found = []
        for cell in cells[:3]:
            held = resampling.cumulated(weights * cell)[:, ends]
            low = held[row, before]
            found.append((low + fraction * (held[row, before + 1] - low)) / reads[:, -1:])
        whole = np.stack([weights @ cell for cell in cells], axis=1) / reads[:, -1:]
        return np.concatenate([*found, whole], axis=1)

    each = resampling.whole(len(given)) if resamples is None else resamples
    found = resampling.in_each(each, len(given), of_some)
    found = found[0] if resamples is None else found
    k = len(budgets)
    return Within(budgets, *(found[..., i * k : (i + 1) * k] for i in range(3)), found[..., 3 * k :])


def _places(reads, targets):
    """Return where in each row the targets lie: row, the place before, and how far towards the next one.

    Parameters
    ----------
    reads : (b, m) float64
        Rising along rows, from 0.
    targets : (b, k) float64
    """
    rows, places_n = reads.shape
    row = np.arange(rows)[:, None]
    apart = row * (reads[:, -1].max() + 1)  # one search for all rows
    found = np.searchsorted((reads + apart).ravel(), (targets - 1e-9 + apart).ravel()).reshape(targets.shape)
    before = np.clip(found - row * places_n, 1, places_n - 1) - 1
    low = reads[row, before]
    return row, before, np.clip((targets - low) / (reads[row, before + 1] - low), 0, 1)
