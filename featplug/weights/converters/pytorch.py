"""Converters of D2-Net's, LISRD's and MTLDesc's checkpoints, whose tensors keep their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from featplug.weights.checkpoints import read_torch


def _check_state_dict(state: Any, contents: Any, path: Path, problem: str) -> dict[str, Tensor]:
    """Check that an entry of a checkpoint's contents, or all of them, is a state dict."""
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        keys = list(map(str, contents)) if isinstance(contents, dict) else []
        holds = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        raise ValueError(
            f"{path} {problem} (it holds {holds or type(contents).__name__}), so it is another "
            "system's checkpoint."
        )
    return state


def _tensors_under(contents: Any, key: str, path: Path) -> dict[str, Tensor]:
    """Take the state dict that a checkpoint holds under one key."""
    state = contents.get(key) if isinstance(contents, dict) else None
    return _check_state_dict(state, contents, path, f"has no state dict under {key!r}")


def d2net(path: Path) -> dict[str, Tensor]:
    """Convert a checkpoint of D2-Net (``d2_tf.pth`` and the like): keys are kept as they are.

    Raises:
        ValueError: the file has no state dict under ``model``, or cannot be read.
    """
    return _tensors_under(read_torch(path), "model", path)


def lisrd(path: Path) -> dict[str, Tensor]:
    """Convert a checkpoint of LISRD (``lisrd_aachen.pth`` and the like).

    Training on several GPUs leaves a prefix ``module.`` on the keys, which is taken off.

    Raises:
        ValueError: the file has no state dict under ``model_state_dict``, has none of the layers
            of the meta descriptors, or cannot be read.
    """
    state = _tensors_under(read_torch(path), "model_state_dict", path)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if not any(key.startswith("vlad_") for key in state):
        raise ValueError(
            f"{path} has no vlad layers, so it is another system's checkpoint or one of LISRD "
            "trained without meta descriptors, which cannot be matched."
        )
    return state


def mtldesc(path: Path) -> dict[str, Tensor]:
    """Convert a checkpoint of MTLDesc (``model_29.pt``): keys lose a prefix ``module.``.

    Raises:
        ValueError: the file is not a state dict, or cannot be read.
    """
    contents = read_torch(path)
    state = _check_state_dict(contents, contents, path, "is not a state dict")
    return {str(key).removeprefix("module."): tensor for key, tensor in state.items()}
