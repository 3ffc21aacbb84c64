"""Relative poses of image pairs from matches, by the robust estimators that papers use.

``python -m benchmarks.relative_pose --dataset DIR --feature NAME [NAME …]`` measures pairs of
MegaDepth-1500, ScanNet-1500, PhotoTourism, IMC 2022, ETH3D, Strecha's scenes, or any list with
intrinsics and poses. Each pair is matched once, and its pose estimated by each ``--estimator`` with
several seeds. ``--tune DIR`` chooses the thresholds of each method on the pairs of another folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.console import conclude, mean_and_spread, table_lines
from benchmarks.measured_method import MeasuredMethod
from benchmarks.pairs.estimator_options import EstimatorName, EstimatorOptions
from benchmarks.pairs.pair_benchmark import PairOptions, Plan, run_pair_benchmark
from benchmarks.pairs.pair_set import PairSet
from benchmarks.record import Row, Run
from benchmarks.relative_pose.pose_protocols import PROTOCOLS, PoseProtocol
from benchmarks.relative_pose.threshold_choice import ThresholdChoice, read_tuning_set
from featplug.cli.command_line import Unprefixed, run_command
from featplug.io.metric_table import find_metric


@dataclass(frozen=True)
class RelativePoseOptions(EstimatorOptions, PairOptions):
    """Image pairs with known poses, and the estimators to measure by."""

    benchmark: ClassVar[str] = "relative-pose"

    protocol: tuple[str, ...] = ()
    """Rules to measure by: megadepth-1500, scannet-1500, phototourism-stereo,
    phototourism-stereo-val, imc-2022, eth3d-pairs, strecha, or pairs for any list; by default the
    first one of the layout."""
    estimator: tuple[EstimatorName, ...] = ("opencv-ransac",)
    """Robust estimators of the poses, each with all seeds; poselib needs featplug[pose]."""
    tune: Path | None = None
    """Folder of other pairs, on which the threshold of each method and estimator is chosen."""

    def check(self) -> None:
        """Check the request, before the long work.

        Raises:
            ValueError: the device or the library of an estimator does not exist, or an option does
                not fit.
        """
        super().check()
        self.check_estimators()
        if self.tune is not None and self.threshold is not None:
            raise ValueError("Give --threshold, or --tune to choose thresholds, not both.")

    def plan(self, protocols: Sequence[PoseProtocol], pair_set: PairSet) -> Plan:
        """Return the plan by which each protocol is measured with each estimator.

        Raises:
            FileNotFoundError: the folder to choose thresholds on does not exist.
            ValueError: it does not fit.
        """
        names, seeds = list(dict.fromkeys(self.estimator)), self.chosen_seeds()
        choice = None
        if self.tune is not None:
            tuning = read_tuning_set(self.tune, pair_set, protocols)
            choice = ThresholdChoice(tuning, self, names, seeds, progress=True)

        def of_method(method: MeasuredMethod, run: Run) -> list[PoseProtocol]:
            planned = []
            for protocol in protocols:
                thresholds: Sequence[float | None] = [self.threshold] * len(names)
                if choice is not None:
                    thresholds = choice.thresholds(method, protocol, run)
                planned += [
                    protocol.with_estimator(name, seeds, threshold)
                    for name, threshold in zip(names, thresholds, strict=True)
                ]
            return planned

        return of_method


_SHOWN = {
    "pose_auc_5": "AUC 5°",
    "pose_auc_10": "AUC 10°",
    "pose_auc_20": "AUC 20°",
    "pose_maa_10": "mAA 10°",
    "pose_maa_10deg_5m": "mAA 10° 5 m",
    "epipolar_precision_0.0005": "prec. 5e-4",
    "epipolar_precision_0.0001": "prec. 1e-4",
    "inliers": "inliers",
    "mean_matches": "matches",
    "mean_keypoints": "keypoints",
    "pairs_without_pose": "no pose",
}
"""Metric to its head in the console's tables."""


def _tables(rows: Sequence[Row]) -> list[str]:
    """Return a table of each data set's rules, with means over seeds and their deviations."""
    lines = []
    for protocol in dict.fromkeys(row.protocol.partition("+")[0] for row in rows):
        of_line: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            if row.protocol.partition("+")[0] == protocol:
                key = row.feature, row.matcher or "", row.estimator or "", row.part
                of_line.setdefault(key, []).append(row)
        cells: list[list[str]] = [["feature", "matcher", "estimator", "part", *_SHOWN.values()]]
        for labels, seeds in of_line.items():
            figures = []
            for name in _SHOWN:
                values = [row.metrics[name]["value"] for row in seeds if name in row.metrics]
                metric = find_metric(name)
                digits = metric.digits if metric is not None else 0
                figures.append(mean_and_spread(values, digits) if values else "")
            cells.append([*labels, *figures])
        lines += ["", protocol, *table_lines(cells, "<<<<")]
    return lines


def main(options: Unprefixed[RelativePoseOptions]) -> None:
    """Measure relative poses that are estimated from matches."""
    run, _ = run_pair_benchmark(options, PROTOCOLS, progress=True, plan=options.plan)
    seeds = options.chosen_seeds()
    note = f"means over {len(seeds)} seeds ± their standard deviation" if len(seeds) > 1 else ""
    conclude(run, options.output_dir, [*_tables(run.rows), *filter(None, [note])])


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.relative_pose")
