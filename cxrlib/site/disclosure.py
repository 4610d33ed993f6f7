"""What a page or table that is to be published must not hold: traces of a patient, report text, radiographs.

`scan` reads text, tables, notebooks and pictures, and says where what stands. It finds patterns, copied words and
copied pixels; it cannot tell that a sentence in other words, or a rare age, points to a person.
"""

import base64
import fnmatch
import gzip
import io
import json
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from cxrlib.cohorts import lookalikes
from cxrlib.releases import cards

# What a pattern finds: in every text, or only in what is exported as a table, since prose has dates of its own.
PATTERNS = {
    "email": r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b",
    "absolute path": r"(?<![\w:/.~>-])/(?:home|root|Users|mnt|media|scratch|gpfs|srv|tmp|work)/[\w.-]+"
    r"|\b[A-Z]:\\\\?Users\\",
    "DICOM UID": r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\w.])",
    "record number": r"(?i)\b(?:MRN|medical record (?:number|no\.?))[\s:#=]*[A-Z]{0,3}\d{5,}",
    "accession number": r"(?i)\baccession(?:[\s_]?(?:number|no\.?))?[\s:#=]+[A-Z]{0,3}\d{5,}",
    "name": r"\b(?:Dr|Prof|Mr|Mrs|Ms)\.? [A-Z][a-z]+|\b[A-Z][A-Za-z-]+\^[A-Z][A-Za-z-]+",
}
TABLE_PATTERNS = {
    "date": r"(?<![\w./-])(?:(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"|\d{1,2}[/.]\d{1,2}[/.](?:19|20)\d\d"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?![\w./-])",
}
_TABLES = (".csv", ".tsv", ".json", ".parquet")
_TEXTS = (".md", ".txt", ".html", ".yaml", ".yml", ".js", ".css", ".tex", ".bib", ".ipynb", ".svg", *_TABLES)
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_BASE64 = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,([A-Za-z0-9+/=\\n\s]+)")
_WORDED = ["object", "string", "category", "datetime"]  # columns of a Parquet table that are searched
_WORDS_N = 8  # words in a row that are taken for a copy of a report
_RARE_N = 2  # reports that may share such words; what more of them say is a phrase of the trade
_SIDE_PX = 32  # pixels: a part of a picture below this is a mark of a plot


class Disclosure(NamedTuple):
    """What stands where: a file, the kind of trace, and the text or picture."""

    file: str
    kind: str
    what: str


@dataclass(frozen=True)
class Known:
    """What must not be found: copied words of reports and copied pixels of radiographs.

    Attributes
    ----------
    reports : dict of str to dict
        By the name of a set of reports, the rare runs of eight words (`report_words`).
    radiographs : (n, 32) uint8 or None
        Difference hashes of real radiographs.
    pictures : callable or None
        Of a row of `radiographs` the pixels, (height, width) uint8.
    """

    reports: dict = field(default_factory=dict)
    radiographs: np.ndarray | None = None
    pictures: object = None


def _runs(text):
    words = re.findall(r"[^\W_]+", text.casefold())
    return [" ".join(words[i : i + _WORDS_N]) for i in range(len(words) - _WORDS_N + 1)]


def report_words(reports):
    """Return the runs of eight words that at most two reports share, a set of str.

    Parameters
    ----------
    reports : iterable of str
    """
    counted: Counter = Counter()
    for text in set(reports):
        counted.update(set(_runs(text)))
    return {run for run, n in counted.items() if n <= _RARE_N}


def _notebook(text):
    """Return the text of a notebook and its pictures."""
    texts, pictures = [], []
    for cell in json.loads(text)["cells"]:
        texts.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            texts.append("".join(output.get("text", "")))
            for kind, value in output.get("data", {}).items():
                value = (
                    value
                    if isinstance(value, str)
                    else "".join(value)
                    if isinstance(value, list)
                    else json.dumps(value)
                )
                if kind.startswith("image/") and "svg" not in kind:
                    pictures.append(base64.b64decode(value))
                else:
                    texts.append(value)
        pictures += [base64.b64decode(v) for a in cell.get("attachments", {}).values() for v in a.values()]
    return "\n".join(texts), pictures


def contents(path):
    """Return the text of a file and the pictures in it, as they are to be searched.

    Parameters
    ----------
    path : Path

    Returns
    -------
    text : str or None
        None of a file that holds none.
    pictures : list of bytes
    known : bool
        Whether the file is of a kind that is read at all.
    """
    name, content = path.name.lower(), path.read_bytes()
    if name.endswith(".gz"):
        name, content = name.removesuffix(".gz"), gzip.decompress(content)
    suffix = Path(name).suffix
    if content[128:132] == b"DICM" or suffix in _PICTURES:
        return None, [content], True
    if suffix == ".parquet":
        table = pd.read_parquet(io.BytesIO(content))
        words = [table[c].astype("string").dropna().unique() for c in table.select_dtypes(_WORDED)]
        return "\n".join("\n".join(column) for column in words), [], True
    if suffix not in _TEXTS:
        return None, [], False
    text, pictures = content.decode("utf-8", "replace"), []
    if suffix == ".ipynb":
        text, pictures = _notebook(text)
    for match in _BASE64.finditer(text):
        pictures.append(base64.b64decode(re.sub(r"\\n|\s", "", match[1]) + "=="))
    return _BASE64.sub("", text), pictures, True


def in_text(text, table, known=None):
    """Return the kind and the words of every trace of a person in a text.

    Parameters
    ----------
    text : str
    table : bool
        Whether it is an exported table, which has no dates of its own.
    known : Known, optional

    Returns
    -------
    list of (str, str)
    """
    patterns = PATTERNS | TABLE_PATTERNS if table else PATTERNS
    found = [(kind, match) for kind, pattern in patterns.items() for match in _all(pattern, text)]
    if known and known.reports:
        runs = set(_runs(text))
        found += [
            (f"report text of {name}", run) for name, words in known.reports.items() for run in sorted(runs & words)
        ]
    return found


def _all(pattern, text):
    return dict.fromkeys(match[0] for match in re.finditer(pattern, text))


def panels(picture):
    """Return the parts of a picture that look photographic: grey, and of many levels.

    Parameters
    ----------
    picture : PIL.Image.Image

    Returns
    -------
    list of (height, width) uint8
        Plots have none, since their areas are of one colour each.
    """
    red, green, blue = (np.asarray(band) for band in picture.convert("RGBA").convert("RGB").split())
    least, most = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    whole = np.asarray(picture.convert("L"))
    grey = (most - least <= 12) & (whole < 250)
    if grey.sum() < _SIDE_PX**2 / 2:
        return []
    smooth = ndimage.binary_opening(grey, np.ones((5, 5)))  # without lines and letters
    labels, _ = ndimage.label(smooth)
    out = []
    for place in ndimage.find_objects(labels):
        part = whole[place]
        if min(part.shape) >= _SIDE_PX and smooth[place].mean() > 0.7:
            share = np.bincount(part.ravel(), minlength=256) / part.size
            if (share > 0.0005).sum() > 48 and share.max() < 0.6:
                out.append(np.ascontiguousarray(part))
    return out


def in_picture(content, known=None):
    """Return the kind and a description of every photographic part of a picture.

    Parameters
    ----------
    content : bytes
        Of a PNG, JPEG, GIF or DICOM file.
    known : Known, optional

    Returns
    -------
    list of (str, str)
        `radiograph` where a part is one of the known radiographs, `picture` where it is photographic.
    """
    if content[128:132] == b"DICM":
        return [("DICOM file", "an image with its header")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content))
            picture.load()
    except Exception as error:  # on damaged files Pillow raises far more than OSError
        return [("unreadable picture", type(error).__name__)]
    found = []
    for part in panels(picture):
        row = _radiograph(part, known)
        if row is not None:
            found.append(("radiograph", f"{part.shape[1]} x {part.shape[0]} pixels, number {row} of those known"))
        else:
            found.append(("picture", f"{part.shape[1]} x {part.shape[0]} pixels of grey levels"))
    return found


def _radiograph(part, known):
    """Return the number of the known radiograph that a panel shows, or None."""
    if known is None or known.radiographs is None:
        return None
    for mirrored in (False, True):
        seen = np.ascontiguousarray(part[:, ::-1]) if mirrored else part
        for probe in (seen, lookalikes.inner(seen)):
            near = lookalikes.near_hashes(lookalikes.difference_hash(probe)[None], known.radiographs)
            for row in near.sort_values("distance")["second"].head(5):
                if lookalikes.overlay_correlation(seen, known.pictures(row)) >= lookalikes.MIN_CORRELATION:
                    return int(row)
    return None


def read_allowed(path):
    """Return what may stand where, from a YAML file: `name: {files, kinds, text, reason}`.

    Parameters
    ----------
    path : Path
        `files` and `kinds` are lists of patterns as of a shell, `text` is a regular expression of the whole finding
        (any, if it is left out), and `reason` says why this is nobody's trace.

    Raises
    ------
    ValueError
        If an entry lacks something, or `text` is no regular expression.
    """
    entries = cards.read_entries(path)
    for name, entry in entries.items():
        where = f"{path}, entry {name!r}"
        cards.check_fields(entry, ("files", "kinds", "reason"), ("text",), where)
        cards.check_texts(entry, ("reason", "text"), where)
        try:
            re.compile(entry.get("text", ""))
        except re.error as error:
            raise ValueError(f"{where}: text is no regular expression ({error}).") from None
        if "radiograph" in entry["kinds"]:
            raise ValueError(f"{where}: a radiograph of a known set is not to be allowed; take it out.")
    return entries


def _is_allowed(one, allowed):
    return any(
        any(fnmatch.fnmatch(one.file, pattern) for pattern in entry["files"])
        and any(fnmatch.fnmatch(one.kind, pattern) for pattern in entry["kinds"])
        and re.fullmatch(entry.get("text", ".*"), one.what, re.DOTALL)
        for entry in allowed.values()
    )


def scan(root, files, known=None, allowed=None):
    """Return what must not be published, and which files could not be read.

    Parameters
    ----------
    root : Path
    files : iterable of Path
        Below it.
    known : Known, optional
    allowed : dict, optional
        Of `read_allowed`.

    Returns
    -------
    found : list of Disclosure
    unread : list of str
        Files of other kinds, such as weights.
    """
    found, unread = [], []
    for path in sorted(files):
        name = path.relative_to(root).as_posix()
        text, pictures, read = contents(path)
        if not read:
            unread.append(name)
            continue
        here = [] if text is None else in_text(text, name.removesuffix(".gz").endswith(_TABLES), known)
        here += [one for picture in pictures for one in in_picture(picture, known)]
        found += [Disclosure(name, kind, what) for kind, what in dict.fromkeys(here)]
    return [one for one in found if not _is_allowed(one, allowed or {})], unread
