"""Data sets that are photographs with known poses: some are the map, the others the queries."""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.colmap.known_poses import model_from_poses
from featplug.io.text_files import number, read_lines
from featplug.io.text_tables import check_rotation
from featplug.localization.queries import Query
from pipelines.datasets.protocol import ModelDataset


class PosedImages(ModelDataset):
    """Photographs with known poses, without points."""

    @abstractmethod
    def map_names(self) -> list[str]:
        """List the images of the map."""

    @abstractmethod
    def query_names(self) -> list[str]:
        """List the queries."""

    @abstractmethod
    def camera(self, name: str) -> pycolmap.Camera:
        """Return the intrinsics of an image."""

    @abstractmethod
    def pose(self, name: str) -> np.ndarray | None:
        """Read ``cam_from_world`` 3×4 of an image, or None where its pose is not known.

        Raises:
            FileNotFoundError: its file does not exist.
            ValueError: its file is damaged.
        """

    def _poses(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        poses = {name: self.pose(name) for name in names}
        return {name: pose for name, pose in poses.items() if pose is not None}

    def reference_model(self) -> pycolmap.Reconstruction:
        """Return a model of the map's poses; images without one are left out."""
        poses = self._poses(self.map_names())
        if not poses:
            raise ValueError(f"No image of the map of {self.root} has a pose; get the set again.")
        return model_from_poses({name: self.camera(name) for name in poses}, poses)

    def queries(self) -> dict[str, list[Query]]:
        """Return the queries, of one condition."""
        return {"": [Query(name, self.camera(name)) for name in self.query_names()]}

    def truth(self) -> dict[str, np.ndarray] | None:
        """Return the true poses of the queries."""
        return self._poses(self.query_names())

    def submission_name(self, name: str) -> str:
        """Return the whole name: images of several sequences have the same base names."""
        return name


_FRAME = re.compile(r"(frame-\d+)\.(color\.(png|jpg)|pose\.txt|depth\.png)")


def color_frames(files: Iterable[str]) -> list[str]:
    """Return the names of the colour images of RGB-D frames, in their order.

    Args:
        files: names of files, such as ``frame-000000.color.png`` and ``frame-000000.pose.txt``. A
            frame with any of them is listed, so that a missing image is found.
    """
    found = [frame for file in files if (frame := _FRAME.fullmatch(file))]
    suffixes = Counter(frame[3] for frame in found if frame[3]) or {"png": 1}
    suffix = max(suffixes, key=lambda name: suffixes[name])
    return sorted({f"{frame[1]}.color.{suffix}" for frame in found})


def read_frame_pose(path: Path) -> np.ndarray | None:
    """Read the pose of an RGB-D frame: a 4×4 matrix in text, ``world_from_camera`` in metres.

    Returns:
        ``cam_from_world`` 3×4, or None for a frame whose pose was lost, which has ``-inf`` or NaN.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has no pose.
    """
    rows = []
    for at, line in read_lines(path, "pose file"):
        where = f"{path}, line {at}"
        rows.append([number(word, where, finite=False) for word in line.split()])
    if [len(row) for row in rows] != [4, 4, 4, 4]:
        raise ValueError(f"{path}: expected a matrix of 4×4 numbers; get the file again.")
    world_from_camera = np.array(rows)
    if not np.isfinite(world_from_camera).all():
        return None
    check_rotation(world_from_camera[:3, :3], str(path))
    # Rounding aside, a rotation; the nearest one.
    rotation = Rotation.from_matrix(world_from_camera[:3, :3]).as_matrix().T
    return np.column_stack([rotation, -rotation @ world_from_camera[:3, 3]])


def centred_camera(focal: float, size: tuple[int, int]) -> pycolmap.Camera:
    """Return a pinhole camera of a focal length in pixels, for images of (width, height)."""
    width, height = size
    params = [focal, width / 2, height / 2]
    return pycolmap.Camera(model="SIMPLE_PINHOLE", width=width, height=height, params=params)
