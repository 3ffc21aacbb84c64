"""Extended CMU Seasons: a car's two cameras over a year, in slices of its way.

Badino et al., ICRA 2011; Sattler et al., CVPR 2018. Read as released, one slice at a time::

    intrinsics.txt                                      `c0 OPENCV 1024 768 …` for both cameras
    slice2/sparse/{cameras,images,points3D}.bin         model of the database
    slice2/database/img_00119_c1_1303398475046031us.jpg
    slice2/query/…, test-images-2.txt                   names of the queries, a line each

The benchmark's file has the queries of all slices: join the ``submission.txt`` of each run. The
poses are not public; own sets may add ``ground_truth.txt`` to a slice.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pycolmap

from featplug.colmap.model_files import holds_model, read_model
from featplug.io.names import checked_name
from featplug.io.text_files import read_lines
from featplug.localization.queries import Query, read_queries
from pipelines.datasets.protocol import ModelDataset, ModelOptions

_SLICE = re.compile(r"slice(\d+)")
_CAMERA = re.compile(r"_(c\d+)_")
_NUM_LOC = 10


@dataclass(frozen=True)
class CmuOptions(ModelOptions):
    """Options of localization in a slice of Extended CMU Seasons."""

    pipeline = "cmu"

    dataset: Path = Path("datasets/cmu_extended/slice2")
    """Folder of one slice; intrinsics.txt is in the folder above it."""
    num_loc: int | None = None
    """Number of database images that each query is matched with, by retrieval; 10 by default."""

    def open(self, progress: bool = False) -> "Cmu":
        """Return the data set; see :class:`Cmu`."""
        return Cmu(self.dataset)

    @property
    def num_retrieved(self) -> int:
        """Number of database images that each query is matched with, by retrieval."""
        return _NUM_LOC if self.num_loc is None else self.num_loc


class Cmu(ModelDataset):
    """A slice of Extended CMU Seasons.

    Raises:
        FileNotFoundError: the folder is no slice, or lacks a part.
    """

    source = "Extended CMU Seasons: https://www.visuallocalization.net/datasets"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        number = _SLICE.fullmatch(self.root.resolve().name)
        slices = sorted(path.name for path in self.root.glob("slice*"))
        if number is None:
            remedy = (
                f"name one of its slices {', '.join(slices)}" if slices else f"get {self.source}"
            )
            raise FileNotFoundError(
                f"{self.root} is no slice of Extended CMU Seasons, such as slice2; {remedy}."
            )
        self.query_list = self.root / f"test-images-{number[1]}.txt"
        self.intrinsics = self.root.resolve().parent / "intrinsics.txt"
        for path in (self.query_list, self.intrinsics, self.root / "database"):
            if not path.exists():
                raise FileNotFoundError(
                    f"{self.root} lacks {path.name}: no {path}; get {self.source}."
                )
        if not holds_model(self.root / "sparse"):
            raise FileNotFoundError(
                f"{self.root} has no reference model in sparse; get {self.source}."
            )

    @cached_property
    def _cameras(self) -> dict[str, pycolmap.Camera]:
        return {query.name: query.camera for query in read_queries(self.intrinsics)}

    def reference_model(self) -> pycolmap.Reconstruction:
        """Read the model of the database; its images have no folder."""
        model = read_model(self.root / "sparse")
        for image in model.images.values():
            image.name = f"database/{image.name}"
        return model

    def queries(self) -> dict[str, list[Query]]:
        """Read the list of queries; the camera is in their names."""
        queries = []
        for at, line in read_lines(self.query_list, "list of queries"):
            where = f"{self.query_list}, line {at}"
            name, camera = checked_name(line, where), _CAMERA.search(line)
            if camera is None or camera[1] not in self._cameras:
                raise ValueError(
                    f"{where}: expected a name such as img_00119_c1_1303398475046031us.jpg, with a "
                    f"camera of {self.intrinsics.name}, got {line[:80]!r}; correct it."
                )
            queries.append(Query(f"query/{name}", self._cameras[camera[1]]))
        if not queries:
            raise ValueError(f"{self.query_list} lists no query; get {self.source} again.")
        return {"": queries}
