"""12-Scenes: RGB-D frames of twelve rooms of four houses, with their poses.

Valentin et al., 3DV 2016. Read as released, a folder for each room::

    apt1/kitchen/info.txt                       intrinsics of the colour camera, 1296×968
    apt1/kitchen/split.txt                      a line for each sequence; the first has the queries
    apt1/kitchen/data/frame-000000.color.jpg
    apt1/kitchen/data/frame-000000.pose.txt     world_from_camera, 4×4, in metres
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pycolmap

from featplug.io.text_files import numbers, read_lines
from featplug.localization.evaluation import RecallRules
from pipelines.datasets.posed_images import PosedImages, color_frames, read_frame_pose
from pipelines.datasets.protocol import ModelOptions

_INFO, _SPLIT, _DATA = "info.txt", "split.txt", "data"
_NUMBER = re.compile(r"\d+")
_RANGE = re.compile(r"sequence(\d+)\b.*\bstart\s*=\s*(\d+)\b.*\bend\s*=\s*(\d+)\b")
_INTRINSIC = "m_calibrationColorIntrinsic"


@dataclass(frozen=True)
class TwelveScenesOptions(ModelOptions):
    """Options of localization in a room of 12-Scenes."""

    pipeline = "12scenes"
    rules = RecallRules(((0.05, 5.0), (0.1, 5.0)))

    dataset: Path = Path("datasets/12scenes/apt1/kitchen")
    """Folder of one room, which has data/ and split.txt."""

    def open(self, progress: bool = False) -> "TwelveScenes":
        """Return the data set; see :class:`TwelveScenes`."""
        return TwelveScenes(self.dataset)


class TwelveScenes(PosedImages):
    """A room of 12-Scenes; frames whose pose was lost are left out.

    Raises:
        FileNotFoundError: the folder is no room.
    """

    source = "12-Scenes: http://graphics.stanford.edu/projects/reloc/"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for name in (_INFO, _SPLIT, _DATA):
            if not (self.root / name).exists():
                rooms = sorted({path.parent for path in self.root.glob(f"*/**/{_SPLIT}")})
                named = ", ".join(path.relative_to(self.root).as_posix() for path in rooms)
                remedy = f"name one of its rooms {named}" if rooms else f"get {self.source}"
                raise FileNotFoundError(
                    f"{self.root} is no room of 12-Scenes: it has no {name}; {remedy}."
                )

    @cached_property
    def _poses_of_frames(self) -> dict[str, np.ndarray]:
        """Frame to its pose, of those that have one."""
        names = [name for names in self._sequences for name in names]
        return self._poses(names)

    @cached_property
    def _sequences(self) -> list[list[str]]:
        """Frames of each sequence, in the order of split.txt."""
        path = self.root / _SPLIT
        frames = color_frames(file.name for file in (self.root / _DATA).glob("frame-*"))
        found = {int(_NUMBER.findall(frame)[0]): f"{_DATA}/{frame}" for frame in frames}
        sequences = []
        for at, line in read_lines(path, "split"):
            parts = _RANGE.search(line)
            if parts is None:
                raise ValueError(
                    f"{path}, line {at}: expected `sequence0 [frames=9] [start=0 ; end=8]`, got "
                    f"{line[:80]!r}; get the file again."
                )
            first, last = int(parts[2]), int(parts[3])
            sequences.append([found[i] for i in sorted(found) if first <= i <= last])
        if len(sequences) < 2 or not all(sequences):
            raise ValueError(
                f"{path} needs two sequences that have frames in {self.root / _DATA}; get "
                f"{self.source} again."
            )
        return sequences

    def map_names(self) -> list[str]:
        """List the frames of all sequences but the first that have a pose."""
        names = [name for names in self._sequences[1:] for name in names]
        return [name for name in names if name in self._poses_of_frames]

    def query_names(self) -> list[str]:
        """List the frames of the first sequence that have a pose."""
        return [name for name in self._sequences[0] if name in self._poses_of_frames]

    @cached_property
    def _camera(self) -> pycolmap.Camera:
        path, values = self.root / _INFO, {}
        for at, line in read_lines(path, "list of parameters"):
            key, _, text = line.partition("=")
            values[key.strip()] = (f"{path}, line {at}", text.split())
        try:
            width, height = (
                int(numbers(values[key][1], values[key][0], count=1)[0])
                for key in ("m_colorWidth", "m_colorHeight")
            )
            where, words = values[_INTRINSIC]
        except KeyError as error:
            raise ValueError(f"{path} has no line {error}; get the file again.") from None
        matrix = np.array(numbers(words, where, count=16)).reshape(4, 4)
        # Their pixel centres are integers, COLMAP's end with one half.
        params = [matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5]
        return pycolmap.Camera(model="PINHOLE", width=width, height=height, params=params)

    def camera(self, name: str) -> pycolmap.Camera:
        """Return the colour camera, the same for all frames."""
        return self._camera

    def pose(self, name: str) -> np.ndarray | None:
        """Read the pose of a frame; see :func:`read_frame_pose`."""
        return read_frame_pose(self.root / re.sub(r"color\.\w+$", "pose.txt", name))
