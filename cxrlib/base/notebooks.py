"""What every notebook starts with: quiet, reproducible outputs, and one sentence where a file is missing."""

import logging
import os
import re
import warnings

import numpy as np
import pandas as pd
import yaml

from cxrlib.base import paths


class NotMadeYet(FileNotFoundError):
    """A file that a notebook reads is missing; the message says what makes it, and Jupyter shows nothing else."""

    def _render_traceback_(self):
        return [f"{type(self).__name__}: {self}"]


def start(**reads):
    """Make a notebook's outputs reproducible and quiet, and check that what it reads is there.

    Parameters
    ----------
    **reads : Path or iterable of Path
        By the stage of `dvc.yaml` that makes them: `start(cohort=paths.cohort_dir(cohort))`. A published copy below
        `results/` counts as there (`paths.to_read`).

    Raises
    ------
    NotMadeYet
        In one sentence, if something is missing.
    """
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    pd.set_option("display.width", 120, "display.max_columns", 30, "display.max_rows", 60, "display.precision", 3)
    pd.set_option("display.max_colwidth", 120)
    np.set_printoptions(precision=4, suppress=True)
    missing = {}
    for stage, files in reads.items():
        absent = [file for file in ([files] if isinstance(files, os.PathLike) else files) if not _is_here(file)]
        if absent:
            missing[stage] = absent
    if missing:
        raise NotMadeYet(_sentence(missing))


def _is_here(path):
    """Return whether a file is there, or its published copy in `results/<edition>/<kind>/`."""
    kind, *rest = path.relative_to(paths.ROOT).parts[1:]
    copy = paths.ROOT.joinpath("results", *rest[:1], kind, *rest[1:])
    return path.exists() or (len(rest) == 2 and copy.exists())


def _sentence(missing):
    """Return what is missing, which notebook makes it, and the command that does, as one sentence."""
    stages = yaml.safe_load((paths.ROOT / "dvc.yaml").read_text())["stages"]
    parts = []
    for stage, files in missing.items():
        maker = re.search(r"\w+\.ipynb", stages[stage].get("do", stages[stage])["cmd"])
        which = f"notebook {maker[0]} makes it, stage {stage}" if maker else f"stage {stage} makes it"
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        parts.append(f"{files[0].relative_to(paths.ROOT)}{more} ({which})")
    names = " ".join(missing)
    return (
        f'This notebook reads what is not here yet, {" and ".join(parts)}: run `make repro STAGES="{names}"`, '
        f"or `python -m cxrlib.commands.repro {names}`."
    )
