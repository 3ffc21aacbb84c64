"""Local features, one file per method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featplug.base import Extractor, build_module

_CLASSES = {
    "sift": "featplug.extractors.sift:SIFT",
    "d2net": "featplug.extractors.d2net:D2NetExtractor",
    "mtldesc": "featplug.extractors.mtldesc:MTLDescExtractor",
    "lisrd": "featplug.extractors.lisrd:LISRDExtractor",
    "lisrd_sift": "featplug.extractors.lisrd_sift:LISRDSIFTExtractor",
    "contextdesc": "featplug.extractors.contextdesc:ContextDescExtractor",
    "doap": "featplug.extractors.doap:DOAPExtractor",
}


def build_extractor(model_conf: Mapping[str, Any]) -> Extractor:
    """Build the extractor of a feature conf's ``model`` entry.

    Args:
        model_conf: ``name``, a method of this package or ``module:Class`` of your own, and the
            method's options.

    Raises:
        ValueError: there is no such method, or it does not have such an option.
    """
    return build_module(_CLASSES, model_conf, Extractor)  # type: ignore[type-abstract]
