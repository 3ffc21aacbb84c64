"""COLMAP models, reduced for the page: some points in 16 bits, and cameras."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from featplug.colmap.model_files import read_model
from featplug.io.typed_json import printable
from featplug.metrics.poses import camera_centres, model_cameras, model_poses
from featplug.plots import ground_axes

MAX_POINTS = 100_000
"""Largest number for all models on a page."""
MAX_POINTS_OF_MODEL = 15_000
MAX_CAMERAS = 400
_REACH = 1.5
"""Half the side of the shown box, in radii of the scene; points outside are left out."""


@dataclass(frozen=True)
class PlacedCamera:
    """A camera to draw."""

    cam_from_world: np.ndarray
    """Pose, 3×4."""
    half_size: np.ndarray
    """Half of the image's width and height, over the focal length."""


def placed_camera(camera: pycolmap.Camera, cam_from_world: np.ndarray) -> PlacedCamera:
    """Return a camera with its pose; panoramas, which have no focal length, get a square."""
    focal = camera.mean_focal_length() if len(camera.focal_length_idxs()) else 0.0
    size = np.array([camera.width, camera.height], float)
    half_size = size / (2 * focal) if focal > 0 else np.full(2, 0.5)
    return PlacedCamera(cam_from_world, half_size)


@dataclass(frozen=True)
class ModelView:
    """Points and cameras of a model of radius one, where x points right, y down and z forward."""

    points: np.ndarray
    """N×3 int16, in 32767ths of the reach."""
    colours: np.ndarray
    """N×3 uint8."""
    cameras: np.ndarray
    """M×14: centre, the rows of ``cam_from_view``, half of the width and height at depth one."""
    names: list[str]
    """Names of the M images."""
    num_points: int
    """Number of points of the model, including those that are not shown."""
    num_cameras: int
    queries: np.ndarray
    """Cameras of localized queries, which have a colour of their own, Q×14."""

    def payload(self) -> dict[str, Any]:
        """Return the view as JSON stores it."""
        return {
            "points": _base64(self.points.astype("<i2")),
            "colours": _base64(self.colours),
            "reach": _REACH,
            "cameras": _rounded(self.cameras),
            "queries": _rounded(self.queries),
            "names": [printable(name) for name in self.names],
        }


def view_model(
    folder: Path,
    max_points: int = MAX_POINTS_OF_MODEL,
    seed: int = 0,
    queries: Mapping[str, PlacedCamera] | None = None,
) -> ModelView:
    """Read a COLMAP model, which may have the queries, too, for the viewer.

    See :func:`view_scene`.

    Raises:
        FileNotFoundError: the folder has no model.
        ValueError: the model is damaged, or has no images.
    """
    model = read_model(folder)
    intrinsics = model_cameras(model)
    queries = queries or {}
    cameras = {
        name: placed_camera(intrinsics[name], pose)
        for name, pose in model_poses(model).items()
        if name not in queries
    }
    try:
        return view_scene(cameras, queries, _points(model), max_points, seed)
    except ValueError as error:
        raise ValueError(f"The COLMAP model {folder} {error}; make it again.") from error


def view_scene(
    cameras: Mapping[str, PlacedCamera],
    queries: Mapping[str, PlacedCamera] | None = None,
    points: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    max_points: int = MAX_POINTS_OF_MODEL,
    seed: int = 0,
) -> ModelView:
    """Return cameras and points for the viewer.

    The frame is upright and looks forward as the cameras do on average; most points and cameras are
    within one unit of its origin.

    Args:
        cameras: image name to its camera.
        queries: cameras of another colour, which do not change the frame, by name.
        points: coordinates N×3, colours N×3, and the number of images that see each point.
        max_points: number of points to show, those that most images see.
        seed: seed of the selection among points that equally many images see.

    Raises:
        ValueError: there are no cameras, or a number is infinite or undefined; the message is the
            rest of a sentence.
    """
    if not cameras:
        raise ValueError("has no images with a pose")
    poses = np.stack([camera.cam_from_world for camera in cameras.values()])
    xyz, colours, lengths = points or (np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0))
    centres, axes = camera_centres(poses), _view_axes(poses)
    middle, radius = _frame(xyz @ axes.T, centres @ axes.T)
    placed = (xyz @ axes.T - middle) / radius
    shown = np.flatnonzero((np.abs(placed) <= _REACH).all(axis=1))
    order = np.random.default_rng(seed).permutation(len(shown))
    shown = shown[order][np.argsort(-lengths[shown][order], kind="stable")][:max_points]
    step = -(-len(cameras) // MAX_CAMERAS)
    drawn = _drawn_cameras(list(cameras.values()), axes, middle, radius)
    of_queries = _drawn_cameras(list((queries or {}).values()), axes, middle, radius)
    if not all(np.isfinite(values).all() for values in (xyz, drawn, of_queries)):
        raise ValueError("has points or cameras with infinite or undefined numbers")
    return ModelView(
        np.rint(placed[shown] / _REACH * 32767).astype(np.int16),
        colours[shown],
        drawn[::step],
        list(cameras)[::step],
        len(xyz),
        len(cameras),
        of_queries,
    )


def _drawn_cameras(
    cameras: Sequence[PlacedCamera], axes: np.ndarray, middle: np.ndarray, radius: float
) -> np.ndarray:
    """Return cameras in the frame of the view, M×14; see :class:`ModelView`."""
    poses = np.array([camera.cam_from_world for camera in cameras]).reshape(-1, 3, 4)
    half_sizes = np.array([camera.half_size for camera in cameras]).reshape(-1, 2)
    centres = (camera_centres(poses) @ axes.T - middle) / radius
    rotations = (poses[:, :, :3] @ axes.T).reshape(len(poses), 9)
    return np.column_stack([centres, rotations, half_sizes])


def _points(model: pycolmap.Reconstruction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = list(model.points3D.values())
    xyz = np.array([point.xyz for point in points], np.float64).reshape(-1, 3)
    colours = np.array([point.color for point in points], np.uint8).reshape(-1, 3)
    return xyz, colours, np.array([point.track.length() for point in points], np.int64)


def _view_axes(cam_from_world: np.ndarray) -> np.ndarray:
    """Return right, down and forward, 3×3, upright and forward as the cameras on average."""
    right, forward = ground_axes(cam_from_world)
    down = np.cross(forward, right)
    looking = cam_from_world[:, 2, :3].mean(0)
    flat = np.array([right @ looking, forward @ looking])
    if np.linalg.norm(flat) > 0.1:  # cameras all around an object have no common direction
        x, z = flat / np.linalg.norm(flat)
        right, forward = z * right - x * forward, x * right + z * forward
    return np.stack([right, down, forward])


def _frame(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the middle and the radius of most points and cameras, without outliers."""
    bounds = [np.quantile(xyz, (0.03, 0.97), axis=0) for xyz in (points, centres) if len(xyz)]
    low, high = np.min(bounds, axis=(0, 1)), np.max(bounds, axis=(0, 1))
    return (low + high) / 2, float(np.linalg.norm(high - low)) / 2 or 1.0


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _rounded(cameras: np.ndarray) -> list[list[float]]:
    return [[round(float(value), 4) for value in camera] for camera in cameras]
