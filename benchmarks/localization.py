"""Recalls of visual localization over features (Sattler et al. 2018; Taira et al. 2018).

``python -m benchmarks.localization --dataset DIR --feature NAME [NAME …]``: ``pipelines.aachen`` or
``pipelines.inloc`` for each feature, all else equal, and one record of what came out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from benchmarks.record import Picture, Problem, Row, Run, write_run
from featplug.cli import run_command
from pipelines import aachen, aachen_task, inloc, inloc_task
from pipelines.aachen_task import AachenOptions
from pipelines.datasets.demo import DEMO
from pipelines.inloc_task import InLocOptions
from pipelines.localization import PICTURE
from pipelines.stages import FeatureOptions

_DEMO_NAMES = {"aachen": "demo-town", "inloc": "demo-room"}


@dataclass(frozen=True)
class LocalizationBenchmark:
    """What is localized, the same for all features."""

    dataset: Path
    """Folder of Aachen Day-Night or InLoc, or of a set in their layouts; `demo` renders one."""
    pipeline: Literal["aachen", "inloc"] = "aachen"
    """Whose layout the dataset has."""
    protocol: Literal["sfm", "local-features"] = "sfm"
    """Of Aachen; see python -m pipelines.aachen --help."""
    feature: tuple[str, ...] = ("sift",)
    """Names of features."""
    max_keypoints: int | None = None
    """Of each image, the strongest by score."""
    num_loc: int | None = None
    """Database images that each query is matched with; by default the pipeline's own number."""
    pairs: Path | None = None
    """Pair list of the queries, in place of retrieval, which depends on the features."""
    retrieval: str = "vlad"
    """Name of the global descriptor: vlad or netvlad."""
    ground_truth: Path | None = None
    """True poses of the queries; by default the dataset's ground_truth.txt, where it has one."""
    seed: int = 0
    """Of everything random."""
    outputs: Path = Path("outputs/benchmarks/localization")
    """Gets results.json, for benchmarks.report, and a folder for each feature. Features and matches
    that are there already are used again; their stages then have no times."""

    def options(self, feature: str) -> AachenOptions | InLocOptions:
        """Give the pipeline's options for one feature."""
        common: dict[str, Any] = {
            "dataset": self.dataset,
            "extraction": FeatureOptions(feature, max_keypoints=self.max_keypoints),
            "pairs": self.pairs,
            "retrieval": self.retrieval,
            "ground_truth": self.ground_truth,
            "seed": self.seed,
            "outputs": self.outputs / feature,
        }
        if self.num_loc is not None:
            common["num_loc"] = self.num_loc
        if self.pipeline == "inloc":
            return InLocOptions(**common)
        return AachenOptions(**common, protocol=self.protocol)

    @property
    def protocol_name(self) -> str:
        """Name of the rules, as in a row."""
        is_sfm = self.pipeline == "inloc" or self.protocol == "sfm"
        return self.pipeline if is_sfm else f"{self.pipeline}-{self.protocol}"

    @property
    def dataset_name(self) -> str:
        """Name of the data set, as in a row."""
        is_demo = self.dataset == DEMO
        return _DEMO_NAMES[self.pipeline] if is_demo else self.dataset.resolve().name


def measure(benchmark: LocalizationBenchmark, progress: bool = False) -> Run:
    """Localize the queries with each feature; one that fails becomes a problem.

    The record in the output folder is written anew after each feature.

    Raises:
        FileNotFoundError: the dataset is not there.
        ValueError: it is damaged, or a feature is named twice.
    """
    if len(set(benchmark.feature)) < len(benchmark.feature):
        raise ValueError("A feature is named twice; name each once.")
    if benchmark.pipeline == "inloc" and benchmark.protocol != "sfm":
        raise ValueError("--protocol local-features is of --pipeline aachen only.")
    asked = {
        "pipeline": benchmark.pipeline,
        "protocol": benchmark.protocol,
        "feature": list(benchmark.feature),
        "max_keypoints": benchmark.max_keypoints,
        "num_loc": benchmark.num_loc,
        "pairs": None if benchmark.pairs is None else str(benchmark.pairs),
        "retrieval": benchmark.retrieval,
        "seed": benchmark.seed,
    }
    run = Run("localization", asked, {})
    for feature in benchmark.feature:
        options = benchmark.options(feature)
        if feature == benchmark.feature[0]:
            _require_dataset(options, progress)
        try:
            results = _localize(options, progress)
        except (FileNotFoundError, ValueError) as error:
            run.problems.append(Problem(feature, str(error)))
        else:
            data = results["data"]
            known = {"path": data["dataset"], "fingerprint": data["fingerprint"]}
            run.data.setdefault(benchmark.dataset_name, known)
            run.rows += rows(benchmark, feature, results)
            run.problems += [
                Problem(f"{feature}: {name}", why) for name, why in data["skipped"].items()
            ]
        write_run(benchmark.outputs, run)
    return run


def _require_dataset(options: AachenOptions | InLocOptions, progress: bool) -> None:
    """Look once for what every feature needs, or render it, which is no feature's time."""
    if isinstance(options, InLocOptions):
        inloc_task.open_dataset(options, progress)
    else:
        aachen_task.open_dataset(options, progress)


def _localize(options: AachenOptions | InLocOptions, progress: bool) -> dict[str, Any]:
    if isinstance(options, InLocOptions):
        return inloc.localize(options, progress)
    return aachen.localize(options, progress)


def rows(benchmark: LocalizationBenchmark, feature: str, results: Mapping[str, Any]) -> list[Row]:
    """Give the rows of one pipeline's results.

    Returns:
        A row ``all`` with what is of the run as a whole, such as stages and picture, and one for
        each condition of the queries, where there are some.
    """
    conditions = results["data"].get("conditions", [])
    parts: dict[str, dict[str, Any]] = {part: {} for part in ("all", *conditions)}
    for name, entry in results["metrics"].items():
        condition = next((c for c in conditions if name.startswith(f"{c}_")), None)
        if condition is None:
            parts["all"][name] = entry
        else:
            parts[condition][name.removeprefix(f"{condition}_")] = entry
    common: dict[str, Any] = {
        "feature": feature,
        "dataset": benchmark.dataset_name,
        "protocol": benchmark.protocol_name,
        "seed": benchmark.seed,
        "matcher": results["matcher"],
        "weights": results["weights"],
    }
    reused = results["reused"]
    stages = {name: s for name, s in results["stages"].items() if not reused.get(name)}
    folder = benchmark.outputs / feature
    pictures = []
    if (folder / PICTURE).exists():
        pictures.append(Picture(f"{feature}/{PICTURE}", f"{feature}: cameras and matches"))
    whole = Row(
        **common,
        part="all",
        metrics=parts.pop("all"),
        stages=stages,
        pictures=pictures,
        model=f"{feature}/sfm/model" if (folder / "sfm" / "model").exists() else None,
    )
    return [whole, *(Row(**common, part=part, metrics=metrics) for part, metrics in parts.items())]


def table(rows: Sequence[Row]) -> list[str]:
    """Give recalls and medians as lines of text, a line for each feature and condition."""
    measured = [row for row in rows if "localized_queries" in row.metrics]
    heads = [
        name
        for name in dict.fromkeys(name for row in measured for name in row.metrics)
        if name.startswith("recall_")
    ]
    labels = "".join(f"{head.removeprefix('recall_').replace('_', ', '):>14}" for head in heads)
    lines = [f"{'feature':<16}{'queries':<10}{'localized':>12}{labels}{'median':>20}"]
    for row in sorted(measured, key=lambda row: row.part):
        found, total = (row.metrics[n]["value"] for n in ("localized_queries", "queries"))
        line = f"{row.feature:<16}{row.part:<10}{f'{found} of {total}':>12}"
        for head in heads:
            value = f"{row.metrics[head]['value']:.1f} %" if head in row.metrics else ""
            line += f"{value:>14}"
        if "median_position_error" in row.metrics:
            position, rotation = (
                row.metrics[f"median_{what}_error"]["value"] for what in ("position", "rotation")
            )
            line += f"{f'{position:.3f} m, {rotation:.2f}°':>20}"
        lines.append(line.rstrip())
    return lines


def main(options: Annotated[LocalizationBenchmark, tyro.conf.arg(name="")]) -> None:
    """Measure the recalls of visual localization with several features."""
    run = measure(options, progress=True)
    if run.rows:
        print("\n".join(table(run.rows)))
    for problem in run.problems:
        print(f"not measured: {problem.subject}: {problem.reason}")
    if not run.rows:
        sys.exit(2)
    print(f"all figures are in {options.outputs / 'results.json'}")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.localization")
