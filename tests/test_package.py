"""The package as others install it: what is in the wheel, what each command needs, and what it says without it."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import textwrap
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cxrlib.base import paths
from cxrlib.commands import computes, cxr, extras, fetch

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
# What the dependencies of a plain install bring along, by the names that are imported.
LIGHT = ("numpy", "pandas", "pyarrow", "joblib", "tqdm", "dateutil", "six", "tzdata", "cloudpickle")


# --- what is in the wheel -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_wheel():
    """The files of the wheel, as paths below the repository, as setuptools lists them by pyproject.toml."""
    code = """
        import json, setuptools
        from setuptools.config.pyprojecttoml import apply_configuration
        whole = apply_configuration(setuptools.Distribution({"script_name": "setup.py"}), "pyproject.toml")
        build = whole.get_command_obj("build_py")
        build.ensure_finalized()
        modules = [file for _, _, file in build.find_all_modules()]
        data = [f"{folder}/{name}" for _, folder, _, names in build.data_files for name in names]
        print(json.dumps(modules + data))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_wheel_holds_the_library_with_its_phrases_and_cards_and_nothing_else(in_wheel):
    library = {
        path.relative_to(paths.ROOT).as_posix()
        for path in (paths.ROOT / "cxrlib").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert in_wheel == library
    assert {"cxrlib/py.typed", "cxrlib/releases/cards.yaml", "cxrlib/labels/shipped_cards.yaml"} <= in_wheel
    assert sum(name.startswith("cxrlib/labelers/phrases/findings/") for name in in_wheel) >= 20


def test_the_command_is_that_of_the_library():
    assert PROJECT["scripts"] == {"cxr": "cxrlib.commands.cxr:main"}


# --- what each extra must hold --------------------------------------------------------------------------------


def held(extra):
    """Return the distributions that an extra brings, `""` being a plain install, those of extras inside it too."""
    lines = PROJECT["dependencies"] + (PROJECT["optional-dependencies"][extra] if extra else [])
    out = set()
    for one in map(Requirement, lines):
        out |= set().union(*(held(inner) for inner in one.extras)) if one.name == "cxrlib" else {one.name}
    return {canonicalize_name(name) for name in out}


def imported_names(tree, eager=False):
    """Return the top-level names of what code imports: all, or only what is imported as soon as it is."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if eager and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]
        nodes += ast.iter_child_nodes(node)


def distributions(trees):
    """Return the distributions of what code imports, the standard library and this one left out."""
    known = importlib.metadata.packages_distributions()
    names = {name for tree in trees for name in imported_names(tree)}
    names -= {*sys.stdlib_module_names, "cxrlib"}
    return {canonicalize_name(known[name][0]) for name in names if name in known}


def trees_of(module):
    """Return the syntax trees of a module and of all that it hangs on."""
    files = computes.closure(ast.parse(f"import {module}"), paths.ROOT)
    return [computes.parsed(file.read_text()) for file in files if file.suffix == ".py"]


def test_every_command_has_an_extra():
    assert set(extras.EXTRAS) == set(cxr.COMMANDS)
    assert set(extras.EXTRAS.values()) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("name", cxr.COMMANDS)
def test_the_extra_of_a_command_holds_what_it_imports(name):
    lacking = distributions(trees_of(f"cxrlib.commands.{name}")) - held(extras.EXTRAS[name])
    lacking -= set(extras.OF_SOME_INPUTS)
    assert not lacking, f"{name}: add to the extra {extras.EXTRAS[name]}: {lacking}"


@pytest.mark.slow
def test_the_extra_train_holds_what_networks_and_cohorts_import():
    for room in ("networks", "cohorts", "topics", "studies"):
        for file in (paths.ROOT / "cxrlib" / room).glob("*.py"):
            assert not distributions(trees_of(f"cxrlib.{room}.{file.stem}")) - held("train"), file.name


def test_the_extras_hold_what_notebooks_library_and_tests_import():
    library = [ast.parse(file.read_text()) for file in (paths.ROOT / "cxrlib").rglob("*.py")]
    notebooks = [ast.parse(computes.notebook_code(file)) for file in (paths.ROOT / "notebooks").glob("*.ipynb")]
    tests = [ast.parse(file.read_text()) for file in (paths.ROOT / "tests").glob("*.py")]
    assert not distributions(library) - held("paper") - held("site") - held("cluster")
    assert not distributions(notebooks) - held("paper")
    assert not distributions(tests) - held("dev")


def test_the_extras_of_everything_hold_each_other():
    assert held("") < held("audit") < held("train") < held("paper") < held("site") < held("dev")
    assert held("bert") < held("train")
    assert "torch" not in held("audit") and len(held("")) == 5


# --- what the commands say where an extra is missing ----------------------------------------------------------

REFUSING = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        known = name[0] == "_" or name in sys.stdlib_module_names or name in {(*LIGHT, "cxrlib")!r}
        if path is None and not known:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
from cxrlib.commands import cxr
sys.exit(cxr.main(sys.argv[1:]))
"""


@pytest.fixture
def light(tmp_path):
    """Run `cxr` as a plain install does, without the packages of the extras."""

    def run(*words):
        command = [sys.executable, "-c", REFUSING, *map(str, words)]
        environment = {"PYTHONPATH": str(paths.ROOT), "PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "error"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_a_plain_install_labels_reports(light, tmp_path):
    (tmp_path / "in.csv").write_text('report_id,report\na,"Cardiomegaly. No pneumothorax."\n')
    done = light("label", "in.csv", "--out", "out.csv", "--evidence", "spans.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "spans.csv").read_text().splitlines()[1].startswith("a,cardiomegaly,0,12,Cardiomegaly,present")
    done = light("label", "in.csv", "--out", "out.parquet")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plain_install_has_help(light):
    done = light("--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: cxr COMMAND")
    assert light("label", "--help").stdout.startswith("usage: cxr label")


@pytest.mark.parametrize("name", [name for name in cxr.COMMANDS if name not in ("label", "verify")])
def test_another_command_says_its_extra_in_a_sentence(light, name):
    done = light(name, "--help")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"cxr {name}: the package ")
    assert done.stderr.endswith(f' is not installed: run pip install "cxrlib[{extras.EXTRAS[name]}]".\n')
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("labeler", ["bert", "visual", "chexbert"])
def test_a_labeler_that_learned_says_its_extra(light, tmp_path, labeler):
    (tmp_path / "in.csv").write_text("report_id,report\na,Clear lungs.\n")
    for name in ("labeler.json", "chexbert.pth"):
        (tmp_path / name).touch()
    done = light("label", "in.csv", "--out", "out.csv", "--labeler", labeler, "--weights", tmp_path)
    assert done.returncode == 1 and done.stderr.endswith('is not installed: run pip install "cxrlib[bert]".\n')
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("words", [["audit", "google_adjudicated", "x.csv"], ["score", "x.csv", "--labels", "rsna"]])
def test_a_published_table_in_a_package_that_is_missing_is_a_sentence(words, monkeypatch, capsys):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        cxr.main(words)
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said == f'cxr {words[0]}: the package torchxrayvision is not installed: run pip install "cxrlib[train]".\n'


def test_an_import_of_ours_that_fails_keeps_its_traceback(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'cxrlib.nothing'", name="cxrlib.nothing")

    monkeypatch.setattr(cxr.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        cxr.main(["audit"])


def test_fetch_outside_a_clone_asks_where_to(tmp_path, monkeypatch):
    monkeypatch.delenv("CXR_DATA", raising=False)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="set CXR_DATA to the folder"):
        fetch.main(["google_four_readers"])


# --- what the page of packages and the type checker are told ---------------------------------------------------


def test_the_page_of_packages_lists_every_dependency_once_with_a_licence():
    text = (paths.ROOT / "docs" / "packages.md").read_text().split("## Licences")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    rows = {canonicalize_name(name): (extra.strip("`"), licence) for name, extra, licence in rows[2:]}
    asked = {"none": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    first = {}
    for extra, lines in asked.items():
        for one in map(Requirement, lines):
            first.setdefault(canonicalize_name(one.name), extra)
    first.pop("cxrlib")
    assert {name: extra for name, (extra, _) in rows.items()} == first
    assert all(licence for _, licence in rows.values())


def test_the_page_of_packages_says_which_extra_each_command_needs():
    text = (paths.ROOT / "docs" / "packages.md").read_text().split("## Licences")[0]
    purpose = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.M))
    for name, extra in extras.EXTRAS.items():
        assert re.search(rf"`(cxr )?{name}\b", purpose[extra]), f"{name} needs {extra}"


def test_the_modules_with_full_types_exist_and_have_no_bare_function():
    tool = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    strict = next(one["module"] for one in tool["overrides"] if one.get("disallow_untyped_defs"))
    assert len(strict) >= 25 and "cxrlib.labelers.rules" in strict
    for module in strict:
        tree = ast.parse((paths.ROOT / f"{module.replace('.', '/')}.py").read_text())
        bare = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.returns is None]
        assert not bare, f"{module}: {bare}"
