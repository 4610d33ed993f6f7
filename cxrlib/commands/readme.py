"""Put the headline tables into README.md: `python -m cxrlib.commands.readme`. Numbers there come from result files alone."""

import re

import pandas as pd

from cxrlib.base import paths


def markdown(table):
    """Return a data frame of text as a Markdown table."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def filled(text, root=paths.ROOT):
    """Return README text with every `<!-- table: path -->` block holding that CSV, as it is now."""

    def fill(match):
        table = markdown(pd.read_csv(root / match["path"]).round(3))
        return f"<!-- table: {match['path']} -->\n{table}\n<!-- end -->"

    return re.sub(r"<!-- table: (?P<path>\S+) -->\n.*?<!-- end -->", fill, text, flags=re.S)


if __name__ == "__main__":
    readme = paths.ROOT / "README.md"
    readme.write_text(filled(readme.read_text()))
