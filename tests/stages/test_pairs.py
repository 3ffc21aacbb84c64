"""Pair lists."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from featplug.stages import pairs as pairs_module
from featplug.stages.pairs import (
    best_pairs,
    covisible,
    exhaustive,
    from_poses,
    loop_closures,
    loop_queries,
    most_partners,
    near,
    sequences,
    sequential,
    sequential_frames,
)


def test_exhaustive_has_each_pair_once() -> None:
    assert exhaustive(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_sequential_links_neighbours_and_powers_of_two() -> None:
    names = [f"{i}" for i in range(20)]
    pairs = sequential(names, overlap=4)
    assert [b for a, b in pairs if a == "3"] == ["4", "5", "6", "7", "11"]
    assert [b for a, b in pairs if a == "18"] == ["19"]
    assert [b for a, b in sequential(names, 2, quadratic=False) if a == "0"] == ["1", "2"]
    with pytest.raises(ValueError, match="overlap of sequential pairs must be at least 1"):
        sequential(names, 0)


def test_sequences_are_folders_in_the_order_of_numbers() -> None:
    names = ["b/7.jpg", "frame10.jpg", "frame2.jpg", "a/x9y2.png", "a/x9y10.png", "a/x10y1.png"]
    assert sequences(names) == [
        ["a/x9y2.png", "a/x9y10.png", "a/x10y1.png"],
        ["b/7.jpg"],
        ["frame2.jpg", "frame10.jpg"],
    ]
    # Zeros do not change a number, and names that differ by them alone keep one order.
    same = ["1.jpg", "01.jpg", "002.jpg", "\u0663.jpg", "x.jpg", ".jpg"]
    assert sequences(same) == sequences(same[::-1])
    assert sequences(["10.jpg", "9.jpg", "008.jpg"]) == [["008.jpg", "9.jpg", "10.jpg"]]
    assert sequences([]) == []


def test_frames_of_a_rig_are_paired_with_following_frames() -> None:
    frames = [["l/0", "r/0"], ["l/1", "r/1"], ["l/2"]]
    pairs = sequential_frames(frames, overlap=1)
    assert set(pairs) == {
        ("l/0", "r/0"), ("l/1", "r/1"),
        ("l/0", "l/1"), ("l/0", "r/1"), ("r/0", "l/1"), ("r/0", "r/1"),
        ("l/1", "l/2"), ("r/1", "l/2"),
    }  # fmt: skip
    assert len(pairs) == 8


def test_loops_are_closed_by_the_most_similar_images_that_are_no_neighbours() -> None:
    names = [str(i) for i in range(25)]
    neighbours = sequential(names, 2)
    assert most_partners(neighbours) == 4
    assert loop_queries([names, ["x", "y"]]) == ["0", "10", "20", "x"]
    retrieved = [("0", "1"), ("0", "2"), ("0", "20"), ("0", "7"), ("20", "0"), ("20", "21")]
    assert loop_closures(retrieved, neighbours, 1) == [("0", "20")]
    assert loop_closures(retrieved, neighbours, 5) == [("0", "20"), ("0", "7")]


def test_near_images_are_paired_up_to_a_distance() -> None:
    positions = {f"p{i}": np.array([x, 0.0]) for i, x in enumerate([0, 1, 3, 30, 31])}
    assert near(positions, 1, 100) == [
        ("p0", "p1"), ("p1", "p0"), ("p2", "p1"), ("p3", "p4"), ("p4", "p3"),
    ]  # fmt: skip
    assert [b for a, b in near(positions, 9, 3) if a == "p0"] == ["p1", "p2"]
    with pytest.raises(ValueError, match=r"within 0.5 m.*larger distance"):
        near(positions, 9, 0.5)
    with pytest.raises(ValueError, match="No two of 0 positions"):
        near({}, 9)


def test_exhaustive_of_queries_and_database_has_no_image_with_itself() -> None:
    assert exhaustive(["q", "a"], ["a", "b"]) == [("q", "a"), ("q", "b"), ("a", "b")]


@pytest.fixture(scope="module")
def partial_model() -> pycolmap.Reconstruction:
    """Nine images of which each sees its own part of the points, and one sees none."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = options.num_cameras_per_rig = 1
    options.num_frames_per_rig = 9
    options.num_points3D = 60
    pycolmap.set_random_seed(1)
    model = pycolmap.synthesize_dataset(options)
    rng = np.random.default_rng(1)
    for image in list(model.images.values()):
        lost = 1.0 if image.image_id == 5 else rng.uniform(0.2, 0.8)
        for index, point in enumerate(image.points2D):
            if point.has_point3D() and rng.random() < lost:
                model.delete_observation(image.image_id, index)
    return model


def covisible_by_sets(model: pycolmap.Reconstruction, num: int) -> list[tuple[str, str]]:
    seen = {
        image.name: {p.point3D_id for p in image.points2D if p.has_point3D()}
        for image in model.images.values()
    }
    pairs = []
    for name in sorted(seen):
        shared = {other: len(seen[name] & seen[other]) for other in seen if other != name}
        ranked = sorted((other for other in shared if shared[other]), key=lambda o: (-shared[o], o))
        pairs += [(name, other) for other in ranked[:num]]
    return pairs


@pytest.mark.parametrize("num", [1, 3, 100])
@pytest.mark.parametrize("block", [1, 20, 2**22])
def test_covisible_pairs_share_most_points(
    partial_model: pycolmap.Reconstruction, num: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_module, "_BLOCK_SCORES", block)
    pairs = covisible(partial_model, num)
    assert pairs == covisible_by_sets(partial_model, num)
    assert not any(partial_model.images[5].name in pair for pair in pairs)


def test_covisible_counts_a_point_once_and_skips_unregistered_images(
    partial_model: pycolmap.Reconstruction,
) -> None:
    model = pycolmap.Reconstruction(partial_model)
    # A further observation of a point that image 1 observes already, as merged tracks have.
    image = model.images[1]
    taken = next(p.point3D_id for p in image.points2D if p.has_point3D())
    free = next(i for i, p in enumerate(image.points2D) if not p.has_point3D())
    model.add_observation(taken, pycolmap.TrackElement(1, free))
    assert covisible(model, 100) == covisible_by_sets(partial_model, 100)
    model.deregister_frame(model.images[2].frame_id)
    gone = model.images[2].name
    expected = [p for p in covisible_by_sets(partial_model, 100) if gone not in p]
    assert covisible(model, 100) == expected


def test_covisible_without_points_is_an_error(partial_model: pycolmap.Reconstruction) -> None:
    model = pycolmap.Reconstruction(partial_model)
    for point_id in list(model.points3D):
        model.delete_point3D(point_id)
    with pytest.raises(ValueError, match=r"No two of the 9 images.* 0 points; triangulate it"):
        covisible(model, 5)
    alone = model.images[1]
    model.add_point3D([0, 0, 1], pycolmap.Track([pycolmap.TrackElement(alone.image_id, 0)]))
    with pytest.raises(ValueError, match=r"No two of the 9 images.* 1 points; choose pairs"):
        covisible(model, 5)
    with pytest.raises(ValueError, match="must be at least 1, not 0"):
        covisible(partial_model, 0)


def _pose(centre: tuple[float, float, float], yaw: float, roll: float = 0.0) -> np.ndarray:
    rotation = Rotation.from_euler("yz", [yaw, roll], degrees=True).as_matrix().T
    return np.column_stack([rotation, -rotation @ centre])


def test_pairs_from_poses_are_near_and_look_the_same_way() -> None:
    poses = {
        "a": _pose((0, 0, 0), 0),
        "rolled": _pose((1, 0, 0), 0, roll=90),
        "far": _pose((9, 0, 0), 29),
        "aside": _pose((0.5, 0, 0), 31),
        "back": _pose((0.1, 0, 0), 180),
    }
    assert [p for p in from_poses(poses, 4) if p[0] == "a"] == [("a", "rolled"), ("a", "far")]
    assert [p for p in from_poses(poses, 1) if p[0] == "far"] == [("far", "rolled")]
    assert [p[1] for p in from_poses(poses, 4, max_angle=181) if p[0] == "a"] == [
        "back", "aside", "rolled", "far",
    ]  # fmt: skip
    assert not [p for p in from_poses(poses, 4) if p[0] == "back"]
    with pytest.raises(ValueError, match="two images or more"):
        from_poses({"a": poses["a"]}, 1)


def test_best_pairs_break_ties_by_the_order_of_the_database() -> None:
    rows = np.array([[1, 2, 2, 2, 0], [5, 5, 5, 5, -np.inf]], np.float32)
    pairs = best_pairs(["c", "q"], ["a", "b", "c", "d", "e"], lambda block: rows[block].copy(), 2)
    assert pairs == [("c", "b"), ("c", "d"), ("q", "a"), ("q", "b")]
