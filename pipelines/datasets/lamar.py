"""LaMAR in kapture's form: phones and headsets in large places, and other sets of that form.

Sarlin et al., ECCV 2022; as Gangnam Station and others are released. Two kapture folders::

    CAB/mapping/sensors/{sensors,records_camera,trajectories,rigs}.txt, records_data/…
    CAB/query/sensors/{sensors,records_camera,rigs}.txt, records_data/…

The poses of the queries are public for validation only: ``query/sensors/trajectories.txt``.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pycolmap

from featplug.io.exchange.kapture_sensors import IMAGES, RECORDS, KaptureImage, read_images
from featplug.io.names import checked_name
from featplug.localization.evaluation import RecallRules
from pipelines.datasets.posed_images import PosedImages
from pipelines.datasets.protocol import ModelOptions

_MAP, _QUERIES = "mapping", "query"


@dataclass(frozen=True)
class LamarOptions(ModelOptions):
    """Options of localization in a place of LaMAR, or in another data set in kapture's form."""

    pipeline = "lamar"
    rules = RecallRules(((0.1, 1.0), (0.25, 2.0), (1.0, 5.0)))

    dataset: Path = Path("datasets/lamar/CAB")
    """Folder of one place, with the kapture folders mapping and query."""

    def open(self, progress: bool = False) -> "Lamar":
        """Return the data set; see :class:`Lamar`."""
        return Lamar(self.dataset)


class Lamar(PosedImages):
    """A place of LaMAR in kapture's form.

    Raises:
        FileNotFoundError: the folder lacks one of the two kapture folders.
    """

    source = "LaMAR: https://lamar.ethz.ch, or another set by kapture_download_dataset.py"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for part in (_MAP, _QUERIES):
            if not (self.root / part / RECORDS).is_file():
                places = sorted(p.parents[2].name for p in self.root.glob(f"*/{_MAP}/{RECORDS}"))
                named = f"name one of its places {', '.join(places)}"
                raise FileNotFoundError(
                    f"{self.root} has no kapture folder {part} with {RECORDS}; "
                    f"{named if places else f'get {self.source}'}."
                )

    @cached_property
    def _images(self) -> dict[str, KaptureImage]:
        return {
            f"{part}/{IMAGES}/{checked_name(name, str(self.root / part / RECORDS))}": image
            for part in (_MAP, _QUERIES)
            for name, image in read_images(self.root / part).items()
        }

    def map_names(self) -> list[str]:
        """List the images of the map that have a pose."""
        return [n for n in self._of(_MAP) if self._images[n].cam_from_world is not None]

    def query_names(self) -> list[str]:
        """List the queries."""
        return self._of(_QUERIES)

    def _of(self, part: str) -> list[str]:
        return sorted(name for name in self._images if name.startswith(f"{part}/"))

    def camera(self, name: str) -> pycolmap.Camera:
        """Return the intrinsics of an image."""
        return self._images[name].sensor.camera()

    def pose(self, name: str) -> np.ndarray | None:
        """Return ``cam_from_world`` 3×4 of an image, or None where it is not public."""
        return self._images[name].cam_from_world

    def submission_name(self, name: str) -> str:
        """Return the name in the kapture folder."""
        return name.removeprefix(f"{_QUERIES}/{IMAGES}/")
