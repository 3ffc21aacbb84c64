"""Rendered pixels, depths and tracks against geometry computed another way."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines.demo.builder import Builder, Scene
from pipelines.demo.geometry import Camera, Faces, View, camera_rays, direction, look_along
from pipelines.demo.layouts import colmap_camera
from pipelines.demo.photography import Illumination, Light, LightGrid
from pipelines.demo.rendering import Atlas, Lightmap, Projection, depth_map, radiance
from pipelines.demo.viewpoints import true_tracks

RADIAL = Camera(320, 240, 290.0, (163.0, 117.5), -0.06)
PINHOLE = Camera(320, 240, 282.0, (158.0, 121.0))
DARK = (0.0, 0.0, 0.0)
EVEN = Light((0, 0), DARK, (0.8, 0.8, 0.8), (0.8, 0.8, 0.8), DARK, DARK, DARK)


def wall_with(pixels: np.ndarray) -> Scene:
    """A wall 8 m wide and 6 m high in the plane y = 5, high enough for an even light."""
    builder = Builder(np.random.default_rng(0))
    builder.panel((-4, 5, 97), (8, 6), builder.texture(pixels))
    return builder.scene()


def even_light(scene: Scene) -> Lightmap:
    grid = LightGrid(scene)
    return grid.under(Illumination(grid, EVEN))


def boxes() -> Faces:
    """A floor, a wall, and boxes that hide parts of them."""
    builder = Builder(np.random.default_rng(0))
    builder.add((-10, 12, 0), (20,), (0, -12), 0)
    builder.panel((-10, 12, 0), (20, 8), 0)
    for x, y, angle in ((-2, 6, 0.3), (1.5, 7.5, 1.0), (0.2, 4.5, 0.7)):
        builder.at((x, y), direction(angle)).box((0, 0, 0), (1.2, 0.8, 2.0), 0)
    builder.panel((2.5, 5.0, 2.0), (2, 2), 0, gable=True)
    return builder.faces()


def some_views(camera: Camera) -> list[View]:
    places = ((-1.5, 0.5, 1.6, 80, 2), (0.8, 0.2, 1.9, 98, -3), (0.1, 1.2, 1.4, 88, 5))
    return [
        View(f"{i}.jpg", camera, look_along(np.array(place[:3]), *place[3:], roll=3 * i))
        for i, place in enumerate(places)
    ]


def first_hit(faces: Faces, centre: np.ndarray, ray: np.ndarray) -> tuple[int, float]:
    """The face that a ray meets first, and how far along it, by going through all faces."""
    best = (-1, np.inf)
    for i in range(len(faces)):
        system = np.column_stack([faces.axis_s[i], faces.axis_t[i], -ray])
        if ray @ faces.normals[i] > -1e-9:
            continue
        s, t, along = np.linalg.solve(system, centre - faces.origin[i])
        width, height = faces.extent[i]
        inside = 0 <= s <= width and 0 <= t <= height
        if faces.gable[i]:
            inside &= abs(s - width / 2) <= width / 2 * t / height
        if inside and 0 < along < best[1]:
            best = (i, along)
    return best


@pytest.mark.parametrize("camera", [RADIAL, PINHOLE])
def test_cameras_are_colmaps(camera: Camera) -> None:
    other = colmap_camera(camera)
    rng = np.random.default_rng(0)
    points = rng.uniform((-2, -1.5, 4), (2, 1.5, 6), (50, 3))
    expected = np.array([other.img_from_cam(point) for point in points])
    np.testing.assert_allclose(camera.project(points), expected, atol=1e-9)
    np.testing.assert_allclose(camera.unproject(expected), points[:, :2] / points[:, 2:], atol=1e-9)
    # The first pixel's centre lies half a pixel from the corner.
    x, y = camera_rays(camera)
    first = np.append(other.cam_from_img(np.array([0.5, 0.5])), 1)
    np.testing.assert_allclose([x[0, 0], y[0, 0]], first[:2], atol=1e-6)


def test_a_spot_is_where_the_camera_projects_it() -> None:
    pixels = np.full((480, 640, 3), 16, np.uint8)
    spots = [(120, 90), (330, 250), (520, 400), (560, 60)]
    for spot in spots:
        cv2.circle(pixels, spot, 14, (250, 250, 250), -1)
    scene = wall_with(pixels)
    atlas, lightmap = Atlas(scene.textures), even_light(scene)
    pose = look_along(np.array([0.4, -2.0, 100.2]), 86, -2, 4)
    view = View("", RADIAL, pose)
    image, sky = radiance(scene.faces, atlas, lightmap, np.zeros((1, 3)), view)
    assert sky.max() > 0.99 > 0.01 > sky.min()
    light = image.mean(-1)
    found = []
    rows, columns = np.mgrid[: RADIAL.height, : RADIAL.width]
    for x, y in spots:
        # A texture's pixel (x, y) has its centre at x + 0.5 of 640.
        point = np.array([[-4 + 8 * (x + 0.5) / 640, 5.0, 103 - 6 * (y + 0.5) / 480]])
        expected = RADIAL.project(view.to_camera(point))[0]
        near = np.hypot(columns + 0.5 - expected[0], rows + 0.5 - expected[1]) < 11
        weight = np.where(near, light - np.median(light[near & (light < 0.1)]), 0)
        centroid = [(weight * (axis + 0.5)).sum() / weight.sum() for axis in (columns, rows)]
        found.append(centroid - expected)
    # Perspective moves the centre of a disc's image by less than that.
    assert np.abs(found).max() < 0.1
    assert np.abs(np.mean(found, axis=0)).max() < 0.05


def test_depths_of_two_views_agree() -> None:
    faces = boxes()
    one, other, _ = some_views(PINHOLE)
    depth, index = depth_map(faces, one), Projection(faces, one).visible()
    depth_there, index_there = depth_map(faces, other), Projection(faces, other).visible()
    xy = np.stack(np.meshgrid(np.arange(320) + 0.5, np.arange(240) + 0.5), -1)
    seen = depth > 0
    rays = np.concatenate([one.camera.unproject(xy), np.ones((240, 320, 1))], -1)
    points = rays[seen] * depth[seen][:, None]
    world = (points - one.cam_from_world[:, 3]) @ one.cam_from_world[:, :3]
    there = other.to_camera(world)
    place = other.camera.project(there) - 0.5
    inside = (place >= 0).all(1) & (place < (318, 238)).all(1)
    place, there, face = place[inside], there[inside], index[seen][inside]
    column, row = np.floor(place).astype(int).T
    fraction = place - np.floor(place)
    inverse, same = np.zeros(len(place)), np.ones(len(place), bool)
    for dy in (0, 1):
        for dx in (0, 1):
            share = np.where((dx, dy), fraction, 1 - fraction).prod(1)
            # Inverse depth is linear in the image of a plane.
            inverse += share / np.maximum(depth_there[row + dy, column + dx], 1e-9)
            same &= index_there[row + dy, column + dx] == face
    assert same.mean() > 0.6
    assert len(set(face[same].tolist())) >= 5
    np.testing.assert_allclose(1 / inverse[same], there[same, 2], atol=1e-4)


@pytest.mark.parametrize("camera", [RADIAL, PINHOLE])
def test_pixels_see_the_first_face_on_their_ray(camera: Camera) -> None:
    faces = boxes()
    rng = np.random.default_rng(1)
    for view in some_views(camera):
        index, depth = Projection(faces, view).visible(), depth_map(faces, view)
        wrong = 0
        for x, y in rng.integers(0, (320, 240), (150, 2)).tolist():
            ray = np.append(camera.unproject(np.array([x + 0.5, y + 0.5])), 1.0)
            face, along = first_hit(faces, view.centre, ray @ view.cam_from_world[:, :3])
            if index[y, x] != face:  # a millimetre of overlap at the edges
                wrong += 1
            elif face >= 0:
                assert depth[y, x] == pytest.approx(along, abs=1e-6)
            else:
                assert depth[y, x] == 0
        assert wrong <= 1
        assert len(np.unique(index)) >= 5


def test_tracks_are_true_and_complete() -> None:
    faces = boxes()
    views = some_views(RADIAL)
    tracks = true_tracks(np.random.default_rng(2), faces, views)
    assert len(tracks) > 100
    assert {len(track.views) for track in tracks} == {2, 3}
    for point, which, xy in tracks:
        seen_by = set(which)
        assert len(seen_by) == len(which)
        for i, view in enumerate(views):
            in_camera = view.to_camera(point[None])
            place = view.camera.project(in_camera)[0]
            ray = in_camera[0] / in_camera[0, 2] @ view.cam_from_world[:, :3]
            _, along = first_hit(faces, view.centre, ray)
            if i in seen_by:
                np.testing.assert_allclose(xy[which.index(i)], place, atol=1e-6)
                assert along == pytest.approx(in_camera[0, 2], abs=1e-6)
            elif (place > 3).all() and (place < (317, 237)).all():
                # Left out: hidden, or too near to an edge to be sure.
                depth = depth_map(faces, view)
                column, row = place.astype(int)
                around = depth[row - 1 : row + 2, column - 1 : column + 2]
                hidden = along < in_camera[0, 2] - 1e-3
                assert hidden or np.ptp(around) > 1e-2


def test_what_is_far_or_slanted_is_averaged() -> None:
    """Stripes finer than a pixel become their mean, whatever the direction they are seen from."""
    stripes = np.zeros((768, 1024, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = stripes[:, 3::8] = 255
    scene = wall_with(stripes)
    atlas, lightmap = Atlas(scene.textures), even_light(scene)
    for centre, yaw in (((0, -35.0, 100), 90), ((-26, -8.0, 100), 27)):
        view = View("", PINHOLE, look_along(np.array(centre, float), yaw))
        image, sky = radiance(scene.faces, atlas, lightmap, np.zeros((1, 3)), view)
        inner = cv2.erode((sky == 0).astype(np.uint8), np.ones((5, 5))) > 0
        values = image[inner].mean(-1) / 0.8
        assert inner.sum() > 300
        assert values.mean() == pytest.approx(0.25, abs=0.03)  # the mean of displayed values
        assert values.std() < 0.03
