"""Comparisons of a run's figures with published numbers, where that is fair.

A figure is compared with a published one only where protocol, data, settings and keypoints agree,
and the network where the weights are the authors'; otherwise the comparison has the reason.
Protocols name the robust estimator where there is one. Other weights than the authors', another
inlier threshold, and settings that the source does not state are caveats.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.measured_method import find_method
from benchmarks.published.published_numbers import Published, canonical_dataset, load_published
from benchmarks.record import Row
from featplug.methods import feature_conf


@dataclass(frozen=True)
class Comparison:
    """A figure of a row next to a published one of the same feature and data."""

    metric: str
    ours: float
    """Our figure in the unit of the published number."""
    published: Published
    reason: str | None = None
    """Reason why the two cannot be compared; None where they can."""
    caveat: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the published number, in its unit; None where they cannot be compared."""
        return None if self.reason else self.ours - self.published.value


def compare(benchmark: str, row: Row, options: Mapping[str, Any] | None = None) -> list[Comparison]:
    """Compare a row with the published numbers of its feature on its data.

    Settings of a published number are looked up in the options of the run and in the row's metrics.

    Returns:
        A comparison with each published number of the feature on this data set and part.
    """
    comparisons = []
    for number in load_published():
        if number.metric not in row.metrics or not _same_subject(number, benchmark, row):
            continue
        if number.feature != _describer(row.feature, number):
            continue
        ours = _in_unit_of(number, row.metrics[number.metric])
        reason = _why_not(number, row, options or {})
        caveat = "" if reason else " ".join(filter(None, _caveats(number, row)))
        comparisons.append(Comparison(number.metric, ours, number, reason, caveat))
    return comparisons


def context(benchmark: str, row: Row) -> list[Published]:
    """Return published numbers of other methods for a row's metrics, protocol and data."""
    return [
        number
        for number in load_published()
        if number.metric in row.metrics
        and number.protocol == row.protocol
        and _same_subject(number, benchmark, row)
        and number.feature != _describer(row.feature, number)
    ]


def _in_unit_of(number: Published, entry: Mapping[str, Any]) -> float:
    """Convert a figure to a published number's unit: rates are fractions or per cent."""
    if number.unit == "%" and entry["unit"] != "%":
        return 100 * entry["value"]
    if number.unit == "fraction" and entry["unit"] == "%":
        return entry["value"] / 100
    return entry["value"]


def _same_subject(number: Published, benchmark: str, row: Row) -> bool:
    return (
        number.benchmark == benchmark
        and number.part.lower() == row.part.lower()
        and canonical_dataset(number.dataset) == canonical_dataset(row.dataset)
    )


def _describer(feature: str, number: Published) -> str:
    """Return a conf's name without its keypoints, where a number is of given keypoints."""
    return feature.partition("@")[0] if number.keypoints else feature


def _why_not(number: Published, row: Row, options: Mapping[str, Any]) -> str | None:
    if row.not_comparable:
        return row.not_comparable
    if number.protocol != row.protocol:
        return f"Published by the protocol {number.protocol}, measured by {row.protocol}."
    detector = _detector(row.feature)
    if number.keypoints and detector != number.keypoints:
        return f"Published at keypoints of {number.keypoints}, measured at those of {detector}."
    official = [record["name"] for record in row.weights if record.get("origin") == "official"]
    if official and (number.weights or number.variant) and number.weights not in official:
        network = " and ".join(filter(None, (number.variant, number.weights)))
        return f"Published for another network ({network}), measured with {', '.join(official)}."
    if number.benchmark == "relative-pose" and (matcher := _other_matcher(number, row)):
        return matcher
    for name, published in number.settings.items():
        if name in row.metrics:
            ours = row.metrics[name]["value"]
        elif name in _LIMITS and row.settings:
            ours = row.settings.get(name)
        elif name in options:
            ours = None if name in _LIMITS and options[name] == -1 else options[name]
        else:
            return f"Published with {name} {published}, which the run does not record."
        if ours != published:
            return f"Published with {_shown(name, published)}, measured with {_shown(name, ours)}."
    return None


def _other_matcher(number: Published, row: Row) -> str | None:
    """Return a reason where a row has another matcher than the published method names or has."""
    method = find_method(number.feature)
    if row.matcher is None or method.matches_images:
        return None
    own, measured = method.matcher_name(two_views=True), row.matcher.partition(" (")[0]
    return None if measured == own else f"Published with {own}, measured with {measured}."


_LIMITS = "max_keypoints", "resize_max"
"""Settings of a row that are limits: without one, there is no limit."""


def _shown(name: str, value: Any) -> str:
    return f"no limit of {name}" if value is None else f"{name} {value}"


def _detector(feature: str) -> str | None:
    """Return the name of a conf's detector; with OpenCV's settings it is SIFT as well.

    A detector that the name has is not looked up: the name is a record's, and may be a class.
    """
    describer, _, detector = feature.partition("@")
    try:
        conf = feature_conf(describer)
    except ValueError:
        return None
    detector = detector or conf["model"].get("detector", {}).get("name", feature)
    return "SIFT" if detector in ("sift", "sift-opencv") else detector


def _caveats(number: Published, row: Row) -> list[str]:
    unstated = " and ".join(number.unstated)
    return [
        number.caveat,
        f"The source does not state {unstated}." if unstated else "",
        _other_threshold(number, row),
        _other_weights(row),
    ]


def _other_threshold(number: Published, row: Row) -> str:
    if number.threshold is None:
        return ""
    measured = re.search(r"\(([\d.]+) px\)", row.estimator or "")
    published = number.threshold
    if measured and isinstance(published, float | int) and float(measured[1]) == published:
        return ""
    shown = f"of {published:g} px" if isinstance(published, float | int) else published
    return f"Inlier threshold {shown}; measured with {row.estimator or 'one not recorded'}."


def _other_weights(row: Row) -> str:
    own = [record["name"] for record in row.weights if record.get("origin") != "official"]
    return f"Measured with {', '.join(own)}, not with the authors' weights." if own else ""
