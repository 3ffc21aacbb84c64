"""Cambridge Landmarks: photographs of buildings by phone, with a VisualSFM model.

Kendall et al., ICCV 2015. Read as released, a folder for each scene::

    KingsCollege/seq1/frame00001.png
    KingsCollege/dataset_train.txt, dataset_test.txt     three lines, then `name X Y Z W P Q R`
    KingsCollege/reconstruction.nvm                      of the photographs of both

The lists have the centre of the camera and the rotation from world to camera.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.colmap.known_poses import keep_images
from featplug.colmap.nvm import camera_from_nvm, read_nvm, read_nvm_intrinsics
from featplug.io.images import read_image_size
from featplug.io.names import checked_name
from featplug.io.text_files import check_quaternion, numbers, read_lines
from featplug.localization.evaluation import RecallRules
from featplug.localization.queries import Query
from pipelines.datasets.protocol import ModelDataset, ModelOptions

_TRAIN, _TEST, _MODEL = "dataset_train.txt", "dataset_test.txt", "reconstruction.nvm"
_HEAD = "Visual Landmark Dataset", "ImageFile"


@dataclass(frozen=True)
class CambridgeOptions(ModelOptions):
    """Options of localization in a scene of Cambridge Landmarks."""

    pipeline = "cambridge"
    rules = RecallRules(((0.05, 5.0), (0.25, 2.0), (0.5, 5.0), (5.0, 10.0)))

    dataset: Path = Path("datasets/cambridge/KingsCollege")
    """Folder of one scene."""

    def open(self, progress: bool = False) -> "Cambridge":
        """Return the data set; see :class:`Cambridge`."""
        return Cambridge(self.dataset)


class Cambridge(ModelDataset):
    """A scene of Cambridge Landmarks.

    Raises:
        FileNotFoundError: the folder is no scene.
    """

    source = "Cambridge Landmarks: https://www.repository.cam.ac.uk/handle/1810/251342"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for name in (_TRAIN, _TEST, _MODEL):
            if not (self.root / name).is_file():
                scenes = sorted(path.parent.name for path in self.root.glob(f"*/{_TRAIN}"))
                named = f"name one of its scenes {', '.join(scenes)}"
                raise FileNotFoundError(
                    f"{self.root} is no scene of Cambridge Landmarks: it has no {name}; "
                    f"{named if scenes else f'get {self.source}'}."
                )

    @cached_property
    def _train(self) -> dict[str, np.ndarray]:
        return read_landmark_poses(self.root / _TRAIN)

    @cached_property
    def _test(self) -> dict[str, np.ndarray]:
        return read_landmark_poses(self.root / _TEST)

    @cached_property
    def _size(self) -> tuple[int, int]:
        name = next(iter(self._train))
        found = (name for name in self._train if (self.root / name).is_file())
        return read_image_size(self.root / next(found, name))

    @cached_property
    def _cameras(self) -> dict[str, pycolmap.Camera]:
        """Image of the model, without suffix, to its camera."""
        listed = read_nvm_intrinsics(self.root / _MODEL)
        return {
            _stem(name): camera_from_nvm(*values, self._size) for name, values in listed.items()
        }

    def reference_model(self) -> pycolmap.Reconstruction:
        """Read the model of the training photographs; it is released with the queries in it."""
        # The model has the photographs as JPEG, the release as PNG.
        names = {_stem(name): name for name in self._train}
        listed = read_nvm_intrinsics(self.root / _MODEL)
        model = read_nvm(self.root / _MODEL, {name: self._cameras[_stem(name)] for name in listed})
        for image in model.images.values():
            image.name = names.get(_stem(image.name), image.name)
        keep_images(model, set(self._train))
        if not model.num_reg_images():
            raise ValueError(
                f"{self.root / _MODEL} has none of the images of {_TRAIN}; get {self.source} again."
            )
        return model

    def queries(self) -> dict[str, list[Query]]:
        """Read the test photographs, with the model's cameras."""
        cameras = self._cameras
        focal = float(np.median([camera.params[0] for camera in cameras.values()]))
        of_others = camera_from_nvm(focal, 0.0, self._size)
        return {"": [Query(name, cameras.get(_stem(name), of_others)) for name in self._test]}

    def truth(self) -> dict[str, np.ndarray]:
        """Return the true poses of the queries."""
        return self._test

    def submission_name(self, name: str) -> str:
        """Return the whole name: frames of several sequences have the same base names."""
        return name


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def read_landmark_poses(path: Path) -> dict[str, np.ndarray]:
    """Read a list of images with poses, lines ``name X Y Z W P Q R`` after three of a heading.

    Returns:
        Image name to ``cam_from_world`` 3×4.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line is not a pose, or there is none.
    """
    poses = {}
    for at, line in read_lines(path, "list of poses"):
        if line.startswith(_HEAD):
            continue
        where = f"{path}, line {at}"
        word, *words = line.split()
        values = np.array(numbers(words, where, "numbers X Y Z W P Q R after the name", count=7))
        check_quaternion(values[3:].tolist(), where)
        rotation = Rotation.from_quat(values[[4, 5, 6, 3]]).as_matrix()
        poses[checked_name(word, where)] = np.column_stack([rotation, -rotation @ values[:3]])
    if not poses:
        raise ValueError(f"{path} lists no image; get the file again.")
    return poses
