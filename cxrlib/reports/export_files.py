"""The report files of a hospital's export, each read into rows: text, XML, HTML, JSON, CSV, Parquet, DICOM reports.

A reader yields a dict per report, with the fields of `report_headers.FIELD_NAMES`, `text`, `line` and `encoding`, and
a `Problem` per place where there is a report that cannot be read, so that nothing is dropped in silence.
"""

import csv
import gzip
import html.parser
import io
import zlib
from collections import Counter
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cxrlib.base import bounded, csv_rows, json_files, xml_files
from cxrlib.reports import report_headers, report_rows

TEXT_ENDINGS = (".txt", ".text", ".rpt", ".asc", ".md")


MARKUP_ENDINGS = (".xml", ".html", ".htm", ".xhtml")


TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")


_SECTIONS = ("examination", "indication", "comparison", "findings", "impression")


_LOOKED_AT = 4_096  # bytes of a file by which it is known as text


_TELLING = {"text", "findings", "impression"}  # fields without which there is no report


_BLOCKS = ("p", "br", "div", "tr", "li", "h1", "h2", "h3", "h4", "table", "title", "hr", "pre", "section")


class Problem(NamedTuple):
    """A place in a file where something could not be read.

    Attributes
    ----------
    line : int or None
        From 1; of Parquet and JSON, the number of the entry.
    reason : str
        What is wrong and the remedy.
    """

    line: int | None
    reason: str


class _UnusableTableError(Exception):
    """A table that is in order and holds no reports; the message is one sentence with the remedy."""


def left_aside(reason):
    """Return a `Problem` of a file that is in order, but is neither an image nor a report: its line is 0."""
    return [Problem(0, reason)]


def ending(name):
    """Return the ending of a file's name in small letters, before `.gz` if it has that."""
    return PurePosixPath(name.lower().removesuffix(".gz")).suffix


def _decoded_text(data, how):
    """Return bytes as text, and the encoding that fitted: UTF-16 if it is marked so, else the first of `encodings`.

    Parameters
    ----------
    data : bytes
    how : report_headers.Conventions

    Raises
    ------
    ValueError
        If none fits, or it holds null characters.
    """
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if marked else how.encodings:
        try:
            text = data.decode(encoding)
        except UnicodeError:
            continue
        if "\0" in text:
            break
        return text, "utf-8" if encoding == "utf-8-sig" else encoding
    raise ValueError("it is not text: save it as UTF-8, or name its encoding in `encodings`")


def _unpacked(path):
    """Return the bytes of a file, those of a .gz file unpacked."""
    try:
        if path.suffix.lower() == ".gz":
            return bounded.gunzipped(path)
        size = path.stat().st_size
        if size > bounded.MEMBER_BYTES:
            most = bounded.size_text(bounded.MEMBER_BYTES)
            raise bounded.TooLargeError(
                f"it has {bounded.size_text(size)}, and more than {most} are not one text: save it as a table"
            )
        return path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"it is damaged or cut off ({report_rows.brief(error)}): copy it anew") from None


def read_document(path, how):
    """Yield the reports of a text, XML, HTML or JSON file, or a `Problem` for each that has none.

    Parameters
    ----------
    path : Path
    how : report_headers.Conventions
    """
    try:
        data = _unpacked(path)
        if not data.strip():
            raise ValueError("the file is empty: export the report anew")
        kind = ending(path.name)
        if kind == ".xml":
            yield from _xml_reports(data, how)
        elif kind == ".json":
            yield from _json_reports(data, how)
        else:
            text, encoding = _decoded_text(data, how)
            if kind in MARKUP_ENDINGS:
                text = _stripped(text)
            yield from _text_reports(text, encoding, how)
    except (ValueError, OSError) as error:
        yield Problem(None, report_rows.brief(error))


def read_unnamed(path, how):
    """Return the reports of a file whose name says nothing; none unless it is text that names an exam or a patient.

    Parameters
    ----------
    path : Path
    how : report_headers.Conventions
    """
    with open(path, "rb") as file:
        start = file.read(_LOOKED_AT)
    printable = sum(32 <= byte < 127 or byte in b"\t\n\r\f" or byte >= 160 for byte in start)
    if start.startswith((b"{\\rtf", b"%PDF", b"PK")) or printable < 0.98 * len(start):
        return []
    found = list(read_document(path, how))
    known = [isinstance(row, dict) and bool(row.get("accession") or row.get("patient_id")) for row in found]
    return found if found and all(known) else []


def _text_reports(text, encoding, how):
    for line, given, body in report_headers.split_reports(text, how):
        yield {**given, "text": body, "line": line, "encoding": encoding}


class _Stripper(html.parser.HTMLParser):
    """Text without markup: a line per block, two blanks between the cells of a table."""

    def __init__(self):
        super().__init__()
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("script", "style")
        self.parts.append("\n" if tag in _BLOCKS else "  " if tag in ("td", "th") else "")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style") and self.hidden > 0
        self.parts.append("\n" if tag in _BLOCKS else "")

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(data)


def _stripped(text):
    stripper = _Stripper()
    stripper.feed(text)
    stripper.close()
    return "\n".join(line.strip() for line in "".join(stripper.parts).replace("\xa0", " ").splitlines())


def _fields_of(names, how):
    """Return which of some names mean which field: name to field; where several mean one, the first of its list."""
    chosen = {}
    for field, spelled in how.names.items():
        ranks = {report_headers.plain_name(s): k for k, s in reversed(list(enumerate(spelled)))}
        ranked = sorted((ranks[p], k) for k, n in enumerate(names) if (p := report_headers.plain_name(n)) in ranks)
        if ranked:
            chosen.setdefault(names[ranked[0][1]], field)
    return chosen


def _row(values, how, line, encoding=None):
    """Return a report of named values: field to text, the sections under their headings if there is no whole text."""
    row = {f: report_headers.known_value(values.get(f), how) for f in report_headers.FIELD_NAMES}
    row["addendum"] = max(report_headers.addendum_number(row["addendum"]), int(bool(row["addendum_of"])))
    text = _words(values.get("text"))
    if text:
        inner = report_headers.split_reports(text, how)
        if len(inner) == 1:  # a whole report with a header of its own; the table's own columns are believed first
            _, given, text = inner[0]
            row |= {f: v for f, v in given.items() if v and not row[f]}
    else:
        parts = [(s, _words(values.get(s))) for s in _SECTIONS]
        text = "\n\n".join(f"{name.upper()}: {said}" for name, said in parts if said)
    return {**row, "file_named": _words(values.get("file")), "text": text, "line": line, "encoding": encoding}


def _words(value):
    """Return a cell as text, '' where it says that there is none."""
    text = "" if value is None else str(value).strip()
    return "" if report_rows.wordless(text) and not any(map(str.isdigit, text)) else text


def _xml_reports(data, how):
    try:
        root = xml_files.parse_xml(data)
    except ValueError as error:
        raise ValueError(f"it is {error}: export it anew, or save the report as .txt") from None
    units = _units(root, how)
    for number, unit in enumerate(units, 1):
        yield from _of_element(unit, how, number)


def _named(element, how):
    """Return the field that an element of XML is, by its label or its tag; None if it is none."""
    tag = str(element.tag).rpartition("}")[2]
    name = element.get("Label") or element.get("label") or element.get("name") or tag
    return _fields_of([name], how).get(name)


def _units(element, how):
    """Return the elements that are a report each: repeated ones with an identifier and a text, else the whole."""
    tags = Counter(child.tag for child in element)
    for tag in (tag for tag, n in tags.items() if n > 1):
        children = [child for child in element if child.tag == tag]
        fields = [{_named(inner, how) for inner in child.iter()} for child in children]
        if any(f & _TELLING and f & set(report_headers.IDENTIFIERS) for f in fields):
            return children
    inner = (_units(child, how) for child in element)
    return next((units for units in inner if len(units) > 1), [element])


def _of_element(root, how, number):
    """Yield the report, or reports, in an element of XML."""
    values, plain = {}, []
    for element in root.iter():
        field, text = _named(element, how), "".join(element.itertext()).strip()
        if str(element.tag) == "uId" and element.get("id"):  # Open-i
            values.setdefault("report_id", element.get("id"))
        elif text and field and not (field == "text" and len(element)):
            values.setdefault(field, text)
        plain += [t.strip() for t in (element.text, element.tail) if t and t.strip()]
    if any(values.get(field) for field in _TELLING):
        yield _row(values, how, number, "xml")
        return
    for row in _text_reports("\n".join(plain), "xml", how):
        yield row | {f: v for f, v in values.items() if f in report_headers.IDENTIFIERS and not row.get(f)}


def _json_reports(data, how):
    text, encoding = _decoded_text(data, how)
    try:
        found = json_files.parse_json(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON ({report_rows.brief(error)}): export it anew") from None
    if isinstance(found, dict):
        nested = [v for v in found.values() if isinstance(v, list) and v and all(isinstance(e, dict) for e in v)]
        found = nested[0] if len(nested) == 1 and not set(_fields_of(list(found), how).values()) else [found]
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError("it is neither a JSON object nor a list of them: write one object a report")
    for number, entry in enumerate(found, 1):
        yield _entry(entry, how, number, encoding)


def _flat(entry, above=""):
    """Return a JSON object without objects in it: what is within `patient` is named after it too."""
    flat = {}
    for name, value in entry.items():
        if isinstance(value, dict):
            for key, inner in _flat(value, f"{name} ").items():
                flat.setdefault(key, inner)
        else:
            flat[f"{above}{name}"] = value
            flat.setdefault(name, value)
    return flat


def _entry(entry, how, number, encoding):
    entry = _flat(entry)
    chosen = _fields_of(list(entry), how)
    if not _TELLING & set(chosen.values()):
        names = ", ".join(map(str, list(entry)[:12]))
        return Problem(number, f"it has no report text: none of {names} is a name of it; name it in `names`")
    flat = {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in entry.items()}
    return _row({field: flat[name] for name, field in chosen.items()}, how, number, encoding)


def read_table(path, how):
    """Yield the rows of a table, each as a report or a `Problem`; a row, or part of a Parquet file, at once.

    Parameters
    ----------
    path : Path
        .csv or .tsv, separated by comma, semicolon, tab or `|` as its header is; .jsonl; .parquet.
    how : report_headers.Conventions

    Notes
    -----
    A table without a column of text, but with one of files, says something about these files: its rows come with
    an empty text and `file_named`.
    """
    if (reason := bounded.hindrance(path)) is not None:
        yield Problem(None, reason)
        return
    kind = ending(path.name)
    read = _parquet_rows if kind in (".parquet", ".pq") else _jsonl_rows if "json" in kind else _csv_rows
    try:
        yield from read(path, how)
    except _UnusableTableError as error:
        yield Problem(None, str(error))
    except (ValueError, OSError, EOFError, zlib.error, csv.Error, pa.ArrowException) as error:
        yield Problem(None, f"it could not be read ({report_rows.brief(error)}): export it anew")


def _lines(path, how):
    """Return the lines of a file as an iterator, and its encoding."""

    def opened():
        return bounded.open_gzip(path) if path.suffix.lower() == ".gz" else open(path, "rb")

    with opened() as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            return io.TextIOWrapper(opened(), "utf-16", newline=""), "utf-16"
    for encoding in how.encodings:
        try:
            with io.TextIOWrapper(opened(), encoding) as file:
                while file.read(1 << 20):
                    pass
        except UnicodeError:
            continue
        return io.TextIOWrapper(opened(), encoding, newline=""), encoding.removesuffix("-sig")
    raise ValueError("it is not text: save it as UTF-8, or name its encoding in `encodings`")


def _columns(names, how):
    """Return which columns mean which field; raise a sentence if there is neither a report nor a file among them."""
    chosen = _fields_of(names, how)
    if not _TELLING & set(chosen.values()) and not ("file" in chosen.values() and len(chosen) > 1):
        listed = ", ".join(map(str, names[:20]))
        raise _UnusableTableError(f"none of its columns is known as one of report text: {listed}; name it in `names`")
    twice = [name for name in chosen if list(names).count(name) > 1]
    if twice:
        raise _UnusableTableError(f"it has several columns named {twice[0]!r}: rename all but one of them")
    return chosen


def _csv_rows(path, how):
    file, encoding = _lines(path, how)
    with file:
        lines = csv_rows.Lines(file)
        first = next(lines, "")
        skipped = first.casefold().startswith("sep=")  # Excel's own line above the header
        first = next(lines, "") if skipped else first
        separator = max(",;\t|", key=first.count)
        header = next(csv.reader([first], delimiter=separator), [])
        names = [name.strip().lstrip("\ufeff") for name in header]
        chosen = _columns(names, how)
        places = {field: names.index(name) for name, field in chosen.items()}
        rows = csv.reader(lines, delimiter=separator, strict=True)
        while True:
            start = lines.number + 1
            try:
                row = next(rows, None)
            except csv.Error as error:  # the reader goes on with the line after
                span = f"lines {start} to {lines.number} are" if lines.number > start else "it is"
                reason = f"{span} not CSV ({report_rows.brief(error)}): close quotes, and write one in a cell twice"
                yield Problem(start, reason)
                continue
            if row is None:
                return
            if row and len(row) != len(names):
                reason = f"its row has {len(row)} fields, the header {len(names)}: put cells in quotes and close them"
                yield Problem(start, reason)
            elif any("\0" in cell for cell in row):
                yield Problem(start, "its row has null bytes, which text has not: export it anew")
            elif row:
                yield _row({field: row[k] for field, k in places.items()}, how, start, encoding)


def _jsonl_rows(path, how):
    file, encoding = _lines(path, how)
    with file:
        lines = csv_rows.Lines(file)
        while True:
            number = lines.number + 1
            try:
                line = next(lines, None)
                if line is None:
                    return
                if not line.strip():
                    continue
                entry = json_files.parse_json(line)
            except csv.Error as error:
                yield Problem(number, f"{report_rows.brief(error)}: write one object a line")
                continue
            except ValueError as error:
                yield Problem(number, f"it is not JSON ({report_rows.brief(error)}): write one object a line")
                continue
            if isinstance(entry, dict):
                yield _entry(entry, how, number, encoding)
            else:
                yield Problem(number, "it is no JSON object: write one object a line")


def _parquet_rows(path, how):
    number = 0
    with pq.ParquetFile(path) as file:
        chosen = _columns(file.schema_arrow.names, how)
        for batch in file.iter_batches(report_rows.BATCH_N, columns=list(chosen)):
            columns = {field: batch.column(name).to_pylist() for name, field in chosen.items()}
            for k in range(batch.num_rows):
                number += 1
                yield _row({field: values[k] for field, values in columns.items()}, how, number)


def structured_report(dataset):
    """Return the text of a DICOM structured report: its text items in order, each under its concept's name.

    Parameters
    ----------
    dataset : pydicom.Dataset
    """
    parts = []

    def walk(items):
        for item in items:
            named = item.get("ConceptNameCodeSequence") or []
            title = str(named[0].get("CodeMeaning") or "") if len(named) else ""
            if item.get("ValueType") == "CONTAINER" and title:
                parts.append(f"{title.upper()}:")
            elif item.get("TextValue"):
                same = parts and parts[-1].rstrip(":").casefold().rstrip("s") == title.casefold().rstrip("s")
                parts.append(str(item.TextValue) if same or not title else f"{title.upper()}: {item.TextValue}")
            walk(item.get("ContentSequence") or [])

    walk(dataset.get("ContentSequence") or [])
    return "\n".join(part for part in parts)
