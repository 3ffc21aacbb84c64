"""Image pairs with their true geometry, and the checks of both."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.pair_values import MEAN_OF_SCENES
from benchmarks.record import Problem
from featplug.io.image_files import IMAGE_SUFFIXES
from featplug.io.images import read_image_size
from featplug.io.text_tables import check_rotation, read_matrix
from featplug.metrics.epipolar import fundamental_from_pose
from featplug.metrics.homography import Size, corner_error, overlap

_LEAST_OVERLAP = 0.01
"""Fraction of image 0 that lies in image 1; the hardest known pairs have ten times as much."""
_STILL = 2.0
"""Largest shift of the corners, in pixels, by a camera that did not move."""
_FARTHEST = 0.25
"""Largest distance of a principal point from the image's centre, in widths and heights."""
_FOCAL_LENGTHS = (0.1, 100.0)
"""Focal lengths of cameras, in longer sides of the image: of 157° and of 0.6°."""
_OTHER_SIZE = 0.1
"""Least fraction by which sides differ where intrinsics are taken for those of another image."""
_ROUNDING = 1e-3
"""Largest deviation of the products of a rotation's columns: 0.03° of its angles."""
_RESERVED = "all", MEAN_OF_SCENES
"""Names of rows that no part or sequence may have."""
_SAME = 0.05
"""Largest difference between the ratios of widths and of heights, for the same reason."""


@dataclass(frozen=True)
class ImagePair:
    """Two images of one scene, and their true geometry; pixel centres are at integers.

    What is known is at least one of a homography, a fundamental matrix, correspondences, and
    intrinsics with a pose.
    """

    name0: str
    """Path relative to the data set's folder."""
    name1: str
    sequence: str
    part: str | None = None
    """Part of the data set: illumination, viewpoint, day, …; None where it has no parts."""
    homography: np.ndarray | None = None
    """3×3, from image 0 to image 1, with positive third coordinates in the image."""
    fundamental: np.ndarray | None = None
    """3×3 with x1ᵀ F x0 = 0."""
    correspondences: np.ndarray | None = None
    """M×4: x, y in image 0, then x, y in image 1."""
    intrinsics: tuple[np.ndarray, np.ndarray] | None = None
    """K of both images, 3×3, where they are known; images are undistorted."""
    cam1_from_cam0: np.ndarray | None = None
    """Pose 3×4 of camera 0's coordinates in camera 1."""
    unit: str | None = None
    """Unit of the pose's translation, such as m; None where its length is not known."""
    sizes: tuple[Size, Size] | None = None
    """(width, height) of both images as the data set states them; None where it does not."""

    @property
    def true_fundamental(self) -> np.ndarray | None:
        """Fundamental matrix, the known one, or that of intrinsics and pose; None without both."""
        if self.fundamental is not None or self.intrinsics is None or self.cam1_from_cam0 is None:
            return self.fundamental
        return fundamental_from_pose(*self.intrinsics, self.cam1_from_cam0)


@dataclass
class PairSet:
    """The pairs of a data set on disk."""

    name: str
    """Name of the data set: hpatches, oxford, rdnim, wxbs."""
    folder: Path
    pairs: list[ImagePair]
    problems: list[Problem] = field(default_factory=list)
    """Damaged pairs, which are left out."""
    sequences: tuple[str, ...] = ()
    """All sequences of the released data set; empty where they are not known."""
    _listed: dict[tuple[str, str], str] = field(default_factory=dict, init=False, repr=False)
    """Names of each pair, to where it is listed first."""

    @property
    def names(self) -> list[str]:
        """Images of all pairs."""
        return list(dict.fromkeys(name for p in self.pairs for name in (p.name0, p.name1)))

    def check_listed_once(self, pair: ImagePair, where: str) -> None:
        """Note where a pair is listed, and raise ValueError if it was listed before.

        The same images in the other order are another pair, as in the released lists.
        """
        first = self._listed.setdefault((pair.name0, pair.name1), where)
        if first != where:
            raise ValueError(
                f"{where}: the pair {pair.name0} {pair.name1} is listed before, in {first}, and "
                "counts once; remove it."
            )


def images_of(folder: Path) -> dict[str, str]:
    """Map the names of a folder's images without their suffix to the whole names."""
    files = sorted(folder.iterdir())
    return {path.stem: path.name for path in files if path.suffix.lower() in IMAGE_SUFFIXES}


def read_homography(path: Path) -> np.ndarray:
    """Read a 3×3 homography.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a homography.
    """
    matrix = read_matrix(path, 3, 3, "homography")
    # A good homography has a large condition number, too: its entries are of very different sizes.
    if np.linalg.cond(matrix) > 1e12:
        raise ValueError(f"{path} is not a 3×3 homography: it cannot be inverted; get it again.")
    return -matrix if matrix[2, 2] < 0 else matrix


def read_fundamental_matrix(path: Path) -> np.ndarray:
    """Read a 3×3 fundamental matrix.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a fundamental matrix.
    """
    matrix = read_matrix(path, 3, 3, "fundamental matrix")
    values = np.linalg.svd(matrix, compute_uv=False)
    if values[1] <= 1e-12 * values[0]:
        raise ValueError(f"{path} is not a fundamental matrix: its rank is below 2; get it again.")
    return matrix


def check_pose(cam1_from_cam0: np.ndarray, where: str) -> None:
    """Check that a pose 3×4 is a rotation and a translation other than zero.

    Raises:
        ValueError: it is not; the message begins with ``where``.
    """
    if cam1_from_cam0.shape != (3, 4) or not np.isfinite(cam1_from_cam0).all():
        raise ValueError(f"{where}: expected a pose of 3×4 finite numbers; get the file again.")
    check_rotation(cam1_from_cam0[:, :3], f"{where}, the pose", _ROUNDING)
    if not cam1_from_cam0[:, 3].any():
        raise ValueError(
            f"{where}: the pose has no translation, so that its direction is not defined; leave "
            "the pair out."
        )


def check_intrinsics(intrinsics: np.ndarray, size: Size, where: str) -> None:
    """Check that a matrix K, 3×3, can be that of a camera whose images have this size.

    Args:
        intrinsics: [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] in pixels.
        size: (width, height) of the image.
        where: file, line and image, for messages.

    Raises:
        ValueError: it is no such matrix, or one of images of another size.
    """
    is_finite = intrinsics.shape == (3, 3) and np.isfinite(intrinsics).all()
    if not is_finite or np.tril(intrinsics, -1).any():
        raise ValueError(f"{where}: expected K as fx skew cx 0 fy cy 0 0 1; correct it.")
    if intrinsics[2, 2] != 1:
        raise ValueError(
            f"{where}: the last number of K is {intrinsics[2, 2]:g}, not 1; correct it."
        )
    focal, longer = np.diag(intrinsics)[:2], max(size)
    least, most = (factor * longer for factor in _FOCAL_LENGTHS)
    if focal.min() < least or focal.max() > most or focal.max() > 2 * focal.min():
        raise ValueError(
            f"{where}: no camera has focal lengths of {focal[0]:g} and {focal[1]:g} pixels in "
            f"images of {size[0]}×{size[1]}; correct K, or scale it to the image."
        )
    centre = 2 * intrinsics[:2, 2] + 1
    ratio = centre / size  # 1 in the middle of the image
    is_other = (np.abs(ratio - 1) > _OTHER_SIZE).all()
    is_scaled = is_other and np.ptp(ratio) < _SAME * ratio.max()
    is_turned = is_other and np.abs(centre / size[::-1] - 1).max() < _SAME
    if is_scaled or is_turned or np.abs(ratio - 1).max() > 2 * _FARTHEST:
        x, y = intrinsics[:2, 2]
        raise ValueError(
            f"{where}: the principal point ({x:g}, {y:g}) is not near the centre of the image of "
            f"{size[0]}×{size[1]} pixels: K is of an image of another size, or a turned one; use "
            "that image, or correct K."
        )


def check_sizes(folder: Path, pair: ImagePair, where: str = "") -> None:
    """Reject images whose sizes do not fit what is known of them, as far as that is noticeable.

    Args:
        folder: folder of the images.
        pair: images and truth.
        where: file and line of intrinsics and pose, for messages; that of image 0 by default.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: an image is damaged, image 0 lies outside of image 1, the camera stood still
            but the sizes differ, the intrinsics are of other sizes, or the pose is none.
    """
    names = pair.name0, pair.name1
    if pair.name0 == pair.name1:
        raise ValueError(f"{where or folder / pair.name0}: an image is paired with itself.")
    sizes = read_image_size(folder / pair.name0), read_image_size(folder / pair.name1)
    where = where or str(folder / pair.name0)
    for name, size, stated in zip(names, sizes, pair.sizes or sizes, strict=True):
        if size != stated:
            raise ValueError(
                f"{where}: {folder / name} has {size[0]}×{size[1]} pixels, and {stated[0]}×"
                f"{stated[1]} in the data set, which its intrinsics are of; use that image."
            )
    for subject in (pair.part, pair.sequence):
        if subject in _RESERVED:
            raise ValueError(
                f"{where}: {subject!r} is the name of the row of all pairs, or of their scenes; "
                "rename the file or folder that names this part."
            )
    if pair.cam1_from_cam0 is not None:
        check_pose(pair.cam1_from_cam0, where)
    for name, size, matrix in zip(names, sizes, pair.intrinsics or (), strict=False):
        check_intrinsics(matrix, size, f"{where}, intrinsics of {name}")
    if pair.homography is None:
        return
    shown = " and ".join(f"{width}×{height}" for width, height in sizes)
    if overlap(pair.homography, sizes) < _LEAST_OVERLAP:
        raise ValueError(
            f"The homography from {folder / pair.name0} to {Path(pair.name1).name} sends all of it "
            f"out of the image: the images of {shown} pixels or the homography are not those of "
            "the data set; download them again."
        )
    moved = corner_error(np.eye(3), pair.homography, sizes[0])
    if sizes[0] != sizes[1] and moved < _STILL:
        raise ValueError(
            f"{folder / pair.name0} and {Path(pair.name1).name} have {shown} pixels, but their "
            "homography moves nothing: one of them was resized."
        )


def add_pair(
    pair_set: PairSet, truth: Path, read: Callable[[], ImagePair], place: str = ""
) -> None:
    """Add the pair that ``read`` returns, or a problem with the file of its truth.

    Args:
        pair_set: pairs, which are added to.
        truth: file below the data set's folder.
        read: returns the pair.
        place: place in a file with many pairs, such as ``line 3``.
    """
    where = f"{truth}, {place}" if place else str(truth)
    try:
        pair = read()
        pair_set.check_listed_once(pair, where)
        check_sizes(pair_set.folder, pair, where if place else "")
    except (ValueError, FileNotFoundError) as error:
        subject = truth.relative_to(pair_set.folder).as_posix()
        pair_set.problems.append(Problem(f"{subject}, {place}" if place else subject, str(error)))
    else:
        pair_set.pairs.append(_with_rotation(pair))


def _with_rotation(pair: ImagePair) -> ImagePair:
    """Return a pair with the rotation that is nearest to its pose's, which was rounded."""
    if pair.cam1_from_cam0 is None:
        return pair
    rotation = Rotation.from_matrix(pair.cam1_from_cam0[:, :3]).as_matrix()
    pose = np.column_stack([rotation, pair.cam1_from_cam0[:, 3]])
    return replace(pair, cam1_from_cam0=pose)
