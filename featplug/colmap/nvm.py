"""VisualSFM's NVM files, in which Aachen's reference models are released.

After ``NVM_V3``: the number of images and a line ``name f qw qx qy qz cx cy cz d 0`` each, with the
rotation from world to camera but the camera's *centre*; then the number of points and a line
``X Y Z R G B n`` each with ``image keypoint x y`` n times. Intrinsics come from a list of their
own, since NVM has no principal point.
"""

import math
from array import array
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.colmap.known_poses import model_from_poses
from featplug.io.files import write_whole_text
from featplug.io.names import checked_name
from featplug.io.text_files import check_quaternion, iterate_lines, numbers, whole_number

_POSE_FIELDS = 11
_POINT_FIELDS = 7
_OBSERVATION_FIELDS = 4


def read_nvm(path: Path, cameras: Mapping[str, pycolmap.Camera]) -> pycolmap.Reconstruction:
    """Read an NVM file as a COLMAP model, with given cameras by image name.

    Of the keypoints, those that have a point are kept, with the coordinates of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or an image has no intrinsics.
    """
    lines = _Lines(Path(path))
    lines.start()
    poses: dict[str, np.ndarray] = {}
    for _ in range(lines.count("images")):
        name, pose = lines.pose()
        if name in poses:
            raise ValueError(f"{lines.where}: {name!r} is listed twice; get the file again.")
        poses[name] = pose
    names = list(poses)
    without = [name for name in names if name not in cameras]
    if without:
        raise ValueError(
            f"{len(without)} images of {path} have no intrinsics in the list, the first is "
            f"{without[0]!r}."
        )
    points = _Points()
    for _ in range(lines.count("points")):
        lines.point(points, len(names))
    lines.end()
    images = np.frombuffer(points.images, np.int32)
    keypoints = np.frombuffer(points.keypoints, np.float64).reshape(-1, 2)
    # Keypoints are numbered in each image as they come in the file.
    by_image = np.argsort(images, kind="stable")
    starts = np.searchsorted(images[by_image], np.arange(len(names) + 1))
    indices = np.empty(len(images), np.int64)
    indices[by_image] = np.arange(len(images)) - starts[images[by_image]]
    of_images = np.split(keypoints[by_image], starts[1:-1])
    model = model_from_poses(cameras, poses, dict(zip(names, of_images, strict=True)))
    ids_of_names = {image.name: image_id for image_id, image in model.images.items()}
    image_ids = np.array([ids_of_names[name] for name in names])
    xyz = np.frombuffer(points.xyz, np.float64).reshape(-1, 3)
    colours = np.frombuffer(points.colours, np.uint8).reshape(-1, 3)
    end = 0
    for point, colour, num in zip(xyz, colours, points.lengths, strict=True):
        start, end = end, end + num
        elements = zip(image_ids[images[start:end]], indices[start:end], strict=True)
        model.add_point3D(
            point, pycolmap.Track([pycolmap.TrackElement(*e) for e in elements]), colour
        )
    return model


def read_nvm_intrinsics(path: Path) -> dict[str, tuple[float, float]]:
    """Read the focal length in pixels and the radial distortion of each image of an NVM file.

    The distortion d is VisualSFM's: a point at (x, y) of the image plane, as measured, is at
    (1 + d r²) (x, y) without distortion, where r² = x² + y².

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    lines = _Lines(Path(path))
    lines.start()
    found = {}
    for _ in range(lines.count("images")):
        name, _ = lines.pose()
        found[name] = lines.intrinsics()
    return found


def camera_from_nvm(focal: float, distortion: float, size: tuple[int, int]) -> pycolmap.Camera:
    """Return the COLMAP camera of an NVM file's intrinsics, of images of (width, height).

    COLMAP's model distorts where VisualSFM's removes distortion: RADIAL, as the inverse series
    1 - d r² + 3 d² r⁴ to the fourth power of r. The principal point is the centre.
    """
    params = [focal, size[0] / 2, size[1] / 2, -distortion, 3 * distortion**2]
    return pycolmap.Camera(model="RADIAL", width=size[0], height=size[1], params=params)


def write_nvm(path: Path, model: pycolmap.Reconstruction) -> None:
    """Write a COLMAP model as an NVM file, with a camera's radial distortion to first order.

    Raises:
        ValueError: an NVM file cannot carry an image name.
    """
    lines = ["NVM_V3", "", str(model.num_images())]
    index = {image_id: i for i, image_id in enumerate(sorted(model.images))}
    for image_id in index:
        image, camera = model.images[image_id], model.cameras[model.images[image_id].camera_id]
        rotation = image.cam_from_world().rotation.matrix()
        x, y, z, w = Rotation.from_matrix(rotation).as_quat(canonical=True)
        distortion = -camera.params[3] if camera.model.name == "SIMPLE_RADIAL" else 0
        numbers = (camera.focal_length_x, w, x, y, z, *image.projection_center(), distortion)
        lines.append(
            " ".join([checked_name(image.name), *(f"{number:.12g}" for number in numbers), "0"])
        )
    lines += ["", str(model.num_points3D())]
    for _, point in sorted(model.points3D.items()):
        words = [f"{value:.12g}" for value in (*point.xyz, *point.color)]
        words.append(str(len(point.track.elements)))
        for element in point.track.elements:
            x, y = model.images[element.image_id].points2D[element.point2D_idx].xy
            words += [str(index[element.image_id]), str(element.point2D_idx)]
            words += [f"{x:.6f}", f"{y:.6f}"]
        lines.append(" ".join(words))
    write_whole_text(Path(path), "\n".join([*lines, "", "0", ""]))


class _Points:
    """The points of a file, one after the other, in little memory."""

    def __init__(self) -> None:
        self.xyz = array("d")
        self.colours = array("B")
        self.lengths = array("i")
        """Number of observations of each point."""
        self.images = array("i")
        """Number of the image of each observation."""
        self.keypoints = array("d")
        """(x, y) of each observation."""


class _Lines:
    """The lines of one file that are not empty, with errors that name them."""

    def __init__(self, path: Path) -> None:
        numbered = iterate_lines(path, "NVM model")
        self._path = path
        self._lines = ((number, line) for number, line in numbered if line.strip())
        self._number, self._line = 0, ""

    @property
    def where(self) -> str:
        """The file and the number of the line that was read last."""
        return f"{self._path}, line {self._number}"

    def start(self) -> None:
        """Read the first line, which states the format."""
        if not self.words()[0].startswith("NVM_V3"):
            raise ValueError(f"{self._path} is not an NVM file: it does not start with NVM_V3.")

    def words(self) -> list[str]:
        """Return the next line's words."""
        try:
            self._number, self._line = next(self._lines)
        except StopIteration:
            raise ValueError(f"{self._path} ends early, it is truncated; get it again.") from None
        return self._line.split()

    def end(self) -> None:
        """Check that no image or point follows those that were announced."""
        _, line = next(self._lines, (0, "0"))
        if line.split()[0] != "0" and not line.lstrip().startswith("#"):
            self._number += 1
            raise self._damaged("the end of the model", line.split())

    def count(self, what: str) -> int:
        """Return the next line's number."""
        words = self.words()
        if len(words) != 1:
            raise self._damaged(f"the number of {what}", words)
        return whole_number(words[0], self.where, f"the number of {what}", 0)

    def pose(self) -> tuple[str, np.ndarray]:
        """Return an image's name and ``cam_from_world``."""
        words = self.words()
        if len(words) != _POSE_FIELDS:
            raise self._damaged("`name f qw qx qy qz cx cy cz d 0`", words)
        values = np.array(numbers(words[1:], self.where))
        check_quaternion(values[1:5].tolist(), self.where)
        rotation = Rotation.from_quat(values[[2, 3, 4, 1]]).as_matrix()
        pose = np.column_stack([rotation, -rotation @ values[5:8]])
        return checked_name(words[0], self.where), pose

    def intrinsics(self) -> tuple[float, float]:
        """Return the focal length and the distortion of the image that was read last."""
        words = self._line.split()
        focal, distortion = numbers([words[1], words[9]], self.where)
        if not focal > 0:
            raise self._damaged("a focal length above 0", words)
        return focal, distortion

    def point(self, points: _Points, num_images: int) -> None:
        """Read a point with what was observed of it."""
        words = self.words()
        try:
            if "_" in self._line or not self._line.isascii():  # which Python takes for digits
                raise ValueError
            num = int(words[6])
            observations = words[_POINT_FIELDS:]
            images = [int(word) for word in observations[::_OBSERVATION_FIELDS]]
            complete = len(observations) == _OBSERVATION_FIELDS * num
            if not complete or min(images) < 0 or max(images) >= num_images:
                raise IndexError
            xyz = [float(word) for word in words[:3]]
            if not all(map(math.isfinite, xyz)):
                raise ValueError
            points.xyz.extend(xyz)
            points.colours.extend(map(int, words[3:6]))
            points.lengths.append(num)
            points.images.extend(images)
            for x, y in zip(
                observations[2::_OBSERVATION_FIELDS],
                observations[3::_OBSERVATION_FIELDS],
                strict=True,
            ):
                keypoint = float(x), float(y)
                if not (math.isfinite(keypoint[0]) and math.isfinite(keypoint[1])):
                    raise ValueError
                points.keypoints.extend(keypoint)
        except (ValueError, IndexError, OverflowError) as error:
            raise self._damaged("`X Y Z R G B n` and n observations", words) from error

    def _damaged(self, expected: str, words: list[str]) -> ValueError:
        shown = " ".join(words)[:60]
        return ValueError(
            f"{self.where}: expected {expected}, got {shown!r}; the file is damaged, get it again."
        )
