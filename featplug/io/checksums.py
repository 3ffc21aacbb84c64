"""Checksums of what an HDF5 group holds, kept in an attribute of the group.

HDF5's own (fletcher32) are of the stored bytes. These are of what a reader makes of them: a name, a
type or a shape that changed on the disk is noticed, too.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

import h5py
import numpy as np
from h5py import h5a, h5s, h5t

_ATTRIBUTE = "featplug_checksums"


def attribute_key(attribute: str, array: str | None = None) -> str:
    """Return the key of an attribute of a group, or of an array in it."""
    return f"{array or ''}@{attribute}"


class Checksums:
    """CRC-32 of the arrays and attributes of a group.

    Args:
        group: absolute name of the group, which each checksum covers.
        values: key of an array, or :func:`attribute_key`, to its checksum.
    """

    def __init__(self, group: str, values: Mapping[str, int] | None = None) -> None:
        self._group = group
        self._values = dict(values or {})

    @classmethod
    def of(cls, group: h5py.Group) -> Self:
        """Read the checksums of a group; files of others and older ones have none.

        Raises:
            Exception: they are damaged.
        """
        text = group.attrs.get(_ATTRIBUTE)
        return cls(group.name, None if text is None else json.loads(text))

    def write(self, group: h5py.Group) -> None:
        """Keep the checksums in the group."""
        text = json.dumps(self._values, separators=(",", ":")).encode()
        kind = h5t.C_S1.copy()
        kind.set_size(len(text))
        kind.set_strpad(h5t.STR_NULLPAD)
        name = _ATTRIBUTE.encode()
        if h5a.exists(group.id, name):
            h5a.delete(group.id, name)
        attribute = h5a.create(group.id, name, kind, h5s.create(h5s.SCALAR))
        attribute.write(np.array(text))

    def add(self, key: str, value: Any) -> None:
        """Add an array or attribute."""
        self._values[key] = self._sum(key, value)

    def arrays(self) -> Iterator[str]:
        """Yield the keys of the arrays."""
        return (key for key in self._values if "@" not in key)

    def agree(self, key: str, value: Any) -> bool:
        """Return whether an array or attribute is the one that was added, None if it is missing.

        Those that were never added agree.
        """
        return key not in self._values or self._values[key] == self._sum(key, value)

    def _sum(self, key: str, value: Any) -> int:
        if isinstance(value, np.ndarray):
            head = f"{self._group}\0{key}\0{value.dtype.str}\0{value.shape}"
            return zlib.crc32(np.ascontiguousarray(value).data, zlib.crc32(head.encode()))
        return zlib.crc32(f"{self._group}\0{key}\0{value}".encode())
