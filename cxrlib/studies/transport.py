"""Do the error rates of report labels travel: Google's two parts of ChestX-ray14, and how much is case mix.

The `val` part lies in NIH's train_val list, the `test` part in its test list. A rate of report labels is a mean over
some images: sensitivity over those on which the adjudicators see the finding, specificity over the others, PPV over
those that the report label calls. Weighting by the odds of lying in the other part, given covariates, gives the
images of one part the case mix of the other (inverse-odds weighting: Westreich et al., Am J Epidemiol
2017;186:1010). Then the difference between the parts is that of the rates at one case mix, and what is left of it is
not explained by the covariates.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from cxrlib.base import vocabulary
from cxrlib.releases import google, nih
from cxrlib.statistics import accuracy, intervals, resampling, weighting

PARTS = ("val", "test")
TRANSPORTED = ("pneumothorax", "airspace_opacity", "nodule_or_mass")  # of Google's four, those that reports label
RATES = ("sensitivity", "specificity", "ppv")
DIRECTIONS = ("val weighted to test", "test weighted to val")

_PICTURE = ["ap", "width_2500", "width_3056", "width_2992"]
_PERSON = ["male", "age", "age_squared"]
_COURSE = ["log_follow_up", "log_follow_up_squared", "log_images", "log_images_squared"]
CASE_MIX = {  # each holds the one before it
    "view": ["ap"],
    "view, width, age, sex": [*_PICTURE, *_PERSON],
    "and follow-up, images of the patient": [*_PICTURE, *_PERSON, *_COURSE],
    "and finding seen on other images": [*_PICTURE, *_PERSON, *_COURSE, "other_seen"],
    "and finding in other reports": [*_PICTURE, *_PERSON, *_COURSE, "other_seen", "other_reported"],
}

MOST_IMBALANCE = 0.25  # standard deviations (Stuart, Stat Sci 2010;25:1, section 4.1)


def nih_parts():
    """Return the images of Google's two parts with both labels of each finding and what case mix is made of.

    Returns
    -------
    pandas.DataFrame
        `image_id, patient_id, part, view`. Of each finding of `TRANSPORTED` `seen <finding>` by the adjudicators and
        `reported <finding>` by the report label (1 or 0), and `other_seen <finding>, other_reported <finding>`,
        whether another image of the patient has it, among those that Google labelled, or among all of ChestX-ray14.
        `ap, male` (1 or 0), `age`, `log_follow_up` (of its number plus 1), `log_images` (of the patient's in
        ChestX-ray14), each of the last three also squared, from its mean, and the commonest widths before scaling,
        `width_2500, width_3056, width_2992` (1 or 0).

    Raises
    ------
    ValueError
        If view, sex or age of an image is missing.
    """
    entries = nih.read_nih_entries().set_index("image_id")
    truth = google.read_google_four().set_index("image_id")
    images = entries.loc[truth.index, ["patient_id", "view", "sex", "age", "follow_up_number"]].copy()
    lacking = images.isna().any(axis=1)
    if lacking.any():
        raise ValueError(
            f"image {lacking.idxmax()} lacks its view, sex, age or follow-up number in NIH's entry list."
        )
    images["part"] = truth["set"]
    images["ap"], images["male"] = (images["view"] == "AP") * 1.0, (images["sex"] == "M") * 1.0
    images["log_follow_up"] = np.log1p(images["follow_up_number"])
    images["log_images"] = np.log(images["patient_id"].map(entries.groupby("patient_id").size()))
    for name in ("age", "log_follow_up", "log_images"):  # odds are not linear in them, and means alone would match
        images[f"{name}_squared"] = (images[name] - images[name].mean()) ** 2
    width = nih.read_nih_sizes().loc[images.index, "width_px"]
    for name in _PICTURE[1:]:
        images[name] = (width == int(name.removeprefix("width_"))) * 1.0
    for finding in TRANSPORTED:
        reported = entries[list(vocabulary.ANY_OF.get(finding, (finding,)))].max(axis=1)
        images[f"seen {finding}"], images[f"reported {finding}"] = truth[finding], reported[images.index]
        images[f"other_seen {finding}"] = _other(truth[finding], truth["patient_id"], images.index)
        images[f"other_reported {finding}"] = _other(reported, entries["patient_id"], images.index)
    return images.reset_index()


def _other(label, patient_id, ids):
    """Return whether another image of the same patient has a finding, (len(ids),) of 1.0 and 0.0."""
    return ((label.groupby(patient_id).transform("sum") - label)[ids] > 0) * 1.0


def stratified(images, resamples_n, rng):
    """Return how often each image is in each resample of patients, each part resampled by itself, (b, n) float64."""
    counts = np.empty((resamples_n, len(images)))
    for part in PARTS:
        inside = (images["part"] == part).to_numpy()
        patient = images["patient_id"].to_numpy()[inside]
        counts[:, inside] = resampling.patient_resamples(patient, resamples_n, rng).weights()
    return counts


def condition(images, finding, measure):
    """Return over which images a rate of the report labels is a mean, (n,) bool, and of what, (n,) of 1 and 0.

    Parameters
    ----------
    images : pandas.DataFrame
        Of `nih_parts`.
    finding : str
    measure : str
        One of `RATES`.
    """
    seen, reported = (images[f"{kind} {finding}"].to_numpy(float) for kind in ("seen", "reported"))
    if measure == "ppv":
        return reported == 1, seen
    return (seen == 1, reported) if measure == "sensitivity" else (seen == 0, 1 - reported)


def covariates(images, finding, case_mix):
    """Return the covariates of a case mix, an array; the patient's other images are of the finding."""
    columns = [f"{name} {finding}" if name.startswith("other_") else name for name in case_mix]
    return images[columns].to_numpy(float)


class Standardised(NamedTuple):
    """A rate in both parts, as it is and at the other part's case mix; each a value and its replicates (b,)."""

    val: tuple
    test: tuple
    weighted: dict  # by direction: the rate of the weighted part
    robust: dict  # by direction: the same, doubly robust, without replicates
    patients: dict  # by direction: effective patients
    imbalance: dict  # by direction: largest standardised mean difference after weighting
    support: dict  # by direction: share of the other part's images that have their like in the weighted part


def _mean(value, weights):
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * value).sum(-1) / weights.sum(-1)


def standardise(outcome, second, x, patient, counts, rng):
    """Return a mean outcome in two groups of images, and in each at the case mix of the other.

    Parameters
    ----------
    outcome : (n,) float
    second : (n,) bool
        Whether an image is of the second group (`test`).
    x : (n, p) float
        Covariates.
    patient : (n,) array
    counts : (b, n) float
        Of `stratified`, of these images.
    rng : numpy.random.Generator
        Of the folds in which weights are fitted.

    Returns
    -------
    Standardised
        The doubly robust values add a logistic regression of the outcome in the weighted group (Robins, Rotnitzky and
        Zhao, JASA 1994;89:846).
    """
    x, fold = weighting.with_intercept(x), weighting.patient_folds(patient, rng)
    whole, each = weighting.cross_fitted(x, second.astype(float), counts, fold)  # log odds of the second group
    groups = {"val": ~second, "test": second}
    plain = {name: (outcome[g].mean(), _mean(outcome[g], counts[:, g])) for name, g in groups.items()}
    weighted, robust, patients, imbalance, support = {}, {}, {}, {}, {}
    once = np.ones((1, len(outcome)))
    for direction, (own, to, sign) in zip(DIRECTIONS, (("val", "test", 1), ("test", "val", -1)), strict=True):
        inside, target = groups[own], groups[to]
        odds = np.exp(sign * whole[inside])
        replicates = _mean(outcome[inside], counts[:, inside] * np.exp(sign * each[:, inside]))
        weighted[direction] = float(_mean(outcome[inside], odds)), replicates
        fitted = expit(weighting.cross_fitted(x, outcome, once, fold, inside)[0])
        robust[direction] = float(fitted[target].mean() + _mean((outcome - fitted)[inside], odds))
        patients[direction] = weighting.effective_patients(odds, patient[inside])
        imbalance[direction] = weighting.imbalance(x[inside, 1:], odds, x[target, 1:])
        there = (whole[target] >= whole[inside].min()) & (whole[target] <= whole[inside].max())
        support[direction] = float(there.mean())
    return Standardised(plain["val"], plain["test"], weighted, robust, patients, imbalance, support)


def why_not(patients, imbalance):
    """Return why weights do not give one part the case mix of the other, or an empty text."""
    if patients < intervals.FEW_PATIENTS:
        return f"not estimable: the weights leave {patients:.0f} effective patients"
    if imbalance > MOST_IMBALANCE:
        return f"not estimable: a covariate still differs by {imbalance:.2f} standard deviations"
    return ""


def rows_of(found, where):
    """Return both directions of a `Standardised` as rows of `transport_table`.

    Parameters
    ----------
    found : Standardised
    where : Mapping
        What comes first in the rows.
    """
    raw = found.test[0] - found.val[0], found.test[1] - found.val[1]
    gap = intervals.difference(*raw)
    rows = []
    for direction, sign in zip(DIRECTIONS, (1, -1), strict=True):
        value, each = found.weighted[direction]
        other = found.test if sign == 1 else found.val
        left = sign * (other[0] - value), sign * (other[1] - each)
        reason = why_not(found.patients[direction], found.imbalance[direction])
        row = {
            **where,
            "direction": direction,
            "val": found.val[0],
            "test": found.test[0],
            **_named("difference", gap),
        }
        row |= {"standardised": value, "effective_patients": found.patients[direction]}
        row |= {"imbalance": found.imbalance[direction], "support_frac": found.support[direction], "reason": reason}
        if not reason:
            row |= _named("left", intervals.difference(*left))
            explained = raw[0] - left[0], raw[1] - left[1]
            row |= _named("explained", intervals.difference(*explained))
            row["left_robust"] = sign * (other[0] - found.robust[direction])
            if gap.low > 0 or gap.high < 0:
                with np.errstate(divide="ignore", invalid="ignore"):
                    share = intervals.interval(explained[0] / raw[0], explained[1] / raw[1])
                row |= {"share": share.estimate, "share_low": share.low, "share_high": share.high}
        rows.append(row)
    return rows


def _named(name, test):
    return {name: test.estimate, f"{name}_low": test.low, f"{name}_high": test.high, f"{name}_p": test.p}


def transport_table(images, counts, seed, case_mixes, findings=TRANSPORTED, measures=RATES):
    """Return what is left of the difference between the parts once they have one case mix, both ways of weighting.

    Parameters
    ----------
    images : pandas.DataFrame
        Of `nih_parts`.
    counts : (b, n) float
        Of `stratified`.
    seed : int
        Of the folds.
    case_mixes : Mapping of str to sequence of str
        Covariates by name, such as `CASE_MIX`.
    findings, measures : sequence of str

    Returns
    -------
    pandas.DataFrame
        `finding, measure, val_n, test_n, case_mix, direction, val, test`, then `difference` (test less val), `left`
        of it and `explained`, each with `_low, _high, _p`; `left_robust`, by doubly robust estimation; `share`
        explained with its interval, where the interval of the difference leaves out 0; `standardised`, the rate of
        the weighted part; `effective_patients, imbalance, support_frac, reason`. Without overlap there is a reason,
        and no `left`.
    """
    rows = []
    patient = images["patient_id"].to_numpy()
    second = (images["part"] == "test").to_numpy()
    for finding in findings:
        for measure in measures:
            inside, outcome = condition(images, finding, measure)
            sizes = {"val_n": int((inside & ~second).sum()), "test_n": int((inside & second).sum())}
            for name, columns in case_mixes.items():
                x = covariates(images, finding, columns)[inside]
                rng = np.random.default_rng(seed)
                found = standardise(outcome[inside], second[inside], x, patient[inside], counts[:, inside], rng)
                rows += rows_of(found, {"finding": finding, "measure": measure, **sizes, "case_mix": name})
    return pd.DataFrame(rows)


def with_holm(table):
    """Return a `transport_table` with `difference_p_holm`, over the rates, and `left_p_holm`, over all its rows."""
    once = table.drop_duplicates(["finding", "measure"])
    holm = pd.Series(intervals.holm(once["difference_p"]), pd.MultiIndex.from_frame(once[["finding", "measure"]]))
    keys = pd.MultiIndex.from_frame(table[["finding", "measure"]])
    return table.assign(
        difference_p_holm=holm[keys].to_numpy(), left_p_holm=intervals.holm(table["left_p"].to_numpy(float))
    )


def ppv_steps(images, counts, seed, columns):
    """Return how the PPV of the val part becomes that of the test part, a step for each reason.

    By Bayes' rule the PPV follows from sensitivity, specificity and prevalence. Prevalence is changed first, then
    both rates to those of the val part weighted to the test part's case mix; what remains is not explained.

    Parameters
    ----------
    images, counts, seed
        As of `transport_table`.
    columns : sequence of str
        Covariates.

    Returns
    -------
    pandas.DataFrame
        `finding, step, estimate, low, high, p, reason`; steps are `val`, `prevalence`, `case mix`, `left`, `case mix
        and left` (both, where they cannot be separated) and `test`.
    """
    rows = []
    second = (images["part"] == "test").to_numpy()
    patient = images["patient_id"].to_numpy()
    for finding in TRANSPORTED:
        seen, reported = (images[f"{kind} {finding}"].to_numpy(float) for kind in ("seen", "reported"))
        ppv, prevalence, rates, weighted, reason = {}, {}, [], [], ""
        for name, group in (("val", ~second), ("test", second)):
            called, of = group & (reported == 1), counts[:, group]
            ppv[name] = seen[called].mean(), _mean(seen[called], counts[:, called])
            prevalence[name] = seen[group].mean(), _mean(seen[group], of)
        for measure in RATES[:2]:
            inside, outcome = condition(images, finding, measure)
            x, rng = covariates(images, finding, columns)[inside], np.random.default_rng(seed)
            found = standardise(outcome[inside], second[inside], x, patient[inside], counts[:, inside], rng)
            rates.append(found.val)
            weighted.append(found.weighted[DIRECTIONS[0]])
            reason = reason or why_not(found.patients[DIRECTIONS[0]], found.imbalance[DIRECTIONS[0]])
        at_test = [accuracy.ppv_at_prevalence(rates[0][k], rates[1][k], prevalence["test"][k]) for k in (0, 1)]
        mixed = [accuracy.ppv_at_prevalence(weighted[0][k], weighted[1][k], prevalence["test"][k]) for k in (0, 1)]
        steps = {
            "val": (ppv["val"], ""),
            "prevalence": ([at_test[k] - ppv["val"][k] for k in (0, 1)], ""),
            "case mix": ([mixed[k] - at_test[k] for k in (0, 1)], reason),
            "left": ([ppv["test"][k] - mixed[k] for k in (0, 1)], reason),
            "case mix and left": ([ppv["test"][k] - at_test[k] for k in (0, 1)], ""),
            "test": (ppv["test"], ""),
        }
        for step, ((value, each), why) in steps.items():
            test = intervals.Test(*[np.nan] * 4, why) if why else intervals.difference(float(value), each)
            test = test._replace(p=np.nan) if step in PARTS else test
            rows.append({"finding": finding, "step": step, **test._asdict()})
    return pd.DataFrame(rows)


def at_random(images, rng):
    """Return the images with patients assigned to the two parts at random, as many to each as there are."""
    names = images["patient_id"].unique()
    test_n = images.loc[images["part"] == "test", "patient_id"].nunique()
    chosen = set(rng.permutation(names)[:test_n])
    return images.assign(part=np.where(images["patient_id"].isin(chosen), "test", "val"))


def noise(images, rng):
    """Return the images with `noise_patient` and `noise_image`, which mean nothing."""
    names = images["patient_id"].unique()
    of_patient = pd.Series(rng.standard_normal(len(names)), names)
    return images.assign(
        noise_patient=images["patient_id"].map(of_patient), noise_image=rng.standard_normal(len(images))
    )


def headline(table, case_mixes):
    """Return the study's short table, with texts to read.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `transport_table`.
    case_mixes : sequence of str
        Names of those to show.
    """
    rows = []
    shown = table[table["case_mix"].isin(case_mixes)]
    for (finding, measure, case_mix), both in shown.groupby(["finding", "measure", "case_mix"], sort=False):
        first = both.iloc[0]
        row = {"finding": finding, "measure": "PPV" if measure == "ppv" else measure}
        row |= {"val": f"{first['val']:.3f}", "test": f"{first['test']:.3f}"}
        row |= {"difference": intervals.text(*first[["difference", "difference_low", "difference_high"]])}
        row["case mix of"] = case_mix
        for r in both.to_dict("records"):
            left = intervals.text(r["left"], r["left_low"], r["left_high"])
            row[f"left, {r['direction']}"] = "not estimable" if r["reason"] else left
        estimable = [r for r in both.to_dict("records") if np.isfinite(r["share"])]
        shares = [f"{r['share']:.2f} ({r['share_low']:.2f} to {r['share_high']:.2f})" for r in estimable]
        none = "not estimable" if both["reason"].ne("").all() else "no difference shown"
        rows.append({**row, "explained share": "; ".join(shares) or none})
    fracture = {"finding": "fracture", "measure": "all", "case mix of": "not estimable: reports have no such label"}
    return pd.DataFrame([*rows, fracture])
