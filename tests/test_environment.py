"""The environment files say the same thing, and `make setup` builds from them once."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from cxrlib.base import paths


def pins():
    lines = (paths.ROOT / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_requirements_are_exact():
    for line in (paths.ROOT / "requirements.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+( ;.*)?", line), line


def extras():
    """Return what pyproject.toml asks for: extra (`""` without one) to requirements, those on itself left out."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    asked = {"": project["dependencies"], **project["optional-dependencies"]}
    wanted = {extra: [Requirement(line) for line in lines] for extra, lines in asked.items()}
    return {extra: [one for one in some if one.name != "cxrlib"] for extra, some in wanted.items()}


def test_requirements_hold_every_direct_dependency_within_its_range():
    locked = {canonical(name): version for name, version in pins().items()}
    for extra, wanted in extras().items():
        for one in wanted:
            version = locked.get(canonical(one.name))
            assert version and one.specifier.contains(version), f"{extra}: {one} and {version}: run make lock"


def test_dependencies_are_ranges_with_a_lower_end():
    for extra, wanted in extras().items():
        for one in wanted:
            assert [s.operator for s in one.specifier] == [">="], f"{extra}: {one}"


def test_conda_installs_the_same_list():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["-r requirements.txt", "-e ."]
    python = next(d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python="))
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    assert python == "python=3.11" and project["requires-python"] == ">=3.11,<3.12"


def test_lock_has_no_local_or_cuda_builds():
    locked = pins()
    assert locked["torch"] == "2.13.0"
    assert not [n for n in locked if n.startswith(("nvidia-cu", "nvidia-nccl", "cuda-", "triton"))]


# --- `make setup`, with a Python that only writes down what it is asked ---------------------------------------

PYTHON = """\
#!/bin/sh
echo "$*" >> asked.txt
case "$*" in
  "-m venv"*) rm -rf .venv; mkdir -p .venv/bin; sleep 1; cp "$0" .venv/bin/python; cp "$0" .venv/bin/uv ;;
  *cxrlib.commands.repro*) [ -e .venv/.ready ] ;;
esac
"""


@pytest.fixture
def bare(tmp_path):
    """A folder with the files of `make setup` and a Python that installs nothing."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "tools/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(paths.ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def start(folder, *words):
    environment = {**os.environ, "MAKEFLAGS": "", "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = ["make", f"PYTHON={folder / 'python'}", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def asked(folder, *words):
    """Run make; return what Python was asked for."""
    (folder / "asked.txt").write_text("")
    made = start(folder, *words)
    said = made.communicate(timeout=60)[1]
    assert made.returncode == 0, said
    return (folder / "asked.txt").read_text()


def test_two_makes_in_a_fresh_clone_install_once(bare):
    both = [start(bare, "status"), start(bare, "status")]
    said = [each.communicate(timeout=60)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    lines = (bare / "asked.txt").read_text().splitlines()
    assert sum("-m venv" in line for line in lines) == 1
    assert sum("--editable" in line for line in lines) == 1
    assert sum("Another make installs into .venv" in text for text in said) == 1


def test_an_environment_is_built_again_if_what_it_is_of_has_changed_and_not_if_times_have(bare):
    assert "-m venv --clear .venv" in asked(bare, "setup")
    assert asked(bare, "setup") == ""
    os.utime(bare / ".venv" / ".ready", (0, 0))
    assert asked(bare, "setup") == ""
    with open(bare / "pyproject.toml", "a") as file:
        file.write("\n")
    assert asked(bare, "setup").splitlines() == [
        "pip install --quiet --python .venv/bin/python --no-deps --editable ."
    ]
    with open(bare / "requirements.txt", "a") as file:
        file.write("another==1.0\n")
    os.utime(bare / "requirements.txt", (0, 0))
    assert "-m venv --clear .venv" in asked(bare, "setup")
    (bare / ".venv" / ".ready").write_text("")  # of earlier versions of the project, newer than both files
    assert asked(bare, "setup") == ""
    shutil.rmtree(bare / ".venv")
    assert asked(bare, "setup", "BIN=/bin") == ""


def test_the_environment_of_another_clone_is_not_taken_away(bare):
    asked(bare, "setup")
    (bare / ".venv").rename(bare / "other")
    (bare / ".venv").symlink_to("other")
    assert asked(bare, "setup") == ""
    with open(bare / "requirements.txt", "a") as file:
        file.write("another==1.0\n")
    made = start(bare, "setup")
    said = made.communicate(timeout=60)[1]
    assert made.returncode != 0 and said.startswith("other, to which .venv is a link, is not of the requirements.txt")
    assert (bare / "other" / "bin" / "python").exists()


def test_make_repro_leaves_the_edition_to_the_command_that_waits(bare):
    assert "-m cxrlib.commands.repro --edition nih --workers 2" in asked(bare, "repro", "EDITION=nih", "WORKERS=2")
    assert "--edition" not in asked(bare, "repro")
