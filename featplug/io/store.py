"""Features and global descriptors in hloc's HDF5 form, ours, hloc's own and those of other tools.

A file can be read at any time it is not being written, also after a kill: see
:mod:`featplug.io.h5file`. The layout is hloc's: an image's group holds ``keypoints``,
``descriptors`` (D×N) and others, or ``global_descriptor``.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import h5py
import numpy as np

from featplug.io.feature_arrays import (
    LARGEST,
    check_stored_shape,
    checked_arrays,
    checked_global_descriptor,
)
from featplug.io.h5file import FINGERPRINT, H5Reader, H5Writer
from featplug.io.hdf5_guard import UnusableDataError, stating
from featplug.io.hdf5_links import has_link
from featplug.io.image_origin import ORIENTATION, forget_rewritten
from featplug.io.names import checked_name

logger = logging.getLogger(__name__)


class _ImageWriter(H5Writer):
    """Appends images, each with the fingerprint of its file."""

    def fingerprint(self, name: str) -> str | None:
        """Return the fingerprint of the photograph of an image in the file, or None."""
        if not has_link(self.file, name):
            return None
        try:
            recorded = self.attribute(name, FINGERPRINT)
        except UnusableDataError:
            return None  # it is written again
        return None if recorded is None else str(recorded)

    def _write_image(
        self,
        name: str,
        arrays: Mapping[str, np.ndarray],
        image_size: tuple[int, int] | None,
        attributes: Mapping[str, Any],
        keypoint_attributes: Mapping[str, float],
    ) -> None:
        self.require_disk(sum(v.nbytes for v in arrays.values()))
        if image_size is not None:
            arrays = {**arrays, "image_size": np.array(image_size)}
        of_arrays = {"keypoints": keypoint_attributes} if keypoint_attributes else {}
        with self.explaining_failures():
            self.link(name, arrays, attributes, of_arrays)
        self.commit()


class FeatureWriter(_ImageWriter):
    """Appends images to a feature file."""

    def write(
        self,
        name: str,
        features: Mapping[str, np.ndarray],
        image_size: tuple[int, int],
        uncertainty: float,
        fingerprint: str,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one image and flush.

        Args:
            name: the image's name.
            features: ``keypoints`` N×2 float32 in pixels of the original image as stored (integer =
                pixel centre), ``scores`` N, ``descriptors`` D×N and others, as they are to be
                stored.
            image_size: (width, height) of the original image as stored.
            uncertainty: standard deviation of a keypoint in pixels.
            fingerprint: the image file's :func:`featplug.io.artifact.file_fingerprint`.
            origin: further attributes of the image, see :mod:`featplug.io.image_origin`.

        Raises:
            UnusableDataError: an array is not as it must be.
            ValueError: the disk is nearly full.
        """
        with stating(self.path, name):
            arrays = checked_arrays(features, len(features["keypoints"]))
        attributes = {FINGERPRINT: fingerprint, **(origin or {})}
        self._write_image(name, arrays, image_size, attributes, {"uncertainty": uncertainty})


class _ImageReader(H5Reader):
    """Reads files with a group for each image."""

    key: ClassVar[str]
    """Array that the group of an image has."""

    def names(self) -> list[str]:
        """List the names of all images, sorted, without those that cannot be used, with a warning.

        Raises:
            UnusableDataError: the file is damaged, or of another layout.
        """
        usable = []
        for name in self.all_names():
            try:
                problem = "" if checked_name(name) == name else f"{name!r} is not in normal form"
            except ValueError as error:
                problem = str(error)
            if problem:
                logger.warning("%s: left out an image: %s", self.path, problem)
            else:
                usable.append(name)
        return usable

    def all_names(self) -> list[str]:
        """List the names of all images, sorted, also those that no file or list can carry."""
        groups = self.leaf_groups()
        for name, keys in groups:
            if not name:
                self.group(keys[0])  # raises an error: it is no group
        return sorted(name for name, keys in groups if self.key in keys)


class FeatureReader(_ImageReader):
    """Reads feature files, ours, hloc's and those of other tools that write hloc's form."""

    key = "keypoints"

    @property
    def method(self) -> str | None:
        """Name of the method that made the file, as in a conf; None if it is not recorded."""
        return str(self.model["name"]) if self.model else None

    @property
    def model(self) -> dict[str, Any] | None:
        """``model`` of the conf that made the file, with ``name``; None if it is not recorded."""
        model = self.provenance.conf.get("model") if self.provenance else None
        return model if isinstance(model, dict) and "name" in model else None

    def __contains__(self, name: str) -> bool:
        if not has_link(self.file, name):
            return False
        try:
            with self.reading():
                return "keypoints" in self.group(name)
        except UnusableDataError:
            return True  # it is there, and reading says what is wrong

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array of an image, without reading it.

        Raises:
            UnusableDataError: the image is missing or damaged, or an array has another shape than
                the contract of extractors gives it.
        """
        with self.reading(repr(name)):
            items = self._group(name).items()
            shapes = {k: d.shape or () for k, d in items if isinstance(d, h5py.Dataset)}
            num = (shapes["keypoints"] or (0,))[0]
        with stating(self.path, name):
            for key, shape in shapes.items():
                check_stored_shape(key, shape, num)
        return shapes

    def read(self, name: str, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Read an image's arrays: all of numbers, or those of ``keys`` that exist.

        Raises:
            UnusableDataError: the image is missing, or an array is damaged or not as the contract
                of extractors says.
        """
        with self.reading(repr(name)):
            keypoints = self._group(name)["keypoints"]
            num = len(keypoints) if keypoints.shape else 0
        arrays = self.arrays(name, keys)
        with stating(self.path, name):
            return checked_arrays(arrays, num)

    def keypoints(self, name: str) -> np.ndarray:
        """Read keypoints, N×2 float32 (x, y; integer = pixel centre), in original pixels."""
        return self.read(name, ["keypoints"])["keypoints"].astype(np.float32)

    def uncertainty(self, name: str) -> float:
        """Standard deviation of a keypoint in original pixels; 1 where the file does not say."""
        recorded = self.attribute(name, "uncertainty", "keypoints")
        with self.reading(f"the uncertainty of {name!r}"):
            value = 1.0 if recorded is None else float(recorded)
            if not 0 < value < LARGEST:
                raise ValueError(f"{value} is no standard deviation")
        return value

    def image_size(self, name: str) -> tuple[int, int]:
        """Return the (width, height) of the original image.

        Raises:
            UnusableDataError: the file does not have it, or has something else.
        """
        size = self.known_image_size(name)
        if size is None:
            raise UnusableDataError(
                f"{self.path} has no image_size of {name!r}: width and height, two integers; add "
                "it, or extract the image again."
            )
        return size

    def known_image_size(self, name: str) -> tuple[int, int] | None:
        """Return the (width, height) of the original image, or None if the file lacks it.

        Raises:
            UnusableDataError: the file has something else in its place.
        """
        with self.reading(repr(name)):
            self._group(name)
        size = self.arrays(name, ["image_size"]).get("image_size")
        # deep-image-matching writes (height, width), rounded to float16.
        if size is None or (size.dtype.kind == "f" and size.shape == (2,)):
            return None
        if size.shape != (2,) or size.dtype.kind not in "iu" or not (size > 0).all():
            raise UnusableDataError(
                f"{self.path}: image_size of {name!r} must be width and height, two positive "
                f"integers, not {size.tolist()}; extract the image again."
            )
        return int(size[0]), int(size[1])

    def fingerprint(self, name: str) -> str:
        """Fingerprint of the image file; empty in hloc's files, which have none."""
        return str(self.attribute(name, FINGERPRINT) or "")

    def orientation(self, name: str) -> int:
        """EXIF's orientation that the image was turned upright by; 1 if it was taken as stored."""
        recorded = self.attribute(name, ORIENTATION)
        with self.reading(f"the orientation of {name!r}"):
            orientation = 1 if recorded is None else int(recorded)
            if not 1 <= orientation <= 8:
                raise ValueError(f"{orientation} is none of EXIF's orientations")
        return orientation

    def _group(self, name: str) -> h5py.Group:
        """Open the group of an image, within a block of :meth:`reading`."""
        if name not in self:
            raise UnusableDataError(
                f"{self.path} has no features of the image {name!r}; extract it."
            )
        return self.group(name)


class GlobalDescriptorWriter(_ImageWriter):
    """Appends images to a file of global descriptors."""

    def write(
        self,
        name: str,
        descriptor: np.ndarray,
        image_size: tuple[int, int] | None,
        fingerprint: str,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one image's descriptor, D float32, and flush; see :meth:`FeatureWriter.write`."""
        with stating(self.path, name):
            checked_global_descriptor(descriptor)
        datasets = {"global_descriptor": descriptor}
        attributes = {FINGERPRINT: fingerprint, **(origin or {})}
        self._write_image(name, datasets, image_size, attributes, {})

    def forget_rewritten(self, features: FeatureReader) -> None:
        """Remove the images whose features were extracted again since these are made from them."""
        forget_rewritten(self, "features", features, lambda name: [name])


class GlobalDescriptorReader(_ImageReader):
    """Reads files of global descriptors, ours and hloc's."""

    key = "global_descriptor"

    def read(self, names: Iterable[str]) -> np.ndarray:
        """Read the descriptors of images that are in the file, N×D float32.

        Raises:
            UnusableDataError: one is missing, damaged, or no vector of finite numbers.
            ValueError: they are not of one length.
        """
        rows = [self.read_one(name) for name in names]
        if len({row.shape for row in rows}) > 1:
            raise ValueError(f"{self.path} has global descriptors of different lengths.")
        return np.stack(rows)

    def read_one(self, name: str) -> np.ndarray:
        """Read the descriptor of an image, D float32.

        Raises:
            UnusableDataError: it is missing, damaged, or no vector of finite numbers.
        """
        descriptor = self.arrays(name, ["global_descriptor"]).get("global_descriptor")
        with stating(self.path, name):
            return checked_global_descriptor(descriptor).astype(np.float32)
