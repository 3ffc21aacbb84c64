"""COLMAP's text models, read line by line.

The format is that of ``src/colmap/scene/reconstruction_io_text.cc``. COLMAP itself reads numbers as
C++ does, for which ``1.5`` is the image 1 and the rest of the line one column off, stops a row of
keypoints at the first word that is no number, and drops a last image without a line of keypoints.
"""

from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.model_tables import (
    DATUM,
    MAX_ID,
    MAX_POINT_ID,
    NO_POINT,
    OBSERVATION,
    SENSOR_TYPES,
    CameraRow,
    FrameRow,
    ImageRow,
    ModelTables,
    PointTable,
    RigRow,
    SensorRow,
    damaged,
)
from featplug.io.text_files import iterate_lines


def read_text_tables(folder: Path) -> ModelTables:
    """Read the files of a text model.

    Raises:
        ValueError: a line is not what the format has.
    """
    return ModelTables(
        folder,
        ".txt",
        [_camera(row) for row in _rows(folder / "cameras.txt")],
        [_rig(row) for row in _rows(folder / "rigs.txt")],
        [_frame(row) for row in _rows(folder / "frames.txt")],
        list(_images(folder / "images.txt")),
        _points(folder / "points3D.txt"),
    )


def copy_as_plain_text(folder: Path, copy: Path) -> None:
    """Write the files of a text model so that COLMAP reads them.

    It reads no byte-order mark, UTF-16 or carriage returns alone, and no last image without a line
    of keypoints.
    """
    names = ("cameras", "rigs", "frames", "images", "points3D")
    for path in (folder / f"{name}.txt" for name in names):
        if not path.is_file():
            continue
        with (copy / path.name).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for _, line in iterate_lines(path, _WHAT))
            file.write("\n")


_WHAT = "COLMAP text model"


class _Row:
    """The words of one line, taken one after the other."""

    def __init__(self, path: Path, number: int, line: str) -> None:
        self.path = path
        self.number = number
        self.line = line
        self.words = line.split()
        self.position = 0

    @property
    def rest(self) -> int:
        """Number of words left."""
        return len(self.words) - self.position

    def take(self, num: int) -> list[str]:
        """Return the next words."""
        if num > self.rest:
            raise self.damaged(f"has {len(self.words)} words, of which some are missing")
        self.position += num
        return self.words[self.position - num : self.position]

    def whole(self, maximum: int = MAX_ID) -> int:
        """Return the next word as a whole number from 0."""
        (word,) = self.take(1)
        if not (word.isascii() and word.isdigit() and len(word) < 20 and int(word) <= maximum):
            raise self.damaged(f"has {word[:40]!r} in place of a whole number up to {maximum}")
        return int(word)

    def floats(self, num: int) -> list[float]:
        """Return the next words as numbers."""
        return [self.float(word) for word in self.take(num)]

    def float(self, word: str) -> float:
        """Return a word as a number."""
        try:
            if "_" in word or not word.isascii():
                raise ValueError
            return float(word)
        except ValueError:
            raise self.damaged(f"has {word[:40]!r} in place of a number") from None

    def sensor(self) -> tuple[int, int]:
        """Return the next words as the type and the id of a sensor."""
        (word,) = self.take(1)
        if word not in SENSOR_TYPES:
            raise self.damaged(f"has {word[:40]!r} in place of {', '.join(SENSOR_TYPES)}")
        return SENSOR_TYPES[word], self.whole()

    def finish(self) -> None:
        """Check that no word is left."""
        if self.rest:
            raise self.damaged(f"has {self.rest} words more than it should")

    def damaged(self, what: str) -> ValueError:
        """Return the error for this line."""
        return damaged(self.path, f"line {self.number} {what}")


def _rows(path: Path) -> Iterator[_Row]:
    """Yield the lines that are neither empty nor comments; none where the file does not exist."""
    if not path.is_file():
        return
    for number, line in iterate_lines(path, _WHAT):
        if (text := line.strip()) and not text.startswith("#"):
            yield _Row(path, number, text)


def _camera(row: _Row) -> CameraRow:
    camera_id, (name,), size = row.whole(), row.take(1), (row.whole(), row.whole())
    model = pycolmap.CameraModelId.__members__.get(name)
    if model is None:
        raise row.damaged(f"has the camera model {name[:40]!r}, which COLMAP does not have")
    return CameraRow(camera_id, int(model), size, np.array(row.floats(row.rest)))


def _rig(row: _Row) -> RigRow:
    rig_id, num_sensors = row.whole(), row.whole()
    sensors: list[SensorRow] = []
    for _ in range(num_sensors):
        sensor, pose = row.sensor(), None
        if sensors and row.whole(1):
            pose = row.floats(7)
        sensors.append(SensorRow(*sensor, pose))
    row.finish()
    return RigRow(rig_id, sensors)


def _frame(row: _Row) -> FrameRow:
    frame_id, rig_id, pose, num_data = row.whole(), row.whole(), row.floats(7), row.whole()
    data = []
    for _ in range(num_data):
        data.append((*row.sensor(), row.whole(MAX_POINT_ID)))
    row.finish()
    return FrameRow(frame_id, rig_id, pose, np.array(data, DATUM))


def _images(path: Path) -> Iterator[ImageRow]:
    lines = iterate_lines(path, _WHAT)
    for number, line in lines:
        if not (text := line.strip()) or text.startswith("#"):
            continue
        row = _Row(path, number, text)
        image_id, pose, camera_id, (name,) = row.whole(), row.floats(7), row.whole(), row.take(1)
        if row.rest:
            name = " ".join([name, *row.take(row.rest)])
            raise ValueError(
                f"{path}, line {number}: the image name {name[:100]!r} seems to have white space, "
                "at which COLMAP cuts the names of text models; use a binary model, or rename the "
                "image."
            )
        row = _Row(path, *next(lines, (number + 1, "")))
        yield ImageRow(image_id, pose, camera_id, name, _observations(row))


def _observations(row: _Row) -> np.ndarray:
    words = row.words
    observations = np.empty(len(words) // 3, OBSERVATION)
    if len(words) % 3:
        raise row.damaged(f"has {len(words)} words, not three for each keypoint")
    try:
        if not row.line.isascii() or "_" in row.line:
            raise ValueError
        observations["xy"][:, 0] = list(map(float, words[::3]))
        observations["xy"][:, 1] = list(map(float, words[1::3]))
        points = np.array(list(map(int, words[2::3])), np.int64)
    except (ValueError, OverflowError):
        raise row.damaged("is not `X Y POINT3D_ID` for each keypoint") from None
    if len(points) and points.min() < -1:
        raise row.damaged(f"has the point {points.min()}")
    observations["point"] = np.where(points < 0, NO_POINT, points.astype(np.uint64))
    return observations


def _points(path: Path) -> PointTable:
    ids, values, lengths, elements = array("Q"), array("d"), array("q"), array("I")
    for row in _rows(path):
        words = row.words
        if len(words) < 8 or len(words) % 2:
            raise row.damaged("is not `ID X Y Z R G B ERROR` and two words for each keypoint")
        try:
            if not row.line.isascii() or "_" in row.line:
                raise ValueError
            bytes(map(int, words[4:7]))  # a colour is 0 to 255
            ids.append(int(words[0]))
            values.extend(map(float, chain(words[1:4], words[7:8])))
            elements.extend(map(int, words[8:]))
        except (ValueError, OverflowError):
            raise row.damaged(
                "is not `ID X Y Z R G B ERROR` and an image and a keypoint of it for each "
                "observation"
            ) from None
        lengths.append(len(words) // 2 - 4)
    return PointTable(
        np.frombuffer(ids, np.uint64) if ids else np.empty(0, np.uint64),
        np.array(values).reshape(-1, 4),
        np.array(lengths, np.int64),
        np.array(elements, np.uint32).reshape(-1, 2),
    )
