"""Bootstrap resamples of patients, made once for all measures of a study."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import joblib
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import ArrayLike

_PARTS_ALONE = 32  # parts of resamples that are done before joblib's threads would have started
_ROWS_TOGETHER = 64  # resamples whose counts are drawn, or multiplied, at a time: only these are held as 8 bytes each


def clean_scores(label: ArrayLike, score: ArrayLike, probabilities: bool = False) -> tuple[np.ndarray, np.ndarray]:
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


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of patients.

    Attributes
    ----------
    counts : (b, patients_n) array
        How often each patient was drawn; uint8 as `patient_resamples` draws them, a byte each.
    patient : (n,) int
        Which patient each image is of.
    sampling : (n,) float or None
        Weight of each image, such as one over the probability that it was sampled with; None for equal weights.
    """

    counts: np.ndarray
    patient: np.ndarray
    sampling: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.counts)

    def of(self, chosen: ArrayLike) -> Resamples:
        """Return the same resamples seen by a subset of the images (boolean mask)."""
        chosen = np.asarray(chosen)
        return Resamples(self.counts, self.patient[chosen], None if self.sampling is None else self.sampling[chosen])

    def weighted(self, sampling: ArrayLike) -> Resamples:
        """Return the same resamples with a weight for each image, (n,) float of 0 or more."""
        return Resamples(self.counts, self.patient, np.asarray(sampling, float))

    def first(self, b: int) -> Resamples:
        """Return the first `b` resamples."""
        return self.with_counts(self.counts[:b])

    def with_counts(self, counts: np.ndarray) -> Resamples:
        """Return other resamples of the same images."""
        return Resamples(counts, self.patient, self.sampling)

    def weights(self, images: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return how often each image (or each of some, by position) is in each resample, (b, k) float64."""
        drawn = np.take(self.counts, self.patient[images], axis=1).astype(np.float64)
        return drawn if self.sampling is None else drawn * self.sampling[images]

    def totals(self, values: ArrayLike) -> np.ndarray:
        """Return the sum of a per-image value in each resample, (b,) float64."""
        values = np.asarray(values, np.float64)
        values = values if self.sampling is None else values * self.sampling
        by_patient = np.bincount(self.patient, values, minlength=self.counts.shape[1])
        out = np.empty(len(self.counts))
        for rows in _row_blocks(len(self.counts)):  # the product makes 8 bytes of each count
            out[rows] = self.counts[rows] @ by_patient
        return out

    def jackknife(self, groups_n: int = 1000) -> Resamples:
        """Return resamples that each leave out one patient, or one of `groups_n` groups of patients if fewer."""
        patients_n = self.counts.shape[1]
        group = np.arange(patients_n) % min(groups_n, patients_n)
        return self.with_counts((np.arange(group.max() + 1)[:, None] != group).astype(np.float32))


def patient_resamples(patient_id: ArrayLike, resamples_n: int, rng: np.random.Generator) -> Resamples:
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
    chance = np.full(patients_n, 1 / patients_n)
    counts = np.empty((resamples_n, patients_n), np.uint8)  # nobody is drawn 256 times: the chance is below 1e-500
    for rows in _row_blocks(resamples_n):
        counts[rows] = rng.multinomial(patients_n, chance, size=rows.stop - rows.start)
    return Resamples(counts, patient)


def _row_blocks(rows_n: int) -> list[slice]:
    """Return slices of `_ROWS_TOGETHER` rows; the last has what is left too, so that none is multiplied by itself.

    A product of a single row is summed in another order than one of several.
    """
    starts = list(range(0, max(1, rows_n - _ROWS_TOGETHER + 1), _ROWS_TOGETHER))
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], rows_n], strict=True)]


def whole(images_n: int) -> Resamples:
    """Return the one 'resample' that holds every image once."""
    return Resamples(np.ones((1, 1), np.float32), np.zeros(images_n, int))


def in_each(resamples: Resamples | None, images_n: int, of_some: Callable[[Resamples], np.ndarray]) -> Any:
    """Return `of_some(part of the resamples)` for all of them, (b,), or as a float without resamples.

    Parts are small enough for a processor's cache; threads take them in turn, if there are enough for that to
    pay. The result does not depend on how many there are.
    """
    if resamples is None:
        return float(quiet(of_some, whole(images_n))[0])
    if len(resamples.patient) != images_n:
        raise ValueError(f"{images_n} labels and resamples of {len(resamples.patient)} images.")
    step = max(1, (1 << 18) // max(1, images_n))
    parts = [resamples.with_counts(resamples.counts[k : k + step]) for k in range(0, len(resamples), step)]
    if len(parts) > _PARTS_ALONE:
        threads = joblib.Parallel(len(os.sched_getaffinity(0)), prefer="threads")
        done = threads(joblib.delayed(quiet)(of_some, part) for part in parts)
    else:
        done = [quiet(of_some, part) for part in parts]
    return np.concatenate(done) if done else np.empty(0)


def quiet(of_some: Callable[[Resamples], np.ndarray], part: Resamples) -> np.ndarray:
    """Return a measure of part of the resamples without warnings of undefined ones."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return of_some(part)


def cumulated(weights: np.ndarray) -> np.ndarray:
    """Return cumulative sums along axis 1, with a 0 before them."""
    out = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=out[:, 1:])
    return out
