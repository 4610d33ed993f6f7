"""Rankings of models: by whose labels which model is best, and how often another opinion turns the order.

A *truth* is one opinion on the test images, 1 or 0. Models are ranked by AUC against it. Two models with the same
scores are tied under every truth: such a pair has no order that could turn, and is not counted.

    scored = rankings.score(truths, scores, resamples)         # {(finding, truth): Scored}
    rankings.table(scored, models)                             # AUC and rank of each model
    rankings.changes(scored, models, reference="radiologists")  # tau, pairs that turn, the best model
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from cxrlib.base import figures
from cxrlib.statistics import accuracy, intervals

MEAN = "mean"  # what the mean AUC over all findings is called


DECIMALS = 12  # AUCs that agree so far are tied: beyond, sums differ by rounding alone


class Scored(NamedTuple):
    """The AUC of each model by one truth: on all images, and in each resample of patients."""

    areas: np.ndarray  # (k,)
    replicates: np.ndarray  # (b, k)


class Concordance(NamedTuple):
    """How two rankings of the same models agree; arrays over resamples, or single numbers."""

    tau: np.ndarray  # Kendall's tau-b
    pairs_n: np.ndarray  # pairs that are not tied in both
    discordant_n: np.ndarray  # pairs that one ranks the other way round
    tied_n: np.ndarray  # pairs that only one of the two ties


def score(truths, scores, resamples):
    """Return the AUC of every model by every truth, by finding and for the mean over the findings.

    Parameters
    ----------
    truths : Mapping of str to pandas.DataFrame
        Images x findings, 1 or 0.
    scores : Mapping of str to pandas.DataFrame
        Finding -> images x models; only the order of scores counts.
    resamples : stats.Resamples
        Of patients; all truths and models share them, so that every comparison is paired.

    Returns
    -------
    dict of (finding, truth) to Scored
        With `MEAN` as a further finding.

    Raises
    ------
    ValueError
        If a truth or a finding's scores are not of the same images in the same order.
    """
    images = next(iter(scores.values())).index
    for name, rows in {**truths, **scores}.items():
        if not rows.index.equals(images):
            raise ValueError(f"{name!r} is not of the same images in the same order as the scores.")
    scored = {}
    for truth, labels in truths.items():
        parts = [_areas(labels[finding], scores[finding], resamples) for finding in scores]
        scored |= {(finding, truth): part for finding, part in zip(scores, parts, strict=True)}
        scored[MEAN, truth] = Scored(*(np.mean(each, axis=0) for each in zip(*parts, strict=True)))
    return scored


def _areas(label, scores, resamples):
    """Return the AUC of each column of scores."""
    each = [scores[model].to_numpy(float) for model in scores]
    label = label.to_numpy(float)
    return Scored(
        np.array([accuracy.auc(label, s) for s in each]),
        np.stack([accuracy.auc(label, s, resamples) for s in each], axis=1),
    )


def ranks(areas):
    """Return the rank of each model, 1 the highest AUC; tied models share the mean of their ranks."""
    return rankdata(-np.round(areas, DECIMALS), method="average")


def _signs(areas):
    """Return for each pair of models which has the higher AUC: 1, -1, or 0 where tied; (..., pairs)."""
    first, second = np.triu_indices(np.shape(areas)[-1], 1)
    rounded = np.round(areas, DECIMALS)
    return np.sign(rounded[..., first] - rounded[..., second])


def concordance(first, second):
    """Return how far two rankings of the same models agree (Kendall, Biometrika 1945;33:239: tau-b).

    Parameters
    ----------
    first, second : (..., k) arrays of AUCs

    Returns
    -------
    Concordance
        `tau` is NaN where one of them ties all models.
    """
    a, b = np.broadcast_arrays(_signs(first), _signs(second))
    product = a * b
    ordered = np.sqrt((a != 0).sum(-1) * (b != 0).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = np.where(ordered > 0, product.sum(-1) / ordered, np.nan)
    return Concordance(
        tau,
        ((a != 0) | (b != 0)).sum(-1),
        (product < 0).sum(-1),
        ((a != 0) ^ (b != 0)).sum(-1),
    )


def best(areas):
    """Return which models have the highest AUC, (..., k) bool: several where they are tied."""
    rounded = np.round(areas, DECIMALS)
    return rounded == rounded.max(axis=-1, keepdims=True)


def loss(reference, other):
    """Return what choosing the best model by `other` costs, in AUC by `reference`; 0 if it is the best there too.

    Parameters
    ----------
    reference, other : (..., k) arrays of AUCs
        Of several models tied for best by `other`, the mean is taken.
    """
    chosen = best(other)
    of_chosen = np.where(chosen, reference, 0).sum(-1) / chosen.sum(-1)
    return np.round(np.max(reference, axis=-1) - of_chosen, DECIMALS)


def pair_tests(scored, models):
    """Return the AUC difference of every pair of models by one truth, with Holm's correction over the pairs.

    Pairs with equal AUCs in the whole sample and in every resample have the same scores: they are no comparison, get
    no p-value and do not count in the correction.

    Parameters
    ----------
    scored : Scored
    models : sequence of str

    Returns
    -------
    pandas.DataFrame
        `first, second, estimate, low, high, p, p_holm`, a row per pair.
    """
    rows = []
    for i, j in combinations(range(len(models)), 2):
        gap = np.round(scored.areas[i] - scored.areas[j], DECIMALS)
        replicates = np.round(scored.replicates[:, i] - scored.replicates[:, j], DECIMALS)
        same = gap == 0 and not replicates.any()
        test = intervals.Test(0.0, 0.0, 0.0, np.nan, "same scores") if same else intervals.difference(gap, replicates)
        rows.append({"first": models[i], "second": models[j], **test._asdict()})
    table = pd.DataFrame(rows).drop(columns="reason")
    return table.assign(p_holm=intervals.holm(table["p"]))


def table(scored, models):
    """Return the AUC, with its 95 % interval over patients, and the rank of every model.

    Returns
    -------
    pandas.DataFrame
        `finding, truth, model, auc, low, high, rank, rank_low, rank_high`; tied models share the mean of their ranks,
        and the interval of a rank is that of the ranks in the resamples.
    """
    rows = []
    for (finding, truth), one in scored.items():
        ends = np.quantile(rankdata(-np.round(one.replicates, DECIMALS), axis=1), (0.025, 0.975), axis=0)
        for k, (model, rank) in enumerate(zip(models, ranks(one.areas), strict=True)):
            value = intervals.interval(one.areas[k], one.replicates[:, k])
            row = {"finding": finding, "truth": truth, "model": model, "auc": value.estimate}
            row |= {"low": value.low, "high": value.high, "rank": rank}
            rows.append(row | {"rank_low": ends[0, k], "rank_high": ends[1, k]})
    return pd.DataFrame(rows)


def _interval(name, estimate, replicates):
    value = intervals.interval(float(estimate), np.asarray(replicates, float))
    return {name: value.estimate, f"{name}_low": value.low, f"{name}_high": value.high}


def changes(scored, models, reference, alpha=0.05):
    """Return how each truth's ranking differs from that of a reference.

    Parameters
    ----------
    scored : dict of (finding, truth) to Scored
    models : sequence of str
    reference : str
        The truth that the others are compared with. It is also compared with itself in the resamples, as
        `<reference>, resampled`: how far the choice of test patients alone turns the order.
    alpha : float
        Level of the pairwise tests, after Holm's correction over the pairs.

    Returns
    -------
    pandas.DataFrame
        A row per finding and truth. `tau, tau_low, tau_high`; `pairs_n` that have an order, `discordant_n` of them
        with the other order (estimate and interval), `tied_n` tied by one truth alone; `best` by this truth and
        `best_by_reference`; `best_same` in the whole sample and `best_same_frac` of the resamples; `loss` of AUC by
        the reference when the best by this truth is chosen; and of the pairs, how many differ significantly by the
        reference, by this truth, by both the same way, and by both in opposite ways. Resampling adds noise to both
        rankings, so that the intervals of tau lie low and those of discordant pairs lie high of the estimates. The
        row `resampled` has the means over the resamples as its estimates and no tests.
    """
    rows = []
    for finding in dict.fromkeys(finding for finding, _ in scored):
        base = scored[finding, reference]
        rows.append({"finding": finding, "truth": f"{reference}, resampled", **_resampled(base)})
        for truth in dict.fromkeys(truth for _, truth in scored):
            if truth != reference:
                row = _change(base, scored[finding, truth], models, alpha)
                rows.append({"finding": finding, "truth": truth, **row})
    counts = ["best_same", "significant_reference_n", "significant_n", "same_way_n", "opposite_n"]
    return pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64"))


def _resampled(base):
    each, chosen = concordance(base.areas, base.replicates), best(base.replicates)
    return {
        **_interval("tau", np.nanmean(each.tau), each.tau),
        "pairs_n": int(concordance(base.areas, base.areas).pairs_n),
        **_interval("discordant_n", each.discordant_n.mean(), each.discordant_n),
        "best_same_frac": (chosen & best(base.areas)).any(-1).mean(),
        **_interval("loss", (lost := loss(base.areas[None], base.replicates)).mean(), lost),
    }


def _change(base, other, models, alpha):
    """Return one row of `changes`."""
    whole, each = concordance(base.areas, other.areas), concordance(base.replicates, other.replicates)
    shared = (best(base.replicates) & best(other.replicates)).any(-1)
    names = np.array(models)
    return {
        **_interval("tau", whole.tau, each.tau),
        "pairs_n": int(whole.pairs_n),
        **_interval("discordant_n", whole.discordant_n, each.discordant_n),
        "tied_n": int(whole.tied_n),
        "best": ", ".join(names[best(other.areas)]),
        "best_by_reference": ", ".join(names[best(base.areas)]),
        "best_same": int((best(base.areas) & best(other.areas)).any()),
        "best_same_frac": shared.mean(),
        **_interval("loss", loss(base.areas, other.areas), loss(base.replicates, other.replicates)),
        **_significant(pair_tests(base, models), pair_tests(other, models), alpha),
    }


def _significant(base, other, alpha):
    """Return how many pairs differ by each truth, and by both in the same or in opposite ways."""
    by_base, by_other = base["p_holm"] < alpha, other["p_holm"] < alpha
    way = np.sign(base["estimate"]) * np.sign(other["estimate"])
    return {
        "significant_reference_n": int(by_base.sum()),
        "significant_n": int(by_other.sum()),
        "same_way_n": int((by_base & by_other & (way > 0)).sum()),
        "opposite_n": int((by_base & by_other & (way < 0)).sum()),
    }


def turned_more(scored, findings, reference, truth, others):
    """Return how many more of a hundred pairs a truth turns than others do on average, all compared with a reference.

    Parameters
    ----------
    scored : dict of (finding, truth) to Scored
    findings : sequence of str
        Pairs are pooled over them.
    reference, truth : str
    others : sequence of str
        Truths, such as single readers.

    Returns
    -------
    stats.Test
        In percent of the pairs that have an order; paired over the resamples.
    """

    def turned(by, kind):
        each = [concordance(getattr(scored[f, reference], kind), getattr(scored[f, by], kind)) for f in findings]
        return 100 * sum(c.discordant_n for c in each) / sum(c.pairs_n for c in each)

    gap = {k: turned(truth, k) - np.mean([turned(by, k) for by in others], axis=0) for k in Scored._fields}
    return intervals.difference(float(gap["areas"]), gap["replicates"])


def points(truth, opinions, scores, resamples):
    """Return where opinions of yes and no lie among the ROC curves of models.

    Parameters
    ----------
    truth : pandas.DataFrame
        Images x findings, 1 or 0.
    opinions : Mapping of str to pandas.DataFrame
        Same shape: a labeler, a radiologist.
    scores : Mapping of str to pandas.DataFrame
        Finding -> images x models.
    resamples : stats.Resamples

    Returns
    -------
    pandas.DataFrame
        `finding, opinion, positives_n, called_n`, its sensitivity and specificity with 95 % intervals over patients,
        and, at its specificity, the median sensitivity of the models and how many of them are more sensitive
        (`models_above_n` of `models_n`; models of the same scores count once). The specificity is held at its
        estimate there, and no test is made.
    """
    rows = []
    for finding, each in scores.items():
        distinct = each.T.drop_duplicates().T
        label = truth[finding].to_numpy(float)
        for name, said in opinions.items():
            called = said[finding].to_numpy(float)
            rates = intervals.rate_intervals(label, called, resamples)
            there = [
                accuracy.sensitivity_at_specificity(label, distinct[model], rates["specificity"].estimate)
                for model in distinct
            ]
            row = {
                "finding": finding,
                "opinion": name,
                "positives_n": int(label.sum()),
                "called_n": int(called.sum()),
            }
            for rate in ("sensitivity", "specificity"):
                row |= {rate: rates[rate].estimate, f"{rate}_low": rates[rate].low, f"{rate}_high": rates[rate].high}
            above = int(np.sum(np.array(there) > rates["sensitivity"].estimate))
            rows.append(row | {"models_median": np.median(there), "models_above_n": above, "models_n": len(there)})
    return pd.DataFrame(rows)


def picture(ranked, titles, truths):
    """Return a figure of ranks: a panel per finding, a column per truth, a line per group of models tied throughout.

    Parameters
    ----------
    ranked : pandas.DataFrame
        As `table` returns it.
    titles : Mapping of str to str
        Finding -> title of its panel.
    truths : Mapping of str to str
        Truth -> what to call it, in order; the first is the one that the others are compared with. Lines are coloured
        by how far they are from it in the last: blue where ranked better there by two or more, orange where worse.
    """
    wide = ranked.pivot(index=["finding", "model"], columns="truth", values="rank")[list(truths)]
    fig, axes = figures.figure(-(-len(titles) // 3), 3, width=12, height=4 * -(-len(titles) // 3), squeeze=False)
    for axis, (finding, title) in zip(axes.flat, titles.items(), strict=False):
        lines = wide.loc[finding].reset_index().groupby(list(truths))["model"].agg("\n".join)
        for place, names in lines.items():
            moved = place[0] - place[-1]
            colour = figures.colour("radiologist" if moved > 0 else "nlp") if abs(moved) >= 2 else "#888888"
            axis.plot(range(len(place)), place, "o-", color=colour, linewidth=1.8, markersize=5)
            for at, side, where in ((0, "right", -0.07), (-1, "left", len(place) - 0.93)):
                axis.text(where, place[at], names, ha=side, va="center", fontsize=8, color=colour, linespacing=0.95)
        axis.set(xlim=(-0.75, len(truths) - 0.25), ylim=(len(wide.loc[finding]) + 0.6, 0.4), title=title)
        axis.set_xticks(range(len(truths)), list(truths.values()), fontsize=8)
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    for axis in axes.flat[len(titles) :]:
        axis.set_visible(False)
    return fig
