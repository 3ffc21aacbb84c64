"""Time and memory of the stages of runs, as stacked bars and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.report.charts import MAX_COLOURS
from benchmarks.report.labels import format_value
from benchmarks.report.result_tables import Line, Table


@dataclass(frozen=True)
class Segment:
    """A stage in a stacked bar; positions are per cent of the width."""

    stage: str
    colour: int
    start: float
    length: float
    text: str


@dataclass(frozen=True)
class Stack:
    """Stages of one series, on one part."""

    name: str
    segments: list[Segment]
    total: str


@dataclass(frozen=True)
class StageChart:
    """Seconds of the stages of each series, stacked, and the peak memory of each."""

    stages: list[str]
    seconds: list[Stack]
    memory: list[Stack]
    """Stacks of one segment each, the stage that needs most memory."""
    cells: dict[str, dict[str, str]]
    """Stack to stage to its seconds and memory as text."""


def stage_chart(table: Table) -> StageChart | None:
    """Draw mean time and memory of the stages over seeds; None where nothing was measured.

    The chart shows the part ``all`` where it has stages, else each part that has some.
    """
    measured = [line for line in table.lines if any(row.stages for _, row in line.rows)]
    lines = [line for line in measured if line.part == "all"] or measured
    if not lines:
        return None
    parts = {line.part for line in lines}
    names = [line.series if len(parts) == 1 else f"{line.series}, {line.part}" for line in lines]
    stages = list(dict.fromkeys(s for line in lines for _, row in line.rows for s in row.stages))
    colours = {stage: number % MAX_COLOURS for number, stage in enumerate(stages)}
    seconds = dict(zip(names, (_means(line, "seconds") for line in lines), strict=True))
    memory = dict(zip(names, (_means(line, "peak_memory_mib") for line in lines), strict=True))
    longest = max(sum(found.values()) for found in seconds.values()) or 1.0
    largest = max((value for found in memory.values() for value in found.values()), default=1.0)
    return StageChart(
        stages,
        [_time_stack(name, seconds[name], longest, colours) for name in names],
        [_memory_stack(name, memory[name], largest, colours) for name in names if memory[name]],
        {
            name: {
                stage: _stage_cell(value, memory[name].get(stage))
                for stage, value in seconds[name].items()
            }
            for name in names
        },
    )


def _time_stack(
    name: str, seconds: Mapping[str, float], longest: float, colours: Mapping[str, int]
) -> Stack:
    ends = 100 * np.cumsum([0.0, *seconds.values()]) / longest
    segments = [
        Segment(
            stage,
            colours[stage],
            round(float(start), 2),
            round(float(end - start), 2),
            f"{stage}: {_duration(seconds[stage])}",
        )
        for stage, start, end in zip(seconds, ends[:-1], ends[1:], strict=True)
    ]
    return Stack(name, segments, _duration(sum(seconds.values())))


def _memory_stack(
    name: str, memory: Mapping[str, float], largest: float, colours: Mapping[str, int]
) -> Stack:
    most = max(memory, key=lambda stage: memory[stage])
    total = f"{format_value(memory[most], 0)} MiB"
    length = round(100 * memory[most] / largest, 2)
    return Stack(name, [Segment(most, colours[most], 0.0, length, f"{most}: {total}")], total)


def _stage_cell(seconds: float, memory: float | None) -> str:
    text = f"{format_value(seconds, 1)} s"
    return text if memory is None else f"{text}, {format_value(memory, 0)} MiB"


def _means(line: Line, what: str) -> Mapping[str, float]:
    found: dict[str, list[float]] = {}
    for _, row in line.rows:
        for stage, measured in row.stages.items():
            if what in measured:
                found.setdefault(stage, []).append(float(measured[what]))
    return {stage: float(np.mean(values)) for stage, values in found.items()}


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
