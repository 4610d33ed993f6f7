"""The rules that say which report is of which study: small functions with a name, in the order of `MATCHING_RULES`.

Each takes the reports and studies that the rules before it left, and the days that dates may lie apart, and returns
its proposals: a table of `report` and `study`. Whether one stands is decided elsewhere (`cxrlib.reports.matching`).
"""

import re

import numpy as np
import pandas as pd

from cxrlib.reports import report_headers
from cxrlib.reports.report_merging import text_of, value_at

_NOTHING = pd.DataFrame({"report": pd.Series(dtype="int64"), "study": pd.Series(dtype="int64")})


_LEAST_NAME = 4  # characters of a part of a file's name that may be a number


def same_key(reports, studies, key, other=None):
    """Return the pairs of reports and studies whose key is the same and known.

    Parameters
    ----------
    reports, studies : pandas.DataFrame
    key : str
        A column of the reports.
    other : str, optional
        That of the studies, if it is called otherwise.

    Returns
    -------
    pandas.DataFrame
        `report, study`.
    """
    left, right = reports[["report", key]].dropna(), studies[["study", other or key]].dropna()
    if left.empty or right.empty:
        return _NOTHING
    return left.merge(right, left_on=key, right_on=other or key)[["report", "study"]]


def accessions_of(reports):
    """Return `report, accession`, a row per report and accession number of it."""
    given = reports[["report", "accession"]].dropna()
    several = given["accession"].str.contains(";", regex=False).astype(bool)
    if not several.any():
        return given
    split = given[several].assign(accession=given.loc[several, "accession"].str.split(";")).explode("accession")
    return pd.concat([given[~several], split.astype({"accession": "str"})])


def _accession(reports, studies, days):
    """The accession number is the same to the letter."""
    return same_key(accessions_of(reports), studies, "accession")


def _study_uid(reports, studies, days):
    """The report names the study instance UID of the images."""
    return same_key(reports, studies, "study_uid")


def _accession_normalised(reports, studies, days):
    """The accession number is the same but for punctuation, zeros before digits, and letters that one lacks."""
    said, there = _keyed(accessions_of(reports)), _keyed(studies[["study", "accession"]])
    if said.empty or there.empty:
        return _NOTHING
    both = said.merge(there, on="key", suffixes=("", "_there"))
    letters, others = (text_of(both[c], report_headers.accession_letters) for c in ("accession", "accession_there"))
    alike = both[(letters == others) | (letters == "") | (others == "")]
    return alike[["report", "study", "accession"]].drop_duplicates()


def _keyed(table):
    """Return a table of accession numbers with a row per `key` by which each may be known."""
    known = table[table["accession"].notna()]
    return known.assign(key=known["accession"].map(report_headers.accession_keys)).explode("key").dropna()


def _study_id(reports, studies, days):
    """The study number is the same to the letter, and so is the patient."""
    both = same_key(reports, studies, "study_id")
    ours, theirs = value_at(reports["patient"], both["report"]), value_at(studies["patient"], both["study"])
    return both[(ours == theirs).fillna(False).astype(bool)]


def _file_name(reports, studies, days):
    """The name of the report's file, a part of it, or that of its folder, is the accession number or study UID."""
    alone = reports[reports["file_reports_n"] == 1]
    named = []
    for report, file in zip(alone["report"], alone["file"], strict=True):
        folder, _, name = file.rpartition("/")
        stem = _ENDING.sub("", name)
        parts = (p for p in re.split(r"[ _]|(?<=\D)-|-(?=\D)", stem) if len(p) >= _LEAST_NAME)
        named += [(report, part) for part in {stem, folder.rpartition("/")[2], *parts} if re.search(r"\d", part)]
    named = pd.DataFrame(named, columns=["report", "name"]).astype({"report": "int64", "name": "str"})
    by_number, by_uid = (same_key(named, studies, "name", other) for other in ("accession", "study_uid"))
    return pd.concat([by_number, by_uid]).drop_duplicates()


def _patient_and_date(reports, studies, days):
    """Patient and date of the exam are the same, and no other report or study of the rest has these."""
    return _same_day(reports, studies)


def _same_day(reports, studies):
    left = reports.loc[reports["date_kind"] == "exam", ["report", "patient", "date"]].dropna()
    return left.merge(studies[["study", "patient", "date"]].dropna(), on=["patient", "date"])[["report", "study"]]


def _patient_and_nearest_date(reports, studies, days):
    """The patient is the same, the dates are at most `days` apart, and no other pair of the rest is so near."""
    left = reports[["report", "patient", "date", "date_kind"]].dropna()
    both = left.merge(studies[["study", "patient", "date"]].dropna(), on="patient", suffixes=("", "_there"))
    apart = (both["date"] - both["date_there"]).dt.days
    near = (apart <= days) & (apart >= np.where(both["date_kind"] == "exam", -days, 0))
    return both[near][["report", "study"]]


def _same_folder(reports, studies, days):
    """The report lies in a folder with images of one study, and with no other report."""
    left = reports[(reports["folder_reports_n"] == 1) & (reports["file_reports_n"] == 1)]
    return same_key(left, studies[studies["folder_studies_n"] == 1], "folder")


def _patient_and_date_other_accession(reports, studies, days):
    """As `patient_and_date`, although the report has an accession number of its own, which no image has."""
    return _same_day(reports, studies)


# Name to function, whether one report may be of several studies, and whether an accession number that differs counts
# against it. The order is that in which they are tried. The last is not tried unless settings name it.
MATCHING_RULES = {
    "accession": (_accession, True, False),
    "study_uid": (_study_uid, True, False),
    "accession_normalised": (_accession_normalised, True, False),
    "study_id": (_study_id, False, True),
    "file_name": (_file_name, False, True),
    "patient_and_date": (_patient_and_date, False, True),
    "patient_and_nearest_date": (_patient_and_nearest_date, False, True),
    "same_folder": (_same_folder, False, True),
    "patient_and_date_other_accession": (_patient_and_date_other_accession, False, False),
}


DEFAULT_RULES = tuple(MATCHING_RULES)[:-1]


_ENDING = re.compile(r"(?:\.(?:txt|text|rpt|asc|md|xml|html?|xhtml|json|gz|dcm|dicom))+$", re.I)


def accession_form(accession):
    """Return the form of an accession number after letters before it: runs of digits and letters, and the rest."""
    return re.sub(r"[^\W\d]+", "A", re.sub(r"\d+", "9", re.sub(r"^[^\W\d]*[\W_]*", "", accession.casefold())))
