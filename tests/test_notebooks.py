"""Templates are clean and match the pipeline; the committed notebooks re-run to the same outputs."""

import json
import re
import subprocess
import sys

import nbformat
import pytest
import yaml

from cxrlib.base import paths
from cxrlib.commands import computes, replay, site

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
    """Yield each stage with the words of every command that runs a notebook."""
    for stage, entry in PIPELINE["stages"].items():
        entry = entry.get("do", entry)
        for command in [entry["cmd"]] if isinstance(entry["cmd"], str) else entry["cmd"]:
            if found := re.search(r"\$\{nb\}/(\w+\.ipynb) (\S+)((?: \w+=\S+)*)", " ".join(command.split())):
                yield stage, found[1], dict(word.rstrip(";").split("=", 1) for word in found[3].split())


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


@pytest.mark.parametrize(("stage", "name", "given"), list(commands()), ids=lambda v: str(v)[:24])
def test_every_parameter_is_declared(stage, name, given):
    settings = yaml.safe_load((paths.ROOT / "params.yaml").read_text())
    given = dict(given)
    assert given.pop("section", "edition") in settings, f"stage {stage} names a section that params.yaml lacks"
    assert set(given) <= parameters(paths.ROOT / "notebooks" / name), f"stage {stage} sets unknown parameters"


def test_every_template_has_a_stage():
    assert {name for _, name, _ in commands()} == {p.name for p in TEMPLATES}


def test_every_stage_depends_on_what_its_notebooks_compute():
    for stage, name, _ in commands():
        entry = PIPELINE["stages"][stage].get("do", PIPELINE["stages"][stage])
        assert entry["desc"] and f"data/code/{name.removesuffix('.ipynb')}.txt" in entry["deps"], stage


READS = {  # what code reads of the pipeline's data -> what a dependency of its stage must begin with
    r"label_noise_path\(": "data/label_noise.csv",
    r"open_store\(": "data/cohorts/",
    r"label_tables\.load\(": "data/label_sets/",
    r"split_path\(": "data/splits/",
    r"read_parquet\(paths\.target_path\(": ("data/targets", "${item.table}"),
    r"run_dir\(": ("results/${edition}/runs", "${item.runs}"),
    r"case_tables\.read\(": "data/cases/${edition}",
    r"read_scores\(": "data/map_scores/${edition}",
}


@pytest.mark.parametrize(("stage", "name"), sorted({(s, n) for s, n, _ in commands()}))
def test_stage_depends_on_the_data_that_its_notebook_reads(stage, name):
    entry = PIPELINE["stages"][stage].get("do", PIPELINE["stages"][stage])
    outs = [next(iter(o)) if isinstance(o, dict) else o for o in entry["outs"]]
    notebook = paths.ROOT / "notebooks" / name
    code = computes.notebook_code(notebook)
    for pattern, dependency in READS.items():
        if re.search(pattern, code):
            made = any(path.startswith(dependency) for path in outs)  # it reads back what it wrote
            assert made or any(d.startswith(dependency) for d in entry["deps"]), f"{stage} reads {dependency}"


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
    section, _ = replay.STUDIES[notebook]
    given = [each for _, name, each in commands() if name == f"{notebook}.ipynb"]
    assert given == [{"section": section}]


def test_site_renders_every_committed_notebook(tmp_path):
    pages = site.render(paths.ROOT / "paper", tmp_path)
    index = (tmp_path / "index.html").read_text()
    assert pages == len(COMMITTED) and index.count("<li>") == pages
    for link in re.findall(r'href="([^"]+)"', index):
        assert (tmp_path / link).stat().st_size > 10_000
