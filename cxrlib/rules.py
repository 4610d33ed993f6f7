"""Labels of a radiology report by rules: what is mentioned, what is said of it, and which words decided.

`Labeler().read(text)` gives a `Reading`: a label per finding of `FINDINGS` and, as evidence, every mention with its
place in the text, its assertion and the rule that decided it. `label_reports` does so for a stream of reports over
several processes; `html` shows a report with its mentions marked. The phrases are plain text in `cxrlib/phrases`,
which a radiologist can edit; its README says how.

The order of decisions follows the CheXpert labeler (Irvin et al., AAAI 2019): mentions, then for each mention whether
it is present, absent or uncertain, then one label per finding. The reach of a rule is found by words alone, as in
NegEx (Chapman et al., J Biomed Inform 2001), with commas, conjunctions and predicates telling where a statement ends.
"""

import collections
import concurrent.futures
import html as markup
import itertools
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxrlib.labelsets import CHEXPERT_FINDINGS, NIH_FINDINGS

FINDINGS = tuple(dict.fromkeys([*NIH_FINDINGS.values(), *CHEXPERT_FINDINGS.values()]))
PHRASES = Path(__file__).resolve().parent / "phrases"
ASSERTIONS = {"present": 1.0, "absent": 0.0, "uncertain": -1.0, "kept_out": math.nan}
AGGREGATIONS = {
    "chexpert": "present before uncertain before absent; not mentioned is NaN",
    "nih": "present or not: uncertain mentions are dropped, absent and not mentioned are 0",
}
FINDING_KINDS = ("present", "absent", "uncertain", "not")
RULE_KINDS = {
    "negation": ("before", "just before", "after"),
    "uncertainty": ("before", "before list", "after", "at end", "between"),
    "pseudo_negation": ("words",),
    "kept_out": ("before list", "before", "just before", "after"),
    "scope": ("ends", "verbs", "seen", "degree", "side", "interpretation", "stand-in"),
    "sections": ("findings", "organs", "impression", "ignored", "technical"),
}
SENTENCE_MAX = 1_000  # letters; longer ones are cut, best where a statement ends
GAP_WORDS = 8  # words that `...` may stand for
EXPANSIONS_MAX = 5_000  # spellings that one phrase may stand for
REMEMBERED = 50_000  # sentences whose reading is kept, since reports repeat them
WORDS_REMEMBERED = 50_000  # surface forms whose phrases are kept


class Mention(NamedTuple):
    """A finding named in a report and what is said of it.

    Attributes
    ----------
    finding : str
    start, end : int
        Where its words are: `report[start:end] == text`.
    text : str
    assertion : str
        A key of `ASSERTIONS`; `kept_out` is history, family, comparison, a question, or an ignored section.
    rule : str
        The kind of rule that decided, for example `negation before`; `named` if none did, `phrase` if the phrase
        itself says so (heart size is normal).
    rule_start, rule_end : int
        Where the rule's words are; those of the mention where no other words decided.
    section : str
        `findings`, `impression`, `ignored`, or `text` where there is no heading.
    """

    finding: str
    start: int
    end: int
    text: str
    assertion: str
    rule: str
    rule_start: int
    rule_end: int
    section: str


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


# --- phrase files -------------------------------------------------------------------------------------------


def _spellings(phrase):
    """Return all spellings that a phrase with `( | )` stands for; a ValueError says what is wrong with it."""
    text = phrase.lower().replace("-", " ")
    if text.count("(") != text.count(")"):
        raise ValueError("its brackets do not match")
    found = [""]
    for part in re.split(r"(\([^()]*\))", text):
        if part.startswith("("):
            options = part[1:-1].split("|")
        elif re.search(r"[()|]", part):
            raise ValueError("brackets inside brackets, or | outside of them")
        else:
            options = [part]
        if len(found) * len(options) > EXPANSIONS_MAX:
            raise ValueError(f"it stands for more than {EXPANSIONS_MAX:,} spellings: write it as several lines")
        found = [f + o for f in found for o in options]
    found = [" ".join(f.split()) for f in found]
    for spelling in found:
        words = spelling.split()
        if not words or words[0] == "..." or words[-1] == "...":
            raise ValueError("it is empty, or starts or ends with ...")
        if any("*" in w[:-1] or w == "*" for w in words):
            raise ValueError("* stands only at the end of a word")
        if any("..." in w and w != "..." for w in words) or spelling.count("... ..."):
            raise ValueError("... stands between words, with a space on both sides, and once at a time")
    return list(dict.fromkeys(found))


def read_phrases(path, kinds):
    """Return the phrases of a file by heading.

    Parameters
    ----------
    path : Path
    kinds : sequence of str
        The headings it may have.

    Returns
    -------
    dict
        Heading to list of spellings, `...` as a word, `*` at a word's end.

    Raises
    ------
    ValueError
        Naming file and line of a broken phrase or heading, or if there is no phrase.
    FileNotFoundError
        If the file is missing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"The phrase file {path} is missing; copy it from {PHRASES}.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from None
    found, kind = {k: [] for k in kinds}, None
    for number, line in enumerate(lines, 1):
        phrase = line.partition("#")[0].strip()
        if not phrase:
            continue
        if phrase.startswith("["):
            kind = phrase[1:-1].strip()
            if not phrase.endswith("]") or kind not in kinds:
                raise ValueError(f"{path} line {number}: {phrase!r} is none of the headings [{'], ['.join(kinds)}].")
        elif kind is None:
            raise ValueError(f"{path} line {number}: {phrase!r} stands before any heading [{kinds[0]}].")
        else:
            try:
                found[kind] += _spellings(phrase)
            except ValueError as error:
                raise ValueError(f"{path} line {number}: {phrase!r} is no phrase: {error}.") from None
    if not any(found.values()):
        raise ValueError(f"{path} has no phrase: write one a line below [{kinds[0]}].")
    return found


def _trie(spellings):
    """Return one regular expression for many spellings, longest first, as a tree of their letters."""
    tree = {}
    for spelling in spellings:
        node = tree
        for letter in spelling:
            node = node.setdefault(letter, {})
        node[""] = {}

    def pattern(node):
        ends = "" in node
        branches = [
            {" ": "[ -]+", "*": "[a-z]*"}.get(letter, re.escape(letter)) + pattern(node[letter])
            for letter in sorted(node, key=lambda c: (c == "*", c))
            if letter
        ]
        if not branches:
            return ""
        inner = branches[0] if len(branches) == 1 and not ends else f"(?:{'|'.join(branches)})"
        return inner + "?" * ends

    return pattern(tree)


def _compiled(spellings):
    """Return the regular expression of whole words for spellings without `...`; None if there are none."""
    if not spellings:
        return None
    words = [s for s in spellings if re.search("[a-z0-9]", s)]
    parts = [rf"(?<![a-z0-9])(?:{_trie(words)})(?![a-z0-9])"] if words else []
    parts += [re.escape(s) for s in _long(set(spellings) - set(words))]  # such as ; and ?
    return re.compile("|".join(parts))


_GAP_STOPS = "but|however|although|though|which|while|without|no|with|there"


def _gapped(spellings):
    """Return a regular expression for phrases with `...`, the nearest end first."""
    gap = rf"(?:[ -]+(?!(?:{_GAP_STOPS})\b)[a-z0-9'/()-]+,?){{0,{GAP_WORDS}}}?[ -]+"
    by_start = collections.defaultdict(set)
    for spelling in spellings:
        start, _, rest = spelling.partition(" ... ")
        by_start[start].add(rest)
    groups = collections.defaultdict(list)
    for start, rests in by_start.items():
        groups[frozenset(rests)].append(start)
    one = []
    for rests, starts in groups.items():
        ends = "|".join(gap.join(_trie([part]) for part in rest.split(" ... ")) for rest in _long(rests))
        one.append(f"(?:{_trie(starts)})[,:]?{gap}(?:{ends})")
    return re.compile(rf"(?:{'|'.join(one)})(?![a-z0-9])"), _compiled(list(by_start))


def _long(texts):
    return sorted(texts, key=lambda t: (-len(t), t))


@dataclass(frozen=True)
class _Finding:
    """The compiled phrases of a finding: solid ones by spelling, gapped ones by kind with what they start with."""

    solid: re.Pattern
    kind_of: tuple  # (kind, pattern) in the order in which a match is looked up
    gapped: tuple  # (kind, pattern, pattern of starts)


def _finding(phrases):
    solid = {kind: [p for p in phrases[kind] if " ... " not in p] for kind in FINDING_KINDS}
    gapped = {kind: [p for p in phrases[kind] if " ... " in p] for kind in FINDING_KINDS}
    return _Finding(
        _compiled([p for kind in FINDING_KINDS for p in solid[kind]]),
        tuple((k, _compiled(solid[k])) for k in ("not", "uncertain", "absent", "present") if solid[k]),
        tuple((kind, *_gapped(gapped[kind])) for kind in ("uncertain", "absent", "present") if gapped[kind]),
    )


# --- sentences and sections ---------------------------------------------------------------------------------

# A sentence ends at . ! or a blank line, a bullet or number on a new line, and after a short line (a list) whose next
# begins with a capital. "?" is left in: it stands for doubt.
_SENTENCE_END = re.compile(  # each branch starts with a letter of its own, which makes the search quick
    r"[.!](?<!\b[DdMm]r\.)(?<!\b[Vv]s\.)(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bapprox\.)[.!]*(?=\s|$|[A-Z][a-z])"
    r"|\?(?<=\w\?)(?=\s+[A-Z])"
    r"|\n(?:[ \t]*\n|(?<=:\n)|(?=[ \t]*(?:[-*•]|\d{1,2}[.)])[ \t])|(?=[ \t]*[A-Z][a-z]*(?:[ \t][A-Za-z]+)?:))"
)
_HEADING_MAX, _HEADING_WORDS_MAX = 60, 5  # letters, words
_HEADING_WORD = re.compile(r"[A-Za-z]+(?:-?\d+$)?")  # ICD-10 is one word
_CAPITALS = re.compile(r"[ \t]*[A-Z][A-Z /-]+")


_LINE_BREAK = re.compile(r"\n(?=[ \t]*([A-Za-z]))")
_SHORT_LINE_MAX, _PARAGRAPH_MAX = 45, 2_000  # letters
# A short line that ends so goes on in the next, whatever that begins with.
_GOES_ON = re.compile(
    r"(?:,|\b(?:and|or|nor|the|an?|of|in|at|on|to|from|for|by|with|without|no|not|any|is|are|was|were|has|have|be))"
    r"[ \t]*$"
)
_LAST_WORD = re.compile(r"[a-z]+(?=[ \t]*$)")
# An ignored section ends at a blank line; where no heading follows, at a line that ends a sentence. A technical one
# ends with its first sentence where no heading of the report opens its findings.
_PARAGRAPH_END = re.compile(r"\S[^\n]*\n[ \t]*\n(?=[^\n]*\S)")
_LINE_END = re.compile(r"\S[^\n]*(?:[.?!][ \t]*\n|\n[ \t]*\n)(?=[^\n]*\S)")
# Where a sentence without end is cut: behind a comma or before a negation, else before a conjunction, else a space.
_CUTS = [
    re.compile(cut) for cut in (r"[,;]|(?i:(?= (?:no|not|without|negative) ))", r"(?i:(?= (?:and|or|nor) ))", "(?= )")
]
_SPACES = str.maketrans("\n\r\t\f\v\xa0’", "      '")


def _letters(text):
    """Return text in lower case, letter for letter, so that offsets stay; what is no text raises a TypeError."""
    if not isinstance(text, str):
        raise TypeError(f"A report is text, not {type(text).__name__}.")
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(low if len(low := c.lower()) == 1 else c for c in text)
    return lower.translate(_SPACES)


def _sentences(text, start, end, opens):
    """Yield `start, end` of the sentences of text[start:end]; `opens` matches what may open a line of a list."""
    bounds = [(m.start() + (m.group() == "?"), m.end()) for m in _SENTENCE_END.finditer(text, start, end)]
    if "\n" in text[start:end]:
        bounds += [m.span() for m in _LINE_BREAK.finditer(text, start, end) if _in_list(text, start, m, opens)]
        bounds.sort()
    for stop, following in bounds:
        if stop > start:
            yield from _cut(text, start, stop)
        start = max(start, following)
    if end > start:
        yield from _cut(text, start, end)


def _in_list(text, start, line_break, opens):
    """Return whether the line before a break is one of a list: short, and the next has a capital or opens anew.

    Lines in small letters are a list where their paragraph has no full stop, and no line ends in words that go on, or
    in such that open a statement: wrapped lines do.
    """
    end = line_break.start()
    line = text.rfind("\n", 0, end) + 1
    if end - line > _SHORT_LINE_MAX or end == max(line, start):
        return False
    if line_break.group(1).isupper():
        return True
    line = max(line, start)
    if not opens.match(text, line_break.start(1)) or _GOES_ON.search(text, line, end):
        return False
    before, after = text[max(start, end - _PARAGRAPH_MAX) : end], text[end : end + _PARAGRAPH_MAX]
    if "." in before.rpartition("\n\n")[2] + after.partition("\n\n")[0]:
        return False
    last = _LAST_WORD.search(text, line, end)
    return last is None or not opens.fullmatch(last.group())


def _cut(text, start, end):
    """Yield `start, end` of a sentence, in pieces if it is one that no report has: its time grows with its square."""
    while end - start > SENTENCE_MAX:
        stop = start + SENTENCE_MAX
        for pattern in _CUTS:
            if places := [m.end() for m in pattern.finditer(text, start + 1, stop) if m.end() > start + 1]:
                stop = places[-1]
                break
        yield start, stop
        start = stop
    yield start, end


# --- assertion ----------------------------------------------------------------------------------------------

_SEPARATOR = re.compile(r"[,(]|(?<![a-z0-9])(?:and|or|nor|as well as|and/or)(?![a-z0-9])|/")
_SINGULAR = ("is ", "was ", "has ")
# What divides a statement behind a finding: with, a colon, and a dash with spaces.
_DIVIDER = re.compile(
    r"(?<![a-z])(?<!consistent )(?<!compatible )(?:with|w/)(?![a-z])"
    r"|:(?=\s)|(?<=\s)-(?=\s)|(?<!-)--(?!-)|(?<=\s)–(?=\s)|—"
)
_CARRIED = ("but", "which", "though", "although", "however", "yet", ";")  # ends over which a stand-in refers back
_PREDICATE = re.compile("(?:is|are|was|were) ")
_FILLERS = re.compile("(?:and|that|as well|now|since|very)(?![a-z])")
_FIRST_WORD = re.compile(r"[a-z0-9']+|.")
_NEXT = re.compile(r"[ -]+(?:(?!the|a)[a-z]+[ -]+)?")


class _Sentence:
    """The rule words of a sentence, and how far each of them reaches."""

    def __init__(self, text, words, mentions):
        self.text = text
        self.words = words  # (start, end, file, kind), in order
        self.mentions = mentions  # spans, in order
        self.ends = [w for w in words if w[3] == "ends"]
        self.predicates = [
            w for w in words if w[3] in ("verbs", "seen", "after") or _PREDICATE.match(text, w[0], w[1])
        ]
        self._separators = None

    @property
    def separators(self):
        """Commas and conjunctions outside of other rule words, as `start, end, is_or`."""
        if self._separators is None:
            covered = [(w[0], w[1]) for w in self.words]
            found = []
            for m in _SEPARATOR.finditer(self.text):
                if not any(a <= m.start() < b for a, b in covered):
                    found.append((m.start(), m.end(), m.group() in ("or", "nor", "and/or", "/")))
            for i, (a, b, is_or) in enumerate(found[:-1]):
                following = found[i + 1]
                if not self.text[b : following[0]].strip():  # a comma right before a conjunction belongs to it
                    found[i] = (a, b, is_or or following[2])
            self._separators = found
        return self._separators

    def _named_between(self, start, end):
        return any(start <= a < end for a, _ in self.mentions)

    def _opens(self, at, kind):
        """Return whether a word of a kind of scope stands here, with something behind it."""
        return any(0 <= w[0] - at < 2 for w in self.words if w[3] == kind) and bool(self.text[at:].strip())

    def reach_right(self, word):
        """Return where the reach of a rule word that stands before ends."""
        start = word[1]
        brief = word[3] == "before" and word[2] != "negation"
        history = brief and word[2] == "kept_out"
        limit = next((a for a, *_ in self.ends if a >= start), len(self.text))
        for divider in _DIVIDER.finditer(self.text, start, limit):
            if history or self._named_between(start, divider.start()):
                limit = divider.start()
                break
        predicate = next((p for p in self.predicates if start <= p[0] < limit), None)
        separators = [s for s in self.separators if start <= s[0] < limit]
        if predicate:
            after = next((s[0] for s in separators if s[0] >= predicate[1] and not s[2]), None)
            if after is not None:
                limit = after
            before = [s for s in separators if s[1] <= predicate[0]]
            if before and predicate[3] != "seen" and not before[-1][2]:
                limit = min(limit, before[-1][0])
        last_or = max((s[0] for s in separators if s[2] and s[0] < limit), default=-1)
        for a, b, is_or in separators:
            if a >= limit or is_or or a < last_or or not self.text[start:a].strip():
                continue
            comma = self.text[a] == ","
            if self._opens(b, "degree") or history or (brief and comma):
                return a
            if word[2] == "negation" and (comma or self._named_between(start, a)) and self._opens(b, "side"):
                return a
        return limit

    def _following(self, word):
        """Return where the separator or end after a rule word is."""
        return next((w[0] for w in sorted([*self.separators, *self.ends]) if w[0] >= word[1]), len(self.text))

    def turns_away(self, word):
        """Return whether a negation that may stand before or after (unlikely) does not do so as this word here.

        It speaks of what follows where its statement goes on to name a finding, else of what precedes.
        """
        kinds = [w[3] for w in self.words if w[0] == word[0] and w[2] == "negation"]
        if word[2] != "negation" or len(kinds) == 1 or "after" not in kinds:
            return False
        end = self._following(word)
        divider = _DIVIDER.search(self.text, word[1], end)
        leads = self._named_between(word[1], divider.start() if divider else end)
        return leads == (word[3] == "after")

    def closes(self, word):
        """Return whether a statement ends with a rule word."""
        return not self.text[word[1] : self._following(word)].strip(" .)")

    def reach_left(self, word):
        """Return where the reach of a rule word that stands after begins, and whether it goes over its statement.

        It does where a stand-in or nothing is the subject of that statement: which has resolved.
        """
        low = self._statement(word, word[0])
        divider = next((d for d in (*self.separators, *self.ends) if d[1] == low), None)
        if divider is None or word[3] == "between" or self._named_between(low, self._following(word)):
            return low, False
        carries = len(divider) == 3 or self.text[divider[0] : divider[1]] in _CARRIED
        if not carries or not self._stands_in(low, word[0]):
            return low, False
        return self._statement(word, len(self.text[: divider[0]].rstrip(" ,;("))), True

    def _stands_in(self, start, end):
        """Return whether words are no more than a stand-in for what was named before, with its degree, or nothing."""
        while start < end:
            known = next((w for w in self.words if w[0] == start and w[3] in ("stand-in", "degree", "verbs")), None)
            filler = known or _FILLERS.match(self.text, start, end)
            if self.text[start] in " ,":
                start += 1
            elif filler:
                start = filler[1] if known else filler.end()
            else:
                return False
        return True

    def _statement(self, word, end):
        """Return where the statement begins that ends here and of which a rule word after it speaks."""
        limit = max((b for _, b, *_ in self.ends if b <= end), default=0)
        for divider in _DIVIDER.finditer(self.text, limit, end):
            with_ = divider.group() in ("with", "w/") and not self.text[: divider.start()].rstrip().endswith(",")
            if not with_ and self._named_between(divider.end(), end):
                limit = divider.end()
        if word[2] == "uncertainty" and word[3] == "after":
            leads = (w[1] for w in self.words if w[3] == "interpretation" and limit <= w[0] and w[1] <= end)
            limit = max((b for b in leads if self._named_between(b, end)), default=limit)
        earlier = [p for p in self.predicates if limit <= p[0] and p[1] <= end and p is not word]
        separators = [s for s in self.separators if limit <= s[0] < end]
        if earlier:
            first = next((s[1] for s in separators if s[0] >= earlier[-1][1]), None)
            limit = max(limit, first if first is not None else earlier[-1][1] if earlier[-1][3] == "after" else limit)
            separators = [s for s in separators if s[0] >= limit]
        stands_before = any(w[3].startswith("before") and limit <= w[0] < end for w in self.words)
        singular = self.text.startswith(_SINGULAR, word[0])
        if separators and (
            word[3] == "between"
            or (not separators[-1][2] and (singular or stands_before))
            or (word[3] == "at end" and self.text[separators[-1][0]] == "," and not separators[-1][2])
        ):
            limit = separators[-1][1]
        return limit


def _governed(sentence, negation, doubt):
    """Return whether a negation stands before doubt with nothing in between that divides (no ... to suggest)."""
    return negation[1] <= doubt[0] and not any(negation[1] <= s[0] < doubt[0] for s in sentence.separators)


def _decide(sentence, start, end, base, gapped, reaches):
    """Return `assertion, rule, rule_start, rule_end` of a mention."""
    before, after, inside = [], [], []
    for word, low, high, carried in reaches:
        kind = word[3]
        if start <= word[0] and word[1] <= end:
            if gapped:  # the words of a phrase without a gap are its own
                inside.append(word)
        elif word[1] <= start < high:
            if kind != "just before" or _NEXT.fullmatch(sentence.text, word[1], start):
                before.append(word)
        elif low <= start and end <= word[0]:
            after.append((word, carried))
    if base == "absent":
        return _decide_normal(start, end, before, inside)
    chosen = _chosen(sentence, end, before, after, inside)
    if chosen is None:
        return base, "named" if base == "present" else "phrase", start, end
    says = {"negation": "absent", "uncertainty": "uncertain", "kept_out": "kept_out"}[chosen[2]]
    return says, f"{chosen[2]} {chosen[3]}", chosen[0], chosen[1]


def _decide_normal(start, end, before, inside):
    """Return the decision on a statement of normality: doubt inside or a `not` in it leaves it open."""
    history = next((w for w in before if w[2] == "kept_out"), None)
    if history:
        return "kept_out", f"kept_out {history[3]}", history[0], history[1]
    word = next((w for w in inside if w[2] in ("negation", "uncertainty")), None)
    if word is not None:
        return "uncertain", f"{word[2]} inside", word[0], word[1]
    return "absent", "phrase", start, end


def _chosen(sentence, end, before, after, inside):
    """Return the rule word that decides, or None: inside, then what follows directly, then the nearest before."""
    if inside:
        return (inside[0][0], inside[0][1], inside[0][2], "inside")
    if after:
        nearest, carried = min(after, key=lambda found: found[0][0])
        divided = any(end <= s[0] < nearest[0] for s in sentence.separators)
        if not before or carried or not divided:
            return nearest
    if before:
        nearest = before[-1]
        if nearest[2] == "uncertainty":
            governing = next((w for w in before if w[2] == "negation" and _governed(sentence, w, nearest)), None)
            nearest = governing or nearest
        history = next((w for w in before if w[2] == "kept_out" and _governed(sentence, w, nearest)), None)
        return history or nearest
    return None


# --- labeler ------------------------------------------------------------------------------------------------


class Labeler:
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

    def __init__(self, folder=None, aggregation="chexpert"):
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation {aggregation!r} is none of {', '.join(AGGREGATIONS)}.")
        self.folder = PHRASES if folder is None else Path(folder)
        self.aggregation = aggregation
        files = self.folder / "findings", self.folder / "rules"
        findings = {f: read_phrases(files[0] / f"{f}.txt", FINDING_KINDS) for f in FINDINGS if f != "no_finding"}
        rules = {name: read_phrases(files[1] / f"{name}.txt", kinds) for name, kinds in RULE_KINDS.items()}
        self._findings = {f: _finding(p) for f, p in findings.items()}
        # the words that a mention may start with: solid phrases, and what stands before a "..."
        every = [p for phrases in findings.values() for kind in FINDING_KINDS for p in phrases[kind]]
        self._mention = _compiled(sorted({p.partition(" ... ")[0] for p in every}))
        self._load_rules({k: v for k, v in rules.items() if k != "sections"})
        self._load_sections(rules["sections"])
        self._found, self._kinds, self._remembered = {}, {}, {}
        self._blank = dict.fromkeys(FINDINGS, math.nan)

    def _load_rules(self, rules):
        spellings = {(file, kind): found for file, kinds in rules.items() for kind, found in kinds.items()}
        for (file, _), found in spellings.items():
            gapped = next((p for p in found if "..." in p), None)
            if gapped:
                raise ValueError(f"{self.folder / 'rules' / file}.txt: {gapped!r}: ... is for findings only.")
        self._rule_kinds = [(key, _compiled(found)) for key, found in spellings.items() if found]
        self._rule_words = _compiled(sorted({p for found in spellings.values() for p in found}))
        self._opens = _compiled(sorted({*rules["scope"]["degree"], *rules["scope"]["side"]}) or ["no"])

    def _load_sections(self, sections):
        self._section_of = {
            re.sub(r"[\s-]+", " ", heading): kind for kind, found in sections.items() for heading in found
        }
        capitals = "|".join(_long(self._section_of)).upper()
        self._heading_line = re.compile(rf"(?:^|\n)[ \t]*({capitals})[ \t]*(?=\n)")

    # reading

    def read(self, text):
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
        lower = _letters(text)
        evidence, said, any_read = [], [], False
        for section, start, end in self._sections(text):
            for low, high in _sentences(text, start, end, self._opens):
                mentions, stated = self._sentence(lower[low:high])
                if section != "ignored":
                    any_read = any_read or not text[low:high].isspace()
                    said += stated
                for finding, a, b, assertion, rule, rule_a, rule_b in mentions:
                    if section == "ignored":
                        assertion, rule, rule_a, rule_b = "kept_out", "ignored section", a, b
                    a, b = a + low, b + low
                    evidence.append(
                        Mention(finding, a, b, text[a:b], assertion, rule, rule_a + low, rule_b + low, section)
                    )
        return Reading(self._labels(said, any_read), tuple(evidence))

    def labels(self, text):
        """Return the labels of a report, those of `read`, without its evidence, which is quicker."""
        lower = _letters(text)
        said, any_read = [], False
        for section, start, end in self._sections(text):
            if section != "ignored":
                any_read = any_read or not text[start:end].isspace()
                for low, high in _sentences(text, start, end, self._opens):
                    said += self._sentence(lower[low:high])[1]
        return self._labels(said, any_read)

    def read_many(self, texts):
        """Return a table of labels, a row per text: float32 columns `FINDINGS`."""
        return pd.DataFrame([self.labels(text) for text in texts], columns=FINDINGS, dtype="float32")

    def _labels(self, said, any_read):
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

    def _headings(self, text):
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

    def _heading_before(self, text, colon):
        """Return the heading that a colon ends, of the phrase file or a line that begins in capitals, or None."""
        low = max(0, colon - _HEADING_MAX)
        words = list(_HEADING_WORD.finditer(text, low, colon))[-_HEADING_WORDS_MAX:]
        for k, first in enumerate(words):
            kind = self._section_of.get(" ".join(w.group() for w in words[k:]).lower().replace("-", " "))
            before = text[low : first.start()].rstrip(" \t*_")
            if kind and (first.group()[0].isupper() or not before or before[-1] in "\n.?!;"):
                return first.start(), colon + 1, kind
        line = text.rfind("\n", 0, colon) + 1
        if _CAPITALS.fullmatch(text, line, colon):
            return line, colon + 1, "organs"
        return None

    def _sections(self, text):
        """Yield `section, start, end`."""
        name, start = "text", 0
        headings = self._headings(text)
        has_body = any(kind in ("findings", "organs") for *_, kind in headings)
        for at, after, kind in headings:
            yield from self._parts(text, name, start, at, has_body)
            name, start = ("findings", at) if kind == "organs" else (kind, after)
        yield from self._parts(text, name, start, len(text), has_body)

    def _parts(self, text, name, start, end, has_body):
        if name in ("ignored", "technical"):
            over = _PARAGRAPH_END if end < len(text) else _LINE_END
            stop = m.end() if (m := over.search(text, start, end)) else end
            if name == "technical" and not has_body:
                said = [low for low, high in _sentences(text, start, stop, self._opens) if text[low:high].strip()]
                stop = said[1] if len(said) > 1 else stop
            yield "ignored", start, stop
            name, start = "text", stop
        if end > start:
            yield name, start, end

    def _sentence(self, text):
        """Return the decided mentions of a sentence in lower case, and `finding, value` of each; remember them."""
        known = self._remembered.get(text)
        if known is None:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            mentions = self._read_sentence(text)
            stated = tuple(dict.fromkeys((m[0], ASSERTIONS[m[3]]) for m in mentions if m[3] != "kept_out"))
            known = self._remembered[text] = mentions, stated
        return known

    def _read_sentence(self, text):
        mentions = self._mentions(text)
        if not mentions:
            return ()
        words = []
        for m in self._rule_words.finditer(text):
            for file, kind in self._kinds_of(m.group()):
                words.append((m.start(), m.end(), file, kind))
        sentence = _Sentence(text, words, [(a, b) for a, b, *_ in mentions])
        reaches = []
        for word in words:
            if word[2] in ("negation", "uncertainty", "kept_out") and not sentence.turns_away(word):
                left = word[3] in ("after", "between") or (word[3] == "at end" and sentence.closes(word))
                low, carried = sentence.reach_left(word) if left else (len(text), False)
                high = sentence.reach_right(word) if word[3] not in ("after", "at end") else 0
                reaches.append((word, low, high, carried))
        return tuple(
            (f, start, end, *_decide(sentence, start, end, base, gapped, reaches))
            for start, end, f, base, gapped in mentions
        )

    def _kinds_of(self, words):
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

    def _mentions(self, text):
        """Return the mentions of a sentence, `start, end, finding, kind, gapped`, in order."""
        found = set()
        m = self._mention.search(text)
        while m:
            solid, starts = self._named_in(m.group())
            at = m.start()
            found.update((at + a, at + b, finding, kind, False) for a, b, finding, kind in solid)
            for a, finding in starts:
                found.update(self._gapped_at(text, at + a, finding))
            # from its second word on, since phrases may overlap
            m = self._mention.search(text, _FIRST_WORD.match(text, at).end())
        return _without_covered(sorted(found))

    def _named_in(self, words):
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

    def _gapped_at(self, text, place, finding):
        """Return the mention by a phrase with `...` that starts here: that with the nearest end."""
        hits = [
            (m.end(), order, kind)
            for order, (kind, pattern, _) in enumerate(self._findings[finding].gapped)
            if (m := pattern.match(text, place))
        ]
        if hits:
            end, _, kind = min(hits)
            yield place, end, finding, kind, True


def _without_covered(mentions):
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


def as_nih(labels):
    """Return labels as NIH gave them: 1 present, else 0; no finding is 1 where none but devices is present.

    Uncertain mentions are dropped, and what is not mentioned is absent.
    """
    present = {f: float(v == 1.0) for f, v in labels.items()}
    if "no_finding" in present:
        others = (v for f, v in present.items() if f not in ("support_devices", "no_finding"))
        present["no_finding"] = float(not any(others))
    return present


# --- many reports -------------------------------------------------------------------------------------------

_WORKER = {}


def _start_worker(folder, aggregation):
    _WORKER["labeler"] = Labeler(folder, aggregation)


def _read_chunk(chunk, evidence):
    return _read_here(_WORKER["labeler"], chunk, evidence)


def _read_here(labeler, chunk, evidence):
    if evidence:
        return [(report_id, labeler.read(text)) for report_id, text in chunk]
    return [(report_id, Reading(labeler.labels(text), ())) for report_id, text in chunk]


def label_reports(
    reports, workers=None, chunk=1_000, *, folder=None, aggregation="chexpert", evidence=False, labeler=None
):
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
        One that is loaded already, for work in this process.
    """
    reports = iter(reports)
    workers = workers or os.cpu_count() or 1
    if workers < 0 or chunk < 1:
        raise ValueError(f"workers is {workers} and chunk {chunk}: both are at least 1.")
    first = list(itertools.islice(reports, chunk))
    second = list(itertools.islice(reports, chunk))
    chunks = itertools.chain([first, second], iter(lambda: list(itertools.islice(reports, chunk)), []))
    if workers == 1 or not second:
        labeler = labeler or Labeler(folder, aggregation)
        for some in chunks:
            yield from _read_here(labeler, some, evidence)
        return
    with concurrent.futures.ProcessPoolExecutor(
        workers, initializer=_start_worker, initargs=(folder, aggregation)
    ) as pool:
        waiting = collections.deque()
        for some in chunks:
            waiting.append(pool.submit(_read_chunk, some, evidence))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


# --- showing ------------------------------------------------------------------------------------------------

_COLOURS = {"present": "#f4b6ae", "absent": "#bfe3c6", "uncertain": "#fbe3a1", "kept_out": "#d9d9d9"}


class Html(str):
    """HTML that a notebook shows as such."""

    def _repr_html_(self):
        return str(self)


def html(text, reading):
    """Return a report as HTML with its mentions marked and the words of the rules underlined.

    Parameters
    ----------
    text : str
    reading : Reading
        Of that text.

    Returns
    -------
    Html
        Text, escaped; what a mark means is in its tooltip and in a legend below.

    Raises
    ------
    ValueError
        If the reading is of another text.
    """
    marks = collections.defaultdict(list)
    for m in reading.evidence:
        if text[m.start : m.end] != m.text:
            raise ValueError(f"The reading is of another text: at {m.start} there is not {m.text!r}.")
        marks[(m.start, m.end)].append(m)
    rules = {(m.rule_start, m.rule_end) for m in reading.evidence} - set(marks)
    bounds = sorted({0, len(text)} | {b for span in [*marks, *rules] for b in span})
    parts = []
    for a, b in itertools.pairwise(bounds):
        over = [m for (start, end), found in marks.items() if start <= a and b <= end for m in found]
        part = markup.escape(text[a:b])
        if any(start <= a and b <= end for start, end in rules):
            part = f"<u>{part}</u>"
        if over:
            said = "; ".join(dict.fromkeys(f"{m.finding}: {m.assertion} ({_because(text, m)})" for m in over))
            colour = _COLOURS[over[0].assertion]
            part = f'<mark style="background:{colour}" title="{markup.escape(said)}">{part}</mark>'
        parts.append(part)
    legend = " ".join(f'<mark style="background:{c}">{name.replace("_", " ")}</mark>' for name, c in _COLOURS.items())
    return Html(
        f'<div style="white-space:pre-wrap">{"".join(parts)}</div><div style="font-size:smaller">{legend}</div>'
    )


def _because(text, mention):
    if mention.rule in ("named", "phrase", "ignored section"):
        return mention.rule
    return f"{mention.rule}: {text[mention.rule_start : mention.rule_end]}"
