"""ContextDesc: descriptors of patches, augmented with visual and geometric context.

Luo et al., "ContextDesc: Local Descriptor Augmentation with Cross-Modality Context", CVPR 2019,
section 3, and the authors' released code, which is followed where the two differ.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.extractors.describer import Describer, patch_frames
from featplug.io.images import to_grey, to_uint8
from featplug.keypoints.detection import sift_levels
from featplug.keypoints.patches import sample_patches, standardise_patches
from featplug.methods import register_feature
from featplug.networks.caffe_resnet import CaffeResNet50
from featplug.networks.contextdesc import (
    DIMENSIONS,
    INTERPOLATIONS,
    PATCH_SIZE,
    ContextDesc,
    normalise_positions,
)
from featplug.networks.regional import RegionalNetwork
from featplug.weights.loading import load_network
from featplug.weights.registry import WeightsRecord

_COORDINATE_STEP = 1 / 32
_STANDARDISE_EPSILON = 1e-8
# Half of the pyramid's σ that SIFT detects in, so that patches keep detail of their keypoint.
_PYRAMID_SIGMA = 0.8
_CAMERA_SIGMA = 0.25
_LAYERS_PER_OCTAVE = 3


def patch_radii(scales: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return half the width of patches as large as the window of a SIFT descriptor.

    Args:
        scales: N, σ of the keypoints in the scale space, in pixels.
        image_size: (width, height) of the image, whose diagonal no radius exceeds.

    Returns:
        N whole numbers of pixels, halves rounded to even.
    """
    # OpenCV's histograms are 3σ wide; 5 of them fit into the diagonal of the window.
    sizes = 2 * np.asarray(scales, np.float64)
    radii = np.rint(3 * (sizes * 0.5) * np.sqrt(2) * 5 * 0.5)
    return np.minimum(radii, int(np.hypot(*image_size)))


class PatchSampler:
    """Cuts the patches of one image, standardised as the released code does first.

    Args:
        grey: H×W uint8.
        scales: N, σ of all keypoints of the image.
        pyramid: sample each patch from the level of a Gaussian pyramid at which its keypoint was
            detected (the released ``scale_diff``), not from the image itself.
    """

    def __init__(self, grey: np.ndarray, scales: np.ndarray, pyramid: bool = False) -> None:
        image = grey.astype(np.float32)
        self._levels = {(0, 0): image}
        self._pyramid = pyramid
        if pyramid:
            octaves, _ = self._places(scales)
            self._levels = _gaussian_pyramid(image, min(octaves.min(), 0), octaves.max())

    def __call__(self, keypoints: np.ndarray, scales: np.ndarray, oris: np.ndarray) -> np.ndarray:
        """Cut patches at M of the image's frames; see :func:`~.describer.patch_frames`.

        Returns:
            M×32×32 float32 of mean 0 and, where there is contrast, deviation 1.
        """
        octaves, layers = self._places(scales)
        patches = np.empty((len(scales), PATCH_SIZE, PATCH_SIZE), np.float32)
        for octave, layer in sorted(set(zip(octaves.tolist(), layers.tolist(), strict=True))):
            (rows,) = np.nonzero((octaves == octave) & (layers == layer))
            level, scale = self._levels[octave, layer], 2.0**-octave
            radii = patch_radii(scales[rows] * scale, (level.shape[1], level.shape[0]))
            patches[rows] = sample_patches(
                level,
                keypoints[rows] * scale,
                radii,
                oris[rows],
                PATCH_SIZE,
                centred=False,
                coordinate_step=_COORDINATE_STEP,
            )
        return standardise_patches(patches, _STANDARDISE_EPSILON)

    def _places(self, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return octave and layer of SIFT's scale space that keypoints were detected in."""
        if not self._pyramid:
            return np.zeros(len(scales), int), np.zeros(len(scales), int)
        return sift_levels(scales)


def _gaussian_pyramid(
    image: np.ndarray, first_octave: int, last_octave: int
) -> dict[tuple[int, int], np.ndarray]:
    """Return levels by (octave, layer); octaves halve the size, layers have σ 0.8 · 2^(layer/3)."""
    if first_octave < 0:
        image = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    camera = _CAMERA_SIGMA * 2.0**-first_octave
    level = _blur(image, camera, _PYRAMID_SIGMA)
    levels = {}
    for octave in range(first_octave, last_octave + 1):
        if octave > first_octave:
            size = (max(level.shape[1] // 2, 1), max(level.shape[0] // 2, 1))
            level = cv2.resize(level, size, interpolation=cv2.INTER_NEAREST)
        levels[octave, 0] = level
        for layer in range(1, _LAYERS_PER_OCTAVE + 1):
            before, after = (
                _PYRAMID_SIGMA * 2 ** (index / _LAYERS_PER_OCTAVE) for index in (layer - 1, layer)
            )
            level = levels[octave, layer] = _blur(level, before, after)
    return levels


def _blur(image: np.ndarray, before: float, after: float) -> np.ndarray:
    """Blur an image from one σ to another."""
    return cv2.GaussianBlur(image, (0, 0), np.sqrt(max(after**2 - before**2, 0.01)))


def quantise(descriptors: Tensor) -> Tensor:
    """Round unit descriptors to bytes as the released code does for export.

    A component f becomes ⌊128 f + 128⌋, and exactly 1 wraps around to 0.
    """
    return (descriptors * 128 + 128).int().bitwise_and(255).byte()


def load_networks(
    conf: Mapping[str, Any],
) -> tuple[ContextDesc, RegionalNetwork, list[WeightsRecord]]:
    """Load ContextDesc and the network of its regional features, and return both and their files.

    The latter is the backbone within the weights, or else the retrieval network in its own file.

    Args:
        conf: ``checkpoint``, ``weights``, ``regional_checkpoint`` and ``regional_weights`` of
            :class:`ContextDescExtractor`.

    Raises:
        FileNotFoundError: weights are missing; the message says how to get them.
        ValueError: they are damaged or do not belong together.
    """
    network, record = load_network(conf["checkpoint"], conf["weights"], ContextDesc)
    if network.backbone is not None:
        if conf["regional_weights"] not in ("auto", "featplug"):
            raise ValueError(
                f"{record.path} includes the network of its regional features; leave out "
                f"regional_weights {conf['regional_weights']}."
            )
        return network, network.backbone, [record]
    needed, regional = network.visual_context.conv1.in_features, conf["regional_checkpoint"]
    if needed != CaffeResNet50.num_channels:
        raise ValueError(
            f"{record.path} needs regional features of {needed} channels and has no network for "
            f"them, but {regional} has {CaffeResNet50.num_channels}; choose other weights."
        )
    retrieval, other = load_network(regional, conf["regional_weights"], CaffeResNet50)
    return network, retrieval, [record, other]


_REGIONAL = {"regional_checkpoint": "contextdesc-regional"}


def _conf(checkpoint: str, **options: Any) -> dict[str, Any]:
    return {"model": {"detector": {"name": "sift"}, "checkpoint": checkpoint, **options}}


@register_feature(
    {
        "contextdesc": _conf("contextdesc", **_REGIONAL),
        "contextdesc-upright": _conf("contextdesc-upright", **_REGIONAL, upright=True),
        # The paper's use without regional features.
        "contextdesc-geo": _conf("contextdesc", visual_context=False),
    },
    paper="Luo et al., CVPR 2019",
    dimensions="128",
    matcher="NN-ratio",
    two_view_matcher="NN-mutual",
    order=6,
)
class ContextDescExtractor(Describer):
    """ContextDesc at any detector's keypoints, by default SIFT's.

    A patch as large as SIFT's window gives a local feature and a matchability. Visual context
    comes from the map of a network for whole images, geometric context from where all keypoints
    lie and how matchable they are; the descriptor is the sum of the three. **Descriptors depend on
    the whole keypoint set**, so ``max_keypoints`` changes those of the keypoints that are kept.

    Where paper and released code differ, the code is followed, so that the authors' weights give
    the authors' descriptors:

    * Regional features are averaged over the three nearest cells. Equation 4 weighs them by
      inverse distance, which the released code means to do as well; its weights were trained with
      what it does. ``interpolation`` switches.
    * Regional features are the last residual sum before its ReLU; visual context ends with a
      ReLU and is never negative; the local feature in the sum is not of unit length.
    * The grid of a patch ends 1/16 of its half width before the window does, so patches lie half
      of their own pixel to the upper left. They are sampled without smoothing, at positions
      rounded to 1/32 pixel as OpenCV 3 and 4 do, and standardised twice.
    * A map of fewer than three cells, from images of up to 32 × 64 pixels, makes the released
      code fail; here the mean of the cells there are is taken.

    Conf, in addition to that of :class:`Describer`:
        checkpoint, weights: see :func:`featplug.weights.loading.load_weights`.
        regional_checkpoint, regional_weights: the same of the authors' retrieval network, for
            weights that were trained with it; the others include their network.
        upright: ignore the keypoints' orientations. Of keypoints that differ in orientation only,
            the first is kept, before the strongest are selected.
        visual_context: False leaves visual context and its network out (section 3.4: where
            regional features are not available).
        pyramid: sample patches from a Gaussian pyramid, as the authors do for some benchmarks.
        interpolation: ``released`` or ``inverse_distance``.
        quantise: round descriptors to 256 steps as the released code exports them. They stay
            float, multiples of 1/128, and are no longer exactly of unit length: match by ``l2``.
        default_scale: σ in pixels of keypoints whose detector returns no frames; patches are 21 σ
            wide.
        batch_size: patches in one pass through the local network; bounds memory, and changes
            descriptors by rounding only. 64 is the fastest on CPUs.

    Output: ``descriptors`` 128×N of unit length, ``matchability`` N in (-1, 1), and the keypoints
    that are left where ``upright``.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        **Describer.describer_conf,
        "checkpoint": "contextdesc",
        "weights": "auto",
        "regional_checkpoint": "contextdesc-regional",
        "regional_weights": "auto",
        "upright": False,
        "visual_context": True,
        "pyramid": False,
        "interpolation": INTERPOLATIONS[0],
        "quantise": False,
        "default_scale": 3.0,
        "batch_size": 64,
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"interpolation": INTERPOLATIONS}
    positive = ("default_scale", "batch_size")

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.regional: RegionalNetwork | None = None
        if self.conf["visual_context"]:
            self.network, self.regional, records = load_networks(self.conf)
            self.weights_records = (*records, *self.weights_records)
        else:
            self.network = self.load_network(ContextDesc)
            self.network.backbone = None
        self.eval()  # the batch normalisation would otherwise be that of training

    def describe(self, image: Tensor, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Describe keypoints of one image; see :class:`Describer`."""
        positions, scales, oris = patch_frames(keypoints, self.conf["default_scale"])
        if self.conf["upright"]:
            oris = torch.zeros_like(oris)
        if len(positions) == 0:
            return {
                "descriptors": image.new_zeros((DIMENSIONS, 0)),
                "matchability": image.new_zeros(0),
            }
        local, matchability = self.local_features(image, positions, scales, oris)
        descriptors = self.network(
            local,
            matchability,
            normalise_positions(positions, (image.shape[-1], image.shape[-2])),
            self.regional_features(image),
            self.conf["interpolation"],
        )
        if self.conf["quantise"]:
            descriptors = (quantise(descriptors).float() - 128) / 128
        return {"descriptors": descriptors.T, "matchability": matchability}

    @property
    def drops_keypoints(self) -> bool:
        """Whether keypoints are turned upright; see :class:`Describer`."""
        return self.conf["upright"]

    def select(self, keypoints: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn keypoints upright, and drop duplicates."""
        if not self.conf["upright"]:
            return keypoints
        positions, scales, _ = patch_frames(keypoints, self.conf["default_scale"])
        frames = torch.cat([positions, scales[:, None]], dim=1).numpy(force=True)
        _, first = np.unique(frames, axis=0, return_index=True)
        index = torch.from_numpy(np.sort(first)).to(positions.device)
        kept = {key: value[index] for key, value in keypoints.items()}
        if "oris" in kept:
            kept["oris"] = torch.zeros_like(kept["oris"])
        return kept

    def local_features(
        self, image: Tensor, positions: Tensor, scales: Tensor, oris: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Describe patches at the frames of :func:`~.describer.patch_frames`, in batches.

        Returns:
            Local features N×128, not of unit length, and matchabilities N; N > 0.
        """
        arrays = [value.numpy(force=True) for value in (positions, scales, oris)]
        sampler = PatchSampler(to_grey(image), arrays[1], self.conf["pyramid"])
        results = []
        for start in range(0, len(positions), self.conf["batch_size"]):
            batch = slice(start, start + self.conf["batch_size"])
            patches = sampler(*(array[batch] for array in arrays))
            results.append(self.network.describe_patches(torch.from_numpy(patches).to(image)))
        local, matchability = zip(*results, strict=True)
        return torch.cat(local).float(), torch.cat(matchability).float()

    def regional_features(self, image: Tensor) -> Tensor | None:
        """Compute the map C×h×w of an image C×H×W in [0, 1]; None without visual context."""
        if self.regional is None:
            return None
        array = to_uint8(image.expand(3, -1, -1))
        factor = self.regional.max_side / max(array.shape[:2])
        if factor < 1:
            array = cv2.resize(array, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        values = torch.from_numpy(array).to(image).permute(2, 0, 1)
        return self.regional(self.regional.standardise(values)[None])[0].float()
