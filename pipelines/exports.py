"""Exports of a reconstruction to splats, radiance fields and multi-view stereo."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import pycolmap
import tyro

from featplug.colmap.cameras import CameraOptions
from featplug.colmap.model_tables import create_camera
from featplug.colmap.scene_exports import SceneKind, check_cameras, export_scene

logger = logging.getLogger(__name__)
EXPORTS: tuple[str, ...] = get_args(SceneKind)
"""Folders of exports in an output folder."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of exports."""

    export: Annotated[tuple[SceneKind, ...], tyro.conf.UseAppendAction] = ()
    """Also write the model and its photographs for nerfstudio, gsplat (and 3D Gaussian Splatting),
    or undistorted for COLMAP's multi-view stereo; may be given several times."""

    def check_exports(self, camera: CameraOptions) -> None:
        """Raise ValueError if the requested cameras cannot be exported."""
        if camera.model is None:
            return
        model = pycolmap.CameraModelId.__members__[camera.model]
        asked = create_camera(1, model, 1000.0, (1000, 1000))
        for kind in self.export:
            check_cameras(kind, [asked], f"--camera.model {camera.model}")


def write_exports(options: ExportOptions, image_dir: Path, outputs: Path, progress: bool) -> None:
    """Export the model of an output folder.

    Raises:
        ValueError: an export cannot be made. The model is there nevertheless.
    """
    for kind in dict.fromkeys(options.export):
        try:
            export_scene(kind, outputs, outputs / kind, image_dir, True, progress=progress)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{outputs} has the model, but it could not be exported to {kind}: "
                f"{str(error).rstrip('.')}. Then run `featplug export {kind} --model {outputs} "
                f"--output {outputs / kind}`."
            ) from error


def announce_lost_exports(outputs: Path, made: Collection[str]) -> None:
    """Log which exports of an earlier model a run removes, since it does not make them again."""
    for kind in EXPORTS:
        if kind not in made and (outputs / kind).is_dir():
            logger.warning(
                "%s is of the earlier model and is removed; --export %s makes it again.",
                outputs / kind,
                kind,
            )
