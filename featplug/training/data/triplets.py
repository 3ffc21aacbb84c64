"""LISRD's triplets of views of a photograph, with known homographies and light.

Pautrat et al., "Online Invariance Selection for Local Feature Descriptors", ECCV 2020, sections
3.1 and 4.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.training.data import homographies, photometric
from featplug.training.data.homographies import (
    HomographyOptions,
    inside,
    rotation_angle,
    warp_points,
)
from featplug.training.data.photometric import PhotometricOptions
from featplug.training.data.placed_views import (
    PlacedView,
    ViewBatches,
    ViewOptions,
    canvas_images,
    cut_views,
    warp_views,
)
from featplug.training.data.view_pairs import HomographyPairOptions


@dataclass(frozen=True)
class LISRDTripletOptions(ViewOptions):
    """Options of LISRD's triplets; the defaults are the released code's."""

    size: tuple[int, int] = (240, 320)
    homographies: HomographyOptions = homographies.LISRD
    no_rotation_probability: float = 0.5
    """Probability that the invariant image is not rotated."""
    relit_probability: float = 0.5
    """Probability that the anchor shows another light, and that the invariant image does; at 0.5,
    the light differs between them in half of the triplets."""
    light: PhotometricOptions = photometric.RELIT
    """Changes that make the other light."""
    photometric: PhotometricOptions = photometric.LISRD
    num_keypoints: int = 1350
    """Largest number of keypoints of an anchor."""
    tiles: int = 3
    """Number of tiles along each side; all tiles may have the same number of keypoints."""
    contrast_threshold: float = 0.01
    """Contrast threshold of SIFT's detector."""


VIEWS = HomographyPairOptions(
    batch_size=1,
    size=(240, 320),
    homographies=homographies.LISRD,
    no_rotation_probability=0.5,
    photometric=photometric.RELIT,
    photometric_probability=0.5,
)
"""Pairs like anchor and invariant image: half of them rotated, half in another light."""
VALIDATION_VIEWS = replace(VIEWS, size=(320, 400))
"""Larger pairs, as at inference, where a tile has more keypoints."""


class LISRDTriplets(ViewBatches[LISRDTripletOptions]):
    """LISRD's triplets: an anchor, an invariant and a variant image (paper, section 3.2).

    A batch has, for B triplets and N keypoints:

    - ``image0`` (anchor), ``image1`` (invariant: under a homography that may rotate, possibly in
      another light), ``image2`` (variant: under a homography without rotation, in the anchor's
      light): B×3×H×W in [0, 1];
    - ``keypoints0``, ``keypoints1``, ``keypoints2``: B×N×2 float, −1 as padding;
    - ``valid``: B×N bool, whether a keypoint lies in all three images;
    - ``is_rotated``, ``is_relit``: B bool, whether image 1 is rotated, and in another light;
    - ``angle``: B float, its rotation in radians;
    - ``homography1``, ``homography2``: B×3×3 float32, from image 0 to image 1 and 2.

    The other light replaces the paper's photographs by day and by night.
    """

    def _draw(
        self, index: int, view: PlacedView, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        options = self.options
        height, width = options.size
        rotated = bool(rng.random() >= options.no_rotation_probability)
        upright = options.homographies.without_rotation()
        homography1 = self._homography(rng, options.homographies if rotated else upright)
        homography2 = self._homography(rng, upright)
        angle = rotation_angle(homography1, (width, height))
        relit = rng.random(2) < options.relit_probability
        x, y = view.offset
        cut = view.canvas[y : y + height, x : x + width]
        keypoints = sift_keypoints(
            cut, options.num_keypoints, options.tiles, options.contrast_threshold
        )
        padded = np.full((options.num_keypoints, 2), np.nan, dtype=np.float32)
        padded[: len(keypoints)] = keypoints
        return {
            "homography1": homography1.astype(np.float32),
            "homography2": homography2.astype(np.float32),
            "keypoints": padded,
            "is_rotated": np.array(rotated),
            "angle": np.array(angle, dtype=np.float32),
            "relit": relit,
            "light_seed": photometric.draw_seeds(rng, 1, bool(relit.any()))[0],
            "seeds": photometric.draw_seeds(rng, 3),
        }

    def render(self, plan: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the batch of a plan, on the plan's device."""
        options, size, seeds = self.options, self.options.size, plan["seeds"]
        plain = canvas_images(plan)
        other = photometric.photometric(plain, plan["light_seed"], options.light)
        relit0, relit1 = plan["relit"].unbind(1)
        light0 = torch.where(relit0[:, None, None, None], other, plain)
        light1 = torch.where(relit1[:, None, None, None], other, plain)
        images = [
            cut_views(light0, plan, size),
            warp_views(light1, plan, plan["homography1"], size)[0],
            warp_views(light0, plan, plan["homography2"], size)[0],
        ]
        keypoints = [plan["keypoints"]]
        keypoints += [warp_points(keypoints[0], plan[f"homography{k}"]) for k in (1, 2)]
        limits = torch.tensor((size[1], size[0]))
        batch: dict[str, Tensor] = {}
        for k, (image, points) in enumerate(zip(images, keypoints, strict=True)):
            batch[f"image{k}"] = photometric.photometric(image, seeds[:, k], options.photometric)
            batch[f"keypoints{k}"] = points.nan_to_num(-1.0)
        return {
            **batch,
            "valid": torch.stack([inside(points, limits) for points in keypoints]).all(0),
            "is_relit": relit0 != relit1,
            **{key: plan[key] for key in ("is_rotated", "angle", "homography1", "homography2")},
        }


def sift_keypoints(
    image: np.ndarray, count: int, tiles: int, contrast_threshold: float
) -> np.ndarray:
    """Detect at most ``count`` SIFT keypoints, N×2 float32 (x, y), spread over tiles of an image.

    Each of tiles² tiles of the H×W×3 uint8 image has at most ``count`` / tiles² keypoints, its
    strongest. Each place appears once, even if SIFT finds several orientations there.
    """
    height, width = image.shape[:2]
    sift = cv2.SIFT.create(nfeatures=2 * count, contrastThreshold=contrast_threshold)
    detected = sift.detect(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    places = {keypoint.pt: keypoint.response for keypoint in detected}
    if not places:
        return np.zeros((0, 2), dtype=np.float32)
    points = np.array(list(places), dtype=np.float32)
    order = np.argsort(-np.array(list(places.values())), kind="stable")
    columns, rows = (points / (width / tiles, height / tiles)).astype(int).clip(0, tiles - 1).T
    tile = (rows * tiles + columns)[order]
    kept = [order[tile == t][: count // tiles**2] for t in range(tiles**2)]
    return points[np.concatenate(kept)]
