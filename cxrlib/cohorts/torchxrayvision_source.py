"""A cohort from any dataset class of torchxrayvision, for releases that only few people may download."""

import hashlib
import inspect
from functools import partial
from importlib import import_module
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cxrlib.base import paths, vocabulary
from cxrlib.cohorts import image_files
from cxrlib.releases import image_ids

# `cohorts` is imported where it is used: it lists this source, so importing it here would be a circle.


class _Columns(NamedTuple):
    """Where a class keeps what; the defaults are the columns that most classes add themselves."""

    image: str | None = None  # without one, the row number
    patient: str = "patientid"
    age: str = "age_years"
    sex: str | None = None  # else the flags sex_male and sex_female
    follow_up: str | None = None


_COLUMNS = {
    "NIH_Dataset": _Columns("Image Index", follow_up="Follow-up #"),
    "NIH_Google_Dataset": _Columns("Image Index", "Patient ID", "Patient Age", "Patient Gender", "Follow-up #"),
    "RSNA_Pneumonia_Dataset": _Columns("patientId", age="PatientAge", sex="PatientSex"),
    "PC_Dataset": _Columns("ImageID"),
    "CheX_Dataset": _Columns("Path", age="Age"),  # its age_years keeps the 0 that means unknown
    "CheXlocalize_Dataset": _Columns("Path", age="Age"),
    "MIMIC_Dataset": _Columns("dicom_id"),
    "BRAX_Dataset": _Columns("PngPath"),
    "Openi_Dataset": _Columns("imageid"),
    "COVID19_Dataset": _Columns("filename", age="age", sex="sex"),
    "NLMTB_Dataset": _Columns("fname"),
    "TBX11K_Dataset": _Columns("file_name"),
    "SIIM_Pneumothorax_Dataset": _Columns("ImageId"),
    "VinDr_Dataset": _Columns("image_id"),
    "ObjectCXR_Dataset": _Columns("image_name"),
}


_FINDINGS = {
    **vocabulary.CHEXPERT_FINDINGS,
    **vocabulary.NIH_FINDINGS,
    "Nodule/Mass": "nodule_or_mass",
    "Pulmonary Fibrosis": "fibrosis",
}


# These two classes give the name of CheXpert's finding to one that their readers called airspace opacity.
_AIRSPACE = ("RSNA_Pneumonia_Dataset", "NIH_Google_Dataset")


_VIEWS = {"AP SUPINE": "AP", "UNKNOWN": None}  # as PadChest and COVID19, and most classes, write them


def _classes(module):
    """Return the dataset classes that read images, by name; the others combine datasets."""
    return {
        name: found
        for name, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, module.Dataset) and any(p.startswith("img") for p in inspect.signature(found).parameters)
    }


def _resolved(dataset, parameters, arguments):
    """Return the constructor's arguments with paths resolved and this source's defaults."""
    arguments = dict(arguments or {})
    for name, value in arguments.items():
        if name.endswith("path") and value != "USE_INCLUDED_FILE":
            try:
                arguments[name] = str(paths.source_path(value))  # text: CheX_Dataset searches it for a word
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{name} of {dataset}: {error}") from None
    defaults = {"unique_patients": False, "pathology_masks": False}
    if "views" in parameters:  # "Unknown" is what CheXlocalize_Dataset adds for its test images
        defaults["views"] = list(dict.fromkeys(["PA", "AP", *(parameters["views"].default or [])]))
    return {name: value for name, value in defaults.items() if name in parameters} | arguments


def _reason(error):
    """Return an exception as one line; pydicom's take several when a decoder is missing."""
    line = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
    return line.partition(" Based on the extension")[0]  # imageio advises to install what would not help


def _open(module, found, dataset, arguments):
    """Return the dataset object; whatever its constructor raises becomes one sentence."""
    module._cache_dict.pop("siim_file_map", None)  # else a second SIIM folder gets the files of the first
    try:
        return found(**arguments)
    except Exception as error:  # the constructors raise anything, also plain Exception
        given = ", ".join(f"{name}={value}" for name, value in arguments.items() if name.endswith("path"))
        remedy = "each must be the file or folder of that release which the class documents"
        if found is module.CheX_Dataset:
            remedy += "; csvpath has to contain 'train' or 'valid' as its images' paths do, folders included"
        raise ValueError(f"{dataset} cannot be opened with {given} ({_reason(error)}): {remedy}.") from error


def _read(places, data, rows, size_px, i):
    """Read row `rows[i]`; `places` names the rows for `rejected.csv`."""
    from cxrlib.cohorts import image_source

    try:
        image = data[rows[i]]["img"]
    except Exception as error:  # the classes pass on what their readers raise, also plain Exception
        raise image_files.UnreadableImageError(
            f"the image of {places[i]} cannot be read ({_reason(error)})"
        ) from None
    if not np.isfinite(image[0]).all():
        raise image_files.UnreadableImageError(f"the image of {places[i]} has pixels that are NaN or infinite")
    pixels = image_files.to_uint8(image[0], -1024, 1024)
    square, scale, left, top = image_files.fit(Image.fromarray(pixels), size_px)
    return image_source.PackedImage(
        square, hashlib.sha256(pixels.tobytes()).hexdigest(), *pixels.shape, scale, left, top
    )


def _text(column):
    """Return a csv column as text, NA where it is missing or blank."""
    text = column.convert_dtypes().astype("string").str.strip()  # 4, not 4.0, where another row has none
    return text.mask(text == "")


def _view(column):
    """Return views as PA, AP or NA where unknown; others as they are, so that laterals stay apart."""
    return _text(column).map(lambda view: _VIEWS.get(view.upper(), view), na_action="ignore")


def _sex(csv, column):
    if column in csv:
        return csv[column].map({"M": "M", "F": "F"})
    if "sex_male" in csv:
        return np.select([csv["sex_male"], csv["sex_female"]], ["M", "F"], default=None)
    return None


def _age(csv, column):
    if {"StudyDate_DICOM", "PatientBirth"} <= set(csv):  # PadChest; its age_years is the age in 2017
        return csv["StudyDate_DICOM"] // 10000 - csv["PatientBirth"]
    return csv.get(column)


def _table(csv, columns):
    """Return a row per row of the class's csv; ids may be missing or repeated."""
    numbers = pd.Series(range(len(csv))).astype("string")
    image_id = _text(csv[columns.image]) if columns.image in csv else numbers
    table = {
        "image_id": image_id,
        "patient_id": _text(csv[columns.patient]) if columns.patient in csv else image_id,
        "follow_up_number": csv.get(columns.follow_up),
        "view": _view(csv["view"]) if "view" in csv else None,
        "sex": _sex(csv, columns.sex),
        "age": _age(csv, columns.age),
    }
    return pd.DataFrame({name: column for name, column in table.items() if column is not None})


def _labels(data, csv, dataset, names):
    """Return the labels that the vocabulary has, one float32 column each."""
    values = np.array(data.labels, np.float32)
    if " EncodedPixels" in csv:  # SIIM: Kaggle's own file has " -1", which the class takes for a mask
        values[_text(csv[" EncodedPixels"]).eq("-1").to_numpy()] = 0
    labels = {}
    for k, theirs in enumerate(data.pathologies):
        column = values[:, k]
        theirs = str(theirs)
        if theirs not in names:
            continue
        # The classes of CheXpert's labeller turn uncertain into not assessed; their csv still has the -1.
        origin = "Pleural Effusion" if theirs == "Effusion" and "Pleural Effusion" in csv else theirs
        if origin in csv:
            column[np.isnan(column) & csv[origin].eq(-1).to_numpy()] = -1
        bad = np.flatnonzero(~(np.isnan(column) | np.isin(column, (-1, 0, 1))))
        if len(bad):
            raise ValueError(
                f"{dataset} row {bad[0]}: {theirs} is {column[bad[0]]:g}; labels are 1, 0, -1 or missing, "
                "so a class of scores or counts cannot be used."
            )
        labels[names[theirs]] = column
    return pd.DataFrame(labels, index=csv.index)


def _refusals(table, labels, dataset):
    """Return for each row why it is not taken, None if it is."""
    ids = table["image_id"]
    again = ids.duplicated() & ids.notna()
    # SIIM has a row per mask, so one image several times; all that is said of it has to agree.
    differs = np.flatnonzero(again & ~pd.concat([table, labels], axis=1).duplicated())
    if len(differs):
        raise ValueError(
            f"{dataset} row {differs[0]}: image_id {ids[differs[0]]!r} occurs in several rows that differ; keep one."
        )
    reasons = [
        "the image id is missing",
        "the patient id is missing, so its patient could be in two splits",
        "the row repeats its image; the first is kept",
    ]
    return np.select([ids.isna(), table["patient_id"].isna(), again], reasons, default=None)


def torchxrayvision(*, size_px, dataset, arguments):
    """Return a source for any dataset class of torchxrayvision that reads images.

    Parameters
    ----------
    size_px : int
    dataset : str
        The class, such as `CheX_Dataset`, `MIMIC_Dataset`, `PC_Dataset` (PadChest) or `VinDr_Dataset`.
    arguments : Mapping
        For its constructor. Those ending in `path` are looked for by `paths.source_path`. Unless given,
        `unique_patients` and `pathology_masks` are False and `views` is PA and AP, where the class has
        these (and Unknown for `CheXlocalize_Dataset`).

    Returns
    -------
    cohorts.Source
        Its `labels` are the class's own, with -1 (uncertain) where the class makes NaN of it; None if
        the vocabulary has none of them. The others are listed in `rejected`.

    Raises
    ------
    FileNotFoundError, ValueError
        If the class or a path does not exist, an argument is not the class's, its constructor fails,
        rows of one image contradict each other, or a label is none of 1, 0, -1 and missing.

    Notes
    -----
    Images are as the class decodes them, at 8 bits, so `sha256` is that of these pixels, not of a file.
    A class without patients (VinDr, SIIM, NLM, TBX11K, object-CXR) counts every image as a patient of its
    own, which `rejected` says: no split of such a cohort can keep a patient's images together. RSNA's
    patient id is that of the image, so its patients are those of the NIH images that its own are; images
    that match none are refused. Labels of `PC_Dataset` and `Openi_Dataset` are words
    found in the report's terms, so subcutaneous emphysema is emphysema to them.
    """
    from cxrlib.cohorts import image_source

    import_module("cxrlib.base.torchvision_fix")  # first, or torchvision may fail
    module = import_module("torchxrayvision.datasets")
    classes = _classes(module)
    if dataset not in classes:
        raise ValueError(f"torchxrayvision has no dataset class {dataset!r}; it has {', '.join(classes)}.")
    found = classes[dataset]
    parameters = inspect.signature(found).parameters
    try:
        inspect.signature(found).bind(**(arguments or {}))
    except TypeError as error:
        raise ValueError(f"arguments of {dataset}: {error}; it takes {', '.join(parameters)}.") from None
    arguments = _resolved(dataset, parameters, arguments)
    data = _open(module, found, dataset, arguments)

    csv = data.csv.reset_index(drop=True)
    names = _FINDINGS | ({"Lung Opacity": "airspace_opacity"} if found.__name__ in _AIRSPACE else {})
    table = _table(csv, _COLUMNS.get(found.__name__, _Columns()))
    if found.__name__ == "RSNA_Pneumonia_Dataset":  # the patient of the NIH image that it is, where that is known
        table["patient_id"] = image_ids.known_as(table["image_id"])["patient"]
    labels = _labels(data, csv, dataset, names)
    refusals = _refusals(table, labels, dataset)
    places = [f"{dataset} row {row}" for row in range(len(table))]
    rejected = [
        ("", dataset, f"label column {name} is not in the vocabulary and was left out")
        for name in data.pathologies
        if name not in names
    ]
    if table["patient_id"].equals(table["image_id"]):
        rejected.append(("", dataset, "it names no patients, so each image counts as a patient of its own"))
    refused = [row for row, why in enumerate(refusals) if why]
    rejected += [(table["image_id"].fillna("")[row], places[row], refusals[row]) for row in refused]
    keep = [row for row, why in enumerate(refusals) if not why]
    if not keep:
        raise ValueError(
            f"{dataset} has no usable row for views {arguments.get('views', 'of any kind')} "
            f"({len(table)} rows, none with an image and a patient id): check views and the csv."
        )
    table, labels = (part.loc[keep].reset_index(drop=True) for part in (table, labels))
    return image_source.ImageSource(
        table=table,
        read=partial(_read, [places[row] for row in keep], data, keep, size_px),
        rejected=rejected,
        labels=pd.concat([table["image_id"], labels], axis=1) if len(labels.columns) else None,
        fingerprint=f"torchxrayvision {dataset} {sorted(arguments.items())}",
    )
