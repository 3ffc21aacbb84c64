"""People and vans: where they stand, what they hide, and that they are no part of the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.demo.builder import Scene
from pipelines.demo.geometry import Camera, Faces, View, look_along
from pipelines.demo.moving import moving_objects
from pipelines.demo.photography import Photographer, Shot
from pipelines.demo.rendering import Projection, depth_map
from pipelines.demo.town import ROWS, WALK, build_town
from pipelines.demo.viewpoints import Track, true_tracks

CAMERA = Camera(160, 120, 140.0, (80.0, 60.0), -0.02)
PLACES = ((-10, -6, 50), (-10.5, -5.4, 46), (2, -7, 120), (3, 16.5, -100), (3.6, 16, -106))
VIEWS = [
    View(f"{i}.jpg", CAMERA, look_along(np.array([x, y, 1.7]), yaw, 3))
    for i, (x, y, yaw) in enumerate(PLACES)
]
SAME_PLACE = replace(VIEWS[0], name="another.jpg")
NUM = 6


@pytest.fixture(scope="module")
def town_scene() -> Scene:
    return build_town(0)


@pytest.fixture(scope="module")
def moving(town_scene: Scene) -> dict[str, Faces]:
    return moving_objects(0, town_scene, WALK, [*VIEWS, SAME_PLACE], NUM)[1]


def corners(faces: Faces) -> np.ndarray:
    s, t = faces.axis_s * faces.extent[:, :1], faces.axis_t * faces.extent[:, 1:]
    return np.concatenate([faces.origin + i * s + j * t for i in (0, 1) for j in (0, 1)])


def in_a_house(points: np.ndarray) -> np.ndarray:
    inside = np.zeros(len(points), bool)
    for start, end in np.array(ROWS, float):
        along = (end - start) / np.linalg.norm(end - start)
        x, y = ((points[:, :2] - start) @ axis for axis in (along, (-along[1], along[0])))
        inside |= (x > 0) & (x < np.linalg.norm(end - start)) & (y > 0) & (y < 7)
    return inside


def test_they_stand_on_the_streets_before_the_camera(moving: dict[str, Faces]) -> None:
    for view in VIEWS:
        points = corners(moving[view.name])
        assert not in_a_house(points).any()
        assert np.linalg.norm(points[:, :2] - view.centre[:2], axis=1).min() > 1.5
        assert -0.03 < points[:, 2].min() < 0.2
        assert 1.5 < points[:, 2].max() < 2.4


def test_they_hide_the_town_and_the_town_hides_them(
    town_scene: Scene, moving: dict[str, Faces]
) -> None:
    faces, hidden = town_scene.faces, 0
    for view in VIEWS:
        joined = faces.joined(moving[view.name])
        index, before = Projection(joined, view).visible(), Projection(faces, view).visible()
        on_them = index >= len(faces)
        assert 0.01 < on_them.mean() < 0.6
        np.testing.assert_array_equal(index[~on_them], before[~on_them])
        behind = depth_map(faces, view)
        assert (depth_map(joined, view) < np.where(behind > 0, behind, np.inf))[on_them].all()
        alone = Projection(moving[view.name], view).visible() >= 0
        hidden += int((alone & ~on_them).sum())
    assert hidden > 0


def observed(tracks: list[Track], view: int) -> np.ndarray:
    xy = [track.xy[track.views.index(view)] for track in tracks if view in track.views]
    return np.array(xy).reshape(-1, 2)


def test_no_true_point_is_observed_where_one_of_them_is(
    town_scene: Scene, moving: dict[str, Faces]
) -> None:
    faces = town_scene.faces
    still = true_tracks(np.random.default_rng(0), faces, VIEWS)
    tracks = true_tracks(np.random.default_rng(0), faces, VIEWS, moving=moving)
    lost = 0
    for i, view in enumerate(VIEWS):
        on_them = Projection(faces.joined(moving[view.name]), view).visible() >= len(faces)
        column, row = observed(tracks, i).astype(int).T
        assert not on_them[row, column].any()
        column, row = observed(still, i).astype(int).T
        lost += int(on_them[row, column].sum())
    assert lost > 10
    # What is left lies on the town.
    before = [Projection(faces, view).visible() for view in VIEWS]
    for point, (i, *_), (xy, *_) in tracks:
        column, row = xy.astype(int)
        face = before[i][row, column]
        assert abs((point - faces.origin[face]) @ faces.normals[face]) < 1e-6


def test_a_name_and_a_seed_say_where_they_are(town_scene: Scene, moving: dict[str, Faces]) -> None:
    name = VIEWS[0].name
    _, again = moving_objects(0, town_scene, WALK, [SAME_PLACE, VIEWS[0]], NUM)
    _, other = moving_objects(1, town_scene, WALK, [VIEWS[0]], NUM)
    np.testing.assert_array_equal(again[name].origin, moving[name].origin)
    np.testing.assert_array_equal(again[name].texture, moving[name].texture)
    for faces in (moving[SAME_PLACE.name], other[name]):
        assert not np.array_equal(faces.origin[:8], moving[name].origin[:8])
    assert moving_objects(0, town_scene, WALK, VIEWS, 0) == ([], {})


@pytest.mark.slow
def test_photographs_of_one_place_show_others_under_the_same_light(
    town_scene: Scene, moving: dict[str, Faces]
) -> None:
    textures, _ = moving_objects(0, town_scene, WALK, VIEWS[:1], NUM)
    scene = replace(town_scene, textures=[*town_scene.textures, *textures])
    photographer = Photographer(scene, 0, moving)
    shown = {
        view.name: Projection(scene.faces.joined(moving[view.name]), view).visible()
        >= len(scene.faces)
        for view in (VIEWS[0], SAME_PLACE)
    }
    in_neither = ~(shown[VIEWS[0].name] | shown[SAME_PLACE.name])
    for look in ("noon", "night"):
        one, same, other = (
            photographer.take(Shot(look, view, 1)).astype(int)
            for view in (VIEWS[0], VIEWS[0], SAME_PLACE)
        )
        np.testing.assert_array_equal(one, same)
        different = np.abs(one - other).max(-1)
        assert different[~in_neither].mean() > 4 * different[in_neither].mean()
        # Neither do they shine at night, nor are they black.
        share = one[shown[VIEWS[0].name]].mean() / one[in_neither].mean()
        assert 0.3 < share < 1.3
