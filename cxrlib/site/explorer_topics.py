"""Topics and words of reports in the explorer: of Open-i's real reports, and of study 4's simulated archive.

Open-i's topics are committed as words alone, without any report. The archive's topics are made by the pipeline, and
the page says so where they are not here.
"""

import numpy as np
import pandas as pd

from cxrlib.base import paths
from cxrlib.networks import routes
from cxrlib.reports import image_reports
from cxrlib.site import explorer_files

LEVELS = {
    "document": "of whole reports",
    "second": "within dominant topics",
    "sentence": "of single sentences and their neighbours",
}
_WORDS_N = 6  # nearest words that are shown


def _topic_rows(table):
    columns = ["topic", "reports_n", "images_n", "kept", "words", *(["parent"] if "parent" in table else [])]
    return table[columns].fillna({"words": ""}).to_dict("records")


def real_topics():
    """Return the topics of Open-i's reports by level, and how many reports, images and patients they rest on."""
    linked = image_reports.openi(sections="both").dropna(subset="text")
    folder = paths.ROOT / "results" / "topics"
    return {
        "reports": "real",
        "title": "real reports of Open-i (Indiana University)",
        "reports_n": int(linked["report_id"].nunique()),
        "images_n": int(linked["image_id"].notna().sum()),
        "patients_n": int(linked["patient_id"].fillna(linked["report_id"]).nunique()),
        "levels": {name: _topic_rows(pd.read_csv(folder / f"{name}_words.csv")) for name in LEVELS},
    }


def archive_topics(edition, image_ids):
    """Return the topics of the simulated archive's reports, and the topic of each test image; None if not here.

    Parameters
    ----------
    edition : str
    image_ids : sequence of str
        Of the cohort's test images.

    Returns
    -------
    dict
        As `real_topics`, with `topic_of`, by level the topic of each test image, -1 where it has none; `found`, by
        level the share of networks (one a training seed) that rank the topic first, and among the first five, in
        percent, -1 where it was not scored; and `near`, the nearest words of each word by its vector.
    """
    folder = paths.ROOT / "data" / "topics" / edition
    if not all((folder / f"{name}{end}").is_file() for name in LEVELS for end in (".parquet", "_words.csv")):
        return None
    levels, topic_of, pairs = {}, {}, None
    for name in LEVELS:
        levels[name] = _topic_rows(pd.read_csv(folder / f"{name}_words.csv"))
        pairs = pd.read_parquet(folder / f"{name}.parquet")
        topic = pairs.set_index("image_id")["topic"].reindex(image_ids).fillna(-1)
        topic_of[name] = explorer_files.packed(topic.to_numpy(int), "i2")
    vectors = pd.read_parquet(folder / "word_vectors.parquet").set_index("word")
    return {
        "reports": "simulated",
        "title": "simulated reports of the archive of study 4",
        "reports_n": int(pairs["report_id"].nunique()),
        "images_n": len(pairs),
        "patients_n": int(pairs["image_id"].str.split("_").str[0].nunique()),
        "levels": levels,
        "topic_of": topic_of,
        "found": _found(edition, image_ids),
        "near": _near(vectors),
    }


def _found(edition, image_ids):
    """Return by level how many of a hundred networks have an image's topic first, and among the first five."""
    try:
        scores = pd.read_parquet(paths.to_read(paths.ROOT / "data" / "mining_scores" / edition / "topics.parquet"))
    except FileNotFoundError:
        return {}
    own = scores[(scores["model"] == "network") & (scores["pairs"] == routes.TRUE_PAIRS)]
    out = {}
    for level, part in own.groupby("level", observed=True):
        mean = part.groupby("image_id")[["top1", "top5"]].mean().reindex(image_ids)
        percent = (100 * mean).round().fillna(-1).astype(int)
        out[level] = {name: explorer_files.packed(percent[name], "i1") for name in percent}
    return out


def _near(vectors):
    """Return the nearest words of each word, by the cosine of their vectors, the nearest first."""
    vectors = vectors[vectors.index.str.isalpha()]  # not the numbers of dates
    x = np.array(vectors, float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    likeness = x @ x.T
    np.fill_diagonal(likeness, -np.inf)
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :_WORDS_N]
    words = vectors.index.to_numpy(object)
    return {word: words[near].tolist() for word, near in zip(words, order, strict=True)}


def study_tables(edition):
    """Return what study 4 found on topics and words: its committed tables.

    Returns
    -------
    dict of str to list of dict
        `topics` and `words`: a row a `group` (level, or candidates) and `model`, with `images_n` and, by measure,
        the estimate and the ends of its interval.
    """
    folder = paths.ROOT / "results" / edition / "mining"
    out = {}
    for name, first in (("topics", "level"), ("words", "candidates")):
        table = pd.read_csv(folder / f"{name}.csv")
        table = table.astype(object).where(table.notna(), None)
        rows = []
        for (group, model), part in table.groupby([first, "model"], sort=False):
            values = {row.measure: [row.estimate, row.low, row.high] for row in part.itertuples()}
            rows.append({"group": group, "model": model, "images_n": int(part["images_n"].iloc[0]), **values})
        out[name] = rows
    return out
