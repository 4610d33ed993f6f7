"""Sentences of a report, and the parts that a negation can reach."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SENTENCE_MAX = 1_000  # letters; longer ones are cut, best where a statement ends


# A sentence ends at . ! or a blank line, a bullet or number on a new line, and after a short line (a list) whose next
# begins with a capital. "?" is left in: it stands for doubt.
_SENTENCE_END = re.compile(  # each branch starts with a letter of its own, which makes the search quick
    r"[.!](?<!\b[DdMm]r\.)(?<!\b[Vv]s\.)(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bapprox\.)[.!]*(?=\s|$|[A-Z][a-z])"
    r"|\?(?<=\w\?)(?=\s+[A-Z])"
    r"|\n(?:[ \t]*\n|(?<=:\n)|(?=[ \t]*(?:[-*•]|\d{1,2}[.)])[ \t])|(?=[ \t]*[A-Z][a-z]*(?:[ \t][A-Za-z]+)?:))"
)


HEADING_WORD = re.compile(r"[A-Za-z]+(?:-?\d+$)?")  # ICD-10 is one word


CAPITALS = re.compile(r"[ \t]*[A-Z][A-Z /-]+")


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
PARAGRAPH_END = re.compile(r"\S[^\n]*\n[ \t]*\n(?=[^\n]*\S)")


LINE_END = re.compile(r"\S[^\n]*(?:[.?!][ \t]*\n|\n[ \t]*\n)(?=[^\n]*\S)")


# Where a sentence without end is cut: behind a comma or before a negation, else before a conjunction, else a space.
_CUTS = [
    re.compile(cut) for cut in (r"[,;]|(?i:(?= (?:no|not|without|negative) ))", r"(?i:(?= (?:and|or|nor) ))", "(?= )")
]


_SPACES = str.maketrans("\n\r\t\f\v\xa0’", "      '")


def letters(text: str) -> str:
    """Return text in lower case, letter for letter, so that offsets stay; what is no text raises a TypeError."""
    if not isinstance(text, str):
        raise TypeError(f"A report is text, not {type(text).__name__}.")
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(low if len(low := c.lower()) == 1 else c for c in text)
    return lower.translate(_SPACES)


def sentences(text: str, start: int, end: int, opens: re.Pattern[str]) -> Iterator[tuple[int, int]]:
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


def _in_list(text: str, start: int, line_break: re.Match[str], opens: re.Pattern[str]) -> bool:
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


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield `start, end` of a sentence, in pieces if it is one that no report has: its time grows with its square."""
    while end - start > _SENTENCE_MAX:
        stop = start + _SENTENCE_MAX
        for pattern in _CUTS:
            if places := [m.end() for m in pattern.finditer(text, start + 1, stop) if m.end() > start + 1]:
                stop = places[-1]
                break
        yield start, stop
        start = stop
    yield start, end
