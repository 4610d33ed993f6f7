"""Statistics of the dose-response study: slopes, what changes them, and what is left where reports score the test.

All networks are scored on the same simulated test images, and every number is a combination of their AUCs. A *line*
is what doses lie on: a size, a mechanism, a correlation and a sensitivity. Test labels are

- `drawn`: what was drawn,
- `radiologist`: the simulated radiologist of the line, who also labelled the training images of scale 0,
- `reports`: the line's simulated reports at the greatest scale, drawn anew for each seed.

Intervals are over test patients and training seeds (`intervals.over_seeds`). A seed redraws the training patients,
the first weights, the order of batches and the noise of training and report labels; the test images are fixed.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from cxrlib.networks import dose_scores
from cxrlib.statistics import accuracy, attenuation, intervals, resampling

BY_DRAWN, BY_RADIOLOGIST, BY_REPORTS = SCORERS = ("drawn", "radiologist", "reports")


def level_areas(levels, label, patient, weights):
    """Return the AUC of scores that are few levels, over all images and in each resample; ties count half.

    The same numbers as `accuracy.auc`, in a fraction of the time: images of a patient and level are counted once.

    Parameters
    ----------
    levels : (n,) uint8
    label : (n,) array of 0/1
    patient : (n,) int
        Which patient each image is of.
    weights : (patients_n, 1 + b) float32
        How often each patient counts: once, and in each resample (`patient_weights`).

    Returns
    -------
    area : float
    replicates : (b,) float64
        NaN where a class is absent.
    """
    label = np.asarray(label) == 1
    shape = dose_scores.LEVELS_N, len(weights)
    above, below = (
        csr_array((np.ones(chosen.sum(), np.float32), (levels[chosen], patient[chosen])), shape=shape) @ weights
        for chosen in (label, ~label)
    )
    beaten = np.cumsum(below, axis=0, dtype=np.float64)
    beaten -= below / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = np.einsum("lb,lb->b", above, beaten) / (above.sum(0, dtype=float) * below.sum(0, dtype=float))
    return float(areas[0]), areas[1:]


def patient_weights(resamples):
    """Return how often each patient counts in the whole sample and in each resample, (patients_n, 1 + b) float32."""
    once = np.ones((1, resamples.counts.shape[1]), np.float32)
    return np.ascontiguousarray(np.concatenate([once, resamples.counts]).T)


@dataclass(frozen=True)
class Line:
    """What doses lie on: everything about a training but its seed and the scale of its noise."""

    size: int
    mechanism: str
    correlation: float
    sensitivity: float


class DoseResponse:
    """The AUCs of all trainings, on resamples of test patients made once.

    A combination is a mapping of (line, scale) to its weight: its estimate is the weighted sum of AUCs, for each seed
    and in each resample for the mean over seeds.

    Parameters
    ----------
    scores : dose_scores.DoseScores
    resamples_n : int
    rng : numpy.random.Generator

    Attributes
    ----------
    seeds : list of int
    scales, sizes : list
        In ascending order.
    base : Line
        That on which the factors cross.
    """

    def __init__(self, scores, resamples_n, rng):
        self.scores = scores
        self.resamples = resampling.patient_resamples(scores.test["patient_id"], resamples_n, rng)
        self._weights = patient_weights(self.resamples)
        grid = scores.runs[scores.runs["role"] == dose_scores.GRID]
        self.seeds, self.scales, self.sizes = (
            sorted(grid[name].unique().tolist()) for name in ("seed", "scale", "size")
        )
        self._at = {
            (Line(r.size, r.mechanism, r.correlation, r.sensitivity), r.scale, r.seed): r.Index
            for r in grid.itertuples()
        }
        self._areas = {}
        self._noiseless = grid.loc[grid["scale"] == 0, ["mechanism", "correlation"]].iloc[0].to_dict()
        most = grid[grid["scale"] == self.scales[-1]].groupby("size").size().idxmax()
        readers = grid.groupby("sensitivity").size()
        self.base = Line(int(most), sensitivity=float(readers.idxmax()), **self._noiseless)

    def lines(self):
        """Return the lines at the size of `base`, on which every scale was trained, in the order of the trainings."""
        found = dict.fromkeys(line for line, scale, _ in self._at if line.size == self.base.size and scale > 0)
        return sorted(found, key=lambda line: -line.sensitivity)

    def size_lines(self, sensitivity=None):
        """Return the line of every size, of the mechanism and correlation of `base`."""
        changed = {} if sensitivity is None else {"sensitivity": sensitivity}
        return [replace(self.base, size=size, **changed) for size in self.sizes]

    def readers(self):
        """Return the sensitivities of the radiologists, the one of `base` first."""
        return list(dict.fromkeys(line.sensitivity for line in (self.base, *self.lines())))

    def row(self, line, scale, seed):
        """Return which training is of a line, scale and seed; without noise all mechanisms share one.

        Raises
        ------
        KeyError
            If it was not trained.
        """
        line = replace(line, **self._noiseless) if scale == 0 else line
        return self._at[line, scale, seed]

    def label(self, line, scorer, seed):
        """Return the test labels (n,) of 0/1 of a scorer."""
        if scorer == BY_DRAWN:
            return self.scores.test["drawn"].to_numpy()
        if scorer == BY_RADIOLOGIST:
            return self.scores.test[dose_scores.of_reader(line.sensitivity)].to_numpy()
        at_base = replace(line, size=self.base.size)
        return self.scores.reports[self.row(at_base, self.scales[-1], seed)].astype(int)

    def areas(self, line, scale, scorer):
        """Return the AUCs of one dose, each seed's (seeds,) and each seed's in each resample (seeds, b)."""
        each = [self._area(self.row(line, scale, seed), line, scorer, seed) for seed in self.seeds]
        return np.array([area for area, _ in each]), np.stack([replicates for _, replicates in each])

    def _area(self, row, line, scorer, seed):
        key = row, *({BY_DRAWN: (), BY_RADIOLOGIST: (line.sensitivity,)}.get(scorer, (replace(line, size=0), seed)))
        if (key, scorer) not in self._areas:
            label = self.label(line, scorer, seed)
            found = level_areas(self.scores.levels[row], label, self.resamples.patient, self._weights)
            self._areas[key, scorer] = found
        return self._areas[key, scorer]

    def of_role(self, role, scale):
        """Return the AUCs of a control, scored by the radiologist of `base`, as `areas` does."""
        runs = self.scores.runs
        rows = runs.index[(runs["role"] == role) & (runs["scale"] == scale)]
        by_seed = {runs.at[row, "seed"]: row for row in rows}
        each = [self._area(by_seed[seed], self.base, BY_RADIOLOGIST, seed) for seed in self.seeds]
        return np.array([area for area, _ in each]), np.stack([replicates for _, replicates in each])

    def combined(self, weights, scorer):
        """Return a combination of AUCs: of each seed (seeds,), and of their mean in each resample (b,)."""
        each, replicates = 0.0, 0.0
        for (line, scale), weight in weights.items():
            areas, resampled = self.areas(line, scale, scorer)
            each, replicates = each + weight * areas, replicates + weight * resampled.mean(0)
        return each, replicates

    def estimate(self, weights, scorer):
        """Return a combination of AUCs with its interval over patients and seeds, as `intervals.over_seeds`."""
        return intervals.over_seeds(*self.combined(weights, scorer))

    def slope(self, line):
        """Return the combination that is the least-squares slope of the AUC over the scale of the noise."""
        from_mean = np.array(self.scales) - np.mean(self.scales)
        return {(line, s): float(w) for s, w in zip(self.scales, from_mean / np.sum(from_mean**2), strict=True)}

    def bend(self, line):
        """Return the combination that is the AUC at half the noise less the mean of none and all; 0 if straight."""
        low, high = self.scales[0], self.scales[-1]
        middle = min(self.scales, key=lambda s: abs(s - (low + high) / 2))
        share = (middle - low) / (high - low)
        return {(line, middle): 1.0, (line, low): share - 1, (line, high): -share}


def total(*parts):
    """Return the weighted sum of combinations, given as (weight, combination)."""
    out = {}
    for weight, combination in parts:
        for key, value in combination.items():
            out[key] = out.get(key, 0.0) + weight * value
    return out


def _row(line, names=("size", "mechanism", "correlation", "sensitivity")):
    return {name: getattr(line, name) for name in names}


def dose_curves(study):
    """Return the AUC of every dose by every scorer; without noise all mechanisms have one network in common.

    Returns
    -------
    pandas.DataFrame
        `size, mechanism, correlation, sensitivity, scale, scored_against, estimate, low, high, reason, seed_sd`.
    """
    wanted = [
        (line, scale) for line in dict.fromkeys((*study.size_lines(), *study.lines())) for scale in study.scales
    ]
    ends = study.scales[0], study.scales[-1]
    wanted += [(line, scale) for r in study.readers()[1:] for line in study.size_lines(r) for scale in ends]
    rows = []
    for line, scale in dict.fromkeys(wanted):
        for scorer in SCORERS:
            each, replicates = study.combined({(line, scale): 1.0}, scorer)
            found = intervals.area_over_seeds(each, replicates)._asdict()
            spread = float(np.std(each, ddof=1)) if len(each) > 1 else np.nan
            rows.append({**_row(line), "scale": scale, "scored_against": scorer, **found, "seed_sd": spread})
    return pd.DataFrame(rows)


def slopes(study):
    """Return how much AUC a unit of noise costs on every line, and how far the response is from a straight line.

    Returns
    -------
    pandas.DataFrame
        `measure` (`slope` per unit of noise, `bend`), the line, `scored_against`, the columns of
        `intervals.over_seeds`, `p_holm` over the rows of one measure and scorer.
    """
    rows = []
    for measure, combination in (("slope", study.slope), ("bend", study.bend)):
        for scorer in SCORERS:
            for line in dict.fromkeys((*study.lines(), *study.size_lines())):
                found = study.estimate(combination(line), scorer)
                rows.append({"measure": measure, **_row(line), "scored_against": scorer, **found})
    return _with_holm(pd.DataFrame(rows), ["measure", "scored_against"])


def slope_differences(study):
    """Return what each factor does to the slope, on the average of the other factors and on every line.

    Seed by seed, so that what the seeds share is gone. A factor's effect on average is tested with the others' in one
    family for each scorer, the effects on single lines in another.

    Returns
    -------
    pandas.DataFrame
        `factor, comparison, at, scored_against`, the columns of `intervals.over_seeds`, `p_holm`.
    """
    rows = []
    for factor, comparison, pairs in _pairs(study):
        change = [(at, total((1, study.slope(a)), (-1, study.slope(b)))) for at, a, b in pairs]
        mean = total(*((1 / len(change), one) for _, one in change))
        for at, one in [("mean", mean), *(change if len(change) > 1 else [])]:
            for scorer in SCORERS:
                where = {"factor": factor, "comparison": comparison, "at": at, "scored_against": scorer}
                rows.append({**where, **study.estimate(one, scorer)})
    table = pd.DataFrame(rows)
    family = table["at"].eq("mean").map({True: "on average", False: "on a line"}).rename("family")
    return _with_holm(table.assign(family=family), ["family", "scored_against"])


def _pairs(study):
    """Yield each factor, what is compared, and the pairs of lines: (where, first, second)."""
    lines, base = study.lines(), study.base

    def some(factor, value, less, text):
        pairs = [
            (_text(line, factor), line, replace(line, **{factor: less}))
            for line in lines
            if getattr(line, factor) == value and replace(line, **{factor: less}) in lines
        ]
        return factor, text, pairs

    for mechanism in dict.fromkeys(line.mechanism for line in lines if line.mechanism != base.mechanism):
        yield some("mechanism", mechanism, base.mechanism, f"{mechanism} - {base.mechanism}")
    for name in ("correlation", "sensitivity"):
        for value in sorted({getattr(line, name) for line in lines} - {getattr(base, name)}):
            yield some(name, value, getattr(base, name), f"{value:g} - {getattr(base, name):g}")
    least, *_, most = study.size_lines()
    yield "size", f"{most.size} - {least.size}", [(_text(base, "size"), most, least)]


def _text(line, without):
    parts = {name: value for name, value in _row(line).items() if name not in (without, "size")}
    words = {"mechanism": "{}", "correlation": "correlation {:g}", "sensitivity": "radiologist {:g}"}
    return ", ".join(words[name].format(value) for name, value in parts.items())


def _with_holm(table, family):
    adjusted = table.groupby(family, sort=False)["p"].transform(lambda p: intervals.holm(p))
    return table.assign(p_holm=adjusted)


def lead_by_reports(study):
    """Return what is left of the radiologist's lead where report labels score the test.

    The lead is the AUC without noise less that with all of it. If the errors of the test labels have nothing to do
    with the networks' scores, given the radiologist's label, every lead is multiplied by their markedness
    (`statistics.attenuation`).

    Returns
    -------
    pandas.DataFrame
        A row a line at the size of `base`: `test_sensitivity, test_ppv` of the reports, means over seeds; `lead`
        (scored by the radiologist), `lead_reports`, `expected`, `excess` (of the last two), each but the rates with
        `_low` and `_high`.
    """
    rows = []
    for line in study.lines():
        ends = study.scales[0], study.scales[-1]
        areas = {
            scorer: [study.areas(line, scale, scorer) for scale in ends] for scorer in (BY_RADIOLOGIST, BY_REPORTS)
        }
        lead, lead_reports = (tuple(a - b for a, b in zip(*pair, strict=True)) for pair in areas.values())
        kept = [_markedness(study, line, seed) for seed in study.seeds]
        expected = tuple(
            values * np.stack(shares) for values, shares in zip(lead, zip(*kept, strict=True), strict=True)
        )
        excess = tuple(a - b for a, b in zip(lead_reports, expected, strict=True))
        row = {**_row(line), **_test_rates(study, line)}
        for name, (each, replicates) in zip(
            ("lead", "lead_reports", "expected", "excess"), (lead, lead_reports, expected, excess), strict=True
        ):
            found = intervals.over_seeds(each, replicates.mean(0))
            row |= {name: found["estimate"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
        rows.append(row)
    return pd.DataFrame(rows)


def _markedness(study, line, seed):
    """Return the markedness of a seed's test reports for the radiologist, over all and in each resample (b,)."""
    labels = [study.label(line, scorer, seed) for scorer in (BY_RADIOLOGIST, BY_REPORTS)]
    return attenuation.markedness(*labels), attenuation.markedness(*labels, study.resamples)


def _test_rates(study, line):
    """Return how the test reports of a line do against its radiologist, means over seeds."""
    each = [
        accuracy.rates(*(study.label(line, scorer, seed) for scorer in (BY_RADIOLOGIST, BY_REPORTS)))
        for seed in study.seeds
    ]
    return {f"test_{name}": float(np.mean([rates[name] for rates in each])) for name in ("sensitivity", "ppv")}


def controls(study):
    """Return what must come out as known: nothing changed without noise, nothing learned from shuffled labels.

    Scored by the radiologist of `base`. How much twice the patience changes says whether trainings had converged.

    Returns
    -------
    pandas.DataFrame
        `control`, `expected` (NaN of what is only measured), the columns of `intervals.over_seeds`; `p` is of the
        difference from what is expected, or from 0.
    """
    low, high = study.scales[0], study.scales[-1]
    shuffled = study.of_role(dose_scores.PERMUTED, low)
    rows = [_control("AUC, trained on shuffled labels", shuffled, 0.5)]
    for role, scale, name, expected in (
        (dose_scores.AGAIN, low, "noise of scale 0 by another mechanism, less the radiologist's labels: AUC", 0.0),
        (dose_scores.PATIENT, low, "no noise, twice the patience, less once: AUC", np.nan),
        (dose_scores.PATIENT, high, "all noise, twice the patience, less once: AUC", np.nan),
    ):
        with_it, without = study.of_role(role, scale), study.areas(study.base, scale, BY_RADIOLOGIST)
        rows.append(_control(name, tuple(a - b for a, b in zip(with_it, without, strict=True)), expected))
    return pd.DataFrame(rows)


def _control(name, areas, expected):
    about = 0.0 if np.isnan(expected) else expected
    found = intervals.over_seeds(areas[0] - about, areas[1].mean(0) - about)
    found |= {end: found[end] + about for end in ("estimate", "low", "high", "low_patients", "high_patients")}
    return {"control": name, "expected": expected, **found}


def same_without_noise(study):
    """Return for how many seeds noise 0 by another mechanism gives the scores of the radiologist's labels to the bit.

    Returns
    -------
    same_n, seeds_n : int
    """
    runs = study.scores.runs
    again = runs[runs["role"] == dose_scores.AGAIN].set_index("seed")["logits_sha256"]
    plain = [runs.at[study.row(study.base, study.scales[0], seed), "logits_sha256"] for seed in study.seeds]
    return int((again.loc[study.seeds].to_numpy() == np.array(plain)).sum()), len(study.seeds)
