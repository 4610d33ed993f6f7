"""What `cxrlib.label` reads: tables, folders, archives and single files, as a stream of reports.

What cannot be read is a `Source` whose problem says what is wrong and what to do about it. What is left aside as a
whole (files of other endings, columns that could hold the text too) is said as well: nothing is dropped in silence.
"""

import collections
import contextlib
import csv
import gzip
import itertools
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cxrlib import openi

ID_COLUMNS = ("report_id", "study_id", "image_id", "id", "uid", "accession", "accession_number", "study", "filename")
TEXT_COLUMNS = ("report", "text", "report_text", "report text", "report impression")
SECTION_COLUMNS = ("findings", "impression")  # read, and joined, where there is none of the above
BATCH_N = 1_000
FILE_ENDINGS = (".txt", ".xml")
_MAGIC = {
    b"PAR1": "a Parquet file: let its name end in .parquet",
    b"PK\3\4": "an Excel workbook or a zip archive: save it as CSV UTF-8",
    b"\x1f\x8b": "compressed by gzip: let its name end in .csv.gz",
}
_MISSING = {"na", "nan", "nana", "nat", "none", "null", "ind", "qnan", "e", "inf"}  # the letters of such cells


class Source(NamedTuple):
    """A report of the input, or why there is none.

    Attributes
    ----------
    where : str
        Line, row or file.
    report_id : str or None
    text : str or None
    problem : str or None
        What is wrong with it, and the remedy; then it is rejected.
    is_report : bool
        False where `problem` is of files that were left aside and not of one report.
    """

    where: str
    report_id: str | None
    text: str | None
    problem: str | None = None
    is_report: bool = True


class Asked(NamedTuple):
    """How an input is to be read, as `sources` takes it."""

    id_column: str | None
    text_columns: tuple
    encoding: str
    separator: str | None
    say: collections.abc.Callable


def sources(path, id_column=None, text_columns=None, encoding="utf-8", separator=None, say=print):
    """Return an iterator of a `Source` per report of an input.

    Parameters
    ----------
    path : Path
    id_column : str, optional
        Of a table; the first of `ID_COLUMNS` that it has, if not given.
    text_columns : sequence of str, optional
        Of a table; several are joined under their names as headings. The first of `TEXT_COLUMNS` if not given, else
        `SECTION_COLUMNS`.
    encoding : str
        Of text and CSV files.
    separator : str, optional
        Of a CSV's cells; a comma if not given, a tab in a .tsv.
    say : Callable
        Takes a sentence on what was left aside.

    Raises
    ------
    ValueError, FileNotFoundError
        In a sentence, if the input as a whole cannot be read; from the iterator too.
    """
    path = Path(path)
    asked = Asked(id_column, tuple(text_columns or ()), encoding, separator, say)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: check its name.")
    if path.is_dir():
        return _folder(path, asked)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: there is no report in it; export it anew.")
    name = path.name.lower()
    if name.removesuffix(".gz").endswith((".csv", ".tsv")):
        return _csv(path, asked)
    if name.endswith((".parquet", ".pq")):
        return _parquet(path, asked)
    if name.endswith(FILE_ENDINGS):
        return iter([_file(path, path.stem, encoding)])
    if name.endswith((".tgz", ".tar.gz")):
        return _archive(path, asked)
    raise ValueError(
        f"{path} is none of .csv, .tsv (also .gz), .parquet, .txt, .xml, .tgz, and no folder: save it as one."
    )


def accepted(found, reject):
    """Yield `id, text` of the sources that can be labelled; pass the others, and repeated ids, to `reject`.

    Its memory is that of the ids' 8-byte hashes.
    """
    seen = set()
    for source in found:
        if source.problem is None and (key := hash(source.report_id)) in seen:
            source = source._replace(text=None, problem="its id occurs before: give each report an id of its own")
        if source.problem is not None:
            reject(source)
            continue
        seen.add(key)
        yield source.report_id, source.text


def brief(error):
    """Return an exception's first line, short, and without characters that a terminal would act upon."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines() or [type(error).__name__]
    return "".join(c if c.isprintable() else "?" for c in lines[0][:150]).rstrip(".: ")


@contextlib.contextmanager
def _undamaged(path):
    """Turn what a damaged or locked file raises into a sentence."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ValueError(f"{path} is damaged or cut off ({brief(error)}): copy or pack it anew.") from None
    except OSError as error:
        raise ValueError(f"{path} could not be read ({brief(error)}): check its permissions and its disk.") from None


# --- one report ---------------------------------------------------------------------------------------------


def _wordless(text):
    """Return whether a cell holds no words: blank, a number, or a spelling of a missing value, such as NaN."""
    text = text.strip()
    if not any(map(str.isalpha, text)):
        return True
    return len(text) <= 20 and "".join(filter(str.isalpha, text)).casefold() in _MISSING


def _joined(values, names):
    """Return the text of a row; of several columns, each that holds words under its name as a heading."""
    if len(names) == 1:
        return values[0]
    parts = [f"{name.upper()}: {value}" for name, value in zip(names, values, strict=True) if not _wordless(value)]
    return "\n\n".join(parts)


def _row(where, report_id, text):
    report_id = (report_id or "").strip()
    if not report_id or "\0" in report_id:
        return Source(where, None, None, "it has no id that can be read: give it one")
    if "\0" in text:
        problem = "it is not text but has null bytes: save it as text anew, or name its encoding by --encoding"
        return Source(where, report_id, None, problem)
    if not text.strip():
        return Source(where, report_id, None, "it has no text: fill in the report or leave it out")
    if _wordless(text):
        problem = f"it holds no words, only {text.strip()[:20]!r}: fill in the report or leave it out"
        return Source(where, report_id, None, problem)
    return Source(where, report_id, text)


# --- tables -------------------------------------------------------------------------------------------------


def _columns(have, asked, path):
    """Return the id column and the text columns of a table, or say which one is missing."""
    listed = ", ".join(map(str, have))
    for name in (*[asked.id_column] * (asked.id_column is not None), *asked.text_columns):
        if name not in have:
            raise ValueError(f"{path} has no column {name!r}; it has {listed}.")
    id_column = asked.id_column
    if id_column is None:
        id_column = next(iter(_named(have, ID_COLUMNS)), None)
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
    whole, sections = _named(have, TEXT_COLUMNS), _named(have, SECTION_COLUMNS)
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
    return (gzip.open if path.suffix.lower() == ".gz" else open)(path, mode, **how)


class _Lines:
    """The lines of a CSV as its reader takes them, and where a quote that is still open was opened.

    Attributes
    ----------
    number : int
        Of the last line taken.
    open_before : int or None
        The line with the quote that was open before the last line, or before the end.
    """

    def __init__(self, file):
        self.file, self.number, self.open_before, self._open = file, 0, None, None

    def __iter__(self):
        return self

    def __next__(self):
        self.open_before = self._open
        line = next(self.file)
        self.number += 1
        quotes = line.replace('""', "").count('"')
        if quotes % 2:
            self._open = self.number if self._open is None else None
        elif quotes and self._open is not None:  # closed, and another one opened
            self._open = self.number
        return line

    def new_row(self):
        """Forget open quotes, as the reader does at the start of a row."""
        self.open_before = self._open = None


def _csv(path, asked):
    """Yield the rows of a CSV; bytes that are not of its encoding reject their row only."""
    encoding = "utf-8-sig" if asked.encoding == "utf-8" else asked.encoding
    csv.field_size_limit(2**31 - 1)
    with _undamaged(path):
        with _opened(path, "rb") as file:
            _check_start(path, file.read(4), asked.encoding)
        with _opened(path, "rt", encoding=encoding, errors="surrogateescape", newline="") as file:
            lines = _Lines(file)
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
            f"{path}: its first line is no header of a table ({brief(error)}): save it as CSV UTF-8."
        ) from None
    whole = "".join(header)
    if not whole:
        raise ValueError(f"{path} is empty: it needs a header with an id column and a text column.")
    if not _decoded(whole):
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
            yield Source(f"line {start}", None, None, _not_csv(lines, error))
            if lines.open_before is not None:
                swallowed, first = swallowed + lines.number - lines.open_before, first or lines.open_before
            continue
        except UnicodeError as error:
            raise ValueError(
                f"{path} is not {asked.encoding} text ({brief(error)}); name its encoding by --encoding."
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
    if lines.open_before is None:
        return f"it is not CSV ({brief(error)}): write a quote inside a cell twice, and put that cell in quotes"
    swallowed = lines.number - lines.open_before
    return (
        f"it is not CSV: the quote that opens in line {lines.open_before} is not closed and swallowed {swallowed:,} "
        f"more lines, to line {lines.number}: close it, or write a quote inside a cell twice"
    )


def _csv_row(start, end, row, header, columns):
    where = f"line {start}"
    places = [header.index(c) for c in columns[1]]
    at = header.index(columns[0])
    report_id = row[at].strip() if at < len(row) and _decoded(row[at]) and "\0" not in row[at] else None
    if len(row) != len(header):
        span = f" and runs to line {end}" if end > start else ""
        problem = f"it has {len(row)} fields{span}, the header {len(header)}: put cells in quotes, and close these"
        return Source(where, report_id, None, problem)
    values = [row[k] for k in places]
    if not all(map(_decoded, (row[at], *values))):
        problem = "it has bytes that are not of the file's encoding: name that by --encoding"
        return Source(where, report_id, None, problem)
    return _row(where, report_id, _joined(values, columns[1]))


def _decoded(text):
    return not any("\ud800" <= c <= "\udfff" for c in text) if not text.isascii() else True


def _parquet(path, asked):
    """Yield the rows of a Parquet table."""
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            id_column, text_columns = _columns(file.schema_arrow.names, asked, path)
            for name in text_columns:
                _check_text(path, name, file.schema_arrow.field(name).type)
            for batch in file.iter_batches(BATCH_N, columns=[id_column, *text_columns]):
                columns = [batch.column(c).to_pylist() for c in (id_column, *text_columns)]
                for report_id, *values in zip(*columns, strict=True):
                    number += 1
                    yield _row(f"row {number}", _id_text(report_id), _joined([v or "" for v in values], text_columns))
    except UnicodeDecodeError:
        raise ValueError(f"{path} has text that is not UTF-8 after row {number}: write it anew as UTF-8.") from None
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a Parquet file, or a damaged one ({brief(error)}): write it anew.") from None
    if not number:
        raise ValueError(f"{path} has columns but no rows: there is no report in it; export it anew.")


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


# --- files --------------------------------------------------------------------------------------------------


def _folder(path, asked):
    """Return an iterator over the files of a folder, which are listed now, before any output is written."""
    files, others, locked = [], collections.Counter(), []
    for root, folders, names in os.walk(path, onerror=locked.append):
        found = [Path(root, name) for name in names]
        files += [f for f in found if f.suffix.lower() in FILE_ENDINGS]
        others.update(_ending(f) for f in found if f.suffix.lower() not in FILE_ENDINGS)
        others.update("linked folder" for name in folders if Path(root, name).is_symlink())
    if not files:
        there = f", only {_counted(others)}" if others else ""
        raise ValueError(
            f"{path} has no .txt or .xml file{there}: name the folder that holds them, or a table by its own name."
        )
    return itertools.chain(
        (_file(f, str(f.relative_to(path).with_suffix("")), asked.encoding) for f in sorted(files)),
        _locked(locked, asked.say),
        _left_aside(path, others, asked.say),
    )


def _locked(errors, say):
    """Say which folders could not be looked into, and yield that for the list of what was rejected."""
    for error in errors:
        problem = f"this folder could not be read ({brief(error)}): check its permissions"
        say(f"{error.filename}: {problem}.")
        yield Source(error.filename, None, None, problem, False)


def _archive(path, asked):
    """Yield the files of an archive."""
    others, number = collections.Counter(), 0
    with _undamaged(path), tarfile.open(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if member.isfile() and name.suffix.lower() in FILE_ENDINGS:
                number += 1
                data = archive.extractfile(member).read()
                yield _content(f"{path}: {name}", str(name.with_suffix("")), name.suffix, data, asked.encoding)
            elif not member.isdir():
                others[_ending(name) if member.isfile() else "link"] += 1
        _check_end(archive)
    if not number:
        there = f", only {_counted(others)}" if others else ""
        raise ValueError(f"{path} has no .xml or .txt file in it{there}: pack the folder that holds them.")
    yield from _left_aside(path, others, asked.say)


def _check_end(archive):
    """Raise if an archive goes on where its list of files ended, which tarfile takes for the end without a word."""
    while chunk := archive.fileobj.read(2**20):
        if chunk.strip(b"\0"):
            raise tarfile.ReadError("its list of files breaks off")


def _ending(name):
    return name.suffix.lower() or "without ending"


def _counted(others):
    return ", ".join(f"{n:,} {ending}" for ending, n in sorted(others.items()))


def _left_aside(path, others, say):
    """Say which files are not read, and yield that for the list of what was rejected."""
    if others:
        problem = (
            f"not read, since only .txt and .xml files are: {_counted(others)}; label a table by its own name, and "
            "save other reports as .txt"
        )
        say(f"{path}: {problem}.")
        yield Source(str(path), None, None, problem, False)


def _file(path, report_id, encoding):
    try:
        data = path.read_bytes()
    except OSError as error:
        return Source(str(path), report_id, None, f"it could not be read ({brief(error)}): check its permissions")
    return _content(str(path), report_id, path.suffix, data, encoding)


def _content(where, report_id, ending, data, encoding):
    """Return the report in the bytes of a .txt or .xml file."""
    if not _decoded(where):
        return Source(ascii(where), None, None, "its name is not UTF-8: rename it")
    if ending.lower() == ".xml":
        return _xml(where, data, report_id)
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeError:
        return Source(
            where, report_id, None, f"it is not {encoding} text: name its encoding by --encoding, as utf-16"
        )
    return _row(where, report_id, text)


def _xml(where, data, report_id):
    try:
        report = openi.parse(data, "it")
    except ValueError as error:
        problem = f"{brief(error)}: fetch it anew, or save the report as .txt"
        return Source(where, report_id, None, problem)
    if all(_wordless(report.sections.get(name.upper(), "")) for name in SECTION_COLUMNS):
        return Source(where, report.report_id, None, "it has no text under findings or impression: leave it out")
    return Source(where, report.report_id, report.text)
