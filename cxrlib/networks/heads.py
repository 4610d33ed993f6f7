"""Heads over an image's vector: linear, cosine, and the metric head whose classes are prototypes.

A head can stand on any timm network (`Headed`) or be trained alone on stored vectors (`fit`), which takes a second,
so that losses can be compared over seeds and over a real search of the learning rate.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cxrlib.networks import batches, losses


class CosineHead(nn.Module):
    """Logits that are `scale` times the cosine of an image's vector and a finding's weights (Cao et al. 2019)."""

    def __init__(self, features_n, findings_n, scale=losses.LDAM.scale):
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.randn(findings_n, features_n)), scale

    def forward(self, vector):
        """Return logits (b, f) of vectors (b, d)."""
        return self.scale * F.normalize(vector.float(), dim=1) @ F.normalize(self.weight, dim=1).T


class PrototypeHead(nn.Module):
    """Images and findings in one metric space: a finding is near if its prototype is.

    The image's vector is mapped linearly to k numbers. With d the squared distance from a prototype, the logit is
    scale * (radius - d); the scale is one number, the radius one a finding, and both are learned.

    Parameters
    ----------
    features_n : int
        Of the image's vector.
    prototypes : (f, k) float
        A vector for each finding (`name_vectors.space`); brought to length 1.
    tuned : bool
        Whether prototypes are learned on from where they start. They are fixed otherwise.
    sphere : bool
        Whether images are brought to length 1 too, so that distances are angles.
    cosine : bool
        Whether the output is the cosine itself, for losses of ranks; implies `sphere`.
    """

    def __init__(self, features_n, prototypes, tuned=False, sphere=False, cosine=False):
        super().__init__()
        prototypes = torch.as_tensor(np.array(prototypes), dtype=torch.float32)
        self.project, self.sphere, self.cosine = nn.Linear(features_n, prototypes.shape[1]), sphere or cosine, cosine
        self.prototypes = nn.Parameter(F.normalize(prototypes, dim=1), requires_grad=tuned)
        if not cosine:
            self.log_scale = nn.Parameter(torch.tensor(math.log(4.0)))
            self.radius = nn.Parameter(torch.ones(len(prototypes)))

    def embed(self, vector):
        """Return where images lie in the space, (b, k) float32."""
        point = self.project(vector).float()
        return F.normalize(point, dim=1) if self.sphere else point

    def distances(self, vector, prototypes=None):
        """Return the squared distances of images and prototypes, (b, f) float32, or those of other prototypes."""
        return squared_distances(self.embed(vector), self.prototypes if prototypes is None else prototypes)

    def forward(self, vector):
        """Return logits (b, f), or cosines, of vectors (b, d)."""
        distance = self.distances(vector)
        return 1 - distance / 2 if self.cosine else self.log_scale.exp() * (self.radius - distance)


def squared_distances(points, prototypes):
    """Return `|v - p|^2` of points (b, k) and of prototypes (f, k) brought to length 1, (b, f)."""
    return points.square().sum(1, keepdim=True) + 1 - 2 * points @ F.normalize(prototypes, dim=1).T


HEADS = ("linear", "cosine", "prototype", "prototype sphere", "prototype cosine")


def create_head(kind, features_n, findings_n, prototypes=None, tuned=False, prevalence=None):
    """Return a head by its kind, from torch's generator.

    Parameters
    ----------
    kind : {"linear", "cosine", "prototype", "prototype sphere", "prototype cosine"}
    features_n, findings_n : int
    prototypes : (findings_n, k) float, optional
        Of the last three kinds.
    tuned : bool
    prevalence : (findings_n,) float, optional
        Where a linear head starts: without a look at the image it gives this probability, and 0.5 if not given.

    Raises
    ------
    ValueError
        If the kind is unknown, or prototypes are missing or not one a finding.
    """
    if kind not in HEADS:
        raise ValueError(f"head {kind!r} is none of {', '.join(HEADS)}.")
    if kind.startswith("prototype"):
        if prototypes is None or len(prototypes) != findings_n:
            have = "none" if prototypes is None else str(len(prototypes))
            raise ValueError(f"{findings_n} findings and {have} prototypes: give one a finding.")
        return PrototypeHead(features_n, prototypes, tuned, **{kind.split()[1]: True} if " " in kind else {})
    if kind == "cosine":
        return CosineHead(features_n, findings_n)
    head = nn.Linear(features_n, findings_n)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    if prevalence is not None:
        with torch.no_grad():
            head.bias.copy_(torch.logit(torch.as_tensor(prevalence), eps=1e-4))
    return head


class Headed(nn.Module):
    """A timm network without its classifier, and a head over its vectors.

    Parameters
    ----------
    body : torch.nn.Module
        With `num_classes=0`: (b, 1, side, side) to (b, d).
    head : torch.nn.Module
        (b, d) to (b, f).
    """

    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head
        self.feature_info = [{**info, "module": f"body.{info['module']}"} for info in body.feature_info]

    def forward(self, x):
        """Return logits (b, f) of images (b, 1, side, side)."""
        return self.head(self.body(x))

    def get_classifier(self):
        """Return the head, as timm's networks return theirs."""
        return self.head


@torch.no_grad()
def image_vectors(network, images, rows, size_px=None, batch_size=256):
    """Return what a timm network makes of images before its classifier, (len(rows), d) float32.

    Parameters
    ----------
    network : torch.nn.Module
    images : (n, side, side) uint8
    rows : (m,) int
    size_px, batch_size : int, optional
        See `batches.StoreLoader`.
    """
    network.to(batches.device()).eval()
    loader = batches.StoreLoader(images, rows, np.zeros((len(rows), 1)), batch_size, size_px=size_px)
    parts = [network.forward_head(network.forward_features(x), pre_logits=True).float().cpu() for x, _ in loader]
    return torch.cat(parts).numpy()


@dataclass(frozen=True)
class FitSettings:
    """What fixes the training of a head besides vectors, labels, loss and learning rate.

    Attributes
    ----------
    epochs, batch_size : int
    weight_decay : float
        Of the head; what the loss learns has none.
    """

    epochs: int
    batch_size: int
    weight_decay: float


def fit(head, loss, vectors, labels, settings, learning_rate, seed):
    """Train a head on vectors in place, and return its mean loss in each epoch.

    AdamW; the rate rises over a tenth of the steps and falls as a cosine.

    Parameters
    ----------
    head : torch.nn.Module
    loss : torch.nn.Module
        Of `losses`.
    vectors : (n, d) float32
    labels : (n, f) float32
        1, 0, NaN.
    settings : FitSettings
    learning_rate : float
    seed : int
        Of the order of images.

    Returns
    -------
    list of float

    Raises
    ------
    RuntimeError
        If the loss is not finite.
    """
    x = torch.as_tensor(np.asarray(vectors, np.float32), device=batches.device())
    y = torch.as_tensor(losses.checked_labels(labels).copy(), device=batches.device())
    head.to(x.device).train(), loss.to(x.device).train()
    batch = min(settings.batch_size, len(x))
    a_pass = len(x) // batch
    steps, step, history = settings.epochs * a_pass, 0, []
    groups = [{"params": [p for p in head.parameters() if p.requires_grad], "weight_decay": settings.weight_decay}]
    groups += [{"params": list(loss.parameters()), "weight_decay": 0.0}] if list(loss.parameters()) else []
    optimizer = torch.optim.AdamW(groups, learning_rate, fused=True)
    rng = np.random.default_rng((seed, 23))
    for _ in range(settings.epochs):
        order, total = torch.as_tensor(rng.permutation(len(x)), device=x.device), 0.0
        for k in range(a_pass):
            done = step / steps
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * min((done + 1 / steps) / 0.1, (1 + math.cos(math.pi * done)) / 2)
            loss.progress = done
            at = order[k * batch : (k + 1) * batch]
            value = loss(head(x[at]), y[at])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            total += value.detach()
            step += 1
        history.append(float(total) / a_pass)
    if not np.isfinite(history).all():
        raise RuntimeError(f"The loss of epoch {int(np.argmin(np.isfinite(history)))} is not finite: lower the rate.")
    head.eval()
    return history


@torch.no_grad()
def scores(head, vectors):
    """Return what a head gives vectors, (n, f) float32: logits, or cosines."""
    x = torch.as_tensor(np.asarray(vectors, np.float32), device=batches.device())
    return head(x).float().cpu().numpy()
