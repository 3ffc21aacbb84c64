"""Videos that OpenCV writes, and a phone's rotation in their headers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, frames: Sequence[np.ndarray], rate: float = 10.0) -> None:
    """Write frames H×W×3 uint8 (BGR): Motion JPEG for .avi, MPEG-4 for .mp4."""
    codec = {".avi": "MJPG", ".mp4": "mp4v"}[path.suffix]
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()


def turn_video(path: Path) -> None:
    """Let the header of an .mp4 say that players turn it by 90° clockwise."""
    content = path.read_bytes()
    start = content.index(b"tkhd") + 44
    one = 1 << 16
    plain = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    assert content[start : start + 36] == plain
    path.write_bytes(content[:start] + turned + content[start + 36 :])
