"""Google's adjudicated labels and readers on ChestX-ray14."""

import numpy as np
import pandas as pd

from cxrlib.base import paths, vocabulary
from cxrlib.releases import nih, owner_tables

# Three of Google's five readers of 810 images, whose majority is the published truth (found by trying all ten threes:
# it gives all 14 findings and `abnormal` exactly); the other two had no part in it.
GOOGLE_ALL_PANEL = ("4343882785", "4343883593", "4343883996")


def read_google_four(which=None):
    """Return Google's adjudicated labels of four findings on NIH images.

    Three radiologists an image, up to five rounds (Majkowska et al., Radiology 2020). The 2,414
    validation images lie inside the official train_val list, the 1,962 test images inside its test list.

    Parameters
    ----------
    which : {"val", "test"}, optional

    Returns
    -------
    pandas.DataFrame
        `image_id, patient_id, set` and four findings (1 or 0, float32). From torchxrayvision's copy.
    """
    raw = pd.read_csv(paths.torchxrayvision_data("google2019_nih-chest-xray-labels.csv.gz"))
    table = pd.DataFrame(
        {
            "image_id": raw["Image Index"],
            "patient_id": raw["Patient ID"].map("{:08d}".format),
            "set": raw["Set Id"],
        }
    )
    for theirs, ours in vocabulary.GOOGLE_FINDINGS.items():
        table[ours] = np.float32(raw[theirs] == "YES")
    return table if which is None else table[table["set"] == which].reset_index(drop=True)


_YES_NO = {"YES": 1, "NO": 0}


def _google_adjudicated():
    """Return labels, images and notes of the release `google_adjudicated`."""
    raw = read_google_four()
    images, notes = nih.nih_images(raw["image_id"], part=raw["set"].astype("string"))
    parts = raw["set"].value_counts()
    notes.append(f"{parts['test']:,} test and {parts['val']:,} validation images; the owner's README says 2,412.")
    return raw.drop(columns=["patient_id", "set"]), images, notes


def _google_four_readers():
    """Return labels, images and notes of the release `google_four_readers`."""
    file = "google_four_findings/individual_readers.csv"
    raw = owner_tables.labels_csv(
        file, ("Patient ID", "Image ID", "Reader ID", "Set ID", *vocabulary.GOOGLE_READER_FINDINGS)
    )
    labels = owner_tables.words_as_labels(raw, vocabulary.GOOGLE_READER_FINDINGS, {**_YES_NO, "HEDGE": -1}, file)
    rows = pd.concat([raw[["Image ID", "Reader ID"]].set_axis(["image_id", "reader_id"], axis=1), labels], axis=1)
    table, twice_n, differ_n = owner_tables.agreed(rows, ["image_id", "reader_id"])
    parts = raw.drop_duplicates("Image ID").set_index("Image ID")["Set ID"]
    ids = table["image_id"].drop_duplicates()
    images, notes = nih.nih_images(ids, part=parts[ids].astype("string"))
    hedged = ", ".join(f"{int((table[f] == -1).sum())} {f}" for f in labels if (table[f] == -1).any())
    readers = table.groupby("image_id").size().value_counts().sort_index()
    spread = ", ".join(f"{n:,} images have {k}" for k, n in readers.items())
    notes += [
        f"{len(raw):,} rows became {len(table):,}: {twice_n} pairs of image and reader occur twice; where the two "
        f"rows differ ({differ_n} of them) the finding is not assessed.",
        f"Readers an image: {spread}.",
        f"HEDGE is uncertain (-1): {hedged}.",
    ]
    return table, images, notes


def _google_all_majority():
    """Return labels, images and notes of the release `google_all_majority`."""
    file = "google_all_findings/test_labels.csv"
    raw = owner_tables.labels_csv(file, ("Image ID", *vocabulary.GOOGLE_ALL_FINDINGS))
    table = owner_tables.release_table(
        raw["Image ID"], owner_tables.words_as_labels(raw, vocabulary.GOOGLE_ALL_FINDINGS, _YES_NO, file)
    )
    images, notes = nih.nih_images(table["image_id"], part=pd.Series("test", table.index, dtype="string"))
    return (
        table,
        images,
        [*notes, "`other` is also present where the majority says abnormal but agrees on no finding."],
    )


def _google_all_readers():
    """Return labels, images and notes of the release `google_all_readers`."""
    file = "google_all_findings/test_individual_readers.csv"
    raw = owner_tables.labels_csv(file, ("Image ID", "Reader ID", *vocabulary.GOOGLE_ALL_FINDINGS))
    meaning = {**_YES_NO, "1": 1, "0": 0}  # `Abnormal` is in numbers here
    labels = owner_tables.words_as_labels(raw, vocabulary.GOOGLE_ALL_FINDINGS, meaning, file)
    table = owner_tables.release_table(raw["Image ID"], labels, raw["Reader ID"])
    ids = table["image_id"].drop_duplicates()
    images, notes = nih.nih_images(ids, part=pd.Series("test", ids.index, dtype="string"))
    none = labels.drop(columns="abnormal").max(axis=1) == 0
    notes.append(
        f"{int((none == (labels['abnormal'] == 1)).sum())} of {len(table):,} reads contradict themselves: abnormal "
        "without a finding or the reverse; no row is dropped."
    )
    return table, images, notes


# Release to the function that returns its labels, images and notes.
LOADERS = {
    "google_adjudicated": _google_adjudicated,
    "google_four_readers": _google_four_readers,
    "google_all_majority": _google_all_majority,
    "google_all_readers": _google_all_readers,
}
