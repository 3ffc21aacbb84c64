"""Seconds and peak memory of features, next to their peers.

``python -m benchmarks.speed --images DIR --feature NAME [NAME …]`` runs each measurement in a
process of its own, ours and the peers' in turn, so that their ratios hold on a noisy machine.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.choices import FAILURES, problem_of, start_run
from benchmarks.console import NOTHING, conclude, short_number, table_lines
from benchmarks.measured_method import find_method
from benchmarks.record import Curve, Row, Run, benchmark_folder, write_run
from benchmarks.scene_names import scene_folder
from benchmarks.speed.cases import measurements
from benchmarks.speed.measure import CaseName, Sample, Setup, SpeedOptions, Step, measure
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
}
"""Metric to its head in the console's tables."""
_HEADLINE_SIZE = 1600
"""Image size of the single figures, to which most features resize by default."""


def measure_all(options: SpeedOptions) -> Run:
    """Measure all cases of all features; what fails becomes a problem of the run.

    Raises:
        ValueError: the request itself does not fit.
    """
    require_positive(repeats=options.repeats)
    choose_device(options.device)
    features, run = start_run(options, _known)
    dataset = scene_folder(options.images).name
    run.add_data(dataset, options.images, list_images(options.images))
    with benchmark_folder(options.output_dir, run) as folder:
        leave_config(options, folder)
        with tempfile.TemporaryDirectory() as work:
            for feature in features:
                setup = Setup(options, feature, Path(work))
                for case in options.cases:
                    samples = _samples(case, setup, run)
                    run.rows += case_rows(case, feature, dataset, samples)
                    write_run(folder, run)
    return run


def _known(name: str) -> str:
    """Return the name of a method, or raise an error if there is none."""
    return find_method(name).name


def _samples(case: CaseName, setup: Setup, run: Run) -> dict[str, list[Sample]]:
    """Measure a case, ours and the peers' in turn."""
    subject = f"{setup.feature}, {case}"
    samples: dict[str, list[Sample]] = {}
    try:
        peers = measurements(case, setup)
    except FAILURES as error:
        run.problems.append(problem_of(subject, error))
        return samples
    for _ in range(setup.options.repeats):
        for name, measurement in list(peers.items()):
            try:
                samples.setdefault(name, []).append(measure(measurement, setup))
            except ValueError as error:
                run.problems.append(problem_of(f"{subject}, {name}", error))
                del peers[name], samples[name]
    return samples


def case_rows(
    case: str, feature: str, dataset: str, samples: Mapping[str, Sequence[Sample]]
) -> list[Row]:
    """Return a row of medians for each peer, from its samples of all repeats."""
    rows: dict[str, Row] = {}
    for name, of_name in samples.items():
        steps = [_pooled(repeats) for repeats in zip(*(s.steps for s in of_name), strict=True)]
        label = of_name[0].x_label
        if label is None:
            totals = [sum(step.seconds[0] for step in sample.steps) for sample in of_name]
            headline = Step("all", totals, max(step.peak_memory_mib for step in steps))
        else:
            sizes = [float(step.name) for step in steps]
            limit = _HEADLINE_SIZE if case == "image-size" else max(sizes)
            headline = steps[max(i for i, size in enumerate(sizes) if i == 0 or size <= limit)]
        metrics = _metrics(headline) | of_name[-1].metrics
        if name != OURS and OURS in rows:
            ratio = metrics["seconds"]["value"] / rows[OURS].metrics["seconds"]["value"]
            metrics |= with_units({"times_our_seconds": ratio})
        rows[name] = Row(
            feature if name == OURS else f"{feature} ({name})",
            dataset,
            "speed",
            part=case,
            metrics=metrics,
            stages={} if label else {step.name: _stage(step) for step in steps},
            curves=_curves(steps, label) if label else {},
        )
    return list(rows.values())


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
        lines += ["", f"{case}: seconds in all, and by {axis}", *table_lines(cells)]
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
