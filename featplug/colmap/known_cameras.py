"""Known intrinsics of images, by image name, by pattern or by size.

Three forms: hloc's list with a line ``NAME-OR-PATTERN MODEL width height p0 p1 …`` for each image
or glob; a ``cameras.txt`` of COLMAP, whose cameras are those of all images, or of the images of
their sizes; and the folder of a COLMAP model, whose images have cameras by name.
"""

import copy
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

import pycolmap

from featplug.colmap.camera_lines import camera_from_words
from featplug.colmap.exif_cameras import has_shape
from featplug.colmap.model_files import holds_model, read_model
from featplug.io.names import checked_name
from featplug.io.text_files import read_lines
from featplug.metrics.poses import intrinsics

_WHAT = "list of cameras"
_SHOWN = 5


@dataclass(frozen=True)
class KnownCameras:
    """Known intrinsics that were matched with images."""

    cameras: dict[str, pycolmap.Camera]
    """Image name to its camera, of the image's size."""
    lines: list[str]
    """What was left out: entries without an image, and images without an entry."""


@dataclass(frozen=True, eq=False)
class _Entry:
    """A camera of a file."""

    camera: pycolmap.Camera
    where: str
    """Place in the file, for messages."""
    name: str | None
    """Image name or pattern; None if the camera is that of images of its size."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image that the intrinsics are of."""
        return self.camera.width, self.camera.height


def match_known_cameras(
    path: Path, sizes: Mapping[str, tuple[int, int]], scale: bool = False
) -> KnownCameras:
    """Match the cameras of a file with images.

    Args:
        path: list, cameras.txt or folder of a COLMAP model.
        sizes: (width, height) of each image.
        scale: scale intrinsics of another resolution, if the shape of the image is the same.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line is damaged, an image has two cameras or none has one, or intrinsics are
            of an image of another size.
    """
    entries = _read_entries(Path(path))
    by_name: dict[str | None, list[_Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.name, []).append(entry)
    by_size = by_name.pop(None, [])
    patterns = [
        (re.compile(translate(name)), by_name[name])
        for name in by_name
        if name is not None and name not in sizes and set("*?[") & set(name)
    ]
    cameras: dict[str, pycolmap.Camera] = {}
    used: set[_Entry] = set()
    for name, size in sizes.items():
        named = by_name.get(name, [])
        matching = [e for pattern, alike in patterns if pattern.match(name) for e in alike]
        used.update(named, matching)
        chosen = _only(named or matching or _of_size(by_size, size, scale), name)
        if chosen is not None:
            cameras[name] = _of_image(chosen, name, size, scale)
            used.add(chosen)
    if not cameras:
        raise ValueError(
            f"{path}: none of the {len(entries)} cameras is that of an image; write the images' "
            "names relative to their folder, or patterns such as 'left/*.jpg'."
        )
    return KnownCameras(cameras, _left_out(path, entries, used, sizes.keys() - cameras.keys()))


def _read_entries(path: Path) -> list[_Entry]:
    if path.is_dir() and holds_model(path):
        model = read_model(path)
        return [
            _Entry(model.cameras[image.camera_id], f"{path}, image {image.name}", image.name)
            for image in model.images.values()
        ]
    if path.is_dir():
        path /= "cameras.txt"
    if path.suffix == ".bin":
        raise ValueError(f"{path} is binary; give the folder of the COLMAP model instead.")
    lines = [(f"{path}, line {number}", *line.split()) for number, line in read_lines(path, _WHAT)]
    if not lines:
        raise ValueError(f"{path} has no camera; is it another file?")
    is_colmap = all(first.isdecimal() for _, first, *_ in lines)
    return [
        _Entry(
            camera_from_words(words, where), where, None if is_colmap else checked_name(name, where)
        )
        for where, name, *words in lines
    ]


def _only(entries: Sequence[_Entry], name: str) -> _Entry | None:
    """Return the one entry of an image, or None; several may have the same camera."""
    for entry in entries[1:]:
        if intrinsics(entry.camera) != intrinsics(entries[0].camera):
            raise ValueError(
                f"{entry.where}: {name!r} has another camera than by {entries[0].where}; remove "
                "one of the two, or list the image by its name."
            )
    return entries[0] if entries else None


def _of_size(entries: Sequence[_Entry], size: tuple[int, int], scale: bool) -> Sequence[_Entry]:
    """Return the cameras without a name that an image of a size can have."""
    if same := [entry for entry in entries if entry.size == size]:
        return same
    if len(entries) == 1:
        return entries
    return [entry for entry in entries if scale and has_shape(entry.size, size)]


def _of_image(entry: _Entry, name: str, size: tuple[int, int], scale: bool) -> pycolmap.Camera:
    """Return the camera of an entry for an image of a size."""
    if entry.size == size:
        return entry.camera
    fits = has_shape(entry.size, size)
    if fits and scale:
        camera = copy.copy(entry.camera)
        camera.rescale(*size)
        return camera
    if fits:
        remedy = "scale them by --camera.scale, or give intrinsics of this size"
    elif has_shape(entry.size, size[::-1]):
        remedy = "the sides are swapped: give intrinsics of the photograph as it is stored"
    else:
        remedy = "give intrinsics of this size; those of another shape cannot be scaled"
    (width, height), (w, h) = entry.size, size
    raise ValueError(
        f"{entry.where}: the intrinsics are of {width}×{height} pixels, but {name!r} has {w}×{h}; "
        f"{remedy}."
    )


def _left_out(
    path: Path, entries: Sequence[_Entry], used: set[_Entry], without: Collection[str]
) -> list[str]:
    lines = []
    if unused := [entry for entry in entries if entry not in used]:
        places = [entry.where.removeprefix(f"{path}, ") for entry in unused]
        lines.append(f"{path}: {len(unused)} cameras are of no image: {_shortened(places)}")
    if missing := sorted(without):
        lines.append(
            f"{path}: {len(missing)} images have no camera in it, their intrinsics are estimated: "
            f"{_shortened(missing)}"
        )
    return lines


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + " …" * (len(names) > _SHOWN)
