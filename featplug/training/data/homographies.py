"""Random homographies, and images, points and masks under them.

The scheme is that of DeTone et al. ("SuperPoint", CVPR Workshops 2018, section 5): a patch in the
middle of the image is tilted, scaled, shifted and turned, and the homography maps the original to
the changed patch. :data:`MTLDESC` and :data:`LISRD` are the distributions of the two papers'
released code.

Coordinates are pixels (x, y), and an integer is a pixel's centre; a homography is a 3×3 matrix that
maps points of image 0 to points of image 1.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from kornia.geometry.linalg import transform_points
from kornia.geometry.transform import get_perspective_transform, warp_perspective
from scipy.special import ndtr, ndtri
from torch import Tensor


@dataclass(frozen=True)
class HomographyOptions:
    """Distribution of random homographies; lengths are fractions of the image's sides."""

    patch_ratio: float = 0.85
    """Side of the patch in the middle."""
    source: Literal["patch", "image"] = "patch"
    """Area that is mapped to the changed patch: the patch itself, or the whole image."""
    perspective: tuple[float, float] = (0.2, 0.2)
    """Largest shift of the patch's corners along x and y; 0 leaves the patch a rectangle."""
    scale: tuple[float, float] = (0.8, 1.2)
    """Smallest and largest factor of the patch's size."""
    max_angle: float = np.pi / 2
    """Largest rotation to either side, in radians; 0 for none."""
    num_angles: int | None = None
    """Number of evenly spaced angles to choose from; None for any angle."""
    translation: bool = True
    """Move the patch anywhere in the image."""
    translation_overflow: float = 0.0
    """Largest shift of the patch beyond the image's border."""
    distribution: Literal["uniform", "normal"] = "uniform"
    """Distribution of perspective and scale; the normal one is cut at two standard deviations."""

    def without_rotation(self) -> "HomographyOptions":
        """Return these options without rotation."""
        return replace(self, max_angle=0.0)


MTLDESC = HomographyOptions(
    patch_ratio=0.8, source="image", scale=(0.8, 2.0), translation_overflow=0.05
)
"""MTLDesc's synthetic pairs."""
LISRD = HomographyOptions(max_angle=1.57, num_angles=25, distribution="normal")
"""LISRD's triplets. The released code never draws the last of the 25 angles; this does."""
GENERAL = HomographyOptions(scale=(0.6, 1.6), max_angle=np.pi / 6, distribution="normal")
"""Moderate changes of viewpoint."""


def random_homography(
    rng: np.random.Generator, size: tuple[int, int], options: HomographyOptions
) -> np.ndarray:
    """Draw a 3×3 float64 homography between two images of (width, height).

    As in the released code of both papers, the rotation turns the unit square, which shears an
    image that is not square by the ratio of its sides. The number of values drawn from ``rng`` does
    not depend on the options.
    """

    def draw(low: float, high: float) -> float:
        fraction = rng.random()
        if options.distribution == "normal":
            fraction = _truncated_normal(fraction)
        return low + (high - low) * fraction

    half = options.patch_ratio / 2
    square = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]], dtype=np.float64)
    before = 0.5 + square * (half if options.source == "patch" else 0.5)
    tilt_x, tilt_y = options.perspective
    left, right, vertical = draw(-tilt_x, tilt_x), draw(-tilt_x, tilt_x), draw(-tilt_y, tilt_y)
    after = 0.5 + half * square
    after[:, 0] += (left, left, right, right)
    after[:, 1] += (vertical, -vertical, vertical, -vertical)

    center = after.mean(0)
    after = center + draw(*options.scale) * (after - center)

    # The absolute values let a patch that is larger than the image move, too.
    down = np.abs(after).min(0) + options.translation_overflow
    up = np.abs(1 - after).min(0) + options.translation_overflow
    shift = -down + (down + up) * rng.random(2)
    if options.translation:
        after += shift

    fraction = rng.random()
    if options.num_angles is not None:
        fraction = int(fraction * options.num_angles) / max(1, options.num_angles - 1)
    angle = options.max_angle * (2 * fraction - 1)
    cos, sin = np.cos(angle), np.sin(angle)
    center = after.mean(0)
    after = center + (after - center) @ np.array([[cos, sin], [-sin, cos]])

    # The unit square is the image's area, which begins half a pixel before the first centre.
    corners0, corners1 = (corners * size - 0.5 for corners in (before, after))
    pair = (torch.from_numpy(corners)[None] for corners in (corners0, corners1))
    return get_perspective_transform(*pair)[0].numpy()


def _truncated_normal(fraction: float) -> float:
    """Map a uniform number in [0, 1) to a normal one in [0, 1], cut at 2σ."""
    low = ndtr(-2.0)
    return float(0.5 + ndtri(low + fraction * (1 - 2 * low)) / 4)


def rotation_angle(homography: np.ndarray, size: tuple[int, int]) -> float:
    """Measure the angle by which a homography turns the middle of an image of (width, height).

    Radians in (−π, π], positive from the x axis towards the y axis, of the rotation closest to the
    homography's derivative at the image's centre.
    """
    x, y = (size[0] - 1) / 2, (size[1] - 1) / 2
    u, v, w = homography @ (x, y, 1.0)
    derivative = (homography[:2, :2] - np.outer((u / w, v / w), homography[2, :2])) / w
    (a, b), (c, d) = derivative
    return float(np.arctan2(c - b, a + d))


def warp_points(points: Tensor, homographies: Tensor) -> Tensor:
    """Map B×N×2 points (x, y) by B×3×3 homographies; points beyond the horizon become NaN.

    The result has the points' type; homographies are best given in float64.
    """
    precise = points.to(homographies.dtype)
    depth = F.pad(precise, (0, 1), value=1.0) @ homographies[:, 2, :, None]
    warped = transform_points(homographies, precise)
    return warped.masked_fill(depth <= 0, torch.nan).to(points.dtype)


def warp_images(images: Tensor, homographies: Tensor, size: tuple[int, int]) -> Tensor:
    """Warp B×C×H×W images bilinearly by B×3×3 homographies to (height, width), on their device.

    Pixels that show nothing of an image are 0.
    """
    # With align_corners, grid_sample's coordinates -1 and 1 are the centres of the border's pixels,
    # so the homographies' convention holds exactly.
    return warp_perspective(images, homographies.to(images.dtype), size, align_corners=True)


def inside(points: Tensor, sizes: Tensor) -> Tensor:
    """Compute whether B×N×2 points lie between the centres of the border's pixels; NaN does not.

    Sizes are B×2 (width, height), or 2 for all.
    """
    limits = (sizes.to(points.device, points.dtype) - 1).expand(len(points), 2)[:, None]
    return ((points >= 0) & (points <= limits)).all(-1)


def valid_masks(homographies: Tensor, sizes: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute where :func:`warp_images` uses pixels of image 0 only, B×height×width bool.

    Homographies B×3×3 map image 0, of sizes B×2 (width, height), to image 1 of (height, width).
    """
    pixels = grid_positions(size, homographies).expand(len(homographies), -1, -1)
    return inside(warp_points(pixels, torch.linalg.inv(homographies)), sizes).unflatten(1, size)


def grid_positions(size: tuple[int, int], like: Tensor) -> Tensor:
    """List the positions N×2 (x, y) of a grid of (height, width), row by row, typed as ``like``."""
    y, x = (torch.arange(side, dtype=like.dtype, device=like.device) for side in size)
    return torch.cartesian_prod(y, x).flip(1)
