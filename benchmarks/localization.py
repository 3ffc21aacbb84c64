"""Recalls of visual localization over features (Sattler et al. 2018; Taira et al. 2018).

``python -m benchmarks.localization --dataset DIR --feature NAME [NAME …]`` runs
:mod:`pipelines.localize` with each feature and the same options, and records the recalls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks.choices import (
    DEFAULT,
    FAILURES,
    FileOptions,
    SeedOptions,
    deviation,
    in_turn,
    problem_of,
    start_methods,
)
from benchmarks.console import NOTHING, conclude, table_lines
from benchmarks.measured_method import MeasuredMethod, find_method, recorded_matcher
from benchmarks.record import Picture, Problem, Row, Run, benchmark_folder, write_run
from benchmarks.scene_names import DEMO_WORLDS, metrics_by_part
from benchmarks.settings import recorded_settings
from featplug.base import choose_device
from featplug.cli.command_line import Unprefixed, leave_config, run_command
from pipelines.datasets.demo import DEMO
from pipelines.datasets.pipeline_names import find_options
from pipelines.datasets.protocol import LocalizeOptions, QueryOptions
from pipelines.localize import PICTURE, localize
from pipelines.run_options import values_of


@dataclass(frozen=True)
class LocalizationBenchmark(QueryOptions, SeedOptions, FileOptions):
    """Queries to localize, the same for all methods."""

    benchmark: ClassVar[str] = "localization"

    dataset: Path
    """Folder of Aachen Day-Night, InLoc or another data set of pipelines/datasets, or of a set in
    its layout; `demo` renders one."""
    pipeline: str = "aachen"
    """Name of the data set whose layout the folder has, such as aachen or inloc."""
    protocol: Literal["sfm", "local-features"] = "sfm"
    """Protocol of Aachen; see python -m pipelines.aachen --help."""
    num_loc: int | None = None
    """Number of database images that each query is matched with; by default the pipeline's own."""

    def options(self, method: MeasuredMethod, seed: int) -> LocalizeOptions:
        """Return the pipeline's options for one method.

        Raises:
            ValueError: no such pipeline exists, or it has no such protocol.
        """
        kind: Any = find_options(self.pipeline)
        if "dataset" not in {entry.name for entry in fields(kind)}:
            raise ValueError(f"--pipeline {self.pipeline} is no data set; choose another.")
        given: dict[str, Any] = {} if self.num_loc is None else {"num_loc": self.num_loc}
        if self.protocol != "sfm":
            if "protocol" not in {entry.name for entry in fields(kind)}:
                raise ValueError(f"--protocol {self.protocol} needs --pipeline aachen.")
            given["protocol"] = self.protocol
        return kind(
            dataset=self.dataset,
            extraction=self.extraction(method),
            matches=method.matches,
            seed=seed,
            outputs=self.output_dir / method.word,
            **(values_of(QueryOptions, self) | {"matcher": method.pipeline_matcher}),
            **given,
        )

    @property
    def protocol_name(self) -> str:
        """Name of the protocol, as in a row."""
        return self.pipeline if self.protocol == "sfm" else f"{self.pipeline}-{self.protocol}"

    def deviation(self, method: MeasuredMethod) -> str | None:
        """Return which options deviate from the protocol."""
        # Published numbers of the other protocols state their own num_loc.
        num_loc = self.num_loc if self.protocol == "local-features" else None
        return deviation(
            max_keypoints=(self.max_keypoints, "the feature's own"),
            matcher=(method.other_matcher, "the feature's own"),
            pairs=(self.pairs, "the pipeline's own"),
            num_loc=(num_loc, "the pipeline's own"),
        )

    @property
    def dataset_name(self) -> str:
        """Name of the data set, as in a row."""
        name = self.dataset.resolve().name
        return DEMO_WORLDS.get(self.pipeline, name) if self.dataset == DEMO else name


def measure(benchmark: LocalizationBenchmark, progress: bool = False) -> Run:
    """Localize the queries with each method; one that fails becomes a problem.

    The record in the output folder is written after each model. A method's folder has a picture
    and a model of the last seed. Stages that reuse features and matches have no times.

    Raises:
        FileNotFoundError: the data set does not exist.
        ValueError: it is damaged, or the request itself does not fit.
    """
    methods, run = start_methods(benchmark, benchmark.matcher)
    choose_device(benchmark.device)
    seeds = benchmark.chosen_seeds()
    some = benchmark.options(methods[0] if methods else find_method(DEFAULT), seeds[0])
    some.open(progress)  # finds or renders the data before any feature's time is measured
    run.options["num_loc"] = some.num_retrieved
    with benchmark_folder(benchmark.output_dir, run) as folder:
        leave_config(benchmark, folder)
        for method in in_turn(methods, benchmark.output_dir):
            for seed in seeds:
                try:
                    method.check_number(benchmark.max_keypoints)
                    results = localize(benchmark.options(method, seed), progress)
                except FAILURES as error:
                    problems = [problem_of(method.name, error)]
                else:
                    data = results["data"]
                    known = {"path": data["dataset"], "fingerprint": data["fingerprint"]}
                    run.data.setdefault(benchmark.dataset_name, known)
                    run.rows += rows(benchmark, method, seed, results)
                    problems = [
                        Problem(f"{method.name}: {n}", why) for n, why in data["skipped"].items()
                    ]
                run.problems = list(dict.fromkeys(run.problems + problems))
                write_run(folder, run)
        write_run(folder, run)
    return run


def rows(
    benchmark: LocalizationBenchmark, method: MeasuredMethod, seed: int, results: Mapping[str, Any]
) -> list[Row]:
    """Return a row ``all`` with the stages and picture, and one for each condition of queries."""
    parts = metrics_by_part(results["metrics"], results["data"].get("conditions", []))
    num_skipped = len(results["data"]["skipped"])
    left_out = f"{num_skipped} images were left out" if num_skipped else None
    common: dict[str, Any] = {
        "feature": method.name,
        "dataset": benchmark.dataset_name,
        "protocol": benchmark.protocol_name,
        "seed": seed,
        "matcher": recorded_matcher(results),
        "settings": recorded_settings(results),
        "weights": results["weights"],
        "methods": results.get("methods", []),
        "not_comparable": "; ".join(filter(None, (left_out, benchmark.deviation(method)))) or None,
    }
    reused = results["reused"]
    stages = {name: s for name, s in results["stages"].items() if not reused.get(name)}
    is_last = seed == benchmark.chosen_seeds()[-1]  # whose picture and model the folder has
    folder = benchmark.output_dir / method.word
    pictures = []
    if is_last and (folder / PICTURE).exists():
        pictures.append(Picture(f"{method.word}/{PICTURE}", f"{method.name}: cameras and matches"))
    has_model = is_last and (folder / "sfm" / "model").exists()
    whole = Row(
        **common,
        part="all",
        metrics=parts.pop("all"),
        stages=stages,
        pictures=pictures,
        model=f"{method.word}/sfm/model" if has_model else None,
    )
    return [whole, *(Row(**common, part=part, metrics=metrics) for part, metrics in parts.items())]


def table(rows: Sequence[Row]) -> list[str]:
    """Return recalls and medians as lines of text, a line for each method, seed and condition."""
    measured = [row for row in rows if "localized_queries" in row.metrics]
    names = dict.fromkeys(name for row in measured for name in row.metrics)
    recalls = [name for name in names if name.startswith("recall_")]
    heads = [name.removeprefix("recall_").replace("_", ", ") for name in recalls]
    cells = [["feature", "queries", "seed", "localized", *heads, "median", "matcher"]]
    for row in sorted(measured, key=lambda row: row.part):
        values = {name: entry["value"] for name, entry in row.metrics.items()}
        median = NOTHING
        if "median_position_error" in values:
            position, rotation = values["median_position_error"], values["median_rotation_error"]
            median = f"{position:.3f} m, {rotation:.2f}°"
        localized = f"{values['localized_queries']} of {values['queries']}"
        shown = [f"{values[name]:.1f} %" if name in values else NOTHING for name in recalls]
        labels = [row.feature, row.part, str(row.seed), localized]
        cells.append([*labels, *shown, median, row.matcher or NOTHING])
    return table_lines(cells, "<<")


def main(options: Unprefixed[LocalizationBenchmark]) -> None:
    """Measure the recalls of visual localization with several methods."""
    run = measure(options, progress=True)
    conclude(run, options.output_dir, table(run.rows))


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.localization")
