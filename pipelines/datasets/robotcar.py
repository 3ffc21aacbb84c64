"""RobotCar Seasons: a car's three cameras in other weather, by night, and in other seasons.

Sattler et al., CVPR 2018. Read as released::

    images/overcast-reference/{left,right,rear}/1417178384.jpg      the reference condition
    images/night-rain/rear/…                                        nine conditions of queries
    intrinsics/{left,right,rear}_intrinsics.txt                     fx, fy, cx, cy, a line each
    3D-models/all-merged/all.nvm

The benchmark's form names a query by its camera and base name. Its poses are not public; own sets
may add ``ground_truth.txt``.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import pycolmap

from featplug.colmap.nvm import read_nvm, read_nvm_intrinsics
from featplug.io.image_folder import list_images
from featplug.io.images import read_image_size
from featplug.io.text_files import number, read_lines
from featplug.localization.queries import Query
from pipelines.datasets.protocol import ModelDataset, ModelOptions

_REFERENCE = "overcast-reference"
_MODEL = Path("3D-models") / "all-merged" / "all.nvm"
_PARAMS = "fx", "fy", "cx", "cy"
_NUM_LOC = 20


@dataclass(frozen=True)
class RobotCarOptions(ModelOptions):
    """Options of localization in RobotCar Seasons."""

    pipeline = "robotcar"

    dataset: Path = Path("datasets/robotcar")
    """Folder of RobotCar Seasons as released, or of a set in its layout."""
    num_loc: int | None = None
    """Number of database images that each query is matched with, by retrieval; 20 by default."""

    def open(self, progress: bool = False) -> "RobotCar":
        """Return the data set; see :class:`RobotCar`."""
        return RobotCar(self.dataset)

    @property
    def num_retrieved(self) -> int:
        """Number of database images that each query is matched with, by retrieval."""
        return _NUM_LOC if self.num_loc is None else self.num_loc


class RobotCar(ModelDataset):
    """RobotCar Seasons.

    Raises:
        FileNotFoundError: the folder lacks images, intrinsics or the reference model.
    """

    source = "RobotCar Seasons: https://www.visuallocalization.net/datasets"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.image_dir = self.root / "images"
        for path in (self.image_dir / _REFERENCE, self.root / "intrinsics", self.root / _MODEL):
            if not path.exists():
                raise FileNotFoundError(
                    f"{self.root} is no RobotCar Seasons dataset: it has no "
                    f"{path.relative_to(self.root)}; get {self.source}."
                )

    @cached_property
    def _names(self) -> list[str]:
        return list_images(self.image_dir)

    @cached_property
    def _cameras(self) -> dict[str, pycolmap.Camera]:
        """Side, such as rear, to its camera."""
        cameras = {}
        for path in sorted((self.root / "intrinsics").glob("*_intrinsics.txt")):
            side = path.name.removesuffix("_intrinsics.txt")
            values = {}
            for at, line in read_lines(path, "list of intrinsics"):
                key, _, word = line.partition(" ")
                values[key] = number(word.strip(), f"{path}, line {at}")
            if missing := [name for name in _PARAMS if name not in values]:
                raise ValueError(f"{path} has no {missing[0]}; get {self.source} again.")
            of_side = [n for n in self._names if PurePosixPath(n).parent.name == side]
            if of_side:
                image = min(of_side, key=lambda name: (not name.startswith(_REFERENCE), name))
                width, height = read_image_size(self.image_dir / image)
                params = [values[name] for name in _PARAMS]
                cameras[side] = pycolmap.Camera(
                    model="PINHOLE", width=width, height=height, params=params
                )
        return cameras

    def _camera(self, name: str) -> pycolmap.Camera:
        side = PurePosixPath(name).parent.name
        if side not in self._cameras:
            path = self.root / "intrinsics" / f"{side}_intrinsics.txt"
            raise FileNotFoundError(f"{self.image_dir / name} has no intrinsics: no {path}.")
        return self._cameras[side]

    def reference_model(self) -> pycolmap.Reconstruction:
        """Read the reference model, which names the images PNG and the release JPEG."""
        path = self.root / _MODEL
        model = read_nvm(path, {name: self._camera(name) for name in read_nvm_intrinsics(path)})
        for image in model.images.values():
            image.name = str(PurePosixPath(image.name).with_suffix(".jpg"))
        return model

    def queries(self) -> dict[str, list[Query]]:
        """Return the queries of each condition: its folder's images."""
        conditions: dict[str, list[Query]] = defaultdict(list)
        for name in self._names:
            condition = name.partition("/")[0]
            if condition != _REFERENCE:
                conditions[condition].append(Query(name, self._camera(name)))
        if not conditions:
            raise ValueError(
                f"{self.image_dir} has no folder of queries, such as night; get {self.source}."
            )
        return dict(conditions)

    def submission_name(self, name: str) -> str:
        """Return the camera and the base name, such as ``rear/1418133985.jpg``."""
        return "/".join(PurePosixPath(name).parts[-2:])
