"""Where things are: one root, found from the working directory, and nothing absolute stored."""

import importlib.util
import os
from pathlib import Path


def find_root(start=None):
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


def cohort_dir(cohort):
    """Return the folder of a packed cohort."""
    return ROOT / "data" / "cohorts" / cohort


def label_set_path(cohort, label_set):
    """Return the table of a label set; its card lies beside it as `.yaml`."""
    return ROOT / "data" / "label_sets" / cohort / f"{label_set}.parquet"


def split_path(edition, name="main"):
    """Return a split table of an edition's training cohort."""
    return ROOT / "data" / "splits" / edition / f"{name}.parquet"


def target_path(edition, target):
    """Return the training table of one target; the visual labeler's, made later, lies in a folder of its own."""
    later = ROOT / "data" / "targets_visual" / edition / f"{target}.parquet"
    return later if later.exists() else ROOT / "data" / "targets" / edition / f"{target}.parquet"


def label_noise_path():
    """Return the table of measured label noise (notebook 02)."""
    return ROOT / "data" / "label_noise.csv"


def labeler_dir(name):
    """Return the folder of a trained report labeler (notebooks 12 and 13)."""
    return ROOT / "data" / "labelers" / name


def cases_path(edition, cohort, split="main"):
    """Return the case table of a cohort, of the images of a split's validation and test parts."""
    name = cohort if split == "main" else f"{cohort}-{split}"
    return results_dir(edition, "cases") / f"{name}.parquet"


def results_dir(edition, *parts):
    """Return (and make) a folder below `results/<edition>/`."""
    folder = ROOT.joinpath("results", edition, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_dir(edition, target, architecture, seed):
    """Return the folder of one run; whoever writes it makes it."""
    return ROOT / "results" / edition / "runs" / target / f"{architecture}-{seed}"


def predictions_dir(edition, cohort):
    """Return (and make) the folder of what an edition's runs predicted of a cohort that is not their own."""
    return partial_dir("predictions", edition, cohort)


def code_path(notebook):
    """Return the file that says what a notebook computes: its code, and that of every module it hangs on."""
    return ROOT / "data" / "code" / f"{notebook}.txt"


def partial_dir(*parts):
    """Return (and make) a folder for unfinished work, which outlives an interrupted stage.

    DVC deletes a stage's outputs before it runs the stage, so half-packed cohorts and training
    checkpoints are kept here until they are whole.
    """
    folder = ROOT.joinpath("data", "partial", *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sources_dir():
    """Return the folder of tables that `cxr fetch` fetched, for those who have no `$CXR_DATA`."""
    return ROOT / "data" / "sources"


def source_path(path):
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
    raise FileNotFoundError(f"{path} was not found at {where}{hint}: see docs/data.md for who has it.")


def link_sources(root=ROOT):
    """Make `data/cxr` a link to `$CXR_DATA`, through which DVC watches source files without naming this machine."""
    link, data = root / "data" / "cxr", os.environ.get("CXR_DATA")
    if not data or (link.is_symlink() and link.resolve() == Path(data).resolve()):
        return
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(Path(data).resolve())


def watched_source(path):
    """Return a source path as DVC is to watch it: absolute, below the root, or by way of `data/cxr`."""
    path = Path(path).expanduser()
    if path.is_absolute():
        return str(path)
    for base in (Path("data") / "sources", Path()):
        if (ROOT / base / path).exists():
            return (base / path).as_posix()
    return (Path("data") / "cxr" / path).as_posix()


def torchxrayvision_data(name):
    """Return a data file that the torchxrayvision package ships, without importing the package."""
    spec = importlib.util.find_spec("torchxrayvision")
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    if not path.exists():
        raise FileNotFoundError(f"{name} is not in torchxrayvision's data folder: reinstall requirements.txt.")
    return path
