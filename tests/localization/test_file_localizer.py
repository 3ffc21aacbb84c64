"""Queries localized in a model of synthetic points."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from featplug.colmap.model_files import read_model
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.store import FeatureReader
from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.file_localizer import LocalizedQuery
from featplug.localization.in_model import (
    ModelLocalizer,
    ModelLocalizerOptions,
    ModelPoints,
    covisibility_clusters,
)
from featplug.localization.log import LocalizationLog, json_log
from featplug.localization.queries import Query
from featplug.metrics.poses import absolute_pose_errors, model_poses
from featplug.stages.pairs import exhaustive
from featplug.stages.triangulate import triangulate_known_poses
from tests.scenes.synthetic import SyntheticScene, write_synthetic_scene


class World:
    """A scene whose first images are a triangulated model, and whose others are queries."""

    def __init__(self, scene: SyntheticScene, model: pycolmap.Reconstruction, num: int) -> None:
        self.scene = scene
        self.model = model
        self.points = ModelPoints(model)
        self.truth = model_poses(scene.truth)
        self.database, names = scene.names[:num], scene.names[num:]
        (camera,) = scene.truth.cameras.values()
        self.queries = [Query(name, camera) for name in names]
        self.retrieved = dict.fromkeys(names, self.database)
        self.features = FeatureReader(scene.features)
        self.matches = MatchReader(scene.matches)

    def localizer(
        self,
        matches: MatchReader | None = None,
        points: ModelPoints | None = None,
        options: ModelLocalizerOptions | None = None,
        pose: AbsolutePoseOptions | None = None,
    ) -> ModelLocalizer:
        return ModelLocalizer(
            self.features,
            matches or self.matches,
            pose or AbsolutePoseOptions(),
            points or self.points,
            options or ModelLocalizerOptions(),
        )

    def localize(self, num_workers: int = 2) -> list[LocalizedQuery]:
        return list(self.localizer().localize(self.queries, self.retrieved, num_workers))


def make_world(folder: Path, num_images: int, num_database: int, noise: float = 0.0) -> World:
    scene = write_synthetic_scene(folder / "scene", num_images, noise)
    names = scene.names[:num_database]
    done = triangulate_known_poses(
        scene.truth, scene.images, exhaustive(names), scene.features, scene.matches, folder / "sfm"
    )
    return World(scene, read_model(done.model_dir), num_database)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = make_world(tmp_path_factory.mktemp("exact"), 8, 6)
    with world.features, world.matches:
        yield world


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = make_world(tmp_path_factory.mktemp("noisy"), 16, 6, noise=1.5)
    with world.features, world.matches:
        yield world


def test_poses_are_exact_and_each_match_counts_once(exact: World) -> None:
    """An origin off by half a pixel would turn the camera."""
    localized = exact.localize()
    assert [found.query.name for found in localized] == exact.scene.names[6:]
    for found in localized:
        assert found.pose is not None
        np.testing.assert_allclose(
            found.pose.cam_from_world, exact.truth[found.query.name], atol=1e-4
        )
        ((matches, _),) = found.attempts
        assert found.pose.num_inliers == len(matches.points3d) == 300
        assert matches.num_matches == [300] * 6
        assert matches.num_per_image(found.pose.inliers) == [300] * 6
        assert len(np.unique(matches.keypoint_indices)) == 300
        keypoints = exact.features.keypoints(found.query.name)
        np.testing.assert_array_equal(matches.keypoints, keypoints[matches.keypoint_indices])


def test_poses_do_not_depend_on_workers_or_order(noisy: World) -> None:
    alone = {f.query.name: f.pose for f in noisy.localize(num_workers=1)}
    together = {f.query.name: f.pose for f in noisy.localize(num_workers=4)}
    assert list(alone) == list(together)
    for name, pose in alone.items():
        other = together[name]
        assert pose is not None
        assert other is not None
        np.testing.assert_array_equal(pose.cam_from_world, other.cam_from_world)
    errors = absolute_pose_errors(
        {name: pose.cam_from_world for name, pose in alone.items() if pose is not None},
        {query.name: noisy.truth[query.name] for query in noisy.queries},
    )
    assert errors.rotation.max() < 0.2
    assert errors.position.max() < 0.02


def with_matches(world: World, path: Path, columns: np.ndarray) -> MatchReader:
    """Matches of the first query with the first image; keypoint i with ``columns[i]``."""
    with MatchWriter(path, Provenance("matches", {})) as writer:
        for name in world.database:
            writer.write(
                world.queries[0].name, name, columns, np.ones(len(columns)), columns.max() + 1
            )
    return MatchReader(path)


def test_failures_have_their_reasons(exact: World, tmp_path: Path) -> None:
    query, database = exact.queries[0], exact.database
    true_matches, _ = exact.matches.read(query.name, database[0])
    few = np.full(true_matches[:, 0].max() + 1, -1)
    few[true_matches[:3, 0]] = true_matches[:3, 1]
    wrong = few.copy()
    wrong[true_matches[:, 0]] = np.random.default_rng(0).permutation(true_matches[:, 1])

    def reason(
        database: list[str],
        matches: MatchReader,
        pose: AbsolutePoseOptions | None = None,
        clustering: bool = False,
    ) -> str | None:
        options = ModelLocalizerOptions(covisibility_clustering=clustering)
        localizer = exact.localizer(matches, options=options, pose=pose)
        (found,) = localizer.localize([query], {query.name: database})
        assert found.pose is None
        assert json_log(found)["reason"] == found.reason
        return found.reason

    strict = AbsolutePoseOptions(max_error=1.0, min_num_inliers=30)
    with (
        with_matches(exact, tmp_path / "few.h5", few) as few_matches,
        with_matches(exact, tmp_path / "wrong.h5", wrong) as wrong_matches,
    ):
        one = database[:1]
        assert reason(one, few_matches) == (
            "its matches with 1 images give 3 2D-3D matches, of 4 needed"
        )
        assert reason(one, wrong_matches, strict) == (
            "no pose fits 30 of its 300 2D-3D matches within 1 px"
        )
        for clustering in (False, True):
            for nothing in ([], ["not in the model.jpg"]):
                expected = "none of the images it was paired with is in the model"
                assert reason(nothing, exact.matches, clustering=clustering) == expected


def test_a_pose_that_chance_explains_is_not_localized(exact: World, tmp_path: Path) -> None:
    """The pose stays in the submission, as hloc writes it; the query counts as failed."""
    query, database = exact.queries[0], exact.database
    true_matches, _ = exact.matches.read(query.name, database[0])
    wrong = np.full(true_matches[:, 0].max() + 1, -1)
    wrong[true_matches[:, 0]] = np.random.default_rng(0).permutation(true_matches[:, 1])
    log = LocalizationLog([query.name, "other"])
    with with_matches(exact, tmp_path / "wrong.h5", wrong) as matches:
        (found,) = exact.localizer(matches).localize([query], {query.name: database[:1]})
    assert found.pose is not None
    assert not found.is_localized
    log.add(found)
    log.add_failure("other", "nothing")
    entry = log.entries[query.name]
    reason = f"chance explains the {found.pose.num_inliers} inliers of 300 matches"
    assert entry["reason"] == found.reason == reason
    assert entry["cam_from_world"] is not None
    assert log.poses.keys() == {query.name}
    assert log.localized_poses == {}
    assert log.failed == {query.name: reason, "other": "nothing"}
    with pytest.raises(ValueError, match=r"None of the 2 queries .* chance explains"):
        log.require_poses()

    right = exact.localize()[0]
    assert right.is_localized
    assert "reason" not in json_log(right)


def test_matches_that_do_not_fit_are_refused(exact: World, tmp_path: Path) -> None:
    with (
        with_matches(exact, tmp_path / "m.h5", np.array([5000])) as matches,
        pytest.raises(ValueError, match=r"m.h5: .* are of other features than .*; match again"),
    ):
        exact.localizer(matches).gather(exact.queries[0], exact.database)
    empty = tmp_path / "empty.h5"
    with MatchWriter(empty, Provenance("matches", {})):
        pass
    with (
        MatchReader(empty) as matches,
        pytest.raises(
            ValueError, match=rf"empty.h5 has no matches of .* and '{exact.database[0]}'"
        ),
    ):
        exact.localizer(matches).gather(exact.queries[0], exact.database)


def split_model(world: World) -> pycolmap.Reconstruction:
    """Of the model's points, leave half to its first two images and half to the other four."""
    model = pycolmap.Reconstruction(world.model)
    names = {image_id: image.name for image_id, image in model.images.items()}
    for i, point_id in enumerate(sorted(model.points3D)):
        elements = model.points3D[point_id].track.elements
        for image_id, index in [(element.image_id, element.point2D_idx) for element in elements]:
            is_first = world.database.index(names[image_id]) < 2
            if is_first != (i % 2 == 0):
                model.delete_observation(image_id, index)
    return model


def test_covisibility_clusters_are_tried_one_by_one(exact: World) -> None:
    points = ModelPoints(split_model(exact))
    shuffled = [exact.database[i] for i in (1, 4, 0, 2, 5, 3)]
    clusters = covisibility_clusters(shuffled, points)
    assert clusters == [
        [exact.database[i] for i in (4, 2, 5, 3)],
        [exact.database[i] for i in (1, 0)],
    ]
    assert covisibility_clusters(shuffled, exact.points) == [shuffled]
    options = ModelLocalizerOptions(covisibility_clustering=True)
    localizer = exact.localizer(points=points, options=options)
    (found,) = localizer.localize(exact.queries[:1], exact.retrieved)
    assert found.best == 0
    assert found.pose is not None
    assert found.pose.num_inliers == 150
    assert [pose is not None and pose.num_inliers for _, pose in found.attempts] == [150, 150]
    log = localizer.hloc_log(found)
    assert log["best_cluster"] == 0
    assert sorted(log["db"]) == sorted(points.image_ids[name] for name in exact.database)


def test_the_logs_are_json_and_hlocs_pickle(exact: World) -> None:
    """The pickle is read as hloc's ``visualize_loc`` reads it."""
    found = exact.localize()[0]
    entry = json.loads(json.dumps(json_log(found)))
    assert entry["num_inliers"] == 300
    assert entry["attempts"][0]["num_inliers_db"] == [300] * 6
    np.testing.assert_allclose(entry["cam_from_world"], exact.truth[found.query.name], atol=1e-4)

    log = pickle.loads(pickle.dumps(exact.localizer().hloc_log(found)))
    assert not log["covisibility_clustering"]
    assert log["PnP_ret"]["cam_from_world"].matrix().shape == (3, 4)
    _, kp_to_3d_to_db = log["keypoint_index_to_db"]
    camera = log["PnP_ret"]["camera"]
    for xy, is_inlier, (point_id, images) in zip(
        log["keypoints_query"], log["PnP_ret"]["inlier_mask"], kp_to_3d_to_db, strict=True
    ):
        assert is_inlier
        point = exact.model.points3D[point_id]
        track = {element.image_id: element.point2D_idx for element in point.track.elements}
        assert len(images) == 6
        assert all(log["db"][image] in track for image in images)
        seen = camera.img_from_cam(log["PnP_ret"]["cam_from_world"] * point.xyz)
        np.testing.assert_allclose(xy, seen, atol=0.02)
