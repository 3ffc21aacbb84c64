"""Descriptors of patches: networks of features, SIFT, and functions of users."""

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.patches.sift import sift_of_patches
from featplug.base import choose_device
from featplug.extractors.doap import binary_descriptors
from featplug.extractors.sift import root_sift
from featplug.keypoints.patches import standardise_patches
from featplug.methods import feature_conf, features
from featplug.methods.user_classes import load_file
from featplug.networks.contextdesc import PATCH_SIZE, ContextDesc
from featplug.networks.l2net import DOAP
from featplug.weights.loading import load_network

_BATCH = 64
"""Number of patches in one pass through a network; the fastest on CPUs."""


@dataclass(frozen=True)
class PatchDescriptor:
    """A descriptor of patches."""

    name: str
    function: Callable[[np.ndarray], np.ndarray]
    """Patches N×H×W uint8 to descriptors N×D, compared by their Euclidean distance."""
    weights: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """Describe patches, N×H×W uint8, as N×D float32.

        Raises:
            ValueError: the function does not return N finite descriptors.
        """
        descriptors = np.asarray(self.function(patches))
        if descriptors.ndim != 2 or len(descriptors) != len(patches):
            raise ValueError(
                f"{self.name} returned an array of shape {descriptors.shape} for {len(patches)} "
                "patches; it must return one row for each."
            )
        if not np.isfinite(descriptors).all():
            raise ValueError(f"{self.name} returned descriptors that are not finite.")
        return descriptors.astype(np.float32, copy=False)


def load_descriptor(
    name: str, weights: str | None = None, device: str | None = None
) -> PatchDescriptor:
    """Load a descriptor by its name.

    Args:
        name: ``sift`` or ``rootsift``, both of the whole patch (the conf ``sift`` is RootSIFT), the
            conf of a feature whose network describes patches, or ``MODULE:FUNCTION`` or
            ``FILE.py:FUNCTION`` for any function from patches N×H×W uint8 to descriptors N×D.
        weights: ``official``, ``featplug`` or a file, for a conf; the default of the conf if None.
        device: device of torch; the best one if None.

    Raises:
        FileNotFoundError: the weights are missing.
        ValueError: the conf or function does not exist, does not describe patches, or has no
            weights to choose.
    """
    if ":" in name or name in _BY_HAND:
        if weights is not None:
            raise ValueError(f"{name} has no weights to choose.")
        return PatchDescriptor(name, _BY_HAND.get(name) or _import_function(name))
    conf = feature_conf(name)["model"]
    if conf["name"] not in _NETWORKS:
        able = [key for key, value in features.items() if value["model"]["name"] in _NETWORKS]
        raise ValueError(
            f"{name} does not describe single patches; use {', '.join([*_BY_HAND, *able])}, or "
            "MODULE:FUNCTION."
        )
    network_class, describe, size = _NETWORKS[conf["name"]]
    network, record = load_network(conf["checkpoint"], weights or "auto", network_class)
    chosen = choose_device(device)
    network.to(chosen).eval()

    def function(patches: np.ndarray) -> np.ndarray:
        side = size or cast(DOAP, network).patch_size
        batches = []
        with torch.inference_mode():
            for start in range(0, len(patches), _BATCH):
                resized = resize_patches(patches[start : start + _BATCH], side)
                batches.append(describe(network, resized, chosen))
        return np.concatenate(batches)

    kept = {key: asdict(record)[key] for key in ("name", "origin", "sha256")}
    return PatchDescriptor(name, function, [kept])


def resize_patches(patches: np.ndarray, size: int) -> np.ndarray:
    """Resize patches N×H×W to N×size×size float32; reduction averages pixels."""
    floats = patches.astype(np.float32)
    if patches.shape[1:] == (size, size):
        return floats
    smaller = size <= min(patches.shape[1:])
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.stack([cv2.resize(p, (size, size), interpolation=interpolation) for p in floats])


_BY_HAND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sift": sift_of_patches,
    "rootsift": lambda patches: root_sift(sift_of_patches(patches)),
}
"""Name to descriptor, of the descriptors without a network."""


def _describe_doap(network: DOAP, patches: np.ndarray, device: torch.device) -> np.ndarray:
    outputs = network(torch.from_numpy(patches).to(device)).float()
    if network.is_binary:
        return binary_descriptors(outputs)["descriptors"].T.numpy(force=True)
    return F.normalize(outputs).numpy(force=True)


def _describe_contextdesc(
    network: ContextDesc, patches: np.ndarray, device: torch.device
) -> np.ndarray:
    """Describe by the local network alone, scaled to unit length as in the authors' comparison."""
    standard = standardise_patches(patches, 1e-8)
    local, _ = network.describe_patches(torch.from_numpy(standard).to(device))
    return F.normalize(local.float()).numpy(force=True)


_NETWORKS: dict[str, tuple[type[Any], Callable[..., np.ndarray], int | None]] = {
    "doap": (DOAP, _describe_doap, None),
    "contextdesc": (ContextDesc, _describe_contextdesc, PATCH_SIZE),
}
"""Extractor to its network, the function that describes patches with it, and the side of the
patches; None where the network has it as ``patch_size``."""


def _import_function(spec: str) -> Callable[[np.ndarray], np.ndarray]:
    place, _, attribute = spec.rpartition(":")
    try:
        is_file = place.endswith(".py")
        module = load_file(Path(place)) if is_file else importlib.import_module(place)
        function = getattr(module, attribute)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        raise ValueError(f"{spec} cannot be imported: {error}.") from error
    if not callable(function):
        raise ValueError(f"{spec} is not a function from patches to descriptors.")

    def guarded(patches: np.ndarray) -> np.ndarray:
        try:
            return function(patches)
        except Exception as error:  # an error of a user's function ends this descriptor only
            raise ValueError(f"{spec} failed: {error!r}.") from error

    return guarded
