"""All models that COLMAP made of a scene, and how many inliers the verified pairs have."""

from dataclasses import dataclass

from benchmarks.record import ModelSize
from benchmarks.report.result_tables import Table


@dataclass(frozen=True)
class ModelLine:
    """The models and pairs of one feature with one seed."""

    series: str
    seed: int | None
    models: list[ModelSize]
    pairs: dict[str, int]
    """Range of inlier matches to the number of verified pairs with as many."""


def model_lines(table: Table) -> list[ModelLine]:
    """Return a line for each row of a table that has models or pairs."""
    return [
        ModelLine(line.series, row.seed, row.models, row.verified_pairs_by_inliers)
        for line in table.lines
        for _, row in line.rows
        if row.models or row.verified_pairs_by_inliers
    ]
