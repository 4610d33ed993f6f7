"""Time and memory at the full size of ChestX-ray14 and of a million reports, and how both grow.

    python benchmarks/size.py [STEP ...] [--folder FOLDER] [--full 112120] [--reports 1000000] [--keep]

Every step runs at a quarter, half and all of the full size, each in a process of its own, and beside it its anchor, a
plain way to do the same. Rows go to `results/benchmarks/size.csv` as they are measured, replacing older ones of the
same step and size, so that steps can be measured one by one. Files of 25 GB are written into the folder and removed.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import size_steps

from cxrlib.base import paths

FULL_N, REPORTS_N = 112_120, 1_000_000
OUT = paths.ROOT / "results" / "benchmarks" / "size.csv"
POLL_SECONDS = 0.05


def memory_kib(pid):
    """Return a process's anonymous memory now and its highest resident memory, mapped files included; 0 if gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    told = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon", "VmHWM")))
    return tuple(int(told[name].split()[0]) if name in told else 0 for name in ("RssAnon", "VmHWM"))


def children(pid):
    """Return the processes that a process's threads started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:  # the thread is gone
            continue
    return found


def watched(command):
    """Run a command that prints one line of JSON last; return it with the peaks of memory, in MiB.

    `anonymous_mib` and `peak_mib` are of the process itself, `worker_mib` is the anonymous memory of its largest
    child, of which a forked one shares much with its parent. `anonymous_mib` is looked at 20 times a second.
    """
    with tempfile.TemporaryFile("w+") as told, subprocess.Popen(command, stdout=told) as process:
        anonymous = peak = worker = 0
        while process.poll() is None:
            now, high = memory_kib(process.pid)
            anonymous, peak = max(anonymous, now), max(peak, high)
            worker = max([worker, *(memory_kib(child)[0] for child in children(process.pid))])
            time.sleep(POLL_SECONDS)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}.")
        told.seek(0)
        found = json.loads(told.read().strip().splitlines()[-1])
    return {**found, "anonymous_mib": anonymous / 1024, "worker_mib": worker / 1024, "peak_mib": peak / 1024}


def in_process_of_its_own(step, part, folder, n):
    """Return what a step, or its anchor, takes in a fresh process."""
    return watched([sys.executable, str(Path(__file__)), "--one", step, part, str(folder), str(n)])


def measured(step, n, folder):
    """Return a row of the table: a step at a size and its anchor."""
    ours = in_process_of_its_own(step, "ours", folder, n)
    theirs = in_process_of_its_own(step, "anchor", folder, n)
    _, _, unit, anchor = size_steps.STEPS[step]
    rates = [taken["items"] / taken["cpu_seconds"] for taken in (ours, theirs)]
    return {
        "step": step,
        "n": n,
        "unit": unit,
        **ours,
        "items_per_second": ours["items"] / ours["seconds"],
        "items_per_cpu_second": rates[0],
        "anchor": anchor,
        "anchor_items": theirs["items"],
        "anchor_items_per_cpu_second": rates[1],
        "ratio": rates[0] / rates[1],
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
    }


def machine():
    """Return what the machine is called here: cores and processor."""
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores, {names[0] if names else platform.machine()}"


def _in_order(column):
    """Return what a column is sorted by: steps come in the order of `STEPS`."""
    return column.map({step: k for k, step in enumerate(size_steps.STEPS)}) if column.name == "step" else column


def with_growth(table):
    """Return the table with how each step grows from its smallest size on.

    `time_exponent` is the slope of log CPU time over log size from the smallest size to this one, 1 for linear;
    `growth_bytes` is by how much anonymous memory grew over the same span, in bytes for each image or report, which
    the interpreter and its packages have no part in.
    """
    table = table.sort_values(["step", "n"], key=_in_order).reset_index(drop=True)
    first = table.groupby("step")[["n", "cpu_seconds", "anonymous_mib"]].transform("first")
    larger = table["n"] > first["n"]
    span = np.log(table["n"] / first["n"]).where(larger)
    table["time_exponent"] = np.log(table["cpu_seconds"] / first["cpu_seconds"]) / span
    grown = (table["anonymous_mib"] - first["anonymous_mib"]) * 2**20
    table["growth_bytes"] = grown / (table["n"] - first["n"]).where(larger)
    return table


def kept(row, out):
    """Write a row into the table, in place of an older one of the same step and size; return the table."""
    new = pd.DataFrame([row])
    if out.exists():
        old = pd.read_csv(out)
        new = pd.concat([old[(old["step"] != row["step"]) | (old["n"] != row["n"])], new], ignore_index=True)
    table = with_growth(new)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", choices=[*size_steps.STEPS, []], help="all if none is named")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cxr_size")
    parser.add_argument("--full", type=int, default=FULL_N, help="images of the largest size")
    parser.add_argument("--reports", type=int, default=REPORTS_N, help="reports of the largest size")
    parser.add_argument("--parts", type=int, nargs="*", default=[4, 2, 1], help="the sizes: full size over these")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--keep", action="store_true", help="leave what was written in the folder")
    parser.add_argument("--one", nargs=4, metavar=("STEP", "PART", "FOLDER", "N"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        step, part, folder, n = asked.one
        print(json.dumps(size_steps.one(step, part, folder, int(n))))
        return
    for step in asked.steps or size_steps.STEPS:
        for part in asked.parts:
            n = (asked.reports if step == "label" else asked.full) // part
            table = kept(measured(step, n, asked.folder), asked.out)
            print(table[(table["step"] == step) & (table["n"] == n)].T.to_string(header=False), flush=True)
    if not asked.keep:
        shutil.rmtree(asked.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
