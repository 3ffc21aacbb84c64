"""Photographs to localize, as users name them, and the poses of their cameras in rigs."""

from pathlib import Path

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.colmap.rigs import RigCamera
from featplug.io.image_files import IMAGE_SUFFIXES
from featplug.io.image_folder import list_images
from featplug.io.pair_lists import read_image_list
from featplug.io.text_files import read_lines
from featplug.localization.queries import read_queries
from pipelines.workspace import IMAGES


def pose_in_rig(camera: RigCamera) -> np.ndarray:
    """Return the pose of a camera in its rig, ``cam_from_rig`` 3×4."""
    if camera.cam_from_rig_rotation is None or camera.cam_from_rig_translation is None:
        return np.eye(3, 4)
    w, x, y, z = camera.cam_from_rig_rotation
    rotation = Rotation.from_quat([x, y, z, w]).as_matrix()
    return np.column_stack([rotation, camera.cam_from_rig_translation])


def find_queries(queries: Path, images: Path) -> tuple[Path, dict[str, pycolmap.Camera | None]]:
    """Find the photographs to localize.

    Args:
        queries: a folder, a photograph, or a list of names, with intrinsics or without.
        images: folder of the photographs of the map, which names may be relative to.

    Returns:
        The folder that the names are relative to, and each name with its intrinsics, or None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no photograph, or a list is damaged.
    """
    if queries.is_dir():
        return queries, dict.fromkeys(list_images(queries))
    if queries.suffix.lower() in IMAGE_SUFFIXES:
        if not queries.is_file():
            raise FileNotFoundError(f"There is no photograph {queries}.")
        return queries.parent, {queries.name: None}
    if not queries.is_file():
        raise FileNotFoundError(
            f"There is no folder and no list {queries}; give the photographs to localize by "
            "--queries."
        )
    lines = read_lines(queries, "query list")
    has_intrinsics = any(len(line.split()) > 1 for _, line in lines)
    listed: dict[str, pycolmap.Camera | None]
    if has_intrinsics:
        listed = {query.name: query.camera for query in read_queries(queries)}
    else:
        listed = dict.fromkeys(read_image_list(queries))
    if not listed:
        raise ValueError(f"The list {queries} has no photographs.")
    places = [queries.parent, images, queries.parent / IMAGES]
    for place in places:
        if any((place / name).is_file() for name in listed):
            return place, listed
    raise FileNotFoundError(
        f"{queries}: none of its {len(listed)} photographs, such as {next(iter(listed))!r}, is in "
        f"{queries.parent} or {images}; move the list to the folder that its names start from."
    )
