"""One image of a cohort by its id: out of the packed store, or painted again where nothing is packed."""

from functools import lru_cache

from cxrlib.base import paths
from cxrlib.cohorts import sources, store


@lru_cache(maxsize=4)
def _opened(cohort):
    return store.open_store(cohort)


@lru_cache(maxsize=4)
def _source(settings):
    source = sources.open_source(dict(settings))
    return source, {image_id: i for i, image_id in enumerate(source.table["image_id"])}


def pixels_of(settings, cohort, image_id):
    """Return one image of a cohort, (size_px, size_px) uint8, as networks see it.

    It comes from `data/cohorts/<cohort>/`. Where that is not packed, an image of a simulated cohort is painted again,
    pixel for pixel the same.

    Parameters
    ----------
    settings : Mapping
        Of an edition, as `editions.compose` returns them.
    cohort, image_id : str

    Raises
    ------
    FileNotFoundError
        If images of patients are not packed here.
    KeyError
        If the cohort has no such image.
    """
    if (paths.cohort_dir(cohort) / "images.parquet").exists():
        packed = _opened(cohort)
        return packed.images[packed.rows([image_id])[0]]
    entry = settings["cohorts"][cohort]
    if entry["source"] != "simulated":
        raise FileNotFoundError(
            f"data/cohorts/{cohort} is not here, and its images cannot be painted: run "
            "`make repro STAGES=cohort` first."
        )
    source, rows = _source(tuple(sorted({"size_px": settings["size_px"], **entry}.items())))
    if image_id not in rows:
        raise KeyError(f"Cohort {cohort} has no image {image_id!r}.")
    return source.read(rows[image_id]).square
