"""COLMAP's database: cameras, keypoints and matches.

COLMAP puts the origin at the corner of the top-left pixel, so all points pass through
:func:`to_colmap_points` on their way to it. Works with pycolmap 3.13 to 4.2.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.cameras import (
    CameraOptions,
    ImageCameras,
    camera_rig,
    image_frame,
    make_cameras,
)
from featplug.colmap.database_priors import write_position_prior
from featplug.colmap.database_rows import check_rows, open_database, remove_database
from featplug.colmap.rigs import Rigs
from featplug.io.image_files import read_image_header
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import Pair
from featplug.io.store import FeatureReader
from featplug.keypoints.detection import from_sift_frames, sift_frames
from featplug.utils.parallel import NUM_READERS, map_ahead


def create_database(
    database_path: Path,
    image_dir: Path,
    names: Sequence[str],
    camera: CameraOptions,
    rigs: Rigs | None = None,
) -> ImageCameras:
    """Make a database, or replace it, with images, whose sizes and EXIF data are read, and cameras.

    The rows are those of COLMAP's own import, which would decode the images, and not all formats.
    They differ in the mode ``auto``, where COLMAP gives a camera to each image without EXIF data,
    and in the mode ``per-folder``, where it splits a folder that has subfolders; and where EXIF
    data are unusual: if spaces pad a make or model, or the focal length for 35 mm is 0. COLMAP 3.13
    reads altitudes below sea level, EXIF data of PNG, and resolutions in mm or µm otherwise.

    The images of a camera of a rig share a camera; :func:`~featplug.colmap.rigs.apply_rigs` writes
    the rigs themselves.

    Raises:
        FileNotFoundError: an image does not exist.
        ValueError: the camera options do not fit COLMAP or the images, an image cannot be read, or
            the disk is full.
    """
    names = sorted(names)
    read = map_ahead(lambda name: read_image_header(image_dir / name), names, NUM_READERS)
    headers = dict(zip(names, read, strict=True))
    made = make_cameras(camera, headers, None if rigs is None else rigs.cameras_of(names))
    remove_database(database_path)
    database_path.parent.mkdir(parents=True, exist_ok=True)
    with open_database(database_path) as database:
        for of_images in made.cameras:
            database.write_camera(of_images, use_camera_id=True)
            database.write_rig(camera_rig(of_images), use_rig_id=True)
        for image_id, name in enumerate(names, start=1):
            image = pycolmap.Image(name, np.zeros((0, 2)), made.camera_ids[name], image_id)
            database.write_image(image, use_image_id=True)
            database.write_frame(image_frame(image), use_frame_id=True)
            gps = headers[name].gps
            if gps is not None and gps.altitude is not None:
                location = gps.latitude, gps.longitude, gps.altitude
                write_position_prior(database, image, location)
    check_rows(database_path, "images", len(names))
    return made


def image_ids(database_path: Path) -> dict[str, int]:
    """Return COLMAP's number of each image in the database."""
    with open_database(database_path) as database:
        return {image.name: image.image_id for image in database.read_all_images()}


def to_colmap_points(points: np.ndarray) -> np.ndarray:
    """Return points N×2, integer = pixel centre, with COLMAP's origin at the corner of a pixel."""
    return points + 0.5


def to_colmap_keypoints(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return :func:`~featplug.keypoints.detection.sift_frames` with COLMAP's origin."""
    frames = sift_frames(features)
    frames[:, :2] = to_colmap_points(frames[:, :2])
    return frames


def from_colmap_keypoints(keypoints: np.ndarray) -> dict[str, np.ndarray]:
    """Return COLMAP's keypoints, N×2 to N×6, as ours: undo :func:`to_colmap_keypoints`."""
    features = from_sift_frames(keypoints)
    return {**features, "keypoints": features["keypoints"] - 0.5}


def check_image_size(features: FeatureReader, name: str, camera: pycolmap.Camera) -> None:
    """Raise ValueError if the features of an image are of one of another size than its camera's."""
    size = features.known_image_size(name) or (camera.width, camera.height)
    if size != (camera.width, camera.height):
        raise ValueError(
            f"The features of {name!r} in {features.path} are of an image of {size[0]}×{size[1]} "
            f"pixels, the image has {camera.width}×{camera.height}; extract it again."
        )


def import_features(database_path: Path, features: FeatureReader) -> None:
    """Write the keypoints of all images of the database, with scale and orientation if known.

    Raises:
        ValueError: an image has no features, or ones of an image of another size, or the disk is
            full.
    """
    num_images = num_keypoints = 0
    with open_database(database_path) as database:
        for image in database.read_all_images():
            check_image_size(features, image.name, database.read_camera(image.camera_id))
            datasets = features.read(image.name, ("keypoints", "scales", "oris"))
            frames = to_colmap_keypoints(datasets)
            if frames.shape[1] == 3:  # COLMAP knows no keypoints with a scale alone
                frames = np.ascontiguousarray(frames[:, :2])
            database.write_keypoints(image.image_id, frames)
            num_images += 1
            num_keypoints += len(frames)
    check_rows(database_path, "keypoints", num_images, num_keypoints)


def import_matches(database_path: Path, pairs: Sequence[Pair], matches: MatchReader) -> int:
    """Write the matches of the pairs whose images are in the database.

    Returns:
        The number of pairs with at least one match.

    Raises:
        ValueError: a pair has not been matched, or matches keypoints that do not exist, or the disk
            is full.
    """
    ids = image_ids(database_path)
    num_matched = num_matches = 0
    with open_database(database_path) as database:
        num_keypoints = {
            name: database.num_keypoints_for_image(image_id) for name, image_id in ids.items()
        }
        for name0, name1 in pairs:
            if name0 not in ids or name1 not in ids:
                continue
            counts = num_keypoints[name0], num_keypoints[name1]
            indices, _ = matches.read(name0, name1, counts)
            if not len(indices):
                continue
            database.write_matches(ids[name0], ids[name1], indices.astype(np.uint32))
            num_matched += 1
            num_matches += len(indices)
    check_rows(database_path, "matches", num_matched, num_matches)
    return num_matched
