"""Write the explorer: `python -m cxrlib.commands.explorer [FOLDER]`; `make explorer` writes `site/explorer`.

With `--count-pairs` it only counts again how readers part whose tables may not be passed on, into the committed
`results/explorer/pairs.csv`; this needs the owners' tables (docs/data.md).
"""

import argparse
import sys
from pathlib import Path

from cxrlib.base import paths
from cxrlib.site import explorer, explorer_real


def main(argv=None):
    """Do what the command line says and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cxrlib.commands.explorer", description=__doc__.split(":")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=paths.ROOT / "site" / "explorer")
    parser.add_argument("--count-pairs", action="store_true", help="count again how readers part, and stop")
    asked = parser.parse_args(argv)
    try:
        if asked.count_pairs:
            path = explorer_real.counts_path()
            path.parent.mkdir(parents=True, exist_ok=True)
            table = explorer_real.count_pairs()
            table.to_csv(path, index=False, float_format="%.6g")
            print(f"{path}: {len(table)} rows.")
        else:
            sizes = explorer.build(asked.folder)
            print(f"{asked.folder}/index.html: {explorer.size_sentence(sizes)}")
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
