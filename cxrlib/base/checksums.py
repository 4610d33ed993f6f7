"""What files were when they were written, size and SHA-256, and whether they still are.

A size is looked at every time. Where there is a `memory`, bytes are hashed once in each state of a file: what was
found is kept in it with the file's size, times and number on the disk, and holds until one of these changes. The time
of the last change of a file (`ctime`) cannot be set by a program, unlike that of its content (`mtime`), so that no
byte is written unseen. A medium that turns a byte by itself changes no time: `anew` hashes everything.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from cxrlib.base import records, whole_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any

NAME = "checksums.json"  # of the file that says them, in the folder that it is of


def of_files(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of files in a folder: `{name: {"bytes": int, "sha256": str}}`."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": records.sha256(folder / name)} for name in names
    }


def seal(folder: Path) -> None:
    """Write down what all files of a folder are, in `checksums.json` in it."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != NAME)
    whole_files.write_text(folder / NAME, json.dumps(of_files(folder, names), indent=1) + "\n")


def sealed(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what `seal` wrote; empty if the folder has none, as what was made by earlier versions of the project.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    try:
        told = json.loads((folder / NAME).read_text(encoding="utf-8"))
        for entry in told.values():
            int(entry["bytes"]), str(entry["sha256"])
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{folder / NAME} is damaged") from None
    return dict(told)


def problem(
    folder: Path, told: Mapping[str, Mapping[str, Any]], memory: Path | None = None, *, anew: bool = False
) -> str | None:
    """Return what is wrong with the first file that is not as it was written, without a full stop; None if all are.

    Parameters
    ----------
    folder : Path
    told : Mapping
        As `of_files` returns it.
    memory : Path, optional
        File in which the states that were hashed are kept, outside the folder; without it, bytes are always hashed.
    anew : bool
        Whether bytes are hashed although nothing about the file has changed since they last were.
    """
    known = {} if anew or memory is None else _remembered(memory)
    seen = {}
    for name, entry in told.items():
        path = folder / name
        try:
            state = _state(path)
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
        if state[0] != entry["bytes"]:
            return f"{path} has {state[0]:,} bytes, not the {entry['bytes']:,} that were written"
        if known.get(name) != [*state, entry["sha256"]] and records.sha256(path) != entry["sha256"]:
            return f"{path} has other bytes than were written (its SHA-256 differs)"
        seen[name] = [*state, entry["sha256"]]
    if memory is not None and seen != known:
        with contextlib.suppress(OSError):  # where nothing can be kept, it is hashed each time
            whole_files.write_text(memory, json.dumps(seen))
    return None


def remedy(folder: Path, again: str) -> str:
    """Return how to get a damaged folder of the pipeline back, after a colon.

    Parameters
    ----------
    folder : Path
    again : str
        What `make repro` does where there is no copy, such as *trains it*.
    """
    return (
        f"remove {folder}, then `dvc checkout {folder}` or `cxr pull` gets it again, and `make repro` {again} again "
        "where there is no copy."
    )


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _remembered(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
