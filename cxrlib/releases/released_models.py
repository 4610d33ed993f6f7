"""The trained models that this repository gives out (`models/`): what each is, whether it is whole, and fetching.

`models.yaml` names every file with its size and SHA-256. A model is opened only if its files have these, and no file
is one that Python unpickles: weights are safetensors, tables Parquet, the rest JSON.
"""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from cxrlib.base import bounded, paths, records
from cxrlib.releases import cards, downloads

MODELS_FILE = "models.yaml"

IMAGE_NETWORK, ARCHIVE_READER, REPORT_LABELER = "image network", "archive reader", "report labeler"
MODEL_KINDS = {
    IMAGE_NETWORK: ("model.safetensors", "run.json"),
    ARCHIVE_READER: (
        "reading.json",
        "topics.safetensors",
        "findings.safetensors",
        "joint.safetensors",
        "reports.parquet",
    ),
    REPORT_LABELER: ("labeler.json", "difference.safetensors"),
}
_ENDINGS = (".safetensors", ".parquet", ".json")
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_SLACK_BYTES = 2**20  # beyond which a file is not even read to the end
_OTHER = "is not the file that was released: its SHA-256 differs; it is not kept"


@dataclass(frozen=True)
class ReleasedModel:
    """A model of a release, which may or may not be whole on this disk.

    Attributes
    ----------
    name : str
        Of its folder; of an image network the run's key, as `pneumothorax_radiologist-test_resnet-1`.
    kind : str
        A key of `MODEL_KINDS`.
    about : dict
        What `models.yaml` says of it besides: `summary`, `trained_on`, `edition`, and what the kind needs.
    files : dict
        File name to `sha256` and `bytes`.
    folder : Path
    version : int
        Of the release.
    """

    name: str
    kind: str
    about: dict
    files: dict
    folder: Path
    version: int

    @property
    def said(self):
        """What a command that uses the model says first."""
        return (
            f"The model is {self.name} of the release in {self.folder.parent} (version {self.version}), trained on "
            f"{self.about['trained_on']}: not for patients."
        )


def models_dir():
    """Return where released models lie: `models/` of a checkout, else the user's cache folder of cxrlib."""
    here = paths.ROOT / "models"
    checkout = (here / MODELS_FILE).is_file() or (paths.ROOT / "dvc.yaml").is_file()
    return here if checkout else Path(pooch.os_cache("cxrlib")) / "models"


def read_models(folder=None):
    """Return the models of a release, by name, in its order; their files are not looked at.

    Parameters
    ----------
    folder : Path, optional
        `models_dir()` if not given.

    Raises
    ------
    FileNotFoundError
        If the folder has no `models.yaml`.
    ValueError
        In one sentence that names file and entry, if an entry is not as it has to be.
    """
    folder = models_dir() if folder is None else Path(folder)
    path = folder / MODELS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {MODELS_FILE}: restore it by `git checkout models`, or get the models by "
            "`cxr fetch models --from ADDRESS`."
        )
    whole = cards.read_entries(path)
    cards.check_fields(whole, ("version", "models"), (), str(path))
    version, models = whole["version"], whole["models"]
    if type(version) is not int or not isinstance(models, dict) or not models:
        raise ValueError(f"{path}: 'version' is a whole number, and 'models' holds a model each by its name.")
    for name, entry in models.items():
        _check_model(name, entry, f"{path}, model {name!r}")
    return {
        name: ReleasedModel(
            name,
            entry["kind"],
            {key: value for key, value in entry.items() if key not in ("kind", "files")},
            entry["files"],
            folder / name,
            version,
        )
        for name, entry in models.items()
    }


def _check_model(name, entry, where):
    """Raise a ValueError unless an entry has what is needed, and names files that may be written into its folder."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {entry!r}; write its fields below it.")
    for field in ("kind", "summary", "trained_on", "edition", "files"):
        if field not in entry:
            raise ValueError(f"{where} lacks {field!r}.")
    cards.check_texts(entry, ("summary", "trained_on", "edition"), where)
    if not (isinstance(name, str) and re.fullmatch(_NAME, name)):
        raise ValueError(f"{where}: a name is letters, digits, '_', '-' and '.', and begins with a letter or digit.")
    if entry["kind"] not in MODEL_KINDS:
        raise ValueError(f"{where}: 'kind' is {entry['kind']!r}; there are {', '.join(MODEL_KINDS)}.")
    files = entry["files"] if isinstance(entry["files"], dict) else {}
    for file in MODEL_KINDS[entry["kind"]]:
        if file not in files:
            raise ValueError(f"{where} lacks the file {file}, which a model of this kind needs.")
    for file, pinned in files.items():
        if not (isinstance(file, str) and re.fullmatch(_NAME, file) and file.endswith(_ENDINGS)):
            raise ValueError(f"{where}: file {file!r} is no plain name that ends in {', '.join(_ENDINGS)}.")
        sha256, size = (pinned.get(key) if isinstance(pinned, dict) else None for key in ("sha256", "bytes"))
        if not (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) and type(size) is int and size > 0):
            raise ValueError(f"{where}: file {file!r} needs 'sha256', 64 hexadecimal digits, and 'bytes', its size.")


def damage(model, file):
    """Return what is wrong with one file of a model, in a sentence without a full stop; None if it is whole."""
    path, pinned = model.folder / file, model.files[file]
    if not path.is_file():
        return f"{path} is missing"
    if path.stat().st_size != pinned["bytes"]:
        return f"{path} has {path.stat().st_size} bytes, and {MODELS_FILE} says {pinned['bytes']}"
    if records.sha256(path) != pinned["sha256"]:
        return f"{path} is not the file that was released: its SHA-256 differs from the one in {MODELS_FILE}"
    return None


def find_model(name=None, kind=None, folder=None):
    """Return a released model, each of whose files is there and has the size and SHA-256 of the release.

    Parameters
    ----------
    name : str, optional
        The first of its kind if not given.
    kind : str, optional
        That it has to be of.
    folder : Path, optional
        Of the release; `models_dir()` if not given.

    Raises
    ------
    FileNotFoundError
        If there is no release.
    ValueError
        If there is no such model, or one of its files is missing or another one; the file is named.
    """
    models = {key: model for key, model in read_models(folder).items() if kind in (None, model.kind)}
    name = next(iter(models), None) if name is None else name
    if name not in models:
        raise ValueError(f"There is no released {kind or 'model'} {name!r}; there are {', '.join(models) or 'none'}.")
    for file in models[name].files:
        wrong = damage(models[name], file)
        if wrong is not None:
            raise ValueError(
                f"{wrong}: restore it by `git checkout models`, or by `cxr fetch models --from ADDRESS`."
            )
    return models[name]


def is_released(name, folder=None):
    """Return whether there is a release that has a model of this name."""
    folder = models_dir() if folder is None else folder
    return (folder / MODELS_FILE).is_file() and name in read_models(folder)


def _is_address(source):
    return urlsplit(source).scheme in ("http", "https")


def _get(source, name, to, most_bytes, sha256=None):
    """Put one file of a mirror, a folder or an address, at `to`; raise an OSError or ValueError with the reason."""
    if _is_address(source):
        address = f"{source.rstrip('/')}/{name}"
        try:
            known, limited = sha256 and f"sha256:{sha256}", downloads.at_most(most_bytes)
            pooch.retrieve(address, known, fname=to.name, path=to.parent, downloader=limited)
        except requests.HTTPError as error:
            raise OSError(f"{address} cannot be fetched (status {error.response.status_code})") from None
        except requests.RequestException as error:
            raise OSError(f"{address} cannot be fetched ({' '.join(str(error).split())[:120]})") from None
        except bounded.TooLargeError as error:
            raise ValueError(f"{address} is not the file that was released: {error}; it is not kept") from None
        except ValueError:  # pooch's word for another SHA-256; it keeps nothing then
            raise ValueError(f"{address} {_OTHER}") from None
        return
    path = Path(source).expanduser() / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    reason = bounded.hindrance(path, most_bytes)
    if reason is not None:
        raise OSError(f"{path} is not taken, since {reason}")
    if sha256 is not None and records.sha256(path) != sha256:
        raise ValueError(f"{path} {_OTHER}")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as aside:
        shutil.copyfile(path, Path(aside) / to.name)
        (Path(aside) / to.name).replace(to)


def fetch_models(source, folder=None):
    """Bring every file that is missing or damaged from a mirror of the release; say which, and what failed.

    The `models.yaml` that is here decides what the files have to be. Only where there is none is the mirror's taken.

    Parameters
    ----------
    source : str
        A folder, or an http or https address, that holds `models.yaml` and the models' folders.
    folder : Path, optional
        Where the release is to lie; `models_dir()` if not given.

    Returns
    -------
    bool
        Whether every model is whole in the end.

    Raises
    ------
    OSError, ValueError
        If the mirror has no `models.yaml` where it is needed, or that file is not as it has to be.
    """
    folder = models_dir() if folder is None else Path(folder)
    if (folder / MODELS_FILE).is_file():
        return _fetch_files(source, read_models(folder))
    with tempfile.TemporaryDirectory() as aside:
        listed = Path(aside) / MODELS_FILE
        try:
            _get(source, MODELS_FILE, listed, downloads.LIST_BYTES)
        except OSError as error:
            raise OSError(f"{error}: --from is to name the folder or address that holds {MODELS_FILE}.") from None
        read_models(listed.parent)
        print(f"{MODELS_FILE} is the mirror's (SHA-256 {records.sha256(listed)}): compare it with another source.")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(listed, folder / MODELS_FILE)
    return _fetch_files(source, read_models(folder))


def _fetch_files(source, models):
    whole = True
    for model in models.values():
        fetched, failed = 0, []
        for file, pinned in model.files.items():
            if damage(model, file) is None:
                continue
            try:
                _get(
                    source,
                    f"{model.name}/{file}",
                    model.folder / file,
                    pinned["bytes"] + _SLACK_BYTES,
                    pinned["sha256"],
                )
                fetched += 1
            except (OSError, ValueError) as error:
                failed.append(error)
        here_n = len(model.files) - fetched - len(failed)
        print(f"{model.name}: {here_n} of {len(model.files)} files were here, {fetched} fetched.")
        for problem in failed:
            print(f"  {problem}.")
        whole = whole and not failed
    return whole


def list_models(folder=None):
    """Print what the release holds, where it lies and what is missing; return whether all of it is whole."""
    folder = models_dir() if folder is None else Path(folder)
    models, whole = read_models(folder), True
    print(f"Released models in {folder}, version {next(iter(models.values())).version}:")
    for model in models.values():
        size = sum(pinned["bytes"] for pinned in model.files.values())
        print(f"{model.name} ({model.kind}, {size / 1e6:.1f} MB): {model.about['summary']}")
        for wrong in filter(None, (damage(model, file) for file in model.files)):
            whole = False
            print(f"  {wrong}.")
    return whole
