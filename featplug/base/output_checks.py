"""The one check of what extractors and matchers return; :mod:`featplug.base` has the contracts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from featplug.io.feature_arrays import KEYPOINT_AXES, check_shape, has_form, shown

_LENGTH_ERROR = 0.01
"""Largest error of the length of a global descriptor, which may have been computed in float16."""


def check_features(
    features: Mapping[str, Tensor],
    image_size: tuple[int, int],
    source: str,
    *,
    keypoint_axes: Mapping[str, int | None] | None = None,
    max_keypoints: int | None = None,
) -> None:
    """Check the features of an image of (width, height) against the extractor contract.

    Args:
        features: what the extractor returned.
        image_size: (width, height) of the image.
        source: name of its class, for messages.
        keypoint_axes: axes of arrays besides the known ones, see :class:`Extractor`.
        max_keypoints: largest number of keypoints, any if None or negative.

    Raises:
        ValueError: an output is not as it must be.
    """
    _check_tensors(features, ("keypoints", "scores", "descriptors"), source)
    keypoints = features["keypoints"]
    num = len(keypoints) if keypoints.ndim else 0
    for key, value in features.items():
        _check_output(key, value, num, source)
        axis = (keypoint_axes or {}).get(key)
        if axis is None or key in KEYPOINT_AXES:
            continue
        if not -value.ndim <= axis < value.ndim or value.shape[axis] != num:
            raise ValueError(
                f"{source}: {key} must have {num} keypoints along axis {axis}, not the shape "
                f"{shown(tuple(value.shape))}; correct keypoint_axes or the array."
            )
    if max_keypoints is not None and 0 <= max_keypoints < num:
        raise ValueError(
            f"{source} returned {num} keypoints, although max_keypoints is {max_keypoints}; "
            "return the strongest by score."
        )
    _check_inside("keypoints", keypoints, image_size, source)


def _check_tensors(result: object, needed: Sequence[str], source: str) -> None:
    """Check that a method returned a dictionary of tensors with some keys."""
    if not isinstance(result, Mapping):
        raise ValueError(
            f"{source} returned {type(result).__name__}; return a dictionary with {needed[0]}."
        )
    missing = [key for key in needed if key not in result]
    if missing:
        raise ValueError(f"{source} returned no {', '.join(missing)}.")
    for key, value in result.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{source}: {key} must be a tensor, not {type(value).__name__}; convert it by "
                "torch.as_tensor."
            )


def _check_output(key: str, value: Tensor, num: int, source: str) -> None:
    """Check shape, type and values of an output of an extractor."""
    try:
        check_shape(key, tuple(value.shape), num)
    except ValueError as error:
        raise ValueError(f"{source}: {error}.") from None
    if (value.is_floating_point() or key == "keypoints") and value.dtype != torch.float32:
        raise ValueError(
            f"{source}: {key} must be float32, not {value.dtype}; convert it by .float()."
        )
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise ValueError(f"{source}: {key} has NaN or infinite values; return finite ones only.")


def _check_inside(key: str, points: Tensor, image_size: tuple[int, int], source: str) -> None:
    """Check that points N×2 lie in an image of (width, height), to the borders of its pixels."""
    limit = points.new_tensor(image_size) - 0.5
    if len(points) and (bool((points < -0.5).any()) or bool((points > limit).any())):
        low, high = points.amin(0).tolist(), points.amax(0).tolist()
        raise ValueError(
            f"{source}: {key} from {low} to {high} leave the image of {image_size[0]}×"
            f"{image_size[1]} pixels; return x, y in pixels of the image that was handed over."
        )


def check_global_descriptor(descriptor: object, source: str) -> None:
    """Check the descriptor of a whole image against the contract of global extractors.

    Raises:
        ValueError: it is not as it must be.
    """
    if not isinstance(descriptor, Tensor) or descriptor.ndim != 1:
        form = type(descriptor).__name__
        if isinstance(descriptor, Tensor):
            form = shown(tuple(descriptor.shape))
        raise ValueError(f"{source}: global_descriptor must be a tensor of D numbers, not {form}.")
    _check_output("global_descriptor", descriptor, 0, source)
    length = float(descriptor.norm())
    if length and abs(length - 1) > _LENGTH_ERROR:
        raise ValueError(
            f"{source}: global_descriptor must have unit length, not {length:.4g}; divide it by "
            "its norm."
        )


def check_matches(result: Mapping[str, Tensor], num0: int, num1: int, source: str) -> None:
    """Check the matches of num0 and num1 keypoints against the matcher contract.

    Raises:
        ValueError: an output is not as it must be.
    """
    _check_tensors(result, ("matches0", "matching_scores0"), source)
    for key, dtype in (("matches0", torch.int64), ("matching_scores0", torch.float32)):
        _check_vector(key, result, num0, dtype, source)
    matches, scores = result["matches0"], result["matching_scores0"]
    if num0 and (int(matches.min()) < -1 or int(matches.max()) >= num1):
        raise ValueError(
            f"{source}: matches0 must lie in [-1, {num1 - 1}], not "
            f"[{int(matches.min())}, {int(matches.max())}]; return -1 where there is no match."
        )
    _check_scores("matching_scores0", scores, source)


def check_pair_matches(
    result: Mapping[str, Tensor],
    size0: tuple[int, int],
    size1: tuple[int, int],
    source: str,
) -> None:
    """Check the matched points of two images of (width, height) against the contract.

    Raises:
        ValueError: an output is not as it must be.
    """
    _check_tensors(result, ("keypoints0", "keypoints1", "scores"), source)
    num = len(result["keypoints0"]) if result["keypoints0"].ndim else 0
    for key, size in (("keypoints0", size0), ("keypoints1", size1)):
        points = result[key]
        if not has_form(tuple(points.shape), (num, 2)):
            raise ValueError(
                f"{source}: {key} must be {num}×2, a point for each of keypoints0, not "
                f"{shown(tuple(points.shape))}."
            )
        _check_output(key, points, num, source)
        if points.dtype != torch.float32:
            raise ValueError(f"{source}: {key} must be float32; convert it by .float().")
        _check_inside(key, points, size, source)
    _check_vector("scores", result, num, torch.float32, source)
    _check_scores("scores", result["scores"], source)


def _check_vector(
    key: str, result: Mapping[str, Tensor], num: int, dtype: torch.dtype, source: str
) -> None:
    value = result[key]
    if value.shape != (num,) or value.dtype != dtype:
        raise ValueError(
            f"{source}: {key} must be {dtype} of shape ({num},), not {value.dtype} of shape "
            f"{tuple(value.shape)}."
        )


def _check_scores(key: str, scores: Tensor, source: str) -> None:
    if len(scores) and not bool(((scores >= 0) & (scores <= 1)).all()):  # false for NaN
        raise ValueError(
            f"{source}: {key} must lie in [0, 1], not from {float(scores.min()):.3g} to "
            f"{float(scores.max()):.3g}; scale or clamp them."
        )
