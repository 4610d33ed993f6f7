"""Search what is to be published for traces of patients: names, numbers, dates, report text, radiographs.

cxr privacy
cxr privacy site/ results/mine --reports ours/reports.csv --images ours/images/
cxr privacy results/mine --allow mine_allowed.yaml

Without a path, every file of this repository that git tracks is searched. The exit status is 0 if nothing is found, 1
if something is or if a file cannot be read, and 2 if an argument cannot be used.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxrlib.base import paths, tables
from cxrlib.site import disclosure, traces

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIZE_PX = 128  # side of the radiographs that pictures are compared with


def _parser():
    about, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="cxr privacy", description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files and folders to search")
    parser.add_argument(
        "--reports",
        nargs="+",
        type=Path,
        default=[],
        metavar="CSV",
        help="reports whose words must not be there (text)",
    )
    parser.add_argument(
        "--images", nargs="+", type=Path, default=[], metavar="FOLDER", help="radiographs that must not be there"
    )
    parser.add_argument("--allow", type=Path, help="YAML file of what may be there, and why")
    return parser


def committed_files(root):
    """Return the files of a checkout that git tracks, a list of Path.

    Parameters
    ----------
    root : Path

    Raises
    ------
    ValueError
        If it is no git checkout.
    """
    try:
        told = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise ValueError(f"{root} is no git checkout: name the files or folders to search.") from None
    return [root / name for name in told.stdout.split("\0") if name and (root / name).is_file()]


def known_radiographs(folders, work):
    """Return what real radiographs look like, as a `disclosure.Known` without reports.

    Parameters
    ----------
    folders : sequence of Path
        Searched below for PNG, JPEG and DICOM files; what cannot be read is left out and counted on the terminal.
    work : Path
        An empty folder to pack them into.
    """
    from cxrlib.cohorts import folder_images, lookalikes

    hashes, packed = [], []
    for i, folder in enumerate(folders):
        names = folder_images.images_below(folder)
        one = folder_images.packed_below(folder, names, work / str(i), _SIZE_PX)
        lost_n = len(names) - len(one.index)
        if lost_n:
            print(f"{lost_n} of {len(names)} images below {folder} cannot be read, and are not looked for.")
        hashes.append(lookalikes.hashes(one, np.arange(len(one.index)))[0])
        packed += [(one, row) for row in range(len(one.index))]
    return disclosure.Known(radiographs=np.concatenate(hashes), pictures=lambda row: lookalikes.content(*packed[row]))


def _search(chosen):
    root = Path.cwd() if chosen.paths else paths.ROOT
    missing = [path for path in [*chosen.paths, *chosen.images] if not path.exists()]
    if missing:
        raise FileNotFoundError(f"There is no file or folder {missing[0]}.")
    allow = chosen.allow or (None if chosen.paths else paths.ROOT / "tools" / "privacy_allowed.yaml")
    allowed = disclosure.read_allowed(allow) if allow else {}
    reports = {
        path.name: traces.report_words(tables.read_csv(path, ("text",))["text"].dropna()) for path in chosen.reports
    }
    with tempfile.TemporaryDirectory() as work:
        known = known_radiographs(chosen.images, Path(work)) if chosen.images else disclosure.Known()
        known = disclosure.Known(reports, known.radiographs, known.pictures)
        found, files_n = [], 0
        for base, files in _files(chosen.paths, root):
            files_n += len(files)
            found += disclosure.scan(base, files, known, allowed)
    for one in found:
        print(f"{one.file}: {one.kind}: {one.what[:120]!r}")
    told = ["patterns of names, numbers, dates, fields, paths and addresses", "photographic pictures"]
    told += [f"words of {name}" for name in reports] + ["the radiographs given"] * bool(chosen.images)
    print(f"{len(found)} findings in {files_n} files, searched for {', '.join(told)}.")
    unread_n = sum(one.kind == disclosure.UNREAD for one in found)
    if unread_n:
        print(f"{unread_n} of them are files that are not read: look at them, and allow each by name with --allow.")
    return int(len(found) > 0)


def _files(named, root):
    """Yield a folder and the files below it that are to be searched."""
    if not named:
        yield root, committed_files(root)
    for path in named:
        path = path.resolve()
        base = root if path.is_relative_to(root) else path.parent if path.is_file() else path
        yield (
            base,
            [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file() and ".git" not in p.parts],
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if something is found or not read, 2 if an argument cannot be used."""
    chosen = _parser().parse_args(arguments)
    try:
        return _search(chosen)
    except BrokenPipeError:  # `cxr` ends quietly when the reader of our output has gone
        raise
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
