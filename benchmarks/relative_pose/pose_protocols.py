"""The protocols of relative pose: data sets, and the rules by which papers measure on them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from benchmarks.pair_values import MEAN_OF_SCENES
from benchmarks.pairs.datasets import megadepth1500, phototourism, scannet1500
from benchmarks.pairs.estimator_options import EstimatorRules
from benchmarks.pairs.pair_protocol import PairProtocol, by_part
from benchmarks.pairs.pair_set import ImagePair, PairSet
from benchmarks.record import Row
from benchmarks.relative_pose.pose_estimation import (
    PosedPair,
    estimate_poses,
    measure_matches,
    pose_columns,
    summarise_poses,
)
from featplug.io.metric_table import with_units
from featplug.metrics.two_view_estimators import ESTIMATORS

_COUNTS = {"pairs_without_pose"}
"""Metrics that are numbers of pairs, of which the scenes' are summed."""


@dataclass(frozen=True)
class PoseProtocol(PairProtocol):
    """Rules of a paper that compares estimated poses with true ones, and an estimator."""

    second_stage: ClassVar[str | None] = "estimate"

    _: KW_ONLY
    estimator: EstimatorRules
    """Estimator of the poses, of which a data set's protocol has the pixels only."""
    by_sequence: bool = False
    """Whether each sequence has a row of its own."""
    mean_of_sequences: bool = False
    """Whether another row has the means over sequences, which the paper reports."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Rules that the figures depend on besides those of matching."""
        return self.estimator.settings

    def with_estimator(
        self, name: str, seeds: Sequence[int], threshold: float | None = None
    ) -> "PoseProtocol":
        """Return the protocol with an estimator, which its name has then."""
        if threshold is None:
            threshold = ESTIMATORS[name].pose_threshold
        rules = EstimatorRules(name, threshold, tuple(seeds), self.estimator.longer_side)
        return replace(self, name=f"{self.name}+{name}", estimator=rules)

    def pairs(self, pair_set: PairSet) -> list[ImagePair]:
        """Return the pairs with known intrinsics and pose."""
        pairs = super().pairs(pair_set)
        return [p for p in pairs if p.intrinsics is not None and p.cam1_from_cam0 is not None]

    def complete(
        self, pairs: Sequence[ImagePair], measures: Sequence[PosedPair]
    ) -> Iterator[PosedPair]:
        """Estimate the poses of matched pairs."""
        return estimate_poses(pairs, measures, self.estimator)

    def rows(
        self, row: Row, pairs: Sequence[ImagePair], measures: Sequence[PosedPair]
    ) -> list[Row]:
        """Return a row of the whole data set, and one of each part, for each seed."""
        row = replace(row, estimator=self.estimator.label)
        rows = []
        for seed in self.estimator.seeds:
            of_parts = {}
            for part, selected in by_part(pairs, self.by_sequence).items():
                of_part = [pairs[i] for i in selected], [measures[i] for i in selected]
                of_parts[part] = summarise_poses(*of_part, seed)
            if self.mean_of_sequences:
                of_parts[MEAN_OF_SCENES] = _means([m for p, m in of_parts.items() if p != "all"])
            for part, metrics in of_parts.items():
                rows.append(replace(row, part=part, seed=seed, metrics=with_units(metrics)))
        return rows

    def pair_values(
        self, row: Row, pairs: Sequence[ImagePair], measures: Sequence[PosedPair]
    ) -> dict[str, np.ndarray]:
        """Return the values of all pairs with the seed of a row."""
        return {} if row.seed is None else pose_columns(pairs, measures, row.seed)


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric that all have, the sum of one that is a number of pairs."""
    common = [name for name in figures[0] if all(name in others for others in figures)]
    return {
        name: float((np.sum if name in _COUNTS else np.mean)([others[name] for others in figures]))
        for name in common
    }


def _protocol(name: str, layout: str, longer_side: int | None = None, **rules: Any) -> PoseProtocol:
    estimator = EstimatorRules("opencv-ransac", 1.0, (0,), longer_side)
    return PoseProtocol(
        name,
        layout,
        measure_matches,
        estimator=estimator,
        keeps_matches=True,
        leaves_settings=True,
        **rules,
    )


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # LightGlue (Lindenberger et al., ICCV 2023, section 5.2) and glue-factory: thresholds are
        # in pixels of the resized images.
        _protocol(
            *("megadepth-1500", "megadepth1500", 1600),
            max_keypoints=2048,
            resize_max=1600,
            num_pairs={"all": megadepth1500.NUM_PAIRS},
        ),
        # SuperGlue (Sarlin et al., CVPR 2020, section 5.2): frames of 640×480.
        _protocol(
            *("scannet-1500", "scannet1500", 640),
            max_keypoints=2048,
            resize_max=640,
            num_pairs={"all": scannet1500.NUM_PAIRS},
        ),
        # Jin et al., IJCV 2021, section 4: figures of scenes, and their mean; 8,000 keypoints, or
        # 2,048 (--max-keypoints); thresholds are chosen on the validation scenes (--tune).
        _protocol(
            *("phototourism-stereo", "phototourism"),
            max_keypoints=8000,
            by_sequence=True,
            mean_of_sequences=True,
            left_out=phototourism.VALIDATION,
        ),
        _protocol(
            *("phototourism-stereo-val", "phototourism"),
            max_keypoints=8000,
            by_sequence=True,
            mean_of_sequences=True,
            left_out=phototourism.TEST,
        ),
        # The challenge's own evaluation of its training scenes.
        _protocol(
            *("imc-2022", "imc2022"),
            max_keypoints=8000,
            by_sequence=True,
            mean_of_sequences=True,
        ),
        _protocol("eth3d-pairs", "eth3d_pairs", by_sequence=True),
        # The rules of MegaDepth-1500.
        _protocol("strecha", "strecha", 1600, max_keypoints=2048, resize_max=1600),
        _protocol("pairs", "pairs_file"),
    )
}
"""Name to protocol; the first one of each layout is the default."""
