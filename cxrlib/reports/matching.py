"""Which report belongs to which images of an archive: rules in a stated order, and a reason for all without a match.

A report belongs to a study, and to all images of it. Each rule (`matching_rules`) proposes studies for the reports
that the rules before it left; a proposal is dropped where patient or date contradict it, and where several remain
that are equally good, none is taken. What no rule decides is listed with the reason (`Matched`).

The accession number is the key of a hospital's orders (DICOM PS3.3, C.7.2.1, element 0008,0050), and it is typed,
reformatted and mistaken on its way; this is why rules that use less follow, and why each pair keeps its rule's name.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from cxrlib.reports import matching_rules, report_headers, report_merging
from cxrlib.reports.report_merging import text_of, value_at

_ENOUGH = 20  # reports, of which none agrees, show that two registers number differently


class Matched(NamedTuple):
    """What was matched in an archive, and what was not.

    Attributes
    ----------
    links : pandas.DataFrame
        A row per pair of image and report: `image` and `report` (index values of the archive's tables), `rule`,
        `patient_agrees` (True, or False where one of the two names no patient), `days` (report's date less study's).
    addenda : pandas.DataFrame
        `addendum, report`: which addendum was appended to which report, in this order.
    images : pandas.DataFrame
        Unmatched: `image_id, file, reason, detail`.
    reports : pandas.DataFrame
        Unmatched: `report_id, file, line, reason, detail`, addenda included.
    rules : pandas.DataFrame
        `rule, images_n, studies_n, reports_n, addenda_n`: a row per rule in its order, `unmatched`, and `total`.
    notes : list of str
        What holds for the archive as a whole, a sentence each.
    """

    links: pd.DataFrame
    addenda: pd.DataFrame
    images: pd.DataFrame
    reports: pd.DataFrame
    rules: pd.DataFrame
    notes: list


# Why a report, or an image, is in no pair; where several hold, the first.
UNMATCHED_REASONS = {
    "accession_of_another_patient": "its accession number is that of a report or image of another patient",
    "study_uid_of_another_patient": "the study instance UID is that of a report or image of another patient",
    "accession_of_another_date": "its accession number is that of a report or image of another date",
    "study_uid_of_another_date": "the study instance UID is that of a report or image of another date",
    "several_claim": "several reports claim the same study, and none of them or another one agrees best",
    "several_fit": "several reports or studies fit, and nothing says which",
    "other_accession": "a report and a study of this patient and date have different accession numbers",
    "accession_alike_only": "an accession number is alike, but neither patient nor date confirms it",
    "study_id_of_another_patient": "the study number is that of a report or image of another patient",
    "study_id_of_another_date": "the study number is that of a report or image of another date",
    "file_name_of_another_patient": "the report's file is named after a study of another patient",
    "file_name_of_another_date": "the report's file is named after a study of another date",
    "same_folder_of_another_patient": "report and image lie in one folder, but are of different patients",
    "same_folder_of_another_date": "report and image lie in one folder, but are of different dates",
    "taken": "what it fits is matched to another one already, by an earlier rule",
    "no_identifier": "it has neither accession number nor patient id",
    "accession_unknown": "it has no patient id, and its accession number occurs on this side alone",
    "patient_unknown": "its patient occurs on this side alone",
    "no_date": "it has no date, and no number leads to a match",
    "nothing_near": "its patient has nothing left on the other side within the days allowed",
    # settled before the rules (`report_merging`)
    "empty": "the report has no text",
    "copy": "it is another file of the same image or report",
    "uid_of_several": "its SOP instance UID is also that of an image of another patient, study or accession number",
    "superseded": "it is preliminary, and a later report of the same accession number is there",
    "addendum_without_report": "the report that it adds to is not in the archive",
    "addendum_of_several_reports": "it may add to several reports, and nothing says to which",
    "report_unmatched": "the report that it adds to is unmatched",
}


_TEXT = ("sop_uid", "study_uid", "accession", "study_id", "patient_id", "date_kind", "status", "addendum_of", "file")


_EXAM_DATES = 0.9  # of dates that agree, so that a date of which nothing is said is taken for that of the exam


# --- contradictions -------------------------------------------------------------------------------------------------


class _State:
    """Studies and reports while rules go over them, and what was found out about each."""

    def __init__(self, studies, reports, days):
        self.studies, self.reports, self.allowed = studies, reports, days
        self.report_of = pd.Series(-1, studies.index)
        self.rule = pd.Series(None, studies.index, dtype="object")
        self.patient_agrees = pd.Series(False, studies.index)
        self.days = pd.Series(np.nan, studies.index)
        self.taken = pd.Series(False, reports.index)
        self.suspected = {"report": set(), "study": set()}  # whose accession number is that of another patient
        self.facts = {"report": {}, "study": {}}  # what kept each from a match
        self.patients = {"report": set(studies["patient"].dropna()), "study": set(reports["patient"].dropna())}
        self.taken_days, self.taken_numbers = {}, {}  # of what is matched, by the side that looks for it
        self.comparable = set(reports.index[reports["comparable"]])

    def judged(self, proposals):
        """Return proposals with `patient` (1 the same, 0 unknown, -1 another), `days`, and whether they stand."""
        p = proposals.reset_index(drop=True)
        ours, theirs = value_at(self.reports["patient"], p["report"]), value_at(self.studies["patient"], p["study"])
        same = (ours == theirs).fillna(False).astype(bool)
        p["patient"] = np.where(ours.isna() | theirs.isna(), 0, np.where(same, 1, -1))
        p["days"] = (
            value_at(self.reports["date"], p["report"]) - value_at(self.studies["date"], p["study"])
        ).dt.days.astype(float)
        later = (value_at(self.reports["date_kind"], p["report"]) == "exam") & (p["days"] > self.allowed)
        p["stands"] = (p["patient"] >= 0) & ~later & ~(p["days"] < -self.allowed)
        return p

    def suspect(self, wrong, right):
        """Remember whose accession number is that of another patient: of those two, whom no partner confirms."""
        other = wrong[wrong["patient"] < 0]
        for kind, numbers in self.suspected.items():
            numbers |= set(other[kind]) - set(right.loc[right["patient"] == 1, kind])

    def other_number(self, p):
        """Return which proposals have two accession numbers that can be compared and of which none is suspected."""
        ours, theirs = (
            value_at(self.reports["accession"], p["report"]),
            value_at(self.studies["accession"], p["study"]),
        )
        excused = p["report"].isin(self.suspected["report"]) | p["study"].isin(self.suspected["study"])
        return (ours.notna() & theirs.notna() & p["report"].isin(self.comparable) & ~excused).to_numpy(bool)

    def note(self, p, reason, of_study=True):
        """Remember what kept the reports of proposals, and their studies, from a match."""
        for kind in ("report", "study") if of_study else ("report",):
            for key in p[kind].unique():
                self.facts[kind].setdefault(key, set()).add(reason)

    def take(self, p, name):
        at = p["study"].to_numpy()
        self.report_of.loc[at], self.rule.loc[at] = p["report"].to_numpy(), name
        self.patient_agrees.loc[at], self.days.loc[at] = (p["patient"] == 1).to_numpy(), p["days"].to_numpy()
        self.taken.loc[p["report"].unique()] = True

    def finish(self):
        """Remember what is matched of the patients and numbers that are left, so that it can be told that it is."""
        sides = {"report": (self.reports, ~self.taken), "study": (self.studies, self.report_of < 0)}
        for kind, other in (("report", "study"), ("study", "report")):
            (mine, left), (theirs, free) = sides[kind], sides[other]
            near = theirs[~free & theirs["patient"].isin(mine.loc[left, "patient"].dropna())]
            self.taken_days[kind] = set(zip(near["patient"], near["date"], strict=True))
            same = theirs.loc[~free, "accession"]
            self.taken_numbers[kind] = set(same[same.isin(mine.loc[left, "accession"].dropna())])

    def reason(self, kind, key):
        """Return why a report or a study has no match: the gravest of what was found out, else what it lacks."""
        facts = self.facts[kind].get(key, ())
        for reason in UNMATCHED_REASONS:
            if reason in facts:
                return reason, UNMATCHED_REASONS[reason]
        row = (self.reports if kind == "report" else self.studies).loc[key]
        if (row["patient"], row["date"]) in self.taken_days[kind] or row["accession"] in self.taken_numbers[kind]:
            return "taken", UNMATCHED_REASONS["taken"]
        if pd.isna(row["patient"]):
            reason = "no_identifier" if pd.isna(row["accession"]) else "accession_unknown"
        elif row["patient"] not in self.patients[kind]:
            reason = "patient_unknown"
        else:
            reason = "no_date" if pd.isna(row["date"]) else "nothing_near"
        return reason, UNMATCHED_REASONS[reason]


def _settle(state, name):
    """Let one rule propose, drop what is contradicted, and take what is left and unique."""
    propose, of_several, number_counts = matching_rules.MATCHING_RULES[name]
    waits, frees = ~state.taken, state.report_of < 0
    if not (waits.any() and frees.any()):
        return
    p = propose(state.reports[waits], state.studies[frees], state.allowed)
    if p.empty:
        return
    p = state.judged(p.drop_duplicates())
    p, wrong = p[p["stands"]], p[~p["stands"]]
    by_number = name in ("accession", "accession_normalised")
    if by_number:
        state.suspect(wrong, p)
    by = "accession" if by_number else name
    state.note(wrong[wrong["patient"] < 0], f"{by}_of_another_patient")
    state.note(wrong[wrong["patient"] >= 0], f"{by}_of_another_date")
    p = p.assign(blocked=state.other_number(p) if number_counts else False)
    state.note(p[p["blocked"]], "other_accession")
    if not of_several:  # what is blocked still shows that another one fits
        p = _unique(state, p)
    elif name == "accession_normalised":
        p = _backed(state, p)
    p = p[~p.pop("blocked")]
    state.take(_best(state, p), name)


def _backed(state, p):
    """Return the proposals of numbers made alike that patient or date confirm, and that lead to one number of images.

    Two numbers of images that differ only in form may be those of two exams: then neither is taken.
    """
    confirmed = (p["patient"] == 1) | p["days"].notna()
    state.note(p[~confirmed], "accession_alike_only")
    p = p[confirmed]
    exact = value_at(state.studies["accession"], p["study"])
    several = exact.groupby([p["report"], p["accession"]]).transform("nunique") > 1
    state.note(p[several], "several_fit")
    return p[~several]


def _unique(state, p):
    """Return the proposals whose report and study are in no other proposal."""
    more = p["report"].duplicated(keep=False) | p["study"].duplicated(keep=False)
    state.note(p[more], "several_fit")
    return p[~more]


def _best(state, p):
    """Return one report a study: that whose patient is confirmed, then that of the very date; none at a tie."""
    p = p.assign(rank=2 * (p["patient"] == 1) + (p["days"] == 0))
    best = p["rank"] == p.groupby("study")["rank"].transform("max")
    tie = best & p["study"].where(best).duplicated(keep=False)
    state.note(p[tie], "several_claim")
    state.note(p[~best], "several_claim", of_study=False)
    return p[best & ~tie]


# --- tables in, tables out ------------------------------------------------------------------------------------------


def match(images, reports, *, rules=matching_rules.DEFAULT_RULES, days=1, compare_patients=True):
    """Match the images and reports of an archive.

    Parameters
    ----------
    images, reports : pandas.DataFrame
        As `archive.Archive` has them.
    rules : sequence of str
        Keys of `matching_rules.MATCHING_RULES`, in the order in which they are tried.
    days : int
        Dates further apart contradict each other, and nearer ones may match. A report may be written any time later.
    compare_patients : bool
        Whether patient ids of images and reports are of one register. If not, they neither confirm nor contradict.

    Returns
    -------
    Matched

    Raises
    ------
    ValueError
        If a rule is unknown or given twice, or `days` is negative.
    """
    unknown = [name for name in rules if name not in matching_rules.MATCHING_RULES]
    if unknown:
        raise ValueError(f"rules: {unknown[0]!r} is none of {', '.join(matching_rules.MATCHING_RULES)}.")
    if len(set(rules)) < len(rules) or days < 0:
        raise ValueError(
            f"rules {', '.join(rules)} and days {days}: give each rule once, and a number of days from 0."
        )
    images, reports = (t.astype({c: "str" for c in _TEXT if c in t}) for t in (images, reports))  # if all are missing
    kept, dropped = report_merging.without_copies(images)
    study_of, studies = _studies(kept)
    studies["patient"], patient = report_merging.plain_ids(studies["patient_id"], reports["patient_id"])
    found = report_merging.merge_reports(reports, patient)
    waiting, notes = _waiting(reports.assign(patient=patient).loc[found.bases], studies)
    if not compare_patients:
        waiting["patient"] = pd.NA
    else:
        notes += _patient_notes(waiting, studies)
    state = _State(studies, waiting, days)
    for name in rules:
        _settle(state, name)
    state.finish()
    return _result(state, images, study_of, dropped, reports, found, rules, notes)


def _studies(images):
    """Return the study of each image, and a row per study.

    Images are of one study if they share the study instance UID; without it, if they share accession number and
    patient; without that too, patient and date; else each is alone. Within one UID, what some images lack is taken
    from the others if these agree; where patients or accession numbers differ it is several studies.
    """
    table = images[["study_uid", "patient_id", "accession", "study_id", "date", "file"]].copy()
    by_uid = table.groupby("study_uid")
    for name in ("patient_id", "accession", "study_id", "date"):
        if table[name].notna().all() or table[name].isna().all():
            continue
        one = by_uid[name].transform("nunique") == 1
        table[name] = table[name].fillna(by_uid[name].transform("first").where(one))
    day = ("day " + table["date"].astype("str")).where(table["date"].notna() & table["patient_id"].notna())
    table["key"] = (
        table["study_uid"].fillna("number " + table["accession"]).fillna(day).fillna("alone " + table["file"])
    )
    table["study"] = table.groupby(["key", "patient_id", "accession"], dropna=False, sort=False).ngroup()
    table["folder"] = _folder(table["file"])
    studies = table.drop_duplicates("study").set_index("study")
    folders = table.drop_duplicates(["study", "folder"])
    studies["folder"] = studies["folder"].where(folders.groupby("study").size() == 1)
    studies["folder_studies_n"] = studies["folder"].map(folders.groupby("folder").size())
    return table["study"], studies.assign(study=studies.index)


def _folder(files):
    """Return the folder of each file, missing where it is the export's own."""
    return text_of(files, lambda file: file.rpartition("/")[0] or None)


def _waiting(bases, studies):
    """Return the reports that rules go over, with what they need, and sentences on what was found out about all."""
    table = bases.assign(report=bases.index, folder=_folder(bases["file"]))
    table["file_reports_n"] = table.groupby("file")["file"].transform("size")
    table["folder_reports_n"] = table.groupby("folder")["file"].transform("size")
    numbers, notes = matching_rules.accessions_of(table), []
    forms = set(text_of(studies["accession"].str.split(";").explode(), matching_rules.accession_form).dropna())
    alike = text_of(numbers["accession"], matching_rules.accession_form).isin(forms)
    table["comparable"] = table.index.isin(numbers["report"][alike])
    there = set(text_of(studies["accession"], report_headers.accession_number).dropna())
    if (
        len(numbers) >= _ENOUGH
        and not text_of(numbers["accession"], report_headers.accession_number).isin(there).any()
    ):
        table["comparable"] = False
        notes.append(
            f"None of {len(numbers):,} accession numbers of reports is one of images': they are of different "
            "registers and count neither for nor against a match."
        )
    p = matching_rules.same_key(numbers, studies, "accession")
    p = p[
        (value_at(table["patient"], p["report"]) == value_at(studies["patient"], p["study"]))
        .fillna(False)
        .astype(bool)
    ]
    p = p[value_at(table["date_kind"], p["report"]) == "date"]
    same = (value_at(table["date"], p["report"]) == value_at(studies["date"], p["study"])).mean()
    if len(p) >= _ENOUGH and same >= _EXAM_DATES:
        table["date_kind"] = table["date_kind"].replace("date", "exam")
        notes.append(
            f"The dates of which reports do not say what they are of are taken for those of exams: {same:.0%} of "
            f"{len(p):,} with the accession number and patient of a study have its date."
        )
    return table, notes


def _patient_notes(reports, studies):
    """Return a sentence if no report has the patient of the study whose accession number it has."""
    p = matching_rules.same_key(matching_rules.accessions_of(reports), studies, "accession")
    ours, theirs = value_at(reports["patient"], p["report"]), value_at(studies["patient"], p["study"])
    known = ours.notna() & theirs.notna()
    if known.sum() < _ENOUGH or (ours == theirs)[known].any():
        return []
    return [
        f"Of {int(known.sum()):,} reports with the accession number of a study none has its patient id: if these are "
        "of different registers, set compare_patients to false."
    ]


def _result(state, images, study_of, dropped, reports, found, rules, notes):
    """Return the `Matched`, with everything accounted for."""
    taken = study_of.map(state.report_of)
    linked = taken.index[taken >= 0]
    links = pd.DataFrame({"image": linked, "report": taken[linked].astype("int64"), "study": study_of[linked]})
    for column in ("rule", "patient_agrees", "days"):
        links[column] = links["study"].map(getattr(state, column))
    links = links.reset_index(drop=True)
    of_image = dict(dropped)
    for i, study in study_of.drop(linked).items():
        of_image[i] = state.reason("study", study)
    of_report = dict(found.left)
    for i in state.reports.index[~state.taken]:
        of_report[i] = state.reason("report", i)
    for addendum, base in found.addenda.itertuples(index=False):
        if base in of_report:
            of_report[addendum] = (
                "report_unmatched",
                f"report {reports.at[base, 'report_id']}, which it adds to, is",
            )
    joined = found.addenda[~found.addenda["report"].isin(list(of_report))].reset_index(drop=True)
    rule_of = links.drop_duplicates("report").set_index("report")["rule"]
    counts = {
        "images_n": links["rule"].value_counts(),
        "studies_n": state.rule.value_counts(),
        "reports_n": rule_of.value_counts(),
        "addenda_n": joined["report"].map(rule_of).value_counts(),
    }
    table = pd.DataFrame(counts).reindex(list(rules)).fillna(0)
    late = int((reports.loc[list(of_report), "addendum"] > 0).sum())
    table.loc["unmatched"] = [len(of_image), (state.report_of < 0).sum(), len(of_report) - late, late]
    table.loc["total"] = table.sum()
    table = table.astype("int64").rename_axis("rule").reset_index()
    total = table.iloc[-1]
    assert total["images_n"] == len(images) and total["reports_n"] + total["addenda_n"] == len(reports), table
    return Matched(
        links.drop(columns="study"),
        joined,
        _listed(images, of_image, ["image_id", "file"]),
        _listed(reports, of_report, ["report_id", "file", "line"]),
        table,
        notes,
    )


def _listed(table, reasons, columns):
    """Return the rows of a table that have a reason, with it, in the table's order."""
    rows = table.loc[sorted(reasons), columns].reset_index(drop=True)
    said = [reasons[i] for i in sorted(reasons)]
    return rows.assign(reason=[reason for reason, _ in said], detail=[detail for _, detail in said])
