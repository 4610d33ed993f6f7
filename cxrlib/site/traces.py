"""Traces of a patient in words: names, numbers, dates, addresses, fields of a record, and words of reports.

What is written as a record or a DICOM header writes it is found. A name in a sentence, or an age, is not.
"""

import re
from collections import Counter
from typing import NamedTuple

_UPPER, _LETTER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶŁĻŃŅŇŌŐŘŚŞŠŤŪŮŰŲŹŻŽ", r"[^\W\d_]"
_BETWEEN = (
    r"(?:<[^<>]{0,80}>|[\s:#=\"'|,;\\]){0,20}"  # between the name of a field and its value, in a page or a table
)
_NUMBER = r"[A-Z]{0,3}\d{5,}"


def _cell(pattern, comma=""):
    """Return a pattern of a cell of a table, of a page or of JSON that holds nothing else."""
    return rf"(?:^|(?<=[\"'>|\t\n;{comma}])|(?<=\s\s)) ?(?:{pattern}) ?(?=[\"'<|\t\n;\\{comma}]|\s\s|$)"


# What a pattern finds in every text.
PATTERNS = {
    "email": r"\b[\w.+-]+@(?!example\.(?:com|net|org)\b)[\w-]+(?:\.[\w-]+)*\.[a-zA-Z]{2,}\b",
    "absolute path": r"(?:(?<![\w/.~-])|file:/+)"
    r"/(?:home|root|Users|mnt|media|scratch|gpfs|srv|tmp|work)/[\w.-]+"
    r"|\b[A-Z]:\\\\?Users\\",
    # The standard's own UIDs, of 10008, are nobody's.
    "DICOM UID": r"(?<![\w.])(?!1\.2\.840\.10008\.)[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\w.])",
    "record number": rf"(?i)\b(?:MRN|medical record (?:number|no\.?)){_BETWEEN}{_NUMBER}",
    "accession number": rf"(?i)\baccession(?:[\s_]?(?:number|no\.?))?(?!\d){_BETWEEN}{_NUMBER}",
    "name": rf"\b(?:Dr|Prof|Mr|Mrs|Ms)\.? [{_UPPER}]{_LETTER}+"
    rf"|\b[{_UPPER}](?:{_LETTER}|-)+\^[{_UPPER}](?:{_LETTER}|-)+",
}

_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_WORD = r"(?:Jan|Feb|M[aä]r|Apr|Ma[iy]|Jun|Jul|Aug|Sep|O[ck]t|Nov|De[cz])[a-z]*"
_DATES = (
    rf"{_YEAR}(?P<a>[-/.]){_MONTH}(?P=a){_DAY}",
    rf"{_DAY}(?P<b>[-/.]){_MONTH}(?P=b){_YEAR}",
    rf"{_MONTH}(?P<c>[-/.]){_DAY}(?P=c){_YEAR}",
    rf"{_DAY}[-. ]{{1,2}}{_WORD}[-. ,]{{1,2}}{_YEAR}",
    rf"{_WORD} {_DAY}(?:st|nd|rd|th)?,? {_YEAR}",
    r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[0-2]\d[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?)?(?:\.0)?",
)
_SHORT = rf"{_DAY}(?P<d>[-/.]){_MONTH}(?P=d)\d\d|{_MONTH}(?P<e>[-/.]){_DAY}(?P=e)\d\d"  # a year of two digits
_SURNAME = rf"[{_UPPER}](?:{_LETTER}|['’-])+"

# What a pattern finds in what is no prose (tables, outputs, pages), since prose has dates and names of its own.
DATA_PATTERNS = {
    "date": rf"(?<![A-Za-z\d./-])(?<!==)(?:{'|'.join(_DATES)})(?:T[\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?(?![A-Za-z\d/-]|\.\d)"
    rf"|{_cell(_SHORT, ',')}",
    "name": _cell(rf"{_SURNAME}, {_SURNAME}(?: [{_UPPER}]\.?)?"),
}

# Names that only a field of a record or a DICOM header has, in lower case with underscores; `patient_id` is also a
# pseudonym, and so it is none but as DICOM writes it.
_NUMBERED = r"(?:_?(?:no|nr|num|numbers?|ids?))?"
_FIELD = re.compile(
    rf"(?:[a-z]+_)?mrns?|(?:[a-z]+_)?medical_record{_NUMBERED}|record_(?:no|nr|num|numbers?)"
    rf"|(?:[a-z]+_)?accession{_NUMBERED}|(?:[a-z]+_)?ssn|social_security{_NUMBERED}|nhs{_NUMBERED}|insurance{_NUMBERED}"
    r"|(?:patients?|given|first|last|family|middle|maiden|full)_?(?:s_)?names?|surname"
    r"|(?:[a-z]+_){0,2}birth_?(?:date|day|year|place|time|name)?s?|dob"
    r"|(?:[a-z]+_){0,2}dates?(?:_?time)?(?:_dicom)?|date_?time|dates?_of_[a-z]+"
    r"|(?:study|series|acquisition|content|exam|visit|scan|report|admission|discharge)_?date(?:_?time)?"
    r"|(?:referring|performing|requesting|reading|attending)_?physicians?(?:_?names?)?|physicians?_(?:of_record|names?)"
    r"|operators?_?names?|institution(?:al)?_?(?:name|address|department_?name)|(?:study|series|sop)_?instance_?uid"
    rf"|(?:patients?_?(?:s_)?)?(?:address|phone|telephone|e_?mail){_NUMBERED}"
)
_DICOM_ID = "PatientID"
_LIKELY = re.compile(
    "(?i)mrn|record|accession|ssn|social|nhs|insurance|name|birth|dob|date|physician|institution|instance|address"
    "|phone|mail|PatientID"
)
_PLAIN = {"date", "dates", "address", "phone", "telephone", "email", "surname", "birth", "births", "accession"}

_WORDS_N = 8  # words in a row that are taken for a copy of a report
_RARE_N = 2  # reports that may share such words; what more of them say is a phrase of the trade


class Words(NamedTuple):
    """The words of a file: sentences and code, what is a table, an output or a page, and names of columns."""

    prose: str = ""
    data: str = ""
    columns: tuple = ()


def _runs(text):
    words = re.findall(r"[^\W_]+", text.casefold())
    return [" ".join(words[i : i + _WORDS_N]) for i in range(len(words) - _WORDS_N + 1)]


def report_words(reports):
    """Return the runs of eight words that at most two reports share, a set of str.

    Parameters
    ----------
    reports : iterable of str
    """
    counted = Counter()
    for text in set(reports):
        counted.update(set(_runs(text)))
    return {run for run, n in counted.items() if n <= _RARE_N}


def is_field(name):
    """Return whether only a field of a record or of a DICOM header has that name, in any spelling.

    Parameters
    ----------
    name : str
    """
    name = str(name).strip()
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return name == _DICOM_ID or bool(_FIELD.fullmatch(re.sub(r"[\s_.'’-]+", "_", snake)))


def fields(text):
    """Return the names of fields of a record that stand in a table, a notebook's output or a page, a list of str.

    A word that prose has too, as 'date', counts only where it fills a cell.

    Parameters
    ----------
    text : str
    """
    cells = {cell.strip() for cell in re.split(r"[,;|\t\n\"'\\]|<[^<>]*>|:\s|\s\s", text) if _LIKELY.search(cell)}
    words = {
        word for cell in cells for word in re.findall(r"[A-Za-z]\w{2,40}", cell) if word.casefold() not in _PLAIN
    }
    return sorted(name for name in cells | words if is_field(name))


def traces_in(words, reports=None):
    """Return the kind and the words of every trace of a person in a file's words.

    Parameters
    ----------
    words : Words
    reports : dict of str to set, optional
        By the name of a set of reports, the rare runs of eight words (`report_words`).

    Returns
    -------
    list of (str, str)
    """
    found = [("record field", name) for name in (*filter(is_field, words.columns), *fields(words.data))]
    for patterns, texts in ((PATTERNS, words[:2]), (DATA_PATTERNS, [words.data])):
        for kind, pattern in patterns.items():
            found += [(kind, match[0].strip()) for text in texts for match in re.finditer(pattern, text)]
    if reports:
        runs = set(_runs(words.prose)) | set(_runs(words.data))
        found += [(f"report text of {name}", run) for name, known in reports.items() for run in sorted(runs & known)]
    return list(dict.fromkeys(found))
