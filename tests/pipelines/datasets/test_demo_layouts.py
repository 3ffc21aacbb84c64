"""The demo world's data sets, read back by other readers and checked against their pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from scipy.io import loadmat
from scipy.spatial.transform import Rotation

from featplug.io.image_folder import list_images
from featplug.io.images import read_image
from featplug.localization.queries import read_poses, read_queries
from featplug.training.data.viewpoint import read_depth, read_megadepth
from pipelines.datasets.demo import REVISION, make_demo_world
from pipelines.datasets.true_poses import read_reference_poses, reference_unit
from tests.golden.revisions import Revisions
from tests.pipelines.datasets.conftest import SMALL


def test_another_world_has_another_revision(
    town: Path, room: Path, planes: Path, revisions: Revisions
) -> None:
    photographs = {
        "town": town / "images_upright/db/1000.jpg",
        "night": min((town / "images_upright/query/night").rglob("*.jpg")),
        "room": room / "query/iphone7/IMG_0801.JPG",
        "plane": planes / "v_posters00/6.ppm",
    }
    outputs = {name: read_image(path) for name, path in photographs.items()}
    poses = read_poses(town / "ground_truth.txt") | read_poses(room / "ground_truth.txt")
    revisions.check("demo world", REVISION, outputs | {"poses": np.stack(list(poses.values()))})


def test_the_model_is_exact_and_its_images_are_there(town: Path) -> None:
    model = pycolmap.Reconstruction(str(town / "3D-models/aachen_v_1_1"))
    assert model.num_reg_images() == 10
    assert model.num_points3D() > 300
    assert model.compute_mean_reprojection_error() < 1e-6
    names = {image.name for image in model.images.values()}
    assert names == {f"db/{1000 + i}.jpg" for i in range(10)}
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        rows, columns = read_image(town / "images_upright" / image.name).shape[:2]
        assert (camera.width, camera.height) == (columns, rows) == (320, 240)
        assert camera.model.name == "SIMPLE_RADIAL"
    shared = [len(point.track.elements) for point in model.points3D.values()]
    assert min(shared) == 2


def test_pictures_obey_the_truth(town: Path) -> None:
    """What SIFT matches between a query and its neighbours lies on the true epipolar lines."""
    model = pycolmap.Reconstruction(str(town / "3D-models/aachen_v_1_1"))
    truth = read_poses(town / "ground_truth.txt")
    queries = read_queries(town / "queries/day_time_queries_with_intrinsics.txt")
    views = {q.name: (q.camera, truth[q.name]) for q in queries}
    views |= {
        image.name: (model.cameras[image.camera_id], image.cam_from_world().matrix())
        for image in model.images.values()
    }
    sift, matcher = cv2.SIFT_create(1500), cv2.BFMatcher(cv2.NORM_L2)
    features = {}
    for name, (camera, _) in views.items():
        picture = read_image(town / "images_upright" / name, True)
        keypoints, descriptors = sift.detectAndCompute(picture, None)
        rays = camera.cam_from_img(np.array([k.pt for k in keypoints]) + 0.5)
        features[name] = np.append(rays, np.ones((len(rays), 1)), 1), descriptors
    distances = []
    for query in queries:
        camera, pose = views[query.name]
        distances.append(np.zeros(0))
        for name in views.keys() - truth.keys():
            other = views[name][1]
            rotation = pose[:, :3] @ other[:, :3].T
            translation = pose[:, 3] - rotation @ other[:, 3]
            if np.linalg.norm(translation) > 2 or np.trace(rotation) < 2.7:
                continue
            found = matcher.knnMatch(features[name][1], features[query.name][1], k=2)
            good = [a for a, b in found if a.distance < 0.7 * b.distance]
            x0 = features[name][0][[m.queryIdx for m in good]]
            x1 = features[query.name][0][[m.trainIdx for m in good]]
            lines = np.cross(translation, x0 @ rotation.T)
            pixels = camera.params[0] / np.linalg.norm(lines[:, :2], axis=1)
            distances[-1] = np.append(distances[-1], (x1 * lines).sum(1) * pixels)
    for distance in distances:
        right = np.abs(distance) < 1.5
        assert right.sum() > 30
        assert right.mean() > 0.7
    every = np.concatenate(distances)
    assert np.abs(np.median(every[np.abs(every) < 1.5])) < 0.1


@pytest.mark.slow
def test_people_and_vans_change_pictures_but_no_truth(town: Path, tmp_path: Path) -> None:
    busy = make_demo_world(tmp_path, replace(SMALL, num_moving=5))
    for name in ("ground_truth.txt", "queries/night_time_queries_with_intrinsics.txt"):
        assert (busy / name).read_bytes() == (town / name).read_bytes()
    names = list_images(town / "images_upright")
    assert list_images(busy / "images_upright") == names
    for name in names:
        one, other = (read_image(d / "images_upright" / name, True) for d in (town, busy))
        assert (np.abs(one.astype(int) - other) > 15).mean() > 0.002
    models = [pycolmap.Reconstruction(str(d / "3D-models/aachen_v_1_1")) for d in (town, busy)]
    still, moving = ({i.name: i for i in m.images.values()} for m in models)
    for name, image in still.items():
        np.testing.assert_array_equal(
            image.cam_from_world().matrix(), moving[name].cam_from_world().matrix()
        )
    assert models[1].compute_mean_reprojection_error() < 1e-6
    counts = [model.compute_num_observations() for model in models]
    assert 0.3 * counts[0] < counts[1] < counts[0]


def test_nvm_and_colmap_models_say_the_same(town: Path) -> None:
    folder = town / "3D-models/aachen_v_1_1"
    model = pycolmap.Reconstruction(str(folder))
    images = {image.name: image for image in model.images.values()}
    lines = (folder / "aachen_v_1_1.nvm").read_text().splitlines()
    assert lines[0] == "NVM_V3"
    lines = [line for line in lines[1:] if line]
    count = int(lines[0])
    assert count == len(images)
    names = []
    for line in lines[1 : 1 + count]:
        name, focal, *pose, distortion, end = line.split(" ")
        qw, qx, qy, qz, *centre = map(float, pose)
        image = images[name]
        camera = model.cameras[image.camera_id]
        rotation = Rotation.from_quat([qx, qy, qz, qw]).as_matrix()
        expected = image.cam_from_world().matrix()
        np.testing.assert_allclose(rotation, expected[:, :3], atol=1e-9)
        np.testing.assert_allclose(-rotation @ centre, expected[:, 3], atol=1e-8)
        assert float(focal) == pytest.approx(camera.params[0])
        assert np.sign(float(distortion)) == -np.sign(camera.params[3])
        assert end == "0"
        names.append(name)
    num_points = int(lines[1 + count])
    assert num_points == model.num_points3D()
    point_lines = lines[2 + count : 2 + count + num_points]
    by_id = sorted(model.points3D.items())
    for line, (_, point) in list(zip(point_lines, by_id, strict=True))[::25]:
        values = line.split(" ")
        np.testing.assert_allclose(np.array(values[:3], float), point.xyz, atol=1e-9)
        np.testing.assert_array_equal(np.array(values[3:6], int), point.color)
        observations = np.array(values[7:], float).reshape(int(values[6]), 4)
        for index, keypoint, *xy in observations.tolist():
            image = images[names[int(index)]]
            np.testing.assert_allclose(xy, image.points2D[int(keypoint)].xy, atol=1e-5)
    for line in (folder / "database_intrinsics_v1_1.txt").read_text().splitlines():
        name, kind, width, height, *params = line.split(" ")
        camera = model.cameras[images[name].camera_id]
        assert (kind, int(width), int(height)) == ("SIMPLE_RADIAL", camera.width, camera.height)
        np.testing.assert_allclose(np.array(params, float), camera.params)


def test_queries_have_lists_photographs_and_truth(town: Path) -> None:
    queries = read_queries(town / "queries/*_time_queries_with_intrinsics.txt")
    truth = read_poses(town / "ground_truth.txt")
    assert [query.name for query in queries] == list(truth)
    listed = {name for name in list_images(town / "images_upright") if name.startswith("query/")}
    assert listed == set(truth)
    every = list_images(town / "images_upright")
    assert len({name.rpartition("/")[2] for name in every}) == len(every) == 19
    database = pycolmap.Reconstruction(str(town / "3D-models/aachen_v_1_1"))
    centres = np.array([image.projection_center() for image in database.images.values()])
    for query in queries:
        rows, columns = read_image(town / "images_upright" / query.name).shape[:2]
        assert (query.camera.width, query.camera.height) == (columns, rows)
        pose = truth[query.name]
        centre = -pose[:, :3].T @ pose[:, 3]
        assert 0.1 < np.linalg.norm(centres - centre, axis=1).min() < 2.0
    for condition in ("day", "dusk", "night"):
        path = town / f"queries/{condition}_time_queries_with_intrinsics.txt"
        words = [line.split() for line in path.read_text().splitlines()]
        assert len(words) == 3
        assert all(w[0].startswith(f"query/{condition}/") and len(w) == 8 for w in words)


def test_it_gets_dark(town: Path) -> None:
    level = {
        condition: np.mean(
            [read_image(path, True).mean() for path in town.glob(f"images_upright/{where}.jpg")]
        )
        for condition, where in (
            ("noon", "db/*"),
            ("day", "query/day/*/*"),
            ("dusk", "query/dusk/*/*"),
            ("night", "query/night/*/*"),
        )
    }
    assert level["night"] < 0.6 * level["day"]
    assert level["night"] < level["dusk"] < level["noon"]


def test_the_older_layout_has_ids_for_the_nvm_model(town: Path, world: Path) -> None:
    older = make_demo_world(world, SMALL, "aachen")
    with pycolmap.Database.open(str(older / "aachen.db")) as database:
        images = {image.name: image for image in database.read_all_images()}
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
    lines = (older / "3D-models/database_intrinsics.txt").read_text().splitlines()
    # hloc wants a camera of its own for each image of the model.
    assert len({image.camera_id for image in images.values()}) == len(lines) == 10
    for line in lines:
        name, _, _, _, *params = line.split(" ")
        camera = cameras[images[name].camera_id]
        np.testing.assert_allclose(camera.params, np.array(params, float))
    nvm = (older / "3D-models/aachen_cvpr2018_db.nvm").read_bytes()
    assert nvm == (town / "3D-models/aachen_v_1_1/aachen_v_1_1.nvm").read_bytes()
    for path in [*town.rglob("*.jpg"), *town.glob("queries/*.txt")]:
        assert (older / path.relative_to(town)).read_bytes() == path.read_bytes()
    assert (older / "ground_truth.txt").read_text() == (town / "ground_truth.txt").read_text()


def alignment_of(room: Path, name: str) -> np.ndarray:
    *_, floor, scan, file = name.split("/")
    path = f"database/alignments/{floor}/transformations/{file[:3]}_trans_{scan}.txt"
    lines = (room / path).read_text().splitlines()
    return np.array([line.split() for line in lines[7:11]], float)


def test_scans_project_into_queries(room: Path) -> None:
    """XYZ of a cutout's pixels, aligned, through the query's true camera: the same thing there."""
    truth = read_poses(room / "ground_truth.txt")
    queries = {
        query.name: query.camera for query in read_queries(room / "queries_with_intrinsics.txt")
    }
    assert list(truth) == list(queries) == [f"query/iphone7/IMG_{801 + i:04}.JPG" for i in range(3)]
    cutouts = sorted(path.relative_to(room).as_posix() for path in room.glob("database/**/*.jpg"))
    assert len(cutouts) == 12
    assert cutouts[0] == "database/cutouts/DUC1/024/DUC_cutout_024_0_0.jpg"
    sift = cv2.SIFT_create(1000)
    pictures = {name: read_image(room / name, True) for name in [*cutouts, *queries]}
    features = {name: sift.detectAndCompute(picture, None) for name, picture in pictures.items()}
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    offsets = {name: [] for name in queries}
    for name in cutouts:
        arrays = loadmat(room / f"{name}.mat")
        assert arrays["XYZcut"].shape == arrays["RGBcut"].shape == (240, 320, 3)
        lost = np.isnan(arrays["XYZcut"]).any(-1)
        assert 0.01 < lost.mean() < 0.9
        keypoints, descriptors = features[name]
        place = np.array([k.pt for k in keypoints])
        column, row = np.round(place).astype(int).T
        points = arrays["XYZcut"][row, column]
        alignment = alignment_of(room, name)
        points = points @ alignment[:3, :3].T + alignment[:3, 3]
        for query, camera in queries.items():
            assert camera.params.tolist()[0] == pytest.approx(320 * 28 / 36)
            matches = matcher.knnMatch(features[query][1], descriptors, k=2)
            good = [a for a, b in matches if a.distance < 0.7 * b.distance]
            world = points[[m.trainIdx for m in good]].reshape(-1, 3)
            there = world @ truth[query][:, :3].T + truth[query][:, 3]
            found = np.array([features[query][0][m.queryIdx].pt for m in good]).reshape(-1, 2)
            usable = np.isfinite(there).all(1) & (there[:, 2] > 0.1)
            focal, centre = camera.params[:2], camera.params[2:]
            projected = there[usable, :2] / there[usable, 2:] * focal + centre - 0.5
            offsets[query].append(projected - found[usable])
    for query, parts in offsets.items():
        offset = np.concatenate(parts)
        right = np.linalg.norm(offset, axis=1) < 4
        assert right.sum() > 12, query
        assert np.abs(np.median(offset[right], axis=0)).max() < 0.3


def test_homographies_map_pixels(planes: Path) -> None:
    """A photograph that is warped to the first one shows everything where that one does."""
    sequences = sorted(path for path in planes.iterdir() if path.is_dir())
    assert [path.name[:2] for path in sequences] == ["i_", "v_"]
    for sequence in sequences:
        first = read_image(sequence / "1.ppm", True)
        rows, columns = first.shape
        axes = np.arange(20, columns - 20, 6), np.arange(20, rows - 20, 6)
        points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 1, 2).astype(np.float32)
        for k in range(2, 7):
            homography = np.loadtxt(sequence / f"H_1_{k}")
            assert np.allclose(homography, np.eye(3)) == sequence.name.startswith("i_")
            picture = read_image(sequence / f"{k}.ppm", True)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            warped = cv2.warpPerspective(picture, homography, (columns, rows), flags=flags)
            shown = cv2.warpPerspective(
                np.ones_like(first), homography, (columns, rows), flags=flags
            )
            found, ok, _ = cv2.calcOpticalFlowPyrLK(
                first, warped, points, None, winSize=(21, 21), maxLevel=0, minEigThreshold=1e-3
            )
            column, row = points.reshape(-1, 2).astype(int).T
            inner = cv2.erode(shown, np.ones((25, 25)), borderValue=0)[row, column] > 0
            offsets = (found - points).reshape(-1, 2)[(ok.ravel() == 1) & inner]
            right = np.linalg.norm(offsets, axis=1) < 1.5
            if sequence.name.startswith("v_") or k == 2:  # it is dark in the others
                assert right.sum() > 60
                assert right.mean() > 0.7
                assert np.abs(np.median(offsets[right], axis=0)).max() < 0.1


@pytest.mark.slow
def test_megadepths_reader_finds_depths_and_pairs(town: Path, world: Path) -> None:
    scene = read_megadepth(make_demo_world(world, SMALL, "megadepth"), "0000", 0.1)
    assert len(scene.photographs) == 10
    assert len(scene.pairs) > 5
    model = pycolmap.Reconstruction(str(world / "megadepth/Undistorted_SfM/0000/sparse-txt"))
    for photograph in scene.photographs:
        depth = read_depth(photograph.depth)
        assert depth.shape == read_image(photograph.image).shape[:2] == (240, 320)
        world_points = np.array([model.points3D[i].xyz for i in photograph.point_ids.tolist()])
        pose = photograph.cam_from_world
        z = world_points @ pose[2, :3] + pose[2, 3]
        assert len(z) > 5
        # The inverse depth of a plane is linear in its image.
        place = (photograph.points - 0.5).astype(np.float32)
        inverse = cv2.remap(
            (1 / np.maximum(depth, 1e-3)).astype(np.float32), place[:, :1], place[:, 1:], 1
        )
        np.testing.assert_allclose(1 / inverse.ravel(), z, rtol=2e-3)


def test_a_scene_has_the_photographs_of_the_database_and_their_true_poses(
    world: Path, town: Path
) -> None:
    scene = make_demo_world(world, SMALL, "scene")
    model = pycolmap.Reconstruction(str(town / "3D-models/aachen_v_1_1"))
    truth = read_reference_poses(scene / "cameras")
    assert sorted(truth) == list_images(scene / "images") == [f"{1000 + i}.jpg" for i in range(10)]
    for image in model.images.values():
        name = Path(image.name).name
        np.testing.assert_allclose(truth[name], image.cam_from_world().matrix(), atol=1e-9)
        same = (town / "images_upright" / image.name).read_bytes()
        assert (scene / "images" / name).read_bytes() == same
    assert reference_unit(scene / "cameras") == "m"
