"""Tables and figures of label cleaning: what every strategy finds, what the labels are worth afterwards, controls.

All take `cleaning.JudgedImages` and what `cleaning.reviewed` returns of them. Intervals resample patients; several
networks are a second source of chance (`intervals.over_seeds`).
"""

import numpy as np
import pandas as pd

from cxrlib.base import figures
from cxrlib.statistics import accuracy, intervals, review
from cxrlib.studies import cleaning

ONE_HUNDRED = "100 images"


def _named(one):
    return {"finding": one.finding, "judge": one.judge}


def over_networks(each, replicates, few):
    """Return a fraction with its interval, cut at 0 and 1, over patients and, where there are several, networks.

    Parameters
    ----------
    each : (m,) array
        Of each network, or of the one source of labels that needs none.
    replicates : (b,) array
        The mean over them in each bootstrap resample of patients.
    few : str
        Why there is no interval, or an empty text.

    Returns
    -------
    dict
        `estimate, low, high, reason`.
    """
    estimate = float(np.mean(each))
    if not few and np.isfinite(estimate) and np.ptp(replicates[np.isfinite(replicates)]) < 1e-12:
        few = "no interval: every resample gives the same"
    if len(each) == 1 or few:
        return intervals.interval(estimate, replicates, few)._asdict()
    found = intervals.over_seeds(each, replicates)
    ends = {name: float(np.clip(found[name], 0, 1)) for name in ("low", "high")}
    return {"estimate": estimate, **ends, "reason": found["reason"]}


def _places(one, of_curve):
    """Return the place and name of each budget of the curve, or of each that has a name."""
    return [(k, b) for k, b in enumerate(cleaning.budgets(len(one.given))) if isinstance(b, float) == of_curve]


def precision_table(one, reviews):
    """Return the precision of every strategy at every named budget.

    Parameters
    ----------
    one : cleaning.JudgedImages
    reviews : dict
        As `cleaning.reviewed` returns it.

    Returns
    -------
    pandas.DataFrame
        The case's counts, `strategy, budget, reads_n`, `estimate, low, high, reason` of the precision, and of 100
        reads how many mend a missed finding, how many an overcall, and how many are of an image that is reported
        present (`missed, overcalls, called`; not of strategies that are no order of images).
    """
    rows = []
    for strategy, (estimates, replicates) in reviews.items():
        for k, name in _places(one, of_curve=False):
            reads_n = round(cleaning.budgets(len(one.given))[name] * len(one.given))
            row = {**one.counts(), "strategy": strategy, "budget": name, "reads_n": reads_n}
            row |= over_networks(estimates["precision"][:, k], replicates["precision"][:, k], one.few)
            parts = [m for m in ("missed", "overcalls", "called") if m in estimates]
            rows.append(row | {m: 100 * estimates[m][:, k].mean() for m in parts})
    return pd.DataFrame(rows)


def curve_table(one, reviews):
    """Return every strategy's precision along the curve of budgets: `strategy, budget_frac, estimate, low, high`.

    The last row of a strategy, without a budget, is the mean over budgets of 1 to 20 % (`cleaning.AREA`): the area
    below that part of the curve, divided by its width.
    """
    rows = []
    places = _places(one, of_curve=True)
    area = [k for (k, _), inside in zip(places, cleaning.AREA, strict=True) if inside]
    for strategy, (estimates, replicates) in reviews.items():
        each, each_b = estimates["precision"], replicates["precision"]
        for k, share in places:
            row = {**_named(one), "strategy": strategy, "budget_frac": share}
            rows.append(row | over_networks(each[:, k], each_b[:, k], one.few))
        row = {**_named(one), "strategy": strategy, "budget_frac": np.nan}
        rows.append(row | over_networks(each[:, area].mean(axis=1), each_b[:, area].mean(axis=1), one.few))
    return pd.DataFrame(rows)


def compared_table(one, reviews, against, strategy=cleaning.QUALITY, budget=ONE_HUNDRED):
    """Return how many more errors a strategy finds in 100 reads than others do, paired over resamples.

    Parameters
    ----------
    one : cleaning.JudgedImages
    reviews : dict
        As `cleaning.reviewed` returns it.
    against : sequence of str
        Strategies.
    strategy : str
    budget : str
        Of `cleaning.budgets`.

    Returns
    -------
    pandas.DataFrame
        `finding, judge, strategy, less`, and as `intervals.over_seeds` in errors of 100 reads. Holm's correction is
        the caller's, over all that belongs to one family.
    """
    at = list(cleaning.budgets(len(one.given))).index(budget)
    rows = []
    for other in against:
        (first, first_b), (second, second_b) = (
            (100 * part["precision"][:, at] for part in reviews[name]) for name in (strategy, other)
        )
        test = intervals.over_seeds(first - second, first_b - second_b, one.few)
        rows.append({**_named(one), "strategy": strategy, "less": other, **test})
    return pd.DataFrame(rows)


def labels_after(one, reviews, strategies=(cleaning.QUALITY, cleaning.ABSENT, cleaning.RANDOM_REVIEW)):
    """Return sensitivity and PPV of the labels, by the judge, before a review and after it, with intervals.

    Returns
    -------
    pandas.DataFrame
        `finding, judge, strategy, budget, measure, estimate, low, high, reason`.
    """
    before, before_b = (accuracy.rates(one.truth, one.given, r) for r in (None, one.resamples))
    rows = []
    for measure in ("sensitivity", "ppv"):
        row = {**_named(one), "strategy": "no review", "budget": "0 images", "measure": measure}
        rows.append(row | over_networks(np.array([before[measure]]), before_b[measure], one.few))
        for strategy in strategies:
            estimates, replicates = reviews[strategy]
            for k, name in _places(one, of_curve=False):
                row = {**_named(one), "strategy": strategy, "budget": name, "measure": measure}
                rows.append(row | over_networks(estimates[measure][:, k], replicates[measure][:, k], one.few))
    return pd.DataFrame(rows)


def known_table(one, views=("all", "AP", "PA")):
    """Return how well scores tell what the judge sees among images of one report label: AUCs with intervals.

    Among the images that are reported absent (or present), the AUC of a score for what the judge sees. How many
    images of which label a review reads plays no part in it. A score that only repeats the report has 0.5.

    Parameters
    ----------
    one : cleaning.JudgedImages
    views : sequence of str
        `all`, and views that are looked at by themselves.

    Returns
    -------
    pandas.DataFrame
        `finding, judge, view, reported` (absent or present), `images_n, judged_present_n`, `scores` (the network's,
        those of metadata alone, and the difference), `estimate, low, high, p, reason`.
    """
    rows = []
    view = one.images["view"].to_numpy()
    for name in views:
        for label, reported in ((0, "absent"), (1, "present")):
            chosen = (one.given == label) & ((view == name) | (name == "all"))
            truth, resamples = one.truth[chosen], one.resamples.of(chosen)
            counts = {"images_n": int(chosen.sum()), "judged_present_n": int(truth.sum())}
            few = intervals.too_few_of_either(truth, resamples)
            found = {}
            for scorer in (cleaning.NETWORK, cleaning.METADATA_ALONE):
                scores = one.of(scorer)[:, 0, chosen]
                each = np.array([accuracy.auc(truth, s) for s in scores])
                each_b = np.mean([accuracy.auc(truth, s, resamples) for s in scores], axis=0)
                found[scorer] = each, each_b
                row = {**_named(one), "view": name, "reported": reported, **counts, "scores": scorer}
                rows.append(row | over_networks(each, each_b, few))
            (network, network_b), (other, other_b) = found.values()
            test = intervals.over_seeds(network - other, network_b - other_b, few)
            row |= {"scores": f"{cleaning.NETWORK} less {cleaning.METADATA_ALONE}"}
            rows.append(row | {k: test[k] for k in ("estimate", "low", "high", "p", "reason")})
    return pd.DataFrame(rows)


def _ratio(part, whole, resamples):
    with np.errstate(invalid="ignore", divide="ignore"):
        return resamples.totals(part) / resamples.totals(whole)


def flag_table(one):
    """Return what confident learning flags among the images that a judge has read, and whether it is wrong.

    Noise rates and thresholds are estimated on all images of the pool. A budget is not asked for: the method says how
    many labels are wrong.

    Returns
    -------
    pandas.DataFrame
        A row per filter and calibration: `finding, judge, filter, scores`, means over networks `flagged_n,
        flagged_present_n` (of them reported present), `pool_flagged_n` (of all images of the pool), `found_frac` (of
        all wrong labels), `estimate, low, high, reason` of the precision, and the precisions of
        `cleaning.QUALITY` with as many reads and of as many reads of the same labels at random.
    """
    rows = []
    wrong = one.given != one.truth
    quality = cleaning.by_quality(one, cleaning.NETWORK)[:, 0]
    for scorer in (cleaning.NETWORK, "uncalibrated"):
        for filter_by in cleaning.FILTERS:
            masks = [cleaning.flagged(one.labels, p, filter_by) for p in one.scores[scorer][:, 0]]
            some = [mask[one.index] for mask in masks]
            each = np.array([wrong[mask].mean() if mask.any() else np.nan for mask in some])
            each_b = np.mean([_ratio(mask & wrong, mask, one.resamples) for mask in some], axis=0)
            few = intervals.too_few([one.resamples.patient[mask] for mask in some])
            alike = [
                review.within(one.given, one.truth, order, [mask.mean()])
                for mask, order in zip(some, quality, strict=True)
                if mask.any()
            ]
            mixed = [_of_same_labels(one, mask) for mask in some]
            rows.append(
                {
                    **_named(one),
                    "filter": filter_by,
                    "scores": "calibrated" if scorer == cleaning.NETWORK else scorer,
                    "pool_flagged_n": np.mean([mask.sum() for mask in masks]),
                    "flagged_n": np.mean([mask.sum() for mask in some]),
                    "flagged_present_n": np.mean([one.given[mask].sum() for mask in some]),
                    "found_frac": np.mean([(mask & wrong).sum() / wrong.sum() for mask in some]),
                    **over_networks(each, each_b, one.few or few),
                    "quality_as_many": np.mean([found.precision[0] for found in alike]) if alike else np.nan,
                    "same_labels": np.mean(mixed),
                }
            )
    return pd.DataFrame(rows)


def _of_same_labels(one, mask):
    """Return the precision of reading as many images of each label as a mask has, any of them."""
    if not mask.any():
        return np.nan
    shares = [(mask & (one.given == label)).sum() / mask.sum() for label in (0, 1)]
    wrong = [(one.truth[one.given == label] != label).mean() for label in (0, 1)]
    return float(np.dot(shares, wrong))


def cleaned(one, order, reads_n):
    """Return the labels once the images of the highest priority have the judge's, (n,) float64."""
    again = np.argsort(-order, kind="stable")[:reads_n]
    labels = one.given.copy()
    labels[again] = one.truth[again]
    return labels


def auc_after_table(one, reads, rng, random_n=5):
    """Return the AUC of the networks by the report labels, by labels that were cleaned, and by the judge's.

    A network whose own scores chose what is read again is scored by labels that were mended where they contradicted
    it, and left as they were where both are wrong. Labels that other networks' scores cleaned show how far that holds
    for a network that had no part in the cleaning.

    Parameters
    ----------
    one : cleaning.JudgedImages
    reads : sequence of int
        How many images are read again.
    rng : numpy.random.Generator
    random_n : int
        Random reviews, whose AUCs are averaged.

    Returns
    -------
    pandas.DataFrame
        `finding, judge, reads_n, labels`, `estimate, low, high` of the AUC, and of its difference from the AUC by
        the judge (`less_judge`, `less_judge_low`, `less_judge_high`).
    """
    scores = one.of(cleaning.NETWORK)[:, 0]
    orders = cleaning.by_quality(one, cleaning.NETWORK)[:, 0]
    m = len(scores)

    def by(label_sets_of):
        """Return the AUC of each network by the mean over its label sets, and its mean over networks in resamples."""
        each, each_b = [], []
        for k in range(m):
            sets = label_sets_of(k)
            each.append(np.mean([accuracy.auc(labels, scores[k]) for labels in sets]))
            each_b.append(np.mean([accuracy.auc(labels, scores[k], one.resamples) for labels in sets], axis=0))
        return np.array(each), np.mean(each_b, axis=0)

    judged, judged_b = by(lambda k: [one.truth])
    found = {(0, "report"): by(lambda k: [one.given]), (len(one.given), "judge"): (judged, judged_b)}
    for reads_n in reads:
        by_each = [cleaned(one, order, reads_n) for order in orders]
        at_random = [cleaned(one, rng.random(len(one.given)), reads_n) for _ in range(random_n)]
        found[reads_n, "cleaned by its own scores"] = by(lambda k, sets=by_each: [sets[k]])
        others = by(lambda k, sets=by_each: [sets[j] for j in range(m) if j != k])
        found[reads_n, "cleaned by other networks' scores"] = others
        found[reads_n, "cleaned at random"] = by(lambda k, sets=at_random: sets)
    rows = []
    for (reads_n, labels), (each, each_b) in found.items():
        row = {**_named(one), "reads_n": reads_n, "labels": labels, **over_networks(each, each_b, one.few)}
        if labels != "judge":
            gap = intervals.over_seeds(each - judged, each_b - judged_b, one.few)
            row |= {"less_judge": gap["estimate"], "less_judge_low": gap["low"], "less_judge_high": gap["high"]}
        rows.append(row)
    return pd.DataFrame(rows)


_HEADLINE = {  # strategy -> what its column is called
    cleaning.RANDOM_REVIEW: "random review",
    cleaning.QUALITY: "label quality",
    cleaning.SAME_LABELS: "same labels at random",
    cleaning.SHUFFLED_SCORES: "scores shuffled",
    cleaning.METADATA_ALONE: "metadata alone",
    cleaning.ABSENT: "highest scores reported absent",
}


def _per_100(row, digits=0):
    if np.isnan(row["low"]):
        return f"{row['estimate']:.{digits}f}"
    return f"{row['estimate']:.{digits}f} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def headline_table(precisions, compared, judges):
    """Return the errors mended per 100 re-reads as text, a row per finding and judge.

    Parameters
    ----------
    precisions : pandas.DataFrame
        Of `precision_table`, of several cases; the budget of 100 images is taken.
    compared : pandas.DataFrame
        Of `compared_table`: label quality less scores shuffled.
    judges : Mapping of str to str
        Label set -> what to call it.
    """
    rows = []
    at = precisions[precisions["budget"] == ONE_HUNDRED]
    for (finding, judge), part in at.groupby(["finding", "judge"], sort=False):
        by = part.set_index("strategy")
        first = by.iloc[0]
        row = {"finding": finding, "judge": judges[judge], "images": first["images_n"]}
        row["labels that differ"] = first["missed_n"] + first["overcalls_n"]
        for strategy, name in _HEADLINE.items():
            ends = {k: 100 * by.loc[strategy, k] for k in ("estimate", "low", "high")}
            row[name] = _per_100(ends)
        chosen = (compared["finding"] == finding) & (compared["judge"] == judge)
        gap = compared[chosen & (compared["less"] == cleaning.SHUFFLED_SCORES)].iloc[0]
        row["label quality less scores shuffled"] = _per_100(gap)
        rows.append(row)
    return pd.DataFrame(rows)


_LINES = {  # strategy -> colour, line style
    cleaning.CEILING: ("#bbbbbb", ":"),
    cleaning.QUALITY: (figures.colour("radiologist"), "-"),
    cleaning.ABSENT: ("#56B4E9", "-"),
    cleaning.METADATA_ALONE: (figures.colour("nlp"), "-"),
    cleaning.SHUFFLED_SCORES: ("#000000", "--"),
    cleaning.RANDOM_REVIEW: ("#000000", ":"),
}


def curves(curve, titles):
    """Return a figure of precision by budget: a panel per case, a line per strategy, a band for label quality.

    Parameters
    ----------
    curve : pandas.DataFrame
        Of `curve_table`, of several cases.
    titles : Mapping of (finding, judge) to str
    """
    rows = -(-len(titles) // 2)
    fig, axes = figures.figure(rows, 2, width=10, height=3.4 * rows, sharex=True, sharey=True, squeeze=False)
    for axis, (case, title) in zip(axes.flat, titles.items(), strict=False):
        part = curve[(curve["finding"] == case[0]) & (curve["judge"] == case[1])].dropna(subset="budget_frac")
        for strategy, (colour, style) in _LINES.items():
            line = part[part["strategy"] == strategy]
            x, y = 100 * line["budget_frac"], 100 * line["estimate"]
            axis.plot(x, y, style, color=colour, linewidth=1.7, label=strategy)
            if strategy == cleaning.QUALITY:
                axis.fill_between(x, 100 * line["low"], 100 * line["high"], color=colour, alpha=0.15, linewidth=0)
        axis.set(title=title, xlim=(0, 30), ylim=(0, 103))
    for axis in axes[-1]:
        axis.set_xlabel("images read again, % of all")
    for axis in axes[:, 0]:
        axis.set_ylabel("errors per 100 re-reads")
    for axis in axes.flat[len(titles) :]:
        axis.set_visible(False)
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper center", ncols=3, fontsize=9)
    return fig
