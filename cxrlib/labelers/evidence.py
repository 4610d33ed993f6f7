"""A report as HTML, with the words that decided marked."""

from __future__ import annotations

import collections
import html as markup
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxrlib.labelers.assertions import Mention
    from cxrlib.labelers.rules import Reading

_COLOURS = {"present": "#f4b6ae", "absent": "#bfe3c6", "uncertain": "#fbe3a1", "kept_out": "#d9d9d9"}


class _Html(str):
    """HTML that a notebook shows as such."""

    def _repr_html_(self) -> str:
        return str(self)


def html(text: str, reading: Reading) -> _Html:
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
    return _Html(
        f'<div style="white-space:pre-wrap">{"".join(parts)}</div><div style="font-size:smaller">{legend}</div>'
    )


def _because(text: str, mention: Mention) -> str:
    if mention.rule in ("named", "phrase", "ignored section"):
        return mention.rule
    return f"{mention.rule}: {text[mention.rule_start : mention.rule_end]}"
