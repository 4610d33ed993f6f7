"""NIH's ChestX-ray14: the table of report labels and the boxes."""

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from cxrlib.base import paths, vocabulary
from cxrlib.releases import owner_tables

_NIH_ATTRIBUTES = {
    "Image Index": "image_id",
    "Patient ID": "patient_id",
    "Follow-up #": "follow_up_number",
    "View Position": "view",
    "Patient Gender": "sex",
    "Patient Age": "age",
}


def read_nih_entries(folder=None):
    """Return ChestX-ray14's entry list: image attributes and its 14 report labels.

    Parameters
    ----------
    folder : Path, optional
        Where `Data_Entry_2017_v2020.csv` may lie; torchxrayvision's copy otherwise.

    Returns
    -------
    pandas.DataFrame
        `image_id, patient_id, follow_up_number, view, sex, age` and 14 findings (1 or 0, float32).
        112,120 rows. Ages are years as released; Wang et al., CVPR 2017.
    """
    path = None if folder is None else Path(folder) / "Data_Entry_2017_v2020.csv"
    if path is None or not path.exists():
        path = paths.torchxrayvision_data("Data_Entry_2017_v2020.csv.gz")
    raw = pd.read_csv(path)
    missing = [c for c in ("Finding Labels", *_NIH_ATTRIBUTES) if c not in raw]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}: it is not NIH's Data_Entry_2017_v2020.csv.")
    entries = raw[list(_NIH_ATTRIBUTES)].rename(columns=_NIH_ATTRIBUTES)
    entries["patient_id"] = entries["patient_id"].map("{:08d}".format)
    named = raw["Finding Labels"].str.split("|")
    unknown = set().union(*named) - set(vocabulary.NIH_FINDINGS) - {"No Finding"}
    if unknown:
        raise ValueError(f"{path}: unknown finding {sorted(unknown)[0]!r} in column Finding Labels.")
    for theirs, ours in vocabulary.NIH_FINDINGS.items():
        entries[ours] = np.float32([theirs in labels for labels in named])
    return entries


def read_nih_boxes(folder=None):
    """Return radiologists' boxes as fractions of the image: `image_id, finding, x0_frac ... y1_frac`.

    984 boxes of 8 findings on 880 images; the release gives x, y, width, height in 1024 x 1024 pixels.
    """
    path = None if folder is None else Path(folder) / "BBox_List_2017.csv"
    if path is None or not path.exists():
        path = paths.torchxrayvision_data("BBox_List_2017.csv.gz")
    raw = pd.read_csv(path)
    x, y, width, height = (raw.iloc[:, k].astype(float) for k in (2, 3, 4, 5))
    spelling = {**vocabulary.NIH_FINDINGS, "Infiltrate": "infiltration"}
    return pd.DataFrame(
        {
            "image_id": raw["Image Index"],
            "finding": raw["Finding Label"].map(spelling),
            "x0_frac": x / 1024,
            "y0_frac": y / 1024,
            "x1_frac": (x + width) / 1024,
            "y1_frac": (y + height) / 1024,
        }
    )


def read_nih_sizes():
    """Return the size of each radiograph before the release scaled it: `width_px, height_px` by `image_id`."""
    columns = {"Image Index": "image_id", "OriginalImage[Width": "width_px", "Height]": "height_px"}
    raw = owner_tables.package_table("Data_Entry_2017_v2020.csv.gz", tuple(columns)).rename(columns=columns)
    return raw.drop_duplicates("image_id").set_index("image_id")


def read_test_list_patients():
    """Return which patient each image of the official test list is of, (25596,) int: numbers that mean nothing else.

    The list is in no package, so that only how many patients have how many images in it is kept here.
    """
    text = (Path(__file__).parent / "nih_test_list.yaml").read_text()
    images_n = yaml.safe_load(text)["images_of_a_patient"]
    return np.repeat(np.arange(sum(images_n.values())), np.repeat(list(images_n), list(images_n.values())))


def nih_images(image_ids, **columns):
    """Return attributes of NIH images from NIH's own list, and a note if it lacks some of them."""
    entries = _nih_attributes()
    known = pd.Series(image_ids).isin(entries.index)
    images = entries.reindex(image_ids).reset_index()
    note = (
        [] if known.all() else [f"{int((~known).sum()):,} images are not in NIH's entry list: nothing known of them."]
    )
    return owner_tables.release_images(
        **{c: images[c] for c in images}, **{c: v.to_numpy() for c, v in columns.items()}
    ), note


@functools.cache
def _nih_attributes():
    raw = owner_tables.package_table("Data_Entry_2017_v2020.csv.gz", tuple(_NIH_ATTRIBUTES)).rename(
        columns=_NIH_ATTRIBUTES
    )
    raw["patient_id"] = raw["patient_id"].map("{:08d}".format)
    return raw.drop_duplicates("image_id").set_index("image_id")


def _nih_reports():
    """Return labels, images and notes of the release `nih_reports`."""
    entries = read_nih_entries()
    table = entries[["image_id", *vocabulary.NIH_FINDINGS.values()]].copy()
    for finding in ("airspace_opacity", "nodule_or_mass"):
        table[finding] = table[list(vocabulary.ANY_OF[finding])].max(axis=1)
    images = owner_tables.release_images(**{column: entries[column] for column in owner_tables.RELEASE_COLUMNS})
    return table, images, [f"All {len(table):,} rows of NIH's entry list are taken; no label is left out."]


# Release to the function that returns its labels, images and notes.
LOADERS = {
    "nih_reports": _nih_reports,
}
