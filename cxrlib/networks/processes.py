"""Several processes that train one network together: their shares, and what they made, in order and unpadded.

A launcher (`cxrlib.networks.launching`, torchrun) starts the processes and tells each its place;
`joined` lets it in. Every process takes its share of each batch, and sees the loss of the whole batch, so that the
number of processes changes neither the effective batch nor the schedule. Alone, a process is a group of one, and
nothing here costs anything.
"""

import contextlib
import os

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


def rank():
    """Return which process this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count():
    """Return how many processes work together, 1 if this one is alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextlib.contextmanager
def joined():
    """Join the processes that a launcher has started: by NCCL with a GPU each, by gloo on processors.

    Without a launcher this process is alone.

    Raises
    ------
    ValueError
        If this machine has GPUs, but fewer than processes.
    """
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    local = int(os.environ["LOCAL_RANK"])
    gpus_n = torch.cuda.device_count()
    if 0 < gpus_n <= local:
        raise ValueError(
            f"Each process needs a GPU of its own, and this machine has {gpus_n}: lower `processes` of `training` to "
            "the number of its GPUs, or hide them by CUDA_VISIBLE_DEVICES= to train on processors."
        )
    if gpus_n:
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if gpus_n else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def share(n):
    """Return which of n things in a row are this process's, a slice; sizes differ by one at most."""
    each, more = divmod(n, count())
    start = rank() * each + min(rank(), more)
    return slice(start, start + each + (rank() < more))


class _Gathered(torch.autograd.Function):
    """The parts of all processes, each in its place."""

    @staticmethod
    def forward(ctx, part, n):
        whole = part.new_zeros(n, *part.shape[1:])
        whole[share(n)] = part
        distributed.all_reduce(whole)  # every number but one of a sum is 0, so that each arrives as it was
        return whole

    @staticmethod
    def backward(ctx, gradient):
        # Every process has the loss of the whole batch; `DistributedDataParallel` takes the mean over processes of
        # what is the sum over their shares.
        return gradient[share(len(gradient))] * count(), None


class _Summed(torch.autograd.Function):
    """The sum over processes, of which each has the same."""

    @staticmethod
    def forward(ctx, part):
        whole = part.clone()
        distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


def gathered(part, n):
    """Return the parts of all processes as one tensor, in order and without padding.

    Parameters
    ----------
    part : (m, ...) tensor
        This process's `share` of n.
    n : int

    Returns
    -------
    (n, ...) tensor
        The same in every process. A gradient goes back to the process that made the row.
    """
    return part if count() == 1 else _Gathered.apply(part, n)


class _OverAll:
    """A batch norm whose mean and variance are those of the whole batch.

    `torch.nn.SyncBatchNorm` does the same on GPUs alone, and fastai does not know it as a batch norm: its weights
    would decay. Mean and squares are summed one after the other, which loses no digits where the mean is large.
    """

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        over, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
        values = x.float()
        n = _Summed.apply(values.new_tensor([x.numel() / x.shape[1]]))
        mean = _Summed.apply(values.sum(over)) / n
        apart = values - mean.view(shape)
        variance = _Summed.apply(apart.square().sum(over)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        y = apart * (torch.rsqrt(variance + self.eps) * self.weight).view(shape) + self.bias.view(shape)
        y = y.to(x.dtype)
        return self.act(self.drop(y)) if hasattr(self, "act") else y  # timm's has an activation within


def _norms_over_all(network):
    """Let every batch norm of a network take the whole batch's mean and variance, in place."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if not (module.affine and module.track_running_stats) or module.momentum is None:
                name = type(module).__name__
                raise ValueError(f"{name} without weights, running means or momentum: train it in one process.")
            module.__class__ = type(module.__class__.__name__, (_OverAll, module.__class__), {})


class SharedNetwork(nn.Module):
    """A network of which every process passes its share of a batch, and has all outputs.

    Parameters
    ----------
    network : torch.nn.Module
        (b, ...) to (b, outputs_n); changed in place, so that its batch norms see the whole batch. Of networks that
        draw at random (dropout), each process draws the same.
    outputs_n : int
    """

    def __init__(self, network, outputs_n):
        super().__init__()
        _norms_over_all(network)
        # Without `find_unused_parameters` gradients are summed in other groups from the second step on, and a run
        # that goes on after an interruption would round otherwise than one that was not interrupted.
        self.shared = DistributedDataParallel(
            network,
            device_ids=[torch.cuda.current_device()] if next(network.parameters()).is_cuda else None,
            broadcast_buffers=False,
            find_unused_parameters=True,
        )
        self.outputs_n = outputs_n
        self.images_n = None  # in the batch, over all processes: whoever passes a batch says so first

    def forward(self, x):
        """Return the logits of the whole batch, (images_n, outputs_n) float32, of this process's share of it."""
        network = self.shared if self.training else self.shared.module
        part = network(x).float() if len(x) else x.new_zeros(0, self.outputs_n)
        return gathered(part, self.images_n)
