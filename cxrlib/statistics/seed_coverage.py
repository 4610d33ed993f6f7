"""How often intervals over patients and training seeds hold the truth, by simulation.

Two sets of networks of the same quality are scored on the same test patients. Each network's AUC is moved by its
training seed, the mean difference of the two sets is estimated, and its true value, over other patients and other
seeds, is 0.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from cxrlib.statistics import intervals

PATIENTS_N, IMAGES_N = 150, 3  # of a test set, and of each patient
SEPARATION = 1.45  # of the classes, in standard deviations of the score: an AUC of 0.85
_RESAMPLES_N = 200
_ILL_ABOVE = norm.ppf(0.8)  # a fifth of the images have the finding
# Shares of a score's variance: what all networks see in an image, what a set sees in a patient, what one sees.
# The last is small, which is the harder case: it is in the spread over seeds and in that over patients, so that an
# interval that adds the two is wider than it need be.
_SHARED, _OF_SET, _OF_NETWORK = 0.8, 0.15, 0.05


def test_set(networks_n, rng):
    """Return a test set, and what two sets of networks say of it before their seeds move them.

    Parameters
    ----------
    networks_n : int
        Seeds of each of the two sets.
    rng : numpy.random.Generator

    Returns
    -------
    label : (n,) bool
    score : (2, networks_n, n) float32
    patient : (n,) int
    """
    patient = np.repeat(np.arange(PATIENTS_N), IMAGES_N)
    n = patient.size
    ill = np.sqrt(0.5) * (rng.standard_normal(PATIENTS_N)[patient] + rng.standard_normal(n))
    shared = np.sqrt(_SHARED / 2) * (rng.standard_normal(PATIENTS_N)[patient] + rng.standard_normal(n))
    of_set = np.sqrt(_OF_SET) * rng.standard_normal((2, 1, PATIENTS_N))[..., patient]
    of_network = np.sqrt(_OF_NETWORK) * rng.standard_normal((2, networks_n, n))
    label = ill > _ILL_ABOVE
    return label, (SEPARATION * label + shared + of_set + of_network).astype(np.float32), patient


def differences(label, score, moved, seeds_n, counts):
    """Return the difference of two sets' AUCs by seed, and of the mean over the first seeds in resamples of patients.

    Parameters
    ----------
    label : (n,) bool
    score : (2, k, n) float32
    moved : (2, k) float
        By how much the seed of each network moves the scores of images with the finding.
    seeds_n : sequence of int
        Numbers of seeds to take the mean over, at most k.
    counts : (b, n) float64
        How often each image is in each resample.

    Returns
    -------
    each : (k,) float64
    replicates : dict of int to (b,) float64
        By number of seeds.
    """
    positives = (score[..., label] + moved[..., None].astype(np.float32))[..., :, None]
    wins = (positives > score[..., ~label][..., None, :]).astype(np.float32)
    gap = wins[0] - wins[1]  # (k, m, n): scores are continuous, so that there are no ties
    inside, outside = counts[:, label], counts[:, ~label]
    pairs = inside.sum(1) * outside.sum(1)
    replicates = {k: ((inside @ gap[:k].mean(0, dtype=np.float64)) * outside).sum(1) / pairs for k in seeds_n}
    return gap.mean((1, 2), dtype=np.float64), replicates


def patients_error(repetitions, rng):
    """Return the standard error that patients alone give the difference of two sets of networks, by simulation.

    Parameters
    ----------
    repetitions : int
    rng : numpy.random.Generator
    """
    still, none = np.zeros((2, 10)), np.ones((1, PATIENTS_N * IMAGES_N))
    each = [differences(*test_set(10, rng)[:2], still, (), none)[0].mean() for _ in range(repetitions)]
    return float(np.std(each, ddof=1))


def spread_of_seeds(ratio, error):
    """Return by how much seeds move scores, so that the difference of two networks varies by `ratio` times `error`.

    The AUC of normal scores is the normal distribution function of their separation over the root of 2, and two
    networks vary independently.

    Parameters
    ----------
    ratio : float, 0 or more
    error : float
        Of `patients_error`.
    """
    return ratio * error / norm.pdf(SEPARATION / np.sqrt(2))


def four_intervals(each, replicates):
    """Return four 95 % intervals of a mean difference over seeds, by name, as (low, high).

    Parameters
    ----------
    each : (k,) array
        The difference by seed, two or more.
    replicates : (b,) array
        Its mean in resamples of patients.

    Returns
    -------
    dict of str to (float, float)
        `patients and seeds` is `intervals.over_seeds`; `patients` and `seeds` each leave out the other source of
        chance; `squares added` has as its half width the root of the sum of the squares of their half widths (MOVER,
        Zou and Donner, Stat Med 2008;27:1693), so that few seeds widen their own part alone.
    """
    found = intervals.over_seeds(each, replicates)
    mean = float(np.mean(each))
    reach = float(student.ppf(0.975, len(each) - 1)) * np.std(each, ddof=1) / np.sqrt(len(each))
    both = float(np.hypot(norm.ppf(0.975) * np.std(replicates, ddof=1), reach))
    return {
        "patients": (found["low_patients"], found["high_patients"]),
        "seeds": (mean - reach, mean + reach),
        "patients and seeds": (found["low"], found["high"]),
        "squares added": (mean - both, mean + both),
    }


def seed_coverage(ratios, seeds_n, repetitions, rng):
    """Return how often each of `four_intervals` holds the truth.

    Parameters
    ----------
    ratios : sequence of float
        Standard deviation over seeds of the difference of two networks, over the standard error that patients give.
    seeds_n : sequence of int
        Two or more.
    repetitions : int
        Simulated test sets; all ratios and numbers of seeds share them.
    rng : numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        `ratio, seeds_n, interval, covered, width`: a share of the repetitions, and the median width in AUC.
    """
    error, rows = patients_error(repetitions, rng), []
    chance = np.full(PATIENTS_N, 1 / PATIENTS_N)
    for _ in range(repetitions):
        label, score, patient = test_set(max(seeds_n), rng)
        counts = rng.multinomial(PATIENTS_N, chance, size=_RESAMPLES_N).astype(float)[:, patient]
        normal = rng.standard_normal(score.shape[:2])
        for ratio in ratios:
            each, replicates = differences(label, score, spread_of_seeds(ratio, error) * normal, seeds_n, counts)
            for k in seeds_n:
                for name, (low, high) in four_intervals(each[:k], replicates[k]).items():
                    rows.append((ratio, k, name, low <= 0 <= high, high - low))
    table = pd.DataFrame(rows, columns=["ratio", "seeds_n", "interval", "covered", "width"])
    cells = table.groupby(["ratio", "seeds_n", "interval"], sort=False)
    return cells.agg(covered=("covered", "mean"), width=("width", "median")).reset_index()
