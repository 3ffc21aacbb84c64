"""Several models of one scene, images in none, and photographs that COLMAP cannot read."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featplug.colmap.model_files import read_model
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.pair_lists import write_pairs
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, reconstruct
from pipelines.sfm_summary import summary
from tests.scenes.synthetic import (
    SyntheticScene,
    near_pairs,
    write_street_scene,
    write_synthetic_scene,
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    return write_synthetic_scene(tmp_path_factory.mktemp("two") / "scene", num_images=11)


@pytest.fixture(scope="module")
def results(
    scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """Six images and four that share no match with them; the last one matches nothing."""
    folder = tmp_path_factory.mktemp("parts")
    parts = scene.names[:6], scene.names[6:10]
    pairs = list(combinations(scene.names, 2))
    with (
        MatchReader(scene.matches) as right,
        MatchWriter(folder / "matches.h5", Provenance("matches", {})) as writer,
    ):
        for name0, name1 in pairs:
            indices, _ = right.read(name0, name1)
            if not any(name0 in part and name1 in part for part in parts):
                # Seven matches of two pairs that have nothing else: too few for a geometry.
                is_first = name0 == scene.names[0] and name1 in scene.names[6:8]
                indices = indices[: 7 * is_first]
            matches0 = np.full(310, -1)
            matches0[indices[:, 0]] = indices[:, 1]
            writer.write(name0, name1, matches0, np.ones(310), 310)
    write_pairs(folder / "pairs.txt", pairs)
    options = SfmOptions(
        scene.images,
        pairs=str(folder / "pairs.txt"),
        matcher="NN-mutual",
        matches=folder / "matches.h5",
        outputs=folder / "outputs",
        extraction=FeatureOptions(features=scene.features),
    )
    return reconstruct(options), folder / "outputs"


def test_all_models_are_listed_with_their_images(
    scene: SyntheticScene, results: tuple[dict[str, Any], Path]
) -> None:
    record, outputs = results
    assert [model["images"] for model in record["models"]] == [scene.names[:6], scene.names[6:10]]
    for model in record["models"]:
        written = read_model(outputs / model["path"])
        assert written.num_reg_images() == len(model["images"])
        assert written.num_points3D() == model["points"] > 100
    assert read_model(outputs / "model").num_reg_images() == 6
    assert record["data"]["not_registered"] == scene.names[10:]
    text = summary(record)
    assert f"in another model, {record['models'][1]['path']} (4 images, " in text
    assert ", ".join(scene.names[6:10]) in text
    assert f"not registered: {scene.names[10]} has no matches" in text


def test_pairs_are_counted_by_what_became_of_them(results: tuple[dict[str, Any], Path]) -> None:
    record, _ = results
    metrics = {name: entry["value"] for name, entry in record["metrics"].items()}
    assert metrics["selected_pairs"] == 55
    assert metrics["matched_pairs"] == 15 + 6 + 2
    assert metrics["verified_pairs"] == 15 + 6
    assert metrics["model_pairs"] == 15
    assert (record["pairs_within_model"], record["pairs_leaving_model"]) == (15, 0)
    assert record["verified_pairs_by_inliers"]["300 or more"] > 15
    assert sum(record["verified_pairs_by_inliers"].values()) == 21
    assert "32 of 55 pairs have no matches" in summary(record)


def test_the_summary_says_what_few_points_hold_together(
    results: tuple[dict[str, Any], Path],
) -> None:
    record, _ = results
    assert record["weak_links"] == []
    assert record["metrics"]["two_view_points"]["value"] < 0.01
    text = summary(record)
    assert "hang" not in text
    assert "two images only" not in text
    counts = {"points": 34, "confirmed": 4, "pairs": 1, "most_inliers": 18}
    links = [{"images": images, **counts} for images in (["IMG_7.jpg"], ["a.jpg", "b.jpg"])]
    metrics = {**record["metrics"], "two_view_points": {"value": 0.57, "unit": "fraction"}}
    text = summary({**record, "weak_links": links, "metrics": metrics})
    assert "57% of the points are seen in two images only" in text
    assert "IMG_7.jpg hangs on 34 points, 4 of which" in text
    assert "on 1 pair of up to 18 inliers" in text
    assert "a.jpg, b.jpg (2 images) hang on 34 points" in text


def test_the_record_and_the_summary_have_the_clusters(tmp_path: Path) -> None:
    street = write_street_scene(tmp_path / "scene", num_images=20)
    write_pairs(tmp_path / "pairs.txt", near_pairs(sorted(street.poses)))
    options = SfmOptions(
        street.images,
        pairs=str(tmp_path / "pairs.txt"),
        matcher="NN-mutual",
        matches=street.matches,
        outputs=tmp_path / "outputs",
        extraction=FeatureOptions(features=street.features),
        mapper="partitioned",
        cluster_images=12,
        cluster_overlap=6,
    )
    record = reconstruct(options)
    assert record["metrics"]["registered_images"]["value"] == 20
    sizes = [cluster["num_images"] for cluster in record["clusters"]]
    assert len(sizes) == 2
    assert sum(sizes) == 20
    size = f"{min(sizes)} to {max(sizes)} images"
    assert f"mapped in clusters of {size}; the model has 2 of the 2 clusters" in summary(record)
    again = reconstruct(options)
    assert all(cluster["is_reused"] for cluster in again["clusters"])
    assert f"clusters of {size}, 2 of them by an earlier run; the model" in summary(again)
    assert read_model(tmp_path / "outputs" / "model").num_reg_images() == 20


def test_photographs_that_colmap_cannot_read_are_reconstructed(
    room_corner: Path, tmp_path: Path
) -> None:
    photographs = sorted((room_corner / "images").iterdir())
    forms = (".webp", "WEBP"), (".avif", "AVIF"), (".jpg", "WEBP"), (".jpg", "JPEG")
    images = tmp_path / "images"
    images.mkdir()
    for path, (suffix, form) in zip(photographs, [*forms, *forms], strict=False):
        Image.open(path).save(images / f"{path.stem}{suffix}", form, quality=95)
    record = reconstruct(SfmOptions(images, outputs=tmp_path / "outputs"))
    assert record["metrics"]["registered_images"]["value"] == len(photographs) == 6
    assert record["data"]["skipped"] == {}
    model = read_model(tmp_path / "outputs" / "model")
    colours = np.array([point.color for point in model.points3D.values()])
    assert (colours.max(1) > 0).mean() > 0.95
