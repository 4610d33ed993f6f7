"""What stages are about to read is as it was written: looked at before the first of them runs.

DVC takes a file that has its size, times and number on the disk for the file that it knows, so that a byte that a
failing medium turned would be read in silence. Here the runs and the packed cohorts that stages to be run will read
are hashed. What is itself to be made anew is left out: its own notebook looks at it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxrlib.base import checksums, paths

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

_MOST_BYTES = 2 << 30  # of a cohort that is hashed: a few seconds


@dataclass(frozen=True)
class Files:
    """What a stage reads and makes.

    Attributes
    ----------
    reads : set of str
        Paths below the root.
    makes : dict of str to Path or None
        Each output, with the object of DVC's cache that lists its files; None of a file, or if there is none yet.
    """

    reads: set[str]
    makes: dict[str, Path | None]


def check_inputs(todo: Collection[str], stages: Mapping[str, Files]) -> None:
    """Raise a ValueError that names the file if what stages to be run will read is not as it was written.

    Parameters
    ----------
    todo : collection of str
        The stages that will run.
    stages : Mapping of str to Files
        Every stage of the pipeline.
    """
    reads = set().union(*(stages[stage].reads for stage in todo))
    for stage, files in stages.items():
        kind = stage.partition("@")[0]
        if stage in todo or kind not in ("train", "cohort"):
            continue
        for made, listing in files.makes.items():
            folder = paths.ROOT / made
            if not folder.is_dir() or not any(_meet(made, read) for read in reads):
                continue
            if kind == "cohort":
                _check_store(folder)
            else:
                for run in sorted(path for path in folder.iterdir() if (path / "run.json").exists()):
                    _check_run(run, _listed(listing).get(f"{run.name}/run.json"))


def _meet(one: str, other: str) -> bool:
    """Return whether two paths are the same, or one lies in the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _check_store(folder: Path) -> None:
    from cxrlib.cohorts.store import check_store  # brings pandas along

    try:
        size = sum(entry["bytes"] for entry in checksums.sealed(folder).values())
    except ValueError:
        size = 0  # `check_store` says it
    if size <= _MOST_BYTES:
        check_store(folder, anew=True)


def _check_run(folder: Path, md5: str | None) -> None:
    """Raise a ValueError if a file of a run is not what its record says, or the record not what DVC knows."""
    record = folder / "run.json"
    if problem := next(_problems(folder, record, md5), None):
        raise ValueError(f"{problem}: {checksums.remedy(folder, 'trains it')}")


def _problems(folder: Path, record: Path, md5: str | None) -> Iterator[str]:
    content = record.read_bytes()
    if md5 and hashlib.md5(content).hexdigest() != md5:
        yield f"{record} has other bytes than were written (its MD5 differs)"
    try:
        told = json.loads(content).get("files", {})
        wrong = checksums.problem(folder, told)
    except (ValueError, AttributeError, TypeError, KeyError):
        wrong = f"{record} is damaged"
    if wrong:
        yield wrong


def _listed(listing: Path | None) -> dict[str, str]:
    """Return the MD5 of each file of a folder, as DVC's cache lists it; empty without a whole list."""
    try:
        content = listing.read_bytes() if listing else b""
    except OSError:
        return {}
    if not listing or hashlib.md5(content).hexdigest() != f"{listing.parent.name}{listing.stem}":
        return {}
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}
