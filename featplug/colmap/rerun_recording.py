"""A COLMAP model as a recording of Rerun, ``.rrd``, for models that a page cannot hold.

All points, and all cameras as pinholes, are always shown. The timeline ``image`` goes through the
images in the order of their names: ``world/image`` is the camera of the moment with its photograph,
so that the viewer has one photograph at a time. Rerun has pinholes only, so photographs of other
cameras are undistorted. Its pixels have (0, 0) at the corner of the first one, as COLMAP's do.

The format: https://rerun.io/docs/reference/types.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pycolmap

from featplug.colmap.model_files import read_model
from featplug.colmap.scene_exports import scene_folders
from featplug.io.files import write_whole
from featplug.io.images import MAX_MEGAPIXELS, read_image
from featplug.io.names import natural_key
from featplug.metrics.poses import align_centres, camera_centres, model_poses
from featplug.utils.errors import first_line
from featplug.utils.progress import progress_bar

if TYPE_CHECKING:
    import rerun

_POINTS_OF_BLOCK = 200_000
_IMAGES_OF_BLOCK = 64
"""Number of photographs after which everything is written to the file."""
_JPEG_QUALITY = 85
_FRUSTUM = 0.03
"""Depth of a camera's pyramid, relative to the extent of the scene."""
_FARTHEST = 1e4
"""Distance from the origin, in extents of the scene, beyond which float32 is too coarse."""
_ESTIMATED, _TRUE = (70, 130, 220), (60, 180, 110)


@dataclass(frozen=True)
class RecordingOptions:
    """A model to record."""

    model: Path
    """Output folder of `featplug sfm`, or folder of a COLMAP model."""
    output: Path
    """File to write, such as model.rrd."""
    image_dir: Path | None = None
    """Folder of the photographs; by default the folder images next to the model. Without one, the
    recording has no photographs."""
    resize_max: int = 1024
    """Longest side in pixels of the photographs in the recording; larger ones are reduced."""
    overwrite: bool = False
    """Replace a file that exists."""
    max_megapixels: float = MAX_MEGAPIXELS
    """Limit of decoding images."""

    def __post_init__(self) -> None:
        if self.resize_max < 1:
            raise ValueError(f"--resize-max must be 1 or more, not {self.resize_max}.")


@dataclass
class Recording:
    """A recorded model."""

    path: Path
    num_images: int = 0
    """Number of cameras."""
    num_photographs: int = 0
    num_points: int = 0
    num_true_poses: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Photographs that could not be recorded, and why."""


def export_recording(
    options: RecordingOptions,
    true_poses: Mapping[str, np.ndarray] | None = None,
    progress: bool = False,
) -> Recording:
    """Write a model, its photographs and true poses for Rerun's viewer.

    Args:
        options: the model and the file.
        true_poses: image name to ``cam_from_world``, 3×4, in any similarity frame; they are aligned
            to the model.
        progress: show a bar.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: rerun-sdk is not installed, the file exists, or the model is damaged or has no
            images; or the true poses cannot be aligned.
    """
    _import_rerun()
    output = Path(options.output)
    if output.suffix != ".rrd":
        raise ValueError(f"{output}: Rerun opens files that end with .rrd; rename --output.")
    if output.exists() and not options.overwrite:
        raise ValueError(f"{output} exists; choose another --output, or replace it by --overwrite.")
    folder, found = scene_folders(Path(options.model))
    image_dir = found if options.image_dir is None else Path(options.image_dir)
    if image_dir is not None and not image_dir.is_dir():
        raise FileNotFoundError(f"There is no folder {image_dir}; correct --image-dir.")
    model = read_model(folder)
    if not model.num_reg_images():
        raise ValueError(f"The COLMAP model {folder} has no images with a pose; make it again.")
    done = Recording(output)

    def write(part: Path) -> None:
        with _Recorder(part, output.stem, model) as recorder:
            done.num_points = recorder.add_points()
            done.num_images = recorder.add_cameras()
            done.num_true_poses = recorder.add_true_poses(true_poses or {})
            if image_dir is not None:
                added = recorder.add_photographs(image_dir, options, progress, done.skipped)
                done.num_photographs = added

    write_whole(output, write, _check)
    return done


def _import_rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise ValueError(
            f"A recording needs rerun-sdk ({first_line(error)}); run `pip install featplug[rerun]`."
        ) from error
    return rerun


def _check(path: Path) -> None:
    """Check that a recording is whole; Rerun's own writing does not report a full disk."""
    from rerun.chunk import RrdReader

    try:
        entries = RrdReader(path).recordings()
    except Exception as error:  # of Rerun's own, and others of its parts
        raise ValueError(f"{path} cannot be read back ({first_line(error)}).") from error
    if not entries:
        raise ValueError(f"{path} has no recording.")


class _Recorder:
    """A file that parts of a model are written to."""

    def __init__(self, path: Path, title: str, model: pycolmap.Reconstruction) -> None:
        self._model = model
        self._rr = _import_rerun()
        self._names = sorted(model_poses(model), key=natural_key)
        self._poses = model_poses(model)
        self._images = {image.name: image for image in model.images.values()}
        self._pinholes = {
            camera_id: _pinhole_camera(camera) for camera_id, camera in model.cameras.items()
        }
        centres = camera_centres(np.stack(list(self._poses.values())))
        self._extent = _extent(model, centres)
        middle = np.median(centres, axis=0)
        is_far = np.abs(middle).max() > _FARTHEST * self._extent
        self._offset = np.round(middle) if is_far else np.zeros(3)
        """Point of the model that is the origin of the recording, whose numbers are float32."""
        self._stream: rerun.RecordingStream = self._rr.RecordingStream(f"featplug: {title}")
        self._stream.set_log_time_enabled(False)
        self._stream.save(path, default_blueprint=self._blueprint())

    def __enter__(self) -> "_Recorder":
        self._log("world", self._rr.ViewCoordinates.RIGHT_HAND_Y_DOWN)
        if self._offset.any():
            text = ", ".join(f"{number:.0f}" for number in self._offset)
            note = f"Origin of the recording in the model: {text}"
            self._log("offset", self._rr.TextDocument(note))
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()
        self._stream.disconnect()

    def add_points(self) -> int:
        """Add all points with their colours; return their number."""
        points, number = iter(self._model.points3D.values()), 0
        while block := list(islice(points, _POINTS_OF_BLOCK)):
            positions = np.array([point.xyz for point in block]) - self._offset
            colours = np.array([point.color for point in block], np.uint8)
            radius = self._rr.Radius.ui_points(1.5)
            drawn = self._rr.Points3D(positions, colors=colours, radii=radius)
            self._log(f"world/points/{number}", drawn)
            self._stream.flush()
            number += 1
        return len(self._model.points3D)

    def add_cameras(self) -> int:
        """Add all cameras; return their number."""
        for name in self._names:
            path = self._path("world", "cameras", name)
            self._log(path, *self._camera(self._poses[name], self._pinhole(name), _ESTIMATED))
        return len(self._names)

    def add_true_poses(self, poses: Mapping[str, np.ndarray]) -> int:
        """Add true poses, aligned to the model, and lines to them; return their number.

        Raises:
            ValueError: they cannot be aligned.
        """
        if not poses:
            return 0
        names, similarity = align_centres(self._poses, poses)
        placed = {}
        for name, pose in poses.items():
            centre = similarity.inverse().apply(camera_centres(pose)[None])[0]
            rotation = pose[:, :3] @ similarity.rotation
            placed[name] = np.column_stack([rotation, -rotation @ centre])
            pinhole = self._pinhole(name) if name in self._images else None
            path = self._path("world", "true_poses", name)
            self._log(path, *self._camera(placed[name], pinhole, _TRUE))
        ends = np.stack([np.stack([self._poses[name], placed[name]]) for name in names])
        lines = self._rr.LineStrips3D(camera_centres(ends) - self._offset, colors=_TRUE)
        self._log("world/position_errors", lines)
        truth = camera_centres(np.stack(list(placed.values()))) - self._offset
        radius = self._rr.Radius.ui_points(3.0)
        self._log("world/true_positions", self._rr.Points3D(truth, colors=_TRUE, radii=radius))
        return len(placed)

    def add_photographs(
        self,
        image_dir: Path,
        options: RecordingOptions,
        progress: bool,
        skipped: dict[str, str],
    ) -> int:
        """Add the photographs on the timeline; return their number.

        Args:
            image_dir: folder of the photographs.
            options: limits of their sizes.
            progress: show a bar.
            skipped: gets the reason for each that cannot be read or has another size.
        """
        bar = progress_bar(self._names, "record", len(self._names), "image", progress)
        number = 0
        for name in bar:
            camera = self._images[name].camera
            try:
                pixels, pinhole = _photograph(image_dir / name, camera, options)
            except (OSError, ValueError) as error:
                skipped[name] = first_line(error)
                continue
            self._stream.set_time("image", sequence=number)
            for part in self._camera(self._poses[name], pinhole, _ESTIMATED):
                self._stream.log("world/image", part)
            jpeg = self._rr.Image(pixels).compress(jpeg_quality=_JPEG_QUALITY)
            self._stream.log("world/image", jpeg)
            self._stream.log("name", self._rr.TextDocument(name))
            number += 1
            if number % _IMAGES_OF_BLOCK == 0:
                self._stream.flush()
        return number

    def _path(self, *parts: str) -> str:
        return self._rr.new_entity_path(list(parts))

    def _log(self, path: str, *parts: Any) -> None:
        for part in parts:
            self._stream.log(path, part, static=True)

    def _pinhole(self, name: str) -> pycolmap.Camera | None:
        return self._pinholes[self._images[name].camera_id]

    def _camera(
        self,
        cam_from_world: np.ndarray,
        pinhole: pycolmap.Camera | None,
        colour: tuple[int, int, int],
    ) -> Iterator[Any]:
        """Yield the pose of a camera, and its intrinsics where it is a pinhole."""
        centre = camera_centres(cam_from_world) - self._offset
        yield self._rr.Transform3D(translation=centre, mat3x3=cam_from_world[:, :3].T)
        if pinhole is not None:
            yield self._rr.Pinhole(
                image_from_camera=pinhole.calibration_matrix(),
                resolution=[pinhole.width, pinhole.height],
                camera_xyz=self._rr.ViewCoordinates.RDF,
                image_plane_distance=_FRUSTUM * self._extent,
                color=colour,
            )

    def _blueprint(self) -> Any:
        """Return the layout of the viewer: the model, and the photograph of the moment."""
        from rerun import blueprint as rrb

        photograph = rrb.Vertical(
            rrb.Spatial2DView(origin="world/image", name="photograph"),
            rrb.TextDocumentView(origin="name", name="name"),
            row_shares=[6, 1],
        )
        model = rrb.Spatial3DView(origin="world", name="model")
        return rrb.Blueprint(rrb.Horizontal(model, photograph, column_shares=[3, 2]))


def _pinhole_camera(camera: pycolmap.Camera) -> pycolmap.Camera | None:
    """Return the pinhole that a camera's undistorted images have; None for panoramas."""
    try:
        return pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
    except (ValueError, RuntimeError):
        return None


def _extent(model: pycolmap.Reconstruction, centres: np.ndarray) -> float:
    """Return the diagonal of a box around most points and cameras."""
    step = max(1, model.num_points3D() // _POINTS_OF_BLOCK)
    points = [p.xyz for number, p in enumerate(model.points3D.values()) if number % step == 0]
    low, high = np.quantile(np.array([*points, *centres]), (0.03, 0.97), axis=0)
    return float(np.linalg.norm(high - low)) or 1.0


def _photograph(
    path: Path, camera: pycolmap.Camera, options: RecordingOptions
) -> tuple[np.ndarray, pycolmap.Camera]:
    """Read a photograph, reduced and undistorted, and its pinhole.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it cannot be read, has another size than its camera, or is a panorama.
    """
    pixels = read_image(path, max_megapixels=options.max_megapixels)
    size = pixels.shape[1], pixels.shape[0]
    if size != (camera.width, camera.height):
        raise ValueError(
            f"{path} has {size[0]}×{size[1]} pixels, its camera in the model {camera.width}×"
            f"{camera.height}; name the folder of the photographs that the model was made of by "
            "--image-dir."
        )
    scale = min(1.0, options.resize_max / max(size))
    reduced = copy.copy(camera)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in size)
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        reduced.rescale(width, height)
    if _pinhole_camera(reduced) is None:
        raise ValueError(
            f"{path} is of a camera of the model {camera.model.name}, and Rerun has pinholes only; "
            "cut it into perspective views to see it in a recording."
        )
    undistorting = pycolmap.UndistortCameraOptions()
    undistorting.max_image_size = options.resize_max  # undistorted images may be larger
    bitmap, pinhole = pycolmap.undistort_image(
        undistorting, pycolmap.Bitmap.from_array(pixels), reduced
    )
    return bitmap.to_array(), pinhole
