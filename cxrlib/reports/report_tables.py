"""Reports in CSV and Parquet tables."""

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq

from cxrlib.base import bounded, csv_rows
from cxrlib.reports import report_rows

_MAGIC = {
    b"PAR1": "a Parquet file: let its name end in .parquet",
    b"PK\3\4": "an Excel workbook or a zip archive: save it as CSV UTF-8",
    b"\x1f\x8b": "compressed by gzip: let its name end in .csv.gz",
}


def _joined(values, names):
    """Return the text of a row; of several columns, each that holds words under its name as a heading."""
    if len(names) == 1:
        return values[0]
    parts = [
        f"{name.upper()}: {value}"
        for name, value in zip(names, values, strict=True)
        if not report_rows.wordless(value)
    ]
    return "\n\n".join(parts)


def _columns(have, asked, path):
    """Return the id column and the text columns of a table, or say which one is missing."""
    listed = ", ".join(map(str, have))
    for name in (*[asked.id_column] * (asked.id_column is not None), *asked.text_columns):
        if name not in have:
            raise ValueError(f"{path} has no column {name!r}; it has {listed}.")
    id_column = asked.id_column
    if id_column is None:
        id_column = next(iter(_named(have, report_rows.ID_COLUMNS)), None)
        if id_column is None:
            raise ValueError(f"{path} has no column of ids; name it by --id-column. It has {listed}.")
    text_columns = asked.text_columns or _text_columns(have, asked, path)
    if id_column in text_columns:
        raise ValueError(f"{path}: the column {id_column!r} cannot be both id and text; name another.")
    for name in (id_column, *text_columns):
        if list(have).count(name) > 1:
            raise ValueError(f"{path} has several columns named {name!r}: rename all but one of them.")
    return id_column, list(text_columns)


def _named(have, names):
    """Return the columns that bear one of the names, in the names' order, whatever the case."""
    return [c for name in names for c in have if str(c).strip().lower() == name]


def _text_columns(have, asked, path):
    """Return the columns to read where none was asked for; say which others could be meant."""
    whole, sections = _named(have, report_rows.TEXT_COLUMNS), _named(have, report_rows.SECTION_COLUMNS)
    read = whole[:1] or sections
    if not read:
        raise ValueError(
            f"{path} has no column of reports; name it by --text-column. It has {', '.join(map(str, have))}."
        )
    left = [c for c in (*whole, *sections) if c not in read]
    if left:
        asked.say(
            f"{path}: reports are read from the column {read[0]!r}, not from {', '.join(map(repr, left))}; choose by "
            "--text-column, given several times to join columns."
        )
    return read


def _opened(path, mode, **how):
    if path.suffix.lower() != ".gz":
        return open(path, mode, **how)
    file = bounded.open_gzip(path)
    return io.TextIOWrapper(file, **how) if "t" in mode else file


def csv_reports(path, asked):
    """Yield the rows of a CSV; bytes that are not of its encoding reject their row only."""
    encoding = "utf-8-sig" if asked.encoding == "utf-8" else asked.encoding
    with report_rows.undamaged(path):
        with _opened(path, "rb") as file:
            _check_start(path, file.read(4), asked.encoding)
        with _opened(path, "rt", encoding=encoding, errors="surrogateescape", newline="") as file:
            lines = csv_rows.Lines(file)
            separator = asked.separator or ("\t" if ".tsv" in path.name.lower()[-7:] else ",")
            rows = csv.reader(lines, strict=True, delimiter=separator)
            header = _csv_header(path, rows, separator, asked.encoding)
            columns = _columns(header, asked, path)
            yield from _csv_rows(path, lines, rows, header, columns, asked)


def _check_start(path, start, encoding):
    """Raise a ValueError if a file's first bytes show that it is something else than CSV in the encoding."""
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise ValueError(f"{path} is not CSV but {what}.")
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))
    if not wide and (start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start):
        raise ValueError(
            f"{path} is not {encoding.upper()} text but looks like UTF-16: save it as CSV UTF-8 or say "
            "--encoding utf-16."
        )


def _csv_header(path, rows, separator, encoding):
    try:
        header = [name.strip() for name in next(rows, [])]
    except (csv.Error, UnicodeError) as error:
        raise ValueError(
            f"{path}: its first line is no header of a table ({report_rows.brief(error)}): save it as CSV UTF-8."
        ) from None
    whole = "".join(header)
    if not whole:
        raise ValueError(f"{path} is empty: it needs a header with an id column and a text column.")
    if not csv_rows.decoded(whole):
        raise ValueError(f"{path} is not {encoding} text: save it as CSV UTF-8, or name its encoding by --encoding.")
    if any(c < " " and not c.isspace() for c in whole):
        raise ValueError(f"{path} is not a table: its first line has control characters; save it as CSV UTF-8.")
    other = next((c for c in ";\t|," if c in whole and c != separator), None)
    if len(header) == 1 and other:
        names = {"\t": "tab", ",": "comma"}
        said = names.get(other, f"'{other}'")
        raise ValueError(
            f"{path} has cells that are separated by {said}, not by {names.get(separator, separator)}: say "
            f"--separator {said}."
        )
    return header


def _csv_rows(path, lines, rows, header, columns, asked):
    found, swallowed, first = False, 0, None
    while True:
        lines.new_row()
        start = lines.number + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            found = True
            yield report_rows.ReportSource(f"line {start}", None, None, _not_csv(lines, error))
            if lines.open_before is not None:
                swallowed, first = swallowed + lines.number - lines.open_before, first or lines.open_before
            continue
        except UnicodeError as error:
            raise ValueError(
                f"{path} is not {asked.encoding} text ({report_rows.brief(error)}); name its encoding by --encoding."
            ) from None
        if row is None:
            break
        if row:
            found = True
            yield _csv_row(start, lines.number, row, header, columns)
    if not found:
        raise ValueError(f"{path} has a header but no rows: there is no report in it; export it anew.")
    if swallowed:
        asked.say(
            f"{path}: quotes that are not closed, the first in line {first}, swallowed {swallowed:,} lines, which "
            "are not labelled; close them and label it again."
        )


def _not_csv(lines, error):
    """Return why the reader gave up on a row, and the remedy."""
    if lines.too_long:
        return f"{report_rows.brief(error)}, more than a report has: it was not read; break it into lines"
    if lines.open_before is None:
        reason = report_rows.brief(error)
        return f"it is not CSV ({reason}): write a quote inside a cell twice, and put that cell in quotes"
    swallowed = lines.number - lines.open_before
    return (
        f"it is not CSV: the quote that opens in line {lines.open_before} is not closed and swallowed {swallowed:,} "
        f"more lines, to line {lines.number}: close it, or write a quote inside a cell twice"
    )


def _csv_row(start, end, row, header, columns):
    where = f"line {start}"
    places = [header.index(c) for c in columns[1]]
    at = header.index(columns[0])
    report_id = row[at].strip() if at < len(row) and csv_rows.decoded(row[at]) and "\0" not in row[at] else None
    if len(row) != len(header):
        span = f" and runs to line {end}" if end > start else ""
        problem = f"it has {len(row)} fields{span}, the header {len(header)}: put cells in quotes, and close these"
        return report_rows.ReportSource(where, report_id, None, problem)
    values = [row[k] for k in places]
    if not all(map(csv_rows.decoded, (row[at], *values))):
        problem = "it has bytes that are not of the file's encoding: name that by --encoding"
        return report_rows.ReportSource(where, report_id, None, problem)
    return report_rows.report_row(where, report_id, _joined(values, columns[1]))


def parquet_reports(path, asked):
    """Yield the rows of a Parquet table."""
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            id_column, text_columns = _columns(file.schema_arrow.names, asked, path)
            _check_id(path, id_column, file.schema_arrow.field(id_column).type)
            for name in text_columns:
                _check_text(path, name, file.schema_arrow.field(name).type)
            for batch in file.iter_batches(report_rows.BATCH_N, columns=[id_column, *text_columns]):
                columns = [batch.column(c).to_pylist() for c in (id_column, *text_columns)]
                for report_id, *values in zip(*columns, strict=True):
                    number += 1
                    yield report_rows.report_row(
                        f"row {number}", _id_text(report_id), _joined([v or "" for v in values], text_columns)
                    )
    except UnicodeDecodeError:
        raise ValueError(f"{path} has text that is not UTF-8 after row {number}: write it anew as UTF-8.") from None
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is not a Parquet file, or a damaged one ({report_rows.brief(error)}): write it anew."
        ) from None
    if not number:
        raise ValueError(f"{path} has columns but no rows: there is no report in it; export it anew.")


def _check_id(path, name, kind):
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise ValueError(f"{path}: the column {name!r} is {kind}, no ids; name the column of ids by --id-column.")


def _check_text(path, name, kind):
    if pa.types.is_dictionary(kind):  # a category column
        kind = kind.value_type
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(is_kind(kind) for is_kind in kinds):
        raise ValueError(
            f"{path}: the column {name!r} is {kind}, not text; name the column of reports by --text-column."
        )


def _id_text(value):
    """Return an id as text; a whole number that was stored as float is written as the integer that it is."""
    if value is None or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
