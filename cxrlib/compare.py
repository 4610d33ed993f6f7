"""Comparisons of training labels: arms, and the cells of a table that crosses them with tests and test labels."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cxrlib import cases, runs, stats


@dataclass(frozen=True)
class Arm:
    """One architecture trained on one target, once a seed, and one finding that it predicts."""

    target: str
    architecture: str
    label_set: str
    finding: str
    seeds: tuple

    def runs(self):
        """Return the keys of its runs, one a seed."""
        return [runs.key(self.target, self.architecture, seed) for seed in self.seeds]


def arms(settings, groups=None):
    """Return every arm of an edition, or of some groups of its runs, in the order of `params.yaml`."""
    seeds = {}
    for target, architecture, seed in runs.planned(settings, groups):
        seeds.setdefault((target, architecture), []).append(seed)
    return [
        Arm(target, architecture, settings["targets"][target]["label_set"], finding, tuple(each))
        for (target, architecture), each in seeds.items()
        for finding in settings["targets"][target]["findings"]
    ]


def pairs(all_arms, first, second):
    """Return `(a, b)` of the arms of two targets that share architecture and finding, each with the seeds of both."""
    out = []
    for a in (arm for arm in all_arms if arm.target == first):
        for b in (arm for arm in all_arms if arm.target == second):
            shared = tuple(seed for seed in a.seeds if seed in b.seeds)
            if (a.architecture, a.finding) == (b.architecture, b.finding) and shared:
                out.append((replace(a, seeds=shared), replace(b, seeds=shared)))
    return out


def _mean_rates(label, called, resamples):
    """Return `stats.rates` in each resample, averaged over the decisions of several seeds."""
    each = [stats.rates(label, c, resamples) for c in called]
    return {name: np.mean([rates[name] for rates in each], axis=0) for name in each[0]}


def seed_floor(table):
    """Return how far training seeds alone move the AUC, by network and training labels.

    Parameters
    ----------
    table : pandas.DataFrame
        With `network, trained_on, seed_range`.
    """
    return table.groupby(["network", "trained_on"])["seed_range"].agg(["median", "max"])


def _same_seeds(arms):
    """Raise a ValueError if networks of different seeds are to be averaged or paired."""
    seeds = {arm.seeds for arm in arms}
    if len(seeds) > 1:
        raise ValueError(f"Arms of different seeds, {' and '.join(map(str, sorted(seeds)))}: take them from `pairs`.")


def _over_findings(found, findings_n, left_out):
    """Return a mean over findings as a row of a table; the row is there even if no finding can be scored.

    Parameters
    ----------
    found : (each, replicates) or None
        Of each seed (seeds,), and of the seeds' mean in each resample (b,).
    findings_n : int
    left_out : str
        Findings with too few patients of either class.

    Returns
    -------
    dict
        As `stats.over_seeds`, and `seed_sd, seeds_n, findings_n, left_out`.
    """
    none = f"no finding has {stats.FEW_PATIENTS} patients with it and {stats.FEW_PATIENTS} without"
    each, replicates = ([], []) if found is None else found
    return {
        **stats.over_seeds(each, replicates, none if found is None else ""),
        "seed_sd": float(np.std(each, ddof=1)) if len(each) > 1 else np.nan,
        "seeds_n": len(each),
        "findings_n": findings_n,
        "left_out": left_out,
    }


class Cells:
    """Estimates for one arm, one test cohort and one set of test labels, on resamples made once.

    An arm's estimate is the mean over its seeds, in the whole sample and in every resample, so that intervals
    are of that mean.

    Parameters
    ----------
    tests : Mapping of str to pandas.DataFrame
        Case tables of test images, by cohort.
    resamples : Mapping of str to stats.Resamples
        Of the same rows.
    """

    def __init__(self, tests, resamples):
        self.tests, self.resamples, self._replicates = tests, resamples, {}

    def has(self, arm, cohort, test_labels):
        """Return whether the test labels assess the arm's finding in this cohort on both classes."""
        column = cases.label(test_labels, arm.finding)
        table = self.tests[cohort]
        return column in table and {0, 1} <= set(table[column].dropna().unique())

    def _select(self, arm, cohort, test_labels, chosen=None):
        """Return labels, scores (seeds, n) and resamples of the images that can be scored."""
        table = self.tests[cohort]
        label = table[cases.label(test_labels, arm.finding)].to_numpy(float)
        keep = np.isin(label, (0, 1))
        if chosen is not None:
            keep &= chosen
        scores = [table[cases.probability(key, arm.finding)].to_numpy(float)[keep] for key in arm.runs()]
        return label[keep], np.stack(scores), self.resamples[cohort].of(keep), keep

    def _auc(self, arm, cohort, test_labels):
        """Return per-seed AUCs (seeds,) and the replicates of their mean (b,); computed once."""
        key = (arm, cohort, test_labels)
        if key not in self._replicates:
            label, scores, resamples, _ = self._select(arm, cohort, test_labels)
            replicates = np.mean([stats.auc(label, s, resamples) for s in scores], axis=0)
            self._replicates[key] = [stats.auc(label, s) for s in scores], replicates
        return self._replicates[key]

    def _too_few(self, arm, cohort, test_labels):
        """Return why this cell gets no interval, or an empty text: too few patients with or without the finding."""
        label, _, resamples, _ = self._select(arm, cohort, test_labels)
        return stats.too_few_of_either(label, resamples)

    def _sizes(self, arm, cohort, test_labels):
        label, _, _, keep = self._select(arm, cohort, test_labels)
        patients = self.tests[cohort]["patient_id"][keep]
        return {"images_n": len(label), "patients_n": patients.nunique(), "positives_n": int(label.sum())}

    def auc(self, arm, cohort, test_labels):
        """Return the AUC with its interval as a dict, or None where the labels do not assess the finding."""
        if not self.has(arm, cohort, test_labels):
            return None
        areas, replicates = self._auc(arm, cohort, test_labels)
        value = stats.interval(np.mean(areas), replicates, self._too_few(arm, cohort, test_labels))
        return {
            **self._sizes(arm, cohort, test_labels),
            **value._asdict(),
            "seeds_n": len(areas),
            "seed_range": max(areas) - min(areas) if len(areas) > 1 else np.nan,
        }

    def difference(self, a, b, cohort, test_labels):
        """Return the paired AUC difference a - b as a dict, with DeLong's tests of the first seed beside it."""
        if not (self.has(a, cohort, test_labels) and self.has(b, cohort, test_labels)):
            return None
        areas_a, replicates_a = self._auc(a, cohort, test_labels)
        areas_b, replicates_b = self._auc(b, cohort, test_labels)
        few = self._too_few(a, cohort, test_labels)
        row = stats.compared(np.mean(areas_a) - np.mean(areas_b), replicates_a - replicates_b, few)
        label, scores_a, _, keep = self._select(a, cohort, test_labels)
        scores_b = self._select(b, cohort, test_labels)[1]
        patient = self.tests[cohort]["patient_id"][keep]
        by_image = stats.delong_test(label, scores_a[0], scores_b[0])
        clustered = stats.delong_test(label, scores_a[0], scores_b[0], patient)
        return {
            "positives_n": int(label.sum()),
            **row,
            "delong_first_seed": by_image.estimate,
            "delong_p": by_image.p,
            "delong_clustered_p": clustered.p,
        }

    def _enough(self, arms, cohort, test_labels):
        """Return the arms whose finding has enough patients of both classes, and the other findings' names."""
        there = [self.has(arm, cohort, test_labels) and not self._too_few(arm, cohort, test_labels) for arm in arms]
        left_out = [arm.finding for arm, enough in zip(arms, there, strict=True) if not enough]
        return [arm for arm, enough in zip(arms, there, strict=True) if enough], ", ".join(left_out)

    def _mean_auc(self, arms, cohort, test_labels):
        """Return the mean AUC over findings of each seed (seeds,), and the replicates of the seeds' mean (b,)."""
        areas, replicates = zip(*(self._auc(arm, cohort, test_labels) for arm in arms), strict=True)
        return np.mean(areas, axis=0), np.mean(replicates, axis=0)

    def mean(self, arms, cohort, test_labels):
        """Return the mean AUC over findings of one network's arms, as `_over_findings`."""
        _same_seeds(arms)
        arms, left_out = self._enough(arms, cohort, test_labels)
        found = self._mean_auc(arms, cohort, test_labels) if arms else None
        row = _over_findings(found, len(arms), left_out)
        return {name: value for name, value in row.items() if name not in ("p", "smallest")}

    def between_labels(self, arm, cohort, first, second):
        """Return one arm's AUC scored by one label set less that scored by another, on the same patient resamples.

        What the choice of cases does: `first` is a curated part of `second`.

        Returns
        -------
        dict
            As `stats.over_seeds`, with `seeds_n, first_n, second_n`; None where one of the two does not assess the
            arm's finding.
        """
        if not (self.has(arm, cohort, first) and self.has(arm, cohort, second)):
            return None
        sides = [self._auc(arm, cohort, name) for name in (first, second)]
        each = np.subtract(sides[0][0], sides[1][0])
        replicates = sides[0][1] - sides[1][1]
        sizes = {f"{k}_n": self._sizes(arm, cohort, v)["images_n"] for k, v in (("first", first), ("second", second))}
        few = self._too_few(arm, cohort, first) or self._too_few(arm, cohort, second)
        return {**stats.over_seeds(each, replicates, few), "seeds_n": len(each), **sizes}

    def mean_difference(self, paired, cohort, test_labels):
        """Return the difference a - b of the mean AUC over findings, paired by image and by seed.

        Parameters
        ----------
        paired : sequence of (Arm, Arm)
            Of one architecture, an entry a finding, with the same seeds (`pairs`).
        cohort, test_labels : str

        Returns
        -------
        dict
            As `_over_findings`, with `p` and `smallest`.
        """
        _same_seeds([arm for pair in paired for arm in pair])
        first, left_out = self._enough([a for a, _ in paired], cohort, test_labels)
        second = [b for a, b in paired if a in first]
        if not first:
            return _over_findings(None, 0, left_out)
        sides = [self._mean_auc(arms, cohort, test_labels) for arms in (first, second)]
        gap = [a - b for a, b in zip(*sides, strict=True)]
        return _over_findings(gap, len(first), left_out)

    def roc(self, arm, cohort, test_labels, specificities):
        """Return mean, low and high sensitivity at each specificity, each (k,)."""
        label, scores, resamples, _ = self._select(arm, cohort, test_labels)
        whole = stats.whole(len(label))
        mean = np.mean([stats.roc_on_grid(label, s, whole, specificities)[0] for s in scores], axis=0)
        some = resamples.first(400)  # a band's edge needs fewer than an interval's end
        bands = np.mean([stats.roc_on_grid(label, s, some, specificities) for s in scores], axis=0)
        return mean, *np.nanquantile(bands, (0.025, 0.975), axis=0)

    def thresholds(self, arm, valid, specificity):
        """Return each seed's threshold of that specificity on validation images, by the arm's own labels."""
        label = valid[cases.label(arm.label_set, arm.finding)].to_numpy(float)
        there = np.isin(label, (0, 1))
        scores = [valid[cases.probability(key, arm.finding)].to_numpy(float)[there] for key in arm.runs()]
        return [stats.threshold_at_specificity(label[there], s, specificity) for s in scores]

    def operating_point(self, arm, thresholds, cohort, test_labels, prevalences):
        """Return sensitivity, specificity and precision at the carried threshold, a list of dicts."""
        if not self.has(arm, cohort, test_labels):
            return []
        label, scores, resamples, _ = self._select(arm, cohort, test_labels)
        called = [s >= t for s, t in zip(scores, thresholds, strict=True)]
        out = []
        values, replicates = (_mean_rates(label, called, r) for r in (stats.whole(len(label)), resamples))
        for prevalence in prevalences:
            name = f"ppv at prevalence {prevalence:g}"
            for rates in (values, replicates):
                rates[name] = stats.ppv_at_prevalence(rates["sensitivity"], rates["specificity"], prevalence)
        for measure in values:
            if measure != "kappa":
                value = stats.interval(float(values[measure][0]), replicates[measure])
                out.append({"measure": measure, **value._asdict()})
        return out

    def by_drain(self, arm, cohort, test_labels):
        """Return AUCs of positives with and without a drain, and among images with one, as a dict of dicts."""
        table = self.tests[cohort]
        drain = table["chest_drain"].to_numpy() == 1
        positive = table[cases.label(test_labels, arm.finding)].to_numpy(float) == 1
        subsets = {
            "positives with a drain, all negatives": ~positive | drain,
            "positives without a drain, all negatives": ~positive | ~drain,
            "images with a drain": drain,
            "images without a drain": ~drain,
        }
        out = {}
        for name, chosen in subsets.items():
            label, scores, resamples, _ = self._select(arm, cohort, test_labels, chosen)
            replicates = np.mean([stats.auc(label, s, resamples) for s in scores], axis=0)
            value = stats.interval(np.mean([stats.auc(label, s) for s in scores]), replicates)
            out[name] = {"images_n": len(label), "positives_n": int(label.sum()), **value._asdict()}
        return out


# --- a study's tables: one row per cell ---------------------------------------------------------------------------


def _where(arm, place, test_labels):
    return {"network": arm.architecture, "finding": arm.finding, "test": place, "scored_against": test_labels}


def auc_table(cells, all_arms, places, test_labels):
    """Return the AUC of every arm on every test, scored by every label set that assesses its finding.

    Parameters
    ----------
    cells : Cells
    all_arms : sequence of Arm
    places : Mapping of str to str
        Test cohort -> what to call it.
    test_labels : sequence of str

    Returns
    -------
    pandas.DataFrame
        `network, finding, test, scored_against, trained_on, images_n, patients_n, positives_n, estimate, low,
        high, reason, seeds_n, seed_range`; the last is missing where one seed was trained.
    """
    rows = [
        {**_where(arm, place, name), "trained_on": arm.label_set, **cell}
        for arm in all_arms
        for cohort, place in places.items()
        for name in test_labels
        if (cell := cells.auc(arm, cohort, name)) is not None
    ]
    return pd.DataFrame(rows)


def crossed(table):
    """Return an `auc_table` to read: estimates with intervals as text, training labels as columns."""
    text = table.assign(auc=[stats.text(r.estimate, r.low, r.high) for r in table.itertuples()])
    rows = ["finding", "network", "test", "scored_against", "positives_n"]
    order = list(dict.fromkeys(table["trained_on"]))
    return text.pivot(index=rows, columns="trained_on", values="auc")[order].fillna("")


def difference_table(cells, all_arms, study, places, test_labels):
    """Return the paired differences that a study asks for, and its controls.

    Holm's correction runs over the comparisons scored by `study["scored_against"]`; controls, and rows scored
    by other labels, are left out of it.

    Parameters
    ----------
    study : Mapping
        `comparisons` and `controls` (name -> two targets), `scored_against`.

    Returns
    -------
    pandas.DataFrame
        `comparison, role, first, second` (whose labels the two sides learned), `network, finding, test,
        scored_against, positives_n, estimate, low, high, p, reason, smallest, delong_first_seed, delong_p,
        delong_clustered_p, p_holm`. `smallest` is the smallest true difference that this test set shows with 80 %
        power.
    """
    rows = [
        {
            "comparison": name,
            "role": role,
            "first": a.label_set,
            "second": b.label_set,
            **_where(a, place, labels),
            **cell,
        }
        for role in ("comparison", "control")
        for name, (first, second) in study[f"{role}s"].items()
        for a, b in pairs(all_arms, first, second)
        for cohort, place in places.items()
        for labels in test_labels
        if (cell := cells.difference(a, b, cohort, labels)) is not None
    ]
    table = pd.DataFrame(rows)
    if table.empty:
        raise ValueError("None of the study's comparisons can be made: no test labels assess their findings.")
    asked = (table["role"] == "comparison") & table["scored_against"].isin(study["scored_against"])
    table["p_holm"] = np.nan
    table.loc[asked, "p_holm"] = stats.holm(table.loc[asked, "p"])
    return table


def _by_network(all_arms):
    """Return arms by target and architecture."""
    out = {}
    for arm in all_arms:
        out.setdefault((arm.target, arm.architecture), []).append(arm)
    return out


def mean_table(cells, all_arms, places, test_labels, groups):
    """Return the mean AUC over groups of findings of every network on every test.

    Parameters
    ----------
    cells : Cells
    all_arms : sequence of Arm
    places : Mapping of str to str
        Test cohort -> what to call it.
    test_labels : sequence of str
    groups : Mapping of str to sequence of str
        Name -> findings.

    Returns
    -------
    pandas.DataFrame
        `target, network, test, scored_against, findings`, then as `Cells.mean`. Every row is there; one that cannot
        be scored says why.
    """
    return pd.DataFrame(
        {"target": target, "network": architecture, "test": place, "scored_against": name, "findings": group}
        | cells.mean([arm for arm in arms if arm.finding in findings], cohort, name)
        for (target, architecture), arms in _by_network(all_arms).items()
        for cohort, place in places.items()
        for name in test_labels
        for group, findings in groups.items()
    )


def mean_difference_table(cells, all_arms, comparisons, places, test_labels, groups):
    """Return paired differences of mean AUC between the targets that are compared.

    Parameters
    ----------
    comparisons : Mapping of str to (str, str)
        Name -> two targets; first minus second.
    cells, all_arms, places, test_labels, groups
        See `mean_table`. Holm's correction runs over the rows of the first group alone.

    Returns
    -------
    pandas.DataFrame
        `comparison, network, test, scored_against, findings`, then as `Cells.mean_difference`, and `p_holm`.
    """
    rows = []
    for comparison, (first, second) in comparisons.items():
        paired = {}
        for a, b in pairs(all_arms, first, second):
            paired.setdefault(a.architecture, []).append((a, b))
        for architecture, both in paired.items():
            for cohort, place in places.items():
                for name in test_labels:
                    for group, findings in groups.items():
                        row = {"comparison": comparison, "network": architecture, "test": place}
                        row |= {"scored_against": name, "findings": group}
                        asked = [(a, b) for a, b in both if a.finding in findings]
                        rows.append(row | cells.mean_difference(asked, cohort, name))
    table = pd.DataFrame(rows)
    if table.empty:
        raise ValueError("None of the study's comparisons can be made: no two of its targets share a network.")
    corrected = table["findings"] == next(iter(groups))
    table["p_holm"] = np.nan
    table.loc[corrected, "p_holm"] = stats.holm(table.loc[corrected, "p"])
    return table


def leak_table(test, first, second, test_labels, seen, resamples):
    """Return what a split by image is worth: AUC by image less AUC by patient, on patients seen and on others.

    The twins train on other mixes of patients, which matters on all test images alike; so the leak is the gain on the
    patients seen less the gain on the others, on the same resamples.

    Parameters
    ----------
    test : pandas.DataFrame
        Case table of the test images that both splits share.
    first, second : Arm
        Trained by image and by patient, with the same seeds.
    test_labels : str
    seen : (n,) bool
        Whether the first was trained on another image of the patient.
    resamples : stats.Resamples

    Returns
    -------
    pandas.DataFrame
        Rows `all`, `patients trained on`, `other patients` and `leak: seen less others`: `test_images, images_n,
        by_image, by_patient, seeds_n`, then as `stats.over_seeds`.
    """
    _same_seeds([first, second])
    label = test[cases.label(test_labels, first.finding)].to_numpy(float)
    groups = {"all": seen | True, "patients trained on": seen, "other patients": ~seen}
    found, few = {}, {}
    for name, chosen in groups.items():
        keep = chosen & np.isin(label, (0, 1))
        part = resamples.of(keep)
        few[name] = stats.too_few_of_either(label[keep], part)
        columns = [[cases.probability(key, arm.finding) for key in arm.runs()] for arm in (first, second)]
        scores = [[test[column].to_numpy(float)[keep] for column in side] for side in columns]
        areas = np.array([[stats.auc(label[keep], s) for s in side] for side in scores])
        drawn = [np.mean([stats.auc(label[keep], s, part) for s in side], axis=0) for side in scores]
        found[name] = areas[0] - areas[1], drawn[0] - drawn[1], areas.mean(axis=1), int(keep.sum())
    inside, outside = found["patients trained on"], found["other patients"]
    leak = "leak: seen less others"
    found[leak] = inside[0] - outside[0], inside[1] - outside[1], (np.nan, np.nan), found["all"][3]
    few[leak] = few["patients trained on"] or few["other patients"]
    rows = []
    for name, (each, drawn, areas, images_n) in found.items():
        where = {"test_images": name, "images_n": images_n, "by_image": areas[0], "by_patient": areas[1]}
        rows.append({**where, "seeds_n": len(each), **stats.over_seeds(each, drawn, few[name])})
    return pd.DataFrame(rows)


def operating_table(cells, all_arms, valid, study, places):
    """Return rates at the threshold that has the study's specificity on validation images.

    Parameters
    ----------
    valid : pandas.DataFrame
        Validation part of the training cohort's case table; thresholds are chosen there, by each arm's own labels.
    study : Mapping
        `specificity`, `prevalences`, `scored_against`.

    Returns
    -------
    pandas.DataFrame
        `network, finding, test, scored_against, trained_on, measure, estimate, low, high, reason`.
    """
    rows = []
    for arm in all_arms:
        thresholds = cells.thresholds(arm, valid, study["specificity"])
        for cohort, place in places.items():
            for name in study["scored_against"]:
                for cell in cells.operating_point(arm, thresholds, cohort, name, study["prevalences"]):
                    rows.append({**_where(arm, place, name), "trained_on": arm.label_set, **cell})
    return pd.DataFrame(rows)


def drain_table(cells, all_arms, places, test_labels):
    """Return AUCs for pneumothorax with and without a drain, where the cohort knows which images show one."""
    columns = ["network", "finding", "test", "scored_against", "trained_on", "subset", "estimate", "low", "high"]
    rows = [
        {**_where(arm, place, test_labels), "trained_on": arm.label_set, "subset": subset, **cell}
        for arm in all_arms
        for cohort, place in places.items()
        if arm.finding == "pneumothorax" and "chest_drain" in cells.tests[cohort]
        for subset, cell in cells.by_drain(arm, cohort, test_labels).items()
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def headline(table, differences):
    """Return the README's table: each comparison's two AUCs and their difference, by every scorer asked for.

    Parameters
    ----------
    table, differences : pandas.DataFrame
        A study's `table.csv` and `differences.csv`.
    """
    where = ["network", "finding", "test", "scored_against"]
    rows = []
    for row in differences[(differences["role"] == "comparison") & differences["p_holm"].notna()].itertuples():
        same = table[(table[where] == [getattr(row, name) for name in where]).all(axis=1)].set_index("trained_on")
        entry = {name.replace("_", " "): getattr(row, name) for name in where}
        for label_set in (row.first, row.second):
            entry[f"trained on {label_set}"] = stats.text(*same.loc[label_set, ["estimate", "low", "high"]])
        rows.append({**entry, "difference": stats.text(row.estimate, row.low, row.high)})
    return pd.DataFrame(rows)
