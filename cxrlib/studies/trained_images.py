"""What a network was trained on, as a person names it, and whether images that are scored are among it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cxrlib.base import paths, runs, tables
from cxrlib.cohorts import leaks, splits
from cxrlib.releases import catalogue, pixels


def listed_set(name: str) -> tuple[pd.DataFrame, str | None]:
    """Return the images of a set, and the collection that their pixels are of, if that is known.

    Parameters
    ----------
    name : str
        A CSV with the columns `image_id`, and `patient_id` and `split` if there are such; a label set of the
        catalogue; or a packed cohort.

    Returns
    -------
    pandas.DataFrame
        `image_id, patient_id` and, if the set has parts, `split`.
    str or None

    Raises
    ------
    ValueError, OSError
        In one sentence.
    """
    if Path(name).is_dir():
        raise ValueError(
            f"{name} is a folder, which names no patients: give a CSV of its images (image_id, patient_id)."
        )
    if name.lower().endswith(".csv") or Path(name).is_file():
        table = tables.read_csv(Path(name), ("image_id",))
        for column in ("image_id", "patient_id", "split"):
            table[column] = table[column].str.strip() if column in table else pd.NA
        split_of = [] if table["split"].isna().all() else ["split"]
        return table.dropna(subset=["image_id", *split_of])[["image_id", "patient_id", *split_of]], None
    if name in catalogue.ENTRIES:
        return catalogue.read_release(name).images[["image_id", "patient_id"]], pixels.PIXELS[name]
    if (paths.cohort_dir(name) / "images.parquet").exists():
        return _packed(name)
    raise ValueError(
        f"{name} is no CSV, no folder, no name of the catalogue (docs/data.md) and no packed cohort (`make repro`)."
    )


def _packed(cohort: str) -> tuple[pd.DataFrame, str | None]:
    """Return a packed cohort's images, with its split if it is the one that networks train on, and its family."""
    table = pd.read_parquet(paths.cohort_dir(cohort) / "images.parquet")[["image_id", "patient_id"]]
    settings = runs.params()
    if cohort == settings["train_cohort"] and paths.split_path(settings["edition"]).exists():
        split = pd.read_parquet(paths.split_path(settings["edition"])).set_index("image_id")["split"]
        table = table.assign(split=table["image_id"].map(split)).dropna(subset="split")
    return table, splits.pixel_family(settings["cohorts"][cohort]) if cohort in settings["cohorts"] else None


def in_parts(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the images that were trained on, with their `part`: all of a set, or what is not its test part.

    Raises
    ------
    ValueError
        If the set has no image but those of its test part.
    """
    if "split" not in table:
        return table.assign(part=name)
    table = table[table["split"] != "test"]
    if table.empty:
        raise ValueError(f"{name} has no image that is not test.")
    return table.assign(part=f"{name} " + table["split"])


def refuse_trained_on(name: str, images: pd.DataFrame) -> str:
    """Raise a ValueError if images that are scored, or their patients, were trained on, as far as ids tell.

    Parameters
    ----------
    name : str
        What was trained on, as `listed_set` takes it.
    images : pandas.DataFrame
        `image_id` and, where known, `patient_id` of what is scored.

    Returns
    -------
    str
        What else is to be said: that both are of one collection, or nothing.
    """
    table, collection = listed_set(name)
    table = in_parts(table, name)
    scored = images[["image_id", "patient_id"]].assign(part="scored")
    found = leaks.find([leaks.ImageSet(table, collection), leaks.ImageSet(scored)], near=False)
    rest = leaks.refuse_leaks(found, f"a score of a network that was trained on {name}")
    return "".join(f"{leaks.LEAK_KINDS[kind]}.".capitalize() for kind in rest["kind"].unique())
