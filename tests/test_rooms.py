"""The rooms of the library: imports point down only, every room says what comes in and goes out, files stay short."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "cxrlib"
# From the lowest to the highest: a room may use itself and those before it.
ROOMS = (
    "base",
    "statistics",
    "releases",
    "cohorts",
    "reports",
    "labelers",
    "topics",
    "labels",
    "networks",
    "studies",
    "site",
    "commands",
)
MOST_LINES = 520

# Public names that more than one module defines, and why; each is used with its module's name before it.
SAME_NAME_TWICE = {
    "finish": "of a figure, and of a file that is written whole",
    "parse": "of JSON, XML and YAML, and of a report",
    "read": "of a checkpoint, and of a case table",
    "main": "the entry of a command",
    "caption": "of any figure, and of one of two references",
    "DEVICES": "what is drawn, and what a report calls it",
    "LOADERS": "each release module's own, which the catalogue collects",
    "PUBLISHED": "each paper's numbers, beside what is compared with them",
    "against": "of two label sets, and of labelers",
    "available": "of editions, and of releases",
    "compared": "of replicates, and of two models' scores",
    "compose": "of an edition, and of a report",
    "drain_table": "of AUCs, and of maps",
    "fit": "of an image into a square, and of a report network to labels",
    "headline": "each study's own short table",
    "label": "of a command, and of a column",
    "load_network": "of an image network, and of a report network",
    "read_reports": "of a release, and of a cohort by a labeler",
    "run": "of a notebook, of the pipeline, and of a training",
    "save_network": "of an image network, and of a report network",
    "score": "of a map by boxes, and of published models by a label set",
    "simulated": "of images, and of their reports",
    "table": "of rankings, of scores, and of two references",
    "train": "of labelers of either kind, and of an image network",
    "wide": "of an audit, of two references, and of any table of estimates",
    "merged": "of attributes of images, and of addenda with their reports",
    "build": "of a cohort's label sets, and of the explorer",
    "calibration_table": "of finding or none, and of what a report says",
    "learn": "of a short training, and of heads on frozen features",
    "controls": "of how many images to adjudicate, and of what sees no anatomy",
    "NETWORK": "the row of networks, of label cleaning and of the matched study",
    "CLASSES": "what a report network decides between, and the two labelers of PadChest",
    "PARTS": "of an archive, and the two parts of Google's images",
    "DIRECTIONS": "of retrieval, and from which part to which error rates are carried",
    "RATES": "of adjudicated labels, and of report labels that travel",
    "FOLDS_N": "of adjudicated patients, and of a model of the part",
    "imbalance": "of labels over strata, and of covariates between parts",
    "cross_fitted": "of weights, and of calibrated scores",
    "with_holm": "of losses, and of error rates that travel",
    "Question": "of two references, and of how many images to adjudicate",
    "MEAN": "the row of the mean over findings, of rankings and of mining",
    "write": "of editions, of tables, and of what notebooks compute",
}

# Importing one of these before `torchvision_fix` fails beside a CPU-only torch.
NEEDS_FIX = ("fastai", "timm", "torchvision", "torchxrayvision")


def name_of(path):
    """Return a module's dotted name: `cxrlib.base.paths`; of a room's `__init__`, the room's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules():
    """Return the tree of every module by its dotted name."""
    return {name_of(path): ast.parse(path.read_text()) for path in sorted(LIBRARY.rglob("*.py"))}


def imported(name, tree):
    """Return `(module, line)` of what a module imports from the library, wherever in the file the import is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] == "cxrlib")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} line {node.lineno}: imports are absolute"
            if (node.module or "").split(".")[0] == "cxrlib":
                for alias in node.names:
                    inside = f"{node.module}.{alias.name}"
                    yield (inside if inside in modules() else node.module), node.lineno


@cache
def arrows():
    """Return what each module imports of the library."""
    return {name: sorted(set(imported(name, tree))) for name, tree in modules().items()}


def room(name):
    """Return the place of a module's room; what lies outside the rooms is above them all."""
    parts = name.split(".")
    return ROOMS.index(parts[1]) if len(parts) > 1 and parts[1] in ROOMS else len(ROOMS)


def test_every_folder_is_a_room_and_every_file_lies_in_one():
    folders = {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS)
    assert {path.name for path in LIBRARY.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert all((LIBRARY / folder / "__init__.py").exists() for folder in ROOMS)


def test_what_is_imported_exists():
    wrong = [
        f"{name} line {line}: {other}"
        for name, to in arrows().items()
        for other, line in to
        if other not in modules()
    ]
    assert not wrong


def test_imports_between_rooms_point_down():
    up = [
        f"{name} line {line}: {other}"
        for name, to in arrows().items()
        for other, line in to
        if room(other) > room(name)
    ]
    assert not up


def test_no_room_itself_imports_anything_of_the_library():
    assert not [name for name in arrows() if name.count(".") < 2 and name != "cxrlib.__main__" and arrows()[name]]


def circle(start, done, trail=()):
    """Return the names of a circle of imports that starts below a module, or None."""
    if start in trail:
        return [*trail[trail.index(start) :], start]
    if start in done:
        return None
    for other, _ in arrows().get(start, ()):
        found = circle(other, done, (*trail, start))
        if found:
            return found
    done.add(start)
    return None


def test_no_files_import_each_other_in_a_circle():
    done = set()
    assert not [found for name in arrows() if (found := circle(name, done))]


def test_the_checks_see_an_import_inside_a_function_and_a_circle(monkeypatch):
    tree = ast.parse("def f():\n    from cxrlib.base import paths\n    import cxrlib.studies.triage\n")
    assert list(imported("x", tree)) == [("cxrlib.base.paths", 2), ("cxrlib.studies.triage", 3)]
    two = {"a": [("b", 1)], "b": [("c", 1)], "c": [("b", 1)]}
    monkeypatch.setitem(circle.__globals__, "arrows", lambda: two)
    assert circle("a", set()) == ["b", "c", "b"]


@pytest.mark.parametrize("folder", ROOMS)
def test_a_room_says_what_lies_in_it_what_comes_in_and_what_goes_out(folder):
    text = ast.get_docstring(modules()[f"cxrlib.{folder}"])
    assert text and len(text.splitlines()) >= 3, "what lies here, what comes in, what goes out"
    assert re.search(r"\bIn comes?\b", text) and re.search(r"\bout\b", text)


def test_no_module_is_too_long():
    lengths = {name_of(p): len(p.read_text().splitlines()) for p in LIBRARY.rglob("*.py")}
    assert not {name: n for name, n in lengths.items() if n > MOST_LINES}


def public_names(tree):
    """Return the public names that a module defines at its top level."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        else:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [t.id for target in targets if target for t in ast.walk(target) if isinstance(t, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def test_no_public_name_is_defined_in_two_modules():
    where = {}
    for module, tree in modules().items():
        for name in set(public_names(tree)):
            where.setdefault(name, []).append(module)
    twice = {name: places for name, places in where.items() if len(places) > 1}
    assert not {name: places for name, places in twice.items() if name not in SAME_NAME_TWICE}


def test_torchvision_is_mended_before_anything_imports_it():
    """Each module, imported alone, must load `torchvision_fix` before timm and its like (see its docstring)."""
    wrong = []
    for module, tree in modules().items():
        mended = False
        for node in tree.body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            mended |= "cxrlib.base.torchvision_fix" in names
            needing = [name for name in names if name.split(".")[0] in NEEDS_FIX]
            if needing and not mended:
                wrong.append(f"{module} line {node.lineno}: {needing[0]}")
    assert not wrong


def test_modules_named_in_words_exist():
    """Modules that are imported by name, or named in a docstring or a note, are where the words say."""
    wrong = []
    for path in sorted(LIBRARY.rglob("*.py")):
        for line, text in enumerate(path.read_text().splitlines(), 1):
            for found in re.findall(r"\bcxrlib(?:\.[A-Za-z_]\w*)+", text):
                parts = found.split(".")
                known = any(".".join(parts[:k]) in modules() for k in (2, 3)) and parts[1] in (*ROOMS, "__main__")
                if not known or (len(parts) > 2 and ".".join(parts[:3]) not in modules()):
                    wrong.append(f"{path.relative_to(ROOT)} line {line}: {found}")
    assert not wrong
