"""Pages of topics for readers: one to browse, one that asks which word does not belong (Chang et al., NIPS 2009).

Each page is one file, without network and without a library. No report's text is on it: words alone, and only such as
enough patients' reports have (`patients_n`), since a rare word can be a name.
"""

import html
import json

import numpy as np
import pandas as pd

from cxrlib.base import json_files, tables
from cxrlib.statistics import intervals, resampling

_LEAST_PATIENTS = 10


_SHOWN_WORDS = 5  # of a topic, in a question with one intruder


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } summary { cursor: pointer; padding: .15rem 0 }
.bar { display: inline-block; height: .7rem; background: #0072B2; margin-right: .5rem; vertical-align: middle }
.n { color: #666; font-size: .85rem } .dropped { color: #888 } td, th { padding: 0 1rem 0 0; text-align: left }
fieldset { border: 1px solid #ccc; margin: .7rem 0 } label { margin-right: 1rem; white-space: nowrap }
input[type=search] { font: inherit; width: 20rem; max-width: 100% }
"""


_SEARCH = """
document.getElementById('search').oninput = function () {
  const asked = this.value.trim().toLowerCase();
  for (const topic of document.querySelectorAll('details'))
    topic.hidden = !topic.dataset.words.split(' ').some(word => word.startsWith(asked));
};
"""


_SAVE = """
document.querySelector('form').onsubmit = function (event) {
  event.preventDefault();
  const cell = text => '"' + text.replaceAll('"', '""') + '"';
  const given = new FormData(this), reader = given.get('reader');
  const rows = [...given].filter(([name]) => name !== 'reader').map(row => [reader, ...row].map(cell).join(','));
  const link = document.createElement('a');
  const table = ['reader,question,word', ...rows, ''].join('\\n');
  link.href = URL.createObjectURL(new Blob([table], {type: 'text/csv'}));
  link.download = 'intrusion_' + reader.replace(/\\W+/g, '_') + '.csv';
  link.click();
};
"""


def patients_n(corpus, patients=None):
    """Return in how many patients' reports each term is.

    Parameters
    ----------
    corpus : words.Corpus
    patients : sequence, optional
        Of each document; without it every document counts as a patient.

    Returns
    -------
    pandas.Series of int
        By term.
    """
    _, patient = np.unique(range(len(corpus)) if patients is None else np.asarray(patients, str), return_inverse=True)
    patient = np.repeat(patient.astype(np.int64), np.diff(corpus.starts))
    pairs = np.unique(patient * len(corpus.terms) + corpus.tokens)
    return pd.Series(np.bincount(pairs % len(corpus.terms), minlength=len(corpus.terms)), index=list(corpus.terms))


def frequent_words(words, frequency, least=_LEAST_PATIENTS):
    """Return topics' key words without the rare ones.

    Parameters
    ----------
    words : pandas.Series of str
        Each topic's words, with spaces between them (`levels.Level.topics`).
    frequency : pandas.Series of int
        By word (`patients_n`); a word that it lacks is rare.
    least : int
    """
    common = set(frequency.index[frequency >= least])
    return words.map(lambda each: " ".join(word for word in each.split() if word in common))


def topic_page(title, note, levels, frequency, least=_LEAST_PATIENTS):
    """Return a page on which every level's topics can be browsed and searched.

    Parameters
    ----------
    title, note : str
        The note says whose reports these are, and whether they are real.
    levels : Mapping of str to pandas.DataFrame
        What to call a level, and its `levels.Level.topics`.
    frequency : pandas.Series of int
        In how many patients' reports each word is; rarer ones than `least` are not shown.
    least : int

    Returns
    -------
    str
        HTML.
    """
    parts = []
    for name, topics in levels.items():
        shown = frequent_words(topics["words"], frequency, least)
        most = max(1, int(topics["images_n"].max()))
        parts.append(f"<h2>{html.escape(name)}: {len(topics)} topics, {int(topics['kept'].sum())} kept</h2>")
        for row, words in zip(topics.itertuples(), shown, strict=True):
            parts.append(_topic(row, words.split(), frequency, round(12 * row.images_n / most, 2)))
    about = (
        f"{html.escape(note)} Words that fewer than {least} patients' reports have are not shown. "
        "A dropped topic has too few images."
    )
    search = '<p><input type="search" id="search" placeholder="words that begin with ..."></p>'
    return _page(title, f"<p>{about}</p>{search}{''.join(parts)}", _SEARCH)


def _topic(row, words, frequency, width_rem):
    first = html.escape(" ".join(words[:6])) or "(no word that is common enough)"
    dropped = "" if row.kept else ' <span class="dropped">dropped</span>'
    inside = f" of topic {row.parent}" if hasattr(row, "parent") else ""
    cells = "".join(f"<tr><td>{html.escape(word)}</td><td>{frequency[word]}</td></tr>" for word in words)
    summary = (
        f'<span class="bar" style="width:{width_rem}rem"></span>{row.topic}{inside}: {first} '
        f'<span class="n">{row.images_n} images, {row.reports_n} reports</span>{dropped}'
    )
    table = f"<table><tr><th>word</th><th>patients</th></tr>{cells}</table>"
    return f'<details data-words="{html.escape(" ".join(words))}"><summary>{summary}</summary>{table}</details>'


def _page(title, body, script):
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{html.escape(title)}</h1>{body}'
    return f"{page}<script>{script}</script></body></html>\n"


def intrusion_questions(model, frequency, seed, least=_LEAST_PATIENTS):
    """Return a question a topic: its five first words and an intruder, shuffled.

    The intruder is one of the first five words of another topic, and among the less probable half of this topic's; it
    is drawn among all such. Words that fewer than `least` patients' reports have are passed over.

    Parameters
    ----------
    model : models.TopicModel
    frequency : pandas.Series of int
        By word (`patients_n`).
    seed : int
        Of intruders, and of the order of questions and words.

    Returns
    -------
    pandas.DataFrame
        `question, topic, words, intruder`; `words` is a tuple of six. A topic without enough words, or to which every
        candidate belongs, has no row.
    """
    rng = np.random.default_rng(seed)
    common = set(frequency.index[frequency >= least])
    ranked = [[w for w in each if w in common] for each in model.key_words(len(model.terms))]
    rows = []
    for topic in rng.permutation(len(ranked)).tolist():
        own, unlikely = ranked[topic][:_SHOWN_WORDS], set(ranked[topic][(len(ranked[topic]) + 1) // 2 :])
        others = {word for k, each in enumerate(ranked) if k != topic for word in each[:_SHOWN_WORDS]}
        candidates = sorted((others & unlikely) - set(own))
        if len(own) < _SHOWN_WORDS or not candidates:
            continue
        intruder = candidates[rng.integers(len(candidates))]
        words = tuple(rng.permutation([*own, intruder]).tolist())
        rows.append({"question": f"q{len(rows) + 1}", "topic": topic, "words": words, "intruder": intruder})
    return pd.DataFrame(rows, columns=["question", "topic", "words", "intruder"])


def intrusion_page(title, questions):
    """Return the page that asks a reader, without the answers, and the answers as JSON text to keep apart.

    Parameters
    ----------
    title : str
    questions : pandas.DataFrame
        Of `intrusion_questions`.

    Returns
    -------
    page, answers : str
        The page saves what a reader chose as CSV `reader, question, word`.
    """
    fields = []
    for row in questions.itertuples():
        options = "".join(
            f'<label><input type="radio" name="{row.question}" value="{html.escape(word)}" required> '
            f"{html.escape(word)}</label>"
            for word in row.words
        )
        fields.append(f"<fieldset><legend>{row.question}</legend>{options}</fieldset>")
    asks = (
        "<p>Five of the six words are from one topic of reports, one is not. Choose the one that does not belong, "
        "and guess if you cannot say. Save at the end, and give the file to whoever asked you.</p>"
    )
    reader = '<p><label>Reader <input name="reader" required></label></p>'
    form = f"<form>{reader}{''.join(fields)}<p><button>Save answers</button></p></form>"
    answers = {row.question: {"topic": int(row.topic), "intruder": row.intruder} for row in questions.itertuples()}
    return _page(title, asks + form, _SAVE), json.dumps(answers, indent=1, ensure_ascii=False) + "\n"


def intrusion_scores(answers, filled, resamples_n=2000, seed=0):
    """Return how often readers find the intruders: model precision, Chang et al. equation 1.

    Parameters
    ----------
    answers : Path
        The JSON that `intrusion_page` made.
    filled : sequence of Path
        A CSV a reader: `reader, question, word`.
    resamples_n, seed : int
        Of topics.

    Returns
    -------
    by_topic : pandas.DataFrame
        `question, topic, intruder, readers_n, precision`; a question that nobody answered has no precision.
    overall : intervals.Interval
        The mean over topics, its interval resamples topics. By chance it is one in six.

    Raises
    ------
    ValueError
        In a sentence: a reader who answers twice, or a question that was not asked.
    """
    try:
        known = json_files.parse(answers.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{answers} is not JSON ({error}): make the page anew.") from None
    given = pd.concat([tables.read_csv(path, ("reader", "question", "word")) for path in filled], ignore_index=True)
    unknown = given[~given["question"].isin(list(known))]
    if len(unknown):
        raise ValueError(f"question {unknown['question'].iloc[0]!r} was not asked: the answers are of another page.")
    twice = given.duplicated(["reader", "question"])
    if twice.any():
        row = given[twice].iloc[0]
        raise ValueError(f"reader {row['reader']!r} answers {row['question']} twice: keep one answer.")
    right = given["word"].fillna("") == given["question"].map({q: a["intruder"] for q, a in known.items()})
    found = right.groupby(given["question"]).agg(["size", "mean"])
    by_topic = pd.DataFrame([{"question": question, **answer} for question, answer in known.items()])
    by_topic["readers_n"] = by_topic["question"].map(found["size"]).fillna(0).astype(int)
    by_topic["precision"] = by_topic["question"].map(found["mean"])
    read = by_topic.dropna(subset="precision")
    resamples = resampling.patient_resamples(read["topic"], resamples_n, np.random.default_rng(seed))
    return by_topic, intervals.mean(read["precision"].astype(float), resamples)
