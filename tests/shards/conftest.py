"""A store of nine photographs in shards of four, with features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featplug.io.parts.manifest import make_manifest
from featplug.shards.extract_parts import ExtractParts
from featplug.shards.run_parts import run_parts
from featplug.stages.extract import ExtractOptions
from featplug.stages.retrieve import RetrieveOptions

EXTRACTION = ExtractOptions(device="cpu", max_keypoints=60)
NUM_IMAGES = 9


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of nine photographs in shards of four, with features."""
    folder = tmp_path_factory.mktemp("retrieved")
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (14, 60), np.uint8)
    for number in range(NUM_IMAGES):  # a walk along a wall
        window = base[:, 4 * number : 4 * number + 20]
        Image.fromarray(np.kron(window, np.ones((8, 8), np.uint8))).save(images / f"{number}.png")
    make_manifest(images, folder / "store", 4)
    stage = ExtractParts(folder / "store", EXTRACTION.conf("sift"), EXTRACTION)
    run_parts(stage)
    return folder / "store"


def retrieval_options(store: Path) -> RetrieveOptions:
    option = ("num_clusters=8",)
    return RetrieveOptions(features=store / "feats-featplug-sift", option=option, device="cpu")
