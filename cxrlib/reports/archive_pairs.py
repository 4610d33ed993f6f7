"""Pairs of image and report of a matched archive, written in parts, so that only a part of the text is held."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cxrlib.reports import mentions

_PAIR_COLUMNS = ("image_id", "patient_id", "report_id", "rule", "patient_agrees", "text", "named_in")


_SCHEMA = pa.schema([(name, pa.bool_() if name == "patient_agrees" else pa.string()) for name in _PAIR_COLUMNS])


class Written(NamedTuple):
    """What was written of an archive's pairs.

    Attributes
    ----------
    pairs_n, named_n, outside_n : int
        Pairs written; those of which a sentence of the report names the image; pairs whose image is not of the
        cohort, which are not written.
    unresolved : pandas.DataFrame
        `report_id, named, reason`: what a report names and is no image of its study.
    priors : pandas.DataFrame
        `report_id, number, date, report_of_it`: earlier exams that reports name, and the report of that exam if the
        archive has one that is matched, by accession number or by patient and date.
    """

    pairs_n: int
    named_n: int
    outside_n: int
    unresolved: pd.DataFrame
    priors: pd.DataFrame


def write_pairs(archive, matched, path, cohort_ids=None):
    """Write the pairs of image and report, with the report's text and its addenda.

    Parameters
    ----------
    archive : archive.Archive
    matched : matching.Matched
        Of this archive's tables.
    path : Path
        A Parquet file of `image_id, patient_id, report_id, rule, patient_agrees, text, named_in`, which holds the
        text of reports. `patient_agrees` is bool, the others text; `text` is the report with its addenda; `named_in`
        the sentences of it that name this image, '' if there are none.
    cohort_ids : pandas.Series of str, optional
        By the index of `archive.images` the id of that image in a packed cohort, missing if it is not of it: such
        pairs are counted and not written.

    Returns
    -------
    Written
    """
    links = matched.links.sort_values("report", kind="stable")
    rows = links["report"].to_numpy("int64")
    at = archive.images.index.get_indexer(links["image"])
    rule, agrees = links["rule"].to_numpy(object), links["patient_agrees"].to_numpy(bool)
    ids = archive.images["image_id"] if cohort_ids is None else cohort_ids.reindex(archive.images.index)
    addenda = _addenda(archive, matched)
    counts, unresolved, priors = [0, 0, 0], [], []
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as file:
        for texts in _numbered(archive):
            first, last = np.searchsorted(rows, [texts[0][0], texts[-1][0] + 1])
            places = _places(archive.images.iloc[at[first:last]], ids.iloc[at[first:last]])
            about = _about(archive.reports, np.unique(rows[first:last]))
            batch, k = [], first
            for row, text in texts:
                start = k
                while k < last and rows[k] == row:
                    k += 1
                if k == start:
                    continue
                report_id, patient_id, day = about[row]
                of = places[start - first : k - first]
                day = next((place.day for place in of if place.day is not None), day)
                whole = "\n\n".join([text, *addenda.get(row, ())])
                said = mentions.named(whole, [(p.view, p.series, p.number) for p in of], day, archive.date_order)
                unresolved += [(report_id, *each) for each in said.unresolved]
                priors += [(report_id, row, *each) for each in said.priors]
                for j, place, named_in in zip(range(start, k), of, said.of_image, strict=True):
                    counts[0 if place.image_id is not None else 2] += 1
                    if place.image_id is not None:
                        counts[1] += bool(named_in)
                        patient = place.patient_id or patient_id
                        entry = (place.image_id, patient, report_id, rule[j], agrees[j], whole, named_in)
                        batch.append(dict(zip(_PAIR_COLUMNS, entry, strict=True)))
            file.write_batch(pa.RecordBatch.from_pylist(batch, schema=_SCHEMA))
    unresolved = pd.DataFrame(unresolved, columns=["report_id", "named", "reason"])
    return Written(*counts, unresolved, _found_priors(priors, matched, archive))


class _Place(NamedTuple):
    """An image as a report may name it."""

    image_id: str | None
    patient_id: str | None
    view: str
    series: int | None
    number: int | None
    day: np.datetime64 | None


def _places(images, ids):
    """Return a `_Place` per image."""
    views = [mentions.view_of(*each) for each in images[["view", "series_description"]].itertuples(index=False)]
    columns = [
        *(_plain(column) for column in (ids, images["patient_id"])),
        views,
        *(_plain(images[name]) for name in ("series_number", "instance_number")),
        _days(images["date"]),
    ]
    return list(map(_Place, *columns))


def _about(reports, rows):
    """Return report id, patient id and day of some reports by row."""
    table = reports.loc[rows]
    columns = _plain(table["report_id"]), _plain(table["patient_id"]), _days(table["date"])
    return dict(zip(rows.tolist(), zip(*columns, strict=True), strict=True))


def _days(dates):
    return [None if np.isnat(day) else day for day in dates.to_numpy("datetime64[D]")]


def _plain(column):
    return [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]


def _addenda(archive, matched):
    """Return the texts of addenda, in order, by the row of their report."""
    texts = _texts_of(archive, set(matched.addenda["addendum"].tolist()))
    added = {}
    for addendum, report in matched.addenda.itertuples(index=False):
        added.setdefault(report, []).append(f"ADDENDUM: {texts[addendum]}")
    return added


def _numbered(archive):
    """Yield the texts of reports in parts, each text with its row number."""
    start = 0
    for texts in archive.texts():
        yield list(enumerate(texts, start))
        start += len(texts)


def _texts_of(archive, rows):
    """Return the texts of some reports by row number."""
    return {row: text for part in (_numbered(archive) if rows else ()) for row, text in part if row in rows}


def _found_priors(priors, matched, archive):
    """Return the table of earlier exams that reports name, with the archive's report of each where there is one."""
    table = pd.DataFrame(priors, columns=["report_id", "row", "number", "date"])
    table["date"] = table["date"].astype("datetime64[s]")
    reports = archive.reports.loc[matched.links["report"].unique()]
    by_number = reports["accession"].dropna().str.split(";").explode()
    by_number = pd.Series(by_number.index, by_number.to_numpy()).groupby(level=0).agg(list)
    day = reports["patient_id"] + "|" + reports["date"].dt.strftime("%Y-%m-%d")
    by_day = pd.Series(reports.index, day).dropna().groupby(level=0).agg(list)
    patient = table["row"].map(archive.reports["patient_id"])
    numbers = table["number"].map(by_number)
    days = (patient + "|" + table["date"].dt.strftime("%Y-%m-%d")).map(by_day)
    one = [
        next((f[0] for f in (n, d) if isinstance(f, list) and len(f) == 1), None)
        for n, d in zip(numbers, days, strict=True)
    ]
    own = table["row"].tolist()
    same = [
        r is not None and r != own[k] and archive.reports.at[r, "patient_id"] == patient[k] for k, r in enumerate(one)
    ]
    table["report_of_it"] = [
        archive.reports.at[r, "report_id"] if ok else None for r, ok in zip(one, same, strict=True)
    ]
    return table.drop(columns="row")


def cohort_images(images, image_ids):
    """Return which image of a packed cohort each image of an archive is.

    Parameters
    ----------
    images : pandas.DataFrame
        As `archive.Archive` has them.
    image_ids : sequence of str
        The cohort's ids: SOP instance UIDs, or files by path, path without ending, name, or name without ending.

    Returns
    -------
    pandas.Series of str
        By the index of `images`, missing where there is none. A name that several files have means none of them.

    Raises
    ------
    ValueError
        If not one image is of the cohort.
    """
    wanted, found = set(image_ids), pd.Series(pd.NA, images.index, dtype="str")
    names = images["file"].str.rsplit("/", n=1).str[-1]
    ways = (images["image_id"], images["file"], images["file"].str.replace(r"\.\w+$", "", regex=True), names)
    for way in (*ways, names.str.replace(r"\.\w+$", "", regex=True)):
        usable = found.isna() & way.isin(wanted) & ~way.duplicated(keep=False) & ~way.isin(set(found.dropna()))
        found = found.mask(usable, way)
    if found.isna().all():
        first = images["file"].iloc[0] if len(images) else "none"
        raise ValueError(
            f"No image of the archive (the first: {first}) is one of the {len(wanted)} of the cohort (the first: "
            f"{next(iter(image_ids), 'none')}): pack the cohort from the archive's folder, its ids as files' names."
        )
    return found
