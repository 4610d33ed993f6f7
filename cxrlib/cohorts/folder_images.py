"""The images of a folder, packed only to be looked at: compared with others, and thrown away."""

import pandas as pd

from cxrlib.base import tables
from cxrlib.cohorts import image_files, packing, sources, store


def images_below(folder):
    """Return the paths of the images below a folder, relative to it and sorted, a list of str.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    ValueError
        If there is none.
    """
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and image_files.is_image(path)
    )
    if not found:
        raise ValueError(f"{folder} holds no image ({', '.join(image_files.SUFFIXES)}).")
    return found


def packed_below(folder, image_ids, work, size_px):
    """Return a store of images of a folder; those that cannot be read are not in it.

    Parameters
    ----------
    folder : Path
    image_ids : sequence of str
        As an edition of one's own finds them: paths below the folder, or names of files. No id twice.
    work : Path
        A folder that is not there yet; the store lies in it.
    size_px : int

    Returns
    -------
    store.Store
        Every image as if it were a patient of its own.
    """
    work.mkdir()
    table = work / "images.csv"
    tables.write_csv(pd.DataFrame({"image_id": image_ids, "patient_id": image_ids}), table)
    source = sources.own_folder(size_px=size_px, folder=str(folder.resolve()), table=str(table))
    packing.pack(source, work / "store", work / "unfinished", size_px=size_px)
    return store.open_store(work / "store")
