"""Compare the tables here with those that are committed: `cxr verify` (`make verify`), after `make repro`.

Every CSV and JSON below `results/` that git tracks is compared number by number with its committed version. A number
is equal, within tolerance, or outside. The same processor gives the same bytes; another one rounds differently, and
what a network then learns differs as two training seeds differ. So the tolerance of what trained networks give is the
spread over seeds (`seed_range`) in the edition's own committed table of AUCs, its 95 % quantile over rows; what comes
of label tables alone must be equal to six digits. p values of trained networks are left out: no spread of an AUC says
how far a p may move. Exit status 1 if anything is outside or missing.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxrlib.base import paths

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_EXACT = 1e-6  # relative, of tables that no network has a part in
# Tables that come of label tables alone.
_OF_LABELS = (
    "catalogue",
    "audit",
    "readers",
    "rankings",
    "statistics",
    "two_references",
    "references",
    "adjudication",
    "cleaning",
    "reader_models",
    "chexbert",
    "transport",
    "matched",
)
_UNTRAINED = tuple(f"results/{name}/" for name in _OF_LABELS)
_SPREAD = "pneumothorax/table.csv"  # of an edition: AUCs with `seed_range`
_LEAST_TOLERANCE = 0.02  # where an edition has no spread over seeds to go by


@dataclass(frozen=True)
class Compared:
    """How a table's numbers compare with the committed ones.

    Attributes
    ----------
    name : str
    equal_n, within_n, outside_n : int
    worst : float
        The largest absolute difference; 0 if all are equal.
    where : str
        Of the worst number.
    problem : str
        What cannot be compared; empty if nothing.
    """

    name: str
    equal_n: int = 0
    within_n: int = 0
    outside_n: int = 0
    worst: float = 0.0
    where: str = ""
    problem: str = ""


def _compare_tables(name, committed, here, tolerance):
    """Return how two tables of one name compare.

    Parameters
    ----------
    name : str
    committed, here : pandas.DataFrame
    tolerance : float
        Absolute, of numbers whose committed value lies in [-1, 1]; relative of larger ones.

    Returns
    -------
    Compared
    """
    if list(committed.columns) != list(here.columns) or len(committed) != len(here):
        shapes = f"{len(committed)} x {committed.shape[1]} committed, {len(here)} x {here.shape[1]} here"
        return Compared(name, problem=f"rows or columns differ ({shapes})")
    equal = within = outside = 0
    worst, where = 0.0, ""
    for column in committed:
        if tolerance > _EXACT and (column == "p" or column.startswith("p_")):
            continue
        a, b = committed[column], here[column]
        if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
            a, b = a.to_numpy(float), b.to_numpy(float)
            gap = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b))
            allowed = tolerance * np.maximum(1.0, np.abs(np.nan_to_num(a)))
        else:
            gap = np.array([_text_gap(*pair) for pair in zip(a.astype("string"), b.astype("string"), strict=True)])
            allowed = np.full(len(gap), tolerance)
        gap = np.where(np.isnan(gap), np.inf, gap)
        equal += int((gap == 0).sum())
        within += int(((gap > 0) & (gap <= allowed)).sum())
        outside += int((gap > allowed).sum())
        if len(gap) and gap.max() > worst:
            worst, where = float(gap.max()), f"row {int(gap.argmax()) + 1}, {column}"
    return Compared(name, equal, within, outside, worst, where)


def _text_gap(one, other):
    """Return the largest difference between the numbers in two texts; infinite if the words around them differ."""
    one, other = ("" if pd.isna(text) else text for text in (one, other))
    if one == other:
        return 0.0
    if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
        return np.inf
    return max(abs(float(a) - float(b)) for a, b in zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True))


def _tolerance_of(name, committed_text):
    """Return the tolerance of a table: six digits, or the spread over seeds of its edition.

    Parameters
    ----------
    name : str
        Its path below the root.
    committed_text : Callable
        Path to committed text, None if git does not track it.
    """
    if name.startswith(_UNTRAINED):
        return _EXACT
    text = committed_text(f"results/{name.split('/')[1]}/{_SPREAD}")
    if text is None:
        return _LEAST_TOLERANCE
    spread = pd.read_csv(io.StringIO(text))["seed_range"].dropna()
    return max(_LEAST_TOLERANCE, float(spread.quantile(0.95))) if len(spread) else _LEAST_TOLERANCE


def _table(text, name):
    """Return a CSV or a flat JSON as a data frame."""
    if name.endswith(".json"):
        return pd.json_normalize(json.loads(text), sep=".")
    return pd.read_csv(io.StringIO(text))


def _git(root, *words):
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def verify(root=None, revision="HEAD"):
    """Return how every tracked table below `results/` compares with its version in a git revision."""
    root = root or paths.ROOT
    tracked = _git(root, "ls-tree", "-r", "--name-only", revision, "results/")
    if tracked is None:
        raise ValueError(f"{root} is no git checkout with the revision {revision}: there is nothing to compare with.")

    def committed_text(name):
        return _git(root, "show", f"{revision}:{name}")

    out = []
    for name in tracked.splitlines():
        if not name.endswith((".csv", ".json")):
            continue
        if not (root / name).exists():
            out.append(Compared(name, problem="it is not here"))
            continue
        try:
            here = _table((root / name).read_text(encoding="utf-8"), name)
        except (ValueError, NotImplementedError, AttributeError, OSError) as error:  # of pandas, of other JSON
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            out.append(Compared(name, problem=f"it cannot be read ({reason}): git checkout {name}"))
            continue
        committed = _table(committed_text(name), name)
        out.append(_compare_tables(name, committed, here, _tolerance_of(name, committed_text)))
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="cxr verify", description=__doc__.splitlines()[0])
    parser.add_argument("--revision", default="HEAD", help="what to compare with")
    chosen = parser.parse_args(arguments)
    try:
        found = verify(revision=chosen.revision)
    except ValueError as error:
        sys.exit(str(error))
    for each in found:
        if each.problem:
            print(f"{each.name}: {each.problem}")
        elif each.within_n or each.outside_n:
            told = f"{each.equal_n} equal, {each.within_n} within tolerance, {each.outside_n} outside"
            print(f"{each.name}: {told}; worst {each.worst:.3g} at {each.where}")
    bad = [each for each in found if each.problem or each.outside_n]
    counts = {name: sum(getattr(each, name) for each in found) for name in ("equal_n", "within_n", "outside_n")}
    print(
        f"{len(found)} tables: {counts['equal_n']} numbers and words equal, {counts['within_n']} within tolerance, "
        f"{counts['outside_n']} outside"
    )
    if bad:
        worst = max(bad, key=lambda each: (bool(each.problem), each.worst))
        sys.exit(f"{len(bad)} tables differ; the worst: {worst.name}, {worst.problem or worst.where}")
    print("The tables here are those that are committed.")


if __name__ == "__main__":
    main()
