"""Tables from files that people made, and tables written where people say: or one sentence that says why not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cxrlib.base import csv_rows, whole_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def read_csv(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Return a CSV as text columns, or say in one sentence why it cannot be used.

    Blank lines are left out; the row with index k starts on line k + 2.

    Parameters
    ----------
    path : Path
    required : sequence of str
        Columns that must be there.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is empty, not UTF-8, not a table, has rows of other lengths than its header,
        no rows, a column twice, or lacks a column.
    """
    lines = csv_rows.look_through(path, required)
    try:
        table = pd.read_csv(
            path,
            dtype="string",
            encoding="utf-8-sig",
            skipinitialspace=True,
            skip_blank_lines=False,  # so that its rows are those that were looked through
            keep_default_na=False,
            na_values=[""],
        )
    except pd.errors.ParserError as error:
        raise ValueError(f"{path} is not a table: {str(error).strip()}.") from None
    table.index = pd.Index(lines) - 2
    table.columns = [str(c).strip() for c in table.columns]
    missing = [c for c in required if c not in table]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns)}.")
    table = table.dropna(how="all")
    if table.empty:
        raise ValueError(f"{path} has a header and no rows below it: export it anew.")
    return table


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a Parquet table, or say in one sentence why it cannot be used.

    Parameters
    ----------
    path : Path
    columns : sequence of str, optional
        Those to read; all if not given.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is no Parquet file or a damaged one, or it lacks a column.
    """
    try:
        with open(path, "rb") as file:
            schema = pq.read_schema(file)
        missing = [c for c in columns or () if c not in schema.names]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(schema.names)}.")
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:150].rstrip(". ")
        raise ValueError(f"{path} is not a Parquet file, or a damaged one ({said}): write it anew.") from None


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
