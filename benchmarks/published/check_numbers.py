"""Faults of the published numbers: what is missing, misspelt, impossible or there twice."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from benchmarks.matching.protocols import PROTOCOLS
from benchmarks.measured_method import find_method
from benchmarks.patches.hpatches import PUBLISHED_LISTS
from benchmarks.patches.phototour import PhotoTour
from benchmarks.patches.romepatches import RomePatches
from benchmarks.published.published_numbers import Published, load_published, read_document
from benchmarks.reconstruction import evaluate_scene, multiview
from benchmarks.relative_pose.pose_protocols import PROTOCOLS as POSE_PROTOCOLS
from featplug.io.metric_table import METRICS, find_metric
from featplug.methods import features, is_pair_matcher, pair_matchers
from featplug.metrics.two_view_estimators import ESTIMATORS
from featplug.utils.suggestions import did_you_mean
from pipelines.datasets.pipeline_names import find_options

_FIXED = {
    *PROTOCOLS,
    *(f"hpatches-patches-{split}" for split in PUBLISHED_LISTS),
    *(PhotoTour.protocol, RomePatches.protocol),
    *(evaluate_scene.PROTOCOL, multiview.PROTOCOL),
    *(f"{name}+{estimator}" for name in POSE_PROTOCOLS for estimator in ESTIMATORS),
}
"""Protocols of the benchmarks but that of localization, whose names are those of its data sets."""
_HIGHEST = {"fraction": 1.0, "%": 100.0}
"""Unit to its highest value."""
_NEEDED = {"relative-pose": ("resize_max",)}
"""Benchmark to the settings that its numbers mean nothing without."""


def faults(
    numbers: Sequence[Published] | None = None, document: dict[str, Any] | None = None
) -> list[str]:
    """Return the faults of published numbers, a line each; by default of those of the file.

    Args:
        numbers: the numbers to check.
        document: what the file lists: ``protocols`` and ``other_methods`` that are not featplug's,
            and ``units`` of metrics.
    """
    numbers = load_published() if numbers is None else numbers
    document = read_document() if document is None else document
    found = [
        f"{_label(number)}: {fault}" for number in numbers for fault in _faults(number, document)
    ]
    return list(dict.fromkeys([*found, *_repeated(numbers), *_unused(numbers, document)]))


def _label(number: Published) -> str:
    place = ", ".join(filter(None, (number.source, number.table))) or "no source"
    return f"{place}: {number.feature} by {number.protocol}"


def _faults(number: Published, document: dict[str, Any]) -> Iterator[str]:
    if not number.source:
        yield "no source; name the paper or repository."
    if not number.url.startswith(("https://", "http://")):
        yield "no address of the source; add its url."
    if not number.table:
        yield "no table; name it, or the section or file."
    if find_metric(number.metric) is None and number.metric not in document["units"]:
        near = did_you_mean(number.metric, METRICS)
        yield f"unknown metric {number.metric!r}; correct it, or give it a unit under units.{near}"
    yield from _unknown_protocol(number, document["protocols"])
    others = [name for names in document["other_methods"].values() for name in names]
    if not is_method(number.feature) and number.feature not in others:
        known = [*features, *pair_matchers, *others]
        yield (
            f"{number.feature!r} is neither a method here nor one of other_methods; correct it, or "
            f"add it to those.{did_you_mean(number.feature, known)}"
        )
    if not (0 <= number.value <= _HIGHEST.get(number.unit, sys.float_info.max)):
        yield (
            f"{number.metric} of {number.part} is {number.value:g} {number.unit}, which is out of "
            "range; correct the value or the unit."
        )
    yield from _missing_settings(number, document["other_methods"]["of two images"])


def _unknown_protocol(number: Published, described: dict[str, str]) -> Iterator[str]:
    if not is_measured(number.protocol) and number.protocol not in described:
        near = did_you_mean(number.protocol, [*_FIXED, *described])
        yield (
            f"unknown protocol {number.protocol!r}; correct it, or describe it under protocols if "
            f"nothing here measures by it.{near}"
        )


def _missing_settings(number: Published, of_two_images: Sequence[str]) -> Iterator[str]:
    needed = list(_NEEDED.get(number.benchmark, ()))
    has_keypoints = number.feature not in of_two_images and not _matches_images(number.feature)
    if needed and has_keypoints:
        needed.append("max_keypoints")
    stated = {*number.settings, *number.unstated}
    if number.threshold is not None:
        stated.add("threshold")
    if "+" in number.protocol:
        needed.append("threshold")
    for name in needed:
        if name not in stated:
            yield f"no {name}; add it, or list it under unstated if the source does not state it."


def _matches_images(feature: str) -> bool:
    return is_method(feature) and is_pair_matcher(feature)


@cache
def is_method(name: str) -> bool:
    """Return whether a name is that of a method here."""
    try:
        find_method(name)
    except (ValueError, OSError):
        return False
    return True


_Key = Callable[[Published], object]


def _repeated(numbers: Sequence[Published]) -> Iterator[str]:
    """Yield the numbers that a table has twice, with equal values or not."""
    first: dict[str, Published] = {}
    for number in numbers:
        other = first.setdefault(repr(replace(number, value=0.0, caveat="")), number)
        if other is number:
            continue
        if other.value == number.value:
            yield f"{_label(number)}: {number.metric} is there twice; remove one."
        else:
            yield (
                f"{_label(number)}: {number.metric} is {other.value:g} and {number.value:g}; "
                "correct one, or add the variant or setting that differs."
            )


def _unused(numbers: Sequence[Published], document: dict[str, Any]) -> Iterator[str]:
    """Yield the listed names that no number has."""
    used = {number.feature for number in numbers}
    for names in document["other_methods"].values():
        for name in names:
            if name not in used:
                yield f"other_methods: no number is of {name!r}; remove it, or correct it."
            elif is_method(name):
                yield f"other_methods: {name!r} is a method here; remove it."
    for name in document["protocols"]:
        if is_measured(name):
            yield f"protocols: {name!r} is measured here; remove it."
        elif name not in {number.protocol for number in numbers}:
            yield f"protocols: no number is by {name!r}; remove it, or correct it."


@cache
def is_measured(protocol: str) -> bool:
    """Return whether featplug's benchmarks measure by a protocol."""
    if protocol in _FIXED:
        return True
    try:
        find_options(protocol.removesuffix("-local-features"))
    except ValueError:
        return False
    return True
