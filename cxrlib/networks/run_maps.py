"""The saliency map of one image by one finished run; what computes it is imported only when a map is asked for."""

from functools import lru_cache

from cxrlib.base import paths, runs
from cxrlib.releases import released_models


@lru_cache(maxsize=8)
def _opened(folder):
    from cxrlib.networks import trained_runs  # imports torch and timm, which takes seconds

    return trained_runs.open_run(folder)


def run_map(folder, finding, pixels, method="grad_cam"):
    """Return where a run sees a finding in one image, (size_px, size_px) float32 in [0, 1].

    Parameters
    ----------
    folder : Path
        Of a finished run.
    finding : str
    pixels : (size_px, size_px) uint8
    method : str
        A key of `saliency.SALIENCY_METHODS`.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is no folder of a run (`trained_runs.open_run`), or the run does not predict the finding.
    """
    run = _opened(folder)
    if finding not in run.findings:
        raise ValueError(f"{folder.name} does not predict {finding}; it predicts {', '.join(run.findings)}.")
    from cxrlib.networks import saliency

    return saliency.maps(run.network, pixels[None], run.findings.index(finding), method)[0]


def find_run(edition, target, architecture, seed):
    """Return the folder of a run of an edition: its own, or its released copy (`models/`); None if neither is here.

    Parameters
    ----------
    edition, target, architecture : str
    seed : int

    Raises
    ------
    ValueError
        If a file of the released network is missing or damaged; the message names it and says what brings it back.
    """
    run = target, architecture, seed
    folder, key = paths.run_dir(edition, *run), runs.key(*run)
    if (folder / "model.safetensors").is_file():
        return folder
    if released_models.is_released(key) and released_models.read_models()[key].about["edition"] == edition:
        return released_models.find_model(key, released_models.IMAGE_NETWORK).folder
    return None
