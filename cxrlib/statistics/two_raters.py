"""What two raters of the same images say about the truth, where nobody else has read them: bounds, and no more.

Two raters give a 2 x 2 table, three numbers. A prevalence, two sensitivities and two specificities are five. Hui and
Walter (Biometrics 1980;36:167) identify them from two populations of different prevalence; from one population a
family of two dimensions is left that fits the table exactly, even if the raters err independently given the truth.
`bounds` returns its ends, and `compatible` its members.

With a = P(A says yes), b = P(B says yes) and c the covariance of the two, and with f and g the false-positive
fractions of A and B, independence given the truth means

    c = (1 - prevalence) / prevalence * (a - f) (b - g),   sensitivity of A = a + c / (b - g),

so that the sensitivity of A hangs on the specificity of B alone, and each may be anything that leaves every
probability in [0, 1]. "Better than chance" (sensitivity + specificity of at least 1) chooses between the family and
its mirror image, in which present and absent change places.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from cxrlib.statistics import intervals, resampling

ASSUMPTIONS = {
    "independent": "the raters err independently given the truth, each better than chance",
    "agreed": "what both say is true; how they err where they differ is free",
    "any": "each rater is better than chance; how their errors go together is free",
}
_NAMES = ("prevalence", "sensitivity_a", "specificity_a", "sensitivity_b", "specificity_b")


class Rates(NamedTuple):
    """Members of the family: each an array, or a number."""

    prevalence: np.ndarray
    sensitivity_a: np.ndarray
    specificity_a: np.ndarray
    sensitivity_b: np.ndarray
    specificity_b: np.ndarray


def _fractions(a, b, resamples=None):
    """Return the fractions that both, A alone, B alone and neither call present, (4,) or (4, resamples)."""
    a, b = resampling.clean_scores(a, b)
    if not np.isin(b, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(b, (0, 1)))[0])
        raise ValueError(f"reading {row} of the second rater is {b[row]}: it must be 1 or 0.")
    b = b == 1
    each = resampling.whole(len(a)) if resamples is None else resamples
    cells = np.stack([each.totals(cell) for cell in (a & b, a & ~b, ~a & b, ~a & ~b)])
    cells = cells / cells.sum(axis=0)
    return cells[:, 0] if resamples is None else cells


def compatible(a, b, specificity_a, specificity_b):
    """Return the rates that give exactly this table, if the raters err independently and have these specificities.

    Parameters
    ----------
    a, b : (n,) array of 0/1
        The readings of two raters.
    specificity_a, specificity_b : float or array, in [0, 1]

    Returns
    -------
    Rates
        NaN where no prevalence and sensitivities in [0, 1] fit, or the raters do not agree beyond chance.
    """
    both, only_a, only_b, _ = _fractions(a, b)
    positive_a, positive_b = both + only_a, both + only_b
    covariance = both - positive_a * positive_b
    specificity_a, specificity_b = np.broadcast_arrays(
        np.asarray(specificity_a, float), np.asarray(specificity_b, float)
    )
    beyond_a, beyond_b = positive_a - (1 - specificity_a), positive_b - (1 - specificity_b)
    with np.errstate(invalid="ignore", divide="ignore"):
        prevalence = beyond_a * beyond_b / (beyond_a * beyond_b + covariance)
        sensitivity_a, sensitivity_b = positive_a + covariance / beyond_b, positive_b + covariance / beyond_a
    fits = (covariance > 0) & (beyond_a > 0) & (beyond_b > 0) & (sensitivity_a <= 1 + 1e-12)
    fits &= (sensitivity_b <= 1 + 1e-12) & (specificity_a <= 1) & (specificity_b <= 1)
    rates = (prevalence, sensitivity_a, specificity_a, sensitivity_b, specificity_b)
    return Rates(*(np.where(fits, np.minimum(rate, 1), np.nan) for rate in rates))


def _ends(cells, assumption):
    """Return the lowest and the highest prevalence, sensitivity and specificity of A, then of B, (5, 2, ...)."""
    both, only_a, only_b, neither = cells
    a, b = both + only_a, both + only_b
    one = np.ones_like(both)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = both - a * b
        if assumption == "independent":
            prevalence = covariance / neither, a * b / both
        elif assumption == "agreed":
            prevalence = both, 1 - neither
        else:
            prevalence = 0 * one, one
        if assumption == "any":
            lowest = (a, 1 - a, b, 1 - b)
        else:
            lowest = (both / b, neither / (1 - b), both / a, neither / (1 - a))
    ends = np.stack([prevalence, *((low, one) for low in lowest)])
    return np.where(covariance > 0, ends, np.nan) if assumption == "independent" else ends


def bounds(a, b, resamples=None):
    """Return the range of every rate that is compatible with two raters' readings, under each of `ASSUMPTIONS`.

    The ranges are sharp for infinitely many images with these fractions: every value inside is that of some truth.
    `independent` is Hui and Walter's model in one population (see the module's text for how it follows). Each
    sensitivity is at least the fraction of what the other calls present that this rater calls present, P(A | B).

    Parameters
    ----------
    a, b : (n,) array of 0/1
    resamples : Resamples, optional
        Of patients.

    Returns
    -------
    pandas.DataFrame
        `assumption, rate, lowest, highest`; with resamples also `low, high`: the lower end of the 95 % interval of
        `lowest` and the upper end of that of `highest`. NaN with a `reason` where no rates fit, since the raters
        agree no more than chance.

    Raises
    ------
    ValueError
        If a reading is neither 1 nor 0.
    """
    cells = _fractions(a, b)
    replicates = None if resamples is None else _fractions(a, b, resamples)
    rows = []
    for assumption in ASSUMPTIONS:
        ends = _ends(cells, assumption)
        each = None if replicates is None else _ends(replicates, assumption)
        for k, name in enumerate(_NAMES):
            lowest, highest = (float(end) for end in ends[k])
            row = {"assumption": assumption, "rate": name, "lowest": lowest, "highest": highest, "reason": ""}
            if np.isnan(lowest):
                row["reason"] = "no rates fit: the raters agree no more than chance"
            if each is not None:
                row["low"] = intervals.interval(lowest, each[k, 0]).low
                row["high"] = intervals.interval(highest, each[k, 1]).high
            rows.append(row)
    return pd.DataFrame(rows)
