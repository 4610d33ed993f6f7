"""What stands above and around the text of a report in a hospital's export: numbers, dates, and addendum marks.

`Conventions` holds every spelling that is looked for, so that a hospital can add its own. Numbers and dates are taken
from lines such as `Accession: A4471`, wherever in the head of a report they stand; what is taken is not left in the
text. A file may hold several reports, one after the other.
"""

import datetime
import functools
import re
from dataclasses import dataclass, fields, replace

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
TEXT_NAMES = {
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


_RULED = re.compile(r"^[\s\f]*(?:[-=_*#~]{3,}[\s\f]*)?$")


_LETTERHEAD_LINES = 3  # lines of prose that may stand between a ruled or blank line and the header of the next report


@dataclass(frozen=True)
class Conventions:
    """How a hospital's export writes things; change what differs (`conventions`).

    Attributes
    ----------
    names : Mapping of str to tuple of str
        Field to the names that it goes by (`FIELD_NAMES`, `TEXT_NAMES`).
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
        body = rf"({any_name})s?\.?(?:[\s_]*\b(?:number|num|no|nr|id)\b\.?)?\s*(?:[#№]\s*[:=]?|[:=])[ \t]*"
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
    names = {**FIELD_NAMES, **TEXT_NAMES}
    known = [field.name for field in fields(Conventions)]
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
    if start is None and head:
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
    return given


def _field_value(field, text, how):
    """Return the value after a name, '' if it cannot be one."""
    text = text.strip(" \t|;,")
    if field in IDENTIFIERS:
        text = re.split(r"\s{2,}|[\t|(]", text)[0].rstrip(".")
        usable = re.search(r"\d", text) and len(text) <= 64 and len(text.split()) <= 6
    elif field in ("exam_date", "report_date", "date"):
        usable = said_dates(text)
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

    A second header begins where a line, soon after a blank or ruled line, gives another accession number, patient or
    report under the same name as the report before it. Below COMPARISON no line is one of a header.

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
    reports, state = [], _Reading(1)
    mark = how.patterns[3]
    for number, line in enumerate(text.splitlines(), 1):
        if _RULED.match(line):
            state.rule(line)
            continue
        given = {} if state.comparing else _line_fields(line, how, state.head)
        if state.wrote and state.differs(given):
            if state.since_gap <= _LETTERHEAD_LINES:
                before, state = state, _Reading(number)
                for line_before in before.letterhead():
                    state.read(line_before, mark)
                reports.append(before.done())
            else:
                given = {}
        if given:
            state.take(given)
        else:
            state.read(line, mark)
    return [*reports, state.done()]


def _is_title(line):
    """Return whether a line is a title, such as FINAL REPORT or CHEST, TWO VIEWS, and not prose in capitals."""
    words = line.split()
    return len(words) <= 8 and not line.rstrip().endswith(".") and (line.isupper() or "report" in line.casefold())


class _Reading:
    """A report that is being read: its fields and its lines so far."""

    def __init__(self, start):
        self.start, self.given, self.lines, self.addendum = start, {}, [], 0
        self.wrote = False  # whether there was prose below its header
        self.head = True  # whether a header may stand further on in a line
        self.comparing = False  # whether this is the section on earlier images
        self.since_gap, self.gap_at = 0, 0  # lines of prose since the last blank or ruled line; where that was

    def differs(self, given):
        """Return whether a line gives another number under the same name as the header did."""
        return any(
            field in self.given
            and given[field][0] == self.given[field][0]
            and plain_id(given[field][1]) != plain_id(self.given[field][1])
            for field in ("report_id", "accession", "patient_id")
            if field in given
        )

    def rule(self, line):
        self.since_gap, self.gap_at = 0, len(self.lines)
        self.comparing &= bool(line.strip())
        if not line.strip():
            self.lines.append("")

    def take(self, given):
        if not self.given:  # what stands above is a letterhead
            self.wrote, self.head = False, True
        for field, (rank, value) in given.items():
            if field not in self.given or rank < self.given[field][0]:
                self.given[field] = (rank, value)
        self.since_gap, self.gap_at = 0, len(self.lines)

    def read(self, line, mark):
        """Take a line that is not of the header."""
        marked = None if self.wrote else mark.match(line)
        if marked:
            number = marked.groupdict().get("n")
            self.addendum = int(number or 1)
            line = line[marked.end() :].lstrip(" :.-–)#")
            if not line:
                return
        heading = _HEADING.match(line)
        if heading:
            self.comparing = heading[1].casefold().startswith("comparison")
        if heading or not _is_title(line):
            self.wrote, self.head = True, False
            self.since_gap += 1
        self.lines.append(line.rstrip())

    def letterhead(self):
        """Remove and return the lines since the last gap: they are of the report that now begins."""
        lines = self.lines[self.gap_at :]
        del self.lines[self.gap_at :]
        return lines

    def done(self):
        given = {field: value for field, (_, value) in self.given.items()}
        marked = max(addendum_number(given.pop("addendum", "")), int("addendum_of" in given))
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(self.lines)).strip()
        return self.start, {**given, "addendum": self.addendum or marked}, text


def plain_id(value):
    """Return an identifier in small letters, without blanks, punctuation and leading zeros."""
    return re.sub(r"[^\w]|_", "", value).casefold().lstrip("0")


def accession_number(accession):
    """Return what of an accession number remains without letters before it, blanks, punctuation and leading zeros.

    None where nothing remains. `ACC-0004471`, `a4471` and `4471` give `4471`; `2014-4471` gives `20144471`.
    """
    return re.sub(r"^[^\W\d]*0*", "", re.sub(r"[\W_]", "", accession.casefold())) or None


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
