"""Alignment of models by shared images, and tracks that are joined by shared keypoints."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from featplug.colmap.merged_models import join_tracks
from featplug.colmap.model_alignment import ModelArrays, align_all, align_models
from featplug.metrics.poses import camera_centres
from featplug.metrics.similarity import Similarity

SIMILARITY = Similarity(
    2.5, Rotation.from_rotvec([0.3, -1.2, 0.5]).as_matrix(), np.array([4.0, -2.0, 7.0])
)


def _model(
    images: range,
    moved: Similarity | None = None,
    noise: float = 0.0,
    seed: int = 0,
    wrong: tuple[int, ...] = (),
) -> ModelArrays:
    """Images on a straight line, each of which sees the 60 points that are nearest."""
    rng = np.random.default_rng(0)
    along = np.repeat(np.arange(50.0), 20)
    across = rng.uniform(-3, 3, (2, len(along)))
    points = np.column_stack([along, across[0], 8 + across[1]])
    poses: dict[int, np.ndarray] = {}
    observations: list[tuple[int, int]] = []
    rows: list[int] = []
    turns = rng.uniform(-0.3, 0.3, (50, 3))
    own = np.random.default_rng(seed)
    for image in images:
        turn = Rotation.from_rotvec(turns[image]).as_matrix()
        centre = np.array([image, 0.0, 0.0])
        seen = np.flatnonzero(abs(points[:, 0] - image) <= 1)
        if image in wrong:
            turn = Rotation.from_rotvec([0, 0.4, 0]).as_matrix() @ turn
            centre[1] = 3
        poses[image] = np.column_stack([turn, -turn @ centre])
        observations += [(image, int(i)) for i in seen]
        rows += seen.tolist()
    points = points + noise * own.standard_normal(points.shape)
    if moved is not None:
        points = moved.apply(points)
        for image, pose in poses.items():
            rotation = pose[:, :3] @ moved.rotation.T
            centre = moved.apply(camera_centres(pose)[None])[0]
            poses[image] = np.column_stack([rotation, -rotation @ centre])
    used = np.unique(rows)
    return ModelArrays(poses, np.array(observations), np.searchsorted(used, rows), points[used])


@pytest.mark.parametrize("num_wrong", [0, 2])
def test_cameras_in_a_row_are_aligned_though_some_are_wrong(num_wrong: int) -> None:
    """Centres on a line leave a turn about it open; rotations and points do not."""
    target = _model(range(15), SIMILARITY, noise=0.02)
    source = _model(range(9, 24), noise=0.02, seed=1, wrong=(10, 13)[:num_wrong])
    found = align_models(source, target)
    assert found is not None
    assert found.num_images == 6 - num_wrong
    similarity = found.similarity
    assert similarity.scale == pytest.approx(SIMILARITY.scale, rel=0.01)
    np.testing.assert_allclose(similarity.rotation, SIMILARITY.rotation, atol=0.01)
    places = np.array([[0.0, 0.0, 0.0], [23.0, 0.0, 8.0]])
    np.testing.assert_allclose(similarity.apply(places), SIMILARITY.apply(places), atol=0.3)


def test_models_that_contradict_each_other_are_not_aligned() -> None:
    target = _model(range(15), SIMILARITY)
    assert align_models(_model(range(15, 30)), target) is None, "they share no image"
    assert align_models(_model(range(14, 30)), target) is None, "one image can be wrong"
    away = _model(range(9, 24))
    rng = np.random.default_rng(0)
    scattered = ModelArrays(
        away.poses, away.observations, away.rows, rng.uniform(-9, 9, away.points.shape)
    )
    assert align_models(scattered, target) is None, "the points are elsewhere"


def test_models_are_chained_into_one_frame() -> None:
    inverse = SIMILARITY.inverse()
    models = [
        _model(range(6), SIMILARITY),
        _model(range(22, 29)),  # connected by the last one only
        _model(range(3, 16)),
        _model(range(12, 26), inverse),
        _model(range(40, 44)),
    ]
    whole, alone = align_all(models)
    assert sorted(whole.members) == [0, 1, 2, 3]
    assert whole.members[0] == 3, "the frame is that of the model with most images"
    assert alone.members == [4]
    centre = np.array([[24.0, 0.0, 0.0]])
    expected = inverse.apply(centre)
    np.testing.assert_allclose(whole.similarities[1].apply(centre), expected, atol=1e-6)
    first = whole.similarities[0].apply(SIMILARITY.apply(centre))
    np.testing.assert_allclose(first, expected, atol=1e-5)


def test_tracks_are_joined_by_keypoints_and_stay_apart_where_they_contradict() -> None:
    def model(observations: list[tuple[int, int]], rows: list[int], num: int) -> ModelArrays:
        return ModelArrays({}, np.array(observations), np.array(rows), np.zeros((num, 3)))

    # A point of images 1, 2, 3 and one of 3, 4 of the same keypoint of 3; and a point of which the
    # second model has another keypoint of image 5.
    first = model([(1, 0), (2, 0), (3, 0), (5, 1), (6, 1), (7, 1)], [0, 0, 0, 1, 1, 1], 2)
    second = model([(3, 0), (4, 0), (5, 2), (6, 1), (8, 1), (9, 1)], [0, 0, 1, 1, 1, 1], 2)
    places = np.array([[1.0, 0, 0], [5.0, 0, 0]]), np.array([[2.0, 0, 0], [9.0, 0, 0]])
    tracks = join_tracks([(first, places[0]), (second, places[1])])
    found = {tuple(map(tuple, track.observations.tolist())): track.xyz[0] for track in tracks}
    assert found == {
        ((1, 0), (2, 0), (3, 0), (4, 0)): pytest.approx(1.4),  # weighted by length
        ((5, 2), (6, 1), (8, 1), (9, 1)): 9.0,
        ((5, 1), (7, 1)): 5.0,
    }
