"""The settings of a method that its figures depend on, as one field of a row and one text.

A matcher with a stricter threshold has the higher precision, a feature with more keypoints the
higher recall: figures are read next to these numbers. They are taken from the conf that was run, by
the names that all methods give such options, so that a new method needs no entry here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_OF_MATCHER = "matcher"
_LIMIT = "max_keypoints"
_SIZE = "resize_max"
_UNITS = {_LIMIT: "keypoints", _SIZE: "px"}


def method_settings(
    feature: Mapping[str, Any] | None = None,
    matcher: Mapping[str, Any] | None = None,
    max_keypoints: int | None = None,
) -> dict[str, Any]:
    """Return the settings of a method by name; those of the matcher begin with ``matcher.``.

    They are the limit of the keypoints, the size of the images, and all thresholds.

    Args:
        feature: conf of the feature, or of the matcher of two images: ``model`` and
            ``preprocessing``; None where it is not known.
        matcher: options of the matcher; None where there is none.
        max_keypoints: number of keypoints that are kept of each image; None for those of the conf.
    """
    feature = feature or {}
    settings = dict(_thresholds(feature.get("model", {})))
    limit = feature.get("model", {}).get(_LIMIT) if max_keypoints is None else max_keypoints
    limits = {_LIMIT: limit, _SIZE: feature.get("preprocessing", {}).get(_SIZE)}
    of_matcher = {f"{_OF_MATCHER}.{key}": value for key, value in _thresholds(matcher or {})}
    return {key: v for key, v in limits.items() if v not in (None, -1)} | settings | of_matcher


def recorded_settings(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in the record of a pipeline."""
    matcher = results.get("matcher_conf") or {}
    return method_settings(results.get("feature_conf"), matcher.get("model"))


def _thresholds(model: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the thresholds of a model and of the models in it, and what overrides them."""
    for key, value in model.items():
        if isinstance(value, Mapping):
            yield from _thresholds(value, f"{prefix}{key}.")
            continue
        is_threshold = key.endswith("threshold") and isinstance(value, int | float)
        # With fill, keypoints below the threshold fill the limit.
        if is_threshold or (key == "fill" and value is True):
            yield f"{prefix}{key}", value


def settings_text(settings: Mapping[str, Any], estimator: str | None = None) -> str:
    """Return settings for tables, such as ``2,048 keypoints, 1,024 px, detection threshold 0.2``.

    A ratio test is not repeated, which the name of the matcher has.
    """
    words = []
    for key, value in settings.items():
        name = key.replace(f"{_OF_MATCHER}.", f"{_OF_MATCHER} ").replace("_", " ")
        is_number = isinstance(value, int | float)  # a record of others may have anything
        if key in _UNITS:
            words.append(f"{value:,} {_UNITS[key]}" if is_number else f"{value} {_UNITS[key]}")
        elif value is True:
            words.append(name)
        elif key != f"{_OF_MATCHER}.ratio_threshold":
            words.append(f"{name} {value:g}" if is_number else f"{name} {value}")
    return ", ".join([*words, *([estimator] if estimator else [])])
