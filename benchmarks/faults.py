"""Faults: what kills, full disks, forbidden folders, turned bits and Ctrl+C do to the project's commands.

    sudo env "PATH=$PATH" python benchmarks/faults.py --out results/benchmarks/faults.csv

Each row of the table is a fault that was brought about at some moments, drawn with a seed: how often the same
command, called again, ended with results equal by SHA-256 to those of an undisturbed call, or the damage was noticed,
the upper 95 % bound of the rate at which neither holds, and what was said. One row is of damage that is known to go
unnoticed: a bit that turns with no time changed, as on a failing medium, in a file that was hashed before. The full
disk is a tmpfs of 1 MiB and the read-only folder a mount, which need root; no permissions hold root back, so that
these are tried as another user. Work is forked from a process that has imported everything. Nothing outside a
temporary folder is touched.
"""

# ruff: noqa: D102 (what is disturbed has the same five methods in each class)

import argparse
import contextlib
import datetime
import encodings.utf_8_sig  # noqa: F401  nobody, who has not the right to write, may not read it either
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from cxrlib.base import checksums, editions, paths
from cxrlib.cohorts import packing, sources, splits
from cxrlib.cohorts.store import check_store, open_store
from cxrlib.commands import label, made_tables, replay
from cxrlib.labels.targets import target_table
from cxrlib.networks import run as run_module
from cxrlib.networks import trained_runs, training

SIZE = 64
FINDINGS = ["pneumothorax", "effusion"]
NOBODY = 65534
MODIFIED_KEPT = "one bit turned, modification time kept"
NO_TIME_CHANGED = "one bit turned, no time changed"
UNNOTICED = (NO_TIME_CHANGED, "pack: images.npy, opened")  # the fault, and of what, that nothing can notice
SENTENCES = (
    "No finding.",
    "Small right pneumothorax.",
    "No pleural effusion.",
    "Possible pneumonia.",
    "Cardiomegaly.",
)


# --- what is disturbed: each makes its inputs in a folder, works there, and says what came out -----------


class Pack:
    """Packing PNG files by two processes."""

    name = "pack"

    def __init__(self, images_n=240):
        self.images_n = images_n

    def prepare(self, folder):
        rng = np.random.default_rng(3)
        (folder / "ours").mkdir(parents=True)
        for k in range(self.images_n):
            grid = Image.fromarray(rng.integers(0, 256, (6, 8), np.uint8))
            grid.resize((320, 240), Image.Resampling.BICUBIC).save(folder / "ours" / f"i{k:03d}.png")
        rows = "".join(f"i{k:03d},p{k // 2},{k % 2}\n" for k in range(self.images_n))
        (folder / "ours" / "table.csv").write_text("image_id,patient_id,effusion\n" + rows)
        (folder / "out").mkdir()

    def work(self, folder):
        ours = {"folder": str(folder / "ours"), "table": str(folder / "ours" / "table.csv")}
        source = sources.open_source({"source": "folder", "size_px": SIZE, **ours})
        packing.pack(source, folder / "out" / "store", folder / "out" / "work", size_px=SIZE, workers=2)
        open_store(folder / "out" / "store")

    def results(self, folder):
        return sorted((folder / "out" / "store").glob("*"))

    def read(self, folder):
        open_store(folder / "out" / "store")


class Train:
    """One run of six epochs on 120 simulated images, with its predictions."""

    name = "train"

    def __init__(self, folder):
        source = {"source": "simulated", "hospital": "internal", "images_n": 120, "seed": 5, "size_px": 32}
        self.cohort = folder / "cohort" / "tiny"
        packing.pack(sources.open_source(source), self.cohort, folder / "work", size_px=32, workers=1)
        store = open_store(self.cohort)
        split = splits.by_patient(store.index, {"train": 0.7, "valid": 0.3}, 1)
        self.table = target_table(split, {"drawn": store.labels.set_index("image_id")}, FINDINGS, "drawn", "u_zeros")
        self.settings = training.TrainingSettings(
            **{"architecture": "test_resnet", "pretrained": "none", "epochs": 6, "batch_size": 16, "seed": 1},
            **{"learning_rate": 2e-3, "weight_decay": 0.05, "positive_weight": "sqrt", "flip": True},
        )

    def prepare(self, folder):
        shutil.copytree(self.cohort, folder / "data" / "cohorts" / "tiny")
        (folder / "data" / "targets" / "tiny").mkdir(parents=True)
        self.table.to_parquet(folder / "data" / "targets" / "tiny" / "drawn.parquet", index=False)
        (folder / "out").mkdir()
        for name in ("results", "data/partial"):
            (folder / "out" / name).mkdir(parents=True)
            (folder / name).symlink_to(folder / "out" / name)

    def work(self, folder):
        paths.ROOT = folder
        run_module.run("tiny", "tiny", "drawn", self.settings)

    def place(self, folder):
        return folder / "results" / "tiny" / "runs" / "drawn" / "test_resnet-1"

    def results(self, folder):
        return [self.place(folder) / name for name in ("predictions.parquet", "model.safetensors")]

    def read(self, folder):
        paths.ROOT = folder
        trained_runs.open_run(self.place(folder))
        run_module.predictions_of("tiny", ("drawn", "test_resnet", 1), "tiny", None, None)


class Label:
    """`cxr label` of a CSV of reports, with evidence and rows that are rejected."""

    name = "label"

    def __init__(self, reports_n=10_000):
        self.reports_n = reports_n

    def prepare(self, folder):
        rng = np.random.default_rng(4)
        (folder / "out").mkdir(parents=True)
        texts = [" ".join(rng.choice(SENTENCES, 3)) if k % 500 else "" for k in range(self.reports_n)]
        table = pd.DataFrame({"report_id": np.arange(self.reports_n), "report": texts})
        table.to_csv(folder / "reports.csv", index=False)

    def work(self, folder):
        out = folder / "out"
        words = [folder / "reports.csv", "--out", out / "labels.csv", "--evidence", out / "spans.csv"]
        return label.main([*map(str, words), "--workers", "2", "--force"])

    def results(self, folder):
        return [folder / "out" / name for name in ("labels.csv", "labels.csv.rejected.csv", "spans.csv")]


class Repro:
    """`make repro` of the first stages of the pipeline, two side by side, in a copy of the project.

    The copy has the stages `code` and `cohort` alone, and of their notebook the cells up to the one that packs.
    """

    name = "repro"

    def __init__(self, template):
        self.template = template

    def prepare(self, folder):
        if not self.template.exists():  # a copy of the project at this moment
            self.make(self.template)
        shutil.copytree(self.template, folder, symlinks=True)

    def make(self, folder):
        folder.mkdir(parents=True)
        replay.scratch_copy(paths.find_root(Path(__file__).parent), folder)
        for name in ("paper", "results/quick", "results/nih_mini"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "dvc.lock").unlink(missing_ok=True)
        told = yaml.safe_load((folder / "dvc.yaml").read_text())
        told["stages"] = {name: told["stages"][name] for name in ("code", "cohort")}
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"vars": told["vars"], "stages": told["stages"]}))
        for file in (folder / "notebooks").glob("*.ipynb"):
            notebook = json.loads(file.read_text())
            packs = [k for k, cell in enumerate(notebook["cells"]) if "packing.pack(" in "".join(cell["source"])]
            if file.name == "01_cohort.ipynb":
                file.write_text(json.dumps({**notebook, "cells": notebook["cells"][: packs[0] + 1]}))
            else:
                file.unlink()
        settings = editions.compose("quick", folder) | {"edition": "tiny", "size_px": 32}
        settings["cohorts"]["simulated"]["images_n"] = settings["cohorts"]["simulated_external"]["images_n"] = 80
        (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        editions.refresh(folder)
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
            git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
            subprocess.run(git, cwd=folder, check=True, env=_environment(folder))

    def work(self, folder):
        os.chdir(folder)
        words = [sys.executable, "-m", "cxrlib.commands.repro", "--workers", "2", "cohort"]
        os.execve(sys.executable, words, _environment(folder))

    def results(self, folder):
        made = [*(folder / "data" / "cohorts").glob("simulated*/*"), *(folder / "paper" / "tiny").glob("*")]
        return sorted([folder / "dvc.lock", *made])


def _environment(folder):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTEST", "CXR_DATA"))}
    return {**kept, "PYTHONPATH": str(folder), "CXR_FAULTS": str(folder)}


# --- bringing faults about -------------------------------------------------------------------------------


def start(work, log, user=None):
    """Fork a process, in a session of its own, that works and leaves what it says in a file; return its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(written, 1), os.dup2(written, 2)
        sys.stdout = sys.stderr = sys.__stderr__ = open(written, "w", buffering=1, errors="replace")
        if user:
            os.setgid(user), os.setuid(user)
        status = work() or 0
    except KeyboardInterrupt:
        status = 130
    except BaseException as error:
        print(f"{error}", file=sys.stderr)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def ended(pid):
    """Wait for a process; return its exit status, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def digest(files):
    """Return one SHA-256 of files, by name and content; None if one is missing.

    Of dvc.lock the order of stages does not count: it is that in which stages side by side ended.
    """
    content = hashlib.sha256()
    for file in files:
        if not file.is_file():
            return None
        told = file.read_bytes()
        if file.name == "dvc.lock":
            told = json.dumps(yaml.safe_load(told), sort_keys=True).encode()
        content.update(f"{file.name} {hashlib.sha256(told).hexdigest()}\n".encode())
    return content.hexdigest() if files else None


def said(log):
    """Return the last line that a process said, empty if it was stopped before it could say anything."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def left(pid, folder):
    """Return the processes of a session, or with the folder in their environment, that live ten seconds later."""
    for _ in range(100):
        living = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                state, _, _, session = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
                ours = int(session) == pid or f"CXR_FAULTS={folder}\0".encode() in (entry / "environ").read_bytes()
                if ours and state != "Z":
                    living.append(int(entry.name))
        if not living:
            return []
        time.sleep(0.1)
    return living


def half_written(folder):
    """Return the unfinished files that are left in a folder of finished work."""
    return [p for p in folder.rglob("*.partial") if ".venv" not in p.parts]


def stopped(case, folder, tell, moments_n, seed, minutes):
    """Stop work by a signal to its whole group at random moments, call it again, and compare; return a row.

    After so many minutes no other moment is begun.
    """
    rng, started = np.random.default_rng(seed), time.perf_counter()
    whole = folder / f"{case.name}-{tell.name}-whole"
    case.prepare(whole)
    before = time.perf_counter()
    assert ended(start(partial(case.work, whole), whole.with_suffix(".log"))) == 0, said(whole.with_suffix(".log"))
    duration = time.perf_counter() - before
    wanted, equal, problems, done = digest(case.results(whole)), 0, [], 0
    for k in range(moments_n):
        if time.perf_counter() - started > 60 * minutes:
            break
        done += 1
        place = folder / f"{case.name}-{tell.name}-{k}"
        log = place.with_suffix(".log")
        for _ in range(20):  # until it was stopped before its end
            shutil.rmtree(place, ignore_errors=True)
            case.prepare(place)
            pid = start(partial(case.work, place), log)
            time.sleep(rng.uniform(0, duration))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, tell)
            if ended(pid):
                break
        else:
            raise RuntimeError(f"{case.name} ended 20 times before {tell.name} came: give it more to do.")
        message, living = said(log), left(pid, place)
        for each in living:
            os.kill(each, signal.SIGKILL)
        again = ended(start(partial(case.work, place), log))
        found = digest(case.results(place))
        if again == 0 and found == wanted and not living and not half_written(place):
            equal += 1
            shutil.rmtree(place)
            print(f"  {case.name} {tell.name} {k}: equal", file=sys.stderr, flush=True)
        else:
            problems.append(f"{k}: status {again}, {said(log)!r}, living {living}, equal {found == wanted}")
    for problem in problems:
        print(f"  {case.name} {tell.name} {problem}", file=sys.stderr)
    shown = message if tell is signal.SIGINT else ""
    return row(f"{tell.name} to the whole group", case.name, done, equal, shown, started)


def row(fault, of, moments_n, equal_n, message, started):
    """Return a row of the table."""
    told = {"fault": fault, "of": of, "moments_n": moments_n, "equal_n": equal_n}
    told |= {"failure_frac_high": round(made_tables.failure_frac_high(moments_n, equal_n), 4), "message": message}
    print(told, flush=True)
    return {**told, "seconds": round(time.perf_counter() - started, 1)}


def short(message, folder):
    """Return a message without the temporary folder's name."""
    return message.replace(f"{folder}/", "").replace(str(folder), ".")


def in_the_way(fault, case, folder, put, take, user=None):
    """Work while something is in the way, then without it; return a row."""
    started = time.perf_counter()
    place, whole = folder / f"{case.name}-{fault.replace(' ', '-')}", folder / f"{case.name}-whole"
    if not whole.exists():
        case.prepare(whole)
        ended(start(partial(case.work, whole), whole.with_suffix(".log")))
    case.prepare(place)
    put(place)
    log = place.with_suffix(".log")
    log.touch(), log.chmod(0o666)
    status = ended(start(partial(case.work, place), log, user))
    message = short(said(log), place)
    noticed = status > 0 and not any(file.exists() for file in case.results(place))
    take(place)
    again = ended(start(partial(case.work, place), log))
    equal = again == 0 and digest(case.results(place)) == digest(case.results(whole))
    if not (noticed and equal):
        print(f"  {fault} {case.name}: status {status}, {message!r}; again {again}, {said(log)!r}", file=sys.stderr)
    return row(fault, case.name, 1, int(noticed and equal), message, started)


def mount(place, *options):
    subprocess.run(["mount", *options, str(place / "out")], check=True)


def small_disk(place):
    for file in sorted((place / "out").rglob("*"), reverse=True):
        file.rmdir()  # folders alone
    mount(place, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    for name in ("results", "data/partial"):
        (place / "out" / name).mkdir(parents=True)


def larger_disk(place):
    mount(place, "-o", "remount,size=64m")


def read_only(place):
    mount(place, "--bind", str(place / "out"))
    mount(place, "-o", "remount,ro,bind")


def writable(place):
    subprocess.run(["umount", str(place / "out")], check=True)


def forbid(place):
    for folder in [place / "out", *(p for p in (place / "out").rglob("*") if p.is_dir())]:
        folder.chmod(0o555)


def allow(place):
    for folder in [place / "out", *(p for p in (place / "out").rglob("*") if p.is_dir())]:
        folder.chmod(0o755)


# --- what is damaged -------------------------------------------------------------------------------------


def flip(file, at):
    """Turn one bit of a file; its modification time stays as it was, as where a copy keeps times.

    The time of its last change (`ctime`), which no program can set, is another.
    """
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[at] ^= 1 << (at % 8)
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def flip_on_medium(memory, file, at):
    """Turn one bit of a file of a store as a failing medium does, by which no time changes.

    To that end `memory`, the record of the states that were hashed, is given the state of the damaged file.
    """
    flip(file, at)
    known = json.loads(memory.read_text())
    known[file.name][:-1] = checksums._state(file)
    memory.write_text(json.dumps(known))


def truncate(file, at):
    """Cut a file short."""
    os.truncate(file, at)


def damaged(fault, of, damage, file, read, moments_n, seed):
    """Damage a file at random places; return a row that says how often reading it was refused with its name."""
    rng, started, noticed, message = np.random.default_rng(seed), time.perf_counter(), 0, ""
    whole, times = file.read_bytes(), file.stat()
    log = Path(tempfile.mkstemp(suffix=".log")[1])
    for _ in range(moments_n):
        damage(file, int(rng.integers(0, len(whole))))
        status = ended(start(read, log))
        if status > 0 and file.name in said(log):
            noticed, message = noticed + 1, said(log)
        else:
            print(f"  {fault} {of}: status {status}, {said(log)!r}", file=sys.stderr)
        file.write_bytes(whole)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert ended(start(read, log)) == 0, said(log)
    log.unlink()
    return row(fault, of, moments_n, noticed, message, started)


def campaign(folder, kills, interrupts, only, minutes):
    """Return the rows of the kinds of faults that are asked for."""
    cases = {case.name: case for case in (Pack(), Train(folder / "train"), Label(), Repro(folder / "project"))}
    rows = []
    for case in cases.values():
        if f"kill-{case.name}" in only or "kill" in only:
            rows.append(stopped(case, folder, signal.SIGKILL, kills, 20, minutes))
        if f"interrupt-{case.name}" in only or "interrupt" in only:
            rows.append(stopped(case, folder, signal.SIGINT, interrupts, 21, minutes))
    for case in (cases["pack"], cases["train"], cases["label"]):
        if "disk" in only:
            rows.append(in_the_way("disk full (tmpfs of 1 MiB)", case, folder, small_disk, larger_disk))
        if "read-only" in only:
            rows.append(in_the_way("read-only file system", case, folder, read_only, writable))
        if "permissions" in only:
            rows.append(in_the_way("no permission to write", case, folder, forbid, allow, NOBODY))
    if "flip" in only:
        rows += flips(cases, folder)
    if "pipeline" in only:
        rows += pipeline(cases["repro"], folder)
    return rows


def flips(cases, folder):
    """Return rows on files of a store, a run and an interrupted training."""
    rows = []
    for case in (cases["pack"], cases["train"]):
        place = folder / f"{case.name}-flips"
        case.prepare(place)
        assert ended(start(partial(case.work, place), place.with_suffix(".log"))) == 0
        read = partial(case.read, place)
        for file in case.results(place):
            if file.name != "checksums.json":
                rows.append(damaged(MODIFIED_KEPT, f"{case.name}: {file.name}", flip, file, read, 20, 22))
                rows.append(damaged("file cut short", f"{case.name}: {file.name}", truncate, file, read, 5, 23))
    rows += on_medium(folder / "pack-flips" / "out" / "store", 20)
    case = cases["train"]
    place = folder / "train-checkpoint"
    case.prepare(place)
    work = place / "data" / "partial" / "runs" / "tiny" / "drawn-test_resnet-1"
    pid = start(partial(case.work, place), place.with_suffix(".log"))
    while not (work / "checkpoint.pt").exists():
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL), ended(pid)
    kept = work.with_name("kept")
    shutil.copytree(work, kept)

    def resume():
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(kept, work)
        case.work(place)
        shutil.rmtree(case.place(place))

    for fault, damage, n in ((MODIFIED_KEPT, flip, 20), ("file cut short", truncate, 5)):
        rows.append(damaged(fault, "train: checkpoint.pt", damage, kept / "checkpoint.pt", resume, n, 24))
    return rows


def on_medium(store, moments_n):
    """Return rows on bits that turn with no time changed, as a store is opened and as all of it is hashed anew."""
    damage = partial(flip_on_medium, store.with_name(f".{store.name}.checked.json"))
    ways = {UNNOTICED[1]: opened, "pack: images.npy, hashed anew": hashed_anew}
    return [
        damaged(NO_TIME_CHANGED, of, damage, store / "images.npy", partial(way, store), moments_n, 25)
        for of, way in ways.items()
    ]


def opened(store):
    open_store(store)


def hashed_anew(store):
    check_store(store, anew=True)


def pipeline(case, folder):
    """Return rows on files of DVC, settings, times of files, and two calls at once, in a copy of the project."""
    place, rows = folder / "repro-pipeline", []
    log, other = place.with_suffix(".log"), place.with_suffix(".other.log")
    case.prepare(place)
    work = partial(case.work, place)
    started = time.perf_counter()
    first = start(work, log)
    time.sleep(2)
    second = start(work, other)
    fine = ended(first) == 0 and ended(second) == 0
    wanted = digest(case.results(place))
    message = next((line for line in other.read_text().splitlines() if "Another" in line), "")
    rows.append(row("two calls at once", "repro", 1, int(fine and bool(message)), message, started))

    def after(fault, of, break_it, says):
        started = time.perf_counter()
        break_it()
        status = ended(start(work, log))
        message = next((line for line in log.read_text().splitlines() if says in line), "")
        equal = status == 0 and digest(case.results(place)) == wanted and (bool(message) or not says)
        if not equal:
            print(f"  {fault} {of}: status {status}, {log.read_text()[-600:]!r}", file=sys.stderr)
        rows.append(row(fault, of, 1, int(equal), short(message, place), started))

    lock = place / "dvc.lock"

    def turn_hash():
        text = lock.read_text()
        at = text.index("md5: ") + 5
        lock.write_text(text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1 :])

    def shift(years):
        now = time.time() + years * 31_557_600
        for base in ("data/cohorts", "paper", "notebooks", "cxrlib"):
            for file in (place / base).rglob("*"):
                os.utime(file, (now, now))

    def flip_store():
        file = place / "data" / "cohorts" / "simulated" / "images.npy"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.unlink()
        file.write_bytes(content)

    def spoil_settings():
        file = place / "params.yaml"
        file.write_text(file.read_text().replace("size_px: 32", "size_px: 3\x00", 1))

    after("file cut short", "repro: dvc.lock", lambda: os.truncate(lock, lock.stat().st_size * 6 // 10), "dvc.lock")
    after("one hash changed", "repro: dvc.lock", turn_hash, "")
    after("one bit turned", "repro: store", flip_store, "")
    after("all files ten years younger", "repro", partial(shift, 10), "")
    after("all files ten years older", "repro", partial(shift, -10), "")
    started, kept = time.perf_counter(), (place / "params.yaml").read_text()
    spoil_settings()
    status, message = ended(start(work, log)), said(log)
    noticed = status > 0 and "params.yaml" in message
    (place / "params.yaml").write_text(kept)
    rows.append(row("one byte changed", "repro: params.yaml", 1, int(noticed), short(message, place), started))
    started, table = time.perf_counter(), place / "results" / "audit" / "headline.csv"
    text = table.read_text()
    at = max(k for k, c in enumerate(text) if c in "12345678")
    table.write_text(text[:at] + str(int(text[at]) + 1) + text[at + 1 :])
    command = [sys.executable, "-m", "cxrlib.commands.cxr", "verify"]
    done = subprocess.run(command, cwd=place, env=_environment(place), capture_output=True, text=True)
    message = next((line for line in done.stdout.splitlines() if "audit/headline.csv" in line), "")
    rows.append(
        row("one digit changed", "results table", 1, int(done.returncode == 1 and bool(message)), message, started)
    )
    return rows


KINDS = ("kill", "interrupt", "disk", "read-only", "permissions", "flip", "pipeline")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="moments a command")
    parser.add_argument("--interrupts", type=int, default=5, help="moments a command")
    parser.add_argument("--minutes", type=float, default=60, help="after which no other moment of a command is begun")
    parser.add_argument("--only", default=",".join(KINDS), help=f"default: {','.join(KINDS)}; also kill-pack, ...")
    parser.add_argument("--out", type=Path, help="CSV to write; without it the table is only printed")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cxr-faults-"))
    folder.chmod(0o755)
    try:
        rows = campaign(folder, chosen.kills, chosen.interrupts, set(chosen.only.split(",")), chosen.minutes)
    finally:
        for place in folder.glob("*/out"):
            while place.is_mount():
                subprocess.run(["umount", str(place)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
    table = pd.DataFrame(rows)
    table["message"] = [short(text, folder) for text in table["message"]]
    table["machine"] = f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Linux"
    table["date"] = datetime.date.today().isoformat()
    print(table.to_string())
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(chosen.out, index=False)


if __name__ == "__main__":
    main()
