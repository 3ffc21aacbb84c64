"""Matching accuracy of features on image pairs whose geometry is known.

``python -m benchmarks.matching --dataset DIR --feature NAME [NAME …]`` measures sequences of
HPatches, Oxford, RDNIM or EVD, which homographies relate, or pairs of WxBS. The layout is
recognised by the folder's files; ``--protocol`` selects one or more papers' rules. Feature and
match files of any tool are measured as ``--features NAME=FILE --matches NAME=FILE``.
``--estimator`` estimates homographies by other libraries than papers do, and with several seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.console import NOTHING, conclude, table_lines
from benchmarks.matching.homography_estimation import with_estimator
from benchmarks.matching.measuring import RIGHT
from benchmarks.matching.pair_means import AMONG
from benchmarks.matching.protocols import PROTOCOLS, Protocol
from benchmarks.pairs.estimator_options import EstimatorName, EstimatorOptions, EstimatorRules
from benchmarks.pairs.pair_benchmark import PairOptions, Plan, run_pair_benchmark
from benchmarks.pairs.pair_set import PairSet
from benchmarks.record import Row
from featplug.cli.command_line import Unprefixed, run_command

_HEADS = {
    "match_score": "M.S.",
    "repeatability": "rep.",
    "homography_accuracy_3": "HA 3 px",
    "precision": "prec.",
    "recall": "recall",
    "average_precision": "AP",
    "correspondence_maa_10": "mAA 10 px",
    "homography_maa_20": "mAA 20 px",
}
"""Metric to its head in the console's tables."""
_OF_KEYPOINTS = ("match_score", "repeatability", "recall", "mean_keypoints")
_NOT_DEFINED = "not defined"
"""Entry for figures of keypoints of a method that detects none."""
_COUNTS = {
    **{f"right_among_{number}": f"right of {number:,}" for number in AMONG},
    "right_matches": "right",
    "wrong_matches": "wrong",
    "mean_keypoints": "keypoints",
}


@dataclass(frozen=True)
class MatchingOptions(EstimatorOptions, PairOptions):
    """Image pairs to match, and the rules to measure by."""

    benchmark: ClassVar[str] = "matching"

    protocol: tuple[str, ...] = ()
    """Rules to measure by: mma-d2net, mma-116, recall-contextdesc, lisrd-480x640 and
    mtldesc-hpatches for HPatches, oxford-mma and oxford-ap for Oxford, rdnim, wxbs, evd; by default
    the first one of the layout."""
    estimator: tuple[EstimatorName, ...] = ()
    """Robust estimators of homographies, each with all seeds; by default OpenCV's RANSAC with its
    own options and seed, as in papers. poselib needs featplug[pose]."""
    threshold: float | None = None
    """Largest error of an inlier of --estimator in pixels; by default 3."""

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Options that change nothing as the others are."""
        return () if self.estimator else ("threshold", "seeds", "num_seeds")

    def check(self) -> None:
        """Check the request, before the long work.

        Raises:
            ValueError: the device or the library of an estimator does not exist, or an option does
                not fit.
        """
        super().check()
        self.check_estimators()
        for name in self.without_effect:
            if getattr(self, name) not in (None, ()):
                option = name.replace("_", "-")
                raise ValueError(f"--{option} is of estimators; add --estimator.")

    def plan(self, protocols: Sequence[Protocol], _: PairSet) -> Plan:
        """Return the plan by which homographies are estimated by each estimator."""
        threshold = RIGHT if self.threshold is None else self.threshold
        rules = [
            EstimatorRules(name, threshold, self.chosen_seeds())
            for name in dict.fromkeys(self.estimator)
        ]
        if rules and not any(protocol.has_homographies for protocol in protocols):
            names = ", ".join(protocol.name for protocol in protocols)
            raise ValueError(
                f"--estimator has no effect on {names}: no homographies are estimated from its "
                "matches; leave it out, or choose another --protocol."
            )
        planned: list[Protocol] = []
        for protocol in protocols:
            estimated = [with_estimator(protocol, of_one) for of_one in rules]
            planned += (estimated if protocol.has_homographies else []) or [protocol]
        return lambda *_: planned


def _table(protocol: Protocol, rows: Sequence[Row]) -> list[str]:
    rows = [row for row in rows if row.protocol.partition("+")[0] == protocol.name]
    thresholds = [t for t in (1, 3, 5, 10) if any(f"mma_{t}" in row.metrics for row in rows)]
    heads = {f"mma_{t}": f"MMA {t} px" for t in thresholds}
    heads |= {name: _HEADS[name] for name in protocol.shown}
    heads |= _COUNTS
    cells = [["feature", "part", *heads.values(), "matcher", "estimator", "seed"]]
    for row in rows:
        lacks_keypoints = "mean_keypoints" not in row.metrics
        figures = [
            f"{row.metrics[name]['value']:.{0 if name in _COUNTS else 3}f}"
            if name in row.metrics
            else (_NOT_DEFINED if lacks_keypoints and name in _OF_KEYPOINTS else NOTHING)
            for name in heads
        ]
        seed = "" if row.seed is None else str(row.seed)
        cells.append(
            [row.feature, row.part, *figures, row.matcher or "", row.estimator or "", seed]
        )
    return ["", protocol.name, *table_lines(cells, "<<")] if rows else []


def main(options: Unprefixed[MatchingOptions]) -> None:
    """Measure how well features match image pairs whose geometry is known."""
    run, protocols = run_pair_benchmark(options, PROTOCOLS, progress=True, plan=options.plan)
    lines = [line for protocol in protocols for line in _table(protocol, run.rows)]
    conclude(run, options.output_dir, lines)


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.matching")
