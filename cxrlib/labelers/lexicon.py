"""The phrases of the rule labeler: read from text files, compiled for search."""

from __future__ import annotations

import collections
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import Any

PHRASES = Path(__file__).resolve().parent / "phrases"


FINDING_KINDS = ("present", "absent", "uncertain", "not")


RULE_KINDS = {
    "negation": ("before", "just before", "after"),
    "uncertainty": ("before", "before list", "after", "at end", "between"),
    "pseudo_negation": ("words",),
    "kept_out": ("before list", "before", "just before", "after"),
    "scope": ("ends", "verbs", "seen", "degree", "side", "interpretation", "stand-in"),
    "sections": ("findings", "organs", "impression", "ignored", "technical"),
}


_GAP_WORDS = 8  # words that `...` may stand for


_EXPANSIONS_MAX = 5_000  # spellings that one phrase may stand for


def _spellings(phrase: str) -> list[str]:
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
        if len(found) * len(options) > _EXPANSIONS_MAX:
            raise ValueError(f"it stands for more than {_EXPANSIONS_MAX:,} spellings: write it as several lines")
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


def read_phrases(path: Path, kinds: Sequence[str]) -> dict[str, list[str]]:
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
    found: dict[str, list[str]]
    kind: str | None
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


def _trie(spellings: Iterable[str]) -> str:
    """Return one regular expression for many spellings, longest first, as a tree of their letters."""
    tree: dict[str, Any] = {}
    for spelling in spellings:
        node = tree
        for letter in spelling:
            node = node.setdefault(letter, {})
        node[""] = {}

    def pattern(node: dict[str, Any]) -> str:
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


def compiled(spellings: Collection[str]) -> Any:
    """Return the regular expression of whole words for spellings without `...`; None if there are none."""
    if not spellings:
        return None
    words = [s for s in spellings if re.search("[a-z0-9]", s)]
    parts = [rf"(?<![a-z0-9])(?:{_trie(words)})(?![a-z0-9])"] if words else []
    parts += [re.escape(s) for s in longest_first(set(spellings) - set(words))]  # such as ; and ?
    return re.compile("|".join(parts))


_GAP_STOPS = "but|however|although|though|which|while|without|no|with|there"


def _gapped(spellings: Iterable[str]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return a regular expression for phrases with `...`, the nearest end first."""
    gap = rf"(?:[ -]+(?!(?:{_GAP_STOPS})\b)[a-z0-9'/()-]+,?){{0,{_GAP_WORDS}}}?[ -]+"
    by_start: dict[str, set[str]] = collections.defaultdict(set)
    for spelling in spellings:
        start, _, rest = spelling.partition(" ... ")
        by_start[start].add(rest)
    groups: dict[frozenset[str], list[str]] = collections.defaultdict(list)
    rests: Collection[str]
    for start, rests in by_start.items():
        groups[frozenset(rests)].append(start)
    one = []
    for rests, starts in groups.items():
        ends = "|".join(gap.join(_trie([part]) for part in rest.split(" ... ")) for rest in longest_first(rests))
        one.append(f"(?:{_trie(starts)})[,:]?{gap}(?:{ends})")
    return re.compile(rf"(?:{'|'.join(one)})(?![a-z0-9])"), compiled(list(by_start))


def longest_first(texts: Iterable[str]) -> list[str]:
    """Return texts with the longest first, so that the longest match wins."""
    return sorted(texts, key=lambda t: (-len(t), t))


@dataclass(frozen=True)
class _Finding:
    """The compiled phrases of a finding: solid ones by spelling, gapped ones by kind with what they start with."""

    solid: re.Pattern
    kind_of: tuple  # (kind, pattern) in the order in which a match is looked up
    gapped: tuple  # (kind, pattern, pattern of starts)


def compiled_finding(phrases: Mapping[str, Sequence[str]]) -> _Finding:
    """Return the compiled phrases of one finding."""
    solid = {kind: [p for p in phrases[kind] if " ... " not in p] for kind in FINDING_KINDS}
    gapped = {kind: [p for p in phrases[kind] if " ... " in p] for kind in FINDING_KINDS}
    return _Finding(
        compiled([p for kind in FINDING_KINDS for p in solid[kind]]),
        tuple((k, compiled(solid[k])) for k in ("not", "uncertain", "absent", "present") if solid[k]),
        tuple((kind, *_gapped(gapped[kind])) for kind in ("uncertain", "absent", "present") if gapped[kind]),
    )
