"""Matches between images of different clusters, which no cluster could use, in a merged model."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.database_rows import open_database

_MAX_ERROR = 8.0
"""Largest error in pixels of a point in an image that joins its track: twice that of verification,
because the poses are those of clusters that have not been adjusted together."""


def join_matched_tracks(
    model: pycolmap.Reconstruction, database_path: Path, pairs: Iterable[tuple[int, int]]
) -> int:
    """Join tracks of a model, and add keypoints to them, by inlier matches of pairs of images.

    The pairs are read one by one, so that memory holds no more than the model.

    Args:
        model: is changed.
        database_path: database with verified pairs.
        pairs: numbers of the images of each pair; pairs with an image that is not registered are
            left out.

    Returns:
        The number of matches that joined two tracks or added a keypoint to one.
    """
    registered = set(model.reg_image_ids())
    num = 0
    with open_database(database_path) as database:
        for id0, id1 in pairs:
            if id0 in registered and id1 in registered:
                matches = database.read_two_view_geometry(id0, id1).inlier_matches
                num += _join_pair(model, (id0, id1), matches)
    return num


def _join_pair(model: pycolmap.Reconstruction, ids: tuple[int, int], matches: np.ndarray) -> int:
    """Join the tracks of the matches K×2 of two images where each point fits the other image."""
    images = [model.images[image_id] for image_id in ids]
    num = 0
    for indices in matches.tolist():
        keypoints = [image.points2D[index] for image, index in zip(images, indices, strict=True)]
        seen = [keypoint.has_point3D() for keypoint in keypoints]
        if not any(seen):
            continue
        if all(seen):
            first, second = (keypoint.point3D_id for keypoint in keypoints)
            if first == second:
                continue
            fits = _fits(model, images[1], keypoints[1], first) and _fits(
                model, images[0], keypoints[0], second
            )
            if fits and not _images_of(model, first) & _images_of(model, second):
                model.merge_points3D(first, second)
                num += 1
            continue
        with_point = int(seen[1])
        point_id = keypoints[with_point].point3D_id
        other = 1 - with_point
        if _fits(model, images[other], keypoints[other], point_id) and ids[other] not in _images_of(
            model, point_id
        ):
            element = pycolmap.TrackElement(ids[other], indices[other])
            model.add_observation(point_id, element)
            num += 1
    return num


def _fits(
    model: pycolmap.Reconstruction,
    image: pycolmap.Image,
    keypoint: pycolmap.Point2D,
    point_id: int,
) -> bool:
    """Return whether a point is seen where a keypoint is."""
    place = image.project_point(model.points3D[point_id].xyz)
    return place is not None and bool(np.linalg.norm(place - keypoint.xy) <= _MAX_ERROR)


def _images_of(model: pycolmap.Reconstruction, point_id: int) -> set[int]:
    return {element.image_id for element in model.points3D[point_id].track.elements}
