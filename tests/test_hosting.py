"""Hosted tests, container, Binder and hooks name what the repository has, at the versions of its lock."""

import json
import re

import pytest
import yaml

from cxrlib.base import paths


def text(name):
    """Return a file of the repository as text."""
    return (paths.ROOT / name).read_text()


RULES = set(re.findall(r"^(\w+):", text("Makefile"), re.M))
LOCK = dict(re.findall(r"^([\w.-]+)==(\S+)$", text("requirements.txt"), re.M))


def test_the_hosted_tests_run_make_test_on_the_python_of_the_lock():
    job = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["test"]
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs == ["make setup", "make test"]
    assert {run.split()[1] for run in runs} <= RULES
    uses = {step["uses"]: step.get("with", {}) for step in job["steps"] if "uses" in step}
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", name) for name in uses)
    python = next(given["python-version"] for given in uses.values() if "python-version" in given)
    assert f"PYTHON  ?= python{python}" in text("Makefile")


def assert_lab_settings(said):
    """Assert that JupyterLab finds the settings that `make lab` gives it."""
    for name, file in {"JUPYTER_CONFIG_PATH": "tools/lab", "PYTHONSTARTUP": "tools/lab/startup.py"}.items():
        assert re.search(rf"{name}=\S*/{file}\b", said) and re.search(rf"{name}=\S*/{file}\b", text("Makefile"))
        assert (paths.ROOT / file).exists()


def test_the_container_sets_up_as_everyone_does():
    lines = text("Dockerfile").replace("\\\n", " ").splitlines()
    python = re.search(r"python(\d\.\d+)", text("Makefile"))[1]
    assert f"FROM python:{python}-slim-bookworm" in lines
    assert "RUN make setup" in lines
    command = json.loads(next(line for line in lines if line.startswith("CMD")).removeprefix("CMD "))
    assert command[:2] == ["make", "lab"] and "lab" in RULES
    folder = json.loads(text(".devcontainer/devcontainer.json"))
    assert (paths.ROOT / ".devcontainer" / folder["build"]["dockerfile"]).exists()
    assert_lab_settings(" ".join(f"{name}={value}" for name, value in folder["containerEnv"].items()))
    ignored = text(".dockerignore").split()
    assert {".venv", "data"} <= set(ignored) and ".git" not in ignored


@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_binder_takes_the_versions_of_the_lock(package):
    lines = text(".binder/requirements.txt").splitlines()
    assert f"{package}=={LOCK[package]}+cpu" in lines and lines[-1] == "-r ../requirements.txt"
    assert text(".binder/runtime.txt").strip() == "python-3.11"
    assert_lab_settings(text(".binder/start"))
    assert (paths.ROOT / ".binder" / "start").stat().st_mode & 0o100


def test_hooks_run_what_is_installed_and_ask_no_network():
    (repository,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        program, *words = hook["entry"].split()
        assert hook["language"] == "system" and program.startswith(".venv/bin/")
        name = words[1] if program.endswith("python") else program.removeprefix(".venv/bin/")
        assert name in LOCK or (paths.ROOT / (name.replace(".", "/") + ".py")).exists(), hook["id"]
        assert re.compile(hook.get("files", ""))
