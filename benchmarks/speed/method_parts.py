"""The feature and the matcher of a method: which of them are networks, and what rows record."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import nn

from benchmarks.measured_method import find_method, matcher_label
from benchmarks.settings import method_settings
from benchmarks.speed.measure import SpeedOptions
from featplug.base import Extractor, Matcher, PairMatcher
from featplug.io.results import WeightsFiles
from featplug.methods import build_extractor, build_matcher, build_pair_matcher
from featplug.methods.method_sources import source_records
from featplug.stages.extract import weights_files


@dataclass(frozen=True)
class MethodParts:
    """What is measured of a method."""

    extraction_is_network: bool
    """Whether the feature, or the matcher of two images, has parameters."""
    matching_is_network: bool
    matcher: str | None
    """Name of the matcher for tables."""
    settings: dict[str, Any]
    weights: WeightsFiles
    methods: list[dict[str, str]]


@lru_cache(maxsize=64)
def method_parts(options: SpeedOptions, name: str) -> MethodParts:
    """Load a method once, and describe it.

    Raises:
        Exception: whatever a class of others raises.
    """
    method = find_method(name)
    parts: list[Extractor | Matcher | PairMatcher] = []
    if method.matches_images:
        conf = options.pair_matcher_conf(method)
        parts.append(build_pair_matcher(conf["model"]))
        return _described(parts, None, method_settings(conf))
    conf = options.extraction(method).conf(method.feature or "")
    model = method.matcher_conf()["model"]
    parts += [build_extractor(conf["model"]), build_matcher(model)]
    label = matcher_label(method.matcher_name(), model)
    return _described(parts, label, method_settings(conf, model))


def _described(
    parts: list[Extractor | Matcher | PairMatcher], matcher: str | None, settings: dict[str, Any]
) -> MethodParts:
    return MethodParts(
        _is_network(parts[0]),
        _is_network(parts[-1]),
        matcher,
        settings,
        [record for part in parts for record in weights_files(part)],
        [record for part in parts for record in source_records(part)],
    )


def _is_network(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
