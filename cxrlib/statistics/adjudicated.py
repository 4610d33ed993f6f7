"""AUC, sensitivity, PPV and prevalence by radiologists' labels of some images, with report labels of all.

Scores and report labels are known of all images of an archive, adjudicated labels of those that were drawn with known
probabilities, whole patients or single images. `estimates` returns each measure by up to five methods:

- `reports`: report labels stand for the truth, and nothing is adjudicated.
- `mixed`: adjudicated labels where there are some, report labels elsewhere.
- `adjudicated`: adjudicated images alone, weighted by the inverse of their probability (IPW of Alonzo and Pepe, J R
  Stat Soc C 2005;54:173).
- `independence`: by report labels, corrected for their errors as if the score told nothing about them once the truth
  is known. Then AUC_R - 0.5 = (AUC - 0.5) (PPV + NPV - 1), with the PPV and NPV of report for adjudicated labels.
- `augmented`: augmented inverse probability weighting. A model gives each image a chance q of the finding, and its
  pseudo-label is q + A / p (Y - q), where A says whether it was adjudicated, Y how, and p is its probability (the
  semiparametric efficient estimator of Alonzo and Pepe 2005; doubly robust for the AUC, Rotnitzky, Faraggi and
  Schisterman, J Am Stat Assoc 2006, doi:10.1198/016214505000001339; prediction-powered inference, Angelopoulos et
  al., Science 2023;382:669, is the same with a q from elsewhere). As p is known, it is consistent whatever q is.

The chance q is a logistic regression on the rank of the score, the report label and their product, fitted without
the patients that it is applied to (`chances`). Begg and Greenes (Biometrics 1983;39:207) take such a chance for the
truth; here it only lowers the variance. PPI++ (arXiv:2311.01453) scales the model's part by a factor that it tunes,
as a guard against predictions from elsewhere. If the chance is right given score and report, its error is
uncorrelated with it and the best factor is 1, so none is tuned; `Contributions.factor` says what it would be.

Images of one patient are adjudicated together, so that the product of their pseudo-labels is off by
(1 / p - 1) (Y - q) (Y' - q') on average, and so is the product of an image's pseudo-label with itself. `_pair_sums`
takes that out. With everything adjudicated, the AUC is that of `accuracy.auc`.

Standard errors come from what each patient adds to the estimate, so that they cost no more than the estimate; a study
of many draws would need a bootstrap of each. Fitting the chance adds nothing to first order, as p is known.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from cxrlib.statistics import intervals, resampling

METHODS = ("reports", "mixed", "adjudicated", "independence", "augmented")
RATES = ("sensitivity", "ppv", "prevalence")

FOLDS_N = 5
_STEPS_N = 32  # of the score's rank in the model of the chance: twice as many move standard errors by 1 %
_PRIOR_SD = np.array([10.0, 2.0, 2.0, 2.0])  # of its coefficients: weak, so that few positives give a finite fit
_AT_ONCE = 1 << 18  # numbers in one array of the work: what a processor's cache holds


class Estimates(NamedTuple):
    """An estimate in each of b draws of adjudicated images, with its standard errors; arrays (b,)."""

    estimate: np.ndarray
    se: np.ndarray  # for all patients like those of the archive
    se_archive: np.ndarray  # for the archive: for what the same method gives when all of it is adjudicated
    freedom: np.ndarray  # degrees of freedom of the standard errors
    patients_n: np.ndarray  # adjudicated patients with the finding, or without it, whichever are fewer


class _Groups:
    """Sums of per-image values by group, (b, n) to (b, groups)."""

    def __init__(self, group):
        self.group = group
        self.by_group = np.argsort(group, kind="stable")
        self.names, self.starts, self.sizes = np.unique(group[self.by_group], return_index=True, return_counts=True)
        self.first = self.by_group[self.starts]

    def sums(self, values):
        return np.add.reduceat(np.take(values, self.by_group, axis=1), self.starts, axis=1)


class _Ranks:
    """Sums over the images of a group that score lower than each image; the images are in order of their scores."""

    def __init__(self, score, group):
        self.order = np.argsort(group, kind="stable")
        group, score = group[self.order], score[self.order]
        new_group = np.r_[True, group[1:] != group[:-1]]
        new_value = new_group | np.r_[True, score[1:] != score[:-1]]
        first, place = np.flatnonzero(new_value), np.argsort(self.order, kind="stable")
        tie = np.cumsum(new_value)[place] - 1
        self.start = np.flatnonzero(new_group)[np.cumsum(new_group)[place] - 1]
        self.lower, self.upper = first[tie], np.r_[first[1:], len(score)][tie]

    def below(self, values):
        """Return for each image the sum of a value over the images below it, and half of those with its own score."""
        sums = resampling.cumulated(np.take(values, self.order, axis=1))
        twice = np.take(sums, self.lower, axis=1)
        twice += np.take(sums, self.upper, axis=1)
        if self.start.any():
            twice -= 2 * np.take(sums, self.start, axis=1)
        twice *= 0.5
        return twice


class ScoredArchive:
    """Scores and report labels of all images, and what is computed from them once.

    Parameters
    ----------
    score : (n,) array of float
        For the AUC any scale will do.
    report : (n,) array of 0/1
    patient_id : (n,) array
    whole_patients : bool
        Whether all images of a patient are adjudicated or none; otherwise each image is drawn for itself.
    cut : float
        The decision is `score >= cut`; only sensitivity and PPV need it.

    Raises
    ------
    ValueError
        If a score is NaN, a report label is neither 0 nor 1, or a patient is missing.
    """

    def __init__(self, score, report, patient_id, whole_patients=True, cut=np.nan):
        label, score = resampling.clean_scores(report, score)
        patient = resampling.patient_resamples(patient_id, 0, np.random.default_rng(0)).patient
        self.order = np.argsort(score, kind="stable")  # in which images are held here
        self.score, self.report, self.cut = score[self.order], label[self.order].astype(float), cut
        patient = patient[self.order]
        unit = patient if whole_patients else self.order
        step = np.floor(_STEPS_N * (rankdata(self.score) - 0.5) / len(unit)).astype(int)
        self.patients, self.units = _Groups(patient), _Groups(unit)
        self.cells = _Groups((patient % FOLDS_N * _STEPS_N + step) * 2 + label[self.order])
        self.ranks, self.ranks_in_unit = _Ranks(self.score, np.zeros_like(unit)), _Ranks(self.score, unit)

    def __len__(self):
        return len(self.score)


def chances(images, truth, adjudicated):
    """Return the chance of the finding given score and report label, (b, n) float64 in (0, 1).

    A logistic regression on the normal score of the score's rank, the report label and their product, with weak
    normal priors (the maximum of the posterior, by Newton's method). It is fitted on the adjudicated images of all
    patients but a fifth, and applied to that fifth. It needs no weights: how likely an image was to be drawn may
    depend on score and report, which are in the model.

    Parameters
    ----------
    images : ScoredArchive
    truth : (n,) array of 0/1
        Only those of adjudicated images are read.
    adjudicated : (b, n) bool
    """
    rank = np.repeat(norm.ppf((np.arange(_STEPS_N) + 0.5) / _STEPS_N), 2)
    report = np.tile([-0.5, 0.5], _STEPS_N)
    design = np.stack([np.ones_like(rank), rank, report, rank * report], axis=1)
    counts = np.zeros((2, len(adjudicated), FOLDS_N * len(design)))
    counts[0][:, images.cells.names] = images.cells.sums(np.where(adjudicated, truth, 0.0))
    counts[1][:, images.cells.names] = images.cells.sums(adjudicated.astype(float))
    counts = counts.reshape(2, len(adjudicated), FOLDS_N, len(design))
    fitted = _fitted(*(counts.sum(2, keepdims=True) - counts).reshape(2, -1, len(design)), design)
    return np.take(fitted.reshape(len(adjudicated), -1), images.cells.group, axis=1)


def _fitted(positive_n, all_n, design):
    """Return the chances of logistic regressions on counts in cells, (fits, cells)."""
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    precision = 1 / _PRIOR_SD**2
    at = np.zeros((len(all_n), len(precision)))
    at[:, 0] = logit((positive_n.sum(1) + 0.5) / (all_n.sum(1) + 1))
    for _ in range(30):
        chance = _logistic(at @ design.T)
        gradient = (positive_n - all_n * chance) @ design - precision * at
        curvature = (all_n * chance * (1 - chance)) @ products
        curvature = curvature.reshape(len(at), len(precision), -1) + np.diag(precision)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        at += step / np.maximum(1, np.abs(step).max(1, keepdims=True) / 2)
        if np.abs(step).max() < 1e-5:
            break
    return _logistic(at @ design.T)


def _logistic(values):
    return 1 / (1 + np.exp(-values))  # a tenth of the time of scipy's, and no value here is beyond its range


class _Masses(NamedTuple):
    """How much of each image counts as positive and as negative, and what of that hangs on the draw; (b, n)."""

    positive: np.ndarray
    negative: np.ndarray
    labelled_positive: np.ndarray  # what an adjudicated image adds to `positive`, before its weight
    labelled_negative: np.ndarray
    spread: np.ndarray  # the weight of a squared sum over a unit in the variance that the draw gives
    twice: np.ndarray  # by how much products within a unit count too often


def _masses(method, images, truth, adjudicated, probability):
    weight = adjudicated / probability
    label, spread = np.where(adjudicated, truth, 0.0), weight * (weight - 1)
    if method == "adjudicated":
        other = adjudicated - label
        return _Masses(weight * label, weight * other, label, other, spread, spread)
    twice = spread
    if method == "augmented":
        base = chances(images, truth, adjudicated)
    else:
        base = np.broadcast_to(images.report, adjudicated.shape)
        weight = adjudicated * float(method == "mixed")
        spread, twice = weight * (1 - probability), np.zeros_like(spread)
    error = np.where(adjudicated, label - base, 0.0)
    positive = base + weight * error
    return _Masses(positive, 1 - positive, error, -error, spread, twice)


def _pair_sums(images, masses):
    """Return, of all pairs of a positive with a negative image, those won and all, and per image what each side wins.

    Returns
    -------
    won, all_n : (b,) float64
    beaten, lost : (b, n) float64
        The negative mass that an image beats, and the positive mass that beats it.
    """
    beaten = images.ranks.below(masses.negative)
    positive_n = masses.positive.sum(1)
    won, all_n = np.einsum("bi,bi->b", masses.positive, beaten), positive_n * masses.negative.sum(1)
    if masses.twice.any():
        within = masses.twice * masses.labelled_positive
        won = won - np.einsum("bi,bi->b", within, images.ranks_in_unit.below(masses.labelled_negative))
        all_n = all_n - (images.units.sums(within) * images.units.sums(masses.labelled_negative)).sum(1)
    return won, all_n, beaten, positive_n[:, None] - images.ranks.below(masses.positive)


def _auc(images, masses):
    """Return the AUC, (b,), and what more positive and more negative mass at each image adds to it, (b, n) each."""
    won, all_n, beaten, lost = _pair_sums(images, masses)
    area = won / all_n
    more = beaten - (area * masses.negative.sum(1))[:, None]
    less = lost - (area * masses.positive.sum(1))[:, None]
    return area, more / all_n[:, None], less / all_n[:, None]


def _rate(measure, images, masses):
    """Return sensitivity, PPV or prevalence as `_auc` returns the AUC."""
    counted = np.ones(len(images)) if measure == "prevalence" else _called(images)
    top = masses.positive @ counted
    if measure == "sensitivity":
        all_n = masses.positive.sum(1)
        rate = top / all_n
        return rate, (counted - rate[:, None]) / all_n[:, None], np.zeros((1, 1))
    all_n = top + masses.negative @ counted
    rate = top / all_n
    return rate, counted * ((1 - rate) / all_n)[:, None], -counted * (rate / all_n)[:, None]


def _called(images):
    return (images.score >= images.cut).astype(float)


def _of_draw(images, values, spread, probability):
    """Return what each unit adds to the variance that the draw gives to a weighted sum, that variance, and their sum.

    Units of one probability are a stratum: how many of them are drawn is fixed, so that only differences count, and
    the variance is less than the sum of what units add.
    """
    first = images.units.first
    spread, totals = spread[:, first], images.units.sums(values)
    strata = _Groups(np.unique(probability[first], return_inverse=True)[1])
    mask = spread > 0
    units_n = np.maximum(strata.sums(mask.astype(float)), 1)
    per_unit, total, square = (strata.sums(part) for part in (spread, mask * totals, mask * totals**2))
    within = np.where(units_n > 1, (square - total**2 / units_n) * units_n / np.maximum(units_n - 1, 1), square)
    squares = spread * totals**2
    return squares, (per_unit / units_n * within).sum(1), squares.sum(1)


def _finished(images, estimate, influence, values, spread, probability, patients_n):
    """Return `Estimates`, from what each image adds to the estimate (`influence`) and what its label does (`values`).

    Degrees of freedom are Satterthwaite's, with the fourth moment of what patients (or images) add, so that a few
    large ones count as few, and at most the patients of the rarer class less one.
    """
    by_patient = images.patients.sums(influence)
    all_n = by_patient.shape[1]
    squares, of_draw, unstratified = _of_draw(images, values, spread, probability)
    variance = (by_patient**2).sum(1) * all_n / max(all_n - 1, 1) - unstratified + of_draw
    labelled_n = np.maximum((squares > 0).sum(1), 1)
    relative = (squares**2).sum(1) / np.maximum(unstratified, 1e-300) ** 2 - 1 / labelled_n
    freedom = np.where(labelled_n > 1, np.fmin(2 / np.maximum(relative, 1e-9), patients_n - 1), patients_n - 1)
    return Estimates(estimate, np.sqrt(np.maximum(variance, of_draw)), np.sqrt(of_draw), freedom, patients_n)


def _by_masses(measure, images, masses, probability, patients_n):
    value, more, less = _auc(images, masses) if measure == "auc" else _rate(measure, images, masses)
    influence = masses.positive * more + masses.negative * less
    values = masses.labelled_positive * more + masses.labelled_negative * less
    return _finished(images, value, influence, values, masses.spread, probability, patients_n)


def _by_independence(measure, images, truth, adjudicated, probability, patients_n):
    """Return an estimate as if score and report label were independent given the truth (delta method)."""
    weight, report = adjudicated / probability, images.report
    label = np.where(adjudicated, truth, 0.0)
    said, unsaid = (weight @ part[:, None] for part in (report, 1 - report))
    ppv = (weight * label) @ report[:, None] / said
    npv = (weight * (1 - label)) @ (1 - report)[:, None] / unsaid
    per_ppv = adjudicated * report * (label - ppv) / said
    per_npv = adjudicated * (1 - report) * (1 - label - npv) / unsaid
    gain = ppv + npv - 1
    if measure == "auc":
        masses = _masses("reports", images, truth, adjudicated[:1], probability)
        area, more, less = _auc(images, masses)
        value = 0.5 + (area - 0.5) / gain
        fixed = (masses.positive * more + masses.negative * less) / gain
        values = -(value - 0.5) / gain * (per_ppv + per_npv)
    else:
        value, fixed, values = _rate_by_independence(measure, images, ppv, npv, per_ppv, per_npv)
    spread = weight * (weight - 1)
    return _finished(images, value[:, 0], fixed + weight * values, values, spread, probability, patients_n)


def _rate_by_independence(measure, images, ppv, npv, per_ppv, per_npv):
    """Return the rate, what each image adds to it by score and report, and what by its adjudicated label."""
    report, gain, images_n = images.report, ppv + npv - 1, len(images)
    share = report.mean()
    prevalence = ppv * share + (1 - npv) * (1 - share)
    of_prevalence = gain * (report - share) / images_n, share * per_ppv - (1 - share) * per_npv
    if measure == "prevalence":
        return prevalence, *of_prevalence
    called = _called(images)
    of_said, of_unsaid = called @ report / report.sum(), called @ (1 - report) / (1 - report).sum()
    per_said = report * (called - of_said) / report.sum()
    per_unsaid = (1 - report) * (called - of_unsaid) / (1 - report).sum()
    value = (npv * of_said - (1 - ppv) * of_unsaid) / gain
    fixed = (npv * per_said - (1 - ppv) * per_unsaid) / gain
    values = (of_said * per_npv + of_unsaid * per_ppv - value * (per_ppv + per_npv)) / gain
    if measure == "sensitivity":
        return value, fixed, values
    rate = called.mean()
    ppv_of_score = value * prevalence / rate
    fixed = (prevalence * fixed + value * of_prevalence[0] - ppv_of_score * (called - rate) / images_n) / rate
    return ppv_of_score, fixed, (prevalence * values + value * of_prevalence[1]) / rate


def estimates(images, truth, adjudicated, probability, methods=METHODS, measures=("auc",)):
    """Return measures of a score by radiologists' labels, by several methods, in each of b draws.

    Parameters
    ----------
    images : ScoredArchive
    truth : (n,) array of 0/1
        Adjudicated labels; of images that no draw holds they may be anything, such as NaN.
    adjudicated : (b, n) or (n,) bool
        Which images each draw holds.
    probability : (n,) array in (0, 1]
        With which each image, or its patient, was drawn.
    methods : sequence of str
        Of `METHODS`.
    measures : sequence of str
        `auc` and `RATES`.

    Returns
    -------
    dict of (measure, method) to Estimates
        NaN where the adjudicated images are of one class (methods `adjudicated`, `independence`, `augmented`).

    Raises
    ------
    ValueError
        If a draw holds no image, a probability lies outside (0, 1], an adjudicated label is neither 0 nor 1, a
        patient is adjudicated in part or with several probabilities though whole patients are drawn, or there is no
        cut for a rate.
    """
    adjudicated = np.atleast_2d(np.asarray(adjudicated, bool))
    truth, probability = np.asarray(truth, float), np.asarray(probability, float)
    _check_values(truth, adjudicated, probability)
    adjudicated, truth, probability = adjudicated[:, images.order], truth[images.order], probability[images.order]
    _check_draw(images, adjudicated, probability)
    if np.isnan(images.cut) and set(measures) & {"sensitivity", "ppv"}:
        raise ValueError("Sensitivity and PPV need a decision threshold: give `cut` to the archive.")
    step = max(1, _AT_ONCE // len(images))
    parts = [
        resampling.quiet(partial(_of_some, images, truth, probability, methods, measures), adjudicated[k : k + step])
        for k in range(0, len(adjudicated), step)
    ]
    return {key: Estimates(*map(np.concatenate, zip(*(p[key] for p in parts), strict=True))) for key in parts[0]}


def _check_values(truth, adjudicated, probability):
    if not adjudicated.any(1).all():
        raise ValueError("No image is adjudicated: there is nothing to correct report labels by.")
    bad = ~((probability > 0) & (probability <= 1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"probability {row} is {probability[row]:g}: it must lie above 0 and not above 1.")
    bad = adjudicated.any(0) & ~np.isin(truth, (0, 1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"adjudicated label {row} is {truth[row]:g}: resolve uncertain and missing labels first.")


def _check_draw(images, adjudicated, probability):
    units = images.units
    part = units.sums(adjudicated.astype(float)) % units.sizes
    first = probability[units.first]
    if part.any() or not np.isclose(units.sums(probability[None])[0], first * units.sizes).all():
        raise ValueError("Whole patients are drawn, but one is adjudicated in part or has several probabilities.")


def _of_some(images, truth, probability, methods, measures, adjudicated):
    label = np.where(adjudicated, truth, 0.0)
    classes = label, adjudicated - label
    known = np.logical_and(*(part.any(1) for part in classes))
    rests_on = np.minimum(*(_patients_n(images, part, probability) for part in classes))
    reported_n = min((images.patients.sums(part[None]) > 0).sum() for part in (images.report, 1 - images.report))
    out = {}
    for method in methods:
        patients_n = np.full(len(known), float(reported_n)) if method == "reports" else rests_on
        if method == "independence":
            by = partial(_by_independence, images=images, truth=truth, adjudicated=adjudicated)
        else:
            by = partial(_by_masses, images=images, masses=_masses(method, images, truth, adjudicated, probability))
        for measure in measures:
            value = by(measure, probability=probability, patients_n=patients_n)
            if method not in ("reports", "mixed"):
                value = Estimates(*(np.where(known, part, np.nan) for part in value))
            out[measure, method] = value
    return out


def _patients_n(images, present, probability):
    """Return on how many adjudicated patients of one class a standard error rests, (b,) float64.

    It is at most the effective number of what was drawn (Kish), by its weights in the variance that the draw gives:
    a class that is seen only where everything is adjudicated tells nothing of where it is not.
    """
    patients_n = (images.patients.sums(present) > 0).sum(1).astype(float)
    spread = ((1 - probability) / probability**2)[images.units.first]
    if not spread.any():
        return patients_n
    spread = (images.units.sums(present) > 0) * spread
    return np.minimum(patients_n, spread.sum(1) ** 2 / np.maximum((spread**2).sum(1), 1e-300))


def ends(values, se):
    """Return the ends of 95 % intervals, (b,) each: Student's, on the logit scale where the estimate lies in (0, 1).

    Parameters
    ----------
    values : Estimates
    se : (b,) array
        One of the two standard errors of `values`.
    """
    reach = student.ppf(0.975, np.maximum(values.freedom, 1)) * se
    inside = (values.estimate > 0) & (values.estimate < 1)
    middle = np.where(inside, values.estimate, 0.5)
    on_logit = reach / (middle * (1 - middle))
    low, high = (
        np.where(inside, expit(logit(middle) + sign * on_logit), values.estimate + sign * reach) for sign in (-1, 1)
    )
    return low, high


def as_interval(values):
    """Return the one estimate of `Estimates` with its 95 % interval for patients like these.

    Fewer than `intervals.FEW_PATIENTS` adjudicated patients with the finding, or without it, give no interval.
    """
    patients_n = float(values.patients_n[0])
    if np.isnan(values.estimate[0]):
        return intervals.Interval(np.nan, np.nan, np.nan, "undefined: all adjudicated images are of one class")
    if patients_n < intervals.FEW_PATIENTS:
        few = f"no interval: it rests on {patients_n:.0f} adjudicated patients, fewer than {intervals.FEW_PATIENTS}"
        return intervals.Interval(float(values.estimate[0]), np.nan, np.nan, few)
    low, high = ends(values, values.se)
    return intervals.Interval(float(values.estimate[0]), float(low[0]), float(high[0]))


class Contributions(NamedTuple):
    """Of each unit that is drawn, what its labels add to the AUC, and what of that was predictable.

    With m of N units drawn at random, the variance of the estimate is to first order N^2 (1 / m - 1 / N) times the
    variance between units of `whole` (adjudicated alone) or of `whole - predicted` (augmented).
    """

    whole: np.ndarray  # (units,): patients in the order of their sorted ids, or images in their own
    predicted: np.ndarray

    @property
    def factor(self):
        """By what the predicted part would be multiplied for the least variance (PPI++); 1 if it is calibrated."""
        return float(np.cov(self.whole, self.predicted)[0, 1] / np.var(self.predicted, ddof=1))


def contributions(images, truth):
    """Return what each unit adds to the AUC of a whole archive that is adjudicated, as `Contributions`.

    Parameters
    ----------
    images : ScoredArchive
    truth : (n,) array of 0/1
    """
    truth, everything = np.asarray(truth, float)[images.order], np.ones((1, len(images)), bool)
    masses = _masses("adjudicated", images, truth, everything, np.ones(len(images)))
    _, more, less = _auc(images, masses)
    chance = chances(images, truth, everything)
    each = (images.units.sums(part * more + (1 - part) * less)[0] for part in (truth, chance))
    return Contributions(*each)
