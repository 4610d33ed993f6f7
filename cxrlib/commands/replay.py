"""Recompute the studies' tables from the published predictions: `python -m cxrlib.commands.replay`. No image, no GPU.

Runs the study notebooks on the case tables in a scratch copy of the checkout, and compares what they write with
what the checkout holds.
"""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from cxrlib.base import editions, paths
from cxrlib.studies import comparisons


def scratch_copy(root, to):
    """Copy what git tracks (and new files it does not ignore) to a folder; return it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)
    return to


def replay(root, scratch, edition="quick", studies=None):
    """Run the studies of an edition in `scratch`; return the tables that came out different.

    Parameters
    ----------
    root : Path
        The checkout.
    scratch : Path
        A copy of it.
    edition : str
        One whose case tables are committed.
    studies : sequence of str, optional
        Sections of `params.yaml`; all studies of the edition if not given.
    """
    editions.activate(edition, scratch)
    different = []
    for stage in editions.compose(edition, scratch)["stages"]["studies"].values():
        study, notebook = stage["name"], stage["notebook"]
        if studies is not None and study not in studies:
            continue
        shutil.rmtree(scratch / "results" / edition / study)
        words = [f"notebooks/{notebook}.ipynb", f"{notebook}.ipynb", f"section={study}"]
        subprocess.run([sys.executable, "-m", "cxrlib.commands.notebook", *words], cwd=scratch, check=True)
        unequal = unequal_tables(root, scratch, edition, study)
        print(f"{study}: {'differs' if unequal else 'the same'}", flush=True)
        different += unequal
    return different


def unequal_tables(root, scratch, edition, study):
    """Return the tables of a study that differ between two checkouts, or are in one alone, as paths in them.

    The headline table hangs on the tables of study 1, so it is computed anew with these.
    """
    folders = [base / "results" / edition / study for base in (root, scratch)]
    tables = sorted({p.name for folder in folders for p in folder.iterdir() if p.suffix in (".csv", ".json")})
    _, *unequal = filecmp.cmpfiles(*folders, tables, shallow=False)
    different = [f"results/{edition}/{study}/{name}" for names in unequal for name in names]
    if study == "pneumothorax":
        committed = f"results/{edition}/summary/headline.csv"
        table, differences = (pd.read_csv(folders[1] / f"{name}.csv") for name in ("table", "differences"))
        headline = comparisons.headline(table, differences)
        if not headline.astype(str).equals(pd.read_csv(root / committed).astype(str)):
            different.append(committed)
    return different


def main():
    """Run the command line."""
    with tempfile.TemporaryDirectory() as folder:
        different = replay(paths.ROOT, scratch_copy(paths.ROOT, Path(folder)))
    if different:
        sys.exit("These came out different from what the checkout holds: " + ", ".join(different))
    print("The studies' tables and the headline came out the same from results/quick/cases.")


if __name__ == "__main__":
    main()
