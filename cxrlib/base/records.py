"""The record that every run leaves: parameters, versions, revision, hashes of its data."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
from typing import TYPE_CHECKING

from cxrlib.base import paths, whole_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

_RECORDED_PACKAGES = ("torch", "torchvision", "timm", "fastai", "numpy", "pandas", "scikit-learn", "torchxrayvision")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def revision() -> str | None:
    """Return the git revision, with `+changes` if the working tree differs from it; None outside git."""
    try:
        rev = subprocess.run(["git", "rev-parse", "HEAD"], cwd=paths.ROOT, capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=paths.ROOT, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return rev.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def record(path: Path, *, parameters: Mapping[str, Any], data: Mapping[str, Path], **more: Any) -> None:
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
        "versions": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
        "git_revision": revision(),
        **more,
    }
    whole_files.write_text(path, json.dumps(entry, indent=2) + "\n")
