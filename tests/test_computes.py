"""What a notebook computes: which edits count, and which cost nothing."""

import json
import re
import shutil

import pytest

from cxrlib.base import paths
from cxrlib.commands import computes


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for name in ("cxrlib", "notebooks"):
        shutil.copytree(paths.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def written(root):
    computes.write(root, root / "code")
    return {file.stem: file.read_text() for file in (root / "code").glob("*.txt")}


@pytest.fixture
def changed(tree):
    """Change a file's text, and say which notebooks then compute something else; the file is put back."""
    before, kept = written(tree), {}

    def change(name, pattern, text):
        path = tree / name
        kept[path] = path.read_text()
        new, n = re.subn(pattern, text, kept[path], count=1, flags=re.S)
        assert n, f"{pattern} is not in {name}"
        path.write_text(new)
        after = written(tree)
        return {notebook for notebook in before if before[notebook] != after[notebook]}

    yield change
    for path, text in kept.items():
        path.write_text(text)


def test_a_constant_in_a_deep_module_is_noticed_by_all_that_hang_on_it(changed):
    stale = changed("cxrlib/statistics/intervals.py", r"FEW_PATIENTS = 10", "FEW_PATIENTS = 11")
    assert {"06_audit", "20_pneumothorax", "21_labelers", "22_finding", "23_maps"} <= stale
    assert not {"01_cohort", "10_train"} & stale


def test_the_noise_and_the_simulation_reach_visual_and_the_labelers(changed):
    assert {"03_label_sets", "12_labelers", "13_visual"} <= changed(
        "cxrlib/statistics/noise.py", r"STRATA = \(", 'STRATA = ("x", '
    )
    assert {"01_cohort", "13_visual"} <= changed("cxrlib/cohorts/simulation.py", r"\Z", "\nNEW = 1\n")


def test_phrases_count_for_what_reads_by_them(changed):
    name = next((paths.ROOT / "cxrlib/labelers/phrases/findings").glob("*.txt")).name
    stale = changed(f"cxrlib/labelers/phrases/findings/{name}", r"\Z", "\nsomething new\n")
    assert {"03_label_sets", "12_labelers"} <= stale and "10_train" not in stale


def test_words_comments_and_captions_cost_nothing(changed):
    assert changed("cxrlib/networks/training.py", r"Training and prediction", "Other words") == set()
    assert changed("cxrlib/base/runs.py", r"\Z", "\n# a comment\n") == set()
    assert changed("cxrlib/base/runs.py", r"params\.yaml has no", "There is no") == set()
    assert changed("cxrlib/base/runs.py", r"raise KeyError\(", "raise ValueError(")


def test_what_tables_and_figures_look_like_trains_nothing(changed):
    for name in ("cxrlib/studies/displays.py", "cxrlib/base/figures.py"):
        stale = changed(name, r"\Z", "\nNEW = 1\n")
        assert {"20_pneumothorax", "22_finding"} <= stale
        assert not {"01_cohort", "10_train", "12_labelers", "13_visual", "14_maps", "17_image_to_text"} & stale


def test_outputs_and_prose_of_a_notebook_cost_nothing_and_its_code_counts(tree, changed):
    path = tree / "notebooks" / "10_train.ipynb"
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = ["other words"]
        else:
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["7\n"]}]
    text = json.dumps(notebook)
    assert changed("notebooks/10_train.ipynb", r"\A.*\Z", text.replace("\\", "\\\\")) == set()
    assert changed("notebooks/10_train.ipynb", r"notebooks\.start\(", "x = 1; notebooks.start(") == {"10_train"}


def test_imports_inside_functions_and_by_name_are_found(tree):
    code = "def f():\n    from cxrlib.labelers import bert\n\nimport_module('cxrlib.base.tables')\n"
    files = {p.relative_to(tree).as_posix() for p in computes.closure(computes.ast.parse(code), tree)}
    assert {"cxrlib/labelers/bert.py", "cxrlib/labelers/report_network.py", "cxrlib/base/tables.py"} <= files


def test_types_cost_nothing_and_the_fields_of_a_class_count():
    plain = "import math\n\n\ndef f(x, *y, z=1):\n    found = {}\n    return found\n"
    typed = (
        "from __future__ import annotations\n\nimport math\nfrom typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n    from pathlib import Path\n\n\n"
        "def f(x: Path, *y: int, z: float = 1) -> dict[str, int]:\n    found: dict[str, int] = {}\n    return found\n"
    )
    assert computes.meaning(typed) == computes.meaning(plain)
    assert computes.meaning(typed) != computes.meaning(typed.replace("= 1)", "= 2)"))
    fields = "class A(NamedTuple):\n    a: int\n"
    assert computes.meaning(fields) != computes.meaning(fields.replace("int", "str"))
    assert computes.meaning(fields) != computes.meaning("class A(NamedTuple):\n    a: int\n    b: int\n")


def test_what_only_a_type_checker_imports_is_not_hung_on(tree):
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cxrlib.networks import losses\n"
    files = {p.relative_to(tree).as_posix() for p in computes.closure(computes.parsed(code), tree)}
    assert files == {"cxrlib/__init__.py"}
