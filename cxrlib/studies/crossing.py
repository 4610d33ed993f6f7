"""Training labels crossed with tests and test labels: arms, and the cells of a table."""

from dataclasses import dataclass, replace

import numpy as np

from cxrlib.base import runs
from cxrlib.statistics import accuracy, attenuation, delong, intervals, resampling
from cxrlib.studies import case_tables


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


def same_seeds(arms):
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
    none = f"no finding has {intervals.FEW_PATIENTS} patients with it and {intervals.FEW_PATIENTS} without"
    each, replicates = ([], []) if found is None else found
    return {
        **intervals.over_seeds(each, replicates, none if found is None else ""),
        "seed_sd": float(np.std(each, ddof=1)) if len(each) > 1 else np.nan,
        "seeds_n": len(each),
        "findings_n": findings_n,
        "left_out": left_out,
    }


class Cells:
    """Estimates for one arm, one test cohort and one set of test labels, on resamples made once.

    An arm's estimate is the mean over its seeds, in the whole sample and in every resample. Intervals are of that
    mean, over patients and training seeds.

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
        column = case_tables.label(test_labels, arm.finding)
        table = self.tests[cohort]
        return column in table and {0, 1} <= set(table[column].dropna().unique())

    def _select(self, arm, cohort, test_labels, chosen=None):
        """Return labels, scores (seeds, n) and resamples of the images that can be scored."""
        table = self.tests[cohort]
        label = table[case_tables.label(test_labels, arm.finding)].to_numpy(float)
        keep = np.isin(label, (0, 1))
        if chosen is not None:
            keep &= chosen
        scores = [table[case_tables.probability(key, arm.finding)].to_numpy(float)[keep] for key in arm.runs()]
        return label[keep], np.stack(scores), self.resamples[cohort].of(keep), keep

    def _auc(self, arm, cohort, test_labels):
        """Return per-seed AUCs (seeds,) and the replicates of their mean (b,); computed once."""
        key = (arm, cohort, test_labels)
        if key not in self._replicates:
            label, scores, resamples, _ = self._select(arm, cohort, test_labels)
            replicates = np.mean([accuracy.auc(label, s, resamples) for s in scores], axis=0)
            self._replicates[key] = [accuracy.auc(label, s) for s in scores], replicates
        return self._replicates[key]

    def _too_few(self, arm, cohort, test_labels):
        """Return why this cell gets no interval, or an empty text: too few patients with or without the finding."""
        label, _, resamples, _ = self._select(arm, cohort, test_labels)
        return intervals.too_few_of_either(label, resamples)

    def _sizes(self, arm, cohort, test_labels):
        label, _, _, keep = self._select(arm, cohort, test_labels)
        patients = self.tests[cohort]["patient_id"][keep]
        return {"images_n": len(label), "patients_n": patients.nunique(), "positives_n": int(label.sum())}

    def auc(self, arm, cohort, test_labels):
        """Return the AUC with its interval as a dict, or None where the labels do not assess the finding."""
        if not self.has(arm, cohort, test_labels):
            return None
        areas, replicates = self._auc(arm, cohort, test_labels)
        return {
            **self._sizes(arm, cohort, test_labels),
            **intervals.area_over_seeds(areas, replicates, self._too_few(arm, cohort, test_labels))._asdict(),
            "seeds_n": len(areas),
            "seed_range": max(areas) - min(areas) if len(areas) > 1 else np.nan,
        }

    def difference(self, a, b, cohort, test_labels):
        """Return the AUC difference a - b, paired by image and seed, as a dict; with DeLong's tests of one seed."""
        if not (self.has(a, cohort, test_labels) and self.has(b, cohort, test_labels)):
            return None
        areas_a, replicates_a = self._auc(a, cohort, test_labels)
        areas_b, replicates_b = self._auc(b, cohort, test_labels)
        few = self._too_few(a, cohort, test_labels)
        row = intervals.over_seeds(np.subtract(areas_a, areas_b), replicates_a - replicates_b, few)
        label, scores_a, _, keep = self._select(a, cohort, test_labels)
        scores_b = self._select(b, cohort, test_labels)[1]
        patient = self.tests[cohort]["patient_id"][keep]
        by_image = delong.delong_test(label, scores_a[0], scores_b[0])
        clustered = delong.delong_test(label, scores_a[0], scores_b[0], patient)
        return {
            "positives_n": int(label.sum()),
            **row,
            "seeds_n": len(areas_a),
            "delong_first_seed": by_image.estimate,
            "delong_p": by_image.p,
            "delong_clustered_p": clustered.p,
        }

    def lead_left(self, a, b, cohort, reference, other):
        """Return how much of the lead a - b by a reference is left by other labels, and how much noise alone leaves.

        If the other labels err without regard to both scores, given the reference, each AUC is
        `attenuation.attenuated`, so that the lead shrinks to their markedness, whatever the networks are.

        Parameters
        ----------
        a, b : Arm
            With the same seeds.
        cohort, reference, other : str

        Returns
        -------
        dict or None
            `images_n`, `by_reference` and `by_other` (the leads on the images that both label), `expected_share` with
            its interval over patients, `observed_share`, `expected` (lead by other labels), and as `over_seeds` the
            excess: the lead by other labels less the expected one. None where either does not assess the finding.
        """
        if not all(self.has(arm, cohort, name) for arm in (a, b) for name in (reference, other)):
            return None
        table = self.tests[cohort]
        columns = [case_tables.label(name, a.finding) for name in (reference, other)]
        both = table[columns].isin((0, 1)).all(axis=1).to_numpy()
        leads = {}
        for name in (reference, other):
            sides = [self._select(arm, cohort, name, both) for arm in (a, b)]
            (label, _, resamples, _), few = sides[0], self._too_few(a, cohort, name)
            areas = [[accuracy.auc(label, score) for score in scores] for _, scores, _, _ in sides]
            drawn = [np.mean([accuracy.auc(label, s, resamples) for s in scores], 0) for _, scores, _, _ in sides]
            leads[name] = np.subtract(*areas), np.subtract(*drawn)
        truth, noisy = (table.loc[both, column].to_numpy(float) for column in columns)
        share = attenuation.markedness(truth, noisy)
        shares = attenuation.markedness(truth, noisy, resamples)
        (lead, lead_drawn), (left, left_drawn) = leads[reference], leads[other]
        ends = intervals.interval(share, shares)
        return {
            "images_n": int(both.sum()),
            "by_reference": lead.mean(),
            "by_other": left.mean(),
            "expected_share": share,
            "expected_share_low": ends.low,
            "expected_share_high": ends.high,
            "observed_share": left.mean() / lead.mean() if lead.mean() > 0 else np.nan,
            "expected": share * lead.mean(),
            **intervals.over_seeds(left - share * lead, left_drawn - shares * lead_drawn, few),
            "seeds_n": len(lead),
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
        same_seeds(arms)
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
        return {**intervals.over_seeds(each, replicates, few), "seeds_n": len(each), **sizes}

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
        same_seeds([arm for pair in paired for arm in pair])
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
        whole = resampling.whole(len(label))
        mean = np.mean([accuracy.roc_on_grid(label, s, whole, specificities)[0] for s in scores], axis=0)
        some = resamples.first(400)  # a band's edge needs fewer than an interval's end
        bands = np.mean([accuracy.roc_on_grid(label, s, some, specificities) for s in scores], axis=0)
        return mean, *np.nanquantile(bands, (0.025, 0.975), axis=0)

    def thresholds(self, arm, valid, specificity):
        """Return each seed's threshold of that specificity on validation images, by the arm's own labels."""
        label = valid[case_tables.label(arm.label_set, arm.finding)].to_numpy(float)
        there = np.isin(label, (0, 1))
        scores = [valid[case_tables.probability(key, arm.finding)].to_numpy(float)[there] for key in arm.runs()]
        return [accuracy.threshold_at_specificity(label[there], s, specificity) for s in scores]

    def operating_point(self, arm, thresholds, cohort, test_labels, prevalences):
        """Return sensitivity, specificity and precision at the carried threshold, a list of dicts."""
        if not self.has(arm, cohort, test_labels):
            return []
        label, scores, resamples, _ = self._select(arm, cohort, test_labels)
        each, drawn = [], []
        for score, threshold in zip(scores, thresholds, strict=True):
            for kept, r in ((each, resampling.whole(len(label))), (drawn, resamples)):
                rates = accuracy.rates(label, score >= threshold, r)
                for prevalence in prevalences:
                    carried = rates["sensitivity"], rates["specificity"], prevalence
                    rates[f"ppv at prevalence {prevalence:g}"] = accuracy.ppv_at_prevalence(*carried)
                kept.append(rates)
        out = []
        for measure in each[0]:
            if measure != "kappa":
                values = np.array([float(rates[measure][0]) for rates in each])
                replicates = np.mean([rates[measure] for rates in drawn], axis=0)
                out.append({"measure": measure, **intervals.area_over_seeds(values, replicates)._asdict()})
        return out

    def by_drain(self, arm, cohort, test_labels):
        """Return AUCs of positives with and without a drain, and among images with one, as a dict of dicts."""
        table = self.tests[cohort]
        drain = table["chest_drain"].to_numpy() == 1
        positive = table[case_tables.label(test_labels, arm.finding)].to_numpy(float) == 1
        subsets = {
            "positives with a drain, all negatives": ~positive | drain,
            "positives without a drain, all negatives": ~positive | ~drain,
            "images with a drain": drain,
            "images without a drain": ~drain,
        }
        out = {}
        for name, chosen in subsets.items():
            label, scores, resamples, _ = self._select(arm, cohort, test_labels, chosen)
            replicates = np.mean([accuracy.auc(label, s, resamples) for s in scores], axis=0)
            value = intervals.area_over_seeds([accuracy.auc(label, s) for s in scores], replicates)
            out[name] = {"images_n": len(label), "positives_n": int(label.sum()), **value._asdict()}
        return out
