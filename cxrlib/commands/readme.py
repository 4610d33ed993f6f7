"""Fill the tables of README.md and docs/: `python -m cxrlib.commands.readme`. Numbers come from result files only."""

import re

import pandas as pd

from cxrlib.base import paths


def markdown(table):
    """Return a data frame of text as a Markdown table; what is missing is an empty cell."""
    cells = table.astype(object).where(table.notna(), "").astype(str)
    rows = [list(table.columns), ["---"] * len(table.columns), *cells.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def filled(text, root=paths.ROOT):
    """Return a page's text with every `<!-- table: path -->` block holding that CSV, as it is now."""

    def fill(match):
        table = markdown(pd.read_csv(root / match["path"]).round(3))
        return f"<!-- table: {match['path']} -->\n{table}\n<!-- end -->"

    return re.sub(r"<!-- table: (?P<path>\S+) -->\n.*?<!-- end -->", fill, text, flags=re.S)


def pages(root=paths.ROOT):
    """Return the pages that may hold such blocks: README.md and docs/*.md, as paths."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(filled(page.read_text()))
