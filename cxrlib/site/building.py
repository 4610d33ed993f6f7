"""Build the site: pages by Sphinx, one page to print, and the explorer."""

import os
import re
import shutil
import subprocess
import sys

from cxrlib.site import explorer, layout, staging

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def build_site(root, out, work, notebooks=None):
    """Write the site, and return its pages and what Sphinx warned of.

    Parameters
    ----------
    root, out, work : Path
        The repository, the site, and a folder that keeps what Sphinx has read, so that a second build reads only what
        changed. The site itself is always written whole, so that no page of an earlier build stays.
    notebooks : collection of str, optional
        Only these executed notebooks.

    Returns
    -------
    pages : list of layout.Page
    warnings : list of str
        A line a warning of Sphinx, and one a link to a file that is not in the repository.

    Raises
    ------
    FileNotFoundError
        If there is no executed notebook.
    RuntimeError
        If Sphinx fails.
    """
    shutil.rmtree(out, ignore_errors=True)
    pages, missing = staging.stage(root, work / "source", notebooks)
    warnings = [f"{page} links to {target}, which is not there." for page, target in missing]
    warnings += _sphinx(root, "html", work / "source", out, work / "read")
    staging.stage(root, work / "source_printed", notebooks, sections=layout.PRINTED)
    settings = ["-tprinted"]
    warnings += _sphinx(root, "singlehtml", work / "source_printed", out / "print", work / "read_printed", settings)
    _alone(out / "print" / "index.html")
    explorer.build(out / "explorer")
    shutil.rmtree(out / "jupyter_execute", ignore_errors=True)
    return pages, warnings


def _sphinx(root, builder, source, out, read, settings=()):
    """Run Sphinx and return its warnings, a line each."""
    read.mkdir(parents=True, exist_ok=True)
    log = read / "warnings.txt"
    command = [sys.executable, "-m", "sphinx", "-Q", "-b", builder, "-c", str(root / "docs"), "-d", str(read)]
    command += ["-w", str(log), *settings, str(source), str(out)]
    paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=os.environ | {"PYTHONPATH": paths})
    said = log.read_text().splitlines() if log.exists() else []
    if done.returncode:
        raise RuntimeError("Sphinx could not build the site: " + " ".join([*said[-3:], done.stderr.strip()[-1000:]]))
    return [line for line in said if line.strip()]


def _alone(page):
    """Take from a page that is built alone what leads to other pages, and to an index, which it does not have."""
    scripts = r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"[^>]*></script>'
    others = r'\s*<link rel="(?:index|search|next|prev|contents)"[^>]*>'
    text = re.sub(f"{scripts}|{others}", "", page.read_text())
    text = re.sub(r'href="#document-[^"#]*#', 'href="#', text)  # Sphinx names page and place, and the place is here
    page.write_text(text.replace('href="#document-index"', 'href="#"'))


def find_browser():
    """Return the path of a Chromium that prints pages, or None."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def print_pdf(page, path):
    """Print an HTML page into a PDF by a headless Chromium.

    Parameters
    ----------
    page, path : Path

    Raises
    ------
    FileNotFoundError
        If there is no Chromium, or no such page.
    RuntimeError
        If it prints nothing.
    """
    browser = find_browser()
    if browser is None:
        raise FileNotFoundError("Printing needs Chromium: install it (Debian: apt-get install chromium).")
    if not page.exists():
        raise FileNotFoundError(f"{page} is not there: run `make site` first.")
    command = [browser, "--headless=new", "--disable-gpu", "--no-pdf-header-footer", f"--print-to-pdf={path}"]
    # Chromium's sandbox refuses to be root's, as in a container.
    command += ["--no-sandbox"] * (hasattr(os, "geteuid") and os.geteuid() == 0)
    done = subprocess.run([*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=300)
    if not path.exists() or not path.read_bytes().startswith(b"%PDF"):
        raise RuntimeError(f"{browser} printed no PDF of {page}: {done.stderr.strip()[-500:]}")
