"""Two versions of a label set: which images changed their label, by finding.

A version is a file, or `FILE@REVISION`: the file as a revision of git has it (a tag, a branch, a commit), kept by git
itself or by DVC. No policy for uncertain labels is applied: that a label became uncertain is a change.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib.base import own_tables

STATES = ("present", "absent", "uncertain", "not assessed")
ONE_SIDED = ("no image in the first", "no image in the second")


def split_version(where: str) -> tuple[str, str | None]:
    """Return the file and the revision that `FILE@REVISION` names; no revision if there is none.

    A file whose own name has an `@` is taken as a file, if it is there.
    """
    file, at, revision = where.rpartition("@")
    return (file, revision) if at and file and not Path(where).exists() else (where, None)


def opened_version(where: str) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return a version of a label set: labels by image id, the images, and which columns were not read.

    Parameters
    ----------
    where : str
        `FILE` or `FILE@REVISION`: a CSV as `own_tables.read_own` reads it, or the parquet table of a label set.

    Returns
    -------
    labels : pandas.DataFrame
        Indexed by `image_id`; float32 findings: 1 present, 0 absent, -1 uncertain, NaN not assessed.
    images : pandas.DataFrame
        `image_id`, and `patient_id` as far as it is known.
    notes : list of str

    Raises
    ------
    ValueError
        In one sentence, if there is no such revision, the file is not in it, or it is no table of labels.
    """
    file, revision = split_version(where)
    path = Path(file)
    if revision is None:
        if not path.is_file():
            raise ValueError(f"There is no file {file}: name a CSV, or FILE@REVISION for a version that git knows.")
        return _read(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(_content(path, revision))
        try:
            return _read(copy)
        except ValueError as error:
            raise ValueError(str(error).replace(str(copy), where)) from None


def _read(path):
    """Return the labels, images and notes of a CSV or of the parquet table of a label set."""
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        images, notes = table[["image_id"]].assign(patient_id=pd.NA), []
    else:
        table, images, notes = own_tables.read_own(path)
    return table.set_index("image_id"), images, notes


def _git(folder, *words):
    return subprocess.run(["git", *words], cwd=folder, capture_output=True)


def _content(path, revision):
    """Return the bytes of a file at a revision: of git, or of DVC where git has its `.dvc` file or `dvc.lock`."""
    folder = path.parent if path.parent.is_dir() else Path()
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top.returncode:
        raise ValueError(f"{path} lies in no git checkout, so that it has no versions: name two files instead.")
    root = Path(top.stdout.decode().strip())
    if _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").returncode:
        known = ", ".join(_git(root, "tag").stdout.decode().split()) or "no tags"
        raise ValueError(
            f"{path}@{revision}: git knows no revision {revision!r}; it knows {known}, and every commit."
        )
    name = Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()
    shown = _git(root, "show", f"{revision}:{name}")
    return shown.stdout if shown.returncode == 0 else _content_of_dvc(root, name, revision, path)


def _content_of_dvc(root, name, revision, path):
    """Return the bytes of a file that DVC keeps, from the cache or a remote."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:  # the remotes are those of today, also those of `--local`
            config = {"remote": dict(repo.config["remote"])}
        return DVCFileSystem(str(root), rev=revision, config=config).read_bytes(name)
    except (FileNotFoundError, NotDvcRepoError):
        pointer = _git(root, "cat-file", "-e", f"{revision}:{name}.dvc").returncode == 0
        if pointer:
            raise ValueError(
                f"{path}@{revision} is kept by DVC, and neither the cache nor a remote has it: `dvc pull`, or "
                f"`dvc fetch --rev {revision}`, where it was pushed."
            ) from None
        raise ValueError(
            f"{path} is not in revision {revision}, neither of git nor of DVC: `git log -- {path} {path}.dvc` lists "
            "those that have it."
        ) from None
    except (DvcException, OSError) as error:
        raise ValueError(f"{path}@{revision} cannot be read: {str(error).strip().rstrip('.')}.") from None


def states(labels: pd.DataFrame) -> pd.DataFrame:
    """Return labels as words of `STATES`.

    Parameters
    ----------
    labels : pandas.DataFrame
        1, 0, -1 or NaN.
    """
    words = {1.0: STATES[0], 0.0: STATES[1], -1.0: STATES[2]}
    return labels.apply(lambda column: column.map(words).fillna(STATES[3]).astype("string"))


def changed_labels(
    first: pd.DataFrame, second: pd.DataFrame, patient: pd.Series | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return how many labels changed between two versions, and which.

    Parameters
    ----------
    first, second : pandas.DataFrame
        Indexed by `image_id`, unique; the same findings as columns, in any order: 1, 0, -1, NaN.
    patient : pandas.Series, optional
        Patient by image id; where one is not known, an image counts as a patient.

    Returns
    -------
    counts : pandas.DataFrame
        `finding, before, after, images_n, patients_n`, a row for each change that occurs, in the order of the
        findings and of `STATES`; images that are in one version alone have a word of `ONE_SIDED` on the other side.
    labels : pandas.DataFrame
        `image_id, patient_id, finding, before, after`, a row for each label that changed.

    Raises
    ------
    ValueError
        If the findings differ: a column that is in one version alone is no change of a label.
    """
    for here, other, which in ((first, second, "second"), (second, first, "first")):
        lacking = [str(finding) for finding in here if finding not in other]
        if lacking:
            raise ValueError(
                f"The {which} version has no {', '.join(lacking)}: versions of one label set have the same findings, "
                "so give it the column (empty where not assessed), or compare files with it left out."
            )
    ids = first.index.union(second.index, sort=True)
    known = pd.Series(ids, ids, dtype="string") if patient is None else patient.reindex(ids).astype("string")
    known = known.fillna(pd.Series(ids, ids, dtype="string"))
    before, after = (states(table).reindex(ids) for table in (first, second[list(first)]))
    before, after = before.fillna(ONE_SIDED[0]), after.fillna(ONE_SIDED[1])
    found = []
    for finding in first:
        differs = (before[finding] != after[finding]).to_numpy(bool)
        found.append(
            pd.DataFrame(
                {
                    "image_id": ids[differs],
                    "patient_id": known[differs].to_numpy(),
                    "finding": finding,
                    "before": before[finding][differs].to_numpy(),
                    "after": after[finding][differs].to_numpy(),
                }
            )
        )
    labels = pd.concat(found, ignore_index=True)
    counted = labels.groupby(["finding", "before", "after"]).agg(
        images_n=("image_id", "size"), patients_n=("patient_id", "nunique")
    )
    order = [(f, a, b) for f in first for a in (*STATES, ONE_SIDED[0]) for b in (*STATES, ONE_SIDED[1])]
    at = [each for each in order if each in counted.index]
    counts = counted.reindex(pd.MultiIndex.from_tuples(at, names=counted.index.names)) if at else counted
    return counts.astype(np.int64).reset_index(), labels
