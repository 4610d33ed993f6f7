"""Faults, in short: kills, Ctrl+C, full disks and turned bits; `benchmarks/faults.py` is the campaign."""

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cxrlib.base import checksums, paths, records, whole_files
from cxrlib.cohorts.store import check_store, open_store
from cxrlib.commands import edition, inputs, interruption, made_tables, notebook, repro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import faults  # noqa: E402


def ended_equal(row):
    return row["moments_n"] > 0 and row["equal_n"] == row["moments_n"]


# --- one helper writes files whole ---------------------------------------------------------------------------


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
    file = tmp_path / "table.csv"
    whole_files.write_text(file, "old")
    file.chmod(0o664)
    with pytest.raises(KeyError), whole_files.replacing(file) as new:
        new.write_text("ne")
        assert file.read_text() == "old" and new.parent == file.parent
        raise KeyError
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["table.csv"]
    whole_files.write_text(file, "new")
    assert file.read_text() == "new" and file.stat().st_mode & 0o777 == 0o664


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    file = tmp_path / "a[1].csv"
    own = whole_files.unfinished(file).name
    left = {pid: tmp_path / own.replace(f".{os.getpid()}.", f".{pid}.") for pid in (dead.pid, os.getppid())}
    for path in left.values():
        path.write_text("half")
    whole_files.write_text(file, "whole")
    assert not left[dead.pid].exists() and left[os.getppid()].exists() and file.read_text() == "whole"


def small_files(n, work):
    """Work where no file may be larger than n bytes: what a full disk raises, without a disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, n))
    return work()


def test_an_error_of_a_library_on_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_files, "_NO_SPACE_BYTES", 1 << 60)
    with pytest.raises(whole_files.UnwrittenError) as raised, whole_files.replacing(tmp_path / "a.pt"):
        raise RuntimeError("[enforce fail at inline_container.cc:672]")
    text = str(raised.value)
    assert text.startswith(f"{tmp_path / 'a.pt'} cannot be written (No space left on device") and "make space" in text


# --- kills, Ctrl+C, full disks -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [faults.Pack(48), faults.Label(400)], ids=lambda case: case.name)
def test_killed_and_called_again_it_ends_equal(case, tmp_path):
    assert ended_equal(faults.stopped(case, tmp_path, signal.SIGKILL, 2, 5, minutes=1))


@pytest.mark.parametrize(
    "case", [faults.Pack(48), pytest.param(faults.Label(400), marks=pytest.mark.slow)], ids=lambda case: case.name
)
def test_ctrl_c_leaves_nothing_half_written_and_no_process(case, tmp_path):
    assert ended_equal(faults.stopped(case, tmp_path, signal.SIGINT, 1, 6, minutes=1))


@pytest.mark.parametrize("case", [faults.Pack(48), faults.Label(400)], ids=lambda case: case.name)
def test_a_disk_that_is_full_is_named_and_what_was_there_stays(case, tmp_path):
    place, log = tmp_path / "place", tmp_path / "log"
    case.prepare(place)
    status = faults.ended(faults.start(partial(small_files, 4000, partial(case.work, place)), log))
    said = faults.said(log)
    assert status == 1 and "cannot be written (File too large" in said and "\n" not in said, said
    assert not any(file.exists() for file in case.results(place)) and not faults.half_written(place)
    assert faults.ended(faults.start(partial(case.work, place), log)) == 0, faults.said(log)
    assert all(file.exists() for file in case.results(place))


@pytest.mark.slow
@pytest.mark.parametrize("tell", [signal.SIGKILL, signal.SIGINT], ids=lambda tell: tell.name)
def test_a_stopped_training_ends_equal(tell, tmp_path):
    case = faults.Train(tmp_path / "train")
    assert ended_equal(faults.stopped(case, tmp_path, tell, 3, 7, minutes=10))


@pytest.mark.slow
@pytest.mark.parametrize("tell", [signal.SIGKILL, signal.SIGINT], ids=lambda tell: tell.name)
def test_a_stopped_pipeline_ends_equal(tell, tmp_path):
    case = faults.Repro(tmp_path / "project")
    assert ended_equal(faults.stopped(case, tmp_path, tell, 2, 8, minutes=10))


@pytest.mark.slow
def test_two_calls_at_once_damaged_files_and_shifted_times(tmp_path):
    rows = faults.pipeline(faults.Repro(tmp_path / "project"), tmp_path)
    assert len(rows) >= 7 and all(map(ended_equal, rows)), rows


# --- damage --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A folder with a packed store in `out/store`."""
    case, folder = faults.Pack(12), tmp_path_factory.mktemp("packed") / "place"
    case.prepare(folder)
    case.work(folder)
    return folder


@pytest.mark.parametrize("damage", [faults.flip, faults.truncate])
@pytest.mark.parametrize("name", ["images.npy", "images.parquet", "labels.parquet", "rejected.csv"])
def test_a_store_that_was_damaged_is_named_with_the_remedy(packed, name, damage):
    file = packed / "out" / "store" / name
    whole, times = file.read_bytes(), file.stat()
    damage(file, len(whole) // 2)
    with pytest.raises(ValueError, match=rf"{name} has .* written.*: remove (.*store), then `dvc checkout \1` or"):
        open_store(file.parent)
    file.write_bytes(whole)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    open_store(file.parent)


def test_a_damaged_or_missing_list_of_checksums(packed):
    file = packed / "out" / "store" / checksums.NAME
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"checksums\.json is damaged: remove"):
        open_store(file.parent)
    file.unlink()
    open_store(file.parent)  # as stores of earlier versions
    file.write_bytes(whole)


def test_a_store_is_hashed_once_in_each_state(packed, monkeypatch):
    store, hashed, sha256 = packed / "out" / "store", [], records.sha256
    check_store(store)
    monkeypatch.setattr(records, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    check_store(store)
    assert not hashed
    check_store(store, anew=True)
    assert sorted(hashed) == sorted(checksums.sealed(store))
    hashed.clear()
    times = (store / "images.npy").stat()
    os.utime(store / "images.npy", ns=(times.st_atime_ns, times.st_mtime_ns))  # the same times, set by a program
    check_store(store)
    assert hashed == ["images.npy"]


def test_a_bit_that_turns_with_no_time_changed_is_noticed_only_when_all_is_hashed_anew(packed):
    opened, anew = faults.on_medium(packed / "out" / "store", 3)
    assert (opened["fault"], opened["of"]) == faults.UNNOTICED and opened["equal_n"] == 0
    assert ended_equal(anew) and anew["fault"] == opened["fault"] and "images.npy has other bytes" in anew["message"]


# --- `make repro` and the files of DVC -----------------------------------------------------------------------

LOCK = """\
schema: '2.0'
stages:
  code:
    cmd: python -m cxrlib.commands.computes
    outs:
    - path: data/code
      md5: 0a.dir
  tour:
    cmd: python -m cxrlib.commands.notebook
    outs:
    - path: paper/00_tour.ipynb
      md5: 0b
"""


def test_what_dvc_was_writing_is_mended(tmp_path):
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / "data" / "partial").mkdir(parents=True)
    lock, held = tmp_path / "dvc.lock", tmp_path / ".dvc" / "tmp" / "rwlock"
    assert interruption.mend(tmp_path) == []
    lock.write_text(LOCK)
    interruption.keep_lock(tmp_path)
    held.write_text('{"read": {}}')
    assert interruption.mend(tmp_path) == [] and held.exists()
    lines = LOCK.splitlines(keepends=True)
    at_lines = ["".join(lines[:n]) for n in range(1, len(lines))]
    # one stage was written anew and another ends in the middle, or is not there
    changed = ["".join(lines[:n]).replace("0a.dir", "0c.dir") for n in range(7, len(lines))]
    for cut in ("", LOCK[:25], LOCK[:-4], "\0" * 20, *at_lines, *changed):
        lock.write_text(cut)
        interruption.keep_lock(tmp_path)  # a half is not kept
        held.write_text('{"read": {' if cut else "")
        said = interruption.mend(tmp_path)
        assert lock.read_text() == LOCK and not held.exists()
        assert len(said) == 2 and "dvc.lock was damaged" in said[0] and "rwlock was damaged" in said[1]
    (tmp_path / "data" / "partial" / "dvc.lock").unlink()
    lock.write_text(LOCK[:25])
    with pytest.raises(ValueError, match=r"dvc\.lock is damaged: restore it by `git checkout dvc\.lock`"):
        interruption.mend(tmp_path)


def test_nobody_waits_for_a_process_of_dvc_that_was_killed(tmp_path):
    held = tmp_path / ".dvc" / "tmp" / "rwlock"
    held.parent.mkdir(parents=True)
    killed, living, other = (subprocess.Popen(["sleep", seconds]) for seconds in ("60", "60", "61"))
    gone, uses, reused = ({"pid": each.pid, "cmd": "/bin/dvc 60"} for each in (killed, living, other))
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
    read = {"b": [reused], "c": [gone, uses]}
    held.write_text(json.dumps({"write": {"a": gone, "d": uses}, "read": read}))
    try:
        assert interruption.mend(tmp_path) == []
        assert json.loads(held.read_text()) == {"write": {"d": uses}, "read": {"c": [uses]}}
    finally:
        for process in (killed, living, other):
            process.kill()
            process.wait()


def git(folder, *words):
    named = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *named, *words], cwd=folder, capture_output=True, text=True)


def test_a_shorter_lock_that_git_has_is_left_and_a_merge_is_refused(tmp_path):
    (tmp_path / "data" / "partial").mkdir(parents=True)
    lock, copy = tmp_path / "dvc.lock", tmp_path / "data" / "partial" / "dvc.lock"
    older = LOCK[: LOCK.index("  tour:")]
    git(tmp_path, "init", "-b", "main")
    lock.write_text(older)
    git(tmp_path, "add", "dvc.lock")
    git(tmp_path, "commit", "-m", "Older")
    git(tmp_path, "branch", "other")
    lock.write_text(LOCK)
    git(tmp_path, "commit", "-am", "Newer")
    interruption.keep_lock(tmp_path)
    git(tmp_path, "checkout", "other")
    assert lock.read_text() == older and interruption.mend(tmp_path) == []
    interruption.keep_lock(tmp_path)
    assert copy.read_text() == older == lock.read_text()
    lock.write_text(LOCK.replace("0b", "0d"))
    git(tmp_path, "commit", "-am", "Other")
    assert git(tmp_path, "merge", "main").returncode == 1
    merged = lock.read_text()
    with pytest.raises(ValueError, match=r"both sides of a merge: .*--ours dvc\.lock` or .*--theirs dvc\.lock`"):
        interruption.mend(tmp_path)
    interruption.keep_lock(tmp_path)
    assert lock.read_text() == merged and copy.read_text() == older
    git(tmp_path, "checkout", "--ours", "dvc.lock")
    assert interruption.mend(tmp_path) == [] and "0d" in lock.read_text()


def test_one_call_at_a_time_and_the_second_waits(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(interruption.paths, "ROOT", tmp_path)
    inside, log = tmp_path / "inside", tmp_path / "log"

    def hold():
        with interruption.alone():
            inside.touch()
            time.sleep(1.5)

    pid = faults.start(hold, log)
    while not inside.exists():
        time.sleep(0.01)
    started = time.monotonic()
    with interruption.alone():
        assert time.monotonic() - started > 0.5
    assert faults.ended(pid) == 0
    assert f"Another `make repro` (process {pid}) runs in this clone" in capsys.readouterr().err


def test_a_clone_that_must_not_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(interruption.paths, "ROOT", tmp_path)
    lock = tmp_path / "data" / "partial" / "repro.lock"

    def opened(path, mode):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patched, pytest.raises(whole_files.UnwrittenError) as raised:
        patched.setattr(interruption, "open", opened, raising=False)
        with interruption.alone():
            raise AssertionError
    assert str(raised.value) == (
        f"{lock} cannot be written (Read-only file system): give yourself the right to write into {lock.parent}."
    )


@pytest.mark.parametrize("fails", [True, False], ids=["a cell fails", "the page is written"])
def test_a_full_disk_hides_no_error_of_a_cell_and_is_named(fails, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    code = "raise OSError('scores.csv cannot be written')" if fails else "1 + 1"
    template = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    template.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(template, tmp_path / "10_a.ipynb")
    so_far, page = tmp_path / "data" / "partial" / "failed" / "a.ipynb", tmp_path / "paper" / "a.ipynb"
    so_far.parent.mkdir(parents=True)
    so_far.symlink_to("/dev/full")
    full = r"a\.ipynb cannot be written \(No space left on device.*make space"
    if fails:
        with pytest.raises(RuntimeError, match=rf"10_a\.ipynb, cell 1: OSError: scores\.csv cannot .*\n\(.*{full}"):
            notebook.run(tmp_path / "10_a.ipynb", page, {}, {})
        return
    notebook.run(tmp_path / "10_a.ipynb", page, {}, {})
    assert page.exists() and not so_far.is_symlink()


@pytest.mark.parametrize(("command", "words"), [(repro, ["--edition", "another"]), (edition, ["another"])])
def test_an_edition_is_put_in_force_once_the_other_call_has_ended(tmp_path, monkeypatch, command, words):
    monkeypatch.setattr(interruption.paths, "ROOT", tmp_path)
    inside, ended, log = tmp_path / "inside", tmp_path / "ended", tmp_path / "log"
    (tmp_path / "params.yaml").touch()

    def hold():
        with interruption.alone():
            inside.touch()
            time.sleep(1)
            ended.touch()

    def activate(name, root):
        raise ValueError(f"{name} in force: {ended.exists()}")

    monkeypatch.setattr(repro.editions, "compose", lambda name, root: {"published": False})
    monkeypatch.setattr(repro.editions, "activate", activate)
    pid = faults.start(hold, log)
    while not inside.exists():
        time.sleep(0.01)
    with pytest.raises(SystemExit, match=r"^another in force: True$"):
        command.main(words)
    assert faults.ended(pid) == 0


def test_an_edition_that_is_refused_before_a_stage_runs_is_not_left_in_force(tmp_path, monkeypatch, capsys):
    settings = tmp_path / "params.yaml"
    settings.write_text("edition: quick\n")
    monkeypatch.setattr(repro.paths, "ROOT", tmp_path)
    monkeypatch.setattr(repro.editions, "compose", lambda name, root: {"published": False})
    monkeypatch.setattr(repro.editions, "activate", lambda name, root: settings.write_text(f"edition: {name}\n"))
    for error in (ValueError("not here"), SystemExit("There is no stage trane")):
        with pytest.raises(type(error), match=str(error)), repro._edition_in_force("another"):
            assert settings.read_text() == "edition: another\n"
            raise error
        assert settings.read_text() == "edition: quick\n"
        assert capsys.readouterr().out.endswith("params.yaml is as it was before.\n")
    with repro._edition_in_force("another"):
        pass
    assert settings.read_text() == "edition: another\n"


def test_a_killed_call_holds_nobody_up_and_its_processes_are_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(interruption.paths, "ROOT", tmp_path)
    inside = tmp_path / "inside"

    def hold():
        with interruption.alone():
            inside.touch()
            time.sleep(60)

    pid = faults.start(hold, tmp_path / "log")
    while not inside.exists():
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert faults.ended(pid) == -signal.SIGKILL
    with interruption.alone():
        pass
    monkeypatch.setattr(interruption, "_PATIENCE_S", 0)
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60; true"])
    while len(interruption.descendants(shell.pid)) < 2:
        time.sleep(0.01)
    young = interruption.descendants(shell.pid)
    interruption.end([shell])
    assert shell.wait(10) != 0
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in young) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{pid}").exists() for pid in young)


# --- what stages will read -----------------------------------------------------------------------------------


@pytest.fixture
def finished(packed, tmp_path, monkeypatch):
    """A checkout with a packed cohort and a finished run, DVC's list of that run's files, and three stages."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    shutil.copytree(packed / "out" / "store", tmp_path / "data" / "cohorts" / "c")
    run = tmp_path / "results" / "e" / "runs" / "t" / "net-1"
    run.mkdir(parents=True)
    for name in ("predictions.parquet", "model.safetensors"):
        (run / name).write_bytes(name.encode() * 50)
    told = {"best_epoch": 3, "files": checksums.of_files(run, ["predictions.parquet", "model.safetensors"])}
    (run / "run.json").write_text(json.dumps(told))
    md5 = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in run.iterdir()}
    listed = json.dumps([{"md5": each, "relpath": f"net-1/{name}"} for name, each in md5.items()])
    whole = hashlib.md5(listed.encode()).hexdigest()
    listing = tmp_path / "cache" / whole[:2] / f"{whole[2:]}.dir"
    listing.parent.mkdir(parents=True)
    listing.write_text(listed)
    stages = {
        "cohort@c": inputs.Files({"data/code/01_cohort.txt"}, {"data/cohorts/c": None, "paper/01.ipynb": None}),
        "train@e-t": inputs.Files({"data/cohorts/c"}, {"results/e/runs/t": listing}),
        "evaluate@e-c": inputs.Files({"data/cohorts/c/images.parquet", "results/e/runs"}, {"data/cases/e": None}),
        "audit": inputs.Files({"data/code/06_audit.txt", "results/e/runs_of_others"}, {"results/audit": None}),
    }
    return run, listing, stages


def turn(file):
    """Turn a bit of a file in its middle, and give it back its times."""
    times = file.stat()
    faults.flip(file, times.st_size // 2)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("name", ["predictions.parquet", "model.safetensors", "run.json"])
def test_a_damaged_run_stops_what_would_read_it(finished, name):
    run, listing, stages = finished
    inputs.check_inputs(stages, stages)
    inputs.check_inputs({"evaluate@e-c"}, stages)
    whole = (run / name).read_bytes()
    if name == "run.json":  # still JSON, and with a record of the same files
        (run / name).write_bytes(whole.replace(b'"best_epoch": 3', b'"best_epoch": 7'))
    else:
        turn(run / name)
    said = rf"{name} has other bytes than .*: remove {run}, then `dvc checkout {run}` or `cxr pull`"
    with pytest.raises(ValueError, match=said):
        inputs.check_inputs({"evaluate@e-c"}, stages)
    inputs.check_inputs({"evaluate@e-c", "train@e-t"}, stages)  # the training looks at what it made before
    inputs.check_inputs({"audit"}, stages)
    (run / name).write_bytes(whole[: len(whole) // 2])
    listing.unlink()
    with pytest.raises(ValueError, match=rf"{name} (has .* bytes|is damaged).*: remove {run}, then"):
        inputs.check_inputs({"evaluate@e-c"}, stages)


def test_a_damaged_cohort_stops_what_would_read_it_although_nothing_else_about_it_changed(finished, monkeypatch):
    *_, stages = finished
    store = paths.cohort_dir("c")
    check_store(store)
    turn(store / "images.npy")
    memory, state = store.with_name(".c.checked.json"), (store / "images.npy").stat()
    known = json.loads(memory.read_text())  # a medium changes no time, not even that of the last change
    known["images.npy"][:4] = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    memory.write_text(json.dumps(known))
    check_store(store)
    with pytest.raises(ValueError, match=r"images\.npy has other bytes .*: remove .*, then `dvc checkout"):
        inputs.check_inputs({"evaluate@e-c"}, stages)
    inputs.check_inputs({"audit"}, stages)
    inputs.check_inputs({"evaluate@e-c", "cohort@c"}, stages)
    monkeypatch.setattr(inputs, "_MOST_BYTES", 1000)
    inputs.check_inputs({"evaluate@e-c"}, stages)


def test_make_repro_looks_at_what_is_read_before_the_first_stage(finished, monkeypatch, capsys):
    run, _, stages = finished
    turn(run / "model.safetensors")
    nothing = {"edition": "e", "published": False}
    for module, name, gives in (
        (repro.editions, "refresh", None),
        (repro.editions, "own_tables", {}),
        (repro.editions, "missing_sources", []),
        (repro.runs, "params", nothing),
        (repro.paths, "link_sources", None),
        (repro.subprocess, "run", subprocess.CompletedProcess([], 0)),
        (repro.sending, "still_running", {}),
        (repro, "_pipeline", ({name: set() for name in stages}, stages)),
        (repro, "_changed_stages", {"evaluate@e-c"}),
    ):
        monkeypatch.setattr(module, name, lambda *_, gives=gives, **__: gives)
    ran = []
    monkeypatch.setattr(repro, "run", lambda todo, *_: ran.append(todo) or {})
    with pytest.raises(SystemExit, match=r"model\.safetensors has other bytes"):
        repro.main([])
    assert not ran
    turn(run / "model.safetensors")
    with pytest.raises(SystemExit):
        repro.main([])
    assert ran == [{"evaluate@e-c"}]


# --- the campaign's figures ----------------------------------------------------------------------------------


def test_every_fault_of_the_campaign_ended_well():
    table = pd.read_csv(ROOT / "results" / "benchmarks" / "faults.csv")
    unnoticed = [what == faults.UNNOTICED for what in zip(table["fault"], table["of"], strict=True)]
    assert (table["equal_n"] == table["moments_n"].mask(unnoticed, 0)).all()
    assert (table["moments_n"] > 0).all()
    for tell in ("SIGKILL", "SIGINT"):
        assert {"pack", "train", "label", "repro"} == set(table["of"][table["fault"].str.startswith(tell)])
    assert (table["moments_n"][table["fault"].str.startswith("SIGKILL")] == 20).all()
    assert {"two calls at once", "file cut short", "one bit turned"} <= set(table["fault"])
    assert np.isfinite(table["seconds"]).all() and table["machine"].notna().all()


class Brief:
    """Work that ends at once."""

    name = "brief"

    def prepare(self, folder):
        folder.mkdir()

    def work(self, folder):
        (folder / "result").write_text("done")

    def results(self, folder):
        return [folder / "result"]


def test_work_that_ends_before_it_is_stopped_is_not_counted_as_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(faults.os, "killpg", lambda *_: None)
    with pytest.raises(RuntimeError, match=r"brief ended 20 times before SIGKILL came: give it more to do\."):
        faults.stopped(Brief(), tmp_path, signal.SIGKILL, 1, 5, minutes=1)


@pytest.mark.parametrize(("moments_n", "equal_n"), [(1, 1), (3, 3), (20, 20), (20, 17), (5, 0)])
def test_the_bound_of_the_rate_of_failures_is_clopper_and_pearsons(moments_n, equal_n):
    high = made_tables.failure_frac_high(moments_n, equal_n)
    theirs = stats.binomtest(moments_n - equal_n, moments_n).proportion_ci(0.9, "exact")  # 5 % on either side
    assert high == pytest.approx(theirs.high)
    if moments_n == equal_n:
        assert high == pytest.approx(1 - 0.05 ** (1 / moments_n)) and high < 3 / moments_n
    row = faults.row("fault", "of", moments_n, equal_n, "", 0)
    assert row["failure_frac_high"] == pytest.approx(high, abs=1e-4)


def test_the_page_says_how_many_interruptions_were_tried_and_what_they_bound(tmp_path):
    folder = tmp_path / "results" / "benchmarks"
    folder.mkdir(parents=True)
    kinds = ["SIGKILL to the whole group", "SIGINT to the whole group", "file cut short"]
    table = pd.DataFrame({"fault": kinds, "of": "pack", "moments_n": [40, 20, 900], "equal_n": [40, 19, 900]})
    table.to_csv(folder / "faults.csv", index=False)
    said = made_tables.interruptions(tmp_path)
    assert "59 of 60 interruptions" in said and "at most 8 %" in said
    shown = made_tables.faults(tmp_path)
    assert shown.iloc[:, -1].tolist() == ["7 %", "22 %", "0 %"]
