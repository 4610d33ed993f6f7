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

# Notebook -> its section of params.yaml (and folder of results), and the tables that it writes there.
STUDIES = {
    "20_pneumothorax": (
        "pneumothorax",
        ("table.csv", "differences.csv", "operating_points.csv", "drains.csv", "metrics.json"),
    ),
    "21_labelers": ("labelers", ("labels.csv", "label_differences.csv", "table.csv", "differences.csv")),
    "22_finding": (
        "finding",
        (
            "headline.csv",
            "published.csv",
            "rescored.csv",
            "curated.csv",
            "table.csv",
            "differences.csv",
            "calibration.csv",
            "rule_out.csv",
            "reading_list.csv",
        ),
    ),
    "23_maps": (
        "maps",
        ("headline.csv", "networks.csv", "table.csv", "layers.csv", "located.csv", "sanity.csv", "drains.csv"),
    ),
}


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


def replay(root, scratch, edition="quick"):
    """Run the studies of an edition in `scratch`; return the tables that came out different.

    Parameters
    ----------
    root : Path
        The checkout.
    scratch : Path
        A copy of it.
    edition : str
        One whose case tables are committed.
    """
    editions.activate(edition, scratch)
    different = []
    for name, (study, tables) in STUDIES.items():
        shutil.rmtree(scratch / "results" / edition / study, ignore_errors=True)
        command = [sys.executable, "-m", "cxrlib.commands.notebook", f"notebooks/{name}.ipynb", f"{name}.ipynb"]
        subprocess.run([*command, f"section={study}"], cwd=scratch, check=True)
        for table in tables:
            pair = [base / "results" / edition / study / table for base in (root, scratch)]
            if not pair[0].exists() or not filecmp.cmp(*pair, shallow=False):
                different.append(str(pair[0].relative_to(root)))
    committed = f"results/{edition}/summary/headline.csv"
    folder = scratch / "results" / edition / "pneumothorax"
    headline = comparisons.headline(pd.read_csv(folder / "table.csv"), pd.read_csv(folder / "differences.csv"))
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
