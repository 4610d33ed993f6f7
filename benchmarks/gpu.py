"""What training costs on a GPU: the pipeline's own loop against a bare PyTorch loop on one batch in device memory.

Each network is trained for some hundred steps at full size, on a store of generated images: by the bare loop in
single precision, with channels-last memory, mixed precision and `torch.compile`, one after the other; by the pipeline
(`networks.training`: packed store, augmentation, fastai's Learner); and the batches are drawn alone. The table has
images a second, the ratio to the bare loop in the pipeline's own mode, and the batches' share of the pipeline's time.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --smoke

The first needs a GPU, and writes `results/benchmarks/gpu.csv`. The second needs none: it shows on a processor, with
tiny networks, that the script runs; its times mean nothing.
"""

import argparse
import contextlib
import datetime
import sys
import tempfile
import time
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxrlib.base import paths, whole_files
from cxrlib.cohorts import store
from cxrlib.networks import architectures, batches, training

# isort: split
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

OUT = paths.ROOT / "results" / "benchmarks" / "gpu.csv"
FINDINGS_N = 14


class Case(NamedTuple):
    """A network at a size, with images in a batch and steps."""

    architecture: str
    size_px: int
    batch_size: int
    steps: int


FULL = (
    Case("resnet50", 320, 64, 300),
    Case("densenet121", 320, 64, 300),
    Case("efficientnet_b3", 320, 64, 300),
    Case("resnet152", 320, 64, 300),
    Case("convnext_tiny", 224, 64, 300),
)
SMOKE = (Case("test_resnet", 32, 8, 3), Case("test_convnext", 32, 8, 3))


class Mode(NamedTuple):
    """How the bare loop computes."""

    precision: str  # float32, float16 or bfloat16
    channels_last: bool = False
    compiled: bool = False


OURS = Mode("float16", channels_last=True)  # as `training.train` computes on CUDA
MODES = (Mode("float32"), Mode("float32", True), Mode("float16"), OURS, Mode("bfloat16", True))
COMPILED = Mode("float16", channels_last=True, compiled=True)


def generated(folder, case):
    """Return a store of noise, images for one pass of half the steps and one batch to validate, and its target."""
    images_n = case.batch_size * (max(case.steps // 2, 1) + 1)
    pixels = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (images_n, case.size_px, case.size_px))
    rng = np.random.default_rng(0)
    for start in range(0, images_n, case.batch_size):
        pixels[start : start + case.batch_size] = rng.integers(0, 256, (1, case.size_px, case.size_px), np.uint8)
    pixels.flush()
    ids = [f"{k:06d}" for k in range(images_n)]
    target = pd.DataFrame(
        {"image_id": ids, "split": ["valid"] * case.batch_size + ["train"] * (images_n - case.batch_size)}
    )
    for k in range(FINDINGS_N):
        target[f"finding_{k}"] = np.float32(rng.random(images_n) < 0.5)
    index, empty = pd.DataFrame({"image_id": ids, "sha256": "none"}), pd.DataFrame({"image_id": []})
    return store.Store("generated", index, np.load(folder / "images.npy", mmap_mode="r"), empty, None, empty), target


def synchronised():
    """Return the time at which the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def bare(case, mode):
    """Return images/s of a plain training loop on one batch that lies on the device."""
    device = batches.device()
    torch.manual_seed(0)
    network, _ = architectures.create_network(case.architecture, FINDINGS_N)
    layout = torch.channels_last if mode.channels_last else torch.contiguous_format
    network = network.to(device, memory_format=layout).train()
    x = torch.randn(case.batch_size, 1, case.size_px, case.size_px, device=device).to(memory_format=layout)
    y = torch.randint(0, 2, (case.batch_size, FINDINGS_N), device=device).float()
    optimizer = torch.optim.AdamW(network.parameters())
    scaler = torch.amp.GradScaler(device.type, enabled=mode.precision == "float16" and device.type == "cuda")
    forward = torch.compile(network) if mode.compiled else network
    dtype = getattr(torch, mode.precision)
    mixed = torch.autocast(device.type, dtype) if dtype != torch.float32 else contextlib.nullcontext()
    warm_up, start = max(case.steps // 10, 1), None
    for k, _ in enumerate(repeat(None, warm_up + case.steps)):
        if k == warm_up:
            start = synchronised()
        with mixed:
            loss = binary_cross_entropy_with_logits(forward(x).float(), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return case.steps * case.batch_size / (synchronised() - start)


def ours(case, folder):
    """Return images/s of the pipeline's training, of its second epoch, and of its batches drawn alone."""
    packed, target = generated(folder, case)
    settings = training.TrainingSettings(
        case.architecture, "none", 2, case.batch_size, 1e-3, 0.05, "none", flip=True, seed=1
    )
    findings = [name for name in target if name.startswith("finding_")]
    trained = training.train(packed, target, findings, settings, folder / "work")
    rows = packed.rows(target["image_id"][target["split"] == "train"])
    loader = batches.StoreLoader(packed.images, rows, np.zeros((len(rows), 1)), case.batch_size, 1, flip=True)
    next(iter(loader))
    start = synchronised()
    for _ in loader:
        pass
    alone = len(rows) / (synchronised() - start)
    return float(trained.history["images_per_second"].iloc[-1]), alone


def measured(case, modes):
    """Return the rows of one network."""
    rates = {mode: bare(case, mode) for mode in modes}
    rows = [{"loop": "bare", **mode._asdict(), "images_per_second": rate} for mode, rate in rates.items()]
    with tempfile.TemporaryDirectory() as folder:
        trained, alone = ours(case, Path(folder))
    own = OURS._asdict()
    rows.append({"loop": "ours", **own, "images_per_second": trained, "loader_share": trained / alone})
    rows.append({"loop": "batches alone", **own, "images_per_second": alone})
    same = rates.get(OURS, rates[modes[-1]])  # without a GPU there is no float16
    told = {"device": batches.device_name(), "torch": torch.__version__, "date": datetime.date.today().isoformat()}
    return [{**case._asdict(), **row, "ratio_to_bare": row["images_per_second"] / same, **told} for row in rows]


def main(arguments=None):
    """Measure all networks and write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny networks on whatever device there is")
    parser.add_argument("--networks", nargs="*", help="only these of the five")
    parser.add_argument("--batch-size", type=int, help="images in a batch instead of 64")
    parser.add_argument("--out", type=Path, help=f"where the table goes, by default {OUT.relative_to(paths.ROOT)}")
    chosen = parser.parse_args(arguments)
    if not (chosen.smoke or torch.cuda.is_available()):
        print(
            "PyTorch finds no GPU here, so nothing was measured: see docs/guides/gpu.md, or try --smoke.",
            file=sys.stderr,
        )
        return 2
    modes = (
        (*MODES, COMPILED) if torch.cuda.is_available() else (Mode("float32"), OURS._replace(precision="bfloat16"))
    )
    rows = []
    for case in SMOKE if chosen.smoke else FULL:
        if chosen.networks and case.architecture not in chosen.networks:
            continue
        rows += measured(case._replace(batch_size=chosen.batch_size or case.batch_size), modes)
        print(pd.DataFrame(rows).tail(len(modes) + 2).round(3).to_string(), flush=True)
    out = chosen.out or (None if chosen.smoke else OUT)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        whole_files.write_text(out, pd.DataFrame(rows).round(4).to_csv(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
