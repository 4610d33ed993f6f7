"""Recompute the studies' tables from the published predictions: `python -m cxrlib.commands.replay`. No image, no GPU.

Runs the study notebooks on the case tables in a scratch copy of the checkout, and compares what they write with
what the checkout holds.
"""

import filecmp
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

from cxrlib.base import paths
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


def arguments(notebook, settings, study):
    """Return what `params.yaml` says of the parameters that a notebook declares, as papermill's arguments.

    Parameters
    ----------
    notebook : Path
    settings : Mapping
        `params.yaml`.
    study : str
        The section that is asked first. What neither it nor the top level holds keeps the notebook's own value.
    """
    cells = json.loads(notebook.read_text())["cells"]
    (source,) = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])]
    known = settings | settings[study]
    names = [name for name in re.findall(r"^(\w+) = ", source, re.M) if name in known]
    return [word for name in names for word in ("-p", name, str(known[name]))]


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
    for name, (study, tables) in STUDIES.items():
        notebook = scratch / "notebooks" / f"{name}.ipynb"
        for table in tables:  # not the folder: a study may read what another stage put there
            (scratch / "results" / edition / study / table).unlink(missing_ok=True)
        command = ["papermill", "-k", "python3", "--no-progress-bar", "--log-level", "ERROR"]
        command += [*arguments(notebook, settings, study), str(notebook), str(scratch / f"{name}.ipynb")]
        subprocess.run(command, cwd=scratch, check=True)
        for table in tables:
            pair = [base / "results" / edition / study / table for base in (root, scratch)]
            if not pair[0].exists() or not filecmp.cmp(*pair, shallow=False):
                different.append(str(pair[0].relative_to(root)))
    folder = scratch / "results" / edition / "pneumothorax"
    headline = comparisons.headline(pd.read_csv(folder / "table.csv"), pd.read_csv(folder / "differences.csv"))
    if not headline.astype(str).equals(pd.read_csv(root / "results" / edition / "headline.csv").astype(str)):
        different.append(f"results/{edition}/headline.csv")
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
