"""What notebooks and engines hand on: the features of an image, and the matches of two."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from featplug.io.lightglue_form import lightglue_form


@dataclass(frozen=True, eq=False)
class Features:
    """One image's keypoints and descriptors, as float32 arrays; ``len`` is their number N."""

    keypoints: np.ndarray
    """Positions N×2 (x, y) in pixels of the original image as stored; integers are pixel
    centres."""
    scores: np.ndarray
    """N, higher is stronger."""
    descriptors: np.ndarray
    """N×D."""
    image_size: tuple[int, int]
    """(width, height) of the original image as stored."""
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    """Further outputs of the method, such as ``scales``, ``oris`` or ``meta_descriptors``."""
    image: np.ndarray | None = None
    """Original image as stored, H×W×3 or H×W uint8; None if it was not kept."""
    detection_noise: float = 1.0
    """Standard deviation of a keypoint in pixels of the original image."""
    method: str | None = None
    """Name of the method in its conf, which matchers with weights of one feature look at."""
    orientation: int = 1
    """EXIF's orientation by which the image was turned upright for extraction, 1 to 8."""

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        width, height = self.image_size
        dim = self.descriptors.shape[1]
        return f"Features({len(self)} keypoints, {dim}-D, of {width}×{height} pixels)"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all outputs as hloc's files lay them out, ``descriptors`` D×N."""
        main = {"keypoints": self.keypoints, "scores": self.scores}
        return {**main, "descriptors": self.descriptors.T, **self.extras}

    def to_lightglue(self) -> dict[str, Tensor]:
        """Return LightGlue's form, such as ``keypoints`` 1×N×2 and ``descriptors`` 1×N×D.

        Positions are of the image as stored; featplug's own matchers see them upright.

        See :func:`featplug.io.lightglue_form.lightglue_form`.
        """
        arrays = {**self.arrays(), "image_size": np.array(self.image_size)}
        return lightglue_form({key: torch.tensor(value) for key, value in arrays.items()})


@dataclass(frozen=True, eq=False)
class Matches:
    """Matched points of two images; ``len`` is their number K."""

    indices: np.ndarray
    """K×2 int64, a keypoint of the first and one of the second image; of a method without
    keypoints, row k is k and k."""
    scores: np.ndarray
    """K float32 in [0, 1], higher is more certain."""
    points0: np.ndarray
    """K×2 (x, y) in pixels of the first image; integers are pixel centres."""
    points1: np.ndarray
    """K×2 in pixels of the second image."""

    @classmethod
    def of_keypoints(
        cls,
        indices: np.ndarray,
        scores: np.ndarray,
        keypoints0: np.ndarray,
        keypoints1: np.ndarray,
    ) -> Self:
        """Return the matches of the keypoints N×2 of two images at indices K×2."""
        return cls(indices, scores, keypoints0[indices[:, 0]], keypoints1[indices[:, 1]])

    @classmethod
    def of_points(cls, points0: np.ndarray, points1: np.ndarray, scores: np.ndarray) -> Self:
        """Return the matches of points that are no image's keypoints."""
        return cls(np.arange(len(scores)).repeat(2).reshape(-1, 2), scores, points0, points1)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Matches({len(self)})"


def found_matches(result: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices K×2 and scores K of a result of :meth:`featplug.base.Matcher.match`."""
    matches0 = result["matches0"].cpu().numpy()
    (rows,) = np.nonzero(matches0 >= 0)
    scores = result["matching_scores0"].cpu().numpy()[rows]
    return np.stack([rows, matches0[rows]], axis=1), scores
