"""The page of one run: figures, model, pairs, pictures, stages, and what was left out and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from featplug.report.html_page import render
from featplug.report.inline_images import InlinePicture
from featplug.report.model_views import ModelView
from featplug.report.pair_matrix import PairMatrix
from featplug.report.stage_bars import StageChart

MAX_ROWS = 1000
"""Largest number of rows of a table of images."""


@dataclass(frozen=True)
class Figure:
    """A number that the page begins with."""

    value: str
    label: str
    """Name of the number, with its unit."""


@dataclass(frozen=True)
class ImageTable:
    """A table with a row for each image, which sorts by its columns."""

    heads: Sequence[str]
    """Titles of the columns; those of numbers begin with ``#``."""
    rows: Sequence[Sequence[str | float | None]]
    digits: Mapping[str, int] = field(default_factory=dict)
    """Title to the number of decimals, where there are some."""

    @property
    def num_more(self) -> int:
        """Number of rows that the page leaves out."""
        return max(0, len(self.rows) - MAX_ROWS)


@dataclass(frozen=True)
class TextTable:
    """A small table of text, whose first column names the rows."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class LeftOut:
    """Something that was not used or made, and why."""

    subject: str
    reason: str


@dataclass(frozen=True)
class RunPage:
    """Contents of the page."""

    title: str
    """Name of the data."""
    kind: str
    """Name of what was done: reconstruction, localization."""
    method: str
    """Names of the feature and the matcher."""
    figures: Sequence[Figure]
    metrics: Sequence[tuple[str, str, str]]
    """All figures: name, value and unit."""
    facts: Mapping[str, Any]
    """What was run: options and environment as JSON has them, and the command as text."""
    notes: Sequence[str] = ()
    """Sentences about what is weak, and what would help."""
    remarks: Sequence[str] = ()
    """Sentences about how it was made."""
    conditions: TextTable | None = None
    """Recalls of each condition."""
    view: ModelView | None = None
    matrix: PairMatrix | None = None
    pairs_by_inliers: Mapping[str, int] = field(default_factory=dict)
    """Range of inliers to the number of verified pairs with as many."""
    images: ImageTable | None = None
    images_title: str = "Images"
    pictures: Mapping[str, Sequence[InlinePicture]] = field(default_factory=dict)
    """Title to the pictures below it."""
    stages: StageChart | None = None
    left_out: Sequence[LeftOut] = ()


def render_run_page(page: RunPage, made: datetime | None = None) -> str:
    """Return the page as HTML, with the time when it was made, by default now."""
    return render("run.html", made=made, more_scripts=["matrix.js"], page=page, max_rows=MAX_ROWS)
