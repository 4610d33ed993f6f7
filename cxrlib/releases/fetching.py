"""Fetch the label tables that are in no package: `cxr fetch [NAME ...]`, with `--list` to only look.

A NAME is an entry of `cxrlib.releases.catalogue`, or `chexpert_test_models`, `nih_networks` or `openi_network`, which
are what published networks say; without one, all are meant. Files go to `$CXR_DATA/labels` (`predictions/...` beside
it), or `data/sources/labels` where that variable is not set. Each has a pinned SHA-256. What its
owner gives only by hand is not fetched: the command says from where, and where to put it. The exit status is 0
if all tables that were named are there in the end.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
import requests

from cxrlib.base import paths
from cxrlib.releases import cards, catalogue, chexpert, downloads, owner_tables, predictions


@dataclass(frozen=True)
class File:
    """Where a table comes from.

    Attributes
    ----------
    address : str or None
        Of exactly this file; None if only a person can get it.
    sha256 : str or None
        None if the owner's file is another than the one that this project was tested with.
    by_hand : str
        What a person has to do, where there is no address.
    """

    address: str | None
    sha256: str | None
    by_hand: str = ""


_ADDRESSES = Path(__file__).with_name("addresses.yaml")


def read_addresses(path=_ADDRESSES):
    """Return a `File` for every table of `addresses.yaml`, by its path below `labels/`.

    Raises
    ------
    ValueError
        In one sentence that names file and entry, if a key is unknown, a SHA-256 is not 64 hexadecimal digits, or
        the entry does not say how to get the table.
    """
    files = {}
    for name, entry in cards.read_entries(path).items():
        where = f"{path}, entry {name!r}"
        cards.check_fields(entry, (), ("address", "sha256", "by_hand"), where)
        cards.check_texts(entry, ("address", "by_hand"), where)
        address, sha256, by_hand = entry.get("address"), entry.get("sha256"), entry.get("by_hand", "")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{where}: a table's path stays below labels/; write it without '..' and leading '/'.")
        if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)):
            raise ValueError(f"{where}: 'sha256' is {sha256!r}; write 64 hexadecimal digits between quotes.")
        if bool(address) == bool(by_hand):
            raise ValueError(f"{where} needs either 'address' or 'by_hand', and not both.")
        if address and sha256 is None:
            raise ValueError(f"{where} has an 'address' and lacks 'sha256', without which nothing is fetched.")
        files[name] = File(address, sha256, by_hand)
    return files


FILES = read_addresses()


# The tables that a name of the command line means: the label files of a release, or what the models said.
WANTED = {
    **{name: entry.labels for name, entry in catalogue.ENTRIES.items() if entry.labels},
    "chexpert_test_models": chexpert.CHEXPERT_MODEL_FILES,
    "nih_networks": tuple(predictions.SEED_FILES.values()),
    "openi_network": (predictions.OPENI_FILE,),
}


# Terms of what is no label set.
_CARDS = {
    "chexpert_test_models": catalogue.ENTRIES["chexpert_test_majority"].card,
    "nih_networks": {
        "licence": "none stated",
        "citation": "Seyyed-Kalantari L et al. Nat Med 2021;27:2176",
        "source": "LalehSeyyed/Underdiagnosis_NatMed",
    },
    "openi_network": {
        "licence": "none stated",
        "citation": "the repository",
        "source": "zBabar/The-Impact-of-Diagnostic-Features",
    },
}


# Tables that do as well as another.
_INSTEAD = {path: entry.instead for entry in catalogue.ENTRIES.values() for path in entry.labels}


def _tables_folder():
    """Return where tables are put: `$CXR_DATA/labels`, or `data/sources/labels` below the root."""
    data = os.environ.get("CXR_DATA")
    return (Path(data).expanduser() if data else paths.sources_dir()) / "labels"


def _place(path):
    """Return where a table is put: below the folder of labels, or, what networks say, beside it."""
    folder = _tables_folder()
    return folder.parent / path if path.startswith("predictions/") else folder / path


def _found(path):
    """Return where a table is, or None."""
    return (owner_tables.find_file if path.startswith("predictions/") else owner_tables.find_labels)(path)


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def state(path):
    """Return whether a table is `here`, `missing`, or `differs` from the pinned one.

    Parameters
    ----------
    path : str
        A key of `FILES`.
    """
    found = _found(path)
    for other in _INSTEAD.get(path, ()):
        found = found or owner_tables.find_labels(other)
    if found is None:
        return "missing"
    pinned = FILES[path].sha256
    return "here" if pinned is None or _sha256(found) == pinned else "differs"


def _by_hand(path):
    file = FILES[path]
    pinned = f" (SHA-256 {file.sha256})" if file.sha256 else ""
    return f"{file.by_hand}, and put it into {_place(path).parent}{pinned}"


def get(path, unreachable):
    """Fetch one table if it can be fetched.

    Parameters
    ----------
    path : str
        A key of `FILES`, of a table that is missing.
    unreachable : set of str
        Hosts that did not answer; they are not asked again, and this call may add one.

    Returns
    -------
    str or None
        Why it is still missing, in a sentence; None if it is there now.
    """
    file, to = FILES[path], _place(path)
    if file.address is None:
        return f"{path} is not fetched: {_by_hand(path)}."
    host = urlsplit(file.address).netloc
    by_hand = f"download {file.address} yourself and save it as {to} (SHA-256 {file.sha256})"
    if host in unreachable:
        return f"{path} could not be fetched ({host} does not answer): {by_hand}."
    try:
        limited = downloads.at_most(downloads.TABLE_BYTES)
        pooch.retrieve(file.address, f"sha256:{file.sha256}", fname=to.name, path=to.parent, downloader=limited)
    except (requests.ConnectionError, requests.Timeout):
        unreachable.add(host)
        return f"{path} could not be fetched ({host} does not answer): {by_hand}."
    except requests.RequestException as error:
        return f"{path} could not be fetched ({' '.join(str(error).split())}): {by_hand}."
    except ValueError:  # pooch's word for another SHA-256; it keeps nothing then
        return f"{path}: {file.address} is now another file than the one pinned (SHA-256 {file.sha256}); not kept."
    except OSError as error:
        return f"{path} could not be written to {to} ({error.strerror}): make that folder writable or set CXR_DATA."
    return None


def fetch(names, only_list=False):
    """Fetch the tables of label sets, saying what each one's terms are first.

    Parameters
    ----------
    names : sequence of str
        Keys of `WANTED`.
    only_list : bool
        Say what is there and fetch nothing.

    Returns
    -------
    bool
        Whether all of them are there in the end.
    """
    whole, unreachable = True, set()
    for name in names:
        card = _CARDS[name] if name in _CARDS else catalogue.ENTRIES[name].card
        states = {path: state(path) for path in WANTED[name]}
        missing = [path for path, what in states.items() if what == "missing"]
        print(f"{name}: {len(states) - len(missing)} of {len(states)} files are here.")
        if missing:
            print(f"  Terms: {card['licence']}. Cite {card['citation']}. From {card['source']}.")
        for path, what in states.items():
            if what == "differs":
                problem = _differs(path)
            elif what == "missing":
                problem = f"{path} is missing." if only_list else get(path, unreachable)
            else:
                continue
            if problem is None:
                print(f"  {path} is fetched.")
                continue
            print(f"  {problem}")
            whole = whole and what == "differs" and FILES[path].address is None
    return whole


def _differs(path):
    """Say that a table is another one than was tested; only one that can be fetched counts as not there."""
    found, file = _found(path), FILES[path]
    what = f"{found} is not the file that this project was tested with (SHA-256 {file.sha256})"
    if file.address is None:
        return f"{what}; it is used all the same."
    return f"{what}: remove it and run this again, or get it from {file.address}."
