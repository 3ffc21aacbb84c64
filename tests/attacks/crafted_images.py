"""Crafted image files: headers that announce what their contents do not have, and what is no image.

Each function returns the contents of a file, drawn from a generator of random numbers.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tests.scenes.pictures import textured_image


def png(rng: random.Random, *extra: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of zeros, of any size and kind, with chunks before its pixels."""
    side = rng.choice((1, 1000, 9_000, 12_000, 20_000, 65_535, 2**31 - 1))
    size = (side, rng.choice((side, 1, 100)))
    colour, depth, samples = rng.choice(((0, 8, 1), (2, 8, 3), (2, 16, 3), (3, 1, 1), (6, 16, 4)))
    rows = min(size[1] * (1 + size[0] * samples * depth // 8), 600 * 2**20)
    deflate = zlib.compressobj(1)
    pixels = b"".join(deflate.compress(bytes(2**20)) for _ in range(rows // 2**20 + 1))
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, rng.randrange(2))
    chunks = [(b"IHDR", header), *extra, (b"PLTE", bytes(range(6)))]
    chunks += [(b"IDAT", pixels + deflate.flush()), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def png_with_text(rng: random.Random) -> bytes:
    """Return a PNG whose text, colour profile or EXIF data are large once unpacked."""
    packed = zlib.compress(bytes(200 * 2**20), 1)
    chunk = rng.choice(
        (
            (b"zTXt", b"a\0\0" + packed),
            (b"iTXt", b"a\0\1\0\0\0" + packed),
            (b"iCCP", b"a\0\0" + packed),
            (b"eXIf", b"II*\0\x08\0\0\0" + bytes(10**6)),
        )
    )
    return png(rng, *[chunk] * rng.choice((1, 3)))


def jpeg(rng: random.Random) -> bytes:
    """Return a JPEG that announces another size, in one scan, one for each channel, or more."""
    buffer = BytesIO()
    picture = Image.fromarray(np.dstack([textured_image(5)] * 3))
    picture.save(buffer, "JPEG", progressive=rng.random() < 0.5, subsampling=rng.choice((0, 2)))
    content = bytearray(buffer.getvalue())
    frame = next(content.index(m) for m in (b"\xff\xc0", b"\xff\xc2") if m in content)
    sizes = (0, 1, 5_000, 20_000, 65_500, 65_535)
    content[frame + 5 : frame + 9] = struct.pack(">HH", rng.choice(sizes), rng.choice(sizes))
    if rng.random() < 0.3 and (scan := content.find(b"\xff\xda\0\x0c\3")) >= 0:
        content[scan + 2 : scan + 12] = b"\0\x08\1\1\0\0\x3f\0"
    return bytes(content)


def tiff(rng: random.Random) -> bytes:
    """Return a TIFF whose tags have huge values or counts."""
    numbers = (0, 1, 120, 160, 20_000, 2**20, 2**31 - 1, 2**32 - 1)
    wanted = {256: 160, 257: 120, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 120, 279: 19_200}
    entries = [
        struct.pack("<HHII", tag, rng.choice((3, 4, 4)), 1, value) for tag, value in wanted.items()
    ]
    for _ in range(rng.randint(1, 3)):
        tag = rng.choice([*wanted, 322, 323, 339, 34675, 34665, 700])
        value = struct.pack(
            "<HHII", tag, rng.randrange(14), rng.choice(numbers), rng.choice(numbers)
        )
        entries = [entry for entry in entries if entry[:2] != value[:2]] + [value]
    directory = struct.pack("<H", len(entries)) + b"".join(sorted(entries)) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + 19_200) + bytes(19_200) + directory


def netpbm(rng: random.Random) -> bytes:
    """Return a PGM or PPM whose header has odd numbers."""
    words = ("0", "1", "-5", "160", "30000", "99999", "9" * 40, "255", "65535", "1e3", "#", "")
    header = " ".join([f"P{rng.randint(1, 7)}", *(rng.choice(words) for _ in range(3))])
    return header.encode() + b"\n" + rng.randbytes(rng.choice((0, 100, 60_000)))


def bmp(rng: random.Random) -> bytes:
    """Return a BMP of any announced size and compression."""
    sides = (0, 1, -120, 160, 30_000, 2**31 - 1, -(2**31))
    depth, packing = rng.choice((1, 4, 8, 16, 24, 32)), rng.randrange(5)
    size = (rng.choice(sides), rng.choice(sides))
    head = struct.pack("<IiiHHIIIIII", 40, *size, 1, depth, packing, 0, 0, 0, rng.choice((0, 9)), 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head + rng.randbytes(20_000)


def foreign(rng: random.Random) -> bytes:
    """Return contents of a format that is not read, or of no image."""
    buffer = BytesIO()
    name = rng.choice(("EPS", "GIF", "DDS", "PCX", "TGA", "ICO", "JPEG2000", "SGI", "PDF", None))
    if name is None:
        starts = (b"", b"\0", b"8BPS\0\1", b"<html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xff\xd8\xff")
        return rng.choice(starts) + rng.randbytes(rng.choice((0, 10, 1000)))
    Image.fromarray(textured_image(3)).convert("RGB").save(buffer, name)
    return buffer.getvalue()


def no_file(path: Path, rng: random.Random) -> None:
    """Make a pipe, a socket, a folder or a link that leads nowhere or to a device."""
    kind = rng.randrange(6)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == 2:
        path.mkdir()
    elif kind == 3:
        with path.open("wb") as file:
            file.write(rng.choice((b"", b"\xff\xd8\xff\xe0", b"P6 #", b"RIFF\0\0\0\0WEBPVP8 ")))
            file.truncate(rng.choice((2**28, 2**40)))
    else:
        path.symlink_to(rng.choice(("nowhere.jpg", path.name, "/dev/zero", "/dev/stdin", "..")))


CRAFTED: tuple[Callable[[random.Random], bytes], ...] = (
    *(png, png_with_text, jpeg, jpeg, tiff, tiff, netpbm, bmp, foreign, foreign),
)
