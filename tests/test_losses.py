"""Losses: what they are in NumPy and in their libraries, what must not matter to them, and the heads below them."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch.nn import functional as F

from cxrlib.networks import heads, losses, name_vectors

RNG = np.random.default_rng(7)
LOGIT = torch.tensor(RNG.normal(0, 2, (12, 5)), dtype=torch.float32)
LABEL = torch.tensor(RNG.random((12, 5)) < 0.35, dtype=torch.float32)
HOLES = torch.where(torch.tensor(RNG.random((12, 5)) < 0.2), torch.nan, LABEL)
TRAINING = np.float32(RNG.random((200, 5)) < [0.4, 0.2, 0.1, 0.05, 0.02])
PROTOTYPES = name_vectors.space(RNG.normal(size=(5, 30)))


def made(name):
    loss = losses.recipe(name).make(TRAINING)
    loss.progress = 0.9
    return loss


@pytest.fixture(params=losses.LOSSES)
def loss(request):
    return made(request.param)


def test_missing_labels_weigh_nothing():
    loss = losses.MaskedBCE([1.0, 1.0])
    logit = torch.tensor([[0.3, 9.0], [-0.2, -9.0]])
    some = loss(logit, torch.tensor([[1.0, np.nan], [0.0, np.nan]]))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logit[:, 0], torch.tensor([1.0, 0.0]))
    assert some == pytest.approx(expected.item())
    assert loss(logit, torch.full((2, 2), np.nan)) == 0


@pytest.mark.parametrize(("how", "expected"), [("balanced", 3.0), ("sqrt", 3**0.5), ("none", 1.0)])
def test_positive_weights(how, expected):
    labels = np.array([[1, np.nan], [0, 1], [0, 0], [0, 0]], float)
    assert losses.positive_weights(labels, how)[0] == pytest.approx(expected)


def test_positive_weight_must_be_known():
    with pytest.raises(ValueError, match="balanced"):
        losses.positive_weights(np.array([[1.0], [0.0]]), "heavy")


def cross_entropy(z, y):
    return np.logaddexp(0, z) - y * z


def by_hand(z, y, labels, image, disease, gamma=1.0, rho=0.5):
    """The dual-weighted loss in NumPy, image by image, as notebook 18 writes it."""
    n, f = y.shape
    known = ~np.isnan(y)
    u = np.ones((2, f))
    if disease:
        beta = 1 - 1 / len(labels)
        counts = np.array([(labels == 1).sum(0), (labels == 0).sum(0)], float)
        u = np.where(counts > 0, (1 - beta) / (1 - beta ** np.maximum(counts, 1)), 0)
        u = u * counts.sum() / (u * counts).sum()
    w = np.ones(n)
    if image:
        w = np.zeros(n)
        for i in range(n):
            halves = []
            for value in (1, 0):
                those = known[i] & (y[i] == value)
                if those.any():
                    halves.append(np.abs(value - expit(z[i, those])).mean())
            if halves:
                w[i] = np.mean(halves) ** gamma * (1 + (y[i] == 1).sum()) ** rho
        w = w * (known.any(1)).sum() / w.sum()
    total = 0.0
    for i in range(n):
        for c in range(f):
            if known[i, c]:
                total += w[i] * (u[0, c] if y[i, c] == 1 else u[1, c]) * cross_entropy(z[i, c], y[i, c])
    return total / known.sum()


@pytest.mark.parametrize("label", [LABEL, HOLES], ids=["whole", "with NaN"])
@pytest.mark.parametrize(("image", "disease"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_dual_weighted_loss_is_what_the_notebook_says(label, image, disease):
    value = losses.DualWeighted(TRAINING, image, disease)(LOGIT, label)
    assert value.item() == pytest.approx(by_hand(LOGIT.numpy(), label.numpy(), TRAINING, image, disease), rel=1e-5)


def test_without_weights_it_is_cross_entropy():
    plain = F.binary_cross_entropy_with_logits(LOGIT, LABEL).item()
    assert losses.DualWeighted(TRAINING, False, False)(LOGIT, LABEL).item() == pytest.approx(plain)
    assert losses.DualWeighted(TRAINING, gamma=0, rho=0, beta=0)(LOGIT, LABEL).item() == pytest.approx(plain)


def test_with_beta_towards_one_every_class_of_every_finding_weighs_alike():
    weights = losses.disease_weights(TRAINING, 1 - 1e-9)
    counts = np.array([TRAINING.sum(0), (1 - TRAINING).sum(0)])
    assert weights * counts == pytest.approx(np.full((2, 5), TRAINING.size / 10), rel=1e-4)
    value = losses.DualWeighted(TRAINING, image=False, beta=1 - 1e-9)(
        torch.tensor(TRAINING) * 2 - 1, torch.tensor(TRAINING)
    )
    assert value.item() == pytest.approx(math.log1p(math.exp(-1)), rel=1e-4)  # each label is right by as much


def test_effective_numbers():
    assert losses.effective_numbers([1, 5, 1000], 0).tolist() == [1, 1, 1]
    assert losses.effective_numbers([3], 0.5)[0] == pytest.approx(1 + 0.5 + 0.25)
    assert losses.effective_numbers([50, 700], 1 - 1e-10) == pytest.approx([50, 700], rel=1e-6)
    with pytest.raises(ValueError, match="lies in"):
        losses.effective_numbers([1], 1.0)


def test_image_weights_rise_with_error_and_findings():
    loss, label = losses.DualWeighted(TRAINING), torch.tensor([[1.0, 0], [1, 0], [1, 1], [np.nan, np.nan]])
    weight = loss.image_weight(torch.tensor([[3.0, -3], [-3, 3], [-3, -3], [0, 0]]), label)
    assert weight[1] > weight[0] and weight[2] > weight[1] and weight[3] == 0
    assert weight.sum() == pytest.approx(3)


def test_wang_weights_by_batch():
    label, z = LABEL.numpy(), LOGIT.numpy()
    each = cross_entropy(z, label)
    p, n = label.sum(), (1 - label).sum()
    expected = ((p + n) / p * each[label == 1].sum() + (p + n) / n * each[label == 0].sum()) / label.size
    assert losses.BatchWeightedBCE()(LOGIT, LABEL).item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(losses.BatchWeightedBCE()(LOGIT, torch.zeros_like(LABEL)))


def test_focal_and_asymmetric_against_their_formulas():
    y, p = LABEL.numpy(), expit(LOGIT.numpy().astype(float))
    right = np.where(y == 1, p, 1 - p)
    focal = np.where(y == 1, 0.25, 0.75) * (1 - right) ** 2 * -np.log(right)
    assert losses.Focal()(LOGIT, LABEL).item() == pytest.approx(focal.mean(), rel=1e-4)
    absent = np.minimum(1 - p + 0.05, 1)
    each = np.where(y == 1, (1 - p) * -np.log(p), (1 - absent) ** 4 * -np.log(absent))
    assert losses.Asymmetric()(LOGIT, LABEL).item() == pytest.approx(each.mean(), rel=1e-4)


def test_ldam_margins_and_deferred_weights():
    loss = losses.LDAM(TRAINING)
    counts = np.array([TRAINING.sum(0), (1 - TRAINING).sum(0)])
    margins = 0.5 * (counts / counts.min()) ** -0.25
    z, y = 15 * LOGIT.numpy() / 4, LABEL.numpy()
    shifted = np.where(y == 1, -(z - 30 * margins[0]), z + 30 * margins[1])
    each = np.logaddexp(0, shifted)
    assert loss(torch.tensor(z), LABEL).item() == pytest.approx(each.mean(), rel=1e-5)
    loss.progress = 0.8
    weights = losses.disease_weights(TRAINING, 0.9999)
    weighed = each * np.where(y == 1, weights[0], weights[1])
    assert loss(torch.tensor(z), LABEL).item() == pytest.approx(weighed.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("start", "values", "gradients"),
    [  # of LibAUC 2.0.1: AUCMLoss(margin=1, version="v1"), a finding at a time
        ((0, 0, 0), [0.1634602, 0.1638374, 0.145918], [-0.25477, -0.269472, 0.514702]),
        ((0.7, 0.2, 0.4), [0.2296078, 0.2298811, 0.197152], [0.09523, -0.169472, 0.314702]),
    ],
)
def test_the_auc_margin_loss_is_that_of_libauc(start, values, gradients):
    k = np.arange(24).reshape(8, 3)
    logit = torch.tensor(np.sin(k) * 2, dtype=torch.float32)
    label = torch.tensor(np.cos(k * 1.7) > 0.3, dtype=torch.float32)
    loss = losses.AUCMargin(3)
    with torch.no_grad():
        for parameter, value in zip((loss.a, loss.b, loss.alpha), start, strict=True):
            parameter.fill_(value)
    value = loss(logit, label)
    value.backward()
    assert value.item() == pytest.approx(np.mean(values), rel=1e-5)
    mine = [3 * p.grad[0].item() for p in (loss.a, loss.b)]  # the mean over three findings
    assert mine == pytest.approx(gradients[:2], rel=1e-4)
    assert -3 * loss.alpha.grad[0].item() == pytest.approx(gradients[2], rel=1e-4)  # it is maximised


def test_the_ranking_hinge_sums_over_pairs():
    cosine, label = LOGIT.numpy() / 5, HOLES.numpy()
    total = 0.0
    for s, y in zip(cosine, label, strict=True):
        total += sum(max(0, 0.03 + n - p) for p in s[y == 1] for n in s[y == 0])
    assert losses.RankingHinge()(torch.tensor(cosine), HOLES).item() == pytest.approx(total / 12, rel=1e-5)


def test_what_is_not_assessed_does_not_matter(loss):
    other = torch.where(torch.isnan(HOLES), torch.randn(12, 5, generator=torch.Generator().manual_seed(1)), LOGIT)
    assert loss(other, HOLES).item() == pytest.approx(loss(LOGIT, HOLES).item(), rel=1e-6)
    assert loss(LOGIT, torch.full_like(LABEL, torch.nan)).item() == 0


def test_a_missing_label_has_no_gradient(loss):
    logit = LOGIT.clone().requires_grad_()
    loss(logit, HOLES).backward()
    assert torch.isfinite(logit.grad).all() and (logit.grad[torch.isnan(HOLES)] == 0).all()
    assert logit.grad.abs().sum() > 0


def test_the_order_of_images_does_not_matter(loss):
    order = torch.tensor(np.random.default_rng(3).permutation(12))
    assert loss(LOGIT[order], HOLES[order]).item() == pytest.approx(loss(LOGIT, HOLES).item(), rel=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_order_of_findings_does_not_matter(name):
    order = np.array([3, 0, 4, 1, 2])
    turned = losses.recipe(name).make(TRAINING[:, order])
    turned.progress = 0.9
    assert turned(LOGIT[:, order], HOLES[:, order]).item() == pytest.approx(made(name)(LOGIT, HOLES).item(), rel=1e-5)


@pytest.mark.parametrize("name", [n for n in losses.LOSSES if "image_weights" not in n and "dual" not in n])
def test_gradients(name):
    """By finite differences; image weights are constants of the gradient, so those two are checked apart."""
    rng = np.random.default_rng(5)  # its own: a hinge has no gradient at its corner
    logit = torch.tensor(rng.normal(0, 1, (4, 5)), dtype=torch.float64, requires_grad=True)
    loss, label = made(name), HOLES[:4].double()
    with torch.autograd.set_detect_anomaly(True):
        loss(logit, label).backward()
    step, numeric = 1e-2, torch.zeros_like(logit)
    for place in np.ndindex(*logit.shape):
        at = logit.detach().clone()
        at[place] += step
        up = loss(at, label).item()
        at[place] -= 2 * step
        numeric[place] = (up - loss(at, label).item()) / (2 * step)
    assert logit.grad.numpy() == pytest.approx(numeric.numpy(), abs=3e-3)


def test_the_gradient_of_the_dual_loss_is_that_of_its_weighted_terms():
    loss, logit = losses.DualWeighted(TRAINING), LOGIT.clone().requires_grad_()
    loss(logit, HOLES).backward()
    known, u = ~torch.isnan(HOLES), torch.as_tensor(losses.disease_weights(TRAINING))
    y = HOLES.nan_to_num()
    weight = loss.image_weight(LOGIT, HOLES)[:, None] * torch.where(y == 1, u[0], u[1]) * known / known.sum()
    assert torch.allclose(logit.grad, weight * (torch.sigmoid(LOGIT) - y), atol=1e-7)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_safe(loss, kind):
    extreme = torch.tensor([[40.0, -40.0], [300.0, -300.0]], dtype=kind)
    label = torch.tensor([[0.0, 1.0], [1.0, np.nan]])
    loss = type(loss)(TRAINING[:, :2]) if isinstance(loss, losses.LDAM | losses.DualWeighted) else loss
    if isinstance(loss, losses.MaskedBCE):
        loss = losses.MaskedBCE([1.0, 1.0])
    if isinstance(loss, losses.AUCMargin):
        loss = losses.AUCMargin(2)
    value = loss(extreme.requires_grad_(), label)
    value.backward()
    assert value.dtype == torch.float32 and torch.isfinite(value) and torch.isfinite(extreme.grad).all()


def test_uncertain_labels_are_refused_by_row_and_column():
    with pytest.raises(ValueError, match=r"row 1, column 0 is -1.*u_zeros"):
        losses.checked_labels([[1, 0], [-1, np.nan]])
    with pytest.raises(ValueError, match="row 0, column 1 is -1"):
        losses.DualWeighted(np.array([[0, -1.0]]))
    with pytest.raises(ValueError, match="none of bce"):
        losses.recipe("hinge")


def test_the_head_gives_distances():
    torch.manual_seed(0)
    head = heads.create_head("prototype", 7, 5, PROTOTYPES)
    x = torch.randn(6, 7)
    v = head.project(x).detach().numpy()
    p = PROTOTYPES / np.linalg.norm(PROTOTYPES, axis=1, keepdims=True)
    d = ((v[:, None] - p[None]) ** 2).sum(2)
    assert head.distances(x).detach().numpy() == pytest.approx(d, abs=1e-5)
    assert head(x).detach().numpy() == pytest.approx(4 * (1 - d), abs=1e-4)


def test_on_the_sphere_distances_are_cosines():
    torch.manual_seed(0)
    sphere, x = heads.create_head("prototype sphere", 7, 5, PROTOTYPES), torch.randn(6, 7)
    cosine = heads.create_head("prototype cosine", 7, 5, PROTOTYPES)
    cosine.load_state_dict({k: t for k, t in sphere.state_dict().items() if k not in ("log_scale", "radius")})
    v = F.normalize(sphere.project(x), dim=1).detach().numpy()
    p = PROTOTYPES / np.linalg.norm(PROTOTYPES, axis=1, keepdims=True)
    assert cosine(x).detach().numpy() == pytest.approx(v @ p.T, abs=1e-5)
    assert sphere.distances(x).detach().numpy() == pytest.approx(2 - 2 * v @ p.T, abs=1e-5)


def test_turning_the_space_changes_nothing():
    """A rotation of prototypes and of the map together keeps every distance."""
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0].astype(np.float32)
    torch.manual_seed(0)
    head = heads.create_head("prototype", 7, 5, PROTOTYPES)
    turned = heads.create_head("prototype", 7, 5, PROTOTYPES @ turn)
    with torch.no_grad():
        turned.project.weight.copy_(torch.tensor(turn.T) @ head.project.weight)
        turned.project.bias.copy_(torch.tensor(turn.T) @ head.project.bias)
    x = torch.randn(6, 7)
    assert torch.allclose(head(x), turned(x), atol=1e-4)


def test_prototypes_stay_or_are_learned():
    x, y = np.float32(RNG.normal(size=(80, 7))), np.float32(RNG.random((80, 5)) < 0.4)
    settings = heads.FitSettings(epochs=3, batch_size=20, weight_decay=0.01)
    for tuned in (False, True):
        torch.manual_seed(0)
        head = heads.create_head("prototype", 7, 5, PROTOTYPES, tuned)
        before = head.prototypes.detach().clone()
        heads.fit(head, losses.DualWeighted(y), x, y, settings, 0.05, 1)
        assert torch.equal(before, head.prototypes.detach()) != tuned


def test_a_linear_head_starts_at_the_prevalence():
    head = heads.create_head("linear", 7, 2, prevalence=[0.1, 0.5])
    assert torch.sigmoid(head(torch.zeros(1, 7)))[0].tolist() == pytest.approx([0.1, 0.5])


def test_heads_need_a_prototype_a_finding():
    with pytest.raises(ValueError, match="4 findings and 5 prototypes"):
        heads.create_head("prototype", 7, 4, PROTOTYPES)
    for kind in ("deep", "prototype shpere", ""):
        with pytest.raises(ValueError, match="none of linear"):
            heads.create_head(kind, 7, 5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_learns_what_there_is_to_learn(name):
    rng = np.random.default_rng(5)
    x = np.float32(rng.normal(size=(600, 10)))
    truth = x @ rng.normal(size=(10, 5)) + rng.normal(0, 0.5, (600, 5))
    y = np.float32(truth > np.quantile(truth, 0.8, axis=0))
    y[rng.random(y.shape) < 0.1] = np.nan
    torch.manual_seed(1)
    recipe = losses.recipe(name)
    head = heads.create_head(recipe.head, 10, 5, PROTOTYPES)
    history = heads.fit(head, recipe.make(y[:400]), x[:400], y[:400], heads.FitSettings(40, 50, 0.0), 0.03, 1)
    from cxrlib.networks.training import mean_auc

    assert len(history) == 40 and mean_auc(y[400:], heads.scores(head, x[400:])) > 0.85


def test_a_fit_repeats_itself():
    x, y = np.float32(RNG.normal(size=(90, 6))), np.float32(RNG.random((90, 5)) < 0.3)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        head = heads.create_head("prototype", 6, 5, PROTOTYPES)
        heads.fit(head, losses.DualWeighted(y), x, y, heads.FitSettings(4, 16, 0.01), 0.02, 9)
        found.append(heads.scores(head, x))
    assert np.array_equal(*found)


def test_a_rate_that_is_too_high_is_said_in_one_sentence():
    x, y = np.float32(RNG.normal(size=(64, 6))) * 1e20, np.float32(RNG.random((64, 5)) < 0.3)
    torch.manual_seed(0)
    with pytest.raises(RuntimeError, match="not finite: lower the rate"):
        heads.fit(
            heads.create_head("linear", 6, 5),
            losses.MaskedBCE(np.ones(5)),
            x,
            y,
            heads.FitSettings(3, 16, 0),
            1e30,
            1,
        )


def test_the_space_keeps_the_angles_of_centred_names():
    vectors = RNG.normal(size=(6, 40)) + 5
    space = name_vectors.space(vectors)
    centred = vectors - vectors.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert space.shape == (6, 6) and space @ space.T == pytest.approx(centred @ centred.T, abs=1e-5)
    assert np.all(space[:, -1] == 0), "one direction is left for images without a finding"
    with pytest.raises(ValueError, match="says nothing"):
        name_vectors.space(np.array([[1.0, 0], [0, 1], [0.5, 0.5]]))


def test_controls_know_nothing_of_names():
    shuffled = name_vectors.control("shuffled", PROTOTYPES, 4)
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, PROTOTYPES))
    assert not (shuffled == PROTOTYPES).all(1).any()
    one_hot = name_vectors.control("one-hot", PROTOTYPES, 4)
    assert one_hot @ one_hot.T == pytest.approx(np.where(np.eye(5), 1, -0.25), abs=1e-5)
    assert not np.array_equal(*(name_vectors.control("random", PROTOTYPES, seed) for seed in (1, 2)))
    with pytest.raises(ValueError, match="none of shuffled"):
        name_vectors.control("sorted", PROTOTYPES, 1)


def test_minilm_finds_a_nodule_like_a_mass_once_both_are_defined():
    names = ["nodule", "mass", "cardiomegaly"]
    bare, defined = (name_vectors.name_vectors(names, prompt=prompt) for prompt in name_vectors.PROMPTS)
    unit = defined / np.linalg.norm(defined, axis=1, keepdims=True)
    cosine = unit @ unit.T
    assert bare.shape == (3, 384) and cosine[0, 1] > cosine[0, 2] and not np.allclose(bare, defined)


def test_names_that_cannot_be_had_are_said_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("CXR_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"biobert.*neither a folder here nor to be had"):
        name_vectors.name_vectors(["mass"], "biobert")
    with pytest.raises(ValueError, match="no definition"):
        name_vectors.name_vectors(["fracture"], "minilm", name_vectors.PROMPTS[1])
    with pytest.raises(ValueError, match="none of name"):
        name_vectors.name_vectors(["mass"], "minilm", "poem")
    (tmp_path / "text").mkdir()
    np.save(tmp_path / "text" / "nih_findings_biobert.npy", np.zeros((3, 8)))
    with pytest.raises(ValueError, match="a row for each of the 14"):
        name_vectors.name_vectors(["mass"], "biobert")


def test_biobert_vectors_of_the_file_are_in_the_papers_order(monkeypatch, tmp_path):
    (tmp_path / "text").mkdir()
    np.save(tmp_path / "text" / "nih_findings_biobert.npy", np.arange(14)[:, None] * np.ones((14, 8)))
    monkeypatch.setenv("CXR_DATA", str(tmp_path))
    found = name_vectors.name_vectors(["hernia", "atelectasis"], "biobert")
    assert found[:, 0].tolist() == [13, 0] and found.dtype == np.float32


def test_real_biobert_vectors_are_fourteen_different_names(cxr_data):
    from cxrlib.base import vocabulary

    names = list(vocabulary.NIH_FINDINGS.values())
    if not (cxr_data / "text" / "nih_findings_biobert.npy").exists():
        pytest.skip("text/nih_findings_biobert.npy is not here (docs/data.md)")
    vectors = name_vectors.name_vectors(names, "biobert")
    assert vectors.shape == (14, 1024) and np.linalg.matrix_rank(name_vectors.space(vectors), tol=1e-3) == 13
