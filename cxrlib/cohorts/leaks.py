"""Leaks: an image or a patient of one part of a split, or of a training set, that is in another under any name.

A patient or an image in two parts, copies of pixels, and images of the training collection that cannot be matched by
their ids are refused where a split is made or an external cohort is opened. Near-duplicates are listed: whether two
radiographs that can be laid over each other are one, a person has to say.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxrlib.cohorts import splits
from cxrlib.cohorts.store import Store
from cxrlib.releases import image_ids

# Kind of leak to what it means and what to do, in the order in which a pair of images is named after it.
LEAK_KINDS = {
    "same image": "one image is in two parts: take it out of one of them",
    "same pixels": "two images have equal pixels: one patient has two ids, or one file two names; give both one "
    "patient_id, or take one of them out",
    "same patient": "a patient is in two parts: split by patient, or, if these are two people, give them ids that "
    "differ in more than case, blanks and leading zeros",
    "unmatched": "the images are of the collection that was trained on, and their ids do not tell which they are or "
    "whose: this set cannot be external, nor be kept apart by patient",
    "near-duplicate": "two images can be laid over each other: look at both, and take one out if they are one",
    "same collection": "both sets are of one collection: they can test each other if no patient is in both, "
    "but neither is external",
}
REFUSED = ("same image", "same pixels", "same patient", "unmatched")
LEAK_COLUMNS = (
    "kind",
    "image_id",
    "patient_id",
    "part",
    "other_image_id",
    "other_patient_id",
    "other_part",
    "distance",
    "correlation",
    "images_n",
)


@dataclass(frozen=True)
class ImageSet:
    """Images of one cohort or table, to be searched for leaks.

    Attributes
    ----------
    table : pandas.DataFrame
        `image_id, part`, and `patient_id`, missing where it is not known. Images that are in no part are left out by
        whoever makes it.
    collection : str or None
        Whose pixels these are (`splits.pixel_family`); None to go by the ids.
    store : Store or None
        The packed images, if pixels are to be compared. Of images that are not in it only ids are compared.
    """

    table: pd.DataFrame
    collection: str | None = None
    store: Store | None = None

    def told(self):
        """Return the table with one spelling of every id, and what the ids tell.

        Returns
        -------
        pandas.DataFrame
            `image_id, patient_id, part` as given. `image`; `patient`, as given, or as the image's name tells where
            none is given; `owner_patient`, as the name tells if its owner is known, whatever is given; `collection`;
            `unmatched`, whether it is not known which image of the collection it is; `lost`, whether it is not
            known whose; `row` in the store, -1 if there is none.
        """
        table = self.table.reset_index(drop=True)
        known = image_ids.known_as(table["image_id"])
        whole = known["collection"].fillna(self.collection) if self.collection else known["collection"]
        renamed = (whole == "nih").fillna(False) & known["collection"].isna()
        given = table["patient_id"] if "patient_id" in table else pd.Series(pd.NA, table.index, dtype="string")
        patient = image_ids.one_spelling(given)
        patient = patient.mask(patient == known["image"])  # as where nobody gives a patient's id
        bare = _bare(patient, whole)
        rows = -1 if self.store is None else pd.Index(self.store.index["image_id"]).get_indexer(table["image_id"])
        return pd.DataFrame(
            {
                "image_id": table["image_id"].astype("string"),
                "patient_id": given.astype("string"),
                "part": table["part"].astype("string"),
                "image": known["image"],
                "patient": bare.fillna(_bare(known["patient"], known["collection"])),
                "owner_patient": _bare(known["patient"], known["collection"]).where(known["collection"].notna()),
                "collection": whole.astype("string"),
                "unmatched": (~known["matched"] | renamed).astype(bool),
                "lost": (~known["matched"] | (renamed & patient.isna())).astype(bool),
                "row": rows,
            }
        )


def _bare(patients, collections):
    """Return patients' ids without the word or letter that stands before the number in a collection's paths."""
    short = patients.str.replace(r"^patient(?=\d)", "", regex=True)
    of_mimic = (collections == "mimic").fillna(False).astype(bool)
    return image_ids.one_spelling(short.mask(of_mimic, short.str.replace(r"^p(?=\d)", "", regex=True)))


def of_split(store, split, collection=None):
    """Return a packed cohort and its split as an `ImageSet`; images in no part are left out.

    Parameters
    ----------
    store : Store
    split : pandas.DataFrame
        `image_id, split`, as of `splits.make`.
    collection : str, optional
    """
    placed = split.dropna(subset="split")
    patients = store.index.set_index("image_id")["patient_id"]
    table = placed[["image_id"]].assign(
        part=placed["split"].to_numpy(object), patient_id=patients.reindex(placed["image_id"]).to_numpy(object)
    )
    return ImageSet(table, collection, store)


def _pairs(first, second, key, comparable=None):
    """Return a row for each row of `second` whose key is in `first` too, with the first such row there.

    Parameters
    ----------
    first, second : pandas.DataFrame
        Of `told`.
    key : str
    comparable : callable, optional
        Which of all such pairs count, as a mask; an id may be there in several collections.
    """
    first = first.dropna(subset=key).drop_duplicates([key, "collection"])
    pairs = second.dropna(subset=key).merge(first, on=key, suffixes=("", "_other"))
    return (pairs if comparable is None else pairs[comparable(pairs)]).drop_duplicates("image_id")


def _leaks(pairs, kind, **more):
    """Return rows of the table of leaks from pairs of `told` rows."""
    names = {f"{name}_other": f"other_{name}" for name in ("image_id", "patient_id", "part")}
    table = pairs.rename(columns=names).assign(kind=kind, **more)
    return table.reindex(columns=list(LEAK_COLUMNS))


def _comparable(pairs, one_hospital):
    """Return which pairs may mean the same by the same id: of one collection, or of ones that ids do not tell."""
    known = pairs["collection"].notna() & pairs["collection_other"].notna()
    alike = (pairs["collection"] == pairs["collection_other"]).fillna(False)
    return (alike | (~known & one_hospital)).to_numpy(bool)


def _by_ids(first, second, one_hospital):
    """Return leaks between two parts that ids tell: the same image, the same patient."""
    keys = (("same image", "image"), ("same patient", "patient"), ("same patient", "owner_patient"))
    found = [
        _leaks(_pairs(first, second, key, lambda pairs: _comparable(pairs, one_hospital)), kind) for kind, key in keys
    ]
    return [pd.concat(each).drop_duplicates("image_id") for each in (found[:1], found[1:])]


def pixel_hashes(store, rows):
    """Return the SHA-256 of the packed pixels of each image, (len(rows),) object."""
    return np.array([hashlib.sha256(np.ascontiguousarray(store.images[row])).hexdigest() for row in rows], object)


def _by_pixels(first, second, stores):
    """Return leaks between two parts that pixels tell: equal ones, and near-duplicates."""
    from cxrlib.cohorts import lookalikes  # and Pillow, which ids do not need

    one, other = (stores[part["set"].iat[0]] for part in (first, second))
    first, second = (part[part["row"] >= 0] for part in (first, second))
    found = []
    if one.images.shape[1:] == other.images.shape[1:]:
        first, second = (
            part.assign(pixels=pixel_hashes(store, part["row"])) for part, store in ((first, one), (second, other))
        )
        found.append(_leaks(_pairs(first, second, "pixels"), "same pixels", distance=0, correlation=1.0))
    near = lookalikes.near_duplicates(one, first["row"].to_numpy(), other, second["row"].to_numpy())
    sides = [
        part.set_index("row").loc[near[name]].reset_index(drop=True)
        for part, name in ((first, "row"), (second, "other_row"))
    ]
    pairs = pd.concat([sides[1], sides[0].add_suffix("_other")], axis=1)
    found.append(
        _leaks(
            pairs, "near-duplicate", distance=near["distance"].to_numpy(), correlation=near["correlation"].to_numpy()
        )
    )
    return found


def _by_collection(first, second):
    """Return leaks of whole sets: of the collection that was trained on, matched or not.

    Parts of one set may be of one collection. Of these, only images are named of which nobody knows whose they are.
    """
    one_set = first["set"].iat[0] == second["set"].iat[0]
    shared = set(first["collection"].dropna()) & set(second["collection"].dropna())
    found = []
    for collection in sorted(shared):
        mine, theirs = (part[part["collection"] == collection] for part in (first, second))
        unknown = [part[part["lost" if one_set else "unmatched"]] for part in (theirs, mine)]
        unknown = [part for part in unknown if len(part)]
        if one_set and not unknown:
            continue
        kind, images = ("unmatched", unknown[0]) if unknown else ("same collection", theirs)
        row = {name: images[name].iloc[0] for name in ("image_id", "patient_id", "part")}
        other = mine if images["part"].iloc[0] == theirs["part"].iloc[0] else theirs
        row |= {"other_image_id": other["image_id"].iloc[0], "other_part": other["part"].iloc[0]}
        found.append(
            pd.DataFrame([{**row, "kind": kind, "images_n": len(images)}]).reindex(columns=list(LEAK_COLUMNS))
        )
    return found


def find(sets, one_hospital=True, near=True):
    """Return every leak between parts of some images.

    Parameters
    ----------
    sets : sequence of ImageSet
        One, whose parts are those of a split, or several, of which each is one part or more. Images of several sets
        are called external to each other, so that sets of one collection are leaks as well. In one set only images of
        a collection whose patient nobody knows are.
    one_hospital : bool
        Whether the same id means the same patient, where neither set's ids tell of which collection it is.
    near : bool
        Whether pixels are compared, where there are some.

    Returns
    -------
    pandas.DataFrame
        `LEAK_COLUMNS`: a row for each image that leaks into an earlier part, with the first image there that it
        shares something with, of the first kind of `LEAK_KINDS` that holds; then a row for a set as a whole, with
        `images_n`.
    """
    told = [each.told().assign(set=i) for i, each in enumerate(sets)]
    stores = dict(enumerate(each.store for each in sets))
    parts = [part for table in told for _, part in table.groupby("part", sort=False)]
    found = [pd.DataFrame(columns=list(LEAK_COLUMNS))]
    for j, second in enumerate(parts):
        for first in parts[:j]:
            found += _by_ids(first, second, one_hospital)
            if near and all(stores[part["set"].iat[0]] is not None for part in (first, second)):
                found += _by_pixels(first, second, stores)
            found += _by_collection(first, second)
    table = pd.concat([one.astype(object) for one in found], ignore_index=True)
    table["kind"] = pd.Categorical(table["kind"], list(LEAK_KINDS))
    table = _first_kinds(table.sort_values("kind", kind="stable"))
    return table.astype({"kind": "string"}).reset_index(drop=True)


def _first_kinds(table):
    """Return leaks less those of an image into a part into which it leaks in an earlier way; rows of sets stay."""
    single = table["images_n"].isna()
    rank = table["kind"].cat.codes.where(single)
    first = rank.groupby([table["image_id"], table["part"], table["other_part"]]).transform("min")
    return table[~single | (rank == first)]


def refuse_leaks(found, what, kinds=REFUSED):
    """Raise a ValueError naming images and remedy if a table of leaks has one that is refused.

    Parameters
    ----------
    found : pandas.DataFrame
        Of `find`.
    what : str
        What leaks: a split's name, or a cohort's.
    kinds : sequence of str
        Which kinds are refused.

    Returns
    -------
    pandas.DataFrame
        The rest: near-duplicates, which are to be listed.
    """
    refused = found[found["kind"].isin(kinds)]
    if len(refused):
        first = refused.iloc[0]
        counted = ", ".join(f"{n} {kind}" for kind, n in refused["kind"].value_counts(sort=False).items())
        patients = first[["patient_id", "other_patient_id"]]
        whose = "" if patients.isna().any() else f" (patients {patients.iloc[0]} and {patients.iloc[1]})"
        raise ValueError(
            f"{what} leaks ({counted}), the first: {first['image_id']} of {first['part']} and "
            f"{first['other_image_id']} of {first['other_part']}{whose}: {LEAK_KINDS[first['kind']]}."
        )
    return found[~found["kind"].isin(kinds)]


def check_split(store, split, name, collection=None):
    """Return near-duplicates between the parts of a split; raise a ValueError if the split leaks.

    Parameters
    ----------
    store : Store
    split : pandas.DataFrame
        `image_id, split`, as of `splits.make`; a split by patient.
    name : str
        For the message.
    collection : str, optional

    Raises
    ------
    ValueError
        Naming two images, their parts and the remedy.
    """
    return refuse_leaks(find([of_split(store, split, collection)]), f"split {name!r}")


def check_cohorts(train_store, test_store, settings):
    """Return near-duplicates of an external cohort in the training cohort; raise a ValueError if it is not external.

    Two cohorts of one collection are external to each other only as the parts into which its owner divided it
    (`official_part`).

    Parameters
    ----------
    train_store, test_store : Store
    settings : Mapping
        The `cohorts` section of `params.yaml`.
    """
    sets = [
        ImageSet(
            each.index[["image_id", "patient_id"]].assign(part=each.name),
            splits.pixel_family(settings[each.name]),
            each,
        )
        for each in (train_store, test_store)
    ]
    found = find(sets, one_hospital=False)
    if all(settings[each.name].get("official_part") for each in (train_store, test_store)):
        found = found[~found["kind"].isin(["unmatched", "same collection"])]  # as their owner divided them
    what = f"{test_store.name!r} tested by networks of {train_store.name!r}"
    return refuse_leaks(found, what, (*REFUSED, "same collection"))
