"""A report of an input, or why there is none."""

import collections
import contextlib
import gzip
import re
import tarfile
import zlib
from typing import NamedTuple

ID_COLUMNS = ("report_id", "study_id", "image_id", "id", "uid", "accession", "accession_number", "study", "filename")


TEXT_COLUMNS = ("report", "text", "report_text", "report text", "report impression")


SECTION_COLUMNS = ("findings", "impression")  # read, and joined, where there is none of the above


BATCH_N = 1_000


_MISSING_WORDS = {"na", "nan", "nana", "nat", "none", "null", "ind", "qnan", "e", "inf"}  # the letters of such cells


_MARKUP = re.compile(r"\s*(?:<!doctype\b|<html\b|<\?xml\b|\{\\rtf|%PDF-)", re.I)


_CHARACTERS_MOST = 1_000_000  # the longest reports of MIMIC-CXR have some ten thousand


class ReportSource(NamedTuple):
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


def brief(error):
    """Return an exception's first line, short, and without characters that a terminal would act upon."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines() or [type(error).__name__]
    return "".join(c if c.isprintable() else "?" for c in lines[0][:150]).rstrip(".: ")


@contextlib.contextmanager
def undamaged(path):
    """Turn what a damaged or locked file raises into a sentence."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ValueError(f"{path} is damaged or cut off ({brief(error)}): copy or pack it anew.") from None
    except OSError as error:
        raise ValueError(f"{path} could not be read ({brief(error)}): check its permissions and its disk.") from None


def wordless(text):
    """Return whether a cell holds no words: blank, a number, or a spelling of a missing value, such as NaN."""
    text = text.strip()
    if not any(map(str.isalpha, text)):
        return True
    return len(text) <= 20 and "".join(filter(str.isalpha, text)).casefold() in _MISSING_WORDS


def report_row(where, report_id, text):
    """Return a `ReportSource` of one report, or of what is wrong with it."""
    report_id = (report_id or "").strip()
    if not report_id or any(c < " " or c == "\x7f" for c in report_id):
        return ReportSource(where, None, None, "it has no id that can be read: give it one")
    if report_id[0] in "=@":
        problem = f"its id begins with {report_id[0]!r}, which a spreadsheet would execute: give it an id of its own"
        return ReportSource(where, None, None, problem)
    if len(text) > _CHARACTERS_MOST:
        problem = (
            f"it has {len(text):,} characters, more than a report has: give each report a row or file of its own"
        )
        return ReportSource(where, report_id, None, problem)
    if "\0" in text:
        problem = "it is not text but has null bytes: save it as text anew, or name its encoding by --encoding"
        return ReportSource(where, report_id, None, problem)
    if not text.strip():
        return ReportSource(where, report_id, None, "it has no text: fill in the report or leave it out")
    if markup := _MARKUP.match(text):
        problem = f"it is not plain text but begins with {markup[0].strip()!r}: save the report as text"
        return ReportSource(where, report_id, None, problem)
    if wordless(text):
        problem = f"it holds no words, only {text.strip()[:20]!r}: fill in the report or leave it out"
        return ReportSource(where, report_id, None, problem)
    return ReportSource(where, report_id, text)
