"""What is settled among an archive's reports, and among its images, before the two are matched.

Copies are set aside, a preliminary report yields to the final one, and addenda join the report that they add to.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from cxrlib.reports import report_headers


class Merged(NamedTuple):
    """Reports that may be matched, and what became of the others.

    Attributes
    ----------
    bases : pandas.Index
        Of the reports that may be matched.
    addenda : pandas.DataFrame
        `addendum, report` in the order in which addenda are appended; both are index values.
    left : dict of int to (str, str)
        Index value to reason and detail of every report that is neither.
    """

    bases: pd.Index
    addenda: pd.DataFrame
    left: dict


def text_of(column, function):
    """Return what a function makes of each text of a column, missing where that is missing; text though all are."""
    return column.map(function, na_action="ignore").astype("str")


def value_at(column, keys):
    """Return the values of a column at the index values `keys`, in their order and with their index."""
    return column.reindex(keys).set_axis(keys.index)


def plain_ids(*columns):
    """Return comparable patient ids of several tables: without zeros before them and punctuation, in small letters.

    Where two ids of one table would become one that way they may be two patients, and stay as they are.

    Parameters
    ----------
    *columns : pandas.Series of str
    """
    plain = [text_of(ids, lambda one: report_headers.plain_id(one) or None) for ids in columns]
    unsafe = set()
    for ids, key in zip(columns, plain, strict=True):
        forms = ids.groupby(key).nunique()
        unsafe |= set(forms.index[forms > 1])
    return [key.where(~key.isin(unsafe), "=" + ids) for ids, key in zip(columns, plain, strict=True)]


def without_copies(images):
    """Return images of which none has the SOP instance UID of another, and what was taken out.

    Of files that say the same of patient, study and accession number the first is kept. Where they differ none is:
    which of them is right cannot be known.

    Parameters
    ----------
    images : pandas.DataFrame
        As `archive.Archive` has them.

    Returns
    -------
    kept : pandas.DataFrame
    dropped : dict of int to (str, str)
        Index value to reason and detail.
    """
    twice = images[images["sop_uid"].notna() & images["sop_uid"].duplicated(keep=False)]
    dropped = {}
    for _, group in twice.groupby("sop_uid"):
        first = group.iloc[0]
        if group[["patient_id", "study_uid", "accession"]].nunique(dropna=False).max() == 1:
            dropped |= {i: ("copy", f"the same image as {first['file']}") for i in group.index[1:]}
        else:
            why = f"{len(group)} files of different patients, studies or accession numbers share its SOP instance UID"
            dropped |= {i: ("uid_of_several", why) for i in group.index}
    return images.drop(list(dropped)), dropped


def merge_reports(reports, patient):
    """Return which reports may be matched, and which addenda join which of them.

    Parameters
    ----------
    reports : pandas.DataFrame
        As `archive.Archive` has them.
    patient : pandas.Series of str
        Their comparable patient ids (`plain_ids`).

    Returns
    -------
    Merged
    """
    reports = reports.assign(patient=patient)
    left = {i: ("empty", "there is no text in it") for i in reports.index[reports["words_n"] == 0]}
    rest = reports.drop(list(left))
    known = rest["accession"].notna() | rest["study_uid"].notna() | (rest["patient"].notna() & rest["date"].notna())
    same = ["accession", "study_uid", "patient", "date", "text_hash"]
    copies = rest[known & rest.duplicated(same, keep=False)]
    for _, group in copies.groupby(same, dropna=False, sort=False):
        first = group.iloc[0]["report_id"]
        left |= {i: ("copy", f"the same numbers and text as report {first}") for i in group.index[1:]}
    rest = rest.drop(list(left), errors="ignore")
    left |= _superseded(rest)
    rest = rest.drop(list(left), errors="ignore")
    bases, addenda = rest[rest["addendum"] == 0], rest[rest["addendum"] > 0]
    joined, why = _joined(bases, addenda)
    alone = addenda.drop(joined["addendum"])
    whole = alone.index[alone["has_sections"] & ~alone.index.isin(list(why))]
    for i in alone.index.difference(whole):
        left[i] = why.get(i, ("addendum_without_report", "the report that it adds to is not in the archive"))
    return Merged(bases.index.union(whole), joined, left)


def _superseded(reports):
    """Return the preliminary reports whose accession number and patient a later one has, with the reason."""
    early = reports["status"].str.casefold().isin(report_headers.Conventions(names={}).preliminary)
    if not early.any():
        return {}
    plain = reports[reports["accession"].notna() & (reports["addendum"] == 0)]
    number = text_of(plain["accession"], lambda one: report_headers.accession_number(one.split(";")[0]))
    key, early = number + "|" + plain["patient"].fillna(""), early.loc[plain.index]
    final = plain["report_id"][~early].groupby(key[~early]).first()
    there = key[early][key[early].isin(final.index)]
    return {i: ("superseded", f"preliminary; report {final[k]} is the later one") for i, k in there.items()}


def _joined(bases, addenda):
    """Return `addendum, report` of addenda whose report is known, in order, and why others have none."""
    columns = ["addendum", "report"]
    if addenda.empty:
        return pd.DataFrame(columns=columns, dtype="int64"), {}
    found, why, waiting = [], {}, addenda
    for rule in (_named_by_addendum, _of_same_number, _of_same_day):
        both = rule(bases, waiting).drop_duplicates()
        patients = value_at(waiting["patient"], both["addendum"]), value_at(bases["patient"], both["report"])
        both = both[patients[0].isna() | patients[1].isna() | (patients[0] == patients[1])]
        several = both["addendum"].duplicated(keep=False)
        for i in both["addendum"][several]:
            why[i] = ("addendum_of_several_reports", "several reports fit it equally well")
        found.append(both[~several])
        waiting = waiting.drop(found[-1]["addendum"])
    joined = pd.concat(found)[columns].astype("int64")
    about = addenda.loc[joined["addendum"], ["addendum", "date", "file", "line"]]
    keys = ("line", "file", "date", "addendum")  # the last counts most
    order = np.lexsort([about[key].rank(method="dense").fillna(0).to_numpy(float) for key in keys])
    joined = joined.iloc[order].sort_values("report", kind="stable", ignore_index=True)
    return joined, {i: reason for i, reason in why.items() if i not in set(joined["addendum"])}


def _pairs_of(addenda, bases):
    """Return the pairs of addenda and reports that share a key: Series of text, maybe several rows an index value."""
    left, right = (
        pd.DataFrame({name: keys.index, "key": keys.astype("str").to_numpy()}).dropna().astype({"key": "str"})
        for name, keys in (("addendum", addenda), ("report", bases))
    )
    return left.merge(right, on="key")[["addendum", "report"]]


def _numbers(reports):
    """Return the accession numbers of reports without their form, a row each; of those without any, none."""
    return text_of(reports["accession"].dropna().str.split(";").explode(), report_headers.accession_number)


def _named_by_addendum(bases, addenda):
    """The addendum names the report's id or its accession number as that of what it adds to."""
    named = addenda["addendum_of"]
    by_number = _pairs_of(text_of(named, report_headers.accession_number), _numbers(bases))
    return pd.concat([_pairs_of(named, bases["report_id"]), by_number])


def _of_same_number(bases, addenda):
    """Both have the same accession number, whatever its form, or the same study instance UID."""
    return pd.concat(
        [_pairs_of(_numbers(addenda), _numbers(bases)), _pairs_of(addenda["study_uid"], bases["study_uid"])]
    )


def _of_same_day(bases, addenda):
    """Both are of the same patient and date, and the addendum has no accession number, or that of another patient."""
    numbers, known = _numbers(addenda), set(_numbers(bases))
    foreign = addenda.index.isin(numbers.index[~numbers.isin(known)])
    days = [t["patient"] + "|" + t["date"].astype("str").where(t["date"].notna()) for t in (addenda[~foreign], bases)]
    return _pairs_of(*days)
