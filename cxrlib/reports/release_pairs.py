"""Pairs of image and report from releases that have both, in the form in which `archive_pairs` writes an archive's.

Open-i, MIMIC-CXR, CheXpert Plus and one's own table are read by `image_reports`; PadChest is read here. In a release
the owner says which report is of which image, so the rule of each pair is `release`. PadChest's reports are Spanish:
topics can be found in them, but the rules and lexicons of this library are English (`require_english`).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from cxrlib.base import paths, tables
from cxrlib.releases import owner_tables
from cxrlib.reports import image_reports, report_rows

_COLUMNS = ("image_id", "patient_id", "report_id", "rule", "text", "language")


_PADCHEST_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"


_PADCHEST_COLUMNS = ("ImageID", "PatientID", "PatientBirth", "PatientSex_DICOM", "ReportID", "Report")


class ReleasePairs(NamedTuple):
    """A release's pairs, and what of it is in no pair.

    Attributes
    ----------
    pairs : pandas.DataFrame
        `image_id, patient_id, report_id, rule, text, language`, text columns, a row per image with a report that says
        something; `language` is `en` or `es` (ISO 639-1).
    images : pandas.DataFrame
        `image_id, report_id, reason` of images in no pair.
    reports : pandas.DataFrame
        `report_id, reason` of reports that say something and are in no pair.
    """

    pairs: pd.DataFrame
    images: pd.DataFrame
    reports: pd.DataFrame


def padchest(*, path=None):
    """Return PadChest's reports (Bustos et al., Med Image Anal 2020;66:101797; BIMCV, research use by agreement).

    Parameters
    ----------
    path : str, optional
        `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv` or `.csv.gz`; by default the copy in torchxrayvision:
        160,861 images, 109,931 studies, 107,783 reports. Read are `ImageID`, `PatientID`, `PatientBirth`,
        `PatientSex_DICOM`, `ReportID` and `Report`.

    Returns
    -------
    pandas.DataFrame
        As `image_reports.read_linked`; `report_id` is `ReportID`. Reports are Spanish, and the owner has reduced
        their words to stems. Where a report is of images of two patient ids of the same birth year and sex (1,210
        reports), these are ids of one person: both become the first, so that no split parts them. Where birth year or
        sex differ (4 reports), whose report it is cannot be known, and it counts as one without text.
    """
    if path is None:
        csv = _PADCHEST_TABLE
        raw = owner_tables.package_table(
            csv, _PADCHEST_COLUMNS, dtype="string", keep_default_na=False, na_values=[""]
        )
    else:
        csv = paths.source_path(path)
        raw = tables.read_csv(csv, _PADCHEST_COLUMNS)
    text = raw["Report"].fillna("").map(lambda said: " ".join(said.split()))
    told = raw.groupby("ReportID")[["PatientID", "PatientBirth", "PatientSex_DICOM"]].transform("nunique")
    one = (told["PatientID"] <= 1) | (told.drop(columns="PatientID").max(axis=1) <= 1)
    text = text.mask(text.map(report_rows.wordless) | ~one, pd.NA)
    table = pd.DataFrame(
        {
            "report_id": raw["ReportID"].fillna(raw["ImageID"]),
            "image_id": raw["ImageID"],
            "patient_id": raw["PatientID"].map(_people(raw[one])).fillna(raw["PatientID"]),
            "text": text,
        }
    ).astype("string")
    if table["image_id"].duplicated().any():
        twice = table["image_id"][table["image_id"].duplicated()].iloc[0]
        raise ValueError(f"{csv}: image {twice!r} occurs twice; keep one row an image.")
    differ = table.dropna(subset="text").groupby("report_id")["text"].nunique() > 1
    if differ.any():
        raise ValueError(f"{csv}: report {differ.index[differ][0]!r} has two texts; give each report its own id.")
    return table.sort_values(["report_id", "image_id"], ignore_index=True)


def _people(rows):
    """Return a patient id per patient id: the same, or the first of those whose images share a report."""
    known = rows[["PatientID", "ReportID"]].dropna().drop_duplicates()
    patients, reports = (known[c].astype("category").cat for c in ("PatientID", "ReportID"))
    names, n = patients.categories, len(patients.categories) + len(reports.categories)
    edges = sparse.coo_array((np.ones(len(known)), (patients.codes, reports.codes + len(names))), (n, n))
    group = sparse.csgraph.connected_components(edges, directed=False)[1][: len(names)]
    return pd.Series(names, names).groupby(group).transform("first")


_LANGUAGES = {"padchest": "es"}  # of all others English


def release_pairs(settings):
    """Return the pairs of a release.

    Parameters
    ----------
    settings : Mapping
        `source` is `padchest`, or names a function of `image_reports.REPORT_SOURCES` (`openi`, `mimic`,
        `chexpert_plus`, `folder`); the rest are its arguments. `language` says that of one's own reports, else `en`.

    Returns
    -------
    ReleasePairs

    Raises
    ------
    FileNotFoundError, ValueError
        In one sentence, as `image_reports.read_linked`.
    """
    settings = dict(settings)
    language = settings.pop("language", _LANGUAGES.get(settings.get("source"), "en"))
    if settings.get("source") == "padchest":
        linked = _padchest_of(settings)
    else:
        linked = image_reports.read_linked(settings)
    paired = linked["image_id"].notna() & linked["text"].notna()
    pairs = linked[paired].assign(rule="release", language=language)
    images = linked[linked["image_id"].notna() & linked["text"].isna()]
    alone = linked[linked["image_id"].isna() & linked["text"].notna()]
    silent = linked[linked["image_id"].isna() & linked["text"].isna()]
    reports = pd.concat(
        [alone.assign(reason="the release has no image of it"), silent.assign(reason="neither image nor text")]
    )
    assert len(pairs) + len(images) + len(reports) == len(linked)
    return ReleasePairs(
        pairs[list(_COLUMNS)].reset_index(drop=True),
        images.assign(reason="its report has no text, or is of two patients")[
            ["image_id", "report_id", "reason"]
        ].reset_index(drop=True),
        reports[["report_id", "reason"]].reset_index(drop=True),
    )


def _padchest_of(settings):
    try:
        return padchest(**{name: value for name, value in settings.items() if name != "source"})
    except TypeError as error:
        raise ValueError(f"The settings of reports from 'padchest' are not its arguments: {error}.") from None


def require_english(pairs, what="The rules of this library"):
    """Return pairs whose reports are all English, or say that something does not apply to them.

    Parameters
    ----------
    pairs : pandas.DataFrame
        With or without a column `language`; without it all count as English.
    what : str
        What reads English only, for the message.

    Raises
    ------
    ValueError
        If a report is of another language.
    """
    other = pairs["language"].dropna() if "language" in pairs else pd.Series(dtype="string")
    other = other[other != "en"]
    if len(other):
        names = {"es": "Spanish"}
        said = ", ".join(f"{len(group):,} are in {names.get(code, code)}" for code, group in other.groupby(other))
        raise ValueError(
            f"{what} read English, but of {len(pairs):,} reports {said}: labels read in these would mean nothing. "
            "Topics can be found in any language; for labels use the owner's, or translate the reports first."
        )
    return pairs
