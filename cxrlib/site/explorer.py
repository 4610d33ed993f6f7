"""The explorer: static pages on which images, labels, probabilities, topics and neighbours can be looked through.

`build(folder)` writes `index.html`, its scripts and style, data files and pictures. The pages need no server and no
network, and open from a disk. Images are simulated; of real label tables there are labels and counts, never a pixel.
"""

import shutil
from pathlib import Path

from cxrlib.base import editions, paths
from cxrlib.cohorts import simulation
from cxrlib.site import (
    explorer_cases,
    explorer_cohort,
    explorer_files,
    explorer_maps,
    explorer_real,
    explorer_space,
    explorer_topics,
)

EDITION = "quick"  # the edition whose images may be shown
MOST_BYTES = 10_000_000  # of the whole folder
_PAGE = Path(__file__).with_name("explorer_page")
_MAPS_N, _MAPS_SEED = 120, 1
_EXAMPLES = "examples.png"  # the committed figure of maps, shown where the networks are not here


def build(folder):
    """Write the explorer into a folder and return its size in bytes by file.

    Parameters
    ----------
    folder : Path
        Made if it is not there; what an earlier build wrote is replaced.

    Returns
    -------
    dict of str to int
        The size of every file below `folder`.

    Raises
    ------
    FileNotFoundError
        If results of the quick edition are not here; the message says which target makes them.
    ValueError
        If they are of another simulation than this code, or the folder holds something other than an explorer.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "explorer.css").exists():
        raise ValueError(f"{folder} holds other files: name an empty folder, or one that `make explorer` has filled.")
    shutil.rmtree(folder, ignore_errors=True)
    data = folder / "data"
    data.mkdir(parents=True)
    for path in sorted(_PAGE.iterdir()):
        shutil.copyfile(path, folder / path.name)
    settings = editions.compose(EDITION, paths.ROOT)
    cohort = settings["train_cohort"]
    cases = explorer_cases.read_cases(EDITION, settings)
    cases[cohort] = explorer_cases.with_visual_labels(cases[cohort], EDITION)
    test = cases[cohort][cases[cohort]["split"] == "test"]
    test_ids = test["image_id"].tolist()
    repeated = explorer_cohort.repeat_cohort(settings, cohort, test_ids)
    explorer_cohort.check_repeated(repeated, test, f"results/{EDITION}/cases/{cohort}.parquet")
    shown = explorer_cohort.cohort_data(repeated, settings, cohort)
    shown["sheets"] = explorer_files.write_sheets(data, "images", repeated.images)
    shown["maps"] = _write_maps(data, repeated.images, shown["boxes"], settings)
    tables = explorer_cases.case_tables_of(settings)
    for name, (of_cohort, _, title) in tables.items():
        hospital = settings["cohorts"][of_cohort]["hospital"]
        explorer_files.write_script(data, f"cases_{name}", explorer_cases.case_data(cases[name], title, hospital))
    explorer_files.write_script(data, "cohort", shown)
    explorer_files.write_script(data, "space", explorer_space.space_data(EDITION, test_ids))
    topics = {"real": explorer_topics.real_topics(), "archive": explorer_topics.archive_topics(EDITION, test_ids)}
    explorer_files.write_script(data, "topics", {**topics, "tables": explorer_topics.study_tables(EDITION)})
    explorer_files.write_script(data, "real", explorer_real.real_data())
    about = {
        "cohort": cohort,
        "cases": {name: title for name, (_, _, title) in tables.items()},
        "label_sets": explorer_cases.label_set_notes(settings),
        "runs": explorer_cases.run_notes(settings),
        "findings": list(simulation.SIMULATED_FINDINGS),
        "missing_label": explorer_files.MISSING_LABEL,
    }
    explorer_files.write_script(data, "about", about)
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    if sum(sizes.values()) > MOST_BYTES:
        raise ValueError(f"The explorer takes {sum(sizes.values())} bytes, more than {MOST_BYTES}: show fewer maps.")
    return sizes


def _write_maps(data, images, boxes, settings):
    """Write the sheets of saliency maps and return what the page says of them."""
    folders = explorer_maps.map_networks(EDITION, settings)
    if not folders:
        examples = paths.ROOT / "results" / EDITION / "map_scores" / _EXAMPLES
        if examples.exists():
            shutil.copyfile(examples, data / _EXAMPLES)
        return {"names": [], "images": [], "examples": _EXAMPLES if examples.exists() else None}
    chosen = explorer_maps.mapped_images(boxes, _MAPS_N, _MAPS_SEED)
    names, tiles = explorer_maps.coloured_maps(folders, images[chosen])
    sheets = explorer_files.write_sheets(data, "maps", tiles)
    return {"names": names, "images": chosen.tolist(), "sheets": sheets, "examples": None}


def size_sentence(sizes):
    """Return in a sentence what was written, for a command to print."""
    pictures = sum(size for name, size in sizes.items() if name.endswith((".webp", ".png")))
    return f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, {pictures / 1e6:.1f} MB of it pictures."
