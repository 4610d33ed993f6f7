"""What every notebook starts with, and the record that every run leaves."""

import hashlib
import importlib.metadata
import json
import logging
import os
import subprocess
import warnings

import numpy as np
import pandas as pd
import yaml

from cxrlib.paths import ROOT

RECORDED_PACKAGES = ("torch", "torchvision", "timm", "fastai", "numpy", "pandas", "scikit-learn", "torchxrayvision")


def start():
    """Make a notebook's outputs reproducible and quiet: no warnings, no logs, fixed display widths."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    pd.set_option("display.width", 120, "display.max_columns", 30, "display.max_rows", 60, "display.precision", 3)
    np.set_printoptions(precision=4, suppress=True)


def params(*keys):
    """Return a section of `params.yaml`, for settings that are more than one value.

    Raises
    ------
    KeyError
        Naming the section that is missing.
    """
    section = yaml.safe_load((ROOT / "params.yaml").read_text())
    for k, key in enumerate(keys):
        if key not in section:
            raise KeyError(f"params.yaml has no {'.'.join(keys[: k + 1])}; there are {', '.join(map(str, section))}.")
        section = section[key]
    return section


def planned(settings, groups=None):
    """Return the runs of an edition as `(target, architecture, seed)`, in the order of `params.yaml`.

    Parameters
    ----------
    settings : Mapping
        `params.yaml`.
    groups : sequence of str, optional
        Which groups of `settings["runs"]`; all if not given.
    """
    return [
        (target, architecture, seed)
        for group in (settings["runs"] if groups is None else groups)
        for target in settings["runs"][group]["targets"]
        for architecture in settings["runs"][group]["architectures"]
        for seed in settings["runs"][group]["seeds"]
    ]


def key(target, architecture, seed):
    """Return a run's key: its folder, its stage and its row in every table."""
    return f"{target}-{architecture}-{seed}"


def sha256(path):
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def revision():
    """Return the git revision, with `+changes` if the working tree differs from it; None outside git."""
    try:
        rev = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return rev.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def record(path, *, parameters, data, **more):
    """Write `run.json`: parameters, data hashes, versions, revision, and what else the run has to say.

    Parameters
    ----------
    path : Path
    parameters : Mapping
    data : Mapping of str to Path
        Files whose SHA-256 is recorded.
    **more
        Anything that JSON can hold.
    """
    entry = {
        "parameters": dict(parameters),
        "data_sha256": {name: sha256(file) for name, file in data.items()},
        "versions": {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
        "git_revision": revision(),
        **more,
    }
    path.write_text(json.dumps(entry, indent=2) + "\n")
