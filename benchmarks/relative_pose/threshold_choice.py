"""Thresholds chosen for each method and estimator on a data set that is not reported on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measured_method import MeasuredMethod
from benchmarks.pairs.demo_sets import find_pairs
from benchmarks.pairs.pair_benchmark import PairBenchmark, PairOptions
from benchmarks.pairs.pair_set import PairSet
from benchmarks.record import Problem, Run
from benchmarks.relative_pose.pose_protocols import PROTOCOLS, PoseProtocol
from featplug.io.artifact import file_hash

GRID = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Thresholds that are tried, in pixels."""
METRIC = "pose_auc_10"
"""Metric that is the largest at the chosen threshold; of equal ones, the smallest threshold."""
_NUM_SEEDS = 2


def read_tuning_set(folder: Path, measured: PairSet, protocols: Sequence[PoseProtocol]) -> PairSet:
    """Read the data set that thresholds are chosen on, without what the protocols measure.

    It may be the folder that is measured where the protocols leave out scenes of it, as those of
    PhotoTourism leave out the scenes for validation.

    Args:
        folder: the data set.
        measured: the data set that is measured.
        protocols: rules of measuring.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: it has no pairs with known poses, or images of the measured data set.
    """
    layouts = {protocol.layout for protocol in PROTOCOLS.values()}
    tuning = find_pairs(folder, None, layouts).read()
    reserved = {name for p in protocols if p.left_out for name in set(p.left_out)}
    if reserved:  # of a data set with scenes to choose on, these only
        tuning = replace(tuning, pairs=[p for p in tuning.pairs if p.sequence in reserved])
    if tuning.folder.resolve() == measured.folder.resolve() and not reserved:
        raise ValueError(
            f"--tune {folder} is the data set that is measured; choose thresholds on another one."
        )
    if not tuning.pairs:
        raise ValueError(
            f"--tune {folder} has no pair to choose thresholds on, such as of the scenes "
            f"{', '.join(sorted(reserved))}; name another data set."
        )
    of_protocols = [pair for protocol in protocols for pair in protocol.pairs(measured)]
    names = dict.fromkeys(name for p in of_protocols for name in (p.name0, p.name1))
    hashes = {file_hash(measured.folder / name) for name in names}
    for name in tuning.names:
        if file_hash(tuning.folder / name) in hashes:
            raise ValueError(
                f"--tune {folder}: {name} is an image of {measured.folder}, which is measured; "
                "choose thresholds on other images."
            )
    return tuning


@dataclass(frozen=True)
class ThresholdChoice:
    """The choice of thresholds for the methods of a run."""

    tuning: PairSet
    options: PairOptions
    """Options of the run."""
    estimators: Sequence[str]
    seeds: Sequence[int]
    progress: bool = False

    def thresholds(self, method: MeasuredMethod, protocol: PoseProtocol, run: Run) -> list[float]:
        """Choose the threshold of each estimator, and add the choice to the record of the run.

        Features and matches are made as for the measured pairs, in the folder ``tuning`` of the
        run, in which everything is kept.

        Raises:
            ValueError: the method cannot be measured.
        """
        outputs = self.options.output_dir / "tuning"
        options = replace(self.options, outputs=outputs, pictures=False)
        rules = replace(protocol, left_out=(), num_pairs={})
        tried = [
            replace(made, name=f"{made.name}@{threshold:g}")
            for name in self.estimators
            for threshold in GRID
            for made in [rules.with_estimator(name, self.seeds[:_NUM_SEEDS], threshold)]
        ]
        benchmark = PairBenchmark(self.tuning, options, self.progress)
        scores: dict[str, dict[float, float]] = {name: {} for name in self.estimators}
        problems: list[Problem] = []
        for made, (rows, failed) in zip(tried, benchmark.measure(method, tried), strict=True):
            problems += failed
            values = [row.metrics[METRIC]["value"] for row in rows if row.part == "all"]
            if values:
                score = sum(values) / len(values)
                scores[made.estimator.name][made.estimator.threshold] = score
        chosen = []
        for name, of_threshold in scores.items():
            if not of_threshold:
                raise ValueError(
                    f"no threshold can be chosen on {self.tuning.folder}: {problems[0].reason}"
                )
            best = max(of_threshold, key=lambda t: (of_threshold[t], -t))
            key = f"{self.tuning.name}, thresholds"
            if key not in run.data:
                run.add_data(key, self.tuning.folder, self.tuning.names, chosen_thresholds=[])
            run.data[key]["chosen_thresholds"].append(
                {
                    "method": method.name,
                    "protocol": protocol.name,
                    "estimator": name,
                    "threshold": best,
                    METRIC: {f"{t:g}": score for t, score in of_threshold.items()},
                }
            )
            chosen.append(best)
        return chosen
