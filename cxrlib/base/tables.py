"""Tables from files that people made, and tables written where people say: or one sentence that says why not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pandas as pd

from cxrlib.base import whole_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def read_csv(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Return a CSV as text columns, or say in one sentence why it cannot be used.

    Blank lines are left out; the row with index k stands on line k + 2.

    Parameters
    ----------
    path : Path
    required : sequence of str
        Columns that must be there.

    Raises
    ------
    ValueError
        If the file is empty, not UTF-8, not a table, or lacks a column.
    """
    try:
        table = pd.read_csv(
            path,
            dtype="string",
            encoding="utf-8-sig",
            skipinitialspace=True,
            skip_blank_lines=False,  # so that a row's index tells its line
            keep_default_na=False,
            na_values=[""],
        )
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except pd.errors.EmptyDataError:
        raise ValueError(
            f"{path} is empty: it needs a header with {', '.join(required) or 'the names of its columns'}."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8.") from None
    except pd.errors.ParserError as error:
        raise ValueError(f"{path} is not a table: {str(error).strip()}.") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(f"{path}: its rows have more fields than its header; remove commas at the ends of lines.")
    table.columns = [str(c).strip() for c in table.columns]
    missing = [c for c in required if c not in table]
    if missing:
        hint = " Separate columns by commas." if len(table.columns) == 1 else ""
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns)}.{hint}")
    if table.columns.duplicated().any():
        raise ValueError(f"{path} has the column {table.columns[table.columns.duplicated()][0]!r} twice.")
    return table.dropna(how="all")


def as_text(path: Path) -> str:
    """Return a path as text that can be printed and written, whatever bytes it holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def make_folder(out: Path) -> None:
    """Make the folder that a command writes into (`--out`).

    Raises
    ------
    OSError
        If it cannot be made, in one sentence.
    """
    if out.is_file():
        raise NotADirectoryError(f"{as_text(out)} is a file: name a folder by --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{as_text(out)} cannot be made ({error.strerror}): name another folder by --out.") from None


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV.

    Raises
    ------
    OSError
        If it cannot be written, in one sentence.
    """
    try:
        with whole_files.replacing(path) as new:
            table.to_csv(new, index=False)
    except whole_files.UnwrittenError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{as_text(path)} cannot be written ({reason}): name another folder by --out.") from None
