"""Published label sets of chest radiographs: each read from its owner's table, on the shared vocabulary, with a card.

`read_release(name)` returns a `LabelSet`; `names()` lists the entries of `ENTRIES`, which are made of `cards.yaml`
and of the loading functions of the owners' modules. Most tables are in the torchxrayvision package, some in
`third_party/` of this repository; the others lie in `$CXR_DATA/labels` or `data/sources/labels`, where `cxr fetch`
puts them. Sets on the same pixels belong to one family, and none of a family is external to another of it
(`cxrlib.releases.pixels`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from cxrlib.base import label_tables
from cxrlib.releases import (
    cards,
    challenges,
    chexpert,
    google,
    nih,
    nih_readers,
    openi,
    owner_tables,
    padchest,
    pixels,
)


@dataclass(frozen=True)
class LabelSet:
    """A published label set.

    Attributes
    ----------
    name : str
    table : pandas.DataFrame
        `image_id` (with several readers an image also `reader_id`), unique, and float32 findings: 1 present,
        0 absent, -1 uncertain, NaN not assessed.
    images : pandas.DataFrame
        A row per image: `owner_tables.RELEASE_COLUMNS` as far as known, else NA; age in years as released. Google's
        sets also have `part`, the publisher's `val` or `test`.
    card : dict
        `label_tables.CARD_FIELDS`, and `pixels`, `images_n`, `readers_n` (0 where readers are not told apart),
        `counts`.
    notes : tuple of str
        What was dropped, merged or not mapped, with its number, a sentence each.
    """

    name: str
    table: pd.DataFrame
    images: pd.DataFrame
    card: dict
    notes: tuple


@dataclass(frozen=True)
class Entry:
    """Where a label set is and how it is read.

    Attributes
    ----------
    load : Callable[[], (table, images, notes)]
    card : dict
        `label_tables.CARD_FIELDS`.
    package : tuple of str
        Files of torchxrayvision's data folder that it needs.
    third_party : tuple of str
        Files below `third_party/` of this repository that it needs.
    labels : tuple of str
        Files below `labels/` of `$CXR_DATA` or `data/sources` that it needs.
    instead : tuple of str
        Files below `labels/` that do as well.
    readers : bool
        Whether there is a row per image and reader.
    doi, url : str or None
        Of the publication that describes it; they are no part of the card.
    """

    load: Callable
    card: dict
    package: tuple = ()
    third_party: tuple = ()
    labels: tuple = ()
    instead: tuple = ()
    readers: bool = False
    doi: str | None = None
    url: str | None = None


def names() -> tuple[str, ...]:
    """Return the names of the label sets, in order."""
    return tuple(ENTRIES)


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ValueError(f"There is no published label set {name!r}; there are {', '.join(ENTRIES)}.")
    return ENTRIES[name]


def available(name: str) -> bool:
    """Return whether all files of a label set are here, without reading them."""
    entry = _entry(name)
    if entry.instead and all(owner_tables.find_labels(path) for path in entry.instead):
        return True
    return all(owner_tables.find_labels(path) for path in entry.labels)


def where(name: str) -> str:
    """Return in a sentence where a label set's files are, or are to be put."""
    entry = _entry(name)
    said = []
    if entry.package:
        said.append(f"{', '.join(entry.package)} in the torchxrayvision package")
    if entry.third_party:
        said.append(f"{', '.join(entry.third_party)} in third_party/ of this repository")
    if entry.labels:
        said.append(
            f"{', '.join(entry.labels)} in $CXR_DATA/labels or data/sources/labels "
            f"(`cxr fetch {name}` fetches them or says where from)"
        )
    return "; ".join(said) + "."


def read_release(name: str) -> LabelSet:
    """Return a published label set, checked.

    Parameters
    ----------
    name : str
        A key of `ENTRIES`.

    Raises
    ------
    FileNotFoundError
        If a file of it is not here; the message says where to get it.
    ValueError
        If there is no such entry, or its file is not the published one: a column is missing, a class or value
        is unknown, an image occurs twice.
    """
    entry = _entry(name)
    if not available(name):
        raise FileNotFoundError(f"Label set {name!r} is not here: it needs {where(name)}")
    remedy = f"Remove that file and run `cxr fetch {name}`." if entry.labels else owner_tables.REINSTALL
    try:
        table, images, notes = entry.load()
        table = table.astype({c: "string" for c in ("image_id", "reader_id") if c in table})
        label_tables.check(table, f"label set {name!r}", entry.readers)
    except ValueError as error:
        raise ValueError(f"{error} {remedy}") from error
    card = {
        **entry.card,
        "pixels": pixels.PIXELS[name],
        "images_n": int(table["image_id"].nunique()),
        "readers_n": int(table["reader_id"].nunique()) if entry.readers else 0,
        "counts": label_tables.counts(table),
    }
    return LabelSet(name, table, images, card, tuple(notes))


_LOADERS = {
    **nih.LOADERS,
    **google.LOADERS,
    **challenges.LOADERS,
    **padchest.LOADERS,
    **chexpert.LOADERS,
    **openi.LOADERS,
    **nih_readers.LOADERS,
}


def _read_entries() -> dict[str, Entry]:
    """Return an `Entry` for every release of `cards.yaml`, in its order."""
    _, releases = cards.read_releases()
    for name in releases:
        if name not in _LOADERS:
            raise ValueError(f"cards.yaml, entry {name!r}: no module of cxrlib.releases lists it in its LOADERS.")
    return {
        name: Entry(  # type: ignore[call-arg]
            _LOADERS[name],  # type: ignore[arg-type]
            release["card"],
            *(tuple(release.get(files, ())) for files in ("package", "third_party", "labels", "instead")),  # type: ignore[arg-type]
            release.get("readers", False),
            release.get("doi"),
            release.get("url"),
        )
        for name, release in releases.items()
    }


ENTRIES = _read_entries()
