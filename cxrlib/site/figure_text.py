"""What a figure's stored `text/plain` says of it: an alternative text, and a caption."""

import re
from dataclasses import dataclass

# What matplotlib stores where a notebook says nothing of its figure.
_NOTHING_SAID = re.compile(r"<Figure size .*>|<IPython\.core\.display\..*>")
_CAPTION = "Caption:"
_LONGEST = 250


@dataclass(frozen=True)
class FigureText:
    """A figure in words for who does not see it (`alternative`), for who does (`caption`), and whole (`details`)."""

    alternative: str
    caption: str
    details: str = ""


def read_figure_text(plain, heading, before=""):
    """Return the alternative text, the caption and the description of a figure.

    Parameters
    ----------
    plain : str
        The output's `text/plain`. Described figures (`cxrlib.base.figure_text.described`) have a first line, which is
        the alternative text, a line that begins with `Caption:`, and lines of titles, axes, series and values, which
        may also stand above the caption. Others have `<Figure size ...>`.
    heading : str
        The nearest heading above the figure, for those of the second kind.
    before : str
        The paragraph above it, for those too.

    Returns
    -------
    FigureText
        Without markup. Of a figure that is not described, the alternative text is made of heading and paragraph, and
        the caption is the heading.
    """
    described, _, caption = plain.strip().partition(_CAPTION)
    alternative, *details = described.strip().splitlines() or [""]
    if alternative and not _NOTHING_SAID.fullmatch(alternative.strip()):
        if not details:  # as `cxrlib.base.figure_text` writes it: the caption's line stands above the panels' lines
            caption, _, below = caption.partition("\n")
            details = below.splitlines()
        alternative = alternative.strip()
        return FigureText(alternative, " ".join(caption.split()) or alternative, "\n".join(details).strip())
    heading = without_markup(heading)
    said = shortened(without_markup(before))
    return FigureText(f"{heading}: {said}" if said else f"Figure of the section {heading}", _sentence(heading))


def without_markup(text):
    """Return Markdown as plain words in one line: no emphasis, no code marks, links as their text."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\s*(#+|>|[-*])\s+", "", text, flags=re.M)
    return " ".join(re.sub(r"\*\*|`|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)", "", text).split())


def shortened(text, longest=_LONGEST):
    """Return a text, or its first sentences or words that fit in `longest` characters, with an ellipsis."""
    if len(text) <= longest:
        return text
    start = text[:longest]
    sentences = re.match(r".*[.!?](?=\s)", start)
    return sentences[0] if sentences else start.rsplit(" ", 1)[0].rstrip(",;:") + " ..."


def _sentence(text):
    return text if text.endswith((".", "?", "!")) else text + "."
