"""COLMAP models, reduced for the page: some points in 16 bits, and cameras."""

import base64
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

    def payload(self) -> dict[str, Any]:
        """Return the view as JSON stores it."""
        return {
            "points": _base64(self.points.astype("<i2")),
            "colours": _base64(self.colours),
            "reach": _REACH,
            "cameras": [[round(float(value), 4) for value in camera] for camera in self.cameras],
            "names": [printable(name) for name in self.names],
        }


def view_model(folder: Path, max_points: int = MAX_POINTS_OF_MODEL, seed: int = 0) -> ModelView:
    """Read a COLMAP model for the viewer.

    The frame is upright and looks forward as the cameras do on average; most points and cameras are
    within one unit of its origin.

    Args:
        folder: folder of the model.
        max_points: number of points to show, those that most images see.
        seed: seed of the selection among points that equally many images see.

    Raises:
        FileNotFoundError: the folder has no model.
        ValueError: the model is damaged, or has no images.
    """
    model = read_model(folder)
    poses = model_poses(model)
    if not poses:
        raise ValueError(f"The COLMAP model {folder} has no images with a pose.")
    cam_from_world = np.stack(list(poses.values()))
    centres = camera_centres(cam_from_world)
    points, colours, lengths = _points(model)
    axes = _view_axes(cam_from_world)
    middle, radius = _frame(points @ axes.T, centres @ axes.T)
    placed = (points @ axes.T - middle) / radius
    shown = np.flatnonzero((np.abs(placed) <= _REACH).all(axis=1))
    order = np.random.default_rng(seed).permutation(len(shown))
    shown = shown[order][np.argsort(-lengths[shown][order], kind="stable")][:max_points]
    names, intrinsics = list(poses), model_cameras(model)
    step = -(-len(names) // MAX_CAMERAS)
    half_sizes = [
        np.array([camera.width, camera.height]) / (2 * camera.mean_focal_length())
        for camera in (intrinsics[name] for name in names)
    ]
    cameras = np.column_stack(
        [
            (centres @ axes.T - middle) / radius,
            (cam_from_world[:, :, :3] @ axes.T).reshape(len(names), 9),
            half_sizes,
        ]
    )
    if not (np.isfinite(points).all() and np.isfinite(cameras).all()):
        raise ValueError(
            f"The COLMAP model {folder} has points or cameras with infinite or undefined numbers; "
            "make it again."
        )
    return ModelView(
        np.rint(placed[shown] / _REACH * 32767).astype(np.int16),
        colours[shown],
        cameras[::step],
        names[::step],
        len(points),
        len(names),
    )


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
