"""What stands above and around the text of a report in a hospital's export: numbers, dates, and addendum marks.

`Conventions` holds every spelling that is looked for, so that a hospital can add its own. Numbers and dates are taken
from lines such as `Accession: A4471`, wherever in the head of a report they stand; what is taken is not left in the
text. A file may hold several reports, one after the other.
"""

import datetime
import functools
import re
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of_class
from typing import NamedTuple

import numpy as np

# Field to the names that it goes by, in a line of text, a column of a table or an element of XML; small letters, and
# compared without blanks and punctuation. Where a report gives a field twice, the first name of the list is believed.
FIELD_NAMES = {
    "report_id": ("report id", "report number", "report no", "document id", "document number"),
    "accession": (
        *("accession number", "accession no", "accession", "accn", "acc no", "acc", "accession numbers"),
        *("accessions", "exam number", "exam id", "examination number"),
    ),
    "study_id": ("study id", "study number", "study no"),
    "patient_id": (
        *("patient id", "patient identifier", "patient number", "patient no", "mrn", "medical record number"),
        *("medical record no", "hospital number", "subject id", "patient", "subject", "pid"),
    ),
    "study_uid": ("study instance uid", "study uid"),
    "exam_date": (
        *("exam date", "examination date", "date of exam", "date of examination", "study date", "date of study"),
        *("exam performed", "date performed", "performed on", "performed", "date of service", "service date"),
        *("procedure date", "acquisition date", "exam datetime", "study datetime", "exam date time"),
    ),
    "report_date": (
        *(
            "report date",
            "date of report",
            "dictated on",
            "dictated",
            "dictation date",
            "date dictated",
            "reported on",
        ),
        *("signed on", "date signed", "signed", "verified on", "verified", "transcribed"),
        *("report datetime", "report time"),
    ),
    "date": ("date", "datetime", "date time"),
    "status": ("report status", "result status", "status"),
    "addendum": ("addendum", "is addendum", "addendum number", "addendum no", "report type", "document type"),
    "addendum_of": ("addendum to", "addendum of", "original report", "parent report", "amends", "parent report id"),
}


# Fields of tables, JSON and XML alone: in running text these words are headings, which stay where they are.
_TEXT_NAMES = {
    "text": ("report text", "report", "text", "narrative", "body", "content", "full text", "report body"),
    "examination": ("examination", "exam", "procedure", "technique"),
    "indication": ("indication", "indications", "history", "clinical history", "clinical information"),
    "comparison": ("comparison", "comparisons"),
    "findings": ("findings", "finding"),
    "impression": ("impression", "impressions", "conclusion", "conclusions"),
    "file": ("file", "filename", "file name", "report file", "path"),
}


IDENTIFIERS = ("report_id", "accession", "study_id", "patient_id", "study_uid", "addendum_of")


_ADDENDUM = (
    r"\W*addend(?:um|a)\b(?:\s*(?:report|note|number|no\.?|#))*\s*(?P<n>\d{1,2})?(?!\s*[a-z]{3,9} \d{4}|\d|[./-]\d)"
)


_FINAL = ("final", "corrected", "approved", "signed", "verified", "complete", "completed", "amended", "f", "c")


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


_DATE = re.compile(
    rf"""(?<![\d.])(?:
    (?P<y1>\d{{4}})(?P<s1>[-./])(?P<m1>\d{{1,2}})(?P=s1)(?P<d1>\d{{1,2}})(?!\d)
    | (?P<y2>(?:19|20)\d\d)(?P<m2>\d\d)(?P<d2>\d\d)(?:\d{{4}}(?:\d\d)?)?(?!\d)
    | (?P<d3>\d{{1,2}})(?:st|nd|rd|th)?[\s.-]*(?:of\s+)?(?P<m3>{"|".join(_MONTHS)})[a-z]*[\s.,-]*(?P<y3>\d{{4}})(?!\d)
    | (?P<one>\d{{1,2}})(?P<s4>[-./])(?P<two>\d{{1,2}})(?P=s4)(?P<y4>\d{{4}})(?!\d)
    )|\b(?P<m5>{"|".join(_MONTHS)})[a-z]*\.?\s*(?P<d5>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y5>\d{{4}})(?!\d)""",
    re.I | re.X,
)


_SECTION = re.compile(r"^[ \t]*(?:findings?|impressions?|conclusions?)\b[ \t]*:", re.I | re.M)


_HEADING = re.compile(
    r"^\W*(comparisons?|findings?|impressions?|conclusions?|indications?|history|technique|exam\w*|procedure)\W*:",
    re.I,
)


_SEPARATED = re.compile(r"[:=#№]")


_APART = re.compile(r"\S(?:  |\t|.*\|)")  # what stands before a name that does not open its line


_RULED = re.compile(r"^[\s\f]*(?:[-=_*#~]{3,}[\s\f]*)?$")


_BETWEEN = 3  # lines of a header that say nothing known, such as the patient's name, between two that do


_LETTERHEAD = 6  # lines above a header that may belong to it


@dataclass(frozen=True)
class Conventions:
    """How a hospital's export writes things; change what differs (`conventions`).

    Attributes
    ----------
    names : Mapping of str to tuple of str
        Field to the names that it goes by (`FIELD_NAMES`, and of tables `_TEXT_NAMES`).
    addendum : str
        Regular expression of the line that opens an addendum, small letters; its group `n` is the addendum's number.
    preliminary : tuple of str
        Words of a status that a final report supersedes.
    missing : tuple of str
        Values that mean that there is none, small letters.
    encodings : tuple of str
        Tried in this order on text that is not marked as UTF-16.
    date_order : {"dmy", "mdy"} or None
        How 03/04/2014 is meant. None: as the archive's other dates show, and where they show nothing, not read.
    """

    names: dict
    addendum: str = _ADDENDUM
    preliminary: tuple = ("preliminary", "prelim", "wet read", "draft", "partial", "unverified", "p")
    missing: tuple = ("", "0", "-", "none", "null", "nan", "na", "n/a", "unknown", "anonymous", "anonymized", "anon")
    encodings: tuple = ("utf-8-sig", "cp1252", "latin-1")
    date_order: str | None = None

    @functools.cached_property
    def patterns(self):
        """Names to field and rank; patterns of a name that opens a line, of one further on, and of an addendum."""
        names = [(field, k, n) for field in reversed(FIELD_NAMES) for k, n in enumerate(self.names[field])]
        fields_of = {plain_name(name): (field, rank) for field, rank, name in reversed(names)}
        longest = sorted({name for field in FIELD_NAMES for name in self.names[field]}, key=len, reverse=True)
        any_name = "|".join(r"[\s_.-]*".join(map(re.escape, name.split())) for name in longest)
        body = rf"({any_name})s?\.*(?:[\s_]*\b(?:number|num|no|nr|id)\b\.?)?\s*(?:[#№]\s*[:=]?|[:=])[ \t]*"
        first, later = (re.compile(start + body, re.I) for start in (r"^[\W_]*", r"(?:(?<=\s)|(?<=[|;,]))[|;,]*"))
        return fields_of, first, later, re.compile(self.addendum, re.I)


def conventions(**changes):
    """Return the `Conventions` that settings name: the defaults, with what differs.

    Parameters
    ----------
    **changes
        Fields of `Conventions`. `names` adds to the names that there are: `{"accession": ["Tilgangsnummer"]}`.

    Raises
    ------
    ValueError
        If a field, or an order of dates, is unknown, or the pattern of an addendum is no regular expression.
    """
    names = {**FIELD_NAMES, **_TEXT_NAMES}
    known = [field.name for field in fields_of_class(Conventions)]
    unknown = sorted(set(changes) - set(known))
    more = dict(changes.get("names") or {})
    if unknown or set(more) - set(names):
        where, name, there = (
            ("conventions", unknown[0], known) if unknown else ("names", min(set(more) - set(names)), names)
        )
        raise ValueError(f"{where}: {name!r} is none of {', '.join(there)}.")
    if changes.get("date_order") not in (None, "dmy", "mdy"):
        raise ValueError(f"date_order: {changes['date_order']!r} is neither dmy nor mdy; leave it out if not known.")
    try:
        re.compile(changes.get("addendum", _ADDENDUM))
    except re.error as error:
        raise ValueError(f"addendum: {changes['addendum']!r} is no regular expression ({error}).") from None
    for field, ours in more.items():
        names[field] = (*([ours] if isinstance(ours, str) else ours), *names[field])
    changed = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items() if k != "names"}
    return replace(Conventions(names=names), **changed)


def plain_name(name):
    """Return a name in small letters without blanks and punctuation: `AccessionNumber` is `accession_number`."""
    return re.sub(r"[^\w]|_", "", str(name)).casefold()


def known_value(value, how):
    """Return a value as text without blanks around it and with single blanks inside, '' where it means none."""
    text = " ".join(str(value).replace("\0", " ").split()) if value is not None else ""
    text = re.sub(r"^(\d+)\.0$", r"\1", text)  # a number that a spreadsheet took for a measurement
    return "" if text.casefold() in how.missing else text


def _line_fields(line, how, head):
    """Return the fields that a line gives, field to (rank, value); empty if it is no line of a header."""
    if not _SEPARATED.search(line):
        return {}
    fields_of, first, later, _ = how.patterns
    start = first.match(line)
    opens = start is not None
    if start is None and _APART.search(line):
        start = next((m for m in later.finditer(line) if line[: m.start()].endswith(("  ", "\t", "|"))), None)
    if start is None:
        return {}
    found = [start, *later.finditer(line, start.end())]
    given = {}
    for k, match in enumerate(found):
        end = found[k + 1].start() if k + 1 < len(found) else len(line)
        field, rank = fields_of[plain_name(match[1])]
        value = _field_value(field, line[match.end() : end], how)
        if value and (field not in given or rank < given[field][0]):
            given[field] = (rank, value)
    return given if opens or head or len(given) > 1 else {}


def _field_value(field, text, how):
    """Return the value after a name, '' if it cannot be one."""
    text = text.strip(" \t|;,")
    if field in IDENTIFIERS:
        text = re.split(r"\s{2,}|[\t|(]|\s[A-Za-z][\w ]*:", text)[0].rstrip(".")
        usable = re.search(r"\d", text) and len(text) <= 64 and len(text.split()) <= 6
    elif field in ("exam_date", "report_date", "date"):
        dates = said_dates(text)
        text = text[dates[0][0] : dates[0][1]] if dates else ""
        usable = bool(dates)
    elif field == "status":
        usable = text.casefold() in (*how.preliminary, *_FINAL)
    else:
        usable = addendum_number(text)
    return known_value(text, how) if usable else ""


def said_dates(text):
    """Return the dates in a text with their places: `(start, end, (kind, *parts))`.

    Kind is `ymd`, followed by year, month and day, or `?`, followed by two numbers and the year, where day and month
    cannot be distinguished (03/04/2014; with dots the day stands first). Years have four digits. What is no day of
    the calendar is no date.
    """
    dates = []
    for match in _DATE.finditer(str(text)):
        got = match.groupdict()
        parts = next(((got[f"y{k}"], got[f"m{k}"], got[f"d{k}"]) for k in "1235" if got[f"y{k}"]), None)
        if parts:
            month = int(parts[1]) if parts[1].isdigit() else _MONTHS.index(parts[1].casefold()) + 1
            date = ("ymd", int(parts[0]), month, int(parts[2]))
        else:
            one, two, year = int(got["one"]), int(got["two"]), int(got["y4"])
            if got["s4"] == "." or one > 12:
                date = ("ymd", year, two, one)
            elif two > 12 or one == two:
                date = ("ymd", year, one, two)
            else:
                date = ("?", one, two, year)
        if _day(date):
            dates.append((match.start(), match.end(), date))
    return dates


def _day(date, order="dmy"):
    """Return what `said_dates` found as a datetime.date, None if there is no such day."""
    kind, *parts = date
    if kind == "?":
        day, month = parts[:2] if order == "dmy" else parts[1::-1]
        parts = [parts[2], month, day]
    try:
        return datetime.date(*parts)
    except ValueError:
        return None


def order_shown(texts):
    """Return how an archive writes its dates with slashes or hyphens: `dmy`, `mdy`, or None where that does not show.

    It shows where a day beyond the twelfth stands first, or second; where both occur it does not.

    Parameters
    ----------
    texts : iterable of str
    """
    dmy = mdy = False
    for text in texts:
        match = _DATE.search(text)
        if match and match["one"] and match["s4"] != ".":
            one, two = int(match["one"]), int(match["two"])
            dmy |= one > 12 >= two
            mdy |= two > 12 >= one
    return None if dmy == mdy else "dmy" if dmy else "mdy"


def as_day(date, order):
    """Return a date of `said_dates` as datetime64[D], NaT where day and month cannot be distinguished.

    Parameters
    ----------
    date : tuple
    order : {"dmy", "mdy"} or None
        How 03/04/2014 is meant.
    """
    unknown = date[0] == "?" and order is None
    return np.datetime64("NaT" if unknown else _day(date, order or "dmy"), "D")


def has_sections(text):
    """Return whether a text has findings or an impression under a heading."""
    return bool(_SECTION.search(text))


def split_reports(text, how):
    """Return the reports in a text, which is one unless a second header begins.

    A header is lines that give fields, with at most three others, or blank ones, between them. After the text of a
    report, it is that of the next one if it gives another report id, accession number or patient under the same name,
    or if it stands below a ruled line or a form feed, says something else or new, and text follows. Else it is a
    footer, or the header of a further page. Below COMPARISON no line is one of a header.

    Parameters
    ----------
    text : str
    how : Conventions

    Returns
    -------
    list of (int, dict, str)
        The line that it starts on, from 1; its fields, with `addendum`, its number as an addendum or 0; and its text
        without the lines of its header.
    """
    lines = _lines_of(text, how)
    starts, given, ends = [0], [{}], [0]
    for start, end, fields in _headers(lines):
        body = any(line.kind in ("prose", "heading") for line in lines[ends[-1] : start])
        if given[-1] and body and _begins(lines, start, end, fields, given[-1]):
            starts.append(_letterhead(lines, start))
            given.append(fields)
            ends.append(end)
        else:
            given[-1] = {
                **given[-1],
                **{f: v for f, v in fields.items() if f not in given[-1] or v[0] < given[-1][f][0]},
            }
            ends[-1] = end if not body else ends[-1]
    spans = zip(starts, ends, [*starts[1:], len(lines)], given, strict=True)
    return [_report_of(lines, *span, how) for span in spans]


class _Line(NamedTuple):
    """A line: of a header, a heading of a section, ruled (with or without words), blank, a title, or prose."""

    kind: str
    text: str
    given: dict
    ruled: bool = False


def _lines_of(text, how):
    lines, head, comparing = [], True, False
    for line in re.split(r"\r\n|\r|\n", text):
        ruled = "\f" in line
        line = line.replace("\f", " ").rstrip()
        if not line.strip() or _RULED.match(line):
            ruled |= bool(line.strip())
            lines.append(_Line("ruled" if ruled else "blank", "", {}, ruled))
            head, comparing = head or ruled, comparing and ruled
            continue
        given = {} if comparing else _line_fields(line, how, head or ruled)
        heading = _HEADING.match(line)
        if given:
            lines.append(_Line("header", line, given, ruled))
        elif heading:
            head, comparing = False, heading[1].casefold().startswith("comparison")
            lines.append(_Line("heading", line, {}, ruled))
        else:
            lines.append(_Line("title" if _is_title(line) else "prose", line, {}, ruled))
    return lines


def _is_title(line):
    """Return whether a line is a title, such as FINAL REPORT or CHEST, TWO VIEWS, and not prose in capitals."""
    words = line.split()
    return len(words) <= 8 and not line.endswith(".") and (line.isupper() or "report" in line.casefold())


def _headers(lines):
    """Yield where each header starts and ends, and its fields: no field stands twice in it under one name."""
    start = end = None
    fields = {}
    for k, line in enumerate(lines):
        if line.kind == "heading" and start is not None:
            yield start, end, fields
            start = None
        if not line.given:
            continue
        kinds = [] if start is None else [other.kind for other in lines[end:k]]
        prose_n = kinds.count("prose")
        apart = prose_n > _BETWEEN or (prose_n and ("blank" in kinds or "ruled" in kinds))
        twice = any(field in fields and fields[field][0] == rank for field, (rank, _) in line.given.items())
        if start is not None and (apart or twice):
            yield start, end, fields
            start = None
        if start is None:
            start, fields = k, {}
        end = k + 1
        fields = {**fields, **{f: v for f, v in line.given.items() if f not in fields or v[0] < fields[f][0]}}
    if start is not None:
        yield start, end, fields


def _begins(lines, start, end, fields, before):
    """Return whether a header is that of another report than the one whose fields are `before`."""
    other = {
        field
        for field, (rank, value) in fields.items()
        if field in before and rank == before[field][0] and plain_id(value) != plain_id(before[field][1])
    }
    if other & {"report_id", "accession", "patient_id"}:
        return True
    above = lines[max(0, _letterhead(lines, start) - 1) : start + 1]
    text_follows = any(line.kind in ("prose", "heading") for line in lines[end : end + 4])
    return any(line.ruled for line in above) and text_follows and bool(other or set(fields) - set(before))


def _letterhead(lines, start):
    """Return where the lines above a header begin that belong to it: below a ruled line, else below a blank one."""
    blank = start
    for k in range(start, max(0, start - _LETTERHEAD), -1):
        if lines[k].ruled and lines[k].kind != "ruled":  # a form feed before words
            return k
        if lines[k - 1].kind == "ruled":
            return k
        if lines[k - 1].kind in ("heading", "header"):
            break
        if lines[k - 1].kind == "blank" and blank == start:
            blank = k
    return blank


def _report_of(lines, start, header_end, end, given, how):
    """Return start, fields and text of the report in some lines."""
    kept, number, marking = [], 0, True
    for k in range(start, end):
        kind, text = lines[k].kind, lines[k].text
        if kind in ("header", "ruled"):
            continue
        mark = how.patterns[3].match(text) if marking and kind in ("title", "prose") else None
        if mark:
            number, marking = int(mark.groupdict().get("n") or 1), False
            text = text[mark.end() :].lstrip(" :.-–)#")
            if not text:
                continue
        marking &= kind in ("blank", "title") or k < header_end
        kept.append(text)
    fields = {field: value for field, (_, value) in given.items()}
    number = number or addendum_number(fields.pop("addendum", "")) or int("addendum_of" in fields)
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
    return start + 1, {**fields, "addendum": number}, text


def plain_id(value):
    """Return an identifier in small letters, without blanks, punctuation, leading zeros, and what follows a `^`."""
    return re.sub(r"[^\w]|_", "", value.partition("^")[0]).casefold().lstrip("0")


def accession_number(accession):
    """Return what of an accession number remains without letters before it, blanks, punctuation and leading zeros.

    None where nothing remains. `ACC-0004471`, `a4471` and `4471` give `4471`; `2014-4471` gives `20144471`.
    """
    return re.sub(r"^[^\W\d]*0*", "", re.sub(r"[\W_]", "", accession.casefold())) or None


def accession_keys(accession):
    """Return the numbers by which an accession number may be known: `accession_number`, and its parts without zeros.

    `2014-000471` gives `2014000471` and `2014 471`.
    """
    parts = [part.lstrip("0") for part in re.findall(r"\d+", re.sub(r"^[^\W\d]*", "", accession.strip()))]
    whole = accession_number(accession)
    return [key for key in (whole, " ".join(parts) if len(parts) > 1 else None) if key]


def accession_letters(accession):
    """Return the letters before an accession number, '' where they are only the word for it."""
    letters = re.match(r"[^\W\d]*", re.sub(r"[\W_]", "", accession.casefold()))[0]
    return "" if letters in ("acc", "accn", "acn", "an", "accession", "accessionno", "no", "nr") else letters


def addendum_number(value):
    """Return the number of the addendum that a column or field speaks of: 0 for none, 1 where it is not numbered."""
    text = str(value).strip().casefold().removesuffix(".0")
    if found := re.search(r"\d+", text):
        return int(found[0]) if found[0] == text or ("addend" in text and len(found[0]) < 3) else 0
    return int("addend" in text or text in ("true", "yes", "y", "t", "x"))
