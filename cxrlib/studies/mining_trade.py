"""What labels mined from reports are worth (notebook 24): presence and absence, the trade with clean labels, rounds.

As in `cxrlib.studies.mining`, tables are made of what notebook 17 stored image by image, intervals hold for other
patients and other seeds, and a seed of the trade also draws which patients were labelled.
"""

import numpy as np
import pandas as pd

from cxrlib.base import figures
from cxrlib.networks import routes
from cxrlib.statistics import accuracy, calibration, intervals
from cxrlib.studies import displays, mining

_CALIBRATION = {
    "intercept": calibration.calibration_intercept,
    "slope": calibration.calibration_slope,
    "error": calibration.calibration_error,
    "Brier score": calibration.brier,
}
_KEPT = ("estimate", "low", "high", "reason")


class _Areas:
    """AUCs of stored probabilities by keys: of each seed, and of each seed in each resample of patients."""

    def __init__(self, scores, table, keys, label_set, column="probability"):
        self.keys, self.found, self.few, self.seeds = keys, {}, {}, {}
        self._resamples_n = len(scores.resamples.counts)
        for (*where, finding), part in table.groupby([*keys, "finding"], sort=False, observed=True):
            label = scores.label(label_set, finding)
            if label is None:
                continue
            each, drawn = [], []
            for _, one in part.groupby("seed", sort=True):
                one = one[np.isin(label[one["image"]], (0, 1))]
                y, p, resamples = label[one["image"]], one[column].to_numpy(float), scores.part(one["image"])
                each.append(accuracy.auc(y, p))
                drawn.append(accuracy.auc(y, p, resamples))
                self.few[finding] = intervals.too_few_of_either(y, resamples)
            self.found[(*where, finding)] = np.array(each), np.stack(drawn)
            self.seeds[tuple(where)] = sorted(part["seed"].unique())

    def findings(self):
        """Return the findings with enough patients of either class, in their order."""
        return list(dict.fromkeys(key[-1] for key in self.found if not self.few[key[-1]]))

    def mean(self, *where):
        """Return the mean over findings by seed, (seeds_n,), and by seed and resample, (seeds_n, b); NaN of none."""
        both = [self.found[(*where, finding)] for finding in self.findings()]
        if not both:
            seeds_n = len(self.seeds[where])
            return np.full(seeds_n, np.nan), np.full((seeds_n, self._resamples_n), np.nan)
        return np.mean([each for each, _ in both], axis=0), np.mean([drawn for _, drawn in both], axis=0)

    def gap(self, first, second):
        """Return the paired difference of the means of two keys, of the seeds that both have, as a row."""
        sides = []
        for where, other in ((first, second), (second, first)):
            kept = np.isin(self.seeds[where], self.seeds[other])
            each, drawn = self.mean(*where)
            sides.append((each[kept], drawn[kept]))
        return _gap(*sides)

    def rows(self):
        """Return a row for each key and finding, and for the mean of the findings."""
        rows = []
        for where in dict.fromkeys(key[:-1] for key in self.found):
            parts = {key[-1]: self.found[key] for key in self.found if key[:-1] == where}
            if self.findings():
                parts[mining.MEAN] = self.mean(*where)
            for finding, (each, drawn) in parts.items():
                found = _of(each, drawn, self.few.get(finding, ""))
                named = dict(zip(self.keys, where, strict=True)) | {"finding": finding, "seeds_n": len(each)}
                rows.append({**named, **{name: found[name] for name in _KEPT}})
        return pd.DataFrame(rows)

    def by_seed(self):
        """Return the AUC of each seed: keys, `finding, seed, auc`."""
        return pd.DataFrame(
            {**dict(zip(self.keys, key[:-1], strict=True)), "finding": key[-1], "seed": seed, "auc": area}
            for key, (each, _) in self.found.items()
            for seed, area in zip(self.seeds[key[:-1]], each, strict=True)
        )


def _of(each, drawn, few=""):
    """Return an estimate with its interval over patients and seeds, a dict; of one seed there is none."""
    return intervals.over_seeds(each, drawn.mean(0), few)


def _gap(first, second, few=""):
    """Return the paired difference of two (each, drawn), as a row with `p`."""
    each, drawn = first[0] - second[0], first[1] - second[1]
    found = intervals.over_seeds(each, drawn.mean(0), few)
    return {name: found[name] for name in ("estimate", "low", "high", "p", "reason")}


def presence_table(scores):
    """Return the AUC of the strictly supervised network and of the topic route, finding by finding, and the gap.

    Parameters
    ----------
    scores : mining.MiningScores

    Returns
    -------
    table : pandas.DataFrame
        `scored_against, route, finding, seeds_n, estimate, low, high, reason`.
    gaps : pandas.DataFrame
        `scored_against, finding, estimate, low, high, p, reason, p_holm`: strictly supervised less topic route, on
        the same images, seeds and resamples. Holm's correction runs over the findings of one label set.

    Raises
    ------
    ValueError
        If no finding has enough test patients with and without it, by any label set.
    """
    stored, tables, gaps = scores.table("presence"), [], []
    for name in scores.label_sets():
        areas = _Areas(scores, stored, ["route"], name)
        tables.append(areas.rows().assign(scored_against=name))
        findings = [key[-1] for key in areas.found if key[0] == routes.STRICT]
        rows = [
            {"finding": f, **_gap(areas.found[routes.STRICT, f], areas.found[routes.BY_TOPICS, f], areas.few[f])}
            for f in findings
        ]
        if areas.findings():
            rows.append({"finding": mining.MEAN, **_gap(areas.mean(routes.STRICT), areas.mean(routes.BY_TOPICS))})
        part = pd.DataFrame(rows).assign(scored_against=name)
        single = part["finding"] != mining.MEAN
        part["p_holm"] = np.nan
        part.loc[single, "p_holm"] = intervals.holm(part.loc[single, "p"])
        gaps.append(part)
    if not any((table["finding"] == mining.MEAN).any() for table in tables):
        raise ValueError(
            f"Of {len(scores.images):,} test images no finding has {intervals.FEW_PATIENTS} patients with it and as "
            "many without: match more of the archive, or give the test part of `splits` a larger fraction."
        )
    table, gap = pd.concat(tables, ignore_index=True), pd.concat(gaps, ignore_index=True)
    return table[["scored_against", *table.columns.drop("scored_against")]], gap


def calibration_table(scores):
    """Return how well the readings' calibrated probabilities are calibrated on test images.

    Parameters
    ----------
    scores : mining.MiningScores

    Returns
    -------
    pandas.DataFrame
        `scored_against, finding, measure` (`intercept` 0 is best, `slope` 1, `error` 0, `Brier score` 0; and, of what
        is called present or absent by the validation images' threshold, `sensitivity, specificity, ppv, npv`),
        `estimate, low, high, reason`, of the first seed's strictly supervised network, over patients alone.
    """
    stored = scores.table("presence")
    stored = stored[(stored["route"] == routes.STRICT) & (stored["seed"] == stored["seed"].min())]
    rows = []
    for name in scores.label_sets():
        for finding, part in stored.groupby("finding", sort=False, observed=True):
            label = scores.label(name, finding)
            part = part[np.isin(label[part["image"]], (0, 1))] if label is not None else part[:0]
            if part.empty:
                continue
            y, p = label[part["image"]], part["calibrated"].to_numpy(float)
            few = intervals.too_few_of_either(y, scores.part(part["image"]))
            some = scores.part(part["image"]).first(200)  # a logistic regression in each
            for measure, function in _CALIBRATION.items():
                found = intervals.interval(function(y, p), function(y, p, some), few)
                where = {"scored_against": name, "finding": finding, "measure": measure}
                rows.append({**where, **found._asdict()})
            rates = intervals.rate_intervals(y, part["called"].to_numpy(float), scores.part(part["image"]))
            for measure in ("sensitivity", "specificity", "ppv", "npv"):
                found = rates[measure]._asdict()
                if few:
                    found |= {"low": np.nan, "high": np.nan, "reason": few}
                rows.append({"scored_against": name, "finding": finding, "measure": measure, **found})
    return pd.DataFrame(rows)


class Trade:
    """The trade between clean labels and labels mined from reports, scored by one label set.

    Parameters
    ----------
    scores : mining.MiningScores
    label_set : str
    """

    def __init__(self, scores, label_set):
        self.label_set = label_set
        self._areas = _Areas(scores, scores.table("trade"), ["route", "images_n"], label_set)
        self.routes = list(dict.fromkeys(key[0] for key in self._areas.found))
        self.sizes = sorted({int(key[1]) for key in self._areas.found})

    def table(self):
        """Return AUC by route and number of labelled images, finding by finding and their mean, with intervals."""
        return self._areas.rows().assign(scored_against=self.label_set)

    def by_seed(self):
        """Return the AUC of each seed, the table that a dose-response study joins.

        Returns
        -------
        pandas.DataFrame
            `route, images_n, finding, seed, auc, scored_against`.
        """
        return self._areas.by_seed().assign(scored_against=self.label_set)

    def gaps(self):
        """Return paired differences of the mean AUC between routes at each number of labelled images.

        Returns
        -------
        pandas.DataFrame
            `images_n, comparison, estimate, low, high, p, reason, p_holm`: `weak then clean` less `clean`; `clean`
            less the weak labels of all images; and `topics then clean` less `clean`, where it was trained.
        """
        most, rows = self.sizes[-1], []
        for size in self.sizes:
            for route in [r for r in self.routes if r not in (routes.CLEAN, routes.WEAK)]:
                gap = self._areas.gap((route, size), (routes.CLEAN, size))
                rows.append({"images_n": size, "comparison": f"{route} - {routes.CLEAN}", **gap})
            gap = self._areas.gap((routes.CLEAN, size), (routes.WEAK, most))
            rows.append({"images_n": size, "comparison": f"{routes.CLEAN} - {routes.WEAK} of all {most}", **gap})
        table = pd.DataFrame(rows)
        return table.assign(p_holm=intervals.holm(table["p"]))

    def worth(self, rng):
        """Return how many clean labels reach the mean AUC that the weak labels of all images reach.

        By interpolation of the clean curve in the logarithm of the number of images; the interval resamples patients
        and, in each resample, seeds. Beyond the ends of the curve the answer is that end; `reason` says how often.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        dict
            `weak_n, weak_auc, clean_n, below_n, above_n, low, high, reason`; between the trained sizes `below_n` and
            `above_n` it was interpolated, and where both are the same the answer lies at or beyond that end.
        """
        most = self.sizes[-1]
        curve = [self._areas.mean(routes.CLEAN, size) for size in self.sizes]
        weak = self._areas.mean(routes.WEAK, most)
        estimate = _crossing(self.sizes, np.array([each.mean() for each, _ in curve])[None], weak[0].mean()[None])[0]
        seeds_n, drawn_n = weak[1].shape
        chosen = rng.integers(0, seeds_n, (seeds_n, drawn_n))
        drawn = [np.take_along_axis(part, chosen, 0).mean(0) for part in (*(d for _, d in curve), weak[1])]
        replicates = _crossing(self.sizes, np.stack(drawn[:-1], 1), drawn[-1])
        low, high = np.quantile(replicates, (0.025, 0.975))
        ends = np.isin(replicates, (self.sizes[0], most)).mean()
        reason = f"{ends:.0%} of resamples lie at an end of the curve" if ends > 0.025 else ""
        told = {"weak_n": most, "weak_auc": float(weak[0].mean()), "clean_n": float(estimate)}
        told |= dict(zip(("below_n", "above_n"), _around(self.sizes, estimate), strict=True))
        return {**told, "low": float(low), "high": float(high), "reason": reason}

    def figure(self):
        """Return the answer as one figure: mean AUC against the number of labelled images, a line a route."""
        table = self.table()
        table = table[table["finding"] == mining.MEAN]
        fig, axis = figures.figure(width=7.5, height=4.2)
        colours = {
            routes.CLEAN: figures.colour("radiologist"),
            routes.WEAK: figures.colour("nlp"),
            routes.WEAK_CLEAN: "#009E73",
        }
        for k, route in enumerate(self.routes):
            part = table[table["route"] == route].sort_values("images_n")
            x, colour = part["images_n"] * (1 + 0.025 * k), colours.get(route, "#CC79A7")
            reach = [part["estimate"] - part["low"], part["high"] - part["estimate"]]
            axis.errorbar(x, part["estimate"], reach, fmt="o-", color=colour, label=route, capsize=3, linewidth=1.6)
        weak = table[(table["route"] == routes.WEAK) & (table["images_n"] == self.sizes[-1])]["estimate"].iloc[0]
        axis.axhline(weak, color=colours[routes.WEAK], linestyle=":", linewidth=1)
        axis.set(xscale="log", xlabel="images with a label", ylabel=f"AUC, {mining.MEAN}")
        axis.set_xticks(self.sizes, [f"{n:,}" for n in self.sizes])
        axis.minorticks_off()
        axis.set_title(f"clean labels, labels mined from reports, and both; scored by {self.label_set}")
        axis.legend(fontsize=8, loc="lower right")
        return fig

    def sentences(self, gaps, worth):
        """Return the answer in sentences, a list.

        Parameters
        ----------
        gaps : pandas.DataFrame
            Of `gaps`.
        worth : Mapping
            Of `worth`.
        """
        held = f"{worth['clean_n']:,.0f} ({worth['low']:,.0f} to {worth['high']:,.0f})"
        below, above = worth["below_n"], worth["above_n"]
        how = f"clean labels of {held} images do, interpolated between {below:,} and {above:,}"
        if below == above:
            how = f"clean labels of {below:,} images or {'fewer' if below == self.sizes[0] else 'more'} do"
        note = f"; {worth['reason']}" if worth["reason"] else ""
        out = [
            f"Labels mined from the reports of {worth['weak_n']:,} images give a mean AUC of "
            f"{worth['weak_auc']:.3f} (scored by {self.label_set}), as {how}{note}."
        ]
        for route in [r for r in self.routes if r not in (routes.CLEAN, routes.WEAK)]:
            rows = gaps[gaps["comparison"] == f"{route} - {routes.CLEAN}"].itertuples()
            values = [(r, intervals.text(r.estimate, r.low, r.high)) for r in rows]
            each = [f"{r.images_n:,}: {text}, {displays.verdict(r)}" for r, text in values]
            out.append(f"{route}, less clean labels alone, by number of clean labels: {'; '.join(each)}.")
        return out


def _crossing(sizes, curve, level):
    """Return at which size a curve first reaches a level, (b,): curve (b, sizes_n), level (b,)."""
    at = np.log(sizes)
    out = np.full(len(level), float(sizes[-1]))
    for b in range(len(level)):
        above = np.flatnonzero(curve[b] >= level[b])
        if len(above):
            k = above[0]
            share = 1.0 if k == 0 else (level[b] - curve[b, k - 1]) / (curve[b, k] - curve[b, k - 1])
            out[b] = sizes[0] if k == 0 else np.exp(at[k - 1] + share * (at[k] - at[k - 1]))
    return out


def _around(sizes, n):
    """Return the sizes between which a number lies; at or beyond an end that end twice."""
    if n <= sizes[0] or n >= sizes[-1]:
        end = sizes[0] if n <= sizes[0] else sizes[-1]
        return end, end
    k = int(np.searchsorted(sizes, n))
    return sizes[k - 1], sizes[k]


def round_table(scores, label_set):
    """Return what the groups of each round say of findings, by their own reports and by networks that learned them.

    Parameters
    ----------
    scores : mining.MiningScores
    label_set : str
        The truth that scores: what was drawn, or a clean label set.

    Returns
    -------
    table : pandas.DataFrame
        `arm, round, route` as in `cxrlib.networks.routes`, `finding, seeds_n,
        estimate, low, high, reason`: AUC.
    gaps : pandas.DataFrame
        `route, comparison, estimate, low, high, p, reason, p_holm` of the mean AUC: each later round less the start,
        less the same round of the text alone, and less that with shuffled image features.
    """
    areas = _Areas(scores, scores.table("interleaving"), ["arm", "round", "route"], label_set)
    table = areas.rows()
    rows = []
    for arm, number, route in areas.seeds:
        if number == 0 or arm != routes.IMAGES:
            continue
        here = arm, number, route
        others = {"start": (arm, 0, route)}
        others |= {other: (other, number, route) for other in (routes.TEXT_ALONE, routes.SHUFFLED_IMAGES)}
        for name, there in others.items():
            if set(areas.seeds.get(there, ())) & set(areas.seeds[here]):
                row = {"route": route, "comparison": f"round {number} - {name}"}
                rows.append({**row, **areas.gap(here, there)})
    gaps = pd.DataFrame(rows)
    return table, gaps.assign(p_holm=intervals.holm(gaps["p"]))


def round_sentences(gaps, agreed, threshold):
    """Return whether rounds agree in the end and whether later ones help, in sentences, a list.

    Parameters
    ----------
    gaps : pandas.DataFrame
        Second table of `round_table`.
    agreed : pandas.DataFrame
        Of `agreement_table`.
    threshold : float
        Adjusted Rand index from which on rounds end.
    """
    own = agreed[agreed["arm"] == routes.IMAGES]
    last = own.iloc[-1]
    met = own[own["adjusted_rand"] >= threshold]
    when = f"is met after round {met['round'].iloc[0]}" if len(met) else f"is not met in {last['round']} rounds"
    index = f"the last round's index is {last['adjusted_rand']:.2f}"
    out = [f"The stopping rule (adjusted Rand index {threshold}) {when}; {index}."]
    beside = gaps["comparison"][gaps["comparison"].str.endswith(routes.TEXT_ALONE)]  # which may have ended before
    number = int(beside.str.split().str[1].astype(int).max()) if len(beside) else int(last["round"])
    for row in gaps[gaps["comparison"].str.startswith(f"round {number} - ")].itertuples():
        name = row.comparison.replace(" - ", " less ")
        value = intervals.text(row.estimate, row.low, row.high)
        out.append(f"{row.route}: {name}: {value}, {displays.verdict(row)}.")
    return out


def agreement_table(rounds):
    """Return how far rounds agree with the one before, mean over seeds: `arm, round, seeds_n` and the measures.

    Parameters
    ----------
    rounds : pandas.DataFrame
        `arm, seed, round, adjusted_rand, mutual_information, moved_n` (notebook 17).
    """
    measures = ["adjusted_rand", "mutual_information", "moved_n"]
    grouped = rounds[rounds["round"] > 0].groupby(["arm", "round"], sort=False)
    return grouped[measures].mean().assign(seeds_n=grouped.size()).reset_index()


def round_figure(table):
    """Return a figure of the mean AUC by round, a panel a route, a line an arm."""
    table = table[table["finding"] == mining.MEAN]
    shown = list(table["route"].unique())
    fig, axes = figures.figure(1, len(shown), width=8.5, height=3.2, sharey=True, squeeze=False)
    for axis, route in zip(axes.flat, shown, strict=True):
        colours = {routes.IMAGES: "#0072B2", routes.TEXT_ALONE: "#009E73", routes.SHUFFLED_IMAGES: "#999999"}
        for k, (arm, colour) in enumerate(colours.items()):
            part = table[(table["route"] == route) & (table["arm"] == arm)].sort_values("round")
            reach = [part["estimate"] - part["low"], part["high"] - part["estimate"]]
            axis.errorbar(
                part["round"] + 0.06 * k, part["estimate"], reach, fmt="o-", color=colour, label=arm, capsize=3
            )
        axis.set(xlabel="round (0: topics of the text alone)", title=route)
        axis.set_xticks(sorted(table["round"].unique()))
    axes.flat[0].set_ylabel(f"AUC, {mining.MEAN}")
    axes.flat[0].legend(fontsize=8)
    return fig
