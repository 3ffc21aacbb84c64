"""MTLDesc: keypoints and attention-weighted descriptors from one network.

Wang et al., "MTLDesc: Looking Wider to Describe Better", AAAI 2022, and the authors' released
extraction code, which is followed where the two differ.
"""

from collections.abc import Mapping
from itertools import accumulate
from operator import truediv
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.base import Extractor
from featplug.io.images import to_uint8
from featplug.keypoints.detection import fills_budget, non_maximum_suppression, strongest
from featplug.methods import register_feature
from featplug.networks.mtldesc import MTLDesc, normalize

_SIDE_MULTIPLE = 16
_FILL_THRESHOLD = 0.1
"""Lowest score of a keypoint that fills up the budget."""
# Divided again and again, as released: sizes that end on a half are rounded by the last bit.
_SCALES = list(accumulate([1.0] + 6 * [2**0.25], truediv))


@register_feature(
    {
        "mtldesc": {"model": {"checkpoint": "mtldesc"}},
        "mtldesc-ms": {"model": {"checkpoint": "mtldesc", "scales": _SCALES}},
    },
    paper="Wang et al., AAAI 2022",
    dimensions="128 (weighted)",
    matcher="mtldesc",
    order=3,
)
class MTLDescExtractor(Extractor):
    """MTLDesc, single-scale by default.

    A keypoint is a pixel whose score, the sigmoid of the network's logit, is at least
    ``detection_threshold`` and that greedy non-maximum suppression keeps. Its descriptor is the
    unit vector of the descriptor map **times the attention** sampled there, as in the paper's
    section "Consistent Attention in Matching". Never normalise it: the length counts when
    distances are compared (matcher ``mtldesc``, as the paper has it) and, differently, when
    products are (``mtldesc-dot``, as the authors' HPatches notebook has it).

    As in the released code, images are taken with 8 bits per channel, and a side that is no
    multiple of 16 is resized to the nearest one (halves to the even multiple), each for itself.
    A side below 8 pixels, where the released code fails, becomes 16. For the differences between
    the paper's network and the code's see :class:`featplug.networks.mtldesc.MTLDesc`.

    Two things are not as in the released code:

    * **Coordinates.** It scales pixel indices by W/W_network, which moves keypoints by half of
      the difference between the two pixel sizes; here pixel centres are mapped,
      (x + 0.5)·W/W_network − 0.5. ``official_coordinates`` restores the released formula.
    * **No keypoints** are a normal answer; the released code fails.

    Sampling: the code normalises pixels by 2x/(W − 1) − 1 and leaves ``align_corners`` of
    ``grid_sample`` to its default, which was True in the PyTorch that the authors name (1.2) and
    is False since 1.3. True puts pixel 0 onto cell 0 and the last pixel onto the last cell.
    Neither meets the cells' true centres, 4·cell + 1.5, everywhere.

    Multi-scale: the authors have a function for it that their command line cannot reach. It
    resizes the *already resized* image by 2^(−1/4) until the scale falls below 0.3, extracts from
    each level, concatenates, and keeps the strongest; a keypoint found at two levels is kept
    twice. The conf ``mtldesc-ms`` does that. (For a first scale above 1 the
    function still takes the image as it is; here it is enlarged.)

    **A budget is filled up.** The released threshold of 0.9 leaves some 700 keypoints in an image
    of 640×480 pixels. If ``max_keypoints`` is set and ``detection_threshold`` is not, the strongest
    keypoints below the threshold, down to 0.1, are added until the budget is met. On 10 training
    photographs under known homographies, 2,048 keypoints have 2.8 times the right matches (1,051
    instead of 370 a pair), and .836 of the matches are right at 3 px instead of .869. Without a
    budget, keypoints are those of the released settings.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        detection_threshold: the lowest score of a keypoint.
        fill: add the strongest keypoints below ``detection_threshold``, down to 0.1, where fewer
            than ``max_keypoints`` reach it. None does so if ``max_keypoints`` is set and
            ``detection_threshold`` is not.
        nms_radius: pixels to each side that a keypoint keeps free of weaker ones.
        border: pixels along the image's border without keypoints. This and ``nms_radius`` count
            pixels of the image that the network sees.
        max_keypoints: keep this many with the highest scores; -1 keeps all.
        scales: sizes of the pyramid's levels relative to the image, descending.
        align_corners: how the maps are sampled, see above.
        official_coordinates: report keypoints as the released code does.

    Output: ``keypoints``, ``scores``, ``descriptors`` 128×N, ``attention`` N, the lengths of the
    descriptors, and ``scales`` N, 1 over the size of the level a keypoint was found at; by rising
    score, as released.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "checkpoint": "mtldesc",
        "weights": "auto",
        "detection_threshold": 0.9,
        "fill": None,
        "nms_radius": 4,
        "border": 4,
        "max_keypoints": 10000,
        "scales": [1.0],
        "align_corners": True,
        "official_coordinates": False,
    }

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.conf["fill"] = fills_budget(conf or {}, ["detection_threshold"])
        scales = list(self.conf["scales"])
        if not scales or min(scales) <= 0 or scales != sorted(scales, reverse=True):
            raise ValueError(
                f"MTLDesc's scales must be positive and descending, such as [1.0, 0.7, 0.5], "
                f"not {scales}."
            )
        for name in ("nms_radius", "border"):
            if self.conf[name] < 0:
                raise ValueError(f"MTLDesc's {name} cannot be negative, such as {self.conf[name]}.")
        self.network = self.load_network(MTLDesc).eval()  # it has dropout

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        return self.extract_batch(image[None])[0]

    def extract_batch(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Extract from images of one size; see :class:`Extractor`."""
        height, width = images.shape[-2:]
        levels = [to_uint8(image.expand(3, -1, -1)) for image in images]
        found: list[list[dict[str, Tensor]]] = [[] for _ in levels]
        for scale in self.conf["scales"]:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            levels = [_resize(level, size) for level in levels]
            extracted = self._extract_level(levels, (width, height), images.device)
            for of_image, features in zip(found, extracted, strict=True):
                features["scales"] = torch.full_like(features["scores"], 1 / scale)
                of_image.append(features)
        return [self._merge(of_image) for of_image in found]

    def _merge(self, found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Concatenate the levels of an image and keep the strongest keypoints."""
        merged = {key: torch.cat([features[key] for features in found]) for key in found[0]}
        scores = merged["scores"].numpy(force=True)
        kept = strongest(scores, self.conf["max_keypoints"])
        order = torch.from_numpy(kept[np.argsort(scores[kept], kind="stable")])
        order = order.to(merged["scores"].device)
        merged = {key: value[order] for key, value in merged.items()}
        return {**merged, "descriptors": merged["descriptors"].t()}

    def _extract_level(
        self, levels: list[np.ndarray], image_size: tuple[int, int], device: torch.device
    ) -> list[dict[str, Tensor]]:
        """Extract from images H×W×3 uint8, descriptors N×128; sizes are (width, height)."""
        size = (_network_side(levels[0].shape[1]), _network_side(levels[0].shape[0]))
        pixels = np.stack([_resize(level, size) for level in levels])
        images = normalize(torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2))
        # Detection compares scores exactly: under autocast the network may return float16.
        maps = [m.float().split(1) for m in self.network(images)]
        return [
            self._decode(logits, descriptors, attention, image_size)
            for logits, descriptors, attention in zip(*maps, strict=True)
        ]

    def _decode(
        self, logits: Tensor, descriptors: Tensor, attention: Tensor, image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Find the keypoints in the maps of one image, each with a batch axis of 1."""
        size, device = (logits.shape[3], logits.shape[2]), logits.device
        probability = logits[0, 0].sigmoid().numpy(force=True)
        threshold = self.conf["detection_threshold"]
        if self.conf["fill"]:
            threshold = min(threshold, _FILL_THRESHOLD)
        found = non_maximum_suppression(probability, threshold, self.conf["nms_radius"])
        border = self.conf["border"]
        limit = np.array(probability.shape) - border
        found = found[((found >= border) & (found < limit)).all(1)]
        if self.conf["max_keypoints"] >= 0:
            found = found[: self.conf["max_keypoints"]]  # they come by falling score
        scores = torch.from_numpy(probability[found[:, 0], found[:, 1]]).to(device)

        positions = torch.from_numpy(found[:, ::-1].astype(np.float32)).to(device)
        grid = (positions * 2 / (positions.new_tensor(size) - 1) - 1)[None, None]
        align = self.conf["align_corners"]
        lengths = F.grid_sample(attention, grid, padding_mode="border", align_corners=align)
        lengths = lengths.flatten()
        directions = F.grid_sample(descriptors, grid, align_corners=align)[0, :, 0]
        return {
            "keypoints": self._to_image(positions, size, image_size),
            "scores": scores,
            "descriptors": (F.normalize(directions, dim=0) * lengths).t(),
            "attention": lengths,
        }

    def _to_image(
        self, positions: Tensor, level_size: tuple[int, int], image_size: tuple[int, int]
    ) -> Tensor:
        """Turn pixels N×2 (x, y) of a level into pixels of the image; sizes are (width, height)."""
        image = positions.new_tensor(image_size)
        ratio = image / positions.new_tensor(level_size)
        if self.conf["official_coordinates"]:
            # Of an image much smaller than the network's, the formula may leave the last pixel.
            return torch.minimum(positions * ratio, image - 0.5)
        return (positions + 0.5) * ratio - 0.5


def _network_side(side: int) -> int:
    """Return the multiple of 16 that a side of the image is resized to."""
    return max(_SIDE_MULTIPLE, _SIDE_MULTIPLE * round(side / _SIDE_MULTIPLE))


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize H×W×3 uint8 to (width, height)."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
