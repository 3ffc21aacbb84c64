"""The contracts of extractors and matchers, and the one check of what they return.

Coordinates everywhere are pixels of the image that was given, x to the right, y down, and an
integer is the *centre* of a pixel: the centre of the top-left pixel is (0, 0). COLMAP's origin,
the corner of that pixel, enters only through :func:`featplug.colmap.database.to_colmap_points`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from featplug.io.feature_arrays import KEYPOINT_LAST_KEYS, feature_forms, has_form, shown
from featplug.utils.suggestions import did_you_mean
from featplug.weights.loading import load_network
from featplug.weights.registry import WeightsRecord

_Network = TypeVar("_Network", bound=nn.Module)

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


class _Configurable(nn.Module, ABC):
    """A module built from a conf dict; unknown names in it are errors."""

    default_conf: ClassVar[dict[str, Any]] = {}
    """Options and their values where a conf does not set them."""
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Values that an option may have."""
    positive: ClassVar[tuple[str, ...]] = ()
    """Options that must be positive, or None if that is their default."""
    revision: ClassVar[int] = 1
    """Number that is raised whenever the output changes for the same input, options and weights;
    files of another revision are made again."""
    weights_records: tuple[WeightsRecord, ...] = ()
    """Weights files that were loaded."""

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        given = {k: v for k, v in (conf or {}).items() if k != "name"}
        unknown = sorted(set(given) - set(self.default_conf))
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no option {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(sorted(self.default_conf)) or 'none'}."
                f"{did_you_mean(unknown[0], self.default_conf)}"
            )
        self.conf: dict[str, Any] = {**self.default_conf, **given}
        for name, values in self.choices.items():
            if self.conf[name] not in values:
                raise ValueError(
                    f"{name} must be one of {', '.join(values)}, not {self.conf[name]!r}."
                )
        for name in self.positive:
            value = self.conf[name]
            is_valid = self.default_conf[name] is None if value is None else value > 0
            if not is_valid:
                raise ValueError(f"{name} must be positive, not {value!r}.")

    def load_network(self, network_class: type[_Network], **options: Any) -> _Network:
        """Return a network with the weights that the options ``checkpoint`` and ``weights`` name.

        The file is recorded in :attr:`weights_records`; see
        :func:`~featplug.weights.loading.load_network`.
        """
        checkpoint, choice = self.conf["checkpoint"], self.conf["weights"]
        network, record = load_network(checkpoint, choice, network_class, **options)
        self.weights_records = (record, *self.weights_records)
        return network

    @property
    def settings(self) -> dict[str, Any]:
        """Options that the output depends on, without those that choose the weights."""
        undecisive = ("weights", "checkpoint", "batch_size")
        return {k: v for k, v in self.conf.items() if not k.endswith(undecisive)}

    @property
    def revisions(self) -> dict[str, int]:
        """Revision of this method, and of those that it uses, by the name of the class."""
        return {type(self).__name__: self.revision}


class Extractor(_Configurable):
    """Images to keypoints with descriptors; subclasses implement :meth:`extract`.

    Raises:
        FileNotFoundError: weights are missing; the message says how to get them.
        ValueError: an option has a value that it cannot have, or the weights do not fit.
    """

    detection_noise: ClassVar[float] = 1.0
    """Standard deviation of a keypoint in pixels of the extracted image, as hloc records it."""

    @abstractmethod
    def extract(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image.

        Args:
            image: C×H×W float32 in [0, 1], RGB (C=3) or grey (C=1), on the module's device.

        Returns:
            ``keypoints`` N×2 float32 (x, y; integer = pixel centre), ``scores`` N, higher is
            stronger, ``descriptors`` D×N, and what else the matcher needs. N may be 0.
        """

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """Extract from one image without describing: :data:`KEYPOINT_KEYS` of :meth:`extract`."""
        features = self.extract(image)
        return {key: features[key] for key in KEYPOINT_KEYS if key in features}

    @torch.no_grad()
    def forward(self, data: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Extract from a batch, image by image, so that results do not depend on its size.

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
            features = [self.extract(image) for image in images.float()]
        for single in features:
            check_features(single, (width, height), source=type(self).__name__)
        return {key: [single[key] for single in features] for key in features[0]}


class GlobalExtractor(_Configurable):
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
            ValueError: a descriptor has NaN or infinite values.
        """
        with exact_convolutions():
            descriptors = [self.describe(image) for image in data["image"].float()]
        if not all(bool(torch.isfinite(descriptor).all()) for descriptor in descriptors):
            raise ValueError(f"{type(self).__name__}: global_descriptor must be finite.")
        return {"global_descriptor": torch.stack(descriptors)}


class Matcher(_Configurable):
    """Two images' features to matches; subclasses implement :meth:`match`."""

    required_keys: ClassVar[tuple[str, ...]] = ("descriptors",)
    """The datasets of a feature file that :meth:`match` reads, without their suffix."""
    optional_keys: ClassVar[tuple[str, ...]] = ()
    """Datasets that are handed over where the feature file has them."""

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
            float32 in [0, 1], 0 where there is no match.
        """

    @torch.no_grad()
    def match_pair(
        self, features0: Mapping[str, Tensor], features1: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the checked result of :meth:`match`; the matcher need not read all arrays.

        Raises:
            ValueError: an input is missing, or the method broke the contract.
        """
        sides: list[dict[str, Tensor]] = []
        for suffix, features in (("0", features0), ("1", features1)):
            for key in self.required_keys:
                if key not in features:
                    raise ValueError(f"{type(self).__name__} needs {key + suffix}.")
            keys = (*self.required_keys, *self.optional_keys)
            sides.append({key: features[key] for key in keys if key in features})
        result = self.match(*sides)
        num0, num1 = (side[self.required_keys[0]].shape[-1] for side in sides)
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


def select_keypoints(features: Mapping[str, Tensor], keep: Tensor | slice) -> dict[str, Tensor]:
    """Return a matcher's input for some keypoints; what is of the whole image stays."""
    return {
        key: value[..., keep] if key in ("descriptors", *KEYPOINT_LAST_KEYS) else value
        for key, value in features.items()
    }


def check_features(
    features: Mapping[str, Tensor], image_size: tuple[int, int], source: str
) -> None:
    """Check the features of an image of (width, height) against the extractor contract.

    Raises:
        ValueError: an output is not as it must be.
    """
    missing = [key for key in ("keypoints", "scores", "descriptors") if key not in features]
    if missing:
        raise ValueError(f"{source} returned no {', '.join(missing)}.")
    keypoints = features["keypoints"]
    num = len(keypoints) if keypoints.ndim else 0
    forms = feature_forms(num)
    for key, value in features.items():
        shape = tuple(value.shape)
        if not has_form(shape, forms.get(key, shape)):
            raise ValueError(f"{source}: {key} must be {shown(forms[key])}, not {shape}.")
        if (value.is_floating_point() or key == "keypoints") and value.dtype != torch.float32:
            raise ValueError(f"{source}: {key} must be float32, not {value.dtype}.")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{source}: {key} has NaN or infinite values.")
    limit = keypoints.new_tensor(image_size) - 0.5
    if num and (bool((keypoints < -0.5).any()) or bool((keypoints > limit).any())):
        low, high = keypoints.amin(0).tolist(), keypoints.amax(0).tolist()
        raise ValueError(
            f"{source}: keypoints from {low} to {high} leave the image of "
            f"{image_size[0]}×{image_size[1]} pixels."
        )


def check_matches(result: Mapping[str, Tensor], num0: int, num1: int, source: str) -> None:
    """Check the matches of num0 and num1 keypoints against the matcher contract.

    Raises:
        ValueError: an output is not as it must be.
    """
    for key, kind in (("matches0", "int64"), ("matching_scores0", "float")):
        if key not in result:
            raise ValueError(f"{source} returned no {key}.")
        value = result[key]
        if value.shape != (num0,) or kind not in str(value.dtype):
            raise ValueError(
                f"{source}: {key} must be {kind} of shape ({num0},), not {value.dtype} "
                f"of shape {tuple(value.shape)}."
            )
    matches, scores = result["matches0"], result["matching_scores0"]
    if num0 and (int(matches.min()) < -1 or int(matches.max()) >= num1):
        raise ValueError(
            f"{source}: matches0 must lie in [-1, {num1 - 1}], not "
            f"[{int(matches.min())}, {int(matches.max())}]."
        )
    if num0 and not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError(f"{source}: matching_scores0 must lie in [0, 1].")
