"""Query lists and pose files of the long-term localization benchmark, as hloc reads them too.

A query list has a line ``name MODEL width height p0 p1 …`` for each query, with COLMAP's names of
camera models. A pose file has a line ``name qw qx qy qz tx ty tz``: rotation and translation from
world to camera (the translation is not the camera's centre).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.colmap.camera_lines import camera_from_words
from featplug.io.files import write_whole_text
from featplug.io.names import checked_name
from featplug.io.text_files import (
    check_quaternion,
    matching_files,
    numbers,
    read_lines,
)
from featplug.localization.absolute_pose import FocalLength
from featplug.metrics.poses import intrinsics


@dataclass(frozen=True)
class Query:
    """An image to localize."""

    name: str
    """Relative to the image folder."""
    camera: pycolmap.Camera
    """Intrinsics; the origin is the corner of the first pixel, as in COLMAP."""
    focal_length: FocalLength = "known"
    """Whether the camera's focal length is known, or fitted with the pose."""


def camera_log(camera: pycolmap.Camera) -> dict[str, Any]:
    """Return a camera as values of JSON."""
    return {
        "model": camera.model.name,
        "width": camera.width,
        "height": camera.height,
        "params": camera.params.tolist(),
    }


def read_queries(path: Path) -> list[Query]:
    """Read a query list, or all that a glob such as ``queries/*_with_intrinsics.txt`` matches.

    A repeated line counts once.

    Raises:
        FileNotFoundError: no list exists.
        ValueError: a list is not text, a line is not a query, a query has two cameras, or there is
            no query.
    """
    queries: dict[str, Query] = {}
    for file in matching_files(path, "query list"):
        for number, line in read_lines(file, "query list"):
            where = f"{file}, line {number}"
            name, *words = line.split()
            query = Query(checked_name(name, where), camera_from_words(words, where))
            known = queries.setdefault(query.name, query)
            if intrinsics(known.camera) != intrinsics(query.camera):
                raise ValueError(
                    f"{where}: {query.name!r} has another camera than before; remove one of the "
                    "two lines."
                )
    if not queries:
        raise ValueError(f"The query list {path} is empty.")
    return list(queries.values())


def write_queries(path: Path, queries: Iterable[Query]) -> None:
    """Write a query list.

    Raises:
        ValueError: a name has white space or leaves the image folder.
    """
    lines = []
    for query in queries:
        name, camera = checked_name(query.name), query.camera
        params = " ".join(map(repr, camera.params.tolist()))
        lines.append(f"{name} {camera.model.name} {camera.width} {camera.height} {params}\n")
    _write(path, lines)


def read_poses(path: Path) -> dict[str, np.ndarray]:
    """Read a pose file.

    Returns:
        Name in the file to ``cam_from_world``, 3×4 float64.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line is not a pose, a name appears twice, or the file is empty.
    """
    values: dict[str, list[float]] = {}
    for number, line in read_lines(path, "pose file"):
        where = f"{path}, line {number}"
        word, *words = line.split()
        name = checked_name(word, where)
        pose = numbers(words, where, "numbers qw qx qy qz tx ty tz after the name", count=7)
        check_quaternion(pose[:4], where)
        if name in values:
            raise ValueError(f"{where}: a second pose of {name!r}; remove one of the two lines.")
        values[name] = pose
    if not values:
        raise ValueError(f"The pose file {path} is empty.")
    stacked = np.stack(list(values.values()))
    rotations = Rotation.from_quat(stacked[:, [1, 2, 3, 0]]).as_matrix()  # SciPy's qw is last
    poses = np.concatenate([rotations, stacked[:, 4:, None]], axis=2)
    return dict(zip(values, poses, strict=True))


def write_poses(
    path: Path, poses: Mapping[str, np.ndarray], names: Literal["basename", "full"] = "basename"
) -> None:
    """Write a pose file, such as a submission to visuallocalization.net.

    Args:
        path: the file.
        poses: image name to ``cam_from_world``, 3×4.
        names: ``basename`` without folders, as in submissions for Aachen and InLoc, or ``full``.

    Raises:
        ValueError: two images have the same base name, which the benchmark cannot distinguish.
    """
    written = list(poses)
    if names == "basename":
        check_submission_names(written)
        written = [base_name(name) for name in written]
    lines = []
    for name, pose in zip(written, poses.values(), strict=True):
        numbers = " ".join(repr(float(value)) for value in (*quaternion(pose), *pose[:, 3]))
        lines.append(f"{name} {numbers}\n")
    _write(path, lines)


def quaternion(pose: np.ndarray) -> tuple[float, float, float, float]:
    """Return qw, qx, qy, qz of a pose 3×4; of the two quaternions, the one with qw >= 0."""
    qx, qy, qz, qw = Rotation.from_matrix(pose[:, :3]).as_quat(canonical=True).tolist()
    return qw, qx, qy, qz


def base_name(name: str) -> str:
    """Return an image's name without folders."""
    return name.rpartition("/")[2]


def check_submission_names(names: Sequence[str], name_of: Callable[[str], str] = base_name) -> None:
    """Check that a submission can distinguish the images.

    Args:
        names: names of the images.
        name_of: returns the name that an image has in the submission.

    Raises:
        ValueError: two images have the same name in it.
    """
    (name, count), *_ = Counter(map(name_of, names)).most_common(1) or [("", 0)]
    if count > 1:
        first, second = [full for full in names if name_of(full) == name][:2]
        raise ValueError(
            f"{first!r} and {second!r} are both {name!r} in a submission; rename one of the two "
            "images."
        )


def _write(path: Path, lines: Sequence[str]) -> None:
    write_whole_text(Path(path), "".join(lines))
