"""What a finding-or-not network is worth at the reading desk: images ruled out, and a list read in its order.

A reading list is simulated: images are drawn from the test set at a stated prevalence, and read one after the other.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxrlib.statistics import accuracy, intervals

ORDERS = ("as they came", "highest score first", "ruled out last")


def work_saved(sensitivity, specificity, prevalence):
    """Return the share of all images that a rule-out threshold takes off the list, in [0, 1].

    Parameters
    ----------
    sensitivity, specificity : float or array
    prevalence : float
        Of images with a finding on the list.
    """
    return prevalence * (1 - np.asarray(sensitivity)) + (1 - prevalence) * np.asarray(specificity)


def rule_out(label, score, threshold, prevalences, resamples):
    """Return what a threshold does that calls everything below it free of findings.

    Parameters
    ----------
    label : (n,) array of 0/1
    score : (n,) float
    threshold : float
        Chosen elsewhere, `threshold_at_sensitivity`.
    prevalences : sequence of float
        Of findings, for `npv at prevalence P` and `work saved at prevalence P`.
    resamples : stats.Resamples
        Of the same images.

    Returns
    -------
    pandas.DataFrame
        `measure, estimate, low, high, reason`, with sensitivity and specificity first.
    """
    label = np.asarray(label, float)
    called = (np.asarray(score, float) >= threshold).astype(float)
    value, each = accuracy.rates(label, called), accuracy.rates(label, called, resamples)
    kept = {name: (value[name], each[name]) for name in ("sensitivity", "specificity")}
    for p in prevalences:
        for name, function in (("npv", accuracy.npv_at_prevalence), ("work saved", work_saved)):
            kept[f"{name} at prevalence {p:g}"] = tuple(
                function(r["sensitivity"], r["specificity"], p) for r in (value, each)
            )
    few, few_ruled_out = (
        intervals.too_few_of_either(label, resamples),
        intervals.too_few([resamples.patient[called == 0]]),
    )
    rows = []
    for measure, (estimate, replicates) in kept.items():
        reason = few or (few_ruled_out if measure.startswith("npv") else "")
        rows.append({"measure": measure, **intervals.interval(estimate, replicates, reason)._asdict()})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Desk:
    """How a list comes about and how it is read.

    Attributes
    ----------
    images_n : int
        Images on a list.
    abnormal_frac, critical_frac : float
        Share of images with a finding, and with a critical one (among all images).
    minutes : float
        To read one image.
    lists_n : int
        Lists drawn for the estimate; a tenth of them for each resample.
    """

    images_n: int
    abnormal_frac: float
    critical_frac: float
    minutes: float
    lists_n: int

    def __post_init__(self):
        if not 0 < self.critical_frac <= self.abnormal_frac < 1:
            raise ValueError(
                f"critical_frac {self.critical_frac}, abnormal_frac {self.abnormal_frac}: critical images are some "
                "of the abnormal ones, and there are normal ones too."
            )


def _drawn(desk, strata, weight, lists_n, rng):
    """Return image numbers of lists, (lists_n, images_n), by stratum and weight; None if a stratum is empty."""
    shares = (1 - desk.abnormal_frac, desk.abnormal_frac - desk.critical_frac, desk.critical_frac)
    p = np.zeros(len(strata))
    for stratum, share in enumerate(shares):
        inside = weight * (strata == stratum)
        if share and not inside.sum():
            return None
        p += share * inside / max(inside.sum(), 1)
    return rng.choice(len(strata), (lists_n, desk.images_n), p=p / p.sum())


def unsorted_minutes(desk):
    """Return minutes to the first critical image of a list in random order, and to one on average, exactly."""
    position = np.arange(1, desk.images_n + 1)
    p = desk.critical_frac * (1 - desk.critical_frac) ** (position - 1)
    return desk.minutes * np.array([(position * p).sum() / p.sum(), (desk.images_n + 1) / 2])


def _reading_position(score, order, threshold):
    """Return when each image of each list is read, 1 first, (lists_n, images_n); equal scores keep their order."""
    key = -score if order == "highest score first" else (score < threshold).astype(float)
    return np.argsort(np.argsort(key, axis=1, kind="stable"), axis=1) + 1


def _times(desk, lists, critical, score, threshold):
    """Return `{order: minutes until the first, and on average until every critical image}`; NaN without lists."""
    if lists is None:
        return {order: np.full(2, np.nan) for order in ORDERS[1:]}
    found = critical[lists]
    some = found.any(axis=1)
    out = {}
    for order in ORDERS[1:]:
        position = np.where(found, _reading_position(score[lists], order, threshold), np.nan)[some]
        out[order] = desk.minutes * np.array([np.nanmin(position, 1).mean(), np.nanmean(position)])
    return out


def reading_list(label, critical, score, threshold, patient_id, desk, resamples_n, rng):
    """Return how long critical images wait, by the order of the list, and what triage gains.

    Images that have a label are drawn with replacement: normal ones, abnormal ones and critical ones in the stated
    shares. Lists without a critical image have no first one and are left out; their share is in the table.
    Intervals resample patients, and draw new lists from each resample. "As they came" is computed, not drawn.

    Parameters
    ----------
    label : (n,) array
        1 finding, 0 none; others are left out.
    critical : (n,) array
        1 critical; a critical image counts as one with a finding, whatever its label.
    score : (n,) float
    threshold : float
        Of ruling out: images below it are read last in the order "ruled out last".
    patient_id : (n,) array
    desk : Desk
    resamples_n : int
    rng : numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        `order, measure, estimate, low, high, reason, lists_without_critical_frac`; measures are `minutes to the first
        critical image` and `mean minutes to a critical image`, for each order and for the gain over "as they came".

    Raises
    ------
    ValueError
        If there is no normal, no abnormal or no critical image to draw.
    """
    label, critical, score = np.asarray(label, float), np.asarray(critical, float) == 1, np.asarray(score, float)
    keep = np.isin(label, (0, 1)) | critical
    strata = np.select([critical, label == 1], [2, 1], 0)[keep]
    critical, score = critical[keep], score[keep]
    have = np.bincount(strata, minlength=3)
    if (have == 0).any():
        which = ("no normal", "no abnormal but uncritical", "no critical")[int(np.argmin(have))]
        raise ValueError(f"There is {which} image to draw reading lists from; of each kind: {have.tolist()}.")
    patients = pd.factorize(np.asarray(patient_id, object)[keep])[0]
    few = intervals.too_few([patients[strata == 2], patients[strata != 2]])
    patients_n = patients.max() + 1
    whole = _times(desk, _drawn(desk, strata, np.ones(len(strata)), desk.lists_n, rng), critical, score, threshold)
    replicates = []
    for _ in range(resamples_n):
        counts = np.bincount(rng.integers(0, patients_n, patients_n), minlength=patients_n)
        lists = _drawn(desk, strata, counts[patients].astype(float), max(1, desk.lists_n // 10), rng)
        replicates.append(_times(desk, lists, critical, score, threshold))
    base = unsorted_minutes(desk)
    rows = []
    for k, measure in enumerate(("minutes to the first critical image", "mean minutes to a critical image")):
        exact = intervals.Interval(float(base[k]), np.nan, np.nan, "exact: it does not depend on the images")
        rows.append({"order": ORDERS[0], "measure": measure, **exact._asdict()})
        for order in ORDERS[1:]:
            each = np.array([times[order][k] for times in replicates])
            waited = intervals.interval(whole[order][k], each, few)
            gained = intervals.interval(base[k] - whole[order][k], base[k] - each, few)
            rows.append({"order": order, "measure": measure, **waited._asdict()})
            rows.append({"order": order, "measure": "gain, " + measure, **gained._asdict()})
    return pd.DataFrame(rows).assign(lists_without_critical_frac=(1 - desk.critical_frac) ** desk.images_n)


def threshold_at_sensitivity(label, score, sensitivity):
    """Return the highest threshold at which at least that share of the findings is at or above it.

    Raises
    ------
    ValueError
        If no image has the finding.
    """
    positives = np.sort(np.asarray(score, float)[np.asarray(label, float) == 1])
    if not len(positives):
        raise ValueError("A threshold of stated sensitivity needs images with a finding; there is none.")
    missed_n = int(np.floor((1 - sensitivity) * len(positives) + 1e-9))
    return float(positives[missed_n])
