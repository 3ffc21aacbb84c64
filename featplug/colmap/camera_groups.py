"""Which images share a camera, and how that is reported."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pycolmap

from featplug.colmap.exif_cameras import judge_exif
from featplug.io.image_files import ImageHeader
from featplug.io.orientation import MIRRORED

CameraMode = Literal["auto", "single", "per-folder", "per-size", "per-image"]
_SHOWN_CAMERAS = 5
_SHOWN_NAMES = 3
_NO_EXIF = "same size, no EXIF"


@dataclass
class CameraGroup:
    """Images that share a camera."""

    reason: str
    """What they have in common."""
    known: pycolmap.Camera | None
    """Their camera where its intrinsics are known from a file."""
    names: list[str]
    is_known: bool = False
    """Whether the intrinsics were given."""
    focal_length: str = ""
    """Focal length of the camera and its source, in words."""
    size: tuple[int, int] | None = None
    """(width, height) of its images, where they have one size."""


def sharing_key(mode: CameraMode, name: str, header: ImageHeader) -> tuple[object, str]:
    """Return what images that share a camera have in common, as a key and in words."""
    width, height = header.size
    if mode == "single":
        return "all", "all images"
    if mode == "per-folder":
        folder = folder_of(name)
        return folder, f"folder {folder}" if folder else "folder of the images"
    if mode == "per-image":
        return name, ""
    if mode == "per-size":
        return header.size, f"size {width}×{height}"
    exif, judged = header.camera, judge_exif(header)
    if judged.is_cut:
        return name, ""
    if exif.model is not None:
        is_whole = exif.make is None or exif.model.startswith(exif.make)
        body = exif.model if is_whole else f"{exif.make} {exif.model}"
        of_lens = exif.focal_length_35mm or exif.focal_length_mm
        return (exif.make, exif.model, exif.lens, of_lens, header.size), body
    reason = _NO_EXIF if judged.pixels is None else "same size and focal length, no body in EXIF"
    return (header.size, judged.pixels), reason


def folder_of(name: str) -> str:
    """Return the folder of an image name, empty for those in the folder of all images."""
    return name.rpartition("/")[0]


def describe_groups(mode: CameraMode, groups: Sequence[CameraGroup]) -> list[str]:
    """Describe cameras: each one that several images share, and all others of one kind together."""
    lines = []
    shared = sorted(
        (group for group in groups if len(group.names) > 1), key=lambda group: -len(group.names)
    )
    alike = Counter(group.reason for group in shared)
    for group in shared[:_SHOWN_CAMERAS]:
        of_size = ""
        if alike[group.reason] > 1 and group.size is not None:  # as of a phone held upright, too
            of_size = " of {}×{} pixels".format(*group.size)
        line = f"{len(group.names)} photographs{of_size} share 1 camera: {group.reason}"
        lines.append("; ".join(filter(None, [line, group.focal_length])))
    if rest := shared[_SHOWN_CAMERAS:]:
        num_images = sum(len(group.names) for group in rest)
        lines.append(f"{num_images} photographs share {len(rest)} more cameras")
    alone = [group for group in groups if len(group.names) == 1]
    assumed = [group for group in alone if "assumed" in group.focal_length]
    if len(alone) == 1:
        origin = alone[0].focal_length or alone[0].reason
        lines.append(f"{alone[0].names[0]} has a camera of its own: {origin}")
    elif alone:
        line = f"{len(alone)} photographs have 1 camera each"
        if assumed:
            line += f": {assumed[0].focal_length} for {len(assumed)} of them"
        lines.append(line)
    if mode == "auto" and any(group.reason == _NO_EXIF for group in shared):
        lines.append("if photographs of one size are of several cameras: --camera.mode per-image")
    return lines


_MIRRORED = (
    "EXIF says that it is stored mirrored, for which COLMAP has no camera; save it again as seen"
)


def describe_problems(headers: Mapping[str, ImageHeader]) -> list[str]:
    """Describe EXIF data that do not fit their images, and images that are stored mirrored."""
    names: dict[str, list[str]] = {}
    for name in sorted(headers):
        if problem := judge_exif(headers[name]).problem:
            names.setdefault(problem, []).append(name)
        if headers[name].orientation in MIRRORED:
            names.setdefault(_MIRRORED, []).append(name)
    return [
        f"warning: {', '.join(alike[:_SHOWN_NAMES])}"
        f"{f' and {len(alike) - _SHOWN_NAMES} more' * (len(alike) > _SHOWN_NAMES)}: {problem}"
        for problem, alike in names.items()
    ]
