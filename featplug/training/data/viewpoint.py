"""Pairs of photographs with depth and pose: true changes of viewpoint, for D2-Net's loss.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Description and Detection of Local Features",
CVPR 2019, section 4.3, and the released data loader. Scenes are undistorted COLMAP models with a
depth map per photograph: a dense workspace of COLMAP, or MegaDepth (Li and Snavely, CVPR 2018) as
the released preprocessing undistorts it. The model itself is read, not the released ``.npz`` files,
which hold pickled objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pycolmap
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.utils.data import Dataset

from featplug.io.images import read_image
from featplug.training.data.correspondences import PosedDepth
from featplug.training.data.photographs import resized

_MIN_DEPTH_FILE = 100 * 1024
"""Smaller files of MegaDepth order foreground and background only (released preprocessing)."""


@dataclass(frozen=True)
class PosedPhotograph:
    """A photograph of an undistorted model; pixel centres are at .5, as in COLMAP."""

    image: Path
    depth: Path
    size: tuple[int, int]
    """(width, height) that the intrinsics are for; the depth map may have another."""
    intrinsics: np.ndarray
    """3×3."""
    cam_from_world: np.ndarray
    """4×4."""
    point_ids: np.ndarray
    """P, ascending: the points of the model that it sees."""
    points: np.ndarray
    """P×2 (x, y), where it sees them."""


@dataclass(frozen=True)
class ViewpointScene:
    """A scene, and which of its photographs make pairs."""

    photographs: list[PosedPhotograph]
    pairs: np.ndarray
    """N×2 indices, ordered pairs."""


def read_workspace(folder: Path, min_overlap: float = 0.5) -> ViewpointScene:
    """Read a scene from a COLMAP dense workspace after stereo.

    Args:
        folder: with ``images``, ``sparse`` and ``stereo/depth_maps``.
        min_overlap: see :func:`overlapping_pairs`.

    Raises:
        FileNotFoundError: the folder has no model.
        ValueError: the model is distorted, or no photographs with depth maps overlap.
    """
    depths = Path(folder) / "stereo" / "depth_maps"
    return _read_scene(
        Path(folder) / "sparse",
        Path(folder) / "images",
        lambda name: _existing(depths / f"{name}.geometric.bin"),
        min_overlap,
    )


def read_megadepth(folder: Path, scene: str, min_overlap: float = 0.5) -> ViewpointScene:
    """Read a scene of MegaDepth, undistorted as the released preprocessing does.

    Args:
        folder: with ``Undistorted_SfM`` and ``phoenix``.
        scene: its four digits.
        min_overlap: see :func:`overlapping_pairs`.

    Raises:
        FileNotFoundError: the scene has no model.
        ValueError: the model is distorted, or no photographs with depth maps overlap.
    """
    undistorted = Path(folder) / "Undistorted_SfM" / scene
    depths = Path(folder) / "phoenix/S6/zl548/MegaDepth_v1" / scene / "dense0" / "depths"
    text = undistorted / "sparse-txt"
    return _read_scene(
        text if text.is_dir() else undistorted / "sparse",
        undistorted / "images",
        lambda name: _existing((depths / name).with_suffix(".h5"), _MIN_DEPTH_FILE),
        min_overlap,
    )


def overlapping_pairs(point_ids: Sequence[np.ndarray], min_overlap: float) -> np.ndarray:
    """Find ordered pairs of which the second sees enough of the points of the first.

    Args:
        point_ids: of each photograph.
        min_overlap: part of the first one's points.

    Returns:
        N×2 int64.
    """
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


def _existing(path: Path, min_bytes: int = 0) -> Path | None:
    return path if path.is_file() and path.stat().st_size >= min_bytes else None


def _read_scene(
    model_path: Path,
    images: Path,
    depth_of: Callable[[str], Path | None],
    min_overlap: float,
) -> ViewpointScene:
    if not model_path.is_dir():
        raise FileNotFoundError(f"There is no COLMAP model {model_path}.")
    model = pycolmap.Reconstruction(str(model_path))
    photographs = []
    for image in sorted(model.images.values(), key=lambda image: image.name):
        depth = depth_of(image.name)
        if not image.has_pose or depth is None:
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
            f"None of the {len(photographs)} photographs of {model_path} with depth maps see "
            f"{min_overlap:.0%} of each other's points; make depth maps of more, or leave the "
            "scene out."
        )
    return ViewpointScene(photographs, pairs)


def read_depth(path: Path) -> np.ndarray:
    """Read a depth map of COLMAP (``.bin``) or MegaDepth (``.h5``).

    Returns:
        H×W float32 along the optical axis, 0 where unknown.

    Raises:
        ValueError: the file is damaged or is no depth map.
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
        raise ValueError(f"{path} is no depth map, or damaged ({error}); make it again.") from error
    return np.where(np.isfinite(depth), depth, 0).clip(min=0)


@dataclass(frozen=True)
class ViewpointOptions:
    """How :class:`ViewpointPairs` are drawn; the defaults are the released code's."""

    batch_size: int = 1
    size: int = 256
    """Side of the crops in pixels."""
    pairs_per_scene: int = 100
    """In an epoch, so that large scenes do not prevail."""


class ViewpointPairs(Dataset[dict[str, Tensor]]):
    """Crops of pairs of photographs around a point that both see; a batch per step.

    A batch has, with k = 0 and 1, all float32: ``image{k}`` B×3×S×S in [0, 1]; ``depth{k}``
    B×S×S, 0 where unknown; ``intrinsics{k}`` B×3×3 of the whole photograph; ``cam_from_world{k}``
    B×4×4, the world being camera 0's frame; ``crop{k}`` B×2 (x, y), the crop's first pixel.
    :func:`posed_depth` collects them for
    :func:`~featplug.training.data.correspondences.find_correspondences`. A batch follows from the
    seed and the step alone.

    Args:
        scenes: see there.
        options: see there.
        seed: of everything random.

    Raises:
        ValueError: there is no scene.
    """

    def __init__(
        self,
        scenes: Sequence[ViewpointScene],
        options: ViewpointOptions | None = None,
        seed: int = 0,
    ) -> None:
        if not scenes:
            raise ValueError("There are no scenes to take pairs of photographs from; name one.")
        self.scenes, self.options, self.seed = list(scenes), options or ViewpointOptions(), seed

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Give the batch of a step, see the class."""
        first = step * self.options.batch_size
        samples = [self._sample(n) for n in range(first, first + self.options.batch_size)]
        return {
            key: torch.from_numpy(np.stack([sample[key] for sample in samples]))
            for key in samples[0]
        }

    def _sample(self, number: int) -> dict[str, np.ndarray]:
        epoch, place = divmod(number, len(self.scenes) * self.options.pairs_per_scene)
        scene_index, pair_index = self._epoch(epoch)[place]
        scene = self.scenes[scene_index]
        pair = [scene.photographs[i] for i in scene.pairs[pair_index]]
        rng = np.random.default_rng([self.seed, 0, number])
        _, *rows = np.intersect1d(*(p.point_ids for p in pair), return_indices=True)
        chosen = rng.integers(len(rows[0]))
        to_camera0 = np.linalg.inv(pair[0].cam_from_world)
        sample = {}
        for k, (photograph, seen) in enumerate(zip(pair, rows, strict=True)):
            centre = photograph.points[seen[chosen]]
            for key, value in crop_photograph(photograph, centre, self.options.size).items():
                sample[f"{key}{k}"] = value
            # In the world's frame, which may be the Earth's, float32 would lose the baseline.
            sample[f"cam_from_world{k}"] = (photograph.cam_from_world @ to_camera0).astype("f4")
        return sample

    def _epoch(self, epoch: int) -> np.ndarray:
        """The scene and pair of each sample of an epoch: as many of each scene, shuffled."""
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
    """Read a square part of a photograph, as far around a point as it lies inside.

    The photograph is resized to its depth map, and the camera with it. What a photograph smaller
    than the crop does not fill is black, of unknown depth.

    Args:
        photograph: see there.
        centre: (x, y) in COLMAP's pixels.
        size: S.

    Returns:
        ``image`` 3×S×S in [0, 1], ``depth`` S×S, ``intrinsics`` 3×3 and ``crop`` 2 (x, y), all
        float32.
    """
    depth = read_depth(photograph.depth)
    height, width = depth.shape
    image = resized(read_image(photograph.image), (width, height))
    scale = np.array([width, height]) / photograph.size
    wanted = np.floor(centre * scale).astype(int) - size // 2
    left, top = np.clip(wanted, 0, np.maximum([width - size, height - size], 0))
    pixels = np.zeros((3, size, size), np.float32)
    depths = np.zeros((size, size), np.float32)
    part = depth[top : top + size, left : left + size]
    rows, columns = part.shape
    depths[:rows, :columns] = part
    colours = image[top : top + size, left : left + size].transpose(2, 0, 1)
    pixels[:, :rows, :columns] = colours / np.float32(255)
    return {
        "image": pixels,
        "depth": depths,
        "intrinsics": (np.diag([*scale, 1.0]) @ photograph.intrinsics).astype(np.float32),
        "crop": np.array([left, top], np.float32),
    }


def posed_depth(batch: Mapping[str, Tensor], index: int) -> PosedDepth:
    """Collect depth maps and cameras of image 0 or 1 of a batch."""
    keys = ("depth", "intrinsics", "cam_from_world", "crop")
    return PosedDepth(*(batch[f"{key}{index}"] for key in keys))
