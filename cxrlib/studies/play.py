"""What the knobs of `notebooks/01_play.ipynb` turn: tables and figures of chosen networks, labels and images.

Every function takes what a person chose and returns a table or a figure, so that the notebook only binds them to
widgets. All of it comes from an edition's case tables, which a clone has for the quick edition.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxrlib.base import editions, figures, runs
from cxrlib.statistics import accuracy, intervals, resampling
from cxrlib.studies import case_tables, crossing, displays, triage

PLAY_RESAMPLES_N = 300  # of patients, drawn anew for each table: few, so that a slider answers at once
_SEED = 1  # of the resamples
_OPINIONS = {1: "present", 0: "absent", -1: "uncertain"}
CELLS = ("both present", "only the first", "only the second", "both absent")  # of the table of two label sets


@dataclass(frozen=True)
class Choices:
    """An edition's case tables and what can be chosen in them.

    Attributes
    ----------
    edition : str
    settings : dict
        As `editions.compose` returns it.
    cases : dict
        `(test, split)` to a case table; tests are named as `displays.places` names them.
    arms : tuple of crossing.Arm
        Those whose runs are in the case tables.
    """

    edition: str
    settings: dict
    cases: dict
    arms: tuple

    @property
    def tests(self):
        """Return the names of the test sets, the internal one first."""
        return list(dict.fromkeys(test for test, _ in self.cases))

    @property
    def findings(self):
        """Return the findings that some network predicts."""
        return list(dict.fromkeys(arm.finding for arm in self.arms))

    def cohort(self, test):
        """Return the cohort of a test set."""
        places = displays.places(self.settings["test_cohorts"], self.settings["train_cohort"])
        return next(cohort for cohort, place in places.items() if place == test)

    def networks(self, finding):
        """Return the networks that predict a finding, a dict of what to call each to its `crossing.Arm`."""
        return {f"{arm.target}, {arm.architecture}": arm for arm in self.arms if arm.finding == finding}

    def architectures(self, finding):
        """Return the architectures of the networks that predict a finding."""
        return list(dict.fromkeys(arm.architecture for arm in self.arms if arm.finding == finding))

    def targets(self, finding):
        """Return what the networks that predict a finding trained on."""
        return list(dict.fromkeys(arm.target for arm in self.arms if arm.finding == finding))

    def sizes(self):
        """Return how many images, patients and runs the case tables have, a row a test set and split."""
        rows = {
            key: {
                "images_n": len(table),
                "patients_n": table["patient_id"].nunique(),
                "runs_n": len({run for run, _ in case_tables.runs_in(table)}),
            }
            for key, table in self.cases.items()
        }
        return pd.DataFrame(rows).T.rename_axis(index=["images", "split"])

    def split(self, arm):
        """Return the split of the arm's target."""
        return self.settings["targets"][arm.target].get("split", "main")

    def images(self, arm, test, part="test"):
        """Return the case table of an arm's validation or test images, a row an image."""
        split = self.split(arm) if test == displays.INTERNAL else "main"
        table = self.cases[test, split]
        return table[table["split"] == part].reset_index(drop=True)

    def scorers(self, finding, test):
        """Return the label sets that assess a finding in a test set, in the order of the case tables."""
        tables = [table for (place, _), table in self.cases.items() if place == test]
        names = [c.split(".")[1] for table in tables for c in table if c.startswith("label.") and _of(c, finding)]
        return list(dict.fromkeys(names))


def _of(column, finding):
    return column.rsplit(".", 1)[1] == finding


def read_choices(edition):
    """Return an edition's case tables and what can be chosen in them.

    Parameters
    ----------
    edition : str

    Raises
    ------
    ValueError, FileNotFoundError
        If there is no such edition, or its case tables are not here; the message says what makes them.
    """
    settings = editions.compose(edition)
    train, tests = settings["train_cohort"], settings["test_cohorts"]
    arms = crossing.arms(settings, editions.evaluated_groups(settings))
    splits = dict.fromkeys(settings["targets"][arm.target].get("split", "main") for arm in arms)
    cases = {(displays.INTERNAL, split): case_tables.read(edition, train, split) for split in splits}
    for cohort, place in displays.places(tests, train).items():
        if cohort != train:
            cases[place, "main"] = case_tables.read(edition, cohort)
    known = {column for table in cases.values() for column in table}
    here = [arm for arm in arms if all(case_tables.probability(key, arm.finding) in known for key in arm.runs())]
    return Choices(edition, settings, cases, tuple(here))


def _labels(table, label_set, finding):
    """Return a label set's opinions of a finding, (n,) float; NaN where it has none."""
    column = case_tables.label(label_set, finding)
    return table[column].to_numpy(float) if column in table else np.full(len(table), np.nan)


def _decided(choices, arm, test, label_set, part="test"):
    """Return the images that a label set calls present or absent, with those labels.

    Raises
    ------
    ValueError
        If it does not assess the finding there on both classes.
    """
    table = choices.images(arm, test, part)
    label = _labels(table, label_set, arm.finding)
    if not {0, 1} <= set(label[np.isfinite(label)]):
        have = [name for name in choices.scorers(arm.finding, test) if name != label_set] or ["none"]
        raise ValueError(
            f"{label_set} does not say of {arm.finding} in the {test} {part} images which have it and which do not; "
            f"choose one of {', '.join(have)}."
        )
    keep = np.isin(label, (0, 1))
    return table[keep].reset_index(drop=True), label[keep]


def _run(arm, seed):
    if seed not in arm.seeds:
        raise ValueError(f"{arm.target} was trained with the seeds {', '.join(map(str, arm.seeds))}, not {seed}.")
    return case_tables.probability(runs.key(arm.target, arm.architecture, seed), arm.finding)


def threshold(choices, arm, seed, specificity):
    """Return the threshold that has a specificity on validation images, by the labels that the network trained on.

    Where the case tables lack these labels, those of the edition's reference are taken.

    Parameters
    ----------
    choices : Choices
    arm : crossing.Arm
    seed : int
    specificity : float in [0, 1]
    """
    own = case_tables.label(arm.label_set, arm.finding)
    valid = choices.images(arm, displays.INTERNAL, "valid")
    labels = arm.label_set if own in valid else choices.settings["reference"]
    table, label = _decided(choices, arm, displays.INTERNAL, labels, "valid")
    return accuracy.threshold_at_specificity(label, table[_run(arm, seed)], specificity)


def chosen_point(choices, arm, seed, test, label_set, specificity, prevalence):
    """Return what one network does at an operating point, a row a measure.

    Parameters
    ----------
    choices : Choices
    arm : crossing.Arm
    seed : int
    test : str
        A test set.
    label_set : str
        Whose labels score.
    specificity : float in [0, 1]
        On validation images, by the labels that the network trained on.
    prevalence : float in (0, 1)
        Of the finding, for the predictive values and what follows from it.

    Returns
    -------
    pandas.DataFrame
        `measure, estimate, low, high, reason`; intervals are over patients, of this one network.

    Raises
    ------
    ValueError
        If there is no such seed, or the label set does not assess the finding there.
    """
    table, label = _decided(choices, arm, test, label_set)
    score = table[_run(arm, seed)].to_numpy(float)
    called = (score >= threshold(choices, arm, seed, specificity)).astype(float)
    resamples = _resamples(table)
    rows = []
    value, each = accuracy.rates(label, called), accuracy.rates(label, called, resamples)
    area = accuracy.auc(label, score), accuracy.auc(label, score, resamples)
    measures = {"auc": area}
    measures |= {name: (value[name], each[name]) for name in ("sensitivity", "specificity", "ppv", "npv")}
    for name, function in _AT_PREVALENCE.items():
        measures[f"{name} at prevalence {prevalence:.2f}"] = tuple(
            function(r["sensitivity"], r["specificity"], prevalence) for r in (value, each)
        )
    few = intervals.too_few_of_either(label, resamples)
    for measure, (estimate, replicates) in measures.items():
        rows.append({"measure": measure, **intervals.interval(estimate, replicates, few)._asdict()})
    return pd.DataFrame(rows)


def _called(sensitivity, specificity, prevalence):
    """Return the share of images that are called."""
    return 1 - _not_called(sensitivity, specificity, prevalence)


def _not_called(sensitivity, specificity, prevalence):
    """Return the share of images that are not called: the work saved, if nobody reads them."""
    return triage.work_saved(sensitivity, specificity, prevalence)


_AT_PREVALENCE = {
    "ppv": accuracy.ppv_at_prevalence,
    "npv": accuracy.npv_at_prevalence,
    "share called": _called,
    "share not called": _not_called,
}


def _resamples(table):
    return resampling.patient_resamples(table["patient_id"], PLAY_RESAMPLES_N, np.random.default_rng(_SEED))


def operating_figure(choices, arm, seed, test, label_set, specificity):
    """Return a figure of a network's scores and its ROC curve, with the threshold in both; arguments as above."""
    table, label = _decided(choices, arm, test, label_set)
    score, at = table[_run(arm, seed)].to_numpy(float), threshold(choices, arm, seed, specificity)
    fig, (left, right) = figures.figure(1, 2, width=9, height=3.4)
    bins = np.linspace(0, 1, 31)
    for value, name, colour in ((0, "absent", "#999999"), (1, "present", figures.colour(label_set))):
        weight = np.full(int((label == value).sum()), 1 / max(1, (label == value).sum()))
        left.hist(
            score[label == value], bins, weights=weight, color=colour, alpha=0.6, label=f"{name} by {label_set}"
        )
    left.axvline(np.clip(at, 0, 1), color="black", linewidth=1.2)
    left.set(xlabel="probability", ylabel="share of each group", title=f"{arm.finding}, {test} test")
    left.legend(fontsize=8)
    specificities = np.linspace(0, 1, 101)
    curves = accuracy.roc_on_grid(label, score, _resamples(table), specificities)
    curve = accuracy.roc_on_grid(label, score, resampling.whole(len(label)), specificities)[0]
    low, high = np.nanquantile(curves, (0.025, 0.975), axis=0)
    figures.roc(right, specificities, curve, low, high, label_set, f"scored by {label_set}")
    rates = accuracy.rates(label, (score >= at).astype(float))
    right.plot(1 - rates["specificity"], rates["sensitivity"], "o", color="black", markersize=6)
    figures.frame_roc(right, f"{arm.target}, seed {seed}")
    return fig


def crossed_table(choices, finding, architecture, targets, test, label_sets):
    """Return AUCs of networks by what they trained on, and by whose labels score them.

    Parameters
    ----------
    choices : Choices
    finding, architecture : str
    targets : iterable of str
        What was trained on; those that lack the finding or the architecture give no row.
    test : str
    label_sets : iterable of str
        Whose labels score; those that do not assess the finding on both classes give no row.

    Returns
    -------
    pandas.DataFrame
        `target, scored_against, images_n, patients_n, positives_n, estimate, low, high, reason, seeds_n, seed_range`:
        means over seeds, with intervals over patients and seeds.
    """
    chosen = [a for a in choices.arms if (a.finding, a.architecture) == (finding, architecture)]
    rows = []
    for arm in (arm for arm in chosen if arm.target in set(targets)):
        table = choices.images(arm, test)
        cells = crossing.Cells({test: table}, {test: _resamples(table)})
        for name in label_sets:
            value = cells.auc(arm, test, name)
            if value is not None:
                rows.append({"target": arm.target, "scored_against": name, **value})
    return pd.DataFrame(rows)


def crossed_figure(table, finding, test):
    """Return a forest plot of `crossed_table`, a panel for each label set that scores."""
    panels = list(table.groupby("scored_against", sort=False))
    lines = max(len(part) for _, part in panels)
    fig, axes = figures.figure(
        1,
        len(panels),
        width=4 + 2.2 * len(panels),
        height=1.3 + 0.32 * lines,
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, (name, part) in zip(axes.flat, panels, strict=True):
        entries = [
            {"name": r.target, "estimate": r.estimate, "low": r.low, "high": r.high, "colour": figures.colour(name)}
            for r in part.itertuples()
        ]
        figures.forest(axis, entries, reference=0.5)
        axis.set(title=f"scored by {name}", xlabel=f"AUC, {finding}, {test} test")
    return fig


def paired_opinions(choices, finding, test, first, second):
    """Return the validation and test images that two label sets call present or absent, with both opinions.

    Parameters
    ----------
    choices : Choices
    finding, test : str
    first, second : str
        Label sets.

    Returns
    -------
    pandas.DataFrame
        `image_id, patient_id, first, second, cell`, cell being one of "both present", "only the first", "only the
        second" and "both absent".

    Raises
    ------
    ValueError
        If no case table has both label sets of the finding.
    """
    columns = [case_tables.label(name, finding) for name in (first, second)]
    tables = [t for (place, _), t in choices.cases.items() if place == test and all(c in t for c in columns)]
    if not tables:
        have = ", ".join(choices.scorers(finding, test)) or "none"
        raise ValueError(f"{first} and {second} do not both assess {finding} in the {test} images; there are {have}.")
    table = tables[0][["image_id", "patient_id"]].copy()
    table["first"], table["second"] = (tables[0][column].to_numpy(float) for column in columns)
    table = table[table[["first", "second"]].isin((0, 1)).all(axis=1)].reset_index(drop=True)
    table["cell"] = np.array(CELLS)[(2 * (1 - table["first"]) + (1 - table["second"])).astype(int)]
    return table


def parted(choices, finding, test, first, second, cell):
    """Return the ids of the images in one cell of the table of two label sets, or none if they cannot be compared."""
    try:
        table = paired_opinions(choices, finding, test, first, second)
    except ValueError:  # `paired_opinions` has said so beside the table
        return []
    return list(table["image_id"][table["cell"] == cell])


def opinions_table(table, first, second):
    """Return how two label sets agree: counts, and the first's rates with the second as reference.

    Returns
    -------
    pandas.DataFrame
        `measure, estimate, low, high`; counts have no interval.
    """
    rows = [{"measure": cell, "images_n": int((table["cell"] == cell).sum())} for cell in CELLS]
    resamples = _resamples(table)
    few = intervals.too_few_of_either(table["second"], resamples)
    called = table["first"].to_numpy()
    value, each = accuracy.rates(table["second"], called), accuracy.rates(table["second"], called, resamples)
    words = {
        "sensitivity": f"{first} finds of what {second} calls present",
        "ppv": f"{second} calls present of what {first} does",
        "kappa": "kappa",
    }
    for name, measure in words.items():
        rows.append({"measure": measure, **intervals.interval(value[name], each[name], few)._asdict()})
    return pd.DataFrame(rows)[["measure", "images_n", "estimate", "low", "high"]]


def _rows(choices, test, image_id):
    """Return an image's row in every case table that has it.

    Raises
    ------
    KeyError
        If none has it.
    """
    found = [
        t[t["image_id"] == image_id].iloc[0]
        for (p, _), t in choices.cases.items()
        if p == test and (t["image_id"] == image_id).any()
    ]
    if not found:
        raise KeyError(f"{image_id} is no validation or test image of the {test} cohort of {choices.edition}.")
    return found


def labels_table(choices, test, image_id):
    """Return every label set's opinion of one image in words, findings down and label sets across.

    Raises
    ------
    KeyError
        If it is no validation or test image.
    """
    opinion = {}
    for row in _rows(choices, test, image_id):
        for column in (c for c in row.index if c.startswith("label.")):
            label_set, finding = column.removeprefix("label.").rsplit(".", 1)
            if pd.notna(row[column]):
                opinion[finding, label_set] = _OPINIONS[int(row[column])]
    table = pd.Series(opinion).unstack()
    order = dict.fromkeys(label_set for _, label_set in opinion)
    return table.reindex(columns=list(order)).fillna("not assessed").rename_axis(index="finding", columns=None)


def probabilities_table(choices, test, image_id, finding):
    """Return the probability that every run gives one image.

    Returns
    -------
    pandas.DataFrame
        `target, architecture, trained_on, seed, probability`; empty if no run predicts the finding of this image.

    Raises
    ------
    KeyError
        If it is no validation or test image.
    """
    found = _rows(choices, test, image_id)
    rows = []
    for arm in (arm for arm in choices.arms if arm.finding == finding):
        for seed, key in zip(arm.seeds, arm.runs(), strict=True):
            column = case_tables.probability(key, finding)
            value = next((row[column] for row in found if column in row and pd.notna(row[column])), None)
            if value is not None:
                entry = {"target": arm.target, "architecture": arm.architecture, "trained_on": arm.label_set}
                rows.append({**entry, "seed": seed, "probability": float(value)})
    return pd.DataFrame(rows, columns=["target", "architecture", "trained_on", "seed", "probability"])


def image_figure(pixels, probabilities, title, map_=None):
    """Return a figure of one image, its map if there is one, and what every run gives it.

    Parameters
    ----------
    pixels : (size_px, size_px) uint8
    probabilities : pandas.DataFrame
        As `probabilities_table` returns it.
    title : str
    map_ : (size_px, size_px) float in [0, 1], optional
    """
    names = probabilities["target"] + ", " + probabilities["architecture"]
    lines = list(dict.fromkeys(names))
    pictures_n = 1 if map_ is None else 2
    shape = {"width": 5.5 + 2.6 * pictures_n, "height": max(3.0, 1.2 + 0.27 * len(lines))}
    fig, axes = figures.figure(1, pictures_n + 1, **shape, width_ratios=[1] * pictures_n + [1.4])
    for axis in axes[:-1]:
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[0].set_title(title)
    if map_ is not None:
        axes[1].imshow(map_, cmap="inferno", vmin=0, vmax=1, alpha=0.6 * map_)
        axes[1].set_title("saliency map")
    last = axes[-1]
    for y, name in enumerate(reversed(lines)):
        part = probabilities[names == name]
        last.plot(
            part["probability"], [y] * len(part), "o", color=figures.colour(part["trained_on"].iloc[0]), alpha=0.6
        )
    last.set_yticks(range(len(lines)), list(reversed(lines)))
    last.set(xlim=(-0.02, 1.02), xlabel="probability, a dot a seed")
    return fig


def caption_of(choices, table, rest="95 % intervals over patients"):
    """Return what a figure is from: real or simulated, of how many images and patients, and what intervals cover."""
    sizes = f"{len(table)} images of {table['patient_id'].nunique()} patients"
    return f"{choices.settings['images']}; {sizes}; {rest}"


def without_empty(table):
    """Return a table without the columns that hold nothing but empty texts, such as reasons where none is needed."""
    return table.loc[:, [column for column in table if not (table[column].astype(str) == "").all()]]


def in_words(function):
    """Return a function that prints in one sentence what its choices do not allow, where `function` raises it."""

    @functools.wraps(function)
    def said(*arguments, **choices):
        try:
            function(*arguments, **choices)
        except (ValueError, KeyError, FileNotFoundError) as error:
            print(error.args[0] if isinstance(error, KeyError) else error)

    return said
