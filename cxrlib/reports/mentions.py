"""Which images a report names, and which earlier exams: so that an earlier image is not taken for one of this study.

"The effusion is best seen on the lateral view" is said of one image of the study, "image 2 of series 3" of another,
and "compared with the lateral view of 3 March 2014" of none. Shin et al. (CVPR 2015) found their key images by such
sentences.
"""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxrlib.reports import report_headers

_NOUN = r"(?:views?|projections?|radiographs?|films?|images?|x-?rays?|exposures?)"


_VIEW = re.compile(
    rf"""\b(?:(?P<v1>PA|AP|[Ff]rontal|[Ll]ateral|[Pp]ostero-?anterior|[Aa]ntero-?posterior)
    (?:\s*(?:and|&|/|,)\s*(?P<v2>PA|AP|[Ff]rontal|[Ll]ateral))?\s+(?:chest\s+)?{_NOUN}
    | (?:[Oo]n|[Ii]n)\s+(?:the\s+)?(?P<v3>PA|AP|[Ff]rontal|[Ll]ateral)(?=\s*(?:[.,;)]|$|there\b|the\b|only\b)))""",
    re.X,
)


_NUMBERS = r"\#?\s*\d{1,4}(?:\s*(?:,|and|&|-|–|to)\s*\d{1,4})*"


_NUMBERED = re.compile(
    rf"""\b(?:(?:series|se\.?)\s*(?:number|no\.?)?\s*\#?\s*(?P<s1>\d{{1,4}})\s*[,/:;]?\s*(?:and\s+)?)?
    (?:images?|im(?:g)?\.?|films?)\s*(?:numbers?|nos?\.?)?\s*(?P<n>{_NUMBERS})
    (?:\s*(?:,|\(|of|in|on)\s*(?:the\s+)?(?:series|se\.?)\s*(?:number|no\.?)?\s*\#?\s*(?P<s2>\d{{1,4}}))?(?![\d./-]\d)""",
    re.X | re.I,
)


_EARLIER = re.compile(
    r"\b(?:prior|previous|earlier|old|older|outside|preceding|last|comparison|original)\s+(?:[\w-]+\s+){0,2}$", re.I
)


_OF_EARLIER = re.compile(
    r"^\s*\(?(?:(?:obtained|taken|performed|acquired|dated|from|of|on)\s+)+(?:the\s+)?"
    r"(?:prior|previous|earlier|outside|comparison|(?:study|exam(?:ination)?|accession)\s+\D{0,12}\d)",
    re.I,
)


_PRIOR = re.compile(
    rf"""\b(?:prior|previous|earlier|comparison|compared\s+(?:with|to)|comparison:?|since)\b[^.\n]{{0,60}}?
    \b(?:stud(?:y|ies)|exam(?:ination)?s?|accession|radiographs?|reports?|films?|x-?rays?|ct|{_NOUN})\s*
    (?:number|no\.?|\#)?\s*\#?(?P<number>(?=(?:[\w-]*\d){{3}})[A-Z]{{0,6}}-?\d[\w-]*)""",
    re.I | re.X,
)


_COMPARISON = re.compile(r"^\W*comparisons?\W*:(?P<said>[^\n]*(?:\n(?![^\n]*:)[^\n]+)*)", re.I | re.M)


_COMPARED = re.compile(
    r"\b(?:prior|previous|earlier|compar\w+|since|unchanged from|changed from|as of|outside|dated)\b", re.I
)


_LEFT_OUT = re.compile(r"^\W*(?:comparisons?|exam\w*|technique|indications?|history|procedure)\W*:", re.I)


_HEADED = re.compile(r"^\W*(?:findings?|impressions?|conclusions?|addendum[ #\d]*)\W*:\s*", re.I)


_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(])|\n\s*\n|\n(?=\s*[A-Z][A-Za-z /]{2,30}:)")


_VIEWS = {
    "PA": ("PA", "POSTEROANTERIOR", "POSTERO-ANTERIOR"),
    "AP": ("AP", "ANTEROPOSTERIOR", "ANTERO-POSTERIOR"),
    "LATERAL": ("LL", "RL", "L", "LAT", "LATERAL", "LLAT", "RLAT"),
}


class Named(NamedTuple):
    """What a report names.

    Attributes
    ----------
    of_image : list of str
        For each image of the study the sentences that name it, one after the other, '' if none does.
    unresolved : list of (str, str)
        What is named and is not one of these images, and why.
    priors : list of (str or None, object)
        Accession or study number, and date (datetime64[D] or None), of earlier exams that the report names.
    """

    of_image: list
    unresolved: list
    priors: list


def view_of(position, description):
    """Return an image's view: `PA`, `AP`, `LATERAL`, or '' where neither its position nor its description says.

    Parameters
    ----------
    position, description : str or missing
        DICOM's `ViewPosition` and `SeriesDescription`.
    """
    said = "" if pd.isna(position) else str(position).strip().upper()
    for view, words in _VIEWS.items():
        if said in words:
            return view
    words = "" if pd.isna(description) else str(description).upper()
    found = [
        v for v in _VIEWS if re.search(rf"\b(?:{'|'.join(_VIEWS[v][1:] if v == 'LATERAL' else _VIEWS[v])})\b", words)
    ]
    return found[0] if len(found) == 1 and not said else ""


def sentences_of(text):
    """Return the sentences of a report that may speak of its images: none of comparison, technique and indication."""
    parts = [" ".join(part.split()) for part in _SENTENCE.split(text)]
    return [_HEADED.sub("", part) for part in parts if part and not _LEFT_OUT.match(part)]


def named(text, images, exam_date=None, date_order=None):
    """Return which sentences of a report name which image of its study, and which earlier exams it names.

    Parameters
    ----------
    text : str
    images : sequence of (str, int or None, int or None)
        Of each image of the study its view (`view_of`), series number and instance number.
    exam_date : datetime64[D] or None
        Of the study: what the report says of this date is no earlier exam.
    date_order : {"dmy", "mdy"} or None

    Returns
    -------
    Named
    """
    of_image, unresolved = [[] for _ in images], []
    for sentence in sentences_of(text) if _may_name(text) else ():
        hits = set()
        for what, found in _mentions(sentence, images, exam_date, date_order):
            if isinstance(found, str):
                unresolved.append((what, found))
            else:
                hits |= set(found)
        for k in hits:
            of_image[k].append(sentence)
    return Named([" ".join(each) for each in of_image], unresolved, _priors(text, exam_date, date_order))


def _may_name(text):
    return re.search(r"\b(?:view|projection|image|img|im|film|series|lateral|frontal|PA|AP)s?\b", text, re.I)


def _mentions(sentence, images, exam_date, order):
    """Yield what a sentence names, and the images' places or why there is none; earlier images are passed over."""
    for pattern, places in ((_VIEW, _of_view), (_NUMBERED, _of_number)):
        for match in pattern.finditer(sentence):
            prior = _of_prior(sentence, match, exam_date, order)
            if prior is None:
                yield match[0], "it is of a date whose day and month cannot be distinguished"
            elif not prior:
                yield from ((match[0], at) for at in places(match, images))


def _of_view(match, images):
    for word in filter(None, (match["v1"], match["v2"], match["v3"])):
        wanted = {"P": ("PA",), "A": ("AP",), "F": ("PA", "AP"), "L": ("LATERAL",)}[word[0].upper()]
        yield [k for k, (view, _, _) in enumerate(images) if view in wanted] or "the study has no such view"


def _of_number(match, images):
    series = match["s1"] or match["s2"]
    for number in _expanded(match["n"]):
        at = [k for k, (_, s, n) in enumerate(images) if n == number and (series is None or s == int(series))]
        many = "several images of the study have this number"
        yield (many if len(at) > 1 else at) or "the study has no image of this number"


def _expanded(numbers):
    """Return the numbers in a text such as `2`, `1 and 3` or `2-4`."""
    out = []
    for part in re.split(r"\s*(?:,|and|&)\s*", numbers):
        ends = [int(n) for n in re.findall(r"\d+", part)]
        out += range(ends[0], ends[-1] + 1) if len(ends) == 2 and 0 <= ends[1] - ends[0] < 100 else ends
    return out


def _of_prior(sentence, match, exam_date, order):
    """Return whether what is named is of an earlier exam, by the words before it, or the date or number after it.

    None where a date after it is ambiguous.
    """
    if _EARLIER.search(sentence[: match.start()]):
        return True
    after = sentence[match.end() :]
    compared = re.search(r"\bcompar\w+ (?:with|to) (?:the )?$", sentence[: match.start()], re.I)
    for start, _, date in report_headers.said_dates(after):
        if re.fullmatch(
            r"\W*(?:(?:obtained|taken|performed|acquired|dated|from|of|on|the)\W+)*", after[:start], re.I
        ):
            day = report_headers.as_day(date, order)
            return True if compared else None if np.isnat(day) else exam_date is None or bool(day != exam_date)
        break
    return bool(_OF_EARLIER.match(after))


def _priors(text, exam_date, order):
    """Return number and date of the earlier exams that a report names, each once, in their order."""
    places = [(m.start("said"), m.end("said"), True) for m in _COMPARISON.finditer(text)]
    start = 0
    for part in [*_SENTENCE.finditer(text), None]:
        end = part.start() if part else len(text)
        places.append((start, end, False))
        start = part.end() if part else end
    priors = []
    for start, end, section in places:
        said = text[start:end]
        if not section and not _COMPARED.search(said):
            continue
        numbers = [m["number"] for m in _PRIOR.finditer(f"comparison: {said}" if section else said)]
        days = [report_headers.as_day(date, order) for *_, date in report_headers.said_dates(said)]
        days = [day for day in days if not np.isnat(day) and (exam_date is None or day != exam_date)]
        dated = " ".join(said[a:b] for a, b, _ in report_headers.said_dates(said))
        priors += [(n, None) for n in numbers if n not in dated]
        priors += [(None, day) for day in days]
    return list(dict.fromkeys(priors))
