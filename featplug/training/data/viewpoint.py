"""Pairs of photographs with depth and pose: true changes of viewpoint, for D2-Net's loss.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Description and Detection of Local Features",
CVPR 2019, section 4.3, and the released data loader. Scenes are undistorted COLMAP models with a
depth map per photograph: a dense workspace of COLMAP, or MegaDepth (Li and Snavely, CVPR 2018) as
undistorted by the released preprocessing. The model itself is read, since the released ``.npz``
files hold pickled objects.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from featplug.colmap.model_files import read_model
from featplug.io.images import read_image
from featplug.training.data.batches import StepBatches
from featplug.training.data.correspondences import PosedDepth
from featplug.training.data.photographs import resized

_MIN_DEPTH_BYTES = 100 * 1024
"""Size of MegaDepth's files below which they only order foreground and background."""


@dataclass(frozen=True)
class PosedPhotograph:
    """A photograph of an undistorted model; pixel centres are at .5, as in COLMAP."""

    image: Path
    """Image file."""
    depth: Path
    """Depth map."""
    size: tuple[int, int]
    """Width and height that the intrinsics refer to; those of the depth map may differ."""
    intrinsics: np.ndarray
    """Intrinsics, 3×3."""
    cam_from_world: np.ndarray
    """Pose, 4×4."""
    point_ids: np.ndarray
    """Points of the model that the photograph shows, P, ascending."""
    points: np.ndarray
    """Positions of these points in the photograph, P×2 (x, y)."""


@dataclass(frozen=True)
class ViewpointScene:
    """A scene and its pairs of photographs."""

    photographs: list[PosedPhotograph]
    """All photographs with pose and depth."""
    pairs: np.ndarray
    """Ordered pairs, N×2 indices."""


def read_workspace(folder: Path, min_overlap: float = 0.5) -> ViewpointScene:
    """Read a scene from a COLMAP dense workspace after stereo.

    Args:
        folder: folder with ``images``, ``sparse`` and ``stereo/depth_maps``.
        min_overlap: fraction of the points of a photograph that the other one must see.

    Raises:
        FileNotFoundError: the folder has no model.
        ValueError: the model is distorted, or no photographs with depth maps overlap.
    """

    def depth_of(name: str) -> Path:
        return folder / "stereo" / "depth_maps" / f"{name}.geometric.bin"

    return _read_scene(folder / "sparse", folder / "images", depth_of, 0, min_overlap)


def read_megadepth(folder: Path, scene: str, min_overlap: float = 0.5) -> ViewpointScene:
    """Read a scene of MegaDepth, undistorted as the released preprocessing does.

    The folder holds ``Undistorted_SfM`` and ``phoenix``; the scene's name has four digits. Overlap
    and errors are those of :func:`read_workspace`.
    """
    undistorted = folder / "Undistorted_SfM" / scene
    depths = folder / "phoenix/S6/zl548/MegaDepth_v1" / scene / "dense0" / "depths"
    text = undistorted / "sparse-txt"
    model = text if text.is_dir() else undistorted / "sparse"

    def depth_of(name: str) -> Path:
        return (depths / name).with_suffix(".h5")

    return _read_scene(model, undistorted / "images", depth_of, _MIN_DEPTH_BYTES, min_overlap)


def overlapping_pairs(point_ids: Sequence[np.ndarray], min_overlap: float) -> np.ndarray:
    """Find ordered pairs N×2 whose second photograph sees a fraction of the first one's points."""
    seen = np.concatenate([*point_ids, np.zeros(0, np.int64)])
    points, columns = np.unique(seen, return_inverse=True)
    counts = np.array([len(ids) for ids in point_ids], np.int64)
    entries = (np.ones(len(seen), np.int64), columns, np.cumsum([0, *counts]))
    sees = csr_array(entries, shape=(len(counts), len(points)))
    common = (sees @ sees.T).tocoo()
    first, second = common.coords
    kept = (first != second) & (common.data >= min_overlap * counts[first])
    pairs = np.stack([first[kept], second[kept]], axis=1).astype(np.int64)
    return pairs[np.lexsort(pairs.T[::-1])]


def _read_scene(
    model_path: Path,
    images: Path,
    depth_of: Callable[[str], Path],
    min_depth_bytes: int,
    min_overlap: float,
) -> ViewpointScene:
    model = read_model(model_path)
    photographs = []
    for image in sorted(model.images.values(), key=lambda image: image.name):
        depth = depth_of(image.name)
        if not (image.has_pose and depth.is_file() and depth.stat().st_size >= min_depth_bytes):
            continue
        camera = model.cameras[image.camera_id]
        if camera.model.name not in ("PINHOLE", "SIMPLE_PINHOLE"):
            raise ValueError(
                f"{model_path} has cameras with distortion ({camera.model.name}); undistort it "
                "with `colmap image_undistorter`."
            )
        observed = {point.point3D_id: point.xy for point in image.get_observation_points2D()}
        ids = np.array(sorted(observed), np.int64)
        photographs.append(
            PosedPhotograph(
                image=images / image.name,
                depth=depth,
                size=(camera.width, camera.height),
                intrinsics=camera.calibration_matrix(),
                cam_from_world=np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]),
                point_ids=ids,
                points=np.array([observed[i] for i in ids.tolist()]).reshape(-1, 2),
            )
        )
    pairs = overlapping_pairs([photograph.point_ids for photograph in photographs], min_overlap)
    if not len(pairs):
        raise ValueError(
            f"{model_path}: none of the {len(photographs)} photographs with depth maps see "
            f"{min_overlap:.0%} of each other's points; make depth maps of more photographs, or "
            "leave the scene out."
        )
    return ViewpointScene(photographs, pairs)


def read_depth(path: Path) -> np.ndarray:
    """Read a depth map of COLMAP (``.bin``) or MegaDepth (``.h5``) as H×W float32, 0 where unknown.

    Raises:
        ValueError: the file is damaged or not a depth map.
    """
    try:
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                depth = file["depth"][()].astype(np.float32)
        else:
            content = path.read_bytes()
            *sizes, values = content.split(b"&", 3)
            width, height, channels = map(int, sizes)
            flat = np.frombuffer(values, "<f4")
            depth = flat.reshape(channels, height, width)[0].astype(np.float32)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no whole depth map ({error}); make it again.") from error
    return np.where(np.isfinite(depth), depth, 0).clip(min=0)


@dataclass(frozen=True)
class ViewpointOptions:
    """Options of true changes of viewpoint; the defaults are the released code's."""

    batch_size: int = 1
    """Number of pairs per step."""
    size: int = 256
    """Side of the crops in pixels."""
    pairs_per_scene: int = 100
    """Number of pairs of each scene in an epoch, so that large scenes do not dominate."""


class ViewpointPairs(StepBatches):
    """Crops of pairs of photographs around a point that both see.

    A batch has, with k = 0 and 1, all float32: ``image{k}`` B×3×S×S in [0, 1]; ``depth{k}``
    B×S×S, 0 where unknown; ``intrinsics{k}`` B×3×3 of the whole photograph; ``cam_from_world{k}``
    B×4×4, the world being camera 0's frame; ``crop{k}`` B×2 (x, y), the crop's first pixel.
    :func:`posed_depth` collects them for
    :func:`~featplug.training.data.correspondences.find_correspondences`.

    Raises:
        ValueError: the list of scenes is empty.
    """

    def __init__(
        self,
        scenes: Sequence[ViewpointScene],
        options: ViewpointOptions = ViewpointOptions(),
        seed: int = 0,
    ) -> None:
        if not scenes:
            raise ValueError("Pairs of photographs need at least one scene.")
        super().__init__(options.batch_size, seed)
        self.scenes, self.options = list(scenes), options

    def sample(self, number: int) -> dict[str, np.ndarray]:
        """Draw and crop one pair."""
        epoch, place = divmod(number, len(self.scenes) * self.options.pairs_per_scene)
        scene_index, pair_index = self._epoch(epoch)[place]
        scene = self.scenes[scene_index]
        pair = [scene.photographs[i] for i in scene.pairs[pair_index]]
        rng = self.sample_rng(number)
        _, *rows = np.intersect1d(*(p.point_ids for p in pair), return_indices=True)
        row = rng.integers(len(rows[0]))
        to_camera0 = np.linalg.inv(pair[0].cam_from_world)
        sample = {}
        for k, (photograph, seen) in enumerate(zip(pair, rows, strict=True)):
            centre = photograph.points[seen[row]]
            for key, value in crop_photograph(photograph, centre, self.options.size).items():
                sample[f"{key}{k}"] = value
            # In the frame of the world, which may be the Earth's, float32 would lose the baseline.
            sample[f"cam_from_world{k}"] = (photograph.cam_from_world @ to_camera0).astype("f4")
        return sample

    def _epoch(self, epoch: int) -> np.ndarray:
        """Draw the scene and pair of each sample of an epoch, shuffled."""
        rng = np.random.default_rng([self.seed, 1, epoch])
        count = self.options.pairs_per_scene
        drawn = [
            np.stack([np.full(count, index), rng.integers(len(scene.pairs), size=count)], axis=1)
            for index, scene in enumerate(self.scenes)
        ]
        return rng.permutation(np.concatenate(drawn))


def crop_photograph(
    photograph: PosedPhotograph, centre: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """Read a square crop around a point (x, y) in COLMAP's pixels, shifted to lie inside.

    The photograph and its camera are resized to the depth map. If the photograph is smaller than
    the crop, the rest is black and of unknown depth. Returns ``image`` 3×S×S in [0, 1], ``depth``
    S×S, ``intrinsics`` 3×3 and ``crop`` 2 (x, y), all float32.
    """
    depth = read_depth(photograph.depth)
    height, width = depth.shape
    image = resized(read_image(photograph.image), (width, height))
    scale = np.array([width, height]) / photograph.size
    corner = np.floor(centre * scale).astype(int) - size // 2
    left, top = np.clip(corner, 0, np.maximum([width - size, height - size], 0))
    depth = depth[top : top + size, left : left + size]
    colours = image[top : top + size, left : left + size].transpose(2, 0, 1) / np.float32(255)
    margins = [(0, size - side) for side in depth.shape]
    return {
        "image": np.pad(colours, [(0, 0), *margins]),
        "depth": np.pad(depth, margins),
        "intrinsics": (np.diag([*scale, 1.0]) @ photograph.intrinsics).astype(np.float32),
        "crop": np.array([left, top], np.float32),
    }


def posed_depth(batch: Mapping[str, Tensor], index: int) -> PosedDepth:
    """Collect depth maps and cameras of image 0 or 1 of a batch."""
    keys = ("depth", "intrinsics", "cam_from_world", "crop")
    return PosedDepth(*(batch[f"{key}{index}"] for key in keys))
