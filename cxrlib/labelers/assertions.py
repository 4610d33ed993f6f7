"""What a sentence asserts of a finding that it mentions: present, absent or uncertain."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    Word = tuple[int, int, str, str]  # start, end, file, kind
    Reach = tuple[Word, int, int, bool]
    Decision = tuple[str, str, int, int]

ASSERTIONS = {"present": 1.0, "absent": 0.0, "uncertain": -1.0, "kept_out": math.nan}


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


FIRST_WORD = re.compile(r"[a-z0-9']+|.")


_NEXT = re.compile(r"[ -]+(?:(?!the|a)[a-z]+[ -]+)?")


class Sentence:
    """The rule words of a sentence, and how far each of them reaches."""

    def __init__(self, text: str, words: Sequence[Word], mentions: Sequence[tuple[int, int]]) -> None:
        self.text = text
        self.words = words  # (start, end, file, kind), in order
        self.mentions = mentions  # spans, in order
        self.ends: list[Any] = [w for w in words if w[3] == "ends"]
        self.predicates = [
            w for w in words if w[3] in ("verbs", "seen", "after") or _PREDICATE.match(text, w[0], w[1])
        ]
        self._separators: list[tuple[int, int, bool]] | None = None

    @property
    def separators(self) -> list[tuple[int, int, bool]]:
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

    def _named_between(self, start: int, end: int) -> bool:
        return any(start <= a < end for a, _ in self.mentions)

    def _opens(self, at: int, kind: str) -> bool:
        """Return whether a word of a kind of scope stands here, with something behind it."""
        return any(0 <= w[0] - at < 2 for w in self.words if w[3] == kind) and bool(self.text[at:].strip())

    def reach_right(self, word: Word) -> int:
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

    def _following(self, word: Word) -> int:
        """Return where the separator or end after a rule word is."""
        return next((w[0] for w in sorted([*self.separators, *self.ends]) if w[0] >= word[1]), len(self.text))

    def turns_away(self, word: Word) -> bool:
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

    def closes(self, word: Word) -> bool:
        """Return whether a statement ends with a rule word."""
        return not self.text[word[1] : self._following(word)].strip(" .)")

    def reach_left(self, word: Word) -> tuple[int, bool]:
        """Return where the reach of a rule word that stands after begins, and whether it goes over its statement.

        It does where a stand-in or nothing is the subject of that statement: which has resolved.
        """
        divider: Any
        low = self._statement(word, word[0])
        divider = next((d for d in (*self.separators, *self.ends) if d[1] == low), None)
        if divider is None or word[3] == "between" or self._named_between(low, self._following(word)):
            return low, False
        carries = len(divider) == 3 or self.text[divider[0] : divider[1]] in _CARRIED
        if not carries or not self._stands_in(low, word[0]):
            return low, False
        return self._statement(word, len(self.text[: divider[0]].rstrip(" ,;("))), True

    def _stands_in(self, start: int, end: int) -> bool:
        """Return whether words are no more than a stand-in for what was named before, with its degree, or nothing."""
        filler: Any
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

    def _statement(self, word: Word, end: int) -> int:
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


def _governed(sentence: Sentence, negation: Word, doubt: Word) -> bool:
    """Return whether a negation stands before doubt with nothing in between that divides (no ... to suggest)."""
    return negation[1] <= doubt[0] and not any(negation[1] <= s[0] < doubt[0] for s in sentence.separators)


def decide(sentence: Sentence, start: int, end: int, base: str, gapped: bool, reaches: Iterable[Reach]) -> Decision:
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


def _decide_normal(start: int, end: int, before: Sequence[Word], inside: Sequence[Word]) -> Decision:
    """Return the decision on a statement of normality: doubt inside or a `not` in it leaves it open."""
    history = next((w for w in before if w[2] == "kept_out"), None)
    if history:
        return "kept_out", f"kept_out {history[3]}", history[0], history[1]
    word = next((w for w in inside if w[2] in ("negation", "uncertainty")), None)
    if word is not None:
        return "uncertain", f"{word[2]} inside", word[0], word[1]
    return "absent", "phrase", start, end


def _chosen(
    sentence: Sentence, end: int, before: Sequence[Word], after: Sequence[tuple[Word, bool]], inside: Sequence[Word]
) -> Word | None:
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
