"""Templates are clean and match the pipeline; the committed notebooks re-run to the same outputs."""

import json
import re
import subprocess
import sys

import nbformat
import pytest
import yaml

from cxrlib.base import paths
from cxrlib.commands import replay, site

TEMPLATES = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))
PIPELINE = yaml.safe_load((paths.ROOT / "dvc.yaml").read_text())
COMMITTED = sorted((paths.ROOT / "paper").rglob("*.ipynb"))

# Re-run strictly: their outputs are the same on every machine, because they are computed from committed case
# tables or from label tables in a pinned package.
STRICT = [
    "paper/02_label_noise.ipynb",
    "paper/05_catalogue.ipynb",
    "paper/06_audit.ipynb",
    "paper/08_statistics.ipynb",
    "paper/quick/20_pneumothorax.ipynb",
    "paper/quick/21_labelers.ipynb",
    "paper/quick/22_finding.ipynb",
    "paper/quick/23_maps.ipynb",
]
FETCHED = ["paper/07_readers.ipynb", "paper/09_rankings.ipynb"]  # from tables that are fetched


def parameters(path):
    notebook = nbformat.read(path, 4)
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1, f"{path.name} has {len(cells)} parameters cells"
    return set(re.findall(r"^(\w+) = ", cells[0].source, re.M))


def commands():
    for stage, entry in PIPELINE["stages"].items():
        for command in entry["cmd"]:
            if "notebooks/" in command:
                yield stage, command


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_template_is_clean(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "strip outputs: nbstripout notebooks/*.ipynb"
            assert cell.source.count("\n") < 28, f"a cell of {cell.source.count(chr(10)) + 1} lines belongs in cxrlib"
    first = notebook.cells[0].source
    assert first.startswith("# ") and "\n> " in first and "**Writes**" in first and "**Takes**" in first


@pytest.mark.parametrize(("stage", "command"), list(commands()), ids=lambda v: v[:24])
def test_every_parameter_is_declared(stage, command):
    template = paths.ROOT / re.search(r"notebooks/\w+\.ipynb", command).group()
    given = set(re.findall(r"-p (\w+) ", command))
    assert given <= parameters(template), (
        f"stage {stage} passes {given - parameters(template)}, unknown to {template.name}"
    )


def test_every_template_has_a_stage():
    run = {re.search(r"notebooks/\w+\.ipynb", command).group() for _, command in commands()}
    assert run == {f"notebooks/{p.name}" for p in TEMPLATES}


@pytest.mark.parametrize("stage", PIPELINE["stages"])
def test_stage_depends_on_what_its_notebook_imports(stage):
    entry = PIPELINE["stages"][stage]
    assert entry["desc"]
    template = next(d for d in entry["deps"] if d.startswith("notebooks/"))
    code = "\n".join(c.source for c in nbformat.read(paths.ROOT / template, 4).cells if c.cell_type == "code")
    lines = re.findall(r"^ *from cxrlib import (.+)$", code, re.M)
    imported = {module.split(" as ")[0].strip() for line in lines for module in line.split(",")}
    imported |= set(re.findall(r"^ *from cxrlib\.(\w+) import", code, re.M))
    looks = {"runs", "paths", "plots"}  # what a page looks like and where it lies, not what it says
    declared = {d.removeprefix("cxrlib/").removesuffix(".py") for d in entry["deps"] if d.startswith("cxrlib/")}
    assert imported - looks <= declared, f"add to the deps of {stage}: {imported - looks - declared}"
    assert all(
        (paths.ROOT / "cxrlib" / f"{name}.py").exists() or (paths.ROOT / "cxrlib" / name).is_dir()
        for name in declared
    )


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.relative_to(paths.ROOT / "paper").as_posix())
def test_committed_notebook_is_publishable(path):
    notebook = nbformat.read(path, 4)
    text = path.read_text()
    assert str(paths.ROOT) not in text and not re.search(r'"/(home|root|Users|work|tmp)/', text), "an absolute path"
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            assert output.output_type != "error", output.get("ename")
            assert output.get("name") != "stderr", output.get("text")
        if "imshow" in cell.source and path.name != "00_tour.ipynb" and "simulated" not in path.name:
            assert not [o for o in cell.outputs if "image/png" in o.get("data", {})], "a picture of a patient"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return replay.scratch_copy(paths.ROOT, tmp_path_factory.mktemp("checkout"))


def nbval(scratch, *notebooks):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--nbval"]
    command += ["--nbval-cell-timeout=300", "--nbval-sanitize-with", "tests/nbval_sanitize.cfg", *notebooks]
    for _ in range(3):  # two kernels that start at once may choose the same port; one of them then dies
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
        if "Kernel died before replying" not in done.stdout:
            break
    return done


@pytest.mark.xdist_group("notebooks")
@pytest.mark.parametrize("notebook", STRICT)
def test_committed_notebook_gives_its_outputs_again(scratch, notebook):
    done = nbval(scratch, notebook)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.xdist_group("readers")
@pytest.mark.parametrize("notebook", FETCHED)
def test_notebook_on_fetched_tables_gives_its_outputs_again(tmp_path, label_tables, notebook):
    done = nbval(replay.scratch_copy(paths.ROOT, tmp_path), notebook)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.xdist_group("notebooks")
def test_an_altered_number_fails(scratch):
    """The comparison is real: one digit changed in a stored output is found."""
    path = scratch / "paper/02_label_noise.ipynb"
    text = path.read_text()
    assert text.count("'fn': 98") == 1
    altered = scratch / "paper/altered.ipynb"
    altered.write_text(text.replace("'fn': 98", "'fn': 89"))
    assert json.loads(altered.read_text())
    done = nbval(scratch, "paper/altered.ipynb")
    assert done.returncode != 0 and "89" in done.stdout


@pytest.mark.xdist_group("notebooks")
def test_tables_replay_from_the_published_predictions(scratch):
    """No image and no network in the scratch copy, and every table comes out the same to the byte."""
    assert not (scratch / "data" / "cohorts").exists() and not (scratch / "results" / "quick" / "runs").exists()
    assert replay.replay(paths.ROOT, scratch) == []


@pytest.mark.parametrize("notebook", replay.STUDIES)
def test_a_replay_gives_a_notebook_what_its_stage_gives_it(notebook):
    study, _ = replay.STUDIES[notebook]
    settings = yaml.safe_load((paths.ROOT / "params.yaml").read_text())
    words = replay.arguments(paths.ROOT / "notebooks" / f"{notebook}.ipynb", settings, study)
    (command,) = [c for _, c in commands() if f"{notebook}.ipynb" in c]
    assert set(words[1::3]) == set(re.findall(r"-p (\w+) ", command))
    assert words[words.index("edition") + 1] == settings["edition"]


def test_site_renders_every_committed_notebook(tmp_path):
    pages = site.render(paths.ROOT / "paper", tmp_path)
    index = (tmp_path / "index.html").read_text()
    assert pages == len(COMMITTED) and index.count("<li>") == pages
    for link in re.findall(r'href="([^"]+)"', index):
        assert (tmp_path / link).stat().st_size > 10_000
