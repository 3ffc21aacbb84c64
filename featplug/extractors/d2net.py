"""D2-Net: keypoints and descriptors from one dense feature map.

Dusmanu et al., "D2-Net: A Trainable CNN for Joint Description and Detection of Local Features",
CVPR 2019, section 3 (hard detection, equation 3; pyramid, equation 8) and the authors' released
extraction code, which is followed where the two differ.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.base import Extractor
from featplug.keypoints.detection import fills_budget, strongest
from featplug.methods import register_feature
from featplug.networks.d2net import (
    CELL_CENTRE,
    CELL_SIZE,
    MIN_SIDE,
    NUM_CHANNELS,
    D2Net,
    normalize_caffe,
)

EDGE_THRESHOLD = 5.0
"""Largest ratio of the principal curvatures of a detection, as in SIFT's edge test."""
OFFICIAL_CELL_CENTRE = 1.5
"""Where the released code puts the centre of cell 0, which lies at :data:`CELL_CENTRE`."""

_STRIP_ELEMENTS = 2**22
"""Feature values that detection compares at a time; bounds its memory."""


def detect(features: Tensor, edge_threshold: float = EDGE_THRESHOLD) -> tuple[Tensor, Tensor]:
    """Find the hard detections of a feature map and their sub-pixel steps.

    A cell is detected in a channel if that channel is the strongest of the cell (exact
    comparison; of equal channels each one counts), its value is the largest of its 3×3
    neighbourhood in the channel, and it does not lie on an edge. Only the strongest channel of
    a cell is looked at; the spatial tests never run over all channels. Finite differences take
    the map as 0 beyond its border.

    Args:
        features: C×h×w float32, fastest in channels-last memory.
        edge_threshold: largest ratio of the principal curvatures.

    Returns:
        M×3 int64 (channel, row, column) in that order of significance, and M×2 float32 steps
        (rows, columns) from the cell to the extremum of the quadratic through its
        neighbourhood. Steps may exceed half a cell; section 4.3 and the released code drop those.
    """
    num_channels, height, width = features.shape
    cells = features.permute(1, 2, 0).contiguous()
    if cells.numel() == 0:
        return cells.new_zeros((0, 3), dtype=torch.int64), cells.new_zeros((0, 2))
    highest = cells.amax(-1, keepdim=True)
    if cells.amin() >= 0:
        # In a rectified map all channels tie where the strongest is 0. Its maxima there are
        # flat, which the edge test rejects, so they need not be listed.
        highest.masked_fill_(highest == 0, torch.nan)
    rows = max(1, _STRIP_ELEMENTS // (width * num_channels))
    found, steps = [], []
    for top in range(0, height, rows):
        strip = slice(top, top + rows)
        row, column, channel = (cells[strip] == highest[strip]).nonzero().unbind(1)
        candidates = torch.stack([channel, row + top, column], dim=1)
        patches, inside = _neighbourhoods(cells, candidates)
        is_maximum = ((patches <= patches[:, 4:5]) | ~inside).all(1)
        patches = patches.masked_fill_(~inside, 0.0)[is_maximum]
        is_corner, step = _corners(patches, edge_threshold)
        found.append(candidates[is_maximum][is_corner])
        steps.append(step)
    detections = torch.cat(found)
    channel, row, column = detections.unbind(1)
    order = ((channel * height + row) * width + column).argsort()
    return detections[order], torch.cat(steps)[order]


def near_detections(features: Tensor) -> tuple[Tensor, Tensor]:
    """Find how near each cell is to being a hard detection.

    That is the largest ratio of its value to that of its strongest channel (equation 5) among the
    channels in which it is the largest of its 3×3 neighbourhood: 1 where it lacks the edge test, or
    a short enough step, only.

    Args:
        features: C×h×w float32.

    Returns:
        M×2 int64 (row, column) in that order of significance, and the M ratios in (0, 1].
    """
    _, height, width = features.shape
    nearness = features.new_zeros((height, width))
    rows = max(1, _STRIP_ELEMENTS // (width * len(features)))
    for top in range(0, height, rows):
        first, end = max(top - 1, 0), min(top + rows + 1, height)
        strip = features[:, first:end]
        is_maximum = strip == F.max_pool2d(strip[None], 3, stride=1, padding=1)[0]
        inner = slice(top - first, top - first + min(rows, height - top))
        largest = strip.masked_fill(~is_maximum, 0).amax(0)[inner]
        highest = strip.amax(0)[inner]
        nearness[top : top + rows] = torch.where(highest > 0, largest / highest, 0)
    cells = (nearness > 0).nonzero()
    return cells, nearness[cells[:, 0], cells[:, 1]]


def _neighbourhoods(cells: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return M×9 values around M×3 (channel, row, column) in h×w×C, and which lie in the map."""
    height, width, num_channels = cells.shape
    shift = torch.arange(9, device=at.device)
    row = at[:, 1:2] + shift // 3 - 1
    column = at[:, 2:3] + shift % 3 - 1
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = row.clamp_(0, height - 1) * width + column.clamp_(0, width - 1)
    return cells.view(-1)[index * num_channels + at[:, :1]], inside


def _corners(patches: Tensor, edge_threshold: float) -> tuple[Tensor, Tensor]:
    """Return which M×9 neighbourhoods pass the edge test, and the sub-pixel steps of these."""
    (
        top_left, top, top_right, left, centre, right, bottom_left, bottom, bottom_right,
    ) = patches.unbind(1)  # fmt: skip
    d_ii = top - 2 * centre + bottom
    d_jj = left - 2 * centre + right
    d_ij = 0.25 * (top_left - top_right - bottom_left + bottom_right)
    det = d_ii * d_jj - d_ij * d_ij
    trace = d_ii + d_jj
    # A flat neighbourhood gives 0/0; NaN compares as false, as it should.
    is_corner = (trace * trace / det <= (edge_threshold + 1) ** 2 / edge_threshold) & (det > 0)
    d_i, d_j = 0.5 * (bottom - top), 0.5 * (right - left)
    step = torch.stack([d_ij * d_j - d_jj * d_i, d_ij * d_i - d_ii * d_j], dim=1) / det[:, None]
    return is_corner, step[is_corner]


def _interpolate(features: Tensor, positions: Tensor) -> Tensor:
    """Sample C×h×w bilinearly at N×2 (row, column), inside the map; returns N×C."""
    cells = features.permute(1, 2, 0)
    low = positions.floor()
    top, left = low.long().unbind(1)
    bottom, right = positions.ceil().long().unbind(1)
    down, across = (positions - low).split(1, dim=1)
    values = cells[top, left].mul_((1 - down) * (1 - across))
    values.addcmul_(cells[top, right], (1 - down) * across)
    values.addcmul_(cells[bottom, left], down * (1 - across))
    values.addcmul_(cells[bottom, right], down * across)
    return values


class _Level(NamedTuple):
    """One level of the pyramid; sizes are (height, width)."""

    features: Tensor
    """C×h×w."""
    size: tuple[int, int]
    image_size: tuple[int, int]
    scale: float
    """Pixels of the image to a pixel of the level."""


_SCALES = [0.5, 1.0, 2.0]
# The paper uses the ImageNet weights without the last rectification.
_OFF_THE_SHELF = {"checkpoint": "d2net-ots", "use_relu": False}


@register_feature(
    {
        "d2net": {"model": {"checkpoint": "d2net"}},
        "d2net-ms": {"model": {"checkpoint": "d2net", "scales": _SCALES}},
        "d2net-ots": {"model": _OFF_THE_SHELF},
        "d2net-ots-ms": {"model": {**_OFF_THE_SHELF, "scales": _SCALES}},
    },
    paper="Dusmanu et al., CVPR 2019",
    dimensions="512",
    matcher="NN-ratio",
    two_view_matcher="NN-mutual",
    preprocessing={
        # The limits of the authors' command line, applied in one resize (they: two).
        "grayscale": False,
        "resize_max": 1600,
        "resize_max_sum": 2800,
        "interpolation": "pil_bilinear",
    },
    order=2,
)
class D2NetExtractor(Extractor):
    """D2-Net, single-scale by default, multi-scale with ``scales`` [0.5, 1.0, 2.0].

    Where paper and released code differ, the code is followed, so that the authors' weights
    give the authors' keypoints:

    * The pyramid adds the coarser level's already summed map (the paper adds the raw maps of
      all coarser levels), and scores are divided by the level's rank, 1 for the coarsest. Maps
      are added with their corner cells aligned, although those lie at different pixels.
    * A cell detected at a coarser level blocks its place at finer levels even if the sub-pixel
      test then drops it. A level without any keypoint still blocks, but its map is not added
      to finer levels. (The released code does so for the first level and fails after a later
      one; here it holds for all. A level too small for a single cell is passed over.)
    * ``use_relu`` is on by default, as in the released code. The paper switches it off for the
      off-the-shelf weights (checkpoint ``d2net-ots``); their confs have to say so.

    One thing is corrected: **coordinates**. The unpadded average pool moves the centre of a
    cell to 4·cell + 3.5 pixels of the level image; the released code reports 4·cell + 1.5 and
    is 2 pixels off at scale 1. Level images are resized with their corner pixels aligned, so
    level coordinates are scaled here by (W − 1)/(W_level − 1) and not by W/W_level.
    ``official_coordinates`` restores the released formula in both respects.

    Scores are feature values without an absolute meaning: the strongest keypoints tend to lie
    in texture-poor areas, so ``max_keypoints`` saves time and memory but rarely helps.

    **A budget is filled up.** Hard detection finds some 1,000 keypoints in an image of 640×480
    pixels. If ``max_keypoints`` is set, and neither threshold is, the cells that come nearest to
    detections (:func:`near_detections`) are added until the budget is met, at their centres and
    with scores below all others'. On 6 training photographs under known homographies, 2,048
    keypoints instead of 898 have 1.7 times the right matches (310 instead of 178 a pair), and .436
    of the matches are right at 3 px instead of .463. Without a budget, keypoints are those of the
    released settings.

    Conf:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        use_relu: rectify the last layer.
        scales: sizes of the pyramid's levels relative to the image, ascending.
        edge_threshold: largest ratio of the principal curvatures of a detection.
        max_step: the sub-pixel step of a keypoint is shorter than this, in cells.
        fill: add the cells nearest to detections where there are fewer than ``max_keypoints``. None
            does so if ``max_keypoints`` is set, and ``edge_threshold`` and ``max_step`` are not.
        max_keypoints: keep this many with the highest scores; -1 keeps all. Keypoints come in
            the released order (by level, channel, row, column) in either case.
        official_coordinates: report keypoints as the released code does.

    Output: ``keypoints``, ``scores``, ``descriptors`` 512×N of unit length, and ``scales`` N,
    1 over the size of the level a keypoint was found at.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "checkpoint": "d2net",
        "weights": "auto",
        "use_relu": True,
        "scales": [1.0],
        "edge_threshold": EDGE_THRESHOLD,
        "max_step": 0.5,
        "fill": None,
        "max_keypoints": -1,
        "official_coordinates": False,
    }

    positive = ("edge_threshold", "max_step")

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.conf["fill"] = fills_budget(conf or {}, ["edge_threshold", "max_step"])
        scales = list(self.conf["scales"])
        if not scales or min(scales) <= 0 or scales != sorted(scales):
            raise ValueError(
                f"D2-Net's scales must be positive and ascending, such as [0.5, 1.0, 2.0], "
                f"not {scales}."
            )
        self.network = self.load_network(D2Net, use_relu=self.conf["use_relu"])

    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image; see :class:`Extractor`."""
        image = normalize_caffe(image.expand(3, -1, -1))[None]
        height, width = image.shape[-2:]
        previous: Tensor | None = None
        blocked: Tensor | None = None
        levels, fillers = [], []
        for rank, scale in enumerate(self.conf["scales"], start=1):
            size = (int(height * scale), int(width * scale))
            if min(size) < MIN_SIDE:
                continue
            features = self._features(image, size, previous)
            level = _Level(features[0], size, (height, width), 1 / scale)
            cells, steps = detect(features[0], self.conf["edge_threshold"])
            if blocked is None:
                blocked = features.new_zeros((1, 1, *features.shape[-2:]))
            blocked = F.interpolate(blocked, size=features.shape[-2:])
            is_free = blocked[0, 0] == 0
            at_free = is_free[cells[:, 1], cells[:, 2]]
            cells, steps = cells[at_free], steps[at_free]
            blocked[0, 0, cells[:, 1], cells[:, 2]] = 1
            cells, positions = self._usable(cells, steps, features.shape[-2:])
            if self.conf["fill"]:
                is_free[cells[:, 1], cells[:, 2]] = False
                near, nearness = near_detections(features[0])
                at_free = is_free[near[:, 0], near[:, 1]]
                fillers.append(self._keypoints(level, near[at_free].float(), nearness[at_free]))
            if len(cells) == 0:
                continue
            scores = features[0, cells[:, 0], cells[:, 1], cells[:, 2]] / rank
            levels.append(self._keypoints(level, positions, scores))
            previous = features
        if fillers:
            lowest = min((float(level["scores"].min()) for level in levels), default=2.0)
            for filler in fillers:
                filler["scores"] += lowest - 2
        return self._merge([*levels, *fillers], image)

    def _features(self, image: Tensor, size: tuple[int, int], previous: Tensor | None) -> Tensor:
        """Compute the feature map 1×512×h×w of one level, with the coarser levels added."""
        if size != image.shape[-2:]:
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=True)
        # Detection compares values exactly: under autocast the network may return float16.
        features = self.network(image).float()
        if previous is not None:
            features += F.interpolate(
                previous, size=features.shape[-2:], mode="bilinear", align_corners=True
            )
        return features

    def _usable(
        self, cells: Tensor, steps: Tensor, map_size: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return the detections M×3 with short steps inside the map, and M×2 (row, column)."""
        positions = cells[:, 1:] + steps
        limit = positions.new_tensor(map_size) - 1
        is_short = steps.abs() < self.conf["max_step"]
        usable = (is_short & (positions >= 0) & (positions <= limit)).all(1)
        return cells[usable], positions[usable]

    def _keypoints(self, level: _Level, positions: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """Describe the strongest of N×2 (row, column) of a level's map."""
        kept = self._strongest(scores)
        positions, scores = positions[kept], scores[kept]
        return {
            "keypoints": self._to_image(positions, level.size, level.image_size),
            "scores": scores,
            "descriptors": F.normalize(_interpolate(level.features, positions), dim=1).t(),
            "scales": torch.full_like(scores, level.scale),
        }

    def _to_image(
        self, positions: Tensor, level_size: tuple[int, int], image_size: tuple[int, int]
    ) -> Tensor:
        """Turn cells N×2 (row, column) into pixels N×2 (x, y); sizes are (height, width)."""
        level, image = positions.new_tensor(level_size), positions.new_tensor(image_size)
        if self.conf["official_coordinates"]:
            pixels = (CELL_SIZE * positions + OFFICIAL_CELL_CENTRE) * (image / level)
        else:
            pixels = (CELL_SIZE * positions + CELL_CENTRE) * ((image - 1) / (level - 1))
        return pixels.flip(1)

    def _merge(self, levels: list[dict[str, Tensor]], image: Tensor) -> dict[str, Tensor]:
        """Concatenate the levels and keep the strongest keypoints."""
        if not levels:
            return {
                "keypoints": image.new_zeros((0, 2)),
                "scores": image.new_zeros(0),
                "descriptors": image.new_zeros((NUM_CHANNELS, 0)),
                "scales": image.new_zeros(0),
            }
        axes = {key: int(key == "descriptors") for key in levels[0]}
        merged = {k: torch.cat([level[k] for level in levels], axis) for k, axis in axes.items()}
        kept = self._strongest(merged["scores"])
        return {key: value.index_select(axes[key], kept) for key, value in merged.items()}

    def _strongest(self, scores: Tensor) -> Tensor:
        kept = strongest(scores.numpy(force=True), self.conf["max_keypoints"])
        return torch.from_numpy(kept).to(scores.device)
