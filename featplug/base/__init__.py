"""The contracts of extractors and matchers; :mod:`featplug.base.output_checks` checks them.

Coordinates everywhere are pixels of the image that was given, x to the right, y down, and an
integer is the *centre* of a pixel: the centre of the top-left pixel is (0, 0). COLMAP's origin,
the corner of that pixel, enters only through :func:`featplug.colmap.database.to_colmap_points`.
"""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor

from featplug.base.configurable import Configurable
from featplug.base.output_checks import (
    check_features,
    check_global_descriptor,
    check_matches,
    check_pair_matches,
)
from featplug.io.feature_arrays import KEYPOINT_AXES, check_axes

PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Floating-point type of a network's products; detection is in float32 always."""

KEYPOINT_KEYS = ("keypoints", "scores", "scales", "oris")
"""Outputs of an extractor that locate keypoints."""


def choose_device(name: str | None = None) -> torch.device:
    """Return the device of that name, or the best one available: CUDA, then MPS, then CPU.

    Raises:
        ValueError: no such device exists.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # builds without CUDA raise the latter
        raise ValueError(f"The device {name!r} cannot be used here; leave it out.") from error
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which networks compute in a precision of :data:`PRECISIONS`.

    Raises:
        ValueError: no such precision exists.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"The precision must be one of {', '.join(PRECISIONS)}, not {precision}.")
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def exact_convolutions() -> AbstractContextManager[Any]:
    """Return the context without TF32, torch's default on GPUs, which rounds to 10 bits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


class Extractor(Configurable):
    """Images to keypoints with descriptors; subclasses implement :meth:`extract`.

    Raises:
        FileNotFoundError: weights are missing; the message says how to get them.
        ValueError: an option has a value that it cannot have, or the weights do not fit.
    """

    detection_noise: ClassVar[float] = 1.0
    """Standard deviation of a keypoint in pixels of the extracted image, as hloc records it."""
    keypoint_axes: ClassVar[Mapping[str, int | None]] = {}
    """Axis of the keypoints, None for the whole image, of outputs that are not among
    :data:`~featplug.io.feature_arrays.KEYPOINT_AXES`; these are then checked, too."""

    @classmethod
    def all_options(cls) -> dict[str, Any]:
        """Return all options: a method need not have ``max_keypoints`` itself."""
        return {"max_keypoints": -1, **cls.default_conf}

    @abstractmethod
    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image.

        Args:
            image: C×H×W float32 in [0, 1], RGB (C=3) or grey (C=1), on the module's device.

        Returns:
            ``keypoints`` N×2 float32 (x, y; integer = pixel centre), ``scores`` N, higher is
            stronger, ``descriptors`` D×N, and what else the matcher needs. N may be 0.
        """

    def extract_batch(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Extract from images B×C×H×W of one size; see :meth:`extract`.

        A method whose network takes several images at once overrides this. Results may differ from
        those of one image at a time by rounding only.
        """
        return [self.extract(image) for image in images]

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image without describing: :data:`KEYPOINT_KEYS` of :meth:`extract`."""
        features = self.extract(image)
        return {key: features[key] for key in KEYPOINT_KEYS if key in features}

    @torch.no_grad()
    def forward(self, data: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Extract from a batch, and check what the method returns.

        Args:
            data: ``image`` B×C×H×W float in [0, 1].

        Returns:
            Every output of :meth:`extract` as a list of B tensors (hloc reads ``value[0]``).

        Raises:
            ValueError: the input is not such a batch, or the method broke the contract.
        """
        images = data["image"]
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"image must be a float tensor B×C×H×W in [0, 1], not {images.dtype} "
                f"of shape {tuple(images.shape)}."
            )
        height, width = images.shape[-2:]
        with exact_convolutions():
            features = self.extract_batch(images.float())
        source = type(self).__name__
        if len(features) != len(images):
            raise ValueError(
                f"{source} returned features of {len(features)} images, not {len(images)}."
            )
        limit = self.conf.get("max_keypoints")
        has_limit = "max_keypoints" in self.default_conf
        for single in features:
            check_features(
                single,
                (width, height),
                source,
                keypoint_axes=self.keypoint_axes,
                max_keypoints=limit if has_limit else None,
            )
        if not has_limit and limit is not None and limit >= 0:
            axes = {**KEYPOINT_AXES, **self.keypoint_axes}
            features = [_strongest(single, limit, axes, source) for single in features]
        if any(single.keys() != features[0].keys() for single in features):
            raise ValueError(f"{source} returned other outputs for some images of one batch.")
        return {key: [single[key] for single in features] for key in features[0]}


class GlobalExtractor(Configurable):
    """Images to one descriptor each; subclasses implement :meth:`describe`."""

    @abstractmethod
    def describe(self, image: Tensor) -> Tensor:
        """Describe one image.

        Args:
            image: 3×H×W float32 in [0, 1], RGB, on the module's device.

        Returns:
            D float32 of unit length.
        """

    @torch.no_grad()
    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Describe a batch in hloc's form, image by image.

        Args:
            data: ``image`` B×3×H×W float in [0, 1], RGB.

        Returns:
            ``global_descriptor`` B×D.

        Raises:
            ValueError: the method broke the contract.
        """
        with exact_convolutions():
            descriptors = [self.describe(image) for image in data["image"].float()]
        for descriptor in descriptors:
            check_global_descriptor(descriptor, source=type(self).__name__)
        return {"global_descriptor": torch.stack(descriptors)}


class Matcher(Configurable):
    """Two images' features to matches; subclasses implement :meth:`match`."""

    required_keys: tuple[str, ...] = ("descriptors",)
    """Arrays of a feature file that :meth:`match` reads. Among them may be ``image_size``, float32
    (width, height) of the original image, and ``image``, C×H×W float32 in [0, 1], RGB or grey, in
    original pixels."""
    optional_keys: tuple[str, ...] = ()
    """Arrays that are handed over where the feature file has them."""
    keypoint_axes: ClassVar[Mapping[str, int | None]] = {}
    """Axis of the keypoints, None for the whole image, of arrays that are not among
    :data:`~featplug.io.feature_arrays.KEYPOINT_AXES`, or that this matcher reads otherwise."""

    memory_budget: int = 512 * 2**20
    """Bytes that one call of :meth:`match` may take besides its inputs."""

    @abstractmethod
    def match(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Match one pair of images.

        Args:
            features0: the first image's :attr:`required_keys`, e.g. ``descriptors`` D×N0.
            features1: the second image's, e.g. ``descriptors`` D×N1.

        Returns:
            ``matches0`` N0 int64, the index in image 1 or -1, and ``matching_scores0`` N0
            float32 in [0, 1], 0 where there is no match. Several keypoints of image 0 may have the
            same partner, as they have without a mutual check.
        """

    @property
    def guided_options(self) -> Mapping[str, Any] | None:
        """Options of the nearest neighbours that match further keypoints along epipolar lines.

        Where images have very many keypoints, a matcher that returns some is called for the
        strongest ones only; see :mod:`featplug.matchers.guided`. Its scores are compared with those
        of these nearest neighbours. None, the default, for a matcher that is called for all
        keypoints always.
        """
        return None

    @classmethod
    def model_for(cls, model: Mapping[str, Any], feature: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``model`` of a matcher conf for the features of a feature conf.

        By default it is the same for all features. A matcher whose weights are for one feature
        overrides this, and reads what the feature conf has for it.

        Raises:
            ValueError: the matcher cannot match these features; the message says what can.
        """
        return dict(model)

    def check_features_of(self, method: str | None) -> None:
        """Check that this matcher is for the features of a method, as it is for any by default.

        Args:
            method: ``name`` in the model of a feature conf, such as ``sift``; None if not known.

        Raises:
            ValueError: its weights are for other features; the message names both.
        """

    @property
    def axes(self) -> dict[str, int | None]:
        """Axis of the keypoints of every array that is read, None for the whole image.

        Raises:
            ValueError: an array is neither known nor in :attr:`keypoint_axes`.
        """
        known = {**KEYPOINT_AXES, **self.keypoint_axes}
        keys = (*self.required_keys, *self.optional_keys)
        for key in keys:
            if key not in known:
                raise ValueError(
                    f"{type(self).__name__} reads {key}, whose axis of keypoints is not known; "
                    f'declare it in the class: keypoint_axes = {{"{key}": 0}}, or None for an '
                    "array of the whole image."
                )
        return {key: known[key] for key in keys}

    def num_keypoints(self, features: Mapping[str, Tensor]) -> int:
        """Return the number of keypoints of one image's input.

        Raises:
            ValueError: its arrays have different numbers of keypoints, or none.
        """
        axes = {key: axis for key, axis in self.axes.items() if axis is not None}
        counts = {key: features[key].shape[axis] for key, axis in axes.items() if key in features}
        if len(set(counts.values())) != 1:
            shown_counts = ", ".join(f"{num} of {key}" for key, num in counts.items())
            raise ValueError(
                f"{type(self).__name__} needs arrays of the same keypoints, not "
                f"{shown_counts or 'of none'}; select from all of them by Matcher.select."
            )
        return next(iter(counts.values()))

    def select(self, features: Mapping[str, Tensor], keep: Tensor | slice) -> dict[str, Tensor]:
        """Return the input for some keypoints of an image; what is of the whole image stays.

        Args:
            features: arrays of one image. One that is neither read nor known is left out.
            keep: indices, N bool, or a slice.

        Raises:
            ValueError: the axis of an array that is read is not known.
        """
        axes = {**KEYPOINT_AXES, **self.axes, **self.keypoint_axes}
        return {
            key: along_axis(value, axes[key], keep)
            for key, value in features.items()
            if key in axes
        }

    @torch.no_grad()
    def match_pair(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the checked result of :meth:`match`; the matcher need not read all arrays.

        Raises:
            ValueError: an input is missing, or the method broke the contract.
        """
        axes = self.axes
        sides: list[dict[str, Tensor]] = []
        for suffix, features in (("0", features0), ("1", features1)):
            for key in self.required_keys:
                if key not in features:
                    raise ValueError(f"{type(self).__name__} needs {key + suffix}.")
            sides.append({key: features[key] for key in axes if key in features})
        num0, num1 = map(self.num_keypoints, sides)
        result = self.match(*sides)
        check_matches(result, num0, num1, source=type(self).__name__)
        return result

    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match one pair in hloc's form: suffixes 0 and 1, a batch axis of 1.

        Args:
            data: ``descriptors0`` 1×D×N0, ``descriptors1`` 1×D×N1, and so on.

        Returns:
            ``matches0`` 1×N0 and ``matching_scores0`` 1×N0.

        Raises:
            ValueError: an input is missing or has no batch axis of 1.
        """
        sides: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for suffix, side in zip("01", sides, strict=True):
            for key in (*self.required_keys, *self.optional_keys):
                value = data.get(key + suffix)
                if value is None:
                    continue
                if value.shape[0] != 1:
                    raise ValueError(
                        f"{key + suffix} must have a batch axis of 1, not {tuple(value.shape)}."
                    )
                side[key] = value[0]
        return {key: value[None] for key, value in self.match_pair(*sides).items()}


class PairMatcher(Configurable):
    """Two images to matched points, without keypoints of each; see :meth:`match_images`."""

    @abstractmethod
    def match_images(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        """Match one pair of images.

        Args:
            image0: C×H×W float32 in [0, 1], RGB (C=3) or grey (C=1), on the module's device.
            image1: the same of any other size.

        Returns:
            ``keypoints0`` and ``keypoints1`` K×2 float32 (x, y) in pixels of the images as they
            were handed over, integer = pixel centre, and ``scores`` K float32 in [0, 1], higher is
            more certain. K may be 0.
        """

    @torch.no_grad()
    def match_pair(self, image0: Tensor, image1: Tensor) -> dict[str, Tensor]:
        """Return the checked result of :meth:`match_images`.

        Raises:
            ValueError: an image is none, or the method broke the contract.
        """
        for image in (image0, image1):
            if image.ndim != 3 or len(image) not in (1, 3) or not image.is_floating_point():
                raise ValueError(
                    f"An image must be a float tensor C×H×W in [0, 1], not {image.dtype} of shape "
                    f"{tuple(image.shape)}."
                )
        with exact_convolutions():
            result = self.match_images(image0.float(), image1.float())
        sizes = [(image.shape[2], image.shape[1]) for image in (image0, image1)]
        check_pair_matches(result, sizes[0], sizes[1], source=type(self).__name__)
        return result

    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match one pair in the form of hloc's dense matchers.

        Args:
            data: ``image0`` and ``image1`` 1×C×H×W float in [0, 1].

        Returns:
            ``keypoints0`` and ``keypoints1`` K×2, ``scores`` K.

        Raises:
            ValueError: an image is missing or has no batch axis of 1.
        """
        images = []
        for key in ("image0", "image1"):
            if key not in data:
                raise ValueError(f"{type(self).__name__} needs {key}.")
            if data[key].ndim != 4 or len(data[key]) != 1:
                raise ValueError(
                    f"{key} must have a batch axis of 1, not {tuple(data[key].shape)}."
                )
            images.append(data[key][0])
        return self.match_pair(images[0], images[1])


def along_axis(array: Tensor, axis: int | None, keep: Tensor | slice) -> Tensor:
    """Return some entries of an array along an axis, or all if that is None."""
    if axis is None:
        return array
    return array[(*[slice(None)] * (axis % array.ndim), keep)]


def _strongest(
    features: dict[str, Tensor], num: int, axes: Mapping[str, int | None], source: str
) -> dict[str, Tensor]:
    """Return the keypoints with the highest scores, in the order in which they are."""
    check_axes(features, axes, source)
    if len(features["keypoints"]) <= num:
        return features
    keep = features["scores"].argsort(descending=True, stable=True)[:num].sort().values
    return {key: along_axis(value, axes[key], keep) for key, value in features.items()}
