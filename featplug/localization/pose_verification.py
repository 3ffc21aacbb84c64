"""Dense pose verification (Taira et al., CVPR 2018, section 4.3): scans rendered from poses.

Each database image proposes a pose from its own matches, next to the pose from all matches. The
coloured scan of the image is rendered from the pose and compared with the query by dense RootSIFT
descriptors; the pose whose rendering is most similar is kept. The pose from all matches is rendered
from each of these scans, too: another pose then wins only if it looks better in the same scan, not
because its scan shows what is easier to match.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

import cv2
import numpy as np
import pycolmap

from featplug.localization.absolute_pose import AbsolutePose, AbsolutePoseOptions
from featplug.localization.file_localizer import LocalizedQuery, PoseCandidate, QueryMatches
from featplug.localization.pose_fits import project_points
from featplug.localization.pose_search import pose_of_image

RENDERED_SIZE = 504
"""Longer side of renderings in pixels: an eighth of InLoc's queries, as in the paper."""
NUM_CANDIDATES = 10
"""Number of database images that propose a pose, those with most matches."""
_CELL = 4
"""Distance of descriptors in pixels."""
_PATCH = 16.0
"""Side of a descriptor's patch in pixels: four by four cells of 4."""
_KEYPOINT_SIZE = _PATCH / 4 / 3 * 2
"""OpenCV's size of such a keypoint: a cell of SIFT is 3 scales wide, a scale half the size."""
_LEAST_CELLS, _LEAST_FRACTION = 100, 0.1
"""Least number of descriptors that a rendering is compared by, and least fraction of all."""
_TOO_LITTLE = "its scan fills too little of the picture, seen from this pose"
_SAME_SURFACE = 1.05
"""Ratio of depths up to which points in a pixel are averaged."""
_NUM_FILLED = 3
"""Side of the window by which gaps between points are filled, in pixels."""
_LEAST_AROUND = 0.4
"""Least fraction of that window that shows something."""


@dataclass(frozen=True)
class ColouredScan:
    """The points of a database image, and their grey values."""

    points: np.ndarray
    """N×3 in the world, finite."""
    grey: np.ndarray
    """N uint8."""


def render(
    scan: ColouredScan, cam_from_world: np.ndarray, camera: pycolmap.Camera
) -> tuple[np.ndarray, np.ndarray]:
    """Render the points of a scan: the nearest surface in each pixel, small gaps filled.

    Args:
        scan: the points.
        cam_from_world: 3×4.
        camera: intrinsics, of the size of the rendering.

    Returns:
        H×W uint8, and a mask H×W bool of the pixels that show the scan.
    """
    width, height = camera.width, camera.height
    xy = np.rint(project_points(scan.points, cam_from_world, camera))
    depth = scan.points @ cam_from_world[2, :3] + cam_from_world[2, 3]
    with np.errstate(invalid="ignore"):
        seen = (xy >= 0).all(1) & (xy[:, 0] < width) & (xy[:, 1] < height) & (depth > 0)
    pixels = (xy[seen, 1] * width + xy[seen, 0]).astype(np.int64)
    grey, depth = scan.grey[seen].astype(np.float64), depth[seen]
    nearest = np.full(width * height, np.inf)
    np.minimum.at(nearest, pixels, depth)
    front = depth <= _SAME_SURFACE * nearest[pixels]
    count = np.bincount(pixels[front], minlength=width * height).reshape(height, width)
    total = np.bincount(pixels[front], grey[front], width * height).reshape(height, width)
    image, mask = total / np.maximum(count, 1), count > 0
    # A gap has the mean of its neighbours, where enough of them show something.
    window = (_NUM_FILLED, _NUM_FILLED)
    around = cv2.blur(mask.astype(np.float64), window, borderType=cv2.BORDER_CONSTANT)
    mean = cv2.blur(image, window, borderType=cv2.BORDER_CONSTANT) / np.maximum(around, 1e-6)
    gaps = ~mask & (around > _LEAST_AROUND)
    return np.rint(np.where(gaps, mean, image)).astype(np.uint8), mask | gaps


def dense_root_sift(grey: np.ndarray) -> np.ndarray:
    """Describe a picture H×W uint8 on a grid: RootSIFT, upright, h×w×128 (Arandjelović 2012)."""
    height, width = grey.shape
    ys, xs = np.mgrid[_CELL // 2 : height : _CELL, _CELL // 2 : width : _CELL]
    keypoints = [
        cv2.KeyPoint(float(x), float(y), _KEYPOINT_SIZE, 0.0)
        for x, y in zip(xs.ravel(), ys.ravel(), strict=True)
    ]
    if not keypoints:
        return np.zeros((*xs.shape, 128), np.float32)
    described = np.asarray(cv2.SIFT.create().compute(grey, keypoints)[1], np.float32)
    total = np.abs(described).sum(1, keepdims=True)
    return np.sqrt(described / np.maximum(total, 1e-12)).reshape(*xs.shape, 128)


def rendering_distance(
    described: np.ndarray, rendered: np.ndarray, mask: np.ndarray
) -> float | None:
    """Return the median distance of the descriptors of a query and a rendering.

    Args:
        described: h×w×128, the query's :func:`dense_root_sift`.
        rendered: H×W uint8.
        mask: H×W bool, the pixels that the rendering shows. Descriptors whose patch has others, and
            those of flat patches, do not count.

    Returns:
        0 to √2, or None where too few descriptors count.
    """
    patch = np.ones((int(_PATCH) + 1, int(_PATCH) + 1), np.uint8)
    whole = cv2.erode(mask.astype(np.uint8), patch, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    of_rendering = dense_root_sift(rendered)
    counts = whole[_CELL // 2 :: _CELL, _CELL // 2 :: _CELL].astype(bool)
    counts &= described.any(2) & of_rendering.any(2)
    if np.count_nonzero(counts) < max(_LEAST_CELLS, _LEAST_FRACTION * counts.size):
        return None
    return float(np.median(np.linalg.norm(described[counts] - of_rendering[counts], axis=1)))


class PoseVerifier:
    """Chooses the pose of a query whose rendering looks most like it.

    One scan at a time is in memory, whatever the number of threads.

    Args:
        read_scan: returns the coloured scan of a database image; raises OSError or ValueError where
            it is damaged, and the poses that it would show are then not compared.
        read_query: returns a query as it is stored, H×W uint8; raises as ``read_scan``, and the
            query then keeps its pose.
    """

    def __init__(
        self,
        read_scan: Callable[[str], ColouredScan],
        read_query: Callable[[str], np.ndarray],
    ) -> None:
        self._read_scan = read_scan
        self._read_query = read_query
        self._one_scan = Lock()

    def verify(self, localized: LocalizedQuery, options: AbsolutePoseOptions) -> LocalizedQuery:
        """Return the outcome with the best of all poses, and what each was compared by.

        A query without a pose, or whose poses cannot be rendered, stays as it is.
        """
        (matches, joint), *_ = localized.attempts
        found = _poses_of_images(matches, joint, options)
        if joint is not None:
            images = dict.fromkeys([localized.best_image, *(image for image, _ in found)])
            found = [*((image, joint) for image in images), *found]
        if not found:
            return localized
        compared = self._compare(matches.query.name, found)
        candidates = [
            PoseCandidate(image, pose is joint, *outcome)
            for (image, pose), outcome in zip(found, compared, strict=True)
        ]
        distances = [np.inf if each.distance is None else each.distance for each in candidates]
        best = int(np.argmin(distances))
        if not np.isfinite(distances[best]):
            return replace(localized, candidates=candidates)
        pose = found[best][1]
        return LocalizedQuery(localized.query, [(matches, pose)], 0, pose.reason, candidates)

    def _compare(
        self, name: str, found: Sequence[tuple[str, AbsolutePose]]
    ) -> list[tuple[float | None, str | None]]:
        """Return the distance of each pose's rendering to a query, or None and why."""
        try:
            picture = self._read_query(name)
        except (OSError, ValueError) as error:
            return [(None, str(error))] * len(found)
        size = _reduced(found[0][1].camera)
        query = cv2.resize(picture, (size.width, size.height), interpolation=cv2.INTER_AREA)
        described = dense_root_sift(query)
        outcomes: dict[int, tuple[float | None, str | None]] = {}
        for image in dict.fromkeys(image for image, _ in found):
            poses = {i: pose for i, (other, pose) in enumerate(found) if other == image}
            try:
                renderings = self._render(image, list(poses.values()))
            except (OSError, ValueError) as error:
                outcomes |= dict.fromkeys(poses, (None, str(error)))
                continue
            for index, rendering in zip(poses, renderings, strict=True):
                distance = rendering_distance(described, *rendering)
                outcomes[index] = (distance, _TOO_LITTLE if distance is None else None)
        return [outcomes[index] for index in range(len(found))]

    def _render(
        self, image: str, poses: Sequence[AbsolutePose]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Render the scan of a database image from some poses."""
        with self._one_scan:
            scan = self._read_scan(image)
            return [render(scan, pose.cam_from_world, _reduced(pose.camera)) for pose in poses]


def _poses_of_images(
    matches: QueryMatches, joint: AbsolutePose | None, options: AbsolutePoseOptions
) -> list[tuple[str, AbsolutePose]]:
    """Estimate the poses that the database images with most matches propose."""
    points2d, points3d, of_images = matches.correspondences
    camera = matches.query.camera if joint is None else joint.camera
    order = sorted(range(len(of_images)), key=lambda index: -len(of_images[index]))
    found = []
    for index in order[:NUM_CANDIDATES]:
        pose = pose_of_image(points2d, points3d, of_images[index], camera, options)
        if pose is not None:
            found.append((matches.database[index], pose))
    return found


def _reduced(camera: pycolmap.Camera) -> pycolmap.Camera:
    """Return a camera of the size of renderings; a smaller one as it is."""
    reduced = pycolmap.Camera(
        model=camera.model, width=camera.width, height=camera.height, params=camera.params
    )
    scale = RENDERED_SIZE / max(camera.width, camera.height)
    if scale < 1:
        reduced.rescale(round(camera.width * scale), round(camera.height * scale))
    return reduced
