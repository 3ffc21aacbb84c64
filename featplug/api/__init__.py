"""Features and matchers for notebooks and scripts; the engines of :mod:`featplug.stages` use them.

::

    feature = featplug.load("mtldesc", max_keypoints=4096)
    a, b = feature.extract("a.jpg"), feature.extract("b.jpg")
    matches = featplug.load_matcher(feature=feature).match(a, b)
    matches.indices, matches.points0, matches.points1, matches.scores

    matches = featplug.match_images("a.jpg", "b.jpg", "aliked-n16+lightglue")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from featplug.api.feature_types import Features, Matches, found_matches
from featplug.api.image_matcher import ImageMatcher
from featplug.base import Extractor, autocast, choose_device
from featplug.io.image_inputs import ImageLike, read_input
from featplug.io.images import DEFAULT_PREPROCESSING, ReadImage, preprocess
from featplug.io.orientation import Orientation, Turn, check_orientation
from featplug.matchers.guided import guided
from featplug.methods import (
    Conf,
    MethodTable,
    build_extractor,
    build_matcher,
    features,
    is_pair_matcher,
    matcher_conf_for,
    matcher_of,
    matchers,
    resolve_conf,
    resolve_matcher_conf,
)
from featplug.methods.method_table import STRONGEST
from featplug.utils.batches import Batches, grouped


class Feature:
    """An extractor with its conf: reads and resizes images and returns original pixels.

    Args:
        conf: the name of a feature conf, or a conf dict; see :mod:`featplug.methods`.
        device: such as ``cuda:1``; the best one of the machine if None.
        precision: ``fp32``, ``fp16`` or ``bf16``, of the network's products.
        orientation: ``exif`` to extract from files as their EXIF data turn them upright, ``stored``
            for their pixels as stored. Keypoints are always of the image as stored.
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
        orientation: Orientation = "exif",
        **options: Any,
    ) -> None:
        self.conf: Conf = resolve_conf(conf, **options)
        self.preprocessing = {**DEFAULT_PREPROCESSING, **self.conf.get("preprocessing", {})}
        self.device = choose_device(device)
        self.precision, self.orientation = precision, orientation
        check_orientation(orientation)
        autocast(self.device, precision)  # raises where it is unknown
        self.extractor = build_extractor(self.conf["model"]).to(self.device)

    @property
    def name(self) -> str:
        """Name of the method, as in a conf."""
        return str(self.conf["model"]["name"])

    def __repr__(self) -> str:
        return f"Feature({self.conf['model']}, device={self.device})"

    def save_pretrained(self, path: str | Path) -> None:
        """Write conf and weights files, for :func:`featplug.from_pretrained` and for others.

        Weights keep the hash and the licence of the file that they were loaded from. Networks that
        were changed since are not written; save their ``state_dict`` and load that by ``weights``.

        Args:
            path: a folder, or a ``.safetensors`` file for a feature of one network.

        Raises:
            ValueError: the feature is a class that is not registered, or has several networks.
        """
        from featplug.api.pretrained import save_pretrained  # which imports this module

        save_pretrained(self, Path(path))

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
        for group in grouped(read, lambda one: one.read.planes.shape, batch_size):
            for one, result in batches.results(group):
                if isinstance(result, Exception):
                    raise result
                features[one.index] = result
        return [features[index] for index in range(len(image))]

    def _read(self, index: int, image: ImageLike) -> "_IndexedImage":
        return _IndexedImage(index, read_input(image, self.preprocessing, self.orientation))

    def _extract_read(self, images: Sequence["_IndexedImage"]) -> list[Features]:
        read = [image.read for image in images]
        found = self.extract_preprocessed([one.planes for one in read], [one.turn for one in read])
        return [
            replace(features, image=one.pixels)
            if one.pixels.shape[1::-1] == one.turn.size  # else it was reduced while decoded
            else features
            for features, one in zip(found, read, strict=True)
        ]

    def extract_preprocessed(
        self, pixels: Sequence[np.ndarray], turns: Sequence[Turn]
    ) -> list[Features]:
        """Extract features of images of one size, in one batch, that were read before.

        Args:
            pixels: C×H×W float32 in [0, 1] of each, upright.
            turns: turn of each from the image as stored, before resizing, to the upright one.
        """
        batch = torch.from_numpy(np.stack(pixels)).to(self.device)
        with autocast(self.device, self.precision):
            outputs = run_extractor(self.extractor, batch, [turn.upright_size for turn in turns])
        return [
            _as_features(turn.stored_arrays(arrays), turn, noise, self.name)
            for (arrays, noise), turn in zip(outputs, turns, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _IndexedImage:
    """An image of a list."""

    index: int
    read: ReadImage


def _as_features(arrays: dict[str, np.ndarray], turn: Turn, noise: float, method: str) -> Features:
    main = {key: arrays.pop(key) for key in ("keypoints", "scores", "descriptors")}
    main["descriptors"] = main["descriptors"].T
    return Features(
        **main,
        image_size=turn.size,
        orientation=turn.orientation,
        extras=arrays,
        detection_noise=noise,
        method=method,
    )


class FeatureMatcher:
    """A matcher with its conf, for :class:`Features` of two images.

    Args:
        conf: the name of a matcher conf, or a conf dict; see :mod:`featplug.methods`.
        device: such as ``cuda:1``; the best one of the machine if None.
        strongest: number of keypoints that are matched first where images have many more, by a
            matcher that can be guided; -1 matches all with all. See
            :mod:`featplug.matchers.guided`.
        options: the method's options.

    Raises:
        ValueError: no such conf, option or device exists.
    """

    def __init__(
        self,
        conf: str | Mapping[str, Any],
        *,
        device: str | None = None,
        strongest: int = STRONGEST,
        **options: Any,
    ) -> None:
        self.conf: Conf = resolve_matcher_conf(conf, **options)
        self.device = choose_device(device)
        self.matcher = guided(build_matcher(self.conf["model"]), strongest).to(self.device)

    def match(self, a: Features, b: Features) -> Matches:
        """Match two images.

        Raises:
            ValueError: the features lack an array that the matcher needs, or are of a method that
                it is not for.
        """
        result = self.matcher.match_pair(self.inputs(a), self.inputs(b))
        return Matches.of_keypoints(*found_matches(result), a.keypoints, b.keypoints)

    def inputs(self, features: Features) -> dict[str, Tensor]:
        """Return what the matcher reads of an image, on its device.

        Raises:
            ValueError: the features are none, or of a method that the matcher is not for.
        """
        if not isinstance(features, Features):
            raise ValueError(
                f"{type(self.matcher).__name__} matches features, not {type(features).__name__}; "
                "extract them by featplug.load(…).extract, or use featplug.match_images."
            )
        self.matcher.check_features_of(features.method)
        turn = Turn(features.image_size, features.orientation)
        image_size = np.array(features.image_size, np.float32)
        arrays = turn.upright_arrays({**features.arrays(), "image_size": image_size})
        if features.image is not None and "image" in self.matcher.axes:
            arrays["image"] = preprocess(turn.upright_pixels(features.image), {})
        keys = self.matcher.axes.keys() & arrays.keys()
        return {key: torch.tensor(arrays[key], device=self.device) for key in keys}


def load(name: str | Mapping[str, Any], **options: Any) -> Feature:
    """Load a :class:`Feature` by conf or name, such as ``sift``, ``mtldesc`` or ``lisrd@mtldesc``.

    ``featplug list`` shows the names.

    Raises:
        FileNotFoundError: weights are missing; the message says how to get them.
        ValueError: no such feature or option exists.
    """
    if _matches_images(name, features):
        shown_name = name if isinstance(name, str) else name["model"]["name"]
        raise ValueError(
            f"{shown_name} matches two images, without features of each; use "
            f"featplug.match_images(a, b, matcher={name!r})."
        )
    return Feature(name, **options)


def load_matcher(
    name: str | Mapping[str, Any] | None = None,
    feature: Feature | str | Mapping[str, Any] | None = None,
    **options: Any,
) -> FeatureMatcher | ImageMatcher:
    """Load a matcher by name, or the one that belongs to a feature.

    Args:
        name: a matcher, such as ``NN-ratio``, or its conf.
        feature: the feature that is matched, its name or conf; names the matcher where ``name`` is
            None, and chooses the weights of one that has several.
        options: ``device``, ``strongest`` and the method's own; see :class:`FeatureMatcher`.

    Returns:
        The matcher, whose ``match`` takes :class:`Features`; of a method without keypoints, such as
        ``loftr``, one whose ``match`` takes images as :meth:`Feature.extract` does.

    Raises:
        FileNotFoundError: weights are missing; the message says how to get them.
        ValueError: neither is given, or no such matcher or option exists.
    """
    if name is None and feature is None:
        raise ValueError("load_matcher needs the name of a matcher or a feature.")
    conf: Mapping[str, Any] = {}
    if feature is not None:
        conf = feature.conf if isinstance(feature, Feature) else resolve_conf(feature)
    name = conf["matcher"] if name is None else name
    if _matches_images(name, matchers):
        return ImageMatcher(name, **options)
    own = {key: options.pop(key) for key in ("device", "strongest") if key in options}
    chosen = matcher_conf_for(conf, resolve_matcher_conf(name, **options))
    return FeatureMatcher(chosen, **own)


def match_images(
    a: ImageLike,
    b: ImageLike,
    feature: str | Mapping[str, Any] | Feature = "sift",
    matcher: str | Mapping[str, Any] | FeatureMatcher | ImageMatcher | None = None,
    device: str | None = None,
    **options: Any,
) -> Matches:
    """Match two images; what is loaded before is used as it is, which saves time for many pairs.

    Args:
        a: the first image, see :meth:`Feature.extract`.
        b: the second image.
        feature: a feature, its name or conf; ``aliked-n16+lightglue`` names a matcher, too.
        matcher: a matcher, its name or conf; by default the feature's own for two views. A method
            without keypoints, such as ``loftr``, is named here or as the feature.
        device: such as ``cuda:1``; the best one of the machine if None.
        options: options of the feature, such as ``max_keypoints``, or of a method without
            keypoints.

    Raises:
        FileNotFoundError: no such image or weights exist.
        ValueError: an image cannot be used, or no such method or option exists.
    """
    if not isinstance(feature, Feature) and matcher is None and _matches_images(feature, features):
        matcher = feature
    if isinstance(matcher, str | Mapping) and _matches_images(matcher, matchers):
        matcher = ImageMatcher(matcher, device=device, **options)
    if isinstance(matcher, ImageMatcher):
        return matcher.match(a, b)
    loaded = feature if isinstance(feature, Feature) else load(feature, device=device, **options)
    if matcher is None:
        matcher = matcher_of(loaded.conf, two_views=True)
    if not isinstance(matcher, FeatureMatcher):
        return match_images(a, b, loaded, load_matcher(matcher, loaded, device=device))
    features_a, features_b = loaded.extract([a, b])
    return matcher.match(features_a, features_b)


def _matches_images(method: str | Mapping[str, Any], known: MethodTable[Any]) -> bool:
    """Return whether a method that a table does not know by name matches images themselves."""
    return not (isinstance(method, str) and method in known) and is_pair_matcher(method)


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
