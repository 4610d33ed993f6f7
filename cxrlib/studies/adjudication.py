"""How many images radiologists must adjudicate, so that a network's AUC by their labels is known.

On sets where radiologists have read every image, adjudicated labels are hidden but for those of patients, or images,
that are drawn at random, and methods of `cxrlib.statistics.adjudicated` estimate the AUC from these. The truth is the
AUC by all labels of the set, a finite population: no other images are drawn, so that the error of an estimate is that
of the draw alone, and the interval that should cover is that for the archive (`se_archive`). `other_archives` asks
the other question, of the intervals for patients like these.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import pandas as pd

from cxrlib.base import vocabulary
from cxrlib.releases import catalogue, predictions
from cxrlib.statistics import accuracy, adjudicated, intervals

_OPACITIES = vocabulary.ANY_OF["airspace_opacity"]
_SPECIFICITY = 0.9  # by report labels, of the decision threshold


@dataclass(frozen=True)
class Question:
    """A finding, whose labels are the truth, which findings of a report count, and how many patients are read."""

    finding: str
    release: str
    reported: tuple
    sizes: tuple


QUESTIONS = {
    "pneumothorax, Google": Question("pneumothorax", "google_adjudicated", ("pneumothorax",), (50, 100, 200)),
    "nodule or mass, Google": Question("nodule_or_mass", "google_adjudicated", ("nodule", "mass"), (50, 100, 200)),
    "opacity, Google": Question("airspace_opacity", "google_adjudicated", _OPACITIES, (50, 100, 200)),
    "opacity, RSNA": Question("airspace_opacity", "rsna_opacity_on_nih", _OPACITIES, (50, 100, 200, 400, 800)),
    "opacity, RSNA, narrow": Question(
        "airspace_opacity", "rsna_opacity_on_nih", ("pneumonia", "infiltration", "consolidation"), (200, 800)
    ),
}
# Of RSNA's classes, which no package has (`catalogue.available`).
ABNORMAL = Question("abnormal", "rsna_on_nih", tuple(vocabulary.NIH_FINDINGS.values()), (50, 100, 200, 400, 800))


DESIGNS = {  # what is drawn -> whether whole patients, and whether half of them have the finding in a report
    "patients": (True, False),
    "patients, half reported": (True, True),
    "images": (False, False),
    "images, half reported": (False, True),
}


@dataclass(frozen=True)
class Case:
    """Images that radiologists have read, with the report's labels and the scores of networks.

    Attributes
    ----------
    truth, report : (n,) float64 of 0 and 1
    patient_id : (n,) str
    scores : dict of str to (n,) float64
        By network.
    """

    truth: np.ndarray
    report: np.ndarray
    patient_id: np.ndarray
    scores: dict

    @cached_property
    def patient(self):
        """Return which patient each image is of, (n,) int, in the order of sorted ids."""
        return np.unique(self.patient_id, return_inverse=True)[1]

    def units(self, whole_patients):
        """Return, of patients or of images, how many images each has, and whether a report of it has the finding."""
        if whole_patients:
            return np.bincount(self.patient), np.bincount(self.patient, self.report) > 0
        return np.ones(len(self.patient), int), self.report == 1

    def archive(self, network, whole_patients=True):
        """Return the `ScoredArchive` of one network, with its threshold at 0.9 specificity by report labels."""
        score = self.scores[network]
        cut = accuracy.threshold_at_specificity(self.report, score, _SPECIFICITY)
        return adjudicated.ScoredArchive(score, self.report, self.patient_id, whole_patients, cut)


def read_case(question, networks=predictions.FIVE):
    """Return the `Case` of a question: the images that radiologists have read and the networks were tested on.

    Parameters
    ----------
    question : Question
    networks : sequence of str
        Of `predictions.NETWORKS`, tested on the same images.
    """
    table = _labels(question.release)
    truth = 1 - table["no_finding"] if question.finding == "abnormal" else table[question.finding]
    scores = {name: predictions.read_predictions(name) for name in networks}
    tested = next(iter(scores.values())).index
    images = truth.dropna().index.intersection(tested).sort_values()
    return Case(
        truth[images].to_numpy(float),
        _labels("nih_reports").loc[images, list(question.reported)].max(axis=1).to_numpy(float),
        images.str.slice(0, 8).to_numpy(str),
        {name: predictions.of_finding(each.loc[images], question.finding) for name, each in scores.items()},
    )


@cache
def _labels(name):
    return catalogue.read_release(name).table.set_index("image_id")


def draws(case, design, patients_n, draws_n, rng):
    """Return which images are adjudicated in each of many draws without replacement, and with which probability.

    Parameters
    ----------
    case : Case
    design : str
        Of `DESIGNS`. Single images are as many as that number of patients has on average; where fewer than half as
        many patients, or images, have the finding in a report, all of these are drawn.
    patients_n, draws_n : int
    rng : numpy.random.Generator

    Returns
    -------
    adjudicated : (draws_n, n) bool
    probability : (n,) float64
    """
    whole, halves = DESIGNS[design]
    size, reported = case.units(whole)
    all_n = patients_n if whole else round(patients_n * len(case.patient) / len(case.units(True)[0]))
    half = min(all_n // 2, reported.sum())
    strata = ((reported, half), (~reported, all_n - half)) if halves else ((np.ones_like(reported), all_n),)
    mask, probability = np.zeros((draws_n, len(size)), bool), np.zeros(len(size))
    for part, n in strata:
        key = rng.random((draws_n, part.sum()))
        mask[:, part] = key <= np.partition(key, n - 1, axis=1)[:, n - 1 : n]
        probability[part] = n / part.sum()
    of_image = case.patient if whole else np.arange(len(size))
    return mask[:, of_image], probability[of_image]


def simulate(
    case, sizes, draws_n, rng, designs=("patients",), methods=("adjudicated", "augmented"), measures=("auc",)
):
    """Return what every method estimates in many draws, and how far its interval for the archive reaches.

    All methods and networks share the draws of a design and size.

    Returns
    -------
    pandas.DataFrame
        A row a draw: `design, patients_n, images_n` (the mean over draws), `network, measure, method, draw, estimate,
        se, low, high, truth`; `low, high` are NaN where fewer than `intervals.FEW_PATIENTS` give no interval.
    """
    archives = {(name, whole): case.archive(name, whole) for name in case.scores for whole in (True, False)}
    parts = []
    for design in designs:
        for patients_n in sizes:
            mask, probability = draws(case, design, patients_n, draws_n, rng)
            shared = {"design": design, "patients_n": patients_n, "images_n": mask.sum(1).mean()}
            for name in case.scores:
                images = archives[name, DESIGNS[design][0]]
                found = adjudicated.estimates(images, case.truth, mask, probability, methods, measures)
                for (measure, method), value in found.items():
                    keys = {**shared, "network": name, "measure": measure, "method": method}
                    truth = truth_of(case, name, measure)
                    parts.append(_rows(value, value.se_archive, truth).assign(**keys))
    return pd.concat(parts, ignore_index=True)


def controls(case, patients_n, draws_n, seed):
    """Return draws of patients as `simulate` does, where report labels or scores tell nothing.

    Each network has a shuffle of its own, since one alone may agree with the truth by chance. Draws are the same.

    Returns
    -------
    dict of str to pandas.DataFrame
        `as they are`; `score alone`, the report says nothing of any image; `reports shuffled` over the images; and
        `both shuffled`, scores and report labels together.
    """
    parts = {}
    for k, (name, score) in enumerate(case.scores.items()):
        order = np.random.default_rng([seed, k]).permutation(len(score))
        one = replace(case, scores={name: score})
        kinds = {
            "as they are": one,
            "score alone": replace(one, report=np.zeros_like(case.report)),
            "reports shuffled": replace(one, report=case.report[order]),
            "both shuffled": replace(one, report=case.report[order], scores={name: score[order]}),
        }
        for kind, changed in kinds.items():
            rng, methods = np.random.default_rng(seed), ("adjudicated", "augmented", "independence")
            parts.setdefault(kind, []).append(simulate(changed, (patients_n,), draws_n, rng, methods=methods))
    return {kind: pd.concat(each, ignore_index=True) for kind, each in parts.items()}


def _rows(value, se, truth):
    """Return a row for each draw of an estimate."""
    ends = np.where(value.patients_n >= intervals.FEW_PATIENTS, adjudicated.ends(value, se), np.nan)
    rows = {"draw": np.arange(len(se)), "estimate": value.estimate, "se": se, "low": ends[0], "high": ends[1]}
    return pd.DataFrame(rows).assign(truth=truth)


def truth_of(case, network, measure):
    """Return a measure of a network by the radiologists' labels of all images."""
    if measure == "auc":
        return accuracy.auc(case.truth, case.scores[network])
    if measure == "prevalence":
        return float(case.truth.mean())
    cut = accuracy.threshold_at_specificity(case.report, case.scores[network], _SPECIFICITY)
    return accuracy.rates(case.truth, case.scores[network] >= cut)[measure]


def other_archives(case, network, design, patients_n, archives_n, rng):
    """Return what is estimated from archives of as many patients, drawn with replacement from those of a case.

    So the case is the population of which each archive is a sample, its AUC the truth, and the interval that for all
    patients like those of the archive.

    Parameters
    ----------
    case, network, patients_n, rng
    design : {"patients", "images"}
    archives_n : int

    Returns
    -------
    pandas.DataFrame
        As `simulate` returns it, `se, low, high` being those for all patients.
    """
    by_patient, sizes = np.argsort(case.patient, kind="stable"), case.units(True)[0]
    starts, truth = np.cumsum(sizes) - sizes, truth_of(case, network, "auc")
    parts = []
    for k in range(archives_n):
        picked = rng.integers(len(sizes), size=len(sizes))
        patient, first = np.repeat(np.arange(len(picked)), sizes[picked]), np.cumsum(sizes[picked]) - sizes[picked]
        at = by_patient[np.repeat(starts[picked] - first, sizes[picked]) + np.arange(len(patient))]
        one = Case(case.truth[at], case.report[at], patient, {network: case.scores[network][at]})
        mask, probability = draws(one, design, patients_n, 1, rng)
        images = one.archive(network, DESIGNS[design][0])
        found = adjudicated.estimates(images, one.truth, mask, probability, ("adjudicated", "augmented"))
        for (measure, method), value in found.items():
            keys = {"network": network, "measure": measure, "method": method, "images_n": mask.sum()}
            parts.append(_rows(value, value.se, truth).assign(design=design, draw=k, patients_n=patients_n, **keys))
    return pd.concat(parts, ignore_index=True)


def summary(simulated, by=("design", "patients_n", "measure", "method")):
    """Return bias, spread and coverage of every method, averaged over networks.

    Returns
    -------
    pandas.DataFrame
        Indexed by `by`: `images_n`, `bias` (the mean over networks of the mean error), `se` (the spread over draws,
        root mean square over networks), `rmse`, `se_estimated`, `coverage` of the draws that have an interval,
        `covered_n` of them, and `undefined_frac`, the share of draws with no estimate, which count in nothing else.
    """
    rows = simulated.assign(
        error=simulated["estimate"] - simulated["truth"],
        se2=simulated["se"] ** 2,
        inside=((simulated["low"] <= simulated["truth"]) & (simulated["truth"] <= simulated["high"])).where(
            simulated["low"].notna()
        ),
        undefined=simulated["estimate"].isna(),
    )
    rows["inside"] = rows["inside"].astype(float)
    each = rows.groupby([*by, "network"], sort=False)
    table = pd.DataFrame(
        {
            "images_n": each["images_n"].mean(),
            "bias": each["error"].mean(),
            "se": each["error"].var(),
            "rmse": each["error"].mean() ** 2 + each["error"].var(),
            "se_estimated": each["se2"].mean(),
            "coverage": each["inside"].mean(),
            "covered_n": each["inside"].count(),
            "undefined_frac": each["undefined"].mean(),
        }
    )
    table = table.groupby(list(by), sort=False).mean()
    squares = ["se", "rmse", "se_estimated"]
    table[squares] = np.sqrt(table[squares])
    return table


def interpolated(simulated, all_n, target, rng, resamples_n=200):
    """Return how many of a set's images give a standard error, read off the simulated ones.

    The squared standard error is taken as linear in 1 / images between simulated sizes, and from the largest to the
    whole set, where it is zero: exactly so for a random draw without replacement.

    Parameters
    ----------
    simulated : pandas.DataFrame
        As `simulate` returns it, of the AUC.
    all_n : int
        Images of the set.
    target : float
    rng : numpy.random.Generator
        For the interval, which resamples draws and tells how far their number leaves it open.

    Returns
    -------
    pandas.DataFrame
        Indexed by `design, method`: `images_n, low, high`.
    """
    rows = {}
    for key, part in simulated.groupby(["design", "method"], sort=False):
        wide = part.pivot(index=["images_n", "network"], columns="draw", values="estimate")
        sizes = wide.index.get_level_values("images_n").unique()
        values = np.stack([wide.loc[size].to_numpy() for size in sizes])
        picks = rng.integers(values.shape[2], size=(resamples_n, values.shape[2]))
        replicates = [_reaches(sizes, values[:, :, pick], all_n, target) for pick in picks]
        low, high = np.quantile(replicates, (0.025, 0.975))
        rows[key] = {"images_n": _reaches(sizes, values, all_n, target), "low": low, "high": high}
    return pd.DataFrame(rows).T.rename_axis(["design", "method"])


def _reaches(sizes, values, all_n, target):
    """Return at how many images the variance of (sizes, networks, draws), mean over networks, is the target's."""
    squares = np.r_[np.nanvar(values, axis=2, ddof=1).mean(1), 0.0]
    inverse = np.r_[1 / np.asarray(sizes, float), 1 / all_n]
    return 1 / np.interp(target**2, squares[::-1], inverse[::-1])


def gained(simulated, rng, resamples_n=200):
    """Return which share of the variance of `adjudicated` is gone with `augmented`, with its interval over draws.

    Parameters
    ----------
    simulated : pandas.DataFrame
        As `simulate` returns it, of one design, size and measure.
    rng : numpy.random.Generator
    resamples_n : int

    Returns
    -------
    dict
        `estimate, low, high`: equally that share of the images is saved.
    """
    wide = simulated.pivot(index=["method", "network"], columns="draw", values="estimate")
    alone, augmented = (wide.loc[method].to_numpy() for method in ("adjudicated", "augmented"))
    picks = np.vstack([np.arange(alone.shape[1]), rng.integers(alone.shape[1], size=(resamples_n, alone.shape[1]))])
    estimate, *replicates = (
        1 - np.nanvar(augmented[:, pick], axis=1).mean() / np.nanvar(alone[:, pick], axis=1).mean() for pick in picks
    )
    low, high = np.quantile(replicates, (0.025, 0.975))
    return {"estimate": estimate, "low": low, "high": high}


def needed(case, resamples, target):
    """Return how many patients and images give a standard error of the AUC in an archive much larger than the set.

    To first order, from what each patient (or image) of the set adds to the AUC, with the mean over the networks. In
    an archive of N patients, 1 / (1 / m + 1 / N) of them do instead of m drawn at random.

    Parameters
    ----------
    case : Case
    resamples : resampling.Resamples
        Of its images. Intervals hold what each patient adds fixed.
    target : float

    Returns
    -------
    pandas.DataFrame
        Indexed by `design, method`: `patients_n`, `images_n` with the interval `low, high`, and the fewest and most
        of one network, `network_low, network_high`. Then shares of images that are saved, each with its interval:
        `saved`, compared with patients adjudicated alone; `saved_by_model`, with the same design adjudicated alone;
        and `saved_by_share`, with the same method and no strata. The designs with a best share draw that `share` of
        patients, or images, with the finding in a report which costs the fewest images here, so that they save by
        construction.
    """
    weight = np.vstack([np.ones(resamples.counts.shape[1]), resamples.counts])
    rows, images = {}, {}
    for design, (whole, halves) in DESIGNS.items():
        parts = [adjudicated.contributions(case.archive(name, whole), case.truth) for name in case.scores]
        for method in ("adjudicated", "augmented"):
            values = [len(p.whole) * (p.whole - (method == "augmented") * p.predicted) for p in parts]
            for best in (False, True)[: 1 + halves]:
                per_unit = [_per_unit(case, each, whole, halves, best, weight) for each in values]
                variance, cost, share = (np.array(part) for part in zip(*per_unit, strict=True))
                key = design.replace("half", "best share of") if best else design, method
                images[key] = variance * cost / target**2
                rows[key] = {"patients_n": (variance[:, 0] / target**2).mean() if whole else np.nan}
                rows[key] |= {"share": share[:, 0].mean()}
    for (design, method), each in images.items():
        n, row = each.mean(0), rows[design, method]
        plain = "images" if design.startswith("images") else "patients"
        compared = {
            "saved": images["patients", "adjudicated"],
            "saved_by_model": images[design, "adjudicated"],
            "saved_by_share": images[plain, method],
        }
        row |= {"images_n": n[0], "network_low": each[:, 0].min(), "network_high": each[:, 0].max()}
        row["low"], row["high"] = np.quantile(n[1:], (0.025, 0.975))
        for name, other in compared.items():
            saved = 1 - n / other.mean(0)
            row[name] = saved[0]
            row[f"{name}_low"], row[f"{name}_high"] = np.quantile(saved[1:], (0.025, 0.975))
    return pd.DataFrame(rows).T.rename_axis(["design", "method"])


def _per_unit(case, values, whole, halves, best, weight):
    """Return the variance that one drawn unit stands for, its images, and the share of reported ones; (b,) each."""
    size, reported = case.units(whole)
    owner = np.arange(len(size)) if whole else case.patient
    spread, cost, part_n = [], [], []
    for mask in (reported, ~reported) if halves else (np.ones_like(reported),):
        sums = [weight @ np.bincount(owner, mask * each, weight.shape[1]) for each in (1, size, values, values**2)]
        n, images, total, square = sums
        spread.append(np.sqrt(np.maximum(square / n - (total / n) ** 2, 0)) * n)
        cost.append(images / n)
        part_n.append(n)
    spread, cost = np.array(spread) / sum(part_n), np.array(cost)
    share = spread / np.sqrt(cost) if best else np.ones_like(spread)
    share = share / share.sum(0)
    return (spread**2 / share).sum(0), (share * cost).sum(0), share[0] if halves else np.full(len(weight), np.nan)


def tuning(case):
    """Return, by network, the factor that PPI++ would give the model's part, and the share of patients it would save.

    Returns
    -------
    pandas.DataFrame
        Indexed by `network`: `factor`, `saved`.
    """
    rows = {}
    for name in case.scores:
        parts = adjudicated.contributions(case.archive(name), case.truth)
        tuned, plain = (np.var(parts.whole - f * parts.predicted) for f in (parts.factor, 1))
        rows[name] = {"factor": parts.factor, "saved": 1 - tuned / plain}
    return pd.DataFrame(rows).T.rename_axis("network")


def by_whose_labels(case, resamples):
    """Return the AUC by reports, by radiologists, and by reports as if their errors ignored the score.

    Returns
    -------
    pandas.DataFrame
        Indexed by `truth` (`reports, radiologists, corrected`): `estimate, low, high`, the mean over the networks
        with its interval over patients.
    """

    def measured(part=None):
        areas = [
            [accuracy.auc(label, score, part) for score in case.scores.values()]
            for label in (case.report, case.truth)
        ]
        noise = accuracy.rates(case.truth, case.report, part)
        by_report, by_truth = np.mean(areas, axis=1)
        corrected = 0.5 + (by_report - 0.5) / (noise["ppv"] + noise["npv"] - 1)
        return {"reports": by_report, "radiologists": by_truth, "corrected": corrected}

    values, replicates = measured(), measured(resamples)
    rows = {name: intervals.interval(values[name], replicates[name])._asdict() for name in values}
    return pd.DataFrame(rows).T.rename_axis("truth")
