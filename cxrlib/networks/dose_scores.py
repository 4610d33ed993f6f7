"""What is kept of the dose-response study's trainings: each network's scores of the test images, in little space.

Of a score only the order counts for an AUC. So scores are kept as one of 256 levels of as many images each, ties
staying ties, which moves an AUC by less than 0.001 (`tests/test_dose.py`), and report labels as bits.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from cxrlib.base import paths

LEVELS_N = 256
FACTORS = ("size", "scale", "mechanism", "correlation", "sensitivity")
# What a training is for: the study itself; labels shuffled across images; noise of scale 0, put in by another
# mechanism; twice the patience.
GRID, PERMUTED, AGAIN, PATIENT = ROLES = ("grid", "shuffled", "again", "patient")


def to_levels(scores):
    """Return scores (n,) as levels (n,) uint8 in the same order; equal scores have equal levels."""
    rank = rankdata(scores, method="average") - 0.5
    return np.uint8(rank * LEVELS_N / len(rank))


def of_reader(sensitivity):
    """Return the column of `DoseScores.test` that has a simulated radiologist's labels."""
    return f"radiologist_{sensitivity:g}"


@dataclass(frozen=True)
class DoseScores:
    """The trainings of the study, and the test images that all of them were scored on.

    Attributes
    ----------
    runs : pandas.DataFrame
        A row a training: `role`, `seed`, `FACTORS`, what was learned and how it ended (`dose_runs.train_cell`).
    levels : (runs_n, images_n) uint8
        Scores of test images, as `to_levels` returns them.
    reports : (runs_n, images_n) bool
        What the simulated reports of the test images say, by the noise of the run's own cell and seed.
    test : pandas.DataFrame
        `patient_id, drawn` and one column for each radiologist (`of_reader`).
    courses : pandas.DataFrame
        `run` (row of `runs`), `step, valid_loss, valid_auc`.
    """

    runs: pd.DataFrame
    levels: np.ndarray
    reports: np.ndarray
    test: pd.DataFrame
    courses: pd.DataFrame

    def save(self, folder):
        """Write four files to a folder; the same scores give the same bytes."""
        self.runs.to_csv(folder / "runs.csv", index=False, float_format="%.6g")
        self.test.to_parquet(folder / "test.parquet", index=False, compression="zstd")
        self.courses.to_parquet(folder / "courses.parquet", index=False, compression="zstd")
        np.savez_compressed(folder / "scores.npz", levels=self.levels, reports=np.packbits(self.reports, axis=1))


DOSE_FILES = ("runs.csv", "scores.npz", "test.parquet", "courses.parquet")


def dose_files():
    """Return the files of the study that are committed, which its notebook reads."""
    return [paths.ROOT / "results" / "dose_response" / name for name in DOSE_FILES]


def open_dose_scores(folder=None):
    """Return the trainings that `DoseScores.save` wrote.

    Parameters
    ----------
    folder : Path, optional
        Where the committed ones are if not given.

    Raises
    ------
    FileNotFoundError
        Naming the first file that is missing.
    ValueError
        If the files are not of the same trainings and test images.
    """
    folder = folder or dose_files()[0].parent
    for name in DOSE_FILES:
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder.name}/{name} is not here: restore it by git, or run `make beyond`.")
    runs = pd.read_csv(folder / "runs.csv", dtype={"logits_sha256": str})
    test = pd.read_parquet(folder / "test.parquet")
    with np.load(folder / "scores.npz") as kept:
        levels, bits = kept["levels"], kept["reports"]
    if levels.shape != (len(runs), len(test)) or len(bits) != len(runs):
        raise ValueError(
            f"{folder.name}/scores.npz has {levels.shape[0]} trainings of {levels.shape[1]} images, runs.csv has "
            f"{len(runs)} and test.parquet {len(test)}: run `make beyond` again."
        )
    reports = np.unpackbits(bits, axis=1, count=len(test)).astype(bool)
    return DoseScores(runs, levels, reports, test, pd.read_parquet(folder / "courses.parquet"))
