"""The study of saliency maps (notebook 23): where maps point, compared with chance, and what a map must not do.

Every table is made of scores of single maps and resamples patients: `resamples_n` times, from `seed`.
"""

import numpy as np
import pandas as pd

from cxrlib.base import figures, paths, runs
from cxrlib.networks import localization
from cxrlib.statistics import accuracy, intervals, resampling
from cxrlib.studies import case_tables, displays

MEAN_BOX = "mean box"  # the average box of other patients with the finding: what maps must beat
CHANCE = "chance"  # a pixel at random, which hits a box as often as the box covers of the image

_OVERLAPS = (("iou", localization.IOU_THRESHOLDS), ("iobb", localization.IOBB_THRESHOLDS))
_ONE_PICTURE = ["patient_id", "image_id"]
_SHARE = "drain rather than pleura"


def _resamples(index, resamples_n, seed):
    """Return resamples of the patients in an index."""
    patient = index.get_level_values("patient_id")
    return resampling.patient_resamples(patient, resamples_n, np.random.default_rng(seed))


def read_scores(edition, name):
    """Return a table of what notebook 14 wrote: `scores`, `layers`, `sanity` or `drains`."""
    return pd.read_parquet(paths.to_read(paths.map_scores_path(edition, name)))


def knowledge(tables, study, targets, resamples_n, seed):
    """Return each network's AUC on its test images, by the labels that it was trained on.

    Parameters
    ----------
    tables : Mapping of str to pandas.DataFrame
        Case tables by split.
    study : Mapping
        `runs`: network -> `target, architecture, seed, split`.
    targets : Mapping
        `params.yaml`'s.
    resamples_n, seed : int

    Returns
    -------
    pandas.DataFrame
        `network, learned_from, finding, images_n, positives_n, estimate, low, high, reason`.
    """
    rows = []
    for name, run in study["runs"].items():
        learned = targets[run["target"]]
        test = tables[run["split"]].query("split == 'test'")
        every = resampling.patient_resamples(test["patient_id"], resamples_n, np.random.default_rng(seed))
        for finding in learned["findings"]:
            label = test[case_tables.label(learned["label_set"], finding)].to_numpy(float)
            column = case_tables.probability(runs.key(run["target"], run["architecture"], run["seed"]), finding)
            keep = np.isin(label, (0, 1))
            label, score, part = label[keep], test[column].to_numpy()[keep], every.of(keep)
            few = intervals.too_few_of_either(label, part)
            value = intervals.interval(accuracy.auc(label, score), accuracy.auc(label, score, part), few)
            where = {"network": name, "learned_from": learned["label_set"], "finding": finding}
            rows.append({**where, "images_n": len(label), "positives_n": int(label.sum()), **value._asdict()})
    return pd.DataFrame(rows)


def numbered(table, keys):
    """Return a table of scores with each box's name, `box`: its finding, and which of several on the image.

    Parameters
    ----------
    table : pandas.DataFrame
        `image_id, finding` and the keys, one row a map and box.
    keys : sequence of str
        What distinguishes the maps of one image.
    """
    which = table.groupby([*keys, "image_id", "finding"]).cumcount().astype(str)
    return table.assign(box=table["finding"] + which)


def scopes(scores):
    """Return what each network is compared with as a whole, by network, a dict.

    Networks that say finding or none are compared with everything on an image together, `any`; those of one finding
    with that finding; those of several with all boxes, `all`.
    """
    kinds = scores.groupby("network", sort=False)["finding"].unique()
    return {name: "any" if "any" in found else "all" if len(found) > 1 else found[0] for name, found in kinds.items()}


def _method_rows(part, measure, drawn, others, resamples_n, seed):
    """Return a measure's mean by method, and the gain of the drawn maps over the mean box on the same boxes."""
    columns = part.pivot_table(index=[*_ONE_PICTURE, "box"], columns="method", values=measure, sort=False)
    rows = []
    for method in [m for m in (*drawn, *others) if m in columns]:
        there = columns[columns[method].notna()]
        resamples = _resamples(there.index, resamples_n, seed)
        patients_n = there.index.get_level_values("patient_id").nunique()
        entry = {"method": method, "boxes_n": len(there), "patients_n": patients_n}
        rows.append({**entry, "what": measure, **intervals.mean(there[method], resamples)._asdict()})
        if method in drawn:
            gain = intervals.mean(there[method] - there[MEAN_BOX], resamples)
            rows.append({**entry, "what": f"{measure}, gain", **gain._asdict()})
    return rows


def hit_table(scores, methods, resamples_n, seed):
    """Return how often maps point at the finding and how much of them is inside, and what they gain on the mean box.

    Parameters
    ----------
    scores : pandas.DataFrame
        Of `numbered`: `network, method, finding, box, patient_id, image_id, pointing, energy`.
    methods : sequence of str
        Those drawn from a network; the others need none.
    resamples_n, seed : int

    Returns
    -------
    pandas.DataFrame
        `network, finding, method, boxes_n, patients_n, what, estimate, low, high, reason`; `what` is a measure, or
        `<measure>, gain`: the map's less the mean box's.
    """
    parts = list(scores.groupby(["network", "finding"], sort=False))
    parts += [
        ((network, "all"), scores[scores["network"] == network])
        for network, scope in scopes(scores).items()
        if scope == "all"
    ]
    others = [m for m in scores["method"].unique() if m not in methods]
    return pd.DataFrame(
        {"network": network, "finding": finding, **row}
        for (network, finding), part in parts
        for measure in ("pointing", "energy")
        for row in _method_rows(part, measure, methods, others, resamples_n, seed)
    )


def of_most_boxes(table):
    """Return which rows of a `hit_table` rest on as many boxes as any of their network and finding, (n,) bool."""
    return table["boxes_n"] == table.groupby(["network", "finding"])["boxes_n"].transform("max")


def pointing_figure(table, networks, method):
    """Return a figure of the share of boxes that a method's peak hits, and the mean box's; a panel a network.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `hit_table`.
    networks : sequence of str
        In the order of the panels; those without a map are left out.
    method : str
    """
    shown = table[(table["what"] == "pointing") & table["method"].isin([method, MEAN_BOX])]
    networks = [n for n in networks if n in set(shown["network"])]
    height = 1 + 0.23 * shown.groupby("network").size().max()
    fig, axes = figures.figure(1, len(networks), width=3.2 * len(networks), height=height, squeeze=False)
    for axis, network in zip(axes.flat, networks, strict=True):
        part = shown[shown["network"] == network]
        own = part["method"] == method
        names = part["finding"].str.replace("_", " ").where(own, "")
        figures.forest(axis, displays.forest_lines(part, names, np.where(own, "#0072B2", "#999999")))
        axis.set(xlim=(-0.02, 1.02), title=network.replace("_", " "))
    fig.suptitle(f"share of boxes hit by the peak: {method} (blue), mean box of other patients (grey)", fontsize=10)
    return fig


def layer_table(layers, scores, resamples_n, seed):
    """Return what maps of each stage of a network hit, and what they gain on the mean box.

    Parameters
    ----------
    layers : pandas.DataFrame
        `network, layer, cells, chosen` and the scores of its maps.
    scores : pandas.DataFrame
        Of `numbered`, with the mean box and chance.
    resamples_n, seed : int

    Returns
    -------
    pandas.DataFrame
        `network, layer`, then as `hit_table`, and `cells, chosen`. Chance stands among the layers, a map of one cell.
    """
    layers = numbered(layers, ["network", "layer"]).rename(columns={"layer": "method"})
    rows = []
    for network, part in layers.groupby("network", sort=False):
        boxes = scores[(scores["network"] == network) & scores["method"].isin([MEAN_BOX, CHANCE])]
        names = part.drop_duplicates("method").set_index("method")[["cells", "chosen"]]
        drawn, names.loc[CHANCE] = names.index, {"cells": 1, "chosen": False}
        for measure in ("pointing", "energy"):
            for row in _method_rows(pd.concat([part, boxes]), measure, drawn, [CHANCE], resamples_n, seed):
                rows.append({"network": network, **row, **names.loc[row["method"]]})
    return pd.DataFrame(rows).rename(columns={"method": "layer"})


def layer_sentences(by_layer):
    """Return for each network which stages beat the mean box, and how the chosen one did, a list.

    Parameters
    ----------
    by_layer : pandas.DataFrame
        Of `layer_table`.
    """
    out = []
    for network, part in by_layer[by_layer["layer"] != CHANCE].groupby("network", sort=False):
        gains, hits = (part[part["what"] == what].set_index("layer") for what in ("pointing, gain", "pointing"))
        ahead = ", ".join(gains.index[gains["low"] > 0])
        best, taken = hits["estimate"].idxmax(), hits.index[hits["chosen"].astype(bool)][0]
        out.append(
            f"{network}: {f'ahead of the mean box are {ahead}' if ahead else 'no stage is ahead of the mean box'}. "
            f"{best} hits most ({hits.at[best, 'estimate']:.3f}), and the chosen {taken} hits "
            f"{hits.at[taken, 'estimate']:.3f}."
        )
    return out


def located_table(scores, resamples_n, seed):
    """Return the share of boxes located at the published thresholds of overlap, finding by finding.

    Parameters
    ----------
    scores : pandas.DataFrame
        `network, method, finding, patient_id, iou, iobb`; rows of finding `any` are left out.
    resamples_n, seed : int

    Returns
    -------
    pandas.DataFrame
        `network, method, finding, boxes_n, measure, threshold, estimate, low, high, reason`.
    """
    keys, rows = ["network", "method", "finding"], []
    for place, part in scores[scores["finding"] != "any"].groupby(keys, sort=False):
        resamples = resampling.patient_resamples(part["patient_id"], resamples_n, np.random.default_rng(seed))
        for measure, thresholds in _OVERLAPS:
            for threshold in thresholds:
                value = intervals.mean((part[measure] > threshold).astype(float), resamples)
                where = dict(zip(keys, place, strict=True)) | {"boxes_n": len(part)}
                rows.append({**where, "measure": measure, "threshold": threshold, **value._asdict()})
    return pd.DataFrame(rows)


def with_published(located):
    """Return a `located_table` with Wang et al.'s share where they report one, `published`."""
    published = localization.PUBLISHED.rename(columns={"accuracy": "published"}).drop(columns="source")
    return located.merge(published, on=["measure", "threshold", "finding"], how="left")


def beside_published(located, network, methods):
    """Return one network's located shares by threshold, some methods and the published ones side by side.

    Parameters
    ----------
    located : pandas.DataFrame
        Of `with_published`.
    network : str
    methods : sequence of str
    """
    shown = located[(located["network"] == network) & located["method"].isin(methods)]
    ours = shown.pivot(index=["measure", "threshold"], columns=["finding", "method"], values="estimate")
    theirs = shown.drop_duplicates(["measure", "threshold", "finding"])
    theirs = theirs.pivot(index=["measure", "threshold"], columns="finding", values="published")
    theirs.columns = pd.MultiIndex.from_product([theirs.columns, ["published"]])
    return pd.concat([ours, theirs], axis=1).sort_index(axis=1)


def likeness(sanity):
    """Return how alike two maps are whatever the sign, and how much more than maps of two images are.

    Parameters
    ----------
    sanity : pandas.DataFrame
        `rank_correlation`, with the trained network's map of the same image, and `unrelated`, with that of another.

    Returns
    -------
    pandas.DataFrame
        The table with `size`, `unrelated` (now a size too) and `beyond`, the first less the second.
    """
    size, unrelated = sanity["rank_correlation"].abs(), sanity["unrelated"].abs()
    return sanity.assign(size=size, unrelated=unrelated, beyond=size - unrelated)


def likeness_table(alike, resamples_n, seed):
    """Return the mean likeness of maps to the trained network's, over images and draws of weights.

    Parameters
    ----------
    alike : pandas.DataFrame
        Of `likeness`, with `against, method, step, block, draw, patient_id, image_id, structural_similarity`.
    resamples_n, seed : int

    Returns
    -------
    pandas.DataFrame
        `against, method, step, block, measure, images_n, constant_n, estimate, low, high, reason, least_draw,
        greatest_draw, draws_n`. An image whose map is constant in any draw is left out and counted, `constant_n`.
    """
    keys, rows = ["against", "method", "step", "block"], []
    for place, part in alike.groupby(keys, sort=False):
        for measure in ("size", "unrelated", "beyond", "rank_correlation", "structural_similarity"):
            by_draw = part.pivot(index=_ONE_PICTURE, columns="draw", values=measure)
            there = by_draw.dropna()
            of_draws = there.mean()
            value = intervals.mean(there.mean(axis=1), _resamples(there.index, resamples_n, seed))
            row = dict(zip(keys, place, strict=True)) | {"measure": measure}
            row |= {"images_n": len(there), "constant_n": len(by_draw) - len(there), **value._asdict()}
            row |= {"least_draw": of_draws.min(), "greatest_draw": of_draws.max(), "draws_n": there.shape[1]}
            rows.append(row)
    return pd.DataFrame(rows)


def likeness_figure(checks, methods):
    """Return a figure of likeness to the trained network's maps, from the head down to the stem.

    Parameters
    ----------
    checks : pandas.DataFrame
        Of `likeness_table`.
    methods : sequence of str
        Of maps, in the order of their colours.
    """
    sizes = checks[checks["measure"] == "size"]
    fig, axis = figures.figure(width=7, height=3.4)
    for method, colour in zip(methods, ("#0072B2", "#D55E00", "#009E73"), strict=False):
        own = checks[checks["method"] == method]
        part = own[own["measure"] == "size"]
        weights, chance = part[part["step"] > 0], own[own["measure"] == "unrelated"].query("step > 0")
        if weights.empty:
            continue
        axis.plot(weights["step"], weights["estimate"], "o-", color=colour, label=f"{method}, weights re-initialised")
        ends = weights["least_draw"], weights["greatest_draw"]
        axis.fill_between(weights["step"], *ends, color=colour, alpha=0.15, linewidth=0)
        said = f"{method}, maps of other images"
        axis.plot(chance["step"], chance["estimate"], "x-", color=colour, alpha=0.5, label=said)
        for r, line in zip(part[part["step"] == 0].itertuples(), (":", "--"), strict=False):
            axis.axhline(r.estimate, color=colour, linestyle=line, linewidth=1, label=f"{method}, {r.against}")
    ticks = sizes[sizes["step"] > 0].drop_duplicates("step")
    axis.set_xticks(ticks["step"], ticks["block"], rotation=30, ha="right", fontsize=8)
    axis.set(ylabel="size of the rank correlation", title="from the head down to the stem", ylim=(0, 1.02))
    axis.legend(fontsize=7, ncols=2)
    return fig


def randomised_sentences(checks):
    """Return for each method how alike maps are once every weight is re-initialised, a list.

    Parameters
    ----------
    checks : pandas.DataFrame
        Of `likeness_table`; its last step is that of all weights.
    """
    end = checks[checks["step"] == checks["step"].max()]
    end = end.assign(text=displays.texts(end)).set_index(["method", "measure"])
    out = []
    for method in end.index.unique("method"):
        r, beyond = end.loc[(method, "size")], end.loc[(method, "beyond")]
        if np.isnan(r["low"]):
            out.append(f"{method} cannot be judged: {r['reason']}.")
            continue
        draws = f"{r['least_draw']:.2f} to {r['greatest_draw']:.2f} over {r['draws_n']} draws"
        out.append(
            f"{method}: with every weight re-initialised the size is {r['text']}, and {draws}. "
            f"It exceeds what maps of other images have in common by {beyond['text']}."
        )
    return out


def permuted_sentences(alike, resamples_n, seed):
    """Return for each method whether maps distinguish shuffled labels from labels that were trained again, a list.

    Parameters
    ----------
    alike : pandas.DataFrame
        Of `likeness`; rows of step 0 are of other networks with trained weights.
    resamples_n, seed : int
    """
    trained = alike[alike["step"] == 0].pivot(index=["method", *_ONE_PICTURE], columns="against", values="size")
    out = []
    for method, part in trained.groupby(level="method", sort=False):
        if trained.shape[1] < 2:
            mean = part.iloc[:, 0].mean()
            out.append(f"{method}: permuted labels {mean:.3f}; the same labels were not trained twice.")
            continue
        gap = (part["same labels, trained again"] - part["labels permuted"]).dropna()
        value = intervals.mean(gap, _resamples(gap.index, resamples_n, seed))
        verdict = "distinguishes them" if value.low > 0 else "does not distinguish them"
        said = f"trained again less permuted {intervals.text(*value[:3])}: {verdict}"
        out.append(f"{method}: {said} (one network each).")
    return out


def drain_shares(drains):
    """Return how much of a map is at the drain and at the pleura for their area, and which of the two it prefers.

    Parameters
    ----------
    drains : pandas.DataFrame
        `method, pneumothorax, target, seed, patient_id, image_id, at, energy, area_frac`; `at` is `chest_drain` or
        `pneumothorax`.

    Returns
    -------
    table : pandas.DataFrame
        The same rows with `value`, energy over area; and, where an image has both places, rows whose `at` is `drain
        rather than pleura`: the first's value over the sum of both.
    cold_n, both_n : int
        Of how many maps of images with both places neither place has anything; these have no preference.
    """
    drains = drains.assign(value=drains["energy"] / drains["area_frac"])
    keys = ["method", "pneumothorax", "target", "seed", *_ONE_PICTURE]
    both = drains.pivot(index=keys, columns="at", values="value")
    both = both.reindex(columns=["chest_drain", "pneumothorax"]).dropna()
    cold = both.sum(axis=1) == 0
    share = (both["chest_drain"] / both.sum(axis=1))[~cold].rename("value").reset_index()
    return pd.concat([drains, share.assign(at=_SHARE)]), int(cold.sum()), len(both)


def drain_table(shares, targets, resamples_n, seed):
    """Return where maps of two targets look, and the second's value less the first's, over seeds.

    Parameters
    ----------
    shares : pandas.DataFrame
        Of `drain_shares`.
    targets : (str, str)
    resamples_n, seed : int

    Returns
    -------
    pandas.DataFrame
        `method, at, pneumothorax, network, images_n, estimate, low, high, p, reason`; images that have a value of
        every target and seed; `network` is a target or `difference`. It has no rows where no cohort shows drains.
    """
    where, rows = ["method", "at", "pneumothorax"], []
    for place, part in shares.groupby(where, sort=False):
        values = part.pivot(index=_ONE_PICTURE, columns=["target", "seed"], values="value").dropna()
        resamples = _resamples(values.index, resamples_n, seed)
        means = {target: values[target] for target in targets}
        for who, each in {**means, "difference": means[targets[1]] - means[targets[0]]}.items():
            replicates = resamples.totals(each.mean(axis=1)) / resamples.totals(np.ones(len(each)))
            value = intervals.over_seeds(each.mean().to_numpy(), replicates)
            rows.append(dict(zip(where, place, strict=True)) | {"network": who, "images_n": len(values), **value})
    columns = [*where, "network", "images_n", "estimate", "low", "high", "p", "reason"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(pneumothorax=table["pneumothorax"].replace({1: "there", 0: "gone"}))


def drain_sentences(looked):
    """Return for each method whether reports' network looks rather at the drain than radiologists' does, a list.

    Parameters
    ----------
    looked : pandas.DataFrame
        Of `drain_table`; the second target was trained on labels of reports.
    """
    out = []
    for r in looked[(looked["at"] == _SHARE) & (looked["network"] == "difference")].itertuples():
        says = "rather at the drain" if r.low > 0 else "rather at the pleura" if r.high < 0 else "no difference shown"
        text = intervals.text(r.estimate, r.low, r.high)
        out.append(f"{r.method}: trained on reports less trained on radiologists {text}: {says}.")
    return out


def headline(table, known, overall, method):
    """Return the study's short table: what each network knows, and what a method's peak hits and gains over others.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `hit_table`.
    known : pandas.DataFrame
        Of `knowledge`.
    overall : Mapping of str to str
        Of `scopes`.
    method : str
    """
    table = table.assign(text=displays.texts(table))[table["finding"] == table["network"].map(overall)]
    hits = table.set_index(["network", "method", "what"])
    areas = known.groupby("network")["estimate"].agg(["min", "max"])
    rows = []
    for network, scope in overall.items():
        gain = hits.loc[(network, method, "pointing, gain")]
        least, most = areas.loc[network]
        row = {
            "network": network,
            "AUC by its own labels": f"{least:.3f}" if least == most else f"{least:.3f} to {most:.3f}",
            "compared with": scope.replace("any", "any finding"),
            "n": f"{gain['boxes_n']} {'images' if scope == 'any' else 'boxes'}",
        }
        names = (method, MEAN_BOX, CHANCE)
        row |= {f"{name} hits": hits.loc[(network, name, "pointing"), "text"] for name in names}
        rows.append({**row, "gain": gain["text"]})
    return pd.DataFrame(rows)
