"""Labels of the RSNA, SIIM-ACR and VinBigData challenges."""

import numpy as np
import pandas as pd

from cxrlib.base import paths, vocabulary
from cxrlib.releases import nih, owner_tables

RSNA_MAX_MSE = 5  # pairs of an RSNA and an NIH image that match worse are not the same image


_RSNA_HEADERS = {"PatientID": "image_id", "ViewPosition": "view", "PatientSex": "sex", "PatientAge": "age"}


def _rsna():
    """Return labels, images and notes of the release `rsna`."""
    boxes = owner_tables.package_table("kaggle_stage_2_train_labels.csv.zip", ("patientId", "Target"))
    headers = owner_tables.package_table("kaggle_stage_2_train_images_dicom_headers.csv.gz", tuple(_RSNA_HEADERS))
    headers = headers.rename(columns=_RSNA_HEADERS).drop_duplicates("image_id").set_index("image_id")
    target = boxes.groupby("patientId", sort=False)["Target"].max()
    table = owner_tables.release_table(target.index.to_series(), pd.DataFrame({"airspace_opacity": target}))
    about = headers.reindex(table["image_id"]).reset_index()
    images = owner_tables.release_images(**{column: about[column] for column in about})
    notes = [
        f"{len(boxes):,} rows, one a box or an image without, became {len(table):,} images; an opacity is any box.",
        "Ids are the challenge's; patients are not told, for each image has an id of its own (see rsna_on_nih).",
        f"{int((images['age'] > 120).sum())} images have an age above 120 years, as released.",
    ]
    return table, images, notes


def _rsna_on_nih():
    """Return labels, images and notes of the release `rsna_on_nih`."""
    file = "rsna_to_nih.csv"
    raw = owner_tables.labels_csv(file, ("nih", "mse", "cls"))
    opacity = {"Lung Opacity": 1, "No Lung Opacity / Not Normal": 0, "Normal": 0}
    owner_tables.check_words(raw["cls"], opacity, file, "class")
    mse = pd.to_numeric(raw["mse"], errors="coerce")
    if mse.isna().any():
        at = int(np.flatnonzero(mse.isna())[0])
        raise ValueError(f"{file} line {raw.index[at] + 2}: mse is {raw['mse'].iloc[at]!r}, not a number.")
    good = raw[mse <= RSNA_MAX_MSE]
    rows = pd.DataFrame(
        {
            "image_id": good["nih"],
            "airspace_opacity": good["cls"].map(opacity),
            "no_finding": (good["cls"] == "Normal").astype(int),
        }
    )
    table, twice_n, differ_n = owner_tables.agreed(rows, "image_id")
    images, notes = nih.nih_images(table["image_id"])
    notes += [
        f"{len(raw) - len(good)} of {len(raw):,} rows are dropped: their match error is above {RSNA_MAX_MSE:g}.",
        f"Of the {int(raw['nih'].duplicated().sum())} NIH images that occur twice in the file, {twice_n} still do "
        f"after that; {differ_n} of these disagree and are not assessed.",
    ]
    return table, images, notes


def _rsna_opacity_on_nih():
    """Return labels, images and notes of the release `rsna_opacity_on_nih`."""
    file = "rsna_matches/rsna_to_nih.csv.gz"
    raw = pd.read_csv(paths.third_party(file), dtype={"rsna": "string", "nih": "string"})
    boxes = owner_tables.package_table("kaggle_stage_2_train_labels.csv.zip", ("patientId", "Target"))
    target = boxes.groupby("patientId")["Target"].max()
    good = raw[raw["mse"] <= RSNA_MAX_MSE]
    rows = pd.DataFrame({"image_id": good["nih"], "airspace_opacity": good["rsna"].map(target)})
    if rows["airspace_opacity"].isna().any():
        lost = good["rsna"][rows["airspace_opacity"].isna()].iloc[0]
        raise ValueError(f"{file}: {lost} is not in kaggle_stage_2_train_labels.csv.zip.")
    table, twice_n, differ_n = owner_tables.agreed(rows, "image_id")
    images, notes = nih.nih_images(table["image_id"])
    notes += [
        f"{len(raw) - len(good)} of {len(raw):,} matches are dropped: their match error is above {RSNA_MAX_MSE:g}.",
        f"{twice_n} NIH images still occur twice; {differ_n} of these disagree and are not assessed.",
        "Which images without an opacity are normal is told by a table that is not in a package (see rsna_on_nih).",
    ]
    return table, images, notes


def _siim_chest_tubes():
    """Return labels, images and notes of the release `siim_chest_tubes`."""
    file = "siim_chest_tubes/tube_labels.csv.gz"
    raw = pd.read_csv(paths.third_party(file), dtype={"ImageId": "string"})
    owner_tables.check_words(raw["tube"], (0, 1), file, "tube")
    table = owner_tables.release_table(raw["ImageId"], raw[["tube"]].set_axis(["chest_tube"], axis=1))
    notes = [f"{len(table):,} of the images of `siim`, {int(raw['tube'].sum())} of them with a chest tube."]
    return table, owner_tables.release_images(image_id=table["image_id"]), notes


def _siim():
    """Return labels, images and notes of the release `siim`."""
    raw = owner_tables.package_table(
        "siim-pneumothorax-train-rle.csv.gz", ("ImageId", " EncodedPixels"), dtype="string"
    )
    masked = raw[" EncodedPixels"].str.strip()
    if masked.isna().any():
        line = int(np.flatnonzero(masked.isna())[0]) + 2
        raise ValueError(f"siim-pneumothorax-train-rle.csv.gz line {line}: no mask and no -1.")
    present = (masked != "-1").groupby(raw["ImageId"], sort=False).agg(["max", "min"])
    both = int((present["max"] != present["min"]).sum())
    if both:
        raise ValueError(f"siim-pneumothorax-train-rle.csv.gz: {both} images have both a mask and a -1.")
    table = owner_tables.release_table(
        present.index.to_series(), present[["max"]].astype("float32").set_axis(["pneumothorax"], axis=1)
    )
    notes = [
        f"{len(raw):,} rows, one a mask or an image without, became {len(table):,} images; present is any mask.",
        "Ids are those of the challenge's files: which NIH image and patient each is, is not told, so no split keeps "
        "these images apart from NIH's.",
    ]
    return table, owner_tables.release_images(image_id=table["image_id"]), notes


def _vindr_readers():
    """Return labels, images and notes of the release `vindr_readers`."""
    file = "vinbigdata-train.csv.gz"
    raw = owner_tables.package_table(file, ("image_id", "class_name", "rad_id"), dtype="string")
    owner_tables.check_words(raw["class_name"], vocabulary.VINDR_FINDINGS, file, "class")
    codes = raw["class_name"].map(vocabulary.VINDR_FINDINGS)
    marked = pd.crosstab([raw["image_id"], raw["rad_id"]], codes).clip(upper=1)
    marked = marked.reindex(columns=list(vocabulary.VINDR_FINDINGS.values()), fill_value=0).reset_index()
    table = owner_tables.release_table(
        marked["image_id"], marked[list(vocabulary.VINDR_FINDINGS.values())], marked["rad_id"]
    )
    both = (table["no_finding"] == 1) & (table[list(vocabulary.VINDR_FINDINGS.values())].sum(axis=1) > 1)
    each = table.groupby("image_id").size()
    ids = each.index.to_series()
    notes = [
        f"{len(raw):,} rows, one a box or a rater's 'No finding', became {len(table):,} reads of {len(each):,} "
        f"images by {table['reader_id'].nunique()} raters; {int(raw.duplicated().sum()):,} rows repeat a class.",
        f"{int((each == 3).sum()):,} images have three raters; a class that a rater did not box is absent to that "
        "rater.",
        f"{int(both.sum())} reads say both 'No finding' and a class.",
        "All views are PA, as the owner says; patients are not told.",
    ]
    return table, owner_tables.release_images(image_id=ids, view=pd.Series("PA", ids.index, dtype="string")), notes


# Release to the function that returns its labels, images and notes.
LOADERS = {
    "rsna": _rsna,
    "rsna_opacity_on_nih": _rsna_opacity_on_nih,
    "rsna_on_nih": _rsna_on_nih,
    "siim": _siim,
    "siim_chest_tubes": _siim_chest_tubes,
    "vindr_readers": _vindr_readers,
}
