"""Intervals and tests over resamples of patients, and over training seeds; corrections for many tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from cxrlib.statistics import accuracy, planning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import ArrayLike

    from cxrlib.statistics.resampling import Resamples


class Interval(NamedTuple):
    """An estimate with its 95 % interval; NaN with a reason where it is undefined."""

    estimate: float
    low: float
    high: float
    reason: str = ""


class Test(NamedTuple):
    """A difference with its 95 % interval and two-sided p-value."""

    estimate: float
    low: float
    high: float
    p: float
    reason: str = ""


FEW_PATIENTS = 10  # a group of fewer gets no interval and no test: its resamples hardly differ


def too_few(patients: Sequence[np.ndarray]) -> str:
    """Return the reason why something gets no interval, or an empty text.

    Parameters
    ----------
    patients : sequence of arrays
        The patients of each part that it rests on, one entry an image.
    """
    least = min(len(np.unique(part)) for part in patients)
    return f"no interval: it rests on {least} patients, fewer than {FEW_PATIENTS}" if least < FEW_PATIENTS else ""


def too_few_of_either(label: ArrayLike, resamples: Resamples) -> str:
    """Return why a measure of both classes gets no interval, or an empty text.

    Parameters
    ----------
    label : (n,) array of 0/1
    resamples : Resamples
        Of the same images.
    """
    label = np.asarray(label, float)
    return too_few([resamples.patient[label == 1], resamples.patient[label == 0]])


def exact_interval(estimate: float, patients: ArrayLike) -> Interval:
    """Return the interval of a rate of exactly 0 or 1, of which resamples can say nothing: Clopper and Pearson's.

    Parameters
    ----------
    estimate : float
        0 or 1.
    patients : (k,) array
        Of the images in the denominator; each patient counts once, which is on the safe side.
    """
    n = len(np.unique(patients))
    reach = 0.025 ** (1 / n)
    low, high = (0.0, 1 - reach) if estimate == 0 else (reach, 1.0)
    return Interval(float(estimate), float(low), float(high), f"exact, {n} patients: every resample gives the same")


def text(estimate: float, low: float, high: float) -> str:
    """Return an estimate with its interval to read, three decimals."""
    if np.isnan(estimate):
        return "undefined"
    return f"{estimate:.3f}" if np.isnan(low) else f"{estimate:.3f} ({low:.3f} to {high:.3f})"


def estimate(
    measure: Callable,
    label: ArrayLike,
    score: ArrayLike,
    resamples: Resamples,
    method: str = "percentile",
    **options: Any,
) -> Interval:
    """Return a measure with its 95 % interval over patients.

    Parameters
    ----------
    measure : Callable
        One of this module, or any with its signature.
    label, score : (n,) arrays
    resamples : Resamples
        Of the same images.
    method : {"percentile", "bca"}
        BCa corrects for bias and skewness (Efron 1987), with a jackknife over patients.
    **options
        Further arguments of the measure.
    """
    value = measure(label, score, **options)
    replicates = measure(label, score, resamples=resamples, **options)
    if method == "percentile":
        return interval(value, replicates)
    return bca_interval(value, replicates, measure(label, score, resamples=resamples.jackknife(), **options))


def paired(
    measure: Callable,
    label: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    resamples: Resamples,
    method: str = "percentile",
    **options: Any,
) -> Test:
    """Return the difference a - b of a measure between two models on the same images and resamples.

    The p-value is that of the percentile bootstrap by either method: a BCa interval may just disagree with it.
    """
    values = [measure(label, score, **options) for score in (score_a, score_b)]
    each = [measure(label, score, resamples=resamples, **options) for score in (score_a, score_b)]
    test = difference(values[0] - values[1], each[0] - each[1])
    if method == "percentile":
        return test
    left = [measure(label, score, resamples=resamples.jackknife(), **options) for score in (score_a, score_b)]
    low_high = bca_interval(values[0] - values[1], each[0] - each[1], left[0] - left[1])
    return test._replace(low=low_high.low, high=low_high.high)


def interval(estimate: float, replicates: np.ndarray, few: str = "") -> Interval:
    """Return the percentile interval of bootstrap replicates; NaN if more than half are undefined.

    Undefined replicates are left out, and `reason` says how many: the interval then holds given that both
    classes were drawn.

    Parameters
    ----------
    estimate : float
    replicates : (b,) array
    few : str
        Why the estimate gets no interval (`too_few`), or an empty text.
    """
    if few:
        return Interval(float(estimate), np.nan, np.nan, few)
    good = replicates[np.isfinite(replicates)]
    if not np.isfinite(estimate) or len(good) < 0.5 * len(replicates):
        return Interval(np.nan, np.nan, np.nan, "undefined: one class only, or nothing called")
    low, high = np.quantile(good, (0.025, 0.975))
    return Interval(float(estimate), float(low), float(high), _left_out(good, replicates))


def mean(values: ArrayLike, resamples: Resamples) -> Interval:
    """Return the mean of one value an image, with its interval.

    Parameters
    ----------
    values : (n,) float
    resamples : Resamples
        Of the same images. Of fewer than `FEW_PATIENTS` patients there is no interval, nor where every value is
        the same; where every value is 0, or every value 1, it is the exact one.
    """
    values = np.asarray(values, float)
    if len(values) == 0:
        return Interval(np.nan, np.nan, np.nan, "there is no image")
    estimate, few = float(values.mean()), too_few([resamples.patient])
    if few:
        return Interval(estimate, np.nan, np.nan, few)
    if np.isin(values, (0, 1)).all() and estimate in (0, 1):
        return exact_interval(estimate, resamples.patient)
    if np.ptp(values) == 0:
        return Interval(estimate, np.nan, np.nan, "no interval: every value is the same")
    with np.errstate(invalid="ignore"):
        return interval(estimate, resamples.totals(values) / resamples.totals(np.ones(len(values))))


def rate_intervals(label: ArrayLike, called: ArrayLike, resamples: Resamples) -> dict[str, Interval]:
    """Return `rates`, each with its percentile interval over patients."""
    replicates = accuracy.rates(label, called, resamples)
    return {name: interval(value, replicates[name]) for name, value in accuracy.rates(label, called).items()}


def bca_interval(estimate: float, replicates: np.ndarray, left_out: np.ndarray) -> Interval:
    """Return the BCa interval (Efron, JASA 1987;82:171).

    Parameters
    ----------
    estimate : float
    replicates : (b,) array
        Bootstrap.
    left_out : (k,) array
        The estimate without each patient, or without each of k groups of patients.
    """
    plain = interval(estimate, replicates)
    if not np.isfinite(plain.low):
        return plain
    good = replicates[np.isfinite(replicates)]
    share = (np.sum(good < estimate) + 0.5 * np.sum(good == estimate)) / len(good)
    spread = np.nanmean(left_out) - left_out[np.isfinite(left_out)]
    scale = np.sum(spread**2) ** 1.5
    if scale == 0 or not 0 < share < 1:
        return plain._replace(reason=plain.reason or "percentile: the estimate lies outside its resamples")
    bias, skew = norm.ppf(share), np.sum(spread**3) / (6 * scale)
    ends = bias + norm.ppf((0.025, 0.975))
    low, high = np.quantile(good, norm.cdf(bias + ends / (1 - skew * ends)))
    return plain._replace(low=float(low), high=float(high))


def _left_out(good: np.ndarray, replicates: np.ndarray) -> str:
    """Return a note of how many resamples were undefined, if any."""
    lost = len(replicates) - len(good)
    return f"{lost} of {len(replicates)} resamples undefined, left out" if lost else ""


def difference(estimate: float, replicates: np.ndarray) -> Test:
    """Return a paired difference with percentile interval and two-sided bootstrap p-value.

    The p-value is twice the smaller tail of replicates at or beyond 0. If no replicate is, it is that of a normal
    distribution with the replicates' spread, at most 2 / (b + 1), so that corrections for many tests are not stopped
    by the number of resamples. Where all replicates are exactly 0 the two sides are the same and p is 1.
    """
    good = replicates[np.isfinite(replicates)]
    if not np.isfinite(estimate) or len(good) < 0.5 * len(replicates):
        return Test(np.nan, np.nan, np.nan, np.nan, "undefined: one class only")
    tail = min((good <= 0).sum(), (good >= 0).sum())
    low, high = np.quantile(good, (0.025, 0.975))
    p = min(1, 2 * (tail + 1) / (len(good) + 1))
    if tail == 0 and np.ptp(good) > 0:
        p = min(p, two_sided_p(estimate / np.std(good, ddof=1)))
    return Test(float(estimate), float(low), float(high), float(p), _left_out(good, replicates))


def compared(estimate: float, replicates: np.ndarray, few: str = "") -> dict[str, Any]:
    """Return a paired difference as a row of a table: its `Test`, and what this test set shows with 80 % power.

    Parameters
    ----------
    estimate : float
    replicates : (b,) array
        Bootstrap.
    few : str
        Why it gets no interval and no test (`too_few`), or an empty text.

    Returns
    -------
    dict
        `estimate, low, high, p, reason, smallest`.
    """
    value = Test(float(estimate), np.nan, np.nan, np.nan, few) if few else difference(estimate, replicates)
    return {**value._asdict(), "smallest": planning.smallest_difference(float(np.nanstd(replicates, ddof=1)))}


ONE_SEED = "one training seed: what training moves is not known"
ONE_SEED_PATIENTS = "one training seed: the interval is over patients alone"
FEW_SEEDS = 5  # an interval over fewer covers too seldom (notebook 08)
FEW_SEEDS_NOTE = "fewer than five training seeds: such intervals cover too seldom"


def over_seeds(each: ArrayLike, replicates: ArrayLike, few: str = "") -> dict[str, Any]:
    """Return the mean over training seeds with an interval that holds for other patients and other seeds.

    Two sources of chance: which patients were tested, and which seeds were trained. The standard error is the root of
    the bootstrap variance of the mean and of the seeds' variance over their number, the interval Student's, with the
    degrees of freedom of Welch and Satterthwaite (those of the patients' part are taken as infinite). With two seeds
    it holds the truth in fewer of 100 studies than 95, the fewer the more seeds move the estimate: notebook 08 has
    the table, and `reason` says so of fewer than `FEW_SEEDS`.

    Parameters
    ----------
    each : (seeds_n,) array
        The estimate, such as a paired difference, of each seed on the same test images.
    replicates : (b,) array
        Its mean over the seeds in each bootstrap resample of patients.
    few : str
        Why it gets no interval and no test (`too_few`), or an empty text.

    Returns
    -------
    dict
        `estimate, low, high, p, reason, smallest`, as `compared`, but with one seed the estimate alone, and the
        reason; `low_patients, high_patients`: the percentile interval over patients alone, which holds for the
        networks that were trained.
    """
    each, replicates = np.asarray(each, float), np.asarray(replicates, float)
    estimate = float(each.mean()) if len(each) else np.nan
    alone = interval(estimate, replicates, few)
    value, smallest = Test(estimate, np.nan, np.nan, np.nan, few), np.nan
    if not few:
        value, smallest = _over_seeds(each, replicates)
    return {**value._asdict(), "smallest": smallest, "low_patients": alone.low, "high_patients": alone.high}


def area_over_seeds(each: ArrayLike, replicates: ArrayLike, few: str = "") -> Interval:
    """Return the mean of an AUC (or a rate) over seeds as an `Interval` over patients and seeds, within [0, 1].

    Parameters are those of `over_seeds`. Of one seed the interval is over patients alone, and `reason` says so.
    """
    value = over_seeds(each, replicates, few)
    low, high, reason = value["low"], value["high"], value["reason"]
    if reason == ONE_SEED:
        low, high, reason = value["low_patients"], value["high_patients"], ONE_SEED_PATIENTS
    return Interval(value["estimate"], float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1)), reason)


def _over_seeds(each: np.ndarray, replicates: np.ndarray) -> tuple[Test, float]:
    good = replicates[np.isfinite(replicates)]
    if not np.isfinite(each).all() or not len(each) or len(good) < 0.5 * len(replicates):
        return Test(np.nan, np.nan, np.nan, np.nan, "undefined: one class only"), np.nan
    mean = float(each.mean())
    if len(each) == 1:
        return Test(mean, np.nan, np.nan, np.nan, ONE_SEED), np.nan
    of_patients, of_seeds = np.var(good, ddof=1), np.var(each, ddof=1) / len(each)
    error = float(np.sqrt(of_patients + of_seeds))
    if error < 1e-12:  # the two sides are the same, whoever is tested
        return Test(mean, mean, mean, 1.0 if abs(mean) < 1e-12 else 0.0, _left_out(good, replicates)), 0.0
    notes = [FEW_SEEDS_NOTE if len(each) < FEW_SEEDS else "", _left_out(good, replicates)]
    freedom = (len(each) - 1) * (error**2 / of_seeds) ** 2 if of_seeds > 0 else np.inf
    reach = float(student.ppf(0.975, freedom)) * error
    p = float(2 * student.sf(abs(mean) / error, freedom))
    test = Test(mean, mean - reach, mean + reach, p, "; ".join(filter(None, notes)))
    return test, planning.smallest_difference(error, freedom=freedom)


def _adjusted(p: ArrayLike, sequence: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return adjusted p-values, NaN left as NaN; `sequence` adjusts sorted ones.

    Own code, since statsmodels' `multipletests`, which the tests compare with, collects garbage in each call: 0.1 s
    beside a few tables, 0.9 s beside a test suite.
    """
    p = np.asarray(p, float)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted[order] = np.minimum(sequence(p[order]), 1)
    return adjusted


def holm(p: ArrayLike) -> np.ndarray:
    """Return p-values adjusted by Holm's method (family-wise error; Scand J Stat 1979;6:65), NaN left as NaN."""
    return _adjusted(p, lambda ordered: np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)))


def benjamini_hochberg(p: ArrayLike) -> np.ndarray:
    """Return p-values adjusted by Benjamini and Hochberg's method (JRSS B 1995;57:289), NaN left as NaN."""

    def sequence(ordered: np.ndarray) -> np.ndarray:
        shares = np.arange(1, len(ordered) + 1) / max(len(ordered), 1)
        return np.minimum.accumulate((ordered / shares)[::-1])[::-1]

    return _adjusted(p, sequence)


def by_subgroup(
    measure: Callable, label: ArrayLike, score: ArrayLike, group: ArrayLike, resamples: Resamples, **options: Any
) -> pd.DataFrame:
    """Return a measure in each subgroup, and its difference from the largest one.

    Parameters
    ----------
    measure : Callable
    label, score : (n,) arrays
    group : (n,) array
        Missing values are a group of their own, `not stated`.
    resamples : Resamples

    Returns
    -------
    pandas.DataFrame
        `group, images_n, patients_n, positives_n, estimate, low, high, reason, difference, difference_low,
        difference_high, p, p_holm`; the difference is from the first row, the largest group, which has none. A group
        of fewer than `FEW_PATIENTS` patients with the finding gets no interval and no test.
    """
    label, score = np.asarray(label, float), np.asarray(score, float)
    group = pd.Series(np.asarray(group, dtype=object)).fillna("not stated").astype(str).to_numpy()
    rows, first = [], None
    for name in pd.Series(group).value_counts(sort=True).index:
        inside = group == name
        value = measure(label[inside], score[inside], **options)
        replicates = measure(label[inside], score[inside], resamples=resamples.of(inside), **options)
        few = too_few([resamples.patient[inside & (label == 1)]])
        if not few and np.isfinite(value) and np.nanmax(replicates) == np.nanmin(replicates):
            few = "no interval: every resample gives the same"
        row = {
            "group": name,
            "images_n": int(inside.sum()),
            "patients_n": len(np.unique(resamples.patient[inside])),
            "positives_n": int((label[inside] == 1).sum()),
            **interval(value, replicates, few)._asdict(),
        }
        if few:
            pass
        elif first is None:
            first = value, replicates
        else:
            test = difference(value - first[0], replicates - first[1])
            row |= dict(zip(("difference", "difference_low", "difference_high", "p"), test, strict=False))
        rows.append(row)
    table = pd.DataFrame(rows)
    for column in ("difference", "difference_low", "difference_high", "p"):
        table[column] = table.get(column, pd.Series(np.nan, table.index)).astype(float)
    return table.assign(p_holm=holm(table["p"]))


def standard_error_from_interval(low: float, high: float) -> float:
    """Return the standard error that a published symmetric 95 % interval implies."""
    return (high - low) / (2 * norm.ppf(0.975))


def two_sided_p(z: float) -> float:
    """Return the two-sided p-value of a z statistic."""
    return float(2 * norm.sf(abs(z)))
