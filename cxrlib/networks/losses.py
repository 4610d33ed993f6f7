"""Losses of multi-label networks: the dual-weighted metric loss after Jin et al. 2023, and what it is compared with.

Every loss takes logits (b, f) of any floating type and labels (b, f) of 1, 0 and NaN, and returns a scalar in
float32. NaN labels (not assessed, or uncertain under the policy `u_ignore`) weigh nothing; labels of -1 must have
been given a meaning before (`label_tables.apply_policy`), as whoever trains checks (`checked_labels`). Where a
maintained library has a loss, it is that library's: the focal loss of torchvision, the asymmetric loss of timm.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from cxrlib.base import torchvision_fix  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split
from timm.loss import AsymmetricLossMultiLabel
from torchvision.ops.focal_loss import sigmoid_focal_loss


def checked_labels(labels):
    """Return labels as float32 if each is 1, 0 or NaN.

    Parameters
    ----------
    labels : (n, f) array

    Raises
    ------
    ValueError
        Naming the first row and column that holds something else, such as -1 for uncertain.
    """
    labels = np.asarray(labels, np.float32)
    wrong = np.argwhere(~(np.isin(labels, (0, 1)) | np.isnan(labels)))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"The label in row {row}, column {column} is {labels[row, column]:g}: a loss takes 1, 0 and NaN, so give "
            "uncertain labels a meaning first (policy u_zeros, u_ones or u_ignore)."
        )
    return labels


def _known(label):
    """Return which labels are there, (b, f) bool, and the labels with 0 for those that are not."""
    return ~torch.isnan(label), label.nan_to_num()


def _mean(each, known):
    """Return the mean loss of the labels that are there; 0 if none is."""
    return (each * known).sum() / known.sum().clamp(min=1)


def _counts(labels):
    """Return how many labels of each finding are 1 and how many are 0, both (f,) float64."""
    labels = checked_labels(labels)
    return np.sum(labels == 1, 0, dtype=float), np.sum(labels == 0, 0, dtype=float)


def positive_weights(labels, how):
    """Return the loss weight of positives for each finding, (findings_n,) float32.

    Parameters
    ----------
    labels : (n, findings_n) array of 1, 0, NaN
    how : {"balanced", "sqrt", "none"}
        Negatives over positives, its square root, or 1.
    """
    positives, negatives = np.nansum(labels == 1, 0), np.nansum(labels == 0, 0)
    power = {"balanced": 1.0, "sqrt": 0.5, "none": 0.0}
    if how not in power:
        raise ValueError(f"positive_weight {how!r} is none of {', '.join(power)}.")
    return np.float32((negatives / np.maximum(positives, 1)) ** power[how])


def effective_numbers(count, beta):
    """Return the effective number of so many images, (1 - beta^n) / (1 - beta) (Cui et al., CVPR 2019, eq. 4).

    Parameters
    ----------
    count : (k,) float
        Numbers of images; fewer than one counts as one.
    beta : float in [0, 1)
        0 makes every effective number 1; towards 1 it becomes the number of images itself.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}: it lies in [0, 1).")
    count = np.maximum(np.asarray(count, float), 1)
    return np.where(beta > 0, -np.expm1(count * np.log(max(beta, 1e-300))) / (1 - beta), 1.0)


def disease_weights(labels, beta=None):
    """Return the weights of each finding's positive and negative labels by effective numbers, (2, f) float32.

    One over the effective number of the finding's positive labels, and of its negative ones, times a constant so that
    the mean over all labels is 1.

    Parameters
    ----------
    labels : (n, f) array of 1, 0, NaN
        Of the training images. A finding that is never present, or always, has no weight of the class that it lacks.
    beta : float, optional
        See `effective_numbers`; if not given, 1 - 1/n, as Cui et al. suggest for n images.
    """
    counts = np.stack(_counts(labels))
    beta = 1 - 1 / max(len(labels), 2) if beta is None else beta
    weights = np.where(counts > 0, 1 / effective_numbers(counts, beta), 0)
    return np.float32(weights * counts.sum() / max((weights * counts).sum(), 1e-12))


class MaskedBCE(nn.Module):
    """Binary cross-entropy over the labels that are there, with a weight of positives for each finding."""

    def __init__(self, positive_weight):
        super().__init__()
        self.register_buffer("positive_weight", torch.as_tensor(positive_weight, dtype=torch.float32))

    def forward(self, logit, label):
        """Return the mean loss of the labels that are not NaN."""
        known, label = _known(label)
        weight = self.positive_weight.to(logit.device)
        each = binary_cross_entropy_with_logits(logit.float(), label, pos_weight=weight, reduction="none")
        return _mean(each, known)


class BatchWeightedBCE(nn.Module):
    """The W-CEL of Wang et al. (CVPR 2017): in each batch positive and negative labels weigh as much together.

    A positive label weighs (P + N) / P and a negative one (P + N) / N, where P and N count the batch's labels of all
    findings. The mean over labels is taken, so that it is twice the mean over both classes of their mean losses.
    """

    def forward(self, logit, label):
        """Return the mean loss of the labels that are not NaN."""
        known, label = _known(label)
        positives, all_n = (label * known).sum(), known.sum()
        weight = torch.where(label == 1, all_n / positives.clamp(min=1), all_n / (all_n - positives).clamp(min=1))
        return _mean(weight * binary_cross_entropy_with_logits(logit.float(), label, reduction="none"), known)


class Focal(nn.Module):
    """The focal loss (Lin et al., ICCV 2017), torchvision's; alpha 0.25 and gamma 2 are its paper's."""

    def forward(self, logit, label):
        """Return the mean loss of the labels that are not NaN."""
        known, label = _known(label)
        return _mean(sigmoid_focal_loss(logit.float(), label, alpha=0.25, gamma=2.0, reduction="none"), known)


class Asymmetric(nn.Module):
    """The asymmetric loss (Ridnik et al., ICCV 2021), timm's, as a mean over labels and not over images.

    timm's default sums over findings, which is BCE's scale times their number.
    """

    def __init__(self):
        super().__init__()
        self.each = AsymmetricLossMultiLabel(reduction="none")

    def forward(self, logit, label):
        """Return the mean loss of the labels that are not NaN."""
        known, label = _known(label)
        return _mean(self.each(logit, label), known)


class LDAM(nn.Module):
    """Label-distribution-aware margins with deferred re-weighting (Cao et al., NeurIPS 2019), one finding at a time.

    A class of n labels has the margin C / n^(1/4) (eq. 13), C such that the largest is 0.5; here present and absent
    are the two classes of each finding. From `deferred_from` of the training on, labels also weigh by effective
    numbers. Logits are 30 times a cosine (`heads.CosineHead`).

    Attributes
    ----------
    progress : float in [0, 1]
        How much of the training is done; whoever trains sets it.
    """

    scale, largest_margin, beta, deferred_from = 30.0, 0.5, 0.9999, 0.8

    def __init__(self, labels):
        super().__init__()
        margins = np.maximum(np.stack(_counts(labels)), 1) ** -0.25
        self.register_buffer("margins", torch.as_tensor(self.largest_margin * margins / margins.max()).float())
        self.register_buffer("weights", torch.as_tensor(disease_weights(labels, self.beta)))
        self.progress = 0.0

    def forward(self, logit, label):
        """Return the mean loss of the labels that are not NaN."""
        known, label = _known(label)
        of_present, of_absent = self.scale * self.margins.to(logit.device)
        logit = logit.float()
        each = torch.where(label == 1, softplus(of_present - logit), softplus(logit + of_absent))
        if self.progress >= self.deferred_from:
            of_present, of_absent = self.weights.to(logit.device)
            each = each * torch.where(label == 1, of_present, of_absent)
        return _mean(each, known)


class AUCMargin(nn.Module):
    """The AUC margin loss (Yuan et al., ICCV 2021), the mean over findings of LibAUC's `AUCMLoss`, version v1.

    `a` and `b` follow the mean probability of positives and of negatives, and `alpha`, at least 0, is the dual
    variable, which is maximised: its gradient is turned around, so that one optimiser serves all. The package is no
    dependency, since it pulls in graph libraries; stored values of LibAUC 2.0.1 are in the tests.
    """

    def __init__(self, findings_n, margin=1.0):
        super().__init__()
        self.margin = margin
        self.a, self.b, self.alpha = (nn.Parameter(torch.zeros(findings_n)) for _ in range(3))

    def forward(self, logit, label):
        """Return the mean over the findings that the batch has labels of."""
        known, label = _known(label)
        with torch.no_grad():
            self.alpha.clamp_(min=0)
        alpha = 2 * self.alpha.detach() - self.alpha  # its value, with the gradient turned around
        score, n = torch.sigmoid(logit.float()), known.sum(0)
        positive, negative = (label == 1) & known, (label == 0) & known

        def mean(values, where):
            return (values * where).sum(0) / n.clamp(min=1)

        p = mean(torch.ones_like(score), positive)
        loss = (1 - p) * mean((score - self.a) ** 2, positive) + p * mean((score - self.b) ** 2, negative)
        gap = p * (1 - p) * self.margin + p * mean(score, negative) - (1 - p) * mean(score, positive)
        loss = loss + 2 * alpha * gap - p * (1 - p) * alpha**2
        return loss.sum() / (n > 0).sum().clamp(min=1)


class RankingHinge(nn.Module):
    """The ranking hinge of Hayat et al. (MLHC 2021): each present finding lies above each absent one by a margin.

    The sum over pairs of max(0, margin + s_absent - s_present), divided by the number of images; s are cosines
    (`heads.PrototypeHead` with `cosine`). Their alignment term has the weight 0 in the released code, and their
    consistency term is of a text encoder that is trained, which there is none of here.
    """

    margin = 0.03  # `neg_penalty` of the released code

    def forward(self, logit, label):
        """Return the mean over images of their sum over pairs."""
        present, absent = label == 1, label == 0
        pairs = present[:, :, None] & absent[:, None, :]
        gap = self.margin + logit.float()[:, None, :] - logit.float()[:, :, None]
        return (gap.clamp(min=0) * pairs).sum() / len(label)


class DualWeighted(nn.Module):
    """The dual-weighted metric loss after Jin et al. (Comput Biol Med 2023): the equations are ours.

    With d the squared distance between an image's vector and a finding's prototype, `heads.PrototypeHead` gives the
    logit scale * (radius - d). The loss is the cross-entropy of its sigmoid, weighted twice:

        L = sum_ic w_i v_ic l_ic / n,   l_ic = cross-entropy of label y_ic and sigmoid(logit_ic)

    over the n labels of a batch that are there. The image weight is w_i = e_i^gamma (1 + P_i)^rho, divided by its
    mean over the batch, where e_i is how wrong the network is about the image, the mean over its present and its
    absent findings, each class counting half, of `|y_ic - sigmoid(logit_ic)|`, without gradient, and P_i is how many
    findings the image has. The disease weight v_ic is one over the effective number of finding c's present, or
    absent, labels (`disease_weights`).

    The same weights on a linear head (`linear_dual_weighted`) tell what is due to the weights and what to distances.
    Without both weights it is binary cross-entropy of the logits. With disease weights alone and beta towards 1 it
    is, for labels that are all there, cross-entropy in which present and absent labels of every finding weigh alike.

    Parameters
    ----------
    labels : (n, f) array of 1, 0, NaN
        Of the training images: what is rare.
    image, disease : bool
        Which of the weights are used.
    gamma, rho : float
        0 and 0 make all image weights 1.
    beta : float, optional
        Of `disease_weights`; 0 makes all disease weights 1.
    """

    def __init__(self, labels, image=True, disease=True, gamma=1.0, rho=0.5, beta=None):
        super().__init__()
        self.image, self.gamma, self.rho = image, gamma, rho
        weights = disease_weights(labels, beta) if disease else np.ones((2, np.shape(labels)[1]), np.float32)
        self.register_buffer("disease_weight", torch.as_tensor(weights))

    @torch.no_grad()
    def image_weight(self, logit, label):
        """Return the weight of each image of a batch, (b,) float32 of mean 1; an image without labels has none."""
        known, label = _known(label)
        wrong = (label - torch.sigmoid(logit.float())).abs()
        sums, counts = zip(
            *((((wrong * part).sum(1)), part.sum(1)) for part in (known & (label == 1), known & (label == 0))),
            strict=True,
        )
        means = torch.stack([s / n.clamp(min=1) for s, n in zip(sums, counts, strict=True)])
        classes_n = torch.stack(counts).gt(0).sum(0)
        error = means.sum(0) / classes_n.clamp(min=1)
        weight = error**self.gamma * (1 + counts[0]) ** self.rho * (classes_n > 0)
        return weight * (classes_n > 0).sum() / weight.sum().clamp(min=1e-12)

    def forward(self, logit, label):
        """Return the weighted mean loss of the labels that are not NaN."""
        known, filled = _known(label)
        each = binary_cross_entropy_with_logits(logit.float(), filled, reduction="none")
        of_present, of_absent = self.disease_weight.to(logit.device)
        each = each * torch.where(filled == 1, of_present, of_absent)
        if self.image:
            each = each * self.image_weight(logit, label)[:, None]
        return _mean(each, known)


@dataclass(frozen=True)
class Recipe:
    """A loss by name: how it is made of the training labels, and the head that it needs.

    Attributes
    ----------
    head : {"linear", "cosine", "prototype", "prototype sphere", "prototype cosine"}
        See `heads.create_head`.
    make : Callable
        Of the training labels (n, f).
    """

    head: str
    make: object


LOSSES = {
    "bce": Recipe("linear", lambda labels: MaskedBCE(positive_weights(labels, "none"))),
    "weighted_bce": Recipe("linear", lambda labels: BatchWeightedBCE()),
    "focal": Recipe("linear", lambda labels: Focal()),
    "asymmetric": Recipe("linear", lambda labels: Asymmetric()),
    "ldam_drw": Recipe("cosine", LDAM),
    "auc_margin": Recipe("linear", lambda labels: AUCMargin(np.shape(labels)[1])),
    "ranking_hinge": Recipe("prototype cosine", lambda labels: RankingHinge()),
    "prototype": Recipe("prototype", lambda labels: DualWeighted(labels, image=False, disease=False)),
    "image_weights": Recipe("prototype", lambda labels: DualWeighted(labels, disease=False)),
    "disease_weights": Recipe("prototype", lambda labels: DualWeighted(labels, image=False)),
    "dual_weighted": Recipe("prototype", DualWeighted),
    "linear_image_weights": Recipe("linear", lambda labels: DualWeighted(labels, disease=False)),
    "linear_disease_weights": Recipe("linear", lambda labels: DualWeighted(labels, image=False)),
    "linear_dual_weighted": Recipe("linear", DualWeighted),
}


def recipe(name):
    """Return the `Recipe` of a loss.

    Raises
    ------
    ValueError
        If there is no such loss.
    """
    if name not in LOSSES:
        raise ValueError(f"loss {name!r} is none of {', '.join(LOSSES)}.")
    return LOSSES[name]
