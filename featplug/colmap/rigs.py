"""Rigs: cameras that are fixed to each other, by COLMAP's ``rig_config.json``.

Images whose names begin with a camera's ``image_prefix`` are of that camera, and those whose names
are equal after it were taken at one time, a frame. The format is COLMAP's (its file rig.h).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pycolmap

from featplug.colmap.database_rows import open_database
from featplug.colmap.model_tables import check_camera_values
from featplug.io.names import natural_key
from featplug.io.text_files import check_quaternion
from featplug.io.typed_json import ADDED, as_type, read_json_list
from featplug.utils.errors import first_line


@dataclass(frozen=True)
class RigCamera:
    """A camera of a rig, as the file has it."""

    image_prefix: str
    """Beginning of the names of its images."""
    ref_sensor: bool = field(default=False, metadata=ADDED)
    """Whether it is the camera whose pose is that of the rig."""
    cam_from_rig_rotation: list[float] | None = field(default=None, metadata=ADDED)
    """Quaternion w, x, y, z."""
    cam_from_rig_translation: list[float] | None = field(default=None, metadata=ADDED)
    camera_model_name: str | None = field(default=None, metadata=ADDED)
    camera_params: list[float] | None = field(default=None, metadata=ADDED)

    @property
    def has_pose(self) -> bool:
        """Whether its pose in the rig is known."""
        return self.ref_sensor or self.cam_from_rig_rotation is not None

    def intrinsics(self, size: tuple[int, int]) -> pycolmap.Camera | None:
        """Return the camera of images of a size, or None if the file has no intrinsics."""
        if self.camera_model_name is None or self.camera_params is None:
            return None
        model = pycolmap.CameraModelId.__members__[self.camera_model_name]
        width, height = size
        return pycolmap.Camera(model=model, width=width, height=height, params=self.camera_params)


@dataclass(frozen=True)
class _Rig:
    cameras: list[RigCamera]


@dataclass(frozen=True)
class Rigs:
    """The rigs of a file."""

    path: Path
    rigs: list[list[RigCamera]]
    """Cameras of each rig."""

    @property
    def has_poses(self) -> bool:
        """Whether the poses of all cameras in their rigs are known."""
        return all(camera.has_pose for rig in self.rigs for camera in rig)

    def cameras_of(self, names: Sequence[str]) -> dict[str, RigCamera]:
        """Return the camera of each image that a rig has.

        Raises:
            ValueError: an image is of two cameras, a camera has no image, or no two cameras of a
                rig have images of one name.
        """
        cameras = [camera for rig in self.rigs for camera in rig]
        of_images: dict[str, RigCamera] = {}
        for name in names:
            fitting = [camera for camera in cameras if name.startswith(camera.image_prefix)]
            if len(fitting) > 1:
                prefixes = " and ".join(repr(camera.image_prefix) for camera in fitting)
                raise ValueError(
                    f"{self.path}: {name!r} begins with the prefixes {prefixes} of two cameras; "
                    "end them with '/', or change them."
                )
            if fitting:
                of_images[name] = fitting[0]
        used = {camera.image_prefix for camera in of_images.values()}
        for camera in cameras:
            if camera.image_prefix not in used:
                raise ValueError(
                    f"{self.path}: no image begins with {camera.image_prefix!r}, they are like "
                    f"{next(iter(names), 'none')!r}; correct the prefix, or remove the camera."
                )
        if not any(len(frame) > 1 for frame in self._frames(of_images).values()):
            raise ValueError(
                f"{self.path}: no two cameras of a rig have images of one name, such as "
                f"{cameras[0].image_prefix}0001.jpg and {cameras[-1].image_prefix}0001.jpg; rename "
                "the images so that those taken at one time have one name."
            )
        return of_images

    def sequences(self, names: Sequence[str]) -> list[list[list[str]]]:
        """Return the sequences of frames, in natural order, of the images that are in rigs."""
        frames = self._frames(self.cameras_of(names))
        of_rigs: dict[tuple[int, str], list[tuple[str, list[str]]]] = {}
        for (rig, frame), images in frames.items():
            of_rigs.setdefault((rig, frame.rpartition("/")[0]), []).append((frame, images))
        return [
            [images for _, images in sorted(each, key=lambda frame: natural_key(frame[0]))]
            for each in of_rigs.values()
        ]

    def _frames(self, of_images: dict[str, RigCamera]) -> dict[tuple[int, str], list[str]]:
        """Return the images of each frame, by number of the rig and name after the prefix."""
        rig_of = {c.image_prefix: number for number, rig in enumerate(self.rigs) for c in rig}
        frames: dict[tuple[int, str], list[str]] = {}
        for name, camera in of_images.items():
            prefix = camera.image_prefix
            frames.setdefault((rig_of[prefix], name.removeprefix(prefix)), []).append(name)
        return frames


def read_rigs(path: Path) -> Rigs:
    """Read a ``rig_config.json`` of COLMAP's.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is no such file, or contradicts itself; the message names the camera.
    """
    path = Path(path)
    rigs = as_type(read_json_list(path), list[_Rig], path)
    prefixes: set[str] = set()
    for rig in rigs:
        num_references = sum(camera.ref_sensor for camera in rig.cameras)
        if num_references != 1:
            raise ValueError(
                f"{path}: a rig has {num_references} cameras with ref_sensor, expected one; set it "
                "at the camera whose pose is that of the rig."
            )
        for camera in rig.cameras:
            _check(camera, f"{path}: camera {camera.image_prefix!r}")
            if camera.image_prefix in prefixes:
                raise ValueError(
                    f"{path}: two cameras have the prefix {camera.image_prefix!r}; remove one."
                )
            prefixes.add(camera.image_prefix)
    if not rigs:
        raise ValueError(f"{path} has no rig; add one.")
    return Rigs(path, [rig.cameras for rig in rigs])


def _check(camera: RigCamera, where: str) -> None:
    rotation, translation = camera.cam_from_rig_rotation, camera.cam_from_rig_translation
    if (rotation is None) != (translation is None):
        raise ValueError(
            f"{where} has a cam_from_rig_rotation without cam_from_rig_translation, or the "
            "reverse; give both or none."
        )
    if rotation is not None and translation is not None:
        if camera.ref_sensor:
            raise ValueError(f"{where} has ref_sensor and cam_from_rig; remove one of the two.")
        if (len(rotation), len(translation)) != (4, 3):
            raise ValueError(
                f"{where}: expected a rotation w, x, y, z and a translation x, y, z, got "
                f"{len(rotation)} and {len(translation)} numbers; correct it."
            )
        check_quaternion(rotation, where)
    name, params = camera.camera_model_name, camera.camera_params
    if (name is None) != (params is None):
        raise ValueError(
            f"{where} has camera_params without camera_model_name, or the reverse; give both or "
            "none."
        )
    if name is not None:
        if name not in set(pycolmap.CameraModelId.__members__) - {"INVALID"}:
            raise ValueError(f"{where}: COLMAP has no camera model {name!r}; correct it.")
        model = pycolmap.CameraModelId.__members__[name]
        if problem := check_camera_values(int(model), (1, 1), np.array(params)):
            raise ValueError(f"{where} {problem}; correct it.")


def apply_rigs(
    database_path: Path, rigs: Rigs, model: pycolmap.Reconstruction | None = None
) -> list[str]:
    """Write the rigs and frames of a database's images, in place of earlier ones.

    Args:
        database_path: a database whose images have one camera for each of the rigs'.
        rigs: the rigs.
        model: a model of the images, which gives the poses in the rigs that are not known; its own
            rigs and frames are replaced.

    Returns:
        Prefixes of the cameras whose poses are still not known.

    Raises:
        ValueError: the images do not fit the rigs, or the disk is full.
    """
    configs = pycolmap.read_rig_config(str(rigs.path))
    for config in configs:
        for camera in config.cameras:
            camera.camera = None  # the database has it
            if camera.cam_from_rig is not None:
                camera.cam_from_rig.rotation.normalize()
    with open_database(database_path) as database:
        images = {image.name: image.camera_id for image in database.read_all_images()}
        prefixes = {images[name]: c.image_prefix for name, c in rigs.cameras_of([*images]).items()}
        try:
            pycolmap.apply_rig_config(configs, database, cast(Any, model))
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{rigs.path} does not fit: {first_line(error)}.") from error
        return [
            prefixes[sensor.id]
            for rig in database.read_all_rigs()
            for sensor, pose in rig.non_ref_sensors.items()
            if pose is None
        ]


def remove_rigs(database_path: Path) -> None:
    """Let each image of a database be a frame of its own."""
    with open_database(database_path) as database:
        pycolmap.apply_rig_config([], database)
