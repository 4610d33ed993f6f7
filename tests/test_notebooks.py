"""Templates are clean and match the pipeline; the committed notebooks re-run to the same outputs."""

import ast
import itertools
import json
import re
import shutil
import subprocess
import sys

import nbformat
import papermill
import pytest
import yaml
from reruns import nbval

from cxrlib.base import editions, notebooks, paths
from cxrlib.base.editions import STUDIES
from cxrlib.commands import beyond, computes, replay
from cxrlib.commands import notebook as notebook_command

TEMPLATES = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))
PIPELINE = yaml.safe_load((paths.ROOT / "dvc.yaml").read_text())
COMMITTED = sorted((paths.ROOT / "paper").rglob("*.ipynb"))

# Re-run strictly: their outputs are the same on every machine, because they are computed from committed case
# tables. Pages that no edition changes are re-run by test_pages.py.
STRICT = [
    "paper/quick/20_pneumothorax.ipynb",
    "paper/quick/21_labelers.ipynb",
    "paper/quick/22_finding.ipynb",
    "paper/quick/23_maps.ipynb",
    "paper/quick/24_mining.ipynb",
    "paper/quick/25_metric.ipynb",
]
LONG = (
    "paper/quick/25_metric.ipynb",
    "paper/quick/24_mining.ipynb",
)  # whose stored numbers test_pages.py knows by MD5
BY_HAND = {"01_play.ipynb"}  # for a person in JupyterLab: no stage runs it, and it has no page
ARCHIVES = ("15_archive", "15_release")  # whichever of them an edition's archive asks for


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
            found = re.search(r"\$\{nb\}/(\S+) (\S+)((?: \w+=\S+)*)", " ".join(command.split()))
            if found and "${item.notebook}" in found[1]:
                yield from ((stage, f"{notebook}.ipynb", {"section": s}) for s, (notebook, *_) in STUDIES.items())
            elif found and "${stages.archive.notebook}" in found[1]:
                given = dict(word.split("=", 1) for word in found[3].split())
                yield from ((stage, f"{notebook}.ipynb", given) for notebook in ARCHIVES)
            elif found:
                yield stage, found[1], dict(word.rstrip(";").split("=", 1) for word in found[3].split())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_template_is_clean(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "strip outputs: nbstripout notebooks/*.ipynb"
            assert cell.source.count("\n") < 20, f"a cell of {cell.source.count(chr(10)) + 1} lines belongs in cxrlib"
    first = notebook.cells[0].source
    assert first.startswith("# ") and "\n> " in first and "**Writes**" in first and "**Takes**" in first


def page_folders():
    """Return by notebook in which folders its pages lie, as dvc.yaml has it."""
    folders = {f"{name}.ipynb": {"paper"} for name in beyond.NOTEBOOKS}
    for entry in PIPELINE["stages"].values():
        entry = entry.get("do", entry)
        for command in [entry["cmd"]] if isinstance(entry["cmd"], str) else entry["cmd"]:
            for template, page in re.findall(r"\$\{nb\}/(\S+) (\S+)", " ".join(command.split())):
                names = (
                    [f"{notebook}.ipynb" for notebook, *_ in STUDIES.values()]
                    if "${item.notebook}" in template
                    else ([f"{name}.ipynb" for name in ARCHIVES] if "${" in template else [template])
                )
                for name in names:
                    folders.setdefault(name, set()).add(page.rpartition("/")[0])
    return folders


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_links_of_a_template_lead_somewhere_from_it_and_from_its_page(path):
    """A page lies in `paper/` or in the folder of its edition, and links are not changed when it is written."""
    folders = page_folders()
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith("https://"):
            assert (path.parent / target).exists(), f"{target} is not there, seen from notebooks/"
            assert path.name in BY_HAND or folders[path.name] <= folders[target], f"{target} has its page elsewhere"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_headings_of_a_template_make_a_table_of_contents(path):
    """One title, and no level is skipped below it."""
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.M)]
    assert levels[0] == 1 and levels.count(1) == 1 and len(levels) > 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize(("stage", "name", "given"), list(commands()), ids=lambda v: str(v)[:24])
def test_every_parameter_is_declared(stage, name, given):
    settings = yaml.safe_load((paths.ROOT / "params.yaml").read_text())
    given = dict(given)
    for part in given.pop("section", "edition").split("."):
        assert part in settings, f"stage {stage} names a section that params.yaml lacks"
        settings = settings[part]
    assert set(given) <= parameters(paths.ROOT / "notebooks" / name), f"stage {stage} sets unknown parameters"


def test_every_template_has_a_stage_or_is_of_make_beyond_or_by_hand():
    staged, apart = {name for _, name, _ in commands()}, {f"{name}.ipynb" for name in beyond.NOTEBOOKS} | BY_HAND
    assert staged | apart == {p.name for p in TEMPLATES} and not staged & apart
    assert not [page for page in COMMITTED if page.name in BY_HAND]


def test_parameters_of_what_make_beyond_runs_are_declared():
    for name, section in beyond.NOTEBOOKS.items():
        settings = yaml.safe_load((paths.ROOT / "params.yaml").read_text())[section]
        assert parameters(paths.ROOT / "notebooks" / f"{name}.ipynb") <= set(settings)


def test_every_stage_depends_on_what_its_notebooks_compute():
    for stage, name, _ in commands():
        entry = PIPELINE["stages"][stage].get("do", PIPELINE["stages"][stage])
        computed = {"study": "${item.notebook}", "archive": "${stages.archive.notebook}"}.get(stage, name[:-6])
        assert entry["desc"] and f"data/code/{computed}.txt" in entry["deps"], stage


def start_of(path):
    """Return a notebook's one call of `notebooks.start`, and the tree of all its code."""
    tree = ast.parse(computes.notebook_code(path))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (start,) = (call for call in calls if ast.unparse(call.func) == "notebooks.start")
    return start, tree


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
    start, tree = start_of(paths.ROOT / "notebooks" / name)
    code = "\n".join(ast.unparse(line) for line in tree.body if getattr(line, "value", None) is not start)
    for pattern, dependency in READS.items():
        if re.search(pattern, code):
            made = any(path.startswith(dependency) for path in outs)  # it reads back what it wrote
            needed = [*entry["deps"]]
            if stage == "archive" and name == "15_archive.ipynb":
                needed += STANDS_FOR["${stages.archive.reads}"]
            if stage == "study":
                more = next(more for notebook, *more in STUDIES.values() if name == f"{notebook}.ipynb")
                needed += [path.replace("{edition}", "${edition}") for path in more]
            assert made or any(d.startswith(dependency) for d in needed), f"{stage} reads {dependency}"


STANDS_FOR = {  # what `params.yaml` puts into dvc.yaml where a path is that of a loop
    "${item.table}": ("data/targets/${edition}", "data/targets_bert/${edition}", "data/visual_labels/${edition}"),
    "${item.runs}": ("results/${edition}/runs",),
    "${item.also}": ("data/label_sets_bert/${item.cohort}",),
    "${item.first}": ("data/cases/${edition}", "data/mining_scores/${edition}", "data/metric_scores/${edition}"),
    "${item.second}": ("data/map_scores/${edition}", "data/visual_labels/${edition}"),
    "${item.third}": ("results/readers",),
    "${stages.archive.reads}": ("data/label_sets/${train_cohort}",),
    "${stages.visual_beside}": ("data/label_sets_bert/${train_cohort}",),
}


def listed(stage, kind):
    """Return the `deps` or `outs` of a stage as parts of paths; None stands for what a loop fills in."""
    entry = PIPELINE["stages"][stage].get("do", PIPELINE["stages"][stage])
    files = [next(iter(file)) if isinstance(file, dict) else file for file in entry[kind]]
    if stage != "cohort":  # whose loop is over sources
        files = [path for file in files for path in STANDS_FOR.get(file, (file,))]
    return [[None if "${" in p and p != "${edition}" else p for p in path.split("/")] for path in files]


def before(stage):
    """Return the stages that make what a stage depends on: one path is the other, or leads to it."""
    return {
        maker
        for maker, _, _ in commands()
        for out in listed(maker, "outs")
        for needed in listed(stage, "deps")
        if out[0] and needed[0] and all(a == b or None in (a, b) for a, b in zip(out, needed, strict=False))
    }


def asked_by_the_quick_edition():
    """Return by notebook the parameters of each of its stages, as the lock has their commands."""
    asked, settings = {}, editions.compose("quick")
    for entry in yaml.safe_load((paths.ROOT / "dvc.lock").read_text())["stages"].values():
        for name, given in re.findall(r"notebook notebooks/(\S+) \S+?\.ipynb((?: \w+=[^\s;]+)*)", entry["cmd"]):
            given = dict(word.split("=", 1) for word in given.split())
            asked.setdefault(name, []).append(
                notebook_command.parameters(paths.ROOT / "notebooks" / name, settings, given)
            )
    return asked


def test_run_by_hand_a_notebook_does_what_a_stage_of_the_quick_edition_does():
    """Else Run All in JupyterLab would write other numbers over those of the edition."""
    asked = asked_by_the_quick_edition()
    others = {"15_release.ipynb", "37_matched.ipynb", *(f"{name}.ipynb" for name in beyond.NOTEBOOKS)}
    assert {path.name for path in TEMPLATES} - set(asked) <= others | BY_HAND
    for name, stages in asked.items():
        own = papermill.inspect_notebook(str(paths.ROOT / "notebooks" / name))
        own = {parameter: ast.literal_eval(told["default"]) for parameter, told in own.items()}
        assert own in [{**own, **given} for given in stages], f"{name} has {own}, its stages {stages}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_a_notebook_starts_with_what_its_stages_depend_on(path):
    """Each keyword of `notebooks.start` is a stage of dvc.yaml that makes something that this notebook needs."""
    start, _ = start_of(path)
    needed = set().union(*(before(stage) for stage, name, _ in commands() if name == path.name))
    if path.name in BY_HAND:
        needed = set(PIPELINE["stages"])
    assert not start.args and {keyword.arg for keyword in start.keywords} <= needed


def test_what_is_missing_is_said_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text((paths.ROOT / "dvc.yaml").read_text())
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    made, published = tmp_path / "data" / "label_noise.csv", tmp_path / "results" / "quick" / "cases" / "a.parquet"
    for file in (made, published):
        file.parent.mkdir(parents=True)
        file.touch()
    cases = [tmp_path / "data" / "cases" / "quick" / f"{name}.parquet" for name in "ab"]
    notebooks.start(label_noise=made, evaluate=cases[:1], visual=[])
    with pytest.raises(notebooks.NotMadeYet) as caught:
        notebooks.start(label_noise=made, cohort=tmp_path / "data" / "cohorts" / "simulated", evaluate=cases)
    assert str(caught.value) == (
        "This notebook reads what is not here yet, data/cohorts/simulated (notebook 01_cohort.ipynb makes it, stage "
        "cohort) and data/cases/quick/b.parquet (notebook 11_evaluate.ipynb makes it, stage evaluate): run "
        '`make repro STAGES="cohort evaluate"`, or `python -m cxrlib.commands.repro cohort evaluate`.'
    )


def test_a_notebook_without_its_inputs_says_what_to_run(scratch):
    command = [sys.executable, "-m", "cxrlib.commands.notebook", "notebooks/04_targets.ipynb", "04_targets.ipynb"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "data/cohorts/simulated (notebook 01_cohort.ipynb makes it, stage cohort)" in done.stderr
    failed = nbformat.read(scratch / "data" / "partial" / "failed" / "04_targets.ipynb", 4)
    (error,) = (o for c in failed.cells for o in c.get("outputs", []) if o.output_type == "error")
    assert len(error.traceback) == 1 and error.traceback[0].startswith("NotMadeYet: This notebook reads")


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


@pytest.mark.parametrize("notebook", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in STRICT])
def test_committed_notebook_gives_its_outputs_and_tables_again(scratch, notebook):
    """No image and no network in the scratch copy: a study's tables come of published predictions, to the byte."""
    assert not (scratch / "data" / "cohorts").exists() and not (scratch / "results" / "quick" / "runs").exists()
    study = {f"paper/quick/{stem}.ipynb": name for name, (stem, *_) in STUDIES.items()}.get(notebook)
    if study:
        shutil.rmtree(scratch / "results" / "quick" / study)
    done = nbval(scratch, notebook)
    assert done.returncode == 0, done.stdout[-3000:]
    assert not study or replay.unequal_tables(paths.ROOT, scratch, "quick", study) == []


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


@pytest.mark.parametrize("notebook", [name for name in STRICT if name.startswith("paper/quick/")])
def test_a_committed_study_is_its_template_with_parameters(notebook):
    """So that what holds of the tables of a page holds of those that `make replay` makes by the template."""
    page, template = (
        nbformat.read(paths.ROOT / n, 4) for n in (notebook, notebook.replace("paper/quick", "notebooks"))
    )
    code = [
        c.source
        for c in page.cells
        if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", [])
    ]
    assert code == [c.source for c in template.cells if c.cell_type == "code"]


def test_replay_compares_what_the_templates_give(scratch):
    """Of one study; the test above has the tables of all. An altered table is named."""
    assert replay.replay(paths.ROOT, scratch, studies=["maps"]) == []
    table = scratch / "results" / "quick" / "maps" / "headline.csv"
    table.write_text(table.read_text().replace("0", "1", 1))
    assert replay.unequal_tables(paths.ROOT, scratch, "quick", "maps") == ["results/quick/maps/headline.csv"]
