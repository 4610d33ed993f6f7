"""The saliency map of one image by one finished run; what computes it is imported only when a map is asked for."""

from functools import lru_cache


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
