"""The town, photographed by one phone, in layouts of data sets for localization."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.colmap.nvm import write_nvm
from featplug.io.images import read_image
from featplug.utils.progress import progress_bar
from pipelines.demo.builder import Scene
from pipelines.demo.geometry import Camera, View
from pipelines.demo.photography import Photographer, Shot, write_jpeg, write_picture
from pipelines.demo.town import WALK, build_town
from pipelines.demo.true_models import true_model
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
