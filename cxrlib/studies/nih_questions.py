"""Questions on images of ChestX-ray14: report labels beside readers' labels, strata, how images were drawn, metadata.

What `two_references` asks of any two label sets, for the label sets that lie on NIH's images and the networks whose
predictions are published (`cxrlib.releases.predictions`).
"""

import functools

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from cxrlib.base import vocabulary
from cxrlib.releases import catalogue, google, nih, predictions
from cxrlib.studies import two_references

# What RSNA's organisers drew images by (Shih et al., Radiol Artif Intell 2019;1:e180041): these report labels.
PNEUMONIA_LIKE = ("pneumonia", "infiltration", "consolidation")

IMAGE_STRATA = ("view", "follow_up", "width")


@functools.cache
def nih_table():
    """Return NIH's images with their report labels and attributes, indexed by `image_id`.

    Returns
    -------
    pandas.DataFrame
        `patient_id, view, sex, age, follow_up_number, width_px, height_px`; the report labels of NIH's findings, of
        what stands for several, and `abnormal` (any of the 14), float32; strata as text: `follow_up` (first image or
        later), `width` (2,500 pixels before the release scaled it, or another), `google_part` (`test`, `val` or
        `neither`: which of Google's two samples has it), and `drawn_as`, the report label by which RSNA's images were
        drawn.
    """
    reports = catalogue.read_release("nih_reports")
    labels = reports.table.set_index("image_id")
    labels["abnormal"] = labels[list(vocabulary.NIH_FINDINGS.values())].max(axis=1)
    images = reports.images.set_index("image_id").join(nih.read_nih_sizes()).join(labels)
    images["follow_up"] = np.where(images["follow_up_number"] == 0, "first image", "later image")
    images["width"] = np.where(images["width_px"] == 2500, "2,500 px", "other width")
    parts = google.read_google_four().set_index("image_id")["set"]
    images["google_part"] = parts.reindex(images.index).fillna("neither")
    like = images[list(PNEUMONIA_LIKE)].max(axis=1) == 1
    kinds = ["pneumonia-like", "another finding"]
    images["drawn_as"] = np.select([like, images["abnormal"] == 1], kinds, "no finding")
    return images


def question(finding, reference, radiologists, networks, reports=None):
    """Return a `two_references.Question` on NIH's images.

    Parameters
    ----------
    finding, reference : str
    radiologists : pandas.Series
        1, 0 or NaN by `image_id`.
    networks : sequence of str
        Of `predictions.NETWORKS`.
    reports : pandas.Series, optional
        Other report labels than NIH's, by `image_id`.
    """
    reports = nih_table()[finding] if reports is None else reports
    scores = {}
    for name in networks:
        table = predictions.read_predictions(name)
        scores[name] = pd.Series(predictions.of_finding(table, finding), table.index)
    return two_references.ask(finding, reference, radiologists, reports, scores, nih_table())


def within_strata(asked):
    """Return the radiologists' label within view, follow-up and width, (n,) str: classes for `expected_auc`.

    Where Google's readers chose the images, also within Google's two samples, which differ in how ill patients are.
    """
    strata = [*IMAGE_STRATA, *(["google_part"] if (asked.images["google_part"] != "neither").all() else [])]
    return asked.images[["radiologists", *strata]].astype(str).agg(" ".join, axis=1).to_numpy()


def drawing(read):
    """Return how many images of each `drawn_as` were read, of how many: `read_n, images_n, fraction`.

    Parameters
    ----------
    read : collection of str
        Ids of the images that the radiologists read.
    """
    images = nih_table()
    inside = pd.Series(images.index.isin(list(read)), images.index)
    counts = inside.groupby(images["drawn_as"]).agg(["sum", "size"])
    return counts.set_axis(["read_n", "images_n"], axis=1).assign(fraction=lambda t: t["read_n"] / t["images_n"])


def weights(asked, drawn):
    """Return one over the fraction that was read of each image's kind, (n,) float: all of NIH's images count alike.

    Parameters
    ----------
    asked : two_references.Question
    drawn : pandas.DataFrame
        As `drawing` returns it.
    """
    return (1 / asked.images["drawn_as"].map(drawn["fraction"])).to_numpy(float)


def metadata_question(asked, seeds):
    """Return the question with what metadata alone say in the place of the networks' scores.

    Gradient-boosted trees learn the report label from view, sex, age, follow-up number and original size, on NIH
    images of patients of whom no image is in the question; each seed learns from another half of these patients.

    Parameters
    ----------
    asked : two_references.Question
    seeds : sequence of int

    Returns
    -------
    two_references.Question
        A column a seed.
    """
    images = nih_table()
    others = images[~images["patient_id"].isin(asked.images["patient_id"])]
    known = _numbers(images.loc[asked.images["image_id"]])
    patients = others["patient_id"].unique()
    scores = {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        half = set(rng.choice(patients, len(patients) // 2, replace=False))
        training = others[others["patient_id"].map(half.__contains__)]
        trees = HistGradientBoostingClassifier(max_iter=60, random_state=seed)
        trees.fit(_numbers(training), training[asked.finding])
        scores[f"metadata_{seed}"] = trees.predict_proba(known)[:, 1]
    return two_references.Question(asked.finding, asked.reference, asked.images, pd.DataFrame(scores))


def _numbers(images):
    columns = images[["age", "follow_up_number", "width_px", "height_px"]].astype(float)
    return columns.assign(ap=images["view"] == "AP", male=images["sex"] == "M").to_numpy(float)
