"""Executed pages are those that their code makes: each is what the lock knows, and gives its outputs again.

The lock has, for each page that a stage makes, the MD5 of the page and of what the page's code hangs on. So a stored
number that was altered, or code that was changed without running it, is found in a second. Running pages again, each
in a copy of the checkout of its own, finds what does not repeat itself. Pages that take more than half a minute
are `slow`: `make test SLOW=1` runs these too.
"""

import hashlib

import pytest
import yaml
from reruns import nbval

from cxrlib.base import paths
from cxrlib.commands import computes, replay

# Computed from label tables in a pinned package, from `third_party/` or, 38, from committed scores: the same
# on every machine.
ANYWHERE = [
    "paper/02_label_noise.ipynb",
    "paper/05_catalogue.ipynb",
    "paper/06_audit.ipynb",
    "paper/08_statistics.ipynb",
    "paper/30_two_references.ipynb",
    "paper/31_adjudication.ipynb",
    "paper/32_cleaning.ipynb",
    "paper/34_transport.ipynb",
    "paper/38_dose_response.ipynb",
]
# From tables that are fetched. Notebook 37 is not among them: it needs images, and its nested cross-validation takes
# minutes; test_matched.py has its parts.
FETCHED = [
    "paper/07_readers.ipynb",
    "paper/09_rankings.ipynb",
    "paper/33_reader_models.ipynb",
    "paper/35_chexbert.ipynb",
    "paper/36_references.ipynb",
]


SLOW = {f"paper/{name}.ipynb" for name in ("08_statistics", "31_adjudication", "33_reader_models", "34_transport")}
SLOW |= {f"paper/{name}.ipynb" for name in ("09_rankings", "30_two_references", "32_cleaning", "36_references")}


def tiered(notebooks):
    return [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in notebooks]


def differing_from_the_lock(root, lock):
    """Return the pages of a checkout that are not as the lock has them, and those whose code is not."""
    pages, code = [], []
    for stage in lock["stages"].values():
        made = [out for out in stage.get("outs", []) if out["path"].startswith("paper/")]
        pages += [
            out["path"] for out in made if hashlib.md5((root / out["path"]).read_bytes()).hexdigest() != out["md5"]
        ]
        for dep in stage.get("deps", []) if made else []:
            if dep["path"].startswith("data/code/"):
                notebook = root / "notebooks" / dep["path"].removeprefix("data/code/").replace(".txt", ".ipynb")
                now = hashlib.md5(computes.computes(notebook, root).encode()).hexdigest()
                code += [notebook.name] * (now != dep["md5"])
    return pages, sorted(set(code))


def test_every_page_is_as_its_code_left_it():
    lock = yaml.safe_load((paths.ROOT / "dvc.lock").read_text())
    pages, code = differing_from_the_lock(paths.ROOT, lock)
    assert not pages, "altered since they were run; `make repro` runs them again"
    assert not code, "what these compute has changed since they were run; `make repro` runs them again"


def test_an_altered_number_and_altered_code_are_found(tmp_path):
    (tmp_path / "paper").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "cxrlib").mkdir()
    (tmp_path / "cxrlib" / "__init__.py").write_text("")
    template, page = tmp_path / "notebooks" / "9.ipynb", tmp_path / "paper" / "9.ipynb"
    template.write_text('{"cells": [{"cell_type": "code", "source": ["print(0.5)"]}]}')
    page.write_text("0.5")
    lock = {"stages": {"nine": {"outs": [{"path": "paper/9.ipynb", "md5": hashlib.md5(b"0.5").hexdigest()}]}}}
    known = hashlib.md5(computes.computes(template, tmp_path).encode()).hexdigest()
    lock["stages"]["nine"]["deps"] = [{"path": "data/code/9.txt", "md5": known}]
    assert differing_from_the_lock(tmp_path, lock) == ([], [])
    page.write_text("0.6")
    template.write_text('{"cells": [{"cell_type": "code", "source": ["print(0.7)"]}]}')
    assert differing_from_the_lock(tmp_path, lock) == (["paper/9.ipynb"], ["9.ipynb"])


@pytest.mark.parametrize("notebook", tiered(ANYWHERE))
def test_page_gives_its_outputs_again(tmp_path, notebook):
    done = nbval(replay.scratch_copy(paths.ROOT, tmp_path), notebook)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("notebook", tiered(FETCHED))
def test_notebook_on_fetched_tables_gives_its_outputs_again(tmp_path, label_tables, notebook):
    done = nbval(replay.scratch_copy(paths.ROOT, tmp_path), notebook)
    assert done.returncode == 0, done.stdout[-3000:]
