"""Whose pixels a release labels: no release of a family is external to another of it."""

from cxrlib.releases import cards

_FAMILIES, _RELEASES = cards.read_releases()


# Whose pixels: by collection, the dataset classes of torchxrayvision, the releases and other tables (`cards.yaml`).
SAME_PIXELS = {
    family: (
        *of["datasets"],
        *(name for name, release in _RELEASES.items() if release["pixels"] == family),
        *of.get("tables", ()),
    )
    for family, of in _FAMILIES.items()
}


PIXELS = {member: family for family, members in SAME_PIXELS.items() for member in (family, *members)}


def same_pixels(a: str, b: str) -> bool:
    """Return whether two label sets (or torchxrayvision dataset classes) are on images of one collection.

    Raises
    ------
    ValueError
        If one of them is in no family of `SAME_PIXELS`.
    """
    for name in (a, b):
        if name not in PIXELS:
            raise ValueError(f"{name!r} is in no family of images; known are {', '.join(PIXELS)}.")
    return PIXELS[a] == PIXELS[b]


def check_not_shared(train_name: str, test_name: str) -> None:
    """Raise a ValueError, with the reason, if a label set is claimed to be external to one on the same pixels."""
    if same_pixels(train_name, test_name):
        raise ValueError(f"{test_name!r} is not external to {train_name!r}: {shared_reason(PIXELS[train_name])}")


def shared_reason(family: str) -> str:
    """Return why nothing of a family of pixels is external to another of it."""
    if family == "nih":
        return (
            "both are nih images (RSNA, SIIM-ACR and Google's labels are on NIH images). Use it as a label set "
            "of the NIH cohort instead."
        )
    return f"both are {family} images. Use it as a label set of that cohort, on a split by patient."
