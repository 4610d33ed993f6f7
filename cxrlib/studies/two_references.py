"""Networks that were trained on report labels, scored by report labels and by radiologists on the same images.

A `Question` holds, of the images that both have labelled, the two labels and every network's score. `estimands` gives
for each network both AUCs, their difference, and what of the AUC by reports the reports' noise alone explains:

    question = two_references.ask("abnormal", "rsna", truth, reports, scores, images)
    table = two_references.table(question, resamples)    # means over networks, intervals over patients and networks

The report label's errors are either unrelated to the image, given what the radiologists say, or they are not. If they
are unrelated, the AUC by reports is the one that `attenuation.expected_auc` gives, for any network. What it exceeds
that by is knowledge of the reports that the radiologists' yes or no does not hold: how conspicuous a finding is, what
gets reported, or who reports.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cxrlib.statistics import accuracy, attenuation, intervals, resampling
from cxrlib.studies import displays

# What `estimands` gives for every network, and what to call it in a table.
ESTIMANDS = {
    "auc_reports": "AUC by reports",
    "auc_radiologists": "AUC by radiologists",
    "gap": "by reports less by radiologists",
    "expected": "AUC by reports expected from noise",
    "excess": "excess over noise",
    "among_positives": "AUC for reported among radiologists' positives",
    "among_negatives": "AUC for reported among radiologists' negatives",
    "sensitivity_reports": "sensitivity of reports",
    "sensitivity_network": "sensitivity of networks at the reports' specificity",
    "ahead": "networks less reports",
}
# What `at_reports_specificity` gives.
AT_SPECIFICITY = {
    "specificity": "specificity of reports",
    "sensitivity_reports": "sensitivity of reports",
    "sensitivity_control": "sensitivity of metadata",
    "sensitivity_network": "sensitivity of networks",
    "ahead_of_reports": "networks less reports",
    "ahead_of_control": "networks less metadata",
    "control_ahead": "metadata less reports",
}


@dataclass(frozen=True)
class Question:
    """One finding, who read the images, and what networks say of them.

    Attributes
    ----------
    finding, reference : str
    images : pandas.DataFrame
        A row an image: `image_id, patient_id, radiologists, reports` (both labels 1 or 0), and attributes.
    scores : pandas.DataFrame
        The same rows, a column a network.
    """

    finding: str
    reference: str
    images: pd.DataFrame
    scores: pd.DataFrame

    def part(self, chosen):
        """Return the question on some of its images (boolean mask)."""
        return replace(self, images=self.images[chosen], scores=self.scores[chosen])

    def counts(self):
        """Return how many images, patients and positives by either side it has, and the two labels' kappa."""
        return {
            "images_n": len(self.images),
            "patients_n": self.images["patient_id"].nunique(),
            "radiologists_n": int(self.images["radiologists"].sum()),
            "reports_n": int(self.images["reports"].sum()),
            "kappa": accuracy.kappa(self.images["radiologists"], self.images["reports"]),
        }


def caption(asked):
    """Return what stands under a figure of questions: real radiographs, how many a row, what the intervals cover."""
    counts = [question.counts() for question in asked]
    spans = [(min(c[name] for c in counts), max(c[name] for c in counts)) for name in ("images_n", "patients_n")]
    images, patients = (f"{low:,} to {high:,}" if low < high else f"{low:,}" for low, high in spans)
    sizes = f"{images} of {patients} patients a row" if len(asked) > 1 else f"{images} of {patients} patients"
    return f"real radiographs of ChestX-ray14: {sizes}; 95 % intervals over patients and networks"


def ask(finding, reference, radiologists, reports, scores, images):
    """Return a question: the images that both label sets assess and every network has scored.

    Parameters
    ----------
    finding, reference : str
    radiologists, reports : pandas.Series
        1, 0 or NaN by `image_id`; an image without either label is left out.
    scores : Mapping of str to pandas.Series
        Network -> its score by `image_id`.
    images : pandas.DataFrame
        Attributes by `image_id`, `patient_id` among them.

    Raises
    ------
    ValueError
        If there is no such image, or a label is neither 1 nor 0.
    """
    table = pd.DataFrame({**scores}).dropna()
    both = pd.DataFrame({"radiologists": radiologists, "reports": reports}).dropna()
    for side in both:
        wrong = both[side][~both[side].isin((0, 1))]
        if len(wrong):
            raise ValueError(f"{side}, {finding} of {wrong.index[0]} is {wrong.iloc[0]:g}: resolve uncertain labels.")
    shared = table.index.intersection(both.index).sort_values()
    if not len(shared):
        raise ValueError(f"{finding}: no image has both labels and a score of every network.")
    about = images.loc[shared].assign(**both.loc[shared]).rename_axis("image_id").reset_index()
    return Question(finding, reference, about, table.loc[shared].reset_index(drop=True))


def estimands(question, resamples, classes=None):
    """Return every estimand of every network, in each resample.

    Parameters
    ----------
    question : Question
    resamples : Resamples
        Of its images; `resampling.whole` gives the estimate itself.
    classes : Mapping of str to (n,) array, optional
        Finer classes than the radiologists' yes or no. Each adds `expected, NAME` and `excess, NAME`.

    Returns
    -------
    dict of str to (networks, b) float64
        Of `ESTIMANDS`; the specificity of the reports, at which a network's sensitivity is taken, is held at its
        estimate.
    """
    truth, reports = _labels(question)
    share = attenuation.markedness(truth, reports, resamples)
    reported = accuracy.sensitivity(truth, reports, resamples)
    specificity = _specificity(question, resamples)
    out = {}
    for name in question.scores:
        score = question.scores[name].to_numpy(float)
        by_reports = accuracy.auc(reports, score, resamples)
        by_radiologists = accuracy.auc(truth, score, resamples)
        expected = attenuation.attenuated(by_radiologists, share)
        found = {
            "auc_reports": by_reports,
            "auc_radiologists": by_radiologists,
            "gap": by_reports - by_radiologists,
            "expected": expected,
            "excess": by_reports - expected,
            "sensitivity_reports": reported,
            "sensitivity_network": accuracy.sensitivity_at_specificity(truth, score, specificity, resamples),
        }
        found["ahead"] = found["sensitivity_network"] - reported
        for side, value in (("among_positives", 1), ("among_negatives", 0)):
            inside = truth == value
            found[side] = accuracy.auc(reports[inside], score[inside], resamples.of(inside))
        for finer, of_images in (classes or {}).items():
            found[f"expected, {finer}"] = attenuation.expected_auc(reports, of_images, score, resamples)
            found[f"excess, {finer}"] = by_reports - found[f"expected, {finer}"]
        for key, values in found.items():
            out.setdefault(key, []).append(values)
    return {key: np.stack(values) for key, values in out.items()}


def _labels(question):
    """Return the radiologists' and the reports' labels, (n,) float64 each."""
    return tuple(question.images[side].to_numpy(float) for side in ("radiologists", "reports"))


def _once(question, resamples):
    """Return the one resample that is the images themselves, weighted as the others are."""
    one = resampling.whole(len(question.images))
    return one if resamples.sampling is None else one.weighted(resamples.sampling)


def _specificity(question, resamples):
    """Return the reports' specificity by the radiologists on the images themselves."""
    return float(accuracy.rates(*_labels(question), _once(question, resamples))["specificity"][0])


def at_reports_specificity(question, control, resamples):
    """Return how sensitive reports, networks and a control are, all at the reports' specificity by the radiologists.

    The threshold of networks and control is the one that has this specificity on the same images, so that it is no
    operating point that anyone could have chosen beforehand; in each resample it is found anew, for the specificity
    of the images themselves.

    Parameters
    ----------
    question, control : Question
        Of the same images; the control has as many columns as the question, such as `metadata_question` gives it.
    resamples : Resamples
        Of these images.

    Returns
    -------
    pandas.DataFrame
        A row an entry of `AT_SPECIFICITY`: `finding, reference`, the counts, `estimand`, and as
        `intervals.over_seeds`, with networks (and the control's columns) for seeds.

    Raises
    ------
    ValueError
        If the control is of other images.
    """
    if not question.images["image_id"].equals(control.images["image_id"]):
        raise ValueError(
            f"{question.finding}, {question.reference}: the control is of other images than the networks."
        )
    truth, reports = _labels(question)
    one, specificity = _once(question, resamples), _specificity(question, resamples)

    def sensitivities(asked, part):
        scores = asked.scores.to_numpy(float).T
        return np.stack([accuracy.sensitivity_at_specificity(truth, s, specificity, part) for s in scores])

    found = {}
    for part in (one, resamples):
        reported = np.tile(accuracy.sensitivity(truth, reports, part), (question.scores.shape[1], 1))
        network, other = (sensitivities(asked, part) for asked in (question, control))
        one_specificity = accuracy.rates(truth, reports, part)["specificity"] + 0 * network
        values = (one_specificity, reported, other, network, network - reported, network - other, other - reported)
        for name, value in zip(AT_SPECIFICITY, values, strict=True):
            found.setdefault(name, []).append(value)
    where = {"finding": question.finding, "reference": question.reference, **question.counts()}
    few = _few(question, resamples, "")
    rows = [
        {
            **where,
            "estimand": name,
            **_between_0_and_1(name, intervals.over_seeds(whole[:, 0], drawn.mean(axis=0), few)),
        }
        for name, (whole, drawn) in found.items()
    ]
    return pd.DataFrame(rows)


def _few(question, resamples, name):
    """Return why an estimand gets no interval, or an empty text: too few patients of a class that it rests on."""
    truth, reports = _labels(question)
    if name in ("among_positives", "among_negatives"):
        inside = truth == (name == "among_positives")
        return intervals.too_few_of_either(reports[inside], resamples.of(inside))
    reasons = [intervals.too_few_of_either(side, resamples) for side in (truth, reports)]
    return next((reason for reason in reasons if reason), "")


def _between_0_and_1(name, value):
    """Return an interval that ends where its estimand does; Student's knows no ends."""
    if name.startswith(("auc", "among", "expected", "sensitivity", "specificity")):
        value |= {end: np.clip(value[end], 0, 1) for end in ("low", "high")}
    return value


def table(question, resamples, classes=None):
    """Return the estimands, means over networks, with intervals over patients and networks.

    Parameters
    ----------
    question : Question
    resamples : Resamples
        Of its images.
    classes : Mapping of str to (n,) array, optional

    Returns
    -------
    pandas.DataFrame
        A row an estimand: `finding, reference`, the counts, `estimand`, then as `intervals.over_seeds` with networks
        for seeds, `networks_n`, and the `least` and `most` of the networks.
    """
    whole = estimands(question, _once(question, resamples), classes)
    drawn = estimands(question, resamples, classes)
    where = {"finding": question.finding, "reference": question.reference, **question.counts()}
    rows = []
    for name, values in whole.items():
        each = values[:, 0]
        value = intervals.over_seeds(each, drawn[name].mean(axis=0), _few(question, resamples, name))
        value = _between_0_and_1(name, value)
        spread = {"networks_n": len(each), "least": each.min(), "most": each.max()}
        rows.append({**where, "estimand": name, **value, **spread})
    return pd.DataFrame(rows)


def tables(questions, resamples_n, rng, classes=None):
    """Return `table` of several questions, one below the other, each on resamples of its own patients.

    Parameters
    ----------
    questions : sequence of Question
    resamples_n : int
    rng : numpy.random.Generator
    classes : Callable, optional
        Question -> mapping of name to classes.
    """
    parts = []
    for question in questions:
        resamples = resampling.patient_resamples(question.images["patient_id"], resamples_n, rng)
        parts.append(table(question, resamples, classes(question) if classes else None))
    return pd.concat(parts, ignore_index=True)


def wide(found, names=tuple(ESTIMANDS), called=ESTIMANDS):
    """Return tables of estimands to read: a row a question, a column an estimand, estimates with intervals as text.

    Parameters
    ----------
    found : pandas.DataFrame
        As `table` returns it.
    names : sequence of str
        Estimands, in order.
    called : Mapping of str to str
        What to call them.
    """
    index = [c for c in ("part", "finding", "reference", "images_n") if c in found]
    rows = found.drop_duplicates(index).set_index(index).index
    out = displays.wide(found, index, "estimand").loc[rows, list(names)]
    return out.rename(columns=called).rename_axis(columns=None)


def by_network(question, resamples, classes=None):
    """Return the estimands of each network, intervals over patients alone.

    Returns
    -------
    pandas.DataFrame
        `finding, reference, network, estimand, estimate, low, high, reason`.
    """
    whole = estimands(question, resampling.whole(len(question.images)), classes)
    drawn = estimands(question, resamples, classes)
    rows = []
    for name, values in whole.items():
        for network, value, replicates in zip(question.scores, values[:, 0], drawn[name], strict=True):
            where = {"finding": question.finding, "reference": question.reference, "network": network}
            found = intervals.interval(value, replicates, _few(question, resamples, name))
            rows.append({**where, "estimand": name, **found._asdict()})
    return pd.DataFrame(rows)


def null(questions, shuffles_n, resamples_n, rng):
    """Return the excess where there is nothing to know of the reports: `with_shuffled_reports`, many times.

    Returns
    -------
    pandas.DataFrame
        A row a question: `finding, reference, shuffles_n`, the `mean` excess over the shuffles and its standard error
        `se`, and `missed`, the fraction of the shuffles whose 95 % interval leaves out 0.
    """
    rows = []
    for question in questions:
        found = [tables([with_shuffled_reports(question, rng)], resamples_n, rng) for _ in range(shuffles_n)]
        excess = pd.concat(found).query("estimand == 'excess'")
        missed = (excess["low"] > 0) | (excess["high"] < 0)
        rows.append(
            {
                "finding": question.finding,
                "reference": question.reference,
                "shuffles_n": shuffles_n,
                "mean": excess["estimate"].mean(),
                "se": excess["estimate"].std(ddof=1) / np.sqrt(shuffles_n),
                "missed": missed.mean(),
            }
        )
    return pd.DataFrame(rows)


def with_shuffled_reports(question, rng):
    """Return the question with report labels shuffled among the images of one radiologists' label: the excess is 0.

    Parameters
    ----------
    question : Question
    rng : numpy.random.Generator
    """
    reports = question.images["reports"].to_numpy(float).copy()
    for value in (0, 1):
        inside = np.flatnonzero(question.images["radiologists"] == value)
        reports[inside] = reports[rng.permutation(inside)]
    return replace(question, images=question.images.assign(reports=reports))
