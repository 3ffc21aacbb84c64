"""Features and global descriptors in parts, read as one file."""

from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import h5py
import numpy as np

from featplug.io.artifact import value_hash
from featplug.io.h5file import FINGERPRINT, H5Reader
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.hdf5_links import has_link
from featplug.io.parts.manifest import MANIFEST, Manifest
from featplug.io.parts.part_files import (
    H5PartWriter,
    Key,
    part_file,
    part_keys,
    shards_of_blocks,
)
from featplug.io.store import (
    FeatureReader,
    FeatureWriter,
    GlobalDescriptorReader,
    GlobalDescriptorWriter,
)

_MAX_OPEN = 64
"""Number of parts that are open at once; each takes some MB."""
_SUFFIX = ".h5"

Reader = TypeVar("Reader", bound=H5Reader)


class FeaturePartWriter(H5PartWriter, FeatureWriter):
    """Writes the features of a shard's images."""


class GlobalDescriptorPartWriter(H5PartWriter, GlobalDescriptorWriter):
    """Writes the global descriptors of a shard's images."""


class _PartsReader(H5Reader):
    """Reads the groups of a folder of parts, each from its part."""

    part_reader: ClassVar[type[H5Reader]]

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder)
        self._paths = part_keys(self.path, _SUFFIX)
        if not self._paths:
            raise FileNotFoundError(f"{folder} has no part-*{_SUFFIX}; make them first.")
        self._open: OrderedDict[Path, H5Reader] = OrderedDict()
        self._ids: dict[int, str] = {}
        first = self._part_at(next(iter(self._paths.values())))
        self.provenance = first.provenance

    @property
    def file_id(self) -> str:
        """Identity of all parts together."""
        return value_hash([self._part_at(path).file_id for path in self._paths.values()])

    def part_id(self, shard: int) -> str:
        """Return the identity of the part of a shard.

        Raises:
            FileNotFoundError: there is no such part.
        """
        if shard not in self._ids:
            if (shard,) not in self._paths:
                raise FileNotFoundError(
                    f"There is no {part_file(self.path, (shard,), _SUFFIX)}; make the part first."
                )
            self._ids[shard] = self._part_at(self._paths[shard,]).file_id
        return self._ids[shard]

    def blocks_id(self, key: Key, size: int) -> str:
        """Return the identity of the parts of some blocks of shards.

        Args:
            key: numbers of the blocks.
            size: number of shards of a block.

        Raises:
            FileNotFoundError: one of the parts does not exist.
        """
        shards = shards_of_blocks(key, size, self._num_shards)
        return value_hash([self.part_id(shard) for shard in shards])

    @cached_property
    def _num_shards(self) -> int:
        if (self.path.parent / MANIFEST).is_file():
            return Manifest(self.path.parent).num_shards
        return 1 + max(shard for (shard,) in self._paths)

    def _part_at(self, path: Path) -> H5Reader:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        while len(self._open) >= _MAX_OPEN:
            self._open.popitem(last=False)[1]._close()
        self._open[path] = self.part_reader(path, locking=False)
        return self._open[path]

    @cached_property
    def _shard_of(self) -> dict[str, int]:
        """Name of each image to its shard, by the manifest, or as the parts have them without."""
        if (self.path.parent / MANIFEST).is_file():
            return Manifest(self.path.parent).shard_of
        return {
            name: shard
            for (shard,), path in self._paths.items()
            for name, _ in self._part_at(path).leaf_groups()
        }

    def _part(self, name: str) -> H5Reader:
        """Return the open part that has, or would have, an image.

        Raises:
            UnusableDataError: there is none.
        """
        shard = self._shard_of.get(name)
        if shard is None or (shard,) not in self._paths:
            missing = "" if shard is None else f", since its part {shard} is missing"
            raise UnusableDataError(
                f"{self.path} has nothing of the image {name!r}{missing}; make the part first."
            )
        return self._part_at(self._paths[shard,])

    def __contains__(self, name: str) -> bool:
        shard = self._shard_of.get(name)
        if shard is None or (shard,) not in self._paths:
            return False
        return has_link(self._part_at(self._paths[shard,]).file, name)

    def group(self, name: str) -> h5py.Group:
        """Open the group of an image, see :meth:`featplug.io.h5file.H5File.group`."""
        return self._part(name).group(name)

    def arrays(self, name: str, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Read arrays of an image, see :meth:`featplug.io.h5file.H5File.arrays`."""
        return self._part(name).arrays(name, keys)

    def attribute(self, name: str, key: str, array: str | None = None) -> Any:
        """Read an attribute of an image, see :meth:`featplug.io.h5file.H5File.attribute`."""
        return self._part(name).attribute(name, key, array)

    def leaf_groups(self) -> list[tuple[str, list[str]]]:
        """List the groups of all parts, see :meth:`featplug.io.h5file.H5File.leaf_groups`."""
        return [
            group for path in self._paths.values() for group in self._part_at(path).leaf_groups()
        ]

    def is_made_from(self, name: str, path: Path, attribute: str = FINGERPRINT) -> bool:
        """Return whether an image was made from a file."""
        return self._part(name).is_made_from(name, path, attribute)

    def num_rewritten(self) -> int:
        """Return 0: parts never change."""
        return 0

    def _close(self) -> None:
        while self._open:
            self._open.popitem()[1]._close()


class FeatureParts(_PartsReader, FeatureReader):
    """Reads a folder of feature parts like one file."""

    part_reader = FeatureReader


class GlobalDescriptorParts(_PartsReader, GlobalDescriptorReader):
    """Reads a folder of parts with global descriptors like one file."""

    part_reader = GlobalDescriptorReader


def open_features(path: Path) -> FeatureReader:
    """Open a feature file, or a folder of feature parts.

    Raises:
        FileNotFoundError: it does not exist, or the folder has no parts.
        UnusableDataError: it is damaged.
    """
    return FeatureParts(path) if Path(path).is_dir() else FeatureReader(path)


def open_global_descriptors(path: Path) -> GlobalDescriptorReader:
    """Open a file of global descriptors, or a folder of parts, as :func:`open_features` does."""
    return GlobalDescriptorParts(path) if Path(path).is_dir() else GlobalDescriptorReader(path)
