"""Scan what is installed: known holes (pip-audit), and licences (pip-licenses against tools/licences.yaml).

    python tools/scan.py

Exit status 0 if both were scanned and nothing was found, 1 if something was. It is 3 if licences are in order and no
service of known holes answered: nothing is known of holes then, and the scan does not say that there are none.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
FOUND, NOT_SCANNED = 1, 3


def suits(licence, allowed):
    """Return whether a stated licence suits: one of those joined by OR, all of those joined by AND or a semicolon.

    Parameters
    ----------
    licence : str
        As pip-licenses gives it: an SPDX expression, classifiers, or a whole text, of which the first lines count.
    allowed : collection of str
    """
    licence = " ".join(licence.split())
    if len(licence) > 200:  # a whole text
        return any(licence.startswith(name) for name in allowed)
    if licence in allowed:
        return True
    for joined, enough in ((r";", all), (r" AND ", all), (r" OR ", any)):
        parts = _outside_brackets(licence, joined)
        if len(parts) > 1:
            return enough(suits(part, allowed) for part in parts)
    if licence.startswith("(") and licence.endswith(")"):
        return suits(licence[1:-1], allowed)
    return False


def _outside_brackets(text, joined):
    """Return the parts of a text between matches of a pattern that do not stand in brackets."""
    places = [
        m.span() for m in re.finditer(joined, text) if text[: m.start()].count("(") == text[: m.start()].count(")")
    ]
    ends = [0, *(end for _, end in places)]
    return [text[a:b].strip() for a, b in zip(ends, [*(start for start, _ in places), len(text)], strict=True)]


def unsuited(packages, rules):
    """Return a sentence for each package whose licence does not suit, and for each exception that is none any more.

    Parameters
    ----------
    packages : list of dict
        `Name, Version, License`, as pip-licenses gives them.
    rules : dict
        `suits`, a list of licences, and `exceptions`, package to `licence` and `reason`.
    """
    said, exceptions = [], dict(rules["exceptions"])
    for package in packages:
        stated, exception = " ".join(package["License"].split()), exceptions.pop(package["Name"].lower(), None)
        if suits(stated, rules["suits"]):
            if exception:
                said.append(f"{package['Name']} suits by its licence, {stated}: remove it from the exceptions.")
        elif not exception or exception["licence"] != stated:
            known = f", and the exception is for {exception['licence']}" if exception else ""
            said.append(
                f"{package['Name']} {package['Version']} is under {stated[:100]}{known}: replace it, or state in "
                "tools/licences.yaml why it suits."
            )
    return said


def holes(report):
    """Return a sentence for each known hole, and for each package that could not be looked up.

    Parameters
    ----------
    report : dict
        What pip-audit writes as JSON.
    """
    said = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            said.append(f"{package['name']} was not looked up ({package['skip_reason']}): look it up by hand.")
        for hole in package.get("vulns", ()):
            mended = ", ".join(hole["fix_versions"])
            remedy = (
                f"take version {mended}" if mended else "no version mends it; see whether it concerns this project"
            )
            said.append(f"{package['name']} {package['version']} has the known hole {hole['id']}: {remedy}.")
    return said


def _installed():
    """Return what pip-licenses says of this environment."""
    done = subprocess.run(["pip-licenses", "--format=json", "--from=mixed"], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"pip-licenses failed ({done.stderr.strip().splitlines()[-1:]}): run `make setup`.")
    return json.loads(done.stdout)


def _audited(requirements):
    """Return what pip-audit says of pinned requirements, None if no service of known holes answered.

    Where a mirror of the package index answers in its place, every package counts as not found, and pip-audit itself
    says that no hole is known.
    """
    command = ["pip-audit", "-r", str(requirements), "--disable-pip", "--no-deps", "--progress-spinner", "off"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except ValueError:  # it writes no report where nothing answers
        return None
    return report if any("skip_reason" not in package for package in report["dependencies"]) else None


def main(requirements=ROOT / "requirements.txt", licences=ROOT / "tools" / "licences.yaml"):
    """Run the scan; print what was found and return the exit status."""
    rules = yaml.safe_load(licences.read_text(encoding="utf-8"))
    packages = _installed()
    wrong = unsuited(packages, rules)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    by_exception = sum(package["Name"].lower() in rules["exceptions"] for package in packages)
    if not wrong:
        print(f"The licences of all {len(packages)} packages suit, {by_exception} of them by a stated exception.")
    report = _audited(requirements)
    if report is None:
        print("Known holes were not scanned: no service that knows them answered; run `make scan` where one does.")
        return FOUND if wrong else NOT_SCANNED
    known = holes(report)
    print(*known, sep="\n", end="\n" if known else "")
    if not known:
        print(f"No hole is known in the {len(report['dependencies'])} packages of {requirements.name}.")
    return FOUND if wrong or known else 0


if __name__ == "__main__":
    sys.exit(main())
