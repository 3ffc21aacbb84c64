"""Groups and links of HDF5 files, which may lead into circles, nowhere or into a pipe."""

from collections.abc import Iterator
from pathlib import Path

import h5py
from h5py import h5l, h5o

from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.names import MAX_NAME_BYTES

_MAX_LINKS = 16
"""Soft links on the way to a name."""


def has_link(group: h5py.Group, name: str) -> bool:
    """Return whether there is a link of that name, wherever it may lead."""
    try:
        group.id.links.get_info(name.encode())
    except Exception:  # h5py's; see guarded
        return False
    return True


def check_links(path: Path, group: h5py.Group, name: str, left: int = _MAX_LINKS) -> None:
    """Check that the links on the way from a group to a name lead to this file or to another one.

    Raises:
        UnusableDataError: a link leads to something that does not exist or is no file, such as a
            pipe, which would be waited for.
        Exception: see :func:`~featplug.io.hdf5_guard.guarded`.
    """
    parts = name.strip("/").split("/")
    for end in range(1, len(parts) + 1):
        link = "/".join(parts[:end]).encode()
        kind = group.id.links.get_info(link).type
        if kind == h5l.TYPE_SOFT and left:
            target = group.id.links.get_val(link).decode()
            if target.startswith("/"):
                check_links(path, group.file["/"], target, left - 1)
            else:
                check_links(path, group, "/".join([*parts[: end - 1], target]), left - 1)
        elif kind == h5l.TYPE_EXTERNAL:
            other = path.parent / group.id.links.get_val(link)[0].decode()
            if not other.is_file():
                raise UnusableDataError(
                    f"{path}: {link.decode()!r} is a link to {other}, which is no file; put that "
                    "file there, or link to it again."
                )


def leaf_groups(path: Path, file: h5py.File) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of every group that holds arrays, and the names of these.

    Raises:
        UnusableDataError: groups are linked into a circle, or more than once, or are too deep.
        Exception: see :func:`~featplug.io.hdf5_guard.guarded`.
    """
    seen = set()
    todo = [("", file["/"])]
    while todo:
        prefix, group = todo.pop()
        keys = [key for key in group if isinstance(key, str)]  # bytes are no UTF-8
        if keys and group.get(keys[0], getclass=True) is h5py.Dataset:
            yield prefix, keys
            continue
        info = h5o.get_info(group.id)
        if (info.fileno, info.addr) in seen or len(prefix) > MAX_NAME_BYTES:
            raise UnusableDataError(
                f"{path}: the group {prefix[:100]!r} is linked more than once, or too deep; "
                "make the file again."
            )
        seen.add((info.fileno, info.addr))
        for key in reversed(keys):
            check_links(path, group, key)
            inner = group[key]
            if isinstance(inner, h5py.Group):
                todo.append((f"{prefix}/{key}" if prefix else key, inner))
