"""The study of mining an archive (notebook 24): its published numbers, and its tables, figures and conclusions.

Every table is made of what notebook 17 stored image by image, and resamples the patients of the test images. A
retrieval's pool stays as it is. Where several seeds were trained, intervals hold for other patients and other seeds
(`intervals.over_seeds`).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxrlib.base import figures, paths
from cxrlib.networks import routes
from cxrlib.statistics import intervals, resampling, retrieval
from cxrlib.studies import displays

# Shin et al., CVPR 2015: topic accuracy (top-1, top-5) of AlexNet and VGG-19 with the number of topics, and R@1 of
# disease words. CT and MR key images of 780,000 reports that were never released: nothing here is comparable.
PUBLISHED_TOPICS = pd.DataFrame(
    [
        ("document", 60, 0.6072, 0.9294, 0.6582, 0.9460),
        ("second", 385, 0.3252, 0.5632, 0.5390, 0.6960),
        ("sentence", 717, 0.48, 0.56, 0.50, 0.58),
    ],
    columns=["level", "topics_n", "AlexNet top1", "AlexNet top5", "VGG-19 top1", "VGG-19 top5"],
)
PUBLISHED_WORD_R1 = 0.56

MEAN = "mean of findings"
IMAGE_TO_REPORT = "image to report"  # one of `report_retrieval.DIRECTIONS`


@dataclass(frozen=True)
class MiningScores:
    """Test images, their labels, and resamples of their patients.

    Attributes
    ----------
    edition : str
    images : pandas.DataFrame
        `image_id, patient_id` and `<label set>.<finding>` of each test image.
    resamples : resampling.Resamples
    """

    edition: str
    images: pd.DataFrame
    resamples: resampling.Resamples

    def table(self, name):
        """Return a stored table; where it is image by image, with the position of each row's image, `image`."""
        table = pd.read_parquet(paths.to_read(routes.scores_path(self.edition, name)))
        if "image_id" not in table:
            return table
        return table.assign(image=pd.Index(self.images["image_id"]).get_indexer(table["image_id"]))

    def label(self, label_set, finding):
        """Return a label of the test images, (n,) float64, or None if the label set does not have it."""
        column = f"{label_set}.{finding}"
        return self.images[column].to_numpy(float) if column in self.images else None

    def label_sets(self):
        """Return the label sets that the test images have, in their order."""
        return list(dict.fromkeys(c.split(".")[0] for c in self.images if "." in c))

    def part(self, image):
        """Return the resamples as images at some positions see them; one may stand several times."""
        return resampling.Resamples(self.resamples.counts, self.resamples.patient[np.asarray(image)])


def open_scores(edition, resamples_n, seed):
    """Return the `MiningScores` of an edition."""
    images = pd.read_parquet(paths.to_read(routes.scores_path(edition, "images")))
    resamples = resampling.patient_resamples(images["patient_id"], resamples_n, np.random.default_rng(seed))
    return MiningScores(edition, images, resamples)


def _replicates(scores, part, column):
    """Return the mean of a value by seed, (seeds_n,), and its mean over seeds in each resample, (b,)."""
    each, drawn = [], []
    for _, one in part.groupby("seed", sort=True):
        values, resamples = one[column].to_numpy(float), scores.part(one["image"])
        each.append(values.mean())
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append(resamples.totals(values) / resamples.totals(np.ones(len(values))))
    return np.array(each), np.mean(drawn, axis=0)


def _estimate(each, drawn, few):
    """Return an estimate with its interval over patients and seeds, as a dict; of one seed there is none."""
    found = intervals.over_seeds(each, drawn, few)
    return {name: found[name] for name in ("estimate", "low", "high", "reason")} | {"seeds_n": len(each)}


def _means(scores, table, keys, measures):
    """Return the mean of measures by keys, with intervals: `keys, images_n, measure, estimate, low, high, ...`."""
    rows = []
    for where, part in table.groupby(keys, sort=False, observed=True):
        few = intervals.too_few([scores.resamples.patient[part["image"]]])
        for measure in measures:
            known = part[part[measure].notna()]
            if len(known):
                found = _estimate(*_replicates(scores, known, measure), few)
                count = {"images_n": known["image"].nunique(), "measure": measure}
                rows.append(dict(zip(keys, where, strict=True)) | count | found)
    return pd.DataFrame(rows)


def _gains(scores, table, keys, measures, first, second):
    """Return the paired difference of two models' means by keys, (first less second), with p."""
    rows = []
    for where, part in table.groupby(keys, sort=False, observed=True):
        sides = [part[part["model"] == name] for name in (first, second)]
        if not all(map(len, sides)):
            continue
        few = intervals.too_few([scores.resamples.patient[sides[0]["image"]]])
        for measure in measures:
            (each, drawn), (other, other_drawn) = (_replicates(scores, side, measure) for side in sides)
            gap = each - (other if len(other) == len(each) else other.mean())
            found = intervals.over_seeds(gap, drawn - other_drawn, few)
            shown = {name: found[name] for name in ("estimate", "low", "high", "p", "reason")}
            count = {"comparison": f"{first} - {second}", "measure": measure}
            rows.append(dict(zip(keys, where, strict=True)) | count | shown)
    return pd.DataFrame(rows)


def _corrected(gaps):
    """Return tables of differences as one, with p by Holm's method over all of them."""
    table = pd.concat([part for part in gaps if len(part)], ignore_index=True)
    return table.assign(p_holm=intervals.holm(table["p"]))


def _named(table):
    """Return scores with networks that learned from shuffled pairs under a name of their own."""
    model = table["model"].astype(str)
    return table.assign(model=model.where(table["pairs"] == routes.TRUE_PAIRS, model + ", shuffled pairs"))


def topic_table(scores):
    """Return topic accuracy by level and model, and the networks' gain over the commonest topics.

    Parameters
    ----------
    scores : MiningScores

    Returns
    -------
    table : pandas.DataFrame
        `level, model, images_n, measure` (`top1, top5`, and `bits`, the cross-entropy), `estimate, low, high, reason,
        seeds_n`. Models: `network` (started from the level before), `network, from scratch`, `network, shuffled
        pairs`, `majority`, `prior`, `chance`, and `routes.FINDINGS_OF_REPORT`, which looks at no image.
    gains : pandas.DataFrame
        `level, comparison, measure, estimate, low, high, p, reason, p_holm` of the network over `majority` and over
        the network that learned from shuffled pairs.
    """
    stored = _named(scores.table("topics"))
    table = _means(scores, stored, ["level", "model"], ["top1", "top5", "bits"])
    others = ("majority", "network, shuffled pairs", "network, from scratch")
    gains = [_gains(scores, stored, ["level"], ["top1", "top5"], "network", other) for other in others]
    return table, _corrected(gains)


def word_table(scores):
    """Return how often disease words of the report are found, by candidates and model, and the networks' gain.

    Parameters
    ----------
    scores : MiningScores

    Returns
    -------
    table, gains : pandas.DataFrame
        As `topic_table`, by `candidates`; measures `r1, r5, r10`.
    """
    stored = _named(scores.table("words"))
    table = _means(scores, stored, ["candidates", "model"], ["r1", "r5", "r10"])
    others = ("frequency", "network, shuffled pairs")
    gains = [_gains(scores, stored, ["candidates"], ["r1", "r5"], "network", other) for other in others]
    return table, _corrected(gains)


def _places(part):
    return retrieval.Places(*(part[name].to_numpy() for name in ("above", "tied", "wrong_n")))


def pool_size(scores, most=50):
    """Return the size of the random pools of which R@K is expected: `most`, or that of the smallest whole pool."""
    return min(most, int(scores.table("retrieval")["wrong_n"].min()) + 1)


def retrieval_table(scores, pool_n=50):
    """Return retrieval in both directions by model, with intervals over patients; the pool stays as it is.

    Parameters
    ----------
    scores : MiningScores
    pool_n : int
        Size of the random pools of which R@1 and R@5 are expected.

    Returns
    -------
    table : pandas.DataFrame
        `direction, model, images_n, measure, estimate, low, high, reason, seeds_n`; measures are `R@1, R@5, R@10` of
        the whole pool, `R@1 of <pool_n>, R@5 of <pool_n>`, `ndcg` and `median rank` (of one seed).
    gains : pandas.DataFrame
        `direction, comparison, measure, estimate, low, high, p, reason, p_holm` of the joint embedding over the
        others in `R@5 of <pool_n>`, and over its twin of shuffled pairs in `ndcg`, which has no floor of its own: a
        fixed ranking is above or below chance by what labels the pool happens to have.
    """
    stored = _named(scores.table("retrieval"))
    where = _places(stored)
    hits = {f"R@{k}": retrieval.hit_probability(where, k) for k in (1, 5, 10)}
    hits |= {f"R@{k} of {pool_n}": retrieval.hit_probability(where, k, pool_n) for k in (1, 5)}
    stored = stored.assign(**hits, rank=retrieval.expected_rank(where))
    keys = ["direction", "model"]
    table = _means(scores, stored, keys, [*hits, "ndcg"])
    ranks = []
    for place, part in stored.groupby(keys, sort=False):
        one = part[part["seed"] == part["seed"].min()]
        values, resamples = one["rank"].to_numpy(float), scores.part(one["image"])
        found = intervals.interval(retrieval.median(values), retrieval.median(values, resamples))
        count = {"images_n": len(one), "measure": "median rank"}
        ranks.append(dict(zip(keys, place, strict=True)) | count | found._asdict() | {"seeds_n": 1})
    hit, twin = f"R@5 of {pool_n}", "joint, shuffled pairs"
    others = ("commonest report", "topic neighbours", "classifier neighbours", twin)
    # a report finds no image by how common the report is: that would be chance once more
    some = stored[(stored["model"] != "commonest report") | (stored["direction"] == IMAGE_TO_REPORT)]
    gains = [_gains(scores, some, ["direction"], [hit], "joint", other) for other in others]
    gains.append(_gains(scores, stored, ["direction"], ["ndcg"], "joint", twin))
    return pd.concat([table, pd.DataFrame(ranks)], ignore_index=True), _corrected(gains)


def pool_curve(scores, k=1, sizes=(2, 5, 10, 20, 50, 100, 200, 500, 1000)):
    """Return the expected R@k in random pools by size, the mean over seeds.

    Parameters
    ----------
    scores : MiningScores
    k : int
    sizes : sequence of int
        Those beyond the smallest pool are left out; the smallest whole pool is added.

    Returns
    -------
    pandas.DataFrame
        `direction, model, pool_n, estimate, low, high`, the interval over patients alone.
    """
    stored = _named(scores.table("retrieval"))
    rows = []
    for (direction, model), part in stored.groupby(["direction", "model"], sort=False):
        most = int(part["wrong_n"].min()) + 1
        for size in [n for n in sizes if k < n < most] + [most]:
            hit = part.assign(hit=retrieval.hit_probability(_places(part), k, size))
            each, drawn = _replicates(scores, hit, "hit")
            low, high = np.quantile(drawn, (0.025, 0.975))
            where = {"direction": direction, "model": model, "pool_n": size}
            rows.append({**where, "estimate": each.mean(), "low": low, "high": high})
    return pd.DataFrame(rows)


def pool_figure(curve, k=1):
    """Return a figure of `pool_curve`: R@k over that of chance against pool size, a panel a direction.

    Networks that learned from shuffled pairs are dashed, in the colour of those that learned from true ones.
    """
    directions = list(curve["direction"].unique())
    fig, axes = figures.figure(1, len(directions), width=9.5, height=3.8, sharey=True, squeeze=False)
    models = [m for m in curve["model"].unique() if m != "chance"]
    own = [m.removesuffix(", shuffled pairs") for m in models]
    for axis, direction in zip(axes.flat, directions, strict=True):
        for model, name in zip(models, own, strict=True):
            part = curve[(curve["direction"] == direction) & (curve["model"] == model)]
            size, colour = part["pool_n"].to_numpy(float), figures.shade(name, list(dict.fromkeys(own)))
            lift, low, high = (part[column].to_numpy() * size / k for column in ("estimate", "low", "high"))
            axis.fill_between(size, low, high, color=colour, alpha=0.12, linewidth=0)
            style = "-" if name == model else "--"
            axis.plot(size, lift, style, marker="o", color=colour, label=model, markersize=3, linewidth=1.3)
        axis.axhline(1, color="#888888", linestyle=":", label="chance")
        axis.set(xscale="log", xlabel="reports or images in the pool", title=direction)
    axes.flat[0].set_ylabel(f"expected R@{k}, times chance")
    axes.flat[0].legend(fontsize=7, loc="upper left")
    return fig


def gain_sentences(gains, measures):
    """Return one sentence for each paired difference of some measures, a list.

    Parameters
    ----------
    gains : pandas.DataFrame
        Of `topic_table`, `word_table` or `retrieval_table`; its first column says of what.
    measures : Mapping of str to str
        Measure -> what to call it.
    """
    where = gains.columns[0]
    return [
        f"{getattr(row, where)}: {measures[row.measure]}, {row.comparison.replace(' - ', ' less ')}: "
        f"{intervals.text(row.estimate, row.low, row.high)}, {displays.verdict(row)}."
        for row in gains[gains["measure"].isin(list(measures))].itertuples()
    ]


_VALUE = ["estimate", "low", "high"]
ALL_WORDS = "all disease words"  # a set of candidates of `word_networks.word_scores`


def control_table(topics, word_hits, retrieved, areas, pool_n=50):
    """Return every result from images beside its control on shuffled pairs and what the control must fall to.

    A network that learns from shuffled pairs still learns how common topics, words and reports are, so there the
    floor is the commonest ones in their order; of images to be found and of findings it is chance.

    Parameters
    ----------
    topics, word_hits, retrieved : pandas.DataFrame
        First tables of `topic_table`, `word_table`, `retrieval_table`.
    areas : pandas.DataFrame
        First table of `mining_trade.presence_table`.
    pool_n : int

    Returns
    -------
    pandas.DataFrame
        `result, true_pairs, true_low, true_high, shuffled_pairs, low, high, floor, above, falls`: `above` says
        whether the interval of the true pairs lies above the floor, so that there is something to destroy, and
        `falls` whether that of the control holds the floor or lies below it. Both are missing where there is no
        interval.
    """
    hit = f"R@5 of {pool_n}"
    parts = [
        ("topic of the report, top-5", _pick(topics, level="document", measure="top5"), "network", "majority"),
        (f"words, R@5 of {ALL_WORDS}", _pick(word_hits, candidates=ALL_WORDS, measure="r5"), "network", "frequency"),
    ]
    for direction in retrieved["direction"].unique():
        table = _pick(retrieved, direction=direction, measure=hit)
        blind = "commonest report" if direction == IMAGE_TO_REPORT else "chance"
        parts += [
            (f"{model}, {direction}, {hit}", table, model, blind)
            for model in ("joint", "classifier neighbours", "topic neighbours")
        ]
    rows = []
    for result, table, model, floor_of in parts:
        known = table.set_index("model")
        control = known.loc[f"{model}, shuffled pairs"]
        rows.append((result, *known.loc[model, _VALUE], *control[_VALUE], known["estimate"][floor_of]))
    for scored_against, table in areas[areas["finding"] == MEAN].groupby("scored_against", sort=False):
        known = table.set_index("route")
        control = known.loc[f"{routes.STRICT}, shuffled pairs"]
        result = f"findings, mean AUC, scored by {scored_against}"
        rows.append((result, *known.loc[routes.STRICT, _VALUE], *control[_VALUE], 0.5))
    columns = ["result", "true_pairs", "true_low", "true_high", "shuffled_pairs", "low", "high", "floor"]
    table = pd.DataFrame(rows, columns=columns)
    above, falls = table["true_low"] > table["floor"], table["low"] <= table["floor"]
    return table.assign(
        above=above.astype(object).where(table["true_low"].notna()),
        falls=falls.astype(object).where(table["low"].notna()),
    )


def control_sentences(control):
    """Return what `control_table` shows, in sentences, a list."""
    learned = control["above"].eq(True)
    out = [f"{learned.sum()} of {len(control)} results lie above what needs no image."]
    if not learned.all():
        out.append(
            f"Not above it, so that shuffling could destroy nothing: {'; '.join(control['result'][~learned])}."
        )
    risen = control["result"][control["falls"].eq(False)]
    out.append(
        "No control on shuffled pairs lies above its floor."
        if risen.empty
        else f"Above the floor on shuffled pairs: {'; '.join(risen)}."
    )
    unknown = control["result"][control["falls"].isna()]
    if len(unknown):
        out.append(f"Without an interval, so not known: {'; '.join(unknown)}.")
    return out


def headline(control):
    """Return `control_table` as text: `result, true pairs, shuffled pairs, without images`."""
    shown = {
        "true pairs": control[["true_pairs", "true_low", "true_high"]],
        "shuffled pairs": control[["shuffled_pairs", "low", "high"]],
    }
    texts = {name: [intervals.text(*row) for row in part.itertuples(index=False)] for name, part in shown.items()}
    return pd.DataFrame(
        {"result": control["result"], **texts, "without images": control["floor"].map("{:.3f}".format)}
    )


def _pick(table, **where):
    keep = np.logical_and.reduce([table[name] == value for name, value in where.items()])
    return table[keep]
