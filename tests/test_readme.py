"""What README.md says is what the result files and the checkout say."""

import re

from cxrlib.base import paths
from cxrlib.commands import readme

TEXT = (paths.ROOT / "README.md").read_text()


def test_tables_are_those_of_the_result_files():
    for edition in ("quick", "nih_mini"):
        assert TEXT.count(f"<!-- table: results/{edition}/headline.csv") == 1
    assert readme.filled(TEXT) == TEXT, "run make readme"


def test_a_table_that_differs_is_found():
    altered = re.sub(r"\| 0\.\d{3} \(", "| 0.123 (", TEXT)
    assert altered != TEXT and readme.filled(altered) == TEXT


def test_every_link_leads_somewhere():
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)]+)\)", TEXT)]
    assert len(targets) > 8
    for target in targets:
        assert (paths.ROOT / target).exists(), target


def test_every_make_command_exists():
    rules = set(re.findall(r"^(\w+):", (paths.ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make (\w+)", TEXT)) <= rules
