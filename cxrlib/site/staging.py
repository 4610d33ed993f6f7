"""The folder that Sphinx reads: `docs/` and the executed notebooks of `paper/`, made ready to be pages."""

import json
import re
import shutil
from pathlib import Path

import itables

from cxrlib.site import docs_pages, layout, links, notebook_pages

_EXPORTED = re.compile(r"export\{([^}]*)\}")


def page_files(root, notebooks=None):
    """Return the files of the repository that become pages, as POSIX paths from its root.

    Parameters
    ----------
    root : Path
        The repository.
    notebooks : collection of str, optional
        Only these executed notebooks; without it all.

    Raises
    ------
    FileNotFoundError
        If there is no executed notebook, or no page in `docs/`.
    """
    docs = [p.relative_to(root).as_posix() for p in sorted((root / "docs").rglob("*.md")) if "/_" not in p.as_posix()]
    executed = [
        p.relative_to(root).as_posix()
        for p in sorted((root / "paper").rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in p.parts
    ]
    if not executed:
        raise FileNotFoundError(f"{root / 'paper'} holds no executed notebook: run `make repro` first.")
    if layout.INDEX not in docs:
        raise FileNotFoundError(
            f"{root / layout.INDEX} is not there: it is the site's first page, restore it from git."
        )
    return docs + [name for name in executed if notebooks is None or name in notebooks]


def stage(root, folder, notebooks=None, sections=None):
    """Write the folder that Sphinx reads, and return its pages and the links that lead nowhere.

    Parameters
    ----------
    root, folder : Path
        The repository, and where to write. A file that is the same as before keeps its time, so that Sphinx reads
        again only what changed; a file that is no longer needed is removed.
    notebooks : collection of str, optional
        Only these executed notebooks.
    sections : collection of str, optional
        Only these sections of the sidebar (`layout.SECTIONS`), for a part that is printed.

    Returns
    -------
    pages : list of layout.Page
    missing : list of tuple of str
        `(page, target)`.

    Raises
    ------
    FileNotFoundError
        If there is nothing to render.
    """
    pages = layout.arrange([*page_files(root, notebooks), layout.LIST])
    if sections is not None:
        pages = [page for page in pages if page.section in sections or page.file == layout.INDEX]
    at = {page.file: page.staged for page in pages} | {"README.md": "index.md"}
    addresses = links.Addresses(root, at, downloads=sections is None)
    templates = [path.stem for path in (root / "notebooks").glob("*.ipynb")]
    written = {}
    for page in pages:
        if page.file == layout.LIST:
            continue
        text = (root / page.file).read_text()
        if page.file.endswith(".ipynb"):
            notebook, variant = json.loads(text), layout.variant(page.file, templates)
            staged = notebook_pages.staged_notebook(notebook, page, addresses, variant)
            written[page.staged] = json.dumps(staged)
        else:
            written[page.staged] = docs_pages.staged_markdown(text, page, addresses)
    written["index.md"] += "\n\n" + layout.toctrees(pages)
    for page in pages:
        if page.file == layout.LIST:
            written[page.staged] = docs_pages.staged_markdown(
                layout.figure_list(pages, addresses.numbered), page, addresses
            )
    written |= _bundle()
    for name, text in written.items():
        _write_if_changed(folder / name, text.encode())
    for source, name in addresses.copied.items():
        _write_if_changed(folder / name, (root / source).read_bytes())
    if (root / "docs/references.bib").exists():
        _write_if_changed(folder / "references.bib", (root / "docs/references.bib").read_bytes())
        written["references.bib"] = ""
    _remove_others(folder, {*written, *addresses.copied.values()})
    return pages, sorted(addresses.missing)


def _bundle():
    """Return the script and the style that make tables sort and filter, as files of the site, from `itables`.

    The package has them as a module, which browsers do not load from a folder; here it is a script.
    """
    files = Path(itables.__file__).parent / "html"
    script = (files / "dt_bundle.js").read_text()
    exported = _EXPORTED.search(script)
    names = dict(reversed(part.split(" as ")) for part in exported[1].split(",")) if exported else {}
    if "default" not in names:
        raise ValueError(
            f"{files / 'dt_bundle.js'} exports no table: requirements.txt has the release of itables that does."
        )
    script = _EXPORTED.sub(f"window.DataTable={names['default']};", script)
    return {
        "_bundle/datatables.js": f'(function(){{"use strict";{script}\n}})();\n',
        "_bundle/datatables.css": (files / "dt_bundle.css").read_text(),
    }


def _write_if_changed(path, content):
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _remove_others(folder, kept):
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in kept:
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path)
