"""Saliency maps: the right layer, the published formulas, the network left alone, and a tool for any image."""

import copy
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from cxrlib.base import figures
from cxrlib.commands import explain
from cxrlib.networks import architectures, map_layers, overlays, randomisation, saliency, trained_runs

LAYERED = [name for name, method in saliency.SALIENCY_METHODS.items() if method.reads_layer]


def make(architecture, findings_n=2, seed=0):
    torch.manual_seed(seed)
    return architectures.create_network(architecture, findings_n)[0]


def pictures(n, size_px, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (n, size_px, size_px)).astype(np.uint8)


class Bright(nn.Module):
    """One channel is on where the image is bright, and decides; another is on where it is dark, and does not."""

    num_classes = 1

    def __init__(self):
        super().__init__()
        self.feature_info = [{"module": "body"}]
        self.body = nn.Sequential(nn.Conv2d(1, 8, 4, stride=4), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.body[0].weight[0], self.body[0].bias[0] = 1 / 16, -1
            self.body[0].weight[1], self.body[0].bias[1] = -1 / 16, -1
            self.head.weight[0, 0] = 1

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def squares(n, size_px=64, seed=3):
    """Grey images with a bright and a dark square, and the bright one's box."""
    rng = np.random.default_rng(seed)
    pixels = np.full((n, size_px, size_px), 127, np.uint8)
    boxes = []
    for image in pixels:
        y, x = rng.integers(0, size_px - 16, 2)
        far_y, far_x = (y + size_px // 2) % (size_px - 16), (x + size_px // 2) % (size_px - 16)
        image[far_y : far_y + 16, far_x : far_x + 16] = 0
        image[y : y + 16, x : x + 16] = 255
        boxes.append((x, y, x + 16, y + 16))
    return pixels, np.array(boxes)


# --- the layer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "size_px", "name", "grid", "channels"),
    [
        ("test_resnet", 64, "layer2", (8, 8), 48),
        ("test_resnet", 224, "layer4", (7, 7), 96),
        ("test_efficientnet", 64, "blocks.2", (8, 8), 32),
        ("test_efficientnet", 100, "blocks.3", (7, 7), 48),
        ("tf_efficientnet_lite0", 64, "blocks.2", (8, 8), 40),
        ("resnet18", 128, "layer3", (8, 8), 256),
        ("densenet121", 64, "features.denseblock2", (8, 8), 512),
        ("test_convnext", 96, "stages.1", (12, 12), 32),
        ("test_vit", 160, "blocks.4", (10, 10), 64),  # the last block's cells are not read
        ("test_resnet", 24, "act1", (12, 12), 32),
        ("test_efficientnet", 12, "blocks.0", (6, 6), 16),  # nothing has 7: the one with the most
    ],
)
def test_the_layer_is_found(architecture, size_px, name, grid, channels):
    network = make(architecture).train()
    assert map_layers.find_layer(network, size_px) == map_layers.Layer(name, grid, channels)
    assert network.training and not any(module._forward_hooks for module in network.modules())


def test_layers_can_be_named_and_are_checked():
    network = make("test_resnet")
    assert map_layers.find_layer(network, 64, "layer4").grid == (2, 2)
    assert map_layers.find_layer(network, 64, "layer2.0").grid == (8, 8)
    with pytest.raises(ValueError, match=r"no layer 'layer9'; its stages: act1, layer1, layer2"):
        map_layers.find_layer(network, 64, "layer9")
    with pytest.raises(ValueError, match=r"'fc' gives no map at 64 px.*usable: .*layer4 \(2 x 2\)"):
        map_layers.find_layer(network, 64, "fc")
    with pytest.raises(ValueError, match="no logit depends on its cells"):
        map_layers.find_layer(make("test_vit"), 160, "blocks.5")
    with pytest.raises(ValueError, match="takes no images of 64 x 64 px"):
        map_layers.find_layer(make("vit_tiny_patch16_224"), 64)
    for architecture, size_px in (("test_resnet", 2), ("densenet121", 8), ("test_convnext", 3), ("test_vit", 16)):
        with pytest.raises(ValueError, match=f"^Images of {size_px} x {size_px} px are too small for this network: "):
            map_layers.find_layer(make(architecture), size_px)
    with pytest.raises(ValueError, match="too small"):
        saliency.maps(make("test_resnet"), pictures(1, 1), 0, "occlusion")
    with pytest.raises(ValueError, match="timm lists no stages"):
        map_layers.find_layer(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(1)), 16)


def test_layers_are_the_stages_that_give_a_map():
    found = map_layers.layers(make("test_resnet"), 64)
    assert [layer.name for layer in found] == ["act1", "layer1", "layer2", "layer3", "layer4"]
    assert [layer.grid[0] for layer in found] == sorted((layer.grid[0] for layer in found), reverse=True)
    assert map_layers.find_layer(make("test_resnet"), 64) in found
    blocks = [layer.name for layer in map_layers.layers(make("test_vit"), 160)]
    assert blocks and "blocks.5" not in blocks, "no logit depends on the last block's cells"


# --- maps ---------------------------------------------------------------------------------------------------


def recomputed(network, pixels, k, name, layout, plus_plus=False):
    """The maps once more, with hooks and autograd alone; `layout` takes the layer's output to (b, c, h, w)."""
    network = copy.deepcopy(network).eval()
    kept = []
    network.get_submodule(name).register_forward_hook(lambda module, inputs, output: kept.append(output))
    x = (torch.from_numpy(pixels)[:, None].float() / 255 - 0.5) / 0.25
    logit = network(x)[:, k].sum()
    a, g = layout(kept[0]), layout(torch.autograd.grad(logit, kept[0])[0])
    if plus_plus:
        alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3)
        weight = (torch.nan_to_num(alpha) * g.relu()).sum((2, 3), keepdim=True)
    else:
        weight = g.mean((2, 3), keepdim=True)
    cam = (weight * a).sum(1, keepdim=True).relu()
    cam = F.interpolate(cam, pixels.shape[1:], mode="bilinear", align_corners=False)[:, 0].detach().double()
    return (cam / cam.amax((1, 2), keepdim=True)).nan_to_num().numpy()


LAYOUTS = {
    ("test_resnet", 64): lambda t: t,
    ("test_efficientnet", 96): lambda t: t,
    ("test_vit", 160): lambda t: t[:, 1:].transpose(1, 2).reshape(len(t), -1, 10, 10),
}


@pytest.mark.parametrize("method", LAYERED)
@pytest.mark.parametrize(("architecture", "size_px"), LAYOUTS, ids=lambda v: str(v))
def test_maps_are_those_of_the_formulas(architecture, size_px, method):
    network, pixels = make(architecture), pictures(3, size_px)
    name = map_layers.find_layer(network, size_px).name
    layout = LAYOUTS[architecture, size_px]
    expected = recomputed(network, pixels, 1, name, layout, method == "grad_cam_plus_plus")
    found = saliency.maps(network, pixels, 1, method)
    assert found.dtype == np.float32 and found.shape == pixels.shape
    assert expected.max() == 1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_channels_last_network_is_read_as_one():
    """A stage of Swin's layout: the same numbers as with channels first."""

    class Last(Bright):
        def forward(self, x):
            return self.head(self.turned(self.body(x)).mean((1, 2)))

    network = Last()
    network.turned = type("Turned", (nn.Module,), {"forward": lambda self, x: x.permute(0, 2, 3, 1)})()
    pixels, _ = squares(3)
    assert map_layers.find_layer(network, 64, "turned") == map_layers.Layer("turned", (16, 16), 8)
    for method in LAYERED:
        turned = saliency.maps(network, pixels, 0, method, "turned")
        np.testing.assert_allclose(turned, saliency.maps(network, pixels, 0, method, "body"), atol=1e-6)


@pytest.mark.parametrize("method", saliency.SALIENCY_METHODS)
def test_maps_point_at_what_decides(method):
    pixels, boxes = squares(6)
    found = saliency.maps(Bright(), pixels, 0, method)
    for map_, (x0, y0, x1, y1) in zip(found, boxes, strict=True):
        y, x = np.unravel_index(map_.argmax(), map_.shape)
        assert x0 - 2 <= x < x1 + 2 and y0 - 2 <= y < y1 + 2
        assert map_.max() == 1 and map_[y0:y1, x0:x1].sum() > 0.5 * map_.sum()


@pytest.mark.parametrize("method", saliency.SALIENCY_METHODS)
def test_no_evidence_is_a_map_of_zeros(method):
    pixels, _ = squares(2)
    network = Bright()
    nn.init.constant_(network.head.weight[0], 0)
    network.head.weight.data[0, 0] = -1  # bright speaks against it
    found = saliency.maps(network, np.where(pixels == 0, 127, pixels).astype(np.uint8), 0, method)
    assert (found == 0).all()
    if method == "grad_cam":
        against = saliency.maps(network, pixels, 0, method, relu=False)
        assert against.min() == -1 and against.max() <= 0


@pytest.mark.parametrize("method", saliency.SALIENCY_METHODS)
def test_batches_do_not_matter_and_the_network_is_left_alone(method):
    network, pixels = make("test_resnet").train(), pictures(5, 48)
    network.layer1.eval()
    for parameter in network.layer3.parameters():
        parameter.requires_grad_(False)
    network.fc.weight.grad = torch.full_like(network.fc.weight, 3.0)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    whole = saliency.maps(network, pixels, 0, method)
    np.testing.assert_allclose(whole, saliency.maps(network, pixels, 0, method, batch_size=2), atol=1e-4)
    assert modes == [module.training for module in network.modules()]
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(p.requires_grad for p in network.layer3.parameters()) and network.fc.weight.requires_grad
    assert (network.fc.weight.grad == 3).all() and network.conv1[0].weight.grad is None
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("method", LAYERED)
def test_a_frozen_network_has_the_same_maps(method):
    network, pixels = make("test_efficientnet"), pictures(2, 64)
    expected = saliency.maps(network, pixels, 0, method)
    network.requires_grad_(False)
    with torch.no_grad():
        np.testing.assert_array_equal(saliency.maps(network, pixels, 0, method), expected)


def test_an_operation_in_place_after_the_layer_changes_nothing():
    pixels, _ = squares(3)
    network = Bright()
    before = saliency.maps(network, pixels, 0, "grad_cam", "body.0")
    network.body[1] = nn.ReLU(inplace=False)
    np.testing.assert_array_equal(before, saliency.maps(network, pixels, 0, "grad_cam", "body.0"))


def test_no_images_no_maps():
    assert saliency.maps(Bright(), np.zeros((0, 64, 64), np.uint8), 0, "grad_cam").shape == (0, 64, 64)


def test_what_maps_refuses():
    network, pixels = make("test_resnet"), pictures(1, 64)
    with pytest.raises(ValueError, match="no saliency method; there are grad_cam, "):
        saliency.maps(network, pixels, 0, "gradcam")
    with pytest.raises(ValueError, match="no finding 2: the network has 2"):
        saliency.maps(network, pixels, 2, "grad_cam")
    for wrong in (pixels / 255, pixels[0], pixels[:, :32]):
        with pytest.raises(ValueError, match="not uint8"):
            saliency.maps(network, wrong, 0, "grad_cam")
    network.fc.weight.data[:] = np.nan
    with pytest.raises(ValueError, match=r"image 0 is not finite|no logit depends"):
        saliency.maps(network, pixels, 0, "grad_cam")


# --- sanity checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "first", "last"),
    [
        ("test_resnet", "fc", "conv1"),
        ("test_efficientnet", "classifier", "conv_stem"),
        ("test_vit", "head", "cls_token, pos_embed"),
        ("densenet121", "classifier", "features.conv0"),
        ("test_convnext", "head", "stem"),
    ],
)
def test_the_cascade_reaches_every_parameter_from_head_to_stem(architecture, first, last):
    network = make(architecture)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    given = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state()
    names = list(randomisation.blocks(network))
    assert names[0] == first and names[-1] == last
    before, steps = network, 0
    for name, changed in randomisation.cascade(network, 1):
        assert name == names[steps]
        differs = {n for n, p in changed.named_parameters() if not torch.equal(p, dict(before.named_parameters())[n])}
        assert differs and all(any(n.startswith(part) for part in name.split(", ")) for n in differs)
        before, steps = changed, steps + 1
    assert steps == len(names)
    assert not [n for n, p in changed.named_parameters() if torch.equal(p, given[n])]
    assert all(torch.equal(value, given[n]) for n, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_cascade_is_fixed_by_its_seed():
    network = make("test_resnet")
    one, again, other = (list(randomisation.cascade(network, seed))[-1][1].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["fc.weight"], other["fc.weight"])


def test_maps_of_a_randomised_network_no_longer_agree():
    pixels, _ = squares(8)
    network = Bright()
    maps = saliency.maps(network, pixels, 0, "grad_cam", relu=False)
    alike = []
    for seed in range(6):
        last = list(randomisation.cascade(network, seed))[-1][1]
        alike.append(randomisation.similarity(maps, saliency.maps(last, pixels, 0, "grad_cam", relu=False)))
    assert abs(pd.concat(alike)["rank_correlation"].mean()) < 0.5
    same = randomisation.similarity(maps, maps)
    np.testing.assert_allclose(same, 1, atol=1e-9)


def test_similarity():
    rng = np.random.default_rng(0)
    one = rng.random((3, 16, 16))
    other = np.stack([one[0] ** 3, 1 - one[1], np.full((16, 16), 0.5)])
    found = randomisation.similarity(one, other)
    np.testing.assert_allclose(found["rank_correlation"], [1, -1, np.nan])
    assert found["structural_similarity"].is_monotonic_decreasing or found["structural_similarity"].notna().all()
    with pytest.raises(ValueError, match="not twice"):
        randomisation.similarity(one, other[:2])


# --- to look at ---------------------------------------------------------------------------------------------


def test_overlay_without_an_image_holds_no_pixel_of_it():
    (image,), (box,) = squares(1)
    map_ = saliency.maps(Bright(), image[None], 0, "grad_cam")[0]
    drawn = []
    for one in (None, np.full_like(image, 96)):
        fig, axis = figures.figure(width=2, height=2)
        overlays.overlay(axis, one, map_, [box])
        fig.canvas.draw()
        drawn.append(np.asarray(fig.canvas.buffer_rgba()).copy())
        plt.close(fig)
    np.testing.assert_array_equal(*drawn)
    with pytest.raises(ValueError, match="as its map"):
        overlays.overlay(axis, image[:32], map_)


def test_slider_is_whole_and_the_same_every_time():
    (image,), (box,) = squares(1)
    map_ = image / 255
    html = overlays.opacity_slider(image, map_, [box, box], 'a "<title>"')._repr_html_()
    assert html == overlays.opacity_slider(image, map_, [box, box], 'a "<title>"')._repr_html_()
    assert html.count("<rect") == 2 and html.count("data:image/png;base64,") == 2
    assert "&lt;title&gt;" in html and 'type="range"' in html and "<script" not in html and "http" not in html
    assert " id=" not in html
    assert "<rect" not in overlays.opacity_slider(None, map_)._repr_html_()


# --- command line -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder as notebook 10 writes it, of a network with random weights."""
    folder = tmp_path_factory.mktemp("run")
    architectures.save_network(make("test_resnet"), folder / "model.safetensors")
    parameters = {"architecture": "test_resnet", "findings": ["effusion", "mass"], "cohort": "none", "size_px": 64}
    (folder / "run.json").write_text(json.dumps({"parameters": parameters, "data_sha256": {"images": "0"}}))
    return folder


def save(path, mode="L", size=(90, 140)):
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, size[::-1]).astype(np.uint8)
    image = Image.fromarray(np.uint16(pixels) * 257) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    image.save(path)
    return path


def test_command_line_on_odd_images(run, tmp_path, capsys):
    files = [
        save(tmp_path / "portrait.png"),
        save(tmp_path / "wide.jpg", size=(300, 80)),
        save(tmp_path / "deep.png", "I;16"),
        save(tmp_path / "alpha.png", "RGBA"),
        save(tmp_path / "portrait.jpg"),
    ]
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:300])
    (tmp_path / "notes.txt").write_text("no image")
    names = [str(f) for f in (*files, tmp_path / "cut.png", tmp_path / "notes.txt", tmp_path / "none.png", tmp_path)]
    out = tmp_path / "out"
    assert explain.main([*names, "--run", str(run), "--out", str(out)]) == 0
    table = pd.read_csv(out / "explained.csv")
    assert len(table) == 10 and (table["run"] == str(run)).all() and (table["method"] == "grad_cam").all()
    assert list(table) == ", ".join(explain.EXPLAINED_COLUMNS).replace("in_box_frac, ", "").split(", ") and set(
        table["finding"]
    ) == {"effusion", "mass"}
    assert (table["layer"] == "layer2").all()
    assert table["probability"].between(0, 1).all()
    assert table["peak_inside"].dtype == bool
    said = capsys.readouterr()
    for name in ("cut.png", "notes.txt", "none.png"):
        assert f"{tmp_path / name} is left out: " in said.err
    assert said.err.count(" is left out: ") == 4 and "Traceback" not in said.err
    drawn = {f.name for f in out.glob("*.png")}
    assert {"portrait-effusion-grad_cam.png", "portrait-2-mass-grad_cam.png", "deep-mass-grad_cam.png"} <= drawn
    assert set(table["overlay"]) == drawn and len(drawn) == 10


def test_command_line_when_nothing_can_be_read(run, tmp_path, capsys):
    (tmp_path / "empty.png").write_bytes(b"")
    assert explain.main([str(tmp_path / "empty.png"), "--run", str(run), "--out", str(tmp_path / "out")]) == 1
    assert "the file is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--finding", "edema"], "no finding 'edema'; it has effusion, mass"),
        (["--layer", "layer9"], "no layer 'layer9'"),
        (["--box", "900,10,200,20"], "leaves its frame of 1024 px"),
        (
            ["--run", "nowhere"],
            "has no run.json and no model.safetensors: give one of results/EDITION/runs/ (made by",
        ),
        (["--run", __file__], "is a file: give results/EDITION/runs/TARGET"),
        (["--size-px", "65"], "was trained at 64 px, not at 65: leave out --size-px"),
        (["--method", "occlusion", "--layer", "layer2"], "occlusion reads no layer: leave out --layer"),
        (["b.png", "--box", "0,0,9,9"], "--box is of one image and 2 were given: call once for each"),
        (["--out", f"{__file__}/sub"], "cannot be made (Not a directory): name another folder by --out"),
        (["--out", __file__], "is a file: name a folder by --out"),
    ],
)
def test_command_line_refuses_in_one_sentence(run, tmp_path, more, says):
    arguments = ["--run", str(run), "--out", str(tmp_path / "out"), str(save(tmp_path / "a.png")), *more]
    with pytest.raises(SystemExit) as ended:
        explain.main(arguments)
    assert says in str(ended.value.code) and "\n" not in str(ended.value.code)


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "5,5,0,3", "-4,5,10,10"])
def test_boxes_that_are_none(run, box, capsys):
    with pytest.raises(SystemExit):
        explain.main(["a.png", "--run", str(run), "--out", "out", f"--box={box}"])
    assert "is not x,y,width,height" in (said := capsys.readouterr().err) or "has no area, or begins outside" in said


def test_the_record_of_a_run_is_checked(run, tmp_path):
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    entry = json.loads((run / "run.json").read_text())
    del entry["parameters"]["size_px"]
    (tmp_path / "run.json").write_text(json.dumps(entry))
    with pytest.raises(ValueError, match=r"give --size-px \(size_px in editions/EDITION.yaml\)"):
        trained_runs.open_run(tmp_path)
    assert trained_runs.open_run(tmp_path, 96).size_px == 96
    wrong = [
        {**entry["parameters"], **change} for change in ({"findings": []}, {"size_px": "64"}, {"architecture": 3})
    ]
    for content in ("{}", "[]", b"\xff\xfe{", *(json.dumps({"parameters": one}) for one in wrong)):
        (tmp_path / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match="no record of a run"):
            trained_runs.open_run(tmp_path)


def test_the_weights_of_a_run_are_checked(run, tmp_path):
    record, weights = (run / "run.json").read_text(), (run / "model.safetensors").read_bytes()
    for content in (b"", weights[:5], weights[:3000], weights[:-9]):
        (tmp_path / "run.json").write_text(record)
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"model.safetensors .*: copy it from the run again.$"):
            trained_runs.open_run(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    for architecture, says in (
        ("test_vit", r"weights of test_vit .*: take model.safetensors from the same run.$"),
        ("resnet_of_tomorrow", "'resnet_of_tomorrow', which the installed timm does not have: take a run"),
    ):
        (tmp_path / "run.json").write_text(record.replace("test_resnet", architecture))
        with pytest.raises(ValueError, match=says) as raised:
            trained_runs.open_run(tmp_path)
        assert "\n" not in str(raised.value)


def call(run, out, *more, status=0):
    assert explain.main([*map(str, more), "--run", str(run), "--out", str(out)]) == status
    return pd.read_csv(out / "explained.csv", keep_default_na=False)


def test_any_file_name_can_be_a_title(run, tmp_path):
    files = [save(tmp_path / name) for name in ("costs $5_{ and $x^2.png", "ä" * 120 + ".png", "ä" * 120 + "b.png")]
    table = call(run, tmp_path / "out", *files, "--finding", "mass")
    assert table["overlay"].nunique() == 3 and (table["overlay"].str.len() < 120).all()
    assert all((tmp_path / "out" / name).is_file() for name in table["overlay"])


def test_an_overlay_that_cannot_be_written_costs_only_itself(run, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "a-effusion-grad_cam.png").mkdir(parents=True)
    table = call(run, out, save(tmp_path / "a.png"))
    assert table["overlay"].tolist() == ["", "a-mass-grad_cam.png"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "a-effusion-grad_cam.png cannot be written (Is a directory)" in said


def test_what_is_done_is_written_whatever_happens(run, tmp_path, monkeypatch):
    maps = saliency.maps

    def fails_late(network, pixels, k, *rest):
        if k == 1:
            raise ValueError("no more")
        return maps(network, pixels, k, *rest)

    monkeypatch.setattr(explain.saliency, "maps", fails_late)
    with pytest.raises(SystemExit, match="no more"):
        call(run, tmp_path / "out", save(tmp_path / "a.png"))
    assert pd.read_csv(tmp_path / "out" / "explained.csv")["finding"].tolist() == ["effusion"]


def test_a_second_call_keeps_the_first_table(run, tmp_path):
    out, file = tmp_path / "out", save(tmp_path / "a.png")
    first = call(run, out, file, "--finding", "mass", "--finding", "mass")
    assert len(first) == 1
    with pytest.raises(SystemExit, match=r"already has an explained\.csv: give another --out, or --force to "):
        call(run, out, file, "--method", "occlusion")
    pd.testing.assert_frame_equal(pd.read_csv(out / "explained.csv", keep_default_na=False), first)
    second = call(run, out, file, "--method", "occlusion", "--force")
    assert (second["layer"] == "none").all() and (second["method"] == "occlusion").all()
    assert len(list(out.glob("*.png"))) == 3


def test_images_of_one_name_are_told_apart(run, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    files = [save(tmp_path / "one" / "a.png"), save(tmp_path / "other" / "a.png"), save(tmp_path / "b.png")]
    table = call(run, tmp_path / "out", *files, "--finding", "mass")
    assert table["overlay"].tolist() == ["a-mass-grad_cam.png", "a-2-mass-grad_cam.png", "b-mass-grad_cam.png"]
    assert explain._titles([explain.read_fitted(file, 64) for file in files]) == ["one/a.png", "other/a.png", "b.png"]


def test_no_evidence_has_no_peak(run, tmp_path, monkeypatch):
    titles = []
    draw = explain._draw
    monkeypatch.setattr(explain, "_draw", lambda *given: titles.append(given[-1]) or draw(*given))
    monkeypatch.setattr(explain.saliency, "maps", lambda network, pixels, *rest: np.zeros(pixels.shape, np.float32))
    (row,) = call(run, tmp_path / "out", save(tmp_path / "a.png"), "--finding", "mass", "--box=0,0,9,9").to_dict(
        "records"
    )
    assert row["peak_x_px"] == row["peak_y_px"] == row["in_box_frac"] == "" and row["peak_inside"] is False
    assert titles[0].endswith(", no evidence")


def picture_of(path, size, size_px, box=None):
    """A picture that is white in a box of the source, x0, y0, x1, y1, or all over but for one pixel."""
    pixels = np.zeros(size[::-1], np.uint8)
    x0, y0, x1, y1 = (0, 0, *size) if box is None else box
    pixels[y0:y1, x0:x1] = 255
    pixels[-1, -1] -= box is None
    Image.fromarray(pixels).save(path)
    return explain.read_fitted(path, size_px)


def ends(square):
    """Where a white rectangle lies, to a fraction of a pixel: x0, y0, x1, y1 by mass and its middle."""
    found = []
    for line in (square.max(0) / 255, square.max(1) / 255):
        middle = (line * (np.arange(len(line)) + 0.5)).sum() / line.sum()
        found.append((middle - line.sum() / 2, middle + line.sum() / 2))
    return [found[0][0], found[1][0], found[0][1], found[1][1]]


LONG = [(300, 1024), (37, 1024), (1, 1024), (1024, 300)]


@pytest.mark.parametrize("size_px", [64, 128, 224])
@pytest.mark.parametrize("size", LONG, ids=str)
def test_boxes_lie_on_what_is_painted_in_long_images(tmp_path, size, size_px):
    picture = picture_of(tmp_path / "a.png", size, size_px)
    assert picture.packed_box(0, 0, 1024, 1024, 1024) == pytest.approx(ends(picture.square), abs=0.01)
    assert picture.source_point(*picture.place[2:]) == pytest.approx(size)
    if min(size) == 300:  # inside, what resampling blurs and rounds to 8 bits is up to 0.02
        picture = picture_of(tmp_path / "a.png", size, size_px, [side // 4 * k for k in (1, 3) for side in size])
        assert picture.packed_box(256, 256, 512, 512, 1024) == pytest.approx(ends(picture.square), abs=0.02)


def test_square_images_have_the_boxes_they_had(tmp_path):
    picture = picture_of(tmp_path / "a.png", (1024, 1024), 224, (0, 0, 9, 9))
    assert picture.packed_box(100, 7, 333, 11, 1024) == (
        100 * 224 / 1024,
        7 * 224 / 1024,
        433 * 224 / 1024,
        18 * 224 / 1024,
    )


def test_the_peak_is_the_middle_of_the_highest_pixels(tmp_path):
    picture = picture_of(tmp_path / "a.png", (1024, 512), 64, (0, 0, 9, 9))  # 64 x 32, from row 16 on
    map_ = np.zeros((64, 64), np.float32)
    map_[20:24, 10:14] = 1
    map_[20, 10] = 1 + 5e-7
    map_[40:44, 40:44] = 1  # lower: another group
    assert explain._peak(picture, map_) == {"peak_x_px": 12 * 16, "peak_y_px": 6 * 16, "peak_inside": True}
    map_[2, 5] = 2
    assert explain._peak(picture, map_) == {"peak_x_px": 88, "peak_y_px": -216, "peak_inside": False}
    assert explain._peak(picture, map_[::-1])["peak_inside"] is False


def test_boxes_may_end_at_their_frames_edge(run, tmp_path):
    arguments = ["--finding", "mass", "--box", "0.1,0.2,0.9000000001,0.8", "--box-frame", "1"]
    assert call(run, tmp_path / "out", save(tmp_path / "a.png"), *arguments)["in_box_frac"].between(0, 1).all()


@pytest.mark.parametrize("more", [["--size-px", "0"], ["--box-frame", "-1"], ["--box-frame", "1e3"]])
def test_sides_are_whole_numbers(run, more, capsys):
    with pytest.raises(SystemExit):
        explain.main(["a.png", "--run", str(run), "--out", "out", *more])
    assert "is not a whole number of 1 or more" in capsys.readouterr().err


def test_help_says_what_the_table_holds(capsys):
    with pytest.raises(SystemExit):
        explain.main(["--help"])
    said = capsys.readouterr().out
    assert all(f"\n{name}: " in said for name in explain.EXPLAINED_COLUMNS) and "laid over the source" in " ".join(
        said.split()
    )


def test_overlays_show_the_radiograph_and_not_the_square(tmp_path):
    """A fine pattern that the square cannot hold is in the overlay's image, where the square has it."""
    pixels = np.uint8(np.indices((1500, 3000)).sum(0) // 25 % 2 * 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = explain.read_fitted(tmp_path / "a.png", 32)
    assert picture.shown.shape == (512, 1024) and picture.shown.std() > 4 * picture.square[8:24].std()
    fig, axis = figures.figure(width=2, height=2)
    overlays.overlay(axis, picture.shown, np.ones((32, 32)), place=picture.place)
    image, heat = axis.get_images()
    assert image.get_extent() == [0, 32, 24, 8] and heat.get_extent() == [0, 32, 32, 0]
    assert axis.get_xlim() == (0, 32) and axis.get_ylim() == (32, 0)
    plt.close(fig)


@pytest.mark.parametrize("size", [(1024, 1024), (600, 1000), (2500, 2048), (101, 57)], ids=str)
def test_boxes_are_in_their_frame_of_the_source(tmp_path, size):
    """A box of NIH's 1024 x 1024 frame lands where its part of the picture lands, and points go back."""
    width, height = size
    pixels = np.zeros((height, width), np.uint8)
    x, y, w, h = 256, 512, 128, 256  # of 1024
    inside = [round(v * s / 1024) for v, s in ((x, width), (y, height), (x + w, width), (y + h, height))]
    pixels[inside[1] : inside[3], inside[0] : inside[2]] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = explain.read_fitted(tmp_path / "a.png", 128)
    x0, y0, x1, y1 = picture.packed_box(x, y, w, h, 1024)
    rows, columns = np.nonzero(picture.square.max(1) > 127)[0], np.nonzero(picture.square.max(0) > 127)[0]
    found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert (x0, y0, x1, y1) == pytest.approx(found, abs=1.2 * max(1, picture.scale))
    assert picture.source_point(x0, y0) == pytest.approx((x * width / 1024, y * height / 1024))
