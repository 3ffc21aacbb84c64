"""Features and matchers for notebooks and scripts; the engines of :mod:`featplug.stages` use them.

::

    feature = featplug.load("mtldesc", max_keypoints=4096)
    a, b = feature.extract("a.jpg"), feature.extract("b.jpg")
    matches = featplug.load_matcher(feature=feature).match(a, b)
    points_a, points_b = a.keypoints[matches.indices[:, 0]], b.keypoints[matches.indices[:, 1]]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np
import torch
from torch import Tensor

from featplug.base import Extractor, autocast, choose_device
from featplug.io.images import DEFAULT_PREPROCESSING, preprocess, read_and_preprocess, to_uint8
from featplug.matchers.lightglue import lightglue_form
from featplug.methods import (
    Conf,
    build_extractor,
    build_matcher,
    features,
    matcher_conf_for,
    matchers,
    resolve_conf,
    resolve_matcher_conf,
)
from featplug.utils.batches import Batches, grouped

ImageLike = str | Path | np.ndarray | Tensor
"""An image file, array or tensor, see :meth:`Feature.extract`."""


@dataclass(frozen=True, eq=False)
class Features:
    """One image's keypoints and descriptors, as float32 arrays; ``len`` is their number N."""

    keypoints: np.ndarray
    """Positions N×2 (x, y) in pixels of the original image; integers are pixel centres."""
    scores: np.ndarray
    """N, higher is stronger."""
    descriptors: np.ndarray
    """N×D."""
    image_size: tuple[int, int]
    """(width, height) of the original image."""
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    """Further outputs of the method, such as ``scales``, ``oris`` or ``meta_descriptors``."""
    image: np.ndarray | None = None
    """Original image H×W×3 or H×W uint8; None if it was not kept."""
    detection_noise: float = 1.0
    """Standard deviation of a keypoint in pixels of the original image."""
    method: str | None = None
    """Name of the method in its conf, which matchers with weights of one feature look at."""

    def __len__(self) -> int:
        return len(self.keypoints)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all outputs as hloc's files lay them out, ``descriptors`` D×N."""
        main = {"keypoints": self.keypoints, "scores": self.scores}
        return {**main, "descriptors": self.descriptors.T, **self.extras}

    def to_lightglue(self) -> dict[str, Tensor]:
        """Return LightGlue's form, such as ``keypoints`` 1×N×2 and ``descriptors`` 1×N×D.

        See :func:`featplug.matchers.lightglue.lightglue_form`.
        """
        arrays = {**self.arrays(), "image_size": np.array(self.image_size)}
        return lightglue_form({key: torch.tensor(value) for key, value in arrays.items()})


@dataclass(frozen=True, eq=False)
class Matches:
    """Matched keypoints of two images; ``len`` is their number K."""

    indices: np.ndarray
    """K×2 int64, a keypoint of the first and one of the second image."""
    scores: np.ndarray
    """K float32 in [0, 1], higher is more certain."""

    def __len__(self) -> int:
        return len(self.indices)


class Feature:
    """An extractor with its conf: reads and resizes images and returns original pixels.

    Args:
        conf: the name of a feature conf, or a conf dict; see :mod:`featplug.methods`.
        device: such as ``cuda:1``; the best one of the machine if None.
        precision: ``fp32``, ``fp16`` or ``bf16``, of the network's products.
        options: the method's options, such as ``max_keypoints`` or ``weights``.

    Raises:
        FileNotFoundError: weights are missing; the message says how to get them.
        ValueError: no such conf, option, device or precision exists.
    """

    def __init__(
        self,
        conf: str | Mapping[str, Any],
        *,
        device: str | None = None,
        precision: str = "fp32",
        **options: Any,
    ) -> None:
        self.conf: Conf = resolve_conf(conf, **options)
        self.preprocessing = {**DEFAULT_PREPROCESSING, **self.conf.get("preprocessing", {})}
        self.device = choose_device(device)
        self.precision = precision
        autocast(self.device, precision)  # raises where it is unknown
        self.extractor = build_extractor(self.conf["model"]).to(self.device)

    @overload
    def extract(self, image: ImageLike, batch_size: int = 1) -> Features: ...
    @overload
    def extract(
        self, image: list[Any] | tuple[Any, ...], batch_size: int = 1
    ) -> list[Features]: ...
    def extract(
        self, image: ImageLike | list[Any] | tuple[Any, ...], batch_size: int = 1
    ) -> Features | list[Features]:
        """Extract features of one image, or of each of a list.

        Args:
            image: a file, an array H×W×3 (RGB) or H×W (grey) uint8, or a tensor C×H×W in [0, 1],
                which is rounded to 8 bits; or a list of such images.
            batch_size: number of images of one size that the network takes at once, fewer where
                they do not fit memory. Descriptors then differ by rounding only, at most in the
                last bit of float16.

        Raises:
            FileNotFoundError: no such file exists.
            ValueError: a file cannot be used, or an array has another form.
        """
        if not isinstance(image, list | tuple):
            return self.extract([image])[0]
        batches = Batches(self._extract_read, batch_size, "images")
        read = map(self._read, range(len(image)), image)
        features = {}
        for group in grouped(read, lambda one: one.planes.shape, batch_size):
            for one, result in batches.results(group):
                if isinstance(result, Exception):
                    raise result
                features[one.index] = result
        return [features[index] for index in range(len(image))]

    def _read(self, index: int, image: ImageLike) -> "_ReadImage":
        if isinstance(image, str | Path):
            pixels, planes, size = read_and_preprocess(Path(image), self.preprocessing)
        else:
            pixels = _pixels(image, bool(self.preprocessing["grayscale"]))
            size = (pixels.shape[1], pixels.shape[0])
            planes = preprocess(pixels, self.preprocessing)
        is_whole = (pixels.shape[1], pixels.shape[0]) == size
        return _ReadImage(index, planes, size, pixels if is_whole else None)

    def _extract_read(self, images: Sequence["_ReadImage"]) -> list[Features]:
        found = self.extract_preprocessed(
            [image.planes for image in images], [image.original_size for image in images]
        )
        kept = zip(found, images, strict=True)
        return [replace(features, image=image.pixels) for features, image in kept]

    def extract_preprocessed(
        self, pixels: Sequence[np.ndarray], original_sizes: Sequence[tuple[int, int]]
    ) -> list[Features]:
        """Extract features of images of one size, in one batch, that were read before.

        Args:
            pixels: C×H×W float32 in [0, 1] of each.
            original_sizes: (width, height) of each before resizing.
        """
        batch = torch.from_numpy(np.stack(pixels)).to(self.device)
        with autocast(self.device, self.precision):
            outputs = run_extractor(self.extractor, batch, original_sizes)
        return [
            _as_features(arrays, size, noise, self.conf["model"]["name"])
            for (arrays, noise), size in zip(outputs, original_sizes, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _ReadImage:
    """An image of a list."""

    index: int
    planes: np.ndarray
    """C×H×W float32, resized."""
    original_size: tuple[int, int]
    pixels: np.ndarray | None
    """Pixels of the original, where they were read."""


def _as_features(
    arrays: dict[str, np.ndarray], image_size: tuple[int, int], noise: float, method: str
) -> Features:
    main = {key: arrays.pop(key) for key in ("keypoints", "scores", "descriptors")}
    main["descriptors"] = main["descriptors"].T
    return Features(
        **main, image_size=image_size, extras=arrays, detection_noise=noise, method=method
    )


class FeatureMatcher:
    """A matcher with its conf, for :class:`Features` of two images.

    Args:
        conf: the name of a matcher conf, or a conf dict; see :mod:`featplug.methods`.
        device: such as ``cuda:1``; the best one of the machine if None.
        options: the method's options.

    Raises:
        ValueError: no such conf, option or device exists.
    """

    def __init__(
        self, conf: str | Mapping[str, Any], *, device: str | None = None, **options: Any
    ) -> None:
        self.conf: Conf = resolve_matcher_conf(conf, **options)
        self.device = choose_device(device)
        self.matcher = build_matcher(self.conf["model"]).to(self.device)

    def match(self, a: Features, b: Features) -> Matches:
        """Match two images.

        Raises:
            ValueError: the features lack an array that the matcher needs, or are of two methods.
        """
        sides = [
            {key: torch.tensor(value, device=self.device) for key, value in image.arrays().items()}
            for image in (a, b)
        ]
        return found_matches(self.matcher.match_pair(*sides))


def load(name: str | Mapping[str, Any], **options: Any) -> Feature:
    """Load a :class:`Feature` by name, such as ``sift``, ``mtldesc`` or ``lisrd@mtldesc``.

    ``featplug list`` shows the names.
    """
    return Feature(name, **options)


def load_matcher(
    name: str | None = None, feature: Feature | str | None = None, **options: Any
) -> FeatureMatcher:
    """Load a matcher by name, or the one that belongs to a feature.

    Args:
        name: a matcher conf, such as ``NN-ratio``.
        feature: a feature or the name of its conf. It names the matcher where ``name`` is None, and
            chooses the weights of one that has some for each feature, such as ``lightglue``.
        options: ``device`` and the method's own; see :class:`FeatureMatcher`.

    Raises:
        ValueError: neither is given.
    """
    if feature is None:
        if name is None:
            raise ValueError("load_matcher needs the name of a matcher or a feature.")
        return FeatureMatcher(name, **options)
    conf = feature.conf if isinstance(feature, Feature) else resolve_conf(feature)
    return FeatureMatcher(matcher_conf_for(conf, name or conf["matcher"]), **options)


def list_features() -> list[str]:
    """Return the names of all feature confs, which ``featplug list`` describes."""
    return list(features)


def list_matchers() -> list[str]:
    """Return the names of all matcher confs."""
    return list(matchers)


def run_extractor(
    extractor: Extractor,
    images: Tensor,
    original_sizes: Sequence[tuple[int, int]],
    dtype: type[np.floating] = np.float32,
) -> list[tuple[dict[str, np.ndarray], float]]:
    """Extract from images of one size and convert coordinates to pixels of the originals.

    Args:
        extractor: on the images' device.
        images: B×C×H×W float in [0, 1].
        original_sizes: (width, height) of each before resizing.
        dtype: type that keypoints are computed and returned in.

    Returns:
        The extractor's outputs for each image, and the standard deviation of a keypoint in original
        pixels.
    """
    outputs = extractor({"image": images})
    size = np.array(images.shape[:1:-1])
    converted = []
    for index, original_size in enumerate(original_sizes):
        arrays = {key: values[index].cpu().numpy() for key, values in outputs.items()}
        scale = (np.array(original_size) / size).astype(dtype)
        mean_scale = scale.mean()
        # Integer = pixel centre: the shift keeps the image's corner, not its first pixel, in place.
        half = dtype(0.5)
        arrays["keypoints"] = (arrays["keypoints"].astype(dtype) + half) * scale - half
        if "scales" in arrays:
            arrays["scales"] = arrays["scales"] * np.float32(mean_scale)
        if "lafs" in arrays:
            arrays["lafs"] = arrays["lafs"] * scale.astype(np.float32)[:, None]
            arrays["lafs"][..., 2] += (scale / 2 - half).astype(np.float32)
        converted.append((arrays, float(extractor.detection_noise * mean_scale)))
    return converted


def found_matches(result: Mapping[str, Tensor]) -> Matches:
    """Gather the matches in the result of :meth:`featplug.base.Matcher.match`."""
    matches0 = result["matches0"].cpu().numpy()
    (rows,) = np.nonzero(matches0 >= 0)
    scores = result["matching_scores0"].cpu().numpy()[rows]
    return Matches(np.stack([rows, matches0[rows]], axis=1), scores)


def _pixels(image: np.ndarray | Tensor, grayscale: bool) -> np.ndarray:
    """Return an array or tensor as H×W×3, or H×W for ``grayscale``, uint8."""
    if isinstance(image, Tensor):
        if image.ndim != 3 or not image.is_floating_point():
            raise ValueError(
                f"A tensor must be C×H×W, of floats in [0, 1], not {image.dtype} of shape "
                f"{tuple(image.shape)}."
            )
        image = to_uint8(image)
        image = image[..., 0] if image.shape[2] == 1 else image
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"An image must be H×W×3 or H×W uint8, not {image.dtype} of shape {image.shape}."
        )
    if grayscale and image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return image if grayscale or image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
