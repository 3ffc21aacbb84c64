"""Verified pairs that a model contradicts: an object and its copy in a synthetic scene."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featplug.colmap.model_files import read_model
from featplug.colmap.pair_usage import MOST_CONTRADICTED, pair_usage
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.pair_lists import Pair, write_pairs
from featplug.io.store import FeatureReader, FeatureWriter
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, reconstruct
from pipelines.sfm_summary import summary
from tests.scenes.synthetic import SyntheticScene, write_synthetic_scene

TWIN, SIXTH = 0, 5
"""The sixth image also sees a copy of all that the first one sees, as the first one sees it."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    return write_synthetic_scene(tmp_path_factory.mktemp("twin") / "scene", 8, noise=0.3)


def with_copy(
    scene: SyntheticScene, folder: Path, copied: list[int], fraction: float = 1.0
) -> dict[str, Any]:
    """Reconstruct the scene where the sixth image matches the copy in some images.

    Args:
        scene: the scene.
        folder: gets the files.
        copied: images that match the copy in the sixth image, not what it really sees.
        fraction: fraction of these matches that exist.
    """
    folder.mkdir()
    sixth, twin = scene.names[SIXTH], scene.names[TWIN]
    with (
        FeatureReader(scene.features) as right,
        FeatureWriter(folder / "feats.h5", Provenance("features", {})) as writer,
    ):
        num = {name: len(right.read(name)["keypoints"]) for name in scene.names}
        for name in scene.names:
            arrays, of_twin = right.read(name), right.read(twin)
            if name == sixth:
                for key, axis in (("keypoints", 0), ("scores", 0), ("descriptors", 1)):
                    arrays[key] = np.concatenate([arrays[key], of_twin[key]], axis)
            image = next(im for im in scene.truth.images.values() if im.name == name)
            camera = scene.truth.cameras[image.camera_id]
            writer.write(name, arrays, (camera.width, camera.height), 1.0, "")
    pairs: list[Pair] = []
    with (
        MatchReader(scene.matches) as true,
        MatchWriter(folder / "matches.h5", Provenance("matches", {})) as writer,
    ):
        for i, j in combinations(range(len(scene.names)), 2):
            pair = scene.names[i], scene.names[j]
            indices, _ = true.read(*pair)
            nums = [num[name] + (name == sixth) * num[twin] for name in pair]
            if SIXTH in (i, j) and i + j - SIXTH in copied:
                other = scene.names[i + j - SIXTH]
                of_twin, _ = true.read(twin, other)
                of_twin = of_twin[: int(fraction * len(of_twin))]
                indices = of_twin + np.array([num[sixth], 0])
                indices = indices if i == SIXTH else indices[:, ::-1]
            matches0 = np.full(nums[0], -1)
            matches0[indices[:, 0]] = indices[:, 1]
            writer.write(*pair, matches0, np.ones(nums[0]), nums[1])
            pairs.append(pair)
    write_pairs(folder / "pairs.txt", pairs)
    return reconstruct(
        SfmOptions(
            scene.images,
            pairs=str(folder / "pairs.txt"),
            matcher="NN-mutual",
            matches=folder / "matches.h5",
            outputs=folder / "outputs",
            extraction=FeatureOptions(features=folder / "feats.h5"),
        )
    )


@pytest.fixture(scope="module")
def right(
    scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("right") / "files"
    return with_copy(scene, folder, []), folder / "outputs"


def test_a_right_model_contradicts_no_pair(right: tuple[dict[str, Any], Path]) -> None:
    results, outputs = right
    usage = pair_usage(outputs / "database.db", read_model(outputs / "sparse" / "0"))
    assert (usage.num_used, usage.num_within, usage.num_leaving) == (28, 28, 0)
    assert usage.contradicted == {}
    assert usage.contradicted_matches == 0
    assert "check this model" not in summary(results)


def test_a_model_with_an_image_at_another_place_contradicts_its_pairs(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    """Four pairs see the copy, two what the image really sees: it is wrong, or they are."""
    results = with_copy(scene, tmp_path / "wrong", [1, 2, 3, 4])
    sixth = scene.names[SIXTH]
    contradicted = results["contradicted_pairs"]
    assert all(sixth in pair["images"] for pair in contradicted)
    assert 2 <= len(contradicted) <= 4
    inliers = [pair["inliers"] for pair in contradicted]
    assert inliers == sorted(inliers, reverse=True)
    assert results["metrics"]["contradicted_matches"]["value"] > MOST_CONTRADICTED
    text = summary(results)
    assert f"contradict {len(contradicted)} of the {results['pairs_within_model']}" in text
    assert " and ".join(contradicted[0]["images"]) in text


def test_a_right_model_is_trusted_although_it_contradicts_a_weak_pair(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    results = with_copy(scene, tmp_path / "weak", [4], fraction=0.15)
    (pair,) = results["contradicted_pairs"]
    assert set(pair["images"]) == {scene.names[4], scene.names[SIXTH]}
    assert 0 < results["metrics"]["contradicted_matches"]["value"] < MOST_CONTRADICTED
    assert "check this model" not in summary(results)


def test_a_model_of_few_images_is_reported_with_the_pairs_that_leave_it(
    right: tuple[dict[str, Any], Path],
) -> None:
    results, _ = right
    metrics = {**results["metrics"], "registered_images": {"value": 3, "unit": "images"}}
    text = summary({**results, "metrics": metrics, "pairs_leaving_model": 15})
    assert "only 3 of 8 images" in text
    assert "15 verified pairs" in text
    assert "only" not in summary(results)
