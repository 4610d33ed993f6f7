"""Remove from DVC's cache what no version of `dvc.lock` names: `cxr gc [--dry]` (`make gc`).

`dvc gc` keeps what the edition in force names and deletes the results of every other edition, in all its forms: it
reads the stages of `dvc.yaml` as `params.yaml` has them. Here everything is kept that stands in `dvc.lock`, in the
copy of it that `make repro` keeps, or in a `.dvc` file, of any edition, in this checkout or in any commit of any
branch or tag. No remote is touched.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import yaml

from cxrlib.base import paths
from cxrlib.commands import interruption, sharing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


_COPY = "data/partial/dvc.lock"


def _git(root, *words):
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{root} is no git checkout that can be read, so nothing is removed: {done.stderr.strip()}")
    return done.stdout


def _versions(root: Path) -> Iterator[tuple[str, str]]:
    """Give every version of `dvc.lock` and of `.dvc` files, here and in every commit: where it is, and its text."""
    patterns = ("dvc.lock", "*.dvc")
    for name in _git(root, "ls-files", "-co", "--exclude-standard", "-z", "--", *patterns).split("\0"):
        if name and (root / name).is_file():
            yield name, (root / name).read_text(encoding="utf-8", errors="replace")
    if (root / _COPY).is_file():
        yield _COPY, (root / _COPY).read_text(encoding="utf-8", errors="replace")
    seen = set()
    log = _git(root, "log", "--all", "--format=", "--raw", "--no-abbrev", "--no-renames", "-m", "--", *patterns)
    for line in log.splitlines():
        facts, _, name = line.partition("\t")
        blob, state = facts.split()[3:5]
        if state != "D" and blob not in seen:
            seen.add(blob)
            yield f"{name} ({blob[:8]})", _git(root, "cat-file", "blob", blob)


def _hashes(node: Any) -> Iterator[str]:
    """Give every hash of a file or folder that stands anywhere in a `dvc.lock` or `.dvc` file."""
    if isinstance(node, dict):
        if isinstance(node.get("md5"), str) and "path" in node:
            yield node["md5"]
        for value in node.values():
            yield from _hashes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _hashes(value)


def kept_hashes(root: Path) -> set[str]:
    """Return the MD5 of every file and folder (with `.dir`) that any version of `dvc.lock` or a `.dvc` file names.

    Parameters
    ----------
    root : Path
        A git checkout.

    Raises
    ------
    ValueError
        In one sentence, if one of them cannot be read: what it names is not known then.
    """
    found: set[str] = set()
    for where, text in _versions(root):
        if where == "dvc.lock" and interruption.is_torn(text):
            raise ValueError(
                "dvc.lock is not whole, so nothing is removed: `make repro` mends it, or `git checkout dvc.lock` "
                "restores it."
            )
        try:
            found |= set(_hashes(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))))
        except yaml.YAMLError:
            raise ValueError(f"{where} is no YAML, so nothing is removed: mend it, or restore it from git.") from None
    return found


def collect(root: Path, dry: bool = False) -> tuple[int, int]:
    """Remove from the cache what no version of `dvc.lock` names; return how many files that are, and their bytes.

    Parameters
    ----------
    root : Path
        A git checkout.
    dry : bool
        Remove nothing.

    Raises
    ------
    ValueError
        In one sentence; nothing is removed then.
    """
    from dvc.lock import LockError
    from dvc.repo import Repo  # takes a second
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    keep = kept_hashes(root)
    try:
        with Repo(str(root)) as repo, repo.lock:
            odb = repo.cache.local
            here = set(odb.all())
            for folder in [key for key in keep if key.endswith(".dir") and key in here]:
                _check_list(odb.oid_to_path(folder), folder)
                keep |= {entry.value for _, _, entry in Tree.load(odb, HashInfo("md5", folder))}
            useless = [odb.oid_to_path(key) for key in here - keep]
            size = sum(odb.fs.size(path) for path in useless)
            if useless and not dry:
                odb.fs.remove(useless)
    except LockError:
        raise ValueError(sharing.BUSY) from None
    return len(useless), size


def _check_list(path, name):
    """Raise a ValueError if the list of a folder's files, an object of the cache, is not what its name says."""
    with open(path, "rb") as file:
        damaged = hashlib.file_digest(file, "md5").hexdigest() != name.removesuffix(".dir")
    if damaged:
        raise ValueError(
            f"{path} is damaged, a list of the files of a folder, so nothing is removed: delete it, get it again by "
            "`cxr pull`, and run this again."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="cxr gc", description=__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="remove nothing; say how much that would be")
    chosen = parser.parse_args(arguments)
    try:
        files_n, size = collect(paths.ROOT, chosen.dry)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    did = "would be removed" if chosen.dry else "were removed"
    print(f"{files_n} files ({size / 1e6:.1f} MB) that no version of dvc.lock names {did} from the cache.")


if __name__ == "__main__":
    main()
