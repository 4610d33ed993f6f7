"""Labels crossed on one set of real images, compared only with images of the same source, beside negative controls.

Every predictor, the network and each control that has not seen the anatomy, goes through the same nested
cross-validation by patient. It learns report labels or radiologists' labels of the same images and is scored by both:

    learned = learn(study, seeds, most=10)
    found = areas(study, learned, resamples)
    table(found), crossing(found), over_controls(found)

`pairs` says which images are compared. `all pairs` compares any two that were tested by the same head, `same source`
only those that also share holder, view and class of width, `same source, exact width` those that share the width.
`training` says whether training was weighted so that the label is
independent of holder, view and width (`stratified.balancing_weights`).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.preprocessing import PolynomialFeatures

from cxrlib.networks import nested_heads
from cxrlib.statistics import accuracy, intervals, resampling, stratified
from cxrlib.studies import displays

SIDES = ("reports", "radiologists")
TRAININGS = ("unweighted", "weighted")
PAIRS = {"all pairs": None, "same source": "stratum", "same source, exact width": "finer"}  # -> column of strata
SHUFFLES_N = 2  # of the labels, a seed
NETWORK, SHUFFLED_LABELS, ALL_CONTROLS = "network", "network, shuffled labels", "all controls together"
CELL = ("finding", "predictor", "training", "trained_on", "scored_by", "pairs")


@dataclass(frozen=True)
class Study:
    """The images, what two sides say of them, and what each predictor knows.

    Attributes
    ----------
    images : pandas.DataFrame
        A row an image: `patient_id`, and `stratum` and `finer`, in which two images may be compared.
    labels : Mapping of (finding, side) to (n,) float
        1 or 0; sides are `SIDES`.
    predictors : Mapping of str to (n, k) float
        `NETWORK` and the controls.
    """

    images: pd.DataFrame
    labels: dict
    predictors: dict

    @property
    def findings(self):
        """The findings that are labelled, in order."""
        return list(dict.fromkeys(finding for finding, _ in self.labels))


def width_class(width_px):
    """Return original widths as text, in three classes: `2,500 px`, `below`, `above`.

    Parameters
    ----------
    width_px : (n,) array
    """
    width = np.asarray(width_px, float)
    return np.select([width == 2500, width < 2500], ["2,500 px", "below"], "above")


def squared(table):
    """Return columns with their squares and products, (n, k) float64; a missing value is the median, and a column.

    A linear head on these can use what a control knows about as well as a network could, not only its trend.

    Parameters
    ----------
    table : pandas.DataFrame of numbers
    """
    missing = table.isna()
    filled = table.fillna(table.median()).assign(**{f"no {c}": missing[c] for c in table if missing[c].any()})
    values = filled.to_numpy(float)
    spread = values.std(0)
    standard = (values - values.mean(0)) / np.where(spread > 0, spread, 1)
    return PolynomialFeatures(2, include_bias=False).fit_transform(standard)


def with_all(controls):
    """Return controls as `squared`, and `ALL_CONTROLS` of them together (columns side by side, then squared).

    Parameters
    ----------
    controls : Mapping of str to pandas.DataFrame
    """
    together = pd.concat([table.add_prefix(f"{name} ") for name, table in controls.items()], axis=1)
    return {**{name: squared(table) for name, table in controls.items()}, ALL_CONTROLS: squared(together)}


def _weigher(label, stratum, training, most):
    """Return the function that gives rows of a training part their weights."""
    if training == "unweighted":
        return lambda rows: np.ones(len(rows))
    return lambda rows: stratified.balancing_weights(label[rows], stratum[rows], most)


def learn(study, seeds, most):
    """Return each predictor's scores out of fold, of each seed's partition of the patients.

    Parameters
    ----------
    study : Study
    seeds : sequence of int
    most : float
        Larger training weights are cut to it.

    Returns
    -------
    scores : dict of (finding, predictor, training, trained_on) to (seeds, n) float64
        Of `SHUFFLED_LABELS` `SHUFFLES_N` rows a seed, one below the other.
    folds : (seeds, n) int
        In which fold an image was tested; scores are comparable within a fold only.
    heads : dict of the same keys to (seeds, folds, features) float64
        Of the network and of shuffled labels.
    """
    stratum, patient = study.images["stratum"].to_numpy(str), study.images["patient_id"].to_numpy()
    scores, heads, folds = {}, {}, []
    for seed in seeds:
        for name, features in study.predictors.items():
            partition = nested_heads.partitioned(features, patient, seed)
            rng = np.random.default_rng((seed, 1))
            for finding, side in study.labels:
                label = study.labels[finding, side]
                kinds = [(name, label)]
                if name == NETWORK:
                    kinds += [(SHUFFLED_LABELS, rng.permutation(label)) for _ in range(SHUFFLES_N)]
                for predictor, learned in kinds:
                    for training in TRAININGS:
                        key = finding, predictor, training, side
                        weigh = _weigher(learned, stratum, training, most)
                        score, head = nested_heads.out_of_fold(partition, learned, weigh)
                        scores.setdefault(key, []).append(score)
                        if name == NETWORK:
                            heads.setdefault(key, []).append(head)
        folds.append(partition.tested_in)
    stacked = [{key: np.stack(values) for key, values in part.items()} for part in (scores, heads)]
    return stacked[0], np.stack(folds), stacked[1]


@dataclass(frozen=True)
class Cell:
    """An AUC: of each seed, (seeds,); in each resample, (seeds, b); and why it gets no interval, or an empty text."""

    each: np.ndarray
    replicates: np.ndarray
    few: str

    def less(self, other):
        """Return the paired difference from another cell."""
        return Cell(self.each - other.each, self.replicates - other.replicates, self.few or other.few)

    def row(self):
        """Return the mean over seeds as a row of a table, with an interval over patients and seeds."""
        return intervals.over_seeds(self.each, self.replicates.mean(axis=0), self.few)


def areas(study, scores, folds, resamples):
    """Return every AUC: what was learned from either side's labels, scored by either side's labels.

    Only images that the same head tested are compared (`stratified.auc_within`), since heads of other folds have
    another intercept, which by itself pulls an AUC over all images below 0.5 where nothing is known.

    Parameters
    ----------
    study : Study
    scores, folds
        As `learn` returns them.
    resamples : Resamples
        Of the study's images.

    Returns
    -------
    dict of `CELL` to Cell
    """
    whole, found = resampling.whole(len(study.images)), {}
    for key, of_seeds in scores.items():
        for side in SIDES:
            label = study.labels[key[0], side]
            for pairs in PAIRS:
                stratum = _stratum(study, pairs)
                tested = np.repeat(folds, len(of_seeds) // len(folds), axis=0).astype(str)
                compared = np.char.add(np.char.add(tested, " "), stratum)
                both = [
                    [stratified.auc_within(label, score, strata, r) for r in (whole, resamples)]
                    for score, strata in zip(of_seeds, compared, strict=True)
                ]
                each, replicates = (np.stack(part) for part in zip(*both, strict=True))
                found[(*key, side, pairs)] = Cell(each[:, 0], replicates, _few(label, stratum, resamples))
    return found


def _stratum(study, pairs):
    """Return within what images are compared, (n,) str."""
    column = PAIRS[pairs]
    return np.full(len(study.images), "") if column is None else study.images[column].to_numpy(str)


def _few(label, stratum, resamples):
    inside = stratified.pairs_of(label, stratum) > 0
    return intervals.too_few_of_either(label[inside], resamples.of(inside))


def table(found):
    """Return every AUC as a row: `CELL` and as `intervals.over_seeds`, intervals cut to [0, 1].

    Of shuffled labels also `p_null_holm`: whether the AUC is 0.5, corrected within one finding, training and `pairs`.

    Parameters
    ----------
    found : dict
        As `areas` returns it.
    """
    rows = []
    for key, cell in found.items():
        row = cell.row()
        row |= {end: np.clip(row[end], 0, 1) for end in ("low", "high")}  # Student's interval knows no ends
        null = cell.less(Cell(0.5, 0.5, "")).row()["p"] if SHUFFLED_LABELS in key else np.nan
        rows.append({**dict(zip(CELL, key, strict=True)), **row, "p": null})
    corrected = _corrected(pd.DataFrame(rows), ["finding", "training", "pairs"])
    return corrected.drop(columns=["p", "smallest"]).rename(columns={"p_holm": "p_null_holm"})


def crossing(found):
    """Return what each predictor gains by learning the label that scores it instead of the other side's.

    Returns
    -------
    pandas.DataFrame
        `finding, predictor, training, pairs, scored_by`, as `intervals.over_seeds`, and `p_holm` within one finding,
        training and `pairs` over all predictors and both sides. `scored_by` `both` is the mean of the two gains,
        which is above 0 if heads follow the labels that taught them.
    """
    rows = []
    for key in dict.fromkeys((f, p, t, pairs) for f, p, t, _, _, pairs in found):
        finding, predictor, training, pairs = key
        gains = {}
        for side, other in zip(SIDES, SIDES[::-1], strict=True):
            own, crossed = (found[finding, predictor, training, s, side, pairs] for s in (side, other))
            gains[side] = own.less(crossed)
        one, two = gains.values()
        gains["both"] = Cell((one.each + two.each) / 2, (one.replicates + two.replicates) / 2, one.few or two.few)
        where = {"finding": finding, "predictor": predictor, "training": training, "pairs": pairs}
        rows += [{**where, "scored_by": side, **cell.row()} for side, cell in gains.items()]
    found = pd.DataFrame(rows).sort_values("finding", kind="stable", ignore_index=True)
    return _corrected(found, ["finding", "training", "pairs"])


def over_controls(found):
    """Return by how much the network exceeds each control, both trained and scored by the same side's labels.

    Returns
    -------
    pandas.DataFrame
        `finding, training, pairs, side, predictor` (the control), as `intervals.over_seeds`, and `p_holm` within one
        finding, training and `pairs`.
    """
    rows = []
    for (finding, predictor, training, trained, scored, pairs), cell in found.items():
        if trained == scored and predictor not in (NETWORK, SHUFFLED_LABELS):
            own = found[finding, NETWORK, training, trained, scored, pairs]
            where = {"finding": finding, "training": training, "pairs": pairs, "side": scored, "predictor": predictor}
            rows.append({**where, **own.less(cell).row()})
    found = pd.DataFrame(rows).sort_values("finding", kind="stable", ignore_index=True)
    return _corrected(found, ["finding", "training", "pairs"])


def _corrected(rows, family):
    return rows.assign(p_holm=rows.groupby(family, sort=False)["p"].transform(lambda p: intervals.holm(p.to_numpy())))


def reports_as_readers(study, resamples):
    """Return the report label scored by radiologists: what a pupil of reports without an image of its own knows.

    Returns
    -------
    pandas.DataFrame
        `finding, measure, estimate, low, high, reason`: sensitivity, specificity, kappa, and the AUC of the report's
        yes or no over `PAIRS`.
    """
    rows = []
    for finding in study.findings:
        reports, truth = (study.labels[finding, side] for side in SIDES)
        once, drawn = accuracy.rates(truth, reports), accuracy.rates(truth, reports, resamples)
        values = {name: (once[name], drawn[name]) for name in ("sensitivity", "specificity", "kappa")}
        for pairs in PAIRS:
            strata = _stratum(study, pairs)
            values[f"AUC, {pairs}"] = tuple(
                stratified.auc_within(truth, reports, strata, r) for r in (None, resamples)
            )
        for name, (value, replicates) in values.items():
            few = _few(
                truth, _stratum(study, name.removeprefix("AUC, ") if "AUC" in name else "all pairs"), resamples
            )
            found = intervals.interval(value, replicates, few)
            rows.append({"finding": finding, "measure": name, **found._asdict()})
    return pd.DataFrame(rows)


def weighing(study, most):
    """Return what weighting and comparing within strata leave of the images, a row a finding and side.

    Returns
    -------
    pandas.DataFrame
        `positives_n, negatives_n`; `weighted_n` images with a weight; `effective_positives, effective_negatives`
        (Kish); `cut_n` images whose weight was cut; `imbalance` of holder, view and width between the classes before
        and after weighting; `pairs_n` of the same source, `pairs_frac` of all pairs, and `largest_frac`, the part of
        the former that lies in one stratum.
    """
    stratum, rows = study.images["stratum"].to_numpy(str), []
    for (finding, side), label in study.labels.items():
        weights, uncut = (stratified.balancing_weights(label, stratum, m) for m in (most, np.inf))
        positive, pairs = label == 1, stratified.pairs_of(label, stratum)
        by_stratum = pd.Series(pairs[positive]).groupby(stratum[positive]).sum()
        rows.append(
            {
                "finding": finding,
                "side": side,
                "positives_n": int(positive.sum()),
                "negatives_n": int((~positive).sum()),
                "weighted_n": int((weights > 0).sum()),
                "effective_positives": stratified.effective_n(weights[positive]),
                "effective_negatives": stratified.effective_n(weights[~positive]),
                "cut_n": int((uncut > most).sum()),
                "imbalance_before": stratified.imbalance(label, stratum, np.ones(len(label))),
                "imbalance_after": stratified.imbalance(label, stratum, weights),
                "pairs_n": int(by_stratum.sum()),
                "pairs_frac": by_stratum.sum() / (positive.sum() * (~positive).sum()),
                "largest_frac": by_stratum.max() / by_stratum.sum(),
            }
        )
    return pd.DataFrame(rows)


def conclusion(finding, aucs, exceeding, gains):
    """Return in words what may be concluded of labels, by fixed rules.

    Only AUCs after weighted training, over pairs of the same source, are looked at.

    The network must exceed every control, by both sides' labels, after Holm's correction. Shuffled labels must leave
    an AUC that does not differ from 0.5 after the same correction. The gain by the own label, mean of both sides,
    must be above 0 and larger than any control's estimate. Where one of them fails, nothing can be concluded.

    Parameters
    ----------
    finding : str
    aucs, exceeding, gains : pandas.DataFrame
        As `table`, `over_controls` and `crossing` return them.
    """
    chosen = f"finding == '{finding}' and training == 'weighted' and pairs == 'same source'"
    failed, aucs, gains = [], aucs.query(chosen), gains.query(f"{chosen} and scored_by == 'both'")
    for side, rows in exceeding.query(chosen).groupby("side", sort=False):
        passed = (rows["estimate"] > 0) & (rows["p_holm"] < 0.05)
        if not passed.all():
            names = ", ".join(rows["predictor"][~passed])
            failed.append(f"by {side} the network does not significantly exceed {names}")
    if (aucs["p_null_holm"] < 0.05).any():
        failed.append("heads of shuffled labels do not score 0.5")
    own = gains[gains["predictor"] == NETWORK].iloc[0]
    others = gains[~gains["predictor"].isin([NETWORK, SHUFFLED_LABELS])]
    gained = intervals.text(own["estimate"], own["low"], own["high"])
    if not own["p_holm"] < 0.05:
        p = f"p = {displays.p_text(own['p_holm'])} after Holm's correction"
        failed.append(f"the network's gain from learning the label that scores it, {gained}, has {p}")
    largest = others.loc[others["estimate"].idxmax()]
    if not own["estimate"] > largest["estimate"]:
        failed.append(f"the gain of {largest['predictor']}, {largest['estimate']:.3f}, is not smaller")
    name = f"For the finding {finding.replace('_', ' ')}"
    if failed:
        return f"{name} these images can show nothing about labels: {'; and '.join(failed)}."
    return f"{name} the network exceeds every control, and gains {gained} by learning the label that scores it."


def headline(aucs, training="weighted", pairs="same source"):
    """Return AUCs of one training and one kind of pairs as text: a row a finding and predictor, a column a crossing.

    Parameters
    ----------
    aucs : pandas.DataFrame
        As `table` returns it.
    training : str
        Of `TRAININGS`.
    pairs : str
        Of `PAIRS`.
    """
    rows = aucs[(aucs["training"] == training) & (aucs["pairs"] == pairs)]
    rows = rows.assign(column="trained on " + rows["trained_on"] + ", scored by " + rows["scored_by"])
    keys = rows.drop_duplicates(["finding", "predictor"]).sort_values("finding", kind="stable")
    order = keys.set_index(["finding", "predictor"]).index
    wide = displays.wide(rows, ["finding", "predictor"], "column")
    return wide.loc[order, list(dict.fromkeys(rows["column"]))].rename_axis(columns=None)
