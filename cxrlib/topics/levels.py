"""The topic of each image's report at three levels: of the document, within dominant topics, of a sentence.

Shin et al. (CVPR 2015) had 80 topics of documents, 800 of a second level, since one topic held half of the images,
and 1,000 of sentences. Networks learned those with enough images alone (60, 385 and 717). Here:

- **Document**: the topic with the greatest share of the report.
- **Second**: a topic that holds more than `dominant` times its even share of the reports is divided, by topics of
  its own reports alone, with words that are common among these left out anew. The others stay what they are.
- **Sentence**: topics of triplets, a sentence with the one before and the one after. An image's triplets are those
  around the sentences that name it ("on the lateral view", "image 2": `named_in` of the archive's pairs). Where none
  does, as in most chest reports, they are those around every sentence of findings and impression. An image has the
  topic whose share in the mean of its triplets is greatest.
- A topic with fewer than `least_images` images is dropped, and they have topic -1. So have images whose report has
  too few words, with a missing share. Both are counted.
"""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxrlib.labelers import sentences
from cxrlib.reports import image_reports, mentions
from cxrlib.topics import models, words

_LEAST_IMAGES = 20


_UNITS = 1_000  # images or reports whose triplets' shares are held at once


_NO_LIST = re.compile(r"(?!)")  # what opens a line of a list hangs on the language: nothing does


class Level(NamedTuple):
    """Which topic each image has.

    Attributes
    ----------
    table : pandas.DataFrame
        `image_id, report_id` text, `topic` int32, -1 where it was dropped or the report has too few words, `share`
        float32 in [0, 1], the topic's probability (also of a dropped topic; missing where there are no words).
    topics : pandas.DataFrame
        `topic, reports_n, images_n, kept, words`, a row a topic; a dropped topic keeps its number. The second level
        has `parent` too.
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


def document_level(pairs, corpus, model, least_images=_LEAST_IMAGES):
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
    found = _found(corpus.document_ids, *model.best_of(corpus))
    return _level(pairs, pairs["report_id"], found, pd.DataFrame({"words": _joined(model)}), least_images)


def second_level(pairs, corpus, model, rules, topics_n=10, dominant=2.0, least_images=_LEAST_IMAGES, **settings):
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
        times `least_images` reports, of which at least `topics_n` still have enough words.
    least_images : int
    **settings
        Further arguments of `models.fit_topics`, `seed` among them.

    Returns
    -------
    Level
        A share is the product of the topic's and, inside it, of the second topic's.
    """
    best, first_share = model.best_of(corpus)
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
        second, inner_share = within.best_of(part)
        number[kept], share[kept] = len(rows) + second, first_share[kept] * inner_share
        rows += [{"words": key_words, "parent": topic} for key_words in _joined(within)]
    found = _found(corpus.document_ids, number, share)
    return _level(pairs, pairs["report_id"], found, pd.DataFrame(rows), least_images)


def _divided(corpus, rules, topics_n, settings):
    """Return the documents of a topic with enough words of their own, and topics of them; None if too few have."""
    try:
        part = corpus.filtered(rules)
    except ValueError:  # no document is left
        return None
    return (part, models.fit_topics(part, topics_n, **settings)) if len(part) >= topics_n else None


def triplets_of(pairs):
    """Yield id and text of the triplets of every image, or of its report where no sentence names the image.

    Parameters
    ----------
    pairs : pandas.DataFrame
        `image_id, report_id, text`, a row an image, and if known `named_in`: the sentences of the text that name the
        image, as `archive_pairs.write_pairs` has them.

    Yields
    ------
    (str, str)
        An id is `report R#k`, or `image I of R#k` of an image that is named. A triplet that repeats another of the
        same report or image is left out.
    """
    texts = report_texts(pairs)
    named = pairs["named_in"].fillna("") if "named_in" in pairs else pd.Series("", index=pairs.index)
    reports = pairs["report_id"][named == ""].drop_duplicates()
    yield from _around((f"report {report_id}", _sentences(texts[report_id]), None) for report_id in reports)
    some = pairs[named != ""]
    rows = zip(_own(some), some["text"], named[named != ""], strict=True)
    yield from _around((unit, mentions.sentences_of(text), said) for unit, text, said in rows)


def _own(pairs):
    """Return the names of the images as units of triplets; an image may be of two reports."""
    return "image " + pairs["image_id"].astype(str) + " of " + pairs["report_id"].astype(str)


def _sentences(text):
    bounds = sentences.sentences(text, 0, len(text), _NO_LIST)
    return [" ".join(text[low:high].split()) for low, high in bounds]


def _around(units):
    """Yield the triplets of units: a name, sentences, and those of them that name the image, None for every one."""
    for name, each, said in units:
        spoken = [sentence for sentence in each if words.tokens(sentence)]
        centres = [k for k, sentence in enumerate(spoken) if said is None or sentence in said]
        near = ([sentence.rstrip(".") for sentence in spoken[max(0, k - 1) : k + 2]] for k in centres)
        around = dict.fromkeys(". ".join(sentences_) + "." for sentences_ in near)
        yield from ((f"{name}#{k}", text) for k, text in enumerate(around))


def sentence_level(pairs, corpus, model, least_images=_LEAST_IMAGES):
    """Return the `Level` of the topics of sentences.

    Parameters
    ----------
    pairs, least_images
        As for `document_level`.
    corpus : words.Corpus
        Of `triplets_of(pairs)`.
    model : models.TopicModel
    """
    of_unit = _found(*_mean_best(corpus, model))
    own = _own(pairs)
    unit = own.where(own.isin(of_unit.index), "report " + pairs["report_id"].astype(str))
    return _level(pairs, unit, of_unit, pd.DataFrame({"words": _joined(model)}), least_images)


def _mean_best(corpus, model):
    """Return the units whose triplets these are, and the topic and share that are greatest in their mean."""
    unit = np.array([document_id.rpartition("#")[0] for document_id in corpus.document_ids], object)
    starts = np.flatnonzero(np.r_[True, unit[1:] != unit[:-1]])  # a unit's triplets stand together
    topic, share = np.empty(len(starts), np.int32), np.empty(len(starts), np.float32)
    for low in range(0, len(starts), _UNITS):
        bounds = np.r_[starts[low : low + _UNITS + 1], len(unit)][: len(starts[low : low + _UNITS]) + 1]
        shares = model.shares_of(corpus.part(slice(bounds[0], bounds[-1])))
        mean = np.add.reduceat(shares, bounds[:-1] - bounds[0]) / np.diff(bounds)[:, None]
        topic[low : low + _UNITS], share[low : low + _UNITS] = mean.argmax(axis=1), mean.max(axis=1)
    return unit[starts], topic, share


def _joined(model):
    return [" ".join(each) for each in model.key_words()]


def _found(ids, topic, share):
    return pd.DataFrame({"topic": topic, "share": share}, index=list(ids))


def _level(pairs, unit, found, topics, least_images):
    """Return the `Level` of every image by the report or image in whose row its topic is.

    Parameters
    ----------
    pairs : pandas.DataFrame
    unit : pandas.Series of str
        Of each pair, a name in the index of `found`, or one that it lacks.
    found : pandas.DataFrame
        `topic, share`; a topic of -1 is none.
    topics : pandas.DataFrame
        A row a topic.
    least_images : int
    """
    table = pairs[["image_id", "report_id"]].reset_index(drop=True)
    row = found.index.get_indexer(unit)
    topic = np.where(row >= 0, found["topic"].to_numpy()[row], -1).astype("int32")
    share = np.where(topic >= 0, found["share"].to_numpy()[row], np.nan).astype("float32")
    known = table[topic >= 0].groupby(topic[topic >= 0])
    reports_n = known["report_id"].nunique().reindex(range(len(topics)), fill_value=0).to_numpy()
    images_n = np.bincount(topic[topic >= 0], minlength=len(topics))
    kept = images_n >= least_images
    small = (topic >= 0) & ~np.append(kept, True)[topic]
    columns = {"topic": np.arange(len(topics)), "reports_n": reports_n, "images_n": images_n, "kept": kept}
    counts = {
        "images_n": len(table),
        "topics_n": len(topics),
        "topics_kept_n": int(kept.sum()),
        "images_in_dropped_n": int(small.sum()),
        "images_without_words_n": int((topic < 0).sum()),
    }
    table = table.assign(topic=np.where(small, -1, topic).astype("int32"), share=share)
    return Level(table, topics.assign(**columns)[[*columns, *topics.columns]], counts)
