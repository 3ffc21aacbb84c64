"""Query lists and pose files of the long-term localization benchmark, as hloc reads them too.

A query list has a line ``name MODEL width height p0 p1 …`` for each query, with COLMAP's names of
camera models. A pose file has a line ``name qw qx qy qz tx ty tz``: rotation and translation from
world to camera (the translation is not the camera's centre).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.io.files import write_whole_text
from featplug.io.images import check_name
from featplug.metrics.poses import intrinsics


@dataclass(frozen=True)
class Query:
    """An image to localize."""

    name: str
    """Relative to the image folder."""
    camera: pycolmap.Camera
    """Intrinsics; the origin is the corner of the first pixel, as in COLMAP."""


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
        ValueError: a line is not a query, a query has two cameras, or the list is empty.
    """
    path = Path(path)
    lists = [path] if path.is_file() else sorted(path.parent.glob(path.name))
    if not lists:
        raise FileNotFoundError(f"There is no query list {path}.")
    queries: dict[str, Query] = {}
    for file in lists:
        for number, words in _lines(file):
            check_name(words[0])
            query = Query(words[0], _camera(file, number, words[1:]))
            known = queries.setdefault(query.name, query)
            if intrinsics(known.camera) != intrinsics(query.camera):
                raise ValueError(
                    f"Line {number} of {file} gives {query.name!r} another camera than before; "
                    "remove one of the two lines."
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
        check_name(query.name)
        camera = query.camera
        params = " ".join(map(repr, camera.params.tolist()))
        lines.append(f"{query.name} {camera.model.name} {camera.width} {camera.height} {params}\n")
    _write(path, lines)


def read_poses(path: Path) -> dict[str, np.ndarray]:
    """Read a pose file.

    Returns:
        Name in the file to ``cam_from_world``, 3×4 float64.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line is not a pose, a name appears twice, or the file is empty.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no pose file {path}.")
    values: dict[str, np.ndarray] = {}
    for number, words in _lines(path):
        try:
            pose = np.array(words[1:], dtype=np.float64)
        except ValueError:
            pose = np.zeros(0)
        if pose.shape != (7,) or not np.isfinite(pose).all() or not pose[:4].any():
            raise ValueError(
                f"Line {number} of {path} must be `name qw qx qy qz tx ty tz`, "
                f"not {' '.join(words)!r}."
            )
        if words[0] in values:
            raise ValueError(f"{path} has two poses of {words[0]!r}; remove one of the two lines.")
        values[words[0]] = pose
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
        check_base_names(written)
        written = [_base_name(name) for name in written]
    lines = []
    for name, pose in zip(written, poses.values(), strict=True):
        # Of the two quaternions of a rotation, the one with qw >= 0.
        qx, qy, qz, qw = Rotation.from_matrix(pose[:, :3]).as_quat(canonical=True)
        numbers = " ".join(repr(float(value)) for value in (qw, qx, qy, qz, *pose[:, 3]))
        lines.append(f"{name} {numbers}\n")
    _write(path, lines)


def check_base_names(names: Sequence[str]) -> None:
    """Raise ValueError if two images have the same base name: a submission has no folders."""
    (name, count), *_ = Counter(map(_base_name, names)).most_common(1) or [("", 0)]
    if count > 1:
        first, second = [full for full in names if _base_name(full) == name][:2]
        raise ValueError(
            f"{first!r} and {second!r} have the same base name, and a submission has no other; "
            "rename one of the two images."
        )


def _base_name(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _lines(path: Path) -> Iterable[tuple[int, list[str]]]:
    """Yield number and words of each line that is not empty or a comment."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        words = line.split()
        if words and not words[0].startswith("#"):
            yield number, words


def _camera(path: Path, number: int, words: Sequence[str]) -> pycolmap.Camera:
    """Read ``MODEL width height p0 p1 …``."""
    line = f"Line {number} of {path}"
    if len(words) < 4 or words[0] not in pycolmap.CameraModelId.__members__:
        raise ValueError(
            f"{line} must be `name MODEL width height p0 p1 …` with a camera model of COLMAP's, "
            f"not {' '.join(words)!r} after the name."
        )
    try:
        camera = pycolmap.Camera(
            model=words[0],
            width=int(words[1]),
            height=int(words[2]),
            params=[float(word) for word in words[3:]],
        )
    except ValueError as error:
        raise ValueError(f"{line} has no camera: {error}.") from error
    if camera.width < 1 or camera.height < 1:
        raise ValueError(f"{line} gives an image of {camera.width}×{camera.height} pixels.")
    if not camera.verify_params():
        raise ValueError(
            f"{line} gives {len(words) - 3} camera parameters; the model {words[0]} has "
            f"{camera.params_info}."
        )
    return camera


def _write(path: Path, lines: Sequence[str]) -> None:
    write_whole_text(Path(path), "".join(lines))
