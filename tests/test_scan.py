"""`make scan`: what it says of licences and of known holes, by fakes of the two programs that it asks."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("scan", ROOT / "tools" / "scan.py")
scan = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(scan)

RULES = yaml.safe_load((ROOT / "tools" / "licences.yaml").read_text())
CLEAN = {"dependencies": [{"name": "numpy", "version": "2.0", "vulns": []}]}
HOLE = {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}
HOLED = {"dependencies": [{"name": "numpy", "version": "2.0", "vulns": [HOLE]}]}
UNKNOWN = {"dependencies": [{"name": "pandas", "skip_reason": "not found"}]}
SKIPPED = {"dependencies": CLEAN["dependencies"] + UNKNOWN["dependencies"]}
GOOD = [{"Name": "numpy", "Version": "2.0", "License": "BSD-3-Clause AND (MIT OR GPL-3.0-only)"}]
BAD = [{"Name": "sold", "Version": "1", "License": "Proprietary"}]


@pytest.mark.parametrize(
    ("licence", "right"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("MPL-2.0 AND (GPL-3.0-only OR Proprietary)", False),
        ("Apache Software License; MIT License", True),
        ("Apache Software License; GNU General Public License (GPL)", False),
        ("Apache License\n   Version 2.0, January 2004\n" + "TERMS AND CONDITIONS OR MIT " * 30, True),
        ("GNU GENERAL PUBLIC LICENSE " + "or MIT OR BSD " * 30, False),
        ("Apache-2.0-ish", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_which_licences_suit(licence, right):
    assert scan.suits(licence, RULES["suits"]) is right


def test_every_exception_has_a_reason_and_is_needed():
    for name, entry in RULES["exceptions"].items():
        assert name == name.lower() and set(entry) == {"licence", "reason"} and len(entry["reason"]) > 30
        assert not scan.suits(entry["licence"], RULES["suits"]), f"{name} needs no exception"
    rules = {"suits": ["MIT"], "exceptions": {"sold": {"licence": "Proprietary", "reason": "bought"}}}
    assert scan.unsuited(BAD, rules) == []
    changed = [{**BAD[0], "License": "Proprietary 2"}]
    assert "the exception is for Proprietary: replace it" in scan.unsuited(changed, rules)[0]
    assert "remove it from the exceptions" in scan.unsuited([{**BAD[0], "License": "MIT"}], rules)[0]


def fake(folder, name, stdout, status):
    """Write a program that prints a text and ends with a status."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\nprint({stdout!r})\nsys.exit({status})\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("packages", "report", "status", "expected", "message"),
    [
        (GOOD, CLEAN, 0, 0, "No hole is known in the 1 packages"),
        (GOOD, HOLED, 1, 1, "numpy 2.0 has the known hole PYSEC-1: take version 2.1."),
        (GOOD, SKIPPED, 0, 1, "pandas was not looked up (not found)"),
        (GOOD, UNKNOWN, 0, 3, "Known holes were not scanned: no service"),
        (GOOD, None, 1, 3, "Known holes were not scanned: no service that knows them answered"),
        (BAD, None, 1, 1, "sold 1 is under Proprietary: replace it"),
        (BAD, CLEAN, 0, 1, "sold 1 is under Proprietary"),
    ],
)
def test_scan(tmp_path, packages, report, status, expected, message):
    fake(tmp_path, "pip-licenses", json.dumps(packages), 0)
    fake(tmp_path, "pip-audit", "" if report is None else json.dumps(report), status)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, scan.__file__], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (expected, "") and message in done.stdout
    if expected == 3:
        assert "No hole" not in done.stdout, "what was not scanned is never called clean"


def test_make_scan_runs_it():
    lines = (ROOT / "Makefile").read_text()
    assert "\t$(BIN)/python tools/scan.py\n" in lines and "known holes" in lines
