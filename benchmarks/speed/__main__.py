"""Seconds and peak memory of methods, and their agreement on other devices and precisions.

``python -m benchmarks.speed --images DIR --feature NAME [NAME …]`` runs each measurement in a
process of its own, all methods and their peers in turn, so that their ratios hold on a noisy
machine.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.choices import FAILURES, problem_of, start_run
from benchmarks.console import NOTHING, conclude, short_number, table_lines
from benchmarks.measured_method import find_method
from benchmarks.record import Curve, Row, Run, benchmark_folder, write_run
from benchmarks.scene_names import scene_folder
from benchmarks.speed.cases import has_case, measurements
from benchmarks.speed.measure import (
    CaseName,
    Measurement,
    Sample,
    Setup,
    SpeedOptions,
    Step,
    measure,
)
from benchmarks.speed.method_parts import method_parts
from featplug.base import choose_device
from featplug.cli.command_line import Unprefixed, leave_config, run_command
from featplug.io.image_folder import list_images
from featplug.io.metric_table import with_units
from pipelines.run_options import require_positive

OURS = "featplug"
_HEADS = {
    "seconds": "seconds",
    "seconds_spread": "spread",
    "peak_memory_mib": "peak MiB",
    "times_our_seconds": "× ours",
    "keypoints_per_second": "keypoints/s",
    "matches_per_second": "matches/s",
    "same_keypoints": "same keypoints",
    "descriptor_difference": "descriptor difference",
    "same_matches": "same matches",
}
"""Metric to its head in the console's tables."""
_HEADLINE_SIZE = 1600
"""Image size of the single figures, to which most features resize by default."""


def measure_all(options: SpeedOptions) -> Run:
    """Measure all cases of all features; what fails becomes a problem of the run.

    Raises:
        ValueError: the request itself does not fit.
    """
    require_positive(repeats=options.repeats, max_seconds=options.max_seconds)
    devices = _devices(options)
    features, run = start_run(options, _known)
    dataset = scene_folder(options.images).name
    run.add_data(dataset, options.images, list_images(options.images))
    with benchmark_folder(options.output_dir, run) as folder:
        leave_config(options, folder)
        with tempfile.TemporaryDirectory() as work:
            every = [
                Setup(options, feature, Path(work), device, precision)
                for feature in features
                for device in devices
                for precision in options.precisions
            ]
            for case in options.cases:
                for setup, samples in _measured(case, every, run):
                    for row in case_rows(case, setup, dataset, samples):
                        is_ours = row.feature == setup.feature
                        run.rows.append(_with_method(row, setup) if is_ours else row)
                write_run(folder, run)
    return run


def _devices(options: SpeedOptions) -> list[str]:
    """Return the devices to measure: the requested one, or the CPU and the GPU if there is one."""
    best = str(choose_device(options.device))
    return [best] if options.device is not None else list(dict.fromkeys(["cpu", best]))


def _known(name: str) -> str:
    """Return the name of a method, or raise an error if there is none."""
    return find_method(name).name


@dataclass
class _Series:
    """Repeats of one measurement."""

    setup: Setup
    name: str
    """Name of the program that is measured."""
    measurement: Measurement
    samples: list[Sample] = field(default_factory=list)


def _measured(
    case: CaseName, every: Sequence[Setup], run: Run
) -> list[tuple[Setup, dict[str, list[Sample]]]]:
    """Measure a case: all methods, devices, precisions and peers in turn, as often as asked."""
    series = []
    for setup in every:
        try:
            peers = measurements(case, setup) if has_case(case, setup) else {}
        except FAILURES as error:
            problem = problem_of(f"{setup.feature}, {case}", error)
            run.problems += [] if problem in run.problems else [problem]
            continue
        series += [_Series(setup, name, measurement) for name, measurement in peers.items()]
    for _ in range(1 if case == "agreement" else every[0].options.repeats if every else 0):
        for one in list(series):
            try:
                one.samples.append(measure(one.measurement, one.setup))
            except ValueError as error:
                subject = f"{one.setup.feature}, {one.setup.part(case)}, {one.name}"
                run.problems.append(problem_of(subject, error))
                series.remove(one)
    return [
        (setup, {one.name: one.samples for one in series if one.setup is setup})
        for setup in every
        if any(one.setup is setup for one in series)
    ]


def _with_method(row: Row, setup: Setup) -> Row:
    """Return a row with the names, settings, weights and code of its method."""
    parts = method_parts(setup.options, setup.feature)
    return replace(
        row,
        matcher=parts.matcher,
        settings=parts.settings,
        weights=parts.weights,
        methods=parts.methods,
    )


def case_rows(
    case: str, setup: Setup, dataset: str, samples: Mapping[str, Sequence[Sample]]
) -> list[Row]:
    """Return a row of medians for each peer, from its samples of all repeats."""
    rows: dict[str, Row] = {}
    for name, of_name in samples.items():
        # A repeat may end at a smaller size than others, after a slow call.
        steps = [_pooled(repeats) for repeats in zip(*(s.steps for s in of_name), strict=False)]
        label = of_name[0].x_label
        headline = _headline(case, steps, of_name)
        metrics = ({} if headline is None else _metrics(headline)) | of_name[-1].metrics
        if name != OURS and OURS in rows and headline is not None:
            ratio = metrics["seconds"]["value"] / rows[OURS].metrics["seconds"]["value"]
            metrics |= with_units({"times_our_seconds": ratio})
        rows[name] = Row(
            setup.feature if name == OURS else f"{setup.feature} ({name})",
            dataset,
            "speed",
            part=setup.part(case),
            metrics=metrics,
            stages={} if label else {step.name: _stage(step) for step in steps},
            curves=_curves(steps, label) if label else {},
        )
    return list(rows.values())


def _headline(case: str, steps: Sequence[Step], samples: Sequence[Sample]) -> Step | None:
    """Return what the single figures are of: all stages, or one size; None without any step."""
    if not steps:
        return None
    if samples[0].x_label is None:
        totals = [sum(step.seconds[0] for step in sample.steps) for sample in samples]
        return Step("all", totals, max(step.peak_memory_mib for step in steps))
    sizes = [float(step.name) for step in steps]
    limit = _HEADLINE_SIZE if case == "image-size" else max(sizes)
    return steps[max(i for i, size in enumerate(sizes) if i == 0 or size <= limit)]


def _pooled(steps: Sequence[Step]) -> Step:
    """Join the repeats of one step."""
    seconds = [value for step in steps for value in step.seconds]
    peak = median(step.peak_memory_mib for step in steps)
    return Step(steps[0].name, seconds, peak, steps[0].counts)


def _stage(step: Step) -> dict[str, float]:
    return {"seconds": median(step.seconds), "peak_memory_mib": step.peak_memory_mib}


def _metrics(step: Step) -> dict[str, dict[str, Any]]:
    seconds = median(step.seconds)
    values = {"seconds": seconds}
    if len(step.seconds) > 1:
        quartiles = np.percentile(step.seconds, [75, 25])
        values["seconds_spread"] = float(np.subtract(*quartiles))
    values["peak_memory_mib"] = step.peak_memory_mib
    for name, count in step.counts.items():
        values |= {name: count, f"{name}_per_second": count / seconds}
    return with_units(values)


def _curves(steps: Sequence[Step], x_label: str) -> dict[str, Curve]:
    """Return how the figures grow with the size."""
    x = [float(step.name) for step in steps]
    all_metrics = [_metrics(step) for step in steps]
    return {
        name: Curve(
            x,
            [metrics[name]["value"] for metrics in all_metrics],
            x_label,
            f"{name.removesuffix('_mib').replace('_', ' ')} ({first['unit']})",
        )
        for name, first in all_metrics[0].items()
        if first["unit"] != name  # the sizes are the axis
    }


def tables(run: Run) -> list[str]:
    """Lay out a run for the console: seconds of each case, and of each stage or size."""
    lines: list[str] = []
    for case in dict.fromkeys(row.part for row in run.rows):
        rows = [row for row in run.rows if row.part == case]
        figures = [_figures(row) for row in rows]
        heads = list(dict.fromkeys([*_HEADS.values(), *(head for f in figures for head in f)]))
        cells = [["feature", *heads]]
        for row, of_row in zip(rows, figures, strict=True):
            shown = (short_number(of_row[h]) if h in of_row else NOTHING for h in heads)
            cells.append([row.feature, *shown])
        axis = next((curve.x_label for row in rows for curve in row.curves.values()), "stage")
        is_timed = any("seconds" in row.metrics for row in rows)
        title = f"{case}: seconds in all, and by {axis}" if is_timed else case
        lines += ["", title, *table_lines(cells)]
    return lines


def _figures(row: Row) -> dict[str, float]:
    figures = {h: row.metrics[name]["value"] for name, h in _HEADS.items() if name in row.metrics}
    figures |= {name: stage["seconds"] for name, stage in row.stages.items()}
    if "seconds" in row.curves:
        curve = row.curves["seconds"]
        figures |= {f"{x:g}": y for x, y in zip(curve.x, curve.y, strict=True)}
    return figures


def main(options: Unprefixed[SpeedOptions]) -> None:
    """Measure seconds and peak memory of features, next to hloc and the authors' code."""
    run = measure_all(options)
    conclude(run, options.output_dir, tables(run))


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.speed")
