"""One run: a network trained once on one target, its predictions, and the record of both.

Notebook 10 calls `run` for every network and seed of a target. A run that is already there, made of the same target,
images, settings and code, is left as it is; so adding a seed trains that seed alone. With `processes` in its settings
a run starts that many and waits for them; each then calls this module as a program.

A run's folder comes into being whole, by a rename. Until then everything is below `data/partial/runs/`, which is no
output of a stage, so that DVC, which removes outputs before a stage runs, leaves checkpoints alone. It is removed
once the run is there.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from cxrlib.base import checksums, paths, records, runs, whole_files
from cxrlib.cohorts.store import open_store, pixels_sha256
from cxrlib.networks import architectures, batches, launching, processes, training

_FILES = ("predictions.parquet", "model.safetensors", "history.csv")  # whose SHA-256 is in a run's record
_AUC_TOLERANCE = 0.005  # by which the saved predictions' validation AUC may differ from the kept epoch's: rounding


@dataclass(frozen=True)
class RunRecord:
    """A finished run, as its folder has it.

    Attributes
    ----------
    key : str
    parameters, record : dict
        Of `run.json`.
    history : pandas.DataFrame
        A row per epoch.
    trained_now : bool
        False if it was there already.
    """

    key: str
    record: dict
    history: pd.DataFrame
    trained_now: bool


def run(edition, cohort, target, settings, code=""):
    """Train one network on one target, predict, and record both in `results/<edition>/runs/<target>/`.

    Parameters
    ----------
    edition, cohort, target : str
        The packed training cohort, and the target that notebook 04 wrote.
    settings : training.TrainingSettings
    code : str
        What changes when the code that trains changes (`data/code/10_train.txt`); a run of other code is made again.

    Returns
    -------
    RunRecord

    Raises
    ------
    RuntimeError
        If the saved predictions do not give back the validation AUC of the epoch that was kept, or if one of several
        processes failed or was killed; called again, the run goes on after its last whole epoch.
    checkpoints.DamagedCheckpointError
        If the checkpoint of an interrupted run is not as it was written.
    """
    out = paths.run_dir(edition, target, settings.architecture, settings.seed)
    key = runs.key(target, settings.architecture, settings.seed)
    work = paths.partial_dir("runs", edition, key)
    inputs = _fingerprint(_data(edition, cohort, target), settings, code)
    trained_now = _inputs_of(out) != inputs
    if not trained_now and (damaged := _damaged(out)):
        print(f"{damaged}: the run is trained again.", file=sys.__stderr__, flush=True)  # past the notebook's page
        trained_now = True
    if trained_now:
        shutil.rmtree(out, ignore_errors=True)
        if settings.processes == 1:
            _make(edition, cohort, target, settings, code)
        else:
            told = {"edition": edition, "cohort": cohort, "target": target, "code": code}
            job = work / "job.json"
            whole_files.write_text(job, json.dumps({**told, "settings": asdict(settings)}))
            launching.launch(__name__, job, settings.processes, work / "processes.log")
    shutil.rmtree(work)
    record = json.loads((out / "run.json").read_text())
    return RunRecord(key, record, pd.read_csv(out / "history.csv"), trained_now)


def _data(edition, cohort, target):
    """Return the files that a run is made of."""
    return {"images": paths.cohort_dir(cohort) / "images.npy", "target": paths.target_path(edition, target)}


def _inputs_of(out):
    """Return the fingerprint of what the run in a folder was made of, None if no whole run is there."""
    try:
        return json.loads((out / "run.json").read_text()).get("inputs_sha256")
    except (FileNotFoundError, ValueError):  # none, or not written to its end
        return None


def _damaged(out):
    """Return which of a run's files is not as it was written; None if all are, or it is older than their SHA-256."""
    try:
        told = json.loads((out / "run.json").read_text()).get("files", {})
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        return f"{out / 'run.json'} is damaged"
    return checksums.problem(out, told)


def _make(edition, cohort, target, settings, code):
    """Train, predict and write a run's folder; of several processes all train and predict, and the first writes."""
    out = paths.run_dir(edition, target, settings.architecture, settings.seed)
    work = paths.partial_dir("runs", edition, runs.key(target, settings.architecture, settings.seed))
    data = _data(edition, cohort, target)
    store, table = open_store(cohort), pd.read_parquet(data["target"])
    findings = [c for c in table if c not in ("image_id", "split")]
    trained = training.train(store, table, findings, settings, work)
    predictions = _predict_unseen(trained.network, store, table, findings, settings)
    _check_validation(predictions, table, findings, trained)
    if processes.rank() > 0:
        return
    new = work / "finished"
    shutil.rmtree(new, ignore_errors=True)
    with whole_files.naming(out):
        new.mkdir()
        predictions.to_parquet(new / "predictions.parquet", index=False)
        architectures.save_network(trained.network, new / "model.safetensors")
        trained.history.to_csv(new / "history.csv", index=False)
        shutil.copytree(work / "live", new / "dvclive")
    told = {"edition": edition, "cohort": cohort, "target": target, "findings": findings}
    records.record(
        new / "run.json",
        parameters={**told, "size_px": settings.train_px or store.images.shape[1], **asdict(settings)},
        data=data,
        files=checksums.of_files(new, _FILES),
        inputs_sha256=_fingerprint(data, settings, code),
        device=batches.device_name(),
        weights_origin=trained.weights_origin,
        positive_weight=trained.positive_weight,
        best_epoch=trained.best_epoch,
        resumed_at_epoch=trained.resumed_at_epoch,
        seconds=round(trained.seconds, 1),
        images_per_second=round(trained.images_per_second, 1),
    )
    with whole_files.naming(out):
        _put(new, out)


def _put(folder, place):
    """Move a finished folder to its place, where it is at no time in part; from another disk it is copied first."""
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(folder, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        near = place.with_name(f".{place.name}.partial")
        shutil.rmtree(near, ignore_errors=True)
        shutil.copytree(folder, near)
        os.replace(near, place)


def predictions_of(edition, run_key, cohort, store, image_ids):
    """Return one run's predictions of a cohort, from its folder or, for another cohort than its own, by its network.

    Predictions of another cohort are kept below `data/partial/predictions/`, so that a new run is predicted alone.

    Parameters
    ----------
    edition : str
    run_key : (str, str, int)
        Target, architecture, seed.
    cohort : str
    store : store.Store or None
        Of that cohort; None if it is the run's own.
    image_ids : sequence of str

    Returns
    -------
    pandas.DataFrame
        `image_id, finding, probability`.

    Raises
    ------
    ValueError
        If the run's files are not as they were written.
    """
    folder = paths.run_dir(edition, *run_key)
    if damaged := _damaged(folder):
        raise ValueError(f"{damaged}: {checksums.remedy(folder, 'trains it')}")
    if store is None:
        return pd.read_parquet(folder / "predictions.parquet")
    content = hashlib.sha256("\n".join(image_ids).encode())
    for digest in (records.sha256(folder / "model.safetensors"), pixels_sha256(paths.cohort_dir(cohort))):
        content.update(digest.encode())
    kept = paths.predictions_dir(edition, cohort)
    file = kept / f"{runs.key(*run_key)}.{content.hexdigest()[:12]}.parquet"
    if not file.exists():
        for old in kept.glob(f"{runs.key(*run_key)}.*.parquet"):
            old.unlink()
        told = json.loads((folder / "run.json").read_text())["parameters"]
        findings = told["findings"]
        network = architectures.load_network(folder / "model.safetensors", run_key[1], len(findings))
        probability = training.predict(network, store, store.rows(image_ids), size_px=told.get("train_px"))
        with whole_files.replacing(file) as new:
            _long(image_ids, findings, probability).to_parquet(new, index=False, write_page_checksum=True)
    try:
        return pd.read_parquet(file, page_checksum_verification=True)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise ValueError(f"{file} is damaged ({error}): remove it, and the run predicts again.") from None


def _fingerprint(data, settings, code):
    hashes = {"images": pixels_sha256(data["images"].parent), "target": records.sha256(data["target"])}
    told = {**hashes, **asdict(settings), "code": code}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _long(image_ids, findings, probability):
    """Return probabilities (n, findings_n) as `image_id, finding, probability`, a finding after another."""
    ids = pd.DataFrame({"image_id": image_ids})["image_id"]
    return pd.DataFrame(
        {
            "image_id": pd.concat([ids] * len(findings), ignore_index=True),
            "finding": np.repeat(np.asarray(findings, object), len(ids)),
            "probability": probability.T.ravel(),
        }
    )


def _predict_unseen(network, store, table, findings, settings):
    """Return predictions of every image of the cohort that the network was not trained on, labelled or not."""
    trained_on = table["image_id"][table["split"] == "train"]
    ids = store.index["image_id"][~store.index["image_id"].isin(trained_on)].to_numpy()
    probability = training.predict(network, store, store.rows(ids), 2 * settings.batch_size, settings.train_px)
    if not np.isfinite(probability).all():
        raise RuntimeError("The network's probabilities are not all finite: lower the learning rate.")
    return _long(ids, findings, probability)


def _check_validation(predictions, table, findings, trained):
    """Raise a RuntimeError unless what is saved gives back the validation AUC that was measured."""
    valid = table[table["split"] == "valid"].set_index("image_id")
    areas = []
    for finding in findings:
        p = predictions[predictions["finding"] == finding].set_index("image_id")["probability"][valid.index]
        labelled = valid[finding].notna()
        areas.append(roc_auc_score(valid[finding][labelled], p[labelled]))
    measured = trained.history["valid_auc"][trained.best_epoch]
    if np.isfinite(measured) and abs(np.mean(areas) - measured) >= _AUC_TOLERANCE:
        raise RuntimeError(
            f"The saved predictions have validation AUC {np.mean(areas):.4f}, the kept epoch had {measured:.4f}: "
            "train again."
        )


def main(job):
    """Make the run of a job file in the processes that torchrun has started.

    Parameters
    ----------
    job : Path
        `job.json`, as `run` writes it below `data/partial/runs/`.
    """
    with launching.launched(job), processes.joined():
        told = json.loads(job.read_text())
        _make(**{**told, "settings": training.TrainingSettings(**told["settings"])})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
