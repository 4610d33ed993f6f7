"""What feeding costs: epochs of training steps from the store against the same steps on one batch in memory."""

import tempfile
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from packing import measure, packed_pixels, show

from cxrlib.networks import architectures, losses
from cxrlib.networks.batches import StoreLoader, device

BATCH, FINDINGS_N = 64, 14
CASES = (("test_resnet", 64, 4096), ("resnet18", 128, 512))  # network, size in pixels, images in an epoch


def trainer(architecture):
    """Return a function that does one step a batch and returns how many images it saw."""
    network, _ = architectures.create_network(architecture, FINDINGS_N)
    network.to(device(), memory_format=torch.channels_last).train()
    loss = losses.MaskedBCE(np.ones(FINDINGS_N))
    optimizer = torch.optim.AdamW(network.parameters())

    def run(batches):
        images_n = 0
        for x, y in batches:
            value = loss(network(x.to(memory_format=torch.channels_last)), y)
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            images_n += len(x)
        value.item()  # waits for the device
        return images_n

    return run


def compare(architecture, size_px, images_n):
    """Return images/s of one case, fed in three ways."""
    what = f"{architecture}, {size_px} px"
    with tempfile.TemporaryDirectory() as folder:
        pixels = packed_pixels(Path(folder), size_px, images_n)
        rng = np.random.default_rng(0)
        feed = pixels, rng.permutation(images_n), rng.integers(0, 2, (images_n, FINDINGS_N)), BATCH
        plain, augmented = StoreLoader(*feed), StoreLoader(*feed, shuffle_seed=0, flip=True)
        batch = next(iter(plain))
        run = trainer(architecture)
        return measure(
            {
                f"{what}: one batch in memory": lambda: run(repeat(batch, len(plain))),
                f"{what}: StoreLoader": lambda: run(plain),
                f"{what}: StoreLoader, augmenting": lambda: run(augmented),
            },
            rounds=5,
        )


def main():
    rates, ratios = {}, {}
    for case in CASES:
        found = compare(*case)
        memory = next(iter(found.values()))
        rates |= found
        ratios |= {what: r / memory for what, r in found.items()}
    show(rates, ratios, "over the same network on one batch in memory")


if __name__ == "__main__":
    main()
