"""Fetch the published label tables that are in no package, or released models from a mirror.

cxr fetch --list
cxr fetch google_four_readers
cxr fetch models --list
cxr fetch models --from https://example.org/models

Without a name all tables are fetched, into $CXR_DATA/labels, or data/sources/labels if CXR_DATA is not set. Models go
to models/ of a checkout; what is there already and whole stays. Every file is compared with its SHA-256.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from cxrlib.base import paths
from cxrlib.releases import catalogue, fetching, released_models

if TYPE_CHECKING:
    from collections.abc import Sequence

_MODELS = "models"


def _models(given: argparse.Namespace) -> int:
    """Fetch or list the released models; return the exit status."""
    try:
        if given.list:
            return 0 if released_models.list_models(given.to) else 1
        if given.source is None:
            sys.exit("Models have no fixed address: name the folder or address of a mirror by --from.")
        return 0 if released_models.fetch_models(given.source, given.to) else 1
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    about, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="cxr fetch",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    wanted = ", ".join(fetching.WANTED)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{_MODELS}, or one or more of {wanted}")
    parser.add_argument("--list", action="store_true", help="say what is there and what is missing; fetch nothing")
    about_source = "of models: a folder or an http(s) address that holds models.yaml and the models' folders"
    parser.add_argument("--from", dest="source", metavar="MIRROR", help=about_source)
    parser.add_argument(
        "--to", type=Path, help="of models: the folder to put them in; models/ of a checkout by default"
    )
    given = parser.parse_args(arguments)
    pooch.get_logger().setLevel("WARNING")
    if _MODELS in given.names:
        if len(given.names) > 1:
            parser.error(f"{_MODELS} is fetched by itself: leave the other names out")
        return _models(given)
    if given.source or given.to:
        parser.error(f"--from and --to are for {_MODELS} alone: tables have an address each")
    known = (*fetching.WANTED, *catalogue.names())
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"there is no label set {unknown[0]!r}; there are {', '.join(dict.fromkeys(known))}")
    if not given.list and not os.environ.get("CXR_DATA") and not (paths.ROOT / "dvc.yaml").exists():
        sys.exit("cxr fetch: this is no clone of the repository: set CXR_DATA to the folder that tables shall go to.")
    for name in given.names:
        if name not in fetching.WANTED:
            print(f"{name}: its table is in the torchxrayvision package; nothing to fetch.")
    names = [name for name in given.names if name in fetching.WANTED] if given.names else list(fetching.WANTED)
    try:
        return 0 if fetching.fetch(names, given.list) else 1
    except PermissionError as error:
        sys.exit(f"{error.filename} cannot be read ({error.strerror}): check its permissions, or set CXR_DATA.")


if __name__ == "__main__":
    sys.exit(main())
