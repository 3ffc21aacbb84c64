"""Photographs as every program reads them: JPEG or PNG of 8 bits, in colour, pixels as stored.

Models have coordinates of the pixels as stored. Programs differ in what they do with EXIF's
orientation (COLMAP looks at the stored pixels, and copies the tag to the images it undistorts), so
that it is taken off here.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2

from featplug.io.files import not_written
from featplug.io.image_files import ImageHeader, read_image_header
from featplug.io.images import MAX_MEGAPIXELS, read_image
from featplug.io.links import link_files

_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}
_LOSSLESS = frozenset({"PNG", "TIFF", "BMP", "PPM"})
_JPEG_QUALITY = 97
_EXIF = 0xE1
_START_OF_SCAN = 0xDA


def plain_names(names: Iterable[str], image_dir: Path, is_flat: bool = False) -> dict[str, str]:
    """Return the name of each image as JPEG or PNG, which is its own where it is one.

    Args:
        names: names of the images.
        image_dir: their folder.
        is_flat: whether folders become parts of the names, joined by ``_``.
    """
    plain: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        kind = read_image_header(image_dir / name).format
        new = Path(name.replace("/", "_") if is_flat else name)
        if new.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            suffix = ".png" if kind in _LOSSLESS else ".jpg"
            new = new.with_suffix(suffix)
            if new.as_posix() in taken or (image_dir / new).exists():
                new = Path(f"{name.replace('/', '_') if is_flat else name}{suffix}")
        while new.as_posix() in taken:
            new = new.with_stem(f"{new.stem}_")
        taken.add(new.as_posix())
        plain[name] = new.as_posix()
    return plain


def write_plain_images(
    names: dict[str, str],
    image_dir: Path,
    folder: Path,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> None:
    """Write images under plain names: links to those that are plain already, else new files.

    Where there can be no links, they are copied.

    Args:
        names: name of each image to its plain name.
        image_dir: folder of the images.
        folder: folder that gets them; it is made.
        max_megapixels: limit of decoding.

    Raises:
        FileNotFoundError: an image does not exist.
        ValueError: an image cannot be read, or the disk is full.
    """
    source = image_dir.resolve()
    headers = {name: read_image_header(source / name) for name in names}
    linked = {new: source / name for name, new in names.items() if _is_plain(headers[name], new)}
    if not link_files(folder, linked):
        folder.mkdir(parents=True)
        for new, path in linked.items():
            (folder / new).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / new)
    for name, new in names.items():
        if new not in linked:
            (folder / new).parent.mkdir(parents=True, exist_ok=True)
            _write(source / name, headers[name], folder / new, max_megapixels)


def _is_plain(header: ImageHeader, name: str) -> bool:
    return _is_of_suffix(header, name) and header.mode == "RGB" and header.orientation == 1


def _is_of_suffix(header: ImageHeader, name: str) -> bool:
    return Path(name).suffix.lower() in _SUFFIXES.get(header.format, ())


def _write(source: Path, header: ImageHeader, target: Path, max_megapixels: float) -> None:
    if header.format == "JPEG" and header.mode == "RGB" and _is_of_suffix(header, target.name):
        target.write_bytes(without_exif(source.read_bytes()))
        return
    pixels = read_image(source, max_megapixels=max_megapixels)
    quality = [] if target.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    if not cv2.imwrite(str(target), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality):
        raise not_written(target, "OpenCV cannot write it")


def without_exif(jpeg: bytes) -> bytes:
    """Return a JPEG file without its EXIF data; the pixels stay as they are encoded."""
    kept, at = [jpeg[:2]], 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != _START_OF_SCAN:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if not (jpeg[at + 1] == _EXIF and jpeg[at + 4 : at + 8] == b"Exif"):
            kept.append(jpeg[at:end])
        at = end
    return b"".join([*kept, jpeg[at:]])
