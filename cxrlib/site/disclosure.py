"""What a page or table that is to be published must not hold: traces of a patient, report text, radiographs.

`scan` reads text, tables, notebooks, arrays and pictures; it says where what stands, and what it could not read. It
finds patterns, copied words and copied pixels; it cannot tell that a sentence in other words, or a rare age, points
to a person.
"""

import base64
import fnmatch
import gzip
import io
import json
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from cxrlib.releases import cards
from cxrlib.site import photographs, traces

# Text that is written as sentences or code: its dates are those of publications, software and examples.
_PROSE = (
    *(".md", ".rst", ".tex", ".bib", ".cff", ".py", ".pyi", ".sh", ".css", ".toml", ".cfg", ".ini", ".lock"),
    *(".yaml", ".yml"),
)
_DATA = (".csv", ".tsv", ".txt", ".json", ".html", ".js", ".svg", ".xml")  # known as text, in whatever encoding
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_ARRAYS = (".npy", ".npz", ".safetensors")
_BASE64 = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,([A-Za-z0-9+/=\\n\s]+)")
_NEVER = "radiograph"  # the kind of finding that no entry allows
UNREAD = "unread file"


class Disclosure(NamedTuple):
    """What stands where: a file, the kind of trace, and the text or picture."""

    file: str
    kind: str
    what: str


class Contents(NamedTuple):
    """What a file holds that is to be searched, and what was found in reading it, as pairs of kind and words."""

    words: traces.Words = traces.Words()
    pictures: tuple = ()
    found: tuple = ()


@dataclass(frozen=True)
class Known:
    """What must not be found: copied words of reports and copied pixels of radiographs.

    Attributes
    ----------
    reports : dict of str to set
        By the name of a set of reports, the rare runs of eight words (`traces.report_words`).
    radiographs : (n, 32) uint8 or None
        Difference hashes of real radiographs.
    pictures : callable or None
        Of a row of `radiographs` the pixels, (height, width) uint8.
    """

    reports: dict = field(default_factory=dict)
    radiographs: np.ndarray | None = None
    pictures: object = None


def _notebook(text):
    """Return the words of a notebook (its cells are prose, what they show is not) and its pictures."""
    notebook = json.loads(text)
    cells, shown, pictures = [], [json.dumps(notebook.get("metadata", {}))], []
    for cell in notebook["cells"]:
        cells.append("".join(cell["source"]))
        shown.append(json.dumps(cell.get("metadata", {})))
        for output in cell.get("outputs", []):
            shown += ["".join(output.get("text", "")), "\n".join(output.get("traceback", []))]
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
                    shown.append(value)
        pictures += [base64.b64decode(v) for a in cell.get("attachments", {}).values() for v in a.values()]
    return "\n".join(cells), "\n".join(shown), pictures


def _numbers_as_dates(values):
    """Return the whole numbers of an array that may be a day or a moment as DICOM writes it, as text."""
    values = np.asarray(values, np.float64)
    likely = np.isfinite(values) & (values == np.floor(values))
    likely &= np.any([(values >= 19e6 * scale) & (values < 21e6 * scale) for scale in (1, 1e4, 1e6)], axis=0)
    return [str(int(value)) for value in np.unique(values[likely])]


def _parquet(content):
    """Return the names of a Parquet table's columns, all its words and dates, and its columns of bytes."""
    stored = pyarrow.parquet.read_table(io.BytesIO(content))
    found = [("binary column", f.name) for f in stored.schema if "binary" in str(f.type)]
    words = []
    for column, kind in zip(stored.columns, stored.schema.types, strict=True):
        if pyarrow.types.is_boolean(kind) or "binary" in str(kind):
            continue
        if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
            words += _numbers_as_dates(column.to_numpy())
        else:
            values = column.to_pandas()
            values = values if pyarrow.types.is_nested(kind) else pd.Series(values.dropna().unique())
            words += values.astype(str).unique().tolist()
    return Contents(traces.Words(data="\n".join(words), columns=tuple(stored.column_names)), (), tuple(found))


def _looks_like_images(kind, shape):
    """Return whether an array may be one image or many: bytes in two large dimensions, or any numbers in more."""
    sides = [side for side in shape if side >= photographs.SIDE_PX]
    rest = shape[-2:] if len(shape) < 3 or shape[-1] > 4 else shape[-3:-1]
    return (len(sides) >= 2 and kind in ("uint8", "uint16", "int16")) or (
        len(shape) >= 3 and min(rest) >= photographs.SIDE_PX
    )


def _arrays(name, content):
    """Return the words of arrays, and which of them may be images; None if they cannot be opened."""
    if name.endswith(".safetensors"):
        size = int.from_bytes(content[:8], "little")
        try:
            header = json.loads(content[8 : 8 + size])
        except ValueError:
            return None
        told = header.pop("__metadata__", {})
        kinds = {"U8": "uint8", "U16": "uint16", "I16": "int16"}
        described = {key: (kinds.get(one["dtype"], one["dtype"]), one["shape"]) for key, one in header.items()}
        words = [*header, *(f"{key}: {value}" for key, value in told.items())]
    else:
        try:
            opened = np.load(io.BytesIO(content), allow_pickle=False)
            arrays = dict(opened) if name.endswith(".npz") else {"array": opened}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile):  # objects among them, or damaged
            return None
        described = {key: (str(one.dtype), one.shape) for key, one in arrays.items()}
        words = [key for key in arrays if name.endswith(".npz")]
        for one in arrays.values():
            whole = one.dtype.kind in "iuf" and one.dtype.itemsize >= 4
            words += (
                _numbers_as_dates(one) if whole else [str(value) for value in one.ravel()] * (one.dtype.kind in "SUM")
            )
    found = [
        ("array like an image", f"{key}: {' x '.join(map(str, shape))} {kind}")
        for key, (kind, shape) in described.items()
        if _looks_like_images(kind, shape)
    ]
    return Contents(traces.Words(data="\n".join(words)), (), tuple(found))


def _text(suffix, content):
    """Return the text of a file, or None if it is none."""
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace") if suffix in (*_PROSE, *_DATA) else None


def _opened(name, content):
    if name.endswith(".gz"):
        name, content = name.removesuffix(".gz"), gzip.decompress(content)
    suffix = Path(name).suffix
    if content[128:132] == b"DICM" or suffix in _PICTURES:
        return Contents(pictures=(content,))
    if suffix == ".parquet":
        return _parquet(content)
    if suffix in _ARRAYS:
        return _arrays(name, content)
    text = _text(suffix, content)
    if text is None:
        return None
    pictures = []
    if suffix == ".ipynb":
        prose, data, pictures = _notebook(text)
    else:
        prose, data = (text, "") if suffix in _PROSE else ("", text)
    for match in _BASE64.finditer(prose + data):
        pictures.append(base64.b64decode(re.sub(r"\\n|\s", "", match[1]) + "=="))
    return Contents(traces.Words(_BASE64.sub("", prose), _BASE64.sub("", data)), tuple(pictures))


def contents(path):
    """Return what a file holds that is to be searched, `Contents`; None if it is damaged, or of a kind not read.

    Parameters
    ----------
    path : Path
    """
    try:
        return _opened(path.name.lower(), path.read_bytes())
    except (ValueError, KeyError, TypeError, EOFError, gzip.BadGzipFile, zlib.error):  # a damaged table or notebook
        return None


def _texts(entry, key, where):
    if not isinstance(entry[key], list) or not all(isinstance(one, str) for one in entry[key]):
        raise ValueError(f"{where}: {key!r} is {entry[key]!r}; write a list of patterns, as [{key[:-1]}].")


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
        for key in ("files", "kinds"):
            _texts(entry, key, where)
        try:
            re.compile(entry.get("text", ""))
        except re.error as error:
            raise ValueError(f"{where}: text is no regular expression ({error}).") from None
        if any(fnmatch.fnmatch(_NEVER, pattern) for pattern in entry["kinds"]):
            raise ValueError(f"{where}: a radiograph of a known set is not to be allowed; take it out.")
    return entries


def _is_allowed(one, allowed):
    return one.kind != _NEVER and any(
        any(fnmatch.fnmatch(one.file, pattern) for pattern in entry["files"])
        and any(fnmatch.fnmatch(one.kind, pattern) for pattern in entry["kinds"])
        and re.fullmatch(entry.get("text", ".*"), one.what, re.DOTALL)
        for entry in allowed.values()
    )


def scan(root, files, known=None, allowed=None):
    """Return what must not be published, a list of `Disclosure`; a file that cannot be read is one as well.

    Parameters
    ----------
    root : Path
    files : iterable of Path
        Below it; their names are searched as well.
    known : Known, optional
    allowed : dict, optional
        Of `read_allowed`.
    """
    found = []
    for path in sorted(files):
        name = path.relative_to(root).as_posix()
        here, held = traces.traces_in(traces.Words(data=name)), contents(path)
        if held is None:
            here.append((UNREAD, f"damaged, or of a kind that is not read ({path.suffix or 'no ending'})"))
        else:
            here += [*held.found, *traces.traces_in(held.words, known.reports if known else None)]
            here += [one for picture in held.pictures for one in photographs.in_picture(picture, known)]
        found += [Disclosure(name, kind, what) for kind, what in dict.fromkeys(here)]
    return [one for one in found if not _is_allowed(one, allowed or {})]
