"""Render the executed notebooks: `make site` writes `site/index.html` and a page per notebook."""

import html
import json
from pathlib import Path

from nbconvert import HTMLExporter
from traitlets.config import Config

from cxrlib.base import paths

_INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>What chest X-ray labels are worth</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}}
li{{margin:.5rem 0}}small{{color:#666;display:block}}</style></head>
<body><h1>What chest X-ray labels are worth</h1>
<p>The executed notebooks, in reading order.</p>{sections}</body></html>
"""


def heading(notebook):
    """Return a notebook's title and the line that says what it is for."""
    text = "".join(notebook["cells"][0]["source"]).splitlines()
    title = next((line.lstrip("# ") for line in text if line.startswith("# ")), "untitled")
    purpose = " ".join(line.lstrip("> ") for line in text if line.startswith(">"))
    return title, purpose


def render(paper, site):
    """Write a page for each notebook below `paper`, and an index of them.

    Parameters
    ----------
    paper, site : Path

    Returns
    -------
    int
        Pages written.

    Raises
    ------
    FileNotFoundError
        If there is no executed notebook.
    """
    notebooks = sorted(paper.rglob("*.ipynb"))
    if not notebooks:
        raise FileNotFoundError(f"{paper} holds no executed notebook: run `make repro` first.")
    exporter = HTMLExporter(config=Config({"HTMLExporter": {"mathjax_url": "", "require_js_url": ""}}))
    sections = {}
    for path in notebooks:
        relative = path.relative_to(paper)
        page = site / relative.with_suffix(".html")
        page.parent.mkdir(parents=True, exist_ok=True)
        body, _ = exporter.from_filename(str(path))
        page.write_text(body)
        title, purpose = map(html.escape, heading(json.loads(path.read_text())))
        name = relative.stem.split("_", 1)[0] + " " + title
        if "_" in relative.stem and relative.parent != Path("."):
            name += f" ({html.escape(relative.stem.split('_', 1)[1].replace('_', ' '))})"
        link = f'<li><a href="{relative.with_suffix(".html").as_posix()}">{name}</a><small>{purpose}</small></li>'
        sections.setdefault(relative.parent.as_posix(), []).append(link)
    parts = [
        f"<h2>{'Everywhere' if folder == '.' else 'Edition ' + folder}</h2><ul>{''.join(links)}</ul>"
        for folder, links in sorted(sections.items())
    ]
    (site / "index.html").write_text(_INDEX.format(sections="".join(parts)))
    return len(notebooks)


if __name__ == "__main__":
    print(f"site/index.html: {render(paths.ROOT / 'paper', paths.ROOT / 'site')} pages")
