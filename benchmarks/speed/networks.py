"""Networks on one photograph, beside the authors' code and the bare forward pass."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.speed.measure import Measurement, Setup
from featplug.images import list_images, read_image


def _d2net_image(setup: Setup, width: int) -> np.ndarray:
    image = Image.fromarray(read_image(setup.images / list_images(setup.images)[0]))
    return np.asarray(image.resize((width, round(width * image.height / image.width))))


def _d2net_ours(setup: Setup, width: int, scales: list[float]) -> dict[str, Any]:
    from featplug.extractors import build_extractor

    conf = {"name": "d2net", "checkpoint": "d2net-ots", "use_relu": False, "scales": scales}
    extractor = build_extractor(conf)
    image = torch.from_numpy(_d2net_image(setup, width).transpose(2, 0, 1) / np.float32(255))
    start = time.perf_counter()
    features = extractor({"image": image[None]})
    return {
        "seconds": time.perf_counter() - start,
        "keypoints": len(features["keypoints"][0]),
    }


def _d2net_authors(setup: Setup, width: int, scales: list[float]) -> dict[str, Any]:
    sys.path.insert(0, str(setup.d2net))
    from lib.model_test import D2Net  # type: ignore[import-not-found]
    from lib.pyramid import process_multiscale  # type: ignore[import-not-found]
    from lib.utils import preprocess_image  # type: ignore[import-not-found]

    from featplug.weights import load_weights

    model = D2Net(model_file=None, use_relu=False, use_cuda=False)
    load_weights("d2net-ots", "auto", model)
    image = preprocess_image(_d2net_image(setup, width), preprocessing="caffe")
    start = time.perf_counter()
    with torch.no_grad():
        batch = torch.tensor(image[None].astype(np.float32))
        keypoints, _, _ = process_multiscale(batch, model, scales=scales)
    return {"seconds": time.perf_counter() - start, "keypoints": len(keypoints)}


def d2net_ours(setup: Setup) -> dict[str, Any]:
    """``d2net-ots``, 1,600 px wide."""
    return _d2net_ours(setup, 1600, [1.0])


def d2net_authors(setup: Setup) -> dict[str, Any]:
    """The authors' code on the same image and weights."""
    return _d2net_authors(setup, 1600, [1.0])


def d2net_ms_ours(setup: Setup) -> dict[str, Any]:
    """``d2net-ots-ms``, three scales, 1,024 px wide."""
    return _d2net_ours(setup, 1024, [0.5, 1.0, 2.0])


def d2net_ms_authors(setup: Setup) -> dict[str, Any]:
    """The authors' code on the same image and weights."""
    return _d2net_authors(setup, 1024, [0.5, 1.0, 2.0])


CASES: dict[str, dict[str, Measurement]] = {
    "d2net": {"featplug": d2net_ours, "authors": d2net_authors},
    "d2net-ms": {"featplug": d2net_ms_ours, "authors": d2net_ms_authors},
}
