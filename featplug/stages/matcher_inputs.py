"""What a matcher reads of an image: arrays of a feature file, its size, and its pixels, upright."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featplug.base import Matcher
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.images import preprocess, read_image, read_image_size
from featplug.io.orientation import Turn
from featplug.io.store import FeatureReader


class MatcherInputs:
    """Reads the input of a matcher, image by image, as float32 tensors on a device.

    Args:
        reader: the feature file.
        matcher: what the input is for.
        device: where the tensors go.
        image_dir: folder of the photographs, for a matcher that reads these.

    Raises:
        ValueError: the matcher is for other features, needs photographs whose folder is not named,
            or reads an array without a known axis.
    """

    def __init__(
        self,
        reader: FeatureReader,
        matcher: Matcher,
        device: torch.device,
        image_dir: Path | None = None,
    ) -> None:
        self._reader, self._matcher, self._device = reader, matcher, device
        self._image_dir = None if image_dir is None else Path(image_dir)
        self._keys = matcher.axes.keys()
        if "image" in matcher.required_keys and image_dir is None:
            raise ValueError(
                f"{type(matcher).__name__} reads the photographs; name their folder by --image-dir."
            )
        try:
            matcher.check_features_of(reader.method)
        except ValueError as error:
            raise ValueError(f"{reader.path}: {error}") from None

    def num_bytes(self, name: str) -> int:
        """Return about how much memory an image's input takes; 0 where it cannot be used."""
        try:
            shapes = self._reader.shapes(name)
            size = self._reader.known_image_size(name) if "image" in self._keys else None
        except UnusableDataError:
            return 0
        num_pixels = 0 if size is None or self._image_dir is None else size[0] * size[1]
        numbers = sum(int(np.prod(shapes[key])) for key in self._keys if key in shapes)
        return 4 * (numbers + 3 * num_pixels)

    def read(self, name: str) -> dict[str, Tensor]:
        """Read the input of an image, which extraction may have turned upright.

        Raises:
            FileNotFoundError: a photograph does not exist.
            ValueError: an array that is needed is missing, damaged, or not as it must be.
        """
        arrays = self._reader.read(name, self._keys - {"image_size", "image"})
        if "image_size" in self._keys:
            size = self._image_size(name)
            if size is not None:
                arrays["image_size"] = np.array(size, np.float32)
        orientation = self._reader.orientation(name)
        if orientation != 1:
            turn = Turn(self._reader.image_size(name), orientation)
            arrays = turn.upright_arrays(arrays)
        if "image" in self._keys and self._image_dir is not None:
            pixels = read_image(self._image_dir / name)
            turn = Turn((pixels.shape[1], pixels.shape[0]), orientation)
            arrays["image"] = preprocess(turn.upright_pixels(pixels), {})
        missing = [key for key in self._matcher.required_keys if key not in arrays]
        if missing:
            raise ValueError(
                f"{self._reader.path} has no {', '.join(missing)} of {name!r}, which "
                f"{type(self._matcher).__name__} needs; use the matcher that belongs to the "
                "feature."
            )
        tensors = {key: _as_tensor(key, array) for key, array in arrays.items()}
        return {key: tensor.to(self._device) for key, tensor in tensors.items()}

    def _image_size(self, name: str) -> tuple[int, int] | None:
        size = self._reader.known_image_size(name)
        if size is None and self._image_dir is not None:
            return read_image_size(self._image_dir / name)
        if size is None and "image_size" in self._matcher.required_keys:
            return self._reader.image_size(name)  # says what is missing
        return size


def _as_tensor(key: str, array: np.ndarray) -> Tensor:
    """Floats become float32, as hloc hands them to matchers; packed bits stay."""
    tensor = torch.from_numpy(array)
    return tensor.float() if tensor.is_floating_point() or key == "descriptors" else tensor
