"""What an image in an HDF5 file was made from besides its photograph: its turn and its mask.

These are attributes of the image's group, next to the fingerprint of the photograph. An image whose
mask was changed is written again, and what other files made from it before is then forgotten.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from featplug.io.artifact import file_fingerprint
from featplug.io.h5file import REWRITTEN, H5File, H5Reader, H5Writer
from featplug.io.image_files import read_image_header
from featplug.io.orientation import Orientation, Turn

ORIENTATION = "image_orientation"
"""Attribute: EXIF's orientation, 1 to 8, that the image was turned upright by; absent where it was
taken as stored, as older versions did."""
MASK = "mask_fingerprint"
"""Attribute: fingerprint of the mask; absent where there was none."""


def image_origin(
    turn: Turn, orientation: Orientation, mask: Path | None = None
) -> dict[str, str | int]:
    """Return the attributes of an image that is turned and masked."""
    origin: dict[str, str | int] = {}
    if orientation == "exif":
        origin[ORIENTATION] = turn.orientation
    if mask is not None:
        origin[MASK] = file_fingerprint(mask)
    return origin


def is_turned_as(
    store: H5File, group: str, path: Path, orientation: Orientation, suffix: str = ""
) -> bool:
    """Return whether a group's image was turned as a run would turn the file ``path``.

    Args:
        store: the file of the group.
        group: name of the group.
        path: the photograph that the group was made from.
        orientation: option of the run.
        suffix: 0 or 1, for an image of a pair.
    """
    recorded = store.attribute(group, ORIENTATION + suffix)
    if orientation == "stored":
        return recorded in (None, 1)
    # A recorded one was read from the same contents.
    return recorded is not None or read_image_header(path).orientation == 1


def is_masked_by(store: H5File, group: str, mask: Path | None, suffix: str = "") -> bool:
    """Return whether a group's image was made with a mask; see :func:`is_turned_as`."""
    if mask is None:
        return store.attribute(group, MASK + suffix) is None
    return store.is_made_from(group, mask, MASK + suffix)


def forget_rewritten(
    writer: H5Writer, key: str, source: H5Reader, groups: Callable[[str], Iterable[str]]
) -> None:
    """Remove what a file made from images that its source has written again since.

    Args:
        writer: the file.
        key: what the source is to the file.
        source: a file with a group for each image.
        groups: maps the name of an image to the groups to remove.
    """
    attribute = f"{REWRITTEN}_{key}"
    total = source.num_rewritten()
    with writer.reading():
        known = int(writer.file.attrs.get(attribute, 0))
    if total == known:
        return
    for name, _ in source.leaf_groups():
        if int(source.attribute(name, REWRITTEN) or 0) > known:
            for group in groups(name):
                writer.unlink(group)
    with writer.explaining_failures():
        writer.file.attrs[attribute] = total
    writer.commit()
