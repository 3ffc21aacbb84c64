"""Forms of the arrays that describe an image, and the check of what a file holds.

:data:`FORMS` is the one table of the arrays that featplug knows: files, the contracts of
:mod:`featplug.base` and subsets of keypoints follow it. Any other array is kept as it is; whoever
reads it declares the axis along which its keypoints lie.
"""

from collections.abc import Iterable, Mapping

import numpy as np

_OF_EACH = ("scores", "keypoint_scores", "scales", "oris", "attention", "matchability")
FORMS: dict[str, tuple[int | str, ...]] = {
    "keypoints": ("N", 2),
    **dict.fromkeys(_OF_EACH, ("N",)),
    "lafs": ("N", 2, 3),  # local affine frames
    "descriptors": ("D", "N"),
    "meta_grid": ("K", "N"),
    "descriptors_packed": ("K", "N"),
}
"""Shape of each known array of N keypoints; any other letter is any size."""
KEYPOINT_AXES: dict[str, int | None] = {
    **{key: form.index("N") for key, form in FORMS.items()},
    **dict.fromkeys(("meta_descriptors", "image_size", "image"), None),
}
"""Axis along which the keypoints of each known array lie; None for those of the whole image."""
LARGEST = 1e9
"""Largest magnitude of a number: products of descriptors remain finite in float32."""

_COLMAP_COLUMNS = (4, 6)
"""Columns of keypoints with a shape, as COLMAP has them: x, y and the shape."""
_MAX_INDEX = 2**31
_FLOAT16_INFINITE = np.uint16(0x7C00)


def form_of(key: str, num: int) -> tuple[int | str, ...] | None:
    """Return the shape of a known array for ``num`` keypoints; a letter is any size."""
    form = FORMS.get(key)
    return None if form is None else tuple(num if size == "N" else size for size in form)


def has_form(shape: tuple[int, ...], form: tuple[int | str, ...]) -> bool:
    """Return whether a shape is of a form of :func:`form_of`."""
    sizes = zip(shape, form, strict=False)
    return len(shape) == len(form) and all(n == size for size, n in sizes if isinstance(n, int))


def shown(shape: tuple[int | str, ...]) -> str:
    """Return a shape or form in words."""
    return "×".join(map(str, shape)) if shape else "a single number"


def shown_array(array: np.ndarray) -> str:
    """Return shape and type of an array in words."""
    return f"{shown(array.shape)} {array.dtype}"


def usable_numbers(array: np.ndarray) -> bool:
    """Return whether all numbers are finite and below :data:`LARGEST`."""
    if array.dtype == np.float16:  # ten times as fast as isfinite
        bits = np.ascontiguousarray(array).view(np.uint16) & np.uint16(0x7FFF)
        return not array.size or bool(bits.max() < _FLOAT16_INFINITE)
    if array.dtype.kind != "f" or not array.size:
        return True
    return bool(array.max() < LARGEST) and bool(array.min() > -LARGEST)  # false for NaN


def check_shape(key: str, shape: tuple[int, ...], num: int) -> None:
    """Check the shape of an array of an image with ``num`` keypoints.

    Raises:
        ValueError: it is not what it must be; the message is the rest of a sentence that begins
            with where the array is.
    """
    form = form_of(key, num)
    if form is None or has_form(shape, form):
        return
    turned = ""
    if key == "descriptors" and len(shape) == 2 and shape[0] == num:
        turned = "; they are N×D and must be transposed to D×N, as hloc has them"
    raise ValueError(f"{key} must be {shown(form)}, not {shown(shape)}{turned}")


def check_stored_shape(key: str, shape: tuple[int, ...], num: int) -> None:
    """Check the shape of an array in a file, where keypoints may have COLMAP's shapes, too.

    Raises:
        ValueError: as :func:`check_shape`.
    """
    if key != "keypoints" or len(shape) != 2 or shape[1] not in _COLMAP_COLUMNS:
        check_shape(key, shape, num)


def checked_arrays(arrays: Mapping[str, np.ndarray], num: int) -> dict[str, np.ndarray]:
    """Return the arrays of an image with ``num`` keypoints, with the first two columns of these.

    Raises:
        ValueError: an array has another shape or type than it must have, or numbers that no
            keypoint or descriptor has; the message is as in :func:`check_shape`.
    """
    checked = dict(arrays)
    for key, array in arrays.items():
        if key not in FORMS:
            continue
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{key} must be real numbers, not {array.dtype}")
        check_stored_shape(key, array.shape, num)
        if not usable_numbers(array):
            raise ValueError(f"{key} must be finite; it has NaN, infinite or huge values")
        if key == "keypoints":
            checked[key] = np.ascontiguousarray(array[:, :2])
    return checked


def check_axes(keys: Iterable[str], axes: Mapping[str, int | None], source: str) -> None:
    """Check that the axis of keypoints of each array is known, so that some can be selected.

    Raises:
        ValueError: one is not; the message begins with ``source``.
    """
    if unknown := sorted(set(keys) - set(axes)):
        raise ValueError(
            f"{source}: the axis of keypoints of {', '.join(unknown)} is not known; declare it in "
            "keypoint_axes."
        )


def selected(
    arrays: Mapping[str, np.ndarray], keep: np.ndarray, axes: Mapping[str, int | None]
) -> dict[str, np.ndarray]:
    """Return the arrays of some keypoints of an image, N bool; those of the whole image stay."""
    return {
        key: array if (axis := axes[key]) is None else np.compress(keep, array, axis)
        for key, array in arrays.items()
    }


def checked_global_descriptor(descriptor: np.ndarray | None) -> np.ndarray:
    """Return the global descriptor of an image if it is a vector of finite numbers.

    Raises:
        ValueError: it is missing, or is not; the message is a sentence.
    """
    if descriptor is None or descriptor.ndim != 1 or descriptor.dtype.kind not in "fiu":
        shown_descriptor = "missing" if descriptor is None else shown_array(descriptor)
        raise ValueError(f"global_descriptor must be D real numbers, not {shown_descriptor}")
    if not usable_numbers(descriptor):
        raise ValueError("global_descriptor must be finite; it has NaN, infinite or huge values")
    return descriptor


def checked_matches(
    matches0: np.ndarray, scores0: np.ndarray | None, num1: int | None = None
) -> None:
    """Check the matches of an image's keypoints: an index in the other image, or -1, for each.

    Args:
        matches0: what should be N0 integers.
        scores0: what should be N0 scores, if there are any.
        num1: number of keypoints in the other image, if known.

    Raises:
        ValueError: they are not; the message is the rest of a sentence, as in
            :func:`check_shape`.
    """
    if matches0.ndim != 1 or matches0.dtype.kind not in "iu":
        raise ValueError(f"matches0 must be N integers, not {shown_array(matches0)}")
    limit = _MAX_INDEX if num1 is None else num1
    if matches0.size and not (int(matches0.min()) >= -1 and int(matches0.max()) < limit):
        raise ValueError(
            f"matches0 must lie from -1 to {limit - 1}, not from {matches0.min()} to "
            f"{matches0.max()}"
        )
    if scores0 is None:
        return
    if scores0.shape != matches0.shape or scores0.dtype.kind not in "fiu":
        raise ValueError(
            f"matching_scores0 must be {len(matches0)} real numbers, not {shown_array(scores0)}"
        )
    if not usable_numbers(scores0):
        raise ValueError("matching_scores0 must be finite; it has NaN or infinite values")
