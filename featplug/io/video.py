"""Frames of a video as photographs: of each interval the sharpest, by OpenCV."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import cv2
import numpy as np

from featplug.io.artifact import Artifact, Provenance, file_hash
from featplug.utils.progress import progress_bar

logger = logging.getLogger(__name__)
REVISION = 1
"""Revision of what is chosen and how it is written, see :mod:`featplug.io.artifact`."""
_JPEG_QUALITY = 95
_SHARPNESS_SIDE = 960
"""Longest side that frames are reduced to before their sharpness is measured: noise counts less."""
_USUAL_RATE = 30.0


@dataclass(frozen=True, eq=False)
class _Frame:
    number: int
    time: float
    """Seconds since the first frame."""
    pixels: np.ndarray
    """H×W×3 uint8, BGR, upright."""


def extract_frames(video: Path, folder: Path, fps: float, progress: bool = False) -> bool:
    """Write the sharpest frame of each interval of a video, unless an earlier run did.

    Frames are upright, as a phone's rotation says, and called ``frame_000123.jpg`` by their number
    in the video. Sharpness is the variance of the Laplacian.

    Args:
        video: the video.
        folder: folder of the frames, whole or not there; a record is kept next to it.
        fps: number of intervals in a second.
        progress: show a progress bar.

    Returns:
        Whether this run wrote them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be decoded, or has no frames; the message says how to convert it.
    """
    video = Path(video)
    if not video.is_file():
        raise FileNotFoundError(f"There is no video {video}.")
    provenance = Provenance(
        "frames", {"fps": fps}, inputs={"video": file_hash(video)}, revisions={"frames": REVISION}
    )
    frames = Artifact(folder, provenance)
    if frames.reason_to_make() is None:
        return False

    def write(part: Path) -> dict[str, Any]:
        part.mkdir()
        best: _Frame | None = None
        sharpness, num = -1.0, 0
        for frame in _read_frames(video, progress):
            if best is not None and int(frame.time * fps + 1e-6) > int(best.time * fps + 1e-6):
                _write_frame(part, best)
                best, sharpness, num = None, -1.0, num + 1
            if (measured := _sharpness(frame.pixels)) > sharpness:
                best, sharpness = frame, measured
        if best is None:
            raise ValueError(
                f"{video} cannot be decoded as a video, or has no frames; convert it by `ffmpeg -i "
                f"{quote(str(video))} -c:v libx264 -pix_fmt yuv420p {quote(video.stem)}-h264.mp4`."
            )
        _write_frame(part, best)
        return {"num_frames": num + 1}

    frames.make(write)
    return True


def _read_frames(video: Path, progress: bool) -> Iterator[_Frame]:
    """Yield all frames that can be decoded."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is said in one sentence
    capture = cv2.VideoCapture(str(video.absolute()))
    try:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        rate, expected = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = rate if 0 < rate < 1e4 else _USUAL_RATE
        number, first, last = 0, 0.0, -1.0
        bar = progress_bar(iter(capture.grab, False), "frames", max(expected, 0), "frame", progress)
        for _ in bar:
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            first = stamp if number == 0 else first
            time = stamp - first
            if not time > last:  # not every format has times
                time = last + 1 / rate if number else 0.0
            last = time
            is_read, pixels = capture.retrieve()
            if is_read and pixels is not None and pixels.size:
                yield _Frame(number, time, pixels)
            number += 1
        if 0 < number < 0.9 * expected:
            logger.warning(
                "%s: ends after %d of %d frames, so it is damaged or incomplete; copy it again.",
                video,
                number,
                expected,
            )
    finally:
        capture.release()


def _sharpness(pixels: np.ndarray) -> float:
    scale = _SHARPNESS_SIDE / max(pixels.shape[:2])
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _write_frame(folder: Path, frame: _Frame) -> None:
    path = folder / f"frame_{frame.number:06d}.jpg"
    is_encoded, content = cv2.imencode(
        ".jpg", frame.pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not is_encoded:
        raise ValueError(f"{path} cannot be written as JPEG: it has {frame.pixels.shape} pixels.")
    path.write_bytes(content.tobytes())
