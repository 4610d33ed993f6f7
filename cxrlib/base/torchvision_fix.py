"""Import torchvision where its binary does not fit a CPU-only torch.

PyPI's torchvision is a CUDA build. Beside a CPU-only torch its import fails with
`operator torchvision::nms does not exist`, although nothing used here needs that operator. Importing this
module first declares the two missing operators after exactly that error, and does nothing elsewhere.
`torchvision.io` and `torchvision.ops.nms` stay unusable in that case.
"""

import importlib
import sys

import torch

_library = None  # keeps the declared operators alive


try:
    importlib.import_module("torchvision")
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    importlib.import_module("torchvision")
