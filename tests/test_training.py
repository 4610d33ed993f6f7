"""Training: masked loss, deterministic, interruption-safe, and honest about where weights come from."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from scipy.special import logit

from cxrlib.cohorts import packing, sources, splits
from cxrlib.cohorts.store import open_store
from cxrlib.labels.targets import target_table
from cxrlib.networks import architectures, training
from cxrlib.networks.batches import PIXEL_MEAN, PIXEL_STD, StoreLoader

FINDINGS = ["pneumothorax", "effusion"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A cohort of 240 simulated images at 32 px."""
    folder = tmp_path_factory.mktemp("cohort")
    source = sources.open_source(
        {"source": "simulated", "hospital": "internal", "images_n": 240, "seed": 5, "size_px": 32}
    )
    packing.pack(source, folder / "store", folder / "work", size_px=32, workers=1)
    return folder / "store"


@pytest.fixture(scope="module")
def store(packed):
    return open_store(packed)


def make_targets(store):
    split = splits.by_patient(store.index, {"train": 0.7, "valid": 0.3}, 1)
    return target_table(split, {"drawn": store.labels.set_index("image_id")}, FINDINGS, "drawn", "u_zeros")


def make_settings(**changes):
    base = {"architecture": "test_resnet", "pretrained": "none", "epochs": 3, "batch_size": 16, "learning_rate": 2e-3}
    base |= {"weight_decay": 0.05, "positive_weight": "sqrt", "flip": True, "seed": 1}
    return training.TrainingSettings(**base | changes)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    return training.train(store, make_targets(store), FINDINGS, make_settings(), tmp_path_factory.mktemp("run"))


def probabilities(trained, store):
    return training.predict(trained.network, store, np.arange(len(store.index)))


def test_a_run_records_its_epochs_and_predicts(trained, store):
    assert len(trained.history) == 3 and trained.resumed_at_epoch == 0
    assert trained.best_epoch == trained.history["valid_auc"].idxmax()
    assert trained.weights_origin == "from scratch"
    p = probabilities(trained, store)
    assert p.shape == (240, 2) and p.dtype == np.float32 and 0 <= p.min() and p.max() <= 1


def test_the_best_epoch_is_what_is_returned(trained, store):
    targets = make_targets(store)
    valid = targets[targets["split"] == "valid"]
    p = training.predict(trained.network, store, store.rows(valid["image_id"]))
    again = training._valid_auc(torch.from_numpy(p), torch.from_numpy(valid[FINDINGS].to_numpy(np.float32)))
    assert again == pytest.approx(trained.history["valid_auc"].max(), abs=1e-6)


def test_same_seed_same_bytes_other_seed_other(trained, store, tmp_path):
    targets = make_targets(store)
    again = training.train(store, targets, FINDINGS, make_settings(), tmp_path / "again")
    assert probabilities(again, store).tobytes() == probabilities(trained, store).tobytes()
    other = training.train(store, targets, FINDINGS, make_settings(seed=2, epochs=1), tmp_path / "other")
    assert probabilities(other, store).tobytes() != probabilities(trained, store).tobytes()


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
import test_training as t
from cxrlib.networks import batches, training
from cxrlib.cohorts.store import open_store
store = open_store(Path(sys.argv[1]))
slow = batches.StoreLoader.create_batches
def crawl(self, samples):
    for batch in slow(self, samples):
        time.sleep(0.05)
        yield batch
batches.StoreLoader.create_batches = crawl
training.train(store, t.make_targets(store), t.FINDINGS, t.make_settings(), Path(sys.argv[2]))
"""


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(trained, packed, store, tmp_path):
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(packed), str(tmp_path)], cwd=root)
    deadline = time.time() + 120
    while not (tmp_path / "checkpoint.pt").exists() and time.time() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    time.sleep(0.15)  # into the next epoch
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed = training.train(store, make_targets(store), FINDINGS, make_settings(), tmp_path)
    assert 1 <= resumed.resumed_at_epoch < 3
    assert len(resumed.history) == 3
    same = ["epoch", "train_loss", "valid_loss", "valid_auc"]
    pd.testing.assert_frame_equal(resumed.history[same], trained.history[same])
    assert probabilities(resumed, store).tobytes() == probabilities(trained, store).tobytes()


def test_a_checkpoint_of_other_settings_is_not_taken_up(store, tmp_path):
    targets = make_targets(store)
    training.train(store, targets, FINDINGS, make_settings(epochs=1), tmp_path)
    changed = training.train(store, targets, FINDINGS, make_settings(epochs=1, learning_rate=1e-3), tmp_path)
    assert changed.resumed_at_epoch == 0


def test_dvclive_has_one_step_per_epoch(store, tmp_path):
    training.train(store, make_targets(store), FINDINGS, make_settings(epochs=2), tmp_path)
    curve = pd.read_csv(tmp_path / "live/plots/metrics/valid_auc.tsv", sep="\t")
    assert curve["step"].tolist() == [0, 1]


def test_batches_hold_every_image_once_and_shuffle_by_epoch(store):
    rows = np.arange(50)
    labels = np.arange(50, dtype=np.float32)[:, None]
    plain = StoreLoader(store.images, rows, labels, 16)
    assert len(plain) == 4
    batches = list(plain)
    assert torch.cat([y for _, y in batches]).ravel().tolist() == rows.tolist()
    first = batches[0][0]
    expected = (store.images[0] / 255 - PIXEL_MEAN) / PIXEL_STD
    np.testing.assert_allclose(first[0, 0].cpu().numpy(), expected, atol=1e-5)
    shuffled = StoreLoader(store.images, rows, labels, 10, shuffle_seed=3, flip=True)
    orders = []
    for epoch in (0, 1, 0):
        shuffled.epoch = epoch
        orders.append(torch.cat([y for _, y in shuffled]).ravel().tolist())
    assert sorted(orders[0]) == rows.tolist() and orders[0] == orders[2] != orders[1]


DOTS = {"top left": (40, 40), "top right": (40, 88), "bottom left": (88, 40)}  # of 128 px; the fourth corner is empty


def augmented(picture, n, flip):
    """Return a picture as `n` training batches of one epoch show it, (n, size, size), in [0, 1]."""
    torch.manual_seed(0)
    random.seed(0)
    loader = StoreLoader(np.stack([picture] * n), np.arange(n), np.zeros((n, 1)), 50, shuffle_seed=1, flip=flip)
    return torch.cat([x for x, _ in loader])[:, 0].cpu().numpy() * PIXEL_STD + PIXEL_MEAN


def moved(flip, n=400):
    """Return by how much each of `n` augmented pictures was turned (degrees) and enlarged, and whether mirrored."""
    yy, xx = np.indices((128, 128))
    picture = sum(np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 18) for y, x in DOTS.values())
    angle, scale, mirrored = np.empty((3, n))
    for k, shown in enumerate(augmented(np.uint8(250 * picture), n, flip)):
        corners = {}
        for y, x in ((0, 0), (0, 64), (64, 0), (64, 64)):
            part = np.where(shown > 0.3, shown, 0)[y : y + 64, x : x + 64]
            if part.sum():
                corners[y, x] = np.array(ndimage.center_of_mass(part)) + (y, x)
        assert len(corners) == 3 and {(0, 0), (0, 64)} <= set(corners), "three dots, each still in its quarter"
        across = corners[0, 64] - corners[0, 0]
        angle[k], scale[k] = np.degrees(np.arctan2(across[0], across[1])), np.hypot(*across) / 48
        mirrored[k] = (64, 64) in corners
    return angle, scale, mirrored == 1


@pytest.mark.parametrize("flip", [False, True])
def test_training_images_are_turned_by_7_degrees_enlarged_by_a_tenth_and_mirrored_if_asked(flip):
    angle, scale, mirrored = moved(flip)
    for sign in (1, -1):
        assert 6.3 < (sign * angle).max() < 7.5
    assert 0.94 < scale.min() < 0.96 and 1.085 < scale.max() < 1.11
    assert 0.4 < mirrored.mean() < 0.6 if flip else not mirrored.any()


def test_training_images_are_made_brighter_and_of_more_contrast_by_a_fifth():
    """On the logit scale: brightness adds the logit of 0.4 to 0.6, contrast multiplies by 0.8 to 1.25 (fastai)."""
    picture = np.full((32, 32), 96, np.uint8)
    picture[:, 16:] = 160
    shown = logit(np.clip(augmented(picture, 400, flip=False), 1e-6, 1 - 1e-6))
    dark, light = shown[:, 12:20, 10], shown[:, 12:20, 22]
    given = logit(160 / 255) - logit(96 / 255)
    contrast = (light - dark).mean(axis=1) / given
    assert 0.795 < contrast.min() < 0.83 and 1.2 < contrast.max() < 1.26
    brightness = ((light + dark).mean(axis=1) - (logit(160 / 255) + logit(96 / 255)) * contrast) / (2 * contrast)
    assert -0.41 < brightness.min() < -0.37 and 0.37 < brightness.max() < 0.41


def test_what_lies_outside_an_augmented_image_is_black():
    shown = augmented(np.full((64, 64), 200, np.uint8), 200, flip=True)
    corners = shown[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    turned = corners.min(axis=1) < 0.05
    assert turned.mean() > 0.3 and (shown[:, 32, 32] > 0.6).all()


def test_networks_of_the_three_editions_take_one_channel_and_give_a_logit_each():
    for name in ("test_resnet", "test_efficientnet", "tf_efficientnet_lite0"):
        network, origin = architectures.create_network(name, 3)
        assert origin == "from scratch"
        assert network.eval()(torch.zeros(2, 1, 64, 64)).shape == (2, 3)


def test_imagenet_weights_from_the_package_are_the_real_ones():
    """The packaged weights, put through timm's network, tell their first filters apart as ImageNet's do."""
    network, origin = architectures.create_network("tf_efficientnet_lite0", 1, "auto")
    assert "package" in origin
    scratch, _ = architectures.create_network("tf_efficientnet_lite0", 1)
    assert network.bn1.running_mean.abs().sum() > 0 and scratch.bn1.running_mean.abs().sum() == 0
    assert network.eval()(torch.randn(1, 1, 64, 64)).isfinite().all()


def test_without_a_hub_the_record_says_from_scratch(monkeypatch):
    def unreachable(*args, pretrained=False, **keywords):
        if pretrained:
            raise OSError("the hub cannot be reached")
        return original(*args, **keywords)

    original = architectures.timm.create_model
    monkeypatch.setattr(architectures.timm, "create_model", unreachable)
    _, origin = architectures.create_network("test_resnet", 1, "auto")
    assert origin.startswith("from scratch") and "hub cannot be reached" in origin


def test_unknown_network_names_near_ones():
    with pytest.raises(ValueError, match="resnet50"):
        architectures.create_network("resnet5", 1)


def test_weights_of_another_network_are_refused(trained, tmp_path):
    architectures.save_network(trained.network, tmp_path / "model.safetensors")
    loaded = architectures.load_network(tmp_path / "model.safetensors", "test_resnet", 2)
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value.cpu(), loaded.state_dict()[name])
    with pytest.raises(ValueError, match="does not hold weights of test_efficientnet"):
        architectures.load_network(tmp_path / "model.safetensors", "test_efficientnet", 2)
