"""The town, photographed by one camera, in layouts of data sets for localization."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.colmap.model_files import write_model
from featplug.colmap.nvm import write_nvm
from featplug.io.images import read_image
from featplug.localization.queries import Query, write_poses, write_queries
from featplug.utils.progress import progress_bar
from pipelines.demo.builder import Scene
from pipelines.demo.geometry import Camera, View
from pipelines.demo.photography import Photographer, Shot, write_jpeg, write_picture
from pipelines.demo.town import WALK, build_town
from pipelines.demo.true_models import colmap_camera, true_model
from pipelines.demo.viewpoints import along_walk, near_others, true_tracks

if TYPE_CHECKING:
    from pipelines.datasets.demo import DemoOptions

_FOCAL = 525 / 640
"""Focal length of the phone, in widths of its images: that of 7-Scenes' colour camera."""
_WALK = WALK[-1:]
"""One way of 25 m, as the frames of a sequence are near each other."""
MAP, QUERIES = "seq-01", "seq-02"


def phone_views(options: "DemoOptions") -> tuple[Scene, list[View], list[View]]:
    """Return the town and the views of the map and of the queries, named as frames of 7-Scenes."""
    scene, rng = build_town(options.seed), np.random.default_rng([options.seed, 7])
    width, height = options.image_size, options.image_size * 3 // 4
    camera = Camera(width, height, _FOCAL * width, (width / 2, height / 2))

    def names(sequence: str, num: int) -> list[str]:
        return [f"{sequence}/frame-{i:06}.color.png" for i in range(num)]

    of_map = along_walk(
        rng, scene.faces, _WALK, dict.fromkeys(names(MAP, options.num_database), camera)
    )
    cameras = dict.fromkeys(names(QUERIES, options.num_queries), camera)
    return scene, of_map, near_others(rng, scene.faces, of_map, cameras)


def write_7scenes(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the layout of 7-Scenes."""
    scene, of_map, queries = phone_views(options)
    views = [*of_map, *queries]
    shots = [Shot("day", view, 80_000 + i) for i, view in enumerate(views)]
    photographer = Photographer(scene, options.seed)
    for shot in progress_bar(shots, "photograph the town", len(shots), "image", progress):
        write_picture(folder / shot.view.name, photographer.take(shot))
        _write_frame_pose(folder / shot.view.name.replace("color.png", "pose.txt"), shot.view)
    (folder / "TrainSplit.txt").write_text("sequence1\n")
    (folder / "TestSplit.txt").write_text("sequence2\n")


def write_12scenes(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the layout of 12-Scenes, from that of 7-Scenes; the pose of one frame is lost."""
    source = folder.with_name("7scenes")
    _, of_map, queries = phone_views(options)
    views = [*queries, *of_map]  # queries come first
    (folder / "data").mkdir()
    for i, view in enumerate(views):
        frame = folder / "data" / f"frame-{i:06}"
        write_jpeg(Path(f"{frame}.color.jpg"), read_image(source / view.name), 95)
        _write_frame_pose(Path(f"{frame}.pose.txt"), view)
    lost = folder / "data" / f"frame-{len(views) - 1:06}.pose.txt"
    lost.write_text("\n".join(["-inf -inf -inf -inf"] * 4) + "\n")
    num = len(queries)
    (folder / "split.txt").write_text(
        f"sequence0 [frames={num}]  [start=0 ;  end={num - 1}]\n"
        f"sequence1 [frames={len(of_map)}]  [start={num} ;  end={len(views) - 1}]\n"
    )
    camera = views[0].camera
    x, y = (coordinate - 0.5 for coordinate in camera.centre)
    matrix = np.diag([camera.focal, camera.focal, 1.0, 1.0])
    matrix[:2, 2] = x, y
    words = " ".join(f"{value:.12g}" for value in matrix.ravel())
    (folder / "info.txt").write_text(
        f"m_versionNumber = 4\nm_colorWidth = {camera.width}\nm_colorHeight = {camera.height}\n"
        f"m_calibrationColorIntrinsic = {words} \nm_frames.size = {len(views)}\n"
    )


def write_cambridge(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the layout of Cambridge Landmarks, from that of 7-Scenes."""
    source = folder.with_name("7scenes")
    scene, of_map, queries = phone_views(options)
    views = []
    for number, view in enumerate([*of_map, *queries], start=1):
        sequence = "seq1" if view.name.startswith(MAP) else "seq2"
        views.append(replace(view, name=f"{sequence}/frame{number:05}.png"))
    for view, released in zip([*of_map, *queries], views, strict=True):
        (folder / released.name).parent.mkdir(exist_ok=True)
        shutil.copy(source / view.name, folder / released.name)
    for name, listed in (("train", views[: len(of_map)]), ("test", views[len(of_map) :])):
        _write_landmark_poses(folder / f"dataset_{name}.txt", listed)
    model = _model(options, scene, views, folder)
    for image in model.images.values():  # the model was made of JPEG files
        image.name = image.name.replace(".png", ".jpg")
    write_nvm(folder / "reconstruction.nvm", model)


def write_eth3d(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the layout of ETH3D, from that of 7-Scenes."""
    source, kind = folder.with_name("7scenes"), "dslr_images_undistorted"
    scene, of_map, queries = phone_views(options)
    views = []
    # Neighbours look the same way, as every second photograph is a query.
    for i, view in enumerate([v for turn in range(4) for v in of_map[turn::4]] + queries):
        views.append(replace(view, name=f"{kind}/DSC_{286 + i:04}.JPG"))
        write_jpeg(folder / "images" / views[-1].name, read_image(source / view.name), 95)
    calibration = folder / "dslr_calibration_undistorted"
    calibration.mkdir()
    _model(options, scene, views, folder / "images").write_text(str(calibration))


def write_robotcar(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the layout of RobotCar Seasons, from that of 7-Scenes."""
    source = folder.with_name("7scenes")
    scene, of_map, queries = phone_views(options)
    sides = "left", "rear", "right"
    views = [
        replace(view, name=f"{condition}/{sides[i % 3]}/{1417178384 + i}.jpg")
        for condition, of_condition in (("overcast-reference", of_map), ("dawn", queries))
        for i, view in enumerate(of_condition)
    ]
    images = folder / "images"
    for view, released in zip([*of_map, *queries], views, strict=True):
        write_jpeg(images / released.name, read_image(source / view.name), 95)
    camera = views[0].camera
    values = zip(
        ("fx", "fy", "cx", "cy"), (camera.focal, camera.focal, *camera.centre), strict=True
    )
    lines = "".join(f"{name} {value:.6f}\n" for name, value in values)
    (folder / "intrinsics").mkdir()
    for side in sides:
        (folder / "intrinsics" / f"{side}_intrinsics.txt").write_text(lines)
    model = _model(options, scene, views[: len(of_map)], images)
    for image in model.images.values():
        image.name = image.name.replace(".jpg", ".png")
    models = folder / "3D-models" / "all-merged"
    models.mkdir(parents=True)
    write_nvm(models / "all.nvm", model)
    _write_truth(folder, views[len(of_map) :])


def write_cmu(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write the layout of Extended CMU Seasons, one slice, from that of 7-Scenes."""
    source, part = folder.with_name("7scenes"), folder / "slice2"
    scene, of_map, queries = phone_views(options)
    views = [
        replace(view, name=f"{kind}/img_{i:05}_c{i % 2}_{1283347879534213 + i}us.jpg")
        for kind, of_kind in (("database", of_map), ("query", queries))
        for i, view in enumerate(of_kind)
    ]
    for view, released in zip([*of_map, *queries], views, strict=True):
        write_jpeg(part / released.name, read_image(source / view.name), 95)
    camera = colmap_camera(views[0].camera)
    write_queries(folder / "intrinsics.txt", [Query("c0", camera), Query("c1", camera)])
    names = [view.name.removeprefix("query/") for view in views[len(of_map) :]]
    (part / "test-images-2.txt").write_text("\n".join(names) + "\n")
    model = _model(options, scene, views[: len(of_map)], part)
    for image in model.images.values():
        image.name = image.name.removeprefix("database/")
    write_model(model, part / "sparse")
    _write_truth(part, views[len(of_map) :])


def write_lamar(folder: Path, options: "DemoOptions", progress: bool) -> None:
    """Write LaMAR in kapture's form, from the layout of 7-Scenes; the map's camera is on a rig."""
    source = folder.with_name("7scenes")
    _, of_map, queries = phone_views(options)
    camera = colmap_camera(of_map[0].camera)
    params = ", ".join(map(repr, camera.params.tolist()))
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    sensor_from_rig = np.column_stack([quarter, [0.1, 0.0, 0.2]])
    for part, views, is_on_rig in (("mapping", of_map, True), ("query", queries, False)):
        sensors = folder / part / "sensors"
        records, poses = [], []
        for i, view in enumerate(views):
            name = f"phone/{i:06}.jpg"
            write_jpeg(sensors / "records_data" / name, read_image(source / view.name), 95)
            records.append(f"{i}, cam, {name}")
            pose = view.cam_from_world
            if is_on_rig:
                rotation = sensor_from_rig[:, :3].T
                pose = rotation @ (pose - [[0, 0, 0, t] for t in sensor_from_rig[:, 3]])
            poses.append(f"{i}, {'rig' if is_on_rig else 'cam'}, {_kapture_pose(pose)}")
        line = f"cam, , camera, {camera.model.name}, {camera.width}, {camera.height}, {params}"
        tables = {"sensors": [line], "records_camera": records, "trajectories": poses}
        if is_on_rig:
            tables["rigs"] = [f"rig, cam, {_kapture_pose(sensor_from_rig)}"]
        for table, lines in tables.items():
            text = "\n".join(["# kapture format: 1.1", *lines]) + "\n"
            (sensors / f"{table}.txt").write_text(text, "utf-8")


def _kapture_pose(pose: np.ndarray) -> str:
    x, y, z, w = Rotation.from_matrix(pose[:, :3]).as_quat()
    return ", ".join(repr(float(value)) for value in (w, x, y, z, *pose[:, 3]))


def _write_truth(folder: Path, views: Sequence[View]) -> None:
    write_poses(folder / "ground_truth.txt", {v.name: v.cam_from_world for v in views}, "full")


def _model(
    options: "DemoOptions", scene: Scene, views: Sequence[View], images: Path
) -> pycolmap.Reconstruction:
    rng = np.random.default_rng([options.seed, 8])
    return true_model(views, true_tracks(rng, scene.faces, views), images)


def _write_frame_pose(path: Path, view: View) -> None:
    world_from_camera = np.linalg.inv(np.vstack([view.cam_from_world, [0, 0, 0, 1]]))
    np.savetxt(path, world_from_camera, "%.10e", delimiter="\t")


def _write_landmark_poses(path: Path, views: Sequence[View]) -> None:
    lines = ["Visual Landmark Dataset V1", "ImageFile, Camera Position [X Y Z W P Q R]", ""]
    for view in views:
        x, y, z, w = Rotation.from_matrix(view.cam_from_world[:, :3]).as_quat()
        values = " ".join(f"{value:.9f}" for value in (*view.centre, w, x, y, z))
        lines.append(f"{view.name} {values}")
    path.write_text("\n".join(lines) + "\n", "utf-8")


WRITERS = {
    "7scenes": write_7scenes,
    "12scenes": write_12scenes,
    "cambridge": write_cambridge,
    "eth3d": write_eth3d,
    "robotcar": write_robotcar,
    "cmu": write_cmu,
    "lamar": write_lamar,
}
