"""Fetch the published label tables that are in no package.

cxr fetch --list
cxr fetch google_four_readers

Without a name all of them are fetched, into $CXR_DATA/labels, or data/sources/labels if CXR_DATA is not set.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

import pooch

from cxrlib.base import paths
from cxrlib.releases import catalogue, fetching

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    about, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="cxr fetch",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(fetching.WANTED)}")
    parser.add_argument("--list", action="store_true", help="say what is there and what is missing; fetch nothing")
    given = parser.parse_args(arguments)
    known = (*fetching.WANTED, *catalogue.names())
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"there is no label set {unknown[0]!r}; there are {', '.join(dict.fromkeys(known))}")
    if not given.list and not os.environ.get("CXR_DATA") and not (paths.ROOT / "dvc.yaml").exists():
        sys.exit("cxr fetch: this is no clone of the repository: set CXR_DATA to the folder that tables shall go to.")
    for name in given.names:
        if name not in fetching.WANTED:
            print(f"{name}: its table is in the torchxrayvision package; nothing to fetch.")
    pooch.get_logger().setLevel("WARNING")
    names = [name for name in given.names if name in fetching.WANTED] if given.names else list(fetching.WANTED)
    try:
        return 0 if fetching.fetch(names, given.list) else 1
    except PermissionError as error:
        sys.exit(f"{error.filename} cannot be read ({error.strerror}): check its permissions, or set CXR_DATA.")


if __name__ == "__main__":
    sys.exit(main())
