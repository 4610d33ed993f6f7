"""Batches of a packed cohort: sliced from the memory map, augmented on the device."""

import numpy as np
import torch
from torch.nn.functional import interpolate

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split
from fastai.data.load import DataLoader
from fastai.torch_core import TensorImage
from fastai.vision.augment import RandTransform, aug_transforms

from cxrlib.networks import processes

PIXEL_MEAN, PIXEL_STD = 0.5, 0.25  # of pixels in [0, 1]


def device():
    """Return the device that training uses: CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name():
    """Return what the device is called, for the run record."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


class StoreLoader(DataLoader):
    """Batches of a packed cohort: sliced from the memory map, moved once, augmented on the device.

    The order of an epoch depends on seed and epoch alone, so that an interrupted run resumes with the
    batches it would have had.

    Parameters
    ----------
    images : (n, size_px, size_px) uint8, memory-mapped
    rows : (m,) int
        Which images.
    labels : (m, findings_n) float32
        1, 0 or NaN.
    batch_size : int
    shuffle_seed : int or None
        None keeps the order and augments nothing.
    flip : bool
    size_px : int, optional
        Side to which images are brought on the device (bilinear, antialiased); as they are if not given.
    shared : bool
        Whether the processes that train together share each batch: x is then this process's share, y of the whole
        batch. What is drawn for an image is the same whoever has it.
    """

    def __init__(self, images, rows, labels, batch_size, shuffle_seed=None, flip=False, size_px=None, shared=False):
        self.size_px, self.shared = size_px, shared and processes.count() > 1
        self.images, self.rows, self.shuffle_seed, self.epoch = images, np.asarray(rows), shuffle_seed, 0
        self.labels = torch.as_tensor(np.array(labels, np.float32))
        self.to_device = device()
        training = shuffle_seed is not None
        self.augment = (
            aug_transforms(
                do_flip=flip,
                max_rotate=7.0,
                min_zoom=0.95,
                max_zoom=1.1,
                max_lighting=0.2,
                max_warp=0.0,
                pad_mode="zeros",
            )
            if training
            else []
        )
        super().__init__(self.rows, bs=batch_size, shuffle=training, drop_last=training, device=self.to_device)

    def shuffle_fn(self, idxs):
        """Return this epoch's order."""
        return np.random.default_rng((self.shuffle_seed, self.epoch)).permutation(len(self.rows)).tolist()

    def create_batches(self, samples):
        """Yield `(x, y)` on the device: x (b, 1, size_px, size_px) float32, y (b, findings_n) float32."""
        samples = np.fromiter(samples, int)
        size = self.bs if self.bs else 1
        stop = len(samples) - len(samples) % size if self.drop_last and len(samples) >= size else len(samples)
        for start in range(0, stop, size):
            chosen = samples[start : start + size]
            mine = processes.share(len(chosen)) if self.shared else slice(None)
            batch = torch.from_numpy(np.asarray(self.images[self.rows[chosen[mine]]])).unsqueeze(1)
            if self.to_device.type == "cuda":
                batch = batch.pin_memory().to(self.to_device, non_blocking=True)
            batch = batch.float().div_(255)
            if self.size_px not in (None, batch.shape[-1]):
                batch = interpolate(batch, (self.size_px, self.size_px), mode="bilinear", antialias=True)
            x = TensorImage(batch)
            for transform in self.augment:
                x = _share_of(transform, x, len(chosen), mine) if self.shared else transform(x, split_idx=0)
            x = (torch.Tensor(x).clamp_(0, 1) - PIXEL_MEAN) / PIXEL_STD
            yield x.as_subclass(torch.Tensor), self.labels[torch.from_numpy(chosen)].to(self.to_device)

    def __iter__(self):
        """Iterate over one epoch."""
        yield from self.create_batches(self.get_idxs())

    def __len__(self):
        """Return the number of batches."""
        n = len(self.rows)
        return n // self.bs if self.drop_last and n >= self.bs else -(-n // self.bs)


def _share_of(transform, x, whole_n, mine):
    """Return a share of a batch as fastai's transform makes it of the whole batch, for which it draws."""
    transform.before_call(x[:1].expand(whole_n, -1, -1, -1), split_idx=0)
    for each in (transform, *getattr(transform, "fs", ())):
        for drawn in ("mat", "change"):  # of rotations, zooms and flips; of brightness and contrast
            if hasattr(each, drawn):
                setattr(each, drawn, getattr(each, drawn)[mine])
    return super(RandTransform, transform).__call__(x, split_idx=0)
