"""Matchers, one file per method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featplug.base import Matcher, build_module

_CLASSES = {
    "nearest_neighbor": "featplug.matchers.nearest_neighbor:NearestNeighbor",
    "lisrd": "featplug.matchers.lisrd:LISRDMatcher",
}


def build_matcher(model_conf: Mapping[str, Any]) -> Matcher:
    """Build the matcher of a matcher conf's ``model`` entry.

    Args:
        model_conf: ``name``, a method of this package or ``module:Class`` of your own, and the
            method's options.

    Raises:
        ValueError: there is no such method, or it does not have such an option.
    """
    return build_module(_CLASSES, model_conf, Matcher)  # type: ignore[type-abstract]
