"""Pages that no edition changes give their outputs again, each in a copy of the checkout of its own."""

import pytest
from reruns import nbval

from cxrlib.base import paths
from cxrlib.commands import replay

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


@pytest.mark.parametrize("notebook", ANYWHERE)
def test_page_gives_its_outputs_again(tmp_path, notebook):
    done = nbval(replay.scratch_copy(paths.ROOT, tmp_path), notebook)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("notebook", FETCHED)
def test_notebook_on_fetched_tables_gives_its_outputs_again(tmp_path, label_tables, notebook):
    done = nbval(replay.scratch_copy(paths.ROOT, tmp_path), notebook)
    assert done.returncode == 0, done.stdout[-3000:]
