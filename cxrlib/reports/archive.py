"""A hospital's export, read into tables: a row per DICOM image, a row per report, a row per file that is neither.

`read_archive` goes once through a folder, whatever its files are called, and writes what it found; of images it reads
headers alone. `open_archive` returns these tables without the reports' texts, which stay on disk and are had in parts
(`Archive.texts`), so that memory grows with the identifiers of an archive, not with its pixels or its text.
"""

import hashlib
import itertools
import os
import re
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cxrlib.base import parallel, tables
from cxrlib.reports import dicom_headers, export_files, report_headers, report_rows

_IMAGE_COLUMNS = ("image_id", "file", *dicom_headers.HEADER_TAGS, "has_pixels")


_REPORT_COLUMNS = (
    *("report_id", "file", "line", "accession", "study_id", "patient_id", "study_uid", "date", "date_kind", "status"),
    *("addendum", "addendum_of", "has_sections", "words_n", "text_hash", "encoding"),
)


_IMAGE_SCHEMA = pa.schema([*((name, pa.string()) for name in _IMAGE_COLUMNS[:-1]), ("has_pixels", pa.bool_())])


_REPORT_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("report_id", "file")]
    + [("line", pa.int64())]
    + [(name, pa.string()) for name in ("accession", "study_id", "patient_id", "study_uid")]
    + [(name, pa.string()) for name in ("exam_date", "date", "report_date", "status")]
    + [("addendum", pa.int64()), ("addendum_of", pa.string()), ("has_sections", pa.bool_()), ("words_n", pa.int64())]
    + [("text_hash", pa.string()), ("encoding", pa.string()), ("file_named", pa.string()), ("text", pa.string())]
)


_ADDENDUM_FILE = re.compile(r"[\W_]add(?:end(?:um|a))?[\W_]*(\d{0,2})(?:\.\w+)*$", re.I)


_CHUNK_N = 64  # files a worker reads at a time


class Archive(NamedTuple):
    """What was read of an export.

    Attributes
    ----------
    images : pandas.DataFrame
        A row per image file: `image_id, file`, `dicom_headers.HEADER_TAGS` and `has_pixels`. Text, but `date`
        datetime64[s], the two numbers Int64 and `has_pixels` bool; missing where the header has none. `image_id` is
        the SOP instance UID, or the file's path where there is none.
    reports : pandas.DataFrame
        A row per report: `report_id, file, line, accession, study_id, patient_id, study_uid, date, date_kind, status,
        addendum, addendum_of, has_sections, words_n, text_hash, encoding`. `accession` may hold several, separated by
        `;`; `date_kind` is `exam`, `report` (when it was written) or `date` (not said of what); `addendum` is 0, or
        its number. The index is the row's number in `texts`.
    aside : pandas.DataFrame
        `file, line, kind, reason` of everything that is neither an image nor a report with text.
    notes : list of str
        What holds for the archive as a whole, a sentence each.
    folder : Path
        Of the tables.
    date_order : {"dmy", "mdy"} or None
        How dates such as 03/04/2014 were taken; None where the archive does not show it and they were not.
    """

    images: pd.DataFrame
    reports: pd.DataFrame
    aside: pd.DataFrame
    notes: list
    folder: Path
    date_order: str | None

    def texts(self, batch_n=2_000):
        """Yield the reports' texts in the order of `reports`, as lists of at most `batch_n`."""
        with pq.ParquetFile(self.folder / "reports.parquet") as file:
            for batch in file.iter_batches(batch_n, columns=["text"]):
                yield batch.column(0).to_pylist()


def read_archive(folder, into, how=None, workers=1):
    """Read a hospital's export and write its tables.

    Parameters
    ----------
    folder : Path
        Any tree of files. DICOM files are known by their content, so their names may be anything. Reports are .txt
        and its like (or any text with an accession number or patient id in its head), .xml, .html, .json, tables
        (.csv, .tsv, .jsonl, .parquet), each also as .gz, and structured reports of DICOM.
    into : Path
        Folder for `images.parquet`, `reports.parquet` and `aside.csv`, which are replaced. They hold identifiers and
        text: keep them where patients' data may be.
    how : report_headers.Conventions, optional
    workers : int
        Processes that read files.

    Returns
    -------
    Archive

    Raises
    ------
    ValueError
        If there is no such folder, or neither an image nor a report in it.
    """
    folder, into, how = Path(folder), Path(into), how or report_headers.conventions()
    if not folder.is_dir():
        raise ValueError(f"{tables.as_text(folder)} is no folder: name the one that holds the export.")
    if into.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{tables.as_text(into)} lies within the export: its tables would be read as part of it.")
    into.mkdir(parents=True, exist_ok=True)
    aside, listed = [], []
    files = _walk(folder, aside, listed)
    chunks = iter(lambda: list(itertools.islice(files, _CHUNK_N)), [])
    ids = set()
    with (
        pq.ParquetWriter(into / "images.parquet", _IMAGE_SCHEMA, compression="zstd") as images,
        pq.ParquetWriter(into / "reports.parquet", _REPORT_SCHEMA, compression="zstd") as reports,
    ):
        for image_rows, report_dicts, problems in _grouped(
            parallel.mapped(partial(_read_chunk, folder, how), chunks, workers)
        ):
            images.write_batch(_batch(image_rows, _IMAGE_SCHEMA))
            reports.write_batch(_batch([_report(row, ids, aside) for row in report_dicts], _REPORT_SCHEMA))
            aside += problems
        for file in listed:
            for rows in _table_rows(folder, file, how, aside):
                reports.write_batch(_batch([_report(row, ids, aside) for row in rows], _REPORT_SCHEMA))
    pd.DataFrame(aside, columns=["file", "line", "kind", "reason"]).to_csv(into / "aside.csv", index=False)
    archive = open_archive(into, how)
    if archive.images.empty and archive.reports.empty:
        kinds = "; ".join(f"{n} {reason}" for reason, n in Counter(archive.aside["reason"]).most_common(3))
        raise ValueError(f"{tables.as_text(folder)} holds neither a DICOM image nor a report ({kinds or 'no file'}).")
    return archive


def _grouped(results, images_n=4_096):
    """Yield what chunks gave, several together: Parquet wants large parts."""
    rows, reports, problems = [], [], []
    for some_rows, some_reports, some_problems in results:
        rows += some_rows
        reports += some_reports
        problems += some_problems
        if len(rows) + len(reports) >= images_n:
            yield rows, reports, problems
            rows, reports, problems = [], [], []
    yield rows, reports, problems


def _batch(rows, schema):
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def _walk(folder, aside, listed):
    """Yield the files of a folder in order, as text relative to it; tables go to `listed`, the rest to `aside`."""

    def locked(error):
        where = os.path.relpath(error.filename, folder)
        aside.append((where, None, "unreadable", f"the folder could not be read ({report_rows.brief(error)})"))

    for root, folders, names in os.walk(folder, onerror=locked):
        folders.sort()
        for name in [f for f in folders if os.path.islink(os.path.join(root, f))]:
            where = os.path.relpath(os.path.join(root, name), folder)
            aside.append(
                (tables.as_text(where), None, "not read", "it is a link to a folder: name that folder itself")
            )
        for name in sorted(names):
            where = os.path.relpath(os.path.join(root, name), folder)
            if export_files.ending(name) in export_files.TABLE_ENDINGS:
                listed.append(where)
            else:
                yield where


def _read_chunk(folder, how, files):
    """Return the images, reports and problems of some files."""
    images, reports, aside = [], [], []
    with warnings.catch_warnings(
        action="ignore"
    ):  # pydicom's, of values that break the standard: they are taken as they are
        for file in files:
            found = _read_export_file(folder / file, how)
            for each in found:
                if isinstance(each, export_files.Problem):
                    kind = "not read" if each.line == 0 else "unreadable"
                    aside.append((tables.as_text(file), each.line or None, kind, each.reason))
                elif "sop_uid" in each:
                    images.append(
                        {**each, "file": tables.as_text(file), "image_id": each["sop_uid"] or tables.as_text(file)}
                    )
                else:
                    reports.append({**each, "file": tables.as_text(file)})
    return images, reports, aside


def _read_export_file(path, how):
    """Return what is in a file: an image, reports, or what is wrong."""
    kind = export_files.ending(path.name)
    try:
        if not path.is_file():
            return [
                export_files.Problem(
                    None, "it is a link that leads nowhere" if path.is_symlink() else "it is no file"
                )
            ]
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError as error:
        return [
            export_files.Problem(None, f"it could not be read ({report_rows.brief(error)}): check its permissions")
        ]
    if not start:
        return [export_files.Problem(None, "the file is empty: export it anew")]
    if start[128:] == b"DICM" or kind in (".dcm", ".dicom", ".ima") or dicom_headers.is_bare(start):
        return dicom_headers.read_dicom(path, start[128:] != b"DICM", how)
    if kind in (*export_files.TEXT_ENDINGS, *export_files.MARKUP_ENDINGS, ".json"):
        return list(export_files.read_document(path, how))
    if unnamed := export_files.read_unnamed(path, how):
        return unnamed
    packed = kind in (".zip", ".tgz", ".tar", ".7z", ".rar", ".gz")
    remedy = "unpack it" if packed else "if it holds reports, save them as .txt or .csv"
    return export_files.left_aside(f"it is neither DICOM nor a report file ({kind or 'no ending'}): {remedy}")


def _table_rows(folder, file, how, aside):
    """Yield the rows of a table in parts; what cannot be read goes to `aside`."""
    name, rows = tables.as_text(file), []
    for each in export_files.read_table(folder / file, how):
        if isinstance(each, export_files.Problem):
            aside.append((name, each.line, "unreadable", each.reason))
        else:
            rows.append({**each, "file": name})
        if len(rows) == 4_096:
            yield rows
            rows = []
    yield rows


def _report(row, ids, aside):
    """Return a report's row as it is written: with an id of its own, and a hash of its words."""
    in_name = _ADDENDUM_FILE.search(row["file"])
    if in_name and not row.get("addendum"):
        row["addendum"] = int(in_name[1] or 1)
    first = row.get("report_id") or os.path.splitext(row["file"])[0] + (
        f":{row['line']}" if (row["line"] or 1) > 1 else ""
    )
    report_id, n = first, 1
    while report_id in ids:
        n += 1
        report_id = f"{first}#{n}"
    ids.add(report_id)
    words = row["text"].split()
    return {
        **{name: row.get(name) or None for name in _REPORT_SCHEMA.names},
        "report_id": report_id,
        "accession": ";".join(_several(row.get("accession") or "")) or None,
        "addendum": int(row.get("addendum") or 0),
        "has_sections": report_headers.has_sections(row["text"]),
        "words_n": 0 if report_rows.wordless(row["text"]) else len(words),
        "text_hash": hashlib.blake2b(" ".join(words).casefold().encode(), digest_size=8).hexdigest(),
        "text": row["text"],
    }


def _several(text):
    """Return the accession numbers in a field, which commas, semicolons, `&` or `and` separate."""
    parts = (part.strip() for part in text.replace("&", ",").replace(" and ", ",").replace(";", ",").split(","))
    return list(dict.fromkeys(part for part in parts if part))


def open_archive(folder, how=None):
    """Return the tables that `read_archive` wrote, without the texts of reports.

    Parameters
    ----------
    folder : Path
    how : report_headers.Conventions, optional
        Its `date_order` counts here.

    Returns
    -------
    Archive
    """
    folder, how = Path(folder), how or report_headers.conventions()
    images = pd.read_parquet(folder / "images.parquet")
    text = list(_IMAGE_COLUMNS[:-1])
    images[text] = images[text].replace("", pd.NA)
    for name in ("series_number", "instance_number"):
        images[name] = pd.to_numeric(images[name], errors="coerce").round().astype("Int64")
    columns = [name for name in _REPORT_SCHEMA.names if name != "text"]
    reports, notes = _described(pd.read_parquet(folder / "reports.parquet", columns=columns))
    aside = pd.read_csv(folder / "aside.csv", dtype={"line": "Int64", "file": "str", "kind": "str", "reason": "str"})
    kinds = {"exam": reports["exam_date"], "date": reports["date"], "report": reports["report_date"]}
    said = pd.concat(kinds.values()).dropna().unique()
    order = how.date_order or report_headers.order_shown(said)
    days = {text: _first_day(text, order) for text in {*said, *images["date"].dropna().unique()}}
    images["date"] = _days(images["date"], days)
    given = pd.concat(kinds, axis=1).notna().any(axis=1)
    dates = pd.DataFrame({kind: _days(texts, days) for kind, texts in kinds.items()})
    reports["date"] = dates["exam"].fillna(dates["date"]).fillna(dates["report"])
    reports["date_kind"] = dates.notna().idxmax(axis=1).where(reports["date"].notna()).astype("str")
    lost = int((given & reports["date"].isna()).sum())
    notes += _notes(images, reports, lost, order)
    return Archive(images, reports[list(_REPORT_COLUMNS)], aside, notes, folder, order)


def _described(reports):
    """Return reports with what tables of files say of them, where they do not say it themselves, and notes.

    Rows of such tables are no reports and are taken out, unless no report file of that name is there.
    """
    rows = reports[(reports["words_n"] == 0) & reports["file_named"].notna()]
    if rows.empty:
        return reports, []
    by_name = {}
    for row, file in reports["file"].drop(rows.index).items():
        name = file.rsplit("/", 1)[-1]
        for key in {file, name, os.path.splitext(name)[0]}:
            by_name.setdefault(key, []).append(row)
    used, about = [], set()
    for row, name in rows["file_named"].items():
        of = by_name.get(name.replace("\\", "/").removeprefix("./"), [])
        if len(of) == 1 and of[0] not in about:
            used.append(row)
            about.add(of[0])
            for field in report_headers.FIELD_NAMES:
                if field != "report_id" and pd.isna(reports.at[of[0], field]):
                    reports.at[of[0], field] = reports.at[row, field]
    note = f"{len(used):,} rows of tables say of which image a report file is; these are no reports themselves."
    return reports.drop(used), [note] if used else []


def _first_day(text, order):
    dates = report_headers.said_dates(text)
    return report_headers.as_day(dates[0][2], order) if dates else np.datetime64("NaT", "D")


def _days(texts, days):
    return pd.Series(texts.map(days, na_action="ignore"), dtype="datetime64[s]")


def _notes(images, reports, lost, order):
    """Return sentences on dates and encodings that concern the archive as a whole."""
    notes = []
    if lost:
        notes.append(
            f"{lost:,} reports have a date of which day and month cannot be distinguished, so it is not used: set "
            "date_order."
            if order is None
            else f"{lost:,} reports have a date that is no day of the calendar."
        )
    for encoding, n in reports["encoding"].value_counts().items():
        if encoding in ("cp1252", "latin-1"):
            notes.append(f"{n:,} reports are not UTF-8 and were read as {encoding}: check their special letters.")
    bare_n = int((~images["has_pixels"]).sum())
    if bare_n:
        notes.append(f"{bare_n:,} images have a header and no pixels: they can be matched and not shown.")
    if len(images) and images["sop_uid"].isna().any():
        notes.append(
            f"{int(images['sop_uid'].isna().sum()):,} images have no SOP instance UID; their path stands for it."
        )
    return notes
