"""Lines and rows of a CSV, looked through before they are used.

What is wrong is said with its line, and no line of any file takes more memory than `FIELD_MOST` characters.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import IO, Any

FIELD_MOST = 1 << 24  # characters of a line, and of a cell that runs over several lines


_TABLE_MOST = 1 << 31  # characters of a table that is held in memory as a whole, unpacked


_MAGIC = {
    b"PAR1": "a Parquet file: let its name end in .parquet, or save it as CSV UTF-8",
    b"PK\3\4": "an Excel workbook or a zip archive: save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save it as CSV UTF-8",
    b"\x1f\x8b": "compressed by gzip: let its name end in .csv.gz",
}


_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "'|'"}


class Lines:
    """The lines of a CSV as its reader takes them, and where a quote that is still open was opened.

    Parameters
    ----------
    file : text file
        Opened with `newline=""`.

    Attributes
    ----------
    number : int
        Of the last line taken.
    characters_n : int
        Of all lines taken.
    too_long : bool
        Whether the last line is longer than `FIELD_MOST`; then only as much of it was read.
    open_before : int or None
        The line with the quote that was open before the last line, or before the end.

    Raises
    ------
    csv.Error
        At a line of more than `FIELD_MOST` characters, of which no more are read.
    """

    def __init__(self, file: IO[str]) -> None:
        csv.field_size_limit(FIELD_MOST)  # the module's own, 131,072 characters, refuses long reports
        self.file, self.number, self.characters_n = file, 0, 0
        self.too_long = self._cut = False
        self.open_before: int | None = None
        self._open: int | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.open_before = self._open
        while self._cut:  # the rest of a line that was too long
            rest = self.file.readline(FIELD_MOST)
            self._cut = bool(rest) and not rest.endswith(("\n", "\r"))
        line = self.file.readline(FIELD_MOST + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.characters_n += len(line)
        self.too_long = len(line) > FIELD_MOST
        if self.too_long:
            self._cut = not line.endswith(("\n", "\r"))
            raise csv.Error(f"line {self.number} is longer than {FIELD_MOST:,} characters")
        if '"' in line:
            quotes = line.replace('""', "").count('"')
            if quotes % 2:
                self._open = self.number if self._open is None else None
            elif quotes and self._open is not None:  # closed, and another one opened
                self._open = self.number
        return line

    def new_row(self) -> None:
        """Forget open quotes, as the reader does at the start of a row."""
        self.open_before = self._open = None


def decoded(text: str) -> bool:
    """Return whether a text that was read with `surrogateescape` was decoded whole."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def look_through(path: Path, required: Sequence[str] = ()) -> list[int]:
    """Return the line on which each row of a CSV starts, blank rows among them, or say what is wrong with the first.

    Parameters
    ----------
    path : Path
        UTF-8, comma-separated, with a header; `.gz`, `.bz2` and `.xz` are unpacked on the way.
    required : sequence of str
        Columns that an empty file is said to need.

    Raises
    ------
    FileNotFoundError, ValueError
        In one sentence that names the file, the line and the remedy.
    """
    try:
        opened = _OPENERS.get(path.suffix.lower(), open)
        with opened(path, "rb") as file:
            _check_magic(path, file.read(4), required)
        with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return _starts(path, Lines(file), required)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: name the table in it.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise ValueError(f"{path} is damaged or cut off ({error}): copy it anew.") from None


def _check_magic(path: Path, start: bytes, required: Sequence[str]) -> None:
    if not start:
        raise ValueError(_empty(path, required))
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise ValueError(f"{path} is not CSV but {what}.")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path} is not UTF-8 text but UTF-16: save it as CSV UTF-8.")


def _empty(path: Path, required: Sequence[str]) -> str:
    return f"{path} is empty: it needs a header with {', '.join(required) or 'the names of its columns'}."


def _starts(path: Path, lines: Lines, required: Sequence[str]) -> list[int]:
    rows = csv.reader(_checked(path, lines), strict=True, skipinitialspace=True)
    header: list[str] | None = None
    found: list[int] = []
    while True:
        lines.new_row()
        start = lines.number + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise ValueError(_not_csv(path, lines, start, error)) from None
        if row is None:
            break
        if header is None:
            if not any(row):
                raise ValueError(_empty(path, required))
            header = _header(path, row)
            continue
        if len(row) != len(header) and (len(row) > 1 or any(row)):
            raise ValueError(_ragged(path, start, lines.number, len(row), len(header)))
        found.append(start)
    return found


def _checked(path: Path, lines: Lines) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise ValueError(f"{path} line {lines.number} has null bytes, which text has not: save it as CSV UTF-8.")
        if not decoded(line):
            raise ValueError(f"{path} is not UTF-8 text (line {lines.number}): save it as CSV UTF-8.")
        if lines.characters_n > _TABLE_MOST:
            raise ValueError(f"{path} has more than {_TABLE_MOST:,} characters: take the rows that are needed.")
        yield line


def _header(path: Path, row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    twice = [name for k, name in enumerate(names) if name and name in names[:k]]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]!r} twice: rename or remove one.")
    other = next((c for c in _SEPARATORS if c in names[0]), None)
    if len(names) == 1 and other:
        raise ValueError(f"{path} has cells that are separated by {_SEPARATORS[other]}: separate them by commas.")
    strange = [name for name in names if any(c < " " or c == "\x7f" for c in name)]
    if strange:
        raise ValueError(
            f"{path} has a column named {strange[0][:80]!r}, with control characters: save it as CSV UTF-8."
        )
    return names


def _ragged(path: Path, start: int, end: int, fields_n: int, header_n: int) -> str:
    where = f"{path} line {start}" if end == start else f"{path} lines {start} to {end}"
    if fields_n > header_n:
        return (
            f"{where}: {fields_n} fields, more fields than its header, which has {header_n}: put cells with commas "
            "in quotes (decimals take a point), and remove commas at the ends of lines."
        )
    return (
        f"{where}: {fields_n} fields, fewer than its header, which has {header_n}: write the commas of empty cells."
    )


def _not_csv(path: Path, lines: Lines, start: int, error: Exception) -> str:
    if lines.too_long:
        return f"{path} {error}, more than a row of a table has: save it as CSV UTF-8 with a row a line."
    if lines.open_before is not None:
        return (
            f"{path} line {lines.open_before} opens a quote that is not closed up to line {lines.number}: close it, "
            "or write a quote inside a cell twice."
        )
    return f"{path} line {start} is not CSV ({error}): put such a cell in quotes, and write a quote inside it twice."
