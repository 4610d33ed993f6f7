"""Where things are: one root, found from the working directory, and nothing absolute stored."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cxrlib.base import whole_files

if TYPE_CHECKING:
    from collections.abc import Mapping


def find_root(start: Path | str | None = None) -> Path:
    """Return the nearest folder at or above `start` that holds `dvc.yaml` and `params.yaml`.

    papermill runs notebooks in the caller's folder, JupyterLab and nbval in the notebook's own; both
    find the same root. Outside any checkout, the one that this package was installed from is returned.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").exists() and (folder / "params.yaml").exists():
            return folder
    return Path(__file__).resolve().parents[2]


ROOT = find_root()


def cohort_dir(cohort: str) -> Path:
    """Return the folder of a packed cohort."""
    return ROOT / "data" / "cohorts" / cohort


def label_sets_dir(cohort: str, labeler: str = "") -> Path:
    """Return the folder of a cohort's label sets; those that hang on a trained labeler have one of its name."""
    return ROOT / "data" / (f"label_sets_{labeler}" if labeler else "label_sets") / cohort


def label_set_path(cohort: str, label_set: str) -> Path:
    """Return the table of a label set; its card lies beside it as `.yaml`."""
    by_bert = label_sets_dir(cohort, "bert") / f"{label_set}.parquet"
    return by_bert if by_bert.exists() else label_sets_dir(cohort) / f"{label_set}.parquet"


def split_path(edition: str, name: str = "main") -> Path:
    """Return a split table of an edition's training cohort."""
    return ROOT / "data" / "splits" / edition / f"{name}.parquet"


def targets_dir(edition: str, labeler: str = "") -> Path:
    """Return the folder of training tables; those that hang on a trained labeler have one of its name."""
    return ROOT / "data" / (f"targets_{labeler}" if labeler else "targets") / edition


def target_path(edition: str, target: str) -> Path:
    """Return the training table of one target, of notebook 04 or of the visual labeler (notebook 13)."""
    folders = targets_dir(edition, "bert"), visual_labels_path(edition, target).parent, targets_dir(edition)
    tables = [folder / f"{target}.parquet" for folder in folders]
    return next((table for table in tables if table.exists()), tables[-1])


def label_noise_path() -> Path:
    """Return the table of measured label noise (notebook 02)."""
    return ROOT / "data" / "label_noise.csv"


def labeler_dir(name: str) -> Path:
    """Return the folder of a trained report labeler (notebooks 12 and 13)."""
    return ROOT / "data" / "labelers" / name


def cases_path(edition: str, cohort: str, split: str = "main") -> Path:
    """Return the case table of a cohort, of the images of a split's validation and test parts."""
    return ROOT / "data" / "cases" / edition / f"{cohort if split == 'main' else f'{cohort}-{split}'}.parquet"


def map_scores_path(edition: str, name: str) -> Path:
    """Return a table of the scores of an edition's saliency maps (notebook 14)."""
    return ROOT / "data" / "map_scores" / edition / f"{name}.parquet"


def visual_labels_path(edition: str, name: str) -> Path:
    """Return a table of what the visual labeler says (notebook 13)."""
    return ROOT / "data" / "visual_labels" / edition / f"{name}.parquet"


def to_read(path: Path) -> Path:
    """Return a file of `data/<kind>/<edition>/`, or where a clone lacks it its copy in `results/<edition>/<kind>/`.

    Raises
    ------
    FileNotFoundError
        If it is in neither place.
    """
    kind, edition, name = path.relative_to(ROOT / "data").parts
    copy = ROOT / "results" / edition / kind / name
    if path.exists() or copy.exists():
        return path if path.exists() else copy
    raise FileNotFoundError(f"data/{kind}/{edition}/{name} is not here: run `make repro EDITION={edition}` first.")


def results_dir(*parts: str) -> Path:
    """Return (and make) a folder below `results/`: of an edition and a study, or of what no edition changes."""
    folder = ROOT.joinpath("results", *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_dir(edition: str, target: str, architecture: str, seed: int) -> Path:
    """Return the folder of one run; whoever writes it makes it."""
    return ROOT / "results" / edition / "runs" / target / f"{architecture}-{seed}"


def predictions_dir(edition: str, cohort: str) -> Path:
    """Return (and make) the folder of what an edition's runs predicted of a cohort that is not their own."""
    return partial_dir("predictions", edition, cohort)


def code_path(notebook: str) -> Path:
    """Return the file that says what a notebook computes: its code, and that of every module it hangs on."""
    return ROOT / "data" / "code" / f"{notebook}.txt"


def partial_dir(*parts: str) -> Path:
    """Return (and make) a folder for unfinished work, which outlives an interrupted stage.

    DVC deletes a stage's outputs before it runs the stage, so half-packed cohorts and training
    checkpoints are kept here until they are whole.
    """
    folder = ROOT.joinpath("data", "partial", *parts)
    with whole_files.naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def sources_dir() -> Path:
    """Return the folder of tables that `cxr fetch` fetched, for those who have no `$CXR_DATA`."""
    return ROOT / "data" / "sources"


def source_path(path: Path | str) -> Path:
    """Return a source path of `params.yaml`: absolute, or below `$CXR_DATA`, `data/sources` or the root.

    Raises
    ------
    FileNotFoundError
        If it is in none of these places; the message says where it was looked for.
    """
    path = Path(path).expanduser()
    data = os.environ.get("CXR_DATA")
    bases = [Path(data)] if data else []
    tried = [path] if path.is_absolute() else [base / path for base in (*bases, sources_dir(), ROOT)]
    for candidate in tried:
        if candidate.exists():
            return candidate
    where = " or ".join(str(p) for p in tried)
    hint = "" if data or path.is_absolute() else " (the environment variable CXR_DATA is not set)"
    raise FileNotFoundError(
        f"{path} was not found at {where}{hint}: check its name; docs/data.md says who has published data."
    )


def third_party(name: str) -> Path:
    """Return a table of others that this repository holds, by its place in `third_party/`.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    path = ROOT / "third_party" / name
    if not path.exists():
        raise FileNotFoundError(
            f"third_party/{name} is not here: it is in every clone of the repository, where `git checkout "
            "third_party` restores it, and not in the package."
        )
    return path


def link_sources(tables: Mapping[str, Mapping[str, str]], root: Path = ROOT) -> None:
    """Make links through which DVC watches files outside the checkout without naming this machine.

    `data/cxr` leads to `$CXR_DATA`, and `data/own_tables/<cohort>/` to the tables that label sets are read from.

    Parameters
    ----------
    tables : Mapping of str to Mapping of str to str
        By cohort and label set (`editions.own_tables`).
    root : Path

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    """
    links = {}
    if os.environ.get("CXR_DATA"):
        links[root / "data" / "cxr"] = Path(os.environ["CXR_DATA"]).resolve()
    for cohort, files in tables.items():
        folder = root / "data" / "own_tables" / cohort
        links |= {folder / f"{name}{Path(file).suffix}": source_path(file).resolve() for name, file in files.items()}
        for old in set(folder.glob("*")) - set(links):
            old.unlink()
    for link, to in links.items():
        if not link.is_symlink() or link.resolve() != to:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(to)


def watched_source(path: Path | str) -> str:
    """Return a source path as DVC is to watch it: absolute, below the root, or by way of `data/cxr`."""
    path = Path(path).expanduser()
    if path.is_absolute():
        return str(path)
    for base in (Path("data") / "sources", Path()):
        if (ROOT / base / path).exists():
            return (base / path).as_posix()
    return (Path("data") / "cxr" / path).as_posix()


def torchxrayvision_data(name: str) -> Path:
    """Return a data file that the torchxrayvision package ships, without importing the package."""
    spec = importlib.util.find_spec("torchxrayvision")
    path = Path(spec.submodule_search_locations[0]) / "data" / name  # type: ignore[union-attr, index]
    if not path.exists():
        raise FileNotFoundError(f"{name} is not in torchxrayvision's data folder: reinstall requirements.txt.")
    return path
