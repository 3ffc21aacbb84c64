"""Features and matches as deep-image-matching writes them, through every stage after them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest

from featplug.colmap.cameras import CameraOptions
from featplug.colmap.mapping import MapOptions
from featplug.io.artifact import Provenance
from featplug.io.exchange.colmap import export_database
from featplug.io.exchange.kapture import KaptureOptions, export_kapture
from featplug.io.exchange.schoenberger import export_dataset
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.store import FeatureReader
from featplug.stages.map import map_images
from featplug.stages.triangulate import triangulate_known_poses
from featplug.stages.verify import VerifyOptions, verify_pairs
from tests.scenes.synthetic import SyntheticScene


@pytest.fixture
def theirs(synthetic_scene: SyntheticScene, tmp_path: Path) -> SyntheticScene:
    """The scene's files in that layout: a list of matches for each pair, and no usable size."""
    features, matches = tmp_path / "feats.h5", tmp_path / "matches.h5"
    (tmp_path / "images").symlink_to(synthetic_scene.images)
    with FeatureReader(synthetic_scene.features) as ours, h5py.File(features, "w") as file:
        for name in synthetic_scene.names:
            group = file.create_group(name)
            for key, array in ours.read(name, ["keypoints", "descriptors", "scores"]).items():
                group.create_dataset(key, data=array, compression="gzip", compression_opts=9)
            height_first = np.array(ours.image_size(name)[::-1], np.float16)
            group["image_size"], group["im_path"] = height_first, str(tmp_path / name)
    with MatchReader(synthetic_scene.matches) as ours_matched, h5py.File(matches, "w") as file:
        for name0, name1 in combinations(synthetic_scene.names, 2):
            file[f"{name0}/{name1}"] = ours_matched.read(name0, name1)[0]
    return replace(synthetic_scene, folder=tmp_path)


def test_a_model_is_made_of_them(theirs: SyntheticScene, tmp_path: Path) -> None:
    database, pairs = tmp_path / "out" / "database.db", list(combinations(theirs.names, 2))
    database.parent.mkdir()
    options = VerifyOptions(camera=CameraOptions(mode="single"))
    verify_pairs(
        database, theirs.images, theirs.names, theirs.features, theirs.matches, pairs, options
    )
    model = map_images(database, theirs.images, tmp_path / "out", MapOptions()).model
    assert model.num_reg_images() == len(theirs.names)
    assert model.num_points3D() > 200


def test_sizes_come_from_the_photographs(theirs: SyntheticScene, tmp_path: Path) -> None:
    options = KaptureOptions(image_dir=theirs.images)
    export_kapture(tmp_path / "kapture", theirs.features, theirs.matches, options=options)
    with FeatureReader(theirs.features) as reader:
        assert {reader.known_image_size(name) for name in theirs.names} == {None}
    sensors = (tmp_path / "kapture" / "sensors" / "sensors.txt").read_text()
    with FeatureReader(theirs.features) as reader, pytest.raises(ValueError, match="image_size"):
        reader.image_size(theirs.names[0])
    assert sensors.count("camera, UNKNOWN_CAMERA") == len(theirs.names)
    assert "1024, 768" in sensors


@pytest.mark.parametrize("what", ["verify", "triangulate", "colmap", "kapture", "schoenberger"])
def test_matches_of_another_feature_file_are_rejected(
    synthetic_scene: SyntheticScene, tmp_path: Path, what: str
) -> None:
    """As many keypoints may be in both, so that no index would be outside."""
    scene, pairs = synthetic_scene, list(combinations(synthetic_scene.names, 2))
    features, matches = scene.features, tmp_path / "other.h5"
    out = tmp_path / "out"
    provenance = Provenance("matches", {}, inputs={"features": "another"})
    with FeatureReader(features) as reader, MatchWriter(matches, provenance) as writer:
        for pair in pairs:
            num0, num1 = (len(reader.keypoints(name)) for name in pair)
            matches0 = np.r_[np.arange(100), np.full(num0 - 100, -1)]
            writer.write(*pair, matches0, np.ones(num0), num1)
    run = {
        "verify": lambda: verify_pairs(
            out / "database.db", scene.images, scene.names, features, matches, pairs,
            VerifyOptions(),
        ),
        "triangulate": lambda: triangulate_known_poses(
            scene.truth, scene.images, pairs, features, matches, out
        ),
        "colmap": lambda: export_database(out / "database.db", features, scene.images, matches),
        "kapture": lambda: export_kapture(out, features, matches),
        "schoenberger": lambda: export_dataset(out, features, matches),
    }[what]  # fmt: skip
    out.mkdir()
    with pytest.raises(ValueError, match=r"other.h5 has matches of other features.*; give the"):
        run()
    assert not [path for path in out.rglob("*") if path.suffix in (".db", ".bin", ".matches")]
