"""The pairs of image and report of an archive, as networks learn from them: images, texts, what the rules read.

Everything here is one row a pair, in one order, so that images, topics, labels and words of a pair share a position.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxrlib.base import label_tables, paths
from cxrlib.cohorts.store import open_store
from cxrlib.labelers import rules
from cxrlib.networks import presence, short_training
from cxrlib.reports import release_pairs
from cxrlib.statistics import retrieval
from cxrlib.topics import levels

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class MinedPairs:
    """Pairs of image and report, in one order.

    Attributes
    ----------
    images : (n_images, side, side) uint8
        Of the whole cohort.
    table : pandas.DataFrame
        `image_id, patient_id, report_id, split`.
    rows : (n,) int64
        Of each pair's image among the images.
    texts : list of str
        What is read of each report: findings and impression.
    group : (n,) int64
        Which reports say the same (`retrieval.duplicate_groups`).
    readings : list of rules.Reading
    labels : pandas.DataFrame
        What the rules read, a row a pair: 1, 0, -1, NaN not mentioned; with `airspace_opacity`.
    left_out : pandas.DataFrame
        `what, pairs_n`: what is not among the pairs, and why.
    """

    images: np.ndarray
    table: pd.DataFrame
    rows: np.ndarray
    texts: list
    group: np.ndarray
    readings: list
    labels: pd.DataFrame
    left_out: pd.DataFrame

    def at(self, *parts):
        """Return the positions of the pairs of parts of the split, (m,) int64."""
        return np.flatnonzero(self.table["split"].isin(parts).to_numpy())

    def some(self, values, *parts):
        """Return one value a pair, an array or a list, of parts of the split alone."""
        at = self.at(*parts)
        return [values[k] for k in at] if isinstance(values, list) else np.asarray(values)[at]

    def topics(self, table):
        """Return the topic of each pair, (n,) int32, -1 none, by a level's table (`image_id, report_id, topic`)."""
        known = table.set_index(["image_id", "report_id"])["topic"]
        index = pd.MultiIndex.from_frame(self.table[["image_id", "report_id"]])
        return known.reindex(index).fillna(-1).to_numpy("int32")

    def label_set(self, cohort, name, findings):
        """Return labels of a label set, uncertain as absent, (n, f) float32; NaN where an image is not assessed."""
        table = label_tables.load(cohort, name).reindex(self.table["image_id"])[list(findings)]
        return label_tables.apply_policy(table.to_numpy(float), "u_zeros")

    def shuffled(self, order):
        """Return the pairs with the reports of others: pair k gets the report of pair `order[k]`."""
        order = np.asarray(order)
        own = ["image_id", "patient_id", "split"]
        reports = self.table.drop(columns=own).iloc[order].reset_index(drop=True)
        table = pd.concat([self.table[own], reports], axis=1)[list(self.table.columns)]
        return MinedPairs(
            self.images,
            table,
            self.rows,
            [self.texts[k] for k in order],
            self.group[order],
            [self.readings[k] for k in order],
            self.labels.iloc[order].reset_index(drop=True),
            self.left_out,
        )


def pairs_path(edition, cohort):
    """Return the table of an archive's pairs (notebook 15)."""
    return paths.ROOT / "data" / "reports" / edition / f"{cohort}.parquet"


def read_pairs(edition, cohort, size_px=None, split="main"):
    """Return the `MinedPairs` of an edition's archive.

    Parameters
    ----------
    edition, cohort : str
    size_px : int, optional
        At which images are looked at (`short_training.shrunk`).
    split : str

    Raises
    ------
    ValueError
        If no pair is left, a part of the split has none, or reports are not English, which the rules read.
    """
    store = open_store(cohort)
    table = release_pairs.require_english(pd.read_parquet(pairs_path(edition, cohort)))
    parts = pd.read_parquet(paths.split_path(edition, split)).set_index("image_id")["split"]
    table["split"] = table["image_id"].map(parts).astype(object)
    reasons = {
        "the image is not in the packed cohort": ~table["image_id"].isin(store.index["image_id"]),
        "the image is in no part of the split": table["split"].isna(),
        "the report has no text": table["text"].fillna("").str.strip() == "",
        "the same image and report again": table.duplicated(["image_id", "report_id"]),
    }
    left, rows = pd.Series(False, table.index), []
    for what, hit in reasons.items():
        rows.append({"what": what, "pairs_n": int((hit & ~left).sum())})
        left |= hit
    table = table[~left].reset_index(drop=True)
    empty = [part for part in PARTS if not (table["split"] == part).any()]
    if empty:
        raise ValueError(
            f"{pairs_path(edition, cohort)} has no pair in {', '.join(empty)}: match more of the archive."
        )
    texts = levels.report_texts(table)[table["report_id"]].tolist()
    labeler, known = rules.RuleLabeler(), {}
    readings = [known.get(text) or known.setdefault(text, labeler.read(text)) for text in table["text"]]
    labels = pd.DataFrame([reading.labels for reading in readings]).astype("float32")
    return MinedPairs(
        images=short_training.shrunk(store.images, size_px),
        table=table[["image_id", "patient_id", "report_id", "split"]],
        rows=store.rows(table["image_id"]),
        texts=texts,
        group=retrieval.duplicate_groups(texts),
        readings=readings,
        labels=presence.with_airspace_opacity(labels),
        left_out=pd.DataFrame(rows),
    )


def shuffled_order(pairs, seed):
    """Return which report each image gets when reports are dealt out anew among images, (n,) int64.

    The control of every result from image to text: what is left after it comes of how common topics, words and
    reports are, not of the images. Reports stay in their part of the split. Hardly any image keeps a report of its
    own patient, where there is another one to swap with.

    Parameters
    ----------
    pairs : pandas.DataFrame
        `patient_id, split`, a row for each image and its report.
    seed : int
    """
    rng = np.random.default_rng((seed, 31))
    patient, order = pd.factorize(pairs["patient_id"])[0], np.arange(len(pairs))
    for _, part in pairs.groupby("split", sort=True):
        at = pairs.index.get_indexer(part.index)
        order[at] = rng.permutation(at)
        for _ in range(20):
            own = at[patient[order[at]] == patient[at]]
            for a, b in zip(own, rng.choice(at, len(own)), strict=True):
                order[a], order[b] = order[b], order[a]
    return order
