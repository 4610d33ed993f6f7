"""Open-i's reports: their human codes, and what CheXbert read in them."""

import numpy as np
import pandas as pd

from cxrlib.base import label_tables, paths, vocabulary
from cxrlib.releases import openi_reports, owner_tables

_OPENI_GOLD_DEVELOPMENT = "openi_gold/openi_gold_dev.csv"
_OPENI_GOLD_WHOLE = "openi_gold/openi_gld_std14.csv"  # the owner's file; the other lacks reports kept apart


def _openi_reports():
    """Return a row per report: `report`, the list of its human `codes`, and how many `images_n` it has."""
    rows = [(report.report_id, list(report.codes), report.images_n) for report in openi_reports.read_reports()]
    if not rows:
        raise ValueError(f"{paths.torchxrayvision_data(openi_reports.ARCHIVE)} holds no report.")
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
    """Return labels, images and notes of the release `openi_codes`."""
    reports = _openi_reports()
    said = reports[["report", "codes"]].explode("codes").drop_duplicates()
    parts = _openi_parts(sorted(set(said["codes"].dropna())))
    uncoded = _openi_matches(parts, ("No Indexing",))
    kept = reports[
        ~reports["report"].isin(said["report"][said["codes"].isin(uncoded)]) & (reports["codes"].str.len() > 0)
    ]

    def listed(*wanted):
        return kept["report"].isin(said["report"][said["codes"].isin(_openi_matches(parts, wanted))])

    labels = pd.DataFrame({finding: listed(*wanted) for finding, wanted in vocabulary.OPENI_CODES.items()}).astype(
        "float32"
    )
    labels["no_finding"] = listed("normal").astype("float32")
    unsatisfactory = listed("Technical Quality of Image Unsatisfactory")
    labels[unsatisfactory] = labels[unsatisfactory].mask(labels[unsatisfactory] == 0)
    about = ("normal", "Technical Quality of Image Unsatisfactory", "No Indexing")
    mapped = set().union(*(_openi_matches(parts, wanted) for wanted in (*vocabulary.OPENI_CODES.values(), about)))
    said = said[said["report"].isin(kept["report"])]
    left = said[~said["codes"].isin(mapped)]
    table = owner_tables.release_table(kept["report"], labels)
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
    return table, owner_tables.release_images(image_id=table["image_id"]), notes


def _openi_gold():
    """Return labels, images and notes of the release `openi_gold`."""
    file = next(f for f in (_OPENI_GOLD_DEVELOPMENT, _OPENI_GOLD_WHOLE) if owner_tables.find_labels(f))
    raw = owner_tables.labels_csv(file, ("filename", *vocabulary.OPENI_GOLD_FINDINGS)).rename(
        columns={"filename": "image_id"}
    )
    raw = raw.rename(columns=vocabulary.OPENI_GOLD_FINDINGS)
    table = owner_tables.release_table(
        raw["image_id"], label_tables.check_label_columns(raw, list(vocabulary.OPENI_GOLD_FINDINGS.values()), file)
    )
    findings = table.drop(columns=["image_id", "no_finding"])
    neither = int(((findings.max(axis=1) == 0) & (table["no_finding"] == 0)).sum())
    notes = [
        f"Labels are per report, not per image: {len(table):,} reports of {file}; no row is dropped.",
        f"{neither:,} reports are neither normal nor have one of the 14 findings.",
    ]
    return table, owner_tables.release_images(image_id=table["image_id"]), notes


def _openi_chexbert():
    """Return labels, images and notes of the release `openi_chexbert`."""
    file = "openi_chexbert.csv"
    raw = owner_tables.labels_csv(file, ("report_id", *vocabulary.CHEXPERT_FINDINGS))
    raw = raw.rename(columns={"report_id": "image_id", **vocabulary.CHEXPERT_FINDINGS})
    findings = list(vocabulary.CHEXPERT_FINDINGS.values())
    table = owner_tables.release_table(raw["image_id"], label_tables.check_label_columns(raw, findings, file))
    notes = [
        f"Labels are per report, read in the impression alone: {len(table):,} reports; no row is dropped.",
        "Blank and negative are both 0 in this table.",
    ]
    return table, owner_tables.release_images(image_id=table["image_id"]), notes


# Release to the function that returns its labels, images and notes.
LOADERS = {
    "openi_codes": _openi_codes,
    "openi_gold": _openi_gold,
    "openi_chexbert": _openi_chexbert,
}
