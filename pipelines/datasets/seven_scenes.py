"""7-Scenes: RGB-D frames of seven rooms, with the poses of KinectFusion.

Shotton et al., CVPR 2013. Read as released, a folder for each scene::

    chess/TrainSplit.txt, TestSplit.txt        a line `sequence1` for each sequence
    chess/seq-01/frame-000000.color.png        640×480
    chess/seq-01/frame-000000.pose.txt         world_from_camera, 4×4, in metres

A folder of frames alone, such as one sequence, is split: even frames are the map, odd ones queries.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pycolmap

from featplug.io.images import read_image_size
from featplug.io.text_files import read_lines
from featplug.localization.evaluation import RecallRules
from pipelines.datasets.posed_images import (
    PosedImages,
    centred_camera,
    color_frames,
    read_frame_pose,
)
from pipelines.datasets.protocol import ModelOptions
from pipelines.run_options import require_positive

_MAP, _QUERIES = "TrainSplit.txt", "TestSplit.txt"
_WIDTH = 640


@dataclass(frozen=True)
class SevenScenesOptions(ModelOptions):
    """Options of localization in a scene of 7-Scenes."""

    pipeline = "7scenes"
    rules = RecallRules(((0.05, 5.0), (0.1, 5.0)))

    dataset: Path = Path("datasets/7scenes/chess")
    """Folder of one scene, or of the frames of one sequence."""
    focal: float = 525.0
    """Focal length of the colour camera in pixels of its images, 640 wide. The release states 585,
    that of the depth camera; 525 fits the colour images better."""

    def open(self, progress: bool = False) -> "SevenScenes":
        """Return the data set; see :class:`SevenScenes`."""
        return SevenScenes(self.dataset, self.focal)

    def check(self) -> str:
        """Check the request; see :meth:`LocalizeOptions.check`."""
        require_positive(focal=self.focal)
        return super().check()


class SevenScenes(PosedImages):
    """A scene of 7-Scenes.

    Raises:
        FileNotFoundError: the folder is no scene.
    """

    source = "7-Scenes: https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/"

    def __init__(self, root: Path, focal: float = 525.0) -> None:
        super().__init__(root)
        self.focal = focal
        self.frames = _frames(self.root)
        """Frames in the folder itself, which is then one sequence."""
        if not self.frames and not (self.root / _MAP).is_file():
            scenes = sorted(path.parent.name for path in self.root.glob(f"*/{_MAP}"))
            remedy = (
                f"name one of its scenes {', '.join(scenes)}" if scenes else f"get {self.source}"
            )
            raise FileNotFoundError(
                f"{self.root} is no scene of 7-Scenes: it has neither {_MAP} nor frames such as "
                f"frame-000000.color.png; {remedy}."
            )

    def _of_split(self, path: Path) -> list[str]:
        """Return the frames of the sequences that a list names."""
        names = []
        for at, line in read_lines(path, "split"):
            found = re.fullmatch(r"sequence(\d+)", line)
            if found is None:
                raise ValueError(
                    f"{path}, line {at}: expected `sequence1`, got {line!r}; correct it."
                )
            folder = f"seq-{int(found[1]):02}"
            frames = _frames(self.root / folder)
            if not frames:
                raise FileNotFoundError(
                    f"{path}, line {at}: {self.root / folder} has no frames such as "
                    f"frame-000000.color.png; unpack {folder}.zip of {self.source}."
                )
            names += [f"{folder}/{frame}" for frame in frames]
        if not names:
            raise ValueError(f"{path} lists no sequence; get {self.source}.")
        return names

    def map_names(self) -> list[str]:
        """List the frames of the training sequences, or the even ones of a single sequence."""
        return self.frames[::2] or self._of_split(self.root / _MAP)

    def query_names(self) -> list[str]:
        """List the frames of the test sequences, or the odd ones of a single sequence."""
        return self.frames[1::2] if self.frames else self._of_split(self.root / _QUERIES)

    @cached_property
    def _size(self) -> tuple[int, int]:
        return read_image_size(self.root / self.map_names()[0])

    def camera(self, name: str) -> pycolmap.Camera:
        """Return the colour camera, the same for all frames; smaller copies have a smaller one."""
        return centred_camera(self.focal * self._size[0] / _WIDTH, self._size)

    def pose(self, name: str) -> np.ndarray | None:
        """Read the pose of a frame; see :func:`read_frame_pose`."""
        return read_frame_pose(self.root / re.sub(r"color\.\w+$", "pose.txt", name))


def _frames(folder: Path) -> list[str]:
    """List the colour images of a folder of frames, also those that are missing."""
    return color_frames(path.name for path in folder.glob("frame-*"))
