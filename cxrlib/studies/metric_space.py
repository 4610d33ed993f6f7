"""The metric space of study 5 (notebook 25): do names matter, what needs no anatomy, unseen findings, neighbours.

Tables are made as in `cxrlib.studies.metric_study`, of the same test images and resamples.
"""

import numpy as np
import pandas as pd
from matplotlib import colormaps

from cxrlib.base import figures
from cxrlib.networks import metric_scores
from cxrlib.statistics import accuracy, intervals, resampling
from cxrlib.studies import displays, metric_study
from cxrlib.studies.metric_study import Measured, as_difference, estimate_of, gap_of, with_holm

_VALUE = ["estimate", "low", "high"]
_SEED = ["seed_low", "seed_high"]  # where one more seed lies


def prototype_table(scores, scored_against):
    """Return the dual-weighted loss with prototypes of other origin, and its difference from the names'.

    Returns
    -------
    pandas.DataFrame
        `prototypes, estimate, low, high, reason, seed_low, seed_high, findings_n, seeds_n, difference,
        difference_low, difference_high, difference_seed_low, difference_seed_high, p, p_holm`.
    """
    return _against(scores, "prototypes", "prototypes", scored_against, metric_scores.BY_NAME)


def shortcut_tables(scores, trained_on, scored_against):
    """Return what needs no anatomy, and how far the dual-weighted loss and BCE lie above it.

    Returns
    -------
    table : pandas.DataFrame
        `known, estimate, low, high, reason, findings_n, seeds_n`; and of both losses `<loss> less known, <loss> less
        known_low, <loss> less known_high, <loss>_p, <loss>_p_holm`.
    by_finding : pandas.DataFrame
        `finding`, then the AUC of everything that is known, of BCE and of the dual-weighted loss, with their ends.
    """
    both = {loss: {"trained_on": trained_on, "loss": loss} for loss in ("bce", metric_scores.DUAL)}
    sides = {loss: scores.scored("losses", at, scored_against, scores.findings) for loss, at in both.items()}
    rows, columns = [], {}
    for (known,) in dict.fromkeys(key[:1] for key in scores.arrays("shortcuts", ["known"])):
        columns[known] = "shortcuts", {"known": known}
        mine = scores.scored("shortcuts", {"known": known}, scored_against, scores.findings)
        row = {"known": known, **estimate_of(mine)}
        for loss, side in sides.items():
            gap = gap_of(side, mine)
            less = f"{loss} less known"
            row |= {less: gap["estimate"], f"{less}_low": gap["low"], f"{less}_high": gap["high"]}
            row[f"{loss}_p"] = gap["p"]
        rows.append(row)
    table = pd.DataFrame(rows).drop(columns=["seed_low", "seed_high"], errors="ignore")
    table = table.assign(**{f"{loss}_p_holm": intervals.holm(table[f"{loss}_p"].to_numpy()) for loss in sides})
    columns |= {loss: ("losses", at) for loss, at in both.items()}
    found = []
    for finding in scores.findings:
        row = {"finding": finding}
        for name, where in columns.items():
            value = estimate_of(scores.scored(*where, scored_against, [finding]))
            row |= {name: value["estimate"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        found.append(row)
    return table, pd.DataFrame(found)


def shortcut_sentence(known, loss="bce"):
    """Return whether a loss exceeds everything that needs no anatomy, as a sentence.

    Parameters
    ----------
    known : pandas.DataFrame
        First table of `shortcut_tables`.
    loss : str
    """
    above = (known[f"{loss} less known_low"] > 0) & (known[f"{loss}_p_holm"] < 0.05)
    if above.all():
        return f"{loss} lies above everything that needs no anatomy: its networks have learned more than that."
    names = ", ".join(known["known"][~above])
    return (
        f"{loss} does not lie above {names}: its networks have not been shown to see findings, and differences "
        "between losses are of networks that have learned little or nothing."
    )


def shuffled_table(scores, scored_against):
    """Return the mean AUC of heads that learned shuffled labels: mean and spread over permutations and seeds.

    Returns
    -------
    pandas.DataFrame
        `loss, permutations_n, mean, least_auc, greatest_auc`: the middle 95 % of all permutations.
    """
    table = scores.table("shuffled_labels")
    table = table[table["scored_against"] == scored_against]
    grouped = table.groupby("loss", sort=False, observed=True)["mean_auc"]
    ends = {"least_auc": lambda x: x.quantile(0.025), "greatest_auc": lambda x: x.quantile(0.975)}
    return grouped.agg(permutations_n="size", mean="mean", **ends).reset_index()


def _against(scores, stored, column, scored_against, first):
    """Return every row of a stored table's `column` with its difference from the row `first`."""
    found = {
        name: scores.scored(stored, {column: name}, scored_against, scores.findings)
        for (name,) in dict.fromkeys(key[:1] for key in scores.arrays(stored, [column]))
    }
    rows = []
    for name, mine in found.items():
        gap = gap_of(mine, found[first]) if name != first else dict.fromkeys((*_VALUE, *_SEED, "p"), np.nan)
        more = as_difference(gap) | {f"difference_{end}": gap[end] for end in _SEED}
        rows.append({column: name, **estimate_of(mine), **more, "p": gap["p"]})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=intervals.holm(table["p"].to_numpy()))


def unseen_tables(scores, scored_against):
    """Return the AUC of findings that no network had seen, by their names alone.

    Returns
    -------
    table : pandas.DataFrame
        `finding, normals` (of training and test), `prototypes`, then as `loss_tables`; the first row of each is the
        mean over findings, which every partition adds its own to. `seen` says whether the row is of findings that
        heads had learned.
    gains : pandas.DataFrame
        `normals, comparison, estimate, low, high, p, reason, p_holm`: names less each control and less chance.
    """
    if scores.table("unseen").empty:
        return pd.DataFrame(), pd.DataFrame()
    arrays = {}
    for (*where, _, finding), by_seed in scores.arrays("unseen", ["prototypes", "normals", "seen", "target"]).items():
        arrays.setdefault((*where, finding), []).append(by_seed)
    rows, gaps, any_finding = [], [], _has_any(scores, scored_against)
    for normals in (True, False):
        chosen, means = None if normals else any_finding, {}
        shown = {"normals": "kept" if normals else "left out"}
        for seen in (False, True):
            for name in dict.fromkeys(key[0] for key in arrays if key[1:3] == (normals, seen)):
                part = {}
                for finding in scores.findings:
                    by_target = arrays.get((name, normals, seen, finding))
                    if by_target and scores.enough(scored_against, finding, chosen):
                        part[finding] = _over_targets(scores, by_target, scored_against, finding, chosen)
                if not part:
                    continue
                each, drawn = (np.mean([getattr(p, a) for p in part.values()], axis=0) for a in ("each", "drawn"))
                mean = Measured(each, drawn, tuple(part))
                if not seen:
                    means[name] = mean
                for finding, one in {f"mean of {'seen' if seen else 'unseen'} findings": mean, **part}.items():
                    rows.append({"finding": finding, "seen": seen, **shown, "prototypes": name, **estimate_of(one)})
        true = means.pop(metric_scores.BY_NAME, None)
        if true is not None:
            chance = Measured(np.full(len(true.each), 0.5), np.full(len(true.drawn), 0.5), true.findings)
            for name, other in {**means, "chance": chance}.items():
                gaps.append({**shown, "comparison": f"names - {name}", **gap_of(true, other)})
    return pd.DataFrame(rows), with_holm(pd.DataFrame(gaps), ["normals"]) if gaps else pd.DataFrame()


def _has_any(scores, label_set):
    """Return which test images have any finding, (n,) bool."""
    return np.any([scores.label(label_set, finding) == 1 for finding in scores.findings], axis=0)


def _over_targets(scores, by_target, label_set, finding, chosen):
    """Return the `Measured` of one finding, by seed the mean over the targets that have it."""
    label = scores.label(label_set, finding)
    keep = np.isin(label, (0, 1)) & (True if chosen is None else chosen)
    part, each, drawn = scores.resamples.of(keep), [], []
    for seed in sorted(by_target[0]):
        some = [by_seed[seed][keep] for by_seed in by_target]
        each.append(np.mean([accuracy.auc(label[keep], score) for score in some]))
        drawn.append(np.mean([accuracy.auc(label[keep], score, part) for score in some], axis=0))
    return Measured(np.array(each), np.mean(drawn, axis=0), (finding,))


def nearest_table(scores):
    """Return whether what is near an image fits, and the difference from what needs no space of names.

    `images` are the five nearest of other patients, of which a share has a finding in common with it; they are
    compared with those by the network's own vectors. `finding` is the one whose prototype is nearest, which the image
    has or has not; it is compared with always naming the commonest.

    Returns
    -------
    pandas.DataFrame
        `near` (`images`, `finding`), `model, images_n, estimate, low, high, reason, difference, difference_low,
        difference_high, p, p_holm`.
    """
    table, rows = scores.table("nearest"), []
    at = pd.Index(scores.images["image_id"])
    measures = {"images": ("shared_frac", metric_scores.OWN_VECTORS), "finding": ("present", metric_scores.ANY)}
    for near, (column, less) in measures.items():
        found = {}
        for model, part in table[table[column].notna()].groupby("model", sort=False, observed=True):
            each, drawn = [], []
            for _, one in part.groupby("seed", sort=True):
                patient = scores.resamples.patient[at.get_indexer(one["image_id"])]
                resamples = resampling.Resamples(scores.resamples.counts, patient)
                values = one[column].to_numpy(float)
                each.append(values.mean())
                drawn.append(resamples.totals(values) / resamples.totals(np.ones(len(values))))
            found[model] = Measured(np.array(each), np.mean(drawn, axis=0), ())
        for model, mine in found.items():
            gap = gap_of(mine, found[less]) if model != less else dict.fromkeys((*_VALUE, "p"), np.nan)
            value = estimate_of(mine)
            row = {"near": near, "model": model, "images_n": table["image_id"].nunique()}
            row |= {name: value[name] for name in (*_VALUE, "reason")}
            rows.append({**row, **as_difference(gap), "p": gap["p"]})
    return with_holm(pd.DataFrame(rows), ["near"])


def end_to_end_table(scores, scored_against, compared_with="bce"):
    """Return networks that were trained with a loss from the start, and their difference from one of them.

    Returns
    -------
    pandas.DataFrame
        `loss`, then as `prototype_table`; empty where the edition trains none.
    """
    if scores.table("end_to_end").empty:
        return pd.DataFrame()
    return _against(scores, "end_to_end", "loss", scored_against, compared_with)


def sentences_of_differences(table, less):
    """Return for each row of `prototype_table` or `end_to_end_table` that has a difference what it says, a list.

    Parameters
    ----------
    table : pandas.DataFrame
        Its first column says what each row is.
    less : str
        What to call the row that differences are from.
    """
    out = []
    for _, row in table[table["p"].notna()].iterrows():
        gap = {name: row[f"difference{end}"] for name, end in zip(_VALUE, ("", "_low", "_high"), strict=True)}
        said = displays.verdict({**gap, "p_holm": row["p_holm"]})
        out.append(f"{row.iloc[0]} less {less}: {intervals.text(*gap.values())}, {said}.")
    return out


def space_figure(scores, label_set, seed):
    """Return a map of test images and prototypes: the two directions in which prototypes differ most.

    Images that have one finding alone are coloured by it; those without any are grey.

    Parameters
    ----------
    scores : MetricScores
    label_set : str
    seed : int
        Whose head.
    """
    table = scores.table("space")
    table = table[table["seed"] == seed]
    axes_of = sorted((c for c in table if c[0] == "x"), key=lambda c: int(c[1:]))
    prototypes = table[table["what"] == "prototype"].set_index("name")[axes_of].loc[scores.findings].to_numpy(float)
    points = table[table["what"] == "image"].set_index("name")[axes_of].loc[scores.images["image_id"]].to_numpy(float)
    _, _, turned = np.linalg.svd(prototypes - prototypes.mean(0), full_matrices=False)
    flat, named = points @ turned[:2].T, prototypes @ turned[:2].T
    labels = np.stack([scores.label(label_set, f) == 1 for f in scores.findings], axis=1)
    fig, axis = figures.figure(width=8.5, height=5.2)
    none = ~labels.any(1)
    axis.scatter(*flat[none].T, s=5, color="#BBBBBB", alpha=0.4, linewidth=0, label="no finding")
    palette = colormaps["tab10" if len(scores.findings) <= 10 else "tab20"]
    for k, finding in enumerate(scores.findings):
        alone = labels[:, k] & (labels.sum(1) == 1)
        axis.scatter(*flat[alone].T, s=9, color=palette(k), alpha=0.7, linewidth=0)
        star = {"s": 110, "marker": "*", "edgecolor": "black", "linewidth": 0.6, "zorder": 3}
        axis.scatter(*named[k], color=palette(k), label=finding.replace("_", " "), **star)
    axis.set(xlabel="first direction of the prototypes", ylabel="second", aspect="equal")
    fig.legend(loc="outside right upper", fontsize=8)
    return fig


def short_answers(gains, effects, prototypes, known, unseen, nearest, trained_on, scored_against):
    """Return the table of the documentation: the study's questions, and their answers by one label set.

    Parameters
    ----------
    gains : pandas.DataFrame
        Second table of `metric_study.loss_tables`.
    effects : pandas.DataFrame
        `metric_study.ablation_table`.
    prototypes, known, unseen, nearest : pandas.DataFrame
        `prototype_table`, first tables of `shortcut_tables` and `unseen_tables`, `nearest_table`.
    trained_on, scored_against : str

    Returns
    -------
    pandas.DataFrame
        `question, answer`: an estimate with its interval and, of differences, what it says.
    """
    rows = []

    def add(question, row, prefix=""):
        value = {
            name: row[f"{prefix}_{name}" if prefix and name != "estimate" else prefix or name] for name in _VALUE
        }
        said = f", {displays.verdict({**value, 'p_holm': row['p_holm']})}" if "p_holm" in row else ""
        rows.append({"question": question, "answer": f"{intervals.text(*value.values())}{said}"})

    def here(table):
        return table[table["trained_on"].eq(trained_on) & table["scored_against"].eq(scored_against)]

    mine = here(gains)
    mine = mine[mine["findings"].eq(metric_study.ALL) & mine["measure"].eq(metric_study.AUC)].set_index("loss")
    for loss in (metric_scores.PLAIN, metric_scores.DUAL):
        add(f"mean AUC, {loss} less bce", mine.loc[loss])
    part = here(effects)
    part = part[part["findings"].eq(metric_study.ALL) & part["what"].str.startswith("effect")]
    for _, row in part.iterrows():
        add(f"{row['what']}, {row['head']} head" if row["head"] == "linear" else f"{row['what']}, {row['head']}", row)
    named = prototypes.set_index("prototypes")
    for name in (metric_scores.SHUFFLED, metric_scores.RANDOM, metric_scores.AFTERWARDS):
        add(f"mean AUC, {name} less names", named.loc[name], "difference")
    for _, row in known.iterrows():
        add(f"mean AUC of {row['known']} alone", row.drop(f"{metric_scores.DUAL}_p_holm").drop("bce_p_holm"))
    if len(unseen):
        mean = unseen[
            unseen["finding"].eq("mean of unseen findings") & unseen["prototypes"].eq(metric_scores.BY_NAME)
        ]
        for _, row in mean.iterrows():
            add(f"mean AUC of unseen findings by their names, normal images {row['normals']}", row)
    found = nearest.set_index(["near", "model"])
    images, finding = (found.loc[(near, metric_scores.SPACE)] for near in ("images", "finding"))
    add("nearest images that share a finding, metric space less the network's own vectors", images, "difference")
    add("nearest prototype is a finding of the image, less always naming the commonest", finding, "difference")
    return pd.DataFrame(rows)
