"""Run what is too long for `make repro`: `python -m cxrlib.commands.beyond`, which `make beyond` calls.

It trains the networks of the dose-response study (notebook 38), as many side by side as there are cores, one thread
each, keeps their scores in `results/dose_response/` and writes the page. Interrupted and called again, it goes on
with the trainings that are missing; those of other code or settings are made again.
"""

import os
import subprocess
import sys
import zipfile

from cxrlib.base import parallel, paths, runs
from cxrlib.commands import computes
from cxrlib.networks import batches, dose_runs

NOTEBOOKS = {"38_dose_response": "dose_response"}  # template: section of params.yaml and folder of results


def _workers():
    """Return how many trainings run at a time: one where a GPU trains, else one a core."""
    return 1 if batches.device().type == "cuda" else len(os.sched_getaffinity(0))


def _say(text):
    print(text, flush=True)


def _damaged(folder):
    """Return which files of a folder must be deleted since one is damaged, a list of Path; empty if all are whole."""
    for path in sorted(folder.glob("*.npz")):
        try:
            with zipfile.ZipFile(path) as file:
                whole = file.testzip() is None
        except (zipfile.BadZipFile, EOFError):
            whole = False
        if not whole:
            name, _, seed = path.stem.partition("-")
            # Patients are drawn where their first weights are missing, and the test images where a training is.
            others = {"patients": f"start-{seed}.safetensors", "test": "run-*.npz"}
            return [path, *sorted(folder.glob(others[name]))[:1]] if name in others else [path]
    return []


def train():
    """Train what is missing, and write the scores of all trainings to `results/dose_response/`.

    Raises
    ------
    ValueError
        In one sentence, if a file of a training is damaged.
    """
    if not paths.label_noise_path().exists():
        subprocess.run([sys.executable, "-m", "cxrlib.commands.repro", "label_noise"], cwd=paths.ROOT, check=True)
    code = computes.module_computes(dose_runs.__name__, paths.ROOT)
    trainings = dose_runs.DoseRuns(runs.params("dose_response"), code)
    others = [folder.name for folder in trainings.folder.parent.glob("*") if folder != trainings.folder]
    if others:
        _say(f"Not used, since code or settings were others: data/dose/{', data/dose/'.join(sorted(others))}.")
    folder = paths.results_dir("dose_response")
    try:
        trainings.train_all(_workers(), _say)
        trainings.collected().save(folder)
        took = trainings.seconds()["seconds"]
    except (zipfile.BadZipFile, EOFError, ValueError):
        damaged = _damaged(trainings.folder)
        if not damaged:
            raise
        raise ValueError(
            f"{damaged[0]} is damaged: delete {' and '.join(map(str, damaged))} and run `make beyond` again, which "
            "makes anew what is missing."
        ) from None
    _say(f"{len(took)} trainings, {took.sum() / 60:.0f} minutes of one process, a median of {took.median():.1f} s.")


def main():
    """Run the command line."""
    try:
        train()
        for name, section in NOTEBOOKS.items():
            words = [f"notebooks/{name}.ipynb", f"paper/{name}.ipynb", f"section={section}"]
            subprocess.run([sys.executable, "-m", "cxrlib.commands.notebook", *words], cwd=paths.ROOT, check=True)
    except KeyboardInterrupt:
        sys.exit("Interrupted: `make beyond` goes on with the trainings that are missing.")
    except parallel.WorkerKilledError:
        sys.exit(
            "A process that trained was killed, as happens when memory runs out: run `make beyond` again, which goes "
            "on with the trainings that are missing, or `taskset -c 0 make beyond`, which has one at a time."
        )
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # which has said why


if __name__ == "__main__":
    main()
