"""Networks on one photograph, beside the authors' code and the bare forward pass."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from benchmarks.speed.measure import Case, Figures, Setup
from featplug.io.images import list_images, read_image


def _resized(setup: Setup, width: int) -> np.ndarray:
    image = Image.fromarray(read_image(setup.images / list_images(setup.images)[0]))
    return np.asarray(image.resize((width, round(width * image.height / image.width))))


def _d2net_ours(setup: Setup, width: int, scales: list[float]) -> Figures:
    from featplug.methods import build_extractor

    conf = {"name": "d2net", "checkpoint": "d2net-ots", "use_relu": False, "scales": scales}
    extractor = build_extractor(conf)
    image = torch.from_numpy(_resized(setup, width).transpose(2, 0, 1) / np.float32(255))
    start = time.perf_counter()
    features = extractor({"image": image[None]})
    return {
        "seconds": time.perf_counter() - start,
        "keypoints": len(features["keypoints"][0]),
    }


def _d2net_authors(setup: Setup, width: int, scales: list[float]) -> Figures:
    sys.path.insert(0, str(setup.d2net))
    from lib.model_test import D2Net  # type: ignore[import-not-found]
    from lib.pyramid import process_multiscale  # type: ignore[import-not-found]
    from lib.utils import preprocess_image  # type: ignore[import-not-found]

    from featplug.weights.loading import load_weights

    model = D2Net(model_file=None, use_relu=False, use_cuda=False)
    load_weights("d2net-ots", "auto", model)
    image = preprocess_image(_resized(setup, width), preprocessing="caffe")
    start = time.perf_counter()
    with torch.no_grad():
        batch = torch.tensor(image[None].astype(np.float32))
        keypoints, _, _ = process_multiscale(batch, model, scales=scales)
    return {"seconds": time.perf_counter() - start, "keypoints": len(keypoints)}


def d2net_ours(setup: Setup) -> Figures:
    """``d2net-ots``, 1,600 px wide."""
    return _d2net_ours(setup, 1600, [1.0])


def d2net_authors(setup: Setup) -> Figures:
    """The authors' code on the same image and weights."""
    return _d2net_authors(setup, 1600, [1.0])


def d2net_ms_ours(setup: Setup) -> Figures:
    """``d2net-ots-ms``, three scales, 1,024 px wide."""
    return _d2net_ours(setup, 1024, [0.5, 1.0, 2.0])


def d2net_ms_authors(setup: Setup) -> Figures:
    """The authors' code on the same image and weights."""
    return _d2net_authors(setup, 1024, [0.5, 1.0, 2.0])


def _seeded(network_class: type[nn.Module], setup: Setup) -> Path:
    """Weights of the right size; how long a network takes does not depend on their values."""
    torch.manual_seed(0)
    network = network_class()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    path = setup.work / f"{network_class.__name__}.safetensors"
    save_file(network.state_dict(), path)
    return path


def _photograph(setup: Setup) -> torch.Tensor:
    """3×1067×1600, or of the photograph's own shape."""
    return torch.from_numpy(_resized(setup, 1600).transpose(2, 0, 1) / np.float32(255))


def _forward(network: nn.Module, image: torch.Tensor) -> Figures:
    """The bare forward pass, channels-last."""
    image = image[None].clone(memory_format=torch.channels_last)
    with torch.no_grad():
        network.eval()
        start = time.perf_counter()
        network(image)
        return {"seconds": time.perf_counter() - start}


def mtldesc_ours(setup: Setup) -> Figures:
    """``mtldesc``, 1,600 px wide, with weights drawn at random."""
    from featplug.extractors.mtldesc import MTLDescExtractor
    from featplug.networks.mtldesc import MTLDesc

    extractor = MTLDescExtractor({"weights": str(_seeded(MTLDesc, setup))}).eval()
    image = _photograph(setup)
    # As many pixels above the threshold as the trained detector has at most, about.
    with torch.no_grad():
        sample = extractor.network(image[None, :, :256, :256] * 2 - 1).logits.sigmoid()
    extractor.conf["detection_threshold"] = float(sample.quantile(0.95))
    start = time.perf_counter()
    features = extractor({"image": image[None]})
    return {
        "seconds": time.perf_counter() - start,
        "keypoints": len(features["keypoints"][0]),
    }


def mtldesc_forward(setup: Setup) -> Figures:
    """Its network alone, the photograph at a multiple of 16 pixels."""
    from featplug.networks.mtldesc import MTLDesc

    image = _photograph(setup)
    height, width = (side // 16 * 16 for side in image.shape[1:])
    torch.manual_seed(0)
    return _forward(MTLDesc(), image[:, :height, :width])


def lisrd_ours(setup: Setup) -> Figures:
    """``lisrd`` at 10,000 given keypoints, 1,600 px wide, with weights drawn at random."""
    from featplug.extractors.lisrd import LISRDExtractor
    from featplug.networks.lisrd import LISRD

    extractor = LISRDExtractor({"weights": str(_seeded(LISRD, setup))}).eval()
    image = _photograph(setup)
    size = torch.tensor(image.shape[:0:-1])
    keypoints = {"keypoints": torch.rand(10_000, 2) * (size - 1)}
    with torch.no_grad():
        start = time.perf_counter()
        extractor.describe(image, keypoints)
        return {"seconds": time.perf_counter() - start}


def lisrd_forward(setup: Setup) -> Figures:
    """Its network alone."""
    from featplug.networks.lisrd import LISRD

    torch.manual_seed(0)
    return _forward(LISRD(), _photograph(setup))


CASES: dict[str, Case] = {
    "d2net": Case("d2net-ots", {"featplug": d2net_ours, "authors": d2net_authors}),
    "d2net-ms": Case("d2net-ots-ms", {"featplug": d2net_ms_ours, "authors": d2net_ms_authors}),
    "mtldesc": Case("mtldesc", {"featplug": mtldesc_ours, "forward": mtldesc_forward}),
    "lisrd": Case("lisrd", {"featplug": lisrd_ours, "forward": lisrd_forward}),
}
