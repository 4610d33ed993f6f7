"""Render the paper: `make site` writes `site/index.html` and all pages, `make pdf` also `site/paper.pdf`."""

import argparse
import sys

from cxrlib.base import paths
from cxrlib.site import building


def main(arguments=None):
    """Build the site, or print the paper from it, and return the exit status.

    Parameters
    ----------
    arguments : list of str, optional
    """
    parser = argparse.ArgumentParser(prog="python -m cxrlib.commands.site", description=__doc__)
    parser.add_argument("--pdf", action="store_true", help="print the built paper to site/paper.pdf")
    site = paths.ROOT / "site"
    try:
        if parser.parse_args(arguments).pdf:
            building.print_pdf(site / "print" / "index.html", site / "paper.pdf")
            print("site/paper.pdf")
            return 0
        pages, warnings = building.build_site(paths.ROOT, site, paths.ROOT / "build" / "site")
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    for warning in warnings:
        print(warning, file=sys.stderr)
    print(f"site/index.html: {len(pages)} pages, and site/print/index.html, the paper as one page to print")
    return 0


if __name__ == "__main__":
    sys.exit(main())
