"""PadChest's terms, listed by physicians or by a network."""

import functools

import numpy as np
import pandas as pd

from cxrlib.base import vocabulary
from cxrlib.releases import owner_tables

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


def _padchest_labels_by(method):
    """Return the rows of PadChest that one method labelled: `Physician` or `RNN_model`."""
    raw = owner_tables.package_table(_PADCHEST, _PADCHEST_COLUMNS, dtype="string")
    owner_tables.check_words(raw["MethodLabel"], ("Physician", "RNN_model"), _PADCHEST, "MethodLabel")
    owner_tables.check_words(raw["Projection"], (*_PADCHEST_VIEWS, "EXCLUDE"), _PADCHEST, "Projection")
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
    images = owner_tables.release_images(
        image_id=kept["ImageID"],
        patient_id=kept["PatientID"],
        view=kept["Projection"].map(_PADCHEST_VIEWS),
        sex=kept["PatientSex_DICOM"].where(kept["PatientSex_DICOM"].isin(["M", "F"])),
        age=taken // 10000 - born,
    )
    notes += [*more, f"{int((images['view'] == 'L').sum()):,} images are lateral; labels are of the study's report."]
    return owner_tables.release_table(kept["ImageID"], labels), images, notes


def _padchest_labels(index, terms):
    """Return float32 findings for rows `index` from their terms, and notes."""

    def listed(*these):
        return index.isin(terms["row"][terms["term"].isin(these)])

    labels = pd.DataFrame({f: listed(*these) for f, these in vocabulary.PADCHEST_TERMS.items()}, index=index).astype(
        "float32"
    )
    about = ("normal", *_PADCHEST_INCOMPLETE)
    normal, other = listed("normal"), index.isin(terms["row"][~terms["term"].isin(about)])
    incomplete = listed(*_PADCHEST_INCOMPLETE) & ~normal
    labels[incomplete] = labels[incomplete].mask(labels[incomplete] == 0)
    labels["no_finding"] = np.select([normal & other, normal, other], [np.nan, 1, 0], np.nan).astype("float32")
    mapped = {term for these in vocabulary.PADCHEST_TERMS.values() for term in these} | set(about)
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


def read_padchest_studies():
    """Return PadChest's studies with the text of their report, who labelled it, and the labels.

    Returns
    -------
    pandas.DataFrame
        A row a study: `study_id, patient_id, report_id`, `labelled_by` (`physicians` or `network`), `taken` (a date
        as a number, 20140131), `bedside, lateral` (whether an image of it is an AP, a lateral; 1 or 0), `sex, age,
        maker`, `text` (the report, in Spanish, as released: lower case and stemmed), and the findings of
        `padchest_physicians` and `padchest_network`. Studies of which every image is dropped there are left out, and
        reports without text have an empty one.

    Raises
    ------
    ValueError
        If a study has two reports, or labels by both.
    """
    columns = (*_PADCHEST_COLUMNS, "StudyID", "ReportID", "Report", "Manufacturer_DICOM")
    raw = owner_tables.package_table(_PADCHEST, columns, dtype="string").set_index("ImageID")
    parts = []
    for method, name in (("Physician", "physicians"), ("RNN_model", "network")):
        table, images, _ = _padchest_labels_by(method)
        rows = raw.loc[table["image_id"]]
        part = table.set_index("image_id").assign(
            study_id=rows["StudyID"],
            patient_id=rows["PatientID"],
            report_id=rows["ReportID"],
            labelled_by=name,
            taken=rows["StudyDate_DICOM"].astype(int),
            maker=rows["Manufacturer_DICOM"],
            text=rows["Report"].fillna(""),
        )
        known = images.set_index("image_id").loc[part.index]
        part["sex"], part["age"] = known["sex"], known["age"]
        part["bedside"], part["lateral"] = ((known["view"] == view).astype(float) for view in ("AP", "L"))
        parts.append(part)
    every = pd.concat(parts)
    of_study = every.groupby("study_id")
    twice = (of_study[["report_id", "labelled_by"]].nunique() > 1).any(axis=1)
    if twice.any():
        raise ValueError(f"{_PADCHEST}: study {twice.idxmax()} has two reports, or labels of both kinds.")
    views = of_study[["bedside", "lateral"]].max()
    return every.drop(columns=["bedside", "lateral"]).drop_duplicates("study_id").join(views, on="study_id")


# Release to the function that returns its labels, images and notes.
LOADERS = {
    "padchest_physicians": functools.partial(_padchest_labels_by, "Physician"),
    "padchest_network": functools.partial(_padchest_labels_by, "RNN_model"),
}
