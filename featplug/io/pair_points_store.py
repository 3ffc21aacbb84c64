"""Matched points of pairs of images, as a pair matcher finds them, before they are gathered.

A pair's group holds ``keypoints0`` and ``keypoints1`` K×2 and ``scores`` K, as hloc's
``match_dense`` writes them, and the fingerprints of both photographs.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from featplug.io.feature_arrays import shown_array, usable_numbers
from featplug.io.h5file import FINGERPRINT, REWRITTEN, H5Reader
from featplug.io.hdf5_guard import UnusableDataError, stating
from featplug.io.hdf5_links import has_link
from featplug.io.image_origin import is_masked_by, is_turned_as
from featplug.io.match_store import PairWriter, pair_key
from featplug.io.orientation import Orientation
from featplug.io.pair_lists import Pair

_ARRAYS = ("keypoints0", "keypoints1", "scores")
_FINGERPRINTS = (f"{FINGERPRINT}0", f"{FINGERPRINT}1")

PointArrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Points of the first and of the second image, K×2 each, in original pixels, and scores, K."""


class PairPointsWriter(PairWriter):
    """Appends matched points to a file, a chunk of pairs at a time."""

    def write(
        self,
        pair: Pair,
        points: PointArrays,
        fingerprints: tuple[str, str],
        origins: tuple[Mapping[str, str | int], Mapping[str, str | int]] = ({}, {}),
    ) -> None:
        """Add one pair; it is in the file with the next :meth:`flush`, at most seconds later.

        Args:
            pair: names of the images.
            points: points and scores, float32.
            fingerprints: those of the image files, see :mod:`featplug.io.artifact`.
            origins: further attributes of both images, see :mod:`featplug.io.image_origin`.

        Raises:
            UnusableDataError: they are not such arrays.
            ValueError: the disk is nearly full.
        """
        with stating(self.path, pair_key(*pair)):
            _check(points)
        arrays = dict(zip(_ARRAYS, points, strict=True))
        attributes: dict[str, str | int] = dict(zip(_FINGERPRINTS, fingerprints, strict=True))
        for suffix, origin in zip("01", origins, strict=True):
            attributes.update({f"{key}{suffix}": value for key, value in origin.items()})
        self._add(*pair, arrays, attributes)

    def changed_images(self, pairs: Iterable[Pair], image_dir: Path) -> list[str]:
        """List images of pairs in the file that are other photographs in the folder now."""
        return self._images(
            pairs,
            lambda key, name, suffix: (
                not self.is_made_from(key, image_dir / name, FINGERPRINT + suffix)
            ),
        )

    def turned_images(
        self, pairs: Iterable[Pair], image_dir: Path, orientation: Orientation
    ) -> list[str]:
        """List images of pairs in the file that a run would turn otherwise."""
        return self._images(
            pairs,
            lambda key, name, suffix: (
                not is_turned_as(self, key, image_dir / name, orientation, suffix)
            ),
        )

    def otherwise_masked(
        self, pairs: Iterable[Pair], mask_of: Callable[[str], Path | None]
    ) -> list[Pair]:
        """List pairs in the file of which an image has another mask now."""
        return [
            pair
            for pair in pairs
            if any(
                not is_masked_by(self, key, mask_of(name), suffix)
                for key, name, suffix in self._sides(pair)
            )
        ]

    def _images(
        self, pairs: Iterable[Pair], is_listed: Callable[[str, str, str], bool]
    ) -> list[str]:
        """List images of pairs for whose key of the pair, name and place a function is true."""
        listed: dict[str, bool] = {}
        for pair in pairs:
            for key, name, suffix in self._sides(pair):
                if not listed.get(name):
                    listed[name] = is_listed(key, name, suffix)
        return sorted(name for name, value in listed.items() if value)

    def _sides(self, pair: Pair) -> list[tuple[str, str, str]]:
        """Return the key of a pair with the name of each image and its place, "0" or "1"."""
        key, names = _recorded(self.file, pair)
        return [(key, name, suffix) for name, suffix in zip(names, "01", strict=True)]


class PairPointsReader(H5Reader):
    """Reads what :class:`PairPointsWriter` writes."""

    def __contains__(self, pair: Pair) -> bool:
        return any(has_link(self.file, pair_key(*names)) for names in (pair, pair[::-1]))

    @property
    def rewriting(self) -> list[str]:
        """Number of times that a pair was matched again, as with another mask; empty for none."""
        with self.reading():
            num = self.file.attrs.get(REWRITTEN)
        return [] if num is None else [str(num)]

    def read(self, pair: Pair) -> PointArrays:
        """Read one pair, which may have been matched in the other order.

        Raises:
            UnusableDataError: the pair is not in the file, or is damaged.
        """
        key, names = _recorded(self.file, pair)
        arrays = self.arrays(key, _ARRAYS)
        with stating(self.path, key):
            missing = [name for name in _ARRAYS if name not in arrays]
            if missing:
                raise ValueError(f"{missing[0]} is missing")
            points0, points1, scores = (arrays[name] for name in _ARRAYS)
            _check((points0, points1, scores))
        return (points0, points1, scores) if names == pair else (points1, points0, scores)


def _recorded(file: h5py.File, pair: Pair) -> tuple[str, Pair]:
    """Return the key of a pair's group, and its names in the order in which it was matched."""
    for names in (pair, pair[::-1]):
        if has_link(file, pair_key(*names)):
            return pair_key(*names), names
    raise UnusableDataError(
        f"{file.filename} has no points of {pair[0]!r} and {pair[1]!r}; match them."
    )


def _check(points: PointArrays) -> None:
    """Raise ValueError with the rest of a sentence if arrays are not matched points."""
    num = len(points[2]) if points[2].ndim else 0
    for name, array, shape in zip(_ARRAYS, points, ((num, 2), (num, 2), (num,)), strict=True):
        if array.shape != shape or array.dtype.kind != "f":
            form = "×".join(map(str, shape))
            raise ValueError(f"{name} must be {form} floats, not {shown_array(array)}")
        if not usable_numbers(array):
            raise ValueError(f"{name} must be finite; it has NaN, infinite or huge values")
