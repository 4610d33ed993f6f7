"""Label sets that exist: published, shipped with the images, or one's own."""

from cxrlib.base import label_tables, own_tables, paths
from cxrlib.releases import catalogue


def published(store, name, readers=None):
    """Return a published label set (`cxrlib.releases.catalogue`) on the images of the cohort that it has.

    Parameters
    ----------
    store : cohorts.Store
    name : str
        A key of `catalogue.ENTRIES`.
    readers : {"unanimous"}, optional
        What becomes of several readers an image: only what all of them say is a label.

    Raises
    ------
    ValueError
        If several readers label each image and `readers` is not given, or no image of the cohort is in the set.
    """
    found = catalogue.read_release(name)
    table = found.table
    if "reader_id" in table:
        if readers != "unanimous":
            single = ", ".join(n for n in catalogue.names() if not catalogue.ENTRIES[n].readers)
            raise ValueError(
                f"{name!r} has several readers an image: say readers: unanimous, or take one with one label an image "
                f"({single})."
            )
        by_image = table.drop(columns="reader_id").groupby("image_id")
        table = by_image.min().where(by_image.min() == by_image.max()).reset_index()
    inside = table["image_id"].isin(store.index["image_id"])
    if not inside.any():
        raise ValueError(
            f"None of the {len(inside)} images of {name!r} is in cohort {store.name!r}: it labels "
            f"{found.card['pixels']} images under the owner's ids."
        )
    card = {field: found.card[field] for field in (*label_tables.CARD_FIELDS, "pixels")}
    if "reader_id" in found.table:
        card["how"] = f"{card['how']}; here only what all readers of an image say alike"
    return table[inside].reset_index(drop=True), {**card, "published": name, "notes": list(found.notes)}


def shipped(store, **card):
    """Return the labels that came with the images (`folder`, torchxrayvision), with the user's card."""
    if len(store.labels.columns) < 2:
        raise ValueError(f"Cohort {store.name!r} came without labels: its source has no column of the vocabulary.")
    return store.labels.copy(), card


def own(store, path, **card):
    """Return a label set of one's own: one CSV with a column of image ids and a column per finding.

    What it may be is said by `own_tables.read_own`. Rows of images that the cohort lacks are counted in the card and
    left out; columns that are not read are named in its notes.
    """
    csv = paths.source_path(path)
    table, _, notes = own_tables.read_own(csv)
    inside = table["image_id"].isin(store.index["image_id"])
    if not inside.any():
        raise ValueError(f"None of the {len(table)} image ids in {csv} is in cohort {store.name!r}.")
    outside_n = int((~inside).sum())
    said = [
        card.get("how", "").rstrip("."),
        f"{outside_n} rows of images not in the cohort left out" if outside_n else "",
    ]
    card["how"] = "; ".join(filter(None, said))
    return table[inside].reset_index(drop=True), card | ({"notes": notes} if notes else {})
