"""Search a split, or test images that are called external, for images and patients that were trained on.

cxr leaks simulated
cxr leaks my_images.csv --images my_images/
cxr leaks my_train.csv their_test.csv --images my_images/ their_images/ --other-hospital --out leaks/
cxr leaks nih_reports siim

One argument has its parts in it: a packed cohort of the edition in force, or a CSV with `image_id`, `split` and, if
known, `patient_id`. Of several, the first was trained on and the others are called external to it: such a CSV (of a
split only what is not test counts as trained on), a cohort, a folder of images, or a name of the catalogue. The exit
status is 0 if nothing is found, 1 if something is, 2 if an argument cannot be used.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxrlib.base import paths, tables
from cxrlib.commands import extras
from cxrlib.studies import trained_images

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIZE_PX = 128  # side of images that are packed only to be compared


def _parser():
    about, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="cxr leaks", description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", metavar="SET", help="a cohort, a CSV, a folder or a name of the catalogue")
    parser.add_argument(
        "--images",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="of the CSVs, in their order: compares pixels",
    )
    parser.add_argument(
        "--other-hospital", action="store_true", help="equal ids in two sets mean nothing: pixels alone are compared"
    )
    parser.add_argument("--out", type=Path, help="folder to write leaks.csv into")
    return parser


def _listed(name):
    """Return `image_id, patient_id` and, if there is one, `split` of a set, and its collection or None."""
    if Path(name).is_dir():
        return _in_folder(Path(name)), None
    extras.check_tables([name])
    return trained_images.listed_set(name)


def _trained_on(name):
    """Return the images of a set that was trained on, with their parts, and its collection or None."""
    table, collection = _listed(name)
    return trained_images.in_parts(table, name), collection


def _in_folder(folder):
    """Return the images of a folder by their paths below it; nothing is known of patients."""
    from cxrlib.cohorts import folder_images

    found = folder_images.images_below(folder)
    return pd.DataFrame(
        {"image_id": pd.array(found, "string"), "patient_id": pd.array([pd.NA] * len(found), "string")}
    )


def _compared(table, folder, work, size_px):
    """Return a store of the images of a table, packed to be compared, and say how many could not be."""
    from cxrlib.cohorts import folder_images

    known = table["image_id"].drop_duplicates()
    packed = folder_images.packed_below(folder, known, work, size_px)
    lost_n = len(known) - len(packed.index)
    if lost_n:
        print(f"{lost_n} of {len(known)} images cannot be read below {folder}: of these only ids are compared.")
    return packed


def _image_sets(chosen, work):
    """Return the sets that the command line names, and print what is in each."""
    from cxrlib.cohorts import leaks, store

    several = len(chosen.sets) > 1
    opened = []
    for i, name in enumerate(chosen.sets):
        if several and i:
            table, collection = _listed(name)
            table = table.assign(part=name)
        elif several:
            table, collection = _trained_on(name)
        else:
            table, collection = _listed(name)
            if "split" not in table:
                raise ValueError(f"{name} has no parts: give a CSV with a column split, or a second set to compare.")
            table = table.assign(part=table["split"])
        opened.append((name, table, collection))
    if several and len({name for name, _, _ in opened}) < len(opened):
        raise ValueError("A set is named twice: give different ones.")
    of_csvs = [name for name in chosen.sets if name.lower().endswith(".csv")]
    folders = dict(zip(of_csvs, chosen.images, strict=False))
    if len(chosen.images) > len(of_csvs):
        raise ValueError(
            f"--images names {len(chosen.images)} folders for {len(of_csvs)} CSVs: one of each, in order."
        )
    packed = {n: store.open_store(n) for n, _, _ in opened if (paths.cohort_dir(n) / "images.npy").exists()}
    size_px = min((one.images.shape[1] for one in packed.values()), default=_SIZE_PX)
    sets = []
    for i, (name, table, collection) in enumerate(opened):
        folder = folders.get(name, Path(name) if Path(name).is_dir() else None)
        if folder is not None:
            packed[name] = _compared(table, folder, work / str(i), size_px)
        told = "ids and pixels" if name in packed else "ids alone"
        print(f"{name}: {len(table)} images, {told}, parts {', '.join(table['part'].unique())}")
        sets.append(leaks.ImageSet(table, collection, packed.get(name)))
    return sets


def _show(found):
    """Print how many leaks of each kind there are, what to do, and the first of each."""
    from cxrlib.cohorts import leaks

    if found.empty:
        print("No leak was found.")
        return
    for kind, part in found.groupby("kind", sort=False):
        print(f"\n{len(part)} x {kind}: {leaks.LEAK_KINDS[kind]}.")
        print(part.head(5).drop(columns="kind").dropna(axis=1, how="all").to_string(index=False))


def _search(chosen):
    from cxrlib.cohorts import leaks

    if chosen.out:
        tables.make_folder(chosen.out)
    with tempfile.TemporaryDirectory() as work:
        found = leaks.find(_image_sets(chosen, Path(work)), one_hospital=not chosen.other_hospital)
    with pd.option_context("display.width", 250, "display.max_columns", 20):
        _show(found)
    if chosen.out:
        tables.write_csv(found, chosen.out / "leaks.csv")
        print(f"written to {chosen.out}: leaks.csv")
    return int(len(found) > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if something leaks, 2 if an argument cannot be used."""
    chosen = _parser().parse_args(arguments)
    try:
        return _search(chosen)
    except BrokenPipeError:  # `cxr` ends quietly when the reader of our output has gone
        raise
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
