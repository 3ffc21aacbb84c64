"""COLMAP's camera models and how cameras are made from images."""

from dataclasses import dataclass
from typing import Literal

import pycolmap

from featplug.colmap.model_tables import sample_camera


@dataclass(frozen=True)
class CameraOptions:
    """How COLMAP cameras are made from images; focal lengths start from EXIF where it exists."""

    mode: Literal["auto", "single", "per-folder", "per-image"] = "auto"
    """Which images share a camera; auto: neighbours in the list with the same EXIF data."""
    model: str = "SIMPLE_RADIAL"
    """COLMAP camera model."""
    params: str | None = None
    """Known intrinsics, comma-separated as COLMAP's model orders them; kept fixed."""


def check_camera(camera: CameraOptions) -> None:
    """Check that COLMAP can use camera options.

    Raises:
        ValueError: there is no such camera model, or it has another number of parameters.
    """
    models = sorted(set(pycolmap.CameraModelId.__members__) - {"INVALID"})
    if camera.model not in models:
        raise ValueError(
            f"COLMAP has no camera model {camera.model!r}; it has {', '.join(models)}."
        )
    if camera.params is not None:
        model = pycolmap.CameraModelId.__members__[camera.model]
        sample = sample_camera(model)
        if len(camera.params.split(",")) != len(sample.params):
            raise ValueError(
                f"The camera model {camera.model} has the parameters {sample.params_info}, not "
                f"{camera.params!r}."
            )
