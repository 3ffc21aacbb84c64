"""ScanNet-1500: 15 pairs of each of 100 test scenes of ScanNet (Dai et al., CVPR 2017).

SuperGlue (Sarlin et al., CVPR 2020) chose the pairs. Images are ``sceneNNNN_00/color/FRAME.jpg``;
the first of these lists that the folder has is read:

- glue-factory's ``pairs_calibrated.txt``, in the form of :mod:`benchmarks.pairs.posed_pairs`;
- LoFTR's ``test.npz`` (Sun et al., CVPR 2021), in the folder or in one below it: ``name``, N×4
  numbers of the scene, its scan and two frames, and ``rel_pose``, N×12, a pose 3×4 by rows. A pose
  is that of ``sceneNNNN_00/pose/FRAME.txt`` (4×4, camera to world), where both files exist, since
  ``rel_pose`` has five digits. K is that of ``intrinsics.npz`` next to it, or of
  ``sceneNNNN_00/intrinsic/intrinsic_color.txt``;
- SuperGlue's ``scannet_test_pairs_with_gt.txt``, whose images may also have its own names,
  ``scans_test/sceneNNNN_00/sens/frame-FRAME.color.jpg``.

Frames have 1296×968 pixels, and K of the text lists is for that size; LoFTR's is for 640×480, to
which all papers resize the frames, and was made by K' = diag(640/1296, 480/968, 1) K. Either is
converted to the size of the image file, with pixel centres at integers, as in ScanNet's own K (that
of its depth camera has the principal point (319.5, 239.5)). Translations are in metres.

Published numbers are of frames of 640×480 (both sides are scaled, to another aspect ratio), where
RANSAC's threshold is 1 px (SuperGlue) or 0.5 px (LoFTR), with up to 1024 (SuperGlue) or 2048
(LightGlue, by glue-factory) keypoints.
"""

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair
from benchmarks.pairs.posed_pairs import Intrinsics, read_posed_pairs
from benchmarks.record import Problem
from featplug.io.images import read_image_size
from featplug.io.limits import read_npz
from featplug.io.text_tables import read_matrix
from featplug.metrics.homography import Size

_LIST, _PAIRS, _SUPERGLUE = "pairs_calibrated.txt", "test.npz", "scannet_test_pairs_with_gt.txt"
MARKS = ("scene[0-9][0-9][0-9][0-9]_[0-9][0-9]/color", _SUPERGLUE)
SOURCE = (
    "ScanNet-1500: cvg-data.inf.ethz.ch/scannet/scannet1500.zip (glue-factory's, 1.1 GB), under "
    "ScanNet's terms of use, which one agrees to first (github.com/ScanNet/ScanNet)."
)

SCENES = tuple(f"scene{number:04}_00" for number in range(707, 807))
NUM_PAIRS = 1500
"""Number of pairs in the released set."""
_FRAME, _RESIZED = np.array([1296, 968]), np.array([640, 480])
"""(width, height) of a frame, and of what it is resized to."""
_NEAR = 0.05
"""Largest distance of a principal point from the middle of its image, in widths and heights."""


def read(folder: Path) -> PairSet:
    """Read the pairs of the folder."""
    pair_set = PairSet("scannet1500", folder, [], sequences=SCENES)
    archive = next(iter([*folder.glob(_PAIRS), *sorted(folder.glob(f"*/{_PAIRS}"))]), None)
    if (folder / _LIST).is_file() or archive is None:
        path = folder / (_LIST if (folder / _LIST).is_file() else _SUPERGLUE)
        read_posed_pairs(pair_set, path, partial(_listed_pair, folder))
    else:
        _read_archive(pair_set, archive)
    return pair_set


def _listed_pair(
    folder: Path, name0: str, name1: str, intrinsics: Intrinsics, pose: np.ndarray
) -> ImagePair:
    scene = next((part for part in name0.split("/") if part.startswith("scene")), "")
    name0, name1 = (_exported_name(folder, name) for name in (name0, name1))
    return _pair(folder, scene, (name0, name1), intrinsics, pose)


def _pair(
    folder: Path, scene: str, names: tuple[str, str], intrinsics: Intrinsics, pose: np.ndarray
) -> ImagePair:
    first, second = (
        for_size(matrix, read_image_size(folder / name))
        for name, matrix in zip(names, intrinsics, strict=True)
    )
    return ImagePair(
        *names, sequence=scene, intrinsics=(first, second), cam1_from_cam0=pose, unit="m"
    )


def _exported_name(folder: Path, name: str) -> str:
    """Return a name, or that of SuperGlue's frame in ScanNet's export by Python if it exists."""
    parts = name.split("/")
    if (folder / name).is_file() or len(parts) != 4 or not parts[3].startswith("frame-"):
        return name
    frame = parts[3].removeprefix("frame-").removesuffix(".color.jpg").lstrip("0") or "0"
    exported = f"{parts[1]}/color/{frame}.jpg"
    return exported if (folder / exported).is_file() else name


def _read_archive(pair_set: PairSet, archive: Path) -> None:
    """Add the pairs of LoFTR's archive."""
    arrays = _read_arrays(archive, ("name", "rel_pose"))
    names, poses = arrays["name"], arrays["rel_pose"]
    if names.ndim != 2 or names.shape[1] != 4 or poses.shape != (len(names), 12):
        raise ValueError(
            f"{archive}: expected name N×4 and rel_pose N×12, got {names.shape} and {poses.shape}; "
            "download it again."
        )
    matrices: dict[str, np.ndarray] = {}
    file = archive.with_name("intrinsics.npz")
    if file.is_file():
        try:
            matrices = _read_arrays(file)
        except ValueError as error:
            pair_set.problems.append(Problem(file.name, str(error)))
    for number, (name, pose) in enumerate(zip(names.tolist(), poses, strict=True), 1):
        made = partial(_archived_pair, pair_set.folder, name, pose.reshape(3, 4), matrices)
        add_pair(pair_set, archive, made, f"pair {number}")


def _read_arrays(path: Path, keys: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    try:
        arrays = read_npz(path)
    except (MemoryError, ValueError) as error:
        raise ValueError(
            f"{path} is no NumPy archive, or damaged ({error}); download it again."
        ) from error
    for key in keys:
        if key not in arrays:
            raise ValueError(f"{path} has no array {key}; download it again.")
    return arrays


def _archived_pair(
    folder: Path, name: list[int], pose: np.ndarray, matrices: dict[str, np.ndarray]
) -> ImagePair:
    number, scan, *frames = name
    scene = f"scene{number:04}_{scan:02}"
    names = [f"{scene}/color/{frame}.jpg" for frame in frames]
    matrix = matrices.get(scene)
    if matrix is None:
        matrix = read_matrix(folder / scene / "intrinsic" / "intrinsic_color.txt", 4, 4, "camera")
    if matrix.shape not in ((3, 3), (4, 4)):
        raise ValueError(
            f"K of {scene} has the shape {matrix.shape}; download intrinsics.npz again."
        )
    files = [folder / scene / "pose" / f"{frame}.txt" for frame in frames]
    if all(file.is_file() for file in files):
        world0, world1 = (read_matrix(file, 4, 4, "pose") for file in files)
        pose = np.linalg.solve(world1, world0)[:3]
    matrix = matrix[:3, :3].astype(np.float64)
    return _pair(folder, scene, (names[0], names[1]), (matrix, matrix), pose.astype(np.float64))


def for_size(intrinsics: np.ndarray, size: Size) -> np.ndarray:
    """Return K for a frame of some size, given that for 1296×968 or for 640×480.

    K that is for neither is returned as it is; what it is for has to be checked.
    """
    if _is_middle(intrinsics, _RESIZED):
        intrinsics = np.diag([*(_FRAME / _RESIZED), 1]) @ intrinsics
    if not _is_middle(intrinsics, _FRAME):
        return intrinsics
    resizing = np.diag([*(size / _FRAME), 1])
    resizing[:2, 2] = (size / _FRAME - 1) / 2  # the corners of both sizes are at (-0.5, -0.5)
    return resizing @ intrinsics


def _is_middle(intrinsics: np.ndarray, size: np.ndarray) -> bool:
    return bool((np.abs(intrinsics[:2, 2] / size - 0.5) < _NEAR).all())
