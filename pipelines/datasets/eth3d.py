"""ETH3D: high-resolution photographs of indoor and outdoor scenes, with poses from laser scans.

Schöps et al., CVPR 2017, high-resolution multi-view. Read as released, a folder for each scene::

    courtyard/images/dslr_images_undistorted/DSC_0286.JPG
    courtyard/dslr_calibration_undistorted/{cameras,images,points3D}.txt
    courtyard/images/dslr_images/, dslr_calibration_jpg/           of the distorted photographs

The benchmark has no queries: every second photograph is localized in the model of the others.
``featplug sfm --images SCENE/images --reference SCENE/dslr_calibration_undistorted`` reconstructs a
scene and measures the poses.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.known_poses import keep_images
from featplug.colmap.model_files import holds_model, read_model
from featplug.localization.evaluation import RecallRules
from featplug.localization.queries import Query
from featplug.metrics.poses import model_cameras, model_poses
from pipelines.datasets.protocol import ModelDataset, ModelOptions

_CALIBRATIONS = "dslr_calibration_undistorted", "dslr_calibration_jpg"
_LEAST_IMAGES = 4


@dataclass(frozen=True)
class Eth3dOptions(ModelOptions):
    """Options of localization in a scene of ETH3D."""

    pipeline = "eth3d"
    rules = RecallRules(((0.01, 1.0), (0.02, 2.0), (0.05, 5.0)))

    dataset: Path = Path("datasets/eth3d/courtyard")
    """Folder of one scene."""

    def open(self, progress: bool = False) -> "Eth3d":
        """Return the data set; see :class:`Eth3d`."""
        return Eth3d(self.dataset)


class Eth3d(ModelDataset):
    """A scene of ETH3D.

    Raises:
        FileNotFoundError: the folder is no scene.
    """

    source = "ETH3D, high-res multi-view: https://www.eth3d.net/datasets"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        folders = [self.root / name for name in _CALIBRATIONS]
        found = next((folder for folder in folders if holds_model(folder)), None)
        self.image_dir = self.root / "images"
        if found is None or not self.image_dir.is_dir():
            scenes = sorted(
                {p.parent.name for name in _CALIBRATIONS for p in self.root.glob(f"*/{name}")}
            )
            remedy = (
                f"name one of its scenes {', '.join(scenes)}" if scenes else f"get {self.source}"
            )
            missing = "calibration" if found is None else "folder images"
            raise FileNotFoundError(
                f"{self.root} is no scene of ETH3D: it has no {missing}; {remedy}."
            )
        self.model_dir = found

    @cached_property
    def _model(self) -> pycolmap.Reconstruction:
        return read_model(self.model_dir)

    @cached_property
    def _names(self) -> list[str]:
        names = sorted(model_poses(self._model))
        if len(names) < _LEAST_IMAGES:
            raise ValueError(f"{self.model_dir} has {len(names)} images; get {self.source} again.")
        return names

    def reference_model(self) -> pycolmap.Reconstruction:
        """Read the model of every second photograph, from the first."""
        model = read_model(self.model_dir)
        keep_images(model, set(self._names[::2]))
        return model

    def queries(self) -> dict[str, list[Query]]:
        """Return the other photographs with their cameras."""
        cameras = model_cameras(self._model)
        return {"": [Query(name, cameras[name]) for name in self._names[1::2]]}

    def truth(self) -> dict[str, np.ndarray]:
        """Return the true poses of the queries."""
        poses = model_poses(self._model)
        return {name: poses[name] for name in self._names[1::2]}
