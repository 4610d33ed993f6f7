"""Batches of 64 images at 224 px: from the packed store, from torchxrayvision, from fastai's image files."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from packing import measure, packed_pixels, real_images, show

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before torchxrayvision)
from cxrlib.networks.batches import StoreLoader

# isort: split
import torchxrayvision as xrv
from fastai.vision.augment import Resize
from fastai.vision.core import PILImageBW
from fastai.vision.data import ImageDataLoaders
from torchvision.transforms import Compose

SIZE_PX, BATCH = 224, 64
STORE_N = 4096  # images in the store: 206 MB, more than a processor's caches
FILES_N = 384  # image files that one pass of the alternatives reads: 6 batches, 3 for each of 2 workers


def count(batches):
    return sum(len(images) for images in batches)


def torchxrayvision_loader(files):
    crop = Compose([xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(SIZE_PX)])
    dataset = xrv.datasets.NIH_Dataset(files[0].parent, views=["PA", "AP"], unique_patients=False, transform=crop)
    rows = np.flatnonzero(dataset.csv["Image Index"].isin([f.name for f in files]))
    return torch.utils.data.DataLoader(torch.utils.data.Subset(dataset, np.resize(rows, FILES_N)), BATCH)


def fastai_loader(files, workers_n):
    return ImageDataLoaders.from_path_func(
        files[0].parent,
        list(np.resize(files, FILES_N)),
        lambda file: file.name[:4],
        valid_pct=0,
        item_tfms=Resize(SIZE_PX),
        img_cls=PILImageBW,
        bs=BATCH,
        num_workers=workers_n,
    ).train


def main():
    files = real_images()
    with tempfile.TemporaryDirectory() as folder:
        pixels = packed_pixels(Path(folder), SIZE_PX, STORE_N)
        rows = np.random.default_rng(0).permutation(STORE_N)
        store = StoreLoader(pixels, rows, np.zeros((STORE_N, 14)), BATCH)
        xrv_loader = torchxrayvision_loader(files)
        in_process, with_workers = fastai_loader(files, 0), fastai_loader(files, 2)
        rates = measure(
            {
                "StoreLoader (float, normalised)": lambda: count(x for x, _ in store),
                "slices of the memory map (uint8)": lambda: count(pixels[part] for part in rows.reshape(-1, BATCH)),
                "torchxrayvision NIH_Dataset": lambda: count(sample["img"] for sample in xrv_loader),
                "fastai ImageDataLoaders": lambda: count(x for x, _ in in_process),
                "fastai ImageDataLoaders, 2 workers": lambda: count(x for x, _ in with_workers),
            }
        )
    ours = next(iter(rates.values()))
    show(rates, {what: ours / r for what, r in rates.items()}, "StoreLoader's images/s over this row's")


if __name__ == "__main__":
    main()
