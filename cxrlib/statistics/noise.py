"""Label noise: how one label set errs against another, measured; and labels that err the same way.

The unit is the image; the noise is measured apart for images whose patient has *another* image on which
the reference says present, since that is where report labels claim findings that are no longer there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike

STRATA = ("other_positive", "no_other_positive")


def other_positive(reference: ArrayLike, patient_id: ArrayLike) -> np.ndarray:
    """Return whether another image of the same patient is positive in the reference.

    Parameters
    ----------
    reference : (n,) array of 0/1 (uncertain, -1, and NaN count as 0)
    patient_id : (n,) array

    Returns
    -------
    (n,) bool
    """
    positive = (np.asarray(reference, float) == 1).astype(int)
    total = pd.Series(positive).groupby(np.asarray(patient_id)).transform("sum").to_numpy()
    return total - positive > 0


def confusion(reference: ArrayLike, other: ArrayLike) -> dict[str, int]:
    """Return `tp, fp, fn, tn` of `other` against `reference`, over images where both are 0 or 1."""
    reference, other = np.asarray(reference, float), np.asarray(other, float)
    both = np.isin(reference, (0, 1)) & np.isin(other, (0, 1))
    r, o = reference[both] == 1, other[both] == 1
    return {
        "tp": int((r & o).sum()),
        "fp": int((~r & o).sum()),
        "fn": int((r & ~o).sum()),
        "tn": int((~r & ~o).sum()),
    }


def calibrate(reference: ArrayLike, other: ArrayLike, patient_id: ArrayLike) -> pd.DataFrame:
    """Return the confusion of two label sets, over all images and by stratum.

    Returns
    -------
    pandas.DataFrame
        `stratum` (`all` and each of `STRATA`), `tp, fp, fn, tn`.
    """
    where = other_positive(reference, patient_id)
    reference, other = np.asarray(reference, float), np.asarray(other, float)
    everywhere = np.ones(len(reference), bool)
    rows = [
        {"stratum": name, **confusion(reference[chosen], other[chosen])}
        for name, chosen in zip(("all", *STRATA), (everywhere, where, ~where), strict=True)
    ]
    return pd.DataFrame(rows)


def _tilt(log_odds: np.ndarray, rate: float) -> np.ndarray:
    """Return probabilities with the given relative log-odds whose mean is `rate`."""
    if len(log_odds) == 0:
        return np.zeros(0)
    if rate <= 0 or rate >= 1:
        return np.full(len(log_odds), float(rate))
    intercept = brentq(lambda b: expit(b + log_odds).mean() - rate, -60, 60)
    return expit(intercept + log_odds)


def _repeated(draws: np.ndarray, patient_id: ArrayLike, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Return uniform draws, (n,), whose normal scores correlate among the images of a patient: a Gaussian copula."""
    patient = pd.factorize(np.asarray(patient_id))[0]
    shared = rng.standard_normal(patient.max(initial=-1) + 1)[patient]
    return ndtr(np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * ndtri(draws))


def corrupt(
    reference: ArrayLike,
    patient_id: ArrayLike,
    calibration: pd.DataFrame,
    rng: np.random.Generator,
    *,
    scale: float = 1.0,
    miss_log_odds: ArrayLike = 0.0,
    false_alarm_log_odds: ArrayLike = 0.0,
    correlation: float = 0.0,
) -> np.ndarray:
    """Return labels that err against the reference as often as the calibration did, stratum by stratum.

    How often is measured; which images, within a stratum, is tilted by log-odds that are assumptions, and so is
    whether the images of a patient err together.

    Parameters
    ----------
    reference : (n,) array of 0/1
    patient_id : (n,) array
    calibration : pandas.DataFrame
        As `calibrate` returns it.
    rng : numpy.random.Generator
    scale : float in [0, 1]
        Multiplies every error rate: 0 returns the reference.
    miss_log_odds, false_alarm_log_odds : (n,) array or float
        Which positives are rather missed, which negatives rather called.
    correlation : float in [0, 1)
        Of the normal scores of a patient's draws (a Gaussian copula; Nelsen, An Introduction to Copulas, 2006):
        0 lets images err one by one, more lets a patient's images err together, each as often as before.

    Returns
    -------
    (n,) float32 of 0/1

    Raises
    ------
    ValueError
        If the scale or the correlation is out of range, or the calibration has no image of a kind that is needed.
    """
    if not 0 <= scale <= 1:
        raise ValueError(f"noise scale {scale} is outside [0, 1].")
    if not 0 <= correlation < 1:
        raise ValueError(f"correlation {correlation} of a patient's errors is outside [0, 1).")
    reference = np.asarray(reference, float)
    draws = rng.random(len(reference))  # one per image, so that the scale changes rates, not luck
    if correlation:
        draws = _repeated(draws, patient_id, correlation, rng)
    miss, alarm = (
        np.broadcast_to(np.asarray(a, float), reference.shape) for a in (miss_log_odds, false_alarm_log_odds)
    )
    where = other_positive(reference, patient_id)
    rates = calibration.set_index("stratum")
    flip = np.zeros(len(reference))
    for stratum, chosen in zip(STRATA, (where, ~where), strict=True):
        row: Any = rates.loc[stratum]
        positive, negative = chosen & (reference == 1), chosen & (reference == 0)
        for images, log_odds, wrong, right in ((positive, miss, "fn", "tp"), (negative, alarm, "fp", "tn")):
            measured = row[wrong] + row[right]
            if images.any() and not measured:
                raise ValueError(f"The calibration has no image of stratum {stratum!r} with {wrong} or {right}.")
            flip[images] = scale * _tilt(log_odds[images], row[wrong] / max(measured, 1))
    return np.float32(np.where(draws < flip, 1 - reference, reference))  # type: ignore[return-value]  # an array
