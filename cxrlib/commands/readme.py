"""Fill the tables and numbers of README.md and docs/ from files: `python -m cxrlib.commands.readme`."""

import re

import pandas as pd

from cxrlib.base import paths
from cxrlib.commands import made_tables, values


def markdown(table):
    """Return a data frame of text as a Markdown table; what is missing is an empty cell."""
    cells = table.astype(object).where(table.notna(), "").astype(str)
    rows = [list(table.columns), ["---"] * len(table.columns), *cells.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def filled(text, root=paths.ROOT, page="the page"):
    """Return a page's text with its tables and numbers as the files have them now.

    `<!-- table: PATH -->` blocks hold that CSV, `<!-- made: NAME -->` blocks the table that
    `cxrlib.commands.made_tables` makes under that name, and `<!-- value: ... -->` a number
    (`cxrlib.commands.values`). Each ends at `<!-- end -->`.

    Raises
    ------
    ValueError
        If a marker names no row, or a block no table.
    """

    def fill(match):
        table = markdown(pd.read_csv(root / match["path"]).round(3))
        return f"<!-- table: {match['path']} -->\n{table}\n<!-- end -->"

    def make(match):
        name, *arguments = match["name"].split()
        if name not in made_tables.MADE:
            raise ValueError(f"{page}: there is no table {name!r}; there are {', '.join(made_tables.MADE)}.")
        table = made_tables.MADE[name](root, *arguments)
        return f"<!-- made: {match['name']} -->\n{table if isinstance(table, str) else markdown(table)}\n<!-- end -->"

    text = re.sub(r"<!-- table: (?P<path>\S+) -->\n.*?<!-- end -->", fill, text, flags=re.S)
    text = re.sub(r"<!-- made: (?P<name>\w+(?: \w+)*) -->\n.*?<!-- end -->", make, text, flags=re.S)
    return values.with_values(text, root, page)


def pages(root=paths.ROOT):
    """Return the pages that may hold such blocks: README.md and what docs/ has of Markdown, as paths."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        try:
            page.write_text(filled(page.read_text(), page=page.relative_to(paths.ROOT).as_posix()))
        except ValueError as error:
            raise SystemExit(str(error)) from None
