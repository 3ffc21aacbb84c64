"""Converters of PyTorch checkpoints whose tensors keep their names, or nearly so."""

import re
from pathlib import Path

from torch import Tensor

from featplug.io.limits import MAX_BYTES
from featplug.weights.checkpoints import read_torch


def _state_dict(path: Path, max_bytes: int, key: str | None = None) -> dict[str, Tensor]:
    """Read a checkpoint that is a state dict, or that has one under a key."""
    contents = read_torch(path, max_bytes)
    state, problem = contents, "is not a state dict"
    if key is not None:
        state = contents.get(key) if isinstance(contents, dict) else None
        problem = f"has no state dict under {key!r}"
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        keys = list(map(str, contents)) if isinstance(contents, dict) else []
        holds = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        raise ValueError(
            f"{path} {problem} (it holds {holds or type(contents).__name__}), so it is another "
            "system's checkpoint."
        )
    return state


def d2net(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert a checkpoint of D2-Net, such as ``d2_tf.pth``: keys are kept.

    Raises:
        ValueError: the file has no state dict under ``model``, or cannot be read.
    """
    return _state_dict(path, max_bytes, "model")


def lisrd(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert a checkpoint of LISRD, such as ``lisrd_aachen.pth``.

    The prefix ``module.`` that training on several GPUs leaves on the keys is removed.

    Raises:
        ValueError: the file has no state dict under ``model_state_dict``, has none of the layers
            of the meta descriptors, or cannot be read.
    """
    state = _state_dict(path, max_bytes, "model_state_dict")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if not any(key.startswith("vlad_") for key in state):
        raise ValueError(
            f"{path} has no vlad layers, so it is another system's checkpoint or one of LISRD "
            "trained without meta descriptors, which cannot be matched."
        )
    return state


def mtldesc(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert a checkpoint of MTLDesc (``model_29.pt``): keys lose a prefix ``module.``.

    Raises:
        ValueError: the file is not a state dict, or cannot be read.
    """
    return {str(key).removeprefix("module."): v for key, v in _state_dict(path, max_bytes).items()}


def state_dict(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Read a checkpoint that is a state dict with the network's names, such as ALIKED's.

    Raises:
        ValueError: the file is not a state dict, or cannot be read.
    """
    return _state_dict(path, max_bytes)


def disk(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert a checkpoint of DISK, such as ``depth-save.pth``: keys are kept.

    Raises:
        ValueError: the file has no state dict under ``extractor``, or cannot be read.
    """
    return _state_dict(path, max_bytes, "extractor")


def loftr(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert a checkpoint of LoFTR, such as ``loftr_outdoor.ckpt``: a prefix ``matcher.`` goes.

    Raises:
        ValueError: the file has no state dict under ``state_dict``, or cannot be read.
    """
    state = _state_dict(path, max_bytes, "state_dict")
    return {str(key).removeprefix("matcher."): value for key, value in state.items()}


def lightglue(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert weights of LightGlue or LighterGlue to the names that its later versions have.

    The first version numbers its attention layers in another order of words, and has a parameter
    ``r`` that nothing reads; LighterGlue's file also holds XFeat.

    Raises:
        ValueError: the file is not a state dict, or cannot be read.
    """
    converted = {}
    for key, value in _state_dict(path, max_bytes).items():
        key = re.sub(r"^(self|cross)_attn\.(\d+)\.", r"transformers.\2.\1_attn.", str(key))
        if not re.match(r"extractor\.|log_assignment\.\d+\.r$", key):
            converted[key.removeprefix("matcher.")] = value
    return converted


def patch_network(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Convert a checkpoint of HardNet, Key.Net, OriNet or AffNet: keys are kept.

    Raises:
        ValueError: the file has no state dict under ``state_dict``, or cannot be read.
    """
    return _state_dict(path, max_bytes, "state_dict")
