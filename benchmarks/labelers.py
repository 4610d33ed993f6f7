"""Reports per second of the rule labeler, beside two plain ones that look for the same phrases, in one process.

    python benchmarks/labelers.py [REPORTS]

The reports are Open-i's 3,955 as they are, then a stream of REPORTS (200,000 if not given) made of their sentences in
random order, of which only the labeler's own speed and memory are taken. The others are a keyword and negation
labeler of two regular expressions, and spaCy's blank English with its sentencizer and PhraseMatcher, with negspacy
where that is installed: neither is a dependency of this project.
"""

import random
import re
import resource
import sys
import time

from cxrlib.base import progress
from cxrlib.labelers import lexicon, rules
from cxrlib.releases import openi_reports


def spellings(words):
    """Return finding to its phrases as plain words: without `...`, and with the endings that `*` has in `words`."""
    found = {}
    for finding in rules.LABELED_FINDINGS:
        if finding == "no_finding":
            continue
        kinds = lexicon.read_phrases(lexicon.PHRASES / "findings" / f"{finding}.txt", lexicon.FINDING_KINDS)
        found[finding] = set()
        for phrase in kinds["present"]:
            if "..." in phrase:
                continue
            *first, last = phrase.split()
            ends = [w for w in words if w.startswith(last[:-1])] if last.endswith("*") else [last]
            found[finding] |= {" ".join([*first, end]) for end in ends if "*" not in " ".join(first)}
    return found


def keyword_labeler(phrases):
    """Return a function of a text: keywords, and absent if a negation stands before them in the sentence."""
    named = {
        finding: re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, found), key=len, reverse=True))})\b")
        for finding, found in phrases.items()
    }
    negation = re.compile(r"\b(?:no|not|without|negative for|free of|absence of|denies|resolved)\b")

    def read(text):
        labels = {}
        for sentence in re.split(r"(?<=[.!?])\s+", text.lower()):
            negated = negation.search(sentence)
            for finding, pattern in named.items():
                for m in pattern.finditer(sentence):
                    labels[finding] = max(labels.get(finding, 0), int(not (negated and negated.start() < m.start())))
        return labels

    return read


def spacy_labeler(phrases):
    """Return a function of a list of texts, and what it is; None where spaCy is not installed."""
    try:
        import spacy
        from spacy.matcher import PhraseMatcher
        from spacy.tokens import Span
        from spacy.util import filter_spans
    except ImportError:
        return None, "spaCy is not installed"
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    for finding, found in phrases.items():
        matcher.add(finding, [nlp.make_doc(phrase) for phrase in sorted(found)])

    @spacy.Language.component("mentions")
    def mentions(doc):
        doc.ents = filter_spans([Span(doc, start, end, label=name) for name, start, end in matcher(doc)])
        return doc

    nlp.add_pipe("mentions")
    what = "spaCy blank + PhraseMatcher, no negation"
    try:
        import negspacy.negation  # noqa: F401
    except ImportError:
        return (lambda texts: [[e.label_ for e in doc.ents] for doc in nlp.pipe(texts)]), what
    nlp.add_pipe("negex")
    return (
        lambda texts: [[(e.label_, e._.negex) for e in doc.ents] for doc in nlp.pipe(texts)],
        "spaCy blank + PhraseMatcher + negspacy",
    )


def mixed(texts, reports_n, seed=0):
    """Yield reports of sentences of other reports, so that few reports, but most sentences, occur again."""
    rng = random.Random(seed)
    sentences = [s for text in texts for s in re.split(r"(?<=[.!?])\s+", text)]
    per_report = len(sentences) // len(texts)
    for k in range(reports_n):
        yield str(k), " ".join(rng.choices(sentences, k=per_report))


def timed(what, read, texts_n):
    start = time.process_time()  # not the clock on the wall, which other work on the machine makes longer
    read()
    speed = texts_n / (time.process_time() - start)
    print(f"{what:<58}{speed:>10,.0f} reports/s on one core")
    return speed


def memory_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main():
    reports_n = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    texts = [report.text for report in openi_reports.read_reports()]
    words = sorted({w for text in texts for w in re.findall(r"[a-z]+", text.lower())})
    phrases = spellings(words)
    labeler = rules.RuleLabeler()
    remembered = rules.REMEMBERED
    rules.REMEMBERED = 0
    bare = timed("rules, no sentence remembered", lambda: [labeler.labels(t) for t in texts], len(texts))
    rules.REMEMBERED = remembered
    ours = timed("rules", lambda: [labeler.labels(t) for t in texts], len(texts))
    keyword = keyword_labeler(phrases)
    plain = timed("keywords and negation, regular expressions", lambda: [keyword(t) for t in texts], len(texts))
    print(f"ratio {ours / plain:.1f} (without memory {bare / plain:.1f})")
    spacy_read, what = spacy_labeler(phrases)
    if spacy_read:
        theirs = timed(what, lambda: spacy_read(texts), len(texts))
        print(f"ratio {ours / theirs:.1f} (without memory {bare / theirs:.1f})")
    else:
        print(what)
    for workers in (1, None):
        for some_n in (reports_n // 10, reports_n):
            start = time.perf_counter()
            stream = rules.label_reports(mixed(texts, some_n), workers)
            present_n = sum(r.labels["effusion"] == 1.0 for _, r in progress.bar(stream, total=some_n))
            took = time.perf_counter() - start
            print(
                f"stream of {some_n:,}, {workers or 'all'} core(s): {some_n / took:,.0f} reports/s, "
                f"{present_n:,} with an effusion, peak memory so far {memory_mib():.0f} MiB"
            )


if __name__ == "__main__":
    main()
