"""Scores of a network by radiologists' labels of some images, with report labels of all (`cxr score --adjudicated`).

    cxr score predictions.csv --labels nih_reports --adjudicated mine.csv --out scores/

The adjudicated labels are a CSV: `image_id`, a column per finding (1, 0, -1 or empty) and, unless images were picked
at random, `sampling_probability`: with which probability each image, or its patient, was picked.
"""

import numpy as np
import pandas as pd

from cxrlib.base import label_tables
from cxrlib.statistics import adjudicated, intervals
from cxrlib.studies import auditing

PROBABILITY = "sampling_probability"
_NOTED = 1.25  # by this factor probabilities may imply another number of images than there are without a note


def read_adjudicated(path, policy, label, name):
    """Return adjudicated labels and sampling probabilities of images that have report labels.

    Parameters
    ----------
    path : Path
    policy : str
        Of `label_tables.POLICIES`, for uncertain labels.
    label : pandas.DataFrame
        Report labels, indexed by `image_id`, findings as columns.
    name : str
        Of the report labels, for the messages.

    Returns
    -------
    labels : pandas.DataFrame
        Indexed by `image_id`, findings as columns: 1, 0, NaN.
    probability : pandas.Series or None
        In (0, 1], of the same images; None if the file has no such column.

    Raises
    ------
    ValueError
        If an image, or a finding, has no report labels, or a probability is missing or lies outside (0, 1].
    """
    raw, images = auditing.read_file(path, also=(PROBABILITY,))
    lacking = [finding for finding in raw if finding not in label]
    if lacking:
        raise ValueError(f"{path} has labels of {', '.join(lacking)}, which {name} lacks: leave these columns out.")
    labels = auditing.matched(raw.assign(_row=np.arange(len(raw))), label.index)
    labels = labels[auditing.among(labels.index, label.index)]
    if len(labels) < len(raw):
        first = raw.index[np.setdiff1d(np.arange(len(raw)), labels["_row"])[0]]
        raise ValueError(
            f"{path}: {len(raw) - len(labels)} images have no report labels in {name}, such as {first!r}; "
            "leave them out, or give report labels of every image."
        )
    rows = labels.pop("_row").to_numpy()
    labels = labels.apply(lambda column: label_tables.apply_policy(column, policy))
    if PROBABILITY not in images:
        return labels, None
    return labels, pd.Series(_probabilities(images, path)[rows], labels.index)


def _probabilities(images, path):
    text = images[PROBABILITY]
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    wrong = ~((values > 0) & (values <= 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        given = "missing" if pd.isna(text.iloc[row]) else text.iloc[row]
        raise ValueError(
            f"{path}: {PROBABILITY} of image {images['image_id'].iloc[row]} is {given}: it must lie above 0 and not "
            "above 1, for every image."
        )
    return values


def by_adjudicated(label, score, images, mine, probability=None):
    """Return the AUC of every finding by report labels, by adjudicated images alone, and corrected.

    Parameters
    ----------
    label : pandas.DataFrame
        Report labels, indexed by `image_id`: 1, 0, NaN.
    score : pandas.DataFrame
        Indexed by `image_id`; NaN where an image has no score.
    images : pandas.DataFrame
        `image_id`, `patient_id`.
    mine : pandas.DataFrame
        Adjudicated labels, indexed by `image_id`: 1, 0, NaN.
    probability : pandas.Series, optional
        With which each image of `mine`, or its patient, was picked; without it, all were picked with the same.

    Returns
    -------
    table : pandas.DataFrame
        A row per finding and method of `adjudicated.METHODS`: `finding, method, images_n, patients_n, adjudicated_n,
        adjudicated_patients_n, positives_n` (adjudicated), `drawn` (patients or images), `estimate, low, high, se,
        reason`.
    notes : list of str
        What was left out or looks odd, a sentence each.

    Raises
    ------
    ValueError
        If no adjudicated image has a score, a label is missing where probabilities are given, or no finding has
        enough adjudicated patients.
    """
    among = auditing.among(mine.index, score.index)
    if not among.any():
        raise ValueError("No adjudicated image is in the predictions: both must have the image ids of the labels.")
    notes = (
        [f"{(~among).sum()} adjudicated images are not in the predictions and left out"] if not among.all() else []
    )
    mine, unscored = mine[among], [finding for finding in mine if finding not in score]
    if unscored:
        notes.append(f"Adjudicated but without a score, so left out: {', '.join(unscored)}")
    rows = []
    for finding in [finding for finding in mine if finding in score]:
        found, more = _of_finding(finding, label, score, images, mine[finding], probability)
        rows, notes = rows + found, notes + more
    if not rows:
        raise ValueError("No finding has adjudicated labels, report labels and scores of the same images.")
    table = pd.DataFrame(rows)
    corrected = table[table["method"] == "augmented"]
    if corrected["low"].isna().all():
        few = "; ".join(f"{row.finding}: {row.reason}" for row in corrected.itertuples())
        raise ValueError(
            f"Too few images are adjudicated ({few}): adjudicate at least {intervals.FEW_PATIENTS} patients with the "
            "finding and as many without."
        )
    return table, notes


def _of_finding(finding, label, score, images, mine, probability):
    """Return the rows of one finding, and notes."""
    there = score[finding].dropna().index
    reported = label[finding].reindex(there)
    given, blank = mine.dropna(), int(mine.isna().sum())
    notes = [f"{finding}: {blank} images of the adjudicated have no label and count as not adjudicated"] * (blank > 0)
    if blank and probability is not None:
        raise ValueError(
            f"{finding} of image {mine.index[mine.isna()][0]} is empty: with {PROBABILITY}, every adjudicated image "
            "needs a label; give each finding a file of its own."
        )
    given = given[auditing.among(given.index, there)]
    lacking = given.index[reported.reindex(given.index).isna()]
    if len(lacking):
        raise ValueError(f"{finding} of image {lacking[0]} is adjudicated and has no report label: leave it out.")
    if given.empty:
        return [], [*notes, f"{finding}: no adjudicated image has a score; it is left out"]
    ids = there[reported.notna()]
    mask, patient = auditing.among(ids, given.index), auditing.patients(images, ids)
    chance = None if probability is None else probability.reindex(ids).to_numpy()
    whole = _whole_patients(patient, mask, chance)
    chance = _chances(patient, mask, chance, whole)
    archive = adjudicated.ScoredArchive(score[finding][ids], reported[ids], patient, whole)
    truth = given.reindex(ids).to_numpy()
    notes += _implied(finding, patient, mask, chance, whole)
    counts = {
        "images_n": len(ids),
        "patients_n": len(np.unique(patient)),
        "adjudicated_n": int(mask.sum()),
        "adjudicated_patients_n": len(np.unique(patient[mask])),
        "positives_n": int(truth[mask].sum()),
        "drawn": "patients" if whole else "images",
    }
    rows = []
    for (_, method), value in adjudicated.estimates(archive, truth, mask, chance).items():
        interval = adjudicated.as_interval(value)
        se = np.nan if np.isnan(interval.low) else float(value.se[0])
        rows.append({"finding": finding, "method": method, **counts, **interval._asdict(), "se": se})
    return rows, notes


def _whole_patients(patient, mask, chance):
    """Return whether all images of a patient are adjudicated or none, with one probability."""
    table = pd.DataFrame({"patient": patient, "mask": mask, "chance": 1.0 if chance is None else chance})
    each = table.groupby("patient")
    return bool((each["mask"].nunique() == 1).all() and (each["chance"].nunique() <= 1).all())


def _chances(patient, mask, chance, whole):
    """Return the probability of every image; of those that were not picked it plays no part."""
    if chance is not None:
        return np.where(mask, chance, np.nanmin(chance[mask]))
    share = len(np.unique(patient[mask])) / len(np.unique(patient)) if whole else mask.mean()
    return np.full(len(mask), share)


def _implied(finding, patient, mask, chance, whole):
    """Return a note if the probabilities imply far more or fewer images (or patients) than there are."""
    first = pd.Series(chance[mask], patient[mask])
    first = first[~first.index.duplicated()] if whole else first
    implied, actual = (1 / first).sum(), len(np.unique(patient)) if whole else len(mask)
    if 1 / _NOTED < implied / actual < _NOTED:
        return []
    what = "patients" if whole else "images"
    return [
        f"{finding}: the sampling probabilities imply {implied:,.0f} {what}, and the predictions have {actual:,}; "
        "check that they are probabilities of being picked from these"
    ]
