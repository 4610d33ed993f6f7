"""Short trainings of image networks on anything that a report gives: topics, words, findings, the text itself.

`cxrlib.networks.training` trains the runs of an edition: validation, checkpoints, curves. A study of an archive
trains some hundred small networks instead, whose loss differs and whose length is set. They share networks and
batches: AdamW on a one-cycle schedule (Smith and Topin 2019), an order of images that hangs on seed and epoch alone.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cxrlib.networks import architectures, batches


@dataclass(frozen=True)
class ShortSettings:
    """What fixes a short training besides its images, its loss and its seed.

    Attributes
    ----------
    architecture : str
        A timm network by name.
    epochs : int
        Passes through the training images.
    batch_size : int
    learning_rate : float
        Peak of the one-cycle schedule.
    tuning_rate : float
        The same where a network starts from another one's weights.
    least_images : int
        How many images a training sees at least, repeats counted: few images are seen in more epochs.
    weight_decay : float
    augment : bool
        Rotation, zoom and lighting, as the runs have it, but no flips: reports say left and right.
    pretrained : {"auto", "none"}
        See `architectures.create_network`.
    """

    architecture: str
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 0.004
    tuning_rate: float = 0.002
    least_images: int = 1280
    weight_decay: float = 0.05
    augment: bool = False
    pretrained: str = "none"


def shrunk(images, size_px=None, block_n=4096):
    """Return a store's images at a smaller size, each pixel the mean of a square of pixels.

    Parameters
    ----------
    images : (n, side, side) uint8
    size_px : int, optional
        A whole fraction of `side`; if not given, or `side` itself, the images come back as they are.
    block_n : int
        Images at a time.

    Returns
    -------
    (n, size_px, size_px) uint8

    Raises
    ------
    ValueError
        If the size is no whole fraction.
    """
    side = images.shape[1]
    if size_px in (None, side):
        return images
    if size_px < 1 or side % size_px:
        raise ValueError(f"Images of {side} px cannot be shrunk to {size_px}: give {side} over a whole number.")
    n, factor = len(images), side // size_px
    out = np.empty((n, size_px, size_px), np.uint8)
    for k in range(0, n, block_n):
        part = np.asarray(images[k : k + block_n], np.float32)
        out[k : k + block_n] = part.reshape(-1, size_px, factor, size_px, factor).mean((2, 4)).round()
    return out


def new_network(settings, outputs_n, seed, start=None):
    """Return a network with so many outputs, from a seed or from another network's weights.

    Parameters
    ----------
    settings : ShortSettings
    outputs_n : int
    seed : int
        The generator of the caller stays as it was.
    start : torch.nn.Module, optional
        Of the same architecture; all its weights are taken but those of its last layer.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, _ = architectures.create_network(settings.architecture, outputs_n, settings.pretrained)
    if start is not None:
        head = tuple(f"{name}." for name, part in network.named_modules() if part is network.get_classifier())
        body = {k: v.detach().cpu() for k, v in start.state_dict().items() if not k.startswith(head)}
        network.load_state_dict(body, strict=False)
    return network.to(batches.device(), memory_format=torch.channels_last)


def learn(network, images, rows, loss, settings, seed, *, also=(), tuned=False, epochs=None):
    """Train a network in place and return the mean loss of each epoch.

    Parameters
    ----------
    network : torch.nn.Module
        Of (b, 1, side, side) float32 images, on `batches.device()`.
    images : (n, side, side) uint8
    rows : (m,) int
        Which images; two or more.
    loss : Callable
        Of the network's output (b, k) float32 and of the positions among `rows` (b,) int64, a scalar tensor.
    settings : ShortSettings
    seed : int
        Of the order of images, and of what augmentation and dropout draw.
    also : sequence of torch.nn.Module
        What else learns: the loss uses it.
    tuned : bool
        Whether the network starts from another one's weights: `tuning_rate` instead of `learning_rate`.
    epochs : int, optional
        Just so many, instead of the settings' and of `least_images`.

    Returns
    -------
    list of float

    Raises
    ------
    ValueError
        If there are fewer than two images.
    RuntimeError
        If the loss is not finite.
    """
    rows = np.asarray(rows)
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} images to learn from: two or more are needed.")
    batch = min(settings.batch_size, len(rows))
    a_pass = len(rows) // batch
    epochs = epochs or max(settings.epochs, -(-settings.least_images // (a_pass * batch)))
    loader = batches.StoreLoader(images, rows, np.arange(len(rows))[:, None], batch, seed)
    if not settings.augment:
        loader.augment = []
    parameters = [p for module in (network, *also) for p in module.parameters() if p.requires_grad]
    rate = settings.tuning_rate if tuned else settings.learning_rate
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=settings.weight_decay)
    steps = max(epochs * a_pass + 1, 8)  # with fewer the schedule would have a phase of no step, and divide by it
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.25)
    history = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network.train()
        for loader.epoch in range(epochs):
            history.append(_epoch(network, loader, loss, optimizer, schedule))
    if not np.isfinite(history).all():
        raise RuntimeError(f"The loss of epoch {int(np.argmin(np.isfinite(history)))} is not finite: lower the rate.")
    network.eval()
    return history


def _epoch(network, loader, loss, optimizer, schedule):
    """Pass once through the images; return the mean loss."""
    total = 0.0
    for x, which in loader:
        value = loss(_passed(network, x), which[:, 0].long())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        total += value.item()
    return total / len(loader)


def _passed(network, x):
    """Return a network's output in float32; bfloat16 inside on CUDA."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
        return network(x.to(memory_format=torch.channels_last)).float()


@torch.no_grad()
def outputs(network, images, rows, batch_size=256):
    """Return what a network makes of images, (len(rows), k) float32, without any function over it."""
    network.eval()
    loader = batches.StoreLoader(images, rows, np.zeros((len(rows), 1)), batch_size)
    parts = [_passed(network, x).cpu() for x, _ in loader]
    return torch.cat(parts).numpy() if parts else np.zeros((0, network.num_classes), np.float32)
