"""What study 5 costs on ChestX-ray14: some steps of its network on a store of 112,120 rows of generated pixels.

Writes the store (11.5 GB at 320 px) into a folder and keeps it, trains with the pipeline's own code on as many images
as asked for, taken from all over the store, and on one batch in memory; says what a run and the study would take.
"""

import argparse
import resource
import tempfile
import time
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlib.base import editions, vocabulary
from cxrlib.cohorts import store
from cxrlib.networks import batches, training

# isort: split
import torch

ROWS_N, TRAIN_N, VALID_N, TEST_N = 112_120, 77_872, 8_652, 25_596  # of the official split, a tenth for validation
FINDINGS = list(vocabulary.NIH_FINDINGS.values())


def generated_store(folder, rows_n, size_px):
    """Return a store of so many rows of noise; written once."""
    path = folder / f"images_{rows_n}_{size_px}.npy"
    if not path.exists():
        part = path.with_suffix(".part")
        pixels = np.lib.format.open_memmap(part, "w+", np.uint8, (rows_n, size_px, size_px))
        block = np.random.default_rng(0).integers(0, 256, (512, size_px, size_px), np.uint8)
        for start in range(0, rows_n, len(block)):
            pixels[start : start + len(block)] = np.roll(block, start % size_px, axis=2)[: rows_n - start]
        pixels.flush()
        part.rename(path)
    ids = [f"{k:08d}_000.png" for k in range(rows_n)]
    index = pd.DataFrame({"image_id": ids, "patient_id": ids, "sha256": "none"})
    empty = pd.DataFrame({"image_id": []})
    return store.Store("generated", index, np.load(path, mmap_mode="r"), empty, None, empty)


def targets_of(index, images_n, valid_n):
    """Return a target of random labels, its images taken from all over the store."""
    rng = np.random.default_rng(1)
    rows = rng.permutation(len(index))[: images_n + valid_n]
    table = pd.DataFrame({"image_id": index["image_id"].to_numpy()[rows]})
    table["split"] = ["train"] * images_n + ["valid"] * valid_n
    for finding in FINDINGS:
        table[finding] = np.float32(rng.random(len(rows)) < 0.5)
    return table


def in_memory(packed, settings, steps):
    """Return images/s of the same step on one batch in memory, without augmentation."""
    device = batches.device()
    network, _ = training.untrained_network(settings, FINDINGS)
    network.to(device, memory_format=torch.channels_last).train()
    loss = training.loss_of(settings, np.ones((2, len(FINDINGS)), np.float32)).to(device)
    loader = batches.StoreLoader(
        packed.images,
        np.arange(settings.batch_size),
        np.zeros((settings.batch_size, 14)),
        settings.batch_size,
        size_px=settings.train_px,
    )
    x, y = next(iter(loader))
    x, optimizer = x.to(memory_format=torch.channels_last), torch.optim.AdamW(network.parameters())
    start = None
    for k, _ in enumerate(repeat(None, steps + 1)):
        if k == 1:  # the first step is a warm-up
            start = _now(device)
        with torch.autocast(
            device.type, torch.float16 if device.type == "cuda" else torch.bfloat16, enabled=device.type == "cuda"
        ):
            value = loss(network(x), y)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    return steps * settings.batch_size / (_now(device) - start)


def _now(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "chestxray14_generated")
    parser.add_argument("--rows", type=int, default=ROWS_N)
    parser.add_argument("--steps", type=int, default=20, help="of training, in one epoch")
    parser.add_argument("--batch", type=int, default=None, help="images a step; as edition nih has it if not given")
    options = parser.parse_args()
    edition = editions.compose("nih")
    target = edition["targets"]["metric_dual"]
    how = {**edition["training"], **target["training"], "epochs": 1, "pretrained": "none", "encoder": "minilm"}
    how["batch_size"] = options.batch or how["batch_size"]
    settings = training.TrainingSettings(architecture=edition["metric"]["architecture"], seed=1, **how)
    options.folder.mkdir(parents=True, exist_ok=True)
    packed = generated_store(options.folder, options.rows, edition["size_px"])
    images_n = options.steps * settings.batch_size
    work = Path(tempfile.mkdtemp(dir=options.folder))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trained = training.train(
        packed, targets_of(packed.index, images_n, settings.batch_size), FINDINGS, settings, work
    )
    checkpoint = sum(file.stat().st_size for file in work.glob("*.pt")) / 2**20
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    fed, alone = trained.images_per_second, in_memory(packed, settings, max(2, options.steps // 4))
    name = f"{settings.architecture}, {settings.train_px} px, batch {settings.batch_size}, loss {settings.loss}"
    print(f"{name}, on {batches.device_name()}; store of {options.rows:,} rows at {edition['size_px']} px")
    print(f"from the store, augmented: {fed:.1f} images/s; one batch in memory: {alone:.1f}; ratio {fed / alone:.2f}")
    print(f"checkpoint and best network: {checkpoint:.0f} MiB; process at most {memory:.1f} GiB (with mapped pages)")
    if torch.cuda.is_available():
        print(f"GPU memory at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    epochs = target["training"]["epochs"]
    hours = (
        (epochs * (TRAIN_N + VALID_N / 3) + (ROWS_N - TRAIN_N) / 3) / fed / 3600
    )  # a forward pass: a third of a step
    planned = edition["runs"]["metric"]
    runs_n = len(planned["targets"]) * len(planned["architectures"]) * len(planned["seeds"])
    print(
        f"a run of {epochs} epochs: {hours:.1f} hours; {runs_n} networks of study 5: {runs_n * hours / 24:.1f} days"
    )


if __name__ == "__main__":
    main()
