"""Labels of a radiology report by rules: what is mentioned, what is said of it, and which words decided.

`Labeler().read(text)` gives a `Reading`: a label per finding of `FINDINGS` and, as evidence, every mention with its
place in the text, its assertion and the rule that decided it. `label_reports` does so for a stream of reports over
several processes; `html` shows a report with its mentions marked. The phrases are plain text in
`cxrlib/labelers/phrases`, which a radiologist can edit; its README says how.

The order of decisions follows the CheXpert labeler (Irvin et al., AAAI 2019): mentions, then for each mention whether
it is present, absent or uncertain, then one label per finding. The reach of a rule is found by words alone, as in
NegEx (Chapman et al., J Biomed Inform 2001), with commas, conjunctions and predicates telling where a statement ends.
"""

from __future__ import annotations

import itertools
import math
import re
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import pandas as pd

from cxrlib.base import parallel, vocabulary
from cxrlib.labelers import assertions, lexicon, sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Named = tuple[int, int, str, str, bool]  # start, end, finding, kind, whether its phrase has a gap
    Decided = tuple[str, int, int, str, str, int, int]
    Section = tuple[str, int, int]

LABELED_FINDINGS = tuple(dict.fromkeys([*vocabulary.NIH_FINDINGS.values(), *vocabulary.CHEXPERT_FINDINGS.values()]))


AGGREGATIONS = {
    "chexpert": "present before uncertain before absent; not mentioned is NaN",
    "nih": "present or not: uncertain mentions are dropped, absent and not mentioned are 0",
}


REMEMBERED = 50_000  # sentences whose reading is kept, since reports repeat them


WORDS_REMEMBERED = 50_000  # surface forms whose phrases are kept


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rules read in a report.

    Attributes
    ----------
    labels : dict
        Finding to 1.0 present, 0.0 absent, -1.0 uncertain, NaN not mentioned.
    evidence : tuple of Mention
        In the order of the text.
    """

    labels: dict
    evidence: tuple


_HEADING_MAX, _HEADING_WORDS_MAX = 60, 5  # letters, words


class RuleLabeler:
    """Reads reports by the phrases of a folder.

    Parameters
    ----------
    folder : Path, optional
        With `findings/<finding>.txt` for every finding but `no_finding`, and `rules/*.txt`; the package's own if none
        is given.
    aggregation : str
        A key of `AGGREGATIONS`.

    Raises
    ------
    FileNotFoundError
        If a phrase file is missing.
    ValueError
        If a phrase file is broken, naming file and line, or there is no such aggregation.
    """

    def __init__(self, folder: Path | str | None = None, aggregation: str = "chexpert") -> None:
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation {aggregation!r} is none of {', '.join(AGGREGATIONS)}.")
        self.folder = lexicon.PHRASES if folder is None else Path(folder)
        self.aggregation = aggregation
        files = self.folder / "findings", self.folder / "rules"
        findings = {
            f: lexicon.read_phrases(files[0] / f"{f}.txt", lexicon.FINDING_KINDS)
            for f in LABELED_FINDINGS
            if f != "no_finding"
        }
        rules = {
            name: lexicon.read_phrases(files[1] / f"{name}.txt", kinds) for name, kinds in lexicon.RULE_KINDS.items()
        }
        self._findings = {f: lexicon.compiled_finding(p) for f, p in findings.items()}
        # the words that a mention may start with: solid phrases, and what stands before a "..."
        every = [p for phrases in findings.values() for kind in lexicon.FINDING_KINDS for p in phrases[kind]]
        self._mention: re.Pattern[str] = lexicon.compiled(sorted({p.partition(" ... ")[0] for p in every}))
        self._load_rules({k: v for k, v in rules.items() if k != "sections"})
        self._load_sections(rules["sections"])
        self._found: dict[str, tuple[list[tuple[int, int, str, str]], list[tuple[int, str]]]]
        self._kinds: dict[str, list[tuple[str, str]]]
        self._remembered: dict[str, tuple[tuple[Decided, ...], tuple[tuple[str, float], ...]]]
        self._found, self._kinds, self._remembered = {}, {}, {}
        self._blank = dict.fromkeys(LABELED_FINDINGS, math.nan)

    def _load_rules(self, rules: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        spellings = {(file, kind): found for file, kinds in rules.items() for kind, found in kinds.items()}
        for (file, _), found in spellings.items():
            gapped = next((p for p in found if "..." in p), None)
            if gapped:
                raise ValueError(f"{self.folder / 'rules' / file}.txt: {gapped!r}: ... is for findings only.")
        self._rule_words: re.Pattern[str]
        self._opens: re.Pattern[str]
        self._rule_kinds = [(key, lexicon.compiled(found)) for key, found in spellings.items() if found]
        self._rule_words = lexicon.compiled(sorted({p for found in spellings.values() for p in found}))
        self._opens = lexicon.compiled(sorted({*rules["scope"]["degree"], *rules["scope"]["side"]}) or ["no"])

    def _load_sections(self, sections: Mapping[str, Sequence[str]]) -> None:
        self._section_of = {
            re.sub(r"[\s-]+", " ", heading): kind for kind, found in sections.items() for heading in found
        }
        capitals = "|".join(lexicon.longest_first(self._section_of)).upper()
        self._heading_line = re.compile(rf"(?:^|\n)[ \t]*({capitals})[ \t]*(?=\n)")

    # reading

    def read(self, text: str) -> Reading:
        """Return the `Reading` of a report.

        Parameters
        ----------
        text : str
            With or without section headings.

        Raises
        ------
        TypeError
            If it is not text.
        """
        lower = sentences.letters(text)
        said: list[tuple[str, float]]
        evidence, said, any_read = [], [], False
        for section, start, end in self._sections(text):
            for low, high in sentences.sentences(text, start, end, self._opens):
                mentions, stated = self._sentence(lower[low:high])
                if section != "ignored":
                    any_read = any_read or not text[low:high].isspace()
                    said += stated
                for finding, a, b, assertion, rule, rule_a, rule_b in mentions:
                    if section == "ignored":
                        assertion, rule, rule_a, rule_b = "kept_out", "ignored section", a, b
                    a, b = a + low, b + low
                    evidence.append(
                        assertions.Mention(
                            finding, a, b, text[a:b], assertion, rule, rule_a + low, rule_b + low, section
                        )
                    )
        return Reading(self._labels(said, any_read), tuple(evidence))

    def labels(self, text: str) -> dict[str, float]:
        """Return the labels of a report, those of `read`, without its evidence, which is quicker."""
        lower = sentences.letters(text)
        said: list[tuple[str, float]]
        said, any_read = [], False
        for section, start, end in self._sections(text):
            if section != "ignored":
                any_read = any_read or not text[start:end].isspace()
                for low, high in sentences.sentences(text, start, end, self._opens):
                    said += self._sentence(lower[low:high])[1]
        return self._labels(said, any_read)

    def read_many(self, texts: Iterable[str]) -> pd.DataFrame:
        """Return a table of labels, a row per text: float32 columns `FINDINGS`."""
        return pd.DataFrame([self.labels(text) for text in texts], columns=LABELED_FINDINGS, dtype="float32")

    def _labels(self, said: Iterable[tuple[str, float]], any_read: bool) -> dict[str, float]:
        """Return one label per finding from what was said of it.

        As the CheXpert labeler does: present before uncertain before absent, and no finding if no finding but support
        devices is present or uncertain. It differs in two ways: here the findings that NIH adds count too, and
        `no_finding` is 0 where there is one, and NaN where there was nothing to read, where CheXpert leaves it empty
        and 1.

        Parameters
        ----------
        said : list of (finding, value)
            Of all mentions that are not kept out.
        any_read : bool
            Whether any section was read.
        """
        labels = self._blank.copy()
        none = True
        for finding, value in said:
            if value == 1.0:
                labels[finding] = 1.0
            elif value == 0.0:
                if labels[finding] not in (1.0, -1.0):
                    labels[finding] = 0.0
                continue
            elif labels[finding] != 1.0:
                labels[finding] = -1.0
            none = none and finding == "support_devices"
        if any_read:
            labels["no_finding"] = float(none)
        return as_nih(labels) if self.aggregation == "nih" else labels

    def _headings(self, text: str) -> list[tuple[int, int, str]]:
        """Return the headings of a text in order: where they start and their text begins, and their kind."""
        found = []
        colon = text.find(":")
        while colon >= 0:
            if heading := self._heading_before(text, colon):
                found.append(heading)
            colon = text.find(":", colon + 1)
        if "\n" in text:
            for m in self._heading_line.finditer(text):
                found.append((m.start(1), m.end(), self._section_of[m.group(1).lower()]))
            found.sort()
        return found

    def _heading_before(self, text: str, colon: int) -> tuple[int, int, str] | None:
        """Return the heading that a colon ends, of the phrase file or a line that begins in capitals, or None."""
        low = max(0, colon - _HEADING_MAX)
        words = list(sentences.HEADING_WORD.finditer(text, low, colon))[-_HEADING_WORDS_MAX:]
        for k, first in enumerate(words):
            kind = self._section_of.get(" ".join(w.group() for w in words[k:]).lower().replace("-", " "))
            before = text[low : first.start()].rstrip(" \t*_")
            if kind and (first.group()[0].isupper() or not before or before[-1] in "\n.?!;"):
                return first.start(), colon + 1, kind
        line = text.rfind("\n", 0, colon) + 1
        if sentences.CAPITALS.fullmatch(text, line, colon):
            return line, colon + 1, "organs"
        return None

    def _sections(self, text: str) -> Iterator[Section]:
        """Yield `section, start, end`."""
        name, start = "text", 0
        headings = self._headings(text)
        has_body = any(kind in ("findings", "organs") for *_, kind in headings)
        for at, after, kind in headings:
            yield from self._parts(text, name, start, at, has_body)
            name, start = ("findings", at) if kind == "organs" else (kind, after)
        yield from self._parts(text, name, start, len(text), has_body)

    def _parts(self, text: str, name: str, start: int, end: int, has_body: bool) -> Iterator[Section]:
        if name in ("ignored", "technical"):
            over = sentences.PARAGRAPH_END if end < len(text) else sentences.LINE_END
            stop = m.end() if (m := over.search(text, start, end)) else end
            if name == "technical" and not has_body:
                said = [
                    low for low, high in sentences.sentences(text, start, stop, self._opens) if text[low:high].strip()
                ]
                stop = said[1] if len(said) > 1 else stop
            yield "ignored", start, stop
            name, start = "text", stop
        if end > start:
            yield name, start, end

    def _sentence(self, text: str) -> tuple[tuple[Decided, ...], tuple[tuple[str, float], ...]]:
        """Return the decided mentions of a sentence in lower case, and `finding, value` of each; remember them."""
        known = self._remembered.get(text)
        if known is None:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            mentions = self._read_sentence(text)
            stated = tuple(dict.fromkeys((m[0], assertions.ASSERTIONS[m[3]]) for m in mentions if m[3] != "kept_out"))
            known = self._remembered[text] = mentions, stated
        return known

    def _read_sentence(self, text: str) -> tuple[Decided, ...]:
        mentions = self._mentions(text)
        if not mentions:
            return ()
        words = []
        for m in self._rule_words.finditer(text):
            for file, kind in self._kinds_of(m.group()):
                words.append((m.start(), m.end(), file, kind))
        sentence = assertions.Sentence(text, words, [(a, b) for a, b, *_ in mentions])
        reaches = []
        for word in words:
            if word[2] in ("negation", "uncertainty", "kept_out") and not sentence.turns_away(word):
                left = word[3] in ("after", "between") or (word[3] == "at end" and sentence.closes(word))
                low, carried = sentence.reach_left(word) if left else (len(text), False)
                high = sentence.reach_right(word) if word[3] not in ("after", "at end") else 0
                reaches.append((word, low, high, carried))
        return tuple(
            (f, start, end, *assertions.decide(sentence, start, end, base, gapped, reaches))
            for start, end, f, base, gapped in mentions
        )

    def _kinds_of(self, words: str) -> list[tuple[str, str]]:
        """Return which rules a rule word belongs to; pseudo-negation wins, and takes it out of all others."""
        known = self._kinds.get(words)
        if known is None:
            if len(self._kinds) >= WORDS_REMEMBERED:
                self._kinds.clear()
            known = [key for key, pattern in self._rule_kinds if pattern.fullmatch(words)]
            if any(file == "pseudo_negation" for file, _ in known):
                known = []
            self._kinds[words] = known
        return known

    def _mentions(self, text: str) -> list[Named]:
        """Return the mentions of a sentence, `start, end, finding, kind, gapped`, in order."""
        found: set[Named] = set()
        m = self._mention.search(text)
        while m:
            solid, starts = self._named_in(m.group())
            at = m.start()
            found.update((at + a, at + b, finding, kind, False) for a, b, finding, kind in solid)
            for a, finding in starts:
                found.update(self._gapped_at(text, at + a, finding))
            # from its second word on, since phrases may overlap
            m = self._mention.search(text, assertions.FIRST_WORD.match(text, at).end())  # type: ignore[union-attr]  # it matches any letter
        return _without_covered(sorted(found))

    def _named_in(self, words: str) -> tuple[list[tuple[int, int, str, str]], list[tuple[int, str]]]:
        """Return the mentions inside words that were matched, and the places where a phrase with `...` may start."""
        known = self._found.get(words)
        if known is None:
            if len(self._found) >= WORDS_REMEMBERED:
                self._found.clear()
            solid, starts = [], []
            for name, finding in self._findings.items():
                for m in finding.solid.finditer(words):
                    kind = next(k for k, pattern in finding.kind_of if pattern.fullmatch(m.group()))
                    solid.append((m.start(), m.end(), name, kind))
                places = {m.start() for _, _, start in finding.gapped for m in start.finditer(words)}
                starts += [(place, name) for place in sorted(places)]
            known = self._found[words] = solid, starts
        return known

    def _gapped_at(self, text: str, place: int, finding: str) -> Iterator[Named]:
        """Return the mention by a phrase with `...` that starts here: that with the nearest end."""
        hits = [
            (m.end(), order, kind)
            for order, (kind, pattern, _) in enumerate(self._findings[finding].gapped)
            if (m := pattern.match(text, place))
        ]
        if hits:
            end, _, kind = min(hits)
            yield place, end, finding, kind, True


def _without_covered(mentions: Sequence[Named]) -> list[Named]:
    """Leave out what starts inside another mention of the same finding, `not` phrases included, and those phrases."""
    kept = []
    for mention in mentions:
        start, end, finding, kind, _ = mention
        covered = any(
            o[2] == finding and (o[0] < start < o[1] or (o[0] == start and (-o[1], o[3]) < (-end, kind)))
            for o in mentions
        )
        if not covered:
            kept.append(mention)
    return [m for m in kept if m[3] != "not"]


def as_nih(labels: Mapping[str, float]) -> dict[str, float]:
    """Return labels as NIH gave them: 1 present, else 0; no finding is 1 where none but devices is present.

    Uncertain mentions are dropped, and what is not mentioned is absent.
    """
    present = {f: float(v == 1.0) for f, v in labels.items()}
    if "no_finding" in present:
        others = (v for f, v in present.items() if f not in ("support_devices", "no_finding"))
        present["no_finding"] = float(not any(others))
    return present


# The labeler of a call of `label_reports`: forked workers have it, others load it once.
_loaded: dict[str, RuleLabeler] = {}


def _read_chunk(
    call: str, folder: Path | None, aggregation: str, evidence: bool, chunk: Sequence[tuple[str, str]]
) -> list[tuple[str, Reading]]:
    if call not in _loaded:
        _loaded.clear()
        _loaded[call] = RuleLabeler(folder, aggregation)
    return _read_here(_loaded[call], chunk, evidence)


def _read_here(labeler: RuleLabeler, chunk: Sequence[tuple[str, str]], evidence: bool) -> list[tuple[str, Reading]]:
    if evidence:
        return [(report_id, labeler.read(text)) for report_id, text in chunk]
    return [(report_id, Reading(labeler.labels(text), ())) for report_id, text in chunk]


def label_reports(
    reports: Iterable[tuple[str, str]],
    workers: int | None = None,
    chunk: int = 1000,
    *,
    folder: Path | None = None,
    aggregation: str = "chexpert",
    evidence: bool = False,
    labeler: RuleLabeler | None = None,
) -> Iterator[tuple[str, Reading]]:
    """Yield `id, Reading` for a stream of reports, in their order, whatever the number of processes.

    Reports are taken from the stream only as fast as they are read, so memory does not grow with their number.

    Parameters
    ----------
    reports : iterable of (id, str)
    workers : int, optional
        Processes; as many as there are cores if not given. With 1, or with no more than a chunk of reports, all is
        done in this process.
    chunk : int
        Reports that are handed to a process at a time.
    folder, aggregation
        As `Labeler` takes them.
    evidence : bool
        Whether readings carry their mentions, which makes the traffic between processes about three times as large.
    labeler : Labeler, optional
        One that is loaded already from that folder.
    """
    reports = iter(reports)
    workers = workers or joblib.effective_n_jobs()
    if workers < 0 or chunk < 1:
        raise ValueError(f"workers is {workers} and chunk {chunk}: both are at least 1.")
    first = list(itertools.islice(reports, chunk))
    second = list(itertools.islice(reports, chunk))
    chunks = itertools.chain([first, second], iter(lambda: list(itertools.islice(reports, chunk)), []))
    if workers == 1 or not second:
        labeler = labeler or RuleLabeler(folder, aggregation)
        for some in chunks:
            yield from _read_here(labeler, some, evidence)
        return
    call = uuid.uuid4().hex
    _loaded[call] = labeler or RuleLabeler(folder, aggregation)
    try:
        for readings in parallel.mapped(partial(_read_chunk, call, folder, aggregation, evidence), chunks, workers):
            yield from readings
    finally:
        _loaded.pop(call, None)
