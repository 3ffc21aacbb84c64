"""Local features and global descriptors, one file per method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featplug.base import Extractor, GlobalExtractor, build_module

_CLASSES = {
    "sift": "featplug.extractors.sift:SIFT",
    "d2net": "featplug.extractors.d2net:D2NetExtractor",
    "mtldesc": "featplug.extractors.mtldesc:MTLDescExtractor",
    "lisrd": "featplug.extractors.lisrd:LISRDExtractor",
    "lisrd_sift": "featplug.extractors.lisrd_sift:LISRDSIFTExtractor",
    "contextdesc": "featplug.extractors.contextdesc:ContextDescExtractor",
    "doap": "featplug.extractors.doap:DOAPExtractor",
}
_GLOBAL_CLASSES = {"netvlad": "featplug.extractors.netvlad:NetVLADExtractor"}


def build_extractor(model_conf: Mapping[str, Any]) -> Extractor:
    """Build the extractor of a feature conf's ``model`` entry.

    Args:
        model_conf: ``name``, a method of this package or ``module:Class`` of your own, and the
            method's options.

    Raises:
        ValueError: there is no such method, or it does not have such an option.
    """
    return build_module(_CLASSES, model_conf, Extractor)  # type: ignore[type-abstract]


def build_global_extractor(model_conf: Mapping[str, Any]) -> GlobalExtractor:
    """Build the extractor of a retrieval conf's ``model`` entry, as :func:`build_extractor`."""
    return build_module(_GLOBAL_CLASSES, model_conf, GlobalExtractor)  # type: ignore[type-abstract]
