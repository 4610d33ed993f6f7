"""Label sets made from other label sets of the same cohort."""

import numpy as np
import pandas as pd

from cxrlib.cohorts import simulation

_NOT_FINDINGS = ("image_id", "no_finding", "abnormal", "support_devices", *simulation.DEVICES)


def any_finding(store, reference, built, findings=None):
    """Return finding (`abnormal` 1) or no finding (0) of each image, as another label set has it.

    Where that set says `abnormal` or `no_finding` itself, this is taken; else an image is abnormal if any finding is
    present, uncertain if one is uncertain, and not assessed if one is missing and none present.

    Parameters
    ----------
    store : store.Store
    reference : str
        The label set.
    built : dict of pandas.DataFrame
    findings : sequence of str, optional
        Only these make an image abnormal; an image without them that is not normal either is not assessed.
    """
    table = built[reference]
    every = [c for c in table if c not in _NOT_FINDINGS]
    listed = every if findings is None else list(findings)
    missing = [f for f in listed if f not in table]
    if missing:
        raise ValueError(f"label set {reference!r} does not assess {missing[0]!r}; it has {', '.join(every)}.")
    present = (table[listed] == 1).any(axis=1)
    if "abnormal" in table or "no_finding" in table:
        said = table["abnormal"] if "abnormal" in table else table["no_finding"].replace({1: 0, 0: 1})
        present = present if findings is not None else said == 1
        value = said.where((said != 1) | present)
    else:
        value = pd.Series(np.nan, table.index).mask((table[every] == 0).all(axis=1), 0)
        value = value.mask((table[listed] == -1).any(axis=1), -1)
    words = "whatever it is" if findings is None and listed != every else "any of " + ", ".join(listed)
    return pd.DataFrame({"image_id": table["image_id"], "abnormal": value.mask(present, 1).astype("float32")}), {
        "who": f"the label set {reference!r}",
        "how": f"abnormal: {words}; an image with another finding alone is not assessed",
        **_DERIVED,
    }


def agreeing(store, reference, built, also):
    """Return a label set where others say the same, the rest not assessed; curated test sets are such.

    Parameters
    ----------
    store : store.Store
    reference : str
        The label set.
    built : dict of pandas.DataFrame
    also : sequence of str
        The others.
    """
    table = built[reference].set_index("image_id")
    for name in also:
        other = built[name].set_index("image_id").reindex(table.index)
        table = table[[f for f in table if f in other]]
        table = table.where(table == other[table.columns])
    return table.reset_index(), {
        "who": f"the label set {reference!r}",
        "how": f"only where {', '.join(also)} says the same",
        **_DERIVED,
    }


def permuted(store, reference, built, seed):
    """Return a label set with its labels dealt out anew among its images: nothing to learn in them (a control)."""
    table = built[reference]
    order = np.random.default_rng(seed).permutation(len(table))
    dealt = table.drop(columns="image_id").iloc[order].reset_index(drop=True)
    return pd.concat([table["image_id"].reset_index(drop=True), dealt], axis=1), {
        "who": "nobody",
        "how": f"the labels of {reference!r}, dealt out anew at random",
        **_DERIVED,
    }


_DERIVED = {
    "version": "1",
    "source": "made from another label set of this cohort",
    "licence": "that of its source",
    "citation": "that of its source",
}
