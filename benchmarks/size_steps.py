"""The steps that `size.py` measures at full size, each beside its anchor: a plain way to do the same work.

A step takes a folder and a size, does all that comes before it unmeasured, and gives back how many items it took and
when it began. Steps of one size share what the earlier ones wrote: pack before train, train before predict, cases
before score.
"""

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cxrlib.base import paths, vocabulary
from cxrlib.statistics import accuracy, resampling
from cxrlib.studies import case_tables

FINDINGS = list(vocabulary.NIH_FINDINGS.values())
FILES_N, FILE_PX, STORED_PX, TRAINED_PX = 16, 320, 320, 32
PATIENTS_FRAC = 30_805 / 112_120  # of ChestX-ray14
WRITTEN_N = 5_000  # simulated reports whose sentences are recombined
RUNS_N = 60  # of the case table, 14 findings each
RESAMPLES_N, SCORED_RESAMPLES_N = 2_000, 100  # of the bootstrap alone; of each of the 840 columns of the case table
STEPS_N, BATCH = 8, 32  # of training at full resolution
ANCHOR_SECONDS = 3  # of CPU time, whose clock ticks a hundred times a second
EDITION, TARGET, NETWORK, SEED = "size", "reports", "test_resnet", 1


@dataclass
class Clock:
    """When the measured part of a step began, on the wall and of this process and its children."""

    wall: float
    cpu: float

    @classmethod
    def started(cls):
        """Return a clock that starts now."""
        return cls(time.perf_counter(), cpu_seconds())

    def stopped(self, items_n):
        """Return what was measured, as a dict."""
        wall, cpu = time.perf_counter() - self.wall, cpu_seconds() - self.cpu
        return {"items": items_n, "seconds": wall, "cpu_seconds": cpu}


def cpu_seconds():
    """Return the CPU time of this process and of its workers that ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def cohort_of(n):
    return f"size_{n}"


# Images: a release of ChestX-ray14's layout, whose names are links to a few files


def release(folder, n):
    """Return a folder laid out as ChestX-ray14's release with n images: links to 16 pictures of 320 px."""
    out = folder / f"release_{n}"
    if (out / "Data_Entry_2017_v2020.csv").exists():
        return out
    rng = np.random.default_rng(0)
    (out / "images").mkdir(parents=True)
    (out / "files").mkdir()
    for k in range(FILES_N):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24), np.uint8))
        coarse = coarse.resize((FILE_PX, FILE_PX), Image.NEAREST)
        coarse.save(out / "files" / f"{k:02d}.png")
    patient = np.sort(rng.integers(0, max(2, int(n * PATIENTS_FRAC)), n))
    number = pd.Series(patient).groupby(patient).cumcount().to_numpy()
    names = [f"{p:08d}_{k:03d}.png" for p, k in zip(patient, number, strict=True)]
    for k, name in enumerate(names):
        (out / "images" / name).symlink_to(out / "files" / f"{k % FILES_N:02d}.png")
    table = pd.DataFrame({"Image Index": names, "Patient ID": patient, "Follow-up #": number})
    table["Finding Labels"] = rng.choice([*vocabulary.NIH_FINDINGS, "No Finding"], n)
    table["View Position"] = rng.choice(["PA", "AP"], n)
    table["Patient Gender"], table["Patient Age"] = rng.choice(["M", "F"], n), rng.integers(1, 95, n)
    tested = patient >= np.quantile(patient, 0.77)  # 25,596 of 112,120
    for name, part in (("train_val_list.txt", ~tested), ("test_list.txt", tested)):
        (out / name).write_text("\n".join(np.asarray(names)[part]) + "\n")
    table.to_csv(out / "Data_Entry_2017_v2020.csv", index=False)
    return out


def pack(folder, n, workers=2):
    """Pack n images at 320 px with as many workers, their source included, as notebook 01 does."""
    from cxrlib.cohorts import packing, sources

    where = release(folder, n)
    clock = Clock.started()
    source = sources.nih(size_px=STORED_PX, folder=where)
    out = paths.cohort_dir(cohort_of(n))
    packing.pack(source, out, folder / "work" / cohort_of(n), size_px=STORED_PX, workers=workers)
    return clock.stopped(n)


def pack_anchor(folder, n):
    """Open and decode the same files by Pillow alone, on one core; nothing is scaled or written."""
    files = sorted((release(folder, n) / "images").iterdir())[:2_000]
    clock = Clock.started()
    for file in files:
        with Image.open(file) as image:
            image.load()
    return clock.stopped(len(files))


# Networks


def target_of(index):
    """Return a target of the official split, a tenth for validation, labelled at random."""
    from cxrlib.cohorts import splits

    split = splits.official(index, valid_frac=0.1, seed=1)
    rng = np.random.default_rng(1)
    table = split[split["split"].isin(["train", "valid"])][["image_id", "split"]].reset_index(drop=True)
    for finding in FINDINGS:
        table[finding] = np.float32(rng.random(len(table)) < 0.2)
    return table


def settings_of(**changed):
    from cxrlib.networks import training

    told = {"architecture": NETWORK, "pretrained": "none", "epochs": 1, "batch_size": 64, "learning_rate": 1e-3}
    told |= {"weight_decay": 0.01, "positive_weight": "none", "flip": False, "seed": SEED, "train_px": TRAINED_PX}
    return training.TrainingSettings(**{**told, **changed})


def train(folder, n):
    """Do a whole run: an epoch of the training part, each image brought to 32 px; predictions of what is unseen."""
    from cxrlib.cohorts.store import open_store
    from cxrlib.networks import run

    store = open_store(cohort_of(n))
    path = paths.target_path(EDITION, TARGET)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = target_of(store.index)
    table.to_parquet(path)
    del store
    clock = Clock.started()
    run.run(EDITION, cohort_of(n), TARGET, settings_of())
    return clock.stopped(int((table["split"] == "train").sum()))


def bare_loop(images, labels, settings, steps_n):
    """Train as a plain torch loop over the memory map does: no augmentation, validation or checkpoint."""
    import torch
    from torch.nn.functional import interpolate

    from cxrlib.networks import architectures

    network, _ = architectures.create_network(settings.architecture, labels.shape[1])
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters())
    loss = torch.nn.BCEWithLogitsLoss()
    order = np.random.default_rng(0).permutation(len(images))
    size = settings.train_px or images.shape[1]
    clock = Clock.started()
    for k in range(steps_n):
        rows = order[k * settings.batch_size : (k + 1) * settings.batch_size]
        x = torch.from_numpy(images[rows]).unsqueeze(1).float().div_(255)
        if x.shape[-1] != size:
            x = interpolate(x, (size, size), mode="bilinear", antialias=True)
        value = loss(network(((x - 0.5) / 0.25).to(memory_format=torch.channels_last)), labels[rows])
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    return clock.stopped(steps_n * settings.batch_size)


def random_labels(n):
    import torch

    return torch.from_numpy((np.random.default_rng(1).random((n, len(FINDINGS))) < 0.2).astype(np.float32))


def pixels_of(n):
    return np.load(paths.cohort_dir(cohort_of(n)) / "images.npy", mmap_mode="r")


def train_anchor(folder, n):
    """Train some steps at 32 px in a plain torch loop over the same memory map."""
    return bare_loop(pixels_of(n), random_labels(n), settings_of(), max(1, min(64, n // 64)))


def steps(folder, n):
    """Train some steps on images of 320 px, taken from all over the store."""
    from cxrlib.cohorts.store import open_store
    from cxrlib.networks import training

    store = open_store(cohort_of(n))
    rows = np.random.default_rng(2).permutation(n)[: (STEPS_N + 1) * BATCH]
    table = pd.DataFrame({"image_id": store.index["image_id"].to_numpy()[rows], "split": "train"})
    table.loc[table.index >= STEPS_N * BATCH, "split"] = "valid"
    labels = random_labels(n).numpy()[rows]
    table = pd.concat([table, pd.DataFrame(labels, columns=FINDINGS)], axis=1)
    clock = Clock.started()
    settings = settings_of(batch_size=BATCH, train_px=None)
    training.train(store, table, FINDINGS, settings, folder / "work" / f"steps_{n}_{time.time_ns()}")
    return clock.stopped(int((table["split"] == "train").sum()))


def steps_anchor(folder, n):
    """Train as many steps at 320 px in a plain torch loop over the same memory map."""
    return bare_loop(pixels_of(n), random_labels(n), settings_of(batch_size=BATCH, train_px=None), STEPS_N)


def predict(folder, n):
    """Predict all n images by the trained network and write them down, as for another cohort than a run's own."""
    from cxrlib.cohorts.store import open_store
    from cxrlib.networks import run

    store = open_store(cohort_of(n))
    clock = Clock.started()
    run.predictions_of(EDITION, (TARGET, NETWORK, SEED), cohort_of(n), store, store.index["image_id"].to_numpy())
    return clock.stopped(n)


def predict_anchor(folder, n):
    """Predict some images by the bare network in slices of the same memory map."""
    import torch
    from torch.nn.functional import interpolate

    from cxrlib.networks import architectures

    images, took = pixels_of(n), min(n, 8_192)
    model = paths.run_dir(EDITION, TARGET, NETWORK, SEED) / "model.safetensors"
    network = architectures.load_network(model, NETWORK, len(FINDINGS))
    network.eval()
    clock = Clock.started()
    with torch.no_grad():
        for start in range(0, took, 128):
            x = torch.from_numpy(images[start : start + 128].copy()).unsqueeze(1).float().div_(255)
            x = interpolate(x, (TRAINED_PX, TRAINED_PX), mode="bilinear", antialias=True)
            torch.sigmoid(network((x - 0.5) / 0.25))
    return clock.stopped(took)


# Statistics


def labels_and_scores(n):
    """Return patients, labels (n, 14) bool and scores (n, 14) float32 of n images."""
    rng = np.random.default_rng(3)
    patient = np.sort(rng.integers(0, max(2, int(n * PATIENTS_FRAC)), n))
    label = rng.random((n, len(FINDINGS))) < 0.1
    return patient, label, (label + rng.normal(size=label.shape)).astype(np.float32)


def bootstrap(folder, n):
    """Resample patients, and give the AUC of each of 14 findings in every resample."""
    patient, label, score = labels_and_scores(n)
    clock = Clock.started()
    resamples = resampling.patient_resamples(patient, RESAMPLES_N, np.random.default_rng(0))
    for k in range(len(FINDINGS)):
        accuracy.auc(label[:, k], score[:, k], resamples)
    return clock.stopped(n * len(FINDINGS) * RESAMPLES_N)


def bootstrap_anchor(folder, n):
    """Do the same by scikit-learn, image by image, for one finding, in as many resamples as some seconds hold."""
    from sklearn.metrics import roc_auc_score

    patient, label, score = labels_and_scores(n)
    rng = np.random.default_rng(0)
    starts = np.flatnonzero(np.r_[True, np.diff(patient) > 0])
    rows_of = np.split(np.arange(n), starts[1:])
    resamples_n = 0
    clock = Clock.started()
    while cpu_seconds() - clock.cpu < ANCHOR_SECONDS:
        rows = np.concatenate([rows_of[k] for k in rng.integers(0, len(rows_of), len(rows_of))])
        roc_auc_score(label[rows, 0], score[rows, 0])
        resamples_n += 1
    return clock.stopped(n * resamples_n)


def cases_path(folder, n):
    return folder / f"cases_{n}.parquet"


def predictions_like_a_run(ids, seed):
    """Return predictions of 14 findings as a run writes them down."""
    probability = np.random.default_rng((4, seed)).random((len(FINDINGS), len(ids)), np.float32)
    return pd.DataFrame(
        {
            "image_id": np.tile(ids, len(FINDINGS)),
            "finding": np.repeat(FINDINGS, len(ids)),
            "probability": probability.ravel(),
        }
    )


def cohort_index(n):
    """Return the index of a cohort of n images, their split (all test) and one label set."""
    patient, label, _ = labels_and_scores(n)
    ids = np.array([f"{k:08d}_000.png" for k in range(n)], object)
    index = pd.DataFrame({"image_id": ids, "patient_id": [f"{p:08d}" for p in patient], "view": "PA", "sex": "F"})
    index = index.assign(age=50.0, follow_up_number=0)
    split = index[["image_id", "patient_id"]].assign(split="test")
    return index, split, pd.DataFrame(label.astype(np.float32), columns=FINDINGS, index=ids)


def cases(folder, n):
    """Make the case table of n images and 60 runs of 14 findings, and write it, as notebook 11 does."""
    index, split, labels = cohort_index(n)
    predictions = predictions_like_a_run(index["image_id"].to_numpy(), 0)
    clock = Clock.started()
    table = case_tables.assemble(index, split, {"reports": labels}, FINDINGS)
    for k in range(RUNS_N):
        table = case_tables.add_predictions(table, f"{TARGET}-{NETWORK}-{k}", predictions)
    table.to_parquet(cases_path(folder, n), index=False, compression="zstd")
    return clock.stopped(n * RUNS_N * len(FINDINGS))


def cases_anchor(folder, n, runs_n=2):
    """Pivot the predictions of two runs by pandas alone, and write them."""
    index, _, _ = cohort_index(n)
    predictions = predictions_like_a_run(index["image_id"].to_numpy(), 0)
    clock = Clock.started()
    wide = [predictions.pivot(index="image_id", columns="finding", values="probability") for _ in range(runs_n)]
    pd.concat(wide, axis=1, keys=[str(k) for k in range(runs_n)]).to_parquet(folder / f"anchor_{n}.parquet")
    return clock.stopped(n * runs_n * len(FINDINGS))


def score(folder, n):
    """Score all runs of the case table by patient-clustered bootstrap, 14 findings each, on shared resamples."""
    clock = Clock.started()
    table = pd.read_parquet(cases_path(folder, n))
    resamples = resampling.patient_resamples(table["patient_id"], SCORED_RESAMPLES_N, np.random.default_rng(0))
    for key, finding in case_tables.runs_in(table):
        columns = case_tables.label("reports", finding), case_tables.probability(key, finding)
        accuracy.auc(*(table[column] for column in columns), resamples)
    return clock.stopped(n * RUNS_N * len(FINDINGS) * SCORED_RESAMPLES_N)


# Reports


def sentence_pool():
    """Return the sentences of simulated reports, in order, repeated as they are repeated there."""
    from cxrlib.reports import simulated_reports

    texts = simulated_reports.practice(WRITTEN_N, seed=0)
    return [s for text in texts for s in re.split(r"(?<=[.!?])\s+", text) if s]


def recombined(n, seed=0):
    """Yield n reports of seven sentences each; one sentence in five gets a length that makes it another one."""
    pool, rng = sentence_pool(), np.random.default_rng(seed)
    for _ in range(0, n, 1_000):
        rows = rng.integers(0, len(pool), (1_000, 7))
        lengths = np.where(rng.random(rows.shape) < 0.2, rng.integers(1, 400, rows.shape), 0)
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
            yield " ".join(f"{pool[i][:-1]}, {mm} mm." if mm else pool[i] for i, mm in zip(row, length, strict=True))


def reports_path(folder, n):
    """Return a CSV of n reports; how many texts and sentences occur twice is written beside it."""
    import csv

    path = folder / f"reports_{n}.csv"
    if not path.exists():
        texts, sentences, sentences_n = set(), set(), 0
        with open(path, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["report_id", "report"])
            for k, text in zip(range(n), recombined(n), strict=False):
                rows.writerow([f"R{k:07d}", text])
                texts.add(hash(text))
                parts = re.split(r"(?<=[.!?])\s+", text)
                sentences_n += len(parts)
                sentences.update(map(hash, parts))
        told = {"reports": n, "distinct_reports": len(texts), "sentences": sentences_n, "distinct": len(sentences)}
        path.with_suffix(".json").write_text(json.dumps(told))
    return path


def label(folder, n):
    """Label n reports by `cxr label`: a CSV of texts into a CSV of labels, on all cores."""
    from cxrlib.commands import label as command

    path = reports_path(folder, n)
    clock = Clock.started()
    assert command.main([str(path), "--out", str(folder / f"labels_{n}.csv"), "--force"]) == 0
    return clock.stopped(n)


def label_anchor(folder, n):
    """Look for a few words by regular expressions in pandas, a pattern a finding, without negation or evidence."""
    from cxrlib.labelers import lexicon, rules

    patterns = {}
    for finding in rules.LABELED_FINDINGS:
        if finding != "no_finding":
            phrases = lexicon.read_phrases(lexicon.PHRASES / "findings" / f"{finding}.txt", lexicon.FINDING_KINDS)
            plain = [re.escape(p).replace(r"\*", r"\w*") for p in phrases["present"] if "..." not in p]
            patterns[finding] = "|".join(plain).replace(r"\ ", " ")
    texts = pd.read_csv(reports_path(folder, n), nrows=20_000, dtype="str", engine="python")["report"].str.lower()
    texts = texts.astype(object)
    clock = Clock.started()
    for pattern in patterns.values():
        texts.str.contains(rf"\b(?:{pattern})\b", regex=True)
    return clock.stopped(len(texts))


STEPS = {
    "pack": (pack, pack_anchor, "images", "bare Pillow decoding, one core"),
    "train": (train, train_anchor, "training images", "plain torch loop over the memory map"),
    "steps": (steps, steps_anchor, "training images", "plain torch loop over the memory map"),
    "predict": (predict, predict_anchor, "images", "bare network over slices of the memory map"),
    "bootstrap": (bootstrap, bootstrap_anchor, "image findings resampled", "scikit-learn, row by row"),
    "label": (label, label_anchor, "reports", "pandas, a regular expression a finding"),
    "cases": (cases, cases_anchor, "predictions", "pandas pivot of two runs"),
    "score": (score, bootstrap_anchor, "image findings resampled", "scikit-learn, row by row"),
}


def one(step, part, folder, n):
    """Do a step, or its anchor, and return what was measured as a dict."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths.ROOT = folder
    return STEPS[step][part == "anchor"](folder, n)
