"""Points from known poses: exact, checked, used again, and never silently none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from featplug.colmap.known_poses import model_from_poses
from featplug.colmap.model_files import read_model
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.pair_lists import Pair
from featplug.metrics.poses import model_cameras, model_poses, reconstruction_statistics
from featplug.stages.pairs import exhaustive
from featplug.stages.triangulate import Triangulation, triangulate_known_poses
from tests.scenes.synthetic import SyntheticScene


def run(
    scene: SyntheticScene,
    output_dir: Path,
    reference: pycolmap.Reconstruction | None = None,
    pairs: list[Pair] | None = None,
    matches: Path | None = None,
    two_view_tracks: bool = True,
    seed: int = 0,
) -> Triangulation:
    return triangulate_known_poses(
        scene.truth if reference is None else reference,
        scene.images,
        exhaustive(scene.names) if pairs is None else pairs,
        scene.features,
        scene.matches if matches is None else matches,
        output_dir,
        two_view_tracks=two_view_tracks,
        seed=seed,
    )


@pytest.fixture(scope="module")
def outputs(synthetic_scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triangulation")
    done = run(synthetic_scene, folder)
    assert not done.is_reused
    assert done.check.num_inlier_matches == done.check.num_matches == 15 * 300
    assert done.check.num_verified_pairs == done.check.num_matched_pairs == 15
    assert done.skipped == {}
    return folder


def test_points_are_exact_and_poses_stay(synthetic_scene: SyntheticScene, outputs: Path) -> None:
    """An origin off by half a pixel would move every ray and leave a reprojection error."""
    model = read_model(outputs / "model")
    statistics = reconstruction_statistics(model)
    assert statistics.num_points == 300
    assert statistics.mean_track_length == 6
    assert statistics.mean_reprojection_error < 0.01
    truth = model_poses(synthetic_scene.truth)
    for name, pose in model_poses(model).items():
        np.testing.assert_allclose(pose, truth[name], atol=1e-9)
    (camera,) = model.cameras.values()
    (camera_ref,) = synthetic_scene.truth.cameras.values()
    np.testing.assert_array_equal(camera.params, camera_ref.params)
    points = np.array(sorted(p.xyz.tolist() for p in model.points3D.values()))
    points_ref = np.array(sorted(p.xyz.tolist() for p in synthetic_scene.truth.points3D.values()))
    np.testing.assert_allclose(points, points_ref, atol=1e-3)


def test_every_two_view_geometry_has_a_config(outputs: Path) -> None:
    """Without one, pycolmap 4.2 drops the pair and ends with 0 points and no error."""
    with pycolmap.Database.open(str(outputs / "database.db")) as database:
        _, geometries = database.read_two_view_geometries()
    assert len(geometries) == 15
    assert {g.config for g in geometries} == {pycolmap.TwoViewGeometryConfiguration.CALIBRATED}


def test_matches_off_their_epipolar_line_are_left_out(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pairs = exhaustive(synthetic_scene.names)
    with (
        MatchReader(synthetic_scene.matches) as right,
        MatchWriter(tmp_path / "half.h5", Provenance("matches", {})) as writer,
    ):
        for name0, name1 in pairs:
            indices, _ = right.read(name0, name1)
            indices[:150, 1] = rng.permutation(indices[:150, 1])
            matches0 = np.full(310, -1)
            matches0[indices[:, 0]] = indices[:, 1]
            writer.write(name0, name1, matches0, np.ones(len(matches0)), indices[:, 1].max() + 1)
    done = run(synthetic_scene, tmp_path / "out", matches=tmp_path / "half.h5")
    # All right matches stay; of the wrong ones few lie on the line by chance.
    assert 150 * 15 <= done.check.num_inlier_matches < 160 * 15
    assert 0.5 <= done.check.inlier_ratio < 0.54
    statistics = reconstruction_statistics(read_model(done.model_dir))
    assert statistics.num_points >= 150
    assert statistics.mean_reprojection_error < 0.5


def test_the_model_is_used_again_where_its_inputs_are_the_same(
    synthetic_scene: SyntheticScene, outputs: Path, tmp_path: Path
) -> None:
    points = outputs / "model" / "points3D.bin"
    before = points.stat().st_mtime_ns
    again = run(synthetic_scene, outputs)
    assert again.is_reused
    assert again.check.num_inlier_matches == 15 * 300
    assert points.stat().st_mtime_ns == before
    run(synthetic_scene, tmp_path)
    assert not run(synthetic_scene, tmp_path, pairs=exhaustive(synthetic_scene.names)[1:]).is_reused
    assert not run(synthetic_scene, tmp_path, seed=1).is_reused
    # A kill while COLMAP writes leaves the record, which comes last, away.
    (tmp_path / "triangulation.json").unlink()
    assert not run(synthetic_scene, tmp_path, seed=1).is_reused
    (tmp_path / "triangulation.json").write_text("{")
    assert not run(synthetic_scene, tmp_path, seed=1).is_reused
    assert run(synthetic_scene, tmp_path, seed=1).is_reused


def test_no_point_is_an_error_with_a_reason(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    names = synthetic_scene.names
    pair = [(names[0], names[1])]
    with pytest.raises(ValueError, match=r"no point from 300 matches .* enough parallax, or by"):
        run(synthetic_scene, tmp_path, pairs=pair, two_view_tracks=False)
    assert not (tmp_path / "triangulation.json").exists()
    two_views = run(synthetic_scene, tmp_path, pairs=pair)
    assert 250 < read_model(two_views.model_dir).num_points3D() <= 300
    with pytest.raises(ValueError, match="No pair of the list is of two images of the reference"):
        run(synthetic_scene, tmp_path, pairs=[("a.jpg", "b.jpg")])


def test_no_match_at_all_is_not_taken_for_a_wrong_model(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    with MatchWriter(tmp_path / "none.h5", Provenance("matches", {})) as writer:
        for name0, name1 in exhaustive(synthetic_scene.names):
            writer.write(name0, name1, np.full(310, -1), np.zeros(310), 310)
    with pytest.raises(ValueError, match="None of the 15 pairs has a match"):
        run(synthetic_scene, tmp_path / "out", matches=tmp_path / "none.h5")


def test_a_reference_model_that_does_not_fit_is_named(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    cameras, poses = model_cameras(synthetic_scene.truth), model_poses(synthetic_scene.truth)
    rng = np.random.default_rng(0)
    wrong = {name: pose + rng.normal(0, 2, (3, 4)) * [0, 0, 0, 1] for name, pose in poses.items()}
    elsewhere = model_from_poses(
        {f"db/{name}": camera for name, camera in cameras.items()},
        {f"db/{name}": pose for name, pose in poses.items()},
    )
    with pytest.raises(ValueError, match=r"Of the 6 images .*, 0 have features .* for example"):
        run(synthetic_scene, tmp_path, reference=elsewhere)
    # One image more than there are features of is left out and told.
    name = synthetic_scene.names[0]
    more = model_from_poses(cameras | {"x.jpg": cameras[name]}, poses | {"x.jpg": poses[name]})
    assert list(run(synthetic_scene, tmp_path, reference=more).skipped) == ["x.jpg"]
    with pytest.raises(ValueError, match=r"Only \d+ of 4500 .* poses or cameras of the reference"):
        run(synthetic_scene, tmp_path, reference=model_from_poses(cameras, wrong))


def test_features_of_images_of_another_size_are_refused(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    poses = model_poses(synthetic_scene.truth)
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=64, height=48, params=[50, 32, 24])
    with pytest.raises(ValueError, match=r"the image has 64×48; extract it again"):
        run(
            synthetic_scene,
            tmp_path,
            reference=model_from_poses(dict.fromkeys(poses, camera), poses),
        )
