"""Features and matches of three photographs, two of them in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.store import FeatureReader, FeatureWriter
from tests.scenes.pictures import textured_image
from tests.scenes.synthetic import MatchedImages

NAMES = ["b.png", "db/a.png", "query/night/c.png"]
SIZE = (160, 120)
NUM_KEYPOINTS = {"b.png": 40, "db/a.png": 30, "query/night/c.png": 0}


def random_features(num: int, seed: int, dimensions: int = 128) -> dict[str, np.ndarray]:
    """Frames and RootSIFT-like descriptors."""
    rng = np.random.default_rng(seed)
    descriptors = rng.random((dimensions, num), np.float32)
    return {
        "keypoints": (rng.random((num, 2)) * SIZE - 0.5).astype(np.float32),
        "scores": rng.random(num, np.float32),
        "scales": 1 + rng.random(num, np.float32),
        "oris": 360 * rng.random(num, np.float32),
        "descriptors": descriptors / np.linalg.norm(descriptors, axis=0),
    }


def write_feature_file(path: Path, features: dict[str, dict[str, np.ndarray]]) -> Path:
    """Write features of images of one size."""
    with FeatureWriter(path, Provenance("features", {})) as writer:
        for name, datasets in features.items():
            writer.write(name, datasets, SIZE, 1.0, "")
    return path


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> MatchedImages:
    """``images/``, ``feats.h5`` and ``matches.h5``; the last image has no keypoints."""
    folder = tmp_path_factory.mktemp("interop")
    for i, name in enumerate(NAMES):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(textured_image(i, *SIZE)).save(path)
    features = {n: random_features(NUM_KEYPOINTS[n], seed) for seed, n in enumerate(NAMES)}
    write_feature_file(folder / "feats.h5", features)
    write_matches(folder / "matches.h5", NUM_KEYPOINTS["b.png"])
    return MatchedImages(folder)


def write_matches(path: Path, num1: int) -> None:
    """Match every second keypoint of b.png with another of db/a.png; b.png comes second."""
    rng = np.random.default_rng(5)
    matches0 = np.full(NUM_KEYPOINTS["db/a.png"], -1)
    matches0[::2] = rng.permutation(NUM_KEYPOINTS["b.png"])[: len(matches0[::2])]
    scores0 = np.where(matches0 >= 0, rng.random(len(matches0)), 0)
    with MatchWriter(path, Provenance("matches", {})) as writer:
        writer.write("db/a.png", "b.png", matches0, scores0, num1)
        writer.write("b.png", "query/night/c.png", np.full(40, -1), np.zeros(40), 0)


def assert_same_features(
    found: Path, wanted: Path, keys: tuple[str, ...], **tolerance: float
) -> None:
    """Two feature files hold the same images with the same datasets."""
    with FeatureReader(found) as ours, FeatureReader(wanted) as theirs:
        assert ours.names() == theirs.names()
        for name in theirs.names():
            assert ours.image_size(name) == theirs.image_size(name)
            datasets, expected = ours.read(name), theirs.read(name)
            if not len(expected["keypoints"]):
                assert datasets["keypoints"].shape == (0, 2)
                continue
            assert set(datasets) == {*keys, "image_size"}
            for key in keys:
                assert datasets[key].dtype == np.float32
                np.testing.assert_allclose(
                    datasets[key], expected[key], **{"rtol": 1e-6, "atol": 1e-5, **tolerance}
                )


def assert_same_matches(found: Path, wanted: Path, scores: bool = False) -> None:
    """Two match files hold the same matches of the pair that has some."""
    with MatchReader(found) as ours, MatchReader(wanted) as theirs:
        indices, values = ours.read("b.png", "db/a.png")
        expected, expected_values = theirs.read("b.png", "db/a.png")
    order, expected_order = np.lexsort(indices.T), np.lexsort(expected.T)
    np.testing.assert_array_equal(indices[order], expected[expected_order])
    if scores:
        np.testing.assert_array_equal(values[order], expected_values[expected_order])
    assert len(indices) == 15
