"""How long a matrix of runs takes by the number of stages at a time: measured as far as cores go, expected beyond.

    python benchmarks/fan_out.py [--log FILE] [--slurm]

Stages that train small networks, each on labels of its own, are run by a plain `dvc repro`, which is the alternative,
by `make repro` and by `make repro PLACE=local`, each in a copy of one prepared checkout. `--slurm` also sends them to
the Slurm that runs here. What is expected of any number of workers follows from what each stage took with one worker,
by the scheduler's own choice of what starts next; with workers without end it is the longest path in the pipeline.
`--log` takes what `make repro` printed of the edition in force, and adds what is expected of that one.
`cpu_seconds` are of this host's own processes and leave out what ran by Slurm: they say how busy the machine was with
other things. Rows go to `results/benchmarks/fan_out.csv` and replace those of the same pipeline.
"""

import argparse
import datetime
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml
from size import machine

from cxrlib.base import editions, paths
from cxrlib.commands import replay, repro

OUT = paths.ROOT / "results" / "benchmarks" / "fan_out.csv"
WORKERS = (1, 2, 4, 8, 16, 64)
TARGETS = ("pneumothorax_radiologist", "pneumothorax_nlp", "pneumothorax_nlp_noise_free", "labelers_radiologist")
EPOCHS, IMAGES_N = 2, 600
PIPELINE = f"{len(TARGETS)} trainings of {EPOCHS} epochs of {IMAGES_N} images"
_LINE = re.compile(r"^(\S+): (\d+) s \(\d+ of \d+\)$", re.M)  # of `make repro`, on a stage that ended


def expected(seconds, waits_for, workers):
    """Return how long stages take, in seconds, if each takes what it took alone and `repro.ready` chooses.

    Parameters
    ----------
    seconds : Mapping of str to float
        By stage.
    waits_for : Mapping of str to set of str
        Each stage, and those that it waits for; what is not in `seconds` is done already.
    workers : int
    """
    now, running, done = 0.0, {}, set()
    todo = set(seconds)
    while len(done) < len(todo):
        for stage in repro.ready(todo, waits_for, running, done)[: workers - len(running)]:
            running[stage] = now + seconds[stage]
        now = min(running.values())
        for stage in [s for s, end in running.items() if end <= now]:
            del running[stage]
            done.add(stage)
    return now


def graph(root):
    """Return each stage of a checkout with those that it waits for."""
    code = "import json; from cxrlib.commands import repro;"
    code += "print(json.dumps({s: sorted(b) for s, b in repro._pipeline()[0].items()}))"
    told = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    return {stage: set(before) for stage, before in yaml.safe_load(told.strip().splitlines()[-1]).items()}


def prepared(root):
    """Make a checkout in which all is done but the trainings."""
    settings = editions.compose("quick") | {"edition": "fan_out"}
    settings["cohorts"]["simulated"]["images_n"] = IMAGES_N
    settings["runs"] = {name: {**group, "targets": []} for name, group in settings["runs"].items()}
    settings["runs"]["pneumothorax"] |= {"targets": list(TARGETS), "architectures": ["test_resnet"], "seeds": [1]}
    settings["pneumothorax"] |= {"comparisons": {}, "controls": {}}
    for study in ("labelers", "finding", "mining", "metric"):
        settings[study]["enabled"] = False
    settings["finding"]["splits"] = []
    settings["training"]["epochs"] = EPOCHS
    replay.scratch_copy(paths.ROOT, root)
    (root / "dvc.lock").unlink()
    (root / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    editions.refresh(root)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", "-c", "user.name=b", "-c", "user.email=b@example.org", *words], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "cxrlib.commands.repro", "targets"], cwd=root, check=True, stdout=2)
    return root


def timed(root, command):
    """Run a command in a copy of a checkout; return its seconds, those of its processors, and what it printed."""
    copy = root.with_name("copy")
    shutil.copytree(root, copy, symlinks=True)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    shutil.rmtree(copy)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def measured(root, with_slurm):
    """Return rows of what was measured, and the seconds of each stage with one worker."""
    stages = [f"train@fan_out-{target}" for target in TARGETS]
    ours = [sys.executable, "-m", "cxrlib.commands.repro"]
    places = {"local": "local", **({"slurm": "slurm"} if with_slurm else {})}
    for name, engine in places.items():
        place = {"engine": engine, "jobs": 2, "poll_seconds": 1, "each": {"timeout_min": 60}}
        (root / "places" / f"{name}.yaml").write_text(yaml.safe_dump(place))
    contenders = [("dvc repro", 1, ["dvc", "repro", "--quiet", *stages])]
    contenders += [("make repro", n, [*ours, "--workers", str(n), *stages]) for n in (1, 2)]
    contenders += [(f"make repro PLACE={p}", 2, [*ours, "--workers", "2", "--place", p, *stages]) for p in places]
    rows, alone = [], {}
    for what, workers, command in contenders:
        took, of_cpu, said = timed(root, command)
        print(f"{what}, {workers} at a time: {took:.0f} s", flush=True)
        rows.append(
            {"what": what, "workers": workers, "seconds": took, "is": "measured", "cpu_seconds": round(of_cpu)}
        )
        if what == "make repro" and workers == 1:
            alone = {stage: float(took) for stage, took in _LINE.findall(said)}
    return rows, alone


def curve(seconds, waits_for):
    """Return rows of what is expected by the number of workers, and at least."""
    rows = [(n, expected(seconds, waits_for, n)) for n in WORKERS if n <= 2 * len(seconds)]
    rows.append((len(seconds), expected(seconds, waits_for, len(seconds))))
    return [{"what": "make repro", "workers": n, "seconds": took, "is": "expected"} for n, took in dict(rows).items()]


def write(rows, pipeline, stages_n, alternative):
    """Add rows to the table, with their ratio to the alternative's seconds; print them."""
    table = pd.DataFrame(rows)
    table["seconds"] = table["seconds"].round(1)
    table["ratio"] = (alternative / table["seconds"]).round(2)
    table.insert(0, "pipeline", pipeline)
    table.insert(1, "stages_n", stages_n)
    table["machine"], table["date"] = machine(), datetime.date.today().isoformat()
    print(table.to_string(index=False))
    old = pd.read_csv(OUT) if OUT.exists() else table[:0]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    pd.concat([old[old["pipeline"] != pipeline], table]).to_csv(OUT, index=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, help="what `make repro` printed, of the edition in force")
    parser.add_argument("--slurm", action="store_true", help="send the trainings to the Slurm that runs here too")
    chosen = parser.parse_args()
    if chosen.log:
        seconds = {stage: float(took) for stage, took in _LINE.findall(chosen.log.read_text())}
        edition = yaml.safe_load((paths.ROOT / "params.yaml").read_text())["edition"]
        rows = curve(seconds, graph(paths.ROOT))
        write(rows, f"edition {edition}", len(seconds), sum(seconds.values()))
        return
    os.environ.pop("PYTHONPATH", None)  # each checkout has its own library
    with tempfile.TemporaryDirectory() as folder:
        root = prepared(Path(folder) / "prepared")
        rows, alone = measured(root, chosen.slurm)
        rows += curve(alone, graph(root))
    write(rows, PIPELINE, len(alone), rows[0]["seconds"])


if __name__ == "__main__":
    main()
