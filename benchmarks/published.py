"""Numbers that papers and authors' repositories print, and comparisons of a run with them.

``published.json`` has them as printed, table by table, with source, protocol and caveats. A figure
is compared with a published one only where protocol, data, settings and keypoints agree, and the
network where the weights are the authors'; otherwise the comparison has the reason. Other weights
than the authors' are a caveat.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from benchmarks.record import Row
from featplug.methods import feature_conf


@dataclass(frozen=True)
class Published:
    """One number of one table."""

    feature: str
    """Name of a conf, or of a method that has no conf here: a table's SIFT is not ``sift``."""
    benchmark: str
    protocol: str
    dataset: str
    part: str
    metric: str
    value: float
    """Printed number."""
    unit: str
    """Unit: ``%`` where rates are printed in per cent, ``fraction`` where they are not."""
    source: str
    """Paper or repository."""
    table: str
    caveat: str = ""
    """Conditions of the number beyond its protocol; empty where none are known."""
    variant: str = ""
    """Name of the network, where the method has several."""
    weights: str | None = None
    """Entry of the weights in the registry; None where they do not exist or were not released."""
    keypoints: str | None = None
    """Detector of the described keypoints, such as SIFT; None for the method's own, or patches."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Options of the run, or metrics of the row, that must be the same; ``max_keypoints`` None
    keeps all."""


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


_COPIED = (
    "feature",
    "benchmark",
    "protocol",
    "dataset",
    "table",
    "variant",
    "weights",
    "keypoints",
)
"""Fields of a number that are entries of its table or row."""


@cache
def load_published() -> tuple[Published, ...]:
    """Read every published number."""
    document = _document()
    numbers = []
    for table in document["tables"]:
        for row in table["rows"]:
            entry = {**table, **row}
            settings = {**table.get("settings", {}), **row.get("settings", {})}
            caveat = " ".join(filter(None, (table.get("caveat"), row.get("caveat"))))
            for column, value in zip(table["columns"], row["values"], strict=True):
                # A column is a metric, or a part and a metric where the table has several parts.
                part, _, metric = column.rpartition(" ")
                numbers.append(
                    Published(
                        **{name: entry[name] for name in _COPIED if name in entry},
                        part=part or entry["part"],
                        metric=metric,
                        value=value,
                        unit=entry.get("unit") or document["units"].get(metric, "fraction"),
                        source=document["papers"][entry["source"]],
                        caveat=caveat,
                        settings=settings,
                    )
                )
    return tuple(numbers)


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
        caveat = "" if reason else " ".join(filter(None, (number.caveat, _other_weights(row))))
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


def _document() -> dict[str, Any]:
    return json.loads((resources.files("benchmarks") / "published.json").read_text("utf-8"))


def _same_subject(number: Published, benchmark: str, row: Row) -> bool:
    return (
        number.benchmark == benchmark
        and number.part.lower() == row.part.lower()
        and _canonical(number.dataset) == _canonical(row.dataset)
    )


@cache
def _canonical(dataset: str) -> str:
    """Return one name of a data set, however its folder is spelt."""
    plain = _plain(dataset)
    for name, others in _document()["datasets"].items():
        if plain in (_plain(name), *map(_plain, others)):
            return _plain(name)
    return plain


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


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
    for name, published in number.settings.items():
        if name in row.metrics:
            ours = row.metrics[name]["value"]
        elif name in options:
            ours = options[name]
        else:
            return f"Published with {name} {published}, which the run does not record."
        if name == "max_keypoints" and ours == -1:
            ours = None
        if ours != published:
            return f"Published with {_shown(name, published)}, measured with {_shown(name, ours)}."
    return None


def _shown(name: str, value: Any) -> str:
    return f"no limit of {name}" if value is None else f"{name} {value}"


def _detector(feature: str) -> str | None:
    """Return the name of a conf's detector; with OpenCV's settings it is SIFT as well."""
    try:
        conf = feature_conf(feature)
    except ValueError:
        return None
    detector = feature.partition("@")[2] or conf["model"].get("detector", {}).get("name", feature)
    return "SIFT" if detector in ("sift", "sift-opencv") else detector


def _other_weights(row: Row) -> str:
    own = [record["name"] for record in row.weights if record.get("origin") != "official"]
    return f"Measured with {', '.join(own)}, not with the authors' weights." if own else ""
