"""COLMAP: what goes into the database comes out as the right model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.colmap.cameras import CameraOptions
from featplug.colmap.database import (
    create_database,
    image_ids,
    import_features,
    import_matches,
)
from featplug.colmap.geometric_verification import (
    VerificationSummary,
    inlier_matches,
    verified_pairs,
    verify_matches,
)
from featplug.colmap.mapping import MapOptions, Mapper, log_to_file, reconstruct_database
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.store import FeatureReader, FeatureWriter
from featplug.metrics.poses import aligned_pose_errors, model_poses, reconstruction_statistics
from featplug.stages.pairs import exhaustive
from tests.scenes.pictures import textured_image
from tests.scenes.synthetic import SyntheticScene

NO_FEATURES = {
    "keypoints": np.zeros((0, 2), np.float32),
    "scores": np.zeros(0, np.float32),
    "descriptors": np.zeros((128, 0), np.float16),
}


def import_scene(scene: SyntheticScene, database: Path) -> VerificationSummary:
    """Everything up to the mapper."""
    camera = next(iter(scene.truth.cameras.values()))
    options = CameraOptions("single", camera.model.name, ",".join(map(str, camera.params)))
    create_database(database, scene.images, scene.names, options)
    pairs = exhaustive(scene.names)
    with FeatureReader(scene.features) as features:
        import_features(database, features)
    with MatchReader(scene.matches) as matches:
        assert import_matches(database, pairs, matches) == len(pairs)
    return verify_matches(database, pairs, seed=0)


@pytest.fixture(scope="module")
def database(synthetic_scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("colmap") / "database.db"
    summary = import_scene(synthetic_scene, path)
    assert summary.num_verified_pairs == summary.num_matched_pairs == 15
    return path


@pytest.mark.parametrize("mapper", ["incremental", "global", "hierarchical"])
def test_the_synthetic_scene_comes_out_exact(
    synthetic_scene: SyntheticScene, database: Path, tmp_path: Path, mapper: Mapper
) -> None:
    """An origin off by half a pixel would leave half a pixel of reprojection error or a shift."""
    if not hasattr(pycolmap, f"{mapper}_mapping"):
        pytest.skip(f"this pycolmap has no {mapper} mapper")
    options = MapOptions(mapper=mapper, refine_intrinsics=False)
    (model,) = reconstruct_database(database, synthetic_scene.images, tmp_path, options).values()
    statistics = reconstruction_statistics(model)
    assert statistics.num_registered == 6
    assert statistics.num_points > 250
    assert statistics.mean_reprojection_error < 0.01
    assert statistics.mean_track_length * statistics.num_points == pytest.approx(
        statistics.num_observations
    )
    errors = aligned_pose_errors(model_poses(model), model_poses(synthetic_scene.truth))
    assert errors.position.max() < 1e-3
    assert errors.rotation.max() < 0.01
    for camera in model.cameras.values():
        truth = next(iter(synthetic_scene.truth.cameras.values()))
        np.testing.assert_allclose(camera.params, truth.params)


def test_keypoints_move_by_half_a_pixel_and_matches_stay(
    synthetic_scene: SyntheticScene, database: Path
) -> None:
    ids = image_ids(database)
    name0, name1 = synthetic_scene.names[:2]
    with pycolmap.Database.open(str(database)) as db:
        keypoints = db.read_keypoints(ids[name0])
        matches = db.read_matches(ids[name0], ids[name1])
        _, geometries = db.read_two_view_geometries()
    with FeatureReader(synthetic_scene.features) as features:
        np.testing.assert_allclose(keypoints[:, :2], features.keypoints(name0) + 0.5)
    with MatchReader(synthetic_scene.matches) as reader:
        np.testing.assert_array_equal(matches, reader.read(name0, name1)[0])
    undefined = int(pycolmap.TwoViewGeometryConfiguration.UNDEFINED)
    assert all(int(geometry.config) != undefined for geometry in geometries)


def test_inlier_matches_are_those_that_were_true(
    synthetic_scene: SyntheticScene, database: Path
) -> None:
    counts = verified_pairs(database)
    assert len(counts) == 15
    with MatchReader(synthetic_scene.matches) as reader:
        for (name0, name1), count in counts.items():
            inliers = inlier_matches(database, name1, name0)[:, ::-1]
            assert len(inliers) == count
            true = {tuple(match) for match in reader.read(name0, name1)[0]}
            assert {tuple(match) for match in inliers} <= true


def test_the_log_goes_to_the_file_and_is_appended(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "colmap.log"
    for word in ("first", "second"):
        with log_to_file(log):
            pycolmap.logging.info(f"the {word} line")
            pycolmap.logging.warning(f"the {word} warning")
    text = log.read_text()
    for line in ("the first line", "the first warning", "the second line"):
        assert text.count(line) == 1
    assert [p.name for p in log.parent.iterdir()] == ["colmap.log"]


def one_image_database(folder: Path, size: tuple[int, int], feature_size: tuple[int, int]) -> Path:
    """A JPEG that asks to be shown turned, and features of an image of the given size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(textured_image(0, *size))
    picture.save(folder / "turned.jpg", exif=exif)
    database, features = folder / "database.db", folder / "feats.h5"
    with FeatureWriter(features, Provenance("features", {})) as writer:
        writer.write("turned.jpg", NO_FEATURES, feature_size, 1.0, "")
    create_database(database, folder, ["turned.jpg"], CameraOptions())
    with FeatureReader(features) as reader:
        import_features(database, reader)
    return database


def test_the_camera_of_an_exif_rotated_image_is_that_of_the_stored_pixels(tmp_path: Path) -> None:
    database = one_image_database(tmp_path, (160, 120), (160, 120))
    with pycolmap.Database.open(str(database)) as db:
        (camera,) = db.read_all_cameras()
    assert (camera.width, camera.height) == (160, 120)
    assert (camera.principal_point_x, camera.principal_point_y) == (80, 60)


def test_features_of_an_image_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image of 640×480 pixels, .* extract it again"):
        one_image_database(tmp_path, (160, 120), (640, 480))


def test_pairs_without_geometry_end_in_a_reason(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pairs = [(synthetic_scene.names[0], synthetic_scene.names[1])]
    database, matches = tmp_path / "database.db", tmp_path / "matches.h5"
    with MatchWriter(matches, Provenance("matches", {})) as writer:
        matches0 = np.full(310, -1)
        matches0[:20] = rng.permutation(300)[:20]
        writer.write(*pairs[0], matches0, np.ones(310), 310)
    create_database(database, synthetic_scene.images, list(pairs[0]), CameraOptions("single"))
    with FeatureReader(synthetic_scene.features) as features:
        import_features(database, features)
    with pytest.raises(ValueError, match="None of the 1 pairs has a match; choose"):
        verify_matches(database, pairs, seed=0)
    with MatchReader(matches) as reader:
        assert import_matches(database, pairs, reader) == 1
    with pytest.raises(ValueError, match="None of the 1 matched pairs shows two views"):
        verify_matches(database, pairs, seed=0)
    with pytest.raises(ValueError, match="COLMAP reconstructed nothing"):
        reconstruct_database(database, synthetic_scene.images, tmp_path / "sfm", MapOptions())


def test_a_wrong_camera_model_is_named(synthetic_scene: SyntheticScene, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no camera model 'FISHEYE9'; it has .*SIMPLE_RADIAL"):
        create_database(
            tmp_path / "x.db",
            synthetic_scene.images,
            synthetic_scene.names,
            CameraOptions(model="FISHEYE9"),
        )
