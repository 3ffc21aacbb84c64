"""The published numbers of ``published.json``: as they are printed, table by table.

A table has a source, whose title and address are listed once, and the protocol, data, settings and
caveats of its rows. A protocol names its robust estimator after a plus, as in runs.
"""

import json
import re
from collections.abc import Sequence
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
    digits: int = 0
    """Number of decimals that the table prints; -3 for thousands."""

    @property
    def half_digit(self) -> float:
        """Half a unit of the last printed digit, by which the number may be rounded."""
        return 0.5 * 10.0**-self.digits


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
        columns = zip(*(row["values"] for row in table["rows"]), strict=True)
        digits = [_digits(column) for column in columns]
        for row in table["rows"]:
            entry = {**table, **row}
            of_parts = {**table.get("settings", {}), **row.get("settings", {})}
            caveat = " ".join(filter(None, (table.get("caveat"), row.get("caveat"))))
            for column, value, decimals in zip(
                table["columns"], row["values"], digits, strict=True
            ):
                # A column is a metric, or a part and a metric where the table has several parts.
                part, _, metric = column.rpartition(" ")
                part = part or entry["part"]
                numbers.append(
                    Published(
                        **{name: entry[name] for name in _COPIED if name in entry},
                        part=part,
                        metric=metric,
                        value=value,
                        unit=entry.get("unit") or document["units"].get(metric, "fraction"),
                        source=document["papers"][entry["source"]]["title"],
                        url=document["papers"][entry["source"]]["url"],
                        caveat=caveat,
                        settings=_of_part(of_parts, part),
                        unstated=tuple(entry.get("unstated", ())),
                        digits=decimals,
                    )
                )
    return tuple(numbers)


def _of_part(settings: dict[str, Any], part: str) -> dict[str, Any]:
    """Return the settings of a part: a setting may have a value for each part that has it."""
    values = {key: v.get(part) if isinstance(v, dict) else v for key, v in settings.items()}
    return {key: v for key, v in values.items() if v is not None or settings[key] is None}


def _digits(column: Sequence[float]) -> int:
    """Return the number of decimals that a column is printed with; negative for thousands."""
    if all(value >= 1000 for value in column):
        # A table of several counts that all end in zeros has them in thousands.
        zeros = [len(text) - len(text.rstrip("0")) for text in (f"{v:.0f}" for v in column)]
        if min(zeros) >= 3:
            return -min(zeros)
    return max(len(f"{value:.9f}".rstrip("0").partition(".")[2]) for value in column)


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
