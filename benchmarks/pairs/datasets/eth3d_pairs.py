"""Pairs of ETH3D's high-resolution multi-view scenes (Schöps et al., CVPR 2017), in metres.

A folder of scenes, or one of them, as released (undistorted): ``SCENE/images`` and
``SCENE/dslr_calibration_undistorted/{cameras,images,points3D}.txt``. The pairs of a scene are all
pairs of photographs, in the order of their names, that see 500 or more points of its model in
common. glue-factory chooses them this way; it reduces the photographs to an eighth
(``--resize-max 774``).
"""

from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
from scipy.sparse import csr_matrix

from benchmarks.pairs.datasets.phototourism import scene_folders
from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair
from benchmarks.pairs.posed_pairs import COLMAP_CENTRE, centred, relative_pose
from benchmarks.record import Problem
from featplug.colmap.model_files import read_model

_CALIBRATION = "dslr_calibration_undistorted"
MARKS = (f"{_CALIBRATION}/images.txt", f"*/{_CALIBRATION}/images.txt")
SOURCE = (
    "ETH3D: eth3d.net/datasets, multi_view_training_dslr_undistorted.7z (13 scenes), "
    "CC BY-NC-SA 4.0."
)

SCENES = (
    *("courtyard", "delivery_area", "electro", "facade", "kicker", "meadow", "office", "pipes"),
    *("playground", "relief", "relief_2", "terrace", "terrains"),
)
MIN_COMMON_POINTS = 500
"""Points of the model that both photographs of a pair see."""


def read(folder: Path) -> PairSet:
    """Read the pairs of all scenes of the folder."""
    pair_set = PairSet("eth3d_pairs", folder, [], sequences=SCENES)
    for scene in scene_folders(folder, MARKS):
        truth = scene / _CALIBRATION / "images.txt"
        try:
            model = read_model(truth.parent)
        except (FileNotFoundError, ValueError) as error:
            subject = truth.relative_to(folder).as_posix()
            pair_set.problems.append(Problem(subject, str(error)))
            continue
        for image0, image1 in covisible_pairs(model, MIN_COMMON_POINTS):
            made = partial(_pair, folder, scene, model, image0, image1)
            names = " ".join(Path(image.name).name for image in (image0, image1))
            add_pair(pair_set, truth, made, f"pair {names}")
    return pair_set


def covisible_pairs(
    model: pycolmap.Reconstruction, min_common_points: int
) -> list[tuple[pycolmap.Image, pycolmap.Image]]:
    """Return the pairs of images, by name, that see so many points of a model in common."""
    images = sorted((model.images[i] for i in model.reg_image_ids()), key=lambda image: image.name)
    column = {image.image_id: i for i, image in enumerate(images)}
    seen = [
        (row, column[number])
        for row, point in enumerate(model.points3D.values())
        for number in {element.image_id for element in point.track.elements}
    ]
    rows, columns = np.array(seen, np.int64).reshape(-1, 2).T
    shape = model.num_points3D(), len(images)
    incidence = csr_matrix((np.ones(len(rows), np.int64), (rows, columns)), shape)
    common = (incidence.T @ incidence).toarray()
    places = combinations(range(len(images)), 2)
    return [(images[i], images[j]) for i, j in places if common[i, j] >= min_common_points]


def _pair(
    folder: Path,
    scene: Path,
    model: pycolmap.Reconstruction,
    image0: pycolmap.Image,
    image1: pycolmap.Image,
) -> ImagePair:
    cameras = [model.cameras[image.camera_id] for image in (image0, image1)]
    for camera in cameras:
        if "PINHOLE" not in camera.model.name:
            raise ValueError(
                f"{scene / _CALIBRATION}: the camera {camera.camera_id} is {camera.model.name}, "
                "which has distortion; use the undistorted release."
            )
    first, second = (centred(camera.calibration_matrix(), COLMAP_CENTRE) for camera in cameras)
    sizes = [(camera.width, camera.height) for camera in cameras]
    inside = scene.relative_to(folder) / "images"
    name0, name1 = ((inside / image.name).as_posix() for image in (image0, image1))
    poses = [image.cam_from_world().matrix() for image in (image0, image1)]
    return ImagePair(
        name0,
        name1,
        sequence=scene.resolve().name,
        intrinsics=(first, second),
        cam1_from_cam0=relative_pose(*poses),
        unit="m",
        sizes=(sizes[0], sizes[1]),
    )
