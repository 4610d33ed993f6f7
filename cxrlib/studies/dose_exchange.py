"""What a report label is worth: how many images labelled by a radiologist give the AUC that report labels give.

The curve of AUC by size of the networks that learned from the radiologist is read off at the AUC of those that
learned from reports. Nothing is said of sizes beyond those that were trained.
"""

import numpy as np
import pandas as pd

from cxrlib.statistics import intervals
from cxrlib.studies.dose_response import SCORERS

ENDS = ("the estimate", "the lower end", "the upper end")  # as `reason` calls what lies beyond the sizes
_DECIMALS = 12  # AUCs that agree so far are the same: beyond, sums differ by rounding alone


def rising(areas):
    """Return curves made to rise: isotonic regression by its max-min formula, as pooling adjacent violators gives it.

    Robertson, Wright and Dykstra, Order Restricted Statistical Inference, 1988, theorem 1.4.4.

    Parameters
    ----------
    areas : (..., k) array
    """
    k = np.shape(areas)[-1]
    sums = np.concatenate([np.zeros((*np.shape(areas)[:-1], 1)), np.cumsum(areas, axis=-1)], axis=-1)
    mean = {(a, b): (sums[..., b + 1] - sums[..., a]) / (b + 1 - a) for a in range(k) for b in range(a, k)}
    each = [
        np.max([np.min([mean[a, b] for b in range(i, k)], axis=0) for a in range(i + 1)], axis=0) for i in range(k)
    ]
    return np.stack(each, axis=-1)


def images_needed(sizes, areas, target):
    """Return how many images give a network this AUC: where its rising curve over the log of the size reaches it.

    The curve is made monotone (`rising`) and is straight between sizes.

    Parameters
    ----------
    sizes : (k,) array of int
        Ascending.
    areas : (n, k) array of float
        A curve a row.
    target : (n,) array of float

    Returns
    -------
    (n,) float64
        -inf below the curve's first AUC, inf above its last: beyond the sizes that were trained nothing is known.
    """
    curve, target = (np.round(values, _DECIMALS) for values in (rising(areas), np.asarray(target, float)))
    log = np.log(sizes)
    k = np.clip((curve < target[:, None]).sum(1), 1, len(sizes) - 1)
    row = np.arange(len(curve))
    below, above = curve[row, k - 1], curve[row, k]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(above > below, (target - below) / (above - below), 0.0)
    between = np.exp(log[k - 1] + share * (log[k] - log[k - 1]))
    return np.where(target < curve[:, 0], -np.inf, np.where(target > curve[:, -1], np.inf, between))


def exchanged(sizes, better, other, n, rng):
    """Return how many images with the better labels are worth `n` with the other ones.

    Patients and seeds are resampled together: a replicate takes one resample of the test patients and draws the seeds
    with replacement, one fewer than there are, so that the variance over seeds is not too small (Rao and Wu, JASA
    1988;83:231). Ends are order statistics, so that they can lie beyond the sizes.

    Parameters
    ----------
    sizes : (k,) array of int
    better, other : pairs of (k, seeds) and (k, seeds, b) arrays
        AUCs of each size and seed, over all test images and in each resample.
    n : int
        One of the sizes.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        `needed, needed_low, needed_high` in images, NaN where they lie beyond the sizes, `ratio` (n / needed) with
        its ends, and `reason`.
    """
    at, seeds_n = list(sizes).index(n), better[0].shape[1]
    needed = images_needed(sizes, better[0].mean(1)[None], [other[0][at].mean()])[0]
    low = high = np.nan
    if seeds_n > 1:
        replicates_n = better[1].shape[2]
        drawn = rng.multinomial(seeds_n - 1, np.full(seeds_n, 1 / seeds_n), size=replicates_n) / (seeds_n - 1)
        curve = np.einsum("ksb,bs->bk", better[1], drawn)
        target = np.einsum("sb,bs->b", other[1][at], drawn)
        low, high = np.quantile(images_needed(sizes, curve, target), (0.025, 0.975), method="inverted_cdf")
    out = {}
    for name, value in (("needed", needed), ("needed_low", low), ("needed_high", high)):
        out[name] = value if np.isfinite(value) else np.nan
    out |= {"ratio": n / out["needed"], "ratio_low": n / out["needed_high"], "ratio_high": n / out["needed_low"]}
    return {**out, "reason": "" if seeds_n > 1 else intervals.ONE_SEED} | _beyond(sizes, needed, low, high)


def _beyond(sizes, needed, low, high):
    """Return as `reason` which of an estimate and its ends lie beyond the sizes, if any does."""
    parts = []
    for name, value in zip(ENDS, (needed, low, high), strict=True):
        if np.isinf(value):
            parts.append(f"{name} lies {'below' if value < 0 else 'above'} {sizes[0 if value < 0 else -1]} images")
    return {"reason": "; ".join(parts)} if parts else {}


def exchange(study, rng):
    """Return how many images labelled by a radiologist are worth as many labelled by reports (all of the noise).

    Returns
    -------
    pandas.DataFrame
        `sensitivity, scored_against, reports_n, auc` (of the network trained on reports), the entries of `exchanged`.
    """
    rows = []
    for sensitivity in study.readers():
        lines = study.size_lines(sensitivity)
        for scorer in SCORERS:
            better, other = (
                tuple(
                    np.stack(parts) for parts in zip(*(study.areas(line, s, scorer) for line in lines), strict=True)
                )
                for s in (study.scales[0], study.scales[-1])
            )
            for k, n in enumerate(study.sizes):
                row = {
                    "sensitivity": sensitivity,
                    "scored_against": scorer,
                    "reports_n": n,
                    "auc": other[0][k].mean(),
                }
                rows.append({**row, **exchanged(study.sizes, better, other, n, rng)})
    return pd.DataFrame(rows)
