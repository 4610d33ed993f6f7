"""The topic of each image's report at three levels: of the document, within dominant topics, of a sentence.

Shin et al. (CVPR 2015) had 80 topics of documents, 800 of a second level, since one topic held half of the images, and
1,000 of sentences; of topics with too few images no network learned (60, 385 and 717 were left). Here:

- **Document**: the topic with the greatest share of the report.
- **Second**: a topic that holds more than `dominant` times its even share of the reports is divided, by topics of its
  own reports alone, with words that are common among these left out anew. The others stay what they are.
- **Sentence**: topics of triplets, a sentence with the one before and the one after. The triplets of a report are those
  around a sentence that names one image ("on the lateral view", "image 2", not "two views" nor a prior image); where
  none does, as in most chest reports, those around every sentence. An image has the topic whose share, in the mean of
  its report's triplets, is greatest.
- A topic with fewer than `least_images` images is dropped: they have topic -1. So have images whose report has too few
  words, with a missing share. Both are counted.
"""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxrlib.labelers import sentences
from cxrlib.reports import image_reports
from cxrlib.topics import models, words

LEAST_IMAGES = 20


_NO_LIST = re.compile(r"(?!)")  # what opens a line of a list hangs on the language: nothing does


_VIEW = r"(?:frontal|lateral|pa|ap|posteroanterior|anteroposterior|decubitus|lordotic|oblique|axial|coronal|sagittal)"


_NAMED = re.compile(
    rf"\b{_VIEW} (?:chest )?(?:view|image|radiograph|projection|film)\b"
    r"|\b(?:image|series|imagen|serie) (?:number |no\. ?|# ?)?\d+"
    rf"|\b(?:proyecci[óo]n|radiograf[íi]a|imagen) {_VIEW}\b",
    re.I,
)


_PRIOR = re.compile(r"\b(?:prior|previous|compar\w+|previ[oa])\b", re.I)


class Level(NamedTuple):
    """Which topic each image has.

    Attributes
    ----------
    table : pandas.DataFrame
        `image_id, report_id` text, `topic` int32, -1 where it was dropped or the report has too few words, `share`
        float32 in [0, 1], the topic's probability (also of a dropped topic; missing where there are no words).
    topics : pandas.DataFrame
        `topic, reports_n, images_n, kept, words`, a row a topic; a dropped topic keeps its number. Of the second level
        also `parent`.
    counts : dict of str to int
        `images_n, topics_n, topics_kept_n, images_in_dropped_n, images_without_words_n`.
    """

    table: pd.DataFrame
    topics: pd.DataFrame
    counts: dict


def report_texts(pairs):
    """Return the text of each report that topics are of: findings and impression, else the whole report.

    Parameters
    ----------
    pairs : pandas.DataFrame
        `report_id, text`, a row an image. Headings as `image_reports.sections` knows them; a report in which it finds
        none, such as a Spanish one, counts whole.

    Returns
    -------
    pandas.Series of str
        By `report_id`, in the order of their first images.

    Raises
    ------
    ValueError
        If a report has two texts.
    """
    each = pairs[["report_id", "text"]].drop_duplicates()
    twice = each["report_id"].duplicated()
    if twice.any():
        raise ValueError(f"report {each['report_id'][twice].iloc[0]!r} has two texts: give each report its own id.")
    return each.set_index("report_id")["text"].fillna("").map(_body)


def _body(text):
    found = image_reports.sections(text)
    return "\n\n".join(part for part in (found["findings"], found["impression"]) if part) or text


def document_level(pairs, corpus, model, least_images=LEAST_IMAGES):
    """Return the `Level` of the topics of whole reports.

    Parameters
    ----------
    pairs : pandas.DataFrame
        `image_id, report_id`, a row an image.
    corpus : words.Corpus
        Of the reports.
    model : models.TopicModel
    least_images : int
    """
    shares = model.shares_of(corpus)
    best = shares.argmax(axis=1)
    of_report = _of_report(corpus.document_ids, best, shares[np.arange(len(best)), best])
    return _level(pairs, of_report, pd.DataFrame({"words": _joined(model)}), least_images)


def second_level(pairs, corpus, model, rules, topics_n=10, dominant=2.0, least_images=LEAST_IMAGES, **settings):
    """Return the `Level` of the topics inside topics that hold many reports.

    Parameters
    ----------
    pairs, corpus, model
        As for `document_level`.
    rules : words.WordRules
        Which terms and documents are kept inside a divided topic.
    topics_n : int
        Into which a dominant topic is divided; the paper's 800 of 80 are ten.
    dominant : float
        A topic is divided if it has more than this many times its even share of the reports, and more than `topics_n`
        times `least_images` reports.
    least_images : int
    **settings
        Further arguments of `models.fit_topics`, `seed` among them.

    Returns
    -------
    Level
        A share is the product of the topic's and, inside it, of the second topic's.
    """
    shares = model.shares_of(corpus)
    best = shares.argmax(axis=1)
    first_share = shares[np.arange(len(best)), best]
    many = max(dominant * len(corpus) / len(model), topics_n * least_images)
    number, share, rows = np.full(len(corpus), -1), np.full(len(corpus), np.nan), []
    for topic, key_words in enumerate(_joined(model)):
        inside = np.flatnonzero(best == topic)
        divided = _divided(corpus.part(inside), rules, topics_n, settings) if len(inside) > many else None
        if divided is None:
            number[inside], share[inside] = len(rows), first_share[inside]
            rows.append({"words": key_words, "parent": topic})
            continue
        part, within = divided
        kept = inside[np.isin([corpus.document_ids[k] for k in inside], part.document_ids)]  # in the same order
        found = within.shares_of(part)
        second = found.argmax(axis=1)
        number[kept] = len(rows) + second
        share[kept] = first_share[kept] * found[np.arange(len(second)), second]
        rows += [{"words": key_words, "parent": topic} for key_words in _joined(within)]
    return _level(pairs, _of_report(corpus.document_ids, number, share), pd.DataFrame(rows), least_images)


def _divided(corpus, rules, topics_n, settings):
    """Return the documents of a topic with enough words of their own, and topics of them; None if too few have."""
    try:
        part = corpus.filtered(rules)
        return part, models.fit_topics(part, topics_n, **settings)
    except ValueError:  # no document, or fewer than topics, is left: it cannot be divided
        return None


def triplets(text):
    """Return the texts around the sentences of a report that speak of its image, in order.

    Parameters
    ----------
    text : str
        Findings and impression (`report_texts`).

    Returns
    -------
    list of str
        A sentence, the one before and the one after, of each sentence that names one image; of every sentence where
        none does. What repeats another is left out.
    """
    bounds = sentences.sentences(text, 0, len(text), _NO_LIST)
    found = [each for low, high in bounds if words.tokens(each := " ".join(text[low:high].split()))]
    named = [k for k, each in enumerate(found) if _NAMED.search(each) and not _PRIOR.search(each)]
    around = [". ".join(found[max(0, k - 1) : k + 2]) + "." for k in named or range(len(found))]
    return list(dict.fromkeys(around))


def triplets_of(texts):
    """Yield id and text of every report's triplets; an id is the report's, `#` and a number.

    Parameters
    ----------
    texts : pandas.Series of str
        By report (`report_texts`).
    """
    for report_id, text in texts.items():
        yield from ((f"{report_id}#{k}", each) for k, each in enumerate(triplets(text)))


def sentence_level(pairs, corpus, model, least_images=LEAST_IMAGES):
    """Return the `Level` of the topics of sentences.

    Parameters
    ----------
    pairs, least_images
        As for `document_level`.
    corpus : words.Corpus
        Of `triplets_of` the reports.
    model : models.TopicModel
    """
    report_id = [document_id.rpartition("#")[0] for document_id in corpus.document_ids]
    shares = pd.DataFrame(model.shares_of(corpus)).groupby(report_id, sort=False).mean()
    of_report = _of_report(shares.index, shares.to_numpy().argmax(axis=1), shares.max(axis=1).to_numpy())
    return _level(pairs, of_report, pd.DataFrame({"words": _joined(model)}), least_images)


def _joined(model):
    return [" ".join(each) for each in model.key_words()]


def _of_report(report_ids, topic, share):
    index = pd.Index(report_ids, name="report_id")
    return pd.DataFrame({"topic": topic, "share": share}, index=index)


def _level(pairs, of_report, topics, least_images):
    """Return the `Level` of every image by its report's topic; topics with too few images are dropped."""
    table = pairs[["image_id", "report_id"]].merge(of_report, on="report_id", how="left", validate="many_to_one")
    without = table["topic"].isna() | (table["topic"] < 0)
    topic = table["topic"].where(~without, -1).astype("int32")
    images_n = np.bincount(topic[~without], minlength=len(topics))
    known = of_report[of_report["topic"] >= 0]
    reports_n = np.bincount(known["topic"].astype(int), minlength=len(topics))
    kept = images_n >= least_images
    small = ~without & ~topic.map(dict(enumerate(kept))).fillna(False).astype(bool)
    table["topic"] = topic.where(~small, -1).astype("int32")
    table["share"] = table["share"].where(~without).astype("float32")
    columns = {"topic": np.arange(len(topics)), "reports_n": reports_n, "images_n": images_n, "kept": kept}
    counts = {
        "images_n": len(table),
        "topics_n": len(topics),
        "topics_kept_n": int(kept.sum()),
        "images_in_dropped_n": int(small.sum()),
        "images_without_words_n": int(without.sum()),
    }
    return Level(table, topics.assign(**columns)[[*columns, *topics.columns]], counts)
