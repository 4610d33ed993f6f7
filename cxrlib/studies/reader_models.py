"""Models of readers compared with their majority: Dawid and Skene's, and CROWDLAB, which adds a network's scores.

Readings are a long table as in `cxrlib.statistics.agreement`: `image_id, reader_id` and findings (1, 0, NaN). A
*consensus* is one label an image and a probability that the finding is present.

    found = consensus(readings, "mass", {"network": scores}, rng, draws_n=300)
    consensus_table(found, truth, resamples)            # against labels that somebody else made
    label_differences(found)                                  # where there is no truth
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from cleanlab import multiannotator

from cxrlib.base import figures
from cxrlib.statistics import accuracy, agreement, intervals, two_raters
from cxrlib.studies import cleaning, cleaning_tables

MAJORITY, LATENT, CROWDLAB = "majority", "Dawid-Skene", "CROWDLAB"
PREVALENCE = "prevalence alone"
LEAST_WEIGHT = 0.01  # a reader of less has no say beside one of weight 1


class Consensus(NamedTuple):
    """What a method makes of readings; a row for each network that had a part, one where none had.

    Attributes
    ----------
    label : (m, n) float64 of 0/1
    probability : (m, n) float64 in [0, 1]
        That the finding is present.
    weightless_frac : float
        What fraction of the readers the method gives a weight below `LEAST_WEIGHT`; NaN where it gives none.
    network_weight : float
        The weight of the network where a reader's is at most 1; NaN where it has no part.
    """

    label: np.ndarray
    probability: np.ndarray
    weightless_frac: float = np.nan
    network_weight: float = np.nan


def by_reader(readings, finding):
    """Return readings as images x readers, float64; NaN where a reader did not assess an image."""
    rows = readings.dropna(subset=[finding])
    return rows.pivot(index="image_id", columns="reader_id", values=finding).astype(float)


def crowdlab(wide, scores):
    """Return CROWDLAB's consensus (Goh, Tkachenko and Mueller, arXiv:2210.06812), cleanlab's `best_quality`.

    A weighted mean of a network's probability and the readers' labels. A reader weighs 1 - e / e0, with e how often
    other readers of the same images disagree, and e0 how often the rule errs that always names the commonest label;
    what would be negative is next to nothing. The network weighs likewise. Where a finding is rare, e0 is small, and
    readers who disagree about as often as the finding occurs have no say.

    Parameters
    ----------
    wide : pandas.DataFrame
        As `by_reader` returns it; every image with a reading or more.
    scores : (m, n) array in [0, 1]
        Of each network, for the images of `wide`.
    """
    labels, probabilities, reader_weights, network_weights = [], [], [], []
    for one in scores:
        found = multiannotator.get_label_quality_multiannotator(
            wide,
            np.c_[1 - one, one],
            consensus_method="best_quality",
            return_detailed_quality=False,
            return_annotator_stats=False,
            return_weights=True,
            verbose=False,
        )
        label = found["label_quality"]["consensus_label"].to_numpy(float)
        quality = found["label_quality"]["consensus_quality_score"].to_numpy(float)
        labels.append(label)
        probabilities.append(np.where(label == 1, quality, 1 - quality))
        reader_weights.append(np.mean(found["annotator_weight"] < LEAST_WEIGHT))
        network_weights.append(found["model_weight"])
    return Consensus(
        np.array(labels), np.array(probabilities), float(np.mean(reader_weights)), float(np.mean(network_weights))
    )


def consensus(readings, finding, scores, rng, draws_n):
    """Return what each method makes of readings of a finding, by name.

    Parameters
    ----------
    readings : pandas.DataFrame
    finding : str
    scores : Mapping of str to (m, n) array in [0, 1]
        What CROWDLAB is given, by name, for the images of `by_reader(readings, finding)`. That it is given nothing
        but the majority's prevalence is added, as `PREVALENCE`.
    rng : numpy.random.Generator
    draws_n : int
        Of the posterior of Dawid and Skene's model (`agreement.latent_truth`), after half as many that are not kept.

    Returns
    -------
    dict of str to Consensus
        The majority's label is 1 where more than half of an image's readers say so, its probability their fraction.
    """
    wide = by_reader(readings, finding)
    share = wide.mean(axis=1).to_numpy()
    latent = agreement.latent_truth(readings, finding, rng, draws_n=draws_n, warm_up_n=draws_n // 2)
    posterior = pd.Series(latent.probability, latent.image_id)[wide.index.astype(str)].to_numpy()
    majority = (share > 0.5).astype(float)
    found = {
        MAJORITY: Consensus(majority[None], share[None]),
        LATENT: Consensus((posterior > 0.5).astype(float)[None], posterior[None]),
    }
    given = {**scores, PREVALENCE: np.full((1, len(wide)), majority.mean())}
    return found | {f"{CROWDLAB}, {name}": crowdlab(wide, one) for name, one in given.items()}


_MEASURES = ("sensitivity", "specificity", "kappa")


def consensus_table(found, truth, resamples):
    """Return how each consensus agrees with labels that others made, with intervals.

    Parameters
    ----------
    found : Mapping of str to Consensus
    truth : (n,) array of 0/1
    resamples : Resamples
        Of the patients of the same images.

    Returns
    -------
    pandas.DataFrame
        `method, measure, estimate, low, high, p, reason`. Measures: sensitivity, specificity, kappa, `auc` of the
        probability, `wrong`, the fraction of labels that differ, and `wrong less majority`, paired over resamples.
    """
    rows, wrongs = [], {}
    for method, (label, probability, *_) in found.items():
        pairs = list(zip(label, probability, strict=True))
        few = intervals.too_few_of_either(truth, resamples)
        rates = [accuracy.rates(truth, one) for one in label]
        rates_b = [accuracy.rates(truth, one, resamples) for one in label]
        parts = {m: ([r[m] for r in rates], np.mean([r[m] for r in rates_b], axis=0)) for m in _MEASURES}
        areas = [accuracy.auc(truth, p) for _, p in pairs]
        parts["auc"] = areas, np.mean([accuracy.auc(truth, p, resamples) for _, p in pairs], axis=0)
        ones = resamples.totals(np.ones(len(truth)))
        wrong = np.array([np.mean(one != truth) for one in label])
        wrongs[method] = wrong, np.mean([resamples.totals(one != truth) / ones for one in label], axis=0)
        parts["wrong"] = wrongs[method]
        for measure, (each, each_b) in parts.items():
            row = {"method": method, "measure": measure}
            rows.append(row | cleaning_tables.over_networks(np.array(each, float), each_b, few))
        if method != MAJORITY:
            gap = [a - b for a, b in zip(wrongs[method], wrongs[MAJORITY], strict=True)]
            few = intervals.too_few([resamples.patient[(label != found[MAJORITY].label[0]).any(axis=0)]])
            rows.append({"method": method, "measure": "wrong less majority"} | _tested(*gap, few))
    return pd.DataFrame(rows)


def _tested(each, each_b, few):
    """Return a difference with interval and p-value, over networks too where there are several."""
    test = intervals.compared(each[0], each_b, few) if len(each) == 1 else intervals.over_seeds(each, each_b, few)
    return {name: test[name] for name in ("estimate", "low", "high", "p", "reason")}


def doubt_table(found, truth, resamples):
    """Return how well each method's doubt finds the majority labels that are wrong: AUCs with intervals.

    The doubt is the probability that the majority's label is not right. By the majority itself it is the fraction of
    readers who disagree.

    Returns
    -------
    pandas.DataFrame
        `method, wrong_n, estimate, low, high, reason`, and what it has more than the majority's own doubt
        (`less_majority, less_majority_low, less_majority_high, p`), paired over resamples.
    """
    label = found[MAJORITY].label[0]
    wrong = label != truth
    few = intervals.too_few_of_either(wrong, resamples)
    rows, first = [], None
    for method, (_, probability, *_) in found.items():
        doubts = np.where(label == 1, 1 - probability, probability)
        each = np.array([accuracy.auc(wrong, doubt) for doubt in doubts])
        each_b = np.mean([accuracy.auc(wrong, doubt, resamples) for doubt in doubts], axis=0)
        row = {"method": method, "wrong_n": int(wrong.sum()), **cleaning_tables.over_networks(each, each_b, few)}
        if first is None:
            first = each, each_b
        else:
            test = _tested(each - first[0], each_b - first[1], few)
            names = ("less_majority", "less_majority_low", "less_majority_high", "p")
            row |= dict(zip(names, (test[k] for k in ("estimate", "low", "high", "p")), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def label_differences(found, votes):
    """Return how labels differ from the majority's where nobody knows the truth, a row a method.

    Parameters
    ----------
    found : Mapping of str to Consensus
    votes : (n,) array
        How many readers call each image present.

    Returns
    -------
    pandas.DataFrame
        `method, present_n`, images that it alone calls present or absent compared with the majority (`added_n,
        removed_n`), `rank_correlation` of its probability with Dawid and Skene's on images with a vote or more, and
        `weightless_frac`.
    """
    rows = []
    majority, some = found[MAJORITY].label[0] == 1, np.asarray(votes) > 0
    for method, one in found.items():
        label, probability = one.label[0] == 1, one.probability[0]
        ranks = pd.DataFrame({"own": probability[some], "latent": found[LATENT].probability[0][some]}).rank()
        rows.append(
            {
                "method": method,
                "present_n": int(label.sum()),
                "added_n": int((label & ~majority).sum()),
                "removed_n": int((~label & majority).sum()),
                "rank_correlation": ranks.corr().iloc[0, 1],
                "weightless_frac": one.weightless_frac,
            }
        )
    return pd.DataFrame(rows)


def single_read_table(
    one, readings, strategies=(cleaning.QUALITY, cleaning.ABSENT, cleaning.RANDOM_REVIEW), reads_n=100
):
    """Return what a review mends if one reader reads each image again, and not a panel, with intervals.

    A reader mends wrong labels and spoils right ones; who reads an image is drawn from those who have read it. The
    images that are read are those of the whole sample in every resample.

    Parameters
    ----------
    one : cleaning.JudgedImages
    readings : pandas.DataFrame
        With a reading or more of every image of the case.
    strategies : sequence of str
    reads_n : int

    Returns
    -------
    pandas.DataFrame
        `finding, strategy`, of 100 reads `mended_by_panel, mended, spoiled`, and `estimate, low, high, reason` of
        what is gained, mended less spoiled.
    """
    read = by_reader(readings, one.finding).reindex(one.images.index).to_numpy(float)
    nobody = np.isnan(read).all(axis=1)
    if nobody.any():
        raise ValueError(f"nobody has read image {one.images.index[nobody][0]} for {one.finding}.")
    errs = np.nanmean(np.where(np.isnan(read), np.nan, read != one.truth[:, None]), axis=1)
    wrong = one.given != one.truth
    orders = cleaning.strategies(one)
    rows = []
    for strategy in strategies:
        if strategy == cleaning.RANDOM_REVIEW:
            chosen = [np.full(len(wrong), reads_n / len(wrong))]
        else:
            first = [np.argsort(-order[0], kind="stable")[:reads_n] for order in orders[strategy]]
            chosen = [np.isin(np.arange(len(wrong)), some).astype(float) for some in first]
        gain = wrong - errs
        each = np.array([100 * np.average(gain, weights=some) for some in chosen])
        each_b = np.mean(
            [100 * one.resamples.totals(some * gain) / one.resamples.totals(some) for some in chosen], axis=0
        )
        shares = {"mended_by_panel": wrong, "mended": wrong * (1 - errs), "spoiled": ~wrong * errs}
        row = {"finding": one.finding, "strategy": strategy}
        row |= {k: np.mean([100 * np.average(v, weights=some) for some in chosen]) for k, v in shares.items()}
        rows.append(row | {k: v for k, v in _tested(each, each_b, one.few).items() if k != "p"})
    return pd.DataFrame(rows)


def bounds_table(a, b, truth, resamples):
    """Return what two raters leave open, and whether it holds what others say.

    Parameters
    ----------
    a, b : (n,) array of 0/1
        Readings of two raters.
    truth : (n,) array of 0/1
        What a panel says that neither of the two belongs to.
    resamples : Resamples

    Returns
    -------
    pandas.DataFrame
        As `two_raters.bounds`, with `by_panel`, the rate by that panel; and of the sensitivities and specificities
        `above, above_low, above_high, p`: how far the panel's lies above the lower end of the range, paired over
        resamples. Below zero, the assumption and the panel cannot both be right.
    """
    table = two_raters.bounds(a, b, resamples)
    by_panel, above = {"prevalence": float(np.mean(truth))}, {}
    few = intervals.too_few_of_either(truth, resamples)
    for name, rater, other in (("a", a, b), ("b", b, a)):
        rates, rates_b = (accuracy.rates(truth, rater, r) for r in (None, resamples))
        ends, ends_b = (accuracy.rates(other, rater, r) for r in (None, resamples))  # P(rater | other), as `bounds`
        for rate in ("sensitivity", "specificity"):
            by_panel[f"{rate}_{name}"] = rates[rate]
            gap = _tested([rates[rate] - ends[rate]], rates_b[rate] - ends_b[rate], few)
            above["independent", f"{rate}_{name}"] = [gap[k] for k in ("estimate", "low", "high", "p")]
    table["by_panel"] = table["rate"].map(by_panel)
    columns = ["above", "above_low", "above_high", "p"]
    rows = [above.get(key, [np.nan] * 4) for key in zip(table["assumption"], table["rate"], strict=True)]
    return table.join(pd.DataFrame(rows, columns=columns, index=table.index))


def bounds_picture(table):
    """Return a figure of what two readers leave open: a line a finding, a diamond where the panel puts it.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `bounds_table`, with a column `finding`; the ranges of independent errors are drawn.
    """
    part = table[table["assumption"] == "independent"]
    findings = list(dict.fromkeys(part["finding"]))[::-1]
    panels = [("sensitivity_a", "sensitivity, reader A"), ("sensitivity_b", "sensitivity, reader B")]
    panels += [("prevalence", "prevalence")]
    fig, axes = figures.figure(1, len(panels), width=11, height=0.36 * len(findings) + 1.2, sharey=True)
    for axis, (rate, title) in zip(axes, panels, strict=True):
        rows = part[part["rate"] == rate].set_index("finding")
        for y, finding in enumerate(findings):
            row = rows.loc[finding]
            axis.plot([row["low"], row["high"]], [y, y], color="#bbbbbb", linewidth=2, solid_capstyle="butt")
            own = {"color": figures.colour("radiologist"), "linewidth": 5, "solid_capstyle": "butt"}
            axis.plot([row["lowest"], row["highest"]], [y, y], **own)
            axis.plot(row["by_panel"], y, "D", color=figures.colour("nlp"), markersize=6)
        axis.set(xlim=(0, 1.02), title=title)
    axes[0].set_yticks(range(len(findings)), [name.replace("_", " ") for name in findings])
    return fig
