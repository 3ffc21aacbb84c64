"""Cameras as ``MODEL width height p0 p1 …``: the words of query lists and of cameras.txt."""

from collections.abc import Sequence

import numpy as np
import pycolmap

from featplug.colmap.model_tables import MAX_SIDE, check_camera_values
from featplug.io.text_files import numbers, whole_number


def camera_from_words(words: Sequence[str], where: str) -> pycolmap.Camera:
    """Read the words of a camera in COLMAP's form.

    Args:
        words: name of the model, width, height and parameters.
        where: where they stand, such as ``queries.txt, line 3``, for messages.

    Raises:
        ValueError: they are no camera, or its principal point is outside its image.
    """
    if len(words) < 4 or words[0] not in pycolmap.CameraModelId.__members__:
        raise ValueError(
            f"{where}: expected `name MODEL width height p0 p1 …` with a camera model of COLMAP's, "
            f"got {' '.join(words)[:100]!r} after the name; correct the line."
        )
    width, height = (whole_number(w, where, "a size", 1, MAX_SIDE) for w in words[1:3])
    params = numbers(words[3:], where, "camera parameters")
    model = pycolmap.CameraModelId.__members__[words[0]]
    if problem := check_camera_values(int(model), (width, height), np.array(params)):
        raise ValueError(f"{where}: the camera {problem}; correct it.")
    camera = pycolmap.Camera(model=model, width=width, height=height, params=params)
    point = camera.params[camera.principal_point_idxs()]
    if ((point < 0) | (point > (width, height)[: len(point)])).any():
        raise ValueError(
            f"{where}: expected a principal point in the image of {width}×{height} pixels, got "
            f"({point[0]:g}, {point[1]:g}); correct it."
        )
    return camera
