"""Recompute the studies' tables from the published predictions: `python -m cxrlib.replay`. No image, no GPU.

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
import yaml

from cxrlib import compare
from cxrlib.paths import ROOT

STUDIES = {"20_pneumothorax": "pneumothorax"}
TABLES = ("table.csv", "differences.csv", "operating_points.csv", "drains.csv", "metrics.json")


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
    shutil.copy(scratch / "editions" / f"{edition}.yaml", scratch / "params.yaml")
    settings = yaml.safe_load((scratch / "params.yaml").read_text())
    different = []
    for notebook, study in STUDIES.items():
        executed = scratch / f"{notebook}.ipynb"
        shutil.rmtree(scratch / "results" / edition / study)
        command = ["papermill", "-k", "python3", "--no-progress-bar", "--log-level", "ERROR"]
        for name in ("edition", "train_cohort", "images"):
            command += ["-p", name, settings[name]]
        for name in ("resamples_n", "specificity"):
            command += ["-p", name, str(settings[study][name])]
        subprocess.run([*command, f"notebooks/{notebook}.ipynb", str(executed)], cwd=scratch, check=True)
        for table in TABLES:
            pair = [base / "results" / edition / study / table for base in (root, scratch)]
            if not filecmp.cmp(*pair, shallow=False):
                different.append(str(pair[0].relative_to(root)))
    folder = scratch / "results" / edition / "pneumothorax"
    headline = compare.headline(pd.read_csv(folder / "table.csv"), pd.read_csv(folder / "differences.csv"))
    if not headline.astype(str).equals(pd.read_csv(root / "results" / edition / "headline.csv").astype(str)):
        different.append(f"results/{edition}/headline.csv")
    return different


def main():
    """Run the command line."""
    with tempfile.TemporaryDirectory() as folder:
        different = replay(ROOT, scratch_copy(ROOT, Path(folder)))
    if different:
        sys.exit("These came out different from what the checkout holds: " + ", ".join(different))
    print("The studies' tables and the headline came out the same from results/quick/cases.")


if __name__ == "__main__":
    main()
