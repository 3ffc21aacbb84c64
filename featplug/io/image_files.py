"""Image files: which formats are read, and what a header says before a pixel is decoded.

The format is known by the first bytes of a file, whatever its name, and only the decoders of
:data:`IMAGE_FORMATS` ever see it. Whatever goes wrong in a decoder becomes one ``ValueError`` that
names the file.
"""

import math
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    IMAGELENGTH,
    IMAGEWIDTH,
    ROWSPERSTRIP,
    TiffImageFile,
)

from featplug.io.exif import ORIENTATION, ExifCamera, GpsPosition, read_exif
from featplug.utils.errors import described

# Blocks of less than 32 MiB would be kept by the C library, a pool of them for each thread.
Image.core.set_block_size(max(Image.core.get_block_size(), 64 * 2**20))
# Pillow warns of damaged EXIF data by several lines for each image.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


@dataclass(frozen=True)
class ImageFormat:
    """An image format that is read."""

    name: str
    """Name of the format and of Pillow's decoder."""
    suffixes: tuple[str, ...]
    signature: bytes
    """Pattern of the first bytes of a file."""
    plugin: str
    """Module that registers the decoder."""
    memory: float = 1.0
    """Peak of memory while decoding, relative to that of a baseline JPEG (measured)."""
    max_mib: int = 512
    """Largest file: some decoders read all of it at once."""
    in_colmap: bool = True
    """Whether COLMAP reads the format, too."""
    remedy: str = ""
    """Command that installs the decoder where it is no part of Pillow."""


IMAGE_FORMATS = (
    ImageFormat(
        "JPEG", (".jpg", ".jpeg", ".jfif", ".jpe"), rb"\xff\xd8\xff", "PIL.JpegImagePlugin"
    ),
    ImageFormat("PNG", (".png",), rb"\x89PNG\r\n\x1a\n", "PIL.PngImagePlugin", max_mib=1024),
    ImageFormat(
        "TIFF", (".tif", ".tiff"), rb"II[*+]\0|MM\0[*+]", "PIL.TiffImagePlugin", max_mib=1024
    ),
    ImageFormat(
        "WEBP",
        (".webp",),
        rb"RIFF....WEBP",
        "PIL.WebPImagePlugin",
        memory=2.25,
        in_colmap=False,
    ),
    ImageFormat("BMP", (".bmp", ".dib"), rb"BM", "PIL.BmpImagePlugin", max_mib=1024),
    ImageFormat("PPM", (".pgm", ".pnm", ".ppm"), rb"P[1-6]\s", "PIL.PpmImagePlugin", max_mib=1024),
    ImageFormat(
        "AVIF",
        (".avif",),
        rb"....ftyp.{,48}avi[fs]",
        "PIL.AvifImagePlugin",
        memory=1.25,
        in_colmap=False,
        remedy="pip install 'pillow>=11.3'",
    ),
    ImageFormat(
        "HEIF",
        (".heic", ".heif"),
        rb"....ftyp(he|mif|msf)",
        "pillow_heif",
        memory=1.25,
        in_colmap=False,
        remedy="pip install 'featplug[heif]'",
    ),
)
IMAGE_SUFFIXES = frozenset(suffix for kind in IMAGE_FORMATS for suffix in kind.suffixes)
OTHER_SUFFIXES = frozenset(
    [
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".dng",
        ".erf",
        ".exr",
        ".gif",
        ".iiq",
        ".j2k",
        ".jp2",
        ".jxl",
        ".nef",
        ".nrw",
        ".orf",
        ".pef",
        ".psd",
        ".raf",
        ".raw",
        ".rw2",
        ".srw",
        ".x3f",
    ]
)
"""Photographs of formats that are not read."""

_SIGNATURE_BYTES = 64
_BYTES_PER_PIXEL = 7.5
"""Peak of memory while a baseline JPEG is decoded (measured)."""
_START_OF_SCAN = 0xDA
_TILE_WIDTH, _TILE_LENGTH = 322, 323


class ImageFileError(ValueError):
    """An image file that cannot be used; the message names the file, the cause and the remedy."""


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says before its pixels."""

    size: tuple[int, int]
    """(width, height) as stored, before any turn by :attr:`orientation`."""
    format: str
    """Name in :data:`IMAGE_FORMATS`."""
    mode: str
    """Pillow's mode of the pixels."""
    camera: ExifCamera
    orientation: int
    """EXIF's orientation, 1 to 8; 1 is upright as stored. See :mod:`featplug.io.orientation`."""
    gps: GpsPosition | None
    """Where the photograph was taken, by its EXIF data."""


def read_image_header(path: Path) -> ImageHeader:
    """Read the header of an image file; no pixel is decoded.

    Damaged EXIF data are no error: what cannot be read of them is not known.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image that can be read.
    """
    with open_image(Path(path)) as image:
        exif, kind = read_exif(image), format_of(image).name
        return ImageHeader(image.size, kind, image.mode, exif.camera, exif.orientation, exif.gps)


def format_of(image: Image.Image) -> ImageFormat:
    """Return the format of an opened image."""
    name = "JPEG" if image.format == "MPO" else image.format  # several JPEGs in one file
    return next(kind for kind in IMAGE_FORMATS if kind.name == name)


def decoding_cost(image: Image.Image, stored_size: tuple[int, int]) -> float:
    """Return the memory to decode an opened image, in megapixels of a JPEG that takes the same.

    Args:
        image: the image, which may be set to be reduced while it is decoded.
        stored_size: (width, height) as stored.
    """
    megapixels, stored_megapixels = (math.prod(size) / 1e6 for size in (image.size, stored_size))
    kept_bytes = 0.0
    if isinstance(image, JpegImageFile) and _keeps_coefficients(image):
        areas = [across * down for _, across, down, _ in image.layer]
        kept_bytes = 2 * sum(areas) / max(areas) * stored_megapixels
    elif isinstance(image, TiffImageFile) and image.info.get("compression") != "raw":
        kept_bytes = 2 * _largest_piece(image) / 1e6  # compressed and not
    needed_bytes = kept_bytes + 4 * megapixels
    return max(format_of(image).memory * megapixels, needed_bytes / _BYTES_PER_PIXEL)


def _largest_piece(image: TiffImageFile) -> float:
    """Return the bytes of a strip or tile of a TIFF."""
    tags, (width, height) = image.tag_v2, image.size
    if _TILE_WIDTH in tags:
        area = tags[_TILE_WIDTH] * tags[_TILE_LENGTH]
    else:
        area = width * min(height, tags.get(ROWSPERSTRIP, height))
    return area * sum(tags.get(BITSPERSAMPLE, (8,))) / 8


def _keeps_coefficients(image: JpegImageFile) -> bool:
    """Return whether the decoder has to keep all coefficients of a JPEG.

    It does for progressive ones and others whose channels are not in one scan.
    """
    if (file := image.fp) is None:
        return True
    file.seek(2)
    while (segment := file.read(4)).startswith(b"\xff"):
        marker, size = segment[1], int.from_bytes(segment[2:], "big")
        if marker == _START_OF_SCAN:
            return bool(image.info.get("progressive")) or file.read(1)[0] < image.layers
        file.seek(size - 2, os.SEEK_CUR)
    return True


def check_regular_file(path: Path) -> None:
    """Check that an image path leads to a file, before anything opens it: a pipe would wait.

    Raises:
        FileNotFoundError: there is nothing at that path.
        ValueError: it is a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise FileNotFoundError(
                f"There is no image {path}: it is a link to a file that does not exist; "
                "link it again or remove it."
            ) from None
        raise FileNotFoundError(f"There is no image {path}.") from None
    except (OSError, ValueError) as error:
        raise ImageFileError(f"Cannot read {path} ({error}).") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise ImageFileError(f"Cannot read {path}: it is {kind}, not an image file; remove it.")


@contextmanager
def open_image(path: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open an image file, or its contents, with the decoder of its format.

    Any exception of a decoder, within the ``with`` block, too, becomes one that names the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image that can be read.
    """
    try:
        if content is None:
            check_regular_file(path)
        with BytesIO(content) if content is not None else path.open("rb") as file:
            counted = _CountedReads(file, path)
            image = _decoder(_recognized(file, path), path)(counted, None)
            counted.left = math.inf
            if isinstance(image, TiffImageFile):
                _keep_as_stored(image)
            if min(image.size) < 1:
                raise ImageFileError(f"Cannot read {path}: it has no pixels; copy it again.")
            with image:
                yield image
    except (FileNotFoundError, ImageFileError):
        raise
    except MemoryError as error:
        raise ImageFileError(f"Cannot read {path}: not enough memory; reduce it.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageFileError(_damaged(path, reason)) from error
    except Exception as error:  # decoders raise all kinds for damaged files
        raise ImageFileError(_damaged(path, described(error))) from error


def _keep_as_stored(image: TiffImageFile) -> None:
    """Keep Pillow from turning a TIFF upright, which it does with no other format."""
    if image.tag_v2.get(ORIENTATION, 1) != 1:
        image.getexif()[ORIENTATION] = 1
        image._size = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]


def _damaged(path: Path, reason: str) -> str:
    return f"Cannot read {path} ({reason}): it is damaged or incomplete; copy it again."


class _CountedReads:
    """A file that decoders cannot search byte by byte for a header that does not come."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self.left: float = 500_000

    def read(self, size: int = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ImageFileError(_damaged(self._path, "no end of its header"))
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _recognized(file: BinaryIO, path: Path) -> ImageFormat:
    """Return the format of a file by its first bytes."""
    start = file.read(_SIGNATURE_BYTES)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not start:
        raise ImageFileError(f"Cannot read {path}: it is empty; copy it again.")
    for kind in IMAGE_FORMATS:
        if re.match(kind.signature, start, re.DOTALL):
            if size > kind.max_mib * 2**20:
                raise ImageFileError(
                    f"Cannot read {path}: it has {size / 2**20:.0f} MiB, and {kind.name} files are "
                    f"read up to {kind.max_mib} MiB; reduce the photograph, or save it as JPEG."
                )
            return kind
    names = ", ".join(kind.name for kind in IMAGE_FORMATS)
    raise ImageFileError(
        f"Cannot read {path}: its contents are of none of the formats {names}; if it is an image, "
        "convert it to JPEG or PNG, else remove it."
    )


def _decoder(kind: ImageFormat, path: Path) -> Any:
    try:
        plugin = import_module(kind.plugin)
        if kind.name == "HEIF":
            plugin.register_heif_opener()
        # Called directly: Image.open would try other decoders, and reject what is reduced later.
        return Image.OPEN[kind.name][0]
    except (ImportError, KeyError) as error:
        if not kind.remedy:
            raise
        raise ImageFileError(
            f"Cannot read {path}: {kind.name} needs a decoder; install it with {kind.remedy}, or "
            "convert the image to JPEG."
        ) from error
