"""What each command needs beyond what `pip install cxrlib` brings, and the sentence that says so."""

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator

# The extra of pyproject.toml that holds every package which a command imports.
EXTRAS = {
    "label": "bert",  # the labelers that learned; the rules need none
    "audit": "audit",
    "score": "audit",
    "leaks": "train",
    "privacy": "train",
    "fetch": "audit",
    "explain": "train",
    "read": "train",
    "edition": "paper",
    "push": "paper",
    "pull": "paper",
    "gc": "paper",
    "verify": "paper",
}
_TABLES = "torchxrayvision"  # a package of networks, which also holds most published label tables
# Packages that some inputs of a command need alone, and the extra that holds each: label tables, files kept by DVC.
OF_SOME_INPUTS = {_TABLES: "train", "dvc": "paper"}


@contextlib.contextmanager
def saying_of_both(one: object, other: object) -> Iterator[None]:
    """Say of a ValueError in this context of which two inputs it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{one} and {other}: {error}") from None


def sentence(command: str, module: str) -> str:
    """Return what a command lacks and how it is installed, as one sentence.

    Parameters
    ----------
    command : str
        A key of `EXTRAS`.
    module : str
        Dotted name of the module that could not be imported.
    """
    package = module.partition(".")[0]
    extra = OF_SOME_INPUTS.get(package, EXTRAS[command])
    return f'cxr {command}: the package {package} is not installed: run pip install "cxrlib[{extra}]".'


def check_tables(names: Iterable[str]) -> None:
    """Raise a ModuleNotFoundError if a label set's table lies in a package that is not installed.

    Parameters
    ----------
    names : iterable of str
        Names of the catalogue; what is no such name, as a path is none, is passed over.
    """
    from cxrlib.releases import catalogue  # needs packages of an extra

    wanted = [name for name in names if name in catalogue.ENTRIES and catalogue.ENTRIES[name].package]
    if wanted and importlib.util.find_spec(_TABLES) is None:
        raise ModuleNotFoundError(f"{wanted[0]} lies in {_TABLES}", name=_TABLES)
