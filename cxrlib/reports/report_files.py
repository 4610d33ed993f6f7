"""What `cxr label` reads: tables, folders, archives and single files, as a stream of reports.

What cannot be read is a `Source` whose problem says what is wrong and what to do about it. What is left aside as a
whole (files of other endings, columns that could hold the text too) is said as well: nothing is dropped in silence.
"""

import array
import collections
import itertools
import os
from pathlib import Path, PurePosixPath

from cxrlib.base import bounded, csv_rows
from cxrlib.releases import openi_reports
from cxrlib.reports import report_rows, report_tables

_FILE_ENDINGS = (".txt", ".xml")


_BUCKETS_N = 1 << 14  # in which ids are looked for: some sixty in each of a million


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
    asked = report_rows.Asked(id_column, tuple(text_columns or ()), encoding, separator, say)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: check its name.")
    if path.is_dir():
        return _folder(path, asked)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: there is no report in it; export it anew.")
    name = path.name.lower()
    if name.removesuffix(".gz").endswith((".csv", ".tsv")):
        return report_tables.csv_reports(path, asked)
    if name.endswith((".parquet", ".pq")):
        return report_tables.parquet_reports(path, asked)
    if name.endswith(_FILE_ENDINGS):
        return iter([_file(path, path.stem, encoding)])
    if name.endswith((".tgz", ".tar.gz")):
        return _archive(path, asked)
    raise ValueError(
        f"{path} is none of .csv, .tsv (also .gz), .parquet, .txt, .xml, .tgz, and no folder: save it as one."
    )


def accepted(found, reject):
    """Yield `id, text` of the sources that can be labelled; pass the others, and repeated ids, to `reject`.

    Its memory is that of the ids' 8-byte hashes, since a set would take ten times as much.
    """
    seen = [array.array("q") for _ in range(_BUCKETS_N)]
    for source in found:
        if source.problem is None:
            key = hash(source.report_id)
            bucket = seen[key % _BUCKETS_N]
            if key in bucket:
                source = source._replace(text=None, problem="its id occurs before: give each report an id of its own")
        if source.problem is not None:
            reject(source)
            continue
        bucket.append(key)
        yield source.report_id, source.text


def _folder(path, asked):
    """Return an iterator over the files of a folder, which are listed now, before any output is written."""
    files, others, locked = [], collections.Counter(), []
    for root, folders, names in os.walk(path, onerror=locked.append):
        found = [Path(root, name) for name in names]
        files += [f for f in found if f.suffix.lower() in _FILE_ENDINGS]
        others.update(_ending(f) for f in found if f.suffix.lower() not in _FILE_ENDINGS)
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
        problem = f"this folder could not be read ({report_rows.brief(error)}): check its permissions"
        say(f"{error.filename}: {problem}.")
        yield report_rows.ReportSource(error.filename, None, None, problem, False)


def _archive(path, asked):
    """Yield the files of an archive."""
    others, number = collections.Counter(), 0
    with report_rows.undamaged(path), bounded.open_tar(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if member.isfile() and name.suffix.lower() in _FILE_ENDINGS:
                number += 1
                data = bounded.read_member(archive, member, path)
                yield _content(f"{path}: {name}", str(name.with_suffix("")), name.suffix, data, asked.encoding)
            elif not member.isdir():
                others[_ending(name) if member.isfile() else "link"] += 1
        bounded.check_end(archive)
    if not number:
        there = f", only {_counted(others)}" if others else ""
        raise ValueError(f"{path} has no .xml or .txt file in it{there}: pack the folder that holds them.")
    yield from _left_aside(path, others, asked.say)


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
        yield report_rows.ReportSource(str(path), None, None, problem, False)


def _file(path, report_id, encoding):
    try:
        size = path.stat().st_size
        if size > bounded.MEMBER_BYTES:
            problem = f"it has {size:,} bytes, more than a report has: give each report a file of its own"
            return report_rows.ReportSource(str(path), report_id, None, problem)
        data = path.read_bytes()
    except OSError as error:
        return report_rows.ReportSource(
            str(path), report_id, None, f"it could not be read ({report_rows.brief(error)}): check its permissions"
        )
    return _content(str(path), report_id, path.suffix, data, encoding)


def _content(where, report_id, ending, data, encoding):
    """Return the report in the bytes of a .txt or .xml file."""
    if not csv_rows.decoded(where):
        return report_rows.ReportSource(ascii(where), None, None, "its name is not UTF-8: rename it")
    if ending.lower() == ".xml":
        return _xml(where, data, report_id)
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeError:
        return report_rows.ReportSource(
            where, report_id, None, f"it is not {encoding} text: name its encoding by --encoding, as utf-16"
        )
    return report_rows.report_row(where, report_id, text)


def _xml(where, data, report_id):
    try:
        report = openi_reports.parse(data, "it")
    except ValueError as error:
        problem = f"{report_rows.brief(error)}: fetch it anew, or save the report as .txt"
        return report_rows.ReportSource(where, report_id, None, problem)
    if all(report_rows.wordless(report.sections.get(name.upper(), "")) for name in report_rows.SECTION_COLUMNS):
        return report_rows.ReportSource(
            where, report.report_id, None, "it has no text under findings or impression: leave it out"
        )
    return report_rows.ReportSource(where, report.report_id, report.text)
