"""Recompute every table from the published predictions: `python -m cxrlib.replay`. No image, no GPU.

Runs the study notebooks on the committed case tables in a scratch copy of the checkout, and compares what they
write with what is committed.
"""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cxrlib.paths import ROOT

STUDIES = {"20_pneumothorax": "pneumothorax"}
TABLES = ("table.csv", "differences.csv", "operating_points.csv", "drains.csv")


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
    different = []
    for notebook, study in STUDIES.items():
        executed = scratch / f"{notebook}.ipynb"
        shutil.rmtree(scratch / "results" / edition / study)
        command = ["papermill", "-k", "python3", "--no-progress-bar", "--log-level", "ERROR"]
        subprocess.run([*command, f"notebooks/{notebook}.ipynb", str(executed)], cwd=scratch, check=True)
        for table in TABLES:
            pair = [base / "results" / edition / study / table for base in (root, scratch)]
            if not filecmp.cmp(*pair, shallow=False):
                different.append(str(pair[0].relative_to(root)))
    return different


def main():
    """Run the command line."""
    with tempfile.TemporaryDirectory() as folder:
        different = replay(ROOT, scratch_copy(ROOT, Path(folder)))
    if different:
        sys.exit("These tables came out different from the committed ones: " + ", ".join(different))
    print(
        f"Every table of {', '.join(STUDIES.values())} was recomputed from results/quick/cases and came out the same."
    )


if __name__ == "__main__":
    main()
