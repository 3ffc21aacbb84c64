"""Matched points of pairs of images, as a pair matcher finds them, before they are gathered.

A pair's group holds ``keypoints0`` and ``keypoints1`` K×2 and ``scores`` K, as hloc's
``match_dense`` writes them, and the fingerprints of both photographs.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np

from featplug.io.feature_arrays import shown_array, usable_numbers
from featplug.io.h5file import FINGERPRINT, ORIENTATION, H5Reader
from featplug.io.hdf5_guard import UnusableDataError, stating
from featplug.io.hdf5_links import has_link
from featplug.io.match_store import PairWriter, pair_key
from featplug.io.orientation import Orientation
from featplug.io.pair_lists import Pair

_ARRAYS = ("keypoints0", "keypoints1", "scores")
_FINGERPRINTS = (f"{FINGERPRINT}0", f"{FINGERPRINT}1")
_ORIENTATIONS = (f"{ORIENTATION}0", f"{ORIENTATION}1")

PointArrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Points of the first and of the second image, K×2 each, in original pixels, and scores, K."""


class PairPointsWriter(PairWriter):
    """Appends matched points to a file, a chunk of pairs at a time."""

    def write(
        self,
        pair: Pair,
        points: PointArrays,
        fingerprints: tuple[str, str],
        orientations: tuple[int, int] | None = None,
    ) -> None:
        """Add one pair; it is in the file with the next :meth:`flush`, at most seconds later.

        Args:
            pair: names of the images.
            points: points and scores, float32.
            fingerprints: those of the image files, see :mod:`featplug.io.artifact`.
            orientations: EXIF's orientations that the images were turned upright by; None if they
                were taken as stored.

        Raises:
            UnusableDataError: they are not such arrays.
            ValueError: the disk is nearly full.
        """
        with stating(self.path, pair_key(*pair)):
            _check(points)
        arrays = dict(zip(_ARRAYS, points, strict=True))
        attributes: dict[str, str | int] = dict(zip(_FINGERPRINTS, fingerprints, strict=True))
        attributes.update(zip(_ORIENTATIONS, orientations or (), strict=orientations is not None))
        self._add(*pair, arrays, attributes)

    def changed_images(self, pairs: Iterable[Pair], image_dir: Path) -> list[str]:
        """List images of pairs in the file that are other photographs in the folder now."""
        return self._images(
            pairs,
            _FINGERPRINTS,
            lambda key, name, attribute: not self.is_made_from(key, image_dir / name, attribute),
        )

    def turned_images(
        self, pairs: Iterable[Pair], image_dir: Path, orientation: Orientation
    ) -> list[str]:
        """List images of pairs in the file that a run would turn otherwise."""
        return self._images(
            pairs,
            _ORIENTATIONS,
            lambda key, name, attribute: (
                not self.is_turned_as(key, image_dir / name, orientation, attribute)
            ),
        )

    def _images(
        self,
        pairs: Iterable[Pair],
        attributes: tuple[str, str],
        is_listed: Callable[[str, str, str], bool],
    ) -> list[str]:
        """List the images of pairs for whose key, name and attribute a function returns True."""
        listed: dict[str, bool] = {}
        for pair in pairs:
            key, names = _recorded(self.file, pair)
            for name, attribute in zip(names, attributes, strict=True):
                if not listed.get(name):
                    listed[name] = is_listed(key, name, attribute)
        return sorted(name for name, value in listed.items() if value)


class PairPointsReader(H5Reader):
    """Reads what :class:`PairPointsWriter` writes."""

    def __contains__(self, pair: Pair) -> bool:
        return any(has_link(self.file, pair_key(*names)) for names in (pair, pair[::-1]))

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
