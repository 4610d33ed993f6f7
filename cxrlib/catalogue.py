"""Published label sets of chest radiographs: each read from its owner's table, on the shared vocabulary, with a card.

`read(name)` returns a `LabelSet`; `names()` lists the entries of `ENTRIES`. Most tables are in the
torchxrayvision package; the others lie in `$CXR_DATA/labels` or `data/sources/labels`, where
`python -m cxrlib.fetch` puts them. Sets on the same pixels belong to one family (`PIXELS`), and none of a
family is external to another (`check_not_shared`).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib import labelsets, openi, paths
from cxrlib.labelsets import (
    ANY_OF,
    CHEXPERT_FINDINGS,
    GOOGLE_ALL_FINDINGS,
    GOOGLE_FINDINGS,
    GOOGLE_READER_FINDINGS,
    NIH_FINDINGS,
    OPENI_CODES,
    OPENI_GOLD_FINDINGS,
    PADCHEST_TERMS,
    VINDR_FINDINGS,
)

IMAGE_COLUMNS = ("image_id", "patient_id", "view", "sex", "age", "follow_up_number")

# Whose pixels: entries of this catalogue and dataset classes of torchxrayvision, by collection. RSNA's pneumonia
# challenge, SIIM-ACR's pneumothorax masks and both of Google's label sets are on ChestX-ray14.
SAME_PIXELS = {
    "nih": (
        "NIH_Dataset",
        "NIH_Google_Dataset",
        "RSNA_Pneumonia_Dataset",
        "SIIM_Pneumothorax_Dataset",
        "nih_reports",
        "google_adjudicated",
        "google_four_readers",
        "google_all_majority",
        "google_all_readers",
        "rsna",
        "rsna_on_nih",
        "siim",
    ),
    "chexpert": (
        "CheX_Dataset",
        "CheXlocalize_Dataset",
        "chexpert_labeler",
        "chexpert_test_majority",
        "chexpert_test_readers",
        "chexpert_test_labeler",
        "chexpert_test_models",
    ),
    "vindr": ("VinDr_Dataset", "vindr_readers"),
    "padchest": ("PC_Dataset", "padchest_physicians", "padchest_network"),
    "openi": ("Openi_Dataset", "openi_codes", "openi_gold"),
}
PIXELS = {member: family for family, members in SAME_PIXELS.items() for member in (family, *members)}

RSNA_MAX_MSE = 5  # pairs of an RSNA and an NIH image that match worse are not the same image
CHEXPERT_PANEL = ("bc1", "bc2", "bc3", "bc5", "bc7")  # the radiologists whose majority is the test set's truth
CHEXPERT_BENCHMARK = ("bc4", "bc6", "bc8")  # the radiologists whom models were compared with
# Three of Google's five readers of 810 images, whose majority is the published truth (found by trying all ten threes:
# it gives all 14 findings and `abnormal` exactly); the other two had no part in it.
GOOGLE_ALL_PANEL = ("4343882785", "4343883593", "4343883996")
CHEXPERT_MODELS = (
    "desmond",
    "drnet",
    "hieupham",
    "ihil",
    "jfaboy",
    "ngango2",
    "ngango3",
    "sensexdr",
    "uestc",
    "yww211",
)
OPENI_GOLD_WHOLE = "openi_gold/openi_gld_std14.csv"  # the owner's file; ours lacks the reports that are kept apart


@dataclass(frozen=True)
class LabelSet:
    """A published label set.

    Attributes
    ----------
    name : str
    table : pandas.DataFrame
        `image_id` (with several readers an image also `reader_id`), unique, and float32 findings: 1 present,
        0 absent, -1 uncertain, NaN not assessed.
    images : pandas.DataFrame
        A row per image: `IMAGE_COLUMNS` as far as known, else NA; age in years as released. Google's sets also
        have `part`, the publisher's `val` or `test`.
    card : dict
        `labelsets.CARD_FIELDS`, and `pixels`, `images_n`, `readers_n` (0 where readers are not told apart),
        `counts`.
    notes : tuple of str
        What was dropped, merged or not mapped, with its number, a sentence each.
    """

    name: str
    table: pd.DataFrame
    images: pd.DataFrame
    card: dict
    notes: tuple


@dataclass(frozen=True)
class Entry:
    """Where a label set is and how it is read.

    Attributes
    ----------
    load : Callable[[], (table, images, notes)]
    card : dict
        `labelsets.CARD_FIELDS`.
    package : tuple of str
        Files of torchxrayvision's data folder that it needs.
    labels : tuple of str
        Files below `labels/` of `$CXR_DATA` or `data/sources` that it needs.
    instead : tuple of str
        Files below `labels/` that do as well.
    readers : bool
        Whether there is a row per image and reader.
    """

    load: Callable
    card: dict
    package: tuple = ()
    labels: tuple = ()
    instead: tuple = ()
    readers: bool = False


# --- what is there ------------------------------------------------------------------------------------------


def names():
    """Return the names of the label sets, in order."""
    return tuple(ENTRIES)


def _entry(name):
    if name not in ENTRIES:
        raise ValueError(f"There is no published label set {name!r}; there are {', '.join(ENTRIES)}.")
    return ENTRIES[name]


def find_labels(path):
    """Return the file `labels/<path>` of `$CXR_DATA` or `data/sources`, None if it is in neither."""
    try:
        return paths.source_path(Path("labels") / path)
    except FileNotFoundError:
        return None


def available(name):
    """Return whether all files of a label set are here, without reading them."""
    entry = _entry(name)
    if entry.instead and all(find_labels(path) for path in entry.instead):
        return True
    return all(find_labels(path) for path in entry.labels)


def where(name):
    """Return in a sentence where a label set's files are, or are to be put."""
    entry = _entry(name)
    said = []
    if entry.package:
        said.append(f"{', '.join(entry.package)} in the torchxrayvision package")
    if entry.labels:
        said.append(
            f"{', '.join(entry.labels)} in $CXR_DATA/labels or data/sources/labels "
            f"(`python -m cxrlib.fetch {name}` fetches them or says where from)"
        )
    return "; ".join(said) + "."


def read(name):
    """Return a published label set, checked.

    Parameters
    ----------
    name : str
        A key of `ENTRIES`.

    Raises
    ------
    FileNotFoundError
        If a file of it is not here; the message says where to get it.
    ValueError
        If there is no such entry, or its file is not the published one: a column is missing, a class or value
        is unknown, an image occurs twice.
    """
    entry = _entry(name)
    if not available(name):
        raise FileNotFoundError(f"Label set {name!r} is not here: it needs {where(name)}")
    remedy = f"Remove that file and run `python -m cxrlib.fetch {name}`." if entry.labels else _REINSTALL
    try:
        table, images, notes = entry.load()
        table = table.astype({c: "string" for c in ("image_id", "reader_id") if c in table})
        labelsets.check(table, f"label set {name!r}", entry.readers)
    except ValueError as error:
        raise ValueError(f"{error} {remedy}") from error
    card = {
        **entry.card,
        "pixels": PIXELS[name],
        "images_n": int(table["image_id"].nunique()),
        "readers_n": int(table["reader_id"].nunique()) if entry.readers else 0,
        "counts": labelsets.counts(table),
    }
    return LabelSet(name, table, images, card, tuple(notes))


def same_pixels(a, b):
    """Return whether two label sets (or torchxrayvision dataset classes) are on images of one collection.

    Raises
    ------
    ValueError
        If one of them is in no family of `SAME_PIXELS`.
    """
    for name in (a, b):
        if name not in PIXELS:
            raise ValueError(f"{name!r} is in no family of images; known are {', '.join(PIXELS)}.")
    return PIXELS[a] == PIXELS[b]


def check_not_shared(train_name, test_name):
    """Raise a ValueError, with the reason, if a label set is claimed to be external to one on the same pixels."""
    if same_pixels(train_name, test_name):
        raise ValueError(f"{test_name!r} is not external to {train_name!r}: {shared_reason(PIXELS[train_name])}")


def shared_reason(family):
    """Return why nothing of a family of pixels is external to another of it."""
    if family == "nih":
        return (
            "both are nih images (RSNA, SIIM-ACR and Google's labels are on NIH images). Use it as a label set "
            "of the NIH cohort instead."
        )
    return f"both are {family} images. Use it as a label set of that cohort, on a split by patient."


# --- reading: what several entries share --------------------------------------------------------------------

_REINSTALL = "Reinstall requirements.txt."


def _package(file, columns, **options):
    """Return columns of a table in the torchxrayvision package, or say which one is missing."""
    path = paths.torchxrayvision_data(file)
    raw = pd.read_csv(path, usecols=lambda c: c in columns, **options)
    missing = [c for c in columns if c not in raw]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}: it is not the published table.")
    return raw


def _labels_csv(path, columns):
    """Return a table below `labels/` as text."""
    return labelsets.read_csv(find_labels(path), columns)


def _words_as_labels(raw, spelling, meaning, path):
    """Return columns of words (YES, NO, HEDGE) as float32 findings; an unknown word raises, naming its line."""
    labels = {}
    for theirs, ours in spelling.items():
        values = raw[theirs].map(meaning)
        if values.isna().any():
            at = int(np.flatnonzero(values.isna())[0])
            raise ValueError(
                f"{path} line {raw.index[at] + 2}: {theirs} is {raw[theirs].iloc[at]!r}, none of "
                f"{', '.join(meaning)}."
            )
        labels[ours] = values.astype("float32")
    return pd.DataFrame(labels, index=raw.index)


def _check_words(values, known, path, column):
    unknown = sorted(set(values.dropna()) - set(known)) + ["empty"] * bool(values.isna().any())
    if unknown:
        raise ValueError(f"{path}: {column} {unknown[0]!r} is none of {', '.join(known)}.")


def _agreed(rows, key):
    """Return one row per key, sorted; where rows of one key differ in a finding, it is not assessed.

    Returns
    -------
    table : pandas.DataFrame
    twice_n, differ_n : int
        Keys that occur more than once, and those of them that differ in any finding.
    """
    grouped = rows.groupby(key)
    low, high = grouped.min(), grouped.max()
    differ = low != high
    return (
        low.mask(differ).astype("float32").reset_index(),
        int((grouped.size() > 1).sum()),
        int(differ.any(axis=1).sum()),
    )


def _images(**columns):
    """Return the images of a label set, one row each, with the standard columns and dtypes."""
    images = pd.DataFrame(columns)
    kinds = dict.fromkeys(IMAGE_COLUMNS, "string") | {"age": "Float64", "follow_up_number": "Int64"}
    for column, kind in kinds.items():
        images[column] = images[column].astype(kind) if column in images else pd.array([pd.NA] * len(images), kind)
    rest = [c for c in images if c not in IMAGE_COLUMNS]
    return images.drop_duplicates("image_id")[[*IMAGE_COLUMNS, *rest]].reset_index(drop=True)


def _table(image_id, labels, reader_id=None):
    """Return a label table from ids and a frame of findings, with its dtypes."""
    keys = {"image_id": image_id} if reader_id is None else {"image_id": image_id, "reader_id": reader_id}
    keys = pd.DataFrame({name: values.astype("string") for name, values in keys.items()})
    return pd.concat([keys, labels.astype("float32")], axis=1).reset_index(drop=True)


# --- NIH ChestX-ray14 ---------------------------------------------------------------------------------------

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
    unknown = set().union(*named) - set(NIH_FINDINGS) - {"No Finding"}
    if unknown:
        raise ValueError(f"{path}: unknown finding {sorted(unknown)[0]!r} in column Finding Labels.")
    for theirs, ours in NIH_FINDINGS.items():
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
    spelling = {**NIH_FINDINGS, "Infiltrate": "infiltration"}
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
    for theirs, ours in GOOGLE_FINDINGS.items():
        table[ours] = np.float32(raw[theirs] == "YES")
    return table if which is None else table[table["set"] == which].reset_index(drop=True)


def _nih_images(image_ids, **columns):
    """Return attributes of NIH images from NIH's own list, and a note if it lacks some of them."""
    entries = _nih_attributes()
    known = pd.Series(image_ids).isin(entries.index)
    images = entries.reindex(image_ids).reset_index()
    note = (
        [] if known.all() else [f"{int((~known).sum()):,} images are not in NIH's entry list: nothing known of them."]
    )
    return _images(**{c: images[c] for c in images}, **{c: v.to_numpy() for c, v in columns.items()}), note


@functools.cache
def _nih_attributes():
    raw = _package("Data_Entry_2017_v2020.csv.gz", tuple(_NIH_ATTRIBUTES)).rename(columns=_NIH_ATTRIBUTES)
    raw["patient_id"] = raw["patient_id"].map("{:08d}".format)
    return raw.drop_duplicates("image_id").set_index("image_id")


def _nih_reports():
    entries = read_nih_entries()
    table = entries[["image_id", *NIH_FINDINGS.values()]].copy()
    for finding in ("airspace_opacity", "nodule_or_mass"):
        table[finding] = table[list(ANY_OF[finding])].max(axis=1)
    images = _images(**{column: entries[column] for column in IMAGE_COLUMNS})
    return table, images, [f"All {len(table):,} rows of NIH's entry list are taken; no label is left out."]


# --- Google on NIH ------------------------------------------------------------------------------------------

_YES_NO = {"YES": 1, "NO": 0}


def _google_adjudicated():
    raw = read_google_four()
    images, notes = _nih_images(raw["image_id"], part=raw["set"].astype("string"))
    parts = raw["set"].value_counts()
    notes.append(f"{parts['test']:,} test and {parts['val']:,} validation images; the owner's README says 2,412.")
    return raw.drop(columns=["patient_id", "set"]), images, notes


def _google_four_readers():
    file = "google_four_findings/individual_readers.csv"
    raw = _labels_csv(file, ("Patient ID", "Image ID", "Reader ID", "Set ID", *GOOGLE_READER_FINDINGS))
    labels = _words_as_labels(raw, GOOGLE_READER_FINDINGS, {**_YES_NO, "HEDGE": -1}, file)
    rows = pd.concat([raw[["Image ID", "Reader ID"]].set_axis(["image_id", "reader_id"], axis=1), labels], axis=1)
    table, twice_n, differ_n = _agreed(rows, ["image_id", "reader_id"])
    parts = raw.drop_duplicates("Image ID").set_index("Image ID")["Set ID"]
    ids = table["image_id"].drop_duplicates()
    images, notes = _nih_images(ids, part=parts[ids].astype("string"))
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
    file = "google_all_findings/test_labels.csv"
    raw = _labels_csv(file, ("Image ID", *GOOGLE_ALL_FINDINGS))
    table = _table(raw["Image ID"], _words_as_labels(raw, GOOGLE_ALL_FINDINGS, _YES_NO, file))
    images, notes = _nih_images(table["image_id"], part=pd.Series("test", table.index, dtype="string"))
    return (
        table,
        images,
        [*notes, "`other` is also present where the majority says abnormal but agrees on no finding."],
    )


def _google_all_readers():
    file = "google_all_findings/test_individual_readers.csv"
    raw = _labels_csv(file, ("Image ID", "Reader ID", *GOOGLE_ALL_FINDINGS))
    meaning = {**_YES_NO, "1": 1, "0": 0}  # `Abnormal` is in numbers here
    labels = _words_as_labels(raw, GOOGLE_ALL_FINDINGS, meaning, file)
    table = _table(raw["Image ID"], labels, raw["Reader ID"])
    ids = table["image_id"].drop_duplicates()
    images, notes = _nih_images(ids, part=pd.Series("test", ids.index, dtype="string"))
    none = labels.drop(columns="abnormal").max(axis=1) == 0
    notes.append(
        f"{int((none == (labels['abnormal'] == 1)).sum())} of {len(table):,} reads contradict themselves: abnormal "
        "without a finding or the reverse; no row is dropped."
    )
    return table, images, notes


# --- RSNA and SIIM-ACR, on NIH pixels -----------------------------------------------------------------------

_RSNA_HEADERS = {"PatientID": "image_id", "ViewPosition": "view", "PatientSex": "sex", "PatientAge": "age"}


def _rsna():
    boxes = _package("kaggle_stage_2_train_labels.csv.zip", ("patientId", "Target"))
    headers = _package("kaggle_stage_2_train_images_dicom_headers.csv.gz", tuple(_RSNA_HEADERS))
    headers = headers.rename(columns=_RSNA_HEADERS).drop_duplicates("image_id").set_index("image_id")
    target = boxes.groupby("patientId", sort=False)["Target"].max()
    table = _table(target.index.to_series(), pd.DataFrame({"airspace_opacity": target}))
    about = headers.reindex(table["image_id"]).reset_index()
    images = _images(**{column: about[column] for column in about})
    notes = [
        f"{len(boxes):,} rows, one a box or an image without, became {len(table):,} images; an opacity is any box.",
        "Ids are the challenge's; patients are not told, for each image has an id of its own (see rsna_on_nih).",
        f"{int((images['age'] > 120).sum())} images have an age above 120 years, as released.",
    ]
    return table, images, notes


def _rsna_on_nih():
    file = "rsna_to_nih.csv"
    raw = _labels_csv(file, ("nih", "mse", "cls"))
    opacity = {"Lung Opacity": 1, "No Lung Opacity / Not Normal": 0, "Normal": 0}
    _check_words(raw["cls"], opacity, file, "class")
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
    table, twice_n, differ_n = _agreed(rows, "image_id")
    images, notes = _nih_images(table["image_id"])
    notes += [
        f"{len(raw) - len(good)} of {len(raw):,} rows are dropped: their match error is above {RSNA_MAX_MSE:g}.",
        f"Of the {int(raw['nih'].duplicated().sum())} NIH images that occur twice in the file, {twice_n} still do "
        f"after that; {differ_n} of these disagree and are not assessed.",
    ]
    return table, images, notes


def _siim():
    raw = _package("siim-pneumothorax-train-rle.csv.gz", ("ImageId", " EncodedPixels"), dtype="string")
    masked = raw[" EncodedPixels"].str.strip()
    if masked.isna().any():
        line = int(np.flatnonzero(masked.isna())[0]) + 2
        raise ValueError(f"siim-pneumothorax-train-rle.csv.gz line {line}: no mask and no -1.")
    present = (masked != "-1").groupby(raw["ImageId"], sort=False).agg(["max", "min"])
    both = int((present["max"] != present["min"]).sum())
    if both:
        raise ValueError(f"siim-pneumothorax-train-rle.csv.gz: {both} images have both a mask and a -1.")
    table = _table(present.index.to_series(), present[["max"]].astype("float32").set_axis(["pneumothorax"], axis=1))
    notes = [
        f"{len(raw):,} rows, one a mask or an image without, became {len(table):,} images; present is any mask.",
        "Ids are those of the challenge's files: which NIH image and patient each is, is not told, so no split keeps "
        "these images apart from NIH's.",
    ]
    return table, _images(image_id=table["image_id"]), notes


# --- VinDr-CXR ----------------------------------------------------------------------------------------------


def _vindr_readers():
    file = "vinbigdata-train.csv.gz"
    raw = _package(file, ("image_id", "class_name", "rad_id"), dtype="string")
    _check_words(raw["class_name"], VINDR_FINDINGS, file, "class")
    codes = raw["class_name"].map(VINDR_FINDINGS)
    marked = pd.crosstab([raw["image_id"], raw["rad_id"]], codes).clip(upper=1)
    marked = marked.reindex(columns=list(VINDR_FINDINGS.values()), fill_value=0).reset_index()
    table = _table(marked["image_id"], marked[list(VINDR_FINDINGS.values())], marked["rad_id"])
    both = (table["no_finding"] == 1) & (table[list(VINDR_FINDINGS.values())].sum(axis=1) > 1)
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
    return table, _images(image_id=ids, view=pd.Series("PA", ids.index, dtype="string")), notes


# --- PadChest -----------------------------------------------------------------------------------------------

_PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
_PADCHEST_COLUMNS = (
    "ImageID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "StudyDate_DICOM",
    "Projection",
    "MethodLabel",
    "Labels",
)
_PADCHEST_VIEWS = {"PA": "PA", "L": "L", "AP": "AP", "AP_horizontal": "AP", "COSTAL": "COSTAL", "UNK": pd.NA}
# Terms that say how the report was made rather than what is there: after them, what is not listed is not absent.
_PADCHEST_INCOMPLETE = ("unchanged", "suboptimal study")


def _padchest_terms(rows):
    """Return a row per row of the table and distinct term of its list: `row, term`."""
    terms = rows["Labels"].str.findall("'([^']*)'").explode().str.strip()
    terms = pd.DataFrame({"row": terms.index, "term": terms.astype("string").to_numpy()}).drop_duplicates()
    return terms[terms["term"].fillna("") != ""]


def _padchest(method):
    """Return the rows of PadChest that one method labelled: `Physician` or `RNN_model`."""
    raw = _package(_PADCHEST, _PADCHEST_COLUMNS, dtype="string")
    _check_words(raw["MethodLabel"], ("Physician", "RNN_model"), _PADCHEST, "MethodLabel")
    _check_words(raw["Projection"], (*_PADCHEST_VIEWS, "EXCLUDE"), _PADCHEST, "Projection")
    rows = raw[raw["MethodLabel"] == method]
    terms = _padchest_terms(rows)
    drops = {
        "list nothing": ~rows.index.isin(terms["row"]),
        "are to be excluded, as PadChest says of the report": rows.index.isin(
            terms["row"][terms["term"] == "exclude"]
        ),
        "are to be excluded, as PadChest says of the projection": (rows["Projection"] == "EXCLUDE").to_numpy(),
    }
    dropped = np.zeros(len(rows), bool)
    notes = []
    for why, these in drops.items():
        notes.append(f"{int((these & ~dropped).sum()):,} of {len(rows):,} images are dropped: they {why}.")
        dropped |= these
    kept = rows[~dropped]
    labels, more = _padchest_labels(kept.index, terms[terms["row"].isin(kept.index)])
    born, taken = (pd.to_numeric(kept[c], errors="coerce") for c in ("PatientBirth", "StudyDate_DICOM"))
    images = _images(
        image_id=kept["ImageID"],
        patient_id=kept["PatientID"],
        view=kept["Projection"].map(_PADCHEST_VIEWS),
        sex=kept["PatientSex_DICOM"].where(kept["PatientSex_DICOM"].isin(["M", "F"])),
        age=taken // 10000 - born,
    )
    notes += [*more, f"{int((images['view'] == 'L').sum()):,} images are lateral; labels are of the study's report."]
    return _table(kept["ImageID"], labels), images, notes


def _padchest_labels(index, terms):
    """Return float32 findings for rows `index` from their terms, and notes."""

    def listed(*these):
        return index.isin(terms["row"][terms["term"].isin(these)])

    labels = pd.DataFrame({f: listed(*these) for f, these in PADCHEST_TERMS.items()}, index=index).astype("float32")
    about = ("normal", *_PADCHEST_INCOMPLETE)
    normal, other = listed("normal"), index.isin(terms["row"][~terms["term"].isin(about)])
    incomplete = listed(*_PADCHEST_INCOMPLETE) & ~normal
    labels[incomplete] = labels[incomplete].mask(labels[incomplete] == 0)
    labels["no_finding"] = np.select([normal & other, normal, other], [np.nan, 1, 0], np.nan).astype("float32")
    mapped = {term for these in PADCHEST_TERMS.values() for term in these} | set(about)
    left = terms[~terms["term"].isin(mapped)]
    notes = [
        f"{int(incomplete.sum()):,} images list 'unchanged' or 'suboptimal study': what else they list is present, "
        "what they do not list is not assessed.",
        f"{int((normal & other).sum()):,} images list 'normal' and something else: the findings are present, "
        "no_finding is not assessed.",
        f"{left['term'].nunique()} of {terms['term'].nunique()} terms ({len(left):,} of {len(terms):,} mentions) "
        "are no finding of the vocabulary and are left out.",
    ]
    return labels, notes


# --- CheXpert -----------------------------------------------------------------------------------------------


def _chexpert_patients(image_ids, file):
    patients = image_ids.str.extract(r"(patient\d+)", expand=False)
    if patients.isna().any():
        raise ValueError(f"{file}: {image_ids[patients.isna()].iloc[0]!r} names no patient.")
    return patients


def _chexpert_labeler():
    file = "chexpert_train.csv.gz"
    raw = _package(file, ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS))
    labels = raw[list(CHEXPERT_FINDINGS)].rename(columns=CHEXPERT_FINDINGS)
    table = _table(raw["Path"], labels)
    _check_words(raw["Frontal/Lateral"], ("Frontal", "Lateral"), file, "Frontal/Lateral")
    images = _images(
        image_id=raw["Path"],
        patient_id=_chexpert_patients(raw["Path"], file),
        view=raw["AP/PA"].mask(raw["Frontal/Lateral"] == "Lateral", "L"),
        sex=raw["Sex"].map({"Male": "M", "Female": "F"}),
        age=raw["Age"].mask(raw["Age"] == 0),
    )
    counts = labels.stack().value_counts()
    odd = int((images["view"].isin(["LL", "RL"])).sum())
    notes = [
        f"All {len(table):,} rows are taken; {int(counts.get(-1, 0)):,} labels are uncertain (-1) and "
        f"{int(labels.isna().sum().sum()):,} are blank: not mentioned, kept as not assessed.",
        f"{int((images['view'] == 'L').sum()):,} images are lateral; {odd} are called frontal with view LL or RL, "
        "kept as that.",
        f"{int(images['age'].isna().sum())} ages of 0, which means unknown, and {int(images['sex'].isna().sum())} "
        "sex 'Unknown' are missing.",
    ]
    return table, images, notes


def _chexpert_test(file):
    """Return a table of CheXpert's 500 test studies: `image_id` (the study) and 14 findings."""
    raw = _labels_csv(file, ("Study", *CHEXPERT_FINDINGS))
    raw = raw.rename(columns={"Study": "image_id", **CHEXPERT_FINDINGS})
    return _table(raw["image_id"], labelsets.check_label_columns(raw, list(CHEXPERT_FINDINGS.values()), file))


def _chexpert_studies(table, file):
    studies = table["image_id"].drop_duplicates()
    return _images(image_id=studies, patient_id=_chexpert_patients(studies, file))


_STUDIES = "Ids are studies: all images of one share its labels."


def _chexpert_test_majority():
    table = _chexpert_test(_CHEXPERT_TRUTH)
    return table, _chexpert_studies(table, _CHEXPERT_TRUTH), [_STUDIES, f"{len(table)} studies; no row is dropped."]


def _chexpert_test_readers():
    parts = [_chexpert_test(file) for file in _CHEXPERT_READERS]
    for file, part in zip(_CHEXPERT_READERS, parts, strict=True):
        if set(part["image_id"]) != set(parts[0]["image_id"]):
            raise ValueError(f"{file} and {_CHEXPERT_READERS[0]} are of different studies.")
    whole = pd.concat(
        [p.assign(reader_id=r) for p, r in zip(parts, (*CHEXPERT_PANEL, *CHEXPERT_BENCHMARK), strict=True)]
    )
    table = _table(whole["image_id"], whole[list(CHEXPERT_FINDINGS.values())], whole["reader_id"])
    notes = [
        _STUDIES,
        f"{len(parts)} radiologists read {len(parts[0])} studies each; no row is dropped.",
        f"The majority of {', '.join(CHEXPERT_PANEL)} is chexpert_test_majority; {', '.join(CHEXPERT_BENCHMARK)} "
        "are the benchmark: only these are independent of it.",
    ]
    return table, _chexpert_studies(table, _CHEXPERT_READERS[0]), notes


def _chexpert_test_labeler():
    table = _chexpert_test(_CHEXPERT_LABELER)
    labels = table.drop(columns="image_id")
    notes = [
        _STUDIES,
        f"{len(table)} studies; {int((labels == -1).sum().sum())} labels are uncertain (-1) and "
        f"{int(labels.isna().sum().sum()):,} blank: not mentioned.",
        "The owner's CheXpert and CheXbert files are the same bytes, so which labeler's output this is cannot be "
        "told.",
    ]
    return table, _chexpert_studies(table, _CHEXPERT_LABELER), notes


def chexpert_test_models():
    """Return what ten leaderboard models said of CheXpert's 500 test studies.

    Returns
    -------
    pandas.DataFrame
        `image_id` (the study), `model`, `finding`, `score` (float64), 25,000 rows: ten models, five findings.
        Scores are raw: desmond's edema and effusion and ngango2's atelectasis exceed 1 (up to 2.8), so they
        rank studies but are no probabilities.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, is not of the same studies as the first, or holds no numbers.

    Notes
    -----
    The models are not all independent: drnet, ihil, sensexdr and uestc share their scores of atelectasis,
    consolidation and effusion (the first three also of edema). Rajpurkar et al., CheXternal, CHIL 2021.
    """
    missing = [file for file in CHEXPERT_MODEL_FILES if find_labels(file) is None]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} is not in $CXR_DATA/labels or data/sources/labels: run "
            "`python -m cxrlib.fetch chexpert_test_models`."
        )
    parts = []
    for model, file in zip(CHEXPERT_MODELS, CHEXPERT_MODEL_FILES, strict=True):
        found = [f for f in CHEXPERT_FINDINGS if f in ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema")]
        raw = _labels_csv(file, ("Study", *found, "Pleural Effusion")).rename(columns={"Study": "image_id"})
        long = raw.melt("image_id", var_name="finding", value_name="score")
        _check_words(long["finding"], CHEXPERT_FINDINGS, file, "column")
        long["score"] = pd.to_numeric(long["score"], errors="coerce").astype("float64")
        if long["score"].isna().any():
            raise ValueError(
                f"{file}: study {long['image_id'][long['score'].isna()].iloc[0]!r} has a score that is no number."
            )
        other = bool(parts) and set(long["image_id"]) != set(parts[0]["image_id"])
        if other or raw["image_id"].duplicated().any():
            raise ValueError(f"{file} and {CHEXPERT_MODEL_FILES[0]} are of different studies, or one occurs twice.")
        parts.append(long.assign(model=model, finding=long["finding"].map(CHEXPERT_FINDINGS)))
    return pd.concat(parts, ignore_index=True)[["image_id", "model", "finding", "score"]]


# --- Open-i (Indiana University) ----------------------------------------------------------------------------

def _openi_reports():
    """Return a row per report: `report`, the list of its human `codes`, and how many `images_n` it has."""
    rows = [(report.report_id, list(report.codes), report.images_n) for report in openi.read()]
    if not rows:
        raise ValueError(f"{paths.torchxrayvision_data(openi.ARCHIVE)} holds no report.")
    return pd.DataFrame(rows, columns=["report", "codes", "images_n"]).sort_values("report", ignore_index=True)


def _openi_parts(codes):
    """Return `code, heading` and the set of `qualifiers` of each distinct code, in lower case."""
    split = [[part.strip().lower() for part in code.split("/")] for code in codes]
    return pd.DataFrame(
        {"code": list(codes), "heading": [s[0] for s in split], "qualifiers": [set(s[1:]) for s in split]}
    )


def _openi_matches(parts, wanted):
    """Return the codes that are one of `wanted`, as `heading` or `heading/qualifier`."""
    hit = np.zeros(len(parts), bool)
    for heading, _, qualifier in (term.lower().partition("/") for term in wanted):
        hit |= (parts["heading"] == heading) & np.array(
            [not qualifier or qualifier in q for q in parts["qualifiers"]]
        )
    return set(parts["code"][hit])


def _openi_codes():
    reports = _openi_reports()
    said = reports[["report", "codes"]].explode("codes").drop_duplicates()
    parts = _openi_parts(sorted(set(said["codes"].dropna())))
    uncoded = _openi_matches(parts, ("No Indexing",))
    kept = reports[
        ~reports["report"].isin(said["report"][said["codes"].isin(uncoded)]) & (reports["codes"].str.len() > 0)
    ]

    def listed(*wanted):
        return kept["report"].isin(said["report"][said["codes"].isin(_openi_matches(parts, wanted))])

    labels = pd.DataFrame({finding: listed(*wanted) for finding, wanted in OPENI_CODES.items()}).astype("float32")
    labels["no_finding"] = listed("normal").astype("float32")
    unsatisfactory = listed("Technical Quality of Image Unsatisfactory")
    labels[unsatisfactory] = labels[unsatisfactory].mask(labels[unsatisfactory] == 0)
    about = ("normal", "Technical Quality of Image Unsatisfactory", "No Indexing")
    mapped = set().union(*(_openi_matches(parts, wanted) for wanted in (*OPENI_CODES.values(), about)))
    said = said[said["report"].isin(kept["report"])]
    left = said[~said["codes"].isin(mapped)]
    table = _table(kept["report"], labels)
    notes = [
        f"Labels are per report, not per image: {len(table):,} reports, of which "
        f"{int((kept['images_n'] == 0).sum())} have no image and {int((kept['images_n'] > 1).sum()):,} more than "
        "one; ids are those of reports.",
        f"{len(reports) - len(kept)} of {len(reports):,} reports are dropped: they were not coded ('No Indexing').",
        f"{int(unsatisfactory.sum())} reports say that the image is of unsatisfactory quality: what they do not "
        "list is not assessed.",
        f"{left['codes'].nunique():,} of {said['codes'].nunique():,} codes with their qualifiers ({len(left):,} of "
        f"{len(said):,} mentions) are no finding of the vocabulary and are left out.",
        "The terms that a program added (MeSH/automatic) are not used. Patients are not told.",
    ]
    return table, _images(image_id=table["image_id"]), notes


def _openi_gold():
    file = next(f for f in (*ENTRIES["openi_gold"].labels, OPENI_GOLD_WHOLE) if find_labels(f))
    raw = _labels_csv(file, ("filename", *OPENI_GOLD_FINDINGS)).rename(columns={"filename": "image_id"})
    raw = raw.rename(columns=OPENI_GOLD_FINDINGS)
    table = _table(raw["image_id"], labelsets.check_label_columns(raw, list(OPENI_GOLD_FINDINGS.values()), file))
    findings = table.drop(columns=["image_id", "no_finding"])
    neither = int(((findings.max(axis=1) == 0) & (table["no_finding"] == 0)).sum())
    notes = [
        f"Labels are per report, not per image: {len(table):,} reports of {file}; no row is dropped.",
        f"{neither:,} reports are neither normal nor have one of the 14 findings.",
    ]
    return table, _images(image_id=table["image_id"]), notes


# --- the entries --------------------------------------------------------------------------------------------

_CHEXPERT_TRUTH = "chexpert_test/groundtruth.csv"
_CHEXPERT_LABELER = "chexpert_test/report_labeler.csv"
_CHEXPERT_READERS = (
    *(f"chexpert_test/radiologists/groundtruth/{reader}_gt.csv" for reader in CHEXPERT_PANEL),
    *(f"chexpert_test/radiologists/benchmark_radiologists/{reader}.csv" for reader in CHEXPERT_BENCHMARK),
)
CHEXPERT_MODEL_FILES = tuple(
    f"chexpert_test/model_predictions/standard/{model}_predictions.csv" for model in CHEXPERT_MODELS
)

_GOOGLE_TERMS = {"licence": "research and educational purposes only"}
_GOOGLE_FOUR = {
    "version": "2019",
    **_GOOGLE_TERMS,
    "citation": "Majkowska A et al. Radiology 2020;294:421; Wang X et al. CVPR 2017",
}
_GOOGLE_ALL = {
    "version": "2021",
    "source": "Google Health, all_findings_expert_labels",
    **_GOOGLE_TERMS,
    "citation": "Nabulsi Z et al. Sci Rep 2021;11:15523; Wang X et al. CVPR 2017",
}
_CHEXPERT_TEST = {
    "version": "test set of 500 studies, labels released 2021",
    "source": "Stanford, rajpurkarlab/cheXpert-test-set-labels",
    "licence": "none stated",
    "citation": "Irvin J et al. CheXpert. AAAI 2019; Rajpurkar P et al. CheXternal. CHIL 2021",
}
_PADCHEST_CARD = {
    "version": "160K_01.02.19",
    "source": "BIMCV, PadChest (copy in torchxrayvision)",
    "licence": "not stated with the table; PadChest's research use agreement (BIMCV)",
    "citation": "Bustos A et al. PadChest. Med Image Anal 2020;66:101797",
}
_PADCHEST_HOW = (
    "terms that the report lists, of a tree of 193; a finding is present if it or a kind of it is listed, else absent"
)
_OPENI_CARD = {
    "licence": "CC BY-NC-ND 4.0, as the reports say",
    "citation": "Demner-Fushman D et al. J Am Med Inform Assoc 2016;23:304",
}

ENTRIES = {
    "nih_reports": Entry(
        _nih_reports,
        {
            "who": "a program reading the radiology report",
            "how": "DNorm and MetaMap with negation rules over the parse; uncertain mentions were removed, so "
            "absent means not mentioned. airspace_opacity and nodule_or_mass are derived: any of their parts.",
            "version": "Data_Entry_2017_v2020",
            "source": "NIH Clinical Center, ChestX-ray14 (copy in torchxrayvision)",
            "licence": "free use; credit the NIH Clinical Center and link its download page",
            "citation": "Wang X et al. ChestX-ray8. CVPR 2017",
        },
        package=("Data_Entry_2017_v2020.csv.gz",),
    ),
    "google_adjudicated": Entry(
        _google_adjudicated,
        {
            "who": "three radiologists an image, adjudicated",
            "how": "independent reads, then up to five rounds until they agreed",
            "source": "Google Health (copy in torchxrayvision)",
            **_GOOGLE_FOUR,
        },
        package=("google2019_nih-chest-xray-labels.csv.gz",),
    ),
    "google_four_readers": Entry(
        _google_four_readers,
        {
            "who": "22 radiologists and residents, each by a number",
            "how": "the labels of each reader by itself; pneumothorax and nodule or mass may be hedged. Mostly three "
            "readers an image",
            "source": "Google Health, four_findings_expert_labels",
            **_GOOGLE_FOUR,
        },
        labels=("google_four_findings/individual_readers.csv",),
        readers=True,
    ),
    "google_all_majority": Entry(
        _google_all_majority,
        {
            "who": "the majority of three of five radiologists",
            "how": "independent reads of 810 PA images of Google's test set; readers 4343882785, 4343883593, "
            "4343883996",
            **_GOOGLE_ALL,
        },
        labels=("google_all_findings/test_labels.csv",),
    ),
    "google_all_readers": Entry(
        _google_all_readers,
        {
            "who": "five radiologists, each by a number",
            "how": "independent reads: abnormal or not, and if so which of 14 findings or another",
            **_GOOGLE_ALL,
        },
        labels=("google_all_findings/test_individual_readers.csv",),
        readers=True,
    ),
    "rsna": Entry(
        _rsna,
        {
            "who": "radiologists of the RSNA pneumonia challenge",
            "how": "boxes around opacities suspicious of pneumonia; airspace_opacity is any box. Under the "
            "challenge's ids",
            "version": "stage 2",
            "source": "RSNA pneumonia detection challenge 2018 (copy in torchxrayvision)",
            "licence": "research, education and other use with attribution (RSNA's challenge page)",
            "citation": "Shih G et al. Radiol Artif Intell 2019;1:e180041; Wang X et al. CVPR 2017",
        },
        package=("kaggle_stage_2_train_labels.csv.zip", "kaggle_stage_2_train_images_dicom_headers.csv.gz"),
    ),
    "rsna_on_nih": Entry(
        _rsna_on_nih,
        {
            "who": "radiologists of the RSNA pneumonia challenge",
            "how": "class of the image; airspace_opacity is 'Lung Opacity' (one suspicious of pneumonia), "
            "no_finding is 'Normal'",
            "version": "stage 2",
            "source": "RSNA pneumonia detection challenge 2018, matched to NIH ids by torchxrayvision",
            "licence": "RSNA challenge terms; matching Apache-2.0",
            "citation": "Shih G et al. Radiol Artif Intell 2019;1:e180041",
        },
        labels=("rsna_to_nih.csv",),
    ),
    "siim": Entry(
        _siim,
        {
            "who": "radiologists of SIIM and STR",
            "how": "outlines of pneumothoraces (run-length masks); present is any outline",
            "version": "training set of the challenge",
            "source": "SIIM-ACR pneumothorax segmentation challenge 2019 (copy in torchxrayvision)",
            "licence": "not stated with the table; the challenge's rules (Kaggle)",
            "citation": "SIIM-ACR Pneumothorax Segmentation, Kaggle 2019; Wang X et al. CVPR 2017",
        },
        package=("siim-pneumothorax-train-rle.csv.gz",),
    ),
    "vindr_readers": Entry(
        _vindr_readers,
        {
            "who": "17 radiologists, three an image, kept apart",
            "how": "boxes of 14 classes, or 'No finding', by each rater without the others",
            "version": "training set of the challenge",
            "source": "VinBigData, VinDr-CXR (copy in torchxrayvision)",
            "licence": "not stated with the table; the challenge's rules (Kaggle)",
            "citation": "Nguyen HQ et al. VinDr-CXR. Sci Data 2022;9:429",
        },
        package=("vinbigdata-train.csv.gz",),
        readers=True,
    ),
    "padchest_physicians": Entry(
        functools.partial(_padchest, "Physician"),
        {"who": "trained physicians reading the Spanish report", "how": _PADCHEST_HOW, **_PADCHEST_CARD},
        package=(_PADCHEST,),
    ),
    "padchest_network": Entry(
        functools.partial(_padchest, "RNN_model"),
        {
            "who": "a recurrent network reading the Spanish report, trained on the physicians' labels",
            "how": _PADCHEST_HOW,
            **_PADCHEST_CARD,
        },
        package=(_PADCHEST,),
    ),
    "chexpert_labeler": Entry(
        _chexpert_labeler,
        {
            "who": "the CheXpert labeler, a program reading the radiology report",
            "how": "rules for mention, negation and uncertainty; -1 uncertain, blank not mentioned",
            "version": "CheXpert-v1.0 training set",
            "source": "Stanford, CheXpert (copy in torchxrayvision)",
            "licence": "not stated with the table; Stanford's research use agreement",
            "citation": "Irvin J et al. CheXpert. AAAI 2019",
        },
        package=("chexpert_train.csv.gz",),
    ),
    "chexpert_test_majority": Entry(
        _chexpert_test_majority,
        {"who": "the majority of five radiologists", "how": "independent reads of the study", **_CHEXPERT_TEST},
        labels=(_CHEXPERT_TRUTH,),
    ),
    "chexpert_test_readers": Entry(
        _chexpert_test_readers,
        {
            "who": "eight board-certified radiologists",
            "how": "independent reads of the study: five make the majority, three are the benchmark",
            **_CHEXPERT_TEST,
        },
        labels=_CHEXPERT_READERS,
        readers=True,
    ),
    "chexpert_test_labeler": Entry(
        _chexpert_test_labeler,
        {
            "who": "a program reading the radiology report (the CheXpert labeler or CheXbert)",
            "how": "-1 uncertain, blank not mentioned",
            **_CHEXPERT_TEST,
        },
        labels=(_CHEXPERT_LABELER,),
    ),
    "openi_codes": Entry(
        _openi_codes,
        {
            "who": "human coders reading the radiology report",
            "how": "MeSH and RadLex headings with qualifiers; a finding is present if its heading is coded, else "
            "absent",
            "version": "NLMCXR, 3,955 reports",
            "source": "Indiana University and the US National Library of Medicine, Open-i (copy in torchxrayvision)",
            **_OPENI_CARD,
        },
        package=(openi.ARCHIVE,),
    ),
    "openi_gold": Entry(
        _openi_gold,
        {
            "who": "human coders reading the radiology report",
            "how": "their codes on NIH's 14 findings and normal, as NegBio's authors released them; per report",
            "version": "openi_gld_std14",
            "source": "ncbi-nlp/NegBio, examples/openi_gld_std14.csv",
            "licence": "US public domain (NegBio); reports CC BY-NC-ND 4.0",
            "citation": "Peng Y et al. NegBio. AMIA Jt Summits Transl Sci 2018; Demner-Fushman D et al. JAMIA "
            "2016;23:304",
        },
        labels=("openi_gold/openi_gold_dev.csv",),
        instead=(OPENI_GOLD_WHOLE,),
    ),
}
