"""The published numbers of ``published.json``: as they are printed, table by table.

A table has a source, whose title and address are listed once, and the protocol, data, settings and
caveats of its rows. A protocol names its robust estimator after a plus, as in runs.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any


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
    url: str
    """Address of the source."""
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
    threshold: float | str | None = None
    """Inlier threshold of the protocol's robust estimator in pixels, or in words how it was chosen;
    None where nothing is estimated."""
    unstated: tuple[str, ...] = ()
    """Settings that the source does not state."""


_COPIED = (
    "feature",
    "benchmark",
    "protocol",
    "dataset",
    "table",
    "variant",
    "weights",
    "keypoints",
    "threshold",
)
"""Fields of a number that are entries of its table or row."""


@cache
def load_published() -> tuple[Published, ...]:
    """Read every published number."""
    document = read_document()
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
                        source=document["papers"][entry["source"]]["title"],
                        url=document["papers"][entry["source"]]["url"],
                        caveat=caveat,
                        settings=settings,
                        unstated=tuple(entry.get("unstated", ())),
                    )
                )
    return tuple(numbers)


def read_document() -> dict[str, Any]:
    """Read the file: sources, units, spellings of data sets, names, and tables."""
    return json.loads((resources.files(__package__) / "published.json").read_text("utf-8"))


@cache
def canonical_dataset(dataset: str) -> str:
    """Return one name of a data set, however its folder is spelt."""
    plain = _plain(dataset)
    for name, others in read_document()["datasets"].items():
        if plain in (_plain(name), *map(_plain, others)):
            return _plain(name)
    return plain


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
