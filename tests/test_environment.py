"""The environment files say the same thing."""

import re
import tomllib

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
