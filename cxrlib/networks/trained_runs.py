"""A finished run, opened: its network, its findings and the size of its images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split
import timm

from cxrlib.base import checksums, paths, records, weight_files
from cxrlib.networks import architectures, batches

_NO_RECORD = "it is no record of a run: take another folder"


MOST_PX = 8192  # a side of the square that a network takes: a record from elsewhere may ask for anything


@dataclass(frozen=True)
class Run:
    """A finished run: its network, what its logits mean, the size of its images, and where it lies."""

    network: nn.Module
    findings: tuple
    size_px: int
    folder: Path


def _packed_size(folder, entry):
    """Return the image size of a run whose record does not have it, from the packed cohort it was trained on."""
    cohort, known = entry["parameters"].get("cohort"), entry.get("data_sha256")
    packed = paths.cohort_dir(str(cohort)) / "images.npy"
    if isinstance(known, dict) and packed.exists() and records.sha256(packed) == known.get("images"):
        return np.load(packed, mmap_mode="r").shape[1]
    raise ValueError(
        f"{folder}/run.json does not say at which size it was trained, and its cohort {cohort!r} is not packed here "
        "as it was then: give --size-px (size_px in editions/EDITION.yaml)."
    )


def _record(folder):
    """Return a run's record; raise ValueError if it is none."""
    entry = weight_files.read_record(folder / "run.json", {"parameters": dict}, _NO_RECORD)
    parameters = entry["parameters"]
    architecture, findings, size_px = (parameters.get(k) for k in ("architecture", "findings", "size_px"))
    named = isinstance(findings, list) and findings and all(map(weight_files.is_plain_name, findings))
    sized = size_px is None or (type(size_px) is int and 0 < size_px <= MOST_PX)
    if not (isinstance(architecture, str) and named and sized):
        raise ValueError(f"{folder}/run.json cannot be used: {_NO_RECORD}.")
    return entry


def _trained(folder, architecture, findings_n):
    """Return the network of a run; raise ValueError, with one sentence, if its files give none."""
    path = folder / "model.safetensors"
    if not timm.is_model(architecture):
        raise ValueError(
            f"{folder}/run.json names the network {architecture!r}, which the installed timm does not have: take a "
            "run that was made with this version of the project."
        )
    try:
        return architectures.load_network(path, architecture, findings_n).eval()
    except weight_files.WeightsError:
        raise
    except ValueError:
        raise ValueError(
            f"{path} does not hold weights of {architecture} with {findings_n} findings, as run.json has it: take "
            "model.safetensors from the same run."
        ) from None


def open_run(folder, size_px=None):
    """Open a run's folder.

    Parameters
    ----------
    folder : Path
        With `run.json` and `model.safetensors`, as notebook 10 writes them.
    size_px : int, optional
        Side of the images. If not given, as recorded, else as the packed cohort of the run has it.

    Returns
    -------
    Run

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If it is no run's folder.
    ValueError
        If its files are damaged or do not belong together, or the size cannot be known or is another one.
    """
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file: give results/EDITION/runs/TARGET/NETWORK-SEED.")
    missing = [name for name in ("run.json", "model.safetensors") if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {' and no '.join(missing)}: give one of results/EDITION/runs/ (made by make repro)."
        )
    entry = _record(folder)
    parameters = entry["parameters"]
    recorded = parameters.get("size_px")
    if size_px and recorded and size_px != recorded:
        raise ValueError(f"{folder} was trained at {recorded} px, not at {size_px}: leave out --size-px.")
    network = _trained(folder, parameters["architecture"], len(parameters["findings"]))
    told = entry.get("files", {})
    damaged = checksums.problem(folder, {name: told[name] for name in told if name == "model.safetensors"})
    if damaged:
        raise ValueError(f"{damaged}: copy it from the run again.")
    size_px = size_px or recorded or _packed_size(folder, entry)
    return Run(network.to(batches.device()), tuple(parameters["findings"]), int(size_px), folder)
