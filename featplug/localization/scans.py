"""3-D points of keypoints, from scans that hold a point for every pixel (Taira et al., CVPR 2018).

Every scan is read once; the points of its image's keypoints are kept in a small HDF5 file next to
the features, as ``points3D`` of the image's group.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featplug.io.artifact import Provenance, file_fingerprint
from featplug.io.h5file import H5Reader, H5Writer
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.hdf5_links import has_link
from featplug.io.parts.feature_parts import open_features
from featplug.utils.parallel import map_ahead
from featplug.utils.progress import progress_bar


def interpolate_scan(scan: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Return the 3-D points of a scan at keypoints.

    Between pixel centres the scan is bilinear. Where one of the four pixels is a hole, the nearest
    pixel counts. In the outer half of the pixels at the border, the surface is continued linearly.

    Args:
        scan: H×W×3, the point of each pixel; not finite in holes.
        keypoints: N×2 (x, y; integer = pixel centre).

    Returns:
        N×3 float64 in the scan's frame, NaN in holes and outside of the scan.

    Raises:
        ValueError: the scan does not have that shape.
    """
    if scan.ndim != 3 or scan.shape[2] != 3 or min(scan.shape[:2]) < 2:
        raise ValueError(f"A scan has the shape H×W×3, not {'×'.join(map(str, scan.shape))}.")
    size = np.array(scan.shape[1::-1])
    points = np.full((len(keypoints), 3), np.nan)
    inside = ((keypoints >= -0.5) & (keypoints <= size - 0.5)).all(axis=1)
    xy = keypoints[inside].astype(np.float64)
    corner = np.clip(np.floor(xy), 0, size - 2).astype(np.int64)
    (x, y), (u, v) = corner.T, (xy - corner).T[..., None]
    upper = scan[y, x] * (1 - u) + scan[y, x + 1] * u
    lower = scan[y + 1, x] * (1 - u) + scan[y + 1, x + 1] * u
    found = upper * (1 - v) + lower * v
    hole = ~np.isfinite(found).all(axis=1)
    x, y = np.clip(np.rint(xy[hole]), 0, size - 1).astype(np.int64).T
    nearest = scan[y, x].astype(np.float64)
    nearest[~np.isfinite(nearest).all(axis=1)] = np.nan
    found[hole] = nearest
    points[inside] = found
    return points


REVISION = 1
"""Revision of the points, see :mod:`featplug.io.artifact`."""
_FINGERPRINT = "scan_fingerprint"
"""Attribute of an image's group: fingerprint of its scan."""


class ScanPointWriter(H5Writer):
    """Appends images to a file of scan points."""

    def __contains__(self, name: str) -> bool:
        return has_link(self.file, name)

    def has_no_point(self, name: str) -> bool:
        """Return whether an image has keypoints, but none of them has a point."""
        return self.attribute(name, "num_points") == 0 and len(self.arrays(name)["points3D"]) > 0

    def write(self, name: str, points3d: np.ndarray, fingerprint: str) -> None:
        """Write the points of one image's keypoints, N×3 in the scan's frame or NaN, and flush.

        Raises:
            ValueError: the disk is nearly full.
        """
        self.require_disk(points3d.nbytes)
        num_points = int(np.isfinite(points3d[:, 0]).sum())
        attributes = {_FINGERPRINT: fingerprint, "num_points": num_points}
        with self.explaining_failures():
            self.link(name, {"points3D": points3d}, attributes)
        self.commit()

    def remove(self, name: str) -> None:
        """Remove the points of an image, if the file has them, and flush."""
        with self.explaining_failures():
            self.unlink(name)
        self.commit()


class ScanPointReader(H5Reader):
    """Reads a file of scan points."""

    def __contains__(self, name: str) -> bool:
        return has_link(self.file, name)

    def read(self, name: str) -> np.ndarray:
        """Read the points of an image's keypoints: N×3 float64, NaN for none, scan's frame.

        Raises:
            ValueError: the image is not in the file.
        """
        if name not in self:
            raise ValueError(f"{self.path} has no scan points of the image {name!r}.")
        points = self.arrays(name, ["points3D"]).get("points3D")
        if points is None or points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind != "f":
            raise UnusableDataError(
                f"{self.path}: {name!r} must have points3D, N×3 real numbers; make it again."
            )
        return points


@dataclass(frozen=True)
class ScanSummary:
    """Outcome of :func:`sample_scans`."""

    path: Path
    num_read: int
    """Number of scans read by this run."""
    num_present: int
    """Number of images whose points the file already had."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images without points, and why."""


@dataclass(frozen=True)
class SamplingOptions:
    """Options of reading scans."""

    overwrite: bool = False
    """Replace the file of scan points."""
    memory_budget: int = 2**30
    """Bytes for the scans in memory, which are at least one."""
    num_workers: int | None = None
    """Threads that read scans; as many as cores if None."""


def sample_scans(
    scans: Mapping[str, Path],
    read_scan: Callable[[Path], np.ndarray],
    features: Path,
    output: Path,
    options: SamplingOptions | None = None,
    progress: bool = False,
) -> ScanSummary:
    """Write the 3-D points of the keypoints of images; reads each scan once.

    A scan whose points are already in the file is read again only if it has changed; if it then
    cannot be read, its points are removed. The points of a deleted scan stay.

    Args:
        scans: image name to the file of its scan.
        read_scan: function that reads such a file to H×W×3, or raises ValueError or OSError.
        features: the feature file.
        output: the file of scan points.
        options: memory and threads.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: the feature file does not exist.
        ValueError: the file of scan points is of other features.
    """
    options = options or SamplingOptions()
    skipped: dict[str, str] = {}
    with open_features(features) as reader:
        provenance = Provenance(
            "scan points",
            {},
            inputs={"features": reader.file_id},
            revisions={"scan points": REVISION},
        )
        with ScanPointWriter(output, provenance, options.overwrite) as writer:
            todo = {}
            for name, path in scans.items():
                if not path.is_file():
                    if name not in writer:
                        skipped[name] = f"There is no scan {path}."
                elif name not in writer or not writer.is_made_from(name, path, _FINGERPRINT):
                    todo[name] = path
            num_present = len(scans) - len(todo) - len(skipped)

            def sample(name: str) -> "_Sample | str":
                keypoints, size = reader.keypoints(name), reader.known_image_size(name)
                return _sample_scan(todo[name], read_scan, keypoints, size)

            with progress_bar(None, "scan", len(todo), "scan", progress) as bar:
                for name, sampled in _in_threads(sample, todo, options):
                    if isinstance(sampled, str):
                        writer.remove(name)  # its points are of the scan before the change
                        skipped[name] = sampled
                    else:
                        writer.write(name, sampled.points3d, sampled.fingerprint)
                    bar.update()
            for name, path in scans.items():
                if name not in skipped and writer.has_no_point(name):
                    skipped[name] = f"{path} has a point at no keypoint of {name!r}."
    skipped = {name: skipped[name] for name in scans if name in skipped}
    return ScanSummary(output, len(todo), num_present, skipped)


@dataclass(frozen=True)
class _Sample:
    """Points of one scan at the keypoints of its image."""

    points3d: np.ndarray
    fingerprint: str
    num_bytes: int
    """Memory of the scan."""


def _sample_scan(
    path: Path,
    read_scan: Callable[[Path], np.ndarray],
    keypoints: np.ndarray,
    image_size: tuple[int, int] | None,
) -> _Sample | str:
    """Return the points of keypoints, or why the scan cannot be used."""
    try:
        scan = read_scan(path)
        if image_size is None:  # not every tool's feature files have it
            image_size = scan.shape[1::-1]
        if scan.shape[1::-1] == image_size:
            points = interpolate_scan(scan, keypoints)
            return _Sample(points, file_fingerprint(path), scan.nbytes + path.stat().st_size)
    except (OSError, ValueError) as error:
        return str(error)
    return (
        f"The scan {path} has the shape {'×'.join(map(str, scan.shape))}, its image "
        f"{image_size[0]}×{image_size[1]} pixels."
    )


def _in_threads(
    sample: Callable[[str], _Sample | str], names: Iterable[str], options: SamplingOptions
) -> Iterator[tuple[str, _Sample | str]]:
    """Sample scans in order; the first good one alone, to see how many fit into the budget."""
    todo = iter(names)
    for name in todo:
        sampled = sample(name)
        yield name, sampled
        if isinstance(sampled, _Sample):
            num_in_budget = options.memory_budget // max(1, sampled.num_bytes)
            num_workers = min(options.num_workers or os.cpu_count() or 1, num_in_budget)
            yield from map_ahead(lambda name: (name, sample(name)), todo, num_workers)
