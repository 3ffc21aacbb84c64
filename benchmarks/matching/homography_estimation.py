"""Homographies from the matches of a protocol, by other estimators than its paper's."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from benchmarks.matching.measuring import PairMeasures
from benchmarks.matching.protocols import Protocol
from benchmarks.pairs.estimator_options import EstimatorRules
from benchmarks.pairs.pair_set import ImagePair
from benchmarks.record import Row
from featplug.metrics.homography import corner_error
from featplug.utils.parallel import map_ahead

_BY_ITS_OWN = {"homography_maa_20"}
"""Metrics that are of a protocol's own estimator, and of no other."""


@dataclass(frozen=True, kw_only=True)
class EstimatedProtocol(Protocol):
    """A protocol whose homographies come from another estimator, once for each seed."""

    second_stage: ClassVar[str | None] = "estimate"

    estimator: EstimatorRules

    @property
    def settings(self) -> Mapping[str, Any]:
        """Options of the estimator."""
        return self.estimator.settings

    def complete(
        self, pairs: Sequence[ImagePair], measures: Sequence[PairMeasures]
    ) -> Iterator[PairMeasures]:
        """Estimate the homography of each pair with each seed, on all processors."""
        rules = self.estimator

        def estimate(measure: PairMeasures) -> PairMeasures:
            fit = measure.homography_fit
            if fit is None:
                return measure
            errors = {}
            for seed in rules.seeds:
                found = rules.estimator.homography(*fit.points, rules.threshold, seed)
                matrix = None if found is None else found.matrix
                errors[seed] = corner_error(matrix, fit.true, fit.size, fit.in_image0)
            values = {name: v for name, v in measure.values.items() if name not in _BY_ITS_OWN}
            return replace(measure, corner_errors=errors, values=values)

        return map_ahead(estimate, measures, os.cpu_count() or 1)

    def rows(
        self, row: Row, pairs: Sequence[ImagePair], measures: Sequence[PairMeasures]
    ) -> list[Row]:
        """Return a row of the whole data set, and one of each part, for each seed."""
        rows = []
        for seed in self.estimator.seeds:
            of_seed = replace(row, seed=seed, estimator=self.estimator.label)
            rows += super().rows(of_seed, pairs, _with_seed(measures, seed))
        return rows

    def pair_values(
        self, row: Row, pairs: Sequence[ImagePair], measures: Sequence[PairMeasures]
    ) -> dict[str, np.ndarray]:
        """Return the values of all pairs with the seed of a row."""
        seed = 0 if row.seed is None else row.seed
        return super().pair_values(row, pairs, _with_seed(measures, seed))


def _with_seed(measures: Sequence[PairMeasures], seed: int) -> list[PairMeasures]:
    return [replace(m, corner_error=m.corner_errors.get(seed)) for m in measures]


def with_estimator(protocol: Protocol, rules: EstimatorRules) -> EstimatedProtocol:
    """Return a protocol with an estimator, which its name has then."""
    own = {entry.name: getattr(protocol, entry.name) for entry in fields(protocol) if entry.init}
    return EstimatedProtocol(**{**own, "name": f"{protocol.name}+{rules.name}"}, estimator=rules)
