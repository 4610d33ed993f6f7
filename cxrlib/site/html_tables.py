"""Tables that pandas wrote as HTML, read into a regular grid and made tables of the document.

A table of the document is numbered and searched and can be referred to; stored HTML can not. The grid has no cell
over several rows, because a table that is sorted or filtered needs every row whole.
"""

import html
import re
from dataclasses import dataclass

from bs4 import BeautifulSoup
from docutils import nodes

_MISSING = ("", "–", "NaN")
_SHORT = 32  # characters that are not broken over lines
_NUMBER = re.compile(r"[<>≤≥]?\s*[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?\s*%?(\s*[(\[].*[)\]])?")


@dataclass(frozen=True)
class Grid:
    """A table of text: the names of columns, one a column, and rows of as many cells."""

    header: tuple
    rows: tuple

    def looks(self, column):
        """Return how a column is set: "number" if all its cells begin with one, "short", or "" for prose."""
        cells = [row[column] for row in self.rows if row[column] not in _MISSING]
        if cells and all(_NUMBER.fullmatch(cell) for cell in cells):
            return "number"
        return "short" if all(len(cell) <= _SHORT for cell in cells) else ""


def _spread(rows):
    """Return table rows as lists of text, with a cell over several rows or columns repeated in each."""
    grid = {}
    for y, row in enumerate(rows):
        x = 0
        for cell in row.find_all(["th", "td"], recursive=False):
            while (y, x) in grid:
                x += 1
            text = " ".join(cell.get_text(" ").split())
            for down in range(int(cell.get("rowspan", 1))):
                for right in range(int(cell.get("colspan", 1))):
                    grid[y + down, x + right] = text
            x += int(cell.get("colspan", 1))
    width = 1 + max((x for _, x in grid), default=-1)
    return [[grid.get((y, x), "") for x in range(width)] for y in range(len(rows))]


def read_grid(text):
    """Return a table in HTML as a grid.

    Parameters
    ----------
    text : str
        HTML with one table, as pandas writes it: also with several levels of columns, whose names are joined by a
        comma, and with names of the index in a header row of their own.

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        If there is no table, or one without rows of a header.
    """
    table = BeautifulSoup(text, "html.parser").find("table")
    if table is None or table.find("thead") is None:
        raise ValueError("This output holds no table with a header: write it as a pandas data frame.")
    body = [row for part in table.find_all("tbody", recursive=False) for row in part.find_all("tr", recursive=False)]
    first = body[0].find_all("th", recursive=False) if body else []
    index_n = len(first)
    head = _spread(table.find("thead").find_all("tr", recursive=False))
    # The names of the index stand in a last header row that has nothing above the columns of values.
    names = head.pop() if len(head) > 1 and not any(head[-1][index_n:]) else [""] * len(head[0])
    header = []
    for x in range(len(head[0])):
        if x < index_n:
            header.append(names[x])
        else:
            header.append(", ".join(dict.fromkeys(level[x] for level in head if level[x])))
    rows = _spread(body)
    if index_n and not any(header[:index_n]) and _says_nothing(rows, index_n):
        header, rows = header[index_n:], [row[index_n:] for row in rows]
    return Grid(tuple(header), tuple(tuple(row) for row in rows))


def _says_nothing(rows, index_n):
    """Return whether an index without a name only counts rows, or is empty."""
    labels = [row[0] for row in rows]
    return index_n == 1 and len(rows[0]) > 1 and (not any(labels) or labels == [str(k) for k in range(len(rows))])


def marked(text, name, caption):
    """Return a data frame's HTML with the name and the caption that `document_table` gives it."""
    attributes = f'class="dataframe" data-name="{html.escape(name)}" data-caption="{html.escape(caption)}"'
    return re.sub(r'<table [^>]*class="dataframe"', f"<table {attributes}", text, count=1)


def document_table(text):
    """Return a data frame's HTML as a table of the document.

    Parameters
    ----------
    text : str
        As `marked` returns it.

    Returns
    -------
    docutils.nodes.table
        Of the class `data`, with its caption as title and its name in `names`.

    Raises
    ------
    ValueError
        If there is no table in it.
    """
    grid = read_grid(text)
    marks = BeautifulSoup(text, "html.parser").find("table").attrs
    table = nodes.table(classes=["data"], names=[marks["data-name"]] if "data-name" in marks else [])
    if marks.get("data-caption"):
        table += nodes.title("", marks["data-caption"])
    group = nodes.tgroup(cols=len(grid.header))
    group += [nodes.colspec(colwidth=1) for _ in grid.header]
    classes = [grid.looks(x) for x in range(len(grid.header))]
    group += nodes.thead("", _row(grid.header, classes))
    group += nodes.tbody("", *(_row(row, classes) for row in grid.rows))
    table += group
    return table


def _row(cells, classes):
    row = nodes.row()
    for cell, looks in zip(cells, classes, strict=True):
        row += nodes.entry("", nodes.paragraph("", cell), classes=[looks] if looks else [])
    return row
