"""Agreement of readers with each other, and what they say together about a truth that nobody knows.

Readings are a long table: one row per image and reader, `image_id, reader_id` and a column per finding (1, 0,
NaN not assessed; apply a policy to -1 first). Readers may differ from image to image.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cxrlib.statistics import accuracy, resampling


def tally(readings, finding):
    """Return how often each image was assessed for a finding and found positive.

    Parameters
    ----------
    readings : pandas.DataFrame
        `image_id, reader_id` and findings.
    finding : str

    Returns
    -------
    pandas.DataFrame
        Indexed by `image_id`: `readings_n, positives_n`. Images with fewer than two readings are left out: they
        say nothing about agreement.

    Raises
    ------
    ValueError
        If a reader assessed an image twice, or a value is none of 1, 0 and NaN.
    """
    if readings.duplicated(["image_id", "reader_id"]).any():
        row = readings[readings.duplicated(["image_id", "reader_id"])].iloc[0]
        raise ValueError(f"reader {row['reader_id']} has two rows for image {row['image_id']}: keep one.")
    values = readings[finding]
    wrong = values.notna() & ~values.isin((0, 1))
    if wrong.any():
        row = readings[wrong].iloc[0]
        raise ValueError(f"{finding} of image {row['image_id']} is {row[finding]:g}: resolve uncertain values first.")
    counts = values.groupby(readings["image_id"]).agg(["count", "sum"]).astype(int)
    counts.columns = ["readings_n", "positives_n"]
    return counts[counts["readings_n"] >= 2]


def krippendorff_alpha(counts, resamples=None):
    """Return Krippendorff's alpha for nominal data (Krippendorff 2004, ch. 11), any number of readers an image.

    Parameters
    ----------
    counts : pandas.DataFrame
        As `tally` returns it.
    resamples : stats.Resamples, optional
        Of its rows.

    Returns
    -------
    float, or (b,) float64 with resamples
        1 perfect, 0 chance; NaN where all readings are the same.
    """
    m, p = counts["readings_n"].to_numpy(float), counts["positives_n"].to_numpy(float)
    each = resampling.whole(len(m)) if resamples is None else resamples
    n, positives = each.totals(m), each.totals(p)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = each.totals(2 * p * (m - p) / (m - 1)) / n
        expected = 2 * positives * (n - positives) / (n * (n - 1))
        alpha = 1 - observed / expected
    return float(alpha[0]) if resamples is None else alpha


def fleiss_kappa(counts, resamples=None):
    """Return Fleiss' kappa (Fleiss, Psychol Bull 1971;76:378); every image must have as many readings.

    Parameters and returns are those of `krippendorff_alpha`; it raises a ValueError if numbers differ.
    """
    m, p = counts["readings_n"].to_numpy(float), counts["positives_n"].to_numpy(float)
    if len(set(m)) > 1:
        raise ValueError(
            f"images have {int(m.min())} to {int(m.max())} readings: Fleiss' kappa needs as many of each; "
            "use Krippendorff's alpha."
        )
    each = resampling.whole(len(m)) if resamples is None else resamples
    n = each.totals(np.ones(len(m)))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = each.totals((p * (p - 1) + (m - p) * (m - p - 1)) / (m * (m - 1))) / n
        positive = each.totals(p / m) / n
        expected = positive**2 + (1 - positive) ** 2
        kappa = (observed - expected) / (1 - expected)
    return float(kappa[0]) if resamples is None else kappa


def positive_agreement(counts, resamples=None):
    """Return how often a second reader agrees with a first who calls the finding present.

    Specific positive agreement (Cicchetti and Feinstein, J Clin Epidemiol 1990;43:551), over all pairs of readings of
    an image. It does not fall with rarity as kappa and alpha do, nor does it allow for chance. Parameters and returns
    are those of `krippendorff_alpha`.
    """
    m, p = counts["readings_n"].to_numpy(float), counts["positives_n"].to_numpy(float)
    each = resampling.whole(len(m)) if resamples is None else resamples
    with np.errstate(invalid="ignore", divide="ignore"):
        value = each.totals(p * (p - 1) / (m - 1)) / each.totals(p)
    return float(value[0]) if resamples is None else value


def pairwise_kappa(readings, finding, at_least=50):
    """Return Cohen's kappa of every two readers who assessed at least so many images in common.

    Returns
    -------
    pandas.DataFrame
        `reader_a, reader_b, images_n, kappa`; kappa is NaN where both say the same of every image.
    """
    wide = readings.pivot(index="image_id", columns="reader_id", values=finding)
    rows = []
    for a, b in combinations(wide.columns, 2):
        both = wide[[a, b]].dropna()
        if len(both) >= at_least:
            value = accuracy.kappa(both[a], both[b])
            rows.append({"reader_a": a, "reader_b": b, "images_n": len(both), "kappa": value})
    return pd.DataFrame(rows, columns=["reader_a", "reader_b", "images_n", "kappa"])


def majority(readings, findings, at_least):
    """Return the labels that at least so many readers of an image agree on: 1 if present by so many, else 0.

    Parameters
    ----------
    readings : pandas.DataFrame
    findings : sequence of str
    at_least : int

    Returns
    -------
    pandas.DataFrame
        `image_id` and findings, float32; NaN where nobody assessed the finding.
    """
    sums = readings.groupby("image_id", sort=False)[list(findings)].agg(lambda x: x.sum(min_count=1))
    return (sums >= at_least).astype("float32").where(sums.notna()).reset_index()


@dataclass(frozen=True)
class LatentTruth:
    """Posterior draws of a latent-class model.

    Attributes
    ----------
    image_id : (n,) array
    probability : (n,) float64
        Posterior probability that the finding is present on each image.
    prevalence : (draws,) float64
    reader_id : (r,) array
    sensitivity, specificity : (draws, r) float64
        Of each reader against the latent truth.
    """

    image_id: np.ndarray
    probability: np.ndarray
    prevalence: np.ndarray
    reader_id: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray

    def readers(self):
        """Return each reader's accuracy: medians with 95 % posterior intervals, a row a reader."""
        columns = {"reader_id": self.reader_id}
        for name in ("sensitivity", "specificity"):
            low, middle, high = np.quantile(getattr(self, name), (0.025, 0.5, 0.975), axis=0)
            columns |= {name: middle, f"{name}_low": low, f"{name}_high": high}
        return pd.DataFrame(columns)


def latent_truth(readings, finding, rng, draws_n=1000, warm_up_n=300, priors=((2.0, 1.0), (2.0, 1.0))):
    """Return what readers say together about the truth: Dawid and Skene's model with its uncertainty kept.

    Two classes, a sensitivity and a specificity for each reader, readers independent given the truth (Dawid and
    Skene, Appl Stat 1979;28:20), beta priors, Gibbs sampling. That independence is its weak point: an image that
    is hard for one reader is hard for all, what none of them sees is no part of this truth, and readers look better
    than they are. Images are taken as independent; several of one patient make the posterior too narrow.

    Parameters
    ----------
    readings : pandas.DataFrame
        Long; every image with at least one reading is used.
    finding : str
    rng : numpy.random.Generator
    draws_n, warm_up_n : int
        Kept draws, and draws before them that are not kept.
    priors : pair of (a, b)
        Beta priors of sensitivity and specificity. The default leans to above chance, without which the two
        classes could change their names.

    Raises
    ------
    ValueError
        If no image is assessed by two readers or more.
    """
    tally(readings, finding)  # checks the values
    rows = readings.dropna(subset=[finding])
    image_id, image = np.unique(rows["image_id"].astype(str), return_inverse=True)
    reader_id, reader = np.unique(rows["reader_id"].astype(str), return_inverse=True)
    said = rows[finding].to_numpy(float) == 1
    n, r = len(image_id), len(reader_id)
    if not n or np.bincount(image).max() < 2:
        raise ValueError(f"{finding}: no image has two readings, so readers cannot be told from the truth.")
    (a1, b1), (a0, b0) = priors
    share = np.bincount(image, said, n) / np.bincount(image)
    truth = share >= 0.5
    kept = {"probability": np.zeros(n), "prevalence": [], "sensitivity": [], "specificity": []}
    for draw in range(warm_up_n + draws_n):
        prevalence = rng.beta(1 + truth.sum(), 1 + n - truth.sum())
        true = truth[image]
        hits, misses = np.bincount(reader, true & said, r), np.bincount(reader, true & ~said, r)
        passes, alarms = np.bincount(reader, ~true & ~said, r), np.bincount(reader, ~true & said, r)
        sensitivity, specificity = rng.beta(a1 + hits, b1 + misses), rng.beta(a0 + passes, b0 + alarms)
        ratio = np.where(
            said,
            np.log(sensitivity)[reader] - np.log1p(-specificity)[reader],
            np.log1p(-sensitivity)[reader] - np.log(specificity)[reader],
        )
        probability = expit(logit(prevalence) + np.bincount(image, ratio, n))
        truth = rng.random(n) < probability
        if draw >= warm_up_n:
            kept["probability"] += probability / draws_n
            kept["prevalence"].append(prevalence)
            kept["sensitivity"].append(sensitivity)
            kept["specificity"].append(specificity)
    return LatentTruth(
        image_id,
        kept["probability"],
        np.array(kept["prevalence"]),
        reader_id,
        np.array(kept["sensitivity"]),
        np.array(kept["specificity"]),
    )
