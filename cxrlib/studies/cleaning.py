"""Label cleaning judged by people: which report labels a network would have read again, and whether those are wrong.

A `Pool` holds images that published networks scored out of fold, with their report labels. Scores are calibrated
against those labels, cross-fitted by patient. `JudgedImages` are those of a pool that people have read for a finding:
the report label is given, their label is the truth. `strategies` says in which order each way of choosing would have
images read again, and `reviewed` what it would have found.

With two classes there is less to choose than cleanlab's options suggest. Its three label-quality scores (Northcutt,
Jiang and Chuang, JAIR 2021;70:1373) all fall with the probability of the given label, and so rank images alike. Among
images of one label that ranking is the order of the scores. A method therefore only decides how many of the images
reported present, and how many of those reported absent, are read; `review.Within.same_labels_at_random` is what that
decision alone is worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from cleanlab import filter as confident_learning
from cleanlab import rank
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxrlib.base import vocabulary
from cxrlib.cohorts import shortcuts
from cxrlib.releases import predictions
from cxrlib.statistics import calibration, intervals, resampling, review, weighting
from cxrlib.studies import nih_questions

QUALITY_SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
FILTERS = ("prune_by_noise_rate", "both")
READS = (50, 100, 200)  # budgets in images
SHARES = (0.05, 0.1)  # budgets as fractions of the images
CURVE = np.arange(1, 31) / 100  # budgets of the curve
AREA = CURVE <= 0.2  # the part of the curve whose mean is reported

NETWORK, METADATA_ALONE = "network", "metadata alone"
QUALITY = "label quality"
ABSENT, PRESENT = "highest scores reported absent", "lowest scores reported present"
SHUFFLED_SCORES, RANDOM_REVIEW, SAME_LABELS = "scores shuffled", "random review", "same labels at random"
CEILING = "all errors known"


@dataclass(frozen=True)
class Pool:
    """Images that networks scored out of fold.

    Attributes
    ----------
    given : pandas.DataFrame
        Images x findings: the report label, 1 or 0.
    images : pandas.DataFrame
        Indexed like `given`: `patient_id, view, sex, age, follow_up_number`.
    scores : Mapping of str to pandas.DataFrame
        Network -> images x findings, probabilities.
    fold : (n,) int
        In which part of the cross-fitting each image is held out; a patient is in one part.
    """

    given: pd.DataFrame
    images: pd.DataFrame
    scores: Mapping
    fold: np.ndarray


def read_pool(networks, rng, folds_n=5):
    """Return the images that published networks have in common, with their report labels.

    Parameters
    ----------
    networks : sequence of str
        Of `predictions.NETWORKS`.
    rng : numpy.random.Generator
        Of the folds.
    folds_n : int
    """
    scores = {name: predictions.read_predictions(name) for name in networks}
    ids = next(iter(scores.values())).index
    for name, table in scores.items():
        if not table.index.equals(ids):
            raise ValueError(f"The predictions of {name} are of other images than those of {networks[0]}.")
    images = nih_questions.nih_table().loc[ids]
    given = images[[*vocabulary.NIH_FINDINGS.values(), *vocabulary.ANY_OF, "abnormal"]]
    return Pool(given, images, scores, weighting.patient_folds(images["patient_id"], rng, folds_n))


def cross_fitted(label, fold, fit):
    """Return what a model says of each image that was fitted to the other folds, (n,) float64.

    Parameters
    ----------
    label : (n,) array of 0/1
    fold : (n,) int
    fit : Callable
        `fit(train, held)` with two boolean masks; it returns the probabilities of the held images.
    """
    out = np.full(len(label), np.nan)
    for k in np.unique(fold):
        held = fold == k
        if len(np.unique(label[~held])) < 2:
            raise ValueError(f"without fold {k} every label is the same: nothing can be fitted to them.")
        out[held] = fit(~held, held)
    return out


def platt(label, probability, fold):
    """Return probabilities calibrated by Platt's scaling on the other folds, (n,) float64."""

    def fit(train, held):
        scaling = calibration.platt_scaling(label[train, None], probability[train, None])
        return calibration.platt_scaled(probability[held, None], scaling)[:, 0]

    return cross_fitted(label, fold, fit)


def isotonic(label, probability, fold):
    """Return probabilities calibrated by isotonic regression on the other folds, (n,) float64."""

    def fit(train, held):
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        return model.fit(probability[train], label[train]).predict(probability[held])

    return cross_fitted(label, fold, fit)


def of_metadata(label, images, fold):
    """Return what view, sex, age and follow-up number alone say, (n,) float64: logistic regression, cross-fitted."""
    features = shortcuts.metadata(images)
    features["follow_up_number"] = np.log1p(features["follow_up_number"])
    features = features.to_numpy(float)

    def fit(train, held):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e6))
        return model.fit(features[train], label[train]).predict_proba(features[held])[:, 1]

    return cross_fitted(label, fold, fit)


def shuffled_across_patients(values, patient, rng):
    """Return values dealt to other patients: those of one patient stay together and in order, as far as they fit.

    Parameters
    ----------
    values : (n,) array
    patient : (n,) array
    rng : numpy.random.Generator
    """
    _, patient = np.unique(np.asarray(patient, dtype=object).astype(str), return_inverse=True)
    patients_n = patient.max() + 1
    source, target = (np.argsort(rng.permutation(patients_n)[patient], kind="stable") for _ in range(2))
    out = np.empty_like(values)
    out[target] = values[source]
    return out


def label_quality(given, probability, method="self_confidence", adjusted=False):
    """Return cleanlab's label quality of binary labels, (n,) float64 in [0, 1]; the lowest are read again first.

    Parameters
    ----------
    given : (n,) array of 0/1
    probability : (n,) array in [0, 1]
        Of the finding, out of fold.
    method : str
        Of `QUALITY_SCORES`.
    adjusted : bool
        Whether the mean probability of each label is subtracted first (`adjust_pred_probs`).
    """
    both = np.c_[1 - probability, probability]
    return rank.get_label_quality_scores(given.astype(int), both, method=method, adjust_pred_probs=adjusted)


def flagged(given, probability, filter_by):
    """Return which labels confident learning calls wrong, (n,) bool; arguments as `label_quality`."""
    both = np.c_[1 - probability, probability]
    return confident_learning.find_label_issues(given.astype(int), both, filter_by=filter_by, n_jobs=1)


def scorers(pool, finding, rng, shuffles_n):
    """Return every score of a finding for all images of a pool, by name.

    Parameters
    ----------
    pool : Pool
    finding : str
    rng : numpy.random.Generator
    shuffles_n : int
        How often each network's scores are shuffled.

    Returns
    -------
    dict of str to (m, s, n) float64
        `NETWORK` (calibrated by Platt's scaling), `uncalibrated`, `isotonic`: a row per network, s is 1.
        `SHUFFLED_SCORES`: `NETWORK`'s, shuffled across patients s times. `METADATA_ALONE`: one row.
    """
    label, patient = pool.given[finding].to_numpy(float), pool.images["patient_id"]
    raw = [predictions.of_finding(scores, finding) for scores in pool.scores.values()]
    calibrated = [platt(label, one, pool.fold) for one in raw]
    return {
        NETWORK: np.stack(calibrated)[:, None],
        "uncalibrated": np.stack(raw)[:, None],
        "isotonic": np.stack([isotonic(label, one, pool.fold) for one in raw])[:, None],
        SHUFFLED_SCORES: np.stack(
            [[shuffled_across_patients(one, patient, rng) for _ in range(shuffles_n)] for one in calibrated]
        ),
        METADATA_ALONE: of_metadata(label, pool.images, pool.fold)[None, None],
    }


@dataclass(frozen=True)
class JudgedImages:
    """Images of a pool that a judge has read for a finding.

    Attributes
    ----------
    finding, judge : str
    index : (n,) int
        Which images of the pool.
    given, truth : (n,) float64 of 0/1
    images : pandas.DataFrame
    scores : dict of str to (m, s, N) float64
        As `scorers` returns them, of all images of the pool, because thresholds are estimated on all.
    labels : (N,) float64 of 0/1
        The report label of all images of the pool.
    resamples : Resamples
        Of the patients of the images that were read.
    """

    finding: str
    judge: str
    index: np.ndarray
    given: np.ndarray
    truth: np.ndarray
    images: pd.DataFrame
    scores: dict
    labels: np.ndarray
    resamples: resampling.Resamples

    @property
    def few(self):
        """Return why nothing gets an interval: the wrong labels are of too few patients; or an empty text."""
        return intervals.too_few([self.resamples.patient[self.given != self.truth]])

    def of(self, scorer):
        """Return a scorer's scores of the images that were read, (m, s, n)."""
        return self.scores[scorer][..., self.index]

    def counts(self):
        """Return what the case rests on, as the first columns of a table's row."""
        wrong = self.given != self.truth
        return {
            "finding": self.finding,
            "judge": self.judge,
            "images_n": len(self.given),
            "patients_n": len(np.unique(self.resamples.patient)),
            "reported_n": int(self.given.sum()),
            "judged_present_n": int(self.truth.sum()),
            "missed_n": int((wrong & (self.given == 0)).sum()),
            "overcalls_n": int((wrong & (self.given == 1)).sum()),
            "patients_with_errors_n": len(np.unique(self.resamples.patient[wrong])),
        }


def judged_images(pool, finding, judge, truth, scores, resamples_n, rng):
    """Return the images of a pool that a judge has read for a finding.

    Parameters
    ----------
    pool : Pool
    finding : str
        Of the pool's labels.
    judge : str
        What to call the judge: a label set of the catalogue.
    truth : pandas.Series
        The judge's labels by image id; images that are not assessed (NaN) or uncertain are left out.
    scores : dict
        As `scorers` returns them.
    resamples_n : int
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        If the judge has read no image of the pool.
    """
    truth = truth.reindex(pool.given.index)
    index = np.flatnonzero(truth.isin((0, 1)))
    if not len(index):
        raise ValueError(f"{judge} has read none of the {len(truth):,} images for {finding}.")
    images, labels = pool.images.iloc[index], pool.given[finding].to_numpy(float)
    resamples = resampling.patient_resamples(images["patient_id"], resamples_n, rng)
    judged = truth.iloc[index].to_numpy(float)
    return JudgedImages(finding, judge, index, labels[index], judged, images, scores, labels, resamples)


def by_quality(one, scorer, adjusted=False):
    """Return how soon a case's images are read again by cleanlab's label quality, (m, s, n) float64; highest first.

    Parameters
    ----------
    one : JudgedImages
    scorer : str
        Of `one.scores`.
    adjusted : bool
        As in `label_quality`; the means that are subtracted are those over all images of the pool.
    """
    scores = one.scores[scorer]
    rows = scores.reshape(-1, len(one.labels))
    quality = [label_quality(one.labels, row, adjusted=adjusted)[one.index] for row in rows]
    return -np.reshape(quality, (*scores.shape[:2], -1))


def strategies(one):
    """Return in which order each strategy reads a case's images again, (m, s, n) float64 by name; highest first.

    `QUALITY` is cleanlab's self-confidence on calibrated scores; the same with other calibrations, and with each
    label's mean probability subtracted, is alongside. `ABSENT` reads only images that are reported absent, the
    highest score first, and `PRESENT` only those reported present, the lowest first; once these are spent, they read
    the others in random order. Then the controls.
    """
    present = one.given == 1
    orders = {
        QUALITY: by_quality(one, NETWORK),
        f"{QUALITY}, uncalibrated": by_quality(one, "uncalibrated"),
        f"{QUALITY}, isotonic": by_quality(one, "isotonic"),
        f"{QUALITY}, thresholds subtracted": by_quality(one, NETWORK, adjusted=True),
        SHUFFLED_SCORES: by_quality(one, SHUFFLED_SCORES),
        METADATA_ALONE: by_quality(one, METADATA_ALONE),
        RANDOM_REVIEW: np.zeros((1, 1, len(present))),
    }
    for scorer, prefix in ((NETWORK, ""), (METADATA_ALONE, f"{METADATA_ALONE}, ")):
        orders[prefix + ABSENT] = np.where(present, -1, one.of(scorer))
        orders[prefix + PRESENT] = np.where(present, -one.of(scorer), -2)
    return orders


class Reviewed(NamedTuple):
    """What a strategy finds: by measure, on all images (m, k), and the mean over networks in each resample (b, k)."""

    estimates: dict
    replicates: dict


_PER_READ = ("precision", "missed", "overcalls", "called")


def _measures(found):
    """Return the measures of a `review.Within`; what it holds of all images becomes a fraction of the reads."""
    rates = {name: getattr(found, name) / found.budgets for name in _PER_READ[1:]}
    others = ("precision", "ceiling", "same_labels_at_random", "sensitivity", "ppv")
    return rates | {name: getattr(found, name) for name in others}


def _mean(parts):
    return {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}


def budgets(images_n):
    """Return every budget of a case, as fractions of its images, by what to call it."""
    named = {f"{reads} images": reads / images_n for reads in READS if reads <= images_n}
    named |= {f"{100 * share:.0f} % of images": share for share in SHARES}
    return named | {float(share): share for share in CURVE}


def reviewed(one):
    """Return what every strategy finds within every budget (`budgets`), by name.

    `SAME_LABELS` and `CEILING` are added, which are no orders: what `QUALITY` would find if it read any images of the
    same labels, and what a review would that knew all errors.
    """
    spent = np.array(list(budgets(len(one.given)).values()))
    out = {}
    for name, priorities in strategies(one).items():
        estimates, replicates = [], []
        for shuffles in priorities:
            both = [
                _mean([_measures(review.within(one.given, one.truth, order, spent, r)) for order in shuffles])
                for r in (None, one.resamples)
            ]
            estimates.append(both[0])
            replicates.append(both[1])
        stacked = {measure: np.stack([part[measure] for part in estimates]) for measure in estimates[0]}
        out[name] = Reviewed(stacked, _mean(replicates))
    for name, measure in ((SAME_LABELS, "same_labels_at_random"), (CEILING, "ceiling")):
        out[name] = Reviewed(*({"precision": part[measure]} for part in out[QUALITY]))
    return out
