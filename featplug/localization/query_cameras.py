"""Cameras of queries: given, that of the map's photographs, of EXIF data, or still to be estimated.

A query that was taken by a camera of the map, by its EXIF data, has that camera, which the
reconstruction has refined. Any other has a focal length that is fitted with its pose.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pycolmap

from featplug.colmap.cameras import CameraOptions, make_cameras
from featplug.io.image_files import ImageHeader, read_image_header
from featplug.localization.absolute_pose import FocalLength
from featplug.localization.queries import Query
from featplug.metrics.poses import intrinsics

FocalLengthMode = Literal["auto", "known", "guessed", "unknown"]
_MOST_ZOOM = 1.05
"""Largest ratio of focal lengths that can be of one lens, by EXIF data and by a reconstruction."""
_Body = tuple[object, ...]
_Chosen = tuple[pycolmap.Camera, FocalLength, str]
"""A camera, what is known of its focal length, and where it comes from."""


@dataclass(frozen=True)
class MapCameras:
    """The cameras of a map, and which bodies they are."""

    of_body: Mapping[_Body, list[pycolmap.Camera]]
    """Make, model, focal length and size in EXIF data to the different cameras that have them."""
    of_size: Mapping[tuple[int, int], list[pycolmap.Camera]]
    """Size to the different cameras that have it."""

    @classmethod
    def of_images(
        cls, cameras: Mapping[str, pycolmap.Camera], headers: Iterable[tuple[str, ImageHeader]]
    ) -> "MapCameras":
        """Collect the cameras of a map's images.

        Args:
            cameras: image name to camera.
            headers: names and headers of some images, such as one of each camera.
        """
        of_body: dict[_Body, dict[object, pycolmap.Camera]] = {}
        of_size: dict[tuple[int, int], dict[object, pycolmap.Camera]] = {}
        for camera in cameras.values():
            size = camera.width, camera.height
            of_size.setdefault(size, {}).setdefault(intrinsics(camera), camera)
        for name, header in headers:
            camera, body = cameras[name], exif_body(header)
            if body is not None and header.size == (camera.width, camera.height):
                of_body.setdefault(body, {}).setdefault(intrinsics(camera), camera)
        return cls(
            {body: list(found.values()) for body, found in of_body.items()},
            {size: list(found.values()) for size, found in of_size.items()},
        )

    @classmethod
    def of_folder(cls, cameras: Mapping[str, pycolmap.Camera], images: Path | None) -> "MapCameras":
        """Collect the cameras of a map, and the bodies that one photograph of each shows.

        Args:
            cameras: image name to camera.
            images: folder of the images, where it is known.
        """
        shown: dict[object, str] = {}
        for name, camera in cameras.items():
            if images is not None and (images / name).is_file():
                shown.setdefault(intrinsics(camera), name)
        headers = []
        for name in shown.values():
            with suppress(OSError, ValueError):
                headers.append((name, read_image_header(Path(images or "") / name)))
        return cls.of_images(cameras, headers)


def exif_body(header: ImageHeader) -> _Body | None:
    """Return what photographs of one camera at one focal length have in common, or None."""
    camera = header.camera
    focal_length = camera.focal_length_mm or camera.focal_length_35mm
    if camera.make is None or camera.model is None or focal_length is None:
        return None
    return camera.make, camera.model, focal_length, camera.focal_length_35mm, header.size


@dataclass(frozen=True)
class QueryCameras:
    """Queries with their cameras, and how these were chosen."""

    queries: list[Query]
    lines: list[str]
    """Description of where the cameras come from, for people."""


def query_cameras(
    headers: Mapping[str, ImageHeader],
    camera: CameraOptions,
    of_map: MapCameras,
    focal_length: FocalLengthMode = "auto",
) -> QueryCameras:
    """Choose the cameras of queries.

    Args:
        headers: name and header of each query.
        camera: how cameras are made; known intrinsics come first.
        of_map: cameras of the map, for queries that were taken by one of them.
        focal_length: whether focal lengths are known, guesses to be refined, or unknown; auto:
            those given or of the map are known, those of EXIF data are guesses.

    Raises:
        FileNotFoundError: a file of known intrinsics does not exist.
        ValueError: the options do not fit the images.
    """
    made = make_cameras(camera, headers)
    by_number = {each.camera_id: each for each in made.cameras}
    queries, sources = [], dict[str, int]()
    for name, header in headers.items():
        number = made.camera_ids[name]
        own = by_number[number]
        if camera.params is not None or number in made.known:
            chosen: _Chosen = own, "known", "given"
        elif own.has_prior_focal_length:
            chosen = _of_map(header, of_map, own) or (own, "guessed", "of EXIF data, and refined")
        else:
            chosen = _of_map(header, of_map, own) or (own, "unknown", "estimated with the pose")
        found, mode, source = chosen
        if not len(found.focal_length_idxs()):  # a panorama
            mode = "known"
        elif focal_length != "auto":
            mode = focal_length
        queries.append(Query(name, found, mode))
        sources[source] = sources.get(source, 0) + 1
    lines = [
        f"{num} {'query' if num == 1 else 'queries'}: intrinsics {source}"
        for source, num in sources.items()
    ]
    return QueryCameras(queries, lines)


def _of_map(header: ImageHeader, of_map: MapCameras, own: pycolmap.Camera) -> _Chosen | None:
    """Return the camera of the map that a photograph was taken with, if it can be told.

    ``own`` is the camera that it has without the map.
    """
    body = exif_body(header)
    cameras = of_map.of_body.get(body, []) if body is not None else []
    if len(cameras) == 1:
        return cameras[0], "known", "of the map, by EXIF data"
    if cameras:  # each photograph has its own: the one in the middle
        order = np.argsort([each.mean_focal_length() for each in cameras])
        middle = cameras[int(order[len(order) // 2])]
        return middle, "guessed", "of the map, by EXIF data, and refined"
    of_size = of_map.of_size.get(header.size, [])
    if len(of_size) != 1 or (of_map.of_body and body is not None):
        return None
    ratio = own.mean_focal_length() / of_size[0].mean_focal_length()
    if own.has_prior_focal_length and not 1 / _MOST_ZOOM < ratio < _MOST_ZOOM:
        return None
    return of_size[0], "guessed", "of the map, by the size, and refined"
