"""The study of a metric loss (notebook 25): published numbers, tables and sentences.

Every table is made of what notebook 18 stored image by image. Intervals hold for other patients and other training
seeds (`intervals.over_seeds`); a difference is between two losses on the same vectors, images and resamples.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import t as student

from cxrlib.base import figures, paths
from cxrlib.networks import metric_scores
from cxrlib.statistics import accuracy, calibration, intervals, resampling
from cxrlib.studies import displays

# Mean AUC over the 14 findings of ChestX-ray14 on the official test list (25,596 images, labels of reports).
PUBLISHED_OFFICIAL = pd.DataFrame(
    [
        ("ResNet-50 (Wang 2017)", 0.745),
        ("DenseNet-121, MoCo-v2", 0.808),
        ("ResNet-50, BioViL", 0.808),
        ("ResNet-50, MedKLIP", 0.812),
        ("ResNet-50, MGCA", 0.813),
        ("DenseNet-121, Medical MAE", 0.813),
        ("ViT-S, Medical MAE", 0.823),
        ("ViT-Ti, EVA-X", 0.824),
        ("ViT-S, EVA-X", 0.833),
        ("ViT-B, EVA-X", 0.835),
    ],
    columns=["network", "mean_auc"],
)
JIN_MEAN_AUC = 0.826  # split not known: beside none of the above
HAYAT_UNSEEN_AUC = 0.66  # of 4 findings; 22,433 test images, without those that have no finding

# Per-class AUC of Wang et al. 2017 on the official list, ResNet-50, in the papers' order.
WANG_AUC = {
    "atelectasis": 0.7003,
    "cardiomegaly": 0.8100,
    "effusion": 0.7585,
    "infiltration": 0.6614,
    "mass": 0.6933,
    "nodule": 0.6687,
    "pneumonia": 0.6580,
    "pneumothorax": 0.7993,
    "consolidation": 0.7032,
    "edema": 0.8052,
    "emphysema": 0.8330,
    "fibrosis": 0.7859,
    "pleural_thickening": 0.6835,
    "hernia": 0.8717,
}

ALL, RARE, FREQUENT = "all findings", "rare findings", "frequent findings"
METRIC = metric_scores.PLAIN, metric_scores.IMAGE, metric_scores.DISEASE, metric_scores.DUAL
AUC, AP = "AUC", "average precision"
_MEASURES = {AUC: accuracy.auc, AP: accuracy.average_precision}
_VALUE = ["estimate", "low", "high"]


@dataclass(frozen=True)
class Measured:
    """A measure of one kind of network, over its seeds.

    Attributes
    ----------
    each : (seeds_n,) float64
        Its mean over findings, by seed.
    drawn : (b,) float64
        The mean over seeds in each resample of patients.
    findings : tuple of str
        Those that have enough patients.
    """

    each: np.ndarray
    drawn: np.ndarray
    findings: tuple


@dataclass
class MetricScores:
    """Test images, their labels, what networks give them, and resamples of their patients.

    Attributes
    ----------
    edition : str
    images : pandas.DataFrame
        `image_id, patient_id` and `<label set>.<finding>`.
    findings : list of str
    counts : pandas.DataFrame
        Positive training labels, a row a finding, a column for each label set that is trained on.
    training_shares : pandas.DataFrame
        The same as shares of the training labels.
    resamples : resampling.Resamples
    """

    edition: str
    images: pd.DataFrame
    findings: list
    counts: pd.DataFrame
    training_shares: pd.DataFrame
    resamples: resampling.Resamples
    _cells: dict = field(default_factory=dict)
    _arrays: dict = field(default_factory=dict)

    def table(self, name):
        """Return a stored table."""
        return pd.read_parquet(paths.to_read(metric_scores.metric_table_path(self.edition, name)))

    def arrays(self, name, keys):
        """Return the scores of a stored table by `(*keys, finding)`, a dict of {seed: (n,) float64}; read once."""
        key = (name, *keys)
        if key in self._arrays:
            return self._arrays[key]
        out, n = {}, len(self.images)
        for where, part in self.table(name).groupby([*keys, "finding", "seed"], sort=False, observed=True):
            if len(part) != n or not np.array_equal(part["image_id"], self.images["image_id"]):
                raise ValueError(f"{name}.parquet has other images than images.parquet: run notebook 18 again.")
            out.setdefault(where[:-1], {})[where[-1]] = part["score"].to_numpy(float)
        return self._arrays.setdefault(key, out)

    def label(self, label_set, finding):
        """Return a label of the test images, (n,) float64; NaN where the label set does not have it."""
        column = f"{label_set}.{finding}"
        return self.images[column].to_numpy(float) if column in self.images else np.full(len(self.images), np.nan)

    def label_sets(self):
        """Return the label sets that the test images have, in their order."""
        return list(dict.fromkeys(c.split(".")[0] for c in self.images if "." in c))

    def groups(self, trained_on):
        """Return which findings are averaged: all, the rarer half by the labels trained on, and the other half."""
        order = self.counts[trained_on].loc[self.findings].sort_values(kind="stable").index.tolist()
        rare = order[: len(order) // 2]
        return {ALL: self.findings, RARE: rare, FREQUENT: [f for f in self.findings if f not in rare]}

    def enough(self, label_set, finding, chosen=None):
        """Return whether a finding has enough patients with and without it for an interval."""
        label = self.label(label_set, finding)
        keep = np.isin(label, (0, 1)) & (True if chosen is None else chosen)
        if len(np.unique(label[keep])) < 2:
            return False
        return not intervals.too_few_of_either(label[keep], self.resamples.of(keep))

    def cell(self, key, by_seed, label_set, finding, measure=AUC, chosen=None):
        """Return a measure by seed (seeds_n,) and its mean over seeds in each resample (b,); computed once.

        Parameters
        ----------
        key : tuple
            What the scores are of.
        by_seed : Mapping of int to (n,) float
        label_set, finding : str
        measure : {"AUC", "average precision"}
        chosen : (n,) bool, optional
            Images that count.
        """
        mask = b"" if chosen is None else np.packbits(chosen).tobytes()
        key = (*key, label_set, finding, measure, mask)
        if key not in self._cells:
            label = self.label(label_set, finding)
            keep = np.isin(label, (0, 1)) & (True if chosen is None else chosen)
            part, of = self.resamples.of(keep), _MEASURES[measure]
            each = [of(label[keep], score[keep]) for _, score in sorted(by_seed.items())]
            drawn = np.mean([of(label[keep], score[keep], part) for _, score in sorted(by_seed.items())], axis=0)
            self._cells[key] = np.array(each), drawn
        return self._cells[key]

    def scored(self, name, where, label_set, findings, measure=AUC, chosen=None):
        """Return the `Measured` mean over findings of one kind of network; None if no finding has enough patients.

        Parameters
        ----------
        name : str
            A stored table, with scores.
        where : Mapping of str to str
            Its columns' values, such as `{"trained_on": ..., "loss": ...}`.
        label_set : str
        findings : sequence of str
        measure, chosen
            See `cell`.
        """
        arrays, where = self.arrays(name, list(where)), tuple(where.values())
        kept = [f for f in findings if (*where, f) in arrays and self.enough(label_set, f, chosen)]
        if not kept:
            return None
        cells = [self.cell((name, *where), arrays[*where, f], label_set, f, measure, chosen) for f in kept]
        each, drawn = (np.mean(part, axis=0) for part in zip(*cells, strict=True))
        return Measured(each, drawn, tuple(kept))


def open_metric_scores(edition, resamples_n, seed):
    """Return the `MetricScores` of an edition."""
    images = pd.read_parquet(paths.to_read(metric_scores.metric_table_path(edition, "images")))
    training = pd.read_parquet(paths.to_read(metric_scores.metric_table_path(edition, "training")))
    training = training.astype({"target": str, "trained_on": str, "finding": str})
    first = training.drop_duplicates(["trained_on", "finding"])  # of each label set the first target
    first = first.assign(share=first["positives_n"] / (first["positives_n"] + first["negatives_n"]))
    order = first["finding"][first["target"] == first["target"].iloc[0]].tolist()
    counts, shares = (
        first.pivot(index="finding", columns="trained_on", values=of).loc[order] for of in ("positives_n", "share")
    )
    resamples = resampling.patient_resamples(images["patient_id"], resamples_n, np.random.default_rng(seed))
    return MetricScores(edition, images, order, counts, shares, resamples)


def another_seed(each):
    """Return where the estimate of one more seed lies with 95 % probability, on the same test images.

    The prediction interval of a normal sample: mean plus and minus t sd sqrt(1 + 1/n).

    Parameters
    ----------
    each : (seeds_n,) float

    Returns
    -------
    (float, float)
        NaN of one seed.
    """
    n = len(each)
    if n < 2:
        return np.nan, np.nan
    reach = float(student.ppf(0.975, n - 1)) * np.std(each, ddof=1) * np.sqrt(1 + 1 / n)
    return float(np.mean(each) - reach), float(np.mean(each) + reach)


def estimate_of(scored):
    """Return a mean with its interval over patients and seeds, and where another seed lies, as a dict."""
    if scored is None:
        none = f"no finding has {intervals.FEW_PATIENTS} patients with it and {intervals.FEW_PATIENTS} without"
        return {"estimate": np.nan, "low": np.nan, "high": np.nan, "reason": none, "findings_n": 0, "seeds_n": 0}
    value = intervals.over_seeds(scored.each, scored.drawn)
    low, high = another_seed(scored.each)
    counts = {"findings_n": len(scored.findings), "seeds_n": len(scored.each)}
    return {name: value[name] for name in (*_VALUE, "reason")} | {"seed_low": low, "seed_high": high} | counts


def gap_of(first, second):
    """Return a paired difference of two `Measured`, first less second, as a dict with p."""
    if first is None or second is None:
        return {"estimate": np.nan, "low": np.nan, "high": np.nan, "p": np.nan, "reason": "not estimable"}
    value = intervals.over_seeds(first.each - second.each, first.drawn - second.drawn)
    low, high = another_seed(first.each - second.each)
    return {name: value[name] for name in (*_VALUE, "p", "smallest", "reason")} | {"seed_low": low, "seed_high": high}


def as_difference(gap):
    """Return `gap_of` as `difference, difference_low, difference_high`, to stand beside an estimate of its own."""
    return {"difference": gap["estimate"], "difference_low": gap["low"], "difference_high": gap["high"]}


def with_holm(table, family):
    """Return a table with `p_holm`, corrected within each family of rows."""
    adjusted = table.groupby(family, sort=False)["p"].transform(lambda p: intervals.holm(p.to_numpy()))
    return table.assign(p_holm=adjusted)


def of_loss(scores, trained_on, loss, scored_against, findings, measure=AUC):
    """Return the `Measured` mean over findings of one loss trained on one label set."""
    where = {"trained_on": trained_on, "loss": loss}
    return scores.scored("losses", where, scored_against, findings, measure)


def _names(scores):
    """Return `(label set trained on, loss)` of every kind of head, in stored order."""
    return list(dict.fromkeys(key[:2] for key in scores.arrays("losses", ["trained_on", "loss"])))


def loss_tables(scores, compared_with="bce"):
    """Return how well every loss does, and its difference from one of them.

    Average precision is given for all findings, scored by the first label set.

    Returns
    -------
    table : pandas.DataFrame
        `trained_on, scored_against, loss, findings, measure`, then `estimate, low, high, reason, seed_low, seed_high`
        (where one more seed lies), `findings_n, seeds_n`.
    gains : pandas.DataFrame
        `trained_on, scored_against, loss, findings, measure, estimate, low, high, p, smallest, reason, seed_low,
        seed_high, p_holm`: loss less `compared_with`. Holm's family is the losses in one cell of training labels,
        test labels, findings and measure.
    """
    names, rows, gaps = _names(scores), [], []
    for trained_on in dict.fromkeys(name for name, _ in names):
        losses = [loss for name, loss in names if name == trained_on]
        for scored_against in scores.label_sets():
            for group, findings in scores.groups(trained_on).items():
                for measure in _MEASURES if group == ALL and scored_against == scores.label_sets()[0] else (AUC,):
                    where = {"trained_on": trained_on, "scored_against": scored_against}
                    more = {"findings": group, "measure": measure}
                    found = {
                        loss: of_loss(scores, trained_on, loss, scored_against, findings, measure) for loss in losses
                    }
                    rows += [{**where, "loss": loss, **more, **estimate_of(each)} for loss, each in found.items()]
                    gaps += [
                        {**where, "loss": loss, **more, **gap_of(each, found[compared_with])}
                        for loss, each in found.items()
                        if loss != compared_with
                    ]
    family = ["trained_on", "scored_against", "findings", "measure"]
    return pd.DataFrame(rows), with_holm(pd.DataFrame(gaps), family)


def ablation_table(scores):
    """Return the 2 x 2 of image and disease weights by head: its four cells, both effects, and whether they add up.

    An effect is the mean of the difference without and with the other weight; `interaction` is both, less each alone,
    plus none.

    Returns
    -------
    pandas.DataFrame
        `trained_on, scored_against, head, findings, what, kind` (`mean AUC`, `effect`), `estimate, low, high, p,
        reason, seed_low, seed_high, p_holm`; Holm's family is the three effects of a cell of the first four.
    """
    rows = []
    for trained_on in dict.fromkeys(name for name, _ in _names(scores)):
        for scored_against in scores.label_sets():
            for head, losses in metric_scores.TWO_BY_TWO.items():
                for group, findings in scores.groups(trained_on).items():
                    where = {"trained_on": trained_on, "scored_against": scored_against, "head": head}
                    found = [of_loss(scores, trained_on, loss, scored_against, findings) for loss in losses]
                    if None not in found:
                        rows += [{**where, "findings": group, **row} for row in _two_by_two(*found)]
    columns = ["trained_on", "scored_against", "head", "findings", "what", "kind"]
    table = pd.DataFrame(rows)[[*columns, *_VALUE, "p", "reason", "seed_low", "seed_high"]]
    return with_holm(table, ["trained_on", "scored_against", "head", "findings", "kind"])


def _two_by_two(none, image, disease, both):
    """Return the rows of one 2 x 2: its cells and its effects."""
    cells = {"neither weight": none, "image weights": image, "disease weights": disease, "both": both}
    effects = {
        "effect of image weights": ((image, 0.5), (none, -0.5), (both, 0.5), (disease, -0.5)),
        "effect of disease weights": ((disease, 0.5), (none, -0.5), (both, 0.5), (image, -0.5)),
        "interaction": ((both, 1), (image, -1), (disease, -1), (none, 1)),
    }
    rows = [{"what": what, "kind": "mean AUC", **estimate_of(each)} for what, each in cells.items()]
    for what, terms in effects.items():
        each, drawn = (sum(weight * getattr(part, of) for part, weight in terms) for of in ("each", "drawn"))
        zero = Measured(np.zeros_like(each), np.zeros_like(drawn), none.findings)
        rows.append({"what": what, "kind": "effect", **gap_of(Measured(each, drawn, none.findings), zero)})
    return rows


def finding_table(scores, trained_on, scored_against, first=metric_scores.DUAL, second="bce"):
    """Return the AUC of each finding by two losses, and the paired difference.

    Returns
    -------
    pandas.DataFrame
        `finding, training_n, images_n, positives_n, patients_n`, then of both losses `<loss>, <loss>_low,
        <loss>_high`, `difference, difference_low, difference_high, p, p_holm, reason`. A finding with too few
        patients has the reason alone.
    """
    rows = []
    for finding in scores.findings:
        label = scores.label(scored_against, finding)
        present = label == 1
        row = {
            "finding": finding,
            "training_n": int(scores.counts[trained_on][finding]),
            "images_n": int(np.isin(label, (0, 1)).sum()),
            "positives_n": int(present.sum()),
            "patients_n": scores.images["patient_id"][present].nunique(),
        }
        sides = [of_loss(scores, trained_on, loss, scored_against, [finding]) for loss in (first, second)]
        for loss, side in zip((first, second), sides, strict=True):
            value = estimate_of(side)
            row |= {loss: value["estimate"], f"{loss}_low": value["low"], f"{loss}_high": value["high"]}
        gap = gap_of(*sides)
        row |= as_difference(gap)
        few = "" if None not in sides else f"fewer than {intervals.FEW_PATIENTS} patients with or without it"
        rows.append({**row, "p": gap["p"], "reason": few})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=intervals.holm(table["p"].to_numpy()))


def calibration_table(scores, trained_on, losses=("bce", *METRIC)):
    """Return how calibrated probabilities are, as trained and scaled on validation images, by the trained labels.

    Platt's scaling has two numbers a finding. Given is the mean over findings of the Kolmogorov-Smirnov calibration
    error and of the Brier score. To compare with, `prevalence` gives every test image the finding's share of the
    training labels, and `scaled` its share of the test.

    Returns
    -------
    pandas.DataFrame
        `loss, probabilities` (`as trained`, `scaled`), `measure, estimate, low, high, reason, findings_n, seeds_n`;
        no interval lies below 0, and `prevalence`, which nothing was trained for, has none.
    """
    arrays, rows = scores.arrays("losses", ["trained_on", "loss"]), []
    scaling = scores.table("scaling")
    scaling = scaling.astype({"finding": str}).set_index(["trained_on", "loss", "seed", "finding"])
    findings = [f for f in scores.findings if scores.enough(trained_on, f)]
    measures = {"calibration error": calibration.calibration_error, "Brier score": calibration.brier}
    given = {}
    for loss in losses:
        for finding in findings:
            for seed, score in sorted(arrays[trained_on, loss, finding].items()):
                a, b = scaling.loc[(trained_on, loss, seed, finding), ["intercept", "slope"]]
                given.setdefault((loss, "as trained", finding), []).append(expit(score))
                given.setdefault((loss, "scaled", finding), []).append(expit(a + b * score))
    for finding in findings:
        label = scores.label(trained_on, finding)
        shares = scores.training_shares[trained_on][finding], np.nanmean(label == 1)
        for how, share in zip(("as trained", "scaled"), shares, strict=True):
            given["prevalence", how, finding] = [np.full(len(label), share)]
    for loss, how in dict.fromkeys(key[:2] for key in given):
        for measure, of in measures.items():
            cells = [_calibration(scores, trained_on, f, given[loss, how, f], of) for f in findings]
            each, drawn = (np.mean(part, axis=0) for part in zip(*cells, strict=True))
            value = estimate_of(Measured(each, drawn, tuple(findings)))
            value["low"] = max(value["low"], 0.0) if len(each) > 1 else np.nan
            del value["seed_low"], value["seed_high"]
            rows.append({"loss": loss, "probabilities": how, "measure": measure, **value})
    return pd.DataFrame(rows)


def _calibration(scores, label_set, finding, probabilities, measure):
    """Return a measure of probabilities by seed, (seeds_n,), and its mean over seeds in each resample, (b,)."""
    label = scores.label(label_set, finding)
    keep = np.isin(label, (0, 1))
    part = scores.resamples.of(keep)
    each = np.array([measure(label[keep], p[keep]) for p in probabilities])
    return each, np.mean([measure(label[keep], p[keep], part) for p in probabilities], axis=0)


def gain_figure(gains, scored_against, compared_with):
    """Return a figure of what each loss gains, a panel for each set of training labels.

    Parameters
    ----------
    gains : pandas.DataFrame
        Of `loss_tables`.
    scored_against : str
    compared_with : str
    """
    part = gains[(gains["scored_against"] == scored_against) & (gains["measure"] == AUC)]
    trained = list(part["trained_on"].unique())
    fig, axes = figures.figure(1, len(trained), width=9.5, height=5.2, sharey=True, sharex=True, squeeze=False)
    colours = {ALL: "#222222", RARE: "#D55E00", FREQUENT: "#0072B2"}
    for axis, name in zip(axes.flat, trained, strict=True):
        losses = list(part["loss"].unique())
        for k, (group, colour) in enumerate(colours.items()):
            rows = part[(part["trained_on"] == name) & (part["findings"] == group)].set_index("loss").loc[losses]
            y = np.arange(len(losses))[::-1] - 0.22 * (k - 1)
            reach = [rows["estimate"] - rows["low"], rows["high"] - rows["estimate"]]
            axis.errorbar(rows["estimate"], y, xerr=reach, fmt="o", color=colour, label=group, ms=4, capsize=2)
        axis.axvline(0, color="#888888", linewidth=1)
        axis.set_yticks(np.arange(len(losses))[::-1], [loss.replace("_", " ") for loss in losses])
        axis.locator_params(axis="x", nbins=5)
        axis.set_title(f"trained on {name}")
        axis.set_xlabel(f"mean AUC less that of {compared_with},\nscored by {scored_against}")
    fig.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return fig


def loss_sentences(gains, compared_with, trained_on, scored_against):
    """Return for one cell what each loss gains in mean AUC over all findings, a list of sentences."""
    cell = gains["trained_on"].eq(trained_on) & gains["scored_against"].eq(scored_against)
    rows = gains[cell & gains["findings"].eq(ALL) & gains["measure"].eq(AUC)]
    return [
        f"{row.loss} less {compared_with}: {intervals.text(*row[_VALUE])}, {displays.verdict(row)}."
        for _, row in rows.iterrows()
    ]


def headline(table, gains, scored_against):
    """Return the table of the front pages: mean AUC by loss, one column for each set of training labels.

    Parameters
    ----------
    table, gains : pandas.DataFrame
        Of `loss_tables`.
    scored_against : str
    """
    pick = table["findings"].eq(ALL) & table["measure"].eq(AUC) & table["scored_against"].eq(scored_against)
    shown = displays.wide(table[pick], "loss", "trained_on").loc[list(dict.fromkeys(table["loss"]))]
    pick = gains["findings"].eq(ALL) & gains["measure"].eq(AUC) & gains["scored_against"].eq(scored_against)
    for name, part in gains[pick].groupby("trained_on", sort=False):
        texts = pd.Series(displays.texts(part), index=part["loss"])
        shown[f"difference, {name}"] = texts.reindex(shown.index).fillna("")
    trained = [name for name in dict.fromkeys(table["trained_on"])]
    order = [column for name in trained for column in (name, f"difference, {name}")]
    return shown[order].rename(columns={name: f"trained on {name}" for name in trained}).reset_index()
