"""Run what is out of date, stages side by side: `python -m cxrlib.commands.repro [--place NAME] [STAGE ...]`.

DVC runs one stage at a time. Here each stage that is out of date gets a `dvc repro --single-item` of its own once
everything that it waits for is done, as many at a time as there are cores (one where a GPU trains); at the end a
plain `dvc repro` looks at the whole. What the stages will read is hashed before the first of them (`inputs`). With a
place, each notebook is sent there and waited for (`sending`), as many at a time as the place takes: all that is of
DVC stays here. When a stage fails, those that run are finished and no other starts. One call runs in a clone at a
time; another waits for it. Ctrl+C ends the stages that run, and so does a kill: unfinished work is taken up by the
next call, which also mends what DVC was writing when it was killed.
"""

import argparse
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cxrlib.base import editions, paths, runs, whole_files
from cxrlib.commands import inputs, interruption, places, sending, sharing

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LOG_LINES = 30  # of a failed stage's output that are shown


def stale(changed, waits_for):
    """Return the stages that will run: those that changed and all that come after them.

    Parameters
    ----------
    changed : collection of str
        Stages that `dvc status` lists.
    waits_for : Mapping of str to set of str
        Each stage, and the stages whose outputs it reads.
    """
    out, grown = set(changed), True
    while grown:
        more = {stage for stage, before in waits_for.items() if before & out} - out
        out, grown = out | more, bool(more)
    return out


def ready(todo, waits_for, running, done):
    """Return the stages that can start now, those first on which most others wait."""
    free = [s for s in todo if s not in running and s not in done and not (waits_for[s] & set(todo)) - done]
    after = {s: len(stale({s}, waits_for)) for s in free}
    return sorted(free, key=lambda s: (-after[s], s))


def _pipeline():
    """Return each stage with those whose outputs it reads, and with the files that it reads and makes."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with contextlib.chdir(paths.ROOT), Repo(str(paths.ROOT)) as repo:  # DVC names files as seen from there
            edges, cache = repo.index.graph, repo.cache.local
            waits_for = {s.addressing: {before.addressing for before in edges.successors(s)} for s in edges.nodes}
            files = {
                s.addressing: inputs.Files(
                    {str(dep) for dep in s.deps},
                    {
                        str(out): Path(cache.oid_to_path(out.hash_info.value)) if out.hash_info.isdir else None
                        for out in s.outs
                    },
                )
                for s in edges.nodes
            }
    except DvcException as error:
        raise ValueError(f"DVC cannot read the pipeline: {error}") from None
    return waits_for, files


def _changed_stages():
    """Return the stages that `dvc status` lists."""
    command = ["dvc", "--wait-for-lock", "status", "--json"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip() or done.stdout.strip())
    return set(json.loads(done.stdout[done.stdout.index("{") :]))


def _default_workers():
    """Return how many stages run at a time: one where a GPU trains, else one a core."""
    has_gpu = os.path.exists("/dev/nvidia0") and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
    return 1 if has_gpu else len(os.sched_getaffinity(0))


def _die_with_parent():
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _start(stage, logs):
    log = logs / f"{stage.replace('/', '_')}.log"
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", stage]
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, cwd=paths.ROOT, stdout=file, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
        )
    return process, log, time.monotonic()


def run(todo, waits_for, workers, say=print):
    """Run stages side by side; return those that failed, with their log.

    Parameters
    ----------
    todo : set of str
    waits_for : Mapping of str to set of str
    workers : int
    say : Callable
        Takes a line on each stage that ended.
    """
    logs = paths.partial_dir("logs")
    running, done, failed = {}, set(), {}
    try:
        _work_off(todo, waits_for, workers, say, logs, running, done, failed)
    except BaseException:
        interruption.end([process for process, _, _ in running.values()])
        raise
    return failed


def _work_off(todo, waits_for, workers, say, logs, running, done, failed):
    while True:
        for stage in [] if failed else ready(todo, waits_for, running, done)[: workers - len(running)]:
            running[stage] = _start(stage, logs)
        if not running:
            return
        time.sleep(0.1)
        for stage in [s for s, (process, _, _) in running.items() if process.poll() is not None]:
            process, log, started = running.pop(stage)
            if process.returncode:
                failed[stage] = log
            else:
                done.add(stage)
                interruption.keep_lock()
            state = "failed" if process.returncode else f"{len(done)} of {len(todo)}"
            say(f"{stage}: {time.monotonic() - started:.0f} s ({state})", flush=True)


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="make repro", description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="only these and what they need")
    parser.add_argument("--edition", help="put it in force first, once no other call runs")
    parser.add_argument("--workers", type=int, help="stages at a time")
    parser.add_argument("--place", help="where they run, a file of places/; without it, as processes of this machine")
    parser.add_argument("--dry", action="store_true", help="say which stages are out of date; run nothing else")
    chosen = parser.parse_args(arguments)
    try:
        with contextlib.nullcontext() if chosen.dry else interruption.alone():
            sys.exit(_repro(chosen))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("Stopped: `make repro` goes on where this one was.", file=sys.stderr)
        sys.exit(130)


def _dvc_repro(*words):
    """Run `dvc repro`, whose words are printed only if it fails; return its exit status."""
    done = subprocess.run(
        ["dvc", "--wait-for-lock", "repro", *words],
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(*done.stdout.strip().splitlines()[-_LOG_LINES:], sep="\n", file=sys.stderr)
    return done.returncode


def _repro(chosen):
    """Run what the command line asks for; return the exit status."""
    if not chosen.dry:
        for sentence in interruption.mend():
            print(sentence, file=sys.stderr, flush=True)
    with _edition_in_force(chosen.edition):
        place = places.open_place(chosen.place) if chosen.place else None
        todo, waits_for, files = _planned(chosen)
        if chosen.dry:
            counted = (
                f"{len(todo)} of {len(waits_for)} stages are to run (in a new clone all those that make data are):"
            )
            print("\n".join([counted, *sorted(todo)]) if todo else "Everything is up to date.")
            return 0
        for stage, where in ({} if place else sending.still_running()).items():
            raise ValueError(
                f"{stage} was sent to place {where}, where it still runs and writes its unfinished work: join it by "
                f"`make repro PLACE={where}`, or end its job first (docs/guides/cluster.md)."
            )
        inputs.check_inputs(todo, files)
    workers = chosen.workers or (int(place.jobs) if place else _default_workers())
    with places.at_place(place) if place and todo else contextlib.nullcontext():
        failed = run(todo, waits_for, max(1, workers))
    for stage, log in failed.items():
        lines = log.read_text().strip().splitlines()
        print(f"\n{stage} failed ({log.relative_to(paths.ROOT)}):", *lines[-_LOG_LINES:], sep="\n", file=sys.stderr)
    if failed:
        return 1
    end = _dvc_repro(*chosen.stages)
    interruption.keep_lock()
    return end


@contextlib.contextmanager
def _edition_in_force(name):
    """Put an edition in force, if one is named; if it is refused before a stage runs, the one before stays."""
    settings, before = paths.ROOT / "params.yaml", None
    if name:
        sharing.check_edition(editions.compose(name, paths.ROOT), paths.ROOT)
        before = settings.read_text(encoding="utf-8")
        editions.activate(name, paths.ROOT)
        print(f"params.yaml is edition {name}.", flush=True)
    try:
        yield
    except (ValueError, OSError, SystemExit):
        if before is not None and settings.read_text(encoding="utf-8") != before:
            whole_files.write_text(settings, before)
            print("params.yaml is as it was before.", flush=True)
        raise


def _planned(chosen):
    """Return the stages to be run, by stage what it waits for, and what each reads and makes.

    Raises
    ------
    ValueError
        If data are not where the edition looks for them.
    SystemExit
        If DVC fails, whose words are printed, or if there is no such stage.
    """
    editions.refresh(paths.ROOT)
    settings = runs.params()
    sharing.check_edition(settings)
    paths.link_sources(editions.own_tables(settings))
    if code := _dvc_repro("--single-item", "code"):
        sys.exit(code)
    interruption.keep_lock()
    waits_for, files = _pipeline()
    todo = stale(_changed_stages() & set(waits_for), waits_for)
    if chosen.stages:
        todo &= _needed(chosen.stages, waits_for)
    lost = editions.missing_sources(settings)
    if lost and not chosen.dry and any(stage.startswith(("cohort@", "archive@")) for stage in todo):
        # DVC would take away what these stages made before, and then find out
        here = os.environ.get("CXR_DATA") or "not set"
        named = ", ".join(path.replace("data/cxr", "$CXR_DATA") for path in lost)
        raise ValueError(
            f"Edition {settings['edition']} reads {named}, which is not here (the environment variable CXR_DATA is "
            f"{here}): docs/data.md says what lies where."
        )
    return todo, waits_for, files


def _needed(stages, waits_for):
    """Return the named stages (`train` means every train@...) and all that they wait for."""
    named = {s for s in waits_for for name in stages if s == name or s.startswith(f"{name}@")}
    missing = [name for name in stages if not any(s == name or s.startswith(f"{name}@") for s in waits_for)]
    if missing:
        sys.exit(f"There is no stage {missing[0]}; `dvc stage list` names them.")
    waiting, needed = list(named), set(named)
    while waiting:
        more = waits_for[waiting.pop()] - needed
        needed |= more
        waiting += more
    return needed


if __name__ == "__main__":
    main()
