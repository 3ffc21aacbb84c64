"""Two images to matched points in original pixels, by a detector-free method.

Benchmarks, notebooks and the engine of :mod:`featplug.stages.match_images` use the same object.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featplug.api.feature_types import Features, Matches
from featplug.base import autocast, choose_device
from featplug.io.image_inputs import ImageLike, read_input
from featplug.io.image_origin import image_origin
from featplug.io.images import DEFAULT_PREPROCESSING, load_image
from featplug.io.masks import Masks, is_visible, mask_of
from featplug.io.orientation import Orientation, Turn, check_orientation
from featplug.methods import Conf, build_pair_matcher, resolve_pair_matcher_conf
from featplug.utils.errors import described


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as a pair matcher takes it."""

    pixels: Tensor
    """C×H×W float32 in [0, 1], upright, on the matcher's device."""
    turn: Turn
    """Turn from the image as stored, before resizing, to the upright one."""
    fingerprint: str = ""
    """Fingerprint of the file, where that was read."""
    mask: np.ndarray | None = None
    """H×W bool of the image as stored, true where it may have points."""
    origin: Mapping[str, str | int] = field(default_factory=dict)
    """What files record of its turn and mask, see :mod:`featplug.io.image_origin`."""

    def shows(self, points: np.ndarray) -> np.ndarray:
        """Return which points K×2 of the original the mask leaves: K bool."""
        if self.mask is None:
            return np.ones(len(points), bool)
        return is_visible(self.mask, points)

    def to_original(self, points: Tensor) -> np.ndarray:
        """Return points of the pixels, K×2, in pixels of the original as stored."""
        height, width = self.pixels.shape[1:]
        scale = np.array(self.turn.upright_size) / (width, height)
        # Integer = pixel centre: the shift keeps the image's corner, not its first pixel, in place.
        upright = ((points.cpu().numpy() + 0.5) * scale - 0.5).astype(np.float32)
        return self.turn.stored_arrays({"keypoints": upright})["keypoints"]


class ImageMatcher:
    """A pair matcher with its conf: reads and resizes images, and returns original pixels.

    Args:
        conf: the name of a conf of a pair matcher, or a conf dict; see :mod:`featplug.methods`.
        device: such as ``cuda:1``; the best one of the machine if None.
        precision: ``fp32``, ``fp16`` or ``bf16``, of the network's products.
        orientation: ``exif`` to match files as their EXIF data turn them upright, ``stored`` for
            their pixels as stored. Points are always of the image as stored.
        options: the method's options, such as ``weights``.

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
        self.conf: Conf = resolve_pair_matcher_conf(conf, **options)
        self.preprocessing = {**DEFAULT_PREPROCESSING, **self.conf.get("preprocessing", {})}
        self.device = choose_device(device)
        self.precision, self.orientation = precision, orientation
        check_orientation(orientation)
        autocast(self.device, precision)  # raises where it is unknown
        self.matcher = build_pair_matcher(self.conf["model"]).to(self.device)

    def match(self, a: ImageLike | Features, b: ImageLike | Features) -> Matches:
        """Match two images: files, arrays, tensors or those of features.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file cannot be used, or the method broke its contract.
        """
        prepared = []
        for image in (a, b):
            if isinstance(image, Features):
                prepared.append(self._prepare_features(image))
            else:
                read = read_input(image, self.preprocessing, self.orientation)
                prepared.append(self.prepare(read.planes, read.turn))
        return self.match_prepared(prepared[0], prepared[1])

    def prepare(self, planes: np.ndarray, turn: Turn, fingerprint: str = "") -> PreparedImage:
        """Return an image that was read and resized before, C×H×W, on the device."""
        return PreparedImage(torch.from_numpy(planes).to(self.device), turn, fingerprint)

    def _prepare_features(self, features: Features) -> PreparedImage:
        if features.image is None:
            raise ValueError("The features have no image; extract them by Feature.extract.")
        turn = Turn(features.image_size, features.orientation)
        upright = turn.upright_pixels(features.image)
        return self.prepare(read_input(upright, self.preprocessing).planes, turn)

    def match_prepared(self, image0: PreparedImage, image1: PreparedImage) -> Matches:
        """Match two images that were read and resized before.

        Raises:
            ValueError: the method broke its contract.
        """
        with autocast(self.device, self.precision):
            result = self.matcher.match_pair(image0.pixels, image1.pixels)
        points0 = image0.to_original(result["keypoints0"])
        points1 = image1.to_original(result["keypoints1"])
        return Matches.of_points(points0, points1, result["scores"].cpu().numpy())


class ImageCache:
    """The images of pairs that were used last, within a budget of memory.

    Args:
        matcher: what the images are for.
        image_dir: folder of the images.
        budget: bytes of pixels; three images are kept always.
        max_megapixels: limit of decoding, see :mod:`featplug.io.images`.
        masks: masks of the images, if there are any.
    """

    def __init__(
        self,
        matcher: ImageMatcher,
        image_dir: Path,
        budget: int,
        max_megapixels: float,
        masks: Masks | None = None,
    ) -> None:
        self._matcher, self._image_dir, self._masks = matcher, image_dir, masks
        self._budget, self._max_megapixels = budget, max_megapixels
        self._images: OrderedDict[str, PreparedImage] = OrderedDict()
        self.unusable: dict[str, str] = {}
        """Images that cannot be used, and why."""

    def capacity(self, names: Iterable[str]) -> int:
        """Return how many images the budget holds, judged by the first that can be used."""
        images = (image for name in names if (image := self.load(name)) is not None)
        first = next(images, None)
        return 1 if first is None else max(1, self._budget // first.pixels.nbytes)

    def load(self, name: str) -> PreparedImage | None:
        """Return an image, or None if it cannot be used."""
        if name in self.unusable:
            return None
        if name not in self._images:
            try:
                self._images[name] = self._prepare(name)
            except Exception as error:  # one image never ends the others
                self.unusable[name] = described(error)
                return None
        self._images.move_to_end(name)
        while len(self._images) > 3 and self._num_bytes() > self._budget:
            self._images.popitem(last=False)
        return self._images[name]

    def _prepare(self, name: str) -> PreparedImage:
        matcher = self._matcher
        read = load_image(
            self._image_dir,
            name,
            matcher.preprocessing,
            self._max_megapixels,
            matcher.orientation,
        )
        prepared = matcher.prepare(read.image, read.turn, read.fingerprint)
        mask = None if self._masks is None else self._masks.read(name, read.turn)
        origin = image_origin(read.turn, matcher.orientation, mask_of(self._masks, name))
        return replace(prepared, mask=mask, origin=origin)

    def _num_bytes(self) -> int:
        masks = (image.mask.nbytes for image in self._images.values() if image.mask is not None)
        return sum(image.pixels.nbytes for image in self._images.values()) + sum(masks)
