"""The 2,222 real radiographs of `nih_mini` that RSNA's radiologists read, as a `matched.Study`.

Strata are the public holder of the file, the view and the original width in three classes.
"""

import string

import numpy as np
import pandas as pd

from cxrlib.cohorts import shortcuts, sources
from cxrlib.networks import frozen_features
from cxrlib.releases import catalogue
from cxrlib.studies import matched, nih_questions

SETTINGS = {"source": "nih", "folder": "nih", "images_n": 2222}


def read_images(size_px, settings=SETTINGS):
    """Return the images that RSNA's radiologists read, what is known of them, and both sides' labels.

    Parameters
    ----------
    size_px : int
    settings : Mapping
        A cohort's section of `params.yaml`.

    Returns
    -------
    index : pandas.DataFrame
        A row an image: `image_id, patient_id, view, sex, age, follow_up_number`, original size, `holder` (a letter, A
        has most images), `width` (`matched.width_class`), `stratum, finer`.
    pixels : (n, size_px, size_px) uint8
    labels : dict of (finding, side) to (n,) float

    Raises
    ------
    FileNotFoundError, ValueError
        If the images or `sources.csv`, which says whose they are, are not here.
    """
    source = sources.open_source({**settings, "size_px": size_px})
    rsna = catalogue.read_release("rsna_on_nih").table.set_index("image_id").dropna()
    rows = np.flatnonzero(source.table["image_id"].isin(rsna.index))
    index = source.table.iloc[rows].reset_index(drop=True)
    known = nih_questions.nih_table().loc[index["image_id"]]
    holder = shortcuts.holders(settings, index)
    if holder is None:
        raise ValueError("sources.csv, which says which holder each image came from, is not beside the images.")
    names = holder.sum().sort_values(ascending=False, kind="stable").index
    letters = dict(zip(names, string.ascii_uppercase, strict=False))
    index["holder"] = [letters[name] for name in holder.idxmax(axis=1)]
    index["source_height_px"], index["source_width_px"] = known["height_px"].to_numpy(), known["width_px"].to_numpy()
    index["width"] = matched.width_class(index["source_width_px"])
    index["stratum"] = index[["holder", "view", "width"]].astype(str).agg(" | ".join, axis=1)
    index["finer"] = index[["holder", "view", "source_width_px"]].astype(str).agg(" | ".join, axis=1)
    read = rsna.loc[index["image_id"]]
    labels = {
        ("abnormal", "reports"): known["abnormal"].to_numpy(float),
        ("abnormal", "radiologists"): 1 - read["no_finding"].to_numpy(float),
        ("airspace_opacity", "reports"): known["airspace_opacity"].to_numpy(float),
        ("airspace_opacity", "radiologists"): read["airspace_opacity"].to_numpy(float),
    }
    return index, np.stack([source.read(int(row)).square for row in rows]), labels


def controls(index, pixels, settings=SETTINGS):
    """Return what each control knows of the images, a table of numbers each.

    Parameters
    ----------
    index, pixels
        As `read_images` returns them.
    settings : Mapping
    """
    files = shortcuts.files(settings, pixels.shape[1], index)
    return {
        "pixel statistics": shortcuts.pixel_statistics(pixels, range(len(pixels))),
        "file size": files[["bytes"]],
        "original size": files[["height_px", "width_px"]],
        "metadata": shortcuts.metadata(index),
        "holder": shortcuts.holders(settings, index),
    }


def read_study(size_px, settings=SETTINGS):
    """Return the study and the network's maps, (n, h, w, channels) float32, in the order of its images.

    Parameters
    ----------
    size_px : int
    settings : Mapping
    """
    index, pixels, labels = read_images(size_px, settings)
    maps = frozen_features.frozen_maps(pixels)
    predictors = {matched.NETWORK: maps.mean((1, 2)), **matched.with_all(controls(index, pixels, settings))}
    return matched.Study(index, labels, predictors), maps


def strata(study):
    """Return how many images of each holder, view and width there are, and how many each side calls positive.

    Holders of fewer than ten images are one row.

    Parameters
    ----------
    study : matched.Study
    """
    table = study.images[["holder", "view", "width"]].astype(str)
    names = []
    for (finding, side), label in study.labels.items():
        names.append(f"{finding.replace('_', ' ')}, {side}")
        table[names[-1]] = label
    small = table["holder"].map(table["holder"].value_counts()) < 10
    table.loc[small, ["holder", "view", "width"]] = "fewer than ten images", "any", "any"
    groups = table.groupby(["holder", "view", "width"])
    return pd.concat([groups.size().rename("images_n"), groups[names].sum().astype(int)], axis=1)
