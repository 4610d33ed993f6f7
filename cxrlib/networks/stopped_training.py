"""Fine-tuning of small networks until validation AUC no longer rises, as many runs as a dose-response study needs.

AdamW at a constant rate after a warm-up. What is validated and kept is the moving average of the weights (Polyak and
Juditsky, SIAM J Control Optim 1992;30:838; exponential here), whose course is smooth, so that the choice of an epoch
is a choice on a plateau and not of a lucky step. Training and validation labels come from the same hand.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from cxrlib.networks import batches
from cxrlib.statistics import accuracy


@dataclass(frozen=True)
class StoppedSettings:
    """What fixes a training besides its images, labels, first weights and seed.

    Attributes
    ----------
    batch_size : int
    learning_rate : float
    weight_decay : float
    warm_up : int
        Steps in which the rate rises.
    averaged : int
        Steps over which weights are averaged.
    every : int
        Steps from one validation to the next.
    least_steps : int
        Steps before the first validation that can be chosen.
    patience : int
        Steps without a higher validation AUC after which a training ends.
    most_steps : int
        Steps at which it ends in any case; a run that gets here has not converged.
    shift_px : int
        A batch moves by up to so many pixels either way; images are mirrored at random too.
    """

    batch_size: int
    learning_rate: float
    weight_decay: float
    warm_up: int
    averaged: int
    every: int
    least_steps: int
    patience: int
    most_steps: int
    shift_px: int


@dataclass(frozen=True)
class Stopped:
    """A training that has ended.

    Attributes
    ----------
    network : torch.nn.Module
        As it was at the chosen step, ready to predict.
    steps, valid_loss, valid_auc : (k,) array
        Of each validation, from the first one on.
    chosen_step : int
    converged : bool
        Whether it ended because validation AUC no longer rose.
    """

    network: nn.Module
    steps: np.ndarray
    valid_loss: np.ndarray
    valid_auc: np.ndarray
    chosen_step: int
    converged: bool


def tensor(images):
    """Return images (n, side, side) uint8 as what networks take, (n, 1, side, side) float32, on the device."""
    x = torch.from_numpy(np.asarray(images)).unsqueeze(1).float().div_(255)
    x = (x - batches.PIXEL_MEAN) / batches.PIXEL_STD
    return x.to(batches.device(), memory_format=torch.channels_last)


@torch.no_grad()
def logits(network, x, batch_size=500):
    """Return the logits of a network with one output, (n,) float32, of images as `tensor` returns them."""
    network.eval()
    return torch.cat([network(part)[:, 0].float().cpu() for part in x.split(batch_size)]).numpy()


class _Average:
    """The moving average of a network's weights and running statistics."""

    def __init__(self, network, steps):
        self.network, self._decay, self._seen = copy.deepcopy(network), 1 - 1 / steps, 0
        self._pairs = [
            [t.detach() for t in (*each.parameters(), *each.buffers()) if t.is_floating_point()]
            for each in (self.network, network)
        ]

    def update(self):
        """Take in the network as it is now; the first steps count alike."""
        self._seen += 1
        torch._foreach_lerp_(*self._pairs, 1 - min(self._decay, 1 - 1 / self._seen))


class _Batches:
    """Batches in an order that hangs on the seed alone, mirrored and moved at random."""

    def __init__(self, images_n, settings, seed):
        self._n, self._settings, self._left = images_n, settings, np.empty(0, int)
        self._rng = np.random.default_rng((seed, 61))

    def rows(self):
        """Return the next rows; every image comes once before any comes again, in one order or the next."""
        size = min(self._settings.batch_size, self._n)
        if len(self._left) < size:
            self._left = np.concatenate([self._left, self._rng.permutation(self._n)])
        rows, self._left = self._left[:size], self._left[size:]
        return torch.from_numpy(rows)

    def augmented(self, x):
        """Return images mirrored one by one and moved together."""
        mirrored = torch.from_numpy(self._rng.random((len(x), 1, 1, 1)) < 0.5).to(x.device)
        moved = self._rng.integers(-self._settings.shift_px, self._settings.shift_px, 2, endpoint=True)
        return torch.roll(torch.where(mirrored, x.flip(-1), x), moved.tolist(), (2, 3))


def fine_tune(network, x, label, valid_x, valid_label, settings, seed):
    """Train a network until its validation AUC no longer rises; return it as it was at the best step.

    Parameters
    ----------
    network : torch.nn.Module
        With one output and any weights to start from, on the device; it is changed.
    x, valid_x : (n, 1, side, side) float32
        As `tensor` returns it.
    label, valid_label : (n,) array of 0/1
    settings : StoppedSettings
    seed : int
        Of the order of images and their augmentation.

    Returns
    -------
    Stopped

    Raises
    ------
    ValueError
        If training or validation labels have one class alone.
    RuntimeError
        If the validation loss is not finite.
    """
    for name, values in (("training", label), ("validation", valid_label)):
        if len(np.unique(values)) < 2:
            raise ValueError(f"All {len(values)} {name} labels are {values[0]:g}: take more images.")
    y = torch.as_tensor(np.float32(label), device=x.device)
    average, order = _Average(network, settings.averaged), _Batches(len(x), settings, seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    best, course, step = (-np.inf, 0, None), [], 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of dropout, where a network has it
        while step < settings.most_steps and step - max(best[1], settings.least_steps) < settings.patience:
            network.train()
            for _ in range(settings.every):
                rows = order.rows().to(x.device)
                optimizer.param_groups[0]["lr"] = settings.learning_rate * min(1, (step + 1) / settings.warm_up)
                loss = binary_cross_entropy_with_logits(network(order.augmented(x[rows]))[:, 0].float(), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                average.update()
                step += 1
            valid_loss, area = _validated(average.network, valid_x, valid_label)
            course.append((step, valid_loss, area))
            if step >= settings.least_steps and area > best[0]:
                best = area, step, copy.deepcopy(average.network.state_dict())
    average.network.load_state_dict(best[2])
    steps, losses, areas = (np.array(values) for values in zip(*course, strict=True))
    return Stopped(average.network.eval(), steps, losses, areas, best[1], step - best[1] >= settings.patience)


def _validated(network, x, label):
    """Return the loss and the AUC on validation images."""
    found = logits(network, x)
    loss = float(np.mean(np.logaddexp(0, found) - label * found))
    if not np.isfinite(loss):
        raise RuntimeError("The validation loss is not finite: lower the learning rate.")
    return loss, accuracy.auc(label, found)
