"""Whose image it is, by what it is called: one name for an image and a patient, whatever the spelling.

Two tables that write `00000013_005.png` and `13_5` mean one image, and RSNA's challenge has ids of its own for images
of ChestX-ray14. SIIM-ACR's images are of ChestX-ray14 too, but nobody has published which id is which image.
"""

import functools
import re

import numpy as np
import pandas as pd

from cxrlib.base import paths
from cxrlib.releases import challenges

# Collection to how its owner names images. RSNA's and SIIM-ACR's images are NIH's.
_NAMED_BY = {
    "nih": r"(?:^|/)\d{8}_\d{3}(?:\.\w+)?$",
    "rsna": r"(?:^|/)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:\.\w+)?$",
    "siim": r"(?:^|/)1\.2\.276\.0\.7230010\.3\.1\.4\.8323329\.\d+\.\d+\.\d+(?:\.dcm|\.png)?$",
    "chexpert": r"(?:^|/)patient\d{5}/study\d+",
    "mimic": r"(?:^|/)p\d{8}/s\d{8}/",
    "padchest": r"(?:^|/)\d{30,}_[\w-]+\.png$",
}
_OF_COLLECTION = {"rsna": "nih", "siim": "nih"}

# How the patient stands in an image's name, in order: NIH's and many others', CheXpert's, MIMIC-CXR's.
_PATIENT_IN_NAME = (r"^(\d+)_\d+$", r"(?:^|/)(patient\d+)/study\d+", r"(?:^|/)(p\d{8})/s\d{8}/")

# What of a path names the image: the folders above it are the copy's.
_IMAGE_IN_PATH = {"chexpert": r"(patient\d{5}/study\d+.*)$", "mimic": r"(p\d{8}/s\d{8}/.*)$"}

_ENDING = re.compile(r"\.(png|jpe?g|dcm|dicom|bmp|gif|tiff?|webp)$")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


def one_spelling(ids):
    """Return ids without what people write differently: case, blanks at the ends, leading zeros, a trailing `.0`.

    Parameters
    ----------
    ids : sequence of str or missing

    Returns
    -------
    pandas.Series
        Text, missing where the id is missing or blank; on the index of `ids` if it is a Series.
    """
    text = pd.Series(ids, dtype="string").str.strip().str.casefold().replace("", pd.NA)
    text = text.str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    return text.map(lambda one: _ZEROS.sub("", one), na_action="ignore").astype("string")


@functools.cache
def _rsna_to_nih():
    raw = pd.read_csv(paths.third_party("rsna_matches/rsna_to_nih.csv.gz"), dtype={"rsna": "string", "nih": "string"})
    good = raw[raw["mse"] <= challenges.RSNA_MAX_MSE]
    return dict(zip(good["rsna"], good["nih"], strict=True))


def known_as(image_ids):
    """Return what image ids tell: which collection an image is of, which image it is there, and whose.

    Parameters
    ----------
    image_ids : sequence of str

    Returns
    -------
    pandas.DataFrame
        A row an id, text. `collection`: `nih`, `chexpert`, `mimic` or `padchest`, missing if the name is nobody's;
        `image`: one spelling of the image's id, the NIH image's for RSNA's ids; `patient`: one spelling of the
        patient's id, missing if the name does not tell; `matched`: False of an id whose collection is known while the
        image is not, as of all of SIIM-ACR's.
    """
    ids = pd.Series(image_ids, dtype="string").reset_index(drop=True).str.strip()
    plain = ids.str.casefold().fillna("")
    owner = pd.Series(pd.NA, ids.index, dtype="string")
    for name, pattern in _NAMED_BY.items():
        owner = owner.mask(plain.str.contains(pattern).astype(bool) & owner.isna(), name)
    bare = plain.str.replace(_ENDING, "", regex=True)
    names = bare.str.split("/").str[-1].mask(owner.isna(), bare)
    for name, pattern in _IMAGE_IN_PATH.items():
        names = names.mask((owner == name).fillna(False).astype(bool), bare.str.extract(pattern, expand=False))
    if (owner == "rsna").any():
        match = names[owner == "rsna"].map(_rsna_to_nih()).str.replace(_ENDING, "", regex=True)
        names = names.mask(names.index.isin(match.dropna().index), match)
        owner = owner.mask(owner.index.isin(match.dropna().index), "nih")
    patient = pd.Series(pd.NA, ids.index, dtype="string")
    for pattern in _PATIENT_IN_NAME:
        patient = patient.fillna(names.str.extract(pattern, expand=False).astype("string"))
    return pd.DataFrame(
        {
            "collection": owner.replace(_OF_COLLECTION),
            "image": one_spelling(names),
            "patient": one_spelling(patient),
            "matched": ~owner.isin(list(_OF_COLLECTION)).fillna(False).to_numpy(bool),
        }
    ).astype({"collection": "string", "matched": np.bool_})
