"""`cxr verify`: what counts as equal, within tolerance, and outside."""

import subprocess

import numpy as np
import pandas as pd
import pytest

from cxrlib.commands import verify


def compared(committed, here, tolerance=0.02):
    return verify._compare_tables("t", pd.DataFrame(committed), pd.DataFrame(here), tolerance)


def test_numbers_are_equal_within_or_outside():
    found = compared({"auc": [0.5, 0.6, 0.7, np.nan]}, {"auc": [0.5, 0.61, 0.73, np.nan]})
    assert (found.equal_n, found.within_n, found.outside_n) == (2, 1, 1)
    assert found.worst == pytest.approx(0.03) and found.where == "row 3, auc"


def test_a_large_number_may_differ_in_proportion_and_a_missing_one_not_at_all():
    assert compared({"n": [1000.0]}, {"n": [1019.0]}).within_n == 1
    assert compared({"n": [1000.0]}, {"n": [1021.0]}).outside_n == 1
    assert compared({"auc": [0.5]}, {"auc": [np.nan]}).outside_n == 1


def test_numbers_within_words_are_compared_as_numbers_and_words_as_words():
    committed = {"answer": ["0.528 (0.479 to 0.579)", "not shown", "0.5"]}
    found = compared(committed, {"answer": ["0.530 (0.479 to 0.560)", "shown", None]})
    assert (found.equal_n, found.within_n, found.outside_n) == (0, 1, 2)


def test_p_values_are_compared_only_where_no_network_has_a_part():
    assert compared({"p": [0.01], "p_holm": [0.1]}, {"p": [0.9], "p_holm": [1.0]}) == verify.Compared("t")
    assert compared({"p": [0.01]}, {"p": [0.9]}, verify._EXACT).outside_n == 1


def test_other_rows_are_a_problem_and_the_tolerance_is_the_spread_over_seeds():
    assert "rows or columns differ" in compared({"a": [1]}, {"a": [1, 2]}).problem
    table = "seed_range\n" + "\n".join(["0.01"] * 19 + ["0.05"])
    assert verify._tolerance_of("results/quick/finding/table.csv", lambda path: table) == pytest.approx(0.02)
    assert verify._tolerance_of("results/quick/x.csv", lambda path: "seed_range\n0.04\n") == pytest.approx(0.04)
    assert verify._tolerance_of("results/quick/x.csv", lambda path: None) == 0.02
    for name in ("audit", "catalogue", "cleaning", "readers", "reader_models", "rankings", "statistics"):
        assert verify._tolerance_of(f"results/{name}/x.csv", lambda path: table) == 1e-6


def test_a_table_that_cannot_be_read_is_named_and_the_others_are_compared(tmp_path):
    folder = tmp_path / "results" / "quick"
    folder.mkdir(parents=True)
    whole = {"a.csv": "auc\n0.5\n", "b.csv": "auc\n0.5\n", "c.json": '{"auc": 0.5}\n', "d.csv": "auc\n0.5\n"}
    whole |= {"e.json": '{"auc": 0.5}\n', "f.csv": "auc\n0.5\n"}
    for name, text in whole.items():
        (folder / name).write_text(text)
    named = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    for words in (("init", "-q"), ("add", "-A"), (*named, "commit", "-qm", "A")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (folder / "a.csv").write_text("")
    (folder / "b.csv").write_bytes(b"auc\n0.5\xff\n")
    (folder / "c.json").write_text('{"auc": 0.')
    (folder / "d.csv").write_text('auc\n"0.5\n')
    (folder / "e.json").write_text("0")
    found = {each.name.removeprefix("results/quick/"): each for each in verify.verify(tmp_path)}
    assert set(found) == set(whole) and found.pop("f.csv").equal_n == 1
    for name, each in found.items():
        assert each.problem.startswith("it cannot be read (") and each.problem.endswith(
            f"): git checkout results/quick/{name}"
        )
